"""README and GUIDE keep their word: the chats are served and asked twice, the tables are those of the code."""

from __future__ import annotations

import ast
import inspect
import json
import logging
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from driver import Browser, in_loop
from examples import GUIDE, GUIDED, README, blocks, everything, name_of
from litestar import Litestar, Request, get
from litestar.middleware import DefineMiddleware
from paths import ROOT, SUPPORT, TESTS
from serving import KINDS, free_port, launch

import fastersession
from fastersession import FasterSessionMiddleware, MemoryStore, Session, testing
from fastersession.events import Event
from fastersession.testing import fuzz, plugin

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
SECRET = "a secret of the first examples, and of nothing else"
SETTINGS = 'SECRET_KEY = "of Django itself"\nALLOWED_HOSTS = ["127.0.0.1"]\nROOT_URLCONF = "mysite.urls"\n'
URLS = 'from django.urls import path\n\nfrom . import views\n\nurlpatterns = [path("chat", views.chat)]\n'
MODULES = {  # what a project has besides the example
    "Django": {"mysite/__init__.py": "", "mysite/settings.py": SETTINGS, "mysite/urls.py": URLS},
}
FIRST = {"Use it": "This is turn 1. You said: hello", "FastAPI": "This is answer 1."}
SECOND = {"Use it": "This is turn 2. You said: hello", "FastAPI": "This is answer 2. The one before was: {}"}


def section(title: str) -> str:
    """Return the text under a heading of README or GUIDE, to the next of its rank or above."""
    text = f"{README}\n{GUIDE}"
    match = re.search(rf"^(##+) {re.escape(title)}\n(.*?)(?=^##(?!#)|\Z)", text, re.MULTILINE | re.DOTALL)
    assert match is not None, title
    body = match[2]
    return re.split(r"^### ", body, flags=re.MULTILINE)[0] if match[1] == "###" else body


def table(text: str, heading: str) -> dict[str, list[str]]:
    """Read the table whose first column has this heading: the code words of the first column, then the other cells."""
    lines = text.partition(f"| {heading} |")[2].splitlines()[2:]
    rows = {}
    for line in lines:
        if not line.startswith("|"):
            break
        first, *others = (cell.strip() for cell in line.strip("|").split(" | "))
        rows.update(dict.fromkeys(re.findall(r"`(\w[\w.]*)", first), others))
    return rows


ELSEWHERE = ("WebSocket", "ChatStream")  # tests of their own run these
FRAMEWORKS = [
    title for title in re.findall(r"^### (.+)$", section("First use"), re.MULTILINE) if title not in ELSEWHERE
]
EXAMPLES = ["Use it", *FRAMEWORKS]


def write(example: str, folder: Path, change: Callable[[str], str] = str) -> str:
    """Write an example as the files it says it is, each changed, and return what a server is told to serve."""
    target = "example:app"
    for name, text in MODULES.get(example, {}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    for code in blocks(section(example), "python"):
        if example == "Django":
            (folder / "mysite" / str(name_of(code))).write_text(change(code))
            target = "mysite.asgi:application"
        else:
            (folder / "example.py").write_text(change(code))
    return target


@pytest.fixture(scope="module", params=EXAMPLES)
def example(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Any]]:
    """Serve one example in a process of its own."""
    folder, port = tmp_path_factory.mktemp("example"), free_port()
    argv = KINDS["uvicorn-httptools"].argv(sys.executable, write(request.param, folder), port)
    env = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]), "SESSION_SECRET": SECRET}
    with launch(argv, port, env, ready="/other") as server:
        yield request.param, server
        assert "Traceback" not in server.output, server.output


def ask(server: Any, cookie: str = "") -> httpx.Response:
    """Ask as a browser would that takes 127.0.0.1 for secure: give the cookie by hand."""
    with server.client() as client:
        answer = client.post("/chat?q=hello", headers={"cookie": cookie} if cookie else {})
    assert answer.is_success, answer.text
    return answer


def test_every_framework_has_an_example() -> None:
    """The examples are those of the frameworks that are promised, each in a file of its name."""
    assert FRAMEWORKS == ["FastAPI", "Litestar", "Quart", "Django", "No framework"]
    names = [name_of(code) for title in FRAMEWORKS for code in blocks(section(title))]
    assert names == ["chat_fastapi.py", "chat_litestar.py", "chat_quart.py", "asgi.py", "views.py", "example.py"]


def test_an_example_streams_and_remembers(example: tuple[str, Any]) -> None:
    """A streamed answer is in the session of the next request, under the cookie that the first has set."""
    name, server = example
    first = ask(server)
    assert first.headers["transfer-encoding"] == "chunked"
    assert first.text == FIRST.get(name, "Before this I said: nothing")
    line = first.headers["set-cookie"]
    assert re.fullmatch(r"__Host-sid=[\w-]{88}; Path=/; Secure; HttpOnly; SameSite=Lax", line), line
    second = ask(server, line.partition(";")[0])
    assert second.text == SECOND.get(name, "Before this I said: {}").format(first.text)
    assert "set-cookie" not in second.headers
    assert "secure=False" in server.output  # the reminder, without any logging configured


def test_another_visitor_of_an_example_begins_anew(example: tuple[str, Any]) -> None:
    """Without the cookie there is nothing to see."""
    assert ask(example[1]).text == ask(example[1]).text


def on_sqlite(code: str) -> str:
    """Change the one line that says where sessions live."""
    key = 'secret_key=os.environ["SESSION_SECRET"]'
    code = code.replace(", store=MemoryStore()", "").replace(key, f'{key}, store=SQLiteStore("sessions.db")')
    return f"from fastersession.stores.sqlite import SQLiteStore\n\n{code}"


@pytest.mark.parametrize("change", [str, on_sqlite], ids=["memory", "sqlite"])
@pytest.mark.parametrize("title", EXAMPLES)
def test_two_tabs_of_an_example_lose_nothing(title: str, change: Callable[[str], str], tmp_path: Path) -> None:
    """Both answers stream at the same time, and each is kept as it was seen, in the order in which they began."""
    target = write(title, tmp_path, change)
    environment = {**os.environ, "SESSION_SECRET": SECRET, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, str(SUPPORT / "two_tabs.py"), target]
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stderr
    assert (tmp_path / "sessions.db").exists() == (change is on_sqlite)
    told = json.loads(run.stdout)
    kept = [told["kept"][name] for name in sorted(told["kept"])]
    assert [turn["answer"] if isinstance(turn, dict) else turn for turn in kept] == told["seen"]
    assert len(kept) == 3


TESTING = ["test_answers.py", "test_outage.py", "test_fuzzing.py", "test_my_store.py"]


@pytest.mark.parametrize("name", TESTING)
def test_the_examples_of_testing_pass(name: str, tmp_path: Path) -> None:
    """Each is a test that pytest runs, with the application that they speak of and the fixtures of the plugin."""
    everything(tmp_path)
    plugins = ["-p", "no:cacheprovider", "-p", "fastersession.testing.plugin"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, name]
    environment = {**os.environ, "SESSION_SECRET": SECRET, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment["PYTHONPATH"] = f"{tmp_path}:{ROOT}"
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100)
    assert re.search(r"^[1-9]\d* passed in", run.stdout, re.MULTILINE), run.stdout + run.stderr


def test_the_table_of_testing_names_what_there_is() -> None:
    """Each name of the table, and each strategy, is public in the kit; each fixture is in the plugin."""
    text = section("Testing your application")
    cells = re.findall(r"^\| (`.+?) \|", text, re.MULTILINE)
    names = {name for cell in cells for name in re.findall(r"`(\w+)\(", cell)}
    browser = {name for name in names if hasattr(testing.Browser, name)}
    assert names - browser <= set(testing.__all__)
    assert {"leave", "half_close", "cancel"} == browser
    assert set(re.findall(r"`(\w+)\(\)`", text)) - {"tab"} <= set(fuzz.__all__) | set(testing.__all__)
    assert set(re.findall(r"\b(fastersession_\w+)", text)) == set(plugin.__all__)


SHORT = [*blocks(README), *blocks(section("First use")), *(GUIDED[name] for name in TESTING)]


@pytest.mark.parametrize("code", SHORT)
def test_examples_are_as_short_as_they_look(code: str) -> None:
    """Each fits a screen, has no line that must be scrolled, and leaves no import unused."""
    assert len(code.splitlines()) < 35
    assert max(map(len, code.splitlines())) <= 110
    tree = ast.parse(code)
    imported = {
        alias.asname or alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    assert imported <= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


@in_loop
async def test_litestar_inside_needs_one_store() -> None:
    """What is said of `middleware=[...]` is so: a store for each route without `store=`, one for all with it."""

    @get("/write")
    async def write_it(request: Request) -> None:
        request.session["seen"] = True

    @get("/read")
    async def read_it(request: Request) -> dict[str, Any]:
        return {**request.session}

    for options, expected in (({}, {}), ({"store": MemoryStore()}, {"seen": True})):
        ours = DefineMiddleware(FasterSessionMiddleware, secret_key=SECRET, secure=False, **options)
        browser = Browser(Litestar([write_it, read_it], middleware=[ours], openapi_config=None, logging_config=None))
        await browser.get("/write")
        assert (await browser.get("/read")).json() == expected


@pytest.mark.parametrize("made", [FasterSessionMiddleware, MemoryStore])
def test_the_tables_of_arguments_are_the_signatures(made: Callable[..., Any]) -> None:
    """Every argument, in the signature's order, with its default; none that does not exist."""
    text = section("Arguments")
    text = text.partition("`MemoryStore(...)`")[0 if made is FasterSessionMiddleware else 2]
    said = {name: cells[0].strip("`") for name, cells in table(text, "argument").items()}
    parameters = [each for name, each in inspect.signature(made).parameters.items() if name != "app"]
    assert list(said) == [each.name for each in parameters]
    for each in parameters:
        if each.default is inspect.Parameter.empty:
            assert said[each.name] == "required"
        else:
            assert eval(said[each.name], {"timedelta": timedelta, "time": time}) == each.default, each.name


def test_the_table_of_the_session_is_the_session() -> None:
    """Every public member that a plain dict does not have is in the table, and `clear`, whose meaning is more."""
    members = {name for name in dir(Session) if not name.startswith("_") and name not in dir(dict)}
    # mark_accessed() is for Starlette.
    assert set(table(section("The session"), "member")) == members - {"mark_accessed"} | {"clear"}


def test_the_table_of_events_is_what_the_code_says() -> None:
    """Every event of the package, with its level or levels, and no other."""
    said = {name: cells[0] for name, cells in table(section("Events"), "event").items()}
    found: dict[str, set[str]] = {}
    for name, level in events():
        found.setdefault(name, set()).add(level)
    assert said == {name: " or ".join(sorted(levels)) for name, levels in found.items()}


def events(kind: type[Event] = Event) -> Iterator[tuple[str, str]]:
    """Find the events: the classes, and records that a store makes by hand."""
    for one in kind.__subclasses__():
        yield from events(one)
        if one.name and one.__module__.startswith("fastersession.events."):
            yield one.name, logging.getLevelName(one.level) + ", once" * one.once
    for path in Path(fastersession.__file__).parent.rglob("*.py") if kind is Event else ():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "warning":
                texts = [arg.value for arg in ast.walk(node) if isinstance(arg, ast.Constant)]
                names = [text for text in texts if isinstance(text, str) and re.fullmatch(r"[a-z]+\.[a-z_]+", text)]
                if "event" in texts and names:
                    yield names[0], "WARNING, once"


def anchors(text: str) -> set[str]:
    """Return what headings are called in links."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL), re.MULTILINE)
    names = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
    assert len(names) == len(set(names)), names
    return set(names)


LINKS = re.findall(r"(!?)\[[^\]]*\]\(([^)]+)\)", README)


@pytest.mark.parametrize(("picture", "link"), LINKS, ids=[link for _, link in LINKS])
def test_a_link_leads_somewhere_from_everywhere(picture: str, link: str) -> None:
    """A package index shows the README without its files: a link is absolute, or a heading. What it names exists."""
    source = PROJECT["urls"]["Source"]
    target, _, anchor = link.removeprefix(f"{source}/{'raw' if picture else 'blob'}/main/").partition("#")
    if link.startswith("#"):
        assert anchor in anchors(README)
    elif target == link.partition("#")[0]:  # nothing of ours
        assert re.match(r"https://(?!github\.com/fastersession/)", link), link
    else:
        assert (ROOT / target).is_file(), link
        assert not anchor or anchor in anchors((ROOT / target).read_text()), link


def test_the_project_s_addresses_are_one() -> None:
    """Each begins with that of the source, and what is in the tree exists."""
    source = PROJECT["urls"]["Source"]
    for url in PROJECT["urls"].values():
        assert re.match(rf"{source}(/|$)", url), url
        assert "/blob/" not in url or (ROOT / url.removeprefix(f"{source}/blob/main/")).is_file(), url


def test_the_installation_comes_first() -> None:
    """Before its use, README has the command that installs what pyproject.toml calls the package, and so has GUIDE."""
    installation = f"```sh\npip install {PROJECT['name']}\n```"
    assert section("Install").strip() == installation
    assert README.index("## Install\n") < README.index("## Use it\n")
    assert section("First use").strip().startswith(installation)


@pytest.mark.parametrize("name", ["GUIDE.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"])
def test_what_the_other_texts_link_to_is_there(name: str) -> None:
    """Files exist, and so do the headings that anchors name."""
    for link in re.findall(r"\]\(([^)]+)\)", (ROOT / name).read_text()):
        if link.startswith("https://"):
            continue
        target, _, anchor = link.partition("#")
        path = ROOT / (target or name)
        assert path.is_file(), link
        assert not anchor or anchor in anchors(path.read_text()), link


def test_the_contents_of_the_guide_are_its_sections() -> None:
    """Each section is listed, in order, by its heading."""
    contents = GUIDE.partition("\n## ")[0]
    assert re.findall(r"^- \[(.+?)\]", contents, re.MULTILINE) == re.findall(r"^## (.+)$", GUIDE, re.MULTILINE)


def test_the_readme_is_short() -> None:
    """It says what this is, how to begin and what is guaranteed; all else is in the guide."""
    assert len(README.splitlines()) <= 170


def commands() -> list[str]:
    """Every command line of README and GUIDE, in a block or between back quotes."""
    lines = [line for text in (README, GUIDE) for block in blocks(text, "sh") for line in block.splitlines()]
    quoted = re.findall(r"`((?:python|bash|export)[^`]*)`", README + GUIDE)
    return [command.strip() for line in lines + quoted for command in line.split("&&")]


def test_the_commands_are_there() -> None:
    """The two commands are said as promised, each once."""
    said = [line for block in blocks(section("See it"), "sh") for line in block.splitlines()]
    assert said == [
        "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/python -m fastersession demo",
        "bash tests/run",
    ]


def test_the_commands_of_the_command_line_exist() -> None:
    """Each `python -m fastersession ...` is a command, with the options that are named."""
    named = {match[1] for line in commands() if (match := re.search(r"python -m fastersession (\w+)", line))}
    assert named == {"conversations", "demo", "keygen", "reseal", "sessions"}
    options = set(re.findall(r"`(--\w+)", section("See it")))
    run = [sys.executable, "-m", "fastersession", "demo", "--help"]
    text = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    assert options > {"--help"}
    assert all(option in text for option in options)
    verbs = {
        (match[1], match[2])
        for line in commands()
        if (match := re.search(r"fastersession (sessions|conversations) ([\w-]+)", line))
    }
    for noun, verb in verbs:
        subprocess.run([sys.executable, "-m", "fastersession", noun, verb, "--help"], check=True)
    assert verbs > {("sessions", "list"), ("sessions", "revoke"), ("conversations", "list")}


def test_the_test_command_knows_its_tiers() -> None:
    """`tests/run` can be run, and takes `long`."""
    script = (TESTS / "run").read_text()
    assert re.search(r"^long\)", script, re.MULTILINE)
    subprocess.run(["bash", "-n", TESTS / "run"], check=True)
    assert os.access(ROOT / ".ci" / "run", os.R_OK)


def test_the_extras_exist() -> None:
    """What is installed in brackets is an extra of the package."""
    named = set(re.findall(r"(?:'\.|fastersession)\[(\w+)\]", README + GUIDE))
    assert named == set(PROJECT["optional-dependencies"]) - {"tests"}
    version = PROJECT["requires-python"].removeprefix(">=")
    assert f"Python {version} or newer" in README
    assert {re.split(r"\W", name)[0] for name in PROJECT["dependencies"]} == {"asgiref", "cryptography"}


def test_the_bench_command_exists() -> None:
    """The tables of the benchmark were made by a command that is there, and stand where it looks for them."""
    for text, part in ((GUIDE, "inprocess"), (GUIDE, "redis"), (README, "truth")):
        assert text.index(f"<!-- {part} -->") < text.index(f"<!-- /{part} -->")
    assert all((ROOT / "bench" / name).is_file() for name in ("__main__.py", "requirements.txt"))
