"""WebSocket handshakes as an attacker sends them: a tunnel opens to the tenant that all sources name, or not at all."""
import base64
import hashlib
import json
import pathlib
import socket
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_hostile as base  # noqa: E402
import test_hostile_sources as sources  # noqa: E402
from edgefix import decode, read_answer  # noqa: E402

KEY = base64.b64encode(bytes(range(16))).decode()
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Tunnels(base.Recorder):
    """Opens a tunnel under /ws, remembers what comes through it, and says its own name in it."""

    def __init__(self, address, name):
        self.tunnelled = []
        super().__init__(address, name)

    def _answer(self, client, line, headers, body):
        got = {name.lower(): value for name, value in headers}
        if "upgrade" not in got or not line.startswith("GET /ws"):
            return super()._answer(client, line, headers, body)
        self.seen.append((line, headers, body))
        accept = base64.b64encode(hashlib.sha1((got["sec-websocket-key"] + GUID).encode()).digest()).decode()
        client.sendall(f"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
                       f"name={self.name};".encode())
        while data := client.recv(65536):
            self.tunnelled.append(data)
            client.sendall(data)
        return False


@pytest.fixture(scope="module")
def edge():
    edge = sources.start(lambda text: text.replace("bulkhead on;", "bulkhead on; bulkhead_resolve host path header;"), Tunnels)
    yield edge
    errors = edge.errors()
    edge.stop()
    assert "signal" not in errors, f"a worker died:\n{errors}"


def handshake(edge, target="/ws", host="acme.localhost", user="acme", method="GET", version="HTTP/1.1", extra=(), connection="Upgrade",
              upgrade="websocket", key=KEY, body=""):
    lines = [f"{method} {target} {version}", f"Host: {host}", *([edge.good[user]] if user else []), f"Connection: {connection}",
             f"Upgrade: {upgrade}", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}", *extra]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()


def first(edge, data):
    """(status, code, the rest of what comes)."""
    with edge.connect() as sock:
        sock.sendall(data)
        answer = read_answer(sock)
        rest = answer.body if answer.status == 101 else b""
        sock.settimeout(base.SILENCE_S)
        try:
            while part := sock.recv(65536):
                rest += part
        except (TimeoutError, ConnectionResetError):
            pass
        return answer, rest


OPENS = {
    "by host": {}, "list": {"connection": "keep-alive, Upgrade"}, "capitals": {"connection": "UPGRADE", "upgrade": "WebSocket"},
    "by path": {"target": "/t/acme/ws", "host": "localhost"}, "by header": {"host": "localhost", "extra": ["X-Tenant-ID: acme"]},
    "absolute form": {"target": "http://acme.localhost/ws"}, "empty words": {"connection": ",, upgrade ,"},
    "spoofed": {"extra": ["X-Bulkhead-Token: x", "X_Tenant_ID: globex", "X-Forwarded-For: evil"]},
    "no body, said so": {"extra": ["Content-Length: 0"]},
}


@pytest.mark.parametrize("name", OPENS)
def test_tunnel_opens_to_the_named_tenant(edge, name):
    begin = sources.begin_of(edge)
    answer, rest = first(edge, handshake(edge, **OPENS[name]))
    assert (answer.status, rest) == (101, b"name=acme;")
    (line, headers, _), = edge.acme_app.seen[begin["acme"]:]
    got = {}
    for header, value in headers:
        got.setdefault(header.lower(), []).append(value)
    assert line == "GET /ws HTTP/1.1" and all(len(got.get(header, [])) == 1 for header in base.IDENTITY)
    assert json.loads(decode(got["x-bulkhead-token"][0])[1])["tenant"] == got["x-tenant-id"][0] == "acme"
    assert got.get("x-forwarded-prefix") == (["/t/acme"] if name == "by path" else None)
    assert got["connection"] == ["upgrade"] and got["upgrade"] == ["websocket"] and "authorization" not in got


REFUSED = {
    "no credential": ({"user": None}, 401), "credential of another": ({"user": "globex"}, 401),
    "path of another": ({"target": "/t/globex/ws"}, 400), "header of another": ({"extra": ["X-Tenant-ID: globex"]}, 400),
    "line of another": ({"target": "http://globex.localhost/ws"}, 400), "no tenant": ({"host": "localhost"}, 400),
    "dots": ({"target": "/t/acme/../globex/ws", "host": "localhost"}, 400),
    "two lengths": ({"extra": ["Content-Length: 0", "Content-Length: 4"]}, 400),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_handshake_reaches_nobody(edge, name):
    parts, status = REFUSED[name]
    begin = sources.begin_of(edge)
    answer, rest = first(edge, handshake(edge, **parts))
    assert (answer.status, b"name=" in rest) == (status, False) and sources.arrivals(edge, begin) == []


ORDINARY = {
    "a word that contains upgrade": {"connection": "not-upgrade"}, "upgraded": {"connection": "upgraded"},
    "quoted": {"connection": '"upgrade"'}, "words without comma": {"connection": "keep-alive upgrade"},
    "two protocols": {"upgrade": "websocket, h2c"}, "protocol with a version": {"upgrade": "websocket/13"},
    "another protocol": {"upgrade": "h2c"}, "TLS": {"upgrade": "TLS/1.2"}, "HEAD": {"method": "HEAD"}, "OPTIONS": {"method": "OPTIONS"},
    "HTTP/1.0": {"version": "HTTP/1.0"}, "POST": {"method": "POST", "extra": ["Content-Length: 2"], "body": "ab"},
    "a body": {"extra": ["Content-Length: 2"], "body": "ab"}, "chunks": {"extra": ["Transfer-Encoding: chunked"], "body": "0\r\n\r\n"},
    "two keys": {"extra": [f"Sec-WebSocket-Key: {KEY}"]}, "two connections": {"extra": ["Connection: x"]}, "a long key": {"key": KEY + "="},
    "two upgrades": {"extra": ["Upgrade: h2c"]}, "two versions": {"extra": ["Sec-WebSocket-Version: 13"]},
}


@pytest.mark.parametrize("name", ORDINARY)
def test_half_a_handshake_opens_nothing(edge, name):
    begin = sources.begin_of(edge)
    data = handshake(edge, **ORDINARY[name])
    got = base.answers(base.exchange(edge, data)) if ORDINARY[name].get("method") != "HEAD" else [first_of_head(edge, data)]
    assert got[0].status == 200
    (line, headers, _), = edge.acme_app.seen[begin["acme"]:]
    assert not {"upgrade", "connection"} & {header.lower() for header, _ in headers}
    assert len(edge.globex_app.seen) == begin["globex"]


def first_of_head(edge, data):
    with edge.connect() as sock:
        sock.sendall(data)
        return read_answer(sock, "HEAD")


INSIDE = "GET /inside HTTP/1.1\r\nHost: globex.localhost\r\nX-Tenant-ID: globex\r\n\r\n"


def test_bytes_behind_a_handshake_go_into_the_tunnel_only(edge):
    begin, tunnelled = sources.begin_of(edge), len(edge.acme_app.tunnelled)
    answer, rest = first(edge, handshake(edge, body=INSIDE))
    assert (answer.status, rest) == (101, b"name=acme;" + INSIDE.encode())
    assert b"".join(edge.acme_app.tunnelled[tunnelled:]) == INSIDE.encode()
    assert [line for line, *_ in edge.acme_app.seen[begin["acme"]:]] == ["GET /ws HTTP/1.1"]
    assert len(edge.globex_app.seen) == begin["globex"]


@pytest.mark.parametrize("parts, status", [({"target": "/plain"}, 200), ({"user": None}, 401)])
def test_bytes_behind_a_handshake_that_opens_nothing_are_a_request_of_their_own(edge, parts, status):
    begin = sources.begin_of(edge)
    mine = f"GET /t/globex/next HTTP/1.1\r\nHost: localhost\r\n{edge.good['globex']}\r\nConnection: close\r\n\r\n"
    got = base.answers(base.exchange(edge, handshake(edge, **parts, body=INSIDE + mine)))
    assert [a.status for a in got] == [status, 401, 200]
    assert [line.split()[1] for line, *_ in edge.globex_app.seen[begin["globex"]:]] == ["/next"]


def test_keepalive_connections_of_tunnels_are_not_used_again(edge):
    """What a tunnel leaves behind on its way to the application is no answer to the next request."""
    with edge.connect() as sock:
        sock.sendall(handshake(edge, body="HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL"))
        assert read_answer(sock).status == 101
        sock.shutdown(socket.SHUT_WR)
        while sock.recv(65536):
            pass
    for _ in range(5):
        answer = edge.get("acme.localhost", "/after", edge.good["acme"])
        assert answer.status == 200 and answer.json()["line"] == "GET /after HTTP/1.1"
