"""`bulkhead up --edge-tls-port`: a listener with TLS and HTTP/2, its certificate, and switching it on and off."""
import json
import os
import pathlib
import socket
import ssl
import stat
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from ports import Ports  # noqa: E402
from stack import Stack  # noqa: E402
from tlsfix import PEM, PKCS8, CLEAR, Authority  # noqa: E402


@pytest.fixture(scope="module")
def stack():
    stack = Stack("tls")
    stack.tls_port = Ports().take()
    stack.up("--edge-tls-port", stack.tls_port)
    yield stack
    stack.close()


def handshake(stack, name, ca=None, alpn=("h2", "http/1.1")):
    """(certificate in DER, ALPN, first line of an answer to GET /)."""
    made = ssl.create_default_context(cadata=ca) if ca else ssl._create_unverified_context()
    made.set_alpn_protocols(list(alpn))
    with made.wrap_socket(socket.create_connection(("127.0.0.1", stack.tls_port), timeout=10), server_hostname=name) as sock:
        if sock.selected_alpn_protocol() == "h2":
            return sock.getpeercert(True), "h2", None
        sock.sendall(f"GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        answer = b""
        while part := sock.recv(65536):
            answer += part
        return sock.getpeercert(True), sock.selected_alpn_protocol(), answer.split(b"\r\n")[0]


def test_the_shop_answers_by_tls(stack):
    assert handshake(stack, "acme.localhost", alpn=["http/1.1"])[1:] == ("http/1.1", b"HTTP/1.1 200 OK")
    assert handshake(stack, "acme.localhost")[1] == "h2"
    key, certificate = stack.state / "keys/edge-tls.key", (stack.state / "keys/edge-tls.crt").read_text()
    assert stat.S_IMODE(key.stat().st_mode) == 0o400
    # a client that trusts the self-signed one is content with the base domain
    assert handshake(stack, "localhost", ca=certificate, alpn=["http/1.1"])[2] == b"HTTP/1.1 400 Bad Request"
    with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
        handshake(stack, "foreign.example")


def pid(stack):
    return next(c["pid"] for c in stack.status()["components"] if c["name"] == "edge")


def test_a_second_up_changes_nothing_and_another_certificate_restarts_the_edge(stack):
    before, shown = pid(stack), handshake(stack, "localhost")[0]
    stack.up()
    assert (pid(stack), handshake(stack, "localhost")[0]) == (before, shown)
    authority = Authority()
    chain, key = authority.issue("localhost", "acme.localhost")
    path = stack.state / "keys/edge-tls.crt"
    for name, text in (("keys/edge-tls.key", key.private_bytes(PEM, PKCS8, CLEAR)), ("keys/edge-tls.crt", chain.encode())):
        path = stack.state / name
        owner = path.stat()
        path.unlink()
        path.write_bytes(text)
        path.chmod(0o400)
        os.chown(path, owner.st_uid, owner.st_gid)
    stack.up()
    assert pid(stack) != before
    assert handshake(stack, "acme.localhost", ca=authority.pem, alpn=["http/1.1"])[2] == b"HTTP/1.1 200 OK"


def test_half_a_pair_is_refused_and_off_is_off(stack):
    key = stack.state / "keys/edge-tls.key"
    kept = key.rename(key.with_suffix(".kept"))
    done = stack.up(check=False)
    assert done.returncode == 78 and "is there without" in done.stderr and str(key) in done.stderr
    kept.rename(key)
    stack.up("--edge-tls-port", 0)
    assert json.loads((stack.state / "etc/settings.json").read_text())["edge_tls_port"] == 0
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", stack.tls_port), timeout=2)
    assert stack.request("acme", "/").status == 200
