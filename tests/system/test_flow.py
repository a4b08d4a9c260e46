"""Flows against real PostgreSQL: what they make and remove, and that any process may die or freeze anywhere."""
import signal
import threading
import time

import psycopg2
import pytest

from flowfix import AGENT, MIGRATION, Plant
from pgserver import POOL_PASSWORD, wait_for
from pgwire import Wire


@pytest.fixture(scope="module")
def plant():
    plant = Plant()
    yield plant
    plant.close()


@pytest.fixture
def daemon(plant):
    """A daemon without failpoints; the edge is well again afterwards."""
    plant.edge.status = 200
    daemon = plant.daemon()
    yield daemon
    plant.edge.status = 200
    daemon.close()


def steps(op):
    return {step["name"]: step["state"] for step in op["steps"]}


# -- what is made --------------------------------------------------------------------------


def test_onboarding_makes_schema_roles_route(plant, daemon):
    op = daemon.onboard("made", {"limits": {"requests_per_second": 7, "burst": 9}})
    assert op["state"] == "succeeded" and op["error"] is None, op
    assert steps(op) == {"database": "done", "route": "done", "smoke": "done"}
    tenant = daemon.get("made")
    assert (tenant["state"], tenant["operation"], tenant["database"]) == ("active", None, "shared1")
    assert tenant["observed_generation"] == tenant["generation"] == 1
    plant.assert_inventory()
    assert ("made", "/", 200) in plant.edge.seen and ("made", "/orders", 200) in plant.edge.seen
    record = plant.registry("SELECT record FROM feed WHERE no = %s", (tenant["no"],))[0][0]
    assert record == {"id": "made", "uid": tenant["uid"], "epoch": 1, "state": "active", "tier": "standard",
                      "rate": 7, "burst": 9, "share": 1000, "server": "main", "database": "shared1",
                      "endpoints": ["127.0.0.1:7090"], "cell": "main", "policy": "standard"}
    assert daemon.offboard("made")["state"] == "succeeded"


@pytest.mark.parametrize("state", ["suspended", "moving", "active"])
def test_who_is_suspended_or_moving_keeps_a_record_that_says_so(plant, state):
    """The edge can only answer 423, or wait, for a tenant that it knows.  Here new endpoints make the rows."""
    daemon = plant.daemon()
    assert daemon.onboard("held")["state"] == "succeeded"
    no = daemon.get("held")["no"]
    daemon.close()
    newest = lambda: plant.registry("SELECT record FROM feed WHERE no = %s ORDER BY seq DESC LIMIT 1", (no,))[0][0]
    before = newest()
    try:
        plant.registry("UPDATE tenant SET state = %s WHERE no = %s", (state, no))
        endpoints = ["127.0.0.1:7091;weight=3", "unix:/run/app.sock;group=v2"]
        daemon = plant.daemon(endpoints=" ".join(endpoints))
        assert newest() == {**before, "state": state, "endpoints": endpoints}
        daemon.close()
    finally:
        plant.registry("UPDATE tenant SET state = 'active' WHERE no = %s", (no,))
        daemon = plant.daemon()
        assert newest() == before
        assert daemon.offboard("held")["state"] == "succeeded"
        daemon.close()
    assert newest() is None


def test_a_full_database_gets_a_successor(plant, daemon):
    """shared2 is made when shared1 is full, guarded from the start, and used by several at once."""
    assert daemon.onboard("full1")["state"] == "succeeded"
    plant.registry("UPDATE shared_database SET max_tenants = (SELECT count(*) FROM tenant WHERE state <> 'gone'"
                   " AND database = 'shared1')")
    try:
        names = ["full2", "full3", "full4"]
        for op in [daemon.put(name)["operation"] for name in names]:
            assert daemon.end(op)["state"] == "succeeded"
        places = [daemon.get(name)["database"] for name in names]
        full = plant.registry("SELECT max_tenants FROM shared_database WHERE name = 'shared1'")[0][0]
        assert places == ["shared2"] * 3 if full >= 3 else set(places) >= {"shared2"}
        no = daemon.get("full2")["no"]
        assert plant.server.sql("SELECT id, state FROM bulkhead.tenant WHERE no = %s", (no,), "shared2") == [("full2", "active")]
        assert plant.server.sql("SELECT * FROM bulkhead.selfcheck()", database="shared2") == []
        token = plant.server.token(no, "full2", "shared2")
        with Wire(plant.server.port, "bulkhead_pool", POOL_PASSWORD, "shared2") as wire:
            assert wire.query("SELECT count(*) FROM orders").code in ("TN001", "42P01")
            answer = wire.pipeline([("SELECT bulkhead.enter($1)", [token]), ("SELECT count(*) FROM orders", [])])
            assert answer.code is None and answer.rows[1] == [["0"]], answer.errors
        assert daemon.get("full1")["database"] == "shared1"
    finally:
        for name in ("full1", "full2", "full3", "full4"):
            daemon.offboard(name)
        plant.registry("UPDATE shared_database SET max_tenants = 1000; DELETE FROM shared_database WHERE name <> 'shared1'")
        for name, in plant.server.sql("SELECT datname FROM pg_database WHERE datname ~ '^shared' AND datname <> 'shared1'"):
            plant.server.sql(f"DROP DATABASE {name} WITH (FORCE)", database="postgres")


def test_user_role_has_dml_and_nothing_else(plant, daemon):
    daemon.onboard("rights")
    no = daemon.get("rights")["no"]

    def as_user(sql, role=f"bh_t{no}"):
        connection = plant.server.connect()
        try:
            with connection.cursor() as cursor:
                cursor.execute(f"SET ROLE {role}; SET search_path = t{no}")
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    as_user("INSERT INTO products (name) VALUES ('x'); UPDATE products SET name = 'y'; DELETE FROM products")
    assert as_user("SELECT how_many()") == [(0,)]
    for forbidden in ("CREATE TABLE mine (id int)", "DROP TABLE orders", "TRUNCATE orders",
                      "ALTER TABLE products ADD x int"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            as_user(forbidden)
    as_user("CREATE TABLE mine (id int)", f"bh_o{no}")
    daemon.onboard("stranger")
    for role in ("o", "t"):
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            as_user(f"SELECT * FROM t{no}.products", f"bh_{role}{daemon.get('stranger')['no']}")
    assert plant.server.sql("SELECT count(*) FROM pg_roles WHERE rolname ~ '^bh_[ot]' AND rolcanlogin") == [(0,)]
    for tenant in ("rights", "stranger"):
        assert daemon.offboard(tenant)["state"] == "succeeded"
    plant.assert_inventory()


def test_a_change_of_limits_reaches_the_feed_and_a_name_does_not(plant, daemon):
    daemon.onboard("changing")
    no = daemon.get("changing")["no"]
    answer = daemon.put("changing", {"limits": {"burst": 5}})
    assert steps(daemon.end(answer["operation"])) == {"route": "done"}
    versions = plant.registry("SELECT version, record->>'burst' FROM feed WHERE no = %s ORDER BY seq", (no,))
    assert versions == [(1, "200"), (2, "5")]
    named = daemon.put("changing", {"limits": {"burst": 5}, "name": "Changing Ltd"})
    assert (named["generation"], named["observed_generation"], named["operation"]) == (3, 3, None)
    same = daemon.put("changing", {"limits": {"burst": 5}, "name": "Changing Ltd"})
    assert (same["generation"], same["etag"]) == (3, named["etag"])
    assert plant.registry("SELECT count(*) FROM feed WHERE no = %s", (no,)) == [(2,)]
    assert daemon.offboard("changing")["state"] == "succeeded"


def test_a_deleted_id_begins_anew(plant, daemon):
    daemon.onboard("again")
    first = daemon.get("again")
    assert daemon.offboard("again")["state"] == "succeeded"
    assert daemon.call("GET", "/v1/tenants/again")[0] == 404
    plant.assert_inventory()
    daemon.onboard("again")
    second = daemon.get("again")
    assert second["uid"] != first["uid"] and second["no"] > first["no"]
    assert daemon.offboard("again")["state"] == "succeeded"


# -- several at once -----------------------------------------------------------------------


def test_put_twice_at_once_by_two_daemons_makes_one_tenant(plant, daemon):
    other = plant.daemon()
    answers = []
    go = threading.Barrier(8)

    def put(who):
        go.wait()
        answers.append(who.put("twins"))

    threads = [threading.Thread(target=put, args=(who,)) for who in (daemon, other) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8 and len({a["uid"] for a in answers}) == 1
    rows = plant.registry("SELECT o.id FROM operation o JOIN tenant t ON t.no = o.tenant_no WHERE t.id = 'twins'")
    assert len(rows) == 1
    assert daemon.end(rows[0][0])["state"] == "succeeded"
    plant.assert_inventory()
    other.close()
    assert daemon.offboard("twins")["state"] == "succeeded"


def test_a_newer_generation_supersedes(plant, daemon):
    plant.edge.status = 503
    first = daemon.put("superseded")["operation"]
    wait_for(lambda: ("superseded", "/", 503) in plant.edge.seen, "the smoke test tries")
    second = daemon.put("superseded", {"limits": {"burst": 3}})["operation"]
    assert second != first
    old = daemon.end(first)
    assert old["state"] == "failed" and old["error"]["detail"] == f"superseded by {second}"
    plant.edge.status = 200
    assert daemon.end(second)["state"] == "succeeded"
    tenant = daemon.get("superseded")
    assert (tenant["state"], tenant["observed_generation"]) == ("active", 2)
    plant.assert_inventory()
    assert daemon.offboard("superseded")["state"] == "succeeded"


def test_delete_while_onboarding(plant, daemon):
    plant.edge.status = 503
    daemon.put("regretted")
    wait_for(lambda: ("regretted", "/", 503) in plant.edge.seen, "the smoke test tries")
    op = daemon.delete("regretted")["operation"]
    assert daemon.delete("regretted")["operation"] == op
    status, problem = daemon.call("PUT", "/v1/tenants/regretted", {})
    assert status == 409 and op in problem["hint"]
    assert daemon.end(op)["state"] == "succeeded"
    assert daemon.call("GET", "/v1/tenants/regretted")[0] == 404
    plant.assert_inventory()


# -- death ---------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["database", "route", "smoke"])
def test_killed_in_onboarding(plant, daemon, step, when):
    daemon.close()
    doomed = plant.daemon(failpoint=f"{step}:{when}:kill")
    op = doomed.put(f"k-{step}-{when}")["operation"]
    doomed.died()
    heir = plant.daemon()
    assert heir.end(op)["state"] == "succeeded"
    plant.assert_inventory()
    assert heir.offboard(f"k-{step}-{when}")["state"] == "succeeded"
    heir.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["route", "database"])
def test_killed_in_removal(plant, daemon, step, when):
    tenant = f"r-{step}-{when}"
    daemon.onboard(tenant)
    daemon.close()
    doomed = plant.daemon(failpoint=f"{step}:{when}:kill")
    op = doomed.delete(tenant)["operation"]
    doomed.died()
    heir = plant.daemon()
    assert heir.end(op)["state"] == "succeeded"
    plant.assert_inventory()
    heir.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["database", "route", "smoke"])
def test_what_cannot_succeed_is_undone_and_resumed(plant, daemon, step, when):
    tenant = f"u-{step}-{when}"
    failing = plant.daemon(failpoint=f"{step}:{when}:error")
    daemon.close()
    op = failing.onboard(tenant)
    assert op["state"] == "undone", op
    assert f"step {step} failed: failpoint {step}:{when}" in op["error"]["detail"]
    assert "undone: " in op["error"]["detail"] and f"op resume {op['id']}" in op["error"]["hint"]
    assert steps(op)[step] == "failed"
    found = failing.get(tenant)
    assert (found["state"], found["database"], found["operation"]) == ("failed", None, None)
    plant.assert_inventory()
    status, resumed = failing.call("POST", f"/v1/operations/{op['id']}/resume")
    assert status in (200, 202), resumed
    assert failing.end(resumed["id"])["state"] == "succeeded"
    assert failing.get(tenant)["state"] == "active"
    plant.assert_inventory()
    assert failing.offboard(tenant)["state"] == "succeeded"
    failing.close()


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["route", "database"])
def test_killed_while_undoing(plant, daemon, step, when):
    daemon.close()
    plant.edge.status = 400  # retrying would not help
    doomed = plant.daemon(failpoint=f"{step}:{when}:kill:2")
    op = doomed.put(f"kk-{step}-{when}")["operation"]
    doomed.died()
    heir = plant.daemon()
    ended = heir.end(op)
    assert ended["state"] == "undone", ended
    assert "GET / for kk-" in ended["error"]["detail"] and "answered 400" in ended["error"]["detail"]
    assert "undone: route, database" in ended["error"]["detail"]
    plant.assert_inventory()
    plant.edge.status = 200
    assert heir.put(f"kk-{step}-{when}")["operation"]
    wait_for(lambda: heir.get(f"kk-{step}-{when}")["state"] == "active", "put again")
    assert heir.offboard(f"kk-{step}-{when}")["state"] == "succeeded"
    heir.close()


def test_the_server_restarts_in_the_middle(plant, daemon):
    ops = {f"restart{i}": daemon.put(f"restart{i}")["operation"] for i in range(12)}
    plant.server.stop("immediate")
    plant.server.start()
    for op in ops.values():
        wait_for(lambda: (daemon.operation(op) or {}).get("finished_at"), f"{op} ends", 40)
        assert daemon.operation(op)["state"] == "succeeded"
    plant.assert_inventory()
    for tenant in ops:
        assert daemon.offboard(tenant)["state"] == "succeeded"
    plant.assert_inventory()


# -- freezing ------------------------------------------------------------------------------


def frozen_in(plant, point, act):
    """A daemon frozen at ${point} past its lease, and another one that takes over; the op."""
    sleeper = plant.daemon(failpoint=f"{point}:delay", delay_ms=4000)
    op = act(sleeper)["operation"]
    wait_for(lambda: any((sleeper.state / "failpoints").glob("*")), "the failpoint is passed")
    return sleeper, plant.daemon(), op


def wakes_fenced(sleeper):
    wait_for(lambda: " dropped by attempt " in sleeper.log.read_text(), "the sleeper wakes and is fenced", 10)
    sleeper.close()


def test_frozen_before_the_database_cannot_bring_a_removed_tenant_back(plant, daemon):
    daemon.close()
    sleeper, other, op = frozen_in(plant, "database:before", lambda d: d.put("ghost"))
    assert other.end(op)["state"] == "succeeded"
    plant.assert_inventory()
    assert other.offboard("ghost")["state"] == "succeeded"
    plant.assert_inventory()
    wakes_fenced(sleeper)
    plant.assert_inventory()
    other.close()


def test_frozen_before_the_route_publishes_nothing(plant, daemon):
    daemon.onboard("stale")
    daemon.close()
    sleeper, other, op = frozen_in(plant, "route:before", lambda d: d.put("stale", {"limits": {"burst": 11}}))
    assert other.end(op)["state"] == "succeeded"
    assert other.end(other.put("stale", {"limits": {"burst": 12}})["operation"])["state"] == "succeeded"
    feed = plant.registry("SELECT seq, record FROM feed ORDER BY seq")
    wakes_fenced(sleeper)
    assert plant.registry("SELECT seq, record FROM feed ORDER BY seq") == feed
    assert feed[-1][1]["burst"] == 12
    assert other.offboard("stale")["state"] == "succeeded"
    other.close()


def test_frozen_before_removal_harms_no_later_tenant(plant, daemon):
    daemon.onboard("leaving")
    daemon.close()
    sleeper, other, op = frozen_in(plant, "database:before", lambda d: d.delete("leaving"))
    assert other.end(op)["state"] == "succeeded"
    other.onboard("leaving")
    wakes_fenced(sleeper)
    assert other.get("leaving")["state"] == "active"
    plant.assert_inventory()
    assert other.offboard("leaving")["state"] == "succeeded"
    other.close()


def test_a_stopped_process_that_goes_on_is_fenced(plant, daemon):
    """SIGSTOP in the middle of a retry loop: the other daemon finishes, the woken one leaves it alone."""
    daemon.close()
    plant.edge.status = 503
    sleeper = plant.daemon()
    op = sleeper.put("stopped")["operation"]
    wait_for(lambda: ("stopped", "/", 503) in plant.edge.seen, "the smoke test tries")
    sleeper.signal(signal.SIGSTOP)
    other = plant.daemon()
    plant.edge.status = 200
    assert other.end(op)["state"] == "succeeded"
    sleeper.signal(signal.SIGCONT)
    time.sleep(1)
    assert other.operation(op)["state"] == "succeeded" and other.get("stopped")["state"] == "active"
    plant.assert_inventory()
    assert sleeper.offboard("stopped")["state"] == "succeeded"
    other.close()
    sleeper.close()


# -- agents --------------------------------------------------------------------------------


def ack(plant, daemon, seq):
    incarnation = plant.registry("SELECT incarnation::text FROM install")[0][0]
    status, answer = daemon.call("PUT", "/v1/agents/edge-1", token=AGENT, body={
        "applied": {"incarnation": incarnation, "seq": seq}, "key_epoch": 1, "in_flight": {}})
    assert status in (200, 204), answer


def head(plant):
    return plant.registry("SELECT seq FROM feed_head")[0][0]


def test_route_waits_for_a_live_agent_and_lists_a_silent_one(plant, daemon):
    daemon.onboard("acked")
    before = head(plant)
    ack(plant, daemon, before)
    try:
        op = daemon.put("acked", {"limits": {"burst": 21}})["operation"]
        wait_for(lambda: head(plant) > before, "the route is published")
        time.sleep(0.5)
        assert daemon.operation(op)["state"] == "running"
        ack(plant, daemon, head(plant))
        asked = time.monotonic()
        assert daemon.end(op)["state"] == "succeeded"
        assert time.monotonic() - asked < 2
        # Now it says nothing: waited for 5 s, then listed.
        started = time.monotonic()
        op = daemon.put("acked", {"limits": {"burst": 22}})["operation"]
        assert daemon.end(op)["state"] == "succeeded"
        assert 4.5 < time.monotonic() - started < 9
        note = plant.registry("SELECT note FROM step WHERE operation = %s", (op,))[0][0]
        assert note.endswith("not acknowledged by: edge-1")
    finally:
        plant.registry("DELETE FROM agent")
    assert daemon.offboard("acked")["state"] == "succeeded"


# -- migrations and strangers --------------------------------------------------------------


@pytest.mark.parametrize("sql, says", [
    ("CREATE TABLE t (id int); COMMIT; CREATE TABLE u (id int)", "transaction command"),
    ("RESET ROLE", "security-definer"),
    ("SET SESSION AUTHORIZATION postgres", "security-definer"),
    ("SET ROLE postgres", "security-definer"),
    ("CREATE ROLE intruder SUPERUSER", "must be superuser"),
    ("CREATE TABLE public.elsewhere (id int)", "permission denied"),
    ("CREATE TABLE t (id int); SELECT nonsense", "nonsense"),
    ("COPY pg_class TO STDOUT", "COPY"),
])
def test_a_migration_that_fails_or_would_escape_is_undone(plant, daemon, sql, says):
    daemon.close()
    plant.migrate("0002_bad.sql", sql)
    try:
        other = plant.daemon()
        op = other.onboard("escape")
    finally:
        (plant.migrations / "0002_bad.sql").unlink()
    assert op["state"] == "undone", op
    assert "migration 0002_bad.sql" in op["error"]["detail"] and says in op["error"]["detail"], op["error"]
    plant.assert_inventory()
    assert plant.server.sql("SELECT to_regclass('public.elsewhere'), to_regrole('intruder')") == [(None, None)]
    other.close()
    good = plant.daemon()
    good.put("escape")
    wait_for(lambda: good.get("escape")["state"] == "active", "the good migrations make it")
    assert good.offboard("escape")["state"] == "succeeded"
    good.close()


def test_a_schema_of_that_name_is_left_alone(plant, daemon):
    following = plant.registry("SELECT max(no) + 1 FROM tenant")[0][0]
    plant.server.sql(f"CREATE SCHEMA t{following}; CREATE TABLE t{following}.precious ()")
    try:
        op = daemon.onboard("collides")
        assert op["state"] == "undone" and "was not made by Bulkhead" in op["error"]["detail"], op
        assert plant.server.sql(f"SELECT to_regclass('t{following}.precious') IS NOT NULL") == [(True,)]
    finally:
        plant.server.sql(f"DROP SCHEMA t{following} CASCADE")
    plant.assert_inventory()
    assert daemon.offboard("collides")["state"] == "succeeded"


def test_removal_does_not_wait_for_ever_for_an_open_transaction(plant, daemon):
    daemon.onboard("held")
    no = daemon.get("held")["no"]
    holder = plant.server.connect()
    try:
        with holder.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM t{no}.orders")
        assert daemon.offboard("held")["state"] == "succeeded"
        with pytest.raises(psycopg2.OperationalError):
            with holder.cursor() as cursor:
                cursor.execute("SELECT 1")
    finally:
        holder.close()
    plant.assert_inventory()


# -- usage ---------------------------------------------------------------------------------


def test_usage_is_what_grew_per_source_whatever_is_repeated_or_late(plant, daemon):
    daemon.onboard("metered")
    no = daemon.get("metered")["no"]

    def post(value, epoch="18446744073709551615", meter="requests", tenant=no):
        return daemon.call("POST", "/v1/usage", token=AGENT, body={
            "source": "edge-1", "file_epoch": int(epoch), "sampled_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "values": [{"no": tenant, "meter": meter, "value": value}]})[0]

    def total():
        return plant.registry("SELECT coalesce(sum(value), 0)::int FROM usage WHERE no = %s AND meter = 'requests'",
                              (no,))[0][0]

    epoch = "9007199254740000"
    assert post(5, epoch) in (200, 204) and total() == 5
    threads = [threading.Thread(target=post, args=(value, epoch)) for value in (5, 9, 7, 9, 12, 12, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total() == 12
    assert post(4, "7") in (200, 204) and total() == 16  # a new file counts from zero
    assert post(1, epoch, tenant=999999) == 422 and post(1, epoch, meter="nonsense") == 422
    assert total() == 16
    assert daemon.offboard("metered")["state"] == "succeeded"


def test_migration_of_the_tests_is_what_ran(plant, daemon):
    """Positive control: the tables that other tests rely on come from the file."""
    assert "how_many" in MIGRATION
    daemon.onboard("control")
    no = daemon.get("control")["no"]
    rows = plant.server.sql("SELECT c.relname, r.rolname FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner"
                            f" WHERE c.relnamespace = 't{no}'::regnamespace AND c.relkind = 'r' ORDER BY 1")
    assert rows == [("orders", f"bh_o{no}"), ("products", f"bh_o{no}")]
    assert plant.server.sql(f"SELECT count(*) FROM pg_proc WHERE pronamespace = 't{no}'::regnamespace") == [(1,)]
    assert daemon.offboard("control")["state"] == "succeeded"


def test_a_smoke_test_that_never_passes_is_undone_at_its_deadline(plant, daemon):
    """30 s of retries with back-off; the deadline is the step's row in control/flow/steps.c."""
    plant.edge.status = 503
    started = time.monotonic()
    op = daemon.end(daemon.put("unwell")["operation"], 60)
    assert 25 < time.monotonic() - started < 60
    assert op["state"] == "undone" and "answered 503" in op["error"]["detail"], op
    tries = [s["attempt"] for s in op["steps"] if s["name"] == "smoke"][0]
    assert 8 < tries < 60
    plant.assert_inventory()
    plant.edge.status = 200
    assert daemon.offboard("unwell")["state"] == "succeeded"
