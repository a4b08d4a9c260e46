"""The limits file as doc/contract/limits.md says it, and what RateLimit headers say."""
import mmap
import os
import re
import struct

PAGE = 4096
TOUCHED = (1 << 22) // 32 // 8  # bytes of the map of quotas that were used
CELLS = {"tenants": (1 << 20, 64), "clients": (1 << 20, 64), "crowds": (1 << 16, 64), "quotas": (1 << 22, 128)}
ITEM = re.compile(r'"([^"]+)"((?:;[a-z]+=(?:\d+|"[^"]*"))*)$')


class Quota:
    """One cell of a quota; lease() is what the agent does."""

    def __init__(self, file, at, data):
        self.file, self.at = file, at
        self.state, _, _, self.no, _ = struct.unpack_from("<QQQII", data)
        self.used, self.leased, self.elsewhere, self.amount = struct.unpack_from("<4Q", data, 32)
        self.begins_s, self.ends_s, self.window, self.unit = struct.unpack_from("<qqII", data, 64)
        self.name = data[88:128].rstrip(b"\0").decode()

    def lease(self, leased, elsewhere=0):
        with open(self.file, "r+b") as file:
            os.pwrite(file.fileno(), struct.pack("<QQ", leased, elsewhere), self.at + 40)


class Limits:
    def __init__(self, edge):
        self.file = str(edge.counters_file) + ".limits"

    def _part(self, name):
        at = PAGE + TOUCHED
        for part, (capacity, size) in CELLS.items():
            if part == name:
                return at, at + capacity * size, size
            at += capacity * size

    def cells(self, name):
        """(offset, bytes) of every cell of that part that was ever used; holes are not read."""
        begin, end, size = self._part(name)
        with open(self.file, "rb") as file:
            at = begin
            while at < end:
                try:
                    data = os.lseek(file.fileno(), at, os.SEEK_DATA)
                    hole = min(os.lseek(file.fileno(), data, os.SEEK_HOLE), end)
                except OSError:
                    return
                if data >= end:
                    return
                page = os.pread(file.fileno(), hole - data, data)
                for i in range(0, len(page), size):
                    if page[i:i + 8] != bytes(8):
                        yield data + i, page[i:i + size]
                at = hole

    def quotas(self, tenant=None):
        found = [Quota(self.file, at, data) for at, data in self.cells("quotas")]
        return [quota for quota in found if tenant is None or quota.no == tenant.no]

    def renewed(self, now_ns):
        """The agent's heartbeat."""
        with open(self.file, "r+b") as file, mmap.mmap(file.fileno(), PAGE) as page:
            page[1024:1032] = struct.pack("<Q", now_ns)


def items(text):
    """A list of RateLimit or RateLimit-Policy: {name: {parameter: value}}, in order."""
    result = {}
    for part in (text or "").split(", "):
        match = ITEM.match(part)
        assert match, text
        parameters = dict(item.split("=") for item in match[2].split(";")[1:])
        result[match[1]] = {key: value.strip('"') if '"' in value else int(value) for key, value in parameters.items()}
    return result


def told(answer):
    """What both headers say, together."""
    policies, states = items(answer.get("RateLimit-Policy")), items(answer.get("RateLimit"))
    assert list(policies) == list(states), answer
    return {name: {**policies[name], **states[name]} for name in policies}
