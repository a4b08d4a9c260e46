"""The corpus of test_attacks.py: what hostile SQL tries, and how a success would show.

A case is (id, path, SQL, leak, control). The attacker is the tenant hooli (44), bound as its *owner* bh_o44, which may
do all that an application may and DDL besides; the victim is globex (43).

path     bound: one transaction of hooli, by the simple protocol and as a pipeline
         after: the same, ended by what the SQL itself says, going on as the pool role
         unbound: the pool role without a tenant, by both protocols
leak     what a hole would show: rows (the victim's secret), write (the victim's or the platform's rows or rights have
         changed), role (somebody else than before), stays (the next tenant on the connection meets it), text (others'
         statements, tokens, files). All five are looked for after each case; this one is what the case is about.
control  SQL that does the same to one's own, in the path `bound`; it must succeed, or the case proves nothing.
"""
from pgserver import PARALLEL

OWN = "SELECT body FROM notes WHERE id = 1"


def rows(name, sql, control=OWN, path="bound"):
    return (name, path, sql, "rows", control)


def write(name, sql, control=OWN, path="bound"):
    return (name, path, sql, "write", control)


def role(name, sql, control=OWN, path="bound"):
    return (name, path, sql, "role", control)


def stays(name, sql, control=OWN, path="bound"):
    return (name, path, sql, "stays", control)


def text(name, sql, control=OWN, path="bound"):
    return (name, path, sql, "text", control)


def own(sql):
    """The same with the attacker's own schema and roles: the usual control."""
    return sql.replace("t43", "t44").replace("bh_o43", "bh_o44")


def like_own(maker, pairs):
    return [maker(name, sql, own(sql)) for name, sql in pairs]


def function(body, options="LANGUAGE plpgsql", call="SELECT x()"):
    return f"CREATE FUNCTION x() RETURNS text {options} AS $f${body}$f$; {call}"


READS = like_own(rows, [
    ("select", "SELECT body FROM t43.notes"),
    ("table", "TABLE t43.notes"),
    ("join", "SELECT b.body FROM notes a JOIN t43.notes b USING (id)"),
    ("cte", "WITH x AS MATERIALIZED (SELECT * FROM t43.notes) SELECT * FROM x"),
    ("lateral", "SELECT * FROM notes a, LATERAL (SELECT body FROM t43.notes b WHERE b.id = a.id) c"),
    ("tablesample", "SELECT * FROM t43.notes TABLESAMPLE SYSTEM (100)"),
    ("ctid", "SELECT * FROM t43.notes WHERE ctid = '(0,1)'"),
    ("whole-row", "SELECT row_to_json(n) FROM t43.notes n"),
    ("insert-select", "INSERT INTO notes (body) SELECT body FROM t43.notes RETURNING body"),
    ("update-from", "UPDATE notes SET body = b.body FROM t43.notes b RETURNING notes.body"),
    ("update-returning", "UPDATE t43.notes SET body = body RETURNING body"),
    ("select-for-update", "SELECT body FROM t43.notes FOR UPDATE"),
    ("merge", "MERGE INTO notes n USING t43.notes b ON n.id = b.id WHEN MATCHED THEN UPDATE SET body = b.body"),
    ("copy-to", "COPY t43.notes TO STDOUT"),
    ("copy-query", "COPY (SELECT body FROM t43.notes) TO STDOUT"),
    ("explain-analyze", "EXPLAIN (ANALYZE, VERBOSE) SELECT body FROM t43.notes"),
    ("cursor", "DECLARE c CURSOR FOR SELECT body FROM t43.notes; FETCH ALL c"),
    ("search-path", "SET LOCAL search_path = t43; SELECT body FROM notes"),
    ("search-path-function", "SELECT set_config('search_path', 't43', true); SELECT body FROM notes"),
    ("query-to-xml", "SELECT query_to_xml('SELECT body FROM t43.notes', true, true, '')"),
    ("table-to-xml", "SELECT table_to_xml('t43.notes', true, true, '')"),
    ("cursor-to-xml", "DECLARE c CURSOR FOR SELECT body FROM t43.notes; SELECT cursor_to_xml('c', 10, true, true, '')"),
    ("ts-stat", "SELECT word FROM ts_stat('SELECT to_tsvector(''simple'', body) FROM t43.notes')"),
    ("ts-rewrite", "SELECT ts_rewrite('a'::tsquery, 'SELECT ''a''::tsquery, to_tsquery(''simple'', body) FROM t43.notes')"),
    ("create-view", "CREATE VIEW v AS SELECT * FROM t43.notes; SELECT * FROM v"),
    ("create-matview", "CREATE MATERIALIZED VIEW v AS SELECT * FROM t43.notes; SELECT * FROM v"),
    ("create-table-as", "CREATE TABLE v AS SELECT * FROM t43.notes; SELECT * FROM v"),
    ("create-rule", "CREATE TABLE v (body text); CREATE RULE r AS ON INSERT TO v DO INSTEAD SELECT body FROM t43.notes; INSERT INTO v VALUES ('x')"),
    ("sql-function", "CREATE FUNCTION x() RETURNS SETOF text LANGUAGE sql AS 'SELECT body FROM t43.notes'; SELECT x()"),
    ("sql-body-function", "CREATE FUNCTION x() RETURNS text RETURN (SELECT max(body) FROM t43.notes); SELECT x()"),
    ("plpgsql-function", function("BEGIN RETURN (SELECT string_agg(body, '') FROM t43.notes); END")),
    ("definer-function", function("BEGIN RETURN (SELECT string_agg(body, '') FROM t43.notes); END", "LANGUAGE plpgsql SECURITY DEFINER")),
    ("immutable-function", function("BEGIN RETURN (SELECT string_agg(body, '') FROM t43.notes); END", "LANGUAGE plpgsql IMMUTABLE")),
    ("function-with-path", function("BEGIN RETURN (SELECT string_agg(body, '') FROM notes); END", "LANGUAGE plpgsql SET search_path = t43")),
    ("dynamic", function("DECLARE r text; BEGIN EXECUTE 'SELECT string_agg(body, '''') FROM ' || quote_ident('t43') || '.notes' INTO r; RETURN r; END")),
    ("do", "DO $$DECLARE r text; BEGIN SELECT string_agg(body, '') INTO r FROM t43.notes; RAISE EXCEPTION USING MESSAGE = r, ERRCODE = 'ZZ002'; END$$"),
    ("procedure", "CREATE PROCEDURE p(INOUT r text) LANGUAGE plpgsql AS $$BEGIN SELECT string_agg(body, '') INTO r FROM t43.notes; END$$; CALL p(NULL)"),
    ("index-expression", "CREATE FUNCTION x(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $f$BEGIN RETURN (SELECT max(body) FROM t43.notes); END$f$;"
                         " CREATE TABLE v (i int); INSERT INTO v VALUES (1); CREATE INDEX ON v (x(i)); ANALYZE v; SELECT x(i) FROM v"),
    ("generated-column", "CREATE FUNCTION x(int) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $f$BEGIN RETURN (SELECT max(body) FROM t43.notes); END$f$;"
                         " CREATE TABLE v (i int, b text GENERATED ALWAYS AS (x(i)) STORED); INSERT INTO v VALUES (1) RETURNING b"),
    ("default", function("BEGIN RETURN (SELECT max(body) FROM t43.notes); END", call="CREATE TABLE v (i int, b text DEFAULT x()); INSERT INTO v VALUES (1) RETURNING b")),
    ("check", "CREATE FUNCTION x(text) RETURNS bool LANGUAGE sql AS 'SELECT max(body) <> $1 FROM t43.notes'; CREATE DOMAIN d AS text CHECK (x(VALUE)); SELECT 'a'::d"),
    ("aggregate", "CREATE FUNCTION x(text, int) RETURNS text LANGUAGE sql AS 'SELECT max(body) FROM t43.notes'; CREATE AGGREGATE g (int) (sfunc = x, stype = text); SELECT g(1)"),
    ("operator", "CREATE FUNCTION x(int, int) RETURNS text LANGUAGE sql AS 'SELECT max(body) FROM t43.notes';"
                 " CREATE OPERATOR @@@ (function = x, leftarg = int, rightarg = int); SELECT 1 OPERATOR(t44.@@@) 1"),
    ("leaky-operator", "CREATE FUNCTION x(text) RETURNS bool COST 0.0000001 LANGUAGE plpgsql AS $f$BEGIN RAISE NOTICE '%', $1; RETURN true; END$f$; SELECT 1 FROM t43.notes WHERE x(body)"),
    ("policy-function", function("BEGIN RETURN (SELECT max(body) FROM t43.notes); END", call="CREATE TABLE v (b text); ALTER TABLE v ENABLE ROW LEVEL SECURITY; SELECT x()")),
    ("trigger-body", "CREATE FUNCTION x() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN NEW.body := (SELECT max(body) FROM t43.notes); RETURN NEW; END$f$;"
                     " CREATE TRIGGER t BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION x(); INSERT INTO notes (body) VALUES ('') RETURNING body"),
    ("exception-block", function("BEGIN PERFORM 1 / 0; EXCEPTION WHEN others THEN RETURN (SELECT max(body) FROM t43.notes); END")),
    ("savepoint", "SAVEPOINT s; SELECT body FROM t43.notes; ROLLBACK TO s; SELECT body FROM t43.notes"),
    ("foreign-key", "CREATE TABLE v (i int REFERENCES t43.notes (id)); INSERT INTO v VALUES (1)"),
    ("inherits", "CREATE TABLE v () INHERITS (t43.notes); SELECT * FROM v"),
    ("sequence", "SELECT last_value FROM t43.orders_id_seq"),
    ("statistics", "CREATE STATISTICS t44.st ON id, body FROM t43.notes"),
    ("prepare-with-hint", "SELECT (SELECT body FROM t43.notes LIMIT 1) IS NOT NULL"),
]) + [
    rows("currtid", "SELECT currtid2('t43.notes', '(0,1)')", "SELECT body FROM t44.notes"),  # nobody's in a shared database
    rows("schema-to-xml", "SELECT schema_to_xml('t43', true, true, '')"),
    rows("database-to-xml", "SELECT database_to_xml(true, true, '')", "SELECT schema_to_xml('t44', true, true, '')"),
    rows("parallel", f"SET LOCAL {PARALLEL} = on; SET LOCAL parallel_setup_cost = 0; SELECT body FROM t43.notes",
         f"SET LOCAL {PARALLEL} = on; SELECT body FROM notes"),
    rows("generic-plan", "SET LOCAL plan_cache_mode = force_generic_plan; SELECT body FROM t43.notes"),
    rows("row-security-off", "SET LOCAL row_security = off; SELECT body FROM t43.notes"),
    rows("pg-stats", "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE schemaname = 't43'",
         "SELECT count(*) FROM pg_stats WHERE schemaname = 'pg_catalog'"),
    rows("pg-statistic", "SELECT * FROM pg_statistic"),
    rows("pg-stats-ext", "SELECT * FROM pg_stats_ext, pg_stats_ext_exprs", "SELECT count(*) FROM pg_stats_ext"),
    rows("pg-statistic-ext-data", "SELECT * FROM pg_statistic_ext_data"),
    rows("pg-largeobject", "SELECT * FROM pg_largeobject"),
    rows("pg-toast", "SELECT * FROM pg_toast.pg_toast_1255"),
    rows("sequence-by-number", "SELECT pg_sequence_last_value(c.oid) FROM pg_class c WHERE relnamespace = 't43'::regnamespace AND relkind = 'S'",
         "SELECT pg_sequence_last_value('t44.orders_id_seq')"),
    rows("information-schema", "SELECT * FROM information_schema.tables WHERE table_schema = 't43'", "SELECT 1 FROM information_schema.tables WHERE table_schema = 't44'"),
]

TEXTS = [
    text("pg-stat-activity", "SELECT query FROM pg_stat_activity"),
    text("stat-get-activity", "SELECT query FROM pg_stat_get_activity(NULL)"),
    text("stat-get-own", "SELECT query FROM pg_stat_get_activity(pg_backend_pid())"),
    text("backend-activity", "SELECT pg_stat_get_backend_activity(i) FROM generate_series(1, 100) i"),
    text("prepared-statements", "SELECT statement FROM pg_prepared_statements"),
    text("prepared-statement-function", "SELECT pg_prepared_statement()"),
    text("locks", "SELECT * FROM pg_locks"),
    text("tenant-table", "SELECT * FROM bulkhead.tenant", "SELECT bulkhead.tenant_no()"),
    text("tenant-table-copy", "COPY bulkhead.tenant TO STDOUT", "COPY notes TO STDOUT"),
    text("tenant-table-statistics", "SELECT * FROM pg_stats WHERE schemaname = 'bulkhead' UNION ALL SELECT null FROM bulkhead.tenant"),
    text("tenant-changed", "SELECT bulkhead.tenant_changed()", "SELECT bulkhead.tenant_id()"),
    text("tenant-trigger", "CREATE TRIGGER x AFTER INSERT ON notes FOR EACH ROW EXECUTE FUNCTION bulkhead.tenant_changed()"),
    text("tenant-reference", "CREATE TABLE v (no int REFERENCES bulkhead.tenant)", "CREATE TABLE v (no int REFERENCES notes)"),
    text("tenant-lock", "LOCK bulkhead.tenant IN ACCESS SHARE MODE"),
    text("key-file-name", "SHOW bulkhead.key_file", "SHOW bulkhead.server"),
    text("key-file-setting", "SELECT current_setting('bulkhead.key_file')", "SELECT current_setting('bulkhead.server')"),
    text("key-file-pg-settings", "SELECT 1 / count(*) FROM pg_settings WHERE name = 'bulkhead.key_file'"),
    text("key-file-loop", "DO $$DECLARE r record; BEGIN FOR r IN SELECT * FROM pg_show_all_settings() LOOP IF r.name = 'bulkhead.key_file' THEN"
         " RAISE EXCEPTION '%', r.setting; END IF; END LOOP; RAISE EXCEPTION 'hidden'; END$$"),
    text("read-file", "SELECT pg_read_file('PG_VERSION')"),
    text("read-binary-file", "SELECT pg_read_binary_file('server-main.key')"),
    text("ls-dir", "SELECT pg_ls_dir('.')"),
    text("ls-log", "SELECT pg_ls_logdir()"),
    text("stat-file", "SELECT pg_stat_file('PG_VERSION')"),
    text("lo-import", "SELECT lo_import('/etc/passwd')"),
    text("copy-file", "COPY notes (body) FROM '/etc/passwd'", "COPY (SELECT 1) TO STDOUT"),
    text("copy-program", "COPY notes (body) FROM PROGRAM 'id'"),
    text("copy-to-program", "COPY notes TO PROGRAM 'id'"),
    text("dictionary-file", "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = synonym, SYNONYMS = '../../../../etc/passwd')",
         "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple)"),
    text("file-settings", "SELECT * FROM pg_file_settings"),
    text("hba", "SELECT * FROM pg_hba_file_rules"),
    text("authid", "SELECT rolpassword FROM pg_authid", "SELECT rolname FROM pg_roles WHERE rolname = 'bh_o44'"),
    text("shadow", "SELECT passwd FROM pg_shadow"),
    text("user-mappings", "SELECT umoptions FROM pg_user_mapping"),
    text("subscription", "SELECT subconninfo FROM pg_subscription"),
    text("memory-contexts", "SELECT * FROM pg_backend_memory_contexts"),
    text("log-memory", "SELECT pg_log_backend_memory_contexts(pg_backend_pid())"),
    text("wal-receiver", "SELECT 1 / count(conninfo) FROM pg_stat_wal_receiver"),
    text("xml-entity", "SELECT xmlparse(document '<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>')::text", "SELECT xmlparse(content '<a/>')"),
    text("xpath-entity", "SELECT xpath('/a/text()', '<!DOCTYPE a [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><a>&x;</a>')"),
    text("logical-slot", "SELECT pg_create_logical_replication_slot('x', 'test_decoding')"),
    text("physical-slot", "SELECT pg_create_physical_replication_slot('x')"),
    text("publication", "CREATE PUBLICATION x FOR ALL TABLES"),
    text("subscription-create", "CREATE SUBSCRIPTION x CONNECTION 'dbname=shared1' PUBLICATION x"),
    text("dblink", "CREATE EXTENSION dblink"),
    text("postgres-fdw", "CREATE EXTENSION postgres_fdw"),
    text("file-fdw", "CREATE EXTENSION file_fdw"),
    text("trusted-extension", "CREATE EXTENSION pgcrypto"),
    text("server", "CREATE SERVER x FOREIGN DATA WRAPPER postgres_fdw"),
    text("plpython", "CREATE FUNCTION x() RETURNS int LANGUAGE plpython3u AS 'return 1'", function("BEGIN RETURN 1; END")),
]

WRITES = like_own(write, [
    ("insert", "INSERT INTO t43.notes (body) VALUES ('x')"),
    ("update", "UPDATE t43.notes SET body = 'x'"),
    ("delete", "DELETE FROM t43.notes"),
    ("truncate", "TRUNCATE t43.notes CASCADE"),
    ("merge-into", "MERGE INTO t43.notes n USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE"),
    ("writable-cte", "WITH w AS (DELETE FROM t43.notes RETURNING 1) SELECT * FROM w"),
    ("nextval", "SELECT nextval('t43.orders_id_seq')"),
    ("setval", "SELECT setval('t43.orders_id_seq', 99)"),
    ("alter-sequence", "ALTER SEQUENCE t43.orders_id_seq RESTART 500"),
    ("drop-table", "DROP TABLE t43.orders"),
    ("drop-schema", "DROP SCHEMA t43 CASCADE"),
    ("alter-table", "ALTER TABLE t43.notes ADD x int"),
    ("create-table", "CREATE TABLE t43.x (i int)"),
    ("create-function", "CREATE FUNCTION t43.x() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("create-trigger", "CREATE FUNCTION x() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER x BEFORE INSERT ON t43.notes FOR EACH ROW EXECUTE FUNCTION x()"),
    ("create-policy", "CREATE POLICY p ON t43.notes"),
    ("create-rule-on", "CREATE RULE r AS ON INSERT TO t43.notes DO ALSO SELECT 1"),
    ("create-index", "CREATE INDEX ON t43.notes (body)"),
    ("grant", "GRANT SELECT ON t43.notes TO PUBLIC"),
    ("grant-schema", "GRANT ALL ON SCHEMA t43 TO bh_o44"),
    ("comment", "COMMENT ON TABLE t43.notes IS 'x'"),
    ("reindex", "REINDEX TABLE t43.notes"),
    ("analyze", "ANALYZE t43.notes; SELECT 1 / count(*) FROM pg_stat_all_tables WHERE schemaname = 't43' AND relname = 'notes' AND analyze_count > 0"),
]) + [
    write("default-privileges", "ALTER DEFAULT PRIVILEGES FOR ROLE bh_o43 GRANT ALL ON TABLES TO PUBLIC"),
    write("lock", "LOCK t43.notes IN ACCESS EXCLUSIVE MODE"),
    write("owner", "ALTER TABLE t43.notes OWNER TO bh_o44"),
    write("rename-schema", "ALTER SCHEMA t43 RENAME TO t99"),
    write("take-schema", "ALTER SCHEMA t43 OWNER TO bh_o44"),
    write("give-table", "ALTER TABLE t44.notes OWNER TO bh_o43"),
    write("give-to-pool", "ALTER TABLE t44.notes OWNER TO SESSION_USER"),
    write("create-schema", "CREATE SCHEMA t99"),
    write("public-schema", "CREATE TABLE public.notes (body text)", "CREATE TABLE t44.x (body text)"),
    write("pg-catalog-table", "CREATE TABLE pg_catalog.notes (body text)", "CREATE TABLE t44.x (body text)"),
    write("pg-catalog-function", "CREATE FUNCTION pg_catalog.x() RETURNS int LANGUAGE sql AS 'SELECT 1'", "CREATE FUNCTION t44.x() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    write("pg-catalog-update", "UPDATE pg_class SET relowner = 'bh_o44'::regrole"),
    write("pg-proc-update", "UPDATE pg_proc SET prosecdef = true"),
    write("system-table-mods", "SET allow_system_table_mods = on"),
    write("bulkhead-schema", "CREATE FUNCTION bulkhead.x() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    write("bulkhead-replace", "CREATE OR REPLACE FUNCTION bulkhead.tenant_no() RETURNS int LANGUAGE sql AS 'SELECT 43'", "CREATE OR REPLACE FUNCTION t44.tenant_no() RETURNS int LANGUAGE sql AS 'SELECT 43'"),
    write("bulkhead-insert", "INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (50, 'x', 'bh_o44', 't43', 'active')"),
    write("bulkhead-update", "UPDATE bulkhead.tenant SET role = 'bh_o43' WHERE no = 44"),
    write("bulkhead-truncate", "TRUNCATE bulkhead.tenant"),
    write("bulkhead-drop", "DROP EXTENSION bulkhead CASCADE"),
    write("bulkhead-alter", "ALTER TABLE bulkhead.tenant DISABLE TRIGGER ALL", "ALTER TABLE notes DISABLE TRIGGER USER"),
    write("bulkhead-owner", "ALTER FUNCTION bulkhead.enter(text) OWNER TO bh_o44"),
    write("event-trigger", "CREATE FUNCTION x() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'; CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION x()",
          "CREATE FUNCTION x() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'"),
    write("cast", "CREATE CAST (int AS text) WITH INOUT AS IMPLICIT"),
    write("default-operator-class", "CREATE OPERATOR CLASS x DEFAULT FOR TYPE text USING btree AS OPERATOR 1 <"),
    write("transform", "CREATE TRANSFORM FOR int LANGUAGE plpgsql (FROM SQL WITH FUNCTION int4in(cstring))"),
    write("shell-type", "CREATE TYPE x"),
    write("base-type", "CREATE TYPE x (INPUT = int4in, OUTPUT = int4out)", "CREATE TYPE x AS (i int)"),
    write("language", "CREATE LANGUAGE x HANDLER plpgsql_call_handler"),
    write("tablespace", "CREATE TABLESPACE x LOCATION '/tmp'"),
    write("database", "CREATE DATABASE x"),
    write("alter-database", "ALTER DATABASE shared1 CONNECTION LIMIT 0"),
    write("drop-database", "DROP DATABASE postgres"),
    write("alter-system", "ALTER SYSTEM SET bulkhead.pool_roles = ''"),
    write("reload", "SELECT pg_reload_conf()"),
    write("switch-wal", "SELECT pg_switch_wal()"),
    write("replica-role", "SET session_replication_role = replica"),
    write("terminate", "SELECT pg_terminate_backend(pg_backend_pid())"),
    write("cancel", "SELECT pg_cancel_backend(pg_backend_pid())"),
    write("drop-owned-pool", "DROP OWNED BY bulkhead_pool"),
    write("reassign-owned", "REASSIGN OWNED BY bh_o43 TO bh_o44"),
    write("parameter", "GRANT SET ON PARAMETER session_replication_role TO bh_o44"),
    write("stat-reset", "SELECT pg_stat_reset()"),
    write("origin", "SELECT pg_replication_origin_session_setup('x')"),
    write("collations", "SELECT pg_import_system_collations('pg_catalog')"),
]

ROLES = [role(name, sql + "; SELECT body FROM t43.notes") for name, sql in [
    ("set-role", "SET ROLE bh_o43"), ("set-local-role", "SET LOCAL ROLE bh_o43"), ("set-role-none", "SET ROLE NONE"), ("reset-role", "RESET ROLE"),
    ("role-default", "SET role TO DEFAULT"), ("set-session", "SET SESSION AUTHORIZATION bh_o43"), ("session-default", "SET SESSION AUTHORIZATION DEFAULT"),
    ("reset-session", "RESET SESSION AUTHORIZATION"), ("reset-all", "RESET ALL"), ("discard-all", "DISCARD ALL"),
    ("config-role", "SELECT set_config('role', 'bh_o43', false)"), ("config-role-local", "SELECT set_config('role', 'bh_o43', true)"),
    ("config-role-none", "SELECT set_config('role', 'none', false)"), ("config-role-null", "SELECT set_config('role', NULL, false)"),
    ("config-session", "SELECT set_config('session_authorization', 'bh_o43', false)"), ("config-session-null", "SELECT set_config('session_authorization', NULL, true)"),
    ("update-pg-settings", "UPDATE pg_settings SET setting = 'bh_o43' WHERE name = 'role'"), ("do-set-role", "DO $$BEGIN EXECUTE 'SET ROLE bh_o43'; END$$"),
    ("do-config-role", "DO $$BEGIN PERFORM set_config('role', NULL, false); END$$"), ("function-set-role", function("BEGIN RETURN 1; END", "LANGUAGE plpgsql SET role = 'bh_o43'")),
    ("function-resets-role", function("BEGIN RESET ROLE; RETURN 1; END")), ("definer-resets-role", function("BEGIN RESET ROLE; RETURN 1; END", "LANGUAGE plpgsql SECURITY DEFINER")),
    ("definer-config-role", function("BEGIN PERFORM set_config('role', 'bh_o43', false); RETURN 1; END", "LANGUAGE plpgsql SECURITY DEFINER")),
    ("caught", function("BEGIN BEGIN RESET ROLE; EXCEPTION WHEN others THEN NULL; END; RETURN current_user; END")),
    ("internal-alias", "CREATE FUNCTION sc(text, text, bool) RETURNS text LANGUAGE internal AS 'set_config_by_name'"),
    ("c-function", "CREATE FUNCTION e(text) RETURNS void LANGUAGE c AS 'bulkhead', 'bh_enter'"),
    ("grant-member", "GRANT bh_o43 TO bh_o44"), ("grant-self", "GRANT bh_o44 TO bulkhead_pool"), ("alter-self", "ALTER ROLE CURRENT_USER SUPERUSER"),
    ("alter-set", "ALTER ROLE bh_o44 SET role = 'bh_o43'"), ("alter-pool", "ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on"),
    ("alter-pool-password", "ALTER ROLE SESSION_USER PASSWORD 'x'"), ("create-role", "CREATE ROLE evil IN ROLE bh_o43"), ("rename-role", "ALTER ROLE bulkhead_pool RENAME TO x"),
    ("create-user-in-do", "DO $$BEGIN EXECUTE 'CREATE USER evil SUPERUSER'; END$$"), ("group", "ALTER GROUP bh_o43 ADD USER bh_o44"),
    ("literal-token", "SET bulkhead.literal_token = on"), ("pool-roles", "SELECT set_config('bulkhead.pool_roles', '', false)"), ("placeholder", "SET bulkhead.tenant_no = 43"),
    ("nested-enter", "SELECT bulkhead.enter('x')"), ("do-enter", "DO $$BEGIN PERFORM bulkhead.enter('x'); END$$"), ("definer-enter", function("BEGIN PERFORM bulkhead.enter('x'); RETURN 1; END", "LANGUAGE plpgsql SECURITY DEFINER")),
    ("commit-in-do", "DO $$BEGIN COMMIT; PERFORM 1; END$$"), ("rollback-in-do", "DO $$BEGIN ROLLBACK; PERFORM 1; END$$"),
    ("commit-in-procedure", "CREATE PROCEDURE p() LANGUAGE plpgsql AS 'BEGIN COMMIT; END'; CALL p()"), ("chain-in-do", "DO $$BEGIN COMMIT AND CHAIN; END$$"),
]]

AFTER = [role(name, sql + "; SELECT body FROM t43.notes", path="after") for name, sql in [
    ("commit", "COMMIT"), ("rollback", "ROLLBACK"), ("commit-chain", "COMMIT AND CHAIN"), ("rollback-chain", "ROLLBACK AND CHAIN"), ("end", "END"), ("abort", "ABORT"),
    ("commit-set-role", "COMMIT; SET ROLE bh_o43"), ("rollback-set-role", "ROLLBACK; SET ROLE bh_o43"), ("commit-discard", "COMMIT; DISCARD ALL"),
    ("commit-reset-role", "COMMIT; RESET ROLE"), ("commit-reset-all", "COMMIT; RESET ALL"), ("commit-begin", "COMMIT; BEGIN; SAVEPOINT s"),
    ("commit-alter-pool", "COMMIT; ALTER ROLE bulkhead_pool PASSWORD 'x'"), ("commit-terminate", "COMMIT; SELECT pg_terminate_backend(1)"),
    ("commit-temp", "COMMIT; CREATE TEMP TABLE notes (body text)"), ("commit-do", "COMMIT; DO $$BEGIN PERFORM 1; END$$"), ("commit-activity", "COMMIT; SELECT query FROM pg_stat_activity"),
    ("commit-own", "COMMIT; SELECT body FROM t44.notes"), ("commit-tenant", "COMMIT; SELECT bulkhead.tenant_no()"), ("commit-prepare", "COMMIT; PREPARE p AS SELECT 1"),
    ("commit-copy", "COMMIT; COPY t43.notes TO STDOUT"), ("commit-session-set", "COMMIT; SET search_path = t43"), ("commit-fetch", "COMMIT; FETCH ALL c"),
    ("prepare-transaction", "PREPARE TRANSACTION 'x'"), ("failed", "SELECT 1 / 0; ROLLBACK"), ("failed-commit", "SELECT 1 / 0; COMMIT"),
]]

POISONS = [stays(name, sql) for name, sql in [
    ("seed", "SET seed = 0.25"), ("seed-config", "SELECT set_config('seed', '0.25', false)"), ("setseed", "SELECT setseed(0.25)"), ("seed-in-do", "DO $$BEGIN PERFORM setseed(0.25); END$$"),
    ("path", "SET search_path = t44"), ("path-config", "SELECT set_config('search_path', 't44', false)"), ("read-only", "SET default_transaction_read_only = on"),
    ("isolation", "SET default_transaction_isolation = serializable"), ("null-equals", "SET transform_null_equals = on"), ("timeout", "SET statement_timeout = 1234"),
    ("lock-timeout", "SET lock_timeout = 1"), ("encoding", "SET client_encoding = 'SQL_ASCII'"), ("strings", "SET standard_conforming_strings = off"),
    ("quote-all", "SET quote_all_identifiers = on"), ("role-in-path", "SET search_path = '$user', t44"), ("messages", "SET client_min_messages = 'error'"),
    ("custom", "SET my.secret = 'SECRET-C'"), ("do-set", "DO $$BEGIN EXECUTE 'SET work_mem = ''77MB'''; END$$"), ("function-set", function("BEGIN PERFORM set_config('work_mem', '77MB', false); RETURN 1; END")),
    ("characteristics", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"), ("replan", "SET plan_cache_mode = force_generic_plan"), ("zone", "SET TIME ZONE 'Asia/Tokyo'"),
    ("prepare", "PREPARE held AS SELECT 'SECRET-C'"), ("hold", "DECLARE c CURSOR WITH HOLD FOR SELECT body FROM notes"), ("listen", "LISTEN spy"), ("notify", "NOTIFY spy, 'SECRET-C'"),
    ("notify-function", "SELECT pg_notify('spy', 'SECRET-C')"), ("advisory", "SELECT pg_advisory_lock(42)"), ("try-advisory", "SELECT pg_try_advisory_lock(42)"),
    ("temp-table", "CREATE TEMP TABLE notes (body text)"), ("temp-view", "CREATE TEMP VIEW notes AS SELECT 'SECRET-C' AS body"), ("temp-function", "CREATE FUNCTION pg_temp.x() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
    ("temp-sequence", "CREATE TEMP SEQUENCE x"), ("temp-type", "CREATE TYPE pg_temp.x AS (i int)"), ("temp-select-into", "SELECT 1 AS i INTO TEMP x"), ("temp-in-do", "DO $$BEGIN CREATE TEMP TABLE x (i int); END$$"),
    ("lastval", "SELECT nextval('orders_id_seq')"), ("load", "LOAD 'plpgsql'"), ("large-object", "SELECT lo_from_bytea(77, 'SECRET-C')"), ("lo-create", "SELECT lo_create(77)"),
    ("snapshot", "SELECT pg_export_snapshot()"), ("deallocate", "DEALLOCATE ALL"), ("discard-sequences", "DISCARD SEQUENCES"), ("error", "SELECT 1 / 0"), ("raise", "DO $$BEGIN RAISE EXCEPTION 'x'; END$$"),
    ("conversion", "CREATE DEFAULT CONVERSION c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8; SET client_encoding = 'LATIN1'"), ("stack", "SET max_stack_depth = 100"),
    ("commit-in-pipeline", "SAVEPOINT a; SET work_mem = '77MB'; RELEASE a"),
]]

UNBOUND = [rows(name, sql, path="unbound") for name, sql in [
    ("victim", "SELECT body FROM t43.notes"), ("own", "SELECT body FROM t44.notes"), ("catalogue", "SELECT prosrc FROM pg_proc"), ("values", "VALUES (1)"), ("subselect", "SELECT (SELECT 1)"),
    ("activity", "SELECT query FROM pg_stat_activity"), ("tenants", "SELECT * FROM bulkhead.tenant"), ("tenant-no", "SELECT bulkhead.tenant_no()"), ("key-file", "SELECT current_setting('bulkhead.key_file')"),
    ("show-key-file", "SHOW bulkhead.key_file"), ("set-role", "SET ROLE bh_o43"), ("set-session", "SET SESSION AUTHORIZATION bh_o43"), ("copy", "COPY t43.notes TO STDOUT"), ("explain", "EXPLAIN SELECT 1"),
    ("do", "DO $$BEGIN END$$"), ("read-file", "SELECT pg_read_file('PG_VERSION')"), ("xml", "SELECT query_to_xml('select 1', true, true, '')"), ("set-config", "SELECT set_config('role', 'bh_o43', false)"),
    ("terminate", "SELECT pg_terminate_backend(pg_backend_pid())"), ("temp", "CREATE TEMP TABLE x (i int)"), ("prepare", "PREPARE p AS SELECT 1"), ("listen", "LISTEN x"), ("lock-table", "LOCK bulkhead.tenant"),
    ("sleep", "SELECT pg_sleep(0)"), ("regclass", "SELECT 'bulkhead.tenant'::regclass::oid"), ("regrole", "SELECT 'bh_o43'::regrole"), ("case", "SELECT CASE WHEN true THEN pg_sleep(0)::text END"),
    ("coalesce", "SELECT coalesce(NULL, set_config('my.x', '1', false))"), ("where", "SELECT 1 WHERE pg_sleep(0) IS NOT NULL"), ("array", "SELECT ARRAY[pg_sleep(0)::text]"), ("operator", "SELECT 'a' OPERATOR(pg_catalog.||) current_query()"),
    ("enter-from", "SELECT * FROM bulkhead.enter('x')"), ("enter-nested", "SELECT coalesce(bulkhead.enter('x')::text, '')"), ("alter-pool", "ALTER ROLE bulkhead_pool PASSWORD 'x'"), ("discard", "DISCARD ALL"),
    ("set-search-path", "SET search_path = t43"), ("literal", "SET bulkhead.literal_token = on"), ("hold", "BEGIN; DECLARE c CURSOR WITH HOLD FOR SELECT 1"), ("snapshot", "BEGIN; SET TRANSACTION SNAPSHOT '1'"),
]]

CASES = [(f"{path}/{leak}/{name}", path, sql, leak, control)
         for group in (READS, TEXTS, WRITES, ROLES, AFTER, POISONS, UNBOUND) for name, path, sql, leak, control in group]
