"""Sessions in this process: live objects: see ``MemoryStore``.

Rules of residence: the public name of the folder, nothing else.
"""

from .store import MemoryStore

__all__ = ["MemoryStore"]
