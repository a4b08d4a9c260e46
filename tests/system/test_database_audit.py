"""The audit ring: each refused attempt once, nothing else, no secret, bounded whatever an attacker does."""
import collections
import os
import signal
import struct
import threading
import time

import attacks
import bhtoken
import pgserver
import pytest
from database import ENTER, as_tenant, pool, server, token, wire  # noqa: F401
from pgwire import Wire
from attackfix import split

Entry = collections.namedtuple("Entry", "epoch seq at no tenant subject database object sqlstate message fingerprint suppressed")
FOREIGN = "SELECT body FROM t43.notes"
LITERAL = "pa55-w0rd"


def read(server, after=0, most=100000):
    return [Entry(*row) for row in server.sql("SELECT * FROM bulkhead.audit_read(%s, %s)", [after, most])]


def state(server):
    return server.sql("SELECT epoch, head, oldest, suppressed FROM bulkhead.audit_state()")[0]


class Watch:
    """What has come into the ring since."""

    def __init__(self, server):
        self.server, self.head = server, state(server)[1]

    def new(self):
        rows = read(self.server, self.head)
        self.head = rows[-1].seq if rows else self.head
        return rows

    def one(self):
        rows = self.new()
        assert len(rows) == 1, rows
        return rows[0]


@pytest.fixture(autouse=True, scope="module")
def no_limit(server):
    """Only the tests about it want the rate limit."""
    server.sql("ALTER SYSTEM SET bulkhead.audit_burst = 100000")
    server.sql("ALTER SYSTEM SET bulkhead.audit_rate = 10000")
    server.reload()
    server.sql("CREATE FUNCTION t42.steal() RETURNS text LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT max(body) FROM t43.notes); END';"
               "CREATE FUNCTION t42.caught() RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM body FROM t43.notes; RETURN ''; EXCEPTION WHEN others THEN RETURN SQLSTATE; END$$;"
               "CREATE FUNCTION t42.again() RETURNS text LANGUAGE plpgsql AS $$BEGIN PERFORM body FROM t43.notes; RETURN ''; EXCEPTION WHEN others THEN PERFORM 1; RAISE; END$$;"
               "CREATE FUNCTION t42.in_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM body FROM t43.notes; RETURN NEW; EXCEPTION WHEN others THEN RETURN NEW; END$$;"
               "CREATE FUNCTION t42.raw_trigger() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM body FROM t43.notes; RETURN NEW; END$$;"
               "CREATE PROCEDURE t42.ends() LANGUAGE plpgsql AS $$BEGIN COMMIT; END$$;"
               "CREATE FUNCTION t42.slow_fetch(int) RETURNS text PARALLEL SAFE LANGUAGE plpgsql AS 'BEGIN RETURN (SELECT max(body) FROM t43.notes); END';"
               "CREATE TABLE t42.guarded (i int); ALTER TABLE t42.guarded ENABLE ROW LEVEL SECURITY; GRANT ALL ON t42.guarded TO bh_t42;"
               "CREATE POLICY p ON t42.guarded USING (true) WITH CHECK (i > 0);"
               "CREATE TABLE t42.hidden (i int); CREATE TABLE t42.many AS SELECT i FROM generate_series(1, 1000) i; GRANT SELECT ON t42.many TO bh_t42; ANALYZE t42.many;"
               "CREATE TABLE t42.later (i int); GRANT ALL ON t42.later TO bh_t42;"
               "CREATE TABLE t42.later_raw (i int); GRANT ALL ON t42.later_raw TO bh_t42;"
               "CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t42.later DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t42.in_trigger();"
               "CREATE CONSTRAINT TRIGGER x AFTER INSERT ON t42.later_raw DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION t42.raw_trigger();")


@pytest.fixture
def watch(server):
    return Watch(server)


# ---- what is recorded, of whom

BOUND = [  # statement, SQLSTATE, object, message
    (FOREIGN, "42501", "schema t43", "permission denied"),
    ("SELECT * FROM hidden", "42501", "table hidden", "permission denied"),
    ("SELECT nextval('t43.orders_id_seq')", "42501", "schema t43", "permission denied"),
    ("SELECT pg_read_file('/etc/passwd')", "42501", "function pg_read_file", "permission denied"),
    ("DROP TABLE notes", "42501", "table notes", "must be owner"),
    ("CREATE SCHEMA x", "42501", "database shared1", "permission denied"),
    ("CREATE EXTENSION dblink", "TN005", "CREATE EXTENSION", "not allowed while a tenant is bound"),
    ("CREATE SUBSCRIPTION s CONNECTION 'password=x' PUBLICATION p WITH (connect = false)", "42501", "",
     "must be superuser to create subscriptions" if pgserver.VERSION < 16 else "permission denied to create subscription"),
    ("SET LOCAL session_replication_role = replica", "42501", 'parameter "session_replication_role"', "permission denied to set"),
    ("SELECT set_config('role', 'bh_t43', true)", "42501", 'parameter "role" within security-definer function', "cannot set"),
    ("INSERT INTO guarded VALUES (-1)", "42501", 'policy for table "guarded"', "new row violates row-level security policy"),
    ("SET work_mem = '1MB'", "TN005", "SET without LOCAL", "not allowed while a tenant is bound"),
    ("SET LOCAL statement_timeout = 0", "TN005", "statement_timeout", "above the tenant's limit"),
    ("SET ROLE bh_t43", "TN005", "SET ROLE", "not allowed while a tenant is bound"),
    ("LISTEN x", "TN005", "LISTEN", "not allowed while a tenant is bound"),
    ("CALL ends()", "2D000", "", "invalid transaction termination"),
    ("DO $$BEGIN COMMIT; END$$", "2D000", "", "invalid transaction termination"),
    ("SELECT bulkhead.enter($1)", "TN006", "enter()", "tenant cannot be bound here: a tenant is bound already"),
    ("SELECT * FROM bulkhead.tenant", "42501", "table tenant", "permission denied"),
    ("SELECT * FROM bulkhead.audit_read(0)", "42501", "function audit_read", "permission denied"),
]


@pytest.mark.parametrize("text,code,thing,message", BOUND, ids=[row[0] for row in BOUND])
def test_a_refusal_of_a_tenant_is_recorded_once(server, wire, watch, text, code, thing, message):
    values = [token(server)] if "$1" in text else []
    before = server.sql("SELECT clock_timestamp()")[0][0]
    assert as_tenant(wire, server, [(text, values)], sub="ann", use="req").code == code
    entry = watch.one()
    assert entry[3:10] == (42, "acme", "ann", "shared1", thing, code, message)
    assert before <= entry.at <= server.sql("SELECT clock_timestamp()")[0][0]
    assert len(entry.fingerprint) == 16 and int(entry.fingerprint, 16) and entry.suppressed == 0
    wire.query("BEGIN")
    wire.pipeline([(ENTER, [token(server)])])
    if not values:  # by the simple protocol too, and after an explicit ROLLBACK
        assert wire.query(text).code == code
        wire.query("ROLLBACK")
        again = watch.one()
        assert again[3:11] == entry[3:5] + ("u1",) + entry[6:11] and again.seq == entry.seq + 1
    else:
        wire.query("ROLLBACK")


ORDINARY = ["SELECT body FROM notes", "SELECT 1 / 0", "SELECT * FROM nothing", "SELEC", "SELECT nothing", "INSERT INTO notes (id, body) OVERRIDING SYSTEM VALUE VALUES (1, 'x')",
            "SELECT 'x'::int", "SET LOCAL work_mem = '1MB'", "SET LOCAL nothing_like_it = 1", "VACUUM", "SELECT pg_sleep(0)", "SELECT current_setting('nothing.at_all')",
            "DO $$BEGIN RAISE EXCEPTION USING ERRCODE = '42501', MESSAGE = 'permission denied for table x'; END$$",
            "DO $$BEGIN RAISE EXCEPTION USING ERRCODE = 'TN005', MESSAGE = 'x'; END$$", "DO $$BEGIN RAISE insufficient_privilege; EXCEPTION WHEN others THEN NULL; END$$",
            "DO $$BEGIN RAISE NOTICE USING ERRCODE = '42501', MESSAGE = 'x'; END$$", "BEGIN; SET TRANSACTION READ ONLY; DELETE FROM notes"]


@pytest.mark.parametrize("text", ORDINARY)
def test_what_is_allowed_or_an_ordinary_mistake_leaves_no_entry(server, wire, watch, text):
    for part in (text, "SET LOCAL statement_timeout = '1s'"):
        wire.query("BEGIN")
        wire.pipeline([(ENTER, [token(server)])])
        wire.query(part)
        wire.query("ROLLBACK")
    assert watch.new() == []


def test_unbound_and_bad_tokens_have_no_tenant(server, wire, watch):
    bad = token(server)[:-4] + "AAAA"
    for text, values, code, thing in (("SELECT random()", [], "TN001", ""), ("SELECT * FROM t42.notes", [], "42501", "schema t42"),
                                      ("SELECT bulkhead.tenant_no()", [], "TN001", ""), (ENTER, [bad], "TN002", "token"),
                                      (ENTER, [server.token(42, "acme", key=b"x" * 32, sub="framed")], "TN002", "token"),
                                      ("BEGIN; SELECT random()", [], "TN001", "")):
        assert (wire.pipeline([(text, values)]) if values else wire.query(text)).code == code, text
        entry = watch.one()
        assert entry[3:9] == (0, "", "", "shared1", thing, code), entry
        wire.query("ROLLBACK")


def test_an_authentic_token_names_its_tenant_even_where_it_is_refused(server, wire, watch):
    try:
        for change, code, message in (("state = 'suspended'", "TN003", "tenant is not active: suspended"), ("epoch = 2", "TN002", "token refused: it was revoked"),
                                      ("state = 'moving'", "TN004", None)):
            server.sql("UPDATE bulkhead.tenant SET state = 'active', epoch = 1 WHERE no = 42")
            server.sql(f"UPDATE bulkhead.tenant SET {change} WHERE no = 42")
            assert as_tenant(wire, server, [], sub="bob").code == code
            rows = watch.new()
            assert [row[3:6] + row[8:10] for row in rows] == ([(42, "acme", "bob", code, message)] if message else [])
    finally:
        server.sql("UPDATE bulkhead.tenant SET state = 'active', epoch = 1 WHERE no = 42")


def test_a_write_of_an_anonymous_visitor(server, wire, watch):
    assert as_tenant(wire, server, ["DELETE FROM notes"], scope="anonymous").code == "25006"
    assert watch.one()[3:10] == (42, "acme", "u1", "shared1", "DELETE in a read-only transaction", "25006", "cannot execute")


def test_logins_that_are_not_guarded_are_not_watched(server, watch):
    server.sql("CREATE ROLE clerk LOGIN PASSWORD 'pool-secret'; GRANT CONNECT ON DATABASE shared1 TO clerk")
    with pool(server) as it, Wire(server.port, "clerk", "pool-secret", "shared1") as clerk:
        assert clerk.query(FOREIGN).code == "42501"
        assert clerk.query("DO $$BEGIN PERFORM body FROM t43.notes; EXCEPTION WHEN others THEN NULL; END$$").code is None
        assert watch.new() == []
        assert it.query(FOREIGN).code == "42501"  # positive control
        assert watch.one().no == 0


def test_a_tenants_own_login(server, watch):
    """Bound, and before it is: names are looked up before anything can bind."""
    server.sql("CREATE ROLE bi42 LOGIN PASSWORD 'pool-secret'; GRANT CONNECT ON DATABASE shared1 TO bi42; INSERT INTO bulkhead.login VALUES ('bi42', 42)")
    with Wire(server.port, "bi42", "pool-secret", "shared1") as it:
        for text, code, thing, tenant in ((FOREIGN, "42501", "schema t43", ""), ("LISTEN x", "TN005", "LISTEN", "acme"), ("SELECT caught()", None, "schema t43", "acme")):
            assert it.query("SELECT body FROM notes").code is None and watch.new() == []
            assert it.query(text).code == code
            entry = watch.one()
            assert (entry.no, entry.tenant, entry.subject, entry.object) == (42, tenant, "bi42", thing)


def test_a_database_without_the_right_to_connect(server, watch):
    server.sql("CREATE DATABASE private")
    server.sql("REVOKE ALL ON DATABASE private FROM PUBLIC")
    with pool(server, database="private") as it:
        assert it.start.code == "42501"
    entry = watch.one()
    assert entry[3:10] == (0, "", "", "private", 'database "private"', "42501", "permission denied") and entry.fingerprint == ""
    server.sql("DROP DATABASE private")
    assert read(server, entry.seq - 1)[0].database.isdigit()


# ---- caught, in functions, late, in workers

@pytest.mark.parametrize("text,count,code", [
    ("SELECT steal()", 1, "42501"), ("SELECT caught()", 1, None), ("SELECT again()", 1, "42501"),
    ("DO $$BEGIN PERFORM t42.again(); EXCEPTION WHEN others THEN RAISE; END$$", 1, "42501"),
    ("DO $$BEGIN PERFORM t42.again(); EXCEPTION WHEN others THEN NULL; END$$", 1, None),
    ("DO $$BEGIN FOR i IN 1..5 LOOP BEGIN PERFORM body FROM t43.notes; EXCEPTION WHEN others THEN NULL; END; END LOOP; END$$", 5, None),
    ("DO $$BEGIN SET work_mem = '1MB'; EXCEPTION WHEN others THEN NULL; END$$", 1, None),
    ("DO $$BEGIN PERFORM t42.caught(); PERFORM t42.caught(); PERFORM body FROM t43.notes; END$$", 3, "42501"),
    ("DO $$BEGIN BEGIN PERFORM 1 / 0; EXCEPTION WHEN others THEN PERFORM body FROM t43.notes; END; EXCEPTION WHEN others THEN NULL; END$$", 1, None),
    ("SAVEPOINT a; SELECT body FROM t43.notes; ROLLBACK TO a; SELECT body FROM t43.notes; ROLLBACK TO a; LISTEN x", 3, "42501"),
    ("INSERT INTO later VALUES (1)", 1, None), ("INSERT INTO later_raw VALUES (1)", 1, "42501"),
    ("INSERT INTO later VALUES (1), (2); SET CONSTRAINTS ALL IMMEDIATE", 2, None),
    ("DECLARE c CURSOR FOR SELECT caught(); FETCH ALL c", 1, None),
    ("WITH x AS MATERIALIZED (SELECT caught() FROM generate_series(1, 3)) SELECT * FROM x", 3, None),
    ("SELECT query_to_xml('SELECT body FROM t43.notes', true, true, '')", 1, "42501"),
    ("EXPLAIN ANALYZE SELECT caught()", 1, None), ("COPY (SELECT caught()) TO STDOUT", 1, None),
])
def test_wherever_it_happens_it_is_recorded_once_per_raise(server, wire, watch, text, count, code):
    """At the end of the block by COMMIT: deferred triggers run there."""
    wire.query("BEGIN")
    wire.pipeline([(ENTER, [token(server)])])
    codes = [wire.query(part).code for part in split(text)] + [wire.query("COMMIT").code]
    wire.query("ROLLBACK")
    assert [c for c in codes if c][:1] == ([code] if code else [])
    rows = watch.new()
    assert [row[3:6] for row in rows] == [(42, "acme", "u1")] * count, rows
    if "SAVEPOINT" in text or "DECLARE" in text:  # not in a pipeline without BEGIN
        return
    answer = as_tenant(wire, server, split(text))  # as a pipeline
    assert answer.code == code
    assert len(watch.new()) == count


def test_in_a_parallel_worker(server, wire, watch):
    settings = ["SET LOCAL parallel_setup_cost = 0", "SET LOCAL parallel_tuple_cost = 0", "SET LOCAL min_parallel_table_scan_size = 0"]
    plan = as_tenant(wire, server, settings + ["EXPLAIN SELECT slow_fetch(i) FROM many"])
    assert "Gather" in str(plan.rows)
    assert as_tenant(wire, server, settings + ["SET LOCAL parallel_leader_participation = off", "SELECT slow_fetch(i) FROM many"], sub="far").code == "42501"
    rows = watch.new()  # each worker that got as far has tried by itself
    assert 1 <= len(rows) <= 3 and {row[3:10] for row in rows} == {(42, "acme", "far", "shared1", "schema t43", "42501", "permission denied")}


def test_by_the_fast_path(server, wire, watch):
    number = server.sql("SELECT 'pg_advisory_lock(bigint)'::regprocedure::oid::int")[0][0]
    wire.query("BEGIN")
    wire.pipeline([(ENTER, [token(server)])])
    assert wire.call(number, 1).code == "42501"
    assert watch.one()[3:10] == (42, "acme", "u1", "shared1", "function pg_advisory_lock", "42501", "permission denied")
    caught = server.sql("SELECT 't42.caught()'::regprocedure::oid::int")[0][0]
    wire.query("ROLLBACK")
    wire.query("BEGIN")
    wire.pipeline([(ENTER, [token(server)])])
    assert wire.call(caught).code is None
    assert watch.one().object == "schema t43"
    wire.query("ROLLBACK")


@pytest.mark.parametrize("level", ["fatal", "panic"])
def test_a_quiet_log_hides_nothing_of_a_bound_transaction(server, wire, watch, level):
    server.sql(f"ALTER SYSTEM SET log_min_messages = {level}")
    server.reload()
    try:
        for text in (FOREIGN, "SELECT steal()", "LISTEN x", "SELECT again()"):
            wire.query("BEGIN")
            wire.pipeline([(ENTER, [token(server)])])
            assert wire.query(text).code
            wire.query("ROLLBACK")
            assert watch.one().no == 42, text
    finally:
        server.sql("ALTER SYSTEM RESET log_min_messages")
        server.reload()


def test_names_that_are_not_ascii(server, wire, watch):
    """The ring is read in databases of any encoding."""
    server.sql('CREATE TABLE t42."Bücher\n\\" (i int)')
    assert as_tenant(wire, server, ['TABLE "Bücher\n\\"']).code == "42501"
    assert watch.one().object == "table B\\xc3\\xbccher\\x0a\\x5c"


# ---- nothing secret

def test_no_literal_and_no_token_gets_in(server, wire, watch):
    good = token(server, sub="ann")
    name = good[:63]
    server.sql(f'CREATE TABLE t42."{name}" (i int)')
    texts = [f"SELECT '{LITERAL}', '{good}', body FROM t43.notes", f"SELECT body FROM t43.notes -- {good} {LITERAL}", f"SELECT $x${LITERAL}{good}$x$ FROM t43.notes",
             f'TABLE "{name}"', f"SET SESSION my.x = '{LITERAL}'", f"SELECT set_config('my.{LITERAL}', '{good}', false)", f"ALTER ROLE bh_t42 PASSWORD '{LITERAL}'",
             f"COPY notes FROM '/{LITERAL}/{good}'", f"LISTEN \"{LITERAL}\"", f"SELECT pg_read_file('/{LITERAL}')", f"LOAD '{LITERAL}'",
             f"INSERT INTO guarded SELECT -length('{LITERAL}{good}')", f"SELECT bulkhead.enter('{good}')", f"PREPARE \"{LITERAL}\" AS SELECT '{good}'",
             f"DO $$BEGIN EXECUTE 'SELECT ''{LITERAL}'' FROM t43.notes'; EXCEPTION WHEN others THEN NULL; END$$"]
    for text in texts:
        for values in ([], [LITERAL, good]):
            as_tenant(wire, server, [(text if not values else text + " /* $1 $2 */", values)])
    wire.query(f"SELECT bulkhead.enter('{good}')")
    wire.query(f"SELECT random(), '{LITERAL}', '{good}'")
    rows = watch.new()
    assert len(rows) >= len(texts) + 2
    assert LITERAL not in str(rows) and "eyJ" not in str(rows)
    assert good not in server.log.read_text() and name not in server.log.read_text()


def test_the_fingerprint_is_of_the_shape(server, wire, watch):
    shapes = [["SELECT * FROM t43.notes WHERE id = 1", "select *  from T43.notes where id=$1", "/* x */ SELECT * FROM t43.notes WHERE id = 'x';"],
              ["SELECT * FROM t43.orders WHERE id IN (1)", "SELECT * FROM t43.orders WHERE id IN (1, 2, 3)"]]
    found = []
    for shape in shapes:
        for text in shape:
            as_tenant(wire, server, [(text, [1] if "$1" in text else [])])
        found.append({row.fingerprint for row in watch.new()})
    assert [len(prints) for prints in found] == [1, 1] and found[0] != found[1]


# ---- bounded

def limit(server, rate, burst):
    server.sql(f"ALTER SYSTEM SET bulkhead.audit_rate = {rate}")
    server.sql(f"ALTER SYSTEM SET bulkhead.audit_burst = {burst}")
    server.reload()


def test_a_flood_is_bounded_and_counted(server, wire):
    """100 000 refusals of one tenant leave the burst and the rate; the other tenant's entry survives, and none is uncounted."""
    limit(server, 10, 100)
    try:
        time.sleep(0.1)
        with pool(server) as other:
            assert as_tenant(other, server, [FOREIGN.replace("t43", "t42")], "globex").code == "42501"
        mark = read(server)[-1]
        assert mark.no == 43
        _, head, _, suppressed = state(server)
        begun = time.monotonic()
        flood = "DO $$BEGIN FOR i IN 1..20000 LOOP BEGIN PERFORM body FROM t43.notes; EXCEPTION WHEN others THEN NULL; END; END LOOP; END$$"
        for _ in range(5):
            answer = as_tenant(wire, server, ["SET LOCAL statement_timeout = '60s'", flood])
            assert answer.code is None or answer.code == "TN005", answer.errors
        seconds = time.monotonic() - begun
        rows = [row for row in read(server, head) if row.no == 42]
        after = state(server)
        assert 100 <= len(rows) <= 100 + 10 * (seconds + 1)
        assert len(rows) + after[3] - suppressed == 100000
        assert mark in read(server, mark.seq - 1)
        for _ in range(50):  # the next one that passes tells what was kept out
            as_tenant(wire, server, [FOREIGN])
            rows = [row for row in read(server, head) if row.no == 42]
            if sum(row.suppressed for row in rows) + len(rows) >= 100000:
                break
            time.sleep(0.02)
        assert sum(row.suppressed for row in rows) == state(server)[3] - suppressed or \
            sum(row.suppressed for row in rows) + len(rows) > 100000
        assert rows[-1].suppressed > 0
    finally:
        limit(server, 10000, 100000)


def test_what_is_kept_out_of_the_ring_is_kept_out_of_the_log(server, wire, watch):
    """A flood fills no disk by way of the log either; ordinary errors are logged as ever."""
    limit(server, 1, 5)
    try:
        begin = len(server.log.read_bytes())
        for i in range(60):
            assert wire.query(f"SELECT random() AS {'x' * 1000}").code == "TN001"
        assert wire.query("SELECT 1 / 0 AS last_one").code == "22012"
        lines = server.log.read_bytes()[begin:].decode()
        assert "last_one" in lines
        assert 5 <= lines.count("no tenant is bound") == len(watch.new()) <= 10
        assert "bulkhead: " not in lines
    finally:
        limit(server, 10000, 100000)


def test_a_tenant_cannot_fill_the_servers_log(server, wire):
    """RAISE, errors and what they quote; the server's own messages and other sessions' are not limited."""
    server.sql("ALTER SYSTEM SET bulkhead.log_rate = 1")
    server.reload()
    try:
        begin = len(server.log.read_bytes())
        for level in ("WARNING", "LOG"):
            flood = f"DO $$BEGIN FOR i IN 1..20000 LOOP RAISE {level} 'flooding %', repeat('x', 1000); END LOOP; END$$"
            assert as_tenant(wire, server, ["SET LOCAL client_min_messages = error", flood]).code is None
        big = f"SELECT 1 / 0 /* {'y' * 100000} */"
        for text in ["DO $$BEGIN RAISE WARNING 'giant %', repeat('x', 1000000); END$$", big, big]:
            as_tenant(wire, server, ["SET LOCAL client_min_messages = error", text])
        server.sql("DO $$BEGIN FOR i IN 1..2000 LOOP RAISE WARNING 'admin'; END LOOP; END$$")  # not limited
        time.sleep(1.1)
        assert as_tenant(wire, server, ["SELECT 1 / 0 AS later"]).code == "22012"
        lines = server.log.read_bytes()[begin:].decode()
        assert 900 <= lines.count("flooding") <= 1100
        assert "giant" not in lines and "y" * 1000 not in lines
        assert lines.count("WARNING:  admin") == 2000
        assert "earlier messages of the same tenant are not in this log." in lines
        assert len(lines) < 4000000
    finally:
        server.sql("ALTER SYSTEM RESET bulkhead.log_rate")
        server.reload()


def test_the_unbound_share_a_limit_that_is_not_a_tenants(server, wire, watch):
    limit(server, 1, 50)
    try:
        for _ in range(200):
            assert wire.query("SELECT random()").code == "TN001"
        rows = watch.new()
        assert 30 <= len(rows) <= 60 and {row.no for row in rows} == {0}
        assert as_tenant(wire, server, [FOREIGN]).code == "42501"
        assert watch.one().no == 42
    finally:
        limit(server, 10000, 100000)


def test_writers_and_a_reader_at_once(server):
    """The ring goes round several times under a reader that never gets a mixed entry, and never the same one twice."""
    stop, wrong, got = threading.Event(), [], 0
    kinds = {"acme": ("42501", "schema t43", "permission denied"), "globex": ("TN005", "LISTEN", "not allowed while a tenant is bound")}
    texts = {"acme": "DO $$BEGIN FOR i IN 1..500 LOOP BEGIN PERFORM body FROM t43.notes; EXCEPTION WHEN others THEN NULL; END; END LOOP; END$$",
             "globex": "DO LANGUAGE plpgsql $$BEGIN FOR i IN 1..500 LOOP BEGIN LISTEN x; EXCEPTION WHEN others THEN NULL; END; END LOOP; END$$"}

    def write(tenant, sub):
        with pool(server) as it:
            while not stop.is_set():
                as_tenant(it, server, [texts[tenant]], tenant, sub=sub)

    threads = [threading.Thread(target=write, args=(tenant, f"{tenant}{i}")) for tenant in kinds for i in range(2)]
    for thread in threads:
        thread.start()
    last = start = state(server)[1]
    prints, deadline = collections.defaultdict(set), time.monotonic() + 60
    with Wire(server.port, "postgres", "admin-secret", "shared1") as reader:
        while last < start + 20000 and time.monotonic() < deadline:
            answer = reader.query(f"SELECT seq, no, tenant, subject, sqlstate, object, message, fingerprint FROM bulkhead.audit_read({last})")
            for seq, no, tenant, subject, *kind, mark in answer.rows[0]:
                if int(seq) <= last or not subject.startswith(tenant) or tuple(kind) != kinds.get(tenant) or no != {"acme": "42", "globex": "43"}[tenant]:
                    wrong.append((seq, no, tenant, subject, kind))
                prints[tenant].add(mark)
                last, got = int(seq), got + 1
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong, wrong[:5]
    assert last >= start + 20000 and got >= 2000
    assert [len(prints[tenant]) for tenant in kinds] == [1, 1] and prints["acme"] != prints["globex"]


def test_the_ring_has_a_fixed_size_and_says_what_it_dropped(server):
    epoch, head, oldest, _ = state(server)
    assert oldest == max(1, head - 4096 + 1)
    if oldest == 1:
        pytest.fail("the tests before this one have not filled the ring")
    rows = read(server)
    assert len(rows) == 4096 and (rows[0].seq, rows[-1].seq) == (oldest, head)
    assert [row.seq for row in read(server, oldest + 9, 3)] == [oldest + 10, oldest + 11, oldest + 12]
    assert read(server, head) == [] and read(server, 2**63 - 1) == [] and read(server, 0, 0) == [] and read(server, 0, -1) == []
    assert len(read(server, -2**63, 5)) == 5 and {row.epoch for row in rows} == {epoch}


# ---- the attacks, and a new start

def test_the_attack_corpus_leaves_entries(server, wire, watch):
    """Whatever of the corpus is refused as an attempt is there once, of the right tenant."""
    expected = recorded = 0
    for name, path, sql, _, _ in attacks.CASES:
        if path != "bound" or "COMMIT" in sql or "ROLLBACK" in sql:
            continue
        wire.query("BEGIN")
        wire.pipeline([(ENTER, [token(server)])])
        for part in split(sql.replace("t44", "t42")):
            code = wire.query(part).code
            ours = code in ("42501", "TN005", "TN006", "2D000")
            rows = watch.new()
            assert all(row.no == 42 for row in rows), (name, rows)
            assert not ours or rows and rows[-1].sqlstate == code, (name, part, code, rows)
            expected, recorded = expected + ours, recorded + len(rows)
        wire.query("ROLLBACK")
    assert expected > 150 and expected <= recorded <= expected + 20


def test_only_superusers_read_it(server, wire):
    for text in ("SELECT * FROM bulkhead.audit_read(0)", "SELECT * FROM bulkhead.audit_state()"):
        assert as_tenant(wire, server, [text]).code == "42501"
        assert wire.query(text).code in ("TN001", "42501")
        assert len(server.sql(text)) > 0


def test_a_new_start_is_a_new_epoch(server):
    """An orderly one and one after a crash."""
    epoch = state(server)[0]
    for restart in ("fast", "crash"):
        if restart == "fast":
            server.stop()
            server.start()
        else:
            victim = server.connect()
            os.kill(victim.info.backend_pid, signal.SIGKILL)
            wait_until_up(server)
        now = state(server)
        assert now[0] > epoch and now[1:] == (0, 1, 0)
        epoch = now[0]
        with pool(server) as it:
            assert as_tenant(it, server, [FOREIGN]).code == "42501"
        entry, = read(server)
        assert entry.seq == 1 and entry.epoch == epoch


def wait_until_up(server):
    deadline = time.monotonic() + 30
    time.sleep(0.2)
    while time.monotonic() < deadline:
        try:
            server.sql("SELECT 1")
            return
        except Exception:
            time.sleep(0.1)
    raise TimeoutError("no new start")
