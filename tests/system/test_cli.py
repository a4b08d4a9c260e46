"""The command line where no server is needed: tenant files that are wrong, wrong usage, help, the state directory."""
import json
import os
import pathlib
import pty
import re
import subprocess
import time

import pytest

BUILD = pathlib.Path(os.environ.get("BULKHEAD_BUILD") or
                     pathlib.Path(__file__).resolve().parents[2] / "build/test").resolve()
PROGRAM = BUILD / "bin/bulkhead"
NOBODY = "http://127.0.0.1:1"  # where nothing listens


def run(*args, stdin=b"", cwd=None, program=PROGRAM, **env):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("BULKHEAD_")}
    clean.update({"BULKHEAD_STATE": "/tmp/bulkhead-no-such-state", "NO_COLOR": "1", "LC_ALL": "C.UTF-8", **env})
    done = subprocess.run([program, *map(str, args)], input=stdin, capture_output=True, cwd=cwd, timeout=60,
                          env={k: v for k, v in clean.items() if v is not None})
    done.out, done.err = done.stdout.decode(), done.stderr.decode()
    return done


def check(tmp_path, data):
    """diff of a file with ${data}: a good one goes on to the server, which is not there (69)."""
    path = tmp_path / "t.yaml"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path, run("diff", "-f", path, BULKHEAD_URL=NOBODY)


# -- tenant files --------------------------------------------------------------------------

GOOD = [
    "id: hooli\n",
    "id: hooli",
    "\ufeffid: hooli\nname: Hooli\n",
    "id: hooli\r\nname: Hooli\r\nlimits:\r\n  burst: 5\r\n",
    "---\nid: hooli\n...\n",
    "%YAML 1.2\n---\nid: hooli\n",
    "# comment\nid: 'hooli' # another\nname: \"Hooli \\u00e9\"\n",
    '{"id": "hooli", "limits": {"burst": 5, "requests_per_second": 1000000}}',
    "id: hooli\nname: yes\n",  # a string in YAML 1.2
    "id: hooli\nname: |-\n  Hooli\n",
    "id: hooli\nname: 10.0.0\n",
    # what GET shows may stand in a file
    "id: hooli\nuid: x\nno: 1\nstate: [a]\nconditions: [{type: Ready}]\netag: '\"x\"'\noperation: null\n",
    "id: hooli\nname: " + "ü" * 200 + "\n",
    "id: hooli\n#" + "x" * (65536 - 11),
]


@pytest.mark.parametrize("text", GOOD)
def test_a_good_file_reaches_the_server(tmp_path, text):
    _, done = check(tmp_path, text)
    assert done.returncode == 69 and "bulkhead up" in done.err, done


BAD = [
    # file, line:column, words of the message
    ("id: hooli\nnmae: Hooli\n", "2:1", 'unknown key "nmae"; did you mean "name"?'),
    ("id: hooli\nlimits: {brust: 1}\n", "2:10", 'did you mean "burst"?'),
    ("id: hooli\nwhatever: 1\n", "2:1", 'unknown key "whatever"'),
    ("id: hooli\n<<: {name: x}\n", "2:1", 'unknown key "<<"'),
    ("id: hooli\nname: 5\n", "2:7", "name: must be a string"),
    ("id: hooli\nname: 0x1F\n", "2:7", "name: must be a string"),
    ("id: hooli\nname: true\n", "2:7", "name: must be a string"),
    ("id: hooli\nname: ~\n", "2:7", "name: must be a string"),
    ("id: hooli\nname: [a]\n", "2:7", "name: must be a string"),
    ("id: hooli\nname: " + "x" * 201 + "\n", "2:7", "200"),
    ("id: hooli\nlimits: 5\n", "2:9", "limits: must be an object"),
    ("id: hooli\nlimits: {burst: '5'}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: 5.0}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: 1e3}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: 0x10}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: 0o17}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: +5}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: 010}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: 0}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: 1000001}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\nlimits: {burst: 99999999999999999999}\n", "2:17", "burst: must be a whole number"),
    ("id: hooli\ntier: Gold\n", "2:7", "the name of a tier"),
    ("id: hooli\nedge: {auht: app}\n", "2:8", 'unknown key "auht"; did you mean "auth"?'),
    ("id: hooli\nedge:\n  auth: us\n", "3:9", "auth: must be one of edge, app"),
    ("id: hooli\nedge:\n  routes:\n    - {path: /a}\n    - {path: b, methods: [get]}\n", "5:14", "path: must be a plain path"),
    ("id: hooli\nedge:\n  quota_policies: []\n  limits: [daily]\n", "4:11", "names no quota policy"),
    ("id: hooli\ndomains:\n  - shop.example\n  - shop\n", "4:5", "must be a domain name"),
    ("id: hooli\ndomains: [a.example, a.example]\n", "2:22", "stands here twice"),
    ("id: hooli\nendpoints: [localhost]\n", "2:13", "host:port"),
    ("kind: tier\nedge: {}\n", "1:1", 'the key "name" is missing'),
    ("kind: tier\nname: T1\n", "2:7", "the name of a tier"),
    ("kind: tier\nname: gold\nlimits: {}\n", "3:1", 'unknown key "limits"'),
    ("kind: tier\nname: gold\nedge: {limits: [x]}\n", "3:16", "names no quota policy"),
    ("id: Hooli\n", "1:5", "id"),
    ("id: api\n", "1:5", "id"),
    ("id: 'Hooli'\n", "1:5", "id"),
    ('id: "Hooli"\n', "1:5", "id"),
    ("id: a--b\n", "1:5", "id"),
    ("name: Hooli\n", "1:1", 'the key "id" is missing'),
    ("", "1:1", 'the key "id" is missing'),
    ("# nothing\n", "1:1", 'the key "id" is missing'),
    ("- id: hooli\n", "1:1", "must be an object"),
    ("hooli\n", "1:1", "must be an object"),
    ("id: hooli\nname: A\nname: B\n", "3:1", 'key "name" stands here twice (first at 2:1)'),
    ("id: hooli\n\"name\": A\nname: B\n", "3:1", 'key "name" stands here twice'),
    ("id: hooli\nlimits: {burst: 1, burst: 1}\n", "2:20", 'key "burst" stands here twice'),
    ("id: &a hooli\n", "1:5", "anchors are not allowed"),
    ("&a id: hooli\n", "1:1", "anchors are not allowed"),
    ("id: hooli\nname: *a\n", "2:7", "aliases are not allowed"),
    ("id: !!str hooli\n", "1:5", "tags are not allowed"),
    ("id: hooli\nname: !x y\n", "2:7", "tags are not allowed"),
    ("id: hooli\n---\nid: other\n", "2:1", "second document"),
    ("id: hooli\n...\nid: other\n", "3:1", "second document"),
    ("id: hooli\nlimits:\n\tburst: 5\n", "3:1", "tab"),
    ("id: hooli\n  name: x\n", "2:3", "indentation"),
    ("id: hooli\nname: a: b\n", "2:8", "quote the value"),
    ("id: [hooli\n", "2:1", "bracket"),
    ('id: "hooli\n', "1:5", "quote"),
    ("? [a]\n: b\n", "1:3", "plain word"),
    ("id: hooli\nname: " + "[" * 20 + "]" * 20 + "\n", "2:22", "16 levels"),
    # columns count characters, a byte-order mark none
    ("id: hooli\nlimits: {\"ä\": 1}\n", "2:10", "unknown key"),
    ("id: hooli\n{\"ü€😀\": 1, x: 2}\n", "2", ""),
    ("\"ü€😀\": 1\n", "1:1", "unknown key"),
    ("{\"ü€😀\": 1, nmae: 2}\n", "1:12", 'did you mean "name"?'),
    ("\ufeffnmae: x\n", "1:1", "unknown key"),
    ("id: hooli\r\nnmae: x\r\n", "2:1", "unknown key"),
    (b"id: hooli\nname: a\xff\n", "2:8", "UTF-8"),
    (b"id: hooli\nname: \xc0\x80\n", "2:7", "UTF-8"),
    (b"id: hooli\nname: \x00\n", "2:7", "control character"),
    (b"id: hooli\nname: a\x1b[31m\n", "2:8", "control character"),
    ('id: hooli\nname: "a\\e"\n', "2:7", "control characters"),
]


@pytest.mark.parametrize("text, place, words", BAD)
def test_a_bad_file_is_shown(tmp_path, text, place, words):
    path, done = check(tmp_path, text)
    assert done.returncode == 65, done
    assert done.out == ""
    shown = [line for line in done.err.splitlines() if line.startswith(f"{path}:{place}:" if ":" in place
                                                                      else f"{path}:{place}")]
    assert any(words in line for line in shown), done.err
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.err), "control characters of the file reach the terminal"


def test_the_line_and_a_caret(tmp_path):
    path, done = check(tmp_path, "id: hooli\nlimits: {\"ä\": 1, burst: x}\n")
    assert done.err.splitlines() == [
        f'{path}:2:10: unknown key "ä"',
        '    2 | limits: {"ä": 1, burst: x}',
        "      |          ^",
        f"{path}:2:25: burst: must be a whole number from 1 to 1000000",
        '    2 | limits: {"ä": 1, burst: x}',
        "      |                         ^",
    ]


def test_a_long_line_is_shown_in_part(tmp_path):
    _, done = check(tmp_path, "{id: hooli, name: '" + "x" * 5000 + "', nmae: y}\n")
    assert all(len(line) < 400 for line in done.err.splitlines()), done.err
    lines = done.err.splitlines()
    at = next(i for i, line in enumerate(lines) if "unknown key" in line)
    assert lines[at + 1][lines[at + 2].index("^"):].startswith("nmae: y")


def test_too_large_is_refused_before_it_is_parsed(tmp_path):
    path, done = check(tmp_path, "id: hooli\n#" + "x" * (65537 - 11))
    assert done.returncode == 65 and done.err.startswith(f"{path}:1:1: ") and "64 KiB" in done.err
    begin = time.monotonic()
    path.write_text("a:\n" * 10_000_000)
    assert run("diff", "-f", path).returncode == 65
    assert time.monotonic() - begin < 2


def test_hostile_files_take_no_time(tmp_path):
    """Within 64 KiB nothing is quadratic: many keys, deep nests, one long line."""
    for text in ["".join(f"k{i}: 1\n" for i in range(8000)), "[" * 60_000, "a: [" + "[],x," * 12_000 + "]",
                 "{" + ",".join(f"a{i}" for i in range(9000)) + "}", "? " * 30_000]:
        begin = time.monotonic()
        _, done = check(tmp_path, text)
        assert done.returncode == 65, done.err[:300]
        assert time.monotonic() - begin < 3, text[:20]


def test_every_file_is_checked_and_all_errors_are_shown(tmp_path):
    (tmp_path / "a.yaml").write_text("id: a\nnmae: x\nteir: y\n")
    (tmp_path / "b.yaml").write_text("id: b\n")
    (tmp_path / "c").mkdir()
    (tmp_path / "c/tenant.yaml").write_text("name: c\n")
    (tmp_path / "c/other.yaml").write_text("not: read\n")
    (tmp_path / ".d.yaml").write_text("not: read\n")
    (tmp_path / "e.yml").write_text("not: read\n")
    done = run("apply", "-f", tmp_path, BULKHEAD_URL=NOBODY)
    assert done.returncode == 65
    places = re.findall(rf"^{re.escape(str(tmp_path))}/(\S+?): ", done.err, re.M)
    assert places == ["a.yaml:2:1", "a.yaml:3:1", "c/tenant.yaml:1:1"]


def test_one_id_in_two_files(tmp_path):
    (tmp_path / "a.yaml").write_text("id: same\n")
    (tmp_path / "b.yaml").write_text("name: B\nid: same\n")
    done = run("apply", "-f", tmp_path / "a.yaml", "-f", tmp_path / "b.yaml", BULKHEAD_URL=NOBODY)
    assert done.returncode == 65
    assert done.err.startswith(f"{tmp_path}/b.yaml:2:5: ") and f"{tmp_path}/a.yaml" in done.err


def test_standard_input(tmp_path):
    done = run("diff", "-f", "-", stdin=b"nmae: x\nid: a\n", BULKHEAD_URL=NOBODY)
    assert done.returncode == 65 and done.err.startswith("<stdin>:1:1: ")
    assert run("diff", "-f", "-", stdin=b"id: a\n", BULKHEAD_URL=NOBODY).returncode == 69


def test_paths_that_are_not_there(tmp_path):
    assert run("apply", "-f", tmp_path / "no.yaml").returncode == 66
    (tmp_path / "empty").mkdir()
    done = run("apply", "-f", tmp_path / "empty")
    assert done.returncode == 66 and "*.yaml" in done.err
    (tmp_path / "empty/x").mkdir()
    assert run("apply", "-f", tmp_path / "empty").returncode == 66


# -- usage ---------------------------------------------------------------------------------

@pytest.mark.parametrize("args, words", [
    ([], "usage:"), (["tenant"], "tenant delete"), (["aply"], 'did you mean "bulkhead apply"?'),
    (["tenant", "lst"], 'did you mean "bulkhead tenant list"?'), (["frobnicate"], "unknown command"),
    (["apply"], "-f"), (["apply", "-f"], "needs a value"), (["apply", "--fiel", "x"], 'did you mean "--file"?'),
    (["apply", "-x"], "unknown option"), (["tenant", "list", "more"], "more"), (["tenant", "get"], "<id>"),
    (["tenant", "delete", "acme"], "--now"), (["token", "acme"], "--user"), (["token"], "<tenant>"),
    (["token", "acme", "--user", "a b"], "--user"), (["token", "acme", "--user", "x", "--ttl", "0"], "86400"),
    (["token", "acme", "--job", "--ttl", "3601"], "3600"), (["token", "acme", "--user=x", "--user=y"], "twice"),
    (["token", "acme", "--job=yes"], "takes no value"), (["status", "-o", "yaml"], "table|json|env"),
    (["tenant", "list", "-o", "env"], "table|json"), (["tenant", "list", "--now"], "--now"),
    (["apply", "-f", "x", "--timeout", "soon"], "--timeout"), (["up", "--edge-port", "70000"], "65535"),
    (["up", "--edge-port=08080"], "65535"), (["help", "nothing"], "nothing"), (["op", "resume"], "<op>"),
])
def test_wrong_usage(args, words):
    done = run(*args)
    assert done.returncode == 64, done
    assert words in done.err and done.out == ""


def test_help_is_printed_from_the_table():
    listed = [row["command"] for row in json.loads(run("help", "-o", "json").out)["commands"]]
    assert {"up", "down", "status", "apply", "diff", "get tenants", "get tiers", "tenant list", "tenant get", "tenant delete",
            "certificate put", "certificate list", "certificate get", "certificate delete",
            "op list", "op get", "op watch", "op resume", "token", "usage", "audit list", "server list", "selfcheck",
            "api-key create", "api-key delete", "api-key list", "issuer delete", "issuer get", "issuer list", "issuer put",
            "issuer refresh", "explain access", "explain policy", "explain route", "explain limit",
            "adopt", "doctor", "lint", "version", "help"} == set(listed)
    everything = run("help")
    assert everything.returncode == 0 and everything.err == ""
    for command in listed:
        assert re.search(rf"^  {command}\b", everything.out, re.M)
        by_help, by_flag = run("help", *command.split()), run(*command.split(), "--help")
        assert by_help.returncode == by_flag.returncode == 0
        assert by_help.out == by_flag.out and "--output" in by_help.out and by_help.err == ""


def test_version():
    assert re.fullmatch(r"bulkhead \d+\.\d+\.\d+ \([0-9a-f]*\)\n", run("version").out)
    assert set(json.loads(run("version", "-o", "json").out)) == {"version", "commit"}


def test_results_on_a_closed_pipe_and_a_full_disk():
    done = subprocess.run(f"{PROGRAM} help | head -1", shell=True, capture_output=True)
    assert done.returncode == 0 and done.stderr == b""
    with open("/dev/full", "wb") as full:
        done = subprocess.run([PROGRAM, "help"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1 and b"No space left" in done.stderr


def test_colours_on_a_terminal_only():
    def on_terminal(**env):
        main, side = pty.openpty()
        clean = {k: v for k, v in os.environ.items() if not k.startswith("BULKHEAD_") and k != "NO_COLOR"}
        clean.update({"BULKHEAD_STATE": "/tmp/bulkhead-no-such-state", "TERM": "xterm", **env})
        subprocess.run([PROGRAM, "status"], stdout=side, stderr=side, stdin=side, env=clean, timeout=20)
        os.close(side)
        text = os.read(main, 65536)
        os.close(main)
        assert b"postgres" in text
        return b"\x1b[" in text
    assert on_terminal()
    assert not on_terminal(NO_COLOR="1")
    assert not on_terminal(TERM="dumb")
    assert "\x1b[" not in run("status", NO_COLOR=None, TERM="xterm").out


def test_start_up_is_quick():
    """In CPU time: other work on the machine is not ours."""
    def once():
        process = subprocess.Popen([PROGRAM, "version"], stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return usage.ru_utime + usage.ru_stime
    slower = 10 if b"__asan_init" in PROGRAM.read_bytes() else 1  # tools/check runs us with sanitizers
    assert min(once() for _ in range(20)) < 0.015 * slower


# -- where the state is --------------------------------------------------------------------

def test_unreachable_and_its_hint():
    done = run("tenant", "list", BULKHEAD_URL=NOBODY)
    assert done.returncode == 69 and "bulkhead up" in done.err
    assert run("tenant", "list", BULKHEAD_URL="nonsense").returncode == 78
    assert run("tenant", "list", BULKHEAD_URL=NOBODY, BULKHEAD_TOKEN="two words").returncode == 78
    assert run("tenant", "list", BULKHEAD_CONTROL_PORT="abc").returncode == 78


def test_state_directory(tmp_path):
    def state(*args, **env):
        done = run("status", "-o", "env", *args, **env)
        assert done.returncode == 2, done
        return re.search(r"^BULKHEAD_STATE='(.*)'$", done.out, re.M)[1]
    assert state("--state", tmp_path / "x") == str(tmp_path / "x")
    assert state(BULKHEAD_STATE=str(tmp_path / "y/")) == str(tmp_path / "y")
    assert state("--state", tmp_path / "x", BULKHEAD_STATE=str(tmp_path / "y")) == str(tmp_path / "x")
    if os.geteuid() == 0:
        assert state(BULKHEAD_STATE=None, HOME=str(tmp_path)) == "/var/lib/bulkhead"


def test_status_where_nothing_runs(tmp_path):
    done = run("status", "-o", "json", "--state", tmp_path)
    assert done.returncode == 2
    status = json.loads(done.out)
    assert [c["name"] for c in status["components"]] == ["agent", "control", "edge", "postgres", "pgbouncer", "app"]
    assert all(c["state"] == "down" and c["pid"] is None for c in status["components"])
    assert set(status) == {"components", "snapshot", "tenants"}
    assert run("down", "--state", tmp_path / "never").returncode == 0


def test_status_env_survives_a_shell(tmp_path):
    home = tmp_path / "it's \"odd\" $HOME `x`"
    home.mkdir()
    (home / "etc").mkdir()
    (home / "etc/settings.json").write_text('{"edge_port": 1234, "postgres_port": 4321}')
    done = run("status", "-o", "env", "--state", home)
    shell = subprocess.run(["sh", "-c", 'eval "$1"; printf "%s\\n" "$BULKHEAD_STATE" "$BULKHEAD_EDGE_URL" '
                            '"$ADMIN_DATABASE_URL"', "sh", done.out], capture_output=True, text=True, check=True)
    state, edge, admin = shell.stdout.splitlines()
    assert state == str(home) and edge == "http://127.0.0.1:1234" and "127.0.0.1:4321/" in admin
    import psycopg2.extensions
    assert psycopg2.extensions.parse_dsn(admin)["passfile"] == f"{home}/pgpass"


def test_status_from_what_the_agent_wrote_down(tmp_path):
    """The agent is silent: a component is as written where that very process still runs."""
    sleeper = subprocess.Popen(["sleep", "60"])
    try:
        started = int(open(f"/proc/{sleeper.pid}/stat").read().rsplit(")", 1)[1].split()[19])
        (tmp_path / "run").mkdir()
        (tmp_path / "run/components.json").write_text(json.dumps([
            {"name": "postgres", "state": "up", "pid": sleeper.pid, "port": 1, "version": "15.1", "started": started},
            {"name": "edge", "state": "up", "pid": sleeper.pid, "port": 2, "version": "1.22", "started": started - 1},
        ]))
        seen = {c["name"]: c for c in json.loads(run("status", "-o", "json", "--state", tmp_path).out)["components"]}
        assert seen["postgres"] == {"name": "postgres", "state": "up", "pid": sleeper.pid, "port": 1,
                                    "version": "15.1"}
        assert seen["edge"]["state"] == "down" and seen["edge"]["pid"] is None
    finally:
        sleeper.kill()
        sleeper.wait()
