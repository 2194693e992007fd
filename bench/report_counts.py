"""What is counted, as Markdown: bytecodes, instructions, calls.

Rules of residence: as in report.py, for the parts that time nothing.
"""

from __future__ import annotations

from typing import Any

from bench.cases import CASES
from bench.checks import INSTRUCTIONS, OURS
from bench.peers import PEERS
from bench.tables import table


def instructions(cases: dict[str, Any]) -> list[str]:
    keys = list(next(iter(cases.values()))["peers"])
    rows = [[PEERS["bare"].title + ", in all", *(f"{case['bare']:,.0f}" for case in cases.values())]]
    rows += [[PEERS[key].title, *(added(case["peers"], key) for case in cases.values())] for key in keys]
    rows += [["fastersession 0.1", *(f"{INSTRUCTIONS[key]:,}" for key in cases)]]
    if OURS in keys:
        rows += [["more than 0.1", *(f"{grown(key, case['peers']):+.1%}" for key, case in cases.items())]]
    return ["Instructions added per request (times the floor's)", table(["", *cases], rows)]


def added(peers: dict[str, float], key: str) -> str:
    if key not in peers:
        return "no"
    ratio = f" ({peers[key] / peers['floor']:.2f} x)" if "floor" in peers and key != "floor" else ""
    return f"{peers[key]:,.0f}{ratio}"


def grown(key: str, peers: dict[str, float]) -> float:
    return peers[OURS] / INSTRUCTIONS[key] - 1


def calls(stores: dict[str, Any]) -> list[str]:
    header = ["", "calls", "changes of file", "files"]
    found = {f"{request}, {store}": one for store, requests in stores.items() for request, one in requests.items()}
    rows = [[title, *(str(one[key]) for key in ("calls", "changes", "files"))] for title, one in found.items()]
    parts = ["What one request calls in the package, on the event loop's thread", table(header, rows)]
    for title, one in found.items():
        if "trace" in one:
            parts += [f"{title}, in order", "\n".join(["```text", *one["trace"], "```"])]
    return parts


def profile(found: dict[str, Any]) -> list[str]:
    ours, floors = found["bytecodes"][OURS], found["bytecodes"]["floor"]
    header = ["", *(CASES[key].title for key in ours)]
    names = dict.fromkeys(name for case in ours.values() for name in case)
    rows = [[PEERS["floor"].title, *(str(sum(floors[key].values())) for key in ours)]]
    rows += [[PEERS[OURS].title, *(str(sum(case.values())) for case in ours.values())]]
    rows += [[f"`{name}`", *(str(case.get(name, "")) for case in ours.values())] for name in names]
    pieces = [[name, f"{ns:.0f}"] for name, ns in found["pieces"].items()]
    return [
        "Bytecodes that one request runs, without the application's",
        table(header, rows),
        "What pieces of it take, in a row and so with warm caches",
        table(["", "ns"], pieces),
        PROFILE,
    ]


PROFILE = """\
What this says about the targets that are missed (`python -m bench --check` lists them):

- **No cookie.** Nearly all of the cost are bytecodes, spread over functions that do what the floor does not: the scope
  copied for the server's sake, the manager put into the state and taken out, the look at what stands in the session's
  place at the start, at the last message and at the end, `Vary` on streams, the guard that refuses what no cookie could
  lead to any more. No line has more than 5 % of them. All of it in one function would save four calls, about a tenth.
- **Read.** On top of that comes the token. Half of its check is the HMAC, a fifth the base64. Remembering tokens that
  were checked before would hide both from this table, and would keep secrets in every process; it is not done.
- **New session.** The token has 128 bits more than the floor's, the record stands in an order of eviction and in one of
  expiry, and the cookie brings `Cache-Control` and `Vary`. The record with its random id and the signature alone take,
  warm, about what the floor's whole request takes.
- **A million sessions.** A read touches about a dozen cache lines that nobody has touched for long: the table, the id,
  the record, its neighbours in the order of use, the attributes and their values.
- **Through a server.** uvicorn spends 115,000 instructions in user space on a request without sessions. By `perf`, at
  its process, the floor adds 8,000, 22,000 and 27,000 (no cookie, read, write), we 21,000, 60,000 and 70,000. What this
  comes to in requests a second is in [the table](sockets.md); a shared machine moves that by more than a tenth.

The next best design has the exchange and the fields of the session as extension types in C or Rust: then the bytecodes
go, and the pieces stay. To compile the modules as they are does not pay: by Cython 3.3, without types of its own, a
request without a cookie took 3.0 x the floor's where the interpreter took 2.6. It is not done, for the package is plain
Python, the same for every interpreter, and its source is what runs."""
