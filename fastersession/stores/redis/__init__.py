"""Sessions in Redis or Redis Cluster: see ``RedisStore``.

Rules of residence: the public name of the folder, nothing else.
"""

from .store import RedisStore

__all__ = ["RedisStore"]
