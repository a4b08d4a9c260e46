"""Real PostgreSQL with the extension and a registry, real bulkheadd processes that run flows, and an edge of
the test's own: the smoke test is an HTTP client, so what answers it is a part that a test may choose."""
import base64
import hashlib
import http.client
import http.server
import json
import os
import pathlib
import shutil
import signal
import subprocess
import threading
import time

from pgserver import PORTS, Server, as_engine_user, give_to_engine_user, program, wait_for

OPERATOR, AGENT = "operator-token-1", "agent-token-1"
MASTER = bytes(range(32))

MIGRATION = """
CREATE TABLE products (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL);
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, product bigint REFERENCES products);
CREATE FUNCTION how_many() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM orders';
"""


class Edge:
    """Answers `/` and, with a bearer token of the tenant in Host, `/orders`; ${status} replaces 200."""

    def __init__(self):
        self.status, self.seen, self.port = 200, [], PORTS.take()
        edge = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                tenant = self.headers["Host"].split(".")[0]
                status = edge.status
                if self.path == "/orders":
                    status = status if edge.tenant_of(self.headers.get("Authorization")) == tenant else 401
                edge.seen.append((tenant, self.path, status))
                body = b"this is the edge of the test"
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @staticmethod
    def tenant_of(authorization):
        if not authorization or not authorization.startswith("Bearer "):
            return None
        payload = authorization.split(".")[1]
        return json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["tenant"]

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class Plant:
    """The server with `shared1` and the registry, the edge, and the files that daemons read."""

    def __init__(self, migration=MIGRATION, settings=""):
        self.server, self.edge, self.daemons = Server(
            "max_connections = 60\nmax_locks_per_transaction = 256\nlog_parameter_max_length = 0\n" + settings), Edge(), []
        self.server.make_database("shared1")
        self.server.sql("CREATE ROLE bulkhead_registry LOGIN PASSWORD 'registry-secret'")
        self.server.sql("CREATE DATABASE bulkhead OWNER bulkhead_registry")
        self.dir = self.server.dir
        self.migrations = self.dir / "migrations"
        self.migrations.mkdir()
        self.migrations.chmod(0o755)
        self.migrate("0001_app.sql", migration)
        port = self.server.port
        self.file("pgpass", f"127.0.0.1:{port}:bulkhead:bulkhead_registry:registry-secret\n"
                            f"127.0.0.1:{port}:*:postgres:admin-secret\n")
        self.file("master.key", MASTER.hex() + "\n")
        digest = [hashlib.sha256(t.encode()).hexdigest() for t in (OPERATOR, AGENT)]
        self.file("principals", f"ops operator - {digest[0]}\nedge-1 agent main {digest[1]}\n")

    def file(self, name, text):
        path = self.dir / name
        path.write_text(text)
        path.chmod(0o600)
        give_to_engine_user(path)

    def migrate(self, name, text):
        (self.migrations / name).write_text(text)
        (self.migrations / name).chmod(0o644)

    def daemon(self, **more):
        daemon = Daemon(self, **more)
        self.daemons.append(daemon)
        return daemon

    def close(self):
        for daemon in self.daemons:
            daemon.close()
        self.edge.close()
        self.server.close()

    # what is there

    def registry(self, text, args=None):
        return self.server.sql(text, args, database="bulkhead")

    def inventory(self):
        """Numbers of tenants by what the registry, the catalogues and the feed hold of them."""
        def numbers(text, database="shared1"):
            return {row[0] for row in self.server.sql(text, database=database)}
        return {
            "registry": numbers("SELECT no FROM tenant WHERE state = 'active'", "bulkhead"),
            "owners": numbers("SELECT substr(rolname, 5)::int FROM pg_roles WHERE rolname ~ '^bh_o[0-9]'"),
            "users": numbers("SELECT substr(rolname, 5)::int FROM pg_roles WHERE rolname ~ '^bh_t[0-9]'"),
            "schemas": numbers("SELECT substr(nspname, 2)::int FROM pg_namespace WHERE nspname ~ '^t[0-9]+$'"),
            "rows": numbers("SELECT no FROM bulkhead.tenant WHERE state = 'active'"),
            "closing": {n + 1_000_000 for n in numbers(
                "SELECT no FROM bulkhead.tenant WHERE state NOT IN ('active', 'gone')")},
            "feed": numbers("SELECT no FROM (SELECT DISTINCT ON (no) no, record FROM feed ORDER BY no, seq DESC) f"
                            " WHERE record IS NOT NULL", "bulkhead"),
        }

    def assert_inventory(self):
        found = self.inventory()
        assert found.pop("closing") == set(), found
        assert all(numbers == found["registry"] for numbers in found.values()), found


class Daemon:
    """One bulkheadd with a state directory of its own."""

    def __init__(self, plant, failpoint="", delay_ms=3000, lease_ms=600, workers=2, **options):
        self.plant, self.port = plant, PORTS.take()
        self.state = plant.dir / f"state-{self.port}"
        (self.state / "run").mkdir(parents=True)
        for path in (self.state, self.state / "run"):
            give_to_engine_user(path)
        self.log = plant.dir / f"bulkheadd-{self.port}.log"
        port = plant.server.port
        command = [program("bulkheadd", plant.dir), "--listen", f"127.0.0.1:{self.port}",
                   "--registry", f"host=127.0.0.1 port={port} user=bulkhead_registry dbname=bulkhead",
                   "--server", f"host=127.0.0.1 port={port} user=postgres", "--master-key", plant.dir / "master.key",
                   "--principals", plant.dir / "principals", "--app-migrations", plant.migrations,
                   "--endpoints", "127.0.0.1:7090", "--edge-url", f"http://127.0.0.1:{plant.edge.port}",
                   "--base-domain", "localhost", "--cell", "main", "--state", self.state,
                   "--workers", workers, "--lease-ms", lease_ms]
        for name, value in options.items():
            command += ["--" + name.replace("_", "-"), value]
        env = {**os.environ, "PGPASSFILE": str(plant.dir / "pgpass"), "BULKHEAD_FAILPOINT": failpoint,
               "BULKHEAD_FAILPOINT_DELAY_MS": str(delay_ms)}
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([str(word) for word in command], cwd="/", stderr=log, env=env,
                                            **as_engine_user())
        wait_for(self._ready, f"bulkheadd is not ready: {self.log.read_text()}")

    def _ready(self):
        if self.process.poll() is not None:
            raise RuntimeError(f"bulkheadd ended with {self.process.returncode}: {self.log.read_text()}")
        try:
            return self.call("GET", "/readyz")[0] == 200
        except OSError:
            return False

    def died(self, seconds=15):
        """Wait for its end by a failpoint."""
        assert self.process.wait(timeout=seconds) == -signal.SIGKILL, self.log.read_text()

    def signal(self, number):
        self.process.send_signal(number)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    def call(self, method, path, body=None, token=OPERATOR):
        """(status, JSON or None)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, None if body is None else json.dumps(body),
                               {"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text.startswith(b"{") else None
        finally:
            connection.close()

    def put(self, tenant, body=None):
        status, answer = self.call("PUT", f"/v1/tenants/{tenant}", body or {})
        assert status in (200, 202), answer
        return answer

    def delete(self, tenant):
        status, answer = self.call("DELETE", f"/v1/tenants/{tenant}?now=true")
        assert status == 202, answer
        return answer

    def get(self, tenant):
        return self.call("GET", f"/v1/tenants/{tenant}")[1]

    def operation(self, op):
        return self.call("GET", f"/v1/operations/{op}")[1]

    def end(self, op, seconds=20):
        """The operation once it has ended."""
        wait_for(lambda: self.operation(op)["finished_at"], f"{op} ends: {self.log.read_text()}", seconds)
        return self.operation(op)

    def onboard(self, tenant, body=None):
        return self.end(self.put(tenant, body)["operation"])

    def offboard(self, tenant):
        return self.end(self.delete(tenant)["operation"])
