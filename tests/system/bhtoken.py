"""Keys and tokens as CONTRACTS.md says, from hashlib and hmac only: made independently of core/ so that
the two can disagree. Imported by the system tests and by tools/test-data.

Every uid is 16 bytes; keys are 32 bytes; times are Unix seconds.
"""
import base64
import hashlib
import hmac
import json
import struct
import time


def _hmac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(secret, salt, info, size=32):
    """HKDF-SHA256 (RFC 5869)."""
    prk = _hmac(salt, secret)
    out, block, n = b"", b"", 1
    while len(out) < size:
        block = _hmac(prk, block + info + bytes([n]))
        out, n = out + block, n + 1
    return out[:size]


def derive_server_key(master, install, server_uid, epoch):
    """K_server of one PostgreSQL server and key epoch."""
    return hkdf(master, install, b"bulkhead/v1/tenant\0" + server_uid + struct.pack(">I", epoch))


def database_key(server_key, database):
    """The key of one database."""
    return _hmac(server_key, database.encode())


def derive_user_cell_key(master, install, cell_uid, epoch):
    """K_user of one cell and key epoch."""
    return hkdf(master, install, b"bulkhead/v1/user\0" + cell_uid + struct.pack(">I", epoch))


def derive_hash_key(master, install, cell_uid):
    """K_hash of one cell."""
    return hkdf(master, install, b"bulkhead/v1/hash\0" + cell_uid)


def derive_seal_key(master, install, cell_uid):
    """K_seal of one cell."""
    return hkdf(master, install, b"bulkhead/v1/seal\0" + cell_uid)


def tenant_user_key(cell_key, tenant_uid, tenant_epoch):
    """The key of one tenant's user tokens."""
    return _hmac(cell_key, tenant_uid + struct.pack(">I", tenant_epoch))


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign_raw(key, header, payload):
    """A compact JWS of two texts, whatever they are."""
    signed = b64(header.encode()) + "." + b64(payload.encode())
    return signed + "." + b64(_hmac(key, signed.encode()))


def sign_tenant_token(key, kid, no, tenant, server="main", database="shared1", *, sub="u1", scope="",
                      use="req", ver=1, now=None, life=60, iat=None, exp=None):
    """A tenant token under the *database's* ${key}."""
    now = int(time.time()) if now is None else now
    iat = now if iat is None else iat
    exp = iat + life if exp is None else exp
    header = '{"alg":"HS256","kid":"%s","typ":"bh-tenant+jwt"}' % kid
    payload = ('{"aud":"%s/%s","exp":%d,"iat":%d,"no":%d,"scope":"%s","sub":"%s","tenant":"%s","use":"%s","ver":%d}'
               % (server, database, exp, iat, no, scope, sub, tenant, use, ver))
    return sign_raw(key, header, payload)


def sign_user_token(key, no, tenant_epoch, key_epoch, tenant, install, *, sub="u1", ttl=900, now=None,
                    header=None, **claims):
    """A user token under tenant_user_key(); ${install} is the install uid as text. Further claims override."""
    now = int(time.time()) if now is None else now
    head = {"alg": "HS256", "kid": "%d.%d.%d" % (no, tenant_epoch, key_epoch), "typ": "bh-user+jwt"}
    head.update(header or {})
    body = {"iss": "bulkhead", "aud": install, "tenant": tenant, "sub": sub, "iat": now, "exp": now + ttl}
    body.update(claims)
    dump = lambda value: json.dumps(value, separators=(",", ":"))
    return sign_raw(key, dump(head), dump(body))
