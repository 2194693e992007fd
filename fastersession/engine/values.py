"""How attributes go to a store and come back: as live objects, or packed into bytes.

Rules of residence: the interface of both, and the first; the second is in ``packing``. Pure of I/O.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ..facts import EMPTY, Identity
from ..state import State
from ..stores.base import Record
from .plan import diff, unchanged

# What a save point has encoded by now, by name: the object that it was, and its bytes, or what is wrong with it.
Encoded = dict[str, tuple[Any, bytes | str]]
About = tuple[Identity | None, float, float]  # what a record says of itself: user, creation time, idle timeout


class Work(NamedTuple):
    """What a save point may store: the content, and how it differs from what the request has loaded."""

    content: Mapping[str, Any]
    sets: Mapping[str, Any] = {}
    deletes: tuple[str, ...] = ()
    faults: Mapping[str, str] = {}  # no exception: raised, it would hold the frames that hold this


class Values(Protocol):
    """The interface of both. ``source`` is a session or a snapshot, any dict."""

    def compare(self, state: State, source: dict[str, Any], once: Encoded | None = None) -> Work:
        """Compare ``source`` with what the request has loaded or saved.

        :param once: is added to. What is in it is not encoded again.
        """

    def to_create(self, record_id: bytes, work: Work, about: About) -> Mapping[str, Any]:
        """Return the attributes of a new record."""

    def to_change(self, record_id: bytes, work: Work, about: About | None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """Return what an update sets and deletes; ``about`` only if it has changed."""

    def whole(self, content: Mapping[str, Any]) -> Work:
        """Return the work of storing all of it where there is nothing yet."""

    def stored_name(self, name: str) -> str:
        """Return under which name the store has an attribute."""

    def settle(self, state: State, work: Work) -> None:
        """Note that this work is no change any more."""

    def changed_inside(self, state: State, source: dict[str, Any], longest: int) -> list[str]:
        """Return the names of what has changed inside since it was loaded or saved, looking at what had few bytes then.

        May be called at any moment, also in the middle of a garbage collection. Raises nothing.
        """

    def load(self, record_id: bytes, record: Record) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
        """Return the attributes of a loaded record, and their encodings.

        :raises Unreadable: something in it is not ours.
        """


class LiveValues:
    """The objects themselves. What is changed in place is the same object for all, so identity tells what to write."""

    def compare(self, state: State, source: dict[str, Any], once: Encoded | None = None) -> Work:
        if unchanged(source, state.base):
            return Work(state.base)
        content = dict(dict.items(source))
        return Work(content, *diff(content, state.base))

    def to_create(self, record_id: bytes, work: Work, about: About) -> Mapping[str, Any]:
        return work.content

    def to_change(self, record_id: bytes, work: Work, about: About | None) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        return work.sets, work.deletes

    def whole(self, content: Mapping[str, Any]) -> Work:
        return Work(content, content)

    def stored_name(self, name: str) -> str:
        return name

    def settle(self, state: State, work: Work) -> None:
        state.settled(work.content, EMPTY)

    def look_of(self, value: object) -> None:
        return None

    def changed_inside(self, state: State, source: dict[str, Any], longest: int) -> list[str]:
        return []

    def load(self, record_id: bytes, record: Record) -> tuple[Mapping[str, Any], Mapping[str, bytes]]:
        return record.attributes, EMPTY
