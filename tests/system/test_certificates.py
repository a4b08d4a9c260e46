"""Certificates from `bulkhead certificate put` to the handshake: what is accepted, where it lies, when it goes."""
import base64
import json
import os
import pathlib
import socket
import ssl
import sys
import uuid

import pytest
from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import bhtoken  # noqa: E402
from ports import Ports  # noqa: E402
from stack import Stack, wait_for  # noqa: E402
from tlsfix import CLEAR, DER, PEM, PKCS8, Authority  # noqa: E402

DOMAINS = {"acme": ["shop.example", "a.wild.example"], "globex": ["globex.example", "b.wild.example"]}


@pytest.fixture(scope="module")
def stack():
    stack = Stack("certs")
    stack.tls_port = Ports().take()
    stack.up("--edge-tls-port", stack.tls_port)
    stack.authority = Authority()
    for tenant, domains in DOMAINS.items():
        set_domains(stack, tenant, domains)
    yield stack
    stack.close()


def set_domains(stack, tenant, domains):
    got = stack.api("GET", f"/v1/tenants/{tenant}").json()
    answer = stack.api("PUT", f"/v1/tenants/{tenant}", {**got, "domains": domains})
    assert answer.status in (200, 202), answer
    wait_for(lambda: stack.api("GET", f"/v1/tenants/{tenant}").json()["operation"] is None, what="the update")


def registry(stack, sql):
    return [tuple(row) for row in stack.psql(sql, database="bulkhead")]


def text_of(key, encryption=CLEAR):
    return key.private_bytes(PEM, PKCS8, encryption).decode()


def put(stack, tenant, domain, *names, chain=None, key=None, **options):
    """PUT a certificate of these names; the answer, and the leaf."""
    if chain is None:
        chain, key = stack.authority.issue(*(names or [domain]), key=key, **options)
    return stack.api("PUT", f"/v1/tenants/{tenant}/certificates/{domain}", {"chain": chain, "key": text_of(key)})


def shown(stack, name):
    """DER of what a handshake shows; None where it is refused."""
    made = ssl._create_unverified_context()
    try:
        with made.wrap_socket(socket.create_connection(("127.0.0.1", stack.tls_port), timeout=10), server_hostname=name) as sock:
            return sock.getpeercert(True)
    except ssl.SSLError as error:
        assert "unrecognized" in str(error).lower(), error
        return None


def leaf(answer):
    return x509.load_pem_x509_certificate(answer.json()["chain"].encode()).public_bytes(DER)


def gone(stack, name):
    wait_for(lambda: shown(stack, name) is None, what=f"no certificate for {name}")


def comes(stack, name, der):
    wait_for(lambda: shown(stack, name) == der, what=f"the certificate for {name}")


def test_a_certificate_is_shown_replaced_and_removed(stack):
    edge = next(c["pid"] for c in stack.status()["components"] if c["name"] == "edge")
    gone(stack, "shop.example")
    created = put(stack, "acme", "shop.example")
    assert created.status == 201
    comes(stack, "shop.example", leaf(created))
    facts = created.json()
    assert (facts["tenant"], facts["domain"], facts["names"], facts["key_type"], facts["served"]) == (
        "acme", "shop.example", ["shop.example"], "EC P-256", True)
    assert facts["fingerprint"] == x509.load_der_x509_certificate(leaf(created)).fingerprint(hashes.SHA256()).hex()
    assert facts["issuer"] == "CN=Test" and "key" not in facts
    replaced = put(stack, "acme", "shop.example", key=rsa.generate_private_key(65537, 2048))
    assert replaced.status == 200 and replaced.json()["key_type"] == "RSA 2048"
    comes(stack, "shop.example", leaf(replaced))
    assert stack.api("GET", "/v1/tenants/acme/certificates/shop.example").json() == replaced.json()
    listed = stack.api("GET", "/v1/tenants/acme/certificates").json()
    assert [item["domain"] for item in listed["items"]] == ["shop.example"] and "chain" not in listed["items"][0]
    deleted = stack.api("DELETE", "/v1/tenants/acme/certificates/shop.example")
    assert deleted.status == 200 and deleted.json() == replaced.json()
    gone(stack, "shop.example")
    for method in ("GET", "DELETE"):
        assert stack.api(method, "/v1/tenants/acme/certificates/shop.example").status == 404
    assert next(c["pid"] for c in stack.status()["components"] if c["name"] == "edge") == edge


def test_a_wildcard_serves_the_tenants_below_it(stack):
    made = put(stack, "acme", "*.wild.example")
    assert made.status == 201, made
    comes(stack, "a.wild.example", leaf(made))
    comes(stack, "b.wild.example", leaf(made))  # globex's, whose owner has none of its own
    taken = put(stack, "globex", "*.wild.example")
    assert taken.status == 409 and "acme" not in taken.body.decode()
    own = put(stack, "globex", "b.wild.example")
    comes(stack, "b.wild.example", leaf(own))
    comes(stack, "a.wild.example", leaf(made))
    for tenant, domain in (("acme", "*.wild.example"), ("globex", "b.wild.example")):
        assert stack.api("DELETE", f"/v1/tenants/{tenant}/certificates/{domain}").status == 200
    gone(stack, "b.wild.example")


def refusals(authority, domain):
    """What may be wrong: (chain, key as text) → (pointer, words)."""
    chain, key = authority.issue(domain)
    other_chain, other_key = authority.issue("other.example")
    good = text_of(key)
    single = chain.split("-----END CERTIFICATE-----")[0] + "-----END CERTIFICATE-----\n"
    stranger = Authority("Stranger")
    small = rsa.generate_private_key(65537, 1024)
    expired, expired_key = authority.issue(domain, days=-1)
    old = Authority("Old")
    old.certificate = old._build(old.name, old.key, [], days=-2).sign(old.key, hashes.SHA256())
    old.pem = old.certificate.public_bytes(PEM).decode()
    old_chain, old_key = old.issue(domain)
    sha1 = rsa.generate_private_key(65537, 2048)
    weak = authority._build(x509.Name([]), sha1, [domain], ca=False).sign(authority.key, hashes.SHA1()).public_bytes(PEM).decode()
    der = x509.load_pem_x509_certificate(chain.encode()).public_bytes(DER)
    at = der.index(b"\x17\x0d", der.index(b"\x17\x0d") + 2)  # the second UTCTime
    undated = ssl.DER_cert_to_PEM_cert(der[:at + 6] + b"x" + der[at + 7:])
    client = (authority._build(x509.Name([]), key, [domain], ca=False)
              .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
              .sign(authority.key, hashes.SHA256()).public_bytes(PEM).decode())
    return {
        "empty chain": ("", good, "/chain", "must be certificates"),
        "no PEM": ("hello", good, "/chain", "must be certificates"),
        "the key as chain": (good, good, "/chain", "must be certificates"),
        "half a certificate": (single[:300], good, "/chain", "must be certificates"),
        "a broken second one": (single + single[:200] + single[-100:], good, "/chain", "no certificate"),
        "endless": (single + authority.pem * 10, good, "/chain", "less than 10"),
        "in the wrong order": (authority.pem + single, good, "/chain", "in order"),
        "another's issuer": (single + stranger.pem, good, "/chain", "in order"),
        "expired": (expired, text_of(expired_key), "/chain", "expired"),
        "an expired issuer": (old_chain, text_of(old_key), "/chain", "expired"),
        "a date that is none": (undated, good, "/chain", "cannot be read"),
        "another name": (other_chain, text_of(other_key), "/chain", "does not cover"),
        "the name as subject only": (*map(lambda x: x if isinstance(x, str) else text_of(x), authority.issue(common_name=domain)),
                                     "/chain", "does not cover"),
        "for clients": (client, good, "/chain", "not for TLS servers"),
        "a small key": (*map(lambda x: x if isinstance(x, str) else text_of(x), authority.issue(domain, key=small)), "/chain", "weak"),
        "signed by SHA-1": (weak, text_of(sha1), "/chain", "weak"),
        "empty key": (chain, "", "/key", "must be a private key"),
        "no key": (chain, "hello", "/key", "must be a private key"),
        "a public key": (chain, key.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode(), "/key", "must be a private key"),
        "an encrypted key": (chain, text_of(key, serialization.BestAvailableEncryption(b"secret")), "/key", "must not be encrypted"),
        "an encrypted key of old": (chain, key.private_bytes(PEM, serialization.PrivateFormat.TraditionalOpenSSL,
                                    serialization.BestAvailableEncryption(b"secret")).decode(), "/key", "must not be encrypted"),
        "another key": (chain, text_of(other_key), "/key", "is not the key"),
        "another kind of key": (chain, text_of(ed25519.Ed25519PrivateKey.generate()), "/key", "is not the key"),
    }


@pytest.mark.filterwarnings("ignore:SHA1 signatures")
def test_what_is_wrong_is_refused_and_named(stack):
    for case, (chain, key, pointer, words) in refusals(stack.authority, "shop.example").items():
        answer = stack.api("PUT", "/v1/tenants/acme/certificates/shop.example", {"chain": chain, "key": key})
        assert (answer.status, answer.code) == (422, "invalid"), (case, answer)
        error, = answer.json()["errors"]
        assert error["pointer"] == pointer and words in error["detail"], (case, error)
        assert len(key) < 20 or key.split("\n")[1] not in answer.body.decode()
    assert shown(stack, "shop.example") is None
    good = put(stack, "acme", "shop.example")
    assert good.status == 201, "control"
    comes(stack, "shop.example", leaf(good))


@pytest.mark.parametrize("domain", ["globex.example", "foreign.example", "www.shop.example", "acme.localhost", "localhost", "*.example",
                                    "*.localhost", "*.shop.example", "example", "SHOP.example", "shop.example.", "%2e", "*", "*.*.example",
                                    "..%2Ftenants", "a*.example"])
def test_only_for_own_domains(stack, domain):
    chain, key = stack.authority.issue("shop.example", "globex.example", "*.example", "*.localhost", "acme.localhost", "localhost")
    answer = stack.api("PUT", f"/v1/tenants/acme/certificates/{domain}", {"chain": chain, "key": text_of(key)})
    assert answer.status == 422 and answer.json()["errors"][0]["pointer"] in ("/domain", "/chain"), answer
    if domain in ("globex.example", "*.localhost", "acme.localhost", "localhost"):
        assert answer.json()["errors"][0]["pointer"] == "/domain"
    assert stack.api("GET", f"/v1/tenants/acme/certificates/{domain}").status == 404


@pytest.mark.parametrize("body, pointer", [
    ({}, "/chain"), ({"chain": "x"}, "/key"), ({"chain": 1, "key": "x"}, "/chain"), ({"chain": "x", "key": "y", "more": 1}, "/more")])
def test_the_body_is_checked_like_every_other(stack, body, pointer):
    answer = stack.api("PUT", "/v1/tenants/acme/certificates/shop.example", body)
    assert answer.status == 422 and pointer in [error["pointer"] for error in answer.json()["errors"]]


def test_nobody_but_operators(stack):
    agent = (stack.state / "agent.token").read_text().strip()
    for path in ("/v1/tenants/acme/certificates", "/v1/tenants/acme/certificates/shop.example"):
        assert stack.api("GET", path, token=agent).status == 403
        assert stack.api("GET", path.replace("acme", "nobody")).status == 404
    assert put(stack, "nobody", "shop.example").status == 404


def test_the_key_lies_nowhere_in_the_clear(stack):
    """Not in the registry, the write-ahead log, the snapshot, logs or any other file; sealed for name and cell only."""
    chain, key = stack.authority.issue("shop.example")
    assert put(stack, "acme", "shop.example", chain=chain, key=key).status == 200
    comes(stack, "shop.example", x509.load_pem_x509_certificate(chain.encode()).public_bytes(DER))
    der = key.private_bytes(DER, PKCS8, CLEAR)
    number = key.private_numbers().private_value.to_bytes(32, "big")
    text = text_of(key)
    needles = [der, number, number.hex().encode(), text.split("\n")[1].encode(), base64.b64encode(der)[4:60],
               base64.urlsafe_b64encode(der)[4:60]]
    found, files = [], 0
    sealed_somewhere = False
    for root, _, names in os.walk(stack.state):
        for name in names:
            path = pathlib.Path(root, name)
            try:
                data = path.read_bytes()
            except OSError:  # a socket, or gone meanwhile
                continue
            files += 1
            sealed_somewhere |= b"sealed_key" in data
            found += [str(path) for needle in needles if needle in data]
    assert files > 100 and sealed_somewhere and found == []
    rows = registry(stack, "SELECT body FROM certificate WHERE name = 'shop.example'")
    sealed = json.loads(rows[0][0])["sealed_key"]
    install, cell = registry(stack, "SELECT i.uid::text, c.uid::text FROM install i, cell c")[0]
    seal = bhtoken.derive_seal_key(bytes.fromhex((stack.state / "keys/master.key").read_text().strip()),
                                   uuid.UUID(install).bytes, uuid.UUID(cell).bytes)
    raw = base64.urlsafe_b64decode(sealed + "=" * (-len(sealed) % 4))
    assert AESGCM(seal).decrypt(raw[:12], raw[12:], b"certificate/shop.example") == der, "control"
    with pytest.raises(InvalidTag):
        AESGCM(seal).decrypt(raw[:12], raw[12:], b"certificate/globex.example")


def test_a_certificate_goes_with_its_domain_and_comes_back_with_it(stack):
    made = put(stack, "acme", "shop.example")
    comes(stack, "shop.example", leaf(made))
    set_domains(stack, "acme", ["a.wild.example"])
    gone(stack, "shop.example")
    assert stack.api("GET", "/v1/tenants/acme/certificates/shop.example").json()["served"] is False
    # another tenant takes the domain, and the name of the certificate with it
    set_domains(stack, "globex", [*DOMAINS["globex"], "shop.example"])
    assert shown(stack, "shop.example") is None
    theirs = put(stack, "globex", "shop.example")
    assert theirs.status == 200
    comes(stack, "shop.example", leaf(theirs))
    assert stack.api("GET", "/v1/tenants/acme/certificates/shop.example").status == 404
    assert stack.api("DELETE", "/v1/tenants/globex/certificates/shop.example").status == 200
    set_domains(stack, "globex", DOMAINS["globex"])
    set_domains(stack, "acme", DOMAINS["acme"])
    made = put(stack, "acme", "shop.example")
    set_domains(stack, "acme", [])
    gone(stack, "shop.example")
    set_domains(stack, "acme", DOMAINS["acme"])
    comes(stack, "shop.example", leaf(made))


def test_the_command_line(stack, tmp_path):
    chain, key = stack.authority.issue("globex.example", days=9.5)
    (tmp_path / "chain.pem").write_text(chain)
    (tmp_path / "key.pem").write_text(text_of(key))
    files = ["--chain", tmp_path / "chain.pem", "--key", tmp_path / "key.pem"]
    made = stack.cli("certificate", "put", "globex", "globex.example", *files)
    assert made.returncode == 0 and "EC P-256" in made.stdout, made
    assert "expires in 9 days" in made.stderr
    listed = stack.cli("certificate", "list", "globex")
    assert "globex.example" in listed.stdout and "expiring" in listed.stdout and "expires in 9 days" in listed.stderr
    items = json.loads(stack.cli("certificate", "list", "globex", "-o", "json").stdout)["items"]
    assert [item["domain"] for item in items] == ["globex.example"]
    assert json.loads(stack.cli("certificate", "get", "globex", "globex.example", "-o", "json").stdout)["names"] == ["globex.example"]
    (tmp_path / "key.pem").write_text(text_of(ec.generate_private_key(ec.SECP256R1())))
    wrong = stack.cli("certificate", "put", "globex", "globex.example", *files)
    assert wrong.returncode == 65 and f"{tmp_path}/key.pem: " in wrong.stderr and "PRIVATE" not in wrong.stderr
    assert stack.cli("certificate", "put", "globex", "globex.example").returncode == 64
    missing = stack.cli("certificate", "put", "globex", "globex.example", "--chain", tmp_path / "none", "--key", tmp_path / "key.pem")
    assert missing.returncode == 65 and "No such file" in missing.stderr
    deleted = stack.cli("certificate", "delete", "globex", "globex.example")
    assert deleted.returncode == 0 and "deleted" in deleted.stdout
    again = stack.cli("certificate", "get", "globex", "globex.example")
    assert again.returncode == 66 and "bulkhead certificate list globex" in again.stderr


def test_a_removed_tenant_takes_its_certificates_along(stack):
    made = put(stack, "globex", "globex.example")
    comes(stack, "globex.example", leaf(made))
    assert stack.cli("tenant", "delete", "globex", "--now").returncode == 0
    gone(stack, "globex.example")
    assert registry(stack, "SELECT count(*) FROM certificate c JOIN tenant t USING (no) WHERE t.state = 'gone'") == [(0,)]
    assert registry(stack, "SELECT count(*) FROM certificate") != [(0,)], "control: acme's is there"
