"""A chat that keeps its conversation as one object of a class of its own, as applications do: FastAPI, no pickle.

Rules of residence: written as its users write theirs; STORE is the store's URL. Served as `prompt_app:app`.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from server_apps import SECRET

from fastersession import FasterSessionMiddleware, MsgspecCodec
from fastersession.stores import from_url


@dataclass
class Message:
    role: str
    text: str = ""


@dataclass
class ChatPrompt:
    """The conversation: what the model is given, and what it has said."""

    system: str
    messages: list[Message] = field(default_factory=list)

    def add(self, role: str, text: str = "") -> Message:
        self.messages.append(Message(role, text))
        return self.messages[-1]

    def turns(self) -> int:
        return sum(message.role == "user" for message in self.messages)


CODEC = MsgspecCodec(types={"chat_prompt": ChatPrompt})
app = FastAPI()


@app.get("/ready")
async def ready() -> str:
    return "ready"


@app.get("/ask")
async def ask(request: Request, text: str) -> StreamingResponse:
    prompt = request.session.setdefault("chat_prompt", ChatPrompt("be brief"))

    async def answer() -> AsyncIterator[str]:
        prompt.add("user", text)
        said = prompt.add("assistant")
        for token in (f"turn {prompt.turns()}: ", "you said ", text):
            said.text += token
            yield token

    return StreamingResponse(answer())


store = from_url(os.environ.get("STORE", "memory://"))
app.add_middleware(FasterSessionMiddleware, secret_key=SECRET, store=store, codec=CODEC, secure=False)
