"""Kill every process at every point: afterwards nothing is half done, and every request is counted once."""
import os
import signal
import subprocess
import threading
import time

import psutil
import pytest

from load import Load
from stack import call, wait_for

EXAMPLES = ("acme", "globex", "umbrella")
WIDE = {"limits": {"requests_per_second": 100_000, "burst": 100_000}}

# Every step of onboarding and of removal; test_every_step_is_killed compares it with the product.
ONBOARD = ("database", "route", "smoke")
OFFBOARD = ("route", "database")


LEASE_MS = 2500


@pytest.fixture(scope="module")
def stack(module_stack):
    """The example tenants, without a limit that a load could meet; leases that end soon."""
    module_stack.env.update(BULKHEAD_FAILPOINT_LEASE_MS=str(LEASE_MS), BULKHEAD_FAILPOINT_DELAY_MS="4000")
    module_stack.up()
    for tenant in EXAMPLES:
        assert module_stack.put(tenant, WIDE)["state"] == "succeeded"
    return module_stack


@pytest.fixture(scope="module")
def tokens(stack):
    return {tenant: stack.user_token(tenant) for tenant in EXAMPLES}


def serves(stack, tokens):
    return all(stack.request(t, token=token).status == 200 for t, token in tokens.items())


# -- the daemon, before and after every step -----------------------------------------------


def arm(stack, failpoint):
    """Let `up` hand the failpoint to a new daemon, as a person would; "" disarms."""
    control = stack.pid("control")
    stack.env.pop("BULKHEAD_FAILPOINT", None)
    if failpoint:
        stack.env["BULKHEAD_FAILPOINT"] = failpoint
    stack.up()
    if stack.pid("control") == control:
        os.kill(control, signal.SIGKILL)
        wait_for(lambda: stack.pid("control") not in (None, control), 15, "a new daemon")
    wait_for(lambda: call(stack.ports["control"], "GET", "/readyz").status == 200, 15, "daemon ready")


def started(answer):
    assert answer.status == 202, answer
    return answer.headers["Location"].rsplit("/", 1)[1]


def end_of(stack, op):
    """The operation's end, however often the daemon dies on the way."""
    return wait_for(lambda: (o := stack.operation(op))["finished_at"] and o, 45, f"{op} ends", 0.1)


def test_every_step_is_killed(stack):
    assert stack.put("probe")["state"] == "succeeded"
    op = stack.delete("probe")
    assert {s["name"] for s in op["steps"]} == set(OFFBOARD)
    onboard = [o for o in stack.api("GET", "/v1/operations?tenant=probe").json()["items"]] or [
        stack.operation(row[0]) for row in stack.psql(
            "SELECT id FROM operation WHERE kind = 'onboard' ORDER BY created_at DESC LIMIT 1",
            database="bulkhead")]
    names = {s["name"] for o in onboard if o["kind"] == "onboard" for s in o["steps"]}
    assert names == set(ONBOARD)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ONBOARD)
def test_daemon_killed_in_onboarding(stack, tokens, step, when):
    tenant = f"on-{step}-{when}"
    arm(stack, f"{step}:{when}:kill")
    daemon = stack.pid("control")
    with Load(stack, tokens, clients=2, pause=0.01) as load:
        op = started(stack.api("PUT", f"/v1/tenants/{tenant}", {}))
        wait_for(lambda: stack.pid("control") != daemon, 20, f"the daemon dies {when} {step}")
        end = end_of(stack, op)
    arm(stack, "")
    assert load.failures == [] and load.total() > 0
    assert end["state"] in ("succeeded", "undone"), end
    state = stack.api("GET", f"/v1/tenants/{tenant}").json()["state"]
    assert state == {"succeeded": "active", "undone": "failed"}[end["state"]]
    stack.assert_inventory()
    if state == "active":
        assert stack.request(tenant, token=stack.user_token(tenant)).status == 200
    assert stack.delete(tenant)["state"] == "succeeded"
    stack.assert_inventory()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", OFFBOARD)
def test_daemon_killed_in_removal(stack, tokens, step, when):
    tenant = f"off-{step}-{when}"
    assert stack.put(tenant)["state"] == "succeeded"
    arm(stack, f"{step}:{when}:kill")
    daemon = stack.pid("control")
    with Load(stack, tokens, clients=2, pause=0.01) as load:
        op = started(stack.api("DELETE", f"/v1/tenants/{tenant}?now=true"))
        wait_for(lambda: stack.pid("control") != daemon, 20, f"the daemon dies {when} {step}")
        end = end_of(stack, op)
    arm(stack, "")
    assert load.failures == [] and load.total() > 0
    assert end["state"] == "succeeded", end
    assert stack.api("GET", f"/v1/tenants/{tenant}").status == 404
    assert stack.request(tenant).status == 404
    stack.assert_inventory()


def test_a_step_that_cannot_succeed_is_undone_and_says_why(stack, tokens):
    """The error comes once and is retried; a name that is taken in the engine cannot be."""
    arm(stack, "database:before:error")
    op = end_of(stack, started(stack.api("PUT", "/v1/tenants/hiccup", {})))
    arm(stack, "")
    assert op["state"] in ("succeeded", "undone"), op
    if op["state"] == "undone":
        assert op["error"]["detail"], op
    stack.assert_inventory()
    assert serves(stack, tokens)
    assert stack.delete("hiccup")["state"] == "succeeded"


# -- each process, during traffic ----------------------------------------------------------


def counted_right(stack, before, load):
    """acknowledged ≤ counted ≤ acknowledged + in flight at the kill, for every tenant."""
    def enough():
        return all(stack.usage(t) - before[t] >= load.acked[t] for t in EXAMPLES)
    try:
        wait_for(enough, 15, "all acknowledged requests are counted", 0.3)
    finally:
        counted = {t: stack.usage(t) - before[t] for t in EXAMPLES}
        print("counted", counted, "acked", dict(load.acked), "unanswered", dict(load.unanswered))
    time.sleep(5.5)  # one more post: a request counted twice would show
    for tenant in EXAMPLES:
        counted = stack.usage(tenant) - before[tenant]
        assert load.acked[tenant] <= counted <= load.acked[tenant] + load.unanswered[tenant], tenant


def settled_usage(stack):
    """Counts that no longer change: everything before this has been posted."""
    def read():
        return {t: stack.usage(t) for t in EXAMPLES}
    last = [read()]

    def same():
        now = read()
        same = now == last[0]
        last[0] = now
        return same
    time.sleep(5.2)
    wait_for(same, 20, "usage settles", 0.5)
    return last[0]


def kill_daemon(stack):
    return stack.kill("control")


def kill_agent(stack):
    return stack.kill("agent")


def kill_worker(stack):
    worker = stack.workers()[0].pid
    os.kill(worker, signal.SIGKILL)
    return worker


@pytest.mark.parametrize("victim", [kill_daemon, kill_agent, kill_worker])
def test_killed_under_load_and_nobody_else_notices(stack, tokens, victim):
    before = settled_usage(stack)
    clients = 6
    with Load(stack, tokens, clients=clients) as load:
        load.run_until(300)
        victim(stack)
        load.run_until(600)
    if victim is kill_agent:
        assert serves(stack, tokens)
        load.acked.update(EXAMPLES)
        stack.up()  # adopts what lives on
    stack.wait_up()
    allowed = clients if victim is kill_worker else 0
    assert len(load.failures) <= allowed, load.failures
    assert load.refused == 0 and set(load.statuses) == {200}
    counted_right(stack, before, load)
    stack.assert_inventory()


def kill_pgbouncer(stack):
    return stack.kill("pgbouncer")


def kill_postgres(stack):
    return stack.kill("postgres")


def kill_backend(stack):
    """One server process: PostgreSQL restarts all of them."""
    (pid,), = stack.psql("SELECT pid FROM pg_stat_activity WHERE usename = 'bulkhead_pool' LIMIT 1") or [(None,)]
    assert pid, "no pooled connection"
    os.kill(pid, signal.SIGKILL)
    return pid


@pytest.mark.parametrize("victim", [kill_pgbouncer, kill_postgres, kill_backend])
def test_database_killed_while_orders_arrive(stack, tokens, victim):
    """What was acknowledged is there once, nothing else but what was in doubt, and it comes back."""
    ids = {}
    for tenant in EXAMPLES:
        made = stack.request(tenant, "/products", tokens[tenant], "POST",
                             f'{{"name":"{victim.__name__}","price_cents":1}}')
        assert made.status == 201, made
        ids[tenant] = made.json()["id"]
    bodies = {t: f'{{"product_id":{ids[t]},"quantity":1}}' for t in EXAMPLES}
    nos = {t: stack.api("GET", f"/v1/tenants/{t}").json()["no"] for t in EXAMPLES}
    rows_before = {t: stack.psql(f"SELECT count(*) FROM t{nos[t]}.orders")[0][0] for t in EXAMPLES}
    before = settled_usage(stack)
    with Load(stack, tokens, clients=6, bodies=bodies) as load:
        load.run_until(100)
        victim(stack)
        killed_at = time.monotonic()
        wait_for(lambda: load.statuses[503] > 0 or load.failures or time.monotonic() - killed_at > 2, 10)
        good = load.statuses[201]
        wait_for(lambda: load.statuses[201] >= good + 100, 45, "orders are taken again")
    stack.wait_up()
    assert set(load.statuses) <= {201, 502, 503, 504}, load.statuses
    assert load.refused == 0 and not load.unanswered  # the edge lived on
    for tenant in EXAMPLES:
        found = {r[0] for r in stack.psql(f"SELECT id FROM t{nos[tenant]}.orders")}
        made = load.created[tenant]
        assert len(made) == len(set(made)) and set(made) <= found, "an acknowledged order is lost"
        doubtful = sum(n for status, n in load.by_tenant[tenant].items() if status != 201)
        new = len(found) - rows_before[tenant]
        assert len(made) <= new <= len(made) + doubtful
    assert serves(stack, tokens)
    load.acked.update(EXAMPLES)
    counted_right(stack, before, load)
    stack.assert_inventory()


class Once(Load):
    """Each request on a connection of its own: idle ones do not survive a reload of nginx."""

    def _ask(self, connection, tenant):
        super()._ask(connection, tenant)
        return False


def test_control_plane_down_for_a_whole_load_run(stack, tokens):
    """And the agent, with reloads in the middle: nobody notices, and afterwards exactly what was served is billed."""
    before = settled_usage(stack)
    tries = {t: stack.usage(t, "upstream_requests") for t in EXAMPLES}
    master, agent = stack.pid("edge"), stack.kill("agent")  # else it would restart the daemon
    stack.status()
    stack.kill("control")
    wait_for(lambda: stack.cli("tenant", "list").returncode == 69, 10, "the control plane is down")
    with Once(stack, tokens, clients=6) as load:
        load.run_until(1200, 60)
        for _ in range(2):
            old = {w.pid for w in psutil.Process(master).children()}
            os.kill(master, signal.SIGHUP)
            wait_for(lambda: not old & {w.pid for w in psutil.Process(master).children()}, 15, "new workers")
            load.run_until(200, 30)
    assert stack.cli("tenant", "list").returncode == 69 and not psutil.pid_exists(agent)
    assert load.failures == [] and set(load.statuses) == {200} and not load.unanswered
    stack.up()
    stack.wait_up()
    counted_right(stack, before, load)
    assert {t: stack.usage(t, "upstream_requests") - tries[t] for t in EXAMPLES} == dict(load.acked)


def test_agent_and_control_plane_that_stand_still(stack, tokens):
    """SIGSTOP keeps sockets open and answers nothing: the edge serves on, says so, and nothing is lost or doubled."""
    before = settled_usage(stack)
    frozen = [stack.pid("agent"), stack.pid("control")]
    for pid in frozen:
        os.kill(pid, signal.SIGSTOP)
    try:
        with Load(stack, tokens, clients=6) as load:
            load.run_until(1500, 60)
            status = stack.status()
            state = {c["name"]: c["state"] for c in status["components"]}
            assert state["agent"] == "failed" and state["edge"] == "up", state
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert load.failures == [] and set(load.statuses) == {200}
    stack.wait_up()
    assert [stack.pid("agent"), stack.pid("control")] == frozen
    counted_right(stack, before, load)


# -- several daemons -----------------------------------------------------------------------


class SecondDaemon:
    """Another bulkheadd on the same registry, started as the first was but on a port of its own."""

    def __init__(self, stack, **more):
        first = psutil.Process(stack.pid("control"))
        self.port = stack.reserved.take()
        args = [f"127.0.0.1:{self.port}" if previous == "--listen" else arg
                for previous, arg in zip([""] + first.cmdline(), first.cmdline())]
        env = {**{k: v for k, v in first.environ().items() if k != "BULKHEAD_FAILPOINT"}, **more}
        uids, gids = first.uids(), first.gids()
        self.log = open(stack.state / "log/second-daemon.log", "w+")
        self.process = subprocess.Popen(
            [first.exe(), *args[1:]], env=env, stdout=self.log, stderr=self.log,
            stdin=subprocess.DEVNULL, cwd="/", user=uids.real if os.getuid() == 0 else None,
            group=gids.real if os.getuid() == 0 else None,
            extra_groups=[] if os.getuid() == 0 else None)

    def __enter__(self):
        wait_for(lambda: call(self.port, "GET", "/readyz").status == 200, 15, "the second daemon is ready")
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise
        finally:
            self.log.close()


def together(*calls):
    """Run the calls at the same moment and return their results."""
    barrier, results = threading.Barrier(len(calls)), [None] * len(calls)

    def run(n):
        barrier.wait()
        results[n] = calls[n]()
    threads = [threading.Thread(target=run, args=(n,)) for n in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def put_at(stack, port, tenant, **headers):
    sent = {"Authorization": f"Bearer {stack.credential()}", "Content-Type": "application/json"}
    sent.update({k.replace("_", "-"): v for k, v in headers.items()})
    return call(port, "PUT", f"/v1/tenants/{tenant}", sent, "{}")


def test_the_same_tenant_put_twice_at_once_is_one_tenant(stack):
    with SecondDaemon(stack) as second:
        ports = [stack.ports["control"], second.port] * 4
        answers = together(*[lambda p=p: put_at(stack, p, "twin") for p in ports])
        assert {a.status for a in answers} <= {200, 202}, answers
        assert len({(a.json()["uid"], a.json()["no"]) for a in answers}) == 1
        operations = {a.headers["Location"].rsplit("/", 1)[1] for a in answers if a.status == 202}
        assert len(operations) == 1
        assert stack.finished(operations.pop())["state"] == "succeeded"
        stack.assert_inventory()
        answers = together(*[lambda p=p: put_at(stack, p, "other", If_None_Match="*") for p in ports])
        assert sorted(a.status for a in answers) == [202] + [412] * 7
        wait_for(lambda: stack.api("GET", "/v1/tenants/other").json()["state"] == "active", 20)
    for tenant in ("twin", "other"):
        assert stack.delete(tenant)["state"] == "succeeded"
    stack.assert_inventory()


def test_two_daemons_share_the_work(stack):
    names = [f"share-{n}" for n in range(8)]
    with SecondDaemon(stack) as second:
        ports = [stack.ports["control"], second.port] * 4
        answers = together(*[lambda p=p, n=n: put_at(stack, p, n) for p, n in zip(ports, names)])
        ends = [stack.finished(started(a), 60) for a in answers]
    assert [e["state"] for e in ends] == ["succeeded"] * 8
    stack.assert_inventory()
    for name in names:
        assert stack.delete(name)["state"] == "succeeded"
    stack.assert_inventory()


@pytest.mark.parametrize("step, when", [("database", "before"), ("database", "after"), ("route", "before")])
def test_a_daemon_frozen_past_its_lease_is_fenced_when_it_wakes(stack, tokens, step, when):
    tenant = f"frozen-{step}-{when}"
    first = stack.pid("control")
    with SecondDaemon(stack, BULKHEAD_FAILPOINT=f"{step}:{when}:delay") as second:
        os.kill(first, signal.SIGSTOP)  # so that the second one takes the work
        try:
            op = started(put_at(stack, second.port, tenant))
            wait_for(lambda: any((stack.state / "failpoints").iterdir()), 10, "the failpoint is reached")
            os.kill(second.process.pid, signal.SIGSTOP)
        finally:
            os.kill(first, signal.SIGCONT)
        try:
            end = stack.finished(op, 45)
            assert end["state"] == "succeeded", end
            assert serves(stack, tokens)
        finally:
            os.kill(second.process.pid, signal.SIGCONT)
        wait_for(lambda: "dropped by attempt" in (second.log.seek(0), second.log.read())[1], 15,
                 "the woken daemon says that it was fenced")
        assert stack.operation(op) == end, "the woken daemon changed a finished operation"
    stack.assert_inventory()
    assert stack.api("GET", f"/v1/tenants/{tenant}").json()["state"] == "active"
    assert stack.request(tenant, token=stack.user_token(tenant)).status == 200
    assert stack.delete(tenant)["state"] == "succeeded"
    stack.assert_inventory()


# -- the disk of the snapshot --------------------------------------------------------------

STRANGERS = 3000

FEED_STRANGERS = f"""
    WITH head AS (UPDATE feed_head SET seq = seq + {STRANGERS} RETURNING seq),
     known AS (SELECT f.* FROM feed f WHERE f.record ->> 'id' = 'acme' ORDER BY f.seq DESC LIMIT 1),
     added AS (INSERT INTO feed (seq, no, cell, version, record)
      SELECT head.seq - {STRANGERS} + n, 500000 + n, known.cell, 1, known.record || jsonb_build_object(
        'id', 'stranger-' || n, 'uid', gen_random_uuid(), 'database', 'database-' || n)
      FROM head, known, generate_series(1, {STRANGERS}) n)
    SELECT pg_notify('bulkhead_feed', seq::text) FROM head"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a file system of a known size")
def test_disk_full_under_the_snapshot(stack, tokens):
    """The last test of this file: it moves the snapshot to a file system that gets full. The agent says so and serves
    nothing half; old and new workers serve on; with room again all comes by itself."""
    stack.down()
    snapshot = stack.state / "snapshot"
    st = snapshot.stat()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=4m,mode=700,uid={st.st_uid},gid={st.st_gid}", "bh-full", snapshot],
                   check=True)
    try:
        stack.up()  # the snapshot is gone: the agent takes a whole one
        log = stack.state / "log/agent.log"
        ballast = snapshot / "ballast"
        with open(ballast, "wb", buffering=0) as file:
            with pytest.raises(OSError):
                while True:
                    file.write(bytes(4096))
        seq, said = stack.status()["snapshot"]["seq"], log.read_text().count("No space left on device")
        assert said == 0
        with Load(stack, tokens, clients=4) as load:
            stack.psql(FEED_STRANGERS, database="bulkhead")
            wait_for(lambda: log.read_text().count("No space left on device") > said, 20, "the agent says what is wrong")
            load.run_until(300)
        assert load.failures == []
        assert call(stack.ports["agent"], "GET", "/readyz").status == 503
        assert stack.status()["snapshot"]["seq"] == seq, "nothing of it is half there"
        assert stack.request("stranger-1").status == 404
        master, old = stack.pid("edge"), {w.pid for w in stack.workers()}
        os.kill(master, signal.SIGHUP)  # new workers need a place in the table of readers
        wait_for(lambda: not old & {w.pid for w in psutil.Process(master).children()}, 15, "new workers")
        assert all(serves(stack, tokens) for _ in range(5))
        restarts = stack.pid("agent")
        ballast.unlink()
        wait_for(lambda: stack.status()["snapshot"]["seq"] >= seq + STRANGERS, 20, "with room again all is taken")
        wait_for(lambda: stack.request("stranger-1").status == 401, 10, "and served")
        assert stack.pid("agent") == restarts and serves(stack, tokens)
        stack.wait_up()
        assert log.read_text().count("No space left on device") < 20, "it does not fill the log as well"
    finally:
        stack.down(check=False)
        subprocess.run(["umount", "-l", snapshot], check=True)
