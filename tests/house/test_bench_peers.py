"""The whole benchmark with every peer, as its requirements pin them, in a virtual environment of its own.

The environment is made at the repository's root at the first run, and kept.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT
from test_bench_truth import PUBLISHED

from bench.__main__ import PARTS
from bench.crowd import CASES
from bench.peers import PEERS
from bench.plots import PICTURES
from bench.store_peers import STORE_PEERS

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]

VENV = ROOT / ".venv-bench"
DRAW = """
import json, pathlib, sys
from bench.results import save
save(json.loads(pathlib.Path(sys.argv[1]).read_text()), pathlib.Path(sys.argv[2]))
"""
REQUIREMENTS = ROOT / "bench" / "requirements.txt"


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter of the environment; the stamp says for which requirements it was made."""
    stamp, interpreter = VENV / "complete", VENV / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != REQUIREMENTS.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", VENV], check=True)
        command = [interpreter, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*command, "-r", REQUIREMENTS, "--editable", ROOT], check=True)
        stamp.write_text(REQUIREMENTS.read_text())
    return interpreter


def test_every_part_measures_every_peer(python, tmp_path):
    """All parts in one command, then all tables and pictures, from figures that mean nothing."""
    file = tmp_path / "all.json"
    options = ["--rounds", "1", "--seconds", "0.001", "--levels", "50,100", "--at-once", "1,10", "--json", file]
    subprocess.run([python, "-m", "bench", *options], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    found = json.loads(file.read_text())
    assert set(found) == {"environment", *PARTS}
    peers = {peer.key for peer in PEERS.values() if not peer.bare}
    assert found["truth"] == PUBLISHED
    for case, figures in found["inprocess"].items():
        assert {key for key, peer in figures["peers"].items() if peer} == {
            k for k in peers if case not in PEERS[k].lacks
        }
    assert set(found["scale"]) == {key for key in peers if PEERS[key].stores and "scale" not in PEERS[key].lacks}
    on_stores = {key: [peer.key for peer in peers] for key, peers in STORE_PEERS.items()}
    assert all(list(case["peers"]) == on_stores["redis"] for case in found["redis"]["cases"].values())
    assert {key: store["peers"] for key, store in found["stores"]["stores"].items()} == on_stores
    for store in found["stores"]["stores"].values():
        assert list(store["cases"]) == list(CASES)
    assert all(set(figures) == set(PEERS) for figures in found["sockets"]["short"].values())
    subprocess.run([python, "-c", DRAW, file, tmp_path], cwd=ROOT, check=True)
    assert {path.name for path in tmp_path.glob("*.md")} == {f"{part}.md" for part in PARTS}
    assert {path.name for path in tmp_path.glob("*.png")} == {f"{part}.png" for part in PICTURES}
