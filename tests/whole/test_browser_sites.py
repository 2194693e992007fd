"""A real browser comes back from another site: which `same_site` lets the session come along, as GUIDE says."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser
from serving import Server, serve


@pytest.fixture(scope="module", params=["strict", "lax", "none"])
def site(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server]]:
    with serve("uvicorn-h11", "provider_app:app", {"SAME_SITE": request.param}) as server:
        yield request.param, server


@pytest.mark.parametrize("way", ["link", "form"])
def test_the_session_after_a_visit_to_the_provider(site: tuple[str, Server], way: str, chromium: Browser) -> None:
    """Strict comes back with nothing, lax with a GET of the whole page, none with a form that was posted, too."""
    same_site, server = site
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{server.url.replace('127.0.0.1', 'localhost')}/begin")
    assert len(context.cookies()) == 1
    page.goto(f"{server.url}/provider")
    with page.expect_navigation():
        page.locator(f"#{way}").click()
    kept = json.loads(page.locator("body").inner_text())
    assert kept == ({"state": "kept"} if (same_site, way) in COMES_ALONG else {})
    context.close()


COMES_ALONG = {("lax", "link"), ("none", "link"), ("none", "form")}
