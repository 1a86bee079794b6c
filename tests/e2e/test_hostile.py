"""Everybody means harm: clients, servers, name servers, users, and the host's own programs as if they had been taken over. There is
always a verdict, nothing that was acknowledged is lost, and others are served meanwhile."""
import contextlib
import glob
import grp
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import threading
import time

import pytest

import records
from books import Books
from dnszone import Zones
from faults import calm, children, files, programs, zombies
from host import DAEMONS, PATIENCE, TOP, Host, wait_until
from sink import Delay, Dribble, Flood, Hangup, Raw, Reset, Sink, Stall

BOXES = 40
DATABYTES = 2000000
GOOD = "x@good.wild.tappal"
WITHOUT_CLIENTS = ("spawn-local", "spawn-remote", "bounce", "smtpd")   # daemons that hold no descriptor for long
PORT = 2525

MANY = [f"many MX {n} m{n}" for n in range(64)] + [f"m{n} A 127.0.1.{n + 1}" for n in range(64)]
FAR = [f"far MX {n} f{n}" for n in range(64)] + [f"f{n} A 127.0.1.{n + 1}" for n in range(63)] + ["f63 A 127.0.0.62"]
CHAIN = [f"c{n} CNAME c{n + 1}" for n in range(30)] + ["c30 MX 10 good-mx"]
TEXTS = [f'txt TXT "{"x" * 250}" "{n}"' for n in range(200)]
WIDE = [f"wide A 127.0.2.{n + 1}" for n in range(200)]
RECORDS = ["good MX 10 good-mx", "good-mx A 127.0.0.62", "short CNAME short2", "short2 CNAME good", "loop CNAME loop2", "loop2 CNAME loop", "self CNAME self",
           "literal MX 10 127.0.0.62.", "mxloop MX 10 loop", "mxself MX 10 mxself", "txt MX 10 good-mx", "zero MX 10 z", "z A 0.0.0.0", "dangling MX 10 nowhere",
           "none TXT x"] + [f"evil{n} A 127.0.3.{n + 1}" for n in range(40)] + MANY + FAR + CHAIN + TEXTS + WIDE


@pytest.fixture(scope="module")
def dns():
    with Zones({"wild.tappal": RECORDS}) as server:
        yield server


@pytest.fixture(scope="module")
def good():
    with Sink("127.0.0.62", PORT) as sink:
        yield sink


@pytest.fixture(scope="module")
def host(dns, good):
    settings = {"me": "mx.hostile.tappal", "locals": ["hostile.tappal"], "clients": ["127.0.0.0/8"], "dnsforward": dns.server, "dnstrustanchor": "",
                "remoteport": str(PORT), "retryfirst": "1", "retrymax": "2", "timeoutconnect": "2", "timeoutremote": "3", "dnstimeout": "5",
                "databytes": str(DATABYTES), "smtpdsessions": "550", "freespace": "1M", "maxcommands": "1000000000", "connectionidle": "1"}
    with Host("hostile", "127.0.0.45", settings=settings) as h:
        for n in range(BOXES):
            h.add_mailbox(f"box{n}@hostile.tappal")
        h.start()
        h.send("a@b.tappal", ["box0@hostile.tappal", GOOD])
        assert h.wait_mail("box0@hostile.tappal") and h.wait_empty(), h.log()
        calm(lambda: programs(h), window=2.0)
        h.descriptors = {name: files(h.pid(name)) for name in WITHOUT_CLIENTS}
        yield h


@pytest.fixture
def books(host):
    """No daemon ends because of what is done here, and at the end all has arrived."""
    host.revive()
    before = dict(host.running)
    book = Books(host, f"box{next(boxes)}@hostile.tappal")
    assert book.send()[0] == 250
    yield book
    assert [n for n in before if host.running.get(n) is before[n] and before[n].poll() is not None] == [], host.log()[-3000:]
    book.settle()


boxes = iter(range(1, BOXES))


def recipients(host, address):
    return [r for m in host.queue() for r in m["recipients"] if r["address"] == address]


# ---- clients

def test_slow_and_silent_clients(host, books):
    """Five hundred of them, at every stage, and one that is served all the time."""
    stages = [b"", b"EHLO c\r\n", b"EHLO c\r\nMAIL FROM:<a@b.tappal>\r\n", b"EHLO c\r\nMAIL FROM:<a@b.tappal>\r\nRCPT TO:<%s>\r\n" % books.to.encode(),
              b"EHLO c\r\nMAIL FROM:<a@b.tappal>\r\nRCPT TO:<%s>\r\nDATA\r\nSubject: s" % books.to.encode()]
    with contextlib.ExitStack() as stack:
        slow = []
        for n in range(500):
            s = stack.enter_context(socket.create_connection((host.address, host.port)))
            s.sendall(stages[n % len(stages)])
            slow.append(s)
        for n in range(20):
            for s in slow[n::20]:
                s.sendall(b"X")
            assert books.send()[0] == 250
        books.settle()
    assert wait_until(lambda: not zombies(host))


def small_smtpd(host):
    """The pool with 64 MiB of address space a process."""
    host.kill("smtpd", signal.SIGTERM)
    with open(f"{host.root}/log/smtpd", "ab") as log:
        host.running["smtpd"] = subprocess.Popen(["prlimit", "--as=67108864", f"{host.libexec}/smtpd", "--pool"], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                 start_new_session=True)
    assert wait_until(lambda: can_connect(host))


def can_connect(host):
    with contextlib.suppress(OSError):
        with socket.create_connection((host.address, host.port), 20) as s:
            return s.recv(3) == b"220"
    return False


class Raw25:
    """A socket that says lines and hears replies."""

    def __init__(self, host, timeout=120):
        self.socket = socket.create_connection((host.address, host.port), timeout)
        self.file = self.socket.makefile("rb")
        self.hear()

    def hear(self):
        while True:
            line = self.file.readline()
            if line[3:4] != b"-":
                return line

    def ask(self, line):
        self.socket.sendall(line + b"\r\n")
        return self.hear()

    def feed(self, octets):
        """In the background: replies are read meanwhile."""
        def go():
            with contextlib.suppress(OSError):
                self.socket.sendall(octets)
        thread = threading.Thread(target=go, daemon=True)
        thread.start()
        return thread

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.socket.close()


def test_too_much_of_everything(host, books):
    small_smtpd(host)
    with Raw25(host) as c:
        c.ask(b"EHLO c")
        c.feed(b"NOOP\r\n" * 1000000)
        for _ in range(1000000):
            assert c.file.readline() == b"250 2.0.0 Ok\r\n"
        c.feed(b"x" * (100 << 20) + b"\r\n")
        assert c.hear().startswith(b"500 5.5.2")
        assert c.ask(b"MAIL FROM:<a@b.tappal>").startswith(b"250")
        c.feed(b"RCPT TO:<%s>\r\n" % books.to.encode() * 100000)
        replies = [c.file.readline()[:4] for _ in range(100000)]
        assert replies[:1000] == [b"250 "] * 1000 and b"250 " not in replies[1000:]
    with Raw25(host) as c:
        for line in (b"EHLO c", b"MAIL FROM:<a@b.tappal>", b"RCPT TO:<%s>" % books.to.encode(), b"DATA"):
            c.ask(line)
        c.feed(b"Subject: " + b"x" * (100 << 20) + b"\r\n.\r\n")
        assert c.hear()[:4] in (b"552 ", b"554 ")
        assert c.ask(b"NOOP").startswith(b"250")
    assert books.send()[0] == 250
    host.restart("smtpd", signal.SIGTERM)


def test_databytes_to_the_octet(host, books):
    head = f"X-Mark: {books.to}#exact\r\n\r\n".encode()
    body = head + (b"y" * 62 + b"\r\n") * 40000
    body = body[:DATABYTES - 2] + b"\r\n"
    assert len(body) == DATABYTES
    for octets, wanted in ((body, b"250 "), (body[:-2] + b"z\r\n", b"552 ")):
        with Raw25(host) as c:
            for line in (b"EHLO c", b"MAIL FROM:<a@b.tappal>", b"RCPT TO:<%s>" % books.to.encode(), b"DATA"):
                c.ask(line)
            c.socket.sendall(octets + b".\r\n")
            assert c.hear()[:4] == wanted
    books.acked.add(f"{books.to}#exact")
    with Raw25(host) as c:
        c.ask(b"EHLO c")
        assert c.ask(b"MAIL FROM:<a@b.tappal> SIZE=%d" % DATABYTES)[:4] == b"250 "
        c.ask(b"RSET")
        assert c.ask(b"MAIL FROM:<a@b.tappal> SIZE=%d" % (DATABYTES + 1))[:4] == b"552 "


def test_many_recipients_are_one_message(host, books):
    host.kill("spawn-remote", signal.SIGTERM)
    with host.smtp() as s:
        assert s.sendmail("a@b.tappal", [f"u{n}@good.wild.tappal" for n in range(1000)], b"Subject: thousand\r\n\r\nx\r\n") == {}
    octets = b"Fa@b.tappal\0" + b"".join(b"Tv%d@good.wild.tappal\0" % n for n in range(10000)) + b"\0"
    r, w = os.pipe()
    with subprocess.Popen([f"{host.libexec}/enqueue"], stdin=subprocess.PIPE, stdout=r, user="nobody") as process:
        os.close(r)
        process.stdin.write(b"Subject: ten thousand\n\nx\n")
        process.stdin.close()
        with os.fdopen(w, "wb") as end:
            end.write(octets)
        assert process.wait(120) == 0
    assert wait_until(lambda: sorted(len(m["recipients"]) for m in host.queue())[-2:] == [1000, 10000])
    host.tappal("queue", "delete", *(m["queue_id"] for m in host.queue()))
    host.start("spawn-remote")


# ---- users

def test_users_who_stop_their_enqueue(host, books):
    """At any point: before it has its message, in the middle, behind its offer. Nobody else waits for them."""
    with contextlib.ExitStack() as stack:
        for point in range(12):
            r, w = os.pipe()
            process = stack.enter_context(subprocess.Popen([f"{host.libexec}/enqueue"], stdin=subprocess.PIPE, stdout=r, stderr=subprocess.DEVNULL,
                                                           user="tappal-peer"))
            os.close(r)
            stack.callback(process.kill)
            stack.callback(os.close, w)
            if point % 3:
                process.stdin.write(b"X-Mark: x\n\n" + b"z" * (300000 * (point % 2)))
                process.stdin.flush()
            if point % 3 == 2:
                process.stdin.close()
                os.write(w, f"Fa@b.tappal\0T{books.to}\0".encode())
            time.sleep(0.02)
            process.send_signal(signal.SIGSTOP)
        assert [books.send(size)[0] for size in (500, 300000) * 10] == [250] * 20
        books.settle()


def as_account(name, act):
    """Run act() in a child that is that account, with nothing else."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if name != "root":
                account = pwd.getpwnam(name)
                os.setgroups([g.gr_gid for g in grp.getgrall() if name in g.gr_mem])
                os.setgid(account.pw_gid)
                os.setuid(account.pw_uid)
            act()
            code = 0
        finally:
            os._exit(code)
    return child


def nonsense(chance):
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 3000))
    if kind == 1:
        return records.frame(chance.randrange(200), chance.randbytes(chance.randrange(300)))
    if kind == 2:
        return records.frame(chance.choice([1, 20, 30, 33, 40, 50]), b"", length=chance.choice([0, 7, 9, 4000, 70000, 0xffffffff]))
    name = chance.choice(["offer", "adopt", "ack", "job", "job_rcpt", "hello", "inflight", "ready", "result", "job_done", "bounce_begin", "bounce_rcpt", "operate"])
    values = {f: chance.choice([0, 1, 255]) for f, form, _ in records.BY_NAME[name].fields if form != "BYTES"}
    values.update({f: chance.choice([b"", b"x", b"0" * 26, b"../../etc/passwd"])[:most] for f, form, most in records.BY_NAME[name].fields if form == "BYTES"})
    whole = records.encode(name, **values)
    return whole if kind > 3 else whole[:chance.randrange(1, len(whole))]


def spoil(paths, seed):
    """Open, write, close, over and over, until it is killed."""
    chance = random.Random(seed)
    while True:
        for path in paths() if callable(paths) else paths:
            try:
                fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
            except OSError:
                continue
            with contextlib.suppress(OSError):
                for _ in range(chance.randrange(1, 4)):
                    os.write(fd, nonsense(chance))
            os.close(fd)
        time.sleep(0.003)


WRITERS = [("tappal-intake", ["fifo/intake"]), ("tappal-queue", ["fifo/jobs-local", "fifo/jobs-remote", "fifo/bounce", "fifo/control", "intake/*.ack"]),
           ("tappal-smtpd", ["fifo/retry"]), ("tappal-spawn", ["fifo/report-remote"]), ("root", ["fifo/report-local"])]


@pytest.mark.parametrize("account,names", WRITERS)
def test_nonsense_on_the_fifos(host, books, account, names):
    """From an account that may write there: mail goes on, late at worst."""
    def paths():
        return [p for n in names for p in glob.glob(f"{host.spool}/{n}")]

    def complaints():
        return host.log().count("makes no sense") + host.log().count("garbage")

    before = complaints()
    seed = int(os.environ.get("SEED", "1"))
    print("SEED", seed)
    child = as_account(account, lambda: spoil(paths, seed))
    try:
        began = time.monotonic()
        while time.monotonic() < began + 3 or complaints() == before:
            assert time.monotonic() < began + PATIENCE, "nobody complains"
            assert books.send()[0] == 250
            host.send("a@b.tappal", [GOOD])
            time.sleep(0.1)
    finally:
        os.kill(child, signal.SIGKILL)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL, "it has ended by itself"
    # half a record is waited for, a destination that failed rests a minute: both may come more than once
    books.settle(3 * PATIENCE)
    assert wait_until(lambda: not recipients(host, GOOD), 3 * PATIENCE)


# ---- a program of ours that was taken over

LIAR = '''#!/usr/bin/python3
import os, sys, time
sys.path.insert(0, "%(lib)s")
import records
stream = records.Stream(0)
job = stream.want("job", 60)
rcpts = [stream.want("job_rcpt", 60) for _ in range(job.rcpt_count)]
def say(name, **values):
    os.write(1, records.encode(name, check=False, **values))
exec(%(acts)r[rcpts[0].address.decode()])
time.sleep(600)
'''

LIES = {
    "another job": 'say("result", job=job.job + 1, index=rcpts[0].index)',
    "another's recipient": 'say("result", job=job.job, index=rcpts[0].index + 1)',
    "a recipient far off": 'say("result", job=job.job, index=0xffffffff)',
    "twice": 'say("result", job=job.job, index=rcpts[0].index, verdict=1, text="4"); say("result", job=job.job, index=rcpts[0].index, verdict=0)',
    "a huge text": 'say("result", job=job.job, index=rcpts[0].index, verdict=2, text="x" * 60000)',
    "no verdict": 'say("result", job=job.job, index=rcpts[0].index, verdict=77, stage=200, code=65535)',
    "the end of another": 'say("job_done", job=job.job ^ 1)',
    "the end first": 'say("job_done", job=job.job, reusable=1); say("result", job=job.job, index=rcpts[0].index, verdict=0)',
    "no end": 'os.write(1, b"x" * 7)',
    "noise": 'os.write(1, os.urandom(65536))',
    "what is not for it": 'say("hello", session=1, channel=1); say("ready", session=1, slots=99999)',
    "nothing": "",
    "an early end": "sys.exit(0)",
    "a death": "os.kill(os.getpid(), 11)",
    "a closed output": "os.close(1)",
    "a flood": '[say("result", job=job.job, index=rcpts[0].index, verdict=1, text="4") for _ in range(100000)]',
}


def put_liar(host, acts):
    """A worker that does what stands under its recipient's address."""
    lib = f"{host.root}/lib"
    os.makedirs(f"{lib}/tests/lib", exist_ok=True)
    os.makedirs(f"{lib}/common", exist_ok=True)
    shutil.copy(f"{TOP}/tests/lib/records.py", f"{lib}/tests/lib/records.py")
    shutil.copy(f"{TOP}/common/records.def", f"{lib}/common/records.def")
    with open(f"{host.libexec}/liar", "w") as f:
        f.write(LIAR % {"lib": f"{lib}/tests/lib", "acts": acts})
    for folder, _, names in os.walk(lib):
        for name in [folder] + [os.path.join(folder, n) for n in names]:
            os.chmod(name, 0o755)
    os.chmod(f"{host.libexec}/liar", 0o755)
    os.rename(f"{host.libexec}/liar", f"{host.libexec}/remote")


@pytest.fixture(scope="module")
def honest(host):
    """The real worker, kept aside."""
    shutil.copy2(f"{host.libexec}/remote", f"{host.root}/remote")
    return f"{host.root}/remote"


def put_back(host, honest):
    shutil.copy2(honest, f"{host.libexec}/remote.new")
    account = pwd.getpwnam("tappal-remote")
    os.chown(f"{host.libexec}/remote.new", account.pw_uid, account.pw_gid)
    os.chmod(f"{host.libexec}/remote.new", 0o6755)
    os.rename(f"{host.libexec}/remote.new", f"{host.libexec}/remote")


def test_lying_workers(host, books, good, honest):
    """Whatever remote says, only its own recipients have a result; spawn goes on, and so does the rest of the mail."""
    spawn = host.pid("spawn-remote")
    addresses = {lie: f"lie{n}@d{n}.wild.tappal" for n, lie in enumerate(LIES)}
    put_liar(host, {address: LIES[lie] for lie, address in addresses.items()})
    try:
        for address in addresses.values():
            host.send("a@b.tappal", [address])
            assert books.send()[0] == 250
        stuck = {"no end", "nothing"}
        assert wait_until(lambda: all(tried(host, a) for lie, a in addresses.items() if lie not in stuck)), \
            [lie for lie, a in addresses.items() if not tried(host, a)]
        for lie in stuck:
            assert not tried(host, addresses[lie]), lie
        done = {r["address"]: r for m in host.queue() for r in m["recipients"]}
        assert set(addresses.values()) <= set(done), "a lie was believed"
    finally:
        put_back(host, honest)
        for p in children(spawn):
            with contextlib.suppress(OSError):
                os.kill(p, signal.SIGKILL)
        assert host.running["spawn-remote"].poll() is None
    host.tappal("queue", "delete", *(m["queue_id"] for m in host.queue()))
    before = len(good.messages())
    host.send("a@b.tappal", [GOOD])
    assert wait_until(lambda: len(good.messages()) > before)
    assert wait_until(lambda: not zombies(host))


def tried(host, address):
    return any(r["attempts"] > 0 for r in recipients(host, address))


def test_spawn_killed_over_and_over(host, books, good):
    before = len(good.messages())
    sent = 0
    with books.load(3):
        for n in range(10):
            for name in ("spawn-local", "spawn-remote"):
                host.restart(name)
            host.send("a@b.tappal", [f"k{n}@good.wild.tappal"])
            sent += 1
            time.sleep(0.15)
    books.settle()
    assert wait_until(lambda: len({m.rcpts[0] for m in good.messages()[before:]}) == sent)
    assert wait_until(lambda: not zombies(host))


def test_siblings_that_stop(host, books, good):
    """Each of them stands still in turn: what does not need it goes on, and then the rest."""
    before = len(good.messages())
    for n, name in enumerate(("spawn-remote", "bounce", "resolver", "spawn-local")):
        os.kill(host.pid(name), signal.SIGSTOP)
        try:
            host.send("a@b.tappal", [f"s{n}@good.wild.tappal"])
            for size in (500, 300000):
                assert books.send(size)[0] == 250
            if name != "spawn-local":
                books.settle()
        finally:
            os.kill(host.pid(name), signal.SIGCONT)
    books.settle()
    assert wait_until(lambda: len({m.rcpts[0] for m in good.messages()[before:]}) == 4)


def test_nowhere_to_log(host, books):
    """The disk of the log is full: nobody stops for it."""
    log = os.open("/dev/full", os.O_WRONLY)
    for name in DAEMONS:
        host.kill(name, signal.SIGTERM)
        argv = DAEMONS[name]
        host.running[name] = subprocess.Popen([f"{host.libexec}/{argv[0]}", *argv[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    os.close(log)
    assert wait_until(lambda: can_connect(host))
    assert [books.send(size)[0] for size in (500, 300000)] == [250, 250]
    host.send("a@b.tappal", [GOOD])
    books.settle()
    assert wait_until(lambda: not recipients(host, GOOD))
    for name in DAEMONS:
        host.restart(name, signal.SIGTERM)


# ---- name servers

NAMES = ["many", "far", "c0", "loop", "self", "literal", "mxloop", "mxself", "zero", "dangling", "none", "wide", "nosuch", "x" * 63, ".".join(["y" * 60] * 3)]


def test_hostile_names(host, books, good):
    """A verdict on each; the good ones are delivered at once, whatever else is asked."""
    before = len(good.messages())
    with host.smtp() as s:
        for name in NAMES:
            s.sendmail("", [f"n@{name}.wild.tappal"], b"Subject: x\r\n\r\nx\r\n")
    for name in ("good", "short", "txt"):
        host.send("a@b.tappal", [f"x@{name}.wild.tappal"])
    assert wait_until(lambda: len(good.messages()) >= before + 3), host.log()[-3000:]
    assert books.send()[0] == 250

    def open_ones():
        return [r["address"] for m in host.queue() for r in m["recipients"] if r["attempts"] == 0 and r["address"].startswith("n@")]
    assert wait_until(lambda: not open_ones(), step=0.5), open_ones()
    while host.queue():
        host.tappal("queue", "delete", *(m["queue_id"] for m in host.queue()))
        time.sleep(1.1)


# ---- servers

EVIL = {
    "stalls at once": {"CONNECT": Stall()},
    "floods its greeting": {"CONNECT": Flood(b"220-x\r\n")},
    "floods without lines": {"CONNECT": Flood(b"x" * 1000)},
    "drips": {"CONNECT": Dribble(b"220 " + b"x" * 1000, 0.1)},
    "resets": {"CONNECT": Reset()},
    "hangs up": {"EHLO": Hangup()},
    "is no server": {"CONNECT": Raw(b"\x16\x03\x01" + bytes(200))},
    "has odd codes": {"MAIL": "999 what", "*": "100 no"},
    "mixes codes": {"RCPT": Raw(b"250-a\r\n550 b\r\n")},
    "has endless extensions": {"EHLO": Flood(b"250-X" + b"y" * 500 + b"\r\n")},
    "stalls in the data": {"DATA": Stall("354 go")},
    "hangs up at the dot": {".": Hangup()},
    "resets at the dot": {".": Reset()},
    "stalls at the dot": {".": Stall()},
    "says too much": {"RCPT": Raw(b"250 one\r\n250 two\r\n250 three\r\n221 four\r\n550 five\r\n")},
    "says no with NULs": {"RCPT": Raw(b"550 5.1.1 \x00\x1b[31m\xff no\r\n")},
    "refuses at length": {"RCPT": Raw(b"".join(b"550-" + b"z" * 500 + b"\r\n" for _ in range(400)) + b"550 z\r\n")},
    "is late": {"EHLO": Delay(2.5)},
}


def test_hostile_servers(host, books, good):
    """A verdict on each, after the time that timeoutremote gives; good ones and local mail are not kept waiting."""
    addresses = {}
    with contextlib.ExitStack() as stack:
        for n, (name, rules) in enumerate(EVIL.items()):
            stack.enter_context(Sink(f"127.0.3.{n + 1}", PORT, rules=rules))
            addresses[name] = f"x@evil{n}.wild.tappal"
        with host.smtp() as s:
            for address in addresses.values():
                s.sendmail("", [address], b"Subject: x\r\n\r\nx\r\n")
        before = len(good.messages())
        host.send("a@b.tappal", [GOOD])
        assert wait_until(lambda: len(good.messages()) > before)
        assert books.send()[0] == 250
        books.settle()

        def verdicts():
            return [line for line in host.log().splitlines() if "evil" in line and "status=" in line]

        def unheard_of():
            text = "".join(verdicts())
            return [name for name, address in addresses.items() if f"to=<{address}>" not in text]
        assert wait_until(lambda: not unheard_of(), step=0.5), unheard_of()
        assert not any("\x1b" in line or "\x00" in line for line in verdicts())
    while host.queue():
        host.tappal("queue", "delete", *(m["queue_id"] for m in host.queue()))
        time.sleep(1.1)


# ---- and then

def test_at_rest_again(host, books):
    """After all of it: nobody is busy, nothing was left."""
    books.settle()
    calm(lambda: programs(host), window=3.0, share=0.02)
    assert wait_until(lambda: not zombies(host))
    assert wait_until(lambda: all(files(host.pid(n)) <= host.descriptors[n] for n in WITHOUT_CLIENTS)), (host.descriptors, {n: files(host.pid(n)) for n in WITHOUT_CLIENTS})
    assert wait_until(lambda: os.listdir(f"{host.spool}/large") == os.listdir(f"{host.spool}/reply") == [])
