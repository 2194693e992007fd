"""ChatStream as its users set it up, unmodified, on our middleware instead of its ancestor's.

Rules of residence: runs in an environment of its own (see test_chatstream.py); imports nothing of the tests. `/turns`
shows the ChatPrompt that is in the session, and that it is one live object all along.
"""

from __future__ import annotations

import os
from typing import Any

from chatstream import ChatPromptTogetherRedPajamaINCITEChat, ChatStream
from chatstream import chat_stream_middleware_appender as appender
from chatstream.access_control.default_client_role_grant_middleware import DefaultClientRoleGrantMiddleware
from fastapi import FastAPI, Request

from fastersession import FasterSessionMiddleware, MemoryStore

SECRET = "a secret of the ChatStream test, and of nothing else"
ROLES = {"user": {"apis": {"allow": "all", "auth_method": "nothing", "use_session": True}}}

chat_stream = ChatStream(
    use_mock_response=True,
    mock_params={"type": "round", "time_per_token_sec": 0.01},
    chat_prompt_clazz=ChatPromptTogetherRedPajamaINCITEChat,
    client_roles=ROLES,
)
app = FastAPI(on_startup=[chat_stream.start_queue_worker])
chat_stream.append_apis(app, {"all": True})


@app.get("/turns")
async def turns(request: Request) -> dict[str, Any]:
    """Show the conversation: the turns counted by ChatStream, and each message of either side."""
    prompt = request.session.get("chat_prompt")
    if prompt is None:
        return {"turns": 0}
    messages = [content.get_message() for content in prompt.get_contents()]
    return {"turns": prompt.get_turn(), "messages": messages, "object": id(prompt)}


if "DROPPED_IN" in os.environ:  # ChatStream's own code adds the session middleware, and finds ours under that name
    appender.FastSessionMiddleware, appender.MemoryStore = FasterSessionMiddleware, MemoryStore
    chat_stream.append_middlewares(app)
else:
    app.add_middleware(DefaultClientRoleGrantMiddleware, chat_stream=chat_stream)
    app.add_middleware(FasterSessionMiddleware, secret_key=SECRET, store=MemoryStore(), secure=False)
