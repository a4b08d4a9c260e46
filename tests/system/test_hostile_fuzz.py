"""Mutants of the hostile corpus against a model of its own of who may get what.

BULKHEAD_FUZZ_SECONDS (default 15) bounds it, BULKHEAD_FUZZ_SEED repeats a run: the n-th mutant of a seed is always the same.
Two oracles: whatever arrives anywhere must be what `check` says of its bytes, and where `model` can read a mutant
(plain ones only), it must arrive at exactly the tenant that the model says, or nowhere.
"""
import concurrent.futures
import ipaddress
import json
import os
import pathlib
import random
import re
import socket
import sys
import time

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import test_hostile as base  # noqa: E402
import test_hostile_sources as sources  # noqa: E402
from edgefix import decode  # noqa: E402

SECONDS = float(os.environ.get("BULKHEAD_FUZZ_SECONDS", "15"))
SEED = int(os.environ.get("BULKHEAD_FUZZ_SEED") or random.SystemRandom().randrange(1 << 32))
BATCH = 64
THREADS = 16
SILENCE_S = 0.03
TENANTS = {"acme": 42, "globex": 7}
# Before mutation a credential is one word, so that mutants do not depend on this run's keys.
AUTH = {"acme": "@@A@@", "globex": "@@G@@"}


@pytest.fixture(scope="module")
def edge():
    edge = sources.start(lambda text: text.replace("bulkhead on;", "bulkhead on; bulkhead_resolve host path header;"))
    yield edge
    edge.stop()


# ---- the corpus and its mutants ----

def request(target, host, extra=(), user="acme", method="GET", body=""):
    lines = [f"{method} {target} HTTP/1.1", *([] if host is None else [f"Host: {host}"]),
             *([] if user is None else [f"Authorization: Bearer {AUTH[user]}"]), "X-Fuzz: @@N@@", *extra]
    return ("\r\n".join(lines) + "\r\n\r\n" + body).encode("latin-1")


def plain(text):
    return text.replace("{token}", AUTH["acme"]).replace("{globex_token}", AUTH["globex"])


def corpus():
    found = []
    good = list(sources.PASSES.values())
    found += [request(target, host, extra) for target, host, extra, *_ in good] * 8
    found += [request(target.replace("acme", "globex"), host and host.replace("acme", "globex"),
                      [line.replace("acme", "globex") for line in extra], "globex") for target, host, extra, *_ in good] * 8
    for target, host, extra, *_ in [*good, *sources.REFUSED.values()]:
        for user in ("acme", "globex", None):
            found.append(request(target, host, extra, user))
    for parts, _, _ in base.CASES.values():
        if not re.search(r"\{(?!token|globex_token)", json.dumps(parts)):
            found.append(request(parts.get("target", "/orders"), parts.get("host", "acme.localhost"),
                                 [plain(line) for line in parts.get("extra", [])], "acme", parts.get("method", "GET"),
                                 plain(parts.get("body", ""))))
    handshake = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: " + "A" * 22 + "=="]
    return found + [request("/ws", "acme.localhost", handshake), request("/t/globex/ws", "localhost", handshake, "globex")]


WORDS = [word.encode("latin-1") for word in (
    "/", "//", "/.", "/..", "/../", "%2f", "%2e", "%00", "%", "\\", "?", "#", ";", ":", "@", ".", " ", "\t", "\r", "\n", "\r\n",
    "\0", "\x0b", "\x7f", "\xff", "\xc0\xaf", "/t/", "/t/acme", "/t/globex", "/t/acme/../globex/", "acme", "globex", "ACME", "localhost",
    ".localhost", "globex.localhost", "http://", "http://globex.localhost", "Host: globex.localhost\r\n", "Host: localhost\r\n",
    "X-Tenant-ID: globex\r\n", "X-Tenant-ID: acme\r\n", "X-Bulkhead-Token: x\r\n", "X_Tenant_ID: globex\r\n",
    f"Authorization: Bearer {AUTH['globex']}\r\n", AUTH["acme"], AUTH["globex"], "Content-Length: 4\r\n", "Content-Length: 0\r\n",
    "Transfer-Encoding: chunked\r\n", "0\r\n\r\n", "Connection: close\r\n", "Connection: X-Tenant-ID\r\n", "Expect: 100-continue\r\n",
    "HTTP/1.0", "HTTP/0.9", "HTTP/1.1", "HTTP/2.0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET ", "POST ", "HEAD ", "OPTIONS ",
    "\r\n\r\nGET /t/globex/ HTTP/1.1\r\nHost: localhost\r\n\r\n", "Range: bytes=0-1\r\n", "If-Match: x\r\n", "Accept-Encoding: gzip\r\n")]


def mutate(rng, seeds):
    data = bytearray(rng.choice(seeds))
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 5))):
        at = rng.randrange(len(data) + 1)
        if rng.random() < 0.5:  # the request line and the first header decide
            at = rng.randrange(min(len(data), 60) + 1)
        how = rng.randrange(8)
        if how <= 1:
            data[at:at] = rng.choice(WORDS)
        elif how == 2:
            data[at:at + rng.randrange(1, 6)] = b""
        elif how == 3:
            data[at:at + 1] = bytes((rng.randrange(256),))
        elif how == 4 and at < len(data):
            data[at:at + 1] = b"%%%02x" % data[at]
        elif how == 5 and at < len(data):
            data[at] ^= 0x20
        elif how == 6:  # lines change places or come twice
            lines = bytes(data).split(b"\r\n")
            lines.insert(rng.randrange(len(lines)), rng.choice(lines) if rng.random() < 0.5 else lines.pop(rng.randrange(len(lines))))
            data = bytearray(b"\r\n".join(lines))
        else:
            other = rng.choice(seeds)
            data = data[:at] + other[rng.randrange(len(other)):]
        data = data or bytearray(b"\r\n")
    return bytes(data)


# ---- the model: who may get what ----

PLAIN = re.compile(rb"GET (/[A-Za-z0-9/_-]*)(\?[A-Za-z0-9/_=&-]*)? HTTP/1\.1\r\n((?:[A-Za-z0-9-]+: [\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?\r\n)+)\r\n")
STEERS = {"upgrade", "expect", "content-length", "transfer-encoding", "connection", "te", "range", "if-match"}


def is_address(host):
    try:
        return ipaddress.IPv4Address(host) is not None
    except ValueError:
        return False


def host_says(host):
    """(speaks, tenant): a host under the base domain names a tenant, the base domain and addresses say nothing."""
    host = host.lower().rpartition(":")[0] if re.search(r":[^\]]*$", host) else host.lower()
    host = host[:-1] if host.endswith(".") else host
    if host == "localhost" or is_address(host):
        return False, None
    return True, host.removesuffix(".localhost") if host.endswith(".localhost") else None


def model(data):
    """(tenant, path) that a plain request may reach, (None, None) for none; None where it is not plain."""
    match = PLAIN.fullmatch(data)
    if match is None:
        return None
    path, query = match[1].decode(), (match[2] or b"").decode()
    headers = [line.split(": ", 1) for line in match[3].decode().split("\r\n")[:-1]]
    named = {}
    for name, value in headers:
        named.setdefault(name.lower(), []).append(value)
    if "//" in path or STEERS & named.keys():
        return None
    nobody = (None, None)
    if len(named.get("host", [])) != 1 or len(named.get("authorization", [])) > 1:
        return nobody
    if re.search(r"[^A-Za-z0-9.:-]", named["host"][0]) or ".." in named["host"][0]:
        return None
    says = [host_says(named["host"][0])]
    if match := re.match(r"/t/([^/]*)", path):
        says.append((True, match[1]))
        path = path[match.end():] or "/"
        query = "" if query == "?" else query  # nginx writes a normalised path anew, an empty query without its mark
    says += [(True, value) for value in named.get("x-tenant-id", [])]
    names = {tenant for speaks, tenant in says if speaks}
    if len(names) != 1 or len(named.get("x-tenant-id", [])) > 1 or not names <= TENANTS.keys():
        return nobody
    tenant, = names
    credential = named.get("authorization", [None])[0]
    good = credential is not None and re.fullmatch(f"(?i:bearer) +{AUTH[tenant]}", credential)
    return (tenant, path + query) if good or (credential is None and path == "/") else nobody


def check(id, line, headers, data):
    """What is wrong with that something of ${data} came to the application of tenant ${id}; None where nothing is."""
    got = {}
    for name, value in headers:
        got.setdefault(name.lower().replace("_", "-"), []).append(value)
    for name in base.IDENTITY:
        if len(got.get(name, [])) != 1:
            return f"{name}: {got.get(name)}"
    claims = json.loads(decode(got["x-bulkhead-token"][0])[1])
    if (claims["tenant"], claims["no"], got["x-tenant-id"][0], got["x-scope-orgid"][0]) != (id, TENANTS[id], id, id):
        return "another tenant's identity"
    if got["x-bulkhead-database"] != [{"acme": "shared1", "globex": "t7"}[id]] or got["x-forwarded-for"] != ["127.0.0.1"]:
        return "a spoofed header"
    if got["host"][0] not in (f"{id}.localhost", "localhost") or got.get("x-forwarded-prefix", [f"/t/{id}"]) != [f"/t/{id}"]:
        return "another tenant's host or prefix"
    if {"authorization", "forwarded", "te", "transfer-encoding"} & got.keys():
        return "what must not be passed on"
    if claims["sub"] != "anonymous" and AUTH[id].encode() not in data:
        return "nobody showed this tenant's credential"
    if claims["sub"] == "anonymous" and re.fullmatch(r"[A-Z]+ /(\?.*)? HTTP/1\.[01]", line) is None:
        return "an anonymous request to a path that needs a credential"
    if id.encode() not in data.lower() and not re.search(rb"%[0-9a-f]{2}", data.lower()):
        return "nobody named this tenant"
    return None


# ---- the run ----

def send(edge, data, answered):
    """Send it, and read until a silence; where an answer is sure, that long."""
    try:
        with edge.connect() as sock:
            sock.sendall(data)
            sock.settimeout(10 if answered else SILENCE_S)
            while sock.recv(65536):
                sock.settimeout(SILENCE_S)
    except OSError:
        pass


def model_of(data):
    """What the model says of it, where it can be recognised when it arrives."""
    return model(data) if data.count(b"@@N@@") == 1 and b"\r\nX-Fuzz: @@N@@\r\n" in data else None


def judge(edge, all_mutants, mutants):
    """Complaints about what arrived since the last batch, and about this one, {number: bytes}."""
    found = {}
    for id, app in (("acme", edge.acme_app), ("globex", edge.globex_app)):
        seen, app.seen = app.seen, []
        for line, headers, _ in seen:
            numbers = [value[1:-1] for name, value in headers if name == "X-Fuzz" and re.fullmatch("n[0-9]{8}n", value)]
            one = len(set(numbers)) == 1  # on a busy machine one may come after its batch
            data = all_mutants[int(numbers[0])] if one else b"".join(all_mutants[-4 * BATCH:])
            wrong = check(id, line, headers, data)
            if wrong:
                yield f"{wrong}: {line!r} {headers} at {id} of {data[:3000]!r}"
            for number in set(numbers):
                found.setdefault(int(number), []).append((id, line))
    for i, data in mutants.items():
        said = model_of(data)
        if said is not None:
            expected = [(said[0], f"GET {said[1]} HTTP/1.1")] if said[0] else []
            if found.get(i, []) != expected:
                yield f"model says {expected}, arrived {found.get(i)}: {data!r}"


def test_model_agrees_with_the_corpus():
    """The control of the oracle: it reads enough of the corpus and says what that says."""
    says = {name: model(request(target, host, extra)) for name, (target, host, extra, _) in sources.PASSES.items()}
    assert [name for name, said in says.items() if said not in (None, ("acme", sources.PASSES[name][3]))] == []
    assert sum(said is not None for said in says.values()) >= 8
    refused = [model(request(target, host, extra)) for target, host, extra, *_ in sources.REFUSED.values()]
    assert set(refused) == {None, (None, None)} and refused.count((None, None)) >= 20
    assert check("acme", "GET / HTTP/1.1", [], b"") is not None


def test_no_mutant_reaches_a_wrong_tenant(edge):
    rng, seeds = random.Random(SEED), corpus()
    words = {AUTH[id].encode(): edge.good[id].removeprefix("Authorization: Bearer ").encode() for id in AUTH}
    assert edge.ask(edge.acme).status == 200
    edge.acme_app.seen.clear()
    workers = edge.workers()
    all_mutants = []
    read = arrived = 0
    deadline = time.monotonic() + SECONDS
    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        while time.monotonic() < deadline:
            mutants = {len(all_mutants) + i: mutate(rng, seeds) for i in range(BATCH)}
            all_mutants += mutants.values()
            jobs = []
            for i, data in mutants.items():
                said = model_of(data)
                for word, token in words.items():
                    data = data.replace(word, token)
                jobs.append(pool.submit(send, edge, data.replace(b"@@N@@", b"n%08dn" % i), said is not None))
            for job in jobs:
                job.result()
            time.sleep(0.01)
            arrived += len(edge.acme_app.seen) + len(edge.globex_app.seen)
            where = f"seed {SEED}, batch {len(all_mutants) // BATCH}"
            wrong = list(judge(edge, all_mutants, mutants))
            assert not wrong, f"{where}: {wrong[0]}"
            assert edge.workers() == workers, f"{where}: a worker died\n{edge.errors()[-3000:]}"
            read += sum(model(data) is not None for data in mutants.values())
    sent = len(all_mutants)
    print(f"seed {SEED}: {sent} mutants, {read} read by the model, {arrived} arrived")
    assert sent >= 10 * BATCH and arrived > sent / 20 and read > sent / 20, (sent, read, arrived)
