"""What a tenant used: sums that nothing doubles and nothing loses, through errors, cursors, workers, kills and restarts."""
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pgserver
import pytest
from database import ENTER, NUMBERS, as_tenant, check_log, pool, server, token, wire  # noqa: F401
from pgserver import wait_for
from pgwire import Wire

FAILS = "SELECT 1 / generate_series(0, 0)"
METERS = ["db_statements", "db_rows", "db_active_us", "db_blocks_hit", "db_blocks_read", "db_blocks_dirtied",
          "db_temp_bytes", "db_wal_bytes", "db_errors"]


def usage(server, no=42):
    rows = dict(server.sql("SELECT meter, value FROM bulkhead.usage WHERE no = %s", (no,)))
    assert list(rows) in ([], METERS)
    return {meter: rows.get(meter, 0) for meter in METERS}


def epoch(server):
    rows = server.sql("SELECT DISTINCT source, file_epoch FROM bulkhead.usage")
    assert len(rows) == 1
    return rows[0]


def gone(server, wire):
    """Close the connection; its process has flushed and left."""
    wire.socket.close()
    wait_for(lambda: server.sql("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", (wire.pid,)) == [(0,)], "it does not leave")


class Measured:
    """with Measured(server) as it: …  it.used is what the tenant used inside, by one connection it.wire that then left."""

    def __init__(self, server, no=42):
        self.server, self.no = server, no

    def __enter__(self):
        self.before, self.wire = usage(self.server, self.no), pool(self.server)
        return self

    def __exit__(self, kind, error, trace):
        gone(self.server, self.wire)
        self.used = {meter: value - self.before[meter] for meter, value in usage(self.server, self.no).items()}

    def run(self, *statements, **claims):
        answer = as_tenant(self.wire, self.server, list(statements), **claims)
        assert answer.code is None, answer.errors
        return answer

    def flushed(self, statements):
        """Usage after so many statements. A long one is added in parts, so one more tells that they all are; it uses no block."""
        self.run("SELECT 1")
        wait_for(lambda: usage(self.server, self.no)["db_statements"] == self.before["db_statements"] + statements + 1, "not flushed")
        return usage(self.server, self.no)

    def counts(self):
        return self.used["db_statements"], self.used["db_rows"], self.used["db_errors"]


@pytest.fixture(scope="module", autouse=True)
def tables(server):
    server.sql("""
        SET ROLE bh_o42;
        CREATE TABLE t42.big (id int PRIMARY KEY, v int, pad text);
        INSERT INTO t42.big SELECT n, n % 100, repeat('x', 200) FROM generate_series(1, 20000) n;
        CREATE TABLE t42.plain (v int);
        GRANT SELECT, INSERT, UPDATE, DELETE ON t42.big, t42.plain TO bh_t42;
        CREATE FUNCTION t42.nested(n int) RETURNS int LANGUAGE plpgsql AS $$
            DECLARE total int := 0; BEGIN
                FOR i IN 1..n LOOP total := total + (SELECT count(*) FROM big WHERE v = i); END LOOP;
                BEGIN PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN NULL; END;
                RETURN total; END $$;
        CREATE FUNCTION t42.slow_trigger() RETURNS trigger LANGUAGE plpgsql AS $$
            DECLARE x int := 0; BEGIN FOR i IN 1..300000 LOOP x := x + 1; END LOOP; RETURN NULL; END $$;
        CREATE TABLE t42.deferred (v int);
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t42.deferred DEFERRABLE INITIALLY DEFERRED
            FOR EACH ROW EXECUTE FUNCTION t42.slow_trigger();
        GRANT SELECT, INSERT ON t42.deferred TO bh_t42;
        RESET ROLE""")
    server.sql("VACUUM (ANALYZE, FREEZE) t42.big")


EXPLAINED = {
    "shared_hit": ("Shared Hit Blocks", "db_blocks_hit", 1), "shared_read": ("Shared Read Blocks", "db_blocks_read", 1),
    "dirtied": ("Shared Dirtied Blocks", "db_blocks_dirtied", 1), "temp": ("Temp Written Blocks", "db_temp_bytes", 8192),
    "wal": ("WAL Bytes", "db_wal_bytes", 1)}


def explained(answer):
    """What EXPLAIN itself says that it used: planning and execution."""
    document = json.loads(answer.rows[-1][0][0])[0]
    parts = [document["Plan"], document.get("Planning", {})]
    return {meter: sum(part.get(name, 0) for part in parts) * unit for name, meter, unit in EXPLAINED.values()}


STATEMENTS = {
    "point select": "SELECT v FROM big WHERE id = 7",
    "scan": "SELECT count(*), max(pad) FROM big",
    "sort on disk": "SELECT id FROM big ORDER BY pad || id",
    "nested": "SELECT nested(3)",
    "insert": "INSERT INTO plain SELECT generate_series(1, 500)",
    "update": "UPDATE big SET v = v + 1 WHERE id <= 300",
    "modifying WITH": "WITH gone AS (DELETE FROM plain WHERE v = (SELECT min(v) FROM plain) RETURNING v) SELECT count(*) FROM gone",
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_sums_equal_explain(server, name):
    text = STATEMENTS[name]
    small = "SET LOCAL work_mem = 64"
    with pool(server) as first:
        as_tenant(first, server, [small, text])  # hint bits, first use of pages
    with Measured(server) as it:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {text}"
        it.run(small, explain)  # fills the caches of this backend
        middle = it.flushed(2)
        answer = it.run(small, explain)
    told = explained(answer)
    used = {meter: usage(server)[meter] - middle[meter] for meter in told}
    assert used == told
    assert told["db_blocks_hit"] > 0
    assert (told["db_temp_bytes"] > 0) == (name == "sort on disk")
    assert (told["db_wal_bytes"] > 0) == (name in ("insert", "update", "modifying WITH"))


@pytest.mark.parametrize("name", ["point select", "scan", "sort on disk", "nested"])
def test_the_statement_itself_costs_what_explain_says(server, name):
    text, small = STATEMENTS[name], "SET LOCAL work_mem = 64"
    with Measured(server) as it:
        for _ in range(2):
            told = explained(it.run(small, f"EXPLAIN (ANALYZE, BUFFERS, WAL, FORMAT JSON) {text}"))
        it.run(small, text)
        middle = it.flushed(6)
        it.run(small, text)
    used = {meter: usage(server)[meter] - middle[meter] for meter in told}
    assert used == told


def test_statements_rows_and_errors(server):
    with Measured(server) as it:
        it.run("SELECT * FROM big WHERE id <= 30", "UPDATE big SET v = v WHERE id <= 4", "SELECT nested(2)")
    assert it.counts() == (3, 35, 0)
    assert it.used["db_active_us"] > 0
    with Measured(server) as it:  # caught inside: no error; two that were not
        assert as_tenant(it.wire, server, ["SELECT nested(1)", FAILS]).code == "22012"
        assert as_tenant(it.wire, server, ["SELEC"]).code == "42601"
    assert it.counts() == (2, 1, 2)
    with Measured(server) as it:  # failed before it began
        assert as_tenant(it.wire, server, ["SELECT 1 / 0"]).code == "22012"
    assert it.counts() == (0, 0, 1)
    with Measured(server) as it:  # the platform's own are not the tenant's: enter(), and what no tenant is bound to
        it.run()
        assert it.wire.query("SELECT 1").code is None
        assert it.wire.query("SELECT * FROM notes").code is not None
    assert it.counts() == (0, 0, 0)


def test_transaction_control_is_no_statement_and_a_rollback_no_error(server):
    with Measured(server) as it:
        enter = (ENTER, [token(server)])
        for statements in (["SELECT 1", "COMMIT"], ["SELECT 1", "ROLLBACK"], ["SAVEPOINT s", "SELECT 1", "ROLLBACK TO s", "COMMIT"]):
            for text, values in [("BEGIN", []), enter] + [(text, []) for text in statements]:
                assert it.wire.pipeline([(text, values)]).code is None
    assert it.counts() == (3, 3, 0)
    with Measured(server) as it:
        for text, values, code in [("BEGIN", [], None), enter + (None,), ("SAVEPOINT s", [], None), (FAILS, [], "22012"),
                                   ("ROLLBACK TO s", [], None), ("SELECT 1", [], None), (FAILS, [], "22012"), ("ROLLBACK", [], None)]:
            assert it.wire.pipeline([(text, values)]).code == code, text
    assert it.counts() == (3, 1, 2)


def test_portals_and_cursors_read_in_parts(server):
    with Measured(server) as it:
        it.wire.step(ENTER, [token(server)])
        it.wire.parse("SELECT id FROM big WHERE id <= 25")
        it.wire.bind([])
        for _ in range(3):
            it.wire.execute(limit=10)
        answer = it.wire.sync()
        assert answer.code is None and [len(rows) for rows in answer.rows[1:]] == [10, 10, 5]
    assert it.counts() == (1, 25, 0)
    with Measured(server) as it:
        for text, values in [("BEGIN", []), (ENTER, [token(server)])] + [(text, []) for text in (
                "DECLARE c CURSOR FOR SELECT id FROM big WHERE id <= 25", "FETCH 10 FROM c", "FETCH 10 FROM c", "MOVE 2 FROM c",
                "FETCH ALL FROM c", "COMMIT")]:
            assert it.wire.pipeline([(text, values)]).code is None, text
    assert it.counts() == (5, 23, 0)


def test_copy(server):
    with Measured(server) as it:
        it.run("COPY (SELECT id FROM big WHERE id <= 40) TO STDOUT")
    assert it.counts() == (1, 40, 0)
    connection = server.connect("bulkhead_pool")
    before = usage(server)
    with connection.cursor() as cursor:
        class Slow:  # the client thinks for 0.4 s
            lines = [f"{n}\n".encode() for n in range(20)]

            def read(self, size):
                threading.Event().wait(0.02)
                return self.lines.pop() if self.lines else b""

        server.sql("ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on")
        connection.rollback()
        connection.close()
        connection = server.connect("bulkhead_pool")
        with connection.cursor() as cursor:
            cursor.execute("SELECT bulkhead.enter(%s)", (token(server),))
            cursor.copy_expert("COPY plain FROM STDIN", Slow())
        connection.commit()
        server.sql("ALTER ROLE bulkhead_pool RESET bulkhead.literal_token")
    connection.close()
    wait_for(lambda: usage(server)["db_rows"] == before["db_rows"] + 20, "COPY's rows are missing")
    after = usage(server)
    assert after["db_statements"] == before["db_statements"] + 1
    assert after["db_active_us"] - before["db_active_us"] < 300000


def test_client_think_time_is_nobodys(server):
    with Measured(server) as it:
        for text, values in [("BEGIN", []), (ENTER, [token(server)]), ("SELECT 1", [])]:
            it.wire.pipeline([(text, values)])
        threading.Event().wait(0.4)
        it.wire.pipeline([("SELECT 1", [])])
        it.wire.pipeline([("COMMIT", [])])
    assert 0 < it.used["db_active_us"] < 300000


def test_work_at_the_end_of_the_transaction_counts(server):
    with Measured(server) as it:
        it.run("INSERT INTO deferred VALUES (1)")
    once = it.used["db_active_us"]
    with Measured(server) as it:
        it.run("INSERT INTO deferred SELECT generate_series(1, 10)")
    assert it.counts() == (1, 10, 0)
    assert it.used["db_active_us"] > 4 * once > 0


def test_an_idle_backend_has_flushed(server, wire):
    before = usage(server)
    answer = as_tenant(wire, server, ["SELECT 1"])
    assert answer.code is None
    wait_for(lambda: usage(server)["db_statements"] == before["db_statements"] + 1, "an idle backend keeps its sums")
    wire.pipeline([("BEGIN", [])])
    wire.pipeline([(ENTER, [token(server)])])
    assert wire.pipeline([("SELECT 1", [])]).code is None
    wait_for(lambda: usage(server)["db_statements"] == before["db_statements"] + 2, "a backend idle in transaction keeps its sums")
    assert wire.pipeline([(FAILS, [])]).code == "22012"  # PostgreSQL stops its timers
    wait_for(lambda: usage(server)["db_errors"] == before["db_errors"] + 1, "an error keeps the sums back")
    wire.pipeline([("ROLLBACK", [])])


def test_a_long_statement_counts_while_it_runs(server, wire):
    before = usage(server)
    wire.step(ENTER, [token(server)])
    wire.step("SELECT pg_sleep(30)", [])
    wire.put(b"S", b"")
    wire.flush()
    wait_for(lambda: usage(server)["db_active_us"] - before["db_active_us"] > 300000, "it is not counted while it runs")
    os.kill(wire.pid, signal.SIGTERM)
    wait_for(lambda: usage(server)["db_errors"] == before["db_errors"] + 1, "the end by SIGTERM is no error")
    after = usage(server)
    assert after["db_statements"] == before["db_statements"] + 1
    assert 300000 < after["db_active_us"] - before["db_active_us"] < 20000000


def test_parallel_workers_count(server):
    parallel = ["SET LOCAL parallel_setup_cost = 0", "SET LOCAL parallel_tuple_cost = 0", "SET LOCAL min_parallel_table_scan_size = 0",
                "SET LOCAL parallel_leader_participation = off"]
    text = "SELECT sum(length(md5(pad || n))) FROM big, generate_series(1, 20) n"
    with Measured(server) as it:
        document = explained_plan(it.run(*parallel, f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {text}"))
    workers = sum(node.get("Workers Launched", 0) for node in nodes(document["Plan"]))
    assert workers >= 1
    assert it.used["db_blocks_hit"] + it.used["db_blocks_read"] >= document["Plan"]["Shared Hit Blocks"] + document["Plan"]["Shared Read Blocks"]
    with Measured(server) as it:
        start = time.monotonic()
        it.run(*parallel, text)
        waited_us = (time.monotonic() - start) * 1e6
    assert it.counts() == (5, 1, 0)
    # The leader waits for them while they work: with their time on top it is more than passed at the client.
    assert it.used["db_active_us"] > 1.2 * waited_us


def explained_plan(answer):
    return json.loads(answer.rows[-1][0][0])[0]


def nodes(plan):
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def test_fast_path_is_a_statement(server):
    oid, = server.sql("SELECT 'pg_sleep(float8)'::regprocedure::oid")[0]
    with Measured(server) as it:
        for text, values in [("BEGIN", []), (ENTER, [token(server)])]:
            it.wire.pipeline([(text, values)])
        assert it.wire.call(oid, 0.05).code is None
        threading.Event().wait(0.4)
        it.wire.pipeline([("COMMIT", [])])
    assert it.used["db_statements"] == 1
    assert 50000 <= it.used["db_active_us"] < 300000


@pytest.fixture(scope="module")
def own(server):
    """t50 is the database of tenant 50, whose login is bh_t50."""
    server.make_database("t50")
    server.sql(f"""
        CREATE ROLE bh_t50 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'; GRANT CONNECT ON DATABASE t50 TO bh_t50;
        CREATE SCHEMA s AUTHORIZATION bh_t50;
        INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state) VALUES (50, 'initech', 'database', 'bh_t50', 's', 'active');
        SET ROLE bh_t50;
        CREATE TABLE s.t (v int); INSERT INTO s.t SELECT generate_series(1, 1000);
        CREATE PROCEDURE s.commits() LANGUAGE plpgsql AS $$BEGIN
            INSERT INTO s.t VALUES (0); COMMIT; PERFORM pg_sleep(0.2); PERFORM count(*) FROM s.t; ROLLBACK; PERFORM pg_sleep(0.2); END$$""", database="t50")


@pytest.mark.parametrize("text,at_least_us", [("CALL s.commits()", 400000), ("VACUUM s.t", 1), ("CREATE INDEX CONCURRENTLY ON s.t (v)", 1)])
def test_a_statement_that_ends_transactions_counts_to_its_end(server, own, text, at_least_us):
    before = usage(server, 50)
    with Wire(server.port, "bh_t50", pgserver.POOL_PASSWORD, "t50") as it:
        for step in (text, "SELECT 1"):
            answer = it.query(step)
            assert answer.code is None, answer.errors
        gone(server, it)
    used = {meter: value - before[meter] for meter, value in usage(server, 50).items()}
    assert (used["db_statements"], used["db_rows"], used["db_errors"]) == (2, 1, 0)
    assert used["db_active_us"] >= at_least_us and used["db_wal_bytes"] > 0


def test_two_tenants_on_one_connection(server):
    before = usage(server, 43)
    with Measured(server) as it:
        for _ in range(20):
            it.run("SELECT 1")
            assert as_tenant(it.wire, server, ["SELECT 1", "SELECT 1"], "globex").code is None
    assert it.counts() == (20, 20, 0)
    assert usage(server, 43)["db_statements"] == before["db_statements"] + 40


def test_only_a_superuser_reads_it(server, wire):
    server.sql("CREATE ROLE nosy LOGIN PASSWORD 'pool-secret'; GRANT CONNECT ON DATABASE shared1 TO nosy;"
               "GRANT SELECT ON bulkhead.usage TO nosy; GRANT EXECUTE ON FUNCTION bulkhead.usage_read(), bulkhead.shares() TO nosy")
    try:
        with server.connect("nosy") as connection, connection.cursor() as cursor:
            for text in ("SELECT * FROM bulkhead.usage", "SELECT * FROM bulkhead.shares()"):
                with pytest.raises(Exception, match="superuser"):
                    cursor.execute(text)
                connection.rollback()
    finally:
        server.sql("DROP OWNED BY nosy; DROP ROLE nosy")
    assert as_tenant(wire, server, ["SELECT * FROM bulkhead.usage"]).code == "42501"
    assert server.sql("SELECT count(*) > 0 FROM bulkhead.usage") == [(True,)]


CLIENT = """
import random, sys
sys.path.insert(0, sys.argv[1])
import json, pgserver
from pgwire import Wire
port, seed, tokens = int(sys.argv[2]), int(sys.argv[3]), json.loads(sys.argv[4])
chance, counted = random.Random(seed), {}
wires = [Wire(port, "bulkhead_pool", pgserver.POOL_PASSWORD, "shared1") for _ in range(10)]
for _ in range(60):
    for wire in wires:
        no = chance.choice(list(tokens))
        rows, fails = chance.randrange(20), chance.random() < 0.1
        steps = [("SELECT bulkhead.enter($1)", [tokens[no]]), (f"SELECT generate_series(1, {rows})", [])]
        answer = wire.pipeline(steps + ([("SELECT 1 / generate_series(0, 0)", [])] if fails else []))
        assert (answer.code == "22012") == fails, answer.errors
        mine = counted.setdefault(no, [0, 0, 0])
        mine[0] += 1 + fails
        mine[1] += rows
        mine[2] += fails
print(json.dumps(counted))
"""


def many(entries, tenants=30, more=""):
    """A server with tenants 1 … that all have the role bh_t42."""
    it = pgserver.Server(f"bulkhead.usage_entries = {entries}\n{more}")
    try:
        it.make_database("shared1")
        it.make_tenant(42, "acme")
        it.sql("INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state, epoch)"
               f" SELECT n, 'x' || n, 'schema', 'bh_t42', 't42', 'active', 1 FROM generate_series(1000, {999 + tenants}) n")
        yield it
        check_log(it.log.read_text())
    finally:
        it.close()


@pytest.fixture(scope="module")
def crowd():
    yield from many(16, tenants=400, more="max_connections = 120\nmax_worker_processes = 2\nmax_wal_senders = 0")


def tokens_of(server, numbers):
    return {str(no): server.token(no, f"x{no}", use="job", life=3600) for no in numbers}


def clients(server, numbers, processes=10):
    """What ${processes} × 10 connections of these tenants counted."""
    tokens = json.dumps(tokens_of(server, numbers))
    here = os.path.dirname(os.path.abspath(__file__))
    running = [subprocess.Popen([sys.executable, "-c", CLIENT, here, str(server.port), str(seed), tokens], stdout=subprocess.PIPE)
               for seed in range(processes)]
    total = {}
    for it in running:
        out, _ = it.communicate(timeout=300)
        assert it.returncode == 0
        for no, counts in json.loads(out).items():
            total[no] = [a + b for a, b in zip(total.get(no, [0, 0, 0]), counts)]
    return total


def counted(server):
    rows = server.sql("SELECT no::text, array_agg(value ORDER BY array_position(ARRAY['db_statements', 'db_rows', 'db_errors'], meter))"
                      " FROM bulkhead.usage WHERE meter IN ('db_statements', 'db_rows', 'db_errors') GROUP BY no")
    return {no: values for no, values in rows if any(values)}


def expect(server, total):
    wait_for(lambda: counted(server) == total, "the sums are not what the clients counted", 30)


def test_a_hundred_backends_of_thirty_tenants(crowd):
    total = clients(crowd, range(1000, 1030))
    expect(crowd, total)


def test_more_tenants_than_entries_and_restarts(crowd):
    begun = counted(crowd)
    first = epoch(crowd)
    total = clients(crowd, range(1000, 1400), processes=4)
    for no, values in begun.items():
        total[no] = [a + b for a, b in zip(total.get(no, [0, 0, 0]), values)]
    assert len(total) == 400
    expect(crowd, total)
    assert crowd.sql("SELECT count(*) FROM bulkhead.shares()")[0][0] < 200  # in memory; the others are in the file
    crowd.stop()
    crowd.start()
    assert counted(crowd) == total and epoch(crowd) == first
    no = next(iter(total))
    with pool(crowd) as wire:
        assert wire.pipeline([(ENTER, [crowd.token(int(no), f"x{no}")]), ("SELECT 1", [])]).code is None
    total[no] = [total[no][0] + 1, total[no][1] + 1, total[no][2]]
    expect(crowd, total)
    crowd.stop()
    crowd.start()
    assert counted(crowd) == total and epoch(crowd) == first


def test_a_crash_begins_a_new_epoch_at_zero(crowd):
    before = epoch(crowd)
    with pool(crowd) as wire:
        assert wire.pipeline([(ENTER, [crowd.token(1000, "x1000")]), ("SELECT 1", [])]).code is None
        os.kill(wire.pid, signal.SIGKILL)
        wait_for(lambda: "all server processes terminated; reinitializing" in crowd.log.read_text(), "no crash")
    wait_for(lambda: answers(crowd), "it does not come back")
    assert counted(crowd) == {}
    with pool(crowd) as wire:
        assert wire.pipeline([(ENTER, [crowd.token(1000, "x1000")]), ("SELECT 1", [])]).code is None
    expect(crowd, {"1000": [1, 1, 0]})
    after = epoch(crowd)
    assert after[0] == before[0] == "postgres-main" and after[1] > before[1]
    crowd.stop("immediate")
    crowd.start()
    with pool(crowd) as wire:
        assert wire.pipeline([(ENTER, [crowd.token(1001, "x1001")]), ("SELECT 1", [])]).code is None
    expect(crowd, {"1001": [1, 1, 0]})
    assert epoch(crowd)[1] > after[1]


def answers(server):
    try:
        return server.sql("SELECT 1") == [(1,)]
    except Exception:
        return False


def test_base_backups_leave_the_file_out(server):
    standby = server.standby()
    try:
        server.wait_for_standby()
        with pool(server) as wire:
            assert as_tenant(wire, server, ["SELECT 1"]).code is None
        with pool(server, standby.port) as wire:
            assert as_tenant(wire, server, ["SELECT 1", "SELECT 2"]).code is None
        wait_for(lambda: usage(standby)["db_statements"] == 2, "the standby's own statements are missing")
        wait_for(lambda: len(server.sql("SELECT 1 FROM bulkhead.usage LIMIT 1")) == 1, "the primary has none")
        assert epoch(standby)[1] != epoch(server)[1]
    finally:
        standby.close()


def test_a_file_that_fails_fails_the_tenants_that_need_it(crowd):
    path = crowd.data / "pg_stat_tmp/bulkhead_usage"
    with pool(crowd) as wire:
        assert wire.pipeline([(ENTER, [crowd.token(1000, "x1000")]), ("SELECT 1", [])]).code is None
    aside = path.with_suffix(".aside")
    os.rename(path, aside)
    try:
        with pool(crowd) as wire:
            absent = wire.pipeline([(ENTER, [crowd.token(1399, "x1399")]), ("SELECT 1", [])])
            assert absent.code == "58P01" and "bulkhead_usage" in absent.message, absent.errors or absent.rows
            present = wire.pipeline([(ENTER, [crowd.token(1000, "x1000")]), ("SELECT 1", [])])
            assert present.code is None, present.errors
    finally:
        os.rename(aside, path)
    with pool(crowd) as wire:
        assert wire.pipeline([(ENTER, [crowd.token(1399, "x1399")]), ("SELECT 1", [])]).code is None
    wait_for(lambda: counted(crowd).get("1399") == [1, 1, 0], "the failed transaction was counted, or the good one was not")
