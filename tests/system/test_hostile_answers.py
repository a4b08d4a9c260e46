"""Mutated answers of one tenant's application: whoever comes next on the same connection, of whichever tenant, gets its own.

Bounded by BULKHEAD_FUZZ_SECONDS as test_hostile_fuzz.py, repeated by BULKHEAD_FUZZ_SEED.
"""
import http.client
import io
import json
import pathlib
import random
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_hostile as base  # noqa: E402
import test_hostile_fuzz as fuzz  # noqa: E402
import test_hostile_sources as sources  # noqa: E402
from edgefix import Tenant  # noqa: E402

SECONDS = fuzz.SECONDS / 2


class Liar(base.Recorder):
    """Answers with the bytes that the test left here."""

    answer = b""

    def _answer(self, client, line, headers, body):
        client.sendall(self.answer)
        return False


@pytest.fixture(scope="module")
def edge():
    edge = sources.start(lambda text: text.replace("bulkhead on;", "bulkhead on; bulkhead_resolve host path header;"))
    port = edge.ports.take()
    edge.liar_app = Liar(("127.0.0.1", port), "liar")
    edge.echoes.append(edge.liar_app)
    edge.liar = Tenant(54, "liar", endpoints=[f"127.0.0.1:{port}"])
    edge.put(edge.liar)
    yield edge
    edge.stop()


SEEDS = [text.encode("latin-1") for text in (
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEVIL\r\n0\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nEVIL\r\n0\r\n\r\n",
    "HTTP/1.1 204 No\r\nContent-Length: 40\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    "HTTP/1.1 304 No\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    "HTTP/1.1 103 Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nEVIL",
    "HTTP/1.1 302 Go\r\nLocation: http://localhost/\r\nSet-Cookie: a=1; Domain=localhost\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 206 Part\r\nContent-Range: bytes 0-3/9\r\nContent-Length: 4\r\n\r\nEVIL",
    "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic\r\nX-Accel-Redirect: /bulkhead-problem/\r\nContent-Length: 4\r\n\r\nEVIL",
    "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 4\r\n\r\nEVIL", "HTTP/1.0 200 OK\r\n\r\nEVIL",
    "HTTP/1.1 200 OK\r\nTrailer: X\r\nTransfer-Encoding: chunked\r\n\r\n4;a=b\r\nEVIL\r\n0\r\nX: y\r\nSet-Cookie: a=1\r\n\r\n")]
WORDS = [word.encode("latin-1") for word in (
    "\r\n", "\r", "\n", "\0", "\t", " ", ":", "0", "1", "-", "+", ",", "Content-Length: 0\r\n", "Content-Length: 9\r\n", "Content-Length : 4\r\n",
    "Transfer-Encoding: chunked\r\n", "Transfer-Encoding: identity\r\n", "Transfer-Encoding:\x0bchunked\r\n", "Connection: close\r\n",
    "Connection: upgrade\r\nUpgrade: websocket\r\n", "Set-Cookie: a=1; Domain=localhost\r\n", "Set-Cookie: a=1;\tdomain\t=.localhost\r\n",
    "X-Accel-Redirect: /t/acme/\r\n", "X-Accel-Buffering: no\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 101 X\r\n", "101", "100", "204", "304", "000",
    "0\r\n\r\n", "FFFFFFFFFFFFFFFF\r\n", "RateLimit: x\r\n", "X-Bulkhead-Token: x\r\n", "Vary: *\r\n", "Refresh: 0\r\n")]


def mutate(rng):
    data = bytearray(rng.choice(SEEDS))
    for _ in range(rng.choice((0, 1, 1, 2, 2, 3))):
        at = rng.randrange(len(data) + 1)
        how = rng.randrange(5)
        if how <= 1:
            data[at:at] = rng.choice(WORDS)
        elif how == 2:
            data[at:at + rng.randrange(1, 6)] = b""
        elif how == 3:
            data[at:at + 1] = bytes((rng.randrange(256),))
        else:
            lines = bytes(data).split(b"\r\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines))
            data = bytearray(b"\r\n".join(lines))
    return bytes(data)


def one_answer(sock):
    """(status, headers, body) as Python's own client reads it, None where the connection ends instead."""
    response = http.client.HTTPResponse(sock, method="GET")
    try:
        response.begin()
        return response.status, response.getheaders(), response.read()
    except (http.client.HTTPException, OSError):
        return None
    finally:
        response.close()


class Unbuffered:
    """A socket whose client takes no byte of the next answer, and closes nothing."""

    def __init__(self, sock):
        self.sock = sock

    def makefile(self, *_):
        return io.BufferedReader(Bytewise(self.sock), 1)


class Bytewise(io.RawIOBase):
    def __init__(self, sock):
        self.sock = sock

    def readable(self):
        return True

    def readinto(self, room):
        data = self.sock.recv(1 if len(room) > 0 else 0)
        room[:len(data)] = data
        return len(data)


BLANK = "".join(map(chr, range(33))) + "\x7f"


def leaves_the_host(cookie):
    """Would any browser send it to another tenant's host?"""
    for part in cookie.split(";")[1:]:
        name, _, value = part.partition("=")
        if name.strip(BLANK).lower() == "domain" and value.strip(BLANK):
            return value.strip(BLANK).lower().removeprefix(".") != "liar.localhost"
    return False


def test_no_answer_spoils_the_next_one(edge):
    assert edge.ask(edge.acme).status == 200
    rng, workers, bearer = random.Random(fuzz.SEED), edge.workers(), edge.bearer(edge.liar)
    sent = kept = 0
    ask = lambda host, path, line: f"GET {path} HTTP/1.1\r\nHost: {host}.localhost\r\n{line}\r\n\r\n".encode()
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        edge.liar_app.answer = data = mutate(rng)
        where = f"seed {fuzz.SEED}, answer {sent}: {data!r}"
        with edge.connect() as sock:
            sock.settimeout(2)
            sock.sendall(ask("liar", f"/{sent}", bearer))
            first = one_answer(Unbuffered(sock))
            if first is not None:
                status, headers, _ = first
                assert status >= 200, where
                assert not [v for k, v in headers if k.lower() == "set-cookie" and leaves_the_host(v)], f"{where} {headers}"
                assert not [k for k, _ in headers if k.lower() in ("x-bulkhead-token", "x-accel-redirect")], where
                try:
                    sock.sendall(ask("acme", f"/after/{sent}", edge.good["acme"]))
                    after = one_answer(Unbuffered(sock))
                except OSError:
                    after = None
                if after is not None:
                    assert after[0] == 200 and json.loads(after[2])["line"] == f"GET /after/{sent} HTTP/1.1", f"{where} {after}"
                    kept += 1
        sent += 1
        if sent % 50 == 0:
            answer = edge.get("globex.localhost", "/x", edge.good["globex"])
            assert answer.status == 200 and answer.json()["name"] == "globex"
            assert edge.workers() == workers, f"{where}: a worker died\n{edge.errors()[-3000:]}"
    print(f"seed {fuzz.SEED}: {sent} answers, {kept} followed by the next one")
    assert sent >= 100 and kept > sent / 4
