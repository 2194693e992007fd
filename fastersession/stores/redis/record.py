"""A record as the fields of a hash.

Rules of residence: the layout and its two directions; no command.

Metadata have names of one letter; an attribute's is ``a`` and its own name, so they never meet. Times and the idle
timeout are decimal seconds as Python writes them, of the store's clock.
"""

from __future__ import annotations

from ..base import NOTHING_MORE, Extra, Record

ATTRIBUTE = b"a"
RECORD_ID, VERIFIER, CREATED, ACCESSED, IDLE, NOT_AFTER = b"k", b"v", b"c", b"t", b"i", b"x"
USER, REGENERATED, VERSION = b"u", b"r", b"n"  # and of a lease, which only the scripts read: l (owner), e (its end)
# The verifier before, and behind it the one that came after it, for as long as which is the record's own it counts: a
# release that knows nothing of this field leaves it as it is when it regenerates.
BEFORE = b"b"


def number(seconds: float) -> bytes:
    """Write a number so that Lua and Python read the same number, infinity too."""
    return repr(float(seconds)).encode()


def field(name: str) -> bytes:
    """Return the field that keeps an attribute: another one for each name that a ``str`` can be."""
    return ATTRIBUTE + name.encode("utf-8", "surrogatepass")


def to_fields(record_id: bytes, record: Record) -> list[bytes]:
    """Return names and values of a new record, in turn."""
    fields = [RECORD_ID, record_id, VERIFIER, record.verifier, VERSION, b"1"]
    fields += [CREATED, number(record.created_at), ACCESSED, number(record.accessed_at)]
    fields += [IDLE, number(record.idle_timeout), NOT_AFTER, number(record.not_after)]
    if record.extra.tag is not None:
        fields += [USER, record.extra.tag]
    for name, value in record.attributes.items():
        fields += [field(name), value]
    return fields


def to_record(fields: dict[bytes, bytes], now: float) -> Record | None:
    """Make a record of the fields of a hash. Return ``None`` if there are none, or if it has expired.

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
    user, regenerated = fields.get(USER), fields.get(REGENERATED)
    extra = NOTHING_MORE if user is None else Extra(user)
    record = Record(verifier, float(fields[CREATED]), idle, end, attributes, extra)
    record.accessed_at, record.version = accessed, int(fields[VERSION])
    record.regenerated_at = None if regenerated is None else float(regenerated)
    before = fields.get(BEFORE, b"")
    record.verifier_before = before.removesuffix(verifier) if before.endswith(verifier) else None
    return record
