"""Ordinary clients notice nothing of the guard: pgbench in each of its modes, psycopg2 with savepoints and cursors."""
import os
import subprocess

import psycopg2
import pytest
from database import as_tenant, server, token, wire  # noqa: F401
from pgserver import BIN, POOL_PASSWORD

SCRIPT = """\\set id random(1, 1000)
BEGIN;
SELECT bulkhead.enter({token});
UPDATE accounts SET balance = balance + 1 WHERE id = :id;
SELECT balance FROM accounts WHERE id = :id;
SAVEPOINT s;
INSERT INTO notes (body) VALUES ('bench');
RELEASE s;
COMMIT;
"""


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
def test_pgbench(server, tmp_path, mode):
    server.sql("SET ROLE bh_o42; CREATE TABLE IF NOT EXISTS t42.accounts (id int PRIMARY KEY, balance int DEFAULT 0);"
               "INSERT INTO t42.accounts SELECT generate_series(1, 1000) ON CONFLICT DO NOTHING; GRANT SELECT, UPDATE ON t42.accounts TO bh_t42; RESET ROLE;"
               f"ALTER ROLE bulkhead_pool SET bulkhead.literal_token = {'on' if mode == 'simple' else 'off'}")
    script = tmp_path / "script.sql"
    script.write_text(SCRIPT.format(token="':token'" if mode == "simple" else ":token"))
    try:
        done = subprocess.run(
            [BIN / "pgbench", "-n", "-M", mode, "-c", "4", "-t", "50", "-D", f"token={token(server, use='job', life=3600)}", "-f", script,
             "-h", "127.0.0.1", "-p", str(server.port), "-U", "bulkhead_pool", "shared1"],
            env={**os.environ, "PGPASSWORD": POOL_PASSWORD}, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        assert "number of transactions actually processed: 200/200" in done.stdout
        assert server.sql("SELECT sum(balance) FROM t42.accounts") == [(200,)]
        assert server.sql("DELETE FROM t42.notes WHERE body = 'bench' RETURNING 1").count((1,)) == 200
    finally:
        server.sql("ALTER ROLE bulkhead_pool RESET bulkhead.literal_token; DROP TABLE t42.accounts")


def test_psycopg2(server):
    server.sql("ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on")  # psycopg2 writes values into the statement
    connection = server.connect("bulkhead_pool")
    try:
        for isolation in (None, "READ COMMITTED", "SERIALIZABLE"):
            connection.set_session(isolation_level=isolation)
            with connection, connection.cursor() as cursor:
                cursor.execute("SELECT bulkhead.enter(%s)", [token(server)])
                cursor.execute("SET LOCAL statement_timeout = '1s'")
                cursor.execute("SELECT set_config('my.user', %s, true)", ["alice"])
                cursor.execute("INSERT INTO notes (body) VALUES (%s) RETURNING id", ["driver"])
                for text, error in (("SELECT 1/0", psycopg2.errors.DivisionByZero), ("SELECT * FROM t43.notes", psycopg2.errors.InsufficientPrivilege)):
                    cursor.execute("SAVEPOINT s")
                    with pytest.raises(error):
                        cursor.execute(text)
                    cursor.execute("ROLLBACK TO SAVEPOINT s")
                with connection.cursor("named") as named:
                    named.itersize = 10
                    named.execute("SELECT n FROM generate_series(1, 100) n")
                    assert len(list(named)) == 100
                cursor.execute("SELECT bulkhead.tenant_no(), current_setting('my.user')")
                assert cursor.fetchone() == (42, "alice")
    finally:
        connection.close()
        server.sql("ALTER ROLE bulkhead_pool RESET bulkhead.literal_token")
    assert len(server.sql("DELETE FROM t42.notes WHERE body = 'driver' RETURNING 1")) == 3
