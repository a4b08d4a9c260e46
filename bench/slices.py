"""What the benchmarks of the database share: backends that do one thing again and again in interleaved slices.

The cost is the on-CPU time of the backend (/proc/PID/schedstat): neighbours on the machine change wall time, hardly this.
Client and backends stand on one core, so that the figures do not depend on where the scheduler puts the pair.
"""
import itertools
import os
import pathlib
import random
import statistics
import struct
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/system"))

import pgserver  # noqa: E402
from pgwire import Wire  # noqa: E402

SYNC = b"S" + struct.pack(">i", 4)
ENTER = "SELECT bulkhead.enter($1)"


def setting(name, default):
    """BULKHEAD_BENCH_<NAME>, a whole number: how much is done, for a short run."""
    return int(os.environ.get(f"BULKHEAD_BENCH_{name}", default))


ROUNDS, SLICE_MS = setting("ROUNDS", 60), setting("SLICE_MS", 20)


def messages(data):
    """(kind, body) of each protocol message."""
    at = 0
    while at < len(data):
        size, = struct.unpack(">i", data[at + 1:at + 5])
        yield data[at:at + 1], data[at + 5:at + 1 + size]
        at += 1 + size


class Backend:
    """One connection that is measured. `turns` are its transactions, each a list of round trips in bytes."""

    def __init__(self, server, name, user="bulkhead_pool", prepared=True):
        self.name, self.prepared, self.costs, self.names = name, prepared, [], {}
        password = "admin-secret" if user == "postgres" else pgserver.POOL_PASSWORD
        self.wire = Wire(server.port, user, password, "shared1")
        if self.wire.start.errors:
            raise SystemExit(f"{name}: {self.wire.start.errors}")

    def encode(self, trips):
        """[[(text, values) …] …] as the bytes of each round trip. Named statements are parsed by the first that needs them."""
        encoded = []
        for trip in trips:
            for text, values in trip:
                # A SET names its tenant in its text, so it is parsed anew each time.
                named = self.prepared and not text.startswith("SET")
                name = self.names.get(text, "") if named else ""
                if named and not name:
                    name = self.names[text] = f"s{len(self.names)}"
                    self.wire.parse(text, name=name)
                if not named:
                    self.wire.parse(text)
                self.wire.bind(values, name=name)
                self.wire.execute()
            encoded.append(self.wire.output + SYNC)
            self.wire.output = b""
        return encoded

    def exchange(self, data):
        self.wire.socket.sendall(data)
        received = self.wire.socket.recv(65536)
        while received[-6:-1] != b"Z\0\0\0\5":
            received += self.wire.socket.recv(65536)
        return received

    def run(self, trips):
        """A transaction, checked: its values as text, row after row."""
        values = []
        for data in trips:
            for kind, body in messages(self.exchange(data)):
                if kind == b"E":
                    raise SystemExit(f"{self.name}: {body}")
                if kind == b"D":
                    size, = struct.unpack(">i", body[2:6])
                    values.append(None if size < 0 else body[6:6 + size].decode())
        return values

    def take_turns(self, transactions, expected):
        """What slice() repeats: each transaction once now, which must end in the value ${expected}, then for ever in turn."""
        encoded = []
        for trips in transactions:
            self.check(self.run(self.encode(trips)), expected)
            encoded.append(self.encode(trips))
        self.encoded, self.turns = encoded, itertools.cycle(encoded)

    def check(self, values, expected):
        if expected not in values:
            raise SystemExit(f"{self.name}: {values} instead of {expected}")

    def cpu_ns(self):
        return int(pathlib.Path(f"/proc/{self.wire.pid}/schedstat").read_text().split()[0])

    def slice(self, milliseconds=SLICE_MS):
        """µs per transaction in the next slice."""
        count, end, before = 0, time.monotonic() + milliseconds / 1000, self.cpu_ns()
        while count == 0 or time.monotonic() < end:
            for data in next(self.turns):
                received = self.exchange(data)
            count += 1
        cost = (self.cpu_ns() - before) / count / 1000
        if any(kind == b"E" for kind, _ in messages(received)):
            raise SystemExit(f"{self.name}: {received}")
        self.costs.append(cost)

    @property
    def median(self):
        return statistics.median(self.costs)

    @property
    def tenth(self):
        return sorted(self.costs)[len(self.costs) // 10]

    @property
    def shown(self):
        return f"{self.median:.1f} / {self.tenth:.1f}"

    def ratio(self, base):
        """Median of the rounds' own ratios."""
        return statistics.median(a / b for a, b in zip(self.costs, base.costs))

    def close(self):
        self.wire.close()


def pin(backends):
    core = [max(os.sched_getaffinity(0))]
    for pid in [0] + [it.wire.pid for it in backends]:
        os.sched_setaffinity(pid, core)


def measure(backends, rounds=ROUNDS):
    """All in random order, round after round."""
    pin(backends)
    for _ in range(rounds):
        for it in random.sample(backends, len(backends)):
            it.slice()


def method(rounds=ROUNDS):
    return (f"On-CPU time of the backend (`/proc/PID/schedstat`), median / 10th percentile of {rounds} rounds of"
            f" {SLICE_MS} ms slices, interleaved in random order; ratios are medians of the rounds' own; client and backends on"
            " one core, all data cached.")


def verdict(goals):
    """[(text, value, most)] as the budget cell."""
    missed = [text for text, value, most in goals if round(value, 2) > most]  # as it is shown
    return "; ".join(f"{text} ≤ {most:g} ({value:.2f})" for text, value, most in goals) + (": MISSED" if missed else ": met")


def make_tenants(server, numbers, rows):
    """Tenants c<no> in mode schema, each with a table accounts of ${rows} rows; the login `usual` may become each of them."""
    numbers = list(numbers)
    server.sql(f"""DO $$BEGIN IF to_regrole('usual') IS NULL THEN
        CREATE ROLE usual LOGIN NOINHERIT PASSWORD '{pgserver.POOL_PASSWORD}'; GRANT CONNECT ON DATABASE shared1 TO usual;
        END IF; END$$""")
    for at in range(0, len(numbers), 50):  # a transaction for all would need more locks than a server has
        server.sql(f"""DO $do$ DECLARE n int; BEGIN FOREACH n IN ARRAY ARRAY{numbers[at:at + 50]} LOOP EXECUTE format($$
            CREATE ROLE bh_o%1$s; CREATE ROLE bh_t%1$s ROLE usual; CREATE SCHEMA t%1$s AUTHORIZATION bh_o%1$s;
            GRANT USAGE ON SCHEMA t%1$s TO bh_t%1$s; SET LOCAL ROLE bh_o%1$s;
            CREATE TABLE t%1$s.accounts (aid int PRIMARY KEY, abalance int);
            INSERT INTO t%1$s.accounts SELECT n, 7 FROM generate_series(1, {rows}) n;
            GRANT SELECT ON t%1$s.accounts TO bh_t%1$s; RESET ROLE;
            INSERT INTO bulkhead.tenant (no, id, role, schema, state) VALUES (%1$s, 'c%1$s', 'bh_t%1$s', 't%1$s', 'active')$$, n);
            END LOOP; END $do$""")


def make_shared_table(server, numbers, rows):
    """Tenants c<no> in mode row over one table app.accounts, ${rows} rows each, under RLS by bulkhead.tenant_no()."""
    server.sql(f"""
        CREATE ROLE bh_app; CREATE ROLE bh_row; CREATE SCHEMA app AUTHORIZATION bh_app; GRANT USAGE ON SCHEMA app TO bh_row;
        CREATE UNLOGGED TABLE app.accounts (tenant_no int, aid int, abalance int, PRIMARY KEY (tenant_no, aid));
        INSERT INTO app.accounts SELECT t, n, 7 FROM unnest(ARRAY{list(numbers)}) t, generate_series(1, {rows}) n;
        ALTER TABLE app.accounts OWNER TO bh_app; GRANT SELECT ON app.accounts TO bh_row;
        ALTER TABLE app.accounts ENABLE ROW LEVEL SECURITY; ALTER TABLE app.accounts FORCE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON app.accounts TO bh_row USING (tenant_no = bulkhead.tenant_no());
        INSERT INTO bulkhead.tenant (no, id, mode, role, schema, state)
            SELECT t, 'c' || t, 'row', 'bh_row', 'app', 'active' FROM unnest(ARRAY{list(numbers)}) t""")
    server.sql("VACUUM ANALYZE app.accounts")
