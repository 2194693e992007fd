"""Where the configuration may come from: wrapped secrets, URLs, the environment; and how its faults read."""

from __future__ import annotations

import asyncio
import decimal
import logging
import pathlib
import re
import sys
import traceback
import uuid
import warnings
from datetime import timedelta
from typing import Any

import pytest
from apps import ask, cookie, site, token_of
from driver import in_loop, lifespan
from paths import TESTS
from pydantic import SecretBytes, SecretStr
from serving import free_port, launch
from starlette.datastructures import CommaSeparatedStrings
from starlette.datastructures import Secret as StarletteSecret
from stores import SuspendingStore

from fastersession import ConfigError, FasterSessionMiddleware, InsecureSecretKeyWarning, MemoryStore, StoreError
from fastersession.testing import Browser

KEY = "a key of the configuration tests, and of nothing else"
OLD = "an older key of the configuration tests, used before"


def ours(app: Any = site, **options: Any) -> FasterSessionMiddleware:
    return FasterSessionMiddleware(app, **{"secret_key": KEY, "secure": False, **options})


async def opens(app: Any, token: str) -> bool:
    return (await ask(app, headers=cookie(token))).json() == {"name": "alice"}


# --- what hides a key ---


class Vault:
    """As pydantic's: nothing but the method tells."""

    def __init__(self, key: Any) -> None:
        self.key = key

    def get_secret_value(self) -> Any:
        return self.key


@pytest.mark.parametrize(
    "hide",
    [StarletteSecret, SecretStr, lambda k: SecretBytes(k.encode()), Vault, lambda k: Vault(k.encode()), str.encode],
    ids=["starlette", "pydantic", "pydantic-bytes", "any", "any-bytes", "bytes"],
)
@in_loop
async def test_a_hidden_key_is_the_key(hide: Any) -> None:
    """What hides a key from its repr is the key in it, alone and in a sequence, first and last."""
    store = MemoryStore()
    token = await token_of(ours(store=store))
    for given in (hide(KEY), [hide(KEY)], (OLD, hide(KEY)), [hide(KEY), hide(OLD)], (StarletteSecret(OLD), hide(KEY))):
        assert await opens(ours(secret_key=given, store=store), token)
    assert not await opens(ours(secret_key=hide(OLD), store=store), token)


@in_loop
async def test_any_sequence_of_keys_is_taken() -> None:
    """Starlette's list from a configuration file is a sequence as any other."""
    store = MemoryStore()
    token = await token_of(ours(store=store, secret_key=KEY + "without a comma"))
    keys = CommaSeparatedStrings([OLD, KEY + "without a comma"])
    assert await opens(ours(secret_key=keys, store=store), token)


@pytest.mark.parametrize("hide", [StarletteSecret, SecretStr, Vault])
def test_k5_a_hidden_key_is_judged_as_any_other(hide: Any) -> None:
    """K5: a short one warns, an empty one is refused."""
    with pytest.warns(InsecureSecretKeyWarning):
        ours(secret_key=hide("short"))
    with pytest.raises(ConfigError, match=r"^secret_key: .* not an empty one; .*keygen"):
        ours(secret_key=hide(""))


class Shy:
    """Its text is its repr: nobody's key."""


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        *((wrong, f"an object of class {type(wrong).__name__}") for wrong in (
            1, 1.5, True, {KEY: 1}, {KEY}, Shy(), bytearray(KEY.encode()), memoryview(KEY.encode()), uuid.UUID(int=7),
            pathlib.PurePosixPath("/run/secrets/key"), decimal.Decimal(7), iter([KEY]), lambda: KEY,
        )),
        (SecretStr, "the class SecretStr"), (Vault, "the class Vault"),
        *((wrong, f"an object of class {name}") for wrong, name in (
            (Vault(None), "NoneType"), (Vault(5), "int"), ([KEY, None], "NoneType"), ([KEY, [KEY]], "list"),
            ([KEY, Shy()], "Shy"),
        )),
    ],
)  # fmt: skip
def test_what_is_no_key_is_named_by_class(wrong: Any, named: str) -> None:
    """Who gave a path, a class or a dict reads which class it was, and never its content."""
    with pytest.raises(ConfigError) as caught:
        ours(secret_key=wrong)
    text = str(caught.value)
    assert text.startswith("secret_key: ")
    assert f" not {named}; " in text
    assert not any(shown in text for shown in (KEY, "/run/secrets", "Shy object", "00000007"))


# --- a store by its URL ---


@in_loop
async def test_a_store_may_be_a_url(tmp_path: pathlib.Path) -> None:
    """A URL makes the store that `from_url` makes: here one file, which two applications share."""
    url = f"sqlite:///{tmp_path}/sessions.db"
    one, two = ours(store=url), ours(store=url)
    async with lifespan(one), lifespan(two):
        token = await token_of(one)
        assert await opens(two, token)


@in_loop
async def test_each_memory_url_is_a_store_of_its_own() -> None:
    """`memory://` makes a MemoryStore, as None does."""
    token = await token_of(ours(store="memory://"))
    assert not await opens(ours(store="memory://"), token)


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("postgres://u:hunter2@h/db", "unknown scheme 'postgres'"),
        ("hunter2", "unknown scheme; known are"),
        ("sqlite://sessions.db", "sqlite needs a path after three slashes"),
        ("memory://x", "memory:// takes nothing after it"),
        ("redis://u:hunter2@h/db", "the database in redis://***@h/db"),
        ("postgresql://u:hunter2@h:port/db", "postgresql://... cannot be read"),
        ("", "unknown scheme"),
        ("redis:/hunter2", "the URL must start with redis://"),
    ],
)
def test_a_url_that_cannot_work_names_the_argument(url: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fault is that of `store`, or of the variable it came from, without a password and without a chain."""
    with pytest.raises(ConfigError) as caught:
        ours(store=url)
    assert str(caught.value).startswith(f"store: {says}")
    assert "hunter2" not in "".join(traceback.format_exception(caught.value, chain=True)).replace(repr(url), "")
    assert caught.value.__cause__ is caught.value.__context__ is None
    monkeypatch.setenv("FASTERSESSION_STORE", url)
    if url:
        with pytest.raises(ConfigError, match=f"^FASTERSESSION_STORE: {re.escape(says)}") as caught:
            ours()
        assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("in_environment", [True, False])
def test_k9_an_error_of_the_configuration_shows_no_password_and_no_key(
    in_environment: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K9: an error reporter that sends the locals of our frames learns neither, wherever they came from."""
    url = "postgres://user:hunter2@host/db"
    if in_environment:
        monkeypatch.setenv("FASTERSESSION_SECRET", KEY)
        monkeypatch.setenv("FASTERSESSION_STORE", url)
    given = {} if in_environment else {"secret_key": [SecretStr(KEY), StarletteSecret(OLD)], "store": url}
    with pytest.raises(ConfigError) as caught:
        FasterSessionMiddleware(site, path="x", **given)
    report = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    frames = [
        frame
        for frame in report.stack
        if "fastersession/" in frame.filename and not frame.filename.startswith(str(TESTS))
    ]
    shown = [f"{name}={value}" for frame in frames for name, value in (frame.locals or {}).items()]
    assert len(frames) == 2
    assert not [text for text in [*shown, str(caught.value)] if "hunter2" in text or KEY in text or OLD in text]


# --- the environment ---


@in_loop
async def test_the_environment_gives_what_was_not_given(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: pathlib.Path
) -> None:
    """One key and a URL; an INFO line for each says that it was taken, and never what."""
    caplog.set_level(logging.INFO)
    path = tmp_path / "of the environment.db"
    monkeypatch.setenv("FASTERSESSION_SECRET", KEY)
    monkeypatch.setenv("FASTERSESSION_STORE", f"sqlite:///{path}")
    app = FasterSessionMiddleware(site, secure=False)
    async with lifespan(app):
        token = await token_of(app)
        async with lifespan(other := ours(store=f"sqlite:///{path}")):
            assert await opens(other, token)
    lines = [(r.levelname, r.event, r.getMessage()) for r in caplog.records if hasattr(r, "event")]
    assert [line for line in lines if line[1] != "lifespan.unknown"] == [
        ("INFO", "config.environment", "secret_key was taken from the environment variable FASTERSESSION_SECRET"),
        ("INFO", "config.environment", "store was taken from the environment variable FASTERSESSION_STORE"),
    ]
    assert KEY not in caplog.text
    assert str(path) not in caplog.text


@in_loop
async def test_what_was_given_wins(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An argument leaves its variable unread, however wrong that is, and no line speaks of it."""
    caplog.set_level(logging.INFO)
    store = MemoryStore()
    token = await token_of(ours(store=store))
    monkeypatch.setenv("FASTERSESSION_SECRET", OLD)
    monkeypatch.setenv("FASTERSESSION_STORE", "nonsense")
    assert await opens(ours(store=store), token)
    assert caplog.records == []


@in_loop
async def test_the_whole_value_of_the_variable_is_one_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commas, spaces and line ends are characters of a key: nothing is split, nothing stripped."""
    store = MemoryStore()
    for key in (f"{KEY},{OLD}", f" {KEY} ", f"{KEY}\n", f"['{KEY}']", KEY + "\udcff"):
        monkeypatch.setenv("FASTERSESSION_SECRET", key)
        app = FasterSessionMiddleware(site, secure=False, store=store)
        token = await token_of(app)
        assert await opens(ours(secret_key=key, store=store), token)
        assert not await opens(ours(store=store), token)


def test_an_empty_variable_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a container leaves it that has nothing to put there: no key, and a store in memory."""
    monkeypatch.setenv("FASTERSESSION_SECRET", "")
    monkeypatch.setenv("FASTERSESSION_STORE", "")
    with pytest.raises(ConfigError, match=r"^secret_key: give one, or set FASTERSESSION_SECRET"):
        FasterSessionMiddleware(site)
    ours()


def test_k5_a_weak_key_of_the_environment_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    """K5: wherever it comes from."""
    monkeypatch.setenv("FASTERSESSION_SECRET", "change me")
    with pytest.warns(InsecureSecretKeyWarning) as caught:
        FasterSessionMiddleware(site, secure=False)
    assert caught[0].filename == __file__
    assert "change me" not in str(caught[0].message)


# --- the time that a store gets ---


class Hanging(SuspendingStore):
    """Answers nothing to one verb until it is told to."""

    def __init__(self, verb: str) -> None:
        super().__init__()
        self.told, self.verb = asyncio.Event(), getattr(self, verb)
        setattr(self, verb, self._hang)

    async def _hang(self, *arguments: Any) -> Any:
        await self.told.wait()
        return await self.verb(*arguments)


async def writing(scope: Any, receive: Any, send: Any) -> None:
    """Write before the answer starts and before it ends."""
    scope["session"]["early"] = 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    scope["session"]["late"] = 2
    await send({"type": "http.response.body", "body": b"", "more_body": False})


@pytest.mark.parametrize("verb", ["load", "create"])
@in_loop
async def test_store_timeout_bounds_a_call_of_the_store(verb: str) -> None:
    """Of two requests whose stores hang, the one that came first and may wait longer still does when the other ends."""
    token = await token_of(ours(site))
    headers = cookie(token) if verb == "load" else []
    store = Hanging(verb)
    patient = asyncio.ensure_future(ask(ours(writing, store=store, store_timeout=600), headers=headers))
    await asyncio.sleep(0)
    for bound in (0.05, timedelta(milliseconds=50)):
        answer = await ask(ours(writing, store=Hanging(verb), store_timeout=bound), headers=headers)
        assert answer.status == 503
        assert not patient.done()
    store.told.set()
    assert (await patient).status == 200


@in_loop
async def test_a_late_save_may_take_two_and_a_half_times_that() -> None:
    """The error that ends its retries names the time: 2.5 times the bound of a call."""
    for bound, said in ((0.02, "within 0.05 s"), (0.04, "within 0.1 s")):
        app = ours(writing, store=Hanging("update"), store_timeout=bound)
        answer = await Browser(app, scheme="http").get("/", catch=True)
        assert isinstance(answer.error, StoreError)
        assert said in str(answer.error)


# --- how faults read ---

BROKEN = """
from starlette.applications import Starlette
from starlette.middleware import Middleware
from fastersession import FasterSessionMiddleware
async def ready(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})
app = Starlette(middleware=[Middleware(FasterSessionMiddleware, OPTIONS)])
"""


@pytest.mark.parametrize(
    ("options", "last"),
    [
        ("", ["secret_key: give one, or set FASTERSESSION_SECRET; `python -m fastersession keygen` makes one"]),
        ("'', path='x', store='nonsense'", ["3 faults:", "secret_key: ", "path: ", "store: "]),
    ],
    ids=["one", "three"],
)
def test_a_fault_is_readable_under_the_traceback_of_a_server(
    options: str, last: list[str], tmp_path: pathlib.Path
) -> None:
    """Starlette makes its middlewares at the first message: what uvicorn prints then ends in the faults, unchained."""
    (tmp_path / "broken.py").write_text(BROKEN.replace("OPTIONS", options))
    port = free_port()
    command = f"uvicorn broken:app --app-dir {tmp_path} --host 127.0.0.1 --port {port} --lifespan auto"
    with launch([sys.executable, "-m", *command.split()], port) as server, server.client() as client:
        assert client.get("/").status_code == 500
        text = server.output
    lines = text.rpartition("fastersession.errors.ConfigError: ")[2].splitlines()
    assert all(line.strip().startswith(start) for line, start in zip(lines, last, strict=False))
    assert "During handling of the above" not in text
    assert "direct cause" not in text


def test_faults_of_one_argument_are_one_line() -> None:
    """The text of a single fault begins with its argument, as it always did."""
    with pytest.raises(ConfigError) as caught:
        ours(path="x")
    assert str(caught.value) == "path: must start with '/' and hold visible ASCII without ';', for instance '/'"


def test_every_line_of_several_faults_begins_with_its_argument() -> None:
    """The first line counts them; no fault spans two lines."""
    with pytest.raises(ConfigError) as caught:
        ours(secret_key=5, path="x", store="nonsense", store_timeout=0, exclude=["x"])
    counted, *lines = str(caught.value).splitlines()
    assert counted == "5 faults:"
    names = [line.removeprefix("  ").split(": ")[0] for line in lines]
    assert names == ["secret_key", "path", "exclude", "store", "store_timeout"]


def test_what_is_wrong_is_raised_without_a_warning_beside_it() -> None:
    """Warnings are given for a configuration that works: beside an error they would be noise."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(ConfigError):
            ours(secret_key="short", path="x")
    assert caught == []
