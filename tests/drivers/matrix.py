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
    flaw: str = ""  # what the driver's own known bug (told in the note) says when it ends the program: then it is run again
    # (file, pattern, replacement) that take the settings away: with PgBouncer 1.18 the program must then fail
    without: tuple = ()
    named: bool = False  # the settings are there against named statements, so that PgBouncer from 1.21 needs none of them


PYTHON = ["venv/bin/python"]
JAVA = ["java", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", "classes:target/dependency/*"]
DRIVERS = [
    Driver("libpq", "libpq", "c", ["./libpq"], "nothing (PQexecParams, not PQprepare)"),
    Driver("psycopg", "psycopg 3, psycopg_pool", "python", PYTHON + ["with_psycopg.py"], "`prepare_threshold=None`",
           without=(("with_psycopg.py", 'kwargs=.*?, check', "kwargs={}, check"),), named=True),
    Driver("asyncpg", "asyncpg", "python", PYTHON + ["with_asyncpg.py"], "`statement_cache_size=0`",
           without=(("with_asyncpg.py", ", statement_cache_size=0", ""),), named=True),
    Driver("sqlalchemy", "SQLAlchemy on psycopg", "python", PYTHON + ["with_sqlalchemy.py"],
           "`connect_args={\"prepare_threshold\": None}`, `use_native_hstore=False`",
           without=(("with_sqlalchemy.py", 'use_native_hstore=False,', ""),)),
    Driver("django", "Django on psycopg", "python", PYTHON + ["with_django.py"],
           "`DISABLE_SERVER_SIDE_CURSORS`; `OPTIONS`: `server_side_binding`",
           without=(("with_django.py", '"server_side_binding": True', ""),)),
    Driver("node-postgres", "node-postgres (pg)", "node", ["node", "with-pg.js"], "nothing (no `name` in queries)"),
    Driver("postgres.js", "postgres.js", "node", ["node", "with-postgres-js.js"], "`prepare: false`, `fetch_types: false`",
           "3.4.9 ends the process (`TypeError: Cannot read properties of null (reading 'write')`) where a connection closes in the moment"
           " between a query and its write to the socket; run it under a supervisor (porsager/postgres issues 1154 and 1208).",
           without=(("with-postgres-js.js", "prepare: false, ", ""),), named=True,
           flaw="Cannot read properties of null (reading 'write')"),
    Driver("drizzle", "Drizzle on node-postgres", "node", ["node", "with-drizzle.js"], "nothing (no `.prepare(name)`)"),
    Driver("pgx", "pgx, pgxpool", "go", ["bin/pgx"], "`default_query_exec_mode=exec`",
           without=(("pgx/main.go", "config.ConnConfig.DefaultQueryExecMode = .*", ""),), named=True),
    Driver("database-sql-pgx", "database/sql, pgx stdlib", "go", ["bin/database-sql", "pgx"], "`default_query_exec_mode=exec`",
           without=(("database-sql/main.go", "default_query_exec_mode=exec", ""),), named=True),
    Driver("database-sql-pq", "database/sql, lib/pq", "go", ["bin/database-sql", "postgres"], "`binary_parameters=yes`"),
    Driver("pgjdbc", "pgjdbc with HikariCP", "java", JAVA + ["WithHikari"], "`prepareThreshold=0`",
           "it connects with DateStyle `ISO`, which PgBouncer never finds equal to the server's `ISO, MDY`: before each transaction"
           " PgBouncer sends `SET DateStyle='ISO'`. `setTransactionIsolation()` and the setting"
           " `transactionIsolation` of HikariCP are for the session and refused: begin with `SET TRANSACTION ISOLATION LEVEL …`.",
           without=(("src/main/java/WithHikari.java", "[?]prepareThreshold=0", ""),), named=True),
    Driver("hibernate", "Hibernate on pgjdbc with HikariCP", "java", JAVA + ["WithHibernate"],
           "`prepareThreshold=0`, `hibernate.boot.allow_jdbc_metadata_access=false`, `jakarta.persistence.database-product-name`, `…-major-version`",
           without=(("src/main/java/WithHibernate.java", 'configuration.setProperty\\("(hibernate.boot|jakarta.*?database).*', ""),)),
    Driver("tokio-postgres", "tokio-postgres, deadpool-postgres", "rust", ["target/debug/tokio-postgres"],
           "nothing (`query_typed()`, `execute_typed()`; `RecyclingMethod::Fast` or `Verified`)",
           "a value of an enum or another type of the tenant's own is looked up by a statement with a name: read it as text (`state::text`).",
           without=(("src/bin/tokio-postgres.rs", r"&\[\((&\w+), Type::\w+\)\]", r"&[\1]"),
                    ("src/bin/tokio-postgres.rs", "_typed\\(", "("), ("src/bin/tokio-postgres.rs", "use tokio_postgres::types::Type;", "")), named=True),
    Driver("sqlx", "sqlx", "rust", ["target/debug/sqlx"], "`.persistent(false)` on each query",
           "connects with `extra_float_digits`, so PgBouncer needs `ignore_startup_parameters = extra_float_digits` (`bulkhead up` sets it);"
           " the types of a tenant's own as for tokio-postgres.",
           without=(("src/bin/sqlx.rs", r"\.persistent\(false\)", ""),), named=True),
]
