"""What is uploaded: it is built, checked and installed as users do it, and the tests run from the source archive.

The tools stand in an environment of their own, which is kept; what is built goes into one that is empty before.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from environments import environment
from paths import ROOT, place_of
from serving import free_port, launch

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

FOLDERS = ("fastersession", "tests", "bench", ".ci")
FROM_ARCHIVE = ("test_bench_truth", "test_layers", "test_readme", "test_session", "test_the_command", "test_tokens")
STORY = """
import asyncio
from fastersession import FasterSessionMiddleware
from fastersession.testing import Browser

async def chat(scope, receive, send):
    session = scope["session"]
    before = session.get("answer", "nothing")
    session["answer"] = ""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for token in ("before ", "this: ", before):
        session["answer"] += token
        await send({"type": "http.response.body", "body": token.encode(), "more_body": True})
    await send({"type": "http.response.body"})

async def story():
    browser = Browser(FasterSessionMiddleware(chat, "the key of this test, and of nothing else"))
    return [(await browser.get("/")).text for _ in range(2)]

print(asyncio.run(story()))
"""


@dataclass
class Built:
    """The two archives, and the source archive unpacked."""

    wheel: Path
    sdist: Path
    unpacked: Path


def out(folder: Path, *command: str | Path) -> str:
    """Run a command where nothing of the checkout is in reach; return what it says."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-10_000:]
    return done.stdout


def files(folder: Path) -> set[str]:
    """Return what is kept of a checkout, relative to it: its folders, and what lies at its top."""
    top = [path for path in folder.iterdir() if path.is_file() and path.name not in (".git", ".coverage")]
    within = [path for name in FOLDERS for path in (folder / name).rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix() for path in top + within if "__pycache__" not in path.parts}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both as `python -m build` does, from a copy that no git and no earlier build has been at."""
    folder = tmp_path_factory.mktemp("package")
    for name in files(ROOT):
        (folder / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / "copy" / name)
    tools = environment("package", ["build>=1.2", "twine>=6"])
    out(folder, tools, "-m", "build", "--outdir", "dist", "copy")
    (wheel,), (sdist,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    out(folder, tools, "-m", "twine", "check", "--strict", wheel, sdist)
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return Built(wheel, sdist, folder / sdist.name.removesuffix(".tar.gz"))


def test_the_source_archive_has_all_that_the_checkout_has(built: Built) -> None:
    """Tests, benchmark, pictures, texts: nothing is missing, and nothing else has slipped in."""
    assert files(built.unpacked) - {"PKG-INFO"} == files(ROOT)


def test_the_wheel_has_the_package_alone(built: Built) -> None:
    """Every file of it, the page of the demo among them, and no tests."""
    names = zipfile.ZipFile(built.wheel).namelist()
    package = {name for name in files(ROOT) if name.startswith("fastersession/")}
    assert {name for name in names if ".dist-info/" not in name} == package


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_what_is_installed_does_its_job(kind: str, built: Built, tmp_path: Path) -> None:
    """In an empty environment, with what it needs alone: a streamed answer is kept. With its extra, the demo serves."""
    archive: Path = getattr(built, kind)
    bin_ = tmp_path / "env" / "bin"
    out(tmp_path, sys.executable, "-m", "venv", tmp_path / "env")
    pip = (bin_ / "python", "-m", "pip", "--disable-pip-version-check")
    out(tmp_path, *pip, "install", archive)
    assert out(tmp_path, bin_ / "python", "-W", "error", "-c", STORY) == (
        "['before this: nothing', 'before this: before this: nothing']\n"
    )
    assert len(out(tmp_path, bin_ / "fastersession", "keygen")) == 44
    out(tmp_path, *pip, "install", f"{archive}[demo]")
    out(tmp_path, *pip, "check")
    port = free_port()
    command = [str(bin_ / "fastersession"), "demo", "--port", str(port)]
    with launch(command, port, {"PYTHONPATH": ""}, ready="/") as server, server.client() as client:
        page = client.get("/")
        assert page.headers["content-type"].startswith("text/html")
        assert "event: " in client.post("/chat", json={"message": "hello"}).text


def test_the_tests_run_from_the_source_archive(built: Built) -> None:
    """A distributor has no git: some of every kind pass where it was unpacked, on the package beside them."""
    (built.unpacked / ".venv-tests").mkdir()
    (built.unpacked / ".venv-tests" / "foreign.py").write_text("import os")
    out(built.unpacked, sys.executable, "-m", "ruff", "check", ".")
    env = {**os.environ, "PYTHONPATH": str(built.unpacked)}
    where = [sys.executable, "-c", "import fastersession; print(fastersession.__file__)"]
    said = subprocess.run(where, cwd=built.unpacked, env=env, capture_output=True, text=True, check=True).stdout
    assert said.strip() == str(built.unpacked / "fastersession" / "__init__.py")
    tests = [place_of(name) for name in FROM_ARCHIVE]
    command = [sys.executable, "-m", "pytest", "-q", "-m", "not long", "-p", "no:cacheprovider", *tests]
    done = subprocess.run(command, cwd=built.unpacked, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-10_000:]
