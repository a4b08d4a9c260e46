"""Clients that keep asking, and a ledger of what they were told."""
import http.client
import json
import threading
import time
from collections import Counter


class Load:
    """${clients} threads, each with one connection, ask for ${path} of the tenants in turn; a
    tenant of ${bodies} is sent that body by POST.

    acked[tenant]       requests whose answer arrived whole
    unanswered[tenant]  requests sent whose answer did not arrive
    statuses            Counter of the statuses of whole answers
    refused             connections that nobody accepted (nothing was sent)
    """

    def __init__(self, stack, tokens, clients=6, path="/orders", pause=0.002, bodies=None):
        self.stack, self.tokens, self.path, self.pause = stack, tokens, path, pause
        self.bodies = bodies or {}
        self.acked, self.unanswered, self.statuses = Counter(), Counter(), Counter()
        self.by_tenant = {tenant: Counter() for tenant in tokens}
        self.created = {tenant: [] for tenant in tokens}
        self.refused = 0
        self.failures = []  # (monotonic time, tenant, what)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True)
                         for n in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc):
        self._stop.set()
        for thread in self._threads:
            thread.join(timeout=40)
        assert not any(thread.is_alive() for thread in self._threads)

    def total(self):
        with self._lock:
            return sum(self.acked.values())

    def run_until(self, count, seconds=30):
        """Let the load go on until ${count} more answers have arrived."""
        goal, deadline = self.total() + count, time.monotonic() + seconds
        while self.total() < goal:
            assert time.monotonic() < deadline, f"{self.total()} of {goal} answers: {self.failures[-3:]}"
            time.sleep(0.02)

    def _run(self, number):
        tenants = list(self.tokens)
        connection, turn = None, number
        while not self._stop.is_set():
            tenant = tenants[turn % len(tenants)]
            turn += 1
            if connection is None:
                connection = self._connect(tenant)
            if connection is not None and not self._ask(connection, tenant):
                connection.close()
                connection = None
            time.sleep(self.pause if connection is not None else 0.02)
        if connection is not None:
            connection.close()

    def _connect(self, tenant):
        connection = http.client.HTTPConnection("127.0.0.1", self.stack.ports["edge"], timeout=30)
        try:
            connection.connect()
            return connection
        except OSError as error:
            with self._lock:
                self.refused += 1
                self.failures.append((time.monotonic(), tenant, repr(error)))
            return None

    def _ask(self, connection, tenant):
        headers = {"Host": f"{tenant}.localhost", "Authorization": f"Bearer {self.tokens[tenant]}"}
        try:
            body = self.bodies.get(tenant)
            connection.request("POST" if body else "GET", self.path, body, headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException) as error:
            with self._lock:
                self.unanswered[tenant] += 1
                self.failures.append((time.monotonic(), tenant, repr(error)))
            return False
        with self._lock:
            self.acked[tenant] += 1
            self.statuses[answer.status] += 1
            self.by_tenant[tenant][answer.status] += 1
            if answer.status >= 400:
                self.failures.append((time.monotonic(), tenant, f"{answer.status} {body[:200]!r}"))
            if answer.status == 201:
                self.created[tenant].append(json.loads(body)["id"])
        return not answer.will_close
