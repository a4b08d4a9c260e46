"""bulkhead.lint(): silent where all is well; names each hole, and its fix, where it is SQL, mends it.

Each hole is made, found, mended and rolled back in one transaction.
"""
import pathlib

import pgserver
import pytest

LINT = "SELECT severity, object, problem, fix FROM bulkhead.lint()"
SHOP = pathlib.Path(__file__).resolve().parents[2] / "examples/shop/migrations/0001_shop.sql"

# Two tables that tenants share, as they should be, and a reference table.
SHARED = """
CREATE ROLE app_owner; CREATE ROLE app_row; CREATE ROLE other_login LOGIN;
CREATE SCHEMA app AUTHORIZATION app_owner;
GRANT USAGE ON SCHEMA app TO app_row;
SET ROLE app_owner;
CREATE TABLE app.customers (tenant_no int NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), email text,
    PRIMARY KEY (tenant_no, id), UNIQUE (tenant_no, email));
CREATE TABLE app.orders (tenant_no int NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), customer uuid, country text,
    PRIMARY KEY (tenant_no, id), FOREIGN KEY (tenant_no, customer) REFERENCES app.customers);
CREATE TABLE app.countries (code text PRIMARY KEY);
GRANT SELECT, INSERT, UPDATE, DELETE ON app.customers, app.orders TO app_row;
GRANT SELECT ON app.countries TO app_row;
RESET ROLE;
SECURITY LABEL FOR bulkhead ON TABLE app.countries IS 'shared';
SELECT bulkhead.protect('app.customers'); SELECT bulkhead.protect('app.orders')
"""
FN = "CREATE FUNCTION app.f() RETURNS int LANGUAGE sql {} AS 'SELECT {}'; ALTER FUNCTION app.f() OWNER TO {}"

# name: (how it is made, severity, object, part of the problem)
HOLES = {
    # row level security
    "rls-missing": ("CREATE TABLE app.x (tenant_no int NOT NULL DEFAULT bulkhead.tenant_no(), PRIMARY KEY (tenant_no)); ALTER TABLE app.x OWNER TO app_owner",
                    "error", "table app.x", "has no row level security"),
    "rls-off": ("ALTER TABLE app.orders DISABLE ROW LEVEL SECURITY", "error", "table app.orders", "has no row level security"),
    "rls-of-a-new-partition": ("CREATE TABLE app.p (tenant_no int, d date, PRIMARY KEY (tenant_no, d)) PARTITION BY RANGE (d); ALTER TABLE app.p OWNER TO app_owner;"
                               "SELECT bulkhead.protect('app.p'); CREATE TABLE app.p1 PARTITION OF app.p DEFAULT; ALTER TABLE app.p1 OWNER TO app_owner",
                               "error", "table app.p1", "has no row level security"),
    "rls-not-forced": ("ALTER TABLE app.orders NO FORCE ROW LEVEL SECURITY", "error", "table app.orders", "does not bind its owner app_owner"),
    "no-tenant": ("CREATE TABLE app.x (a int PRIMARY KEY); ALTER TABLE app.x OWNER TO app_owner; GRANT SELECT ON app.x TO bulkhead_pool",
                  "error", "table app.x", "nothing in it says whose"),
    "no-tenant-public": ("INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state) VALUES (7, 'row', 'row', 'app_row', 'app', 'active');"
                         "CREATE TABLE app.x (a int PRIMARY KEY); ALTER TABLE app.x OWNER TO app_owner; GRANT SELECT ON app.x TO PUBLIC",
                         "error", "table app.x", "nothing in it says whose"),
    "view-on-nobodys-table": ("CREATE TABLE app.x (a int PRIMARY KEY); CREATE VIEW app.v AS SELECT * FROM app.x; GRANT SELECT ON app.v TO bulkhead_pool",
                              "error", "view app.v", "shows app.x, which is neither a tenant's nor shared"),
    "no-policy": ("DROP POLICY bulkhead_tenant ON app.orders", "warning", "table app.orders", "no policy"),
    "policy-true": ("CREATE POLICY p ON app.orders FOR SELECT USING (true)", "error", "policy p of app.orders", "true for every row"),
    "policy-check-true": ("CREATE POLICY p ON app.orders FOR INSERT WITH CHECK (true)", "error", "policy p of app.orders", "true for every row"),
    "policy-setting": ("CREATE POLICY p ON app.orders USING (tenant_no = current_setting('app.t')::int) WITH CHECK (tenant_no = 1)",
                       "error", "policy p of app.orders", "believes a setting"),
    "policy-setting-hidden": ("CREATE FUNCTION app.t() RETURNS int LANGUAGE sql STABLE AS $$SELECT current_setting('app.t')::int$$;"
                              "DROP POLICY bulkhead_tenant ON app.orders; CREATE POLICY p ON app.orders USING (tenant_no = app.t()) WITH CHECK (tenant_no = app.t())",
                              "error", "policy p of app.orders", "believes a setting"),
    "policy-without-check": ("DROP POLICY bulkhead_tenant ON app.orders; CREATE POLICY p ON app.orders USING (tenant_no = bulkhead.tenant_no())",
                             "warning", "policy p of app.orders", "has no WITH CHECK"),
    "policy-beside": ("CREATE POLICY p ON app.orders FOR SELECT USING (country = 'AT')", "error", "policy p of app.orders", "lets further rows through"),
    "policy-changed": ("ALTER POLICY bulkhead_tenant ON app.orders USING (tenant_no = bulkhead.tenant_no() OR country = 'AT')",
                       "error", "policy bulkhead_tenant of app.orders", "is not as protect() made it"),
    "tenant-null": ("CREATE TABLE app.x (tenant_no int NOT NULL); ALTER TABLE app.x OWNER TO app_owner; SELECT bulkhead.protect('app.x');"
                    "ALTER TABLE app.x REPLICA IDENTITY FULL; ALTER TABLE app.x ALTER tenant_no DROP NOT NULL", "warning", "table app.x", "may be NULL"),
    "tenant-default": ("ALTER TABLE app.orders ALTER tenant_no DROP DEFAULT", "warning", "table app.orders", "has no default"),
    "owner-passes": ("ALTER TABLE app.orders OWNER TO postgres", "error", "table app.orders", "its owner postgres passes row level security"),
    "inherits": ("CREATE TABLE app.old (a int); ALTER TABLE app.old OWNER TO app_owner; ALTER TABLE app.orders ADD a int; ALTER TABLE app.orders INHERIT app.old",
                 "error", "table app.orders", "reading app.old shows its rows"),
    # keys and indexes
    "unique": ("ALTER TABLE app.orders ADD CONSTRAINT c UNIQUE (country)", "error", "index app.c", "is unique across tenants"),
    "unique-index": ("CREATE UNIQUE INDEX i ON app.orders (lower(country)) WHERE country IS NOT NULL", "error", "index app.i", "is unique across tenants"),
    "unique-referenced": ("ALTER TABLE app.customers ADD n int UNIQUE; ALTER TABLE app.orders ADD n int REFERENCES app.customers (n) ON DELETE SET NULL",
                          "error", "index app.customers_n_key", "is unique across tenants"),
    "foreign-key": ("ALTER TABLE app.orders ADD n int; ALTER TABLE app.customers ADD n int UNIQUE, ADD CONSTRAINT both_key UNIQUE (tenant_no, n);"
                    "ALTER TABLE app.orders ADD CONSTRAINT f FOREIGN KEY (n) REFERENCES app.customers (n)", "error", "foreign key f of app.orders", "another tenant's row"),
    "foreign-key-null": ("ALTER TABLE app.orders DROP CONSTRAINT orders_tenant_no_customer_fkey, ADD CONSTRAINT f FOREIGN KEY (tenant_no, customer)"
                         " REFERENCES app.customers ON DELETE SET NULL", "warning", "foreign key f of app.orders", "set its tenant to NULL"),
    "foreign-key-not-valid": ("ALTER TABLE app.orders DROP CONSTRAINT orders_tenant_no_customer_fkey, ADD CONSTRAINT f FOREIGN KEY (tenant_no, customer)"
                              " REFERENCES app.customers NOT VALID", "warning", "foreign key f of app.orders", "was never checked"),
    "foreign-key-of-shared": ("ALTER TABLE app.countries ADD t int, ADD u uuid, ADD CONSTRAINT f FOREIGN KEY (t, u) REFERENCES app.customers",
                              "error", "foreign key f of app.countries", "a table of all tenants points at"),
    "foreign-key-of-schemas": ("ALTER TABLE t42.notes ADD x int REFERENCES t43.notes", "error", "foreign key notes_x_fkey of t42.notes", "from tenant 42 to tenant 43"),
    "index-missing": ("ALTER TABLE app.orders DROP CONSTRAINT orders_pkey; ALTER TABLE app.orders REPLICA IDENTITY FULL", "warning", "table app.orders", "no index begins with tenant_no"),
    "index-not-led": ("CREATE INDEX i ON app.orders (country)", "info", "index app.i", "does not begin with tenant_no"),
    "sequence": ("ALTER TABLE app.orders ADD n bigint GENERATED ALWAYS AS IDENTITY", "warning", "column n of app.orders", "one sequence for all tenants"),
    "sequence-serial": ("ALTER TABLE app.orders ADD n bigserial", "warning", "column n of app.orders", "one sequence for all tenants"),
    "sequence-update": ("CREATE SEQUENCE app.s; GRANT UPDATE ON SEQUENCE app.s TO bulkhead_pool", "error", "sequence app.s", "may set it"),
    "sequence-select": ("CREATE SEQUENCE app.s; GRANT SELECT ON SEQUENCE app.s TO bulkhead_pool",
                        "warning", "sequence app.s", "may read how far it is"),
    "replica-identity": ("ALTER TABLE app.orders REPLICA IDENTITY NOTHING", "warning", "table app.orders", "no replica identity"),
    "replica-identity-of-a-schema": ("ALTER TABLE t42.notes DROP CONSTRAINT notes_pkey CASCADE", "warning", "table t42.notes", "no replica identity"),
    "unlogged": ("ALTER TABLE t42.orders SET UNLOGGED", "warning", "table t42.orders", "is unlogged"),
    # code
    "view-of-superuser": ("CREATE VIEW app.v AS SELECT * FROM app.orders", "error", "view app.v", "whom row level security does not bind"),
    "view-of-view": ("CREATE VIEW app.u WITH (security_invoker = true) AS SELECT * FROM app.orders; ALTER VIEW app.u OWNER TO app_owner; CREATE VIEW app.v AS SELECT * FROM app.u",
                     "error", "view app.v", "whom row level security does not bind"),
    "view-of-owner": ("CREATE VIEW app.v AS SELECT * FROM app.orders; ALTER VIEW app.v OWNER TO app_owner", "warning", "view app.v", "not as its reader"),
    "view-on-a-schema": ("CREATE VIEW app.v AS SELECT * FROM t42.notes; ALTER VIEW app.v OWNER TO app_owner; GRANT SELECT ON app.v TO other_login",
                         "error", "view app.v", "other_login may read it"),
    "materialized-view": ("CREATE MATERIALIZED VIEW app.m AS SELECT * FROM app.orders; ALTER MATERIALIZED VIEW app.m OWNER TO app_owner; GRANT SELECT ON app.m TO app_row",
                          "error", "materialized view app.m", "app_row may read it"),
    "foreign-table": ("CREATE EXTENSION file_fdw; CREATE SERVER s FOREIGN DATA WRAPPER file_fdw; CREATE FOREIGN TABLE app.x (a text) SERVER s OPTIONS (filename '/dev/null');"
                      "GRANT SELECT ON app.x TO bulkhead_pool", "error", "foreign table app.x", "bulkhead_pool may use it"),
    "definer-of-superuser": (FN.format("SECURITY DEFINER SET search_path = app, pg_temp", "1", "postgres"), "error", "function app.f()", "whom nothing binds"),
    "definer-without-path": (FN.format("SECURITY DEFINER", "1", "app_owner"), "error", "function app.f()", "search_path that its caller chooses"),
    "definer-temp-first": (FN.format("SECURITY DEFINER SET search_path = app", "1", "app_owner"), "warning", "function app.f()", "temporary objects come first"),
    "definer-temp-in-the-middle": (FN.format('SECURITY DEFINER SET search_path = pg_temp, "app"', "1", "app_owner"), "warning", "function app.f()", "temporary objects come first"),
    "definer-empty-path": (FN.format("SECURITY DEFINER SET search_path = ''", "1", "app_owner"), "warning", "function app.f()", "temporary objects come first"),
    "immutable": (FN.format("IMMUTABLE", "bulkhead.tenant_no()", "app_owner"), "error", "function app.f()", "is IMMUTABLE"),
    "immutable-itself": ("ALTER FUNCTION bulkhead.tenant_no() IMMUTABLE", "error", "function bulkhead.tenant_no()", "is IMMUTABLE"),
    "leakproof": (FN.format("LEAKPROOF", "1", "app_owner"), "error", "function app.f()", "is LEAKPROOF"),
    "trigger-of-superuser": ("CREATE FUNCTION app.g() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = app, pg_temp AS 'BEGIN RETURN NEW; END';"
                             "CREATE TRIGGER g BEFORE INSERT ON t42.notes FOR EACH ROW EXECUTE FUNCTION app.g()", "error", "trigger g of t42.notes", "as postgres, whom nothing binds"),
    "trigger-always": ("CREATE FUNCTION app.g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; ALTER FUNCTION app.g() OWNER TO app_owner;"
                       "CREATE TRIGGER g BEFORE INSERT ON app.orders FOR EACH ROW EXECUTE FUNCTION app.g(); ALTER TABLE app.orders ENABLE ALWAYS TRIGGER g",
                       "warning", "trigger g of app.orders", "fires for replicated rows"),
    "foreign-key-disabled": ("ALTER TABLE app.orders DISABLE TRIGGER ALL", "warning", "foreign key orders_tenant_no_customer_fkey of app.orders", "is not checked"),
    "rule": ("CREATE RULE r AS ON DELETE TO app.orders DO ALSO NOTHING", "warning", "rule r of app.orders", "rewrites what tenants write"),
    "event-trigger": ("CREATE FUNCTION app.e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; ALTER FUNCTION app.e() OWNER TO app_owner;"
                      "CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION app.e()", "error", "event trigger e", "runs a function of app_owner"),
    # rights
    "truncate": ("GRANT TRUNCATE ON app.orders TO app_row", "error", "table app.orders", "app_row has TRUNCATE"),
    "references": ("GRANT REFERENCES ON t42.notes TO bh_t42", "error", "table t42.notes", "bh_t42 has REFERENCES"),
    "references-column": ("GRANT REFERENCES (id) ON app.orders TO app_row", "error", "table app.orders", "app_row has REFERENCES"),
    "trigger-right": ("GRANT TRIGGER ON app.orders TO app_row", "error", "table app.orders", "app_row has TRIGGER"),
    "public-table": ("GRANT SELECT ON app.orders TO PUBLIC", "error", "table app.orders", "every login has rights"),
    "public-column": ("GRANT SELECT (id) ON app.orders TO PUBLIC", "error", "table app.orders", "every login has rights"),
    "public-reference": ("GRANT SELECT ON app.countries TO PUBLIC", "warning", "table app.countries", "every login has rights"),
    "public-sequence": ("CREATE SEQUENCE app.s; GRANT USAGE ON SEQUENCE app.s TO PUBLIC", "warning", "sequence app.s", "every login has rights"),
    "grant-option": ("GRANT SELECT ON t42.notes TO bh_t42 WITH GRANT OPTION", "warning", "table t42.notes", "may grant its right SELECT"),
    "shared-written": ("GRANT UPDATE ON app.countries TO bulkhead_pool", "error", "table app.countries", "bulkhead_pool may change it"),
    "other-tenants-table": ("GRANT SELECT ON t42.notes TO bh_t43", "error", "table t42.notes", "is tenant 42's, and bh_t43 has rights"),
    "other-roles-table": ("GRANT SELECT ON t42.notes TO other_login", "error", "table t42.notes", "is tenant 42's, and other_login has rights"),
    "other-tenants-schema": ("GRANT USAGE ON SCHEMA t42 TO bh_t43", "error", "schema t42", "is tenant 42's, and bh_t43 has rights"),
    "public-schema": ("GRANT USAGE ON SCHEMA t42 TO PUBLIC", "error", "schema t42", "is tenant 42's, and PUBLIC has rights"),
    "schema-create-public": ("GRANT CREATE ON SCHEMA app TO PUBLIC", "error", "schema app", "PUBLIC may create objects"),
    "schema-create-tenant": ("GRANT CREATE ON SCHEMA t42 TO bh_t42", "error", "schema t42", "bh_t42 may create objects"),
    "owner-of-a-tenants-table": ("ALTER TABLE t42.orders OWNER TO postgres", "warning", "table t42.orders", "not its owner's"),
    "tenants-function-public": ("CREATE FUNCTION t42.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "warning", "function t42.f()", "every login may call it"),
    "public-database": ("GRANT TEMP ON DATABASE shared1 TO PUBLIC", "warning", "database shared1", "PUBLIC has TEMPORARY"),
    "pool-database": ("GRANT CREATE ON DATABASE shared1 TO bulkhead_pool", "warning", "database shared1", "bulkhead_pool has CREATE"),
    "default-privileges": ("ALTER DEFAULT PRIVILEGES FOR ROLE app_owner IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC",
                           "warning", "default privileges of app_owner in schema app", "give SELECT on new TABLES to PUBLIC"),
    "default-truncate": ("ALTER DEFAULT PRIVILEGES FOR ROLE bh_o42 GRANT TRUNCATE ON TABLES TO bh_t42", "warning", "default privileges of bh_o42", "TRUNCATE on new TABLES to bh_t42"),
    # roles and settings
    "role-attribute": ("ALTER ROLE bh_t42 BYPASSRLS", "error", "role bh_t42", "is a tenant's, and has BYPASSRLS"),
    "pool-attribute": ("ALTER ROLE bulkhead_pool CREATEROLE", "error", "role bulkhead_pool", "is a pool role, and has CREATEROLE"),
    "membership": ("GRANT pg_read_all_data TO bh_t42", "error", "role bh_t42", "a member of pg_read_all_data"),
    "login-attribute": ("INSERT INTO bulkhead.login VALUES ('other_login', 42); ALTER ROLE other_login CREATEDB", "error", "role other_login", "is a tenant's login, and has CREATEDB"),
    "tenant-owns": ("CREATE TABLE app.x (a int PRIMARY KEY); ALTER TABLE app.x OWNER TO bh_t42; SECURITY LABEL FOR bulkhead ON TABLE app.x IS 'shared'",
                    "error", "table app.x", "belongs to bh_t42"),
    "tenant-owns-function": (FN.format("", "1", "bh_t42"), "error", "function app.f()", "belongs to bh_t42"),
    "tenant-owns-schema": ("ALTER SCHEMA app OWNER TO bh_t42", "error", "schema app", "belongs to bh_t42"),
    "system-table": ("GRANT SELECT ON pg_authid TO bh_t42", "error", "role bh_t42", "has SELECT on pg_authid of the system"),
    "truth-table": ("GRANT SELECT ON bulkhead.tenant TO bulkhead_pool", "error", "role bulkhead_pool", "has SELECT on bulkhead.tenant of the system"),
    "system-function": ("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO bh_t42", "error", "role bh_t42", "may call pg_read_file(text) of the system"),
    "tablespace": ("GRANT CREATE ON TABLESPACE pg_default TO bh_t42", "warning", "tablespace pg_default", "bh_t42 may fill it"),
    "parameter": ("GRANT SET ON PARAMETER session_replication_role TO bh_t42", "error", "parameter session_replication_role", "bh_t42 may set it"),
    "secret-of-role": ("ALTER ROLE bh_t42 SET app.api_key = 'SECRET-K'", "error", "setting app.api_key of ROLE bh_t42", "looks like a secret"),
    "secret-of-database": ("ALTER DATABASE shared1 SET app.url = 'postgres://u:SECRET-K@h/d'", "error", "setting app.url of DATABASE shared1", "looks like a secret"),
    "secret-of-both": ("ALTER ROLE bh_t42 IN DATABASE shared1 SET app.password = 'SECRET-K'", "error", "setting app.password of ROLE bh_t42 IN DATABASE shared1", "looks like a secret"),
    # doors
    "extension": ("CREATE EXTENSION dblink", "warning", "extension dblink", "opens files or network"),
    "foreign-server": ("CREATE EXTENSION file_fdw; CREATE SERVER s FOREIGN DATA WRAPPER file_fdw; GRANT USAGE ON FOREIGN SERVER s TO bh_t42",
                       "error", "foreign server s", "bh_t42 may use it"),
    "user-mapping": ("CREATE EXTENSION postgres_fdw; CREATE SERVER s FOREIGN DATA WRAPPER postgres_fdw; CREATE USER MAPPING FOR PUBLIC SERVER s",
                     "error", "user mapping for PUBLIC on s", "with one identity"),
    "publication": ("CREATE PUBLICATION p FOR TABLE app.orders", "warning", "publication p", "sends rows of all tenants"),
    "publication-all": ("CREATE PUBLICATION p FOR ALL TABLES", "warning", "publication p", "sends rows of all tenants"),
    "publication-schema": ("CREATE PUBLICATION p FOR TABLES IN SCHEMA t42", "warning", "publication p", "sends rows of all tenants"),
    "subscription": ("CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false, slot_name = 's'); ALTER SUBSCRIPTION s ENABLE",
                     "warning", "subscription s", "as a superuser"),
    "large-objects": ("SELECT lo_create(0)", "warning", "large objects", "there are 1"),
    "lo-compat": ("SET LOCAL lo_compat_privileges = on", "error", "lo_compat_privileges", "every login may read"),
    "pg-stat-statements": ("CREATE EXTENSION pg_stat_statements", "warning", "view public.pg_stat_statements", "read each other's statements"),
}

# What else a hole makes true, as it should.
BESIDE = {"policy-setting-hidden", "policy-without-check", "index-missing", "owner-passes", "unique-referenced", "foreign-key", "sequence-serial", "foreign-table",
          "foreign-server", "user-mapping", "definer-of-superuser", "no-tenant", "replica-identity-of-a-schema", "inherits", "trigger-of-superuser",
          "membership", "rls-of-a-new-partition", "foreign-key-of-shared", "schema-create-public",
          "no-tenant-public", "pg-stat-statements"}
ADVICE = {"no-tenant", "no-tenant-public", "owner-passes", "sequence", "sequence-serial", "large-objects", "lo-compat"}  # their fix is no SQL


@pytest.fixture(scope="module")
def server():
    it = pgserver.Server()
    try:
        it.make_database("shared1")
        it.make_tenant(42, "acme")
        it.make_tenant(43, "globex")
        it.sql(f"CREATE ROLE bh_o44; CREATE ROLE bh_t44; CREATE SCHEMA t44 AUTHORIZATION bh_o44; GRANT USAGE ON SCHEMA t44 TO bh_t44;"
               "ALTER DEFAULT PRIVILEGES FOR ROLE bh_o44 REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;"
               "ALTER DEFAULT PRIVILEGES FOR ROLE bh_o44 IN SCHEMA t44 GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bh_t44;"
               "ALTER DEFAULT PRIVILEGES FOR ROLE bh_o44 IN SCHEMA t44 GRANT USAGE ON SEQUENCES TO bh_t44;"
               "INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (44, 'shop', 'bh_t44', 't44', 'active');"
               "SET ROLE bh_o44; SET search_path = t44;" + SHOP.read_text())
        yield it
    finally:
        it.close()


@pytest.fixture
def database(server):
    """A cursor in a transaction that is rolled back."""
    connection = server.connect()
    try:
        with connection.cursor() as cursor:
            yield cursor
        connection.rollback()
    finally:
        connection.close()


def lint(cursor):
    cursor.execute(LINT)
    return cursor.fetchall()


def test_the_shop_is_clean(server):
    assert server.sql(LINT) == []
    assert server.sql("SELECT count(*) FROM pg_tables WHERE schemaname = 't44'") == [(10,)]


def test_protected_tables_are_clean(database):
    database.execute(SHARED)
    assert lint(database) == []


@pytest.mark.parametrize("name", HOLES)
def test_a_hole_is_found_and_mended(database, name):
    made, severity, thing, problem = HOLES[name]
    database.execute(SHARED)
    database.execute(made)
    rows = lint(database)
    found = [row for row in rows if row[:2] == (severity, thing) and problem in row[2]]
    assert len(found) == 1, rows
    assert "SECRET-K" not in str(rows)
    if name not in BESIDE:
        assert rows == found
    fix = found[0][3]
    assert fix[0].islower() == (name in ADVICE) and not fix.startswith(tuple("0123456789")), fix
    if name in ADVICE:
        return
    database.execute(fix)
    after, before = lint(database), [row[:3] for row in rows]
    assert found[0][:3] not in [row[:3] for row in after]
    assert not [row for row in after if row[:3] not in before], "the fix makes a new hole"
    if name not in BESIDE:
        assert after == []


def test_a_key_that_others_point_at_is_mended_with_them(database):
    """All that lint says of a table with bigint keys can be done in the order of one pass per fix, and keeps the foreign keys."""
    database.execute(SHARED)
    database.execute("""SET ROLE app_owner;
        CREATE TABLE app.parents (id int PRIMARY KEY, tenant_no int NOT NULL, sibling int REFERENCES app.parents);
        CREATE TABLE app.children (id int PRIMARY KEY, tenant_no int NOT NULL, parent int REFERENCES app.parents ON DELETE SET NULL DEFERRABLE);
        RESET ROLE; INSERT INTO app.parents VALUES (1, 42, 1); INSERT INTO app.children VALUES (1, 42, 1)""")
    for _ in range(20):
        rows = [row for row in lint(database) if row[3][0].isupper()]
        if not rows:
            break
        database.execute([row for row in rows if "unique" in row[2]][0][3] if any("unique" in row[2] for row in rows) else rows[0][3])
    assert lint(database) == []
    database.execute("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' AND conrelid::regclass::text ~ 'parents|children' ORDER BY 1")
    assert [row[0] for row in database.fetchall()] == [
        "FOREIGN KEY (tenant_no, parent) REFERENCES app.parents(tenant_no, id) ON DELETE SET NULL (parent) DEFERRABLE",
        "FOREIGN KEY (tenant_no, sibling) REFERENCES app.parents(tenant_no, id)"]
    database.execute("DELETE FROM app.children; DELETE FROM app.parents")


def test_in_a_database_of_its_own_a_tenant_does_what_it_likes(database):
    """Only what reaches the server is a hole there."""
    database.execute(SHARED)
    database.execute("DELETE FROM bulkhead.tenant; SELECT bulkhead.open_database();"
                     "INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state) VALUES (7, 'own', 'database', 'app_owner', 'app', 'active')")
    for name in ("policy-true", "unique", "truncate", "public-table", "definer-without-path", "materialized-view", "large-objects", "publication", "sequence",
                 "public-sequence"):
        database.execute(f"SAVEPOINT s; {HOLES[name][0]}")
        assert lint(database) == [], name
        database.execute("ROLLBACK TO s")
    for name in ("definer-of-superuser", "event-trigger", "secret-of-database", "pool-attribute", "extension"):
        database.execute(f"SAVEPOINT s; {HOLES[name][0]}")
        assert [row for row in lint(database) if row[:2] == HOLES[name][1:3] and HOLES[name][3] in row[2]], name
        database.execute("ROLLBACK TO s")


def test_only_for_superusers(server):
    connection = server.connect()
    with connection.cursor() as cursor:
        cursor.execute("SET ROLE bh_t42")
        with pytest.raises(Exception, match="permission denied for function lint"):
            cursor.execute(LINT)
    connection.close()
