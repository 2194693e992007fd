"""Django's ASGI handler: `request.scope["session"]` in async and sync views, its own session middleware absent."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import Any

import django
import pytest
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.urls import path
from driver import App, Browser, in_loop, lifespan
from framework_contract import CONTRACT, SECRET, TOKENS, BrokenError, content
from stores import SuspendingStore

from fastersession import FasterSessionMiddleware
from fastersession.engine.running import Running

settings.configure(
    ALLOWED_HOSTS=["testserver"],
    DATABASES={},
    LOGGING_CONFIG=None,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of Django itself, which signs nothing here",
)
django.setup(set_prefix=False)


async def answer(session: dict[str, Any], route: str) -> AsyncIterator[str]:
    session["answer"] = ""
    for token in itertools.repeat("tick ") if route == "/endless" else TOKENS:
        session["answer"] += token
        yield token
        if route == "/break":
            raise BrokenError
        await asyncio.sleep(0)


async def chat(request: HttpRequest) -> StreamingHttpResponse:
    session = request.scope["session"]
    session["question"] = request.GET["q"]
    return StreamingHttpResponse(answer(session, request.path))


def sync_chat(request: HttpRequest) -> StreamingHttpResponse:
    """Write in Django's thread for sync views; the generator then runs in the loop."""
    session = request.scope["session"]
    session["question"] = request.GET["q"]
    return StreamingHttpResponse(answer(session, "/chat"))


async def fail(request: HttpRequest) -> HttpResponse:
    request.scope["session"]["answer"] = "never to be seen"
    return HttpResponse("failed", status=500)


def crash(request: HttpRequest) -> HttpResponse:
    request.scope["session"]["answer"] = "never to be seen"
    raise BrokenError


async def show(request: HttpRequest) -> JsonResponse:
    return JsonResponse(request.scope["session"])


def logout(request: HttpRequest) -> HttpResponse:
    request.scope["session"].invalidate()
    return HttpResponse()


async def plain(request: HttpRequest) -> HttpResponse:
    return HttpResponse("plain")


# Django leaves the body's temporary file open when a stream raises or is cancelled (ASGIHandler.handle).
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")


@pytest.fixture(autouse=True)
def _collect() -> Iterator[None]:
    """Let those files go while the filter above still holds."""
    yield
    gc.collect()


async def use(request: HttpRequest) -> HttpResponse:
    request.scope["session"].setdefault("list", []).append(1)
    return HttpResponse("used")


async def use_in_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def tokens() -> AsyncIterator[str]:
        for _ in range(3):
            request.scope["session"].setdefault("list", []).append(1)
            yield "x"

    return StreamingHttpResponse(tokens())


VIEWS = [chat, sync_chat, fail, crash, show, logout, plain, use, use_in_stream]
PATHS = {"endless": chat, "break": chat, "session": show} | {view.__name__.replace("_", "-"): view for view in VIEWS}
urlpatterns = [path(route, view) for route, view in PATHS.items()]


def make() -> App:
    return FasterSessionMiddleware(get_asgi_application(), secret_key=SECRET, secure=False)


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
@in_loop
async def test_the_contract(check: Any) -> None:
    """Django ASGI: streams, breaks, failures and logouts leave the session as promised."""
    await check(make())


@in_loop
async def test_a_sync_view_writes_from_its_thread() -> None:
    """A sync view's write in a worker thread and its generator's in the loop end in one session."""
    browser = Browser(make())
    await browser.get("/sync-chat?q=threads")
    assert await content(browser) == {"question": "threads", "answer": "one two three "}


@in_loop
async def test_nobody_has_the_session_when_a_usual_request_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Django keeps the request for the collector, in a cycle, and not the session: nothing is compared once more."""
    watched: list[Any] = []
    monkeypatch.setattr(Running, "keep_watch", lambda self, session: watched.append(session))
    app = FasterSessionMiddleware(get_asgi_application(), secret_key=SECRET, secure=False, store=SuspendingStore())
    browser = Browser(app)
    for route in ("/use", "/use-in-stream", "/use", "/use-in-stream"):
        assert (await browser.get(route)).status == 200
        assert watched == []


@in_loop
async def test_django_s_refusal_of_lifespan_is_made_good() -> None:
    """Django raises ValueError on the lifespan scope; ours goes through it alone, so a shutdown saves streams."""
    async with lifespan(make()):
        pass
