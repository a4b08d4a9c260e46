"""A real PostgreSQL with a registry, and real bulkheadd processes on it, for the tests of the REST interface.

The daemons run flows of the cell `main` only, while tenants are put into the cell `alpha`, which sorts first:
so tenants stay as a test leaves them, and what a flow would do is done by the test in SQL.
"""
import hashlib
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import psycopg2

from pgserver import BIN, as_engine_user, give_to_engine_user, program, wait_for
from ports import Ports

PORTS = Ports()
MASTER = bytes(range(32))
OPERATOR, AGENT, OTHER_AGENT = "operator-token-1", "agent-token-1", "agent-token-2"
KNOWS_DOCUMENTS = {"Bulkhead-Feed": "documents"}
INSTALL_UID = "01930000-0000-7000-8000-000000000001"
CELL_UID = "01930000-0000-7000-8000-0000000000a1"
SERVER_UID = "01930000-0000-7000-8000-0000000000b1"


class Answer:
    """Status, headers and body of one answer."""

    def __init__(self, response):
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


class Api:
    """One bulkheadd process."""

    def __init__(self, registry, **options):
        self.registry, self.port, self.options = registry, PORTS.take(), options
        self.log = registry.dir / f"bulkheadd-{self.port}.log"
        self.start()

    def command(self):
        r = self.registry
        dead = f"host=127.0.0.1 port={r.dead_port} user=postgres"  # no flow runs in these tests
        return [program("bulkheadd", r.dir), "--listen", f"127.0.0.1:{self.port}", "--registry", r.conninfo,
                "--server", dead, "--master-key", r.dir / "master.key", "--principals", r.dir / "principals",
                "--app-migrations", r.dir, "--endpoints", "127.0.0.1:7090", "--edge-url", "http://127.0.0.1:7080",
                "--base-domain", "localhost", "--cell", "main", "--state", r.dir,
                *(word for name, value in self.options.items() for word in ("--" + name.replace("_", "-"), value))]

    def start(self):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([str(word) for word in self.command()], cwd="/", stderr=log,
                                            env={**os.environ, "PGPASSFILE": str(self.registry.dir / "pgpass")},
                                            **as_engine_user())
        wait_for(self._ready, f"bulkheadd is not ready: {self.log.read_text()}")

    def _ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"bulkheadd ended with {self.process.returncode}: {self.log.read_text()}")
        try:
            return self.call("GET", "/readyz", token=None).status == 200
        except OSError:
            return False

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        return self.process.wait(timeout=20)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def call(self, method, path, body=None, token=OPERATOR, headers=None, timeout=20):
        """One request on a connection of its own; ${body}: bytes or text as it is, else JSON."""
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            headers = dict(headers or {})
            if token is not None:
                headers["Authorization"] = f"Bearer {token}"
            connection.request(method, path, body, headers)
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def raw(self, data, timeout=20):
        """Send bytes, read until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            s.sendall(data)
            answer = b""
            while chunk := s.recv(65536):
                answer += chunk
            return answer

    def feed(self, after, token=AGENT, documents=False):
        return Feed(self.port, after, token, documents)

    def snapshot(self, token=AGENT, documents=True):
        """The feed's snapshot: its lines."""
        answer = self.call("GET", "/v1/feed/snapshot", token=token, headers=KNOWS_DOCUMENTS if documents else {})
        return [json.loads(line) for line in answer.body.splitlines()]


class Feed:
    """An open stream of the feed."""

    def __init__(self, port, after, token, documents=False):
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.connection.request("GET", f"/v1/feed?after={after}", headers={
            "Authorization": f"Bearer {token}", **(KNOWS_DOCUMENTS if documents else {})})
        self.response = self.connection.getresponse()

    def line(self):
        """The next line, or None at the end."""
        line = self.response.readline()
        return json.loads(line) if line else None

    def row(self):
        """The next line that is no heartbeat."""
        while "head" in (line := self.line()):
            pass
        return line

    def close(self):
        self.connection.close()


class Registry:
    """PostgreSQL with the database `bulkhead`, its password in a passfile, and the files that bulkheadd reads."""

    def __init__(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="bh-api-"))
        os.chmod(self.dir, 0o755)
        self.port, self.dead_port = PORTS.take(), PORTS.take()
        self.data = self.dir / "pg"
        self.conninfo = f"host=127.0.0.1 port={self.port} user=bulkhead_registry dbname=bulkhead"
        (self.dir / "run").mkdir()
        (self.dir / "pgpass").write_text(f"127.0.0.1:{self.port}:bulkhead:bulkhead_registry:registry-secret\n")
        (self.dir / "master.key").write_text(MASTER.hex() + "\n")
        (self.dir / "principals").write_text(f"ops operator - {hashlib.sha256(OPERATOR.encode()).hexdigest()}\n")
        for name in (".", "run", "pgpass", "master.key", "principals"):
            if name not in (".", "run"):
                os.chmod(self.dir / name, 0o400 if name != "pgpass" else 0o600)
            give_to_engine_user(self.dir / name)
        self._initdb()
        self.start()
        self.admin("CREATE ROLE bulkhead_registry LOGIN PASSWORD 'registry-secret'", "postgres")
        self.admin("CREATE DATABASE bulkhead OWNER bulkhead_registry", "postgres")

    def _initdb(self):
        password = self.dir / "password"
        password.write_text("admin-secret\n")
        give_to_engine_user(password)
        self.run([BIN / "initdb", "-D", self.data, "-U", "postgres", "-E", "UTF8", "--locale=C.UTF-8",
                  "-A", "scram-sha-256", f"--pwfile={password}", "-N"])
        password.unlink()
        with open(self.data / "postgresql.conf", "a") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\nunix_socket_directories = ''\n"
                       "fsync = off\n")

    def run(self, command):
        subprocess.run([str(word) for word in command], check=True, cwd="/", stdout=subprocess.DEVNULL,
                       **as_engine_user())

    def start(self):
        self.run([BIN / "pg_ctl", "-D", self.data, "-l", self.dir / "pg.log", "-w", "-t", "60", "start"])

    def stop(self, mode="fast"):
        self.run([BIN / "pg_ctl", "-D", self.data, "-m", mode, "-w", "-t", "60", "stop"])

    def close(self):
        try:
            self.stop("immediate")
        except subprocess.CalledProcessError:
            pass
        shutil.rmtree(self.dir, ignore_errors=True)

    def admin(self, text, database="bulkhead", args=None):
        connection = psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", password="admin-secret",
                                      dbname=database)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(text, args)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    # what flows and operators do, by hand

    def furnish(self):
        """The cell `alpha` with a server, keys and two agents; known uids."""
        hashes = [hashlib.sha256(token.encode()).hexdigest() for token in (AGENT, OTHER_AGENT)]
        self.admin(f"""
            UPDATE install SET uid = '{INSTALL_UID}';
            INSERT INTO cell (name, uid, endpoints) VALUES ('alpha', '{CELL_UID}', '{{127.0.0.1:7090}}');
            INSERT INTO server (name, uid, cell) VALUES ('srv', '{SERVER_UID}', 'alpha');
            INSERT INTO key_epoch VALUES ('cell:alpha', 1, '2020-01-01', '2099-01-01'),
                                         ('server:srv', 1, '2020-01-01', '2099-01-01');
            INSERT INTO principal (id, kind, cell, token_hash)
            VALUES ('edge-1', 'agent', 'alpha', '\\x{hashes[0]}'), ('edge-2', 'agent', 'main', '\\x{hashes[1]}')""")

    def settle(self, tenant, state="active"):
        """As if its operation had succeeded."""
        self.admin("UPDATE operation SET state = 'succeeded', finished_at = now() WHERE finished_at IS NULL"
                   " AND tenant_no = (SELECT no FROM tenant WHERE id = %s AND state <> 'gone')", args=(tenant,))
        self.admin("UPDATE tenant SET state = %s, observed_generation = generation, operation = NULL,"
                   " server = 'srv', database = 'shared1' WHERE id = %s AND state <> 'gone'", args=(state, tenant))

    def append(self, no, record='{"id": "x"}'):
        """One more row of the feed for the cell `alpha`; its seq, and when it was committed."""
        seq = self.admin("""
            WITH head AS (UPDATE feed_head SET seq = seq + 1 RETURNING seq),
                 row AS (INSERT INTO feed (seq, no, cell, version, record)
                         SELECT seq, %s, 'alpha', 1 + (SELECT count(*) FROM feed WHERE no = %s), %s FROM head
                         RETURNING seq),
                 note AS (SELECT pg_notify('bulkhead_feed', ''))
            SELECT seq FROM row, note""", args=(no, no, record))[0][0]
        return seq, time.monotonic()

    def append_document(self, name, body, cell):
        """The same of a document (cell None: of every cell); its seq."""
        return self.admin("""
            WITH head AS (UPDATE feed_head SET seq = seq + 1 RETURNING seq),
                 row AS (INSERT INTO feed (seq, cell, version, document, body)
                         SELECT seq, %s, seq, %s, %s FROM head RETURNING seq),
                 note AS (SELECT pg_notify('bulkhead_feed', ''))
            SELECT seq FROM row, note""", args=(cell, name, body))[0][0]

    def head(self):
        """`<incarnation>.<seq>` of now."""
        return self.admin("SELECT incarnation || '.' || seq FROM install, feed_head")[0][0]
