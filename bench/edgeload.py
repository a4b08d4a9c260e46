"""Load for bench/edge: requests of many tenants, wrk, and what a proxy's processes spent on them."""
import http.client
import os
import pathlib
import re
import subprocess

CONNECTIONS = 64
PROXY_CORE, LOAD_CORE = 0, 1

LUA = """local requests, at = {{}}, 0
for line in io.lines("{file}") do
    local host, token = line:match("(%S+) (%S+)")
    requests[#requests + 1] = "GET /orders HTTP/1.1\\r\\nHost: " .. host .. "\\r\\nAuthorization: Bearer " .. token ..
        "\\r\\nUser-Agent: bench\\r\\nAccept: */*\\r\\nX-Tenant-Tier: spoofed\\r\\n\\r\\n"
end
function request()
    at = at % #requests + 1
    return requests[at]
end
"""


def write_requests(path, pairs):
    """A script for wrk that sends one request after another of these (host, token)."""
    text = path.with_suffix(".txt")
    text.write_text("".join(f"{host} {token}\n" for host, token in pairs))
    path.write_text(LUA.format(file=text))
    return path


def ask(port, host, token):
    """(status, body) of what the application says that it was told."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    client.request("GET", "/said", headers={"Host": host, "Authorization": f"Bearer {token}", "X-Tenant-Tier": "spoofed"})
    answer = client.getresponse()
    body = answer.read().decode()
    client.close()
    return answer.status, body


def descendants(pid):
    """${pid} and all processes under it."""
    found = [pid]
    for one in found:
        try:
            for task in pathlib.Path(f"/proc/{one}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except OSError:  # gone meanwhile
            pass
    return found


def pin(pid, core):
    for one in descendants(pid):
        for task in pathlib.Path(f"/proc/{one}/task").iterdir():
            os.sched_setaffinity(int(task.name), {core})


def cpu_ns(pid):
    """What the process tree spent on a CPU so far, all threads."""
    return sum(int((task / "schedstat").read_text().split()[0])
               for one in descendants(pid) for task in pathlib.Path(f"/proc/{one}/task").iterdir())


def memory_kb(pid):
    """PSS of the process tree."""
    return sum(int(re.search(r"^Pss: +(\d+)", pathlib.Path(f"/proc/{one}/smaps_rollup").read_text(), re.M).group(1))
               for one in descendants(pid))


class Sample:
    """One run of wrk: CPU us per request, requests a second, p50 and p99 in us, the busy share of the proxy's core."""

    def __init__(self, pid, port, script, seconds):
        before = cpu_ns(pid)
        command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency",
                   "-s", script, f"http://127.0.0.1:{port}/"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        used = cpu_ns(pid) - before
        assert "Non-2xx" not in out and "Socket errors" not in out, out
        requests, took = re.search(r"(\d+) requests in +([\d.]+)s", out).groups()
        self.requests = int(requests)
        self.cpu_us = used / self.requests / 1000
        self.rate = self.requests / float(took)
        self.busy = used / 1e9 / float(took)
        self.p50_us, self.p99_us = (self._time(out, share) for share in ("50%", "99%"))

    @staticmethod
    def _time(out, share):
        number, unit = re.search(rf"{share} +([\d.]+)(us|ms|s)", out).groups()
        return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]
