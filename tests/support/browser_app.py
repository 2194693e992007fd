"""What real browsers are served: the routes of `server_apps`, a page whose scripts may fetch them, and a logout.

Rules of residence: as `server_apps`. The environment says SECURE, MAX_AGE (seconds) and STORE (a URL).

    /page          a page of this origin; with paths as JSON behind a # it fetches them, and tells what they answered
    /page/told?..  what a page tells, as JSON           /page/heard    the last that was told
    /sent          the cookies that came with the request
    /logout        ends the session
"""

from __future__ import annotations

import json
import os
from typing import Any
from urllib.parse import unquote

from server_apps import ROUTES, SECRET, Request, plain

from fastersession import FasterSessionMiddleware
from fastersession.stores import from_url

PAGE = b"""<!doctype html><title>page</title><script type="module">
if (location.hash) {
  const answers = [];
  const paths = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  for (const path of paths) answers.push(await (await fetch(path)).text());
  await fetch("/page/told?" + encodeURIComponent(JSON.stringify(answers)));
}
</script>"""

told: list[str] = []


async def page(request: Request) -> None:
    await request.start(b"text/html", len(PAGE))
    await request.body(PAGE)


async def tell(request: Request) -> None:
    told[:] = json.loads(unquote(request.scope["query_string"].decode()))
    await request.json("thanks")


async def heard(request: Request) -> None:
    await request.json(told)


async def sent(request: Request) -> None:
    await request.json([value.decode() for name, value in request.scope["headers"] if name == b"cookie"])


async def logout(request: Request) -> None:
    request.session.invalidate()
    await request.json("bye")


ROUTES |= {"/page": page, "/page/told": tell, "/page/heard": heard, "/sent": sent, "/logout": logout}

options: dict[str, Any] = {"secure": "SECURE" in os.environ, "max_age": int(os.environ.get("MAX_AGE", 0))}
app = FasterSessionMiddleware(plain, secret_key=SECRET, store=from_url(os.environ.get("STORE", "memory://")), **options)
