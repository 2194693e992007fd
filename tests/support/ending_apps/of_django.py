"""Django: a StreamingHttpResponse."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.urls import path

from fastersession import FasterSessionMiddleware

from . import OPTIONS, answer

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1"],
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="of Django itself, which signs nothing here",
)


async def chat(request: HttpRequest) -> StreamingHttpResponse:
    session = request.scope["session"]
    session["question"] = request.GET["q"]
    return StreamingHttpResponse(answer(session, request.GET["how"]))


async def show(request: HttpRequest) -> JsonResponse:
    return JsonResponse(request.scope["session"])


urlpatterns = [path("chat", chat), path("session", show)]


def make(store: Any) -> Any:
    return FasterSessionMiddleware(get_asgi_application(), store=store, **OPTIONS)
