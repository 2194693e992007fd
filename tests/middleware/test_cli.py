"""The command line: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import import_module

import httpx
import pytest
from paths import ROOT

from fastersession.__main__ import main

COMMAND = [sys.executable, "-m", "fastersession"]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def exits(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    return int(caught.value.code or 0)


def test_keygen_prints_one_strong_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """The output is one line of 32 random bytes, and a new one each time."""
    keys = set()
    for _ in range(100):
        assert main(["keygen"]) == 0
        printed = capsys.readouterr()
        assert re.fullmatch(r"[A-Za-z0-9_-]{43}\n", printed.out)
        assert printed.err == ""
        keys.add(printed.out)
    assert len(keys) == 100


def test_the_module_runs_as_a_command() -> None:
    """`python -m fastersession` passes the exit status on."""
    assert (run("keygen").returncode, run("--help").returncode, run().returncode) == (0, 0, 2)


def test_the_console_script_is_the_same_function() -> None:
    """The script declared for the package leads to this `main`."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, name = scripts["fastersession"].partition(":")
    assert getattr(import_module(module), name) is main


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`--version` names the package and something after it, installed or not."""
    assert exits("--version") == 0
    assert re.fullmatch(r"fastersession \S.*\n", capsys.readouterr().out)


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` leads to the commands, and theirs to the options."""
    assert exits("--help") == 0
    assert {"demo", "keygen", "--version"} <= set(capsys.readouterr().out.split())
    assert exits("demo", "--help") == 0
    printed = capsys.readouterr().out
    assert all(option in printed for option in ("--host", "--port", "--upstream", "--model", "--api-key-env"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["nonsense"], "invalid choice"),
        (["demo", "--upstream", "http://h"], "--upstream URL and --model NAME go together"),
        (["demo", "--model", "m"], "--upstream URL and --model NAME go together"),
        (["demo", "--port", "70000"], "0 to 65535"),
        (["demo", "--port", "x"], "argument --port: a port is a number from 0 to 65535, not 'x'"),
        (["demo", "--timeout", "0"], "above 0"),
        (["demo", "--timeout", "x"], "argument --timeout: must be a number of seconds"),
        (["demo", "--store", "redis:/h"], "--store: the URL must start with redis://"),
        (["demo", "--upstream", "h:1", "--model", "m"], "not an http:// or https:// URL"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A usage error exits with 2 and says which argument is wrong."""
    assert exits(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_key_that_no_header_can_carry_is_named_by_its_variable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A broken API key is refused at the start, and never printed."""
    monkeypatch.setenv("DEMO_KEY", "s3cret\u2026")
    assert exits("demo", "--upstream", "http://h", "--model", "m", "--api-key-env", "DEMO_KEY") == 2
    printed = capsys.readouterr().err
    assert "DEMO_KEY" in printed
    assert "s3cret" not in printed


def test_a_busy_port_is_one_line() -> None:
    """A port in use: exit status 1, one sentence, no traceback."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        done = run("demo", "--port", str(port))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"fastersession: cannot listen on 127.0.0.1 port {port}: .+ with --port\n", done.stderr)


@pytest.mark.parametrize("host", ["nowhere.invalid", "a..b"])
def test_an_unknown_host_is_one_line(host: str, capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is not ours: exit status 1, one sentence that names it."""
    assert main(["demo", "--host", host]) == 1
    assert re.fullmatch(rf"fastersession: cannot listen on {re.escape(host)} port 8000: .+\n", capsys.readouterr().err)


def test_without_uvicorn_the_remedy_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The extra that is missing is named with the command that installs it."""
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert main(["demo"]) == 1
    assert 'pip install "fastersession[demo]"' in capsys.readouterr().err


@contextlib.contextmanager
def running_demo(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the demo on a free port, as from a terminal; gives the process and its URL."""
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    command = [*COMMAND, "demo", "--port", "0", *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            url = re.fullmatch(r"fastersession demo: (http://127\.0\.0\.1:[1-9]\d*)\n", process.stdout.readline())
            assert url
            yield process, url[1]
        finally:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the end; returns the exit status and what was still printed, both streams."""
    assert process.stdout
    assert process.stderr
    status = process.wait(30)
    return status, process.stdout.read(), process.stderr.read()


def test_the_demo_says_where_it_is_and_ends_on_interrupt() -> None:
    """Port 0 takes a free one; the first line is the URL, the rest says what to know; Ctrl+C ends it in order."""
    with running_demo() as (process, url):
        assert httpx.get(url, timeout=30).status_code == 200
        process.send_signal(signal.SIGINT)
        status, out, err = ended(process)
    assert (status, err) == (0, "")
    assert "secure=False" in out
    assert "memory" in out


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_mid_answer_ends_in_order(times: int) -> None:
    """The reader gets the end of the answer, the terminal no word, the shell a 0; an impatient hand changes nothing."""
    with running_demo() as (process, url):
        with httpx.stream("POST", f"{url}/chat", json={"message": "count to 500"}, timeout=30) as answer:
            lines = answer.iter_lines()
            while "event: token" not in next(lines):
                pass
            for _ in range(times):
                process.send_signal(signal.SIGINT)
            *_, name, data, _ = lines
        assert (name, json.loads(data.removeprefix("data: "))["status"]) == ("event: end", "stopped")
        status, _, err = ended(process)
    assert (status, err) == (0, "")
