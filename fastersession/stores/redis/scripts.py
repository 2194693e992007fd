"""What Redis does in one step: scripts over the fields of ``record``.

Rules of residence: Lua, and the command that runs it; nothing here runs. A server keeps what EVAL has sent it until it
restarts or forgets (SCRIPT FLUSH), Redis 7.4 the last 500 of them only, and a large save always sends its scripts
along: so they are short. Indentation and line ends are for the reader only.

A script gets the time as ``ARGV[1]`` and the record as ``KEYS[1]``, and returns 0 if it refuses, else 1; those that
are worth waiting for a replica return 1 more for each replica there is.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from .link import pack


class Script(NamedTuple):
    """What EVAL takes, and what EVALSHA takes in its place."""

    text: bytes
    digest: bytes


def evaluation(script: Script, keys: tuple[bytes, ...], *arguments: bytes, known: bool = False) -> bytes:
    """Return the command that runs a script: by its digest if the server should know it, else with its text."""
    what = (b"EVALSHA", script.digest) if known else (b"EVAL", script.text)
    return pack((*what, b"%d" % len(keys), *keys, *arguments))


def script(*parts: str) -> Script:
    """Return a script of its parts, one after the other."""
    text = " ".join(" ".join(parts).split()).encode()
    return Script(text, hashlib.sha1(text, usedforsecurity=False).hexdigest().encode())


def read(*more: str) -> str:
    """Return the part that reads: k key, a ARGV, c call, n now, t last access, i idle timeout, x absolute end.

    ``live``: neither has passed. ``r`` are the fields, ``more`` of them from ``r[10]`` on.
    """
    names = ",".join(f"'{name}'" for name in ("v", "t", "i", "x", "l", "e", "b", "z", "h", *more))
    return f"""
    local k,a,c,m=KEYS[1],ARGV,redis.call,tonumber
    local r=c('HMGET',k,{names})
    local n,t,i,x=m(a[1]),m(r[2])or 0,m(r[3])or 0,m(r[4])or 0
    local live=r[1] and n<t+i and n<x
    """


READ = read()

# A proof is the record's verifier, or the one before: field b has that, and behind it the verifier that came after it.
# Each of these is asked only where there is a record.
_BEFORE, _NOT_BEFORE = "r[7]==a[2]..r[1]", "r[7]~=a[2]..r[1]"

# The server forgets a record a minute after its end, for clocks of workers that differ, or the seconds that its field z
# says. The time to live is relative: right however far the server's clock is from the store's. Above 30,000 years there
# is none.
GRACE = 60
# Field h: there are conversations. k:s names what of them lives as long as the record, k:f the frames of their runs.
# What is not found because the slot is on the move is out of reach without the record, and goes in time.
EXPIRE = f"""
local d=math.min(t+i,x)-n
local p=('%.0f'):format(math.min(d+(r[8]or {GRACE}),1e12)*1000)
if d<1e12 then c('PEXPIRE',k,p) else c('PERSIST',k) end
if r[9] then for _,q in ipairs(redis.pcall('SMEMBERS',k..':s')) do redis.pcall('PEXPIRE',k..q,p) end end
"""
DROP = """
if r[9] then for _,s in ipairs{':f',':s'} do
for _,q in ipairs(redis.pcall('SMEMBERS',k..s)) do redis.pcall('UNLINK',k..q) end
end end
"""

# The first write of each script is one that a full server (maxmemory) refuses, so nothing is ever half done. Lua's
# unpack takes some 8,000 values at most.
SET = "for j=s,#a,4000 do c('HSET',k,unpack(a,j,math.min(j+3999,#a))) end"

# INFO costs 3 µs here. An account that may not call it does without the wait.
REPLICAS = """
local f=redis.pcall('INFO','replication')
local w=type(f)=='string' and m(f:match('connected_slaves:(%d+)'))or 0
"""

# ARGV of all that follows up to PLACE: 2 verifier, 3 owner of the lease or '', 4 last access, 5 idle timeout or '',
# 6 how many names to delete; of a regeneration 7 new verifier, 8 new absolute end, 9 '1' if tried before; then names,
# fields and values.
_OWN = f"if not live or r[1]~=a[2] and {_NOT_BEFORE} then return 0 end"
OWN_NOW = "if not live or r[1]~=a[2] then return 0 end"
LEASED = "if a[3]~='' and (r[5]~=a[3] or n>=m(r[6])) then return 0 end"


def merge(first: int) -> str:
    """Return the part that writes. ``ARGV[first]`` is the first name to delete, or what comes in its place."""
    return f"""
    if m(a[4])>t then t=m(a[4]) c('HSET',k,'t',a[4]) end
    if a[5]~='' then i=m(a[5]) c('HSET',k,'i',a[5]) end
    c('HINCRBY',k,'n',1)
    local s={first}+a[6]
    {SET}
    for j={first},s-1 do c('HDEL',k,a[j]) end
    {EXPIRE}
    """


_AGAIN = "if live and a[9]~='' and r[1]==a[7] then return 1+w end"
_RENEW = "c('HSET',k,'v',a[7],'x',a[8],'r',a[4],'b',a[2]..a[7]) x=m(a[8])"

UPDATE = script(READ, _OWN, LEASED, merge(7), "return 1")
REGENERATE = script(READ, REPLICAS, _AGAIN, OWN_NOW, LEASED, _RENEW, merge(10), "return 1+w")

# Large values do not go through Lua: MULTI; GUARD; HSET; HDEL; FINISH_...; EXEC. The guard moves a record that must
# not be written out of the way (KEYS[2]), and the end puts it back; what HSET made of nothing has no verifier.
GUARD = script(
    READ,
    f"""
    local own=r[1] and (r[1]==a[2] or not a[7] and {_BEFORE} or a[9]=='1' and r[1]==a[7])
    if a[3]~='' and (r[5]~=a[3] or n>=m(r[6])) then own=false end
    if r[1] and not (live and own) then c('RENAME',k,KEYS[2]) end
    return 1
    """,
)
UNDO = """
if redis.call('HEXISTS',KEYS[1],'v')==0 then
redis.call('UNLINK',KEYS[1])
if redis.call('EXISTS',KEYS[2])==1 then redis.call('RENAME',KEYS[2],KEYS[1]) end
return 0 end
"""
FINISH_UPDATE = script(UNDO, UPDATE.text.decode())
FINISH_REGENERATE = script(UNDO, REGENERATE.text.decode())

# ARGV: 2 verifier, 3 '1' if tried before, 4 time to live in ms or '', 5... fields and values. A large new record is
# written to KEYS[2] by HSET first, and PLACE moves it.
_TAKEN = "return a[3]~='' and r[1]==a[2] and 1 or 0"
_LIVE_FOR = "if a[4]~='' then c('PEXPIRE',k,a[4]) end return 1"
_READ_LIFE = READ.replace(",'l','e','b','z','h'", "")
CREATE = script(
    _READ_LIFE, f"if live then {_TAKEN} end", "if c('EXISTS',k)==1 then c('UNLINK',k) end local s=5", SET, _LIVE_FOR
)
PLACE = script(_READ_LIFE, f"if live then c('UNLINK',KEYS[2]) {_TAKEN} end", "c('RENAME',KEYS[2],k)", _LIVE_FOR)

# ARGV: 2 verifier, 3 last access
TOUCH = script(
    READ,
    f"if not live or r[1]~=a[2] and {_NOT_BEFORE} then return 0 end",
    "if m(a[3])>t then t=m(a[3]) c('HSET',k,'t',a[3]) end",
    EXPIRE,
    "return 1",
)

# ARGV: 2 reason if it is another one, where '' keeps nothing; 3... tags, of which the record must have one. A record
# with a field z stays, as ended for good: d has the reason, y the end that x had. What a server is too full to keep,
# goes. The reply for a user's record, or one that stays, is a list: the outcome, the user, 1 if it stays. So it is for
# one that has ended before and stays: the reply that said so first may have been lost.
DELETE = script(
    read("u"),
    REPLICAS,
    """
    local own=not a[3]
    for j=3,#a do own=own or a[j]==r[10] end
    if not own then return 0 end
    """,
    DROP,
    """
    local kept=r[8] and a[2]~=''
    if not kept or live and type(redis.pcall('HSET',k,'y',r[4],'x','0'))=='table' then c('UNLINK',k)
    elseif live then
    c('HSETNX',k,'d',a[2]or'invalidated') c('HDEL',k,'b','l','e','h') c('PEXPIRE',k,('%.0f'):format(r[8]*1000))
    end
    if not live then return kept and {0,r[10]or'',1} or 0 end
    return (r[8] or r[10]) and {1+w,r[10]or'',kept and 1 or 0} or 1+w
    """,
)
REAP = script(
    read("y"),
    "if not r[1] or live or n<math.min(t+i,m(r[10])or x)+(r[8]or 0) then return 0 end",
    DROP,
    "return c('UNLINK',k)",
)

# ARGV: 2 verifier, 3 owner, 4 end of the lease; and 2 owner
LOCK = script(
    READ,
    f"if not live or r[1]~=a[2] and {_NOT_BEFORE} then return 0 end",
    "if r[5] and r[5]~=a[3] and n<(m(r[6])or 0) then return 0 end",
    "c('HSET',k,'l',a[3],'e',a[4]) return 1",
)
UNLOCK = script(
    READ, "if not live or r[5]~=a[2] then return 0 end", "c('HDEL',k,'l','e') return n<(m(r[6])or 0) and 1 or 0"
)

# Every command that the others call: what an account may not do is known at the opening, not in the middle of a save.
PROBE = script("""
local k,h,c=KEYS[1],KEYS[2],redis.call
c('HSET',k,'n',1) c('HINCRBY',k,'n',1) c('HMGET',k,'n') c('HEXISTS',k,'n') c('HGETALL',k) c('HDEL',k,'x')
c('PEXPIRE',k,60000) c('PERSIST',k) c('EXISTS',k) c('RENAME',k,h) return c('UNLINK',h)
""")
