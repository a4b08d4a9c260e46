"""Pool poisons: the attacker leaves something on a server connection, and the next tenant looks.

(name, acts, look, whose): ${acts} run in the attacker's transaction; ${look} is asked before and after, by the next tenant
("victim") or by the superuser ("admin"); an answer that has changed has crossed. {draw} is the first random() of the seed 0.25;
"listening" stands for: a NOTIFY by others reaches the connection.
"""


def show(name, value):
    return (name, f"SET {name} = {value}", f"SHOW {name}", "victim")


def act(name, acts, look, whose="victim"):
    return (name, acts, look, whose)


def deferred(name, body, look, whose="victim"):
    """By a trigger that runs when COMMIT has begun."""
    return (f"at-commit-{name}", f"""CREATE FUNCTION x() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN {body}; RETURN NULL; END$$;
        CREATE CONSTRAINT TRIGGER x AFTER INSERT ON notes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION x();
        INSERT INTO notes (body) VALUES ('x')""", look, whose)


LOCKS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'"
SEED = "SELECT random() = {draw}"
TRAP = "CREATE TEMP TABLE notes (id int, body text); GRANT ALL ON pg_temp.notes TO PUBLIC"

POISONS = [
    show("search_path", "pg_temp, t44"), show("statement_timeout", "4321"), show("lock_timeout", "4321"), show("idle_in_transaction_session_timeout", "4321"),
    show("default_transaction_read_only", "on"), show("default_transaction_isolation", "serializable"), show("default_transaction_deferrable", "on"),
    show("row_security", "off"), show("plan_cache_mode", "force_custom_plan"), show("backslash_quote", "off"), show("escape_string_warning", "off"),
    show("client_min_messages", "error"), show("check_function_bodies", "off"), show("constraint_exclusion", "off"), show("enable_seqscan", "off"),
    show("work_mem", "'3MB'"), show("synchronous_commit", "off"), show("quote_all_identifiers", "on"), show("max_parallel_workers_per_gather", "0"),
    show("client_encoding", "'LATIN1'"), show("timezone", "'Asia/Tokyo'"), show("application_name", "'evil'"), show("standard_conforming_strings", "off"),
    show("jit", "off"), show("password_encryption", "md5"), show("xmlbinary", "hex"), show("gin_fuzzy_search_limit", "7"), show("geqo_seed", "0.5"),
    act("date-style", "SET datestyle = 'German'", "SELECT date '2026-11-21'"),
    act("interval-style", "SET intervalstyle = iso_8601", "SELECT interval '1 day'"),
    act("null-equals", "SET transform_null_equals = on", "SELECT count(*) FROM notes WHERE nullif(body, body) = NULL"),
    act("bytea", "SET bytea_output = escape", "SELECT '\\x00ff'::bytea"),
    act("xml", "SET xmloption = document", "SELECT 'a b'::xml"),
    act("array-nulls", "SET array_nulls = off", "SELECT '{NULL}'::text[]"),
    act("float-digits", "SET extra_float_digits = -15", "SELECT 0.1::float8 / 3"),
    act("text-search", "SET default_text_search_config = 'german'", "SELECT to_tsvector('die Hunde')"),
    act("custom", "SET my.secret = 'SECRET-C'", "SELECT nullif(current_setting('my.secret', true), '')"),
    act("custom-config", "SELECT set_config('my.secret', 'SECRET-C', false)", "SELECT nullif(current_setting('my.secret', true), '')"),
    act("path-config", "SELECT set_config('search_path', 't44', false)", "SHOW search_path"),
    act("jit-config", "SELECT set_config('jit', 'off', false)", "SHOW jit"),
    act("characteristics", "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "SHOW transaction_read_only"),
    act("set-in-do", "DO $$BEGIN EXECUTE 'SET work_mem = ''3MB'''; END$$", "SHOW work_mem"),
    act("config-in-do", "DO $$BEGIN PERFORM set_config('work_mem', '3MB', false); END$$", "SHOW work_mem"),
    act("config-caught", "DO $$BEGIN PERFORM set_config('work_mem', '3MB', false); PERFORM 1 / 0; EXCEPTION WHEN others THEN PERFORM set_config('enable_sort', 'off', false); END$$", "SHOW enable_sort"),
    act("config-in-savepoint", "SAVEPOINT a; SELECT set_config('work_mem', '3MB', false); RELEASE a", "SHOW work_mem"),
    act("config-in-function", "CREATE FUNCTION x() RETURNS text LANGUAGE sql SET enable_sort = off AS $$SELECT set_config('work_mem', '3MB', false)$$; SELECT x()", "SHOW work_mem"),
    act("set-in-procedure", "CREATE PROCEDURE x() LANGUAGE plpgsql AS $$BEGIN COMMIT; SET work_mem = '3MB'; END$$; CALL x()", "SHOW work_mem"),
    act("set-in-view", "CREATE VIEW v AS SELECT set_config('work_mem', '3MB', false); SELECT * FROM v", "SHOW work_mem"),
    act("config-in-cursor", "DECLARE c CURSOR FOR SELECT set_config('work_mem', '3MB', false); FETCH c", "SHOW work_mem"),
    act("temp-table", TRAP, "SELECT count(*) FROM notes"),
    act("temp-in-do", f"DO $$BEGIN {TRAP}; END$$", "SELECT count(*) FROM notes"),
    act("temp-on-commit", "CREATE TEMP TABLE notes (id int, body text) ON COMMIT PRESERVE ROWS; GRANT ALL ON pg_temp.notes TO PUBLIC", "SELECT count(*) FROM notes"),
    act("temp-view", "CREATE TEMP VIEW notes AS SELECT 1 AS id, 'TROJAN' AS body; GRANT ALL ON pg_temp.notes TO PUBLIC", "SELECT body FROM notes"),
    act("temp-function", "CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS $$SELECT 'TROJAN'$$", "SELECT pg_temp.f()"),
    act("temp-type", "CREATE TYPE pg_temp.mood AS ENUM ('x')", "SELECT 'x'::pg_temp.mood"),
    act("temp-domain", "CREATE DOMAIN pg_temp.text AS varchar(1)", "SELECT 'abc'::text"),
    act("temp-domain-in-do", "DO $$BEGIN EXECUTE 'CREATE DOMAIN pg_temp.text AS varchar(1)'; END$$", "SELECT 'abc'::text"),
    act("temp-sequence", "CREATE TEMP SEQUENCE orders_id_seq START 77; GRANT ALL ON pg_temp.orders_id_seq TO PUBLIC", "SELECT last_value FROM orders_id_seq"),
    act("temp-operator", "CREATE FUNCTION pg_temp.eq(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'; CREATE OPERATOR pg_temp.=== (function = pg_temp.eq, leftarg = int, rightarg = int)",
        "SELECT 1 OPERATOR(pg_temp.===) 2"),
    act("temp-collation", "CREATE COLLATION pg_temp.own FROM \"C\"", "SELECT 'a' COLLATE pg_temp.own"),
    act("hold", "DECLARE c CURSOR WITH HOLD FOR SELECT 'SECRET-C'", "FETCH ALL c"),
    act("hold-in-do", "DO $$BEGIN EXECUTE 'DECLARE c CURSOR WITH HOLD FOR SELECT ''SECRET-C'''; END$$", "FETCH ALL c"),
    act("refcursor", "DO $$DECLARE c refcursor := 'c'; BEGIN OPEN c FOR SELECT 'SECRET-C'; END$$", "FETCH ALL c"),
    act("prepare", "PREPARE held AS SELECT 'SECRET-C'", "EXECUTE held"),
    act("prepare-in-do", "DO $$BEGIN EXECUTE 'PREPARE held AS SELECT ''SECRET-C'''; END$$", "EXECUTE held"),
    act("advisory", "SELECT pg_advisory_lock(42)", LOCKS, "admin"),
    act("advisory-shared", "SELECT pg_advisory_lock_shared(42)", LOCKS, "admin"),
    act("try-advisory", "SELECT pg_try_advisory_lock(4, 2)", LOCKS, "admin"),
    act("advisory-xact", "SELECT pg_advisory_xact_lock(42)", LOCKS, "admin"),
    act("own-lock", "SELECT bulkhead.lock(1)", LOCKS, "admin"),
    act("own-try-lock", "SAVEPOINT a; SELECT bulkhead.try_lock(1); RELEASE a", LOCKS, "admin"),
    act("listen", "LISTEN spy", "listening"),
    act("listen-in-do", "DO $$BEGIN EXECUTE 'LISTEN spy'; END$$", "listening"),
    act("lastval", "SELECT nextval('orders_id_seq')", "SELECT lastval()"),
    act("lastval-by-insert", "INSERT INTO orders (note) VALUES (NULL)", "SELECT lastval()"),
    act("lastval-by-copy", "INSERT INTO orders (note) SELECT NULL FROM generate_series(1, 3)", "SELECT lastval()"),
    act("setseed", "SELECT setseed(0.25)", SEED),
    act("seed", "SET seed = 0.25", SEED),
    act("seed-local", "SET LOCAL seed = 0.25", SEED),
    act("seed-in-function", "CREATE FUNCTION x() RETURNS void LANGUAGE sql SET seed = 0.25 AS ''; SELECT x()", SEED),
    act("aborted", "SELECT 1 / 0", "SELECT 1"),
    act("large-object", "SELECT lo_from_bytea(77, 'SECRET-C')", "SELECT count(*) FROM pg_largeobject_metadata", "admin"),
    act("role-setting", "ALTER ROLE CURRENT_USER SET work_mem = '3MB'", "SELECT count(*) FROM pg_db_role_setting", "admin"),
    act("login-setting", "ALTER ROLE SESSION_USER SET work_mem = '3MB'", "SELECT count(*) FROM pg_db_role_setting", "admin"),
    act("load", "LOAD 'pgcrypto'", "SELECT 1"),
    deferred("config", "PERFORM set_config('work_mem', '3MB', false)", "SHOW work_mem"),
    deferred("set", "EXECUTE 'SET enable_sort = off'", "SHOW enable_sort"),
    deferred("temp", "EXECUTE 'CREATE TEMP VIEW notes AS SELECT 1 AS id, ''TROJAN'' AS body'", "SELECT body FROM notes"),
    deferred("seed", "PERFORM setseed(0.25)", SEED),
    deferred("lastval", "PERFORM nextval('orders_id_seq')", "SELECT lastval()"),
    deferred("advisory", "PERFORM pg_advisory_lock(42)", LOCKS, "admin"),
    deferred("own-lock", "PERFORM bulkhead.lock(9)", LOCKS, "admin"),
]

# Of reliability.md 2.3: what the usual ways must lose at least, or this suite is blind.
KNOWN_TO_CROSS = {"statement_timeout", "default_transaction_read_only", "null-equals", "row_security", "bytea", "xml", "custom", "custom-config", "temp-table",
                  "hold", "prepare", "advisory", "listen", "lastval", "setseed", "plan_cache_mode", "backslash_quote", "temp-view", "temp-domain"}


def draw(admin):
    return admin.query("SELECT setseed(0.25)").code or admin.query("SELECT random()").rows[0][0][0]


def look(place, admin, sql, whose):
    """What is there to see, as something to compare."""
    if sql == "listening":
        admin.query("NOTIFY spy, 'x'")
        return sum(place.as_victim(["SELECT 1"]).notifications for _ in range(2)) > 0
    answer = admin.query(sql) if whose == "admin" else place.as_victim([sql])
    return answer.rows, answer.code


def crossed(place, admin, poison, run):
    """Did it reach the next tenant?"""
    _, acts, sql, whose = poison
    sql = sql.replace("{draw}", draw(admin)) if "{draw}" in sql else sql
    before = look(place, admin, sql, whose)
    run(place, acts)
    return look(place, admin, sql, whose) != before
