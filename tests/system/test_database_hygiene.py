"""What PUBLIC may not do in a shared database, what drivers and ORMs need there nevertheless, and a database that is one tenant's own."""
import subprocess

import pgserver
import pytest
from database import as_tenant, server, wire  # noqa: F401

CHECK = "SELECT object, problem, fix FROM bulkhead.selfcheck() WHERE object !~ '^log_' ORDER BY 1, 2"  # this server logs what it is told to
REFUSED = [
    "SELECT * FROM pg_stat_user_tables", "SELECT * FROM pg_stat_all_tables", "SELECT * FROM pg_stat_database", "SELECT * FROM pg_stat_activity", "SELECT * FROM pg_statio_all_tables",
    "SELECT pg_stat_get_live_tuples('t43.notes'::regclass)", "SELECT pg_relation_size('pg_class')", "SELECT pg_total_relation_size(1259)", "SELECT pg_database_size('shared1')",
    "SELECT pg_tablespace_size('pg_default')", "SELECT pg_indexes_size(1259)", "SELECT pg_table_size(1259)", "SELECT txid_current()", "SELECT pg_current_xact_id()",
    "SELECT pg_current_snapshot()", "SELECT * FROM pg_control_checkpoint()", "SELECT pg_current_wal_lsn()", "SELECT pg_walfile_name('0/1')", "SELECT pg_get_functiondef(1)", "SELECT pg_get_viewdef(1)", "SELECT pg_get_ruledef(1)",
    "SELECT prosrc FROM pg_proc", "SELECT * FROM pg_proc", "SELECT p FROM pg_proc p", "SELECT ev_action FROM pg_rewrite", "SELECT * FROM pg_db_role_setting", "SELECT rolconfig FROM pg_roles",
    "SELECT useconfig FROM pg_user", "SELECT subname FROM pg_subscription", "SELECT * FROM pg_locks", "SELECT * FROM pg_prepared_xacts", "SELECT * FROM pg_prepared_statements",
    "SELECT * FROM pg_replication_slots", "SELECT lo_create(0)", "SELECT pg_advisory_lock(1)", "SELECT * FROM bulkhead.login", "SELECT * FROM bulkhead.own_database", "SELECT bulkhead.hygiene()",
    "SELECT bulkhead.open_database()", "SELECT bulkhead.close_database()", "SELECT bulkhead.is_own_database()",
]
NEEDED = [  # what drivers, ORMs and psql send
    "SELECT column_name, data_type, column_default FROM information_schema.columns WHERE table_name = 'notes'", "SELECT table_name FROM information_schema.tables",
    "SELECT constraint_name FROM information_schema.table_constraints", "SELECT * FROM information_schema.key_column_usage", "SELECT * FROM information_schema.referential_constraints",
    "SELECT constraint_name, check_clause FROM information_schema.check_constraints", "SELECT trigger_name FROM information_schema.triggers", "SELECT routine_name FROM information_schema.routines",
    "SELECT sequence_name FROM information_schema.sequences", "SELECT schema_name FROM information_schema.schemata",
    "SELECT oid, typname, typarray, typelem, typbasetype FROM pg_type", "SELECT t.oid, typname, typelem, typdelim, typinput, rngsubtype, typtype FROM pg_type t LEFT JOIN pg_range r ON oid = rngtypid",
    "SELECT relname, relkind FROM pg_class", "SELECT attname, atttypid, attnotnull, atthasdef FROM pg_attribute WHERE attrelid = 'notes'::regclass", "SELECT 'notes'::regclass, 'int4'::regtype",
    "SELECT proname, oid, prorettype, proargtypes FROM pg_proc WHERE proname = 'lower'", "SELECT count(*) FROM pg_proc", "SELECT proname FROM pg_proc WHERE proisstrict",
    "SELECT a.attname, format_type(a.atttypid, a.atttypmod), pg_get_expr(d.adbin, d.adrelid) FROM pg_attribute a LEFT JOIN pg_attrdef d ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attrelid = 'notes'::regclass",
    "SELECT pg_get_indexdef(indexrelid), indisunique FROM pg_index WHERE indrelid = 'notes'::regclass", "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint",
    "SELECT tgname, pg_get_triggerdef(oid) FROM pg_trigger", "SELECT nspname FROM pg_namespace", "SELECT pg_get_serial_sequence('orders', 'id')", "SELECT rolname, rolcanlogin FROM pg_roles", "SELECT usename FROM pg_user",
    "SELECT obj_description('notes'::regclass), col_description('notes'::regclass, 1)", "SELECT enumlabel FROM pg_enum", "SELECT collname FROM pg_collation", "SELECT extname FROM pg_extension",
    "SELECT name, setting FROM pg_settings", "SELECT set_config('my.x', 'y', true), current_setting('my.x')", "SELECT pg_encoding_to_char(encoding) FROM pg_database", "SELECT pg_table_is_visible('notes'::regclass)",
    "SELECT has_table_privilege('notes', 'SELECT')", "SELECT pg_column_size(1), pg_size_pretty(1024::bigint)", "SELECT xmin, ctid FROM notes", "SELECT relname, reltuples FROM pg_class WHERE relname = 'notes'",
    "SELECT * FROM pg_indexes", "SELECT schemaname, tablename FROM pg_tables", "SELECT * FROM pg_sequences", "SELECT * FROM pg_cursors", "SELECT * FROM pg_policies",
    "SELECT * FROM pg_stats", "SELECT * FROM pg_available_extensions", "SELECT * FROM pg_timezone_names LIMIT 1", "SELECT pg_backend_pid(), version(), now(), random()",
]


@pytest.mark.parametrize("text", REFUSED)
def test_refused_to_tenants(server, wire, text):
    answer = as_tenant(wire, server, [text])
    assert answer.code == "42501", answer.rows
    assert as_tenant(wire, server, ["SELECT body FROM notes"]).code is None


@pytest.mark.parametrize("text", NEEDED)
def test_needed_by_drivers_and_orms(server, wire, text):
    answer = as_tenant(wire, server, [text])
    assert answer.code is None, answer.errors


@pytest.mark.parametrize("command", ["\\d", "\\d notes", "\\d orders", "\\dt", "\\ds", "\\di", "\\dn", "\\df lower", "\\du", "\\dT", "\\l", "\\dp"])
def test_psql_describes(server, command):
    """By the tenant's own login, because psql sends each query in a transaction of its own."""
    server.sql(f"ALTER ROLE bh_t42 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'; GRANT CONNECT ON DATABASE shared1 TO bh_t42; REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
    done = subprocess.run(["psql", "-X", "-v", "ON_ERROR_STOP=1", "-c", command, f"host=127.0.0.1 port={server.port} user=bh_t42 dbname=shared1 password={pgserver.POOL_PASSWORD}"],
                          capture_output=True, text=True)
    assert done.returncode == 0 and "ERROR" not in done.stderr, done.stderr
    if command == "\\d notes":
        assert "body" in done.stdout and "notes_pkey" in done.stdout


DRIFT = [
    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_relation_size(regclass, text) TO PUBLIC", "GRANT EXECUTE ON FUNCTION pg_catalog.txid_current() TO PUBLIC",
    "GRANT EXECUTE ON FUNCTION pg_catalog.pg_get_functiondef(oid) TO PUBLIC", "GRANT EXECUTE ON FUNCTION pg_catalog.lo_import(text) TO PUBLIC", "GRANT SELECT ON pg_catalog.pg_proc TO PUBLIC",
    "GRANT SELECT (prosrc) ON pg_catalog.pg_proc TO PUBLIC", "GRANT SELECT ON pg_catalog.pg_db_role_setting TO PUBLIC", "GRANT SELECT ON pg_catalog.pg_roles TO PUBLIC",
    "GRANT SELECT (subname) ON pg_catalog.pg_subscription TO PUBLIC", "GRANT SELECT ON bulkhead.login TO PUBLIC", "ALTER TABLE bulkhead.login DISABLE TRIGGER login_changed",
    "INSERT INTO bulkhead.login VALUES ('no_such_role', 42)", "INSERT INTO bulkhead.login VALUES ('bulkhead_pool', 42)", "UPDATE bulkhead.tenant SET mode = 'database' WHERE no = 43",
]


@pytest.mark.parametrize("change", DRIFT)
def test_drift_is_named_and_mended(server, change):
    assert server.sql(CHECK) == []
    server.sql(change)
    (thing, problem, fix), = server.sql(CHECK)
    if "tenant 43" in thing:
        server.sql("UPDATE bulkhead.tenant SET mode = 'schema' WHERE no = 43")
    else:
        server.sql(fix)
    assert server.sql(CHECK) == [], (thing, problem, fix)


def rights(server, database):
    """Every right of PUBLIC in pg_catalog; what means the same is written the same."""
    return set(server.sql("""
        SELECT 'f', p.oid::regprocedure::text, r.privilege_type FROM pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) r
            WHERE p.pronamespace = 'pg_catalog'::regnamespace AND r.grantee = 0
        UNION SELECT 'r', c.oid::regclass::text, r.privilege_type FROM pg_class c, aclexplode(c.relacl) r WHERE c.relnamespace = 'pg_catalog'::regnamespace AND r.grantee = 0
        UNION SELECT 'c', a.attrelid::regclass || '.' || a.attname, r.privilege_type FROM pg_attribute a, aclexplode(a.attacl) r
            WHERE r.grantee = 0 AND a.attrelid NOT IN (SELECT c.oid FROM pg_class c, aclexplode(c.relacl) x WHERE x.grantee = 0 AND x.privilege_type = 'SELECT')
        """, database=database))


def test_an_own_database_has_what_a_stock_one_has(server):
    server.sql("CREATE DATABASE stock", database="postgres")
    server.make_database("t50")
    stock = rights(server, "stock")
    assert len(stock - rights(server, "t50")) > 150, "closed at install"
    server.sql("SELECT bulkhead.open_database()", database="t50")
    assert rights(server, "t50") ^ stock == set()
    server.sql("DROP DATABASE stock", database="postgres")
    assert server.sql(CHECK, database="t50") == []
    server.sql("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_notify(text, text) FROM PUBLIC", database="t50")
    (_, _, fix), = server.sql(CHECK, database="t50")
    server.sql(fix, database="t50")
    assert server.sql(CHECK, database="t50") == []
    closed = rights(server, "shared1")
    server.sql("SELECT bulkhead.close_database()", database="t50")
    assert rights(server, "t50") ^ closed == set()
    assert server.sql(CHECK, database="t50") == []


def test_a_shared_database_is_not_opened(server):
    with pytest.raises(Exception, match="its database is shared"):
        server.sql("SELECT bulkhead.open_database()")
    assert server.sql(CHECK) == []


def test_statistics_of_statements_in_mode_row(server):
    server.sql("CREATE SCHEMA spy; CREATE VIEW spy.pg_stat_statements AS SELECT 1 AS x; GRANT SELECT ON spy.pg_stat_statements TO PUBLIC")
    assert server.sql(CHECK) == []
    server.sql("UPDATE bulkhead.tenant SET mode = 'row' WHERE no = 43")
    (thing, _, fix), = server.sql(CHECK)
    server.sql(fix)
    assert (thing, server.sql(CHECK)) == ("view spy.pg_stat_statements", [])
    server.sql("UPDATE bulkhead.tenant SET mode = 'schema' WHERE no = 43; DROP SCHEMA spy CASCADE")
