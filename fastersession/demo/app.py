"""The chat as a raw ASGI application: no framework, a plain dict at ``scope["session"]``.

Rules of residence: the routes, and what they do with the session. `wire` has the bytes of HTTP, a `Model` gives the
answers. Only `create_app`, which puts the middleware around the chat, knows of cookies and stores.
"""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from importlib import resources
from time import monotonic
from typing import Any

from fastersession import FasterSessionMiddleware, MemoryStore, StoreError
from fastersession.demo import account, wire
from fastersession.demo.model import Model, ModelError, Turn
from fastersession.demo.wire import Receive, Scope, Send

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

# Characters, as the page counts them: a question, not a book, and in any script below `wire.MAX_BODY`.
MAX_QUESTION = 16_000
# Another tab is at most so far behind, and a killed server loses so much of an answer.
SAVE_SECONDS = 0.5

_FILES = {
    "/": ("page.html", b"text/html; charset=utf-8"),
    "/chat.css": ("chat.css", b"text/css; charset=utf-8"),
    "/chat.js": ("chat.js", b"text/javascript; charset=utf-8"),
    "/account.js": ("account.js", b"text/javascript; charset=utf-8"),
}


def create_app(
    model: Model, *, store: Any = None, secret_key: str | None = None, closing: asyncio.Event | None = None
) -> FasterSessionMiddleware:
    """Return the chat with sessions. Without a store or a key, no session outlives the process.

    :param closing: stops all answers when it is set, as if each reader had stopped his own.
    """
    return FasterSessionMiddleware(
        Chat(model, closing or asyncio.Event()),
        secret_key=secret_key or secrets.token_urlsafe(32),
        store=MemoryStore() if store is None else store,
        secure=False,  # for plain http on localhost, from where Safari takes no Secure cookie
    )


class Chat:
    """Keeps each `Turn` of a conversation as an attribute of its own (`_add`). It runs in one process."""

    def __init__(self, model: Model, closing: asyncio.Event) -> None:
        self._model, self._closing = model, closing
        self._running: set[str] = set()  # the turns that are being answered
        self._routes: dict[str, dict[str, Handler]] = {
            "/history": {"GET": self._history},
            "/chat": {"POST": self._chat},
            "/new": {"POST": self._new},
            "/login": {"POST": account.login},
            "/logout": {"POST": account.logout},
            "/logout-device": {"POST": account.logout_device},
            "/logout-everywhere": {"POST": account.logout_everywhere},
        }
        for path, (name, content_type) in _FILES.items():
            self._routes[path] = {"GET": _file(name, content_type)}

    # Any: the TypedDicts that asgiref types a scope with have no ``session``.
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        match scope["type"]:
            case "http":
                await self._http(scope, receive, send)
            case "lifespan":
                await _lifespan(receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._handler(scope)(scope, receive, send)
        except wire.RefusedError as refused:
            await wire.reply_json(send, refused.status, {"error": refused.message}, *refused.headers)
        except wire.ClientLeftError:
            pass

    def _handler(self, scope: Scope) -> Handler:
        methods = self._routes.get(scope["path"])
        if methods is None:
            raise wire.RefusedError(404, "There is nothing here.")
        handler = methods.get("GET" if scope["method"] == "HEAD" else scope["method"])
        if handler is None:
            allowed = ", ".join(methods)
            raise wire.RefusedError(405, f"Only {allowed} here.", (b"allow", allowed.encode()))
        return handler

    async def _history(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with what the page shows. Reading makes no session."""
        session = scope["session"]
        panel = None if session.is_new else _panel(session)
        turns = [self._as_it_is(name, session[name]) for name in sorted(session)]
        told = {"model": self._model.name, "turns": turns, "session": panel, **await account.told(scope)}
        await wire.reply_json(send, 200, told)

    def _as_it_is(self, name: str, turn: Turn) -> Turn:
        """Return the turn as it is now: one whose server was killed is stopped."""
        if turn["status"] == "running" and name not in self._running:
            return {**turn, "status": "stopped"}
        return turn

    async def _new(self, scope: Scope, receive: Receive, send: Send) -> None:
        """End the session, with all that runs on it. A guest's cookie is cleared, a user gets another."""
        await wire.read_json(scope, receive)
        account.begin_anew(scope["session"])
        await wire.reply_json(send, 200, {})

    async def _chat(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a question as a stream of events, and keep what was said however the stream ends."""
        question = (await wire.read_json(scope, receive)).get("message")
        if not isinstance(question, str) or not question.strip():
            raise wire.RefusedError(400, "The message is empty.")
        if len(question.strip()) > MAX_QUESTION:
            raise wire.RefusedError(413, f"The message is longer than {MAX_QUESTION:,} characters.")
        turn: Turn = {"question": question.strip(), "answer": "", "status": "running", "error": ""}
        # Before the response starts, the question makes the record, whose cookie leaves with the headers. All that
        # follows changes this dict in place.
        session = scope["session"]
        name = _add(session, turn)
        self._running.add(name)
        try:
            await send(wire.start(200, b"text/event-stream; charset=utf-8", (b"cache-control", b"no-store")))
            await send(wire.event("session", _panel(session)))
            # A logout elsewhere stops the model, within two seconds on any store, and the page hears of it.
            stops = self._closing.wait(), session.ended
            if not await wire.while_connected(receive, self._answer(session, turn, send), *stops):
                return
            ending = {"status": turn["status"], "error": turn["error"], "session": _panel(session)}
            await send(wire.event("end", ending))
            await send({"type": "http.response.body"})  # the turn is saved before this leaves
        finally:
            self._running.discard(name)

    async def _answer(self, session: Any, turn: Turn, send: Send) -> None:
        """Fill ``turn``, and stream it. The end of the request saves it."""
        saved = monotonic()
        try:
            async with aclosing(self._model.answer(_turns(session))) as pieces:
                async for piece in pieces:
                    turn["answer"] += piece
                    await send(wire.event("token", piece))
                    saved = await _save_now_and_then(session, saved)
            turn["status"] = "done"
        except ModelError as error:
            turn["status"], turn["error"] = "error", str(error)
        except Exception:
            turn["status"], turn["error"] = "error", "The model failed unexpectedly."
            raise
        finally:
            if turn["status"] == "running":
                turn["status"] = "stopped"


async def _save_now_and_then(session: Any, saved: float) -> float:
    """Save the answer for other tabs if the last save is long ago; return the time of the last save."""
    if monotonic() - saved < SAVE_SECONDS:
        return saved
    with suppress(StoreError):  # a store that fails for a moment ends no answer
        await session.save()
    return monotonic()


def _add(session: Any, turn: Turn) -> str:
    """Add a turn to the session, and return its name, which sorts last.

    Attributes are saved one by one. So two tabs that talk at the same time both keep their turn, on any store, and a
    save costs one turn, not the conversation. Of a list of turns, the tab that ends last would overwrite the other's.
    The random part distinguishes tabs that count to the same number.
    """
    name = f"turn {len(session) + 1:06d} {secrets.token_hex(4)}"
    session[name] = turn
    return name


def _turns(session: Any) -> list[Turn]:
    return [session[name] for name in sorted(session)]


def _panel(session: Any) -> dict[str, object]:
    """Return what the page shows of the session, all of it public."""
    turns = _turns(session)
    age = (datetime.now(UTC) - session.created_at).total_seconds()
    size = len(json.dumps(turns)) if turns else 0
    return {"id": session.id, "age": max(age, 0.0), "turns": len(turns), "bytes": size}


def _file(name: str, content_type: bytes) -> Handler:
    content = resources.files(__package__).joinpath(name).read_bytes()

    async def handler(scope: Scope, receive: Receive, send: Send) -> None:
        await wire.reply(send, 200, content_type, content, (b"cache-control", b"no-cache"))

    return handler


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        phase = (await receive())["type"]
        await send({"type": f"{phase}.complete"})
        if phase == "lifespan.shutdown":
            return
