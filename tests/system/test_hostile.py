"""Hostile requests as raw bytes, and what of them reached an application.

Each case differs from a good request of acme's user in what it names; the good one is the control and
is sent beside it.  Whatever nginx makes of the bytes: only acme's application may hear of them, as acme.
"""
import json
import os
import socket
import time

import pytest

import bhtoken
import nginxversion
from edgefix import Answer, Echo, Edge, Tenant, decode, read_answer

SILENCE_S = float(os.environ.get("BULKHEAD_TEST_SILENCE", "0.06"))
IDENTITY = ("x-tenant-id", "x-tenant-tier", "x-scope-orgid", "x-bulkhead-token", "x-bulkhead-database", "x-request-id",
            "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port", "traceparent", "host")


class Recorder(Echo):
    """An echo that remembers what arrived: (request line, [[name, value]…], body)."""

    def __init__(self, address, name):
        self.seen = []
        super().__init__(address, name)

    def _answer(self, client, line, headers, body):
        self.seen.append((line, headers, body))
        return super()._answer(client, line, headers, body)


@pytest.fixture(scope="module")
def edge():
    edge = Edge(workers=1)
    for no, id in ((42, "acme"), (7, "globex")):
        port = edge.ports.take()
        echo = Recorder(("127.0.0.1", port), id)
        edge.echoes.append(echo)
        tenant = Tenant(no, id, endpoints=[f"127.0.0.1:{port}"], database="shared1" if id == "acme" else "t7")
        setattr(edge, id, tenant)
        setattr(edge, f"{id}_app", echo)
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    edge.start()
    yield edge
    left = [edge.until_in_flight(tenant, 0, 15) for tenant in (edge.acme, edge.globex)]
    errors = edge.errors()
    edge.stop()
    assert left == [0, 0], "requests in flight that nobody has"
    assert "signal" not in errors, f"a worker died:\n{errors}"


def exchange(edge, data):
    """Send bytes; all that comes before the end, or before a silence after the first answer."""
    received = b""
    with edge.connect() as sock:
        sock.sendall(data)
        try:
            while part := sock.recv(65536):
                received += part
                sock.settimeout(SILENCE_S)
        except (TimeoutError, ConnectionResetError):
            pass
    return received


def answers(data):
    """The answers in a row of bytes; one without a status line (HTTP/0.9) has status 0."""
    found = []
    while data:
        answer = Answer(data)
        rest = answer.body
        if answer.status == 0:
            return found + [answer]
        length = int(answer.get("Content-Length") or 0)
        answer.body, data = rest[:length], rest[length:]
        found.append(answer)
    return found


def build(edge, method="GET", target="/orders", version="HTTP/1.1", host="acme.localhost", auth="Bearer {token}",
          extra=(), body="", end="\r\n", host_line="Host: {host}", auth_line="Authorization: {auth}"):
    token = edge.good_token
    lines = [f"{method} {target} {version}" if version else f"{method} {target}"]
    if host is not None:
        lines.append(host_line.replace("{host}", host))
    if auth is not None:
        lines.append(auth_line.replace("{auth}", auth))
    lines += extra
    text = end.join(lines) + end + end + body
    for name, value in edge.words.items():
        text = text.replace("{%s}" % name, value)
    return text.replace("{token}", token).encode("latin-1")


@pytest.fixture(scope="module")
def words(edge):
    """What cases may name in braces."""
    edge.good_token = good = edge.token(edge.acme)
    header, payload, mac = good.split(".")
    key = bhtoken.tenant_user_key(edge.keys.user(), edge.acme.uid.bytes, 1)
    other = bhtoken.tenant_user_key(edge.keys.user(), edge.globex.uid.bytes, 1)
    none = bhtoken.b64(decode(good)[0].replace("HS256", "none").encode())
    globex_head = decode(edge.token(edge.globex))[0]
    tail = "A" if mac[-9] != "A" else "B"
    edge.words = {
        "globex_token": edge.token(edge.globex), "none": f"{none}.{payload}.", "none_signed": f"{none}.{payload}.{mac}",
        "kid_of_globex": bhtoken.sign_raw(key, globex_head, decode(good)[1]),
        "kid_and_key_of_globex": bhtoken.sign_raw(other, globex_head, decode(good)[1]),
        "old_epoch": edge.token(edge.acme, epoch=0), "same_tail": f"{header}.{payload}.{mac[:-9]}{tail}{mac[-8:]}",
        "other_payload_same_tail": f"{header}.{edge.token(edge.acme, sub='root').split('.')[1]}.{mac}",
        "expired": edge.token(edge.acme, iat=int(time.time()) - 1000, exp=int(time.time()) - 100),
        "port": str(edge.port), "long": "a" * 12000, "huge": "a" * 70000,
    }
    return edge.words


def check_arrivals(edge, start):
    """What came to acme's application since, each as acme; nothing came to globex's."""
    assert edge.globex_app.seen[start[1]:] == [], "another tenant's application got it"
    arrived = edge.acme_app.seen[start[0]:]
    for line, headers, _ in arrived:
        got = {}
        for name, value in headers:
            got.setdefault(name.lower().replace("_", "-"), []).append(value)
        for name in IDENTITY:
            assert len(got.get(name, [])) == 1, f"{name}: {got.get(name)} in {line}"
        one = {name: got[name][0] for name in IDENTITY}
        claims = json.loads(decode(one["x-bulkhead-token"])[1])
        assert (claims["tenant"], claims["no"], claims["aud"]) == ("acme", 42, "main/shared1")
        assert claims["scope"] in ("", "anonymous") and (claims["scope"] == "") == (claims["sub"] != "anonymous")
        assert one["x-tenant-id"] == one["x-scope-orgid"] == "acme" and one["host"] == "acme.localhost"
        assert one["x-bulkhead-database"] == "shared1" and one["x-forwarded-for"] == "127.0.0.1"
        assert one["x-forwarded-host"].split(":")[0] == "acme.localhost" and one["x-forwarded-proto"] == "http"
        assert not {"authorization", "upgrade", "te", "keep-alive", "transfer-encoding",
                    "forwarded"} & set(got), got
        assert not [name for name in got if name.startswith(("x-tenant-", "x-bulkhead-", "x-forwarded-", "x-original-",
                                                            "x-rewrite-")) and name not in IDENTITY]
        assert "connection" not in got, got["connection"]
    return arrived


def attempt(edge, data):
    start = len(edge.acme_app.seen), len(edge.globex_app.seen)
    got = answers(exchange(edge, data))
    return got, check_arrivals(edge, start)


def refused(status, code, **parts):
    return parts, [(status, code)], []


def passes(line="GET /orders HTTP/1.1", arrives=b"", **parts):
    return parts, [(200, None)], [(line, arrives)]


CHUNKED = ["Transfer-Encoding: chunked"]
INSIDE = "GET /smuggled HTTP/1.1\r\nHost: globex.localhost\r\n\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: globex.localhost\r\nAuthorization: Bearer {globex_token}\r\n\r\n"


def post(*extra, body="", **parts):
    return {"method": "POST", "extra": list(extra), "body": body, **parts}


CASES = {
    # ---- headers that outsiders may not say ----
    "spoof twice": passes(extra=["X-Tenant-ID: globex", "X-Tenant-ID: globex", "x-tenant-id: globex"]),
    "spoof after a tab": passes(extra=["X-Tenant-ID:\tglobex", "X-Bulkhead-Token:\t{globex_token}"]),
    "spoof without value": passes(extra=["X-Tenant-ID:", "X-Bulkhead-Token:", "X-Scope-OrgID: "]),
    "spoof with underscores": passes(extra=["X_Tenant_ID: globex", "X-Bulkhead_Token: {globex_token}", "HTTP_X_TENANT_ID: x"]),
    "spoof with dots": passes(extra=["X.Tenant.ID: globex", "X-Bulkhead.Token: x"]),
    "spoof with a space before the colon": refused(400, "bad-request", extra=["X-Tenant-ID : globex"]),
    "spoof folded": refused(400, "bad-request", extra=["X-Fold: a\r\n X-Tenant-ID: globex"]),
    "spoof behind a bare LF": passes(extra=["X-A: 1\nX-Tenant-ID: globex\nX-Bulkhead-Token: x"]),
    "spoof behind a bare CR": refused(400, "bad-request", extra=["X-A: 1\rX-Tenant-ID: globex"]),
    "spoof behind a NUL": refused(400, "bad-request", extra=["X-A: 1\0X-Tenant-ID: globex"]),
    "spoof as trailer": passes("POST /orders HTTP/1.1", b"ab", **post(
        *CHUNKED, "Trailer: X-Bulkhead-Token", body="2\r\nab\r\n0\r\nX-Bulkhead-Token: x\r\nX-Tenant-ID: globex\r\n\r\n")),
    "hop-by-hop token": passes(extra=["Connection: keep-alive, X-Bulkhead-Token, X-Tenant-ID, X-Bulkhead-Database"]),
    "hop-by-hop authorization": passes(extra=["Connection: Authorization, Host"]),
    "all of X-Forwarded": passes(extra=[f"X-Forwarded-{name}: evil" for name in (
        "For", "Proto", "Host", "Port", "Prefix", "Server", "Ssl", "Scheme", "By", "Uri", "Client-Cert")]),
    "forwarded by others": passes(extra=["Forwarded: for=evil;host=globex.localhost", "X-Original-URL: /admin",
                                         "X-Rewrite-URL: /admin", "X-Original-Host: globex.localhost"]),
    "two traces": passes(extra=["traceparent: 00-" + "1" * 32 + "-" + "2" * 16 + "-01"] * 2 + ["tracestate: evil=1"]),
    "200 spoofed headers": passes(extra=["X-Tenant-ID: globex", "X-Bulkhead-Token-a: b"] * 100),
    # ---- the wrong tenant ----
    "two hosts": refused(400, "bad-request", extra=["Host: globex.localhost"]),
    "two equal hosts": refused(400, "bad-request", extra=["Host: acme.localhost"]),
    "host list": refused(400, "bad-request", host="acme.localhost, globex.localhost"),
    "host list without space": refused(404, "tenant-unknown", host="globex.localhost,acme.localhost"),
    "host with userinfo": refused(404, "tenant-unknown", host="globex@acme.localhost"),
    "host with userinfo behind a port": passes(host="acme.localhost:80@globex.localhost"),
    "host behind two colons": refused(404, "tenant-unknown", host="globex.localhost:acme.localhost:1"),
    "host with percent": refused(404, "tenant-unknown", host="acm%65.localhost"),
    "host with an encoded dot": refused(404, "tenant-unknown", host="acme%2elocalhost"),
    "host with two dots at its end": refused(400, "bad-request", host="acme.localhost.."),
    "host with an empty label": refused(400, "bad-request", host="acme..localhost"),
    "host with a slash": refused(400, "bad-request", host="acme.localhost/globex.localhost"),
    "host with a NUL": refused(400, "bad-request", host="acme.localhost\0.evil"),
    "host in two labels": refused(404, "tenant-unknown", host="globex.acme.localhost"),
    "host with a homograph": refused(404, "tenant-unknown", host="\xd0\xb0cme.localhost"),
    "host of 4 kB": refused(404, "tenant-unknown", host="a" * 4096 + ".localhost"),
    "host reserved": refused(404, "tenant-unknown", host="admin.localhost"),
    "host in capitals": passes(host="ACME.LOCALHOST.:{port}"),
    "no host": refused(400, "bad-request", host=None),
    "no host, HTTP/1.0": refused(400, "tenant-missing", host=None, version="HTTP/1.0"),
    "another in the request line": refused(400, "tenant-conflict", target="http://globex.localhost/orders"),
    "base domain in the request line": refused(400, "tenant-conflict", target="http://localhost/orders"),
    "userinfo in the request line": refused(400, "bad-request", target="http://globex@acme.localhost/orders"),
    "https in the request line": refused(400, "tenant-conflict", target="https://globex.localhost/orders"),
    "own name in the request line": passes(target="http://ACME.localhost.:1/orders"),
    "only the request line names a host": refused(400, "bad-request", host=None, target="http://acme.localhost/orders"),
    "only the line names a host, HTTP/1.0": refused(400, "tenant-missing", host=None, version="HTTP/1.0",
                                                    target="http://acme.localhost/orders"),
    # ---- credentials ----
    "scheme in lower case": passes(auth="bearer {token}"),
    "scheme in capitals, spaces": passes(auth="BEARER   {token}"),
    "scheme and a tab": refused(401, "token-invalid", auth="Bearer\t{token}"),
    "scheme alone": refused(401, "token-invalid", auth="Bearer"),
    "no scheme": refused(401, "token-invalid", auth="{token}"),
    "basic": refused(401, "token-invalid", auth="Basic {token}"),
    "list": refused(401, "token-invalid", auth="Bearer {token}, Bearer {globex_token}"),
    "list without space": refused(401, "token-invalid", auth="Bearer {token},{token}"),
    "two in one": refused(401, "token-invalid", auth="Bearer {token} {token}"),
    "quoted": refused(401, "token-invalid", auth='Bearer "{token}"'),
    "parameter behind it": refused(401, "token-invalid", auth="Bearer {token};x=1"),
    "twice": refused(400, "bad-request", extra=["Authorization: Bearer {token}"]),
    "twice, one empty": refused(400, "bad-request", extra=["authorization:"]),
    "folded": refused(400, "bad-request", auth="Bearer\r\n {token}"),
    "name with a space": refused(400, "bad-request", auth_line="Authorization : {auth}"),
    "name with an underscore": refused(401, "credential-missing", auth_line="Authorization_: {auth}"),
    "for a proxy": refused(401, "credential-missing", auth_line="Proxy-Authorization: {auth}"),
    "as cookie": refused(401, "credential-missing", auth_line="Cookie: Authorization={auth}"),
    "in the query": refused(401, "credential-missing", auth=None, target="/orders?access_token={token}&token={token}"),
    "as tenant token": refused(401, "credential-missing", auth_line="X-Bulkhead-Token: {token}"),
    "as trailer of": refused(401, "credential-missing", **post(
        *CHUNKED, auth=None, body="0\r\nAuthorization: Bearer {token}\r\n\r\n")),
    "of another tenant": refused(401, "token-tenant-mismatch", auth="Bearer {globex_token}"),
    "alg none": refused(401, "token-invalid", auth="Bearer {none}"),
    "alg none, signed": refused(401, "token-invalid", auth="Bearer {none_signed}"),
    "kid of another tenant": refused(401, "token-invalid", auth="Bearer {kid_of_globex}"),
    "kid and key of another tenant": refused(401, "token-tenant-mismatch", auth="Bearer {kid_and_key_of_globex}"),
    "epoch before": refused(401, "token-invalid", auth="Bearer {old_epoch}"),
    "expired": refused(401, "token-expired", auth="Bearer {expired}"),
    "last bytes of a cached one": refused(401, "token-invalid", auth="Bearer {same_tail}"),
    "signature of a cached one": refused(401, "token-invalid", auth="Bearer {other_payload_same_tail}"),
    "12 kB": refused(401, "token-invalid", auth="Bearer {long}"),
    # ---- paths: only `/` needs no credential ----
    "home": passes(line="GET / HTTP/1.1", auth=None, target="/"),
    "home with a query": passes(line="GET /?x=/../orders HTTP/1.1", auth=None, target="/?x=/../orders"),
    "home with a fragment": refused(401, "credential-missing", auth=None, target="/#/orders"),
    "wrong credential at home": refused(401, "token-invalid", auth="Bearer x", target="/"),
    **{f"nearly home: {path}": refused(401, "credential-missing", auth=None, target=path) for path in (
        "//", "/.", "/./", "/%2f", "/;x", "/index", "/index.html", "/%20", "/a/..", "/orders/..", "/orders/%2e%2e",
        "/%2e", "/%3f", "/%3F/../orders", "/\\", "///", "/%23", "/%252f")},
    **{f"above the root: {path}": refused(400, "bad-request", target=path) for path in (
        "/../orders", "/%2e%2e/orders", "/..%2forders", "/%2F..%2f../orders")},
    "encoded NUL": refused(400, "bad-request", target="/orders%00"),
    "path is forwarded as it came": passes(line="GET /a/%2e%2E/b%2f//;x?y=%00&z=\\ HTTP/1.1",
                                           target="/a/%2e%2E/b%2f//;x?y=%00&z=\\"),
    "internal location": refused(404, "bad-request", target="/bulkhead-problem/"),
    # ---- methods and versions ----
    "CONNECT": refused(400, "bad-request", method="CONNECT", target="globex.localhost:80"),
    "CONNECT to a path": refused(405, "bad-request", method="CONNECT"),
    "TRACE": refused(405, "bad-request", method="TRACE"),
    "OPTIONS *": refused(400, "bad-request", method="OPTIONS", target="*"),
    "lower-case method": refused(400, "bad-request", method="get"),
    "HTTP/2 preface": refused(400, "bad-request", method="PRI", target="*", version="HTTP/2.0"),
    "HTTP/9.9": refused(505, "bad-request", version="HTTP/9.9"),
    "HTTP/0.9 by POST": ({"version": "", "method": "POST"}, [(0, None)], []),
    "HTTP/0.9": ({"version": "", "extra": [], "auth": None}, [(0, None)], []),
    "h2c": passes(extra=["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"]),
    # A whole handshake passes (test_edge_streams.py); all that is less is an ordinary request.
    "websocket": passes(extra=["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 12",
                               "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]),
    # ---- framing ----
    "length and chunks": refused(400, "bad-request", **post("Content-Length: 4", *CHUNKED, body="0\r\n\r\n" + SMUGGLED)),
    "chunks and length": refused(400, "bad-request", **post(*CHUNKED, "Content-Length: 4", body="0\r\n\r\n" + SMUGGLED)),
    "two lengths": refused(400, "bad-request", **post("Content-Length: 0", "Content-Length: 9", body=SMUGGLED)),
    "two equal lengths": refused(400, "bad-request", **post("Content-Length: 2", "Content-Length: 2", body="ab")),
    "length list": refused(400, "bad-request", **post("Content-Length: 2, 2", body="ab")),
    "length with a sign": refused(400, "bad-request", **post("Content-Length: +2", body="ab")),
    "negative length": refused(400, "bad-request", **post("Content-Length: -1", body="ab")),
    "length of 2^64+2": refused(400, "bad-request", **post("Content-Length: 18446744073709551618", body="ab")),
    "two encodings": refused(400, "bad-request", **post(*CHUNKED, "Transfer-Encoding: identity", body="0\r\n\r\n")),
    "encoding xchunked": refused(501, "bad-request", **post("Transfer-Encoding: xchunked", body="0\r\n\r\n" + SMUGGLED)),
    "encoding list": refused(501, "bad-request", **post("Transfer-Encoding: chunked, identity", body="0\r\n\r\n" + SMUGGLED)),
    "chunks in HTTP/1.0": refused(400, "bad-request", **post(*CHUNKED, version="HTTP/1.0", body="0\r\n\r\n")),
    "a chunk too large": refused(400, "bad-request", **post(*CHUNKED, body="FFFFFFFFFFFFFFFF1\r\nab\r\n0\r\n\r\n")),
    "a chunk without size, no credential": refused(400, "bad-request", **post(*CHUNKED, auth=None, body="x\r\n")),
    "a chunk without size, no tenant": refused(400, "bad-request", **post(*CHUNKED, host="nobody.localhost", body="x\r\n")),
    "a chunk without size": refused(400, "bad-request", **post(*CHUNKED, body="\r\nab\r\n0\r\n\r\n")),
    "chunk extensions": passes("POST /orders HTTP/1.1", b"ab", **post(*CHUNKED, body="2;a=b\r\nab\r\n0;c\r\n\r\n")),
    "a request inside a body": passes("POST /orders HTTP/1.1", INSIDE.encode(), **post(
        f"Content-Length: {len(INSIDE)}", body=INSIDE)),
    "body of a GET": passes(arrives=b"ab", extra=["Content-Length: 2"], body="ab"),
    "unknown expectation": passes(extra=["Expect: the-unexpected"]),
    # ---- sizes ----
    "a header of 70 kB": refused(400, "bad-request", extra=["X-Long: {huge}"]),
    "a path of 70 kB": refused(414, "bad-request", target="/{huge}"),
    "a body too large": refused(413, "bad-request", **post("Content-Length: 99999999")),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile(edge, words, name):
    parts, expected, arrives = CASES[name]
    good, arrived = attempt(edge, build(edge))
    assert [(a.status, a.code) for a in good] == [(200, None)] and [a[0] for a in arrived] == ["GET /orders HTTP/1.1"]
    got, arrived = attempt(edge, build(edge, **parts))
    told = [(a.status, a.code if a.status else None) for a in got]
    if len(expected) == 1:
        wanted, arrives = nginxversion.expected(name, expected[0], arrives, [("GET /orders HTTP/1.1", b"")])
        assert len(told) == 1 and nginxversion.alike(told[0], wanted), got
    else:
        assert told == expected, got
    assert [(line, body) for line, _, body in arrived] == arrives
    for answer in got:
        assert b"<html" not in answer.raw.lower()
        if answer.status >= 400:
            assert len(answer.all("X-Request-Id")) == len(answer.all("Cache-Control")) == (answer.status > 0)
            assert len(answer.all("WWW-Authenticate")) == (answer.status == 401)
            assert b"globex" not in answer.raw and edge.good_token.encode() not in answer.raw, "input is echoed"


# ---- several requests on one connection, and bytes in pieces ----

def test_no_request_inherits_from_the_one_before(edge, words):
    """Pipelined: another tenant's, good ones, and visitors on one connection, all in one write."""
    mine, visitor = build(edge), build(edge, target="/", auth=None)
    stranger = build(edge, host="globex.localhost")
    other = build(edge, host="globex.localhost", auth="Bearer {globex_token}", target="/theirs")
    nobody = build(edge, auth=None, extra=["X-Bulkhead-Token: {token}", "X-Tenant-ID: acme"])
    start, there = len(edge.acme_app.seen), len(edge.globex_app.seen)
    got = answers(exchange(edge, mine + stranger + visitor + other + nobody + mine))
    assert [(a.status, a.code) for a in got] == [
        (200, None), (401, "token-tenant-mismatch"), (200, None), (200, None), (401, "credential-missing"), (200, None)]
    subjects = []
    for line, headers, _ in edge.acme_app.seen[start:] + edge.globex_app.seen[there:]:
        head = dict(headers)
        claims = json.loads(decode(head["X-Bulkhead-Token"])[1])
        subjects.append((line.split()[1], head["X-Tenant-ID"], claims["tenant"], claims["scope"]))
    assert subjects == [("/orders", "acme", "acme", ""), ("/", "acme", "acme", "anonymous"), ("/orders", "acme", "acme", ""),
                        ("/theirs", "globex", "globex", "")]
    assert len({a.get("X-Request-Id") for a in got if a.status == 401}) == 2


def test_bytes_one_by_one(edge, words):
    """A header that comes in pieces, cut everywhere, is the same header."""
    data = build(edge, method="POST", extra=["X-Tenant-ID: globex", "X_Bulkhead_Token: x", "X-Keep: 1", *CHUNKED],
                 body="3\r\nabc\r\n0\r\n\r\n")
    start = len(edge.acme_app.seen), len(edge.globex_app.seen)
    with edge.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for i in range(len(data)):
            sock.sendall(data[i:i + 1])
        assert read_answer(sock).status == 200
    (line, headers, body), = check_arrivals(edge, start)
    assert (line, body, dict(headers)["X-Keep"]) == ("POST /orders HTTP/1.1", b"abc", "1")


# ---- what a cached verdict may not outlive or outreach ----

def test_cached_verdict_belongs_to_its_tenant_epoch_and_keys(edge, words):
    """Under the same last bytes, which name the place in the cache, only the very same credential counts."""
    bearer = edge.bearer(edge.acme, sub="cached")
    header, payload, mac = bearer.removeprefix("Authorization: Bearer ").split(".")
    ask = lambda text, host="acme": edge.get(f"{host}.localhost", "/x", text)
    forged = [f"Authorization: Bearer {head}.{edge.token(edge.acme, sub=sub).split('.')[1]}.{mac}"
              for head in (header, header[:-1]) for sub in ("root", "cache2")]
    forged += [f"Authorization: Bearer {header}.{payload}.{'A' * (len(mac) - n)}{mac[-n:]}" for n in (8, 20, 42)]
    forged += [f"Authorization: Bearer {mac[-8:]}", f"Authorization: Bearer {header}.{payload}.{mac}{mac[-8:]}"]
    for _ in range(2):  # before the good one is cached, and after
        for text in forged:
            assert (ask(text).status, ask(text).code) == (401, "token-invalid"), text
        assert ask(bearer).status == 200
        assert ask(bearer, "globex").code == "token-tenant-mismatch"
    edge.change(edge.acme, epoch=2)
    try:
        assert ask(bearer).code == "token-invalid"
    finally:
        edge.change(edge.acme, epoch=1)
    assert ask(bearer).status == 200


def test_keys_cannot_be_dumped(edge, words):
    """The kernel gives root what it knows of a process that may not be dumped; the master holds no keys."""
    owner = lambda pid: os.stat(f"/proc/{pid}/environ").st_uid
    assert edge.ask(edge.acme).status == 200
    assert [owner(pid) for pid in edge.workers()] == [0]
    if edge.user:
        assert owner(edge.process.pid) == edge.user[0]


# ---- an application that misbehaves ----

class Liar(Recorder):
    """/lie/<n> is answered with the n-th of these, word for word."""

    LIES = {
        "cut": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort",
        "cut chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        "too much": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
        "header too large": b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70000 + b"\r\n\r\n",
        "nothing": b"",
        "steering": b"HTTP/1.1 200 OK\r\nX-Accel-Redirect: /bulkhead-problem/\r\nX-Accel-Limit-Rate: 1\r\n"
                    b"RateLimit: \"default\";r=9;t=0\r\nContent-Length: 2\r\n\r\nok",
        "switching": b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    }

    def _answer(self, client, line, headers, body):
        if not line.startswith("GET /lie/"):
            return super()._answer(client, line, headers, body)
        name = line.split()[1].removeprefix("/lie/").replace("%20", " ")
        self.seen.append((line, headers, body))
        client.sendall(self.LIES[name])
        return name in ("too much", "switching")


def test_no_tunnel_past_the_edge(edge):
    """An application that says 101 opens no way for requests that the edge does not see."""
    port = edge.ports.take()
    liar = Liar(("127.0.0.1", port), "liar")
    edge.echoes.append(liar)
    tenant = Tenant(52, "tunnel", endpoints=[f"127.0.0.1:{port}"])
    edge.put(tenant)
    head = f"Host: tunnel.localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n{edge.bearer(tenant)}\r\n\r\n"
    with edge.connect() as sock:
        sock.sendall(b"GET /x HTTP/1.1\r\n" + head.encode())  # the control: the header alone changes nothing
        assert read_answer(sock).status == 200
        sock.sendall(b"GET /lie/switching HTTP/1.1\r\n" + head.encode())
        sock.settimeout(SILENCE_S)
        try:
            sock.recv(65536)
            sock.sendall(b"GET /seen/by/nobody HTTP/1.1\r\nHost: x\r\nX-Tenant-ID: globex\r\n\r\n")
            sock.recv(65536)
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
    assert [line.split()[1] for line, _, _ in liar.seen] == ["/x", "/lie/switching"]
    edge.remove(tenant)


@pytest.mark.parametrize("lie", Liar.LIES)
def test_lies_of_an_application(edge, lie):
    """Whatever one answer is, the next request on any connection, of any tenant, gets its own."""
    port = edge.ports.take()
    edge.echoes.append(Liar(("127.0.0.1", port), "liar"))
    tenants = [Tenant(50, "liar", endpoints=[f"127.0.0.1:{port}"]), Tenant(51, "neighbour", endpoints=[f"127.0.0.1:{port}"])]
    edge.put(*tenants)
    before = edge.ask(tenants[0], "/before")
    counted = edge.counters(tenants[0])["requests"]
    first = exchange(edge, b"GET /lie/%s HTTP/1.1\r\nHost: liar.localhost\r\nConnection: close\r\n%s\r\n\r\n" % (
        lie.replace(" ", "%20").encode(), edge.bearer(tenants[0]).encode()))
    assert before.status == 200 and b"EVIL" not in first and b"bulkhead.dev/errors/not-found" not in first
    if lie in ("nothing", "header too large"):
        assert (Answer(first).status, Answer(first).code) == (502, "upstream-failed")
    for tenant in tenants * 2:
        after = edge.ask(tenant, f"/after/{tenant.id}")
        assert after.status == 200 and after.json()["line"] == f"GET /after/{tenant.id} HTTP/1.1", after
        assert dict(after.json()["headers"])["X-Tenant-ID"] == tenant.id
    assert edge.settled(tenants[0], counted + 3)["requests"] == counted + 3
    edge.remove(tenants[0]), edge.remove(tenants[1])
