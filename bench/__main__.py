"""`python -m bench [part …]`: measure, and write Markdown to standard output.

A change of the package is judged by what is counted, which no load of the machine disturbs: `instructions --check`
compares a request with that of 0.1 (20 seconds, needs valgrind), `calls --trace` lists what a request enters.

Rules of residence: arguments, the list of the parts and where results go. No measurement and no table here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import (
    calls,
    cases,
    crowd,
    inprocess,
    instructions,
    profile,
    profile_stores,
    redis,
    report,
    scale,
    sockets,
    stores,
    truth,
)
from bench.checks import checks
from bench.peers import PEERS, Peer, pick
from bench.servers import Redis
from bench.servers_sql import STORES
from bench.store_peers import STORE_PEERS

PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "truth": truth.measure,
    "instructions": instructions.measure,
    "calls": calls.measure,
    "inprocess": inprocess.measure,
    "profile": profile.measure,
    "scale": scale.measure,
    "redis": redis.measure,
    "stores": stores.measure,
    "profile-stores": profile_stores.measure,
    "sockets": sockets.measure,
}
"""A part is `measure(peers, options, tell)`; report.py has its tables, plots.py its picture, checks.py its targets."""


def listed(known: dict[str, Any]) -> Callable[[str], list[str]]:
    """Make a parser of comma-separated names out of the known ones."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := sorted(set(names) - set(known)):
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return names

    return parse


def numbers(text: str) -> list[int]:
    return sorted(int(part) for part in text.split(","))


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m bench", description="What a session costs, peer beside peer.")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"of {', '.join(PARTS)}; without one, all of them")
    parser.add_argument("--rounds", type=int, help="rounds of a part, turns of a scale level; else as many as it needs")
    parser.add_argument(
        "--seconds", type=float, help="timed seconds per peer and case in a round, if not the part's own"
    )
    known = {**PEERS, **{peer.key: peer for peers in STORE_PEERS.values() for peer in peers}}
    parser.add_argument("--peers", type=listed(known), help=f"comma-separated, of {', '.join(known)}")
    told = f"of the part in process: {', '.join(cases.CASES)}; of the stores: {', '.join(crowd.CASES)}"
    parser.add_argument("--cases", type=listed({**cases.CASES, **crowd.CASES}), help=told)
    parser.add_argument("--stores", type=listed(STORES), help=f"comma-separated, of {', '.join(STORES)}")
    parser.add_argument("--at-once", type=numbers, help="requests at once on the stores, comma-separated")
    parser.add_argument("--levels", type=numbers, help="live sessions of the scale, comma-separated")
    parser.add_argument("--trace", action="store_true", help="list the calls that are counted, in their order")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument(
        "--save", action="store_true", help="write tables and pictures to bench/results, and tables to README and GUIDE"
    )
    parser.add_argument("--check", action="store_true", help="hold the results against the targets; exit 1 if missed")
    return parser


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measured(peers: list[Peer], options: argparse.Namespace) -> dict[str, Any]:
    parts = [key for key in PARTS if key in (options.parts or PARTS)]
    if "redis" in parts and (lacking := Redis.missing()):
        tell(f"not installed, so left out: redis ({', '.join(lacking)})")
        parts.remove("redis")
    return {"environment": report.environment(peers), **{key: PARTS[key](peers, options, tell) for key in parts}}


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    peers, missing = pick(options.peers)
    for key in missing:
        tell(f"not installed, so left out: {key} (pip install -r bench/requirements.txt)")
    results = measured(peers, options)
    write(results, options)
    return judged(results) if options.check else 0


def write(results: dict[str, Any], options: argparse.Namespace) -> None:
    text = report.markdown(results)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(text)
    if options.save:
        from bench.results import fill, save

        save(results)
        fill()


def judged(results: dict[str, Any]) -> int:
    found = checks(results)
    print(*found, sep="\n")
    return 0 if all(check.met for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
