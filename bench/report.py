"""Figures as Markdown, and the targets they are held against.

Rules of residence: pure functions from the results (plain dicts, as `--json` writes them) to text. Nothing is measured
here, and nothing is left out because it looks bad.
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

from bench import redis_report
from bench.peers import PEERS
from bench.table import Check, table

OURS = "fastersession"
ENOUGH = 10_000
"""Live sessions below which resident memory says nothing."""


def environment(versions: dict[str, str]) -> dict[str, Any]:
    """Name what the figures depend on."""
    cpus = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in cpus.read_text().splitlines() if "model name" in line]
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "cpu": models[0] if models else platform.machine(),
        "cores": len(models) or None,
        "system": platform.system(),
        "peers": versions,
    }


def checks(results: dict[str, Any]) -> list[Check]:
    """Hold the results against the targets; a part that was not measured is not judged."""
    found = [*inprocess_checks(results.get("inprocess", {})), *scale_checks(results.get("scale", {}).get(OURS, {}))]
    return found + redis_report.checks(results.get("redis", {}))


def inprocess_checks(cases: dict[str, Any]) -> list[Check]:
    found = []
    for key, limit in (("read", 3.0), ("write", 3.5), ("stream", 2.0)):
        ratios = cases.get(key, {}).get("peers", {}).get(OURS, {}).get("ratio", {})
        if "floor" in ratios:
            found.append(Check(f"{cases[key]['title']}, added, times the floor's", ratios["floor"], limit))
        if "starlette" in ratios and key != "stream":
            found.append(Check(f"{cases[key]['title']}, added, times Starlette's", ratios["starlette"], 0.5))
    return found


def scale_checks(ours: dict[str, Any]) -> list[Check]:
    levels = ours.get("levels")
    if not levels:
        return []
    top = max(levels, key=int)
    title = f"{int(top):,} live sessions"
    found = [Check(f"new session at {title}, times that at 100", levels[top]["new"]["ratio"], 1.5)]
    found.append(Check("bytes of a small session, traced", ours["traced_bytes"], 1024, 0))
    if int(top) >= ENOUGH:
        found.append(Check(f"bytes of a small session, resident, at {title}", levels[top]["bytes"], 1024, 0))
    return found


def markdown(results: dict[str, Any]) -> str:
    env = results["environment"]
    cores = f", {env['cores']} cores" if env["cores"] else ""
    versions = ", ".join(f"{key} {version}" for key, version in env["peers"].items() if version)
    parts = [f"{env['cpu']}{cores}, {env['system']}, {env['python']}; {versions}."]
    if "inprocess" in results:
        parts += inprocess_markdown(results["inprocess"])
    if "scale" in results:
        parts += scale_markdown(results["scale"])
    if "redis" in results:
        parts += redis_report.markdown(results["redis"])
    return "\n\n".join(parts) + "\n"


def inprocess_markdown(cases: dict[str, Any]) -> list[str]:
    header = ["", *(f"{case['title']}, {case['unit']}" for case in cases.values())]
    keys = list(next(iter(cases.values()))["peers"])
    bare = ["bare app, in all", *(figure(case, case["bare"]) for case in cases.values())]
    medians = [[PEERS[key].title, *(cell(case, key, "added") for case in cases.values())] for key in keys]
    minima = [[PEERS[key].title, *(cell(case, key, "least") for case in cases.values())] for key in keys]
    parts = ["Added per request over the bare app: medians (times the floor's)", table(header, [bare, *medians])]
    parts += ["The same, minima", table(header, minima)]
    if OURS in keys and "starlette" in keys:
        shares = [f"{case['peers'][OURS]['ratio']['starlette']:.2f} x" for case in cases.values()]
        parts += ["Against Starlette's", table(header, [[PEERS[OURS].title, *shares]])]
    return parts


def figure(case: dict[str, Any], value: float) -> str:
    return f"{value:.0f}" if case["unit"] == "ns" else micro(value)


def micro(ns: float) -> str:
    return f"{ns / 1000:.2f}" if abs(ns) < 10_000 else f"{ns / 1000:,.1f}"


def cell(case: dict[str, Any], key: str, which: str) -> str:
    peer = case["peers"][key]
    compared = which == "added" and key != "floor" and "floor" in peer["ratio"]
    return figure(case, peer[which]) + (f" ({peer['ratio']['floor']:.1f} x)" if compared else "")


def scale_markdown(peers: dict[str, Any]) -> list[str]:
    header = ["live sessions", "new, µs", "x at 100", "read, µs", "x at 100", "write, µs", "x at 100"]
    header += ["worst request, µs", "longest collection, ms", "bytes per session", "expiry: new, µs", "worst, µs"]
    parts = []
    for key, found in peers.items():
        rows = [scale_row(int(live), level) for live, level in found["levels"].items()]
        parts.append(f"{PEERS[key].title} against live sessions; {found['traced_bytes']:.0f} bytes per session, traced")
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
