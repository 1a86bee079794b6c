"""Clients that mean harm, or just are as the net is."""
import os
import random
import signal
import subprocess
import time

import pytest
from building import VARIANT
from conftest import Mouth, at_last, children, eventually, sessions
from faults import calm


SMALL = () if VARIANT == "asan" else ("prlimit", "--as=67108864")   # 64 MiB of address space, where no sanitizer reserves terabytes
STREAM = int(os.environ.get("TAPPAL_HOSTILE_OCTETS", 200 << 20))
DIALOG = b"EHLO c.test\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<joe@local.test>\r\nDATA\r\nSubject: x\r\n\r\n..\r\nend\r\n.\r\nQUIT\r\n"


def peak_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))


# ---- much of everything

def test_endless_command(server):
    pool = server.pool(prefix=SMALL)
    with server.connect() as c:
        c.greet()
        block = b"x" * (1 << 20)
        for _ in range(STREAM >> 20):
            c.socket.sendall(block)
        c.say("")
        assert c.hear().startswith("500 5.5.2")
        assert c.ask("NOOP").startswith("250 ")
        assert max(peak_kib(p) for p in sessions(pool.pid)) < 8192
        assert c.mail().startswith("250 2.0.0")


def test_endless_header_line(server):
    pool = server.pool(prefix=SMALL, databytes=0)
    with server.connect() as c:
        c.greet()
        for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<joe@local.test>", "DATA"):
            c.ask(line)
        block = b"Received: " + b"x" * (1 << 20)
        for _ in range(STREAM >> 21):
            c.socket.sendall(block)
        assert c.ask("", ".").startswith("554 5.5.2")
        assert max(peak_kib(p) for p in sessions(pool.pid)) < 8192


def test_big_message(server):
    pool = server.pool(prefix=SMALL, orders=["discard"], databytes=0)
    line = b"0123456789" * 7 + b"\r\n"
    with server.connect(timeout=120) as c:
        c.greet()
        for command in ("MAIL FROM:<a@b.test>", "RCPT TO:<joe@local.test>", "DATA"):
            c.ask(command)
        for _ in range(STREAM // len(line) // 1000):
            c.socket.sendall(line * 1000)
        assert c.ask(".").startswith("250 2.0.0")
        assert max(peak_kib(p) for p in sessions(pool.pid)) < 8192
    assert any(line == "commit size agrees" for line in server.place.sink_lines())


def test_million_noops(server):
    server.pool(prefix=SMALL, maxcommands=1000000000)
    with server.connect(timeout=60) as c:
        c.greet()
        for _ in range(1000):
            c.socket.sendall(b"NOOP\r\n" * 1000)
            for _ in range(1000):
                assert c.file.readline() == b"250 2.0.0 Ok\r\n"
        assert c.mail().startswith("250 2.0.0")


def test_noops_are_limited(server):
    server.pool()
    with server.connect() as c:
        c.greet()
        c.socket.sendall(b"NOOP\r\n" * 3000)
        replies = [c.hear() for _ in range(1000)]
        assert replies[:999] == ["250 2.0.0 Ok"] * 999
        while (last := c.hear()) is not None:
            replies.append(last)
        assert len(replies) < 1010 and replies[-1].startswith("421 4.7.0")


def test_hundred_thousand_recipients(server):
    server.pool(prefix=SMALL, maxrcpt=20000, maxerrors=100000)
    with server.connect(timeout=60) as c:
        c.greet()
        assert c.ask("MAIL FROM:<a@b.test>").startswith("250")
        replies = []
        for _ in range(100):
            c.socket.sendall(b"RCPT TO:<joe@local.test>\r\n" * 1000)
            replies += [c.file.readline()[:9] for _ in range(1000)]
        assert replies == [b"250 2.1.5"] * 20000 + [b"452 4.5.3"] * 80000
        assert c.ask("DATA").startswith("354")
        assert c.ask("x", ".").startswith("250 2.0.0")
    assert sum(line.startswith("ET") for line in server.place.sink_lines()) == 20000


@pytest.mark.parametrize("seed", range(5))
def test_garbage(server, seed):
    server.pool(prefix=SMALL)
    chance = random.Random(seed)
    words = [b"EHLO", b"MAIL FROM:", b"RCPT TO:", b"DATA", b"\r\n", b"\r", b"\n", b".", b"<", b">", b"@", b"a", b" ", b"\0", b"\"", b"\\", b"[", b"\xff"]
    with server.connect() as c:
        try:
            c.socket.sendall(b"".join(chance.choice(words) for _ in range(200000)))
            c.say("", ".", "QUIT")
            while c.hear() is not None:
                pass
        except OSError:
            pass
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")


# ---- clients that go

@pytest.mark.parametrize("reset", [False, True])
def test_gone_at_every_point(server, reset):
    """Nothing is queued without its final dot, and with it at most once; the pool lives on."""
    server.pool()
    whole = DIALOG.index(b"\r\n.\r\n") + 5
    for cut in range(len(DIALOG) + 1):
        c = server.connect()
        c.socket.sendall(DIALOG[:cut])
        if not reset:
            c.socket.shutdown(1)
            while c.hear() is not None:
                pass
        c.close(reset=reset)
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
    complete = len(DIALOG) + 1 - whole
    if reset:
        assert server.queued() <= complete + 1   # a reset overtakes what was sent
    else:
        assert eventually(lambda: server.queued() == complete + 1)
    assert "killed" not in server.log()


def test_gone_within_reply_group(server):
    server.pool(maxcommands=1000000)
    for _ in range(50):
        with server.connect() as c:
            c.socket.sendall(b"EHLO c.test\r\n" + b"HELP\r\n" * 2000)
            c.close(reset=True)
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")


# ---- clients that are slow

def test_slow_clients_do_not_hold_up_others(server):
    server.pool(smtpdsessions=30)
    idle = [server.connect() for _ in range(10)]
    half = [server.connect() for _ in range(5)]
    for c in half:
        c.greet()
        c.ask("MAIL FROM:<a@b.test>")
        c.ask("RCPT TO:<joe@local.test>")
        c.ask("DATA")
        c.socket.sendall(b"half a li")
    for _ in range(30):
        with server.connect() as c:
            assert c.greet().mail().startswith("250 ")
    for c in half:
        assert c.ask("ne", ".").startswith("250 ")
    for c in idle + half:
        c.close()


@pytest.mark.parametrize("stage", ["command", "data"])
def test_dripping_is_no_progress(server, stage):
    """An octet now and then does not keep a session for ever."""
    server.pool(timeoutsmtpd=2)

    def drip():
        with server.connect() as c:
            c.hear()
            for line in ("EHLO client.test", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@local.test>", "DATA")[:1 if stage == "command" else 4]:
                c.ask(line)
            with pytest.raises(OSError):
                for _ in range(600):
                    c.socket.sendall(b"x")
                    time.sleep(0.2)

    at_last(drip, lambda: f"timeout after {'EHLO' if stage == 'command' else 'DATA'} from" in server.log())


def test_client_that_does_not_read(server):
    server.pool(timeoutsmtpd=1, maxcommands=1000000000)

    def flood():
        with server.connect(receive_buffer=4096) as c, pytest.raises(OSError):
            while True:
                c.socket.sendall(b"HELP\r\n" * 10000)

    at_last(flood, lambda: "timeout after HELP from" in server.log())


# ---- the pool under pressure

def test_full_pool_says_so(server):
    server.pool(smtpdsessions=3)
    held = [server.connect().greet() for _ in range(3)]
    with server.connect() as c:
        assert c.hear().startswith("421 4.3.2")
        assert c.hear() is None
    assert eventually(lambda: "reject: CONNECT from unknown[127.0.0.1]: 421 4.3.2" in server.log())
    assert held[1].mail().startswith("250 ")
    held[0].close()

    def served():
        with server.connect() as c:
            return c.hear().startswith("220")
    assert eventually(served)
    for c in held[1:]:
        c.close()


def test_bound_is_kept(server):
    pool = server.pool(smtpdsessions=5)
    held = [server.connect() for _ in range(25)]
    greeted = 0
    for c in held:
        greeted += c.hear().startswith("220")
    assert greeted == 5
    assert len(sessions(pool.pid)) == 5
    for c in held:
        c.close()


def test_pool_grows_and_shrinks(server):
    pool = server.pool(smtpdsessions=60)
    held = [server.connect().greet() for _ in range(40)]
    assert eventually(lambda: len(sessions(pool.pid)) >= 40)
    for c in held:
        c.say("QUIT")
        c.close()
    assert eventually(lambda: len(sessions(pool.pid)) < 40)


def limit_descriptors(pid, count):
    """The soft limit of a running process, by one of its own account: root needs CAP_SYS_RESOURCE for it."""
    subprocess.run(["prlimit", f"--pid={pid}", f"--nofile={count}:"], check=True, user="nobody" if os.getuid() == 0 else None)


def connections(port):
    """Those at a port that its program has not closed."""
    with open("/proc/net/tcp") as f:
        rows = [line.split() for line in f.readlines()[1:]]
    return [row for row in rows if int(row[1].split(":")[1], 16) == port and row[3] in ("01", "08")]   # established; the client has closed


def test_descriptors_exhausted(server):
    """EMFILE at accept: pause, do not spin, and serve again when there are some."""
    pool = server.pool()
    server.connect().greet().close()
    # a session that still has its socket would be given room for one connection more
    assert eventually(lambda: "disconnect from" in server.log() and not connections(server.port))
    everybody = lambda: [pool.pid, *sessions(pool.pid)]  # noqa: E731
    low = {p: len(os.listdir(f"/proc/{p}/fd")) for p in everybody()}
    for p, n in low.items():
        limit_descriptors(p, n)
    c = Mouth(server.port)
    assert eventually(lambda: "cannot accept a connection" in server.log())
    calm(everybody, window=1.5, share=0.1)
    for p in everybody():
        limit_descriptors(p, 256)
    assert c.greet().mail().startswith("250 ")
    c.close()


def test_crashed_session_is_replaced(server):
    pool = server.pool(smtpdsessions=8)
    for _ in range(10):
        with server.connect() as c:
            c.greet()
            victims = sessions(pool.pid)
            for p in victims:
                os.kill(p, signal.SIGKILL)
            assert c.hear() is None
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
    assert eventually(lambda: "was killed by signal 9" in server.log())


def test_no_fork_storm(server):
    """Sessions that cannot even start are tried ever more seldom."""
    pool = server.pool()
    server.connect().greet().close()
    limit_descriptors(pool.pid, 5)   # none is left for what a session needs to wait
    for p in sessions(pool.pid):
        os.kill(p, signal.SIGKILL)
    time.sleep(3)
    assert eventually(lambda: server.log().count("ended with exit code 111") >= 4)
    assert server.log().count("ended with exit code 111") < 60, server.log()
    limit_descriptors(pool.pid, 256)
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")


# ---- signals

def test_terminate(server):
    """Idle clients hear 421 at once, a message within DATA is finished first, and all are gone."""
    pool = server.pool()
    with server.connect() as idle, server.connect() as busy:
        idle.greet()
        busy.greet()
        for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<joe@local.test>", "DATA"):
            busy.ask(line)
        busy.say("Subject: x")
        pool.send_signal(signal.SIGTERM)
        assert idle.hear().startswith("421 4.3.2")
        assert idle.hear() is None
        idle.close()
        time.sleep(0.3)
        assert busy.ask("", "x", ".").startswith("250 2.0.0")
        assert busy.hear().startswith("421 4.3.2")
    assert pool.wait(120) == 0
    assert server.queued() == 1


def test_terminate_within_commit(server):
    """The client's message is on its way to disk: it gets its answer first."""
    pool = server.pool(orders=["delay 2000"])
    with server.connect() as c:
        c.greet()
        for line in ("MAIL FROM:<a@b.test>", "RCPT TO:<joe@local.test>", "DATA"):
            c.ask(line)
        c.say("x", ".")
        time.sleep(0.2)
        pool.send_signal(signal.SIGTERM)
        assert c.hear().startswith("250 2.0.0")
        assert c.hear().startswith("421 4.3.2")
    assert pool.wait(120) == 0
    assert server.queued() == 1


def test_reload(server):
    pool = server.pool()
    with server.connect() as old:
        old.greet()
        with open(f"{server.place.etc}/me", "w") as f:
            f.write("new.test\n")
        before = set(sessions(pool.pid))
        pool.send_signal(signal.SIGHUP)

        def renewed():
            with server.connect() as c:
                return c.hear().startswith("220 new.test")
        assert eventually(renewed)
        assert eventually(lambda: len(before & set(sessions(pool.pid))) == 1)     # the one that serves `old`
        for _ in range(10):
            assert renewed()
        assert old.mail().startswith("250 ")
        assert old.ask("EHLO x").startswith("250-mx.test")
    with open(f"{server.place.etc}/maxrcpt", "w") as f:
        f.write("nonsense\n")
    pool.send_signal(signal.SIGHUP)
    assert eventually(lambda: "maxrcpt:1" in server.log())
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")


def test_parent_killed(server):
    """Its sessions end, so that a new parent can bind."""
    pool = server.pool()
    with server.connect() as c:
        c.greet()
        processes = sessions(pool.pid)
        pool.kill()
        pool.wait()
        assert c.hear().startswith("421 4.3.2")
    assert eventually(lambda: not any(os.path.exists(f"/proc/{p}") for p in processes))


def test_enqueue_killed_between_messages(server):
    pool = server.pool()
    with server.connect() as c:
        c.greet()
        assert c.mail().startswith("250 ")
        for session in sessions(pool.pid):
            for child in children(session):
                os.kill(child, signal.SIGKILL)
        reply = c.mail()
        assert reply.startswith("250 ") or reply.startswith("451 4.3.0")
        assert c.mail().startswith("250 ")
    assert server.queued() >= 2
