"""`python -m bench [inprocess] [scale] [redis]`: measure, and write Markdown to standard output.

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

from bench import inprocess, redis, redis_peers, redis_server, report, scale
from bench.cases import CASES
from bench.peers import PEERS, Peer, pick, versions
from bench.redis_peers import REDIS_PEERS, RedisPeer

PARTS = ("inprocess", "scale", "redis")


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
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; without one, all")
    parser.add_argument("--rounds", type=int, default=20, help="rounds of a part, turns of a scale level")
    parser.add_argument("--seconds", type=float, default=0.03, help="timed seconds per peer and case in a round")
    everybody, everything = PEERS | REDIS_PEERS, CASES | redis.CASES
    parser.add_argument("--peers", type=listed(everybody), help=f"comma-separated, of {', '.join(everybody)}")
    parser.add_argument("--cases", type=listed(everything), default=[*everything], help=f"of {', '.join(everything)}")
    parser.add_argument("--levels", type=numbers, default=list(scale.LEVELS), help="live sessions, comma-separated")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there too")
    parser.add_argument("--check", action="store_true", help="hold the results against the targets; exit 1 if missed")
    return parser


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def measured(
    parts: list[str], peers: list[Peer], on_redis: list[RedisPeer], options: argparse.Namespace
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    if "inprocess" in parts:
        cases = [CASES[key] for key in options.cases if key in CASES]
        job = inprocess.measure(peers, cases, options.rounds, options.seconds, tell)
        results["inprocess"] = asyncio.run(job)
    if "scale" in parts:
        results["scale"] = scale.measure(peers, options.levels, options.rounds, tell)
    if "redis" in parts:
        redis_cases = [redis.CASES[key] for key in options.cases if key in redis.CASES]
        job = redis.measure(on_redis, redis_cases, options.rounds, options.seconds, tell)
        results["redis"] = asyncio.run(job)
    return results


def main() -> int:
    parser = arguments()
    options = parser.parse_args()
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(unknown)}")
    parts = options.parts or list(PARTS)
    if "redis" in parts and not redis_server.installed():
        tell("no redis-server or no redis-py, so left out: redis")
        parts.remove("redis")
    (peers, missing), (on_redis, missing_there) = pick(options.peers), redis_peers.pick(options.peers)
    if "redis" not in parts:
        on_redis, missing_there = [], []
    elif parts == ["redis"]:
        peers, missing = [], []
    for key in {**dict.fromkeys(missing), **dict.fromkeys(missing_there)}:
        tell(f"not installed, so left out: {key} (pip install -r bench/requirements.txt)")
    environment = report.environment(versions([*peers, *on_redis]))
    results = {"environment": environment, **measured(parts, peers, on_redis, options)}
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
