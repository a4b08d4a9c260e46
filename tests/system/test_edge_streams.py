"""WebSockets and long answers: they pass, are counted while they run, and end with their tenant."""
import base64
import hashlib
import os
import pathlib
import socket
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from edgefix import Echo, Edge, Tenant, read_answer  # noqa: E402

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
LAG_S = 5  # how old the counters of what still runs may be


class Talker(Echo):
    """Opens tunnels that echo every byte, lies about the handshake, or sends for as long as it is asked to."""

    def _answer(self, client, line, headers, body):
        path, got = line.split()[1], {name.lower(): value for name, value in headers}
        if path.startswith("/long"):
            client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 300000)
            time.sleep(30)
            return False
        if not path.startswith("/ws") or "upgrade" not in got:
            return super()._answer(client, line, headers, body)
        assert (got["upgrade"], got["connection"]) == ("websocket", "upgrade")
        accept = base64.b64encode(hashlib.sha1((got["sec-websocket-key"] + GUID).encode()).digest()).decode()
        accept = {"/ws/lie": "A" * 27 + "=", "/ws/short": "x"}.get(path, accept)
        accept = "" if path == "/ws/none" else f"Sec-WebSocket-Accept: {accept}\r\n"
        client.sendall(f"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n{accept}\r\n".encode())
        while data := client.recv(65536):
            client.sendall(data)
        return False


@pytest.fixture
def edge():
    edge = Edge(workers=1)
    port = edge.ports.take()
    edge.echoes.append(Talker(("127.0.0.1", port)))
    edge.acme = Tenant(42, "acme", endpoints=[f"127.0.0.1:{port}"])
    edge.globex = Tenant(7, "globex", endpoints=[f"127.0.0.1:{port}"])
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    yield edge.start()
    edge.stop()


HANDSHAKE = ("Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13")


def ask(sock, edge, tenant, path="/ws", *headers):
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {path} HTTP/1.1", f"Host: {tenant.id}.localhost", edge.bearer(tenant),
             *(headers or (*HANDSHAKE, f"Sec-WebSocket-Key: {key}"))]
    text = ("\r\n".join(lines) + "\r\n\r\n").encode()
    sock.sendall(text)
    return len(text), read_answer(sock)


def exchange(sock, size):
    sock.settimeout(10)
    got, data = 0, os.urandom(size)
    sent = 0
    while sent < size:
        sent += sock.send(data[sent:sent + 65536])
        while got < sent:
            part = sock.recv(65536)
            assert part == data[got:got + len(part)] and part
            got += len(part)


def wait(check, seconds=LAG_S):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if check():
            return True
        time.sleep(0.05)
    return False


def ended(sock, seconds=LAG_S):
    sock.settimeout(seconds)
    try:
        while sock.recv(1 << 20):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def test_websocket_is_counted_while_it_runs_and_exactly_in_the_end(edge):
    with edge.connect() as sock:
        head, answer = ask(sock, edge, edge.acme)
        assert (answer.status, answer.get("Upgrade")) == (101, "websocket")
        exchange(sock, 1000000)
        assert wait(lambda: edge.counters(edge.acme)["bytes_in"] >= 1000000
                    and edge.counters(edge.acme)["bytes_out"] >= 1000000)
        exchange(sock, 12345)
    out = len(answer.raw)
    assert wait(lambda: edge.counters(edge.acme)["bytes_in"] == head + 1012345), edge.counters(edge.acme)
    assert edge.counters(edge.acme)["bytes_out"] == out + 1012345
    assert edge.counters(edge.acme)["requests"] == 1


@pytest.mark.parametrize("change", [{"state": "suspended"}, {"epoch": 2}])
def test_tunnel_ends_with_its_tenant(edge, change):
    with edge.connect() as mine, edge.connect() as other:
        assert ask(mine, edge, edge.acme)[1].status == ask(other, edge, edge.globex)[1].status == 101
        exchange(mine, 10)
        edge.change(edge.acme, **change)
        assert ended(mine)
        exchange(other, 10)


def test_removed_tenant_ends_a_tunnel(edge):
    with edge.connect() as sock:
        assert ask(sock, edge, edge.acme)[1].status == 101
        edge.remove(edge.acme)
        assert ended(sock)


def test_long_answer_is_counted_while_it_runs_and_ends_with_its_tenant(edge):
    with edge.connect() as sock:
        sock.sendall(f"GET /long HTTP/1.1\r\nHost: acme.localhost\r\n{edge.bearer(edge.acme)}\r\n\r\n".encode())
        sock.settimeout(10)
        got = 0
        while got < 250000:  # nginx holds back the last buffers
            got += len(sock.recv(65536))
        assert wait(lambda: edge.counters(edge.acme)["bytes_out"] >= 250000)
        edge.change(edge.acme, state="suspended")
        assert ended(sock)
    assert edge.ask(edge.globex).status == 200


@pytest.mark.parametrize("path", ["/ws/lie", "/ws/short", "/ws/none"])
def test_101_that_answers_no_handshake_opens_nothing(edge, path):
    with edge.connect() as sock:
        answer = ask(sock, edge, edge.acme, path)[1]
        assert (answer.status, answer.code) == (502, "upstream-failed")
    assert "answers no WebSocket handshake" in edge.errors()


KEY = "Sec-WebSocket-Key: " + base64.b64encode(bytes(16)).decode()


@pytest.mark.parametrize("headers", [
    ("Upgrade: h2c", "Connection: Upgrade, HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    ("Upgrade: websocket", "Connection: Upgrade", KEY),
    ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 12", KEY),
    ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13"),
    ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: short"),
    ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", KEY, KEY),
    ("Upgrade: websocket", "Connection: keep-alive", "Sec-WebSocket-Version: 13", KEY),
    ("Upgrade: websocket, h2c", "Connection: Upgrade", "Sec-WebSocket-Version: 13", KEY),
    ("Upgrade: websocket", "Upgrade: h2c", "Connection: Upgrade", "Sec-WebSocket-Version: 13", KEY),
])
def test_what_is_no_handshake_is_an_ordinary_request(edge, headers):
    with edge.connect() as sock:
        answer = ask(sock, edge, edge.acme, "/ws", *headers)[1]
        assert answer.status == 200
        got = {name.lower() for name, _ in answer.json()["headers"]}
        assert not got & {"upgrade", "connection", "http2-settings"} - {"http2-settings"}


def test_handshake_needs_a_credential(edge):
    with edge.connect() as sock:
        sock.sendall(("GET /ws HTTP/1.1\r\nHost: acme.localhost\r\n" + "\r\n".join((*HANDSHAKE, KEY)) + "\r\n\r\n").encode())
        assert read_answer(sock).code == "credential-missing"


def test_worker_that_should_end_waits_for_no_tick(edge):
    """The tick of what runs keeps no worker that was told to go."""
    with edge.connect() as sock:
        assert ask(sock, edge, edge.acme)[1].status == 101
        exchange(sock, 10)
    before = edge.workers()
    os.kill(edge.process.pid, 1)
    assert wait(lambda: not set(before) & set(edge.workers()), 10)
    with socket.create_connection(("127.0.0.1", edge.port)) as sock:
        assert ask(sock, edge, edge.acme)[1].status == 101
