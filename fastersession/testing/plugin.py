"""Fixtures of pytest, there in every test run once the package is installed (``-p no:fastersession`` takes them out).

Rules of residence: fixtures, each a line; what they make is elsewhere, and imported when it is asked for, so that a
run that uses none pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .browser.browser import Browser
    from .clock import FakeClock
    from .faults import FaultyStore

__all__ = ["fastersession_browser", "fastersession_clock", "fastersession_store"]


@pytest.fixture
def fastersession_clock() -> FakeClock:
    """Give a clock that stands still until ``advance(seconds)``."""
    from .clock import FakeClock

    return FakeClock()


@pytest.fixture
def fastersession_store(fastersession_clock: FakeClock) -> FaultyStore:
    """Give a store by that clock, which behaves like one across a network and fails when told."""
    from .faults import FaultyStore

    return FaultyStore(clock=fastersession_clock)


@pytest.fixture
def fastersession_browser() -> Callable[..., Browser]:
    """Give a function that makes a browser in front of an ASGI application: one for each user of a test."""
    from .browser.browser import Browser

    def browser(app: Any, **options: Any) -> Browser:
        return Browser(app, **options)

    return browser
