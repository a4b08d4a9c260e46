"""State, epoch and keys change; backends and the server die: what enter() and running transactions do then."""
import os
import signal
import threading
import time

import bhtoken
import pgserver
import pytest
from database import ENTER, SECRETS, as_tenant, assert_clean, pool, server, token, wire  # noqa: F401

WINDOW = (0, 4102444800)
CODES = {"pending": "TN003", "suspended": "TN003", "moving": "TN004", "failed": "TN003", "offboarding": "TN003", "gone": "TN003"}


def set_state(server, state, no=42):
    server.sql("UPDATE bulkhead.tenant SET state = %s WHERE no = %s", (state, no))


def entered(wire, server, tenant="acme", **claims):
    return as_tenant(wire, server, ["SELECT body FROM notes WHERE id = 1"], tenant, **claims)


@pytest.mark.parametrize("state", CODES)
def test_state_counts_at_once(server, wire, state):
    assert entered(wire, server).code is None
    set_state(server, state)
    assert entered(wire, server).code == CODES[state]
    assert entered(wire, server, "globex").code is None
    set_state(server, "active")
    assert entered(wire, server).code is None
    assert_clean(wire, server)


def test_epoch_counts_at_once_also_inside_a_transaction(server, wire):
    wire.query("BEGIN")
    assert entered(wire, server).code is None
    server.sql("UPDATE bulkhead.tenant SET epoch = epoch + 1 WHERE no = 43")
    assert wire.query("SELECT 1 FROM notes").code is None
    server.sql("UPDATE bulkhead.tenant SET epoch = epoch + 1 WHERE no = 42")
    assert wire.query("SELECT 1 FROM notes").code == "TN002"
    assert wire.query("ROLLBACK").code is None
    assert entered(wire, server).code == "TN002"
    assert entered(wire, server, ver=2).code is None
    for utility in ("COMMIT", "SAVEPOINT s", "COPY (SELECT 1) TO STDOUT", "SHOW all", "DO $$BEGIN END$$", "FETCH c"):
        wire.query("BEGIN")
        entered(wire, server, ver=2)
        wire.query("DECLARE c CURSOR FOR SELECT 1")
        server.sql("UPDATE bulkhead.tenant SET epoch = 3, state = 'moving' WHERE no = 42")
        assert wire.query(utility).code == "TN004", utility
        wire.query("ROLLBACK")
        server.sql("UPDATE bulkhead.tenant SET epoch = 2, state = 'active' WHERE no = 42")
    server.sql("UPDATE bulkhead.tenant SET epoch = 1")
    assert_clean(wire, server)


def test_row_removed_changed_truncated(server, wire):
    assert entered(wire, server).code is None
    server.sql("CREATE TABLE keep AS SELECT * FROM bulkhead.tenant")
    for change in ("DELETE FROM bulkhead.tenant WHERE no = 42", "UPDATE bulkhead.tenant SET no = 44 WHERE no = 42",
                   "TRUNCATE bulkhead.tenant CASCADE", "SET session_replication_role = replica; DELETE FROM bulkhead.tenant"):
        server.sql(change)
        assert entered(wire, server).code == "TN002", change
        server.sql("DELETE FROM bulkhead.tenant; INSERT INTO bulkhead.tenant SELECT * FROM keep")
        assert entered(wire, server).code is None
    server.sql("UPDATE bulkhead.tenant SET id = 'renamed' WHERE no = 42")
    assert entered(wire, server).code == "TN002"
    server.sql("UPDATE bulkhead.tenant SET id = 'acme', role = 'nobody_here' WHERE no = 42")
    assert entered(wire, server).code == "TN003"
    server.sql("UPDATE bulkhead.tenant SET role = 'bh_t42' WHERE no = 42")
    assert_clean(wire, server)


def test_only_commits_count(server, wire):
    """An open or rolled-back change is not seen; its author sees it; no prepared transaction may hold it."""
    admin = server.connect()
    with admin.cursor() as cursor:
        cursor.execute("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42")
        assert entered(wire, server).code is None
        cursor.execute("SAVEPOINT s; UPDATE bulkhead.tenant SET epoch = 9 WHERE no = 42; ROLLBACK TO s")
        admin.rollback()
        assert entered(wire, server).code is None
        cursor.execute("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42")
        with pytest.raises(Exception) as refused:
            cursor.execute("PREPARE TRANSACTION 'x'")
        assert refused.value.pgcode == "0A000"
    admin.rollback()
    admin.close()
    assert entered(wire, server).code is None


def test_repeatable_read_does_not_hide_a_suspension(server, wire):
    wire.query("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert wire.query("SELECT now()").code is None  # takes the snapshot
    set_state(server, "suspended")
    assert wire.pipeline([(ENTER, [token(server)])]).code == "TN003"
    wire.query("ROLLBACK")
    set_state(server, "active")


def test_extension_dropped_and_made_again(server):
    server.make_database("shared9")
    row = "INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (42, 'acme', 'bh_t42', 't42', 'active')"
    server.sql(row, database="shared9")
    with pool(server, database="shared9") as wire:
        text = server.token(42, "acme", "shared9")
        assert wire.pipeline([(ENTER, [text])]).code is None
        server.sql("DROP EXTENSION bulkhead; CREATE EXTENSION bulkhead", database="shared9")
        assert wire.pipeline([(ENTER, [text])]).code == "TN002"
        server.sql(row, database="shared9")
        assert wire.pipeline([(ENTER, [text])]).code is None


def test_no_acknowledged_suspension_is_ever_missed(server):
    """Two enter all the time while one suspends and resumes: after each acknowledgement the answer is the new one."""
    stop, wrong, counts = threading.Event(), [], {"TN003": 0, None: 0}
    version = [0]  # even: active is acknowledged; odd: suspended; a half step in between is -1

    def client():
        with pool(server) as wire:
            while not stop.is_set():
                before = version[0]
                code = entered(wire, server).code
                counts[code] = counts.get(code, 0) + 1
                if before == version[0] and before >= 0 and code != ("TN003" if before % 2 else None):
                    wrong.append((before, code))

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    admin = server.connect()
    admin.autocommit = True
    with admin.cursor() as cursor:
        for step in range(1, 301):
            version[0] = -1
            cursor.execute("UPDATE bulkhead.tenant SET state = %s WHERE no = 42", ("suspended" if step % 2 else "active",))
            version[0] = step
            time.sleep(0.002)
    stop.set()
    for thread in threads:
        thread.join(20)
    admin.close()
    assert not wrong, wrong[:5]
    assert counts["TN003"] > 20 and counts[None] > 20 and set(counts) == {"TN003", None}, counts


# ---- keys

def test_keys_are_read_again_on_reload(server, wire):
    try:
        assert entered(wire, server).code is None
        assert entered(wire, server, key_epoch=2).code == "TN002"
        server.write_keys({1: WINDOW, 2: WINDOW})
        assert entered(wire, server, key_epoch=2).code == "TN002"  # not before the reload
        server.reload()
        assert entered(wire, server).code is None
        assert entered(wire, server, key_epoch=2).code is None
        server.write_keys({2: WINDOW})
        server.reload()
        assert entered(wire, server).code == "TN002"
        assert entered(wire, server, key_epoch=2).code is None
    finally:
        server.write_keys({1: WINDOW})
        server.reload()
    assert_clean(wire, server)


def test_a_key_counts_inside_its_validity_only(server, wire):
    now = int(time.time())
    try:
        for window, code in (((now - 100, now - 10), "TN002"), ((now + 100, now + 200), "TN002"), ((now - 100, now + 100), None)):
            server.write_keys({1: window})
            server.reload()
            assert entered(wire, server).code == code, window
    finally:
        server.write_keys({1: WINDOW})
        server.reload()


def test_a_key_file_that_cannot_be_trusted_opens_nothing(server, wire):
    good = server.key_file.read_text()
    bad = {"missing": None, "readable by others": (good, 0o444), "writable by the group": (good, 0o620), "empty": ("", 0o400),
           "not ours": ("main.1 zz 0 1\n", 0o400), "too many rows": (good * 5, 0o400), "too large": (good + " " * 5000, 0o400),
           "half a row": (good[:50], 0o400), "kid twice": (good * 2, 0o400)}
    try:
        for name, content in bad.items():
            if content is None:
                os.unlink(server.key_file)
            else:
                server.write_key_text(*content)
            server.reload()
            for _ in range(2):
                answer = entered(wire, server)
                assert answer.code == "TN002" and "no usable key" in answer.message, (name, answer.errors)
            server.write_key_text(good)
            server.reload()
            assert entered(wire, server).code is None, name
    finally:
        server.write_keys({1: WINDOW})
        server.reload()
    log = server.log.read_text()
    assert "open to other users" in log and server.server_keys[1].hex() not in log


def test_keys_of_a_database_open_no_other(server):
    server.make_database("shared2")
    server.sql("INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (42, 'acme', 'bh_t42', 't42', 'active')", database="shared2")
    with pool(server, database="shared2") as wire:
        assert wire.pipeline([(ENTER, [token(server)])]).code == "TN002"
        stolen = bhtoken.database_key(server.server_keys[1], "shared1")
        assert wire.pipeline([(ENTER, [server.token(42, "acme", "shared2", key=stolen)])]).code == "TN002"
        assert wire.pipeline([(ENTER, [server.token(42, "acme", "shared2")])]).code is None


# ---- time

def test_old_transactions_run_no_more_statements(server, wire):
    server.sql("ALTER SYSTEM SET bulkhead.max_transaction_age = '1s'")
    server.reload()
    try:
        wire.query("BEGIN")
        assert entered(wire, server).code is None
        time.sleep(1.2)
        answer = wire.query("SELECT 1 FROM notes")
        assert answer.code == "TN002" and "max_transaction_age" in answer.message
        assert wire.query("ROLLBACK").code is None
        assert entered(wire, server).code is None
    finally:
        server.sql("ALTER SYSTEM RESET bulkhead.max_transaction_age")
        server.reload()
    assert_clean(wire, server)


def test_timeouts_and_cancels_leave_a_clean_connection(server, wire):
    assert as_tenant(wire, server, ["SET LOCAL statement_timeout = 50", "SELECT pg_sleep(5)"]).code == "57014"
    assert_clean(wire, server)
    with pool(server) as idle:
        idle.query("BEGIN")
        as_tenant(idle, server, ["SET LOCAL idle_in_transaction_session_timeout = 50"])
        time.sleep(0.3)
        assert idle.read().code == "25P03"
    assert server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'acme'") == [(0,)]


# ---- deaths

def test_a_backend_ended_in_a_transaction_takes_only_itself(server, wire):
    victim = pool(server)
    victim.query("BEGIN")
    assert as_tenant(victim, server, ["INSERT INTO notes (body) VALUES ('lost')"]).code is None
    os.kill(victim.pid, signal.SIGTERM)
    with pytest.raises((ConnectionError, OSError)):
        while True:
            victim.read()
    assert as_tenant(wire, server, ["SELECT 1 FROM notes WHERE body = 'lost'"]).rows[1] == []
    assert_clean(wire, server)


def test_state_survives_kill_and_restart(server):
    set_state(server, "suspended", 43)
    for how in ("kill", "restart"):
        with pool(server) as wire:
            assert entered(wire, server).code is None
            assert entered(wire, server, "globex").code == "TN003"
            wire.query("BEGIN")
            as_tenant(wire, server, ["INSERT INTO notes (body) VALUES ('lost')"])
            if how == "kill":
                os.kill(wire.pid, signal.SIGKILL)  # the postmaster restarts everything
                wait_for_recovery(server)
            else:
                server.stop("fast")
                server.start()
    with pool(server) as wire:
        assert entered(wire, server).code is None
        assert entered(wire, server, "globex").code == "TN003"
        assert as_tenant(wire, server, ["SELECT 1 FROM notes WHERE body = 'lost'"]).rows[1] == []
        set_state(server, "active", 43)
        assert_clean(wire, server)


def wait_for_recovery(server):
    deadline = time.monotonic() + 20
    time.sleep(0.5)
    while time.monotonic() < deadline:
        try:
            server.sql("SELECT 1")
            return
        except Exception:
            time.sleep(0.1)
    raise TimeoutError("the server did not recover")


def test_more_tenants_than_the_cache_holds(server):
    """bulkhead.max_tenants = 16: the rest is read from the table, and is as current."""
    server.sql("ALTER SYSTEM SET bulkhead.max_tenants = 16")
    server.stop("fast")
    server.start()
    try:
        server.sql("INSERT INTO bulkhead.tenant (no, id, role, schema, state) SELECT n, 'a' || n, 'bh_t42', 't42', 'active'"
                   " FROM generate_series(1000, 1039) n")
        with pool(server) as wire:
            for _ in range(2):
                for no in range(1000, 1040):
                    answer = wire.pipeline([(ENTER, [server.token(no, f"a{no}")]), ("SELECT bulkhead.tenant_no()", [])])
                    assert answer.rows[1] == [[str(no)]], answer.errors
            set_state(server, "suspended", 1039)
            set_state(server, "suspended", 1000)
            for no in (1000, 1039):
                assert wire.pipeline([(ENTER, [server.token(no, f"a{no}")])]).code == "TN003"
    finally:
        server.sql("DELETE FROM bulkhead.tenant WHERE no >= 1000")
        server.sql("ALTER SYSTEM RESET bulkhead.max_tenants")
        server.stop("fast")
        server.start()


def test_needs_to_be_preloaded(server):
    server.stop("fast")
    server.start("-c shared_preload_libraries=")
    try:
        with pytest.raises(Exception) as refused:
            server.sql("SELECT bulkhead.tenant_no()")
        assert "must be loaded by shared_preload_libraries" in str(refused.value)
    finally:
        server.stop("fast")
        server.start()


def test_a_standby_reads_the_table_each_time(server):
    """Replay invalidates nothing in shared memory, so a standby must not trust its cache."""
    standby = server.standby()
    try:
        with pool(standby) as wire:
            for state, code in (("active", None), ("suspended", "TN003"), ("active", None)):
                set_state(server, state)
                server.wait_for_standby()
                assert entered(wire, standby).code == code
            wire.query("BEGIN")
            assert entered(wire, standby).code is None
            server.sql("UPDATE bulkhead.tenant SET epoch = 2 WHERE no = 42")
            server.wait_for_standby()
            assert wire.query("SELECT 1 FROM notes").code == "TN002"
    finally:
        server.sql("UPDATE bulkhead.tenant SET epoch = 1 WHERE no = 42")
        standby.close()


def test_a_token_that_was_believed_is_judged_again(server, wire):
    """The extension keeps the last tokens that were right: not beyond their key, their life, or by a byte that differs."""
    kept = token(server)
    for _ in range(3):
        assert wire.pipeline([(ENTER, [kept]), ("SELECT body FROM notes WHERE id = 1", [])]).rows[1] == [["SECRET-A"]]
    for at in range(0, len(kept), 7):
        forged = kept[:at] + ("B" if kept[at] == "A" else "A") + kept[at + 1:]
        assert wire.pipeline([(ENTER, [forged])]).code == "TN002", at
    assert wire.pipeline([(ENTER, [kept[:-1]])]).code == "TN002"
    assert wire.pipeline([(ENTER, [kept + "A"])]).code == "TN002"
    many = [token(server, tenant, sub=f"s{i}") for i in range(20) for tenant in ("acme", "globex")]
    for _ in range(2):
        for i, it in enumerate(many):
            assert wire.pipeline([(ENTER, [it]), ("SELECT body FROM notes WHERE id = 1", [])]).rows[1] == [["SECRET-B" if i % 2 else "SECRET-A"]]
    assert wire.pipeline([(ENTER, [kept])]).code is None
    good = server.key_file.read_text()
    kid, key, *validity = good.split()
    server.write_key_text(" ".join([kid, "00" * 32, *validity]) + "\n")  # another key under the same name
    server.reload()
    try:
        assert wire.pipeline([(ENTER, [kept])]).code == "TN002"
        assert wire.pipeline([(ENTER, [kept])]).code == "TN002"
    finally:
        server.write_key_text(good)
        server.reload()
    assert wire.pipeline([(ENTER, [kept])]).code is None
    short = token(server, now=int(time.time()) - 62)  # it expired two seconds ago, and three of leeway are left
    assert wire.pipeline([(ENTER, [short])]).code is None
    pgserver.wait_for(lambda: wire.pipeline([(ENTER, [short])]).code == "TN002", "it expires")
    assert wire.pipeline([(ENTER, [kept])]).code is None
