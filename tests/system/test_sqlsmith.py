"""sqlsmith, a generator of random queries (Debian package), as a tenant: no crash, and nothing of others is seen or changed.

BULKHEAD_SQLSMITH_QUERIES (300 of each kind), BULKHEAD_SEED. It connects through bindproxy.py, which binds each of its transactions.
"""
import os
import random
import shutil
import subprocess
import time

import attackfix
import pytest
from attackfix import ATTACKER, Enter, Place
from bindproxy import BindProxy

QUERIES = int(os.environ.get("BULKHEAD_SQLSMITH_QUERIES", "300"))
SEED = int(os.environ.get("BULKHEAD_SEED") or random.SystemRandom().randrange(1 << 31))


@pytest.fixture(scope="module")
def server():
    it = attackfix.make_server("log_statement = none\nlog_min_duration_statement = -1\nstatement_timeout = 5s")
    yield it
    attackfix.check_log(it.log.read_text())
    it.close()


def run_sqlsmith(port, *more):
    """What it reports: a dot for each query that ran, a letter for each that failed."""
    command = ["sqlsmith", f"--target=host=127.0.0.1 port={port} user=bulkhead_pool dbname=shared1 sslmode=disable", f"--seed={SEED % (1 << 31)}", "--verbose",
               f"--max-queries={QUERIES}", *more]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60 + QUERIES)
    return done.stderr


@pytest.mark.parametrize("more", [("--exclude-catalog",), ()], ids=["own-tables", "catalogues"])
def test_random_queries(server, more):
    assert shutil.which("sqlsmith"), "run tools/deps test"
    with attackfix.admin_of(server) as admin:
        place = Place(server, Enter(server))
        base = attackfix.baseline(place, admin)
        proxy = BindProxy(server, lambda: Enter(server).steps(ATTACKER)[0], attackfix.MARKS[1:] + ("SECRET-B in a shared", "SECRET-B2"))
        try:
            start = time.monotonic()
            told = run_sqlsmith(proxy.port, *more)
            took = time.monotonic() - start
        finally:
            proxy.close()
        print(f"\nBULKHEAD_SEED={SEED}: {proxy.batches} batches in {took:.0f} s, {proxy.answered} answered, {proxy.failed} refused or failed {proxy.codes}")
        assert proxy.leaks == []
        ran = sum(line.count(".") for line in told.splitlines() if set(line) <= set(".eStTcC"))
        assert ran > QUERIES // 50, told[-2000:]  # positive control: queries of its own ran (of those on catalogues most are refused)
        assert "TN001" not in proxy.codes, proxy.codes  # … each in a bound transaction
        assert attackfix.probe(place) == base[1]
        assert admin.query(attackfix.STATE).rows == base[0]
        place.close()
