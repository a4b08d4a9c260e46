"""bulkhead.selfcheck(): silent where all is well; names each drift, and its fix mends it."""
import os

import pytest
from database import as_tenant, server, wire  # noqa: F401

CHECK = "SELECT object, problem, fix FROM bulkhead.selfcheck() ORDER BY 1, 2"


@pytest.fixture(autouse=True, scope="module")
def settle(server):
    for name in ("log_parameter_max_length", "log_parameter_max_length_on_error"):
        server.sql(f"ALTER SYSTEM SET {name} = 0")
    server.reload()


DRIFTS = [  # what somebody does, the object it is about, part of the problem
    ("GRANT CONNECT ON DATABASE shared1 TO PUBLIC", "database shared1", "PUBLIC has CONNECT"),
    ("GRANT TEMP ON DATABASE shared1 TO PUBLIC", "database shared1", "PUBLIC has TEMPORARY"),
    ("GRANT CREATE ON SCHEMA public TO PUBLIC", "schema public", "PUBLIC may create"),
    ("GRANT USAGE ON SCHEMA t42 TO PUBLIC", "schema t42", "PUBLIC may use it"),
    ("GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO PUBLIC", "function pg_advisory_lock(bigint)", "PUBLIC may call it"),
    ("GRANT EXECUTE ON FUNCTION lo_create(oid) TO PUBLIC", "function lo_create(oid)", "PUBLIC may call it"),
    ("GRANT EXECUTE ON PROCEDURE bulkhead.fence(int, int, interval) TO bh_t42", "routine bulkhead.fence(integer,integer,interval)", "bh_t42 may call it"),
    ("GRANT EXECUTE ON FUNCTION bulkhead.selfcheck() TO PUBLIC", "routine bulkhead.selfcheck()", "PUBLIC may call it"),
    ("GRANT SELECT ON bulkhead.tenant TO bulkhead_pool", "table bulkhead.tenant", "bulkhead_pool has SELECT"),
    ("GRANT INSERT ON bulkhead.tenant TO PUBLIC", "table bulkhead.tenant", "PUBLIC has INSERT"),
    ("ALTER TABLE bulkhead.tenant DISABLE TRIGGER tenant_changed", "table bulkhead.tenant", "tenant_changed does not fire"),
    ("ALTER TABLE bulkhead.tenant ENABLE TRIGGER tenant_truncated", "table bulkhead.tenant", "tenant_truncated does not fire"),
    ("ALTER ROLE bulkhead_pool SUPERUSER", "role bulkhead_pool", "is a pool role, and has SUPERUSER"),
    ("ALTER ROLE bulkhead_pool BYPASSRLS", "role bulkhead_pool", "is a pool role, and has BYPASSRLS"),
    ("ALTER ROLE bh_t42 CREATEROLE", "role bh_t42", "is a tenant's, and has CREATEROLE"),
    ("GRANT bh_t42 TO bulkhead_pool", "role bulkhead_pool", "is a pool role, and a member of bh_t42"),
    ("GRANT bh_o43 TO bh_t42", "role bh_t42", "is a tenant's, and a member of bh_o43"),
    ("GRANT pg_read_all_data TO bulkhead_pool", "role bulkhead_pool", "member of pg_read_all_data"),
]


def test_a_fresh_database_is_well(server):
    assert server.sql(CHECK) == []


@pytest.mark.parametrize("drift,thing,problem", DRIFTS)
def test_drift_is_named_and_its_fix_mends_it(server, drift, thing, problem):
    server.sql(drift)
    rows = server.sql(CHECK)
    assert len(rows) == 1 and rows[0][0] == thing and problem in rows[0][1], rows
    server.sql(rows[0][2])
    assert server.sql(CHECK) == []


def test_every_reserved_function_is_watched(server):
    """The list is not empty, and all of it comes back."""
    number = server.sql("SELECT count(*) FROM bulkhead.reserved_functions()")[0][0]
    assert number > 60
    server.sql("DO $$DECLARE f regprocedure; BEGIN FOR f IN SELECT bulkhead.reserved_functions() LOOP"
               " EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO PUBLIC', f); END LOOP; END$$")
    rows = server.sql(CHECK)
    assert len(rows) == number
    for _, _, fix in rows:
        server.sql(fix)
    assert server.sql(CHECK) == []


def test_settings_and_key_file(server):
    for name in ("log_parameter_max_length", "log_parameter_max_length_on_error"):
        server.sql(f"ALTER SYSTEM SET {name} = 100")
        server.reload()
        (thing, _, fix), = server.sql(CHECK)
        assert thing == name
        server.sql(fix)
        server.reload()
    for level in ("log", "panic"):
        server.sql(f"ALTER SYSTEM SET log_min_messages = {level}")
        server.reload()
        (thing, _, fix), = server.sql(CHECK)
        assert thing == "log_min_messages"
        server.sql(fix)
        server.reload()
    good = server.key_file.read_text()
    for change, problem in ((lambda: os.chmod(server.key_file, 0o444), "is open to other users"),
                            (lambda: server.write_key_text("nonsense"), "cannot be used"), (lambda: server.write_key_text(""), ""),
                            (server.key_file.unlink, "cannot be opened")):
        change()
        (thing, found, _), = server.sql(CHECK)
        assert thing == "bulkhead.key_file" and problem in found, found
        assert good.split()[1] not in found
        server.write_key_text(good)
        assert server.sql(CHECK) == []


def test_roles_and_schemas_that_are_missing(server):
    server.sql("ALTER SYSTEM SET bulkhead.pool_roles = 'nobody_here'")
    server.reload()
    assert [row[0] for row in server.sql(CHECK)] == ["bulkhead.pool_roles"]
    server.sql("ALTER SYSTEM RESET bulkhead.pool_roles")
    server.reload()
    server.sql("INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (7, 'seven', 'bh_t7', 't7', 'active')")
    assert [row[0] for row in server.sql(CHECK)] == ["tenant 7"]
    server.sql("UPDATE bulkhead.tenant SET state = 'pending' WHERE no = 7")
    assert server.sql(CHECK) == []
    server.sql("DELETE FROM bulkhead.tenant WHERE no = 7")


def test_only_for_superusers(server, wire):
    for text in (CHECK, "SELECT bulkhead.key_file_problem()", "SELECT bulkhead.is_pool_role('x')", "SELECT bulkhead.reserved_functions()"):
        assert as_tenant(wire, server, [text]).code == "42501"
        assert wire.query(text).code in ("TN001", "42501")


def test_scripts_of_another_version_are_named(server):
    """A module that is newer than the scripts in the database; Debian's extension_destdir hides what PostgreSQL could tell."""
    newest = server.sql("SELECT extversion FROM pg_extension WHERE extname = 'bulkhead'")[0][0]
    server.sql("UPDATE pg_extension SET extversion = '0.0' WHERE extname = 'bulkhead'")
    assert server.sql(CHECK) == [("extension bulkhead", f"is version 0.0, the server has {newest}", "ALTER EXTENSION bulkhead UPDATE")]
    server.sql("UPDATE pg_extension SET extversion = %s WHERE extname = 'bulkhead'", [newest])
    assert server.sql(CHECK) == []
