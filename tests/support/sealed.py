"""Sessions in a store outside the process, and a hand in that store.

Rules of residence: what the tests of sealing share; no test.
"""

from __future__ import annotations

from typing import Any

from clocks import FakeClock
from driver import Browser
from routes import SECRET, Call, serve
from stores import SuspendingStore

from fastersession import JsonCodec
from fastersession.engine.packing import ABOUT
from fastersession.stores.base import Record


class Bomb:
    """A payload that runs code when it is unpickled."""

    fuse: list[str] = []  # noqa: RUF012 - shared on purpose

    def __reduce__(self) -> Any:
        return Bomb.fuse.append, ("boom",)


class SpyCodec(JsonCodec):
    """Counts what it is asked to decode."""

    decoded = 0

    def decode(self, attribute: str, data: bytes) -> Any:
        self.decoded += 1
        return super().decode(attribute, data)


class World:
    """One store with the sessions of two browsers, and a hand in the store."""

    def __init__(self, **options: Any) -> None:
        self.clock = FakeClock()
        self.store = SuspendingStore(clock=self.clock)
        self.codec = SpyCodec()
        self.options = {"codec": self.codec, "store": self.store, "secret_key": SECRET, **options}
        self.users: list[Any] = []
        self.ids: dict[str, bytes] = {}
        self.browsers: dict[str, Browser] = {}

    async def login(self, name: str) -> Browser:
        browser = self.browsers[name] = Browser(serve({"/who": self._who}, **self.options))
        await browser.get(f"/set?name={name}&role=user")
        self.ids[name] = next(call[1] for call in reversed(self.store.arguments) if call[0] == "create")
        return browser

    async def _who(self, call: Call) -> None:
        record = call.session._state.record  # there is no public way to a user yet
        self.users.append(None if record is None else record.extra.identity)
        await call.reply()

    async def record(self, name: str) -> Record:
        record = await self.store.inner.load(self.ids[name])
        assert record is not None
        return record

    async def alter(self, name: str, /, **values: Any) -> None:
        """Put values into a record; `None` removes one. `about` stands for the reserved value."""
        record = await self.record(name)
        named = {ABOUT if key == "about" else f".{key}": value for key, value in values.items()}
        record.attributes = {k: v for k, v in {**record.attributes, **named}.items() if v is not None}

    def reconfigured(self, name: str, **options: Any) -> Browser:
        """Return a browser with the same cookies, in front of an application with other options."""
        self.options.update(options)
        browser = Browser(serve(**self.options))
        browser.jar = self.browsers[name].jar.copy()
        return browser
