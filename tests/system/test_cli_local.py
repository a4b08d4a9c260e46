"""`up`, `status` and `down` of the command line with the real agent; what the engines then do is tested elsewhere."""
import json
import os
import re
import signal
import socket
import subprocess

import pytest

from stack import BUILD, PORTS

COMPONENTS = ["agent", "control", "edge", "postgres", "pgbouncer", "app"]
EXAMPLES = ("acme", "globex", "umbrella")


def states(done):
    return {c["name"]: c["state"] for c in json.loads(done.stdout)["components"]}


def pids(stack):
    return {c["name"]: c["pid"] for c in stack.status()["components"]}


def test_first_up_then_all_the_rest(new_stack):
    stack = new_stack
    first = stack.up()
    for tenant in EXAMPLES:
        assert re.search(rf"^{tenant} +active +http://{tenant}\.localhost:{stack.ports['edge']}/$", first.stdout, re.M)
        assert f"{tenant}: rows of the example are in" in first.stderr
    for component in COMPONENTS[1:]:
        assert re.search(rf"^{component} (up|restarted)", first.stderr, re.M), first.stderr
    next_line = re.search(r'^next: (curl -s \S+ -H "Authorization: Bearer \$\(.*\)")$', first.stderr, re.M)[1]
    answer = subprocess.run(["bash", "-c", next_line], env=stack.env, capture_output=True, text=True, timeout=30)
    assert json.loads(answer.stdout)["items"], answer

    done = stack.cli("status", "-o", "json")
    assert done.returncode == 0
    status = json.loads(done.stdout)
    assert list(states(done)) == COMPONENTS and set(states(done).values()) == {"up"}
    assert {c["name"]: c["port"] for c in status["components"]} == {name: stack.ports[port] for name, port in zip(
        COMPONENTS, ("agent", "control", "edge", "postgres", "pgbouncer", "app"))}
    assert status["tenants"] == {"active": 3} and status["snapshot"]["seq"] >= 3 and status["snapshot"]["age_ms"] >= 0
    assert stack.cli("status").returncode == 0

    # a second time: nothing is touched, no example is applied again, ports are those of the last time
    assert stack.delete("umbrella")["state"] == "succeeded"
    before = pids(stack)
    again = stack.cli("up")
    assert again.returncode == 0 and "rows of the example" not in again.stderr and "umbrella" not in again.stdout
    assert {n: p for n, p in pids(stack).items() if n != "agent"} == {n: p for n, p in before.items() if n != "agent"}
    printed = stack.cli("up", "-o", "json")
    assert set(states(printed).values()) == {"up"}

    # the agent killed: what it started serves on, status says so, up adopts, down ends all
    os.kill(stack.pid("agent"), signal.SIGKILL)
    done = stack.cli("status", "-o", "json")
    assert done.returncode == 2
    assert states(done) == {name: "down" if name == "agent" else "up" for name in COMPONENTS}
    assert json.loads(done.stdout)["tenants"] == {"active": 2}
    assert json.loads(done.stdout)["snapshot"] == {"incarnation": None, "seq": None, "age_ms": None}
    kept = {n: p for n, p in pids(stack).items() if n != "agent"}
    assert stack.cli("up").returncode == 0
    assert {n: p for n, p in pids(stack).items() if n != "agent"} == kept
    os.kill(stack.pid("agent"), signal.SIGKILL)
    done = stack.cli("down", "-o", "json")
    assert done.returncode == 0 and set(states(done).values()) == {"down"}
    assert stack.processes() == []

    down = stack.cli("status", "-o", "env")
    assert down.returncode == 2 and f"http://127.0.0.1:{stack.ports['edge']}" in down.stdout
    assert stack.cli("tenant", "list").returncode == 69
    assert stack.cli("down").returncode == 0


@pytest.mark.parametrize("port", PORTS[:-1])  # Redis comes later
def test_a_port_that_is_taken(new_stack, port):
    stack = new_stack
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(("127.0.0.1", stack.ports[port]))
        holder.listen()
        done = stack.up(check=False)
    assert done.returncode == 78, done
    assert str(stack.ports[port]) in done.stderr and f"--{port}-port" in done.stderr
    assert str(os.getpid()) in done.stderr, "the process that holds it is not named"
    assert done.stdout == "" and stack.processes() == []


def test_up_interrupted_says_what_goes_on_and_up_again_completes_it(new_stack):
    stack = new_stack
    flags = [f for name, port in stack.ports.items() for f in (f"--{name}-port", str(port))]
    started = subprocess.Popen([BUILD / "bin/bulkhead", "up", *flags], env=stack.env, stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert "starting" in started.stderr.readline()
    os.killpg(started.pid, signal.SIGINT)  # as a terminal does
    out, said = started.communicate(timeout=30)
    assert started.returncode == 130 and out == "" and "bulkhead status" in said, said
    assert stack.up().returncode == 0
    assert stack.cli("status").returncode == 0
