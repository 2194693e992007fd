"""Server-side sessions for ASGI that keep what a streaming response writes.

Rules of residence: public names only, and nothing that needs an extra.
"""

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .conversations.conversation import Conversation
    from .conversations.handle import Entry
    from .conversations.options import ConversationOptions
    from .user_conversations import Conversations

__all__ = [
    "AttributeNotSerializable", "Busy", "Codec", "CodecError", "ConfigError", "Conversation",
    "ConversationOptions", "Conversations", "DestroyedEvent", "Entry", "ExclusiveTimeout", "FasterSessionError",
    "FasterSessionMiddleware", "FasterSessionWarning", "Gone", "HeadersSent", "IdChangedEvent",
    "InsecureCookieWarning", "InsecureSecretKeyWarning", "JsonCodec", "KeyReused", "LeaseLost",
    "LifetimeWarning", "LoginEvent", "LoginRefused", "MemoryStore", "MsgspecCodec", "PickleCodec", "Session",
    "SessionEnded", "SessionEvent", "SessionInfo", "SessionListener", "SessionNotEstablished", "Sessions",
    "StoreError", "SuspiciousEvent", "TooManySessions",
]  # fmt: skip

# What is imported when it is asked for: no application without conversations pays for them.
_LATER = {
    "Conversation": "conversations.conversation",
    "ConversationOptions": "conversations.options",
    "Conversations": "user_conversations",
    "Entry": "conversations.handle",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found
