"""The checks of every request, whatever the application is: the oracles of ``check_app``.

Rules of residence: a check is a function of one finished request. It yields a violation for each thing that is wrong:
what was expected, and what was got, in words. What another request may have caused is no violation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..browser.answer import STARTS, Message
from ..browser.jar import Headers
from .browsers import Client, ClientRequest
from .legality import illegal

Violation = tuple[str, str]  # (expected, got)
ABSENT = object()
OURS = (b"vary", b"cache-control")  # headers that a session middleware may add or replace


def first_violation(request: ClientRequest, cookie: str, clients: Sequence[Client]) -> Violation | None:
    """Return the first violation that the checks find in a finished request."""
    others = [client for client in clients if client is not request.client]
    checks: tuple[Callable[[], Iterator[Violation]], ...] = (
        lambda: errors(request),
        lambda: messages(request, cookie),
        lambda: cookies(request, cookie),
        lambda: ended_sessions(request),
        lambda: leaks(request, others),
    )
    for check in checks:
        for violation in check():
            return violation
    return None


def errors(request: ClientRequest) -> Iterator[Violation]:
    """No exception comes out that the application did not raise, and none of the application's is lost."""
    out, own = request.answer.error, request.call.error
    if out is own or type(out) is type(own) or (request.left and isinstance(out, asyncio.CancelledError)):
        return
    if out is None:
        yield f"the {type(own).__name__} of the application comes out of the middleware", "it was swallowed"
    else:
        ended = "returned" if own is None else f"raised {own!r}"
        yield f"no exception but the application's own, which {ended}", f"{type(out).__name__}: {out}"


def messages(request: ClientRequest, cookie: str) -> Iterator[Violation]:
    """Each message arrives as the application sent it, but for the session's headers, and in a legal order."""
    sent, arrived = request.call.sent, request.answer.messages
    whole = request.call.reached and not request.left and request.answer.error is None and not request.connection.gone
    if not request.call.reached:
        yield "the application is asked", f"an answer without it: {_types(arrived)}"
    if len(arrived) > len(sent) or (whole and len(arrived) < len(sent)):
        yield f"the messages of the application: {_types(sent)}", _types(arrived)
    for before, after in zip(sent, arrived, strict=False):
        if _bare(before) != _bare(after):
            yield f"{before['type']} as the application sent it: {short(_bare(before))}", short(_bare(after))
        if _others(before, cookie) != _others(after, cookie):
            yield f"the application's headers: {_others(before, cookie)}", str(_others(after, cookie))
        if not _names(before) <= _names(after) | set(OURS):
            yield f"the headers {sorted(_names(before))}", str(sorted(_names(after)))
    if request.call.mutated:
        yield "the application's list of headers is left as it is", "it was changed in place"
    fault = illegal(arrived)
    if fault and not illegal(sent):
        yield "messages in an order that ASGI allows, as the application's is", fault


def cookies(request: ClientRequest, name: str) -> Iterator[Violation]:
    """Each start sets at most one session cookie, and removes only that of a session which has not ended."""
    for message in request.answer.messages:
        lines = [line for line in _headers(message) if _is_session_cookie(line, name)]
        own = sum(_is_session_cookie(line, name) for one in request.call.sent for line in _headers(one))
        if len(lines) > 1 + own:
            yield "one Set-Cookie of the session", f"{len(lines)}"
        if message["type"] not in STARTS and len(lines) > own:
            yield "a cookie only with the start of a response", f"one in {message['type']}"
    cleared = [line for line in request.lines(name) if line.expired]
    if cleared and (not request.genuine or request.had_ended or request.carried is None):
        yield "no Set-Cookie for a cookie that leads nowhere", f"the cookie is removed: {cleared[0].line()}"


def ended_sessions(request: ClientRequest) -> Iterator[Violation]:
    """No session that has ended comes back, and a cookie that is not genuine leads to no session."""
    if request.call.user is not None and (request.had_ended or not request.genuine):
        yield "nobody is logged in", f"{request.call.user!r} is"
    if request.call.before and (request.had_ended or not request.genuine):
        why = "the session of this cookie has ended" if request.had_ended else "no cookie of the request is genuine"
        yield f"an empty session: {why}", short(request.call.before)


def leaks(request: ClientRequest, others: Iterable[Client]) -> Iterator[Violation]:
    """Nothing that only one browser knows reaches another, neither in its session nor in an answer to it."""
    out = b"\n".join(part for message in request.answer.messages for part in _bytes(message))
    within = repr((request.call.user, request.call.before, request.call.after))
    for other in others:
        for word in other.secrets():
            what = "the cookie" if word != other.canary else f"{word!r}"
            where = "its answer" if word.encode() in out else "its session" if word in within else ""
            if where:
                yield f"nothing of browser {other.name} reaches browser {request.client.name}", f"{what} is in {where}"


def must_be_stored(request: ClientRequest, cookie: str) -> bool:
    """Return whether the content that a finished request left is certain to be in the store."""
    client, value = request.client, request.client.value(cookie)
    given = [line.value for line in request.lines(cookie) if not line.expired]
    own = value is not None and value == (given[-1] if given else request.carried)
    sure = own and request.genuine and not request.had_ended and not request.unsure
    started = request.status is not None and request.status < 500 and not illegal(request.call.sent)
    return sure and started and request.call.after is not None and not (value and client.has_ended(value))


def lost_change(request: ClientRequest, found: dict[str, Any] | None) -> Violation | None:
    """Return a violation where the content that a later request finds differs from that which this request left."""
    after, found = request.call.after or {}, found or {}
    for name in sorted(request.call.changed() - request.contested):
        if found.get(name, ABSENT) != after.get(name, ABSENT):
            return f"session[{name!r}] is {_of(after, name)}", f"{_of(found, name)}"
    if not request.contested and found != after:
        return f"the session is as the request left it: {short(after)}", short(found)
    return None


def _of(content: dict[str, Any], name: str) -> str:
    return short(content[name]) if name in content else "not there"


def short(value: Any, most: int = 120) -> str:
    """Return a value's ``repr``, cut if it has more than so many characters."""
    text = repr(value)
    return text if len(text) <= most else f"{text[: most - 20]}... ({len(text)} characters)"


def _types(sent: Iterable[Message]) -> str:
    return ", ".join(message["type"] for message in sent) or "none"


def _headers(message: Message) -> Headers:
    return list(message.get("headers") or ())


def _is_session_cookie(line: tuple[bytes, bytes], name: str) -> bool:
    return line[0].lower() == b"set-cookie" and line[1].partition(b"=")[0].strip() == name.encode()


def _bare(message: Message) -> Message:
    return {key: value for key, value in message.items() if key != "headers"}


def _others(message: Message, name: str) -> Headers:
    return [line for line in _headers(message) if line[0].lower() not in OURS and not _is_session_cookie(line, name)]


def _names(message: Message) -> set[bytes]:
    return {line[0].lower() for line in _headers(message)} - {b"set-cookie"}


def _bytes(message: Message) -> Iterator[bytes]:
    for value in message.values():
        if isinstance(value, bytes | str):
            yield value if isinstance(value, bytes) else value.encode("utf-8", "surrogatepass")
    for line in _headers(message):
        yield from line
