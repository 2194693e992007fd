"""GUIDE's examples of accounts and of production do what stands beside them, in every framework.

Rules of residence: examples that are the same application several times over, so each test is asked of all.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from driver import in_loop
from examples import GUIDE, guided

from fastersession import FasterSessionMiddleware, MemoryStore, Session, Sessions
from fastersession.stores.sqlite import SQLiteStore
from fastersession.testing import Answer, Browser, session_of

LOGIN = {"name": "ada", "password": "open sesame", "device": "Firefox on Linux"}
OTHER = LOGIN | {"device": "the phone"}
ACCOUNTS = ["login.py", "login_litestar.py", "login_quart.py", "login_asgi.py"]
PRODUCTION = ["production.py", "production_litestar.py", "production_quart.py", "production_asgi.py"]
PAGE = {"origin": "https://app.example.org", "sec-fetch-site": "same-site"}
EVIL = {"origin": "https://evil.example.org", "sec-fetch-site": "same-site"}


@pytest.fixture(params=["memory", "sqlite"])
def on_store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the example's middleware take a store of live objects, and one of bytes."""
    store = MemoryStore() if request.param == "memory" else SQLiteStore(tmp_path / "of_the_test.db")
    made = FasterSessionMiddleware.__init__

    def make(self: Any, app: Any, secret_key: Any, **options: Any) -> None:
        made(self, app, secret_key, **options | {"store": store})

    monkeypatch.setattr(FasterSessionMiddleware, "__init__", make)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Give a function that imports an example by the name it begins with."""
    monkeypatch.setenv("SESSION_SECRET", "a secret of GUIDE's accounts, and of nothing else")
    monkeypatch.chdir(tmp_path)
    return lambda name: guided(name, tmp_path)


@pytest.fixture(params=ACCOUNTS)
def example(request: pytest.FixtureRequest, load: Callable[[str], ModuleType], on_store: None) -> ModuleType:
    """Give one of the applications with a login."""
    return load(request.param)


async def get(browser: Browser, path: str) -> Any:
    return said(await browser.get(path))


async def post(browser: Browser, path: str, **form: str) -> Any:
    return said(await browser.post(path, data=form))


def said(answer: Answer) -> Any:
    """Return the status of what was refused; else what was answered, a lone name without quotes."""
    if answer.status >= 300:
        return answer.status
    text = answer.text.strip()
    return json.loads(text) if text[:1] in (*"[tf0123456789",) else text.strip(chr(34))


async def devices(browser: Browser) -> dict[str, str]:
    return {device["label"]: device["id"] for device in await get(browser, "/devices")}


@in_loop
async def test_guests_and_wrong_passwords(example: ModuleType) -> None:
    """A guest may look, has no devices, and no wrong password gets a cookie."""
    browser = Browser(example.app)
    assert await get(browser, "/who") == "null"
    for form in (LOGIN | {"password": "guessed"}, LOGIN | {"name": "eve"}):
        answer = await browser.post("/login", data=form)
        assert (answer.status, answer.all("set-cookie")) == (401, [])
    assert await get(browser, "/devices") == 401
    for path in ("/logout-device", "/logout-everywhere", "/password"):
        assert await post(browser, path, device="0" * 32, password="open sesame", new="") == 401


@in_loop
async def test_a_login_keeps_the_cart_and_kills_the_old_cookie(example: ModuleType) -> None:
    """A planted cookie opens nothing; what is in `keep` stays, and the id; the logout ends this session alone."""
    browser, other = Browser(example.app), Browser(example.app)
    async with session_of(browser) as session:
        session["cart"], session["seen"], guest = ["tea"], True, session.id
    planted = browser.tab()
    await post(browser, "/login", **LOGIN)
    await post(other, "/login", **OTHER)
    assert [await get(each, "/who") for each in (planted, browser, other)] == ["null", "ada", "ada"]
    async with session_of(browser) as session:
        assert (session, session.id, session.label) == ({"cart": ["tea"]}, guest, "Firefox on Linux")
    tab = browser.tab()
    await post(browser, "/logout")
    assert [await get(each, "/who") for each in (tab, browser, other)] == ["null", "null", "ada"]


@in_loop
async def test_devices_are_listed_and_logged_out(example: ModuleType) -> None:
    """A user ends his own sessions, one or all, and nobody else's; the answer of "all" clears the cookie."""
    browser, phone, bob = (Browser(example.app) for _ in range(3))
    await post(browser, "/login", **LOGIN)
    await post(phone, "/login", **OTHER)
    await post(bob, "/login", **LOGIN | {"name": "bob"})
    listed = await devices(browser)
    assert set(listed) == {"Firefox on Linux", "the phone"}
    (bobs,) = (await devices(bob)).values()
    assert await post(browser, "/logout-device", device=bobs) is False
    assert await post(browser, "/logout-device", device=listed["the phone"]) is True
    assert [await get(each, "/who") for each in (browser, phone, bob)] == ["ada", "null", "bob"]
    await post(phone, "/login", **OTHER)
    answer = await browser.post("/logout-everywhere")
    assert said(answer) == 2
    assert b"Max-Age=0" in answer.all("set-cookie")[0]
    assert [await get(each, "/who") for each in (browser, phone, bob)] == ["null", "null", "bob"]
    await post(phone, "/login", **OTHER)
    assert await get(phone, "/who") == "ada"


@in_loop
async def test_a_device_is_logged_out_by_who_has_just_authenticated(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A login of an hour ago is not enough; a login of the same user is, and keeps what is in the session."""
    browser = Browser(example.app)
    with monkeypatch.context() as patch:
        patch.setattr(example, "time", SimpleNamespace(time=lambda: time.time() - 3600))
        await post(browser, "/login", **LOGIN)
    async with session_of(browser) as session:
        session["draft"] = "hello"
    (mine,) = (await devices(browser)).values()
    assert await post(browser, "/logout-device", device=mine) == 403
    await post(browser, "/login", **LOGIN)
    async with session_of(browser) as session:
        assert session["draft"] == "hello"
    assert await post(browser, "/logout-device", device=mine) is True


@in_loop
async def test_a_changed_password_ends_the_others(example: ModuleType) -> None:
    """This browser stays logged in, under another cookie, with its attributes; no other session does, nor the copy."""
    browser, other = Browser(example.app), Browser(example.app)
    await post(browser, "/login", **LOGIN)
    await post(other, "/login", **OTHER)
    async with session_of(browser) as session:
        session["draft"], own = "hello", session.id
    copied = browser.tab()
    assert await post(browser, "/password", password="guessed", new="mellon") == 403
    assert await get(other, "/who") == "ada"
    assert await post(browser, "/password", password="open sesame", new="mellon") == 1
    assert [await get(each, "/who") for each in (browser, other, copied)] == ["ada", "null", "null"]
    async with session_of(browser) as session:
        assert (session["draft"], session.id) == ("hello", own)
    assert await post(other, "/login", **OTHER) == 401
    await post(other, "/login", **OTHER | {"password": "mellon"})
    assert await get(other, "/who") == "ada"


@in_loop
async def test_a_login_that_overlaps_a_change_of_the_password_is_refused(
    example: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The password was right when it was asked for, and all sessions were revoked before the login: a 409."""
    browser, late = Browser(example.app), Browser(example.app)
    await post(browser, "/login", **LOGIN)
    await post(browser, "/logout-everywhere")
    monkeypatch.setattr(example, "time", SimpleNamespace(time=lambda: time.time() - 60))
    answer = await late.post("/login", data=OTHER)
    assert (answer.status, answer.all("set-cookie")) == (409, [])
    assert await get(late, "/who") == "null"


@pytest.mark.parametrize("name", PRODUCTION)
@in_loop
async def test_an_api_behind_a_proxy_for_the_pages_of_another_origin(
    name: str, load: Callable[[str], ModuleType], caplog: pytest.LogCaptureFixture
) -> None:
    """Preflights pass, named pages count, others are refused before the view; foreign hosts and health checks."""
    caplog.set_level(logging.WARNING, "fastersession")
    app = load(name).app
    browser = Browser(app, host="api.example.org")
    asks = PAGE | {"access-control-request-method": "POST"}
    preflight = await browser.request("OPTIONS", "/count", headers=asks)
    assert (preflight.status // 100, preflight.all("access-control-allow-credentials")) == (2, [b"true"])
    for number in ("1", "2"):
        answer = await browser.post("/count", headers=PAGE)
        assert answer.text == number
        assert answer.all("access-control-allow-origin") == [PAGE["origin"].encode()]
        assert answer.all("access-control-allow-credentials") == [b"true"]
        assert answer.all("vary") == [b"Origin" if "litestar" in name else b"Cookie, Origin"]
    forged = await browser.post("/count", headers=EVIL)
    assert (forged.status, forged.all("access-control-allow-origin")) == (403, [])
    assert (await browser.post("/count", headers=PAGE)).text == "3"
    healthy = await browser.get("/health")
    assert (healthy.text.strip('"'), healthy.all("set-cookie")) == ("well", [])
    assert (await Browser(app, host="elsewhere").post("/count")).status == 400
    behind = await Browser(app, host="api.example.org", scheme="http").post("/count")
    assert b"; Secure" in behind.all("set-cookie")[0]
    warned = [vars(record)["event"] for record in caplog.records if record.name == "fastersession"]
    seen = "litestar" not in name  # which has configured logging anew
    assert warned == ["cookie.insecure_scheme"] * seen


def test_the_table_of_the_asvs_names_what_there_is() -> None:
    """Each requirement of chapter V7 has one row, in order; each name in it is an argument, or a verb of ours."""
    text = GUIDE.partition("\n## ASVS and NIST\n")[2].partition("\n## ")[0]
    numbers = [int(number) for number in (3, 4, 2, 5, 3, 2)]
    wanted = [f"7.{part}.{n + 1}" for part, many in enumerate(numbers, 1) for n in range(many)]
    assert re.findall(r"^\| (7\.\d\.\d) \| [123] \|", text, re.MULTILINE) == wanted
    arguments = set(re.findall(r"^\| `(\w+)` \|", GUIDE.partition("\n## Arguments\n")[2], re.MULTILINE))
    for name in re.findall(r"`(\w+)(?:[(=][^`]*)?`", text):
        assert name in arguments | {"Sessions", "auth_time"} | {*dir(Session)} | {*dir(Sessions)}, name


def test_the_presets_of_nist_are_settings(recwarn: pytest.WarningsRecorder) -> None:
    """Each row of the presets is what a middleware takes, without a warning."""
    rows = re.findall(r"^\| AAL\d \|.*\| `(.+)` \|$", GUIDE, re.MULTILINE)
    assert len(rows) == 3
    for row in rows:
        settings = eval(f"dict({row})", {"timedelta": timedelta})
        FasterSessionMiddleware(guided, "a secret of the presets, used nowhere else", **settings)
    assert not recwarn.list
