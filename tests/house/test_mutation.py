"""Mutation testing of the pure core by mutmut: of the faults put into it, the unit tests find all but the equivalent.

Each survivor has to be explained here, and each explanation has to be of a survivor. mutmut changes what is inside of
functions; the tables and patterns at the top of the modules are held by tests that name each of their bytes.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from environments import environment
from paths import RESULTS, ROOT, place_of

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

PACKAGES = ["mutmut==3.8.1", "asgiref>=3.8", "cryptography>=42", "hypothesis>=6.100", "pytest>=8.3", "pytest-timeout"]
TABLE = RESULTS / "mutation.md"
MODULES = ("asgi.cookies", "crypto.tokens", "engine.plan")
KILLED = {"killed", "timeout"}  # a timeout is a loop that never ends
LEAST = 0.95

SUITE = [
    "test_plan", "test_cookie_policy", "test_cookies", "test_keys", "test_sealer", "test_sealing",
    "test_token_mutants", "test_tokens",
]  # fmt: skip
SETTINGS = f"""
[tool:pytest]
pythonpath = tests/support

[mutmut]
source_paths = fastersession
only_mutate = {"".join(f"{chr(10)}    fastersession/{module.replace('.', '/')}.py" for module in MODULES)}
pytest_add_cli_args_test_selection = {"".join(f"{chr(10)}    {place_of(name)}" for name in SUITE)}
"""
CONFTEST = """
from hypothesis import settings
settings.register_profile("mutants", deadline=None, derandomize=True, database=None)
settings.load_profile("mutants")
"""

NEVER_ZERO = "what is looked for begins behind another byte, so its place is never 0"
SAME_CODEC = "another name of the same codec"
BY_ANY = "a short way only: the loop over all keys, the first among them, opens the same values"
# By what the survivor makes of the line.
EXPLAINED = {
    'self._prefix = name.encode("ASCII") + b"="': SAME_CODEC,
    "def __init__(self, name: str, usual: int = 1) -> None:": "a short way only: the general one finds the same value",
    "if field.rfind(self._prefix, value) >= 0:": "there is a last one exactly if there is one",
    "if field.find(self._prefix, value) > 0:": NEVER_ZERO,
    "if field.find(self._prefix, value) >= 1:": NEVER_ZERO,
    'if field[field.rfind(b";", None, at) + 1 : at].strip(b" \\t"):': "no begin is a begin at 0",
    'return ((field[value:] if end <= 0 else field[value:end]).rstrip(b" \\t"),)': NEVER_ZERO,
    'return ((field[value:] if end < 1 else field[value:end]).rstrip(b" \\t"),)': NEVER_ZERO,
    "return len(raw) == TOKEN_CHARS * 3 / 4 and raw[0] == VERSION": "the same number",
    'name = cookie_name.encode("ASCII")': SAME_CODEC,
    "info = purpose + len(name).to_bytes(2, ) + name": "big endian is the default",
    "if sealed[:3] == self._head:": BY_ANY,
    "return self._cipher.decrypt(sealed[3:_BODY], sealed[_BODY:], bound)": BY_ANY,
    "if base.keys() < now.keys():": "of equal names none is missing, which the last line finds as well",
}


def mutmut(folder: Path, *arguments: str) -> str:
    python = environment("mutmut", PACKAGES)
    env = {**os.environ, "PATH": f"{python.parent}:{os.environ['PATH']}", "PYTHONPATH": ""}
    done = subprocess.run([python, "-m", "mutmut", *arguments], cwd=folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0, (done.stdout + done.stderr)[-5000:]
    return done.stdout


def outcomes(folder: Path) -> dict[str, str]:
    """Mutate a copy of the package; return by mutant what became of it."""
    shutil.copytree(ROOT / "fastersession", folder / "fastersession")
    shutil.copytree(ROOT / "tests", folder / "tests", ignore=shutil.ignore_patterns("__pycache__", "results"))
    (folder / "setup.cfg").write_text(SETTINGS)
    (folder / "tests" / "conftest.py").write_text(CONFTEST)
    mutmut(folder, "run", "--max-children", str(os.cpu_count()))
    lines = mutmut(folder, "results", "--all", "true").splitlines()
    pairs = (line.strip().split(": ") for line in lines if ": " in line)
    return {name: outcome for name, outcome in pairs if module_of(name) in MODULES}


def module_of(mutant: str) -> str:
    """Return the module of a mutant: of ``fastersession.asgi.cookies.x_find__mutmut_1``, ``asgi.cookies``."""
    return mutant.removeprefix("fastersession.").rpartition(".")[0]


def changed(folder: Path, mutant: str) -> tuple[str, str]:
    """Return the line that a mutant changes, before and after, without its comment."""
    before, after = re.findall(r"^[-+](?![-+]{2})(.*?)(?:  #.*)?$", mutmut(folder, "show", mutant), re.MULTILINE)
    return before.strip(), after.strip()


def table(found: dict[str, str], survivors: dict[str, tuple[str, str]]) -> list[str]:
    rows = ["mutmut 3.8.1", "", "| module | mutants | killed | survivors |", "| --- | ---: | ---: | ---: |"]
    for module in MODULES:
        count = Counter(outcome in KILLED for name, outcome in found.items() if f".{module}." in name)
        rows.append(f"| {module} | {count.total()} | {count[True] / count.total():.1%} | {count[False]} |")
    count = Counter(outcome in KILLED for outcome in found.values())
    rows.append(f"| all | {count.total()} | {count[True] / count.total():.1%} | {count[False]} |")
    rows += ["", "The survivors, one by one:", "", "| module | line | survives as | because |"]
    rows.append("| --- | --- | --- | --- |")
    for name, (before, after) in survivors.items():
        rows.append(f"| {module_of(name)} | `{before}` | `{after}` | {EXPLAINED.get(after, '**not explained**')} |")
    return [*rows, ""]


def test_the_unit_tests_kill_all_but_equivalent_mutants(tmp_path: Path) -> None:
    """At least 95 % of each module's are killed, by its own tests, and every survivor is explained one by one."""
    found = outcomes(tmp_path)
    assert {module_of(name) for name in found} == set(MODULES)
    survivors = {name: changed(tmp_path, name) for name, outcome in found.items() if outcome not in KILLED}
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(table(found, survivors)))
    assert {after for _, after in survivors.values()} == EXPLAINED.keys()
    for module in MODULES:
        killed = [outcome in KILLED for name, outcome in found.items() if f".{module}." in name]
        assert sum(killed) >= LEAST * len(killed), module
