-- The edge's work as one would write it in OpenResty, kept as short and as fast as we know how: shared dictionaries,
-- OpenSSL by FFI, and a cache of verified tokens in each worker. One key for all tenants, no tenant token is minted
-- (the user's own goes on), a window of one second for the limit, no status classes beyond one: less than the module.
local ffi = require "ffi"
local lrucache = require "resty.lrucache"
local bit_bxor, bit_bor = bit.bxor, bit.bor
ffi.cdef [[
const void *EVP_sha256(void);
unsigned char *HMAC(const void *md, const void *key, int key_len, const unsigned char *data, size_t len,
    unsigned char *out, unsigned int *out_len);
]]

local edge = {}
local tenants, counts = ngx.shared.tenants, ngx.shared.counts
local cache = assert(lrucache.new(32768))
local out, out_len = ffi.new("unsigned char[32]"), ffi.new("unsigned int[1]")
local key
local RATE = 1000000

function edge.load(file, secret)
    key = secret
    for line in io.lines(file) do
        local host, value = line:match("^(%S+) (.+)$")
        assert(tenants:safe_set(host, value))
    end
end

local function refuse(status)
    ngx.status = status
    ngx.header["Content-Type"] = "application/problem+json"
    ngx.say('{"status":' .. status .. '}')
    return ngx.exit(status)
end

local function decode(text)
    return ngx.decode_base64((text:gsub("[-_]", { ["-"] = "+", ["_"] = "/" })) .. ("="):rep(-#text % 4))
end

local function same(a, b)
    local difference = bit_bxor(#a, #b)
    for i = 1, math.min(#a, #b) do
        difference = bit_bor(difference, bit_bxor(a:byte(i), b:byte(i)))
    end
    return difference == 0
end

-- Tenant and end of a token, or nothing.
local function verify(token)
    local head, payload, tag = token:match("^([%w_-]+)%.([%w_-]+)%.([%w_-]+)$")
    if not head or not (decode(head) or ""):find('"alg":"HS256"', 1, true) then
        return nil
    end
    local signed = head .. "." .. payload
    ffi.C.HMAC(ffi.C.EVP_sha256(), key, #key, signed, #signed, out, out_len)
    local claims = decode(payload)
    if not same(ffi.string(out, 32), decode(tag) or "") or not claims then
        return nil
    end
    return claims:match('"tenant":"([^"]+)"'), tonumber(claims:match('"exp":(%d+)'))
end

local function credential(tenant)
    local header = ngx.var.http_authorization
    local token = header and header:match("^[Bb]earer +(%S+)$")
    if not token then
        return nil
    end
    local entry = cache:get(token)
    if not entry then
        local of, ends = verify(token)
        if not of or not ends then
            return nil
        end
        entry = { of, ends }
        cache:set(token, entry, 60)
    end
    return entry[1] == tenant and entry[2] > ngx.time() and token or nil
end

local function limit(tenant)
    return counts:incr("l:" .. tenant, 1, 0, 1) or RATE + 1
end

local function headers(tenant, tier, database, token)
    local set, clear, id = ngx.req.set_header, ngx.req.clear_header, ngx.var.request_id
    clear("Authorization")
    clear("Forwarded")
    set("X-Tenant-ID", tenant)
    set("X-Tenant-Tier", tier)
    set("X-Scope-OrgID", tenant)
    set("X-Bulkhead-Token", token)
    set("X-Bulkhead-Database", database)
    set("X-Request-Id", id)
    set("traceparent", "00-" .. id .. "-0123456789abcdef-01")
    set("X-Forwarded-For", ngx.var.remote_addr)
    set("X-Forwarded-Proto", ngx.var.scheme)
    set("X-Forwarded-Host", ngx.var.host)
    set("X-Forwarded-Port", ngx.var.server_port)
end

function edge.access()
    local record = tenants:get(ngx.var.host)
    if not record then
        return refuse(404)
    end
    local tenant, tier, database = record:match("^(%S+) (%S+) (%S+)$")
    local token = credential(tenant)
    if not token then
        return refuse(401)
    end
    local used = limit(tenant)
    ngx.ctx.tenant, ngx.ctx.left = tenant, RATE - used
    if used > RATE then
        return refuse(429)
    end
    headers(tenant, tier, database, token)
end

function edge.answer()
    local left = ngx.ctx.left
    if left then
        ngx.header["RateLimit-Policy"] = '"default";q=1000000;w=1'
        ngx.header["RateLimit"] = '"default";r=' .. left .. ";t=1"
    end
end

function edge.log()
    local tenant = ngx.ctx.tenant
    if tenant then
        local class = ngx.status < 500 and "s:" or "f:"
        counts:incr("r:" .. tenant, 1, 0)
        counts:incr(class .. tenant, 1, 0)
        counts:incr("i:" .. tenant, tonumber(ngx.var.request_length), 0)
        counts:incr("o:" .. tenant, tonumber(ngx.var.bytes_sent), 0)
    end
end

return edge
