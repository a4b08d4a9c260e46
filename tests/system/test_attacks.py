"""Attacks on the extension: the corpus in attacks.py, each case by several protocols on one connection that is never
renewed, and those that need the protocol itself."""
import struct
import threading
import time

import attacks
import bhtoken
import pgserver
import pytest
from database import ENTER, NUMBERS, SECRETS, as_tenant, assert_clean, check_log, pool, token
from pgwire import Wire

ATTACKER, VICTIM = ("hooli", 44), ("globex", 43)
TRACE = "SECRET-B"  # what only the victim may see
MARKS = (TRACE, bhtoken.b64(b'{"alg":"HS256"')[:14], "SCRAM-SHA-256$", "root:", "server-main.key")
PROBES = ["SELECT current_user, session_user, bulkhead.tenant_no(), bulkhead.tenant_id()", "SELECT md5(string_agg(concat(name, setting), ',' ORDER BY name)) FROM pg_settings",
          "SELECT body FROM notes", "SELECT pg_my_temp_schema()", "SELECT name FROM pg_cursors WHERE is_holdable"]
STATE = """SELECT (SELECT md5(string_agg(x::text, '' ORDER BY x::text)) FROM t43.notes x), (SELECT count(*) FROM t43.orders),
 (SELECT concat(last_value, is_called) FROM t43.orders_id_seq), (SELECT md5(string_agg(x::text, '' ORDER BY no)) FROM bulkhead.tenant x),
 (SELECT md5(string_agg(x::text, '' ORDER BY oid)) FROM pg_authid x), (SELECT count(*) FROM pg_auth_members), (SELECT count(*) FROM pg_db_role_setting),
 (SELECT md5(string_agg(oid::text || relowner || coalesce(relacl::text, ''), '' ORDER BY oid)) FROM pg_class WHERE relnamespace IN ('t43'::regnamespace,
  'bulkhead'::regnamespace, 'public'::regnamespace)), (SELECT md5(string_agg(x::text, '' ORDER BY oid)) FROM pg_namespace x WHERE nspname !~ '^pg_'),
 (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_proc WHERE pronamespace <> 't44'::regnamespace), (SELECT md5(string_agg(x::text, '' ORDER BY oid)) FROM pg_database x WHERE datname <> 'x'),
 (SELECT count(*) FROM pg_default_acl), (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_trigger WHERE tgrelid <> 't44.notes'::regclass), (SELECT count(*) FROM pg_largeobject_metadata),
 (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' OR locktype = 'relation' AND relation::regclass::text LIKE 't43.%'),
 (SELECT count(*) FROM pg_prepared_xacts), (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_cast)"""


@pytest.fixture(scope="module")
def server():
    it = pgserver.Server("log_min_duration_statement = 0\nlog_statement = 'all'\nautovacuum = off")
    try:
        it.make_database("shared1")
        for tenant, no in NUMBERS.items():
            it.make_tenant(no, tenant, secret=SECRETS[tenant])
        it.make_tenant(44, "hooli", secret="SECRET-C")
        for no in (43, 44):
            it.sql(f"CREATE ROLE bh_x{no}; ALTER TABLE t{no}.orders OWNER TO bh_o{no}; ANALYZE t{no}.notes")
        it.sql("UPDATE bulkhead.tenant SET role = 'bh_o44' WHERE no = 44")
        yield it
        log = it.log.read_text()
        check_log(log)
        assert bhtoken.b64(b'{"alg":"HS256","kid":"main.1"') [:36] not in log
        assert "bulkhead.enter" in log  # positive control: those statements were logged
    finally:
        it.close()


# The attacker may leave what he likes in his own schema; the next case shall not trip over it.
TIDY = """DO $$DECLARE i record; BEGIN
 FOR i IN SELECT p.oid::regprocedure AS o, p.prokind FROM pg_proc p WHERE pronamespace = 't44'::regnamespace LOOP
  EXECUTE format('DROP ROUTINE IF EXISTS %s CASCADE', i.o); END LOOP;
 FOR i IN SELECT oid::regclass AS o, relkind FROM pg_class WHERE relnamespace = 't44'::regnamespace AND relkind IN ('r', 'v', 'm')
  AND relname NOT IN ('notes', 'orders') LOOP
  EXECUTE format('DROP %s IF EXISTS %s CASCADE', CASE i.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END, i.o); END LOOP;
 FOR i IN SELECT oid::regtype AS o FROM pg_type WHERE typnamespace = 't44'::regnamespace AND typtype IN ('d', 'e') LOOP
  EXECUTE format('DROP TYPE IF EXISTS %s CASCADE', i.o); END LOOP;
 DROP CONVERSION IF EXISTS t44.c; DROP TEXT SEARCH DICTIONARY IF EXISTS t44.d; DROP STATISTICS IF EXISTS t44.st; DROP POLICY IF EXISTS p ON t44.notes;
 SET LOCAL client_min_messages = error; END$$"""


@pytest.fixture(scope="module")
def admin(server):
    with Wire(server.port, "postgres", "admin-secret", "shared1") as it:
        it.query("SET client_min_messages = error; SET log_statement = none; SET log_min_duration_statement = -1")
        yield it


@pytest.fixture(scope="module")
def controls():
    """Controls that have passed; most cases share one."""
    return set()


@pytest.fixture(scope="module")
def line(server):
    """The one connection; the victim has used it, with a named statement, before."""
    with pool(server) as it:
        it.step(ENTER, [token(server, "globex")])
        it.parse("SELECT body, 'SECRET-B in a statement' FROM notes", name="victims")
        assert it.sync().code is None
        yield it


@pytest.fixture
def wire(server):
    with pool(server) as it:
        yield it


def enter(server):
    return (ENTER, [server.token(44, "hooli")])


def split(sql):
    """At semicolons outside of quotes."""
    parts, part, quote = [], "", None
    at = 0
    while at < len(sql):
        mark = next((m for m in ("$$", "$f$", "'", '"') if sql.startswith(m, at)), None)
        if mark and quote in (None, mark):
            quote = None if quote else mark
            part, at = part + mark, at + len(mark)
            continue
        if sql[at] == ";" and quote is None:
            parts.append(part.strip())
            part = ""
        else:
            part += sql[at]
        at += 1
    return [p for p in parts + [part.strip()] if p]


def as_block(wire, server, sql, end="ROLLBACK"):
    """BEGIN, enter(), each statement by the simple protocol; goes on past errors, as an attacker would."""
    wire.query("BEGIN")
    answers = [wire.pipeline([enter(server)])]
    answers += [wire.query(part) for part in split(sql)]
    wire.query(end)
    if wire.query("SHOW work_mem").status != "I":  # the attack began another
        wire.query("ROLLBACK")
    return answers


def as_pipeline(wire, server, sql):
    """One pipeline; what follows an error is skipped, so the rest goes out again without the failing one."""
    answers = [wire.pipeline([enter(server)] + [(part, []) for part in split(sql)])]
    wire.query("ROLLBACK")
    return answers


def as_string(wire, server, sql):
    """Bound, then all the rest as one string of the simple protocol, without a Sync between."""
    wire.step(*enter(server))
    wire.put(b"Q", sql.encode() + b"\0")
    wire.flush()
    answers = [wire.read()]
    wire.query("ROLLBACK")
    return answers


def unbound(wire, server, sql):
    del server
    answers = [wire.query(sql)]
    wire.query("ROLLBACK")
    answers.append(wire.pipeline([(part, []) for part in split(sql)]))
    wire.query("ROLLBACK")
    return answers


PATHS = {"bound": (as_block, as_pipeline, as_string), "after": (as_block, as_pipeline, as_string), "unbound": (unbound,)}


def probe(wire, server):
    """What the victim, next on the connection, meets."""
    answer = as_tenant(wire, server, PROBES, "globex")
    wire.bind(name="held")
    return [answer.rows[1:], answer.errors, wire.sync().code]


def told(answers):
    return " ".join(f"{a.rows} {a.errors} {a.notices} {a.copied}" for a in answers)


def baseline(wire, server, admin):
    """What no case may change: the platform's and the victim's state, and what the victim meets on the connection."""
    state = admin.query(STATE)
    assert state.code is None, state.errors
    return state.rows, probe(wire, server)


def violations(wire, server, admin, base, run, sql):
    """What a case did that it must not: a list of leak kinds; empty is good."""
    answers = run(wire, server, sql)
    found = []
    if any(mark in told(answers) for mark in (TRACE, "SECRET-B in a statement")):
        found.append("rows")
    if any(mark in told(answers) for mark in MARKS[1:]):
        found.append("text")
    who = wire.query("SELECT current_user, session_user").rows
    if who != [[["bulkhead_pool", "bulkhead_pool"]]] or wire.query("SELECT bulkhead.tenant_no()").code != "TN001":
        found.append("role")
    if probe(wire, server) != base[1] or any(a.notifications for a in answers):
        found.append("stays")
    if as_tenant(wire, server, ["SELECT lastval()"], "globex").code != "55000":
        found.append("stays")
    if admin.query(STATE).rows != base[0]:
        found.append("write")
    assert admin.query(TIDY).code is None
    return found


@pytest.mark.parametrize("path,sql,leak,control", [case[1:] for case in attacks.CASES], ids=[case[0] for case in attacks.CASES])
def test_attack(server, admin, line, controls, path, sql, leak, control):
    assert leak in ("rows", "write", "role", "stays", "text")
    if control not in controls:
        good = as_block(line, server, control)
        # A control may end with an error of its own that shows what it has read.
        assert all(a.code in (None, "ZZ002") for a in good) or "1 / count" in control, [a.errors for a in good]
        controls.add(control)
    base = baseline(line, server, admin)
    for run in PATHS[path]:
        assert violations(line, server, admin, base, run, sql) == [], run.__name__


@pytest.mark.parametrize("leak,grant,sql,undo", [
    ("rows", "GRANT USAGE ON SCHEMA t43 TO bh_o44; GRANT SELECT ON t43.notes TO bh_o44", "SELECT body FROM t43.notes", "REVOKE ALL ON t43.notes FROM bh_o44"),
    ("rows", "GRANT EXECUTE ON FUNCTION pg_prepared_statement() TO bh_o44", "SELECT statement FROM pg_prepared_statements", "REVOKE EXECUTE ON FUNCTION pg_prepared_statement() FROM bh_o44"),
    ("text", "GRANT pg_read_server_files TO bh_o44; GRANT EXECUTE ON FUNCTION pg_read_file(text) TO bh_o44", "SELECT pg_read_file('/etc/passwd')", "REVOKE pg_read_server_files FROM bh_o44; REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM bh_o44"),
    ("text", "GRANT pg_read_all_settings TO bh_o44", "SHOW bulkhead.key_file", "REVOKE pg_read_all_settings FROM bh_o44"),
    ("write", "GRANT USAGE ON SCHEMA t43 TO bh_o44; GRANT USAGE ON t43.orders_id_seq TO bh_o44", "SELECT nextval('t43.orders_id_seq')", "REVOKE ALL ON t43.orders_id_seq FROM bh_o44"),
    ("stays", "GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO bh_o44", "SELECT pg_advisory_lock(42)", "REVOKE EXECUTE ON FUNCTION pg_advisory_lock(bigint) FROM bh_o44"),
])
def test_a_hole_would_be_seen(server, admin, leak, grant, sql, undo):
    """Positive control of violations(): each protection taken away shows as its leak."""
    server.sql(grant)
    try:
        with pool(server) as wire:
            wire.step(ENTER, [token(server, "globex")])
            wire.parse("SELECT body, 'SECRET-B in a statement' FROM notes", name="victims")
            wire.sync()
            found = violations(wire, server, admin, baseline(wire, server, admin), as_block, sql)
        assert leak in found or leak == "stays" and "write" in found, found
    finally:
        server.sql(undo)
    with pool(server) as wire:
        assert violations(wire, server, admin, baseline(wire, server, admin), as_block, sql) == []


# ---- what needs the protocol

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
