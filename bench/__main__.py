"""`python -m bench [inprocess] [scale]`: measure, and write Markdown to standard output.

Rules of residence: arguments, the order of the parts and where results go. No measurement and no table here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import inprocess, report, scale
from bench.cases import CASES
from bench.peers import PEERS, Peer, pick

PARTS = ("inprocess", "scale")


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
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{' or '.join(PARTS)}; without one, both")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of the in-process part, turns of a scale level")
    parser.add_argument("--seconds", type=float, default=0.03, help="timed seconds per peer and case in a round")
    parser.add_argument("--peers", type=listed(PEERS), help=f"comma-separated, of {', '.join(PEERS)}")
    parser.add_argument("--cases", type=listed(CASES), default=list(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--levels", type=numbers, default=list(scale.LEVELS), help="live sessions, comma-separated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--check", action="store_true", help="hold the results against the targets; exit 1 if missed")
    return parser


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measured(peers: list[Peer], options: argparse.Namespace) -> dict[str, Any]:
    results: dict[str, Any] = {"environment": report.environment(peers)}
    parts = options.parts or PARTS
    if "inprocess" in parts:
        cases = [CASES[key] for key in options.cases]
        job = inprocess.measure(peers, cases, options.rounds, options.seconds, tell)
        results["inprocess"] = asyncio.run(job)
    if "scale" in parts:
        results["scale"] = scale.measure(peers, options.levels, options.rounds, tell)
    return results


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    peers, missing = pick(options.peers)
    for key in missing:
        tell(f"not installed, so left out: {key} (pip install -r bench/requirements.txt)")
    results = measured(peers, options)
    text = report.markdown(results)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n")
    if options.markdown:
        options.markdown.write_text(text)
    return judged(results) if options.check else 0


def judged(results: dict[str, Any]) -> int:
    found = report.checks(results)
    print(*found, sep="\n")
    return 0 if all(check.met for check in found) else 1


if __name__ == "__main__":
    sys.exit(main())
