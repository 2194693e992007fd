"""Where the CPU of a request goes on each store, as Markdown.

Rules of residence: as in report.py, for the sampled profile.
"""

from __future__ import annotations

from typing import Any

from bench.tables import table

LEAST = 0.01
"""Share from which a function is shown; what is below is a matter of luck in a few thousand samples."""


def profile_stores(found: dict[str, Any]) -> list[str]:
    parts = []
    for store in found["stores"].values():
        cases = store["cases"]
        parts.append(f"{store['title']}, {found['level']} at once ({', '.join(store['versions'])})")
        cpu = ["**CPU of a request, µs**", *(f"{case['cpu'] / 1000:,.0f}" for case in cases.values())]
        header = ["share of", *(case["title"] for case in cases.values())]
        parts.append(table(header, [cpu, *shared(cases, "parts", 0.0), *functions(cases)]))
    return [*parts, NOTES]


def functions(cases: dict[str, Any]) -> list[list[str]]:
    return [[f"`{name}`", *rest] for name, *rest in shared(cases, "functions", LEAST)]


def shared(cases: dict[str, Any], key: str, least: float) -> list[list[str]]:
    """Return a row for each name that has this share of a case, those with the most of all cases first."""
    names = {name for case in cases.values() for name, share in case[key].items() if share >= least}
    rows = [(name, [case[key].get(name, 0.0) for case in cases.values()]) for name in names]
    rows.sort(key=lambda row: (-sum(row[1]), row[0]))
    return [[name, *(f"{share:.1%}" if share else "" for share in of)] for name, of in rows]


NOTES = """\
Sampled every millisecond; what counts is the CPU time since the sample before. C code counts for the Python \
function that called it, or is entered next: so a function that seals or sends has the time of the cipher, or of the \
kernel. First the parts of the whole, then the functions of the event loop's thread that have 1 % of a case. The \
server of a database is another process, and not in it.

What this says about the targets that are missed (`python -m bench stores --check` lists them):

- **Many times a bare driver, 50 at once.** What goes to the database is shared by a batch, and small. What is left \
is each request's own: the token checked, values opened and decoded, the verifier compared, the state, the headers. \
Over a store of bytes that answers at once a read takes 120,000 instructions, half of what it takes on PostgreSQL. \
The rest is the way into a batch and out of it, the driver, and the application.
- **Writes.** A save encodes, seals, and runs in a task of its own, which is what lets it survive that its request \
is cancelled, once or in every turn of the loop. That task takes 46,000 of some 470,000 instructions on PostgreSQL. \
A coroutine driven in the request's own task would take less than half as much, but could not tell a time limit \
inside a store from a cancellation of the request: `asyncio.timeout` cancels the task that it was entered in.
- **SQLite.** The statements run in threads that share the interpreter's lock with the event loop, so their time \
adds to its own. aiosqlite's one statement for each request is as cheap, and nothing is checked, opened or compared.
- **One at once.** There is nothing to share. A verb of SQLite is two changes of thread and three turns of the loop, \
as with aiosqlite, and MariaDB's saves are two exchanges, for it has no update that says what it has updated."""
