"""What Redis does in one step with logins, with the index of a user's sessions, and with records that have ended.

Rules of residence: Lua, as in ``scripts``, whose parts these take. Three kinds of keys: a record; a user's index, a
sorted set of record ids by the last moment to which each may live, with his mark beside it, a hash; and a shard of what
is to be looked at, a sorted set of record ids by when.
"""

from __future__ import annotations

from ..users import MARK_SECONDS
from .scripts import DROP, EXPIRE, GRACE, LEASED, OWN_NOW, READ, REPLICAS, SET, UNDO, merge, read, script

# --- a record ---

# ARGV as of a regeneration up to 9 (where '1' says: tried before), 6 how many names to delete, 10 the user, 11 its
# field z or '', 12 its field o, 13 how many names to keep, or '' for all; then names to delete, names to keep, fields
# and values.
BIND = script(
    READ,
    REPLICAS,
    "if live and a[9]~='' and r[1]==a[7] then return 1+w end",
    OWN_NOW,
    LEASED,
    """
    t,i,x=m(a[4]),m(a[5]),m(a[8])
    c('HSET',k,'v',a[7],'x',a[8],'r',a[4],'t',a[4],'i',a[5],'u',a[10],'o',a[12])
    if a[11]=='' then r[8]=false c('HDEL',k,'z') else r[8]=a[11] c('HSET',k,'z',a[11]) end
    c('HINCRBY',k,'n',1)
    local s,stay=14+a[6],{}
    if a[13]=='' then c('HSET',k,'b',a[2]..a[7]) else
    for j=s,s+a[13]-1 do stay[a[j]]=1 end
    s=s+a[13]
    c('HDEL',k,'b')
    for _,f in ipairs(c('HKEYS',k)) do if f:sub(1,1)=='a' and not stay[f] then c('HDEL',k,f) end end
    end
    """,
    SET,
    "for j=14,13+a[6] do c('HDEL',k,a[j]) end",
    EXPIRE,
    "return 1+w",
)
FINISH_BIND = script(UNDO, BIND.text.decode())

# ARGV as of an update up to 6; 7 the new end, 8 its field o or '', 9 unused; then as of an update.
RENEW = script(
    READ,
    OWN_NOW,
    LEASED,
    "c('HSET',k,'x',a[7]) x=m(a[7]) if a[8]~='' then c('HSET',k,'o',a[8]) end",
    merge(10),
    "return 1",
)
FINISH_RENEW = script(UNDO, RENEW.text.decode())

# ARGV: 2 verifier, 3 the one that nobody has, 4 the end. The reply is a list where it was a user's.
RETIRE = script(
    read("u"),
    REPLICAS,
    OWN_NOW,
    """
    if m(a[4])<x then x=m(a[4]) c('HSET',k,'x',a[4]) end
    c('HSET',k,'v',a[3],'r',a[1],'d','replaced')
    c('HDEL',k,'u','o','b')
    """,
    EXPIRE,
    "return r[10] and {1+w,r[10],r[8]and 1 or 0} or r[8] and {1+w,'',1} or 1+w",
)

# ARGV: 2 verifier, 3 what the names of the fields begin with. The reply is a list if there are any: 1, the record's id,
# names and values in turn.
TAKE = script(
    READ,
    """
    if not live or r[1]~=a[2] and r[7]~=a[2]..r[1] then return 0 end
    local found={1,c('HGET',k,'k')}
    for _,f in ipairs(c('HKEYS',k)) do if f:sub(1,#a[3])==a[3] then
    found[#found+1]=f found[#found+1]=c('HGET',k,f) c('HDEL',k,f)
    end end
    if not found[3] then return 0 end
    c('HINCRBY',k,'n',1) return found
    """,
)

# What has expired stays so, whatever a worker writes whose clock is behind. 1 if the record is absent.
_FINAL = f"if r[4]~='0' then c('HSET',k,'y',r[4],'x','0') end c('HSETNX',k,'d','expired') {DROP}"
OVER = script(
    READ,
    "if live then return 0 end if r[1] and r[8] then",
    _FINAL,
    "elseif r[1] then",
    DROP,
    "c('UNLINK',k) end return 1",
)

# ARGV: 2 the end of the claim, 3 eight bytes that name the call: tried again, it has what it claimed. The reply: 0 if
# there is nothing to tell any more; 0 and t, i, x of what lives; 1 and the end of a claim that somebody has; 2, '1' if
# it is not the first, and all fields.
CLAIM = script(
    read("q", "w"),
    f"""
    if not r[1] or not live and not r[8] then return 0 end
    if live then return {{0,r[2],r[3],r[4]}} end
    local w=r[11] and r[11]:sub(1,8)==a[3] and r[11]
    if r[10] and not w and n<m(r[10]) then return {{1,r[10]}} end
    w=w or a[3]..(r[10]and '1'or'')
    c('HSET',k,'q',a[2],'w',w) {_FINAL}
    return {{2,w:sub(9),c('HGETALL',k)}}
    """,
)
SETTLE = script(READ, "if not live then c('UNLINK',k) end return 1")

# --- a user: KEYS[1] index, KEYS[2] mark ---

# While their slot moves to another node, scripts on one key work only: those of the index then leave the mark to those
# of the mark. Whoever logs in enters the index before he looks at the mark, whoever revokes sets the mark before he
# reads the index: one of them sees the other.

_KEYS = "local z,y,a,c,m=KEYS[1],KEYS[2],ARGV,redis.call,tonumber"
_KEY = "local y,a,c,m=KEYS[1],ARGV,redis.call,tonumber"

# The mark is later than the time of authentication (ARGV[3]), or at it if ARGV[4] says '1', and does not spare ARGV[2].
_MARKED = """
local r=y and c('HMGET',y,'t','k') or {}
if r[1] and r[2]~=a[2] and (m(a[3])<m(r[1]) or a[4]=='1' and m(a[3])==m(r[1])) then return 0 end
"""
# The index goes by itself when the last of it is over.
_UNTIL_THE_LAST = f"""
local d=m(c('ZRANGE',z,-1,-1,'WITHSCORES')[2])-a[1]
if d<1e12 then c('PEXPIRE',z,('%.0f'):format((d+{GRACE})*1000)) else c('PERSIST',z) end
"""

MARKED = script(_KEY, _MARKED, "return 1")

# The reply is a list: 1 if the record is in it, and the ids in it.
LOOK = script(_KEYS, _MARKED, "return {c('ZSCORE',z,a[2])and 1 or 0,c('ZRANGEBYSCORE',z,'('..a[1],'+inf')}")

# ARGV: 5 until when, 6 how many may be in it or '', 7... ids that are absent. If it is full the reply is a list: 0, and
# the ids in it.
CONFIRM = script(
    _KEYS,
    REPLICAS,
    _MARKED,
    """
    c('ZREMRANGEBYSCORE',z,'-inf',a[1])
    for j=7,#a do c('ZREM',z,a[j]) end
    if a[6]~='' and not c('ZSCORE',z,a[2]) and c('ZCARD',z)>=m(a[6]) then return {0,c('ZRANGE',z,0,-1)} end
    c('ZADD',z,'GT',a[5],a[2])
    """,
    _UNTIL_THE_LAST,
    "return 1+w",
)

# ARGV: 2 time of the revocation, 3 who is spared or ''. The reply: 1 and more for each replica, and the ids.
_MARK = f"""
if y then
local t=c('HGET',y,'t')
c('HSET',y,'t',t and m(t)>m(a[2]) and t or a[2],'k',a[3])
c('PEXPIRE',y,{MARK_SECONDS * 1000})
end
"""
REVOKE = script(_KEYS, REPLICAS, _MARK, "return {1+w,c('ZRANGE',z,0,-1)}")
MARK = script(_KEY, _MARK, "return 1")

# ARGV: 2 id, 3 until when.
EXTEND = script(
    _KEYS,
    "if c('ZADD',z,'XX','GT','CH',a[3],a[2])==0 then return 1 end",
    _UNTIL_THE_LAST,
    "return 1",
)

# --- a shard of what is to be looked at ---

# ARGV: 2 how many, 3 when they come again if nobody has said otherwise. The reply: 0, and the ids.
SWEEP = script("""
local k,a,c=KEYS[1],ARGV,redis.call
local ids=c('ZRANGEBYSCORE',k,'-inf',a[1],'LIMIT',0,a[2])
for _,id in ipairs(ids) do c('ZADD',k,a[3],id) end
return {0,ids}
""")

# ARGV: 2 what SWEEP has said, then ids and when to look at each ('' for never), where it still is as SWEEP left it:
# what has ended since is at another place.
REARM = script("""
local k,a,c,m=KEYS[1],ARGV,redis.call,tonumber
for j=3,#a,2 do if m(c('ZSCORE',k,a[j]))==m(a[2]) then
if a[j+1]=='' then c('ZREM',k,a[j]) else c('ZADD',k,a[j+1],a[j]) end
end end
return 1
""")

# Every command that these call and others do not.
PROBE = script("""
local k,c=KEYS[1],redis.call
c('ZADD',k,1,'a') c('ZADD',k,'XX','GT','CH',2,'a') c('ZSCORE',k,'a') c('ZCARD',k) c('ZRANGE',k,-1,-1,'WITHSCORES')
c('ZRANGEBYSCORE',k,'-inf',1,'LIMIT',0,1) c('ZREMRANGEBYSCORE',k,'-inf',1) c('ZREM',k,'a')
c('HSETNX',k,'a',1) c('HGET',k,'a') c('HKEYS',k) return c('UNLINK',k)
""")
