"""Hostile handshakes as bytes, and hostile use of good connections; nothing but the controls may reach an application."""
import pathlib
import socket
import ssl
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_hostile as base  # noqa: E402
import tlsfix  # noqa: E402
from edgefix import Answer  # noqa: E402
from tlsfix import DECODE_ERROR, INTERNAL_ERROR, NO_APPLICATION_PROTOCOL, UNRECOGNIZED_NAME  # noqa: E402
from tlsfix import alpn_list, client_hello, connect, name_list  # noqa: E402

DOMAINS = {"acme": ["shop.example"], "globex": ["globex.example", "broken.example"]}
PROTOCOL_VERSION, MISSING_EXTENSION, HANDSHAKE_FAILURE, UNEXPECTED, ILLEGAL = 70, 109, 40, 10, 47


@pytest.fixture(scope="module")
def edge():
    edge = tlsfix.start(DOMAINS)
    for name in ("shop.example", "globex.example"):
        tlsfix.put(edge, name)
    edge.document("certificate/broken.example", {})
    yield edge
    errors = edge.errors()
    edge.stop()
    assert "signal" not in errors, f"a worker died:\n{errors}"


def named(*names, **options):
    return client_hello((0, name_list(*names, **options)))


HELLO = "hello"
HANDSHAKES = {  # bytes → an alert's number, or HELLO where a certificate may be shown
    "a domain": (named(b"shop.example"), HELLO),
    "no name": (client_hello(), HELLO),
    "upper case": (named(b"SHOP.EXAMPLE"), HELLO),
    "dot behind": (named(b"shop.example."), HELLO),
    "base domain": (named(b"localhost"), HELLO),
    "label of the base domain": (named(b"globex.localhost"), HELLO),
    "two dots behind": (named(b"shop.example.."), UNRECOGNIZED_NAME),
    "dot in front": (named(b".shop.example"), UNRECOGNIZED_NAME),
    "a dot": (named(b"."), UNRECOGNIZED_NAME),
    "empty name": (named(b""), UNRECOGNIZED_NAME),
    "no list": (client_hello((0, b"")), UNRECOGNIZED_NAME),
    "empty list": (client_hello((0, b"\0\0")), UNRECOGNIZED_NAME),
    "two names": (named(b"shop.example", b"globex.example"), UNRECOGNIZED_NAME),
    "the same name twice": (named(b"shop.example", b"shop.example"), UNRECOGNIZED_NAME),
    "another kind of name": (named(b"shop.example", kind=1), UNRECOGNIZED_NAME),
    "list longer than it is": (client_hello((0, b"\0\x20" + name_list(b"shop.example")[2:])), UNRECOGNIZED_NAME),
    "list shorter than it is": (client_hello((0, b"\0\x05" + name_list(b"shop.example")[2:])), UNRECOGNIZED_NAME),
    "name longer than it is": (client_hello((0, b"\0\x0f\0\0\x20shop.example")), UNRECOGNIZED_NAME),
    "bytes behind the name": (client_hello((0, name_list(b"shop.example") + b"x")), UNRECOGNIZED_NAME),
    "the extension twice": (client_hello((0, name_list(b"shop.example")), (0, name_list(b"globex.example"))), ILLEGAL),
    "address": (named(b"127.0.0.1"), UNRECOGNIZED_NAME),
    "address, IPv6": (named(b"::1"), UNRECOGNIZED_NAME),
    "address, bracketed": (named(b"[::1]"), UNRECOGNIZED_NAME),
    "port": (named(b"shop.example:443"), UNRECOGNIZED_NAME),
    "NUL behind": (named(b"shop.example\0"), UNRECOGNIZED_NAME),
    "NUL inside": (named(b"shop.example\0.globex.example"), UNRECOGNIZED_NAME),
    "NUL before the base domain": (named(b"foreign.example\0.localhost"), UNRECOGNIZED_NAME),
    "300 bytes": (named(b"a" * 300), UNRECOGNIZED_NAME),
    "300 bytes under the base domain": (named(b"a." * 145 + b"localhost"), UNRECOGNIZED_NAME),
    "253 bytes": (named(b".".join([b"a" * 61] * 4)), UNRECOGNIZED_NAME),
    "60000 bytes in pieces": (named(b"a" * 15000), UNRECOGNIZED_NAME),
    "wildcard": (named(b"*.example"), UNRECOGNIZED_NAME),
    "wildcard of the base domain": (named(b"*.localhost"), UNRECOGNIZED_NAME),
    "slashes": (named(b"../certificate/shop.example"), UNRECOGNIZED_NAME),
    "another kind of document": (named(b"../policy/standard"), UNRECOGNIZED_NAME),
    "quote": (named(b'shop.example"'), UNRECOGNIZED_NAME),
    "percent": (named(b"shop%2eexample"), UNRECOGNIZED_NAME),
    "UTF-8": (named("münchen.example".encode()), UNRECOGNIZED_NAME),
    "8-bit": (named(b"shop.ex\xe4mple"), UNRECOGNIZED_NAME),
    "space": (named(b"shop.example "), UNRECOGNIZED_NAME),
    "line": (named(b"shop.example\r\nHost: x"), UNRECOGNIZED_NAME),
    "foreign": (named(b"foreign.example"), UNRECOGNIZED_NAME),
    "base domain in front": (named(b"localhost.example"), UNRECOGNIZED_NAME),
    "base domain without its dot": (named(b"xlocalhost"), UNRECOGNIZED_NAME),
    "a domain without a usable certificate": (named(b"broken.example"), INTERNAL_ERROR),
    # ---- ALPN ----
    "h2": (client_hello((0, name_list(b"shop.example")), (16, alpn_list(b"h2"))), HELLO),
    "h2 and HTTP/1.1": (client_hello((0, name_list(b"shop.example")), (16, alpn_list(b"h2", b"http/1.1"))), HELLO),
    "h2c": (client_hello((0, name_list(b"shop.example")), (16, alpn_list(b"h2c"))), NO_APPLICATION_PROTOCOL),
    "a protocol of others": (client_hello((0, name_list(b"shop.example")), (16, alpn_list(b"smtp"))), NO_APPLICATION_PROTOCOL),
    "h2 in other letters": (client_hello((0, name_list(b"shop.example")), (16, alpn_list(b"H2"))), NO_APPLICATION_PROTOCOL),
    "acme-tls/1": (client_hello((0, name_list(b"shop.example")), (16, alpn_list(b"acme-tls/1"))), NO_APPLICATION_PROTOCOL),
    "no protocol": (client_hello((0, name_list(b"shop.example")), (16, b"\0\0")), DECODE_ERROR),
    "an empty protocol": (client_hello((0, name_list(b"shop.example")), (16, alpn_list(b""))), DECODE_ERROR),
    # ---- versions ----
    "TLS 1.2": (client_hello((0, name_list(b"shop.example")), versions=b"\3\3"), HELLO),
    "TLS 1.1": (client_hello((0, name_list(b"shop.example")), versions=b"\3\2"), PROTOCOL_VERSION),
    "SSL 3": (client_hello((0, name_list(b"shop.example")), versions=b"\3\0"), PROTOCOL_VERSION),
    "no version": (client_hello((0, name_list(b"shop.example")), versions=b"\x0a\x0a"), PROTOCOL_VERSION),
}


@pytest.mark.parametrize("name", HANDSHAKES)
def test_handshakes(edge, name):
    data, expected = HANDSHAKES[name]
    before, worker = tlsfix.counted(edge), edge.workers()
    got = tlsfix.answer_to(edge, data)
    assert got == expected
    assert tlsfix.answer_to(edge, named(b"shop.example")) == HELLO, "control"
    assert (tlsfix.counted(edge), edge.workers()) == (before, worker)


PLAIN = b"GET /orders HTTP/1.1\r\nHost: shop.example\r\n\r\n"
BYTES = {  # what is no handshake → how an answer begins, if there is one
    "plain HTTP": (PLAIN, b"HTTP/1.1 400"),
    "plain HTTP for the base domain": (PLAIN.replace(b"shop.example", b"acme.localhost"), b"HTTP/1.1 400"),
    "plain HTTP, absolute form": (PLAIN.replace(b"/orders", b"https://shop.example/orders"), b"HTTP/1.1 400"),
    "plain HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0]), b""),
    "PROXY line": (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n" + PLAIN, b"HTTP/1.1 400"),
    "SSL 2": (b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + bytes(40), b"\x15\x03"),
    "an alert": (b"\x15\x03\x03\x00\x02\x02\x28", b""),
    "data before the handshake": (b"\x17\x03\x03\x00\x20" + bytes(32), b""),
    "a huge record": (b"\x16\x03\x01\xff\xff" + bytes(1000), b""),
    "an endless ClientHello": (b"\x16\x03\x01\x00\x04\x01\xff\xff\xff" + b"\x16\x03\x01\x00\x04" + bytes(4), b""),
    "half a ClientHello": (named(b"shop.example")[:60], b""),
    "noise": (bytes(range(1, 256)), b""),
}


def talk(edge, data, sock=None):
    received = b""
    with sock or socket.create_connection(("127.0.0.1", edge.tls_port), timeout=5) as sock:
        sock.sendall(data)
        try:
            sock.settimeout(5 if data.startswith(b"GET") else base.SILENCE_S)
            while part := sock.recv(65536):
                received += part
                sock.settimeout(base.SILENCE_S)
        except (TimeoutError, OSError):
            pass
    return received


@pytest.mark.parametrize("name", BYTES)
def test_what_is_no_handshake(edge, name):
    data, begins = BYTES[name]
    before, worker = tlsfix.counted(edge), edge.workers()
    got = talk(edge, data.replace(b"\r\n\r\n", b"\r\n" + edge.good["acme"].encode() + b"\r\n\r\n", 1))
    assert got.startswith(begins) if begins else not got.startswith(b"HTTP/1.1 2"), got
    if got.startswith(b"HTTP/1.1"):
        assert Answer(got).code == "bad-request"
    assert (tlsfix.counted(edge), edge.workers()) == (before, worker)
    with connect(edge, "shop.example") as connection:
        assert tlsfix.ask(edge, connection, "shop.example").status == 200, "control"


# target, header lines → answer on a connection for shop.example (acme's), asked by globex's user with globex's token
MISUSES = {
    "another tenant's domain": ("/orders", "globex.example", [], (421, "misdirected-request")),
    "another tenant's label": ("/orders", "globex.localhost", [], (421, "misdirected-request")),
    "absolute form for another tenant": ("https://globex.example/orders", "globex.example", [], (421, "misdirected-request")),
    "absolute form against Host": ("https://globex.example/orders", "shop.example", [], (400, "tenant-conflict")),
    "Host against absolute form": ("https://shop.example/orders", "globex.example", [], (400, "tenant-conflict")),
    "a dot and a port": ("/orders", "GLOBEX.example.:443", [], (421, "misdirected-request")),
    "forwarded host": ("/orders", "globex.example", ["X-Forwarded-Host: shop.example", "Forwarded: host=shop.example"], (421, "misdirected-request")),
    "own host, another's token": ("/orders", "shop.example", [], (401, "token-tenant-mismatch")),
    "own host, another's header": ("/orders", "shop.example", ["X-Tenant-ID: globex"], (401, "token-tenant-mismatch")),
    "anonymous path of another tenant": ("/", "globex.example", [], (421, "misdirected-request")),
    "foreign host": ("/orders", "foreign.example", [], (404, "tenant-unknown")),
    "domain of another tenant without a certificate": ("/orders", "broken.example", [], (421, "misdirected-request")),
}


@pytest.mark.parametrize("name", MISUSES)
def test_a_connection_of_one_tenant_serves_no_other(edge, name):
    target, host, extra, expected = MISUSES[name]
    before = tlsfix.counted(edge)
    with connect(edge, "shop.example") as connection:
        answer = tlsfix.ask(edge, connection, host, target, "globex", *extra)
        assert (answer.status, answer.code) == expected
        assert tlsfix.counted(edge) == before
        assert tlsfix.ask(edge, connection, "shop.example").json()["name"] == "acme", "control"
    with connect(edge, "globex.example") as connection:
        assert tlsfix.ask(edge, connection, "globex.example", "/orders", "globex").json()["name"] == "globex", "control"


def test_pipelining_for_another_tenant(edge):
    """The second request is judged like the first."""
    before = tlsfix.counted(edge)
    requests = b"".join(f"GET /orders HTTP/1.1\r\nHost: {host}\r\n{edge.good[user]}\r\n\r\n".encode()
                        for host, user in (("shop.example", "acme"), ("globex.example", "globex"), ("acme.localhost", "acme")))
    got = base.answers(talk(edge, requests, connect(edge, "shop.example")))
    assert [(a.status, a.code) for a in got] == [(200, None), (421, "misdirected-request"), (200, None)]
    assert tlsfix.counted(edge) == {"acme": before["acme"] + 2, "globex": before["globex"]}


def test_a_misdirected_request_counts_for_the_tenant_that_it_names(edge):
    was = edge.counters(edge.globex)["status_4xx"]
    with connect(edge, "shop.example") as connection:
        assert tlsfix.ask(edge, connection, "globex.example", "/orders", "globex").status == 421
    assert edge.settled(edge.globex, 1)["status_4xx"] == was + 1


def openssl(edge, *arguments, text):
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{edge.tls_port}", "-servername", "shop.example", *arguments]
    return subprocess.run(command, input=text, capture_output=True, timeout=20)


def test_a_client_may_not_renegotiate(edge):
    before = tlsfix.counted(edge)["acme"]
    request = f"GET /orders HTTP/1.1\r\nHost: shop.example\r\n{edge.good['acme']}\r\nConnection: close\r\n\r\n".encode()
    good = openssl(edge, "-tls1_2", "-quiet", text=request)
    assert b"HTTP/1.1 200" in good.stdout, "control"
    hostile = openssl(edge, "-tls1_2", "-crlf", text=b"R\n" + request)
    assert b"no renegotiation" in hostile.stderr.lower() and b"HTTP/1.1 200" not in hostile.stdout
    assert tlsfix.counted(edge)["acme"] == before + 1


def test_early_data_is_not_taken(edge, tmp_path):
    before = tlsfix.counted(edge)["acme"]
    session, early = tmp_path / "session", tmp_path / "early"
    request = f"GET /orders HTTP/1.1\r\nHost: shop.example\r\n{edge.good['acme']}\r\nConnection: close\r\n\r\n".encode()
    first = openssl(edge, "-tls1_3", "-sess_out", str(session), "-ign_eof", text=request)
    assert b"HTTP/1.1 200" in first.stdout and b"Max Early Data: 0" in first.stdout, "control"
    early.write_bytes(request)
    second = openssl(edge, "-tls1_3", "-sess_in", str(session), "-early_data", str(early), text=b"")
    assert b"Early data was accepted" not in second.stdout
    assert tlsfix.counted(edge)["acme"] == before + 1


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_another_tenant_shows_the_own_certificate_again(edge, version):
    made = tlsfix.context(edge, version)
    with connect(edge, "globex.example", made) as connection:
        assert tlsfix.ask(edge, connection, "globex.example", "/orders", "globex").status == 200
        session, globex = connection.session, tlsfix.serial(connection)
    with connect(edge, "globex.example", made, session) as connection:
        assert connection.session_reused, "control"
    with connect(edge, "shop.example", made, session) as connection:
        assert not connection.session_reused and tlsfix.serial(connection) != globex
        answer = tlsfix.ask(edge, connection, "globex.example", "/orders", "globex")
        assert (answer.status, answer.code) == (421, "misdirected-request")
