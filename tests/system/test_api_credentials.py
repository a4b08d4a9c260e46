"""/v1/issuers and /v1/tenants/{id}/api-keys: real bulkheadd, real registry, issuers that are HTTP servers of this process."""
import datetime
import hashlib
import hmac
import http.server
import ipaddress
import itertools
import json
import re
import socket
import ssl
import subprocess
import threading
import time
import uuid

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import bhtoken
import jwtfix
from apifix import AGENT, CELL_UID, INSTALL_UID, MASTER, OPERATOR, OTHER_AGENT, PORTS
from pgserver import give_to_engine_user, wait_for
from test_api import TIME, api, problem, registry, tenant  # noqa: F401 (fixtures)

NAMES = (f"c{n}" for n in itertools.count(1))
HEAD = {"issuer": "https://id.example", "audiences": ["shop"]}


@pytest.fixture
def name():
    return next(NAMES)


@pytest.fixture(scope="module")
def keys():
    return [jwtfix.Signer(alg, f"{alg}-{n}") for n, alg in enumerate(("RS256", "ES256", "EdDSA"))]


def jwks(*keys):
    return {"keys": [key.jwk() for key in keys]}


def document(api, name, token=AGENT):
    """The body of a document of the feed's snapshot; None where there is none."""
    for line in api.snapshot(token)[1:]:
        if line.get("document") == name:
            return None if line["body"] is None else json.loads(line["body"])
    return None


class Issuer:
    """An issuer's web server; ${answers} by path: (status, headers, body)."""

    def __init__(self, context=None, address="127.0.0.1"):
        self.port, self.asked, self.answers = PORTS.take(), [], {}
        issuer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                issuer.asked.append(self.path)
                status, headers, body = issuer.answers.get(self.path, (404, {}, b""))
                self.send_response(status)
                for field, value in headers.items():
                    self.send_header(field, value)
                self.end_headers()
                try:
                    self.wfile.write(body if isinstance(body, bytes) else json.dumps(body).encode())
                except OSError:
                    pass

            def log_message(self, *arguments):
                pass

        self.server = http.server.ThreadingHTTPServer((address, self.port), Handler)
        if context:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.url = f"{'https' if context else 'http'}://{address}:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def discover(self, **more):
        self.answers["/.well-known/openid-configuration"] = (
            200, {}, {"issuer": self.url, "jwks_uri": self.url + "/jwks", **more})

    def publish(self, *keys, headers=None):
        self.answers["/jwks"] = (200, headers or {}, jwks(*keys))

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def issuer():
    issuer = Issuer()
    issuer.discover()
    yield issuer
    issuer.stop()


def settled(api, name):
    """The issuer once its first fetch has gone well or wrong."""
    def done():
        status = api.call("GET", f"/v1/issuers/{name}").json()["status"]
        return status["fetched_at"] is not None or status["error"] is not None
    wait_for(done, f"issuer {name} is not settled")
    return api.call("GET", f"/v1/issuers/{name}").json()


# ---- issuers whose keys are given ----

def test_an_issuer_with_given_keys(api, name, keys):
    body = {**HEAD, "keys": jwks(*keys), "algorithms": ["EdDSA", "RS256"], "claims": {"tenant": "org"},
            "tenant_values": {"o1": "acme"}, "leeway_seconds": 0}
    answer = api.call("PUT", f"/v1/issuers/{name}", body)
    assert answer.status == 201, answer
    shown = answer.json()
    assert {key: shown[key] for key in body} == body and shown["name"] == name and shown["generation"] == 1
    assert [key["kid"] for key in shown["status"]["keys"]] == [key.kid for key in keys]
    assert shown["status"]["error"] is None and shown["status"]["next_fetch_at"] is None
    assert TIME.match(shown["created_at"]) and TIME.match(shown["updated_at"])
    assert api.call("GET", f"/v1/issuers/{name}").json() == shown
    for token in (AGENT, OTHER_AGENT):
        assert document(api, f"issuer/{name}", token) == body, "every cell gets it, as the edge reads it"
    again = api.call("PUT", f"/v1/issuers/{name}", shown)
    assert again.status == 200 and again.json()["generation"] == 1, "what is shown can be put back"
    less = {key: body[key] for key in ("issuer", "audiences", "keys")}
    assert api.call("PUT", f"/v1/issuers/{name}", less).json()["generation"] == 2
    assert document(api, f"issuer/{name}") == less
    assert api.call("DELETE", f"/v1/issuers/{name}").status == 204
    assert document(api, f"issuer/{name}") is None
    problem(api.call("GET", f"/v1/issuers/{name}"), 404, "not-found")
    problem(api.call("DELETE", f"/v1/issuers/{name}"), 404, "not-found")


def test_of_a_key_only_what_is_needed_is_kept(api, name, keys):
    rich = {**keys[0].jwk(), "x5c": ["A" * 4000], "x5t": "AA", "note": "\u00e4"}
    other = {"kty": "RSA", "use": "enc", "n": keys[0].jwk()["n"], "e": "AQAB"}
    assert api.call("PUT", f"/v1/issuers/{name}", {**HEAD, "keys": {"keys": [rich, other]}}).status == 201
    assert document(api, f"issuer/{name}")["keys"] == {"keys": [keys[0].jwk(), other]}


BAD = [
    ({}, ["/issuer", "/audiences"]),
    ({**HEAD, "issuer": 7}, ["/issuer"]),
    ({**HEAD, "issuer": "corp"}, ["/issuer"]),
    ({**HEAD, "issuer": "http://id.example"}, ["/issuer"]),
    ({**HEAD, "audiences": []}, ["/audiences"]),
    ({**HEAD, "algorithms": ["HS256"]}, ["/algorithms/0"]),
    ({**HEAD, "keys": {"keys": []}}, ["/keys"]),
    ({**HEAD, "keys": {"keys": [{"kty": "oct", "k": "AA"}]}}, ["/keys"]),
    ({**HEAD, "claims": {"emali": "x"}}, ["/claims/emali"]),
    ({**HEAD, "jwks_uri": "https://id.example/jwks"}, ["/jwks_uri"]),
    ({**HEAD, "name": "other"}, ["/name"]),
    *(({**HEAD, "jwks_url": url}, ["/jwks_url"]) for url in (
        7, "", "id.example/jwks", "http://id.example/jwks", "ftp://127.0.0.1/jwks", "file:///etc/passwd", "https://",
        "https:///jwks", "https://user:pass@id.example/", "http://127.0.0.1@id.example/", "http://127.0.0.1.id.example/",
        "http://localhost.id.example/", "https://id.example/a b", "http://[::1].id.example/", "gopher://127.0.0.1/",
        "https://id.example/" + "x" * 500)),
]


@pytest.mark.parametrize("body, pointers", BAD)
def test_a_wrong_issuer_is_refused(api, name, body, pointers):
    problem(api.call("PUT", f"/v1/issuers/{name}", body), 422, "invalid", pointers)
    problem(api.call("GET", f"/v1/issuers/{name}"), 404, "not-found")


def test_names_of_issuers(api, keys):
    for bad in ("Corp", "1corp", "-x", "x" * 41, "a.b", "a%2Fb", "%00"):
        answer = api.call("PUT", f"/v1/issuers/{bad}", {**HEAD, "keys": jwks(keys[0])})
        assert answer.status in (400, 404, 422), (bad, answer)
    for good in ("x", "corp-1_a", "y" * 40):
        assert api.call("PUT", f"/v1/issuers/{good}", {**HEAD, "keys": jwks(keys[0])}).status == 201
        assert api.call("DELETE", f"/v1/issuers/{good}").status == 204


def test_issuers_are_listed(api, keys):
    names = sorted(f"list{n}" for n in range(5))
    for name in names:
        assert api.call("PUT", f"/v1/issuers/{name}", {**HEAD, "keys": jwks(keys[2])}).status == 201
    seen, token = [], ""
    while token is not None:
        page = api.call("GET", "/v1/issuers?limit=2" + (f"&page_token={token}" if token else "")).json()
        seen, token = seen + [item["name"] for item in page["items"]], page["next_page_token"]
    assert [name for name in seen if name in names] == names and seen == sorted(seen)
    for name in names:
        assert api.call("DELETE", f"/v1/issuers/{name}").status == 204


def test_an_issuer_in_use_stays(api, registry, tenant, name, keys):
    issuer = f"{name}-i"
    assert api.call("PUT", f"/v1/issuers/{issuer}", {**HEAD, "keys": jwks(keys[0])}).status == 201
    registry.admin("UPDATE tenant SET edge = %s WHERE id = %s", args=(json.dumps({"issuers": [issuer]}), name))
    assert f"tenant {name}" in problem(api.call("DELETE", f"/v1/issuers/{issuer}"), 409, "conflict")["detail"]
    registry.admin("UPDATE tenant SET edge = '{}' WHERE id = %s", args=(name,))
    assert api.call("DELETE", f"/v1/issuers/{issuer}").status == 204


def test_only_operators_see_issuers_and_keys(api, tenant):
    for method, path in (("GET", "/v1/issuers"), ("PUT", "/v1/issuers/x"), ("GET", f"/v1/tenants/{tenant['id']}/api-keys"),
                         ("POST", f"/v1/tenants/{tenant['id']}/api-keys"), ("DELETE", f"/v1/tenants/{tenant['id']}/api-keys/x")):
        problem(api.call(method, path, {} if method in ("PUT", "POST") else None, token=AGENT), 403, "not-permitted")
        problem(api.call(method, path, {} if method in ("PUT", "POST") else None, token=None), 401, "unauthenticated")


# ---- issuers whose keys are fetched ----

def test_keys_are_discovered_fetched_and_rotated(api, name, issuer, keys):
    issuer.publish(keys[0], headers={"Cache-Control": "public, max-age=900"})
    body = {"issuer": issuer.url, "audiences": ["shop"]}
    assert api.call("PUT", f"/v1/issuers/{name}", body).status == 201
    assert "keys" not in document(api, f"issuer/{name}") or settled(api, name)
    shown = settled(api, name)
    assert shown["status"]["error"] is None, shown
    assert [key["kid"] for key in shown["status"]["keys"]] == [keys[0].kid]
    after = seconds(shown["status"]["next_fetch_at"]) - seconds(shown["status"]["fetched_at"])
    assert 890 <= after <= 910
    assert document(api, f"issuer/{name}") == {**body, "keys": jwks(keys[0])}
    assert issuer.asked == ["/.well-known/openid-configuration", "/jwks"]
    for published in ((keys[0], keys[1]), (keys[1],), (keys[1], keys[2])):
        issuer.publish(*published)
        refresh(api, name)
        assert document(api, f"issuer/{name}")["keys"] == jwks(*published)
    seq = api.snapshot()[0]["seq"]
    refresh(api, name)
    assert api.snapshot()[0]["seq"] == seq, "what is the same is not published again"


def seconds(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def refresh(api, name):
    before = api.call("GET", f"/v1/issuers/{name}").json()["status"]
    assert api.call("POST", f"/v1/issuers/{name}/refresh").status == 202

    def done():
        now = api.call("GET", f"/v1/issuers/{name}").json()["status"]
        return now["fetched_at"] != before["fetched_at"] or now["error"] not in (None, before["error"])
    wait_for(done, f"issuer {name} was not fetched")
    return api.call("GET", f"/v1/issuers/{name}").json()


@pytest.mark.parametrize("said, least, most", [("max-age=1", 300, 301), ("max-age=999999999", 86399, 86401), ("no-store", 300, 301),
                                               (None, 3599, 3601), ("max-age=x", 3599, 3601), ("private,  Max-Age=700 ", 699, 701)])
def test_how_long_keys_are_fresh(api, name, issuer, keys, said, least, most):
    issuer.publish(keys[0], headers={"Cache-Control": said} if said else {})
    assert api.call("PUT", f"/v1/issuers/{name}", {"issuer": issuer.url, "audiences": ["a"]}).status == 201
    status = settled(api, name)["status"]
    assert least - 2 <= seconds(status["next_fetch_at"]) - seconds(status["fetched_at"]) <= most + 2, status


def big(keys):
    return 200, {}, {"keys": [keys.jwk()], "pad": "x" * 66000}


def secret():
    key = ec.generate_private_key(ec.SECP256R1())
    numbers = key.private_numbers()
    return {"kty": "EC", "crv": "P-256", "x": jwtfix.number(numbers.public_numbers.x, 32),
            "y": jwtfix.number(numbers.public_numbers.y, 32), "d": jwtfix.number(numbers.private_value, 32)}


@pytest.mark.parametrize("broken, word", [
    (lambda issuer, key: issuer.answers.update({"/jwks": (500, {}, b"")}), "500"),
    (lambda issuer, key: issuer.answers.update({"/jwks": (200, {}, b"<html>")}), "JSON"),
    (lambda issuer, key: issuer.answers.update({"/jwks": (200, {}, {"keys": []})}), "no key"),
    (lambda issuer, key: issuer.answers.update({"/jwks": big(key)}), "more than 65536"),
    (lambda issuer, key: issuer.answers.update({"/jwks": (200, {}, {"keys": [secret()]})}), "secret"),
    (lambda issuer, key: issuer.answers.update({"/jwks": (200, {}, {"keys": [key.jwk(), key.jwk()]})}), "kid"),
    (lambda issuer, key: issuer.answers.update({"/jwks": (302, {"Location": issuer.url + "/other"}, b"")}), "redirects"),
    (lambda issuer, key: issuer.discover(issuer="https://evil.example"), "another issuer"),
    (lambda issuer, key: issuer.discover(jwks_uri="http://id.example/jwks"), "jwks_uri"),
    (lambda issuer, key: issuer.discover(jwks_uri="file:///etc/passwd"), "jwks_uri"),
    (lambda issuer, key: issuer.discover(jwks_uri=7), "jwks_uri"),
    (lambda issuer, key: issuer.answers.pop("/.well-known/openid-configuration"), "404"),
    (lambda issuer, key: issuer.stop(), "connect"),
])
def test_the_last_good_keys_stay(api, name, keys, broken, word):
    issuer = Issuer()
    try:
        issuer.discover()
        issuer.publish(keys[0])
        issuer.answers["/other"] = issuer.answers["/jwks"]
        assert api.call("PUT", f"/v1/issuers/{name}", {"issuer": issuer.url, "audiences": ["a"]}).status == 201
        assert settled(api, name)["status"]["error"] is None
        good = document(api, f"issuer/{name}")
        broken(issuer, keys[0])
        shown = refresh(api, name)
        assert word in shown["status"]["error"] and issuer.url in shown["status"]["error"], shown
        assert [key["kid"] for key in shown["status"]["keys"]] == [keys[0].kid]
        assert document(api, f"issuer/{name}") == good and "/other" not in issuer.asked
        soon = seconds(shown["status"]["next_fetch_at"]) - time.time()
        assert soon < 10, "it is tried again soon"
    finally:
        issuer.stop() if word != "connect" else None
        assert api.call("DELETE", f"/v1/issuers/{name}").status == 204


def test_other_settings_forget_keys_that_were_fetched(api, name, issuer, keys):
    issuer.publish(keys[0])
    body = {"issuer": issuer.url, "audiences": ["a"]}
    assert api.call("PUT", f"/v1/issuers/{name}", body).status == 201
    assert settled(api, name)["status"]["keys"]
    assert api.call("PUT", f"/v1/issuers/{name}", {**body, "audiences": ["b"]}).json()["status"]["keys"], "same source"
    moved = {**body, "jwks_url": issuer.url + "/nothing"}
    assert api.call("PUT", f"/v1/issuers/{name}", moved).json()["status"]["keys"] == []
    assert "keys" not in document(api, f"issuer/{name}"), "no keys of another source are trusted"
    given = {**body, "keys": jwks(keys[1])}
    assert [k["kid"] for k in api.call("PUT", f"/v1/issuers/{name}", given).json()["status"]["keys"]] == [keys[1].kid]
    problem(api.call("POST", f"/v1/issuers/{name}/refresh"), 409, "conflict")
    problem(api.call("PUT", f"/v1/issuers/{name}", {**given, "jwks_url": issuer.url}), 422, "invalid", ["/jwks_url"])
    assert api.call("PUT", f"/v1/issuers/{name}", body).json()["status"]["keys"] == [], "given keys end with the gift"
    problem(api.call("POST", "/v1/issuers/none/refresh"), 404, "not-found")


def authority(directory):
    """A CA of our own, a server context with its certificate for 127.0.0.1, and the CA's file."""
    key, ca_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.utcnow()
    subject = lambda text: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])
    build = lambda who, public: x509.CertificateBuilder().subject_name(subject(who)).issuer_name(subject("ca")).public_key(
        public).serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    ca = build("ca", ca_key.public_key()).add_extension(x509.BasicConstraints(True, None), True).sign(ca_key, hashes.SHA256())
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    cert = build("issuer", key.public_key()).add_extension(names, False).sign(ca_key, hashes.SHA256())
    pem = lambda thing: thing.public_bytes(serialization.Encoding.PEM)
    (directory / "ca.pem").write_bytes(pem(ca))
    (directory / "issuer.pem").write_bytes(pem(cert) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "issuer.pem")
    give_to_engine_user(directory / "ca.pem")
    return context, directory / "ca.pem"


def test_the_certificate_of_an_issuer_is_verified(api, registry, name, keys):
    context, ca = authority(registry.dir)
    issuer = Issuer(context)
    try:
        issuer.discover()
        issuer.publish(keys[0])
        assert api.call("PUT", f"/v1/issuers/{name}", {"issuer": issuer.url, "audiences": ["a"]}).status == 201
        shown = settled(api, name)
        assert "certificate" in shown["status"]["error"] and issuer.asked == [], shown
        assert api.stop() == 0
        api.options["issuer_ca"] = ca
        api.start()
        wait_for(lambda: api.call("GET", f"/v1/issuers/{name}").json()["status"]["fetched_at"], "not fetched")
        assert document(api, f"issuer/{name}")["keys"] == jwks(keys[0])
    finally:
        api.options.pop("issuer_ca", None)
        api.stop()
        api.start()
        issuer.stop()


def test_a_fetch_that_hangs_delays_no_stop(api, name):
    port = PORTS.take()
    with socket.create_server(("127.0.0.1", port)) as deaf:
        assert api.call("PUT", f"/v1/issuers/{name}", {"issuer": f"http://127.0.0.1:{port}", "audiences": ["a"]}).status == 201
        deaf.settimeout(10)
        client, _ = deaf.accept()
        started = time.monotonic()
        assert api.stop() == 0
        assert time.monotonic() - started < 6
        client.close()
    api.start()
    assert api.call("GET", f"/v1/issuers/{name}").json()["status"]["error"] is None
    assert api.call("DELETE", f"/v1/issuers/{name}").status == 204


@pytest.mark.parametrize("host", ["10.255.255.1", "172.16.0.1", "192.168.255.254", "169.254.169.254", "100.64.0.1", "0.0.0.0",
                                  "[fe80::1]", "[fc00::1]", "[::ffff:127.0.0.1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]",
                                  "[2002:7f00:1::]", "127.0.0.2", "2130706433", "0x7f.1", "127.1"])
def test_no_issuer_leads_into_closed_networks(api, name, host):
    started = time.monotonic()
    body = {"issuer": "https://id.example", "audiences": ["a"], "jwks_url": f"https://{host}:9/jwks"}
    assert api.call("PUT", f"/v1/issuers/{name}", body).status == 201
    error = settled(api, name)["status"]["error"]
    assert "not public" in error, error
    assert time.monotonic() - started < 5, "nobody was asked"
    assert api.call("DELETE", f"/v1/issuers/{name}").status == 204


def test_private_networks_only_where_that_is_said(api, registry, name, keys):
    body = {"issuer": "https://id.example", "audiences": ["a"], "jwks_url": "https://10.255.255.1:9/jwks"}
    assert api.stop() == 0
    api.options["issuer_networks"] = "private"
    api.start()
    try:
        assert api.call("PUT", f"/v1/issuers/{name}", body).status == 201
        error = settled(api, name)["status"]["error"]
        assert "not public" not in error, error
        body["jwks_url"] = "https://127.0.0.2:9/jwks"
        assert api.call("PUT", f"/v1/issuers/{name}", body).status == 200
        wait_for(lambda: "not public" in (api.call("GET", f"/v1/issuers/{name}").json()["status"]["error"] or ""), "loopback asked")
    finally:
        api.call("DELETE", f"/v1/issuers/{name}")
        api.options.pop("issuer_networks")
        api.stop()
        api.start()


# ---- API keys ----

def name_of(key):
    hashed = bhtoken.derive_hash_key(MASTER, uuid.UUID(INSTALL_UID).bytes, uuid.UUID(CELL_UID).bytes)
    return "key/" + hmac.new(hashed, hashlib.sha256(key.encode()).digest(), hashlib.sha256).hexdigest()


def test_an_api_key(api, registry, tenant):
    path = f"/v1/tenants/{tenant['id']}/api-keys"
    assert api.call("GET", path).json() == {"items": [], "next_page_token": None}
    answer = api.call("POST", path, {"name": "CI \u00e4", "sub": "ci", "scope": "orders.read x", "roles": ["deploy"], "ttl_seconds": 3600})
    assert answer.status == 201 and answer.headers["Cache-Control"] == "no-store", answer
    made = answer.json()
    key = made.pop("key")
    assert re.fullmatch(r"bhk_[0-9A-Za-z]{10}_[0-9A-Za-z]{40}", key) and key.startswith(made["prefix"] + "_")
    assert made["id"].startswith("key_") and len(made["id"]) == 30
    assert {k: made[k] for k in ("name", "sub", "scope", "roles")} == {
        "name": "CI \u00e4", "sub": "ci", "scope": "orders.read x", "roles": ["deploy"]}
    assert 3595 <= seconds(made["expires_at"]) - seconds(made["created_at"]) <= 3601
    assert api.call("GET", path).json()["items"] == [made], "the secret is shown once"
    assert document(api, name_of(key)) == {"no": tenant["no"], "sub": "ci", "scope": "orders.read x", "roles": ["deploy"],
                                           "epoch": 1, "not_after": int(seconds(made["expires_at"]))}
    assert document(api, name_of(key), OTHER_AGENT) is None, "another cell knows nothing of it"
    secret = key.split("_")[2]
    dump = registry.admin("SELECT string_agg(x::text, ' ') FROM (SELECT * FROM api_key) x")[0][0] + registry.admin(
        "SELECT string_agg(f::text, ' ') FROM feed f")[0][0]
    assert secret not in dump and secret not in api.log.read_text()
    assert api.call("DELETE", f"{path}/{made['id']}").status == 204
    assert api.call("GET", path).json()["items"] == [] and document(api, name_of(key)) is None
    problem(api.call("DELETE", f"{path}/{made['id']}"), 404, "not-found")


def test_defaults_of_an_api_key(api, tenant):
    made = api.call("POST", f"/v1/tenants/{tenant['id']}/api-keys", {"name": "x"}).json()
    assert (made["sub"], made["scope"], made["roles"], made["expires_at"]) == (made["prefix"], "", [], None)
    assert document(api, name_of(made["key"])) == {"no": tenant["no"], "sub": made["prefix"], "scope": "", "roles": [], "epoch": 1}


@pytest.mark.parametrize("body, pointers", [
    ({}, ["/name"]), ({"name": ""}, ["/name"]), ({"name": "x" * 201}, ["/name"]), ({"name": "a\nb"}, ["/name"]),
    ({"name": "x", "sub": "a b"}, ["/sub"]), ({"name": "x", "sub": ""}, ["/sub"]), ({"name": "x", "scope": "a  b"}, ["/scope"]),
    ({"name": "x", "roles": "admin"}, ["/roles"]), ({"name": "x", "roles": ["a b"]}, ["/roles/0"]),
    ({"name": "x", "roles": [str(n) for n in range(33)]}, ["/roles"]), ({"name": "x", "ttl_seconds": 59}, ["/ttl_seconds"]),
    ({"name": "x", "ttl_seconds": 10**10}, ["/ttl_seconds"]), ({"name": "x", "key": "bhk_mine"}, ["/key"])])
def test_a_wrong_api_key_is_refused(api, tenant, body, pointers):
    path = f"/v1/tenants/{tenant['id']}/api-keys"
    problem(api.call("POST", path, body), 422, "invalid", pointers)
    assert api.call("GET", path).json()["items"] == []


def test_keys_of_tenants_that_are_not_there(api, registry, tenant, name):
    problem(api.call("POST", "/v1/tenants/nobody/api-keys", {"name": "x"}), 404, "not-found")
    problem(api.call("GET", "/v1/tenants/nobody/api-keys"), 404, "not-found")
    path = f"/v1/tenants/{name}/api-keys"
    made = api.call("POST", path, {"name": "x"}).json()
    other = f"{name}-other"
    assert api.call("PUT", f"/v1/tenants/{other}", {}).status == 202
    problem(api.call("POST", f"/v1/tenants/{other}/api-keys", {"name": "x"}), 409, "conflict")
    registry.settle(other)
    assert api.call("POST", f"/v1/tenants/{other}/api-keys", {"name": "x"}).status == 201
    problem(api.call("DELETE", f"/v1/tenants/{other}/api-keys/{made['id']}"), 404, "not-found")
    assert document(api, name_of(made["key"])) is not None, "nobody revokes another tenant's key"
    registry.settle(name, "gone")
    assert api.stop() == 0
    api.start()
    wait_for(lambda: document(api, name_of(made["key"])) is None, "a key outlives its tenant")


def test_api_keys_are_listed(api, tenant):
    path = f"/v1/tenants/{tenant['id']}/api-keys"
    made = [api.call("POST", path, {"name": f"k{n}"}).json()["id"] for n in range(5)]
    seen, token = [], ""
    while token is not None:
        page = api.call("GET", f"{path}?limit=2" + (f"&page_token={token}" if token else "")).json()
        seen, token = seen + [item["id"] for item in page["items"]], page["next_page_token"]
    assert sorted(seen) == sorted(made) and len(set(seen)) == 5


# ---- the command line ----

def cli(api, registry, *words, stdin=None):
    from pgserver import program
    return subprocess.run([str(program("bulkhead", registry.dir)), *words], input=stdin, capture_output=True, text=True,
                          env={"PATH": "/usr/bin:/bin", "HOME": str(registry.dir), "BULKHEAD_TOKEN": OPERATOR,
                               "BULKHEAD_URL": f"http://127.0.0.1:{api.port}", "NO_COLOR": "1"})


def test_issuers_by_command(api, registry, name, keys, tmp_path):
    body = {**HEAD, "keys": jwks(*keys)}
    (tmp_path / "issuer.json").write_text(json.dumps(body))
    done = cli(api, registry, "issuer", "put", name, "-f", str(tmp_path / "issuer.json"))
    assert done.returncode == 0 and name in done.stdout and "ready" in done.stdout, done
    done = cli(api, registry, "issuer", "get", name, "-o", "json")
    shown = json.loads(done.stdout)
    assert shown["keys"] == body["keys"] and shown == api.call("GET", f"/v1/issuers/{name}").json()
    done = cli(api, registry, "issuer", "put", name, "-f", "-", stdin=done.stdout)
    assert done.returncode == 0, "what get prints can be put back"
    assert name in cli(api, registry, "issuer", "list").stdout
    assert cli(api, registry, "issuer", "refresh", name).returncode == 1
    for bad, code in (("{", 65), ('{"issuer":"a","issuer":"b"}', 65), ("{}", 65)):
        done = cli(api, registry, "issuer", "put", name, "-f", "-", stdin=bad)
        assert done.returncode == code and done.stderr, (bad, done)
    assert cli(api, registry, "issuer", "put", name, "-f", str(tmp_path / "nothing")).returncode == 66
    assert cli(api, registry, "issuer", "put", name).returncode == 64
    assert cli(api, registry, "issuer", "delete", name).returncode == 0
    assert cli(api, registry, "issuer", "get", name).returncode == 66


def test_api_keys_by_command(api, registry, tenant):
    done = cli(api, registry, "api-key", "create", tenant["id"], "--name", "CI", "--user", "ci", "--scope", "a b", "--roles", "x,y",
               "--ttl", "3600")
    key = done.stdout.strip()
    assert done.returncode == 0 and re.fullmatch(r"bhk_\w{10}_\w{40}", key) and "key_" in done.stderr, done
    written = document(api, name_of(key))
    assert {k: written[k] for k in ("sub", "scope", "roles")} == {"sub": "ci", "scope": "a b", "roles": ["x", "y"]}
    made = json.loads(cli(api, registry, "api-key", "list", tenant["id"], "-o", "json").stdout)["items"][0]
    table = cli(api, registry, "api-key", "list", tenant["id"]).stdout
    assert made["id"] in table and made["prefix"] in table and key not in table and "x,y" in table
    assert cli(api, registry, "api-key", "create", tenant["id"]).returncode == 64
    assert cli(api, registry, "api-key", "create", "nobody", "--name", "x").returncode == 66
    assert cli(api, registry, "api-key", "delete", tenant["id"], made["id"]).returncode == 0
    assert cli(api, registry, "api-key", "delete", tenant["id"], made["id"]).returncode == 66
    assert document(api, name_of(key)) is None
