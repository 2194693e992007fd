"""The mutants that no test can kill, and why: what they do is the same.

Rules of residence: by module, what the mutant makes of its statement, and the reason. What a test could tell is no
survivor: it is a test to be written.
"""

from __future__ import annotations

SAME_CODEC = "another name of the same codec"
FALSY = "only asked if it is true"
NEVER_ZERO = "what is looked for begins behind another byte, so its place is never 0"
SAME_BYTES = "a view and a copy have the same bytes"
EMPTY_TOO = "a short way only: of no names it is the empty tuple, too"
WRITTEN_ALIKE = "a short way only: the general one writes the same bytes"
OF_ITS_OWN = "nobody hears it: whose table tells of ends has a default of its own"
NONE_STAYS = "what is missing is taken for None then, which cannot have changed inside"
ONCE_MORE = "a short way only: the copy is encoded alike, and looked at again"
OWN_ALREADY = "a short way only: of an object of the request's own it returns that"
BY_ANY = "a short way only: the loop over all keys, the first among them, opens the same values"


EXPLAINED: dict[str, dict[str, str]] = {
    "asgi/cookies": {
        'self._prefix = name.encode("ASCII") + b"="': SAME_CODEC,
        "def __init__(self, name: str, usual: int = 1) -> None:": "a short way only: the general one finds the same",
        "if field.rfind(self._prefix, value) >= 0:": "there is a last one exactly if there is one",
        "if field.find(self._prefix, value) > 0:": NEVER_ZERO,
        "if field.find(self._prefix, value) >= 1:": NEVER_ZERO,
        'if field[field.rfind(b";", None, at) + 1 : at].strip(b" \\t"):': "no begin is a begin at 0",
        'return ((field[value:] if end <= 0 else field[value:end]).rstrip(b" \\t"),)': NEVER_ZERO,
        'return ((field[value:] if end < 1 else field[value:end]).rstrip(b" \\t"),)': NEVER_ZERO,
    },
    "asgi/headers": {
        'origins = [value.decode("LATIN-1") for name, value in headers if name == b"origin"]': SAME_CODEC,
        'return "XXXX".join(origins[:1]), normal_origin(origins[0]) if len(origins) == 1 else None': "nothing "
        "stands between one text",
        'if len(name) == 4 or name.lower() == b"vary":': "a short way only: the other makes the same without a Vary",
        'origin = origins[0].decode("LATIN-1")': SAME_CODEC,
        "if len(hosts) == 1 and normal == normal_origin(f\"{normal[0]}://{hosts[0].decode('LATIN-1')}\"):": SAME_CODEC,
    },
    "asgi/lifespan": {
        "self._known = None": FALSY,
        "self._failed = None": FALSY,
    },
    "asgi/terms": {
        "find=CookieFinder(policy.name, ).find if transport is None else transport.find,": "a short way "
        "only: the general one finds the same",
        "at_once=None,": "a short way only: the saves are the same, and do the same in a coroutine",
    },
    "attributes": {
        "names = list(dict.keys(self)) if (self._state.guarded) or True else ()": "they are looked at under guard only",
    },
    "codecs": {
        "scalar = _SCALARS.get(None)": WRITTEN_ALIKE,
        "scalar = None": WRITTEN_ALIKE,
        'return write(value) if (scalar is None) or True else scalar(value).encode("utf-8", '
        '"surrogatepass")': WRITTEN_ALIKE,
        'return write(value) if scalar is None else scalar(value).encode("UTF-8", "surrogatepass")': SAME_CODEC,
        'return bytes((_MARK,)) + to_tagged(attribute, value, self._names).encode("UTF-8", '
        '"surrogatepass")': SAME_CODEC,
        'return from_tagged(data[1:].decode("UTF-8", "surrogatepass"), self._classes)': SAME_CODEC,
    },
    "crypto/tokens": {
        "return len(raw) == TOKEN_CHARS * 3 / 4 and raw[0] == VERSION": "the same number",
        'name = cookie_name.encode("ASCII")': SAME_CODEC,
        "info = purpose + len(name).to_bytes(2, ) + name": "big endian is the default",
        "if sealed[:3] == self._head:": BY_ANY,
        "return self._cipher.decrypt(sealed[3:_BODY], body, bound)": BY_ANY,
        "body = sealed[_BODY:] if (len(sealed) < LARGE) and False else memoryview(sealed)[_BODY:]": SAME_BYTES,
        "body = sealed[_BODY:] if (len(sealed) < LARGE) or True else memoryview(sealed)[_BODY:]": SAME_BYTES,
        "body = sealed[_BODY:] if len(sealed) <= LARGE else memoryview(sealed)[_BODY:]": SAME_BYTES,
    },
    "engine/plan": {
        "if base.keys() < now.keys():": "of equal names none is missing, which the last line finds as well",
    },
    "log": {
        'self._minute: float | None = ""': "the first that is heard begins a minute",
    },
    "noting": {
        "return value if (type(value) in SCALARS) and False else self._noted(name, value)": "a short way only: a "
        "scalar is not noted there, either",
    },
    "plainjson": {
        'text = data.decode("UTF-8", "surrogatepass")': SAME_CODEC,
        "if marshal.dumps(None, _VERSION) != kept:": ONCE_MORE,
        "if marshal.dumps(decode(text), ) != kept:": ONCE_MORE,
        "if marshal.dumps(_VERSION) != kept:": ONCE_MORE,
        'return _written(value, kept, to_json, lambda text: _read_json(text)[0]).encode("UTF-8", '
        '"surrogatepass")': SAME_CODEC,
    },
    "state": {
        "((self.rarely() if (rare.is_shared) or True else rare)).encoded = encoded": OWN_ALREADY,
        "((self.rarely() if (rare.is_shared) or True else rare)).commits = lock, loop": OWN_ALREADY,
        "intents = None": "it is read again under the lock",
    },
    "stores/memory/record": {
        "if accessed_at >= self.accessed_at:": "the same time again",
        "if before is not None or after is not None:": "a record has both neighbours or none",
    },
    "stores/memory/table": {
        "if (now >= record.accessed_at - record.idle_timeout or now >= record.not_after) and "
        "record.expired(now):": "a short way only: what comes after decides",
        "if record.accessed_at >= change.accessed_at:": "what is not ahead at all is not too far ahead",
        "if now >= record.accessed_at:": "the same time again",
        'def _remove(self, record: LiveRecord, reason: str = "XXexpiredXX") -> None:': OF_ITS_OWN,
        'def _remove(self, record: LiveRecord, reason: str = "EXPIRED") -> None:': OF_ITS_OWN,
        "self._file(record, idles_out if idles_out <= not_after else not_after)": "the same time",
    },
    "stores/rows": {
        'return name.encode("UTF-8", "surrogatepass")': SAME_CODEC,
        'return name.decode("UTF-8", "surrogatepass")': SAME_CODEC,
    },
    "stores/words": {
        "spellings = {spelt for secret in secrets if secret for spelt in "
        '(secret, quote(secret, "XXXX"), quote_plus(secret))}': "a letter is never quoted",
    },
    "engine/packing": {
        "self._about = lru_cache(None)(self._open_about)": "a cache bound",
        'message, category = json.loads(data or b"XXXX")': "neither is JSON",
        'name = codec.name.encode("ASCII")': SAME_CODEC,
        'self._stable = getattr(codec, "stable", None)': FALSY,
        'about, encoded, decoded = b"XXXX", {}, {}': "neither is JSON",
        "user, created_at, idle_timeout, *login = _ABOUT_CODEC.decode(None, data)": "this codec reads all names alike",
        "kept = {name: value for name, value in content.items() if name not in faults} if (faults) or True else "
        "content": "a short way only: a copy has the same content",
        "same = {name: base[name] for name in small if name in base and dict.get(source, name, None) is "
        "base[name]}": NONE_STAYS,
        "same = {name: base[name] for name in small if name in base and dict.get(source, name, ) is "
        "base[name]}": NONE_STAYS,
        'return sets, tuple([f".{name}" for name in work.deletes]) if (work.deletes) or True else ()': EMPTY_TOO,
        "return codec + len(encoded).to_bytes(4, ) + encoded": "big endian is the default",
    },
    "engine/values": {
        "state.settled(work.content, None)": FALSY,
    },
    "engine/line": {
        "return self._served > 2 and self._served % IN_A_ROW == 1": "the first that the rest lets through is 5",
    },
}
