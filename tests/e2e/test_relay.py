"""From host to host: by MX, to and from Postfix, past hosts that are down, and back as bounces."""
import email
import os
import signal

import pytest

from dnszone import Zones
from host import ROOTS, Host, wait_until
from peers import Postfix
from sink import Sink

RECORDS = [
    "b MX 10 mx.b", "mx.b A 127.0.0.22",
    "pf MX 10 mx.pf", "mx.pf A 127.0.0.23",
    "two MX 10 dead", "two MX 20 mx.b", "dead A 127.0.0.99",
    "onlydead MX 10 dead",
    "nomx A 127.0.0.22",
    "null MX 0 .",
    "loop MX 10 mx.a", "mx.a A 127.0.0.21",
    "sink MX 10 mx.sink", "mx.sink A 127.0.0.24",
]

JOE_B = "joe@b.example.tappal"
SENDER = "ann@a.example.tappal"


@pytest.fixture(scope="module")
def dns():
    with Zones({"example.tappal": RECORDS}) as server:
        yield server


@pytest.fixture(scope="module")
def a(dns):
    settings = {"me": "mx.a.example.tappal", "locals": ["a.example.tappal"], "clients": ["127.0.0.0/8"], "remoteport": "2525", "dnsforward": dns.server,
                "dnstrustanchor": "", "retryfirst": "1", "retrymax": "2", "timeoutconnect": "20", "timeoutremote": "60"}
    with Host("a", "127.0.0.21", settings=settings) as host:
        host.add_mailbox(SENDER)
        host.start()
        yield host


@pytest.fixture(scope="module")
def b(dns):
    settings = {"me": "mx.b.example.tappal", "locals": ["b.example.tappal", "two.example.tappal", "nomx.example.tappal"]}
    with Host("b", "127.0.0.22", settings=settings) as host:
        for address in (JOE_B, "joe@two.example.tappal", "joe@nomx.example.tappal"):
            host.add_mailbox(address)
        host.start()
        yield host


@pytest.fixture(scope="module")
def postfix(tmp_path_factory):
    base = f"{ROOTS}/relay-postfix"
    os.makedirs(base, exist_ok=True)
    server = Postfix(base, "127.0.0.23", 2525, "mx.pf.example.tappal", domains=["pf.example.tappal"], users=["joe@pf.example.tappal"],
                     routes={"b.example.tappal": "[127.0.0.22]:2525"})
    if not server.available():
        pytest.skip("Debian's Postfix could not be unpacked")
    server.start()
    yield server
    server.stop()


def bounce_of(host, marker):
    """The report in ann's mailbox that quotes `marker`."""
    found = wait_until(lambda: [m for m in host.mail(SENDER) if marker.encode() in m and b"multipart/report" in m])
    assert found, host.log()[-6000:]
    assert len(found) == 1
    return email.message_from_bytes(found[0])


def report_fields(message):
    part = [p for p in message.walk() if p.get_content_type() == "message/delivery-status"][0]
    return [dict(block.items()) for block in part.get_payload()]


def test_by_mx_to_another_tappal(a, b):
    body = b"Subject: over\r\n\r\n.leading dot\r\n..two\r\n\xe4\xf6\r\nfrom a to b\r\n"
    a.send(SENDER, [JOE_B], body)
    mail = b.wait_mail(JOE_B)
    assert len(mail) == 1, a.log()[-4000:] + b.log()[-4000:]
    assert mail[0].endswith(b".leading dot\n..two\n\xe4\xf6\nfrom a to b\n")
    assert mail[0].count(b"\nReceived: ") == 2
    assert a.wait_empty()


def test_the_next_mx_when_the_first_is_down(a, b):
    a.send(SENDER, ["joe@two.example.tappal"])
    assert len(b.wait_mail("joe@two.example.tappal")) == 1, a.log()[-4000:]


def test_address_record_without_mx(a, b):
    a.send(SENDER, ["joe@nomx.example.tappal"])
    assert len(b.wait_mail("joe@nomx.example.tappal")) == 1, a.log()[-4000:]


def test_to_postfix(a, postfix):
    a.send(SENDER, ["joe@pf.example.tappal"], b"Subject: x\r\n\r\nto postfix\r\n")
    assert wait_until(lambda: any(b"to postfix" in m for m in postfix.mail("joe@pf.example.tappal"))), a.log()[-4000:] + postfix.log()[-2000:]


def test_from_postfix(b, postfix):
    import smtplib
    before = len(b.mail(JOE_B))
    with smtplib.SMTP("127.0.0.23", 2525) as s:
        s.sendmail("x@pf.example.tappal", [JOE_B], b"Subject: x\r\n\r\nfrom postfix\r\n")
    assert any(b"from postfix" in m for m in b.wait_mail(JOE_B, before + 1)), postfix.log()[-3000:] + b.log()[-3000:]


def test_unknown_user_there_bounces_at_once(a, b):
    a.send(SENDER, ["nobody-at-all@b.example.tappal"])
    message = bounce_of(a, "nobody-at-all@b.example.tappal")
    assert message["Return-Path"] == "<>"
    fields = report_fields(message)[1]
    assert fields["Action"] == "failed" and fields["Status"] == "5.1.1"
    assert "550" in fields["Diagnostic-Code"] and fields["Remote-MTA"].startswith("dns;")


def test_null_mx_bounces(a):
    a.send(SENDER, ["joe@null.example.tappal"])
    assert report_fields(bounce_of(a, "joe@null.example.tappal"))[1]["Status"] == "5.1.10"


def test_unknown_domain_bounces(a):
    a.send(SENDER, ["joe@nosuch.example.tappal"])
    assert report_fields(bounce_of(a, "joe@nosuch.example.tappal"))[1]["Status"] == "5.1.2"


def test_mx_that_is_ourselves_bounces(a):
    a.send(SENDER, ["joe@loop.example.tappal"])
    assert report_fields(bounce_of(a, "joe@loop.example.tappal"))[1]["Status"] == "5.4.6"


def test_down_host_is_retried_and_bounces_at_its_lifetime(a):
    a.send(SENDER, ["joe@onlydead.example.tappal"])
    waiting = wait_until(lambda: [m for m in a.queue() if m["recipients"][0]["address"] == "joe@onlydead.example.tappal"])
    assert waiting
    why = a.tappal("queue", "why", waiting[0]["queue_id"])
    assert "onlydead.example.tappal" in why
    assert wait_until(lambda: "status=deferred" in "".join(line for line in a.log().splitlines() if "joe@onlydead" in line))
    a.set("queuelifetime", "1")
    a.restart("queued", signal.SIGTERM)
    try:
        # the destination's own back-off of a minute is what holds it now; an operator's retry lifts it
        assert wait_until(lambda: any(b"joe@onlydead" in m for m in a.mail(SENDER)) or a.tappal("queue", "retry", waiting[0]["queue_id"], check=False) is None, step=1)
        fields = report_fields(bounce_of(a, "joe@onlydead.example.tappal"))[1]
    finally:
        a.set("queuelifetime", "7d")
        a.restart("queued", signal.SIGTERM)
    assert fields["Action"] == "failed" and fields["Status"].startswith("4.4.") or fields["Status"].startswith("5.4.")
    deferred = [x for x in a.log().splitlines() if "joe@onlydead" in x and "status=deferred" in x]
    assert len(deferred) >= 1


def test_mixed_verdicts_of_one_message(a):
    replies = {"good@sink.example.tappal": "250 2.1.5 fine", "later@sink.example.tappal": "450 4.2.1 come again", "never@sink.example.tappal": "550 5.7.1 not you"}

    def taken(sink, address):
        return [m for m in sink.messages() if any(address.encode() in line for line in m.rcpts)]

    with Sink("127.0.0.24", 2525, rules={"RCPT": replies}) as sink:
        a.send(SENDER, list(replies), b"Subject: mix\r\n\r\nmixed\r\n")
        fields = report_fields(bounce_of(a, "never@sink.example.tappal"))
        assert [f["Final-Recipient"] for f in fields[1:]] == ["rfc822; never@sink.example.tappal"]
        assert taken(sink, "good@sink.example.tappal") and not taken(sink, "later@sink.example.tappal")
        replies["later@sink.example.tappal"] = "250 2.1.5 now"
        assert wait_until(lambda: taken(sink, "later@sink.example.tappal")), a.log()[-4000:]
        assert len(taken(sink, "good@sink.example.tappal")) == 1
    assert a.wait_empty()


def test_8bit_mail_for_a_host_without_8bitmime(a):
    """As qmail's clients send it, undeclared, and declared; converted either way, and the queue is empty then."""
    import smtplib
    body = "Subject: x\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\ngr\u00fc\u00dfe\r\n".encode()
    with Sink("127.0.0.24", 2525, extensions=["PIPELINING", "SIZE 10000000"]) as sink:
        with smtplib.SMTP("127.0.0.21", 2525) as s:
            s.sendmail(SENDER, ["joe@sink.example.tappal"], body)
            s.sendmail(SENDER, ["joe@sink.example.tappal"], body, mail_options=["BODY=8BITMIME"])
        assert wait_until(lambda: len(sink.messages()) == 2), a.log()[-4000:]
        for message in sink.messages():
            assert message.data.endswith(b"\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ngr=C3=BC=C3=9Fe\r\n")
            assert message.mail == b"MAIL FROM:<%s> SIZE=%d" % (SENDER.encode(), len(message.data))
    assert a.wait_empty()
