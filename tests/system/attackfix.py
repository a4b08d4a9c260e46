"""Where the attacks of attacks.py meet the engine, and what shows that one got through.

A mechanism says how a transaction is bound to a tenant: our enter(), or the usual ones that test_attack_controls.py runs for
comparison. A place is one server connection on which the attacker acts and the victim works next: directly, or as two clients
of a PgBouncer with one connection. violations() tells what a case did there.
"""
import struct

import bhtoken
import pgserver
from database import ENTER, NUMBERS, SECRETS, check_log, pool
from pgwire import Wire

NO = {**NUMBERS, "hooli": 44}
ATTACKER, VICTIM = "hooli", "globex"
TRACE = "SECRET-B"  # what only the victim may see
MARKS = (TRACE, bhtoken.b64(b'{"alg":"HS256"')[:14], "SCRAM-SHA-256$", "root:", "server-main.key")
PROBES = ["SELECT current_user, session_user, bulkhead.tenant_no(), bulkhead.tenant_id()", "SELECT body FROM notes", "SELECT pg_my_temp_schema()",
          "SELECT name FROM pg_cursors WHERE is_holdable", "SELECT md5(string_agg(concat(name, setting), ',' ORDER BY name)) FROM pg_settings"]
STATE = """SELECT (SELECT md5(string_agg(x::text, '' ORDER BY x::text)) FROM t43.notes x),
 (SELECT md5(string_agg(x::text, '' ORDER BY x::text)) FROM app.orders x WHERE tenant <> 44), (SELECT count(*) FROM pg_seclabel), (SELECT count(*) FROM t43.orders),
 (SELECT concat(last_value, is_called) FROM t43.orders_id_seq), (SELECT md5(string_agg(x::text, '' ORDER BY no)) FROM bulkhead.tenant x),
 (SELECT md5(string_agg(x::text, '' ORDER BY oid)) FROM pg_authid x), (SELECT count(*) FROM pg_auth_members), (SELECT count(*) FROM pg_db_role_setting),
 (SELECT md5(string_agg(oid::text || relowner || coalesce(relacl::text, ''), '' ORDER BY oid)) FROM pg_class WHERE relnamespace IN ('t43'::regnamespace,
  'bulkhead'::regnamespace, 'public'::regnamespace, 'app'::regnamespace)), (SELECT md5(string_agg(x::text, '' ORDER BY oid)) FROM pg_namespace x WHERE nspname !~ '^pg_'),
 (SELECT concat(count(*), ' ', sum(xmin::text::bigint)) FROM pg_proc WHERE pronamespace <> 't44'::regnamespace), (SELECT md5(string_agg(x::text, '' ORDER BY oid)) FROM pg_database x WHERE datname <> 'x'),
 (SELECT count(*) FROM pg_default_acl), (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_trigger WHERE tgrelid <> 't44.notes'::regclass), (SELECT count(*) FROM pg_largeobject_metadata),
 (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' OR locktype = 'relation' AND relation::regclass::text LIKE 't43.%'),
 (SELECT count(*) FROM pg_prepared_xacts), (SELECT count(*) FROM pg_replication_slots), (SELECT count(*) FROM pg_extension), (SELECT count(*) FROM pg_cast)"""


SIGNS = "log_min_duration_statement = 0\nlog_statement = 'all'\nautovacuum = off"
# In both schemas: what the attacker may read of his own is the control.
HIDDEN = """
    SET ROLE bh_o{0}; SET search_path = t{0};
    CREATE FUNCTION hidden() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN '{1} in a body'; END$$;
    CREATE VIEW hidden_view AS SELECT '{1} in a view' AS b;
    CREATE TYPE hidden_enum AS ENUM ('{1} in an enum');
    CREATE TABLE hidden_table (b text DEFAULT '{1} in a default', CHECK (b <> '{1} in a check'));
    CREATE INDEX ON hidden_table (b) WHERE b <> '{1} in an index';
    COMMENT ON TABLE hidden_table IS '{1} in a comment';
    RESET ROLE; RESET search_path"""


# A table of all tenants; {tenant} is the mechanism's way to say whose turn it is.
SHARED = """
    CREATE SCHEMA app; CREATE ROLE app_owner;
    CREATE TABLE app.orders (tenant int NOT NULL DEFAULT {tenant}, email text NOT NULL, body text, PRIMARY KEY (tenant, email));
    INSERT INTO app.orders SELECT t, e, b FROM (VALUES (42, 'al@a.example', 'SECRET-A'), (43, 'bob@b.example', 'SECRET-B in a shared table'), (43, 'bea@b.example', 'SECRET-B2'), (44, 'c@c.example', 'SECRET-C')) v(t, e, b);
    ALTER TABLE app.orders OWNER TO app_owner; ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY; ALTER TABLE app.orders FORCE ROW LEVEL SECURITY;
    CREATE POLICY own ON app.orders USING (tenant = {tenant}) WITH CHECK (tenant = {tenant});
    CREATE VIEW app.orders_view WITH (security_invoker = true) AS SELECT * FROM app.orders;
    CREATE FUNCTION app.helper() RETURNS bigint LANGUAGE sql SECURITY DEFINER SET search_path = app, pg_temp AS 'SELECT count(*) FROM orders';
    ALTER FUNCTION app.helper() OWNER TO app_owner; GRANT USAGE ON SCHEMA app TO app_owner;
    ANALYZE app.orders"""
SHARED_USERS = "GRANT USAGE ON SCHEMA app TO {0}; GRANT SELECT, INSERT, UPDATE, DELETE ON app.orders TO {0}; GRANT SELECT ON app.orders_view TO {0}"


def make_server(settings=""):
    """acme, globex, hooli; hooli is bound as its owner."""
    it = pgserver.Server(f"{SIGNS}\n{settings}")
    try:
        it.make_database("shared1")
        for tenant, no in NO.items():
            it.make_tenant(no, tenant, secret=SECRETS.get(tenant, "SECRET-C"))
        for no in (43, 44):
            it.sql(f"ALTER TABLE t{no}.orders OWNER TO bh_o{no}; ANALYZE t{no}.notes")
        for tenant in (VICTIM, ATTACKER):
            it.sql(HIDDEN.format(NO[tenant], SECRETS.get(tenant, "SECRET-C")))
        it.sql(SHARED.format(tenant="bulkhead.tenant_no()"))
        it.sql(SHARED_USERS.format("bh_o44, bh_t43, bh_t42"))
        it.sql("UPDATE bulkhead.tenant SET role = 'bh_o44' WHERE no = 44")
    except BaseException:
        it.close()
        raise
    return it


def close_server(it):
    """With a look at what it logged: no crash, no token."""
    try:
        log = it.log.read_text()
        check_log(log)
        assert bhtoken.b64(b'{"alg":"HS256","kid":"main.1"')[:36] not in log
        assert "bulkhead.enter" in log  # positive control: those statements were logged
    finally:
        it.close()


def admin_of(server):
    it = Wire(server.port, "postgres", "admin-secret", "shared1")
    it.query("SET client_min_messages = error; SET log_statement = none; SET log_min_duration_statement = -1")
    return it


# The attacker may leave what he likes in his own schema; the next case shall not trip over it.
TIDY = """DO $$DECLARE i record; BEGIN
 FOR i IN SELECT p.oid::regprocedure AS o, p.prokind FROM pg_proc p WHERE pronamespace = 't44'::regnamespace AND proname <> 'hidden' LOOP
  CONTINUE WHEN NOT EXISTS (SELECT FROM pg_proc WHERE oid::regprocedure = i.o);
  EXECUTE format('DROP ROUTINE IF EXISTS %s CASCADE', i.o); END LOOP;
 FOR i IN SELECT oid::regclass AS o, relkind FROM pg_class WHERE relnamespace = 't44'::regnamespace AND relkind IN ('r', 'v', 'm')
  AND relname NOT IN ('notes', 'orders', 'hidden_view', 'hidden_table') LOOP
  CONTINUE WHEN NOT EXISTS (SELECT FROM pg_class WHERE oid = i.o);
  EXECUTE format('DROP %s IF EXISTS %s CASCADE', CASE i.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE 'MATERIALIZED VIEW' END, i.o); END LOOP;
 FOR i IN SELECT oid::regtype AS o FROM pg_type WHERE typnamespace = 't44'::regnamespace AND typtype IN ('d', 'e') AND typname <> 'hidden_enum' LOOP
  EXECUTE format('DROP TYPE IF EXISTS %s CASCADE', i.o); END LOOP;
 DELETE FROM app.orders WHERE tenant = 44; INSERT INTO app.orders (tenant, email, body) VALUES (44, 'c@c.example', 'SECRET-C');
 DROP OPERATOR IF EXISTS t44.===(text, text); DROP TRIGGER IF EXISTS t ON t44.notes; DROP TRIGGER IF EXISTS x ON t44.notes;
 DROP CONVERSION IF EXISTS t44.c; DROP TEXT SEARCH DICTIONARY IF EXISTS t44.d; DROP STATISTICS IF EXISTS t44.st; DROP POLICY IF EXISTS p ON t44.notes;
 SET LOCAL client_min_messages = error; END$$"""


class Enter:
    """Bulkhead: a signed token."""

    name = "bulkhead.enter()"

    def __init__(self, server):
        self.server = server

    def steps(self, tenant):
        return [(ENTER, [self.server.token(NO[tenant], tenant)])]

    def unbound(self, wire):
        """Nobody's again: the login itself, and no tenant."""
        who = wire.query("SELECT current_user, session_user").rows
        return who == [[["bulkhead_pool", "bulkhead_pool"]]] and wire.query("SELECT bulkhead.tenant_no()").code == "TN001"


class Place:
    """One connection of the server, used by the attacker and by the victim after it."""

    def __init__(self, server, mechanism, bouncer=None):
        self.server, self.mechanism, self.bouncer = server, mechanism, bouncer
        self.open()

    def open(self):
        port = self.bouncer.port if self.bouncer else self.server.port
        self.attacker = pool(self.server, port)
        self.victim = pool(self.server, port) if self.bouncer else self.attacker
        self.as_victim(["DO $$BEGIN END$$"])  # loads plpgsql, whose settings are seen afterwards
        if not self.bouncer:  # the victim has been here, with a named statement
            for text, values in self.mechanism.steps(VICTIM):
                self.attacker.step(text, values)
            self.attacker.parse("SELECT body, 'SECRET-B in a statement' FROM notes", name="victims")
            assert self.attacker.sync().code is None

    def close(self):
        self.attacker.close()
        self.victim.close()

    def as_victim(self, statements):
        steps = self.mechanism.steps(VICTIM)
        answer = self.victim.pipeline(steps + [(text, []) for text in statements])
        answer.rows = answer.rows[len(steps):]
        return answer


def split(sql):
    """At semicolons outside of quotes."""
    parts, part, quote = [], "", None
    at = 0
    while at < len(sql):
        mark = next((m for m in ("$$", "$f$", "'", '"') if sql.startswith(m, at)), None)
        if mark and quote in (None, mark):
            quote = None if quote else mark
            part, at = part + mark, at + len(mark)
            continue
        if sql[at] == ";" and quote is None:
            parts.append(part.strip())
            part = ""
        else:
            part += sql[at]
        at += 1
    return [p for p in parts + [part.strip()] if p]


def settle(wire, end="ROLLBACK"):
    wire.query(end)
    if wire.query("SHOW work_mem").status != "I":  # the attack began another
        wire.query("ROLLBACK")


def as_block(place, sql, end="ROLLBACK"):
    """BEGIN, the binding, each statement by the simple protocol; goes on past errors, as an attacker would."""
    wire = place.attacker
    wire.query("BEGIN")
    answers = [wire.pipeline(place.mechanism.steps(ATTACKER))]
    answers += [wire.query(part) for part in split(sql)]
    settle(wire, end)
    return answers


def as_pipeline(place, sql):
    """One pipeline, which commits what did not fail."""
    answers = [place.attacker.pipeline(place.mechanism.steps(ATTACKER) + [(part, []) for part in split(sql)])]
    place.attacker.query("ROLLBACK")
    return answers


def as_string(place, sql):
    """Bound, then all the rest as one string of the simple protocol, without a Sync between."""
    wire = place.attacker
    for text, values in place.mechanism.steps(ATTACKER):
        wire.step(text, values)
    wire.put(b"Q", sql.encode() + b"\0")
    wire.flush()
    answers = [wire.read()]
    wire.query("ROLLBACK")
    return answers


def as_named(place, sql):
    """Named statements: parsed as nobody where that works, else bound; run bound, then once more as nobody."""
    wire, answers = place.attacker, []
    names = [f"n{i}" for i, _ in enumerate(split(sql))]
    for name, part in zip(names, split(sql)):
        wire.parse(part, name=name)
        if wire.sync().code is not None:
            wire.query("BEGIN")
            answers.append(wire.pipeline(place.mechanism.steps(ATTACKER)))
            wire.parse(part, name=name)
            wire.sync()
            wire.query("COMMIT")
    for bound in (True, False):
        wire.query("BEGIN")
        if bound:
            answers.append(wire.pipeline(place.mechanism.steps(ATTACKER)))
        for name in names:
            wire.bind(name=name, portal="" if bound else f"late{name}")
            wire.execute("" if bound else f"late{name}")
            answers.append(wire.sync())
        settle(wire, "COMMIT")
    for name in names:
        wire.put(b"C", b"S" + name.encode() + b"\0")
    wire.sync()
    return answers


def unbound(place, sql):
    wire = place.attacker
    answers = [wire.query(sql)]
    wire.query("ROLLBACK")
    answers.append(wire.pipeline([(part, []) for part in split(sql)]))
    wire.query("ROLLBACK")
    return answers


BOUND = (as_block, as_pipeline, as_string, as_named)
PATHS = {"bound": BOUND, "after": BOUND, "unbound": (unbound,)}
POOLED = {"bound": (as_block, as_pipeline, as_string), "after": (as_block, as_pipeline, as_string), "unbound": (unbound,)}


def runs(place, path):
    """PgBouncer 1.18 keeps no named statements apart, so there are none behind it."""
    return (POOLED if place.bouncer else PATHS)[path]


def probe(place, full=True):
    """What the victim, next on the connection, meets; ${full}: all settings too."""
    answer = place.as_victim(PROBES if full else PROBES[:-1])
    place.victim.bind(name="held")
    return [answer.rows[:len(PROBES) - 1], answer.rows[len(PROBES) - 1:], answer.errors, place.victim.sync().code]


def differs(place, base, full):
    """Does the victim meet something else than before?"""
    now = probe(place, full)
    return now[0] != base[0] or now[2:] != base[2:] or full and now[1] != base[1]


def told(answers):
    return " ".join(f"{a.rows} {a.errors} {a.notices} {a.copied}" for a in answers)


def baseline(place, admin):
    """What no case may change: the platform's and the victim's state, and what the victim meets on the connection."""
    state = admin.query(STATE)
    assert state.code is None, state.errors
    return state.rows, probe(place)


def violations(place, admin, base, run, sql, full=True):
    """What a case did that it must not: a list of leak kinds; empty is good. Without ${full} what stays anyway is left for later."""
    found = []
    try:
        answers = run(place, sql)
        if TRACE in told(answers):
            found.append("rows")
        if any(mark in told(answers) for mark in MARKS[1:]):
            found.append("text")
        if not place.mechanism.unbound(place.attacker):
            found.append("role")
        if differs(place, base[1], full) or any(a.notifications for a in answers):
            found.append("stays")
        if place.as_victim(["SELECT lastval()"]).code != "55000":
            found.append("stays")
    except (ConnectionError, OSError):
        found.append("dropped")
        place.close()
        place.open()
    if full and admin.query(STATE).rows != base[0]:
        found.append("write")
    assert admin.query(TIDY).code is None
    return found
