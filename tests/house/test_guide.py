"""GUIDE keeps its word: each of its examples is run, and what it says beside them is so."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import itertools
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import litestar
import pytest
import quart
from driver import in_loop
from examples import GUIDED, everything, guided
from litestar.background_tasks import BackgroundTask
from paths import ROOT, TESTS
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from fastersession import FasterSessionMiddleware, MemoryStore, Session, SessionEnded
from fastersession.integrations.litestar import FasterSessionPlugin
from fastersession.integrations.litestar import SessionDep as LitestarDep
from fastersession.stores.base import Store
from fastersession.stores.sqlite import SQLiteStore
from fastersession.testing import Browser, session_of

SECRET = "a secret of GUIDE's examples, and of nothing else"
Load = Callable[[str], ModuleType]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Give a function that imports an example by the name it begins with."""
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    monkeypatch.chdir(tmp_path)
    return lambda name: guided(name, tmp_path)


@pytest.fixture(params=["memory", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """Give a store of each kind: live objects, and bytes."""
    return MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "of_the_test.db")


@pytest.fixture
def on_store(store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Have every middleware that names no store take this one."""
    made = FasterSessionMiddleware.__init__

    def make(self: Any, app: Any, secret_key: Any, given: Any = None, **options: Any) -> None:
        made(self, app, secret_key, options.pop("store", given) or store, **options)

    monkeypatch.setattr(FasterSessionMiddleware, "__init__", make)
    return store


async def contents(browser: Browser) -> dict[str, Any]:
    async with session_of(browser) as session:
        return session.copy()


def test_every_example_is_run_by_a_test() -> None:
    """Each begins with the name of its file, and some test speaks of that name."""
    tests = "".join(path.read_text() for path in TESTS.rglob("test_*.py"))
    for name in GUIDED:
        assert re.fullmatch(r"\w+\.py", name), f"give it a first line `# name.py`: {name}"
        assert f'"{name}"' in tests, f"no test runs {name}: guided({name!r}, tmp_path) imports it"


@pytest.mark.parametrize("code", GUIDED.values(), ids=GUIDED)
def test_no_example_must_be_scrolled(code: str) -> None:
    """No line is longer than a screen is wide."""
    assert max(map(len, code.splitlines())) <= 110


@in_loop
async def test_tabs_lose_neither_a_turn_nor_a_count(load: Load, on_store: Store) -> None:
    """Twenty tabs at once: each turn is kept whole, and each was counted; the hundred-and-first is refused."""
    browser = Browser(load("tabs.py").app)
    await browser.post("/chat?q=first")
    answers = await asyncio.gather(*(browser.post(f"/chat?q={n}") for n in range(20)))
    assert [answer.text for answer in answers] == [f"You said: {n}" for n in range(20)]
    kept = await contents(browser)
    assert kept.pop("asked") == 21
    assert sorted(turn["answer"] for turn in kept.values()) == sorted([a.text for a in answers] + ["You said: first"])
    async with session_of(browser) as session:
        session["asked"] = 100
    assert (await browser.post("/chat?q=more")).status == 429


@in_loop
async def test_one_attribute_is_the_last_writer_s(store: Store) -> None:
    """A list that two tabs append to: whole on a MemoryStore, the last save's on a store of bytes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        turns = scope["session"].setdefault("turns", [])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(2):
            await send({"type": "http.response.body", "body": b".", "more_body": True})
        turns.append(scope["path"])
        await send({"type": "http.response.body"})

    browser = Browser(FasterSessionMiddleware(app, SECRET, store))
    await browser.get("/first")
    one, other = (browser.open(path, paced=True) for path in ("/one", "/other"))
    async with one, other:
        for tab in (one, other):
            await tab.chunk()
        for tab in (other, one):
            await tab.ended()
    expected = ["/first", "/other", "/one"] if isinstance(store, MemoryStore) else ["/first", "/one"]
    assert (await contents(browser))["turns"] == expected


@in_loop
async def test_the_first_requests_of_a_page(store: Store) -> None:
    """Without a cookie each begins a session, of which one is left; not where the page has established it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/page":
            scope["session"].establish()
        else:
            scope["session"][scope["path"]] = True
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"."})

    for page, kept in ((False, 1), (True, 3)):
        browser = Browser(FasterSessionMiddleware(app, SECRET, store))
        if page:
            await browser.get("/page")
        tabs = [browser.open(f"/{number}", paced=True) for number in range(3)]  # each has its cookies from here on
        async with tabs[0], tabs[1], tabs[2]:
            for tab in tabs:
                await tab.ended()
        assert len(await contents(browser)) == kept


@in_loop
async def test_background_tasks_are_kept(load: Load, on_store: Store) -> None:
    """One that the request waits for without more ado, one that outlives it by its own save()."""
    example = load("background.py")
    browser = Browser(example.app)
    await browser.post("/chat")
    await asyncio.gather(*example.running)
    kept = await contents(browser)
    assert kept == {"title": "found when the answer had been sent", "summary": "found when the request had ended"}


@in_loop
async def test_a_task_that_does_not_save_is_lost(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """What is assigned, or changed inside a value, after the request's end is warned of by its name, and is lost."""
    gone: list[Session] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        gone.append(scope["session"])
        gone[0].setdefault("nested", {})
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    browser = Browser(FasterSessionMiddleware(app, SECRET, store))
    await browser.get("/")
    gone[0]["nested"]["inside"] = 1
    gone[0]["late"] = 1
    gone.clear()
    said = [record.getMessage() for record in caplog.records if vars(record).get("event") == "session.unsaved"]
    assert len(said) == 1
    assert "late" in said[0]
    is_live = isinstance(store, MemoryStore)  # there what is changed inside is kept
    assert ("nested" in said[0]) != is_live
    assert await contents(browser) == {"nested": {"inside": 1} if is_live else {}}


@in_loop
async def test_which_background_tasks_outlive_the_request(store: Store) -> None:
    """Litestar's runs inside the call, as Starlette's; Quart's is one that must save by itself."""

    async def write(session: Session) -> None:
        session["written"] = True

    @litestar.get("/")
    async def inside(session: LitestarDep) -> litestar.Response[str]:
        session["begun"] = True
        return litestar.Response("done", background=BackgroundTask(write, session))

    plugin = FasterSessionPlugin(SECRET, store)
    browser = Browser(litestar.Litestar([inside], plugins=[plugin], openapi_config=None, logging_config=None))
    await browser.get("/")
    assert await contents(browser) == {"begun": True, "written": True}

    app = quart.Quart(__name__)
    ended = asyncio.Event()

    @app.get("/")
    async def beyond() -> str:
        session = quart.request.scope["session"]
        session["begun"] = True

        async def task() -> None:
            await ended.wait()
            session["written"] = True
            await session.save()

        app.add_background_task(task)
        return "done"

    browser = Browser(FasterSessionMiddleware(app, SECRET, store))
    await browser.get("/")
    assert await contents(browser) == {"begun": True}
    ended.set()
    await asyncio.gather(*app.background_tasks)
    assert await contents(browser) == {"begun": True, "written": True}


@in_loop
async def test_a_late_save_brings_no_session_back(store: Store) -> None:
    """A task that saves after a logout saves nothing."""
    gone: list[Session] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/logout":
            scope["session"].invalidate()
        else:
            scope["session"]["begun"] = True
            gone.append(scope["session"])
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    browser = Browser(FasterSessionMiddleware(app, SECRET, store))
    await browser.get("/")
    thief = browser.tab()
    await browser.get("/logout")
    gone[0]["late"] = 1
    await gone[0].save()
    assert await contents(thief) == {}


@in_loop
async def test_the_order_of_middlewares(load: Load) -> None:
    """The user of the session is known; a foreign host is refused outside of it."""
    app = load("order.py").app
    browser = Browser(app)
    await browser.post("/login?name=ada")
    assert (await browser.get("/who")).json() == "ada"
    stranger = Browser(app, host="elsewhere")
    answer = await stranger.get("/who")
    assert (answer.status, answer.all("vary")) == (400, [])


async def count(request: Request) -> JSONResponse:
    request.session["count"] = request.session.get("count", 0) + 1
    return JSONResponse(request.session["count"])


@in_loop
async def test_a_middleware_for_each_mount_needs_one_store() -> None:
    """Without a store the parts end each other's sessions; with one, or one middleware, it is one session."""
    inner = Starlette(routes=[Route("/count", count)])

    def mounts(**options: Any) -> Any:
        parts = [Mount(path, FasterSessionMiddleware(inner, SECRET, **options)) for path in ("/a", "/b")]
        return Starlette(routes=parts)

    async def counted(app: Any) -> list[int]:
        browser = Browser(app)
        return [(await browser.get(path)).json() for path in ("/a/count", "/b/count", "/a/count")]

    assert await counted(mounts()) == [1, 1, 1]
    assert await counted(mounts(store=MemoryStore())) == [1, 2, 3]
    whole = Starlette(routes=[Mount(path, inner) for path in ("/a", "/b")])
    assert await counted(FasterSessionMiddleware(whole, SECRET)) == [1, 2, 3]


@in_loop
async def test_typed_sessions(load: Load) -> None:
    """The same session for a request and a WebSocket."""
    browser = Browser(load("typed.py").app)
    record_id = (await browser.get("/")).json()["id"]
    async with browser.websocket("/ws") as socket:
        assert await socket.receive() == record_id


@in_loop
async def test_remember_me(load: Load) -> None:
    """Thirty days for who asks for it, and back; a fresh login may do what a remembered one may not."""
    app = load("remember.py").app
    plain, remembered = Browser(app), Browser(app)
    (cookie,) = (await plain.post("/login", data={"name": "ada"})).cookies
    assert "max-age" not in cookie.attributes
    (cookie,) = (await remembered.post("/login", data={"name": "ada", "remember": "true"})).cookies
    assert cookie.attributes["max-age"] == str(30 * 86400)
    assert (await remembered.post("/password")).json() == "changed"
    (again,) = (await remembered.post("/forget-me")).cookies
    assert "max-age" not in again.attributes
    assert again.value == cookie.value


@in_loop
async def test_messages_for_the_next_page(load: Load) -> None:
    """Shown on the page behind the redirect, once; awaited, too."""
    browser = Browser(load("flashing.py").app)
    shown = {"text": "Your profile is saved.", "kind": "success"}
    assert (await browser.post("/profile")).status == 303
    assert [(await browser.get("/")).json() for _ in range(2)] == [[shown], []]
    await browser.post("/profile")
    assert [(await browser.get("/toasts")).json() for _ in range(2)] == [[shown["text"]], []]


@in_loop
async def test_a_conversation(load: Load) -> None:
    """Asked, resumed from a frame, asked again with the same key, and in the history once."""
    browser = Browser(load("conversing.py").app)
    first = (await browser.post("/chat?q=hi&key=1")).text
    assert [line for line in first.splitlines() if line.startswith("data:")] == [
        "data: You ", "data: said: ", "data: hi "
    ]  # fmt: skip
    again = (await browser.post("/chat?q=hi&key=1")).text
    ids = [line.partition(": ")[2] for line in first.splitlines() if line.startswith("id:")]
    assert [line for line in again.splitlines() if line.startswith("data:")] in ([], first_data(first))
    rest = await browser.get("/chat", headers=[(b"last-event-id", ids[0].encode())])
    assert [line for line in rest.text.splitlines() if line.startswith("data:")] == first_data(first)[1:]
    assert (await browser.get("/chat")).status == 204
    turns = (await browser.get("/history")).json()
    assert turns == {
        "turns": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "You said: hi "}],
        "running": False,
    }
    assert (await browser.post("/stop")).json() == {"stopped": False}


def first_data(text: str) -> list[str]:
    """Return the data lines of a stream."""
    return [line for line in text.splitlines() if line.startswith("data:")]


@in_loop
async def test_a_logout_stops_the_answer(load: Load) -> None:
    """One example has the middleware cut it, the other tells the user."""
    stopped: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        session = scope["session"]
        if scope["path"] == "/out":
            session.logout()
        else:
            session.establish()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        if scope["path"] == "/polite":
            words = load("ending.py").say(session, endless(), lambda: stopped.append("model"))
            async with contextlib.aclosing(words):
                async for word in words:
                    await send({"type": "http.response.body", "body": word.encode(), "more_body": True})
        while scope["path"] == "/cut":
            await send({"type": "http.response.body", "body": b"tick ", "more_body": True})
            await asyncio.sleep(0.001)
        await send({"type": "http.response.body"})

    async def endless() -> AsyncIterator[str]:
        while True:
            yield "tick "
            await asyncio.sleep(0.001)

    polite = FasterSessionMiddleware(app, os.environ["SESSION_SECRET"], MemoryStore())
    for served, path in ((polite, "/polite"), (load("closing.py").closing(app), "/cut")):
        browser = Browser(served, scheme="https")
        await browser.get("/")
        async with browser.tab().open(path) as held:
            assert await held.chunk() == b"tick "
            await browser.get("/out")
            answer = await held.ended()
        if path == "/cut":
            assert isinstance(answer.error, SessionEnded)
        else:
            assert answer.text.endswith("tick You were logged out (invalidated).")
    assert stopped == ["model"]


@in_loop
async def test_what_listeners_hear_and_jobs_end(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    """Both examples share a store: a job revokes, and the listener of a worker hears of it."""

    async def login(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["chat"] = "hello"
        scope["session"].login("ada", keep=("chat",), label="phone")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    app = load("listening.py").app_with_listeners(login)
    browser = Browser(app)
    await browser.get("/")
    assert await load("revoking.py").revoke_all("ada") == 1
    said = ""
    async with asyncio.timeout(20):
        while "has ended" not in said:
            await asyncio.sleep(0.01)
            said += capsys.readouterr().out
    assert "ada is there, on phone" in said
    assert "has ended: revoked {'chat': 'hello'}" in said


@in_loop
async def test_forms_carry_tokens(load: Load) -> None:
    """`forms.py`: the form's own token passes; none, an old session's, and another site's page do not."""
    browser, other = (Browser(load("forms.py").app) for _ in range(2))
    shown = (await browser.get("/transfer")).text.split('value="')[1].split('"')[0]
    assert (await browser.post("/transfer", data={"csrf": shown})).json() == "transferred"
    await other.get("/transfer")
    assert (await other.post("/transfer", data={"csrf": shown})).status == 403
    assert (await browser.post("/transfer", data={})).status == 403
    forged = await browser.post("/transfer", data={"csrf": shown}, headers={"sec-fetch-site": "cross-site"})
    assert (forged.status, "another site" in forged.text) == (403, True)


@in_loop
async def test_what_is_written_after_invalidate_is_a_new_session(store: Store) -> None:
    """A login that takes nothing over: another id, another cookie, nothing of before."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"].invalidate()
        scope["session"]["user"] = "ada"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    browser = Browser(FasterSessionMiddleware(app, SECRET, store))
    async with session_of(browser) as session:
        session["seen"], before = True, session.id
    await browser.get("/")
    async with session_of(browser) as session:
        assert (session, session.id == before) == ({"user": "ada"}, False)


@in_loop
async def test_a_session_is_ended_by_its_id(store: Store) -> None:
    """`store.delete(bytes.fromhex(id))`: the cookie leads nowhere, and what a running request writes is dropped."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b".", "more_body": True})
        scope["session"]["late"] = True
        await send({"type": "http.response.body"})

    browser = Browser(FasterSessionMiddleware(app, SECRET, store))
    async with session_of(browser) as session:
        session["user"] = "ada"
    async with browser.open("/", paced=True) as tab:
        await tab.chunk()
        await store.delete(bytes.fromhex(session.id))
        await tab.ended()
    assert await contents(browser) == {}


async def remembered(maker: Any, reader: Any) -> bool:
    """Whether a session that one worker begins is known to the other."""
    browser = Browser(maker)
    async with session_of(browser) as session:
        session["user"] = "ada"
    browser.app = reader
    return bool(await contents(browser))


@in_loop
async def test_keys_are_rotated_in_two_steps(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While workers restart into any next step, each knows the cookies of all; in one step it would not be so."""
    old, new = "the old key, thirty-two characters long", "the new key, thirty-two characters long"

    def worker(*keys: str) -> Any:
        monkeypatch.setenv("SESSION_SECRETS", "|".join(keys).replace(" ", "_").replace("|", " "))
        return load("keys.py").app

    workers = [worker(old), worker(old, new), worker(new, old)]
    early = Browser(workers[0])
    async with session_of(early) as session:
        session["user"] = "ada"
    for before, after in itertools.pairwise(workers):
        assert await remembered(before, after)
        assert await remembered(after, before)
    early.app = workers[2]
    assert await contents(early) == {"user": "ada"}
    last = worker(new)
    assert await remembered(workers[2], last)
    assert await remembered(last, workers[2])
    assert not await remembered(workers[2], workers[0])  # the one step that is none
    early.app = last
    assert await contents(early) == {}
    early.app = workers[2]  # a key that was taken out and put back
    assert await contents(early) == {"user": "ada"}


MOVING = "ignore:Using `httpx` with `starlette.testclient` is deprecated"
CLIENTS = ["test_fastapi.py", "test_httpx.py", "test_litestar.py", "test_quart.py"]


@pytest.mark.parametrize("name", CLIENTS)
def test_other_clients(name: str, tmp_path: Path) -> None:
    """Each is a file of tests that pytest runs, with every warning an error but one of Starlette's own client."""
    everything(tmp_path)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error", "-W", MOVING, name]
    environment = {**os.environ, "SESSION_SECRET": SECRET, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert re.search(r"^[1-9]\d* passed in", run.stdout, re.MULTILINE), run.stdout + run.stderr


@pytest.mark.parametrize("name", CLIENTS)
def test_other_clients_over_plain_http_forget(name: str, tmp_path: Path) -> None:
    """Without https the Secure cookie does not come back: the same tests fail, but for Quart's client."""
    everything(tmp_path)
    path = tmp_path / name
    text = path.read_text()
    plain = text.replace('base_url="https://', 'base_url="http://').replace(', scheme="https"', "")
    assert plain != text
    path.write_text(plain)
    environment = {**os.environ, "SESSION_SECRET": SECRET, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", name]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert ("failed" in run.stdout) == (name != "test_quart.py"), run.stdout + run.stderr


def test_the_client_of_django_goes_around_asgi_py() -> None:
    """It calls a handler of its own, so no ASGI middleware is in its way."""
    handler = importlib.import_module("django.test.client").AsyncClientHandler
    assert not issubclass(handler, importlib.import_module("django.core.handlers.asgi").ASGIHandler)


@in_loop
async def test_cookies_know_no_ports(caplog: pytest.LogCaptureFixture) -> None:
    """One jar, two applications of one host: under one name the sessions end each other, under two they do not."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["session"]["count"] = scope["session"].get("count", 0) + 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": str(scope["session"]["count"]).encode()})

    async def counted(second: str | None) -> list[str]:
        one = Browser(FasterSessionMiddleware(app, SECRET))
        two = Browser(FasterSessionMiddleware(app, SECRET, session_cookie=second))
        two.jar = one.jar
        return [(await browser.get("/")).text for browser in (one, two, one, two)]

    assert await counted(None) == ["1", "1", "1", "1"]
    assert await counted("__Host-shop") == ["1", "1", "2", "2"]
