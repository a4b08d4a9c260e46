"""Generated attacks (variants.py): no marker of the victim is ever seen, nothing of his has changed, his session is his own.

BULKHEAD_SEED gives a printed seed again, BULKHEAD_VARIANTS how many (1000). A failure prints the seed and the statement.
"""
import os
import random
import time

import attackfix
import controlfix
import pgserver
import pytest
import variants
from attackfix import Enter, Place, as_block, as_pipeline, as_string

SEED = int(os.environ.get("BULKHEAD_SEED") or random.SystemRandom().randrange(1 << 32))
COUNT = int(os.environ.get("BULKHEAD_VARIANTS", "1000"))


def committed(place, sql):
    return as_block(place, sql, "COMMIT")


RUNS = (as_block, committed, as_pipeline, as_string)


@pytest.fixture(scope="module")
def server():
    it = attackfix.make_server("log_statement = none\nlog_min_duration_statement = -1\nstatement_timeout = 20s")
    yield it
    attackfix.check_log(it.log.read_text())
    it.close()


class Hunt:
    """One place, and what it was before; looked at after each variant, and after each batch for what is dearer to look at."""

    def __init__(self, place, admin):
        self.place, self.admin, self.ran, self.worked, self.dropped = place, admin, 0, 0, 0
        self.base = attackfix.baseline(place, admin)

    def one(self, sql, run):
        """Leak kinds."""
        try:
            answers = run(self.place, sql)
        except (ConnectionError, OSError):
            self.dropped += 1
            self.place.close()
            self.place.open()
            return []
        self.ran += 1
        self.worked += any(answer.code is None for answer in answers[1:] or answers)
        words = attackfix.told(answers)
        found = [] if attackfix.TRACE not in words else ["rows"]
        found += ["text"] if any(mark in words for mark in attackfix.MARKS[1:]) else []
        found += [] if self.place.mechanism.unbound(self.place.attacker) else ["role"]
        return found + (["stays"] if attackfix.differs(self.place, self.base[1], self.ran % 5 == 0) else [])

    def state(self):
        for tidy in (attackfix.TIDY, CLEAN):
            done = self.admin.query(tidy)
            assert done.code is None, done.errors
        return self.admin.query(attackfix.STATE).rows != self.base[0]


CLEAN = """DO $$DECLARE i record; BEGIN
 FOR i IN SELECT oid::regtype AS o FROM pg_type WHERE typnamespace = 't44'::regnamespace AND typtype = 'c' AND typrelid IN (SELECT oid FROM pg_class WHERE relkind = 'c') LOOP
  EXECUTE format('DROP TYPE IF EXISTS %s CASCADE', i.o); END LOOP;
 FOR i IN SELECT tgname FROM pg_trigger WHERE tgrelid = 't44.notes'::regclass AND NOT tgisinternal LOOP EXECUTE format('DROP TRIGGER %I ON t44.notes', i.tgname); END LOOP;
 DELETE FROM t44.notes WHERE id > 1; UPDATE t44.notes SET body = 'SECRET-C'; DROP OPERATOR IF EXISTS t44.@#@(int, int) CASCADE;
 INSERT INTO t44.notes (id, body) OVERRIDING SYSTEM VALUE VALUES (1, 'SECRET-C') ON CONFLICT DO NOTHING; END$$"""


def hunt(it, seed, count):
    """Runs the variants; [(name, SQL, run, leak kinds)] of those that got through."""
    rng, through = random.Random(seed + 1), []
    for number, (name, sql) in enumerate(variants.generate(seed, count)):
        run = rng.choice(RUNS)
        found = it.one(sql, run)
        if number % 10 == 9 and it.state():
            found.append("write in the last ten")
        if found:
            through.append((name, sql, run.__name__, found))
    return through


def test_generated_attacks(server):
    bouncer = pgserver.Bouncer(server)
    start = time.monotonic()
    try:
        with attackfix.admin_of(server) as admin:
            totals, through = [0, 0, 0], []
            for part, way in enumerate((None, bouncer)):
                place = Place(server, Enter(server), way)
                it = Hunt(place, admin)
                through += hunt(it, SEED + part, COUNT // 2)
                totals = [a + b for a, b in zip(totals, (it.ran, it.worked, it.dropped))]
                place.close()
    finally:
        bouncer.close()
    print(f"\nBULKHEAD_SEED={SEED} BULKHEAD_VARIANTS={COUNT}: {totals[0]} variants, {totals[1]} of which did something, {totals[2]} ended their connection, "
          f"{len(through)} got through, {time.monotonic() - start:.0f} s")
    assert not through, f"BULKHEAD_SEED={SEED}: {through[:5]}"
    assert totals[1] > totals[0] // 10 and totals[2] < COUNT // 50  # positive control: attackers do get to run


def test_the_generator_finds_holes():
    """Positive control: the same variants against SET LOCAL ROLE."""
    server, fell, tried = controlfix.Plain(), 0, 0
    try:
        target = controlfix.Range(server, controlfix.SetRole)
        for _, sql in variants.generate(SEED, 600):
            tried += 1
            fell += bool(target.fell(as_block, sql))
            if fell == 5:
                break
        target.close()
    finally:
        server.close()
    print(f"\n{fell} of {tried} variants fell against {target.mechanism.name}")
    assert fell == 5, f"BULKHEAD_SEED={SEED}"
