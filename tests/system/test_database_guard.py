"""Deny by default: what a pool role may do before a tenant is bound; and what nobody may while one is."""
import pytest
from database import ENTER, SECRETS, as_tenant, assert_clean, pool, server, token, wire  # noqa: F401
from pgwire import Wire

ALLOWED = [
    "", ";", "BEGIN", "START TRANSACTION", "BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY, DEFERRABLE",
    "BEGIN; SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SAVEPOINT a; RELEASE a; SAVEPOINT b; ROLLBACK TO b; COMMIT",
    "BEGIN; COMMIT AND CHAIN; ROLLBACK AND CHAIN; ROLLBACK", "END", "ABORT",
    "SHOW search_path", "SHOW ALL", "SHOW transaction_read_only", "RESET ALL", "CLOSE ALL", "UNLISTEN *",
    "SET client_encoding = 'LATIN1'", "SET NAMES 'UTF8'", "SET datestyle = 'ISO'", "SET TIME ZONE 'UTC'", "SET TimeZone = 'UTC'",
    "SET standard_conforming_strings = on", "SET application_name = 'x'", "SET application_name TO DEFAULT",
    "SELECT 1", "SELECT", "SELECT 1 FOR UPDATE", "SELECT 'a'::text, 1 + 1, 2 > 1, NULL, true AND NOT false", "SELECT 1 WHERE 2 = 2",
    "SELECT CASE WHEN 1 = 1 THEN 'a' ELSE 'b' END", "SELECT COALESCE(NULL, 1)", "SELECT 'x' || 'y'", "SELECT 1 IN (1, 2)",
    "SELECT '2020-01-01'::date + 1", "SELECT 1::text", "SELECT ARRAY[1, 2]", "SELECT version()", "SELECT current_database()",
    "SELECT current_user, session_user, current_schema", "SELECT now()", "SELECT CURRENT_TIMESTAMP", "SELECT pg_backend_pid()",
    "SELECT pg_is_in_recovery()", "SELECT current_setting('server_version_num')", "SELECT '{\"a\":1}'::jsonb",
    # what drivers and their pools send by themselves (doc/guide/drivers.md)
    "-- ping", "/* ping */ ;", "SELECT pg_advisory_unlock_all(); CLOSE ALL; UNLISTEN *; RESET ALL;", "SELECT pg_catalog.pg_advisory_unlock_all()",
    "SELECT current_schemas(false)", "SELECT pg_catalog.current_schemas(true)", "SELECT pg_client_encoding()", "SHOW TRANSACTION ISOLATION LEVEL",
    "SHOW standard_conforming_strings", "SET extra_float_digits = 3", "SET extra_float_digits TO 2", "BEGIN READ ONLY",
    "SELECT set_config('TimeZone', 'UTC', false)", "SELECT pg_catalog.set_config('application_name', 'a' || 'b', true)",
    "SELECT set_config('timezone', NULL, false)", "SELECT set_config('DateStyle', 'ISO', false), set_config('client_encoding', 'UTF8', false)",
]

DENIED = [
    # data and catalogues
    "SELECT * FROM pg_class", "SELECT * FROM bulkhead.tenant", "SELECT * FROM t42.notes", "TABLE pg_stat_activity",
    "SELECT query FROM pg_stat_activity", "SELECT * FROM pg_settings", "SELECT 1 FROM generate_series(1, 2)",
    "SELECT (SELECT 1)", "SELECT EXISTS (SELECT 1)", "WITH x AS (SELECT 1) SELECT 1", "SELECT 1 UNION SELECT 2", "VALUES (1), (2)",
    "SELECT generate_series(1, 3)", "SELECT count(*)", "SELECT row_number() OVER ()", "SELECT 1 LIMIT 1", "SELECT 1 ORDER BY 1",
    "SELECT DISTINCT 1", "SELECT 1 GROUP BY 1", "SELECT ROW(1, 2)", "VALUES (1)",
    # catalogue look-ups dressed as constants
    "SELECT 1259::regclass", "SELECT 'pg_class'::regclass", "SELECT 10::oid::regrole", "SELECT 1259::oid::regclass::text",
    "SELECT to_regclass('pg_class')", "SELECT CAST('pg_class' AS regclass) = 1::oid", "SELECT '=r/postgres'::aclitem",
    "SELECT 'pg_class'::text::regclass", "SELECT format_type(23, 0)", "SELECT has_table_privilege('pg_class', 'SELECT')",
    "SELECT ARRAY['pg_class'::regclass]", "SELECT pg_get_viewdef(1)", "SELECT obj_description(1259, 'pg_class')",
    "SELECT bulkhead.tenant_no()", "SELECT bulkhead.tenant_id()", "SELECT coalesce(bulkhead.tenant_no(), 1)",
    # functions that do something
    "SELECT set_config('search_path', 't42', false)", "SELECT pg_sleep(0)", "SELECT pg_terminate_backend(1)", "SELECT pg_cancel_backend(1)",
    "SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_lock(1)", "SELECT pg_notify('a', 'b')", "SELECT lo_create(0)", "SELECT lastval()",
    "SELECT nextval('t42.orders_id_seq')", "SELECT setseed(0.1)", "SELECT random()", "SELECT txid_current()", "SELECT pg_export_snapshot()",
    "SELECT query_to_xml('select 1', true, true, '')", "SELECT current_query()", "SELECT pg_stat_get_activity(NULL)",
    "SELECT repeat('x', 10)", "SELECT pg_logical_emit_message(true, 'a', 'b')", "SELECT upper('x')",
    "SELECT set_config('extra_float_digits', '3', false)", "SELECT set_config('role', 'bh_t42', false)", "SELECT set_config('bulkhead.pooler', 'none', false)",
    "SELECT set_config('Time' || 'Zone', 'UTC', false)", "SELECT set_config(NULL, 'UTC', false)", "SELECT set_config(current_setting('TimeZone'), 'UTC', true)",
    "SELECT set_config('TimeZone', (SELECT 'UTC'), false)", "SELECT set_config('TimeZone', upper('utc'), false)", "SELECT set_config('TimeZone', set_config('role', 'bh_t42', true), true)",
    "SELECT pg_advisory_unlock(1)", "SELECT pg_advisory_unlock_all() FROM pg_class", "SELECT oid, typname FROM pg_type", "SELECT pg_typeof(1)",
    # statements
    "SET extra_float_digits = 0", "SET extra_float_digits = -15", "SET extra_float_digits = '3'", "SET extra_float_digits TO DEFAULT",
    "DISCARD ALL", "DISCARD PLANS", "DISCARD TEMP", "SET search_path = t42", "SET LOCAL work_mem = '1MB'", "SET ROLE bh_t42", "RESET ROLE",
    "SET SESSION AUTHORIZATION DEFAULT", "RESET SESSION AUTHORIZATION", "RESET search_path", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
    "BEGIN; SET TRANSACTION SNAPSHOT '00000003-0000001B-1'", "SET bulkhead.pooler = pgbouncer", "SET my.x = 1", "SET timezone FROM CURRENT",
    "PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE p", "DEALLOCATE ALL", "LISTEN a", "NOTIFY a", "UNLISTEN a", "LOAD 'auto_explain'",
    "BEGIN; DECLARE c CURSOR FOR SELECT 1", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "FETCH c", "MOVE c", "CLOSE c",
    "COPY (SELECT 1) TO STDOUT", "COPY t42.notes TO STDOUT", "COPY t42.notes FROM STDIN", "EXPLAIN SELECT 1", "EXPLAIN ANALYZE SELECT 1",
    "DO $$BEGIN END$$", "CALL p()", "LOCK t42.notes", "TRUNCATE t42.notes", "VACUUM", "ANALYZE", "CHECKPOINT", "CLUSTER", "REINDEX SCHEMA t42",
    "CREATE TEMP TABLE x (i int)", "CREATE TABLE x (i int)", "SELECT 1 AS i INTO TEMP x", "CREATE TABLE x AS SELECT 1", "CREATE VIEW v AS SELECT 1",
    "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE SCHEMA x", "DROP SCHEMA t42", "COMMENT ON ROLE bulkhead_pool IS 'x'",
    "ALTER ROLE bulkhead_pool PASSWORD 'x'", "ALTER ROLE bulkhead_pool SET search_path = t42", "ALTER ROLE CURRENT_USER SET statement_timeout = 1",
    "GRANT bh_t42 TO bulkhead_pool", "CREATE ROLE evil", "ALTER SYSTEM SET work_mem = '1MB'", "ALTER DATABASE shared1 SET work_mem = '1MB'",
    "BEGIN; PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "ROLLBACK PREPARED 'x'", "CREATE EXTENSION dblink", "REASSIGN OWNED BY CURRENT_USER TO bh_t42",
    "INSERT INTO bulkhead.tenant (no) VALUES (1)", "UPDATE pg_settings SET setting = 1", "DELETE FROM bulkhead.tenant", "MERGE INTO bulkhead.tenant USING (VALUES (1)) v ON false WHEN NOT MATCHED THEN DO NOTHING",
]
# Parse analysis comes first and keeps its own SQLSTATE: no such object, no right to the schema.
ANALYSIS = {"42501", "42P01", "42883", "42601", "0A000", "22P02", "26000"}


def exchange(wire, text, extended):
    """By the simple protocol, or each statement by Parse, Bind, Execute in one pipeline."""
    if not extended:
        return wire.query(text)
    return wire.pipeline([(part, []) for part in text.split("; ")])


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("text", ALLOWED)
def test_allowed_unbound(server, wire, text, extended):
    answer = exchange(wire, text, extended)
    assert answer.code is None, answer.errors
    wire.query("ROLLBACK")
    assert_clean(wire, server)


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("text", DENIED)
def test_denied_unbound(server, wire, text, extended):
    answer = exchange(wire, text, extended)
    assert answer.code == "TN001" or answer.code in ANALYSIS, answer.errors or answer.rows
    if answer.code == "TN001":
        assert answer.message == "no tenant is bound to this transaction"
        assert "bulkhead.enter" in answer.errors[0]["H"]
    assert not any(rows for rows in answer.rows)
    wire.query("ROLLBACK")
    assert_clean(wire, server)


def test_most_denials_are_ours(server, wire):
    """Positive control: the denials above come from the guard, not from missing rights."""
    ours = 0
    for text in DENIED:
        ours += wire.query(text).code == "TN001"
        wire.query("ROLLBACK")
    assert ours > len(DENIED) * 0.8


def test_other_logins_are_not_touched(server):
    with Wire(server.port, "postgres", "admin-secret", "shared1") as wire:
        assert wire.query("SELECT count(*) > 0, bulkhead.tenant_no(), bulkhead.tenant_id() FROM pg_class").rows == [
            [["t", None, None]]]
        assert wire.query("CREATE TEMP TABLE x (i int); DISCARD ALL; PREPARE p AS SELECT 1; EXECUTE p").code in (None, "25001")


def test_the_session_user_counts(server):
    """SET SESSION AUTHORIZATION to the pool role is being it; SET ROLE to it is not."""
    with Wire(server.port, "postgres", "admin-secret", "shared1") as wire:
        assert wire.query("SET ROLE bulkhead_pool; SELECT count(*) > 0 FROM pg_class").code is None
        assert wire.query("RESET ROLE; SET SESSION AUTHORIZATION bulkhead_pool; SELECT count(*) FROM pg_class").code == "TN001"


def test_renamed_and_listed_roles(server):
    server.sql("CREATE ROLE late LOGIN PASSWORD 'late'; GRANT CONNECT ON DATABASE shared1 TO late")
    try:
        with Wire(server.port, "late", "late", "shared1") as wire:
            assert wire.query("SELECT 1 FROM pg_class LIMIT 1").code is None
            server.sql("ALTER SYSTEM SET bulkhead.pool_roles = 'bulkhead_pool, \"late\"'")
            server.reload()
            assert wire.query("SELECT 1 FROM pg_class LIMIT 1").code == "TN001"
            server.sql("ALTER ROLE late RENAME TO later")
            assert wire.query("SELECT 1 FROM pg_class LIMIT 1").code is None
    finally:
        server.sql("ALTER SYSTEM RESET bulkhead.pool_roles")
        server.reload()
        server.sql("REVOKE ALL ON DATABASE shared1 FROM later; DROP ROLE later")


def test_database_without_the_extension_denies_too(server):
    server.sql("CREATE DATABASE bare", database="postgres")
    with pool(server, database="bare") as wire:
        assert wire.query("SELECT 1").rows == [[["1"]]]
        assert wire.query("SELECT * FROM pg_class").code == "TN001"
        assert wire.query("SELECT upper('x')").code == "TN001"


# ---- ways around the statement

def oid(server, signature):
    return server.sql("SELECT %s::regprocedure::oid::int", [signature])[0][0]


def test_fast_path_calls(server, wire):
    for signature, args in (("pg_terminate_backend(int,bigint)", (1, 0)), ("md5(text)", ("x",)), ("version()", ()),
                            ("bulkhead.tenant_no()", ()), ("bulkhead.enter(text)", (token(server),)), ("nextval(regclass)", (1,))):
        answer = wire.call(oid(server, signature), *args)
        assert answer.code in ("TN001", "42501"), (signature, answer.errors, answer.value)
        assert_clean(wire, server)
    wire.query("BEGIN")
    wire.pipeline([(ENTER, [token(server)])])
    assert wire.call(oid(server, "md5(text)"), "x").value == "9dd4e461268c8034f5c8564e155c67a6"
    assert wire.call(oid(server, "bulkhead.tenant_no()")).value == "42"
    assert wire.call(oid(server, "bulkhead.enter(text)"), token(server)).code == "TN006"
    wire.query("ROLLBACK")
    assert_clean(wire, server)


def test_statements_prepared_while_bound_do_not_run_unbound(server, wire):
    for text in ("SELECT body FROM notes", "INSERT INTO notes (body) VALUES ('late')", "SELECT upper('x')"):
        for _ in range(7):  # generic plans too
            wire.step(ENTER, [token(server)])
            wire.parse(text, name="held")
            wire.bind(name="held")
            assert wire.sync().code is None
            wire.bind(name="held")
            wire.execute()
            answer = wire.sync()
            assert answer.code in ("TN001", "42P01"), answer.errors
            wire.put(b"C", b"Sheld\0")
            wire.sync()
    assert_clean(wire, server)
    assert as_tenant(wire, server, ["SELECT 1 FROM notes WHERE body = 'late'"]).rows[1] == []


def test_statements_prepared_unbound_run_where_they_resolve(server, wire):
    wire.parse("SELECT body FROM notes", name="early")
    assert wire.sync().code == "42P01"
    wire.parse("SELECT 40 + $1", name="constant", types=[23])
    wire.bind([2], name="constant")
    wire.execute()
    assert wire.sync().rows == [[["42"]]]


def test_portals_opened_before_enter(server, wire):
    wire.query("BEGIN")
    for text in ("SELECT * FROM pg_class", "SELECT generate_series(1, 10)"):
        wire.parse(text)
        wire.bind(portal="early")
        assert wire.sync().code == "TN001"
        wire.query("ROLLBACK")
        wire.query("BEGIN")
    wire.parse("SELECT current_user")
    wire.bind(portal="early")
    assert wire.sync().code is None
    wire.step(ENTER, [token(server)])
    wire.execute(portal="early")
    answer = wire.sync()
    assert answer.code is None or answer.code == "TN001", answer.errors
    wire.query("ROLLBACK")
    assert_clean(wire, server)


def test_portals_of_a_tenant_end_with_it(server, wire):
    wire.query("BEGIN")
    wire.step(ENTER, [token(server)])
    wire.parse("SELECT body FROM notes, generate_series(1, 10)")
    wire.bind(portal="mine")
    wire.execute(portal="mine", limit=1)
    assert wire.sync().suspended == 1
    wire.query("COMMIT")
    wire.step(ENTER, [token(server, "globex")])
    wire.execute(portal="mine")
    assert wire.sync().code == "34000"
    assert_clean(wire, server)


def test_domains_of_a_tenant_run_nothing_unbound(server, wire):
    """A parameter's type is named by number, past all rights; its CHECK would run as the pool role."""
    server.sql("CREATE FUNCTION t42.spy(text) RETURNS bool LANGUAGE plpgsql AS"
               " $$BEGIN RAISE EXCEPTION 'ran' USING ERRCODE = 'ZZ001'; END$$;"
               "CREATE DOMAIN t42.bait AS text CHECK (t42.spy(VALUE))")
    number = server.sql("SELECT 't42.bait'::regtype::oid::int")[0][0]
    for text in ("SELECT $1", "SELECT 1 WHERE $1 IS NULL"):
        wire.parse(text, types=[number])
        wire.bind(["x"])
        wire.execute()
        assert wire.sync().code == "TN001"
    server.sql("GRANT EXECUTE ON FUNCTION t42.spy(text) TO bh_t42")
    wire.step(ENTER, [token(server)])
    wire.parse("SELECT $1", types=[number])
    wire.bind(["x"])
    assert wire.sync().code == "ZZ001"  # positive control
    assert_clean(wire, server)


def test_describe_tells_nothing(server, wire):
    wire.parse("SELECT body FROM t42.notes")
    wire.describe("S")
    assert wire.sync().code == "42501"


def test_discard_all_only_where_the_role_says_so(server):
    server.sql("ALTER ROLE bulkhead_pool SET bulkhead.discard_all = on")
    try:
        with pool(server) as wire:
            assert wire.query("DISCARD ALL").code is None
            assert wire.query("DEALLOCATE ALL").code is None
            for other in ("DISCARD PLANS", "DEALLOCATE held", "PREPARE held AS SELECT 1"):
                assert wire.query(other).code == "TN001"
            for text in ("DISCARD ALL", "DEALLOCATE ALL"):
                assert as_tenant(wire, server, [text]).code == "TN005"
            assert_clean(wire, server)
    finally:
        server.sql("ALTER ROLE bulkhead_pool RESET bulkhead.discard_all")


# ---- while a tenant is bound

BOUND_DENIED = {
    "TN005": [
        "CREATE EXTENSION file_fdw", "DISCARD ALL", "DISCARD PLANS", "DISCARD SEQUENCES", "DISCARD TEMP", "PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE ALL",
        "LISTEN a", "UNLISTEN *", "NOTIFY a, 'b'", "LOAD 'auto_explain'", "DECLARE c CURSOR WITH HOLD FOR SELECT 1", "RESET ALL",
        "SET ROLE bh_t43", "SET LOCAL ROLE bh_t43", "SET ROLE NONE", "RESET ROLE", "SET role TO DEFAULT", "SET SESSION AUTHORIZATION bh_t43",
        "SET SESSION AUTHORIZATION DEFAULT", "RESET SESSION AUTHORIZATION", "SET LOCAL SESSION AUTHORIZATION DEFAULT",
        "ALTER ROLE bh_t42 SET work_mem = '1MB'", "ALTER ROLE CURRENT_USER SET search_path = t43", "ALTER ROLE bulkhead_pool PASSWORD 'x'",
        "ALTER ROLE bh_t42 SUPERUSER", "CREATE ROLE evil", "DROP ROLE bh_t43", "GRANT bh_t43 TO bh_t42", "ALTER DATABASE shared1 SET role = 'x'",
        "ALTER SYSTEM SET work_mem = '1MB'", "PREPARE TRANSACTION 'x'", "COMMIT PREPARED 'x'", "DO $$BEGIN EXECUTE 'LISTEN a'; END$$",
        "DO $$BEGIN EXECUTE 'SET ROLE bh_t43'; END$$", "DO $$BEGIN EXECUTE 'RESET ALL'; END$$",
        "LOCK TABLE notes", "LOCK notes IN ACCESS SHARE MODE", "LOCK TABLE notes NOWAIT", "DO $$BEGIN LOCK TABLE notes; END$$",
        "COPY notes TO PROGRAM 'id'", "COPY notes FROM PROGRAM 'id'", "COPY notes TO '/tmp/x'", "COPY notes FROM '/etc/passwd'",
        "COPY (SELECT 1) TO PROGRAM 'id'", "DO $$BEGIN COPY notes FROM '/etc/passwd'; END$$", "DROP OWNED BY CURRENT_USER", "DROP OWNED BY bh_t42",
        "REASSIGN OWNED BY bh_t42 TO bh_t43", "ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO PUBLIC",
        "ALTER DEFAULT PRIVILEGES FOR ROLE bh_t43 GRANT ALL ON TABLES TO bh_t42", "SET bulkhead.literal_token = on",
        "SET session_replication_role = replica", "SET bulkhead.max_transaction_age = 86400", "SET bulkhead.pool_roles = ''",
    ],
    "TN006": ["SELECT bulkhead.enter('x')", "DO $$BEGIN PERFORM bulkhead.enter('x'); END$$"],
    "42501": [
        "SELECT set_config('role', 'none', false)", "SELECT set_config('role', NULL, true)", "SELECT set_config('session_authorization', 'bh_t43', true)",
        "SELECT pg_advisory_lock(1)", "SELECT pg_try_advisory_lock(1, 2)", "SELECT pg_advisory_xact_lock(1)", "SELECT lo_create(0)", "SELECT lo_get(1)",
        "SELECT lo_from_bytea(0, 'x')", "SELECT pg_notify('a', 'b')", "SELECT pg_terminate_backend(1)", "SELECT pg_cancel_backend(1)",
        "SELECT * FROM pg_stat_activity", "SELECT * FROM pg_locks", "SELECT pg_export_snapshot()", "SELECT pg_logical_emit_message(true, 'a', 'b')",
        "SELECT * FROM bulkhead.tenant", "DELETE FROM bulkhead.tenant", "SELECT bulkhead.tenant_changed()", "SELECT * FROM t43.notes",
        "CREATE TABLE t43.x (i int)", "ALTER SCHEMA t43 OWNER TO bh_t42", "SELECT pg_read_file('PG_VERSION')", "COPY t43.notes TO STDOUT",
        "SHOW bulkhead.key_file", "SET LOCAL bulkhead.literal_token = on", "SET LOCAL session_replication_role = replica", "CREATE TEMP TABLE x (i int)",
    ],
    "55P02": ["SET LOCAL bulkhead.max_transaction_age = 86400", "SET LOCAL bulkhead.pool_roles = ''", "SET LOCAL bulkhead.work_mem = '1GB'", "SELECT set_config('bulkhead.server', 'x', true)"],
}


@pytest.mark.parametrize("wanted,text", [(code, text) for code, texts in BOUND_DENIED.items() for text in texts])
def test_denied_bound(server, wire, wanted, text):
    answer = as_tenant(wire, server, [text, "SELECT body FROM t43.notes"])
    codes = {wanted, "42501", "0A000"} if wanted in ("42501", "55P02") else {wanted}
    assert answer.code in codes, answer.errors or answer.rows
    assert_clean(wire, server)
    wire.query("BEGIN")  # the same inside a block with a savepoint
    as_tenant(wire, server, ["SAVEPOINT s"])
    assert wire.query(text).code in codes | {"25001"}
    assert wire.query("ROLLBACK TO s").code is None
    assert wire.query("SELECT current_user, bulkhead.tenant_no()").rows == [[["bh_t42", "42"]]]
    wire.query("ROLLBACK")
    assert_clean(wire, server)


TEMPORARY = ["CREATE TEMP TABLE x (i int)", "CREATE TABLE pg_temp.x (i int)", "CREATE TEMP TABLE x AS SELECT 1", "SELECT 1 AS i INTO TEMP x",
             "CREATE TEMP SEQUENCE x", "CREATE TEMP VIEW x AS SELECT 1", "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
             "CREATE TYPE pg_temp.t AS (i int)", "DO $$BEGIN CREATE TEMP TABLE x (i int); END$$", "EXPLAIN ANALYZE CREATE TEMP TABLE x AS SELECT 1"]


@pytest.mark.parametrize("text", TEMPORARY)
def test_temporary_objects_even_with_the_right_to_them(server, wire, text):
    server.sql("GRANT TEMP ON DATABASE shared1 TO bh_t42")
    try:
        assert as_tenant(wire, server, [text]).code == "TN005"
        assert_clean(wire, server)
    finally:
        server.sql("REVOKE TEMP ON DATABASE shared1 FROM bh_t42")


def test_allowed_bound(server, wire):
    for text in ("SELECT 1", "DECLARE c CURSOR FOR SELECT body FROM notes", "SET LOCAL work_mem = '1MB'", "SET CONSTRAINTS ALL IMMEDIATE", "SHOW ALL", "SET TRANSACTION READ ONLY",
                 "EXPLAIN SELECT * FROM notes", "COPY (SELECT 1) TO STDOUT", "DO $$BEGIN PERFORM 1; END$$", "CLOSE ALL", "SAVEPOINT s",
                 "SELECT nextval('orders_id_seq')", "SELECT count(*) FROM pg_class", "SET LOCAL search_path = t42", "SET LOCAL TIME ZONE 'UTC'",
                 "SELECT set_config('my.x', '1', true)", "COPY notes TO STDOUT", "SELECT body FROM notes FOR UPDATE", "EXPLAIN ANALYZE SELECT 1",
                 "SELECT current_setting('work_mem')", "SET LOCAL work_mem TO DEFAULT"):
        wire.query("BEGIN")
        answer = as_tenant(wire, server, [text])
        assert answer.code is None, (text, answer.errors)
        wire.query("ROLLBACK")


# ---- the scope "anonymous"

UNLOCK = ["SET transaction_read_only = off", "RESET transaction_read_only", "SELECT set_config('transaction_read_only', 'off', false)",
          "SELECT set_config('transaction_read_only', NULL, true)", "SET LOCAL transaction_read_only = off", "SET TRANSACTION READ WRITE",
          "SET default_transaction_read_only = off", "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
          "DO $$BEGIN RESET transaction_read_only; END$$", "DO $$BEGIN PERFORM set_config('transaction_read_only', NULL, false); END$$", "SELECT 1"]
WRITE = ["INSERT INTO notes (body) VALUES ('w')", "UPDATE notes SET body = 'w'", "DELETE FROM notes", "WITH w AS (DELETE FROM notes RETURNING 1) SELECT * FROM w",
         "DO $$BEGIN RESET transaction_read_only; DELETE FROM notes; END$$", "COPY notes (body) FROM STDIN", "SELECT nextval('orders_id_seq')",
         "DO $$DECLARE i bigint; BEGIN i := nextval('orders_id_seq'); END$$", "SELECT set_config('transaction_read_only', NULL, true), nextval('orders_id_seq')",
         "SELECT * FROM notes FOR UPDATE", "CREATE TABLE t42.x (i int)", "TRUNCATE notes", "SELECT setval('orders_id_seq', 99)"]


@pytest.mark.parametrize("unlock", UNLOCK)
def test_anonymous_cannot_write(server, wire, unlock):
    for write in WRITE:
        wire.query("BEGIN READ WRITE")
        begun = as_tenant(wire, server, ["SAVEPOINT s"], scope="read anonymous")
        assert begun.code is None, begun.errors
        if wire.query(unlock).code is not None:
            wire.query("ROLLBACK TO s")
        answer = wire.query(write)
        assert answer.code in ("25006", "TN005", "42501"), (write, answer.errors or answer.rows)
        wire.query("ROLLBACK")
    assert_clean(wire, server)
    assert as_tenant(wire, server, ["SELECT body FROM notes"]).rows[1] == [[SECRETS["acme"]]]


def test_anonymous_reads_and_its_word_is_whole(server, wire):
    assert as_tenant(wire, server, ["SELECT body FROM notes"], scope="anonymous").rows[1] == [[SECRETS["acme"]]]
    for scope in ("", "anonymouse", "not-anonymous"):
        wire.query("BEGIN")
        assert as_tenant(wire, server, ["INSERT INTO notes (body) VALUES ('w')"], scope=scope).code is None
        wire.query("ROLLBACK")


# ---- what drivers send by themselves

def test_float_digits_of_drivers_change_nothing(server, wire):
    """Neither for this client nor for the next one on the same server connection; and others than pool roles set it as ever."""
    shown = wire.query("SHOW extra_float_digits").rows
    assert wire.query("SET extra_float_digits = 3").code is None
    assert wire.query("SHOW extra_float_digits").rows == shown == [[["1"]]]
    digits = ["SELECT 0.1::float8 + 0.2::float8, 1.1::float4, float8 '1e-300' / 3"]
    mine = as_tenant(wire, server, digits)
    with Wire(server.port, "postgres", "admin-secret", "shared1") as admin:
        assert admin.query("SET extra_float_digits = 3; SHOW extra_float_digits").rows[-1] == [["3"]]
        assert admin.query(digits[0]).rows[0] == mine.rows[1]
    assert as_tenant(wire, server, ["SET extra_float_digits = 3"]).code == "TN005"
    assert wire.query("BEGIN; SELECT 1/0").code == "22012"
    assert wire.query("SET extra_float_digits = 3").code == "25P02"


def test_unlock_all_keeps_the_locks_of_the_transaction(server, wire):
    held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 176"
    wire.query("BEGIN")
    assert as_tenant(wire, server, ["SELECT bulkhead.lock(7)", "SELECT pg_advisory_unlock_all()"]).code is None
    assert server.sql(held) == [(1,)]
    wire.query("COMMIT")
    assert server.sql(held) == [(0,)]
    assert as_tenant(wire, server, ["SELECT pg_advisory_lock(1)"]).code == "42501"


def test_set_config_of_the_five_is_their_set(server, wire):
    """The same ends as SET, told to the client and the pooler; the name may not be a parameter."""
    assert wire.pipeline([("SELECT set_config('TimeZone', $1, false)", ["Asia/Tokyo"])]).code is None
    assert wire.query("SHOW TimeZone").rows == [[["Asia/Tokyo"]]]
    assert wire.pipeline([("SELECT set_config($1, 'Asia/Tokyo', false)", ["TimeZone"])]).code == "TN001"
    assert wire.pipeline([("SELECT set_config($1, $2, false)", ["role", "bh_t42"])]).code == "TN001"
    assert as_tenant(wire, server, ["SHOW TimeZone"]).rows[1] != [["Asia/Tokyo"]]
    assert_clean(wire, server)


def test_jit_around_a_type_lookup(server, wire):
    """asyncpg's: for the session by its words, for the transaction in effect; no other setting may."""
    before = server.sql("SHOW jit")[0][0]
    off = "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new"
    answer = as_tenant(wire, server, [off, "SHOW jit", "SELECT count(*) > 0 FROM pg_type", "SELECT set_config('jit', 'on', false)", off])
    assert answer.code is None and answer.rows[2] == [["off"]], answer.errors
    assert wire.query("SHOW jit").rows == [[[before]]]
    assert as_tenant(wire, server, ["SELECT set_config('jit_above_cost', '1', false)", "SELECT 1"]).code == "TN005"
    assert wire.query("SELECT set_config('jit', 'off', false)").code == "TN001"
    assert_clean(wire, server)


@pytest.mark.parametrize("text", ["SELECT count(set_config('my.x' || i, '', true)) FROM generate_series(1, 1100) i",
                                  "DO $$BEGIN FOR i IN 1..1400 LOOP EXECUTE 'SET LOCAL my.y' || i || ' = 1'; END LOOP; END$$"])
def test_names_of_settings_do_not_pile_up(server, wire, text):  # noqa: F811
    """They stay in the process for the next tenants: some are what applications need, a thousand are an attack."""
    assert as_tenant(wire, server, [text.replace("1100", "400").replace("1400", "400")]).code is None
    assert_clean(wire, server)
    with pool(server) as other:
        answer = as_tenant(other, server, [text])
        assert answer.code == "TN005" and answer.errors[0]["S"] == "FATAL", answer.errors
