import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path[:0] = [os.path.join(TESTS, "dialog"), os.path.join(TESTS, "lib")]

from processes import wait_or_kill  # noqa: E402
from run import ROOTS, SETTINGS, TOP, Place  # noqa: E402


ports = itertools.cycle(range(15000 + os.getpid() * 100 % 10000, 30000))


def free_port():
    """Below those that clients get for themselves: no connection can take it before the program does."""
    for port in ports:
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port
    raise AssertionError


class Mouth:
    """A client that says octets and hears lines."""

    def __init__(self, port, timeout=120, receive_buffer=None, source=None):
        self.socket = socket.socket()
        if source:
            self.socket.bind((source, 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(timeout)
        self.socket.connect(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def say(self, *lines):
        self.socket.sendall(b"".join(line.encode() + b"\r\n" for line in lines))

    def hear(self):
        """One reply, its lines joined by a blank; None at the end of the connection."""
        lines = []
        while True:
            try:
                line = self.file.readline()
            except ConnectionResetError:
                return None
            if not line:
                return None
            lines.append(line.decode().rstrip("\r\n"))
            if lines[-1][3:4] != "-":
                return " ".join(lines)

    def ask(self, *lines):
        self.say(*lines)
        return self.hear()

    def greet(self):
        first = self.hear()
        assert first and first.startswith("220 "), first
        assert self.ask("EHLO client.test").startswith("250-")
        return self

    def mail(self, body=("x",), rcpt="joe@local.test"):
        """A message; the reply to its end."""
        for line in ("MAIL FROM:<alice@example.org>", f"RCPT TO:<{rcpt}>"):
            reply = self.ask(line)
            assert reply and reply.startswith("250 "), (line, reply)
        assert self.ask("DATA").startswith("354")
        return self.ask(*body, ".")

    def close(self, reset=False):
        if reset:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.file.close()
        self.socket.close()


def children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children") as f:
            return [int(child) for child in f.read().split()]
    except FileNotFoundError:
        return []


def private_kib(pid):
    """0 of a process that has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/smaps_rollup") as f:
            return sum(int(line.split()[1]) for line in f if line.startswith("Private_"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def is_smtpd(pid):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read() == "smtpd\n"
    except (FileNotFoundError, ProcessLookupError):   # it has ended meanwhile
        return False


def sessions(pid):
    """The session processes of a pool."""
    return [c for c in children(pid) if is_smtpd(c)]


def smtpd_processes(parent):
    """Processes of smtpd anywhere below this one."""
    found = []
    for child in children(parent):
        if is_smtpd(child):
            found.append(child)
        found += smtpd_processes(child)
    return found


def eventually(condition, seconds=120):
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(0.02)


def at_last(attempt, proof, attempts=10):
    """Make an attempt that a slow machine can spoil, until its proof is there."""
    for _ in range(attempts):
        attempt()
        if eventually(proof, 5):
            return
    raise AssertionError("never")


class Server:
    """smtpd in some way of starting, stopped at the end of the test."""

    def __init__(self, place):
        self.place, self.log_path, self.processes, self.port = place, f"{place.root}/log", [], None

    def prepare(self, orders=(), **settings):
        self.place.prepare({**SETTINGS, **{k: str(v) for k, v in settings.items()}}, orders)
        open(self.log_path, "w").close()
        os.chmod(self.log_path, 0o666)

    def pool(self, orders=(), prefix=(), user="nobody", **settings):
        """A pool on a free port, with these settings."""
        self.prepare(orders, **settings)
        self.port = free_port()
        return self.run([*prefix, f"{self.place.libexec}/smtpd", "-l", f"127.0.0.1:{self.port}"], user=user)

    def run(self, command, user=None, **keys):
        keys.setdefault("stdin", subprocess.DEVNULL)
        keys.setdefault("stdout", subprocess.DEVNULL)
        with open(self.log_path, "ab") as log:
            keys.setdefault("stderr", log)
            process = subprocess.Popen(command, user=user if os.getuid() == 0 else None, env={"PATH": os.environ["PATH"]}, **keys)
        self.processes.append(process)
        return process

    def connect(self, **keys):
        """A connection, as soon as somebody listens."""
        end = time.monotonic() + 120
        while True:
            try:
                return Mouth(self.port, **keys)
            except ConnectionRefusedError:
                assert time.monotonic() < end, self.log()
                time.sleep(0.02)

    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def queued(self):
        """Messages that the sink has got whole."""
        return sum(line.startswith("commit") for line in self.place.sink_lines())

    def stop(self):
        below = [pid for process in self.processes for pid in smtpd_processes(process.pid)]
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            wait_or_kill(process)
        for pid in below:   # what a starter leaves behind: xinetd its wait services
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass


@pytest.fixture(scope="session")
def place():
    with Place("smtpd") as place:
        yield place


@pytest.fixture
def server(place):
    server = Server(place)
    yield server
    server.stop()


@pytest.fixture
def served(house, request):
    """The module's house (house.py), up for one test with the settings that the test names."""
    house.up(**getattr(request, "param", {}))
    yield house
    house.down()
