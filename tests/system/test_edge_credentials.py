"""Credentials at the edge: tokens of issuers, API keys, applications that check for themselves, what workers share."""
import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import time

import jwtfix
import pytest
from edgefix import Echo, Edge, Tenant, decode
from ports import Ports

ISS = "https://id.example"
ROUTES = [{"path": "/admin/**", "roles": ["admin", "owner"]}, {"path": "/write/**", "scopes": ["orders.write"]},
          {"path": "/open/**", "anonymous": True}]


def eventually(check, seconds=15):
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


@pytest.fixture(scope="module")
def signers():
    return {alg: jwtfix.Signer(alg, f"{alg}-1") for alg in ("RS256", "ES256", "EdDSA")}


def issuer_document(*signers, **more):
    return {"issuer": ISS, "audiences": ["shop"], "keys": {"keys": [s.jwk() for s in signers]}, **more}


@pytest.fixture(scope="module")
def shared_edge(signers):
    edge = Edge(workers=2)
    endpoint = edge.echo().endpoint
    edge.acme, edge.globex = (Tenant(no, id, endpoints=[endpoint]) for no, id in ((1, "acme"), (2, "globex")))
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    edge.start()
    yield edge
    edge.stop()


@pytest.fixture
def edge(shared_edge, signers):
    edge = shared_edge
    edge.document("issuer/corp", issuer_document(*signers.values()))
    edge.document("policy/people", {"issuers": ["corp"], "routes": ROUTES})
    edge.change(edge.acme, policy="people", epoch=1, state="active")
    edge.change(edge.globex, policy="people", epoch=1)
    return edge


def claims(**more):
    now = int(time.time())
    return {key: value for key, value in
            {"iss": ISS, "aud": "shop", "sub": "alice", "iat": now, "exp": now + 300, **more}.items() if value is not None}


def show(edge, token, tenant=None, path="/orders", *headers):
    return edge.get(f"{(tenant or edge.acme).id}.localhost", path, f"Authorization: Bearer {token}", *headers)


def passed(answer):
    """What the application was told: its headers, and the tenant token's claims."""
    assert answer.status == 200, answer
    headers = {}
    for name, value in answer.json()["headers"]:
        headers.setdefault(name.lower(), []).append(value)
    token, = headers["x-bulkhead-token"]
    return headers, json.loads(decode(token)[1])


# ---- tokens of issuers ----

@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_a_token_of_an_issuer_is_accepted(edge, signers, alg):
    token = signers[alg].token(claims(scope="orders.read orders.write", roles=["admin", "else"]))
    headers, tenant_token = passed(show(edge, token))
    assert "authorization" not in headers, "the accepted credential is not forwarded"
    assert (tenant_token["sub"], tenant_token["scope"], tenant_token["tenant"], tenant_token["no"]) == (
        "alice", "orders.read orders.write", "acme", 1)
    assert passed(show(edge, token, None, "/admin/x")) and passed(show(edge, token, None, "/write/x"))
    plain = signers[alg].token(claims(sub="bob"))
    assert passed(show(edge, plain))
    for path in ("/admin/x", "/write/x"):
        answer = show(edge, plain, None, path)
        assert (answer.status, answer.code) == (403, "not-permitted"), answer


BENT = {
    "another issuer": ({}, {"iss": "https://evil.example"}, "token-invalid"),
    "issuer with a slash more": ({}, {"iss": ISS + "/"}, "token-invalid"),
    "no issuer": ({}, {"iss": None}, "token-invalid"),
    "another audience": ({}, {"aud": "bank"}, "token-invalid"),
    "no audience": ({}, {"aud": None}, "token-invalid"),
    "audience of another type": ({}, {"aud": {"shop": 1}}, "token-invalid"),
    "expired": ({}, {"exp": 1000}, "token-expired"),
    "no end": ({}, {"exp": None}, "token-invalid"),
    "end that is no integer": ({}, {"exp": 9e9}, "token-invalid"),
    "not valid yet": ({}, {"nbf": 4102444800}, "token-invalid"),
    "issued in the future": ({}, {"iat": 4102444800, "exp": 4102444900}, "token-invalid"),
    "beyond all times": ({}, {"exp": 2**63 - 1}, "token-invalid"),
    "no subject": ({}, {"sub": None}, "token-invalid"),
    "subject with a line": ({}, {"sub": "a\r\nX-Tenant-ID: globex"}, "token-invalid"),
    "subject outside the alphabet": ({}, {"sub": "j\u00fcrgen"}, "token-invalid"),
    "subject too long": ({}, {"sub": "s" * 256}, "token-invalid"),
    "scope outside the alphabet": ({}, {"scope": "a \"b\""}, "token-invalid"),
    "scope too long": ({}, {"scope": " ".join(f"scope-{i}" for i in range(40))}, "token-invalid"),
    "roles of another type": ({}, {"roles": {"admin": True}}, "token-invalid"),
    "crit": ({"crit": ["exp"]}, {}, "token-invalid"),
    "embedded key": ({"jwk": {"kty": "RSA"}}, {}, "token-invalid"),
    "place of keys": ({"jku": "https://evil.example/jwks"}, {}, "token-invalid"),
    "certificate": ({"x5c": ["AAAA"]}, {}, "token-invalid"),
    "unknown kid": ({"kid": "other"}, {}, "token-invalid"),
    "kid with a path": ({"kid": "../../../etc/passwd"}, {}, "token-invalid"),
    "kid with a quote": ({"kid": "x' UNION SELECT 'y"}, {}, "token-invalid"),
    "kid of another type": ({"kid": ["RS256-1"]}, {}, "token-invalid"),
    "kid of another algorithm's key": ({"kid": "ES256-1"}, {}, "token-invalid"),
    "typ of a platform token": ({"typ": "bh-user+jwt"}, {}, "token-invalid"),
    "typ of a tenant token": ({"typ": "bh-tenant+jwt"}, {}, "token-invalid"),
}


@pytest.mark.parametrize("name", BENT)
def test_a_bent_token_is_refused(edge, signers, name):
    header, bent, code = BENT[name]
    answer = show(edge, signers["RS256"].token(claims(**bent), header))
    assert (answer.status, answer.code) == (401, code), answer
    assert answer.get("WWW-Authenticate").startswith("Bearer")
    assert show(edge, signers["RS256"].token(claims())).status == 200


def confusions(signer):
    """Tokens that make a public key a secret, or none."""
    good = signer.token(claims())
    header, payload, signature = good.split(".")
    pem = signer.public_pem()
    head = lambda **more: jwtfix.b64(json.dumps({"alg": "RS256", "kid": signer.kid, **more}).encode())
    hs = lambda key, head_: f"{head_}.{payload}." + jwtfix.b64(hmac.new(key, f"{head_}.{payload}".encode(), hashlib.sha256).digest())
    yield "alg none", f"{head(alg='none')}.{payload}."
    yield "alg None", f"{head(alg='None')}.{payload}."
    yield "alg none, signed", f"{head(alg='none')}.{payload}.{signature}"
    yield "HS256 under the public PEM", hs(pem, head(alg="HS256"))
    yield "HS256 under the JWK", hs(json.dumps(signer.jwk()).encode(), head(alg="HS256"))
    yield "HS256 of a platform token under the public PEM", hs(pem, head(alg="HS256", typ="bh-user+jwt", kid="1.1.1"))
    yield "HS256 under nothing", hs(b"", head(alg="HS256"))
    yield "another algorithm's name", f"{head(alg='RS512')}.{payload}.{signature}"
    yield "lower case", f"{head(alg='rs256')}.{payload}.{signature}"
    yield "no signature", f"{header}.{payload}."
    yield "signature of another token", f"{header}.{payload}.{signer.token(claims(sub='mallory')).split('.')[2]}"
    yield "another payload", f"{header}.{signer.token(claims(sub='mallory')).split('.')[1]}.{signature}"
    yield "padding", f"{header}.{payload}.{signature}=="
    yield "standard base64", f"{header}.{payload}." + signature.replace("-", "+").replace("_", "/") + "+"
    yield "white space", f"{header}.{payload} .{signature}"
    yield "four parts", f"{good}.x"
    yield "two parts", f"{header}.{payload}"
    yield "five parts, as encrypted ones have", f"{good}.x.y"
    twice = '{"alg":"RS256","kid":"%s","kid":"%s"}' % (signer.kid, signer.kid)
    yield "kid twice", signer.raw(twice, base64.urlsafe_b64decode(payload + "==").decode())
    text = json.dumps(claims())
    yield "sub twice", signer.raw(json.dumps({"alg": "RS256", "kid": signer.kid}), text[:-1] + ',"sub":"mallory"}')
    yield "depth", signer.raw(json.dumps({"alg": "RS256", "kid": signer.kid}), text[:-1] + ',"x":' + "[" * 40 + "]" * 40 + "}")
    yield "NUL", signer.raw(json.dumps({"alg": "RS256", "kid": signer.kid}), text.replace("alice", "alice\\u0000"))
    yield "text behind", signer.raw(json.dumps({"alg": "RS256", "kid": signer.kid}), text + "x")
    yield "array", signer.raw(json.dumps({"alg": "RS256", "kid": signer.kid}), "[]")
    yield "huge", signer.token(claims(pad="x" * 5500))[:-4] + "AAAA"


def test_nobody_chooses_the_algorithm_or_bends_the_text(edge, signers):
    signer = signers["RS256"]
    seen = edge.echoes[0].served
    refused = list(confusions(signer))
    for name, token in refused:
        answer = show(edge, token)
        assert (answer.status, answer.code) == (401, "token-invalid"), (name, answer)
    assert edge.echoes[0].served == seen and len(refused) >= 25
    assert show(edge, signer.token(claims())).status == 200
    assert show(edge, signer.token(claims(pad="x" * 4000))).status == 200, "long ones are no worse"


@pytest.mark.parametrize("alg", ["RS256", "ES256", "EdDSA"])
def test_a_signature_that_is_bent_is_refused(edge, signers, alg):
    """What Wycheproof's 660 vectors (tests/unit/core/jwk.c) bend, bent here on tokens that are right but for it."""
    signer = signers[alg]
    signed = ".".join(signer.token(claims()).split(".")[:2])
    assert show(edge, signed + "." + jwtfix.b64(signer.sign(signed.encode()))).status == 200
    bent = list(jwtfix.bent_signatures(signer, signed.encode()))
    for name, signature in bent:
        answer = show(edge, f"{signed}.{jwtfix.b64(signature)}")
        assert (answer.status, answer.code) == (401, "token-invalid"), (name, answer)
    assert len(bent) >= 10


def test_tenants_are_told_apart_by_a_claim(edge, signers):
    edge.document("issuer/corp", issuer_document(*signers.values(), claims={"tenant": "org.id"}))
    of = lambda org, **more: signers["ES256"].token(claims(org={"id": org}, **more))
    assert passed(show(edge, of("acme")))[1]["tenant"] == "acme"
    assert show(edge, of("globex"), edge.globex).status == 200
    assert show(edge, of(["globex", "acme"])).status == 200
    for token, code in ((of("globex"), "token-tenant-mismatch"), (of(7), "token-invalid"), (of([]), "token-invalid"),
                        (of("globex", exp=1000), "token-invalid"), (of("acme", exp=1000), "token-expired"),
                        (signers["ES256"].token(claims()), "token-invalid"), (of("globex")[:-6] + "AAAAAA", "token-invalid")):
        answer = show(edge, token)
        assert (answer.status, answer.code) == (401, code), answer
    edge.document("issuer/corp", issuer_document(*signers.values(), claims={"tenant": "org.id"},
                                                 tenant_values={"org_1": "acme", "org_2": "globex"}))
    assert show(edge, of("org_1")).status == 200
    assert show(edge, of("org_2")).code == "token-tenant-mismatch"
    assert show(edge, of("acme")).code == "token-tenant-mismatch"


def test_claims_are_mapped(edge, signers):
    edge.document("issuer/corp", issuer_document(
        *signers.values(), subject_prefix="corp:",
        claims={"subject": "email", "roles": "realm_access.roles", "scope": "scp"}))
    token = signers["EdDSA"].token(claims(email="a@b.example", scp=["orders.write", "x"], realm_access={"roles": ["owner", "q r"]}))
    assert passed(show(edge, token, None, "/admin/x"))[1]["sub"] == "corp:a@b.example"
    assert passed(show(edge, token, None, "/write/x"))[1]["scope"] == "orders.write x"


def test_only_issuers_that_the_policy_names_count(edge, signers):
    other = jwtfix.Signer("EdDSA", "o1")
    edge.document("issuer/other", issuer_document(other, issuer="https://other.example"))
    token = other.token(claims(iss="https://other.example"))
    assert show(edge, token).code == "token-invalid"
    edge.document("policy/people", {"issuers": ["corp", "other"], "routes": ROUTES})
    assert show(edge, token).status == 200
    assert show(edge, signers["RS256"].token(claims(iss="https://other.example"))).code == "token-invalid", "keys are not mixed"
    assert show(edge, other.token(claims())).code == "token-invalid"
    edge.document("policy/people", {"issuers": ["corp"], "routes": ROUTES})
    assert show(edge, token).code == "token-invalid", "what was accepted is not, once the policy says so"


def test_a_policy_can_refuse_platform_tokens(edge, signers):
    assert edge.ask(edge.acme).status == 200
    edge.document("policy/people", {"issuers": ["corp"], "user_tokens": False})
    answer = edge.ask(edge.acme)
    assert (answer.status, answer.code) == (401, "token-invalid")
    assert show(edge, signers["RS256"].token(claims())).status == 200
    edge.document("policy/people", {"user_tokens": False})
    assert edge.ask(edge.acme).code == "token-invalid"
    assert show(edge, signers["RS256"].token(claims())).code == "token-invalid"


def test_user_tokens_of_the_platform_have_roles_too(edge):
    answer = edge.get("acme.localhost", "/admin/x", edge.bearer(edge.acme, roles=["ops", "owner"]))
    assert answer.status == 200, answer
    assert edge.get("acme.localhost", "/admin/x", edge.bearer(edge.acme, roles=["ops"])).code == "not-permitted"


def test_keys_rotate_live(edge, signers):
    old, new = signers["RS256"], jwtfix.Signer("EdDSA", "new")
    assert show(edge, old.token(claims())).status == 200
    assert show(edge, new.token(claims())).code == "token-invalid"
    edge.document("issuer/corp", issuer_document(old, new))
    kept = old.token(claims(sub="kept"))
    assert show(edge, new.token(claims())).status == 200 and show(edge, kept).status == 200
    edge.document("issuer/corp", issuer_document(new))
    assert show(edge, kept).code == "token-invalid", "a verdict ends with the key that it was made with"
    assert show(edge, new.token(claims())).status == 200


def test_an_issuer_that_is_missing_or_broken_stops_only_its_people(edge, signers):
    token = signers["RS256"].token(claims())
    for body in (None, "{nonsense", issuer_document(), {"issuer": ISS, "audiences": ["shop"]}):
        edge.document("issuer/corp", body)
        answer = show(edge, token)
        assert (answer.status, answer.code) == (503, "not-ready"), (body, answer)
        assert edge.ask(edge.acme).status == 200
    edge.document("issuer/corp", issuer_document(*signers.values()))
    assert show(edge, token).status == 200
    assert "issuer/corp" in edge.errors()


def test_the_end_of_a_token_ends_its_verdict(edge, signers):
    edge.document("issuer/corp", issuer_document(*signers.values(), leeway_seconds=0))
    token = signers["EdDSA"].token(claims(exp=int(time.time()) + 2))
    assert show(edge, token).status == 200
    assert eventually(lambda: show(edge, token).code == "token-expired"), "also where it was accepted before"
    edge.document("issuer/corp", issuer_document(*signers.values(), max_age_seconds=60, leeway_seconds=0))
    now = int(time.time())
    assert show(edge, signers["EdDSA"].token(claims(iat=now - 61, exp=now + 600))).code == "token-expired"
    assert show(edge, signers["EdDSA"].token(claims(iat=None, exp=now + 600))).code == "token-invalid"
    assert show(edge, signers["EdDSA"].token(claims(iat=now - 50, exp=now + 600))).status == 200


def test_a_new_epoch_ends_verdicts(edge, signers):
    token = signers["EdDSA"].token(claims())
    assert passed(show(edge, token))[1]["ver"] == 1
    edge.change(edge.acme, epoch=5)
    assert passed(show(edge, token))[1]["ver"] == 5, "the issuer's token is its own; the tenant token is made anew"


# ---- API keys ----

SECRET = "0123456789abcdefghijABCDEFGHIJ0123456789"


def make_key(edge, tenant, name, **more):
    key = f"bhk_{name}_{SECRET}"
    document = "key/" + hmac.new(edge.keys.hash(), hashlib.sha256(key.encode()).digest(), hashlib.sha256).hexdigest()
    edge.document(document, {"no": tenant.no, "sub": name, **more})
    return key, document


def by_key(edge, key, tenant=None, path="/orders", *headers):
    return edge.get(f"{(tenant or edge.acme).id}.localhost", path, f"X-API-Key: {key}", *headers)


def test_an_api_key_is_a_credential(edge):
    key, _ = make_key(edge, edge.acme, "machine1", scope="orders.write", roles=["owner", "x"], epoch=1)
    for answer in (by_key(edge, key), show(edge, key), by_key(edge, key, None, "/admin/x"), by_key(edge, key, None, "/write/x")):
        headers, token = passed(answer)
        assert (token["sub"], token["scope"]) == ("machine1", "orders.write")
        assert "x-api-key" not in headers and "authorization" not in headers
        assert key not in answer.raw.decode()
    assert key not in edge.errors()
    weak, _ = make_key(edge, edge.acme, "machine2")
    assert by_key(edge, weak).status == 200 and by_key(edge, weak, None, "/admin/x").code == "not-permitted"


def test_a_wrong_api_key_is_refused(edge):
    key, document = make_key(edge, edge.acme, "machine3", epoch=1)
    seen = edge.echoes[0].served
    for wrong in (key[:-1] + "Z", key[:-1], key + "0", "bhk_machine3_", "bhk_", key.upper(), "bhk_machine3 " + SECRET, key + "_" + key):
        answer = show(edge, wrong)
        assert (answer.status, answer.code) == (401, "token-invalid"), (wrong, answer)
        if wrong.startswith("bhk_"):
            assert by_key(edge, wrong).code == "token-invalid"
            assert by_key(edge, wrong, None, "/open/x").code == "token-invalid", "a wrong one is wrong where none is needed, too"
    assert edge.echoes[0].served == seen
    assert by_key(edge, key, edge.globex).code == "token-tenant-mismatch"
    assert by_key(edge, make_key(edge, edge.acme, "machine4", not_after=1000)[0]).code == "token-expired"
    old, _ = make_key(edge, edge.acme, "machine5", not_after=1000)
    assert by_key(edge, old, edge.globex).code == "token-invalid"
    assert by_key(edge, make_key(edge, Tenant(99, "gone"), "machine6")[0]).code == "token-invalid"
    assert by_key(edge, key).status == 200
    edge.document("policy/people", {"api_keys": False})
    assert by_key(edge, key).code == "token-invalid" and show(edge, key).code == "token-invalid"


def test_one_credential_at_a_time(edge):
    key, _ = make_key(edge, edge.acme, "machine7")
    for headers in ([f"X-API-Key: {key}", edge.bearer(edge.acme)], [f"X-API-Key: {key}", f"X-API-Key: {key}"],
                    [f"X-API-Key: {key}", "X-API-Key: other"], [f"X-API-Key: {key}", f"Authorization: Bearer {key}"]):
        answer = edge.get("acme.localhost", "/orders", *headers)
        assert (answer.status, answer.code) == (400, "bad-request"), headers
    headers, _ = passed(edge.get("acme.localhost", "/orders", edge.bearer(edge.acme), "X-API-Key: the-app's-own"))
    assert headers["x-api-key"] == ["the-app's-own"]
    assert edge.get("acme.localhost", "/orders", "X-API-Key: the-app's-own").code == "credential-missing"


def test_revoking_a_key_is_live(edge):
    key, document = make_key(edge, edge.acme, "machine8", epoch=1)
    assert by_key(edge, key).status == 200
    edge.document(document, {"no": 1, "sub": "machine8", "scope": "less", "epoch": 1})
    assert passed(by_key(edge, key))[1]["scope"] == "less"
    edge.document(document, None)
    assert by_key(edge, key).code == "token-invalid"
    edge.document(document, {"no": 1, "sub": "machine8", "epoch": 1})
    assert by_key(edge, key).status == 200
    edge.change(edge.acme, epoch=2)
    assert by_key(edge, key).code == "token-invalid", "revoked with all that the tenant gave out"
    edge.document(document, "{\"no\":")
    assert by_key(edge, key).code == "not-ready"


def test_without_the_hash_key_no_api_key_counts(edge):
    key, _ = make_key(edge, edge.acme, "machine9")
    assert by_key(edge, key).status == 200
    text = edge.keys.text()
    edge.write_keyring(text="".join(line for line in text.splitlines(True) if not line.startswith("hash ")), tell=True)
    assert by_key(edge, key).code == "not-ready"
    assert edge.ask(edge.acme).status == 200
    edge.write_keyring(tell=True)
    assert by_key(edge, key).status == 200


# ---- applications that check credentials themselves ----

def test_an_application_may_check_by_itself(edge):
    edge.document("policy/own", {"auth": "app", "app_scope": "orders.read"})
    edge.change(edge.acme, policy="own")
    key, _ = make_key(edge, edge.acme, "machine10")
    headers, token = passed(edge.get("acme.localhost", "/orders", "Authorization: Basic YTpi", f"X-API-Key: {key}"))
    assert headers["authorization"] == ["Basic YTpi"] and headers["x-api-key"] == [key]
    assert (token["sub"], token["scope"], token["tenant"]) == ("app", "orders.read", "acme")
    assert passed(edge.get("acme.localhost", "/orders"))[1]["sub"] == "app"
    headers, token = passed(edge.get("acme.localhost", "/orders", "Authorization: Bearer nonsense", "X-Tenant-ID: globex"))
    assert headers["authorization"] == ["Bearer nonsense"] and headers["x-tenant-id"] == ["acme"]
    answer = edge.get("acme.localhost", "/answer?WWW-Authenticate=Basic%20realm%3Dx")
    assert answer.get("WWW-Authenticate") == "Basic realm=x"
    edge.document("policy/own", {"auth": "app"})
    assert passed(edge.get("acme.localhost", "/orders"))[1]["scope"] == "anonymous", "the default cannot write"
    edge.document("policy/own", {})
    assert edge.get("acme.localhost", "/orders").code == "credential-missing"


# ---- what workers share ----

def test_what_one_worker_verified_all_know(signers):
    """A worker that is killed, and a reload, forget nothing: the issuer's document is taken away, and the
    token's card, made while it was there, is found again once the same document is back."""
    edge = Edge(workers=1)
    try:
        tenant = Tenant(1, "acme", endpoints=[edge.echo().endpoint], policy="people")
        edge.acme = tenant
        edge.write_keyring()
        edge.document("issuer/corp", issuer_document(*signers.values()))
        edge.document("policy/people", {"issuers": ["corp"]})
        edge.put(tenant)
        edge.start()
        token = signers["RS256"].token(claims(scope="x"))
        first = passed(show(edge, token))[0]["x-bulkhead-token"]
        for _ in range(3):
            worker, = edge.workers()
            os.kill(worker, signal.SIGKILL)
            assert eventually(lambda: edge.workers() not in ([], [worker]))
            assert passed(show(edge, token))[0]["x-bulkhead-token"] == first, "the same token: found, not minted anew"
        old = edge.workers()
        os.kill(edge.process.pid, signal.SIGHUP)
        assert eventually(lambda: edge.workers() and not set(old) & set(edge.workers()), 30)
        assert passed(show(edge, token))[0]["x-bulkhead-token"] == first
        edge.document("issuer/corp", issuer_document(signers["ES256"]))
        worker, = edge.workers()
        os.kill(worker, signal.SIGKILL)
        assert eventually(lambda: edge.workers() not in ([], [worker]))
        assert show(edge, token).code == "token-invalid", "no card outlives the keys"
        edge.change(tenant, epoch=2)
        edge.document("issuer/corp", issuer_document(*signers.values()))
        assert passed(show(edge, token))[1]["ver"] == 2
    finally:
        edge.stop()


def test_workers_that_die_while_they_write_leave_nothing_behind(signers):
    """200 workers killed at any moment of a flood of new credentials: every answer is right, before and after."""
    edge = Edge(workers=2, edit=lambda text: text.replace("bulkhead_base_domain", "bulkhead_credential_cache 1m;\n    bulkhead_base_domain", 1))
    try:
        tenants = [Tenant(no, id, endpoints=[edge.echo().endpoint], policy="people") for no, id in ((1, "acme"), (2, "globex"))]
        edge.write_keyring()
        edge.document("issuer/corp", issuer_document(*signers.values(), claims={"tenant": "org"}))
        edge.document("policy/people", {"issuers": ["corp"]})
        edge.put(*tenants)
        edge.start()
        tokens = [(tenant, f"user{i}", signers["EdDSA"].token(claims(sub=f"user{i}", org=tenant.id)))
                  for i in range(120) for tenant in tenants]
        killed = wrong = right = 0
        deadline = time.monotonic() + 60
        while killed < 200 and time.monotonic() < deadline:
            for worker in edge.workers():
                os.kill(worker, signal.SIGKILL)
                killed += 1
            for tenant, sub, token in tokens[killed % 7::12]:
                try:
                    answer = show(edge, token, tenant)
                except OSError:
                    continue
                if answer is None or answer.status == 0:
                    continue
                told = passed(answer)[1]
                right += 1
                wrong += (told["sub"], told["tenant"]) != (sub, tenant.id)
        assert killed >= 200 and wrong == 0 and right > 500, (killed, wrong, right)
        for tenant, sub, token in tokens:
            assert passed(show(edge, token, tenant))[1]["sub"] == sub
            other = tenants[0] if tenant is tenants[1] else tenants[1]
            assert show(edge, token, other).code == "token-tenant-mismatch"
    finally:
        edge.stop()


@pytest.mark.parametrize("size, good", [("off", True), ("1m", True), ("64m", True), ("10k", False), ("x", False), ("-1", False)])
def test_the_size_of_the_cache_is_checked(size, good, signers):
    edge = Edge(edit=lambda text: text.replace("bulkhead_base_domain", f"bulkhead_credential_cache {size};\n    bulkhead_base_domain", 1))
    try:
        done = subprocess.run(edge.command("-t"), capture_output=True, text=True)
        assert (done.returncode == 0) == good, done.stderr
        assert good or "must be off or a size of at least 1m" in done.stderr
        if good:
            tenant = Tenant(1, "acme", endpoints=[edge.echo().endpoint], policy="people")
            edge.write_keyring()
            edge.document("issuer/corp", issuer_document(*signers.values()))
            edge.document("policy/people", {"issuers": ["corp"]})
            edge.put(tenant)
            edge.start()
            for _ in range(5):
                assert show(edge, signers["EdDSA"].token(claims()), tenant).status == 200
    finally:
        edge.stop()


# ---- a flood of junk ----

def test_failed_credentials_of_every_kind_are_counted(signers):
    edge = Edge(workers=1, edit=lambda text: text.replace(
        "bulkhead_base_domain", "bulkhead_failed_credentials 1r/s burst=5 loopback;\n    bulkhead_base_domain", 1))
    try:
        tenant = Tenant(1, "acme", endpoints=[edge.echo().endpoint], policy="people")
        edge.acme = tenant
        edge.write_keyring()
        edge.document("issuer/corp", issuer_document(*signers.values()))
        edge.document("policy/people", {"issuers": ["corp"]})
        edge.put(tenant)
        key, _ = make_key(edge, tenant, "machine1")
        edge.start()
        good = signers["RS256"].token(claims())
        assert show(edge, good).status == 200 and by_key(edge, key).status == 200
        for kind in ("issuer", "key"):
            codes = []
            for i in range(12):
                junk = good[:-8] + f"{i:08d}" if kind == "issuer" else f"bhk_junk{i:04d}_{SECRET}"
                codes.append(show(edge, junk).code)
            assert "token-invalid" in codes and codes[-1] == "rate-limited", codes
            assert show(edge, good).status == 200 and by_key(edge, key).status == 200, "what was verified passes"
            assert show(edge, signers["RS256"].token(claims(sub="new"))).code == "rate-limited"
            time.sleep(5.2)
        assert show(edge, signers["RS256"].token(claims(sub="new"))).status == 200
    finally:
        edge.stop()


def test_the_same_junk_again_costs_no_signature(edge, signers):
    """Worker CPU for one forged RS256 token again and again is that of a request that shows nothing."""
    forged = signers["RS256"].token(claims())[:-8] + "AAAAAAAA"
    assert show(edge, forged).code == "token-invalid"
    answers = [show(edge, forged) for _ in range(50)]
    assert all(answer.code == "token-invalid" for answer in answers)
    assert any("a moment ago" in answer.json()["detail"] for answer in answers)
    assert "a moment ago" not in show(edge, signers["RS256"].token(claims())[:-8] + "BBBBBBBB").json()["detail"]


# ---- an edge that only observes ----

def test_an_observer_leaves_credentials_where_they_are(signers):
    ports = Ports()
    port = ports.take()  # of the team's own application, behind the team's own upstream
    edge = Edge(workers=1, edit=lambda text: text.replace("bulkhead on;", "bulkhead observe;").replace(
        "proxy_pass https://bulkhead;", f"proxy_pass http://127.0.0.1:{port};"))
    try:
        edge.echoes.append(Echo(("127.0.0.1", port)))
        tenant = Tenant(1, "acme", endpoints=["127.0.0.1:1"], policy="people")
        edge.acme = tenant
        edge.write_keyring()
        edge.document("issuer/corp", issuer_document(*signers.values()))
        edge.document("policy/people", {"issuers": ["corp"], "routes": ROUTES})
        edge.put(tenant)
        key, _ = make_key(edge, tenant, "machine1")
        edge.start()
        good = signers["ES256"].token(claims())
        for headers in ([f"Authorization: Bearer {good}"], [f"X-API-Key: {key}"], [f"Authorization: Bearer {good}x"],
                        ["X-API-Key: bhk_wrong"], [f"X-API-Key: {key}", f"Authorization: Bearer {good}"]):
            answer = edge.get("acme.localhost", "/orders", *headers)
            told = [": ".join(pair) for pair in answer.json()["headers"]]
            assert answer.status == 200 and all(header in told for header in headers), (headers, answer)
            assert not any(line.lower().startswith("x-bulkhead-") for line in told)
    finally:
        edge.stop()
        ports.release()
