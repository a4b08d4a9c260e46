"""Fixtures and helpers of test_database*.py: one server with the tenants acme (42) and globex (43)."""
import bhtoken
import pgserver
import pytest
from pgwire import Wire

SECRETS = {"acme": "SECRET-A", "globex": "SECRET-B"}
NUMBERS = {"acme": 42, "globex": 43}
ENTER = "SELECT bulkhead.enter($1)"


@pytest.fixture(scope="module")
def server():
    it = pgserver.Server()
    try:
        it.make_database("shared1")
        for tenant, no in NUMBERS.items():
            it.make_tenant(no, tenant, secret=SECRETS[tenant])
        yield it
        check_log(it.log.read_text())
    finally:
        it.close()


def check_log(log):
    """No backend crashed (tests kill some, but by 9 and 15 only), and none forgot to give something back."""
    for sign in ("signal 11", "signal 6", "signal 7", "TRAP:", "PANIC:", " leak", "leaked"):
        assert sign not in log, sign
    for secret in range(1, 3):
        assert bhtoken.derive_server_key(pgserver.MASTER, pgserver.INSTALL, pgserver.SERVER_UID, secret).hex() not in log


@pytest.fixture
def wire(server):
    """A connection of the pool role, without a pooler."""
    with pool(server) as it:
        yield it


def pool(server, port=None, database="shared1", **startup):
    return Wire(port or server.port, "bulkhead_pool", pgserver.POOL_PASSWORD, database, **startup)


def token(server, tenant="acme", /, **claims):
    return server.token(NUMBERS[tenant], tenant, **claims)


def as_tenant(wire, server, statements, tenant="acme", /, **claims):
    """[enter, statements…, Sync] in one pipeline; the answer. Statements are texts or (text, values)."""
    steps = [s if isinstance(s, tuple) else (s, []) for s in statements]
    return wire.pipeline([(ENTER, [token(server, tenant, **claims)])] + steps)


def assert_clean(wire, server):
    """The connection is unbound, denied, and still good for every tenant."""
    denied = wire.pipeline([("SELECT * FROM notes", [])])
    assert denied.code in ("42P01", "TN001"), denied.errors
    assert wire.query("SELECT bulkhead.tenant_no()").code == "TN001"
    assert wire.query("SELECT current_user").rows == [[["bulkhead_pool"]]]
    for tenant, secret in SECRETS.items():
        good = as_tenant(wire, server, ["SELECT body FROM notes WHERE id = 1"], tenant)
        assert good.code is None, good.errors
        assert good.rows[1] == [[secret]]
