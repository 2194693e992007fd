"""Drawing ids, and keys in rotation: K1, K2, K3b, K5 and K7 of SECURITY."""

from __future__ import annotations

import itertools
import secrets
import subprocess
import sys
from base64 import urlsafe_b64decode, urlsafe_b64encode

import pytest
from apps import OTHER, SECRET, Clock, SpyStore, ask, cookie, page, site, token_of, wrap
from driver import in_loop

from fastersession.crypto.tokens import KeyRing, Ticket, draw, subkey

ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
RING = KeyRing([SECRET.encode()], "sid")
TICKET = Ticket(bytes(range(16)), bytes(range(16, 32)))
TOKEN = RING.sign(TICKET)

# --- drawing ---


def spy_on_source(monkeypatch: pytest.MonkeyPatch, *planned: bytes) -> list[int]:
    """Note the size of each draw from `secrets`; give the planned bytes first."""
    genuine, sizes, queue = secrets.token_bytes, [], list(planned)

    def token_bytes(size: int) -> bytes:
        sizes.append(size)
        return queue.pop(0) if queue else genuine(size)

    monkeypatch.setattr(secrets, "token_bytes", token_bytes)
    return sizes


@in_loop
async def test_k1_one_draw_of_32_bytes_per_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """K1: a new session draws once from `secrets`; reading, and coming back, draw nothing."""
    app, sizes = wrap(site), spy_on_source(monkeypatch)
    await ask(app)
    assert sizes == []
    token = await token_of(app)
    assert sizes == [32]
    await ask(app, "/write?name=bob", cookie(token))
    assert sizes == [32]
    assert urlsafe_b64decode(token)[2:34] not in (bytes(32), SECRET.encode())


def test_k1_ids_and_secrets_never_repeat() -> None:
    """K1: a hundred thousand draws share no id and no secret, nor is one the other."""
    drawn = [draw() for _ in range(100_000)]
    assert len({part for ticket in drawn for part in ticket}) == 200_000
    assert {len(part) for ticket in drawn for part in ticket} == {16}


FORKS = """
import os, sys
from fastersession.crypto.tokens import draw
draw()
for _ in range(3):
    if os.fork() == 0:
        os.write(1, b"".join(part for _ in range(100) for part in draw()))  # one write below PIPE_BUF is atomic
        os._exit(0)
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""


def test_k1_forked_children_do_not_overlap() -> None:
    """K1: no pool of random bytes survives a fork."""
    raw = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, check=True, timeout=60).stdout
    parts = {raw[at : at + 16] for at in range(0, len(raw), 16)}
    assert len(raw) == 3 * 100 * 32
    assert len(parts) == 3 * 100 * 2


def test_k1_a_ticket_has_no_repr() -> None:
    """K1: what is secret does not print itself."""
    assert repr(TICKET) == str(TICKET) == "<Ticket>"
    assert repr(draw()[1]) == str(draw()[1]) == "<Secret>"
    assert SECRET not in repr(RING)


@in_loop
async def test_k2_a_repeated_id_never_touches_the_victim(monkeypatch: pytest.MonkeyPatch) -> None:
    """K2: a taken id is minted anew; the victim's record stays as it is, to the object."""
    store = SpyStore(clock=Clock())
    app = wrap(site, store=store)
    victim = await token_of(app)
    drawn = urlsafe_b64decode(victim)[2:34]
    record = await store.load(drawn[:16])
    assert record is not None
    frozen = {name: getattr(record, name) for name in ("attributes", "verifier", "version", "accessed_at", "not_after")}
    sizes = spy_on_source(monkeypatch, drawn, drawn)
    fresh = await token_of(app, "/write?name=mallory")
    assert sizes == [32, 32, 32]
    assert urlsafe_b64decode(fresh)[2:18] != drawn[:16]
    assert await store.load(drawn[:16]) is record
    assert {name: getattr(record, name) for name in frozen} == frozen
    assert record.attributes is frozen["attributes"]
    assert (await ask(app, headers=cookie(victim))).json() == {"name": "alice"}


@in_loop
async def test_k2_after_three_taken_ids_there_is_no_session_but_a_503(monkeypatch: pytest.MonkeyPatch) -> None:
    """K2: a generator that repeats itself is broken; no fourth try, no record overwritten, no cookie."""
    store = SpyStore()
    app = wrap(site, store=store)
    victim = await token_of(app)
    store.calls.clear()
    sizes = spy_on_source(monkeypatch, *[urlsafe_b64decode(victim)[2:34]] * 9)
    answer = await ask(app, "/write?name=mallory")
    assert (answer.status, answer.cookies) == (503, [])
    assert sizes == [32] * 3
    assert set(store.calls) == {"create"}
    assert (await ask(app, headers=cookie(victim))).json() == {"name": "alice"}


# --- key rotation ---

KEYS = [
    SECRET,
    OTHER,
    "a third secret of these tests, as long as the others",
    b"a fourth secret, given as bytes \xff\xfe",
]


@pytest.mark.parametrize("order", [order for n in (1, 2, 3, 4) for order in itertools.permutations(range(4), n)])
@in_loop
async def test_k7_the_first_key_signs_and_all_verify(order: tuple[int, ...]) -> None:
    """K7: a fresh cookie carries the first key's id in every order; every listed key's is accepted, no other's."""
    app = wrap(page(dict), secret_key=[KEYS[index] for index in order])
    writer = wrap(site, secret_key=[KEYS[index] for index in order])
    raw = [key if isinstance(key, bytes) else key.encode() for key in KEYS]
    fresh = urlsafe_b64decode(await token_of(writer))
    assert fresh[:2] == bytes([1, subkey(raw[order[0]], b"key-id", "sid")[0]])
    assert KeyRing([raw[order[0]]], "sid").unsign(urlsafe_b64encode(fresh)) is not None
    ring = KeyRing([raw[index] for index in order], "sid")
    for index in range(4):
        accepted = ring.unsign(KeyRing([raw[index]], "sid").sign(TICKET)) is not None
        assert accepted == (index in order)
    assert (await ask(app)).json() == {}


@in_loop
async def test_k7_dropping_a_key_ends_its_sessions_and_adding_one_ends_none() -> None:
    """K7: old accepted while listed, anonymous once removed; a new key in front changes no running session."""
    store = SpyStore()
    old = await token_of(wrap(site, store=store, secret_key=KEYS[0]))
    both = wrap(site, store=store, secret_key=[KEYS[1], KEYS[0]])
    answer = await ask(both, "/write?seen=yes", cookie(old))
    assert (answer.json(), answer.cookies) == ({"name": "alice", "seen": "yes"}, [])
    calls = len(store.calls)
    assert (await ask(wrap(site, store=store, secret_key=KEYS[1]), headers=cookie(old))).json() == {}
    assert len(store.calls) == calls


def test_k7_keys_with_the_same_key_id_are_all_tried() -> None:
    """K7: the key id is one byte; two keys that share it both verify."""
    first = subkey(b"key 0", b"key-id", "sid")[0]
    twin = next(key for key in (b"key %d" % n for n in range(1, 9999)) if subkey(key, b"key-id", "sid")[0] == first)
    for order in ([b"key 0", twin], [twin, b"key 0"]):
        ring = KeyRing(order, "sid")
        assert [ring.unsign(KeyRing([key], "sid").sign(TICKET)) for key in order] == [TICKET, TICKET]


@in_loop
async def test_k3b_a_right_id_with_a_wrong_secret_is_anonymous() -> None:
    """K3b: another session's secret, or the one before a regeneration, opens nothing and changes nothing."""
    clock = Clock()
    app = wrap(site, store=SpyStore(clock=clock))
    alice, mallory = await token_of(app), await token_of(app, "/write?name=mallory")
    ring = KeyRing([SECRET.encode()], "sid")
    mine, hers = ring.unsign(mallory.encode()), ring.unsign(alice.encode())
    assert mine is not None
    assert hers is not None
    renewed = (await ask(app, "/login", cookie(alice))).cookies[0].value
    for wrong in (
        ring.sign(Ticket(hers.record_id, mine.secret)),
        ring.sign(Ticket(mine.record_id, hers.secret)),
        alice,
    ):
        for _ in range(2):
            assert (await ask(app, headers=cookie(wrong))).json() == {}
            clock.now += 61  # an earlier secret is superseded first, unknown later
    assert (await ask(app, headers=cookie(renewed))).json() == {"name": "alice"}
