"""Attacks that need the protocol itself, and the races: what no statement of attacks.py can say."""
import struct
import threading
import time

import attackfix
import bhtoken
import pgserver
import pytest
from attackfix import MARKS, NO, told
from database import ENTER, NUMBERS, SECRETS, as_tenant, assert_clean, check_log, pool, token
from pgwire import Wire


@pytest.fixture(scope="module")
def server():
    it = attackfix.make_server()
    yield it
    attackfix.close_server(it)


@pytest.fixture
def wire(server):
    with pool(server) as it:
        yield it


def enter(server):
    return (ENTER, [server.token(NO["hooli"], "hooli")])


def number(server, signature):
    return server.sql("SELECT %s::regprocedure::oid::int", [signature])[0][0]


def restored(server):
    server.sql("UPDATE bulkhead.tenant SET epoch = 1, state = 'active' WHERE epoch <> 1 OR state <> 'active'")


def test_a_portal_ends_with_its_epoch(server, wire):
    """Reading in small parts with Execute must not go on after a revocation; FETCH does not either."""
    for revoke in (False, True):
        wire.query("BEGIN")
        wire.step(ENTER, [token(server)])
        wire.parse("SELECT body FROM notes, generate_series(1, 100)")
        wire.bind(portal="mine")
        wire.execute("mine", 1)
        assert wire.sync().suspended == 1
        if revoke:
            server.sql("UPDATE bulkhead.tenant SET epoch = 2 WHERE no = 42")
        wire.execute("mine", 1)
        answer = wire.sync()
        assert (answer.code, answer.suspended) == (("TN002", 0) if revoke else (None, 1)), answer.errors
        wire.query("ROLLBACK")
    restored(server)
    assert_clean(wire, server)


def test_a_fast_path_call_ends_with_its_epoch(server, wire):
    md5 = number(server, "md5(text)")
    wire.query("BEGIN")
    wire.pipeline([(ENTER, [token(server)])])
    assert wire.call(md5, "x").value == "9dd4e461268c8034f5c8564e155c67a6"
    server.sql("UPDATE bulkhead.tenant SET epoch = 2 WHERE no = 42")
    assert wire.call(md5, "x").code == "TN002"
    wire.query("ROLLBACK")
    restored(server)
    assert_clean(wire, server)


@pytest.mark.parametrize("change", ["limits = '{}'", "epoch = 2", "state = 'suspended'"])
def test_ends_of_an_aborted_transaction_read_nothing(server, wire, change):
    """COMMIT after an error inside a savepoint is a rollback, whatever happened to the tenant meanwhile."""
    wire.query("BEGIN")
    assert as_tenant(wire, server, ["INSERT INTO notes (body) VALUES ('lost')", "SAVEPOINT s"]).code is None
    assert wire.query("SELECT 1 / 0").code == "22012"
    server.sql(f"UPDATE bulkhead.tenant SET {change} WHERE no = 42")
    done = wire.query("COMMIT")
    assert (done.code, done.tags, done.status) == (None, ["ROLLBACK"], "I"), done.errors
    restored(server)
    assert as_tenant(wire, server, ["SELECT 1 FROM notes WHERE body = 'lost'"]).rows[1] == []
    wire.query("BEGIN")
    wire.query("SELECT 1 / 0")
    server.sql("ALTER SYSTEM SET bulkhead.pool_roles = 'bulkhead_pool, other'")
    server.reload()
    assert wire.query("ROLLBACK").code is None
    server.sql("ALTER SYSTEM RESET bulkhead.pool_roles")
    server.reload()
    assert_clean(wire, server)


@pytest.mark.parametrize("poison", ["SET LOCAL seed = 0.25", "SELECT set_config('seed', '0.25', true)", "SELECT setseed(0.25)",
                                    "SELECT random() FROM generate_series(1, 10)"])
def test_random_is_new_for_each_tenant(server, wire, poison):
    drawn = set()
    for _ in range(3):
        assert as_tenant(wire, server, [poison]).code is None
        drawn.add(as_tenant(wire, server, ["SELECT random()"], "globex").rows[1][0][0])
    assert len(drawn) == 3
    same = as_tenant(wire, server, ["SELECT setseed(0.5)", "SELECT random()", "SELECT setseed(0.5)", "SELECT random()"])
    assert same.rows[2] == same.rows[4]  # positive control: inside a transaction a seed still works


@pytest.mark.parametrize("shape", ["SELECT bulkhead.enter('{}')", "SELECT * FROM bulkhead.enter('{}')", "SELECT bulkhead.enter('{}'", "SELECT '{}'::int",
                                   "CALL bulkhead.enter('{}')", "BEGIN; SELECT bulkhead.enter('{}'); COMMIT", "SELECT bulkhead.enter('{}' || '')",
                                   "DO $$BEGIN RAISE LOG '{}'; END$$", "SELECT 1 / 0 /* {} */", "SET application_name = '{}'", "SELECT \"{}\""])
def test_a_token_never_reaches_the_log(server, wire, shape):
    """log_statement and log_min_duration_statement are on here, so each parameter would be there too."""
    it = token(server, sub=f"u{abs(hash(shape))}")
    signature = it.split(".")[2]
    wire.query(shape.replace("{}", it))
    wire.pipeline([(shape.replace("{}", it), [])])
    wire.query("ROLLBACK")
    wire.pipeline([(ENTER, [it]), ("SELECT $1::text", ["mark " + signature[:6]])])
    log = server.log.read_text()
    assert "mark " + signature[:6] in log  # positive control: parameters are logged
    assert signature not in log and it.split(".")[1] not in log
    assert_clean(wire, server)


def test_statements_in_statistics_hold_no_token(server):
    it = pgserver.Server("shared_preload_libraries = 'pg_stat_statements, bulkhead'")
    try:
        it.make_database("shared1")
        it.make_tenant(42, "acme", secret="SECRET-A")
        it.sql("CREATE EXTENSION pg_stat_statements")
        with pool(it) as wire:
            text = token(it)
            wire.query(f"SELECT bulkhead.enter('{text}')")
            wire.query(f"SELECT * FROM bulkhead.enter('{text}')")
            assert as_tenant(wire, it, ["SELECT body FROM notes"]).rows[1] == [["SECRET-A"]]
            seen = as_tenant(wire, it, ["SELECT query FROM public.pg_stat_statements"])
            assert "CREATE EXTENSION" not in told([seen])
        texts = [row[0] for row in it.sql("SELECT query FROM pg_stat_statements")]
        assert any("bulkhead.enter($1)" in one for one in texts) and not any("eyJ" in one for one in texts)
        check_log(it.log.read_text())
    finally:
        it.close()


def test_startup_of_the_pool_role(server):
    for words in ({"replication": "true"}, {"replication": "database"}, {"options": "-c role=bh_o43"}, {"role": "bh_o43"},
                  {"options": "-c session_authorization=bh_o43"}, {"options": "-c bulkhead.pool_roles="}, {"bulkhead.literal_token": "on"},
                  {"options": "-c session_replication_role=replica"}, {"search_path": "t43"}, {"options": "-c search_path=t43,bulkhead"},
                  {"options": "-c local_preload_libraries=evil"}, {"options": "-c default_transaction_read_only=on"}):
        with pool(server, **words) as wire:
            if not any(e["S"] == "FATAL" for e in wire.start.errors):
                assert wire.query("SELECT body FROM t43.notes").code in ("TN001", "42501"), words
                assert_clean(wire, server)
    with Wire(server.port, "bulkhead_pool", pgserver.POOL_PASSWORD, "postgres") as wire:
        assert wire.query("SELECT * FROM pg_class").code == "TN001" or any(e["S"] == "FATAL" for e in wire.start.errors)


FAST = ["pg_read_file(text)", "lo_creat(int)", "lo_import(text)", "pg_terminate_backend(int,bigint)", "set_config(text,text,bool)", "pg_advisory_lock(bigint)",
        "pg_notify(text,text)", "query_to_xml(text,bool,bool,text)", "bulkhead.enter(text)", "bulkhead.tenant_changed()", "pg_reload_conf()", "nextval(regclass)",
        "pg_sleep(float8)", "pg_prepared_statement()", "current_query()"]


@pytest.mark.parametrize("signature", FAST)
def test_fast_path(server, wire, signature):
    oid, values = number(server, signature), {"set_config(text,text,bool)": ("role", "bh_o43", "t")}.get(signature, ())
    for _ in range(2):
        assert wire.call(oid, *values).code in ("TN001", "42501", "08P01", "0A000")
        assert_clean(wire, server)
    wire.query("BEGIN")
    wire.pipeline([enter(server)])
    wire.call(oid, *values)
    wire.query("ROLLBACK")
    assert_clean(wire, server)


def test_odd_bindings_of_enter(server, wire):
    """Other types, binary, several result formats, row limits, a second Execute, a portal run late."""
    good = token(server)
    for kind in (17, 23, 114, 2205, 3802, 600):
        wire.parse(ENTER, types=[kind])
        wire.bind([good])
        wire.execute()
        assert wire.sync().code is not None, kind
    for data in (b"\x00", b"\xff\xfe", good.encode() + b"\0", b"", good.encode()[:-1] + b"\xc3"):
        wire.parse(ENTER)
        wire.put(b"B", b"\0\0" + struct.pack(">hhh", 1, 1, 1) + struct.pack(">i", len(data)) + data + struct.pack(">h", 0))
        wire.execute()
        assert wire.sync().code in ("TN002", "22021"), data
    wire.parse(ENTER)
    data = good.encode()
    wire.put(b"B", b"\0\0" + struct.pack(">hhh", 1, 1, 1) + struct.pack(">i", len(data)) + data + struct.pack(">hh", 1, 1))
    wire.execute(limit=1)
    wire.execute()
    wire.step("SELECT body FROM notes WHERE id = 1")
    answer = wire.sync()
    assert answer.rows[-1] == [[SECRETS["acme"]]], answer.errors
    wire.query("BEGIN")
    wire.parse(ENTER)
    wire.bind([good], portal="late")
    wire.step("SELECT 1")
    wire.execute("late")
    assert wire.sync().code == "TN006"
    wire.query("ROLLBACK")
    assert_clean(wire, server)


def test_broken_messages_do_not_hurt(server):
    for kind, body in ((b"B", b"\0\0\x7f\xff"), (b"P", b"x\0SELECT 1\0\0\1"), (b"E", b"\0"), (b"F", b"\0\0"), (b"F", struct.pack(">Ihh", 0xffffffff, 0, 0)),
                       (b"D", b"Z\0"), (b"C", b"\0"), (b"B", b"none\0none\0" + b"\0" * 6), (b"Q", b"SELECT 1"), (b"d", b"x"), (b"c", b""), (b"f", b"x\0")):
        for bound in (False, True):
            with pool(server) as wire:
                if bound:
                    wire.step(ENTER, [token(server)])
                wire.put(kind, body)
                try:
                    if kind in b"QF":  # they end with ReadyForQuery themselves
                        wire.flush()
                        wire.read()
                    else:
                        wire.sync()
                    wire.query("ROLLBACK")
                    assert wire.query("SELECT current_user").rows == [[["bulkhead_pool"]]]
                except ConnectionError:
                    pass
    with pool(server) as wire:
        assert_clean(wire, server)


def test_statements_parsed_for_one_tenant_run_for_the_next(server, wire):
    """A plan is made again for the tenant that runs it; what names another's table is refused."""
    wire.step(ENTER, [token(server)])
    wire.parse("SELECT body FROM notes WHERE id = 1", name="shared")
    wire.parse("SELECT body FROM t42.notes", name="fixed")
    assert wire.sync().code is None
    for tenant in ("globex", "acme") * 6:
        wire.step(ENTER, [token(server, tenant)])
        wire.bind(name="shared")
        wire.execute()
        assert wire.sync().rows[1] == [[SECRETS[tenant]]]
    wire.step(ENTER, [token(server, "globex")])
    wire.bind(name="fixed")
    wire.execute()
    answer = wire.sync()
    assert answer.code == "42501" and SECRETS["acme"] not in told([answer])


def test_parallel_workers_are_the_same_tenant(server, wire):
    server.sql("SET ROLE bh_o42; CREATE TABLE t42.big AS SELECT g AS i FROM generate_series(1, 20000) g; ALTER TABLE t42.big SET (parallel_workers = 2);"
               "GRANT SELECT ON t42.big TO bh_t42; RESET ROLE; ANALYZE t42.big")
    force = ["SET LOCAL parallel_setup_cost = 0", "SET LOCAL parallel_tuple_cost = 0", "SET LOCAL min_parallel_table_scan_size = 0"]
    ask = "SELECT DISTINCT current_user, bulkhead.tenant_no(), bulkhead.tenant_id() FROM big"
    plan = as_tenant(wire, server, force + ["EXPLAIN " + ask])
    assert "Gather" in told([plan])  # positive control
    for _ in range(3):
        assert as_tenant(wire, server, force + [ask]).rows[4] == [["bh_t42", "42", "acme"]]
        assert as_tenant(wire, server, force + [ask], "globex").code == "42P01"
    assert as_tenant(wire, server, force + ["SELECT count(*) FROM big WHERE bulkhead.tenant_no() <> 42"]).rows[4] == [["0"]]
    assert_clean(wire, server)


def test_one_number_in_two_databases(server):
    server.make_database("shared2")
    server.sql("CREATE ROLE bh_t142; CREATE SCHEMA t42 AUTHORIZATION bh_t142; CREATE TABLE t42.notes (body text); GRANT SELECT ON t42.notes TO bh_t142;"
               "INSERT INTO t42.notes VALUES ('SECOND'); INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (42, 'acme', 'bh_t142', 't42', 'active')",
               database="shared2")
    with pool(server) as one, pool(server, database="shared2") as two:
        other = server.token(42, "acme", "shared2")
        for _ in range(2):
            assert as_tenant(one, server, ["SELECT body FROM notes WHERE id = 1"]).rows[1] == [[SECRETS["acme"]]]
            assert two.pipeline([(ENTER, [other]), ("SELECT body FROM notes", [])]).rows[1] == [["SECOND"]]
            assert two.pipeline([(ENTER, [token(server)])]).code == "TN002"
            assert one.pipeline([(ENTER, [other])]).code == "TN002"
            server.sql("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 42", database="shared2")
            assert two.pipeline([(ENTER, [other])]).code == "TN003"
            assert as_tenant(one, server, ["SELECT 1"]).code is None
            server.sql("UPDATE bulkhead.tenant SET state = 'active' WHERE no = 42", database="shared2")


def test_twenty_thousand_tenants(server):
    """More than bulkhead.max_tenants: bounded memory, right answers, a change counts at once for each."""
    server.sql("INSERT INTO bulkhead.tenant (no, id, role, schema, state) SELECT g, 'n' || g, 'bh_t42', 't42', 'active' FROM generate_series(1000, 21000) g")
    try:
        with pool(server) as wire:
            for no in range(1000, 21000, 20):
                assert wire.pipeline([(ENTER, [server.token(no, f"n{no}")]), ("SELECT bulkhead.tenant_no()", [])]).rows[1] == [[str(no)]]
            server.sql("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no >= 1000")
            for no in range(1000, 21000, 200):
                assert wire.pipeline([(ENTER, [server.token(no, f"n{no}")])]).code == "TN003"
            assert_clean(wire, server)
    finally:
        server.sql("DELETE FROM bulkhead.tenant WHERE no >= 1000")
    with pool(server) as wire:
        assert wire.pipeline([(ENTER, [server.token(1000, "n1000")])]).code == "TN002"


def test_a_backend_does_not_grow(server, wire):
    """Entering thousands of times leaves no memory behind."""
    def used():
        return int(server.sql(f"SELECT pg_read_file('/proc/{wire.pid}/status')")[0][0].split("RssAnon:")[1].split()[0])

    def work():
        for _ in range(400):
            as_tenant(wire, server, ["SET work_mem = '9MB'", "SET application_name = 'x'"])
            wire.pipeline([(ENTER, ["x" * 3000])])
            wire.pipeline([(ENTER, [token(server, ver=9)])])
    work()
    before = used()
    work()
    assert used() - before < 300  # kB


def test_racing_states_and_cancels(server):
    """One connection enters as fast as it can, others suspend, cancel and reload; it never sees another's row."""
    stop, wrong, seen = threading.Event(), [], set()

    def storm():
        with Wire(server.port, "postgres", "admin-secret", "shared1") as admin:
            while not stop.is_set():
                for word in ("suspended", "active"):
                    admin.query(f"UPDATE bulkhead.tenant SET state = '{word}' WHERE no = 42")
                admin.query("SELECT pg_reload_conf()")
                admin.query("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'bulkhead_pool'")

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        with pool(server) as wire:
            deadline = time.monotonic() + 4
            while time.monotonic() < deadline:
                for tenant in ("acme", "globex"):
                    answer = as_tenant(wire, server, ["SELECT body, current_user FROM notes WHERE id = 1"], tenant)
                    seen.add(answer.code)
                    good = [[SECRETS[tenant], f"bh_t{NUMBERS[tenant]}"]]
                    if answer.code not in (None, "TN003", "57014") or answer.code is None and answer.rows[1] != good:
                        wrong.append((tenant, answer.errors, answer.rows))
    finally:
        stop.set()
        thread.join(20)
    restored(server)
    assert not wrong and {None, "TN003"} <= seen, (wrong[:3], seen)
    with pool(server) as wire:
        assert_clean(wire, server)


OPEN = {"clock_timestamp", "current_database", "current_schema", "current_user", "now", "pg_advisory_unlock_all", "pg_backend_pid",
        "pg_client_encoding", "pg_is_in_recovery", "session_user",
        "statement_timestamp", "transaction_timestamp", "version"}


def test_every_function_is_closed_without_a_tenant(server, wire):
    """All of pg_catalog by the fast path, and all that take no arguments by SELECT: only the short list answers."""
    functions = server.sql("SELECT oid::int, proname, pronargs FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace ORDER BY oid")
    answered = set()
    for oid, name, arguments in functions:
        assert wire.call(oid).code in ("TN001", "42501", "0A000"), name  # the last: sets
        if arguments == 0:
            answer = wire.query(f'SELECT pg_catalog."{name}"()')
            if answer.code is None:
                answered.add(name)
    assert len(functions) > 2500 and answered == OPEN
    assert_clean(wire, server)


def test_no_function_of_the_engine_crosses(server, wire):
    """A tenant calls all that take no arguments, in the fast path and by SELECT: nothing of it is there afterwards."""
    names = server.sql("SELECT oid::int, proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND pronargs = 0 ORDER BY oid")
    called = 0
    for oid, name in names:
        answer = as_tenant(wire, server, [f'SELECT pg_catalog."{name}"()'])
        called += answer.code is None
        assert not any(mark in told([answer]) for mark in MARKS), name
        wire.query("BEGIN")
        wire.pipeline([(ENTER, [token(server)])])
        wire.call(oid)
        wire.query("ROLLBACK")
    assert called > 50
    assert_clean(wire, server)
