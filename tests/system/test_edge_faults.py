"""Workers that die, files that are replaced and clients that dawdle while WebSockets and long answers run."""
import os
import pathlib
import shutil
import signal
import struct
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_edge_streams as streams  # noqa: E402
from edgefix import Edge, Tenant  # noqa: E402

KILLS = int(os.environ.get("BULKHEAD_TEST_KILLS", "20"))
CLIENTS = 4  # at most so many requests are in flight when a worker dies


def make(workers=2, edit=lambda text: text):
    edge = Edge(workers=workers, edit=edit)
    port = edge.ports.take()
    edge.echoes.append(streams.Talker(("127.0.0.1", port)))
    for no, id in ((42, "acme"), (7, "globex")):
        setattr(edge, id, Tenant(no, id, endpoints=[f"127.0.0.1:{port}"]))
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    return edge.start()


@pytest.fixture
def edge():
    edge = make()
    yield edge
    edge.stop()


def slots_of(edge, tenant):
    """How many slots of the counters file carry the tenant's number."""
    data = edge.counters_file.read_bytes()
    capacity, = struct.unpack_from("<I", data, 16)
    return sum(struct.unpack_from("<I", data, 256 + i * 256)[0] == tenant.no for i in range(capacity))


class Load(threading.Thread):
    """Good requests one after another, each on a connection of its own, until told to stop."""

    def __init__(self, edge):
        super().__init__(daemon=True)
        self.edge, self.good, self.failed, self.on = edge, 0, 0, True
        self.line = edge.bearer(edge.acme)

    def run(self):
        while self.on:
            try:
                answer = self.edge.get("acme.localhost", "/orders", self.line)
            except OSError:
                answer = None
            if answer is not None and answer.status == 200:
                self.good += 1
            else:
                self.failed += 1


def test_killed_workers_leak_nothing_and_count_what_was_served():
    """With load, an open WebSocket in each worker's turn, and wrong credentials being counted."""
    edge = make(edit=lambda text: text.replace("bulkhead on;", "bulkhead on; bulkhead_failed_credentials 1000r/s burst=1000 loopback;"))
    try:
        assert edge.ask(edge.acme).status == 200
        before = edge.settled(edge.acme, 1)["requests"]
        load = [Load(edge) for _ in range(CLIENTS)]
        for thread in load:
            thread.start()
        tunnels, wrong, master = 0, 0, edge.process.pid
        for i in range(KILLS):
            with edge.connect() as sock:
                try:
                    tunnels += streams.ask(sock, edge, edge.globex)[1].status == 101
                    wrong += edge.get("acme.localhost", "/orders", "Authorization: Bearer junk").status == 401
                except (OSError, AttributeError):
                    pass
                victim = edge.workers()[i % 2]
                os.kill(victim, signal.SIGKILL)
                assert streams.wait(lambda: len(set(edge.workers()) - {victim}) == 2)
        for thread in load:
            thread.on = False
        for thread in load:
            thread.join(20)
        good, failed = sum(t.good for t in load), sum(t.failed for t in load)
        assert edge.ask(edge.acme).status == 200 and edge.process.pid == master
        counted = edge.settled(edge.acme, before + good + wrong + 1)["requests"] - before - 1
        # Counted before the first byte: never less than was served, at most what was in flight more.
        assert good + wrong <= counted <= good + wrong + failed + KILLS, (good, wrong, failed, counted)
        assert failed <= KILLS * CLIENTS and good > KILLS and tunnels > KILLS / 2
        assert slots_of(edge, edge.acme) == slots_of(edge, edge.globex) == 1
        assert "MDB_READERS_FULL" not in edge.errors() and "cannot be respawned" not in edge.errors()
        print(f"{KILLS} kills: {good} served, {wrong} refused, {failed} failed, {counted} counted, {tunnels} tunnels")
    finally:
        edge.stop()


def test_reload_while_streams_run(edge):
    """Old workers keep their tunnels, count them, and end them with their tenant."""
    with edge.connect() as mine, edge.connect() as other:
        assert streams.ask(mine, edge, edge.acme)[1].status == streams.ask(other, edge, edge.globex)[1].status == 101
        old = set(edge.workers())
        edge.process.send_signal(signal.SIGHUP)
        assert streams.wait(lambda: len(set(edge.workers()) - old) == 2)
        streams.exchange(mine, 50000)
        streams.exchange(other, 10)
        assert streams.wait(lambda: edge.counters(edge.acme)["bytes_in"] >= 50000)
        edge.change(edge.acme, state="suspended")
        assert streams.ended(mine)
        streams.exchange(other, 10)
    assert edge.ask(edge.globex).status == 200 and slots_of(edge, edge.acme) == 1


def test_snapshot_that_is_replaced_still_ends_streams():
    """No request comes that would look for the new file: what runs looks by itself."""
    edge = make(workers=1)
    try:
        with edge.connect() as mine, edge.connect() as other:
            assert streams.ask(mine, edge, edge.acme)[1].status == streams.ask(other, edge, edge.globex)[1].status == 101
            shutil.rmtree(edge.snapshot)
            time.sleep(0.1)
            streams.exchange(mine, 10)  # nothing newer is known
            edge.acme.record["state"] = "suspended"
            edge.put(edge.acme, edge.globex)
            edge.own(edge.snapshot)
            assert streams.ended(mine, 8)
            streams.exchange(other, 10)
        assert edge.ask(edge.acme).code == "tenant-suspended" and edge.ask(edge.globex).status == 200
    finally:
        edge.stop()


def test_counters_file_that_is_replaced_goes_on_counting_streams():
    edge = make(workers=1)
    try:
        with edge.connect() as sock:
            assert streams.ask(sock, edge, edge.acme)[1].status == 101
            streams.exchange(sock, 20000)
            assert streams.wait(lambda: edge.counters(edge.acme)["bytes_in"] >= 20000)
            edge.counters_file.rename(edge.counters_file.with_suffix(".old"))
            assert streams.wait(edge.counters_file.exists, 8), edge.errors()
            streams.exchange(sock, 30000)
            assert streams.wait(lambda: edge.counters(edge.acme)["bytes_in"] >= 30000, 8)
            assert edge.counters(edge.acme)["bytes_in"] < 50000  # the rest is in the old one
    finally:
        edge.stop()


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_upload_ends_with_its_tenant(edge, framing):
    served = edge.echoes[0].served
    with edge.connect() as sock:
        sock.sendall(f"POST /upload HTTP/1.1\r\nHost: acme.localhost\r\n{edge.bearer(edge.acme)}\r\n{framing}\r\n\r\n".encode())
        sock.sendall(b"3e8\r\n" + b"x" * 1000 + b"\r\n" if "chunked" in framing else b"x" * 1000)
        time.sleep(0.2)
        edge.change(edge.acme, state="suspended")
        assert streams.ended(sock)
    assert edge.echoes[0].served == served and edge.ask(edge.globex).status == 200


def test_slow_clients_are_ended_and_keep_nobody_waiting():
    edge = make(workers=1, edit=lambda text: text.replace("client_header_timeout 15s", "client_header_timeout 1s")
                .replace("client_body_timeout 30s", "client_body_timeout 1s"))
    try:
        head = f"POST /x HTTP/1.1\r\nHost: acme.localhost\r\n{edge.bearer(edge.acme)}\r\n".encode()
        starts = [b"", b"G", head, head + b"Content-Length: 10\r\n\r\nab", head + b"Transfer-Encoding: chunked\r\n\r\n5\r\na"]
        slow = [edge.connect() for _ in range(200)]
        for i, sock in enumerate(slow):
            sock.sendall(starts[i % len(starts)])
        begin = time.monotonic()
        assert edge.ask(edge.globex).status == 200 and time.monotonic() - begin < 1
        for sock in slow:
            sock.settimeout(max(0.1, begin + 6 - time.monotonic()))
            try:
                while sock.recv(65536):
                    pass
            except ConnectionResetError:
                pass
            sock.close()
        assert time.monotonic() - begin < 6
        assert edge.ask(edge.acme).status == 200
    finally:
        edge.stop()
