"""Chromium, Firefox and WebKit: what each does with the cookie, a stream, a WebSocket and a logout."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsers import KINDS, Browser
from demo_pages import run_demo
from serving import Server, serve, until

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]

# Whether a Secure cookie set over plain http comes back, by browser and host. GUIDE, 'Browsers and cookies', says so.
SECURE_OVER_HTTP = {
    ("Chromium", "localhost"): True,
    ("Chromium", "127.0.0.1"): True,
    ("Firefox", "localhost"): True,
    ("Firefox", "127.0.0.1"): True,
    ("WebKit", "localhost"): False,
    ("WebKit", "127.0.0.1"): False,
}


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def kind(request: pytest.FixtureRequest) -> type[Browser]:
    return request.param


@pytest.fixture
def browser(kind: type[Browser], tmp_path: Path) -> Iterator[Browser]:
    profile = tmp_path / "profile"
    profile.mkdir()
    with kind(profile) as started:
        yield started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server on a store of bytes: what a request finds there was saved."""
    with serve("uvicorn-httptools", "browser_app:app", {"STORE": f"sqlite:///{tmp_path}/sessions.db"}) as started:
        yield started


def page(server: Server, host: str = "localhost") -> str:
    return f"http://{host}:{server.port}/page"


def fetch(browser: Browser, tab: Any, path: str) -> Any:
    return browser.run(tab, f"return await (await fetch({path!r})).json()")


def test_the_cookie_is_the_browsers_alone(browser: Browser, server: Server) -> None:
    """No script sees the cookie, each tab sends it, and it stays when the tab that got it is closed."""
    first, second = browser.open(page(server)), browser.open(page(server))
    assert fetch(browser, first, "/sent") == []
    fetch(browser, first, "/login?name=Ada")
    assert browser.run(first, "return document.cookie") == ""
    (sent,) = fetch(browser, second, "/sent")
    assert sent.startswith("sid=")
    browser.shut(first)
    assert fetch(browser, second, "/session") == {"name": "Ada", "count": 0}
    assert fetch(browser, browser.open(page(server)), "/session") == {"name": "Ada", "count": 0}
    assert fetch(browser, second, "/sent") == [sent]


@pytest.mark.parametrize("max_age", [0, 3600])
def test_the_cookie_lives_as_long_as_it_says(kind: type[Browser], tmp_path: Path, max_age: int) -> None:
    """The session ends when the browser is closed; with Max-Age it is there when the browser is opened again."""
    profile = tmp_path / "profile"
    profile.mkdir()
    with serve("uvicorn-httptools", "browser_app:app", {"MAX_AGE": str(max_age)}) as server:
        first = kind.live(profile, page(server), ["/login?name=Ada", "/session"])
        second = kind.live(profile, page(server), ["/session"])
    assert "Ada" in first[1]
    assert ("Ada" in second[0]) == (max_age > 0)


def test_an_answer_streams_and_is_kept(browser: Browser, server: Server) -> None:
    """The page reads the tokens as they come, and the whole answer is in the session when it has ended."""
    tab = browser.open(page(server))
    chunks, text = browser.run(
        tab,
        """const reader = (await fetch("/chat?q=hello&n=50")).body.getReader(), decoder = new TextDecoder();
        let chunks = 0, text = "";
        for (let next; !(next = await reader.read()).done; chunks++) text += decoder.decode(next.value, {stream: true});
        return [chunks, text];""",
    )
    assert text == "".join(f"data: {number}\n\n" for number in range(50))
    assert chunks > 1
    answer = " ".join(map(str, range(50))) + " "
    assert fetch(browser, tab, "/session") == {"question": "hello", "answer": answer}


def test_a_tab_closed_in_mid_answer_leaves_the_partial_answer(browser: Browser, server: Server) -> None:
    """What was said until the tab was closed is there for the next request of another tab, and grows no more."""
    other, asking = browser.open(page(server)), browser.open(page(server))
    read = browser.run(
        asking,
        """window.reader = (await fetch("/chat?q=hello&n=0")).body.getReader();
        let text = "";
        while (!text.includes("data: 9\\n")) text += new TextDecoder().decode((await reader.read()).value);
        return text;""",
    )
    browser.shut(asking)
    kept = until(lambda: fetch(browser, other, "/session").get("answer"), "the partial answer")
    assert kept.startswith(" ".join(line.removeprefix("data: ") for line in read.split("\n\n") if line))
    assert fetch(browser, other, "/session") == {"question": "hello", "answer": kept}


def test_a_websocket_begins_a_session_and_keeps_what_it_says(browser: Browser, server: Server) -> None:
    """The cookie that comes with the handshake is kept; what was said is there after the close."""
    tab = browser.open(page(server))
    assert fetch(browser, tab, "/sent") == []
    heard = browser.run(
        tab,
        """const socket = new WebSocket(location.origin.replace("http", "ws") + "/talk"), heard = [];
        await new Promise((done, failed) => { socket.onopen = done; socket.onerror = failed; });
        for (const text of ["one", "two", "save"]) {
          socket.send(text);
          heard.push(await new Promise((done) => { socket.onmessage = (event) => done(event.data); }));
        }
        socket.close();
        return heard;""",
    )
    assert heard == ["done: one", "done: two", "done: save"]
    assert fetch(browser, tab, "/session") == {"heard": ["one", "two"]}
    browser.run(
        tab,
        """const socket = new WebSocket(location.origin.replace("http", "ws") + "/talk");
        await new Promise((done, failed) => { socket.onopen = done; socket.onerror = failed; });
        socket.send("three");
        await new Promise((done) => { socket.onmessage = done; });
        socket.close();""",
    )
    until(lambda: fetch(browser, tab, "/session") == {"heard": ["three"]}, "the save at the close")


def test_a_logout_clears_the_cookie_in_every_tab(browser: Browser, server: Server) -> None:
    """After the logout no tab sends a cookie any more, and the next login is another session."""
    first, second = browser.open(page(server)), browser.open(page(server))
    fetch(browser, first, "/login?name=Ada")
    before = fetch(browser, second, "/sent")
    fetch(browser, first, "/logout")
    for tab in (first, second):
        assert (fetch(browser, tab, "/sent"), fetch(browser, tab, "/session")) == ([], {})
    fetch(browser, second, "/login?name=Grace")
    assert fetch(browser, first, "/session")["name"] == "Grace"
    assert fetch(browser, first, "/sent") != before


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_what_becomes_of_a_secure_cookie_over_plain_http(browser: Browser, tmp_path: Path, host: str) -> None:
    """Chromium and Firefox take a Secure cookie from this very machine, WebKit does not; `secure=False` all take."""
    with serve("uvicorn-httptools", "browser_app:app", {"SECURE": "1"}) as server:
        tab = browser.open(page(server, host))
        fetch(browser, tab, "/login?name=Ada")
        came_back = fetch(browser, tab, "/session") != {}
        names = [sent.partition("=")[0] for sent in fetch(browser, tab, "/sent")]
    assert came_back == SECURE_OVER_HTTP[type(browser).__name__, host]
    assert names == (["__Host-sid"] if came_back else [])
    with serve("uvicorn-httptools", "browser_app:app") as server:
        tab = browser.open(page(server, host))
        fetch(browser, tab, "/login?name=Ada")
        assert fetch(browser, tab, "/session") == {"name": "Ada", "count": 0}


def test_the_demos_page_works(browser: Browser) -> None:
    """The chat asks, streams, follows another tab and begins anew in each browser, not in the tests' own only."""
    with run_demo() as demo:
        tab, other = browser.open(demo.url), browser.open(demo.url)
        browser.run(
            tab,
            """document.getElementById("message").value = "My name is Ada";
            document.getElementById("form").requestSubmit();""",
        )
        answers = (
            "return [...document.querySelectorAll('.answer[data-status=done] .text')].map((node) => node.textContent)"
        )
        for place in (tab, other):
            until(lambda place=place: browser.run(place, answers), "the answer")
            assert browser.run(place, answers)[0].startswith("Nice to meet you, Ada!")
        browser.run(tab, "for (const id of ['new', 'delete']) document.getElementById(id).click()")
        for place in (tab, other):
            until(lambda place=place: browser.run(place, answers) == [], "the new chat")
        assert browser.run(other, "return document.getElementById('notice').textContent").endswith("begins a new one.")
