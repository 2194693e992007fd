"""What is said of a store that cannot be used, by itself: where it is, what its driver says, what to do."""

from __future__ import annotations

import pytest

from fastersession.stores.words import remedy, shown, told


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host:6379/0", "redis://host:6379/0"),
        ("redis://user:word@host:6379/0?ssl=1#x", "redis://***@host:6379/0"),
        ("redis://us@er:word@host/0", "redis://***@host/0"),
        ("redis://user:wo/rd@host/0", "redis://..."),
        ("redis://user:wo?rd@host/0", "redis://..."),
        ("redis://user:wo#rd@host/0", "redis://..."),
        ("redis://user:word", "redis://..."),
        ("redis://host:word/a://b", "redis://..."),
    ],
)
def test_a_url_is_shown_without_what_may_be_a_password(url: str, expected: str) -> None:
    """Nothing but the scheme where nobody can tell where the password ends."""
    assert shown(url) == expected


@pytest.mark.parametrize(
    ("words", "secrets", "expected"),
    [
        ("no\n  route", ["word", None, ""], "no route"),
        ("no route", [], "no route"),
        ("", [], "OSError"),
        ("for a/b c", ["a/b c"], "OSError"),
        ("for a%2Fb%20c", ["other", "a/b c"], "OSError"),
        ("for a%2Fb+c", ["a/b c"], "OSError"),
    ],
)
def test_an_errors_words_are_told_in_one_line(words: str, secrets: list[str | None], expected: str) -> None:
    """Its class instead, if it has none, or if a secret is among them, however it is written."""
    assert told(OSError(words), secrets) == expected


def test_a_remedy_is_the_first_that_fits() -> None:
    """Behind a semicolon; where none is known, nothing."""
    remedies = {"refused$": "start it", "refused": "wait", "gone": "look"}
    assert remedy("was refused", remedies) == "; start it"
    assert remedy("refused it", remedies) == "; wait"
    assert remedy("odd", remedies) == ""
