"""What each Python program does with its driver (../README.md); a driver gives the functions of `use`."""
import itertools
import os
import sys
import threading

TENANTS = ("acme", "globex", "initech")
TOKENS = {name: os.environ[f"TOKEN_{name.upper()}"] for name in TENANTS}


def say(*words):
    print(*words, flush=True)


def ask(verb, what):
    """The other end does it, then answers."""
    say("ask", verb, what)
    if sys.stdin.readline().strip() != "done":
        sys.exit(f"no answer to {verb}")


def retrying(sqlstate):
    """Where an application would log a retry; the tenant that has moved can be reached again."""
    if sqlstate == "TN004":
        ask("back", "globex")


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def fails(work, *sqlstates):
    try:
        work()
    except Exception as error:
        found = state_of(error)
        check(found in sqlstates, f"SQLSTATE {found} ({error}), not {' or '.join(sqlstates)}")
        return
    raise AssertionError(f"no error, not {' or '.join(sqlstates)}")


def state_of(error):
    """SQLSTATE of a driver's error, or of the one that an ORM wraps."""
    while error is not None:
        if getattr(error, "sqlstate", None):
            return error.sqlstate
        error = getattr(error, "orig", None) or error.__cause__
    return None


def only(names, tenant):
    strange = [n for n in names if n.startswith("first-") and n != f"first-{tenant}"]
    check(f"first-{tenant}" in names and not strange, f"as {tenant}: {names}")


def turns(use):
    """Four at a time, the tenants in turn: each sees its own row."""
    numbers, wrong = iter(range(int(os.environ["TURNS"]))), []
    lock = threading.Lock()

    def work():
        while True:
            with lock:
                number = next(numbers, None)
            if number is None or wrong:
                return
            tenant = TENANTS[number % 3]
            try:
                names = use.in_tenant(TOKENS[tenant], lambda db: (use.add(db, f"first-{tenant}"), use.names(db))[1])
                only(names, tenant)
            except Exception as error:
                wrong.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        raise wrong[0]


def conflict(use):
    """Two transactions change one row: the second fails with 40001 and is tried again."""
    attempts = itertools.count()

    def work(db):
        use.names(db)
        if next(attempts) == 0:
            other = threading.Thread(target=use.in_tenant, args=(TOKENS["acme"], lambda db: use.add(db, "serial")))
            other.start()
            other.join()
        use.add(db, "serial")

    use.in_tenant(TOKENS["acme"], work, isolation="REPEATABLE READ")
    check(next(attempts) == 2, "the conflict did not happen")


def killed(use):
    attempts = itertools.count()

    def work(db):
        use.insert(db, "killed")
        if next(attempts) == 0:
            ask("kill", use.pid(db))
        only(use.names(db), "acme")

    use.in_tenant(TOKENS["acme"], work)
    check(next(attempts) == 2, "the server process was not killed")


def moved(use):
    ask("move", "globex")
    use.in_tenant(TOKENS["globex"], lambda db: use.insert(db, "moved"))


def prepared(use):
    for number in range(24):
        tenant = TENANTS[number % 3]
        name = use.in_tenant(TOKENS[tenant], lambda db: use.name_of(db, 1))
        check(name == f"first-{tenant}", f"as {tenant}: {name}")


def error(use):
    fails(lambda: use.in_tenant(TOKENS["acme"], lambda db: use.insert(db, "written")), "23505")
    only(use.in_tenant(TOKENS["globex"], use.names), "globex")


def reset(use):
    use.leave_dirty(TOKENS["acme"])
    for tenant in TENANTS:
        only(use.in_tenant(TOKENS[tenant], use.names), tenant)


def run(use, version):
    """${use}: in_tenant(token, work, isolation=None), names, name_of, insert, add, pid, state, unbound, leave_dirty, health."""
    steps = {
        "connect": use.health,
        "read": lambda: only(use.in_tenant(TOKENS["acme"], use.names), "acme"),
        "write": lambda: use.in_tenant(TOKENS["acme"], lambda db: use.insert(db, "written")),
        "error": lambda: error(use),
        "unbound": lambda: (fails(use.unbound, "TN001", "42P01"), use.health()),
        "refused": lambda: fails(lambda: use.in_tenant("nonsense", use.names), "TN002"),
        "tenants": lambda: turns(use),
        "prepared": lambda: prepared(use),
        "types": lambda: check(use.in_tenant(TOKENS["acme"], use.state) == "new", "the enum reads otherwise"),
        "moved": lambda: moved(use),
        "serial": lambda: conflict(use),
        "killed": lambda: killed(use),
        "reset": lambda: reset(use),
        "health": use.health,
    }
    say("version", version)
    for name, step in steps.items():
        try:
            step()
        except Exception as problem:
            say("fail", name, f"{type(problem).__name__}: {problem}".replace("\n", " "))
        else:
            say("ok", name)
