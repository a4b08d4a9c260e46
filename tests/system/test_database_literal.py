"""bulkhead.literal_token: a token that is written into the statement is seen in no view and no log."""
import pgserver
import pytest
from database import ENTER, SECRETS, pool

SETTINGS = """
shared_preload_libraries = '{libraries}'
pg_stat_statements.track = all
pg_stat_statements.track_planning = on
compute_query_id = on
log_statement = all
log_min_duration_statement = 0
auto_explain.log_min_duration = 0
auto_explain.log_nested_statements = on
auto_explain.log_verbose = on
debug_print_parse = on
debug_print_rewritten = on
debug_print_plan = on
"""


@pytest.fixture(scope="module", params=["bulkhead, pg_stat_statements, auto_explain", "auto_explain, pg_stat_statements, bulkhead"])
def server(request):
    it = pgserver.Server(SETTINGS.format(libraries=request.param))
    try:
        it.make_database("shared1")
        it.make_tenant(42, "acme", secret="SECRET-A")
        it.sql("CREATE EXTENSION pg_stat_statements; ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on")
        yield it
        crashed = [sign for sign in ("signal 11", "signal 6", "PANIC:", "TRAP:") if sign in it.log.read_text()]
        assert not crashed
    finally:
        it.close()


def numbers(text):
    """As PostgreSQL prints the bytes of a constant in a tree."""
    return " ".join(str(byte) for byte in text.encode())


def shapes(token):
    """How clients that put values into the text send it."""
    call = f"SELECT bulkhead.enter('{token}')"
    return {"alone": call, "cast": f"SELECT bulkhead.enter('{token}'::text)", "named": f"SELECT bulkhead.enter(token => '{token}')",
            "many": f"BEGIN; {call}; SELECT body FROM notes; COMMIT", "after": f"SELECT 1; {call}; SELECT body FROM notes",
            "escaped": f"SELECT bulkhead.enter(E'{token}')", "comment": f"/* x */ {call} -- y", "long": f"/* {'x' * 3000} */ {call}"}


def look(server, pid, token):
    """All that others can see of it."""
    signature = token.rsplit(".", 1)[1]
    activity, = server.sql("SELECT query FROM pg_stat_activity WHERE pid = %s", (pid,))[0]
    statements = str(server.sql("SELECT query FROM pg_stat_statements"))
    log = server.log.read_text()
    seen = {"pg_stat_activity": activity, "pg_stat_statements": statements, "log": log}
    assert not [where for where, text in seen.items() if signature in text or numbers(signature) in text]
    return activity, statements, log


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("shape", shapes("x" * 80))
def test_a_literal_token_is_seen_nowhere(server, shape, extended):
    token = server.token(42, "acme", sub=f"{shape}-{extended}")
    text = shapes(token)[shape]
    server.sql("SELECT pg_stat_statements_reset()")
    with pool(server) as wire:
        answer = wire.pipeline([(part, []) for part in text.split("; ")]) if extended else wire.query(text)
        assert answer.code is None, answer.errors
        activity, statements, log = look(server, wire.pid, token)
        assert extended or shape == "long" or "enter(" in activity and "***" in activity, "the statement itself is shown"
        counted = "bulkhead.enter" in statements
        assert not counted
    if shape == "many":
        assert answer.rows[2] == [[SECRETS["acme"]]]
        others = "SELECT body FROM notes" in statements
        assert others, "the others are counted"


def test_while_it_runs(server):
    """The text stays in pg_stat_activity as long as the string runs: from the first statement on without the token."""
    token = server.token(42, "acme", sub="running")
    with pool(server) as wire:
        text = f"BEGIN; SELECT bulkhead.enter('{token}'); SELECT pg_sleep(1); COMMIT"
        wire.put(b"Q", text.encode() + b"\0")
        wire.flush()
        pgserver.wait_for(lambda: server.sql("SELECT wait_event FROM pg_stat_activity WHERE pid = %s", (wire.pid,)) == [("PgSleep",)], "it sleeps")
        look(server, wire.pid, token)
        assert wire.read().code is None


@pytest.mark.parametrize("broken", ["SELECT bulkhead.enter('{}') FROM nowhere", "SELECT bulkhead.enter('{}', 1)", "SELECT bulkhead.enter('{}'", "SELECT bulkhead.enter('{}') + 1",
                                    "SELECT '{}'", "SELECT bulkhead.tenant_no(), '{}'", "EXPLAIN SELECT bulkhead.enter('{}')", "PREPARE p AS SELECT bulkhead.enter('{}')",
                                    "DO $$BEGIN PERFORM bulkhead.enter('{}'); END$$", "SET application_name = '{}'"])
def test_a_token_in_a_statement_that_fails(server, broken):
    token = server.token(42, "acme", sub="broken")
    with pool(server) as wire:
        answer = wire.query(broken.format(token))
        assert answer.code is not None or broken.startswith(("SELECT '", "SET app", "SELECT bulkhead.tenant"))
        if not broken.startswith("SET app"):
            assert wire.query("SHOW search_path").code is None  # pg_stat_activity shows the last statement
        look(server, wire.pid, token) if not broken.startswith("SET app") else None


def test_refused_where_the_role_may_not(server):
    token = server.token(42, "acme", sub="refused")
    server.sql("ALTER ROLE bulkhead_pool RESET bulkhead.literal_token")
    try:
        with pool(server) as wire:
            assert wire.query(f"SELECT bulkhead.enter('{token}')").code == "TN002"
            look(server, wire.pid, token)
            assert wire.pipeline([(ENTER, [token]), ("SELECT body FROM notes", [])]).rows[1] == [["SECRET-A"]]
            look(server, wire.pid, token)
    finally:
        server.sql("ALTER ROLE bulkhead_pool SET bulkhead.literal_token = on")


def test_what_is_bound_is_not_logged(server):
    token = server.token(42, "acme", sub="bound")
    with pool(server) as wire:
        assert wire.pipeline([(ENTER, [token]), ("SELECT body FROM notes", [])]).code is None
        _, statements, _ = look(server, wire.pid, token)
        assert "SELECT bulkhead.enter($1)" in statements, "a statement without a literal is counted as ever"
