"""What Redis does in one step with conversations.

Rules of residence: Lua, as in ``scripts``; of runs it is in ``logs_runs_scripts``. ``KEYS`` are the conversation (a
hash), its history (a stream) and what finds entries (a hash of positions by ``k`` + key and by ``r`` + run); of a
session's then the record and two sets, of what lives as long as it and of frames; where a run is meant its frames (a
stream) come last. All are in one slot.

``ARGV`` begins with the time, the log's id and the verifier. Ids of logs and runs are in hex. Each replies with a list
that begins with a number of ``Outcome``, in its order.

Fields of a conversation: l log, o owner, a about, n its version, c created, u updated, x end, t top; of its last run r
the id, e the end of its lease as long as it runs, g the user of the session when it began, b the digest of the head,
i whether it has written an entry; f the runs whose frames may be there.
"""

from __future__ import annotations

from ..logs import MOST_OF_A_SESSION
from .scripts import GRACE, REPLICAS, script

DONE, GONE, TAKEN, SAME, BUSY, SUPERSEDED, FULL = range(1, 8)

# q conversation, L history, K finder, R record, F frames, n now, B what all keys begin with, h the fields, tag the
# session's user. ``own``: the conversation is there; ``proven``: the caller has the session's verifier.
READ = """
local q,a,c,m,R=KEYS[1],ARGV,redis.call,tonumber,#KEYS>4 and KEYS[4]
local L,K,F,n,B=KEYS[2],KEYS[3],KEYS[#KEYS],m(a[1]),KEYS[1]:sub(1,-36)
local h=c('HMGET',q,'l','t','r','e','g','i','x','u','f','o')
local own,proven,tag,d=h[1]and(not h[7]or n<m(h[7])),true,''
if R then
local r=c('HMGET',R,'v','t','i','x','b','u')
d=math.min((m(r[2])or 0)+(m(r[3])or 0),m(r[4])or 0)-n
local live=r[1]and d>0
own,proven,tag=own and live,live and(r[1]==a[3]or r[5]==a[3]..r[1]),r[6]or''
end
"""
OF_LOG = f"if not own or h[1]~=a[2] then return {{{GONE}}} end"
PROVEN = f"if not own or h[1]~=a[2] or not proven then return {{{GONE}}} end"

# A run's status: '' if nothing is known of it, else its id, 1 if it runs, what is left of its lease, 1 if it has
# written an entry, and the value of its end.
STATUS = """
local w=c('TIME')
local ms=w[1]*1000+math.floor(w[2]/1000)
local function left() return math.max(h[4]-ms,0) end
local function status(x)
if not x then return '' end
local f=B..':r:'..h[1]..x
local on,there,carried=x==h[3]and h[4],c('EXISTS',f)==1,c('HEXISTS',K,'r'..x)==1
if not(on or there or carried)then return '' end
local s={x,on and 1 or 0,on and('%.3f'):format(left()/1000)or'0',(carried or x==h[3]and h[6])and 1 or 0}
if there and not on then s[5]=c('XRANGE',f,'2-0','2-0')[1][2][2] end
return s
end
"""

# What was written moves the end of what is kept for a while; all keys of a conversation go together.
ENTER = """
local function enter(id,v,run,key)
local e={'v',v}
if run~='' then e[3],e[4]='r',run end
if key~='' then e[#e+1]='k' e[#e+1]=key end
c('XADD',L,id,unpack(e))
if key~='' then c('HSET',K,'k'..key,id) end
if run~='' then
local w=c('HGET',K,'r'..run)
c('HSET',K,'r'..run,(w and w..' 'or'')..id) c('HSET',q,'i','1') h[6]='1'
end
c('HSET',q,'t',id) h[2]=id
end
"""
KEPT = """
local function kept(x,p)
if n>m(h[8])then c('HSET',q,'u',a[1]) end
if x~='' then c('HSET',q,'x',x) c('PEXPIRE',q,p) end
p=c('PTTL',q)
if p>0 then c('PEXPIRE',L,p) c('PEXPIRE',K,p) if R then c('PEXPIRE',KEYS[6],p) end end
end
"""

# In one command, so that nothing is half done while the slot moves.
_UNLINK = """
local function unlink()
local all={q,B..':l:'..h[1],B..':k:'..h[1]}
for x in (h[9]or''):gmatch('%x+') do all[#all+1]=B..':r:'..h[1]..x end
c('UNLINK',unpack(all))
if R then
for j,x in ipairs(all) do all[j]=x:sub(#B+1) end
c('SREM',KEYS[5],unpack(all)) c('SREM',KEYS[6],unpack(all))
end
end
"""

# ARGV: 4 owner, 5 about, 6 until when it is kept or '', 7 the time to live then. The reply: log and top.
CREATE = script(
    READ,
    _UNLINK,
    f"""
    if not proven then return {{{GONE}}} end
    if own then return {{{DONE},h[1],h[2]}} end
    if R then
    local count=0
    for _,x in ipairs(c('SMEMBERS',KEYS[5])) do if x:sub(2,2)=='c' then count=count+1 end end
    if count>={MOST_OF_A_SESSION} then return {{{FULL}}} end
    end
    if h[1] then unlink() end
    c('HSET',q,'l',a[2],'o',a[4],'a',a[5],'n','1','c',a[1],'u',a[1],'t','1-0')
    if a[6]~='' then c('HSET',q,'x',a[6]) c('PEXPIRE',q,a[7]) end
    if R then
    c('SADD',KEYS[5],':s',':f',q:sub(#B+1),L:sub(#B+1),K:sub(#B+1)) c('HSET',R,'h','1')
    if d<1e12 then for j=1,5,4 do c('PEXPIRE',KEYS[j],('%.0f'):format((d+{GRACE})*1000)) end end
    end
    return {{{DONE},a[2],'1-0'}}
    """,
)

# ARGV: 4 until when it is kept or '', 5 the time to live then, 6 position, 7 the one before, 8 value, 9 run or '',
# 10 key or ''. The reply: top, owner, and of SAME the entry that is there.
APPEND = script(
    READ,
    ENTER,
    KEPT,
    f"""
    if not own or h[1]~=a[2] or a[9]=='' and not proven then return {{{GONE}}} end
    if a[9]~='' then
    if h[3]~=a[9] then return {{{SUPERSEDED},h[2]}} end
    if h[5]~=tag then return {{{GONE}}} end
    end
    if a[7]~=h[2] then
    local e=c('XRANGE',L,a[6],a[6])[1]
    if e and e[2][2]==a[8] then return {{{DONE},h[2],''}} end
    end
    local w=a[10]~='' and c('HGET',K,'k'..a[10])
    if w then return {{{SAME},h[2],'',c('XRANGE',L,w,w)[1]}} end
    if a[7]~=h[2] then return {{{TAKEN},h[2]}} end
    enter(a[6],a[8],a[9],a[10])
    kept(a[4],a[5])
    return {{{DONE},h[2],h[10]}}
    """,
)

# From s on: count, bytes, '1' if the newest come first, first and last position.
_BETWEEN = """
local found,size,s={},0,%d
local new,lo,hi=a[s+2]=='1',a[s+3],a[s+4]
while #found<m(a[s]) do
local p=math.min(16,a[s]-#found)
if new then p=c('XREVRANGE',L,hi,lo,'COUNT',p) else p=c('XRANGE',L,lo,hi,'COUNT',p) end
for _,e in ipairs(p) do
size=size+#e[2][2]
if found[1] and size>m(a[s+1]) then p={} break end
found[#found+1]=e
end
if not p[1] then break end
if new then hi='('..p[#p][1] else lo='('..p[#p][1] end
end
"""
ENTRIES = script(READ, OF_LOG, _BETWEEN % 4, f"return {{{DONE},found}}")

# ARGV: 4 what the finder calls it.
FIND = script(
    READ,
    OF_LOG,
    f"""
    local w=c('HGET',K,a[4])
    if not w then return {{{DONE}}} end
    w=w:match('%S+$')
    return {{{DONE},c('XRANGE',L,w,w)[1]}}
    """,
)

LOOK = script(
    READ,
    f"if not own then return {{{GONE}}} end L,K=B..':l:'..h[1],B..':k:'..h[1]",
    STATUS,
    _BETWEEN % 4,
    "local w=c('HMGET',q,'a','n','c')",
    f"return {{{DONE},h[1],h[2],w[1],w[2],w[3],h[8],found,status(h[3])}}",
)

# ARGV: 4 position to which the tail is cut or '', 5 the one to which the head is or ''. The reply: the top.
CUT = script(
    READ,
    PROVEN,
    f"""
    local function parts(id) local e,s=id:match('(%d+)-(%d+)') return m(e),m(s) end
    local function remove(all)
    for _,e in ipairs(all) do
    c('XDEL',L,e[1])
    for j=3,#e[2],2 do
    local x=e[2][j]..e[2][j+1]
    if e[2][j]=='k' then c('HDEL',K,x) else
    local stay={{}}
    for id in c('HGET',K,x):gmatch('%S+') do if id~=e[1] then stay[#stay+1]=id end end
    if stay[1] then c('HSET',K,x,table.concat(stay,' ')) else c('HDEL',K,x) end
    end
    end
    end
    end
    if a[4]~='' then
    if h[4] then return {{{BUSY},h[2]}} end
    local e,s=parts(a[4])
    local te,ts=parts(h[2])
    if e<te or e==te and s<=ts then
    local tail,stays=c('XRANGE',L,'('..a[4],'+'),c('XREVRANGE',L,a[4],'-','COUNT',1)[1]
    s=math.min(s,ts)
    if tail[1] then local _,x=parts(tail[1][1]) s=math.min(s,x-1) end
    if stays then local _,x=parts(stays[1]) s=x end
    h[2]=('%.0f-%.0f'):format(te+1,s)
    c('HSET',q,'t',h[2])
    remove(tail)
    end
    end
    if a[5]~='' then remove(c('XRANGE',L,'-',a[5])) end
    return {{{DONE},h[2]}}
    """,
)

# ARGV: 4 about, 5 the version. The reply: the owner.
DESCRIBE = script(
    READ,
    KEPT,
    PROVEN,
    f"""
    if c('HGET',q,'n')~=a[5] then return {{{TAKEN}}} end
    c('HSET',q,'a',a[4]) c('HINCRBY',q,'n',1)
    kept('')
    return {{{DONE},h[10]}}
    """,
)

# ARGV: 2 may be '', 4 the top or ''. The reply: 0 or 1 and more for each replica, and the owner.
DELETE = script(
    READ,
    _UNLINK,
    REPLICAS,
    """
    if not own or not proven or a[2]~='' and a[2]~=h[1] or a[4]~='' and a[4]~=h[2] then return {0} end
    unlink()
    if R and c('SCARD',KEYS[5])==2 then c('UNLINK',KEYS[5],KEYS[6]) c('HDEL',R,'h') end
    return {1+w,h[10]}
    """,
)
REAP = script(READ, _UNLINK, "if own or not h[1] then return {0} end unlink() return {1,h[10]}")

# KEYS: the record, and the set beside it. The reply: of each conversation its id, and the fields that lists show.
OWNED = script("""
local k,a,c,m=KEYS[1],ARGV,redis.call,tonumber
local r,n,found=c('HMGET',k,'v','t','i','x'),m(a[1]),{}
if r[1] and n<m(r[2])+m(r[3]) and n<m(r[4]) then
for _,x in ipairs(c('SMEMBERS',KEYS[2])) do if x:sub(2,2)=='c' then
found[#found+1]={x:sub(4),c('HMGET',k..x,'l','a','c','u','e','x')}
end end end
return {1,found}
""")
