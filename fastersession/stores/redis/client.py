"""From a URL to a client of redis-py.

Rules of residence: what a URL means, and what is wrong with it. Nothing is connected here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import RedisError

from ...errors import ConfigError
from ..words import ENCODED, UNREADABLE, shown
from .link import SECONDS

Client = Redis | RedisCluster
SCHEMES = re.compile(r"(?is)(rediss?|unix|(rediss?)\+cluster)(://.+)")
DATABASE = re.compile(r"(?is)rediss?://[^/?#]*/+([^/?#]*[^/?#0-9][^/?#]*)")  # what redis-py takes for 0

REMEDIES = {
    "already authenticated|NOAUTH|Authentication required": "it wants a password: redis://:PASSWORD@host, or "
    "redis://USER:PASSWORD@host",
    "WRONGPASS|username-password|invalid password|without any password": f"check user and password; {ENCODED}",
    "NOPERM|no permissions": "give its account the right to that (ACL SETUSER)",
    "DB index": "the number behind the last / must be below the server's setting databases (16 if not set)",
    "CERTIFICATE_VERIFY_FAILED": "name the certificate's authority with ?ssl_ca_certs=FILE",
    "SSL|TLS": "does it speak TLS on this port? redis:// is for a port without",
    "reset by peer|Connection closed|Protocol Error": "does it speak TLS on this port, which is rediss://, or is it no "
    "Redis?",
    "Cluster mode is not enabled|cluster support disabled": "redis:// is for a server that is no cluster",
    "(?i)refused|Connect call failed|No such file": "is a server running there?",
    "(?i)not known|resolution|resolve|No address": "check the name of the host",
}


def client_of(url: str) -> Client:
    """Make a client of a URL. Nothing is connected yet.

    :raises ConfigError: the scheme is unknown, or the URL makes no sense to redis-py.
    """
    match = SCHEMES.fullmatch(url)
    if match is None:
        raise ConfigError("store: the URL must start with redis://, rediss://, unix:// or redis+cluster://")
    wrong = DATABASE.match(url)
    if wrong is not None:
        raise ConfigError(f"store: the database in {shown(url)}, behind the last /, must be a number; {ENCODED}")
    try:
        if match[2]:
            return RedisCluster.from_url(match[2].lower() + match[3], socket_connect_timeout=SECONDS)
        client = Redis.from_url(match[1].lower() + match[3], socket_connect_timeout=SECONDS)
        make = cast(Callable[[], object], client.connection_pool.make_connection)
        make()  # for an unknown option is told here only
        return client
    except (ValueError, TypeError, RedisError) as error:
        place, option = shown(url), re.search(r"unexpected keyword argument ('\w+')", str(error))
        if option is None or place.endswith("..."):
            raise ConfigError(f"store: {place}: redis-py cannot read it; {UNREADABLE}") from None
        raise ConfigError(f"store: {place}: redis-py knows no option {option[1]}") from None
