"""A real nginx with our module, in production's configuration, before a hand-made snapshot and an echo application."""
import json
import mmap
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
import uuid

import bhtoken
from ports import Ports

REPO = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("BULKHEAD_BUILD") or REPO / "build/test").resolve()
NGINX = os.environ.get("BULKHEAD_NGINX", "/usr/sbin/nginx")  # a wrapper that preloads a sanitizer, say
METERS = ("requests", "status_2xx", "status_3xx", "status_4xx", "status_5xx", "denied", "limited", "bytes_in",
          "bytes_out")
TIMES = ("latency_us", "upstream_us", "upstream_requests")


def engine_user():
    """(uid, gid) that engines run as; None where we are an ordinary user and they run as us."""
    if os.geteuid() != 0:
        return None
    entry = pwd.getpwnam("bulkhead")
    return entry.pw_uid, entry.pw_gid


class Answer:
    """One HTTP answer, taken apart from raw bytes."""

    def __init__(self, raw):
        self.raw = raw
        head, _, self.body = raw.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split(" ")[1]) if lines[0].startswith("HTTP/") else 0
        self.fields = [tuple(line.split(": ", 1)) for line in lines[1:] if ": " in line]

    def all(self, name):
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name):
        values = self.all(name)
        assert len(values) <= 1, f"{name} is there {len(values)} times"
        return values[0] if values else None

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        if self.get("Content-Type") != "application/problem+json":
            return None
        problem = self.json()
        assert problem["status"] == self.status, problem
        assert set(problem) <= {"type", "title", "status", "detail", "code", "hint", "request_id", "violated-policies"}
        assert problem["title"] and problem["detail"] and len(problem["request_id"]) == 32
        return problem["code"]

    def __repr__(self):
        return f"<{self.status} {self.raw[:600]!r}>"


def read_answer(sock, method="GET"):
    """Read exactly one answer, so that a connection can be used again; b"" at its end."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            return Answer(data) if data else None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    if b"transfer-encoding: chunked" in head.lower():
        while not data.endswith(b"0\r\n\r\n"):
            data += sock.recv(65536)
    while method != "HEAD" and len(data) - len(head) - 4 < length:
        part = sock.recv(65536)
        if not part:
            break
        data += part
    return Answer(data)


class Echo:
    """An application that answers with what it received: {"line", "headers": [[name, value], ...], "body", "name"}.

    Paths steer it: /status/<n>, /slow/<ms>, /close (no answer), /header/<name>/<value>, /answer?<name>=<value>&….
    """

    def __init__(self, address, name="echo"):
        self.name = name
        self.served = 0
        family = socket.AF_UNIX if isinstance(address, str) else (
            socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        self.listener = socket.socket(family)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(address)
        if isinstance(address, str):
            os.chmod(address, 0o666)
        self.listener.listen(512)
        self.open = set()
        self.stopped = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            if self.stopped:
                client.close()
                return
            self.open.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        data = b""
        try:
            while True:
                while b"\r\n\r\n" not in data:
                    part = client.recv(65536)
                    if not part:
                        return
                    data += part
                head, _, data = data.partition(b"\r\n\r\n")
                lines = head.decode("latin-1").split("\r\n")
                headers = [line.split(": ", 1) if ": " in line else [line.rstrip(":"), ""] for line in lines[1:]]
                length = int(dict((k.lower(), v) for k, v in headers).get("content-length", 0))
                while len(data) < length:
                    data += client.recv(65536)
                body, data = data[:length], data[length:]
                if not self._answer(client, lines[0], headers, body):
                    return
        except OSError:
            pass
        finally:
            self.open.discard(client)
            client.close()

    def _answer(self, client, line, headers, body):
        self.served += 1
        words = line.split(" ")[1].split("?")[0].split("/")
        status, extra = 200, ""
        if words[1] == "status":
            status = int(words[2])
        elif words[1] == "slow":
            time.sleep(int(words[2]) / 1000)
        elif words[1] == "close":
            return False
        elif words[1] == "header":
            extra = f"{words[2]}: {words[3]}\r\n"
        elif words[1] == "answer":  # each parameter of the query is a header
            query = urllib.parse.urlsplit(line.split(" ")[1]).query
            extra = "".join(f"{name}: {value}\r\n" for name, value in urllib.parse.parse_qsl(query))
        text = json.dumps({"line": line, "headers": headers, "body": body.decode("latin-1"), "name": self.name})
        if line.startswith("HEAD "):
            text = ""
        client.sendall(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n{extra}"
                       f"Content-Length: {len(text)}\r\n\r\n{text}".encode())
        return True

    def stop(self):
        self.stopped = True
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        for client in list(self.open):
            try:
                client.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


class Keys:
    """The keys of one installation with one cell and one server."""

    def __init__(self):
        self.master = os.urandom(32)
        self.install, self.cell, self.server = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
        self.user_epochs, self.server_epochs = [1], [1]

    def user(self, epoch=1):
        return bhtoken.derive_user_cell_key(self.master, self.install.bytes, self.cell.bytes, epoch)

    def k_server(self, epoch=1):
        return bhtoken.derive_server_key(self.master, self.install.bytes, self.server.bytes, epoch)

    def hash(self):
        return bhtoken.derive_hash_key(self.master, self.install.bytes, self.cell.bytes)

    def seal(self):
        return bhtoken.derive_seal_key(self.master, self.install.bytes, self.cell.bytes)

    def text(self, not_before=0, not_after=4102444800):
        lines = [f"install {self.install}", f"cell {self.cell}", f"hash {self.hash().hex()}",
                 f"seal {self.seal().hex()}"]
        lines += [f"user {e} {self.user(e).hex()} {not_before} {not_after}" for e in self.user_epochs]
        lines += [f"server main main.{e} {self.k_server(e).hex()} {not_before + e} {not_after}"
                  for e in self.server_epochs]
        return "\n".join(lines) + "\n"


class Tenant:
    def __init__(self, no, id, **fields):
        self.no, self.id, self.uid, self.version = no, id, uuid.uuid4(), 1
        self.record = {"id": id, "uid": str(self.uid), "epoch": 1, "state": "active", "tier": "standard",
                       "rate": 1000000, "burst": 1000000, "share": 1000, "server": "main",
                       "database": "shared1", "endpoints": [], "cell": "main", **fields}

    def line(self, incarnation, seq, record=True):
        return json.dumps({"incarnation": incarnation, "seq": seq, "no": self.no, "version": self.version,
                           "record": self.record if record else None}) + "\n"


class Edge:
    """One nginx.  start() and stop(); put() and remove() change the snapshot live."""

    def __init__(self, workers=2, base_domain="localhost", edit=lambda text: text):
        self.ports = Ports()
        self.port = self.ports.take()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="bh-edge-"))
        self.shm = pathlib.Path(tempfile.mkdtemp(prefix="bh-edge-", dir="/dev/shm"))
        self.keys = Keys()
        self.incarnation = str(uuid.uuid4())
        self.seq = 0
        self.tenants = {}
        self.echoes = []
        self.process = None
        self.user = engine_user()
        for name in ("run", "keys", "nginx", "lib"):
            (self.dir / name).mkdir()
        shutil.copy(BUILD / "lib/bulkhead/ngx_http_bulkhead_module.so", self.dir / "lib")
        text = (REPO / "deploy/local/nginx.conf").read_text()
        for name, value in {"state": self.dir, "lib": self.dir / "lib", "shm": self.shm, "edge_port": self.port,
                            "base_domain": base_domain}.items():
            text = text.replace("${%s}" % name, str(value))
        assert "${" not in text, "deploy/local/nginx.conf has a placeholder that edgefix does not know"
        self.snapshot, self.keyring, self.counters_file = (
            pathlib.Path(re.search(rf"bulkhead_{name} ([^;]+);", text).group(1))
            for name in ("snapshot", "keyring", "counters"))
        text = text.replace("worker_processes auto;", f"worker_processes {workers};")
        (self.dir / "nginx.conf").write_text(edit(text))
        self.own(self.dir, self.shm)

    def own(self, *paths):
        for path in paths if self.user else ():
            os.chown(path, *self.user)
            for root, dirs, files in os.walk(path):
                for name in dirs + files:
                    os.chown(os.path.join(root, name), *self.user)

    # ---- snapshot and keyring ----

    @property
    def tool(self):
        return BUILD / "obj/tests/tools/bh-snapshot"

    def _apply(self, text, *options):
        done = subprocess.run([self.tool, self.snapshot, *options], input=text, text=True,
                              capture_output=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def put(self, *tenants):
        """Commit these tenants' records, together."""
        text = ""
        for tenant in tenants:
            tenant.version += 1
            self.seq += 1
            self.tenants[tenant.id] = tenant
            text += tenant.line(self.incarnation, self.seq)
        self._apply(text)

    def change(self, tenant, **fields):
        tenant.record.update(fields)
        self.put(tenant)

    def remove(self, tenant):
        tenant.version += 1
        self.seq += 1
        self._apply(tenant.line(self.incarnation, self.seq, record=False))

    def document(self, name, body):
        """Commit the document ${name}, say "policy/corp"; None removes it."""
        self.seq += 1
        self._apply(json.dumps({"incarnation": self.incarnation, "seq": self.seq, "document": name, "version": self.seq,
                                "body": None if body is None else body if isinstance(body, str) else json.dumps(body)}) + "\n")

    def write_keyring(self, text=None, tell=False):
        path = self.keyring
        temp = path.with_suffix(".new")
        temp.write_text(self.keys.text() if text is None else text)
        temp.chmod(0o400)
        self.own(temp)
        temp.replace(path)
        if tell:
            self._apply("", "--keyring")

    def echo(self, name="echo"):
        """A further echo application on 127.0.0.1; returns it and its endpoint."""
        port = self.ports.take()
        echo = Echo(("127.0.0.1", port), name)
        echo.endpoint = f"127.0.0.1:{port}"
        self.echoes.append(echo)
        return echo

    # ---- nginx ----

    def command(self, *arguments):
        command = [NGINX, "-p", f"{self.dir}/nginx/", "-e", "stderr", "-c", f"{self.dir}/nginx.conf", *arguments]
        if self.user:
            command = ["setpriv", f"--reuid={self.user[0]}", f"--regid={self.user[1]}", "--clear-groups", *command]
        return command

    def start(self):
        self.log = open(self.dir / "error.log", "ab")
        self.process = subprocess.Popen(self.command(), stdout=self.log, stderr=self.log)
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.dir / "error.log").read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                if len(self.workers()) >= self.worker_processes():  # the master listens before it has them
                    return self
            except OSError:
                pass
            time.sleep(0.02)
        raise AssertionError("nginx does not listen, or has no workers")

    def worker_processes(self):
        """How many workers the configuration asks for."""
        return int(re.search(r"worker_processes (\d+);", (self.dir / "nginx.conf").read_text()).group(1))

    def workers(self):
        """Process ids of the workers that live."""
        pids = []
        for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
            try:
                state, parent = path.read_text().rpartition(")")[2].split()[:2]
            except OSError:  # gone meanwhile
                continue
            if int(parent) == self.process.pid and state not in "ZX":
                pids.append(int(path.parent.name))
        return sorted(pids)

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(20)
            self.process = None
            self.log.close()
        for echo in self.echoes:
            echo.stop()
        shutil.rmtree(self.dir)
        shutil.rmtree(self.shm)
        self.ports.release()

    def errors(self):
        return (self.dir / "error.log").read_text(errors="replace")

    # ---- requests ----

    def connect(self):
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=20)
        return sock

    def raw(self, data, method="GET"):
        """Send bytes as they are on a connection of their own, return the first answer."""
        with self.connect() as sock:
            sock.sendall(data)
            return read_answer(sock, method)

    def get(self, host, path="/", *headers, method="GET", body=None):
        """One request with exactly these header lines beside Host."""
        lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
        if body is not None:
            lines.append(f"Content-Length: {len(body)}")
        return self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + (body or b""), method)

    def token(self, owner, key_epoch=1, **claims):
        """A user token under the key of tenant ${owner}."""
        epoch = claims.pop("epoch", owner.record["epoch"])
        key = bhtoken.tenant_user_key(self.keys.user(key_epoch), owner.uid.bytes, epoch)
        claims = {"tenant": owner.id, "install": str(self.keys.install), **claims}
        return bhtoken.sign_user_token(key, owner.no, epoch, key_epoch, claims.pop("tenant"), claims.pop("install"),
                                       **claims)

    def bearer(self, owner, **claims):
        return "Authorization: Bearer " + self.token(owner, **claims)

    def ask(self, tenant, path="/orders", *headers, **options):
        """A good request of a tenant's user."""
        return self.get(f"{tenant.id}.localhost", path, self.bearer(tenant), *headers, **options)

    # ---- counters ----

    def slot(self, tenant, path=None):
        """The tenant's slot in the shared file, as doc/contract/counters.md says; zeros where it has none."""
        with open(path or self.counters_file, "rb") as file, \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            magic, version, slot_bytes, capacity = struct.unpack_from("<QIII", data)
            assert (magic, version, slot_bytes) == (0x6268636F756E7431, 1, 256)
            for i in range(capacity):
                at = 256 + (tenant.no + i) % capacity * 256
                no, = struct.unpack_from("<I", data, at)
                if no in (0, tenant.no):
                    return data[at:at + 256] if no else bytes(256)
        return None

    def counters(self, tenant, path=None):
        """The tenant's meters of requests and bytes."""
        return dict(zip(METERS, struct.unpack_from(f"<{len(METERS)}Q", self.slot(tenant, path), 16)))

    def times(self, tenant):
        """Its meters of time, and the buckets of its latencies."""
        values = struct.unpack_from("<19Q", self.slot(tenant), 16 + 8 * len(METERS))
        return dict(zip(TIMES, values)), list(values[3:])

    def in_flight(self, tenant):
        """The tenant's requests in flight, all workers together, as doc/contract/counters.md says."""
        if not (self.counters_file.exists() and pathlib.Path(f"{self.counters_file}.inflight").exists()):
            return 0  # no request came yet
        with open(self.counters_file, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            epoch, = struct.unpack_from("<Q", data, 24)
            capacity, = struct.unpack_from("<I", data, 16)
            index = next((at for at in ((tenant.no + i) % capacity for i in range(capacity))
                          if struct.unpack_from("<I", data, 256 + at * 256)[0] in (0, tenant.no)))
        with open(f"{self.counters_file}.inflight", "rb") as file, \
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            magic, version, columns, rows, _, belongs = struct.unpack_from("<QIIIIQ", data)
            assert (magic, version, columns, rows) == (0x6268666C69676874, 1, 256, capacity)
            if belongs != epoch:
                return 0
            owners = struct.unpack_from("<256I", data, 2048)
            return sum(struct.unpack_from("<I", data, 4096 + (column * rows + index) * 4)[0]
                       for column in range(columns) if owners[column])

    def until_in_flight(self, tenant, count, seconds=5):
        """Wait until so many are in flight; returns how many are."""
        deadline = time.monotonic() + seconds
        while (now := self.in_flight(tenant)) != count and time.monotonic() < deadline:
            time.sleep(0.01)
        return now

    def settled(self, tenant, requests, seconds=5):
        """Counters once ${requests} were counted: the log phase follows the answer."""
        deadline = time.monotonic() + seconds
        while True:
            values = self.counters(tenant)
            if values["requests"] >= requests or time.monotonic() > deadline:
                return values
            time.sleep(0.02)


def decode(token):
    """The header and payload texts of a compact JWS."""
    import base64
    part = lambda text: base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    header, payload, _ = token.split(".")
    return part(header), part(payload)


if __name__ == "__main__":
    # An edge to play with: python3 tests/system/edgefix.py
    edge = Edge()
    acme = Tenant(1, "acme", endpoints=[edge.echo().endpoint])
    edge.write_keyring()
    edge.put(acme)
    edge.start()
    print(f"curl -si http://127.0.0.1:{edge.port}/orders -H 'Host: acme.localhost' -H '{edge.bearer(acme)}'")
    try:
        sys.stdin.read()
    finally:
        print(edge.errors())
        edge.stop()
