"""What is said of a store that cannot be used, at construction and by commands: place and remedy, never a password."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from paths import ROOT
from servers_redis import free_port

from fastersession import ConfigError, FasterSessionError
from fastersession.__main__ import main
from fastersession.stores import from_url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://u:hidden@host/abc", r"redis://\*\*\*@host/abc, .*must be a number"),
        ("rediss://u:hidden@host:1//5x", "must be a number"),
        ("redis://u:hidden@host?db=x", r"redis://\*\*\*@host: .*numbers"),
        ("redis://u:hidden@host:port/0", r"redis://\.\.\.: .*numbers"),
        ("redis://host:hidden", r"redis://\.\.\.: .*numbers"),  # its "@host" was forgotten
        ("redis://u:12/hidden@host/0", "percent-encoding"),
        ("redis://u:p#hidden@host/0", "percent-encoding"),
        ("redis://u:p?hidden=1@host/0", "percent-encoding"),
        ("redis://u:hidden@host/0?sokket=1", r"redis://\*\*\*@host/0: redis-py knows no option 'sokket'"),
        ("redis://u:hidden@host/0?socket_timeout=x", r"redis://\*\*\*@host/0: .*timeouts must be numbers"),
        ("postgresql://u:hidden@host:port/d", r"postgresql://\.\.\. cannot be read; port"),
        ("postgresql://u:p@/hidden@host/d", r"postgresql://\.\.\. cannot be read; .*percent-encoding"),
        ("postgresql://u:p@hidden@host/d", r"postgresql://\.\.\. cannot be read; .*percent-encoding"),
        ("postgresql://u@host:1/d?password=p@hidden", r"postgresql://\.\.\. cannot be read; .*percent-encoding"),
        ("postgresql://u@host:1/d?password=hidden@/hidden", r"postgresql://\.\.\. cannot be read; .*percent-encoding"),
        ("mysql://host:hidden/d", r"mysql://\.\.\. cannot be read; port"),
    ],
)
def test_a_url_that_cannot_be_read_is_told_at_construction(url: str, said: str) -> None:
    """The place and the remedy, whatever part of the URL a password has got into."""
    with pytest.raises(ConfigError) as caught:
        from_url(url)
    assert re.search(said, str(caught.value))
    assert "hidden" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_database_that_is_a_number_is_taken() -> None:
    """redis-py reads what is no number as 0, in silence; everything else is left to it."""
    for end in ("", "/", "/0", "/15", "?db=3", "/0?protocol=3", "//2"):
        from_url(f"redis://host{end}")


def test_a_url_with_an_at_elsewhere_is_taken() -> None:
    """In a password behind a slash, and in an option, SQLAlchemy reads it as it is meant."""
    for rest in (
        "u:p@/d?host=host",
        "u:p@:1/d?host=host",
        "u:p/q@host/d",
        "u%40c:p@host/d",
        "u:p@host/d?application_name=a@b",
        "host/d",
    ):
        assert "host" in repr(from_url(f"postgresql+psycopg://{rest}"))


async def _opened(url: str) -> None:
    store = from_url(url)
    try:
        await store.open()
    finally:
        await store.close()


PORT = free_port()
FORMS = [
    "redis://user:{}@127.0.0.1:{port}/0", "redis://:{}@127.0.0.1:{port}", "redis://127.0.0.1:{port}/0?password={}",
    "redis://127.0.0.1:{port}/{}", "postgresql://user:{}@127.0.0.1:{port}/db", "mysql://user:{}@127.0.0.1:{port}/db",
    "postgresql://user@127.0.0.1:{port}/db?password={}", "unix://user:{}@/nowhere/at.all", "redis://{}@127.0.0.1:{port}",
]  # fmt: skip


SPECIAL = st.text("/?#@%:&=+ a1[]", max_size=4)


@given(
    st.sampled_from(FORMS),
    SPECIAL | st.text(max_size=8),
    st.sampled_from([str, quote_plus, lambda text: quote(text, "")]),
)
@example("postgresql://user@127.0.0.1:{port}/db?password={}", "@/", str)
@example("postgresql://user:{}@127.0.0.1:{port}/db", "@1/", str)
def test_no_error_of_a_url_shows_its_password(form: str, rest: str, spelt: object) -> None:
    """Invariant: whatever the password is, and however it is spelt, no error of the URL or of the store shows it."""
    password = f"hidden{rest}hidden"
    url = form.format(spelt(password), port=PORT)  # type: ignore[operator]
    try:
        asyncio.run(_opened(url))
    except FasterSessionError as error:
        place = str(error) if "/{}" not in form else ""  # what stands in the place of a database is shown
        assert "hidden" not in place
    else:
        raise AssertionError("nobody listens there")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://u:hidden@127.0.0.1:{port}/0", r"redis://\*\*\*@127\.0\.0\.1:\d+/0: .*is a server running there\?"),
        ("postgresql://u:hidden@127.0.0.1:{port}/d", r"u:\*\*\*@127\.0\.0\.1:\d+/d: .*is a server running there\?"),
        ("sqlite:///{folder}", "SQLite cannot use /.*: it is a folder: name a file in it"),
        ("sqlite:///{folder}/none/a.db", "the folder /.*/none is missing: make it"),
    ],
)
def test_the_demo_says_it_in_one_line(url: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 1, one sentence with the place and the remedy, no traceback and no password."""
    assert main(["demo", "--port", "0", "--store", url.format(port=free_port(), folder=tmp_path)]) == 1
    printed = capsys.readouterr()
    assert re.fullmatch(f"fastersession: the store cannot be used: .*{said}\n", printed.err), printed.err
    assert "hidden" not in printed.err
    assert printed.out == ""


@pytest.mark.parametrize("url", ["redis://u:hidden@host/abc", "postgresql://u:hidden@host:port/d", "sqlite:///"])
def test_the_demo_refuses_a_url_that_cannot_be_read(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A wrong argument: exit status 2, the usage, and what is wrong."""
    with pytest.raises(SystemExit) as caught:
        main(["demo", "--store", url])
    printed = capsys.readouterr().err
    assert caught.value.code == 2
    assert "error: --store: " in printed
    assert "hidden" not in printed


AS_NOBODY = """
import asyncio, os, sys
from fastersession import StoreError
from fastersession.stores.sqlite import SQLiteStore
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
async def main():
    for path in sys.argv[1:]:
        store = SQLiteStore(path)
        try:
            await store.open()
        except StoreError as error:
            print(error)
        else:
            print("opened")
        await store.close()
asyncio.run(main())
"""


def test_a_file_that_may_not_be_written_is_named_with_what_it_needs(tmp_path: Path) -> None:
    """A file, and a folder, without the right to write: told at the opening, not at the first save."""
    places = [tmp_path / "file" / "a.db", tmp_path / "folder" / "a.db", tmp_path / "none" / "a.db"]
    for place in places:
        place.parent.mkdir()
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != Path("/tmp"):
            parent.chmod(0o755)
    for place in places[:2]:
        asyncio.run(_opened(f"sqlite:///{place}"))
    places[0].chmod(0o444)
    places[1].chmod(0o666)
    places[0].parent.chmod(0o777)
    places[1].parent.chmod(0o555)
    places[2].parent.chmod(0o555)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", AS_NOBODY, *map(str, places)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    for parent in (place.parent for place in places):
        parent.chmod(0o755)
    lines = done.stdout.splitlines()
    assert len(lines) == 3, done.stderr
    for line, place in zip(lines, places, strict=True):
        assert line.startswith(f"SQLite cannot use {place}: this process may not write there: it needs the rights"), (
            line
        )


WITHOUT = """
import sys
sys.modules[{package!r}] = None
try:
    import fastersession.testing.{module}
except ImportError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("module", "package"), [("fuzz", "hypothesis"), ("stores", "hypothesis"), ("stores", "pytest")]
)
def test_the_extra_of_the_kit_is_named(module: str, package: str) -> None:
    """What needs hypothesis or pytest says which extra installs it."""
    code = WITHOUT.format(package=package, module=module)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert f'needs {package}: pip install "fastersession[testing]"' in done.stdout
