"""Sessions in PostgreSQL or MariaDB: see ``SQLStore``.

Rules of residence: the public name of the folder, nothing else.
"""

from .store import SQLStore

__all__ = ["SQLStore"]
