"""The corpus in the other ways to be bound: tenants of mode `row`, who share a role and tables, and a tenant's own login."""
import attackfix
import attacks
import attacks_more
import pgserver
import pytest
from attackfix import ATTACKER, NO, TRACE, VICTIM, Enter, Place, told, violations
from database import pool
from pgwire import Wire

CASES = attacks.CASES + attacks_more.CASES

ROW = """
    CREATE ROLE bulkhead_row NOLOGIN; GRANT USAGE ON SCHEMA app TO bulkhead_row;
    GRANT SELECT, INSERT, UPDATE, DELETE ON app.orders TO bulkhead_row; GRANT SELECT ON app.orders_view TO bulkhead_row;
    CREATE TABLE app.notes (tenant int NOT NULL DEFAULT bulkhead.tenant_no(), id int, body text, PRIMARY KEY (tenant, id));
    INSERT INTO app.notes VALUES (42, 1, 'SECRET-A'), (43, 1, 'SECRET-B'), (44, 1, 'SECRET-C');
    CREATE TABLE app.forgotten AS SELECT * FROM app.notes; CREATE MATERIALIZED VIEW app.frozen AS SELECT * FROM app.notes;
    CREATE VIEW app.by_superuser AS SELECT * FROM app.notes; CREATE SEQUENCE app.numbers;
    ALTER TABLE app.notes OWNER TO app_owner; ALTER TABLE app.notes ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.notes USING (tenant = bulkhead.tenant_no()) WITH CHECK (tenant = bulkhead.tenant_no());
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES ON app.notes, app.forgotten, app.frozen, app.by_superuser TO bulkhead_row; GRANT USAGE ON app.numbers TO bulkhead_row;
    CREATE FUNCTION app.safe(what text) RETURNS SETOF text LANGUAGE plpgsql PARALLEL SAFE AS $$BEGIN RETURN QUERY EXECUTE what; END$$;
    CREATE FUNCTION app.held() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT string_agg(body, ',') FROM app.notes); END$$;
    CREATE FUNCTION app.held_sql() RETURNS SETOF text LANGUAGE sql STABLE AS 'SELECT body FROM app.notes';
    CREATE FUNCTION app.by_owner() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS 'SELECT body FROM notes';
    CREATE FUNCTION app.by_root() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS 'SELECT body FROM notes';
    ALTER FUNCTION app.by_owner() OWNER TO app_owner;
    UPDATE bulkhead.tenant SET mode = 'row', role = 'bulkhead_row', schema = 'app'"""


@pytest.fixture(scope="module")
def rows():
    it = attackfix.make_server()
    try:
        it.sql(ROW)
        yield it
    finally:
        attackfix.close_server(it)


@pytest.fixture(scope="module")
def rows_admin(rows):
    with attackfix.admin_of(rows) as it:
        yield it


@pytest.fixture(scope="module")
def rows_place(rows):
    it = Place(rows, Enter(rows))
    yield it
    it.close()


@pytest.fixture(scope="module")
def bases():
    return {}


def check(place, admin, bases, ways, sql, accepted=()):
    base = bases.get(place) or bases.setdefault(place, attackfix.baseline(place, admin))
    for run in ways:
        found = [leak for leak in violations(place, admin, base, run, sql, run is ways[-1]) if leak not in accepted]
        if found:
            del bases[place]
        assert found == [], run.__name__


@pytest.mark.parametrize("case", [case for case in CASES if case[1] != "unbound"], ids=lambda case: case[0])
def test_in_mode_row(rows_place, rows_admin, bases, case):
    check(rows_place, rows_admin, bases, (attackfix.as_block, attackfix.as_pipeline, attackfix.as_named), case[2])


HERE = ["SELECT body FROM app.forgotten", "SELECT * FROM app.frozen", "SELECT * FROM app.by_superuser", "SELECT app.by_root()", "EXPLAIN ANALYZE SELECT * FROM app.notes", "SELECT * FROM app.notes WHERE tenant = 43",
        "INSERT INTO app.notes VALUES (43, 9, 'x')", "UPDATE app.notes SET tenant = 43", "TRUNCATE app.notes", "COPY app.forgotten TO STDOUT", "UPDATE app.forgotten SET body = 'x'", "TABLE app.orders_view",
        "DELETE FROM app.forgotten", "SELECT * FROM app.notes FOR UPDATE", "SELECT currtid2('app.notes', '(0,2)')"]
CARRIERS = {
    "plain": "{}", "do": "DO $d$BEGIN EXECUTE $e${}$e$; END$d$", "function": "SELECT * FROM app.safe($e${}$e$)", "savepoint": "SAVEPOINT a; {}; ROLLBACK TO a; {}", "cursor": "DECLARE c CURSOR FOR {}; FETCH ALL c",
    "worker": f"SET LOCAL {pgserver.PARALLEL} = on;" " SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; SELECT array_agg(x) FROM app.safe($e${}$e$) x",
    "xml": "SELECT query_to_xml($e${}$e$, true, true, '')", "refcursor": "DO $d$DECLARE c refcursor; r record; BEGIN OPEN c FOR EXECUTE $e${}$e$; FETCH c INTO r; RAISE NOTICE '%', r; END$d$",
    "caught": "DO $d$BEGIN BEGIN EXECUTE $e${}$e$; EXCEPTION WHEN others THEN NULL; END; EXECUTE $e${}$e$; END$d$",
}


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("sql", HERE)
def test_what_row_security_does_not_hold(rows_place, rows_admin, bases, sql, carrier):
    """Unprotected tables, owners that pass row security, EXPLAIN: also inside functions that run in parallel workers."""
    check(rows_place, rows_admin, bases, (attackfix.as_block, attackfix.as_pipeline), CARRIERS[carrier].replace("{}", sql))


def test_workers_do_run_them(rows_place):
    """Positive control of the carrier `worker`."""
    steps = [(text, []) for text in CARRIERS["worker"].replace("{}", "SELECT pg_backend_pid()::text").split("; ")]
    answer = rows_place.attacker.pipeline(rows_place.mechanism.steps(ATTACKER) + steps)
    assert answer.code is None and answer.rows[-1] != [[f"{{{rows_place.attacker.pid}}}"]], answer.errors
    body = [(text, []) for text in CARRIERS["worker"].replace("{}", "SELECT body FROM app.notes").split("; ")]
    assert rows_place.attacker.pipeline(rows_place.mechanism.steps(ATTACKER) + body).rows[-1] == [["{SECRET-C}"]]


def test_plans_kept_for_one_tenant_serve_the_next(rows_place):
    """P1-P3: plpgsql's and SQL functions' kept plans, generic ones and named statements, in turn for each tenant."""
    wire = rows_place.attacker
    wire.step(*rows_place.mechanism.steps("acme")[0])
    wire.parse("SELECT body FROM notes WHERE body <> $1", name="kept")
    assert wire.sync().code is None
    for mode in ("auto", "force_generic_plan", "force_custom_plan"):
        for tenant, secret in (("acme", "SECRET-A"), ("globex", "SECRET-B"), ("hooli", "SECRET-C")) * 7:
            texts = [f"SET LOCAL plan_cache_mode = {mode}", "SELECT app.held()", "SELECT * FROM app.held_sql()", "SELECT * FROM app.by_owner()"]
            for step in rows_place.mechanism.steps(tenant) + [(text, []) for text in texts]:
                wire.step(*step)
            wire.bind(["x"], name="kept")
            wire.execute()
            answer = wire.sync()
            assert answer.code is None and answer.rows[2:] == [[[secret]]] * 4, (mode, tenant, answer.errors, answer.rows)


# ---- a tenant's own login

class Login(Enter):
    """The attacker's connection is bound by its login; the victim comes by the pool."""

    def steps(self, tenant):
        return [] if tenant == ATTACKER else super().steps(tenant)

    def unbound(self, wire):
        """Still the same tenant's, and nobody else."""
        answer = wire.query("SELECT current_user, bulkhead.tenant_no()")
        return answer.rows == [[["bh_o44", "44"]]]


class LoginPlace(Place):
    def open(self):
        self.attacker = Wire(self.server.port, "bi44", pgserver.POOL_PASSWORD, "shared1")
        self.victim = pool(self.server)


@pytest.fixture(scope="module")
def logins():
    it = attackfix.make_server()
    try:
        it.sql(f"CREATE ROLE bi44 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'; GRANT CONNECT ON DATABASE shared1 TO bi44; INSERT INTO bulkhead.login VALUES ('bi44', 44)")
        with pool(it) as wire:
            assert wire.pipeline(Enter(it).steps(VICTIM)).code is None
        yield it
    finally:
        attackfix.close_server(it)


@pytest.fixture(scope="module")
def logins_admin(logins):
    with attackfix.admin_of(logins) as it:
        yield it


@pytest.fixture(scope="module")
def login_place(logins):
    it = LoginPlace(logins, Login(logins))
    yield it
    it.close()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_by_an_own_login(login_place, logins_admin, bases, case):
    """Whatever the path: a login is bound always."""
    check(login_place, logins_admin, bases, (attackfix.as_block, attackfix.as_named, attackfix.unbound), case[2], accepted=("dropped",))


def test_a_login_can_work(login_place):
    """Positive control."""
    answer = login_place.attacker.query("SELECT body FROM notes WHERE id = 1")
    assert answer.rows == [[["SECRET-C"]]], answer.errors


@pytest.mark.parametrize("words", [{"options": "-c role=bh_o43"}, {"role": "bh_o43"}, {"options": "-c search_path=t43"}, {"search_path": "t43"}, {"options": "-c session_authorization=bh_o43"},
                                   {"options": "-c bulkhead.pool_roles=x"}, {"options": "-c row_security=off"}, {"replication": "true"}, {"replication": "database"}, {"options": "-c session_replication_role=replica"},
                                   {"options": "-c statement_timeout=0"}, {"options": "-c default_transaction_read_only=on"}, {"options": "-c local_preload_libraries=x"}, {"options": "-c ignore_system_indexes=on"}])
def test_startup_of_a_login(logins, words):
    with Wire(logins.port, "bi44", pgserver.POOL_PASSWORD, "shared1", **words) as wire:
        if any(error["S"] == "FATAL" for error in wire.start.errors):
            return
        answers = [wire.query(text) for text in ("SELECT current_user", "SELECT body FROM t43.notes", "SELECT body FROM notes", "SHOW search_path", "BEGIN; RESET ROLE", "ROLLBACK", "SELECT current_user")]
        assert TRACE not in told(answers)
        assert answers[0].rows in ([[["bh_o44"]]], []) and answers[1].code is not None


@pytest.mark.parametrize("signature", ["pg_read_file(text)", "lo_creat(int)", "set_config(text,text,bool)", "pg_advisory_lock(bigint)", "bulkhead.enter(text)", "bulkhead.tenant_changed()", "nextval(regclass)", "query_to_xml(text,bool,bool,text)"])
def test_fast_path_of_a_login(logins, login_place, signature):
    oid = logins.sql("SELECT %s::regprocedure::oid::int", [signature])[0][0]
    values = {"set_config(text,text,bool)": ("role", "bh_o43", "t"), "query_to_xml(text,bool,bool,text)": ("SELECT * FROM t43.notes", "t", "t", "")}.get(signature, ())
    with Wire(logins.port, "bi44", pgserver.POOL_PASSWORD, "shared1") as wire:
        answer = wire.call(oid, *values)  # the session's first message
        assert answer.code is not None and TRACE not in told([answer]) + str(answer.value), signature
        assert wire.query("SELECT current_user, bulkhead.tenant_no()").rows == [[["bh_o44", "44"]]]
