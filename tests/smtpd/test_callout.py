"""The sender callout: the real smtpd, callout and resolver, a real name server, and mail exchangers that are honest, unwilling or hostile."""
import contextlib
import os
import pwd
import signal
import socket
import threading

import pytest
import records
from conftest import eventually
from dnszone import Zones
from sink import Dribble, Flood, Hangup, Raw, Reset, Sink, Stall
from test_policy import House

PROGRAMS = ["smtpd/smtpd", "remote/resolver", "remote/callout", "queue/enqueue", "queue/tappal"]
UNKNOWN, EXISTS, NOBODY = range(3)
TLS = b"\x16\x03\x03\x00\x51\x02\x00\x00\x4d\x03\x03" + bytes(range(1, 72))
LINES = b"250-" + b"x" * 60 + b"\r\n"

# What each domain's mail exchanger does. The hostile ones never say anything that a verdict could be read from.
HONEST = {
    "good": {}, "helo": {"EHLO": "500 5.5.1 what?", "HELO": "250 old"}, "nobody": {"RCPT": {"joe@nobody.call": "550-5.1.1 no such user:\n550 5.1.1 joe", None: "250 2.1.5 ok"}},
    "bounces": {"MAIL": "550 5.1.7 no empty sender here"}, "later": {"RCPT": "451 4.7.1 come again"}, "listed": {"RCPT": "550 5.7.1 you are listed"}, "blocked": {"MAIL": "550 5.7.1 you are listed"},
    "escape": {"RCPT": Raw(b"550 5.1.1 \x1b[31mred\x00\x07 \xff\r\n")}, "twice": {}, "away": {}, "dry": {"RCPT": "550 5.1.1 who?"},
    "endless": {"CONNECT": Flood(b"220-welcome\r\n", 100000000)}, "lines": {"EHLO": Flood(LINES, 100000, then="250 ok")},
}
HOSTILE = {
    "slow": {"CONNECT": Dribble(b"220 " + b"welcome " * 1000 + b"\r\n", 1)}, "slowehlo": {"EHLO": Dribble(LINES * 100, 1)}, "slowrcpt": {"RCPT": Dribble(b"250 ok\r\n" * 100, 1)},
    "wide": {"CONNECT": Flood(b"220" + b"x" * 65533, 1000)}, "silent": {"CONNECT": Stall()}, "silentmail": {"MAIL": Stall()}, "silentquit": {"RCPT": "451 no", "QUIT": Stall()},
    "tls": {"CONNECT": Raw(TLS)}, "tlsmail": {"MAIL": Raw(TLS)}, "close": {"CONNECT": Hangup()}, "closeehlo": {"EHLO": Hangup()}, "closemail": {"MAIL": Hangup()}, "closercpt": {"RCPT": Hangup()},
    "reset": {"CONNECT": Reset()}, "resetrcpt": {"RCPT": Reset()}, "half": {"RCPT": Hangup(Raw(b"550 5.1.1 no such us"))}, "digits": {"RCPT": "999 what"}, "mixed": {"RCPT": "550-no\n250 yes"},
    "nul": {"MAIL": Raw(b"\x00" * 70000)}, "first": {"CONNECT": "554 5.7.1 go away"}, "unreachable": None,
}
ADDRESS = {name: f"127.0.70.{n}" for n, name in enumerate([*HONEST, *HOSTILE, "rate"], 1)}
ZONE = [f"{name} MX 10 mx-{name}" for name in ADDRESS] + [f"mx-{name} A {address}" for name, address in ADDRESS.items()] + ["shared MX 10 mx-rate", "null MX 0 ."]


def descriptors(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


class CalloutHouse(House):
    def up(self, resolver, **settings):
        """callout, resolver, smtpd, with these settings."""
        for key in ("callouttimeout", "callouthostrate", "calloutunknown", "checkcallout"):
            self.set(key, settings[key])
        open(f"{self.root}/callout.log", "w").close()
        self.callout = self.start("callout")
        assert eventually(lambda: "ready" in self.log("callout") or self.callout.poll() is not None) and self.callout.poll() is None, self.log("callout")
        self.idle = descriptors(self.callout)
        super().up(resolver, smtpdsessions="40")
        self.processes.append(self.callout)

    def sent_by(self, name, local="joe"):
        return self.ask(sender=f"{local}@{name}.call")

    def warnings(self, name):
        return [line for line in self.log("smtpd").splitlines() if "reject_warning:" in line and f"@{name}.call>" in line and line.endswith("check=checkcallout")]


@pytest.fixture(scope="module")
def sinks():
    with contextlib.ExitStack() as stack:
        port, all_sinks = 0, {}
        for name, rules in {**HONEST, **HOSTILE, "rate": {}}.items():
            if rules is None:
                continue
            all_sinks[name] = stack.enter_context(Sink(host=ADDRESS[name], port=port, rules=rules))
            port = all_sinks[name].port
        yield all_sinks


@pytest.fixture(scope="module")
def place(sinks):
    with Zones({"call": ZONE}) as dns, CalloutHouse("smtpd-callout", PROGRAMS, {"me": "mx.test"}) as house:
        house.dns = dns
        house.set("remoteport", str(sinks["good"].port))
        yield house


@pytest.fixture(scope="module")
def house(place):
    """No wait that counts, and what is not known passes."""
    place.up(place.dns.server, callouttimeout="120", callouthostrate="1000", calloutunknown="pass", checkcallout="reject")
    yield place
    place.down()


def commands(sink):
    return [line.split(b" ")[0] for line in sink.commands()]


def test_what_is_said(house, sinks):
    assert house.sent_by("good").startswith("250 ")
    assert eventually(lambda: commands(sinks["good"]) == [b"EHLO", b"MAIL", b"RCPT", b"QUIT"]), sinks["good"].commands()
    assert sinks["good"].commands()[:3] == [b"EHLO mx.test", b"MAIL FROM:<>", b"RCPT TO:<joe@good.call>"]
    assert house.sent_by("helo").startswith("250 ")
    assert eventually(lambda: commands(sinks["helo"]) == [b"EHLO", b"HELO", b"MAIL", b"RCPT", b"QUIT"])


def test_verdicts(house, sinks):
    assert house.sent_by("nobody") == ("550 5.1.7 <joe@nobody.call>: Sender address rejected: no such address; "
                                       f"mx-nobody.call[{ADDRESS['nobody']}] says: 550 5.1.1 no such user: joe")
    assert house.sent_by("nobody", "ann").startswith("250 ")
    assert house.sent_by("bounces").startswith("550 5.1.8 <joe@bounces.call>: Sender address rejected: its host takes no reports (MAIL FROM:<>); mx-bounces.call[")
    assert house.sent_by("null").startswith("550 5.1.7 <joe@null.call>: Sender address rejected: no such address; ")
    for name in ("later", "listed", "blocked"):
        assert house.sent_by(name).startswith("250 ")
        assert eventually(lambda: house.warnings(name)), house.log("smtpd")
        assert "450 4.1.8 " in house.warnings(name)[0] and "says: " in house.warnings(name)[0]
    assert house.sent_by("escape").endswith(" says: 550 5.1.1 ?[31mred?? ?")
    assert "\x1b" not in house.log("smtpd") + house.log("callout")


def test_remembered(house, sinks):
    """Each once, and what holds for a domain holds for all of it."""
    for _ in range(2):
        assert house.sent_by("good", "kept").startswith("250 ")
        assert house.sent_by("bounces", "kept").startswith("550 5.1.8 ")
        assert house.sent_by("nobody", "joe").startswith("550 5.1.7 ")
    assert [line for line in sinks["good"].commands() if b"kept" in line] == [b"RCPT TO:<kept@good.call>"]
    assert commands(sinks["bounces"]).count(b"MAIL") == 1 and sinks["nobody"].commands().count(b"RCPT TO:<joe@nobody.call>") == 1


def test_who_is_not_called_out(house, sinks):
    """Nobody, ourselves, and who is refused anyway."""
    before = house.log("callout")
    for keys in ({"sender": ""}, {"sender": "x@local.test"}, {"sender": "x@[127.0.0.1]"}, {"sender": "new@good.call", "ip": "198.51.100.7"},
                 {"sender": "new@good.call", "rcpt": "postmaster@local.test"}):
        assert house.ask(**keys).startswith("250 "), keys
    assert house.ask(sender="new@good.call", rcpt="no@local.test").startswith("550 5.1.1 ")
    assert house.log("callout") == before


def test_endless_replies_end(house):
    """By their length, long before the time is over."""
    for name in ("endless", "lines"):
        assert house.sent_by(name).startswith("250 ")
        assert eventually(lambda: house.warnings(name)) and "time ran out" not in house.warnings(name)[0], house.warnings(name)


def test_same_question_at_the_same_time(house, sinks):
    go, replies = threading.Event(), []
    sinks["twice"].rules["RCPT"] = lambda connection, line: go.wait(120) and None
    threads = [threading.Thread(target=lambda: replies.append(house.sent_by("twice"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        assert eventually(lambda: descriptors(house.callout) >= house.idle + 4)   # three sessions and one callout
    finally:
        go.set()
        for thread in threads:
            thread.join()
    assert [reply[:4] for reply in replies] == ["250 "] * 3 and len(sinks["twice"].connections) == 1


def test_dry_run(house, sinks):
    reply, steps, _ = house.dry(sender="joe@dry.call")
    assert reply == house.sent_by("dry") and steps["checkcallout"]["verdict"] == "reject"
    assert len(sinks["dry"].connections) == 1
    _, steps, _ = house.dry(sender="joe@good.call")
    assert steps["checkcallout"]["verdict"] == "pass" and "250 2.1.5" in steps["checkcallout"]["why"]
    assert house.dry(sender="else@dry.call", rcpt="no@local.test")[1]["checkcallout"]["verdict"] == "none"


def answer_of(house, octets):
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(120)
        s.connect(f"{house.root}/run/tappal/callout")
        s.sendall(octets)
        return records.Stream(s.fileno()).next(120)


def test_neighbours(house):
    """Who it is, whom it answers, and what it does with nonsense."""
    with open(f"/proc/{house.callout.pid}/status") as f:
        uids = next(line.split()[1:] for line in f if line.startswith("Uid:"))
    assert set(uids) == {str(pwd.getpwnam("tappal-remote").pw_uid)}
    answer = answer_of(house, records.encode("callout_ask", sender=b"joe@good.call"))
    assert answer.verdict == EXISTS and answer.kept == 1
    assert answer_of(house, records.encode("callout_ask", sender=b"a@@b")) is None
    assert answer_of(house, records.encode("callout_go", yes=1)) is None


def test_limits(house, sinks):
    """A domain's, and that of a server to which two domains lead; settings that change while it runs."""
    house.set("callouthostrate", "1")
    house.callout.send_signal(signal.SIGHUP)
    assert eventually(lambda: "settings read again" in house.log("callout"))
    for name, local, why in (("rate", "joe", "250 2.1.5"), ("rate", "ann", "too many callouts in a minute"), ("shared", "joe", "too many callouts to this server")):
        assert house.sent_by(name, local).startswith("250 ")
        assert eventually(lambda: f"callout: <{local}@{name}.call>:" in house.log("callout"))
        assert why in next(line for line in house.log("callout").splitlines() if f"callout: <{local}@{name}.call>:" in line)
    assert len(sinks["rate"].connections) == 1


def test_away(house):
    """Sessions go on without it."""
    house.callout.kill()
    house.callout.wait(60)
    assert house.sent_by("away").startswith("250 ") and "callout cannot be reached" in house.log("smtpd")


@pytest.fixture
def hasty(house):
    """Four seconds for a callout, and what is not known is deferred. For the last test."""
    house.down()
    house.up(house.dns.server, callouttimeout="4", callouthostrate="1000", calloutunknown="defer", checkcallout="reject")
    return house


def test_hostile_servers(hasty):
    """Always a verdict, never a refusal for good; all of them at once, and no process of theirs stays."""
    replies = {}
    threads = [threading.Thread(target=lambda name=name: replies.update({name: hasty.sent_by(name)})) for name in HOSTILE]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {name: reply[:9] for name, reply in replies.items()} == dict.fromkeys(HOSTILE, "450 4.1.8")
    with open(f"/proc/{hasty.callout.pid}/task/{hasty.callout.pid}/children") as children:
        assert eventually(lambda: children.seek(0) == 0 and children.read() == "")
    assert hasty.callout.poll() is None
