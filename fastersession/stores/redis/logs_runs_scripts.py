"""What Redis does in one step with runs.

Rules of residence: Lua, as in ``logs_scripts``, whose parts these take.
"""

from __future__ import annotations

from .logs_scripts import BUSY, DONE, ENTER, GONE, KEPT, OF_LOG, PROVEN, READ, SAME, STATUS, TAKEN
from .scripts import script

# ARGV: 4 until when it is kept or '', 5 the time to live then, 6 run, 7 lease, 8 time to live of the frames, 9 head,
# 10 the run before or ''; of an entry 11 position, 12 the one before, 13 value, 14 run, 15 key. The reply: top, owner,
# status.
BEGIN = script(
    READ,
    PROVEN,
    STATUS,
    ENTER,
    KEPT,
    f"""
    local there=status(a[6])
    if there~='' then
    local e=c('XRANGE',F,'1-0','1-0')[1]
    local again=e and e[2][2]==a[9] or a[6]==h[3] and h[4] and c('HGET',q,'b')==redis.sha1hex(a[9])
    return {{again and {DONE} or {SAME},h[2],'',there}}
    end
    if h[4] or a[10]~='' and h[3]~=a[10] then return {{{BUSY},h[2],'',status(h[3])}} end
    if a[11] and a[12]~=h[2] then return {{{TAKEN},h[2],'',status(h[3])}} end
    c('XADD',F,'1-0','v',a[9],'u',tag)
    c('PEXPIRE',F,a[8])
    local stay={{a[6]}}
    for x in (h[9]or''):gmatch('%x+') do
    if c('EXISTS',B..':r:'..h[1]..x)==1 then stay[#stay+1]=x
    elseif R then c('SREM',KEYS[6],':r:'..h[1]..x) end
    end
    if R then c('SADD',KEYS[6],F:sub(#B+1)) end
    h[3],h[4],h[6]=a[6],ms+a[7],false
    c('HSET',q,'r',a[6],'e',('%.0f'):format(h[4]),'g',tag,'b',redis.sha1hex(a[9]),'f',table.concat(stay,' '))
    c('HDEL',q,'i')
    if a[11] then enter(a[11],a[13],a[14],a[15]) end
    kept(a[4],a[5])
    return {{{DONE},h[2],h[10],status(a[6])}}
    """,
)

# ARGV: 4 until when it is kept or '', 5 the time to live then, 6 run, 7 '1' if it must be lost, 8 how long the frames
# stay, 9 value, 10 unused; then as of BEGIN.
END = script(
    READ,
    OF_LOG,
    STATUS,
    ENTER,
    KEPT,
    f"""
    local there=c('EXISTS',F)==1
    if h[3]~=a[6] or not h[4] then
    if not there then return {{{GONE}}} end
    local s=status(a[6])
    return {{s[5]==a[9] and {DONE} or {TAKEN},h[2],'',s}}
    end
    if a[7]=='1' and left()>0 then return {{{BUSY},h[2],'',status(a[6])}} end
    local entered=a[11] and h[5]==tag
    if entered and a[12]~=h[2] then return {{{TAKEN},h[2],'',status(a[6])}} end
    if there then c('XADD',F,'2-0','v',a[9]) c('PEXPIRE',F,a[8]) end
    c('HDEL',q,'e') h[4]=false
    if entered then enter(a[11],a[13],a[14],a[15]) end
    kept(a[4],a[5])
    return {{{DONE},h[2],h[10],status(a[6])}}
    """,
)

# ARGV: 4 run, 5 lease.
RENEW = script(
    READ,
    OF_LOG,
    f"""
    if h[3]~=a[4] or not h[4] or c('EXISTS',F)==0 then return {{{GONE}}} end
    local w=c('TIME')
    c('HSET',q,'e',('%.0f'):format(w[1]*1000+math.floor(w[2]/1000)+a[5]))
    return {{{DONE}}}
    """,
)

# Of a session's run. ARGV: 4 position, 5 value.
WRITE = script(
    READ,
    OF_LOG,
    f"""
    local e=c('XRANGE',F,'1-0','1-0')[1]
    if not e or e[2][4]~=tag then return {{{GONE}}} end
    e=c('XRANGE',F,a[4],a[4])[1]
    if e then return {{e[2][2]==a[5] and {DONE} or {TAKEN}}} end
    e=redis.pcall('XADD',F,'NOMKSTREAM',a[4],'v',a[5])
    if type(e)=='table' and e.err then
    if e.err:find('equal or smaller') then return {{{TAKEN}}} end
    return e
    end
    return {{{DONE}}}
    """,
)

# Of a session's run. ARGV: 4 position, 5 how many.
READ_ON = script(
    READ,
    OF_LOG,
    f"""
    if c('EXISTS',F)==0 then return {{{GONE}}} end
    return {{{DONE},c('XRANGE',F,'('..a[4],'+','COUNT',a[5])}}
    """,
)
