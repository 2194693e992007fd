"""Frames, heads and ends of runs as the store keeps them.

Rules of residence: values of one run to what is stored, and back. Nothing is asked of a store here.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..engine.packing import Unreadable
from ..events import RunUnreadable
from ..stores.logs import ORIGIN, TERMINAL, Batch, Position, Run
from .frames import size_of
from .tail import Piece, Tail, Terminal
from .values import LiveValues

if TYPE_CHECKING:
    from .keeper import Keeper


class Packed:
    """What makes and reads the values of one run."""

    def __init__(self, keeper: Keeper, run: Run) -> None:
        self.keeper = keeper
        self.run = run
        self._is_live = isinstance(keeper.values, LiveValues)

    def batch(self, last: int, frames: Sequence[Any], size: int) -> Batch:
        """Return frames as they are written. A live store gets the very list, which nobody changes any more.

        :raises Exception: the codec does not keep them.
        """
        position = 1, last
        if self._is_live:
            return Batch(self.run, position, frames, size)
        value, size = self._pack(position, frames)
        return Batch(self.run, position, value, size)

    def head(self, said: dict[str, Any]) -> Any:
        """Return the head of the run; no two are the same."""
        return self._pack(ORIGIN, {**said, "nonce": secrets.token_hex(8)})[0]

    def terminal(self, terminal: Terminal) -> Any:
        """Return the end of the run."""
        return self._pack(TERMINAL, terminal._asdict())[0]

    def read_terminal(self, value: Any) -> Terminal:
        """Return an end that was read; "lost" if it cannot be read."""
        said = self._unpack(TERMINAL, value)
        return Terminal("lost") if said is None else Terminal(said["status"], said["error"], said["frames"])

    def read_head(self, value: Any) -> dict[str, Any]:
        """Return a head that was read; an empty one if it cannot be read."""
        return self._unpack(ORIGIN, value) or {}

    def pieces(self, found: Iterable[tuple[Position, Any]]) -> tuple[list[Piece], Terminal | None]:
        """Return the frames that were read, and the end, if it was."""
        pieces: list[Piece] = []
        for position, value in found:
            if position >= TERMINAL:
                return pieces, self.read_terminal(value)
            if position > ORIGIN:
                frames = self._frames(position, value)
                if frames is not None:
                    pieces.append(frames)
        return pieces, None

    def hear(self, tail: Tail, found: Iterable[tuple[Position, Any]]) -> None:
        """Add to a tail what was read."""
        pieces, terminal = self.pieces(found)
        for piece in pieces:
            if piece.last > tail.last:
                tail.add(piece)
        if terminal is not None:
            tail.end(terminal)

    def _pack(self, position: Position, value: Any) -> tuple[Any, int]:
        return self.keeper.values.pack("run", self.run, position, value)

    def _unpack(self, position: Position, value: Any) -> Any:
        try:
            return self.keeper.values.unpack("run", self.run, position, value)
        except Unreadable:
            self.keeper.events.tell(RunUnreadable(run=self.run.run.hex()))
            return None

    def _frames(self, position: Position, value: Any) -> Piece | None:
        """Return the frames of a batch; ``None`` if they cannot be read."""
        frames = self._unpack(position, value)
        if frames is None:
            return None
        return Piece(position[1] - len(frames) + 1, frames, sum(map(size_of, frames)))
