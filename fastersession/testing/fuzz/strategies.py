"""Hypothesis strategies for what reaches an application and what it may send: scopes, cookies, content, messages.

Rules of residence: data only. Nothing here runs an application; ``scenario`` has the strategy of scenarios.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from ..browser.answer import Message
from ..browser.jar import Headers

Strategy = st.SearchStrategy[Any]
TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-0123456789", min_size=1, max_size=12).map(str.encode)
FIELD_VALUE = st.binary(max_size=30).map(lambda raw: raw.translate(None, b"\0\r\n").strip())  # no server lets these by
TOKEN_LIKE = st.text("abcABC012_-", min_size=88, max_size=88)
SEPARATORS = (b"; ", b";", b" ;\t", b";;", b", ", b"; ; ")
FOREIGN = (
    b"theme=dark", b"a[x]=1", b'quoted="; sid=1"', b"=nameless", b"novalue", b"$Version=1", b"a=b=c", b"\xff=\xfe",
    b"utf8=\xc3\xa9", b"empty=", b'"', b"%73id=1", b"\t", b"",
)  # fmt: skip
HUGE = 70_000  # over what we, and most servers, read of cookies


def cookie_headers(name: str = "__Host-sid", values: Sequence[str] = ()) -> st.SearchStrategy[Headers]:
    """Cookie headers, valid, malformed, split, duplicate and huge, as a list of raw pairs.

    :param name: the cookie that they are about.
    :param values: real values of it, which come as they are, cut, and altered; without, what only looks like one.
    """
    key = name.encode()
    real = st.sampled_from([value.encode("latin-1") for value in values]) if values else TOKEN_LIKE.map(str.encode)
    value = st.one_of(real, st.builds(_altered, real, st.integers(0, 90), st.integers(0, 255)), st.binary(max_size=100))
    spelt = st.sampled_from((key, key, key, key.upper(), b"x" + key, key + b"x", b" " + key, key + b" ", b'"%s"' % key))
    pair = st.one_of(st.builds(b"%s=%s".__mod__, st.tuples(spelt, value)), st.sampled_from(FOREIGN))
    field = st.builds(bytes.join, st.sampled_from(SEPARATORS), st.lists(pair, min_size=1, max_size=6))
    huge = st.builds(lambda piece, front: piece * (HUGE // len(piece)) + front, pair.filter(bool), pair)
    fields = st.lists(st.one_of(field, field, field, huge), max_size=4)
    return fields.map(lambda found: [(b"cookie", one) for one in found])


def _altered(value: bytes, place: int, byte: int) -> bytes:
    """Cut a value at a place within it, or put another byte there, or add one."""
    place %= len(value) + 1  # or most cuts of a short value would cut nothing
    if byte < 40:
        return value[:place]
    return value[:place] + bytes([byte]) + value[place + (byte % 2) :]


def scopes(*, cookies: Strategy | None = None, kinds: Sequence[str] = ("http", "websocket")) -> Strategy:
    """ASGI scopes as servers make them: optional keys there or not, odd paths, many headers, empty and large.

    :param cookies: a strategy of Cookie headers that are put among the others; ``None`` takes ``cookie_headers()``.
    :param kinds: of ``"http"`` and ``"websocket"``.
    """
    return st.sampled_from(kinds).flatmap(lambda kind: _scopes(kind, cookie_headers() if cookies is None else cookies))


def _scopes(kind: str, cookies: Strategy) -> Strategy:
    others = st.lists(st.tuples(TOKEN.filter(lambda name: name != b"cookie"), FIELD_VALUE), max_size=4)
    host = st.sampled_from(([], [(b"host", b"testserver")], [(b"host", b"testserver:8000")]))
    names = st.sampled_from(("/", "/a", "/a/b", "/%", "//", "/\N{GRINNING FACE}", "/..", "/a b", "/" + "x" * 300))
    address = st.sampled_from((None, ("127.0.0.1", 50_000), ("::1", 1)))
    keys: dict[str, Strategy] = {
        "type": st.just(kind),
        "asgi": st.sampled_from(("2.1", "2.3", "2.4")).map(lambda spec: {"version": "3.0", "spec_version": spec}),
        "http_version": st.sampled_from(("1.0", "1.1", "2", "3")),
        "scheme": st.sampled_from(("http", "https") if kind == "http" else ("ws", "wss")),
        "path": names,
        "query_string": st.sampled_from((b"", b"a=1", b"sid=1", b"%", b"\xff", b"&&=")),
        "root_path": st.sampled_from(("", "/mounted")),
        "headers": st.builds(lambda first, more, last: [*first, *more, *last], host, others, cookies),
    }
    optional: dict[str, Strategy] = {
        "raw_path": names.map(lambda path: path.encode()),
        "client": address,
        "server": address,
        "state": st.just({}).map(dict),
        "extensions": st.just({"http.response.debug": {}, "http.response.early_hint": {}}).map(dict),
    }
    if kind == "http":
        keys["method"] = st.sampled_from(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "BREW"))
    else:
        keys["subprotocols"] = st.sampled_from(([], ["chat"])).map(list)
    return st.fixed_dictionaries(keys, optional=optional)


def session_data(*, max_size: int = 5) -> st.SearchStrategy[dict[str, Any]]:
    """Attributes that every store and codec keeps: names with their values, nested, odd, and equal after JSON."""
    scalars = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53), 2**53),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    )
    values = st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
        max_leaves=12,
    )
    names = st.text(max_size=20).map(lambda name: name.replace("\0", ""))
    return st.dictionaries(names, values, max_size=max_size)


def asgi_messages(kind: str = "http") -> st.SearchStrategy[list[Message]]:
    """Messages that an application may send in one call, in an order that the spec allows, or in any.

    :param kind: ``"http"`` or ``"websocket"``. Every message has the keys that it needs; extensions and types that
        nobody knows are among them.
    """
    headers = st.lists(st.tuples(TOKEN, FIELD_VALUE), max_size=3)
    optional = {"headers": headers | headers.map(tuple)}
    statuses = st.sampled_from((200, 204, 302, 304, 404, 500, 503))
    body = {"body": st.binary(max_size=20), "more_body": st.booleans()}
    if kind == "http":
        start = _message("http.response.start", {"status": statuses}, optional | {"trailers": st.just(False)})
        chunk = _message("http.response.body", {"body": st.binary(min_size=1, max_size=20), "more_body": st.just(True)})
        final = _message("http.response.body", {}, {"body": st.binary(max_size=20), "more_body": st.just(False)})
        legal = st.builds(lambda first, chunks, last: [first, *chunks, last], start, st.lists(chunk, max_size=4), final)
        others = [
            _message("http.response.body", {}, body),
            _message("http.response.start", {"status": st.sampled_from((100, 103, 200, 500))}, optional),
            _message("http.response.trailers", {"headers": headers}, {"more_trailers": st.booleans()}),
            _message("http.response.early_hint", {"links": st.just([])}),
            _message("http.response.debug", {"info": st.just({})}),
        ]
    else:
        start = _message("websocket.accept", {}, optional | {"subprotocol": st.none()})
        chunk = _message("websocket.send", {"text": st.text(max_size=10)})
        final = _message("websocket.close", {}, {"code": st.sampled_from((1000, 1001, 4000)), "reason": st.just("")})
        accepted = st.builds(lambda first, sent, last: [first, *sent, last], start, st.lists(chunk, max_size=4), final)
        denied = st.tuples(
            _message("websocket.http.response.start", {"status": statuses, "headers": headers}),
            _message("websocket.http.response.body", {"body": st.binary(max_size=20), "more_body": st.just(False)}),
        )
        legal = st.one_of(accepted, denied.map(list), final.map(lambda last: [last]))
        others = [
            _message("websocket.http.response.body", {}, body),
            _message("websocket.send", {"bytes": st.binary(max_size=9)}),
        ]
    unknown = _message("example.unknown", {"headers": st.none()})
    return st.one_of(legal, st.lists(st.one_of(start, chunk, final, unknown, *others), max_size=6))


def _message(kind: str, keys: dict[str, Strategy], optional: dict[str, Strategy] | None = None) -> Strategy:
    return st.fixed_dictionaries({"type": st.just(kind), **keys}, optional=optional or {})
