"""HTTP/2 as an attacker speaks it: what no library sends, several tenants on one connection, streams that end early.

As in test_hostile.py each case has its control beside it, on the same connection, and the applications say what arrived.
"""
import pathlib
import socket
import sys
import time

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import nginxversion  # noqa: E402
import test_hostile as base  # noqa: E402
from edgefix import Answer, Edge, Tenant  # noqa: E402
from ports import Ports  # noqa: E402

LAG_S = 5  # within which a stream ends with its tenant


class Streamer(base.Recorder):
    """/long sends 300 kB of an answer that never ends."""

    def _answer(self, client, line, headers, body):
        if not line.startswith("GET /long"):
            return super()._answer(client, line, headers, body)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 300000)
        time.sleep(20)
        return False


@pytest.fixture(scope="module")
def edge():
    port = Ports().take()

    def edit(text):
        listen = f"listen 127.0.0.1:{port} http2;"
        return text.replace("bulkhead on;", f"{listen}\n        bulkhead on;")

    edge = Edge(workers=1, edit=edit)
    edge.h2_port = port
    for no, id in ((42, "acme"), (7, "globex")):
        app_port = edge.ports.take()
        echo = Streamer(("127.0.0.1", app_port), id)
        edge.echoes.append(echo)
        setattr(edge, id, Tenant(no, id, endpoints=[f"127.0.0.1:{app_port}"], database="shared1" if no == 42 else "t7"))
        setattr(edge, f"{id}_app", echo)
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    edge.start()
    edge.good = {id: edge.bearer(getattr(edge, id)).split(": ")[1] for id in ("acme", "globex")}
    yield edge
    left = [edge.until_in_flight(tenant, 0, 15) for tenant in (edge.acme, edge.globex)]
    errors = edge.errors()
    edge.stop()
    assert left == [0, 0], "requests in flight that nobody has"
    assert "signal" not in errors, f"a worker died:\n{errors}"


class Client:
    """One connection, on which anything may be said."""

    def __init__(self, edge, sock=None):
        self.edge = edge
        self.sock = sock or socket.create_connection(("127.0.0.1", edge.h2_port), timeout=5)
        config = h2.config.H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, validate_inbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.h2.initiate_connection()
        self.flush()
        self.heads, self.bodies, self.ended = {}, {}, {}
        self.gone = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.sock.close()

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def headers(self, id="acme", path="/orders", method="GET"):
        return [(":method", method), (":scheme", "http"), (":authority", f"{id}.localhost"), (":path", path),
                ("authorization", self.edge.good[id])]

    def ask(self, headers, body=None, end=True, trailers=None):
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, headers, end_stream=body is None and trailers is None and end)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=trailers is None and end)
        if trailers is not None:
            self.h2.send_headers(stream, trailers, end_stream=True)
        self.flush()
        return stream

    def take(self, seconds):
        """Read what comes until then; False at the connection's end."""
        self.sock.settimeout(max(seconds, 0.001))
        try:
            data = self.sock.recv(65536)
        except TimeoutError:
            return True
        except ConnectionResetError:
            data = b""
        if not data:
            self.gone = True
            return False
        for event in self.h2.receive_data(data):
            stream = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.ResponseReceived):
                self.heads[stream] = [(str(k, "latin-1") if isinstance(k, bytes) else k,
                                       str(v, "latin-1") if isinstance(v, bytes) else v) for k, v in event.headers]
            elif isinstance(event, h2.events.DataReceived):
                self.bodies[stream] = self.bodies.get(stream, b"") + event.data
                if stream not in self.ended:
                    try:
                        self.h2.acknowledge_received_data(event.flow_controlled_length, stream)
                    except h2.exceptions.ProtocolError:
                        pass
            elif isinstance(event, h2.events.StreamEnded):
                self.ended[stream] = "end"
            elif isinstance(event, h2.events.StreamReset):
                self.ended[stream] = "reset"
            elif isinstance(event, h2.events.ConnectionTerminated):
                self.gone = True
        self.flush()
        return not self.gone

    def wait(self, check, seconds=5):
        deadline = time.monotonic() + seconds
        while not check() and not self.gone and time.monotonic() < deadline:
            self.take(min(0.2, deadline - time.monotonic()))
        return check()

    def result(self, stream):
        """(status, code) of an answer; ("reset", None) or ("gone", None) where there is none."""
        self.wait(lambda: stream in self.ended)
        if stream not in self.heads:
            return (self.ended.get(stream, "gone"), None)
        head = self.heads[stream]
        text = f"HTTP/1.1 {dict(head)[':status']} X\r\n" + "".join(f"{k}: {v}\r\n" for k, v in head)
        answer = Answer(text.encode("latin-1") + b"\r\n" + self.bodies.get(stream, b""))
        return (answer.status, answer.code)


def attempt(edge, headers, **parts):
    """The result of a good request, then of this one, with what it made arrive."""
    start = len(edge.acme_app.seen), len(edge.globex_app.seen)
    with Client(edge) as client:
        assert client.result(client.ask(client.headers())) == (200, None), "control"
        assert [a[0] for a in base.check_arrivals(edge, start)] == ["GET /orders HTTP/1.1"]
        start = len(edge.acme_app.seen), len(edge.globex_app.seen)
        if parts.get("trailers"):
            parts["trailers"] = fill(edge, parts["trailers"])
        got = client.result(client.ask(fill(edge, headers), **parts))
    arrived = base.check_arrivals(edge, start)
    with Client(edge) as client:
        assert client.result(client.ask(client.headers(path="/after"))) == (200, None), "the edge serves on"
    return got, arrived


def fill(edge, headers):
    words = {"{auth}": edge.good["acme"], "{globex}": edge.good["globex"], "{huge}": "a" * 70000}
    out = []
    for name, value in headers:
        for word, text in words.items():
            value = value.replace(word, text)
        out.append((name, value.encode("latin-1")))
    return out


GOOD = [(":method", "GET"), (":scheme", "http"), (":authority", "acme.localhost"), (":path", "/orders"),
        ("authorization", "{auth}")]


def without(*names):
    return [(name, value) for name, value in GOOD if name not in names]


def with_(*more, **changed):
    """The good request with other pseudo headers (method=…) and these behind."""
    return [(name, changed.get(name.lstrip(":"), value)) for name, value in GOOD] + list(more)


OK = ((200, None), ["GET /orders HTTP/1.1"])
POSTED = ((200, None), ["POST /orders HTTP/1.1"])
BAD = ((400, "bad-request"), [])
UNKNOWN = ((404, "tenant-unknown"), [])
RESET = (("reset", None), [])
GONE = (("gone", None), [])  # nginx 1.22 ends the connection, at trailers too
POST = {"method": "POST"}

CASES = {
    # ---- who is meant ----
    "authority and another host": (with_(("host", "globex.localhost")), BAD),
    "authority and the same host": (with_(("host", "acme.localhost")), BAD),
    "host alone": (without(":authority") + [("host", "acme.localhost")], OK),
    "two hosts": (without(":authority") + [("host", "acme.localhost"), ("host", "globex.localhost")], BAD),
    "two authorities": (GOOD[:3] + [(":authority", "globex.localhost")] + GOOD[3:], BAD),
    "no authority, no host": (without(":authority"), BAD),
    "authority in capitals with a port": (with_(authority="ACME.LocalHost.:443"), OK),
    "authority with userinfo": (with_(authority="acme@globex.localhost"), UNKNOWN),
    "authority with userinfo behind a port": (with_(authority="acme.localhost:80@globex.localhost"), OK),
    "authority with a path": (with_(authority="acme.localhost/globex"), BAD),
    "authority with a NUL": (with_(authority="acme.localhost\0.globex"), RESET),
    "authority of another tenant": (with_(authority="globex.localhost"), ((401, "token-tenant-mismatch"), [])),
    "authority list": (with_(authority="acme.localhost,globex.localhost"), UNKNOWN),
    "authority of 8-bit bytes": (with_(authority="\xe4cme.localhost"), UNKNOWN),
    "authority without name": (with_(authority=""), BAD),
    # ---- pseudo headers ----
    "path in absolute form": (with_(path="http://globex.localhost/orders"), BAD),
    "path without slash": (with_(path="orders"), BAD),
    "path *": (with_(path="*"), BAD),
    "no path": (without(":path"), BAD),
    "empty path": (with_(path=""), BAD),
    "two paths": (GOOD[:4] + [(":path", "/other")] + GOOD[4:], BAD),
    "path with a line": (with_(path="/orders HTTP/1.1\r\nX-Tenant-ID: globex\r\n"), RESET),
    "path with a space": (with_(path="/orders HTTP/1.1"), BAD),
    "path with a tab": (with_(path="/orders\tx"), BAD),
    "path with a NUL": (with_(path="/orders\0"), RESET),
    "path above the root": (with_(path="/../orders"), BAD),
    "path with dots": (with_(path="/a/../orders"), ((200, None), ["GET /a/../orders HTTP/1.1"])),
    "path with a prefix that is off": (with_(path="/t/globex/orders"), ((200, None), ["GET /t/globex/orders HTTP/1.1"])),
    "method with a path": (with_(method="GET /evil HTTP/1.1"), BAD),
    "method with a line": (with_(method="GET\r\nX: y"), RESET),
    "method in small letters": (with_(method="get"), BAD),
    "no method": (without(":method"), BAD),
    "CONNECT": (with_(method="CONNECT"), ((405, "bad-request"), [])),
    "TRACE": (with_(method="TRACE"), ((405, "bad-request"), [])),
    "extended CONNECT": (with_(method="CONNECT")[:4] + [(":protocol", "websocket"), ("authorization", "{auth}")], BAD),
    "scheme https": (with_(scheme="https"), OK),
    "scheme with a host": (with_(scheme="http://globex.localhost/"), BAD),
    "no scheme": (without(":scheme"), BAD),
    "unknown pseudo header": (GOOD[:4] + [(":tenant", "globex")] + GOOD[4:], BAD),
    "pseudo header behind the others": (without(":path") + [(":path", "/orders")], OK),
    # ---- headers that outsiders may not say ----
    "identity": (with_(("x-tenant-id", "globex"), ("x-bulkhead-token", "x"), ("x-scope-orgid", "globex"),
                       ("x-bulkhead-database", "t7"), ("x-tenant-tier", "gold")), OK),
    "identity in capitals": (with_(("X-Tenant-ID", "globex"), ("X-Bulkhead-Token", "x")), RESET),
    "identity with underscores": (with_(("x_tenant_id", "globex"), ("x-bulkhead_token", "x")), OK),
    "identity 100 times": (with_(*[("x-tenant-id", "globex")] * 100), OK),
    "forwarded": (with_(("x-forwarded-for", "evil"), ("x-forwarded-host", "globex.localhost"), ("forwarded", "for=evil"),
                        ("x-forwarded-proto", "https"), ("x-original-url", "/admin")), OK),
    "identity as trailers": (with_(**POST), GONE,
                             {"body": b"ab", "trailers": [("x-tenant-id", "globex"), ("x-bulkhead-token", "x")]}),
    "path as trailer": (with_(**POST), GONE, {"body": b"ab", "trailers": [(":path", "/other")]}),
    "value with a line": (with_(("x-a", "1\r\nx-tenant-id: globex")), RESET),
    "value with LF": (with_(("x-a", "1\nx-tenant-id: globex")), RESET),
    "value with a NUL": (with_(("x-a", "1\0")), RESET),
    "name with a line": (with_(("x-a: 1\r\nx-tenant-id", "globex")), RESET),
    "name with a colon": (with_(("x-tenant-id:", "globex")), RESET),
    "name with a space": (with_(("x-tenant-id ", "globex")), RESET),
    "empty name": (with_(("", "globex")), GONE),
    # ---- of one connection only ----
    "connection": (with_(("connection", "x-bulkhead-token, x-tenant-id, host")), OK),
    "keep-alive": (with_(("keep-alive", "timeout=1"), ("proxy-connection", "close")), OK),
    "transfer-encoding": (with_(("transfer-encoding", "chunked"), **POST), POSTED, {"body": b"0\r\n\r\nGET /evil HTTP/1.1\r\n"}),
    "upgrade h2c": (with_(("upgrade", "h2c"), ("connection", "upgrade"), ("http2-settings", "AAMAAABk")), OK),
    "upgrade websocket": (with_(("upgrade", "websocket"), ("connection", "upgrade"), ("sec-websocket-version", "13"),
                                ("sec-websocket-key", "A" * 22 + "==")), OK),
    "te": (with_(("te", "trailers, chunked")), OK),
    # ---- framing ----
    "length too short": (with_(("content-length", "1"), **POST), BAD, {"body": b"ab"}),
    "length too long": (with_(("content-length", "9"), **POST), BAD, {"body": b"ab"}),
    "two lengths": (with_(("content-length", "2"), ("content-length", "3"), **POST), BAD, {"body": b"ab"}),
    "negative length": (with_(("content-length", "-1"), **POST), BAD, {"body": b"ab"}),
    "length too large": (with_(("content-length", "99999999"), **POST), ((413, "bad-request"), []), {"body": b"ab"}),
    "a request inside a body": (with_(**POST), POSTED, {"body": base.INSIDE.encode()}),
    # ---- credentials ----
    "no credential": (without("authorization"), ((401, "credential-missing"), [])),
    "two credentials": (with_(("authorization", "{globex}")), BAD),
    "credential of another": (without("authorization") + [("authorization", "{globex}")], ((401, "token-tenant-mismatch"), [])),
    "credential as trailer": (with_(**POST)[:4], ((401, "credential-missing"), []),
                              {"body": b"ab", "trailers": [("authorization", "{auth}")]}),
    "cookie crumbs": (with_(("cookie", "a=1"), ("cookie", "b=2"), ("cookie", "authorization={globex}")), OK),
    "a header of 70 kB": (with_(("x-long", "{huge}")), GONE),
}


@pytest.mark.parametrize("name", CASES)
def test_hostile_stream(edge, name):
    headers, (result, lines), *parts = CASES[name]
    got, arrived = attempt(edge, headers, **(dict(parts[0]) if parts else {}))
    result, lines = nginxversion.expected(name, result, lines, OK[1])
    assert nginxversion.alike(got, result) and [line for line, _, _ in arrived] == lines, (got, result, arrived)


# ---- two tenants on one connection ----

def test_tenants_that_share_a_connection_share_nothing_else(edge):
    start = len(edge.acme_app.seen), len(edge.globex_app.seen)
    with Client(edge) as client:
        asked = [(id, client.ask(client.headers(id, f"/{id}/{i}"))) for i in range(50) for id in ("acme", "globex")]
        crossed = [client.ask(client.headers("acme")[:2] + [(":authority", "globex.localhost"), (":path", "/x"),
                                                            ("authorization", edge.good["acme"])]) for _ in range(5)]
        for id, stream in asked:
            assert client.result(stream) == (200, None)
            assert f'"GET /{id}/'.encode() in client.bodies[stream] and f'"name": "{id}"'.encode() in client.bodies[stream]
        assert [client.result(stream) for stream in crossed] == [(401, "token-tenant-mismatch")] * 5
    for app, begin, id in ((edge.acme_app, start[0], "acme"), (edge.globex_app, start[1], "globex")):
        assert len(app.seen[begin:]) == 50
        assert {dict(headers)["X-Tenant-ID"] for _, headers, _ in app.seen[begin:]} == {id}


@pytest.mark.parametrize("change", [{"state": "suspended"}, {"epoch": 2}])
def test_only_the_streams_of_the_tenant_end(edge, change):
    before = edge.settled(edge.acme, 0)
    with Client(edge) as client:
        mine, other = client.ask(client.headers("acme", "/long")), client.ask(client.headers("globex", "/long"))
        upload = client.ask(client.headers("acme", "/upload", "POST"), b"x" * 1000, end=False)
        for stream in (mine, other):
            assert client.wait(lambda: len(client.bodies.get(stream, b"")) >= 250000), len(client.bodies.get(stream, b""))
        old = {name: edge.acme.record[name] for name in change}
        edge.change(edge.acme, **change)
        try:
            assert client.wait(lambda: {mine, upload} <= client.ended.keys(), LAG_S)
            assert client.ended[mine] == client.ended[upload] == "reset" and other not in client.ended
            if "state" in change:
                assert client.result(client.ask(client.headers("acme"))) == (423, "tenant-suspended")
            assert client.result(client.ask(client.headers("globex"))) == (200, None)
            assert other not in client.ended and not client.gone
        finally:
            edge.change(edge.acme, **old)
        received = len(client.bodies[mine])
        counted = edge.settled(edge.acme, before["requests"] + 2 + ("state" in change))
        assert 0 <= counted["bytes_out"] - before["bytes_out"] - received < 20000
        assert counted["bytes_in"] - before["bytes_in"] >= 1000
        assert client.result(client.ask(client.headers("acme"))) == (200, None)
    assert not [line for line, _, _ in edge.acme_app.seen if "/upload" in line]


def test_streams_are_counted_each_for_its_tenant(edge):
    before = {id: edge.settled(getattr(edge, id), 0) for id in ("acme", "globex")}
    with Client(edge) as client:
        streams = [client.ask(client.headers(id, method="POST"), body=b"x" * size)
                   for id, size in (("acme", 5000), ("globex", 70))]
        assert [client.result(stream) for stream in streams] == [(200, None)] * 2
        sizes = [len(client.bodies[stream]) for stream in streams]
    for id, sent, size in zip(("acme", "globex"), (5000, 70), sizes):
        counted = edge.settled(getattr(edge, id), before[id]["requests"] + 1)
        more = {name: counted[name] - before[id][name] for name in counted}
        assert more["requests"] == more["status_2xx"] == 1
        assert sent <= more["bytes_in"] < sent + 700 and size <= more["bytes_out"] < size + 700, more


def test_rapid_reset_costs_no_other_client_anything(edge):
    """Streams that are reset at once (CVE-2023-44487), as many as the edge lets one connection open."""
    worker = edge.workers()
    before = edge.settled(edge.acme, 0)["requests"]
    opened = 0
    for _ in range(3):
        with Client(edge) as client:
            try:
                for i in range(400):
                    stream = client.ask(client.headers("acme", "/slow/200"))
                    client.h2.reset_stream(stream)
                    opened += 1
                client.flush()
                client.take(0.2)
            except (OSError, h2.exceptions.ProtocolError):
                pass
        with Client(edge) as other:
            assert other.result(other.ask(other.headers("globex"))) == (200, None)
    assert edge.workers() == worker and opened >= 400
    time.sleep(0.3)
    assert edge.settled(edge.acme, before)["requests"] - before <= opened
    with Client(edge) as client:
        assert client.result(client.ask(client.headers("acme"))) == (200, None)


# ---- frames as no library sends them ----

def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


FRAMES = {
    "data on no stream": lambda good: frame(0, 1, 1, b"x"),
    "data on stream 0": lambda good: frame(0, 1, 0, b"x"),
    "headers on stream 0": lambda good: frame(1, 5, 0, good),
    "headers on an even stream": lambda good: frame(1, 5, 2, good),
    "headers twice": lambda good: frame(1, 5, 1, good) + frame(1, 5, 1, good),
    "headers on a lower stream": lambda good: frame(1, 5, 5, good) + frame(1, 5, 3, good),
    "continuation without headers": lambda good: frame(9, 4, 1, good),
    "a frame between headers and continuation": lambda good: frame(1, 1, 1, good[:9]) + frame(6, 0, 0, bytes(8)),
    "continuations without end": lambda good: frame(1, 1, 1, good[:9]) + frame(9, 0, 1, good[9:20]) * 300,
    "padding longer than the frame": lambda good: frame(1, 13, 1, b"\xff" + good[:40]),
    "a stream that depends on itself": lambda good: frame(1, 37, 1, (1).to_bytes(4, "big") + b"\0" + good),
    "window of 2^31": lambda good: frame(8, 0, 0, b"\x7f\xff\xff\xff") * 3,
    "window of nothing": lambda good: frame(8, 0, 0, bytes(4)),
    "settings of odd length": lambda good: frame(4, 0, 0, b"abc"),
    "settings with a huge window": lambda good: frame(4, 0, 0, b"\0\4\xff\xff\xff\xff"),
    "a promise of the client": lambda good: frame(5, 4, 1, bytes(4) + good),
    "a frame of 16 MB": lambda good: b"\xff\xff\xff\1\5\0\0\0\1",
    "an index that nobody put there": lambda good: frame(1, 5, 1, b"\xff\xff\xff\x7f"),
    "a number without end": lambda good: frame(1, 5, 1, b"\x7f" + b"\xff" * 40),
    "huffman without end": lambda good: frame(1, 5, 1, b"\x40\x85\xff\xff\xff\xff\xff\x01a"),
    "a table too large": lambda good: frame(1, 5, 1, b"\x3f\xe1\xff\xff\x7f" + good),
    "half a frame": lambda good: frame(1, 5, 1, good)[:15],
    "HTTP/1 behind the preface": lambda good: b"GET /orders HTTP/1.1\r\nHost: acme.localhost\r\n\r\n",
    "ten thousand pings": lambda good: frame(6, 0, 0, bytes(8)) * 10000,
    "ten thousand empty settings": lambda good: frame(4, 0, 0) * 10000,
}


@pytest.mark.parametrize("name", FRAMES)
def test_hostile_frames(edge, name):
    import hpack
    good = hpack.Encoder().encode(
        [(":method", "GET"), (":scheme", "http"), (":authority", "acme.localhost"), (":path", "/frames")])  # no credential
    start, worker = (len(edge.acme_app.seen), len(edge.globex_app.seen)), edge.workers()
    with socket.create_connection(("127.0.0.1", edge.h2_port), timeout=5) as sock:
        sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        try:
            sock.sendall(FRAMES[name](good))
            sock.settimeout(base.SILENCE_S)
            while sock.recv(65536):
                pass
        except (TimeoutError, OSError):
            pass
    assert base.check_arrivals(edge, start) == []
    with Client(edge) as client:
        assert client.result(client.ask(client.headers())) == (200, None)
    assert edge.workers() == worker
