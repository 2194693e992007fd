"""The leases of the runs that are produced here, and what has become of them elsewhere.

Rules of residence: one call a second for all of them, and only while there are any.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from ..errors import FasterSessionError
from ..stores.logs import Run
from .own import OwnRun

LEASE_SECONDS = 10.0  # how long a crash holds up the turn
RENEW_SECONDS = 1.0


class Leases:
    """Renews leases, and tells runs that they have ended elsewhere. A run may stand still for longer than its lease.

    :param own: the runs that are produced here.
    :param begin: begins a task.
    """

    def __init__(self, own: dict[Run, OwnRun], begin: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]]) -> None:
        self._own = own
        self._begin = begin
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Begin, if there is anything to renew and nobody does."""
        if self._task is None or self._task.done():
            self._task = self._begin(self._renew())

    def rest(self) -> None:
        """Renew no more, if there is nothing to renew."""
        if not self._own and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _renew(self) -> None:
        while self._own:
            await asyncio.sleep(RENEW_SECONDS)
            await self.renew()

    async def renew(self) -> None:
        """Renew all leases once."""
        now = asyncio.get_running_loop().time()
        own = dict(self._own)
        for one in own.values():
            one.look(now)
        if not own:
            return
        keeper = next(iter(own.values())).keeper
        try:
            ended = await keeper.call("renew", list(own), LEASE_SECONDS)
        except FasterSessionError:
            return
        for run in ended:
            own[run].pump.fence()
