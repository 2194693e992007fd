"""A real browser on the demo: what a person sees after reloading, stopping, starting over, and on a phone."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from demo_pages import PHONE, begin, new_chat, read, run_demo, say, visit
from playwright.sync_api import Browser, BrowserContext, expect
from serving import Server


def test_three_turns_survive_a_reload(visitor: BrowserContext, demo: Server, tmp_path: Path) -> None:
    """The conversation and the session's id are the same after a reload, and the model still knows it."""
    page = visit(visitor, demo)
    expect(page.get_by_text("No session yet")).to_be_visible()
    for text in ("My name is Ada", "I like tea", "What did I say first?"):
        say(page, text)
    page.screenshot(path=tmp_path / "wide.png")
    before, public_id = (read(page, "you"), read(page, "answer")), page.locator("#session-id").inner_text()
    assert "“My name is Ada”" in before[1][2]
    page.reload()
    expect(page.locator(".answer")).to_have_count(3)
    assert (read(page, "you"), read(page, "answer")) == before
    assert re.fullmatch(r"[0-9a-f]{32}", public_id)
    expect(page.locator("#session-id")).to_have_text(public_id)
    expect(page.locator("#session-turns")).to_have_text("3")
    say(page, "How many things have I said?")
    assert "4 things" in read(page, "answer")[3]
    assert page.faults == []  # type: ignore[attr-defined]


def test_scripts_cannot_see_the_cookie(visitor: BrowserContext, demo: Server) -> None:
    """The browser holds one HttpOnly cookie for as long as it is open, and no script reads it."""
    page = visit(visitor, demo)
    assert visitor.cookies() == []
    say(page, "hello")
    assert page.evaluate("document.cookie") == ""
    (cookie,) = visitor.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["expires"]) == (True, "Lax", -1)


def test_a_stopped_answer_is_still_there_after_a_reload(visitor: BrowserContext, demo: Server) -> None:
    """Stop ends the stream in the middle; what was written until then is kept."""
    page = visit(visitor, demo)
    page.get_by_label("Your message").fill("count to 500")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .text")).to_contain_text("1 2 3 4 5 6 ")
    page.get_by_label("Stop the answer").click()
    expect(page.locator(".answer[data-status=stopped]")).to_be_visible()
    expect(page.get_by_label("Send")).to_be_visible()
    page.reload()
    expect(page.locator(".answer[data-status=stopped]")).to_be_visible()
    (kept,) = read(page, "answer")
    assert kept.startswith("1 2 3 4 5 6 ")
    assert "500" not in kept
    say(page, "What did I say last?")
    assert "“count to 500”" in read(page, "answer")[1]


def test_a_reload_in_the_middle_keeps_the_partial_answer(visitor: BrowserContext, demo: Server) -> None:
    """Leaving the page while it is being answered is a stop, too."""
    page = visit(visitor, demo)
    page.get_by_label("Your message").fill("count to 500")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .text")).to_contain_text("1 2 3 4 5 6 ")
    page.reload()
    expect(page.locator(".answer[data-status=stopped] .text")).to_contain_text("1 2 3 4 5 6 ")


def test_a_second_tab_shows_the_same_conversation(visitor: BrowserContext, demo: Server) -> None:
    """A tab opened while another is being answered follows the answer to its end."""
    page = visit(visitor, demo)
    page.get_by_label("Your message").fill("count to 60")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .text")).to_contain_text("1 2 3 ")
    other = visit(visitor, demo)
    expect(other.locator(".answer[data-status=done] .text")).to_contain_text(" 59 60.")


def test_new_chat_forgets(visitor: BrowserContext, demo: Server) -> None:
    """New chat empties the page and ends the session, in the middle of an answer too."""
    page = visit(visitor, demo)
    say(page, "hello")
    public_id = page.locator("#session-id").inner_text()
    begin(page)
    new_chat(page)
    expect(page.locator(".bubble")).to_have_count(0)
    expect(page.get_by_text("No session yet")).to_be_visible()
    page.reload()
    expect(page.locator("#welcome")).to_be_visible()
    assert visitor.cookies() == []
    say(page, "What did I say first?")
    assert "Nothing came before" in read(page, "answer")[0]
    expect(page.locator("#session-id")).not_to_have_text(public_id)


def test_another_browser_sees_nothing(chromium: Browser, visitor: BrowserContext, demo: Server) -> None:
    """A second browser starts empty, and has a session of its own."""
    page = visit(visitor, demo)
    say(page, "My name is Ada")
    with chromium.new_context() as other:
        stranger = visit(other, demo)
        expect(stranger.locator("#welcome")).to_be_visible()
        say(stranger, "What is my name?")
        assert "not told me" in read(stranger, "answer")[0]
        assert stranger.locator("#session-id").inner_text() != page.locator("#session-id").inner_text()


def test_what_is_typed_stays_text(visitor: BrowserContext, demo: Server) -> None:
    """Markup in question and answer is shown as it was typed, live and restored, and runs nowhere."""
    page, attack = visit(visitor, demo), "<img src=x onerror=\"document.title='owned'\"><script>alert(1)</script>"
    say(page, attack)
    assert read(page, "you") == [attack]
    assert attack in read(page, "answer")[0]
    page.reload()
    expect(page.locator(".you .text")).to_have_text(attack)
    assert page.locator("#log img, #log script").count() == 0
    assert page.title() == "fastersession chat"
    assert page.faults == []  # type: ignore[attr-defined]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_is_enough(chromium: Browser, demo: Server, tmp_path: Path, scheme: str) -> None:
    """On a phone everything is in reach: no sideways scrolling, no zoom on focus, targets a finger can hit."""
    with chromium.new_context(color_scheme=scheme, **PHONE) as context:  # type: ignore[arg-type]
        page = visit(context, demo)
        page.get_by_role("button", name="My name is Ada").tap()
        expect(page.locator(".answer[data-status=done]")).to_have_count(1)
        say(page, "wide" * 200)
        page.get_by_label("Your message").tap()
        page.screenshot(path=tmp_path / f"{scheme}.png")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert page.evaluate("document.getElementById('log').parentNode.scrollWidth <= innerWidth")
        assert page.evaluate("parseFloat(getComputedStyle(document.getElementById('message')).fontSize)") >= 16
        for name in ("Send", "New chat"):
            box = page.get_by_role("button", name=name).bounding_box()
            assert box
            assert (box["height"] >= 40, box["x"] >= 0, box["x"] + box["width"] <= 390) == (True, True, True)
            assert 0 <= box["y"] <= 844 - box["height"]


def test_a_lost_server_is_said_and_the_question_kept(visitor: BrowserContext) -> None:
    """When the server is gone, the page says so and puts the question back."""
    with run_demo() as server:
        page = visit(visitor, server)
        server.terminate()
        page.get_by_label("Your message").fill("Are you there?")
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
        expect(page.locator(".bubble")).to_have_count(0)
        expect(page.get_by_label("Your message")).to_have_value("Are you there?")
