"""Events of runs.

Rules of residence: what concerns a run of a conversation, and not a session. A run is named by its id.
"""

from __future__ import annotations

from logging import ERROR, WARNING

from .base import Event


class RunFailed(Event, name="run.failed", level=ERROR):
    """The producer of a run has raised; clients are told the name of the class."""

    text = "run %(run)s: its producer has failed: %(error)s"
    run: str = ""
    error: str = ""


class RunStuck(Event, name="run.stuck", level=WARNING):
    """The producer of a run was told to end, and goes on."""

    text = "run %(run)s: its producer has not ended within %(seconds)s s of being cancelled, and is left behind"
    run: str = ""
    seconds: int = 0


class RunUnlogged(Event, name="run.unlogged", level=WARNING):
    """The store has been away for a while, so readers of this process get frames that it does not have."""

    text = "run %(run)s: the store has not answered for %(seconds)s s: readers get frames that cannot be resumed from"
    run: str = ""
    seconds: int = 0


class RunUnreadable(Event, name="run.unreadable", level=WARNING):
    """Frames, a head or an end that this process cannot read: another key, another codec, or foreign bytes."""

    text = "run %(run)s: something of it cannot be read, and is left out"
    run: str = ""


class FoldFailed(Event, name="run.fold_failed", level=ERROR):
    """The answer of a run could not be made of its frames, or not be kept: it is not in the history."""

    text = "run %(run)s: its answer is not in the history: %(error)s"
    run: str = ""
    error: str = ""
