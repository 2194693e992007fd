"""The pytest fixtures that come with the installed package; ``-p no:fastersession`` takes them out.

Rules of residence: fixtures of one line. Each imports what it makes when it is asked for, so that a run without them
pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .browser.browser import Browser
    from .clock import FakeClock
    from .faults import FaultyStore

__all__ = ["fastersession_browser", "fastersession_clock", "fastersession_store"]


@pytest.fixture
def fastersession_clock() -> FakeClock:
    """Return a clock that stands still until ``advance(seconds)``."""
    from .clock import FakeClock

    return FakeClock()


@pytest.fixture
def fastersession_store(fastersession_clock: FakeClock) -> FaultyStore:
    """Return a store with that clock; it behaves like one across a network, and fails on demand."""
    from .faults import FaultyStore

    return FaultyStore(clock=fastersession_clock)


@pytest.fixture
def fastersession_browser() -> Callable[..., Browser]:
    """Return a function that makes a browser in front of an ASGI application, one for each user of a test."""
    from .browser.browser import Browser

    return Browser
