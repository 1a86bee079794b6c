"""What the system does to a running host: full disks, system calls that fail, too few descriptors, and nothing to do. Mail that was
acknowledged arrives, once; clients hear 4xx in time; and when the fault is over mail flows again."""
import contextlib
import os
import signal
import subprocess
import time

import pytest

from books import Books
from faults import Disk, children, cpu_ms, few_files, files, highest_file, inject, programs, status, zombies
from host import DAEMONS, Host, wait_until

BOXES = 60
NO_SPACE, LATER = b"4.3.1 ", b"4.3.0 "


@pytest.fixture(scope="module")
def host():
    settings = {"locals": ["faults.tappal"], "clients": ["127.0.0.0/8"], "retryfirst": "1", "retrymax": "2", "freespace": "1M", "dnsforward": "127.0.0.1@9",
                "dnstrustanchor": "", "dnstimeout": "2", "timeoutconnect": "2", "smtpdsessions": "40"}
    with Host("faults", "127.0.0.41", settings=settings) as h:
        for n in range(BOXES):
            h.add_mailbox(f"box{n}@faults.tappal")
        h.start()
        yield h


@pytest.fixture
def books(host):
    """Everything runs, and at the end everything has arrived."""
    revive(host)
    book = Books(host, f"box{next(boxes)}@faults.tappal")
    assert book.send()[0] == 250
    yield book
    revive(host)
    book.settle()


boxes = iter(range(BOXES))


def revive(host):
    """What a supervisor does."""
    for name in DAEMONS:
        if name not in host.running or host.running[name].poll() is not None:
            host.running.pop(name, None)
            host.start(name)


def pid(host, name):
    return host.running[name].pid


def wait_ready(host):
    """queued has opened its fifos; its pid."""
    q = pid(host, "queued")
    assert wait_until(lambda: f"queued[{q}]: queue manager started" in host.log()), host.log()[-2000:]
    return q


def is_idle(host, *names, seconds=1.0, most_ms=100):
    pids = [pid(host, n) for n in names]
    before = [cpu_ms(p) for p in pids]
    time.sleep(seconds)
    used = [cpu_ms(p) - b for p, b in zip(pids, before)]
    assert max(used) < most_ms, dict(zip(names, used))


# ---- descriptors

def test_queued_without_descriptors(host, books):
    """Without any for a sender: 451 at once. A spawn that ends, one that comes: as soon as there are some, and no spinning till then."""
    host.restart("queued", signal.SIGTERM)
    q = wait_ready(host)
    time.sleep(1)             # a start has a segment to fill
    with host.smtp() as session, few_files(q, highest_file(q) + 1):
        began = time.monotonic()
        replies = {books.send(session=session) for _ in range(5)} | {books.send() for _ in range(5)}
        assert time.monotonic() - began < 5
        assert {code for code, _ in replies} <= {250, 451} and 451 in books.codes
        is_idle(host, "queued")
        host.kill("spawn-local")       # its fifo cannot be opened anew,
        is_idle(host, "queued")
        file = os.open(f"{host.etc}/me", os.O_RDONLY)
        host.start("spawn-local")      # nor that of the next
        is_idle(host, "queued", "spawn-local")
        os.close(file)
    assert host.running["queued"].poll() is None
    assert books.send()[0] == 250
    books.settle()


def test_senders_make_room(host, books):
    """More sessions than queued may have descriptors for: those that are silent give way."""
    q = pid(host, "queued")
    with contextlib.ExitStack() as stack:
        sessions = [stack.enter_context(host.smtp()) for _ in range(12)]
        assert [books.send(session=s)[0] for s in sessions[:6]] == [250] * 6
        stack.enter_context(few_files(q, highest_file(q) + 1))
        for _ in range(3):
            assert [books.send(session=s)[0] for s in sessions] == [250] * 12
        assert books.send(size=200000)[0] == 250


# ---- accepted mail that queued finds at its start, and cannot read

def left_files(host, mark):
    """Intake files that hold it, as strace's -P wants them: calls name them with and without their directory."""
    for name in os.listdir(f"{host.spool}/intake"):
        path = f"{host.spool}/intake/{name}"
        if len(name) == 26:
            with open(path, "rb") as f:
                if mark.encode() in f.read():
                    yield from ("-P", path, "-P", name)


@pytest.mark.parametrize("fault", ["pread64:error=EIO:when=1", "pread64:error=EIO:when=2", "openat:error=EMFILE:when=1", "pread64:error=ENOMEM:when=1"])
def test_left_mail_that_cannot_be_read(host, books, fault):
    """It was promised, so it stays until it can be read."""
    host.kill("queued", signal.SIGTERM)
    assert books.send()[0] == 250
    names = list(left_files(host, f"{books.to}-2"))
    assert names
    log = f"{host.root}/strace"
    strace = subprocess.Popen(["strace", "-qq", "-f", "-o", log, *names, f"-einject={fault}", f"{host.libexec}/queued"], stdin=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    time.sleep(1)
    with open(log) as f:
        assert "INJECTED" in f.read()
    for p in [p for p, name in programs(host).items() if name == "queued"]:
        os.kill(p, signal.SIGTERM)
    strace.wait(10)
