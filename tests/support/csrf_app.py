"""An application that acts for its user, and the pages of other sites that would have it act: one process for all.

Rules of residence: raw ASGI. Browsers take `127.0.0.1` and `localhost` for two sites, and two ports for siblings.
"""

from __future__ import annotations

import json
import os
from typing import Any

from fastersession import FasterSessionMiddleware

SECRET = "a secret of the tests of forged requests, and of nothing else"
PAGE = """<form method=post action="{at}/act"><button id=form>act</button></form>
<script>
const tell = (done) => { document.title = done };
const act = () => fetch("{at}/act", {method: "POST", mode: "no-cors", credentials: "include"}).then(() => tell("done"));
</script><button id=fetch onclick="act()">fetch</button>"""


async def application(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    session, kind = scope["session"], b"application/json"
    if scope["path"] == "/begin":
        session["acted"] = 0
    elif scope["path"] == "/act":
        session["acted"] = session.get("acted", 0) + 1
    body = json.dumps(session).encode()
    if scope["path"] == "/page":
        kind, body = b"text/html", PAGE.replace("{at}", scope["query_string"].decode()).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


app = FasterSessionMiddleware(application, SECRET, same_site="none", csrf=os.environ["CSRF"])
