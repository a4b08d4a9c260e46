"""psycopg 3 with its pool."""
import contextlib
import sys

import psycopg
from psycopg_pool import ConnectionPool

import scenario

# [connect]
# PgBouncer 1.18 mixes up the named statements of its clients: with None psycopg makes none.
pool = ConnectionPool("", min_size=1, max_size=4, kwargs={"prepare_threshold": None}, check=ConnectionPool.check_connection, open=True)


@contextlib.contextmanager
def tenant(token, isolation=None):
    """A transaction of the tenant whose token came with the request (X-Bulkhead-Token)."""
    with pool.connection() as db, db.transaction():
        if isolation:  # before enter(), which reads and so fixes the level
            db.execute(f"SET TRANSACTION ISOLATION LEVEL {isolation}")
        db.execute("SELECT bulkhead.enter(%s)", [token])
        yield db
# [end]


# [retry]
# The tenant has moved; conflicts; the server process or the connection went away.
RETRY = {"TN004", "40001", "40P01", "57P01", None}


def in_tenant(token, work, isolation=None, tries=3):
    for attempt in range(1, tries + 1):
        try:
            with tenant(token, isolation) as db:
                return work(db)
        except psycopg.OperationalError as error:
            if attempt == tries or error.sqlstate not in RETRY:
                raise
            scenario.retrying(error.sqlstate)
        except psycopg.DatabaseError as error:  # TN004 is of a class that psycopg does not know
            if attempt == tries or error.sqlstate != "TN004":
                raise
            scenario.retrying(error.sqlstate)
# [end]


def names(db):
    return [row[0] for row in db.execute("SELECT name FROM items ORDER BY id")]


def name_of(db, number):
    return db.execute("SELECT name FROM items WHERE id = %s", [number]).fetchone()[0]


def insert(db, name):
    db.execute("INSERT INTO items (name) VALUES (%s)", [name])


def add(db, name):
    db.execute("UPDATE items SET qty = qty + 1 WHERE name = %s", [name])


def pid(db):
    return db.execute("SELECT pg_backend_pid()").fetchone()[0]


def state(db):
    return db.execute("SELECT state FROM items WHERE id = 1").fetchone()[0]


def unbound():
    with pool.connection() as db:
        db.execute("SELECT name FROM items")


def leave_dirty(token):
    db = pool.getconn()
    db.execute("SELECT bulkhead.enter(%s)", [token])
    names(db)
    pool.putconn(db)  # in its transaction


def health():
    pool.check()
    with pool.connection() as db:
        scenario.check(db.execute("SELECT 1 AS one").fetchone() == (1,), "SELECT 1")


scenario.run(sys.modules[__name__], psycopg.__version__)
pool.close()
