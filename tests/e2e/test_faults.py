"""What the system does to a running host: full disks, system calls that fail, too few descriptors, and nothing to do. Mail that was
acknowledged arrives, once; clients hear 4xx in time; and when the fault is over mail flows again."""
import contextlib
import os
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import records
from books import Books
from faults import Disk, calm, children, few_files, files, highest_file, inject, programs, zombies
from host import DAEMONS, Host, wait_until

BOXES = 60
NO_SPACE, LATER = b"4.3.1 ", b"4.3.0 "


@pytest.fixture(scope="module")
def host():
    settings = {"locals": ["faults.tappal"], "clients": ["127.0.0.0/8"], "retryfirst": "1", "retrymax": "2", "freespace": "1M", "dnsforward": "127.0.0.1@9",
                "dnstrustanchor": "", "smtproutes": ["down.tappal:127.0.0.99:2525"], "dnstimeout": "2", "timeoutconnect": "2", "smtpdsessions": "40",
                "connectionidle": "1"}
    with Host("faults", "127.0.0.41", settings=settings) as h:
        h.idle = 1
        for n in range(BOXES):
            h.add_mailbox(f"box{n}@faults.tappal")
        h.start()
        yield h


@pytest.fixture
def books(host):
    """Everything runs, and at the end everything has arrived."""
    host.revive()
    book = Books(host, f"box{next(boxes)}@faults.tappal")
    first = book.send()
    assert first[0] == 250, first
    yield book
    host.revive()
    book.settle()


boxes = iter(range(BOXES))


def wait_ready(host):
    """queued has opened its fifos; its pid."""
    q = host.pid("queued")
    assert wait_until(lambda: f"queued[{q}]: queue manager started" in host.log()), host.log()[-2000:]
    return q


# ---- descriptors

def test_queued_without_descriptors(host, books):
    """Without any for a sender: 451 at once. A spawn that ends, one that comes: as soon as there are some, and no spinning till then."""
    host.restart("queued", signal.SIGTERM)
    q = wait_ready(host)
    with host.smtp() as session, few_files(q, highest_file(q) + 1):
        replies = {books.send(session=session) for _ in range(5)} | {books.send() for _ in range(5)}
        assert {code for code, _ in replies} <= {250, 451} and 451 in books.codes
        calm([host.pid("queued")])
        host.kill("spawn-local")       # its fifo cannot be opened anew,
        calm([host.pid("queued")])
        file = os.open(f"{host.etc}/me", os.O_RDONLY)
        host.start("spawn-local")      # nor that of the next
        calm([host.pid("queued"), host.pid("spawn-local")])
        os.close(file)
    assert host.running["queued"].poll() is None
    assert books.send()[0] == 250
    books.settle()


def test_senders_make_room(host, books):
    """More sessions than queued may have descriptors for: those that are silent give way."""
    q = host.pid("queued")
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
    assert wait_until(lambda: os.path.exists(log) and "INJECTED" in open(log).read()), host.log()[-2000:]
    for p in [p for p, name in programs(host).items() if name == "queued"]:
        os.kill(p, signal.SIGTERM)
    strace.wait(120)
    os.unlink(log)


# ---- full disks

@pytest.fixture(scope="module")
def small():
    settings = {"locals": ["small.tappal"], "retryfirst": "1", "retrymax": "2", "freespace": "32M", "maxerrors": "1000", "smtpdsessions": "40",
                "connectionidle": "1"}
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
    small.revive()
    wait_ready(small)
    book = Books(small, f"box{next(box)}@small.tappal")
    first = book.send()
    assert first[0] == 250, first
    yield book
    small.disk.empty()
    small.revive()
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
            assert wait_until(lambda: narrow.send()[0] == 452)
            for code, text in refused(narrow, session):
                assert code == 452 and text.startswith(NO_SPACE)
        small.start("spawn-local")
        narrow.settle()
        assert small.wait_empty()
        assert small.running["queued"].poll() is None
        small.disk.empty()
        assert wait_until(lambda: narrow.send(session=session)[0] == 250)
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
        narrow.settle()
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
    assert small.running.pop("queued").wait(120) == 111
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
        assert wait_until(lambda: enqueue(host, message, long) == 59)
        delete_all(host)
        assert wait_until(lambda: enqueue(host, message, long[:1000]) == 0)
        delete_all(host)
        assert host.running["queued"].poll() is None
    finally:
        host.revive()
        host.set("indexsize", "64G")
        host.restart("queued", signal.SIGTERM)


def envelope(recipients, sender="a@b.tappal"):
    return b"".join(f.encode() + b"\0" for f in ["F" + sender] + ["T" + r for r in recipients]) + b"\0"


def hand_over(argv, message, octets, user=None):
    """qmail-queue's contract; the exit code."""
    r, w = os.pipe()
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=r, stderr=subprocess.DEVNULL, user=user, bufsize=0) as process:
        os.close(r)
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(message)
        process.stdin.close()
        with contextlib.suppress(BrokenPipeError):
            while octets:
                octets = octets[os.write(w, octets):]
        os.close(w)
        return process.wait(120)


def enqueue(host, message, recipients):
    """One shot, as any user."""
    return hand_over([f"{host.libexec}/enqueue"], message, envelope(recipients), user="nobody")


# ---- system calls that fail

QUEUED_FAULTS = ["fdatasync:error=EIO:when=3", "fdatasync:error=EIO:when=7", "fdatasync:error=ENOSPC:when=4", "pwrite64:error=EIO:when=2",
                 "pwrite64:error=EIO:when=9", "pwrite64:error=ENOSPC:when=5", "pread64:error=EIO:when=5", "openat:error=EIO:when=4",
                 "openat:error=ENFILE:when=3..9", "rename:error=EIO:when=1", "rename:error=ENOSPC:when=1", "fsync:error=EIO:when=1",
                 "unlink:error=EIO:when=1", "statfs:error=EIO:when=1", "poll:error=ENOMEM:when=5", "read:error=EIO:when=9", "write:error=EIO:when=9"]


@pytest.mark.parametrize("fault", QUEUED_FAULTS)
def test_a_call_of_queued_fails(host, books, fault):
    """It goes on, or it ends and the next one has all that was acknowledged. Clients wait for neither."""
    queued = host.running["queued"]
    wait_ready(host)
    with books.load(4, sizes=(600, 600, 600, 150000)):
        time.sleep(0.2)
        with inject(queued.pid, fault):
            wait_until(lambda: queued.poll() is not None, 1, 0.02)
        assert queued.poll() in (None, 111)
        host.revive()
        before = len(books.acked)
        assert wait_until(lambda: len(books.acked) > before + 10)
    assert set(books.codes) <= {250, 451, 452}, books.codes
    books.settle(refused_may_come=True)
    books.refused.clear()


@pytest.mark.parametrize("fault", ["fsync:error=EIO:when=1", "fsync:error=EIO:when=2", "renameat:error=EIO:when=1",
                                   "write:error=ENOSPC:when=1", "openat:error=EMFILE:when=6", "read:error=EIO:when=4"])
def test_a_call_of_local_fails(host, books, fault):
    """Temporary; tried again; delivered once."""
    time.sleep(host.idle + 0.3)                # no worker is left: a new one has the fault
    with inject(host.pid("spawn-local"), fault):
        assert [books.send()[0] for _ in range(4)] == [250] * 4
        time.sleep(0.5)
    host.revive()
    books.settle()


ENQUEUE_CALLS = ["openat", "mknodat", "mknod", "flock", "pwrite64", "write", "fsync", "read", "getrandom", "newfstatat", "fstat", "pread64", "poll", "unlink", "chdir"]


def enqueue_under(host, fault, size, mark):
    """Exit code, and whether the fault came to pass."""
    log = f"{host.root}/strace"
    argv = ["strace", "-qq", "-o", log, "-u", "nobody", "-e", f"trace={fault.split(':')[0]}", f"-einject={fault}", f"{host.libexec}/enqueue"]
    code = hand_over(argv, f"X-Mark: {mark}\n\n".encode() + b"z" * size, envelope([mark.split("#")[0]]))
    with open(log) as f:
        return code, "INJECTED" in f.read()


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize("error", ["EIO", "ENOSPC"])
def test_a_call_of_enqueue_fails(host, books, error, away):
    """Every one of them in turn: exit 0 and it arrives, or another and it does not."""
    if away:
        host.kill("queued", signal.SIGTERM)
    for size in (500, 200000):
        for call in ENQUEUE_CALLS:
            for n in range(1, 60):
                mark = f"{books.to}#{call}.{n}.{size}"
                code, injected = enqueue_under(host, f"{call}:error={error}:when={n}", size, mark)
                if not injected:
                    break
                assert code == 0 or 51 <= code <= 99 or code in (111, 127), (mark, code)
                (books.refused if code else books.acked).add(mark)
    host.revive()
    assert len(books.acked | books.refused) > 30
    books.settle()


# ---- few descriptors elsewhere

@pytest.mark.parametrize("error", ["EMFILE", "ENFILE"])
@pytest.mark.parametrize("name,calls", [("spawn-local", ["pipe2", "openat"]), ("spawn-remote", ["pipe2", "openat"]), ("smtpd", ["accept4", "pipe2", "openat"]),
                                        ("bounce", ["openat", "pipe2", "pipe"]), ("resolver", ["accept4", "socket", "openat"])])
def test_no_descriptors(host, books, name, calls, error):
    """Temporary failures, no spinning; and when there are descriptors again, mail flows."""
    victims = [host.pid(name), *children(host.pid(name))]
    time.sleep(host.idle + 0.3)
    with contextlib.ExitStack() as stack:
        for victim in victims if name == "smtpd" else victims[:1]:
            stack.enter_context(inject(victim, *(f"{call}:error={error}" for call in calls)))
        connections = [socket.create_connection((host.address, host.port)) for _ in range(3)] if name == "smtpd" else []
        if name != "smtpd":
            assert {books.send()[0] for _ in range(3)} == {250}
            assert enqueue(host, b"Subject: x\n\nx\n", ["x@far.tappal"]) == 0
            assert enqueue(host, b"Subject: x\n\nx\n", ["nobody@faults.tappal"]) == 0
        calm(victims, share=0.15)
        for c in connections:
            c.close()
    host.revive()
    assert wait_until(lambda: books.send()[0] == 250)
    books.settle()


def test_a_session_without_descriptors(host, books):
    """It cannot start its enqueue: 451."""
    host.restart("smtpd", signal.SIGTERM)
    with contextlib.ExitStack() as stack:
        for child in children(host.pid("smtpd")):
            stack.enter_context(inject(child, "pipe2:error=EMFILE"))
        code, text = books.send()
        assert code == 451, text
    assert books.send()[0] == 250


# ---- nothing to do

def all_calm(host):
    calm(lambda: programs(host), window=4.0, share=0.02)


def test_idle(host, books):
    """With sessions that wait, mail held, mail for a host in back-off, and mail for a spawn that is not there."""
    host.kill("spawn-local")
    assert enqueue(host, b"Subject: x\n\nx\n", ["x@down.tappal"]) == 0
    assert [books.send()[0] for _ in range(20)] == [250] * 20
    assert wait_until(lambda: len(host.queue()) >= 21)
    held = [m["queue_id"] for m in host.queue()][:10]
    host.tappal("queue", "hold", *held)
    with host.smtp(), host.smtp() as session:
        session.ehlo()
        all_calm(host)
    host.tappal("queue", "release", *held)
    host.tappal("queue", "delete", *(m["queue_id"] for m in host.queue() if "down.tappal" in str(m["recipients"])))


def test_idle_without_queued(host, books):
    host.kill("queued", signal.SIGTERM)
    with host.smtp() as session:
        assert books.send(session=session)[0] == 250
        all_calm(host)


def test_idle_behind_a_stopped_queued(host, books):
    """An enqueue that waits for its answer sleeps; it gets it."""
    q = host.pid("queued")
    os.kill(q, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(books.send)
            assert wait_until(lambda: any(name == "enqueue" for name in programs(host).values()))
            all_calm(host)
            os.kill(q, signal.SIGCONT)
            assert waiting.result(120)[0] == 250
    finally:
        os.kill(q, signal.SIGCONT)


def test_nothing_is_left_over(host, books):
    """A load of all kinds costs no descriptor, no zombie and no file: the second like the first."""
    for name in DAEMONS:
        host.restart(name, signal.SIGTERM)
    wait_ready(host)
    before = after_a_load(host, books)
    after_a_load(host, books)
    # libunbound closes the sockets of questions that nobody answers after 20 seconds
    assert wait_until(lambda: all(files(host.pid(name)) <= before[name] for name in DAEMONS)), (before, {n: files(host.pid(n)) for n in DAEMONS})
    assert wait_until(lambda: os.listdir(f"{host.spool}/large") == os.listdir(f"{host.spool}/reply") == [])
    assert wait_until(lambda: all(n.endswith(".ack") for n in os.listdir(f"{host.spool}/intake")))


def delete_all(host):
    """How many there were; their bounces come, too."""
    ids = [m["queue_id"] for m in host.queue()]
    if ids:
        host.tappal("queue", "delete", *ids)
    return len(ids)


def after_a_load(host, books):
    """Descriptors of each daemon when all is over."""
    with books.load(8, sizes=(600, 3000, 200000)):
        for n in range(20):
            enqueue(host, b"Subject: x\n\nx\n", [f"nobody{n}@faults.tappal", "x@down.tappal", "x@asked.tappal"])
        time.sleep(2)
    books.settle()
    assert wait_until(lambda: delete_all(host) == 0, step=1.2)
    host.restart("smtpd", signal.SIGTERM)           # the enqueues of its sessions end
    left = {argv[0] for argv in DAEMONS.values()}
    assert wait_until(lambda: not zombies(host) and set(programs(host).values()) == left), programs(host)
    fifo = os.open(f"{host.spool}/fifo/intake", os.O_WRONLY)
    os.write(fifo, records.encode("adopt", name="0" * 26))      # queued looks which senders have gone
    os.close(fifo)
    time.sleep(1)
    return {name: files(host.pid(name)) for name in DAEMONS}
