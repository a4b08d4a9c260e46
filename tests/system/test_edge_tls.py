"""Certificates by name from the snapshot, live; what a connection may be used for; what a session outlives."""
import pathlib
import signal
import ssl
import subprocess
import sys
import time

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import tlsfix  # noqa: E402
from edgefix import Echo  # noqa: E402
from ports import Ports  # noqa: E402
from test_hostile_h2 import Client  # noqa: E402
from tlsfix import DER, INTERNAL_ERROR, PKCS8, UNRECOGNIZED_NAME, client_hello, connect, name_list, shown  # noqa: E402

DOMAINS = {"acme": ["shop.example", "second.example", "a.wild.example"], "globex": ["globex.example", "b.wild.example"]}
TLS12, TLS13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.fixture(scope="module")
def edge():
    edge = tlsfix.start(DOMAINS)
    edge.serials = {name: tlsfix.put(edge, name) for name in ("shop.example", "globex.example", "*.wild.example")}
    yield edge
    errors = edge.errors()
    edge.stop()
    assert "signal" not in errors, f"a worker died:\n{errors}"


def refused(edge, name):
    return tlsfix.answer_to(edge, client_hello((0, name_list(name.encode()))))


# ---- which certificate ----

@pytest.mark.parametrize("name, document", [
    ("shop.example", "shop.example"), ("globex.example", "globex.example"), ("SHOP.example", "shop.example"),
    ("a.wild.example", "*.wild.example"), ("b.wild.example", "*.wild.example"), ("nobodys.wild.example", "*.wild.example")])
def test_a_domain_gets_its_own_certificate(edge, name, document):
    for version in (TLS12, TLS13):
        with connect(edge, name, tlsfix.context(edge, version)) as connection:
            assert tlsfix.serial(connection) == edge.serials[document]


@pytest.mark.parametrize("name", ["localhost", "acme.localhost", "globex.localhost", "nobody.localhost"])
def test_the_base_domain_gets_the_configured_one(edge, name):
    assert shown(edge, name) == edge.base_serial


def test_no_tenants_wildcard_covers_the_base_domain():
    """The base domain of a platform and a tenant's domain may be siblings: what lies under both is nobody's to show."""
    edge = tlsfix.start({"acme": ["shop.corp.example"]}, edit=lambda text: text.replace(
        "bulkhead_base_domain localhost;", "bulkhead_base_domain apps.corp.example;"))
    try:
        wildcard = tlsfix.put(edge, "*.corp.example")
        assert shown(edge, "shop.corp.example") == wildcard
        for name in ("apps.corp.example", "acme.apps.corp.example"):
            with connect(edge, name, tlsfix.context(edge, verify=False)) as connection:
                assert tlsfix.serial(connection) == edge.base_serial, name
    finally:
        edge.stop()


def test_a_client_that_names_nothing_gets_the_configured_one(edge):
    assert shown(edge, None) == edge.base_serial


@pytest.mark.parametrize("name", ["foreign.example", "www.shop.example", "wild.example", "x.a.wild.example", "second.example",
                                  "shop.example.localhost.example", "example", "127.0.0.1", "xlocalhost"])
def test_no_certificate_is_shown_for_a_name_that_has_none(edge, name):
    assert refused(edge, name) == UNRECOGNIZED_NAME
    assert refused(edge, "shop.example") == "hello"


def test_certificates_come_change_and_go_without_a_reload(edge):
    workers = edge.workers()
    assert refused(edge, "second.example") == UNRECOGNIZED_NAME
    first = tlsfix.put(edge, "second.example")
    assert shown(edge, "second.example") == first
    second = tlsfix.put(edge, "second.example", key=ec.generate_private_key(ec.SECP384R1()))
    assert shown(edge, "second.example") == second != first
    third = tlsfix.put(edge, "second.example", key=rsa.generate_private_key(65537, 2048))
    for version in (TLS12, TLS13):
        with connect(edge, "second.example", tlsfix.context(edge, version)) as connection:
            assert tlsfix.serial(connection) == third
    tlsfix.remove(edge, "second.example")
    assert refused(edge, "second.example") == UNRECOGNIZED_NAME
    # a document for a host of the base domain goes before the configured certificate
    own = tlsfix.put(edge, "acme.localhost")
    assert (shown(edge, "acme.localhost"), shown(edge, "globex.localhost")) == (own, edge.base_serial)
    tlsfix.remove(edge, "acme.localhost")
    assert shown(edge, "acme.localhost") == edge.base_serial
    assert edge.workers() == workers


def test_an_ed25519_certificate_for_who_speaks_it(edge):
    number = tlsfix.put(edge, "second.example", key=ed25519.Ed25519PrivateKey.generate())
    assert shown(edge, "second.example") == number
    tlsfix.remove(edge, "second.example")


def test_an_expired_certificate_is_served_and_logged_once(edge):
    number = tlsfix.put(edge, "second.example", days=-1)
    for _ in range(3):
        with connect(edge, "second.example", tlsfix.context(edge, verify=False)) as connection:
            assert tlsfix.serial(connection) == number
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        shown(edge, "second.example")
    tlsfix.remove(edge, "second.example")
    assert edge.errors().count("certificate/second.example has expired, and is served") == 1


def broken(edge, name):
    """What may be wrong with a document: (body, what the log says)."""
    chain, key = edge.authority.issue(name)
    other_chain, other_key = edge.authority.issue("other.example")
    good = tlsfix.body(edge, name, chain, key)
    der = key.private_bytes(DER, PKCS8, serialization.NoEncryption())
    locked = key.private_bytes(DER, PKCS8, serialization.BestAvailableEncryption(b"x"))
    sealed_for = lambda other: tlsfix.seal(edge.keys.seal(), f"certificate/{other}", der)
    without = lambda member: {k: v for k, v in good.items() if k != member}
    return {
        "no JSON": ("{", "no document"), "no object": ("[]", "no document"), "empty": ({}, "no document"),
        "no chain": (without("chain"), "no document"), "no key": (without("sealed_key"), "no document"),
        "a chain of another type": ({**good, "chain": 1}, "no document"),
        "a member twice": ('{"chain":"","chain":"","sealed_key":""}', "no document"),
        "an empty chain": ({**good, "chain": ""}, "no certificate"),
        "text for a chain": ({**good, "chain": "hello"}, "no certificate"),
        "half a certificate": ({**good, "chain": chain[:200]}, "no certificate"),
        "a key for a chain": ({**good, "chain": other_key.private_bytes(tlsfix.PEM, PKCS8, tlsfix.CLEAR).decode()}, "no certificate"),
        "an endless chain": ({**good, "chain": chain + edge.authority.pem * 20}, "too long"),
        "an empty key": ({**good, "sealed_key": ""}, "not sealed"),
        "a key in the clear": ({**good, "sealed_key": key.private_bytes(tlsfix.PEM, PKCS8, tlsfix.CLEAR).decode()}, "not sealed"),
        "a key sealed for another name": ({**good, "sealed_key": sealed_for("other.example")}, "not sealed"),
        "a key sealed for another kind": ({**good, "sealed_key": tlsfix.seal(edge.keys.seal(), f"key/{name}", der)}, "not sealed"),
        "a key sealed under another key": ({**good, "sealed_key": tlsfix.seal(bytes(32), f"certificate/{name}", der)}, "not sealed"),
        "a key cut short": ({**good, "sealed_key": good["sealed_key"][:-4]}, "not sealed"),
        "no key inside": (tlsfix.body(edge, name, chain, b"nothing"), "no PKCS#8"),
        "an encrypted key inside": (tlsfix.body(edge, name, chain, locked), "no PKCS#8"),
        "another certificate's key": (tlsfix.body(edge, name, chain, other_key), "not the certificate's"),
        "another name's certificate": (tlsfix.body(edge, name, other_chain, other_key), "does not cover"),
        "a name as subject only": (tlsfix.body(edge, name, *edge.authority.issue(common_name=name)), "does not cover"),
    }


def test_a_broken_document_harms_its_domain_only(edge):
    name, workers = "second.example", edge.workers()
    for case, (body, words) in broken(edge, name).items():
        before = edge.errors().count(f"certificate/{name}: ")
        edge.document(f"certificate/{name}", body)
        assert [refused(edge, name) for _ in range(3)] == [INTERNAL_ERROR] * 3, case
        assert refused(edge, "globex.example") == refused(edge, "acme.localhost") == "hello", case
        told = edge.errors().split("\n")
        told = [line for line in told if f"certificate/{name}: " in line][before:]
        assert len(told) == 1 and words in told[0], (case, told)
        assert "PRIVATE" not in told[0]
        number = tlsfix.put(edge, name)
        assert shown(edge, name) == number, f"control after {case}"
    tlsfix.remove(edge, name)
    assert edge.workers() == workers


def test_without_a_seal_key_nothing_is_shown_until_it_comes(edge):
    text = edge.keys.text()
    edge.write_keyring("".join(line for line in text.splitlines(True) if not line.startswith("seal ")), tell=True)
    tlsfix.put(edge, "second.example")
    assert refused(edge, "second.example") == INTERNAL_ERROR
    assert refused(edge, "localhost") == "hello"
    edge.write_keyring(text, tell=True)
    assert refused(edge, "second.example") == "hello"
    tlsfix.remove(edge, "second.example")


def test_before_there_is_a_snapshot_only_the_base_domain_has_a_certificate():
    edge = tlsfix.start({})
    try:
        edge.process.terminate()
        edge.process.wait(10)
        kept = edge.snapshot.rename(edge.dir / "kept")
        edge.start()
        assert (refused(edge, "localhost"), refused(edge, "shop.example")) == ("hello", INTERNAL_ERROR)
        with connect(edge, "acme.localhost") as connection:
            assert tlsfix.ask(edge, connection, "acme.localhost").code == "not-ready"
        kept.rename(edge.snapshot)
        number = tlsfix.put(edge, "shop.example")
        deadline = time.monotonic() + 5
        while refused(edge, "shop.example") != "hello" and time.monotonic() < deadline:
            time.sleep(0.05)
        assert shown(edge, "shop.example") == number
    finally:
        edge.stop()


# ---- what a connection may be used for ----

SAME, OTHER = 200, (421, "misdirected-request")
AGREEMENT = [  # name of the handshake, Host, path, whose user → status
    ("acme.localhost", "acme.localhost", "/orders", "acme", SAME),
    ("acme.localhost", "ACME.localhost.:1", "/orders", "acme", SAME),
    ("acme.localhost", "shop.example", "/orders", "acme", SAME),
    ("shop.example", "acme.localhost", "/orders", "acme", SAME),
    ("shop.example", "second.example", "/orders", "acme", SAME),
    ("acme.localhost", "globex.localhost", "/orders", "globex", OTHER),
    ("globex.localhost", "acme.localhost", "/orders", "acme", OTHER),
    ("shop.example", "globex.localhost", "/orders", "globex", OTHER),
    ("shop.example", "globex.example", "/orders", "globex", OTHER),
    ("globex.example", "shop.example", "/orders", "acme", OTHER),
    ("globex.localhost", "shop.example", "/orders", "acme", OTHER),
    ("a.wild.example", "b.wild.example", "/orders", "globex", OTHER),  # one certificate for both
    ("b.wild.example", "a.wild.example", "/orders", "acme", OTHER),
    ("a.wild.example", "a.wild.example", "/orders", "acme", SAME),
    ("nobodys.wild.example", "a.wild.example", "/orders", "acme", OTHER),
    ("nobody.localhost", "acme.localhost", "/orders", "acme", OTHER),
    ("localhost", "acme.localhost", "/orders", "acme", OTHER),
    ("localhost", "shop.example", "/orders", "acme", OTHER),
    ("localhost", "localhost", "/t/acme/orders", "acme", SAME),
    ("localhost", "127.0.0.1", "/t/acme/orders", "acme", SAME),
    ("acme.localhost", "localhost", "/t/acme/orders", "acme", SAME),
    ("acme.localhost", "localhost", "/t/globex/orders", "globex", OTHER),
    ("shop.example", "localhost", "/t/globex/orders", "globex", OTHER),
    ("shop.example", "localhost", "/t/acme/orders", "acme", SAME),
    ("nobodys.wild.example", "localhost", "/t/acme/orders", "acme", OTHER),
    (None, "acme.localhost", "/orders", "acme", SAME),
    (None, "localhost", "/t/acme/orders", "acme", SAME),
    (None, "shop.example", "/orders", "acme", OTHER),
    ("acme.localhost", "nobody.localhost", "/orders", "acme", (404, "tenant-unknown")),
    ("shop.example", "foreign.example", "/orders", "acme", (404, "tenant-unknown")),
    ("shop.example", "shop.example", "/t/globex/orders", "acme", (400, "tenant-conflict")),
    ("acme.localhost", "acme.localhost", "/orders", "globex", (401, "token-tenant-mismatch")),
]


@pytest.fixture(scope="module")
def paths():
    """The same with paths that name tenants."""
    edge = tlsfix.start(DOMAINS, edit=lambda text: text.replace("bulkhead on;", "bulkhead on; bulkhead_resolve host domain path;"))
    for name in ("shop.example", "globex.example", "*.wild.example"):
        tlsfix.put(edge, name)
    yield edge
    edge.stop()


@pytest.mark.parametrize("name, host, path, user, expected", AGREEMENT)
def test_a_connection_serves_the_tenant_that_it_was_opened_for(paths, name, host, path, user, expected):
    edge = paths
    own = {None: "localhost"}.get(name, name)
    before = tlsfix.counted(edge)
    with connect(edge, name, tlsfix.context(edge, verify=False)) as connection:
        answer = tlsfix.ask(edge, connection, host, path, user)
        if expected == SAME:
            assert answer.status == 200 and answer.json()["name"] == user, answer
            assert tlsfix.counted(edge)[user] == before[user] + 1
        else:
            assert (answer.status, answer.code) == expected
            assert tlsfix.counted(edge) == before, "a refused request reached an application"
        if name in ("acme.localhost", "shop.example"):  # and it goes on serving its own
            assert tlsfix.ask(edge, connection, own).json()["name"] == "acme"


@pytest.mark.parametrize("name, host, path, user, expected", AGREEMENT)
def test_the_same_by_http2(paths, name, host, path, user, expected):
    edge = paths
    before = tlsfix.counted(edge)

    with Client(edge, connect(edge, name, tlsfix.context(edge, alpn=("h2",), verify=False))) as client:
        got = client.result(client.ask([(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", path),
                                        ("authorization", edge.good[user].split(": ")[1])]))
    assert got == ((200, None) if expected == SAME else expected)
    arrived = {id: count - before[id] for id, count in tlsfix.counted(edge).items()}
    assert arrived == {"acme": 0, "globex": 0, **({user: 1} if expected == SAME else {})}


def test_a_moved_domain_takes_its_open_connections_along(paths):
    edge = paths
    with connect(edge, "shop.example") as connection:
        assert tlsfix.ask(edge, connection, "shop.example").json()["name"] == "acme"
        edge.change(edge.acme, domains=[])
        edge.change(edge.globex, domains=["shop.example"])
        assert tlsfix.ask(edge, connection, "acme.localhost").code == "misdirected-request"
        assert tlsfix.ask(edge, connection, "shop.example", "/orders", "globex").json()["name"] == "globex"
        for id in ("globex", "acme"):
            edge.change(getattr(edge, id), domains=DOMAINS[id])
        assert tlsfix.ask(edge, connection, "shop.example").json()["name"] == "acme"


def test_the_check_can_be_switched_off_and_observing_only_notes_it():
    app = Echo(("127.0.0.1", Ports().take()), "any")
    to = f"proxy_pass http://127.0.0.1:{app.listener.getsockname()[1]};"
    for words, status, noted in (("bulkhead on; bulkhead_sni off;", 200, "-"), ("bulkhead observe;", 200, "misdirected-request"),
                                 ("bulkhead on;", 421, "misdirected-request")):
        edge = tlsfix.start(DOMAINS, edit=lambda text: text.replace("bulkhead on;", words).replace(
            "proxy_pass https://bulkhead;", f"add_header Noted '[$bulkhead_code]' always; {to}"))
        try:
            with connect(edge, "acme.localhost") as connection:
                answer = tlsfix.ask(edge, connection, "globex.localhost", "/orders", "globex")
            assert (answer.status, answer.code) == (status, None if status == 200 else noted), words
            if status == 200:
                assert answer.get("Noted").strip("[]") in (noted, "" if noted == "-" else noted)
        finally:
            edge.stop()
    app.stop()


def test_the_application_is_told_of_https(edge):
    with connect(edge, "shop.example") as connection:
        answer = tlsfix.ask(edge, connection, f"shop.example:{edge.tls_port}", "/orders", "acme", "X-Forwarded-Proto: http",
                            "X-Forwarded-Port: 80")
    told = {name.lower(): value for name, value in answer.json()["headers"]}
    assert {name: told["x-forwarded-" + name] for name in ("proto", "port", "host")} == {
        "proto": "https", "port": str(edge.tls_port), "host": f"shop.example:{edge.tls_port}"}


# ---- sessions ----

def session_of(edge, made, name):
    """A session that was opened for that name and can be resumed: proved by resuming it."""
    with connect(edge, name, made) as connection:
        assert not connection.session_reused
        assert tlsfix.ask(edge, connection, name, "/orders", "globex" if name.startswith("globex") else "acme").status == 200
        return connection.session


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_session_ends_with_its_name(edge, version):
    tlsfix.put(edge, "second.example")
    names = ["shop.example", "second.example", "globex.example", "acme.localhost", "globex.localhost"]
    for opened in names:
        for used in names:
            made = tlsfix.context(edge, version)
            session = session_of(edge, made, opened)
            with connect(edge, used, made, session) as connection:
                assert connection.session_reused == (opened == used), (opened, used)
                who = "globex" if used.startswith("globex") else "acme"
                assert tlsfix.ask(edge, connection, used, "/orders", who).json()["name"] == who
    tlsfix.remove(edge, "second.example")


@pytest.mark.parametrize("version", [TLS12, TLS13])
def test_a_session_ends_with_its_certificate(edge, version):
    tlsfix.put(edge, "second.example")
    made = tlsfix.context(edge, version)
    session = session_of(edge, made, "second.example")
    number = tlsfix.put(edge, "second.example")
    with connect(edge, "second.example", made, session) as connection:
        assert not connection.session_reused and tlsfix.serial(connection) == number
    session = session_of(edge, made, "second.example")
    tlsfix.remove(edge, "second.example")
    with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
        connect(edge, "second.example", made, session)


def test_sessions_are_resumed_by_every_worker_and_after_a_reload():
    edge = tlsfix.start(DOMAINS, workers=4)
    try:
        number = tlsfix.put(edge, "shop.example")
        made = tlsfix.context(edge, TLS13)
        for _ in range(12):
            session = session_of(edge, made, "shop.example")
            with connect(edge, "shop.example", made, session) as connection:
                assert connection.session_reused
        session, before = session_of(edge, made, "shop.example"), set(edge.workers())
        edge.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 20
        while before & set(edge.workers()) or len(edge.workers()) != 4:
            assert time.monotonic() < deadline, "the old workers do not leave"
            time.sleep(0.05)
        assert shown(edge, "shop.example") == number
        with connect(edge, "shop.example", made, session) as connection:
            assert connection.session_reused
            assert tlsfix.ask(edge, connection, "shop.example").status == 200
    finally:
        edge.stop()


# ---- configuration ----

def test_certificates_beside_variables_are_refused_at_start():
    edge = tlsfix.start({})
    try:
        def check(edit):
            path = edge.dir / "etc/nginx-tls.conf"
            kept = path.read_text()
            path.write_text(edit(kept))
            done = subprocess.run(edge.command("-t"), capture_output=True, text=True)
            path.write_text(kept)
            return done.returncode, done.stderr
        assert check(lambda text: text)[0] == 0
        code, words = check(lambda text: text.replace("edge-tls.crt;", "$ssl_server_name.crt;"))
        assert code != 0 and '"bulkhead_certificates" cannot stand beside an "ssl_certificate" with variables' in words
    finally:
        edge.stop()


def test_a_server_beside_ours_keeps_its_own_certificate():
    """Another server block on the same port, without Bulkhead: chosen by its name, as nginx does it."""
    other = tlsfix.Authority("Other")
    chain, key = other.issue("docs.example")
    other.authority = other

    def edit(text):
        head, tail = text.split("    server {", 1)
        return (head + """    server {
        listen 127.0.0.1:TLS_PORT ssl http2;
        server_name docs.example;
        ssl_certificate STATE/keys/docs.crt;
        ssl_certificate_key STATE/keys/docs.key;
        location / { return 200 docs; }
    }
    server {""" + tail)

    edge = tlsfix.start(DOMAINS, edit=edit, before=lambda edge: (
        (edge.dir / "keys/docs.crt").write_text(chain),
        (edge.dir / "keys/docs.key").write_bytes(key.private_bytes(tlsfix.PEM, PKCS8, tlsfix.CLEAR)),
        (edge.dir / "nginx.conf").write_text((edge.dir / "nginx.conf").read_text().replace(
            "TLS_PORT", str(edge.tls_port)).replace("STATE", str(edge.dir)))))
    try:
        tlsfix.put(edge, "shop.example")
        with connect(edge, "docs.example", tlsfix.context(other)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: docs.example\r\n\r\n")
            assert b"docs" in connection.recv(4096)
        assert refused(edge, "other.example") == UNRECOGNIZED_NAME
        assert shown(edge, "shop.example")
        tlsfix.put(edge, "docs.example")  # a tenant cannot take the name of a server block
        with connect(edge, "docs.example", tlsfix.context(other)):
            pass
    finally:
        edge.stop()
