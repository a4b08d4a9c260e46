"""Several limits at once: what they admit, whom they count, what they say, and what survives."""
import fcntl
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from edgefix import Edge, Tenant, read_answer  # noqa: E402
from limitfix import Limits, told  # noqa: E402

POLICIES = [
    {"name": "reads", "per": "subject", "requests_per_second": 1, "burst": 5},
    {"name": "address", "per": "address", "requests_per_second": 1, "burst": 8},
    {"name": "all", "requests_per_second": 1, "burst": 20},
    {"name": "daily", "quota": 160, "window": "day", "when_lost": "continue"},
    {"name": "month", "quota": 320, "window": "month"},
    {"name": "bytes", "quota": 100000, "window": "hour", "unit": "bytes", "when_lost": "continue"},
    {"name": "parallel", "concurrent": 3},
    {"name": "each", "per": "subject", "concurrent": 1},
]


@pytest.fixture(scope="module")
def edge():
    edge = Edge(workers=2)
    edge.app = edge.echo()
    edge.limits = Limits(edge)
    edge.count = 0
    edge.write_keyring()
    edge.put(Tenant(1000, "first", endpoints=[edge.app.endpoint]))
    edge.start()
    yield edge
    edge.stop()


@pytest.fixture
def tenant(edge):
    """tenant(limits, …): a fresh tenant for which these count everywhere."""
    def make(*names, routes=(), policies=POLICIES, **more):
        edge.count += 1
        new = Tenant(edge.count, f"t{edge.count}", endpoints=[edge.app.endpoint])
        new.record["policy"] = new.id
        edge.document(f"policy/{new.id}", {"quota_policies": policies, "limits": list(names), "routes": list(routes), **more})
        edge.put(new)
        return new
    return make


def ask(edge, tenant, path="/x", sub="ann", **options):
    return edge.get(f"{tenant.id}.localhost", path, edge.bearer(tenant, sub=sub), **options)


def burst(edge, tenant, count, **options):
    answers = [ask(edge, tenant, **options) for _ in range(count)]
    return [answer.status for answer in answers].count(200), answers[-1]


def refused(answer, code, *names):
    assert (answer.status, answer.code) == (429, code), answer
    assert answer.json()["violated-policies"] == list(names), answer
    assert int(answer.get("Retry-After")) >= 1
    for name in names:
        assert told(answer)[name]["r"] == 0, answer
    return answer


# ---- kinds ----

def test_without_further_limits_nothing_changes(edge, tenant):
    plain = tenant()
    answer = ask(edge, plain)
    assert answer.get("RateLimit-Policy") == '"default";q=1000000;w=1'
    assert answer.get("RateLimit") == '"default";r=999999;t=1'
    edge.change(plain, rate=1, burst=1)
    ask(edge, plain)
    last = ask(edge, plain)
    assert (last.status, last.code) == (429, "rate-limited") and "violated-policies" not in last.json()
    assert last.get("X-RateLimit-Limit") is None


def test_a_rate_per_subject(edge, tenant):
    acme = tenant("reads")
    for sub in ("ann", "bob"):
        admitted, last = burst(edge, acme, 7, sub=sub)
        assert admitted == 5
        refused(last, "rate-limited", "reads")
        assert told(last)["reads"] == {"q": 5, "w": 5, "r": 0, "t": 1}
    other = tenant("reads")
    assert told(ask(edge, other))["reads"]["r"] == 4


def test_a_rate_per_address_and_per_tenant(edge, tenant):
    acme = tenant("address", "all")
    assert [burst(edge, acme, 5, sub=sub)[0] for sub in ("ann", "bob")] == [5, 3]
    refused(ask(edge, acme, sub="eve"), "rate-limited", "address")
    whole = tenant("all")
    assert sum(burst(edge, whole, 7, sub=f"u{i}")[0] for i in range(4)) == 20
    refused(ask(edge, whole, sub="eve"), "rate-limited", "all")


def test_an_anonymous_request_is_counted_by_its_address(edge, tenant):
    acme = tenant("reads", routes=[{"path": "/open", "anonymous": True}])
    get = lambda: edge.get(f"{acme.id}.localhost", "/open")
    assert [get().status for _ in range(6)] == [200] * 5 + [429]
    assert ask(edge, acme, "/open", sub="anonymous").status == 200  # a person of that name is another one


def test_a_quota_ends_at_its_lease(edge, tenant):
    acme = tenant("month")
    edge.limits.renewed(time.monotonic_ns())
    admitted, last = burst(edge, acme, 25)
    assert admitted == 20
    refused(last, "quota-exceeded", "month")
    assert last.json()["type"] == "https://iana.org/assignments/http-problem-types#quota-exceeded"
    assert last.get("Retry-After") == "1"  # the control plane may give more at any moment
    cell, = edge.limits.quotas(acme)
    assert (cell.name, cell.used, cell.leased, cell.amount, cell.window, cell.unit) == ("month", 20, 20, 320, 2, 0)
    begins, ends = time.gmtime(cell.begins_s), time.gmtime(cell.ends_s)
    assert (begins[2:6], ends[2:6]) == ((1, 0, 0, 0), (1, 0, 0, 0)) and cell.begins_s < time.time() < cell.ends_s
    cell.lease(30, 100)
    admitted, last = burst(edge, acme, 15)
    assert admitted == 10 and told(last)["month"]["w"] == cell.ends_s - cell.begins_s
    cell.lease(31, 289)
    answer = ask(edge, acme)
    assert answer.status == 200 and told(answer)["month"]["r"] == 0
    last = refused(ask(edge, acme), "quota-exceeded", "month")
    assert abs(int(last.get("Retry-After")) - (cell.ends_s - time.time())) < 5  # all is used or leased


def test_a_quota_goes_on_without_the_control_plane_where_the_policy_says_so(edge, tenant):
    edge.limits.renewed(time.monotonic_ns() - 31 * 10**9)
    acme = tenant("daily")
    admitted, last = burst(edge, acme, 170)
    assert admitted == 160
    refused(last, "quota-exceeded", "daily")
    stops = tenant("month")
    assert burst(edge, stops, 25)[0] == 20
    other = tenant("daily")
    assert burst(edge, other, 12)[0] == 12
    edge.limits.renewed(time.monotonic_ns())
    assert burst(edge, other, 3)[0] == 0  # its lease was 10
    edge.limits.renewed(time.monotonic_ns() - 31 * 10**9)


def test_a_quota_of_bytes(edge, tenant):
    acme = tenant("bytes")
    answer = ask(edge, acme, method="POST", body=b"x" * 50000)
    assert answer.status == 200 and told(answer)["bytes"]["qu"] == "content-bytes"
    used = lambda: edge.limits.quotas(acme)[0].used
    eventually(lambda: used() == edge.counters(acme)["bytes_in"] > 50000)
    with edge.connect() as sock:  # a length that nobody told is charged at the end
        sock.sendall((f"POST /x HTTP/1.1\r\nHost: {acme.id}.localhost\r\n{edge.bearer(acme)}\r\n"
                      "Transfer-Encoding: chunked\r\n\r\n4e20\r\n").encode() + b"x" * 20000 + b"\r\n0\r\n\r\n")
        assert read_answer(sock).status == 200
    eventually(lambda: used() == edge.counters(acme)["bytes_in"] > 70000)
    assert ask(edge, acme, method="POST", body=b"x" * 60000).status == 200  # while anything is left
    refused(ask(edge, acme), "quota-exceeded", "bytes")


def test_a_body_that_did_not_come_is_given_back(edge, tenant):
    acme = tenant("bytes")
    with edge.connect() as sock:
        sock.sendall((f"POST /x HTTP/1.1\r\nHost: {acme.id}.localhost\r\n{edge.bearer(acme)}\r\n"
                      "Content-Length: 90000\r\n\r\nxx").encode())
        deadline = time.monotonic() + 5
        while not edge.limits.quotas(acme) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert edge.limits.quotas(acme)[0].used > 90000
    eventually(lambda: edge.limits.quotas(acme)[0].used == edge.counters(acme)["bytes_in"])
    assert 0 < edge.limits.quotas(acme)[0].used < 1000


class Running:
    """Requests that run until they are let go."""

    def __init__(self, edge):
        self.edge, self.sockets = edge, []

    def start(self, tenant, sub="ann", ms=60000):
        sock = self.edge.connect()
        sock.sendall((f"GET /slow/{ms} HTTP/1.1\r\nHost: {tenant.id}.localhost\r\n"
                      f"{self.edge.bearer(tenant, sub=sub)}\r\n\r\n").encode())
        self.sockets.append(sock)

    def stop(self):
        for sock in self.sockets:
            sock.close()


@pytest.fixture
def running(edge):
    running = Running(edge)
    yield running
    running.stop()


def eventually(condition, seconds=5):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return True


def test_so_many_requests_at_once(edge, tenant, running):
    acme = tenant("parallel")
    served = edge.app.served
    for _ in range(3):
        running.start(acme)
    eventually(lambda: edge.app.served == served + 3)
    last = refused(ask(edge, acme), "rate-limited", "parallel")
    assert told(last)["parallel"] == {"q": 3, "qu": "concurrent-requests", "r": 0}
    assert ask(edge, tenant("parallel")).status == 200
    running.sockets.pop().close()
    eventually(lambda: ask(edge, acme).status == 200)
    assert ask(edge, acme).status == 200


def test_what_a_killed_worker_held_is_free_again(edge, tenant, running):
    acme = tenant("each")
    served = edge.app.served
    running.start(acme)
    eventually(lambda: edge.app.served == served + 1)
    refused(ask(edge, acme), "rate-limited", "each")
    assert ask(edge, acme, sub="bob").status == 200
    for pid in edge.workers():
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: ask(edge, acme).status == 200)


# ---- several ----

def test_a_refused_request_uses_up_nothing_of_the_others(edge, tenant):
    acme = tenant("all", "daily", "bytes", "parallel", routes=[{"path": "/few", "limits": ["reads"]}])
    edge.change(acme, rate=1, burst=100)
    for _ in range(5):
        assert ask(edge, acme, "/few").status == 200
    before = told(ask(edge, acme))
    for _ in range(15):
        last = refused(ask(edge, acme, "/few"), "rate-limited", "reads")
    assert list(told(last)) == ["default", "reads", "all", "daily", "bytes", "parallel"]
    after = told(ask(edge, acme))
    assert after["all"]["r"] >= before["all"]["r"] - 1 and after["default"]["r"] >= before["default"]["r"] - 1
    assert after["daily"]["r"] == before["daily"]["r"] - 1 and after["parallel"]["r"] == 2
    assert edge.limits.quotas(acme)[0].used + edge.limits.quotas(acme)[1].used > 7
    assert before["default"]["q"] == 100 and before["daily"]["w"] == 86400


def test_what_was_taken_is_given_back_where_a_later_limit_refuses(edge, tenant):
    """Nobody new gets a cell while its locks are held; whoever has one is served on."""
    acme = tenant("daily", "reads", "parallel", policies=[POLICIES[3], POLICIES[6], POLICIES[0]])
    answer = ask(edge, acme)
    with open(edge.limits.file, "r+b") as file:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 256, 4096)
        last = refused(ask(edge, acme, sub="bob"), "rate-limited", "reads")
        assert told(last)["parallel"]["r"] == 3 and told(last)["daily"]["r"] == told(answer)["daily"]["r"]
        assert edge.limits.quotas(acme)[0].used == 1
        assert ask(edge, acme).status == 200
    assert ask(edge, acme, sub="bob").status == 200
    assert edge.limits.quotas(acme)[0].used == 3


def test_the_longest_wait_counts(edge, tenant):
    acme = tenant("reads", "daily")
    edge.limits.renewed(time.monotonic_ns())
    ask(edge, acme)
    edge.limits.quotas(acme)[0].lease(10, 150)
    admitted = 1
    for sub in ("ann", "bob", "eve"):
        admitted += burst(edge, acme, 5, sub=sub)[0]
    assert admitted == 10
    last = refused(ask(edge, acme, sub="ann"), "quota-exceeded", "reads", "daily")
    assert int(last.get("Retry-After")) > 10 or 86400 - time.time() % 86400 < 12
    edge.limits.renewed(time.monotonic_ns() - 31 * 10**9)


def test_the_old_headers_where_a_policy_asks_for_them(edge, tenant):
    acme = tenant("reads", "all", x_ratelimit_headers=True)
    answer = ask(edge, acme)
    old = [int(answer.get(f"X-RateLimit-{name}")) for name in ("Limit", "Remaining", "Reset")]
    assert old == [5, 4, 1]
    answer = ask(edge, acme, "/answer?X-RateLimit-Limit=77&X-Other=1&x-ratelimit-remaining=9&RateLimit=5")
    assert (answer.get("X-RateLimit-Limit"), answer.get("X-RateLimit-Remaining")) == ("5", "3")  # ours alone
    assert answer.get("X-Other") == "1" and told(answer)["reads"]["r"] == 3
    silent = ask(edge, tenant("reads"), "/answer?X-RateLimit-Limit=77")
    assert silent.get("X-RateLimit-Limit") == "77"  # the application's own business
    plain = tenant(x_ratelimit_headers=True)
    assert ask(edge, plain).get("X-RateLimit-Limit") == "1000000"


def test_limits_of_an_observed_request_are_only_told(edge):
    observer = Edge(workers=1, edit=lambda text: text.replace("bulkhead on;", "bulkhead observe;").replace(
        "proxy_pass https://bulkhead;", "add_header X-Code $bulkhead_code; proxy_pass http://%s;" % edge.app.endpoint))
    try:
        acme = Tenant(1, "acme", endpoints=[edge.app.endpoint], policy="p")
        observer.write_keyring()
        observer.document("policy/p", {"quota_policies": POLICIES, "limits": ["reads"]})
        observer.put(acme)
        observer.start()
        answers = [ask(observer, acme) for _ in range(7)]
        assert [answer.get("X-Code") for answer in answers] == [None] * 5 + ["rate-limited"] * 2
        assert all(answer.status == 200 and answer.get("RateLimit") is None for answer in answers)
    finally:
        observer.stop()


# ---- what survives ----

def test_a_clients_flood_shares_one_cell_and_harms_no_other_tenant(edge, tenant):
    """In small: many subjects of one tenant, each with a cell; the table's bound is in tests/unit/snapshot/limits.c."""
    policies = [{"name": "once", "per": "subject", "requests_per_second": 1, "burst": 1}]
    acme, other = tenant("once", policies=policies), tenant("once", policies=policies)
    assert all(ask(edge, acme, sub=f"u{i}").status == 200 for i in range(300))
    assert ask(edge, other, sub="u1").status == 200
    refused(ask(edge, other, sub="u1"), "rate-limited", "once")


def test_limits_survive_reload_restart_and_kill(edge, tenant):
    slow = [{"name": "slow", "per": "subject", "requests_per_second": 1, "burst": 1000},
            {"name": "daily", "quota": 1600, "when_lost": "continue"}]
    acme = tenant("slow", "daily", policies=slow)
    begun = time.monotonic()
    for step in range(4):
        for _ in range(20):
            eventually(lambda: ask(edge, acme).status == 200)
        if step == 0:
            edge.process.send_signal(signal.SIGHUP)
            time.sleep(0.5)
        elif step == 1:
            for pid in edge.workers():
                os.kill(pid, signal.SIGKILL)
            time.sleep(0.5)
        elif step == 2:
            edge.process.send_signal(signal.SIGTERM)
            edge.process.wait(20)
            edge.log.close()
            edge.start()
    answer = told(ask(edge, acme))
    passed = time.monotonic() - begun
    assert answer["slow"]["r"] <= 1000 - 81 + passed + 1 and answer["daily"]["r"] <= 1600 - 81, answer
    assert answer["slow"]["r"] >= 1000 - 81 - 4 and answer["daily"]["r"] >= 1600 - 81 - 4  # what a kill cut off


def test_a_limits_file_that_is_gone_is_made_again(edge, tenant):
    acme = tenant("daily")
    assert ask(edge, acme).status == 200
    os.unlink(edge.limits.file)
    time.sleep(1.1)
    for _ in range(4):
        assert ask(edge, acme).status == 200
    assert edge.limits.quotas(acme)[0].used in (3, 4)
    with open(edge.limits.file, "r+b") as file:
        file.write(b"another version")
    time.sleep(1.1)
    for _ in range(4):
        assert ask(edge, acme).status == 200
    assert "the limits file was replaced" in edge.errors()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system of a known size")
def test_a_flood_of_clients_takes_no_memory_that_others_need():
    """To touch a page that a full tmpfs has no room for is SIGBUS: one tenant's clients would end the workers of all."""
    edge = Edge(workers=1)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=755", "bh-small", edge.shm], check=True)
    try:
        edge.own(edge.shm)
        app = edge.echo()
        flooded, others = Tenant(1, "flooded", endpoints=[app.endpoint], policy="reads"), [
            Tenant(no, f"t{no}", endpoints=[app.endpoint]) for no in range(1000, 60000, 1000)]
        edge.write_keyring()
        edge.document("policy/reads", {"quota_policies": POLICIES, "limits": ["reads", "each"]})
        edge.put(flooded, *others)
        edge.start()
        assert edge.ask(flooded).status == 200
        worker = edge.workers()
        statuses = []
        with edge.connect() as sock:
            for i in range(1500):
                sock.sendall(f"GET /x HTTP/1.1\r\nHost: flooded.localhost\r\n{edge.bearer(flooded, sub=f's{i}')}\r\n\r\n".encode())
                statuses.append(read_answer(sock).status)
        assert statuses[:100] == [200] * 100 and 429 in statuses and set(statuses) == {200, 429}
        room = os.statvfs(edge.shm)
        assert room.f_bavail > room.f_blocks / 5
        assert {edge.ask(tenant).status for tenant in others} == {200}, "each of them on a page of its own in the counters"
        assert edge.workers() == worker
    finally:
        subprocess.run(["umount", "-l", edge.shm], check=True)
        edge.stop()
