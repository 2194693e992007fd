"""From a key to the server that has it, and what to do when it is not there.

Rules of residence: clients, links, retries, redirections, the check of the server. No verb and no field of a record.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, cast

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    MasterDownError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
    SlotNotCoveredError,
)
from redis.exceptions import ConnectionError as RedisConnectionError

from ...errors import ConfigError, StoreError
from ..words import remedy, told
from .client import REMEDIES, Client
from .link import SECONDS, Link, pack
from .scripts import PROBE, evaluation

# Packs what to send, given b"" at first and b"1" at a retry, and whether the server should know the scripts.
Build = Callable[[bytes, bool], bytes]

FAST, BULK, SURE = "fast", "bulk", "sure"
PAUSES = (0.01, 0.1)  # before the retries after a lost connection: two fit into the 2 s that a store call may take
OPEN_SECONDS = 1.8  # below the 2 s that the first request waits for the opening, so that it is told why
REDIRECTIONS = 6  # a slot moves once per resharding: more than a few in a row is a cluster that is being rebuilt
TOO_OLD = "the server must be Redis 7.0 or newer"
OLDEST = (7, 0)  # PEXPIRE and EVAL as they are used here, and what is still maintained
ASKING, PING = pack((b"ASKING",)), pack((b"PING",))
FAILED = (RedisError, RedisClusterException, OSError)
LOST = (RedisConnectionError, OSError, ReadOnlyError, MasterDownError)  # after each of these, the next server may do
DENIED = (AuthenticationError, AuthorizationError)


class Node:
    """One server: a link for all that is small and quick, one for large values, one for what waits for a replica."""

    def __init__(self, make: Callable[[], AbstractConnection]) -> None:
        self.links = {FAST: Link(make), BULK: Link(make), SURE: Link(make)}


class Route:
    """Sends to the server that has the key. For one event loop.

    :param place: what to call the server in errors.
    :ivar is_cluster: whether keys of two slots must not be in one command.
    """

    def __init__(self, client: Client, place: str) -> None:
        self._place = place
        self.loop = asyncio.get_running_loop()
        self._client = client
        self._cluster = client if isinstance(client, RedisCluster) else None
        self.is_cluster = self._cluster is not None
        self._nodes: dict[str, Node] = {}
        self._refreshing: asyncio.Task[None] | None = None
        self._digests = False

    async def open(self, key: bytes) -> None:
        """Connect to the server of ``key`` and check that it will do, by writing ``key`` and removing it.

        :raises StoreError: it cannot be reached, or refuses the password or a command.
        :raises ConfigError: it is too old, or a cluster's and the client is not.
        """
        try:
            if self._cluster is not None:
                async with asyncio.timeout(SECONDS * 2):
                    await self._cluster.initialize()
            async with asyncio.timeout(None if self._cluster else OPEN_SECONDS):
                _check(await self.ask(key, lambda *_: pack((b"HELLO",))), self._cluster is not None)
                await self._probe(key, key + b":hold")
        except FAILED as error:
            said = str(error) or type(error).__name__
            doubtful = self._place.endswith("...")  # then redis-py may take a part of the password for the place
            secrets = [said if doubtful else self._client.get_connection_kwargs().get("password")]
            text = told(error, secrets)
            if "unknown command" in text:
                raise ConfigError(f"store: {TOO_OLD}: {text}") from error
            if said.endswith("TimeoutError"):
                text, said = "it does not answer", "TLS" if self._place.startswith("rediss") else ""
            raise StoreError(
                f"Redis cannot be used: {self._place}: {text.removesuffix('.')}{remedy(said, REMEDIES)}"
            ) from error

    async def close(self) -> None:
        """Close every connection of this route. The client stays open."""
        links = [link for node in self._nodes.values() for link in node.links.values()]
        await asyncio.gather(*(link.close() for link in links))
        self._nodes.clear()

    async def ask(self, key: bytes, build: Build, replies: int = 1, kind: str = FAST) -> Any:
        """Send to the server that has the key. Try again what a lost connection or a moved slot has stopped.

        :return: the reply; of several, those of ``EXEC``, which come last.
        :raises RedisError: what the server said, or that it does not answer (``OSError`` from below it).
        """
        link, asking, again = None, False, b""
        for attempt in range(REDIRECTIONS):
            try:
                if link is None:
                    link = self._node(key).links[kind]
                try:
                    return await _exchange(link, build(again, self._digests), replies, asking)
                except ResponseError as error:
                    if not _unheard(error):
                        raise
                    self._digests &= isinstance(error, NoScriptError)
                return await _exchange(link, build(again, False), replies, asking)
            except FAILED as error:
                _give_up(error, attempt)
                link, asking = await self._turn(error, link, kind, attempt)
                again = b"1"
        raise RedisConnectionError("the cluster sends every request somewhere else")

    async def _probe(self, *keys: bytes) -> None:
        """Have every command called that scripts call, and learn whether a script may be called by its digest."""

        def probe(_: bytes, known: bool) -> bytes:
            return evaluation(PROBE, keys, known=known)

        await self.ask(keys[0], probe)
        self._digests = True
        try:
            await self.ask(keys[0], probe)
        except ResponseError:  # in whatever words: it has just been carried out as text
            self._digests = False

    async def ask_all(
        self, asks: Sequence[tuple[bytes, Build]], kind: str = SURE, refusal: str | None = None
    ) -> list[Any]:
        """Send for many keys, in one piece per server. One reply each.

        What did not work is tried again on its own, as by ``ask``; it may have been done.

        :param refusal: what is in an error of the server's that is a reply like any other.

        :raises RedisError: of the first that failed for good, when all have been tried (or ``OSError``).
        """
        replies: list[Any] = [None] * len(asks)
        lots: dict[Link, list[int]] = {}
        for at, (key, _) in enumerate(asks):
            try:
                lots.setdefault(self._node(key).links[kind], []).append(at)
            except FAILED as error:
                replies[at] = error
        await asyncio.gather(*(self._ask_lot(link, asks, lot, replies) for link, lot in lots.items()))
        failed = [at for at, reply in enumerate(replies) if _has_failed(reply, refusal)]
        again = [self.ask(*asks[at], kind=kind) for at in failed]
        for at, reply in zip(failed, await asyncio.gather(*again, return_exceptions=True), strict=True):
            replies[at] = reply
        for reply in replies:
            if _has_failed(reply, refusal):
                raise reply
        return replies

    async def _ask_lot(
        self, link: Link, asks: Sequence[tuple[bytes, Build]], lot: list[int], replies: list[Any]
    ) -> None:
        packed = b"".join([asks[at][1](b"", self._digests) for at in lot])
        try:
            answers = await link.send(packed + PING, len(lot) + 1)
        except FAILED as error:
            answers = [error] * len(lot)
        for at, answer in zip(lot, answers, strict=False):
            replies[at] = answer

    def send(self, key: bytes, packed: bytes) -> asyncio.Future[Any]:
        """Send to the server that has the key at once, behind what is ``SURE``, and try nothing again."""
        return self._node(key).links[SURE].send(packed)

    async def settle(self, keys: Iterable[bytes]) -> None:
        """Wait a little until a replica of each server has what was written last under the keys."""
        links = {self._node(key).links[SURE] for key in keys}
        await asyncio.gather(*(link.settle() for link in links))

    def drop(self, key: bytes) -> None:
        """Leave the connections to the server of the key: what waits for them is asked again on new ones."""
        for link in self._node(key).links.values():
            link.drop()

    def primaries(self) -> Iterable[Node]:
        """Return every server that has keys of its own."""
        if self._cluster is not None:
            return [self._node_of(node) for node in self._cluster.get_primaries()]
        return [self._node(b"")]

    def _node(self, key: bytes) -> Node:
        if self._cluster is not None:
            return self._node_of(self._cluster.get_node_from_key(cast(str, key)))
        node = self._nodes.get("")
        if node is None:
            node = self._nodes[""] = Node(cast(Redis, self._client).connection_pool.make_connection)
        return node

    def _node_of(self, server: Any) -> Node:
        node = self._nodes.get(server.name)
        if node is None:
            node = self._nodes[server.name] = Node(lambda: server.connection_class(**server.connection_kwargs))
        return node

    async def _turn(self, error: Exception, link: Link | None, kind: str, attempt: int) -> tuple[Link | None, bool]:
        """Return where to try next (``None``: look the key up again), and whether to say ASKING there."""
        if isinstance(error, AskError):
            moved = isinstance(error, MovedError)  # for good; else this key only, until the slot is there
            if moved:
                await self._refresh()
            server = cast(RedisCluster, self._client).get_node(host=error.host, port=error.port)
            return (None, False) if server is None else (self._node_of(server).links[kind], not moved)
        if link is not None and isinstance(error, ReadOnlyError | MasterDownError):
            link.drop()
        await asyncio.sleep(PAUSES[min(attempt, len(PAUSES) - 1)])
        await self._refresh()
        return None, False

    async def _refresh(self) -> None:
        """Ask the cluster again which server has which slot. Who asks meanwhile waits for the same answer."""
        if self._cluster is not None:
            if self._refreshing is None or self._refreshing.done():
                self._refreshing = self.loop.create_task(self._learn(self._cluster))
            await asyncio.shield(self._refreshing)

    @staticmethod
    async def _learn(cluster: RedisCluster) -> None:
        try:
            async with asyncio.timeout(SECONDS):
                await cluster.nodes_manager.initialize()
        except Exception:  # it is known to raise a bare AttributeError now and then
            return  # what was known before will do; if not, the next attempt says so


def _give_up(error: Exception, attempt: int) -> None:
    """Raise an error that another attempt cannot mend."""
    if isinstance(error, AskError | ClusterDownError | SlotNotCoveredError):
        return
    if isinstance(error.__cause__ or error, DENIED) or not isinstance(error, LOST) or attempt >= len(PAUSES):
        raise error


def _has_failed(reply: Any, refusal: str | None) -> bool:
    """Return whether a reply is an error, and not the one that is expected."""
    return isinstance(reply, BaseException) and (refusal is None or refusal not in str(reply))


def _unheard(error: ResponseError) -> bool:
    """Return whether the server refused to call a script by its digest, so that it has done nothing.

    It does not know the script, or the command: no right to it, no such command. A script has no such words.
    """
    return isinstance(error, NoScriptError) or "evalsha" in str(error).lower()


def _exchange(link: Link, packed: bytes, replies: int, asking: bool) -> Awaitable[Any]:
    """Return the one reply, or those of ``EXEC``. Raise the first error among them."""
    return _several(link, packed, replies, asking) if asking or replies > 1 else link.send(packed)


async def _several(link: Link, packed: bytes, replies: int, asking: bool) -> Any:
    answers = await link.send(ASKING + packed if asking else packed, replies + asking)
    for reply in (*answers, *(answers[-1] if replies > 1 and isinstance(answers[-1], list) else ())):
        if isinstance(reply, Exception):
            raise reply
    return answers[-1]


def _check(hello: Any, clustered: bool) -> None:
    fields = hello if isinstance(hello, dict) else dict(zip(hello[::2], hello[1::2], strict=True))
    version = fields[b"version"].decode()
    if tuple(map(int, version.split(".")[:2])) < OLDEST:
        raise ConfigError(f"store: {TOO_OLD}: it is {version}")
    if fields.get(b"mode") == b"cluster" and not clustered:
        raise ConfigError("store: the server is a node of a Redis Cluster: use redis+cluster:// or a RedisCluster")
