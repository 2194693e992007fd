"""Values of conversations as a store keeps them.

Rules of residence: composes codec and sealer; no store call. Authenticates before it decodes, always.

    entry     the application's value, by its codec, as attribute "conversation"
    run       a head, frames or an end of a run, in JSON
    about     what is said about a conversation, in JSON

What is bound by the seal: the conversation (its key), the kind, the codec, the log, the run that has written it, and
the position. So an entry cannot be moved to another place, another log, or another run.

A conversation is sealed under the key that its id was made of, also by workers whose first key is another one: so when
none is left under the id of a key, nothing is sealed under it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from ..codecs import Codec, JsonCodec
from ..crypto.tokens import Sealer
from ..engine.packing import Unreadable
from ..errors import AttributeNotSerializable, CodecError
from ..stores.logs import Log, Position, Run

ATTRIBUTE = "conversation"
MOST_BYTES = 2**20  # of an entry or a frame
KINDS = {"entry": b"e", "run": b"r", "about": b"a"}
PLAIN = b"\x00"
NOBODY = b""  # where no run has written
KNOWN = 10_000  # conversations under other keys than the first, whose keys are remembered


class Values:
    """Packs and unpacks values for a store of bytes.

    :param sealers: one for each key; none stores them unsealed.
    """

    def __init__(self, codec: Codec, sealers: Sequence[Sealer]) -> None:
        self._codec = codec
        self._json = JsonCodec()
        self._sealers = sealers
        self._other_keys: OrderedDict[bytes, int] = OrderedDict()

    def found_under(self, key: int, conversation: bytes) -> None:
        """Note that an id was made of this key, counted from the first, 0."""
        if key:
            self._other_keys[conversation] = key
            self._other_keys.move_to_end(conversation)
            if len(self._other_keys) > KNOWN:
                self._other_keys.popitem(last=False)

    def pack(
        self, kind: str, place: Log | Run, position: Position, value: Any, run: bytes | None = None
    ) -> tuple[Any, int]:
        """Return a value as the store keeps it, and its size in bytes.

        :raises AttributeNotSerializable: the codec does not keep it, or it is too large.
        """
        data = self._encoded(kind, value)
        log = place.log if isinstance(place, Run) else place
        context = self._context(kind, place, position, run)
        if not self._sealers:
            stored = PLAIN + data
        else:
            conversation = log.place.conversation
            sealer = self._sealers[self._other_keys.get(conversation, 0)]
            stored = sealer.record(conversation).seal(data, context)
        return stored, len(stored)

    def unpack(self, kind: str, place: Log | Run, position: Position, stored: Any, run: bytes | None = None) -> Any:
        """Return the value.

        :raises Unreadable: it is none that we have packed for this place.
        """
        log = place.log if isinstance(place, Run) else place
        data: bytes | None
        if not self._sealers:
            data = stored[1:] if stored[:1] == PLAIN else None
        else:
            data = (
                self._sealers[0].record(log.place.conversation).open(stored, self._context(kind, place, position, run))
            )
        if data is None:
            raise Unreadable("not sealed by us for this place")
        try:
            return self._codec_of(kind).decode(ATTRIBUTE, data)
        except Exception as error:
            raise Unreadable(f"not readable by the codec: {type(error).__name__}") from None

    def _codec_of(self, kind: str) -> Codec:
        return self._codec if kind == "entry" else self._json

    def _encoded(self, kind: str, value: Any) -> bytes:
        try:
            data = self._codec_of(kind).encode(ATTRIBUTE, value)
        except CodecError as error:
            raise AttributeNotSerializable(f"this value cannot be kept in a conversation: {error}") from None
        except Exception as error:
            text = f"this value cannot be kept in a conversation: {type(error).__name__}"
            raise AttributeNotSerializable(text) from None
        if kind == "entry" and len(data) > MOST_BYTES:
            raise AttributeNotSerializable(f"an entry of {len(data)} bytes: a conversation keeps at most {MOST_BYTES}")
        return data

    def _context(self, kind: str, place: Log | Run, position: Position, run: bytes | None) -> bytes:
        log, run = (place.log.log, place.run) if isinstance(place, Run) else (place.log, run or NOBODY)
        name = self._codec_of(kind).name.encode("ascii")
        where = position[0].to_bytes(8, "big") + position[1].to_bytes(8, "big")
        return b"".join((KINDS[kind], bytes((len(name),)), name, log, bytes((len(run),)), run, where))


class LiveValues:
    """Keeps the objects themselves, for a live store."""

    def found_under(self, key: int, conversation: bytes) -> None:
        """Do nothing: nothing is sealed."""

    def pack(
        self, kind: str, place: Log | Run, position: Position, value: Any, run: bytes | None = None
    ) -> tuple[Any, int]:
        """Return the value, and a guess at its size."""
        return value, _guess(value)

    def unpack(self, kind: str, place: Log | Run, position: Position, stored: Any, run: bytes | None = None) -> Any:
        """Return the value."""
        return stored


def _guess(value: Any, depth: int = 3) -> int:
    """Return about how many bytes plain data has. Of other objects nothing is known."""
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if depth and isinstance(value, dict):
        return sum(_guess(key, 0) + _guess(each, depth - 1) for key, each in value.items())
    if depth and isinstance(value, list | tuple):
        return sum(_guess(each, depth - 1) for each in value)
    return 64
