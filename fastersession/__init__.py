"""Server-side sessions for ASGI that keep what a streaming response writes.

Rules of residence: public names only, and nothing that needs an extra.
"""

from .codecs import Codec, JsonCodec, MsgspecCodec, PickleCodec
from .errors import (
    AttributeNotSerializable,
    Busy,
    CodecError,
    ConfigError,
    ExclusiveTimeout,
    FasterSessionError,
    FasterSessionWarning,
    Gone,
    HeadersSent,
    InsecureCookieWarning,
    InsecureSecretKeyWarning,
    KeyReused,
    LeaseLost,
    LifetimeWarning,
    LoginRefused,
    SessionEnded,
    SessionNotEstablished,
    StoreError,
    TooManySessions,
)
from .listeners import (
    DestroyedEvent,
    IdChangedEvent,
    LoginEvent,
    SessionEvent,
    SessionListener,
    SuspiciousEvent,
)
from .middleware import FasterSessionMiddleware
from .session import Session
from .sessions import SessionInfo, Sessions
from .stores.memory import MemoryStore

__all__ = [
    "AttributeNotSerializable", "Busy", "Codec", "CodecError", "ConfigError", "DestroyedEvent", "ExclusiveTimeout",
    "FasterSessionError", "FasterSessionMiddleware", "FasterSessionWarning", "Gone", "HeadersSent",
    "IdChangedEvent", "InsecureCookieWarning", "InsecureSecretKeyWarning", "JsonCodec", "KeyReused", "LeaseLost",
    "LifetimeWarning", "LoginEvent", "LoginRefused", "MemoryStore", "MsgspecCodec", "PickleCodec", "Session",
    "SessionEnded", "SessionEvent", "SessionInfo", "SessionListener", "SessionNotEstablished", "Sessions",
    "StoreError", "SuspiciousEvent", "TooManySessions",
]  # fmt: skip
