"""A session middleware of forty lines, right by default, with a flag for each fault that a check must find.

Rules of residence: what the tests of the kit share; knows nothing of the package.
"""

from __future__ import annotations

import json
import secrets
from typing import Any

GONE = b"id=; Path=/; Max-Age=0"


class NaiveSessions:
    """Sessions as JSON in a dict, under a random id in the cookie ``id``. ``faults`` are the names of what is wrong."""

    def __init__(self, app: Any, *faults: str) -> None:
        self.app, self.faults = app, frozenset(faults)
        self.store: dict[str, str] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        fields = b"; ".join(value for name, value in scope["headers"] if name == b"cookie")
        pairs = [part.strip().partition(b"=") for part in fields.split(b";")]
        asked = next((value.decode("latin-1") for name, _, value in pairs if name == b"id"), "")
        if "one for all" in self.faults:
            asked = next(iter(self.store), "")
        known = asked if asked in self.store else None
        session: dict[str, Any] = json.loads(self.store[known]) if known else {}
        ids = [known]

        async def sending(message: Any) -> None:
            if message["type"] != "http.response.start":
                if message["type"] == "http.response.body":
                    self.save(ids[0], session)
                    if "loud" in self.faults:
                        message = {**message, "body": message.get("body", b"").upper()}
                await send(message)
                return
            lines = self.start(ids, session, asked)
            headers = message.get("headers") or []
            if "in place" in self.faults and isinstance(headers, list):
                headers.extend(lines)
            elif "drops" in self.faults:
                headers = lines
            else:
                headers = [*headers, *lines]
            await send({**message, "headers": headers})

        try:
            await self.app({**scope, "session": session}, receive, sending)
        except Exception:
            if "silent" not in self.faults:
                raise
        finally:
            self.save(ids[0], session)
        if "raises" in self.faults and session:
            raise RuntimeError("the session was too beautiful")
        return None

    def start(self, ids: list[str | None], session: dict[str, Any], asked: str) -> list[tuple[bytes, bytes]]:
        """Save at the start, and return the Set-Cookie headers."""
        if ids[0] and not session:
            if "undead" not in self.faults:
                self.store.pop(ids[0], None)
            ids[0] = None
            return [(b"set-cookie", GONE)]
        if asked and not ids[0] and not session and "clears" in self.faults:
            return [(b"set-cookie", GONE)]
        new = ids[0] is None and (bool(session) or "eager" in self.faults)
        if new:
            ids[0] = secrets.token_hex(16)
            self.store[ids[0]] = "{}"
        self.save(ids[0], session, start=True)
        line = (b"set-cookie", f"id={ids[0]}; Path=/".encode())
        return [line] * (2 if "twice" in self.faults else 1) if new else []

    def save(self, key: str | None, session: dict[str, Any], *, start: bool = False) -> None:
        """Write what is there now; a session that has ended stays so."""
        if key is None or ("early" in self.faults and not start):
            return
        if key in self.store or "upsert" in self.faults:
            self.store[key] = json.dumps(session)
