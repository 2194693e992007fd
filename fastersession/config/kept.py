"""Where sessions are kept: the store, its time, and what bytes it gets.

Rules of residence: whether the given objects can be used as a store and a codec. Nothing is opened or asked here.
"""

from __future__ import annotations

import inspect
from typing import Any

from ..engine.calls import STORE_SECONDS
from ..errors import ConfigError
from ..session import seconds
from ..stores import from_url
from ..stores.base import Store
from .faults import Collector

STORE_TIMEOUT = STORE_SECONDS
STORE_VARIABLE = "FASTERSESSION_STORE"
STORE_MEMBERS = ("live", "clock", "open", "close", "load", "create", "update", "touch", "delete", "regenerate", "purge")
OF_0_1 = (
    "store: {} was written for fastersession 0.1. Give it `live = None`, for its verbs are coroutines, and let "
    "`create(record_id, record)` take the new record whole and return True, or False if the id is taken; CHANGELOG.md "
    "shows both"
)


class Kept(Collector):
    """Checks the store and the codec."""

    def store(self, given: Any) -> Store | None:
        """Accept a store or a URL, not a class of stores or something else; ``None`` for none, here and outside."""
        named = "store"
        if given is None:
            given, named = self.variable("store", STORE_VARIABLE), STORE_VARIABLE
        if given is None:
            return None
        if isinstance(given, str):
            try:
                return from_url(given)
            except ConfigError as error:
                self.add(f"{named}: {str(error).removeprefix('url: ')}")
                return None
        missing = [name for name in STORE_MEMBERS if not hasattr(given, name)]
        if isinstance(given, type) or missing:
            lacks = f"the call: {given.__name__}(...)" if isinstance(given, type) else ", ".join(missing)
            self.add(
                "store: must be a store such as MemoryStore(), a URL such as 'sqlite:///sessions.db', or None "
                f"(missing: {lacks})"
            )
        elif _is_of_0_1(given):
            self.add(OF_0_1.format(type(given).__name__))
        store: Store = given
        return store

    def store_timeout(self, given: object) -> float:
        """Accept seconds or ``timedelta``, return seconds."""
        bound = seconds(given)
        if bound is None:
            self.add("store_timeout: must be a positive number of seconds or a positive timedelta")
        return bound or STORE_TIMEOUT

    def codec(self, codec: object, seal: object) -> None:
        """Check that a codec can be used, and is not one that needs a seal without having it."""
        if not isinstance(seal, bool):
            self.add("seal: must be True or False")
        if codec is None:
            return
        name = getattr(codec, "name", None)
        if isinstance(codec, type) or not all(callable(getattr(codec, verb, None)) for verb in ("encode", "decode")):
            self.add("codec: must be a codec such as JsonCodec() or MsgspecCodec()")
        elif not (isinstance(name, str) and name.isascii() and 1 <= len(name) <= 32):
            self.add("codec: its name must be 1 to 32 ASCII characters")
        if getattr(codec, "unsafe", False) and seal is False:
            self.add("seal: this codec runs code that it reads, so it needs seal=True")


def _is_of_0_1(store: Any) -> bool:
    """Return whether a store keeps the contract of 0.1: ``live`` was a flag, ``create`` took the record's fields."""
    if isinstance(store.live, bool):
        return True
    try:
        inspect.signature(store.create).bind(b"", None)
    except TypeError:
        return True
    except ValueError:  # compiled, and without a signature
        return False
    return False
