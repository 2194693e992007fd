"""What the conversations of one middleware share.

Rules of residence: the way to the store, and what is known of conversations between two calls. No verb of users.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..codecs import Codec, JsonCodec
from ..crypto.entries import ConversationKeys, sealers_of
from ..engine.calls import Calls
from ..engine.line import Queue
from ..errors import ConfigError
from ..log import EventLog
from ..stores.logs import Log, Position
from .options import ConversationOptions
from .values import LiveValues, Values

if TYPE_CHECKING:
    from .runs import Runs

KNOWN = 10_000  # conversations whose log and top a process remembers, so that an append is one round trip
GAP = 0.03  # seconds


class Keeper:
    """The conversations of one middleware, or of one ``Conversations``."""

    def __init__(
        self, calls: Calls, secret_keys: Sequence[bytes], codec: Codec | None, events: EventLog,
        options: ConversationOptions | None, *, seal: bool,
    ) -> None:  # fmt: skip
        options = options or ConversationOptions()
        self.store = calls.store
        self.keys = ConversationKeys(secret_keys)
        self.values: Values | LiveValues = LiveValues()
        if calls.live is None:
            self.values = Values(codec or JsonCodec(), sealers_of(secret_keys) if seal else [])
        self.clock: Callable[[], float] = calls.clock
        self.events = events
        self.bounds = options.bounds()
        self.fold = options.fold
        self.retention = options.keep()
        self.line = Queue()  # of those who append to one conversation
        self.is_live = calls.live is not None
        self._calls = calls
        self._min_gap = options.min_gap
        self._has_runs = False
        calls.on_end.append(self.ended)
        if calls.live is not None and hasattr(calls.live, "watch"):
            calls.live.watch(self.told)
        self._tops: OrderedDict[bytes, tuple[Log, Position]] = OrderedDict()

    async def call(self, verb: str, *arguments: Any, **more: Any) -> Any:
        """Call a verb of the store's ``logs``.

        :raises ConfigError: the store keeps no conversations.
        :raises StoreError: it failed, or took too long.
        """
        logs = getattr(self.store, "logs", None)
        if logs is None:
            raise ConfigError(
                f"conversations: {type(self.store).__name__} keeps none, it lacks `logs` (LogStore); "
                "take a MemoryStore, SQLiteStore, RedisStore or SQLStore"
            )
        function: Any = getattr(logs, verb)
        if more:
            bound = function

            async def function(*arguments: Any) -> Any:
                return await bound(*arguments, **more)

        found = await self._calls.call(function, *arguments)
        return await found if self._calls.live is not None else found

    @property
    def runs(self) -> Runs:
        """The runs of this process on the store."""
        from .runs import runs_of

        self._has_runs = True
        usual: float = getattr(getattr(self.store, "logs", None), "min_gap", GAP)
        return runs_of(self.store, self._min_gap or usual)

    async def drain(self) -> None:
        """Let no more runs begin, and end those that run."""
        if self._has_runs:
            await self.runs.drain(self)

    def ended(self, record_id: bytes, reason: str) -> None:
        """Hear that this process has ended a session: the runs of its conversations end."""
        if self._has_runs:
            from .runs import running_on

            runs = running_on(self.store)  # those of other threads find out when they write, or renew their leases
            if runs is not None:
                runs.session_ended(record_id)

    def told(self, record: Any, reason: str, is_over: bool) -> None:
        """Hear it of a live store."""
        if self._has_runs and is_over:
            self.ended(record.record_id, reason)

    def known(self, conversation: bytes) -> tuple[Log, Position] | None:
        """Return the log of a conversation and its top, as they were when they were last seen."""
        return self._tops.get(conversation)

    def note(self, log: Log, top: Position) -> None:
        """Remember what was seen."""
        conversation = log.place.conversation
        self._tops[conversation] = log, top
        self._tops.move_to_end(conversation)
        if len(self._tops) > KNOWN:
            self._tops.popitem(last=False)

    def forget(self, conversation: bytes) -> None:
        """Forget what is over."""
        self._tops.pop(conversation, None)
