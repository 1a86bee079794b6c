"""Filter programs: what they see, what their exit codes and words become, their limits, and what happens when they or filterd fail."""
import contextlib
import os
import re
import signal
import socket
import subprocess
import threading

import pytest
from conftest import Mouth, eventually, free_port
from house import House as AuthHouse

import records

PROGRAMS = ["smtpd/smtpd", "smtpd/filterd", "queue/enqueue", "queue/queued", "queue/tappal"]
SETTINGS = {"me": "mx.test", "locals": "local.test", "users": "=joe@local.test:joe:4711:4711:/nonexistent/joe:::", "clients": "127.0.0.1", "smtpdsessions": "60",
            "databytes": "0"}
PATIENCE = 120
BROKEN = "451 4.3.0 The message cannot be judged now, try again later"


class House(AuthHouse):
    """queued, filterd, and a pool of smtpd. The program `run` does what the case named by its argument says."""

    def open(self):
        self.cases, self.out = f"{self.root}/cases", f"{self.root}/out"
        os.makedirs(self.cases)
        os.makedirs(self.out)
        os.makedirs(f"{self.root}/programs")
        os.chmod(self.out, 0o777)
        self.program = self.script("run", f'cd {self.out}\n. {self.cases}/$1')
        for key, value in SETTINGS.items():
            self.set(key, value)
        self.set("filters", f"{self.program} only")
        self.start_queued()
        self.start_filterd()
        self.port = free_port()
        self.smtpd = self.start("smtpd", "-l", f"127.0.0.1:{self.port}")
        assert eventually(lambda: "ready" in self.log("smtpd"), PATIENCE), self.log("smtpd")

    def start_filterd(self):
        before = self.log("filterd").count("ready")
        self.filterd = self.start("filterd")
        assert eventually(lambda: self.log("filterd").count("ready") > before, PATIENCE), self.log("filterd")

    def script(self, name, text, mode=0o755):
        path = f"{self.root}/programs/{name}"
        with open(path, "w") as f:
            f.write(f"#!/bin/sh\n{text}\n")
        os.chmod(path, mode)
        return path

    def case(self, name, text):
        with open(f"{self.cases}/{name}", "w") as f:
            f.write(text + "\n")

    def use(self, *filters, **settings):
        """These programs (lines of filters), and nothing left of a test before."""
        for name in ("filtertimeout", "filtermemory", "filterworkers"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self.etc}/{name}")
        for key, value in settings.items():
            self.set(key, value)
        self.set("filters", filters or [f"{self.program} only"])
        subprocess.run(["rm", "-rf", self.out], check=True)
        os.mkdir(self.out)
        os.chmod(self.out, 0o777)
        before = self.log("filterd").count("settings read again")
        self.filterd.send_signal(signal.SIGHUP)
        assert eventually(lambda: self.log("filterd").count("settings read again") > before, PATIENCE)

    def mail(self, body=("Subject: x", "", "y")):
        with Mouth(self.port, PATIENCE).greet() as c:
            return c.mail(body)

    def judged(self, text, body=("Subject: x", "", "y")):
        """The reply to a message when the only filter does this."""
        self.case("only", text)
        return self.mail(body)

    def noted(self, name):
        try:
            with open(f"{self.out}/{name}", "rb") as f:
                return f.read()
        except FileNotFoundError:
            return b""

    def queued(self, reply):
        """The octets that the queue has, its id as it was before it was known."""
        id = re.fullmatch(r"250 2\.0\.0 Ok: queued as (\w{12})", reply).group(1)
        found = eventually(lambda: self.octets(id), PATIENCE)
        return found.replace(id.encode(), b"." * 12)

    def octets(self, id):
        return subprocess.run([f"{self.libexec}/tappal", "queue", "show", "--raw", id], capture_output=True, timeout=PATIENCE).stdout

    def listed(self):
        return self.tappal("queue", "list", "--json").stdout.count("\n")


@pytest.fixture(scope="module")
def opened():
    with House("filters", PROGRAMS) as house:
        house.open()
        yield house


@pytest.fixture
def house(opened):
    opened.use()
    return opened


def is_gone(pid):
    try:
        with open(f"/proc/{int(pid)}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


# ---- what a program sees

def test_message_envelope_and_environment(house):
    """What it reads is what the queue has, octet for octet; the envelope is qmail-queue's; of the environment and the descriptors there is no more than said."""
    house.case("only", "env >env; ls /proc/self/fd >fds; cat >message; cat <&1 >envelope; id -un >who; ulimit -v >memory")
    with Mouth(house.port, PATIENCE).greet() as c:
        for line in ("MAIL FROM:<alice@example.org> RET=HDRS", "RCPT TO:<joe@local.test> NOTIFY=NEVER", "RCPT TO:<x@far.test>"):
            assert c.ask(line).startswith("250")
        assert c.ask("DATA").startswith("354")
        reply = c.ask("Subject: all", "", "..dot", "\x7f end", ".")
    message = house.noted("message")
    assert house.queued(reply) == message and message.startswith(b"Received: from client.test") and message.endswith(b"\r\n.dot\r\n\x7f end\r\n")
    assert house.noted("envelope") == b"Falice@example.org\0Tjoe@local.test\0Tx@far.test\0\0"
    environment = sorted(line for line in house.noted("env").split(b"\n") if line and not re.match(rb"PWD=|OLDPWD=|_=|SHLVL=", line))
    assert environment == [b"PATH=/usr/local/bin:/usr/bin:/bin", b"PROTO=TCP", b"RELAYCLIENT=", b"TCPREMOTEIP=127.0.0.1"]
    assert house.noted("fds").split() == [b"0", b"1", b"2", b"3", b"4"]   # 3 is ls's own
    assert house.noted("who") == b"tappal-filter\n" and house.noted("memory") == b"1048576\n"


def test_a_large_message_and_who_does_not_read(house):
    """From 256 KiB on it is a file; a program that leaves it alone hurts nobody, and one that tries to write to what it was given cannot."""
    tries = "(echo x >&0) 2>/dev/null && exit 31; (echo x >&1) 2>/dev/null && exit 31; (echo x >/proc/self/fd/0) 2>/dev/null && exit 31; "
    for body in (["Subject: big", ""] + ["z" * 900] * 600, ["Subject: small", "", "z"]):
        assert house.judged("exit 0", body).startswith("250 2.0.0")
        before = house.noted("message")
        reply = house.judged(tries + "cat >message", body)
        assert house.queued(reply) == house.noted("message") != before
    assert os.listdir(f"{house.spool}/draft") == []


def test_what_filterd_is_given_it_cannot_write_to(house):
    """A large message's file is open for reading alone there, whatever runs in it: the filters that follow, and others, see what smtpd wrote."""
    house.case("only", "echo here >here; while [ ! -e go ]; do sleep 0.1; done")
    with Mouth(house.port, PATIENCE).greet() as c:
        for line in ("MAIL FROM:<alice@example.org>", "RCPT TO:<joe@local.test>"):
            assert c.ask(line).startswith("250")
        assert c.ask("DATA").startswith("354")
        c.say("Subject: large", "", *["x" * 900] * 400, ".")
        assert eventually(lambda: house.noted("here"), PATIENCE)
        held = f"/proc/{house.filterd.pid}"
        drafts = [fd for fd in os.listdir(f"{held}/fd") if "/draft/" in os.readlink(f"{held}/fd/{fd}")]
        assert drafts
        for fd in drafts:
            with open(f"{held}/fdinfo/{fd}") as f:
                flags = next(int(line.split()[1], 8) for line in f if line.startswith("flags:"))
            assert flags & os.O_ACCMODE == os.O_RDONLY
        open(f"{house.out}/go", "w").close()
        assert c.hear().startswith("250")


def send_binary(house, octets):
    """The reply to a message of these octets."""
    with Mouth(house.port, PATIENCE).greet() as c:
        assert c.ask("MAIL FROM:<alice@example.org> BODY=BINARYMIME").startswith("250")
        assert c.ask("RCPT TO:<joe@local.test>").startswith("250")
        c.socket.sendall(b"BDAT %d LAST\r\n" % len(octets) + octets)
        return c.hear()


def test_every_octet_of_a_message(house):
    """Binary bodies, which have no lines and no line end at their end, reach program and queue as they came; so does an empty body."""
    house.case("only", "cat >message")
    for octets in (b"Subject: b\r\n\r\n\0\n.\r\r\n.", b"Subject: b\r\n\r\n" + bytes(range(256)) * 2000 + b"\n.\r", b"Subject: b\r\n\r\n", b"Subject: b\r\n"):
        found = house.queued(send_binary(house, octets))
        assert found == house.noted("message") and re.search(rb";\r\n\t[^\n]*\n", found).end() == len(found) - len(octets) and found.endswith(octets)


# ---- what it says

@pytest.mark.parametrize("does, reply", [
    ("exit 31", "554 5.7.1 The message is refused"),
    ("exit 11", "554 5.7.1 The message is refused"),
    ("exit 40", "554 5.7.1 The message is refused"),
    ("echo 'no such thing here' >&4; exit 31", "554 5.7.1 no such thing here"),
    ("echo '5.2.3 too long for us' >&4; exit 31", "554 5.2.3 too long for us"),
    ("echo '4.2.3 not its class' >&4; exit 31", "554 5.7.1 4.2.3 not its class"),
    ("exit 10", "451 4.7.1 The message is not taken now, try again later"),
    ("exit 41", "451 4.7.1 The message is not taken now, try again later"),
    ("exit 99", "451 4.7.1 The message is not taken now, try again later"),
    ("echo 'come back' >&4; exit 111", "451 4.7.1 come back"),
    ("echo 'Dwe do not want it' >&4; exit 82", "554 5.7.1 we do not want it"),
    ("echo 'Z4.2.2 we cannot have it' >&4; exit 82", "451 4.2.2 we cannot have it"),
    ("echo 'Xwhat' >&4; exit 82", "451 4.7.1 Xwhat"),
    ("exit 82", "451 4.7.1 The message is not taken now, try again later"),
    (r"printf '\n250 fine\n' >&4; exit 31", "554 5.7.1 The message is refused"),
    (r"printf 'a\033b\377%%s\r\n250 fine\n' >&4; exit 31", "554 5.7.1 a?b?%s"),
    ("head -c 5000 /dev/zero | tr '\\0' x >&4; exit 31", "554 5.7.1 " + "x" * 300),
    ("kill -9 $$", BROKEN),
    ("kill -SEGV $$", BROKEN),
])
def test_codes_and_words(house, does, reply):
    before = house.log("smtpd").count("check=filters/run")
    assert house.judged(does) == reply
    assert house.log("smtpd").count("check=filters/run") == before + 1


def test_words_for_the_log(house):
    """What it says on descriptor 2 is for us alone; a flood neither stops it nor fills the log."""
    assert house.judged("echo 'for the postmaster' >&2; exit 31") == "554 5.7.1 The message is refused"
    assert house.judged("yes flood | head -c 3000000 >&2; echo over >&4; exit 31") == "554 5.7.1 over"
    log = house.log("filterd")
    assert "filter run says: for the postmaster" in log and "says more than 20 lines" in log and log.count("says: flood") == 20


def test_order_and_the_first_refusal(opened):
    opened.use(f"{opened.program} first", f"{opened.program}  second\tand its arguments", f"{opened.program} third")
    opened.case("first", "echo first >>order")
    opened.case("second", 'echo "second $*" >>order; echo "$(cat order | wc -l) were asked" >&4; exit 31')
    opened.case("third", "echo third >>order")
    assert opened.mail() == "554 5.7.1 2 were asked"
    assert opened.noted("order") == b"first\nsecond second and its arguments\n"
    opened.case("second", "echo again >>order")
    assert opened.mail().startswith("250 2.0.0")
    assert opened.noted("order").split(b"\n")[2:] == [b"first", b"again", b"third", b""]


def test_hold(opened):
    """The first who wants it is the reason; one behind him may still refuse. What is held is in the queue until it is released."""
    opened.use(f"{opened.program} first", f"{opened.program} second")
    opened.case("first", "echo 'looks\x01 odd' >&4; exit 83")
    opened.case("second", "echo 'odder' >&4; exit 83")
    id = re.search(r"queued as (\w+)", opened.mail()).group(1)
    assert eventually(lambda: "by filters/run: looks? odd. It is not tried" in opened.tappal("queue", "why", id).stdout, PATIENCE)
    assert "held by filters/run: looks? odd" in opened.log()
    assert "1 recipient released" in opened.tappal("queue", "release", id).stdout
    assert eventually(lambda: "It is tried until" in opened.tappal("queue", "why", id).stdout, PATIENCE)
    opened.case("second", "exit 31")
    assert opened.mail() == "554 5.7.1 The message is refused"


# ---- limits

def test_time_limit_ends_the_whole_group(opened):
    opened.use(filtertimeout="3")
    opened.case("only", "echo $$ >>pids; sleep 600 & echo $! >>pids; sh -c 'echo $$ >>pids; sleep 600; :'; exit 0")
    for _ in range(20):   # on a slow machine it may not come to its third process in time
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{opened.out}/pids")
        assert opened.mail() == BROKEN
        pids = opened.noted("pids").split()
        if len(pids) == 3:
            break
    assert len(pids) == 3
    assert eventually(lambda: all(is_gone(pid) for pid in pids), PATIENCE)
    assert "filter run: did not end within 3 seconds and was killed (filtertimeout)" in opened.log("filterd")


def test_whom_it_leaves_behind(house):
    assert house.judged("sleep 600 & echo $! >pid; exit 0").startswith("250 2.0.0")
    assert eventually(lambda: is_gone(house.noted("pid")), PATIENCE)


def test_memory_limit(opened):
    opened.use(filtermemory="64M")
    assert opened.judged("x=$(head -c 300000000 /dev/zero | tr '\\0' x); exit 0").startswith("451 ")   # dash says so, or dies of it
    assert opened.judged("ulimit -v >&4; exit 31") == "554 5.7.1 65536"


def test_three_at_a_time(opened):
    opened.use(filterworkers="3")
    os.mkdir(f"{opened.out}/now")
    os.chmod(f"{opened.out}/now", 0o777)
    opened.case("only", ">now/$$; echo . >>all; [ $(ls now | wc -l) -le 3 ] || >toomany; sleep 0.05; rm now/$$")
    replies = []
    threads = [threading.Thread(target=lambda: replies.append(opened.mail())) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert [r[:9] for r in replies] == ["250 2.0.0"] * 50
    assert opened.noted("all") == b".\n" * 50 and not os.path.exists(f"{opened.out}/toomany")


# ---- faults

@pytest.mark.parametrize("name, mode, says", [
    ("missing", None, "it does not exist"), ("plain", 0o644, "it may not be executed"), ("shared", 0o777, "others than root can change it"),
    ("team", 0o775, "others than root can change it"), ("nobodys", 0o755, "others than root can change it"), ("../out/open", 0o755, "others than root can replace it"),
    ("broken", 0o755, "cannot be executed: Exec format error"),
])
def test_programs_that_cannot_be_used(opened, name, mode, says):
    opened.use()
    path = f"{opened.root}/programs/{name}"
    if mode is not None:
        opened.script(name, "exit 0", mode)
    if name == "nobodys":
        os.chown(path, 65534, -1)
    if name == "broken":
        with open(path, "wb") as f:
            f.write(b"\x7fELF and no more")
    opened.set("filters", [path])
    check = opened.tappal("config", "check")
    assert (check.returncode, f"{opened.etc}/filters:1: {path}: {says}" in check.stderr) == ((0, False) if name == "broken" else (100, True)), check
    opened.filterd.send_signal(signal.SIGHUP)
    assert eventually(lambda: opened.mail() == BROKEN, PATIENCE)
    assert says in opened.log("filterd")


def test_filterd_dies_and_is_away(house):
    """Its message is not queued and its program ends; whoever comes while it is away is put off; with it back all is as before."""
    assert house.queued(house.judged("exit 0"))      # the list is a second behind: when this one is in it, all before are
    before, replies = house.listed(), []
    house.case("only", "echo $$ >pid; exec sleep 600")
    thread = threading.Thread(target=lambda: replies.append(house.mail()))
    thread.start()
    assert eventually(lambda: house.noted("pid").endswith(b"\n"), PATIENCE)
    house.kill(house.filterd)
    thread.join(PATIENCE)
    assert replies == [BROKEN] and house.mail() == BROKEN
    assert "filterd is not there" in house.log("smtpd") and "filterd gives no answer" in house.log("smtpd")
    assert eventually(lambda: is_gone(house.noted("pid")), PATIENCE)
    assert house.listed() == before
    house.start_filterd()
    assert house.judged("exit 0").startswith("250 2.0.0")


# ---- those who ask

@contextlib.contextmanager
def neighbour(house):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(PATIENCE)
        s.connect(f"{house.root}/run/tappal/filter")
        yield s


def ask(s, count=2):
    with open("/dev/null", "rb") as f:
        socket.send_fds(s, [records.encode("filter_ask", client="192.0.2.1", login="joe")], [f.fileno()] * count)


def test_who_asks_and_leaves(house):
    """The program ends with the question."""
    house.case("only", "echo $SMTPAUTHUSER $TCPREMOTEINFO $TCPREMOTEIP >env; echo $$ >pid; exec sleep 600")
    with neighbour(house) as s:
        ask(s)
        assert eventually(lambda: house.noted("pid").endswith(b"\n"), PATIENCE)
    assert eventually(lambda: is_gone(house.noted("pid")), PATIENCE)
    assert house.noted("env") == b"joe joe 192.0.2.1\n"


def test_hostile_questions(house):
    house.case("only", "sleep 600")
    with neighbour(house) as s:
        s.sendall(records.encode("filter_ask", client="192.0.2.1"))       # nothing with it
        assert s.recv(100) == b""
    with neighbour(house) as s:
        ask(s, 1)
        assert s.recv(100) == b""
    with neighbour(house) as s:
        ask(s)
        ask(s)                                                           # another one while it runs
        assert s.recv(100) == b""
    with neighbour(house) as s:
        s.sendall(records.encode("guard_ask"))
        assert s.recv(100) == b""
    with pytest.raises(OSError), socket.socket(socket.AF_UNIX) as s:
        os.seteuid(65534)
        try:
            s.connect(f"{house.root}/run/tappal/filter")
            ask(s)
            assert s.recv(100) == b""
            raise OSError
        finally:
            os.seteuid(0)
    assert house.judged("exit 0").startswith("250 2.0.0")


def test_own_mail_and_the_dry_run(house):
    """Who runs smtpd himself is not asked about; tappal session says who would be."""
    house.case("only", "exit 31")
    commands = ["EHLO x", "MAIL FROM:<a@b.test>", "RCPT TO:<joe@local.test>", "DATA", "Subject: x", "", "y", ".", "QUIT"]
    r = subprocess.run([f"{house.libexec}/smtpd"], input="".join(f"{c}\r\n" for c in commands), capture_output=True, text=True, timeout=PATIENCE, user="nobody", env={"PROTO": "TCP"})
    assert "250 2.0.0 Ok: queued" in r.stdout, r
    text = house.tappal("session", "--ip", "127.0.0.1", "--helo", "client.test", "--from", "a@b.test", "--to", "joe@local.test").stdout
    assert re.search(r"filter +not asked +\S+/filters:1 +filterd runs \S+/run only when the message is whole", text), text
