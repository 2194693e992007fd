"""Which run the code that asks belongs to.

Rules of residence: one context variable, and the question.
"""

from __future__ import annotations

from contextvars import ContextVar

from ..stores.logs import Run

CURRENT_RUN: ContextVar[Run | None] = ContextVar("fastersession.run", default=None)


def current_run(log: bytes) -> bytes | None:
    """Return the id of the run in whose generator this is called, if it is one of this log."""
    run = CURRENT_RUN.get()
    return run.run if run is not None and run.log.log == log else None
