"""Typed MessagePack: an application's own classes come back as themselves from a store of bytes, without pickle."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import Any

import attrs
import msgspec
import pydantic
import pytest
from driver import Browser, in_loop
from routes import Call, serve
from stores import SuspendingStore

from fastersession import ConfigError, MsgspecCodec
from fastersession.engine.packing import Packer
from fastersession.facts import USUAL


@dataclass
class Message:
    role: str
    text: str = ""


@dataclass
class ChatPrompt:
    """Stands for an application's own class, with methods and nested values."""

    system: str
    messages: list[Message] = field(default_factory=list)

    def add(self, role: str, text: str) -> None:
        self.messages.append(Message(role, text))


@attrs.define
class AttrsPrompt:
    system: str
    messages: list[Message] = attrs.Factory(list)


class StructPrompt(msgspec.Struct):
    system: str
    messages: list[Message] = []


class PydanticMessage(pydantic.BaseModel):
    role: str
    raw: bytes = b""


class PydanticPrompt(pydantic.BaseModel):
    system: str
    messages: list[PydanticMessage] = []


@dataclass
class Around:
    prompt: PydanticPrompt
    by_name: dict[str, AttrsPrompt]
    tags: frozenset[str] = frozenset()


TYPED = [
    ChatPrompt("s", [Message("user", "hello"), Message("assistant")]),
    AttrsPrompt("s", [Message("user", "hello")]),
    StructPrompt("s", [Message("user", "hello")]),
    PydanticPrompt(system="s", messages=[PydanticMessage(role="user", raw=b"x")]),
    Around(PydanticPrompt(system="s"), {"a": AttrsPrompt("t")}, frozenset({"x", "y"})),
]


def as_attribute(codec: Any, name: str, value: Any) -> Any:
    """Return what a save of one attribute comes to."""
    return Packer(codec, None).delta({name: value}, {}, USUAL)


@pytest.mark.parametrize("value", TYPED, ids=lambda value: type(value).__name__)
def test_msgspec_gives_back_named_types(value: Any) -> None:
    """A dataclass, attrs class, Struct or pydantic model, nested too, comes back as itself without pickle."""
    codec = MsgspecCodec(types={"chat_prompt": type(value)})
    back = codec.decode("chat_prompt", codec.encode("chat_prompt", value))
    assert back == value
    assert type(back) is type(value)


@pytest.mark.parametrize("value", TYPED, ids=lambda value: type(value).__name__)
def test_msgspec_refuses_a_type_that_is_not_named(value: Any) -> None:
    """An object that would come back as a dict is refused, and the log says what to do."""
    codec = MsgspecCodec(types={"chat_prompt": Message})
    with pytest.raises(ValueError, match=r"name its type in MsgspecCodec\(types"):
        codec.encode("other", value)
    assert as_attribute(codec, "chat_prompt", value).faults


@pytest.mark.parametrize("value", [None, "text", 1, 1.5, b"bytes", [], {"system": 1}], ids=repr)
def test_msgspec_refuses_another_type_under_a_named_one(value: Any) -> None:
    """What could not be read again is refused when it is saved: it must not make the session unreadable."""
    assert as_attribute(MsgspecCodec({"chat_prompt": ChatPrompt}), "chat_prompt", value).faults
    assert as_attribute(MsgspecCodec({"chat_prompt": ChatPrompt}), "other", None).faults == {}
    codec = MsgspecCodec({"chat_prompt": ChatPrompt | None})
    assert codec.decode("chat_prompt", codec.encode("chat_prompt", None)) is None


@in_loop
async def test_a_chat_prompt_lives_in_a_store_of_bytes() -> None:
    """The application's own object, changed in place by its methods, is there in the next request."""

    async def ask(call: Call) -> None:
        call.session.setdefault("chat_prompt", ChatPrompt("be brief")).add("user", call.query["text"])
        await call.reply(json.dumps([message.text for message in call.session["chat_prompt"].messages]))

    codec = MsgspecCodec(types={"chat_prompt": ChatPrompt})
    browser = Browser(serve({"/ask": ask}, store=SuspendingStore(), codec=codec))
    assert (await browser.get("/ask?text=one")).json() == ["one"]
    assert (await browser.get("/ask?text=two")).json() == ["one", "two"]


def test_msgspec_is_asked_for_by_its_extra(monkeypatch: Any) -> None:
    """Without msgspec the error says what to install."""
    monkeypatch.setitem(sys.modules, "msgspec", None)
    with pytest.raises(ConfigError, match=r'pip install "fastersession\[msgspec\]"'):
        MsgspecCodec()
