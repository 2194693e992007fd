"""``python -m fastersession sessions``: what administrators see and end, and what never reaches a terminal (U12)."""

from __future__ import annotations

import asyncio
import json
import unicodedata
from typing import Any
from urllib.parse import quote

import pytest
from accounts import ROUTES
from clocks import FakeClock
from driver import Browser
from hypothesis import given
from hypothesis import strategies as st
from routes import record_id, serve

from fastersession import MemoryStore
from fastersession.__main__ import main
from fastersession.administration import commands
from fastersession.administration.printing import shown
from fastersession.testing import FaultyStore

SECRET = "a secret of the administrators' tests, and of nothing else"


class Kept(MemoryStore):
    """A store that stays open, and is called as one of bytes."""

    async def load(self, record_id: bytes) -> Any:
        return await super().load(record_id)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the store that every URL leads to."""
    made = Kept(clock=FakeClock())
    monkeypatch.setattr(commands, "from_url", lambda url: made)
    monkeypatch.setenv("FASTERSESSION_SECRET", SECRET)
    return made


def visitors(store: Any) -> dict[str, Browser]:
    """Log some users in, and leave a guest."""
    return asyncio.run(_visitors(store))


async def _visitors(store: Any) -> dict[str, Browser]:
    app = serve(ROUTES, store=store, secret_key=SECRET)
    made = {}
    for name, label in (("ada", "phone"), ("ada", "laptop"), ("eve", "\x1b[2J\u202egnp.exe")):
        browser = made[label] = Browser(app)
        await browser.get(f"/in?user={name}&label={quote(label)}")
        store.clock.advance(1)
    made["guest"] = Browser(app)
    await made["guest"].get("/set?cart=1")
    return made


def command(*arguments: str) -> int:
    return main(["sessions", *arguments, "--cookie-name", "sid", "--store", "memory://"])


def ids(made: dict[str, Browser], *names: str) -> list[str]:
    return [record_id(made[name]).hex() for name in names]


def test_a_table_of_sessions(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, the columns of a user are empty for a guest; never a token."""
    made = visitors(store)
    assert command("list") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "user", "label", "created", "last", "used", "expires"]
    assert sorted(line.split()[0] for line in lines) == sorted(ids(made, *made))
    assert any("ada" in line and "phone" in line and "2023-11-14 22:13:20Z" in line for line in lines)
    tokens = [cookie.value for browser in made.values() for cookie in browser.jar.values()]
    assert not any(token in line for token in tokens for line in lines)


def test_the_sessions_of_a_user_as_json(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """One object a line, the last used first; nobody's are nothing."""
    made = visitors(store)
    assert command("list", "--user", "ada", "--json") == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(one["user"], one["label"]) for one in found] == [("ada", "laptop"), ("ada", "phone")]
    assert [one["id"] for one in found] == ids(made, "laptop", "phone")
    assert command("list", "--user", "nobody", "--json") == 1
    assert capsys.readouterr().out == ""


def test_pages_follow_one_another(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each says how to go on; together they are all."""
    made, seen, after = visitors(store), list[str](), list[str]()
    for _ in range(10):
        status, printed = command("list", "--json", "--limit", "1", *after), capsys.readouterr()
        found = [json.loads(line)["id"] for line in printed.out.splitlines()]
        assert status == (0 if found else 1)
        seen += found
        if "more: --after" not in printed.err:
            break
        after = printed.err.split()[-2:]
    assert sorted(set(seen)) == sorted(ids(made, *made))


def test_u12_what_strangers_wrote_is_escaped(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """U12: a label with escape sequences and a right-to-left override, in the table, alone and as JSON."""
    made = visitors(store)
    (strange,) = ids(made, "\x1b[2J\u202egnp.exe")
    for arguments in (["list"], ["show", strange], ["show", strange, "--attributes"], ["list", "--json"]):
        assert command(*arguments) == 0
        out = capsys.readouterr().out
        assert not {unicodedata.category(char) for char in out} & {"Cf", "Cs", "Co", "Zl", "Zp"}
        assert "\x1b" not in out
        assert "gnp.exe" in out


@given(st.text())
def test_u12_shown_text_acts_on_nothing(text: str) -> None:
    """U12: no character that controls, formats or is none; all others stay."""
    # Invariant: what is shown has no such character, and text without any is shown as it is.
    hidden = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}
    assert not {unicodedata.category(char) for char in shown(text)} & hidden
    if not {unicodedata.category(char) for char in text} & hidden:
        assert shown(text) == text


def test_one_session(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """With what is in it only if asked."""
    made = visitors(store)
    (phone,) = ids(made, "phone")
    assert command("show", phone) == 0
    out = capsys.readouterr().out
    assert "user: ada" in out
    assert "after" not in out
    assert command("show", phone, "--attributes", "--json") == 0
    assert json.loads(capsys.readouterr().out)["attributes"] == {"after": "'ada'"}
    assert command("show", "0" * 32) == command("show", "no id") == 1


def test_sessions_are_ended(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """By id, by user, or all; what matched nothing is told by the exit status."""
    made = visitors(store)
    phone, laptop, guest = ids(made, "phone", "laptop", "guest")
    assert command("revoke", phone) == 0
    assert "1 sessions ended" in capsys.readouterr().out
    assert command("revoke", phone, "0" * 32, "no id") == 1
    assert command("revoke") == 2
    assert command("revoke-user", "ada", "--keep", laptop, "--yes") == 1
    assert command("revoke-user", "ada", "--yes", "--json") == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"ended": 1}
    assert command("show", laptop) == 1
    assert command("show", guest) == 0
    assert command("revoke", "--all", "--yes") == 0
    assert len(store) == 0


def test_bulk_work_asks_first(store: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal by a question; where nobody can be asked, nothing is done."""
    visitors(store)
    assert command("revoke-user", "ada") == command("revoke", "--all") == 1
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    answers = iter(["n", "y"])
    monkeypatch.setattr("builtins.input", lambda question: next(answers))
    assert command("revoke-user", "ada") == 1
    assert len(store) == 4
    assert command("revoke-user", "ada") == 0
    assert len(store) == 2


def test_a_scan_finds_what_the_index_has_lost(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every session is looked at."""
    made = visitors(store)
    phone, laptop = ids(made, "phone", "laptop")
    store._table._index.clear()
    assert command("revoke-user", "ada", "--yes") == 1
    assert command("revoke-user", "ada", "--scan", "--yes", "--keep", laptop) == 0
    assert [command("show", one) for one in (phone, laptop)] == [1, 0]


def test_numbers(store: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Sessions, those of users, and users; purging says how many."""
    visitors(store)
    assert command("stats", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sessions"], found["of users"], found["users"]) == (4, 3, 2)
    store.clock.advance(10**6)
    assert command("purge", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"removed": 4}
    assert command("stats") == 1


def test_without_the_key(store: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ids and times only, which is said; what needs the key is refused."""
    made = visitors(store)
    monkeypatch.delenv("FASTERSESSION_SECRET")
    assert command("list", "--json") == 0
    printed = capsys.readouterr()
    assert "FASTERSESSION_SECRET is not set" in printed.err
    found = [json.loads(line) for line in printed.out.splitlines()]
    assert {one["user"] for one in found} == {None}
    assert sorted(one["id"] for one in found) == sorted(ids(made, *made))
    assert command("revoke-user", "ada", "--yes") == 2
    assert command("revoke", *ids(made, "phone")) == 0


def test_a_store_that_is_down(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 3, and a sentence; a URL that cannot work is 2."""
    broken = FaultyStore(clock=FakeClock())
    broken.fail("page", times=10)
    monkeypatch.setenv("FASTERSESSION_SECRET", SECRET)
    with monkeypatch.context() as patch:
        patch.setattr(commands, "from_url", lambda url: broken)
        assert command("list") == 3
    assert "the store cannot be used" in capsys.readouterr().err
    assert main(["sessions", "list", "--store", "nosuch://"]) == 2
    monkeypatch.delenv("FASTERSESSION_STORE", raising=False)
    assert main(["sessions", "list"]) == 2


@pytest.mark.parametrize("arguments", [("--limit", "0"), ("--limit", "-1"), ("--limit", "x"), ("--after", "zz")])
def test_a_page_that_cannot_be_is_wrong_usage(
    store: Any, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]
) -> None:
    """Exit status 2, not 1: "nothing matched" would be wrong."""
    with pytest.raises(SystemExit) as raised:
        command("list", *arguments)
    assert raised.value.code == 2
    assert arguments[0] in capsys.readouterr().err
