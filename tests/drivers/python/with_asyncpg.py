"""asyncpg with its pool."""
import asyncio
import contextlib
import sys
import threading

import asyncpg

import scenario

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine):
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result()


# [connect]
async def connect():
    """PgBouncer 1.18 mixes up the named statements of its clients: without a cache asyncpg makes none."""
    return await asyncpg.create_pool(min_size=1, max_size=4, statement_cache_size=0)


@contextlib.asynccontextmanager
async def tenant(token, isolation=None):
    """A transaction of the tenant whose token came with the request (X-Bulkhead-Token)."""
    async with pool.acquire() as db, db.transaction(isolation=isolation):
        await db.execute("SELECT bulkhead.enter($1)", token)
        yield db
# [end]


# [retry]
# The tenant has moved; conflicts; the server process or the connection went away.
RETRY = {"TN004", "40001", "40P01", "57P01"}


async def run_in_tenant(token, work, isolation=None, tries=3):
    for attempt in range(1, tries + 1):
        try:
            async with tenant(token, isolation) as db:
                return await work(db)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
            state = getattr(error, "sqlstate", None)
            lost = not isinstance(error, asyncpg.PostgresError) or isinstance(error, asyncpg.PostgresConnectionError)
            if attempt == tries or not (lost or state in RETRY):
                raise
            scenario.retrying(state)
# [end]


def in_tenant(token, work, isolation=None):
    """The scenario is not async: its work runs in a thread of its own."""
    level = isolation and isolation.lower().replace(" ", "_")
    return wait(run_in_tenant(token, lambda db: asyncio.to_thread(work, db), level))


def names(db):
    return [row["name"] for row in wait(db.fetch("SELECT name FROM items ORDER BY id"))]


def name_of(db, number):
    return wait(db.fetchval("SELECT name FROM items WHERE id = $1", number))


def insert(db, name):
    wait(db.execute("INSERT INTO items (name) VALUES ($1)", name))


def add(db, name):
    wait(db.execute("UPDATE items SET qty = qty + 1 WHERE name = $1", name))


def pid(db):
    return wait(db.fetchval("SELECT pg_backend_pid()"))


def state(db):
    return wait(db.fetchval("SELECT state FROM items WHERE id = 1"))


def unbound():
    wait(pool.fetch("SELECT name FROM items"))


async def return_dirty(token):
    db = await pool.acquire()
    await db.execute("BEGIN")
    await db.execute("SELECT bulkhead.enter($1)", token)
    await db.execute("SELECT name FROM items")
    await pool.release(db)  # in its transaction


def leave_dirty(token):
    wait(return_dirty(token))


def health():
    scenario.check(wait(pool.fetchval("SELECT 1 AS one")) == 1, "SELECT 1")


pool = wait(connect())
scenario.run(sys.modules[__name__], asyncpg.__version__)
wait(pool.close())
