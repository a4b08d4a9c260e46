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
