"""The demo's built-in model: it remembers, and only what the conversation says."""

from __future__ import annotations

import pytest

from fastersession.demo.model import Turn, reply


@pytest.mark.parametrize(
    ("questions", "answer"),
    [
        (["I like tea", "What did I say first?"], "“I like tea”"),
        (["I like tea", "And cake", "what did i say last?"], "“And cake”"),
        (["I like tea", "And cake", "What did I say before that?"], "“And cake”"),
        (["a", "b", "c", "what was my second message?"], "“b”"),
        (["a", "b", "How many things have I said?"], "3 things"),
        (["How many things have I said?"], "One thing"),
        (["My name is Ada Lovelace", "hm", "What is my name?"], "Ada Lovelace"),
        (["my name\u2019s Ada.", "Who am I?"], "Ada"),
        (["What is my name?"], "not told me"),
        (["Call me Ada", "My name is Grace", "what's my name?", "hello"], "Grace"),
        (["What did I say first?"], "Nothing came before"),
        (["What did I say last?"], "Nothing yet"),
        (["a", "what was the third thing I said?"], "not that far"),
        (["tea", "cake", "Please list everything"], "1. “tea”\n2. “cake”"),
        (["count to 5"], "1 2 3 4 5."),
        (["The first thing to do is sleep"], "I will remember it"),
        (["{first} {0}", "more {x}", "still more"], "still more"),
        (["tea", "tell me a story"], "“tea”"),
        (["x" * 60_000, "what did I say first?"], "x…”"),
    ],
)
def test_the_builtin_model_quotes_the_conversation(questions: list[str], answer: str) -> None:
    """Asked about earlier turns, the built-in model answers from them."""
    history: list[Turn] = [{"question": q, "answer": "ok", "status": "done", "error": ""} for q in questions]
    assert answer in reply(history)


def test_the_builtin_model_can_quote_itself() -> None:
    """Asked what it said, the model looks at the answers."""
    said: list[Turn] = [
        {"question": "a", "answer": "First answer.", "status": "done", "error": ""},
        {"question": "What did you say last?", "answer": "", "status": "running", "error": ""},
    ]
    assert "I said “First answer.”" in reply(said)
