"""The command line before a real control plane that runs real flows; the edge is the test's own (flowfix)."""
import http.server
import json
import re
import signal
import subprocess
import threading
import time

import pytest

from flowfix import OPERATOR, Plant
from pgserver import PORTS, PREFIX, wait_for

PROGRAM = PREFIX / "bin/bulkhead"


@pytest.fixture(scope="module")
def plant():
    plant = Plant()
    plant.main = plant.daemon()
    yield plant
    plant.close()


@pytest.fixture
def cli(plant):
    """Runs the command line as the operator; `.start` gives the process."""
    plant.edge.status = 200

    def environment(more):
        return {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "BULKHEAD_STATE": "/tmp/bulkhead-no-such-state",
                "BULKHEAD_URL": f"http://127.0.0.1:{plant.main.port}", "BULKHEAD_TOKEN": OPERATOR, **more}

    def run(*args, stdin="", **env):
        return subprocess.run([PROGRAM, *map(str, args)], input=stdin, capture_output=True, text=True, timeout=90,
                              env=environment(env))

    def start(*args, **env):
        return subprocess.Popen([PROGRAM, *map(str, args)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env=environment(env))
    run.start = start
    return run


@pytest.fixture
def file(tmp_path):
    def write(text, name="tenant.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return path
    return write


@pytest.fixture
def held(plant):
    """Operations wait while this holds the table that the database step writes."""
    connection = plant.server.connect(database="shared1")
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute("LOCK TABLE bulkhead.tenant IN ACCESS EXCLUSIVE MODE")
    yield connection
    connection.close()


def applied(done):
    assert done.returncode == 0, done
    return json.loads(done.stdout)


def test_a_tenants_life(cli, file, plant):
    path = file("id: life\nname: Life Ltd\nlimits: {burst: 50}\n")
    done = cli("diff", "-f", path, "--exit-code")
    assert done.returncode == 2 and "+ life" in done.stdout and "limits.burst: 50" in done.stdout
    assert cli("diff", "-f", path).returncode == 0

    done = cli("apply", "-f", path)
    assert done.returncode == 0, done
    assert "+ life" in done.stderr and "limits.requests_per_second: 100" in done.stderr  # what will happen
    for step in ("database", "route", "smoke"):
        assert re.search(rf"^life: {step} done", done.stderr, re.M), done.stderr
    assert re.search(r"^life +created +active +http://life\.localhost:\d+/$", done.stdout, re.M), done.stdout

    again = cli("apply", "-f", path)
    assert again.returncode == 0 and "unchanged" in again.stdout and "done" not in again.stderr
    assert cli("diff", "-f", path, "--exit-code").returncode == 0

    path.write_text("id: life\nname: Life Ltd\nlimits: {burst: 60}\n")
    diff = applied(cli("diff", "-f", path, "-o", "json"))
    assert diff == {"items": [{"id": "life", "action": "change",
                               "changes": [{"pointer": "/limits/burst", "from": 50, "to": 60}]}]}
    done = cli("apply", "-f", path)
    assert "limits.burst: 50 -> 60" in done.stderr and re.search(r"^life +changed +active ", done.stdout, re.M)

    path.write_text("id: life\n")  # what is absent has its default again
    tenant = applied(cli("apply", "-f", path, "-o", "json"))
    assert tenant["name"] == "life" and tenant["limits"] == {"requests_per_second": 100, "burst": 200}
    assert tenant["state"] == "active" and tenant["operation"] is None
    assert tenant == plant.main.call("GET", "/v1/tenants/life")[1]

    op = applied(cli("tenant", "delete", "life", "--now", "-o", "json"))
    assert (op["kind"], op["state"], op["tenant"]) == ("offboard", "succeeded", "life")
    assert cli("tenant", "get", "life").returncode == 66
    assert cli("tenant", "delete", "life", "--now").returncode == 66


def test_get_and_apply_round_trip(cli, file):
    applied(cli("apply", "-f", file("id: round\nname: \"Round & Söhne ✔\"\n"), "-o", "json"))
    text = cli("tenant", "get", "round", "-o", "json").stdout
    done = cli("apply", "-f", "-", stdin=text)
    assert done.returncode == 0 and "unchanged" in done.stdout, done
    assert json.loads(cli("get", "tenant", "round", "-o", "json").stdout) == json.loads(text)
    assert "Round & Söhne ✔" in cli("tenant", "get", "round").stdout


def test_lists(cli, file, tmp_path):
    for n in range(4):
        file(f"id: list-{n}\nname: List {n}\n", f"{n}.yaml")
    done = cli("apply", "-f", tmp_path, "-o", "json")
    envelope = applied(done)
    assert [t["id"] for t in envelope["items"]] == [f"list-{n}" for n in range(4)]
    assert envelope["next_page_token"] is None and "4 to create" in done.stderr
    listed = applied(cli("get", "tenants", "--search", "LIST-", "-o", "json"))
    assert listed == envelope
    table = cli("tenant", "list").stdout
    assert table.startswith("ID ") and all(f"list-{n}" in table for n in range(4))
    assert [line.split()[0] for line in cli("get", "tenants", "--search", "List 2").stdout.splitlines()] == ["ID", "list-2"]

    ops = applied(cli("op", "list", "--tenant", "list-1", "-o", "json"))["items"]
    assert [o["kind"] for o in ops] == ["onboard"]
    op = ops[0]["id"]
    assert applied(cli("op", "get", op, "-o", "json")) == ops[0]
    shown = cli("op", "get", op).stdout
    assert op in shown and "smoke" in shown
    assert applied(cli("op", "watch", op, "-o", "json")) == ops[0]
    assert cli("op", "get", "op_nothing").returncode == 66
    assert cli("op", "watch", "op_nothing").returncode == 66
    assert cli("op", "list", "--limit", "1", "-o", "json").stdout.count('"kind"') == 1


def test_all_pages_are_read(cli, plant):
    """More tenants than one page takes, written straight into the registry."""
    plant.registry("INSERT INTO tenant (no, id, uid, name, tier, rate, burst, state, epoch, generation,"
                   " observed_generation, cell) SELECT 100000 + n, 'page-' || n, gen_random_uuid(), 'p', 'standard', 1, 1,"
                   " 'suspended', 1, 1, 1, 'main' FROM generate_series(1000, 2100) n")
    try:
        ids = [t["id"] for t in json.loads(cli("tenant", "list", "--search", "page-", "-o", "json").stdout)["items"]]
        assert ids == [f"page-{n}" for n in range(1000, 2101)]
    finally:
        plant.registry("DELETE FROM tenant WHERE id LIKE 'page-%'")


def test_tokens(cli, file):
    cli("apply", "-f", file("id: tokens\n"))
    done = cli("token", "tokens", "--user", "u1")
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.stdout) and done.stderr == "" and done.returncode == 0
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", cli("token", "tokens", "--job", "--ttl", "3600").stdout)
    assert set(applied(cli("token", "tokens", "--user", "u", "-o", "json"))) == {"token", "expires_at"}
    done = cli("token", "nobody", "--user", "u1")
    assert done.returncode == 66 and "nobody" in done.stderr and done.stdout == ""


def test_a_failed_onboarding_says_why_and_what_next(cli, file, plant):
    """Two fail at once (a smoke test is tried for half a minute); one is resumed, one applied again."""
    plant.edge.status = 500
    resumes, again = file("id: fails-a\n", "a.yaml"), file("id: fails-b\n", "b.yaml")
    done = cli("apply", "-f", resumes, "-f", again, "--timeout", "80")
    assert done.returncode == 1, done
    ops = {}
    for tenant in ("fails-a", "fails-b"):
        said = re.search(rf"^bulkhead: onboard of {tenant} (undone|failed) at step smoke: .*500.*\n"
                         r"  undone: .*database.*\n  next: .*bulkhead op resume (op_[0-9A-Z]{26})$", done.stderr, re.M)
        assert said, done.stderr
        ops[tenant] = said[2]
        assert re.search(rf"^{tenant} +failed +failed ", done.stdout, re.M), done.stdout

    watched = cli("op", "watch", ops["fails-a"])
    assert watched.returncode == 1 and "smoke" in watched.stderr
    plant.edge.status = 200
    resumed = applied(cli("op", "resume", ops["fails-a"], "-o", "json"))
    assert resumed["state"] == "succeeded" and resumed["id"] != ops["fails-a"]
    assert "unchanged" in cli("apply", "-f", resumes).stdout
    done = cli("apply", "-f", again)
    assert done.returncode == 0 and re.search(r"^fails-b .* active ", done.stdout, re.M), done


def test_deadline_and_interruption_leave_the_operation_going(cli, file, held):
    done = cli("apply", "-f", file("id: slow\n"), "--timeout", "1")
    assert done.returncode == 75, done
    command = re.search(r"^  next: bulkhead (op watch op_[0-9A-Z]{26})$", done.stderr, re.M)[1].split()
    assert re.search(r"^slow +running +pending ", done.stdout, re.M), done.stdout

    watching = cli.start(*command)
    time.sleep(0.5)
    watching.send_signal(signal.SIGINT)
    _, said = watching.communicate(timeout=20)
    assert watching.returncode == 130 and "goes on" in said and f"next: bulkhead {' '.join(command)}" in said

    held.rollback()
    done = cli(*command)
    assert done.returncode == 0, done


def test_two_at_once_make_one_tenant_and_both_say_so(cli, file):
    path = file("id: twice\n")
    both = [cli.start("apply", "-f", path, "-o", "json") for _ in range(4)]
    answers = [(p.communicate(timeout=60), p.returncode) for p in both]
    assert [code for _, code in answers] == [0] * 4, answers
    assert len({json.loads(out)["uid"] for (out, _), _ in answers}) == 1


def test_a_change_by_others_between_plan_and_put_is_planned_again(cli, file, plant, held):
    """The PUT carries the etag of what was printed."""
    held.rollback()
    path = file("id: race\nlimits: {burst: 10}\n")
    cli("apply", "-f", path)
    stop = threading.Event()

    def meddle():
        n = 0
        while not stop.is_set():
            n += 1
            plant.main.put("race", {"name": f"n{n}", "limits": {"burst": 20}})
    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        outcomes = [cli("apply", "-f", path) for _ in range(12)]
    finally:
        stop.set()
        thread.join()
    assert all(done.returncode in (0, 1) for done in outcomes), outcomes
    for done in outcomes:
        assert done.returncode == 0 or "bulkhead:" in done.stderr
    assert cli("apply", "-f", path).returncode == 0
    assert plant.main.call("GET", "/v1/tenants/race")[1]["limits"]["burst"] == 10


def test_offboarding_refuses_a_put(cli, file, plant, held):
    held.rollback()
    path = file("id: leaving\n")
    assert cli("apply", "-f", path).returncode == 0
    with held.cursor() as cursor:
        cursor.execute("LOCK TABLE bulkhead.tenant IN ACCESS EXCLUSIVE MODE")
    plant.main.delete("leaving")
    done = cli("apply", "-f", path)
    assert done.returncode == 1 and "op_" in done.stderr, done
    held.rollback()
    wait_for(lambda: plant.main.call("GET", "/v1/tenants/leaving")[0] == 404, "leaving is gone")


def test_one_bad_file_writes_nothing(cli, file, tmp_path, plant):
    file("id: good\n", "a.yaml")
    bad = file("id: bad\nlimit: {}\n", "b.yaml")
    done = cli("apply", "-f", tmp_path)
    assert done.returncode == 65 and f"{bad}:2:1: " in done.stderr
    assert plant.main.call("GET", "/v1/tenants/good")[0] == 404
    bad.unlink()
    assert cli("apply", "-f", tmp_path).returncode == 0
    assert plant.main.call("GET", "/v1/tenants/good")[0] == 200


def test_a_daemon_that_restarts_is_waited_for(cli, file, plant, held):
    watching = cli.start("apply", "-f", file("id: patient\n"), "--timeout", "60")
    wait_for(lambda: plant.main.call("GET", "/v1/tenants/patient")[0] == 200, "it is put")
    time.sleep(0.3)
    plant.main.signal(signal.SIGSTOP)
    time.sleep(1)
    held.rollback()
    plant.main.signal(signal.SIGCONT)
    out, said = watching.communicate(timeout=60)
    assert watching.returncode == 0, said
    assert re.search(r"^patient +created +active ", out, re.M)


def test_wrong_credential_and_no_server(cli, file):
    path = file("id: nobody\n")
    for args in (("tenant", "list"), ("apply", "-f", path), ("token", "acme", "--user", "u")):
        done = cli(*args, BULKHEAD_TOKEN="wrong")
        assert done.returncode == 77 and done.stdout == "", done
        done = cli(*args, BULKHEAD_TOKEN="")
        assert done.returncode == 77, done
        done = cli(*args, BULKHEAD_URL="http://127.0.0.1:1")
        assert done.returncode == 69 and "bulkhead up" in done.stderr, done


def test_the_servers_token_goes_to_this_machine_only(cli, tmp_path, plant):
    (tmp_path / "operator.token").write_text(OPERATOR + "\n")
    here = {"BULKHEAD_TOKEN": "", "BULKHEAD_STATE": str(tmp_path)}
    assert cli("tenant", "list", **here).returncode == 0
    # the same server by a name that is no loopback address: the token stays here
    done = cli("tenant", "list", BULKHEAD_URL=f"http://127.0.0.2:{plant.main.port}", **here)
    assert done.returncode in (69, 77)
    (tmp_path / "operator.token").write_text("two words\n")
    assert cli("tenant", "list", **here).returncode == 78


class NewerServer(http.server.BaseHTTPRequestHandler):
    """A release that is stricter than this command line: knows no tenant, and refuses each as ${refusal} says."""
    refusal = {}

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/problem+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.answer(404, {"code": "not-found", "status": 404, "title": "Not found", "detail": "no such tenant"})

    def do_PUT(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(422, {"code": "invalid", "status": 422, "title": "Invalid value", **self.refusal})

    def log_message(self, *args):
        pass


def test_what_only_the_server_refuses_is_shown_in_the_file(cli, file):
    """No release refuses more than the shared table yet, so a server of the test's own stands for a later one."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", PORTS.take()), NewerServer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = {"BULKHEAD_URL": f"http://127.0.0.1:{server.server_address[1]}"}
        path = file("id: strict\nlimits:\n  burst: 7\n")
        NewerServer.refusal = {"detail": "two things", "errors": [
            {"pointer": "/limits/burst", "detail": "is above\x1b[31m your plan"},
            {"pointer": "/tier", "detail": "is sold out"}]}
        done = cli("apply", "-f", path, **url)
        assert done.returncode == 65, done
        assert f"{path}:3:10: is above?[31m your plan\n    3 |   burst: 7\n      |          ^\n" in done.stderr
        NewerServer.refusal = {"detail": "no more tenants", "hint": "ask for more"}
        done = cli("apply", "-f", path, **url)
        assert done.returncode == 65 and "strict: no more tenants\n  hint: ask for more" in done.stderr
    finally:
        server.shutdown()
        server.server_close()


def test_what_answers_is_no_control_plane(cli, plant):
    done = cli("tenant", "list", BULKHEAD_URL=f"http://127.0.0.1:{plant.edge.port}")
    assert done.returncode == 69 and "Bulkhead" in done.stderr, done
