"""The PostgreSQL protocol, version 3, by hand: what no driver sends can be sent here.

    with Wire(port, "bulkhead_pool", "secret", "shared1") as wire:
        answer = wire.pipeline([("SELECT bulkhead.enter($1)", [token]), ("SELECT 1", [])])
        assert answer.code is None and answer.rows[-1] == [["1"]]
"""
import base64
import hashlib
import hmac
import os
import socket
import struct


class Answer:
    """All that came up to ReadyForQuery."""

    def __init__(self):
        self.rows = []       # one list of rows per statement; values are text or None
        self.tags = []       # CommandComplete
        self.errors = []     # dicts by field letter: C SQLSTATE, M message, H hint, D detail
        self.settings = {}   # ParameterStatus
        self.value = None    # of a fast-path call
        self.suspended = 0
        self.notifications = 0
        self.notices = []    # as errors
        self.copied = b""    # of COPY ... TO STDOUT
        self.status = None   # I idle, T in a transaction, E failed

    @property
    def code(self):
        """SQLSTATE of the first error, None where there is none."""
        return self.errors[0]["C"] if self.errors else None

    @property
    def message(self):
        return self.errors[0]["M"] if self.errors else None


class Wire:
    def __init__(self, port, user, password, database, **startup):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.input, self.output = b"", b""
        self.user, self.password = user, password
        words = {"user": user, "database": database, **startup}
        body = b"".join(k.encode() + b"\0" + v.encode() + b"\0" for k, v in words.items()) + b"\0"
        self.socket.sendall(struct.pack(">ii", len(body) + 8, 196608) + body)
        self.pid = None
        self.start = self.read()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    # messages out

    def put(self, kind, body=b""):
        self.output += kind + struct.pack(">i", len(body) + 4) + body

    def flush(self):
        self.socket.sendall(self.output)
        self.output = b""

    def parse(self, text, name="", types=()):
        self.put(b"P", name.encode() + b"\0" + text.encode() + b"\0" + struct.pack(f">h{len(types)}I", len(types), *types))

    def bind(self, values=(), name="", portal=""):
        body = portal.encode() + b"\0" + name.encode() + b"\0" + struct.pack(">hh", 0, len(values))
        for value in values:
            if value is None:
                body += struct.pack(">i", -1)
            else:
                data = str(value).encode()
                body += struct.pack(">i", len(data)) + data
        self.put(b"B", body + struct.pack(">h", 0))

    def execute(self, portal="", limit=0):
        self.put(b"E", portal.encode() + b"\0" + struct.pack(">i", limit))

    def describe(self, kind, name=""):
        self.put(b"D", kind.encode() + name.encode() + b"\0")

    def sync(self):
        """Sync, and everything up to ReadyForQuery."""
        self.put(b"S")
        self.flush()
        return self.read()

    # whole exchanges

    def query(self, text):
        """Simple protocol."""
        self.put(b"Q", text.encode() + b"\0")
        self.flush()
        return self.read()

    def step(self, text, values=()):
        """Parse, Bind and Execute, unnamed, without Sync."""
        self.parse(text)
        self.bind(values)
        self.execute()

    def pipeline(self, statements):
        """All [(text, values)] with one Sync: one implicit transaction."""
        for text, values in statements:
            self.step(text, values)
        return self.sync()

    def call(self, oid, *values):
        """Fast-path function call."""
        body = struct.pack(">Ihh", oid, 0, len(values))
        for value in values:
            data = str(value).encode()
            body += struct.pack(">i", len(data)) + data
        self.put(b"F", body + struct.pack(">h", 0))
        self.flush()
        return self.read()

    # messages in

    def take(self, size):
        while len(self.input) < size:
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("server closed the connection")
            self.input += data
        data, self.input = self.input[:size], self.input[size:]
        return data

    def read(self):
        answer, rows = Answer(), []
        while True:
            kind, size = struct.unpack(">ci", self.take(5))
            body = self.take(size - 4)
            if kind == b"Z":
                answer.status = body.decode()
                return answer
            if kind == b"E":
                answer.errors.append(fields(body))
                if answer.errors[-1].get("S") == "FATAL":
                    return answer
            elif kind == b"D":
                rows.append(row(body))
            elif kind in b"Cs":
                answer.rows.append(rows)
                answer.tags.append(body[:-1].decode() if kind == b"C" else None)
                answer.suspended += kind == b"s"
                rows = []
            elif kind == b"S":
                key, value = body[:-1].decode().split("\0")
                answer.settings[key] = value
            elif kind == b"V":
                size, = struct.unpack(">i", body[:4])
                answer.value = None if size < 0 else body[4:].decode()
            elif kind == b"K":
                self.pid = struct.unpack(">i", body[:4])[0]
            elif kind == b"A":
                answer.notifications += 1
            elif kind == b"N":
                answer.notices.append(fields(body))
            elif kind == b"d":
                answer.copied += body
            elif kind == b"R":
                self.authenticate(struct.unpack(">i", body[:4])[0], body[4:])

    # SCRAM-SHA-256 (RFC 5802, 7677)

    def authenticate(self, kind, data):
        if kind == 10:
            nonce = base64.b64encode(os.urandom(18)).decode()
            self.first = f"n=,r={nonce}"
            text = ("n,," + self.first).encode()
            self.put(b"p", b"SCRAM-SHA-256\0" + struct.pack(">i", len(text)) + text)
            self.flush()
        elif kind == 11:
            self.put(b"p", self.prove(data.decode()).encode())
            self.flush()

    def prove(self, challenge):
        part = dict(item.split("=", 1) for item in challenge.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(part["s"]), int(part["i"]))
        final = "c=biws,r=" + part["r"]
        client = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client).digest(), f"{self.first},{challenge},{final}".encode(), "sha256")
        proof = bytes(a ^ b for a, b in zip(client, signature))
        return final + ",p=" + base64.b64encode(proof).decode()


def fields(body):
    return {item[:1].decode(): item[1:].decode() for item in body.split(b"\0") if item}


def row(body):
    count, = struct.unpack(">h", body[:2])
    values, at = [], 2
    for _ in range(count):
        size, = struct.unpack(">i", body[at:at + 4])
        at += 4
        values.append(None if size < 0 else body[at:at + size].decode())
        at += max(size, 0)
    return values
