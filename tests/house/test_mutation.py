"""Mutation testing of the core: of the faults that mutmut would put into it, the tests find all but the equivalent.

Each survivor has to be explained, and each explanation has to be of a survivor. What is changed is inside of functions;
the tables and patterns at the top of the modules are held by tests that name each of their bytes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from environments import environment
from paths import RESULTS, ROOT, SUPPORT, place_of
from survivors import EXPLAINED

pytestmark = [pytest.mark.long, pytest.mark.timeout(7200)]

PACKAGES = ["mutmut==3.8.1"]
TABLE = RESULTS / "mutation.md"
MODULES = (
    "asgi/cookies", "asgi/dress", "asgi/selection", "asgi/headers", "asgi/lifespan", "asgi/refusal", "asgi/replaced",
    "asgi/terms", "crypto/tokens", "engine/line", "engine/plan", "engine/tasks", "events/base", "log",
    "pending", "stores/memory/record", "stores/memory/store", "stores/rows", "stores/words",
)  # fmt: skip
KILLED = {"killed", "endless"}
LEAST = 0.95

# Which tests find the mutants of a module. Those of modules that every request goes through are found by narrow ones:
# thousands of tests reach them, and a survivor would be asked all.
NARROW: dict[tuple[str, ...], tuple[str, ...]] = {
    ("attributes", "engine/packing", "engine/values", "facts", "noting", "state"): (
        "engine/test_packer.py", "session/test_attributes.py", "session/test_facts.py", "session/test_transitions.py",
        "users/test_flashes.py", "users/test_login.py", "users/test_max_age.py", "users/test_rolling.py",
    ),
    ("codecs", "plainjson", "tagged"): (
        "engine/test_codecs.py", "engine/test_codecs_alone.py", "engine/test_codecs_typed.py",
        "engine/test_plain_json.py", "engine/test_tagged_values.py", "engine/test_values_in_motion.py",
    ),
    ("engine/carry_out",): (
        "engine/test_actions.py", "users/test_flashes.py", "users/test_login.py", "users/test_max_age.py",
        "users/test_rolling.py",
    ),
    ("stores/memory/table",): (
        "stores/test_contract.py::TestMemoryLive", "stores/test_memory_bound.py", "stores/test_memory_expiry.py",
        "stores/test_memory_record.py", "stores/test_memory_table.py",
    ),
}  # fmt: skip
FLOORS = ("asgi", "crypto", "engine", "middleware", "session", "users")
OF_STORES = (
    "test_clock_set_back", "test_contract", "test_every_store", "test_every_store_failing", "test_every_store_sealed",
    "test_memory_bound", "test_memory_claims", "test_memory_expiry", "test_memory_record", "test_memory_store",
    "test_rows", "test_store_words", "test_told_of_stores",
)  # fmt: skip
# By the clock, too slow to be run for each survivor, or in processes of their own, which know nothing of a mutant.
LEFT_OUT = (
    "engine/test_repeats.py::test_the_sooner_of_two_comes_first",
    "middleware/test_cli.py",
    "asgi/test_cookies.py::test_p2_hostile_cookie_corpora_are_linear",
    "asgi/test_cache_control.py::test_h1_a_long_cache_control_is_read_in_linear_time",
    "stores/test_contract.py::TestMemoryLive::test_state_machine",
    "stores/test_store_words.py::test_no_error_of_a_url_shows_its_password",
)

Verdict = dict[str, str]


def verdicts(folder: Path, modules: tuple[str, ...], tests: list[str]) -> list[Verdict]:
    """Run the mutants of modules; return what became of each."""
    mutants, out = folder / "mutants.json", folder / "verdicts"
    paths = [f"fastersession/{module}.py" for module in modules]
    command = [environment("mutmut", PACKAGES), SUPPORT / "mutants.py", *paths]
    mutants.write_bytes(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    options = ["-p", "mutation", "-p", "no:cacheprovider", "-m", "not long", "--tb=no"]
    run = [sys.executable, "-m", "pytest", *options, *tests, *(f"--deselect=tests/{name}" for name in LEFT_OUT)]
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{SUPPORT}"}
    done = subprocess.run([*run, "--mutants", mutants, "--verdicts", out], cwd=ROOT, env=env, capture_output=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return [json.loads(line) for line in out.read_text().splitlines()]


def groups() -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """Yield modules and the tests that are to find their mutants."""
    yield MODULES, [*(f"tests/{floor}" for floor in FLOORS), *map(place_of, OF_STORES)]
    for modules, tests in NARROW.items():
        yield modules, [f"tests/{test}" for test in tests]


def module_of(verdict: Verdict) -> str:
    return verdict["path"].removeprefix("fastersession/").removesuffix(".py")


def reason(survivor: Verdict) -> str:
    return EXPLAINED.get(module_of(survivor), {}).get(survivor["after"], "**not explained**")


def row(name: str, found: list[Verdict]) -> str:
    count = Counter(verdict["outcome"] in KILLED for verdict in found)
    return f"| {name} | {count.total()} | {count[True] / count.total():.1%} | {count[False]} |"


def table(found: list[Verdict]) -> list[str]:
    """Return the lines of a table by module, and of one of the survivors."""
    rows = [
        f"{PACKAGES[0]}, its operators",
        "",
        "| module | mutants | killed | survivors |",
        "| --- | ---: | ---: | ---: |",
    ]
    by_module = {name: [verdict for verdict in found if module_of(verdict) == name] for name in map(module_of, found)}
    rows += [row(name, mine) for name, mine in sorted(by_module.items())] + [row("all", found)]
    rows += ["", "The survivors, one by one:", "", "| module | statement | survives as | because |"]
    rows.append("| --- | --- | --- | --- |")
    for each in sorted((each for each in found if each["outcome"] not in KILLED), key=module_of):
        before, after = (each[name].replace("|", "\\|") for name in ("before", "after"))
        rows.append(f"| {module_of(each)} | `{before}` | `{after}` | {reason(each)} |")
    return [*rows, ""]


def test_the_tests_kill_all_but_equivalent_mutants(tmp_path: Path) -> None:
    """At least 95 % of each module's are killed, and every survivor is explained one by one."""
    found = [verdict for modules, tests in groups() for verdict in verdicts(tmp_path, modules, tests)]
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join(table(found)))
    survivors = [verdict for verdict in found if verdict["outcome"] not in KILLED]
    told = {(module, after) for module, reasons in EXPLAINED.items() for after in reasons}
    assert {(module_of(verdict), verdict["after"]) for verdict in survivors} == told
    count, left = Counter(map(module_of, found)), Counter(map(module_of, survivors))
    assert {name: left[name] for name in count if left[name] > max(1, (1 - LEAST) * count[name])} == {}
