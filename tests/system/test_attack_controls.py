"""The same attacks against the usual mechanisms: they must be found to fall, and the table of figures is printed from the run."""
import os
import pathlib

import attacks
import attacks_more
import controlfix
import poisons
import pytest
from attackfix import as_block, as_pipeline
from controlfix import Plain, Range, SetRole, Setting, victims_secret

CASES = attacks.CASES + attacks_more.CASES

# Which cases the research lists as fallen (reliability.md 2.2 and pgspike.md A), by their names here.
MUST_FALL = {
    SetRole: {f"bound/role/{name}" for name in (
        "set-role", "set-local-role", "reset-role", "reset-then-set", "none-then-set", "set-role-none", "reset-session-then-set", "session-default-then-set",
        "config-role", "config-role-local", "config-role-none", "do-set-role", "do-config-role", "execute-set-role", "cursor-then-set", "function-set-role-reads",
        "commit-in-procedure", "procedure-set", "trigger-set-role")} | {f"after/role/{name}" for name in (
        "commit", "commit-set-role", "rollback-set-role", "commit-discard", "commit-reset-role", "commit-activity", "commit-alter-pool")} | {f"bound/stays/{name}" for name in (
        "temp-table", "prepare", "hold", "advisory", "lastval", "null-equals", "read-only")},
    Setting: {f"bound/rows/context-{name}" for name in (
        "set", "set-local", "config", "one-statement", "reset-all", "savepoint", "do", "prepare", "procedure", "caught")} | {f"after/role/{name}" for name in (
        "context-commit-set", "context-commit-discard-set", "commit-alter-pool")} | {f"bound/stays/{name}" for name in (
        "temp-table", "prepare", "hold", "advisory", "lastval", "null-equals", "read-only")},
}


@pytest.fixture(scope="module")
def server():
    it = Plain()
    yield it
    it.close()


@pytest.fixture(scope="module")
def figures():
    table = {}
    yield table
    lines = ["mechanism | attacks that fell | of | poisons that crossed | of"]
    lines += [f"{name} | {row.get('attacks', '?')} | {row.get('cases', '?')} | {row.get('poisons', '?')} | {len(poisons.POISONS)}" for name, row in table.items()]
    print("\n" + "\n".join(lines))
    where = os.environ.get("BULKHEAD_ATTACK_FIGURES")
    if where:
        pathlib.Path(where).write_text("\n".join(lines) + "\n")


@pytest.fixture(params=[SetRole, Setting], ids=["set-role", "setting"])
def target(request, server):
    it = Range(server, request.param)
    yield it
    it.close()


def test_the_corpus_finds_the_known_holes(target, figures):
    assert victims_secret(target.place)  # positive control: the mechanism itself works
    fallen = {}
    asked = [case for case in CASES if case[1] != "unbound" and "key-file" not in case[0]]
    for name, _, sql, _, _ in asked:
        found = target.fell(as_block, sql) or target.fell(as_pipeline, sql)
        if found:
            fallen[name] = found
    figures.setdefault(target.mechanism.name, {}).update(attacks=len(fallen), cases=len(asked))
    missed = MUST_FALL[type(target.mechanism)] - set(fallen)
    assert not missed, (missed, sorted(fallen))


def test_the_poisons_cross(target, figures):
    over = set()
    for poison in poisons.POISONS:
        if poisons.crossed(target.place, target.admin, poison, lambda place, sql: as_block(place, sql, "COMMIT")):
            over.add(poison[0])
        target.renew(False)
        target.admin.query("SELECT lo_unlink(77); ALTER ROLE bulkhead_pool RESET ALL; ALTER ROLE bh_o44 RESET ALL")
    figures.setdefault(target.mechanism.name, {}).update(poisons=len(over))
    assert poisons.KNOWN_TO_CROSS <= over, poisons.KNOWN_TO_CROSS - over
