"""How attributes become what a store keeps, and what of them a save point writes: with no store and no request."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from fastersession import JsonCodec
from fastersession.engine.packing import ABOUT, PackedValues, Packer, Unreadable
from fastersession.engine.values import LiveValues, Work
from fastersession.facts import Identity, Rare
from fastersession.flashes import PREFIX
from fastersession.state import State
from fastersession.stores.base import NOTHING_MORE, Extra, Record

ID = b"i" * 16
JSON = b"\x00\x04json"  # what unsealed values begin with


class Spy(JsonCodec):
    """Notes what it encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.encoded: list[str] = []

    def encode(self, attribute: str, value: Any) -> bytes:
        self.encoded.append(attribute)
        return super().encode(attribute, value)


class Loose:
    """Writes a list in any order: as a set, what is equal may have other bytes. Knows one attribute."""

    name = "loose"
    unsafe = stable = False

    def encode(self, attribute: str, value: Any) -> bytes:
        return {"a": json.dumps(value).encode()}[attribute]

    def decode(self, attribute: str, data: bytes) -> Any:
        return {"a": sorted(json.loads(data))}[attribute]


class Unsaid(Loose):
    """Does not say whether it is stable."""

    stable: Any

    def __getattribute__(self, name: str) -> Any:
        if name == "stable":
            raise AttributeError(name)
        return super().__getattribute__(name)


class Seals:
    """A sealer that shows what it was given."""

    def record(self, record_id: bytes) -> Any:
        self.record_id = record_id
        return self

    def seal(self, data: bytes, context: bytes) -> bytes:
        return b"|".join((self.record_id, context, data))

    def open(self, stored: bytes, context: bytes) -> bytes | None:
        head = self.seal(b"", context)
        return stored[len(head) :] if stored.startswith(head) else None


def delta(now: Any, base: Any, rare: Rare, once: Any = None, codec: Any = None) -> Any:
    """Return what differs, and what was encoded to find it."""
    spy = Spy()
    return Packer(codec or spy, None).delta(now, base, rare, once), spy.encoded


def rarely(handed: Any = (), looks: Any = None, **encoded: bytes) -> Rare:
    rare = Rare(encoded)
    rare.handed = None if handed is None else set(handed)
    rare.looks.update(looks or {})
    return rare


LIST = [1]


@pytest.mark.parametrize(
    ("value", "handed", "encoded"),
    [(LIST, (), []), (LIST, ("other",), []), (LIST, ("a",), ["a"]), (LIST, None, ["a"])]
    + [(scalar, None, []) for scalar in (1, "x", 1.5, True, None, b"x")],
)
def test_only_what_was_handed_out_and_can_change_inside_is_encoded(value: Any, handed: Any, encoded: Any) -> None:
    """As long as it is the same object."""
    base = {"a": value, "n": 1}
    found, looked_at = delta({"a": value, "n": 2}, base, rarely(handed, a=b"[1]", n=b"1"))
    assert (found, looked_at) == (({"n": b"2"}, (), {}), [*encoded, "n"])


def test_what_differs_is_set_and_what_is_missing_deleted() -> None:
    """Another object with the bytes of before is no change; a new name is one, and so is another type."""
    now = {"same": [1], "other": [2], "typed": 1.0, "new": None}
    base = {"same": [1], "other": [1], "typed": 1, "gone": 1, "last": 1}
    encoded = {"gone": b"1", "same": b"[1]", "other": b"[1]", "typed": b"1", "last": b"1"}
    found, looked_at = delta(now, base, rarely(**encoded))
    assert found == ({"other": b"[2]", "typed": b"1.0", "new": b"null"}, ("gone", "last"), {})
    assert looked_at == list(now)


def test_what_looks_as_it_was_loaded_is_not_encoded() -> None:
    """Once it does not, or another object stands there, its look says nothing any more, whatever comes after."""
    look = Packer(JsonCodec(), None).look_of
    base: dict[str, Any] = {"a": [1]}
    for loaded, seen, encoded, left in (
        (base["a"], look([1]), [], None),
        (base["a"], look([2]), ["a"], (None, None)),
        (base["a"], None, ["a"], (None, None)),
        ([1], look([1]), ["a"], (None, None)),
    ):
        rare = rarely(None, {"a": (loaded, seen)}, a=b"[1]", n=b"1")
        found, looked_at = delta({**base, "n": 2}, {**base, "n": 1}, rare)
        assert (found, looked_at) == (({"n": b"2"}, (), {}), [*encoded, "n"])
        assert rare.looks == {"a": left or (loaded, seen)}
    rare = rarely(None, {"a": (base["a"], look([1]))}, a=b"[2]")
    assert delta({"a": [1]}, base, rare)[0].sets == {"a": b"[1]"}  # another object, which may look alike
    assert rare.looks == {"a": (None, None)}
    rare = rarely(None, {"a": (base["a"], look([1]))}, a=b"[2]")  # put back after a reload, which brought another one
    assert delta(base, {"a": [2]}, rare)[0].sets == {"a": b"[1]"}
    assert Packer(Loose(), None).look_of([1]) is None
    assert Packer(Unsaid(), None).look_of([1]) is None


def test_a_save_point_encodes_an_object_once() -> None:
    """What it has encoded is not encoded again, nor refused anew; another object under the name is."""
    bad, once = object(), {}
    now = {"a": [2], "bad": bad}
    packer = Packer(spy := Spy(), None)
    first = packer.delta(now, {}, rarely(), once)
    assert (first.sets, list(first.faults)) == ({"a": b"[2]"}, ["bad"])
    assert once == {"a": (now["a"], b"[2]"), "bad": (bad, first.faults["bad"])}
    assert packer.delta(now, {}, rarely(), once) == first
    assert spy.encoded == ["a", "bad"]
    packer.delta({**now, "a": [2]}, {}, rarely(), once)
    assert spy.encoded == ["a", "bad", "a"]
    assert once["a"][0] is not now["a"]


@pytest.mark.parametrize("codec", [Loose(), Unsaid()])
@pytest.mark.parametrize(
    ("value", "loaded", "is_set"), [([1, 2], b"[2, 1]", False), ([1, 3], b"[2, 1]", True), ([1, 2], b"no", True)]
)
def test_other_bytes_are_another_value_unless_the_codec_reads_the_same(
    codec: Any, value: Any, loaded: bytes, is_set: bool
) -> None:
    """Of a codec that is not stable; what it cannot read is another value."""
    found, _ = delta({"a": value}, {"a": value}, rarely(None, a=loaded), codec=codec)
    assert found.sets == ({"a": json.dumps(value).encode()} if is_set else {})


@pytest.mark.parametrize("name", ["", "a", "x" * 255, "\u00e9" * 255])
def test_a_name_has_at_most_255_characters(name: str) -> None:
    """What every store can index."""
    assert delta({name: 1}, {}, rarely())[0] == ({name: b"1"}, (), {})
    words = f"{name + 'x' * 255!r} is no name: it must be a str of at most 255 characters, without NUL"
    for bad in (name + "x" * 255,) if name else ():
        assert delta({bad: 1}, {}, rarely())[0] == ({}, (), {bad: words})
    assert list(delta({f"{name[1:]}\0": 1}, {}, rarely())[0].faults) == [f"{name[1:]}\0"]


class Moving(JsonCodec):
    """Meets a value in motion, so often."""

    def __init__(self, times: int, error: Callable[[], Exception]) -> None:
        super().__init__()
        self.times, self.error = times, error

    def encode(self, attribute: str, value: Any) -> bytes:
        if self.times:
            self.times -= 1
            raise self.error()
        return super().encode(attribute, value)


class AnotherError(RuntimeError):
    """Not of the interpreter."""


MOVED = "dictionary changed size during iteration"


@pytest.mark.parametrize(("times", "error", "kept", "left"), [
    (99, lambda: RuntimeError(MOVED), True, 0), (101, lambda: RuntimeError(MOVED), False, 1),
    (100, lambda: RuntimeError(MOVED), False, 0), (2, lambda: RuntimeError("the secret"), False, 1),
    (2, lambda: AnotherError(MOVED), False, 1), (2, lambda: ValueError("the secret"), False, 1),
])  # fmt: skip
def test_a_value_in_motion_is_looked_at_a_hundred_times(times: int, error: Any, kept: bool, left: int) -> None:
    """No other error is tried again; what is said of it has its class, and none of its words."""
    codec = Moving(times, error)
    found = Packer(codec, None).delta({"a": [1]}, {}, rarely())
    assert (found.sets, codec.times) == ({"a": b"[1]"} if kept else {}, left)
    said = f"'a' (list, {type(error()).__name__})"
    if times > 99:
        said = "'a' was changed by another thread each time it was looked at: give it a lock, or a copy"
    assert found.faults == ({} if kept else {"a": said})


# --- as the store keeps them ---

CONTEXT = b"\x04json" + (2).to_bytes(4, "big") + b".a"
ABOUT_CONTEXT = b"\x04json" + (0).to_bytes(4, "big")
ME = Identity("me", 1.0, 2.0, "phone", 3.0)
SAID = b"[null, 1.5, 60.0]"
SAID_OF_ME = b'["me", 1.5, 60.0, 1.0, 2.0, "phone", 3.0]'


def test_the_contexts_of_few_names_are_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number is bounded: an application may make names without end."""
    made: list[str] = []

    def counted(codec: bytes, stored: str) -> bytes:
        made.append(stored)
        return b""

    monkeypatch.setattr("fastersession.engine.packing.KEPT_NAMES", 2)
    monkeypatch.setattr("fastersession.engine.packing._context", counted)
    packer = Packer(JsonCodec(), None)
    for name in ("a", "b", "b", "a", "c", "b"):
        packer.pack(ID, {name: b"1"})
    assert made == [".a", ".b", ".c", ".b"]


def test_a_value_is_decoded_under_its_name() -> None:
    """A codec may have a type for each."""
    packer = Packer(Loose(), None)
    stored = {**packer.pack(ID, {"a": b"[2, 1]"}), ABOUT: packer.pack_about(ID, (None, 1.0, 60.0))}
    loaded = Record(b"verifier", 0.0, 1.0, 3600.0, stored)
    assert packer.unpack(ID, loaded) == ({"a": [1, 2]}, {"a": b"[2, 1]"})


def test_times_that_were_written_as_whole_numbers_are_seconds_too() -> None:
    """A login's, and how old its cookie may get."""
    loaded = record(**{ABOUT: JSON + b'["me", 1, 60, 1, 2, null, 3]'})
    Packer(JsonCodec(), None).unpack(ID, loaded)
    assert repr(loaded.extra.identity) == repr(Identity("me", 1.0, 2.0, None, 3.0))


def test_values_are_sealed_for_their_record_codec_and_name() -> None:
    """And without a sealer they stand behind the codec's name."""
    sealed, plain = Packer(JsonCodec(), Seals()), Packer(JsonCodec(), None)  # type: ignore[arg-type]
    assert sealed.pack(ID, {"a": b"[1]"}) == {".a": b"|".join((ID, CONTEXT, b"[1]"))}
    assert sealed.pack_about(ID, (None, 1.5, 60.0)) == b"|".join((ID, ABOUT_CONTEXT, SAID))
    assert plain.pack(ID, {"a": b"[1]", "": b"2"}) == {".a": JSON + b"[1]", ".": JSON + b"2"}
    assert plain.pack_about(ID, (ME, 1.5, 60.0)) == JSON + SAID_OF_ME


def record(**attributes: bytes | None) -> Record:
    """Return a record as a store gives it, which has its own times and no user."""
    attributes = {ABOUT: JSON + SAID, ".a": JSON + b"[1]", **attributes}
    return Record(b"verifier", 0.0, 1.0, 3600.0, {name: data for name, data in attributes.items() if data is not None})


@pytest.mark.parametrize("sealer", [None, Seals()])
@pytest.mark.parametrize("identity", [None, ME, Identity("me"), Identity(None, max_age=5.0)])
def test_what_was_packed_comes_back_with_what_the_record_says_of_itself(sealer: Any, identity: Any) -> None:
    """User and times are the sealed ones, whatever stands beside them in the store."""
    packer = Packer(JsonCodec(), sealer)
    stored = {**packer.pack(ID, {"a": b"[1]", "": b"2"}), ABOUT: packer.pack_about(ID, (identity, 1, 60))}
    loaded = Record(b"verifier", 0.0, 1.0, 3600.0, stored, Extra(b"tag", 5.0, Identity("another")))
    assert packer.unpack(ID, loaded) == ({"a": [1], "": 2}, {"a": b"[1]", "": b"2"})
    assert repr((loaded.created_at, loaded.idle_timeout)) == "(1.0, 60.0)"
    assert repr(loaded.extra) == repr(Extra(b"tag", 5.0, identity))


BAD: dict[str, tuple[dict[str, bytes | None], str]] = {
    "of another codec": ({".a": b"\x00\x06pickle[1]"}, "of another codec"),
    "of another format": ({".a": b"\x01\x04json[1]"}, "of another codec"),
    "under another name": ({"a": JSON + b"[1]"}, "under a name that is not ours"),
    "no JSON": ({".a": JSON + b"[1"}, "CodecError"),
    "without what it says of itself": ({ABOUT: None}, "of another codec"),
    "which says too little": ({ABOUT: JSON + b"[null, 1.5]"}, "ValueError"),
    "which says too much": ({ABOUT: JSON + SAID_OF_ME[:-1] + b", 1]"}, "ValueError"),
    "with a login at no time": ({ABOUT: JSON + b'["me", 1.5, 60.0, "x", 2.0, null, null]'}, "ValueError"),
    "with a time that is none": ({ABOUT: JSON + b'[null, "x", 60.0]'}, "ValueError"),
    "no bytes": ({".a": None, ".b": 1}, "AttributeError"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize(("attributes", "said"), BAD.values(), ids=list(BAD))
def test_what_is_not_ours_is_unreadable(attributes: dict[str, bytes | None], said: str) -> None:
    """Whatever it is, the record stays as it was, and no error shows what stands in it."""
    loaded = record(**attributes)
    with pytest.raises(Unreadable) as raised:
        Packer(JsonCodec(), None).unpack(ID, loaded)
    assert str(raised.value) == said
    assert loaded.extra is NOTHING_MORE
    assert raised.value.__cause__ is None
    assert raised.value.__suppress_context__ or raised.value.__context__ is None


def test_a_value_of_another_record_is_unreadable() -> None:
    """So is one under another name, and what another record says of itself."""
    packer = Packer(JsonCodec(), Seals())  # type: ignore[arg-type]
    other = b"j" * 16
    mine, its = (packer.pack_about(record_id, (None, 1.0, 60.0)) for record_id in (ID, other))
    wrong = (packer.pack(other, {"a": b"1"}), {".a": packer.pack(ID, {"b": b"1"})[".b"]}, {ABOUT: its})
    for stored in wrong:
        loaded = Record(b"verifier", 0.0, 1.0, 3600.0, {ABOUT: mine, **stored})
        with pytest.raises(Unreadable, match=r"^not sealed by us for this place$"):
            packer.unpack(ID, loaded)


# --- what a save point asks ---


def state_of(base: Any, rare: Rare) -> State:
    state = State()
    state.loaded(None, ID, record(), base, rare)  # type: ignore[arg-type]
    return state


def test_a_comparison_in_bytes_leaves_out_what_cannot_be_kept() -> None:
    """What was put there by none of the session's methods can change inside from then on."""
    base: dict[str, Any] = {"n": 1, "list": [1], "gone": 1}
    state = state_of(base, rarely((), n=b"1", list=b"[1]", gone=b"1"))
    source = {"n": 2, "list": [1, 2], "bad": object(), "same": "x"}
    values, once = PackedValues(Packer(JsonCodec(), None)), {}  # type: ignore[var-annotated]
    work = values.compare(state, source, once)
    assert work.content == {name: source[name] for name in ("n", "list", "same")}
    assert (work.sets, work.deletes) == ({"n": b"2", "list": b"[1,2]", "same": b'"x"'}, ("gone",))
    assert list(work.faults) == ["bad"]
    assert sorted(once) == ["bad", "list", "n", "same"]
    assert state.rare.handed == {"list"}
    values.settle(state, work)
    assert state.base is work.content
    assert state.rare.encoded == {"n": b"2", "list": b"[1,2]", "same": b'"x"'}
    del source["bad"]
    assert values.compare(state, source) == (source, {}, (), {})
    state.handed_out(None)
    assert values.compare(state, {"new": [1]})[1:] == ({"new": b"[1]"}, ("n", "list", "same"), {})
    assert state.rare.handed is None


def test_what_has_changed_inside_is_found_among_what_is_small() -> None:
    """Where the very object that was loaded still stands; a value that cannot be encoded any more is named, too."""
    base: dict[str, Any] = {name: [1] for name in ("small", "large", "other", "same", "bad", "gone")}
    state = state_of(base, rarely(None, **dict.fromkeys(base, b"[1]") | {"large": b"[1] ", "unknown": b"[1]"}))
    source = {**base, "other": [1, 2]}
    del source["gone"]
    for name in ("small", "large", "other", "gone"):
        base[name].append(2)
    base["bad"].append(object())
    values = PackedValues(Packer(JsonCodec(), None))
    assert values.changed_inside(state, source, 3) == ["small", "bad"]
    assert values.changed_inside(state, source, 2) == []
    assert values.changed_inside(state, source, 4) == ["small", "large", "bad"]


def test_a_record_in_bytes_is_made_and_changed_by_stored_names() -> None:
    """Sealed for it. What it says of itself is written when it is made, and then if that has changed."""
    packer, said = Packer(JsonCodec(), Seals()), (ME, 1.5, 60.0)  # type: ignore[arg-type]
    values, packed, about = PackedValues(packer), packer.pack(ID, {"a": b"[1]"}), packer.pack_about(ID, said)
    work = Work({}, {"a": b"[1]"}, ("b", "c"))
    assert values.to_create(ID, work, said) == {**packed, ABOUT: about}
    assert values.to_change(ID, work, None) == (packed, (".b", ".c"))
    assert values.to_change(ID, Work({}), said) == ({ABOUT: about}, ())
    stored = Record(b"verifier", 0.0, 1.0, 3600.0, {**packed, ABOUT: about})
    assert values.load(ID, stored) == ({"a": [1]}, {"a": b"[1]"})
    assert values.look_of([1]) == packer.look_of([1]) is not None


def test_all_of_a_session_can_be_stored_anew() -> None:
    """Whatever is known of it: each attribute is encoded; a live one is stored as it is."""
    content = {"a": [1], "n": 1, "bad": object()}
    work = PackedValues(Packer(JsonCodec(), None)).whole(content)
    assert work[:3] == (content, {"a": b"[1]", "n": b"1"}, ())
    assert list(work.faults) == ["bad"]
    assert LiveValues().whole(content) == (content, content, (), {})


def test_what_another_thread_has_forgotten_meanwhile_can_be_settled() -> None:
    """A logout has taken what a save has deleted from the record."""
    state = state_of({"gone": 1}, rarely(gone=b"1"))
    values = PackedValues(Packer(JsonCodec(), None))
    work = values.compare(state, {"a": 1})
    state.forgotten()
    values.settle(state, work)
    assert state.rare.encoded == {"a": b"1"}


def test_live_values_are_the_objects_themselves() -> None:
    """Another object is a change, what has changed inside is none; nothing is packed, and no look is kept."""
    base: dict[str, Any] = {"list": [1], "n": 1, "gone": 1}
    state, values = state_of(base, Rare()), LiveValues()
    base["list"].append(2)
    same = values.compare(state, dict(base))
    assert same == (base, {}, (), {})
    assert same.content is base
    source = {"list": base["list"], "n": 2, "new": 3}
    work = values.compare(state, source)
    assert work == (source, {"n": 2, "new": 3}, ("gone",), {})
    assert work.content is not source
    assert values.to_create(ID, work, (None, 1.0, 60.0)) is work.content
    assert values.to_change(ID, work, None) == (work.sets, ("gone",))
    values.settle(state, work)
    assert (state.base, state.rare.encoded) == (work.content, {})
    assert values.look_of([1]) is None
    assert values.changed_inside(state, source, 1_000) == []
    loaded = record()
    assert values.load(ID, loaded) == (loaded.attributes, {})


@pytest.mark.parametrize("sealed", [b"junk", JSON, JSON + b"[1", JSON + b"[]"])
def test_a_flash_that_cannot_be_read_is_an_empty_one(sealed: bytes) -> None:
    """It is nobody's to show, and no reason to fail."""
    assert Packer(JsonCodec(), None).unpack_flash(ID, f"{PREFIX}1", sealed) == ("", "")


def test_a_flash_between_attributes_hides_none() -> None:
    """A store gives them in any order."""
    packer = Packer(JsonCodec(), None)
    loaded = record(**{f"{PREFIX}1": packer.pack_flash(ID, f"{PREFIX}1", ("hi", "info")), ".b": JSON + b"2"})
    assert packer.unpack(ID, loaded)[0] == {"a": [1], "b": 2}
