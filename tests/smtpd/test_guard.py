"""guard with the real smtpd: limits over all processes and restarts, bans, greylisting, what happens without it, hostile neighbours and floods."""
import json
import os
import signal
import socket
import subprocess
import threading
import time

import pytest
from conftest import Mouth, eventually, free_port, sessions
from instance import Instance

import records

PROGRAMS = ["smtpd/smtpd", "smtpd/guard", "queue/enqueue", "queue/queued", "queue/tappal"]
SETTINGS = {"me": "mx.test", "locals": "local.test", "users": "=joe@local.test:joe:4711:4711:/nonexistent/joe:::", "rcpthosts": "far.test", "maxerrors": "1000",
            "smtpdsessions": "40", "guardrows": "2000"}
OURS = ("limits", "guardexempt", "tarpitafter", "tarpitdelay", "hangupafter", "banafter", "bantime", "unknownwindow", "greylist", "greylistdelay",
        "greylistexempt", "greylistallow", "xclientfrom", "checkours", "clients", "smtpdreuse", "milters", "checkearly", "checkpipelining")
RCPT, FAR, NOBODY = "RCPT TO:<joe@local.test>", "RCPT TO:<x@far.test>", "RCPT TO:<nobody@local.test>"
CONNECT, MAIL, TO, UNKNOWN, END = range(5)
GO, OVER, TARPIT, HANGUP, BANNED, GREY, GREY_LOG = range(7)


class House(Instance):
    def up(self, **settings):
        """guard from nothing and a pool of smtpd, with these settings alone over SETTINGS."""
        for key in OURS:
            if os.path.exists(f"{self.etc}/{key}"):
                os.unlink(f"{self.etc}/{key}")
        for key, value in {**SETTINGS, **settings}.items():
            self.set(key, value)
        for name in ("smtpd", "guard"):
            open(f"{self.root}/{name}.log", "w").close()
        self.forget_warnings()
        for name in os.listdir(f"{self.spool}/guard"):
            os.unlink(f"{self.spool}/guard/{name}")
        self.guard = self.smtpd = None
        self.start_guard()
        return self.start_smtpd()

    def start_guard(self):
        before = self.log("guard").count("ready")
        self.guard = self.start("guard")
        assert eventually(lambda: self.log("guard").count("ready") > before or self.guard.poll() is not None)
        assert self.guard.poll() is None, self.log("guard")

    def start_smtpd(self):
        before = self.log("smtpd").count("ready")
        self.port = free_port()
        self.smtpd = self.start("smtpd", "-l", f"127.0.0.1:{self.port}")
        assert eventually(lambda: self.log("smtpd").count("ready") > before), self.log("smtpd")
        return self

    def end(self, process, sig=signal.SIGTERM):
        process.send_signal(sig)
        assert process.wait(120) in (0, -sig)

    def down(self):
        for process in (self.smtpd, self.guard):
            if process is not None and process.poll() is None:
                self.end(process)

    def client(self, source="127.0.0.1"):
        return Mouth(self.port, timeout=60, source=source)

    def first(self, source="127.0.0.1"):
        """The first reply to a client, who leaves then."""
        with self.client(source) as c:
            return c.hear()

    def hello(self, source="127.0.0.1"):
        return self.client(source).greet()

    def alone(self, *commands, source="127.0.0.1", **keys):
        """A session of a process of its own."""
        return subprocess.run([f"{self.libexec}/smtpd"], input="".join(f"{c}\r\n" for c in ("EHLO c.test", *commands)), capture_output=True, text=True, timeout=120,
                              env={"TCPREMOTEIP": source, "PROTO": "TCP"}, **keys)

    def once(self, *commands, source="127.0.0.1"):
        """Its last reply."""
        return self.alone(*commands, source=source).stdout.splitlines()[-1]

    def tappal(self, *arguments):
        return subprocess.run([f"{self.libexec}/tappal", *arguments], capture_output=True, text=True, timeout=120)

    def listed(self, *options):
        return [json.loads(line) for line in self.tappal("guard", "list", "--json", *options).stdout.splitlines()]

    def written(self):
        """Wait until what is counted now is on disk. Commits follow one another: when a count that came afterwards, and after another one, stands in
        the file, then the commit with those before is whole."""
        for marker in ("198.51.100.201", "198.51.100.202"):
            with self.neighbour() as n:
                n.ask(MAIL, client=marker)
            assert eventually(lambda: marker.encode() in open(f"{self.spool}/guard/state", "rb").read())

    def neighbour(self):
        return Neighbour(f"{self.root}/run/tappal/guard")


class Neighbour:
    """Who speaks to guard in records; as root, who may ask everything."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(120)
        self.socket.connect(path)
        self.stream = records.Stream(self.socket.fileno())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def ask(self, event, client="192.0.2.1", **fields):
        self.socket.sendall(records.encode("guard_ask", event=event, client=client, **fields))
        return self.stream.want("guard_answer") if event != END else None


@pytest.fixture(scope="module")
def house():
    with House("guard", PROGRAMS) as house:
        house.start_queued()
        yield house


def settings(**values):
    return pytest.mark.parametrize("served", [values], indirect=True)


# ---- limits

@settings(limits="address connections 2")
def test_connections_at_a_time(served):
    with served.hello() as a, served.hello():
        reply = served.first()
        assert reply == "421 4.7.0 mx.test Too many connections at a time from your address: 3, and 2 are allowed"
        assert "reject: CONNECT from unknown[127.0.0.1]: 421 4.7.0 mx.test Too many connections at a time" in served.log("smtpd")
        assert "check=limits" in served.log("smtpd")
        with served.hello("127.0.0.2"):
            pass
        assert a.ask("QUIT").startswith("221")
        assert eventually(lambda: served.first().startswith("220"))


@settings(limits="address connections 2")
def test_a_process_that_dies_lets_its_connection_go(served):
    a, b = served.hello(), served.hello()
    assert served.first().startswith("421")
    for pid in sessions(served.smtpd.pid):
        os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: served.first() or "").startswith("220")
    a.close()
    b.close()


@settings(limits=["address messages 3/1h", "network messages 5/1h"])
def test_messages_in_pool_and_single_processes(served):
    """One count, whoever serves; MAIL counts."""
    for _ in range(2):
        with served.hello() as c:
            assert c.mail().startswith("250")
    assert served.once("MAIL FROM:<a@example.org>").startswith("250")
    with served.hello() as c:
        reply = c.ask("MAIL FROM:<a@example.org>")
        assert reply.startswith("450 4.7.1 Too many messages from your address: 4 within 1h, and 3 are allowed; come again in "), reply
        assert c.ask("NOOP").startswith("250")
    assert served.once("MAIL FROM:<a@example.org>").startswith("450 4.7.1 Too many messages from your address: 5 ")
    assert served.once("MAIL FROM:<a@example.org>", source="127.0.0.9").startswith("450 4.7.1 Too many messages from your network: 6 ")
    assert served.once("MAIL FROM:<a@example.org>", source="127.0.1.9").startswith("250")
    assert eventually(lambda: "reject: MAIL from unknown[127.0.0.1]: 450 4.7.1 Too many messages from your address: 4 within 1h" in served.log("smtpd"))


@settings(limits=["address messages 1/1h", "address messages none 127.0.0.2", "address messages 2/1h 127.0.0.3"], guardexempt="127.0.0.4", clients="127.0.0.5")
def test_exceptions(served):
    for source, many in (("127.0.0.1", 1), ("127.0.0.2", 4), ("127.0.0.3", 2), ("127.0.0.4", 4), ("127.0.0.5", 4)):
        replies = [served.once("MAIL FROM:<a@example.org>", source=source)[:3] for _ in range(4)]
        assert replies == ["250"] * many + ["450"] * (4 - many), source


@settings(limits=["address recipients 3/1h", "domain messages 2/1h far.test"])
def test_recipients_and_domains(served):
    with served.hello() as c:
        assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
        assert c.ask(FAR).startswith("250") and c.ask(FAR).startswith("250")    # one message to the domain
        assert c.ask(RCPT).startswith("250")
        reply = c.ask(RCPT)
        assert reply.startswith("452 4.7.1 Too many recipients from your address: 4 within 1h, and 3 are allowed; come again in "), reply
    for source, expected in (("127.0.0.2", "250"), ("127.0.0.3", "452 4.7.1 Too many messages to this domain: 3 within 1h, and 2 are allowed")):
        with served.hello(source) as c:
            assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
            assert c.ask(FAR).startswith(expected)
            assert c.ask(RCPT).startswith("250")


@settings(limits="domain messages 2/1h")
def test_messages_to_a_domain(served):
    """Each message of a session counts, and its recipients do not: whoever the client is."""
    with served.hello() as c:
        for expected in ("250", "250", "452 4.7.1 Too many messages to this domain: 3 within 1h"):
            assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
            for _ in range(2):
                assert c.ask(FAR).startswith(expected)
            assert c.ask("RSET").startswith("250")
    with served.neighbour() as n:   # a program of this host has no address
        for expected in (GO, GO, OVER):
            assert n.ask(MAIL, client="").verdict == GO
            assert [n.ask(TO, client="", recipient=f"{who}@local.test").verdict for who in "abc"] == [expected] * 3


@settings(limits=["address errors 3/1h", "network octets 1K/1h"])
def test_errors_and_octets(served):
    with served.hello() as c:
        for _ in range(3):
            assert c.ask("NONSENSE").startswith("500")
        reply = c.ask("MAIL FROM:<a@example.org>")
        assert reply.startswith("450 4.7.1 Too many errors from your address: 3 within 1h, and 3 are allowed"), reply
    assert eventually(lambda: served.first().startswith("421 4.7.0 mx.test Too many errors from your address: 3 "))
    with served.hello("127.0.0.2") as c:
        assert c.mail(("x" * 900, "y" * 200)).startswith("250")
    assert eventually(lambda: served.first("127.0.0.3").startswith("421 4.7.0 mx.test Too many octets from your network: "))


@settings(limits="address messages 2/1h")
def test_counts_survive_restarts(served):
    assert served.once("MAIL FROM:<a@example.org>").startswith("250")
    served.end(served.guard)
    served.start_guard()
    served.end(served.smtpd)
    served.start_smtpd()
    with served.hello() as c:
        assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
        served.written()
        served.end(served.guard, signal.SIGKILL)
        served.start_guard()
        assert c.ask("RSET").startswith("250")
        assert c.ask("MAIL FROM:<a@example.org>").startswith("450 4.7.1 Too many messages from your address: 3 ")   # the session asks the new one


FROM_WHOM = {"address": "from your address", "network": "from your network", "login": "by your login", "domain": "to this domain"}
LIMITS = [(subject, what) for subject, whats in (("address", "connections messages recipients errors octets"), ("network", "connections messages recipients errors octets"),
                                                 ("login", "messages recipients errors octets"), ("domain", "messages recipients")) for what in whats.split()]


def limit_line(i, subject, what):
    who = {"login": f"l{i}", "domain": f"d{i}.test"}.get(subject, f"10.{i}.0.0/16")
    return f"{subject} {what} {'2K' if what == 'octets' else '2'}/1d {who}"


def one_session(served, i, subject, what, n):
    """The nth visit of this row's client: all replies."""
    address = f"10.{i}.{n if subject in ('login', 'domain') else 0}.{1 if subject == 'address' else n}"
    login = f"l{i}" if subject == "login" else ""
    with served.hello() as c:
        replies = [c.ask(f"XCLIENT ADDR={address}" + (f" LOGIN={login}" if login else ""))]
        for line in ("EHLO c.test", f"MAIL FROM:<{login or 'a'}@local.test>", f"RCPT TO:<x@d{i}.test>", *(["DATA", "x" * 900 + "\r\n" + "y" * 200 + "\r\n."] if what == "octets" else []),
                     *(["NONSENSE"] if what == "errors" else []), "QUIT"):
            if replies[-1] is None or replies[-1].startswith(("421", "450", "452")):
                break
            replies.append(c.ask(line))
        return replies


@settings(limits=[limit_line(i, *row) for i, row in enumerate(LIMITS)], rcpthosts=[f"d{i}.test" for i in range(len(LIMITS))], xclientfrom="127.0.0.1", checkours="off")
def test_each_limit_over_processes_and_a_restart(served):
    """Two visits to two smtpds, guard begins anew, and the third is one too many."""
    first, port = served.smtpd, served.port
    served.start_smtpd()
    try:
        for n, at in ((1, port), (2, served.port)):
            served.port, other = at, served.port
            for i, row in enumerate(LIMITS):
                replies = one_session(served, i, *row, n)
                assert [r[:1] for r in replies if r[:1] not in ("2", "3")] == (["5"] if row[1] == "errors" else []), (row, n, replies)
            served.port = other
        counted = {f"{subject} {what}": 2048 if what == "octets" else 2 for subject, what in LIMITS}
        assert eventually(lambda: {r["what"]: r["count"] for r in served.listed("--all") if r["count"] >= counted[r["what"]]}.keys() == counted.keys()), served.listed("--all")
        served.end(served.guard)
        served.start_guard()
        for i, row in enumerate(LIMITS):
            last = one_session(served, i, *row, 3)[-1]
            assert f"Too many {row[1]} {FROM_WHOM[row[0]]}: " in last and "within 1d, and 2" in last, (row, last)
    finally:
        served.end(first)


@settings(limits="address connections 1")
def test_who_is_there_after_a_restart(served):
    with served.hello() as c:
        served.end(served.guard, signal.SIGKILL)
        served.start_guard()
        assert c.ask("NOOP").startswith("250")
        assert served.first().startswith("220")      # what is not asked about is not known
    assert eventually(lambda: served.first().startswith("220"))


@settings(limits=["address messages 1/1h", "address messages 3/1h 127.0.0.0/8"])
def test_settings_are_read_again(served):
    for expected in ("250", "250"):
        assert served.once("MAIL FROM:<a@example.org>").startswith(expected)
    served.set("limits", "address messages 1/1h")
    served.guard.send_signal(signal.SIGHUP)
    assert eventually(lambda: "settings read again: 1 limits" in served.log("guard"))
    assert served.once("MAIL FROM:<a@example.org>").startswith("450 4.7.1 Too many messages from your address: 3 within 1h, and 1 are allowed")


def dry(served, ip="127.0.0.1", sender="a@example.org", rcpt="joe@local.test", login=None, **keys):
    """What tappal session says: its reply, and the steps by their names."""
    r = subprocess.run([f"{served.libexec}/tappal", "session", "--json", "--ip", ip, "--helo", "c.test", "--from", sender, "--to", rcpt,
                        *(["--auth", login] if login else [])], capture_output=True, text=True, timeout=120, **keys)
    answer = json.loads(r.stdout)
    return answer["reply"], {step["step"]: step for step in answer["steps"]}


@settings(limits=["# of the night", "address messages 2/1h", "login recipients 1/1h", "domain messages 1/1h far.test"], banafter="3", bantime="1h", greylist="defer",
          greylistdelay="1h", milters="inet:127.0.0.1:9 name=nobody default=reject", checkearly="reject", checkpipelining="log")
def test_dry_run_asks_without_counting(served):
    for _ in range(3):
        reply, steps = dry(served)
        assert reply.startswith("451 4.7.1 Greylisted: "), reply
        assert steps["guard at MAIL"]["verdict"] == "pass" and steps["greylist memory"]["verdict"] == "new"
    assert served.listed("--all") == []
    assert steps["guard at RCPT"]["decided_by"] == f"{served.etc}/greylist:1"
    assert steps["checkearly"]["verdict"] == "depends" and "it gets: 521 5.5.1" in steps["checkearly"]["why"] and steps["checkpipelining"]["verdict"] == "depends"
    assert steps["milter"]["decided_by"] == f"{served.etc}/milters:1" and "nobody" in steps["milter"]["why"] and "550 5.7.1" in steps["milter"]["why"]
    served.set("milters", "")
    served.set("checkearly", "off")
    assert served.once("MAIL FROM:<a@example.org>", RCPT).startswith("451 4.7.1 Greylisted")
    assert dry(served)[1]["greylist memory"]["verdict"] == "waiting"
    assert dry(served, sender="a@Example.ORG", rcpt="joe@LOCAL.test")[1]["greylist memory"]["verdict"] == "waiting"    # as smtpd spells them
    assert served.once("MAIL FROM:<a@example.org>").startswith("250")
    said = served.once("MAIL FROM:<a@example.org>")
    reply, steps = dry(served)
    assert said.startswith("450 4.7.1 Too many messages from your address: 3 within 1h, and 2 are allowed")
    assert reply.startswith("450 4.7.1 Too many messages from your address: 4 within 1h, and 2 are allowed")
    assert steps["guard at MAIL"] == {"step": "guard at MAIL", "verdict": "defer", "decided_by": f"{served.etc}/limits:2", "why": reply}
    reply, steps = dry(served, "127.0.2.1", rcpt="nobody@local.test")
    assert reply.startswith("550 5.1.1") and steps["unknown recipient"]["verdict"] == "pass"
    served.once("MAIL FROM:<a@example.org>", *[NOBODY] * 3, source="127.0.2.1")
    reply, steps = dry(served, "127.0.2.1")
    assert reply.startswith("421 4.7.0 mx.test Too many unknown recipients") and steps["guard at CONNECT"]["verdict"] == "hang up"
    assert steps["guard at CONNECT"]["decided_by"] == f"{served.etc}/banafter:1"
    assert dry(served, user="nobody")[1]["guard"]["why"] == "guard answers root alone"
    served.end(served.guard)
    assert "sessions go on without" in dry(served)[1]["guard"]["why"]


# ---- unknown recipients

@settings(banafter="4", bantime="1h")
def test_ban(served):
    with served.hello() as c:
        assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
        for _ in range(3):
            assert c.ask(NOBODY).startswith("550 5.1.1")
        assert c.ask(NOBODY).startswith("550 5.1.1")
        assert c.hear().startswith("421 4.7.0 mx.test Too many unknown recipients from your address: 4 within 1h, and 3 are allowed; come again in ")
        assert c.hear() is None
    assert served.first().startswith("421 4.7.0 mx.test Too many unknown recipients")
    assert served.once("NOOP").startswith("421 4.7.0 mx.test Too many unknown recipients")
    assert served.first("127.0.0.2").startswith("220")
    assert "ban: 127.0.0.1 for 3600s: 4 unknown recipients within 3600s (banafter 4)" in served.log("guard")
    (row,) = served.listed()
    assert (row["what"], row["who"], row["count"], row["over"]) == ("ban", "127.0.0.1", 4, True)
    assert "127.0.0.1" in served.tappal("guard", "list").stdout
    served.end(served.guard)
    served.start_guard()
    assert served.first().startswith("421")
    r = served.tappal("guard", "forget", "127.0.0.1")
    assert r.returncode == 0 and r.stdout == "1 forgotten\n", r
    assert served.first().startswith("220")
    assert served.tappal("guard", "forget", "127.0.0.1").returncode == 1
    assert served.tappal("guard", "list").returncode == 1


@settings(tarpitafter="2", tarpitdelay="1", hangupafter="3")
def test_tarpit_and_hangup(served):
    with served.hello() as c:
        assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
        assert c.ask(NOBODY).startswith("550")
        assert "tarpit:" not in served.log("smtpd")
        assert c.ask(NOBODY).startswith("550")
        assert "tarpit: RCPT from unknown[127.0.0.1] answered 1000 ms late; 2 unknown recipients within 3600s (tarpitafter 2)" in served.log("smtpd")
        assert c.ask(NOBODY).startswith("550")
        assert c.hear().startswith("421 4.7.0")
        assert c.hear() is None
    assert served.first().startswith("220")    # that is no ban


@settings(banafter="1", clients="127.0.0.1", guardexempt="127.0.0.2")
def test_own_clients_are_not_banned(served):
    for source in ("127.0.0.1", "127.0.0.2"):
        with served.hello(source) as c:
            assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
            assert c.ask(NOBODY).startswith("550")
            assert c.ask("NOOP").startswith("250")


# ---- greylisting

@settings(greylist="defer", greylistdelay="1", greylistallow="2", greylistexempt=["127.0.0.8"], clients="127.0.0.5")
def test_greylist(served):
    def rcpt(sender, source="127.0.0.1", to=RCPT):
        with served.hello(source) as c:
            assert c.ask(f"MAIL FROM:<{sender}>").startswith("250")
            return c.ask(to)

    reply = rcpt("a@example.org")
    assert reply.startswith("451 4.7.1 Greylisted: this network has not sent from this sender to this recipient before; come again in 1s"), reply
    assert "reject: RCPT from unknown[127.0.0.1]: 451 4.7.1 Greylisted" in served.log("smtpd") and "check=greylist" in served.log("smtpd")
    assert rcpt("a@example.org", "127.0.0.8").startswith("250") and rcpt("a@example.org", "127.0.0.5").startswith("250")
    assert eventually(lambda: rcpt("a@example.org", "127.0.0.7").startswith("250"))      # another address of the network
    assert rcpt("b@example.org").startswith("451")
    assert rcpt("", to=FAR).startswith("451")
    served.end(served.guard)
    served.start_guard()
    assert rcpt("a@example.org").startswith("250")
    assert eventually(lambda: rcpt("b@example.org").startswith("250"))
    assert rcpt("new@example.org").startswith("250")                                        # two came again
    assert {row["what"] for row in served.listed("--all")} == {"greylist sender", "greylist network"}


@settings(greylist="log", greylistdelay="1h")
def test_greylist_only_logs(served):
    with served.hello() as c:
        assert c.mail().startswith("250")
    assert "reject_warning: RCPT from unknown[127.0.0.1]: 451 4.7.1 Greylisted" in served.log("smtpd")


# ---- guard away

def test_nothing_set_nothing_asked(served):
    served.end(served.guard)
    with served.hello() as c:
        assert c.mail().startswith("250")
        assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
        assert c.ask(NOBODY).startswith("550")
    assert "guard" not in served.log("smtpd")


@settings(limits="address messages 1/1h", banafter="1")
def test_without_guard_mail_goes_on(served):
    with served.hello() as c:
        assert c.ask("MAIL FROM:<a@example.org>").startswith("250")
        served.end(served.guard, signal.SIGKILL)
        assert c.ask("RSET").startswith("250")
        assert c.mail().startswith("250")
        assert c.mail().startswith("250")
    for _ in range(5):
        assert served.first().startswith("220")
    assert served.log("smtpd").count("sessions go on without limits") == 1


@settings(limits="address messages 1/1h")
def test_sessions_by_themselves_say_it_once_together(served):
    served.end(served.guard)
    begin = time.monotonic()
    said = [served.alone("MAIL FROM:<a@example.org>", user="tappal-smtpd") for _ in range(5)]
    assert all(r.stdout.splitlines()[-1].startswith("250") for r in said)
    assert "sessions go on without limits" in said[0].stderr
    assert sum("sessions go on without limits" in r.stderr for r in said) <= 1 + (time.monotonic() - begin) // 60
    served.forget_warnings()
    assert "sessions go on without limits" in served.alone("MAIL FROM:<a@example.org>", user="tappal-smtpd").stderr
    assert "sessions go on without limits" in served.alone("MAIL FROM:<a@example.org>", user="nobody").stderr    # who cannot see what the others said


@settings(limits="address messages 1/1h")
def test_a_guard_that_is_stopped_is_not_waited_for_long(served):
    served.guard.send_signal(signal.SIGSTOP)
    try:
        with served.hello() as c:
            for _ in range(3):
                assert c.mail().startswith("250")
        assert "guard does not answer in time" in served.log("smtpd")
    finally:
        served.guard.send_signal(signal.SIGCONT)


@settings(limits="address messages 1/1h")
def test_smtpd_believes_no_nonsense(served):
    """What answers in guard's place as root can only let pass; numbers beyond the tables are nonsense."""
    served.end(served.guard)
    path = f"{served.root}/run/tappal/guard"
    answers = [records.encode("guard_answer", verdict=OVER, subject=9), records.encode("guard_answer", verdict=200), records.encode("guard_answer", verdict=OVER, what=200),
               records.encode("guard_answer", verdict=OVER, what=6), records.encode("guard_listed"), b"\xff" * 64, b"", records.frame(111, b"x")]
    os.unlink(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        os.chmod(path, 0o777)
        listener.listen(64)

        def lie():
            for answer in answers:
                try:
                    peer, _ = listener.accept()
                    with peer:
                        peer.recv(65536)
                        peer.sendall(answer)
                except OSError:
                    return

        liar = threading.Thread(target=lie)
        liar.start()
        for _ in answers:
            assert served.once("MAIL FROM:<a@example.org>").startswith("250")
        liar.join(60)
        assert not liar.is_alive()
    os.unlink(path)


# ---- guard itself

@settings(limits="address messages 2/1h")
def test_guard_believes_no_nonsense(served):
    ask = records.encode("guard_ask", event=MAIL, client="192.0.2.1")
    for octets in (b"\xff" * 100, b"GET / HTTP/1.0\r\n\r\n", ask[:-1] + b"x" + ask, records.encode("guard_ask", event=77), records.encode("guard_answer"),
                   records.encode("guard_list", table=7), records.encode("guard_drop", table=2), records.frame(110, b"\0" * 500), records.encode("guard_row"), records.encode("ack")):
        with served.neighbour() as n:
            n.socket.sendall(octets)
            assert n.stream.next(60) is None, octets
    with served.neighbour() as n:
        for client in ("", "nonsense", "192.0.2.999", "::ffff:192.0.2.9"):
            for event in (CONNECT, MAIL, TO, UNKNOWN):
                assert n.ask(event, client=client, recipient="@", login="x" * 320, name="y" * 255, sender="z" * 320).verdict == GO
        n.socket.sendall(ask[:20])     # and leaves in the middle
    with served.neighbour() as n:
        n.socket.sendall(ask * 3)      # all at once, and answered in order
        assert [n.stream.want("guard_answer").verdict for _ in range(3)] == [GO, GO, OVER]
    assert served.guard.poll() is None


@settings(banafter="1")
def test_guard_answers_nobody_else(served):
    code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(120); s.connect(sys.argv[1]); print(s.recv(1))"
    r = subprocess.run(["/usr/bin/python3", "-c", code, f"{served.root}/run/tappal/guard"], capture_output=True, text=True, user="nobody", timeout=120)
    assert "b''" in r.stdout or "reset" in r.stderr, r
    assert "who is not admitted" in served.log("guard")
    # smtpd may ask what it needs and nothing else: neither who is there nor that a ban be lifted
    for record in (records.encode("guard_list"), records.encode("guard_drop", key=1)):
        code = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.settimeout(120); s.connect(sys.argv[1]); s.sendall(bytes.fromhex(sys.argv[2])); print(s.recv(1))"
        r = subprocess.run(["/usr/bin/python3", "-c", code, f"{served.root}/run/tappal/guard", record.hex()], capture_output=True, text=True, user="tappal-smtpd", timeout=120)
        assert "b''" in r.stdout or "reset" in r.stderr, r
    r = subprocess.run([f"{served.libexec}/tappal", "guard", "list"], capture_output=True, text=True, user="nobody", timeout=120)
    assert r.returncode == 111 and "root" in r.stderr


@settings(limits="address messages 1/1h", greylist="defer", banafter="2")
def test_flood_stays_within_its_rows(served):
    with served.neighbour() as n:
        for _ in range(2):
            n.ask(UNKNOWN, client="198.51.100.1")
        for _ in range(3):
            n.ask(MAIL, client="198.51.100.2")
        for first in range(0, 30000, 100):
            n.socket.sendall(b"".join(records.encode("guard_ask", event=event, client=f"10.{i >> 14 & 255}.{i >> 6 & 255}.{i & 63}", sender="a@b", recipient=f"c{i}@d")
                                      for i in range(first, first + 100) for event in (MAIL, TO)))
            for _ in range(200):
                n.stream.want("guard_answer")
        assert n.ask(CONNECT, client="198.51.100.1").verdict == BANNED
        assert n.ask(MAIL, client="198.51.100.2").verdict == OVER
    rows = served.listed("--all")
    counts = [r for r in rows if not r["what"].startswith("greylist")]
    assert 1500 < len(counts) < 3000 and 1500 < len(rows) - len(counts) < 3000
    before = len(rows)
    served.end(served.guard)
    assert sum(os.path.getsize(f"{served.spool}/guard/{name}") for name in os.listdir(f"{served.spool}/guard")) < 8 << 20
    served.start_guard()
    assert len(served.listed("--all")) == before
    with served.neighbour() as n:
        assert n.ask(CONNECT, client="198.51.100.1").verdict == BANNED


@pytest.mark.parametrize("damage", ["torn", "noise", "holes", "empty", "directory"])
def test_damaged_state(house, damage):
    house.up(limits="address messages 1/1h")
    path = f"{house.spool}/guard/state"
    with house.neighbour() as n:
        for i in range(500):
            n.ask(MAIL, client=f"10.0.{i >> 8}.{i & 255}")
    house.end(house.guard)
    octets = bytearray(open(path, "rb").read())
    if damage == "torn":
        octets = octets[:len(octets) // 2]
    elif damage == "noise":
        octets = bytearray(os.urandom(len(octets)))
    elif damage == "holes":
        octets[8192:-4096] = b"\xa5" * (len(octets) - 8192 - 4096)
    elif damage == "empty":
        octets = b""
    if damage == "directory":
        os.unlink(path)
        os.mkdir(path)
    else:
        with open(path, "wb") as f:
            f.write(octets)
    try:
        house.start_guard()
        assert "the state is damaged" in house.log("guard")
        with house.neighbour() as n:
            assert n.ask(MAIL, client="203.0.113.1").verdict == GO
            assert n.ask(MAIL, client="203.0.113.1").verdict == OVER
    finally:
        house.down()
        if damage == "directory":
            os.rmdir(path)


def test_one_guard(served):
    r = subprocess.run([f"{served.libexec}/guard"], capture_output=True, text=True, timeout=120)
    assert r.returncode == 100 and "another guard serves" in r.stderr
