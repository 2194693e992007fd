"""How attributes go to a store and come back: as live objects, or packed into bytes.

Rules of residence: two classes with one interface, chosen once per middleware. Pure of I/O: what to send, what came.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ..session import Session
from ..stores.base import Record
from .packing import ABOUT, Packer
from .plan import diff, unchanged

__all__ = ["LiveValues", "PackedValues", "Values", "Work"]


NOTHING: Mapping[str, bytes] = {}


class Work(NamedTuple):
    """What a save point may store: the content, and how it differs from what the session's request has loaded."""

    content: Mapping[str, Any]
    sets: Mapping[str, Any] = {}
    deletes: tuple[str, ...] = ()
    faults: Mapping[str, str] = {}  # no exception: raised, it would hold the frames that hold this

    @property
    def dirty(self) -> bool:
        """Tell if there is anything to store."""
        return bool(self.sets or self.deletes)


class Values(Protocol):
    """The interface of both. ``source`` is a session or a snapshot, any dict."""

    def nothing(self, session: Session) -> Work:
        """Return the work of a save point that may store nothing."""

    def work(self, session: Session, source: dict[str, Any]) -> Work:
        """Compare ``source`` with what the session has loaded or saved."""

    def to_create(self, record_id: bytes, work: Work, about: tuple[str | None, float, float]) -> Mapping[str, Any]:
        """Return the attributes of a new record; ``about`` is its user, creation time and idle timeout."""

    def to_change(
        self, record_id: bytes, work: Work, about: tuple[str | None, float, float] | None
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Return what an update sets and deletes; ``about`` only if it has changed."""

    def settle(self, session: Session, work: Work) -> None:
        """Note that the store has this work."""

    def load(self, session: Session, record_id: bytes, record: Record) -> Mapping[str, Any]:
        """Make a loaded record the session's base, and return its attributes.

        :raises Unreadable: something in it is not ours.
        """


class LiveValues:
    """The objects themselves. What is changed in place is the same object for all, so identity tells what to write."""

    def nothing(self, session: Session) -> Work:
        """See ``Values``."""
        return Work(session._base)

    def work(self, session: Session, source: dict[str, Any]) -> Work:
        """See ``Values``."""
        if unchanged(source, session._base):
            return Work(session._base)
        content = dict(dict.items(source))
        return Work(content, *diff(content, session._base))

    def to_create(self, record_id: bytes, work: Work, about: tuple[str | None, float, float]) -> Mapping[str, Any]:
        """See ``Values``."""
        return work.content

    def to_change(
        self, record_id: bytes, work: Work, about: tuple[str | None, float, float] | None
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """See ``Values``."""
        return work.sets, work.deletes

    def settle(self, session: Session, work: Work) -> None:
        """See ``Values``."""
        session._base = work.content

    def load(self, session: Session, record_id: bytes, record: Record) -> Mapping[str, Any]:
        """See ``Values``."""
        session._base = record.attributes
        return record.attributes


class PackedValues:
    """Bytes. An attribute is written when its encoding differs from the bytes that were loaded."""

    def __init__(self, packer: Packer) -> None:
        self._packer = packer

    def nothing(self, session: Session) -> Work:
        """See ``Values``."""
        return Work(session._base)

    def work(self, session: Session, source: dict[str, Any]) -> Work:
        """See ``Values``."""
        content = dict(dict.items(source))
        sets, deletes, faults = self._packer.delta(content, session._base, _encoded(session))
        kept = {name: value for name, value in content.items() if name not in faults} if faults else content
        return Work(kept, sets, deletes, faults)

    def to_create(self, record_id: bytes, work: Work, about: tuple[str | None, float, float]) -> Mapping[str, Any]:
        """See ``Values``."""
        return {**self._packer.pack(record_id, work.sets), ABOUT: self._packer.pack_about(record_id, about)}

    def to_change(
        self, record_id: bytes, work: Work, about: tuple[str | None, float, float] | None
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """See ``Values``."""
        sets = self._packer.pack(record_id, work.sets)
        if about is not None:
            sets[ABOUT] = self._packer.pack_about(record_id, about)
        return sets, tuple([f".{name}" for name in work.deletes])

    def settle(self, session: Session, work: Work) -> None:
        """See ``Values``."""
        session._base = work.content
        encoded = {**_encoded(session), **work.sets}
        for name in work.deletes:
            encoded.pop(name, None)
        session._encoded = encoded

    def load(self, session: Session, record_id: bytes, record: Record) -> Mapping[str, Any]:
        """See ``Values``."""
        session._base, session._encoded = self._packer.unpack(record_id, record)
        return session._base


def _encoded(session: Session) -> Mapping[str, bytes]:
    encoded: Mapping[str, bytes] = getattr(session, "_encoded", NOTHING)
    return encoded
