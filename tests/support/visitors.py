"""Many browsers at once, each with two tabs, which note what they were told and compare it with what is kept.

Rules of residence: real sockets and real cookie jars against `workers_app`; nothing of the package under test.

    crowd = Crowd(server.port, browsers=20, turns=6, at_once=20)
    await crowd.visit()                      # every turn of every tab; one worker is killed on the way
    crowd.visitors[0].faults(content)        # [] if the content of the session is what this visitor was told
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import secrets
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from serving import Wire
from workers_app import new_entry, whole_answer

PATIENCE = 90.0  # seconds for one answer: more than an exclusive turn may be waited for
LEAVING = 0.1  # of all turns are left in the middle
APART = ("own", "login")  # turns that are kept as attributes of their own, not in the history


@dataclass(eq=False)
class Note:
    """One turn as its client knows it."""

    turn: str
    question: str
    how: str
    leaves: bool
    worker: int | None  # who answers, or who is at the other end of the connection, as far as that is known
    end: str = ""  # "acknowledged", "left", "broken" (by the application) or "failed"
    seen: str = ""
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0


class Crowd:
    """All visitors of one server. After a third of all turns, one of them kills the worker that is answering it."""

    def __init__(self, port: int, browsers: int, turns: int, at_once: int) -> None:
        self.port, self.turns, self.at_once = port, turns, at_once
        self.until_kill = browsers * turns // 3
        self.killed: int | None = None
        self.killed_at = self.seconds = 0.0
        self.visitors = [self.visitor(number) for number in range(browsers)]

    def visitor(self, number: int) -> Visitor:
        return Visitor(self, number)

    async def visit(self) -> None:
        began, places = time.monotonic(), asyncio.Semaphore(self.at_once)

        async def come(visitor: Visitor) -> None:
            async with places:
                await visitor.visit(self.turns)

        await asyncio.gather(*map(come, self.visitors))
        self.seconds = time.monotonic() - began

    def kill(self, worker: int) -> None:
        self.killed, self.killed_at = worker, time.monotonic()
        os.kill(worker, signal.SIGKILL)

    @property
    def notes(self) -> list[Note]:
        return [note for visitor in self.visitors for notes in visitor.tabs for note in notes]

    def unexplained(self) -> list[Note]:
        """Return the failures that are not of the killed worker, nor of a connection that it may have taken."""
        failed = [note for note in self.notes if note.end == "failed"]
        return [n for n in failed if n.worker != self.killed and (n.worker is not None or n.began > self.killed_at)]

    def figures(self) -> str:
        """Return what happened, in one line."""
        ends, workers = Counter(note.end for note in self.notes), Counter(note.worker for note in self.notes)
        slowest = max(note.seconds for note in self.notes)
        median = sorted(note.seconds for note in self.notes)[len(self.notes) // 2]
        return (
            f"{len(self.visitors)} browsers: {ends['acknowledged']} turns acknowledged, {ends['left']} left, "
            f"{ends['failed']} failed by the kill; {self.seconds:.1f} s, {len(self.notes) / self.seconds:.0f} turns/s, "
            f"median {median * 1000:.0f} ms, slowest {slowest:.1f} s; by worker: {sorted(workers.values())}"
        )


class Visitor:
    """One browser: a cookie jar, tabs, and its notes, tab by tab."""

    def __init__(self, crowd: Crowd, number: int) -> None:
        self.crowd = crowd
        self.who = f"visitor-{number}-{secrets.token_hex(8)}"
        self.random = random.Random(number)
        self.cookies = httpx.Cookies()
        self.tabs: tuple[list[Note], ...] = ([], [], [])  # the first turn, then two tabs at once

    async def visit(self, turns: int) -> None:
        """Begin the session with a turn that is answered, then take all others in two tabs."""
        first = self.tabs[0]
        async with contextlib.aclosing(Wire(self.crowd.port)) as wire:
            while not first or first[-1].end != "acknowledged":
                await self.turn(wire, first, "whole")
        await asyncio.gather(*(self.use(tab, turns // 2 - number) for number, tab in enumerate(self.tabs[1:])))

    async def use(self, tab: list[Note], turns: int) -> None:
        """Take one turn after the other, one of the whole crowd's as the bait of a worker."""
        async with contextlib.aclosing(Wire(self.crowd.port)) as wire:
            for number in range(turns):
                how = self.random.choice(("whole", "late", "own"))
                if self.crowd.until_kill <= 0 and number < turns - 1:
                    how, self.crowd.until_kill = "endless", sys.maxsize
                await self.turn(wire, tab, how, leaves=self.random.random() < LEAVING)

    async def turn(self, wire: Wire, tab: list[Note], how: str, *, leaves: bool = False) -> None:
        name = f"tab-{self.tabs.index(tab)}-{len(tab)}"
        worker = tab[-1].worker if tab and wire.is_open else None
        note = Note(name, new_entry(self.who, name)["question"], how, leaves and how != "endless", worker)
        tab.append(note)
        try:
            async with asyncio.timeout(PATIENCE):
                note.end = await self._read(wire, note)
        except (OSError, asyncio.IncompleteReadError):
            note.end = "failed"
        if note.end != "acknowledged":
            await wire.aclose()
        self.crowd.until_kill -= 1
        note.seconds = time.monotonic() - note.began

    async def _read(self, wire: Wire, note: Note) -> str:
        headers = await self.request(wire, "/turn", {"who": self.who, "turn": note.turn, "how": note.how})
        note.worker = int(headers["worker"])
        async with contextlib.aclosing(wire.chunks()) as chunks:
            async for chunk in chunks:
                note.seen += chunk.decode()
                if note.how == "endless":
                    self.crowd.kill(note.worker)
                elif note.leaves:
                    return "left"
        return "acknowledged"

    async def request(self, wire: Wire, path: str, query: dict[str, str]) -> dict[str, str]:
        """Ask as a browser does: with the cookies that it has, and keeping those that come."""
        request = httpx.Request("GET", f"http://localhost{path}", params=query, cookies=self.cookies)
        headers = await wire.ask(request.url.raw_path.decode(), request.headers.get("cookie", ""))
        self.cookies.extract_cookies(httpx.Response(200, headers=headers, request=request))
        return headers

    # --- what is kept, against what was noted ---

    def faults(self, content: dict[str, Any], *, settled: bool) -> list[str]:
        """Compare the content of the session with the notes: nothing lost, nothing torn, nothing of anybody else.

        :param settled: no answer is being written any more, so that the turns that were left are kept as well.
        """
        history = content.get("history", [])
        entries = [*history, *(value for name, value in content.items() if name not in ("history", "who"))]
        kept = {entry["turn"]: entry for entry in entries}
        notes = {note.turn: note for notes in self.tabs for note in notes}
        wrong = [f"{name} is there twice" for name, times in Counter(e["turn"] for e in entries).items() if times > 1]
        wrong += [f"not mine: {entry}" for entry in entries if not self._is_mine(entry, notes)]
        for note in notes.values():
            wrong += self._lost(note, kept.get(note.turn), settled=settled)
        order = [entry["turn"] for entry in history]
        asked = [[n.turn for n in notes if n.how not in APART and n.turn in kept] for notes in self.tabs]
        wrong += [f"out of order: {order}" for names in asked if [turn for turn in order if turn in names] != names]
        return [f"{self.who}: {fault}" for fault in wrong]

    def _is_mine(self, entry: dict[str, Any], notes: dict[str, Note]) -> bool:
        """Tell if an entry is a turn of this visitor with the answer to it, or with the beginning of one."""
        note = notes.get(entry["turn"])
        if note is None or entry.keys() != {"turn", "question", "answer"} or entry["question"] != note.question:
            return False
        return whole_answer(note.question).startswith(entry["answer"])

    def _lost(self, note: Note, entry: dict[str, Any] | None, *, settled: bool) -> Iterator[str]:
        answer, whole = entry["answer"] if entry is not None else None, whole_answer(note.question)
        if not whole.startswith(note.seen):
            yield f"was told another's words: {note}"
        if note.end == "acknowledged" and not note.seen == answer == whole:
            yield f"acknowledged, but kept as {answer!r}: {note}"
        if note.seen and note.how not in APART and answer is None:
            yield f"a question that was saved is gone: {note}"
        survives = note.seen and note.end in ("left", "broken") and note.worker != self.crowd.killed
        if survives and settled and (answer is None or not answer.startswith(note.seen)):
            yield f"{note.end}, but kept as {answer!r}: {note}"
