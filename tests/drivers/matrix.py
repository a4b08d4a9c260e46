"""The drivers: how each program is started and what a user must set."""
import dataclasses


@dataclasses.dataclass
class Driver:
    name: str
    title: str
    language: str
    command: list
    settings: str  # what to set, as the guide shows it
    note: str = ""


PYTHON = ["venv/bin/python"]
DRIVERS = [
    Driver("libpq", "libpq", "c", ["./libpq"], "nothing (PQexecParams, not PQprepare)"),
    Driver("psycopg", "psycopg 3, psycopg_pool", "python", PYTHON + ["with_psycopg.py"], "`prepare_threshold=None`"),
    Driver("asyncpg", "asyncpg", "python", PYTHON + ["with_asyncpg.py"], "`statement_cache_size=0`"),
    Driver("sqlalchemy", "SQLAlchemy on psycopg", "python", PYTHON + ["with_sqlalchemy.py"],
           "`connect_args={\"prepare_threshold\": None}`, `use_native_hstore=False`"),
    Driver("django", "Django on psycopg", "python", PYTHON + ["with_django.py"],
           "`DISABLE_SERVER_SIDE_CURSORS`; `OPTIONS`: `server_side_binding`"),
    Driver("node-postgres", "node-postgres (pg)", "node", ["node", "with-pg.js"], "nothing (no `name` in queries)"),
    Driver("postgres.js", "postgres.js", "node", ["node", "with-postgres-js.js"], "`prepare: false`, `fetch_types: false`"),
    Driver("drizzle", "Drizzle on node-postgres", "node", ["node", "with-drizzle.js"], "nothing (no `.prepare(name)`)"),
    Driver("pgx", "pgx, pgxpool", "go", ["bin/pgx"], "`default_query_exec_mode=exec`"),
    Driver("database-sql-pgx", "database/sql, pgx stdlib", "go", ["bin/database-sql", "pgx"], "`default_query_exec_mode=exec`"),
    Driver("database-sql-pq", "database/sql, lib/pq", "go", ["bin/database-sql", "postgres"], "`binary_parameters=yes`"),
]
