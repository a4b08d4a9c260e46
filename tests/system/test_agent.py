"""The agent: set-up, supervision, adoption, and what it does with a feed that is wrong or silent."""
import hashlib
import http.client
import http.server
import json
import mmap
import os
import pathlib
import pwd
import re
import signal
import socket
import stat
import struct
import subprocess
import threading
import time

import psutil
import psycopg2
import pytest

import limitfix
from pgserver import program
from ports import Ports
from stack import BUILD, call, wait_for

AGENT = str(BUILD / "bin/bulkhead-agent")
COMPONENTS = ["agent", "control", "edge", "postgres", "pgbouncer", "app"]
CHILDREN = COMPONENTS[1:]


@pytest.fixture(scope="module")
def stack(module_stack):
    return module_stack


def engine_uid():
    return pwd.getpwnam("bulkhead").pw_uid if os.geteuid() == 0 else os.geteuid()


def up(stack, *args, env=None):
    """The agent as `bulkhead up` starts it; returns the exit code and the lines of progress."""
    read, write = os.pipe()
    flags = [str(f) for name, port in stack.ports.items() for f in (f"--{name}-port", port)]
    process = subprocess.Popen([AGENT, "--embedded", "--state", str(stack.state), *flags, "--notify-fd", str(write),
                                *map(str, args)], pass_fds=[write], stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env={**stack.env, **(env or {})})
    os.close(write)
    with os.fdopen(read) as progress:
        lines = [json.loads(line) for line in progress]
    process.communicate(timeout=90)
    return process.returncode, lines


def states(lines):
    """What was said of each component last."""
    return {line["component"]: line["state"] for line in lines if "component" in line}


def pids(stack):
    return {c["name"]: c["pid"] for c in stack.status()["components"]}


def state_mode(path):
    return stat.S_IMODE(os.lstat(path).st_mode)


# -- what is there after `up` --------------------------------------------------------------


def test_status_is_as_in_the_contract(stack):
    status = call(stack.ports["agent"], "GET", "/status").json()
    assert [c["name"] for c in status["components"]] == COMPONENTS
    for component in status["components"]:
        assert set(component) == {"name", "state", "pid", "port", "version"}
        assert component["state"] == "up" and component["port"] == stack.ports[component["name"]]
        assert re.match(r"\d+\.\d+", component["version"]), component
        assert psutil.pid_exists(component["pid"])
    assert set(status["snapshot"]) == {"incarnation", "seq", "age_ms"}
    assert status["snapshot"]["seq"] >= 3 and status["snapshot"]["age_ms"] < 15000
    assert status["tenants"]["active"] == 3
    for path in ("/livez", "/readyz"):
        assert call(stack.ports["agent"], "GET", path).status == 200
    assert call(stack.ports["agent"], "GET", "/nothing").status == 404
    assert call(stack.ports["agent"], "POST", "/status").status == 405


def test_components_json_says_the_same(stack):
    written = json.loads((stack.state / "run/components.json").read_text())["components"]
    assert [(c["name"], c["pid"]) for c in written] == list(pids(stack).items())
    for component in written:
        fields = pathlib.Path(f"/proc/{component['pid']}/stat").read_text().rsplit(")", 1)[1].split()
        assert component["started"] == int(fields[19])


def test_up_from_where_the_engine_user_may_not_go(new_stack):
    closed = new_stack.dir / "closed"
    closed.mkdir(mode=0o700)
    flags = [f for name, port in new_stack.ports.items() for f in (f"--{name}-port", port)]
    new_stack.cli("up", "--state", new_stack.state, *flags, check=True, cwd=closed)
    for component in new_stack.status()["components"]:
        assert re.match(r"\d+\.\d+", component["version"]), component


def test_secrets_are_closed(stack):
    me, engine = os.geteuid(), engine_uid()
    wanted = {"operator.token": (me, 0o600), "agent.token": (me, 0o600), "pgpass": (me, 0o600),
              "keys/master.key": (engine, 0o400), "keys/principals": (engine, 0o400),
              "keys/server-main.key": (engine, 0o400), "keys/edge.keyring": (engine, 0o400),
              "keys/control.pgpass": (engine, 0o600), "keys/app.pgpass": (engine, 0o600),
              "etc/pgbouncer.users": (engine, 0o400), "keys": (engine, 0o700), "postgres": (engine, 0o700),
              "snapshot": (engine, 0o700)}
    for name, (owner, mode) in wanted.items():
        path = stack.state / name
        assert (os.lstat(path).st_uid, state_mode(path)) == (owner, mode), name
    assert re.fullmatch(r"[0-9a-f]{64}\n", (stack.state / "keys/master.key").read_text())
    assert not (stack.state / "keys/initdb").exists()


def test_no_secret_in_arguments_environment_or_logs(stack):
    secrets = {stack.credential(), stack.credential("agent"), (stack.state / "keys/master.key").read_text().strip()}
    for line in (stack.state / "pgpass").read_text().splitlines():
        secrets.add(line.rsplit(":", 1)[1])
    assert len(secrets) == 6 and all(len(s) >= 64 for s in secrets)
    processes = stack.processes()
    assert len(processes) >= len(COMPONENTS)
    for process in processes:
        shown = " ".join(process.cmdline())
        try:
            shown += str(process.environ())
        except psutil.Error:
            pass
        assert not any(s in shown for s in secrets), process
    logs = list((stack.state / "log").iterdir())
    assert len(logs) == len(COMPONENTS)
    for log in logs:
        text = log.read_text(errors="replace")
        assert not any(s in text for s in secrets), log


def test_engines_run_as_their_user_and_listen_on_loopback_only(stack):
    for name, pid in pids(stack).items():
        process = psutil.Process(pid)
        assert process.uids().effective == engine_uid(), name
        listening = [c.laddr for c in process.connections() if c.status == psutil.CONN_LISTEN]
        assert [(a.ip, a.port) for a in listening] == [("127.0.0.1", stack.ports[name])], name


def test_databases_are_closed_to_the_public(stack):
    assert stack.psql("SELECT datname FROM pg_database WHERE datacl IS NULL OR "
                      "EXISTS (SELECT FROM aclexplode(datacl) WHERE grantee = 0)") == []
    password = next(line.rsplit(":", 1)[1] for line in (stack.state / "pgpass").read_text().splitlines()
                    if ":bulkhead_pool:" in line)

    def connect(database, password):
        psycopg2.connect(host="127.0.0.1", port=stack.ports["pgbouncer"], user="bulkhead_pool", dbname=database,
                         password=password, connect_timeout=5).close()
    connect("shared1", password)
    for database, secret in (("shared1", "wrong" * 12), ("bulkhead", password), ("postgres", password)):
        with pytest.raises(psycopg2.OperationalError):
            connect(database, secret)


def test_pool_password_is_known_to_postgres_as_scram_only(stack):
    rows = stack.psql("SELECT rolname, rolpassword FROM pg_authid WHERE rolcanlogin ORDER BY 1")
    assert [r[0] for r in rows] == ["bulkhead_pool", "bulkhead_registry", "postgres"]
    assert all(r[1].startswith("SCRAM-SHA-256$") for r in rows)


# -- seeding -------------------------------------------------------------------------------


def seed(stack, tenant, token, operator=None):
    body = json.dumps({"tenant": tenant, "token": token})
    headers = {} if operator is None else {"Authorization": f"Bearer {operator}"}
    return call(stack.ports["agent"], "POST", "/seed", headers, body)


def test_rows_of_the_example_come_once_and_only_for_the_operator(stack):
    assert stack.put("initech", {})["state"] == "succeeded"
    token, operator = stack.job_token("initech"), stack.credential()
    user = stack.user_token("initech")
    assert stack.request("initech", token=user).json()["items"] == []
    for wrong in (None, "x" * 64, stack.credential("agent")):
        assert seed(stack, "initech", token, wrong).status == 401
    assert seed(stack, "acme", token, operator).status == 401
    assert seed(stack, "../acme", token, operator).status == 422
    assert seed(stack, "initech", "x", operator).status == 401
    assert stack.request("initech", token=user).json()["items"] == []
    answer = seed(stack, "initech", token, operator)
    if answer.status == 404:  # this tenant ships without rows: the others have theirs
        assert "seed.sql" in answer.json()["detail"]
        token = stack.job_token("acme")
        assert seed(stack, "acme", token, operator).json() == {"seeded": False}
    else:
        assert answer.json() == {"seeded": True}
        before = stack.request("initech", "/products", token=user).json()
        assert before["items"]
        assert seed(stack, "initech", token, operator).json() == {"seeded": False}
        assert stack.request("initech", "/products", token=user).json() == before
    assert stack.delete("initech")["state"] == "succeeded"


# -- supervision ---------------------------------------------------------------------------


def metrics(stack):
    answer = call(stack.ports["agent"], "GET", "/metrics")
    assert answer.status == 200 and answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    rows = [line.rsplit(" ", 1) for line in answer.body.decode().splitlines() if not line.startswith("#")]
    assert len({name for name, _ in rows}) == len(rows)
    return {name: float(value) for name, value in rows}


def test_metrics_count_busy_tenants_by_name_and_all_others_together(stack):
    token = stack.user_token("acme")
    assert stack.request("acme", token=token).status == 200  # whoever is busy at the first look has a name
    before = metrics(stack)
    for _ in range(5):
        assert stack.request("acme", token=token).status == 200
    assert stack.request("acme", token="junk").status == 401
    acme = 'bulkhead_edge_requests_total{tenant="acme"}'
    wait_for(lambda: metrics(stack)[acme] - before[acme] == 6, what="the requests to be counted")
    after = metrics(stack)
    growth = {name: after[name] - before[name] for name in after if after[name] != before[name]}
    for meter, more in (("status_2xx", 5), ("status_4xx", 1), ("denied", 1)):
        assert growth[f'bulkhead_edge_{meter}_total{{tenant="acme"}}'] == more
    histogram = "bulkhead_edge_latency_seconds"
    assert growth[f'{histogram}_count{{tenant="acme"}}'] == growth[f'{histogram}_bucket{{tenant="acme",le="+Inf"}}'] == 6
    buckets = [after[name] for name in after if name.startswith(f'{histogram}_bucket{{tenant="acme"')]
    assert len(buckets) == 16 and buckets == sorted(buckets), "buckets are cumulative"
    assert growth[f'{histogram}_sum{{tenant="acme"}}'] == pytest.approx(
        growth['bulkhead_edge_latency_us_total{tenant="acme"}'] / 1e6, abs=1e-5)
    assert growth['bulkhead_edge_upstream_requests_total{tenant="acme"}'] == 5
    assert any(name.startswith("bulkhead_snapshot_info{incarnation=") for name in after)
    assert set(after) == set(before) and 'bulkhead_edge_requests_total{tenant="__other__"}' in after
    assert after["bulkhead_snapshot_in_step"] == 1 and after["bulkhead_snapshot_seq"] > 0
    assert 0 <= after["bulkhead_snapshot_age_seconds"] < 30


@pytest.mark.parametrize("component", CHILDREN)
def test_a_killed_child_is_replaced(stack, component):
    stack.wait_up()
    old = stack.kill(component)
    new = wait_for(lambda: (p := stack.pid(component)) not in (None, old) and p, 20, f"a new {component}")
    stack.wait_up()
    others = [p for p in stack.processes() if p.pid == old and p.status() != psutil.STATUS_ZOMBIE]
    assert others == [] and psutil.pid_exists(new)
    token = stack.user_token("acme")
    wait_for(lambda: stack.request("acme", token=token).status == 200, 10, "acme is served")


def test_a_crash_loop_is_slowed_down_and_shown(stack):
    """The port of the application is taken while it is away: the agent says by whom, and goes on trying."""
    stack.wait_up()
    os.kill(stack.pid("agent"), signal.SIGSTOP)
    try:
        app = json.loads((stack.state / "run/components.json").read_text())["components"][5]["pid"]
        os.kill(app, signal.SIGKILL)
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            wait_for(lambda: thief.bind(("127.0.0.1", stack.ports["app"])) is None, 5, "the port")
            thief.listen()
            log = stack.state / "log/agent.log"
            size = log.stat().st_size
            agent = json.loads((stack.state / "run/components.json").read_text())["components"][0]["pid"]
            os.kill(agent, signal.SIGCONT)
            wait_for(lambda: stack.cli("status", "-o", "json").returncode == 2, 10, "status says so")
            time.sleep(3)
            told = [line for line in log.read_text()[size:].splitlines() if "port" in line and "is taken" in line]
            assert 2 <= len(told) <= 8, told
            assert {c["name"]: c["state"] for c in stack.status()["components"]}["app"] == "failed"
    finally:
        agent = json.loads((stack.state / "run/components.json").read_text())["components"][0]["pid"]
        os.kill(agent, signal.SIGCONT)
    stack.wait_up(30)


# -- adoption ------------------------------------------------------------------------------


def test_second_up_changes_nothing(stack):
    stack.wait_up()
    before = pids(stack)
    code, lines = up(stack)
    assert code == 0 and lines[-1] == {"ready": True}
    assert states(lines) == {name: "unchanged" for name in CHILDREN}
    after = pids(stack)
    assert after.pop("agent") != before.pop("agent") and after == before


def test_killed_agent_leaves_children_that_serve_and_are_adopted(stack):
    stack.wait_up()
    before, token = pids(stack), stack.user_token("acme")
    stack.kill("agent")
    wait_for(lambda: not psutil.pid_exists(before["agent"]) or
             psutil.Process(before["agent"]).status() == psutil.STATUS_ZOMBIE, 5, "the agent is dead")
    for _ in range(20):
        assert stack.request("acme", token=token).status == 200
    shown = stack.cli("status", "-o", "json")
    assert shown.returncode == 2
    assert {c["name"]: c["pid"] for c in json.loads(shown.stdout)["components"]}["edge"] == before["edge"]
    code, lines = up(stack)
    assert code == 0 and states(lines) == {name: "unchanged" for name in CHILDREN}
    after = pids(stack)
    assert after.pop("agent") != before.pop("agent") and after == before


def test_only_what_changed_is_restarted(stack):
    stack.wait_up()
    before = pids(stack)
    port = stack.reserved.take()
    old, stack.ports["app"] = stack.ports["app"], port
    try:
        code, lines = up(stack)
        assert code == 0
        assert states(lines) == {"postgres": "unchanged", "pgbouncer": "unchanged", "edge": "unchanged",
                                 "control": "restarted", "app": "restarted"}
        after = pids(stack)
        assert {n for n in CHILDREN if before[n] != after[n]} == {"control", "app"}
        token = stack.user_token("acme")
        wait_for(lambda: stack.request("acme", token=token).status == 200, 10, "acme at its new place")
    finally:
        stack.ports["app"] = old
        assert up(stack)[0] == 0


def test_adopted_children_are_supervised_too(stack):
    stack.kill("agent")
    assert up(stack)[0] == 0
    for component in ("postgres", "pgbouncer"):
        old = stack.kill(component)
        wait_for(lambda: stack.pid(component) not in (None, old), 20, f"a new {component}")
        stack.wait_up()


def test_stop_after_the_agent_was_killed(new_stack):
    assert up(new_stack)[0] == 0
    new_stack.kill("agent")
    running = [p for p in new_stack.processes() if p.status() != psutil.STATUS_ZOMBIE]
    assert len(running) > 5
    stop = [AGENT, "--embedded", "--state", str(new_stack.state), "--stop"]
    assert subprocess.run(stop, timeout=60).returncode == 0
    assert [p for p in new_stack.processes() if p.status() != psutil.STATUS_ZOMBIE] == []
    assert subprocess.run(stop, timeout=60).returncode == 0  # nothing to do is fine
    shown = json.loads((new_stack.state / "run/components.json").read_text())["components"]
    assert all(c["state"] == "down" and c["pid"] is None for c in shown)
    code, lines = up(new_stack)  # the state is still there
    assert code == 0 and states(lines)["postgres"] == "up"


# -- refusals ------------------------------------------------------------------------------


def refused(stack, code, *words, args=()):
    got, lines = up(stack, *args)
    last = lines[-1]
    assert (got, last["ready"], last["exit"]) == (code, False, code), last
    for word in words:
        assert word in last["detail"] + " " + last["hint"], last
    assert [p for p in stack.processes() if p.status() != psutil.STATUS_ZOMBIE] == []


@pytest.mark.parametrize("name", ["edge", "control", "postgres", "pgbouncer", "app", "agent"])
def test_a_taken_port_is_named_with_its_process_and_flag(new_stack, name):
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", new_stack.ports[name]))
        holder.listen()
        refused(new_stack, 78, str(new_stack.ports[name]), str(os.getpid()), f"--{name}-port")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs engines as another user")
def test_a_state_path_that_the_engine_user_cannot_pass_is_named(new_stack):
    closed = new_stack.dir / "closed"
    closed.mkdir(mode=0o700)
    new_stack.state = closed / "state"
    refused(new_stack, 78, str(closed))
    assert not new_stack.state.exists()


def test_a_state_path_that_configurations_cannot_hold_is_refused(new_stack):
    new_stack.state = new_stack.dir / "it's; here"
    done = subprocess.run([AGENT, "--embedded", "--state", str(new_stack.state)], capture_output=True, text=True)
    assert done.returncode == 78 and "it's; here" in done.stderr
    assert not new_stack.state.exists()


def test_missing_keys_of_an_existing_database_are_not_made_anew(new_stack):
    """A fresh master key would orphan every token and every tenant: better not to start."""
    assert up(new_stack)[0] == 0
    assert new_stack.down().returncode == 0
    for name in ("keys/master.key", "pgpass"):
        path = new_stack.state / name
        kept = path.with_name("kept")
        path.rename(kept)
        refused(new_stack, 78, name.rsplit("/", 1)[-1], "is missing")
        assert not path.exists()
        kept.rename(path)
    assert up(new_stack)[0] == 0


@pytest.mark.parametrize("victims", ["everything", "the agent"])
def test_an_interrupted_initdb_is_done_again(new_stack, victims):
    """Also where initdb itself outlives the agent: it must not spoil what its successor makes."""
    flags = [str(f) for name, port in new_stack.ports.items() for f in (f"--{name}-port", port)]
    process = subprocess.Popen([AGENT, "--embedded", "--state", str(new_stack.state), *flags],
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=new_stack.env)
    wait_for(lambda: (new_stack.state / "postgres/PG_VERSION").exists(), 20, "initdb is at work", 0.005)
    for victim in new_stack.processes():
        try:
            if victims == "everything" or victim.name() == "bulkhead-agent":
                victim.kill()
        except psutil.NoSuchProcess:
            pass
    process.wait(timeout=30)
    assert (new_stack.state / "run/initdb").exists(), "initdb ended before the kill: the test proves nothing"
    code, lines = up(new_stack)
    assert code == 0, lines
    assert not (new_stack.state / "run/initdb").exists()
    assert new_stack.psql("SHOW data_checksums") == [("on",)]
    time.sleep(1)
    assert call(new_stack.ports["agent"], "GET", "/readyz").status == 200


def test_two_at_once_end_as_one(new_stack):
    """Both want to be the agent: one is replaced, and what runs in the end runs once."""
    assert up(new_stack)[0] == 0
    results = []
    threads = [threading.Thread(target=lambda: results.append(up(new_stack))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0 in [code for code, _ in results], results
    new_stack.wait_up()
    agents = [p for p in new_stack.processes() if p.name() == "bulkhead-agent"]
    masters = [p for p in new_stack.processes() if p.name() == "nginx" and "master" in " ".join(p.cmdline())]
    assert len(agents) == 1 and len(masters) == 1


# -- feed, keys and counters: an agent by itself, and the wire to the real daemon bent -----


class Wire:
    """Stands between the agent and the real daemon: passes on whole HTTP exchanges, keeps what the agent sends, and
    can put bytes of its own into the feed, cut it, or hold it back."""

    def __init__(self, upstream):
        self.upstream, self.posts, self.leases, self.acks, self.requests = upstream, [], [], [], []
        self.inject, self.muted, self.generation, self.pieces = [], False, 0, None
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def chunk(self, data):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
                self.wfile.flush()

            def forward(self):
                size = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(size)
                connection = http.client.HTTPConnection("127.0.0.1", outer.upstream, timeout=60)
                try:
                    connection.request(self.command, self.path, body or None, dict(self.headers))
                    answer = connection.getresponse()
                    outer.requests.append((self.command, self.path, answer.status))
                    if self.command == "POST":
                        (outer.posts if self.path == "/v1/usage" else outer.leases).append((size, json.loads(body), answer.status))
                    if self.command == "PUT":
                        outer.acks.append(json.loads(body))
                    if answer.headers.get("Transfer-Encoding") == "chunked":
                        self.follow(answer)
                    else:
                        data = answer.read()
                        self.send_response(answer.status)
                        self.send_header("Content-Length", str(len(data)))
                        self.end_headers()
                        self.wfile.write(data)
                except OSError:
                    self.close_connection = True
                finally:
                    connection.close()

            do_GET = do_PUT = do_POST = forward

            def follow(self, answer):
                self.send_response(answer.status)
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                mine = outer.generation
                while mine == outer.generation and (line := answer.readline()):
                    if outer.muted:
                        continue
                    for piece in outer.cut(line):
                        self.chunk(piece)
                    if outer.inject and b'"head"' in line:
                        for data in outer.inject.pop(0):
                            self.chunk(data)
                self.close_connection = True  # without the last chunk: cut

        self.reserved = Ports()
        self.port = self.reserved.take()
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def cut(self, line):
        return [line[i:i + self.pieces] for i in range(0, len(line), self.pieces)] if self.pieces else [line]

    def feeds(self):
        """Where each connection of the feed began."""
        return [path.split("after=")[1] for _, path, status in self.requests if "after=" in path and status == 200]

    def close(self):
        self.generation += 1
        self.server.shutdown()
        self.server.server_close()
        self.reserved.release()


class Node:
    """The stack with its agent replaced by one that runs no children, behind a wire."""

    def __init__(self, stack):
        self.stack = stack
        self.wire = Wire(stack.ports["control"])
        digest = hashlib.sha256(str(stack.state).encode()).hexdigest()[:16]
        self.counters = pathlib.Path(f"/dev/shm/bulkhead-{digest}/counters")
        self.process = None
        agent = stack.pid("agent")
        os.kill(agent, signal.SIGQUIT)  # leaves; its children live on
        wait_for(lambda: not alive(agent), 10, "the embedded agent leaves")
        self.token = stack.dir / "agent.token"
        self.token.write_text(stack.credential("agent"))
        os.chown(self.token, engine_uid(), -1)
        self.token.chmod(0o400)

    def arguments(self, **other):
        state = self.stack.state
        flags = {"control-url": f"http://127.0.0.1:{self.wire.port}", "token-file": self.token,
                 "snapshot": state / "snapshot", "keyring": state / "keys/edge.keyring", "counters": self.counters,
                 "id": "local", "listen": f"127.0.0.1:{self.stack.ports['agent']}",
                 "server-key": f"main={state}/keys/server-main.key:{state}/postgres/postmaster.pid", **other}
        return [str(program("bulkhead-agent", self.stack.dir)),
                *(str(word) for name, value in flags.items() for word in (f"--{name}", value))]

    def run(self, *args, **options):
        user = {"user": engine_uid(), "group": pwd.getpwuid(engine_uid()).pw_gid, "extra_groups": []} \
            if os.geteuid() == 0 else {}
        return subprocess.Popen(*args, stdin=subprocess.DEVNULL, cwd=self.stack.state, **user, **options)

    def start(self):
        self.log = open(self.stack.dir / "node.log", "ab")
        self.process = self.run(self.arguments(), stderr=self.log)
        try:
            wait_for(lambda: call(self.stack.ports["agent"], "GET", "/readyz").status == 200, 15, "the node is ready")
        except AssertionError as error:
            raise AssertionError(f"{error}: {(self.stack.dir / 'node.log').read_text()[-2000:]}") from None

    def status(self):
        return call(self.stack.ports["agent"], "GET", "/status").json()

    def seq(self):
        return self.status()["snapshot"]["seq"]

    def acked(self):
        """What the daemon believes this agent has applied."""
        return self.stack.psql("SELECT seq FROM agent WHERE id = 'local'", database="bulkhead")[0][0]

    def rate(self, tenant, requests):
        """Change a tenant's limit; its record goes through the feed, and the flow waits for the acknowledgement."""
        op = self.stack.put(tenant, {"limits": {"requests_per_second": requests, "burst": 1000}})
        assert op["state"] == "succeeded", op

    def served_rate(self, tenant):
        answer = self.stack.request(tenant, "/")
        return answer.status == 200 and answer.headers["RateLimit-Policy"]

    def close(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=10) == 0
        self.wire.close()
        assert up(self.stack)[0] == 0


def alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def node(stack):
    stack.wait_up()
    node = Node(stack)
    node.start()
    yield node
    node.close()


def test_a_node_by_itself_keeps_tenants_served(node):
    before = pids(node.stack)
    assert [c["name"] for c in node.status()["components"]] == ["agent"]
    node.rate("acme", 500)
    assert node.served_rate("acme").endswith("q=1000;w=2")
    assert node.acked() == node.seq()
    assert call(node.stack.ports["agent"], "POST", "/seed", {}, "{}").status == 404
    assert before["agent"] != node.process.pid


def test_a_change_is_acknowledged_at_once(node):
    head = node.seq()
    begin = time.monotonic()
    node.rate("globex", 321)
    took = time.monotonic() - begin
    assert node.seq() > head and node.acked() == node.seq()
    assert took < 3, f"{took} s: the flow waited for a later acknowledgement"
    acks = lambda: sum(1 for method, _, _ in node.wire.requests if method == "PUT")
    before = acks()
    wait_for(lambda: acks() >= before + 2, 13, "acknowledged every 5 s without news")


def test_a_window_that_is_over_asks_for_nothing(node):
    """Its cell stays for two hours; with many tenants such cells would take the places of those that count."""
    no = node.stack.psql("SELECT no FROM tenant WHERE id = 'acme'", database="bulkhead")[0][0]
    hour = int(time.time()) // 3600 * 3600
    file = f"{node.counters}.limits"
    wait_for(lambda: os.path.exists(file), 10, "the agent made the limits file")
    end = limitfix.PAGE + sum(capacity * size for capacity, size in limitfix.CELLS.values())
    with open(file, "r+b") as limits:
        for i, (name, begins) in enumerate((("over", hour - 7200), ("now", hour))):
            cell = struct.pack("<QQQIIQQQQqqII40s", time.monotonic_ns() + 3600 * 10**9, i + 1, 1, no, 0, 9, 10, 0, 1000, begins,
                               begins + 3600, 0, 0, name.encode())
            os.pwrite(limits.fileno(), cell, end - 4096 + i * 128)
    wants = lambda name: [want for _, body, _ in list(node.wire.leases) for want in body["wants"] if want["limit"] == name]
    wait_for(lambda: wants("now"), 15, "what counts now is asked for")
    assert not wants("over")


def test_requests_in_flight_of_a_tenant_that_moves_are_told(node):
    """Who drains it sees their number for the state that it asked for, and 0 when the last one has ended."""
    stack = node.stack
    no = stack.psql("SELECT no FROM tenant WHERE id = 'acme'", database="bulkhead")[0][0]
    append = """WITH head AS (UPDATE feed_head SET seq = seq + 1 RETURNING seq)
                INSERT INTO feed (seq, no, cell, version, record)
                SELECT head.seq, f.no, f.cell, f.version + 1, f.record || %s FROM head,
                       (SELECT * FROM feed WHERE no = %s ORDER BY seq DESC LIMIT 1) f
                RETURNING seq, pg_notify('bulkhead_feed', '')"""
    running = [socket.create_connection(("127.0.0.1", stack.ports["edge"]), timeout=20) for _ in range(3)]
    try:
        for sock in running:  # its body is never whole until we say so
            sock.sendall(f"POST /orders HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {stack.user_token('acme')}\r\n"
                         "Content-Length: 2\r\nConnection: close\r\n\r\n{".encode())
        assert stack.request("acme", "/").status == 200
        assert all(ack["in_flight"] == {} for ack in node.wire.acks), "nobody asked"
        seq = stack.psql(append, '{"state": "moving"}', no, database="bulkhead")[0][0]
        told = lambda: [ack["in_flight"] for ack in node.wire.acks if ack["applied"]["seq"] >= seq]
        wait_for(lambda: told() and told()[-1] == {str(no): 3}, 5, "three are told")
        for left, sock in zip((2, 1, 0), running):
            sock.sendall(b"}")
            assert sock.recv(65536).startswith(b"HTTP/1.1 4")
            wait_for(lambda: told()[-1] == {str(no): left}, 5, f"{left} are told")
        counts = [item[str(no)] for item in told()]
        assert counts == sorted(counts, reverse=True) and set(counts) <= {3, 2, 1, 0}
    finally:
        seq = stack.psql(append, '{"state": "active"}', no, database="bulkhead")[0][0]
        for sock in running:
            sock.close()
    wait_for(lambda: told() and told()[-1] == {}, 8, "it moves no more")
    assert stack.request("acme", "/").status == 200


def test_lines_in_pieces_are_the_same_lines(node):
    node.wire.pieces = 7
    node.rate("acme", 250)
    assert node.served_rate("acme").endswith("q=1000;w=4")


def wrong_lines(node):
    incarnation, seq = node.status()["snapshot"]["incarnation"], node.seq()
    no, facts = node.stack.psql("SELECT no, id FROM tenant WHERE id = 'acme'", database="bulkhead")[0]
    record = {"id": facts, "uid": "0193e1b2-0000-7000-8000-000000000001", "epoch": 99, "state": "suspended",
              "tier": "standard", "rate": 1, "burst": 1, "share": 1000, "server": "main", "database": "shared1",
              "endpoints": ["127.0.0.1:9"], "cell": "main"}
    row = {"incarnation": incarnation, "seq": seq + 1, "no": no, "version": 10**9, "record": record}

    def text(**other):
        return json.dumps({**row, **other}).encode() + b"\n"
    return {
        "half a line": text()[:-20] + b"\n",
        "no text": b"\xff\xfe\x00\n",
        "too long": b"x" * 70000 + b"\n",
        "head behind": b'{"head":0}\n',
        "member twice": b'{"head":%d,"head":%d}\n' % (seq, seq),
        "another incarnation": text(incarnation="0193e1b2-0000-7000-8000-000000000009"),
        "seq again": text(seq=seq),
        "illegal id": text(record={**record, "id": "Acme"}),
        "no share": text(record={**record, "share": 0}),
        "no record": text(record={}),
        "a snapshot's head": json.dumps({"format": 1, "incarnation": incarnation, "seq": seq}).encode() + b"\n",
    }


@pytest.mark.parametrize("wrong", ["half a line", "no text", "too long", "head behind", "member twice",
                                   "another incarnation", "seq again", "illegal id", "no share", "no record",
                                   "a snapshot's head"])
def test_a_wrong_line_changes_nothing(node, wrong):
    """It ends the connection; the next one goes on where the snapshot stands."""
    line, before, connections = wrong_lines(node)[wrong], node.seq(), len(node.wire.feeds())
    served = node.served_rate("acme")
    assert served
    node.wire.inject.append([line])
    wait_for(lambda: len(node.wire.feeds()) > connections, 20, "the agent connects again")
    assert node.wire.feeds()[-1].endswith(f".{before}") and node.seq() == before
    assert node.served_rate("acme") == served
    node.rate("acme", 100 + len(wrong))
    assert node.seq() > before


def test_a_right_line_does_change(node):
    """The control of the test above: the same way in, and this one is taken."""
    seq = node.seq()
    wrong = json.loads(wrong_lines(node)["seq again"])
    right = {**wrong, "seq": seq + 1, "record": {**wrong["record"], "state": "active", "rate": 7}}
    node.wire.inject.append([json.dumps(right).encode() + b"\n"])
    wait_for(lambda: node.seq() == seq + 1, 20, "the line is taken")
    node.wire.generation += 1  # the daemon knows nothing of it: after the next connection all is anew
    wait_for(lambda: any("snapshot" in path for _, path, _ in node.wire.requests), 20, "a snapshot is taken")
    wait_for(lambda: node.seq() == seq, 10, "and is the daemon's truth again")
    assert node.served_rate("acme")


def test_a_new_incarnation_replaces_all(node):
    """What a restored registry does: the daemon answers 410, and the snapshot comes whole."""
    old = node.status()["snapshot"]["incarnation"]
    node.stack.psql("UPDATE install SET incarnation = gen_random_uuid()", database="bulkhead")
    node.wire.generation += 1
    wait_for(lambda: node.status()["snapshot"]["incarnation"] != old, 20, "the new incarnation is taken")
    assert ("GET", "/v1/feed/snapshot", 200) in node.wire.requests
    assert node.status()["tenants"]["active"] == 3
    node.rate("acme", 501)
    assert node.served_rate("acme")


def test_silence_is_a_broken_connection(node):
    connections = len(node.wire.feeds())
    node.wire.muted = True
    wait_for(lambda: len(node.wire.feeds()) > connections, 30, "the agent connects again after 15 s of silence")
    assert node.served_rate("acme")
    node.wire.muted = False
    wait_for(lambda: call(node.stack.ports["agent"], "GET", "/readyz").status == 200, 20, "in step again")


def test_a_killed_node_goes_on_where_it_was(node):
    node.rate("acme", 400)
    seq = node.seq()
    node.process.kill()
    node.process.wait()
    assert node.served_rate("acme").endswith("q=1000;w=3")
    node.wire.requests.clear()
    node.start()
    assert node.wire.feeds()[-1].endswith(f".{seq}")
    assert not any("snapshot" in path for _, path, _ in node.wire.requests)


def test_a_second_agent_is_refused(node):
    other = node.run(node.arguments(listen=f"127.0.0.1:{node.wire.reserved.take()}"), stderr=subprocess.PIPE, text=True)
    _, said = other.communicate(timeout=20)
    assert other.returncode == 1 and "another process writes the snapshot" in said
    assert node.process.poll() is None


def test_keys_are_fetched_again_when_they_are_lost(node):
    key, ring = node.stack.state / "keys/server-main.key", node.stack.state / "keys/edge.keyring"
    wanted = key.read_text(), ring.read_text()
    key.unlink()
    ring.unlink()
    node.process.send_signal(signal.SIGHUP)
    wait_for(lambda: key.exists() and ring.exists(), 10, "the keys come back")
    assert (key.read_text(), ring.read_text()) == wanted
    assert state_mode(key) == state_mode(ring) == 0o400
    secrets = set(re.findall(r"[0-9a-f]{64}", wanted[0] + wanted[1]))
    assert secrets and not any(s in (node.stack.dir / "node.log").read_text() for s in secrets)
    assert node.stack.request("acme", token=node.stack.user_token("acme")).status == 200


def count(node, values):
    """Write slots into the counters file as an edge would: {no: requests}."""
    with open(node.counters, "r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        capacity = struct.unpack_from("=I", data, 16)[0]
        for no, requests in values.items():
            at = 256 + 256 * (no % capacity)
            struct.pack_into("=I", data, at, no)
            struct.pack_into("=Q", data, at + 16, requests)


def test_counters_file_that_is_replaced_loses_nothing(node):
    """What is counted in the old file until it is noticed, and in the new one after, is told: both are."""
    stack, token = node.stack, node.stack.user_token("globex")
    before, sent = stack.usage("globex"), 0
    old, other = node.counters.with_name("counters.old"), node.counters.with_name("counters.other")

    def ask():
        nonlocal sent
        assert stack.request("globex", token=token).status == 200
        sent += 1
        return True
    for replace in (lambda: node.counters.rename(old), lambda: other.rename(node.counters)):
        other.write_bytes(b"of another version")
        os.chown(other, engine_uid(), -1)
        for _ in range(7):
            ask()
        replace()
        for _ in range(5):  # the workers look once in a second
            ask()
        wait_for(lambda: ask() and node.counters.exists() and node.counters.stat().st_size > 1000, 10, "a new file")
        wait_for(lambda: stack.usage("globex") >= before + sent, 25, "all that was served is counted")
    assert stack.usage("globex") == before + sent
    assert len({body["file_epoch"] for _, body, _ in node.wire.posts if body["values"]}) == 3
    old.unlink()


def test_counters_go_in_small_bodies_and_strangers_do_not_hold_up_others(node):
    """Slots that the registry does not know, as after a restore: the daemon refuses them, one by one."""
    strangers = {no: 1 for no in range(900_001, 900_201)}
    token, before = node.stack.user_token("umbrella"), node.stack.usage("umbrella")
    count(node, strangers)
    for _ in range(5):
        assert node.stack.request("umbrella", token=token).status == 200
    wait_for(lambda: node.stack.usage("umbrella") == before + 5, 20, "what is known is counted")
    told = lambda: {v["no"] for _, body, _ in node.wire.posts for v in body["values"]}
    wait_for(lambda: told() >= set(strangers), 20, "the strangers were tried")
    assert max(size for size, _, _ in node.wire.posts) < 65536 and len(node.wire.posts) > 2
    assert {status for _, _, status in node.wire.posts} >= {422}
    for _, body, _ in node.wire.posts:
        assert set(body) == {"source", "file_epoch", "sampled_at", "values"} and body["source"] == "local"
    time.sleep(9)  # a post that was under way, and one more turn
    posts = len(node.wire.posts)
    time.sleep(9)
    again = {v["no"] for _, body, _ in node.wire.posts[posts:] for v in body["values"]}
    assert not again & set(strangers), "a refused slot is not sent for ever"
    # The file is sparse, and reading it must not fill it: a page a tenant at the most.
    assert os.stat(node.counters).st_blocks * 512 < 4 << 20
