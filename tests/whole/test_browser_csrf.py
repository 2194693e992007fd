"""A real browser is made to act by other sites' pages, with its user's cookie: U9 of SECURITY."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page
from serving import Server, serve

APP = "csrf_app:app"


@pytest.fixture(scope="module", params=["fetch-metadata", "report"])
def servers(request: pytest.FixtureRequest) -> Iterator[tuple[str, Server, Server]]:
    """The application, and the same on another port: a sibling, whose pages the cookie comes along from."""
    environment = {"CSRF": request.param}
    with serve("uvicorn-h11", APP, environment) as own, serve("uvicorn-h11", APP, environment) as sibling:
        yield request.param, own, sibling


def acted(page: Page, own: str) -> int:
    page.goto(f"{own}/read")
    return int(json.loads(page.locator("body").inner_text())["acted"])


# Chromium sends no cookie with another site's fetch, whatever SameSite says.
WAYS = [("own", "form"), ("own", "fetch"), ("sibling", "form"), ("sibling", "fetch"), ("foreign", "form")]


@pytest.mark.parametrize(("whose", "way"), WAYS)
def test_u9_only_ones_own_pages_act(
    whose: str, way: str, servers: tuple[str, Server, Server], chromium: Browser
) -> None:
    """U9: a form and a fetch of the own origin act; a sibling's and another site's do not, whose cookie came along."""
    csrf, server, sibling = servers
    own = server.url.replace("127.0.0.1", "localhost")
    at = {"own": own, "sibling": sibling.url.replace("127.0.0.1", "localhost"), "foreign": server.url}[whose]
    context = chromium.new_context()
    page = context.new_page()
    page.goto(f"{own}/begin")
    page.goto(f"{at}/page?{own}")
    if way == "form":
        with page.expect_navigation():
            page.locator("#form").click()
        refused = "another site" in page.locator("body").inner_text()
    else:
        page.locator("#fetch").click()
        page.wait_for_function("document.title === 'done'")
        refused = acted(page, own) == 0
    assert refused == (csrf != "report" and whose != "own")
    assert acted(page, own) == (not refused)
    context.close()
