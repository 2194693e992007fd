"""Stores that tests put in the place of a MemoryStore: one that writes down, one that fails, one that is far.

Rules of residence: thin layers over MemoryStore, which keeps the contract; no test, no server.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from stores import LiveSpy

from fastersession import MemoryStore
from fastersession.stores.base import Change, Record


class RecordingStore(MemoryStore):
    """Appends one JSON line per save to a file: the record id and the attributes as they stand after it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.recording = path, _Recording(self._table, self.note)

    @property
    def live(self) -> Any:
        return self.recording

    async def create(self, record_id: bytes, record: Record) -> bool:
        created = await super().create(record_id, record)
        return created and self.note(record_id, record)

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        updated = await super().update(record_id, verifier, change)
        record = await self.load(record_id) if updated else None
        return record is not None and self.note(record_id, record)

    def note(self, record_id: bytes, record: Record) -> bool:
        with self.path.open("a") as lines:
            lines.write(
                json.dumps({"id": record_id.hex(), "attributes": dict(record.attributes)}, default=_text) + "\n"
            )
        return True


class _Recording(LiveSpy):
    """The live store of a RecordingStore."""

    def create(self, record_id: bytes, record: Any) -> bool:
        return self.inner.create(record_id, record) and self.note(record_id, record)

    def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        record = self.inner.load(record_id) if self.inner.update(record_id, verifier, change) else None
        return record is not None and self.note(record_id, record)

    def __getattr__(self, verb: str) -> Any:
        return getattr(self.inner, verb)


def _text(value: object) -> Any:
    """Show the bytes of a distant store: a format byte, the codec's name behind its length, and the data."""
    assert isinstance(value, bytes)
    return json.loads(value[2 + value[1] :])


def last_saves(path: Path) -> list[dict[str, Any]]:
    """Read the attributes of each record's last save from a RecordingStore's file."""
    lines = (json.loads(line) for line in path.read_text().splitlines())
    saves = {line["id"]: line["attributes"] for line in lines}
    return [{name.removeprefix("."): save[name] for name in save if name != "!"} for save in saves.values()]


class FailingStore(MemoryStore):
    """Makes sessions, and then takes no change of them, as a store that has just gone away."""

    def __init__(self, *, live: bool) -> None:
        super().__init__()
        self.failing = LiveSpy(self._table, self.note) if live else None

    @property
    def live(self) -> Any:
        return self.failing

    def note(self, verb: str, *_: Any) -> None:
        if verb == "update":
            raise ConnectionError("the store is away")

    async def update(self, record_id: bytes, verifier: bytes, change: Change) -> bool:
        raise ConnectionError("the store is away")


class DistantStore:
    """A store that suspends: every verb of the inner one comes `pause` seconds late, as over a network. On asyncio."""

    live = None

    def __init__(self, inner: MemoryStore, pause: float) -> None:
        self.inner, self.pause, self.clock = inner, pause, inner.clock

    def __getattr__(self, verb: str) -> Any:
        async def later(*args: Any, **kwargs: Any) -> Any:
            await asyncio.sleep(self.pause)
            return await getattr(self.inner, verb)(*args, **kwargs)

        return later
