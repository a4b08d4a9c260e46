"""What operators need of the edge: times, the access log, configuration tests, reload, upgrade, a clock that jumps."""
import json
import os
import pathlib
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_edge_streams as streams  # noqa: E402
from edgefix import Edge, Tenant  # noqa: E402

wait = streams.wait


@pytest.fixture
def fresh():
    """Makes edges that end with the test; ready(edge, tenant, …) starts one."""
    edges = []

    def make(**options):
        edges.append(Edge(**options))
        return edges[-1]
    yield make
    for edge in edges:
        edge.stop()


def ready(edge, *tenants):
    edge.write_keyring()
    edge.put(*tenants)
    return edge.start()


# ---- times ----

def test_latency_and_time_of_the_application_are_counted(fresh):
    """Ten quick requests, one slow one, one that needs a second try, and one that no application sees."""
    edge = fresh(workers=1)
    dead = f"127.0.0.1:{edge.ports.take()}"
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    twice = Tenant(2, "twice", endpoints=[dead, edge.echo().endpoint])
    ready(edge, acme, twice)
    for _ in range(10):
        assert edge.ask(acme).status == 200
    begun = time.monotonic()
    assert edge.ask(acme, "/slow/300").status == 200
    took_us = (time.monotonic() - begun) * 1e6
    assert edge.get("acme.localhost", "/x").status == 401
    assert wait(lambda: sum(edge.times(acme)[1]) == 12)
    times, buckets = edge.times(acme)
    assert len(buckets) == 16 and edge.counters(acme)["requests"] == 12
    slow = next(i for i in range(16) if i == 15 or 300_000 <= 512 << i)
    assert sum(buckets[slow:]) >= 1 and sum(buckets[:slow]) >= 9, buckets
    assert 300_000 <= times["latency_us"] and times["upstream_requests"] == 11
    assert 295_000 <= times["upstream_us"] <= times["latency_us"] + 11_000, times  # nginx's steps of a ms
    assert times["latency_us"] < took_us + 10 * 1_000_000
    assert edge.ask(twice).status == 200
    assert wait(lambda: sum(edge.times(twice)[1]) == 1)
    assert edge.times(twice)[0]["upstream_requests"] == 2


def test_a_tunnel_is_no_latency(fresh):
    edge = fresh(workers=1)
    port = edge.ports.take()
    edge.echoes.append(streams.Talker(("127.0.0.1", port)))
    edge.acme = Tenant(1, "acme", endpoints=[f"127.0.0.1:{port}"])
    ready(edge, edge.acme)
    with edge.connect() as sock:
        assert streams.ask(sock, edge, edge.acme)[1].status == 101
        streams.exchange(sock, 1000)
    assert wait(lambda: edge.counters(edge.acme)["bytes_in"] >= 1000)
    assert edge.ask(edge.acme).status == 200
    assert wait(lambda: sum(edge.times(edge.acme)[1]) == 1)
    assert edge.counters(edge.acme)["requests"] == 2 and edge.times(edge.acme)[0]["upstream_requests"] == 1


# ---- the access log ----

FIELDS = ["time", "request_id", "trace_id", "tenant", "tenant_no", "tier", "subject", "client", "protocol", "method", "path",
          "status", "code", "bytes_in", "bytes_out", "seconds", "upstream", "upstream_status", "upstream_seconds"]
NUMBERS = {"status", "bytes_in", "bytes_out", "seconds"}


def test_access_log_has_every_request_and_no_secret(fresh):
    edge = fresh(workers=1, edit=lambda text: text.replace("buffer=64k flush=1s if=$bulkhead_failed", ""))
    acme = Tenant(7, "acme", endpoints=[edge.echo().endpoint])
    ready(edge, acme)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    credential = edge.token(acme, sub="alice@example.org")
    bearer = f"Authorization: Bearer {credential}"
    answers = [
        edge.get("acme.localhost", "/a%22b/../c?password=sesame", bearer, f"traceparent: {trace}"),
        edge.get("acme.localhost", "/"),
        edge.get("acme.localhost", "/close", bearer),
        edge.get("acme.localhost", "/x?password=sesame", bearer + "x"),
        edge.get("nobody.localhost", "/x"),
        edge.raw(b"\x01\x02\"\\ nonsense\r\n\r\n"),
        edge.raw(b"GET /y\r\n"),
        edge.get("acme.localhost", "/status/201", bearer, "Cookie: session=sesame", "X-Api-Key: sesame"),
    ]
    log = edge.dir / "nginx/access.log"
    assert wait(lambda: log.read_text().count("\n") >= len(answers))
    text = log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert all(list(line) == FIELDS for line in lines)
    assert all(isinstance(value, (int, float) if name in NUMBERS else str) for line in lines for name, value in line.items())
    assert [line["status"] for line in lines] == [200, 200, 502, 401, 404, 400, 400, 201]
    assert [line["code"] for line in lines] == ["", "", "upstream-failed", "token-invalid", "tenant-unknown",
                                                "bad-request", "bad-request", ""]
    assert [line["tenant_no"] for line in lines] == ["7", "7", "7", "7", "", "", "", "7"]
    assert [line["subject"] for line in lines] == ["alice@example.org", "anonymous", "alice@example.org", "", "", "", "",
                                                   "alice@example.org"]
    assert [line["path"] for line in lines[:5]] == ["/a%22b/../c", "/", "/close", "/x", "/x"]
    first = lines[0]
    assert (first["trace_id"], first["tier"], first["tenant"]) == (trace[3:35], "standard", "acme")
    assert lines[1]["trace_id"] == lines[1]["request_id"]
    assert first["upstream"] == acme.record["endpoints"][0] and first["upstream_status"] == "200"
    assert [line["bytes_out"] for line in lines if line["status"] != 400] == \
        [len(a.raw) for a in answers if a.status and a.status != 400]
    assert lines[3]["request_id"] == answers[3].json()["request_id"]
    for secret in ("sesame", credential.split(".")[2], "Bearer"):
        assert secret not in text
