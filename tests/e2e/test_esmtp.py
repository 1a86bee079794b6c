"""SMTP's extensions with real clients and servers, from end to end: what is asked for at the front door is what happens at the far end."""
import email
import email.message
import email.policy
import json
import subprocess

import pytest

import host
from host import Host, wait_until
from peers import Postfix
from sink import Sink

SENDER, JOE_A, JOE_B, JOE_PF = "ann@a.esmtp.tappal", "joe@a.esmtp.tappal", "joe@b.esmtp.tappal", "joe@pf.esmtp.tappal"
JUERGEN, JOERG_B, JOERG_PF = "jürgen@löcal.esmtp.tappal", "jörg@b.esmtp.tappal", "jörg@pf.esmtp.tappal"
MESSAGE = b"Subject: esmtp\r\n\r\nfrom end to end\r\n"


@pytest.fixture(scope="module")
def sink():
    with Sink(extensions=["8BITMIME", "PIPELINING"], host="127.0.0.34") as sink:
        yield sink


@pytest.fixture(scope="module")
def binary_sink():
    with Sink(extensions=["8BITMIME", "PIPELINING", "CHUNKING", "BINARYMIME"], host="127.0.0.35") as sink:
        yield sink


@pytest.fixture(scope="module")
def a(sink, binary_sink):
    settings = {"me": "mx.a.esmtp.tappal", "locals": ["a.esmtp.tappal", "löcal.esmtp.tappal"], "clients": ["127.0.0.0/8"],
                "smtproutes": ["b.esmtp.tappal:[127.0.0.32]:2525", "pf.esmtp.tappal:[127.0.0.33]:2525", f"old.esmtp.tappal:[127.0.0.34]:{sink.port}",
                               f"binary.esmtp.tappal:[127.0.0.35]:{binary_sink.port}"]}
    with Host("esmtp-a", "127.0.0.31", settings=settings) as a:
        a.add_mailboxes([SENDER, JOE_A, JUERGEN])
        a.start()
        yield a


@pytest.fixture(scope="module")
def b():
    settings = {"me": "mx.b.esmtp.tappal", "locals": ["b.esmtp.tappal"], "smtproutes": ["a.esmtp.tappal:[127.0.0.31]:2525", "löcal.esmtp.tappal:[127.0.0.31]:2525"]}
    with Host("esmtp-b", "127.0.0.32", settings=settings) as b:
        b.add_mailboxes([JOE_B, JOERG_B])
        b.start()
        yield b


@pytest.fixture(scope="module")
def postfix():
    server = Postfix(f"{host.ROOTS}/esmtp-postfix", "127.0.0.33", 2525, "mx.pf.esmtp.tappal", domains=["pf.esmtp.tappal"], users=[JOE_PF, JOERG_PF],
                     routes={"a.esmtp.tappal": "[127.0.0.31]:2525"})
    if not server.available():
        pytest.skip("Debian's Postfix could not be unpacked")
    server.start()
    yield server
    server.stop()


def send(a, rcpt, mail_options=(), rcpt_options=(), message=MESSAGE, sender=SENDER):
    with a.smtp() as s:
        s.ehlo()
        assert s.sendmail(sender, [rcpt], message, mail_options, rcpt_options) == {}


def report(a, marker, log=lambda: ""):
    """The one report to ann that holds this: its parts."""
    found = wait_until(lambda: [m for m in a.mail(SENDER) if b"multipart/report" in m and marker.encode() in m])
    assert found, a.log()[-5000:] + log()[-5000:]
    assert len(found) == 1
    message = email.message_from_bytes(found[0], policy=email.policy.default)
    assert message["Return-Path"] == "<>" and not message.defects
    return list(message.iter_parts())


def fields(status):
    head, rcpt = status.get_payload()
    return head, rcpt


# ---- DSN

def test_success_is_reported_by_who_delivers(a):
    send(a, JOE_A, ["RET=FULL", "ENVID=local+2B1"], ["NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;Joe@old.esmtp.tappal"])
    text, status, original = report(a, "local+1")
    head, rcpt = fields(status)
    assert (head["Original-Envelope-Id"], rcpt["Original-Recipient"], rcpt["Final-Recipient"], rcpt["Action"]) == (
        "local+1", "rfc822; Joe@old.esmtp.tappal", f"rfc822; {JOE_A}", "delivered")
    assert "was delivered" in text.get_content() and original.get_content_type() == "text/rfc822-headers"
    assert a.wait_empty()


def test_the_next_tappal_takes_it_over(a, b):
    send(a, JOE_B, ["ENVID=to-b"], ["NOTIFY=SUCCESS", f"ORCPT=rfc822;{JOE_B}"])
    _, status, _ = report(a, "to-b", b.log)
    head, rcpt = fields(status)
    assert head["Reporting-MTA"] == "dns; mx.b.esmtp.tappal" and rcpt["Action"] == "delivered" and rcpt["Original-Recipient"] == f"rfc822; {JOE_B}"


def test_the_next_postfix_takes_it_over(a, postfix):
    send(a, JOE_PF, ["ENVID=to-pf", "RET=HDRS"], ["NOTIFY=SUCCESS", f"ORCPT=rfc822;{JOE_PF}"])
    _, status, _ = report(a, "to-pf", postfix.log)
    head, rcpt = fields(status)
    assert head["Reporting-MTA"] == "dns; mx.pf.esmtp.tappal" and rcpt["Action"] == "delivered" and rcpt["Original-Recipient"].replace(" ", "") == f"rfc822;{JOE_PF}"


def test_a_server_without_dsn_is_where_it_ends(a, sink):
    send(a, "joe@old.esmtp.tappal", ["ENVID=to-old"], ["NOTIFY=SUCCESS"])
    _, status, _ = report(a, "to-old")
    _, rcpt = fields(status)
    assert rcpt["Action"] == "relayed" and rcpt["Final-Recipient"] == "rfc822; joe@old.esmtp.tappal"
    assert b"ENVID" not in sink.connections[-1].received and b"NOTIFY" not in sink.connections[-1].received


def test_never(a, b):
    """A recipient that fails, here and at the next host, and of whom nobody wants to hear."""
    before = len(a.mail(SENDER))
    send(a, "nobody@b.esmtp.tappal", ["ENVID=never"], ["NOTIFY=NEVER"])
    assert a.wait_empty() and b.wait_empty()
    assert len(a.mail(SENDER)) == before
    assert "nobody@b.esmtp.tappal" in a.log()


def test_sendmail_asks_for_reports(a):
    r = subprocess.run([f"{a.libexec}/sendmail", "-f", SENDER, "-N", "success", "-R", "hdrs", "-V", "by sendmail", JOE_A], input=b"Subject: x\n\nx\n",
                       stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120)
    assert r.returncode == 0, r.stdout
    _, status, _ = report(a, "by sendmail")
    assert fields(status)[1]["Action"] == "delivered"


def test_the_tools_know_a_report_that_is_due(a):
    a.kill("bounce")
    try:
        send(a, JOE_A, ["ENVID=held-back"], ["NOTIFY=SUCCESS"])
        waiting = wait_until(lambda: [m for m in a.queue() if m["recipients"][0]["state"] == "reporting"])
        assert len(waiting) == 1, a.queue()
        why = a.tappal("queue", "why", waiting[0]["queue_id"])
        assert "1 delivered, 0 waiting, 1 to be reported" in why and "who asked for it, will be told" in why
        assert subprocess.run([f"{a.bin}/tappal", "queue", "check"], stdout=subprocess.PIPE, timeout=120).returncode == 0
    finally:
        a.start("bounce")
    report(a, "held-back")
    assert a.wait_empty()


# ---- SMTPUTF8

def send_utf8(a, sender, rcpt, mark, mail_options=()):
    """Python's own client: it says SMTPUTF8 and BODY=8BITMIME, and only where the server announces both."""
    message = email.message.EmailMessage(policy=email.policy.SMTPUTF8)
    message["From"], message["To"], message["Subject"] = sender, rcpt, f"größe {mark}"
    message.set_content("für alle\n", cte="8bit")
    with a.smtp() as s:
        s.ehlo()
        assert s.sendmail(sender, [rcpt], message.as_bytes(), ["SMTPUTF8", "BODY=8BITMIME", *mail_options]) == {}


def arrived(mails, mark):
    return [m for m in mails if f"größe {mark}".encode() in m]


def test_utf8_to_a_mailbox_here(a):
    send_utf8(a, SENDER, JUERGEN, "here")
    [mail] = wait_until(lambda: arrived(a.mail(JUERGEN), "here"))
    assert f"Delivered-To: {JUERGEN}\n".encode() in mail and b" with UTF8SMTP id " in mail and f"for <{JUERGEN}>".encode() in mail


def test_utf8_to_the_next_tappal_and_back(a, b):
    send_utf8(a, JUERGEN, JOERG_B, "over", ["ENVID=utf8"])
    [mail] = wait_until(lambda: arrived(b.mail(JOERG_B), "over"))
    assert f"Return-Path: <{JUERGEN}>\n".encode() in mail and mail.count(b" with UTF8SMTP id ") == 2
    assert wait_until(lambda: "to=<j??rg@b.esmtp.tappal>, relay=" in a.log()), a.log()[-3000:]   # no octet of it can forge a line


def test_utf8_to_postfix(a, postfix):
    send_utf8(a, SENDER, JOERG_PF, "postfix")
    assert wait_until(lambda: arrived(postfix.mail(JOERG_PF), "postfix")), a.log()[-4000:] + postfix.log()[-3000:]


def test_utf8_that_a_server_does_not_take_comes_back(a, sink):
    """RFC 6531 3.2: not to a server without SMTPUTF8; the report is one of RFC 6533, and reaches a sender in UTF-8."""
    send_utf8(a, JUERGEN, "jörg@old.esmtp.tappal", "back")
    found = wait_until(lambda: [m for m in a.mail(JUERGEN) if b"multipart/report" in m])
    assert len(found) == 1, a.log()[-4000:]
    message = email.message_from_bytes(found[0], policy=email.policy.default)
    assert [p.get_content_type() for p in message.iter_parts()] == ["text/plain", "message/global-delivery-status", "message/global"]
    assert "Final-Recipient: utf-8; jörg@old.esmtp.tappal\nAction: failed\nStatus: 5.6.7\n".encode() in found[0]
    assert not any("größe back".encode() in c.received for c in sink.connections)
    assert a.wait_empty()


def test_utf8_shown_by_the_tools(a):
    a.kill("spawn-local")
    try:
        send_utf8(a, SENDER, JUERGEN, "shown")
        waiting = wait_until(a.queue)
        assert waiting[0]["recipients"][0]["address"] == JUERGEN
        assert JUERGEN in a.tappal("queue", "why", waiting[0]["queue_id"])
    finally:
        a.start("spawn-local")
    assert a.wait_empty()


# ---- lengths

def test_long_and_short_in_one_connection(a):
    """On each side of every length at which a body goes another way (64 KiB: more than one buffer; 128 KiB: a file of its own), one behind the other."""
    sizes = [100, 65000, 66000, 100, 130000, 130600, 130700, 130800, 130900, 131000, 131100, 100, 300000, 66000, 131072, 100]
    bodies = [b"Subject: %d of %d\r\n\r\n" % (n, size) + b"%09d\r\n" % n * (size // 11) + b"x" * (size % 11) + b"\r\n" for n, size in enumerate(sizes)]
    with a.smtp() as s:
        s.ehlo()
        for body in bodies:
            assert s.sendmail(SENDER, [JOE_A], body) == {}
    for body in bodies:
        wanted = body.replace(b"\r\n", b"\n")
        assert wait_until(lambda wanted=wanted: sum(m.endswith(b"\n" + wanted) for m in a.mail(JOE_A)) == 1), a.log()[-3000:]


# ---- CHUNKING

def bdat(a, sender, rcpts, chunks, options=""):
    """A transaction in chunks, all of it in one write; the replies' codes."""
    with a.smtp() as s:
        s.ehlo()
        assert s.has_extn("chunking") and s.has_extn("binarymime")
        out = f"MAIL FROM:<{sender}>{options}\r\n".encode() + b"".join(f"RCPT TO:<{rcpt}>\r\n".encode() for rcpt in rcpts)
        for n, chunk in enumerate(chunks, 1):
            out += b"BDAT %d%s\r\n" % (len(chunk), b" LAST" if n == len(chunks) else b"") + chunk
        s.sock.sendall(out)
        return [s.getreply()[0] for _ in range(1 + len(rcpts) + len(chunks))]


def test_chunks_to_a_mailbox_and_to_postfix(a, postfix):
    """What came by BDAT is relayed by DATA: octet for octet, dots and all."""
    body = b"Subject: chunks\r\n\r\n.\r\nQUIT\r\n..two\r\n" + b"line of text\r\n" * 30000 + b"the end of chunks\r\n"
    chunks = [body[:5], body[5:7], *(body[at:at + 70000] for at in range(7, len(body), 70000))]
    for rcpt in (JOE_A, JOE_PF):
        assert set(bdat(a, SENDER, [rcpt], chunks)) == {250}
    wanted = body.replace(b"\r\n", b"\n")
    assert wait_until(lambda: any(m.endswith(wanted) for m in a.mail(JOE_A))), a.log()[-3000:]
    assert wait_until(lambda: any(m.rstrip(b"\n").endswith(wanted.rstrip(b"\n")) for m in postfix.mail(JOE_PF))), postfix.log()[-3000:]


def test_chunks_that_would_smuggle_stay_out(a, sink):
    """A bare LF around a dot, whole and cut: refused, and nothing of it reaches the next server."""
    before = len(sink.messages())
    for chunks in ([b"x: smuggler\r\n\r\na\n.\nMAIL FROM:<e@evil.example>\r\n"], [b"x: smuggler\r\n\r\na\n", b".\r\nMAIL FROM:<e@evil.example>\r\n"],
                   [b"x: smuggler\r\n\r\na\r", b".\r\n"]):
        assert 554 in bdat(a, SENDER, ["joe@old.esmtp.tappal"], chunks)
    assert a.wait_empty() and len(sink.messages()) == before


# ---- BINARYMIME

OCTETS = b"\x00.\r\n.\r\n..\n\r\r\nMAIL FROM:<e@evil.example>\r\n\xff\n.\n" + bytes(range(256)) * 1000 + b"no end"


def binary(mark, mime_type=b"application/octet-stream"):
    return b"Subject: %s\r\nMIME-Version: 1.0\r\nContent-Type: %s\r\nContent-Transfer-Encoding: binary\r\n\r\n" % (mark, mime_type) + OCTETS


def marked(mails, mark):
    return [m for m in mails if b"Subject: " + mark in m]


def test_binary_untouched_and_converted(a, sink, binary_sink):
    """A server that takes binary mail gets its octets; one that does not, and a Maildir, get a message that decodes to them. The queue knows what it has."""
    message = binary(b"octets")
    a.kill("spawn-local")
    try:
        rcpts = ["joe@binary.esmtp.tappal", "joe@old.esmtp.tappal", JOE_A]
        assert set(bdat(a, SENDER, rcpts, [message[:100], message[100:70000], message[70000:]], " BODY=BINARYMIME")) == {250}
        [waiting] = wait_until(a.queue)
        assert "BINARYMIME" in a.tappal("queue", "show", waiting["queue_id"])
        assert json.loads(a.tappal("queue", "why", "--json", waiting["queue_id"]))["body"] == "BINARYMIME"
    finally:
        a.start("spawn-local")
    assert a.wait_empty(), a.log()[-5000:]
    [taken] = marked([m.data for m in binary_sink.messages()], b"octets")
    assert taken.endswith(b"\r\n" + message)
    for [found] in (marked([m.data for m in sink.messages()], b"octets"), marked(a.mail(JOE_A), b"octets")):
        mail = email.message_from_bytes(found)
        assert (mail["Content-Transfer-Encoding"], mail.get_payload(decode=True)) == ("base64", OCTETS)


def test_binary_that_cannot_be_converted_comes_back(a, sink):
    """For lack of BINARYMIME at the next server, and for a Maildir; the report is text, so it has the header alone."""
    message = binary(b"piece", b"message/partial; id=1; number=1; total=2")
    for rcpt in ("joe@old.esmtp.tappal", JOE_A):
        assert set(bdat(a, SENDER, [rcpt], [message], f" RET=FULL ENVID=piece-{rcpt} BODY=BINARYMIME".replace("@", "-at-"))) == {250}
        parts = report(a, f"piece-{rcpt}".replace("@", "-at-"))
        _, status = fields(parts[1])
        assert (status["Status"], status["Action"]) == ("5.6.3", "failed") and parts[2].get_content_type() == "text/rfc822-headers"
    assert not marked(a.mail(JOE_A), b"piece") and not marked([m.data for m in sink.messages()], b"piece")
    assert a.wait_empty()
