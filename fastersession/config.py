"""Validation of the middleware's arguments, all faults at once.

Rules of residence: from what the user gave to what the middleware uses. A fault names the argument, what is wrong
and the remedy, never the value of a secret.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Protocol

from .asgi.cookies import CookiePolicy
from .asgi.headers import normal_origin
from .crypto.tokens import Secret
from .engine.calls import STORE_SECONDS as STORE_TIMEOUT
from .errors import ConfigError, InsecureCookieWarning, InsecureSecretKeyWarning, LifetimeWarning
from .session import seconds
from .stores import from_url
from .stores.base import Store

__all__ = ["IDLE_TIMEOUT", "LIFETIME", "STORE_TIMEOUT", "Faults", "Hidden", "default_cookie_name"]

MAX_KEYS = 4  # the current one and three rotations; each is tried at most once per cookie
SHORT_KEY = 32  # characters: 128 bits even as hex digits
IDLE_TIMEOUT = timedelta(hours=12)  # recognised by identity: only what was not given may follow max_age
LIFETIME = timedelta(days=7)
KEY_VARIABLE = "FASTERSESSION_SECRET"
STORE_VARIABLE = "FASTERSESSION_STORE"
PLACEHOLDERS = re.compile(
    r"(?i)your[-_ ]?(session[-_ ]?)?secret|change[-_ ]?(me|this|it)|insecure|placeholder|password|"
    r"super[-_ ]?secret|secret[-_ ]?key|0123456789|(?P<same>.)(?P=same){15}"
)
STORE_MEMBERS = ("live", "clock", "open", "close", "load", "create", "update", "touch", "delete", "regenerate", "purge")
OF_0_1 = (
    "store: {} was written for fastersession 0.1. Give it `live = None`, for its verbs are coroutines, and let "
    "`create(record_id, record)` take the new record whole and return True, or False if the id is taken; CHANGELOG.md "
    "shows both"
)
HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.1


class Hidden(Protocol):
    """A text that its ``repr`` does not show, as Starlette's ``Secret`` and pydantic's ``SecretStr`` are.

    Type checkers take anything for one, for these two have nothing else in common; what it is, is checked at run time.
    """

    def __str__(self) -> str: ...


class Faults:
    """Collects what is wrong with the arguments; each method returns the usable value, or a harmless one.

    ``taken`` names the arguments that came from the environment, with their variables.
    """

    def __init__(self) -> None:
        self.taken: list[tuple[str, str]] = []
        self._faults: list[str] = []
        self._warnings: list[Warning] = []

    def add(self, *faults: str) -> None:
        """Note faults, each starting with the argument's name."""
        self._faults += faults

    def settle(self) -> None:
        """Raise all faults in one ``ConfigError``, each on a line of its own; give the warnings if there are none."""
        if len(self._faults) == 1:
            raise ConfigError(self._faults[0])
        if self._faults:
            raise ConfigError("\n  ".join([f"{len(self._faults)} faults:", *self._faults]))
        for warning in self._warnings:
            warnings.warn(warning, stacklevel=3)

    def secret_keys(self, given: object) -> list[Secret]:
        """Accept what is one key, or a sequence of up to four; none of what is wrong comes back."""
        if given is None:
            given = self._variable("secret_key", KEY_VARIABLE)
        if given is None:
            self.add(f"secret_key: give one, or set {KEY_VARIABLE}; `python -m fastersession keygen` makes one")
            return []
        several = isinstance(given, Sequence) and not isinstance(given, str | bytes | bytearray | memoryview)
        keys: list[Any] = list(map(_revealed, given)) if several else [_revealed(given)]  # type: ignore[call-overload]
        if not 1 <= len(keys) <= MAX_KEYS:
            self.add(f"secret_key: give one to {MAX_KEYS} keys, the signing one first")
            return []
        encoded = [key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key for key in keys]
        wrong = [key for key in encoded if not (isinstance(key, bytes) and key)]
        if wrong:
            named = "an empty one" if isinstance(wrong[0], bytes) else _class_of(wrong[0])
            self.add(
                "secret_key: each key must be a non-empty str or bytes, or a Secret or SecretStr of one, "
                f"not {named}; `python -m fastersession keygen` makes one"
            )
            return []
        if any(_weak(key) for key in encoded):
            text = "secret_key is short or a placeholder: make one with `python -m fastersession keygen`"
            self._warnings.append(InsecureSecretKeyWarning(text))
        return [Secret(key) for key in encoded]

    def cookie(self, policy: CookiePolicy) -> CookiePolicy:
        """Check a cookie policy."""
        self.add(*policy.faults())
        if policy.http_only is False:
            text = "http_only=False: any script on the page can read the session's token"
            self._warnings.append(InsecureCookieWarning(text))
        cross_site = isinstance(policy.same_site, str) and policy.same_site.lower() == "none"
        if cross_site and policy.secure is False:
            text = "same_site='none' without secure=True: browsers refuse the cookie"
            self._warnings.append(InsecureCookieWarning(text))
        if policy.partitioned is True and not cross_site:
            text = "partitioned=True without same_site='none': no browser sends the cookie in a frame of another site"
            self._warnings.append(InsecureCookieWarning(text))
        return policy

    def durations(self, idle_timeout: object, lifetime: object, max_age: object) -> tuple[float, float | None]:
        """Accept seconds or ``timedelta``, return seconds; a default is at least ``max_age``."""
        age = max_age if isinstance(max_age, int) else 0
        idle, life = seconds(idle_timeout), seconds(lifetime)
        if idle is None:
            self.add("idle_timeout: must be a positive number of seconds or a positive timedelta")
            idle = 1.0
        if life is None and lifetime is not None:
            self.add("lifetime: must be a positive number of seconds, a positive timedelta, or None for unbounded")
        idle = max(idle, age) if idle_timeout is IDLE_TIMEOUT else idle
        life = max(life, age) if life is not None and lifetime is LIFETIME else life
        short = [name for name, value in (("idle_timeout", idle), ("lifetime", life)) if value and value < age]
        if short:
            text = f"{' and '.join(short)}: shorter than max_age={age}, so sessions end before their cookie does"
            self._warnings.append(LifetimeWarning(text))
        return idle, life

    def store_timeout(self, given: object) -> float:
        """Accept seconds or ``timedelta``, return seconds."""
        bound = seconds(given)
        if bound is None:
            self.add("store_timeout: must be a positive number of seconds or a positive timedelta")
        return bound or STORE_TIMEOUT

    def skip_headers(self, given: object) -> tuple[tuple[bytes, bytes | None], ...]:
        """Accept a dict or list of dicts with ``header_name`` and ``header_value``; ``"*"`` becomes ``None``."""
        entries = [] if given is None else [given] if isinstance(given, Mapping) else given
        if not isinstance(entries, list | tuple) or not all(map(_is_skip_entry, entries)):
            form = '{"header_name": "...", "header_value": "..."}'
            self.add(f"skip_session_header: must be a dict {form} with an RFC 9110 field name, or a list of them")
            return ()
        return tuple(
            (entry["header_name"].lower().encode(),
             None if entry["header_value"] == "*" else entry["header_value"].encode("latin-1"))
            for entry in entries
        )  # fmt: skip

    def exclude(self, given: object) -> tuple[frozenset[str], tuple[str, ...]]:
        """Accept paths, and prefixes that end in ``*``; return (paths, prefixes)."""
        listed = isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)
        paths: list[Any] = list(given) if listed else [given]  # type: ignore[call-overload]
        if not all(isinstance(path, str) and path.startswith("/") and "*" not in path[:-1] for path in paths):
            self.add("exclude: must be a sequence of paths that start with '/', '*' standing only at the end")
            return frozenset(), ()
        return (
            frozenset(path for path in paths if not path.endswith("*")),
            tuple(path[:-1] for path in paths if path.endswith("*")),
        )

    def origins(self, given: object) -> frozenset[tuple[str, str]]:
        """Accept exact origins, ``scheme://host[:port]``."""
        origins = list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes) else [given]
        normal = [normal_origin(origin) if isinstance(origin, str) else None for origin in origins]
        if None in normal:
            self.add("allowed_origins: must be a sequence of exact origins like 'https://app.example.org'")
        return frozenset(origin for origin in normal if origin is not None)

    def names(self, **given: object) -> None:
        """Check that each value is a usable key."""
        for argument, value in given.items():
            if not isinstance(value, str) or not value:
                self.add(f"{argument}: must be a non-empty str")

    def application(self, given: object) -> None:
        """Check that it can be called."""
        if not callable(given):
            self.add("app: must be an ASGI application")

    def store(self, given: Any) -> Store | None:
        """Accept a store or a URL, not a class of stores or something else; ``None`` for none, here and outside."""
        named = "store"
        if given is None:
            given, named = self._variable("store", STORE_VARIABLE), STORE_VARIABLE
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

    def _variable(self, argument: str, name: str) -> str | None:
        """Return an environment variable that stands for an argument; an empty one is none."""
        value = os.environ.get(name)
        if value:
            self.taken.append((argument, name))
        return value or None

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

    def logger(self, given: object) -> logging.Logger:
        """Accept a logger. An adapter would replace the ``extra`` that events are made of."""
        if isinstance(given, logging.Logger):
            return given
        self.add("logger: must be a logging.Logger")
        return logging.getLogger("fastersession")


def _revealed(key: Any) -> Any:
    """Return the text that a wrapper hides from its ``repr``; anything else as it is.

    A text that the ``repr`` shows is no secret: a path, or a UUID that should be given as ``str``.
    """
    if isinstance(key, str | bytes | type):
        return key
    reveal = getattr(key, "get_secret_value", None)
    if callable(reveal):
        return reveal()
    text = str(key)
    return key if text and text in repr(key) else text


def _class_of(value: object) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"an object of class {type(value).__name__}"


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


def _weak(key: bytes) -> bool:
    return len(key.decode("utf-8", "replace")) < SHORT_KEY or PLACEHOLDERS.search(key.decode("latin-1")) is not None


def _is_skip_entry(entry: Any) -> bool:
    if not isinstance(entry, Mapping) or set(entry) != {"header_name", "header_value"}:
        return False
    name, value = entry["header_name"], entry["header_value"]
    return (
        isinstance(name, str)
        and HEADER_NAME.fullmatch(name) is not None
        and isinstance(value, str)
        and value.isprintable()
        and value.isascii()
    )


def default_cookie_name(given: str | None, *, secure: bool, path: str, domain: str | None) -> str:
    """Return the given name, or the one with the strongest prefix that the other attributes allow."""
    if given is not None:
        return given
    return "__Host-sid" if secure and path == "/" and domain is None else "sid"
