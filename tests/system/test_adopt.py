"""bulkhead adopt, lint and explain access, tried on databases as people have them.

tests/system/adopt/saas.sql is a service of three organisations (org_id, uuid and bigint keys, enums, a partitioned table,
views, a SECURITY DEFINER function, a policy that believes a setting) whose tables belong to the superuser.
"""
import json
import os
import pathlib
import subprocess
import types

import pgserver
import pytest
from pgwire import Wire

HERE = pathlib.Path(__file__).resolve().parent
PROGRAM = pgserver.PREFIX / "bin/bulkhead"
ENTER = "SELECT bulkhead.enter($1)"
TABLES = ['app."Odd ""Names"""', "app.addresses", "app.attachments", "app.comments", "app.events", "app.invoice_lines", "app.invoices", "app.labels",
          "app.organizations", "app.projects", "app.task_labels", "app.tasks", "app.users"]


class World:
    """A server with databases that know nothing of Bulkhead, and the command line as an operator would use it."""

    def __init__(self, folder):
        self.server, self.folder = pgserver.Server(), folder
        self.passfile = folder / "pgpass"
        self.passfile.write_text("*:*:*:postgres:admin-secret\n")
        self.passfile.chmod(0o600)
        self.env = {key: value for key, value in os.environ.items() if not key.startswith(("BULKHEAD_", "PG"))}
        self.env.update(PGPASSFILE=str(self.passfile), BULKHEAD_STATE=str(folder / "none"), LC_ALL="C.UTF-8")
        self.server.sql(f"CREATE ROLE bulkhead_pool LOGIN PASSWORD '{pgserver.POOL_PASSWORD}'", database="postgres")

    def dsn(self, database):
        return f"host=127.0.0.1 port={self.server.port} user=postgres dbname={database}"

    def cli(self, *words, **env):
        done = subprocess.run([PROGRAM, *words], env={**self.env, **env}, capture_output=True, text=True, timeout=120)
        assert "admin-secret" not in done.stdout + done.stderr
        return done

    def psql(self, database, script, *more):
        return subprocess.run(["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", *more, "-f", str(script), self.dsn(database)], env=self.env,
                              capture_output=True, text=True, timeout=300)

    def make(self, database, script):
        self.server.sql(f"CREATE DATABASE {database}", database="postgres")
        done = self.psql(database, script)
        assert done.returncode == 0, done.stderr

    def digest(self, database):
        """Everything that a scan could change."""
        return self.server.sql("SELECT (SELECT string_agg(c.oid::text || c.relacl::text || c.relowner || c.xmin::text, ',' ORDER BY c.oid) FROM pg_class c WHERE c.oid > 16384),"
                               "(SELECT count(*) FROM pg_proc), (SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_roles)", database=database)

    def tenant(self, no, tenant, statements, database):
        """[enter, statements…] as the pool role in one pipeline."""
        token = self.server.token(no, tenant, database)
        with Wire(self.server.port, "bulkhead_pool", pgserver.POOL_PASSWORD, database) as wire:
            return wire.pipeline([(ENTER, [token])] + [(text, []) for text in statements])


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    it = World(tmp_path_factory.mktemp("adopt"))
    try:
        yield it
    finally:
        it.server.close()


@pytest.fixture(scope="module")
def saas(world):
    """The service, adopted: its report, its script, its tenants {id: (no, organisation)}."""
    it = types.SimpleNamespace(world=world, script=world.folder / "adopt.sql")
    world.make("saas", HERE / "adopt/saas.sql")
    it.totals = {table: world.server.sql(f"SELECT count(*) FROM {table}", database="saas")[0][0] for table in TABLES}
    before = world.digest("saas")
    it.scan = world.cli("adopt", "--database", world.dsn("saas"), "--out", str(it.script), "-o", "json")
    it.untouched = world.digest("saas") == before
    it.lint_before = world.cli("lint", "--database", world.dsn("saas"), "-o", "json")
    it.runs = [world.psql("saas", it.script), world.psql("saas", it.script)]
    rows = world.server.sql("SELECT id, no, old FROM bulkhead_adopt.tenant_map ORDER BY no", database="saas")
    it.tenants = {row[0]: (row[1], row[2]) for row in rows}
    return it


# -- the scan --------------------------------------------------------------------------------

def test_the_scan_changes_nothing_and_knows_the_tables(saas):
    assert saas.scan.returncode == 0, saas.scan.stderr
    assert saas.untouched
    report = json.loads(saas.scan.stdout)
    assert report["mode"] == "row" and report["tenant_column"] == "org_id" and report["tenants_table"] == "app.organizations"
    assert report["problems"] == [] and report["script"] == str(saas.script)
    kinds = {item["table"]: (item["kind"], item["tenant_from"]) for item in report["items"]}
    assert kinds["app.organizations"] == ("tenants", "id")
    assert kinds["app.users"] == kinds["app.events"] == ("direct", "org_id")
    assert kinds["app.tasks"] == ("derived", "app.projects") and kinds["app.attachments"] == ("derived", "app.comments")
    assert kinds["app.plans"][0] == kinds["app.countries"][0] == "reference"
    assert kinds["app.schema_migrations"] == ("unclear", None)
    assert len(kinds) == 16 and {item["rows_estimate"] for item in report["items"] if item["table"] == "app.tasks"} == {1200}


def test_the_table_is_for_people(saas):
    done = saas.world.cli("adopt", "--database", saas.world.dsn("saas"))
    assert "app.task_labels" in done.stdout and "best" in done.stdout and "next: bulkhead adopt" in done.stderr


def test_lint_works_without_the_extension(saas):
    """The holes that the service had, also the policy that believes a setting."""
    assert saas.lint_before.returncode == 2
    rows = json.loads(saas.lint_before.stdout)["items"]
    text = "\n".join(f'{row["severity"]} {row["object"]} {row["problem"]}' for row in rows)
    for part in ("error table app.users has no row level security", "error policy by_setting of app.invoices believes a setting",
                 "error function app.progress(uuid) runs as postgres", "error materialized view app.totals", "error index app.users_pkey is unique across tenants"):
        assert part in text, text


# -- the script ------------------------------------------------------------------------------

def test_the_script_runs_and_may_be_repeated(saas):
    for done in saas.runs:
        assert done.returncode == 0, done.stderr
        assert "ERROR" not in done.stderr
    assert set(saas.tenants) == {"north", "south", "ost-west"}
    assert saas.world.server.sql("SELECT count(*) FROM bulkhead.tenant WHERE mode = 'row' AND role = 'bh_rows_saas'", database="saas") == [(3,)]
    assert {table: saas.world.server.sql(f"SELECT count(*) FROM {table}", database="saas")[0][0] for table in TABLES} == saas.totals


def test_the_script_holds_no_password_and_is_not_written_over(saas):
    text = saas.script.read_text()
    assert "admin-secret" not in text and "password" not in text.lower()
    done = saas.world.cli("adopt", "--database", saas.world.dsn("saas"), "--out", str(saas.script))
    assert done.returncode == 1 and "nothing is written over it" in done.stderr
    assert saas.script.read_text() == text


def test_each_organisation_sees_its_rows_and_no_other(saas):
    for tenant, (no, old) in saas.tenants.items():
        sql = [f"SELECT count(*) FROM {table}" for table in TABLES]
        answer = saas.world.tenant(no, tenant, sql, "saas")
        assert answer.code is None, answer.errors
        seen = [int(rows[0][0]) for rows in answer.rows[1:]]
        mine = [saas.world.server.sql(f"SELECT count(*) FROM {table} WHERE tenant_no = {no}", database="saas")[0][0] for table in TABLES]
        assert seen == mine and all(0 < n < saas.totals[t] for n, t in zip(seen, TABLES))
        # and by what the rows say themselves, not by the column that adopt added
        answer = saas.world.tenant(no, tenant, [
            "SELECT string_agg(DISTINCT org_id::text, ',') FROM users", "SELECT string_agg(DISTINCT org_id::text, ',') FROM events",
            "SELECT string_agg(DISTINCT p.org_id::text, ',') FROM attachments a JOIN comments c ON c.id = a.comment_id JOIN tasks t ON t.id = c.task_id"
            " JOIN projects p ON p.id = t.project_id", "SELECT string_agg(DISTINCT org_id::text, ',') FROM open_tasks", "SELECT id FROM organizations",
            "SELECT count(*) FROM plans"], "saas")
        assert answer.code is None, answer.errors
        assert answer.rows[1:6] == [[[old]]] * 5 and answer.rows[6] == [["2"]]
    assert sum(saas.totals.values()) > 7000


def test_an_organisation_works_as_before(saas):
    """Inserts need no tenant column; keys are numbered; a trigger and the definer function run; a delete sets one column to NULL."""
    no, old = saas.tenants["north"]
    answer = saas.world.tenant(no, "north", [
        "INSERT INTO users (org_id, email) SELECT id, 'new@example.org' FROM organizations RETURNING tenant_no",
        "INSERT INTO projects (org_id, owner_id, name) SELECT u.org_id, u.id, 'New' FROM users u WHERE email = 'new@example.org'",
        "INSERT INTO tasks (project_id, title) SELECT id, 'First' FROM projects WHERE name = 'New'",
        "INSERT INTO comments (task_id, body) SELECT id, 'Hello' FROM tasks WHERE title = 'First' RETURNING tenant_no",
        "UPDATE projects SET name = 'Newer' WHERE name = 'New'",
        "DELETE FROM users WHERE email = 'new@example.org'",
        "SELECT tenant_no, owner_id IS NULL FROM projects WHERE name = 'Newer'",
        "SELECT progress(id) FROM projects WHERE name = 'Newer'",
        "INSERT INTO events (org_id, at, payload) SELECT id, now(), '{}' FROM organizations"], "saas")
    assert answer.code is None, answer.errors
    assert answer.rows[1] == answer.rows[4] == [[str(no)]] and answer.rows[7] == [[str(no), "t"]] and answer.rows[8] == [["0"]]


@pytest.mark.parametrize("attack, code", [
    ("INSERT INTO labels (tenant_no, org_id, name) SELECT {other}, org_id, 'x' FROM labels LIMIT 1", "42501"),
    ("UPDATE labels SET tenant_no = {other}", "42501"),
    ("INSERT INTO labels (org_id, name) VALUES ('{other_org}', 'x')", "23503"),
    ("TRUNCATE labels", "42501"), ("SELECT * FROM totals", "42501"), ("SELECT * FROM schema_migrations", "42501"),
    ("SELECT * FROM events_2026", "42501"), ("SELECT * FROM bulkhead_adopt.tenant_map", "42501"), ("UPDATE plans SET monthly = 0", "42501"),
    ("SELECT last_value FROM comments_id_seq", "42501"), ("ALTER TABLE labels DISABLE ROW LEVEL SECURITY", "42501")])
def test_what_an_organisation_cannot(saas, attack, code):
    no, _ = saas.tenants["south"]
    other, other_org = saas.tenants["north"]
    answer = saas.world.tenant(no, "south", [attack.format(other=other, other_org=other_org)], "saas")
    assert answer.code == code or (code == "42501" and answer.code == "TN005"), answer.errors
    assert saas.world.tenant(no, "south", ["INSERT INTO labels (org_id, name) SELECT id, 'own' FROM organizations", "DELETE FROM labels WHERE name = 'own'"],
                             "saas").code is None


def test_a_label_counts_at_once_on_connections_that_are_there(saas):
    """The guard keeps what it knows of labels in each backend; taking one away must reach it with the commit."""
    no, _ = saas.tenants["south"]
    server = saas.world.server
    with Wire(server.port, "bulkhead_pool", pgserver.POOL_PASSWORD, "saas") as wire:
        def read():
            return wire.pipeline([(ENTER, [server.token(no, "south", "saas")]), ("SELECT count(*) FROM plans", [])])
        for _ in range(2):
            assert read().rows[1] == [["2"]]
            server.sql("SECURITY LABEL FOR bulkhead ON TABLE app.plans IS NULL", database="saas")
            answer = read()
            assert answer.code == "TN005" and "is not protected by row security" in str(answer.errors)
            server.sql("SECURITY LABEL FOR bulkhead ON TABLE app.plans IS 'shared'", database="saas")
        assert read().rows[1] == [["2"]]
        assert wire.pipeline([(ENTER, [server.token(no, "south", "saas")]), ("SELECT count(*) FROM plans", [])]).code is None


def test_lint_has_no_error_afterwards(saas):
    done = saas.world.cli("lint", "--database", saas.world.dsn("saas"), "-o", "json")
    rows = json.loads(done.stdout)["items"]
    assert done.returncode == 0 and {row["severity"] for row in rows} <= {"warning", "info"}, rows
    by_sql = saas.world.server.sql("SELECT severity, object, problem, fix FROM bulkhead.lint()", database="saas")
    assert [tuple(row.values()) for row in rows] == by_sql and len(rows) > 0
    drift = saas.world.server.sql("SELECT object, problem FROM bulkhead.selfcheck() WHERE object NOT LIKE 'log_parameter%%'", database="saas")
    assert drift == []


def test_shapes_that_databases_have(world):
    """Tenants that are texts, two schemas, partitions of partitions, inheritance, exclusion constraints, tables without keys."""
    world.make("variants", HERE / "adopt/variants.sql")
    script = world.folder / "variants.sql"
    done = world.cli("adopt", "--database", world.dsn("variants"), "--out", str(script), "-o", "json")
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = {item["table"]: item["kind"] for item in json.loads(done.stdout)["items"]}
    assert kinds == {"crm.contacts": "direct", "crm.bookings": "direct", "crm.booking_notes": "derived", "crm.bare": "direct", "crm.animals": "direct",
                     '"Log ""Files"""."Lines"': "direct"}
    for _ in range(2):
        run = world.psql("variants", script)
        assert run.returncode == 0, run.stderr
    done = world.cli("lint", "--database", world.dsn("variants"), "-o", "json")
    assert done.returncode == 0, done.stdout
    for no, tenant, old in world.server.sql("SELECT no, id, old FROM bulkhead_adopt.tenant_map", database="variants"):
        answer = world.tenant(no, tenant, [
            "SELECT string_agg(DISTINCT tenant_id, ',') FROM contacts", "SELECT count(*) FROM booking_notes", "SELECT count(*) FROM animals",
            'SELECT count(*) FROM "Log ""Files"""."Lines"', "SELECT count(*) FROM booked",
            "INSERT INTO contacts (id, tenant_id, name) VALUES (1, 'mine', 'same id as another')"], "variants")
        assert answer.rows[1:6] == [[[old]], [["2"]], [["4"]], [["2"]], [["2"]]], answer.errors
        assert answer.code in (None, "23505")  # id 1 is free for all but one: the key is the tenant's own
        assert world.tenant(no, tenant, ["SELECT * FROM dogs"], "variants").code == "42501"
    assert world.server.sql("SELECT count(*) FROM crm.contacts WHERE id = 1", database="variants") == [(3,)]


# -- a database whose tables need a decision ---------------------------------------------------

def test_a_table_that_nobody_can_place_stops_the_scan(world):
    world.make("global_users", HERE / "adopt/global_users.sql")
    script = world.folder / "global.sql"
    done = world.cli("adopt", "--database", world.dsn("global_users"), "--out", str(script), "-o", "json")
    assert done.returncode == 2
    report = json.loads(done.stdout)
    assert [(p["object"], "people" in p["problem"]) for p in report["problems"]] == [("table public.memberships", True)]
    assert {item["table"]: item["kind"] for item in report["items"]}["public.people"] == "unclear"
    run = world.psql("global_users", script)
    assert run.returncode != 0 and "cannot protect public.memberships: its foreign key" in run.stderr
    # nothing is half open: the step that gives rights is one transaction
    assert world.server.sql("SELECT count(*) FROM bulkhead.tenant", database="global_users") == [(0,)]
    # the person decides: all may read it
    world.server.sql("SECURITY LABEL FOR bulkhead ON TABLE public.people IS 'shared'; ALTER TABLE public.people OWNER TO global_users_owner;"
                     "GRANT SELECT ON public.people TO bh_rows_global_users", database="global_users")
    again = world.psql("global_users", script)
    assert again.returncode == 0, again.stderr
    one, two = world.server.sql("SELECT id, no FROM bulkhead.tenant ORDER BY no", database="global_users")
    for tenant, no in (one, two):
        answer = world.tenant(no, tenant, ["SELECT string_agg(DISTINCT tenant_no::text, ',') FROM memberships", "SELECT count(*) FROM people"], "global_users")
        assert answer.rows[1:] == [[[str(no)]], [["3"]]], answer.errors
    assert world.cli("lint", "--database", world.dsn("global_users")).returncode == 0


# -- a single-tenant database ------------------------------------------------------------------

def test_a_single_tenant_database_becomes_a_tenants_schema(world):
    world.make("single", HERE / "adopt/single.sql")
    script = world.folder / "single.sql"
    done = world.cli("adopt", "--database", world.dsn("single"), "--out", str(script), "-o", "json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["mode"] == "schema" and report["tenant_column"] is None and {item["kind"] for item in report["items"]} == {"unclear"}
    for _ in range(2):
        run = world.psql("single", script, "-v", "no=7", "-v", "id=wayne")
        assert run.returncode == 0, run.stderr
    answer = world.tenant(7, "wayne", ["SELECT count(*) FROM books", "INSERT INTO loans (book_id, kind) VALUES (1, 'long')",
                                       "SELECT count(*) FROM late_loans", "SELECT shelf(1)"], "single")
    assert answer.code is None, answer.errors
    assert answer.rows[1] == [["3"]] and answer.rows[4] == [["S1"]]
    assert world.server.sql("SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace", database="single") == [(0,)]
    done = world.cli("lint", "--database", world.dsn("single"), "-o", "json")
    assert done.returncode == 0, done.stdout


def test_session_state_wants_a_database_of_its_own(world):
    world.make("listening", HERE / "adopt/single.sql")
    world.server.sql("CREATE FUNCTION tell() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_notify(''a'', ''b''); END'", database="listening")
    report = json.loads(world.cli("adopt", "--database", world.dsn("listening"), "-o", "json").stdout)
    assert report["mode"] == "database" and "LISTEN and NOTIFY" in str(report["advice"])


# -- names that want to be code ----------------------------------------------------------------

def test_hostile_names_stay_names(world):
    """A table and a column whose names hold quotes, newlines, psql commands and dollar quotes: the script is still the same SQL."""
    world.server.sql("CREATE DATABASE hostile", database="postgres")
    name = '"x\n\\! touch /tmp/bulkhead-owned\n--$$ \'; DROP TABLE orgs; :\'id\' "'
    world.server.sql(f"CREATE TABLE orgs (id int PRIMARY KEY, name text); CREATE TABLE {name} (org_id int NOT NULL REFERENCES orgs, a text UNIQUE);"
                     f"CREATE TABLE plain (org_id int NOT NULL REFERENCES orgs, PRIMARY KEY (org_id)); CREATE TABLE \"u\nDROP TABLE plain;\" (a int);"
                     f"INSERT INTO orgs VALUES (1, 'a'), (2, 'b'); INSERT INTO {name} VALUES (1, 'q'), (2, 'r')", database="hostile")
    script = world.folder / "hostile.sql"
    assert world.cli("adopt", "--database", world.dsn("hostile"), "--out", str(script)).returncode == 0
    run = world.psql("hostile", script)
    assert run.returncode == 0, run.stderr
    assert not os.path.exists("/tmp/bulkhead-owned")
    tenant, no = world.server.sql("SELECT id, no FROM bulkhead.tenant ORDER BY no LIMIT 1", database="hostile")[0]
    assert world.tenant(no, tenant, [f"SELECT a FROM {name}"], "hostile").rows[1] in ([["q"]], [["r"]])
    assert world.server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'", database="hostile") == [(4,)]


# -- explain access ----------------------------------------------------------------------------

def explain(saas, sql, tenant="north", **env):
    no, _ = saas.tenants[tenant]
    token = saas.world.server.token(no, tenant, "saas", use="job", life=600)
    done = saas.world.cli("explain", "access", "--tenant", tenant, "--database", saas.world.dsn("saas"), "-o", "json", sql,
                          BULKHEAD_TENANT_TOKEN=token, **env)
    assert token not in done.stdout + done.stderr
    return done.returncode, json.loads(done.stdout)


def test_a_policy_hides_rows(saas):
    code, report = explain(saas, "SELECT * FROM invoices i JOIN plans p ON true WHERE total > 0")
    assert code == 0 and report["decided_by"] == "policy" and report["statement"]["rows"] == 20
    tables = {item["table"]: item for item in report["items"]}
    assert set(tables) == {"app.invoices", "app.plans"}
    invoices = tables["app.invoices"]
    assert (invoices["rows_visible"], invoices["rows_total"], invoices["row_security"]) == (10, 30, "forced")
    assert invoices["privileges"] == ["SELECT", "INSERT", "UPDATE", "DELETE"]
    assert invoices["because"] == "policy bulkhead_tenant: (tenant_no = bulkhead.tenant_no())"
    assert tables["app.plans"]["shared"] and "shared" in tables["app.plans"]["because"] and tables["app.plans"]["rows_visible"] == 2


def test_a_view_shows_the_tables_behind_it(saas):
    code, report = explain(saas, "SELECT * FROM open_tasks")
    assert code == 0 and {item["table"] for item in report["items"]} == {"app.open_tasks", "app.tasks", "app.projects"}


@pytest.mark.parametrize("sql, state, by", [
    ("LOCK TABLE labels", "TN005", "guard"), ("SET search_path = public", "TN005", "guard"), ("SELECT * FROM totals", "42501", "privilege"),
    ("SELECT * FROM nothing", "42P01", "name"), ("UPDATE labels SET name = 'x'", "25006", "nobody"), ("SELECT 1/0", "22012", "statement")])
def test_who_refused(saas, sql, state, by):
    code, report = explain(saas, sql)
    assert code == 2 and report["statement"]["sqlstate"] == state and report["decided_by"] == by, report
    if sql.startswith("UPDATE"):
        assert report["items"][0]["table"] == "app.labels" and report["items"][0]["rows_total"] > report["items"][0]["rows_visible"]
    if by == "privilege":
        assert report["items"][0]["because"] == "role bh_rows_saas has no right to read it"


def test_explain_says_it_to_people_too_and_never_writes(saas):
    no, _ = saas.tenants["south"]
    token = saas.world.server.token(no, "south", "saas", use="job", life=600)
    before = saas.world.server.sql("SELECT count(*) FROM app.labels", database="saas")
    done = saas.world.cli("explain", "access", "--tenant", "south", "--database", saas.world.dsn("saas"), "DELETE FROM labels RETURNING *", BULKHEAD_TENANT_TOKEN=token)
    assert done.returncode == 2 and "tenant:     south" in done.stdout and "it writes, so it was not run" in done.stdout and "app.labels" in done.stdout
    assert saas.world.server.sql("SELECT count(*) FROM app.labels", database="saas") == before


def test_explain_of_a_tenant_or_token_that_is_not_there(saas):
    world = saas.world
    done = world.cli("explain", "access", "--tenant", "nobody", "--database", world.dsn("saas"), "SELECT 1", BULKHEAD_TENANT_TOKEN="x")
    assert done.returncode == 66 and 'no tenant "nobody"' in done.stderr
    done = world.cli("explain", "access", "--tenant", "north", "--database", world.dsn("saas"), "SELECT 1", BULKHEAD_TENANT_TOKEN="x")
    assert done.returncode == 2 and "TN002" in done.stdout and "token" in done.stdout
    done = world.cli("explain", "access", "--tenant", "north", "--database", world.dsn("saas"), "SELECT 1", BULKHEAD_URL="http://127.0.0.1:1")
    assert done.returncode == 69


# -- the database's address --------------------------------------------------------------------

@pytest.mark.parametrize("dsn", ["host=127.0.0.1 password=geheim42", "postgresql://me:geheim42@127.0.0.1/x", "postgresql://127.0.0.1/x?password=geheim42",
                                 "host=127.0.0.1 sslpassword=geheim42", "host='geheim42", "postgresql://me:geheim42@[::1/x"])
@pytest.mark.parametrize("command", [["adopt"], ["lint"], ["explain", "access", "--tenant", "a", "SELECT 1"]])
def test_a_password_on_the_command_line_is_refused_and_not_repeated(world, command, dsn):
    done = world.cli(*command, "--database", dsn)
    assert done.returncode == 64 and "geheim42" not in done.stdout + done.stderr


def test_where_nobody_answers_and_where_we_may_not(world):
    done = world.cli("lint", "--database", "host=127.0.0.1 port=1")
    assert done.returncode == 69 and "cannot connect" in done.stderr
    done = world.cli("lint", "--database", world.dsn("postgres"), PGPASSFILE="/dev/null")
    assert done.returncode == 78
    done = world.cli("adopt", "--database", world.dsn("postgres"), "--tenant-column", "nope")
    assert done.returncode == 66 and '"nope"' in done.stderr
    assert world.cli("adopt").returncode == 64 and world.cli("lint").returncode == 64


def test_looking_needs_no_superuser(world):
    """A database without the extension: a login that may do nothing but connect sees the same."""
    world.server.sql("CREATE ROLE looker LOGIN PASSWORD 'looking'", database="postgres")
    world.make("looked_at", HERE / "adopt/single.sql")
    passfile = world.folder / "looker"
    passfile.write_text("*:*:*:looker:looking\n")
    passfile.chmod(0o600)
    dsn = world.dsn("looked_at").replace("user=postgres", "user=looker")
    for command in ("adopt", "lint"):
        mine, theirs = (world.cli(command, "--database", it, "-o", "json", PGPASSFILE=str(file)) for it, file in
                        ((dsn, passfile), (world.dsn("looked_at"), world.passfile)))
        assert mine.stdout == theirs.stdout and mine.stdout != "" and mine.returncode == theirs.returncode
    # with the extension, what lint must read is the superuser's
    world.server.sql("CREATE EXTENSION bulkhead", database="looked_at")
    done = world.cli("lint", "--database", dsn, PGPASSFILE=str(passfile))
    assert done.returncode == 77 and "may not read bulkhead.tenant" in done.stderr


def test_a_script_that_cannot_be_written_leaves_nothing(world):
    done = world.cli("adopt", "--database", world.dsn("postgres"), "--out", "/nowhere/adopt.sql")
    assert done.returncode == 78 and "cannot write" in done.stderr
    target = world.folder / "link.sql"
    target.symlink_to(world.folder / "elsewhere.sql")
    assert world.cli("adopt", "--database", world.dsn("postgres"), "--out", str(target)).returncode == 1
    assert not (world.folder / "elsewhere.sql").exists()
