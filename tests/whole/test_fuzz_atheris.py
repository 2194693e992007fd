"""Atheris over the cookie scanner, the token, the seal and a record, for a minute each."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest
from environments import environment
from paths import RESULTS, ROOT, SUPPORT

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1800),
    pytest.mark.skipif((sys.platform, platform.machine()) != ("linux", "x86_64"), reason="atheris runs nowhere else"),
]

PACKAGES = ["atheris>=3", "hypothesis", "pytest", "--editable", str(ROOT)]
TABLE = RESULTS / "atheris.md"
SECONDS = 60
# What C code compares is invisible to the fuzzer: it is told.
WORDS = ["sid=", "; sid=", ";", " ", "sid", "=", "[null,1700000000.0,100]", '"a"', "{", "}", "[", "]", "null", "1e9"]


def fuzz(target: str, folder: Path) -> tuple[int, int]:
    """Return how many inputs were tried, and how many edges of the code they covered."""
    words = folder / "words"
    words.write_text("".join('"{}"\n'.format(word.replace('"', '\\"')) for word in WORDS))
    options = [f"-max_total_time={SECONDS}", "-max_len=1024", "-print_final_stats=1", f"-dict={words}"]
    done = subprocess.run(
        [environment("atheris", PACKAGES), "fuzz_atheris.py", target, *options, f"-artifact_prefix={folder}/"],
        cwd=SUPPORT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-5000:]
    tried, covered = re.search(r"units: +(\d+)", done.stderr), re.findall(r"cov: (\d+)", done.stderr)
    assert tried is not None
    return int(tried[1]), int(covered[-1])


def test_no_input_breaks_what_reads_the_bytes_of_strangers(tmp_path: Path) -> None:
    """The scanner equals the naive model; of tokens and sealed values only genuine ones pass; nothing raises."""
    rows = [
        f"Atheris, {SECONDS} s for each target.",
        "",
        "| target | inputs | edges covered |",
        "| --- | ---: | ---: |",
    ]
    for target in ("scanner", "token", "seal", "record"):
        tried, covered = fuzz(target, tmp_path)
        assert tried > 1_000
        rows.append(f"| {target} | {tried:,} | {covered} |")
    TABLE.parent.mkdir(exist_ok=True)
    TABLE.write_text("\n".join([*rows, ""]))
