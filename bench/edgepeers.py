"""The proxies of bench/edge: ours, and those that it is measured against (bench/peers), each a process tree."""
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
import uuid

from edgefix import BUILD, NGINX, Edge, Tenant, engine_user
from edgeload import LOAD_CORE, PROXY_CORE, pin
from jwtfix import Signer

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
PEER_KEY = "0123456789abcdef0123456789abcdef"  # of all tenants, where a peer verifies tokens

UPSTREAM = """daemon off; pid {dir}/up.pid; error_log stderr; worker_processes 1;
events {{ worker_connections 4096; }}
http {{
    access_log off; keepalive_requests 100000000; client_body_temp_path {dir}/b; proxy_temp_path {dir}/p;
    fastcgi_temp_path {dir}/f; uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
    server {{
        listen 127.0.0.1:{port}; default_type text/plain;
        location / {{ return 200 "{body}"; }}
        location = /said {{
            return 200 "$http_x_tenant_id $http_x_tenant_tier $http_x_scope_orgid $http_x_bulkhead_database";
        }}
    }}
}}
"""


def tenant_id(no):
    """As people's names do, they come in no order."""
    return f"t{no * 2654435761 % (1 << 32):08x}"


def host_of(no):
    return f"{tenant_id(no)}.localhost"


def fill(text, values):
    for name, value in values.items():
        text = text.replace("${%s}" % name, str(value))
    left = re.search(r"\$\{\w+\}", text)
    assert left is None, f"nobody fills in {left.group(0)}"
    return text


def wait_for(port, process):
    deadline = time.monotonic() + 120  # HAProxy and Lua read a million lines first
    while time.monotonic() < deadline:
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"{process.args} does not listen")


class Process:
    """A server in a directory of its own, as the engine user where we are root."""

    def __init__(self, ports):
        self.port = ports.take()
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="bh-bench-"))
        self.process = None

    def run(self, *command, core=PROXY_CORE):
        user = engine_user()
        if user:
            for path in [self.dir, *self.dir.iterdir()]:
                os.chown(path, *user)
            command = ["setpriv", f"--reuid={user[0]}", f"--regid={user[1]}", "--clear-groups", *command]
        self.process = subprocess.Popen(["taskset", "-c", str(core), *command])
        wait_for(self.port, self.process)

    @property
    def pid(self):
        return self.process.pid

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(30)
        shutil.rmtree(self.dir)


class Application(Process):
    """What stands behind every proxy: 200 bytes at once."""

    def start(self):
        (self.dir / "up.conf").write_text(UPSTREAM.format(dir=self.dir, port=self.port, body="x" * 200))
        self.run(NGINX, "-e", "stderr", "-c", self.dir / "up.conf", core=LOAD_CORE)
        return self


class Nginx(Process):
    """peers/nginx.conf with what peers/<name>.conf puts into its places."""

    def __init__(self, ports, upstream, name=None):
        super().__init__(ports)
        self.upstream, self.name = upstream, name

    def start(self, hosts):
        parts = {"main": "", "http": "", "server": "", "location": ""}
        values = {"dir": self.dir, "port": self.port, "upstream": self.upstream, "key": PEER_KEY, "lua": PEERS,
                  "map_size": max(4096, 4 * hosts.count), "dict_mb": 64 + hosts.count // 2000}
        if self.name:
            words = re.split(r"# \[(\w+)\]\n", (PEERS / f"{self.name}.conf").read_text())
            parts.update(zip(words[1::2], words[2::2]))
            hosts.write(self.dir)
        (self.dir / "nginx.conf").write_text(fill(fill_parts(parts), values))
        self.run(NGINX, "-e", "stderr", "-p", f"{self.dir}/", "-c", self.dir / "nginx.conf")
        return self


def fill_parts(parts):
    text = (PEERS / "nginx.conf").read_text()
    for name, part in parts.items():
        text = text.replace("${%s}" % name, part)
    return text


class Haproxy(Process):
    def __init__(self, ports, upstream):
        super().__init__(ports)
        self.upstream = upstream

    def start(self, hosts):
        hosts.write(self.dir, separator="|")
        values = {"dir": self.dir, "port": self.port, "upstream": self.upstream, "key": PEER_KEY,
                  "table_size": max(100000, 2 * hosts.count)}
        (self.dir / "haproxy.cfg").write_text(fill((PEERS / "haproxy.cfg").read_text(), values))
        self.run("haproxy", "-db", "-f", self.dir / "haproxy.cfg")
        return self


class Hosts:
    """Host names of tenants 1 to ${count}, for the maps of the peers."""

    def __init__(self, count):
        self.count = count

    def write(self, directory, separator=" "):
        facts = separator.join(["standard", "shared1"])
        with open(directory / "tenants.txt", "w") as table, open(directory / "hosts.map", "w") as hosts:
            for no in range(1, self.count + 1):
                table.write(f"{host_of(no)} {tenant_id(no)}{separator}{facts}\n")
                hosts.write(f"{host_of(no)} {tenant_id(no)};\n")


class Ours(Edge):
    """The edge with its module, its snapshot filled with ${count} tenants of one policy, which trusts one issuer."""

    ISSUER = "https://id.example"
    SIGNER = Signer("EdDSA", "bench")

    def __init__(self, upstream, count, clock=None):
        super().__init__(workers=1, edit=lambda text: self.with_clock(text, clock) if clock else text)
        self.upstream = upstream
        self.count = count
        self.write_keyring()

    def with_clock(self, text, file):
        module = BUILD / "obj/bench/ngx_http_bench_clock_module.so"
        shutil.copy(module, self.dir / "lib")
        text = re.sub(r"(load_module [^;]*ngx_http_bulkhead_module.so;)",
                      rf"\1\nload_module {self.dir}/lib/{module.name};", text)
        return text.replace("http {", f"http {{\n    bench_clock {file};", 1)

    def tenant(self, no):
        tenant = Tenant(no, tenant_id(no), endpoints=[self.upstream], policy="bench")
        tenant.uid = uuid.UUID(int=(1 << 120) + no)
        tenant.record["uid"] = str(tenant.uid)
        return tenant

    def fill(self):
        """Write every tenant as the feed would, in one transaction."""
        some = self.tenant(987654321)
        line = some.line(self.incarnation, 1)
        tool = subprocess.Popen([self.tool, self.snapshot], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        with tool.stdin as feed:
            for no in range(1, self.count + 1):
                text = line.replace(str(some.uid), str(uuid.UUID(int=(1 << 120) + no)))
                feed.write(text.replace(some.id, tenant_id(no)).replace(str(some.no), str(no)))
        assert tool.wait() == 0
        self.own(self.snapshot)
        self.seq = 1
        self.document("issuer/bench", {"issuer": self.ISSUER, "audiences": ["shop"], "claims": {"tenant": "tenant"},
                                       "keys": {"keys": [self.SIGNER.jwk()]}})
        self.document("policy/bench", {"issuers": ["bench"]})
        return self

    def token_of(self, no):
        """A user token of tenant ${no}, HS256."""
        return self.token(self.tenant(no), ttl=3600)

    def issued(self, no):
        """A token of the issuer for tenant ${no}, EdDSA."""
        now = int(time.time())
        return self.SIGNER.token({"iss": self.ISSUER, "aud": "shop", "tenant": tenant_id(no), "sub": "u1", "iat": now,
                                  "exp": now + 3600})

    def begin(self):
        self.start()
        pin(self.pid, PROXY_CORE)
        return self

    @property
    def pid(self):
        return self.process.pid
