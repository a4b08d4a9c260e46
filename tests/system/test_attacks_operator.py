"""Objects that wait for an operator: superusers look at, count and protect what others made, and run the SQL that is proposed.

And what of a server all its tenants share beside their rows: statistics, statement texts, the lock table, other databases.
"""
import json
import re
import subprocess

import pgserver
import psycopg2
import pytest
from database import ENTER, check_log, pool
from pgwire import Wire

needs_cli = pytest.mark.skipif(not (pgserver.PREFIX / "bin/bulkhead").exists(),
                               reason="a build of the extension alone (tools/test-versions) has no command line")

MIGHT = "SELECT rolcreatedb FROM pg_roles WHERE rolname = 'evil'"


@pytest.fixture(scope="module")
def server():
    """acme and globex share app.notes; hooli and umbrella have schemas; evil owns tables in app."""
    it = pgserver.Server("shared_preload_libraries = 'bulkhead, pg_stat_statements'\ncompute_query_id = on\nlog_parameter_max_length = 0\n"
                         "log_parameter_max_length_on_error = 0\nmax_connections = 60")
    try:
        it.make_database("shared1")
        it.sql(f"""
            CREATE EXTENSION pg_stat_statements; CREATE ROLE bulkhead_row NOLOGIN; CREATE ROLE app_owner NOLOGIN;
            CREATE ROLE evil LOGIN PASSWORD '{pgserver.POOL_PASSWORD}';
            CREATE SCHEMA app AUTHORIZATION app_owner; GRANT USAGE ON SCHEMA app TO bulkhead_row; GRANT USAGE, CREATE ON SCHEMA app TO evil;
            SET ROLE app_owner;
            CREATE TABLE app.notes (tenant_no int NOT NULL, id int, body text, PRIMARY KEY (tenant_no, id));
            GRANT SELECT, INSERT, UPDATE, DELETE ON app.notes TO bulkhead_row; RESET ROLE;
            SELECT bulkhead.protect('app.notes');
            INSERT INTO app.notes SELECT 42, g, 'SECRET-A' FROM generate_series(1, 50) g;
            INSERT INTO app.notes SELECT 43, g, 'SECRET-B' FROM generate_series(1, 5000) g; ANALYZE app.notes;
            INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state) VALUES (42, 'acme', 'row', 'bulkhead_row', 'app', 'active'),
                (43, 'globex', 'row', 'bulkhead_row', 'app', 'active');
            SET ROLE evil;
            CREATE FUNCTION app.act() RETURNS int LANGUAGE plpgsql AS $$BEGIN
                IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN ALTER ROLE evil CREATEDB; END IF; RETURN 1; END$$;
            CREATE FUNCTION app.imm(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$BEGIN RETURN app.act(); END$$""")
        it.make_tenant(44, "hooli")
        it.make_tenant(45, "umbrella")
        yield it
        check_log(it.log.read_text())
    finally:
        it.close()


def run(server, wire, no, tenant, *statements):
    return wire.pipeline([(ENTER, [server.token(no, tenant)])] + [(text, []) for text in statements])


@pytest.fixture
def evil(server):
    """SQL as evil; afterwards nothing of it is left, and it has gained nothing."""
    connection = server.connect("evil")
    connection.autocommit = True
    server.sql("GRANT CONNECT ON DATABASE shared1 TO evil")
    try:
        yield lambda text: connection.cursor().execute(text)
    finally:
        connection.close()
        server.sql("ALTER ROLE evil NOCREATEDB; DROP TABLE IF EXISTS app.bait CASCADE")


@pytest.fixture(autouse=True, scope="module")
def may_connect(server):
    server.sql("GRANT CONNECT ON DATABASE shared1 TO evil")


BAITS = {
    "index": "CREATE TABLE app.bait (tenant_no int, id int); CREATE INDEX ON app.bait ((app.imm(1)))",
    "index-predicate": "CREATE TABLE app.bait (tenant_no int, id int); CREATE INDEX ON app.bait (id) WHERE app.imm(1) = 1",
    "check": "CREATE TABLE app.bait (tenant_no int, id int, CHECK (app.imm(1) = 1))",
    "statistics": "CREATE TABLE app.bait (tenant_no int, id int); CREATE STATISTICS app.s ON (id + app.imm(1)), id FROM app.bait",
    "partition-key": "CREATE TABLE app.bait (tenant_no int, id int) PARTITION BY RANGE ((id + app.imm(1)));"
                     "CREATE TABLE app.bait1 PARTITION OF app.bait FOR VALUES FROM (0) TO (10)",
    "child": "CREATE TABLE app.bait (tenant_no int, id int); CREATE TABLE app.bait2 (CHECK (app.imm(1) = 1)) INHERITS (app.bait); CREATE INDEX ON app.bait2 ((app.imm(1)))",
}


@pytest.mark.parametrize("bait", BAITS)
def test_protecting_runs_the_owners_code_as_the_owner(server, evil, bait):
    """Planning and ALTER TABLE evaluate constant parts of the owner's expressions."""
    evil(BAITS[bait])
    server.sql("SELECT bulkhead.lint(); SELECT bulkhead.selfcheck()")
    server.sql("SELECT bulkhead.protect('app.bait')")
    server.sql("SELECT bulkhead.protect('app.bait')")
    assert server.sql("SELECT bulkhead.count_rows('app.bait')") == [(0,)]
    server.sql("SELECT bulkhead.unprotect('app.bait')")
    assert server.sql(MIGHT) == [(False,)]


def test_such_code_does_run(server, evil):
    """Positive control: a query of the superuser's own runs it."""
    evil(BAITS["index"])
    server.sql("SELECT count(*) FROM app.bait")
    assert server.sql(MIGHT) == [(True,)]


@needs_cli
def test_explaining_counts_as_the_owner(server, evil, tmp_path):
    evil(BAITS["index"] + "; INSERT INTO app.bait VALUES (42, 1), (43, 2), (43, 3); GRANT SELECT ON app.bait TO bulkhead_row")
    server.sql("SELECT bulkhead.protect('app.bait')")
    env = {"PATH": "/usr/bin:/bin", "PGPASSWORD": "admin-secret", "HOME": str(tmp_path), "BULKHEAD_TENANT_TOKEN": server.token(42, "acme", use="job", life=600)}
    done = subprocess.run([pgserver.PREFIX / "bin/bulkhead", "explain", "access", "--tenant", "acme", "--database", f"host=127.0.0.1 port={server.port} user=postgres dbname=shared1",
                           "-o", "json", "SELECT * FROM bait"], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    table, = json.loads(done.stdout)["items"]
    assert (table["rows_visible"], table["rows_total"]) == (1, 3)
    assert server.sql(MIGHT) == [(False,)]


def test_counting_and_acting_is_for_the_owner_only(server):
    assert server.sql("SELECT bulkhead.count_rows('app.notes')") == [(5050,)]
    with pool(server) as wire:
        for text in ("SELECT bulkhead.count_rows('app.notes')", "SELECT bulkhead.as_owner('app.notes', 'SELECT 1')"):
            assert run(server, wire, 42, "acme", text).code == "42501"
    server.sql("GRANT USAGE ON SCHEMA bulkhead TO evil; GRANT EXECUTE ON FUNCTION bulkhead.count_rows(regclass), bulkhead.as_owner(regclass, text) TO evil")
    try:
        for text in ("SELECT bulkhead.count_rows('app.notes')", "SELECT bulkhead.as_owner('app.notes', 'SELECT 1')"):
            with pytest.raises(psycopg2.errors.InsufficientPrivilege):
                server.connect("evil").cursor().execute(text)
    finally:
        server.sql("REVOKE EXECUTE ON FUNCTION bulkhead.count_rows(regclass), bulkhead.as_owner(regclass, text) FROM evil")


# ---- SQL that is proposed

NAME = '"; ALTER ROLE evil CREATEDB; --"'
PATH = "x;alter/**/role/**/evil/**/createdb;--"
TRAPS = {
    "index-name": f'CREATE TABLE app.bait (tenant int, a int, {NAME} int NOT NULL); CREATE UNIQUE INDEX "m USING btree (" ON app.bait (a);'
                  f"CREATE POLICY bulkhead_tenant ON app.bait USING ({NAME} = bulkhead.tenant_no())",
    "table-name": f'CREATE TABLE app."n USING btree (" (a int, {NAME} int NOT NULL); CREATE UNIQUE INDEX ON app."n USING btree (" (a);'
                  f'CREATE POLICY bulkhead_tenant ON app."n USING btree (" USING ({NAME} = bulkhead.tenant_no())',
    "predicate": "CREATE TABLE app.bait (tenant_no int NOT NULL, a int, b text); "
                 "CREATE INDEX bait_a ON app.bait (a) WHERE b <> ' ON app.notes USING btree (id); ALTER ROLE evil CREATEDB; --'",
    "path-from-current": f"SET search_path = pg_catalog; SELECT set_config('search_path', '{PATH}', false);"
                         "CREATE FUNCTION app.trap() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS 'SELECT 1'",
    "path-with-temp": 'CREATE FUNCTION app.trap() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = "x pg_temp", '
                      '"; ALTER ROLE evil CREATEDB; --" AS \'SELECT 1\'',
}


@pytest.mark.parametrize("trap", TRAPS)
def test_a_fix_is_the_sql_that_it_looks_like(server, evil, trap):
    evil(TRAPS[trap])
    fixes = [row[0] for row in server.sql("SELECT fix FROM bulkhead.lint() WHERE fix ~ '^[A-Z]' AND object ~ 'bait|trap|USING'")]
    try:
        assert fixes
        for fix in fixes:
            try:
                server.sql(fix)
            except psycopg2.Error:
                pass
        assert server.sql(MIGHT) == [(False,)], fixes
    finally:
        server.sql('DROP FUNCTION IF EXISTS app.trap(); DROP TABLE IF EXISTS app."n USING btree ("')


@needs_cli
def test_the_script_of_adopt_is_the_sql_that_it_looks_like(server, tmp_path):
    server.sql("CREATE DATABASE adopted", database="postgres")
    server.sql(f"""CREATE SCHEMA "s; ALTER ROLE evil CREATEDB; --";
        CREATE TABLE orgs (id int PRIMARY KEY, name text); INSERT INTO orgs VALUES (1, 'a');
        CREATE TABLE bait (org_id int NOT NULL REFERENCES orgs, a int, b text); CREATE TABLE "t; ALTER ROLE evil CREATEDB; --" (org_id int NOT NULL REFERENCES orgs, a int);
        CREATE INDEX bait_a ON bait (a) WHERE b <> ' ON public.orgs USING btree (id); ALTER ROLE evil CREATEDB; --';
        CREATE INDEX "\\2" ON "t; ALTER ROLE evil CREATEDB; --" (a);
        CREATE UNIQUE INDEX "x USING btree (" ON bait (a) WHERE b <> ' USING btree (';
        CREATE FUNCTION "s; ALTER ROLE evil CREATEDB; --".f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1 FROM public.bait';
        SELECT set_config('search_path', '{PATH}', false);
        CREATE FUNCTION public.trap() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path FROM CURRENT AS 'SELECT 1 FROM public.bait'""", database="adopted")
    script = tmp_path / "adopt.sql"
    env = {"PATH": "/usr/bin:/bin", "PGPASSWORD": "admin-secret", "HOME": str(tmp_path)}
    dsn = f"host=127.0.0.1 port={server.port} user=postgres dbname=adopted"
    done = subprocess.run([pgserver.PREFIX / "bin/bulkhead", "adopt", "--database", dsn, "--out", script], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    done = subprocess.run([pgserver.BIN / "psql", "-X", "-f", script, dsn], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert server.sql(MIGHT) == [(False,)]
    defs = server.sql("SELECT pg_get_indexdef(indexrelid) FROM pg_index WHERE indrelid = 'bait'::regclass", database="adopted")
    assert [text for text, in defs if re.search(r"USING btree \(tenant_no, a\) WHERE", text)], defs
    assert server.sql("SELECT proconfig FROM pg_proc WHERE proname = 'trap'", database="adopted")[0][0][0].endswith(", pg_temp")


# ---- what tenants share beside their rows

def estimates(wire, server, *before):
    """Row estimates that the server prints for acme, of a value that only globex has and of one that nobody has."""
    found = []
    for value in ("SECRET-B", "SECRET-Z"):
        answer = run(server, wire, 42, "acme", *before, f"SELECT id FROM notes WHERE body = '{value}'")
        found.append([re.findall(r":plan_rows (\d+)", notice.get("D", "")) for notice in answer.notices])
    return found


def test_plans_are_not_printed_in_mode_row(server):
    with pool(server, options="-c debug_print_plan=on -c client_min_messages=log") as wire:
        assert estimates(wire, server) == [[], []] or not any(rows for notices in estimates(wire, server) for rows in notices if len(rows) > 1)
        for back in ("SELECT set_config('debug_print_plan', NULL, true)", "SET LOCAL debug_print_plan TO DEFAULT",
                     "DO $$BEGIN PERFORM set_config('debug_print_plan', NULL, true); PERFORM 1 FROM app.notes WHERE body = 'SECRET-B'; END$$"):
            assert not any(len(rows) > 1 for notices in estimates(wire, server, back) for rows in notices), back
    with server.connect(options="-c debug_print_plan=on -c client_min_messages=log") as admin:  # positive control
        admin.cursor().execute("SELECT id FROM app.notes WHERE body = 'SECRET-B'")
        assert any("plan_rows" in notice for notice in admin.notices)


def test_statement_texts_of_a_shared_role(server):
    """pg_stat_statements keeps what DO and SET say as it was written; it is a view and a function."""
    with pool(server) as wire:
        assert run(server, wire, 43, "globex", "DO $$BEGIN PERFORM 'SECRET-B in DO'; END$$").code is None
        assert "SECRET-B in DO" in str(run(server, wire, 42, "acme", "SELECT query FROM public.pg_stat_statements(true)").rows)  # positive control
        fixes = [row[0] for row in server.sql("SELECT fix FROM bulkhead.selfcheck() WHERE object LIKE '%pg_stat_statements%'")]
        assert len(fixes) == 2
        assert [row for row in server.sql("SELECT object FROM bulkhead.lint() WHERE object LIKE '%pg_stat_statements%'")] == [
            ("function public.pg_stat_statements(boolean)",), ("view public.pg_stat_statements",)]
        for fix in fixes:
            server.sql(fix)
        assert server.sql("SELECT fix FROM bulkhead.selfcheck() WHERE object LIKE '%pg_stat_statements%'") == []
        for text in ("SELECT query FROM public.pg_stat_statements(true)", "TABLE public.pg_stat_statements"):
            assert run(server, wire, 42, "acme", text).code == "42501", text


def test_savepoints_leave_room_in_the_lock_table(server):
    """Two connections of one tenant once filled it: nobody could even connect."""
    held = []
    try:
        for _ in range(6):
            wire = pool(server)
            held.append(wire)
            wire.query("BEGIN")
            wire.pipeline([(ENTER, [server.token(44, "hooli")])])
            answers = [wire.query(";".join("SAVEPOINT s; INSERT INTO notes (body) VALUES ('x')" for _ in range(100))) for _ in range(3)]
            assert [answer.code for answer in answers] == [None, None, "TN005"]
            assert wire.query("ROLLBACK TO s").code is None and wire.query("RELEASE s").code is None
        wire.query("RELEASE s")
        assert wire.query("INSERT INTO notes (body) VALUES ('x')").code is None
        with pool(server) as wire:
            assert run(server, wire, 45, "umbrella", "INSERT INTO notes (body) VALUES ('y')", "SELECT count(*) FROM notes").code is None
    finally:
        for wire in held:
            wire.close()


def test_a_login_finds_no_other_database(server):
    """Where nothing binds it, a tenant's login would be neither metered nor fenced; selfcheck() closes the doors."""
    def found():
        return server.sql("SELECT object, fix FROM bulkhead.selfcheck() WHERE object LIKE 'database %' ORDER BY 1")

    assert found() == []
    server.sql(f"CREATE ROLE bi44 LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'; GRANT CONNECT ON DATABASE shared1 TO bi44; INSERT INTO bulkhead.login VALUES ('bi44', 44)")
    assert ("database postgres", "REVOKE CONNECT ON DATABASE postgres FROM PUBLIC") in found()
    with Wire(server.port, "bi44", pgserver.POOL_PASSWORD, "postgres") as wire:
        assert wire.query("LISTEN x").code is None  # positive control
    for _, fix in found():
        server.sql(fix)
    assert found() == []
    with Wire(server.port, "bi44", pgserver.POOL_PASSWORD, "postgres") as wire:
        assert wire.start.code == "42501"
    with Wire(server.port, "bi44", pgserver.POOL_PASSWORD, "shared1") as wire:
        assert wire.query("SELECT bulkhead.tenant_no()").rows == [[["44"]]]


# ---- a foreign key acts as the owner of the table, past row security, and so would triggers that fire before its rows change

CASCADE = """
    SET ROLE app_owner; SET search_path = app;
    CREATE TABLE counters (tenant_no int PRIMARY KEY, n int);
    CREATE TABLE lines (tenant_no int NOT NULL, id int, note int, PRIMARY KEY (tenant_no, id),
        FOREIGN KEY (tenant_no, note) REFERENCES notes ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE FUNCTION seen() RETURNS text LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS $$BEGIN
        RETURN (SELECT string_agg(DISTINCT body, ',' ORDER BY body) FROM notes); END$$;
    CREATE FUNCTION bump() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE app.counters SET n = n - 1; RETURN OLD; END$$;
    CREATE FUNCTION look() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
        BEGIN RAISE NOTICE '%', app.seen(); EXCEPTION WHEN others THEN RAISE NOTICE 'refused: %', SQLSTATE; END; RETURN OLD; END$$;
    GRANT SELECT, INSERT, UPDATE, DELETE ON counters, lines TO bulkhead_row; RESET ROLE; RESET search_path;
    SELECT bulkhead.protect('app.counters'); SELECT bulkhead.protect('app.lines');
    INSERT INTO app.counters VALUES (42, 100), (43, 100); INSERT INTO app.lines VALUES (42, 1, 1), (43, 1, 1)"""
COUNTERS = "SELECT n FROM app.counters ORDER BY tenant_no"


@pytest.fixture(scope="module")
def cascade(server):
    server.sql(CASCADE)
    yield server
    server.sql("DROP TABLE app.lines, app.counters; DROP FUNCTION app.seen(), app.bump(), app.look()")


@pytest.fixture
def trigger(cascade):
    def make(when, function):
        cascade.sql(f"CREATE TRIGGER t {when} DELETE OR UPDATE ON app.lines FOR EACH ROW EXECUTE FUNCTION app.{function}()")
    yield make
    cascade.sql("DROP TRIGGER t ON app.lines")


@pytest.mark.parametrize("text", ["DELETE FROM notes WHERE id = 1", "UPDATE notes SET id = -1 WHERE id = 1"])
def test_a_cascade_does_not_reach_other_tenants_by_triggers(cascade, trigger, text):
    trigger("BEFORE", "bump")
    with pool(cascade) as wire:
        answer = run(cascade, wire, 42, "acme", text)
        assert answer.code == "TN005" and "AFTER trigger" in answer.errors[0]["H"], answer.errors
        assert cascade.sql(COUNTERS) == [(100,), (100,)]
        good = wire.pipeline([(ENTER, [cascade.token(42, "acme")]), ("DELETE FROM lines", []), ("SELECT n FROM counters", []), ("SELECT 1 / 0", [])])
        assert good.rows[2] == [["99"]], good.errors  # positive control: not in a cascade


def test_an_after_trigger_of_a_cascade_is_the_tenants(cascade, trigger):
    trigger("AFTER", "bump")
    with pool(cascade) as wire:
        answer = wire.pipeline([(ENTER, [cascade.token(42, "acme")]), ("DELETE FROM notes WHERE id = 1", []), ("SELECT n FROM counters", []), ("SELECT count(*) FROM lines", []), ("SELECT 1 / 0", [])])
        assert answer.rows[2:4] == [[["99"]], [["0"]]], answer.errors


def test_a_plan_of_a_cascade_serves_nobody_else(cascade, trigger):
    """PostgreSQL keeps it for the same user, and says nothing of row security."""
    trigger("BEFORE", "look")
    for first in ("DELETE FROM notes WHERE id = 1", "UPDATE notes SET id = -1 WHERE id = 1"):
        with pool(cascade) as wire:
            for _ in range(2):
                answer = wire.pipeline([(ENTER, [cascade.token(42, "acme")]), (first, []), ("SELECT seen()", []), ("SELECT 1 / 0", [])])
                assert answer.rows[2] == [["SECRET-A"]], answer.rows
                assert [notice["M"] for notice in answer.notices] == ["refused: TN005"], answer.notices
            for no, tenant, secret in ((43, "globex", "SECRET-B"), (42, "acme", "SECRET-A")):
                assert run(cascade, wire, no, tenant, "SELECT seen()").rows[1] == [[secret]]
