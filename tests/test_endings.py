"""Every server, every framework, every way in which a streamed answer ends: what is in the session afterwards.

The long tier plays all of it, and writes down what it found in `results/endings.md`, to which the README refers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest
from ending_apps import FRAMEWORKS
from endings import CANNOT, PATIENCE, play
from serving import KINDS

TABLE = Path(__file__).parent / "results" / "endings.md"
README = Path(__file__).parent.parent / "README.md"
AT_ONCE = 3  # servers: they wait more than they work
WELL = "✓ ✓ ✓ ✓"
BUT = dict.fromkeys([("hypercorn-trio", "Quart"), ("hypercorn-trio", "Django")], CANNOT)
Rows = dict[tuple[str, str], str]

TEXT = """\
# How a streamed answer ends, and what its session has kept

Made by `tests/test_endings.py` with {versions}.

Each cell has four marks: the client reads to the end · the client leaves in the middle · the application raises in the
middle · the server gets SIGTERM in the middle of three answers. ✓: the next request finds in the session the whole
answer · at least what the client had read · everything that the application had written · at least what each of the
three clients had read when the signal was sent. The first three are played with a `MemoryStore` and with a
`SQLiteStore`, and a ✓ means both; the last with a `SQLiteStore`, whose file the next process opens. ✗: something was
lost. n/a: cannot be run.

{table}

On trio only a `MemoryStore` works: each of its saves was written down, for the last mark. Quart and Django need
asyncio. The raw ASGI application and Django know no lifespan, and daphne runs none. granian over HTTP/1.1 waits for
the end of every answer. Quart and Django answer in tasks of their own, which go on for a moment when hypercorn over
HTTP/1.1 or daphne has cancelled the request: the last tokens that a client gets after the signal may not be in the
session. Under daphne, and under hypercorn over HTTP/2 for five seconds, a client is not told that the application has
raised: it gave up after {patience} seconds.
"""


def expected() -> Rows:
    return {(kind, framework): BUT.get((kind, framework), WELL) for kind in KINDS for framework in FRAMEWORKS}


def render(rows: Rows) -> str:
    lines = [["", *FRAMEWORKS], ["---", *([":---:"] * len(FRAMEWORKS))]]
    lines += [[kind, *(rows[kind, framework] for framework in FRAMEWORKS)] for kind in KINDS]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def versions() -> str:
    names = ("uvicorn", "hypercorn", "granian", "daphne", "starlette", "fastapi", "litestar", "quart", "django")
    return ", ".join(f"{name} {version(name)}" for name in names)


@pytest.fixture(scope="module")
def rows() -> Iterator[Rows]:
    """Collect what is found; the whole of it is written down."""
    found: Rows = {}
    yield found
    if found.keys() == expected().keys():
        TABLE.write_text(TEXT.format(versions=versions(), patience=PATIENCE, table=render(found)))


EVERY = [pytest.param(kind, [*FRAMEWORKS], marks=[pytest.mark.long, pytest.mark.timeout(300)]) for kind in KINDS]


@pytest.mark.parametrize(("kind", "frameworks"), [("uvicorn-httptools", ["Django"]), *EVERY])
def test_nothing_is_lost_however_an_answer_ends(
    kind: str, frameworks: list[str], rows: Rows, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whole answers, what was read or written of others: it is all in the session of the next request."""
    folders = [tmp_path_factory.mktemp("sessions") for _ in frameworks]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        marks = dict(zip(frameworks, threads.map(play, [kind] * len(frameworks), frameworks, folders), strict=True))
    rows.update({(kind, framework): mark for framework, mark in marks.items()})
    assert marks == {framework: expected()[kind, framework] for framework in frameworks}


def test_the_table_has_every_cell() -> None:
    """What is committed was found for all servers and frameworks that there are, and is what a run must find."""
    assert re.findall(r"^\|.*\|$", TABLE.read_text(), re.MULTILINE) == render(expected()).splitlines()


def test_the_readme_refers_to_the_table() -> None:
    """A reader finds it, and is told how large it is."""
    said = re.search(r"(\w+) server set-ups, (\w+) ways to write a stream.*?\(tests/results/endings\.md\)", flat())
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    assert said is not None
    assert [numbers.index(word.lower()) for word in said.groups()] == [len(KINDS), len(FRAMEWORKS)]


def flat() -> str:
    return " ".join(README.read_text().split())
