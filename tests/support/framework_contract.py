"""What every framework is held to: it streams, breaks, fails and logs out, and the next request sees the right thing.

Rules of residence: checks that know only URLs. Each framework's test file serves these routes in its own idiom:

    /chat?q=     session["question"] = q; then a stream of TOKENS, each one added to session["answer"] by the generator
    /endless     the same without end, "tick " by "tick "
    /break       the stream raises BrokenError after its first token
    /fail        writes session["answer"], then answers 500
    /crash       writes session["answer"], then raises BrokenError before there is an answer
    /session     everything in the session, as JSON
    /logout      session.invalidate()
    /plain       an answer of known length that never looks at the session
"""

from __future__ import annotations

from typing import Any

from driver import App, Browser, Message

TOKENS = ("one ", "two ", "three ")
SECRET = "a secret of the framework tests, and of nothing else"


class BrokenError(Exception):
    """The application's own failure."""


async def content(browser: Browser) -> Any:
    return (await browser.get("/session")).json()


async def stream_and_come_back(app: App) -> None:
    """Keep what the generator wrote after the headers left for the next request, over several turns."""
    browser = Browser(app)
    for question in ("first", "second"):
        answer = await browser.get(f"/chat?q={question}")
        assert (answer.status, answer.text) == (200, "one two three ")
        assert await content(browser) == {"question": question, "answer": "one two three "}
    assert list(browser.jar) == ["sid"]


async def save_before_the_end_is_sent(app: App) -> None:
    """Have everything saved when the final message leaves: a client that saw the end finds it all."""
    browser, witness, found = Browser(app), Browser(app), []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body"):
                witness.jar = browser.jar.copy()
                found.append(await content(witness))
            await send(message)

        await app(scope, receive, sending)

    browser.app = watched
    await browser.get("/chat?q=all")
    assert found == [{"question": "all", "answer": "one two three "}]


async def two_browsers(app: App) -> None:
    """Show another browser nothing, and give it no cookie for looking."""
    first, second = Browser(app), Browser(app)
    await first.get("/chat?q=mine")
    assert await content(second) == {}
    assert not second.jar


async def leave_in_the_middle(app: App) -> None:
    """Keep the partial answer when the client leaves."""
    browser = Browser(app)
    await browser.leave("/endless?q=all", after=3)
    session = await content(browser)
    assert session["question"] == "all"
    assert session["answer"].startswith("tick tick tick ")


async def break_the_pipe(app: App) -> None:
    """Keep the partial answer when the client's leaving shows as an OSError of `send` (spec 2.4)."""
    browser = Browser(app, spec="2.4")
    await browser.leave("/endless?q=all", after=3, closing=BrokenPipeError)
    assert (await content(browser))["answer"].startswith("tick tick tick ")


async def cancel_in_the_middle(app: App) -> None:
    """Keep the partial answer when the app task is cancelled, once or repeatedly."""
    for times in (1, 2, 3):
        browser = Browser(app)
        await browser.cancel("/endless?q=all", after=3, times=times)
        assert (await content(browser))["answer"].startswith("tick tick tick ")


async def break_in_the_middle(app: App) -> None:
    """Keep the partial answer when the generator raises."""
    browser = Browser(app)
    answer = await browser.get("/break?q=why", catch=True)
    assert answer.status == 200
    assert await content(browser) == {"question": "why", "answer": "one "}


async def fail_before_the_start(app: App) -> None:
    """Discard what a request wrote that ends in a 500, by answer or by exception; a newcomer gets no session."""
    browser = Browser(app)
    for path in ("/fail", "/crash"):
        await browser.get(path, catch=True)
        assert not browser.jar
    await browser.get("/chat?q=kept")
    for path in ("/fail", "/crash"):
        await browser.get(path, catch=True)
        assert await content(browser) == {"question": "kept", "answer": "one two three "}


async def log_out(app: App) -> None:
    """Take the cookie from the browser at invalidate(), and open nothing for a copy of it."""
    browser, thief = Browser(app), Browser(app)
    await browser.get("/chat?q=secret")
    thief.jar = browser.jar.copy()
    await browser.get("/logout")
    assert not browser.jar
    assert await content(thief) == {}


async def stay_out_of_the_way(app: App) -> None:
    """Leave an answer that never touched the session as it is: no cookie, cacheable, even in a session."""
    browser = Browser(app)
    await browser.get("/chat?q=anything")
    answer = await browser.get("/plain")
    assert answer.text == "plain"
    assert (answer.all("set-cookie"), answer.all("vary"), answer.all("cache-control")) == ([], [], [])


CONTRACT = (
    stream_and_come_back,
    save_before_the_end_is_sent,
    two_browsers,
    leave_in_the_middle,
    break_the_pipe,
    cancel_in_the_middle,
    break_in_the_middle,
    fail_before_the_start,
    log_out,
    stay_out_of_the_way,
)
