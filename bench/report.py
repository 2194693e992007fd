"""Figures as Markdown.

Rules of residence: pure functions from the results (plain dicts, as `--json` writes them) to text, one for each part
(those of what is counted are in report_counts.py, those of the stores in report_stores.py). Nothing is measured here,
and nothing is left out because it looks bad.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from bench.checks import ENOUGH, OURS
from bench.peers import PEERS, Peer
from bench.report_counts import calls, instructions, profile
from bench.report_stores import redis, stores
from bench.report_stores_profile import profile_stores
from bench.serve import PAUSE, TOKENS
from bench.sockets import CONNECTIONS, SHORT
from bench.tables import table
from bench.truth import FACTS


def environment(peers: Iterable[Peer]) -> dict[str, Any]:
    """Name what the figures depend on."""
    cpus = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if "model name" in line]
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": models[0] if models else platform.machine(),
        "cores": len(models) or None,
        "system": platform.system(),
        "peers": {peer.package: peer.version() for peer in peers if peer.package},
    }


def markdown(results: dict[str, Any]) -> str:
    parts = [where(results["environment"])]
    for key, found in results.items():
        if key in WRITERS:
            parts += WRITERS[key](found)
    return "\n\n".join(parts) + "\n"


def where(env: dict[str, Any]) -> str:
    cores = f", {env['cores']} cores" if env["cores"] else ""
    versions = ", ".join(f"{key} {version}" for key, version in env["peers"].items() if version)
    return f"{env['cpu']}{cores}, {env['system']}, {env['python']}; {versions}."


OF_USERS = """\
What several things at once do to a user's sessions is asked of fastersession in memory, in SQLite and in Redis, by two
workers where they can share a store; and before that of the usual way to know users, an index beside the records
(`bench/usual.py`), which must answer each question with no."""


def truth(
    peers: dict[str, dict[str, bool | None]],
    named: Callable[[str], str] = lambda key: PEERS[key].title,
    facts: dict[str, tuple[str, Any]] = FACTS,
) -> list[str]:
    header, said = ["", *map(named, peers)], {True: "yes", False: "no", None: "has none"}
    rows = [[title, *(said[peers[key][fact]] for key in peers)] for fact, (title, _) in facts.items()]
    return ["What becomes of a session, asked by running each peer", table(header, rows), OF_USERS]


def inprocess(cases: dict[str, Any]) -> list[str]:
    header = ["", *(f"{case['title']}, {case['unit']}" for case in cases.values())]
    bases = dict.fromkeys(key for case in cases.values() for key in case["bases"])
    keys = list(next(iter(cases.values()))["peers"])
    alone = [[f"{PEERS[key].title}, in all", *(total(case, key) for case in cases.values())] for key in bases]
    medians = [[name(key), *(cell(case, key, "added") for case in cases.values())] for key in keys]
    minima = [[name(key), *(cell(case, key, "least") for case in cases.values())] for key in keys]
    parts = ["Added per request by the session: medians (times the floor's)", table(header, [*alone, *medians])]
    parts += ["The same, minima", table(header, minima)]
    for to in ("starlette", "fastsession"):
        if OURS in keys and to in keys:
            parts += [
                f"Against {PEERS[to].title}",
                table(header, [[name(OURS), *(share(c, to) for c in cases.values())]]),
            ]
    return parts


def name(key: str) -> str:
    peer = PEERS[key]
    return peer.title if peer.over == "bare" else f"{peer.title} (over {PEERS[peer.over].title})"


def total(case: dict[str, Any], key: str) -> str:
    return figure(case, case["bases"][key]) if key in case["bases"] else "no"


def share(case: dict[str, Any], to: str) -> str:
    ratios = case["peers"][OURS]["ratio"]
    return f"{ratios[to]:.3f} x" if to in ratios else ""


def figure(case: dict[str, Any], value: float) -> str:
    return f"{value:.0f}" if case["unit"] == "ns" else micro(value)


def micro(ns: float) -> str:
    return f"{ns / 1000:.2f}" if abs(ns) < 10_000 else f"{ns / 1000:,.1f}"


def cell(case: dict[str, Any], key: str, which: str) -> str:
    peer = case["peers"][key]
    if peer is None:
        return "no"
    compared = which == "added" and key != "floor" and "floor" in peer["ratio"]
    return figure(case, peer[which]) + (f" ({peer['ratio']['floor']:.1f} x)" if compared else "")


def scale(peers: dict[str, Any]) -> list[str]:
    header = ["live sessions", "new, µs", "x at 100", "read, µs", "x at 100", "write, µs", "x at 100"]
    header += ["worst request, µs", "longest collection, ms", "bytes per session", "expiry: new, µs", "worst, µs"]
    parts = []
    for key, found in peers.items():
        rows = [scale_row(int(live), level) for live, level in found["levels"].items()]
        parts.append(f"{name(key)} against live sessions; {found['traced_bytes']:.0f} bytes per session, traced")
        parts.append(table(header, rows))
    notes = "µs are added over the bare app, medians. The worst request is CPU time without the garbage collector's"
    return [*parts, f"{notes} pauses. A session holds its user's name, a string of its own, and a number."]


def scale_row(live: int, level: dict[str, Any]) -> list[str]:
    row = [f"{live:,}"]
    for operation in ("new", "read", "write"):
        row += [micro(level[operation]["added"]), f"{level[operation]['ratio']:.2f}"]
    worst = max(level[operation]["worst"] for operation in ("new", "read", "write"))
    row += [f"{worst / 1000:.0f}", f"{level['pause'] / 1e6:.1f}", f"{level['bytes']:.0f}" if live >= ENOUGH else ""]
    expiry = level.get("expire")
    return row + ([micro(expiry["mean"]), f"{expiry['worst'] / 1000:.0f}"] if expiry else ["", ""])


def sockets(found: dict[str, Any]) -> list[str]:
    header = ["", "requests/s", "x bare", "x floor", "x base", "CPU, µs", "median, ms", "p99, ms", "p99, x bare"]
    parts = []
    for case, peers in found["short"].items():
        parts += [f"uvicorn, {CONNECTIONS} connections kept alive: {SHORT[case][0]}"]
        parts += [table(header, [[PEERS[key].title, *requests(peer)] for key, peer in peers.items()])]
    header = ["", "first byte, ms", "p99, ms", "in all, ms", "p99, ms", "x base", "CPU, ms", "x base"]
    for clients, peers in found["streams"].items():
        parts += [f"uvicorn, {clients} readers of {TOKENS} tokens, {PAUSE * 1000:.0f} ms apart"]
        rows = [[PEERS[key].title, *(streamed(peer) if peer else ["no"] * 7)] for key, peer in peers.items()]
        parts += [table(header, rows)]
    return [
        *parts,
        "Medians of rounds; ratios within a round. The base of a framework's sessions is that framework alone.",
    ]


def requests(peer: dict[str, Any]) -> list[str]:
    ratios = [f"{peer['ratio'][to]['rps']:.2f}" if to in peer["ratio"] else "" for to in ("bare", "floor", "base")]
    latencies = [f"{peer['p50']:.2f}", f"{peer['p99']:.2f}", f"{peer['ratio']['bare']['p99']:.2f}"]
    return [f"{peer['rps']:,.0f}", *ratios, f"{peer['cpu']:.1f}", *latencies]


def streamed(peer: dict[str, Any]) -> list[str]:
    base = peer["ratio"]["base"]
    figures = [f"{peer[key]:,.1f}" for key in ("first", "first_p99", "total", "p99")]
    return [*figures, f"{base['total']:.3f}", f"{peer['cpu'] / 1000:.2f}", f"{base['cpu']:.3f}"]


WRITERS: dict[str, Callable[[Any], list[str]]] = {
    "truth": truth,
    "inprocess": inprocess,
    "instructions": instructions,
    "calls": calls,
    "profile": profile,
    "scale": scale,
    "redis": redis,
    "stores": stores,
    "profile-stores": profile_stores,
    "sockets": sockets,
}
