"""A tenant that is being moved: new requests wait, go on at its new place or are refused in time; what runs is counted."""
import json
import pathlib
import shutil
import signal
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_hostile_h2 as h2base  # noqa: E402
from edgefix import Edge, Tenant, decode, read_answer  # noqa: E402
from ports import Ports  # noqa: E402

MOST = 6


def make(hold="3s 6", workers=1, edit=lambda text: text):
    port = Ports().take()
    edge = Edge(workers=workers, edit=lambda text: edit(
        text.replace("bulkhead_cell", f"bulkhead_hold {hold};\n    bulkhead_cell")
        .replace("bulkhead on;", f"listen 127.0.0.1:{port} http2;\n        bulkhead on;")))
    edge.h2_port = port
    edge.old, edge.new = edge.echo("old"), edge.echo("new")
    edge.acme = Tenant(42, "acme", endpoints=[edge.old.endpoint])
    edge.globex = Tenant(7, "globex", endpoints=[edge.old.endpoint])
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    return edge.start()


@pytest.fixture
def edge():
    edge = make()
    yield edge
    errors = edge.errors()
    edge.stop()
    assert "signal" not in errors, errors


def begin(edge, tenant=None, path="/x", method="GET", body=b"", bearer=None):
    """A request whose answer is read later."""
    tenant = tenant or edge.acme
    sock = edge.connect()
    sock.sendall(f"{method} {path} HTTP/1.1\r\nHost: {tenant.id}.localhost\r\n{bearer or edge.bearer(tenant)}\r\n"
                 f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    return sock


def silent(sock, seconds=0.3):
    sock.settimeout(seconds)
    try:
        return sock.recv(1, 2) is None  # MSG_PEEK
    except TimeoutError:
        return True
    finally:
        sock.settimeout(20)


def test_requests_wait_and_go_on_at_the_new_place(edge):
    assert edge.ask(edge.acme).json()["name"] == "old"
    edge.change(edge.acme, state="moving")
    body = bytes(range(256)) * 2000
    socks = [begin(edge), begin(edge, method="POST", body=body), begin(edge, path="/")]
    assert all(silent(sock) for sock in socks)
    assert edge.in_flight(edge.acme) == 0, "who waits is not in flight"
    assert edge.ask(edge.globex).status == 200, "others do not wait"
    edge.change(edge.acme, state="active", endpoints=[edge.new.endpoint], database="shared2")
    begun = time.monotonic()
    answers = [read_answer(sock) for sock in socks]
    assert time.monotonic() - begun < 1
    assert [answer.status for answer in answers] == [200] * 3
    assert [answer.json()["name"] for answer in answers] == ["new"] * 3
    assert answers[1].json()["body"].encode("latin-1") == body, "no byte is lost"
    headers = {name.lower(): value for name, value in answers[0].json()["headers"]}
    assert headers["x-bulkhead-database"] == "shared2"
    assert json.loads(decode(headers["x-bulkhead-token"])[1])["aud"] == "main/shared2"
    assert len([1 for name, _ in answers[0].json()["headers"] if name.lower() == "x-tenant-id"]) == 1
    assert edge.old.served == 2 and edge.until_in_flight(edge.acme, 0) == 0
    counted = edge.settled(edge.acme, 4)
    assert (counted["requests"], counted["status_2xx"]) == (4, 4)


def test_time_is_bounded(edge):
    edge.change(edge.acme, state="moving")
    begun = time.monotonic()
    answer = edge.ask(edge.acme)
    assert 2.9 < time.monotonic() - begun < 6
    assert (answer.status, answer.code, answer.get("Retry-After")) == (503, "not-ready", "3")
    assert "being moved" in answer.json()["detail"]
    edge.change(edge.acme, state="active")
    assert edge.ask(edge.acme).status == 200


def test_number_is_bounded_for_each_tenant(edge):
    edge.change(edge.acme, state="moving")
    socks = [begin(edge) for _ in range(MOST)]
    assert all(silent(sock, 0.1) for sock in socks)
    answer = edge.ask(edge.acme)
    assert (answer.status, answer.code) == (503, "not-ready") and "too many" in answer.json()["detail"]
    edge.change(edge.globex, state="moving")
    other = begin(edge, edge.globex)
    assert silent(other, 0.1)
    edge.change(edge.acme, state="active")
    assert [read_answer(sock).status for sock in socks] == [200] * MOST
    assert silent(other, 0.1), "its own tenant is moving still"
    edge.change(edge.globex, state="active")
    assert read_answer(other).status == 200


def test_client_that_leaves_gives_its_place_back(edge):
    edge.change(edge.acme, state="moving")
    for _ in range(4):
        socks = [begin(edge) for _ in range(MOST)]
        assert all(silent(sock, 0.1) for sock in socks)
        for sock in socks:
            sock.close()
        time.sleep(0.1)
    sock = begin(edge)
    assert silent(sock, 0.1)
    edge.change(edge.acme, state="active")
    assert read_answer(sock).status == 200
    assert edge.settled(edge.acme, 4 * MOST + 1)["status_4xx"] == 4 * MOST, "499, each counted once"


def test_only_who_may_come_in_waits(edge):
    edge.change(edge.acme, state="moving")
    for bearer, code in (("X-None: 1", "credential-missing"), ("Authorization: Bearer x", "token-invalid"),
                         (edge.bearer(edge.globex), "token-tenant-mismatch")):
        assert edge.get("acme.localhost", "/x", bearer).code == code
    sock = begin(edge)
    assert silent(sock, 0.1)
    edge.change(edge.acme, state="active")
    assert read_answer(sock).status == 200


@pytest.mark.parametrize("change,status,code", [
    ({"state": "suspended"}, 423, "tenant-suspended"), ({"state": "active", "cell": "elsewhere"}, 421, "wrong-cell"),
    ({"state": "failed"}, 503, "not-ready"), ({"state": "active", "epoch": 2}, 401, "token-invalid"),
    ({"state": "active", "endpoints": []}, 503, "not-ready")])
def test_what_the_tenant_becomes_decides(edge, change, status, code):
    edge.change(edge.acme, state="moving")
    sock = begin(edge)
    assert silent(sock, 0.1)
    edge.change(edge.acme, **change)
    answer = read_answer(sock)
    assert (answer.status, answer.code) == (status, code)
    assert edge.until_in_flight(edge.acme, 0) == 0


def test_tenant_that_is_removed_while_they_wait(edge):
    edge.change(edge.acme, state="moving")
    sock = begin(edge)
    assert silent(sock, 0.1)
    edge.remove(edge.acme)
    assert read_answer(sock).code == "tenant-unknown"


def test_what_runs_is_counted_and_may_end(edge):
    """The drain: in flight falls to 0 when the last one that saw the old state has ended, and not before."""
    socks = [begin(edge, path="/slow/4500") for _ in range(3)]
    assert edge.until_in_flight(edge.acme, 3) == 3
    edge.change(edge.acme, state="moving")
    waiting = begin(edge)
    time.sleep(2.5)  # longer than a look at streams takes: they are not ended
    assert edge.in_flight(edge.acme) == 3
    assert [read_answer(sock).status for sock in socks] == [200] * 3
    assert edge.until_in_flight(edge.acme, 0) == 0
    edge.change(edge.acme, state="active")
    assert read_answer(waiting).status in (200, 503)


def test_nobody_slips_through():
    """At load, 60 times: whoever reads 0 in flight after the state was committed sees no request arrive at the old place."""
    edge = make(hold="5s 1000", workers=2)
    stop = threading.Event()
    late, failed, served = [], [], [0]

    def client():
        bearer = edge.bearer(edge.acme)
        while not stop.is_set():
            answer = edge.get("acme.localhost", "/x", bearer)
            served[0] += 1
            if answer.status != 200:
                failed.append(answer)

    threads = [threading.Thread(target=client) for _ in range(8)]
    try:
        for thread in threads:
            thread.start()
        places = [edge.old, edge.new]
        for turn in range(60):
            here, there = places[turn % 2], places[1 - turn % 2]
            edge.change(edge.acme, state="moving")
            assert edge.until_in_flight(edge.acme, 0) == 0
            before = here.served
            time.sleep(0.02)
            late.append(here.served - before)
            edge.change(edge.acme, state="active", endpoints=[there.endpoint])
            time.sleep(0.02)
        stop.set()
        for thread in threads:
            thread.join()
        assert sum(late) == 0, late
        assert not failed, failed[:3]
        assert served[0] > 200 and served[0] == edge.old.served + edge.new.served
    finally:
        stop.set()
        edge.stop()


def test_http2(edge):
    """Streams wait each for itself; a reset one gives its place back, and its neighbours on the connection are served."""
    edge.good = {"acme": edge.bearer(edge.acme).split(": ")[1], "globex": edge.bearer(edge.globex).split(": ")[1]}
    with h2base.Client(edge) as client:
        assert client.result(client.ask(client.headers("acme")))[0] == 200
        edge.change(edge.acme, state="moving")
        for _ in range(3 * MOST):
            stream = client.ask(client.headers("acme"))
            assert client.result(client.ask(client.headers("globex")))[0] == 200
            client.h2.reset_stream(stream)
            client.flush()
        stream = client.ask(client.headers("acme"))
        assert client.result(client.ask(client.headers("globex")))[0] == 200
        edge.change(edge.acme, state="active")
        assert client.result(stream)[0] == 200
    assert edge.until_in_flight(edge.acme, 0) == 0


def test_http2_connection_that_ends_while_streams_wait(edge):
    edge.good = {"acme": edge.bearer(edge.acme).split(": ")[1], "globex": edge.bearer(edge.globex).split(": ")[1]}
    edge.change(edge.acme, state="moving")
    for _ in range(3):
        with h2base.Client(edge) as client:
            for _ in range(MOST):
                client.ask(client.headers("acme"))
            assert client.result(client.ask(client.headers("globex")))[0] == 200
    time.sleep(0.1)
    sock = begin(edge)
    assert silent(sock, 0.1)
    edge.change(edge.acme, state="active")
    assert read_answer(sock).status == 200


def test_snapshot_that_is_replaced_while_they_wait(edge):
    edge.change(edge.acme, state="moving")
    sock = begin(edge)
    assert silent(sock, 0.1)
    shutil.rmtree(edge.snapshot)
    edge.acme.record["state"] = "active"
    edge.put(edge.acme, edge.globex)
    assert read_answer(sock).status == 200 and edge.until_in_flight(edge.acme, 0) == 0


def test_worker_that_ends_lets_them_wait(edge):
    """A reload: the old worker serves who waits in it before it goes."""
    edge.change(edge.acme, state="moving")
    sock = begin(edge)
    assert silent(sock, 0.1)
    edge.process.send_signal(signal.SIGHUP)
    time.sleep(0.7)
    edge.change(edge.acme, state="active")
    assert read_answer(sock).status == 200


@pytest.mark.parametrize("hold", ["5s", "5s 0", "x 5", "5s 100001", "5s -1", "5s 5; bulkhead_hold 5s 5"])
def test_configuration(hold):
    edge = Edge(workers=1, edit=lambda text: text.replace("bulkhead_cell", f"bulkhead_hold {hold};\n    bulkhead_cell"))
    try:
        with pytest.raises(AssertionError, match="bulkhead_hold"):
            edge.start()
    finally:
        edge.process = None
        edge.stop()
