"""The secret keys, which may be hidden, several, and weak.

Rules of residence: what is one key, and how good it looks. Whatever holds a key is dropped as soon as it was read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Protocol

from ..crypto.tokens import Secret
from ..errors import InsecureSecretKeyWarning
from .faults import Collector

MAX_KEYS = 4  # the current one and three rotations; each is tried at most once per cookie
SHORT_KEY = 32  # characters: 128 bits even as hex digits
KEY_VARIABLE = "FASTERSESSION_SECRET"
PLACEHOLDERS = re.compile(
    r"(?i)your[-_ ]?(session[-_ ]?)?secret|change[-_ ]?(me|this|it)|insecure|placeholder|password|"
    r"super[-_ ]?secret|secret[-_ ]?key|0123456789|(?P<same>.)(?P=same){15}"
)


class Hidden(Protocol):
    """A text that its ``repr`` does not show, as Starlette's ``Secret`` and pydantic's ``SecretStr`` are.

    Type checkers take anything for one, for these two have nothing else in common; what it is, is checked at run time.
    """

    def __str__(self) -> str: ...


class Keys(Collector):
    """Checks the keys."""

    def secret_keys(self, given: object) -> list[Secret]:
        """Accept what is one key, or a sequence of up to four; none of what is wrong comes back."""
        if given is None:
            given = self.variable("secret_key", KEY_VARIABLE)
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
            self.warn(InsecureSecretKeyWarning(text))
        return [Secret(key) for key in encoded]


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


def _weak(key: bytes) -> bool:
    return len(key.decode("utf-8", "replace")) < SHORT_KEY or PLACEHOLDERS.search(key.decode("latin-1")) is not None
