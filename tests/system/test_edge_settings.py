"""What people state of the edge, from the control plane to an answer: tiers, tenants' settings, custom domains."""
import json
import time

import pytest

from stack import wait_for


@pytest.fixture
def tenant(stack):
    assert stack.api("PUT", "/v1/tiers/live", {}).status in (200, 201)
    assert stack.put("settled", {"tier": "live"})["state"] == "succeeded"
    yield "settled"
    assert stack.delete("settled")["state"] == "succeeded"


def change_tier(stack, edge):
    answer = stack.api("PUT", "/v1/tiers/live", {"edge": edge})
    assert answer.status == 200, answer
    return time.monotonic()


def test_a_tiers_change_is_live_for_its_tenants(stack, tenant):
    """A tier's change reaches the tenants of the tier, those with settings of their own too, and no others."""
    assert stack.request(tenant, "/").status == 200
    changed = change_tier(stack, {"maintenance": {"message": "Back at 8", "retry_after_seconds": 600}})
    answer = wait_for(lambda: (a := stack.request(tenant, "/")).status == 503 and a, 5, "the tier's change is live", 0.005)
    print(f"\ntier's change to live: {(time.monotonic() - changed) * 1000:.0f} ms")
    assert answer.code == "maintenance" and answer.headers["Retry-After"] == "600"
    assert stack.request("acme", "/").status == 200
    change_tier(stack, {})
    wait_for(lambda: stack.request(tenant, "/").status == 200, 5, "and back")

    stack.put(tenant, {"tier": "live", "edge": {"unlisted": "allow"}})
    assert stack.request(tenant, "/").status == 200
    change_tier(stack, {"maintenance": {}})
    wait_for(lambda: stack.request(tenant, "/").status == 503, 5, "live for a tenant with settings of its own")
    change_tier(stack, {})
    wait_for(lambda: stack.request(tenant, "/").status == 200, 5, "and back")


def test_routes_of_a_tenant_are_live(stack, tenant):
    token = stack.user_token(tenant)
    assert stack.request(tenant, "/orders", token).status == 200
    op = stack.put(tenant, {"tier": "live", "edge": {
        "unlisted": "deny", "routes": [{"path": "/orders", "methods": ["GET"]}, {"path": "/", "anonymous": True}]}})
    assert (op["kind"], op["state"]) == ("update", "succeeded")  # the edges have acknowledged it by now
    assert stack.request(tenant, "/").status == 200 and stack.request(tenant, "/orders", token).status == 200
    assert (answer := stack.request(tenant, "/products", token)).status == 403 and answer.code == "not-permitted"
    stack.put(tenant, {"tier": "live"})
    assert stack.request(tenant, "/products", token).status == 200


def test_a_custom_domain_is_live(stack, tenant):
    def ask(host):
        return stack.request(None, "/", host=f"{host}:{stack.ports['edge']}")
    assert ask("shop.settled.example").status == 404
    stack.put(tenant, {"tier": "live", "domains": ["shop.settled.example"]})
    assert ask("shop.settled.example").status == 200 and b"settled" in ask("shop.settled.example").body
    assert ask("other.settled.example").status == 404
    stack.put(tenant, {"tier": "live"})
    assert ask("shop.settled.example").status == 404


def test_settings_outlive_the_control_plane_and_the_agent(stack, tenant):
    stack.put(tenant, {"tier": "live", "edge": {"unlisted": "deny"}, "domains": ["kept.settled.example"]})
    assert stack.request(tenant, "/").status == 403
    stack.kill("control")
    assert stack.request(tenant, "/").status == 403
    stack.wait_up()
    assert stack.request(tenant, "/", host=f"kept.settled.example:{stack.ports['edge']}").status == 403


def test_what_is_explained_is_what_the_edge_does(stack, tenant):
    """The decision of `explain route` against the answer of the edge, without and with a credential."""
    stack.put(tenant, {"tier": "live", "edge": {"unlisted": "deny", "routes": [
        {"name": "open", "path": "/", "anonymous": True}, {"path": "/orders/*", "methods": ["POST"]},
        {"path": "/orders", "methods": ["GET"]}, {"path": "/products", "roles": ["owner"]}]}})
    token = stack.user_token(tenant)
    seen = set()
    for method, path in (("GET", "/"), ("POST", "/"), ("GET", "/orders"), ("POST", "/orders"), ("GET", "/orders/1"),
                         ("GET", "/orders?x=/../"), ("GET", "/products"), ("GET", "/products/"), ("GET", "//orders"),
                         ("GET", "/x/../orders"), ("GET", "/orders%2f"), ("DELETE", "/none"), ("HEAD", "/orders")):
        done = stack.cli("explain", "route", tenant, method, path, "-o", "json")
        request = json.loads(done.stdout)["request"]
        bare, known = (stack.request(tenant, path, t, method) for t in (None, token))
        seen.add(request["decision"])
        if request["decision"] == "refused":
            assert done.returncode == 2 and known.status == request["status"], (method, path, request, known)
            assert bare.status == (401 if request["status"] == 403 else request["status"])
        elif request["decision"] == "credential":
            assert bare.status == 401 and known.status == (403 if request["roles"] else known.status) != 401
            assert known.status == 403 or known.code != "not-permitted"
        else:
            assert bare.status not in (401, 403), (method, path, request, bare)
    assert seen == {"refused", "credential", "allowed"}
