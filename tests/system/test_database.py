"""enter(): which tokens bind, what is bound, and that nothing of it outlives the transaction."""
import time

import bhtoken
import pytest
from database import ENTER, SECRETS, as_tenant, assert_clean, pool, server, token, wire  # noqa: F401
from pgserver import PARALLEL

WHO = "SELECT current_user, bulkhead.tenant_no(), bulkhead.tenant_id(), current_setting('application_name')," \
      " current_setting('search_path')"
ACME = ["bh_t42", "42", "acme", "acme", "t42, pg_temp"]


def test_binds_its_implicit_transaction(server, wire):
    answer = as_tenant(wire, server, [WHO, "SELECT body FROM notes"])
    assert answer.code is None, answer.errors
    assert answer.rows[1:] == [[ACME], [[SECRETS["acme"]]]]
    assert answer.status == "I"
    assert_clean(wire, server)


def test_binds_a_block_until_commit(server, wire):
    assert wire.query("BEGIN ISOLATION LEVEL REPEATABLE READ").code is None
    entered = wire.pipeline([(ENTER, [token(server)])])
    assert entered.code is None and entered.status == "T"
    assert entered.settings["application_name"] == "acme"
    assert wire.query(WHO).rows == [[ACME]]
    done = wire.query("COMMIT")
    assert done.tags == ["COMMIT"] and done.settings["application_name"] == ""
    assert_clean(wire, server)


def test_alone_in_autocommit_has_no_effect_on_the_next_statement(server, wire):
    assert wire.pipeline([(ENTER, [token(server)])]).code is None
    assert wire.query("SELECT bulkhead.tenant_no()").code == "TN001"


def test_each_tenant_sees_only_its_rows(server, wire):
    for tenant in ("acme", "globex", "acme"):
        answer = as_tenant(wire, server, ["SELECT body FROM notes"], tenant)
        assert answer.rows[1] == [[SECRETS[tenant]]]
    other = as_tenant(wire, server, ["SELECT body FROM t43.notes"], "acme")
    assert other.code == "42501"


def test_writes_are_kept_on_commit_and_lost_on_rollback(server, wire):
    for end, kept in (("ROLLBACK", []), ("COMMIT", [["kept"]])):
        wire.query("BEGIN")
        assert as_tenant(wire, server, ["INSERT INTO notes (body) VALUES ('kept')"]).code is None
        wire.query(end)
        assert as_tenant(wire, server, ["SELECT body FROM notes WHERE body = 'kept'"]).rows[1] == kept
    assert as_tenant(wire, server, ["DELETE FROM notes WHERE body = 'kept'"]).tags[1] == "DELETE 1"


# ---- tokens

def key(server, database="shared1", epoch=1):
    return bhtoken.database_key(server.server_keys[epoch], database)


def tokens_refused(server):
    now = int(time.time())
    good = token(server)
    head, body, mac = good.split(".")
    other = token(server, "globex").split(".")
    header = '{"alg":"HS256","kid":"main.1","typ":"bh-tenant+jwt"}'
    payload = bhtoken.base64.urlsafe_b64decode(body + "==").decode()
    sign = lambda h, p: bhtoken.sign_raw(key(server), h, p)
    return {
        "another key": server.token(42, "acme", key=b"x" * 32),
        "the server's key": server.token(42, "acme", key=server.server_keys[1]),
        "another database's key": server.token(42, "acme", key=key(server, "shared2")),
        "for another database": server.token(42, "acme", "shared2"),
        "for another server": token(server, server="eu"),
        "unknown kid": token(server, kid="main.9"),
        "kid is a path": token(server, kid="../../dev/null"),
        "expired": token(server, now=now - 66),
        "issued in the future": token(server, now=now + 30),
        "lives too long": token(server, life=61),
        "job lives too long": token(server, use="job", life=3601),
        "never lives": token(server, life=0),
        "claims of another token": ".".join([head, other[1], mac]),
        "mac of another token": ".".join([head, body, other[2]]),
        "alg none": sign(header.replace("HS256", "none"), payload),
        "unsigned": head + "." + body + ".",
        "no signature": head + "." + body,
        "four parts": good + ".x",
        "padded": good + "=",
        "white space": good + " ",
        "line feed": good + "\n",
        "another order": sign(header, payload.replace('"no":42,', "").replace("{", '{"no":42,')),
        "a member more": sign(header, payload.replace("}", ',"x":1}')),
        "no is zero": sign(header, payload.replace('"no":42', '"no":0')),
        "no overflows": sign(header, payload.replace('"no":42', '"no":4294967338')),
        "no is signed": sign(header, payload.replace('"no":42', '"no":+42')),
        "duplicate no": sign(header, payload.replace('"no":42', '"no":42,"no":43')),
        "unknown tenant": server.token(99, "acme"),
        "number of another": server.token(43, "acme"),
        "older epoch": token(server, ver=0),
        "newer epoch": token(server, ver=2),
        "empty": "",
        "NULL": None,
        "words": "let me in",
        "user token": bhtoken.sign_user_token(key(server), 42, 1, 1, "acme", "x"),
        "1537 bytes": good + "A" * (1537 - len(good)),
        "100 kB": "A" * 100000,
        "10 MB": "A" * 10000000,
        "not ASCII": good[:-1] + "é",
    }


NAMES = ["another key", "the server's key", "another database's key", "for another database", "for another server",
         "unknown kid", "kid is a path", "expired", "issued in the future", "lives too long", "job lives too long",
         "never lives", "claims of another token", "mac of another token", "alg none", "unsigned", "no signature",
         "four parts", "padded", "white space", "line feed", "another order", "a member more", "no is zero",
         "no overflows", "no is signed", "duplicate no", "unknown tenant", "number of another", "older epoch",
         "newer epoch", "empty", "NULL", "words", "user token", "1537 bytes", "100 kB", "10 MB", "not ASCII"]


@pytest.mark.parametrize("name", NAMES)
def test_token_refused(server, wire, name):
    bad = tokens_refused(server)[name]
    answer = wire.pipeline([(ENTER, [bad]), (WHO, [])])
    assert answer.code == "TN002", answer.errors
    assert answer.message.startswith("token refused: ")
    assert not bad or len(bad) < 9 or bad[:40] not in str(answer.errors)
    assert_clean(wire, server)


def test_names_are_all_cases(server):
    assert list(tokens_refused(server)) == NAMES


def test_token_accepted_at_its_edges(server, wire):
    """Positive controls of the list above."""
    now = int(time.time())
    for claims in ({"now": now - 62}, {"now": now + 3}, {"life": 1}, {"use": "job", "life": 3600},
                   {"sub": "x" * 255}, {"scope": "read write"}):
        assert as_tenant(wire, server, ["SELECT body FROM notes"], **claims).code is None, claims


def test_token_never_reaches_the_log(server, wire):
    for text in (token(server), token(server, life=61)):
        assert wire.query(f"SELECT bulkhead.enter('{text}')").code == "TN002"
        wire.pipeline([(ENTER, [text]), (WHO, [])])
        assert text[:60] not in server.log.read_text()


def test_literal_token_only_where_the_role_says_so(server):
    text = f"SELECT bulkhead.enter('{token(server)}')"
    with pool(server) as wire:
        refused = wire.query(text)
        assert refused.code == "TN002" and "Bind" in refused.errors[0]["H"]
        assert wire.query("SET bulkhead.literal_token = on").code == "TN001"
    server.sql("ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on")
    try:
        with pool(server) as wire:
            answer = wire.query(f"BEGIN; {text}; SELECT body FROM notes; COMMIT")
            assert answer.code is None, answer.errors
            assert answer.rows[2] == [[SECRETS["acme"]]]
            answer = wire.query(f"{text}; SELECT body FROM notes")
            assert answer.rows[1] == [[SECRETS["acme"]]]
            assert_clean(wire, server)
    finally:
        server.sql("ALTER ROLE bulkhead_pool RESET bulkhead.literal_token")


# ---- where enter() may stand

def test_enter_twice(server, wire):
    for second in ("acme", "globex"):
        answer = wire.pipeline([(ENTER, [token(server)]), (ENTER, [token(server, second)])])
        assert answer.code == "TN006", answer.errors
        assert_clean(wire, server)


def test_enter_in_a_subtransaction(server, wire):
    wire.query("BEGIN")
    wire.query("SAVEPOINT s")
    assert wire.pipeline([(ENTER, [token(server)])]).code == "TN006"
    assert wire.query("ROLLBACK TO s").code is None
    wire.query("ROLLBACK")
    assert_clean(wire, server)


def test_after_a_refused_token_the_block_is_dead(server, wire):
    wire.query("BEGIN")
    assert wire.pipeline([(ENTER, ["bad"])]).code == "TN002"
    assert wire.pipeline([(ENTER, [token(server)])]).code == "25P02"
    wire.query("ROLLBACK")
    assert_clean(wire, server)


@pytest.mark.parametrize("text", [
    "SELECT bulkhead.enter($1), 1", "SELECT 1 FROM bulkhead.enter($1)", "SELECT * FROM bulkhead.enter($1)",
    "SELECT (SELECT bulkhead.enter($1))", "SELECT bulkhead.enter($1), bulkhead.tenant_no()",
    "SELECT bulkhead.enter($1) UNION ALL SELECT bulkhead.enter($1)", "SELECT bulkhead.enter($1) LIMIT 1",
    "WITH x AS MATERIALIZED (SELECT bulkhead.enter($1)) SELECT 1 FROM x"])
def test_enter_is_the_only_thing_its_statement_does(server, wire, text):
    assert wire.pipeline([(text, [token(server)])]).code == "TN001"
    assert_clean(wire, server)


@pytest.mark.parametrize("text", ["SELECT bulkhead.enter($1)", "SELECT bulkhead.enter($1::text)",
                                  "SELECT bulkhead.enter(token => $1)", "SELECT bulkhead.enter($1::varchar) AS x",
                                  "/* note */ select bulkhead.enter( $1 );"])
def test_enter_as_drivers_write_it(server, wire, text):
    answer = wire.pipeline([(text, [token(server)]), ("SELECT body FROM notes", [])])
    assert answer.code is None, answer.errors
    assert answer.rows[1] == [[SECRETS["acme"]]]


def test_enter_from_functions_is_refused(server):
    """Of a login that is no pool role, so that nothing else stands in the way."""
    server.sql("CREATE SCHEMA app; CREATE FUNCTION app.f(t text) RETURNS void LANGUAGE plpgsql AS"
               " $$BEGIN PERFORM bulkhead.enter(t); END$$;"
               "CREATE FUNCTION app.d(t text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS"
               " $$BEGIN PERFORM bulkhead.enter(t); END$$;"
               "CREATE FUNCTION app.loop(t text) RETURNS void LANGUAGE plpgsql AS"
               " $$DECLARE r record; BEGIN FOR r IN SELECT bulkhead.enter(t) LOOP END LOOP; END$$;"
               "CREATE FUNCTION app.dyn(t text) RETURNS void LANGUAGE plpgsql AS"
               " $$BEGIN EXECUTE 'SELECT bulkhead.enter($1)' USING t; END$$;"
               "CREATE FUNCTION app.expr(t text) RETURNS text LANGUAGE plpgsql AS"
               " $$DECLARE x text; BEGIN x := bulkhead.enter(t); RETURN x; END$$")
    with pgserver_admin(server) as wire:
        for call in ("app.f($1)", "app.d($1)", "app.loop($1)", "app.dyn($1)", "app.expr($1)"):
            answer = wire.pipeline([(f"SELECT {call}", [token(server)])])
            assert answer.code == "TN006", (call, answer.errors)
        good = wire.pipeline([(ENTER, [token(server)]), (WHO, [])])
        assert good.rows[1] == [ACME], good.errors
        assert wire.query("SELECT current_user, bulkhead.tenant_no()").rows == [[["postgres", None]]]


def pgserver_admin(server):
    from pgwire import Wire
    return Wire(server.port, "postgres", "admin-secret", "shared1")


def test_role_with_more_rights_than_a_tenant_is_refused(server, wire):
    for right in ("SUPERUSER", "BYPASSRLS", "CREATEROLE", "CREATEDB", "REPLICATION"):
        server.sql(f"ALTER ROLE bh_t42 {right}")
        assert as_tenant(wire, server, ["SELECT 1"]).code == "TN006", right
        server.sql(f"ALTER ROLE bh_t42 NO{right}")
    assert_clean(wire, server)


# ---- the end of the transaction

# For the session: refused. The same with LOCAL, or by set_config(…, true): allowed, and gone at the end.
SETTINGS = [
    "search_path = t43", "statement_timeout = 1234", "default_transaction_read_only = on", "transform_null_equals = on", "row_security = off",
    "bytea_output = 'escape'", "xmloption = document", "my.secret = 'A'", "plan_cache_mode = force_generic_plan", "backslash_quote = on",
    "standard_conforming_strings = off", "client_encoding = 'LATIN1'", "TimeZone = 'Asia/Tokyo'", "DateStyle = 'German'",
    "application_name = 'evil'", "work_mem = '2MB'",
]
POISONS = [f"SET LOCAL {setting}" for setting in SETTINGS] + [
    "SELECT set_config('search_path', 't43', true)", "SELECT set_config('my.secret', 'A', true)", "SELECT nextval('orders_id_seq')",
    "SELECT setseed(0.5)", "SET LOCAL application_name TO DEFAULT",
]
FOR_THE_SESSION = [f"SET {setting}" for setting in SETTINGS] + [
    "SET SESSION work_mem = '2MB'", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "RESET application_name", "RESET work_mem",
    "SET application_name TO DEFAULT", "SET search_path FROM CURRENT", "SET TIME ZONE 'UTC'", "SET NAMES 'UTF8'", "SET SCHEMA 't43'", "SET seed = 0.5",
    "SELECT set_config('search_path', 't43', false)", "SELECT set_config('my.secret', 'A', false)", "SELECT set_config('work_mem', NULL, false)",
    "SELECT set_config('work_mem', '2MB', NULL)",
    "SELECT set_config('search_path', 't42', true), set_config('my.secret', 'A', false)", "DO $$BEGIN SET work_mem = '2MB'; END$$",
    "DO $$BEGIN PERFORM set_config('my.secret', 'A', false); END$$", "DO $$DECLARE x text; BEGIN x := set_config('my.secret', 'A', false); END$$",
    "DO $$BEGIN BEGIN PERFORM set_config('my.secret', 'A', false); EXCEPTION WHEN SQLSTATE 'TN005' THEN NULL; END;"
    " EXECUTE 'SELECT set_config(''my.secret'', ''A'', false)'; END$$",
    "SELECT count(*) FROM notes WHERE set_config('my.secret', 'A', false) = 'A'",
    "DO $$DECLARE c CURSOR FOR SELECT set_config('my.secret', 'A', false); t text; BEGIN OPEN c; FETCH c INTO t; END$$",
]
STATE = "SELECT name, setting FROM pg_settings ORDER BY 1"


def settings(server, wire):
    """Every setting, as a bound transaction of globex sees it."""
    answer = as_tenant(wire, server, [STATE], "globex")
    assert answer.code is None, answer.errors
    return answer.rows[1]


@pytest.mark.parametrize("ending", ["sync", "COMMIT", "ROLLBACK", "COMMIT AND CHAIN", "ROLLBACK AND CHAIN", "error"])
@pytest.mark.parametrize("poison", POISONS)
def test_nothing_stays(server, wire, poison, ending):
    before = settings(server, wire)
    if ending == "sync":
        done = as_tenant(wire, server, [poison])
        assert done.code is None, done.errors
    else:
        wire.query("BEGIN")
        done = as_tenant(wire, server, [poison, "SAVEPOINT s", poison, "RELEASE s"])
        assert done.code is None, done.errors
        if ending == "error":
            assert wire.query("SELECT 1/0").code == "22012"
            ending = "ROLLBACK"
        assert wire.query(ending).code is None
        if "CHAIN" in ending:
            assert wire.query("SELECT bulkhead.tenant_no()").code == "TN001"
            wire.query("ROLLBACK")
    assert settings(server, wire) == before
    assert as_tenant(wire, server, ["SELECT lastval()"], "globex").code == "55000"
    assert_clean(wire, server)


@pytest.mark.parametrize("text", FOR_THE_SESSION)
def test_nothing_is_set_for_the_session(server, wire, text):
    as_tenant(wire, server, ["DO $$BEGIN END$$"])  # plpgsql brings settings of its own
    before = settings(server, wire)
    wire.query("BEGIN")
    assert as_tenant(wire, server, ["SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "SAVEPOINT s"]).code is None
    assert wire.query(text).code == "TN005"
    assert wire.query("ROLLBACK TO s").code is None
    assert wire.query("SELECT body FROM notes WHERE id = 1").rows == [[[SECRETS["acme"]]]]  # not poisoned
    assert wire.query("COMMIT").code is None
    answer = as_tenant(wire, server, [text])
    assert answer.code == "TN005", answer.rows
    assert settings(server, wire) == before
    assert_clean(wire, server)


def test_set_config_by_the_fast_path_and_by_a_portal_that_waits(server, wire):
    number = server.sql("SELECT 'set_config(text,text,boolean)'::regprocedure::oid::int")[0][0]
    for local, code in (("t", None), ("f", "TN005")):
        wire.query("BEGIN")
        wire.step(ENTER, [token(server)])
        wire.parse("SELECT body FROM notes, generate_series(1, 3)")
        wire.bind(portal="mine")
        wire.execute(portal="mine", limit=1)
        assert wire.sync().suspended == 1
        called = wire.call(number, "my.secret", "A", local)
        wire.execute(portal="mine")
        assert (called.code or wire.sync().code) == code
        wire.query("ROLLBACK")
        assert_clean(wire, server)


def test_setseed_does_not_reach_the_next_tenant(server, wire):
    draw = lambda: as_tenant(wire, server, ["SELECT random()"], "globex").rows[1]
    seen = []
    for _ in range(2):
        assert as_tenant(wire, server, ["SELECT setseed(0.25)"]).code is None
        seen.append(draw())
    assert seen[0] != seen[1]


def test_savepoints_and_errors_keep_the_tenant(server, wire):
    wire.query("BEGIN")
    as_tenant(wire, server, ["SAVEPOINT s"])
    assert wire.query("SELECT 1/0").code == "22012"
    assert wire.query("ROLLBACK TO s").code is None
    assert wire.query(WHO).rows == [[ACME]]
    assert wire.query("COMMIT").code is None
    assert_clean(wire, server)


def test_deferred_failure_at_commit(server, wire):
    wire.query("BEGIN")
    assert as_tenant(wire, server, ["INSERT INTO orders (note) VALUES (999)"]).code is None
    assert wire.query("COMMIT").code == "23503"
    assert_clean(wire, server)
    assert as_tenant(wire, server, ["INSERT INTO orders (note) VALUES (999)"]).code == "23503"
    assert_clean(wire, server)


def test_deferred_triggers_run_as_the_tenant(server, wire):
    server.sql("SET ROLE bh_o42; CREATE TABLE t42.seen (who text, no int, path text);"
               "GRANT SELECT, INSERT, DELETE ON t42.seen TO bh_t42;"
               "CREATE FUNCTION t42.see() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN"
               " INSERT INTO t42.seen SELECT current_user, bulkhead.tenant_no(), current_setting('search_path');"
               " RETURN NULL; END$$;"
               "CREATE CONSTRAINT TRIGGER see AFTER INSERT ON t42.notes DEFERRABLE INITIALLY DEFERRED"
               " FOR EACH ROW EXECUTE FUNCTION t42.see()")
    for begin in ([], ["BEGIN"]):
        for text in begin:
            wire.query(text)
        assert as_tenant(wire, server, ["INSERT INTO notes (body) VALUES ('x')"]).code is None
        if begin:
            assert wire.query("COMMIT").code is None
        assert as_tenant(wire, server, ["SELECT * FROM seen", "DELETE FROM seen"]).rows[1] == [
            ["bh_t42", "42", "t42, pg_temp"]]
    server.sql("DROP TRIGGER see ON t42.notes; DELETE FROM t42.notes WHERE body = 'x'")
    assert_clean(wire, server)


def test_procedures_cannot_commit_the_tenant_away(server, wire):
    server.sql("SET ROLE bh_o42; CREATE PROCEDURE t42.p() LANGUAGE plpgsql AS"
               " $$BEGIN INSERT INTO notes (body) VALUES ('p'); COMMIT; INSERT INTO notes (body) VALUES ('q'); END$$;"
               "CREATE PROCEDURE t42.fine() LANGUAGE plpgsql AS $$BEGIN PERFORM 1; END$$;"
               "GRANT EXECUTE ON PROCEDURE t42.p(), t42.fine() TO bh_t42")
    for text in ("CALL p()", "DO $$BEGIN COMMIT; END$$", "DO $$BEGIN ROLLBACK; END$$"):
        assert as_tenant(wire, server, [text]).code == "2D000", text
    assert as_tenant(wire, server, ["CALL fine()", "DO $$BEGIN PERFORM 1; END$$"]).code is None
    assert as_tenant(wire, server, ["SELECT 1 FROM notes WHERE body IN ('p', 'q')"]).rows[1] == []
    assert_clean(wire, server)


def test_parallel_workers_see_their_leaders_tenant(server, wire):
    server.sql("SET ROLE bh_o42; CREATE TABLE t42.big AS SELECT generate_series(1, 20000) AS n;"
               "GRANT SELECT ON t42.big TO bh_t42; RESET ROLE; ANALYZE t42.big")
    force = [f"SET LOCAL {PARALLEL} = on", "SET LOCAL parallel_setup_cost = 0", "SET LOCAL parallel_tuple_cost = 0",
             "SET LOCAL min_parallel_table_scan_size = 0"]
    query = "SELECT count(*) FROM big WHERE bulkhead.tenant_no() = 42 AND bulkhead.tenant_id() = 'acme'"
    answer = as_tenant(wire, server, force + ["EXPLAIN (COSTS OFF) " + query, query])
    assert answer.code is None, answer.errors
    assert any("Workers Planned" in line for line, in answer.rows[5])
    assert answer.rows[6] == [["20000"]]


def test_every_changed_byte_is_refused(server, wire):
    good = token(server, use="job", life=3600)
    for at, old in enumerate(good):
        for new in ("." if old != "." else "-", "A" if old != "A" else "B", ""):
            bad = good[:at] + new + good[at + 1:]
            assert wire.pipeline([(ENTER, [bad])]).code == "TN002", (at, new)
    assert as_tenant(wire, server, ["SELECT body FROM notes"], use="job", life=3600).rows[1] == [[SECRETS["acme"]]]
