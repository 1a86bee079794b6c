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
    first = book.send()
    assert first[0] == 250, first
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


# ---- full disks

@pytest.fixture(scope="module")
def small():
    settings = {"locals": ["small.tappal"], "retryfirst": "1", "retrymax": "2", "freespace": "32M", "maxerrors": "1000", "smtpdsessions": "40"}
    with Host("small", "127.0.0.42", settings=settings) as h, Disk(h) as disk:
        for n in range(8):
            h.add_mailbox(f"box{n}@small.tappal")
        h.disk = disk
        yield h


@pytest.fixture
def narrow(small, request):
    """The host on its small disk, running; books for a mailbox of its own."""
    box = iter(range(8)) if not hasattr(small, "boxes") else small.boxes
    small.boxes = box
    revive(small)
    wait_ready(small)
    book = Books(small, f"box{next(box)}@small.tappal")
    first = book.send()
    assert first[0] == 250, first
    yield book
    small.disk.empty()
    revive(small)
    assert wait_until(lambda: book.send()[0] == 250)
    book.settle()


def refused(books, session):
    """By a session that has its file, by a new one, and with a large message."""
    return [books.send(session=session), books.send(), books.send(300000)]


def test_below_freespace(small, narrow):
    """452 before anything is accepted; what is queued is delivered; and it is over by itself."""
    with small.smtp() as session:
        small.kill("spawn-local")
        narrow.burst(40)
        assert len(narrow.acked) == 41
        for left in (16 << 20, 0):
            assert small.disk.fill(left) <= left
            assert wait_until(lambda: narrow.send()[0] == 452, 5)
            for code, text in refused(narrow, session):
                assert code == 452 and text.startswith(NO_SPACE)
        small.start("spawn-local")
        narrow.settle()
        assert small.wait_empty()
        assert small.running["queued"].poll() is None
        small.disk.empty()
        assert wait_until(lambda: narrow.send(session=session)[0] == 250, 5)
        assert [code for code, _ in refused(narrow, session)] == [250, 250, 250]
    assert small.running["queued"].poll() is None


def test_without_inodes(small, narrow):
    """A session that has its file goes on; others hear 452."""
    small.restart("smtpd", signal.SIGTERM)
    with small.smtp() as session:
        assert narrow.send(session=session)[0] == 250
        small.disk.fill_inodes()
        assert narrow.send(session=session)[0] == 250
        for _ in range(3):
            code, text = narrow.send()
            assert code == 452 and text.startswith(NO_SPACE)
        narrow.settle()
        small.disk.empty()
        assert [code for code, _ in refused(narrow, session)] == [250, 250, 250]
    assert small.running["queued"].poll() is None


def test_full_without_a_reserve(small, narrow):
    """freespace 0: the space ends in the middle of things. Whatever is killed then comes back, and what is queued is delivered."""
    small.set("freespace", "0")
    small.restart("queued", signal.SIGTERM)
    wait_ready(small)
    try:
        small.kill("spawn-local")
        narrow.burst(2000)
        small.disk.fill(0)
        with small.smtp() as session:
            for _ in range(200):
                code, _ = narrow.send(20000, session)
                assert code in (250, 452)
        assert 452 in narrow.codes
        for _ in range(4):
            small.restart("queued")
            wait_ready(small)
        small.kill("queued")
        assert narrow.send()[0] in (250, 452)       # left for adoption, if it found room
        small.start("queued")
        wait_ready(small)
        small.start("spawn-local")
        narrow.settle(60)
        assert small.running["queued"].poll() is None
    finally:
        small.disk.empty()
        small.set("freespace", "32M")
        small.restart("queued", signal.SIGTERM)


def test_first_start_on_a_full_disk(small, narrow):
    """Says why, and ends; nothing worse."""
    small.kill("queued", signal.SIGTERM)
    os.rename(f"{small.spool}/index", f"{small.spool}/index.old")
    subprocess.run(["sh", "etc/spool-tree", small.root], check=True)
    small.disk.fill(0)
    small.start("queued")
    assert small.running.pop("queued").wait(10) == 111
    assert "No space left" in small.log()
    subprocess.run(["rm", "-r", f"{small.spool}/index"], check=True)
    os.rename(f"{small.spool}/index.old", f"{small.spool}/index")


def test_index_at_its_size(host, books):
    """Refused before it is full: what is queued must be able to go, whatever that writes."""
    host.set("indexsize", "16M")
    host.restart("queued", signal.SIGTERM)
    wait_ready(host)
    try:
        long = [f"{'x' * 50}{n}@far.tappal" for n in range(10000)]
        message = b"Subject: many\n\nx\n"
        codes = [enqueue(host, message, long) for _ in range(4)]
        assert codes[0] == 0 and codes[-1] == 59, codes
        host.restart("queued")
        wait_ready(host)
        assert wait_until(lambda: enqueue(host, message, long) == 59, 10)
        host.tappal("queue", "delete", *(m["queue_id"] for m in host.queue()))
        assert wait_until(lambda: enqueue(host, message, long[:1000]) == 0)
        host.tappal("queue", "delete", *(m["queue_id"] for m in host.queue()))
        assert host.running["queued"].poll() is None
    finally:
        revive(host)
        host.set("indexsize", "64G")
        host.restart("queued", signal.SIGTERM)


def enqueue(host, message, recipients, sender="a@b.tappal"):
    """One shot, as any user; its exit code."""
    octets = b"".join(f.encode() + b"\0" for f in ["F" + sender] + ["T" + r for r in recipients]) + b"\0"
    r, w = os.pipe()
    with subprocess.Popen([f"{host.libexec}/enqueue"], stdin=subprocess.PIPE, stdout=r, stderr=subprocess.DEVNULL, user="nobody") as process:
        os.close(r)
        process.stdin.write(message)
        process.stdin.close()
        with os.fdopen(w, "wb") as end, contextlib.suppress(BrokenPipeError):
            end.write(octets)
        return process.wait(60)
