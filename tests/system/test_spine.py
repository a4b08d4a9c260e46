"""What a person can do: one tenant token from curl to a row, a tenant's whole life, and a restart."""
import json
import os
import pathlib
import re
import shutil
import time

import psycopg2
import pytest

from stack import REPO, wait_for

EXAMPLES = ("acme", "globex", "umbrella")
INITECH = REPO / "examples/tenants/initech/tenant.yaml"


def orders(stack, tenant):
    answer = stack.request(tenant, token=stack.user_token(tenant))
    assert answer.status == 200, answer
    return answer.json()["items"]


@pytest.fixture
def initech(stack):
    """initech as applied by hand, gone afterwards."""
    done = stack.cli("apply", "-f", INITECH)
    assert done.returncode == 0, done.stderr
    yield done
    if stack.api("GET", "/v1/tenants/initech").status == 200:
        assert stack.delete("initech")["state"] == "succeeded"


def test_every_example_tenant_has_rows_and_only_its_own(stack):
    seen = {tenant: {json.dumps(o, sort_keys=True) for o in orders(stack, tenant)} for tenant in EXAMPLES}
    for tenant in EXAMPLES:
        assert seen[tenant], f"{tenant} has no orders"
        for other in EXAMPLES:
            assert other == tenant or not seen[tenant] & seen[other], f"{tenant} and {other} share rows"


def test_the_rows_are_those_of_the_tenants_schema(stack):
    for tenant in EXAMPLES:
        no = stack.api("GET", f"/v1/tenants/{tenant}").json()["no"]
        in_schema = [row[0] for row in stack.psql(f"SELECT id FROM t{no}.orders ORDER BY id")]
        assert [o["id"] for o in orders(stack, tenant)] == in_schema


def test_the_command_line_token_works_and_is_printed_alone(stack):
    done = stack.cli("token", "acme", "--user", "u1", check=True)
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]+\n", done.stdout)
    assert stack.request("acme", token=done.stdout.strip()).status == 200


def test_another_tenants_token_opens_nothing(stack):
    token = stack.user_token("acme")
    assert stack.request("acme", token=token).status == 200
    answer = stack.request("globex", token=token)
    assert (answer.status, answer.code) == (401, "token-tenant-mismatch")


def test_what_one_tenant_writes_no_other_tenant_sees(stack):
    tokens = {tenant: stack.user_token(tenant) for tenant in EXAMPLES}
    before = {tenant: len(orders(stack, tenant)) for tenant in EXAMPLES}
    product = stack.request("acme", "/products", tokens["acme"], "POST",
                            json.dumps({"name": "Canary-7f3a", "price_cents": 199}))
    assert product.status == 201, product
    assert product.headers["Location"] == f"/products/{product.json()['id']}"
    order = stack.request("acme", "/orders", tokens["acme"], "POST",
                          json.dumps({"product_id": product.json()["id"], "quantity": 2}))
    assert order.status == 201, order
    assert order.json()["total_cents"] == 398
    assert stack.request("acme", order.headers["Location"], tokens["acme"]).json() == order.json()
    assert len(orders(stack, "acme")) == before["acme"] + 1
    for other in ("globex", "umbrella"):
        assert len(orders(stack, other)) == before[other]
        assert b"Canary-7f3a" not in stack.request(other, "/products", tokens[other]).body
        assert b"Canary-7f3a" not in stack.request(other, "/").body
    assert b"Canary-7f3a" in stack.request("acme", "/").body


def test_visitors_see_the_home_page_and_nothing_else(stack):
    home = stack.request("acme", "/")
    assert home.status == 200 and home.headers.get_content_type() == "text/html"
    assert b"acme" in home.body and b"globex" not in home.body
    answer = stack.request("acme", "/orders")
    assert (answer.status, answer.code) == (401, "credential-missing")


def test_totals_add_up(stack):
    token = stack.user_token("globex")
    totals = stack.request("globex", "/orders/totals?by=day", token).json()["items"]
    everything = stack.request("globex", "/orders", token).json()["items"]
    assert sum(day["total_cents"] for day in totals) == sum(o["total_cents"] for o in everything)
    assert sum(day["orders"] for day in totals) == len(everything) > 0


def test_the_pool_role_alone_reads_nothing(stack):
    """Without a token there is an error that says so; with one the same query gives rows."""
    line = next(l for l in stack.cli("status", "-o", "env").stdout.splitlines()
                if l.startswith("DATABASE_URL="))
    url = line.split("=", 1)[1].strip("'\"")
    connection = psycopg2.connect(url)
    try:
        with pytest.raises(psycopg2.Error) as refused:
            connection.cursor().execute("SELECT count(*) FROM orders")
        assert refused.value.pgcode in ("TN001", "42P01")
        connection.rollback()
        connection.autocommit = True
        with pytest.raises(psycopg2.Error) as refused:
            connection.cursor().execute("SELECT * FROM pg_class")
        assert refused.value.pgcode == "TN001"
    finally:
        connection.close()


def test_the_database_passes_its_own_check(stack):
    assert stack.psql("SELECT object, problem, fix FROM bulkhead.selfcheck()") == []
    (settings,), = stack.psql("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'bulkhead_pool'::regrole AND setdatabase = 0")
    assert {"statement_timeout=60s", "lock_timeout=30s", "idle_in_transaction_session_timeout=60s"} <= set(settings)


def test_lint_finds_no_hole_in_the_shop(stack):
    done = stack.cli("lint", "-o", "json")
    assert done.returncode == 0 and json.loads(done.stdout) == {"items": []}, done.stdout + done.stderr


def test_explain_access_asks_for_a_token_itself(stack):
    done = stack.cli("explain", "access", "--tenant", "acme", "SELECT * FROM orders", "-o", "json")
    report = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert report["statement"]["rows"] == report["items"][0]["rows_visible"] == report["items"][0]["rows_total"] > 0
    done = stack.cli("explain", "access", "--tenant", "acme", "LISTEN x", "-o", "json")
    assert done.returncode == 2 and json.loads(done.stdout)["decided_by"] == "guard"


def test_apply_adds_a_tenant_that_begins_empty_and_delete_removes_it(stack, initech):
    assert "initech.localhost" in initech.stdout + initech.stderr
    assert orders(stack, "initech") == []
    assert "initech" in stack.cli("tenant", "list", check=True).stdout
    token = stack.user_token("initech")
    no = stack.api("GET", "/v1/tenants/initech").json()["no"]
    stack.assert_inventory()

    stack.cli("tenant", "delete", "initech", "--now", check=True)
    assert stack.api("GET", "/v1/tenants/initech").status == 404
    assert "initech" not in stack.cli("tenant", "list", check=True).stdout
    answer = stack.request("initech", token=token)
    assert (answer.status, answer.code) == (404, "tenant-unknown")
    assert stack.psql("SELECT 1 FROM pg_namespace WHERE nspname = %s", f"t{no}") == []
    assert stack.psql("SELECT 1 FROM pg_roles WHERE rolname IN (%s, %s)", f"bh_o{no}", f"bh_t{no}") == []
    stack.assert_inventory()


def test_apply_again_changes_nothing(stack, initech):
    before = stack.api("GET", "/v1/tenants/initech").json()
    done = stack.cli("apply", "-f", INITECH, "-o", "json", check=True)
    assert json.loads(done.stdout)["generation"] == before["generation"]
    assert stack.api("GET", "/v1/tenants/initech").json() == before


def test_an_id_used_again_is_a_new_tenant(stack, initech):
    old = stack.api("GET", "/v1/tenants/initech").json()
    old_token = stack.user_token("initech")
    assert stack.delete("initech")["state"] == "succeeded"
    assert stack.put("initech")["state"] == "succeeded"
    new = stack.api("GET", "/v1/tenants/initech").json()
    assert new["uid"] != old["uid"] and new["no"] > old["no"]
    assert stack.request("initech", token=stack.user_token("initech")).status == 200
    answer = stack.request("initech", token=old_token)
    assert answer.status == 401, "a token of the earlier tenant opens the later one"


def test_a_new_limit_reaches_the_edge_without_reload(stack, initech):
    token = stack.user_token("initech")
    policy = stack.request("initech", token=token).headers["RateLimit-Policy"]
    assert policy == '"default";q=200;w=2'
    workers = {p.pid for p in stack.workers()}
    op = stack.put("initech", {"limits": {"requests_per_second": 1, "burst": 3}})
    assert op["state"] == "succeeded"
    assert stack.request("initech", token=token).headers["RateLimit-Policy"] == '"default";q=3;w=3'
    statuses = [stack.request("initech", token=token) for _ in range(6)]
    assert statuses[-1].status == 429 and statuses[-1].code == "rate-limited"
    assert int(statuses[-1].headers["Retry-After"]) >= 1
    assert {p.pid for p in stack.workers()} == workers
    # the positive control: another tenant is not limited by it, and a higher limit lets us in again
    assert stack.request("acme", token=stack.user_token("acme")).status == 200
    assert stack.put("initech", {"limits": {"requests_per_second": 1000, "burst": 1000}})["state"] == "succeeded"
    assert stack.request("initech", token=token).status == 200


def test_usage_counts_every_answered_request(stack, initech):
    token = stack.user_token("initech")
    before = wait_for(lambda: stack.usage("initech"), 15, "the smoke test is counted", 0.3)
    for _ in range(7):
        assert stack.request("initech", token=token).status == 200
    assert stack.request("initech").status == 401
    wait_for(lambda: stack.usage("initech") == before + 8, 15, "8 more requests are counted", 0.3)
    assert stack.usage("initech", "denied") >= 1
    by_class = sum(stack.usage("initech", f"status_{n}xx") for n in (2, 3, 4, 5))
    assert by_class == stack.usage("initech")


def test_down_and_up_keep_the_state_and_a_second_up_changes_nothing(new_stack):
    stack = new_stack
    stack.up()
    assert stack.put("initech", {"name": "Initech"})["state"] == "succeeded"
    token = stack.user_token("initech")
    created = stack.request("initech", "/products", token, "POST", '{"name":"Stapler","price_cents":900}')
    assert created.status == 201, created
    before = stack.api("GET", "/v1/tenants/initech").json()
    examples = {tenant: orders(stack, tenant) for tenant in EXAMPLES}

    pids = {c["name"]: c["pid"] for c in stack.status()["components"] if c["name"] != "agent"}
    stack.up()
    assert {c["name"]: c["pid"] for c in stack.status()["components"] if c["name"] != "agent"} == pids

    stack.down()
    assert stack.processes() == []
    assert stack.cli("status", "-o", "json").returncode == 2
    assert stack.down().returncode == 0  # nothing runs: still 0

    stack.up()
    assert stack.api("GET", "/v1/tenants/initech").json() == before
    assert stack.request("initech", "/products", token).json()["items"] == [created.json()]
    assert {tenant: orders(stack, tenant) for tenant in EXAMPLES} == examples
    stack.assert_inventory()


def test_a_new_state_at_an_old_path_begins_at_nothing(new_stack):
    stack = new_stack
    stack.up()
    token = stack.user_token("acme")
    smoke = wait_for(lambda: stack.usage("acme"), 15, "the smoke test is counted", 0.3)
    for _ in range(5):
        assert stack.request("acme", token=token).status == 200
    wait_for(lambda: stack.usage("acme") == smoke + 5, 15, "five more requests", 0.3)
    old = stack.api("GET", "/v1/tenants/acme").json()
    stack.down()
    shutil.rmtree(stack.state)

    stack.up()
    new = stack.api("GET", "/v1/tenants/acme").json()
    assert new["no"] == old["no"] and new["uid"] != old["uid"]  # so an old count would be taken for ours
    wait_for(lambda: stack.usage("acme"), 15, "the smoke test is counted", 0.3)
    assert stack.usage("acme") == smoke
    assert stack.request("acme", token=token).status == 401


def test_an_idle_daemon_leaves_the_registry_alone(stack):
    """Workers sleep while nothing is to be done: 2 of them, a poll a second each, and what agents ask."""
    def commits():
        return stack.psql("SELECT xact_commit FROM pg_stat_database WHERE datname = 'bulkhead'")[0][0]

    def quiet():
        before = commits()
        time.sleep(3)
        return commits() - before < 60
    wait_for(quiet, 25, "the registry is left alone")  # backends report earlier work late


def test_secrets_are_private_and_in_no_log(stack):
    for name in ("operator.token", "agent.token", "pgpass"):
        assert (stack.state / name).stat().st_mode & 0o777 == 0o600
    for path in (stack.state / "keys").iterdir():
        assert path.stat().st_mode & 0o077 == 0, path
    secrets = {stack.credential(), stack.credential("agent"),
               (stack.state / "keys/master.key").read_text().strip()}
    token = stack.user_token("acme")
    assert stack.request("acme", token=token).status == 200
    secrets.add(token)
    for folder, _, files in os.walk(stack.state / "log"):
        for name in files:
            text = (pathlib.Path(folder) / name).read_text(errors="replace")
            for secret in secrets:
                assert secret not in text, f"a secret stands in {name}"
    for process in stack.processes():
        for secret in secrets:
            assert secret not in " ".join(process.cmdline())
