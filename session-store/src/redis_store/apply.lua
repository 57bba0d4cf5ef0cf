-- One apply, in one step, where the data is. The same rules as rules.rs; the contract tests compare the two.
--
-- KEYS[1]  the session's key        KEYS[2]  the key that a Rotate moves it to
-- ARGV     expect, idle_ms, absolute_ms, touch_interval_ms, fields_max, session_bytes_max, revision, then the changes:
--          'set' name value | 'remove' name | 'touch' | 'rotate' | 'renew' | 'destroy'
-- Replies  {'applied', now, created, seen, expires, name, value, ...} | {'no-session'} | {'exists'}
--          | {'limit', which, max, got} | {'damaged', why}
--
-- A session is one hash: 'm:created', 'm:seen', 'm:expires' (milliseconds), 'm:rev' (the revision of the last write of
-- fields, see near.rs) and 'f:NAME' for each field. A tombstone
-- is a hash with 'm:dead' (why) and 'm:expires'. Versions of the fields will be 'v:NAME' beside them.
-- Everything is read and checked before the first write, so that a refusal changes nothing.

local expect = ARGV[1]
local idle_ms, absolute_ms = tonumber(ARGV[2]), tonumber(ARGV[3])
local touch_interval_ms = tonumber(ARGV[4])
local fields_max, session_bytes_max = tonumber(ARGV[5]), tonumber(ARGV[6])
local revision = ARGV[7]

-- The server's clock, so that the clocks of those who ask do not matter.
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- Lua would write 1.7e+12.
local function digits(number) return string.format('%.0f', number) end

-- nil when the key is unknown: nothing there, or only what has ended.
local function read(key)
    local flat = redis.call('HGETALL', key)
    if #flat == 0 then return nil end
    local record = { fields = {} }
    for i = 1, #flat, 2 do
        local name, value = flat[i], flat[i + 1]
        if name:sub(1, 2) == 'f:' then record.fields[name:sub(3)] = value
        elseif name == 'm:created' then record.created = tonumber(value)
        elseif name == 'm:seen' then record.seen = tonumber(value)
        elseif name == 'm:expires' then record.expires = tonumber(value)
        elseif name == 'm:dead' then record.dead = value
        end
    end
    if record.dead and record.expires then
        if record.expires > now then return record end
        return nil
    end
    if not (record.created and record.seen and record.expires) then return { damaged = true } end
    if math.min(record.seen + idle_ms, record.expires) > now then return record end
    return nil
end

-- In parts, because Lua passes at most some thousand arguments.
local function in_parts(command, key, arguments)
    local part = {}
    for i = 1, #arguments do
        part[#part + 1] = arguments[i]
        if #part == 1000 or i == #arguments then
            redis.call(command, key, unpack(part))
            part = {}
        end
    end
end

local function bury(key, why, expires)
    redis.call('DEL', key)
    redis.call('HSET', key, 'm:dead', why, 'm:expires', digits(expires))
    redis.call('PEXPIREAT', key, digits(expires))
end

local session = read(KEYS[1])
if session and session.damaged then return { 'damaged', 'a session without its times' } end
local is_new = false
if expect == 'absent' then
    if session then return { 'exists' } end
    session = { fields = {}, created = now, seen = now, expires = now + absolute_ms }
    is_new = true
elseif not session or session.dead then
    return { 'no-session' }
end

local old_expires = session.expires
local touched, rotates, destroys, active = {}, false, false, false
local i = 8
while i <= #ARGV do
    local change = ARGV[i]
    active = true
    if change == 'set' then
        session.fields[ARGV[i + 1]] = ARGV[i + 2]
        touched[ARGV[i + 1]] = true
        i = i + 3
    elseif change == 'remove' then
        session.fields[ARGV[i + 1]] = nil
        touched[ARGV[i + 1]] = true
        i = i + 2
    else
        if change == 'rotate' then rotates = true
        elseif change == 'destroy' then destroys = true
        elseif change == 'renew' then
            session.created = now
            session.expires = now + absolute_ms
        end
        i = i + 1
    end
end

if rotates and read(KEYS[2]) then return { 'exists' } end

local reply = { 'applied', digits(now), digits(session.created), '', digits(session.expires) }
if destroys then
    bury(KEYS[1], 'destroyed', old_expires)
else
    local is_seen = active and now - session.seen >= touch_interval_ms
    if is_seen then session.seen = now end

    local count, bytes = 0, 0
    for name, value in pairs(session.fields) do
        count = count + 1
        bytes = bytes + #name + #value
    end
    if count > fields_max then return { 'limit', 'fields_max', digits(fields_max), digits(count) } end
    if bytes > session_bytes_max then
        return { 'limit', 'session_bytes_max', digits(session_bytes_max), digits(bytes) }
    end

    -- Nothing has been written up to here. A Redis that is full refuses a script's first write, when that may need
    -- memory, and no later one. So new data comes first, to be refused, and a touch begins with the expiry, to pass.
    local set, removed = {}, {}
    for name in pairs(touched) do
        local value = session.fields[name]
        if value then
            set[#set + 1] = 'f:' .. name
            set[#set + 1] = value
        elseif not is_new then
            removed[#removed + 1] = 'f:' .. name
        end
    end
    local key = KEYS[1]
    local times = { 'm:created', digits(session.created), 'm:seen', digits(session.seen),
        'm:expires', digits(session.expires) }
    local expiry = digits(math.min(session.seen + idle_ms, session.expires))
    if is_new then
        -- What has ended by our idle time and not yet by the one it was written with.
        if redis.call('EXISTS', key) == 1 then redis.call('DEL', key) end
        in_parts('HSET', key, times)
    end
    in_parts('HSET', key, set)
    in_parts('HDEL', key, removed)
    if is_new or next(touched) then redis.call('HSET', key, 'm:rev', revision) end
    if rotates then
        key = KEYS[2]
        redis.call('RENAME', KEYS[1], key)
        bury(KEYS[1], 'rotated', old_expires)
    end
    if is_new then
        redis.call('PEXPIREAT', key, expiry)
    elseif rotates or is_seen then
        redis.call('PEXPIREAT', key, expiry)
        in_parts('HSET', key, times)
    end
end

reply[4] = digits(session.seen)
for name, value in pairs(session.fields) do
    reply[#reply + 1] = name
    reply[#reply + 1] = value
end
return reply
