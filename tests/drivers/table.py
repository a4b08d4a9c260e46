"""doc/guide/drivers.md from the results of one run, and the programs' own lines in doc/guide/connect.md."""
import pathlib
import re
import textwrap

import bench

HERE = pathlib.Path(__file__).resolve().parent
SNIPPET = re.compile(r"(<!-- (\S+) (\w+) -->\n```(\w+)\n).*?(\n```)", re.S)

HEAD = """# Drivers

Made by `make test-drivers`, which runs a program with each driver (`tests/drivers/`) through PgBouncer 1.18 in
transaction mode against a server with the extension; do not edit. How to connect: [connect.md](connect.md).

Each program connects through the driver's pool, then reads and writes as three tenants in turn on the same {size} server
connections ({turns} transactions, four at a time), meets a constraint error, a refused token, a tenant that has moved
(TN004), a serialization failure and a killed server process, leaves the pool's reset and health check to do what they
do, runs one statement many times, and reads an enum. Afterwards the rows of every tenant are compared.

Settings marked † are there against named statements: PgBouncer from 1.21 keeps those apart ([connect.md](connect.md#pgbouncer)).
Without the settings of its row a program must fail, and with a newer PgBouncer those marked must do without:
`tests/drivers/run --without [--pgbouncer PROGRAM]`.

| driver | version | what to set | what it sends by itself outside a tenant's transaction | inside |
| --- | --- | --- | --- | --- |
"""


def cell(statements):
    return "<br>".join("`" + s.replace("|", "\\|") + "`" if s else "the empty query" for s in statements) or "nothing"


def render(results):
    text = HEAD.format(size=bench.POOL_SIZE, turns=bench.TURNS)
    for r in results:
        text += f"| {r.driver.title} | {r.version} | {r.driver.settings}{' †' if r.driver.named else ''} | {cell(r.alone)} | {cell(r.bound)} |\n"
    notes = [f"- {r.driver.title}: {r.driver.note}\n" for r in results if r.driver.note]
    return text + ("\nWhat else to know:\n" + "".join(notes) if notes else "")


def lines_of(file, mark):
    """What stands between [mark] and [end] in a program."""
    text = (HERE / file).read_text()
    found = re.search(r"^[^\n]*\[" + mark + r"\][^\n]*\n(.*?)\n[^\n]*\[end\]", text, re.S | re.M)
    if not found:
        raise KeyError(f"{file} has no lines between [{mark}] and [end]")
    return textwrap.dedent(found.group(1)).strip()


def with_snippets(text):
    """${text} with each block below `<!-- file mark -->` as it is in the program now."""
    return SNIPPET.sub(lambda m: m.group(1) + lines_of(m.group(2), m.group(3)) + m.group(5), text)
