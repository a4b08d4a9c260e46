"""The whole product, started as a person starts it: `bulkhead up` with a state directory and ports of its own."""
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
import uuid

import psutil
import psycopg2

from ports import Ports

REPO = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BULKHEAD_BUILD") or REPO / "build/test").resolve()
KEPT_LOGS = REPO / "build/test-logs"
PORTS = ("edge", "control", "postgres", "pgbouncer", "app", "agent", "redis")


class Response:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The code of a problem; None where this is no problem."""
        if self.headers.get_content_type() != "application/problem+json":
            return None
        return self.json()["code"]

    def __repr__(self):
        return f"<{self.status} {self.body[:300]!r}>"


def call(port, method, path, headers=None, body=None, timeout=30):
    """One request to 127.0.0.1; ${headers} as given, Host included."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        headers = dict(headers or {})
        headers.setdefault("Host", f"127.0.0.1:{port}")
        if body is not None:
            body = body if isinstance(body, bytes) else body.encode()
            headers.setdefault("Content-Length", str(len(body)))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def wait_for(predicate, seconds=15, what="the condition", pause=0.05):
    """Return the first true value of ${predicate}; an exception from it counts as not yet."""
    deadline = time.monotonic() + seconds
    last = None
    while time.monotonic() < deadline:
        try:
            value = predicate()
            if value:
                return value
            last = value
        except (OSError, http.client.HTTPException, psycopg2.Error, ValueError, KeyError) as error:
            last = error
        time.sleep(pause)
    raise AssertionError(f"{what}: not within {seconds} s (last: {last!r})")


class Stack:
    def __init__(self, name="stack"):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix=f"bh-{name}-", dir="/tmp"))
        self.dir.chmod(0o755)  # the engine user walks through it
        self.state = self.dir / "state"
        self.reserved = Ports()
        self.ports = {port: self.reserved.take() for port in PORTS}
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("BULKHEAD_")}
        self.env.update(BULKHEAD_STATE=str(self.state), NO_COLOR="1",
                        BULKHEAD_URL=f"http://127.0.0.1:{self.ports['control']}")
        self._admin = None

    # -- the command line ------------------------------------------------------------------

    def cli(self, *args, check=False, env=None, stdin="", timeout=120, cwd=REPO):
        done = subprocess.run([str(BUILD / "bin/bulkhead"), *map(str, args)], input=stdin, cwd=cwd,
                              env={**self.env, **(env or {})}, text=True, capture_output=True,
                              timeout=timeout)
        if check and done.returncode != 0:
            raise AssertionError(f"bulkhead {' '.join(map(str, args))}: exit {done.returncode}\n"
                                 f"{done.stdout}\n{done.stderr}")
        return done

    def up(self, *args, check=True, env=None):
        flags = [f for name, port in self.ports.items() for f in (f"--{name}-port", port)]
        return self.cli("up", "--state", self.state, *flags, *args, check=check, env=env)

    def down(self, check=True):
        return self.cli("down", "--state", self.state, check=check)

    def status(self):
        done = self.cli("status", "-o", "json")
        return json.loads(done.stdout)

    # -- HTTP ------------------------------------------------------------------------------

    def request(self, tenant, path="/orders", token=None, method="GET", body=None, host=None,
                **headers):
        """A request through the edge as ${tenant} (its host); header names with _ for -."""
        sent = {"Host": host or f"{tenant}.localhost:{self.ports['edge']}"}
        if token is not None:
            sent["Authorization"] = f"Bearer {token}"
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        return call(self.ports["edge"], method, path, sent, body)

    def raw(self, data, port="edge", timeout=10):
        """Send bytes as they are and return all bytes of the answer; the server must close."""
        with socket.create_connection(("127.0.0.1", self.ports[port]), timeout=timeout) as s:
            s.sendall(data)
            chunks = []
            while chunk := s.recv(65536):
                chunks.append(chunk)
        return b"".join(chunks)

    def credential(self, name="operator"):
        return (self.state / f"{name}.token").read_text().strip()

    def api(self, method, path, body=None, token=None, **headers):
        """A request to the control plane; ${body} is sent as JSON unless it is text."""
        token = self.credential() if token is None else token
        sent = {"Content-Type": "application/json"}
        if token:
            sent["Authorization"] = f"Bearer {token}"
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        return call(self.ports["control"], method, path, sent, body)

    def user_token(self, tenant, sub="u1", ttl=3600):
        answer = self.api("POST", "/v1/tokens", {"tenant": tenant, "sub": sub, "ttl_seconds": ttl})
        assert answer.status == 201, answer
        return answer.json()["token"]

    def job_token(self, tenant):
        answer = self.api("POST", "/v1/tokens", {"tenant": tenant, "use": "job"})
        assert answer.status == 201, answer
        return answer.json()["token"]

    def operation(self, op):
        answer = self.api("GET", f"/v1/operations/{op}")
        assert answer.status == 200, answer
        return answer.json()

    def finished(self, op, seconds=30):
        """Wait for the operation's end and return it, whatever the end is."""
        return wait_for(lambda: (o := self.operation(op))["finished_at"] and o, seconds,
                        f"operation {op} ends")

    def put(self, tenant, body=None, **headers):
        """PUT the tenant, wait for its operation, return the operation (None: nothing to do)."""
        answer = self.api("PUT", f"/v1/tenants/{tenant}", body or {}, **headers)
        assert answer.status in (200, 202), answer
        if answer.status == 200:
            return None
        return self.finished(answer.headers["Location"].rsplit("/", 1)[1])

    def delete(self, tenant):
        answer = self.api("DELETE", f"/v1/tenants/{tenant}?now=true")
        assert answer.status == 202, answer
        return self.finished(answer.headers["Location"].rsplit("/", 1)[1])

    def usage(self, tenant, meter="requests"):
        answer = self.api("GET", f"/v1/usage?tenant={tenant}&meter={meter}")
        assert answer.status == 200, answer
        return sum(item["value"] for item in answer.json()["items"])

    # -- PostgreSQL ------------------------------------------------------------------------

    def admin_url(self):
        if self._admin is None:
            done = self.cli("status", "-o", "env")
            line = next(l for l in done.stdout.splitlines() if l.startswith("ADMIN_DATABASE_URL="))
            shell = subprocess.run(["sh", "-c", f"{line}; printf %s \"$ADMIN_DATABASE_URL\""],
                                   capture_output=True, text=True, check=True)
            self._admin = shell.stdout
        return self._admin

    def psql(self, sql, *params, database="shared1"):
        """Run SQL as superuser; rows as lists of tuples."""
        connection = psycopg2.connect(self.admin_url(), dbname=database)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, params or None)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    # -- what is there ---------------------------------------------------------------------

    def registry(self):
        """Numbers of the tenants that should be served."""
        return {no for (no,) in self.psql("SELECT no FROM tenant WHERE state = 'active'",
                                          database="bulkhead")}

    def inventory(self):
        """For each place that holds something of a tenant: the tenant numbers found there."""
        def numbers(sql):
            return {int(n) for (n,) in self.psql(sql)}
        snapshot = subprocess.run([BUILD / "obj/tests/tools/bh-snapshot", self.state / "snapshot",
                                   "--print"], capture_output=True, text=True, check=True)
        feed = self.api("GET", "/v1/feed/snapshot", token=self.credential("agent"))
        assert feed.status == 200, feed
        lines = [json.loads(line) for line in feed.body.splitlines()[1:]]
        return {
            "owner roles": numbers("SELECT substr(rolname, 5) FROM pg_roles WHERE rolname ~ '^bh_o[0-9]+$'"),
            "user roles": numbers("SELECT substr(rolname, 5) FROM pg_roles WHERE rolname ~ '^bh_t[0-9]+$'"),
            "schemas": numbers("SELECT substr(nspname, 2) FROM pg_namespace WHERE nspname ~ '^t[0-9]+$'"),
            "bulkhead.tenant": numbers("SELECT no FROM bulkhead.tenant WHERE state = 'active'"),
            "feed": {line["no"] for line in lines if line["record"] is not None},
            "edge snapshot": {json.loads(line)["no"] for line in snapshot.stdout.splitlines()
                              if line.startswith("{")},
        }

    def assert_inventory(self, seconds=15):
        """Every place holds exactly the active tenants of the registry."""
        def same():
            wanted, found = self.registry(), self.inventory()
            strays = {place: sorted(nos ^ wanted) for place, nos in found.items() if nos != wanted}
            assert_inventory.strays = strays
            return not strays
        assert_inventory = self.assert_inventory.__func__
        assert_inventory.strays = None
        try:
            wait_for(same, seconds, "inventory equals the registry", pause=0.2)
        except AssertionError as error:
            raise AssertionError(f"{error}: {assert_inventory.strays}") from None

    # -- processes -------------------------------------------------------------------------

    def pid(self, component):
        for entry in self.status()["components"]:
            if entry["name"] == component:
                return entry["pid"]
        raise AssertionError(f"no component {component}")

    def workers(self):
        """nginx's worker processes."""
        return psutil.Process(self.pid("edge")).children()

    def kill(self, component, sig=signal.SIGKILL):
        pid = self.pid(component)
        os.kill(pid, sig)
        return pid

    def wait_up(self, seconds=30):
        wait_for(lambda: self.cli("status", "-o", "json").returncode == 0, seconds, "all is up", 0.2)

    def processes(self):
        """Whatever runs for this state directory."""
        found, state = [], str(self.state)
        for process in psutil.process_iter(["pid", "cmdline", "cwd"]):
            info = process.info
            words = " ".join(info["cmdline"] or []) + " " + (info["cwd"] or "")
            if state in words and info["pid"] != os.getpid():
                found.append(process)
        return found

    def close(self, keep_logs=False):
        """Stop all; by pid what `down` left, which is reported."""
        try:
            self.down(check=False)
        except subprocess.TimeoutExpired:
            pass
        left = self.processes()
        for process in left:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                pass
        psutil.wait_procs(left, timeout=10)
        if keep_logs:
            self.keep_logs()
        shutil.rmtree(self.dir, ignore_errors=True)
        digest = hashlib.sha256(str(self.state).encode()).hexdigest()[:16]
        shutil.rmtree(f"/dev/shm/bulkhead-{digest}", ignore_errors=True)
        self.reserved.release()
        return [" ".join(p.info["cmdline"] or [])[:200] for p in left]

    def keep_logs(self):
        target = KEPT_LOGS / f"{self.dir.name}-{uuid.uuid4().hex[:6]}"
        for part in ("log", "etc", "run/components.json"):
            source = self.state / part
            if source.is_dir():
                shutil.copytree(source, target / part, dirs_exist_ok=True, ignore_dangling_symlinks=True)
            elif source.is_file():
                target.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
        print(f"logs kept in {target}")
