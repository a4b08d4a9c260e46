"""`bulkhead doctor`: each check of an nginx configuration finds what it is for, and nothing in the one that we ship."""
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from edgefix import BUILD, REPO, Edge  # noqa: E402
from stack import wait_for  # noqa: E402

EDGE_CHECKS = ["edge on", "default server", "edge off", "upstream", "websocket", "forwarded headers", "header names",
               "X-Accel", "cache", "access log", "real ip"]


@pytest.fixture(scope="module")
def shipped():
    edge = Edge()
    yield (edge.dir / "nginx.conf").read_text(), edge
    edge.stop()


def doctor(*args, stdin="", env=None):
    done = subprocess.run([str(BUILD / "bin/bulkhead"), "doctor", "-o", "json", *args], input=stdin, text=True,
                          capture_output=True, timeout=60,
                          env={**os.environ, "BULKHEAD_STATE": "/nonexistent/state", **(env or {})})
    return done.returncode, json.loads(done.stdout)["items"] if done.stdout else [], done.stderr


def wrong(items):
    for item in items:
        assert set(item) == {"check", "state", "detail", "where", "next"} and item["detail"]
        assert item["state"] in ("ok", "skipped", "warning", "error")
        assert item["state"] != "error" or item["next"], "an error says what to do"
    return [(item["check"], item["where"] and int(item["where"].rsplit(":", 1)[1])) for item in items
            if item["state"] == "error"]


def test_shipped_configuration_is_fine(shipped):
    code, items, _ = doctor("--nginx-conf", "-", stdin=shipped[0])
    assert (code, wrong(items)) == (0, []) and [i["check"] for i in items if i["state"] == "ok"] == ["module", *EDGE_CHECKS]


def test_output_of_nginx_and_the_file_are_read_alike(shipped, tmp_path):
    """nginx -T prints all files that it includes; what is wrong is said with the place in its own file."""
    text, edge = shipped
    extra = edge.dir / "conf.d"
    extra.mkdir(exist_ok=True)
    (extra / "bad.conf").write_text(f"# a server of its own\nserver {{\n  listen 127.0.0.1:{edge.ports.take()};\n  bulkhead on;\n"
                                    "  location / {\n    proxy_pass http://127.0.0.1:2;\n  }\n}\n")
    (edge.dir / "all.conf").write_text(text.replace("server_tokens off;", "server_tokens off; include conf.d/*.conf;"))
    edge.own(edge.dir)
    dump = subprocess.run([*edge.command()[:-1], f"{edge.dir}/all.conf", "-T"], capture_output=True, text=True)
    assert dump.returncode == 0 and "# configuration file" in dump.stdout, dump.stderr
    file = tmp_path / "dump"
    file.write_text(dump.stdout)
    for args, stdin in ((["--nginx-conf", str(file)], ""), (["--nginx-conf", "-"], dump.stdout)):
        code, items, _ = doctor(*args, stdin=stdin)
        assert code == 2 and sorted(wrong(items)) == [("X-Accel", 6), ("upstream", 6)], wrong(items)
        assert {i["where"] for i in items if i["state"] == "error"} == {f"{extra}/bad.conf:6"}


# What breaks it: where it is put, the line, what is found. `@` marks the line that is named.
SERVER, LOCATION, HTTP = "bulkhead on;", 'proxy_set_header Connection "";', "server_tokens off;"
BROKEN = {
    "no edge": (SERVER, None, ["edge on", "edge off", "edge off", "edge off"]),
    "underscores": (HTTP, "underscores_in_headers on;", ["header names"]),
    "invalid headers": (SERVER, "ignore_invalid_headers off;", ["header names"]),
    "another tenant": (LOCATION, "proxy_set_header X-Tenant-ID acme;", ["forwarded headers"]),
    "a tenant of the client's choice": (LOCATION, "proxy_set_header x-tenant-id $http_x_tenant;", ["forwarded headers"]),
    "a token": (LOCATION, "proxy_set_header X-Bulkhead-Token $arg_t;", ["forwarded headers"]),
    "a database": (LOCATION, 'proxy_set_header X-Bulkhead-Database "t7";', ["forwarded headers"]),
    "headers of http": (HTTP, "proxy_set_header X-Scope-OrgID all;", ["forwarded headers"]),
    "the credential": (LOCATION, "proxy_set_header Authorization $http_authorization;", ["forwarded headers"]),
    "a host": (LOCATION, "proxy_set_header Host internal.example;", ["forwarded headers"]),
    "no headers": (LOCATION, "proxy_pass_request_headers off;", ["forwarded headers"]),
    "for grpc": (LOCATION, "grpc_set_header X-Forwarded-For $http_x_real_ip;", ["forwarded headers"]),
    "for fastcgi": (LOCATION, "fastcgi_param HTTP_X_TENANT_ID acme;", ["forwarded headers"]),
    "one place for all": (SERVER, "location /a { proxy_pass http://127.0.0.1:9; }", ["upstream"]),
    "a place by variable": (SERVER, "location /a { proxy_pass http://$host; }", ["upstream"]),
    "in an if": (LOCATION, "if ($arg_x) { proxy_pass http://127.0.0.1:9; }", ["upstream"]),
    "default key": (LOCATION, "proxy_cache c;", ["cache"]),
    "key without the tenant": (LOCATION, "proxy_cache c; proxy_cache_key $uri;", ["cache"]),
    "key of the tenant's name": (LOCATION, "proxy_cache c; proxy_cache_key $bulkhead_tenant:$uri;", ["cache"]),
    "key that goes on": (LOCATION, "proxy_cache c; proxy_cache_key $bulkhead_tenant_no$arg_k;", ["cache"]),
    "store": (LOCATION, "proxy_store on;", ["cache"]),
    "all are proxies": (HTTP, "set_real_ip_from 0.0.0.0/0;", ["real ip"]),
    "all are proxies on IPv6": (SERVER, "set_real_ip_from ::/0;", ["real ip"]),
    "no such location": (SERVER, "bulkhead_websocket @gone;", ["websocket"]),
    "steered": (LOCATION, "proxy_ignore_headers X-Accel-Expires;", ["X-Accel"]),
    "steered by another": (SERVER, "location /g { grpc_pass grpc://bulkhead; }", ["X-Accel"]),
    "another default": (HTTP, "server { listen 127.0.0.1:PORT; location / { proxy_pass http://bulkhead; } }", ["edge off"]),
}
FINE = {
    "key with the tenant": (LOCATION, 'proxy_cache c; proxy_cache_key "$bulkhead_tenant_no:$uri";'),
    "key in braces": (LOCATION, "proxy_cache c; proxy_cache_key ${bulkhead_tenant_no}|$uri;"),
    "cache off": (LOCATION, "proxy_cache off; proxy_store off;"),
    "own proxies": (HTTP, "set_real_ip_from 10.0.0.0/8;"),
    "same host": (LOCATION, "proxy_set_header X-Tenant-ID $bulkhead_tenant; proxy_set_header X-App-Mode x;"),
    "server that refuses": (HTTP, "server { listen 127.0.0.1:9; return 444; }"),
    "server beside": (HTTP, "server { listen 127.0.0.1:9; location / { proxy_pass http://127.0.0.1:8; } }"),
    "comment and quotes": (HTTP, "# proxy_set_header X-Tenant-ID x; {\n add_header X-A 'proxy_store on; }' ;"),
    "default that refuses": (HTTP, "server { listen 127.0.0.1:PORT; return 444; }"),
}


def broken(shipped, place, line):
    text, edge = shipped
    if line is None:
        return text.replace(place, "", 1), None
    line = line.replace("PORT", str(edge.port))
    at = text[:text.index(place)].count("\n") + 1
    word = line.split()[0]
    if word == "bulkhead_websocket":  # said once only
        text = re.sub(rf"\n        {word} [^;]*;", "\n", text)
    return text.replace(place, f"{line} {place}", 1), at


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_isolation_is_found_with_its_place(shipped, name):
    place, line, found = BROKEN[name]
    text, at = broken(shipped, place, line)
    code, items, _ = doctor("--nginx-conf", "-", stdin=text)
    assert code == 2 and [check for check, _ in wrong(items)] == found, wrong(items)
    if at is not None and found[0] not in ("websocket", "X-Accel"):  # these name the block, the pass
        assert {where for _, where in wrong(items)} == {at}


@pytest.mark.parametrize("name", FINE)
def test_what_is_fine_is_let_be(shipped, name):
    text, _ = broken(shipped, *FINE[name])
    code, items, _ = doctor("--nginx-conf", "-", stdin=text)
    assert (code, wrong(items)) == (0, [])


def test_default_server_that_passes_requests_on(shipped):
    text, edge = shipped
    other = f"server {{ listen 127.0.0.1:{edge.port} default_server; location / {{ proxy_pass http://127.0.0.1:9; }} }}"
    text = text.replace(" default_server", "").replace(HTTP, f"{HTTP} {other}")
    code, items, _ = doctor("--nginx-conf", "-", stdin=text)
    assert code == 2 and [check for check, _ in wrong(items)] == ["default server"]


@pytest.mark.parametrize("text", ["http {", "http { } }", "{}", "a 'b", "listen", "a b c\0;", "a " * 100 + ";", "a{" * 40])
def test_what_is_no_configuration_is_refused_with_its_place(text):
    code, items, said = doctor("--nginx-conf", "-", stdin=text)
    assert code in (65, 1) and not items and "<stdin>:1:" in said and "nginx -T" in said, (code, said)


def test_file_that_is_not_there():
    code, _, said = doctor("--nginx-conf", "/nonexistent/nginx.conf")
    assert code == 66 and "/nonexistent/nginx.conf" in said


def test_module_of_another_nginx_is_named(shipped, tmp_path):
    text, edge = shipped
    module = edge.dir / "lib/ngx_http_bulkhead_module.so"
    other = tmp_path / module.name
    data = module.read_bytes()
    assert data.count(b"bulkhead edge for nginx/1.") == 1
    other.write_bytes(data.replace(b"bulkhead edge for nginx/1.", b"bulkhead edge for nginx/9."))
    code, items, _ = doctor("--nginx-conf", "-", stdin=text.replace(str(module), str(other)))
    assert code == 2 and [check for check, _ in wrong(items)] == ["module"]
    code, items, _ = doctor("--nginx-conf", "-", stdin=text.replace(str(module), "/nonexistent/ngx_http_bulkhead_module.so"))
    assert code == 2 and [check for check, _ in wrong(items)] == ["module"]


# ---- the machine ----

def test_machine_that_is_well_and_one_that_is_not(new_stack):
    """All is ok; a worker that died leaves its place and the next one frees it; without an agent it says what it could
    not see; it never changes anything."""
    new_stack.up()
    ask = lambda: doctor(env={**new_stack.env, "BULKHEAD_STATE": str(new_stack.state)})
    code, items, said = ask()
    assert (code, said) == (0, "") and [i["check"] for i in items] == [
        "components", "programs", "snapshot", "snapshot readers", "counters", "module", *EDGE_CHECKS]
    assert {i["state"] for i in items} == {"ok"}
    assert new_stack.request("acme").status == 401  # a worker that reads
    for worker in new_stack.workers():
        os.kill(worker.pid, signal.SIGSTOP)  # so that the master makes no new one that would clear the place
    master = new_stack.pid("edge")
    os.kill(master, signal.SIGSTOP)
    try:
        for worker in new_stack.workers():
            worker.kill()
        wait_for(lambda: any(i["check"] == "snapshot readers" and i["state"] == "warning" for i in ask()[1]), 10)
    finally:
        os.kill(master, signal.SIGCONT)
    wait_for(lambda: new_stack.request("acme").status == 401 and all(i["state"] == "ok" for i in ask()[1]), 15)
    new_stack.kill("agent")
    code, items, _ = ask()
    assert code == 2 and ("components", None) in wrong(items)
    assert {i["check"] for i in items if i["state"] == "skipped"} == {"programs", "snapshot", "snapshot readers", "counters"}
    assert new_stack.request("acme").status == 401
    new_stack.up()
