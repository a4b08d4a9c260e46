"""Tiers, and what tenants state of the edge: the interface, the feed and the command line before real flows."""
import json
import subprocess
import threading

import pytest

from flowfix import OPERATOR, Plant
from pgserver import PREFIX
from stack import REPO

DAILY = {"quota_policies": [{"name": "daily", "quota": 1000}], "limits": ["daily"]}


@pytest.fixture(scope="module")
def plant():
    plant = Plant()
    plant.main = plant.daemon()
    yield plant
    plant.close()


@pytest.fixture
def api(plant):
    plant.edge.status = 200
    return plant.main.call


def put_tier(api, name, edge):
    status, tier = api("PUT", f"/v1/tiers/{name}", {"edge": edge})
    assert status in (200, 201), tier
    return tier


def newest(plant, document):
    """The newest row of a document: its body as JSON, None for a tombstone; KeyError where there is none."""
    rows = plant.registry("SELECT body FROM feed WHERE document = %s ORDER BY seq DESC LIMIT 1", (document,))
    if not rows:
        raise KeyError(document)
    return rows[0][0] if rows[0][0] is None else json.loads(rows[0][0])


def record(plant, no):
    return plant.registry("SELECT record FROM feed WHERE no = %s ORDER BY seq DESC LIMIT 1", (no,))[0][0]


def refused(answer, status, pointers):
    assert answer[0] == status, answer
    assert [error["pointer"] for error in answer[1].get("errors", [])] == pointers, answer
    return answer[1]


# -- tiers ---------------------------------------------------------------------------------


def test_standard_is_there_from_the_start(plant, api):
    status, tier = api("GET", "/v1/tiers/standard")
    assert status == 200
    assert list(tier) == ["kind", "name", "edge", "generation", "etag", "created_at", "updated_at"]
    assert (tier["kind"], tier["name"], tier["edge"]) == ("tier", "standard", {})
    assert "standard" in [item["name"] for item in api("GET", "/v1/tiers")[1]["items"]]
    assert newest(plant, "policy/standard") == tier["edge"]


def test_a_tiers_life(plant, api):
    status, tier = api("PUT", "/v1/tiers/silver", {"edge": {"auth": "app"}})
    assert status == 201 and tier["generation"] == 1 and tier["edge"] == {"auth": "app"}
    assert newest(plant, "policy/silver") == {"auth": "app"}
    seq = plant.registry("SELECT seq FROM feed_head")
    status, same = api("PUT", "/v1/tiers/silver", tier)  # what GET gives can be PUT
    assert status == 200 and same == tier and plant.registry("SELECT seq FROM feed_head") == seq
    status, changed = api("PUT", "/v1/tiers/silver", {"edge": DAILY})
    assert status == 200 and changed["generation"] == 2 and changed["etag"] != tier["etag"]
    assert newest(plant, "policy/silver") == DAILY  # PUT replaces: auth has its default again
    status, empty = api("PUT", "/v1/tiers/silver", {})
    assert status == 200 and empty["edge"] == {} and empty["generation"] == 3


def test_conditions_of_a_tier(plant):
    def put(body, **headers):
        import http.client
        connection = http.client.HTTPConnection("127.0.0.1", plant.main.port, timeout=20)
        connection.request("PUT", "/v1/tiers/condition", json.dumps(body), {
            "Authorization": f"Bearer {OPERATOR}", **{name.replace("_", "-"): value for name, value in headers.items()}})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    assert put({}, If_Match="*")[0] == 412
    status, tier = put({}, If_None_Match="*")
    assert status == 201
    assert put({}, If_None_Match="*")[0] == 412
    assert put({"edge": {"api_keys": False}}, If_Match=tier["etag"])[0] == 200
    assert put({"edge": {}}, If_Match=tier["etag"])[0] == 412


@pytest.mark.parametrize("name, body, pointers", [
    ("t42", {}, ["/name"]), ("Gold", {}, ["/name"]), ("x" * 41, {}, ["/name"]),
    ("gold", {"name": "other"}, ["/name"]), ("gold", {"kind": "tenant"}, ["/kind"]), ("gold", {"limits": {}}, ["/limits"]),
    ("gold", {"edge": []}, ["/edge"]), ("gold", {"edge": {"auth": "none", "x": 1}}, ["/edge/auth", "/edge/x"]),
    ("gold", {"edge": {"limits": ["daily"]}}, ["/edge/limits"]),
    ("gold", {"edge": {"routes": [{"path": "/a"}, {"path": "b"}]}}, ["/edge/routes/1/path"]),
])
def test_a_tier_that_is_refused(api, name, body, pointers):
    refused(api("PUT", f"/v1/tiers/{name}", body), 422, pointers)
    assert api("GET", "/v1/tiers/gold")[0] == 404


def test_tiers_are_the_operators(plant, api):
    from flowfix import AGENT
    assert api("GET", "/v1/tiers", token=AGENT)[0] == 403 and api("PUT", "/v1/tiers/x", {}, token=AGENT)[0] == 403
    assert api("DELETE", "/v1/tiers/standard")[0] == 405
    assert api("GET", "/v1/tiers/t1")[0] == 404 and api("GET", "/v1/tiers?q=x")[0] == 422


# -- tenants -------------------------------------------------------------------------------


def test_a_tenant_without_settings_has_its_tiers_policy(plant, api):
    put_tier(api, "bronze", {"unlisted": "allow"})
    assert plant.main.onboard("plain", {"tier": "bronze"})["state"] == "succeeded"
    tenant = plant.main.get("plain")
    assert (tenant["edge"], tenant["domains"], tenant["endpoints"]) == ({}, [], [])
    assert record(plant, tenant["no"])["policy"] == "bronze" and "domains" not in record(plant, tenant["no"])
    with pytest.raises(KeyError):
        newest(plant, f"policy/t{tenant['no']}")
    rows = plant.registry("SELECT count(*) FROM feed WHERE no = %s", (tenant["no"],))
    put_tier(api, "bronze", {"unlisted": "deny"})
    assert newest(plant, "policy/bronze") == {"unlisted": "deny"}
    assert plant.registry("SELECT count(*) FROM feed WHERE no = %s", (tenant["no"],)) == rows  # its row is not touched
    assert plant.main.get("plain")["generation"] == tenant["generation"]
    assert plant.main.offboard("plain")["state"] == "succeeded"


def test_a_tenants_settings_are_laid_over_its_tiers(plant, api):
    put_tier(api, "layered", {**DAILY, "auth": "app"})
    edge = {"auth": "edge", "routes": [{"path": "/reports/**", "limits": ["daily"]}]}
    assert plant.main.onboard("layer", {"tier": "layered", "edge": edge})["state"] == "succeeded"
    tenant = plant.main.get("layer")
    document = f"policy/t{tenant['no']}"
    assert tenant["edge"] == edge
    assert record(plant, tenant["no"])["policy"] == f"t{tenant['no']}"
    assert newest(plant, document) == {**DAILY, **edge}
    first = plant.registry("SELECT min(seq) FROM feed WHERE document = %s", (document,))[0][0]
    assert first < plant.registry("SELECT min(seq) FROM feed WHERE no = %s", (tenant["no"],))[0][0]
    put_tier(api, "layered", {**DAILY, "auth": "app", "api_keys": False})  # the tier changes: so does what both make
    assert newest(plant, document) == {**DAILY, **edge, "api_keys": False}

    op = plant.main.end(plant.main.put("layer", {"tier": "layered", "edge": {"auth": "edge"}})["operation"])
    assert (op["kind"], op["state"]) == ("update", "succeeded")
    assert newest(plant, document) == {**DAILY, "auth": "edge", "api_keys": False}
    plant.main.end(plant.main.put("layer", {"tier": "layered"})["operation"])
    assert record(plant, tenant["no"])["policy"] == "layered" and newest(plant, document) is None
    put_tier(api, "layered", {})
    assert newest(plant, document) is None  # a tier's change does not bring it back
    plant.main.end(plant.main.put("layer", {"tier": "layered", "edge": {"auth": "app"}})["operation"])
    assert plant.main.offboard("layer")["state"] == "succeeded"
    assert record(plant, tenant["no"]) is None and newest(plant, document) is None


def test_settings_are_compared_as_values(plant, api):
    edge = {"routes": [{"path": "/a", "methods": ["GET"]}], "auth": "edge"}
    assert plant.main.onboard("value", {"edge": edge})["state"] == "succeeded"
    tenant = plant.main.get("value")
    status, again = api("PUT", "/v1/tenants/value", {"edge": dict(reversed(edge.items()))})
    assert status == 200 and again == tenant and again["operation"] is None
    status, again = api("PUT", "/v1/tenants/value", tenant)
    assert status == 200 and again == tenant
    assert plant.main.offboard("value")["state"] == "succeeded"


@pytest.mark.parametrize("body, pointers", [
    ({"tier": "platinum"}, ["/tier"]),
    ({"edge": {"limits": ["nowhere"]}}, ["/edge/limits"]),
    ({"edge": {"routes": [{"path": "/a"}, {"path": "/b", "limits": ["nowhere"]}]}}, ["/edge/routes/1/limits"]),
    ({"tier": "quotas", "edge": {"quota_policies": []}}, ["/edge"]),  # the tier's `limits` name what is gone
    ({"edge": {"app_scope": 5}}, ["/edge/app_scope"]),
    ({"domains": ["shop.localhost", "shop.example", "x.shop.localhost"]}, ["/domains/0", "/domains/2"]),
    ({"domains": ["a.example"] * 2}, ["/domains/1"]),
    ({"domains": [f"a{n}.example" for n in range(65)]}, ["/domains"]),
    ({"domains": ["-a.example", "A.example", "a", "1.2.3.4", "a..b.example", "a.example."]},
     [f"/domains/{n}" for n in range(6)]),
    ({"endpoints": ["127.0.0.1"]}, ["/endpoints/0"]),
    ({"endpoints": "127.0.0.1:80"}, ["/endpoints"]),
])
def test_settings_that_are_refused(api, body, pointers):
    put_tier(api, "quotas", DAILY)
    refused(api("PUT", "/v1/tenants/refused", body), 422, pointers)
    assert api("GET", "/v1/tenants/refused")[0] == 404


def test_a_policy_that_no_edge_could_take_is_refused(api):
    put_tier(api, "large", {"routes": [{"path": f"/{n}/" + "x" * 400} for n in range(150)]})
    wish = {"tier": "large", "edge": {"maintenance": {"message": "\U0001f600" * 1000}}}
    assert "65536" in refused(api("PUT", "/v1/tenants/large1", wish), 422, ["/edge"])["detail"]


def test_a_tier_that_would_break_a_tenant_is_refused(plant, api):
    put_tier(api, "base", DAILY)
    assert plant.main.onboard("leans", {"tier": "base", "edge": {"routes": [{"path": "/a", "limits": ["daily"]}]}})[
        "state"] == "succeeded"
    status, problem = api("PUT", "/v1/tiers/base", {"edge": {}})
    assert status == 409 and "leans" in problem["detail"] and "/routes/0/limits" in problem["detail"]
    assert api("GET", "/v1/tiers/base")[1]["edge"] == DAILY == newest(plant, "policy/base")
    assert plant.main.offboard("leans")["state"] == "succeeded"
    assert api("PUT", "/v1/tiers/base", {"edge": {}})[0] == 200


def test_domains_are_one_tenants(plant, api):
    assert plant.main.onboard("shop1", {"domains": ["b.example", "a.example"]})["state"] == "succeeded"
    tenant = plant.main.get("shop1")
    assert tenant["domains"] == record(plant, tenant["no"])["domains"] == ["b.example", "a.example"]
    problem = refused(api("PUT", "/v1/tenants/shop2", {"domains": ["c.example", "a.example"]}), 409, ["/domains/1"])
    assert "shop1" not in json.dumps(problem)
    assert api("GET", "/v1/tenants/shop2")[0] == 404
    assert plant.main.onboard("shop2", {"domains": ["c.example"]})["state"] == "succeeded"  # nothing of it was kept
    op = plant.main.end(plant.main.put("shop1", {"domains": ["b.example"]})["operation"])
    assert (op["kind"], op["state"]) == ("update", "succeeded")
    assert record(plant, tenant["no"])["domains"] == ["b.example"]
    plant.main.end(plant.main.put("shop2", {"domains": ["a.example", "c.example"]})["operation"])
    assert plant.main.offboard("shop1")["state"] == "succeeded"
    plant.main.end(plant.main.put("shop2", {"domains": ["b.example"]})["operation"])  # free with its tenant
    assert plant.main.offboard("shop2")["state"] == "succeeded"
    assert plant.registry("SELECT count(*) FROM domain") == [(0,)]


def test_one_of_many_gets_a_domain(plant, api):
    answers = {}
    threads = [threading.Thread(target=lambda n=n: answers.__setitem__(n, api(
        "PUT", f"/v1/tenants/race{n}", {"domains": ["x.race.example", "y.race.example"][::(-1) ** n]}))) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(status for status, _ in answers.values()) == [202] + [409] * 5, answers
    winner = next(n for n, (status, _) in answers.items() if status == 202)
    plant.main.end(answers[winner][1]["operation"])
    assert plant.main.offboard(f"race{winner}")["state"] == "succeeded"


def test_endpoints_of_a_tenant_replace_its_cells(plant, api):
    assert plant.main.onboard("far", {"endpoints": ["127.0.0.1:9001;weight=3", "unix:/run/x"]})["state"] == "succeeded"
    tenant = plant.main.get("far")
    assert record(plant, tenant["no"])["endpoints"] == tenant["endpoints"] == ["127.0.0.1:9001;weight=3", "unix:/run/x"]
    plant.main.end(plant.main.put("far", {})["operation"])
    assert record(plant, tenant["no"])["endpoints"] == ["127.0.0.1:7090"]
    assert plant.main.offboard("far")["state"] == "succeeded"


def test_onboarding_a_tenant_that_lets_nobody_in(plant, api):
    plant.edge.status = 503
    assert plant.main.onboard("closed", {"edge": {"maintenance": {"message": "soon"}}})["state"] == "succeeded"
    plant.edge.status = 403
    assert plant.main.onboard("guarded", {"edge": {"unlisted": "deny"}})["state"] == "succeeded"
    plant.edge.status = 200
    for name in ("closed", "guarded"):
        assert plant.main.offboard(name)["state"] == "succeeded"


# -- the command line ----------------------------------------------------------------------


@pytest.fixture
def cli(plant):
    def run(*args, stdin=""):
        return subprocess.run([PREFIX / "bin/bulkhead", *map(str, args)], input=stdin, capture_output=True, text=True,
                              timeout=90, env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "BULKHEAD_STATE": "/nonexistent",
                                               "BULKHEAD_URL": f"http://127.0.0.1:{plant.main.port}",
                                               "BULKHEAD_TOKEN": OPERATOR})
    plant.edge.status = 200
    return run


def test_files_of_tiers_and_tenants(plant, cli, tmp_path):
    (tmp_path / "a.yaml").write_text("id: ccli\ntier: cli\nedge:\n  routes:\n    - {path: /a, limits: [daily]}\n"
                                     "domains: [cli.example]\n")
    (tmp_path / "z.yaml").write_text("kind: tier\nname: cli\nedge:\n  quota_policies: [{name: daily, quota: 5}]\n")
    done = cli("diff", "-f", tmp_path, "--exit-code")
    assert done.returncode == 2, done
    assert done.stdout.index("+ tier/cli") < done.stdout.index("+ ccli")  # tiers first, whatever the order of files
    assert "edge.quota_policies: [{" in done.stdout and 'domains: ["cli.example"]' in done.stdout
    done = cli("apply", "-f", tmp_path)
    assert done.returncode == 0, done
    assert "tier/cli  created" in done.stdout
    assert plant.main.get("ccli")["domains"] == ["cli.example"]
    assert cli("diff", "-f", tmp_path, "--exit-code").returncode == 0

    (tmp_path / "z.yaml").write_text("kind: tier\nname: cli\nedge:\n  quota_policies: [{name: daily, quota: 6}]\n  auth: app\n")
    items = json.loads(cli("diff", "-f", tmp_path, "-o", "json").stdout)["items"]
    assert [(item["id"], item["action"]) for item in items] == [("tier/cli", "change"), ("ccli", "none")]
    assert sorted(change["pointer"] for change in items[0]["changes"]) == ["/edge/auth", "/edge/quota_policies"]
    assert cli("apply", "-f", tmp_path).returncode == 0
    done = cli("get", "tier", "cli", "-o", "json")
    assert json.loads(done.stdout)["edge"]["auth"] == "app"
    assert cli("apply", "-f", "-", stdin=done.stdout).returncode == 0  # what get gives can be applied
    done = cli("get", "tenant", "ccli", "-o", "json")
    assert cli("diff", "--exit-code", "-f", "-", stdin=done.stdout).returncode == 0
    assert "cli" in cli("get", "tiers").stdout and "auth, " in cli("get", "tiers").stdout
    assert "edge.routes" in cli("get", "tenant", "ccli").stdout
    assert plant.main.offboard("ccli")["state"] == "succeeded"


# -- explain -------------------------------------------------------------------------------


@pytest.fixture
def explained(plant, api):
    put_tier(api, "told", {**DAILY, "issuers": ["corp"], "unlisted": "deny"})
    edge = {"quota_policies": [{"name": "daily", "quota": 1000}, {"name": "reads", "per": "subject", "requests_per_second": 10},
                               {"name": "many", "concurrent": 3, "per": "address"}],
            "routes": [{"name": "assets", "path": "/assets/**", "anonymous": True},
                       {"path": "/orders/*", "methods": ["POST"], "roles": ["owner"]},
                       {"name": "orders", "path": "/orders/*", "scopes": ["orders.read"], "limits": ["reads"],
                        "max_body_bytes": 100, "timeout_ms": 5000}], "api_keys": False}
    assert plant.main.onboard("told", {"tier": "told", "edge": edge})["state"] == "succeeded"
    yield plant.main.get("told")
    assert plant.main.offboard("told")["state"] == "succeeded"


def test_who_says_what(plant, api, cli, explained):
    status, report = api("GET", "/v1/tenants/told/edge")
    assert status == 200 and report["request"] is None
    assert (report["tenant"], report["tier"], report["policy"]) == ("told", "told", f"t{explained['no']}")
    said = {member["name"]: (member["from"], member["value"]) for member in report["members"]}
    assert said["api_keys"] == ("tenant", False) and said["unlisted"] == ("tier", "deny")
    assert said["issuers"] == ("tier", ["corp"]) and said["limits"] == ("tier", ["daily"])
    assert said["auth"] == ("default", "edge") and said["maintenance"] == ("default", None)
    assert said["routes"][1] == explained["edge"]["routes"]
    # every member that a policy may have is listed
    documented = (REPO / "doc/contract/policy.md").read_text().split("```yaml")[1].split("```")[0]
    assert set(said) == {line.split(":")[0].strip() for line in documented.splitlines()
                         if line.startswith("  ") and line[2] not in " -" and ":" in line}
    assert [limit["name"] for limit in report["limits"]] == ["default", "daily", "reads", "many"]
    done = cli("explain", "policy", "told")
    assert done.returncode == 0 and "unlisted             tier     \"deny\"" in done.stdout, done
    assert cli("explain", "policy", "nobody").returncode == 66
    for query, pointers in (("?method=GET", ["?path"]), ("?method=get&path=/", ["?method"]), ("?path=x", ["?path"]), ("?x=1", ["?x"])):
        refused(api("GET", f"/v1/tenants/told/edge{query}"), 422, pointers)
    assert api("GET", "/v1/tenants/nobody/edge")[0] == api("GET", "/v1/tenants/told/edges")[0] == 404


@pytest.mark.parametrize("method, path, decision, status, route, passed", [
    ("GET", "/assets/a/b.css", "allowed", None, "assets", 0),
    ("GET", "/orders/7", "credential", None, "orders", 2),
    ("POST", "/orders/7?x=1", "credential", None, "/orders/*", 1),
    ("GET", "/orders", "refused", 403, None, 3),
    ("GET", "/assets/../orders/7", "refused", 400, "assets", 0),
    ("GET", "/assets/%2e%2e/x", "refused", 400, "assets", 0),
])
def test_which_route_counts(cli, explained, method, path, decision, status, route, passed):
    done = cli("explain", "route", "told", method, path, "-o", "json")
    request = json.loads(done.stdout)["request"]
    assert (request["decision"], request["status"]) == (decision, status)
    assert done.returncode == (2 if decision == "refused" else 0)
    if status != 400:
        assert (request["route"] or {}).get("name") == route and len(request["passed_over"]) == passed
    assert request["credentials"] == {"checked_by": "edge", "user_tokens": True, "api_keys": False, "issuers": ["corp"]}


def test_what_a_person_is_told_of_a_route(plant, cli, explained):
    done = cli("explain", "route", "told", "GET", "/orders/7")
    for line in ('GET /orders/7: with a credential', 'route 2 "orders" (/orders/*), stated by the tenant',
                 'not route 0 "assets" (/assets/**): its path is another',
                 'not route 1 "/orders/*" (/orders/*): its methods do not have this one',
                 "needs all of the scopes orders.read", "takes tokens of the issuers corp", "at most 100"):
        assert line in done.stdout, (line, done)
    assert "reads" in done.stdout and "many" not in done.stdout and "API keys" not in done.stdout
    done = cli("explain", "limit", "told", "GET", "/assets/x")
    assert "daily" in done.stdout and "reads" not in done.stdout and "1000 requests a day" in done.stdout
    plant.registry("INSERT INTO quota SELECT no, 'daily', date_trunc('day', now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC',"
                   " now() + interval '1 day' FROM tenant WHERE id = 'told'")
    plant.registry("INSERT INTO quota_lease (no, name, window_start, source, used, granted)"
                   " SELECT no, name, window_start, 's' || n, 20, 30 FROM quota, generate_series(1, 2) n")
    limits = {limit["name"]: limit for limit in json.loads(cli("explain", "limit", "told", "-o", "json").stdout)["limits"]}
    assert (limits["daily"]["used"], limits["daily"]["granted"]) == (40, 60)
    assert limits["many"]["concurrent"] == 3 and limits["many"]["every_request"] is False and "counts" not in limits["many"]
    assert cli("explain", "limit", "told", "GET").returncode == 64


def test_maintenance_and_state_come_first(plant, api, cli, explained):
    put_tier(api, "told", {**DAILY, "maintenance": {}})
    done = cli("explain", "route", "told", "GET", "/assets/x")
    assert done.returncode == 2 and "refused, 503 maintenance" in done.stdout
    try:
        for state, settings, said in (("moving", {}, "refused, 503 not-ready"), ("suspended", {"maintenance": {}}, "refused, 423 tenant-suspended"),
                                      ("moving", {"maintenance": {}}, "refused, 503 maintenance"), ("failed", {}, "refused, 404 tenant-unknown")):
            put_tier(api, "told", {**DAILY, **settings})
            plant.registry("UPDATE tenant SET state = %s WHERE no = %s", (state, explained["no"]))
            done = cli("explain", "route", "told", "GET", "/assets/x")
            assert done.returncode == 2 and said in done.stdout, (state, done.stdout)
    finally:
        plant.registry("UPDATE tenant SET state = 'active' WHERE no = %s", (explained["no"],))


def test_an_unknown_tier_is_shown_before_anything_is_written(plant, cli, tmp_path):
    (tmp_path / "a.yaml").write_text("id: before\n")
    (tmp_path / "b.yaml").write_text("id: behind\ntier: gold\n")
    for command in ("apply", "diff"):
        done = cli(command, "-f", tmp_path)
        assert done.returncode == 65 and f"{tmp_path}/b.yaml:2:7: tier: is no tier" in done.stderr and \
            "standard" in done.stderr, done
    assert plant.main.call("GET", "/v1/tenants/before")[0] == 404


def test_what_only_the_server_can_know_is_shown_in_the_file(plant, cli, tmp_path):
    path = tmp_path / "t.yaml"
    path.write_text("id: late\nedge:\n  limits: [nowhere]\n")
    done = cli("apply", "-f", path)
    assert done.returncode == 65 and f"{path}:3:11: names no quota policy" in done.stderr, done
    path.write_text("id: late\ndomains:\n  - ok.example\n  - x.localhost\n")
    done = cli("apply", "-f", path)
    assert done.returncode == 65 and f"{path}:4:5: must not lie under the base domain" in done.stderr, done


# -- from before ---------------------------------------------------------------------------


def test_a_registry_of_schema_3_gets_tiers_and_policies():
    """With a tenant that is served and one that is gone: each record names its policy afterwards."""
    from apifix import AGENT, Api, Registry
    registry = Registry()
    try:
        registry.admin("SET ROLE bulkhead_registry; CREATE TABLE schema_version (version int PRIMARY KEY,"
                       " name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())")
        for n, path in enumerate(sorted((REPO / "control/registry/sql").glob("000[123]_*.sql")), 1):
            registry.admin("SET ROLE bulkhead_registry; " + path.read_text())
            registry.admin("INSERT INTO schema_version (version, name) VALUES (%s, %s)", args=(n, path.name))
        registry.admin("""
            INSERT INTO install (uid, incarnation) VALUES (gen_random_uuid(), gen_random_uuid());
            INSERT INTO feed_head (seq) VALUES (9);
            INSERT INTO cell (name, uid, endpoints) VALUES ('alpha', gen_random_uuid(), '{}'), ('main', gen_random_uuid(), '{}');
            INSERT INTO principal (id, kind, cell, token_hash) VALUES ('edge-1', 'agent', 'alpha', sha256('agent-token-1'));
            INSERT INTO tenant (no, uid, id, name, tier, rate, burst, state, cell) VALUES
                (1, gen_random_uuid(), 'served', 'x', 'standard', 1, 1, 'active', 'alpha'),
                (2, gen_random_uuid(), 'gone', 'x', 'standard', 1, 1, 'gone', 'alpha');
            INSERT INTO feed (seq, no, cell, version, record) VALUES (5, 1, 'alpha', 1, '{"id": "old", "tier": "standard"}'),
                (7, 1, 'alpha', 2, '{"id": "served", "tier": "standard"}'), (9, 2, 'alpha', 4, NULL)""")
        api = Api(registry)
        try:
            head, *rows = api.snapshot(AGENT)
            assert head["seq"] == 11
            assert [(row["seq"], row["version"], row["record"]) for row in rows if "no" in row] == [
                (11, 3, {"id": "served", "tier": "standard", "policy": "standard"})]
            assert [(row["document"], row["body"]) for row in rows if "document" in row] == [("policy/standard", "{}")]
            tenant = api.call("GET", "/v1/tenants/served").json()
            assert (tenant["edge"], tenant["domains"], tenant["endpoints"]) == ({}, [], [])
        finally:
            api.close()
    finally:
        registry.close()
