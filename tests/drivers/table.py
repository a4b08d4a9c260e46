"""doc/guide/drivers.md from the results of one run."""
import bench

HEAD = """# Drivers

Made by `make test-drivers`, which runs a program with each driver (`tests/drivers/`) through PgBouncer 1.18 in
transaction mode against a server with the extension; do not edit. How to connect: [connect.md](connect.md).

Each program connects through the driver's pool, then reads and writes as three tenants in turn on the same {size} server
connections ({turns} transactions, four at a time), meets a constraint error, a refused token, a tenant that has moved
(TN004), a serialization failure and a killed server process, leaves the pool's reset and health check to do what they
do, runs one statement many times, and reads an enum. Afterwards the rows of every tenant are compared.

| driver | version | what to set | what it sends by itself outside a tenant's transaction | inside |
| --- | --- | --- | --- | --- |
"""


def cell(statements):
    return "<br>".join("`" + s.replace("|", "\\|") + "`" if s else "the empty query" for s in statements) or "nothing"


def render(results):
    text = HEAD.format(size=bench.POOL_SIZE, turns=bench.TURNS)
    for r in results:
        text += f"| {r.driver.title} | {r.version} | {r.driver.settings} | {cell(r.alone)} | {cell(r.bound)} |\n"
    notes = [f"- {r.driver.title}: {r.driver.note}\n" for r in results if r.driver.note]
    return text + ("\nWhat else to know:\n" + "".join(notes) if notes else "")
