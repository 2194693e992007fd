"""One exchange with a server, through the driver's own cursor, as SQLAlchemy's dialect adapts it.

Rules of residence: execution, and what an error means for the connection; no statement. What SQLAlchemy does above the
cursor (contexts, results, events) costs as much as a small statement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection

Parameters = Mapping[str, Any] | Sequence[Any]


def execute(connection: Connection, text: str, parameters: Parameters = ()) -> tuple[Sequence[Any], int]:
    """Execute. Return the rows, and how many there are or were changed.

    :raises DBAPIError: the connection was lost, and with it all that the pool has of before.
    :raises Exception: the driver's own, as the dialect adapts it.
    """
    with _failing(connection):
        cursor = connection.connection.cursor()
        cursor.execute(text, parameters)
        rows, count = cursor.fetchall(), cursor.rowcount
        cursor.close()
    return rows, count


def execute_several(connection: Connection, text: str, parameters: Parameters, statements: int) -> Sequence[Any]:
    """Execute a text of several statements, of which one returns rows. Return these when all are done.

    :raises Exception: as ``execute``. The statements behind the one that failed are not executed.
    """
    rows: Sequence[Any] = ()
    with _failing(connection):
        cursor = connection.connection.cursor()
        cursor.execute(text, parameters)
        for behind in reversed(range(statements)):
            if cursor.description:
                rows = cursor.fetchall()
            if behind:
                cursor.nextset()
        cursor.close()
    return rows


@contextmanager
def transaction(connection: Connection, begin: str = "start transaction", statements: int = 1) -> Iterator[None]:
    """Let some statements be one transaction, on a connection in AUTOCOMMIT. ``begin`` is of so many statements."""
    execute_several(connection, begin, (), statements)
    with undone(connection):
        yield
    execute(connection, "commit")


@contextmanager
def undone(connection: Connection) -> Iterator[None]:
    """Roll back a transaction that was begun, if one of its statements fails."""
    try:
        yield
    except Exception:
        if not connection.invalidated:
            execute(connection, "rollback")
        raise


@contextmanager
def _failing(connection: Connection) -> Iterator[None]:
    """Give no connection back to the pool whose state is in doubt."""
    proxied = connection.connection
    try:
        yield
    except connection.dialect.loaded_dbapi.Error as error:
        if connection.dialect.is_disconnect(error, proxied.dbapi_connection, None):
            connection.exec_driver_sql("select 1")  # fails, and lets SQLAlchemy see to the rest of the pool
            connection.invalidate(error)
        raise
    except BaseException as error:
        connection.invalidate(error)
        raise
