"""An application that users log in to by way of another site, and that other site: `127.0.0.1` beside `localhost`.

Rules of residence: raw ASGI, one process for both sites, for browsers take the two names for two sites.
"""

from __future__ import annotations

import json
import os
from typing import Any

from fastersession import FasterSessionMiddleware

SECRET = "a secret of the tests of two sites, and of nothing else"
PROVIDER = """<a id=link href="{back}">back</a>
<form method=post action="{back}"><button id=form>back</button></form>"""


async def application(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    host = dict(scope["headers"])[b"host"].decode()
    kind, body = b"application/json", json.dumps(scope["session"]).encode()
    if scope["path"] == "/begin":
        scope["session"]["state"] = "kept"
    elif scope["path"] == "/provider":
        kind, body = (
            b"text/html",
            PROVIDER.format(back=f"http://{host.replace('127.0.0.1', 'localhost')}/back").encode(),
        )
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", kind)]})
    await send({"type": "http.response.body", "body": body})


app = FasterSessionMiddleware(application, SECRET, same_site=os.environ["SAME_SITE"])
