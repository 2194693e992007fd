"""The demo's user: he says a name, sees his devices, and logs them out, in process and in a real Chromium."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from demo_pages import PHONE, begin, new_chat, read, run_demo, say, visit
from driver import Browser, in_loop, lifespan
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import BrowserContext, Page, expect
from serving import Server

from fastersession.demo.app import create_app
from fastersession.demo.model import BuiltinModel
from fastersession.stores.sqlite import SQLiteStore

WHO = {"name": "Ada", "device": "Firefox on Linux"}


async def post(browser: Browser, path: str, **form: Any) -> int:
    return (await browser.post(path, json=form)).status


async def history(browser: Browser) -> dict[str, Any]:
    told: dict[str, Any] = (await browser.get("/history")).json()
    return told


async def devices(browser: Browser) -> list[tuple[str, bool]]:
    return [(each["label"], each["here"]) for each in (await history(browser))["devices"]]


def chat(store: Any = None) -> tuple[Browser, Browser]:
    app = create_app(BuiltinModel(delay=0), store=store)
    return Browser(app), Browser(app)


@in_loop
async def test_a_guest_keeps_his_conversation_and_another_user_does_not_get_it() -> None:
    """What was said before the login stays, under the same id; who logs in over a user begins empty."""
    browser, other = chat()
    await browser.post("/chat", json={"message": "tea"})
    guest = await history(browser)
    assert await post(browser, "/login", **WHO) == await post(other, "/login", name="Ada", device="a phone") == 200
    told = await history(browser)
    assert (told["user"], told["turns"], told["session"]["id"]) == ("Ada", guest["turns"], guest["session"]["id"])
    assert await devices(browser) == [("a phone", False), ("Firefox on Linux", True)]
    assert await post(browser, "/login", name="Grace", device="Firefox on Linux") == 200
    told = await history(browser)
    assert (told["user"], told["turns"]) == ("Grace", [])
    assert await devices(other) == [("a phone", True)]


@in_loop
async def test_devices_are_logged_out_by_their_user_alone() -> None:
    """One by one or all at once, this browser too, whose cookie is cleared; a stranger's id is refused."""
    browser, other = chat()
    stranger = Browser(browser.app)
    for each, name in ((browser, "Ada"), (other, "Ada"), (stranger, "Bob")):
        await post(each, "/login", name=name, device="a browser")
    (his,) = (await history(stranger))["devices"]
    assert await post(browser, "/logout-device", id=his["id"]) == 404
    for wrong in (None, 7, "0" * 32):
        assert await post(browser, "/logout-device", id=wrong) == 404
    (there,) = [each for each in (await history(browser))["devices"] if not each["here"]]
    assert await post(browser, "/logout-device", id=there["id"]) == 200
    assert [(await history(each))["user"] for each in (browser, other, stranger)] == ["Ada", None, "Bob"]
    await post(other, "/login", **WHO)
    assert await post(browser, "/logout-everywhere") == 200
    assert [(await history(each))["user"] for each in (browser, other, stranger)] == [None, None, "Bob"]
    assert dict(browser.jar) == {}
    assert await post(stranger, "/logout") == 200
    assert dict(stranger.jar) == {}


@in_loop
async def test_a_guest_ends_nothing() -> None:
    """Without a user both ways to log devices out are a 401."""
    browser, _ = chat()
    assert await post(browser, "/logout-device", id="0" * 32) == await post(browser, "/logout-everywhere") == 401


@in_loop
async def test_a_new_chat_is_a_new_session_of_the_same_user() -> None:
    """The user, his device and the time of his login stay; the conversation, the id and the old cookie go."""
    browser, _ = chat()
    await post(browser, "/login", **WHO)
    await browser.post("/chat", json={"message": "tea"})
    before, old = await history(browser), browser.tab()
    assert await post(browser, "/new") == 200
    after = await history(browser)
    assert (after["user"], after["turns"], await devices(browser)) == ("Ada", [], [("Firefox on Linux", True)])
    assert after["session"]["id"] != before["session"]["id"]
    assert after["devices"][0]["age"] >= before["devices"][0]["age"]
    assert (await history(old))["user"] is None


@pytest.mark.parametrize(
    ("form", "status"),
    [
        ({"name": " ", "device": "x"}, 400),
        ({"name": "Ada"}, 400),
        ({"name": ["Ada"], "device": "x"}, 400),
        ({"name": "\ud800", "device": "x"}, 400),
        ({"name": "a" * 65, "device": "x"}, 413),
        ({"name": "Ada", "device": "x" * 257}, 413),
        ({"name": " " + "a" * 64, "device": "x" * 256}, 200),
    ],
)
@in_loop
async def test_a_name_is_a_short_text(form: dict[str, Any], status: int) -> None:
    """What is none is refused with a sentence, and makes no session."""
    browser, _ = chat()
    answer = await browser.post("/login", json=form)
    assert (answer.status, bool(answer.all("set-cookie"))) == (status, status == 200)
    assert status == 200 or answer.json()["error"].endswith(".")


class Endless:
    """Says a word, and is never done."""

    name, closed = "endless", False

    async def answer(self, turns: Any) -> AsyncGenerator[str, None]:
        try:
            yield "one "
            await asyncio.Event().wait()
        finally:
            self.closed = True


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
@in_loop
async def test_a_logout_elsewhere_stops_the_model(tmp_path: Path, kind: str) -> None:
    """An answer that would never end ends in order, and so does its model."""
    model, store = Endless(), SQLiteStore(tmp_path / "chat.db") if kind == "sqlite" else None
    app = create_app(model, store=store)
    browser, other = Browser(app), Browser(app)
    async with lifespan(app):
        for each in (browser, other):
            await post(each, "/login", **WHO)
        asking = {"method": "POST", "body": b'{"message": "go"}', "headers": [(b"content-type", b"application/json")]}
        async with other.open("/chat", **asking) as held:
            await held.until(lambda: len(held.answer.chunks) >= 2)
            await post(browser, "/logout-everywhere")
            answer = await held.ended()
    assert (answer.error, model.closed) == (None, True)
    assert "event: end" in answer.text
    assert (await history(other))["user"] is None


# --- in Chromium ---


def log_in(page: Page, name: str = "Ada") -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("#user")).to_have_text(name)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_two_browsers_of_one_user(chromium: Chromium, visitor: BrowserContext, tmp_path: Path, kind: str) -> None:
    """Each sees both; one logs the other out, whose page says so; log out everywhere ends this one, too."""
    store = ("--store", f"sqlite:///{tmp_path}/chat.db") if kind == "sqlite" else ()
    with run_demo(*store) as server, chromium.new_context() as elsewhere:
        page, other = visit(visitor, server), visit(elsewhere, server)
        say(page, "My name is Ada")
        log_in(page)
        assert read(page, "you") == ["My name is Ada"]
        say(page, "What did I say first?")
        assert "“My name is Ada”" in read(page, "answer")[1]
        expect(page.get_by_role("alert")).to_have_count(0)
        log_in(other)
        page.bring_to_front()
        page.evaluate("dispatchEvent(new Event('focus'))")
        expect(page.locator("#devices li")).to_have_count(2)
        expect(page.locator("#devices li").last).to_contain_text("Chrome on Linux")
        page.screenshot(path=tmp_path / "devices.png")
        page.get_by_role("button", name="Log out Chrome on Linux").click()
        expect(page.locator("#devices li")).to_have_count(1)
        other.evaluate("dispatchEvent(new Event('focus'))")
        expect(other.get_by_role("alert")).to_contain_text("logged out")
        expect(other.get_by_label("Your name")).to_be_visible()
        log_in(other)
        page.get_by_role("button", name="Log out everywhere").click()
        expect(page.locator("#user")).to_have_text("Not logged in")
        expect(page.locator(".bubble")).to_have_count(0)
        expect(page.get_by_role("alert")).to_have_count(0)
        assert visitor.cookies() == []
        other.evaluate("dispatchEvent(new Event('focus'))")
        expect(other.locator("#user")).to_have_text("Not logged in")
        assert [*page.faults, *other.faults] == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_a_logout_elsewhere_stops_the_answer(
    chromium: Chromium, visitor: BrowserContext, tmp_path: Path, kind: str
) -> None:
    """The answer that another browser of the user is reading ends, long before its last word, and its page says why."""
    store = ("--store", f"sqlite:///{tmp_path}/chat.db") if kind == "sqlite" else ()
    with run_demo(*store) as server, chromium.new_context() as elsewhere:
        page, other = visit(visitor, server), visit(elsewhere, server)
        log_in(page)
        log_in(other)
        begin(other, "count to 5000")
        page.get_by_role("button", name="Log out everywhere").click()
        expect(other.get_by_role("alert")).to_contain_text("logged out")
        expect(other.locator(".bubble")).to_have_count(0)
        expect(other.get_by_label("Stop the answer")).to_be_hidden()
        expect(other.locator("#user")).to_have_text("Not logged in")
        assert other.faults == []  # type: ignore[attr-defined]
        assert "Traceback" not in server.output


def test_tabs_follow_the_login_and_a_new_chat_keeps_the_user(visitor: BrowserContext, demo: Server) -> None:
    """The other tab shows the user at once; an answer that runs stops at the login, and what it has said is kept."""
    page, other = visit(visitor, demo), visit(visitor, demo)
    begin(page)
    log_in(other)
    expect(page.locator("#user")).to_have_text("Ada")
    expect(page.locator(".answer[data-status=stopped]")).to_have_count(1)
    expect(other.locator(".answer[data-status=stopped] .text")).to_contain_text("1 2 3 ")
    new_chat(page)
    expect(page.locator(".bubble")).to_have_count(0)
    expect(page.locator("#user")).to_have_text("Ada")
    page.get_by_role("button", name="Log out this browser").click()
    expect(other.locator("#user")).to_have_text("Not logged in")
    assert [*page.faults, *other.faults] == []  # type: ignore[attr-defined]


def test_a_name_stays_text(visitor: BrowserContext, demo: Server) -> None:
    """Markup in a name, and in the device of another browser, runs nowhere."""
    page, attack = visit(visitor, demo), "<img src=x onerror=\"document.title='owned'\">"
    log_in(page, attack)
    page.evaluate(
        "(form) => fetch('/login', {method: 'POST', credentials: 'omit', body: JSON.stringify(form), "
        "headers: {'content-type': 'application/json'}})",
        {"name": attack, "device": attack},
    )
    page.evaluate("dispatchEvent(new Event('focus'))")
    expect(page.locator("#devices li").filter(has_text="onerror")).to_have_count(1)
    assert page.locator("aside img").count() == 0
    assert page.title() == "fastersession chat"


AGENTS = {
    "Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0": "Firefox on Linux",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36 "
    "Edg/156.0.0.0": "Edge on Windows",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 "
    "Mobile/15E148 Safari/604.1": "Safari on an iPhone",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Mobile Safari/537.36 "
    "OPR/99.0": "Opera on Android",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.0 "
    "Safari/605.1.15": "Safari on macOS",
    "curl/8.5.0": "A browser",
}


def test_what_a_browser_is_called(visitor: BrowserContext, demo: Server) -> None:
    """Two words of what it says of itself, where each browser claims to be several others."""
    page = visit(visitor, demo)
    script = "(agents) => import('/account.js').then(({ deviceName }) => agents.map(deviceName))"
    assert page.evaluate(script, [*AGENTS]) == [*AGENTS.values()]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_has_room_for_both(chromium: Chromium, demo: Server, tmp_path: Path, scheme: str) -> None:
    """The account is one line until it is tapped; then nothing scrolls sideways, and fingers hit what they aim at."""
    with chromium.new_context(color_scheme=scheme, **PHONE) as context:  # type: ignore[arg-type]
        page = visit(context, demo)
        page.screenshot(path=tmp_path / f"closed-{scheme}.png")
        expect(page.get_by_label("Your name")).to_be_hidden()
        page.locator("summary").tap()
        page.screenshot(path=tmp_path / f"form-{scheme}.png")
        log_in(page, f"{scheme} " + "Lovelace" * 7)
        expect(page.locator("#devices li")).to_have_count(1)
        page.screenshot(path=tmp_path / f"open-{scheme}.png")
        for name in ("Log out this browser", "Log out everywhere", "Send", "New chat"):
            box = page.get_by_role("button", name=name).bounding_box()
            assert box
            assert (box["height"] >= 40, box["x"] >= 0, box["x"] + box["width"] <= 390) == (True, True, True), name
            assert 0 <= box["y"] <= 844 - box["height"], name
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("parseFloat(getComputedStyle(document.getElementById('name')).fontSize)") >= 16
