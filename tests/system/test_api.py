"""The REST interface of the control plane, as doc/contract/rest.md says: real bulkheadd, real registry."""
import base64
import concurrent.futures
import contextlib
import hashlib
import http.client
import itertools
import json
import os
import re
import select
import signal
import socket
import statistics
import time
import uuid

import pytest

import bhtoken
from pgserver import wait_for
from apifix import AGENT, CELL_UID, INSTALL_UID, MASTER, OPERATOR, OTHER_AGENT, SERVER_UID, Api, Registry

NAMES = (f"t{n}" for n in itertools.count(1))
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


@pytest.fixture(scope="module")
def registry():
    registry = Registry()
    yield registry
    registry.close()


@pytest.fixture(scope="module")
def api(registry):
    api = Api(registry)
    registry.furnish()
    yield api
    assert api.stop() == 0, api.log.read_text()


@pytest.fixture
def name():
    return next(NAMES)


@pytest.fixture
def tenant(api, registry, name):
    """An active tenant, as GET shows it."""
    assert api.call("PUT", f"/v1/tenants/{name}", {}).status == 202
    registry.settle(name)
    return api.call("GET", f"/v1/tenants/{name}").json()


def problem(answer, status, code=None, pointers=None):
    """Check that ${answer} is the problem it should be."""
    assert answer.status == status, answer
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["title"] and body["detail"]
    assert body["type"].endswith("/" + body["code"])
    assert body["request_id"] == answer.headers["X-Request-Id"]
    if code is not None:
        assert body["code"] == code
    if pointers is not None:
        assert [error["pointer"] for error in body["errors"]] == pointers, body
        assert all(error["detail"] for error in body["errors"])
    return body


# ---- who may, what exists ----

@pytest.mark.parametrize("authorization", [None, "Bearer wrong", "Bearer ", "Bearer", "Basic b3BzOng=", OPERATOR,
                                           f"Bearer {OPERATOR} x", "Bearer " + "x" * 100000])
def test_no_or_wrong_credential(api, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    for path in ("/v1/tenants", "/v1/nothing", "/"):
        answer = api.call("PATCH", path, token=None, headers=headers)
        problem(answer, 401, "unauthenticated")
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    assert api.call("GET", "/v1/tenants").status == 200


def test_scheme_is_case_insensitive(api):
    assert api.call("GET", "/v1/tenants", token=None, headers={"Authorization": f"bEARER  {OPERATOR}"}).status == 200


def test_two_credentials(api):
    line = f"Authorization: Bearer {OPERATOR}\r\n"
    head = "GET /v1/tenants HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
    assert api.raw(f"{head}{line}\r\n".encode()).startswith(b"HTTP/1.1 200 ")
    assert api.raw(f"{head}{line}{line}\r\n".encode()).startswith(b"HTTP/1.1 401 ")


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/", "/v1/tenants/", "/v1/tenants/a/b", "/v1/nothing", "/v1//tenants",
                                  "/v1/operations/x/y", "/livez/", "/V1/tenants"])
def test_unknown_path(api, path):
    problem(api.call("GET", path), 404, "not-found")
    problem(api.call("PATCH", path), 404, "not-found")


@pytest.mark.parametrize("method,path,allow", [
    ("POST", "/v1/tenants", "GET, HEAD"),
    ("PATCH", "/v1/tenants/acme", "GET, HEAD, PUT, DELETE"),
    ("DELETE", "/v1/operations/x", "GET, HEAD"),
    ("GET", "/v1/operations/x/resume", "POST"),
    ("GET", "/v1/tokens", "POST"),
    ("PUT", "/v1/usage", "GET, HEAD, POST"),
    ("POST", "/v1/feed", "GET, HEAD"),
    ("POST", "/v1/keyring", "GET, HEAD"),
    ("POST", "/v1/audit", "GET, HEAD"),
    ("PUT", "/v1/servers", "GET, HEAD"),
    ("DELETE", "/v1/selfcheck", "GET, HEAD, POST"),
    ("GET", "/v1/agents/edge-1", "PUT"),
    ("OPTIONS", "/v1/tenants", "GET, HEAD"),
])
def test_wrong_method(api, method, path, allow):
    for token in (OPERATOR, AGENT):  # method before permission
        answer = api.call(method, path, token=token)
        problem(answer, 405, "method-not-allowed")
        assert answer.headers["Allow"] == allow


def test_agent_is_no_operator(api):
    for method, path in [("GET", "/v1/tenants"), ("GET", "/v1/tenants/x"), ("PUT", "/v1/tenants/x"),
                         ("DELETE", "/v1/tenants/x"), ("GET", "/v1/operations"), ("GET", "/v1/operations/x"),
                         ("POST", "/v1/operations/x/resume"), ("POST", "/v1/tokens"), ("GET", "/v1/usage"),
                         ("GET", "/v1/audit"), ("GET", "/v1/servers"), ("GET", "/v1/selfcheck"), ("POST", "/v1/selfcheck")]:
        problem(api.call(method, path, body=b"broken", token=AGENT), 403, "not-permitted")  # permission before body


def test_operator_is_no_agent(api):
    for method, path in [("GET", "/v1/feed"), ("GET", "/v1/feed/snapshot"), ("GET", "/v1/keyring"),
                         ("POST", "/v1/usage"), ("PUT", "/v1/agents/ops")]:
        problem(api.call(method, path, body=b"broken"), 403, "not-permitted")


def test_open_routes(api):
    for path in ("/livez", "/readyz"):
        assert api.call("GET", path, token=None).status == 200
        assert api.call("GET", path, token="wrong").status == 200
        problem(api.call("POST", path, token=None), 405)
        problem(api.call("GET", path + "?x=1", token=None), 422, "invalid", ["?x"])


def test_head_wherever_get_is(api, registry, tenant):
    operation = api.call("GET", f"/v1/operations?tenant={tenant['id']}").json()["items"][0]["id"]
    for path, token in [("/livez", None), ("/readyz", None), ("/v1/tenants", OPERATOR),
                        (f"/v1/tenants/{tenant['id']}", OPERATOR), ("/v1/operations", OPERATOR),
                        (f"/v1/operations/{operation}", OPERATOR), ("/v1/usage", OPERATOR), ("/v1/audit", OPERATOR),
                        ("/v1/servers", OPERATOR), ("/v1/selfcheck", OPERATOR),
                        (f"/v1/feed?after={registry.head()}", AGENT), ("/v1/feed/snapshot", AGENT),
                        ("/v1/keyring", AGENT)]:
        answer = api.call("HEAD", path, token=token)
        assert (answer.status, answer.body) == (200, b""), path
        if not path.startswith("/v1/feed?"):
            get = api.call("GET", path, token=token)
            assert get.headers["Content-Length"] == answer.headers["Content-Length"]
            assert get.headers["Content-Type"] == answer.headers["Content-Type"]
    assert api.call("HEAD", "/v1/tenants/nobody").status == 404
    assert api.call("HEAD", "/v1/tenants", token=None).status == 401


def test_request_ids(api):
    answers = [api.call("GET", "/livez", headers={"X-Request-Id": "mine"}) for _ in range(3)]
    ids = {answer.headers["X-Request-Id"] for answer in answers}
    assert len(ids) == 3 and "mine" not in ids


def test_absolute_form(api):
    head = f"HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\nConnection: close\r\n\r\n"
    assert b"200" in api.raw(f"GET http://x/v1/tenants {head}".encode()).split(b"\r\n")[0]
    assert b"404" in api.raw(f"GET http://x/v1/nothing {head}".encode()).split(b"\r\n")[0]


# ---- tenants ----

def test_new_tenant(api, name):
    body = {"name": "Ä & Co", "limits": {"requests_per_second": 7}}
    answer = api.call("PUT", f"/v1/tenants/{name}", body)
    assert answer.status == 202
    tenant = answer.json()
    assert answer.headers["Location"] == f"/v1/operations/{tenant['operation']}"
    assert answer.headers["ETag"] == tenant["etag"]
    assert re.fullmatch(r'"[^"]+"', tenant["etag"])
    assert list(tenant) == ["id", "uid", "no", "name", "tier", "state", "generation", "observed_generation", "limits",
                            "edge", "domains", "endpoints",
                            "url", "database", "operation", "conditions", "etag", "created_at", "updated_at"]
    assert (tenant["id"], tenant["name"], tenant["tier"]) == (name, "Ä & Co", "standard")
    assert tenant["limits"] == {"requests_per_second": 7, "burst": 200}
    assert (tenant["state"], tenant["generation"], tenant["observed_generation"]) == ("pending", 1, 0)
    assert tenant["url"] == f"http://{name}.localhost:7080/"
    assert uuid.UUID(tenant["uid"]).version == 7 and tenant["no"] >= 1
    assert TIME.match(tenant["created_at"]) and TIME.match(tenant["updated_at"])
    ready = [c for c in tenant["conditions"] if c["type"] == "Ready"][0]
    assert ready["status"] == "False" and ready["reason"] and ready["message"]
    operation = api.call("GET", answer.headers["Location"])
    assert operation.status == 200
    assert operation.json()["tenant"] == name and operation.json()["state"] == "running"
    assert [step["name"] for step in operation.json()["steps"]]
    get = api.call("GET", f"/v1/tenants/{name}")
    assert get.status == 200 and get.json() == tenant and get.headers["ETag"] == tenant["etag"]


def test_put_replaces(api, registry, tenant):
    path = f"/v1/tenants/{tenant['id']}"
    assert tenant["state"] == "active" and tenant["observed_generation"] == tenant["generation"]
    same = api.call("PUT", path, {})
    assert same.status == 200 and same.json() == tenant and "Location" not in same.headers

    named = api.call("PUT", path, {"name": "New"})  # nothing outside the registry changes
    assert named.status == 200 and named.json()["operation"] is None
    assert named.json()["generation"] == named.json()["observed_generation"] == tenant["generation"] + 1
    assert named.json()["etag"] != tenant["etag"]

    limited = api.call("PUT", path, {"limits": {"burst": 9}})  # the name falls back to its default too
    assert limited.status == 202 and limited.headers["Location"].endswith(limited.json()["operation"])
    assert limited.json()["limits"] == {"requests_per_second": 100, "burst": 9}
    assert limited.json()["name"] == tenant["id"]
    registry.settle(tenant["id"])

    back = api.call("PUT", path, {})
    assert back.status == 202 and back.json()["limits"] == {"requests_per_second": 100, "burst": 200}


def test_get_and_put_round_trip(api, tenant):
    path = f"/v1/tenants/{tenant['id']}"
    answer = api.call("PUT", path, tenant)
    assert answer.status == 200 and answer.json() == tenant
    nonsense = {key: [1, {"x": None}] for key in tenant if key not in (
        "id", "name", "tier", "limits", "edge", "domains", "endpoints")}
    answer = api.call("PUT", path, {**tenant, **nonsense})
    assert answer.status == 200 and answer.json() == tenant


@pytest.mark.parametrize("tenant_id", ["Acme", "1a", "a--b", "a-", "-a", "www", "api", "default", "bulkhead", "a" * 49,
                                       "a.b", "%C3%A4", "a%2Fb", "%00", "a%00b", "%zz", "%", "%2e%2e", "%FF", "a_b"])
def test_illegal_id(api, tenant_id):
    problem(api.call("PUT", f"/v1/tenants/{tenant_id}", {}), 422, "invalid", ["/id"])
    problem(api.call("GET", f"/v1/tenants/{tenant_id}"), 404, "not-found")
    problem(api.call("DELETE", f"/v1/tenants/{tenant_id}?now=true"), 404, "not-found")


def test_legal_ids(api):
    for tenant_id in ("a", "a" * 48, "x-1-y", "b%2D2"):
        assert api.call("PUT", f"/v1/tenants/{tenant_id}", {}).status == 202
    assert api.call("GET", "/v1/tenants/b-2").status == 200


@pytest.mark.parametrize("body,pointers", [
    ({"nmae": "x"}, ["/nmae"]),
    ({"id": "other"}, ["/id"]),
    ({"id": 1}, ["/id"]),
    ({"a/b~c": 1}, ["/a~1b~0c"]),
    ({"": 1}, ["/"]),
    ({"name": 1, "tier": [], "limits": {"x": 1, "burst": "2"}}, ["/name", "/tier", "/limits/x", "/limits/burst"]),
    ({"name": None}, ["/name"]),
    ({"name": "x" * 201}, ["/name"]),
    ({"name": "a\u0000b"}, None),
    ({"name": "a\nb"}, ["/name"]),
    ({"tier": "gold"}, ["/tier"]),
    ({"limits": None}, ["/limits"]),
    ({"limits": []}, ["/limits"]),
    ({"limits": {"burst": 0}}, ["/limits/burst"]),
    ({"limits": {"burst": 1000001}}, ["/limits/burst"]),
    ({"limits": {"burst": True}}, ["/limits/burst"]),
    ('{"limits":{"burst":-1}}', ["/limits/burst"]),
    ('{"limits":{"burst":1.0}}', ["/limits/burst"]),
    ('{"limits":{"burst":1e2}}', ["/limits/burst"]),
    ('{"limits":{"burst":-0}}', ["/limits/burst"]),
    ('{"limits":{"burst":18446744073709551617}}', ["/limits/burst"]),
    ("[]", [""]),
    ("null", [""]),
    ('"x"', [""]),
])
def test_illegal_values(api, name, body, pointers):
    answer = api.call("PUT", f"/v1/tenants/{name}", body)
    if pointers is None:
        problem(answer, 400, "bad-request")
    else:
        problem(answer, 422, "invalid", pointers)
    assert api.call("GET", f"/v1/tenants/{name}").status == 404


def test_did_you_mean(api, name):
    body = problem(api.call("PUT", f"/v1/tenants/{name}", {"teir": "standard"}), 422)
    assert "did you mean tier?" in body["errors"][0]["detail"]


def nested(levels):
    """A body with ${levels} levels, in a member that is ignored."""
    return '{"conditions":' + "[" * (levels - 1) + "]" * (levels - 1) + "}"


@pytest.mark.parametrize("body", [
    b"", b" ", b"{", b"{}x", b"{} {}", b"{'a':1}", b'{"a":1,}', b'{"a":01}', b'{"a":+1}', b'{"a":.5}', b'{"a":1.}',
    b'{"a":NaN}', b'{"a":tru}', b'\xef\xbb\xbf{}', b'{"name":"\xff"}', b'{"name":"\xed\xa0\x80"}',
    b'{"name":"\xc0\xaf"}', b'{"name":"a\x00b"}', b'{"name":"a\nb"}', b'{}\x00', rb'{"name":"\u0000"}',
    rb'{"name":"\ud800"}', rb'{"name":"\udc00"}', rb'{"name":"\ud800\u0041"}', rb'{"name":"\x41"}',
    b'{"name":"a","name":"b"}', rb'{"name":"a","n\u0061me":"b"}', b'{"limits":{"burst":1,"burst":1}}',
    b'{"uid":{"x":1,"x":1}}', nested(17).encode(), b"[" * 60000,
])
def test_broken_json(api, name, body):
    problem(api.call("PUT", f"/v1/tenants/{name}", body), 400, "bad-request")
    assert api.call("GET", f"/v1/tenants/{name}").status == 404


def test_sixteen_levels_are_fine(api, name):
    assert api.call("PUT", f"/v1/tenants/{name}", nested(16)).status == 202


def test_surrogate_pair_is_fine(api, name):
    answer = api.call("PUT", f"/v1/tenants/{name}", rb'{"name":"\ud83d\ude00"}')
    assert answer.status == 202 and answer.json()["name"] == "\U0001f600"


def padded(size):
    return b'{"name":"x"' + b" " * (size - 12) + b"}"


def test_body_size(api, name):
    path = f"/v1/tenants/{name}"
    problem(api.call("PUT", path, padded(65537)), 413, "too-large")
    problem(api.call("PUT", path, padded(1 << 20)), 413, "too-large")
    problem(api.call("PUT", path, padded(65537), token="wrong"), 401)
    problem(api.call("PUT", path, padded(65537), token=AGENT), 403)
    assert api.call("GET", path).status == 404
    assert api.call("PUT", path, padded(65536)).status == 202


def test_body_size_chunked(api, name):
    head = (f"PUT /v1/tenants/{name} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\n"
            "Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n").encode()
    for size, status in ((65537, b"413"), (65536, b"202")):
        body = padded(size)
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:30000], body[30000:]))
        assert status in api.raw(head + chunks + b"0\r\n\r\n").split(b"\r\n")[0]


def test_huge_body_is_refused_before_it_comes(api):
    head = (f"PUT /v1/tenants/huge HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {OPERATOR}\r\n"
            "Content-Length: 9999999999\r\n\r\n").encode()
    answer = api.raw(head)
    assert b" 413 " in answer.split(b"\r\n")[0] and b"too-large" in answer


@pytest.mark.parametrize("order", [("If-Match", '"stale"', 412), ("If-Match", "*", 200), ("If-None-Match", "*", 412)])
def test_conditions_on_a_tenant(api, tenant, order):
    header, value, status = order
    path = f"/v1/tenants/{tenant['id']}"
    answer = api.call("PUT", path, {}, headers={header: value})
    assert answer.status == status
    if status == 412:
        problem(answer, 412, "precondition-failed")
    assert api.call("PUT", path, {}, headers={"If-Match": tenant["etag"]}).status == 200
    problem(api.call("PUT", path, {"x": 1}, headers={header: '"stale"'}), 422)  # body before precondition


def test_stale_etag(api, tenant):
    path = f"/v1/tenants/{tenant['id']}"
    changed = api.call("PUT", path, {"name": "1"}, headers={"If-Match": tenant["etag"]})
    assert changed.status == 200
    problem(api.call("PUT", path, {"name": "2"}, headers={"If-Match": tenant["etag"]}), 412)
    problem(api.call("DELETE", path + "?now=true", headers={"If-Match": tenant["etag"]}), 412)
    assert api.call("GET", path).json()["name"] == "1"
    assert api.call("DELETE", path + "?now=true", headers={"If-Match": changed.json()["etag"]}).status == 202


def test_conditions_on_no_tenant(api, name):
    path = f"/v1/tenants/{name}"
    problem(api.call("PUT", path, {}, headers={"If-Match": "*"}), 412)
    problem(api.call("PUT", path, {}, headers={"If-None-Match": '"x"'}), 400)
    assert api.call("PUT", path, {}, headers={"If-None-Match": "*"}).status == 202


def test_delete(api, registry, tenant):
    path = f"/v1/tenants/{tenant['id']}"
    body = problem(api.call("DELETE", path), 422, "invalid", ["?now"])
    assert "now=true" in body["hint"]
    for query in ("?now=false", "?now", "?now=True"):
        problem(api.call("DELETE", path + query), 422, "invalid", ["?now"])
    first = api.call("DELETE", path + "?now=true")
    assert first.status == 202 and first.json()["state"] == "offboarding"
    assert first.headers["Location"] == f"/v1/operations/{first.json()['operation']}"
    assert api.call("GET", path).json()["state"] == "offboarding"
    assert [t["id"] for t in api.call("GET", f"/v1/tenants?q={tenant['id']}&state=offboarding").json()["items"]]
    again = api.call("DELETE", path + "?now=true")
    assert again.status == 202 and again.headers["Location"] == first.headers["Location"]
    conflict = problem(api.call("PUT", path, {}), 409, "conflict")
    assert first.json()["operation"] in conflict["hint"]
    problem(api.call("PUT", path, {}, headers={"If-Match": '"stale"'}), 409)  # state before precondition
    problem(api.call("PUT", path, {"x": 1}), 422)  # body before state
    registry.settle(tenant["id"], "gone")
    problem(api.call("GET", path), 404)
    problem(api.call("DELETE", path + "?now=true"), 404)
    assert tenant["id"] not in [t["id"] for t in api.call("GET", "/v1/tenants?limit=500").json()["items"]]
    fresh = api.call("PUT", path, {})
    assert fresh.status == 202
    assert fresh.json()["no"] != tenant["no"] and fresh.json()["uid"] != tenant["uid"]


def test_identical_puts_at_once(api, name):
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: api.call("PUT", f"/v1/tenants/{name}", {"name": "N"}), range(32)))
    assert sorted(a.status for a in answers) == [200] * 31 + [202]
    assert len({a.json()["uid"] for a in answers}) == 1
    operations = api.call("GET", f"/v1/operations?tenant={name}").json()["items"]
    assert len(operations) == 1


def test_identical_puts_at_two_daemons(api, registry, name):
    with contextlib.closing(Api(registry)) as other:
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(pool.map(lambda n: (api, other)[n % 2].call("PUT", f"/v1/tenants/{name}", {}), range(32)))
        assert sorted(a.status for a in answers) == [200] * 31 + [202]
        assert len({a.json()["no"] for a in answers}) == 1
        assert other.stop() == 0


# ---- lists ----

@pytest.fixture(scope="module")
def many(api):
    names = [f"page-{n:02}" for n in range(25)]
    for n, name in enumerate(names):
        assert api.call("PUT", f"/v1/tenants/{name}", {"name": f"Näme_{n}%"}).status == 202
    return names


def pages(api, path, limit):
    items, token = [], ""
    for _ in range(100):
        page = api.call("GET", f"{path}&limit={limit}&page_token={token}").json()
        assert list(page) == ["items", "next_page_token"]
        assert len(page["items"]) <= limit
        items += page["items"]
        token = page["next_page_token"]
        if token is None:
            return items
    raise AssertionError("the list has no end")


def test_pages(api, many):
    for limit in (1, 7, 25, 500):
        assert [t["id"] for t in pages(api, "/v1/tenants?q=page-", limit)] == many
    whole = api.call("GET", "/v1/tenants?limit=500").json()["items"]
    assert [t["id"] for t in whole] == sorted(t["id"] for t in whole)
    assert len(api.call("GET", "/v1/tenants").json()["items"]) <= 50


def test_page_token_belongs_to_its_filters(api, many):
    token = api.call("GET", "/v1/tenants?q=page-&limit=3").json()["next_page_token"]
    assert api.call("GET", f"/v1/tenants?q=page-&limit=5&page_token={token}").status == 200
    for query in (f"limit=3&page_token={token}", f"q=page&page_token={token}",
                  f"q=page-&state=pending&page_token={token}", f"q=page-&page_token={token}x",
                  "page_token=x", "page_token=%00", "page_token=" + "A" * 2000):
        problem(api.call("GET", f"/v1/tenants?{query}"), 422, "invalid", ["?page_token"])
    problem(api.call("GET", f"/v1/operations?page_token={token}"), 422, "invalid", ["?page_token"])


def forged_page(path, key):
    """A page token of an unfiltered list, made by somebody who knows how they are made."""
    token = hashlib.sha256(path.encode()).digest()[:8] + key.encode()
    return base64.urlsafe_b64encode(token).decode().rstrip("=")


@pytest.mark.parametrize("key", ["", "x", "1 2", "1 2 ", "1 2 a", "1 2 a requests", "1 2 a requests x", "1 2 a requests -1",
                                 "1 2 a requests 1 1", "1 2 a requests " + "9" * 19, f"{-2**63} 1 a requests 1",
                                 f"1 {2**63 - 1} a requests 1", "1 2 " + "a" * 49 + " requests 1"])
def test_forged_page_of_usage(api, key):
    problem(api.call("GET", f"/v1/usage?page_token={forged_page('/v1/usage', key)}"), 422, "invalid", ["?page_token"])
    good = forged_page("/v1/usage", "1 2 a requests 1")
    assert api.call("GET", f"/v1/usage?page_token={good}").json() == {"items": [], "next_page_token": None}


@pytest.mark.parametrize("query,count", [
    ("q=PAGE-0", 10), ("q=n%C3%84me_1%25", 1), ("q=%25", 25), ("q=_", 25), ("q=page-&state=pending", 25),
    ("q=page-&state=active", 0), ("q=page+-", 0), ("q=%5C", 0), ("q=%27", 0), ("&&q=page-24&", 1),
])
def test_filters(api, many, query, count):
    items = api.call("GET", f"/v1/tenants?limit=500&{query}").json()["items"]
    assert len(items) == count


@pytest.mark.parametrize("path,query,pointers", [
    ("tenants", "limit=0", ["?limit"]), ("tenants", "limit=501", ["?limit"]), ("tenants", "limit=", ["?limit"]),
    ("tenants", "limit=+5", ["?limit"]), ("tenants", "limit=05", ["?limit"]), ("tenants", "limit=1.0", ["?limit"]),
    ("tenants", "state=busy", ["?state"]), ("tenants", "state=", ["?state"]), ("tenants", "x=1", ["?x"]),
    ("tenants", "limit=5&limit=5", ["?limit"]), ("tenants", "q=%00", ["?q"]), ("tenants", "q=%FF", ["?q"]),
    ("tenants", "q=%zz", ["?q"]), ("tenants", "q=%4", ["?q"]), ("tenants", "LIMIT=1", ["?LIMIT"]),
    ("tenants", "%6Cimit=0", ["?limit"]), ("tenants", "=1", ["?"]), ("tenants", "now=true", ["?now"]),
    ("tenants", "y=1&limit=0&x=2", ["?y", "?x", "?limit"]), ("tenants/a", "x=1", ["?x"]),
    ("operations", "state=active", ["?state"]), ("operations", "x=", ["?x"]),
    ("usage", "meter=cpu", ["?meter"]), ("usage", "from=yesterday", ["?from"]),
    ("usage", "to=2026-02-30T00:00:00Z", ["?to"]), ("usage", "state=x", ["?state"]),
    ("audit", "code=TN5", ["?code"]), ("audit", "code=tn005", ["?code"]), ("audit", "code=", ["?code"]),
    ("audit", "from=yesterday&to=1", ["?from", "?to"]), ("audit", "q=x", ["?q"]), ("audit", "limit=501", ["?limit"]),
    ("audit", "tenant=a&tenant=b", ["?tenant"]), ("audit", "page_token=x", ["?page_token"]), ("servers", "state=up", ["?state"]),
    ("selfcheck", "tenant=x", ["?tenant"]), ("selfcheck", "server=a&server=a", ["?server"]),
])
def test_illegal_parameters(api, path, query, pointers):
    problem(api.call("GET", f"/v1/{path}?{query}"), 422, "invalid", pointers)


def test_parameters_of_writing_routes(api, name):
    problem(api.call("PUT", f"/v1/tenants/{name}?dry=1", {}), 422, "invalid", ["?dry"])
    problem(api.call("POST", "/v1/tokens?x=1", {"tenant": "x", "sub": "u"}), 422, "invalid", ["?x"])
    assert api.call("GET", f"/v1/tenants/{name}").status == 404


# ---- operations ----

def test_operations(api, many, name):
    items = pages(api, "/v1/operations?state=running", 10)
    ids = [operation["id"] for operation in items]
    assert ids == sorted(ids, reverse=True) and len(set(ids)) == len(ids) >= 25
    first = api.call("GET", f"/v1/operations?tenant={many[0]}").json()["items"]
    assert [operation["tenant"] for operation in first] == [many[0]]
    assert list(first[0]) == ["id", "kind", "tenant", "generation", "state", "steps", "error", "created_at",
                              "finished_at"]
    assert list(first[0]["steps"][0]) == ["name", "state", "attempt", "error", "started_at", "finished_at"]
    assert first[0]["finished_at"] is None and TIME.match(first[0]["created_at"])
    assert re.fullmatch(r"op_[0-9A-HJKMNP-TV-Z]{26}", first[0]["id"])
    newest, oldest = ids[0], ids[-1]
    find = lambda q: [o["id"] for o in api.call("GET", f"/v1/operations?limit=500&q={q}").json()["items"]]
    assert find(newest) == find(newest.lower()) == find(newest[9:]) == [newest] != [oldest] == find(oldest)
    assert set(ids) <= set(find("op_")) == set(find("")) and find("%25") == [] and find("op%20") == []
    assert [o["id"] for o in pages(api, "/v1/operations?state=running&q=Op_", 7)] == ids
    for nobody in (name, "No-Such", "%20"):
        assert api.call("GET", f"/v1/operations?tenant={nobody}").json() == {"items": [], "next_page_token": None}
    for unknown in ("x", "op_" + "0" * 26, "op_" + "u" * 26, "%00"):
        problem(api.call("GET", f"/v1/operations/{unknown}"), 404, "not-found")


def test_resume(api, registry, name):
    operation = api.call("PUT", f"/v1/tenants/{name}", {}).json()["operation"]
    running = api.call("POST", f"/v1/operations/{operation}/resume")
    assert running.status == 202 and running.json()["id"] == operation
    registry.admin("UPDATE operation SET state = 'failed', finished_at = now() WHERE id = %s", args=(operation,))
    registry.admin("UPDATE tenant SET state = 'failed', operation = NULL WHERE id = %s", args=(name,))
    again = api.call("POST", f"/v1/operations/{operation}/resume")
    assert again.status == 202 and again.json()["id"] != operation and again.json()["state"] == "running"
    assert again.headers["Location"] == f"/v1/operations/{again.json()['id']}"
    registry.settle(name)
    problem(api.call("POST", f"/v1/operations/{again.json()['id']}/resume"), 409, "conflict")
    problem(api.call("POST", "/v1/operations/op_00000000000000000000000000/resume"), 404)


# ---- tokens ----

def decode(part):
    import base64
    return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))


def test_user_token(api, tenant):
    answer = api.call("POST", "/v1/tokens", {"tenant": tenant["id"], "sub": "u1"})
    assert answer.status == 201 and answer.headers["Cache-Control"] == "no-store"
    assert set(answer.json()) == {"token", "expires_at"}
    signed, _, mac = answer.json()["token"].rpartition(".")
    header, claims = (decode(part) for part in signed.split("."))
    assert (header["alg"], header["typ"], header["kid"]) == ("HS256", "bh-user+jwt", f"{tenant['no']}.1.1")
    assert (claims["iss"], claims["aud"], claims["tenant"], claims["sub"]) == (
        "bulkhead", INSTALL_UID, tenant["id"], "u1")
    assert claims["exp"] - claims["iat"] == 900 and abs(claims["iat"] - time.time()) < 60
    cell = bhtoken.derive_user_cell_key(MASTER, uuid.UUID(INSTALL_UID).bytes, uuid.UUID(CELL_UID).bytes, 1)
    key = bhtoken.tenant_user_key(cell, uuid.UUID(tenant["uid"]).bytes, 1)
    assert bhtoken.b64(bhtoken._hmac(key, signed.encode())) == mac
    short = api.call("POST", "/v1/tokens", {"tenant": tenant["id"], "sub": "u1", "ttl_seconds": 86400}).json()
    claims = decode(short["token"].split(".")[1])
    assert claims["exp"] - claims["iat"] == 86400
    assert time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(claims["exp"])) == short["expires_at"]


def test_job_token(api, tenant):
    answer = api.call("POST", "/v1/tokens", {"tenant": tenant["id"], "use": "job", "ttl_seconds": 3600})
    assert answer.status == 201
    signed, _, mac = answer.json()["token"].rpartition(".")
    header, claims = (decode(part) for part in signed.split("."))
    assert header == {"alg": "HS256", "kid": "srv.1", "typ": "bh-tenant+jwt"}
    assert claims["exp"] - claims["iat"] == 3600
    assert {key: claims[key] for key in claims if key not in ("exp", "iat")} == {
        "aud": "srv/shared1", "no": tenant["no"], "scope": "", "sub": "operator", "tenant": tenant["id"], "use": "job",
        "ver": 1}
    server = bhtoken.derive_server_key(MASTER, uuid.UUID(INSTALL_UID).bytes, uuid.UUID(SERVER_UID).bytes, 1)
    assert bhtoken.b64(bhtoken._hmac(bhtoken.database_key(server, "shared1"), signed.encode())) == mac
    named = api.call("POST", "/v1/tokens", {"tenant": tenant["id"], "use": "job", "sub": "me"}).json()
    assert decode(named["token"].split(".")[1])["sub"] == "me"


@pytest.mark.parametrize("change,pointers", [
    ({"sub": None}, ["/sub"]), ({"sub": ""}, ["/sub"]), ({"sub": "a b"}, ["/sub"]), ({"sub": 'a"b'}, ["/sub"]),
    ({"sub": "a\\b"}, ["/sub"]), ({"sub": "ä"}, ["/sub"]), ({"sub": "x" * 256}, ["/sub"]), ({"sub": ...}, ["/sub"]),
    ({"tenant": ...}, ["/tenant"]), ({"tenant": "nobody-here"}, ["/tenant"]), ({"tenant": "Bad Id"}, ["/tenant"]),
    ({"tenant": 1}, ["/tenant"]), ({"ttl_seconds": 0}, ["/ttl_seconds"]), ({"ttl_seconds": 86401}, ["/ttl_seconds"]),
    ({"ttl_seconds": "9"}, ["/ttl_seconds"]), ({"use": "job", "ttl_seconds": 3601}, ["/ttl_seconds"]),
    ({"use": "req"}, ["/use"]), ({"use": ""}, ["/use"]), ({"role": "x"}, ["/role"]),
])
def test_illegal_token_orders(api, tenant, change, pointers):
    order = {"tenant": tenant["id"], "sub": "u1"}
    assert api.call("POST", "/v1/tokens", order).status == 201
    order.update(change)
    order = {key: value for key, value in order.items() if value is not ...}
    problem(api.call("POST", "/v1/tokens", order), 422, "invalid", pointers)


def test_token_of_a_tenant_that_is_not_active(api, registry, name):
    order = {"tenant": name, "sub": "u1"}
    assert api.call("PUT", f"/v1/tenants/{name}", {}).status == 202
    problem(api.call("POST", "/v1/tokens", order), 409, "conflict")
    registry.settle(name)
    assert api.call("POST", "/v1/tokens", order).status == 201
    assert api.call("DELETE", f"/v1/tenants/{name}?now=true").status == 202
    problem(api.call("POST", "/v1/tokens", order), 409, "conflict")
    registry.settle(name, "gone")
    problem(api.call("POST", "/v1/tokens", order), 422, "invalid", ["/tenant"])


# ---- feed ----

def test_feed_positions(api, registry):
    registry.append(7)
    incarnation, _, seq = registry.head().partition(".")
    for after in (f"{uuid.uuid4()}.{seq}", f"{incarnation}.{int(seq) + 1}"):
        body = problem(api.call("GET", f"/v1/feed?after={after}", token=AGENT), 410, "gone")
        assert "snapshot" in body["hint"]
    problem(api.call("GET", "/v1/feed", token=AGENT), 410, "gone")
    for after in ("", "x", f"{incarnation}", f"{incarnation}.", f"{incarnation}.-1", f"{incarnation}.01",
                  f"{incarnation}.1.2", "x.1", f"{incarnation}.99999999999999999999"):
        problem(api.call("GET", f"/v1/feed?after={after}", token=AGENT), 422, "invalid", ["?after"])


def test_feed_rows_then_head(api, registry):
    begin = registry.head()
    seqs = [registry.append(no, record)[0] for no, record in ((31, '{"id": "a"}'), (32, None), (31, '{"id": "b"}'))]
    with contextlib.closing(api.feed(begin)) as feed:
        assert feed.response.status == 200
        assert feed.response.headers["Content-Type"] == "application/x-ndjson"
        rows = [feed.line() for _ in range(3)]
        assert [row["seq"] for row in rows] == seqs
        assert [list(row) for row in rows] == [["incarnation", "seq", "no", "version", "record"]] * 3
        assert [row["no"] for row in rows] == [31, 32, 31]
        assert [row["record"] for row in rows] == [{"id": "a"}, None, {"id": "b"}]
        assert rows[2]["version"] > rows[0]["version"]
        assert feed.line() == {"head": seqs[-1]}


def test_feed_of_another_cell(api, registry):
    begin = registry.head()
    seq, _ = registry.append(33)
    with contextlib.closing(api.feed(begin, OTHER_AGENT)) as feed:
        assert feed.line() == {"head": seq}
    assert b'"no":33' not in api.call("GET", "/v1/feed/snapshot", token=OTHER_AGENT).body


def test_feed_is_live(api, registry):
    """Commits reach every open stream; how fast is printed (goal: 50 ms)."""
    begin = registry.head()
    feeds = [api.feed(begin) for _ in range(5)]
    delays = []
    for feed in feeds:
        assert "head" in feed.line()
    for n in range(20):
        seq, committed = registry.append(40 + n)
        for feed in feeds:
            assert feed.row()["seq"] == seq
            delays.append((time.monotonic() - committed) * 1000)
    for feed in feeds:
        feed.close()
    print(f"\nfeed: commit to line, ms: median {statistics.median(delays):.1f}, worst {max(delays):.1f}")


def test_feed_sees_a_row_of_an_uncommitted_transaction_only_after_commit(api, registry):
    import psycopg2
    with contextlib.closing(api.feed(registry.head())) as feed, contextlib.closing(psycopg2.connect(
            host="127.0.0.1", port=registry.port, user="postgres", password="admin-secret",
            dbname="bulkhead")) as connection, connection.cursor() as cursor:
        assert "head" in feed.line()
        cursor.execute("UPDATE feed_head SET seq = seq + 1 RETURNING seq")
        seq = cursor.fetchone()[0]
        cursor.execute("INSERT INTO feed VALUES (%s, 90, 'alpha', 1, NULL); NOTIFY bulkhead_feed", (seq,))
        assert not select.select([feed.response.fp], [], [], 0.3)[0]
        connection.commit()
        assert feed.row()["seq"] == seq


def test_feed_long_backlog(api, registry):
    begin = registry.head()
    last = registry.admin("""
        WITH rows AS (INSERT INTO feed SELECT h.seq + n, 100000 + n, 'alpha', 1,
                      jsonb_build_object('id', 'n' || n, 'pad', repeat('x', 300))
                      FROM feed_head h, generate_series(1, 5000) n RETURNING seq)
        UPDATE feed_head SET seq = seq + 5000 RETURNING seq""")[0][0]
    with contextlib.closing(api.feed(begin)) as feed:
        rows = [feed.line() for _ in range(5000)]
        assert [row["seq"] for row in rows] == list(range(last - 4999, last + 1))
        assert feed.line() == {"head": last}
    snapshot = api.call("GET", "/v1/feed/snapshot", token=AGENT)
    lines = [json.loads(line) for line in snapshot.body.splitlines()]
    assert lines[0] == {"format": 1, "incarnation": begin.partition(".")[0], "seq": last}
    assert snapshot.headers["Content-Type"] == "application/x-ndjson"
    assert list(lines[1]) == ["seq", "no", "version", "record"]
    assert len({line["no"] for line in lines[1:]}) == len(lines) - 1 >= 5000
    assert all(line["record"] is not None for line in lines[1:])
    registry.admin("DELETE FROM feed WHERE no > 100000")


def test_feed_documents(api, registry):
    """Documents travel among the records: JSON text in a string, of one cell or of all, null is a tombstone."""
    begin = registry.head()
    seqs = [registry.append_document(*row) for row in (
        ("test/a", '{"text": "\\u00e9 \\"x\\""}', None), ("test/b", "{}", "alpha"), ("test/c", "{}", "main"),
        ("test/a", '{"n":2}', None), ("test/b", None, "alpha"))]
    with contextlib.closing(api.feed(begin, documents=True)) as feed, \
            contextlib.closing(api.feed(begin, OTHER_AGENT, True)) as other, \
            contextlib.closing(api.feed(begin)) as old:
        assert old.line() == {"head": seqs[-1]}  # who does not say that it knows documents gets none
        rows = [feed.line() for _ in range(4)]
        assert [list(row) for row in rows] == [["incarnation", "seq", "document", "version", "body"]] * 4
        assert [(row["seq"], row["document"], row["body"]) for row in rows] == [
            (seqs[0], "test/a", '{"text": "\\u00e9 \\"x\\""}'), (seqs[1], "test/b", "{}"),
            (seqs[3], "test/a", '{"n":2}'), (seqs[4], "test/b", None)]
        assert rows[2]["version"] > rows[0]["version"]
        assert [(row["document"], row["seq"]) for row in (other.line() for _ in range(3))] == [
            ("test/a", seqs[0]), ("test/c", seqs[2]), ("test/a", seqs[3])]

    def snapshot(token):
        rows = [line for line in api.snapshot(token)[1:] if line.get("document", "").startswith("test/")]
        assert all(list(row) == ["seq", "document", "version", "body"] for row in rows)
        return {row["document"]: row["body"] for row in rows}
    assert snapshot(AGENT) == {"test/a": '{"n":2}'}
    assert snapshot(OTHER_AGENT) == {"test/a": '{"n":2}', "test/c": "{}"}
    assert not any("document" in line for line in api.snapshot(documents=False))


def test_feed_of_many_large_documents(api, registry):
    """The largest body, of bytes that are all escaped, and more of them than one batch holds."""
    begin, body = registry.head(), '"' * 65536
    seqs = [registry.append_document(f"test/large{n}", body, "alpha") for n in range(40)]
    with contextlib.closing(api.feed(begin, documents=True)) as feed:
        rows = [feed.row() for _ in range(40)]
    assert [row["seq"] for row in rows] == seqs
    assert all(row["body"] == body for row in rows)
    assert sum(line.get("body") == body for line in api.snapshot()) == 40
    registry.admin("DELETE FROM feed WHERE document LIKE 'test/large%'")


def test_feed_has_the_policies_of_tiers(api):
    assert [line["body"] for line in api.snapshot() if line.get("document") == "policy/standard"] == ["{}"]


def test_feed_slow_reader(api, registry):
    """Who does not read holds up nobody, and gets all when it reads on."""
    begin = registry.head()
    with contextlib.closing(api.feed(begin)) as slow, contextlib.closing(api.feed(begin)) as quick:
        last = registry.admin("""
            WITH rows AS (INSERT INTO feed SELECT h.seq + n, 200000, 'alpha', n,
                          jsonb_build_object('pad', repeat('y', 2000))
                          FROM feed_head h, generate_series(1, 6000) n RETURNING seq),
                 note AS (SELECT pg_notify('bulkhead_feed', ''))
            UPDATE feed_head SET seq = seq + 6000 FROM note RETURNING seq""")[0][0]
        for feed in (quick, slow):
            seen = 0
            while seen < 6000:
                seen += feed.row()["version"] == seen + 1
            assert feed.row is not None
        assert api.call("GET", "/readyz").status == 200
    registry.admin("DELETE FROM feed WHERE no = 200000")
    assert registry.head().endswith(f".{last}")


def test_feed_heartbeats(api, registry):
    with contextlib.closing(api.feed(registry.head())) as feed:
        head = int(registry.head().partition(".")[2])
        assert feed.line() == {"head": head}
        begin = time.monotonic()
        assert feed.line() == {"head": head}
        assert 4 < time.monotonic() - begin < 15


def test_feed_survives_clients_that_vanish(api, registry):
    for _ in range(50):
        api.feed(registry.head()).close()
    with contextlib.closing(api.feed(registry.head())) as feed:
        assert "head" in feed.line()
        seq, _ = registry.append(95)
        assert feed.row()["seq"] == seq


def test_old_rows_of_the_feed_are_pruned(api, registry, tenant, name):
    """What a newer row replaces goes quietly; a tombstone goes with a 410 for who has not read it."""
    begin = registry.head()
    old = [registry.append(no, record)[0] for no, record in (
        (tenant["no"], '{"id": "a"}'), (701, '{"id": "b"}'), (tenant["no"], None), (702, '{"id": "c"}'), (701, None))]
    registry.admin("UPDATE feed SET at = now() - interval '40 days' WHERE seq = ANY(%s)", args=(old,))
    newest, _ = registry.append(702, '{"id": "d"}')
    def prune():
        pruning = Api(registry)
        try:
            deadline = time.monotonic() + 20
            while "rows of the feed" not in pruning.log.read_text() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            pruning.close()
        return [seq for seq, in registry.admin("SELECT seq FROM feed WHERE seq = ANY(%s) ORDER BY 1", args=(old + [newest],))]
    assert prune() == [old[2], old[4], newest]  # the tenant is not gone, 701 was never one
    with contextlib.closing(api.feed(begin)) as feed:
        assert [feed.row()["seq"] for _ in range(3)] == [old[2], old[4], newest]
    registry.settle(tenant["id"], "gone")
    assert prune() == [old[4], newest]
    problem(api.call("GET", f"/v1/feed?after={begin}", token=AGENT), 410, "gone")
    incarnation = begin.partition(".")[0]
    problem(api.call("GET", f"/v1/feed?after={incarnation}.{old[2] - 1}", token=AGENT), 410, "gone")
    with contextlib.closing(api.feed(f"{incarnation}.{old[2]}")) as feed:
        assert feed.row()["seq"] == old[4]
    lines = api.snapshot(documents=False)[1:]
    assert [line["record"]["id"] for line in lines if line["no"] in (701, 702, tenant["no"])] == ["d"]


def test_old_rows_of_documents_are_pruned(api, registry):
    begin = registry.head()
    old = [registry.append_document(name, body, None) for name, body in (
        ("old/kept", "1"), ("old/kept", "2"), ("old/gone", "1"), ("old/gone", None))]
    registry.admin("UPDATE feed SET at = now() - interval '40 days' WHERE seq = ANY(%s)", args=(old,))
    pruning = Api(registry)
    try:
        wait_for(lambda: "rows of the feed" in pruning.log.read_text(), "nothing was pruned")
    finally:
        pruning.close()
    assert registry.admin("SELECT seq FROM feed WHERE document LIKE 'old/%%'", args=()) == [(old[1],)]
    problem(api.call("GET", f"/v1/feed?after={begin}", token=AGENT), 410, "gone")


def test_new_incarnation_ends_the_streams(api, registry):
    old = registry.head()
    with contextlib.closing(api.feed(old)) as feed:
        assert "head" in feed.line()
        registry.admin("UPDATE install SET incarnation = %s", args=(str(uuid.uuid4()),))
        registry.append(96)
        assert feed.line() is None
    problem(api.call("GET", f"/v1/feed?after={old}", token=AGENT), 410)
    assert api.call("HEAD", f"/v1/feed?after={registry.head()}", token=AGENT).status == 200


# ---- keyring, usage, agents ----

def test_keyring(api):
    answer = api.call("GET", "/v1/keyring", token=AGENT)
    assert answer.status == 200 and answer.headers["Cache-Control"] == "no-store"
    install = uuid.UUID(INSTALL_UID).bytes
    user = bhtoken.derive_user_cell_key(MASTER, install, uuid.UUID(CELL_UID).bytes, 1)
    server = bhtoken.derive_server_key(MASTER, install, uuid.UUID(SERVER_UID).bytes, 1)
    validity = {"not_before": 1577836800, "not_after": 4070908800}
    own = (MASTER, install, uuid.UUID(CELL_UID).bytes)
    assert answer.json() == {
        "install": INSTALL_UID, "cell": CELL_UID, "hash_key": bhtoken.derive_hash_key(*own).hex(),
        "seal_key": bhtoken.derive_seal_key(*own).hex(), "user_keys": [{"epoch": 1, "key": user.hex(), **validity}],
        "servers": [{"name": "srv", "uid": SERVER_UID, "keys": [{"kid": "srv.1", "key": server.hex(), **validity}]}]}
    other = api.call("GET", "/v1/keyring", token=OTHER_AGENT).json()
    assert other["cell"] != CELL_UID and user.hex() not in json.dumps(other)


def usage_body(no, value, meter="requests", source="edge-1", **more):
    return {"source": source, "file_epoch": 2**64 - 1, "sampled_at": time.strftime("%Y-%m-%dT%H:%M:%S.000Z",
            time.gmtime()), "values": [{"no": no, "meter": meter, "value": value}], **more}


def test_usage(api, tenant):
    path = f"/v1/usage?tenant={tenant['id']}"
    assert api.call("GET", path).json() == {"items": [], "next_page_token": None}
    for value in (5, 5, 12):  # absolute, and one is repeated
        assert api.call("POST", "/v1/usage", usage_body(tenant["no"], value), token=AGENT).status == 204
    assert api.call("POST", "/v1/usage", usage_body(tenant["no"], 3, "denied", "edge-1/w"), token=AGENT).status == 204
    items = api.call("GET", path).json()["items"]
    totals = {}
    for item in items:
        assert list(item) == ["tenant", "meter", "hour", "value"] and item["tenant"] == tenant["id"]
        assert item["hour"].endswith(":00:00.000Z")
        totals[item["meter"]] = totals.get(item["meter"], 0) + item["value"]
    assert totals == {"requests": 12, "denied": 3}
    assert {item["meter"] for item in api.call("GET", path + "&meter=denied").json()["items"]} == {"denied"}
    assert len(pages(api, path, 1)) == len(items)
    assert api.call("GET", path + "&from=2020-01-01T00:00:00Z&to=2020-01-02T00:00:00Z").json()["items"] == []
    assert api.call("GET", "/v1/usage?tenant=nobody").json()["items"] == []


@pytest.mark.parametrize("change,pointers", [
    ({"source": ...}, ["/source"]), ({"source": ""}, ["/source"]), ({"source": "a b"}, ["/source"]),
    ({"file_epoch": -1}, ["/file_epoch"]), ({"file_epoch": 2**64}, ["/file_epoch"]), ({"file_epoch": "1"}, ["/file_epoch"]),
    ({"sampled_at": 5}, ["/sampled_at"]), ({"sampled_at": "now"}, ["/sampled_at"]), ({"values": {}}, ["/values"]),
    ({"values": [1]}, ["/values/0"]), ({"values": [{"no": 1, "meter": "requests", "value": 1, "x": 2}]}, ["/values/0/x"]),
    ({"values": [{"no": 0, "meter": "cpu", "value": -1}]}, ["/values/0/no", "/values/0/meter", "/values/0/value"]),
    ({"values": [{"no": 1, "meter": "requests", "value": 1}, {}]},
     ["/values/1/no", "/values/1/meter", "/values/1/value"]),
    ({"values": [{"no": 1, "meter": "db_rows", "value": 1}]}, ["/values/0/meter"]),  # the database's to say
    ({"more": 1}, ["/more"]),
])
def test_illegal_usage(api, tenant, change, pointers):
    body = usage_body(tenant["no"], 1)
    body.update(change)
    body = {key: value for key, value in body.items() if value is not ...}
    problem(api.call("POST", "/v1/usage", body, token=AGENT), 422, "invalid", pointers)


def test_usage_too_large_for_its_column(api, tenant):
    """Where the sum of an hour ends at the largest number, the post's other values still count."""
    path, most = f"/v1/usage?tenant={tenant['id']}", 2**63 - 1
    for source in ("edge-1/a", "edge-1/b"):
        body = usage_body(tenant["no"], most, source=source)
        body["values"].append({"no": tenant["no"], "meter": "denied", "value": 4})
        assert api.call("POST", "/v1/usage", body, token=AGENT).status == 204
    values = {item["meter"]: item["value"] for item in api.call("GET", path).json()["items"]}
    assert values == {"requests": most, "denied": 8}


def test_usage_of_unknown_tenant(api, tenant):
    body = usage_body(tenant["no"], 1, source="edge-1/unknown")
    body["values"].append({"no": 2**31 - 1, "meter": "requests", "value": 1})
    problem(api.call("POST", "/v1/usage", body, token=AGENT), 422, "invalid")
    assert api.call("GET", f"/v1/usage?tenant={tenant['id']}").json()["items"] == []


def test_usage_of_another_source(api, tenant):
    for source in ("edge-2", "edge-10", "edge", "edge-1x", "x/edge-1"):
        problem(api.call("POST", "/v1/usage", usage_body(tenant["no"], 1, source=source), token=AGENT), 403)


# ---- audit, servers, selfcheck: the lists; test_watch.py has what fills them ----

@pytest.fixture(scope="module")
def entries(api, registry):
    """Thirty refusals, one a minute, of the tenants aa (even) and bb (odd), and three notes."""
    registry.admin("""
        DELETE FROM audit;
        INSERT INTO audit (id, kind, server, epoch, seq, at, no, tenant, subject, database, object, sqlstate, message, fingerprint)
        SELECT 'aud_' || ulid(at, int8send(n) || '\\x0000'), 'refused', 'srv', 1, n, at, 1000 + n % 2, ('{aa,bb}'::text[])[1 + n % 2],
               's' || n, 'shared1', 'table t1.x', ('{42501,TN005,25006}'::text[])[1 + n % 3], 'no "way"', 'f' || n
        FROM (SELECT n, timestamptz '2026-01-01 00:00Z' + n * interval '1 min' AS at FROM generate_series(1, 30) n) x;
        INSERT INTO audit (id, kind, server, epoch, seq, at, count, message)
        SELECT 'aud_' || ulid(at, int8send(n) || '\\x0000'), kind, 'srv', 1, -n, at, 7, 'note'
        FROM (SELECT n, kind, timestamptz '2026-01-02 00:00Z' + n * interval '1 min' AS at
              FROM unnest('{suppressed,dropped,restart}'::text[]) WITH ORDINALITY AS k (kind, n)) x""")
    yield
    registry.admin("DELETE FROM audit")


def test_audit(api, entries):
    items = pages(api, "/v1/audit?", 7)
    assert len(items) == 33 and [item["id"] for item in items] == sorted((item["id"] for item in items), reverse=True)
    assert [item["at"] for item in items] == sorted((item["at"] for item in items), reverse=True)
    assert all(re.fullmatch(r"aud_[0-9A-HJKMNP-TV-Z]{26}", item["id"]) and TIME.match(item["at"]) for item in items)
    assert items[3] == {
        "id": items[3]["id"], "kind": "refused", "at": "2026-01-01T00:30:00.000Z", "tenant": "aa", "no": 1000, "subject": "s30",
        "server": "srv", "database": "shared1", "object": "table t1.x", "code": "42501", "title": "Not permitted",
        "message": 'no "way"', "fingerprint": "f30", "count": 1}
    assert list(items[3]) == list(items[0])
    assert [(item["kind"], item["count"], item["tenant"], item["no"], item["code"]) for item in items[:3]] == [
        (kind, 7, None, None, None) for kind in ("restart", "dropped", "suppressed")]
    assert len({item["title"] for item in items[:3]}) == 3
    titles = {item["code"]: item["title"] for item in items}
    assert titles["TN005"] == "Statement is not allowed" and titles["25006"] == "PostgreSQL refused a statement"


@pytest.mark.parametrize("query,count", [
    ("", 33), ("tenant=aa", 15), ("tenant=bb&code=TN005", 5), ("tenant=nobody", 0), ("code=ZZZZZ", 0), ("code=25006", 10),
    ("from=2026-01-01T00:30:00Z", 4), ("to=2026-01-01T00:30:00Z", 29), ("from=2026-01-01T00:02:00Z&to=2026-01-01T00:05:00Z", 3),
    ("from=2026-01-01T01:02:00%2B01:00&to=2026-01-01T00:02:00.001Z", 1), ("from=2027-01-01T00:00:00Z", 0),
    ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 0),
])
def test_audit_filters(api, entries, query, count):
    assert len(api.call("GET", f"/v1/audit?limit=500&{query}").json()["items"]) == count
    assert len(pages(api, f"/v1/audit?{query}", 4)) == count


def test_audit_page_token_is_of_its_filters(api, entries):
    token = api.call("GET", "/v1/audit?limit=5&code=TN005").json()["next_page_token"]
    assert len(api.call("GET", f"/v1/audit?limit=500&code=TN005&page_token={token}").json()["items"]) == 5
    for query in ("code=25006", "", "code=TN005&tenant=aa", "code=TN005&to=2027-01-01T00:00:00Z"):
        problem(api.call("GET", f"/v1/audit?{query}&page_token={token}"), 422, "invalid", ["?page_token"])
    for key in ("aud_1", "aud_" + "U" * 26, "'; DROP TABLE audit"):
        problem(api.call("GET", f"/v1/audit?page_token={forged_page('/v1/audit', key)}"), 422, "invalid", ["?page_token"])


def test_a_tenant_that_is_gone_keeps_its_rows(api, registry, entries, tenant):
    registry.admin("UPDATE audit SET tenant = %s, no = %s WHERE seq = 5", args=(tenant["id"], tenant["no"]))
    registry.settle(tenant["id"], "gone")
    assert api.call("GET", f"/v1/tenants/{tenant['id']}").status == 404
    assert [item["no"] for item in api.call("GET", f"/v1/audit?tenant={tenant['id']}").json()["items"]] == [tenant["no"]]


def test_servers(api):
    items = pages(api, "/v1/servers?", 1)
    assert [(item["name"], item["cell"]) for item in items] == [("main", "main"), ("srv", "alpha")]
    assert list(items[0]) == ["name", "cell", "state", "message", "extension", "changed_at", "read_at", "databases"]
    down = wait_down(api)
    assert "refused" in down["message"] and down["read_at"] is None and TIME.match(down["changed_at"])
    assert [database["name"] for database in down["databases"]] == ["shared1"]
    assert (items[1]["state"], items[1]["databases"]) == ("unknown", [])  # of a cell that no daemon serves


def wait_down(api):
    """The server `main` of these tests is an address where nobody listens."""
    deadline = time.monotonic() + 20
    while True:
        item = api.call("GET", "/v1/servers").json()["items"][0]
        if item["state"] == "down" or time.monotonic() > deadline:
            return item
        time.sleep(0.1)


def test_findings(api, registry):
    wait_down(api)
    registry.admin("INSERT INTO finding (server, database, object, problem, fix)"
                   " SELECT 'main', 'shared1', 'o' || n, 'p', CASE WHEN n > 1 THEN 'f' END FROM generate_series(1, 12) n")
    try:
        items = pages(api, "/v1/selfcheck?server=main", 5)
        assert [item["object"] for item in items] == [f"o{n}" for n in range(1, 13)]
        assert list(items[0]) == ["server", "database", "object", "problem", "fix", "found_at"]
        assert (items[0]["fix"], items[1]["fix"]) == (None, "f")
        for query, count in (("database=shared1", 12), ("server=srv", 0), ("server=main&database=x", 0)):
            assert len(api.call("GET", f"/v1/selfcheck?{query}").json()["items"]) == count
        assert api.call("GET", "/v1/servers").json()["items"][0]["databases"][0]["findings"] == 12
        problem(api.call("GET", f"/v1/selfcheck?page_token={forged_page('/v1/selfcheck', 'x')}"), 422, "invalid", ["?page_token"])
        answer = api.call("POST", "/v1/selfcheck")
        assert answer.status == 202 and list(answer.json()) == ["asked_at"] and TIME.match(answer.json()["asked_at"])
        problem(api.call("POST", "/v1/selfcheck?now=true"), 422, "invalid", ["?now"])
    finally:
        registry.admin("DELETE FROM finding")


def test_audit_is_pruned_by_age_and_by_who_has_most(registry):
    """A tenant that floods pushes out its own rows, not those of others."""
    registry.admin("""
        DELETE FROM audit;
        INSERT INTO audit (id, kind, server, epoch, seq, at, no, tenant)
        SELECT 'aud_' || ulid(at, int8send(n) || '\\x0000'), 'refused', 'srv', 1, n, at, who, 'w' || who
        FROM (SELECT n, CASE WHEN n <= 30 THEN 1 ELSE 2 END AS who, CASE WHEN n % 10 = 0 AND n <= 30
              THEN now() - interval '3 days' ELSE now() - interval '1 hour' + n * interval '1 s' END AS at
              FROM generate_series(1, 530) n) x""")
    pruning = Api(registry, audit_days=2, audit_rows=100)
    try:
        deadline = time.monotonic() + 20
        while registry.admin("SELECT count(*) FROM audit")[0][0] > 100 and time.monotonic() < deadline:
            time.sleep(0.1)
        kept = dict(registry.admin("SELECT no, array_agg(seq ORDER BY seq) FROM audit GROUP BY no"))
        assert kept[1] == [n for n in range(1, 31) if n % 10]  # all but the three that were too old
        assert kept[2] == list(range(531 - len(kept[2]), 531)) and 60 <= len(kept[2]) <= 73
    finally:
        pruning.close()
        registry.admin("DELETE FROM audit")


def ack(registry, seq=None, **more):
    incarnation, _, head = registry.head().partition(".")
    return {"applied": {"incarnation": incarnation, "seq": int(head) if seq is None else seq}, "key_epoch": 1,
            "in_flight": {}, **more}


def test_agents(api, registry):
    body = ack(registry)
    assert api.call("PUT", "/v1/agents/edge-1", body, token=AGENT).status == 204
    assert registry.admin("SELECT cell, seq, key_epoch FROM agent WHERE id = 'edge-1'") == [
        ("alpha", body["applied"]["seq"], 1)]
    problem(api.call("PUT", "/v1/agents/edge-2", body, token=AGENT), 403)
    problem(api.call("PUT", "/v1/agents/edge-2", b"broken", token=AGENT), 403)
    problem(api.call("PUT", "/v1/agents/edge-1", ack(registry, body["applied"]["seq"] + 1), token=AGENT), 422, "invalid",
            ["/applied/seq"])


@pytest.mark.parametrize("change,pointers", [
    ({"applied": ...}, ["/applied"]), ({"applied": 1}, ["/applied"]), ({"applied": {}}, ["/applied/incarnation", "/applied/seq"]),
    ({"key_epoch": "1"}, ["/key_epoch"]), ({"key_epoch": 2**31}, ["/key_epoch"]), ({"in_flight": 1}, ["/in_flight"]),
    ({"x": 1}, ["/x"]), ({"applied": {"incarnation": "x", "seq": 1}}, ["/applied/incarnation"]),
])
def test_illegal_acknowledgement(api, registry, change, pointers):
    body = ack(registry)
    body.update(change)
    body = {key: value for key, value in body.items() if value is not ...}
    problem(api.call("PUT", "/v1/agents/edge-1", body, token=AGENT), 422, "invalid", pointers)


# ---- the process ----

def test_many_connections_and_keep_alive(api):
    connections = [http.client.HTTPConnection("127.0.0.1", api.port, timeout=20) for _ in range(100)]
    for _ in range(3):
        for connection in connections:
            connection.request("GET", "/v1/tenants?limit=1", headers={"Authorization": f"Bearer {OPERATOR}"})
        for connection in connections:
            response = connection.getresponse()
            assert response.status == 200
            response.read()
    for connection in connections:
        connection.close()


@pytest.mark.parametrize("data", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02",
                                  b"GET /livez HTTP/1.1\r\nA: " + b"x" * 100000 + b"\r\n\r\n",
                                  b"PUT /v1/tenants/x HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n"])
def test_garbage_on_the_wire(api, data):
    with socket.create_connection(("127.0.0.1", api.port), timeout=2) as s:
        with contextlib.suppress(OSError):
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            while s.recv(65536):
                pass
    assert api.call("GET", "/livez").status == 200


def test_log_has_no_secrets(api, tenant):
    token = api.call("POST", "/v1/tokens", {"tenant": tenant["id"], "sub": "someone"}).json()["token"]
    answer = api.call("GET", "/v1/tenants?q=findme")
    api.call("GET", "/v1/keyring", token=AGENT)
    log = api.log.read_text()
    line = [line for line in log.splitlines() if answer.headers["X-Request-Id"] in line][0]
    assert "method=GET path=/v1/tenants status=200 ms=" in line and line.endswith("principal=ops")
    for secret in (OPERATOR, AGENT, "findme", token, MASTER.hex(), "registry-secret"):
        assert secret not in log


def test_nobody_writes_the_log_but_us(api):
    """Control characters in method and path are escaped, and however long that gets, lines stay whole."""
    seen = len(api.log.read_text())
    forged = b"/" + b"\x01\"\x1b[2J" * 60
    for method, path in ((b"GET", b"/x%0atime=1"), (b"GET", forged), (b"\x01" * 250, forged), (b"GET", b"/" + b"\xff" * 250)):
        answer = api.raw(method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 401"), answer
    assert api.call("GET", "/livez").status == 200
    text = api.log.read_text()[seen:]
    lines = [line for line in text.splitlines() if " request_id=" in line]
    assert text.endswith("\n") and len(lines) >= 5
    assert all(line.startswith("time=20") and line.count(" status=") == 1 and line.isprintable() for line in lines), lines
    assert [line.split(" status=")[1][:3] for line in lines] == ["401"] * 4 + ["200"]


def test_registry_down(registry, api):
    """503 while the registry is away, streams live on, and all works again when it is back."""
    with contextlib.closing(api.feed(registry.head())) as feed:
        assert "head" in feed.line()
        registry.stop("immediate")
        begin = time.monotonic()
        problem(api.call("GET", "/readyz", token=None), 503, "unavailable")
        problem(api.call("GET", "/v1/tenants"), 503, "unavailable")
        problem(api.call("GET", "/v1/tenants", token="wrong"), 503, "unavailable")
        assert time.monotonic() - begin < 15
        assert api.call("GET", "/livez").status == 200
        registry.start()
        assert api.call("GET", "/readyz", token=None).status == 200
        assert api.call("GET", "/v1/tenants").status == 200
        problem(api.call("GET", "/v1/tenants", token="wrong"), 401)
        seq, _ = registry.append(97)
        assert feed.row()["seq"] == seq


def test_registry_frozen(registry, api):
    """A registry that hangs makes nobody hang: 503 in seconds, and all works again when it thaws."""
    pids = [row[0] for row in registry.admin("SELECT pid FROM pg_stat_activity")]
    frozen = [int((registry.data / "postmaster.pid").read_text().split()[0])] + pids
    assert api.call("GET", "/v1/tenants").status == 200
    stopped = []
    try:
        for pid in frozen:
            with contextlib.suppress(ProcessLookupError):  # the backend that listed them is gone
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
        assert len(stopped) > 5
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            begin = time.monotonic()
            for answer in pool.map(lambda _: api.call("GET", "/v1/tenants"), range(12)):
                problem(answer, 503, "unavailable")
            assert time.monotonic() - begin < 30
        assert api.call("GET", "/livez").status == 200
    finally:
        for pid in stopped:
            with contextlib.suppress(ProcessLookupError):  # a worker that SIGSTOP met on its way out
                os.kill(pid, signal.SIGCONT)
    assert api.call("GET", "/v1/tenants").status == 200


def test_stop_with_open_streams(registry, api):
    with contextlib.closing(Api(registry)) as other:
        feeds = [other.feed(registry.head()) for _ in range(3)]
        assert all("head" in feed.line() for feed in feeds)
        idle = http.client.HTTPConnection("127.0.0.1", other.port, timeout=20)
        idle.request("GET", "/livez")
        assert idle.getresponse().read()
        begin = time.monotonic()
        assert other.stop(signal.SIGINT) == 0
        assert time.monotonic() - begin < 10
        assert all(feed.line() is None for feed in feeds)
    assert api.call("GET", "/livez").status == 200


def test_bad_start(registry, api):
    import subprocess

    from pgserver import as_engine_user

    def start(*more):
        command = [str(word) for word in api.command()] + [str(word) for word in more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd="/", **as_engine_user(),
                              env={**os.environ, "PGPASSFILE": str(registry.dir / "pgpass")})

    def secret(name, text, mode):
        from pgserver import give_to_engine_user
        path = registry.dir / name
        path.write_text(text)
        os.chmod(path, mode)
        give_to_engine_user(path)
        return path

    for arguments, status, message in [
            ((), 78, "Address already in use"),
            (("--no-such",), 64, "no-such"),
            (("--workers", "0"), 78, "--workers"),
            (("--edge-url", "https://x"), 78, "--edge-url"),
            (("--master-key", registry.dir / "absent"), 78, "absent"),
            (("--master-key", secret("open.key", MASTER.hex(), 0o640)), 78, "chmod"),
            (("--master-key", secret("short.key", MASTER.hex()[2:], 0o400)), 78, "64 hexadecimal"),
            (("--principals", secret("bad-principals", "ops operator alpha 00\n", 0o400)), 78, "line 1"),
            (("--listen", "localhost:1"), 78, "--listen")]:
        ended = start(*arguments)
        assert ended.returncode == status and message in ended.stderr, ended
        assert MASTER.hex()[2:] not in ended.stderr
    assert start("--help").returncode == 0
