"""The same through PgBouncer 1.18 in transaction mode: one server connection that all clients share, so whatever
one tenant leaves behind, the next would find."""
import threading
import time

import pgserver
import pytest
from database import ENTER, NUMBERS, SECRETS, as_tenant, assert_clean, pool, server, token  # noqa: F401
from test_database import POISONS, WHO
from test_database_guard import TEMPORARY


@pytest.fixture(scope="module")
def bouncer(server):
    it = pgserver.Bouncer(server, pool_size=1)
    yield it
    it.close()


@pytest.fixture
def two(server, bouncer):
    """Two clients on one server connection."""
    with pool(server, bouncer.port) as first, pool(server, bouncer.port) as second:
        yield first, second


def backend(wire):
    return wire.query("SELECT pg_backend_pid()").rows[0][0][0]


def test_pipelined_through_the_pooler(server, two):
    first, second = two
    assert backend(first) == backend(second)
    for wire, tenant in ((first, "acme"), (second, "globex"), (first, "globex"), (second, "acme")):
        answer = as_tenant(wire, server, ["SELECT body FROM notes", WHO], tenant)
        assert answer.code is None, answer.errors
        assert answer.rows[1] == [[SECRETS[tenant]]]
        assert answer.rows[2][0][:3] == [f"bh_t{NUMBERS[tenant]}", str(NUMBERS[tenant]), tenant]
        assert_clean(wire, server)


def test_block_through_the_pooler(server, two):
    first, second = two
    first.query("BEGIN")
    first.pipeline([(ENTER, [token(server)])])
    waiting = threading.Thread(target=as_tenant, args=(second, server, ["SELECT 1"], "globex"))
    waiting.start()  # waits for the one server connection
    assert first.query("SELECT body FROM notes").rows == [[[SECRETS["acme"]]]]
    first.query("COMMIT")
    waiting.join(10)
    assert not waiting.is_alive()
    assert_clean(first, server)
    assert_clean(second, server)


def test_bad_token_leaves_a_clean_connection(server, two):
    first, second = two
    for bad in (None, "", "x" * 5000, token(server, key=b"y" * 32)):
        assert first.pipeline([(ENTER, [bad]), ("SELECT body FROM notes", [])]).code == "TN002"
        assert_clean(second, server)


@pytest.mark.parametrize("poison", POISONS + TEMPORARY + [
    "SET ROLE bh_t43", "PREPARE held AS SELECT 'A'", "DECLARE c CURSOR WITH HOLD FOR SELECT body FROM notes", "LISTEN spy",
    "SELECT pg_advisory_lock(42)", "SELECT pg_try_advisory_lock_shared(42)", "LOAD 'plpgsql'", "SELECT 1/0", "ALTER ROLE bh_t42 SET work_mem = '1MB'",
    "SET LOCAL ROLE bh_t43", "SELECT lo_create(77)", "NOTIFY spy", "SELECT pg_notify('spy', 'x')"])
def test_poison_does_not_cross(server, two, poison):
    """reliability.md 2.3: A acts, B uses the same server connection next."""
    first, second = two
    state = "SELECT name, setting FROM pg_settings WHERE name <> 'application_name'" \
            " AND name NOT LIKE 'plpgsql.%' ORDER BY 1"
    probe = [state, "SELECT current_user, bulkhead.tenant_no()", "SELECT body FROM notes",
             "SELECT name FROM pg_cursors WHERE is_holdable",
             "SELECT pg_my_temp_schema()", "SELECT NULL = NULL"]
    before = as_tenant(second, server, probe, "globex")
    assert before.code is None, before.errors
    as_tenant(first, server, [poison])
    after = as_tenant(second, server, probe, "globex")
    assert after.code is None and after.rows[1:] == before.rows[1:], after.errors
    assert server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert as_tenant(second, server, ["SELECT lastval()"], "globex").code == "55000"
    second.bind(name="held")
    assert second.sync().code == "26000"
    assert_clean(second, server)


def test_clients_settings_are_told_apart(server, bouncer):
    """PgBouncer's five: enter() starts from the connection's values, or from the pooler's where the role says so."""
    show = "SELECT current_setting('TimeZone'), current_setting('DateStyle'), current_setting('client_encoding')"
    tokyo = {"timezone": "Asia/Tokyo", "datestyle": "German", "client_encoding": "LATIN1"}
    with pool(server, bouncer.port) as plain, pool(server, bouncer.port, **tokyo) as strange:
        start = as_tenant(plain, server, [show])
        assert start.code is None, start.errors
        for wire in (strange, plain, strange):
            assert as_tenant(wire, server, [show]).rows[1] == start.rows[1]
        assert strange.query("SHOW timezone").rows == [[["Asia/Tokyo"]]]
    server.sql("ALTER ROLE bulkhead_pool SET bulkhead.pooler = pgbouncer")
    try:
        bouncer.stop()
        bouncer.start()
        with pool(server, bouncer.port) as plain, pool(server, bouncer.port, **tokyo) as strange:
            for wire, zone in ((plain, start.rows[1][0][0]), (strange, "Asia/Tokyo"), (plain, start.rows[1][0][0])):
                assert as_tenant(wire, server, [show]).rows[1][0][0] == zone
    finally:
        server.sql("ALTER ROLE bulkhead_pool RESET bulkhead.pooler")
        bouncer.stop()
        bouncer.start()


def test_startup_options_are_refused_or_harmless(server, bouncer):
    for option in ("-c role=bh_t43", "-c session_authorization=bh_t43", "-c bulkhead.literal_token=on", "-c bulkhead.pool_roles="):
        for port in (server.port, bouncer.port):
            with pool(server, port, options=option) as wire:
                fatal = [e for e in wire.start.errors if e["S"] == "FATAL"]
                # PgBouncer 1.26 says it at the first statement.
                if not fatal and wire.query("SELECT 1").code != "08P01":
                    assert_clean(wire, server)
                    assert wire.query(f"SELECT bulkhead.enter('{token(server)}')").code == "TN002"


def test_many_clients_never_meet(server):
    """Two server connections, eight clients, tenants in turn: each sees its own row only."""
    busy = pgserver.Bouncer(server, pool_size=2)
    wrong, done = [], []

    def client(index):
        with pool(server, busy.port) as wire:
            for turn in range(60):
                tenant = ("acme", "globex")[(index + turn) % 2]
                answer = as_tenant(wire, server, ["SELECT body, bulkhead.tenant_id() FROM notes"], tenant)
                if answer.code or answer.rows[1] != [[SECRETS[tenant], tenant]]:
                    wrong.append((tenant, answer.rows, answer.errors))
                if turn % 7 == 0:
                    as_tenant(wire, server, ["SELECT 1/0"], tenant)
            done.append(index)

    try:
        threads = [threading.Thread(target=client, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    finally:
        busy.close()
    assert not wrong and len(done) == 8, wrong[:3]


def test_pooler_killed_in_a_transaction(server, bouncer):
    with pool(server, bouncer.port) as wire:
        wire.query("BEGIN")
        assert as_tenant(wire, server, ["INSERT INTO notes (body) VALUES ('lost')"]).code is None
        bouncer.stop()
    bouncer.start()
    deadline = time.monotonic() + 10
    with pool(server, bouncer.port) as wire:
        while time.monotonic() < deadline:
            if not server.sql("SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction'"):
                break
            time.sleep(0.05)
        assert as_tenant(wire, server, ["SELECT 1 FROM notes WHERE body = 'lost'"]).rows[1] == []
        assert_clean(wire, server)
