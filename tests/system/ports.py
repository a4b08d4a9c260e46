"""Ports that no other test run takes: each is held by a lock on a file, below the ephemeral range."""
import fcntl
import os
import random
import socket

FIRST, LAST = 10240, 20999
FOLDER = "/tmp/bulkhead-test-ports"


def _is_free(port):
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Ports:
    """Reserves ports until release(); the kernel frees them when the test run dies."""

    def __init__(self):
        self._locks = {}
        try:
            os.mkdir(FOLDER)
            os.chmod(FOLDER, 0o1777)
        except FileExistsError:
            pass

    def take(self):
        for port in random.sample(range(FIRST, LAST), 2000):
            try:
                lock = os.open(f"{FOLDER}/{port}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except PermissionError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(lock)
                continue
            if _is_free(port):
                self._locks[port] = lock
                return port
            os.close(lock)
        raise RuntimeError("no free port")

    def release(self):
        for lock in self._locks.values():
            os.close(lock)
        self._locks.clear()
