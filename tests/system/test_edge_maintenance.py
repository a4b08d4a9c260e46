"""A tenant under maintenance: everybody gets 503 with its message, as a problem or as a page, never from a cache."""
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from edgefix import Edge, Tenant  # noqa: E402

MESSAGE = 'Back at 18:00 <script>alert("x")</script> & später'
PAGE = ("text/html", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "application/json;q=0.2 , TEXT/HTML;level=1;q=0.1")
PROBLEM = ("application/json", "*/*", "text/html;q=0", "text/html;q=0.000, application/json", "text/htmlx", "x-text/html", "")


@pytest.fixture(scope="module")
def edge():
    edge = Edge(workers=1)
    edge.echo_app = edge.echo()
    edge.acme = Tenant(42, "acme", endpoints=[edge.echo_app.endpoint], policy="acme")
    edge.globex = Tenant(7, "globex", endpoints=[edge.echo_app.endpoint])
    edge.write_keyring()
    edge.document("policy/acme", {"maintenance": {"message": MESSAGE, "retry_after_seconds": 3600}})
    edge.put(edge.acme, edge.globex)
    edge.start()
    yield edge
    edge.stop()


@pytest.mark.parametrize("accept", PROBLEM)
def test_problem(edge, accept):
    answer = edge.ask(edge.acme, "/orders", *([f"Accept: {accept}"] if accept else []))
    assert (answer.status, answer.code, answer.json()["detail"]) == (503, "maintenance", MESSAGE)
    assert (answer.get("Retry-After"), answer.get("Cache-Control")) == ("3600", "no-store")


@pytest.mark.parametrize("accept", PAGE)
def test_page(edge, accept):
    answer = edge.get("acme.localhost", "/", f"Accept: {accept}")
    assert (answer.status, answer.get("Content-Type")) == (503, "text/html; charset=utf-8")
    assert (answer.get("Retry-After"), answer.get("Cache-Control")) == ("3600", "no-store")
    text = answer.body.decode()
    assert "<script" not in text and text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    assert "Back at 18:00 &lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; später" in text
    head = edge.get("acme.localhost", "/", f"Accept: {accept}", method="HEAD")
    assert head.status == 503 and head.body == b"" and head.get("Content-Length") == str(len(answer.body))


def test_nobody_is_served_and_others_are(edge):
    before = edge.echo_app.served
    assert edge.ask(edge.acme).code == edge.get("acme.localhost", "/x").code == "maintenance", "no credential helps or is asked for"
    assert edge.echo_app.served == before
    assert edge.ask(edge.globex).status == 200
    counted = edge.settled(edge.acme, 1)
    assert counted["requests"] == counted["status_5xx"] > 0


def test_it_ends_live_and_defaults(edge):
    for body in ({"maintenance": {}}, {"maintenance": {"message": "é" * 400}}):
        edge.document("policy/acme", body)
        answer = edge.ask(edge.acme)
        assert (answer.code, answer.get("Retry-After")) == ("maintenance", None)
        assert answer.json()["detail"] == body["maintenance"].get("message", "the service is under maintenance")
    edge.document("policy/acme", {})
    assert edge.ask(edge.acme).status == 200
    edge.document("policy/acme", {"maintenance": {"message": "again"}})
    edge.change(edge.acme, state="suspended")
    assert edge.ask(edge.acme).code == "tenant-suspended", "which is the stronger word"
    edge.change(edge.acme, state="moving")
    assert edge.ask(edge.acme).code == "maintenance", "nobody waits for that"
    edge.change(edge.acme, state="active")
    edge.document("policy/acme", {})
    assert edge.ask(edge.acme).status == 200
