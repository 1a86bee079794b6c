"""Milters: every answer at every command, every change, and those that are slow, broken or away."""
import itertools
import os
import re
import struct
import time

import pytest
from conftest import eventually
from milter import (ACCEPT, CLOSE, CONTINUE, DISCARD, FAIL, PROGRESS, REJECT, SHUTDOWN, SILENT, SKIP, TEMPFAIL, Milter, add, change, insert, options, packet,
                    reply, texts)

BODY = ("Subject: hello", "X-Old: 1", "X-Old: 2", "", "text", "..dot")


@pytest.fixture
def run(server):
    """Start smtpd with one milter (more: `before` it), connected to and greeted."""
    def start(milter, more="", before="", orders=(), greet=True, **settings):
        os.makedirs(f"{server.place.root}/var/spool/tappal/draft", exist_ok=True)
        os.chmod(f"{server.place.root}/var/spool/tappal/draft", 0o777)
        server.pool(orders=orders, milters=f"{before}{milter.line} name=own {more}", smtpdsessions=1, **settings)
        client = server.connect()
        return client.greet() if greet else client
    return start


def message(server):
    """What the queue got: envelope lines, then the message without our Received:."""
    with open(f"{server.place.sink}/out", encoding="latin-1") as f:
        out = f.read()
    envelope = re.findall(r"^E(.*)$", out, re.M)
    body = "".join(re.findall(r"^\|(.*)$", out, re.M)).replace("\\r\\n", "\n").replace("\\x09", "\t")
    return envelope, body


def parted(body):
    """Fields before our Received:, fields behind it, text."""
    head, _, text = body.partition("\n\n")
    before, received, after = re.match(r"(.*?)(Received: from c.*?;\n\t[^\n]*\n?)(.*)", head + "\n", re.S).groups()
    return before, after.rstrip("\n"), text


def next_client(server):
    """The one session there is room for may take a moment to end."""
    def greeted():
        client = server.connect()
        if client.hear().startswith("220"):
            return client
        return client.close()
    client = eventually(greeted)
    assert client.ask("EHLO client.test").startswith("250")
    return client


# ---- what a milter hears

def test_commands_and_macros(run, server):
    with Milter() as m, run(m) as c:
        assert c.mail(BODY, rcpt="joe@local.test").startswith("250 2.0.0")
        assert c.ask("XYZZY plugh").startswith("500 5.5.2")
        c.ask("QUIT")
        assert eventually(lambda: m.names()[-1] == "QUIT")
        assert m.names() == ["OPTIONS", "CONNECT", "HELO", "MAIL", "RCPT", "DATA", "HEADER", "HEADER", "HEADER", "EOH", "BODY", "END", "UNKNOWN", "QUIT"]
        assert m.told("OPTIONS") == [struct.pack(">III", 6, 0x1ff, 0x1fffff)]
        assert re.fullmatch(rb"\[127.0.0.1\]\0004..127.0.0.1\0", m.told("CONNECT")[0], re.S)
        assert m.told("HELO") == [b"client.test\0"]
        assert m.told("MAIL") == [b"<alice@example.org>\0"]
        assert m.told("RCPT") == [b"<joe@local.test>\0"]
        assert m.told("HEADER") == [b"Subject\0hello\0", b"X-Old\0001\0", b"X-Old\0002\0"]
        assert m.told("BODY") == [b"text\r\n.dot\r\n"]
        assert m.told("UNKNOWN") == [b"XYZZY plugh\0"]
        assert m.macro("CONNECT", b"j") == b"mx.test"
        assert m.macro("CONNECT", b"{daemon_name}") == b"relay"
        assert m.macro("MAIL", b"{mail_host}") == b"example.org"
        assert m.macro("RCPT", b"{rcpt_mailer}") == b"local"
        assert m.macro("END", b"i") == m.macro("MAIL", b"i") != None  # noqa: E711
    envelope, body = message(server)
    assert envelope[0] == "Falice@example.org"
    assert parted(body) == ("", "Subject: hello\nX-Old: 1\nX-Old: 2", "text\n.dot\n")


def test_parameters_and_macros_that_it_chose(run):
    with Milter(macros=((2, b"i,{auth_type} {mail_addr}"), (0, b""), (5, b"nonsense j"))) as m, run(m) as c:
        assert c.ask("MAIL FROM:<alice@example.org> BODY=8BITMIME SIZE=10").startswith("250")
        assert c.ask("RCPT TO:<joe@local.test> NOTIFY=NEVER").startswith("250")
        assert c.ask("DATA").startswith("354")
        assert c.ask(".").startswith("250")
        assert m.told("MAIL") == [b"<alice@example.org>\0BODY=8BITMIME\0SIZE=10\0"]
        assert m.told("RCPT") == [b"<joe@local.test>\0NOTIFY=NEVER\0"]
        assert m.macro("MAIL", b"{mail_addr}") == b"alice@example.org"
        assert m.macro("MAIL", b"{mail_host}") is None
        assert m.macro("CONNECT", b"j") is None
        assert m.macro("END", b"j") == b"mx.test"


def test_steps_it_can_do_without_and_does_not_answer(run):
    with Milter(steps=0x1 | 0x4 | 0x10) as m, run(m) as c:
        assert c.mail(BODY).startswith("250 2.0.0")
        assert m.names() == ["OPTIONS", "HELO", "RCPT", "DATA", "HEADER", "HEADER", "HEADER", "EOH", "END"]


def test_a_mute_milter(run, server):
    mute = 0x80 | 0x1000 | 0x2000 | 0x4000 | 0x8000 | 0x10000 | 0x20000 | 0x40000 | 0x80000
    with Milter({"END": [add(b"X-Seen", b"yes"), CONTINUE]}, steps=mute) as m, run(m) as c:
        assert c.mail([f"X-{i}: {i}" for i in range(3000)] + ["", "x" * 900] + ["y" * 900] * 400).startswith("250 2.0.0")
        assert len(m.told("HEADER")) == 3000
        assert sum(map(len, m.told("BODY"))) == 902 * 401
    assert "X-Seen: yes" in message(server)[1]


def test_a_big_message_is_kept_in_a_file(run, server):
    with Milter() as m, run(m, databytes=0) as c:
        assert c.mail(["Subject: big", ""] + ["z" * 998] * 2000).startswith("250 2.0.0")
        assert sum(map(len, m.told("BODY"))) == 2000 * 1000
    assert len(parted(message(server)[1])[2]) == 2000 * 999
    assert os.listdir(f"{server.place.root}/var/spool/tappal/draft") == []


def test_leading_blank(run, server):
    with Milter({"END": [add(b"X-None", b"a"), add(b"X-Two", b"  b"), CONTINUE]}, steps=0x100000) as m, run(m) as c:
        assert c.mail(("A: 1", "B:2", "", "x")).startswith("250 2.0.0")
        assert m.told("HEADER") == [b"A\0 1\0", b"B\0002\0"]
    assert parted(message(server)[1])[1] == "A: 1\nB:2\nX-None:a\nX-Two:  b"


def test_bdat(run, server):
    with Milter({"END": [add(b"X-Seen", b"yes"), CONTINUE]}) as m, run(m) as c:
        c.ask("MAIL FROM:<alice@example.org>")
        c.ask("RCPT TO:<joe@local.test>")
        c.socket.sendall(b"BDAT 7\r\nA: 1\r\n\r")
        assert c.hear().startswith("250")
        c.socket.sendall(b"BDAT 4 LAST\r\n\nxyz")
        assert c.hear().startswith("250 2.0.0")
        assert m.told("BODY") == [b"xyz\r\n"]
    assert parted(message(server)[1])[1:] == ("A: 1\nX-Seen: yes", "xyz\n")


def test_binary(run, server):
    """Octets that are no lines reach the milter and the queue as they came."""
    with Milter({"END": [add(b"X-Seen", b"yes"), CONTINUE]}) as m, run(m) as c:
        c.ask("MAIL FROM:<alice@example.org> BODY=BINARYMIME")
        c.ask("RCPT TO:<joe@local.test>")
        c.socket.sendall(b"BDAT 15 LAST\r\nA: 1\r\n\r\n\x00\n.\r\r\n.")
        assert c.hear().startswith("250 2.0.0")
        assert m.told("HEADER") == [b"A\0001\0"] and m.told("BODY") == [b"\x00\n.\r\r\n."]
    envelope, body = message(server)
    assert "BBINARYMIME" in envelope and parted(body)[1] == "A: 1\nX-Seen: yes" and parted(body)[2].startswith("\\x00")


def test_a_new_binary_body(run, server):
    """What a milter puts in their place does so, too: no line end is mended, and none is added."""
    with Milter({"END": [packet(b"b", b"\x00one\n"), packet(b"b", b"\r\xff"), CONTINUE]}) as m, run(m) as c:
        c.ask("MAIL FROM:<alice@example.org> BODY=BINARYMIME")
        c.ask("RCPT TO:<joe@local.test>")
        c.socket.sendall(b"BDAT 11 LAST\r\nA: 1\r\n\r\nold")
        assert c.hear().startswith("250 2.0.0")
    assert parted(message(server)[1])[1:] == ("A: 1", r"\x00one\n\r\xff")


# ---- verdicts

VERDICTS = [(REJECT, "550 5.7.1"), (TEMPFAIL, "451 4.7.1"), (reply(b"553 5.7.9 Not\t you"), "553 5.7.9 Not? you"), (reply(b"450 Later"), "450 4.0.0 Later"),
            (reply(b"550-5.1.1 one\r\n550 5.1.1 two%%"), "550 5.1.1 one 5.1.1 two%")]


@pytest.mark.parametrize("answer, expected", VERDICTS)
def test_refusals(run, server, answer, expected):
    with Milter() as m, run(m) as c:
        m.script = {"MAIL": [answer]}
        assert c.ask("MAIL FROM:<alice@example.org>").startswith(expected)
        m.script = {"RCPT": lambda data: [answer if data.startswith(b"<postmaster") else CONTINUE]}
        assert c.ask("MAIL FROM:<alice@example.org>").startswith("250")
        assert c.ask("RCPT TO:<postmaster@local.test>").startswith(expected)
        assert c.ask("RCPT TO:<joe@local.test>").startswith("250")
        m.script = {"DATA": [answer]}
        assert c.ask("DATA").startswith(expected)
        assert c.ask("DATA").startswith("550")
        assert c.ask("RSET").startswith("250")
        for step in ("HEADER", "EOH", "BODY", "END"):
            m.script = {step: [answer]}
            assert c.mail(BODY).startswith(expected), step
        m.script = {"HELO": [answer]}
        assert c.ask("EHLO again.test").startswith(expected)
        m.script = {}
        assert c.mail(BODY).startswith("250 2.0.0")
    assert message(server)[1].count("Received:") == 1
    assert len(re.findall(r"NOQUEUE: reject: (?:MAIL|RCPT|DATA|EHLO) .* check=milters/own\n", server.log())) == 8


@pytest.mark.parametrize("answer, expected", [(REJECT, "554 5.7.1"), (TEMPFAIL, "421 4.7.1"), (reply(b"550 5.7.1 Go"), "554 5.7.1 Go"), (SHUTDOWN, "421 4.7.1")])
def test_refused_at_connect(run, answer, expected):
    with Milter({"CONNECT": [answer]}) as m, run(m, greet=False) as c:
        assert c.hear().startswith(expected)
        assert c.hear() is None


@pytest.mark.parametrize("answer", [SHUTDOWN, FAIL])
def test_shutdown(run, answer):
    with Milter({"RCPT": [answer]}) as m, run(m) as c:
        c.ask("MAIL FROM:<alice@example.org>")
        assert c.ask("RCPT TO:<joe@local.test>").startswith("421 4.7.1")
        assert c.hear() is None


@pytest.mark.parametrize("step", ["MAIL", "RCPT", "DATA", "HEADER", "EOH", "BODY", "END"])
def test_accept_and_discard(run, server, step):
    with Milter({step: [ACCEPT]}) as m, run(m) as c:
        assert c.mail(BODY).startswith("250 2.0.0 Ok: queued")
        assert m.names().index(step) >= len(m.names()) - 1
        m.script = {step: [DISCARD]}
        assert c.mail(BODY).startswith("250 2.0.0 Ok: taken")
        m.script = {}
        assert c.mail(BODY).startswith("250 2.0.0 Ok: queued")
    assert "NOQUEUE: discarded: message from" in server.log()


def test_accept_a_client(run):
    with Milter({"CONNECT": [ACCEPT]}) as m, run(m) as c:
        assert c.mail(BODY).startswith("250 2.0.0")
        assert m.names() == ["OPTIONS", "CONNECT"]


def test_skip_and_progress(run):
    with Milter({"BODY": [SKIP], "END": [PROGRESS, PROGRESS, CONTINUE]}) as m, run(m) as c:
        assert c.mail(["Subject: x", ""] + ["b" * 500] * 300).startswith("250 2.0.0")
        assert len(m.told("BODY")) == 1


# ---- changes

def test_changes_of_the_header(run, server):
    changes = [add(b"X-Last", b"z"), insert(0, b"X-Top", b"t"), insert(2, b"X-Below", b"u"), change(1, b"x-old", b"new"), change(2, b"X-Old", b""),
               change(1, b"X-New", b"n"), change(1, b"X-Nothing", b""), CONTINUE]
    with Milter({"END": changes}) as m, run(m) as c:
        assert c.mail(BODY).startswith("250 2.0.0")
    assert parted(message(server)[1]) == ("X-Top: t\n", "X-Below: u\nSubject: hello\nx-old: new\nX-Last: z\nX-New: n", "text\n.dot\n")


def test_no_change_forges_another_field(run, server):
    changes = [add(b"X-A", b"a\r\nReceived: by evil"), add(b"X-B", b"b\n\nbody"), add(b"X-C", b"c\rBcc: x"), add(b"Received", b"by evil"),
               change(1, b"Received", b""), insert(0, b"Return-Path", b"<x@y>"), CONTINUE]
    with Milter({"END": changes}) as m, run(m) as c:
        assert c.mail(("Received: by other.test", "", "x")).startswith("250 2.0.0")
    before, after, text = parted(message(server)[1])
    assert before == ""
    assert after == "Received: by other.test\nX-A: a\n\tReceived: by evil\nX-B: b\n\tbody\nX-C: c Bcc: x"
    assert text == "x\n"
    assert server.log().count("a change was not made") == 3


def test_changes_of_the_envelope(run, server):
    changes = [texts(b"e", b"<bob@example.net>", b"RET=HDRS ENVID=q"), texts(b"+", b"<new@x.test>"), texts(b"2", b"more@x.test", b"NOTIFY=NEVER ORCPT=rfc822;a@b.test"),
               texts(b"-", b"<JOE@local.test>"), texts(b"+", b"no address"), CONTINUE]
    with Milter({"END": changes}) as m, run(m) as c:
        c.ask("MAIL FROM:<alice@example.org>")
        c.ask("RCPT TO:<joe@local.test> NOTIFY=SUCCESS")
        c.ask("RCPT TO:<postmaster@local.test> NOTIFY=FAILURE")
        c.ask("DATA")
        assert c.ask(*BODY, ".").startswith("250 2.0.0")
    envelope = message(server)[0]
    assert envelope[0] == "Fbob@example.net"
    assert "RHDRS" in envelope and "Eq" in envelope
    assert envelope[envelope.index("Tpostmaster@local.test"):] == ["Tpostmaster@local.test", "NFAILURE", "Tnew@x.test", "Tmore@x.test", "NNEVER", "Orfc822;a@b.test", ""]


def test_nobody_is_left(run, server):
    with Milter({"END": [texts(b"-", b"<joe@local.test>"), CONTINUE]}) as m, run(m) as c:
        assert c.mail(BODY).startswith("250 2.0.0 Ok: taken")
    assert "discarded" in server.log()


def test_one_is_left_and_named(run, server):
    with Milter({"END": [texts(b"-", b"<joe@local.test>"), CONTINUE]}) as m, run(m) as c:
        c.ask("MAIL FROM:<alice@example.org>")
        c.ask("RCPT TO:<joe@local.test>")
        c.ask("RCPT TO:<postmaster@local.test>")
        c.ask("DATA")
        assert c.ask(*BODY, ".").startswith("250 2.0.0")
    assert "for <postmaster@local.test>" in message(server)[1]


def test_a_new_body(run, server):
    with Milter({"END": [packet(b"b", b"one\ntwo\r"), packet(b"b", b"\n.\r\nend"), CONTINUE]}) as m, run(m) as c:
        assert c.mail(BODY).startswith("250 2.0.0")
    assert parted(message(server)[1])[2] == "one\ntwo\n.\nend\n"


def test_a_new_body_that_cannot_be_one(run):
    """The old one is gone by then: what is left goes nowhere."""
    with Milter({"END": [packet(b"b", b"one\n"), packet(b"b", b"two\0\n"), CONTINUE]}) as m, run(m) as c:
        assert c.mail(BODY).startswith("451 4.3.0")


def busy_for_ever(data):
    while True:
        time.sleep(0.2)
        yield PROGRESS


@pytest.mark.parametrize("answers,more,reply", [
    (lambda data: itertools.repeat(texts(b"-", b"<nobody@x.test>")), "", "451 4.3.0"),
    (lambda data: itertools.repeat(packet(b"b", b"x" * 60000 + b"\n")), "", "451 4.3.0"),
    (busy_for_ever, "content=1", "451 4.7.1"),
], ids=["changes", "body", "progress"])
def test_without_end(run, server, answers, more, reply):
    with Milter({"END": answers}) as m, run(m, more) as c:
        assert c.mail(BODY).startswith(reply)
        c.ask("QUIT")


def test_quarantine_is_a_hold(run, server):
    with Milter({"END": [texts(b"q", b"looks\x01 odd \xff"), add(b"X-Seen", b"yes"), CONTINUE]}) as m, run(m) as c:
        assert c.mail(BODY).startswith("250 2.0.0")
    envelope, body = message(server)
    assert "Qmilters/own looks? odd ?" in envelope and "X-Seen: yes" in body


def test_quarantine_and_refusal(run, server):
    with Milter({"END": [texts(b"q", b"looks odd"), REJECT]}) as m, run(m) as c:
        assert c.mail(BODY).startswith("550 5.7.1")
        m.script["END"] = [CONTINUE]
        assert c.mail(BODY).startswith("250 2.0.0")
    assert not [line for line in message(server)[0] if line.startswith("Q")]


def test_each_sees_what_those_before_made(run, server):
    with Milter({"END": [add(b"X-First", b"1"), packet(b"b", b"new\r\n"), CONTINUE]}) as first, Milter() as second:
        with run(second, before=f"{first.line} name=first\n") as c:
            assert c.mail(BODY).startswith("250 2.0.0")
        assert second.told("HEADER")[-1] == b"X-First\0001\0"
        assert second.told("BODY") == [b"new\r\n"]


# ---- connections

def test_one_connection_serves_many_sessions(run, server):
    with Milter(path=f"{server.place.root}/milter.sock") as m, run(m) as c:
        assert c.mail(BODY).startswith("250 2.0.0")
        c.ask("QUIT")
        for _ in range(3):
            with next_client(server) as again:
                assert again.mail(BODY).startswith("250 2.0.0")
                again.ask("QUIT")
        assert m.connections == 1
        assert m.names().count("OPTIONS") == 1 and m.names().count("CONNECT") == 4


def test_a_session_without_a_message_ends_the_connection(run, server):
    """libmilter takes SMFIC_QUIT_NC nowhere else but behind its CONTINUE at the end of a message."""
    with Milter() as m, run(m) as c:
        c.ask("MAIL FROM:<alice@example.org>")
        c.ask("QUIT")
        with next_client(server) as again:
            assert again.mail(BODY).startswith("250 2.0.0")
            assert again.ask("NOOP", "MAIL FROM:<alice@example.org>", "RSET", "QUIT").startswith("250")
        assert eventually(lambda: m.names().count("QUIT") == 2)
        assert m.connections == 2 and "QUIT_NEW" not in m.names()


def test_a_connection_that_was_closed_meanwhile(run, server):
    with Milter(version=4) as m, run(m) as c:
        c.ask("QUIT")
        with next_client(server) as again:
            assert again.mail(BODY).startswith("250 2.0.0")
        assert m.connections == 2
        assert "QUIT_NEW" not in m.names()


def test_a_message_that_ends_otherwise_is_aborted(run, server):
    with Milter() as m, run(m) as c:
        c.ask("MAIL FROM:<alice@example.org>")
        assert c.ask("RSET").startswith("250")
        c.ask("MAIL FROM:<alice@example.org>")
        c.ask("RCPT TO:<joe@local.test>")
        c.ask("DATA")
        assert c.ask("bare\rcr", ".").startswith("554 5.5.2")
        assert c.ask("NOOP").startswith("250")
        assert eventually(lambda: m.names().count("ABORT") == 2)
        assert m.names()[-1] == "ABORT"


# ---- away, slow, broken

DEFAULTS = [("", "451 4.7.1"), ("default=reject", "550 5.7.1"), ("default=accept", "250")]


@pytest.mark.parametrize("more, expected", DEFAULTS)
def test_away(run, server, more, expected):
    with Milter() as m:
        pass
    with run(m, more) as c:
        assert c.ask("MAIL FROM:<alice@example.org>").startswith(expected)
        if expected == "250":
            assert c.ask("RCPT TO:<joe@local.test>").startswith("250")
            assert c.ask("DATA").startswith("354")
            assert c.ask(*BODY, ".").startswith("250 2.0.0")
    assert "milter own: Connection refused" in server.log()


BROKEN = {
    "closed": [CLOSE], "silent": [SILENT], "half": [b"\0\0\0\5yabc", CLOSE], "empty": [b"\0\0\0\0"], "huge": [b"\377\377\377\377c"], "unknown": [packet(b"?")],
    "more": [packet(b"c", b"x")], "options": [options()], "change": [add(b"X", b"y")], "ok": [packet(b"y", b"250 ok\0")], "text": [b"HTTP/1.1 200 OK\r\n\r\n"],
}


STEPS = [(step, fault) for step in ("OPTIONS", "MAIL", "RCPT", "HEADER", "BODY") for fault in BROKEN]
STEPS.remove(("OPTIONS", "options"))   # that is its answer


@pytest.mark.parametrize("step,fault", STEPS)
def test_broken(run, server, step, fault):
    with Milter({step: BROKEN[fault]}) as m, run(m, "timeout=3" if fault == "silent" else "") as c:
        def send():
            for line in ("MAIL FROM:<alice@example.org>", "RCPT TO:<joe@local.test>", "DATA"):
                answer = c.ask(line)
                if answer[0] not in "23":
                    return answer
            return c.ask(*BODY, ".")
        assert send().startswith("451 4.7.1")
        m.script = {}
        c.ask("QUIT")
        with next_client(server) as again:
            assert again.mail(BODY).startswith("250 2.0.0")
    assert "milter own: " in server.log()


@pytest.mark.parametrize("actions", [0x1ff & ~0x1, 0x1ff & ~0x10, 0x1ff & ~0x2, 0x1ff & ~0x4, 0x1ff & ~0x8, 0x1ff & ~0x40, 0x1ff & ~0x80])
def test_changes_it_did_not_ask_for(run, server, actions):
    made = {0x1: add(b"X", b"y"), 0x10: change(1, b"Subject", b"z"), 0x2: packet(b"b", b"x"), 0x4: texts(b"+", b"<a@b.test>"), 0x8: texts(b"-", b"<a@b.test>"),
            0x40: texts(b"e", b"<a@b.test>"), 0x80: texts(b"2", b"<a@b.test>")}[0x1ff & ~actions]
    with Milter({"END": [made, CONTINUE]}, actions=actions) as m, run(m, "default=accept") as c:
        assert c.mail(BODY).startswith("451 4.3.0")
    assert "did not ask to be allowed" in server.log()


def test_half_a_change_goes_nowhere(run, server):
    with Milter({"END": [add(b"X", b"y"), CLOSE]}) as m, run(m, "default=accept") as c:
        assert c.mail(BODY).startswith("451 4.3.0")


def test_too_many_fields(run, server):
    with Milter({"END": [add(b"X", b"y" * 60000)] * 20 + [CONTINUE]}) as m, run(m) as c:
        assert c.mail(BODY).startswith("451 4.3.0")


def test_the_longest_field(run, server):
    """A sender cannot make the milter hang up by a field that is too long for it."""
    with Milter() as m, run(m, "default=accept") as c:
        assert c.mail(["N" * 998 + ":"] + [" " + "v" * 900] * 80 + ["", "x"]).startswith("250 2.0.0")
        assert c.mail(["N" * 65530 + ": v", "", "x"]).startswith("552 5.3.4")
        assert c.mail(BODY).startswith("250 2.0.0")
        assert 60000 < len(m.told("HEADER")[0]) <= 65535 and m.told("BODY") == [b"x\r\n", b"text\r\n.dot\r\n"] and m.connections == 1


def test_a_milter_lost_over_one_message_judges_the_next(run, server):
    with Milter({"BODY": [CLOSE]}) as m, run(m, "default=accept") as c:
        assert c.mail(BODY).startswith("250 2.0.0")
        m.script = {"RCPT": [REJECT]}
        assert c.ask("MAIL FROM:<alice@example.org>").startswith("250")
        assert c.ask("RCPT TO:<joe@local.test>").startswith("550 5.7.1")
        assert m.names()[-5:] == ["OPTIONS", "CONNECT", "HELO", "MAIL", "RCPT"] and m.told("HELO") == [b"client.test\0"] * 2
        m.script = {"MAIL": [CLOSE], "CONNECT": [REJECT]}
        assert c.ask("RSET").startswith("250")
        assert c.ask("MAIL FROM:<alice@example.org>").startswith("250")
        assert c.ask("RSET").startswith("250")
        assert c.ask("MAIL FROM:<alice@example.org>").startswith("554 5.7.1")
        assert c.hear() is None


def test_a_milter_met_again_that_does_not_take_the_client(run, server):
    """It is not asked about a message before it has taken HELO, whoever tries how often."""
    with Milter({"BODY": [CLOSE]}) as m, run(m, "default=accept") as c:
        assert c.mail(BODY).startswith("250 2.0.0")
        for answer, expected in ((REJECT, "550 5.7.1"), (REJECT, "550 5.7.1"), (TEMPFAIL, "451 4.7.1")):
            m.script = {"HELO": [answer]}
            assert c.ask("MAIL FROM:<alice@example.org>").startswith(expected)
        m.script = {}
        assert c.mail(BODY).startswith("250 2.0.0")
        assert len(m.told("MAIL")) == 2 and len(m.told("HELO")) == 5 and m.connections == 5


def test_a_verdict_in_time(run):
    with Milter({"END": [SILENT]}) as m, run(m, "content=1 default=accept") as c:
        assert c.mail(BODY).startswith("250 2.0.0")


def test_no_place_for_a_big_message(run, server):
    with Milter() as m, run(m) as c:
        os.rmdir(f"{server.place.root}/var/spool/tappal/draft")
        assert c.mail(["z" * 900] * 400).startswith("451 4.3.0")
        assert c.mail(BODY).startswith("250 2.0.0")
