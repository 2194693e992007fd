"""The tables of a ``SQLStore``: whether they are as this release needs them, and what makes or mends them.

Rules of residence: the check at opening and its statements; no session. What the tables look like is in ``statements``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from ...errors import StoreError
from . import statements as sql
from .engine import error_text
from .mysql import MySQL
from .postgresql import PostgreSQL

OPEN_TRIES = 5  # several workers, of an older release too, may make or change the tables at the same time


class Tables(NamedTuple):
    """The tables of sessions and attributes of one database, by name; that of users has a name made of the first."""

    sessions: str
    attributes: str
    database: PostgreSQL | MySQL
    create: bool  # make and mend them

    def prepare(self, connection: Connection) -> None:
        """Check the server's version and the tables, and make or mend what is missing if that is wanted.

        :raises StoreError: too old a server, or tables that cannot be used; it says what to do.
        """
        self._check_version(connection)
        for _ in range(OPEN_TRIES):
            missing, statements, remedy = self._missing(connection)
            if missing is None:
                return
            if not self.create:
                break
            try:
                for statement in statements:
                    connection.exec_driver_sql(statement)
            except DBAPIError as error:  # another worker was faster, or it is not allowed: the next look tells
                missing = error_text(error.orig or error)
        raise StoreError(
            f"the tables {self.sessions} and {self.attributes} cannot be used ({missing}): {remedy}, or let "
            "create_tables=True do it, with an account that may (GUIDE.md, Schema versions)"
        )

    def _missing(self, connection: Connection) -> tuple[str | None, tuple[str, ...], str]:
        """Look for every column that is used. Return what is wrong, the statements that mend it, and what to do."""
        for table, columns in ((self.sessions, sql.COLUMNS), (self.attributes, ("session_id", "name", "value"))):
            fault = self._fault(connection, table, columns)
            if fault is not None:
                return fault, self.database.ddl, "make them with the statements of SQLStore.ddl"
        lacking = [column for column in sql.ADDED if self._fault(connection, self.sessions, (column,))]
        mending = self._mending(lacking, no_users=self._fault(connection, f"{self.sessions}_user", sql.USER_COLUMNS))
        return ("an older release made them" if mending else None), mending, f"run once: {'; '.join(mending)}"

    def _mending(self, lacking: Sequence[str], *, no_users: str | None) -> tuple[str, ...]:
        """Return what brings tables to this release, if columns are lacking, or the table of users is not there.

        The columns come last: while they are lacking, all that may be done twice is done again.
        """
        types = self.database.added_types
        statements = [text for text in self.database.user_ddl if no_users or (lacking and "if not exists" in text)]
        added = [f"add column {column} {types[sql.ADDED[column]]}" for column in lacking]
        if "retention" in lacking and self.database.added_index:
            added.append(self.database.added_index)
        alter = (f"alter table {self.sessions} {', '.join(added)}",) if added else ()
        return (*(" ".join(text.split()) for text in statements), *alter)

    def _fault(self, connection: Connection, table: str, columns: tuple[str, ...]) -> str | None:
        """Return what is wrong with some columns of a table, ``None`` if they are there."""
        probe = " ".join(("select", ", ".join(columns), "from", table, "where 1 = 0"))
        try:
            connection.exec_driver_sql(probe)
        except DBAPIError as error:
            if error.connection_invalidated:
                raise
            return f"{table}: {error_text(error.orig or error)}"
        return None

    def _check_version(self, connection: Connection) -> None:
        version = connection.dialect.server_version_info or ()
        mariadb = getattr(connection.dialect, "is_mariadb", False)
        minimum = MySQL.minimum_mariadb if mariadb else self.database.minimum
        if version < minimum:
            name = "MariaDB" if mariadb else type(self.database).__name__
            have, need = (".".join(map(str, numbers)) for numbers in (version, minimum))
            raise StoreError(f"{name} {have} is too old for SQLStore: it needs {need}")
