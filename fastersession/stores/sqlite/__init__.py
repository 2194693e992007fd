"""Sessions in an SQLite file, for the processes of one machine: see ``SQLiteStore``.

Rules of residence: the public name of the folder, nothing else.
"""

from .store import SQLiteStore

__all__ = ["SQLiteStore"]
