"""A SQLiteStore over a file, in this process and in others, and what SQLite is told.

Rules of residence: what the tests of SQLiteStore share; no test.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from fastersession.stores.sqlite import SQLiteStore
from fastersession.stores.sqlite import store as sqlite


def run(path: Path, scenario: Callable[[SQLiteStore], Coroutine[Any, Any, Any]], **options: Any) -> Any:
    async def main() -> Any:
        store = SQLiteStore(path, **options)
        try:
            return await scenario(store)
        finally:
            await store.close()

    return asyncio.run(main())


def traced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    statements: list[str] = []
    connect = sqlite.connect_writer

    def spying(path: str) -> sqlite3.Connection:
        statements.append("BEGIN IMMEDIATE")  # of the tables
        connection = connect(path)
        connection.set_trace_callback(statements.append)
        return connection

    monkeypatch.setattr(sqlite, "connect_writer", spying)
    return statements
