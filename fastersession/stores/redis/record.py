"""A record as the fields of a hash.

Rules of residence: the layout and its two directions; no command.

Metadata have names of one letter; an attribute's is ``a`` and its own name, so they never meet. Times and the idle
timeout are decimal seconds as Python writes them, of the store's clock.
"""

from __future__ import annotations

from ..base import NOTHING_MORE, Extra, Record
from ..users import ABOUT
from .scripts import GRACE

ATTRIBUTE = b"a"
RECORD_ID, VERIFIER, CREATED, ACCESSED, IDLE, NOT_AFTER = b"k", b"v", b"c", b"t", b"i", b"x"
USER, REGENERATED, VERSION = b"u", b"r", b"n"  # and of a lease, which only the scripts read: l (owner), e (its end);
# and h, of a session that has conversations
# The verifier before, and behind it the one that came after it, for as long as which is the record's own it counts: a
# release that knows nothing of this field leaves it as it is when it regenerates.
BEFORE = b"b"
# Of a user's record the end of its entry in his index. Of one whose end is to be told: for how long the server keeps it
# then, and when it has ended, why, its absolute end (NOT_AFTER is 0), until when somebody tells (CLAIMED), and which
# call it was that claims it (CLAIM), with a 1 behind it if it was not the first.
UNTIL, KEPT_FOR, REASON, HAD_END, CLAIMED, CLAIM = b"o", b"z", b"d", b"y", b"q", b"w"
LONGEST = 1e11  # seconds: the server counts in whole milliseconds below 2 ** 63


def number(seconds: float) -> bytes:
    """Write a number so that Lua and Python read the same number, infinity too."""
    return repr(float(seconds)).encode()


def field(name: str) -> bytes:
    """Return the field that keeps an attribute: another one for each name that a ``str`` can be."""
    return ATTRIBUTE + name.encode("utf-8", "surrogatepass")


# All that a list of a user's sessions shows.
SHOWN = (
    RECORD_ID, VERIFIER, CREATED, ACCESSED, IDLE, NOT_AFTER, USER, REGENERATED, VERSION, BEFORE, KEPT_FOR, field(ABOUT)
)  # fmt: skip


def kept_for(record: Record) -> bytes:
    """Return what the field ``KEPT_FOR`` says, nothing if there is none."""
    retention = record.extra.retention
    return b"" if retention is None else number(min(retention, LONGEST) + GRACE)


def to_fields(record_id: bytes, record: Record) -> list[bytes]:
    """Return names and values of a new record, in turn."""
    fields = [RECORD_ID, record_id, VERIFIER, record.verifier, VERSION, b"1"]
    fields += [CREATED, number(record.created_at), ACCESSED, number(record.accessed_at)]
    fields += [IDLE, number(record.idle_timeout), NOT_AFTER, number(record.not_after)]
    if record.extra.tag is not None:
        fields += [USER, record.extra.tag]
    if record.extra.retention is not None:
        fields += [KEPT_FOR, kept_for(record)]
    for name, value in record.attributes.items():
        fields += [field(name), value]
    return fields


def is_over(accessed: bytes, idle: bytes, not_after: bytes, now: float) -> bool:
    """Return whether a record with these fields has expired."""
    return now >= float(accessed) + float(idle) or now >= float(not_after)


def to_record(fields: dict[bytes, bytes], now: float) -> Record | None:
    """Make a record of the fields of a hash. Return ``None`` if there are none, or if it has expired by ``now``.

    :raises ValueError: somebody else has written them (or ``KeyError``).
    """
    verifier = fields.get(VERIFIER)
    if verifier is None:
        return None
    accessed, idle, end = float(fields[ACCESSED]), float(fields[IDLE]), float(fields[NOT_AFTER])
    if now >= accessed + idle or now >= end:
        return None
    attributes = {
        str(name[1:], "utf-8", "surrogatepass"): value for name, value in fields.items() if name[:1] == ATTRIBUTE
    }
    user, kept, regenerated = fields.get(USER), fields.get(KEPT_FOR), fields.get(REGENERATED)
    extra = NOTHING_MORE if user is kept is None else Extra(user, None if kept is None else float(kept) - GRACE)
    record = Record(verifier, float(fields[CREATED]), idle, end, attributes, extra)
    record.accessed_at, record.version = accessed, int(fields[VERSION])
    record.regenerated_at = None if regenerated is None else float(regenerated)
    before = fields.get(BEFORE, b"")
    record.verifier_before = before.removesuffix(verifier) if before.endswith(verifier) else None
    return record


def ended_record(fields: dict[bytes, bytes]) -> Record:
    """Make a record that has ended as it was before. Errors as of ``to_record``."""
    record = to_record({**fields, NOT_AFTER: fields[HAD_END]}, float("-inf"))
    if record is None:
        raise ValueError("it has no verifier")
    return record
