"""What a save point does: one table, and the comparison that feeds it.

Rules of residence: pure functions of what they are given. No store, no clock, no message; ``save`` carries out what is
decided here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from enum import Enum, auto
from typing import Any, NamedTuple

from ..facts import NOT_STARTED, SCALARS, Intents, Status
from ..flashes import book_of
from ..state import State
from ..stores.base import Record

_MISSING = object()
_new_tuple = tuple.__new__  # a third of the time of a NamedTuple's class call
TOUCH_FRACTION = 0.1  # of the idle timeout: how coarsely the last access is recorded
_get, _keys, _length = dict.get, dict.keys, dict.__len__


class Point(Enum):
    """Which save point it is."""

    START = auto()  # the response headers are about to leave, and can still carry a cookie
    NOW = auto()  # an awaited verb, or the next message of an open WebSocket
    LAST_CHUNK = auto()  # the final message, or a running stream at shutdown
    END = auto()  # the application has returned or raised


class Action(Enum):
    """What the save point has to do; ``invalidate()`` deletes its records before, whatever the action."""

    __hash__ = object.__hash__  # members are singletons, and Enum's own hash is a Python function

    NOTHING = auto()
    CREATE = auto()
    UPDATE = auto()
    TOUCH = auto()
    DELETE = auto()
    REGENERATE = auto()
    RENEW = auto()  # update, and move the end: the cookie is issued again
    LOGIN = auto()
    DROP = auto()  # forget the changes, with an event
    REFUSE = auto()  # raise SessionNotEstablished: no cookie can leave any more


# Bound once: looking up a member of an Enum class costs more than the decision.
NOTHING, CREATE, UPDATE, TOUCH, DELETE, REGENERATE, RENEW, LOGIN, DROP, REFUSE = Action
NEW, LIVE, FOREIGN = Status.NEW, Status.LIVE, Status.FOREIGN


class Situation(NamedTuple):
    """All that a decision depends on.

    ``empty`` and ``dirty`` (differs from what was loaded or saved last) speak of the content that this save point may
    store. ``started``: the headers have left. ``discard``: the request failed before it streamed anything, so its
    changes of attributes are not kept. ``due``: the last access should be recorded again. ``created``: this request
    created the record, or has logged in on it, so without a start nobody has its cookie.
    """

    status: Status
    point: Point
    empty: bool
    dirty: bool
    started: bool = False
    discard: bool = False
    cleared: bool = False
    establish: bool = False
    regenerate: bool = False
    due: bool = False
    created: bool = False
    login: bool = False
    renew: bool = False


def situation(
    state: State, intents: Intents | None, at: Point, discard: bool, now: float, *, empty: bool, dirty: bool
) -> Situation:
    """Return what a decision depends on, now."""
    record = state.record
    created = record is not None and (state.is_new or (state.secret is not None and state.rare.logged_in))
    due = not dirty and record is not None and touch_due(record, now) and not state.passive
    wishes, login, renew = (False, False, False), False, False
    if intents is not None:
        dirty = dirty or intents.idle_timeout is not None
        wishes, login = (intents.cleared, intents.establish, intents.regenerate), intents.login is not None
        renew = intents.rolling or intents.max_age is not None
        book = book_of(state.rare) if intents.flashing else None
        if book is not None:
            dirty = dirty or bool(book.new or book.going)
            wishes = (intents.cleared, intents.establish or bool(book.new), intents.regenerate)
    started = state.phase != NOT_STARTED
    fields = (state.status, at, empty, dirty, started, discard, *wishes, due, created, login, renew)
    return _new_tuple(Situation, fields)


def touch_due(record: Record, now: float) -> bool:
    """Return whether the last access should be recorded again."""
    return now - record.accessed_at >= record.idle_timeout * TOUCH_FRACTION


def plan(at: Situation) -> Action:
    """Decide one save point. Never answers CREATE unless the status is NEW: nothing revives a lost record."""
    status, point, empty, dirty, started, discard, cleared, establish, regenerate, due, created, login, renew = at
    keep = dirty and not discard
    if login and is_time_to_log_in(point, started=started, discard=discard):
        return LOGIN
    if status is LIVE:
        if (cleared and empty and not discard) or (created and point is Point.END and not started):
            return DELETE  # the latter: no start came, so nobody has its cookie
        if regenerate and point is Point.START:
            return REGENERATE
        if renew and point is Point.START and not discard:
            return RENEW
        if keep:
            return UPDATE
        return TOUCH if due else NOTHING
    if status is NEW:
        if not establish and (empty or not keep):
            return NOTHING
        if started:
            return REFUSE
        return NOTHING if point is Point.END else CREATE  # no start came that could carry the cookie
    if not keep:
        return NOTHING
    if status is FOREIGN:
        return NOTHING if empty else REFUSE
    return DROP


def is_time_to_log_in(point: Point, *, started: bool, discard: bool) -> bool:
    """Return whether a login that is asked for is carried out at this save point, or never."""
    return not started and not discard and point in (Point.START, Point.NOW)


def unchanged(now: dict[str, Any], base: Mapping[str, Any]) -> bool:
    """Return whether two dicts hold the very same objects under the same names.

    ``dict``'s own methods are named, so that a session's are not run. ``base`` is never changed in place; ``now`` may
    be, by other threads, at any time.
    """
    if _length(now) != len(base):
        return False
    for name in base:  # noqa: SIM110 - a generator costs three times the loop, on every request that read
        if _get(now, name, _MISSING) is not base[name]:
            return False
    return True


def motion(now: dict[str, Any], base: Mapping[str, Any], handed: Set[object] | None) -> int:
    """Return 0 if two dicts hold the very same objects, 1 if not, 2 if one in ``now`` can change unseen.

    That is one that was handed out (``handed`` has their names, ``None`` stands for all) and is no scalar.
    """
    names: Iterable[Any] = _keys(now) if handed is None else handed
    for name in tuple(names):
        if type(_get(now, name)) not in SCALARS:
            return 2
    return 0 if unchanged(now, base) else 1


def diff(now: Mapping[str, Any], base: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return what to set and what to delete so that ``base`` becomes ``now``.

    ``now`` must be a plain dict. Looks at identity only: a live object that changed inside is the same object for
    every request that holds it, so there is nothing to write.
    """
    sets: dict[str, Any] = {}
    if now is base:
        return sets, ()
    find = base.get
    for name, value in now.items():
        if find(name, _MISSING) is not value:
            sets[name] = value  # noqa: PERF403 - a comprehension is a call, dearer for a few attributes
    if base.keys() <= now.keys():
        return sets, ()
    return sets, tuple(name for name in base if name not in now)
