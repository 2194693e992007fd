"""MariaDB and MySQL behind ``SQLStore``.

Rules of residence: what they spell or do otherwise than the rest. Its functions run on a connection in AUTOCOMMIT: a
statement is a transaction, unless one is begun by hand. Bytes travel as base64: the driver writes them into the
statement's text, where nothing may depend on how a server reads quotes and backslashes, and escaping is slow.
"""

from __future__ import annotations

from binascii import b2a_base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy.engine import Connection

from . import statements as sql
from .batches import LARGE
from .exchange import execute, execute_several, transaction, undone
from .records import Found, Write, attributes_of, columns
from .statements import FOREVER, Listing, Statement, named

# VARBINARY, not a character set: the collations fold letters, or pad with spaces ("a" = "a ").
TABLES = (
    """create table if not exists {session} (
    id varbinary(16) not null primary key,
    verifier varbinary(32) not null,
    user_id blob,
    created double not null,
    accessed double not null,
    idle_timeout double not null,
    not_after double not null,
    expires double not null,
    expire_hour bigint not null,
    regenerated_at double,
    version bigint not null,
    lease_owner varbinary(16),
    lease_until double,
    verifier_before varbinary(32),
    verifier_after varbinary(32),
    ended_reason varbinary(255),
    claimed_until double,
    retention double,
    index expire_hour (expire_hour),
    index user_id (user_id(16))
) engine = InnoDB""",
    """create table if not exists {attribute} (
    session_id varbinary(16) not null,
    name varbinary(255) not null,
    value longblob not null,
    primary key (session_id, name),
    foreign key (session_id) references {session} (id) on delete cascade
) engine = InnoDB""",
)
USER_TABLES = (  # without `if not exists`, whose note the driver prints: who comes late finds it at the next look
    """create table {user} (
    user_id varbinary(16) not null primary key,
    not_before double,
    kept varbinary(16),
    expire_hour bigint not null,
    index expire_hour (expire_hour)
) engine = InnoDB""",
)
SET = "insert into {attribute} (session_id, name, value) values"
MARK = "from_base64(%s)"
MARKS = {"bytes": MARK, "real": "%s"}
ROW = "(from_base64(%s), from_base64(%s), from_base64(%s))"
OVERWRITE = "on duplicate key update value = values(value)"
DELETE_ATTRIBUTE = "delete from {attribute} where session_id = bytes(:id) and name = bytes(:name)"
FIND_EXPIRED = f"""
    select id from {{session}} where expire_hour <= hour(:now) and expires <= real(:now) and {sql.KEPT_NO_MORE}
    limit :limit for update skip locked"""  # noqa: S608 - ours
DELETE_EXPIRED = "delete from {session} where id in (<>)"
STATEMENT_BYTES = 2**20  # of values in one INSERT: servers take 16 MB by default, and base64 adds a third


# One transaction for many sessions, in two exchanges. What the first finds is locked, in the order in which it is asked
# for. READ COMMITTED: else the locks would cover the gaps beside it, too, in which others insert.
# Both look the sessions up by their key, and lock no other: an optimizer that prefers to scan a small table would.
BY_KEY = "straight_join {session} force index (primary)"
BEGIN = "set transaction isolation level read committed; start transaction"
HOLD = f"{BEGIN}; select id from <>"  # noqa: S608 - ours
MERGE = "update <>"


def unbound(row: Any) -> Any:
    """Undo what binding has made of the times of a row."""
    return (*row[:4], _endless(row[4]), _endless(row[5]), *row[6:])


def _endless(value: float) -> float:
    return float("inf") if value >= FOREVER else value


class MySQL:
    """What ``SQLStore`` does on a connection to MariaDB or MySQL."""

    minimum = (8, 0, 1)
    least = 1  # writes of a transaction for many: it has fewer round trips than the one for a single write
    added_types = {"bytes": "varbinary(32)", "word": "varbinary(255)", "real": "double"}  # noqa: RUF012
    # Of a blob only a part can be indexed. To make it a VARBINARY copies the table, which nobody can write meanwhile.
    added_index = "add index user_id (user_id(16))"
    begin = (BEGIN, 2)  # and how many statements that is
    unbound = staticmethod(unbound)

    @staticmethod
    def bind(value: Any) -> Any:
        """Turn a value into what the driver gets."""
        return _bind(value)

    by_key = "force index (primary)"
    minimum_mariadb = (10, 6)
    marks = {  # noqa: RUF012
        "bytes": "from_base64({})", "real": "{}", "among": "in ({})", "hour": "floor({} / 3600)",
    }  # fmt: skip

    def __init__(self, style: str, session: str, attribute: str) -> None:
        self._style = style
        self._tables = tables = {"session": session, "attribute": attribute, "user": f"{session}_user"}

        def compiled(text: str) -> Statement:
            return Statement(text, style, self.marks, tables, _bind)

        self.user_ddl = tuple(named(text, tables) for text in USER_TABLES)
        self.ddl = tuple(named(text, tables) for text in TABLES) + self.user_ddl
        self._set, self._delete_expired = named(SET, tables), named(DELETE_EXPIRED, tables)
        self._load, self._create = compiled(sql.LOAD), compiled(sql.CREATE)
        self._load_many = compiled(sql.LOAD_MANY.replace("<>", "in (<>)"))
        sets, _, proven = sql.of_each(sql.UPDATE).partition(" set ")[2].partition(" where ")
        self._hold = compiled(" ".join((HOLD, BY_KEY, "where", proven, "for update")))
        self._merge, _ = compiled(" ".join((MERGE, BY_KEY, "on id = asked_id set", sets, "; commit"))).spelt({})
        create = sql.of_each(sql.CREATE).replace("values (", "select ").removesuffix(")")
        self._insert, _ = compiled(f"{create} from <>").spelt({})
        self._one = {kind: compiled(kind) for kind in sql.ROW_KINDS}
        self._delete_attribute, self._find_expired = compiled(DELETE_ATTRIBUTE), compiled(FIND_EXPIRED)

    def compiled(self, *texts: str) -> Statement:
        """Return a statement for these tables, which takes lists."""
        return Listing(" ".join(texts), self._style, self.marks, self._tables, _bind)

    def load(self, connection: Connection, record_id: bytes, now: float) -> Found:
        """Read one session."""
        return Found(self._load.run(connection, {"id": record_id, "now": now}), unbound)

    def load_many(self, connection: Connection, record_ids: Sequence[bytes], now: float) -> Found:
        """Read several sessions, but for the large ones."""
        ids = [_bind(record_id) for record_id in set(record_ids)]
        text, (first, *others) = self._load_many.spelt({"large": LARGE, "now": now})
        text = text.replace("<>", ", ".join([MARK] * len(ids)))
        return Found(execute(connection, text, (first, *ids, *others, *ids))[0], unbound)

    def one(self, connection: Connection, kind: str, parameters: Mapping[str, Any]) -> bool:
        """Run a statement about one session's row."""
        return self._one[kind].one(connection, parameters)

    def create(self, connection: Connection, parameters: Mapping[str, Any], sets: Mapping[bytes, bytes]) -> bool:
        """Insert in one transaction, in the place of an expired record too."""
        while True:
            try:
                with transaction(connection):
                    self._create.run(connection, parameters)
                    self.put(connection, parameters["id"], sets)
            except connection.dialect.loaded_dbapi.IntegrityError:
                if not self.one(connection, sql.DELETE_EXPIRED, parameters):
                    return False
            else:
                return True

    def insert(self, connection: Connection, parameters: Mapping[str, Any], sets: Mapping[bytes, bytes]) -> bool:
        """Do as ``create`` does, in a transaction that was begun."""
        try:
            self._create.run(connection, parameters)
        except connection.dialect.loaded_dbapi.IntegrityError:
            if not self.one(connection, sql.DELETE_EXPIRED, parameters):
                return False
            self._create.run(connection, parameters)
        self.put(connection, parameters["id"], sets)
        return True

    def merge(
        self,
        connection: Connection,
        kind: str,
        parameters: Mapping[str, Any],
        sets: Mapping[bytes, bytes],
        deletes: Sequence[bytes],
    ) -> bool:
        """Update the session's row first, whose lock the attributes are written behind, in order."""
        if not sets and not deletes:
            return self.one(connection, kind, parameters)
        with transaction(connection):
            merged = self.one(connection, kind, parameters)
            if merged:
                self.put(connection, parameters["id"], sets)
                for name in sorted(deletes):
                    self._delete_attribute.run(connection, {"id": parameters["id"], "name": name})
        return merged

    def merge_many(self, connection: Connection, writes: Sequence[Write], now: float) -> set[bytes]:
        """Update several sessions, and set attributes of theirs. Return the ids of those that were updated."""
        asked = sorted(zip(*columns(writes, sql.MERGED_OF_EACH), strict=True))
        text, bound = self._hold.spelt({"now": now})
        of_each, table = _bound(asked), _asked(sql.MERGED_OF_EACH, len(asked))
        with undone(connection):
            rows = execute_several(connection, text.replace("<>", table), (*of_each, *bound), 3)
            held = {row[0] for row in rows}
            if not held:
                execute(connection, "rollback")
                return held
            if len(held) < len(asked):
                asked = [row for row in asked if row[0] in held]
                of_each, table = _bound(asked), _asked(sql.MERGED_OF_EACH, len(asked))
                writes = [write for write in writes if write.parameters["id"] in held]
            text, attributes = self._merge.replace("<>", table), attributes_of(writes)
            if attributes:
                text = "; ".join((self._set_text(len(attributes)), text))
            execute_several(connection, text, (*_bound(attributes), *of_each), 3 if attributes else 2)
        return held

    def create_many(self, connection: Connection, writes: Sequence[Write], now: float) -> set[bytes]:
        """Insert several sessions, or none of them if one is taken. Return their ids."""
        asked = sorted(zip(*columns(writes, sql.CREATED_OF_EACH), strict=True))
        text, attributes = self._insert.replace("<>", _asked(sql.CREATED_OF_EACH, len(asked))), attributes_of(writes)
        if attributes:
            text = "; ".join((text, self._set_text(len(attributes))))
        parameters = (*_bound(asked), *_bound(attributes))
        with undone(connection):
            execute_several(connection, f"start transaction; {text}; commit", parameters, 4 if attributes else 3)
        return {row[0] for row in asked}

    def purge(self, connection: Connection, now: float, limit: int) -> int:
        """Remove up to ``limit`` expired sessions, passing over those that somebody else is at."""
        with transaction(connection):
            found = self._find_expired.run(connection, {"now": now, "limit": limit})
            if found:
                text = self._delete_expired.replace("<>", ", ".join([MARK] * len(found)))
                execute(connection, text, tuple(_bind(record_id) for (record_id,) in found))
        return len(found)

    def put(self, connection: Connection, record_id: bytes, sets: Mapping[bytes, bytes]) -> None:
        """Set attributes of a session whose row this transaction has changed."""
        for part in _parts(sorted(sets.items())):
            values = [_bind(value) for name, content in part for value in (record_id, name, content)]
            execute(connection, self._set_text(len(part)), tuple(values))

    def _set_text(self, count: int) -> str:
        return " ".join((self._set, ", ".join([ROW] * count), OVERWRITE))


def _asked(columns: Mapping[str, str], count: int) -> str:
    """Return a table of what differs from session to session: so a number is written, and read, only once."""
    marks = {name: MARKS[kind] for name, kind in columns.items()}
    first = ", ".join([f"{mark} as asked_{name}" for name, mark in marks.items()])
    others = "".join([f" union all select {', '.join(marks.values())}"] * (count - 1))
    return f"(select {first}{others}) as asked"


def _bound(rows: Iterable[Sequence[Any]]) -> list[Any]:
    return [_bind(value) for row in rows for value in row]


def _bind(value: Any) -> Any:
    if isinstance(value, bytes):
        return b2a_base64(value, newline=False).decode("ascii")
    return min(value, FOREVER) if isinstance(value, float) else value


def _parts(items: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """Split attributes so that no statement gets too large."""
    part: list[tuple[bytes, bytes]] = []
    size = 0
    for name, value in items:
        if part and size + len(value) > STATEMENT_BYTES:
            yield part
            part, size = [], 0
        part.append((name, value))
        size += len(value)
    if part:
        yield part
