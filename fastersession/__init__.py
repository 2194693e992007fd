"""Server-side sessions for ASGI that keep what a streaming response writes.

Rules of residence: public names only, and nothing that needs an extra.
"""

from .codecs import Codec, JsonCodec, MsgspecCodec, PickleCodec
from .errors import (
    AttributeNotSerializable,
    CodecError,
    ConfigError,
    ExclusiveTimeout,
    FasterSessionError,
    FasterSessionWarning,
    HeadersSent,
    InsecureCookieWarning,
    InsecureSecretKeyWarning,
    LeaseLost,
    LifetimeWarning,
    LoginRefused,
    SessionNotEstablished,
    StoreError,
    TooManySessions,
)
from .middleware import FasterSessionMiddleware
from .session import Session
from .sessions import SessionInfo, Sessions
from .stores.memory import MemoryStore

__all__ = [
    "AttributeNotSerializable", "Codec", "CodecError", "ConfigError", "ExclusiveTimeout", "FasterSessionError",
    "FasterSessionMiddleware", "FasterSessionWarning", "HeadersSent", "InsecureCookieWarning",
    "InsecureSecretKeyWarning", "JsonCodec", "LeaseLost", "LifetimeWarning", "LoginRefused", "MemoryStore",
    "MsgspecCodec", "PickleCodec", "Session", "SessionInfo", "SessionNotEstablished", "Sessions", "StoreError",
    "TooManySessions",
]  # fmt: skip
