"""The public kit's clock, by the name our own tests know.

Rules of residence: no code.
"""

from fastersession.testing import FakeClock

__all__ = ["FakeClock"]
