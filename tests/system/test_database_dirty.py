"""enter() ends a session in which the next tenant would find what somebody left; and what is no such thing passes."""
import pgserver
import pytest
from database import ENTER, assert_clean, as_tenant, pool, server, token, wire  # noqa: F401
from pgwire import Wire

DIRT = {
    "temporary objects": ["CREATE TEMP TABLE x (i int)", "CREATE TEMP SEQUENCE x", "SELECT 1 AS i INTO TEMP x", "CREATE TEMP TABLE x (i int); DROP TABLE x",
                          "CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
    "settings of its own": ["SET search_path = t43", "SET work_mem = '1MB'", "SET my.x = 'y'", "SELECT set_config('row_security', 'off', false)", "SET transform_null_equals = on",
                            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SET default_transaction_read_only = on"],
    "advisory locks": ["SELECT pg_advisory_lock(1)", "SELECT pg_advisory_lock_shared(1, 2)", "SELECT pg_try_advisory_lock(3)"],
    "a cursor WITH HOLD": ["BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1; COMMIT"],
    "statements of PREPARE": ["PREPARE p AS SELECT 1", "DO $$BEGIN EXECUTE 'PREPARE p AS SELECT 1'; END$$"],
    "channels that it listens to": ["LISTEN a"],
}
CLEAN = ["SELECT 1", "SET client_encoding = 'UTF8'", "SET application_name = 'x'; SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET standard_conforming_strings = on",
         "BEGIN; SET LOCAL work_mem = '1MB'; COMMIT", "SET work_mem = '1MB'; RESET work_mem", "PREPARE p AS SELECT 1; DEALLOCATE p", "LISTEN a; UNLISTEN a",
         "SELECT pg_advisory_lock(1); SELECT pg_advisory_unlock(1)", "BEGIN; DECLARE c CURSOR FOR SELECT 1; COMMIT", "BEGIN; SELECT pg_advisory_xact_lock(1); COMMIT",
         "SET work_mem = '1MB'; DISCARD ALL", "BEGIN; SELECT 1/0; ROLLBACK", "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE; COMMIT"]


@pytest.fixture(scope="module", autouse=True)
def free(server):
    """A login that may leave something behind, and call enter() nevertheless."""
    server.sql(f"CREATE ROLE free LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'; GRANT CONNECT, TEMP ON DATABASE shared1 TO free;"
               "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pg_catalog TO free")


def login(server, **startup):
    return Wire(server.port, "free", pgserver.POOL_PASSWORD, "shared1", **startup)


@pytest.mark.parametrize("what,text", [(what, text) for what, texts in DIRT.items() for text in texts])
def test_dirt_ends_the_session(server, what, text):
    with login(server) as wire:
        assert as_tenant(wire, server, ["SELECT 1"]).code is None, "clean so far"
        assert wire.query(text).code is None
        answer = as_tenant(wire, server, ["SELECT body FROM notes"])
        assert (answer.code, answer.errors[0]["S"]) == ("TN006", "FATAL")
        assert what in answer.message
        with pytest.raises((ConnectionError, OSError)):
            wire.query("SELECT 1")


@pytest.mark.parametrize("text", CLEAN)
def test_what_is_no_dirt(server, text):
    with login(server) as wire:
        for part in text.split("; ") if "DISCARD" in text else [text]:
            assert wire.query(part).code in (None, "22012")
        if "ROLLBACK" in text:
            wire.query("ROLLBACK")
        assert as_tenant(wire, server, ["SELECT body FROM notes"]).rows[1] == [["SECRET-A"]]


def test_what_the_protocol_prepared_and_the_connection_started_with_is_legitimate(server):
    with pool(server, options="-c work_mem=3MB -c extra_float_digits=2", application_name="app") as wire:
        wire.pipeline([(ENTER, [token(server)])])
        wire.step(ENTER, [token(server)])
        wire.parse("SELECT body FROM notes", name="kept")
        wire.bind(name="kept")
        wire.execute()
        assert wire.sync().rows[1] == [["SECRET-A"]]
        wire.step(ENTER, [token(server)])
        wire.bind(name="kept")
        wire.execute()
        assert wire.sync().rows[1] == [["SECRET-A"]]


def test_a_session_that_was_free_before_the_list_of_pool_roles_grew(server):
    with login(server) as wire:
        assert as_tenant(wire, server, ["SELECT 1"]).code is None
        assert wire.query("SET search_path = t43").code is None
        server.sql("ALTER SYSTEM SET bulkhead.pool_roles = 'bulkhead_pool, free'")
        server.reload()
        try:
            assert wire.query("SELECT * FROM pg_class").code == "TN001"
            assert as_tenant(wire, server, ["SELECT 1"]).errors[0]["S"] == "FATAL"
        finally:
            server.sql("ALTER SYSTEM RESET bulkhead.pool_roles")
            server.reload()


def test_pool_sessions_stay(server, wire):
    for _ in range(3):
        assert as_tenant(wire, server, ["SET LOCAL work_mem = '1MB'", "SELECT set_config('my.x', 'y', true)", "SELECT bulkhead.lock(1)"]).code is None
        assert_clean(wire, server)


def test_names_of_settings_are_not_left_to_the_next_tenant(server, wire):
    for text in ("SET LOCAL my.secret_name = 'SECRET-A'", "SELECT set_config('my.secret_name', 'SECRET-A', true)"):
        good = as_tenant(wire, server, [text, "SELECT current_setting('my.secret_name')"])
        assert good.rows[2] == [["SECRET-A"]]
        seen = as_tenant(wire, server, ["SELECT name FROM pg_settings WHERE name LIKE 'my.%'", "SELECT current_setting('my.secret_name', true)"], "globex")
        assert seen.rows[1:] == [[], [[""]]], "the name answers to who knows it, without a value"
        assert "secret_name" not in str(wire.query("SHOW ALL").rows)
