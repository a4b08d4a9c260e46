"""Where a tenant's requests go: weights, versions, backups, TLS with a verified name, second tries, and who is harmed."""
import collections
import json
import pathlib
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from edgefix import Echo, Edge, Tenant, read_answer  # noqa: E402

TRUST = "/etc/ssl/certs/ca-certificates.crt"  # in the shipped configuration


class TlsEcho(Echo):
    """An application behind TLS; remembers for each connection the name that was asked for, and whether it was resumed."""

    def __init__(self, address, certificate, name="tls"):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(certificate)
        self.context.sni_callback = lambda sock, server_name, context: self.names.append(server_name)
        self.names, self.resumed, self.refused = [], [], 0
        super().__init__(address, name)

    def _serve(self, client):
        try:
            wrapped = self.context.wrap_socket(client, server_side=True)
        except (OSError, ssl.SSLError):
            self.refused += 1
            client.close()
            return
        self.resumed.append(wrapped.session_reused)
        self.open.discard(client)
        self.open.add(wrapped)
        super()._serve(wrapped)


def certificates(directory):
    """A CA, a certificate of app.example.com by it, and one of the same name by nobody."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=directory)

    new = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    openssl(*new, "-subj", "/CN=test CA", "-keyout", "ca.key", "-out", "ca.pem")
    for name, issuer in (("good", ("-CA", "ca.pem", "-CAkey", "ca.key")), ("stranger", ())):
        openssl(*new, "-subj", "/CN=app", "-addext", "subjectAltName=DNS:app.example.com",
                "-addext", "basicConstraints=critical,CA:FALSE", *issuer, "-keyout", f"{name}.key", "-out", f"{name}.crt")
        text = "".join((pathlib.Path(directory) / f"{name}.{part}").read_text() for part in ("crt", "key"))
        (pathlib.Path(directory) / f"{name}.pem").write_text(text)
    return directory


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    directory = tmp_path_factory.mktemp("pki")
    for path in (directory, *directory.parents[:2]):
        path.chmod(0o755)
    return certificates(directory)


@pytest.fixture(scope="module")
def edge(pki):
    """One worker, so that turns can be counted; it trusts our CA."""
    edge = Edge(workers=1, edit=lambda text: text.replace(TRUST, str(pki / "ca.pem")))
    edge.write_keyring()
    edge.put(Tenant(1, "first", endpoints=[edge.echo().endpoint]))
    edge.start()
    edge.next = 100
    yield edge
    errors = edge.errors()
    edge.stop()
    assert "signal" not in errors, errors


def make(edge, *endpoints, **fields):
    edge.next += 1
    tenant = Tenant(edge.next, f"t{edge.next}", endpoints=list(endpoints), **fields)
    edge.put(tenant)
    return tenant


def tally(edge, tenant, count, path="/x", **options):
    return collections.Counter(edge.ask(tenant, path, **options).json()["name"] for _ in range(count))


def dead(edge):
    """An address where nobody listens."""
    return f"127.0.0.1:{edge.ports.take()}"


# ---- weights, backups, versions ----

def test_weights(edge):
    a, b, c = (edge.echo(name) for name in "abc")
    tenant = make(edge, f"{a.endpoint};weight=5", f"{b.endpoint};weight=1", f"{c.endpoint};weight=2")
    assert tally(edge, tenant, 40) == {"a": 25, "b": 5, "c": 10}
    order = "".join(edge.ask(tenant, "/x").json()["name"] for _ in range(8))
    assert "aaaa" not in order + order, "smooth: nobody gets all its turns at once"


def test_backup_is_used_while_nothing_else_works(edge):
    a, spare = edge.echo("a"), edge.echo("spare")
    tenant = make(edge, f"{spare.endpoint};backup", a.endpoint)
    assert tally(edge, tenant, 10) == {"a": 10}
    a.stop()
    assert tally(edge, tenant, 10) == {"spare": 10}


def test_failed_endpoint_is_avoided_and_comes_back(edge):
    a = edge.echo("a")
    port = edge.ports.take()
    tenant = make(edge, a.endpoint, f"127.0.0.1:{port};weight=9")
    assert tally(edge, tenant, 20) == {"a": 20}
    again = Echo(("127.0.0.1", port), "again")
    edge.echoes.append(again)
    deadline = time.monotonic() + 15
    while edge.ask(tenant, "/x").json()["name"] != "again" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert tally(edge, tenant, 10) == {"again": 9, "a": 1}


def version_of(edge, tenant, sub):
    return edge.get(f"{tenant.id}.localhost", "/x", edge.bearer(tenant, sub=sub)).json()["name"]


def test_users_keep_their_version(edge):
    old, new = edge.echo("old"), edge.echo("new")
    tenant = make(edge, f"{old.endpoint};group=v1;weight=80", f"{new.endpoint};group=v2;weight=20")
    users = [f"user-{i}" for i in range(300)]
    first = {user: version_of(edge, tenant, user) for user in users}
    assert {user: version_of(edge, tenant, user) for user in users} == first
    assert 30 <= list(first.values()).count("new") <= 90  # 60 expected, 5 standard deviations
    edge.change(tenant, endpoints=[f"{old.endpoint};group=v1;weight=50", f"{new.endpoint};group=v2;weight=50"])
    later = {user: version_of(edge, tenant, user) for user in users}
    assert all(later[user] == "new" for user in users if first[user] == "new"), "nobody goes back"
    assert 105 <= list(later.values()).count("new") <= 195
    anonymous = {edge.get(f"{tenant.id}.localhost", "/").json()["name"] for _ in range(20)}
    assert len(anonymous) == 1, "without a subject the address decides"


def test_second_try_stays_in_its_version(edge):
    one, other = edge.echo("v1"), edge.echo("v2")
    tenant = make(edge, f"{one.endpoint};group=v1", f"{dead(edge)};group=v1;weight=1000", f"{other.endpoint};group=v2;weight=1000")
    users = [f"u{i}" for i in range(40)]
    seen = {user: version_of(edge, tenant, user) for user in users}
    assert set(seen.values()) == {"v1", "v2"}
    one.stop()  # nothing of v1 is left: better another version than none
    assert {version_of(edge, tenant, user) for user in users} == {"v2"}


@pytest.mark.parametrize("bad", ["weight=0", "weight=1;weight=1", "color=blue", "group=", "tls=10.0.0.1", "backup=1"])
def test_endpoint_that_is_no_endpoint(edge, bad):
    """The agent refuses such a record (tests/unit/agent/record.c); the edge does not guess either."""
    good = edge.echo("good").endpoint
    tenant = make(edge, good, f"{good};{bad}")
    assert edge.ask(tenant).code == "not-ready"
    assert f'no usable endpoints in "{good} {good};{bad}"' in edge.errors()
    edge.change(tenant, endpoints=[good, f"{good};backup"])
    assert edge.ask(tenant).status == 200


# ---- second tries ----

@pytest.mark.parametrize("method,body,served", [("GET", None, 2), ("HEAD", None, 2), ("OPTIONS", None, 2), ("DELETE", None, 2),
                                                ("PUT", b"x" * 1000, 2), ("POST", b"x", 1), ("PATCH", b"x", 1), ("FROB", None, 1),
                                                ("MOVE", None, 1), ("POST", None, 1)])
def test_only_what_may_be_repeated_is(edge, method, body, served):
    a, b = edge.echo("a"), edge.echo("b")
    tenant = make(edge, a.endpoint, b.endpoint)
    answer = edge.ask(tenant, "/close", method=method, body=body)
    assert answer.status == 502
    assert a.served + b.served == served
    fine = edge.ask(tenant, "/x", method=method, body=body)
    assert fine.status == 200 and (method == "HEAD" or fine.json()["body"] == (body or b"").decode())


@pytest.mark.parametrize("method,served", [("GET", 2), ("POST", 1), ("FROB", 1), ("MOVE", 1), ("MKCOL", 1)])
def test_nor_is_it_repeated_where_the_connection_was_idle(method, served):
    """nginx gives a further try for an idle connection that broke; the application had read the request all the same."""
    edge = Edge(workers=1)
    try:
        app = edge.echo()
        tenant = Tenant(1, "acme", endpoints=[app.endpoint])
        edge.write_keyring()
        edge.put(tenant)
        edge.start()
        assert edge.ask(tenant, "/x").status == 200
        assert edge.ask(tenant, "/close", method=method).status == 502
        assert app.served == 1 + served
    finally:
        edge.stop()


def test_what_did_not_arrive_is_tried_elsewhere_whatever_it_is(edge):
    b = edge.echo("b")
    tenant = make(edge, f"{dead(edge)};weight=1000", b.endpoint)
    assert edge.ask(tenant, "/x", method="POST", body=b"once").json()["body"] == "once"
    assert b.served == 1


def test_tries_are_bounded(edge):
    echoes = [edge.echo(str(i)) for i in range(5)]
    tenant = make(edge, *(echo.endpoint for echo in echoes))
    assert edge.ask(tenant, "/close").status == 502
    assert sum(echo.served for echo in echoes) == 3


def test_idle_connection_that_was_closed_is_no_failure(edge):
    """The application ends idle connections as it likes; its health does not suffer."""
    a, b = edge.echo("a"), edge.echo("b")
    tenant = make(edge, f"{a.endpoint};weight=1000", b.endpoint)
    for _ in range(5):
        assert edge.ask(tenant, "/x").json()["name"] == "a"
        for client in list(a.open):
            client.shutdown(socket.SHUT_RDWR)


# ---- TLS ----

def tls_echo(edge, pki, certificate="good"):
    port = edge.ports.take()
    echo = TlsEcho(("127.0.0.1", port), pki / f"{certificate}.pem")
    echo.endpoint = f"127.0.0.1:{port}"
    edge.echoes.append(echo)
    return echo


def test_tls_with_verified_name(edge, pki):
    echo = tls_echo(edge, pki)
    tenant = make(edge, f"{echo.endpoint};tls=app.example.com")
    answer = edge.ask(tenant, "/x", method="POST", body=b"hello")
    assert answer.status == 200 and answer.json()["body"] == "hello" and answer.json()["name"] == "tls"
    for _ in range(9):
        assert edge.ask(tenant, "/x").status == 200
    assert echo.names == ["app.example.com"], "one connection served them all"
    for client in list(echo.open):
        client.shutdown(socket.SHUT_RDWR)
    time.sleep(0.1)
    assert edge.ask(tenant, "/x").status == 200
    assert echo.names == ["app.example.com"] * 2 and echo.resumed == [False, True], "the session is used again"


@pytest.mark.parametrize("certificate,name", [("good", "other.example.com"), ("good", "example.com"), ("stranger", "app.example.com")])
def test_tls_that_is_not_who_it_should_be(edge, pki, certificate, name):
    echo = tls_echo(edge, pki, certificate)
    tenant = make(edge, f"{echo.endpoint};tls={name}")
    for _ in range(3):
        assert edge.ask(tenant, "/x").code == "upstream-failed"
    assert echo.served == 0
    control = make(edge, f"{tls_echo(edge, pki).endpoint};tls=app.example.com")
    assert edge.ask(control, "/x").status == 200


def test_connections_of_one_name_serve_no_other(edge, pki):
    """All three tenants name one address.  The first one's idle connections are there to be taken."""
    echo = tls_echo(edge, pki)
    good = make(edge, f"{echo.endpoint};tls=app.example.com")
    wrong = make(edge, f"{echo.endpoint};tls=other.example.com")
    plain = make(edge, echo.endpoint)
    for _ in range(4):
        assert edge.ask(good, "/x").status == 200
        before = echo.served
        assert edge.ask(wrong, "/x").code == "upstream-failed"
        assert edge.ask(plain, "/x").status == 502
        assert echo.served == before


@pytest.mark.parametrize("family", ["v6", "unix"])
def test_tls_over_other_families(edge, pki, family):
    if family == "unix":
        path = str(edge.dir / "run" / "tls.sock")
        echo, address = TlsEcho(path, pki / "good.pem"), f"unix:{path}"
    else:
        port = edge.ports.take()
        echo, address = TlsEcho(("::1", port), pki / "good.pem"), f"[::1]:{port}"
    edge.echoes.append(echo)
    good = make(edge, f"{address};tls=app.example.com")
    wrong = make(edge, f"{address};tls=other.example.com")
    for _ in range(3):
        assert edge.ask(good, "/x").status == 200
        assert edge.ask(wrong, "/x").code == "upstream-failed"
    assert echo.served == 3 and echo.names.count("app.example.com") == 1


def test_plain_and_tls_in_one_set(edge, pki):
    plain, secure = edge.echo("plain"), tls_echo(edge, pki)
    tenant = make(edge, plain.endpoint, f"{secure.endpoint};tls=app.example.com")
    assert tally(edge, tenant, 20) == {"plain": 10, "tls": 10}


def missing(text, pki, what):
    """The shipped configuration with one thing less, or one too much."""
    old, new = {
        "https": ("proxy_pass https://", "proxy_pass http://"),
        "verify": ("proxy_ssl_verify on", "proxy_ssl_verify off"),
        "server_name": ("proxy_ssl_server_name on", "proxy_ssl_server_name off"),
        "ssl_name": ("proxy_ssl_server_name on;", "proxy_ssl_server_name on; proxy_ssl_name app.example.com;"),
    }[what]
    assert old in text
    return text.replace(old, new).replace(TRUST, str(pki / "ca.pem"))


@pytest.mark.parametrize("what,says", [("https", "https://"), ("verify", "proxy_ssl_verify on"),
                                       ("server_name", "proxy_ssl_server_name on"), ("ssl_name", "no proxy_ssl_name")])
def test_tls_is_refused_where_nothing_would_be_verified(pki, what, says):
    edge = Edge(workers=1, edit=lambda text: missing(text, pki, what))
    try:
        edge.next = 0
        edge.write_keyring()
        echo, plain = tls_echo(edge, pki), edge.echo("plain")
        secure = make(edge, f"{echo.endpoint};tls=app.example.com")
        mixed = make(edge, f"{echo.endpoint};tls=app.example.com", plain.endpoint)
        edge.start()
        for _ in range(3):
            assert edge.ask(secure, "/x").code == "upstream-failed"
            assert edge.ask(mixed, "/x").json()["name"] == "plain"
        assert echo.served == 0 and echo.names == []
        assert says in edge.errors() and edge.errors().count("is not used: its location needs") == 2, "once, not each time"
    finally:
        edge.stop()


# ---- whom a slow application harms ----

class Hole:
    """Takes connections and never says a word."""

    def __init__(self, port):
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.clients = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        try:
            while True:
                self.clients.append(self.listener.accept()[0])
        except OSError:
            pass

    def stop(self):
        self.listener.close()
        for client in self.clients:
            client.close()


def measure(edge, tenant, count):
    """Milliseconds of each of so many requests; all must succeed."""
    bearer, took = edge.bearer(tenant), []
    for _ in range(count):
        begun = time.monotonic()
        answer = edge.get(f"{tenant.id}.localhost", "/x", bearer)
        took.append((time.monotonic() - begun) * 1000)
        assert answer.status == 200, answer
    return sorted(took)


def test_black_hole_harms_nobody_else():
    """One tenant's application hangs, and its clients come and come: they get 503, the neighbour does not notice."""
    bound, crowd = 200, 600
    edge = Edge(workers=1, edit=lambda text: text.replace("bulkhead_cell", f"bulkhead_in_flight {bound};\n    bulkhead_cell")
                .replace("worker_connections 4096", "worker_connections 1024"))
    hole = None
    socks = []
    try:
        edge.next = 0
        edge.write_keyring()
        port = edge.ports.take()
        hole = Hole(port)
        victim, neighbour = make(edge, f"127.0.0.1:{port}"), make(edge, edge.echo().endpoint)
        edge.start()
        alone = measure(edge, neighbour, 200)
        line = f"GET /x HTTP/1.1\r\nHost: {victim.id}.localhost\r\n{edge.bearer(victim)}\r\n\r\n".encode()
        for _ in range(crowd):
            sock = edge.connect()
            sock.sendall(line)
            socks.append(sock)
        assert edge.until_in_flight(victim, bound) == bound
        beside = measure(edge, neighbour, 200)
        refused = 0
        for sock in socks:
            sock.setblocking(False)
            try:
                refused += b" 503 " in sock.recv(65536)
            except BlockingIOError:
                pass
        assert refused == crowd - bound, "the rest is told at once"
        assert beside[100] < 5 * alone[100] + 20, (alone[100], beside[100])
        print(f"neighbour's median {alone[100]:.2f} ms alone, {beside[100]:.2f} ms beside a black hole")
        assert edge.counters(neighbour)["status_5xx"] == 0
        assert "worker_connections are not enough" not in edge.errors()
    finally:
        for sock in socks:
            sock.close()
        edge.stop()
        if hole:
            hole.stop()
