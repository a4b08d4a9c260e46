"""A tenant's share: statements at a time, database time, a line that is fair and loses nobody, TN007 with a time to retry."""
import json
import os
import re
import signal
import threading
import time

import pytest
from database import ENTER, as_tenant, assert_clean, pool, server, token, wire  # noqa: F401
from pgserver import wait_for

SLEEP = "SELECT pg_sleep(60)"


@pytest.fixture(autouse=True)
def reset(server):
    yield
    server.sql("UPDATE bulkhead.tenant SET limits = '{}'")
    server.sql("ALTER SYSTEM RESET ALL")
    server.reload()
    forgive(server)


def forgive(server):
    """A transaction without a limit ends debts, and a limit after it begins with a full budget."""
    limit(server)
    with pool(server) as it:
        assert as_tenant(it, server, ["SELECT 1"]).code is None
    assert share(server) == (0, 0, None)


def limit(server, no=42, **values):
    server.sql("UPDATE bulkhead.tenant SET limits = %s WHERE no = %s", (json.dumps(values), no))


def share(server, no=42):
    """(running, waiting, budget in ms)"""
    return next(iter(server.sql("SELECT running, waiting, budget_ms FROM bulkhead.shares() WHERE no = %s", (no,))), (0, 0, None))


def counts(server, running, waiting, no=42):
    wait_for(lambda: share(server, no)[:2] == (running, waiting), f"not {running} running and {waiting} waiting: {share(server, no)}")


def send(wire, server, *statements, tenant="acme"):
    """Without waiting for the answer."""
    wire.step(ENTER, [token(server, tenant)])
    for text in statements:
        wire.step(text, [])
    wire.put(b"S")
    wire.flush()
    return wire


def begin(wire, server, *statements):
    for text, values in [("BEGIN", []), (ENTER, [token(server)])] + [(text, []) for text in statements]:
        assert wire.pipeline([(text, values)]).code is None
    return wire


def ask(wire, text):
    """One message, inside the transaction that is open; without waiting for the answer."""
    wire.put(b"Q", text.encode() + b"\0")
    wire.flush()
    return wire


def cancel(server, wire):
    assert server.sql("SELECT pg_cancel_backend(%s)", (wire.pid,)) == [(True,)]


def retry_ms(answer, name):
    assert answer.code == "TN007", answer.errors or answer.rows
    assert answer.message == f"tenant is over its limit {name}"
    ms = int(re.fullmatch(rf"limit={name} retry_after_ms=([0-9]+)", answer.errors[0]["D"])[1])
    assert f" {ms} ms" in answer.errors[0]["H"] and ms > 0
    return ms


def test_nothing_is_limited_by_default(server):
    wires = [send(pool(server), server, SLEEP) for _ in range(4)]
    wait_for(lambda: server.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == [(4,)], "they do not run at once")
    assert share(server) == (0, 0, None)
    for it in wires:
        cancel(server, it)
        assert it.read().code == "57014"


def test_limits_are_checked_as_they_are_written(server):
    for bad in ({"max_concurrent_statements": -1}, {"database_ms_per_s": "x"}, {"max_wait_ms": 60001}, {"database_burst_ms": 1.5}):
        with pytest.raises(Exception) as caught:
            limit(server, **bad)
        assert caught.value.pgcode == "22023"
    limit(server, max_concurrent_statements=1, database_ms_per_s=None, max_wait_ms=5)


def test_at_most_so_many_at_a_time(server):
    limit(server, max_concurrent_statements=2, max_wait_ms=60000)
    spans, lock = [], threading.Lock()

    def client():
        with pool(server) as it:
            for _ in range(5):
                answer = as_tenant(it, server, ["SELECT extract(epoch FROM clock_timestamp()), pg_sleep(0.01), extract(epoch FROM clock_timestamp())"])
                assert answer.code is None, answer.errors
                with lock:
                    spans.append((float(answer.rows[1][0][0]), float(answer.rows[1][0][2])))

    threads = [threading.Thread(target=client) for _ in range(8)]
    for it in threads:
        it.start()
    for it in threads:
        it.join()
    assert len(spans) == 40
    assert max(sum(a <= start < b for a, b in spans) for start, _ in spans) == 2
    counts(server, 0, 0)


def test_the_line_is_in_order_of_arrival(server):
    limit(server, max_concurrent_statements=1, max_wait_ms=60000)
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    waiting = []
    for n in range(5):
        waiting.append(ask(begin(pool(server), server), "SELECT clock_timestamp()::text"))
        counts(server, 1, n + 1)
    cancel(server, holder)
    times = [it.read().rows[0][0][0] for it in waiting]
    assert times == sorted(times) and len(set(times)) == 5
    counts(server, 0, 0)


def test_over_the_bound_it_fails_and_says_when_to_retry(server, wire):
    limit(server, max_concurrent_statements=1, max_wait_ms=30)
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    retry_ms(as_tenant(wire, server, ["SELECT 1"]), "max_concurrent_statements")
    retry_ms(as_tenant(wire, server, ["DELETE FROM notes WHERE id < 0"]), "max_concurrent_statements")
    counts(server, 1, 0)
    assert as_tenant(wire, server, ["SELECT 1"], "globex").code is None  # others do not notice
    assert wire.pipeline([(ENTER, [token(server)])]).code is None
    cancel(server, holder)
    assert holder.read().code == "57014"
    counts(server, 0, 0)
    assert_clean(wire, server)


def test_the_default_is_the_servers(server, wire):
    server.sql("ALTER SYSTEM SET bulkhead.max_concurrent_statements = 1")
    server.sql("ALTER SYSTEM SET bulkhead.max_wait_ms = 20")
    server.reload()
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    retry_ms(as_tenant(wire, server, ["SELECT 1"]), "max_concurrent_statements")
    limit(server, max_concurrent_statements=2)
    assert as_tenant(wire, server, ["SELECT 1"]).code is None
    cancel(server, holder)


def test_an_idle_transaction_does_not_count(server, wire):
    limit(server, max_concurrent_statements=1, max_wait_ms=20)
    idle = begin(pool(server), server, "SELECT 1")
    assert as_tenant(wire, server, ["SELECT 1"]).code is None
    assert idle.pipeline([("SELECT 1", [])]).code is None
    assert share(server)[:2] == (0, 0)


def test_a_transaction_on_its_way_goes_first(server):
    limit(server, max_concurrent_statements=1, max_wait_ms=60000)
    started = begin(pool(server), server, "SELECT 1")
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    fresh = ask(begin(pool(server), server), "SELECT clock_timestamp()::text")
    counts(server, 1, 1)
    ask(started, "SELECT clock_timestamp()::text")
    counts(server, 1, 2)
    cancel(server, holder)
    assert started.read().rows[0][0][0] < fresh.read().rows[0][0][0]


def test_nobody_waits_where_nobody_runs(server):
    """The first in line was called but does not come: who goes before it anyway does not wait for it."""
    limit(server, max_concurrent_statements=1, max_wait_ms=60000)
    started = begin(pool(server), server, "SELECT 1")
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    fresh = send(pool(server), server, "SELECT 'fresh'")
    counts(server, 1, 1)
    os.kill(fresh.pid, signal.SIGSTOP)
    try:
        cancel(server, holder)
        counts(server, 0, 1)
        assert started.pipeline([("SELECT 1", [])]).code is None
    finally:
        os.kill(fresh.pid, signal.SIGCONT)
    assert fresh.read().rows[1] == [["fresh"]]
    counts(server, 0, 0)


def test_a_tenant_that_blocks_itself_does_so_up_to_the_bound(server):
    limit(server, max_concurrent_statements=1, max_wait_ms=200)
    owner = begin(pool(server), server, "UPDATE notes SET body = body WHERE id = 1")
    blocked = send(pool(server), server, "UPDATE notes SET body = body WHERE id = 1 RETURNING id")
    wait_for(lambda: server.sql("SELECT count(*) FROM pg_locks WHERE NOT granted") == [(1,)], "it does not wait for the row")
    retry_ms(owner.pipeline([("SELECT 1", [])]), "max_concurrent_statements")
    assert blocked.read().rows[1] == [["1"]]  # the owner's error has released the row
    assert owner.pipeline([("ROLLBACK", [])]).code is None
    counts(server, 0, 0)


def test_after_an_error_in_a_savepoint_it_goes_on(server):
    limit(server, max_concurrent_statements=1, max_wait_ms=20)
    it = begin(pool(server), server, "SELECT 1", "SAVEPOINT s")
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    retry_ms(it.pipeline([("SELECT 1", [])]), "max_concurrent_statements")
    assert it.pipeline([("ROLLBACK TO s", [])]).code is None
    cancel(server, holder)
    counts(server, 0, 0)
    assert it.pipeline([("SELECT 1", [])]).code is None
    assert it.pipeline([("COMMIT", [])]).code is None


@pytest.mark.parametrize("how", ["cancel", "statement_timeout", "terminate"])
def test_who_waits_can_be_stopped(server, how):
    more = {"statement_timeout": 100} if how == "statement_timeout" else {}
    limit(server, max_concurrent_statements=1, max_wait_ms=60000)
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    limit(server, max_concurrent_statements=1, max_wait_ms=60000, **more)
    first, second = pool(server), pool(server)
    if more:  # the time of a statement begins before enter() sets it: the next one has it
        begin(first, server)
        ask(first, "SELECT 1")
    else:
        send(first, server, "SELECT 1")
        counts(server, 1, 1)
        send(second, server, "SELECT 'second'")
        counts(server, 1, 2)
        if how == "cancel":
            cancel(server, first)
        else:
            os.kill(first.pid, signal.SIGTERM)
    assert first.read().code == ("57P01" if how == "terminate" else "57014")
    counts(server, 1, 0 if more else 1)
    cancel(server, holder)
    if not more:
        assert second.read().rows[1] == [["second"]]
    counts(server, 0, 0)


def test_sigterm_of_who_runs_gives_the_place_to_the_next(server):
    limit(server, max_concurrent_statements=1, max_wait_ms=60000)
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    waiter = send(pool(server), server, "SELECT 1")
    counts(server, 1, 1)
    os.kill(holder.pid, signal.SIGTERM)
    assert waiter.read().code is None
    counts(server, 0, 0)


def test_database_time(server, wire):
    limit(server, database_ms_per_s=500, database_burst_ms=100, max_wait_ms=0)
    assert as_tenant(wire, server, ["SELECT pg_sleep(0.3)"]).code is None  # in debt now
    ms = retry_ms(as_tenant(wire, server, ["SELECT 1"]), "database_ms_per_s")
    assert as_tenant(wire, server, ["SELECT 1"], "globex").code is None
    time.sleep(ms / 1000)
    assert as_tenant(wire, server, ["SELECT 1"]).code is None
    limit(server, database_ms_per_s=500, database_burst_ms=100, max_wait_ms=60000)
    assert as_tenant(wire, server, ["SELECT pg_sleep(0.3)"]).code is None
    assert as_tenant(wire, server, ["SELECT 1"]).code is None  # it waited
    assert_clean(wire, server)


def test_budget_falls_by_the_time_that_was_used(server, wire):
    limit(server, database_ms_per_s=1, database_burst_ms=60000)
    assert as_tenant(wire, server, ["SELECT 1"]).code is None

    def used():
        return server.sql("SELECT value FROM bulkhead.usage WHERE no = 42 AND meter = 'db_active_us'")[0][0] / 1000

    level, active, begun = share(server)[2], used(), time.monotonic()
    texts = ["SELECT count(*), pg_sleep(0.02) FROM notes", "DO $$BEGIN PERFORM pg_sleep(0.05); END$$", "SELECT sum(n) FROM generate_series(1, 300000) n"]
    for text in texts * 3:
        assert as_tenant(wire, server, [text]).code is None
    fell, used_ms, flowed_ms = level - share(server)[2], used() - active, (time.monotonic() - begun) + 3
    assert used_ms > 200
    assert used_ms - flowed_ms <= fell <= used_ms + 3


def test_a_long_statement_is_charged_while_it_runs_and_debt_is_bounded(server, wire):
    limit(server, database_ms_per_s=1, database_burst_ms=100, database_debt_ms=400, max_wait_ms=0)
    runner = send(pool(server), server, SLEEP)
    wait_for(lambda: share(server)[2] is not None and share(server)[2] < 0, "it is not charged while it runs")
    retry_ms(as_tenant(wire, server, ["SELECT 1"]), "database_ms_per_s")
    wait_for(lambda: share(server)[2] <= -395, "debt does not grow")
    cancel(server, runner)
    assert runner.read().code == "57014"
    assert share(server)[2] >= -400


@pytest.mark.parametrize("what", ["plan", "simple", "function", "copy", "cursor"])
def test_no_way_around_the_budget(server, wire, what):
    limit(server, database_ms_per_s=1, database_burst_ms=50, max_wait_ms=0)
    if what == "simple":  # two statements in one message
        server.sql("ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on")
        try:
            with pool(server) as it:
                answer = it.query(f"BEGIN; SELECT bulkhead.enter('{token(server)}'); SELECT pg_sleep(0.1); SELECT 7; COMMIT")
        finally:
            server.sql("ALTER ROLE bulkhead_pool RESET bulkhead.literal_token")
        retry_ms(answer, "database_ms_per_s")
        assert [["7"]] not in answer.rows
        return
    it = begin(pool(server), server, "DECLARE c CURSOR FOR SELECT generate_series(1, 100)", "FETCH 1 FROM c", "SELECT pg_sleep(0.2)")
    if what == "plan":
        it.parse("SELECT $1::int + 1")
        it.bind([1])
        answer = it.sync()
    elif what == "function":
        answer = it.call(server.sql("SELECT 'pg_backend_pid()'::regprocedure::oid::int")[0][0])
    else:
        answer = it.pipeline([({"copy": "COPY notes TO STDOUT", "cursor": "FETCH 1 FROM c"}[what], [])])
    retry_ms(answer, "database_ms_per_s")
    assert it.pipeline([("ROLLBACK", [])]).code is None


def test_the_end_of_a_transaction_is_not_held_up(server, wire):
    server.sql("""
        SET ROLE bh_o42; CREATE TABLE IF NOT EXISTS t42.late (v int); GRANT INSERT ON t42.late TO bh_t42;
        CREATE OR REPLACE FUNCTION t42.late() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN PERFORM pg_sleep(0.1); PERFORM count(*) FROM t42.notes; RETURN NULL; END $$;
        DROP TRIGGER IF EXISTS late ON t42.late;
        CREATE CONSTRAINT TRIGGER late AFTER INSERT ON t42.late DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t42.late()""")
    limit(server, database_ms_per_s=1, database_burst_ms=50, max_wait_ms=0)
    assert as_tenant(wire, server, ["INSERT INTO late VALUES (1), (2)"]).code is None  # by Sync
    assert share(server)[2] < 0  # but charged
    forgive(server)
    limit(server, database_ms_per_s=1, database_burst_ms=50, max_wait_ms=0)
    it = begin(pool(server), server, "INSERT INTO late VALUES (1), (2)")
    assert it.pipeline([("COMMIT", [])]).code is None
    retry_ms(as_tenant(wire, server, ["SELECT 1"]), "database_ms_per_s")


def test_a_crash_leaves_no_count(server):
    limit(server, max_concurrent_statements=1, max_wait_ms=60000)
    holder = send(pool(server), server, SLEEP)
    counts(server, 1, 0)
    waiter = send(pool(server), server, "SELECT 1")
    counts(server, 1, 1)
    before = server.log.read_text().count("database system is ready")
    os.kill(holder.pid, signal.SIGKILL)
    wait_for(lambda: server.log.read_text().count("database system is ready") == before + 1, "it does not come back")
    assert waiter.pid
    with pool(server) as it:
        assert as_tenant(it, server, ["SELECT 1"]).code is None
    counts(server, 0, 0)
