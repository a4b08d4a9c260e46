"""The server and pooler that every driver program meets, the other end of its questions, and what must be true afterwards."""
import contextlib
import dataclasses
import json
import os
import subprocess
import tempfile
import threading
import time

import pgserver
import serverlog

TENANTS = {"acme": 42, "globex": 43, "initech": 44}
POOL_SIZE = 2
TURNS = 60
LIMIT_SECONDS = 120
POOLER_SETTINGS = "ignore_startup_parameters = extra_float_digits\nserver_login_retry = 1\n"
STEPS = ["connect", "read", "write", "error", "unbound", "refused", "tenants", "prepared", "types", "moved", "serial",
         "killed", "reset", "health"]
SETTINGS = """logging_collector = on
log_destination = 'jsonlog'
log_directory = 'log'
log_filename = 'pg'
log_rotation_size = 0
log_statement = 'all'
log_min_duration_statement = -1
"""


@dataclasses.dataclass
class Result:
    driver: object
    problems: list
    version: str = ""
    seconds: float = 0.0
    alone: list = dataclasses.field(default_factory=list)
    bound: list = dataclasses.field(default_factory=list)

    @property
    def ok(self):
        return not self.problems


class Bench:
    """One server, one PgBouncer 1.18 in transaction mode with two server connections, three tenants."""

    def __init__(self, program="/usr/sbin/pgbouncer", named=False):
        """${named}: PgBouncer from 1.21, which keeps the named statements of its clients apart."""
        self.program, self.named = program, named

    def __enter__(self):
        more = "max_prepared_statements = 200\n" if self.named else ""
        self.server = pgserver.Server(SETTINGS)
        try:
            self.server.make_database("shared1")
            for tenant, no in TENANTS.items():
                self.server.make_tenant(no, tenant)
                self._make_items(no)
            self.bouncer = pgserver.Bouncer(self.server, POOL_SIZE, POOLER_SETTINGS + more, self.program)
        except BaseException:
            self.server.close()
            raise
        self.log = serverlog.Log(self.server.data / "log/pg.json")
        return self

    def __exit__(self, *_):
        self.bouncer.close()
        self.server.close()

    def _make_items(self, no):
        self.server.sql(f"""SET ROLE bh_o{no}; SET search_path = t{no};
            CREATE TYPE mood AS ENUM ('new', 'used');
            CREATE TABLE items (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE,
                                state mood NOT NULL DEFAULT 'new', qty int NOT NULL DEFAULT 0);
            GRANT USAGE ON TYPE mood TO bh_t{no};
            GRANT SELECT, INSERT, UPDATE, DELETE ON items TO bh_t{no}""")

    def _seed(self):
        for tenant, no in TENANTS.items():
            self.server.sql(f"TRUNCATE t{no}.items RESTART IDENTITY; INSERT INTO t{no}.items (name) VALUES (%s), ('serial');"
                            f"UPDATE bulkhead.tenant SET state = 'active' WHERE no = {no}", [f"first-{tenant}"])

    def _environment(self):
        tokens = {f"TOKEN_{t.upper()}": self.server.token(no, t, use="job", life=1800) for t, no in TENANTS.items()}
        return {**os.environ, **tokens, "PGHOST": "127.0.0.1", "PGPORT": str(self.bouncer.port), "PGUSER": "bulkhead_pool",
                "PGPASSWORD": pgserver.POOL_PASSWORD, "PGDATABASE": "shared1", "TURNS": str(TURNS), "PYTHONDONTWRITEBYTECODE": "1",
                "TZ": "UTC"}

    def run(self, driver, folder, keep_log=None):
        """Run one program from start to end; what it said, and what the server and its tables say."""
        self._seed()
        since, start = self.log.end(), time.monotonic()
        result = Result(driver, [])
        said = self._converse(driver, folder, result)
        result.seconds = time.monotonic() - start
        lines = self.log.since(since)
        if keep_log:
            (keep_log / f"{driver.name}.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
        for step in STEPS:
            if step not in said:
                result.problems.append(f"step {step}: not reported as done")
        result.problems += self._wrong_rows()
        result.alone, result.bound, wrong = serverlog.judge(lines, set(TENANTS), self.named)
        result.problems += wrong
        return result

    def _converse(self, driver, folder, result):
        """Read the program's lines until it ends; do what it asks for; the set of steps that went well."""
        with tempfile.TemporaryFile("w+") as noise:
            process = subprocess.Popen(driver.command, cwd=folder, env=self._environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=noise, text=True)
            said, clock = set(), threading.Timer(LIMIT_SECONDS, process.kill)
            clock.start()
            for line in process.stdout:
                self._hear(line.split(maxsplit=2), process, said, result)
            status, late = process.wait(), not clock.is_alive()
            clock.cancel()
            if late:
                result.problems.append(f"it did not end within {LIMIT_SECONDS} s")
            elif status != 0:
                noise.seek(0)
                result.problems.append(f"exit status {status}: {noise.read()[-2000:]}")
        return said

    def _hear(self, words, process, said, result):
        if len(words) == 2 and words[0] == "version":
            result.version = words[1]
        elif len(words) == 2 and words[0] == "ok":
            said.add(words[1])
        elif len(words) == 3 and words[0] == "ask":
            self._do(words[1], words[2].strip())
            with contextlib.suppress(BrokenPipeError):  # its exit status will tell
                process.stdin.write("done\n")
                process.stdin.flush()
        else:
            result.problems.append(" ".join(words).strip())

    def _do(self, verb, what):
        if verb == "kill":
            self.server.sql("SELECT pg_terminate_backend(%s, 5000)", [int(what)])
        elif verb in ("move", "back"):
            state = {"move": "moving", "back": "active"}[verb]
            self.server.sql("UPDATE bulkhead.tenant SET state = %s WHERE id = %s", [state, what])
        else:
            raise ValueError(f"a program asks for {verb}")

    def _wrong_rows(self):
        """The tables, read as superuser: each tenant has what was written as it, once, and nothing else."""
        extra = {"acme": {"written": 0, "killed": 0}, "globex": {"moved": 0}, "initech": {}}
        wrong = []
        for tenant, no in TENANTS.items():
            rows = dict(self.server.sql(f"SELECT name, qty FROM t{no}.items"))
            want = {f"first-{tenant}": TURNS // len(TENANTS), "serial": 2 if tenant == "acme" else 0, **extra[tenant]}
            if rows != want:
                wrong.append(f"{tenant} has {rows}, not {want}")
        return wrong
