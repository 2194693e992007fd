"""A plugin of pytest that runs mutants: ``pytest -p mutation --mutants FILE --verdicts FILE tests/...``.

Each mutant lives in a fork of the process that has collected the tests. There the functions that it changes get its
code, and the tests that reach its lines are run, the quickest first, until one fails. mutmut's own way wraps every
function, which what counts frames, calls and references would see, leaves out what has a decorator, and collects the
tests anew for each mutant, which takes longer than most tests.

Rules of residence: running mutants, and what that needs to know of tests. What a mutant is stands in ``mutated``.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from math import ceil
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import pytest
from hypothesis import Phase, settings
from mutated import Functions, Mutant, place_of
from paths import ROOT
from store_subject import SHARED

KILLED, ENDLESS, SURVIVED, UNREACHED = "killed", "endless", "survived", "unreached"
STANDS_STILL = 5.0  # seconds asleep without a moment of processor time: it waits for what never comes
CPU_SECONDS = 5  # of its tests a mutant may take what they take without one, traced, which is twice as slow, and these
FIXTURES = {"redis_server", "redis_nodes", "postgresql", "mariadb", "one", "three", "place", "own"}
SERVERS = {*SHARED, *FIXTURES, "redis_socket", "uvicorn", "hypercorn", "granian", "daphne"} - {"sqlite"}
FEW = 0.01  # of the tests may fail without a mutant: a busy machine breaks what goes by the clock
KNOWN = pytest.StashKey[Functions]()

Reached = dict[str, list[int]]  # by file, the lines


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--mutants", help="run the mutants of this file")
    parser.addoption("--verdicts", help="where to write what became of them, a line each")


def pytest_collection() -> None:
    """Let each property have few examples, always the same; one that fails is enough."""
    few: Any = {"max_examples": 30, "phases": (Phase.explicit, Phase.generate), "report_multiple_bugs": False}
    settings.register_profile("mutants", settings.default, derandomize=True, database=None, **few)
    settings.load_profile("mutants")


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Leave out what needs a server."""
    items[:] = [item for item in items if not SERVERS.intersection((*item.fixturenames, *params_of(item)))]


def params_of(item: Any) -> list[str]:
    return [each for each in item.callspec.params.values() if type(each) is str] if hasattr(item, "callspec") else []


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Find all functions, before a conftest hides them from the collector; of a module that is imported late, too."""
    for path in {edit["path"] for edit in edits_of(session)}:
        importlib.import_module(path.removesuffix(".py").replace("/", "."))
    session.stash[KNOWN] = known = {}
    for thing in gc.get_objects():
        if type(thing) is FunctionType:  # isinstance would wake lazy proxies
            known.setdefault(place_of(thing.__code__), []).append(thing)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool:
    edits = edits_of(session)
    files = {str(ROOT / edit["path"]) for edit in edits}
    run = Run(session, forked(lambda: [reach(item, files) for item in session.items]))
    failing = set(forked(lambda: [item.nodeid for item in run.items if fails(item)]))
    assert len(failing) < FEW * len(run.items), f"without a mutant these fail: {failing}"
    run.leave_out(failing)
    with open(session.config.option.verdicts, "w") as out:
        for mutant, outcome in run.verdicts(Mutant(**edit) for edit in edits):
            told = {name: getattr(mutant, name) for name in ("path", "line", "function", "before", "after")}
            print(json.dumps({**told, "outcome": outcome}), file=out, flush=True)
    return True


def edits_of(session: pytest.Session) -> list[dict[str, Any]]:
    edits: list[dict[str, Any]] = json.loads(Path(session.config.option.mutants).read_text())
    return edits


def forked(work: Callable[[], Any]) -> Any:
    """Do work in a fork, and return its result."""
    reading, writing = os.pipe()
    if os.fork() == 0:
        with os.fdopen(writing, "w") as pipe:
            json.dump(work(), pipe)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        result = json.load(pipe)
    os.wait()
    return result


def passes(item: pytest.Item) -> bool:
    """Run one test; return whether it passed."""
    failed = item.session.testsfailed
    item.ihook.pytest_runtest_protocol(item=item, nextitem=None)
    return item.session.testsfailed == failed


def fails(item: pytest.Item) -> bool:
    """Return whether a test fails, and again: what fails once was broken by chance, or by what another has left."""
    if passes(item):
        return False
    gc.collect()
    return not passes(item)


# --- which test reaches which lines ---


def reach(item: pytest.Item, files: set[str]) -> tuple[float, Reached]:
    """Run a test with a tracer; return how long it takes, and the lines that it reaches."""
    lines: dict[str, set[int]] = {file: set() for file in files}

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        numbers = lines.get(frame.f_code.co_filename)
        if numbers is None:
            return None
        numbers.add(frame.f_lineno)
        return trace

    def enter(frame: FrameType, event: str, argument: object) -> None:
        """Take each line of a function for reached: for tests that have tracers of their own."""
        if event == "call" and frame.f_code.co_filename in lines:
            lines[frame.f_code.co_filename].update(number for *_, number in frame.f_code.co_lines() if number)

    own = "settrace" in item.path.read_text()
    for file in files & set(imported(item)) if own else ():
        lines[file].update(range(len(Path(file).read_text().splitlines()) + 1))
    for start in (sys.setprofile, threading.setprofile) if own else (sys.settrace, threading.settrace):
        start(enter if own else trace)
    begin = time.perf_counter()
    passes(item)  # or not: some count calls, say, of which the tracer's is one
    seconds = time.perf_counter() - begin
    for start in (sys.setprofile, threading.setprofile, sys.settrace, threading.settrace):
        start(None)
    return seconds, {file: sorted(numbers) for file, numbers in lines.items() if numbers}


def imported(item: Any) -> Iterator[str]:
    """Yield the files of what the test's module imports by name: one with tracers of its own reaches all of them."""
    for thing in vars(item.module).values():
        module = sys.modules.get(getattr(thing, "__module__", None) or "")
        yield getattr(module, "__file__", None) or ""


# --- mutants ---


class Run:
    """The mutants of one run, as many at a time as there are processors."""

    def __init__(self, session: pytest.Session, reached: list[tuple[float, Reached]]) -> None:
        self._known = session.stash[KNOWN]
        pairs = sorted(zip(reached, session.items, strict=True), key=lambda pair: pair[0][0])
        self.items = [item for _, item in pairs]  # the quickest first
        self._seconds = [seconds for (seconds, _), _ in pairs]
        self._by_line: dict[tuple[str, int], list[int]] = {}
        for number, ((_, files), _) in enumerate(pairs):
            for file, lines in files.items():
                for line in lines:
                    self._by_line.setdefault((file, line), []).append(number)

    def leave_out(self, failing: set[str]) -> None:
        """Ask these tests nothing, for they fail without a mutant, too."""
        numbers = {number for number, item in enumerate(self.items) if item.nodeid in failing}
        self._by_line = {line: [test for test in tests if test not in numbers] for line, tests in self._by_line.items()}

    def verdicts(self, mutants: Iterator[Mutant]) -> Iterator[tuple[Mutant, str]]:
        """Yield each mutant that is one, with what became of it."""
        waiting, running = filter(None, mutants), {}
        workers = os.cpu_count() or 1
        while True:
            while len(running) < workers and (mutant := next(waiting, None)) is not None:
                if numbers := self._tests_of(mutant):
                    running[self._start(mutant, numbers)] = mutant, Watch()
                else:
                    yield mutant, UNREACHED
            if not running:
                return
            for pid, (mutant, watch) in list(running.items()):
                if outcome := watch.outcome(pid):
                    del running[pid]
                    yield mutant, outcome
            time.sleep(0.002)

    def _tests_of(self, mutant: Mutant) -> list[int]:
        return sorted({number for line in mutant.reached_by for number in self._by_line.get((mutant.file, line), ())})

    def _start(self, mutant: Mutant, numbers: list[int]) -> int:
        pid = os.fork()
        if pid:
            return pid
        try:
            limit = CPU_SECONDS + ceil(sum(self._seconds[number] for number in numbers))
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
            mutant.install(self._known)
            os._exit(1 if any(fails(self.items[number]) for number in numbers) else 0)
        finally:
            os._exit(1)  # what was raised went through pytest itself


class Watch:
    """Waits for one process."""

    def __init__(self) -> None:
        self._used = -1
        self._since = time.monotonic()

    def outcome(self, pid: int) -> str | None:
        """Return what became of the mutant in this process, ``None`` if it is still to be seen."""
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return SURVIVED if status == 0 else ENDLESS if os.WTERMSIG(status) == signal.SIGXCPU else KILLED
        if time.monotonic() - self._since < STANDS_STILL:
            return None
        state, used = looked_up(pid)
        stands, self._used, self._since = state == "S" and used == self._used, used, time.monotonic()
        if not stands:
            return None
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return ENDLESS


def looked_up(pid: int) -> tuple[str, int]:
    """Return the state of a process, and the ticks of processor time that it has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return fields[0], int(fields[11]) + int(fields[12])
