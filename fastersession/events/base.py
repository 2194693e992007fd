"""What an event is.

Rules of residence: what all events share. The rules for them are those of the package.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from logging import DEBUG, WARNING
from typing import ClassVar, dataclass_transform


@dataclass_transform(frozen_default=True)
class _Told:
    """What makes each class below it a frozen dataclass. ``name`` and ``level`` are inherited where not given."""

    name: ClassVar[str] = ""
    level: ClassVar[int] = 0

    def __init_subclass__(cls, name: str = "", level: int = 0) -> None:
        cls.name, cls.level = name or cls.name, level or cls.level
        dataclass(frozen=True)(cls)


class Event(_Told):
    """Something that whoever runs the service may want to know. A text names the fields that it shows."""

    text: ClassVar[str]
    once: ClassVar[bool] = False  # one line is enough in the life of a middleware
    hostile: ClassVar[bool] = False  # anybody on the network can cause it: a few a minute are told

    record_id: bytes | None = None  # of the session, if there is one

    def said(self) -> str:
        """Return the text."""
        return self.text % asdict(self)


class Once(Event, level=WARNING):
    """One that is told once."""

    once = True


class Hostile(Event, level=DEBUG):
    """One that anybody on the network can cause."""

    hostile = True
