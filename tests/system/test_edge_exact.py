"""Limits against a model: random policies, several limits at once, several workers, reload and restart in between.

The model knows the edge's clock only as far as a client does: a request was decided between its first byte and its answer,
on the same CLOCK_MONOTONIC.  So a state is an interval, and a decision is certain or it is not; what is not certain is
followed, and rare.  BULKHEAD_SEED repeats a run.
"""
import contextlib
import os
import pathlib
import random
import signal
import sys
import threading
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from edgefix import Edge, Tenant  # noqa: E402
from limitfix import Limits, told  # noqa: E402

SECOND = 10**9
SEED = int(os.environ.get("BULKHEAD_SEED") or random.SystemRandom().randrange(2**32))
YES, NO, EITHER = "yes", "no", "either"


# ---- the model ----

class Rate:
    """GCRA, its theoretical arrival time known to lie in [low, high]."""

    def __init__(self, rate, burst):
        self.step, self.burst = -(-SECOND // rate), burst
        self.low = self.high = 0

    def decide(self, begun, ended):
        room = (self.burst - 1) * self.step
        return YES if self.high <= begun + room else NO if self.low > ended + room else EITHER

    def take(self, begun, ended):
        self.high = min(self.high, ended + (self.burst - 1) * self.step)  # it passed
        self.low, self.high = max(self.low, begun) + self.step, max(self.high, ended) + self.step

    def left(self, begun, ended):
        rest = lambda tat, now: (self.burst * self.step - max(0, tat - now)) // self.step
        return rest(self.high, begun), rest(self.low, ended)


class Quota:
    def __init__(self, amount):
        self.amount, self.used = amount, 0

    def decide(self, begun, ended):
        return YES if self.used < self.amount else NO

    def take(self, begun, ended):
        self.used += 1

    def left(self, begun, ended):
        return self.amount - self.used, self.amount - self.used


class Model:
    """All limits of one tenant, each for whom it counts."""

    def __init__(self, tenant, policy):
        self.policy, self.states = policy, {}
        self.default = tenant.record["rate"], tenant.record["burst"]

    def states_of(self, path, subject):
        """{limit: its state} for a request, in the order of the header."""
        route = next((route for route in self.policy["routes"] if route["path"] == path), {"limits": []})
        names = set(self.policy["limits"]) | set(route["limits"])
        found = {"default": self._state("default", "", lambda: Rate(*self.default))}
        for limit in self.policy["quota_policies"]:
            if limit["name"] in names:
                whom = {"subject": subject or "address", "address": "address"}.get(limit.get("per"), "")
                found[limit["name"]] = self._state(limit["name"], whom, lambda: Quota(limit["quota"]) if "quota" in limit
                                                   else Rate(limit["requests_per_second"], limit["burst"]))
        return found

    def _state(self, name, whom, make):
        if (name, whom) not in self.states:
            self.states[name, whom] = make()
        return self.states[name, whom]


def follow(model, path, subject, begun, ended, answer):
    """Compare one answer with the model and let it go on; returns whether the decision was certain."""
    states = model.states_of(path, subject)
    says = {name: state.decide(begun, ended) for name, state in states.items()}
    context = f"seed {SEED}, {path} of {subject}, {says}, {model.policy}: {answer}"
    values = told(answer)
    assert list(values) == list(states), context
    if answer.status == 200:
        assert NO not in says.values(), context
        for name, state in states.items():
            state.take(begun, ended)
            low, high = state.left(begun, ended)
            assert low <= values[name]["r"] <= high, f"{name} {low} {high} {context}"
    else:
        violated = set(answer.json().get("violated-policies", ["default"]))
        assert answer.status == 429 and violated, context
        assert {name for name, say in says.items() if say == NO} <= violated, context
        assert not violated & {name for name, say in says.items() if say == YES}, context
    return EITHER not in says.values()


# ---- random policies ----

def random_limit(draw, name):
    if draw.random() < 0.3:
        return {"name": name, "quota": draw.randint(5, 120), "window": "month", "when_lost": "continue"}
    return {"name": name, "per": draw.choice(["tenant", "subject", "address"]),
            "requests_per_second": draw.randint(1, 15), "burst": draw.randint(1, 25)}


def random_policy(draw):
    limits = [random_limit(draw, f"l{i}") for i in range(draw.randint(1, 7))]
    names = [limit["name"] for limit in limits]
    some = lambda: draw.sample(names, draw.randint(0, len(names)))
    return {"quota_policies": limits, "limits": some(),
            "routes": [{"path": f"/r{i}", "limits": some(), "anonymous": True} for i in range(3)]}


class Client(threading.Thread):
    """One tenant's requests, one after the other."""

    def __init__(self, edge, tenant, policy, draw, pause):
        super().__init__(daemon=True)
        self.edge, self.tenant, self.draw, self.pause = edge, tenant, draw, pause
        self.model = Model(tenant, policy)
        self.certain = self.uncertain = 0
        self.admitted = 0
        self.stopped, self.error = False, None

    def request(self):
        path, subject = f"/r{self.draw.randrange(4)}", self.draw.choice(["ann", "bob", None])
        if path == "/r3":
            subject = subject or "ann"  # no route: it needs a credential
        headers = [self.edge.bearer(self.tenant, sub=subject)] if subject else []
        with self.pause:
            begun = time.monotonic_ns()
            answer = self.edge.get(f"{self.tenant.id}.localhost", path, *headers)
            ended = time.monotonic_ns()
        if follow(self.model, path, subject, begun, ended, answer):
            self.certain += 1
        else:
            self.uncertain += 1
        self.admitted += answer.status == 200

    def run(self):
        try:
            while not self.stopped:
                for _ in range(self.draw.randint(1, 12)):
                    self.request()
                time.sleep(self.draw.expovariate(4))
        except BaseException as error:  # shown by the test
            self.error = error


@pytest.fixture
def edge():
    edge = Edge(workers=3)
    edge.app = edge.echo()
    edge.write_keyring()
    edge.put(Tenant(99, "first", endpoints=[edge.app.endpoint]))
    edge.start()
    yield edge
    edge.stop()


def give(edge, no, policy, **fields):
    edge.document(f"policy/p{no}", policy)
    tenant = Tenant(no, f"t{no}", endpoints=[edge.app.endpoint], policy=f"p{no}", **fields)
    edge.put(tenant)
    return tenant


def restart(edge):
    edge.process.send_signal(signal.SIGTERM)
    edge.process.wait(20)
    edge.log.close()
    edge.start()


def test_what_is_admitted_equals_the_model(edge):
    print("seed", SEED)
    draw = random.Random(SEED)
    pauses = [threading.Lock() for _ in range(6)]
    clients = []
    for no, pause in enumerate(pauses, 1):
        policy = random_policy(draw)
        tenant = give(edge, no, policy, rate=draw.randint(5, 30), burst=draw.randint(5, 40))
        clients.append(Client(edge, tenant, policy, random.Random(draw.random()), pause))
    for client in clients:
        client.start()
    for happens in (lambda: edge.process.send_signal(signal.SIGHUP), lambda: restart(edge), lambda: None):
        time.sleep(3)
        for pause in pauses:
            pause.acquire()
        happens()
        for pause in pauses:
            pause.release()
    for client in clients:
        client.stopped = True
        client.join(20)
    for client in clients:
        if client.error:
            raise client.error
    certain, uncertain = sum(c.certain for c in clients), sum(c.uncertain for c in clients)
    print(certain, "certain,", uncertain, "not;", sum(c.admitted for c in clients), "admitted")
    assert certain > 500 and uncertain < certain / 5
    assert all(client.admitted for client in clients)


# ---- many at once ----

class Crowd:
    """Clients that ask as fast as they can; what was admitted, with its times."""

    def __init__(self, edge, tenant, threads=8):
        self.edge, self.tenant = edge, tenant
        self.admitted, self.refused, self.errors = [], 0, []
        self.stopped = False
        self.head = f"GET /x HTTP/1.1\r\nHost: {tenant.id}.localhost\r\n{edge.bearer(tenant)}\r\n\r\n".encode()
        self.threads = [threading.Thread(target=self._run, daemon=True) for _ in range(threads)]
        self.begun = time.monotonic_ns()
        for thread in self.threads:
            thread.start()

    def _run(self):
        while not self.stopped:
            begun = time.monotonic_ns()
            try:
                answer = self.edge.raw(self.head)
            except OSError:
                continue  # between two nginx
            if answer is None:
                continue
            if answer.status == 200:
                self.admitted.append((begun, time.monotonic_ns()))
            elif answer.status == 429:
                self.refused += 1
            else:
                self.errors.append(answer)

    def stop(self):
        self.stopped = True
        for thread in self.threads:
            thread.join(20)
        self.ended = time.monotonic_ns()
        assert not self.errors, self.errors[:3]
        assert self.refused > 20  # it was saturated


def check_rate(times, rate, burst):
    """In no span of time were more admitted than GCRA lets; times are (earliest, latest)."""
    step = -(-SECOND // rate)
    lowest = float("inf")
    for i, (begin, end) in enumerate(zip(sorted(begin for begin, _ in times), sorted(end for _, end in times))):
        lowest = min(lowest, i * step - begin)
        # At least n = i + 1 - k requests lie between the k-th earliest begin and the i-th end, for whichever k.
        assert (i + 1) * step - end - lowest <= burst * step, (i, rate, burst)


def test_at_saturation_workers_admit_the_bound_and_no_more(edge):
    """Two rates and a quota that never ends, a reload in the middle; the tighter rate decides."""
    print("seed", SEED)
    draw = random.Random(SEED + 1)
    rate, burst = draw.randint(20, 60), draw.randint(1, 50)
    tenant = give(edge, 1, {"limits": ["tight", "loose", "much"], "quota_policies": [
        {"name": "much", "quota": 10**6, "when_lost": "continue"},
        {"name": "loose", "per": "tenant", "requests_per_second": 2 * rate, "burst": 2 * burst},
        {"name": "tight", "per": "subject", "requests_per_second": rate, "burst": burst}]})
    crowd = Crowd(edge, tenant)
    time.sleep(2)
    edge.process.send_signal(signal.SIGHUP)
    time.sleep(2)
    crowd.stop()
    check_rate(crowd.admitted, rate, burst)
    check_rate(crowd.admitted, 2 * rate, 2 * burst)
    first = min(begin for begin, _ in crowd.admitted)
    bound = burst + (crowd.ended - first) * rate / SECOND
    print(len(crowd.admitted), "admitted, the bound is", bound, "refused", crowd.refused)
    assert bound * 0.95 - 4 <= len(crowd.admitted) <= bound + 1
    used = Limits(edge).quotas(tenant)[0].used
    assert used == len(crowd.admitted)  # what the rates refused took nothing of the quota


def test_at_saturation_workers_admit_the_tenants_own_rate_and_no_more(edge):
    """`default`, without any policy."""
    draw = random.Random(SEED + 2)
    rate, burst = draw.randint(50, 300), draw.randint(1, 5)
    print("seed", SEED, rate, burst)
    tenant = give(edge, 1, {}, rate=rate, burst=burst)
    crowd = Crowd(edge, tenant)
    time.sleep(3)
    crowd.stop()
    check_rate(crowd.admitted, rate, burst)
    assert len(crowd.admitted) >= (burst + 3 * rate) * 0.9


def test_workers_stopped_at_work_admit_no_more(edge):
    """What others took while one stood still must not look to it like a state of the far future."""
    draw = random.Random(SEED + 3)
    print("seed", SEED)
    rate, burst = 400, 1
    policy = {"limits": ["tight"], "quota_policies": [{"name": "tight", "requests_per_second": rate, "burst": burst}]}
    tenants = [give(edge, 1, {}, rate=rate, burst=burst), give(edge, 2, policy)]
    crowds = [Crowd(edge, tenant, threads=6) for tenant in tenants]
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        pid = draw.choice(edge.workers())
        os.kill(pid, signal.SIGSTOP)
        time.sleep(draw.uniform(0, 0.02))
        os.kill(pid, signal.SIGCONT)
        time.sleep(draw.uniform(0, 0.004))
    for crowd in crowds:
        crowd.stop()
        print(len(crowd.admitted), "admitted")
        check_rate(crowd.admitted, rate, burst)


def test_a_quota_and_its_lease_end_exactly_also_at_once(edge):
    limits = Limits(edge)
    tenant = give(edge, 1, {"limits": ["daily"], "quota_policies": [{"name": "daily", "quota": 4800, "window": "month"}]})
    crowd = Crowd(edge, tenant)
    deadline = time.monotonic() + 20
    for lease in (300, 450, 777):
        while crowd.refused < 30 and time.monotonic() < deadline:
            time.sleep(0.02)
        quota, = limits.quotas(tenant)
        while len(crowd.admitted) < quota.used and time.monotonic() < deadline:
            time.sleep(0.02)  # answers that are under way
        assert quota.used == quota.leased == len(crowd.admitted), (quota.used, quota.leased, len(crowd.admitted))
        quota.lease(lease)
        crowd.refused = 0
        time.sleep(0.2)
    while len(crowd.admitted) < 777 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    crowd.stop()
    assert len(crowd.admitted) == limits.quotas(tenant)[0].used == 777


def test_workers_killed_at_work_never_admit_too_many(edge):
    """Admitted without an answer is lost to the client: fewer, never more."""
    tenant = give(edge, 1, {"limits": ["daily", "slow", "few"], "quota_policies": [
        {"name": "daily", "quota": 700, "window": "month", "when_lost": "continue"},
        {"name": "slow", "requests_per_second": 100, "burst": 400}, {"name": "few", "concurrent": 8}]})
    crowd = Crowd(edge, tenant, threads=10)
    kills = 0
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for pid in edge.workers()[:1]:
            with contextlib.suppress(ProcessLookupError):  # it died since
                os.kill(pid, signal.SIGKILL)
                kills += 1
        time.sleep(0.15)
    time.sleep(3)
    crowd.stop()
    used = Limits(edge).quotas(tenant)[0].used
    print(len(crowd.admitted), "admitted,", used, "used,", kills, "kills")
    assert len(crowd.admitted) <= used == 700
    assert len(crowd.admitted) >= 700 - 10 * kills
    check_rate(crowd.admitted, 100, 400)
