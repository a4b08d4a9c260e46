"""The commands of README.md work as they stand there, in a clean clone, with a state and ports of their own."""
import os
import re
import subprocess

import pytest

from stack import PORTS, REPO, Stack

DEFAULTS = {"edge": "7080", "control": "7070"}


def commands():
    """The `$ ` lines of the console blocks, in order."""
    text = (REPO / "README.md").read_text()
    blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
    return [line[2:].split("   #")[0].strip()
            for block in blocks for line in block.splitlines() if line.startswith("$ ")]


@pytest.fixture
def clone(request):
    """A clean clone, and a stack object that names its state and ports."""
    stack = Stack("readme")
    work = stack.dir / "clone"
    subprocess.run(["git", "clone", "-q", str(REPO), str(work)], check=True)
    yield stack, work
    subprocess.run(["build/bin/bulkhead", "down"], cwd=work, env=environment(stack), check=False,
                   capture_output=True)
    left = stack.close(keep_logs=getattr(request.node, "bulkhead_failed", False))
    assert not left, left


def environment(stack):
    env = {k: v for k, v in stack.env.items() if k != "BULKHEAD_URL"}
    env.update({f"BULKHEAD_{name.upper()}_PORT": str(port) for name, port in stack.ports.items()})
    env.update(CI="true", HOME=str(stack.dir))
    return env


def with_our_ports(command, stack):
    for name, port in DEFAULTS.items():
        command = command.replace(f":{port}", f":{stack.ports[name]}")
    return command


def test_readme(clone):
    stack, work = clone
    listed = commands()
    assert listed[0] == "make up" and any(c.startswith("curl ") for c in listed)
    for command in listed:
        if command == "make test":
            continue  # this is it
        done = subprocess.run(["bash", "-ec", with_our_ports(command, stack)], cwd=work,
                              env=environment(stack), text=True, capture_output=True,
                              stdin=subprocess.DEVNULL, timeout=900)
        assert done.returncode == 0, f"{command}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        if command.startswith("curl "):
            assert '"items":[{"id"' in done.stdout.replace(" ", ""), done.stdout
        if command == "make up":
            for tenant in ("acme", "globex", "umbrella"):
                assert f"http://{tenant}.localhost:{stack.ports['edge']}/" in done.stdout, done.stdout
    assert stack.processes() == []
    changed = subprocess.run(["git", "status", "--porcelain"], cwd=work, text=True, capture_output=True)
    assert changed.stdout == "", "the commands changed files that git knows"
