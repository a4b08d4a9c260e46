"""bulkhead.fence(): the epoch is durable, older transactions end, nobody else is touched."""
import os
import signal
import threading
import time

import pgserver
import pytest
from database import ENTER, SECRETS, as_tenant, assert_clean, pool, server, token, wire  # noqa: F401
from pgwire import Wire

FENCE = "CALL bulkhead.fence(%s, %s, %s)"


def epoch(server, no=42):
    return server.sql("SELECT epoch FROM bulkhead.tenant WHERE no = %s", [no])[0][0]


@pytest.fixture(autouse=True)
def reset(server):
    yield
    server.sql("UPDATE bulkhead.tenant SET epoch = 1")


def fence(server, no, to, deadline="5s"):
    """Seconds that it took."""
    began = time.monotonic()
    server.sql(FENCE, (no, to, deadline))
    return time.monotonic() - began


def begun(server, wire, tenant="acme", /, **claims):
    wire.query("BEGIN")
    answer = as_tenant(wire, server, ["INSERT INTO notes (body) VALUES ('fenced')"], tenant, **claims)
    assert answer.code is None, answer.errors


def written(server, no=42):
    return server.sql(f"SELECT count(*) FROM t{no}.notes WHERE body = 'fenced'")[0][0]


def test_it_refuses_older_tokens_and_survives_a_crash(server, wire):
    assert fence(server, 42, 2) < 1
    assert epoch(server) == 2
    assert as_tenant(wire, server, ["SELECT 1"]).code == "TN002"
    assert as_tenant(wire, server, ["SELECT 1"], ver=2).code is None
    assert as_tenant(wire, server, ["SELECT 1"], "globex").code is None
    server.stop("immediate")
    server.start()
    with pool(server) as fresh:
        assert as_tenant(fresh, server, ["SELECT 1"]).code == "TN002"
        assert as_tenant(fresh, server, ["SELECT 1"], ver=2).code is None
    assert epoch(server) == 2


def test_it_can_be_repeated_and_never_lowers(server):
    for _ in range(3):
        fence(server, 42, 5)
    for wrong in (4, 0, -1):
        with pytest.raises(Exception, match="tenant 42 has epoch 5 already"):
            fence(server, 42, wrong)
    assert epoch(server) == 5


def test_it_waits_for_an_older_transaction_to_end(server, wire):
    begun(server, wire)
    took = []
    thread = threading.Thread(target=lambda: took.append(fence(server, 42, 2, "20s")))
    thread.start()
    time.sleep(0.7)
    assert thread.is_alive() and epoch(server) == 2  # committed before the wait
    with pool(server) as newer:
        begun(server, newer, ver=2)
        assert wire.query("SELECT 1 FROM notes").code == "TN002"  # it ends here
        thread.join(10)
        assert not thread.is_alive() and 0.6 < took[0] < 5
        assert newer.query("SELECT 1 FROM notes").code is None  # the newer one was not waited for
        newer.query("ROLLBACK")
    wire.query("ROLLBACK")
    assert written(server) == 0
    assert_fresh(server)


def assert_fresh(server):
    with pool(server) as fresh:
        assert as_tenant(fresh, server, ["SELECT body FROM notes WHERE id = 1"], ver=epoch(server)).rows[1] == [[SECRETS["acme"]]]


def test_at_the_deadline_older_connections_end_and_only_they(server, wire):
    """Idle, at work and waiting for a lock; the other tenant, the newer epoch and unbound connections stay."""
    with pool(server) as idle, pool(server) as busy, pool(server) as waiter, pool(server) as other, pool(server) as newer:
        begun(server, idle)
        idle.query("UPDATE notes SET body = body WHERE id = 1")
        begun(server, other, "globex")
        for wire_, text in ((busy, "DO $$BEGIN LOOP BEGIN PERFORM pg_sleep(60); EXCEPTION WHEN query_canceled THEN END; END LOOP; END$$"),
                            (waiter, "UPDATE notes SET body = body WHERE id = 1")):
            begun(server, wire_)
            wire_.put(b"Q", text.encode() + b"\0")
            wire_.flush()
        assert as_tenant(wire, server, ["SELECT 1"]).code is None  # was bound, is not
        server.sql("UPDATE bulkhead.tenant SET epoch = 2 WHERE no = 42")
        begun(server, newer, ver=2)
        assert 0.4 < fence(server, 42, 2, "0.5s") < 5
        for gone in (idle, busy, waiter):
            with pytest.raises((ConnectionError, EOFError, OSError)):
                for _ in range(5):  # the waiter may get the lock of who ended before it, and answer once more
                    gone.sync()
        assert other.query("COMMIT").code is None
        assert newer.query("COMMIT").code is None
        assert wire.query("SELECT 1").code is None
    assert written(server) == 1 and written(server, 43) == 1
    server.sql("DELETE FROM t42.notes WHERE body = 'fenced'; DELETE FROM t43.notes WHERE body = 'fenced'")


def test_a_connection_that_does_not_end_is_an_error(server, wire):
    begun(server, wire)
    os.kill(wire.pid, signal.SIGSTOP)
    try:
        with pytest.raises(Exception, match="tenant 42 still has transactions of an older epoch"):
            fence(server, 42, 2, "0.1s")
        assert epoch(server) == 2
    finally:
        os.kill(wire.pid, signal.SIGCONT)
    assert fence(server, 42, 2) < 3
    assert written(server) == 0


def test_another_database_with_the_same_number_is_not_touched(server, wire):
    server.make_database("shared2")
    server.sql("GRANT USAGE ON SCHEMA public TO bh_t42; CREATE TABLE public.notes (body text); GRANT SELECT ON notes TO bh_t42;"
               "INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (42, 'acme', 'bh_t42', 'public', 'active')", database="shared2")
    with pool(server, database="shared2") as other:
        other.query("BEGIN")
        assert other.pipeline([(ENTER, [server.token(42, "acme", "shared2")]), ("SELECT 1 FROM notes", [])]).code is None
        assert fence(server, 42, 2, "0s") < 1
        assert other.query("SELECT 1 FROM notes").code is None


def test_prepared_while_entering(server):
    """enter() in a storm while fences rise: nobody with an older epoch commits after its fence returned."""
    stop, broken = threading.Event(), []
    floor = [1]

    def client():
        with pool(server) as it:
            while not stop.is_set():
                before = floor[0]
                ver = before
                it.query("BEGIN")
                code = as_tenant(it, server, ["INSERT INTO notes (body) VALUES ('storm')"], ver=ver).code
                low = floor[0]
                ended = it.query("COMMIT")
                # The fence to `low` had returned before COMMIT was sent: an older epoch cannot have committed.
                if code is None and ended.code is None and ended.tags[-1:] == ["COMMIT"] and ver < low:
                    broken.append((ver, low))

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    for to in range(2, 40):
        fence(server, 42, to)
        floor[0] = to
    stop.set()
    for thread in threads:
        thread.join(10)
    assert broken == []
    assert server.sql("DELETE FROM t42.notes WHERE body = 'storm' RETURNING 1")  # positive control: some did commit


def test_who_may_call_it_and_where(server, wire):
    call = "CALL bulkhead.fence(42, 2)"
    assert wire.query(call).code in ("TN001", "42501")
    assert as_tenant(wire, server, [call]).code == "42501"
    number = server.sql("SELECT 'bulkhead.fence(int,int,interval)'::regprocedure::oid::int")[0][0]
    wire.query("BEGIN")
    as_tenant(wire, server, ["SELECT 1"])
    assert wire.call(number, 42, 2, "5s").code == "0A000"
    wire.query("ROLLBACK")
    with Wire(server.port, "postgres", "admin-secret", "shared1") as admin:
        for text in (f"BEGIN; {call}", f"SELECT 1; {call}", f"DO $$BEGIN SET LOCAL work_mem = '1MB'; {call}; END$$; COMMIT"):
            if text.startswith("DO"):
                admin.query("BEGIN")
            assert admin.query(text).code == "2D000", text
            admin.query("ROLLBACK")
        for text, code in (("CALL bulkhead.fence(NULL, 2)", "22004"), ("CALL bulkhead.fence(42, 2, NULL)", "22004"),
                           ("CALL bulkhead.fence(99, 2)", "P0002"), ("CALL bulkhead.fence(42, 2, '-1s')", "22023"),
                           ("CALL bulkhead.fence(42, 2, '2h')", "22023"), ("SELECT bulkhead.fence(42, 2)", "42809")):
            assert admin.query(text).code == code, text
        assert epoch(server) == 1
        assert admin.query(call).code is None and epoch(server) == 2
        assert admin.query("DO $$BEGIN CALL bulkhead.fence(42, 3); END$$").code is None and epoch(server) == 3
    assert wire.query("SELECT 1").code is None


def test_a_change_that_is_being_committed(server, wire):
    """Between the announcement of a writer and the end of its commit readers ask the table; then it counts at once."""
    server.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
    server.reload()
    try:
        writer = server.connect()
        writer.autocommit = True
        done = []

        def suspend():
            with writer.cursor() as cursor:
                cursor.execute("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42")
            done.append(True)

        thread = threading.Thread(target=suspend)
        thread.start()
        pgserver.wait_for(lambda: server.sql("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == [(1,)], "its commit waits for a standby")
        for _ in range(3):
            for tenant in ("acme", "globex"):
                assert as_tenant(wire, server, ["SELECT 1"], tenant).code is None, "not acknowledged yet"
        server.sql("ALTER SYSTEM RESET synchronous_standby_names")
        server.reload()
        thread.join(20)
        assert done
        assert as_tenant(wire, server, ["SELECT 1"]).code == "TN003", "acknowledged"
        assert as_tenant(wire, server, ["SELECT 1"], "globex").code is None
        # a writer that dies on its way announces nothing for ever: the cache works again
        writer.close()
        server.sql("UPDATE bulkhead.tenant SET state = 'active' WHERE no = 42")
        assert as_tenant(wire, server, ["SELECT 1"]).code is None
    finally:
        server.sql("ALTER SYSTEM RESET synchronous_standby_names")
        server.reload()
        server.sql("UPDATE bulkhead.tenant SET state = 'active' WHERE no = 42")
