"""What every database of ``SQLStore`` has in common: its statements about one session, and how values are bound.

Rules of residence: SQL text and its compilation; no connection. Only validated table names are put into a text;
everything else is a bound parameter. Marks are spelt differently by each database: ``bytes(:x)`` and ``real(:x)``,
``hour(:x)`` for the hour of a time, ``among(:x)`` for a comparison with a list of bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

from sqlalchemy.engine import Connection

from ..rows import name_of, name_to_bytes
from .exchange import execute

TABLE_NAME = re.compile(r"[a-z_][a-z0-9_]{0,47}(?:\.[a-z_][a-z0-9_]{0,47})?")  # schema.table; 63 less "_expire_hour"
PARAMETER = re.compile(r"(?<!:):([a-z_]+)")
MARK = re.compile(r"\b(bytes|real|hour|among)\((:[a-z_]+)\)")
ARRAY = re.compile(r"\(:([a-z_]+) as [a-z ]+\[\]\)")
OF_EACH = re.compile(r"(?:bytes|real)\(:((?!now\))[a-z_]+)\)")
FOREVER = 1e300  # infinity where a database has none; far above every time, far below an overflow
KEY_BYTES = 255  # of a name as a key: indexes take 2,700 bytes (PostgreSQL) or 3,072 (InnoDB)
DIGEST_BYTES = 32

COLUMNS = (
    "id", "verifier", "user_id", "created", "accessed", "idle_timeout", "not_after", "expires", "expire_hour",
    "regenerated_at", "version", "lease_owner", "lease_until",
)  # fmt: skip
ADDED = {  # since 0.1, with the kind of their values: tables that lack these are brought to them
    "verifier_before": "bytes", "verifier_after": "bytes", "ended_reason": "word", "claimed_until": "real",
    "retention": "real",
}  # fmt: skip
USER_COLUMNS = ("user_id", "not_before", "kept", "expire_hour")

# The same expressions may be evaluated before or after `accessed` and `idle_timeout` are assigned (MySQL assigns from
# left to right, the standard all at once): both give the same.
LATER = "greatest(accessed, real(:accessed))"
IDLE = "coalesce(real(:idle), idle_timeout)"
EXPIRES = f"least({LATER} + {IDLE}, not_after)"
EXPIRES_ANEW = f"least({LATER} + {IDLE}, real(:not_after))"
EXPIRES_TOUCHED = f"least({LATER} + idle_timeout, not_after)"

LOAD = """
    select s.id, s.verifier, s.user_id, s.created, s.accessed, s.idle_timeout, s.not_after, s.regenerated_at, s.version,
        s.verifier_before, s.verifier_after, a.name, a.value
    from {session} s left join {attribute} a on a.session_id = s.id
    where s.expires > real(:now) and s.id = bytes(:id)"""
SHOWN = LOAD.partition("from")[0]
# Of many sessions: a row of each, then one of each attribute, in which the session's columns are NULL. Joined, they
# would travel, and be converted, once for each attribute. One statement sees one snapshot. An attribute that is to be
# loaded alone has a NULL for its value.
LOAD_MANY = """
    select s.id, s.verifier, s.user_id, s.created, s.accessed, s.idle_timeout, s.not_after, s.regenerated_at, s.version,
        s.verifier_before, s.verifier_after, null, null
    from {session} s where s.expires > real(:now) and s.id <>
    union all
    select s.id, null, null, null, null, null, null, null, null, null, null, a.name,
        case when octet_length(a.value) <= :large then a.value end
    from {session} s join {attribute} a on a.session_id = s.id where s.expires > real(:now) and s.id <>"""
CREATE = """
    insert into {session} (id, verifier, user_id, created, accessed, idle_timeout, not_after, expires, expire_hour,
        version, retention)
    values (bytes(:id), bytes(:verifier), bytes(:user), real(:created), real(:created), real(:idle), real(:not_after),
        least(real(:created) + real(:idle), real(:not_after)),
        floor(least(real(:created) + real(:idle), real(:not_after), 1e15) / 3600), 1, real(:retention))"""
# The verifier before counts only while the one that came after it is the record's own: a release that knows nothing of
# it leaves both as they are when it regenerates.
OWN = "where id = bytes(:id) and expires > real(:now) and verifier = bytes(:verifier)"
PROVEN = """where id = bytes(:id) and expires > real(:now)
    and (verifier = bytes(:verifier) or (verifier_before = bytes(:verifier) and verifier_after = verifier))"""
LEASED = "(bytes(:lease) is null or (lease_owner = bytes(:lease) and lease_until > real(:now)))"
MERGED = f"accessed = {LATER}, idle_timeout = {IDLE}, version = version + 1"
HOUR_OF = "expire_hour = floor(least(<>, 1e15) / 3600)"
UPDATE = " ".join((
    "update {session} set", MERGED, ", expires =", EXPIRES, ",", HOUR_OF.replace("<>", EXPIRES), PROVEN, "and", LEASED,
))  # fmt: skip
REGENERATE = " ".join((
    "update {session} set verifier = bytes(:new_verifier), verifier_before = bytes(:verifier),",
    "verifier_after = bytes(:new_verifier), regenerated_at = real(:accessed),",
    "not_after = real(:not_after),", MERGED, ", expires =", EXPIRES_ANEW, ",", HOUR_OF.replace("<>", EXPIRES_ANEW),
    OWN, "and", LEASED,
))  # fmt: skip
RENEW = " ".join((
    "update {session} set not_after = real(:not_after),", MERGED, ", expires =", EXPIRES_ANEW, ",",
    HOUR_OF.replace("<>", EXPIRES_ANEW), OWN, "and", LEASED,
))  # fmt: skip
TOUCH = " ".join((
    "update {session} set accessed =", LATER, ", expires =", EXPIRES_TOUCHED, ",",
    HOUR_OF.replace("<>", EXPIRES_TOUCHED), PROVEN,
))  # fmt: skip
LOCK = " ".join((
    "update {session} set lease_owner = bytes(:owner), lease_until = real(:now) + real(:seconds)", PROVEN,
    "and (lease_owner is null or lease_owner = bytes(:owner) or lease_until <= real(:now))",
))  # fmt: skip
UNLOCK = """
    update {session} set lease_owner = null, lease_until = null
    where id = bytes(:id) and expires > real(:now) and lease_owner = bytes(:owner) and lease_until > real(:now)"""
DELETE = "delete from {session} where id = bytes(:id) and expires > real(:now) and retention is null"
# What has ended and has a retention stays: `expires` is 0, so that every statement finds it absent by any clock, and
# `not_after` is the time of its end. Its hour is 0, where it is found before all that expires by itself.
OVER = "expires = 0, expire_hour = 0, ended_reason = coalesce(ended_reason, bytes(:reason))"
END = " ".join(("update {session} set not_after = least(not_after, real(:now)),", OVER))
END_ONE = " ".join((END, "where id = bytes(:id) and expires > real(:now)"))
ENDED_AT = "least(accessed + idle_timeout, not_after)"
KEPT_NO_MORE = f"(retention is null or {ENDED_AT} + retention <= real(:now))"
DELETE_EXPIRED = f"delete from {{session}} where id = bytes(:id) and expires <= real(:now) and {KEPT_NO_MORE}"  # noqa: S608 - ours
# Of a statement for many sessions: what differs from one to the other, as columns of a table `asked`. A touch is an
# update without attributes that takes no step to the next version.
MERGED_OF_EACH = {
    "id": "bytes", "verifier": "bytes", "accessed": "real", "idle": "real", "lease": "bytes", "step": "real",
}  # fmt: skip
CREATED_OF_EACH = {
    "id": "bytes", "verifier": "bytes", "user": "bytes", "created": "real", "idle": "real", "not_after": "real",
    "retention": "real",
}  # fmt: skip
ROW_KINDS = (  # each changes one session's row, or none
    UPDATE, REGENERATE, RENEW, TOUCH, LOCK, UNLOCK, DELETE, END_ONE, DELETE_EXPIRED,
)  # fmt: skip

Bind = Callable[[Any], Any]


def as_it_is(value: Any) -> Any:
    """Bind a value as the driver binds it."""
    return value


def named(text: str, tables: Mapping[str, str]) -> str:
    """Put the validated names of tables into a text."""
    for table, name in tables.items():
        text = text.replace("{" + table + "}", name)
    return text


def of_each(text: str) -> str:
    """Put the columns of ``asked`` in the place of the parameters that differ from session to session."""
    return OF_EACH.sub(r"asked_\1", text.replace("version + 1", "version + asked_step"))


class Statement:
    """A statement for one database and driver.

    :param style: the driver's ``paramstyle``.
    :param marks: how the database spells ``bytes`` and ``real``, with ``{}`` for the parameter.
    :param tables: the validated names of ``session`` and ``attribute``.
    :param bind: turns a value into what the driver gets.
    """

    __slots__ = ("_bind", "_names", "_text")

    def __init__(
        self, text: str, style: str, marks: Mapping[str, str], tables: Mapping[str, str], bind: Bind = as_it_is
    ) -> None:
        text = MARK.sub(lambda mark: marks[mark[1]].replace("{}", mark[2]), named(text, tables))
        names = PARAMETER.findall(text)
        order = list(dict.fromkeys(names))
        spelling = {"numeric_dollar": "${number}", "pyformat": "%({name}){format}", "format": "%s"}[style]
        arrays = set(ARRAY.findall(text))  # binary: as text, psycopg escapes each element

        def spell(parameter: re.Match[str]) -> str:
            name = parameter[1]
            return spelling.format(name=name, number=order.index(name) + 1, format="b" if name in arrays else "s")

        self._text = " ".join(PARAMETER.sub(spell, text).split())
        self._names = {"numeric_dollar": order, "pyformat": None, "format": names}[style]
        self._bind = bind

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Any]:
        """Execute. Return the rows."""
        return self._execute(connection, parameters)[0]

    def one(self, connection: Connection, parameters: Mapping[str, Any]) -> bool:
        """Execute what changes one row or none. Return whether it changed one."""
        return self._execute(connection, parameters)[1] == 1

    def count(self, connection: Connection, parameters: Mapping[str, Any]) -> int:
        """Execute what changes rows. Return how many it changed."""
        return self._execute(connection, parameters)[1]

    def spelt(self, parameters: Mapping[str, Any]) -> tuple[str, list[Any]]:
        """Return the text, and what is bound in its order, for a driver that takes parameters by position."""
        return self._text, [self._bind(parameters[name]) for name in self._names or ()]

    def _execute(self, connection: Connection, parameters: Mapping[str, Any]) -> tuple[Sequence[Any], int]:
        bind, names = self._bind, self._names
        if names is None:
            return execute(connection, self._text, {name: bind(value) for name, value in parameters.items()})
        return execute(connection, self._text, tuple([bind(parameters[name]) for name in names]))


class Listing(Statement):
    """A statement for a database without arrays: a list that is bound becomes as many parameters."""

    __slots__ = ()

    def _execute(self, connection: Connection, parameters: Mapping[str, Any]) -> tuple[Sequence[Any], int]:
        pieces: list[str] = []
        bound: list[Any] = []
        for piece, name in zip(self._text.split("%s"), [*(self._names or ()), ""], strict=True):
            pieces.append(piece)
            value = parameters.get(name)
            if isinstance(value, list):
                pieces.append(", ".join(["from_base64(%s)"] * len(value)))
                bound += map(self._bind, value)
            elif name:
                pieces.append("%s")
                bound.append(self._bind(parameters[name]))
        return execute(connection, "".join(pieces), tuple(bound))


def to_key(name: str, value: bytes) -> tuple[bytes, bytes]:
    """Return how an attribute is kept: a key that an index takes, and a value.

    A longer name is kept before its value, and its key, exactly ``KEY_BYTES`` long, ends in its digest.
    """
    if not isinstance(value, bytes):
        raise TypeError(f"an attribute's value must be bytes, not {type(value).__name__}")
    key = name_to_bytes(name)
    if len(key) < KEY_BYTES:
        return key, value
    return key[: KEY_BYTES - DIGEST_BYTES] + sha256(key).digest(), len(key).to_bytes(4, "big") + key + value


def from_key(key: bytes, value: bytes) -> tuple[str, bytes]:
    """Undo ``to_key``."""
    if len(key) < KEY_BYTES:
        return name_of(key), value
    end = 4 + int.from_bytes(value[:4], "big")
    return name_of(value[4:end]), value[end:]


def nobodys(verifier: bytes) -> bytes:
    """Return a verifier that no secret has: the SHA-256 of each is longer. It is another one for each verifier."""
    return sha256(verifier).digest()[: DIGEST_BYTES - 1]
