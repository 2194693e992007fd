"""The demo's page in a real Chromium: haste, scripts of the world, long texts, lost sessions, other tabs, keyboards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from demo_pages import begin, new_chat, read, run_demo, say, visit
from playwright.sync_api import BrowserContext, Page, expect
from serving import Server, free_port

from fastersession.demo.app import MAX_QUESTION

HEBREW, ARABIC = "שלום עולם", "مرحبا بالعالم"


# --- haste ---


def test_a_double_click_on_send_is_one_question_and_a_whole_answer(visitor: BrowserContext, demo: Server) -> None:
    """The second click of a hasty hand meets neither Stop nor a second Send."""
    page = visit(visitor, demo)
    page.get_by_label("Your message").fill("count to 30")
    page.get_by_label("Send").dblclick()
    expect(page.locator(".answer[data-status=done] .text")).to_contain_text("29 30.")
    assert read(page, "you") == ["count to 30"]


def test_a_double_click_on_stop_sends_nothing(visitor: BrowserContext, demo: Server) -> None:
    """What was typed meanwhile is not sent by the click that comes after Stop's."""
    page = visit(visitor, demo)
    begin(page)
    page.get_by_label("Your message").fill("not yet")
    page.get_by_label("Stop the answer").dblclick()
    expect(page.locator(".answer[data-status=stopped]")).to_be_visible()
    expect(page.get_by_label("Send")).to_be_enabled()
    expect(page.get_by_label("Your message")).to_have_value("not yet")
    assert read(page, "you") == ["count to 500"]


def test_escape_stops(visitor: BrowserContext, demo: Server) -> None:
    """Escape does what Stop does, wherever the focus is, and nothing when nothing is being answered."""
    page = visit(visitor, demo)
    page.keyboard.press("Escape")
    begin(page)
    page.locator("#scroll").focus()
    page.keyboard.press("Escape")
    expect(page.locator(".answer[data-status=stopped]")).to_be_visible()
    expect(page.get_by_label("Your message")).to_be_focused()
    page.reload()
    expect(page.locator(".answer[data-status=stopped] .text")).to_contain_text("1 2 3 ")


# --- scripts of the world ---

# Where each line of a node's text begins and ends, as distances from the node's own sides.
LINES = """(node) => {
  node.normalize(); // the pieces that came one by one become one text
  const box = node.getBoundingClientRect(), text = node.firstChild, lines = [];
  let at = 0;
  for (const line of node.textContent.split("\\n")) {
    const range = document.createRange();
    range.setStart(text, at);
    range.setEnd(text, (at += line.length + 1) - 1);
    const place = range.getBoundingClientRect();
    lines.push([Math.round(place.left - box.left), Math.round(box.right - place.right)]);
  }
  return lines;
}"""


def sides(page: Page, selector: str) -> list[str]:
    """Tell at which side each line of a text stands: the longest stands at both."""
    found: list[list[int]] = page.locator(selector).evaluate(LINES)
    return ["both" if left <= 1 and right <= 1 else "left" if left <= 1 else "right" for left, right in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"a line of Latin letters, wider than others\n{HEBREW}\n{ARABIC}\nshort", ["both", "right", "right", "left"]),
        (f"{HEBREW} {HEBREW} {HEBREW}\n{ARABIC}\nshort\n{HEBREW} and", ["both", "right", "left", "right"]),
        (f"“{HEBREW}” {ARABIC} 123 {ARABIC}\n123 {ARABIC}\nsee {HEBREW}", ["both", "right", "left"]),
    ],
)
def test_each_line_stands_where_its_script_begins(
    visitor: BrowserContext, demo: Server, tmp_path: Path, text: str, expected: list[str]
) -> None:
    """Hebrew and Arabic are set from the right, Latin from the left, mixed texts by their first letter."""
    page = visit(visitor, demo)
    say(page, text)
    page.screenshot(path=tmp_path / "rtl.png")
    assert sides(page, ".you .text") == expected
    page.reload()
    expect(page.locator(".answer[data-status=done]")).to_have_count(1)
    assert sides(page, ".you .text") == expected


@pytest.mark.parametrize(("text", "direction"), [(HEBREW, "rtl"), (ARABIC, "rtl"), ("hello", "ltr"), ("123", "ltr")])
def test_the_input_turns_with_what_is_typed(visitor: BrowserContext, demo: Server, text: str, direction: str) -> None:
    """The message being written, and its caret, go in the direction of its script."""
    box = visit(visitor, demo).get_by_label("Your message")
    box.fill(text)
    assert box.evaluate("(node) => getComputedStyle(node).direction") == direction


def test_an_answer_is_set_line_by_line(visitor: BrowserContext, demo: Server) -> None:
    """In an English answer the lines that are Hebrew or Arabic, but for their numbers, are set from the right."""
    page = visit(visitor, demo)
    for text in (HEBREW, ARABIC):
        say(page, text)
    say(page, "list everything")
    assert sides(page, ".answer:last-child .text") == ["both", "right", "right"]


# --- long texts ---


def test_a_text_that_is_too_long_is_kept_and_said(visitor: BrowserContext, demo: Server) -> None:
    """A paste over the bound stays whole, the page says by how much it is over, and sends it when it is shortened."""
    page = visit(visitor, demo)
    box = page.get_by_label("Your message")
    box.focus()
    page.keyboard.insert_text("é🙂" * (MAX_QUESTION // 2) + "xy")
    expect(page.get_by_role("alert")).to_have_text("The message is 2 characters too long; 16,000 can be sent.")
    expect(page.get_by_label("Send")).to_be_disabled()
    expect(box).to_have_attribute("aria-invalid", "true")
    page.keyboard.press("Enter")
    assert box.input_value() == "é🙂" * (MAX_QUESTION // 2) + "xy"
    for _ in range(2):
        page.keyboard.press("Backspace")
    expect(page.get_by_role("alert")).to_have_count(0)
    page.keyboard.press("Enter")
    expect(page.locator(".answer[data-status=done]")).to_have_count(1)
    assert read(page, "you") == ["é🙂" * (MAX_QUESTION // 2)]


@pytest.mark.parametrize(
    ("text", "said"), [("x" * 16_001, "longer than 16,000 characters"), ("\x01" * 16_000, "64 KiB")]
)
def test_what_the_server_refuses_is_said_and_given_back(
    visitor: BrowserContext, demo: Server, text: str, said: str
) -> None:
    """A question that the server does not take is no turn: its reason is shown, its text is in the input again."""
    limit = f'data-limit="{MAX_QUESTION}"'
    page = visitor.new_page()
    html = page.request.get(demo.url).text()
    assert limit in html  # the page and the server count to the same number
    page.route(
        demo.url + "/",
        lambda route: route.fulfill(response=route.fetch(), body=html.replace(limit, 'data-limit="99999"')),
    )
    page.goto(demo.url)
    say(page, "before")
    page.get_by_label("Your message").fill(text)
    page.get_by_label("Send").click()
    expect(page.get_by_role("alert")).to_contain_text(said)
    expect(page.get_by_label("Your message")).to_have_value(text)
    assert read(page, "you") == ["before"]
    say(page, "after")
    expect(page.get_by_role("alert")).to_have_count(0)


# --- a session that is gone ---


def poll(page: Page) -> None:
    page.clock.fast_forward(11_000)


def focus(page: Page) -> None:
    page.evaluate("dispatchEvent(new Event('focus'))")


@pytest.mark.parametrize("look", [poll, focus])
def test_a_page_notices_that_its_session_is_gone(
    visitor: BrowserContext, demo: Server, look: Callable[[Page], Any]
) -> None:
    """The old bubbles go and the page says why, on its own within seconds, at once when it is looked at."""
    page = visitor.new_page()
    page.clock.install()
    page.goto(demo.url)
    say(page, "hello")
    visitor.clear_cookies()  # for the server the same as an expired one
    look(page)
    expect(page.get_by_role("alert")).to_contain_text("has ended")
    expect(page.locator(".bubble")).to_have_count(0)
    expect(page.get_by_text("No session yet")).to_be_visible()
    say(page, "again")
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_question_to_a_server_started_anew_shows_what_it_knows(visitor: BrowserContext) -> None:
    """The answer of a new session stands alone: what was said before is no context of it, and the page says so."""
    port = free_port()
    with run_demo(port=port) as server:
        page = visit(visitor, server)
        say(page, "My name is Ada")
        server.terminate()
    with run_demo(port=port):
        page.get_by_label("Your message").fill("What is my name?")
        page.keyboard.press("Enter")
        expect(page.locator(".answer[data-status=done]")).to_contain_text("not told me")
        expect(page.get_by_role("alert")).to_contain_text("has ended")
        assert read(page, "you") == ["What is my name?"]
        assert page.faults == []  # type: ignore[attr-defined]


def test_a_server_that_is_away_is_said_until_it_is_back(visitor: BrowserContext, tmp_path: Path) -> None:
    """The page says that nobody answers, keeps what it shows, and takes the word back by itself."""
    port, store = free_port(), ("--store", f"sqlite:///{tmp_path}/chat.db")
    env = {"FASTERSESSION_SECRET": "the secret of the page's tests: long, and of nothing else"}
    page = visitor.new_page()
    page.clock.install()
    with run_demo(*store, port=port, env=env) as server:
        page.goto(server.url)
        say(page, "hello")
        server.terminate()
    poll(page)
    expect(page.get_by_role("alert")).to_contain_text("cannot be reached")
    assert read(page, "you") == ["hello"]
    with run_demo(*store, port=port, env=env):
        poll(page)
        expect(page.get_by_role("alert")).to_have_count(0)
        assert read(page, "you") == ["hello"]


# --- a new chat ---


def test_a_new_chat_asks_before_it_deletes(visitor: BrowserContext, demo: Server) -> None:
    """Nothing is deleted until the question is answered with yes: by no Escape, no Enter, and no double click."""
    page = visit(visitor, demo)
    say(page, "hello")
    button, dialog = page.get_by_role("button", name="New chat"), page.get_by_role("dialog")
    button.dblclick()
    page.keyboard.press("Escape")
    for refuse in (
        lambda: page.keyboard.press("Escape"),
        lambda: page.keyboard.press("Enter"),
        lambda: page.get_by_role("button", name="Keep it").click(),
    ):
        button.click()
        expect(page.get_by_role("button", name="Keep it")).to_be_focused()
        refuse()
        expect(dialog).to_be_hidden()
        expect(button).to_be_focused()
    page.reload()
    expect(page.locator(".answer[data-status=done]")).to_have_count(1)
    new_chat(page)
    expect(page.locator(".bubble")).to_have_count(0)
    expect(page.get_by_label("Your message")).to_be_focused()
    expect(page.get_by_role("alert")).to_have_count(0)
    button.click()
    expect(dialog).to_be_hidden()  # there is nothing to lose


def test_escape_at_the_question_stops_no_answer(visitor: BrowserContext, demo: Server) -> None:
    """The first Escape takes the question away, the second is the answer's."""
    page = visit(visitor, demo)
    begin(page)
    page.get_by_role("button", name="New chat").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    expect(page.locator(".answer[data-status=running]")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".answer[data-status=stopped]")).to_be_visible()


# --- two tabs ---


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
def test_an_open_tab_follows_another(visitor: BrowserContext, tmp_path: Path, kind: str) -> None:
    """The other tab shows the question at once, the answer as it grows, its end, and a new chat, on any store."""
    store = ("--store", f"sqlite:///{tmp_path}/chat.db") if kind == "sqlite" else ()
    with run_demo(*store) as server:
        page, other = visit(visitor, server), visit(visitor, server)
        page.bring_to_front()
        say(page, "hello")
        expect(other.locator(".answer[data-status=done]")).to_have_count(1)
        page.get_by_label("Your message").fill("count to 200")
        page.keyboard.press("Enter")
        expect(other.locator(".answer[data-status=running] .text")).to_contain_text("1 2 3 ")
        assert read(other, "you") == ["hello", "count to 200"]
        page.keyboard.press("Escape")
        expect(other.locator(".answer[data-status=stopped]")).to_have_count(1)
        new_chat(page)
        expect(other.locator(".bubble")).to_have_count(0)
        expect(other.get_by_role("alert")).to_contain_text("has ended")
        assert [*page.faults, *other.faults] == []  # type: ignore[attr-defined]


def test_a_new_chat_in_another_tab_ends_the_answer(visitor: BrowserContext, demo: Server) -> None:
    """The answer that streams in one tab stops when another deletes its conversation, and the page says why."""
    page, other = visit(visitor, demo), visit(visitor, demo)
    begin(page)
    expect(other.locator(".answer[data-status=running]")).to_be_visible()
    new_chat(other)
    expect(page.get_by_role("alert")).to_contain_text("has ended")
    expect(page.locator(".bubble")).to_have_count(0)
    expect(page.get_by_label("Stop the answer")).to_be_hidden()


def test_what_is_there_is_not_written_anew(visitor: BrowserContext, demo: Server) -> None:
    """A refresh touches nothing that stays as it was: a selection stays, and a screen reader does not begin again."""
    page, other = visit(visitor, demo), visit(visitor, demo)
    say(page, "hello")
    page.evaluate("for (const node of document.querySelectorAll('.bubble')) node.old = true")
    say(other, "and again")
    expect(page.locator(".answer[data-status=done]")).to_have_count(2)
    assert page.evaluate("[...document.querySelectorAll('.bubble')].map((node) => Boolean(node.old))") == [
        *(True, True),
        *(False, False),
    ]


# --- keyboard and screen reader ---


def test_a_chat_by_keyboard_and_ear(visitor: BrowserContext, demo: Server) -> None:
    """Controls have names and are reached by Tab, the log waits for whole answers, the status says what goes on."""
    page = visit(visitor, demo)
    log, status = page.get_by_role("log", name="Messages"), page.get_by_role("status")
    expect(page.get_by_label("Your message")).to_be_focused()
    page.keyboard.type("count to 500")
    page.keyboard.press("Enter")
    expect(log).to_have_attribute("aria-busy", "true")
    expect(status).to_have_text("Answering")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Stop the answer")).to_be_focused()
    page.keyboard.press("Enter")
    expect(status).to_have_text("Stopped")
    expect(log).to_have_attribute("aria-busy", "false")
    expect(page.get_by_label("Your message")).to_be_focused()
    say(page, "hello")
    expect(status).to_have_text("Answer complete")
    expect(page.get_by_label("Your message")).to_be_focused()
    expect(log).to_match_aria_snapshot("""
      - log "Messages":
        - article: "You: count to 500"
        - article: /Answer:.+Stopped/
        - article: "You: hello"
        - article: /Answer:.+first/
    """)
