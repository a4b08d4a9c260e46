"""Limits of a tenant: applied by enter(), lowered at will, never raised; locks, subtransactions, age."""
import time

import pytest
from database import ENTER, as_tenant, assert_clean, pool, server, token, wire  # noqa: F401
from pgwire import Wire

LIMITS = {  # setting: (limit in bulkhead.tenant, as SHOW tells it, lower, higher)
    "statement_timeout": ("7s", "7s", "6s", "8s"),
    "lock_timeout": ("3s", "3s", "2s", "4s"),
    "idle_in_transaction_session_timeout": ("9s", "9s", "8s", "10s"),
    "work_mem": ("8MB", "8MB", "1MB", "9MB"),
    "hash_mem_multiplier": ("3", "3", "2.5", "3.1"),
    "maintenance_work_mem": ("20MB", "20MB", "2MB", "21MB"),
    "temp_buffers": ("2MB", "2MB", "1MB", "3MB"),
    "max_parallel_workers_per_gather": ("1", "1", "0", "2"),
}
ENDLESS = {"statement_timeout": "0", "lock_timeout": "0", "idle_in_transaction_session_timeout": "0"}


@pytest.fixture(autouse=True)
def reset(server):
    yield
    server.sql("UPDATE bulkhead.tenant SET limits = '{}'")
    server.sql("ALTER SYSTEM RESET ALL")
    server.reload()


def limit(server, no=42, **values):
    server.sql("UPDATE bulkhead.tenant SET limits = %s::jsonb WHERE no = %s", (str(values).replace("'", '"'), no))


def system(server, **values):
    for name, value in values.items():
        server.sql(f"ALTER SYSTEM SET {name.replace('__', '.')} = '{value}'")
    server.reload()


def shown(wire, server, name, tenant="acme"):
    answer = as_tenant(wire, server, [f"SHOW {name}"], tenant)
    assert answer.code is None, answer.errors
    return answer.rows[1][0][0]


def test_limits_are_applied_and_gone_at_the_end(server, wire):
    before = {name: wire.query(f"SHOW {name}").rows[0][0][0] for name in LIMITS}
    limit(server, **{name: values[0] for name, values in LIMITS.items()}, temp_file_limit="30MB")
    for name, values in LIMITS.items():
        assert shown(wire, server, name) == values[1]
        assert wire.query(f"SHOW {name}").rows == [[[before[name]]]]
    assert shown(wire, server, "temp_file_limit") == "30MB"
    assert shown(wire, server, "temp_file_limit", "globex") == "-1"
    assert shown(wire, server, "work_mem", "globex") == before["work_mem"]
    limit(server, work_mem=1024, hash_mem_multiplier=1.5)  # numbers: in the setting's unit
    assert (shown(wire, server, "work_mem"), shown(wire, server, "hash_mem_multiplier")) == ("1MB", "1.5")
    assert_clean(wire, server)


@pytest.mark.parametrize("name", LIMITS)
def test_lowered_and_back_and_never_raised(server, wire, name):
    value, told, lower, higher = LIMITS[name]
    limit(server, **{name: value})
    ups = [higher, ENDLESS[name]] if name in ENDLESS else [higher]
    server.sql("SET ROLE bh_o42; CREATE OR REPLACE FUNCTION t42.raised() RETURNS text LANGUAGE plpgsql"
               f" SET {name} = '{higher}' AS $$BEGIN RETURN current_setting('{name}'); END$$;"
               f"CREATE OR REPLACE FUNCTION t42.lowered() RETURNS text LANGUAGE plpgsql SET {name} = '{lower}' AS $$BEGIN RETURN current_setting('{name}'); END$$;"
               "GRANT EXECUTE ON FUNCTION t42.raised(), t42.lowered() TO bh_t42")
    wire.query("BEGIN")
    as_tenant(wire, server, ["SELECT 1"])
    for good in (lower, value):
        assert wire.query(f"SET LOCAL {name} = '{good}'").code is None
        assert wire.query(f"SELECT set_config('{name}', '{good}', true)").code is None
        assert wire.query(f"DO $$BEGIN SET LOCAL {name} = '{good}'; END$$").code is None
    assert wire.query("SELECT t42.lowered()").code is None
    for text in [text for up in ups for text in (
            f"SET LOCAL {name} = '{up}'", f"SELECT set_config('{name}', '{up}', true)", f"DO $$BEGIN SET LOCAL {name} = '{up}'; END$$",
            f"SAVEPOINT t; SET LOCAL {name} = '{up}'", f"WITH x AS MATERIALIZED (SELECT set_config('{name}', '{up}', true)) SELECT * FROM x",
            f"DO $$BEGIN PERFORM set_config('{name}', '{up}', true); END$$")] + ["SELECT t42.raised()"]:
        wire.query("SAVEPOINT s")
        answer = wire.query(text)
        assert answer.code == "TN005", (text, answer.rows)
        assert answer.message == f"{name} above the tenant's limit is not allowed"
        wire.query("ROLLBACK TO s")
        assert wire.query(f"SHOW {name}").rows == [[[told]]]
    wire.query("ROLLBACK")
    assert_clean(wire, server)


def test_back_to_a_higher_default_of_the_connection(server, wire):
    """The server's own default is above the limit: DEFAULT and NULL would go there."""
    limit(server, work_mem="1MB", statement_timeout="5s")
    for text in ("SET LOCAL work_mem TO DEFAULT", "SELECT set_config('work_mem', NULL, true)", "SET LOCAL statement_timeout TO DEFAULT",
                 "DO $$BEGIN PERFORM set_config('statement_timeout', NULL, true); END$$"):
        wire.query("BEGIN")
        as_tenant(wire, server, ["SAVEPOINT s"])
        assert wire.query(text).code == "TN005", text
        assert wire.query("ROLLBACK TO s").code is None
        assert wire.query("SHOW work_mem").rows == [[["1MB"]]]
        wire.query("ROLLBACK")
    limit(server, work_mem="64MB")  # positive control: below the limit it is allowed
    assert as_tenant(wire, server, ["SET LOCAL work_mem TO DEFAULT", "SHOW work_mem"]).rows[2] == [["4MB"]]


def test_defaults_only_lower(server, wire):
    assert shown(wire, server, "statement_timeout") == "1min"
    assert shown(wire, server, "work_mem") == "4MB"
    system(server, bulkhead__work_mem="1MB", bulkhead__statement_timeout="5s", bulkhead__lock_timeout="-1", bulkhead__hash_mem_multiplier="1.25")
    with pool(server) as fresh:
        assert [shown(fresh, server, name) for name in ("work_mem", "statement_timeout", "lock_timeout", "hash_mem_multiplier")] == ["1MB", "5s", "0", "1.25"]
        limit(server, work_mem="16MB")  # the tenant's own is the value, also above
        assert [shown(fresh, server, "work_mem", it) for it in ("acme", "globex")] == ["16MB", "1MB"]
    system(server, bulkhead__work_mem="1GB")
    server.sql("ALTER ROLE bulkhead_pool SET statement_timeout = '2s'")
    try:
        with pool(server) as fresh:
            assert [shown(fresh, server, name, "globex") for name in ("work_mem", "statement_timeout")] == ["4MB", "2s"]
            assert as_tenant(fresh, server, ["SET LOCAL statement_timeout = '3s'"], "globex").code == "TN005"
    finally:
        server.sql("ALTER ROLE bulkhead_pool RESET statement_timeout")


def test_a_reload_inside_a_transaction_is_not_the_tenants_doing(server, wire):
    wire.query("BEGIN")
    as_tenant(wire, server, ["SELECT 1"])
    system(server, maintenance_work_mem="128MB")
    assert wire.query("SELECT 1").code is None
    assert wire.query("COMMIT").code is None
    assert wire.query("SHOW maintenance_work_mem").rows == [[["128MB"]]]


@pytest.mark.parametrize("json", ['{"work_mem": "lots"}', '{"work_mem": -1}', '{"work_mem": 1.5}', '{"work_men": 1}', '{"work_mem": true}', '{"work_mem": [1]}',
                                  '[1]', '"x"', '{"statement_timeout": "3 apples"}', '{"max_locks": 1e9}', '{"max_locks": -1}', '{"hash_mem_multiplier": "NaN"}',
                                  '{"work_mem": 1e300}', '{"work_mem": {"a": 1}}', '{"hash_mem_multiplier": 0.1}', '{"Work_Mem": 1024}'])
def test_limits_are_validated_when_written(server, wire, json):
    with pytest.raises(Exception, match="cannot be used"):
        server.sql("UPDATE bulkhead.tenant SET limits = %s::jsonb WHERE no = 42", [json])
    with pytest.raises(Exception, match="cannot be used"):
        server.sql("INSERT INTO bulkhead.tenant (no, id, role, schema, state, limits) VALUES (9, 'nine', 'x', 'x', 'active', %s::jsonb)", [json])
    server.sql("ALTER TABLE bulkhead.tenant DISABLE TRIGGER USER; UPDATE bulkhead.tenant SET limits = %s::jsonb WHERE no = 42;"
               "ALTER TABLE bulkhead.tenant ENABLE ALWAYS TRIGGER tenant_changed; ALTER TABLE bulkhead.tenant ENABLE ALWAYS TRIGGER tenant_truncated;"
               "UPDATE bulkhead.tenant SET epoch = epoch WHERE no = 43", [json])
    server.sql("DELETE FROM bulkhead.tenant WHERE no = 43 RETURNING 1; INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (43, 'globex', 'bh_t43', 't43', 'active')")
    server.stop()  # the cache is empty: the row is read from the table
    server.start()
    with pool(server) as fresh:
        assert as_tenant(fresh, server, ["SELECT 1"]).code == "22023"  # closed, and only for this tenant
        assert as_tenant(fresh, server, ["SELECT 1"], "globex").code is None


def test_null_means_the_default(server, wire):
    server.sql("""UPDATE bulkhead.tenant SET limits = '{"work_mem": null, "lock_timeout": "1s"}' WHERE no = 42""")
    assert (shown(wire, server, "work_mem"), shown(wire, server, "lock_timeout")) == ("4MB", "1s")


# ---- what the limits do

def test_timeouts_strike(server, wire):
    limit(server, statement_timeout="200ms", lock_timeout="100ms")
    for steps in (["SELECT pg_sleep(5)"], ["DO $$BEGIN PERFORM pg_sleep(5); END$$"]):
        assert as_tenant(wire, server, steps).code == "57014"
        assert_clean(wire, server)
    with pool(server) as holder:
        holder.query("BEGIN")
        as_tenant(holder, server, ["UPDATE notes SET body = body"])
        assert as_tenant(wire, server, ["UPDATE notes SET body = body"]).code == "55P03"
        holder.query("ROLLBACK")
    limit(server, idle_in_transaction_session_timeout="150ms")
    with pool(server) as idle:
        idle.query("BEGIN")
        as_tenant(idle, server, ["SELECT 1"])
        time.sleep(0.5)
        assert idle.read().code == "25P03"
    limit(server, temp_file_limit="1MB", work_mem="64kB")
    assert as_tenant(wire, server, ["SELECT count(*) FROM (SELECT n FROM generate_series(1, 1000000) n ORDER BY -n) x"]).code == "53400"
    assert as_tenant(wire, server, ["SELECT count(*) FROM (SELECT n FROM generate_series(1, 300000) n ORDER BY -n) x"], "globex").code is None
    assert_clean(wire, server)


SLEEPER = "DO $$BEGIN LOOP BEGIN PERFORM pg_sleep(0.2); EXCEPTION WHEN query_canceled OR SQLSTATE 'TN002' THEN END; END LOOP; END$$"
SPINNER = "DO $$DECLARE i int := 0; BEGIN LOOP BEGIN LOOP i := 1 - i; END LOOP; EXCEPTION WHEN query_canceled OR OTHERS THEN END; END LOOP; END$$"


@pytest.mark.parametrize("text", [SLEEPER, SPINNER])
def test_a_transaction_that_catches_everything_ends_with_its_connection(server, wire, text):
    system(server, bulkhead__max_transaction_age="1s")
    limit(server, statement_timeout="300ms")
    with pool(server) as greedy:
        began = time.monotonic()
        greedy.query("BEGIN")
        as_tenant(greedy, server, ["SELECT 1"])
        assert greedy.query(text).code == "57P01"
        assert 5 < time.monotonic() - began < 12
    assert_clean(wire, server)


def test_many_short_statements_have_one_budget(server, wire):
    system(server, bulkhead__max_transaction_age="1s")
    wire.query("BEGIN")
    as_tenant(wire, server, ["SAVEPOINT s"])
    assert wire.query("SELECT 1/0").code == "22012"  # the timer survives an error
    wire.query("ROLLBACK TO s")
    codes, began = [], time.monotonic()
    while not codes or codes[-1] is None:
        codes.append(wire.query("SELECT pg_sleep(0.1)").code)
    assert codes[-1] == "TN002" and len(codes) > 3 and time.monotonic() - began < 3
    assert wire.query("ROLLBACK").code is None
    time.sleep(6)  # nothing of the old timer is left
    assert_clean(wire, server)
    wire.query("BEGIN")
    as_tenant(wire, server, ["SAVEPOINT s"])
    wire.query("SELECT 1/0")
    wire.query("ROLLBACK TO s")
    wire.query("SHOW work_mem")
    with pytest.raises((ConnectionError, OSError)):
        while True:  # idle far too long
            assert wire.read().code == "57P01"


def test_savepoints_inside_each_other_are_counted(server, wire):
    wire.query("BEGIN")
    assert as_tenant(wire, server, []).code is None
    for depth in range(256):
        assert wire.query(f"SAVEPOINT s; INSERT INTO notes (body) VALUES ('{depth}')").code is None, depth
    answer = wire.query("SAVEPOINT s; SELECT 1")
    assert (answer.code, answer.message) == ("TN005", "max_nested_subtransactions above the tenant's limit is not allowed")
    wire.query("ROLLBACK")
    for _ in range(2):  # what was released counts no more
        released = "DO $$BEGIN FOR i IN 1..500 LOOP BEGIN INSERT INTO notes (body) VALUES ('x'); EXCEPTION WHEN division_by_zero THEN END; END LOOP; END$$"
        assert as_tenant(wire, server, [released, "ROLLBACK"]).code is None
    limit(server, max_nested_subtransactions=2)
    wire.query("BEGIN")
    assert as_tenant(wire, server, ["SAVEPOINT a", "SAVEPOINT b", "SELECT 1"]).code is None
    assert wire.query("SAVEPOINT c; SELECT 1").code == "TN005"
    wire.query("ROLLBACK")
    assert_clean(wire, server)


def test_subtransactions_are_counted(server, wire):
    loop = "DO $$BEGIN FOR i IN 1..{} LOOP BEGIN INSERT INTO notes (body) VALUES ('sub'); EXCEPTION WHEN division_by_zero THEN END; END LOOP; END$$"
    limit(server, max_subtransactions=20)
    wire.query("BEGIN")
    assert as_tenant(wire, server, [loop.format(20)]).code is None
    answer = wire.query("SAVEPOINT one_more; SELECT 1")
    assert (answer.code, answer.message) == ("TN005", "max_subtransactions above the tenant's limit is not allowed")
    wire.query("ROLLBACK")
    assert as_tenant(wire, server, [loop.format(21)]).code == "TN005"
    swallow = "DO $$BEGIN FOR i IN 1..100 LOOP BEGIN INSERT INTO notes (body) VALUES ('sub'); EXCEPTION WHEN OTHERS THEN END; END LOOP; END$$"
    assert as_tenant(wire, server, [swallow, "SELECT 1"]).code == "TN005"
    assert as_tenant(wire, server, [loop.format(200)], "globex").code is None
    assert as_tenant(wire, server, ["SELECT 1 FROM notes WHERE body = 'sub'"]).rows[1] == []
    assert_clean(wire, server)


# ---- bulkhead.lock()

def test_locks_belong_to_the_tenant_and_end_with_the_transaction(server, wire):
    with pool(server) as other, Wire(server.port, "postgres", "admin-secret", "shared1") as admin:
        for key in (0, 1, -1, 2**63 - 1, -2**63):
            wire.query("BEGIN")
            assert as_tenant(wire, server, [("SELECT bulkhead.lock($1)", [str(key)])]).code is None
            free = ("SELECT bulkhead.try_lock($1)", [str(key)])
            assert as_tenant(other, server, [free]).rows[1] == [["f"]]
            assert as_tenant(other, server, [free], "globex").rows[1] == [["t"]]
            assert as_tenant(other, server, [("SELECT bulkhead.try_lock($1)", [str(key ^ 1)])]).rows[1] == [["t"]]
            assert admin.query(f"SELECT pg_try_advisory_xact_lock({key})").rows == [[["t"]]]
            wire.query("COMMIT")
            assert as_tenant(other, server, [free]).rows[1] == [["t"]]
        # nobody else's locks reach in, not even ones with a tenant's number
        admin.query("BEGIN; SELECT pg_advisory_xact_lock(7); SELECT pg_advisory_xact_lock(42, 7); SELECT pg_advisory_lock(7)")
        assert as_tenant(wire, server, ["SELECT bulkhead.try_lock(7)"]).rows[1] == [["t"]]
    assert server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid > 2") == [(0,)]
    assert_clean(wire, server)


def test_locks_wait_and_go_with_a_savepoint(server, wire):
    limit(server, lock_timeout="200ms")
    with pool(server) as other:
        wire.query("BEGIN")
        as_tenant(wire, server, ["SAVEPOINT s", "SELECT bulkhead.lock(5)"])
        assert as_tenant(other, server, ["SELECT bulkhead.lock(5)"]).code == "55P03"
        wire.query("ROLLBACK TO s")
        assert as_tenant(other, server, ["SELECT bulkhead.lock(5)"]).code is None
        wire.query("ROLLBACK")
        # deadlocks are found
        limit(server, lock_timeout="10s")
        for it, key in ((wire, 1), (other, 2)):
            it.query("BEGIN")
            as_tenant(it, server, [f"SELECT bulkhead.lock({key})"])
        wire.put(b"Q", b"SELECT bulkhead.lock(2)\0")
        wire.flush()
        codes = {other.query("SELECT bulkhead.lock(1)").code}
        other.query("ROLLBACK")
        codes.add(wire.read().code)
        assert codes == {None, "40P01"}
        wire.query("ROLLBACK")


def test_locks_are_capped_and_need_a_tenant(server, wire):
    assert wire.query("SELECT bulkhead.lock(1)").code == "TN001"
    assert wire.query("SELECT bulkhead.try_lock(1)").code == "TN001"
    with Wire(server.port, "postgres", "admin-secret", "shared1") as admin:
        assert admin.query("SELECT bulkhead.try_lock(1)").code == "TN001"
    many = "SELECT count(bulkhead.try_lock(n)) FROM generate_series(1, {}) n"
    assert as_tenant(wire, server, [many.format(64)]).rows[1] == [["64"]]
    answer = as_tenant(wire, server, [many.format(65)])
    assert (answer.code, answer.message) == ("TN005", "max_locks above the tenant's limit is not allowed")
    assert as_tenant(wire, server, [many.format(64), many.format(64)]).code is None  # the same ones again
    limit(server, max_locks=2)
    assert as_tenant(wire, server, [many.format(2)]).code is None
    assert as_tenant(wire, server, [many.format(3)]).code == "TN005"
    assert as_tenant(wire, server, ["SELECT bulkhead.try_lock(NULL)"]).rows[1] == [[None]]
    assert server.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert_clean(wire, server)


@pytest.mark.parametrize("name", LIMITS)
def test_not_even_one_statement_runs_with_the_default_of_the_connection(server, wire, name):
    """set_config() with NULL states no value: it is refused where it would lift the limit, in the middle of the statement."""
    value, told, lower, _ = LIMITS[name]
    value = told = "0" if name == "max_parallel_workers_per_gather" else "1.5" if name == "hash_mem_multiplier" else {"work_mem": "2MB", "maintenance_work_mem": "2MB", "temp_buffers": "1MB"}.get(name, "100ms")
    limit(server, **{name: value})
    with pool(server, options=f"-c {name}={LIMITS[name][0]}") as wire:
        seen = f"WITH x AS MATERIALIZED (SELECT set_config('{name}', NULL, true)) SELECT current_setting('{name}') FROM x"
        answer = as_tenant(wire, server, [f"SHOW {name}", seen])
        assert answer.rows[1] == [[told]]
        assert answer.code == "TN005" and len(answer.rows) == 2, answer.rows
        assert f"{name} above the tenant's limit" in answer.message
        assert as_tenant(wire, server, [f"DO $$BEGIN PERFORM set_config('{name}', NULL, true); EXCEPTION WHEN others THEN NULL; END$$", f"SHOW {name}"]).rows[2] == [[told]]
        assert_clean(wire, server)


def test_a_session_that_takes_too_much_memory_has_an_error(server):
    """Not the kernel's kill, after which PostgreSQL restarts everybody's connections."""
    server.sql("ALTER SYSTEM SET bulkhead.session_memory = '200MB'")
    server.reload()
    try:
        much = "SELECT length(array_agg(repeat('x', 1000000))::text) FROM generate_series(1, %d)"
        with pool(server) as wire, pool(server) as other:
            assert as_tenant(wire, server, [much % 20]).rows[1] == [["20000021"]]  # positive control
            for text in (much % 100, much % 400, "DO $$DECLARE x text[]; BEGIN FOR i IN 1..400 LOOP x := x || repeat('x', 1000000); END LOOP; END$$"):
                assert as_tenant(wire, server, [text]).code == "53200"
                assert_clean(wire, server)
            assert_clean(other, server)
    finally:
        server.sql("ALTER SYSTEM RESET bulkhead.session_memory")
        server.reload()
    with pool(server) as wire:
        assert as_tenant(wire, server, [much % 100]).code is None  # 1 GB is the default


def test_printed_plans_do_not_fill_the_log(server):
    """debug_print_plan is anybody's setting, and its trees go to the server's log."""
    with pool(server) as wire:
        before = server.log.stat().st_size
        wide = "SELECT " + ", ".join(f"body || '{i}'" for i in range(400)) + " FROM notes"
        for _ in range(100):
            assert as_tenant(wire, server, ["SET LOCAL debug_print_plan = on", "SET LOCAL debug_print_parse = on", wide]).code is None
        assert server.log.stat().st_size - before < 3000000
