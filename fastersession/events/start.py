"""What is told at the start.

Rules of residence: as for all events, see ``base``.
"""

from __future__ import annotations

from logging import INFO

from .base import Event


class TakenFromEnvironment(Event, name="config.environment", level=INFO):
    """An argument that was not given stood in the environment."""

    text = "%(argument)s was taken from the environment variable %(variable)s"
    argument: str = ""
    variable: str = ""


class LifespanUnknown(Event, name="lifespan.unknown", level=INFO):
    """The application refuses the lifespan protocol, so it is answered for it."""

    text = "the application knows no lifespan: %(refusal)s"
    refusal: str = ""
