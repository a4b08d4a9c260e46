"""A proxy for programs that know nothing of tenants: every transaction that they begin is bound before anything else runs in it.

It authenticates at the server as the pool role, lets its one kind of client in without a password, and puts [enter] before each
batch that begins a transaction. All that the server sends is searched for ${marks}.
"""
import re
import select
import socket
import struct
import threading

import pgserver
from pgwire import Wire


class Session(threading.Thread):
    """One client, one connection of the server."""

    def __init__(self, proxy, client):
        super().__init__(daemon=True)
        self.proxy, self.client, self.input = proxy, client, b""
        self.status, self.fresh, self.begins = b"I", True, False
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.swallow = 0  # messages of enter() that the client must not see

    def run(self):
        try:
            self.greet()
            self.relay()
        except (ConnectionError, OSError, struct.error):
            pass
        finally:
            self.client.close()
            self.server.close()

    def take(self, size):
        while len(self.input) < size:
            data = self.client.recv(65536)
            if not data:
                raise ConnectionError("the client left")
            self.input += data
        data, self.input = self.input[:size], self.input[size:]
        return data

    def greet(self):
        self.server = Wire(self.proxy.server.port, "bulkhead_pool", pgserver.POOL_PASSWORD, "shared1")
        while True:
            size, code = struct.unpack(">ii", self.take(8))
            self.take(size - 8)
            if code == 196608:
                break
            self.client.sendall(b"N")  # neither TLS nor GSS
        words = {**self.server.start.settings}
        hello = b"R" + struct.pack(">ii", 8, 0)
        for key, value in words.items():
            body = key.encode() + b"\0" + value.encode() + b"\0"
            hello += b"S" + struct.pack(">i", len(body) + 4) + body
        self.client.sendall(hello + b"K" + struct.pack(">iii", 12, 1, 1) + b"Z" + struct.pack(">i", 5) + b"I")

    def relay(self):
        while True:
            ready = select.select([self.client, self.server.socket], [], [])[0]
            if self.client in ready:
                data = self.client.recv(65536)
                if not data:
                    return
                self.input += data
                self.to_server()
            if self.server.socket in ready:
                self.to_client()

    def to_server(self):
        while len(self.input) >= 5:
            kind, size = struct.unpack(">ci", self.input[:5])
            if len(self.input) < size + 1:
                return
            body = self.take(size + 1)[5:]
            if kind == b"Q" and self.status == b"I" and re.match(rb"\s*set\b", body, re.I):
                body = b"RESET ALL\0"  # settings of a session are not for tenants
            self.bind(kind, body)
            self.server.put(kind, body)
            self.server.flush()

    def bind(self, kind, body):
        """Before the first message of a batch that is in no transaction yet."""
        if kind == b"X":
            raise ConnectionError("the client is done")
        if self.status != b"I" or not self.fresh:
            return
        self.fresh = False
        if kind == b"Q" and re.match(rb"\s*(begin|start|rollback|commit|abort|end|show|reset|discard|set)\b", body, re.I):
            self.begins = bool(re.match(rb"\s*(begin|start)\b", body, re.I))
            return
        self.begins = False
        self.enter()
        self.swallow = 4  # ParseComplete, BindComplete, DataRow, CommandComplete

    def enter(self):
        self.server.step(*self.proxy.step())

    def to_client(self):
        data = self.server.socket.recv(65536)
        if not data:
            raise ConnectionError("the server left")
        self.server.input += data
        while len(self.server.input) >= 5:
            kind, size = struct.unpack(">ci", self.server.input[:5])
            if len(self.server.input) < size + 1:
                return
            message, self.server.input = self.server.input[:size + 1], self.server.input[size + 1:]
            self.proxy.look(kind, message)
            if self.swallow and kind in b"12DC":
                self.swallow -= 1
                continue
            if kind == b"E":
                self.swallow = 0
            if kind == b"Z":
                self.status, self.fresh, self.swallow = message[5:], True, 0
                if self.begins and self.status == b"T":
                    self.begins = False
                    self.enter()
                    assert self.server.sync().code is None
                self.proxy.batches += 1
            self.client.sendall(message)


class BindProxy:
    def __init__(self, server, step, marks):
        self.server, self.step, self.marks = server, step, [mark.encode() for mark in marks]
        self.batches, self.answered, self.failed, self.leaks, self.codes = 0, 0, 0, [], {}
        self.port = pgserver.PORTS.take()
        self.socket = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                Session(self, self.socket.accept()[0]).start()
        except OSError:
            pass

    def look(self, kind, message):
        self.answered += kind == b"C"
        if kind == b"E":
            self.failed += 1
            code = re.search(rb"\0C([0-9A-Z]{5})\0", message)
            self.codes[code.group(1).decode()] = self.codes.get(code.group(1).decode(), 0) + 1
        if any(mark in message for mark in self.marks):
            self.leaks.append(message[:500])

    def close(self):
        self.socket.close()
