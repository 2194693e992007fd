"""The demo in a real Chromium: its process, the browser, a visitor, and what he does on every page.

Rules of residence: fixtures and gestures that the tests of the page share; what a test proves stands in the test.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from serving import DEADLINE, Server, free_port, launch

ARGUMENTS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
ARGUMENTS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
expect.set_options(timeout=DEADLINE * 1000)  # only a failing test reaches it


@contextlib.contextmanager
def run_demo(*arguments: str, port: int = 0, env: dict[str, str] | None = None) -> Iterator[Server]:
    """Run the demo as a process, on a free port if none is given."""
    port = port or free_port()
    command = [sys.executable, "-m", "fastersession", "demo", "--port", str(port), *arguments]
    with launch(command, port, env, ready="/") as server:
        yield server


@pytest.fixture(scope="module")
def demo() -> Iterator[Server]:
    with run_demo() as server:
        yield server


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def visitor(chromium: Browser) -> Iterator[BrowserContext]:
    context = chromium.new_context(viewport={"width": 1280, "height": 800})
    yield context
    context.close()


def visit(context: BrowserContext, demo: Server) -> Page:
    """Open the demo; whatever the page itself does wrong is collected in `page.faults`."""
    page = context.new_page()
    page.faults = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: page.faults.append(str(error)))  # type: ignore[attr-defined]
    page.on("console", lambda message: page.faults.append(message.text) if message.type == "error" else None)  # type: ignore[attr-defined]
    page.goto(demo.url)
    expect(page.locator("#model")).not_to_be_empty()
    return page


def say(page: Page, text: str) -> None:
    """Send a message and wait for the whole answer."""
    before = page.locator(".answer[data-status=done]").count()
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Send").click()
    expect(page.locator(".answer[data-status=done]")).to_have_count(before + 1)


def begin(page: Page, text: str = "count to 500") -> None:
    """Send a message and wait for the first words of the answer."""
    page.get_by_label("Your message").fill(text)
    page.keyboard.press("Enter")
    expect(page.locator(".answer .text").last).to_contain_text("1 2 3 ")


def new_chat(page: Page) -> None:
    """Begin a new chat, and say that the old one may go."""
    page.get_by_role("button", name="New chat").click()
    page.get_by_role("button", name="Delete and start anew").click()


def read(page: Page, who: str) -> list[str]:
    return page.locator(f".{who} .text").all_text_contents()
