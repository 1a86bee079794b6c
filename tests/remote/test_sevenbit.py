"""8-bit messages for servers without 8BITMIME: what is converted, what goes as it is, what is returned, and what the server is told of the size."""
import email
import random

import pytest

import mimetrees
from sink import Sink
from worker import OK, PERM, TEMP, enhanced, stage

TEXT = b"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
LABEL = b"Content-Transfer-Encoding: 8bit\r\n"
AUML = "\u00e4".encode()
EIGHT = TEXT + LABEL + b"Subject: x\r\n\r\n" + AUML + b" \r\n.\r\nFrom me\r\n"
SEVEN = EIGHT.replace(b"8bit", b"quoted-printable").replace(AUML + b" ", b"=C3=A4=20").replace(b"\r\n.", b"\r\n=2E").replace(b"From me", b"=46rom me")
PARTIAL = b"Content-Type: message/partial; id=1; number=1; total=2\r\n\r\nSubject: x\r\n\r\n" + AUML + b"\r\n"
LINE = b"A line of a log file that nobody ever reads.\r\n"


def to(sink):
    return "r:[%s]:%d" % (sink.host, sink.port)


def taken(worker, body, declared=True, extensions=("PIPELINING", "SIZE 0")):
    """What a server with these extensions gets: the octets, and the MAIL command."""
    with Sink(extensions=extensions) as sink:
        r = worker.send(to(sink), body=body, body_type=int(declared)).one
        assert r.verdict == OK, r
        (message,) = sink.messages()
        return message.data, message.mail


@pytest.mark.parametrize("declared", [True, False])
@pytest.mark.parametrize("extensions", [("PIPELINING", "SIZE 0"), ("SIZE",)], ids=["pipelining", "plain"])
def test_converted(worker, declared, extensions):
    data, mail = taken(worker, EIGHT, declared, extensions)
    assert data == SEVEN
    assert mail == b"MAIL FROM:<sender@remote.tappal> SIZE=%d" % len(SEVEN)


@pytest.mark.parametrize("declared", [True, False])
def test_not_with_8bitmime(worker, declared):
    """Nor is it hidden from the server what comes, whatever was declared."""
    data, mail = taken(worker, EIGHT, declared, ("8BITMIME", "SIZE"))
    assert data == EIGHT
    assert mail == b"MAIL FROM:<sender@remote.tappal> SIZE=%d BODY=8BITMIME" % len(EIGHT)


@pytest.mark.parametrize("body,said", [(SEVEN, b""), (TEXT + b"\r\n" + LINE * 20000, b""), (EIGHT + LINE * 20000, b" BODY=8BITMIME")],
                         ids=["short", "ASCII so far", "8-bit so far"])
def test_declared_where_it_is_so(worker, body, said):
    data, mail = taken(worker, body, False, ("8BITMIME",))
    assert data == body and mail == b"MAIL FROM:<sender@remote.tappal>" + said


def test_after_helo(worker):
    with Sink(rules={"EHLO": "502 5.5.1 what?"}) as sink:
        assert worker.send(to(sink), body=EIGHT, body_type=1).one.verdict == OK
        assert sink.messages()[0].data == SEVEN


@pytest.mark.parametrize("body", [TEXT + LABEL + b"\r\nplain\r\n",
                                  b"Content-Type: multipart/mixed; boundary=b\r\n" + LABEL + b"\r\n--b\r\n\r\n" + b"x" * 2000 + b"\r\n--b--\r\n",
                                  b""], ids=["labelled", "long line", "empty"])
@pytest.mark.parametrize("declared", [True, False])
def test_without_8bit_data_nothing_is_touched(worker, declared, body):
    data, mail = taken(worker, body, declared)
    assert data == body
    assert mail == b"MAIL FROM:<sender@remote.tappal> SIZE=%d" % len(body)


def test_8bit_data_in_the_header_goes_as_it_is(worker):
    body = TEXT + LABEL + b"Subject: " + AUML + b"\r\n\r\n"
    assert taken(worker, body + AUML + b"\r\n")[0] == body.replace(b"8bit", b"quoted-printable") + b"=C3=A4\r\n"


@pytest.mark.parametrize("body", [PARTIAL, TEXT + b"Content-Transfer-Encoding: base64\r\n\r\n" + AUML + b"\r\n"], ids=["partial", "label"])
def test_what_cannot_be_converted(worker, body):
    with Sink(extensions=["SIZE"]) as sink:
        r = worker.send(to(sink), body=body, body_type=1).one
        assert (r.verdict, enhanced(r), stage(r), r.code) == (PERM, "5.6.3", "mail", 0)
        assert b"cannot be converted: a part that" in r.text
        assert sink.connections[0].commands == [b"EHLO remote.tappal"]
        # The connection is as good as new, and a message of which nobody said that it is 8-bit goes.
        assert worker.send(to(sink), body=body).one.verdict == OK
        assert sink.messages()[0].data == body and len(sink.connections) == 1


@pytest.mark.parametrize("declared", [True, False])
def test_switched_off(rooms, declared):
    rooms.set(convert8bit="no")
    with rooms.worker() as worker:
        assert taken(worker, EIGHT, declared) == (EIGHT, b"MAIL FROM:<sender@remote.tappal> SIZE=%d" % len(EIGHT))


def test_several_recipients(worker):
    with Sink(rules={"RCPT": {"bad@x.tappal": "550 5.1.1 no"}}, extensions=["PIPELINING"]) as sink:
        answer = worker.send(to(sink), body=EIGHT, body_type=1, rcpts=["good@x.tappal", "bad@x.tappal"])
        assert [answer[i].verdict for i in (0, 1)] == [OK, PERM]
        assert sink.messages()[0].data == SEVEN


# ---- sizes

def test_the_limit_counts_for_what_is_sent(worker):
    body = TEXT + b"\r\n" + (AUML * 40 + b"\r\n") * 10
    with Sink(extensions=["SIZE %d" % (len(body) + 10)]) as sink:
        r = worker.send(to(sink), body=body, body_type=1).one
        assert (r.verdict, enhanced(r), stage(r)) == (PERM, "5.3.4", "mail")
        assert len(sink.connections[0].commands) == 1


def test_long_message(worker):
    """More than is looked at beforehand: no size is told, because none is known."""
    body = TEXT + b"\r\n" + (AUML * 40 + b"\r\n") * 10000
    data, mail = taken(worker, body)
    assert mail == b"MAIL FROM:<sender@remote.tappal>"
    assert max(data) < 128 and max(map(len, data.split(b"\r\n"))) <= 76
    assert email.message_from_bytes(data).get_payload(decode=True) == email.message_from_bytes(body).get_payload(decode=True)


@pytest.mark.parametrize("declared", [True, False])
def test_long_attachments_do_not_matter(worker, declared):
    head = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Transfer-Encoding: base64\r\n\r\n" + b"QUJD" * 18 + b"\r\n" * 2
    body = head + (b"QUJD" * 18 + b"\r\n") * 20000 + b"--b\r\n\r\n" + AUML + b"\r\n--b--\r\n"
    data, _ = taken(worker, body, declared)
    assert data == body.replace(b"--b\r\n\r\n" + AUML, b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=C3=A4")


def test_long_text_without_a_declaration(worker):
    """Nobody said that it has 8-bit data, and for as long as it is held it has none: it goes as it came."""
    body = TEXT + b"\r\n" + LINE * 20000
    assert taken(worker, body, False)[0] == body
    body += AUML + b"\r\n"
    assert taken(worker, body, False)[0] == body
    assert max(taken(worker, body, True)[0]) < 128


def test_it_turns_out_late_that_it_cannot_be_converted(worker):
    body = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\n" + LINE * 40000 + b"--b\r\n" + PARTIAL + b"--b--\r\n"
    with Sink(extensions=["SIZE"]) as sink:
        r = worker.send(to(sink), body=body, body_type=1).one
        assert (r.verdict, enhanced(r), stage(r)) == (PERM, "5.6.3", "data")
        assert not sink.messages()
        # The data could only be ended by closing: the next message has a connection of its own.
        assert worker.send(to(sink), body=EIGHT, body_type=1).one.verdict == OK
        assert len(sink.connections) == 2 and [m.data for m in sink.messages()] == [SEVEN]


# ---- what was read ahead is not lost

@pytest.mark.parametrize("size", [100, 2000000])
def test_kept_connection_is_dead(worker, size):
    """The body was looked at for the old connection; the new one gets all of it."""
    body = EIGHT + LINE * (size // len(LINE))
    with Sink(rules={"MAIL": ["250 ok", "421 4.3.2 going down", "250 ok"]}, extensions=["PIPELINING"]) as sink:
        assert worker.send(to(sink)).one.verdict == OK
        assert worker.send(to(sink), body=body, body_type=1).one.verdict == OK
        assert len(sink.connections) == 2
        assert sink.messages()[1].data == SEVEN + LINE * (size // len(LINE))


def test_starter_goes_away_while_it_looks(worker):
    with Sink(extensions=["PIPELINING"]) as sink:
        worker.write(worker.head(to(sink), body_size=100000, body_type=1) + EIGHT)
        assert worker.close() == 111
        assert not sink.messages() and len(sink.connections[0].commands) <= 1


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA"])
def test_refusals(worker, verb):
    """Nothing of a message that was read ahead stands before the next job."""
    with Sink(rules={verb: ["450 4.7.1 later", None]}, extensions=[]) as sink:
        r = worker.send(to(sink), body=EIGHT * 3000, body_type=1).one
        assert (r.verdict, stage(r)) == (TEMP, verb.lower())
        assert worker.send(to(sink), body=EIGHT, body_type=1).one.verdict == OK
        assert [m.data for m in sink.messages()] == [SEVEN]


# ---- an oracle

@pytest.mark.parametrize("part", range(8))
def test_python_reads_the_same(worker, part):
    """Random trees: Python's email package finds the same parts with the same octets before and after."""
    converted = 0
    with Sink(extensions=["PIPELINING"]) as sink:
        for seed in range(part * 50, part * 50 + 50):
            body = mimetrees.message(random.Random(seed))
            assert worker.send(to(sink), body=body, body_type=1).one.verdict == OK, seed
            data = sink.messages()[-1].data
            if max(body) < 128:
                assert data in (body, body + b"\r\n"), seed
                continue
            converted += 1
            assert max(data) < 128, seed
            if not body.endswith(b"\r\n"):
                data = data[:-2]
            assert mimetrees.leaves(data) == mimetrees.leaves(body), seed
    assert converted > 20
