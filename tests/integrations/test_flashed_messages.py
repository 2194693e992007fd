"""What other packages keep in a session for their next request: tuples, and text that is safe as HTML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driver import in_loop
from fasthtml.common import FastHTML, Titled, add_toast, setup_toasts
from markupsafe import Markup
from quart import Quart, flash, get_flashed_messages
from routes import SECRET

from fastersession import FasterSessionMiddleware
from fastersession.integrations.quart import FasterSessionInterface
from fastersession.stores import from_url
from fastersession.testing import Browser, session_of


def _quart() -> Any:
    app = Quart(__name__)
    app.session_interface = FasterSessionInterface()

    @app.get("/flash")
    async def put() -> str:
        await flash("a < b", "error")
        await flash(Markup("<b>bold</b>"))
        return ""

    @app.get("/messages")
    async def messages() -> str:
        return repr(get_flashed_messages(with_categories=True))

    return app


def _fasthtml() -> Any:
    app = FastHTML(sess_cls=None, secret_key=SECRET)
    setup_toasts(app)

    @app.get("/flash")
    def put(session) -> str:  # type: ignore[no-untyped-def]  # its name says what it is
        add_toast(session, "saved for you", "success")
        return "done"  # an answer without a page shows no toast

    @app.get("/messages")
    def messages(session) -> Any:  # type: ignore[no-untyped-def]
        return Titled("here")

    return app


@pytest.fixture(params=["memory", "sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return "memory://" if request.param == "memory" else f"sqlite:///{tmp_path}/sessions.db"


async def _twice(make: Callable[[], Any], url: str) -> tuple[str, str, Any]:
    """Flash in one request; return what the two after it show, and what the session had between."""
    store = from_url(url)
    browser = Browser(FasterSessionMiddleware(make(), SECRET, store))
    try:
        assert (await browser.get("/flash")).status == 200
        async with session_of(browser) as session:
            kept = dict(session)
        first = await browser.get("/messages")
        second = await browser.get("/messages")
        assert (first.status, second.status) == (200, 200)
        return first.text, second.text, kept
    finally:
        await store.close()


@in_loop
async def test_quarts_flash_is_shown_once(url: str) -> None:
    """`flash()` keeps tuples, and Markup as Markup, for else a template would escape it; each is shown once."""
    first, second, kept = await _twice(_quart, url)
    assert first == repr([("error", "a < b"), ("message", Markup("<b>bold</b>"))])
    assert second == "[]"
    assert kept == {"_flashes": [("error", "a < b"), ("message", Markup("<b>bold</b>"))]}
    assert type(kept["_flashes"][1][1]) is Markup


@in_loop
async def test_fasthtmls_toasts_are_shown_once(url: str) -> None:
    """`add_toast()` keeps tuples for the next page."""
    first, second, kept = await _twice(_fasthtml, url)
    assert "saved for you" in first
    assert "saved for you" not in second
    assert kept == {"toasts": [("saved for you", "success", False)]}
