"""What operators need of the edge: times, the access log, configuration tests, reload, upgrade, a clock that jumps."""
import json
import os
import pathlib
import random
import re
import signal
import struct
import subprocess
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_edge_streams as streams  # noqa: E402
from edgefix import Edge, Tenant  # noqa: E402
from test_edge import fresh, limit_of, ready  # noqa: E402, F401 (a fixture)

wait = streams.wait


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


# ---- nginx -t ----

def tree(*roots):
    """{path: (mode, owner, size, time of change)} of all below these directories."""
    found = {}
    for root in roots:
        for path in [root, *root.rglob("*")]:
            st = path.lstat()
            found[str(path)] = (st.st_mode, st.st_uid, st.st_size, st.st_mtime_ns if path.is_file() else 0)
    return found


def test_configuration_test_touches_nothing_of_ours(fresh):
    """Before the first start (no counters, no snapshot), and while a worker serves. What nginx itself makes (logs, pid
    file, temporary directories) is told apart by a run without our module's `bulkhead on`."""
    edge = fresh(workers=1)

    def check():
        done = subprocess.run(edge.command("-t"), capture_output=True, text=True)
        assert done.returncode == 0 and "test is successful" in done.stderr, done.stderr
    before = tree(edge.dir, edge.shm)
    check()
    ours = {path for path in set(tree(edge.dir, edge.shm)) - set(before)}
    assert all(re.search(r"/(nginx/(access\.log|body|proxy|fastcgi|uwsgi|scgi)|run/nginx\.pid)$", path) for path in ours), ours
    assert not edge.counters_file.exists() and not edge.snapshot.exists()
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    ready(edge, acme)
    assert edge.ask(acme).status == 200 and wait(lambda: sum(edge.times(acme)[1]) == 1)
    before, content = tree(edge.dir, edge.shm), edge.slot(acme)
    check()
    after = tree(edge.dir, edge.shm)
    for path in (edge.dir / "run/nginx.pid", edge.dir / "error.log"):  # nginx's own
        before.pop(str(path), None), after.pop(str(path), None)
    assert after == before and edge.slot(acme) == content


REFUSED = {
    "edge off before tenants": ("bulkhead on;", "", "has the edge off"),
    "edge off in a server beside": ("server_tokens off;", "server_tokens off; server { listen 127.0.0.1:PORT; "
                                    "location /a { location ~ /ab$ { grpc_pass grpc://bulkhead; } } }", "has the edge off"),
    "answers stored": ("proxy_redirect off;", "proxy_redirect off; proxy_store on;", "stores answers of all tenants"),
    "answers stored in a named location": ("location @websocket {", "location @websocket { proxy_store /tmp/x$uri;",
                                           "stores answers of all tenants"),
    "tunnels to nowhere": ("bulkhead_websocket @websocket;", "bulkhead_websocket @gone;", 'location "@gone"'),
}


@pytest.mark.parametrize("name", REFUSED)
def test_configuration_that_cannot_keep_tenants_apart_is_refused_at_start(fresh, name):
    place, instead, said = REFUSED[name]
    good = fresh()
    bad = fresh(edit=lambda text: text.replace(place, instead.replace("PORT", str(good.ports.take()))))
    for edge, code in ((good, 0), (bad, 1)):
        done = subprocess.run(edge.command("-t"), capture_output=True, text=True)
        assert done.returncode == code, done.stderr
    assert "[emerg]" in done.stderr and said in done.stderr and f"{bad.dir}/nginx.conf:" in done.stderr


@pytest.mark.parametrize("edit", [
    ("bulkhead on;", "bulkhead observe; proxy_store on;"),
    ("server_tokens off;", "server_tokens off; server { listen 127.0.0.1:PORT; location / { proxy_pass http://127.0.0.1:9; } }"),
    ("location @websocket {", "location /static { proxy_store on; root /tmp; } location @websocket {"),
])
def test_configuration_that_only_resembles_these_is_taken(fresh, edit):
    good = fresh()
    edge = fresh(edit=lambda text: text.replace(edit[0], edit[1].replace("PORT", str(good.ports.take()))))
    done = subprocess.run(edge.command("-t"), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- reload and upgrade ----

class Load(threading.Thread):
    """Good requests of a tenant, each on a connection of its own, until told to stop."""

    def __init__(self, edge, tenant):
        super().__init__(daemon=True)
        self.edge, self.tenant, self.on, self.good, self.wrong = edge, tenant, True, 0, []
        self.line = edge.bearer(tenant)
        self.start()

    def run(self):
        while self.on:
            try:
                answer = self.edge.get(f"{self.tenant.id}.localhost", "/orders", self.line)
                if answer is not None and answer.status == 200:
                    self.good += 1
                else:
                    self.wrong.append(answer)
            except OSError as error:
                self.wrong.append(error)


def master_of(edge):
    try:
        return int((edge.dir / "run/nginx.pid").read_text())
    except (OSError, ValueError):
        return None


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def start_daemon(edge):
    """nginx upgrades itself only where it is a daemon: it wants another parent than at its start."""
    edge.log = open(edge.dir / "error.log", "ab")
    done = subprocess.run(edge.command("-g", "daemon on;"), stdout=edge.log, stderr=edge.log, timeout=10)
    assert done.returncode == 0 and wait(lambda: master_of(edge)), edge.errors()
    return master_of(edge)


def workers_of(master):
    return {int(path.parent.name) for path in pathlib.Path("/proc").glob("[0-9]*/stat")
            if alive(path.parent.name) and path.read_text().rpartition(")")[2].split()[1] == str(master)}


def test_reload_and_binary_upgrade_under_load_lose_no_request_and_no_count(fresh):
    """Three reloads, then USR2, WINCH and QUIT: served by the application == answered == counted, nobody notices."""
    edge = fresh(workers=2, edit=lambda text: text.replace("daemon off;", ""))
    echoes = [edge.echo(), edge.echo()]
    tenants = [Tenant(no, f"tenant-{no}", endpoints=[echo.endpoint]) for no, echo in enumerate(echoes, 1)]
    edge.write_keyring()
    edge.put(*tenants)
    old, new = start_daemon(edge), None
    load = [Load(edge, tenant) for tenant in tenants for _ in range(2)]
    some = lambda: sum(thread.good for thread in load)

    def more(count=150):
        goal = some() + count
        assert wait(lambda: some() >= goal, 20), (some(), goal, edge.errors()[-2000:])
    try:
        more()
        for _ in range(3):
            before = workers_of(old)
            os.kill(old, signal.SIGHUP)
            assert len(before) == 2 and wait(lambda: not before & workers_of(old), 15)
            more()
        os.kill(old, signal.SIGUSR2)
        assert wait(lambda: master_of(edge) not in (None, old), 10), edge.errors()
        new = master_of(edge)
        more()  # two masters, two generations of workers, one counters file
        os.kill(old, signal.SIGWINCH)
        more()
        os.kill(old, signal.SIGQUIT)
        assert wait(lambda: not alive(old), 15)
        more()
    finally:
        for thread in load:
            thread.on = False
        for thread in load:
            thread.join(20)
        for master in filter(None, (old, new)):
            if alive(master):
                os.kill(master, signal.SIGTERM)
                assert wait(lambda: not alive(master), 15)
    assert [wrong for thread in load for wrong in thread.wrong] == []
    for tenant, echo in zip(tenants, echoes):
        answered = sum(thread.good for thread in load if thread.tenant is tenant)
        counted = edge.counters(tenant)
        assert echo.served == answered == counted["requests"] == counted["status_2xx"], (echo.served, answered, counted)
        times, buckets = edge.times(tenant)
        assert sum(buckets) == answered == times["upstream_requests"]
        print(f"{tenant.id}: {answered} served, answered and counted")


# ---- what is found in the way ----

def test_counters_of_another_version_are_put_aside(fresh):
    edge = fresh(workers=2)
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    foreign = struct.pack("<QIII", 0x6268636F756E7431, 99, 256, 1048576) + bytes(100_000)
    edge.counters_file.write_bytes(foreign)
    edge.own(edge.shm)
    held = open(edge.counters_file, "rb")  # a program of that version maps it
    ready(edge, acme)
    for _ in range(4):
        assert edge.ask(acme).status == 200
    assert edge.settled(acme, 4)["requests"] == 4
    assert held.read() == foreign, "who maps it is not disturbed"
    held.close()


def test_counters_of_before_an_upgrade_are_counted_on(fresh):
    """A file that workers of before wrote: nine meters, zeros where times are now. Limits and sums go on."""
    edge = fresh(workers=2)
    acme = Tenant(5, "acme", endpoints=[edge.echo().endpoint], rate=1, burst=10)
    size = 256 + 1048576 * 256
    with open(edge.counters_file, "wb") as file:
        file.write(struct.pack("<QIIIIQ", 0x6268636F756E7431, 1, 256, 1048576, 0, 77))
        file.truncate(size)
        file.seek(256 + acme.no * 256)
        file.write(struct.pack("<IIQ9Q", acme.no, 0, time.monotonic_ns() + 7 * 10**9, *range(100, 109)))
    edge.counters_file.chmod(0o600)
    edge.own(edge.shm)
    inode = edge.counters_file.stat().st_ino
    ready(edge, acme)
    answer = edge.ask(acme)
    assert answer.status == 200 and limit_of(answer)[2] in (2, 3), "the bucket is kept"
    assert wait(lambda: sum(edge.times(acme)[1]) == 1)
    counted = edge.counters(acme)
    assert (counted["requests"], counted["status_2xx"], counted["denied"]) == (101, 102, 105)
    assert counted["bytes_out"] == 108 + len(answer.raw) and edge.times(acme)[0]["upstream_requests"] == 1
    assert edge.counters_file.stat().st_ino == inode and edge.counters_file.stat().st_blocks * 512 < 1 << 20


def put_tat(edge, tenant, value):
    with open(edge.counters_file, "r+b") as file:
        capacity, = struct.unpack("<I", (file.seek(16), file.read(4))[1])
        file.seek(256 + tenant.no % capacity * 256 + 8)
        file.write(struct.pack("<Q", value))


def test_clock_that_jumps_back_stops_nobody_and_frees_nobody(fresh):
    """A bucket that says the far future (a reboot, a time namespace): one request passes, then the limit holds."""
    edge = fresh(workers=2)
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint], rate=1, burst=5)
    ready(edge, acme)
    assert [edge.ask(acme).status for _ in range(5)] == [200] * 5
    assert edge.ask(acme).status == 429  # the control
    for ahead in (10**9 * 86400, 2**63, 2**64 - 1):
        put_tat(edge, acme, min(2**64 - 1, time.monotonic_ns() + ahead))
        answer = edge.ask(acme)
        assert answer.status == 200 and limit_of(answer)[2] == 0, answer
        assert edge.ask(acme).status == 429
    put_tat(edge, acme, 1)  # the clock went ahead: full, and no more than that
    statuses = [edge.ask(acme).status for _ in range(7)]
    assert statuses[:5] == [200] * 5 and statuses[6] == 429


# ---- the limiter against its model ----

SECOND = 10**9


class Model:
    """GCRA with integers, when only bounds of the server's clock are known: how far the TAT lies ahead is an interval,
    narrowed by each answer. An answer that no time between its bounds explains is wrong."""

    def __init__(self, rate, burst):
        self.step = -(-SECOND // rate)
        self.burst, self.full = burst, self.step * burst
        self.low = self.high = 0  # TAT, ns of CLOCK_MONOTONIC

    def check(self, sent, got, status, left, seconds):
        ahead_low, ahead_high = max(self.low - got, 0), max(self.high - sent, 0)
        if status == 200:
            ahead_high = min(ahead_high, self.full - self.step)
            # left = floor((full - ahead - step) / step)
            ahead_low = max(ahead_low, self.full - self.step - (left + 1) * self.step + 1)
            ahead_high = min(ahead_high, self.full - self.step - left * self.step)
            assert ahead_low <= ahead_high, (self.__dict__, sent, got, status, left, seconds)
            room_low, room_high = self.full - ahead_high - self.step, self.full - ahead_low - self.step
            self.low = max(self.low, sent) + self.step
            self.high = max(self.high, got) + self.step
        else:
            assert (status, left) == (429, 0)
            ahead_low = max(ahead_low, self.full - self.step + 1)
            assert ahead_low <= ahead_high, (self.__dict__, sent, got, status, left, seconds)
            room_low, room_high = self.full - ahead_high, self.full - ahead_low
        wait = lambda room: 0 if room >= self.full else -(-((room // self.step + 1) * self.step - room) // SECOND)
        assert wait(room_high) <= seconds <= wait(room_low), (self.__dict__, status, left, seconds)


def arrivals(dice, model):
    """Pauses between requests, in s: bursts, a steady trickle at about the rate, long silences."""
    for _ in range(40):
        kind = dice.random()
        yield 0 if kind < 0.6 else min(0.4, dice.uniform(0, 2.2) * model.step / SECOND) if kind < 0.95 else dice.uniform(0.2, 0.6)


def test_limiter_is_its_model(fresh):
    """Random rates, bursts and times of arrival, four workers, with reloads in between: every status, every `r` and every
    `t` is one that the model gives at a moment between sending and receiving."""
    seed = int(os.environ.get("BULKHEAD_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"BULKHEAD_TEST_SEED={seed}")
    edge = fresh(workers=4)
    endpoint, dice = edge.echo().endpoint, random.Random(seed)
    tenants = [Tenant(no, f"limited-{no}", endpoints=[endpoint], rate=dice.choice([1, 2, 3, 7, 10, 33, 100]),
                      burst=dice.choice([1, 2, 3, 5, 10, 20])) for no in range(1, 9)]
    ready(edge, *tenants)
    assert edge.get("limited-1.localhost", "/x").status == 401  # ready, and nothing taken
    wrong, seen = [], []

    def run(tenant, dice):
        model, line = Model(tenant.record["rate"], tenant.record["burst"]), edge.bearer(tenant)
        try:
            for pause in arrivals(dice, model):
                time.sleep(pause)
                sent = time.monotonic_ns()
                answer = edge.get(f"{tenant.id}.localhost", "/x", line)
                got = time.monotonic_ns()
                burst, window, left, seconds = limit_of(answer)
                assert (burst, window) == (model.burst, max(1, -(-model.burst // tenant.record["rate"])))
                model.check(sent, got, answer.status, left, seconds)
                seen.append(answer.status)
        except BaseException as error:
            wrong.append(error)
            raise
    threads = [threading.Thread(target=run, args=(t, random.Random(dice.random())), daemon=True) for t in tenants]
    for thread in threads:
        thread.start()
    for _ in range(2):
        time.sleep(0.3)
        edge.process.send_signal(signal.SIGHUP)
    for thread in threads:
        thread.join(60)
    assert not wrong, (seed, wrong)
    assert len(seen) == 8 * 40 and seen.count(429) > 10 and seen.count(200) > 50, (seed, seen.count(200))


def test_model_finds_a_limiter_that_is_off_by_one():
    """The control of the test above: answers of buckets that are a little wrong are refused."""
    def answers(model, more):
        tat, now = 0, 10**12
        for _ in range(model.burst + 3):
            ahead = max(tat - now, 0)
            allowed = model.full + more * model.step - ahead >= model.step
            if allowed:
                tat = now + ahead + model.step
            room = model.full + more * model.step - max(tat - now, 0)
            left = max(0, room // model.step) if allowed else 0
            yield now, now + 1000, 200 if allowed else 429, left, -(-((room // model.step + 1) * model.step - room) // SECOND)
            now += 100_000
    right = Model(2, 5)
    for answer in answers(right, 0):
        right.check(*answer)
    for more in (1, -1):
        model = Model(2, 5)
        with pytest.raises(AssertionError):
            for answer in answers(model, more):
                model.check(*answer)
