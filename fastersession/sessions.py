"""The sessions of users, for code outside of a request: jobs, webhooks, pages of administrators.

Rules of residence: arguments and composition. What it does is in ``engine.directory``.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, NoReturn

from .asgi.talking import Talking
from .codecs import Codec
from .config import Faults, Hidden
from .crypto.tags import UserTags
from .engine.calls import Calls
from .engine.directory import Directory, SessionInfo
from .engine.engine import packer_of
from .log import EventLog
from .stores.base import Store

__all__ = ["SessionInfo", "Sessions"]

DEFAULT_NAME = "__Host-sid"  # of the middleware's cookie, where nothing else was given


class Sessions:
    """Lists and ends sessions by user.

    Give it what the middleware has: keys are bound to the cookie's name, sealed values to the codec. In a request,
    ``request.state.session.sessions`` is one already. Nothing that it returns can log in. It asks nobody's leave: an id
    that a client has sent goes to ``revoke`` with ``user=``, never alone.

        async with Sessions(store, secret_key=SECRET) as sessions:
            await sessions.revoke_user("ada")

    :param store: the middleware's, or its URL.
    :param secret_key: the middleware's, all of them.
    :param session_cookie: the name of the middleware's cookie; ``None`` is ``__Host-sid``.
    :param codec: the middleware's.
    :param seal: the middleware's.
    :raises ConfigError: arguments that cannot work, all named in one text.
    """

    def __init__(
        self,
        store: Store | str,
        secret_key: str | bytes | Hidden | Sequence[str | bytes | Hidden] | None = None,
        *,
        session_cookie: str | None = None,
        codec: Codec | None = None,
        seal: bool = True,
    ) -> None:
        faults = Faults()
        keys = faults.secret_keys(secret_key)
        del secret_key  # no traceback from here on can show it
        name = session_cookie or DEFAULT_NAME
        given = faults.store(store)
        del store  # it may be a URL with a password
        faults.codec(codec, seal)
        if given is None:
            faults.add("store: give the middleware's store, or its URL")
        faults.settle()
        assert given is not None  # noqa: S101 - or settle() has raised
        packer = packer_of(given, codec, keys, name, seal=seal)
        events = EventLog(logging.getLogger("fastersession"))
        self._calls = Calls(given, events, 1.0)
        self._directory = Directory(self._calls, packer, UserTags(keys, name))
        self._directory.on_revoked.append(Talking(self._calls, keys, codec, events, None, seal=seal).stop_all)

    async def of(self, user: str) -> list[SessionInfo]:
        """Return the live sessions of a user, the last used first, at most a thousand.

        :raises StoreError: the store failed.
        """
        return await self._directory.of(user)

    async def get(self, session_id: str) -> SessionInfo | None:
        """Return a session, a guest's too; ``None`` if there is none, or it cannot be read.

        :raises StoreError: the store failed.
        """
        return await self._directory.get(session_id)

    async def attributes(self, session_id: str) -> Mapping[str, Any] | None:
        """Return what is in a session; ``None`` if there is none, or it cannot be read.

        :raises StoreError: the store failed.
        """
        return await self._directory.attributes(session_id)

    async def page(self, after: bytes | None = None, count: int = 100) -> tuple[list[SessionInfo], bytes | None]:
        """Return live sessions, anybody's, about ``count``, and where the next page begins, ``None`` at the end.

        Each session that lives through all pages is on one at least. A guest's ``user`` is ``None``.

        :param after: where the page before has ended.
        :raises StoreError: the store failed.
        """
        return await self._directory.page(after, count)

    async def revoke(self, session_id: str, user: str | None = None) -> bool:
        """End a session. Return whether it was alive, and the user's if one is given.

        :param session_id: 32 hexadecimal digits; anything else is no session's.
        :raises StoreError: the store failed.
        """
        return await self._directory.revoke(session_id, user)

    async def revoke_user(self, user: str, keep: str | None = None) -> int:
        """End all sessions of a user, but the one whose id is ``keep``. Return how many that were.

        When it has returned, no session of the user whose authentication was before the call opens anything, in any
        worker; a login during the call may go either way, and one after it works at once. Up to the difference of the
        workers' clocks. (OWASP ASVS 5.0, 7.4.2 and 7.4.3.)

        :raises StoreError: the store failed: call it again, it goes on where it stopped.
        """
        return await self._directory.revoke_user(user, keep)

    async def close(self) -> None:
        """Close the store."""
        await self._calls.close()

    async def __aenter__(self) -> Sessions:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<Sessions of {type(self._calls.store).__name__}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("Sessions has the keys: it cannot be pickled, make one where it is needed")
