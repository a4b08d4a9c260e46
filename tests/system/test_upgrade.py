"""From version 0.1 of the extension, with tenants, to the newest: what runs goes on, and the end is what a fresh install is."""
import re
import subprocess

import pgserver
import pytest
from database import ENTER, NUMBERS, SECRETS, as_tenant, assert_clean, check_log, pool
from pgwire import Wire

# By name, never by oid: each row is one thing that the extension has or changed.
CATALOGUE = {
    "routines": """SELECT p.oid::regprocedure::text, prokind, l.lanname, prosrc, probin, pg_get_function_result(p.oid), prosecdef, proleakproof, proisstrict, provolatile, proparallel, proconfig::text,
        pg_get_function_sqlbody(p.oid), obj_description(p.oid, 'pg_proc'), (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(proacl) a)
        FROM pg_proc p JOIN pg_language l ON l.oid = prolang WHERE pronamespace = 'bulkhead'::regnamespace""",
    "relations": """SELECT c.relname, relkind, relrowsecurity, relforcerowsecurity, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(relacl) a), pg_get_viewdef(c.oid), reloptions::text,
        obj_description(c.oid, 'pg_class') FROM pg_class c WHERE relnamespace = 'bulkhead'::regnamespace AND relkind IN ('r', 'v', 'm', 'S', 'i')""",
    "columns": """SELECT attrelid::regclass::text, attnum, attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(d.adbin, d.adrelid), attacl::text FROM pg_attribute a
        LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'bulkhead'::regnamespace AND attnum > 0 AND relkind IN ('r', 'v')""",
    "constraints": "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'bulkhead'::regnamespace",
    "triggers": "SELECT tgrelid::regclass::text, tgname, pg_get_triggerdef(t.oid), tgenabled FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE relnamespace = 'bulkhead'::regnamespace AND NOT tgisinternal",
    "types": "SELECT typname, typtype FROM pg_type WHERE typnamespace = 'bulkhead'::regnamespace AND typtype IN ('d', 'e', 'c')",
    "event triggers": "SELECT evtname, evtevent, evtfoid::regproc::text, evtenabled, evttags::text FROM pg_event_trigger",
    "members": "SELECT pg_describe_object(classid, objid, objsubid) FROM pg_depend WHERE refclassid = 'pg_extension'::regclass AND deptype = 'e' AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'bulkhead')",
    "configuration": "SELECT extversion, (SELECT string_agg(c::regclass::text, ',') FROM unnest(extconfig) c), extcondition::text FROM pg_extension WHERE extname = 'bulkhead'",
    "rights on the catalogue": """SELECT oid::regprocedure::text, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(proacl) a) FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND proacl IS NOT NULL""",
    "rights on catalogue tables": """SELECT oid::regclass::text, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(relacl) a) FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace""",
    "rights on catalogue columns": "SELECT attrelid::regclass::text, attname, attacl::text FROM pg_attribute WHERE attacl IS NOT NULL",
    "rights on schemas": "SELECT nspname, (SELECT string_agg(a::text, ',' ORDER BY a::text) FROM unnest(nspacl) a), obj_description(oid) FROM pg_namespace WHERE nspname !~ '^pg_temp|^pg_toast_temp'",
}
SERVER_ROWS = ("no", "id", "mode", "role", "schema", "state", "epoch", "limits")


def catalogue(server, database):
    return {name: sorted(map(repr, server.sql(sql, database=database))) for name, sql in CATALOGUE.items()}


def dump(server, database):
    """pg_dump of all, with the data; without what names the database or a run of pg_dump."""
    text = subprocess.run([pgserver.BIN / "pg_dump", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", database], check=True, capture_output=True, text=True,
                          env={"PGPASSWORD": "admin-secret"}).stdout
    return [line for line in text.splitlines() if not re.match(r"--|\\(un)?restrict ", line)]


@pytest.fixture(scope="module")
def server():
    it = pgserver.Server()
    try:
        it.sql("CREATE DATABASE shared1", database="postgres")
        it.sql("REVOKE ALL ON DATABASE shared1 FROM PUBLIC", database="postgres")
        it.sql("CREATE EXTENSION bulkhead VERSION '0.1'")
        it.sql(f"CREATE ROLE bulkhead_pool LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'")
        it.sql("GRANT CONNECT ON DATABASE shared1 TO bulkhead_pool", database="postgres")
        it.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        for tenant, no in NUMBERS.items():
            it.make_tenant(no, tenant, secret=SECRETS[tenant])
        yield it
        check_log(it.log.read_text())
    finally:
        it.close()


def enforces(server, wire):
    """What the extension is for, in a few statements."""
    assert_clean(wire, server)
    for sql, code in (("SELECT body FROM t43.notes", "42501"), ("SET work_mem = '1MB'", "TN005"), ("RESET ROLE", "TN005"), ("SELECT pg_advisory_lock(1)", "42501"), ("CREATE TEMP TABLE x (i int)", "42501"),
                      ("SELECT * FROM bulkhead.tenant", "42501"), ("LISTEN x", "TN005"), ("SELECT bulkhead.enter('x')", "TN006")):
        assert as_tenant(wire, server, [sql]).code == code, sql
    assert wire.query("SELECT relname FROM pg_class").code == "TN001"
    assert as_tenant(wire, server, ["SELECT bulkhead.lock(1)"]).code is None
    server.sql("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42")
    assert as_tenant(wire, server, ["SELECT 1"]).code == "TN003"
    server.sql("UPDATE bulkhead.tenant SET state = 'active' WHERE no = 42")
    epoch = server.sql("SELECT epoch FROM bulkhead.tenant WHERE no = 43")[0][0]
    server.sql(f"CALL bulkhead.fence(43, {epoch + 1})")
    assert as_tenant(wire, server, ["SELECT 1"], "globex").code == "TN002"
    server.sql(f"UPDATE bulkhead.tenant SET epoch = {epoch} WHERE no = 43")


def test_version_0_1_under_the_new_module(server):
    with pool(server) as wire:
        enforces(server, wire)
    assert server.sql("SELECT extversion FROM pg_extension WHERE extname = 'bulkhead'") == [("0.1",)]


def test_update(server):
    before = server.sql("SELECT %s FROM bulkhead.tenant ORDER BY no" % ", ".join(SERVER_ROWS))
    with pool(server) as wire, pool(server) as busy:
        enforces(server, wire)
        busy.query("BEGIN")
        assert busy.pipeline([(ENTER, [server.token(42, "acme")]), ("INSERT INTO notes (body) VALUES ('during')", [])]).code is None
        with Wire(server.port, "postgres", "admin-secret", "shared1") as admin:
            admin.query("SET statement_timeout = '10s'")
            updated = admin.query("ALTER EXTENSION bulkhead UPDATE")
            assert updated.code is None, updated.errors
        assert busy.query("INSERT INTO notes (body) VALUES ('after')").code is None
        assert busy.query("COMMIT").tags == ["COMMIT"]  # a transaction that was open goes on
        enforces(server, wire)  # and so does a connection
    assert server.sql("SELECT %s FROM bulkhead.tenant ORDER BY no" % ", ".join(SERVER_ROWS)) == before
    assert server.sql("SELECT body FROM t42.notes ORDER BY id") == [("SECRET-A",), ("during",), ("after",)]
    server.sql("DELETE FROM t42.notes WHERE id > 1")
    assert [row for row in server.sql("SELECT object, problem FROM bulkhead.selfcheck()") if row[0] == "extension bulkhead"] == []


def test_updated_is_as_fresh(server):
    """Every routine, table, right and comment; then pg_dump of both."""
    assert server.sql("SELECT extversion FROM pg_extension WHERE extname = 'bulkhead'") != [("0.1",)]
    server.make_database("shared2")
    server.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC", database="shared2")
    old, new = catalogue(server, "shared1"), catalogue(server, "shared2")
    for name in CATALOGUE:
        mine = [row for row in old[name] if "t42" not in row and "t43" not in row]
        assert mine == new[name], name
    assert len(new["routines"]) > 10 and len(new["rights on the catalogue"]) > 30  # positive control
    server.sql("UPDATE bulkhead.tenant SET limits = '{\"work_mem\": \"3MB\"}' WHERE no = 42")
    rows = server.sql("SELECT * FROM bulkhead.tenant ORDER BY no")
    extension = [line for line in dump(server, "shared1") if "bulkhead" in line and "t42" not in line]
    assert any("CREATE EXTENSION" in line for line in extension)
    kept = [line for line in dump(server, "shared1") if "acme" in line]
    assert len(kept) == 1 and "3MB" in kept[0], kept  # the table of tenants is in the dump
    assert [line for line in dump(server, "shared2") if "CREATE EXTENSION" in line] == [line for line in extension if "CREATE EXTENSION" in line]
    assert rows[0][0] == 42


def test_a_dump_restores(server):
    """pg_dump of a database that was updated, into an empty one: the tenants and their epochs are there, and hold."""
    server.sql("CREATE DATABASE shared3", database="postgres")
    server.sql("GRANT CONNECT ON DATABASE shared3 TO bulkhead_pool", database="postgres")
    text = subprocess.run([pgserver.BIN / "pg_dump", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", "shared1"], check=True, capture_output=True, env={"PGPASSWORD": "admin-secret"}).stdout
    subprocess.run([pgserver.BIN / "psql", "-q", "-X", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1", "-p", str(server.port), "-U", "postgres", "-d", "shared3"], input=text, check=True,
                   capture_output=True, env={"PGPASSWORD": "admin-secret"})
    assert server.sql("SELECT * FROM bulkhead.tenant ORDER BY no") == server.sql("SELECT * FROM bulkhead.tenant ORDER BY no", database="shared3")
    with pool(server, database="shared3") as wire:
        good = wire.pipeline([(ENTER, [server.token(42, "acme", "shared3")]), ("SELECT body FROM notes", [])])
        assert good.rows[1] == [["SECRET-A"]], good.errors
        assert wire.query("SELECT relname FROM pg_class").code == "TN001"
