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
from endings import CANNOT, PATIENCE, close_code, play
from paths import RESULTS, ROOT
from serving import KINDS

TABLE = RESULTS / "endings.md"
README = ROOT / "README.md"
AT_ONCE = 3  # servers: they wait more than they work
WELL = "✓ ✓ ✓ ✓ ✓"
SOCKET = "WebSocket"
BUT = dict.fromkeys([("hypercorn-trio", "Quart"), ("hypercorn-trio", "Django")], CANNOT)
Rows = dict[tuple[str, str], str]

TEXT = """\
# How a streamed answer ends, and what its session has kept

Made by `tests/whole/test_endings.py` with {versions}.

Each cell has five marks: the client reads to the end · the client leaves in the middle · the application raises in the
middle · the store is away when the last chunk is due, for longer than a save is tried · the server gets SIGTERM in the
middle of three answers. ✓: the next request finds in the session the whole answer · at least what the client had read ·
everything that the application had written · the client has seen no end of its answer, but a broken transfer · at least
what each of the three clients had read when the signal was sent. The first three are played with a `MemoryStore` and
with a `SQLiteStore`, and a ✓ means both; the fourth with a store in the process and one outside; the last with a
`SQLiteStore`, whose file the next process opens. ✗: something was lost. n/a: cannot be run. The last column is the code
with which a WebSocket is closed that its application closes while the store is away.

{table}

On trio only a `MemoryStore` works: each of its saves was written down, for the last mark. Quart and Django need
asyncio. The raw ASGI application and Django know no lifespan, and daphne runs none. granian over HTTP/1.1 waits for
the end of every answer. Quart and Django answer in tasks of their own, which go on for a moment when hypercorn over
HTTP/1.1 or daphne has cancelled the request: the last tokens that a client gets after the signal may not be in the
session. Under daphne, and under hypercorn over HTTP/2 for five seconds, a client is not told that the application has
raised: it gave up after {patience} seconds.
"""


def expected() -> Rows:
    cells = {(kind, framework): BUT.get((kind, framework), WELL) for kind in KINDS for framework in FRAMEWORKS}
    return cells | {(kind, SOCKET): CANNOT if kind == "granian-h2" else "1011" for kind in KINDS}


def render(rows: Rows) -> str:
    columns = [*FRAMEWORKS, SOCKET]
    lines = [["", *columns], ["---", *([":---:"] * len(columns))]]
    lines += [[kind, *(rows[kind, column] for column in columns)] for kind in KINDS]
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


@pytest.mark.parametrize("kind", ["uvicorn-h11", *(pytest.param(kind, marks=pytest.mark.long) for kind in KINDS)])
def test_s11_a_websocket_that_could_not_be_saved_is_closed_with_1011(kind: str, rows: Rows, tmp_path: Path) -> None:
    """S11: its peer is told in the close; a server of HTTP/2 alone has no such WebSockets."""
    rows[kind, SOCKET] = CANNOT if kind == "granian-h2" else close_code(kind, tmp_path)
    assert rows[kind, SOCKET] == expected()[kind, SOCKET]


def test_the_table_has_every_cell() -> None:
    """What is committed was found for all servers and frameworks that there are, and is what a run must find."""
    assert re.findall(r"^\|.*\|$", TABLE.read_text(), re.MULTILINE) == render(expected()).splitlines()


def test_the_readme_refers_to_the_table() -> None:
    """A reader finds it, and is told how large it is."""
    said = re.search(r"(\w+) server set-ups, (\w+) ways to write a stream.*?/tests/results/endings\.md\)", flat())
    numbers = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
    assert said is not None
    assert [numbers.index(word.lower()) for word in said.groups()] == [len(KINDS), len(FRAMEWORKS)]


def flat() -> str:
    return " ".join(README.read_text().split())
