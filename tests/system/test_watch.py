"""bulkheadd's watch over the database servers: what they count, refuse and let drift reaches the registry once."""
import json
import re
import signal
import subprocess
import time

import psutil
import pytest

from database import ENTER
from flowfix import OPERATOR, Plant
from pgserver import POOL_PASSWORD, PREFIX, Bouncer, Server, give_to_engine_user, wait_for
from pgwire import Wire

FAST = {"watch_ms": 200}


@pytest.fixture(scope="module")
def plant():
    plant = Plant(settings="bulkhead.audit_entries = 64\nbulkhead.audit_burst = 200")
    yield plant
    plant.close()


@pytest.fixture
def daemon(plant):
    daemon = plant.daemon(**FAST)
    yield daemon
    daemon.close()


def pages(daemon, path):
    status, answer = daemon.call("GET", path)
    assert status == 200, answer
    return answer["items"]


def server_of(daemon, name="main"):
    return next(item for item in pages(daemon, "/v1/servers") if item["name"] == name)


def wait_state(daemon, state, name="main", seconds=20):
    try:
        wait_for(lambda: server_of(daemon, name)["state"] == state, state, seconds)
    except TimeoutError:
        lines = [line for line in daemon.log.read_text().splitlines() if 'principal=ops' not in line]
        raise AssertionError('\n'.join([str(server_of(daemon, name)), *lines[-30:]])) from None


def said(daemon, text):
    """How many lines of the daemon's log hold ${text}."""
    return sum(text in line for line in daemon.log.read_text().splitlines())


def check_now(daemon, name="main"):
    """Findings of the server after a look that began now."""
    status, answer = daemon.call("POST", "/v1/selfcheck")
    assert status == 202
    wait_for(lambda: all((d["checked_at"] or "") >= answer["asked_at"] for d in server_of(daemon, name)["databases"]),
             "the self-check runs")
    return pages(daemon, f"/v1/selfcheck?server={name}")


# ---- another server of the cell ----

def register_second(plant, port):
    """Nothing is ever placed there by the flow."""
    plant.registry("""
        INSERT INTO server (name, uid, cell, conninfo) VALUES ('second', gen_random_uuid(), 'main', %s);
        INSERT INTO shared_database (name, server, max_tenants) VALUES ('second1', 'second', 0)""",
                   (f"host=127.0.0.1 port={port} user=postgres",))


def forget_second(plant):
    plant.registry("DELETE FROM shared_database WHERE server = 'second'; DELETE FROM server WHERE name = 'second'")


class Second:
    """A second PostgreSQL server in the registry."""

    def __init__(self, plant, version="0.2"):
        self.plant = plant
        self.server = Server("bulkhead.server = 'second'\nlog_parameter_max_length = 0")
        self.server.sql("CREATE DATABASE second1", database="postgres")
        self.server.sql("CREATE ROLE bulkhead_pool LOGIN PASSWORD 'pool-secret'", database="postgres")
        self.server.sql("REVOKE ALL ON DATABASE second1 FROM PUBLIC; GRANT CONNECT ON DATABASE second1 TO bulkhead_pool",
                        database="postgres")
        self.server.sql(f"CREATE EXTENSION bulkhead VERSION '{version}'", database="second1")
        with open(plant.dir / "pgpass", "a") as passfile:
            passfile.write(f"127.0.0.1:{self.server.port}:*:postgres:admin-secret\n")
        give_to_engine_user(plant.dir / "pgpass")
        register_second(plant, self.server.port)

    def processes(self):
        postmaster = psutil.Process(self.server.postmaster())
        return [postmaster, *postmaster.children(recursive=True)]

    def freeze(self):
        self.frozen = self.processes()
        for process in self.frozen:
            process.suspend()

    def thaw(self):
        for process in self.frozen:
            try:
                process.resume()
            except psutil.NoSuchProcess:
                pass

    def close(self):
        forget_second(self.plant)
        self.server.close()


@pytest.fixture
def second(plant):
    """${second}(version) puts the second server there; the daemon must run, for it makes the registry."""
    made = []

    def make(version="0.2"):
        made.append(Second(plant, version))
        return made[0]
    yield make
    for it in made:
        it.close()


def test_an_old_extension_is_said_once_and_all_else_goes_on(plant, daemon, second):
    it = second("0.1")
    wait_state(daemon, "limited", "second")
    shown = server_of(daemon, "second")
    assert shown["extension"] == "0.1" and "ALTER EXTENSION bulkhead UPDATE" in shown["message"], shown
    findings = check_now(daemon, "second")
    assert [(f["database"], f["object"], f["fix"]) for f in findings] == [
        ("second1", "extension bulkhead", "ALTER EXTENSION bulkhead UPDATE")], findings
    wait_for(lambda: server_of(daemon)["state"] == "up", "the other server is read")
    time.sleep(1)  # five more readings
    assert said(daemon, "server second is limited") == 1
    it.server.sql("ALTER EXTENSION bulkhead UPDATE", database="second1")
    wait_state(daemon, "up", "second")
    assert check_now(daemon, "second") == []


def test_a_frozen_server_holds_up_nobody(plant, daemon, second):
    it = second()
    wait_state(daemon, "up", "second")
    it.freeze()
    try:
        began = time.monotonic()
        assert daemon.onboard("thaw")["state"] == "succeeded"
        wait_state(daemon, "down", "second")
        assert said(daemon, "server second is down") == 1
        before = server_of(daemon)["read_at"]
        wait_for(lambda: server_of(daemon)["read_at"] > before, "main is read on")
        assert daemon.offboard("thaw")["state"] == "succeeded"
        while time.monotonic() < began + 12:  # a few tries of the watch, and the API answers all the while
            asked = time.monotonic()
            assert daemon.call("GET", "/v1/tenants")[0] == 200
            assert time.monotonic() - asked < 3
            time.sleep(0.2)
        assert said(daemon, "server second is down") == 1
    finally:
        it.thaw()
    wait_state(daemon, "up", "second", 40)
    assert said(daemon, "server second is read") == 2
    it.server.stop("immediate")
    wait_state(daemon, "down", "second")
    it.server.start()
    wait_state(daemon, "up", "second", 40)
    assert said(daemon, "server second is down") == 2


def test_stopping_is_quick_beside_a_frozen_server(plant, second):
    daemon = plant.daemon(**FAST)
    it = second()
    wait_state(daemon, "up", "second")
    it.freeze()
    try:
        time.sleep(1)  # it waits for the frozen server now
        daemon.signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=15) == 0, daemon.log.read_text()
    finally:
        it.thaw()
        daemon.close()


def test_a_server_that_calls_itself_otherwise_is_not_read(plant):
    """A connection that leads to another server would book its numbers on the wrong one."""
    first = plant.daemon(**FAST)  # makes the registry
    first.close()
    plant.server.sql("CREATE DATABASE second1", database="postgres")
    register_second(plant, plant.server.port)
    other = plant.daemon(**FAST)
    try:
        wait_state(other, "down", "second")
        assert 'calls itself "main"' in server_of(other, "second")["message"]
        wait_for(lambda: server_of(other)["read_at"], "main is read")
    finally:
        other.close()
        forget_second(plant)
        plant.server.sql("DROP DATABASE second1 WITH (FORCE)", database="postgres")


# ---- drift ----

def test_drift_is_reported_until_it_is_mended(plant, daemon):
    assert daemon.onboard("drift")["state"] == "succeeded"
    try:
        assert check_now(daemon) == []
        plant.server.sql("GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC; GRANT CREATE ON SCHEMA public TO PUBLIC")
        found = check_now(daemon)
        assert {f["object"] for f in found} == {"function pg_notify(text,text)", "schema public"}, found
        assert all(f["server"] == "main" and f["database"] == "shared1" and f["found_at"] for f in found)
        assert check_now(daemon) == found
        assert said(daemon, "drift: ") == 2
        for finding in found:
            plant.server.sql(finding["fix"])
        assert check_now(daemon) == []
        assert said(daemon, "mended: ") == 2
    finally:
        plant.server.sql("REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        daemon.offboard("drift")


def test_every_start_checks(plant):
    first = plant.daemon(**FAST)
    wait_for(lambda: server_of(first)["databases"][0]["checked_at"], "the first check")
    before = server_of(first)["databases"][0]["checked_at"]
    first.signal(signal.SIGKILL)
    first.process.wait()
    again = plant.daemon(**FAST)
    wait_for(lambda: server_of(again)["databases"][0]["checked_at"] > before, "the check at start")
    again.close()


# ---- refusals ----

class Attacker:
    """The tenant `mallory`, and `victim` beside it; connections through PgBouncer."""

    def __init__(self, plant, daemon):
        for name in ("mallory", "victim"):
            assert daemon.onboard(name)["state"] == "succeeded"
        self.plant, self.bouncer = plant, Bouncer(plant.server)
        self.no, self.victim = (daemon.get(name)["no"] for name in ("mallory", "victim"))

    def run(self, statement, times=1, sub="u-1"):
        """[enter, statement, Sync] ${times} times on one connection; the answers."""
        token = self.plant.server.token(self.no, "mallory", sub=sub)
        with Wire(self.bouncer.port, "bulkhead_pool", POOL_PASSWORD, "shared1") as wire:
            return [wire.pipeline([(ENTER, [token]), (statement, [])]) for _ in range(times)]

    def attack(self, times=1):
        answers = self.run(f"SELECT * FROM t{self.victim}.orders WHERE product = 4711", times)
        assert {answer.code for answer in answers} == {"42501"}

    def close(self):
        self.bouncer.close()


@pytest.fixture(scope="module")
def attacker(plant):
    daemon = plant.daemon(**FAST)
    it = Attacker(plant, daemon)
    daemon.close()
    yield it
    it.close()


def audit(daemon, query=""):
    items = pages(daemon, f"/v1/audit?limit=500&tenant=mallory{query}")
    assert [item["id"] for item in items] == sorted((item["id"] for item in items), reverse=True)
    return items


def wait_count(daemon, count, query=""):
    """Until so many refusals are listed, counted ones included."""
    total = lambda: sum(item["count"] for item in pages(daemon, f"/v1/audit?limit=500{query}"))
    try:
        wait_for(lambda: total() >= count, "refusals are listed", 15)
    except TimeoutError:
        pass
    assert total() == count


def forget(plant):
    plant.registry("DELETE FROM audit")


def test_a_refusal_is_listed_once(plant, daemon, attacker):
    wait_for(lambda: server_of(daemon)["state"] != "unknown", "the server is read")
    forget(plant)
    assert attacker.run("SELECT count(*) FROM orders")[0].code is None
    attacker.attack()
    wait_count(daemon, 1)
    item, = audit(daemon)
    assert list(item) == ["id", "kind", "at", "tenant", "no", "subject", "server", "database", "object", "code", "title",
                          "message", "fingerprint", "count"]
    assert (item["kind"], item["tenant"], item["no"], item["subject"], item["server"], item["database"], item["code"]) == (
        "refused", "mallory", attacker.no, "u-1", "main", "shared1", "42501")
    assert item["id"].startswith("aud_") and item["title"] == "Not permitted" and item["message"] and item["fingerprint"]
    assert f"t{attacker.victim}" in item["object"] and "4711" not in str(item)
    time.sleep(1)  # five more readings
    assert len(audit(daemon)) == 1
    assert audit(daemon, "&code=TN005") == [] and audit(daemon, "&code=42501") == [item]


def test_what_was_refused_while_the_daemon_was_away_comes_later_and_once(plant, attacker):
    first = plant.daemon(**FAST)
    wait_for(lambda: server_of(first)["state"] != "unknown", "the server is read")
    forget(plant)
    attacker.attack()
    wait_count(first, 1)
    first.signal(signal.SIGKILL)
    first.process.wait()
    attacker.attack()
    again, beside = plant.daemon(**FAST), plant.daemon(**FAST)  # and two at once
    wait_count(again, 2)
    again.signal(signal.SIGSTOP)  # whoever reads is frozen, or has just been woken
    attacker.attack()
    wait_count(beside, 3)
    again.signal(signal.SIGCONT)
    time.sleep(1)
    wait_count(beside, 3)
    for daemon in (again, beside):
        daemon.close()


def test_a_new_ring_is_said(plant, daemon, attacker):
    wait_for(lambda: server_of(daemon)["state"] != "unknown", "the server is read")
    forget(plant)
    attacker.attack()
    wait_count(daemon, 1)
    plant.server.stop("immediate")
    plant.server.start()
    wait_for(lambda: [i for i in pages(daemon, "/v1/audit") if i["kind"] == "restart"], "the restart is said", 30)
    attacker.attack()
    wait_count(daemon, 2)
    assert [i["kind"] for i in pages(daemon, "/v1/audit")] == ["refused", "restart", "refused"]


def test_a_flood_is_counted_to_the_last(plant, daemon, attacker):
    """What the ring's rate limit holds back is not lost: the counts add up to what was refused."""
    wait_for(lambda: server_of(daemon)["state"] != "unknown", "the server is read")
    forget(plant)
    attacker.attack(300)
    wait_count(daemon, 300)
    kinds = {item["kind"] for item in pages(daemon, "/v1/audit?limit=500")}
    assert {"refused", "suppressed"} <= kinds <= {"refused", "suppressed", "dropped"}, kinds
    time.sleep(1.2)
    attacker.attack()  # the next entry tells of what is told already
    wait_count(daemon, 301)


def test_what_the_ring_dropped_is_counted(plant, attacker):
    first = plant.daemon(**FAST)
    wait_for(lambda: server_of(first)["state"] != "unknown", "the server is read")
    forget(plant)
    first.close()
    time.sleep(5)  # the rate limit forgets the flood
    attacker.attack(100)  # the ring holds 64
    again = plant.daemon(**FAST)
    wait_count(again, 100)
    rows = pages(again, "/v1/audit?limit=500")
    assert [(row["count"], row["tenant"]) for row in rows if row["kind"] == "dropped"] == [(36, None)]
    assert said(again, "36 refusals were overwritten") == 1
    again.close()


# ---- usage ----

METERS = ("db_statements", "db_rows", "db_active_us", "db_blocks_hit", "db_blocks_read", "db_blocks_dirtied", "db_temp_bytes",
          "db_wal_bytes", "db_errors")


def booked(daemon, tenant):
    """The tenant's database meters as the API has them."""
    totals = dict.fromkeys(METERS, 0)
    for item in pages(daemon, f"/v1/usage?limit=500&tenant={tenant}"):
        totals[item["meter"]] += item["value"]
    return totals


def counted(plant, no):
    """The same as PostgreSQL has them now."""
    rows = dict(plant.server.sql("SELECT meter, value FROM bulkhead.usage WHERE no = %s", (no,)))
    return {meter: int(rows.get(meter, 0)) for meter in METERS}


def earlier(plant, no):
    """What was booked of lives of the counters that a crash ended."""
    rows = dict(plant.registry("SELECT meter, sum(value) FROM usage_source WHERE no = %s AND file_epoch <> %s GROUP BY meter",
                               (no, plant.server.sql("SELECT max(file_epoch) FROM bulkhead.usage")[0][0])))
    return {meter: int(rows.get(meter, 0)) for meter in METERS}


def wait_booked(plant, daemon, attacker):
    """Until the API says what PostgreSQL does, and what it did in earlier lives of its counters; that."""
    def want():
        before = earlier(plant, attacker.no)
        return {meter: value + before[meter] for meter, value in counted(plant, attacker.no).items()}
    try:
        wait_for(lambda: booked(daemon, "mallory") == want(), "usage is booked", 15)
    except TimeoutError:
        pass
    assert booked(daemon, "mallory") == want()
    return want()


def wait_rows(plant, daemon, attacker, rows):
    """Until the backends have flushed their sums, and so many rows are booked."""
    wait_for(lambda: booked(daemon, "mallory")["db_rows"] >= rows, "the rows are booked", 20)


WORK = "INSERT INTO products (name) SELECT repeat('x', 200) FROM generate_series(1, 100)"


def test_usage_is_what_the_server_counted(plant, daemon, attacker):
    wait_state(daemon, "up")
    before = wait_booked(plant, daemon, attacker)
    assert {answer.code for answer in attacker.run(WORK, 3)} == {None}
    attacker.attack()
    wait_rows(plant, daemon, attacker, before["db_rows"] + 300)
    after = wait_booked(plant, daemon, attacker)
    grown = {meter: after[meter] - before[meter] for meter in METERS}
    assert grown["db_rows"] >= 300 and grown["db_wal_bytes"] > 60000 and grown["db_errors"] == 1, grown
    assert grown["db_statements"] >= 3 and grown["db_active_us"] > 0 and grown["db_blocks_hit"] > 0, grown
    status, page = daemon.call("GET", "/v1/usage?tenant=mallory&meter=db_rows")
    assert status == 200 and {item["meter"] for item in page["items"]} == {"db_rows"}
    assert booked(daemon, "victim")["db_rows"] == counted(plant, attacker.victim)["db_rows"]


def test_no_kill_of_the_daemon_counts_twice_or_loses(plant, attacker):
    daemon = plant.daemon(**FAST)
    wait_state(daemon, "up")
    wait_booked(plant, daemon, attacker)
    for _ in range(2):
        assert attacker.run(WORK, 2)[1].code is None
        daemon.signal(signal.SIGKILL)
        daemon.process.wait()
        assert attacker.run(WORK, 2)[1].code is None
        daemon.close()
        daemon = plant.daemon(**FAST)
        beside = plant.daemon(**FAST)
        assert attacker.run(WORK, 2)[1].code is None
        wait_booked(plant, daemon, attacker)
        beside.signal(signal.SIGKILL)
        beside.process.wait()
    wait_booked(plant, daemon, attacker)
    daemon.close()


def test_what_a_crash_of_postgresql_loses_is_bounded(plant, daemon, attacker):
    """A shutdown loses nothing; a crash what was counted since the last reading, and nothing counts twice."""
    wait_state(daemon, "up")
    before = wait_booked(plant, daemon, attacker)
    plant.server.stop()
    plant.server.start()
    assert attacker.run(WORK, 2)[-1].code is None
    wait_rows(plant, daemon, attacker, before["db_rows"] + 200)
    kept = wait_booked(plant, daemon, attacker)
    old = earlier(plant, attacker.no)
    for process in Second.processes(plant):
        process.kill()
    wait_for(lambda: not psutil.pid_exists(plant.server.postmaster()), "PostgreSQL is gone")
    plant.server.start()
    wait_state(daemon, "up", seconds=40)
    assert attacker.run(WORK, 2)[-1].code is None
    wait_rows(plant, daemon, attacker, kept["db_rows"] + 200)
    assert wait_booked(plant, daemon, attacker)["db_rows"] >= kept["db_rows"] + 200
    assert earlier(plant, attacker.no) == {meter: kept[meter] for meter in METERS} != old  # all that was read is kept


def test_a_server_speaks_for_its_own_tenants_only(plant, daemon, attacker, second):
    """A server that lies (its owner replaced the view and the ring) books nothing on others and breaks nothing."""
    wait_state(daemon, "up")
    it = second()
    wait_state(daemon, "up", "second")
    mine = booked(daemon, "mallory")
    forget(plant)
    it.server.sql(f"""
        CREATE OR REPLACE VIEW bulkhead.usage AS
            SELECT 'postgres-main' AS source, 1::bigint AS file_epoch, now() AS sampled_at, n AS no, 'db_rows' AS meter,
                   9000000000000000000 AS value FROM unnest(ARRAY[{attacker.no}, 2147483647]) n;
        ALTER EXTENSION bulkhead DROP FUNCTION bulkhead.audit_read(bigint, int);
        ALTER EXTENSION bulkhead DROP FUNCTION bulkhead.audit_state();
        DROP FUNCTION bulkhead.audit_read(bigint, int), bulkhead.audit_state();
        CREATE FUNCTION bulkhead.audit_state(OUT epoch bigint, OUT head bigint, OUT oldest bigint, OUT suppressed bigint)
            LANGUAGE sql AS 'SELECT 5::bigint, 9223372036854775807, 1::bigint, 0::bigint';
        CREATE FUNCTION bulkhead.audit_read(after bigint, most int) RETURNS TABLE (epoch bigint, seq bigint, at timestamptz,
            no int, tenant text, subject text, database text, object text, sqlstate text, message text, fingerprint text,
            suppressed bigint) LANGUAGE sql AS $$
            SELECT 5::bigint, 1::bigint, 'infinity'::timestamptz, {attacker.no}, 'victim', repeat('s', 10000), '', NULL, 'TN00123',
                   repeat('m', 100000), '', -5::bigint WHERE after < 1 $$""", database="second1")
    refused = lambda: [i for i in pages(daemon, "/v1/audit") if i["server"] == "second" and i["kind"] == "refused"]
    wait_for(refused, "its entry is there", 20)
    row, = refused()
    assert (row["tenant"], row["no"], row["code"], row["count"]) == (None, None, "TN001", 1)
    assert len(row["message"]) == 1000 and len(row["subject"]) == 255
    time.sleep(1)
    assert booked(daemon, "mallory") == mine
    assert server_of(daemon)["state"] == "up"
    it.server.sql("CREATE OR REPLACE VIEW bulkhead.usage AS SELECT 'x' AS source, 1::bigint AS file_epoch, now() AS sampled_at,"
                  f" {attacker.no} AS no, 'db_rows' AS meter, -1::bigint AS value", database="second1")
    wait_state(daemon, "limited", "second")
    assert "no counter" in server_of(daemon, "second")["message"]
    assert server_of(daemon)["state"] == "up" and booked(daemon, "mallory") == mine


# ---- the command line ----

def cli(daemon, *args):
    return subprocess.run([PREFIX / "bin/bulkhead", *args], capture_output=True, text=True, timeout=90,
                          env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "BULKHEAD_STATE": "/tmp/bulkhead-no-such-state",
                               "BULKHEAD_URL": f"http://127.0.0.1:{daemon.port}", "BULKHEAD_TOKEN": OPERATOR})


def test_the_command_line_lists_what_was_refused_and_used(plant, daemon, attacker):
    wait_state(daemon, "up")
    forget(plant)
    attacker.attack(3)
    wait_count(daemon, 3)
    wait_booked(plant, daemon, attacker)
    done = cli(daemon, "audit", "list", "--tenant", "mallory", "--limit", "2", "-o", "json")
    assert done.returncode == 0 and done.stderr == ""
    page = json.loads(done.stdout)
    assert len(page["items"]) == 2 and page["next_page_token"] and page["items"] == audit(daemon)[:2]
    table = cli(daemon, "audit", "list", "--code", "42501", "--from", "2020-01-01T00:00:00+01:00").stdout.splitlines()
    assert table[0].split() == ["AT", "TENANT", "SUBJECT", "DATABASE", "CODE", "COUNT", "OBJECT", "MESSAGE"]
    assert len(table) == 4 and all(line.split()[1:6] == ["mallory", "u-1", "shared1", "42501", "1"] for line in table[1:])
    nothing = cli(daemon, "audit", "list", "--tenant", "a&limit=1")
    assert (nothing.returncode, nothing.stderr) == (0, "nothing was refused\n")
    wrong = cli(daemon, "audit", "list", "--code", "x")
    assert wrong.returncode == 65 and "SQLSTATE" in wrong.stderr and wrong.stdout == ""

    items = json.loads(cli(daemon, "usage", "--tenant", "mallory", "-o", "json").stdout)
    assert list(items) == ["items", "next_page_token"] and items["items"] == pages(daemon, "/v1/usage?limit=500&tenant=mallory")
    table = cli(daemon, "usage", "--tenant", "mallory").stdout.splitlines()
    assert table[0].split() == ["TENANT", "METER", "VALUE", "UNIT"]
    totals = booked(daemon, "mallory")
    assert {line.split()[1]: int(line.split()[2]) for line in table[1:]} == {m: v for m, v in totals.items() if v}
    assert cli(daemon, "usage", "--meter", "nothing").returncode == 65


def test_the_command_line_lists_servers_and_what_drifted(plant, daemon, second):
    wait_state(daemon, "up")
    done = cli(daemon, "selfcheck", "--now")
    assert (done.returncode, done.stderr) == (0, "all is as it should be\n"), done
    plant.server.sql("GRANT CREATE ON SCHEMA public TO PUBLIC")
    try:
        assert cli(daemon, "selfcheck").returncode == 0  # nobody has looked again
        done = cli(daemon, "selfcheck", "--now")
        assert done.returncode == 2 and "REVOKE CREATE ON SCHEMA public FROM PUBLIC" in done.stdout, done
        done = cli(daemon, "selfcheck", "-o", "json")
        assert done.returncode == 2 and json.loads(done.stdout) == {"items": pages(daemon, "/v1/selfcheck"), "next_page_token": None}
    finally:
        plant.server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    assert cli(daemon, "selfcheck", "--now").returncode == 0
    it = second()
    wait_state(daemon, "up", "second")
    it.server.stop("immediate")
    wait_state(daemon, "down", "second")
    done = cli(daemon, "selfcheck", "--now")
    assert done.returncode == 2 and "1 databases could not be looked at" in done.stderr, done  # silence is no good news
    table = cli(daemon, "server", "list").stdout.splitlines()
    assert table[0].split() == ["NAME", "CELL", "STATE", "EXTENSION", "READ", "FINDINGS", "MESSAGE"]
    assert [line.split()[:4] for line in table[1:]] == [["main", "main", "up", "0.2"], ["second", "main", "down", "0.2"]]


# ---- the whole product ----

def test_requests_of_the_shop_are_metered_in_the_database(stack):
    token = stack.user_token("acme")
    no = stack.api("GET", "/v1/tenants/acme").json()["no"]
    before, edge = stack.usage("acme", "db_statements"), stack.usage("acme", "requests")
    for _ in range(20):
        assert stack.request("acme", token=token).status == 200
    wait_for(lambda: stack.usage("acme", "requests") >= edge + 20, "the edge's meters", 15)
    wait_for(lambda: stack.usage("acme", "db_statements") >= before + 20, "the database's meters", 15)
    shown = lambda: {meter: stack.usage("acme", meter) for meter in METERS}
    real = lambda: {**dict.fromkeys(METERS, 0), **{meter: int(value) for meter, value in stack.psql(
        "SELECT meter, value FROM bulkhead.usage WHERE no = %s", no)}}
    wait_for(lambda: shown() == real(), "all meters are the same", 15)
    assert shown()["db_rows"] > 0 and shown()["db_blocks_hit"] > 0


def test_an_attack_through_the_pooler_is_listed_within_seconds(stack):
    globex = stack.api("GET", "/v1/tenants/globex").json()["no"]
    words = next(line.split(":") for line in (stack.state / "pgpass").read_text().splitlines()
                 if line.split(":")[1] == str(stack.ports["pgbouncer"]) and line.split(":")[3] == "bulkhead_pool")
    with Wire(stack.ports["pgbouncer"], "bulkhead_pool", words[4], "shared1") as wire:
        answer = wire.pipeline([(ENTER, [stack.job_token("acme")]), (f"SELECT * FROM t{globex}.orders", [])])
    assert answer.code == "42501"
    listed = lambda: [i for i in stack.api("GET", "/v1/audit?tenant=acme&code=42501").json()["items"]
                      if f"t{globex}" in i["object"]]
    wait_for(listed, "the refusal is listed", 10)
    row, = listed()
    assert (row["subject"], row["database"], row["count"]) == ("operator", "shared1", 1)
    assert stack.api("GET", "/v1/audit?tenant=globex").json()["items"] == []
    done = stack.cli("audit", "list", "--tenant", "acme")
    assert done.returncode == 0 and f"t{globex}" in done.stdout


def test_status_shows_that_something_drifted(stack):
    assert "selfcheck:" not in stack.cli("status").stdout
    stack.psql("GRANT EXECUTE ON FUNCTION pg_notify(text, text) TO PUBLIC")
    try:
        assert stack.cli("selfcheck", "--now").returncode == 2
        assert re.search(r"^selfcheck: 1 findings; see: \S+ selfcheck$", stack.cli("status").stdout, re.M)
    finally:
        stack.psql("REVOKE EXECUTE ON FUNCTION pg_notify(text, text) FROM PUBLIC")
    assert stack.cli("selfcheck", "--now").returncode == 0
    assert "selfcheck:" not in stack.cli("status").stdout
