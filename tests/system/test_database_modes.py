"""Modes: `row` between many tenants of one table, `database` and `instance` where a tenant has a database of its own."""
import pgserver
import psycopg2
import pytest
from database import ENTER, check_log, pool
from pgwire import Wire

ROWS = {"acme": 42, "globex": 43}


@pytest.fixture(scope="module")
def server():
    """shared1 with acme and globex in mode row; t50 is initech's own database."""
    it = pgserver.Server("shared_preload_libraries = 'bulkhead, pg_stat_statements'\npg_stat_statements.track_planning = on\n"
                         "compute_query_id = on\n")
    try:
        it.make_database("shared1")
        make_rows(it)
        make_own(it)
        yield it
        check_log(it.log.read_text())
    finally:
        it.close()


def make_rows(server):
    server.sql("""
        CREATE EXTENSION pg_stat_statements;
        CREATE ROLE bulkhead_row NOLOGIN; CREATE ROLE app_owner NOLOGIN;
        CREATE SCHEMA app AUTHORIZATION app_owner;
        GRANT USAGE ON SCHEMA app TO bulkhead_row;
        SET ROLE app_owner;
        CREATE TABLE app.notes (tenant int NOT NULL DEFAULT bulkhead.tenant_no(), id int, body text, PRIMARY KEY (tenant, id));
        ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY own ON app.notes USING (tenant = (SELECT bulkhead.tenant_no()))
            WITH CHECK (tenant = (SELECT bulkhead.tenant_no()));
        CREATE TABLE app.lines (tenant int NOT NULL DEFAULT bulkhead.tenant_no(), note int,
            FOREIGN KEY (tenant, note) REFERENCES app.notes ON DELETE CASCADE);
        ALTER TABLE app.lines ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
        CREATE POLICY own ON app.lines USING (tenant = (SELECT bulkhead.tenant_no()));
        CREATE TABLE app.forgotten (tenant int, body text);
        CREATE TABLE app.unforced (tenant int, body text);
        ALTER TABLE app.unforced ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON app.unforced USING (tenant = (SELECT bulkhead.tenant_no()));
        CREATE TABLE app.country (code text PRIMARY KEY);
        CREATE SEQUENCE app.numbers;
        CREATE VIEW app.over_forgotten AS SELECT * FROM app.forgotten;
        CREATE VIEW app.over_notes WITH (security_invoker) AS SELECT * FROM app.notes;
        CREATE MATERIALIZED VIEW app.frozen AS SELECT * FROM app.forgotten;
        RESET ROLE;
        CREATE VIEW app.of_superuser AS SELECT * FROM app.notes;
        CREATE FUNCTION app.as_superuser() RETURNS SETOF app.notes LANGUAGE sql SECURITY DEFINER
            SET search_path = app, pg_temp AS 'SELECT * FROM app.notes';
        CREATE FUNCTION app.explain() RETURNS SETOF text LANGUAGE plpgsql AS $$BEGIN
            RETURN QUERY EXECUTE 'EXPLAIN SELECT * FROM app.notes'; END$$;
        GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES ON ALL TABLES IN SCHEMA app TO bulkhead_row;
        GRANT USAGE ON SEQUENCE app.numbers TO bulkhead_row;
        SECURITY LABEL FOR bulkhead ON TABLE app.country IS 'shared';
        INSERT INTO app.country VALUES ('CH');
        INSERT INTO app.forgotten VALUES (42, 'SECRET-A'), (43, 'SECRET-B');
        INSERT INTO app.unforced VALUES (42, 'SECRET-A'), (43, 'SECRET-B');
        REFRESH MATERIALIZED VIEW app.frozen;
        INSERT INTO app.notes VALUES (42, 1, 'SECRET-A'), (43, 1, 'SECRET-B');
        INSERT INTO app.lines VALUES (42, 1), (43, 1);
        INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state) VALUES
            (42, 'acme', 'row', 'bulkhead_row', 'app', 'active'), (43, 'globex', 'row', 'bulkhead_row', 'app', 'active')""")


def make_own(server):
    server.make_database("t50")
    server.sql(f"""
        CREATE ROLE bh_t50 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}';
        CREATE ROLE bi50 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}' IN ROLE bh_t50;
        ALTER ROLE bi50 SET role = 'bh_t50';
        ALTER DATABASE t50 OWNER TO bh_t50;
        ALTER SCHEMA public OWNER TO bh_t50;
        GRANT CONNECT ON DATABASE t50 TO bh_t50, bi50;
        SELECT bulkhead.open_database();
        INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state) VALUES (50, 'initech', 'database', 'bh_t50', 'public', 'active');
        INSERT INTO bulkhead.login VALUES ('bi50', 50)""", database="t50")


@pytest.fixture
def wire(server):
    with pool(server) as it:
        yield it


def run(wire, server, tenant, *statements, **claims):
    steps = [s if isinstance(s, tuple) else (s, []) for s in statements]
    return wire.pipeline([(ENTER, [server.token(ROWS[tenant], tenant, **claims)])] + steps)


# ---- row ----

def test_row_tenants_see_their_own_rows(server, wire):
    for tenant, secret in (("acme", "SECRET-A"), ("globex", "SECRET-B"), ("acme", "SECRET-A")):
        answer = run(wire, server, tenant, "SELECT body FROM notes", "SELECT current_user, bulkhead.tenant_id()",
                     "SELECT body FROM over_notes", "SELECT code FROM country", "SELECT nextval('numbers') > 0")
        assert answer.code is None, answer.errors
        assert answer.rows[1:] == [[[secret]], [["bulkhead_row", tenant]], [[secret]], [["CH"]], [["t"]]]
    assert wire.query("SELECT bulkhead.tenant_no()").code == "TN001"


def test_row_tenants_write_their_own_rows(server, wire):
    good = run(wire, server, "acme", "INSERT INTO notes (id, body) VALUES (2, 'mine')", "INSERT INTO lines (note) VALUES (2)",
               "SELECT count(*) FROM lines", "DELETE FROM notes WHERE id = 2", "SELECT count(*) FROM lines")
    assert good.code is None, good.errors
    assert good.rows[3] == [["2"]] and good.rows[5] == [["1"]], "the cascade runs as the owner, behind forced row security"
    assert run(wire, server, "acme", "INSERT INTO notes VALUES (43, 9, 'trojan')").code == "42501"
    assert run(wire, server, "acme", "UPDATE notes SET tenant = 43").code == "42501"
    assert run(wire, server, "acme", "DELETE FROM notes WHERE tenant = 43").tags[1] == "DELETE 0"
    assert server.sql("SELECT tenant, body FROM app.notes ORDER BY 1") == [(42, "SECRET-A"), (43, "SECRET-B")]


REFUSED_ROW = [
    "SELECT * FROM forgotten", "SELECT 1 FROM forgotten", "SELECT count(*) FROM forgotten", "TABLE unforced", "SELECT * FROM over_forgotten", "TABLE frozen",
    "SELECT * FROM of_superuser", "SELECT * FROM as_superuser()", "SELECT (SELECT max(body) FROM forgotten)", "WITH x AS (SELECT * FROM forgotten) SELECT * FROM x",
    "COPY forgotten TO STDOUT", "COPY (SELECT * FROM forgotten) TO STDOUT", "INSERT INTO forgotten VALUES (43, 'x')", "UPDATE forgotten SET body = 'x'",
    "DELETE FROM forgotten", "INSERT INTO country VALUES ('XX')", "UPDATE country SET code = 'XX'", "DELETE FROM country", "SELECT * FROM country FOR UPDATE",
    "INSERT INTO notes (id, body) SELECT 5, body FROM forgotten", "DO $$BEGIN PERFORM * FROM app.forgotten; END$$",
    "SELECT query_to_xml('SELECT * FROM app.forgotten', true, true, '')", "DO $$DECLARE c CURSOR FOR SELECT * FROM app.forgotten; BEGIN OPEN c; END$$",
    "MERGE INTO notes USING forgotten f ON false WHEN NOT MATCHED THEN DO NOTHING",
    "EXPLAIN SELECT * FROM notes", "EXPLAIN ANALYZE SELECT * FROM notes", "DO $$BEGIN EXECUTE 'EXPLAIN SELECT * FROM app.notes'; END$$", "SELECT * FROM explain()",
    "SET LOCAL debug_print_plan = on", "SELECT set_config('debug_print_plan', 'on', true)", "SELECT set_config('debug_print_rewritten', 'on', true)",
    "SELECT most_common_vals FROM pg_stats WHERE tablename = 'forgotten'", "SELECT * FROM pg_stats_ext", "TRUNCATE notes", "TRUNCATE lines", "VACUUM notes", "ANALYZE notes", "REINDEX TABLE notes", "ALTER TABLE notes DISABLE ROW LEVEL SECURITY",
    "CREATE TABLE app.x (i int)", "CREATE TABLE x (t int, n int, FOREIGN KEY (t, n) REFERENCES app.notes)", "SELECT * INTO app.x FROM notes",
    "SECURITY LABEL FOR bulkhead ON TABLE forgotten IS 'shared'", "CREATE EXTENSION hstore", "LOCK TABLE notes", "PREPARE p AS SELECT 1", "LISTEN a", "SET work_mem = '1MB'",
]


@pytest.mark.parametrize("text", REFUSED_ROW)
def test_row_refuses(server, wire, text):
    answer = run(wire, server, "acme", text)
    assert answer.code == "TN005", answer.errors or answer.rows
    assert "SECRET-B" not in str(answer.rows) and b"SECRET-B" not in answer.copied
    good = run(wire, server, "globex", "SELECT body FROM notes")
    assert good.rows[1] == [["SECRET-B"]], good.errors


def test_row_security_is_not_turned_off(server, wire):
    assert run(wire, server, "acme", "SET LOCAL row_security = off", "SELECT * FROM notes").code == "42501"
    assert run(wire, server, "acme", "SELECT bulkhead.enter('x')").code in ("TN002", "TN006")


def test_row_mode_in_parallel_workers(server, wire):
    answer = run(wire, server, "acme", f"SET LOCAL {pgserver.PARALLEL} = on", "SELECT body, bulkhead.tenant_no() FROM notes")
    assert answer.code is None, answer.errors
    assert answer.rows[2] == [["SECRET-A", "42"]]


@pytest.mark.parametrize("protocol_name", ["", "note"])
def test_row_mode_does_not_replan_for_another_tenant(server, wire, protocol_name):
    """A statement that the protocol prepared is planned five times (custom plans) and once more; tenants do not count."""
    text = f"SELECT body FROM notes WHERE id = $1 /* {protocol_name or 'literal'} */"
    server.sql("SELECT pg_stat_statements_reset()")
    wire.pipeline([(ENTER, [server.token(42, "acme")]), ("SELECT 1", [])])
    for i in range(30):
        tenant, secret = list({"acme": "SECRET-A", "globex": "SECRET-B"}.items())[i % 2]
        wire.step(ENTER, [server.token(ROWS[tenant], tenant)])
        if i == 0 or not protocol_name:
            wire.parse(text, name=protocol_name, types=[23])
        wire.bind([1], name=protocol_name)
        wire.execute()
        assert wire.sync().rows[1] == [[secret]]
    (plans, calls), = server.sql("SELECT sum(plans), sum(calls) FROM pg_stat_statements WHERE query LIKE 'SELECT body FROM notes WHERE id%%'")
    assert calls == 30
    assert plans <= 6 if protocol_name else plans == 30, "and without a name every statement is planned: the counter counts"


# ---- own database ----

def own(server, user="bh_t50", **startup):
    return Wire(server.port, user, pgserver.POOL_PASSWORD, "t50", **startup)


STOCK = [  # what an unmodified application may do with its own login; the last answer, where it matters
    ("SET work_mem = '1MB'; SHOW work_mem", "1MB"), ("SET my.setting = 'x'; SHOW my.setting", "x"), ("SELECT set_config('my.other', 'y', false)", "y"),
    ("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL REPEATABLE READ; SHOW transaction_isolation", None),
    ("RESET ALL", None), ("DISCARD ALL", None), ("DISCARD TEMP", None),
    ("CREATE TEMP TABLE kept (i int); INSERT INTO kept VALUES (1)", None), ("SELECT i FROM kept", "1"),
    ("PREPARE p AS SELECT 7", None), ("EXECUTE p", "7"), ("DEALLOCATE p", None),
    ("SELECT pg_advisory_lock(1)", ""), ("SELECT pg_advisory_unlock(1)", "t"), ("LISTEN a", None), ("NOTIFY a, 'x'", None), ("SELECT pg_notify('a', 'y')", ""), ("UNLISTEN *", None),
    ("CREATE SCHEMA s; CREATE TABLE s.t (id int PRIMARY KEY, v text)", None), ("INSERT INTO s.t SELECT i, 'v' FROM generate_series(1, 100) i", None),
    ("CREATE INDEX CONCURRENTLY t_v ON s.t (v)", None), ("REINDEX INDEX CONCURRENTLY s.t_v", None), ("VACUUM s.t", None), ("VACUUM FULL s.t", None), ("VACUUM ANALYZE", None),
    ("ANALYZE s.t", None), ("CLUSTER s.t USING t_pkey", None), ("EXPLAIN SELECT * FROM s.t", None), ("TRUNCATE s.t", None),
    ("BEGIN; LOCK TABLE s.t; COMMIT", None), ("BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT", None), ("FETCH c", "1"), ("CLOSE c", None),
    ("CREATE FUNCTION s.f() RETURNS int LANGUAGE sql AS 'SELECT 3'; SELECT s.f()", "3"), ("CREATE EXTENSION citext", None), ("DROP EXTENSION citext", None),
    ("CREATE PROCEDURE s.twice() LANGUAGE plpgsql AS $$BEGIN INSERT INTO s.t VALUES (1000); COMMIT; INSERT INTO s.t VALUES (1001); COMMIT; END$$", None),
    ("CALL s.twice()", None), ("SELECT count(*) FROM s.t WHERE id >= 1000", "2"), ("DO $$BEGIN DELETE FROM s.t WHERE id = 1000; COMMIT; END$$", None),
    ("SELECT nextval('q'), currval('q')", None), ("SELECT currval('q')", "1"), ("SELECT txid_current() > 0", "t"), ("SELECT pg_relation_size('s.t') >= 0", "t"),
    ("SELECT count(*) > 0 FROM pg_stat_user_tables", "t"), ("SELECT count(*) > 0 FROM pg_locks", "t"), ("SELECT pg_get_functiondef('s.f'::regproc) <> ''", "t"),
    ("SELECT lo_unlink(lo_create(0))", "1"), ("SELECT count(*) >= 1 FROM pg_stat_activity WHERE pid = pg_backend_pid()", "t"), ("BEGIN; INSERT INTO s.t VALUES (5); COMMIT AND CHAIN; SELECT bulkhead.tenant_no()", "50"), ("COMMIT", None),
    ("SELECT bulkhead.tenant_id()", "initech"), ("COMMENT ON TABLE s.t IS 'x'", None), ("GRANT SELECT ON s.t TO PUBLIC", None), ("REASSIGN OWNED BY bh_t50 TO bh_t50", None),
    ("BEGIN ISOLATION LEVEL SERIALIZABLE; SET search_path = s; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT 1; COMMIT", None), ("DROP SCHEMA s CASCADE", None),
]


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("user", ["bh_t50", "bi50"])
def test_an_application_with_its_own_database_notices_nothing(server, user, extended):
    server.sql("DROP SEQUENCE IF EXISTS q; CREATE SEQUENCE q; GRANT ALL ON SEQUENCE q TO bh_t50; ALTER SEQUENCE q OWNER TO bh_t50", database="t50")
    with own(server, user) as wire:
        for text, last in STOCK:
            for part in text.split("; ") if extended and "$$" not in text else [text]:
                answer = wire.pipeline([(part, [])]) if extended else wire.query(part)
                assert answer.code is None, (part, answer.errors)
            if last is not None:
                assert answer.rows[-1][-1][-1] == last, (text, answer.rows)


BEYOND = [
    "CREATE ROLE evil", "ALTER ROLE CURRENT_USER PASSWORD 'x'", "ALTER ROLE bh_t50 SET work_mem = '1GB'", "ALTER ROLE ALL SET work_mem = '1GB'", "DROP ROLE bulkhead_pool",
    "GRANT bh_t50 TO bulkhead_pool", "ALTER SYSTEM SET work_mem = '1GB'", "ALTER DATABASE t50 SET work_mem = '1GB'", "ALTER DATABASE t50 CONNECTION LIMIT 0", "ALTER DATABASE t50 RENAME TO mine",
    "ALTER DATABASE t50 OWNER TO bulkhead_pool", "GRANT CONNECT ON DATABASE t50 TO PUBLIC", "DROP DATABASE t50", "CREATE DATABASE other", "LOAD 'auto_explain'", "COPY (SELECT 1) TO '/tmp/x'",
    "COPY (SELECT 1) TO PROGRAM 'id'", "CREATE EXTENSION plperl", "CREATE EXTENSION dblink", "CREATE EXTENSION lo", "CREATE EXTENSION citext SCHEMA bulkhead", "SET search_path = bulkhead; CREATE EXTENSION citext", "CREATE LANGUAGE plperl", "DROP SCHEMA bulkhead CASCADE",
    "SELECT pg_create_logical_replication_slot('x', 'pgoutput')", "CREATE SUBSCRIPTION s CONNECTION 'dbname=shared1' PUBLICATION p", "ALTER GROUP bh_t50 ADD USER bulkhead_pool", "CALL bulkhead.fence(50, 9)", "CREATE FUNCTION bulkhead.evil() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "REASSIGN OWNED BY bh_t50 TO bulkhead_pool", "SHOW bulkhead.key_file", "SET bulkhead.literal_token = on", "DO $$BEGIN EXECUTE 'CREATE ROLE evil'; END$$", "BEGIN; SELECT 1; PREPARE TRANSACTION 'x'",
    "SELECT pg_read_file('PG_VERSION')", "SELECT * FROM bulkhead.tenant", "INSERT INTO bulkhead.login VALUES ('bulkhead_pool', 50)", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'postgres'",
    "SET SESSION AUTHORIZATION postgres", "SET ROLE postgres", "SELECT rolpassword FROM pg_authid", "CREATE TABLESPACE x LOCATION '/tmp'", "DROP EXTENSION bulkhead", "ALTER EXTENSION bulkhead ADD FUNCTION pg_sleep(float8)",
    "DROP TABLE bulkhead.tenant", "UPDATE bulkhead.tenant SET state = 'active'", "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION bulkhead.tenant_changed()", "SELECT bulkhead.open_database()",
]


@pytest.mark.parametrize("text", BEYOND)
def test_nothing_reaches_beyond_the_database(server, text):
    with own(server) as wire:
        answer = wire.query(text)
        wire.query("ROLLBACK")
        assert answer.code in ("TN005", "42501", "25001", "0A000", "42704"), (answer.errors, answer.rows)
        assert wire.query("SELECT 1").rows == [[["1"]]]
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        server.connect("bh_t50", "shared1")
    assert server.sql("SELECT 1 FROM pg_roles WHERE rolname = 'evil'") == []


def test_a_token_in_its_own_database(server):
    """Through the pool: session state is the tenant's, what is outside of the transaction stays denied."""
    with pool(server, database="t50") as wire:
        enter = (ENTER, [server.token(50, "initech", "t50")])
        good = wire.pipeline([enter, ("CREATE TEMP TABLE kept (i int)", []), ("PREPARE p AS SELECT 7", []), ("LISTEN a", []), ("SET my.x = 'kept'", []),
                              ("SELECT current_user, bulkhead.tenant_no()", [])])
        assert good.code is None, good.errors
        assert good.rows[-1] == [["bh_t50", "50"]]
        assert wire.query("SELECT * FROM kept").code == "TN001"
        assert wire.query("SELECT current_user").rows == [[["bulkhead_pool"]]]
        again = wire.pipeline([enter, ("SELECT count(*) FROM kept", []), ("EXECUTE p", []), ("SHOW my.x", [])])
        assert again.code is None, again.errors
        assert again.rows[1:] == [[["0"]], [["7"]], [["kept"]]]
        for text in ("CREATE ROLE evil", "SET ROLE bulkhead_pool", "DO $$BEGIN COMMIT; END$$", "ALTER DATABASE t50 SET work_mem = '1GB'"):
            assert wire.pipeline([enter, (text, [])]).code in ("TN005", "42501", "2D000"), text
        # the tenant moves to a shared database's rules: what is left in the session ends the connection
        server.sql("UPDATE bulkhead.tenant SET mode = 'schema' WHERE no = 50", database="t50")
        try:
            assert wire.pipeline([enter, ("SELECT 1", [])]).errors[0]["S"] == "FATAL"
        finally:
            server.sql("UPDATE bulkhead.tenant SET mode = 'database' WHERE no = 50", database="t50")


def test_an_anonymous_scope_writes_nothing_in_its_own_database(server):
    anonymous = (ENTER, [server.token(50, "initech", "t50", scope="anonymous")])
    server.sql("CREATE TABLE IF NOT EXISTS target (i int); ALTER TABLE target OWNER TO bh_t50; CREATE SEQUENCE IF NOT EXISTS counter; ALTER SEQUENCE counter OWNER TO bh_t50", database="t50")
    for text in ("INSERT INTO target VALUES (1)", "CREATE TABLE x (i int)", "SELECT lo_create(0)", "SELECT lo_from_bytea(0, 'x')", "SELECT pg_notify('a', 'b')", "SELECT nextval('counter')",
                 "DO $$BEGIN PERFORM set_config('transaction_read_only', NULL, true); INSERT INTO target VALUES (1); END$$", "RESET transaction_read_only; INSERT INTO target VALUES (1)",
                 "SET transaction_read_only = off; INSERT INTO target VALUES (1)", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE; INSERT INTO target VALUES (1)", "DISCARD SEQUENCES; TRUNCATE target",
                 "RESET ALL; INSERT INTO target VALUES (1)"):
        with pool(server, database="t50") as wire:
            answer = wire.pipeline([anonymous] + [(part, []) for part in (text.split("; ") if "$$" not in text else [text])])
            # 0A000: from PostgreSQL 16 on transaction_read_only cannot be reset.
            assert answer.code in ("TN005", "25006", "25001", "0A000"), (text, answer.errors)
            assert wire.pipeline([anonymous, ("SELECT count(*) FROM target", [])]).rows[1] == [["0"]]
            good = wire.pipeline([(ENTER, [server.token(50, "initech", "t50")]), ("INSERT INTO target VALUES (1)", []), ("DELETE FROM target", [])])
            assert good.code is None, good.errors


def test_limits_in_its_own_database_are_ceilings(server):
    server.sql("""UPDATE bulkhead.tenant SET limits = '{"work_mem": "8MB", "statement_timeout": "300ms"}' WHERE no = 50""", database="t50")
    try:
        with own(server, options="-c work_mem=64MB") as wire:
            assert wire.query("SELECT pg_sleep(2)").code == "57014", "the first statement of a session too"
            for text, shown in (("SET work_mem = '1MB'", "1MB"), ("SET work_mem = '1GB'", "8MB"), ("SET LOCAL work_mem = '1GB'", "8MB"), ("RESET work_mem", "8MB"), ("DISCARD ALL", "8MB"),
                                ("SELECT set_config('work_mem', '1GB', false)", "8MB"), ("SELECT set_config('work_mem', NULL, false)", "8MB")):
                assert wire.query(text).code is None, text
                assert wire.query("SHOW work_mem").rows == [[[shown]]], text
            for text in ("SET statement_timeout = 0", "SET statement_timeout = '1h'", "RESET ALL", "SELECT 1"):
                assert wire.query(text).code is None, text
                assert wire.query("SELECT pg_sleep(2)").code == "57014", text
            assert wire.query("SET maintenance_work_mem = '2GB'; SHOW maintenance_work_mem").rows[-1] == [["2GB"]], "no limit, no ceiling"
    finally:
        server.sql("UPDATE bulkhead.tenant SET limits = '{}' WHERE no = 50", database="t50")


def test_instance_is_as_database(server):
    server.sql("UPDATE bulkhead.tenant SET mode = 'instance' WHERE no = 50", database="t50")
    try:
        with own(server) as wire:
            assert wire.query("SET work_mem = '1MB'").code is None
            assert wire.query("CREATE TEMP TABLE x (i int)").code is None
            assert wire.query("CREATE ROLE evil").code == "TN005"
    finally:
        server.sql("UPDATE bulkhead.tenant SET mode = 'database' WHERE no = 50", database="t50")
