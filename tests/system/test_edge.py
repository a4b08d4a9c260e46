"""The edge against CONTRACTS.md "Edge": a real nginx with the module, raw bytes from outside, an echo application behind.

Every refusal stands beside a request that differs in one thing and passes.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import bhtoken  # noqa: E402
from edgefix import Echo, Edge, Tenant, decode, read_answer  # noqa: E402

PROBLEM = "application/problem+json"


@pytest.fixture(scope="module")
def edge():
    """Two workers, tenants acme (42) and globex (7) on one echo application."""
    edge = Edge(workers=2, edit=lambda text: text.replace("proxy_read_timeout 60s", "proxy_read_timeout 1s"))
    echo = edge.echo()
    edge.acme = Tenant(42, "acme", endpoints=[echo.endpoint])
    edge.globex = Tenant(7, "globex", endpoints=[echo.endpoint], tier="enterprise", database="t7")
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    edge.start()
    yield edge
    edge.stop()


@pytest.fixture
def fresh():
    """Edges of a test's own: fresh(...) makes one that is not started."""
    edges = []

    def make(**options):
        edges.append(Edge(**options))
        return edges[-1]

    yield make
    for edge in edges:
        edge.stop()


def ready(edge, *tenants):
    edge.write_keyring()
    edge.put(*tenants)
    return edge.start()


def received(answer):
    """What the application got, as {lower-case name: value}; a name twice is a failure."""
    assert answer.status == 200, answer
    headers = {}
    for name, value in answer.json()["headers"]:
        assert name.lower() not in headers, f"{name} reached the application twice"
        headers[name.lower()] = value
    return headers


def eventually(check, seconds=3):
    deadline = time.monotonic() + seconds
    while True:
        answer = check()
        if answer or time.monotonic() > deadline:
            return answer
        time.sleep(0.02)


# ---- headers to the application ----

def test_headers_to_the_application(edge):
    got = received(edge.ask(edge.acme, "/orders?x=1"))
    assert got.pop("host") == "acme.localhost"
    assert got.pop("x-tenant-id") == "acme"
    assert got.pop("x-scope-orgid") == "acme"
    assert got.pop("x-tenant-tier") == "standard"
    assert got.pop("x-bulkhead-database") == "shared1"
    assert got.pop("x-forwarded-for") == "127.0.0.1"
    assert got.pop("x-forwarded-proto") == "http"
    assert got.pop("x-forwarded-host") == "acme.localhost"
    assert got.pop("x-forwarded-port") == str(edge.port)
    assert re.fullmatch("[0-9a-f]{32}", got.pop("x-request-id"))
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", got.pop("traceparent"))
    assert got.pop("x-bulkhead-token")
    assert got == {}, "the application got more than it should"
    other = received(edge.ask(edge.globex))
    assert (other["x-tenant-tier"], other["x-bulkhead-database"]) == ("enterprise", "t7")


def test_tenant_token_is_exact(edge):
    """Byte for byte what an independent script signs under the database's own key."""
    before = int(time.time())
    for tenant, database in ((edge.acme, "shared1"), (edge.globex, "t7")):
        bearer = edge.bearer(tenant, sub="u-77", scope="orders:read orders:write")
        token = received(edge.get(tenant.id + ".localhost", "/x", bearer))["x-bulkhead-token"]
        claims = json.loads(decode(token)[1])
        assert before - 1 <= claims["iat"] <= time.time() and claims["exp"] == claims["iat"] + 60
        key = bhtoken.database_key(edge.keys.k_server(), database)
        assert token == bhtoken.sign_tenant_token(
            key, "main.1", tenant.no, tenant.id, "main", database, sub="u-77",
            scope="orders:read orders:write", ver=1, iat=claims["iat"])


def test_token_is_cached_with_its_verdict(edge):
    bearer = edge.bearer(edge.acme, sub="cached")
    with edge.connect() as sock:  # one connection: one worker
        tokens = set()
        for _ in range(5):
            sock.sendall(f"GET /x HTTP/1.1\r\nHost: acme.localhost\r\n{bearer}\r\n\r\n".encode())
            tokens.add(received(read_answer(sock))["x-bulkhead-token"])
    assert len(tokens) == 1
    # The same bytes at another tenant's door must not be found in the cache.
    for _ in range(10):
        assert edge.get("globex.localhost", "/x", bearer).code == "token-tenant-mismatch"


SPOOFED = """X-Tenant-ID: globex|X-Tenant-Tier: enterprise|X-Tenant-Anything: 1|x-tenant-id: globex|X-TENANT-ID: globex
X-Bulkhead-Token: forged|X-Bulkhead-Database: t7|X-Bulkhead-Token-reports: forged|X-Bulkhead-Database-reports: t7
X-Scope-OrgID: globex|x-scope-orgid: globex|Forwarded: for=6.6.6.6;host=evil|X-Original-URL: /admin|X-Original-Host: evil
X-Rewrite-URL: /admin|X-Forwarded-For: 6.6.6.6|X-Forwarded-Proto: https|X-Forwarded-Host: evil.example
X-Forwarded-Port: 1|X-Forwarded-Prefix: /evil|X-Forwarded-Server: evil|X-Forwarded-Ssl: on|X-Forwarded-Scheme: https
X_Tenant_ID: globex|X_Bulkhead_Token: forged|X_Scope_OrgID: globex|X_Forwarded_For: 6.6.6.6|X-Tenant_ID: globex
X-Request-Id: mine""".replace("\n", "|").split("|")


@pytest.mark.parametrize("line", SPOOFED)
def test_spoofed_header_is_stripped(edge, line):
    clean = received(edge.ask(edge.acme, "/orders"))
    got = received(edge.ask(edge.acme, "/orders", "X-Before: 1", line, "X-After: 2"))
    assert got.pop("x-before") == "1" and got.pop("x-after") == "2", "stripping took a neighbour along"
    changing = ("x-request-id", "traceparent", "x-bulkhead-token")
    assert all(line.split(": ")[1] != got[name] for name in changing)
    for name in changing:
        clean.pop(name), got.pop(name)
    assert got == clean


def test_all_spoofed_headers_at_once(edge):
    lines = []
    for i, line in enumerate(SPOOFED * 3):  # more than one part of nginx's header list
        lines += [line, f"X-Keep-{i}: {i}"] if i % 3 else [line]
    got = received(edge.get("acme.localhost", "/orders", *lines, edge.bearer(edge.acme), "X-Last: 1"))
    kept = {name: value for name, value in got.items() if name.startswith("x-keep-")}
    assert kept == {f"x-keep-{i}": str(i) for i in range(len(SPOOFED) * 3) if i % 3}
    assert got["x-last"] == "1" and got["x-tenant-id"] == "acme" and got["x-forwarded-for"] == "127.0.0.1"
    text = json.dumps([value for name, value in got.items() if name != "x-bulkhead-token"])
    for word in ("globex", "forged", "evil", "6.6.6.6", "/admin", "mine"):
        assert word not in text, word


def test_stripping_survives_underscores_in_headers_on(fresh):
    """Even where an operator lets underscores in, frameworks that take _ for - are not fooled."""
    edge = fresh(workers=1, edit=lambda text: text.replace("underscores_in_headers off", "underscores_in_headers on"))
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    ready(edge, acme)
    got = received(edge.ask(acme, "/x", "X_Tenant_ID: globex", "X_Bulkhead_Token: f", "X_Other: kept"))
    assert got.pop("x_other") == "kept"
    assert not [name for name in got if "_" in name]


def test_authorization_is_not_forwarded(edge):
    got = received(edge.ask(edge.acme, "/orders", "X-Last: 1"))
    assert "authorization" not in got and got["x-last"] == "1"
    got = received(edge.get("acme.localhost", "/", edge.bearer(edge.acme)))
    assert "authorization" not in got


def test_trace_context(edge):
    good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"
    got = received(edge.ask(edge.acme, "/x", f"traceparent: {good}", "tracestate: a=1"))
    assert got["traceparent"] == good and got["tracestate"] == "a=1"
    for bad in ("00-00000000000000000000000000000000-b7ad6b7169203331-00", good.upper(), good[:-1], good + "0",
                good.replace("b7ad6b7169203331", "0000000000000000"), "ff" + good[2:], "x"):
        got = received(edge.ask(edge.acme, "/x", f"traceparent: {bad}", "tracestate: a=1"))
        assert got["traceparent"] not in (bad, good) and "tracestate" not in got
        assert got["traceparent"][3:35] == got["x-request-id"]
    got = received(edge.ask(edge.acme, "/x", f"traceparent: {good}", f"traceparent: {good}"))
    assert got["traceparent"] != good


# ---- which tenant ----

@pytest.mark.parametrize("host", ["acme.localhost", "ACME.LocalHost", "acme.localhost:7080", "acme.localhost.",
                                  "acme.localhost.:1"])
def test_host_names_the_tenant(edge, host):
    got = received(edge.get(host, "/x", edge.bearer(edge.acme)))
    assert got["x-tenant-id"] == "acme" and got["host"] == "acme.localhost"
    assert got["x-forwarded-host"].split(":")[0] == "acme.localhost"


@pytest.mark.parametrize("host, status, code", [
    ("localhost", 400, "tenant-missing"), ("localhost:7080", 400, "tenant-missing"),
    ("127.0.0.1", 400, "tenant-missing"), ("127.0.0.1:7080", 400, "tenant-missing"),
    ("[::1]", 400, "tenant-missing"), ("[::1]:7080", 400, "tenant-missing"),
    ("nobody.localhost", 404, "tenant-unknown"), ("acme.example.com", 404, "tenant-unknown"),
    ("x.acme.localhost", 404, "tenant-unknown"), ("acmelocalhost", 404, "tenant-unknown"),
    ("acme.localhost.evil", 404, "tenant-unknown"), ("acme--x.localhost", 404, "tenant-unknown"),
    ("-acme.localhost", 404, "tenant-unknown"), ("a" * 60 + ".localhost", 404, "tenant-unknown"),
])
def test_host_that_names_none(edge, host, status, code):
    answer = edge.get(host, "/", edge.bearer(edge.acme))
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.all("RateLimit") == [] and answer.all("RateLimit-Policy") == []


def test_http10(edge):
    answer = edge.raw(b"GET / HTTP/1.0\r\n\r\n")
    assert (answer.status, answer.code) == (400, "tenant-missing")
    answer = edge.raw(b"GET / HTTP/1.0\r\nHost: acme.localhost\r\n\r\n")
    assert received(answer)["x-tenant-id"] == "acme"


def test_absolute_form(edge):
    bearer = edge.bearer(edge.acme)

    def ask(authority, host):
        return edge.raw(f"GET http://{authority}/x HTTP/1.1\r\nHost: {host}\r\n{bearer}\r\n\r\n".encode())

    for authority, host in (("acme.localhost", "acme.localhost"), ("ACME.localhost:7080", "acme.localhost"),
                            ("acme.localhost.", "acme.localhost:7080")):
        assert received(ask(authority, host))["x-tenant-id"] == "acme"
    for authority, host in (("globex.localhost", "acme.localhost"), ("acme.localhost", "globex.localhost"),
                            ("acme.localhost", "acme.localhost.evil"), ("localhost", "acme.localhost")):
        answer = ask(authority, host)
        assert (answer.status, answer.code) == (400, "tenant-conflict"), (authority, host, answer)


def test_header_is_never_a_disagreement(edge):
    got = received(edge.ask(edge.acme, "/x", "X-Tenant-ID: globex"))
    assert got["x-tenant-id"] == "acme"


@pytest.mark.parametrize("data", [
    b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: acme.localhost\r\nHost: globex.localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: \r\n\r\n", b"GET / HTTP/1.1\r\nHost: acme.localhost/x\r\n\r\n",
    b"GE<T / HTTP/1.1\r\nHost: acme.localhost\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    b"GET /%00 HTTP/1.1\r\nHost: acme.localhost\r\n\r\n", b"GET /../x HTTP/1.1\r\nHost: acme.localhost\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: acme.localhost\r\nX-Long: " + b"a" * 100000 + b"\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    b"POST / HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
], ids=lambda data: repr(data[:40]))
def test_what_nginx_refuses_is_a_problem_too(edge, data):
    answer = edge.raw(data)
    assert (answer.status, answer.code) == (400, "bad-request"), answer
    assert b"<html" not in answer.raw


def test_other_refusals_of_nginx(edge):
    long = b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\nHost: acme.localhost\r\n\r\n"
    assert (edge.raw(long).status, edge.raw(long).code) == (414, "bad-request")
    answer = edge.raw(b"TRACE / HTTP/1.1\r\nHost: acme.localhost\r\n\r\n")
    assert (answer.status, answer.code) == (405, "bad-request")
    answer = edge.raw(b"GET / HTTP/9.9\r\nHost: acme.localhost\r\n\r\n")
    assert (answer.status, answer.code) == (505, "bad-request")
    head = f"POST /x HTTP/1.1\r\nHost: acme.localhost\r\n{edge.bearer(edge.acme)}\r\nContent-Length: 99999999\r\n\r\n"
    answer = edge.raw(head.encode())
    assert (answer.status, answer.code) == (413, "bad-request")
    # The place where these are worded cannot be asked for.
    assert edge.ask(edge.acme, "/bulkhead-problem/").code == "bad-request"


# ---- credentials ----

def test_no_credential(edge):
    answer = edge.get("acme.localhost", "/orders")
    assert (answer.status, answer.code, answer.get("WWW-Authenticate")) == (401, "credential-missing", "Bearer")
    assert answer.all("RateLimit") == []
    assert edge.ask(edge.acme, "/orders").status == 200


def test_two_authorization_headers(edge):
    bearer = edge.bearer(edge.acme)
    for path in ("/orders", "/"):
        for second in (bearer, "Authorization: Basic eDp5", "authorization: "):
            answer = edge.get("acme.localhost", path, bearer, second)
            assert (answer.status, answer.code) == (400, "bad-request")
    assert edge.get("acme.localhost", "/orders", bearer).status == 200


@pytest.fixture(scope="module")
def forged(edge):
    """Credentials that are wrong in exactly one way each."""
    acme = edge.acme
    good = edge.token(acme)
    header, payload, mac = good.split(".")
    key = bhtoken.tenant_user_key(edge.keys.user(), acme.uid.bytes, 1)
    claims = json.loads(decode(good)[1])
    resign = lambda **change: bhtoken.sign_raw(key, decode(good)[0], json.dumps({**claims, **change}))
    rehead = lambda text: bhtoken.sign_raw(key, text, decode(good)[1])
    kid = json.loads(decode(good)[0])["kid"]
    flipped = "A" if mac[0] != "A" else "B"
    return {
        "garbage": "garbage", "two dots": "..", "empty parts": "a.b.c", "no mac": f"{header}.{payload}.",
        "mac of another": f"{header}.{payload}.{flipped}{mac[1:]}", "padded": good + "=",
        "cut": good[:-1], "long": "a" * 4097, "12 kB": "a" * 12000,
        "payload of another": f"{header}.{edge.token(acme, sub='root').split('.')[1]}.{mac}",
        "alg none": f"{bhtoken.b64(decode(good)[0].replace('HS256', 'none').encode())}.{payload}.",
        "alg HS512": rehead(decode(good)[0].replace("HS256", "HS512")),
        "typ": rehead(decode(good)[0].replace("bh-user+jwt", "JWT")),
        "crit": rehead(json.dumps({"alg": "HS256", "typ": "bh-user+jwt", "kid": kid, "crit": []})),
        "duplicate member": bhtoken.sign_raw(key, decode(good)[0], decode(good)[1][:-1] + ',"sub":"x"}'),
        "audience": resign(aud=str(edge.keys.cell)), "issuer": resign(iss="evil"),
        "audience list": resign(aud=[str(edge.keys.install)]),
        "float time": resign(exp=claims["exp"] + 0.5), "text time": resign(exp=str(claims["exp"])),
        "from the future": resign(iat=claims["iat"] + 100), "not before": resign(nbf=claims["iat"] + 100),
        "too long a life": resign(exp=claims["iat"] + 86401), "no life": resign(exp=claims["iat"]),
        "no sub": bhtoken.sign_raw(key, decode(good)[0], json.dumps({k: v for k, v in claims.items() if k != "sub"})),
        "sub with space": resign(sub="a b"), "sub with quote": resign(sub='a"b'), "empty sub": resign(sub=""),
        "scope with tab": resign(scope="a\tb"),
        "other tenant epoch": edge.token(acme, epoch=2), "other key epoch": edge.token(acme, key_epoch=9),
        "another installation's key": bhtoken.sign_user_token(b"\0" * 32, 42, 1, 1, "acme", str(edge.keys.install)),
        "unknown tenant number": bhtoken.sign_user_token(key, 999, 1, 1, "acme", str(edge.keys.install)),
        "tenant token": received(edge.ask(acme))["x-bulkhead-token"],
    }


FORGED = """garbage|two dots|empty parts|no mac|mac of another|padded|cut|long|12 kB|payload of another|alg none
alg HS512|typ|crit|duplicate member|audience|issuer|audience list|float time|text time|from the future|not before
too long a life|no life|no sub|sub with space|sub with quote|empty sub|scope with tab|other tenant epoch
other key epoch|another installation's key
unknown tenant number|tenant token""".replace("\n", "|").split("|")


def test_forgeries_are_all_named(forged):
    assert set(FORGED) == set(forged)


@pytest.mark.parametrize("name", FORGED)
def test_forged_credential(edge, forged, name):
    for path in ("/orders", "/"):
        answer = edge.get("acme.localhost", path, "Authorization: Bearer " + forged[name])
        assert answer.status == 401, answer
        assert answer.code == "token-invalid", answer
        assert answer.get("WWW-Authenticate").startswith("Bearer")
        assert answer.all("RateLimit") == []
    assert edge.ask(edge.acme, "/orders").status == 200


@pytest.mark.parametrize("line", ["Authorization: Basic eDp5", "Authorization:", "Authorization: Bearer",
                                  "Authorization: Bearer ", "Authorization: token x", "Authorization: Bearerx y"])
def test_not_a_bearer_token(edge, line):
    for path in ("/orders", "/"):
        answer = edge.get("acme.localhost", path, line)
        assert (answer.status, answer.code) == (401, "token-invalid"), answer
    token = edge.token(edge.acme)
    for good in (f"Authorization: bearer {token}", f"AUTHORIZATION:  BEARER  {token}"):
        assert edge.get("acme.localhost", "/orders", good).status == 200


def test_expired_and_other_tenant(edge):
    now = int(time.time())
    expired = edge.bearer(edge.acme, now=now - 100, ttl=60)
    answer = edge.get("acme.localhost", "/orders", expired)
    assert (answer.status, answer.code) == (401, "token-expired")
    leeway = edge.bearer(edge.acme, now=now - 60, ttl=58)
    assert edge.get("acme.localhost", "/orders", leeway).status == 200
    answer = edge.get("acme.localhost", "/orders", edge.bearer(edge.globex))
    assert (answer.status, answer.code) == (401, "token-tenant-mismatch")
    assert edge.get("globex.localhost", "/orders", edge.bearer(edge.globex)).status == 200
    for two in (edge.token(edge.globex, tenant="acme"), edge.token(edge.acme, tenant="globex")):
        answer = edge.get("acme.localhost", "/orders", "Authorization: Bearer " + two)
        assert (answer.status, answer.code) == (401, "token-tenant-mismatch"), "its key and its claim disagree"
    # Not all else is right: an expired one of another tenant, a forged one that is expired.
    both = edge.get("acme.localhost", "/orders", edge.bearer(edge.globex, now=now - 100, ttl=60))
    assert both.status == 401 and both.code in ("token-invalid", "token-expired")
    assert edge.get("acme.localhost", "/orders", expired[:-3] + "AAA").code == "token-invalid"


def test_cached_credential_expires(edge):
    bearer = edge.bearer(edge.acme, now=int(time.time()) - 57, ttl=54)  # ends in leeway, 2 s from now
    with edge.connect() as sock:
        def ask():
            sock.sendall(f"GET /x HTTP/1.1\r\nHost: acme.localhost\r\n{bearer}\r\n\r\n".encode())
            return read_answer(sock)
        assert ask().status == 200 and ask().status == 200
        answer = eventually(lambda: (lambda a: a if a.status == 401 else None)(ask()), 5)
        assert answer.code == "token-expired"


def test_more_credentials_than_the_cache_holds(fresh):
    """Entries are evicted and wiped under load, and nobody ever gets another's token."""
    edge = fresh(workers=1)
    tenants = [Tenant(n, f"t{n}", endpoints=[edge.echo().endpoint]) for n in (1, 2)]
    ready(edge, *tenants)
    key = [bhtoken.tenant_user_key(edge.keys.user(), tenant.uid.bytes, 1) for tenant in tenants]
    tokens = [bhtoken.sign_user_token(key[n % 2], n % 2 + 1, 1, 1, tenants[n % 2].id, str(edge.keys.install),
                                      sub=f"user-{n}") for n in range(17000)]
    with edge.connect() as sock:
        for n in [*range(17000), *range(0, 17000, 500)]:
            sock.sendall(f"GET /x HTTP/1.1\r\nHost: t{n % 2 + 1}.localhost\r\n"
                         f"Authorization: Bearer {tokens[n]}\r\n\r\n".encode())
            headers = dict(read_answer(sock).json()["headers"])
            claims = json.loads(decode(headers["X-Bulkhead-Token"])[1])
            assert (claims["sub"], claims["no"], claims["tenant"]) == (f"user-{n}", n % 2 + 1, f"t{n % 2 + 1}")


def test_large_token_is_refused_by_size(edge):
    answer = edge.get("acme.localhost", "/orders", "Authorization: Bearer " + "a" * 100000)
    assert (answer.status, answer.code) == (400, "bad-request")
    big = edge.token(edge.acme, padding="x" * 2200)  # unknown claims are ignored
    assert 3000 < len(big) <= 4096
    assert edge.get("acme.localhost", "/orders", "Authorization: Bearer " + big).status == 200


def test_anonymous_path(edge):
    for path in ("/", "/?a=/orders"):
        token = received(edge.get("acme.localhost", path))["x-bulkhead-token"]
        claims = json.loads(decode(token)[1])
        assert (claims["scope"], claims["sub"], claims["no"]) == ("anonymous", "anonymous", 42)
    key = bhtoken.database_key(edge.keys.k_server(), "shared1")
    assert token == bhtoken.sign_tenant_token(key, "main.1", 42, "acme", scope="anonymous", sub="anonymous",
                                              iat=claims["iat"])
    mine = received(edge.get("acme.localhost", "/", edge.bearer(edge.acme, sub="me")))["x-bulkhead-token"]
    assert json.loads(decode(mine)[1])["sub"] == "me" and json.loads(decode(mine)[1])["scope"] == ""
    answer = edge.get("acme.localhost", "/", edge.bearer(edge.globex))
    assert (answer.status, answer.code) == (401, "token-tenant-mismatch")
    assert edge.get("acme.localhost", "/", method="HEAD").status == 200


@pytest.mark.parametrize("path", ["/orders", "/index.html", "//", "/./", "/orders/..", "/orders/%2e%2e", "/%2e", "/;x"])
def test_only_the_exact_path_is_anonymous(edge, path):
    """The application gets the raw path: one that merely normalises to an anonymous one needs a credential."""
    assert edge.get("acme.localhost", path).code == "credential-missing"
    answer = edge.ask(edge.acme, path)
    assert answer.json()["line"] == f"GET {path} HTTP/1.1"


def test_problem_for_head(edge):
    answer = edge.get("acme.localhost", "/orders", method="HEAD")
    assert answer.status == 401 and answer.get("Content-Type") == PROBLEM and answer.body == b""


def test_problem_keeps_the_connection(edge):
    """The body of a refused request is read away: what follows is a request, not smuggled bytes."""
    with edge.connect() as sock:
        body = b"GET /evil HTTP/1.1\r\nHost: globex.localhost\r\n\r\n"
        sock.sendall(b"POST /orders HTTP/1.1\r\nHost: acme.localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert read_answer(sock).code == "credential-missing"
        sock.sendall(f"GET /x HTTP/1.1\r\nHost: acme.localhost\r\n{edge.bearer(edge.acme)}\r\n\r\n".encode())
        assert read_answer(sock).json()["line"] == "GET /x HTTP/1.1"


def test_bodies_pass(edge):
    body = os.urandom(300000)
    answer = edge.ask(edge.acme, "/orders", method="POST", body=body)
    assert answer.json()["body"].encode("latin-1") == body
    chunked = (f"POST /x HTTP/1.1\r\nHost: acme.localhost\r\n{edge.bearer(edge.acme)}\r\nTransfer-Encoding: chunked"
               "\r\n\r\n5\r\nhello\r\n0\r\nX-Tenant-ID: globex\r\n\r\n")
    answer = edge.raw(chunked.encode())
    assert answer.json()["body"] == "hello" and received(answer)["x-tenant-id"] == "acme"


# ---- the limit ----

def limit_of(answer):
    q, w = re.fullmatch(r'"default";q=(\d+);w=(\d+)', answer.get("RateLimit-Policy")).groups()
    r, t = re.fullmatch(r'"default";r=(\d+);t=(\d+)', answer.get("RateLimit")).groups()
    return int(q), int(w), int(r), int(t)


def make_tenant(edge, no, id, **fields):
    tenant = Tenant(no, id, endpoints=edge.acme.record["endpoints"], **fields)
    edge.put(tenant)
    return tenant


def test_limit_is_exact(edge):
    slow = make_tenant(edge, 100, "slow", rate=1, burst=5)
    start = time.monotonic()
    for left in (4, 3, 2, 1, 0):
        answer = edge.ask(slow)
        assert answer.status == 200 and limit_of(answer) == (5, 5, left, 1), answer
    answer = edge.ask(slow)
    assert time.monotonic() - start < 1, "the machine is too slow for this test"
    assert (answer.status, answer.code, limit_of(answer)) == (429, "rate-limited", (5, 5, 0, 1))
    assert answer.get("Retry-After") == "1"
    time.sleep(max(0, start + 1.05 - time.monotonic()))
    assert edge.ask(slow).status == 200
    assert edge.ask(slow).status == 429
    assert edge.ask(edge.acme).status == 200, "another tenant's limit is its own"


def test_bad_credentials_do_not_drain(edge):
    flooded = make_tenant(edge, 101, "flooded", rate=1, burst=3)
    for _ in range(30):
        assert edge.get("flooded.localhost", "/x", "Authorization: Bearer nonsense").status == 401
        assert edge.get("flooded.localhost", "/x", edge.bearer(edge.globex)).status == 401
    assert limit_of(edge.ask(flooded))[2] == 2


def test_limit_covers_anonymous_and_failed(edge):
    tenant = make_tenant(edge, 102, "mixed", rate=1, burst=9)
    assert limit_of(edge.get("mixed.localhost", "/"))[2] == 8
    answer = edge.ask(tenant, "/status/500")
    assert answer.status == 500 and limit_of(answer)[2] == 7
    answer = edge.ask(tenant, "/close")
    assert (answer.status, answer.code) == (502, "upstream-failed") and limit_of(answer)[2] == 6


def test_application_cannot_speak_for_the_limiter(edge):
    answer = edge.ask(edge.acme, "/header/RateLimit/forged")
    assert "forged" not in answer.get("RateLimit")
    assert edge.ask(edge.acme, "/header/X-Own/kept").get("X-Own") == "kept"


def test_applications_cannot_steer_nginx(edge):
    answer = edge.ask(edge.acme, "/header/X-Accel-Redirect/bulkhead-problem")
    assert answer.status == 200 and answer.json()["name"] == "echo"


def test_share_of_the_rate(edge):
    half = make_tenant(edge, 103, "half", rate=10, burst=20, share=500)
    assert limit_of(edge.ask(half))[:2] == (20, 4)
    least = make_tenant(edge, 104, "least", rate=1, burst=20, share=1)
    assert limit_of(edge.ask(least))[:2] == (20, 20)


def test_limit_is_shared_by_workers_and_exact_under_load(edge):
    tenant = make_tenant(edge, 105, "busy", rate=5, burst=60)
    line = f"GET /x HTTP/1.1\r\nHost: busy.localhost\r\n{edge.bearer(tenant)}\r\n\r\n".encode()
    codes = []

    def run():
        with edge.connect() as sock:
            for _ in range(40):
                sock.sendall(line)
                codes.append(read_answer(sock).status)

    start = time.monotonic()
    threads = [threading.Thread(target=run) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    elapsed = time.monotonic() - start
    assert len(codes) == 320 and set(codes) == {200, 429}
    passed = codes.count(200)
    assert 60 <= passed <= 60 + 5 * elapsed, (passed, elapsed)
    values = edge.settled(tenant, 320)
    assert (values["requests"], values["status_2xx"], values["limited"]) == (320, passed, 320 - passed)


# ---- upstream ----

def test_upstream_errors(edge):
    answer = edge.ask(edge.acme, "/slow/1500")
    assert (answer.status, answer.code) == (504, "upstream-timeout")
    dead = make_tenant(edge, 110, "dead")
    edge.change(dead, endpoints=[f"127.0.0.1:{edge.ports.take()}"])
    answer = edge.ask(dead)
    assert (answer.status, answer.code) == (502, "upstream-failed")
    for status in (404, 502, 503):  # the application's own answers pass as they are
        answer = edge.ask(edge.acme, f"/status/{status}")
        assert answer.status == status and answer.json()["name"] == "echo"


def test_endpoints_of_every_family(edge, tmp_path):
    port = edge.ports.take()
    path = f"/tmp/bh-echo-{os.getpid()}.sock"
    echoes = [Echo(("::1", port), "six"), Echo(path, "unix")]
    try:
        for number, (endpoint, name) in enumerate(((f"[::1]:{port}", "six"), (f"unix:{path}", "unix"))):
            tenant = make_tenant(edge, 120 + number, f"family{number}")
            edge.change(tenant, endpoints=[endpoint])
            for _ in range(3):
                assert edge.ask(tenant).json()["name"] == name
    finally:
        [echo.stop() for echo in echoes]
        os.unlink(path)


def test_endpoints_that_are_none(edge):
    for number, endpoints in enumerate(([], ["nonsense"], ["127.0.0.1:0"], ["unix:"], ["127.0.0.1:80 "])):
        tenant = make_tenant(edge, 130 + number, f"none{number}")
        edge.change(tenant, endpoints=endpoints)
        answer = edge.ask(tenant)
        assert (answer.status, answer.code) == (503, "not-ready"), endpoints


def test_several_endpoints(edge):
    first, second = edge.echo("first"), edge.echo("second")
    tenant = make_tenant(edge, 140, "pair")
    edge.change(tenant, endpoints=[first.endpoint, second.endpoint])
    names = [edge.ask(tenant).json()["name"] for _ in range(20)]
    assert names.count("first") >= 6 and names.count("second") >= 6, names
    first.stop()
    time.sleep(0.1)
    for _ in range(20):
        assert edge.ask(tenant).json()["name"] == "second"
    # One that breaks off in the middle: GET goes to the next, POST is never sent twice.
    third = edge.echo("third")
    edge.change(tenant, endpoints=[third.endpoint, third.endpoint])
    before = third.served
    assert edge.ask(tenant, "/close").status == 502 and third.served == before + 2
    before = third.served
    assert edge.ask(tenant, "/close", method="POST", body=b"x").status == 502 and third.served == before + 1


# ---- changes while it runs ----

def test_snapshot_changes_are_live(edge):
    tenant = make_tenant(edge, 150, "moving")
    assert edge.ask(tenant).status == 200
    elsewhere = edge.echo("elsewhere")
    edge.change(tenant, endpoints=[elsewhere.endpoint], database="shared2", tier="gold")
    got = edge.ask(tenant)
    assert got.json()["name"] == "elsewhere"
    headers = received(got)
    assert (headers["x-bulkhead-database"], headers["x-tenant-tier"]) == ("shared2", "gold")
    assert json.loads(decode(headers["x-bulkhead-token"])[1])["aud"] == "main/shared2"
    edge.change(tenant, state="suspended")
    assert (edge.ask(tenant).status, edge.ask(tenant).code) == (423, "tenant-suspended")
    edge.change(tenant, state="active")
    assert edge.ask(tenant).status == 200
    edge.remove(tenant)
    assert (edge.ask(tenant).status, edge.ask(tenant).code) == (404, "tenant-unknown")


def test_same_credential_after_a_change_of_database(edge):
    """A cached token must not outlive the place that it was made for."""
    tenant = make_tenant(edge, 151, "relocated")
    bearer = edge.bearer(tenant)
    for database in ("shared1", "shared2", "shared1"):
        edge.change(tenant, database=database)
        for _ in range(4):
            got = received(edge.get("relocated.localhost", "/x", bearer))
            assert json.loads(decode(got["x-bulkhead-token"])[1])["aud"] == f"main/{database}"


def test_epoch_revokes_at_once(edge):
    tenant = make_tenant(edge, 152, "revoked")
    old = edge.bearer(tenant)
    for _ in range(4):  # both workers have it in their caches
        assert edge.get("revoked.localhost", "/x", old).status == 200
    edge.change(tenant, epoch=2)
    for _ in range(4):
        assert edge.get("revoked.localhost", "/x", old).code == "token-invalid"
    token = received(edge.ask(tenant))["x-bulkhead-token"]
    assert json.loads(decode(token)[1])["ver"] == 2


def test_id_used_again_is_another_tenant(edge):
    first = make_tenant(edge, 153, "again")
    old = edge.bearer(first)
    assert edge.get("again.localhost", "/x", old).status == 200
    edge.remove(first)
    second = make_tenant(edge, 154, "again")
    answer = edge.get("again.localhost", "/x", old)
    assert (answer.status, answer.code) == (401, "token-invalid")
    claims = json.loads(decode(received(edge.ask(second))["x-bulkhead-token"])[1])
    assert claims["no"] == 154


def test_key_rotation_without_reload(fresh):
    edge = fresh(workers=2)
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    ready(edge, acme)
    kid = lambda: json.loads(decode(received(edge.ask(acme))["x-bulkhead-token"])[0])["kid"]
    old = edge.bearer(acme)
    assert kid() == "main.1" and edge.get("acme.localhost", "/x", old).status == 200
    edge.keys.user_epochs, edge.keys.server_epochs = [1, 2], [1, 2]
    edge.write_keyring(tell=True)
    for _ in range(6):
        assert kid() == "main.2"  # the newest that is valid
        assert edge.get("acme.localhost", "/x", old).status == 200
        assert edge.get("acme.localhost", "/x", edge.bearer(acme, key_epoch=2)).status == 200
    edge.keys.user_epochs = [2]
    edge.write_keyring(tell=True)
    for _ in range(6):
        assert edge.get("acme.localhost", "/x", old).code == "token-invalid"
        assert edge.get("acme.localhost", "/x", edge.bearer(acme, key_epoch=2)).status == 200
    # A broken file is no reason to stop: what was read before serves on.
    edge.write_keyring(text="install nonsense\n", tell=True)
    for _ in range(6):
        assert edge.get("acme.localhost", "/x", edge.bearer(acme, key_epoch=2)).status == 200
    assert "nonsense" not in edge.errors() and "keeps the keyring" in edge.errors()
    # No valid key of the server: not ready, and nothing else.
    edge.write_keyring(text=edge.keys.text(not_after=1000), tell=True)
    time.sleep(0.25)
    assert eventually(lambda: edge.ask(acme).status == 401)
    edge.write_keyring(tell=True)
    assert eventually(lambda: edge.get("acme.localhost", "/x", edge.bearer(acme, key_epoch=2)).status == 200)


# ---- not ready, and getting ready ----

def test_not_ready_and_recovery(fresh):
    edge = fresh(workers=2)
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    edge.start()

    def refused():
        answer = edge.ask(acme)
        assert (answer.status, answer.code) == (503, "not-ready"), answer
        return answer.json()["detail"]

    assert "snapshot" in refused()
    assert edge.get("localhost").code == "tenant-missing", "needs no snapshot"
    edge.put(acme)
    assert eventually(lambda: "keyring" in refused()), "each missing thing is named"
    edge.write_keyring()
    pids = edge.workers()
    assert eventually(lambda: all(edge.ask(acme).status == 200 for _ in range(8)), 2)
    assert edge.workers() == pids, "no restart was needed"


def test_snapshot_directory_is_replaced(fresh):
    edge = fresh(workers=1)
    echo = edge.echo()
    acme = Tenant(1, "acme", endpoints=[echo.endpoint], database="shared9")
    ready(edge, acme)
    assert edge.ask(acme).status == 200
    shutil.rmtree(edge.snapshot)
    globex = Tenant(2, "globex", endpoints=[edge.echo("new").endpoint], database="shared1")
    edge.put(globex)
    assert eventually(lambda: edge.ask(globex).status == 200)
    got = edge.ask(globex)
    assert got.json()["name"] == "new" and received(got)["x-bulkhead-database"] == "shared1"
    assert edge.ask(acme).code == "tenant-unknown"


def test_counters_file_is_replaced(fresh):
    edge = fresh(workers=1)
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    ready(edge, acme)
    assert edge.ask(acme).status == 200
    edge.counters_file.unlink()
    assert eventually(lambda: edge.ask(acme).status == 200 and edge.counters_file.exists())
    before = edge.counters(acme)["requests"]
    assert edge.ask(acme).status == 200
    assert edge.settled(acme, before + 1)["requests"] >= before + 1


def test_configuration_test_has_no_effects(fresh):
    edge = fresh()
    done = subprocess.run(edge.command("-t"), capture_output=True, text=True)
    assert done.returncode == 0 and "test is successful" in done.stderr, done.stderr
    assert os.listdir(edge.shm) == [] and not (edge.snapshot).exists()
    ready(edge, Tenant(1, "acme", endpoints=[edge.echo().endpoint]))
    assert edge.ask(edge.tenants["acme"]).status == 200
    assert sorted(os.listdir(edge.shm)) == ["counters", "counters.inflight"]


@pytest.mark.parametrize("broken", ["bulkhead_keyring", "bulkhead_snapshot", "bulkhead_counters",
                                    "bulkhead_base_domain"])
def test_incomplete_configuration_is_refused(fresh, broken):
    edge = fresh(edit=lambda text: re.sub(rf"\n\s*{broken} [^;]*;", "", text))
    done = subprocess.run(edge.command("-t"), capture_output=True, text=True)
    assert done.returncode != 0 and "needs bulkhead_snapshot" in done.stderr


# ---- counters ----

def test_counters_equal_what_was_sent(edge):
    tenant = make_tenant(edge, 160, "counted", rate=1, burst=6)
    host, bearer = "counted.localhost", edge.bearer(tenant)
    sent = received_bytes = 0

    def ask(path, *headers):
        nonlocal sent, received_bytes
        data = "\r\n".join([f"GET {path} HTTP/1.1", f"Host: {host}", *headers]).encode() + b"\r\n\r\n"
        answer = edge.raw(data)
        sent, received_bytes = sent + len(data), received_bytes + len(answer.raw)
        return answer.status

    statuses = [ask("/x", bearer), ask("/status/302", bearer), ask("/status/404", bearer), ask("/status/500", bearer),
                ask("/close", bearer), ask("/", ), ask("/x", bearer), ask("/x"), ask("/x", edge.bearer(edge.globex))]
    assert statuses == [200, 302, 404, 500, 502, 200, 429, 401, 401]
    eventually(lambda: edge.counters(tenant)["bytes_out"] >= received_bytes)  # bytes come with the log phase
    assert edge.settled(tenant, 9) == {
        "requests": 9, "status_2xx": 2, "status_3xx": 1, "status_4xx": 4, "status_5xx": 2, "denied": 2, "limited": 1,
        "bytes_in": sent, "bytes_out": received_bytes}
    edge.change(tenant, state="suspended")
    assert edge.ask(tenant).status == 423
    assert edge.settled(tenant, 10)["status_4xx"] == 5
    edge.remove(tenant)
    assert edge.ask(tenant).status == 404
    time.sleep(0.1)
    assert edge.counters(tenant)["requests"] == 10, "an unknown tenant has no counters"


def test_client_that_leaves_is_counted(edge):
    tenant = make_tenant(edge, 161, "leaver")
    with edge.connect() as sock:
        sock.sendall(f"GET /slow/600 HTTP/1.1\r\nHost: leaver.localhost\r\n{edge.bearer(tenant)}\r\n\r\n".encode())
        time.sleep(0.2)
    values = edge.settled(tenant, 1)
    assert (values["requests"], values["status_4xx"]) == (1, 1)


# ---- killed workers ----

def test_killed_worker(fresh):
    edge = fresh(workers=2)
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    ready(edge, acme)
    line = f"GET /x HTTP/1.1\r\nHost: acme.localhost\r\n{edge.bearer(acme)}\r\n\r\n".encode()
    acknowledged, broken, stop = [0] * 4, [0] * 4, threading.Event()

    def run(number):
        while not stop.is_set():
            try:
                with edge.connect() as sock:
                    while not stop.is_set():
                        sock.sendall(line)
                        answer = read_answer(sock)
                        if answer is None:
                            broken[number] += 1
                            break
                        assert answer.status == 200
                        acknowledged[number] += 1
            except OSError:
                broken[number] += 1

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    [thread.start() for thread in threads]
    kills = 0
    for _ in range(10):
        time.sleep(0.15)
        os.kill(edge.workers()[kills % 2], signal.SIGKILL)
        kills += 1
    time.sleep(0.3)
    stop.set()
    [thread.join() for thread in threads]
    total = sum(acknowledged)
    values = edge.settled(acme, total)
    assert total > 200 and sum(broken) >= 1, "the kills hit nobody"
    assert total <= values["requests"] <= total + sum(broken), (total, broken, values)
    assert len(edge.workers()) == 2


def test_many_kills_exhaust_nothing(fresh):
    """Each killed worker leaves a reader slot of LMDB behind; a sibling keeps the lock file from being made anew."""
    edge = fresh(workers=2)
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    ready(edge, acme)
    keeper = None

    def both_busy():
        for _ in range(6):
            assert edge.ask(acme).status == 200
        return True

    both_busy()
    for _ in range(130):
        victims = eventually(lambda: edge.workers() if len(edge.workers()) == 2 else None, 5)
        keeper = keeper if keeper in victims else victims[0]
        victim = [pid for pid in victims if pid != keeper][-1]
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: len(edge.workers()) == 2 and victim not in edge.workers(), 5)
        assert edge.ask(acme).status == 200
    both_busy()
    assert keeper in edge.workers() and "cannot be respawned" not in edge.errors()


def test_reload_keeps_counters_and_serves(fresh):
    edge = fresh(workers=2)
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint], rate=1, burst=100)
    ready(edge, acme)
    for _ in range(5):
        assert edge.ask(acme).status == 200
    before = set(edge.workers())
    edge.process.send_signal(signal.SIGHUP)
    assert eventually(lambda: not before & set(edge.workers()), 10)
    assert limit_of(edge.ask(acme))[2] <= 96, "the bucket is kept"
    assert edge.settled(acme, 6)["requests"] == 6


def test_access_log_names_the_refused(fresh):
    edge = fresh(workers=1)
    acme = Tenant(7, "acme", endpoints=[edge.echo().endpoint])
    ready(edge, acme)
    assert edge.ask(acme).status == 200
    problems = [edge.get("acme.localhost", "/orders"), edge.get("nobody.localhost", "/x"), edge.raw(b"nonsense\r\n\r\n")]
    log = edge.dir / "nginx/access.log"
    assert eventually(lambda: log.read_text().count("\n") >= 3, 5)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["tenant"], line["tenant_no"], line["code"], line["status"]) for line in lines] == [
        ("acme", "7", "credential-missing", 401), ("", "", "tenant-unknown", 404), ("", "", "bad-request", 400)]
    assert [line["request_id"] for line in lines] == [problem.json()["request_id"] for problem in problems]
