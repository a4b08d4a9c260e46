"""More of the corpus of attacks.py: what reliability.md 2.2 lists and attacks.py does not say in so many words, tables that all
tenants share (schema app, row-level security), and attacks on what came after version 0.1."""
from attacks import OWN, function, role, rows, stays, text, write
from pgserver import PARALLEL

THEN = "; SELECT body FROM t43.notes; SELECT body FROM app.orders WHERE tenant = 43"
SHARED = "SELECT body FROM app.orders"


def shared(name, sql, control=SHARED):
    return rows("shared-" + name, sql, control)


# A: a tenant that is a setting. Ours is none; the control runs fall here.
CONTEXT = [rows("context-" + name, sql + THEN) for name, sql in [
    ("set", "SET app.tenant = '43'"), ("set-local", "SET LOCAL app.tenant = '43'"), ("config", "SELECT set_config('app.tenant', '43', true)"),
    ("one-statement", "WITH x AS MATERIALIZED (SELECT set_config('app.tenant', '43', true) AS s) SELECT o.body FROM x, LATERAL (SELECT body FROM app.orders WHERE s IS NOT NULL OFFSET 0) o"),
    ("reset-all", "RESET ALL; SET app.tenant = '43'"), ("savepoint", "SAVEPOINT z; SET LOCAL app.tenant = '43'; RELEASE z"),
    ("function-set", "CREATE FUNCTION x() RETURNS text LANGUAGE sql SET app.tenant = '43' AS 'SELECT max(body) FROM app.orders'; SELECT x()"),
    ("pg-settings", "UPDATE pg_settings SET setting = '43' WHERE name = 'app.tenant'"), ("do", "DO $$BEGIN PERFORM set_config('app.tenant', '43', false); END$$"),
    ("alter-role", "ALTER ROLE SESSION_USER SET app.tenant = '43'"), ("prepare", "PREPARE p AS SELECT set_config($1, $2, false); EXECUTE p('app.tenant', '43')"),
    ("procedure", "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$BEGIN COMMIT; SET app.tenant = '43'; END$$; CALL p()"),
    ("caught", "DO $$BEGIN PERFORM 1 / 0; EXCEPTION WHEN others THEN PERFORM set_config('app.tenant', '43', false); END$$"),
    ("our-own-name", "SELECT set_config('bulkhead.tenant', '43', true); SELECT set_config('bulkhead.tenant_no', '43', true)"),
    ("our-key", "SELECT set_config('bulkhead.key_file', '/tmp/x', true)"), ("our-server", "SET LOCAL bulkhead.server = 'other'"),
    ("our-age", "SET LOCAL bulkhead.max_transaction_age = 86400"), ("our-pooler", "SET LOCAL bulkhead.pooler = 'pgbouncer'"),
    ("our-token", "SELECT set_config('bulkhead.literal_token', 'on', true)"),
]] + [role("context-" + name, sql + THEN, path="after") for name, sql in [
    ("commit-discard-set", "COMMIT; DISCARD ALL; SET app.tenant = '43'"), ("commit-set", "COMMIT; SET app.tenant = '43'"),
    ("rollback-to", "SAVEPOINT a; SELECT 1 / 0; ROLLBACK TO a; COMMIT; SELECT set_config('app.tenant', '43', false)"),
]]

# B: more ways to another role.
ROLES = [role(name, sql + THEN) for name, sql in [
    ("reset-then-set", "RESET ROLE; SET ROLE bh_o43"), ("none-then-set", "SET ROLE NONE; SET ROLE bh_o43"), ("local-none", "SET LOCAL ROLE NONE"),
    ("reset-session-then-set", "RESET SESSION AUTHORIZATION; SET ROLE bh_o43"), ("session-default-then-set", "SET SESSION AUTHORIZATION DEFAULT; SET ROLE bh_o43"),
    ("local-session", "SET LOCAL SESSION AUTHORIZATION bh_o43"), ("execute-set-role", "PREPARE p AS SELECT set_config('role', $1, false); EXECUTE p('bh_o43')"),
    ("grant-then-set", "GRANT bh_o43 TO bh_o44; SET ROLE bh_o43"), ("cursor-then-set", "DECLARE c CURSOR FOR SELECT body FROM notes; SET ROLE bh_o43; FETCH c"),
    ("definer-execute", function("BEGIN EXECUTE 'SET ROLE bh_o43'; RETURN 1; END", "LANGUAGE plpgsql SECURITY DEFINER")),
    ("function-set-role-reads", function("BEGIN RETURN (SELECT max(body) FROM t43.notes); END", "LANGUAGE plpgsql SET role = 'bh_o43'")),
    ("procedure-set", "CREATE PROCEDURE p() LANGUAGE plpgsql AS $$BEGIN COMMIT; SET ROLE bh_o43; END$$; CALL p()"),
    ("bypassrls", "ALTER ROLE bh_o44 BYPASSRLS"), ("database-role", "ALTER DATABASE shared1 SET role = 'bh_o43'"), ("all-role", "ALTER ROLE ALL SET role = 'bh_o43'"),
    ("user-mapping", "CREATE USER MAPPING FOR CURRENT_USER SERVER x"), ("set-user", "SELECT reset_user(); SELECT set_user('bh_o43')"),
    ("reset-in-savepoint", "SAVEPOINT a; RESET ROLE; ROLLBACK TO a; RESET ROLE"), ("function-from-current", "CREATE FUNCTION x() RETURNS int LANGUAGE sql SET role FROM CURRENT AS 'SELECT 1'; SELECT x()"),
    ("function-session", "CREATE FUNCTION x() RETURNS int LANGUAGE sql SET session_authorization = 'bh_o43' AS 'SELECT 1'; SELECT x()"),
    ("security-label", "SECURITY LABEL FOR bulkhead ON ROLE bh_o44 IS 'shared'"), ("trigger-set-role",
     "CREATE FUNCTION x() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SET LOCAL ROLE bh_o43'; RETURN NEW; END$$;"
     " CREATE TRIGGER t BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION x(); INSERT INTO notes (body) VALUES ('x')"),
    ("deferred-set-role", "CREATE FUNCTION x() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN EXECUTE 'SET LOCAL ROLE bh_o43'; INSERT INTO notes SELECT 9, body FROM t43.notes; RETURN NULL; END$$;"
     " CREATE CONSTRAINT TRIGGER t AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION x(); INSERT INTO notes (body) VALUES ('x'); SET CONSTRAINTS ALL IMMEDIATE"),
]]

# C: a table that all tenants share.
LEAK = "CREATE FUNCTION x(text) RETURNS bool LANGUAGE plpgsql COST 0.0000001 AS $f$BEGIN RAISE NOTICE '%', $1; RETURN true; END$f$; "
RLS = [shared(name, sql, control) for name, sql, control in [
    ("select", "SELECT * FROM app.orders", SHARED), ("where", "SELECT * FROM app.orders WHERE tenant = 43", SHARED), ("off", "SET LOCAL row_security = off; SELECT * FROM app.orders", SHARED),
    ("leaky", LEAK + "SELECT 1 FROM app.orders WHERE x(body)", LEAK + "SELECT 1 FROM app.orders WHERE x(body)"),
    ("leaky-operator", LEAK + "CREATE FUNCTION y(text, text) RETURNS bool LANGUAGE sql COST 0.0000001 AS 'SELECT x($1)'; CREATE OPERATOR === (function = y, leftarg = text, rightarg = text);"
     " SELECT 1 FROM app.orders WHERE body OPERATOR(t44.===) 'a'", SHARED),
    ("cast-error", "SELECT * FROM app.orders WHERE body::int = 1", SHARED), ("side-channel", "SELECT 1 / (CASE WHEN body = 'SECRET-B' THEN 0 ELSE 1 END), 'SECRET-B seen'::text FROM app.orders WHERE tenant = 43", SHARED),
    ("copy", "COPY app.orders TO STDOUT", "COPY app.orders TO STDOUT"), ("copy-query", "COPY (SELECT * FROM app.orders) TO STDOUT", SHARED),
    ("update", "UPDATE app.orders SET body = body RETURNING *", "UPDATE app.orders SET body = body RETURNING *"), ("delete", "DELETE FROM app.orders WHERE tenant = 43 RETURNING *", SHARED),
    ("insert-for", "INSERT INTO app.orders (tenant, email, body) VALUES (43, 'x', 'x') RETURNING *", "INSERT INTO app.orders (email, body) VALUES ('x', 'x') RETURNING *"),
    ("give-away", "UPDATE app.orders SET tenant = 43", "UPDATE app.orders SET tenant = 44"),
    ("conflict", "INSERT INTO app.orders (tenant, email, body) VALUES (43, 'bob@b.example', 'x') ON CONFLICT (tenant, email) DO UPDATE SET body = app.orders.body RETURNING *",
     "INSERT INTO app.orders (email, body) VALUES ('bob@b.example', 'x') ON CONFLICT (tenant, email) DO UPDATE SET body = app.orders.body RETURNING *"),
    ("merge", "MERGE INTO app.orders o USING (SELECT 43 AS t) s ON o.tenant = s.t WHEN MATCHED THEN UPDATE SET body = 'x' WHEN NOT MATCHED THEN INSERT (tenant, email) VALUES (43, 'y')", SHARED),
    ("merge-delete", "MERGE INTO app.orders o USING (SELECT 43 AS t) s ON true WHEN MATCHED AND o.tenant = 43 THEN DELETE", SHARED),
    ("truncate", "TRUNCATE app.orders", SHARED), ("references", "CREATE TABLE fk (t int, e text, FOREIGN KEY (t, e) REFERENCES app.orders (tenant, email)); INSERT INTO fk VALUES (43, 'bob@b.example')", SHARED),
    ("lock", "LOCK TABLE app.orders IN ACCESS EXCLUSIVE MODE", SHARED), ("view", "CREATE VIEW v AS SELECT * FROM app.orders; SELECT * FROM v", "CREATE VIEW v AS SELECT * FROM app.orders; SELECT * FROM v"),
    ("view-invoker", "CREATE VIEW v WITH (security_invoker = true) AS SELECT * FROM app.orders; SELECT * FROM v", SHARED),
    ("barrier-view", "CREATE VIEW v WITH (security_barrier = false) AS SELECT * FROM app.orders WHERE t44.x(body); SELECT * FROM v", SHARED),
    ("matview", "CREATE MATERIALIZED VIEW v AS SELECT * FROM app.orders; SELECT * FROM v", "CREATE MATERIALIZED VIEW v AS SELECT body FROM app.orders; SELECT * FROM v"),
    ("rule", "CREATE RULE r AS ON SELECT TO app.orders DO INSTEAD SELECT 1", SHARED), ("trigger", "CREATE TRIGGER t BEFORE INSERT ON app.orders FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()", SHARED),
    ("disable", "ALTER TABLE app.orders DISABLE ROW LEVEL SECURITY; SELECT * FROM app.orders", SHARED), ("no-force", "ALTER TABLE app.orders NO FORCE ROW LEVEL SECURITY", SHARED),
    ("policy", "CREATE POLICY p ON app.orders USING (true); SELECT * FROM app.orders", SHARED), ("drop-policy", "DROP POLICY own ON app.orders; SELECT * FROM app.orders", SHARED),
    ("owner", "ALTER TABLE app.orders OWNER TO bh_o44", SHARED), ("index", "CREATE INDEX ON app.orders (body)", SHARED), ("inherits", "CREATE TABLE v () INHERITS (app.orders)", SHARED),
    ("inherit", "CREATE TABLE v (LIKE app.orders INCLUDING ALL); ALTER TABLE v INHERIT app.orders", "CREATE TABLE v (LIKE app.orders INCLUDING ALL)"), ("partition", "CREATE TABLE v PARTITION OF app.orders DEFAULT", SHARED),
    ("tablesample", "SELECT * FROM app.orders TABLESAMPLE BERNOULLI (100)", SHARED), ("ctid", "SELECT * FROM app.orders WHERE ctid = ANY (ARRAY['(0,1)', '(0,2)', '(0,3)']::tid[])", SHARED),
    ("ctid-join", "SELECT o.* FROM generate_series(0, 9) b, generate_series(1, 99) i, app.orders o WHERE o.ctid = format('(%s,%s)', b, i)::tid", SHARED),
    ("table-to-xml", "SELECT table_to_xml('app.orders', true, true, '')", "SELECT table_to_xml('app.orders', true, true, '')"), ("schema-to-xml", "SELECT schema_to_xml('app', true, true, '')", SHARED),
    ("ts-stat", "SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', body) FROM app.orders')", SHARED), ("row-json", "SELECT json_agg(o) FROM app.orders o", SHARED),
    ("parallel", f"SET LOCAL {PARALLEL} = on; SELECT * FROM app.orders", f"SET LOCAL {PARALLEL} = on; SELECT count(*) FROM app.orders"),
    ("statistics", "SELECT most_common_vals, histogram_bounds FROM pg_stats WHERE schemaname = 'app'", "SELECT count(*) FROM pg_stats"),
    ("tenant-function", "CREATE FUNCTION tenant_no() RETURNS int LANGUAGE sql AS 'SELECT 43'; SET LOCAL search_path = t44, bulkhead; SELECT * FROM app.orders", SHARED),
    ("definer-caller", function("BEGIN RETURN (SELECT string_agg(body, '') FROM app.orders); END", "LANGUAGE plpgsql SECURITY DEFINER"), SHARED),
    ("generic", "SET LOCAL plan_cache_mode = force_generic_plan; SELECT * FROM app.orders", SHARED), ("definer-helper", "SELECT app.helper()", "SELECT app.helper()"),
    ("helper-path", "CREATE FUNCTION t44.length(text) RETURNS int LANGUAGE sql AS 'SELECT 1'; SET LOCAL search_path = t44, pg_catalog; SELECT app.helper()", "SELECT app.helper()"),
    ("invoker-view", "SELECT * FROM app.orders_view", "SELECT * FROM app.orders_view"), ("leaky-view", LEAK + "SELECT * FROM app.orders_view WHERE x(body)", SHARED),
    ("join-leak", "SELECT a.body FROM app.orders a JOIN app.orders b ON b.tenant = 43 AND a.body < b.body", SHARED), ("lateral-error", "SELECT (SELECT body::int FROM app.orders o WHERE o.tenant = 43)", SHARED),
    ("window", "SELECT lag(body) OVER (), lead(body) OVER () FROM app.orders", SHARED), ("set-returning", "SELECT (SELECT (json_populate_record(NULL::app.orders, row_to_json(o))).body FROM app.orders o WHERE tenant = 43)", SHARED),
    ("cursor-current", "DECLARE c CURSOR FOR SELECT * FROM app.orders FOR UPDATE; FETCH ALL c; UPDATE app.orders SET body = 'x' WHERE CURRENT OF c", SHARED),
    ("currtid", "SELECT currtid2('app.orders', '(0,1)')", SHARED), ("copy-in", "COPY app.orders (tenant, email) FROM STDIN", SHARED),
]]

# F: code that others run for the tenant, or the tenant for others.
OTHERS_CODE = [write(name, sql) for name, sql in [
    ("cast-of-others", "CREATE CAST (text AS int) WITH INOUT AS IMPLICIT"), ("alter-function-of-app", "ALTER FUNCTION app.helper() SECURITY INVOKER"),
    ("replace-helper", "CREATE OR REPLACE FUNCTION app.helper() RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'"), ("create-in-app", "CREATE TABLE app.x (i int)"),
    ("comment-on-role", "COMMENT ON ROLE bh_o43 IS 'x'"), ("index-function-swap", "ALTER TABLE notes OWNER TO postgres"), ("vacuum-others", "VACUUM t43.notes"), ("cluster-others", "CLUSTER t43.notes"),
    ("snapshot-import", "SET TRANSACTION SNAPSHOT '00000003-0000001B-1'"), ("logical-message", "SELECT pg_logical_emit_message(false, 'a', 'b')"),
    ("promote", "SELECT pg_promote()"), ("backup", "SELECT pg_backup_start('x')"), ("rotate", "SELECT pg_rotate_logfile()"), ("restore-point", "SELECT pg_create_restore_point('x')"),
    ("wal-pause", "SELECT pg_wal_replay_pause()"), ("stat-reset-shared", "SELECT pg_stat_reset_shared('bgwriter')"), ("stat-reset-table", "SELECT pg_stat_reset_single_table_counters('t43.notes'::regclass)"),
    ("foreign-table", "CREATE FOREIGN TABLE x (i int) SERVER x"), ("access-method", "CREATE ACCESS METHOD x TYPE TABLE HANDLER heap_tableam_handler"),
    ("operator-family", "CREATE OPERATOR FAMILY x USING btree"), ("text-search-template", "CREATE TEXT SEARCH TEMPLATE x (LEXIZE = dsimple_lexize)"),
    ("alter-language", "ALTER LANGUAGE plpgsql OWNER TO bh_o44"), ("import-schema", "IMPORT FOREIGN SCHEMA x FROM SERVER y INTO t44"),
    ("shell-conversion", "CREATE DEFAULT CONVERSION pg_catalog.c FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8"), ("vacuum-all", "VACUUM"), ("checkpoint", "CHECKPOINT"),
]] + [text(name, sql, control) for name, sql, control in [
    ("ls-waldir", "SELECT * FROM pg_ls_waldir()", OWN), ("ls-tmpdir", "SELECT * FROM pg_ls_tmpdir()", OWN), ("current-logfile", "SELECT 1 / length(pg_current_logfile())", OWN),
    ("config", "SELECT setting FROM pg_config() WHERE name = 'CONFIGURE' AND 1 / 0 = 1", OWN), ("hba-function", "SELECT * FROM pg_hba_file_rules()", OWN), ("ident", "SELECT * FROM pg_ident_file_mappings", OWN),
    ("shmem", "SELECT * FROM pg_shmem_allocations", OWN), ("replication-slots", "SELECT * FROM pg_get_replication_slots()", OWN), ("foreign-server-options", "SELECT srvoptions FROM pg_foreign_server", OWN),
    ("db-role-setting-secret", "SELECT setconfig FROM pg_db_role_setting WHERE setconfig::text LIKE '%SECRET-B%'", OWN), ("statistic-objects", "SELECT stxexprs FROM pg_statistic_ext", OWN),
    ("get-object", "SELECT pg_get_object_address('role', '{bh_o43}', '{}')", OWN), ("waldump", "CREATE EXTENSION pg_walinspect", OWN), ("buffercache", "CREATE EXTENSION pg_buffercache", OWN),
    ("adminpack", "CREATE EXTENSION adminpack", OWN), ("pageinspect", "CREATE EXTENSION pageinspect", OWN), ("stat-statements", "CREATE EXTENSION pg_stat_statements", OWN),
    ("dictionary-thesaurus", "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = thesaurus, DictFile = '../../../../etc/passwd', Dictionary = simple)", OWN),
    ("dictionary-ispell", "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = ispell, DictFile = '../../x', AffFile = 'y')", OWN), ("dictionary-stop", "CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple, STOPWORDS = '../../../../../etc/passwd')", OWN),
]]

# What came after 0.1: labels, protect(), usage, audit, the drivers' list.
NEW = [write(name, sql, control) for name, sql, control in [
    ("label-own", "SECURITY LABEL FOR bulkhead ON TABLE notes IS 'shared'", OWN), ("label-victims", "SECURITY LABEL FOR bulkhead ON TABLE t43.notes IS 'shared'", OWN),
    ("label-shared", "SECURITY LABEL ON TABLE app.orders IS 'shared'", OWN), ("label-view", "CREATE VIEW v AS SELECT 1; SECURITY LABEL FOR bulkhead ON VIEW v IS 'shared'", OWN),
    ("label-in-do", "DO $$BEGIN EXECUTE 'SECURITY LABEL FOR bulkhead ON TABLE notes IS ''shared'''; END$$", OWN), ("label-insert", "INSERT INTO pg_seclabel VALUES (1, 1, 0, 'bulkhead', 'shared')", OWN),
    ("protect", "SELECT bulkhead.protect('notes', 'id')", OWN), ("unprotect", "SELECT bulkhead.unprotect('app.orders')", OWN), ("protect-victims", "SELECT bulkhead.protect('t43.notes', 'id')", OWN),
    ("fence", "CALL bulkhead.fence(43, 99)", OWN), ("fence-own", "CALL bulkhead.fence(44, 99)", OWN), ("usage-reset", "DELETE FROM bulkhead.usage", OWN), ("audit-clear", "SELECT bulkhead.audit_reset()", OWN),
    ("label-drop", "SECURITY LABEL FOR bulkhead ON TABLE app.orders IS NULL", OWN),
]] + [text(name, sql) for name, sql in [
    ("usage", "SELECT 'SCRAM-SHA-256$', * FROM bulkhead.usage"), ("audit", "SELECT 'SCRAM-SHA-256$', * FROM bulkhead.audit_read(0)"), ("audit-state", "SELECT 'SCRAM-SHA-256$', * FROM bulkhead.audit_state()"),
    ("selfcheck", "SELECT 'SCRAM-SHA-256$', * FROM bulkhead.selfcheck() UNION ALL SELECT 'SCRAM-SHA-256$', '', '', ''"), ("lint", "SELECT 'SCRAM-SHA-256$', * FROM bulkhead.lint() UNION ALL SELECT 'SCRAM-SHA-256$', '', '', '', ''"),
    ("reserved", "SELECT 'SCRAM-SHA-256$', bulkhead.reserved_functions()"), ("key-problem", "SELECT 'SCRAM-SHA-256$', bulkhead.key_file_problem()"), ("pool-role", "SELECT 'SCRAM-SHA-256$', bulkhead.is_pool_role('x')"),
    ("copy-usage", "COPY (SELECT 'SCRAM-SHA-256$', * FROM bulkhead.usage) TO STDOUT"),
]] + [stays(name, sql, control) for name, sql, control in [
    ("lock", "SELECT bulkhead.lock(1)", "SELECT bulkhead.lock(1)"), ("lock-many", "SELECT bulkhead.lock(g) FROM generate_series(1, 100) g", "SELECT bulkhead.lock(g) FROM generate_series(1, 9) g"),
    ("lock-savepoint", "SAVEPOINT a; SELECT bulkhead.lock(1); ROLLBACK TO a; SELECT bulkhead.try_lock(1)", OWN), ("lock-in-do", "DO $$BEGIN PERFORM bulkhead.lock(3); PERFORM 1 / 0; EXCEPTION WHEN others THEN NULL; END$$", OWN),
    ("unlock-all", "SELECT bulkhead.lock(1); SELECT pg_advisory_unlock_all()", OWN), ("unlock", "SELECT bulkhead.lock(1); SELECT pg_advisory_unlock(1)", OWN),
    ("jit", "SELECT set_config('jit', 'off', false)", "SELECT set_config('jit', 'off', false)"), ("float-digits", "SET extra_float_digits = 0", "SET LOCAL extra_float_digits = 0"),
    ("placeholders", "SELECT set_config('evil.n' || g, 'SECRET-C', true) FROM generate_series(1, 50) g", "SELECT set_config('evil.a', 'x', true)"),
    ("max-subtransactions", "DO $$BEGIN FOR i IN 1..100 LOOP BEGIN PERFORM 1; EXCEPTION WHEN others THEN NULL; END; END LOOP; END$$", OWN),
    ("limits-up", "SET LOCAL work_mem = '8GB'", "SET LOCAL work_mem = '64kB'"), ("timeouts-off", "SET LOCAL statement_timeout = 0", "SET LOCAL statement_timeout = '1s'"),
    ("limits-null", "SELECT set_config('statement_timeout', NULL, true)", OWN), ("file-limit", "SET LOCAL temp_file_limit = -1", OWN),
]]

UNBOUND = [rows("more-" + name, sql, path="unbound") for name, sql in [
    ("five-then-read", "SELECT set_config('TimeZone', 'UTC', false), body FROM t43.notes"), ("five-role", "SELECT set_config('TimeZone', set_config('role', 'bh_o43', false), false)"),
    ("five-expression", "SELECT set_config('TimeZone', (SELECT body FROM t43.notes), false)"), ("float-digits-multi", "SET extra_float_digits = 3; SELECT body FROM t43.notes"),
    ("fetch", "FETCH ALL c"), ("declare", "BEGIN; DECLARE c CURSOR FOR SELECT body FROM t43.notes; FETCH c"), ("execute", "EXECUTE victims"), ("call", "CALL bulkhead.fence(43, 9)"),
    ("label", "SECURITY LABEL FOR bulkhead ON TABLE t43.notes IS 'shared'"), ("comment", "COMMENT ON ROLE bulkhead_pool IS 'x'"), ("usage", "SELECT * FROM bulkhead.usage"),
    ("shared", "SELECT body FROM app.orders"), ("shared-copy", "COPY app.orders TO STDOUT"), ("insert", "INSERT INTO app.orders (tenant, email) VALUES (43, 'x')"),
    ("create-table-as", "CREATE TABLE x AS SELECT 1"), ("explain-execute", "EXPLAIN ANALYZE EXECUTE victims"), ("refresh", "REFRESH MATERIALIZED VIEW x"), ("checkpoint", "CHECKPOINT"),
    ("notify", "NOTIFY x, 'y'"), ("lock-function", "SELECT bulkhead.lock(1)"), ("grant", "GRANT bulkhead_pool TO bh_o44"), ("rename", "ALTER ROLE bulkhead_pool RENAME TO y"),
    ("schema", "CREATE SCHEMA z"), ("import", "IMPORT FOREIGN SCHEMA x FROM SERVER y INTO z"), ("truncate", "TRUNCATE t43.notes"), ("reindex", "REINDEX SYSTEM shared1"), ("vacuum", "VACUUM"),
    ("cluster", "CLUSTER"), ("analyze", "ANALYZE"), ("prepare-transaction", "BEGIN; PREPARE TRANSACTION 'y'"), ("commit-prepared", "COMMIT PREPARED 'x'"), ("savepoint-enter", "BEGIN; SAVEPOINT a; SELECT bulkhead.enter('x')"),
    ("json-cast", "SELECT '{\"a\": 1}'::json -> 'a', '(1,2)'::t43.notes"), ("row-type", "SELECT NULL::t43.notes"), ("regproc-default", "SELECT 'pg_sleep'::regproc"), ("xml", "SELECT xmlparse(content 'x')"),
    ("large-repeat", "SELECT 'a' || 'b' FROM pg_class"), ("limit", "SELECT 1 LIMIT pg_sleep(0)::text::int"), ("offset", "SELECT 1 OFFSET 0"), ("order", "SELECT 1 ORDER BY pg_sleep(0)"),
    ("grouping", "SELECT count(*)"), ("window", "SELECT row_number() OVER ()"), ("set-returning", "SELECT generate_series(1, 2)"), ("union", "SELECT 1 UNION SELECT 2"), ("cte", "WITH x AS (SELECT 1) SELECT 1"),
]]

# Others' code. Comments, defaults, checks and labels stay to be seen (doc/contract/database.md).
METADATA = [text(name, sql) for name, sql in [
    ("function-body", "SELECT pg_get_functiondef('t43.hidden'::regproc)"), ("function-body-by-number", "SELECT pg_get_functiondef(oid) FROM pg_proc WHERE pronamespace = to_regnamespace('t43')"),
    ("function-source", "SELECT prosrc FROM pg_proc WHERE pronamespace = to_regnamespace('t43')"), ("function-sql", "SELECT pg_get_function_sqlbody(oid) FROM pg_proc"), ("whole-row", "SELECT p FROM pg_proc p"),
    ("view-body", "SELECT pg_get_viewdef(oid) FROM pg_class WHERE relnamespace = to_regnamespace('t43')"), ("view-source", "SELECT definition FROM pg_views WHERE schemaname = 't43'"),
    ("rule-source", "SELECT pg_get_ruledef(oid) FROM pg_rewrite"), ("rule-tree", "SELECT ev_action FROM pg_rewrite"), ("routines", "SELECT routine_definition FROM information_schema.routines WHERE routine_schema = 't43'"),
    ("views", "SELECT view_definition FROM information_schema.views WHERE table_schema = 't43'"), ("copy-source", "COPY pg_proc TO STDOUT"), ("json-source", "SELECT row_to_json(p) FROM pg_proc p"),
]]

CASES = [(f"{path}/{leak}/{name}", path, sql, leak, control)
         for group in (CONTEXT, ROLES, RLS, OTHERS_CODE, NEW, UNBOUND, METADATA) for name, path, sql, leak, control in group]
