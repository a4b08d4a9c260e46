"""Hostile requests where host, path and header may all name the tenant, and hostile answers: cookies, caches, statuses.

Everything is asked by a user of acme's.  Each refused case is sent for both tenants' users: it may reach neither.
"""
import json
import pathlib
import sys
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import nginxversion  # noqa: E402
import test_hostile as base  # noqa: E402
from edgefix import Edge, Tenant, decode, read_answer  # noqa: E402

IDENTITY = [name for name in base.IDENTITY if name != "host"]


def start(edit, echo=base.Recorder):
    edge = Edge(workers=1, edit=edit)
    for no, id in ((42, "acme"), (7, "globex")):
        port = edge.ports.take()
        app = echo(("127.0.0.1", port), id)
        edge.echoes.append(app)
        setattr(edge, id, Tenant(no, id, endpoints=[f"127.0.0.1:{port}"], database="shared1" if no == 42 else "t7"))
        setattr(edge, f"{id}_app", app)
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    edge.start()
    edge.hosts = {id: {f"{id}.localhost", "localhost"} for id in ("acme", "globex")}
    edge.good = {id: edge.bearer(getattr(edge, id)) for id in ("acme", "globex")}
    return edge


@pytest.fixture(scope="module")
def edge():
    edge = start(lambda text: text.replace("bulkhead on;", "bulkhead on; bulkhead_resolve host path header;"))
    yield edge
    errors = edge.errors()
    edge.stop()
    assert "signal" not in errors, f"a worker died:\n{errors}"


def arrivals(edge, begin):
    """What came since to each application, each as its own tenant and with one word of the edge for each name."""
    found = []
    for id, app in (("acme", edge.acme_app), ("globex", edge.globex_app)):
        for line, headers, body in app.seen[begin[id]:]:
            got = {}
            for name, value in headers:
                got.setdefault(name.lower().replace("_", "-"), []).append(value)
            for name in IDENTITY + ["host"]:
                assert len(got.get(name, [])) == 1, f"{name}: {got.get(name)} in {line}"
            assert json.loads(decode(got["x-bulkhead-token"][0])[1])["tenant"] == got["x-tenant-id"][0] == id
            assert got["host"][0] in edge.hosts[id]
            assert got.get("x-forwarded-prefix", [f"/t/{id}"]) == [f"/t/{id}"]
            assert not {"authorization", "upgrade", "connection", "forwarded"} & got.keys()
            found.append((id, line, body))
    return found


def begin_of(edge):
    return {"acme": len(edge.acme_app.seen), "globex": len(edge.globex_app.seen)}


def send(edge, target, host, extra, user="acme", method="GET", body=""):
    begin = begin_of(edge)
    lines = [f"{method} {target} HTTP/1.1", *([f"Host: {host}"] if host is not None else []), edge.good[user], *extra]
    got = base.answers(base.exchange(edge, ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")))
    return [(a.status, a.code) for a in got], arrivals(edge, begin)


CONFLICT, MISSING = (400, "tenant-conflict"), (400, "tenant-missing")
UNKNOWN, MALFORMED = (404, "tenant-unknown"), (400, "bad-request")
X = "X-Tenant-ID: "

# target, host, header lines → what refuses it
REFUSED = {
    # ---- the prefix in every spelling but its own ----
    **{f"prefix as {target}": (target, "localhost", [], code) for target, code in {
        "/%74/acme/orders": CONFLICT, "/t%2facme/orders": CONFLICT, "/t%2Facme%2Forders": CONFLICT,
        "%2ft/acme/orders": MALFORMED, "/%2ft/acme/orders": CONFLICT, "/t/%61%63%6d%65/orders": CONFLICT,
        "/t/acm%65/orders": CONFLICT, "/t/acme%2forders": CONFLICT, "/t/acme%2F": CONFLICT, "/t/acme%3forders": CONFLICT,
        "/t/acme%23/orders": CONFLICT, "/t/acme#/../globex": CONFLICT, "/t/acme%00/orders": MALFORMED, "/t/acme\0/orders": MALFORMED,
        "/t/acme%20/orders": CONFLICT, "/t/acme;x/orders": UNKNOWN, "/t/acme\\orders": UNKNOWN, "/t\\acme\\orders": MISSING,
        "\\t\\acme\\orders": MALFORMED, "/t/acme%5corders": CONFLICT, "/t/acme\\..\\globex/orders": UNKNOWN,
        "/T/acme/orders": MISSING, "/t/Acme/orders": UNKNOWN, "/t/ACME/orders": UNKNOWN, "/tt/acme/orders": MISSING,
        "/t/acme./orders": UNKNOWN, "/t/.acme/orders": UNKNOWN, "/t/acme,globex/orders": UNKNOWN, "/t/acme:80/orders": UNKNOWN,
        "/t/acme@globex/orders": UNKNOWN, "/t/*/orders": UNKNOWN, "/t/-/orders": UNKNOWN, "/t/42/orders": UNKNOWN,
        "/t/" + "a" * 64 + "/orders": UNKNOWN, "/t/" + "a" * 1500 + "/orders": UNKNOWN, "/t/acm\xc0\xa5/orders": UNKNOWN,
        "/t/\xc1\xa1cme/orders": UNKNOWN, "/t/%c1%a1cme/orders": CONFLICT, "/t/%e0%81%a1cme/orders": CONFLICT,
        "/t/\xd0\xb0cme/orders": UNKNOWN, "/t/acme\xad/orders": UNKNOWN, "/%ef%bd%94/acme/orders": MISSING, "/t%c0%afacme/orders": MISSING,
        "/t/%2561cme/orders": CONFLICT, "/%2574/acme/orders": MISSING, "/t/acme%252forders": CONFLICT,
        "/t/%u0061cme/orders": MALFORMED, "/t/acme%/orders": MALFORMED, "/t/acme%0d%0aX-Tenant-ID:%20globex/orders": CONFLICT,
    }.items()},
    # ---- dots and slashes ----
    **{f"dots as {target}": (target, "localhost", [], code) for target, code in {
        "/t/acme/..": CONFLICT, "/t/acme/../": CONFLICT, "/t/acme/../globex/orders": CONFLICT, "/t/acme/..;/globex/orders": (200, None),
        "/t/acme/%2e%2e/globex/orders": CONFLICT, "/t/acme/.%2e/globex/orders": CONFLICT, "/t/acme/..%2fglobex/orders": CONFLICT,
        "/t/acme%2f..%2fglobex/orders": CONFLICT, "/t/acme/x/../../globex/orders": CONFLICT, "/t/./acme/orders": CONFLICT,
        "/./t/acme/orders": CONFLICT, "/x/../t/acme/orders": CONFLICT, "/t/../t/acme/orders": CONFLICT, "/t/x/../acme/orders": CONFLICT,
        "//t/acme/orders": CONFLICT, "///t/acme/orders": CONFLICT, "/t//acme/orders": CONFLICT, "/t///": UNKNOWN, "/t/": UNKNOWN,
        "/t/acme/../../orders": CONFLICT, "/t/acme/../../../orders": MALFORMED, "/../t/acme/orders": MALFORMED,
        "/%2e%2e/t/acme/orders": MALFORMED, "/t/../globex/orders": CONFLICT, "/t/.": CONFLICT, "/t/..": CONFLICT,
    }.items() if code != (200, None)},
    # ---- elsewhere in the target ----
    "prefix in the query": ("/orders?/t/acme/", "localhost", [], MISSING),
    "prefix in a query without path": ("http://localhost?/t/acme/orders", "localhost", [], MISSING),
    "prefix in the fragment": ("/orders#/t/acme/", "localhost", [], MISSING),
    "prefix behind a fragment's path": ("/#/../t/acme/orders", "localhost", [], MISSING),
    "prefix further on": ("/x/t/acme/orders", "localhost", [], MISSING),
    "absolute form for another host": ("http://globex.localhost/t/acme/orders", "localhost", [], CONFLICT),
    "absolute form for another host than Host": ("http://localhost/t/acme/orders", "acme.localhost", [], CONFLICT),
    "absolute form, host of one, path of another": ("http://globex.localhost/t/acme/orders", "globex.localhost", [], CONFLICT),
    "absolute form with userinfo": ("http://t@localhost/t/acme/orders", "localhost", [], MALFORMED),
    "absolute form with dots": ("http://localhost/t/acme/../globex/orders", "localhost", [], CONFLICT),
    "absolute form without path": ("http://localhost", "localhost", [], MISSING),
    "authority form": ("localhost/t/acme/orders", "localhost", [], MALFORMED),
    # ---- header ----
    **{f"header {value!r}": ("/orders", "localhost", [X + value], code) for value, code in {
        "": UNKNOWN, " ": UNKNOWN, "ACME": UNKNOWN, "acme,globex": UNKNOWN, "acme;x": UNKNOWN, "acme globex": UNKNOWN,
        "acme/": UNKNOWN, "/t/acme": UNKNOWN, "acme.localhost": UNKNOWN, "%61cme": UNKNOWN, "acme\xa0": UNKNOWN,
        "\xef\xbb\xbfacme": UNKNOWN, '"acme"': UNKNOWN, "acme\t,": UNKNOWN, "\tacme": UNKNOWN, "acme\t": UNKNOWN, "42": UNKNOWN, "a" * 64: UNKNOWN,
        "..": UNKNOWN, "*": UNKNOWN, "nobody": UNKNOWN, "www": UNKNOWN, "acme\0": MALFORMED, "acme\rX: y": MALFORMED}.items()},
    "header twice": ("/orders", "localhost", [X + "acme", X + "globex"], CONFLICT),
    "header twice the same": ("/orders", "localhost", [X + "acme", X + "acme"], CONFLICT),
    "header twice, once empty": ("/orders", "localhost", [X + "acme", "X-Tenant-ID:"], CONFLICT),
    "header with underscores": ("/orders", "localhost", ["X_Tenant_ID: acme"], MISSING),
    "header with a space": ("/orders", "localhost", ["X-Tenant-ID : acme"], MALFORMED),
    "header folded": ("/orders", "localhost", ["X-Tenant-ID:\r\n acme"], MALFORMED),
    "header of another name": ("/orders", "localhost", ["X-Tenant: acme", "X-Tenant-IDs: acme", "Tenant-ID: acme"], MISSING),
    "header in the connection": ("/orders", "localhost", ["Connection: X-Tenant-ID", "X-Tenant-ID: nobody"], UNKNOWN),
    "header as trailer": ("/orders", "localhost", ["Transfer-Encoding: chunked", "Trailer: X-Tenant-ID"], MISSING,
                          {"method": "POST", "body": "0\r\nX-Tenant-ID: acme\r\n\r\n"}),
    # ---- sources that disagree ----
    "host and path": ("/t/globex/orders", "acme.localhost", [], CONFLICT),
    "host and header": ("/orders", "acme.localhost", [X + "globex"], CONFLICT),
    "path and header": ("/t/acme/orders", "localhost", [X + "globex"], CONFLICT),
    "host and header against path": ("/t/globex/orders", "acme.localhost", [X + "acme"], CONFLICT),
    "path and header against host": ("/t/acme/orders", "globex.localhost", [X + "acme"], CONFLICT),
    "host and path against header": ("/t/acme/orders", "acme.localhost", [X + "globex"], CONFLICT),
    "all three": ("/t/acme/orders", "globex.localhost", [X + "nobody"], CONFLICT),
    "host of nobody": ("/t/acme/orders", "nobody.localhost", [X + "acme"], CONFLICT),
    "foreign host": ("/t/acme/orders", "acme.example.com", [X + "acme"], UNKNOWN),
    "path of nobody": ("/t/nobody/orders", "acme.localhost", [], CONFLICT),
    "header of nobody": ("/orders", "acme.localhost", [X + "nobody"], CONFLICT),
    "empty header beside a host": ("/orders", "acme.localhost", ["X-Tenant-ID:"], UNKNOWN),
    "no host beside a path": ("/t/acme/orders", None, [], MALFORMED),
}

# target, host, header lines → the path that acme's application gets
PASSES = {
    "path": ("/t/acme/orders", "localhost", [], "/orders"),
    "path alone": ("/t/acme", "localhost", [], "/"),
    "path with a query": ("/t/acme?/t/globex/", "localhost", [], "/?/t/globex/"),
    "path on an address": ("/t/acme/orders", "127.0.0.1", [], "/orders"),
    "path on IPv6": ("/t/acme/orders", "[::1]:80", [], "/orders"),
    "path twice": ("/t/acme/t/globex/orders", "localhost", [], "/t/globex/orders"),
    "dots inside": ("/t/acme/a/../b/./c", "localhost", [], "/b/c"),
    "dots with a parameter": ("/t/acme/..;/globex/orders", "localhost", [], "/..;/globex/orders"),
    "encoded dots inside": ("/t/acme/a/%2e%2e/b", "localhost", [], "/b"),
    "encoded twice": ("/t/acme/%252e%252e/globex", "localhost", [], "/%252e%252e/globex"),
    "encoded slash inside": ("/t/acme/a%2fb", "localhost", [], "/a/b"),
    "encoded question mark": ("/t/acme/%3f/t/globex/?x", "localhost", [], "/%3F/t/globex/?x"),
    "encoded fragment": ("/t/acme/%23x", "localhost", [], "/%23x"),
    "fragment": ("/t/acme/x#/../../globex", "localhost", [], "/x"),
    "encoded line": ("/t/acme/x%0d%0aX-Tenant-ID:%20globex", "localhost", [], "/x%0D%0AX-Tenant-ID:%20globex"),
    "encoded line without HTTP": ("/t/acme/x%20HTTP/1.1%0d%0a", "localhost", [], "/x%20HTTP/1.1%0D%0A"),
    "backslashes inside": ("/t/acme/..\\globex", "localhost", [], "/..\\globex"),
    "overlong dots": ("/t/acme/%c0%ae%c0%ae/globex", "localhost", [], "/%C0%AE%C0%AE/globex"),
    "8-bit bytes inside": ("/t/acme/\xff\xfe", "localhost", [], "/\xff\xfe"),
    "slashes inside": ("/t/acme//t//globex", "localhost", [], "/t/globex"),
    "absolute form": ("http://localhost/t/acme/orders", "localhost", [], "/orders"),
    "absolute form, own host": ("http://acme.localhost/t/acme/orders", "acme.localhost", [], "/orders"),
    "prefix of a client": ("/t/acme/orders", "localhost", ["X-Forwarded-Prefix: /t/globex"], "/orders"),
    "header": ("/orders", "localhost", [X + "acme"], "/orders"),
    "header on an address": ("/orders", "127.0.0.1:80", [X + "acme"], "/orders"),
    "header with blanks around": ("/orders", "localhost", ["x-tenant-id:   acme   "], "/orders"),
    "header and odd names": ("/orders", "localhost", [X + "acme", "X_Tenant_ID: globex", "X-Tenant-ID-2: globex"], "/orders"),
    "header and raw path": ("/a/%2e%2e/b%2f", "localhost", [X + "acme"], "/a/%2e%2e/b%2f"),
    "all three": ("/t/acme/orders", "acme.localhost", [X + "acme"], "/orders"),
    "host": ("/orders", "acme.localhost", [], "/orders"),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes_to_the_tenant_that_all_name(edge, name):
    target, host, extra, path = PASSES[name]
    assert send(edge, target, host, extra) == ([(200, None)], [("acme", f"GET {path} HTTP/1.1", b"")])
    refused, arrived = send(edge, target, host, extra, user="globex")  # a credential never chooses
    assert (refused, arrived) == ([(401, "token-tenant-mismatch")], [])


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_any_application(edge, name):
    target, host, extra, why, *parts = REFUSED[name]
    assert send(edge, "/orders", "acme.localhost", [])[0] == [(200, None)], "control"
    for user in ("acme", "globex"):
        got, arrived = send(edge, target, host, extra, user, **(parts[0] if parts else {}))
        assert (got[:1], arrived) == ([why], []), got


# ---- cookies ----

COOKIES = {  # what the application says → on acme.localhost, behind /t/acme (None: as it was)
    "a=1; Domain=localhost": ("a=1", "a=1; Path=/t/acme/"),
    "a=1; DOMAIN = LocalHost ": ("a=1", "a=1; Path=/t/acme/"),
    "a=1;domain=.localhost;Domain=.acme.localhost": ("a=1;Domain=.acme.localhost", "a=1; Path=/t/acme/"),
    "a=1; Domain=acme.localhost; Domain=localhost": ("a=1; Domain=acme.localhost", "a=1; Path=/t/acme/"),
    "a=1; Domain=globex.localhost": ("a=1", "a=1; Path=/t/acme/"),
    "a=1, b=2; Domain=localhost, c=3; Domain=localhost": ("a=1, b=2", "a=1, b=2; Path=/t/acme/"),
    'a="x; Domain=localhost"': ('a="x', 'a="x; Path=/t/acme/'),
    'a=1; Domain="localhost"': ("a=1", "a=1; Path=/t/acme/"),
    "a=1; Domain=xacme.localhost": ("a=1", "a=1; Path=/t/acme/"),
    "a=1; Domain=acme.localhost.": ("a=1", "a=1; Path=/t/acme/"),
    "a=1; \x0bDomain=localhost": ("a=1", "a=1; Path=/t/acme/"),
    "a=1;\tDomain\t=\tlocalhost": ("a=1", "a=1; Path=/t/acme/"),
    "a=1; \x7fDomain=localhost": ("a=1", "a=1; Path=/t/acme/"),
    "a=1; Domain": ("a=1", "a=1; Domain; Path=/t/acme/"),
    "a=1;;;Domain=localhost;": ("a=1;;;", "a=1;;;; Path=/t/acme/"),
    "Domain=localhost; Path=/": (None, "Domain=localhost; Path=/t/acme/"),
    "=1; Domain=localhost": ("=1", "=1; Path=/t/acme/"),
    "\xe4=\xf6; Domain=loc\xe4lhost": ("\xe4=\xf6", "\xe4=\xf6; Path=/t/acme/"),
    "a=1; Path=/t/globex": (None, "a=1; Path=/t/acme/t/globex"),
    "a=1; Path=/../globex": (None, "a=1; Path=/t/acme/"),
    "a=1; Path=/x; path=/; PATH=globex": (None, "a=1; Path=/t/acme/x; Path=/t/acme/; Path=/t/acme/"),
    "a=1; Path": (None, "a=1; Path=/t/acme/"),
    "a=1; Path=": (None, "a=1; Path=/t/acme/"),
    "a=1; Secure; HttpOnly; SameSite=None; Path=/x": (None, "a=1; Secure; HttpOnly; SameSite=None; Path=/t/acme/x"),
}


@pytest.mark.parametrize("cookie", COOKIES)
def test_cookie_is_confined(edge, cookie):
    on_host, behind_prefix = COOKIES[cookie]
    quoted = urllib.parse.quote(cookie)
    for host, prefix, expected in (("acme.localhost", "", cookie if on_host is None else on_host),
                                   ("localhost", "/t/acme", behind_prefix)):
        answer = edge.get(host, f"{prefix}/answer?Set-Cookie={quoted}", edge.good["acme"])
        assert answer.status == 200
        assert [value.encode("latin-1").decode() for value in answer.all("Set-Cookie")] == [expected]


# ---- an application's interim answers ----

class Interim(base.Recorder):
    STATUSES = {
        "100": b"HTTP/1.1 100 Continue\r\n\r\n", "100 with length": b"HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
        "103": b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "102": b"HTTP/1.1 102 Processing\r\nContent-Length: 0\r\n\r\n", "000": b"HTTP/1.1 000 X\r\nContent-Length: 0\r\n\r\n",
        "199": b"HTTP/1.1 199 X\r\nContent-Length: 0\r\n\r\n", "099": b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
    }

    def _answer(self, client, line, headers, body):
        if not line.startswith("GET /interim/"):
            return super()._answer(client, line, headers, body)
        client.sendall(self.STATUSES[urllib.parse.unquote(line.split()[1].removeprefix("/interim/"))])
        return True


@pytest.mark.parametrize("status", Interim.STATUSES)
def test_interim_answer_never_takes_the_place_of_a_last_one(edge, status):
    """A client that shares its connection among users would give the next answer to the wrong one."""
    port = edge.ports.take()
    edge.echoes.append(Interim(("127.0.0.1", port), "interim"))
    tenant = Tenant(53, "interim", endpoints=[f"127.0.0.1:{port}"])
    edge.put(tenant)
    bearer = edge.bearer(tenant)
    with edge.connect() as sock:
        sock.sendall(f"GET /interim/{urllib.parse.quote(status)} HTTP/1.1\r\nHost: interim.localhost\r\n{bearer}\r\n\r\n".encode())
        answer = read_answer(sock)
        wanted, _ = nginxversion.expected(f"interim answer {status}", (502, "upstream-failed"), [], [])
        assert (answer.status, answer.code) == wanted
        sock.sendall(f"GET /next HTTP/1.1\r\nHost: acme.localhost\r\n{edge.good['acme']}\r\n\r\n".encode())
        answer = read_answer(sock)
        assert answer.status == 200 and answer.json()["name"] == "acme"
    edge.remove(tenant)


# ---- nginx's cache ----

class Secret(base.Recorder):
    def _answer(self, client, line, headers, body):
        self.seen.append((line, headers, body))
        text = f"secret of {self.name}".encode()
        client.sendall(b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
        return True


def cached(key):
    def edit(text):
        text = text.replace("upstream bulkhead {", "proxy_cache_path cache levels=1 keys_zone=c:1m;\n    upstream bulkhead {", 1)
        return text.replace("bulkhead on;", "bulkhead on; bulkhead_resolve host path header; proxy_cache c; "
                            f"proxy_cache_valid 200 1m; add_header X-Cache $upstream_cache_status; {key}")
    return edit


@pytest.mark.parametrize("key", [
    "", "proxy_cache_key $request_uri;", "proxy_cache_key $uri$bulkhead_tenant_no;", "proxy_cache_key $arg_k$uri;",
    "proxy_cache_key $bulkhead_tenant$uri;", "proxy_cache_key $bulkhead_tenant_no$arg_k;", "proxy_cache_key $bulkhead_tenant_no;"])
def test_cache_whose_key_could_be_another_tenants_serves_nothing(key):
    edge = start(cached(key), Secret)
    try:
        for host, id, target in (("acme.localhost", "acme", "/x?k=9"), ("globex.localhost", "globex", "/x?k=9"),
                                 ("localhost", "globex", "/t/globex/x?k=9"), ("acme.localhost", "acme", "/x?k=9")):
            answer = edge.get(host, target, edge.good[id])
            assert (answer.status, answer.code, b"secret" in answer.raw) == (500, "internal", False), answer
        assert "begin proxy_cache_key with" in edge.errors()
    finally:
        edge.stop()


def test_cache_by_tenant(tmp_path):
    edge = start(cached("proxy_cache_key $bulkhead_tenant_no:$request_uri;"), Secret)
    try:
        for state in ("MISS", "HIT"):
            for id in ("acme", "globex"):
                for host, target in ((f"{id}.localhost", "/x"), ("localhost", f"/t/{id}/x")):
                    answer = edge.get(host, target, edge.good[id])
                    assert (answer.status, answer.body, answer.get("X-Cache")) == (200, f"secret of {id}".encode(), state)
        for user, code in ((None, "credential-missing"), ("globex", "token-tenant-mismatch")):
            answer = edge.get("acme.localhost", "/x", *([edge.good[user]] if user else []))
            assert (answer.status, answer.code) == (401, code)
        assert len(edge.acme_app.seen) == len(edge.globex_app.seen) == 2
    finally:
        edge.stop()
