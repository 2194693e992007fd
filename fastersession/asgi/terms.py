"""What all exchanges of one middleware share.

Rules of residence: composition only; nothing of one request.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..crypto.forms import FormTokens
from ..crypto.tokens import TOKEN_CHARS, KeyRing, verifier_of
from ..engine.at_once import AtOnce
from ..engine.engine import Engine
from ..engine.patience import Saves
from ..engine.spans import FOREVER, Spans
from ..facts import Host
from ..log import EventLog
from ..session import Session
from ..state import State
from .cookies import CookieFinder, CookiePolicy
from .dress import StartHeaders
from .messages import CONNECTION
from .own_age import OwnAge
from .talking import Talking
from .transport import Transport, TransportHeaders


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms(Host):
    """What all exchanges of one middleware share."""

    saves: Saves
    at_once: AtOnce | None  # the same, of a live store
    start_now: Callable[[Session, State], bool]
    events: EventLog
    start_headers: StartHeaders
    spans: Spans
    scope_key: str
    state_key: str


def terms_of(
    engine: Engine,
    keys: Sequence[bytes],
    ring: KeyRing,
    policy: CookiePolicy,
    transport: Transport | None,
    talking: Talking,
    scope_key: str,
    state_key: str,
) -> Terms:
    """Return the terms of a middleware.

    :param state_key: the attribute of ``request.state`` under which the session manager stands.
    """
    saves, events, spans = engine.saves, engine.events, engine.spans
    proof_of = verifier_of if engine.calls.live is None else bytes
    own_age = OwnAge(
        policy=policy,
        spans=spans,
        keys=ring,
        find=CookieFinder(policy.name, TOKEN_CHARS).find if transport is None else transport.find,
        verifier_of=proof_of,
        events=events,
    )
    return Terms(
        directory=engine.directory,
        idle_timeout=spans.idle,
        max_age=0.0 if spans.max_age == FOREVER else spans.max_age,
        now=engine.calls.clock,
        save=saves.save_awaited,
        reload=saves.reload,
        save_soon=saves.save_soon,
        exclusive=engine.turns.exclusive,
        flashing=engine.flashing,
        let_go=engine.runs.let_go,
        knows_users=engine.calls.knows_users,
        look_of=engine.values.look_of,
        conversations=talking,
        connection_of=_connection_of,
        runs=engine.runs,
        forms=FormTokens(keys, policy.name),
        verifier_of=proof_of,
        saves=saves,
        at_once=engine.at_once,
        start_now=engine.saver.start_now,
        events=events,
        start_headers=_start_headers(ring, policy, transport, own_age, events),
        spans=spans,
        scope_key=scope_key,
        state_key=state_key,
    )


def _connection_of(exchange: Any) -> Any:
    """Return the connection of a request whose answer may be detached; ``None`` for any other."""
    return exchange.scope.get(CONNECTION)


def _start_headers(
    keys: KeyRing, policy: CookiePolicy, transport: Transport | None, own_age: OwnAge, events: EventLog
) -> StartHeaders:
    before_token, after_token = policy.template()
    common: dict[str, Any] = {
        "sign": keys.sign,
        "before_token": before_token,
        "after_token": after_token,
        "cleared": policy.cleared(),
        "own_age": own_age,
        "secure": policy.secure,
        "events": events,
    }
    return StartHeaders(**common) if transport is None else TransportHeaders(**common, transport=transport, keys=keys)
