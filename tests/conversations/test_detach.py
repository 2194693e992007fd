"""Answers that outlive their connections: ``session.detach()`` and ``detachable``, message by message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import Any

import pytest
from accounts import BytesStore
from detached import Call
from driver import in_loop
from examples import guided
from routes import SECRET

from fastersession import (
    Busy,
    ConfigError,
    ConversationOptions,
    FasterSessionMiddleware,
    HeadersSent,
    MemoryStore,
    SessionEnded,
)
from fastersession.conversations.cursor import parse

STREAM = [(b"content-type", b"text/event-stream; charset=utf-8")]
STORES = {"live": MemoryStore, "bytes": BytesStore}


class Site:
    """A raw ASGI application that says what a test has it say, and notes how it ended."""

    def __init__(self, store: Any, detachable: Any = ("/chat",), *, close_on_end: bool = False, **options: Any) -> None:
        self.headers: list[tuple[bytes, bytes]] = STREAM
        self.status = 200
        self.ask: Any = None  # is called before the answer
        self.said: asyncio.Queue[Any] = asyncio.Queue()
        self.ends: list[str] = []
        self.found: Any = None
        self.afterwards: Any = None
        self.app = FasterSessionMiddleware(
            self.serve, SECRET, store, secure=False, detachable=detachable, close_on_end=close_on_end,
            conversations=ConversationOptions(min_gap=0.001, **options),
        )  # fmt: skip

    async def serve(self, scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        if scope["path"] == "/do":
            self.found = await self.ask(session)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        listening = asyncio.ensure_future(self._listen(receive))
        try:
            await self._answer(session, send)
            self.ends.append("end")
        except BaseException as error:
            self.ends.append(type(error).__name__)
            raise
        finally:
            listening.cancel()
        if self.afterwards is not None:
            await self.afterwards.wait()

    async def _listen(self, receive: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self.ends.append("told")

    async def _answer(self, session: Any, send: Any) -> None:
        if self.status < 500:  # else nothing is kept
            session.setdefault("n", 0)
        if self.ask is not None:
            await self.ask(session)
        await send({"type": "http.response.start", "status": self.status, "headers": list(self.headers)})
        while (said := await self.said.get()) is not None:
            if isinstance(said, BaseException):
                raise said
            if self.status < 500:
                session["n"] += 1
            await send({"type": "http.response.body", "body": said, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    def say(self, *chunks: Any) -> None:
        for chunk in chunks:
            self.said.put_nowait(chunk)

    async def do(self, ask: Any, cookie: str) -> Any:
        """Do something in another request of this session."""
        before, self.ask = self.ask, ask
        try:
            await Call(self.app, "/do", cookie).over()
        finally:
            self.ask = before
        return self.found

    async def resumed(self, cookie: str, after: str | None = None, name: str = "main") -> str | None:
        """Return what a client gets that resumes."""

        async def ask(session: Any) -> Any:
            run = await session.conversations[name].run(after)
            return None if run is None else "".join([piece async for piece in run.sse()])

        return await self.do(ask, cookie)

    async def status_of(self, cookie: str) -> str:
        """Return how the run has ended."""

        async def ask(session: Any) -> Any:
            _, run = await session.conversations["main"].look()
            async for _ in run.frames():
                pass
            return run.status, run.error

        return await self.do(ask, cookie)


@pytest.fixture(params=STORES)
def site(request: Any) -> Site:
    """Give an application over each kind of store."""
    return Site(STORES[request.param]())


def ids(text: str) -> list[str]:
    """Return the ids of an event stream."""
    return [line[4:] for line in text.splitlines() if line.startswith("id: ")]


@in_loop
async def test_an_answer_outlives_its_client(site: Site) -> None:
    """The application is told nothing before its last message has passed, and the rest can be read from the cursor."""
    call = Call(site.app)
    site.say(b"data: 1\n\nda", b"ta: 2\n\n")
    await call.until("data: 2")
    cookie, seen = call.cookie, ids(call.text)
    assert [parse(one).seq for one in seen] == [1, 2]
    assert call.text.count("retry: 1000") == 1
    call.leave()
    await call.over()  # the server's call is over with its client
    site.say(b"data: 3\n\n", "data: ü\n\n".encode(), None)
    text = await site.resumed(cookie, seen[-1])
    assert [line for line in text.splitlines() if line.startswith("data")] == ["data: 3", "data: ü"]
    assert await site.status_of(cookie) == ("completed", None)
    assert site.ends == ["end"]
    assert await site.do(_count, cookie) == 4


async def _count(session: Any) -> Any:
    return session["n"]


@in_loop
async def test_a_client_that_stays_reads_to_the_end(site: Site) -> None:
    """It is one reader of the run, and sees the end of the answer, whatever the application does afterwards."""
    site.afterwards = asyncio.Event()
    call = Call(site.app)
    site.say(b"data: 1\n\n", b"data: 2", None)
    while not (call.sent and call.is_complete):
        await asyncio.sleep(0)
    assert "data: 2\n\n" in call.text
    call.leave()
    for _ in range(20):
        await asyncio.sleep(0)
    assert not call.task.done()  # a server waits for what an application does after its answer
    site.afterwards.set()
    await call.over()
    assert site.ends == ["end"]


@in_loop
async def test_other_answers_pass_as_they_are(site: Site) -> None:
    """The bytes of a body with a length, and of what is no event stream, are those that were sent."""
    for headers in ([(b"content-type", b"text/plain")], [*STREAM, (b"content-length", b"7")]):
        site.headers = headers
        call = Call(site.app)
        site.say(b"a\xff\n\n", b"b", b"cd", None)
        await call.over()
        assert b"".join(one.get("body", b"") for one in call.sent) == b"a\xff\n\nbcd"
        assert call.is_complete


@in_loop
async def test_stop_ends_the_application(site: Site) -> None:
    """It is cancelled, wherever it waits, and its client sees the end."""
    call = Call(site.app)
    site.say(b"data: 1\n\n")
    await call.until("data: 1")

    async def stop(session: Any) -> Any:
        return await session.conversations["main"].stop()

    assert await site.do(stop, call.cookie)
    await call.over()
    assert call.is_complete
    assert site.ends[0] == "CancelledError"
    assert await site.status_of(call.cookie) == ("cancelled", None)


@in_loop
async def test_c17_an_application_that_raises_ends_its_run_as_failed(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    """C17: the client's answer is cut, as it is without this; who resumes gets the name of the class, not the text."""
    call = Call(site.app)
    site.say(b"data: 1\n\n", ValueError("a secret"))
    with pytest.raises(ValueError, match="a secret"):
        await call.over()
    assert "data: 1" in call.text
    assert not call.is_complete
    text = await site.resumed(call.cookie)
    assert "data: 1" in text
    assert "secret" not in text
    assert await site.status_of(call.cookie) == ("failed", "ValueError")
    assert len([record for record in caplog.records if record.event == "run.failed"]) == 1


@in_loop
async def test_an_application_that_returns_without_an_end_has_failed(site: Site) -> None:
    """Nobody takes such an answer for complete."""
    site.say(b"data: 1\n\n")
    call = Call(site.app)
    await call.until("data: 1")

    class Returns(Exception):  # noqa: N818
        pass

    site.say(Returns())
    with pytest.raises(Returns):
        await call.over()
    assert (await site.status_of(call.cookie))[0] == "failed"
    assert not call.is_complete


@in_loop
async def test_c17_nothing_of_the_head_is_replayed(site: Site) -> None:
    """C17: no cookie, header or status of the answer is among what is kept."""
    site.headers = [*STREAM, (b"set-cookie", b"theirs=1"), (b"x-secret", b"s3cr3t")]
    site.status = 201
    call = Call(site.app)
    site.say(b"data: 1\n\n", None)
    await call.over()
    assert call.status == 201

    async def ask(session: Any) -> Any:
        _, run = await session.conversations["main"].look()
        return run.headers, [frame.data async for frame in run.frames()]

    assert await site.do(ask, call.cookie) == (
        {"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"}, ["data: 1\n\n"]
    )  # fmt: skip


@in_loop
@pytest.mark.parametrize(("status", "method"), [(204, "GET"), (304, "GET"), (404, "GET"), (500, "GET"), (200, "HEAD")])
async def test_what_is_never_detached(status: int, method: str) -> None:
    """Answers without a body, and errors, are as ever: a client that leaves is told of."""
    site = Site(MemoryStore())
    site.status = status
    call = Call(site.app, method=method)
    site.say(b"x")
    await call.until("x")
    cookie = call.cookie if status < 500 else ""
    call.leave()
    await call.over()
    while "told" not in site.ends:
        await asyncio.sleep(0)
    site.say(None)
    if cookie:
        assert await site.resumed(cookie) is None


@in_loop
async def test_busy_replaces_the_answer(site: Site) -> None:
    """A second answer in the same conversation is a 409; awaited, the handler learns it."""
    first = Call(site.app)
    site.say(b"data: 1\n\n")
    await first.until("data: 1")
    second = await Call(site.app, cookie=first.cookie).over()
    assert second.status == 409
    assert second.is_complete
    caught: list[BaseException] = []

    async def ask(session: Any) -> None:
        try:
            await session.detach()
        except Busy as error:
            caught.append(error)
            await session.detach(when_busy="interrupt", format="bytes")

    site.ask = ask
    third = Call(site.app, cookie=first.cookie)
    await first.over()
    assert first.is_complete
    site.say(b"data: 3\n\n", None)
    await third.over()
    assert third.text == "data: 3\n\n"
    assert [type(error) for error in caught] == [Busy]


@in_loop
async def test_a_handler_may_ask_for_it() -> None:
    """``detachable=()`` lets it; the server's call then lasts as long as the application's."""
    site = Site(MemoryStore(), detachable=())

    async def ask(session: Any) -> None:
        session.detach(session.conversations_of("alice")["42"])

    site.ask = ask
    call = Call(site.app)
    site.say(b"data: 1\n\n")
    await call.until("data: 1")
    call.leave()
    site.say(b"data: 2\n\n")
    while site.said.qsize():
        await asyncio.sleep(0)
    assert not call.task.done()
    site.say(None)
    await call.over()

    async def look(session: Any) -> Any:
        _, run = await session.conversations_of("alice")["42"].look()
        return [frame.data async for frame in run.frames()]

    assert await site.do(look, call.cookie) == ["data: 1\n\n", "data: 2\n\n"]
    assert "data: 2" not in call.text
    assert site.ends == ["end"]


@in_loop
async def test_a_middleware_without_it_says_so() -> None:
    """The error names the remedy."""
    site = Site(MemoryStore(), detachable=None)

    async def ask(session: Any) -> None:
        session.detach()

    site.ask = ask
    with pytest.raises(ConfigError, match="detachable"):
        await Call(site.app).over()


@in_loop
async def test_wrong_arguments_are_refused_where_they_stand(site: Site) -> None:
    """And after the start it is too late."""
    kept: list[Any] = []

    async def ask(session: Any) -> None:
        kept.append(session)
        with pytest.raises(ValueError, match="when_busy"):
            session.detach(when_busy="wait")
        with pytest.raises(ValueError, match="format"):
            session.detach(format="json")

    site.ask = ask
    call = Call(site.app)
    site.say(b"data: 1\n\n")
    await call.until("data: 1")
    with pytest.raises(HeadersSent):
        kept[0].detach()
    site.say(None)
    await call.over()


@in_loop
async def test_a_compressed_answer_runs_on_but_is_not_kept(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """One event says so."""
    site.headers = [*STREAM, (b"content-encoding", b"gzip")]
    call = Call(site.app)
    site.say(b"1")
    await call.until("1")
    assert call.text == "1"
    cookie = call.cookie
    call.leave()
    await call.over()
    site.say(b"2", None)
    while "end" not in site.ends:
        await asyncio.sleep(0)
    assert site.ends == ["end"]
    assert await site.resumed(cookie) is None
    assert [one.event for one in caplog.records if one.levelno >= logging.WARNING] == ["answer.not_kept"]


@in_loop
async def test_what_is_too_large_runs_on(caplog: pytest.LogCaptureFixture) -> None:
    """Its client gets all of it, in order; the run has failed, and one event says so."""
    site = Site(MemoryStore(), max_bytes=64 * 1024)
    chunks = [b"data: %d %s\n\n" % (number, b"x" * 10_000) for number in range(20)]
    call = Call(site.app)
    site.say(*chunks, None)
    await call.over()
    got = [line.split()[1] for line in call.text.splitlines() if line.startswith("data: ")]
    assert got == [str(number) for number in range(20)]
    assert call.is_complete
    assert site.ends == ["end"]
    assert await site.status_of(call.cookie) == ("failed", "TooLarge")
    assert [one.event for one in caplog.records if one.levelno >= logging.WARNING] == ["run.failed"]


@in_loop
async def test_a_cancellation_from_outside_does_not_reach_a_listed_path(site: Site) -> None:
    """As where another middleware around ours, or daphne, cancels the call."""
    call = Call(site.app)
    site.say(b"data: 1\n\n")
    await call.until("data: 1")
    call.task.cancel()
    await asyncio.wait({call.task})
    site.say(b"data: 2\n\n", None)
    assert "data: 2" in await site.resumed(call.cookie)
    assert site.ends == ["end"]
    assert "data: 2" not in call.text


@in_loop
async def test_a_stop_in_the_servers_own_task_is_no_cancellation_of_it() -> None:
    """The server goes on with its task."""
    site = Site(MemoryStore(), detachable=())
    cancelling: list[int] = []

    async def ask(session: Any) -> None:
        session.detach()

    async def server(*call: Any) -> None:
        await site.app(*call)
        task = asyncio.current_task()
        cancelling.append(-1 if task is None else task.cancelling())

    async def stop(session: Any) -> Any:
        return await session.conversations["main"].stop()

    site.ask = ask
    call = Call(server)
    site.say(b"data: 1\n\n")
    await call.until("data: 1")
    assert await site.do(stop, call.cookie)
    await call.over()
    assert call.is_complete
    assert cancelling == [0]


@in_loop
async def test_a_client_that_cannot_be_sent_to_has_left(site: Site) -> None:
    """The error is not the application's."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if len(sent) > 1:
            raise OSError

    async def broken(scope: Any, receive: Any, _: Any) -> None:
        await site.app(scope, receive, send)

    call = Call(broken)
    site.say(b"data: 1\n\n", b"data: 2\n\n", None)
    await call.over()
    call.sent = sent
    assert "data: 2" in await site.resumed(call.cookie)
    assert site.ends == ["end"]
    assert len(sent) == 2


@in_loop
async def test_files_are_sent_in_messages() -> None:
    """What a server would send by itself, from a file, no run could have."""
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(set(scope["extensions"]))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    served = FasterSessionMiddleware(app, SECRET, MemoryStore(), secure=False, detachable=("/chat",))
    extensions: dict[str, Any] = {"http.response.pathsend": {}, "http.response.zerocopysend": {}, "tls": {}}
    await Call(served, extensions=extensions).over()
    await Call(served, "/other", extensions=extensions).over()
    assert found == [{"tls"}, set(extensions)]


@pytest.mark.parametrize("name", ["the session's", "the user's"])
@pytest.mark.parametrize("kind", STORES)
@in_loop
async def test_a_logout_cuts_the_client_and_ends_what_is_the_session_s(kind: str, name: str) -> None:
    """With `close_on_end` the client gets no more, and no end; an answer in a conversation of the user's is kept."""
    store = STORES[kind]()
    site = Site(store, close_on_end=True)
    is_users = name == "the user's"

    async def detach(session: Any) -> None:
        session.detach(session.conversations_of("ada")["main"] if is_users else "main")

    async def log_out(session: Any) -> None:
        session.invalidate()

    async def whole(session: Any) -> Any:
        run = await session.conversations_of("ada")["main"].run()
        return None if run is None else ("".join([frame.data async for frame in run.frames()]), run.status)

    site.ask = detach
    call = Call(site.app)
    site.say(b"data: 1\n\n")
    await call.until("data: 1")
    await site.do(log_out, call.cookie)
    for chunk in (b"data: 2\n\n", b"data: 3\n\n", None):
        await asyncio.sleep(0.02)
        site.say(chunk)
    with contextlib.suppress(SessionEnded):
        await call.over()
    assert call.task.done()
    assert "data: 3" not in call.text
    assert not call.is_complete
    found = await site.do(whole, "")
    assert found == (("data: 1\n\ndata: 2\n\ndata: 3\n\n", "completed") if is_users else None)


@in_loop
async def test_the_guides_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its handler is left in the middle, and the rest is resumed from the last id."""
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    app = guided("outliving.py", tmp_path).app
    call = Call(app, query_string=b"q=you")
    await call.until("data: You")
    call.leave()
    await call.over()
    last = ids(call.text)[0]
    resumed = Call(app, "/chat/stream", call.cookie, headers=[
        (b"cookie", call.cookie.encode()), (b"last-event-id", last.encode())
    ])  # fmt: skip
    await resumed.over()
    assert "".join(line[6:] for line in resumed.text.splitlines() if line.startswith("data: ")) == "said:you"
    none = await Call(app, "/chat/stream", call.cookie, headers=[
        (b"cookie", call.cookie.encode()), (b"last-event-id", ids(resumed.text)[-1].encode())
    ]).over()  # fmt: skip
    assert none.status == 204
