"""A tenant's own login in shared databases: bound at the first statement of each transaction, by the code that binds tokens."""
import threading
import time

import pgserver
import psycopg2
import pytest
from database import check_log, pool
from pgwire import Wire

LIMITS = '{"work_mem": "8MB", "statement_timeout": "400ms", "max_subtransactions": 3}'


@pytest.fixture(scope="module")
def server():
    """acme (42) and globex (43) in mode schema; bh_t42 may log in, and bi42 of bulkhead.login; row7 is of row tenant 7."""
    it = pgserver.Server()
    try:
        it.make_database("shared1")
        it.make_tenant(42, "acme", secret="SECRET-A")
        it.make_tenant(43, "globex", secret="SECRET-B")
        it.sql(f"""
            ALTER ROLE bh_t42 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}';
            CREATE ROLE bi42 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}';
            CREATE ROLE row7 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}';
            CREATE ROLE nobody LOGIN PASSWORD '{pgserver.POOL_PASSWORD}';
            CREATE ROLE bulkhead_row LOGIN PASSWORD '{pgserver.POOL_PASSWORD}';
            GRANT CONNECT ON DATABASE shared1 TO bh_t42, bi42, row7, nobody, bulkhead_row;
            CREATE SCHEMA app; GRANT USAGE ON SCHEMA app TO bulkhead_row;
            CREATE TABLE app.notes (tenant int DEFAULT bulkhead.tenant_no(), body text);
            ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
            CREATE POLICY own ON app.notes USING (tenant = (SELECT bulkhead.tenant_no()));
            GRANT SELECT, INSERT ON app.notes TO bulkhead_row;
            INSERT INTO app.notes VALUES (7, 'SECRET-7'), (8, 'SECRET-8');
            INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state) VALUES
                (7, 'seven', 'row', 'bulkhead_row', 'app', 'active'), (8, 'eight', 'row', 'bulkhead_row', 'app', 'active');
            INSERT INTO bulkhead.login VALUES ('bi42', 42), ('row7', 7)""")
        yield it
        check_log(it.log.read_text())
    finally:
        it.close()


@pytest.fixture(autouse=True)
def restore(server):
    yield
    server.sql("UPDATE bulkhead.tenant SET state = 'active', epoch = 1, limits = '{}'")


def login(server, user="bi42", **startup):
    return Wire(server.port, user, pgserver.POOL_PASSWORD, "shared1", **startup)


@pytest.mark.parametrize("user,tenant,role,secret", [
    ("bh_t42", "acme", "bh_t42", "SECRET-A"), ("bi42", "acme", "bh_t42", "SECRET-A"), ("row7", "seven", "bulkhead_row", "SECRET-7")])
def test_bound_at_the_first_statement(server, user, tenant, role, secret):
    text = "SELECT current_user, bulkhead.tenant_id(), body FROM notes"
    with login(server, user) as wire:
        for _ in range(2):
            assert wire.query(text).rows == [[[role, tenant, secret]]], "the very first statement, by name"
            assert wire.pipeline([(text, []), (text, [])]).rows == [[[role, tenant, secret]]] * 2
            assert wire.query(f"BEGIN; {text}; ROLLBACK; {text}").rows[1::2] == [[[role, tenant, secret]]] * 2
        assert wire.query(f"BEGIN; SELECT 1; COMMIT AND CHAIN; {text}; ROLLBACK AND CHAIN; {text}; COMMIT").rows[3::2] == [[[role, tenant, secret]]] * 2
        assert wire.query("BEGIN; SELECT 1/0").code == "22012"
        assert wire.query("ROLLBACK").code is None
        assert wire.query(text).rows == [[[role, tenant, secret]]]
        wire.parse(text, name="kept")
        for _ in range(2):
            wire.bind(name="kept")
            wire.execute()
            assert wire.sync().rows == [[[role, tenant, secret]]]
        assert wire.query("SHOW application_name").code is None


ESCAPES = ["SET ROLE bi42", "RESET ROLE", "SET ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT", "SELECT set_config('role', 'none', false)", "RESET SESSION AUTHORIZATION",
           "SET search_path = t43", "DISCARD ALL", "BEGIN; SAVEPOINT s; ROLLBACK TO s; RESET ROLE", "BEGIN; SELECT 1; COMMIT; SET ROLE bi42", "ROLLBACK; SET ROLE bi42",
           "DO $$BEGIN COMMIT; END$$", "DO $$BEGIN ROLLBACK; END$$", "CREATE TEMP TABLE x (i int)", "LISTEN a", "PREPARE p AS SELECT 1", "SET work_mem = '1GB'",
           "SELECT bulkhead.enter('x')", "ALTER ROLE bi42 SET search_path = t43", "ALTER ROLE CURRENT_USER PASSWORD 'x'", "SELECT pg_advisory_lock(1)",
           "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1", "BEGIN; SELECT 1; PREPARE TRANSACTION 'x'", "SELECT * FROM t43.notes", "COPY t43.notes TO STDOUT", "LOCK TABLE notes",
           "SELECT * FROM bulkhead.tenant", "SELECT * FROM bulkhead.login", "INSERT INTO bulkhead.login VALUES ('bi42', 43)"]


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("text", ESCAPES)
def test_what_a_token_cannot_a_login_cannot(server, text, extended):
    with login(server) as wire:
        answer = wire.pipeline([(part, []) for part in text.split("; ")]) if extended and "$$" not in text else wire.query(text)
        assert answer.code in ("TN005", "TN006", "42501", "42P01", "2D000", "22023"), (answer.errors, answer.rows)
        wire.query("ROLLBACK")
        after = wire.query("SELECT current_user, bulkhead.tenant_no(), body, current_setting('search_path') FROM notes")
        assert after.rows == [[["bh_t42", "42", "SECRET-A", "t42, pg_temp"]]], after.errors
        assert wire.query("SELECT body FROM t43.notes").code == "42501"


@pytest.mark.parametrize("startup", [{"options": "-c role=bh_t43"}, {"options": "-c search_path=t43"}, {"options": "-c session_authorization=postgres"}, {"replication": "database"}])
def test_startup_options_do_not_escape(server, startup):
    try:
        wire = login(server, **startup)
    except ConnectionError:
        return
    with wire:
        if wire.start.code is None:
            assert wire.query("SELECT current_user, bulkhead.tenant_no(), body FROM notes").rows == [[["bh_t42", "42", "SECRET-A"]]]
        else:
            assert wire.start.code in ("42501", "22023", "28000", "42704", "22P02"), wire.start.errors


def test_only_transaction_control_runs_before_it_is_bound(server):
    """These bind nobody: a tenant that is suspended may still end its transaction."""
    server.sql("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42")
    with login(server) as wire:
        for text in ("BEGIN", "SHOW search_path", "COMMIT", "SET client_encoding = 'UTF8'", "BEGIN ISOLATION LEVEL SERIALIZABLE", "ROLLBACK"):
            assert wire.query(text).code is None, text
        assert wire.query("SELECT 1").code == "TN003"
        assert wire.call(1299).code == "TN003", "the fast path: now()"
        assert wire.query("BEGIN; SAVEPOINT s").code == "TN003"
        wire.query("ROLLBACK")
        server.sql("UPDATE bulkhead.tenant SET state = 'moving' WHERE no = 42")
        assert wire.query("SELECT 1").code == "TN004"
        server.sql("UPDATE bulkhead.tenant SET state = 'active', epoch = 9 WHERE no = 42")
        assert wire.query("SELECT body FROM notes").rows == [[["SECRET-A"]]], "a login has no token that grows old"
    server.sql("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42")
    with login(server) as wire:
        assert wire.query("SELECT 1").code == "TN003", "also in a session that starts now"


def test_epoch_and_fence(server):
    with login(server) as wire:
        assert wire.query("BEGIN; SELECT 1").code is None
        server.sql("UPDATE bulkhead.tenant SET epoch = 2 WHERE no = 42")
        assert wire.query("SELECT 1").code == "TN002"
        wire.query("ROLLBACK")
        assert wire.query("SELECT 1").code is None
        wire.query("BEGIN; SELECT 1")
        done = []
        fence = threading.Thread(target=lambda: (server.sql("CALL bulkhead.fence(42, 3, '20s')"), done.append(time.monotonic())))
        fence.start()
        pgserver.wait_for(lambda: server.sql("SELECT epoch FROM bulkhead.tenant WHERE no = 42") == [(3,)], "the fence commits its epoch")
        assert not done, "it waits for the login's transaction"
        wire.query("COMMIT")
        fence.join(20)
        assert done


def test_limits(server):
    server.sql("UPDATE bulkhead.tenant SET limits = %s::jsonb WHERE no = 42", (LIMITS,))
    with login(server, options="-c work_mem=64MB -c statement_timeout=0") as wire:
        for _ in range(2):
            assert wire.query("SELECT pg_sleep(5)").code == "57014", "the first statement of each transaction too"
        assert wire.query("BEGIN; SELECT 1; SHOW work_mem").rows[-1] == [["8MB"]]
        assert wire.query("SET LOCAL work_mem = '9MB'").code == "TN005"
        wire.query("ROLLBACK")
        assert wire.query("BEGIN" + "; SAVEPOINT s" * 4 + "; SELECT 1").code == "TN005"
        wire.query("ROLLBACK")


def test_parallel_workers(server):
    with login(server) as wire:
        answer = wire.query(f"BEGIN; SELECT 1; SET LOCAL {pgserver.PARALLEL} = on; SELECT bulkhead.tenant_no(), body FROM notes; COMMIT")
        assert answer.rows[3] == [["42", "SECRET-A"]], answer.errors


def test_fast_path_calls_are_bound(server):
    oid, = server.sql("SELECT 'bulkhead.tenant_no()'::regprocedure::oid")[0]
    with login(server) as wire:
        assert wire.call(oid).value == "42"
        assert wire.query("SELECT current_user").rows == [[["bh_t42"]]]


def test_rows_of_bulkhead_login_count_at_once(server):
    server.sql(f"CREATE ROLE late LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'; GRANT CONNECT ON DATABASE shared1 TO late")
    with login(server, "late") as wire, login(server, "late") as other:
        assert wire.query("SELECT bulkhead.tenant_no() IS NULL, current_user").rows == [[["t", "late"]]]
        server.sql("INSERT INTO bulkhead.login VALUES ('late', 42)")
        assert wire.query("SELECT bulkhead.tenant_no(), current_user").rows == [[["42", "bh_t42"]]]
        other.query("SELECT 1")
        server.sql("UPDATE bulkhead.login SET no = 43 WHERE role = 'late'")
        assert other.query("SELECT 1").errors[0]["S"] == "FATAL", "a session is never another tenant's"
        server.sql("DELETE FROM bulkhead.login WHERE role = 'late'")
        assert wire.query("SELECT 1").errors[0]["S"] == "FATAL", "nor does it become free"
    with login(server, "late") as wire:
        assert wire.query("SELECT current_user").rows == [[["late"]]]


def test_whom_it_does_not_touch(server):
    with login(server, "nobody") as wire:
        assert wire.query("SELECT bulkhead.tenant_no() IS NULL, current_user").rows == [[["t", "nobody"]]]
        assert wire.query("SET work_mem = '1MB'; CREATE TEMP TABLE x (i int); LISTEN a").code in (None, "42501")
        assert wire.query("BEGIN; SET search_path = app; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; COMMIT").code is None
    with login(server, "bulkhead_row") as wire:
        assert wire.query("SELECT bulkhead.tenant_no() IS NULL").rows == [[["t"]]], "the shared role of mode row is nobody's own"
        assert wire.query("SELECT * FROM app.notes").rows == [[]]
    with pool(server) as wire:
        assert wire.query("SELECT * FROM pg_class").code == "TN001"
    server.sql("INSERT INTO bulkhead.login VALUES ('postgres', 42), ('bulkhead_pool', 42)")
    try:
        assert server.sql("SELECT bulkhead.tenant_no(), current_user") == [(None, "postgres")]
        with pool(server) as wire:
            assert wire.query("SELECT * FROM pg_class").code == "TN001"
    finally:
        server.sql("DELETE FROM bulkhead.login WHERE role IN ('postgres', 'bulkhead_pool')")


@pytest.mark.parametrize("attribute", ["BYPASSRLS", "REPLICATION", "CREATEROLE", "CREATEDB"])
def test_a_login_with_rights_beyond_its_tenant_is_refused(server, attribute):
    server.sql(f"ALTER ROLE bi42 {attribute}")
    try:
        with login(server) as wire:
            assert wire.query("SELECT 1").code == "TN006"
    finally:
        server.sql(f"ALTER ROLE bi42 NO{attribute}")
    with login(server) as wire:
        assert wire.query("SELECT 1").code is None


def test_background_processes_are_not_touched(server):
    server.sql("ALTER SYSTEM SET autovacuum_naptime = 1")
    server.sql("CREATE TABLE busy (i int); INSERT INTO busy SELECT generate_series(1, 1000);"
               "ALTER TABLE busy SET (autovacuum_analyze_threshold = 1, autovacuum_analyze_scale_factor = 0)")
    server.reload()
    pgserver.wait_for(lambda: (server.sql("INSERT INTO busy VALUES (1), (2), (3)"),
                               server.sql("SELECT autoanalyze_count > 0 FROM pg_stat_user_tables WHERE relname = 'busy'"))[1] == [(True,)], "autoanalyze", 60)
    standby = server.standby()
    try:
        server.wait_for_standby()
        with Wire(standby.port, "bi42", pgserver.POOL_PASSWORD, "shared1") as wire:
            assert wire.query("SELECT body, bulkhead.tenant_no() FROM notes").rows == [[["SECRET-A", "42"]]]
            server.sql("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42")
            server.wait_for_standby()
            assert wire.query("SELECT 1").code == "TN003", "a standby hears of it by replay"
            server.sql("DELETE FROM bulkhead.login WHERE role = 'bi42'")
            server.wait_for_standby()
            assert wire.query("SELECT 1").errors[0]["S"] == "FATAL"
    finally:
        server.sql("INSERT INTO bulkhead.login VALUES ('bi42', 42) ON CONFLICT DO NOTHING")
        standby.close()


def test_other_databases_do_not_know_the_login(server):
    server.sql("GRANT CONNECT ON DATABASE postgres TO bi42", database="postgres")
    connection = psycopg2.connect(host="127.0.0.1", port=server.port, user="bi42", password=pgserver.POOL_PASSWORD, dbname="postgres")
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_user")
        assert cursor.fetchall() == [("bi42",)]
    connection.close()
