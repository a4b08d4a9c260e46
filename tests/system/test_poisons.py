"""What one tenant leaves on a pooled connection: the poisons of poisons.py, and every setting that PostgreSQL has, in every form in
which it can be set. PgBouncer has one server connection here; the next client on it is another tenant."""
import attackfix
import pgserver
import poisons
import pytest
from attackfix import ATTACKER, NO, Enter, Place, as_block, as_pipeline
from database import pool
from pgwire import Wire


@pytest.fixture(scope="module")
def server():
    it = attackfix.make_server()
    yield it
    attackfix.close_server(it)


@pytest.fixture(scope="module")
def admin(server):
    with attackfix.admin_of(server) as it:
        yield it


@pytest.fixture(scope="module")
def bouncer(server):
    it = pgserver.Bouncer(server)
    yield it
    it.close()


@pytest.fixture(scope="module")
def place(server, bouncer):
    it = Place(server, Enter(server), bouncer)
    yield it
    it.close()


def backend(wire):
    return wire.query("SELECT pg_backend_pid()").rows[0][0][0]


def committed(place, sql):
    return as_block(place, sql, "COMMIT")


@pytest.mark.parametrize("run", [as_block, committed, as_pipeline])
@pytest.mark.parametrize("poison", poisons.POISONS, ids=[poison[0] for poison in poisons.POISONS])
def test_poison(place, admin, poison, run):
    before = backend(place.attacker)
    assert not poisons.crossed(place, admin, poison, run)
    assert backend(place.victim) == backend(place.attacker) == before  # positive control: the same connection
    assert admin.query(attackfix.TIDY).code is None


def test_there_are_enough():
    names = [poison[0] for poison in poisons.POISONS]
    assert len(set(names)) == len(names) >= 40 and poisons.KNOWN_TO_CROSS <= set(names)


# ---- every setting

# Texts have no range to take a value from.
TEXT_VALUES = {
    "application_name": "evil", "client_encoding": "LATIN1", "DateStyle": "German", "TimeZone": "Asia/Tokyo", "timezone_abbreviations": "Australia",
    "search_path": "t43", "default_text_search_config": "pg_catalog.german", "default_table_access_method": "heap", "default_tablespace": "pg_default",
    "temp_tablespaces": "pg_default", "lc_monetary": "C.UTF-8", "lc_numeric": "C.UTF-8", "lc_time": "C.UTF-8", "lc_messages": "C.UTF-8",
    "local_preload_libraries": "evil", "session_preload_libraries": "evil", "dynamic_library_path": "/tmp", "extension_destdir": "/tmp",
    "restrict_nonsystem_relation_kind": "view", "createrole_self_grant": "set", "wal_consistency_checking": "all",
}
HIDDEN = [("seed", "user", "real", "0.25"), ("role", "user", "string", "bh_o43"), ("session_authorization", "user", "string", "bh_o43"), ("my.setting", "user", "string", "evil"),
          ("my.setting2", "user", "string", "")]


def other_value(name, kind, now, low, high, words):
    """A value that is not the present one, and that the setting takes; None where there is one value only."""
    if kind == "bool":
        return "off" if now == "on" else "on"
    if kind == "enum":
        return next(word for word in words if word != now)
    if kind == "string":
        return TEXT_VALUES.get(name, "evil")
    if kind == "real":
        return next((value for value in (low, high) if float(value) != float(now)), None)
    # Not the least timeout: the attacker has to live long enough to attack.
    near = [int(now) + 1, int(now) - 1] if int(now) < 1 else [int(now) // 2, int(now) + 1]
    if "timeout" in name or "_delay" in name:
        near = [54321, 65432]
    return next((str(value) for value in near + [int(low), int(high)] if int(low) <= value <= int(high) and value != int(now)), None)


def settings(admin):
    """(name, context, kind, another value) of all that any session could set."""
    rows = admin.query("SELECT name, context, vartype, setting, coalesce(min_val, '0'), coalesce(max_val, '0'), array_to_string(enumvals, ' ') FROM pg_settings"
                       " WHERE context IN ('user', 'superuser', 'backend', 'superuser-backend') ORDER BY name").rows[0]
    known = [(name, context, kind, other_value(name, kind, now, low, high, (words or "").split())) for name, context, kind, now, low, high, words in rows]
    return HIDDEN + [one for one in known if one[3] is not None]


def quoted(value):
    return "'" + value.replace("'", "''") + "'"


def forms(name, value):
    """Every way there is to set it, in a bound transaction of somebody who may do DDL."""
    n, v = ".".join(f'"{part}"' for part in name.split(".")), quoted(value)
    config = f"PERFORM set_config('{name}', {v}, false)"
    return {
        "set": f"SET {n} = {v}", "session": f"SET SESSION {n} TO {v}", "local": f"SET LOCAL {n} = {v}", "default": f"SET {n} TO DEFAULT", "reset": f"RESET {n}",
        "config": f"SELECT set_config('{name}', {v}, false)", "config-local": f"SELECT set_config('{name}', {v}, true)",
        "config-upper": f"SELECT set_config(upper('{name}'), {v}, false)", "config-null": f"SELECT set_config('{name}', NULL, false)",
        "do": f"DO $do$BEGIN EXECUTE $e$SET {n} = {v}$e$; END$do$", "do-config": f"DO $do$BEGIN {config}; END$do$",
        "caught": f"DO $do$BEGIN {config}; PERFORM 1 / 0; EXCEPTION WHEN division_by_zero THEN {config}; END$do$",
        "function": f"CREATE FUNCTION x() RETURNS text LANGUAGE sql SET {n} = {v} AS $f$SELECT set_config('{name}', {v}, false)$f$; SELECT x()",
        "function-current": f"SET LOCAL {n} = {v}; CREATE FUNCTION x() RETURNS void LANGUAGE sql SET {n} FROM CURRENT AS ''; SELECT x()",
        "procedure": f"CREATE PROCEDURE x() LANGUAGE plpgsql SET {n} = {v} AS $f$BEGIN {config}; END$f$; CALL x()",
        "savepoint": f"SAVEPOINT a; SELECT set_config('{name}', {v}, true); RELEASE a; SAVEPOINT b; SET {n} = {v}; ROLLBACK TO b",
        "view": f"UPDATE pg_settings SET setting = {v} WHERE name = '{name}'", "role": f"ALTER ROLE CURRENT_USER SET {n} = {v}",
        "login": f"ALTER ROLE SESSION_USER IN DATABASE shared1 SET {n} = {v}", "database": f"ALTER DATABASE shared1 SET {n} = {v}",
        "statement-end": f"SELECT set_config('{name}', {v}, true), set_config('{name}', NULL, false)",
    }


ALL = "SELECT name, setting FROM pg_settings ORDER BY name"


def seen(place, name):
    answer = place.as_victim(["SELECT current_setting('%s', true)" % name])
    # That somebody used a name of his own ("my.x") stays in the backend as an empty text, in every PostgreSQL.
    return [[row or [None] for row in rows] for rows in answer.rows] if "." not in name else [[[value or None] for value in row] for row in answer.rows[0]], answer.code


def attempt(place, name, context, form, sql, before):
    """One form of setting one name: what was wrong, and whether the value was in force for the attacker himself."""
    wire, wrong = place.attacker, []
    wire.query("BEGIN")
    wire.pipeline(place.mechanism.steps(ATTACKER))
    answers = [wire.query(part) for part in attackfix.split(sql)]
    taken = answers[0].code is None
    inside = form == "local" and taken and wire.query(f"SELECT current_setting('{name}', true)").rows != before[0]
    if form in ("local", "set") and taken and context != "user":
        wrong.append((name, form, "taken"))
    wire.query("COMMIT")
    if seen(place, name) != before:
        wrong.append((name, form, seen(place, name)))
    return wrong, inside


def test_no_setting_crosses(admin, place):
    place.as_victim(["DO $$BEGIN END$$"])
    listed = settings(admin)
    assert len([1 for _, context, _, _ in listed if context == "user"]) > 130
    all_before = place.as_victim([ALL]).rows
    wrong, inside, ended, tried, pid = [], set(), set(), 0, backend(place.attacker)
    for name, context, _, value in listed:
        before = seen(place, name)
        for form, sql in forms(name, value).items():
            tried += 1
            try:
                found, in_force = attempt(place, name, context, form, sql, before)
            except (ConnectionError, OSError):
                ended.add(name)
                place.close()
                place.open()
                place.as_victim(["DO $$BEGIN END$$"])  # loads plpgsql and its settings, as before
                found, in_force, pid = [], False, backend(place.attacker)
            wrong += found
            inside |= {name} if in_force else set()
            if "x()" in sql:
                assert admin.query(attackfix.TIDY).code is None
        if place.as_victim([ALL]).rows != all_before:
            wrong.append((name, "another setting", ""))
    assert wrong == []
    assert len(inside) > 100, inside  # positive control: inside the attacker's transaction the values were in force
    assert ended <= {"exit_on_error"}, ended  # his own connection, by an error of his own
    assert backend(place.victim) == backend(place.attacker) == pid
    print(f"{len(listed)} settings, {tried} tries, {len(inside)} in force for the attacker's own transaction, 0 crossed")


def test_no_setting_crosses_from_outside_a_transaction(server, admin, place):
    """SET by a client without a tenant: refused, but for PgBouncer's five, which it keeps apart."""
    taken = set()
    all_before = place.as_victim([ALL]).rows
    for name, _, _, value in settings(admin):
        for sql in (f'SET "{name}" = {quoted(value)}', f'SET LOCAL "{name}" = {quoted(value)}', f"SELECT set_config('{name}', {quoted(value)}, false)", f"RESET \"{name}\""):
            taken |= {name} if place.attacker.query(sql).code is None else set()
        if place.as_victim([ALL]).rows != all_before:
            pytest.fail(f"{name} reached the next tenant")
    assert {"TimeZone", "DateStyle", "client_encoding", "standard_conforming_strings", "application_name"} <= taken
    assert taken <= {"TimeZone", "DateStyle", "client_encoding", "standard_conforming_strings", "application_name"}, taken
    place.close()
    place.open()


def test_no_setting_comes_in_by_the_startup_packet(server, admin, bouncer, place):
    """As a parameter of its own and as an option; PgBouncer refuses, and directly it holds for one's own connection only."""
    all_before = place.as_victim([ALL]).rows
    refused = 0
    for name, _, _, value in settings(admin):
        for words in ({name: value}, {"options": f"-c {name}={value}"}):
            with pool(server, bouncer.port, **words) as wire:
                refused += any(error["S"] == "FATAL" for error in wire.start.errors)
    assert refused > 300
    assert place.as_victim([ALL]).rows == all_before


def test_a_dirty_start_reaches_no_tenant(server, admin):
    """Directly, without a pooler: what a client asks for at its start is not in force for what only a superuser may set."""
    for name, context, _, value in settings(admin):
        # A library that is not loaded yet takes such a value with a warning and drops it.
        if context in ("user", "backend") or "." in name and not name.startswith("bulkhead."):
            continue
        with pool(server, **{name: value}) as wire:
            assert any(error["S"] == "FATAL" for error in wire.start.errors) or wire.query(f"SHOW {name}").rows != [[[value]]], name
