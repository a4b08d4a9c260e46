"""What a newer nginx than Debian 12's does by itself before our module sees a request. The suites are exact for 1.22; for
others two refusals of what is malformed are alike, and each other difference is named here."""
import re
import subprocess

from edgefix import NGINX

VERSION = tuple(map(int, re.search(r"nginx/(\d+)\.(\d+)\.(\d+)",
                                   subprocess.run([NGINX, "-v"], capture_output=True, text=True).stderr).groups()))

# Requests that nobody is to serve: which words say so depends on who looks first.
MALFORMED = {(400, "bad-request"), (404, "tenant-unknown"), (405, "bad-request"), ("reset", None), ("gone", None)}

# Name of a case: since which version, what is answered instead, what arrives at the application.
DIFFERENT = {
    "host with userinfo behind a port": ((1, 27), (400, "bad-request"), False),
    "authority with userinfo behind a port": ((1, 27), (400, "bad-request"), False),
    "authority and the same host": ((1, 27), (200, None), True),
    "interim answer 103": ((1, 27), (200, None), True),  # dropped, and the last one is passed on
}


def expected(name, answer, arrives, usual):
    """(answer, what arrives) of the case ${name} under this nginx; ${usual} is what a request that passes brings."""
    since, other, passes = DIFFERENT.get(name, ((999,), None, None))
    if VERSION < since:
        return answer, arrives
    return other, usual if passes else []


def alike(got, wanted):
    return got == wanted or VERSION >= (1, 23) and got in MALFORMED and wanted in MALFORMED
