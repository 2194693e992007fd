"""The architecture, read from the source: who imports whom, and what stays out."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT

import fastersession

PACKAGE = Path(fastersession.__file__).parent
OURS = "fastersession"

# The floors, from the ground up. Each stands on what it names, and on nothing above it.
FLOORS: dict[str, set[str]] = {
    "errors": set(),
    "contract": set(),
    "crypto": set(),
    "events": {"contract"},
    "codecs": {"errors"},
    "session": {"contract", "crypto", "errors"},
    "stores": {"contract", "errors"},
    "engine": {"codecs", "contract", "crypto", "errors", "events", "session"},
    "conversations": {"codecs", "contract", "crypto", "engine", "errors", "events", "session"},
    "asgi": {"codecs", "conversations", "crypto", "engine", "errors", "events", "session"},
    "middleware": {
        "asgi",
        "codecs",
        "contract",
        "conversations",
        "crypto",
        "engine",
        "errors",
        "events",
        "session",
        "stores",
    },
    "public": {"codecs", "errors", "middleware", "session", "stores"},
    "outside": {"contract", "public", "stores"},
}
# A folder is a floor, and so are these modules.
FLOOR_OF = {
    "": "public",
    "attributes": "session",
    "chats": "session",
    "csrf": "session",
    "ends": "session",
    "facts": "session",
    "flashes": "session",
    "listeners": "session",
    "log": "events",
    "noting": "session",
    "pending": "session",
    "remember": "session",
    "state": "session",
    "users": "session",
    "config": "middleware",
    "sessions": "middleware",
    "user_conversations": "middleware",
    "stores.base": "contract",
    "stores.logs": "contract",
    "stores.users": "contract",
    "plainjson": "codecs",
    "tagged": "codecs",
    **dict.fromkeys(("administration", "demo", "integrations", "testing", "__main__"), "outside"),
}

# Third parties, each with the only parts of the package that may import them.
DRIVERS: dict[str, set[str]] = {
    "cryptography": {"crypto"},
    "asgiref": {"middleware", "testing"},
    "hypothesis": {"testing"},
    "pytest": {"testing"},
    "anyio": {"integrations.litestar"},  # Litestar runs on it
    "fastapi": {"integrations.fastapi"},
    "langchain_core": {"integrations.langchain"},
    "litestar": {"integrations.litestar"},
    "mcp": {"integrations.mcp"},
    "mcp_types": {"integrations.mcp"},
    "quart": {"integrations.quart"},
    "starlette": {"integrations.starlette"},
    "h11": {"demo.upstream"},
    "rich": {"administration"},
    "uvicorn": {"__main__"},
    "msgspec": {"codecs", "plainjson"},
    "markupsafe": {"tagged"},
    "redis": {"stores.redis"},
    "hiredis": {"stores.redis"},
    "sqlalchemy": {"stores.sql"},
}

# Parts of the standard library with the only parts of the core that may import them.
RESERVED: dict[str, set[str]] = {
    "hashlib": {"crypto", "stores.redis.scripts", "stores.sql"},
    "hmac": {"crypto"},
    "secrets": {"conversations", "crypto", "engine.exclusive"},
    "random": {"engine.exclusive", "engine.listening"},
    "uuid": {"conversations.owner", "tagged"},
    "pickle": {"codecs"},
    "marshal": {"plainjson"},
    "http": set(),
    "socket": set(),
    "threading": {"facts", "stores.sqlite.threads"},
    "asyncio": {"asgi.arrivals", "asgi.connection", "asgi.detach", "asgi.socket", "conversations", "engine", "stores"},
    "time": {"asgi.socket", "log", "stores"},
    "warnings": {"config"},
    "logging": {
        "config",
        "sessions",
        "user_conversations",
        "events",
        "log",
        "middleware",
        "stores.memory",
        "stores.redis.first_login",
    },
    "json": {
        "administration",
        "conversations.said",
        "conversations.sse",
        "engine.packing",
        "plainjson",
        "tagged",
    },
}
OUTSIDE = ("administration", "demo", "integrations", "testing", "__main__")  # nothing of the core imports these
PUBLIC = {
    "",
    "stores",
    "stores.base",
    "stores.logs",
    "stores.memory",
    "stores.users",
}  # of what users may import, what these need


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(path.read_text()) for name, path in SOURCES.items()}
CORE = [name for name in SOURCES if name.split(".")[0] not in OUTSIDE]


def nodes_that_run(tree: ast.AST) -> Iterator[ast.AST]:
    """Walk a tree, but for what stands under ``if TYPE_CHECKING``."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"):
            yield node
            yield from nodes_that_run(node)


def imports(name: str) -> Iterator[str]:
    """Every module that a module imports, anywhere in it, as an absolute dotted name; not what only types need."""
    is_package = SOURCES[name].name == "__init__.py"
    here = [OURS, *filter(None, name.split("."))]
    for node in nodes_that_run(TREES[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + is_package] if node.level else []
            source = ".".join([*base, *filter(None, [node.module])])
            for alias in node.names:
                inner = f"{source}.{alias.name}".removeprefix(f"{OURS}.")
                yield f"{source}.{alias.name}" if inner in SOURCES else source


def ours(name: str) -> set[str]:
    return {target.removeprefix(OURS).lstrip(".") for target in imports(name) if target.split(".")[0] == OURS}


def floor_of(name: str) -> str:
    """The floor that a module stands on: its own, or that of its folder."""
    return FLOOR_OF.get(name) or FLOOR_OF.get(name.split(".")[0]) or name.split(".")[0]


def is_in(name: str, parts: set[str]) -> bool:
    """Whether a module is one of the parts, or lies in one."""
    return any(name == part or name.startswith(f"{part}.") for part in parts)


@pytest.mark.parametrize("name", SOURCES)
def test_a_module_imports_from_its_floor_and_from_those_below(name: str) -> None:
    """A new folder is placed in the table first; an import that goes up needs another place for what it wants."""
    floor = floor_of(name)
    assert {floor_of(target) for target in ours(name)} <= FLOORS[floor] | {floor}


def test_the_floors_are_a_ladder() -> None:
    """Every floor stands above those that it names, so none can reach itself."""
    for number, needs in enumerate(FLOORS.values()):
        assert needs <= set(list(FLOORS)[:number])


def test_no_module_reaches_itself() -> None:
    """Within a floor the imports make a ladder, too."""
    left = {name: ours(name) - {name} for name in SOURCES}
    while left:
        free = [name for name, needs in left.items() if not needs & left.keys()]
        assert free, f"a cycle among {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("name", [name for name in SOURCES if floor_of(name) == "outside"])
def test_outside_only_public_names_are_seen(name: str) -> None:
    """The kit, the demo and the integrations import what users may import."""
    assert {target for target in ours(name) if floor_of(target) != "outside"} <= PUBLIC


@pytest.mark.parametrize("name", [name for name in SOURCES if name.count(".") == 2 and name.startswith("stores.")])
def test_a_store_knows_no_other(name: str) -> None:
    """What two stores share stands beside their folders."""
    folder = name.rpartition(".")[0]
    assert not [target for target in ours(name) if target.count(".") == 2 and not is_in(target, {folder})]


@pytest.mark.parametrize("name", SOURCES)
def test_k_only_crypto_imports_cryptography(name: str) -> None:
    """Third parties come in at one place each; anything else is the standard library."""
    foreign = {target.split(".")[0] for target in imports(name)} - {OURS, "__future__"}
    for target in foreign - set(sys.stdlib_module_names):
        assert is_in(name, DRIVERS[target]), f"{name or OURS} imports {target}"


@pytest.mark.parametrize("name", CORE)
def test_the_core_keeps_its_rules_of_residence(name: str) -> None:
    """No clock, loop, log, randomness or parser of others where there shall be none."""
    for target in {target.split(".")[0] for target in imports(name)} & RESERVED.keys():
        assert is_in(name, RESERVED[target]), f"{name or OURS} imports {target}"


@pytest.mark.parametrize("name", CORE)
def test_nothing_in_the_core_imports_testing_or_demo(name: str) -> None:
    """The package works without its demo, its test kit, and every integration."""
    assert not [target for target in ours(name) if target.split(".")[0] in OUTSIDE]


@pytest.mark.parametrize("name", SOURCES)
def test_every_module_states_its_rules_of_residence(name: str) -> None:
    """The docstring says what may live here; a package that only holds modules needs no more than its name."""
    if name not in ("stores", "integrations"):
        assert "Rules of residence:" in (ast.get_docstring(TREES[name]) or "")


def strings(name: str) -> set[str]:
    """All string constants of a module that are not docstrings."""
    docs = {
        id(node.body[0].value)
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    nodes = (node for node in ast.walk(TREES[name]) if isinstance(node, ast.Constant) and id(node) not in docs)
    return {node.value for node in nodes if isinstance(node.value, str)}


def test_only_the_asgi_floor_knows_messages() -> None:
    """The types of messages stand in its modules, and nowhere else."""
    kinds = ("http.response", "http.request", "http.disconnect", "websocket.accept", "websocket.send", "lifespan.s")
    knowing = {name for name in CORE if any(text.startswith(kinds) for text in strings(name))}
    assert all(is_in(name, {"asgi"}) for name in knowing), knowing


@pytest.mark.parametrize("name", [name for name in CORE if not name.startswith("stores")])
def test_k3b_no_secret_is_compared_with_equals(name: str) -> None:
    """K3b: what proves a session is compared in constant time: no == or != on a verifier, secret, tag or token."""
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.Compare) and any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
            sides = {getattr(side, "attr", getattr(side, "id", "")) for side in [node.left, *node.comparators]}
            assert not sides & {
                *("verifier", "_verifier", "verifier_before", "new_verifier", "secret", "_secret", "tag", "token"),
            }


def run(code: str) -> str:
    """Run code in a fresh interpreter, warnings as errors."""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


REQUEST = """
import asyncio
from fastersession import FasterSessionMiddleware, MemoryStore
async def app(scope, receive, send):
    scope["session"]["a"] = 1
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})
async def main():
    async def send(message): pass
    wrapped = FasterSessionMiddleware(app, "a secret of the layer test, and of nothing else")
    headers = [(b"cookie", b"__Host-sid=" + b"x" * 88)]
    await wrapped({"type": "http", "path": "/", "headers": headers, "scheme": "https"}, None, send)
"""


def test_p2_k1_s4_a_default_install_imports_none_of_these() -> None:
    """P2, K1, S4: after a request, http.cookies, pickle and uuid are not even loaded by us."""
    loaded = run("import sys" + REQUEST + "asyncio.run(main())\nprint(*sys.modules)")
    assert not set(loaded.split()) & {"http.cookies", "http.cookiejar", "pickle", "uuid", "shelve", "itsdangerous"}


EXTRAS = (
    *("redis", "hiredis", "sqlalchemy", "msgspec", "uvicorn", "h11", "httptools", "hypothesis", "quart", "starlette"),
    *("fastapi", "litestar", "django", "pytest", "httpx", "anyio", "trio"),
)


def test_the_root_needs_no_extra() -> None:
    """With every extra and framework blocked, the package imports and serves a request."""
    run(f"import sys\nfor name in {EXTRAS!r}:\n    sys.modules[name] = None" + REQUEST + "asyncio.run(main())")


def test_testing_an_application_needs_no_extra() -> None:
    """Browser, clock, faults and `session_of` come without hypothesis and pytest; the rest says what it needs."""
    blocked = "import sys\nfor name in ('hypothesis', 'pytest', 'httpx'):\n    sys.modules[name] = None\n"
    run(f"{blocked}import fastersession.testing")
    for part in ("stores", "fuzz"):
        with pytest.raises(AssertionError, match=r"(hypothesis|pytest)"):
            run(f"{blocked}import fastersession.testing.{part}")


def test_extras_have_their_own_import_path() -> None:
    """Importing the root loads no module below stores, integrations, testing or demo but the memory store."""
    loaded = run(
        "import sys, fastersession\nprint(*(name for name in sys.modules if name.startswith('fastersession')))"
    )
    names = {name.removeprefix(OURS).lstrip(".") for name in loaded.split()}
    below = {name for name in names if name.startswith("stores.")}
    assert below <= {
        "stores.base",
        "stores.memory",
        "stores.memory.record",
        "stores.memory.store",
        "stores.memory.table",
        "stores.memory.users",
        "stores.users",
    }
    assert not names & {"integrations", "testing", "demo", "__main__"}


def ruff_order(name: str) -> tuple[int, str]:
    """CONSTANTS, then Classes, then functions, each by name (ruff's RUF022)."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("name", SOURCES)
def test_all_is_sorted_and_importable(name: str) -> None:
    """`__all__` names, once each and in order, what the module has; nothing private."""
    module = importlib.import_module(f"{OURS}.{name}".rstrip("."))
    listed = getattr(module, "__all__", [])
    assert list(listed) == sorted(set(listed), key=ruff_order)
    assert all(hasattr(module, entry) and not entry.startswith("_") for entry in listed)


def test_the_public_names_are_exactly_these() -> None:
    """The root's `__all__` is all that is public in it: every error and warning, the middleware, session and store."""
    public = {
        name
        for name, value in vars(fastersession).items()
        if not name.startswith("_") and not isinstance(value, type(sys)) and name not in ("TYPE_CHECKING", "Any")
    }
    later = {"Conversation", "ConversationOptions", "Conversations", "Entry"}  # imported when they are asked for
    assert public | later == set(fastersession.__all__)
    errors = importlib.import_module("fastersession.errors")
    raised = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert raised <= public
    codecs = {"Codec", "JsonCodec", "MsgspecCodec", "PickleCodec"}
    own = {"FasterSessionMiddleware", "MemoryStore", "Session", "SessionInfo", "SessionListener", "Sessions"}
    own |= {"DestroyedEvent", "IdChangedEvent", "LoginEvent", "SessionEvent", "SuspiciousEvent"}
    assert own | codecs == public - raised - later


def test_py_typed_and_the_demos_files_are_shipped() -> None:
    """The wheel carries the typing marker and every file that is no module."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"][OURS]
    assert (PACKAGE / "py.typed").is_file()
    others = {path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert others == {path for pattern in data for path in PACKAGE.glob(pattern)}
