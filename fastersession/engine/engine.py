"""Of which parts the engine of a middleware is made.

Rules of residence: composition only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from ..codecs import Codec, JsonCodec
from ..crypto.tags import UserTags
from ..crypto.tokens import KeyRing, Sealer
from ..facts import Host
from ..listeners import SessionListener
from ..log import EventLog
from ..stores.base import NOTHING_MORE, Extra, Store
from .at_once import AtOnce
from .calls import Calls
from .directory import Directory
from .exclusive import Turns
from .flashing import Flashing
from .line import Queue
from .listening import Listening
from .load import Loader
from .logins import Logins, Policy
from .packing import PackedValues, Packer
from .patience import Patient
from .repeats import Repeats
from .running import RequestManager, Running
from .save import Saver
from .spans import Spans
from .values import LiveValues
from .watch import OnEnd, Watch


class Engine:
    """The parts behind one middleware, from the store up. They are used directly; this only makes them."""

    def __init__(
        self, store: Store, packer: Packer | None, spans: Spans, patience: float, events: EventLog, tags: UserTags,
        policy: Policy, listeners: tuple[SessionListener, ...], on_end: OnEnd,
    ) -> None:  # fmt: skip
        tasks: set[asyncio.Task[Any]] = set()
        requests: set[RequestManager] = set()
        repeats = Repeats(tasks)
        self.events = events
        self.spans = spans
        self.calls = calls = Calls(store, events, patience)
        self.values: LiveValues | PackedValues = LiveValues() if packer is None else PackedValues(packer)
        self.listening = Listening(listeners, calls, packer, events, repeats, tasks) if listeners else None
        self.flashing = Flashing(calls, packer)
        made = (calls, self.values, spans, tags, policy, self.listening, self.flashing)
        logins = Logins(*made) if calls.knows_users else None
        self.directory = Directory(calls, packer, tags)
        self.saver = Saver(calls, self.values, events, spans, logins, _extra(policy), self.listening, self.flashing)
        self.at_once = None if calls.live is None else AtOnce(self.saver, tasks)
        self.saves = self.at_once or Patient(self.saver, tasks, patience)
        self.turns = Turns(calls, self.saves, Queue(), repeats)
        watch = Watch(calls, events, requests, on_end)
        self.runs = Running(self.saves, repeats, watch, requests, live=calls.live is not None)
        self.runs.sweeper = self.listening

    def loader(self, keys: KeyRing, host: Host, *, revokes_reused: bool = False) -> Loader:
        """Return what opens sessions for this host."""
        return Loader(self.calls, keys, self.values, host, self.spans, self.events, revokes_reused)


def _extra(policy: Policy) -> Extra:
    """Return what a new record says besides."""
    return NOTHING_MORE if policy.retention is None else Extra(retention=policy.retention)


def packer_of(
    store: Store, codec: Codec | None, keys: Sequence[bytes], cookie_name: str, *, seal: bool
) -> Packer | None:
    """Return what packs the values of a middleware, ``None`` if its store is a live one."""
    if store.live is not None:
        return None
    return Packer(codec or JsonCodec(), Sealer(keys, cookie_name) if seal else None)
