"""The example application before a real PgBouncer and PostgreSQL with the extension; tokens made here."""
import concurrent.futures
import json
import os
import signal
import subprocess

import pytest

import pgserver
from ports import Ports
from stack import REPO, call, wait_for

TENANTS = {"acme": 42, "globex": 43}
MIGRATION = (REPO / "examples/shop/migrations/0001_shop.sql").read_text()


def make_shop_tenant(server, tenant, no):
    """What the schema driver does: owner, user, schema, the shop's tables, DML for the user."""
    server.sql(f"""
        CREATE ROLE bh_o{no} NOLOGIN; CREATE ROLE bh_t{no} NOLOGIN;
        CREATE SCHEMA t{no} AUTHORIZATION bh_o{no};
        GRANT USAGE ON SCHEMA t{no} TO bh_t{no};
        SET ROLE bh_o{no}; SET search_path = t{no};
        ALTER DEFAULT PRIVILEGES IN SCHEMA t{no} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO bh_t{no};
        {MIGRATION}
        INSERT INTO products (name, price_cents) VALUES ('<b>{tenant}</b> & co', 1250);
        RESET ROLE;
        INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state, epoch)
            VALUES ({no}, '{tenant}', 'schema', 'bh_t{no}', 't{no}', 'active', 1)""")


class Shop:
    def __init__(self, server):
        self.server, self.ports = server, Ports()
        self.port = self.ports.take()
        self.bouncer = pgserver.Bouncer(server, pool_size=2)
        self.pgpass = self.bouncer.dir / "pgpass"
        self.pgpass.write_text(f"*:*:*:bulkhead_pool:{pgserver.POOL_PASSWORD}\n")
        self.pgpass.chmod(0o600)
        self.log = open(self.bouncer.dir / "shop.log", "w+")
        self.process = subprocess.Popen(
            [pgserver.PREFIX / "bin/bulkhead-shop", "--listen", f"127.0.0.1:{self.port}", "--database",
             f"host=127.0.0.1 port={self.bouncer.port} user=bulkhead_pool"],
            env={**os.environ, "PGPASSFILE": str(self.pgpass)}, stderr=self.log)
        wait_for(lambda: call(self.port, "GET", "/").status == 401, 10, "the shop listens")

    def ask(self, tenant, path="/orders", method="GET", body=None, token=None, **claims):
        token = token or self.server.token(TENANTS[tenant], tenant, **claims)
        headers = {"X-Bulkhead-Token": token, "X-Bulkhead-Database": "shared1"}
        return call(self.port, method, path, headers, body if body is None else json.dumps(body))

    def close(self):
        self.process.terminate()
        code = self.process.wait(10)
        self.log.close()
        self.bouncer.close()
        self.ports.release()
        assert code == 0


@pytest.fixture(scope="module")
def server():
    server = pgserver.Server()
    try:
        server.make_database("shared1")
        for tenant, no in TENANTS.items():
            make_shop_tenant(server, tenant, no)
        yield server
    finally:
        server.close()


@pytest.fixture
def shop(server):
    shop = Shop(server)
    yield shop
    shop.close()


def test_an_order_from_post_to_totals(shop):
    made = shop.ask("acme", "/orders", "POST", {"product_id": 1, "quantity": 3})
    assert made.status == 201 and made.json()["total_cents"] == 3750, made
    where = made.headers["Location"]
    assert where == f"/orders/{made.json()['id']}"
    assert shop.ask("acme", where).json() == made.json()
    assert made.json() in shop.ask("acme").json()["items"]
    assert set(made.json()) == {"id", "product_id", "quantity", "total_cents", "created_at"}
    totals = shop.ask("acme", "/orders/totals?by=day").json()["items"]
    assert sum(t["total_cents"] for t in totals) == sum(o["total_cents"] for o in shop.ask("acme").json()["items"])
    assert shop.ask("globex").json() == {"items": []}
    assert shop.ask("globex", where).status == 404


def test_the_page_escapes_what_customers_wrote(shop):
    page = shop.ask("acme", "/", scope="anonymous")
    assert page.status == 200 and page.headers.get_content_type() == "text/html"
    assert b"&lt;b&gt;acme&lt;/b&gt; &amp; co" in page.body and b"<b>acme" not in page.body
    assert b"12.50" in page.body and b"globex" not in page.body


def test_two_tenants_at_once_on_two_server_connections(shop):
    def ask(n):
        tenant = ("acme", "globex")[n % 2]
        return tenant, shop.ask(tenant, "/products").json()["items"]
    with concurrent.futures.ThreadPoolExecutor(12) as threads:
        for tenant, items in threads.map(ask, range(600)):
            assert [i["name"] for i in items] == [f"<b>{tenant}</b> & co"]


@pytest.mark.parametrize("body, pointer", [
    ({"product_id": 1}, "/quantity"), ({"product_id": 1, "quantity": 0}, "/quantity"),
    ({"product_id": "1", "quantity": 1}, "/product_id"), ({"product_id": 999, "quantity": 1}, "/product_id"),
    ({"product_id": 1, "quantity": 1, "discount": 100}, "/discount"), ({"product_id": 1, "quantity": 1.5}, "/quantity"),
])
def test_orders_that_cannot_be(shop, body, pointer):
    before = shop.ask("acme").body
    answer = shop.ask("acme", "/orders", "POST", body)
    assert answer.status == 422 and answer.json()["errors"][0]["pointer"] == pointer, answer
    assert shop.ask("acme").body == before


def test_out_of_stock_undoes_everything(shop, server):
    made = shop.ask("acme", "/products", "POST", {"name": "Rare", "price_cents": 1})
    product = made.json()["id"]
    server.sql("INSERT INTO t42.stock (product_id, quantity) VALUES (%s, 2)", [product])
    order = {"product_id": product, "quantity": 2}
    assert shop.ask("acme", "/orders", "POST", order).status == 201
    before = server.sql("SELECT count(*) FROM t42.audit_notes")
    assert shop.ask("acme", "/orders", "POST", order).status == 422
    assert server.sql("SELECT count(*) FROM t42.audit_notes") == before
    assert server.sql("SELECT quantity FROM t42.stock WHERE product_id = %s", [product]) == [(0,)]
    assert shop.ask("acme").status == 200  # the connection is clean


def test_paths_methods_bodies(shop):
    assert shop.ask("acme", "/nothing").code == "not-found"
    assert shop.ask("acme", "/orders/0").status == 404 and shop.ask("acme", "/orders/1x").status == 404
    wrong = shop.ask("acme", "/orders", "DELETE")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "GET, HEAD, POST")
    assert shop.ask("acme", "/orders/totals").json()["errors"][0]["pointer"] == "?by"
    headers = {"X-Bulkhead-Token": shop.server.token(42, "acme"), "X-Bulkhead-Database": "shared1"}
    assert call(shop.port, "POST", "/orders", headers, "{").status == 400
    assert call(shop.port, "POST", "/orders", headers, "x" * 70_000).status == 413
    assert call(shop.port, "HEAD", "/orders", headers).status == 200


def test_only_true_tokens_open_rows(shop):
    assert shop.ask("acme").status == 200
    for token in ("x.y.z", "a" * 2000, shop.server.token(42, "globex"), shop.server.token(44, "acme"),
                  shop.server.token(42, "acme", ver=2)):
        answer = shop.ask("acme", token=token)
        assert (answer.status, answer.code) == (401, "token-refused"), answer
    assert call(shop.port, "GET", "/orders", {"X-Tenant-ID": "acme", "X-Bulkhead-Database": "shared1"}).status == 401
    assert shop.ask("acme", "/products", "POST", {"name": "x", "price_cents": 1}, scope="anonymous").status == 403
    shop.log.seek(0)
    assert "eyJ" not in shop.log.read()


def test_a_suspended_tenant(shop, server):
    server.sql("UPDATE bulkhead.tenant SET state = 'suspended' WHERE no = 43")
    try:
        wait_for(lambda: shop.ask("globex").code == "tenant-not-active", 10, "suspension")
        assert shop.ask("globex").status == 423
        assert shop.ask("acme").status == 200
    finally:
        server.sql("UPDATE bulkhead.tenant SET state = 'active' WHERE no = 43")
    wait_for(lambda: shop.ask("globex").status == 200, 10, "active again")


def test_a_new_pooler_is_not_noticed(shop):
    assert shop.ask("acme").status == 200
    shop.bouncer.stop()
    assert shop.ask("acme").code == "unavailable"
    shop.bouncer.start()
    assert shop.ask("acme", "/orders", "POST", {"product_id": 1, "quantity": 1}).status == 201
    shop.bouncer.stop()
    shop.bouncer.start()
    assert shop.ask("acme", "/orders", "POST", {"product_id": 1, "quantity": 1}).status == 201


def test_a_killed_server_connection_costs_no_read(shop, server):
    for _ in range(5):
        assert shop.ask("acme").status == 200
        server.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'bulkhead_pool'")
        assert shop.ask("acme").status == 200


def test_no_database_answers_in_time(shop, server):
    os.kill(shop.bouncer.process.pid, signal.SIGSTOP)
    try:
        answer = shop.ask("acme")
        assert answer.status in (503, 504), answer
    finally:
        os.kill(shop.bouncer.process.pid, signal.SIGCONT)
    assert shop.ask("acme").status == 200


@pytest.mark.parametrize("args", [[], ["--listen", "nonsense", "--database", "x"], ["--listen", "127.0.0.1:1"]])
def test_usage(args):
    done = subprocess.run([pgserver.PREFIX / "bin/bulkhead-shop", *args], capture_output=True, text=True)
    assert done.returncode == 64 and "usage:" in done.stderr


def test_a_port_that_is_taken(shop):
    done = subprocess.run([pgserver.PREFIX / "bin/bulkhead-shop", "--listen", f"127.0.0.1:{shop.port}", "--database",
                           "host=127.0.0.1"], capture_output=True, text=True)
    assert done.returncode == 78 and f"127.0.0.1:{shop.port}" in done.stderr
