"""What is asked of a server before the first login: whether it lets us do it, and whether it keeps an index.

Rules of residence: once per connection to a server, before anything of a user is written.
"""

from __future__ import annotations

import logging

from redis.exceptions import ResponseError

from ...errors import StoreError
from ..words import told
from .link import pack
from .route import FAILED, SURE, Route
from .scripts import evaluation
from .users_scripts import PROBE

NEEDED = (
    "its account needs the right to ZADD, ZCARD, ZRANGE, ZRANGEBYSCORE, ZREM, ZREMRANGEBYSCORE, ZSCORE, HGET, HKEYS "
    "and HSETNX (ACL SETUSER)"
)
logger = logging.getLogger("fastersession")
EVICTS_TEXT = (
    "the maxmemory-policy of Redis is %s: when it is full, it may remove the list of a user's sessions, and whoever "
    "revokes them misses those; set it to noeviction"
)


async def check(route: Route, key: bytes) -> None:
    """Have every command called that logins need beyond those of the opening. Warn if the server may evict an index.

    :raises StoreError: the server refuses a command.
    :raises RedisError: it does not answer (or ``OSError``).
    """
    try:
        await route.ask(key, lambda _, known: evaluation(PROBE, (key,), known=known), kind=SURE)
    except ResponseError as error:
        raise StoreError(f"Redis: no login can be made: {told(error, ())}; {NEEDED}") from error
    policy = await _policy(route, key)
    if policy not in ("noeviction", ""):
        logger.warning(EVICTS_TEXT, policy, extra={"event": "redis.evicts", "session_id": None})


async def _policy(route: Route, key: bytes) -> str:
    try:
        said = await route.ask(key, lambda *_: pack((b"INFO", b"memory")), kind=SURE)
    except FAILED:  # an account that may not ask
        return ""
    lines = said.decode("ascii", "replace").splitlines() if isinstance(said, bytes) else ()
    return next((line.partition(":")[2] for line in lines if line.startswith("maxmemory_policy:")), "")
