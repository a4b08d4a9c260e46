"""Tokens of real OpenID providers through the whole product, while their keys rotate."""
import base64
import json
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

import packages
import pytest
from glewlwyd import AUDIENCE, Glewlwyd
from ports import Ports
from stack import Stack, wait_for

ALGORITHMS = ("RS256", "ES256", "EdDSA")
ROUTES = [{"path": "/"}, {"path": "/orders", "methods": ["GET"], "scopes": ["orders.read"]},
          {"path": "/orders", "methods": ["POST"], "scopes": ["orders.write"]}]


@pytest.fixture(scope="module")
def stack():
    stack = Stack("oidc")
    try:
        stack.up()
        yield stack
    finally:
        left = stack.close()
    assert not left, left


class OidcProvider:
    """npm's oidc-provider in a process of its own."""

    def __init__(self):
        try:
            folder = packages.node()
        except packages.Missing as missing:
            pytest.skip(f"oidc-provider: {missing}")
        self.ports = Ports()
        self.port = self.ports.take()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = open(folder / "provider.log", "w")
        self.process = subprocess.Popen(["node", str(packages.HERE / "provider.js"), str(self.port)], cwd=folder, text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log)
        self._line(lambda line: line == "ready")

    def _line(self, wanted):
        """oidc-provider prints notices between our lines."""
        for line in self.process.stdout:
            if wanted(line.strip()):
                return line.strip()
        raise AssertionError(f"the provider ended: see {self.log.name}")

    def tell(self, word):
        """`publish`, `switch` or `drop`: the kids of the set afterwards."""
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self._line(lambda line: line.startswith(ALGORITHMS)).split()

    def token(self, alg="RS256", scope="orders.read", org="acme"):
        body = urllib.parse.urlencode({"grant_type": "client_credentials", "resource": "https://shop.example", "scope": scope}).encode()
        secret = base64.b64encode(f"machine-{alg}-{org}:client-secret-of-a-test".encode()).decode()
        request = urllib.request.Request(self.url + "/token", body, {"Authorization": "Basic " + secret})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)["access_token"]

    def stop(self):
        self.process.stdin.close()
        self.process.wait(10)
        self.log.close()
        self.ports.release()


def settle(stack, name, kids=None):
    """Fetch the issuer's keys and wait until the edge has them."""
    stack.cli("issuer", "refresh", name, check=True)

    def fetched():
        status = stack.api("GET", f"/v1/issuers/{name}").json()["status"]
        found = {key.get("kid") for key in status["keys"]}
        return status["error"] is None and found and (kids is None or found == set(kids))
    wait_for(fetched, 20, f"keys of {name}")


def trust(stack, tenant, **edge):
    answer = stack.api("GET", f"/v1/tenants/{tenant}")
    body = {**answer.json(), "edge": edge, "limits": {"requests_per_second": 100000, "burst": 100000}}
    answer = stack.api("PUT", f"/v1/tenants/{tenant}", body)
    assert answer.status in (200, 202), answer
    if answer.status == 202:
        assert stack.finished(answer.headers["Location"].rsplit("/", 1)[1])["state"] == "succeeded"


def kid_of(token):
    head = token.split(".")[0]
    return json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))["kid"]


class Load:
    """Requests without pause on threads of its own; each answer that is not 200 is kept."""

    def __init__(self, stack, tenant, tokens, threads=3):
        self.stack, self.tenant, self.tokens, self.wrong, self.served, self.stopping = stack, tenant, tokens, [], 0, False
        self.threads = [threading.Thread(target=self._run) for _ in range(threads)]
        for thread in self.threads:
            thread.start()

    def _run(self):
        while not self.stopping:
            for token in list(self.tokens):
                answer = self.stack.request(self.tenant, "/orders", token)
                self.served += 1
                if answer.status != 200:
                    self.wrong.append((token[:40], answer))

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()


def rotate(stack, issuer, tenant, steps):
    """Keys go through publish, switch and drop while requests run; ${steps}: what does each and says the kids (None: it
    cannot), and what gives tokens."""
    old = steps.tokens()
    load = Load(stack, tenant, list(old))
    try:
        settle(stack, issuer, steps.publish())
        time.sleep(1)
        steps.switch()
        new = steps.tokens()
        assert not {kid_of(token) for token in new} & {kid_of(token) for token in old}
        load.tokens = old + new
        time.sleep(2)
        load.tokens = new
        time.sleep(0.5)
        settle(stack, issuer, steps.drop())
        wait_for(lambda: all(stack.request(tenant, "/orders", token).status == 401 for token in old), 10, "old keys are out")
        assert {stack.request(tenant, "/orders", token).code for token in old} == {"token-invalid"}
        time.sleep(1)
    finally:
        load.stop()
    assert load.wrong == [] and load.served > 200, (load.wrong[:3], load.served)


@pytest.fixture(scope="module")
def provider(stack):
    provider = OidcProvider()
    try:
        settings = {"issuer": provider.url, "audiences": ["shop"], "claims": {"tenant": "org.id"}}
        stack.cli("issuer", "put", "op", "-f", "-", stdin=json.dumps(settings), check=True)
        for tenant in ("acme", "globex"):
            trust(stack, tenant, issuers=["op"], routes=ROUTES)
        settle(stack, "op")
        wait_for(lambda: stack.request("acme", "/orders", provider.token()).status == 200, 15, "the edge knows the issuer")
        yield provider
    finally:
        provider.stop()


@pytest.mark.parametrize("alg", ALGORITHMS)
def test_oidc_provider_vouches(stack, provider, alg):
    token = provider.token(alg, "orders.read")
    assert json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))["alg"] == alg
    answer = stack.request("acme", "/orders", token)
    assert answer.status == 200 and "items" in answer.json()
    answer = stack.request("acme", "/orders", token, "POST", json.dumps({"product_id": 1, "quantity": 1}), Content_Type="application/json")
    assert (answer.status, answer.code) == (403, "not-permitted")
    both = provider.token(alg, "orders.read orders.write")
    answer = stack.request("acme", "/orders", both, "POST", json.dumps({"product_id": 1, "quantity": 1}), Content_Type="application/json")
    assert answer.status == 201, answer
    answer = stack.request("globex", "/orders", token)
    assert (answer.status, answer.code) == (401, "token-tenant-mismatch")
    assert stack.request("globex", "/orders", provider.token(alg, org="globex")).status == 200
    bent = token[:-10] + ("AAAAAAAAAA" if token[-10:] != "AAAAAAAAAA" else "BBBBBBBBBB")
    assert stack.request("acme", "/orders", bent).code == "token-invalid"


def test_oidc_provider_rotates_while_requests_run(stack, provider):
    class Steps:
        tokens = staticmethod(lambda: [provider.token(alg) for alg in ALGORITHMS])
        publish, switch, drop = (staticmethod(lambda word=word: provider.tell(word)) for word in ("publish", "switch", "drop"))
    rotate(stack, "op", "acme", Steps)


def test_oidc_provider_may_be_down(stack, provider):
    """The edge never asks it, and the control plane keeps its keys."""
    token = provider.token()
    assert stack.request("acme", "/orders", token).status == 200
    provider.process.send_signal(19)  # SIGSTOP
    try:
        assert stack.api("POST", "/v1/issuers/op/refresh").status == 202
        wait_for(lambda: stack.api("GET", "/v1/issuers/op").json()["status"]["error"], 30, "the failed fetch is told")
        assert stack.request("acme", "/orders", token).status == 200
        for worker in stack.workers():
            worker.kill()
        wait_for(lambda: stack.request("acme", "/orders", token).status == 200, 10, "new workers know the keys")
    finally:
        provider.process.send_signal(18)
    settle(stack, "op")


def test_an_api_key_through_the_whole_product(stack, provider):
    done = stack.cli("api-key", "create", "acme", "--name", "ci", "--user", "ci", "--scope", "orders.read", check=True)
    key = done.stdout.strip()
    wait_for(lambda: stack.request("acme", "/orders", X_API_Key=key).status == 200, 10, "the key counts")
    assert stack.request("globex", "/orders", X_API_Key=key).code == "token-tenant-mismatch"
    made = json.loads(stack.cli("api-key", "list", "acme", "-o", "json", check=True).stdout)["items"][0]
    stack.cli("api-key", "delete", "acme", made["id"], check=True)
    wait_for(lambda: stack.request("acme", "/orders", X_API_Key=key).code == "token-invalid", 10, "the key is revoked")


# ---- glewlwyd: an issuer that belongs to one tenant, beside another that several trust ----

@pytest.fixture(scope="module")
def glewlwyd(stack):
    server = Glewlwyd.__new__(Glewlwyd)
    try:
        try:
            server.__init__()
        except packages.Missing as missing:
            pytest.skip(f"glewlwyd: {missing}")
        settings = {"issuer": server.url, "audiences": [AUDIENCE], "subject_prefix": "gl:", "algorithms": ["ES256"]}
        stack.cli("issuer", "put", "glewlwyd", "-f", "-", stdin=json.dumps(settings), check=True)
        trust(stack, "umbrella", issuers=["glewlwyd"], user_tokens=False)
        settle(stack, "glewlwyd", ["g-1"])
        wait_for(lambda: stack.request("umbrella", "/orders", server.token()).status == 200, 15, "the edge knows the issuer")
        yield server
    finally:
        server.stop()


def test_glewlwyd_vouches(stack, glewlwyd):
    token = glewlwyd.token()
    answer = stack.request("umbrella", "/orders", token)
    assert answer.status == 200 and "items" in answer.json()
    assert stack.request("umbrella", "/orders", stack.user_token("umbrella")).code == "token-invalid"
    assert stack.request("acme", "/orders", token).code == "token-invalid", "only who names the issuer trusts it"
    assert stack.request("umbrella", "/orders", token[:-8] + "AAAAAAAA").code == "token-invalid"


def test_several_issuers_of_one_tenant(stack, provider, glewlwyd):
    trust(stack, "umbrella", issuers=["op", "glewlwyd"])
    wait_for(lambda: stack.request("umbrella", "/orders", provider.token()).code == "token-tenant-mismatch", 10, "both are asked")
    assert stack.request("umbrella", "/orders", glewlwyd.token()).status == 200
    trust(stack, "umbrella", issuers=["glewlwyd"], user_tokens=False)


def test_glewlwyd_rotates_while_requests_run(stack, glewlwyd):
    class Steps:
        tokens = staticmethod(lambda: [glewlwyd.token()])
        publish = staticmethod(lambda: glewlwyd.show("g-1", "g-2", sign="g-1"))
        switch = staticmethod(lambda: glewlwyd.show("g-1", "g-2", sign="g-2"))
        drop = staticmethod(lambda: glewlwyd.show("g-2", sign="g-2"))
    rotate(stack, "glewlwyd", "umbrella", Steps)
