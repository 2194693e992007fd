"""All that a request knows of its session, and every transition of it.

Rules of residence: facts and transitions. No store call, no cookie, no ASGI. Whoever changes a field of a ``State``
does it by a method of this module; reading is free. Where a call would cost 1 % of a plain request, four writes stand
elsewhere: ``accessed``, by the dict and the save point of the start; the start and the end of the answer, in asgi's
``Exchange``; and what ``settled`` does, on the fast way of a live store.

Two machines run here, and one list of wishes. *The session* (``status``), how it stands to the store:

    NEW ---- created ----> LIVE ---- lost ------> GONE
     ^                      |                       |
     +------ forgotten -----+-----------------------+        invalidate(), or clear() with nothing after it
    SUPERSEDED -- renewed --> NEW        establish(), regenerate_id()
    SUPERSEDED -- gave_up --> GONE       it wrote, and its headers have left

A FOREIGN one stays so. Nothing leads from GONE to LIVE: what was ended elsewhere is never created again. A LIVE one has
a record, a record id and a verifier, which proves its saves. ``forgotten`` takes them away, in another thread, too,
while a save waits for the store. So whoever has waited looks first if ``record_id``, which ``forgotten`` changes first,
is still the same object, and changes nothing if not.

*The answer* (``phase``): NOT_STARTED, then STARTED or FAILED (an error status, whose automatic saves keep no
attributes), then ENDED. Only before the start a cookie can leave. After the end the application's writes are noted
(``late``), and only an explicit ``save()`` keeps them. The machines couple in ``refusal_of_writes``: what is NEW when
the headers have left can never be read by anybody, so writing is refused (``guarded`` makes the dict ask).

*Wishes* (``intents``): what verbs have asked for. A commit takes them all at once, and puts back what it could not do;
what is asked for meanwhile is for the next. A lock keeps two threads from losing one another's.

``accessed`` is no fact, but a gate: while it is false, a save point need not look. A method of the dict sets it after
its work, so that a save point in another thread never takes a change for seen.

In a store of bytes only what was *handed out* can have changed inside: what the application was given, or has put there
(``handed_out``, ``NotingSession``). A save point encodes and compares nothing else that is still the same object. A
note lasts as long as the session object, for a value may be kept over any save point, and a view over a ``reload()``.

The object that a request is (asgi's ``Exchange``) is its state, for a second one costs 5 % of a plain request. It holds
the ``Session`` while it runs only: as a cycle both would wait for the collector, and so would the warning of late
writes. So whoever needs the attributes is given the session, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from .crypto.tokens import draw
from .ends import OfEnd
from .errors import FasterSessionError
from .facts import ASKING, EMPTY, FAILED, NOT_STARTED, USUAL, USUAL_SOCKET, Host, Intents, Lease, Loss, Rare, Status
from .stores.base import Record
from .users import OfUser

NEW, LIVE, SUPERSEDED, GONE, FOREIGN = Status


class State(OfUser, OfEnd):
    """What a request knows of its session: made by its own class, then ``opened`` or ``loaded``."""

    __slots__ = ("accessed", "base", "guarded", "host", "intents", "is_new", "phase", "rare", "record", "record_id",
                 "secret", "status", "verifier")  # fmt: skip
    passive: ClassVar[bool] = False  # its request is no sign of a user: it moves no last access

    accessed: bool  # since the last save point that compared
    base: Mapping[str, Any]  # the attributes as last loaded or saved
    guarded: bool  # the dict asks before it writes
    host: Host
    intents: Intents | None
    is_new: bool  # not loaded: created in this request, or not at all
    phase: int
    rare: Rare
    record: Record | None
    record_id: bytes | None
    secret: bytes | None  # of a new or regenerated session, until its cookie has left
    status: Status
    verifier: bytes | None  # what this request was loaded with: proves its saves; only with a record

    def opened(self, host: Host, status: Status = NEW, record_id: bytes | None = None) -> None:
        """Begin without a record."""
        self.host, self.status, self.record_id = host, status, record_id
        self.phase, self.accessed, self.guarded = NOT_STARTED, False, False
        self.base, self.rare, self.is_new = EMPTY, USUAL, True
        self.record, self.secret = None, None  # of two and three: CPython makes a tuple of more
        self.verifier, self.intents = None, None

    def loaded(self, host: Host, record_id: bytes, record: Record, base: Mapping[str, Any], rare: Rare = USUAL) -> None:
        """Begin with a record."""
        self.host, self.status, self.record_id = host, LIVE, record_id
        self.phase, self.accessed, self.guarded = NOT_STARTED, False, False
        self.base, self.rare, self.is_new = base, rare, False
        self.record, self.secret = record, None
        self.verifier, self.intents = record.verifier, None

    def rarely(self) -> Rare:
        """Return what few requests know, to be written to."""
        if self.rare.is_shared:
            with ASKING:  # or of two threads' own ones one would be lost
                if self.rare.is_shared:
                    self.rare = Rare(is_socket=self.rare.is_socket)
        return self.rare

    def look(self) -> None:
        """Take over what the application put in the session's place: a running request does."""

    def hold(self) -> None:
        """Note that the session has another record, or another idle timeout: a running request does."""

    def ticket(self) -> tuple[bytes, bytes]:
        """Return the id and the secret of a new session."""
        record_id, secret = self.record_id, self.secret
        if record_id is not None and secret is not None:
            return record_id, secret
        ticket = self.record_id, self.secret = draw()
        return ticket

    def taken(self) -> None:
        """Forget a ticket whose id is another session's."""
        self.record_id = None

    def proof(self) -> tuple[bytes, bytes] | None:
        """Return the record id and the verifier that prove this request's saves, ``None`` if there is no record.

        A live session has none only if another thread has invalidated it this moment.
        """
        record_id, verifier = self.record_id, self.verifier
        return None if record_id is None or verifier is None else (record_id, verifier)

    def created(self, record_id: bytes, record: Record) -> None:
        """Note that the store has a record: the session is live."""
        self.record, self.status, self.verifier = record, LIVE, record.verifier
        if self.record_id is not record_id:  # another thread has invalidated it in this very moment
            self.forgotten()
            self.wishes().doomed.append(record_id)

    def settled(self, base: Mapping[str, Any], encoded: Mapping[str, bytes]) -> None:
        """Take these attributes for no change: the store has them, or they are dropped or refused for good."""
        self.base = base
        rare = self.rare
        if encoded or rare.encoded:
            (self.rarely() if rare.is_shared else rare).encoded = encoded

    def reloaded(self, record: Record) -> None:
        """Note that the record was loaded anew."""
        self.accessed, self.record = True, record

    def disowned(self) -> None:
        """Forget what was saved or loaded this moment: another thread has invalidated the session meanwhile."""
        self.record = None
        self.settled(EMPTY, EMPTY)

    def regenerated(self, secret: bytes, verifier: bytes) -> None:
        """Note that the store has another verifier; the secret leaves with the start."""
        self.secret, self.verifier = secret, verifier

    def lost(self, loss: Loss) -> None:
        """Note that the store has refused this request's proof."""
        self.status, self.secret, self.rarely().loss = GONE, None, loss

    def gave_up(self, loss: Loss) -> None:
        """Note that a superseded session has written; once its headers have left, no verb can make it a new one."""
        self.rarely().loss = self.rare.loss or loss
        if self.phase != NOT_STARTED:
            self.status = GONE

    def renewed(self) -> None:
        """Make a superseded session a new one."""
        if self.status is SUPERSEDED:
            self.forgotten()

    def invalidated(self) -> None:
        """Log out: the record is doomed, what else was asked for is not asked for any more."""
        record_id = self.record_id if self.status is LIVE else None
        with ASKING:
            self.intents = Intents.of_logout(self.intents, record_id, known=not self.is_new)
        self.accessed = True
        self.forgotten()
        if self.phase != NOT_STARTED:
            self.guarded = True

    def forgotten(self) -> None:
        """Make the session a new one, which knows nothing of the record that it had."""
        self.record_id = self.secret = self.verifier = None  # first: by it others see what happens
        if not self.rare.is_shared:
            self.rare.forget()
        self.status, self.record = NEW, None
        self.settled(EMPTY, EMPTY)
        self.is_new = True

    def leased(self, lease: Lease) -> None:
        """Note that ``exclusive()`` was entered."""
        self.rarely().lease = lease

    def committing(self, lock: Any, loop: Any) -> None:
        """Keep commits apart by this lock, made in this event loop, from here on."""
        rare = self.rare
        (self.rarely() if rare.is_shared else rare).commits = lock, loop

    def saw(self, name: object, value: object) -> None:
        """Keep how a value looks that is handed out for the first time: as long as it does, it has not changed."""
        rare, handed = self.rare, self.rare.handed
        if handed is not None and name not in handed and value is self.base.get(name):  # type: ignore[call-overload]
            rare.looks.setdefault(name, (value, self.host.look_of(value)))

    def handed_out(self, names: Iterable[object] | None) -> None:
        """Note what the application holds, and may change inside, from here on; ``None``: all, and all to come."""
        rare = self.rarely()
        if names is None:
            rare.handed = None
        elif (handed := rare.handed) is not None:
            handed.update(names)
        self.accessed = True  # last: a save point in another thread may not have seen the note

    # --- wishes ---

    def wishes(self) -> Intents:
        """Return the intents, to be added to."""
        intents = self.intents  # read once, as elsewhere: another thread may take them at any time
        if intents is None:
            with ASKING:
                intents = self.intents
                if intents is None:
                    intents = self.intents = Intents()
        self.accessed = True  # last: what a save point meanwhile takes for seen is in the intents
        return intents

    def taken_intents(self) -> Intents | None:
        """Return what is asked for, to be carried out now; what is asked for from here on is for the next commit."""
        if self.intents is None:
            return None
        with ASKING:
            intents, self.intents = self.intents, None
        if intents is not None and (intents.signed_out or intents.reissued):
            intents.hand_on(self.wishes())
        return intents

    def put_back(self, intents: Intents, *, same_session: bool) -> None:
        """Ask for it again, for the save failed."""
        with ASKING:
            self.intents = intents.put_back(self.intents, same_session=same_session)
        self.accessed = True

    def idle_seconds(self) -> float:
        """Return the idle timeout: the one that was asked for, the record's, or the middleware's."""
        intents, record = self.intents, self.record
        asked = None if intents is None else intents.idle_timeout
        return asked or (self.host.idle_timeout if record is None else record.idle_timeout)

    def used(self) -> None:
        """Something may have changed, so the next save point has to look."""
        self.accessed = True

    # --- the answer ---

    def on_socket(self, refusal: str | None = None) -> None:
        """Note that the session is a WebSocket's, and why nothing may be written to it at all."""
        if self.rare.is_shared:
            self.rare = USUAL_SOCKET
        else:
            self.rare.is_socket, self.rare.refusal = True, USUAL_SOCKET.refusal
        if refusal is not None:
            self.rarely().refusal = refusal
            self.guarded = True

    def cookie_left(self) -> None:
        """Note that the headers carry the cookie."""
        self.secret = None
        if self.intents is not None:
            self.intents.signed_out = self.intents.reissued = False

    def replaced(self) -> None:
        """Note that the application's answer is replaced by one of ours, an error."""
        self.phase = FAILED

    def unanswered(self) -> None:
        """Note that the application has ended without an answer: no headers have left, and none will."""
        if self.status is not FOREIGN:
            self.rarely().refusal = None

    def failed(self, failure: FasterSessionError | None) -> None:
        """Note what a save has raised, to be raised at the end of the request; ``None``: it does not count any more."""
        if failure is not None or self.rare.failure is not None:
            self.rarely().failure = failure

    def ended_adrift(self) -> None:
        """Note that the store does not have all that the request has changed: what differs says nothing any more."""
        self.rarely().adrift = True

    def refusal_of_writes(self) -> str | None:
        """Return why nothing may be written, ``None`` if it may."""
        left = self.status is NEW and self.phase != NOT_STARTED
        return self.rare.refusal if left or self.status is FOREIGN else None

    def wrote_late(self, names: Iterable[object]) -> None:
        """Note what was written after the end: nothing saves it any more but ``save()``."""
        self.rarely().late = {**self.rare.late, **dict.fromkeys(map(str, names))}

    def take_late(self) -> dict[str, None]:
        """Return the names written after the end; those that come from here on are for the next save."""
        covered, self.rarely().late = self.rare.late, {}
        return covered
