"""Checks of clients that need the DNS: the real smtpd and resolver in front of a real name server. Clients have their addresses by the PROXY
protocol. Whether questions are asked at once is shown by a forwarder that keeps its answers back until all questions are there."""
import json
import os
import socket
import subprocess
import threading
import time

import pytest
from conftest import Mouth, eventually, free_port
from dnszone import Zones
from instance import Instance

PROGRAMS = ["smtpd/smtpd", "remote/resolver", "queue/enqueue", "queue/tappal"]
SETTINGS = {"me": "mx.test", "locals": "local.test", "users": "=joe@local.test:joe:4711:4711:/nonexistent/joe:::\n=postmaster:joe:4711:4711:/nonexistent/joe:::",
            "proxyfrom": "127.0.0.0/8", "dnstrustanchor": "", "checktimeout": "60", "smtpdsessions": "20"}
ZONES = {
    "2.0.192.in-addr.arpa": ["1 PTR good.plain.tappal.", "2 PTR good.plain.tappal.", "3 PTR gone.plain.tappal.", "5 PTR x.broken.tappal.", "6 PTR other.plain.tappal.", "6 PTR six.plain.tappal."],
    "8.b.d.0.1.0.0.2.ip6.arpa": ["1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0 PTR good.plain.tappal."],
    "plain.tappal": ["good A 192.0.2.1", "good AAAA 2001:db8::1", "other A 192.0.2.99", "six A 192.0.2.6", "mx MX 10 good", "null MX 0 .", "text TXT x", "lost MX 10 gone"],
    "list.tappal": ["1.2.0.192.bad A 127.0.0.2", '1.2.0.192.bad TXT "listed since Monday"', "2.2.0.192.bad A 127.0.0.9", "1.2.0.192.white A 127.0.0.1", "*.dead A 192.0.2.80",
                    "*.refuses A 127.255.255.254", '*.refuses TXT "ask from elsewhere"', "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.bad A 127.0.0.2",
                    "mx.plain.tappal.names A 127.0.0.2", "good.plain.tappal.names A 127.0.0.2", "*.h1 A 127.0.0.2", "*.h2 A 127.0.0.2", "*.h3 A 127.0.0.2", "*.h4 A 127.0.0.2"],
}
SENDER = "a@mx.plain.tappal"


def name_of(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode("latin-1").lower())
        at += 1 + query[at]
    return ".".join(labels)


class Forwarder:
    """Between resolver and name server. Names that end in one of `mute` get no answer; answers to names that end in one of `together` are kept back
    until each of these has been asked for."""

    def __init__(self, server, mute=(), together=()):
        self.server, self.mute, self.together = server, mute, together
        self.names, self.kept, self.stop = [], [], False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(0.2)
        self.thread = threading.Thread(target=self.run)

    @property
    def address(self):
        return "127.0.0.1@%d" % self.socket.getsockname()[1]

    def answer(self, query, client):
        host, port = self.server.split("@")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(120)
            s.connect((host, int(port)))
            s.send(query)
            self.socket.sendto(s.recv(4096), client)

    def take(self, query, client):
        name = name_of(query)
        self.names.append(name)
        if any(name.endswith(end) for end in self.mute):
            return
        self.kept.append((query, client))
        if any(name.endswith(end) for end in self.together) and not all(any(n.endswith(end) for n in self.names) for end in self.together):
            return
        for one in self.kept:
            self.answer(*one)
        self.kept.clear()

    def run(self):
        while not self.stop:
            try:
                self.take(*self.socket.recvfrom(4096))
            except socket.timeout:
                pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop = True
        self.thread.join()
        self.socket.close()


class House(Instance):
    """smtpd as a pool, and resolver."""

    def up(self, resolver, **settings):
        for key in ALL_SETTINGS:
            self.set(key, {**DEFAULTS, **SETTINGS, **settings}[key])
        self.forget_warnings()
        for name in ("smtpd", "resolver"):
            open(f"{self.root}/{name}.log", "w").close()
        self.port = free_port()
        self.processes = [self.start("smtpd", "-l", f"127.0.0.1:{self.port}")]
        if resolver:
            self.set("dnsforward", resolver)
            self.processes.append(self.start("resolver"))
            path = self.root + "/run/tappal/resolver"
            assert eventually(lambda: answers(path), 60), self.log("resolver")
        assert eventually(lambda: "ready" in self.log("smtpd"), 60), self.log("smtpd")

    def down(self):
        for process in self.processes:
            process.terminate()
            process.wait(60)

    def ask(self, ip="192.0.2.1", helo="good.plain.tappal", sender=SENDER, rcpt="joe@local.test", early=False):
        """The reply to RCPT; `early`: or the first refusal."""
        with Mouth(self.port, timeout=100) as c:
            c.say(f"PROXY TCP{6 if ':' in ip else 4} {ip} {'::1' if ':' in ip else '127.0.0.1'} 1000 25")
            assert c.hear().startswith("220 ")
            for line in (f"EHLO {helo}", f"MAIL FROM:<{sender}>", f"RCPT TO:<{rcpt}>"):
                reply = c.ask(line)
                if early and reply[0] != "2":
                    break
                assert line.startswith("RCPT") or reply[:4] in ("250-", "250 "), (line, reply)
            c.ask("QUIT")
            return reply

    def misbehave(self, ip, check):
        """The reply to a client that does not wait: for the greeting (checkearly), or for the end of a group of commands."""
        proxy, rest = f"PROXY TCP4 {ip} 127.0.0.1 1000 25", ("EHLO friend", f"MAIL FROM:<{SENDER}>", "RCPT TO:<joe@local.test>")
        with Mouth(self.port, timeout=100) as c:
            if check == "checkearly":
                return c.ask(proxy, *rest)
            c.ask(proxy)
            c.ask(*rest)
            c.hear()
            return c.hear()

    def dry(self, ip="192.0.2.1", helo="good.plain.tappal", sender=SENDER, rcpt="joe@local.test", login=None, code=None):
        """tappal session: its answer; steps by their names."""
        r = subprocess.run([f"{self.libexec}/tappal", "session", "--json", "--ip", ip, "--helo", helo, "--from", sender, "--to", rcpt, *(["--auth", login] if login else [])],
                           capture_output=True, text=True, timeout=120)
        assert r.returncode in (0, 1), r.stderr
        answer = json.loads(r.stdout)
        assert answer["accepted"] == (r.returncode == 0)
        return answer["reply"], {step["step"]: step for step in answer["steps"]}, answer["dns"]


DEFAULTS = {"checkhelo": "off", "checkours": "off", "clients": "198.51.100.0/24", "dsnfrom": "0.0.0.0/0\n::/0", "checkearly": "off", "checkpipelining": "off", "checkhelodns": "off", "checkreverse": "off", "checkforward": "off", "checksender": "off", "checklists": "off", "checkexempt": "", "checkwhen": "rcpt", "clientnames": "no",
            "dnslists": "", "dnslistsscore": "1", "dnsforward": "127.0.0.1@9"}
ALL_SETTINGS = sorted({**DEFAULTS, **SETTINGS})


def answers(path):
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0


@pytest.fixture(scope="module")
def dns():
    with Zones(ZONES) as zones:
        yield zones


@pytest.fixture(scope="module")
def built():
    with House("policy", PROGRAMS) as house:
        yield house


@pytest.fixture
def house(built, dns):
    """up() starts it."""
    built.processes = []
    yield built
    built.down()


def test_helo(house, dns):
    house.up(dns.server, checkhelodns="reject")
    assert house.ask().startswith("250 ")
    assert house.ask(ip="2001:db8::1").startswith("250 ")
    assert house.ask(helo="[192.0.2.1]").startswith("250 ")
    assert house.ask(helo="other.plain.tappal").startswith("550 5.7.1 <other.plain.tappal>: Helo command rejected: the name is not that of your address")
    assert house.ask(helo="gone.plain.tappal").startswith("550 5.7.1 <gone.plain.tappal>: Helo command rejected: Host not found")
    assert house.ask(helo="x.broken.tappal").startswith("450 4.4.3 <x.broken.tappal>: Helo command rejected: the name cannot be looked up now")
    assert house.ask(helo="gone.plain.tappal", rcpt="postmaster@local.test").startswith("250 ")
    assert "check=checkhelodns" in house.log("smtpd")


def test_reverse(house, dns):
    house.up(dns.server, checkreverse="reject")
    assert house.ask("192.0.2.3").startswith("250 ")
    assert house.ask("192.0.2.4").startswith("550 5.7.25 Client host rejected: the address [192.0.2.4] has no name in the DNS")
    assert house.ask("203.0.113.1").startswith("450 4.4.3 ")   # a zone that the name server does not have


def test_forward_and_name(house, dns):
    house.up(dns.server, checkforward="reject")
    assert house.ask("192.0.2.1").startswith("250 ")
    assert house.ask("2001:db8::1").startswith("250 ")
    assert house.ask("192.0.2.6").startswith("250 ")   # one of two names is enough
    assert house.ask("192.0.2.2").startswith("550 5.7.25 Client host rejected: no name of [192.0.2.2], like good.plain.tappal, has that address")
    assert house.ask("192.0.2.3").startswith("550 5.7.25 ")
    assert house.ask("192.0.2.4").startswith("550 5.7.25 ")
    assert house.ask("192.0.2.5").startswith("450 4.4.3 ")
    assert eventually(lambda: "disconnect from good.plain.tappal[192.0.2.1]" in house.log("smtpd") and "disconnect from six.plain.tappal[192.0.2.6]" in house.log("smtpd"))
    assert "connect from unknown[192.0.2.1]" in house.log("smtpd")
    assert "good.plain.tappal[192.0.2.2]" not in house.log("smtpd")


def test_exempt_by_verified_name(house, dns):
    """Its name is looked up for the exemption alone, and what exempts from the check that asked for it is not forgotten."""
    for check in ("checksender", "checkhelo", "checkreverse"):
        house.up(dns.server, **{check: "reject"}, checkexempt=f".plain.tappal {check}")
        assert house.ask("192.0.2.1", helo="friend", sender="a@gone.tappal").startswith("250 "), check
        assert house.dry("192.0.2.1", helo="friend", sender="a@gone.tappal")[1][check]["verdict"] == "exempt"
        refused = house.ask("192.0.2.2" if check != "checkreverse" else "192.0.2.4", helo="friend", sender="a@gone.list.tappal")
        assert refused.startswith({"checksender": "550 5.1.8 ", "checkhelo": "550 5.7.1 ", "checkreverse": "550 5.7.25 "}[check])
        house.down()
    for check, refused in (("checkearly", "521 5.5.1 "), ("checkpipelining", "554 5.5.0 ")):
        house.up(dns.server, **{check: "reject"}, checkexempt=f".plain.tappal {check}")
        assert house.misbehave("192.0.2.1", check)[:4] in ("220 ", "250 "), check
        assert house.misbehave("192.0.2.2", check).startswith(refused)
        assert house.misbehave("192.0.2.5", check).startswith({"checkearly": "421 4.5.1 ", "checkpipelining": "450 4.5.0 "}[check])   # nobody knows its name now
        steps = [house.dry(ip)[1][check] for ip in ("192.0.2.1", "192.0.2.2", "192.0.2.5")]
        assert [step["verdict"] for step in steps] == ["exempt", "depends", "depends"]
        assert f"it gets: {refused}" in steps[1]["why"] and f"it gets a temporary failure: {refused}" in steps[2]["why"]
        house.down()
    house.processes = []


def test_names_of_all(house, dns):
    house.up(dns.server, clientnames="yes")
    assert house.ask("192.0.2.1").startswith("250 ")
    assert house.ask("192.0.2.2").startswith("250 ")
    log = house.log("smtpd")
    assert "connect from good.plain.tappal[192.0.2.1]" in log and "connect from unknown[192.0.2.2]" in log


def test_sender(house, dns):
    house.up(dns.server, checksender="reject")
    assert house.ask().startswith("250 ")
    assert house.ask(sender="").startswith("250 ")
    assert house.ask(sender="a@good.plain.tappal").startswith("250 ")
    assert house.ask(sender="joe@local.test").startswith("250 ")   # ours need not be in the DNS
    assert house.ask(sender="a@null.plain.tappal").startswith("550 5.7.27 <a@null.plain.tappal>: Sender address rejected: its domain takes no mail (null MX)")
    assert house.ask(sender="a@gone.plain.tappal").startswith("550 5.1.8 <a@gone.plain.tappal>: Sender address rejected: Domain not found")
    assert house.ask(sender="a@text.plain.tappal").startswith("550 5.1.8 ")
    assert house.ask(sender="a@lost.plain.tappal").startswith("550 5.1.8 ")
    assert house.ask(sender="a@x.broken.tappal").startswith("450 4.4.3 ")


def test_several_messages_in_a_session(house, dns):
    house.up(dns.server, checksender="reject", checkwhen="early")
    with Mouth(house.port, timeout=100) as c:
        c.say("PROXY TCP4 192.0.2.1 127.0.0.1 1000 25")
        c.greet()
        for _ in range(2):
            assert c.ask(f"MAIL FROM:<{SENDER}>").startswith("250 ")
            assert c.ask("RSET").startswith("250 ")
            assert c.ask("MAIL FROM:<a@null.plain.tappal>").startswith("550 5.7.27 ")
            assert c.ask("MAIL FROM:<a@x.broken.tappal>").startswith("450 4.4.3 ")


def test_another_client_by_xclient(house, dns):
    """What was found out of one client is not held for the next one that XCLIENT names."""
    house.set("xclientfrom", "203.0.113.9")
    try:
        house.up(dns.server, checkhelodns="reject", clientnames="yes")
        with Mouth(house.port, timeout=100) as c:
            c.say("PROXY TCP4 203.0.113.9 127.0.0.1 1000 25")
            assert c.hear().startswith("220 ")
            for ip, reply in (("192.0.2.1", "250 "), ("192.0.2.2", "550 5.7.1 <good.plain.tappal>: Helo command rejected"), ("192.0.2.1", "250 ")):
                assert c.ask(f"XCLIENT ADDR={ip}").startswith("220 ")
                assert c.ask("EHLO good.plain.tappal").startswith("250-")
                assert c.ask(f"MAIL FROM:<{SENDER}>").startswith("250 ")
                assert c.ask("RCPT TO:<joe@local.test>").startswith(reply), ip
                assert c.ask("RSET").startswith("250 ")
        log = house.log("smtpd")
        assert log.count("XCLIENT: client is good.plain.tappal[192.0.2.1]") == 2 and "XCLIENT: client is unknown[192.0.2.2]" in log
    finally:
        house.set("xclientfrom", "")


def test_lists_and_weights(house, dns):
    house.up(dns.server, checklists="reject", dnslists="bad.list.tappal =127.0.0.2-5 2\nbad.list.tappal =127.0.0.9 1\nwhite.list.tappal -1", dnslistsscore="2")
    assert house.ask("192.0.2.1").startswith("250 ")   # 2 - 1
    assert house.ask("192.0.2.2").startswith("250 ")   # 1
    assert house.ask("2001:db8::1").startswith("554 5.7.1 Service unavailable; Client host [2001:db8::1] blocked using bad.list.tappal; no reason given")
    house.down()
    house.up(dns.server, checklists="reject", dnslists="bad.list.tappal =127.0.0.2-5 2\nwhite.list.tappal -1")
    assert house.ask("192.0.2.1").startswith("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bad.list.tappal; listed since Monday")
    assert "check=checklists" in house.log("smtpd")


def test_lists_of_names(house, dns):
    house.up(dns.server, checklists="reject", dnslists="names.list.tappal 1 sender")
    assert house.ask().startswith("554 5.7.1 Service unavailable; Sender domain mx.plain.tappal blocked using names.list.tappal")
    assert house.ask(sender="a@good.tappal").startswith("250 ")
    house.down()
    house.up(dns.server, checklists="reject", dnslists="names.list.tappal 1 helo reverse", dnslistsscore="2")
    assert house.ask("192.0.2.1").startswith("554 5.7.1 Service unavailable; Helo name good.plain.tappal blocked using names.list.tappal")
    assert house.ask("192.0.2.2").startswith("250 ")   # the HELO name alone: the other one is not this client's


def test_dead_and_refusing_lists(house, dns):
    house.up(dns.server, checklists="reject", dnslists="dead.list.tappal 5\nrefuses.list.tappal 5")
    begin = time.monotonic()
    assert house.ask("192.0.2.7").startswith("250 ")
    log = house.log("smtpd")
    assert "warning: list dead.list.tappal answers for 7.2.0.192.dead.list.tappal outside of 127.0.0.0/8" in log
    assert "warning: list refuses.list.tappal refuses our questions (ask from elsewhere)" in log
    assert "check=checklists" not in log
    for _ in range(3):
        assert house.ask("192.0.2.7").startswith("250 ")
    assert house.log("smtpd").count("is it dead?") <= 1 + (time.monotonic() - begin) // 60    # of all sessions together


def test_lists_are_asked_at_once(house, dns):
    lists = [f"h{i}.list.tappal" for i in range(1, 5)]
    with Forwarder(dns.server, together=lists) as forwarder:
        house.up(forwarder.address, checklists="reject", dnslists="\n".join(f"{name} 1" for name in lists), dnslistsscore="4")
        assert house.ask().startswith("554 5.7.1 ")   # all four have answered, and none before the last was asked


def test_list_that_does_not_answer(house, dns):
    with Forwarder(dns.server, mute=["mute.tappal"]) as forwarder:
        house.up(forwarder.address, checklists="reject", dnslists="mute.tappal 5\nbad.list.tappal 1", checktimeout="6")
        assert house.ask("192.0.2.1").startswith("554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using bad.list.tappal")
        assert house.ask("192.0.2.7").startswith("250 ")
        assert "warning: list mute.tappal does not answer for 1.2.0.192.mute.tappal" in house.log("smtpd")


def test_resolver_away(house):
    house.up(None, checksender="reject", checklists="reject", dnslists="bad.list.tappal 5")
    assert house.ask().startswith("450 4.4.3 <a@mx.plain.tappal>: Sender address rejected: its domain cannot be looked up now")
    assert house.ask(sender="").startswith("250 ")


def test_no_question_when_all_is_off(house, dns):
    with Forwarder(dns.server) as forwarder:
        house.up(forwarder.address, dnslists="bad.list.tappal 5")
        assert house.ask().startswith("250 ")
        assert [name for name in forwarder.names if name.endswith("tappal") or name.endswith("arpa")] == []


def compare_with_dry_run(house, early):
    for keys in ({}, {"ip": "192.0.2.2"}, {"ip": "192.0.2.6"}, {"ip": "192.0.2.5", "helo": "[192.0.2.5]"}, {"helo": "friend"}, {"sender": ""}, {"sender": "a@null.plain.tappal"},
                 {"sender": "x@local.test"}, {"rcpt": "nobody@local.test"}, {"rcpt": "x@else.test"}, {"helo": "friend", "rcpt": "postmaster@local.test"}, {"helo": "friend", "rcpt": "x@else.test"},
                 {"sender": "a@null.plain.tappal", "rcpt": "postmaster@local.test"}, {"sender": "x@LOCAL.test", "rcpt": "nobody@Local.Test"}, {"ip": "2001:db8::1"}):
        spoken, (dry, steps, asked) = house.ask(**keys, early=early), house.dry(**keys)
        assert spoken[:9] == dry[:9], (keys, spoken, dry, steps)
        assert dry[:3] == "250" or not dry[9:].strip() or dry.split(" ", 2)[2][:20] in spoken, (spoken, dry)
    return steps, asked


def test_dry_run_says_what_smtpd_says(house, dns):
    settings = dict(checkhelodns="reject", checkforward="defer", checksender="reject", checklists="log", checkhelo="reject", checkours="reject", checkearly="defer", dnslists="bad.list.tappal 1", dsnfrom="203.0.113.0/24\n192.0.2.6",
                    checkexempt="# a comment\n203.0.113.0/24 checkhelo\n192.0.2.6 checkhelodns")
    house.up(dns.server, **settings, checkwhen="early")
    compare_with_dry_run(house, early=True)
    assert list(house.dry()[1])[:4] == ["checkearly", "checkhelo", "checkhelodns", "checkreverse"] and "checkhelo" in house.dry(rcpt="postmaster@local.test")[1]
    house.down()
    house.up(dns.server, **settings)
    steps, asked = compare_with_dry_run(house, early=False)
    etc = f"{house.root}/etc/tappal"
    assert steps["checklists"] == {"step": "checklists", "verdict": "log", "decided_by": f"{etc}/checklists:1",
                                   "why": "554 5.7.1 Service unavailable; Client host [2001:db8::1] blocked using bad.list.tappal; no reason given"}
    assert any(a["asked"] == "PTR" and a["details"] == "good.plain.tappal, which has this address" for a in asked)
    reply, steps, _ = house.dry(ip="192.0.2.6", helo="[192.0.2.99]")
    assert reply.startswith("250 ") and steps["checkhelodns"]["verdict"] == "exempt" and steps["checkhelodns"]["decided_by"] == f"{etc}/checkexempt:3"
    assert steps["relay"]["decided_by"] == f"{etc}/locals:1" and steps["checkreverse"]["verdict"] == "off"
    assert (steps["reports"]["verdict"], steps["reports"]["decided_by"]) == ("pass", f"{etc}/dsnfrom:2")
    _, steps, _ = house.dry(ip="198.51.100.7", rcpt="x@else.test")
    assert steps["relay"]["decided_by"] == f"{etc}/clients:1" and steps["checks"]["verdict"] == "none" and steps["reports"]["verdict"] == "pass"
    _, steps, _ = house.dry(ip="192.0.2.1")
    assert (steps["reports"]["verdict"], steps["reports"]["decided_by"]) == ("none", f"{etc}/dsnfrom:1") and "555 5.5.4" in steps["reports"]["why"]
    reply, steps, asked = house.dry(login="joe", sender="joe@local.test", rcpt="x@else.test")
    assert reply.startswith("250 ") and steps["relay"]["decided_by"] == "login" and asked == []
    assert steps["checks"]["verdict"] == "none" and "checkhelo" not in steps and steps["checkearly"]["verdict"] == "depends"
    assert "a temporary failure: 521 5.5.1" in steps["checkearly"]["why"]       # it comes before the login
    assert "checkearly" not in house.dry(ip="198.51.100.7", login="joe", sender="joe@local.test", rcpt="x@else.test")[1]
    assert house.dry(helo="friend", rcpt="postmaster@local.test")[1]["checkearly"]["verdict"] == "depends"
    assert house.dry(login="joe", sender="ann@local.test")[0].startswith("553 5.7.1 ")


def test_dry_run_of_others_than_root(house, dns):
    house.up(dns.server, checksender="reject")
    r = subprocess.run([f"{house.libexec}/tappal", "session", "--ip", "192.0.2.1", "--helo", "x.example", "--from", SENDER, "--to", "joe@local.test"],
                       capture_output=True, text=True, timeout=120, user="nobody", env={**os.environ, "LC_ALL": "C"})
    assert r.returncode == 1 and "450 4.4.3" in r.stdout and "the resolver answers root alone" in r.stderr
    for wrong in (["--ip", "x"], ["--from", "a@@b"], ["--to", ""]):
        arguments = dict(zip(("--ip", "--helo", "--from", "--to"), ("192.0.2.1", "x.example", SENDER, "joe@local.test"))) | {wrong[0]: wrong[1]}
        r = subprocess.run([f"{house.libexec}/tappal", "session", *[w for pair in arguments.items() for w in pair]], capture_output=True, text=True, timeout=120)
        assert r.returncode == 100 and wrong[0] in r.stderr
