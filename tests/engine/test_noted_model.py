"""A session that looks at what it handed out against one that looks at everything: same programs, same store."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from counting import CountingCodec
from driver import Browser, in_loop
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import Call, content, serve
from stores import SuspendingStore

from fastersession.session import state_of

NAMES = ["a", "b", "c", "d"]
names = st.sampled_from(NAMES)
containers = st.recursive(
    st.lists(st.integers(0, 2), max_size=2),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=4,
)
values = containers | st.integers(0, 2) | st.none()
contents = st.dictionaries(names, values, max_size=4)


class Run:
    """One play of a program: what the application holds, and which names it was given or has given."""

    def __init__(self) -> None:
        self.held: list[Any] = []
        self.touched: set[str] = set()

    def hold(self, name: str | None, value: Any) -> str:
        """Note a value, and return what it looked like."""
        self.touched.update(NAMES if name is None else [name])
        self.held.append(value)
        return repr(value)

    def change(self, index: int, new: Any) -> None:
        """Change something that is held, if it can change."""
        target = self.held[index % len(self.held)] if self.held else None
        if isinstance(target, list):
            target.append(fresh(new))
        elif isinstance(target, dict):
            target["x"] = fresh(new)

    def put_back(self, session: Any, name: str, index: int) -> None:
        """Put what is held under a name."""
        if self.held:
            self.touched.add(name)
            session[name] = self.held[index % len(self.held)]

    def put(self, session: Any, new: dict[str, Any], how: Callable[[Any, Any], Any]) -> None:
        """Write new values, which the application goes on to hold."""
        mine = fresh(new)
        self.touched.update(mine)
        self.held.extend(mine.values())
        how(session, mine)


def fresh(value: Any) -> Any:
    return json.loads(json.dumps(value))


Step = Callable[[Run, Any], Any]
numbers = st.integers(0, 9)
WRITES: list[Callable[[Any, Any], Any]] = [
    lambda s, new: s.update(new),
    lambda s, new: s.update(**new),
    lambda s, new: s.__ior__(new),
    lambda s, new: [s.__setitem__(name, value) for name, value in new.items()],
    lambda s, new: [s.setdefault(name, value) for name, value in new.items()],
]
ALL: list[Callable[[Any], Any]] = [
    lambda s: list(s.values()),
    lambda s: dict(s.items()),
    lambda s: s.copy(),
    lambda s: {**s},
    lambda s: [s[name] for name in s],
    lambda s: s | {},
]
steps = st.one_of(
    st.builds(lambda n: lambda run, s: run.hold(n, s[n]), names),
    st.builds(lambda n: lambda run, s: run.hold(n, s.get(n)), names),
    st.builds(lambda n: lambda run, s: run.hold(n, s.pop(n)), names),
    st.builds(lambda n, v: lambda run, s: run.hold(n, s.setdefault(n, fresh(v))), names, values),
    st.builds(lambda n: lambda run, s: s.__delitem__(n), names),
    st.builds(
        lambda all_: lambda run, s: [run.hold(None, all_(s)), run.held.extend(list(s.values()))], st.sampled_from(ALL)
    ),
    st.builds(lambda new, how: lambda run, s: run.put(s, new, how), contents, st.sampled_from(WRITES)),
    st.builds(lambda n, i: lambda run, s: run.put_back(s, n, i), names, numbers),
    st.builds(lambda i, v: lambda run, s: run.change(i, v), numbers, containers),
    st.builds(lambda i, v: lambda run, s: run.change(i, v), numbers, containers),
    st.builds(lambda n: lambda run, s: (n in s, len(s), list(s.keys()), repr(s)), names),
    st.sampled_from([lambda run, s: type(s.save()), lambda run, s: type(s.reload())]),
)


@given(
    contents,
    st.lists(st.tuples(st.lists(steps, max_size=6), st.sampled_from(["chunk", "save", "reload"])), max_size=4),
    st.lists(steps, max_size=3),
)
@settings(max_examples=200, deadline=None)
def test_looking_at_what_was_handed_out_is_looking_at_everything(
    begin: dict[str, Any], parts: list[tuple[list[Step], str]], last: list[Step]
) -> None:
    """Any program, cut anywhere by save points: the same outcomes, the same saves, and the same content in the end."""
    # Invariant: results, the names that each update sets and deletes, and the content of the store are those of a
    # session of which everything was handed out from the beginning; and no other name than what the application was
    # given, or has given, is encoded.
    noted, everything = (play(begin, parts, last, look) for look in (False, True))
    assert noted[:3] == everything[:3]
    encoded, touched = noted[3:]
    assert encoded <= touched


def play(begin: Any, parts: Any, last: Any, everything: bool) -> tuple[Any, ...]:
    """Return the outcomes, the updates, the content, the names encoded and the names handed out."""
    store, codec, run = SuspendingStore(), CountingCodec(), Run()
    outcomes: list[Any] = []

    def steps_of(session: Any, program: list[Step]) -> None:
        for step in program:
            try:
                outcomes.append(repr(step(run, session)))
            except KeyError as error:
                outcomes.append(repr(error))

    async def start(call: Call) -> None:
        call.session.establish()
        call.session.update(fresh(begin))
        await call.reply()

    async def act(call: Call) -> None:
        if everything:
            state_of(call.session).handed_out(None)
        for number, (program, ending) in enumerate(parts):
            steps_of(call.session, program)
            if number == 0:
                await call.start()
            elif ending == "chunk":
                await call.chunk()
            else:
                await (call.session.save() if ending == "save" else call.session.reload())
        steps_of(call.session, last)
        if not parts:
            await call.start()
        await call.finish()
        steps_of(call.session, last)

    @in_loop
    async def check() -> None:
        browser = Browser(serve({"/begin": start, "/act": act}, store=store, codec=codec))
        await browser.get("/begin")
        codec.take()
        await browser.get("/act")
        found.append(set(codec.take()))
        found.append(await content(browser))

    found: list[Any] = []
    check()
    changes = [(sorted(call[3].sets), sorted(call[3].deletes)) for call in store.arguments if call[0] == "update"]
    return outcomes, changes, found[1], found[0], run.touched
