"""Generated attacks: primitive × position × wrappers, drawn from a seed, so that a failure can be had again.

A primitive is an expression that reads, writes or becomes what it must not; a position makes a statement of it; up to three wrappers
carry the statement. Half of them end with a look at the victim's rows: who has become somebody else sees them.
"""
import random

from pgserver import PARALLEL

# Expressions of type text that would show the victim's mark, or change something of his.
READS = [
    "(SELECT max(body) FROM t43.notes)", "(SELECT string_agg(n::text, '') FROM t43.notes n)", "(TABLE t43.notes LIMIT 1)::text", "(SELECT max(body) FROM app.orders WHERE tenant = 43)",
    "(SELECT string_agg(o::text, '') FROM app.orders o)", "(SELECT max(body) FROM app.orders_view WHERE tenant = 43)", "query_to_xml('SELECT * FROM t43.notes', true, true, '')::text",
    "query_to_xml('SELECT * FROM app.orders', true, true, '')::text", "table_to_xml('t43.notes', true, true, '')::text", "(SELECT string_agg(word, '') FROM ts_stat('SELECT to_tsvector(''simple'', body) FROM t43.notes'))",
    "(SELECT last_value::text FROM t43.orders_id_seq)", "currtid2('t43.notes', '(0,1)')::text", "set_config('role', 'bh_o43', true)", "set_config('role', NULL, true)",
    "set_config('session_authorization', 'bh_o43', false)", "set_config('search_path', 't43', true)", "set_config('search_path', 't43', false)", "set_config('row_security', 'off', true)",
    "set_config('work_mem', '3MB', false)", "set_config('statement_timeout', '0', true)", "set_config('app.tenant', '43', true)", "set_config('bulkhead.literal_token', 'on', false)",
    "nextval('t43.orders_id_seq')::text", "setval('t43.orders_id_seq', 77)::text", "pg_advisory_lock(42)::text", "pg_notify('spy', 'SECRET-C')::text", "lo_from_bytea(77, 'SECRET-C')::text", "setseed(0.25)::text",
    "pg_terminate_backend(pg_backend_pid())::text", "bulkhead.enter('x')::text", "(SELECT max(id) FROM bulkhead.tenant)", "(SELECT string_agg(query, '') FROM pg_stat_activity)",
    "(SELECT string_agg(statement, '') FROM pg_prepared_statements)", "current_setting('bulkhead.key_file')", "pg_read_file('/etc/passwd')", "(SELECT string_agg(rolpassword, '') FROM pg_authid)",
    "bulkhead.lock(7)::text", "(SELECT body FROM notes LIMIT 1)", "lastval()::text", "nextval('orders_id_seq')::text", "pg_export_snapshot()", "(SELECT string_agg(most_common_vals::text, '') FROM pg_stats WHERE schemaname IN ('t43', 'app'))",
    "schema_to_xml('t43', true, true, '')::text", "database_to_xml(true, true, '')::text", "pg_logical_emit_message(true, 'a', 'b')::text", "pg_reload_conf()::text", "(SELECT string_agg(v::text, '') FROM pg_largeobject v)",
    "pg_create_logical_replication_slot('x', 'test_decoding')::text", "(SELECT string_agg(x::text, '') FROM bulkhead.usage x)", "(SELECT string_agg(x::text, '') FROM bulkhead.audit_read(0) x)", "txid_current()::text",
    "(SELECT max(b) FROM t43.hidden_table)", "(SELECT max(b) FROM t43.hidden_view)", "t43.hidden()", "(SELECT body FROM t43.notes FOR UPDATE)",
]
COMMANDS = [
    "RESET ROLE", "SET LOCAL ROLE bh_o43", "SET ROLE NONE", "SET SESSION AUTHORIZATION DEFAULT", "RESET ALL", "DISCARD ALL", "DISCARD TEMP", "SET search_path = t43", "SET LOCAL search_path = t43", "LISTEN spy", "NOTIFY spy, 'x'",
    "CREATE TEMP TABLE notes (id int, body text)", "CREATE TEMP VIEW notes AS SELECT 1 AS id, 'TROJAN' AS body", "PREPARE held AS SELECT 'SECRET-C'", "DECLARE held CURSOR WITH HOLD FOR SELECT 1", "LOCK TABLE t43.notes",
    "INSERT INTO t43.notes (body) VALUES ('x')", "UPDATE t43.notes SET body = 'x'", "DELETE FROM t43.notes", "TRUNCATE t43.notes CASCADE", "INSERT INTO app.orders (tenant, email) VALUES (43, 'x')", "UPDATE app.orders SET tenant = 43",
    "DELETE FROM app.orders WHERE tenant = 43", "MERGE INTO t43.notes n USING (SELECT 1) s ON true WHEN MATCHED THEN DELETE", "ALTER TABLE app.orders DISABLE ROW LEVEL SECURITY", "ALTER ROLE CURRENT_USER SET work_mem = '3MB'",
    "GRANT bh_o43 TO bh_o44", "COPY t43.notes TO STDOUT", "COPY notes TO PROGRAM 'id'", "LOAD 'plpgsql'", "SECURITY LABEL FOR bulkhead ON TABLE notes IS 'shared'", "DROP SCHEMA t43 CASCADE", "ALTER SCHEMA t43 RENAME TO t99",
    "CREATE DOMAIN pg_temp.text AS varchar(1)", "COMMENT ON TABLE t43.notes IS 'x'", "CALL bulkhead.fence(43, 99)", "DROP OWNED BY CURRENT_USER", "CREATE EXTENSION dblink", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
]

# In whatever state that left the transaction and the session.
AFTERWARDS = "; SELECT body FROM t43.notes"

# A statement out of an expression {e}.
POSITIONS = [
    "SELECT {e}", "SELECT 1 WHERE {e} IS NOT NULL", "SELECT 1 ORDER BY {e}", "SELECT 1 LIMIT length({e})", "SELECT 1 GROUP BY {e}", "SELECT count(*) HAVING max({e}) IS NOT NULL", "VALUES ({e})", "SELECT * FROM (SELECT {e} AS x OFFSET 0) s",
    "SELECT * FROM notes n, LATERAL (SELECT {e} || n.id AS x) s", "SELECT CASE WHEN {e} = '' THEN 1 ELSE 2 END, coalesce(NULL, {e})", "SELECT max({e}) OVER ()", "SELECT DISTINCT ON ({e}) 1", "SELECT (ARRAY[{e}])[1]", "SELECT row_to_json(r) FROM (SELECT {e} AS x) r",
    "SELECT * FROM unnest(ARRAY[{e}])", "SELECT * FROM generate_series(1, 2) g WHERE g::text <> {e}", "SELECT a.id FROM notes a JOIN notes b ON a.body <> {e}", "INSERT INTO notes (body) VALUES ({e}) RETURNING body", "UPDATE notes SET body = {e} RETURNING body",
    "DELETE FROM notes WHERE body <> {e}", "INSERT INTO notes (body) SELECT {e}", "INSERT INTO app.orders (email, body) VALUES ({e}, 'x') ON CONFLICT (tenant, email) DO UPDATE SET body = {e}", "WITH x AS MATERIALIZED (SELECT {e} AS y) SELECT * FROM x",
    "WITH x AS (INSERT INTO notes (body) VALUES ({e}) RETURNING body) SELECT * FROM x", "WITH RECURSIVE x(y) AS (SELECT {e} UNION SELECT y FROM x) SELECT * FROM x", "SELECT {e} FROM notes TABLESAMPLE SYSTEM (100)", "MERGE INTO notes n USING (SELECT {e} AS y) s ON n.id = 1 WHEN MATCHED THEN UPDATE SET body = y",
    "COPY (SELECT {e}) TO STDOUT", "CREATE TABLE made AS SELECT {e} AS x", "CREATE MATERIALIZED VIEW made AS SELECT {e} AS x", "SELECT {e} INTO made", "EXPLAIN ANALYZE SELECT {e}", "SELECT json_build_object('x', {e})", "SELECT xmlelement(name a, {e})",
    "SELECT {e} UNION ALL SELECT {e}", "CREATE TABLE made (x text DEFAULT {e})", "DECLARE c1 CURSOR FOR SELECT {e}; FETCH c1", "SELECT string_agg(x, '' ORDER BY x) FILTER (WHERE x <> '') FROM (SELECT {e} AS x) s", "SELECT quote_literal({e})::xml", "SELECT {e} ~ 'x'",
]


def plpgsql(name, body, returns="text", options="", call="SELECT {name}()"):
    return f"CREATE FUNCTION {name}() RETURNS {returns} LANGUAGE plpgsql {options} AS $w$BEGIN {body} END$w$; " + call.format(name=name)


def dollar(text, mark):
    return f"${mark}${text}${mark}$"


# (name, what to do with a statement s whose dollar quotes nest by mark m); {e} wrappers take an expression instead.
def _run(s, m):
    return f"EXECUTE {dollar(s, m)};"


STATEMENT_WRAPPERS = {
    "plain": lambda s, m: s,
    "do": lambda s, m: f"DO {dollar(f'BEGIN {_run(s, m)} END', m + 'b')}",
    "do-caught": lambda s, m: f"DO {dollar(f'BEGIN {_run(s, m)} EXCEPTION WHEN others THEN RAISE NOTICE $n$%$n$, SQLERRM; END', m + 'b')}",
    "do-after-error": lambda s, m: f"DO {dollar(f'BEGIN PERFORM 1 / 0; EXCEPTION WHEN others THEN {_run(s, m)} END', m + 'b')}",
    "savepoint": lambda s, m: f"SAVEPOINT s{m}; {s}; RELEASE s{m}",
    "savepoint-back": lambda s, m: f"SAVEPOINT s{m}; {s}; ROLLBACK TO s{m}; {s}",
    "after-failure": lambda s, m: f"SAVEPOINT s{m}; SELECT 1 / 0; ROLLBACK TO s{m}; {s}",
    "procedure": lambda s, m: f"CREATE PROCEDURE p{m}() LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} END', m + 'b')}; CALL p{m}()",
    "procedure-commits": lambda s, m: f"CREATE PROCEDURE p{m}() LANGUAGE plpgsql AS {dollar(f'BEGIN COMMIT; {_run(s, m)} END', m + 'b')}; CALL p{m}()",
    "procedure-definer": lambda s, m: f"CREATE PROCEDURE p{m}() LANGUAGE plpgsql SECURITY DEFINER AS {dollar(f'BEGIN {_run(s, m)} END', m + 'b')}; CALL p{m}()",
    "function": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS void LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} END', m + 'b')}; SELECT f{m}()",
    "function-definer": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS {dollar(f'BEGIN {_run(s, m)} END', m + 'b')}; SELECT f{m}()",
    "function-set": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS void LANGUAGE plpgsql SET search_path = t43, pg_temp SET work_mem = '1MB' AS {dollar(f'BEGIN {_run(s, m)} END', m + 'b')}; SELECT t44.f{m}()",
    "function-immutable": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS int IMMUTABLE PARALLEL SAFE LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN 1; END', m + 'b')}; SELECT f{m}() FROM notes",
    "function-sql": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS void LANGUAGE sql AS {dollar(s, m + 'b')}; SELECT f{m}()",
    "trigger": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS trigger LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN NEW; END', m + 'b')};"
                            f" CREATE TRIGGER g{m} BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION f{m}(); INSERT INTO notes (body) VALUES ('x')",
    "trigger-statement": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS {dollar(f'BEGIN {_run(s, m)} RETURN NULL; END', m + 'b')};"
                                      f" CREATE TRIGGER g{m} AFTER UPDATE ON notes REFERENCING NEW TABLE AS n FOR EACH STATEMENT EXECUTE FUNCTION f{m}(); UPDATE notes SET body = body",
    "trigger-deferred": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS trigger LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN NULL; END', m + 'b')};"
                                     f" CREATE CONSTRAINT TRIGGER g{m} AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION f{m}(); INSERT INTO notes (body) VALUES ('x')",
    "aggregate": lambda s, m: f"CREATE FUNCTION f{m}(int, int) RETURNS int LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN 1; END', m + 'b')};"
                              f" CREATE AGGREGATE a{m}(int) (sfunc = f{m}, stype = int, initcond = '0'); SELECT a{m}(id) FROM notes",
    "domain": lambda s, m: f"CREATE FUNCTION f{m}(int) RETURNS bool LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN true; END', m + 'b')}; CREATE DOMAIN d{m} AS int CHECK (f{m}(VALUE)); SELECT 1::d{m}",
    "check": lambda s, m: f"CREATE FUNCTION f{m}(int) RETURNS bool LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN true; END', m + 'b')}; CREATE TABLE c{m} (i int CHECK (f{m}(i))); INSERT INTO c{m} VALUES (1)",
    "index": lambda s, m: f"CREATE FUNCTION f{m}(int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN 1; END', m + 'b')}; CREATE TABLE c{m} (i int); INSERT INTO c{m} VALUES (1); CREATE INDEX ON c{m} (f{m}(i)); ANALYZE c{m}; REINDEX TABLE c{m}",
    "operator": lambda s, m: f"CREATE FUNCTION f{m}(int, int) RETURNS bool LANGUAGE plpgsql COST 0.0001 AS {dollar(f'BEGIN {_run(s, m)} RETURN true; END', m + 'b')}; CREATE OPERATOR @#@ (function = f{m}, leftarg = int, rightarg = int);"
                             f" SELECT 1 FROM notes WHERE id OPERATOR(t44.@#@) 1",
    "cast": lambda s, m: f"CREATE TYPE y{m} AS (i int); CREATE FUNCTION f{m}(y{m}) RETURNS int LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN 1; END', m + 'b')}; CREATE CAST (y{m} AS int) WITH FUNCTION f{m}(y{m}); SELECT row(1)::y{m}::int",
    "policy": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS bool LANGUAGE plpgsql AS {dollar(f'BEGIN {_run(s, m)} RETURN true; END', m + 'b')}; CREATE TABLE c{m} (i int); ALTER TABLE c{m} ENABLE ROW LEVEL SECURITY; ALTER TABLE c{m} FORCE ROW LEVEL SECURITY;"
                           f" CREATE POLICY p ON c{m} USING (f{m}()) WITH CHECK (f{m}()); INSERT INTO c{m} VALUES (1); SELECT * FROM c{m}",
    "rule": lambda s, m: f"CREATE TABLE c{m} (i int); CREATE RULE r AS ON INSERT TO c{m} DO ALSO {s}; INSERT INTO c{m} VALUES (1)",
    "view": lambda s, m: f"CREATE VIEW v{m} AS {s}; SELECT * FROM v{m}",
    "prepare": lambda s, m: f"PREPARE q{m} AS {s}; EXECUTE q{m}",
    "cursor": lambda s, m: f"DECLARE c{m} CURSOR FOR {s}; FETCH ALL c{m}",
    "explain": lambda s, m: f"EXPLAIN (ANALYZE, VERBOSE) {s}",
    "cte": lambda s, m: f"WITH w{m} AS MATERIALIZED ({s}) SELECT * FROM w{m}",
    "refcursor": lambda s, m: f"DO {dollar(f'DECLARE c refcursor; r record; BEGIN OPEN c FOR EXECUTE {dollar(s, m)}; FETCH c INTO r; RAISE NOTICE $n$%$n$, r; END', m + 'b')}",
    "parallel": lambda s, m: f"SET LOCAL {PARALLEL} = on; SET LOCAL parallel_setup_cost = 0; SET LOCAL parallel_tuple_cost = 0; {s}",
    "path": lambda s, m: f"SET LOCAL search_path = t44, t43, app, pg_temp; {s}",
    "generic": lambda s, m: f"SET LOCAL plan_cache_mode = force_generic_plan; {s}",
    "row-security": lambda s, m: f"SET LOCAL row_security = off; {s}",
    "commit-first": lambda s, m: f"COMMIT; {s}",
    "chain": lambda s, m: f"COMMIT AND CHAIN; {s}",
    "begin": lambda s, m: f"ROLLBACK; BEGIN; {s}",
    "copy": lambda s, m: f"COPY ({s}) TO STDOUT",
    "xml": lambda s, m: f"SELECT query_to_xml({dollar(s, m)}, true, true, '')",
    "cursor-xml": lambda s, m: f"DECLARE c{m} CURSOR FOR {s}; SELECT cursor_to_xml('c{m}', 9, true, true, '')",
    "create-table": lambda s, m: f"CREATE TABLE c{m} AS {s}; TABLE c{m}",
    "matview": lambda s, m: f"CREATE MATERIALIZED VIEW c{m} AS {s}; REFRESH MATERIALIZED VIEW c{m}; TABLE c{m}",
    "twice": lambda s, m: f"{s}; {s}",
    "drop-self": lambda s, m: f"CREATE FUNCTION f{m}() RETURNS void LANGUAGE plpgsql AS {dollar(f'BEGIN DROP FUNCTION f{m}; {_run(s, m)} END', m + 'b')}; SELECT f{m}()",
}
ENDS = ("ROLLBACK", "COMMIT")


def draw(rng):
    """One variant: (name, SQL)."""
    if rng.random() < 0.65:
        position, primitive = rng.choice(POSITIONS), rng.choice(READS)
        sql = position.replace("{e}", primitive)
    else:
        position, primitive = "command", rng.choice(COMMANDS)
        sql = primitive
    names = []
    for depth in range(rng.choice((1, 1, 2, 2, 3))):
        name = rng.choice(list(STATEMENT_WRAPPERS))
        sql = STATEMENT_WRAPPERS[name](sql, "abc"[depth])
        names.append(name)
    if rng.random() < 0.5:  # it fails, so what the others wrote is undone with it
        sql += AFTERWARDS
    return f"{'+'.join(names)} {position} {primitive}", sql


def generate(seed, count):
    rng = random.Random(seed)
    return [draw(rng) for _ in range(count)]
