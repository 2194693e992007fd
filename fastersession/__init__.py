"""Server-side sessions for ASGI that keep what a streaming response writes.

Rules of residence: public names only, and nothing that needs an extra.
"""

from .errors import (
    ConfigError,
    FasterSessionError,
    FasterSessionWarning,
    HeadersSent,
    InsecureCookieWarning,
    InsecureSecretKeyWarning,
    LifetimeWarning,
    SessionNotEstablished,
    StoreError,
)
from .middleware import FasterSessionMiddleware
from .session import Session
from .stores.memory import MemoryStore

__all__ = [
    "ConfigError",
    "FasterSessionError",
    "FasterSessionMiddleware",
    "FasterSessionWarning",
    "HeadersSent",
    "InsecureCookieWarning",
    "InsecureSecretKeyWarning",
    "LifetimeWarning",
    "MemoryStore",
    "Session",
    "SessionNotEstablished",
    "StoreError",
]
