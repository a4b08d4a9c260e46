"""Custom domains: what names their tenant, what comes near and does not, and what the application is told."""
import pathlib
import sys
import urllib.parse

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import nginxversion  # noqa: E402
import test_hostile as base  # noqa: E402
import test_hostile_sources as sources  # noqa: E402
from edgefix import Edge, Tenant  # noqa: E402
from test_hostile_sources import CONFLICT, MALFORMED, UNKNOWN, X, send  # noqa: E402

DOMAINS = {"acme": ["shop.example", "xn--mnchen-3ya.example", "a.b.c.d.example.co.uk", "1.acme-2.example"],
           "globex": ["globex.example", "shop.example.net"]}
MISSING = (400, "tenant-missing")
IDN = "xn--mnchen-3ya.example"


def start(edit):
    edge = sources.start(edit)
    for id, domains in DOMAINS.items():
        edge.change(getattr(edge, id), domains=domains)
    edge.hosts = {id: {f"{id}.localhost", "localhost", *domains} for id, domains in DOMAINS.items()}
    return edge


@pytest.fixture(scope="module")
def edge():
    edge = start(lambda text: text.replace("bulkhead on;", "bulkhead on; bulkhead_resolve host domain path header;"))
    yield edge
    errors = edge.errors()
    edge.stop()
    assert "signal" not in errors, f"a worker died:\n{errors}"


# target, host, header lines → the host that acme's application gets
PASSES = {
    "domain": ("/orders", "shop.example", [], "shop.example"),
    "upper case": ("/orders", "SHOP.Example", [], "shop.example"),
    "dot behind": ("/orders", "shop.example.", [], "shop.example"),
    "port": ("/orders", "shop.example:8443", [], "shop.example:8443"),
    "dot and port": ("/orders", "shop.EXAMPLE.:443", [], "shop.example:443"),
    "no port": ("/orders", "shop.example:", [], "shop.example"),
    "IDN in punycode": ("/orders", IDN.upper(), [], IDN),
    "many labels": ("/orders", "a.b.c.d.example.co.uk", [], "a.b.c.d.example.co.uk"),
    "digits and hyphens": ("/orders", "1.acme-2.example", [], "1.acme-2.example"),
    "absolute form": ("http://shop.example/orders", "shop.example", [], "shop.example"),
    "absolute form in other cases": ("http://SHOP.example:80/orders", "shop.example.", [], "shop.example"),
    "and path": ("/t/acme/orders", "shop.example", [], "shop.example"),
    "and header": ("/orders", "shop.example", [X + "acme"], "shop.example"),
    "and path and header": ("/t/acme/orders", "shop.example:1", [X + "acme"], "shop.example:1"),
    "forwarded hosts of a client": ("/orders", "shop.example", ["X-Forwarded-Host: globex.example", "Forwarded: host=globex.example",
                                    "X-Original-Host: globex.example"], "shop.example"),
    "label of the base domain": ("/orders", "acme.localhost", [], "acme.localhost"),
}

# target, host, header lines → what refuses it
REFUSED = {
    **{f"host {host!r}": ("/orders", host, [], code) for host, code in {
        "www.shop.example": UNKNOWN, "xshop.example": UNKNOWN, "shop.example.org": UNKNOWN, "example": UNKNOWN, "shop": UNKNOWN,
        "shop.example.localhost": UNKNOWN, "shop.example..": MALFORMED, ".shop.example": UNKNOWN, "shop..example": MALFORMED,
        "shop.example,globex.example": UNKNOWN, "shop.example globex.example": MALFORMED, "globex.example shop.example": MALFORMED,
        "*.example": UNKNOWN, "shop.*": UNKNOWN, "sh%6fp.example": UNKNOWN, "shop_.example": UNKNOWN, "-shop.example": UNKNOWN,
        "m\xc3\xbcnchen.example": UNKNOWN, "m\xfcnchen.example": UNKNOWN, "xn--mnchen-3ya": UNKNOWN, "sh\xd0\xbep.example": UNKNOWN,
        "shop\xe3\x80\x82example": UNKNOWN, "shop.example\xad": UNKNOWN, "shop.example\t": (200, None), "shop.example\0": MALFORMED,
        "shop.example\0.globex.example": MALFORMED, "shop.example/": MALFORMED, "shop.example\\": UNKNOWN, "shop.example#": UNKNOWN,
        "shop.example?": UNKNOWN, "http://shop.example": MALFORMED, "user@shop.example": UNKNOWN, "globex.example@shop.example": UNKNOWN,
        "[shop.example]": UNKNOWN, "shop.example;x": UNKNOWN, '"shop.example"': UNKNOWN, "a" * 64 + ".example": UNKNOWN,
        ".".join(["a" * 60] * 5): UNKNOWN, "shop.example:80:80": UNKNOWN, "127.0.0.1.example": UNKNOWN, "1.2.3": UNKNOWN,
    }.items() if code != (200, None)},
    "an address": ("/orders", "127.0.0.1", [], MISSING),
    "host twice": ("/orders", "shop.example", ["Host: globex.example"], MALFORMED),
    "host twice the same": ("/orders", "shop.example", ["Host: shop.example"], MALFORMED),
    "absolute form for another domain": ("http://globex.example/orders", "shop.example", [], CONFLICT),
    "absolute form for the label of the same tenant": ("http://acme.localhost/orders", "shop.example", [], CONFLICT),
    "absolute form for another domain of the same tenant": (f"http://{IDN}/orders", "shop.example", [], CONFLICT),
    "absolute form for a domain beside a label": ("http://shop.example/orders", "globex.localhost", [], CONFLICT),
    "absolute form with userinfo": ("http://shop.example@globex.example/orders", "shop.example", [], MALFORMED),
    "path of another tenant": ("/t/globex/orders", "shop.example", [], CONFLICT),
    "header of another tenant": ("/orders", "shop.example", [X + "globex"], CONFLICT),
    "path and header of another tenant": ("/t/globex/orders", "shop.example", [X + "globex"], CONFLICT),
    "path of acme on another's domain": ("/t/acme/orders", "globex.example", [], CONFLICT),
    "header of acme on another's domain": ("/orders", "globex.example", [X + "acme"], CONFLICT),
    "a domain as header": ("/orders", "shop.example", [X + "shop.example"], UNKNOWN),
    "a domain as path": ("/t/shop.example/orders", "localhost", [], UNKNOWN),
    "a foreign domain with the right path": ("/t/acme/orders", "foreign.example", [], UNKNOWN),
    "a foreign domain with the right header": ("/orders", "foreign.example", [X + "acme"], UNKNOWN),
}


@pytest.mark.parametrize("name", PASSES)
def test_a_domain_names_its_tenant(edge, name):
    target, host, extra, told = PASSES[name]
    assert send(edge, target, host, extra) == ([(200, None)], [("acme", "GET /orders HTTP/1.1", b"")])
    headers = {name.lower(): value for name, value in edge.acme_app.seen[-1][1]}
    # $host, which the shipped configuration forwards, is without the port
    assert (headers["host"], headers["x-forwarded-host"]) == (told.split(":")[0], told)
    refused, arrived = send(edge, target, host, extra, user="globex")  # a credential never chooses
    assert (refused, arrived) == ([(401, "token-tenant-mismatch")], [])


@pytest.mark.parametrize("name", REFUSED)
def test_what_only_resembles_a_domain_reaches_nobody(edge, name):
    target, host, extra, why = REFUSED[name]
    assert send(edge, "/orders", "shop.example", [])[0] == [(200, None)], "control"
    assert send(edge, "/orders", "globex.example", [], "globex")[0] == [(200, None)], "control"
    for user in ("acme", "globex"):
        got, arrived = send(edge, target, host, extra, user)
        assert got and nginxversion.alike(got[0], why) and arrived == [], got


COOKIES = {  # what acme's application says on shop.example → what its user gets
    "a=1; Domain=shop.example": "a=1",  # another tenant may have eu.shop.example
    "a=1; Domain=.SHOP.example; Secure": "a=1; Secure",
    "a=1; Domain=example": "a=1",
    "a=1; Domain=globex.example": "a=1",
    "a=1; Domain=acme.localhost": "a=1",
    "a=1; Domain=localhost": "a=1",
    "a=1": "a=1",
}


@pytest.mark.parametrize("said", COOKIES)
def test_cookies_stay_on_the_domain(edge, said):
    answer = edge.get("SHOP.example.", "/answer?" + urllib.parse.urlencode([("Set-Cookie", said)]), edge.good["acme"])
    assert answer.status == 200 and answer.all("Set-Cookie") == [COOKIES[said]]


def test_a_domain_for_cookies_is_left_below_the_base_domain_only():
    """A cookie with a Domain goes to all names below: from corp.example to every other tenant."""
    edge = Edge(workers=1, base_domain="apps.corp.example")
    try:
        tenant = Tenant(1, "acme", endpoints=[edge.echo().endpoint], domains=["corp.example", "shop.example"])
        edge.write_keyring()
        edge.put(tenant)
        edge.start()
        get = lambda host: edge.get(host, "/answer?" + urllib.parse.urlencode([("Set-Cookie", f"a=b; Domain={host}; Secure")]),
                                    edge.bearer(tenant)).all("Set-Cookie")
        assert get("corp.example") == ["a=b; Secure"]
        assert get("shop.example") == ["a=b; Secure"]
        assert get("acme.apps.corp.example") == ["a=b; Domain=acme.apps.corp.example; Secure"]
    finally:
        edge.stop()


def test_a_domain_that_moves_leads_to_its_new_tenant_at_once(edge):
    whose = lambda host, user: edge.get(host, "/orders", edge.good[user])
    for _ in range(3):  # also from the worker's memory
        assert whose("shop.example", "acme").json()["name"] == "acme"
    edge.change(edge.acme, domains=[])
    assert whose("shop.example", "acme").code == "tenant-unknown"
    edge.change(edge.globex, domains=["shop.example"])
    assert whose("shop.example", "acme").code == "token-tenant-mismatch"
    assert whose("shop.example", "globex").json()["name"] == "globex"
    for id in ("globex", "acme"):
        edge.change(getattr(edge, id), domains=DOMAINS[id])
    assert whose("shop.example", "acme").json()["name"] == "acme"
    edge.remove(edge.acme)
    assert whose("shop.example", "acme").code == "tenant-unknown"
    edge.put(edge.acme)
    assert whose("shop.example", "acme").json()["name"] == "acme"


@pytest.mark.parametrize("words, label, domain", [
    ("host", 200, 404), ("domain", 400, 200), ("host domain", 200, 200), (None, 200, 200)])
def test_which_hosts_count_is_configuration(words, label, domain):
    word = f"bulkhead on; bulkhead_resolve {words};" if words else "bulkhead on;"
    edge = start(lambda text: text.replace("bulkhead on;", word))
    try:
        assert [edge.get(host, "/orders", edge.good["acme"]).status for host in ("acme.localhost", "shop.example")] == [label, domain]
    finally:
        edge.stop()


def test_observing_counts_for_the_domains_tenant_and_changes_nothing():
    edge = start(lambda text: text.replace("bulkhead on;", "bulkhead observe;").replace(
        "proxy_set_header Host $host;", "proxy_set_header Host $http_host;"))
    try:
        answer = edge.get("SHOP.example:99", "/orders", edge.good["acme"], "X-Forwarded-Host: mine")
        headers = dict(map(tuple, answer.json()["headers"]))
        assert (headers["Host"], headers["X-Forwarded-Host"]) == ("SHOP.example:99", "mine")
        assert edge.settled(edge.acme, 1)["requests"] == 1
    finally:
        edge.stop()
