"""Binary messages (BODY=BINARYMIME, RFC 3030): untouched and by BDAT to a server that takes them, else converted, else returned."""
import base64
import email

import pytest

from sink import Hangup, Sink
from worker import OK, PERM, TEMP, enhanced, stage

HEAD = b"MIME-Version: 1.0\r\nContent-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary\r\n\r\n"
OCTETS = b"\x00.\r\n.\r\n..\n\r\r\nQUIT\r\n\xff no end"
MESSAGE = HEAD + OCTETS
ENCODED = HEAD.replace(b"binary", b"base64") + base64.b64encode(OCTETS) + b"\r\n"
PARTIAL = HEAD.replace(b"application/octet-stream", b"message/partial; id=1; number=1; total=2") + OCTETS
BINARY = 2
TAKES = ("BINARYMIME", "CHUNKING", "8BITMIME", "SIZE 0")


def to(sink):
    return "r:[%s]:%d" % (sink.host, sink.port)


def taken(worker, body, extensions):
    with Sink(extensions=extensions) as sink:
        r = worker.send(to(sink), body=body, body_type=BINARY).one
        assert r.verdict == OK, r
        (message,) = sink.messages()
        return message, sink.connections[0].commands


@pytest.mark.parametrize("more", [(), ("PIPELINING",)], ids=["plain", "pipelining"])
def test_untouched(worker, more):
    message, commands = taken(worker, MESSAGE, TAKES + more)
    assert message.data == MESSAGE
    assert message.mail == b"MAIL FROM:<sender@remote.tappal> SIZE=%d BODY=BINARYMIME" % len(MESSAGE)
    assert commands[-1] == b"BDAT %d LAST" % len(MESSAGE) and b"DATA" not in commands


def test_untouched_however_long(worker):
    body = HEAD + bytes(range(256)) * 8000
    assert taken(worker, body, TAKES)[0].data == body


@pytest.mark.parametrize("extensions", [("8BITMIME", "SIZE 0"), ("BINARYMIME", "8BITMIME", "SIZE 0"), ("CHUNKING", "PIPELINING", "8BITMIME", "SIZE 0"), ("SIZE 0",)],
                         ids=["8BITMIME", "no CHUNKING", "no BINARYMIME", "nothing"])
def test_converted(worker, extensions):
    message, commands = taken(worker, MESSAGE, extensions)
    assert message.data == ENCODED and b"DATA" in commands
    assert message.mail == b"MAIL FROM:<sender@remote.tappal> SIZE=%d" % len(ENCODED) + (b" BODY=8BITMIME" if "8BITMIME" in extensions else b"")


def test_converted_however_long(worker):
    octets = bytes(range(256)) * 8000
    message, _ = taken(worker, HEAD + octets, ("8BITMIME", "SIZE 0"))
    assert email.message_from_bytes(message.data).get_payload(decode=True) == octets
    assert message.mail == b"MAIL FROM:<sender@remote.tappal> BODY=8BITMIME"


def test_converted_although_8bit_mail_is_not(rooms):
    """convert8bit is about text: a NUL or a bare LF cannot go by DATA."""
    rooms.set(convert8bit="no")
    with rooms.worker() as worker:
        assert taken(worker, MESSAGE, ("SIZE 0",))[0].data == ENCODED
        text = HEAD.replace(b"application/octet-stream", b"text/plain; charset=utf-8") + "\u00e4\r\n".encode()
        assert taken(worker, text, ("SIZE 0",))[0].data == text.replace(b"binary", b"8bit")


def test_what_cannot_be_converted(worker):
    with Sink(extensions=["8BITMIME"]) as sink:
        r = worker.send(to(sink), body=PARTIAL, body_type=BINARY).one
        assert (r.verdict, enhanced(r), stage(r), r.code) == (PERM, "5.6.3", "mail", 0)
        assert b"the message is binary, the server takes none (no BINARYMIME), and it cannot be converted: a part that must not be encoded" in r.text
        assert worker.send(to(sink), body=MESSAGE, body_type=BINARY).one.verdict == OK and len(sink.connections) == 1
    assert taken(worker, PARTIAL, TAKES)[0].data == PARTIAL


@pytest.mark.parametrize("more", [[], ["PIPELINING"]], ids=["plain", "pipelining"])
def test_refusals(worker, more):
    """No recipient is left: no chunk is sent. The next message on the connection goes as if nothing had been."""
    rules = {"RCPT": {"bad@x.tappal": "550 5.1.1 no"}, ".": ["450 4.2.0 later", None]}
    with Sink(rules=rules, extensions=[*TAKES, *more]) as sink:
        r = worker.send(to(sink), body=MESSAGE, body_type=BINARY, rcpts=["bad@x.tappal"]).one
        assert (r.verdict, stage(r)) == (PERM, "rcpt") and not sink.messages()
        r = worker.send(to(sink), body=MESSAGE, body_type=BINARY).one
        assert (r.verdict, stage(r)) == (TEMP, "final")
        answer = worker.send(to(sink), body=MESSAGE, body_type=BINARY, rcpts=["good@x.tappal", "bad@x.tappal"])
        assert [answer[i].verdict for i in (0, 1)] == [OK, PERM]
        assert worker.send(to(sink)).one.verdict == OK
        assert [m.data for m in sink.messages()][1:] == [MESSAGE, b"Subject: test\r\n\r\nhello\r\n"] and len(sink.connections) == 1


def test_starter_goes_away_within_the_chunk(worker):
    """The size was promised: only the end of the connection ends what is not whole."""
    with Sink(extensions=TAKES) as sink:
        worker.write(worker.head(to(sink), body_size=100000, body_type=BINARY) + MESSAGE)
        assert sink.wait_for(lambda s: s.connections and any(c.startswith(b"BDAT") for c in s.connections[0].commands))
        assert worker.close() == 111
        assert sink.wait_closed() and not sink.messages()


def test_server_goes_away_behind_the_chunk(worker):
    with Sink(rules={".": Hangup()}, extensions=TAKES) as sink:
        r = worker.send(to(sink), body=MESSAGE, body_type=BINARY).one
        assert (r.verdict, enhanced(r)) == (TEMP, "4.4.2")
