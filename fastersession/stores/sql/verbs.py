"""The verbs of ``UserStore`` as ``SQLStore`` has them.

Rules of residence: coroutines over ``Users``; what goes alone, and in whose line. Statements are in ``users``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from sqlalchemy.engine import Connection

from ...errors import StoreError
from ..base import Record
from ..users import CLAIMED, Ended, Login, LoginOutcome, NotConfirmed, Outcome
from .claims import Claims
from .engine import Engines
from .mysql import MySQL
from .postgresql import PostgreSQL
from .records import Write
from .statements import nobodys
from .traffic import Traffic
from .users import Attempt, Users

LOOK_SECONDS = 60.0  # between looks at what expires in the running hour: most of it does later


class UserVerbs:
    """What ``SQLStore`` knows of users. Each verb goes alone, and those of one record in the order of their calls."""

    clock: Callable[[], float]
    _engines: Engines[Traffic]
    _database: PostgreSQL | MySQL
    _users: Users
    _claims: Claims
    _looked: float | None = None  # when the running hour was last looked at

    async def delete(self, record_id: bytes, reason: str = "invalidated") -> bool:
        work = partial(self._users.delete, parameters=self._at(record_id), reason=reason)
        return bool(await self._engines.here().alone(record_id, Write(work)))

    async def login(self, record_id: bytes, verifier: bytes | None, login: Login) -> LoginOutcome:
        """Log in, in one transaction."""
        attempt, new = Attempt(), login.record.verifier
        given: Any = {"record_id": record_id, "verifier": verifier, "login": login, "clock": self.clock}
        work = partial(self._users.login, **given, attempt=attempt)

        def found(connection: Connection) -> LoginOutcome | None:
            is_ours = self._found(record_id, new, connection)
            return LoginOutcome(Outcome.DONE, attempt.evicted) if is_ours else None

        try:
            outcome = await self._engines.here().alone(record_id, Write(work, found))
        except StoreError as error:
            if verifier is not None or not attempt.is_unheard:
                raise
            unknown = NotConfirmed("the answer to the commit was lost")
            unknown.__cause__ = error.__cause__
            raise StoreError(*error.args) from unknown
        return LoginOutcome(Outcome.ABSENT) if outcome is None else outcome

    async def retire(self, record_id: bytes, verifier: bytes, until: float) -> bool:
        new = nobodys(verifier)
        work = partial(
            self._users.retire, parameters=self._own(record_id, verifier, new_verifier=new, until=float(until))
        )
        return bool(await self._engines.here().alone(record_id, Write(work, partial(self._found, record_id, new))))

    async def find(self, tags: Sequence[bytes]) -> list[tuple[bytes, Record]]:
        """Read, in one round trip."""
        work = partial(self._users.find, tags=tags, now=float(self.clock()))
        return (await self._engines.here().do(work)).records()

    async def revoke(self, tags: Sequence[bytes], keep: bytes | None, at: float) -> list[bytes]:
        """End them, in one transaction."""
        work = partial(self._users.revoke, tags=tags, keep=keep, at=float(at), now=float(self.clock()))
        return await self._engines.here().do(work)

    async def ended(self, record_ids: Sequence[bytes]) -> Mapping[bytes, str]:
        """Read, in one round trip."""
        if not record_ids:
            return {}
        work = partial(self._claims.ended, record_ids=record_ids, now=float(self.clock()))
        return await self._engines.here().do(work)

    async def take(self, record_id: bytes, verifier: bytes, prefix: str) -> dict[str, Any]:
        given: Any = {"record_id": record_id, "verifier": verifier, "prefix": prefix, "now": float(self.clock())}
        taken: dict[str, Any] = await self._engines.here().alone(record_id, Write(partial(self._users.take, **given)))
        return taken

    async def page(self, after: bytes | None, count: int) -> tuple[list[tuple[bytes, Record]], bytes | None]:
        """Read, in one round trip."""
        work = partial(self._users.page, after=after or b"", count=count, now=float(self.clock()))
        found = (await self._engines.here().do(work)).records()
        return found, found[-1][0] if len(found) == count else None

    async def due(self, first: bytes | None = None) -> list[Ended]:
        """Claim. What was ended is found at once, and what expired in a past hour; the rest once a minute."""
        now = float(self.clock())
        hour, looks = int(now // 3600) - 1, self._looked is None or not 0 <= now - self._looked < LOOK_SECONDS
        work = partial(self._claims.due, now=now, hour=hour + looks, first=first)
        claimed = await self._engines.here().do(work)
        if looks and len(claimed) < CLAIMED:
            self._looked = now
        return claimed

    async def settle(self, record_id: bytes) -> None:
        work = partial(self._claims.settle, parameters=self._at(record_id))
        await self._engines.here().alone(record_id, Write(work))

    # --- parameters ---

    def _at(self, record_id: bytes) -> dict[str, Any]:
        return {"id": record_id, "now": float(self.clock())}

    def _own(self, record_id: bytes, verifier: bytes, **more: Any) -> dict[str, Any]:
        return {"id": record_id, "now": float(self.clock()), "verifier": verifier, **more}

    def _found(self, record_id: bytes, verifier: bytes, connection: Connection) -> bool:
        found = self._database.load(connection, record_id, float(self.clock()))
        return found.verifier(record_id) == verifier
