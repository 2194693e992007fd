"""What is said of a store that cannot be used: where it is, what its driver says, what to do. Never a password.

Rules of residence: text only. No driver and no file.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, quote_plus, urlsplit

ENCODED = "in a user's name and password each of / ? # @ % is written in percent-encoding"
UNREADABLE = f"port, database and timeouts must be numbers, and {ENCODED}"


def shown(url: str) -> str:
    """Return a URL without user, password and options, or where the end of these is in doubt, its scheme."""
    scheme = url.partition("://")[0]
    try:
        parts = urlsplit(url)
        _ = parts.port  # a password without its "@" looks like one
    except ValueError:
        return f"{scheme}://..."
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":  # the password went on behind a "/", "?" or "#"
        return f"{scheme}://..."
    _, at, host = parts.netloc.rpartition("@")
    return f"{scheme}://{'***@' if at else ''}{host}{parts.path}"


def told(error: BaseException, secrets: Iterable[str | None]) -> str:
    """Return an error's words in one line. If it has none, or a secret is among them in any spelling, its class."""
    words = " ".join(str(error).split())
    spellings = {spelt for secret in secrets if secret for spelt in (secret, quote(secret, ""), quote_plus(secret))}
    if not words or any(spelt in words for spelt in spellings):
        return type(error).__name__
    return words


def remedy(words: str, remedies: Mapping[str, str]) -> str:
    """Return the remedy of the first pattern that is found in the words, behind a semicolon, or nothing."""
    return next((f"; {text}" for pattern, text in remedies.items() if re.search(pattern, words)), "")
