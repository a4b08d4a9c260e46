"""Input that must be refused, from outside through the whole stack, each beside one that must not."""
import base64
import hashlib
import hmac
import json
import socket
import time

import pytest

from stack import call


def refused(answer, status, code):
    assert (answer.status, answer.code) == (status, code), answer
    body = answer.json()
    assert body["status"] == status and body["title"] and body["detail"] and body["request_id"]


@pytest.fixture(scope="module")
def token(stack):
    return stack.user_token("acme")


@pytest.fixture(autouse=True)
def positive_control(stack, token):
    """Before and after each refusal the right request passes."""
    assert stack.request("acme", token=token).status == 200
    yield
    assert stack.request("acme", token=token).status == 200


# -- edge: which tenant --------------------------------------------------------------------


@pytest.mark.parametrize("host, status, code", [
    ("nobody.localhost", 404, "tenant-unknown"),
    ("acme.example.com", 404, "tenant-unknown"),
    ("acme.localhost.example.com", 404, "tenant-unknown"),
    ("a.acme.localhost", 404, "tenant-unknown"),
    ("localhost", 400, "tenant-missing"),
    ("127.0.0.1", 400, "tenant-missing"),
    ("[::1]", 400, "tenant-missing"),
])
def test_host(stack, token, host, status, code):
    refused(stack.request("acme", token=token, host=host), status, code)


@pytest.mark.parametrize("host", ["ACME.localhost", "acme.localhost.", "acme.localhost:1"])
def test_host_written_otherwise(stack, token, host):
    assert stack.request("acme", token=token, host=host).status == 200


def test_no_host(stack, token):
    old = stack.raw(b"GET /orders HTTP/1.0\r\n\r\n")
    assert b" 400 " in old.split(b"\r\n")[0] and b"tenant-missing" in old
    new = stack.raw(b"GET /orders HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert b" 400 " in new.split(b"\r\n")[0] and b"application/problem+json" in new


def test_absolute_form_against_host(stack, token):
    line = b"GET http://globex.localhost/orders HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n"
    answer = stack.raw(line + b"Authorization: Bearer " + token.encode() + b"\r\n\r\n")
    assert b" 400 " in answer.split(b"\r\n")[0] and b"tenant-conflict" in answer


# -- edge: credentials ---------------------------------------------------------------------


def parts(token):
    def decode(text):
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    header, claims, mac = token.split(".")
    return json.loads(decode(header)), json.loads(decode(claims)), mac


def encode(value):
    data = value if isinstance(value, bytes) else json.dumps(value, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def test_wrong_tenant(stack, token):
    refused(stack.request("globex", token=token), 401, "token-tenant-mismatch")
    assert stack.request("globex", token=stack.user_token("globex")).status == 200


def test_expired(stack):
    short = stack.user_token("acme", ttl=1)
    assert stack.request("acme", token=short).status == 200
    time.sleep(6.5)  # its second, and the leeway of five
    refused(stack.request("acme", token=short), 401, "token-expired")


def forgeries(token):
    header, claims, mac = parts(token)
    later = {**claims, "exp": claims["exp"] + 1}
    none = {**header, "alg": "none"}
    signed = f"{encode(header)}.{encode(later)}"
    return {
        "garbage": "garbage",
        "dots": "..",
        "other claims, old mac": f"{signed}.{mac}",
        "other claims, own key": f"{signed}.{encode(hmac.digest(b'key', signed.encode(), 'sha256'))}",
        "alg none": f"{encode(none)}.{encode(claims)}.",
        "alg none, old mac": f"{encode(none)}.{encode(claims)}.{mac}",
        "cut": token[:-1],
        "padded": token + "=",
        "one more part": token + ".x",
        "a digest": hashlib.sha256(token.encode()).hexdigest(),
    }


@pytest.mark.parametrize("name", forgeries("e30.eyJleHAiOjF9.x").keys())
def test_forged(stack, token, name):
    refused(stack.request("acme", token=forgeries(token)[name]), 401, "token-invalid")


def test_job_token_is_no_user_token(stack):
    refused(stack.request("acme", token=stack.job_token("acme")), 401, "token-invalid")


def test_not_bearer(stack, token):
    refused(stack.request("acme", Authorization="Basic YWNtZTp4"), 401, "token-invalid")


def test_a_wrong_credential_where_none_is_needed(stack, token):
    refused(stack.request("acme", "/", token="garbage"), 401, "token-invalid")
    assert stack.request("acme", "/").status == 200


def test_two_credentials(stack, token):
    line = f"Authorization: Bearer {token}\r\n"
    head = "GET /orders HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\n"
    assert b" 200 " in stack.raw((head + line + "\r\n").encode()).split(b"\r\n")[0]
    assert b" 400 " in stack.raw((head + line + line + "\r\n").encode()).split(b"\r\n")[0]


def test_a_token_of_100_kilobytes(stack):
    head = b"GET /orders HTTP/1.1\r\nHost: acme.localhost\r\nConnection: close\r\nAuthorization: Bearer "
    with socket.create_connection(("127.0.0.1", stack.ports["edge"]), timeout=10) as s:
        try:
            s.sendall(head + b"a" * 100_000 + b"\r\n\r\n")
        except ConnectionError:
            pass  # refused before its end
        answer = b""
        try:
            while chunk := s.recv(65536):
                answer += chunk
        except ConnectionError:
            pass
    status = int(answer.split()[1])
    assert status in (400, 401, 431) and b"application/problem+json" in answer, answer[:300]


def test_a_token_of_5000_bytes(stack):
    refused(stack.request("acme", token="a" * 5000), 401, "token-invalid")


@pytest.mark.parametrize("name, value", [
    ("X-Tenant-ID", "globex"), ("X-Scope-OrgID", "globex"), ("X-Bulkhead-Database", "postgres"),
    ("X-Bulkhead-Token", "forged"), ("X-Bulkhead-Foo", "x"), ("Forwarded", "host=globex.localhost"),
    ("X-Original-URL", "/products"), ("X-Rewrite-URL", "/products"), ("X-Forwarded-Host", "globex.localhost"),
])
def test_spoofed_header_changes_nothing(stack, token, name, value):
    plain = stack.request("acme", token=token)
    spoofed = stack.request("acme", token=token, **{name.replace("-", "_"): value})
    assert (spoofed.status, spoofed.body) == (plain.status, plain.body)
    page = stack.request("acme", "/", **{name.replace("-", "_"): value})
    assert page.status == 200 and b"globex" not in page.body


def test_the_application_itself_takes_only_true_tokens(stack, token):
    """Past the edge, straight to the shop: the database decides."""
    port = stack.ports["app"]
    database = stack.api("GET", "/v1/tenants/acme").json()["database"]
    true = {"X-Bulkhead-Token": stack.job_token("acme"), "X-Bulkhead-Database": database}
    assert call(port, "GET", "/orders", true).status == 200
    for headers in ({}, {"X-Tenant-ID": "acme"}, {**true, "X-Bulkhead-Token": token},
                    {**true, "X-Bulkhead-Token": "x.y.z"}, {"X-Bulkhead-Database": database}):
        assert call(port, "GET", "/orders", headers).status == 401, headers
    assert call(port, "GET", "/orders", {**true, "X-Bulkhead-Database": "A;b"}).status == 400
    wrong = call(port, "GET", "/orders", {**true, "X-Bulkhead-Database": "postgres"})
    assert wrong.status in (401, 500, 503), wrong


def test_over_the_limit(stack):
    assert stack.put("hasty", {"limits": {"requests_per_second": 1, "burst": 2}})["state"] == "succeeded"
    try:
        token = stack.user_token("hasty")
        time.sleep(2.1)  # what the smoke test took comes back
        answers = [stack.request("hasty", token=token) for _ in range(4)]
        assert [a.status for a in answers[:2]] == [200, 200]
        refused(answers[-1], 429, "rate-limited")
        assert answers[-1].headers["RateLimit"].startswith('"default";r=0;t=')
        wait = int(answers[-1].headers["Retry-After"])
        # bad credentials do not drain the tenant
        time.sleep(wait + 1.1)
        for _ in range(5):
            assert stack.request("hasty", token="garbage").status == 401
        assert stack.request("hasty", token=token).status == 200
    finally:
        assert stack.delete("hasty")["state"] == "succeeded"


# -- control plane -------------------------------------------------------------------------


@pytest.mark.parametrize("body, status, pointer", [
    ("{", 400, None), ("", 400, None), ('{"name":"a","name":"b"}', 400, None), ('"\\ud800"', 400, None),
    ("[]", 422, ""), ('{"nmae":"x"}', 422, "/nmae"), ('{"name":7}', 422, "/name"),
    ('{"tier":"gold-plated"}', 422, "/tier"), ('{"limits":{"burst":0}}', 422, "/limits/burst"),
    ('{"limits":{"requests_per_second":1000001}}', 422, "/limits/requests_per_second"),
    ('{"limits":{"requests_per_second":1.0}}', 422, "/limits/requests_per_second"),
    ('{"limits":{"rps":1}}', 422, "/limits/rps"), ('{"id":"other"}', 422, "/id"),
])
def test_body_of_put(stack, body, status, pointer):
    before = stack.api("GET", "/v1/tenants/acme").json()
    answer = stack.api("PUT", "/v1/tenants/acme", body)
    assert answer.status == status, answer
    if status == 422:
        assert pointer in [e["pointer"] for e in answer.json()["errors"]], answer
    assert stack.api("GET", "/v1/tenants/acme").json() == before


def test_body_larger_than_64_kilobytes(stack):
    answer = stack.api("PUT", "/v1/tenants/toolarge", json.dumps({"name": "x" * 70_000}))
    refused(answer, 413, "too-large")
    assert stack.api("GET", "/v1/tenants/toolarge").status == 404


@pytest.mark.parametrize("tenant", ["Acme", "1acme", "a--b", "acme-", "api", "www", "a" * 49, "a_b", "a.b"])
def test_illegal_id(stack, tenant):
    answer = stack.api("PUT", f"/v1/tenants/{tenant}", {})
    assert answer.status == 422 and answer.json()["errors"][0]["pointer"] == "/id", answer
    assert stack.api("GET", f"/v1/tenants/{tenant}").status == 404


def test_stale_etag(stack):
    tenant = stack.api("GET", "/v1/tenants/umbrella").json()
    wanted = {"name": tenant["name"], "limits": tenant["limits"]}
    assert stack.api("PUT", "/v1/tenants/umbrella", wanted, If_Match='"stale"').status == 412
    assert stack.api("PUT", "/v1/tenants/umbrella", wanted, If_Match=tenant["etag"]).status == 200
    assert stack.api("PUT", "/v1/tenants/nobody", {}, If_Match=tenant["etag"]).status == 412
    assert stack.api("PUT", "/v1/tenants/umbrella", wanted, If_None_Match="*").status == 412


@pytest.mark.parametrize("credential", ["", "garbage", "acme"])
def test_credential_of_the_api(stack, token, credential):
    sent = {"": "", "garbage": "garbage", "acme": token}[credential]
    answer = stack.api("GET", "/v1/tenants", token=sent or "")
    assert answer.status == 401 and answer.headers["WWW-Authenticate"].startswith("Bearer"), answer
    assert stack.api("GET", "/v1/tenants").status == 200


@pytest.mark.parametrize("method, path", [
    ("GET", "/v1/tenants"), ("PUT", "/v1/tenants/acme"), ("DELETE", "/v1/tenants/acme?now=true"),
    ("GET", "/v1/operations"), ("POST", "/v1/tokens"), ("GET", "/v1/usage"),
])
def test_an_agent_may_not_operate(stack, method, path):
    refused(stack.api(method, path, {}, token=stack.credential("agent")), 403, "not-permitted")
    assert stack.api("GET", "/v1/keyring", token=stack.credential("agent")).status == 200


@pytest.mark.parametrize("method, path", [
    ("GET", "/v1/feed"), ("GET", "/v1/feed/snapshot"), ("GET", "/v1/keyring"), ("POST", "/v1/usage"),
    ("PUT", "/v1/agents/a1"),
])
def test_an_operator_is_no_agent(stack, method, path):
    refused(stack.api(method, path, {}), 403, "not-permitted")


def test_paths_and_methods(stack):
    refused(stack.api("GET", "/v1/nothing"), 404, "not-found")
    answer = stack.api("POST", "/v1/tenants/acme", {})
    refused(answer, 405, "method-not-allowed")
    assert "PUT" in answer.headers["Allow"]


# -- command line --------------------------------------------------------------------------

GOOD = "id: hooli\nname: Hooli\n"


@pytest.mark.parametrize("text, place, words", [
    ("id: hooli\nnmae: Hooli\n", ":2:1", "name"),
    ("id: hooli\nlimits: {requests_per_second: many}\n", ":2:31", "requests_per_second"),
    ("id: hooli\nname: A\nname: B\n", ":3:1", "name"),
    ("id: hooli\nlimits: {burst: 0}\n", ":2:17", "burst"),
    ("id: Hooli\n", ":1:5", "id"),
    ("name: Hooli\n", ":1:1", "id"),
    ("id: &a hooli\nname: *a\n", ":1:5", ""),
    ("id: hooli\n  name: [\n", ":2", ""),
    (GOOD + "# " + "x" * 70_000, "", "64 KiB"),
])
def test_tenant_file(stack, tmp_path, text, place, words):
    path = tmp_path / "tenant.yaml"
    path.write_text(text)
    done = stack.cli("apply", "-f", path)
    assert done.returncode == 65, done
    assert f"{path}{place}" in done.stderr and words in done.stderr, done.stderr
    assert stack.api("GET", "/v1/tenants/hooli").status == 404


def test_one_bad_file_of_a_directory_stops_all(stack, tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    (tmp_path / "b.yaml").write_text("id: pied-piper\nlimit: {}\n")
    done = stack.cli("apply", "-f", tmp_path)
    assert done.returncode == 65 and "b.yaml:2:1" in done.stderr, done.stderr
    assert stack.api("GET", "/v1/tenants/hooli").status == 404


def test_a_good_file_passes(stack, tmp_path):
    path = tmp_path / "tenant.yaml"
    path.write_text("\ufeff" + GOOD + "tier: standard\nlimits: {requests_per_second: 5, burst: 5}\n")
    try:
        stack.cli("apply", "-f", path, check=True)
        assert stack.api("GET", "/v1/tenants/hooli").json()["limits"] == {"requests_per_second": 5, "burst": 5}
    finally:
        assert stack.delete("hooli")["state"] == "succeeded"


@pytest.mark.parametrize("args, code", [
    (["frobnicate"], 64), (["token", "acme"], 64), (["tenant", "delete", "acme"], 64),
    (["tenant", "get", "nobody"], 66), (["token", "nobody", "--user", "u1"], 66),
    (["apply", "-f", "/nonexistent.yaml"], 66), (["tenant", "list"], 0), (["version"], 0),
])
def test_exit_codes(stack, args, code):
    done = stack.cli(*args)
    assert done.returncode == code, done
    assert (done.stderr if code else done.stdout).strip()


def test_server_unreachable_and_not_permitted(stack):
    assert stack.cli("tenant", "list", env={"BULKHEAD_URL": "http://127.0.0.1:1"}).returncode == 69
    assert stack.cli("tenant", "list", env={"BULKHEAD_TOKEN": "garbage"}).returncode == 77
