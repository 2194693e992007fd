"""What collects the faults of arguments, and tells them all at once.

Rules of residence: faults, warnings, the environment; and the checks that know no subject. A fault names the argument,
what is wrong and the remedy, never the value of a secret.
"""

from __future__ import annotations

import logging
import os
import warnings

from ..errors import ConfigError
from ..events import TakenFromEnvironment
from ..log import EventLog


class Collector:
    """Collects what is wrong with the arguments; each check returns the usable value, or a harmless one.

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

    def warn(self, warning: Warning) -> None:
        """Note a warning, to be given if there are no faults."""
        self._warnings.append(warning)

    def variable(self, argument: str, name: str) -> str | None:
        """Return an environment variable that stands for an argument; an empty one is none."""
        value = os.environ.get(name)
        if value:
            self.taken.append((argument, name))
        return value or None

    def tell_taken(self, events: EventLog) -> None:
        """Tell which arguments came from the environment."""
        for argument, variable in self.taken:
            events.tell(TakenFromEnvironment(argument=argument, variable=variable))

    def names(self, **given: object) -> None:
        """Check that each value is a usable key."""
        for argument, value in given.items():
            if not isinstance(value, str) or not value:
                self.add(f"{argument}: must be a non-empty str")

    def application(self, given: object) -> None:
        """Check that it can be called."""
        if not callable(given):
            self.add("app: must be an ASGI application")

    def logger(self, given: object) -> logging.Logger:
        """Accept a logger. An adapter would replace the ``extra`` that events are made of."""
        if isinstance(given, logging.Logger):
            return given
        self.add("logger: must be a logging.Logger")
        return logging.getLogger("fastersession")
