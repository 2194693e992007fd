"""``python -m fastersession conversations`` and ``reseal``: what administrators see, export and delete."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from typing import Any

import pytest
from accounts import BytesStore

from fastersession import Conversations, JsonCodec
from fastersession.__main__ import main
from fastersession.administration import conversations as commands
from fastersession.testing import FakeClock

SECRET = "a secret of the administrators' tests, and of nothing else"
OLD = "the secret of before, which is as long as it should be"
codec = JsonCodec()


class Old(BytesStore):
    """A store of a release before conversations."""

    logs = None  # type: ignore[assignment]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the store that every URL leads to, with what two users have."""
    made = BytesStore(clock=FakeClock())
    monkeypatch.setattr(commands, "from_url", lambda url: made)
    monkeypatch.setenv("FASTERSESSION_SECRET", SECRET)
    asyncio.run(_filled(made, SECRET))
    return made


async def _filled(store: Any, key: str) -> None:
    async with Conversations(store, key) as conversations:
        for user, name, title in (("ada", "a", "First"), ("ada", "b", None), ("eve", "\x1b[2J", "\u202egnp.exe")):
            store.clock.advance(1)
            chat = conversations.of_user(user)[name]
            await chat.append({"text": f"{user} says"}, key="k")
            await chat.set(title=title, metadata={"n": 1})


def command(*arguments: str) -> int:
    return main(["conversations", *arguments, "--store", "memory://"])


def printed(capsys: pytest.CaptureFixture[str]) -> list[Any]:
    """Return what was printed, as JSON."""
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_table(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each; U12: what strangers wrote is escaped."""
    assert command("list") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["user", "name", "title", "created", "updated", "running"]
    assert len(lines) == 3
    assert any(line.split()[:3] == ["ada", "a", "First"] and "2023-11-14 22:13:21Z" in line for line in lines)
    text = "".join(lines)
    assert not {unicodedata.category(char) for char in text} & {"Cc", "Cf"}
    assert "gnp.exe" in text


def test_lists_of_a_user_and_pages(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The last updated first; pages of anybody's follow one another; nobody's are nothing."""
    assert command("list", "--user", "ada", "--json") == 0
    assert [(one["user"], one["name"], one["running"]) for one in printed(capsys)] == [
        ("ada", "b", False), ("ada", "a", False),
    ]  # fmt: skip
    seen: list[Any] = []
    after: list[str] = []
    for _ in range(5):
        assert command("list", "--json", "--limit", "1", *after) == 0
        out = capsys.readouterr()
        seen += [json.loads(line)["name"] for line in out.out.splitlines()]
        if "more: --after" not in out.err:
            break
        after = out.err.split()[-2:]
    assert sorted(seen) == ["\x1b[2J", "a", "b"]
    assert command("list", "--user", "nobody", "--json") == 1


def test_export(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """All that a user has, or what is named, with every entry."""
    assert command("export", "ada") == 0
    found = printed(capsys)
    assert [one.get("title", one.get("value")) for one in found] == [
        None, {"text": "ada says"}, "First", {"text": "ada says"},
    ]  # fmt: skip
    assert found[0]["metadata"] == {"n": 1}
    assert found[1].keys() == {"name", "id", "value", "run"}
    assert command("export", "ada", "a", "--codec", f"{__name__}:codec") == 0
    assert [one["name"] for one in printed(capsys)] == ["a", "a"]
    assert command("export", "ada", "c") == command("export", "nobody") == 1


def test_delete(store: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What is named, or all of a user; it asks first."""
    assert command("delete", "ada") == 2
    assert command("delete", "ada", "a") == 1
    assert "--yes" in capsys.readouterr().err
    assert command("delete", "ada", "a", "--yes") == 0
    assert "1 conversations deleted" in capsys.readouterr().out
    assert command("delete", "ada", "a", "--yes") == 1
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda question: "y")
    capsys.readouterr()
    assert command("delete", "ada", "--all", "--json") == 0
    assert printed(capsys) == [{"deleted": 1}]
    assert command("list", "--user", "ada", "--json") == 1
    assert command("list", "--user", "eve", "--json") == 0


def test_reseal(store: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what was moved, and what is left of a key that it does not have."""
    asyncio.run(_filled(store, OLD))
    monkeypatch.setenv("OLD", OLD)
    assert main(["reseal", "--store", "memory://"]) == 1
    assert "3 left, for none of the keys reads them" in capsys.readouterr().out
    assert main(["reseal", "--store", "memory://", "--old-secret-env", "OLD", "--json"]) == 0
    assert printed(capsys) == [{"resealed": 3, "running": 0, "unreadable": 0}]
    assert main(["reseal", "--store", "memory://"]) == 0
    assert capsys.readouterr().out == "0 conversations moved under the current key\n"
    assert command("list", "--user", "ada", "--json") == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--secret-env", "NONE"], "set NONE"),
        (["--old-secret-env", "NONE"], "set NONE"),
        (["--codec", "nothing"], "MODULE:NAME"),
        (["--codec", "no_such_module:codec"], "no_such_module"),
        (["--codec", "json:no_such_name"], "no_such_name"),
        (["--codec", "json:dumps"], "codec: must be a codec"),
    ],
)
def test_wrong_usage(store: Any, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    """Each in words, with the remedy."""
    assert command("list", *arguments) == 2
    assert words in capsys.readouterr().err


def test_a_store_that_cannot_be_used(
    store: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """None named; one that keeps no conversations; one that fails."""
    monkeypatch.delenv("FASTERSESSION_STORE", raising=False)
    assert main(["conversations", "list"]) == 2
    assert "--store" in capsys.readouterr().err

    def broken() -> Any:
        raise OSError("no route")

    monkeypatch.setattr(store, "open", broken)
    assert command("list") == 3
    assert "the store cannot be used" in capsys.readouterr().err
    monkeypatch.undo()
    monkeypatch.setenv("FASTERSESSION_SECRET", SECRET)
    monkeypatch.setattr(commands, "from_url", lambda url: Old())
    assert command("list") == 2
    assert "Old keeps none" in capsys.readouterr().err
