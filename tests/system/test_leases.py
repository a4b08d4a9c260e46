"""Quotas that several edges share: what the control plane leases, and that an edge stops exactly there."""
import datetime
import hashlib
import random
import threading

import pytest

from flowfix import AGENT, Plant
from stack import wait_for

OTHER = "agent-token-other"
AMOUNT = 1000


@pytest.fixture(scope="module")
def plant():
    plant = Plant()
    plant.main = plant.daemon()
    digest = hashlib.sha256(OTHER.encode()).hexdigest()
    plant.registry("INSERT INTO principal (id, kind, cell, token_hash) VALUES ('edge-2', 'agent', 'main', %s)",
                   (bytes.fromhex(digest),))
    yield plant
    plant.close()


@pytest.fixture
def tenant(plant, request):
    name = "q" + hashlib.sha256(request.node.name.encode()).hexdigest()[:10]
    edge = {"quota_policies": [{"name": "daily", "quota": AMOUNT}, {"name": "hourly", "quota": 5, "window": "hour"},
                               {"name": "rate", "requests_per_second": 5}]}
    assert plant.main.onboard(name, {"edge": edge})["state"] == "succeeded"
    plant.registry("DELETE FROM agent")
    yield plant.main.get(name)
    assert plant.main.offboard(name)["state"] == "succeeded"


def known(plant, *agents):
    """Heard of today, and not so lately that flows would wait for them."""
    for agent in agents:
        plant.registry("INSERT INTO agent (id, cell, seen_at) VALUES (%s, 'main', now() - interval '1 minute')", (agent,))


def today(**other):
    now = datetime.datetime.now(datetime.timezone.utc).replace(minute=0, second=0, microsecond=0, **{"hour": 0, **other})
    return now.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def ask(plant, no, used=0, want=0, source="edge-1", limit="daily", start=None, token=AGENT):
    """The lease, or None."""
    status, answer = plant.main.call("POST", "/v1/leases", {"source": source, "wants": [
        {"no": no, "limit": limit, "window_start": start or today(), "used": used, "want": want}]}, token)
    assert status == 200, answer
    return answer["leases"][0] if answer["leases"] else None


def test_one_edge_gets_what_it_asks_for(plant, tenant):
    known(plant, "edge-1")
    lease = ask(plant, tenant["no"])
    assert lease == {"no": tenant["no"], "limit": "daily", "window_start": today(), "granted": 63, "elsewhere": 0,
                     "left": AMOUNT - 63}  # its start lease: a sixteenth, rounded up
    assert ask(plant, tenant["no"], 60, 100)["granted"] == 160
    assert ask(plant, tenant["no"], 60, 100)["granted"] == 160  # again: nothing more
    assert ask(plant, tenant["no"], 10, 20)["granted"] == 160  # and never less
    lease = ask(plant, tenant["no"], 160, 5000)
    assert (lease["granted"], lease["left"]) == (AMOUNT, 0)
    assert ask(plant, tenant["no"], AMOUNT, 5000)["granted"] == AMOUNT


def test_two_edges_never_hold_more_than_the_quota(plant, tenant):
    known(plant, "edge-1", "edge-2")
    first = ask(plant, tenant["no"], 0, 5000)
    assert first["granted"] == 63 + (AMOUNT - 2 * 63) // 4  # a quarter of what is left; the other's start is put aside
    assert first["elsewhere"] == 63
    second = ask(plant, tenant["no"], 0, 5000, "edge-2", token=OTHER)
    assert first["granted"] + second["granted"] + second["left"] == AMOUNT
    held = {"edge-1": first["granted"], "edge-2": second["granted"]}
    choice = random.Random(7)
    for _ in range(200):
        source = choice.choice(list(held))
        lease = ask(plant, tenant["no"], held[source], 5000, source, token=AGENT if source == "edge-1" else OTHER)
        assert lease["granted"] >= held[source]
        held[source] = lease["granted"]
        assert sum(held.values()) + lease["left"] == AMOUNT and lease["elsewhere"] == sum(held.values()) - lease["granted"]
        if lease["left"] == 0:
            break
    assert sum(held.values()) == AMOUNT  # all of it can be used


def test_one_post_for_many_quotas(plant, tenant):
    """Each answered once, in a post that asks for one of them twice."""
    known(plant, "edge-1")
    hour = today(hour=datetime.datetime.now(datetime.timezone.utc).hour)
    wants = [{"no": tenant["no"], "limit": limit, "window_start": start, "used": 0, "want": 2} for limit, start in (
        ("daily", today()), ("hourly", hour), ("nowhere", today()), ("daily", today()), ('";--\\', today()))]
    status, answer = plant.main.call("POST", "/v1/leases", {"source": "edge-1", "wants": wants}, AGENT)
    assert status == 200
    assert {lease["limit"]: lease["granted"] for lease in answer["leases"]} == {"daily": 63, "hourly": 2}
    assert len(answer["leases"]) == 2


def test_askers_at_once_get_no_unit_twice(plant, tenant):
    known(plant, "edge-1", "edge-2")
    held, faults = {}, []

    def run(source, token):
        used = 0
        for _ in range(40):
            lease = ask(plant, tenant["no"], used, 200, source, token=token)
            held[source] = used = lease["granted"]
            if sum(plant.registry("SELECT granted FROM quota_lease WHERE no = %s AND source = %s",
                                  (tenant["no"], source))[0]) < used:
                faults.append(source)
    threads = [threading.Thread(target=run, args=args) for args in (
        ("edge-1/a", AGENT), ("edge-1/b", AGENT), ("edge-2/a", OTHER), ("edge-2/b", OTHER))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults and sum(held.values()) == AMOUNT


def test_a_small_quota_is_stopped_at_one_for_each_edge(plant, tenant):
    known(plant, "edge-1", "edge-2")
    start = today(hour=datetime.datetime.now(datetime.timezone.utc).hour)
    lease = ask(plant, tenant["no"], 0, 100, limit="hourly", start=start)
    assert (lease["granted"], lease["elsewhere"]) == (2, 1)  # 1 at the start, 1 of 3 that are left
    lease = ask(plant, tenant["no"], 0, 100, "edge-2", "hourly", start, OTHER)
    assert (lease["granted"], lease["elsewhere"], lease["left"]) == (2, 2, 1)


def test_what_is_no_quota_of_now_gets_no_lease(plant, tenant):
    no = tenant["no"]
    for wrong in ({"limit": "rate"}, {"limit": "nowhere"}, {"start": "2020-01-01T00:00:00Z"}, {"start": today(hour=1)},
                  {"no": 999999}):
        assert ask(plant, **{"no": no, **wrong}) is None, wrong
    assert ask(plant, no) is not None


def test_an_agent_asks_for_its_own_cell_as_itself(plant, tenant):
    body = {"source": "edge-2", "wants": []}
    assert plant.main.call("POST", "/v1/leases", body, AGENT)[0] == 403
    assert plant.main.call("POST", "/v1/leases", body, OTHER) == (200, {"leases": []})
    assert plant.main.call("POST", "/v1/leases", body)[0] == 403  # an operator counts nothing
    plant.registry("INSERT INTO cell (name, uid, endpoints) VALUES ('zfar', gen_random_uuid(), '{}') ON CONFLICT DO NOTHING")
    plant.registry("INSERT INTO principal (id, kind, cell, token_hash) VALUES ('edge-far', 'agent', 'zfar', %s)"
                   " ON CONFLICT DO NOTHING", (hashlib.sha256(b"far").digest(),))
    assert ask(plant, tenant["no"], source="edge-far", token="far") is None
    for want in ({"no": 0}, {"used": -1}, {"limit": ""}, {"window_start": "now"}, {"want": 1 << 51}, {"x": 1}):
        one = {"no": 1, "limit": "daily", "window_start": today(), "used": 0, "want": 0, **want}
        status, answer = plant.main.call("POST", "/v1/leases", {"source": "edge-1", "wants": [one]}, AGENT)
        assert status == 422 and answer["errors"][0]["pointer"] == f"/wants/0/{next(iter(want))}"


def test_a_quota_that_changes(plant, tenant):
    known(plant, "edge-1")
    ask(plant, tenant["no"], 0, 500)
    edge = {"quota_policies": [{"name": "daily", "quota": 100}]}
    plant.main.end(plant.main.put(tenant["id"], {"edge": edge})["operation"])
    lease = ask(plant, tenant["no"], 300, 500)
    assert (lease["granted"], lease["left"]) == (500, 0)  # what is out stays out; nothing more
    plant.main.end(plant.main.put(tenant["id"], {"edge": {"quota_policies": [{"name": "daily", "quota": 600}]}})["operation"])
    assert ask(plant, tenant["no"], 500, 500)["granted"] == 600


# -- the edge ------------------------------------------------------------------------------


@pytest.fixture
def quota(stack):
    """A tenant with a quota of 40 requests a day."""
    edge = {"quota_policies": [{"name": "daily", "quota": 40}], "limits": ["daily"]}
    assert stack.put("leased", {"edge": edge})["state"] == "succeeded"
    yield "leased"
    assert stack.delete("leased")["state"] == "succeeded"


def used_by_edge(stack, tenant):
    no = stack.api("GET", f"/v1/tenants/{tenant}").json()["no"]
    rows = stack.psql("SELECT used, granted FROM quota_lease WHERE no = %s AND source LIKE 'local/%%'", no, database="bulkhead")
    return rows[0] if rows else (0, 0)


def test_an_edge_stops_exactly_at_the_quota(stack, quota):
    assert stack.request(quota, "/").status == 200
    statuses = []
    while statuses.count(429) < 30 and len(statuses) < 400:
        statuses.append((answer := stack.request(quota, "/")).status)
        if statuses[-1] == 429:
            threading.Event().wait(0.05)
    # the smoke test and the first request count too
    wait_for(lambda: used_by_edge(stack, quota)[0] == 40, 15, "the edge tells what was used")
    assert used_by_edge(stack, quota) == (40, 40)
    assert answer.status == 429 and int(answer.headers["Retry-After"]) > 1 and answer.code == "quota-exceeded"
    assert statuses.count(200) <= 39 and set(statuses) == {200, 429}


def test_what_another_edge_holds_this_one_does_not_use(stack, quota):
    """Another agent of the cell takes a lease: the edge here gets the rest and no more."""
    stack.psql("INSERT INTO agent (id, cell) VALUES ('ghost', 'main')", database="bulkhead")
    stack.psql("INSERT INTO principal (id, kind, cell, token_hash) VALUES ('ghost', 'agent', 'main', %s)",
               hashlib.sha256(b"ghost").digest(), database="bulkhead")
    try:
        no = stack.api("GET", f"/v1/tenants/{quota}").json()["no"]
        ghost = stack.api("POST", "/v1/leases", {"source": "ghost", "wants": [
            {"no": no, "limit": "daily", "window_start": today(), "used": 0, "want": 100}]}, token="ghost").json()
        held = ghost["leases"][0]["granted"]
        assert 0 < held < 40
        for _ in range(400):
            if (answer := stack.request(quota, "/")).status == 429 and int(answer.headers["Retry-After"]) > 1:
                break
            threading.Event().wait(0.02)
        wait_for(lambda: used_by_edge(stack, quota)[0] > 0, 15, "the edge tells what was used")
        rows = stack.psql("SELECT source LIKE 'ghost%%', used, granted FROM quota_lease WHERE no = %s", no,
                          database="bulkhead")
        assert sum(granted for _, _, granted in rows) == 40 and answer.status == 429
        assert [granted for ghostly, _, granted in rows if ghostly] == [held]
    finally:
        stack.psql("DELETE FROM agent WHERE id = 'ghost'", database="bulkhead")
        stack.psql("DELETE FROM principal WHERE id = 'ghost'", database="bulkhead")


def test_without_leases_an_edge_does_as_the_policy_says(stack):
    """The registry's table is away for longer than 30 s: `refuse` ends at the lease, `continue` goes on to the quota."""
    no = {}
    for lost in ("refuse", "continue"):
        edge = {"quota_policies": [{"name": "daily", "quota": 640, "when_lost": lost}], "limits": ["daily"]}
        wish = {"edge": edge, "limits": {"requests_per_second": 10000, "burst": 10000}}
        assert stack.put(f"lost-{lost}", wish)["state"] == "succeeded"
        no[lost] = stack.api("GET", f"/v1/tenants/lost-{lost}").json()["no"]

    def admitted(lost):
        return sum(stack.request(f"lost-{lost}", "/").status == 200 for _ in range(700))

    def used(lost):
        return (stack.psql("SELECT used FROM quota_lease WHERE no = %s", no[lost], database="bulkhead") or [(0,)])[0][0]
    stack.psql("ALTER TABLE quota_lease RENAME TO quota_lease_away", database="bulkhead")
    try:
        first = {lost: admitted(lost) for lost in no}
        assert all(0 < count < 640 for count in first.values()), first  # no further than what was leased
        refused = stack.request("lost-refuse", "/")
        assert refused.status == 429 and refused.code == "quota-exceeded"
        wait_for(lambda: stack.request("lost-continue", "/").status == 200, 45, "the edge takes the leases for lost", 0.5)
        assert admitted("refuse") == 0
        assert admitted("continue") > 0 and admitted("continue") == 0  # the quota itself is the end
    finally:
        stack.psql("ALTER TABLE quota_lease_away RENAME TO quota_lease", database="bulkhead")
    wait_for(lambda: stack.request("lost-refuse", "/").status == 200, 15, "leases are back", 0.5)
    wait_for(lambda: used("continue") == 640, 15, "what was used without a lease is told")
    for lost in no:
        assert stack.delete(f"lost-{lost}")["state"] == "succeeded"
