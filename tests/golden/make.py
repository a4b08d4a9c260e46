#!/usr/bin/python3
"""Writes the golden vectors of doc/contract/: tests/golden/make.py [--check]

Independent of the C code: hashlib, hmac, base64 and json of the standard library only, written
from the contract's text. The vectors are committed; --check writes nothing and fails where a
committed file differs. tests/unit/core/golden.c reads them with core's own JSON reader.

Bytes are lower-case hex; uids are UUID text; `expect` is "ok" or the slug of an error.
"""
import base64
import hashlib
import hmac
import json
import pathlib
import sys
import uuid

import gcm

HERE = pathlib.Path(__file__).resolve().parent
NOW = 1_790_000_000

MASTER = bytes(range(32))
INSTALL = "01890a5d-ac96-774b-bcce-b302099a8057"
SERVER = "01890a5d-ac96-774b-bcce-b302099a8058"
CELL = "01890a5d-ac96-774b-bcce-b302099a8059"
ACME = "01890a5d-ac96-774b-bcce-b302099a805a"    # no 42, epoch 3
GLOBEX = "01890a5d-ac96-774b-bcce-b302099a805b"  # no 7, epoch 1


def mac(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def hkdf(secret, salt, info, length=32):
    """RFC 5869."""
    prk, out, block = mac(salt, secret), b"", b""
    while len(out) < length:
        block = mac(prk, block + info + bytes([len(out) // 32 + 1]))
        out += block
    return out[:length]


def uid(text):
    return uuid.UUID(text).bytes


def be32(number):
    return number.to_bytes(4, "big")


def server_key(epoch, server=SERVER, master=MASTER, install=INSTALL):
    return hkdf(master, uid(install), b"bulkhead/v1/tenant\0" + uid(server) + be32(epoch))


def cell_key(epoch, cell=CELL, master=MASTER, install=INSTALL):
    return hkdf(master, uid(install), b"bulkhead/v1/user\0" + uid(cell) + be32(epoch))


def hash_key(cell=CELL, master=MASTER, install=INSTALL):
    """Names the documents of API keys; of a cell, without an epoch."""
    return hkdf(master, uid(install), b"bulkhead/v1/hash\0" + uid(cell))


def seal_key(cell=CELL, master=MASTER, install=INSTALL):
    """Seals what is secret in a document."""
    return hkdf(master, uid(install), b"bulkhead/v1/seal\0" + uid(cell))


def database_key(epoch, database, **who):
    return mac(server_key(epoch, **who), database.encode())


def tenant_key(key_epoch, tenant, tenant_epoch, **who):
    return mac(cell_key(key_epoch, **who), uid(tenant) + be32(tenant_epoch))


def b64(data):
    if isinstance(data, str):
        data = data.encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def jws(key, header, payload):
    signed = b64(header) + "." + b64(payload)
    return signed + "." + b64(mac(key, signed.encode()))


def keys():
    rows = []
    for master, install, name, epoch in [
        (MASTER, INSTALL, SERVER, 1), (MASTER, INSTALL, SERVER, 2), (MASTER, INSTALL, CELL, 1),
        (MASTER, INSTALL, SERVER, 0xFFFFFFFF), (bytes(32), SERVER, INSTALL, 0),
        (bytes([255] * 32), GLOBEX, ACME, 0x01020304),
    ]:
        rows.append({
            "master": master.hex(), "install": install, "name": name, "epoch": epoch,
            "server_key": server_key(epoch, name, master, install).hex(),
            "cell_key": cell_key(epoch, name, master, install).hex(),
            "hash_key": hash_key(name, master, install).hex(),
            "seal_key": seal_key(name, master, install).hex(),
            "databases": [
                {"database": d,
                 "key": database_key(epoch, d, server=name, master=master, install=install).hex()}
                for d in ("shared1", "shared2", "t42", "x")],
            "tenants": [
                {"tenant": t, "epoch": e,
                 "key": tenant_key(epoch, t, e, cell=name, master=master, install=install).hex()}
                for t, e in ((ACME, 1), (ACME, 2), (GLOBEX, 1), (GLOBEX, 0xFFFFFFFF))],
        })
    return {"derivations": rows}


# ---- tenant tokens

TENANT_KEY = database_key(1, "shared1")
TENANT_HEADER = '{"alg":"HS256","kid":"main.1","typ":"bh-tenant+jwt"}'
CLAIMS = {"aud": "main/shared1", "exp": NOW + 60, "iat": NOW, "no": 42, "scope": "", "sub": "u1",
          "tenant": "acme", "use": "req", "ver": 3}


def compact(members):
    return json.dumps(members, separators=(",", ":"), ensure_ascii=False)


def claims(**changes):
    return {**CLAIMS, **changes}


def tenant_token(payload, header=TENANT_HEADER, key=TENANT_KEY):
    return jws(key, header, payload if isinstance(payload, str) else compact(payload))


def valid_tenant_tokens():
    wide = "".join(chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"\\')
    rows = [
        ("plain", claims()),
        ("anonymous", claims(scope="anonymous", sub="anonymous")),
        ("several scopes", claims(scope="orders:read orders:write x")),
        ("every byte of the alphabet in sub and scope", claims(sub=wide, scope=wide)),
        ("longest sub and scope", claims(sub="s" * 255, scope="c" * 255)),
        ("job that lives for an hour", claims(use="job", exp=NOW + 3600)),
        ("request that lives for one second", claims(exp=NOW + 1)),
        ("issued five seconds ahead of this clock", claims(iat=NOW + 5, exp=NOW + 65)),
        ("four seconds past its end", claims(iat=NOW - 64, exp=NOW - 4)),
        ("highest numbers", claims(no=2**31 - 1, ver=2**32 - 1)),
        ("epoch zero", claims(ver=0)),
        ("longest tenant id", claims(tenant="a" * 48)),
    ]
    for name, members in rows:
        yield {"name": name, "token": tenant_token(members), "expect": "ok", "kid": "main.1",
               "claims": members}


def bent_payloads():
    """Correctly signed payloads that the contract does not allow."""
    plain = compact(claims())
    order = compact(dict(reversed(list(claims().items()))))
    long_server = "m" * 64 + "/shared1"
    yield "members in another order", order
    yield "white space after a colon", plain.replace('"exp":', '"exp": ')
    yield "white space around", " " + plain
    yield "newline at the end", plain + "\n"
    yield "further member", plain[:-1] + ',"x":1}'
    yield "duplicate member", plain.replace('"no":42', '"no":42,"no":43')
    yield "duplicate tenant", plain.replace('"tenant":"acme"', '"tenant":"acme","tenant":"evil"')
    yield "text after the object", plain + "}"
    yield "two objects", plain + plain
    yield "cut short", plain[:-1]
    yield "empty payload", ""
    yield "empty object", "{}"
    yield "array", "[]"
    for member in CLAIMS:
        less = claims()
        del less[member]
        yield f"without {member}", compact(less)
        yield f"{member} in capitals", plain.replace(f'"{member}":', f'"{member.upper()}":')
        yield f"{member} is null", compact(claims(**{member: None}))
        yield f"{member} is an array", compact(claims(**{member: [CLAIMS[member]]}))
        yield f"{member} is an object", compact(claims(**{member: {}}))
    for member in ("exp", "iat", "no", "ver"):
        number = CLAIMS[member]
        for name, text in [
            ("a string", f'"{number}"'), ("with a leading zero", f"0{number}"),
            ("with a plus", f"+{number}"), ("negative", f"-{number}"),
            ("with a fraction", f"{number}.0"), ("with an exponent", f"{number}e0"),
            ("huge", "9" * 30), ("beyond 64 bits", str(2**64 + number)), ("1e308", "1e308"),
            ("hexadecimal", hex(number)), ("empty", ""), ("true", "true"),
        ]:
            yield f"{member} {name}", plain.replace(f'"{member}":{number}', f'"{member}":{text}')
    yield "no is 0", compact(claims(no=0))
    yield "no beyond int32", compact(claims(no=2**31))
    yield "ver beyond uint32", compact(claims(ver=2**32))
    yield "exp beyond int64", compact(claims(exp=2**63))
    for name, text in [
        ("space", "a b"), ("escape", "a\\u0062"), ("quote", 'a\\"b'), ("backslash", "a\\\\b"),
        ("control byte", "a\x01b"), ("tab", "a\tb"), ("delete", "a\x7fb"), ("umlaut", "ä"),
        ("NUL", "a\0b"), ("emptiness", ""), ("256 bytes", "s" * 256),
    ]:
        yield f"sub with {name}", plain.replace('"sub":"u1"', f'"sub":"{text}"')
        if name not in ("space", "emptiness"):
            yield f"scope with {name}", plain.replace('"scope":""', f'"scope":"{text}"')
    for name, text in [("leading space", " a"), ("trailing space", "a "), ("two spaces", "a  b"),
                       ("a space only", " ")]:
        yield f"scope with {name}", plain.replace('"scope":""', f'"scope":"{text}"')
    for use in ("", "REQ", "requests", "jobs", "none", "j"):
        yield f"use {use!r}", compact(claims(use=use))
    for tenant in ("", "Acme", "-acme", "acme-", "a--b", "www", "1a", "a" * 49, "a.b", "a_b", "a b"):
        yield f"tenant {tenant!r}", compact(claims(tenant=tenant))
    for aud in ("", "/", "main", "main/", "/shared1", long_server, "main/" + "d" * 64):
        yield f"aud of a wrong form, {len(aud)} bytes {aud[:5]!r}", compact(claims(aud=aud))


def bent_headers():
    """Headers that the contract does not allow, under a right signature."""
    plain = TENANT_HEADER
    for alg in ("none", "None", "nOnE", "HS384", "HS512", "RS256", "ES256", "hs256", ""):
        yield f"alg {alg!r}", plain.replace("HS256", alg)
    for kid in ("../../dev/null", "main", "main.", ".1", "main.01", "main.-1", "main.1.", "main.x",
                "main.4294967296", "a/b.1", "", "x' OR '1'='1.1", "ma in.1", "m" * 62 + ".1",
                "main.1\\u0000", "main\0.1"):
        yield f"kid {kid[:20]!r}", plain.replace("main.1", kid)
    yield "typ of a user token", plain.replace("bh-tenant", "bh-user")
    yield "typ JWT", plain.replace("bh-tenant+jwt", "JWT")
    yield "members in another order", '{"typ":"bh-tenant+jwt","alg":"HS256","kid":"main.1"}'
    yield "white space", plain.replace(",", ", ")
    yield "crit", plain[:-1] + ',"crit":["exp"]}'
    for member in ("jku", "jwk", "x5u", "x5c", "b64", "cty", "zip"):
        yield f"further member {member}", plain[:-1] + f',"{member}":"x"' + "}"
    yield "duplicate alg", plain.replace('"alg":"HS256"', '"alg":"HS256","alg":"none"')
    yield "duplicate kid", plain.replace('"kid":"main.1"', '"kid":"main.1","kid":"main.1"')
    yield "no typ", '{"alg":"HS256","kid":"main.1"}'
    yield "empty object", "{}"
    yield "empty", ""


def next_digit(c):
    """The base64url digit that differs in the lowest bit only."""
    digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return digits[digits.index(c) ^ 1]


def bent_texts():
    """Texts that are no compact JWS, or not the canonical one."""
    good = tenant_token(claims())
    header, payload, tag = good.split(".")
    yield "empty", ""
    yield "garbage", "garbage"
    yield "dots only", ".."
    yield "two parts", header + "." + payload
    yield "empty signature", header + "." + payload + "."
    yield "four parts", good + "."
    yield "five parts, as in JWE", good + "." + tag + "." + tag
    yield "empty header", "." + payload + "." + tag
    yield "empty payload", header + ".." + tag
    yield "padded", good + "="
    yield "padded header", header + "==." + payload + "." + tag
    yield "unused bits of the signature not zero", good[:-1] + next_digit(good[-1])
    yield "white space before", " " + good
    yield "white space after", good + " "
    yield "newline after", good + "\n"
    yield "Bearer before", "Bearer " + good
    yield "signature too short", good[:-4]
    yield "signature too long", good + "AAAA"
    yield "signature of zeros", header + "." + payload + "." + b64(bytes(32))
    yield "digits of the other base64", header + "." + payload + "." + "+/" + tag[2:]
    yield "8 kB", header + "." + payload + "." + "A" * 8192
    yield "hexadecimal signature", header + "." + payload + "." + base64.urlsafe_b64decode(
        tag + "=").hex()


def refused_tenant_tokens():
    for name, payload in bent_payloads():
        yield name, tenant_token(payload)
    for name, header in bent_headers():
        yield f"header: {name}", tenant_token(claims(), header=header)
    yield from bent_texts()
    for name, members in [
        ("for another server", claims(aud="other/shared1")),
        ("for another database", claims(aud="main/shared2")),
        ("for a database whose name goes on", claims(aud="main/shared1/x")),
        ("six seconds ahead", claims(iat=NOW + 6, exp=NOW + 66)),
        ("ends when it begins", claims(exp=NOW)),
        ("ends before it begins", claims(exp=NOW - 1)),
        ("lives 61 s", claims(exp=NOW + 61)),
        ("job that lives 3601 s", claims(use="job", exp=NOW + 3601)),
        ("lives 61 s and has expired", claims(iat=NOW - 100, exp=NOW - 39)),
    ]:
        yield name, tenant_token(members)
    for name, key in [
        ("under the server's key", server_key(1)), ("under the next epoch's key",
         database_key(2, "shared1")), ("under another database's key", database_key(1, "shared2")),
        ("under the master", MASTER), ("under the key of zeros", bytes(32)), ("under no key", b""),
        ("under the cell's user key", cell_key(1)),
    ]:
        yield name, tenant_token(claims(), key=key)
    head, body, _ = tenant_token(claims()).split(".")
    evil = b64(compact(claims(no=43)))
    yield "payload of another, signature kept", head + "." + evil + "." + _
    sha = hashlib.sha256((head + "." + body).encode()).digest()
    yield "plain SHA-256 as signature", head + "." + body + "." + b64(sha)


def tokens():
    rows = list(valid_tenant_tokens())
    for name, token in refused_tenant_tokens():
        rows.append({"name": name, "token": token, "expect": "token-invalid"})
    for name, members in [
        ("five seconds past its end", claims(iat=NOW - 65, exp=NOW - 5)),
        ("a day past its end", claims(iat=NOW - 86460, exp=NOW - 86400)),
        ("job past its end", claims(use="job", iat=NOW - 3605, exp=NOW - 5)),
    ]:
        rows.append({"name": name, "token": tenant_token(members), "expect": "token-expired"})
    return {"key": TENANT_KEY.hex(), "server": "main", "database": "shared1", "now": NOW,
            "cases": rows}


# ---- user tokens

USER_KEYS = {(42, 3, 1): tenant_key(1, ACME, 3), (42, 2, 1): tenant_key(1, ACME, 2),
             (42, 3, 2): tenant_key(2, ACME, 3), (7, 1, 1): tenant_key(1, GLOBEX, 1)}
USER_HEADER = {"alg": "HS256", "kid": "42.3.1", "typ": "bh-user+jwt"}
USER_CLAIMS = {"iss": "bulkhead", "aud": INSTALL, "tenant": "acme", "sub": "u1", "iat": NOW,
               "exp": NOW + 900}


def user_token(payload=None, header=None, key=None, **changes):
    members = {**USER_CLAIMS, **changes}
    head = {**USER_HEADER, **(header or {})} if not isinstance(header, str) else header
    if key is None:
        key = USER_KEYS[42, 3, 1]
    return jws(key, head if isinstance(head, str) else compact(head),
               compact(members) if payload is None else payload)


def nested(levels):
    """A claim of so many levels, so that the outermost object makes one more."""
    return compact(USER_CLAIMS)[:-1] + ',"x":' + "[" * levels + "]" * levels + "}"


def good_user_tokens():
    plain = compact(USER_CLAIMS)
    yield "plain", user_token()
    yield "key epoch 2", user_token(header={"kid": "42.3.2"}, key=USER_KEYS[42, 3, 2])
    yield "with all that is optional", user_token(nbf=NOW - 1, roles=["a", "b"], scope="x y", jti="1")
    yield "unknown claims of any kind", user_token(x={"y": [1.5e3, None, True, "\u00e4"]})
    yield "unknown members of the header", user_token(header={"cty": "x", "x5t": 1})
    yield "white space and order are free", user_token(
        payload=json.dumps(dict(reversed(list(USER_CLAIMS.items()))), indent=2))
    yield "escapes are free", user_token(payload=plain.replace("acme", "\\u0061cme"))
    yield "empty roles, empty scope", user_token(roles=[], scope="")
    yield "lives for a day", user_token(exp=NOW + 86400)
    yield "lives for one second", user_token(exp=NOW + 1)
    yield "five seconds ahead", user_token(iat=NOW + 5, nbf=NOW + 5)
    yield "four seconds past its end", user_token(iat=NOW - 100, exp=NOW - 4)
    yield "sixteen levels", user_token(payload=nested(15))
    yield "longest sub", user_token(sub="s" * 255)


def bad_user_payloads():
    plain = compact(USER_CLAIMS)
    for member in USER_CLAIMS:
        less = dict(USER_CLAIMS)
        del less[member]
        yield f"without {member}", compact(less)
        yield f"{member} twice", plain[:-1] + f',"{member}":' + compact(USER_CLAIMS[member]) + "}"
        yield f"{member} twice, once escaped", (
            plain[:-1] + f',"\\u{ord(member[0]):04x}{member[1:]}":' +
            compact(USER_CLAIMS[member]) + "}")
        for kind, value in [("null", None), ("an array", [USER_CLAIMS[member]]), ("true", True),
                            ("an object", {"a": 1})]:
            yield f"{member} is {kind}", compact({**USER_CLAIMS, member: value})
    for member in ("iat", "exp", "nbf"):
        number = USER_CLAIMS.get(member, NOW)
        base = compact({**USER_CLAIMS, member: 987654321987})
        for name, text in [
            ("a string", f'"{number}"'), ("with a fraction", f"{number}.0"),
            ("with an exponent", f"{number}e0"), ("1e308", "1e308"), ("negative", f"-{number}"),
            ("beyond 64 bits", str(2**64 + number)), ("with a leading zero", f"0{number}"),
            ("with a plus", f"+{number}"), ("null", "null"), ("NaN", "NaN"),
        ]:
            yield f"{member} {name}", base.replace("987654321987", text)
    for name, changes in [
        ("another iss", {"iss": "keycloak"}), ("another installation", {"aud": CELL}),
        ("aud in capitals", {"aud": INSTALL.upper()}), ("tenant a number", {"tenant": 42}),
        ("tenant in capitals", {"tenant": "Acme"}), ("tenant reserved", {"tenant": "www"}),
        ("tenant empty", {"tenant": ""}), ("sub a number", {"sub": 1}), ("sub empty", {"sub": ""}),
        ("sub with a space", {"sub": "a b"}), ("sub with a quote", {"sub": 'a"b'}),
        ("sub with a newline", {"sub": "a\nb"}), ("sub with an umlaut", {"sub": "\u00e4"}),
        ("sub too long", {"sub": "s" * 256}), ("roles a string", {"roles": "a"}),
        ("roles of numbers", {"roles": [1]}), ("roles null", {"roles": None}),
        ("scope an array", {"scope": ["a"]}), ("scope null", {"scope": None}),
        ("scope with two spaces", {"scope": "a  b"}), ("scope with a quote", {"scope": 'a"'}),
        ("scope too long", {"scope": "s" * 256}), ("nbf ahead", {"nbf": NOW + 6}),
        ("iat ahead", {"iat": NOW + 6}), ("ends when it begins", {"exp": NOW}),
        ("ends before it begins", {"iat": NOW, "exp": NOW - 1}),
        ("lives a day and a second", {"exp": NOW + 86401}),
        ("lives too long and has expired", {"iat": NOW - 90000, "exp": NOW - 3000}),
    ]:
        yield name, compact({**USER_CLAIMS, **changes})
    yield "seventeen levels", nested(16)
    yield "a thousand levels", nested(1000)
    yield "no object", compact([USER_CLAIMS])
    yield "empty", ""
    yield "NUL in an unknown claim", plain[:-1] + ',"x":"a\\u0000"}'
    yield "raw NUL", plain[:-1] + ',"x":"a\0"}'
    yield "lone surrogate", plain[:-1] + ',"x":"\\ud800"}'
    yield "trailing comma", plain[:-1] + ",}"
    yield "text after", plain + "x"
    yield "comment", plain[:-1] + "/**/}"
    yield "single quotes", plain.replace('"', "'")
    yield "byte-order mark", "\ufeff" + plain


def bad_user_headers():
    plain = compact(USER_HEADER)
    for alg in ("none", "None", "nOnE", "HS384", "HS512", "RS256", "ES256", "EdDSA", "hs256", ""):
        yield f"alg {alg!r}", compact({**USER_HEADER, "alg": alg})
    for kid in ("", "42", "42.3", "42.3.1.0", "0.3.1", "-42.3.1", "042.3.1", "42.03.1", "42.3.01",
                "42.3.", ".3.1", "2147483648.3.1", "42.4294967296.1", "42.3.4294967296", "42.3.1 ",
                "../../dev/null", "main.1", "' OR 1=1 --", "9.1.1", "42.4.1", "42.3.3"):
        yield f"kid {kid!r}", compact({**USER_HEADER, "kid": kid})
    yield "kid a number", compact({**USER_HEADER, "kid": 42})
    yield "typ JWT", compact({**USER_HEADER, "typ": "JWT"})
    yield "typ of a tenant token", compact({**USER_HEADER, "typ": "bh-tenant+jwt"})
    for crit in (["exp"], [], None, "", False):
        yield f"crit {crit!r}", compact({**USER_HEADER, "crit": crit})
    for member in USER_HEADER:
        less = dict(USER_HEADER)
        del less[member]
        yield f"no {member}", compact(less)
        yield f"{member} twice", plain[:-1] + f',"{member}":"{USER_HEADER[member]}"' + "}"
    yield "unknown member twice", plain[:-1] + ',"x":1,"x":1}'
    yield "array", "[" + plain + "]"
    yield "text after", plain + " x"


def bad_user_texts():
    good = user_token()
    header, payload, tag = good.split(".")
    yield "empty", ""
    yield "two parts", header + "." + payload
    yield "empty signature", header + "." + payload + "."
    yield "four parts", good + "."
    yield "padded", good + "="
    yield "unused bits not zero", good[:-1] + next_digit(good[-1])
    yield "signature of zeros", header + "." + payload + "." + b64(bytes(32))
    yield "truncated signature", good[:-4]
    yield "white space", good + " "
    yield "8 kB", header + "." + b64("x" * 6000) + "." + tag
    yield "payload of another", header + "." + b64(compact({**USER_CLAIMS, "sub": "root"})) + "." + tag
    yield "tenant token", tenant_token(claims())


def user_tokens():
    rows = [{"name": n, "token": t, "expect": "ok"} for n, t in good_user_tokens()]

    def refuse(slug, cases):
        rows.extend({"name": n, "token": t, "expect": slug} for n, t in cases)

    other = USER_KEYS[7, 1, 1]
    refuse("token-invalid", ((n, user_token(payload=p)) for n, p in bad_user_payloads()))
    refuse("token-invalid", ((f"header: {n}", user_token(header=h)) for n, h in bad_user_headers()))
    refuse("token-invalid", bad_user_texts())
    refuse("token-invalid", [
        ("revoked epoch", user_token(header={"kid": "42.2.1"}, key=USER_KEYS[42, 2, 1])),
        ("key of another tenant under our kid", user_token(key=other)),
        ("our key under another tenant's kid", user_token(header={"kid": "7.1.1"})),
        ("key of the cell", user_token(key=cell_key(1))),
        ("empty key", user_token(key=b"")),
        ("4097 bytes", pad_user_token(4097)),
        ("another tenant's and expired", user_token(
            header={"kid": "7.1.1"}, key=other, tenant="globex", iat=NOW - 900, exp=NOW - 5)),
        ("another tenant's and of another installation", user_token(
            header={"kid": "7.1.1"}, key=other, tenant="globex", aud=CELL)),
    ])
    rows.append({"name": "4096 bytes", "token": pad_user_token(4096), "expect": "ok"})
    refuse("token-expired", [
        ("five seconds past its end", user_token(iat=NOW - 905, exp=NOW - 5)),
        ("long past its end", user_token(iat=NOW - 10**6, exp=NOW - 10**6 + 900)),
    ])
    refuse("token-tenant-mismatch", [
        ("another tenant's", user_token(header={"kid": "7.1.1"}, key=other, tenant="globex")),
        ("another tenant's kid, our id", user_token(header={"kid": "7.1.1"}, key=other)),
        ("our kid, another id", user_token(tenant="globex")),
    ])
    return {
        "keys": [{"no": n, "tenant_epoch": e, "key_epoch": k, "key": key.hex()}
                 for (n, e, k), key in USER_KEYS.items()],
        "install": INSTALL, "tenant": "acme", "no": 42, "tenant_epoch": 3, "now": NOW,
        "cases": rows,
        "signed": {"kid": [42, 3, 1], "sub": "u1", "scope": "a b", "iat": NOW, "exp": NOW + 900,
                   "token": user_token(scope="a b")},
    }


def pad_user_token(size):
    """A valid token of exactly so many bytes, by an unknown claim and an unknown header member."""
    for extra in range(3):
        head = compact({**USER_HEADER, "x": "x" * extra})
        for fill in range(2000, 3200):
            token = user_token(header=head, x="x" * fill)
            if len(token) == size:
                return token
    raise SystemExit(f"no user token has {size} bytes")


# ---- bucket

class Leaky:
    """The same law as a leaky bucket: it fills by a step for each request, and leaks 1 ns a ns."""

    def __init__(self, rate, burst):
        self.step = -(-10**9 // rate)
        self.burst, self.level, self.at = burst, 0, 0

    def request(self, now):
        self.level = max(0, self.level - (now - self.at))
        self.at = now
        allowed = self.level + self.step <= self.burst * self.step
        if allowed:
            self.level += self.step
        left = 0
        while self.level + (left + 1) * self.step <= self.burst * self.step:
            left += 1
        wait = self.level + (left + 1) * self.step - self.burst * self.step
        seconds = 0 if left == self.burst else -(-wait // 10**9)
        return {"now": now, "allowed": allowed, "left": left, "next_s": seconds}


def buckets():
    rows = []
    state = 1
    for rate, burst in [(1, 1), (1, 5), (3, 3), (7, 2), (100, 200), (1000, 10), (999_999, 3),
                        (1_000_000, 50), (2, 1)]:
        bucket, now, steps = Leaky(rate, burst), 10**12, []
        for i in range(120):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            pause = (state >> 33) % (2 * 10**9 // rate + 1)
            now += 0 if i < 12 else pause * (20 if i % 37 == 0 else 1)
            steps.append(bucket.request(now))
        rows.append({"rate": rate, "burst": burst, "steps": steps})
    return {"sequences": rows}


# ---- host names

def hosts():
    rows = []

    def add(expect, *names, base="localhost"):
        for name in names:
            raw = name if isinstance(name, bytes) else name.encode()
            rows.append({"base": base, "host_hex": raw.hex(), "expect": expect})

    add("acme", "acme.localhost", "ACME.localhost", "acme.LocalHost", "acme.localhost:7080",
        "acme.localhost.", "acme.localhost.:7080", "acme.localhost:", "acme.localhost:x",
        "acme.localhost:0", "AcMe.LOCALHOST.:7080")
    add("acme", "acme.example.co.uk", "acme.example.co.uk.:1", base="example.co.uk")
    add("a", "a.localhost")
    add("a" * 48, "a" * 48 + ".localhost")
    add("a-1", "a-1.localhost")
    add("tenant-missing", "", ":", ":80", ".", ".:80", "localhost", "localhost.", "localhost:7080",
        "LOCALHOST", "127.0.0.1", "127.0.0.1:7080", "127.0.0.1.", "0.0.0.0", "255.255.255.255:1",
        "[::1]", "[::1]:7080", "[fe80::1]:80", "[::ffff:127.0.0.1]", "[::1]:")
    add("tenant-missing", "example.co.uk", "example.co.uk.:80", base="example.co.uk")
    add("tenant-unknown", "acme", "acme.example.com", "acme.localhost.example.com",
        "a.acme.localhost", ".localhost", "..localhost", "acme..localhost", "acme.localhost..",
        "acmelocalhost", "xlocalhost", "acme.localhost:1:2", "www.localhost", "API.localhost",
        "t.localhost", "default.localhost", "bulkhead.localhost", "1a.localhost", "-a.localhost",
        "a-.localhost", "a--b.localhost", "xn--mnchen-3ya.localhost", "a_b.localhost",
        "a b.localhost", " acme.localhost", "acme.localhost ", "a" * 49 + ".localhost",
        "127.0.0.1.localhost", "1.2.3", "256.1.1.1", "1.2.3.4.5", "127.1", "0x7f.0.0.1", "::1",
        "[::1", "::1]", "[]", "[acme.localhost]", "[::1].localhost", "[::1]x", "[::1]:80:80",
        "[::1%lo]", "acme.localhost/", "acme.localhost\\", "acme%2elocalhost", "user@acme.localhost",
        "*.localhost", "acme,globex.localhost", "acme\u3002localhost", "\u00e4.localhost",
        "x" * 300, "acme.localhost#", "acme.localhost?x")
    add("tenant-unknown", b"acme\0.localhost", b"acme.localhost\0", b"acme.localhost\0.evil.com",
        b"127.0.0.1\0", b"\xff.localhost", b"acme.localhost\r\nX: y", b"acme\t.localhost")
    add("tenant-unknown", "acme.localhost", "acme.co.uk", "acme.xexample.co.uk",
        base="example.co.uk")
    return {"cases": rows}


# ---- sealed secrets

def seals():
    rows = []

    def add(expect, plain=b"secret", name="certificate/shop.example", opened_as=None, edit=lambda raw: raw, text=None,
            key=seal_key()):
        nonce = hashlib.sha256(bytes([len(rows)])).digest()[:12]
        sealed = text if text is not None else b64(edit(gcm.seal(seal_key(), nonce, name.encode(), plain)))
        rows.append({"key": key.hex(), "nonce": nonce.hex(), "name": opened_as or name, "plain_hex": plain.hex(),
                     "sealed": sealed, "expect": expect})

    for length in (0, 1, 15, 16, 17, 48, 138, 1218):
        add("ok", bytes(i * 7 % 256 for i in range(length)))
    add("ok", name="certificate/*.example")
    add("ok", name="x")
    add("invalid", opened_as="certificate/globex.example")
    add("invalid", opened_as="certificate/shop.example.")
    add("invalid", key=hash_key())
    for at in (0, 11, 12, 17, 18, 33):  # nonce, ciphertext, tag
        add("invalid", edit=lambda raw: raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1:])
    for cut in (0, 1, 12, 27, 28, 33):
        add("invalid", edit=lambda raw: raw[:cut])
    add("invalid", edit=lambda raw: raw + b"\0")
    add("invalid", edit=lambda raw: raw[:-16] + bytes(16))
    add("invalid", text="not+base64url/==")
    add("invalid", text="A" * 30000)
    return {"cases": rows}


def write(value, depth=0):
    """JSON with a line for each row, so that a diff shows which one changed."""
    if depth < 2 and isinstance(value, dict):
        rows, edges = [f"{json.dumps(k)}: {write(v, depth + 1)}" for k, v in value.items()], "{}"
    elif depth < 2 and isinstance(value, list):
        rows, edges = [write(v, depth + 1) for v in value], "[]"
    else:
        return json.dumps(value)
    return edges[0] + "\n" + ",\n".join(rows) + "\n" + edges[1]


def main():
    check = sys.argv[1:] == ["--check"]
    stale = []
    for name, vectors in [("keys", keys()), ("token", tokens()), ("usertoken", user_tokens()),
                          ("bucket", buckets()), ("host", hosts()), ("seal", seals())]:
        path = HERE / f"{name}.json"
        text = write(vectors) + "\n"
        if check and (not path.exists() or path.read_text() != text):
            stale.append(path.name)
        if not check:
            path.write_text(text)
    if stale:
        print("golden: differ from make.py:", *stale)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
