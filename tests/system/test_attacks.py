"""Attacks on the extension: the corpus in attacks.py and attacks_more.py, each case by four protocols on one connection that is
never renewed, and through PgBouncer, where the victim is the next client of the same server connection."""
import pathlib

import attack_map
import attackfix
import attacks
import attacks_more
import pgserver
import pytest
from attackfix import Enter, Place, as_block, baseline, runs, violations

CASES = attacks.CASES + attacks_more.CASES
assert len({case[0] for case in CASES}) == len(CASES)


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
def direct(server):
    it = Place(server, Enter(server))
    yield it
    it.close()


@pytest.fixture(scope="module")
def pooled(server):
    bouncer = pgserver.Bouncer(server)
    try:
        it = Place(server, Enter(server), bouncer)
        yield it
        it.close()
    finally:
        bouncer.close()


@pytest.fixture(scope="module")
def controls():
    """Controls that have passed; most cases share one."""
    return set()


BASES = {}  # by place: nothing may change it, so it is looked at once


def check(place, admin, controls, case):
    _, path, sql, leak, control = case
    assert leak in ("rows", "write", "role", "stays", "text")
    if (place, control) not in controls:
        good = as_block(place, control)
        # A control may end with an error of its own that shows what it has read.
        assert all(a.code in (None, "ZZ002") for a in good) or "1 / count" in control, [a.errors for a in good]
        controls.add((place, control))
    if place not in BASES:
        BASES[place] = baseline(place, admin)
    base = BASES[place]
    ways = runs(place, path)
    for run in ways:
        found = violations(place, admin, base, run, sql, run is ways[-1])
        if found:
            del BASES[place]  # the next case shall not fail for this one
        assert found == [], run.__name__


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_attack(admin, direct, controls, case):
    check(direct, admin, controls, case)


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_attack_through_pgbouncer(admin, pooled, controls, case):
    check(pooled, admin, controls, case)


@pytest.mark.parametrize("leak,grant,sql,undo", [
    ("rows", "GRANT USAGE ON SCHEMA t43 TO bh_o44; GRANT SELECT ON t43.notes TO bh_o44", "SELECT body FROM t43.notes", "REVOKE ALL ON t43.notes FROM bh_o44"),
    ("rows", "GRANT EXECUTE ON FUNCTION pg_prepared_statement() TO bh_o44", "SELECT statement FROM pg_prepared_statements", "REVOKE EXECUTE ON FUNCTION pg_prepared_statement() FROM bh_o44"),
    ("text", "GRANT pg_read_server_files TO bh_o44; GRANT EXECUTE ON FUNCTION pg_read_file(text) TO bh_o44", "SELECT pg_read_file('/etc/passwd')", "REVOKE pg_read_server_files FROM bh_o44; REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM bh_o44"),
    ("text", "GRANT pg_read_all_settings TO bh_o44", "SHOW bulkhead.key_file", "REVOKE pg_read_all_settings FROM bh_o44"),
    ("write", "GRANT USAGE ON SCHEMA t43 TO bh_o44; GRANT USAGE ON t43.orders_id_seq TO bh_o44", "SELECT nextval('t43.orders_id_seq')", "REVOKE ALL ON t43.orders_id_seq FROM bh_o44"),
    ("stays", "GRANT EXECUTE ON FUNCTION pg_advisory_lock(bigint) TO bh_o44", "SELECT pg_advisory_lock(42)", "REVOKE EXECUTE ON FUNCTION pg_advisory_lock(bigint) FROM bh_o44"),
])
def test_a_hole_would_be_seen(server, admin, leak, grant, sql, undo):
    """Positive control of violations(): each protection taken away shows as its leak."""
    server.sql(grant)
    try:
        place = Place(server, Enter(server))
        found = violations(place, admin, baseline(place, admin), as_block, sql)
        place.close()
        assert leak in found or leak == "stays" and "write" in found, found
    finally:
        server.sql(undo)
    place = Place(server, Enter(server))
    assert violations(place, admin, baseline(place, admin), as_block, sql) == []
    place.close()


def test_every_attack_of_the_research_is_here():
    """Each id of the research has cases or tests that exist (attack_map.py)."""
    listed = {f"{letter}{number:02}" if letter in "ABTCDEFG" else f"{letter}{number}" for letter, numbers in attack_map.LISTED.items() for number in numbers}
    assert listed == set(attack_map.MAP)
    names, folder = {case[0] for case in CASES}, pathlib.Path(__file__).parent
    missing = []
    for number, places in attack_map.MAP.items():
        if isinstance(places, str):
            assert places in attack_map.ELSEWHERE, number
            continue
        for place in places:
            file, _, function = place.partition("::")
            there = place in names if "/" in place else (folder / file).exists() and f"def {function}" in (folder / file).read_text()
            missing += [] if there else [(number, place)]
    assert missing == []
    assert len(CASES) >= 500
