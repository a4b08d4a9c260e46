"""Requests in flight: exact for the drain of a move, bounded so that one tenant's slow application harms nobody else."""
import os
import pathlib
import signal
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from edgefix import Edge, Tenant, read_answer  # noqa: E402

BOUND = 12


@pytest.fixture
def edge():
    edge = Edge(workers=2, edit=lambda text: text.replace("bulkhead_cell", f"bulkhead_in_flight {BOUND};\n    bulkhead_cell"))
    edge.acme = Tenant(42, "acme", endpoints=[edge.echo().endpoint])
    edge.globex = Tenant(7, "globex", endpoints=[edge.echo().endpoint])
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    edge.start()
    yield edge
    edge.stop()


def begin(edge, tenant, path="/slow/1500"):
    """A request that is on its way; its answer is read later."""
    sock = edge.connect()
    sock.sendall(f"GET {path} HTTP/1.1\r\nHost: {tenant.id}.localhost\r\n{edge.bearer(tenant)}\r\n\r\n".encode())
    return sock


def test_counted_while_they_run_and_no_longer(edge):
    assert edge.ask(edge.acme).status == 200 and edge.until_in_flight(edge.acme, 0) == 0
    socks = [begin(edge, edge.acme) for _ in range(5)]
    assert edge.until_in_flight(edge.acme, 5) == 5
    assert edge.in_flight(edge.globex) == 0
    assert [read_answer(sock).status for sock in socks] == [200] * 5
    assert edge.until_in_flight(edge.acme, 0) == 0


def test_what_is_refused_or_leaves_counts_no_more(edge):
    for answer in (edge.get("acme.localhost", "/orders"), edge.get("acme.localhost", "/x", "Authorization: Bearer x")):
        assert answer.status == 401
    assert edge.ask(edge.acme, "/close").status == 502
    sock = begin(edge, edge.acme)
    assert edge.until_in_flight(edge.acme, 1) == 1
    sock.close()  # the client leaves
    assert edge.until_in_flight(edge.acme, 0, 10) == 0


def test_bound(edge):
    socks = [begin(edge, edge.acme) for _ in range(BOUND)]
    assert edge.until_in_flight(edge.acme, BOUND) == BOUND
    for _ in range(4):
        answer = edge.ask(edge.acme)
        assert (answer.status, answer.code, answer.get("Retry-After")) == (503, "not-ready", "1")
        assert "at once" in answer.json()["detail"]
        assert edge.ask(edge.globex).status == 200
    assert [read_answer(sock).status for sock in socks] == [200] * BOUND
    assert edge.until_in_flight(edge.acme, 0) == 0 and edge.ask(edge.acme).status == 200


def test_killed_workers_leave_nothing(edge):
    for _ in range(6):
        socks = [begin(edge, edge.acme) for _ in range(BOUND)]
        assert edge.until_in_flight(edge.acme, BOUND) == BOUND
        for pid in edge.workers():
            os.kill(pid, signal.SIGKILL)
        for sock in socks:
            sock.close()
        deadline = time.monotonic() + 10
        while True:  # while requests come, somebody looks for the dead
            try:
                edge.ask(edge.globex)
            except OSError:
                pass
            if edge.in_flight(edge.acme) == 0 or time.monotonic() > deadline:
                break
        assert edge.in_flight(edge.acme) == 0
        assert edge.until_in_flight(edge.globex, 0) == 0
        assert edge.ask(edge.acme).status == 200


def test_reload_counts_old_and_new_workers(edge):
    socks = [begin(edge, edge.acme, "/slow/3000") for _ in range(4)]
    assert edge.until_in_flight(edge.acme, 4) == 4
    old = edge.workers()
    edge.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + 10
    while not set(edge.workers()) - set(old) and time.monotonic() < deadline:
        time.sleep(0.02)
    socks += [begin(edge, edge.acme, "/slow/3000") for _ in range(3)]
    assert edge.until_in_flight(edge.acme, 7) == 7
    assert [read_answer(sock).status for sock in socks] == [200] * 7
    assert edge.until_in_flight(edge.acme, 0) == 0


@pytest.mark.parametrize("suffix", ["", ".inflight"])
def test_file_that_is_deleted(edge, suffix):
    """What runs goes on being counted, in the new file."""
    socks = [begin(edge, edge.acme, "/slow/4000") for _ in range(3)]
    assert edge.until_in_flight(edge.acme, 3) == 3
    path = pathlib.Path(f"{edge.counters_file}{suffix}")
    path.unlink()
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        edge.ask(edge.globex)
        if edge.in_flight(edge.acme) == 3:
            break
    assert edge.until_in_flight(edge.acme, 3) == 3
    assert [read_answer(sock).status for sock in socks] == [200] * 3
    assert edge.until_in_flight(edge.acme, 0) == 0
