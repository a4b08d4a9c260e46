"""The route table of a tenant's policy: what it lets pass, to whom, how large, how long."""
import json
import pathlib
import sys
import time
import uuid

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_hostile_h2 as h2base  # noqa: E402
from edgefix import Edge, Tenant, read_answer  # noqa: E402
from ports import Ports  # noqa: E402

ROUTES = [
    {"path": "/assets/**", "anonymous": True},
    {"path": "/items/*", "methods": ["GET", "HEAD"], "anonymous": True},
    {"name": "read-orders", "path": "/orders/*", "methods": ["GET"], "scopes": ["orders.read"]},
    {"name": "write-orders", "path": "/orders/*", "scopes": ["orders.read", "orders.write"]},
    {"path": "/admin/**", "roles": ["admin", "owner"]},
    {"path": "/upload", "max_body_bytes": 1000},
    {"path": "/slow/*", "timeout_ms": 300},
    {"path": "/open", "anonymous": True},
    {"path": "/close", "methods": ["GET"]},
]


@pytest.fixture(scope="module")
def edge():
    edge = Edge(edit=lambda text: text.replace("bulkhead on;", "bulkhead on; bulkhead_resolve host path;"))
    edge.app = edge.echo()
    names = ("routed", "strict", "loose", "plain", "watched")
    edge.all = [Tenant(no, id, endpoints=[edge.app.endpoint]) for no, id in enumerate(names, 1)]
    edge.routed, edge.strict, edge.loose, edge.plain, edge.watched = edge.all
    edge.write_keyring()
    edge.put(*edge.all)
    edge.document("policy/routed", {"routes": ROUTES})
    edge.document("policy/strict", {"routes": ROUTES, "unlisted": "deny"})
    edge.document("policy/loose", {"routes": ROUTES, "encoded_paths": True})
    for tenant in edge.all[:3]:
        edge.change(tenant, policy=tenant.id)
    edge.start()
    yield edge
    edge.stop()


def refused(answer, status, code, *words):
    assert (answer.status, answer.code) == (status, code), answer
    for word in words:
        assert word in answer.json()["detail"], answer
    return answer


# ---- without a credential ----

def test_an_anonymous_route_needs_no_credential(edge):
    for path in ("/assets", "/assets/", "/assets/a/b.css?x=/../", "/items/7", "/%61ssets/x", "/open"):
        assert edge.get("routed.localhost", path).status == 200, path
    for path in ("/asset", "/items/", "/items/7/8", "/Assets/x", "/openx"):
        refused(edge.get("routed.localhost", path), 401, "credential-missing")
    assert edge.get("routed.localhost", "/items/7", method="HEAD").status == 200
    refused(edge.get("routed.localhost", "/items/7", method="DELETE"), 401, "credential-missing")
    refused(edge.get("plain.localhost", "/assets/x"), 401, "credential-missing")
    refused(edge.get("routed.localhost", "/assets/x", "Authorization: Bearer x"), 401, "token-invalid")


def test_an_anonymous_route_counts_behind_the_path_prefix(edge):
    assert edge.get(f"127.0.0.1:{edge.port}", "/t/routed/assets/a").status == 200
    refused(edge.get(f"127.0.0.1:{edge.port}", "/t/routed/other"), 401, "credential-missing")
    refused(edge.get(f"127.0.0.1:{edge.port}", "/t/routed/assets/%2e%2e/other"), 400, "bad-request")


@pytest.mark.parametrize("path", [
    "/assets/..%2forders/1", "/assets/%2e%2e/orders/1", "/orders/../assets/x", "/assets//x", "/assets/./x", "/assets/x;y",
    "/assets/%5c..%5corders", "/assets/%252e%252e/orders/1", "/assets/x%00", "/assets/x#/../../orders/1", "/assets/..",
    "/assets/x%3b/../orders"])
def test_a_path_that_can_be_read_in_two_ways_is_refused(edge, path):
    """nginx compares the normalised path, the application may read the raw one."""
    served = edge.app.served
    refused(edge.get("routed.localhost", path), 400, "bad-request")
    refused(edge.ask(edge.routed, path), 400, "bad-request")
    assert edge.app.served == served
    loose = edge.get("loose.localhost", path)  # allowed there, and opens nothing
    assert loose.status in (400, 401), loose
    if loose.status == 401:
        assert edge.ask(edge.loose, path).status in (200, 403)
    assert edge.ask(edge.plain, path).status in (200, 400)  # no routes, no rule of ours


# ---- scopes and roles ----

def test_a_route_needs_all_its_scopes(edge):
    ask = lambda scope, method="GET": edge.get(
        "routed.localhost", "/orders/1", edge.bearer(edge.routed, scope=scope), method=method)
    assert ask("orders.read").status == 200
    assert ask("x orders.read y").status == 200
    assert ask("orders.write orders.read", "POST").status == 200
    refused(ask("orders.reader xorders.read"), 403, "not-permitted", "read-orders", "orders.read")
    refused(ask("orders.read", "POST"), 403, "not-permitted", "write-orders", "orders.write")
    answer = ask("orders.read", "POST")
    assert answer.get("WWW-Authenticate") == 'Bearer error="insufficient_scope", scope="orders.read orders.write"'
    refused(edge.ask(edge.routed, "/orders/1"), 403, "not-permitted", "orders.read")
    refused(edge.get("routed.localhost", "/orders/1"), 401, "credential-missing")


def test_a_route_needs_one_of_its_roles(edge):
    ask = lambda **claims: edge.get("routed.localhost", "/admin/x", edge.bearer(edge.routed, **claims))
    assert ask(roles=["owner"]).status == 200
    assert ask(roles=["reader", "admin"]).status == 200
    refused(ask(roles=["adm", "administrator"]), 403, "not-permitted", "admin, owner")
    refused(ask(), 403, "not-permitted", "admin, owner")
    refused(ask(scope="admin"), 403, "not-permitted")
    refused(edge.get("routed.localhost", "/admin/x"), 401, "credential-missing")


def test_what_no_route_lists_is_refused_where_the_policy_says_so(edge):
    assert edge.ask(edge.strict, "/open").status == 200
    refused(edge.ask(edge.strict, "/other"), 403, "not-permitted", "no route")
    refused(edge.ask(edge.strict, "/close", method="POST"), 403, "not-permitted", "no route")
    refused(edge.get("strict.localhost", "/"), 403, "not-permitted")  # anonymous by the server block
    assert edge.ask(edge.routed, "/other").status == 200


def test_a_denied_request_is_counted_and_takes_nothing(edge):
    edge.change(edge.strict, rate=1, burst=5)
    before = edge.counters(edge.strict)
    for _ in range(20):
        answer = refused(edge.ask(edge.strict, "/other"), 403, "not-permitted")
        assert answer.get("RateLimit") is None
    after = edge.settled(edge.strict, before["requests"] + 20)
    assert after["denied"] == before["denied"] + 20 and after["status_4xx"] == before["status_4xx"] + 20
    assert edge.ask(edge.strict, "/open").get("RateLimit").startswith('"default";r=4;')


# ---- bodies and time ----

def chunked(edge, tenant, sizes):
    head = (f"POST /upload HTTP/1.1\r\nHost: {tenant.id}.localhost\r\n{edge.bearer(tenant)}\r\n"
            "Transfer-Encoding: chunked\r\n\r\n").encode()
    with edge.connect() as sock:
        sock.sendall(head)
        try:
            for size in sizes:
                sock.sendall(f"{size:x}\r\n".encode() + b"x" * size + b"\r\n")
                time.sleep(0.02)
            sock.sendall(b"0\r\n\r\n")
        except OSError:
            pass  # it answered already
        return read_answer(sock)


def test_a_body_beyond_the_route_is_refused(edge):
    served = edge.app.served
    assert edge.ask(edge.routed, "/upload", method="POST", body=b"x" * 1000).status == 200
    refused(edge.ask(edge.routed, "/upload", method="POST", body=b"x" * 1001), 413, "too-large")
    assert chunked(edge, edge.routed, [400, 600]).status == 200
    refused(chunked(edge, edge.routed, [400, 601]), 413, "too-large")
    refused(chunked(edge, edge.routed, [5000]), 413, "too-large")
    assert edge.app.served == served + 2
    assert edge.ask(edge.routed, "/other", method="POST", body=b"x" * 5000).status == 200


def test_a_refused_body_is_not_waited_for(edge):
    with edge.connect() as sock:
        sock.settimeout(10)
        sock.sendall((f"POST /upload HTTP/1.1\r\nHost: routed.localhost\r\n{edge.bearer(edge.routed)}\r\n"
                      "Content-Length: 1000000\r\n\r\n").encode())
        refused(read_answer(sock), 413, "too-large")


def test_a_route_has_its_own_time(edge):
    assert edge.ask(edge.routed, "/slow/50").status == 200
    served = edge.app.served
    begun = time.monotonic()
    refused(edge.ask(edge.routed, "/slow/1500"), 504, "upstream-timeout")
    assert time.monotonic() - begun < 1.4 and edge.app.served == served + 1  # no second try either
    assert edge.ask(edge.plain, "/slow/600").status == 200
    assert edge.ask(edge.routed, "/slow/50").status == 200


def test_a_body_of_http2_beyond_the_route_is_refused():
    """There is no length that could be looked at."""
    port = Ports().take()
    edge = Edge(workers=1, edit=lambda text: text.replace("bulkhead on;", f"listen 127.0.0.1:{port} http2; bulkhead on;"))
    edge.h2_port = port
    try:
        app = edge.echo()
        acme = Tenant(1, "acme", endpoints=[app.endpoint], policy="routed")
        edge.write_keyring()
        edge.document("policy/routed", {"routes": ROUTES})
        edge.put(acme)
        edge.start()
        edge.good = {"acme": edge.bearer(acme).split(": ")[1]}
        for size, status, code in ((1000, 200, None), (1001, 413, "too-large"), (9000, 413, "too-large")):
            with h2base.Client(edge) as client:
                stream = client.ask(client.headers(path="/upload", method="POST"), body=b"x" * size)
                assert client.result(stream) == (status, code), size
        assert app.served == 1
    finally:
        edge.stop()


# ---- who checks ----

def test_where_the_application_checks_routes_look_at_its_scope(edge):
    edge.document("policy/app", {"auth": "app", "app_scope": "orders.read x", "routes": ROUTES})
    tenant = Tenant(9, "apps", endpoints=[edge.app.endpoint], policy="app")
    edge.put(tenant)
    assert edge.get("apps.localhost", "/orders/1").status == 200
    assert edge.get("apps.localhost", "/orders/1", "Authorization: Bearer theirs").status == 200
    refused(edge.get("apps.localhost", "/orders/1", method="POST"), 403, "not-permitted", "orders.write")
    refused(edge.get("apps.localhost", "/admin/x", "Authorization: Bearer theirs"), 403, "not-permitted", "admin, owner")


# ---- the method ----

@pytest.mark.parametrize("name", ["X-HTTP-Method-Override", "X-HTTP-Method", "x-method-override"])
def test_a_method_that_only_the_application_would_see_is_refused(edge, name):
    served = edge.app.served
    refused(edge.ask(edge.routed, "/close", f"{name}: DELETE", method="POST"), 400, "bad-request", "method")
    refused(edge.get("routed.localhost", "/assets/x", f"{name}: DELETE"), 400, "bad-request", "method")
    assert edge.app.served == served
    answer = edge.ask(edge.plain, "/x", f"{name}: DELETE", method="POST")  # without routes it is the application's own
    assert answer.status == 200 and [name, "DELETE"] in answer.json()["headers"]
    assert edge.ask(edge.routed, "/orders/1", f"{name}s: DELETE").status in (200, 403)


def test_a_rule_for_get_is_one_for_head(edge):
    """An application answers both alike: what only some may read, others may not ask the headers of."""
    edge.document("policy/gets", {"routes": [{"path": "/admin/*", "methods": ["GET"], "roles": ["admin"]}]})
    tenant = Tenant(10, "gets", endpoints=[edge.app.endpoint], policy="gets")
    edge.put(tenant)
    refused(edge.ask(tenant, "/admin/x"), 403, "not-permitted", "admin")
    assert edge.ask(tenant, "/admin/x", method="HEAD").status == 403
    assert edge.get("gets.localhost", "/admin/x", edge.bearer(tenant, roles=["admin"]), method="HEAD").status == 200


# ---- a registry that was restored ----

def test_versions_of_another_incarnation_are_other_documents(edge):
    """A restored registry counts on from an earlier time: the same version of a policy may be another policy."""
    restored = Edge(workers=1)
    try:
        tenant = Tenant(1, "acme", endpoints=[edge.app.endpoint], policy="gold")
        restored.write_keyring()
        restored.put(tenant)
        restored.document("policy/gold", {})
        version = restored.seq
        restored.start()
        assert restored.ask(tenant, "/admin/x").status == 200
        restored.incarnation = str(uuid.uuid4())
        body = json.dumps({"routes": [{"path": "/admin/**", "roles": ["admin"]}]})
        row = {"incarnation": restored.incarnation, "seq": version, "document": "policy/gold", "version": version, "body": body}
        restored._apply(tenant.line(restored.incarnation, version) + json.dumps(row) + "\n", "--clear")
        refused(restored.ask(tenant, "/admin/x"), 403, "not-permitted", "admin")
    finally:
        restored.stop()


# ---- observe ----

def test_an_observed_request_is_told_what_would_be(edge):
    observer = Edge(workers=1, edit=lambda text: text.replace("bulkhead on;", "bulkhead observe; bulkhead_resolve host path;").replace(
        "proxy_pass https://bulkhead;", "add_header X-Code $bulkhead_code; proxy_pass http://%s;" % edge.app.endpoint))
    try:
        tenant = Tenant(1, "acme", endpoints=[edge.app.endpoint])
        observer.write_keyring()
        observer.put(tenant)
        observer.document("policy/strict", {"routes": ROUTES, "unlisted": "deny"})
        observer.change(tenant, policy="strict")
        observer.start()
        assert observer.ask(tenant, "/other").get("X-Code") == "not-permitted"
        assert observer.ask(tenant, "/open").get("X-Code") is None
        assert observer.get(f"127.0.0.1:{observer.port}", "/t/acme/assets/x").get("X-Code") is None
        assert observer.get(f"127.0.0.1:{observer.port}", "/t/acme/a//x").get("X-Code") == "bad-request"
        assert observer.ask(tenant, "/upload", method="POST", body=b"x" * 1001).get("X-Code") == "too-large"
    finally:
        observer.stop()
