"""remote, through its pipes, against a server that does what a test says."""
import os
import pwd
import resource
import shutil
import socket
import time

import pytest

import records
from building import VARIANT
from sink import Delay, Dribble, Flood, Hangup, Raw, Reset, Sink, Stall
from worker import BODY, OK, PERM, TEMP, Worker, enhanced, stage


def to(sink):
    return "r:[%s%s]:%d" % ("IPv6:" if ":" in sink.host else "", sink.host, sink.port)


# ---- the way it should go

def test_one_message(worker):
    with Sink(rules={".": "250 2.0.0 queued as 17"}) as sink:
        answer = worker.send(to(sink))
        assert worker.close() == 0
        sink.wait_closed()
    r = answer.one
    assert (r.verdict, stage(r), r.code, enhanced(r), r.text) == (OK, "final", 250, "2.0.0", b"250 2.0.0 queued as 17")
    assert (r.ip, r.source_ip, r.error) == (b"127.0.0.1", b"127.0.0.1", 0)
    assert (answer.done.destination_failed, answer.done.reusable) == (0, 1)
    assert sink.connections[0].commands == [
        b"EHLO remote.tappal", b"MAIL FROM:<sender@remote.tappal> SIZE=%d" % len(BODY), b"RCPT TO:<rcpt@example.tappal>", b"DATA", b"QUIT"]
    assert sink.messages()[0].wire == BODY + b".\r\n"


def test_helohost_and_outgoingip(rooms):
    rooms.set(helohost="out.tappal", outgoingip="127.0.0.9")
    with rooms.worker() as worker, Sink() as sink:
        r = worker.send(to(sink)).one
        assert r.source_ip == b"127.0.0.9" and sink.connections[0].peer[0] == "127.0.0.9"
        assert sink.connections[0].commands[0] == b"EHLO out.tappal"


def test_empty_sender(worker):
    with Sink() as sink:
        assert worker.send(to(sink), sender="").one.verdict == OK
        assert sink.connections[0].commands[1].startswith(b"MAIL FROM:<> ")


def test_ipv6(worker):
    with Sink("::1") as sink:
        r = worker.send(to(sink)).one
        assert (r.verdict, r.ip, r.source_ip) == (OK, b"::1", b"::1")


def test_ipv6_literal_of_an_address(rooms):
    """user@[IPv6:::1] goes to port 25, here remoteport."""
    with Sink("::1") as sink:
        rooms.set(remoteport=str(sink.port))
        with rooms.worker() as worker:
            assert worker.send("r:[ipv6:::1]").one.verdict == OK


def test_without_pipelining(worker):
    with Sink(extensions=["SIZE 1000"]) as sink:
        answer = worker.send(to(sink), rcpts=["a@x.tappal", "b@x.tappal"])
        assert [r.verdict for r in answer.all] == [OK, OK]
        # Every command waits for the reply of the one before: none shares a read with another.
        assert all(octets.count(b"\r\n") == 1 for _, octets in sink.connections[0].reads[:-1])


def test_pipelined_group_is_one_write(worker):
    with Sink() as sink:
        worker.send(to(sink), rcpts=["a@x.tappal", "b@x.tappal"])
        assert sink.connections[0].reads[1][1].count(b"\r\n") == 4


def test_no_pipelining_after_helo(worker):
    with Sink(rules={"EHLO": "502 5.5.1 what?"}) as sink:
        assert worker.send(to(sink)).one.verdict == OK
        assert sink.connections[0].commands[:3] == [b"EHLO remote.tappal", b"HELO remote.tappal", b"MAIL FROM:<sender@remote.tappal>"]


def test_keywords_in_any_case_and_with_garbage(worker):
    with Sink(rules={"EHLO": "250-sink PIPELINING\n250-pipelining\n250-size\n250-8bitMIME \n250-\x01\x02\n250 AUTH=LOGIN"}) as sink:
        assert worker.send(to(sink), body_type=1).one.verdict == OK
        assert sink.connections[0].commands[1] == b"MAIL FROM:<sender@remote.tappal> SIZE=24 BODY=8BITMIME"


def test_first_line_of_ehlo_is_no_keyword(worker):
    with Sink(rules={"EHLO": "250 8BITMIME"}) as sink:
        assert worker.send(to(sink), body_type=1).one.verdict == OK
        assert sink.connections[0].commands[1] == b"MAIL FROM:<sender@remote.tappal>"


# ---- every verb failing in every way

VERBS = [("CONNECT", "greeting"), ("EHLO", "helo"), ("MAIL", "mail"), ("RCPT", "rcpt"), ("DATA", "data"), (".", "final")]
EARLY = ("CONNECT", "EHLO")


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("verb,where", VERBS)
def test_4xx(worker, verb, where, pipelining):
    with Sink(rules={verb: "450-4.7.9 later\n450 4.7.9 please"},
              extensions=["PIPELINING"] if pipelining else []) as sink:
        answer = worker.send(to(sink))
        r = answer.one
        assert (r.verdict, stage(r), r.code, enhanced(r), r.text) == (TEMP, where, 450, "4.7.9", b"450 4.7.9 later please")
        assert answer.done.destination_failed == (verb in EARLY)
        assert worker.close() == 0


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("verb,where", VERBS)
def test_5xx(worker, verb, where, pipelining):
    rules = {verb: "554 5.7.1 no"}
    with Sink(rules=rules, extensions=["PIPELINING"] if pipelining else []) as sink:
        answer = worker.send(to(sink))
        r = answer.one
        assert (r.verdict, stage(r), r.code, enhanced(r), r.text) == (PERM, where, 554, "5.7.1", b"554 5.7.1 no")
        assert answer.done.destination_failed == (verb in EARLY)


@pytest.mark.parametrize("rule", [Raw(b"hello\r\n"), Raw(b"\r\n"), Raw(b"2\r\n"), Raw(b"999 x\r\n"), Raw(b"250x\r\n"), Raw(b"\0\0\0\r\n"), Raw(b"250-a\r\n550 b\r\n"),
                                  Flood(b"x"), Flood(b"250-x\r\n"), Raw(b"150 x\r\n")],
                         ids=["word", "empty", "digit", "999", "no-separator", "nul", "mixed", "endless-line", "million-lines", "1xx"])
@pytest.mark.parametrize("verb,where", VERBS)
def test_garbage(worker, verb, where, rule):
    with Sink(rules={verb: rule}) as sink:
        r = worker.send(to(sink)).one
        assert (r.verdict, stage(r), enhanced(r)) == (TEMP, where, "4.5.0"), r
        assert r.text
        # And the worker is as good as new.
        sink.rules.clear()
        assert worker.send(to(sink)).one.verdict == OK


@pytest.mark.parametrize("how", [Hangup(), Reset()], ids=["close", "reset"])
@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("verb,where", VERBS)
def test_hangup(worker, verb, where, how, pipelining):
    with Sink(rules={verb: how}, extensions=["PIPELINING"] if pipelining else []) as sink:
        r = worker.send(to(sink)).one
        if isinstance(how, Reset) and stage(r) == "connect":   # the reset may come before the connection is looked at
            where = "connect"
        assert (r.verdict, stage(r), enhanced(r), r.code) == (TEMP, where, "4.4.1" if where == "connect" else "4.4.2", 0), r
        assert b"lost" in r.text or where == "connect"
        sink.rules.clear()
        assert worker.send(to(sink)).one.verdict == OK


@pytest.mark.parametrize("verb,where", VERBS)
def test_stall(rooms, verb, where):
    rooms.set(timeoutremote="1")
    for _ in range(5):
        with rooms.worker() as worker, Sink(rules={verb: Stall()}) as sink:
            began = time.monotonic()
            r = worker.send(to(sink)).one
            assert (r.verdict, enhanced(r)) == (TEMP, "4.4.2") and b"time ran out" in r.text and time.monotonic() - began > 0.9
        if stage(r) == where:
            return
    assert stage(r) == where    # five times something else took a second, too


def test_dripping_reply_does_not_prolong_the_wait(rooms):
    rooms.set(timeoutremote="1")
    with rooms.worker() as worker, Sink(rules={"MAIL": Dribble(b"250-" + b"x" * 10000, 0.05)}) as sink:
        assert worker.send(to(sink)).one.verdict == TEMP


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
def test_421_ends_the_connection(worker, verb):
    with Sink(rules={verb: ["421 4.3.2 shutting down", None]}) as sink:
        r = worker.send(to(sink), rcpts=["a@x.tappal", "b@x.tappal"])
        assert [(x.verdict, x.code) for x in r.all] == [(TEMP, 421)] * 2
        assert worker.send(to(sink)).one.verdict == OK
        assert len(sink.connections) == 2


def test_dribbled_replies_are_understood(worker):
    with Sink(rules={"CONNECT": Dribble(b"220-a\r\n220 b\r\n", 0.001), "EHLO": Dribble(b"250-s\r\n250-PIPELINING\r\n250 SIZE\r\n", 0.001),
                     "MAIL": Dribble(b"250 ok\r\n", 0.001), ".": Dribble(b"250-2.0.0 a\r\n250 2.0.0 b\r\n", 0.001)}) as sink:
        assert worker.send(to(sink)).one.text == b"250 2.0.0 a b"


def test_lone_lf_ends_a_reply_line(worker):
    with Sink(rules={"MAIL": Raw(b"250-one\n250 two\n")}) as sink:
        assert worker.send(to(sink)).one.verdict == OK


def test_reply_text_cannot_carry_controls(worker):
    with Sink(rules={"RCPT": Raw(b"550 5.1.1 a\x1b[31m\rb\0c\td\x7f\xc3\xa9\r\n")}) as sink:
        assert worker.send(to(sink)).one.text == b"550 5.1.1 a?[31m?b?c d?\xc3\xa9"


def test_long_reply_text_is_cut(worker):
    with Sink(rules={"RCPT": Flood(b"550-5.1.1 " + b"y" * 300 + b"\r\n", 50, "550 5.1.1 end")}) as sink:
        r = worker.send(to(sink)).one
        assert (r.verdict, len(r.text), enhanced(r)) == (PERM, 1000, "5.1.1")


@pytest.mark.parametrize("verb,where", [("MAIL", "mail"), ("RCPT", "rcpt"), ("DATA", "data"), (".", "final")])
def test_class_that_makes_no_sense(worker, verb, where):
    code = "250 fine" if verb == "DATA" else "354 fine"
    with Sink(rules={verb: [Raw(code.encode() + b"\r\n"), None]}) as sink:
        r = worker.send(to(sink)).one
        assert (r.verdict, stage(r), enhanced(r)) == (TEMP, where, "4.5.0")
        assert worker.send(to(sink)).one.verdict == OK
        assert len(sink.connections) == 2, "replies and commands may not match any more: a new connection"


# ---- recipients

MIX = {"good@x.tappal": "250 2.1.5 ok", "grey@x.tappal": "450 4.7.1 greylisted", "bad@x.tappal": "550 5.1.1 unknown", "also@x.tappal": "251 forwarded"}


@pytest.mark.parametrize("pipelining", [True, False])
def test_mixed_recipients(worker, pipelining):
    with Sink(rules={"RCPT": MIX, ".": "250 2.0.0 done"}, extensions=["PIPELINING"] if pipelining else []) as sink:
        answer = worker.send(to(sink), rcpts=list(MIX))
        assert [(answer[i].verdict, answer[i].code, stage(answer[i])) for i in range(4)] == [
            (OK, 250, "final"), (TEMP, 450, "rcpt"), (PERM, 550, "rcpt"), (OK, 250, "final")]
        assert sink.messages()[0].rcpts == [b"RCPT TO:<good@x.tappal>", b"RCPT TO:<also@x.tappal>"]


@pytest.mark.parametrize("pipelining", [True, False])
def test_mixed_recipients_and_data_refused(worker, pipelining):
    with Sink(rules={"RCPT": MIX, "DATA": "451 4.3.0 no"}, extensions=["PIPELINING"] if pipelining else []) as sink:
        answer = worker.send(to(sink), rcpts=list(MIX))
        assert [(answer[i].verdict, answer[i].code) for i in range(4)] == [(TEMP, 451), (TEMP, 450), (PERM, 550), (TEMP, 451)]
        sink.rules.clear()
        assert worker.send(to(sink)).one.verdict == OK
        assert b"RSET" in sink.connections[0].commands and len(sink.connections) == 1


def test_354_although_all_were_refused(worker):
    """RFC 2920 3.1: a lone dot, and what the server says to it is nobody's verdict."""
    with Sink(rules={"RCPT": ["550 5.1.1 no", "450 4.1.1 no", None]}) as sink:
        answer = worker.send(to(sink), rcpts=["a@x.tappal", "b@x.tappal"])
        assert [(r.verdict, r.code) for r in answer.all] == [(PERM, 550), (TEMP, 450)]
        assert sink.messages()[0].wire == b".\r\n"
        assert worker.send(to(sink)).one.verdict == OK and len(sink.connections) == 1


def test_data_refused_as_nobody_is_left(worker):
    with Sink(rules={"RCPT": ["550 5.1.1 no", None], "DATA": ["503 5.5.1 no valid recipients", None]}) as sink:
        assert worker.send(to(sink)).one.code == 550
        assert worker.send(to(sink)).one.verdict == OK
        assert sink.connections[0].commands.count(b"RSET") == 1


def test_mail_refused_in_a_group(worker):
    """What follows a refused MAIL is read and counts no more, whatever it is."""
    with Sink(rules={"MAIL": ["550 5.7.1 not you", None], "RCPT": ["250 ok", "503 5.5.1 need MAIL", None], "DATA": ["354 go", None]}) as sink:
        answer = worker.send(to(sink), rcpts=["a@x.tappal", "b@x.tappal"])
        assert [(r.verdict, r.code, stage(r)) for r in answer.all] == [(PERM, 550, "mail")] * 2
        assert sink.messages()[0].wire == b".\r\n"
        assert worker.send(to(sink)).one.verdict == OK


def test_552_for_a_recipient_too_many_is_temporary(worker):
    with Sink(rules={"RCPT": ["250 ok", "552 too many recipients", "552 5.2.2 mailbox full"]}) as sink:
        answer = worker.send(to(sink), rcpts=["a@x.tappal", "b@x.tappal", "c@x.tappal"])
        assert [(r.verdict, enhanced(r)) for r in (answer[0], answer[1], answer[2])] == [(OK, "2.0.0"), (TEMP, "4.5.3"), (PERM, "5.2.2")]


def test_thousand_recipients(worker):
    rcpts = ["u%d@x.tappal" % i for i in range(1000)]
    with Sink(rules={"RCPT": {r: "550 5.1.1 odd" for r in rcpts[1::2]}}) as sink:
        answer = worker.send(to(sink), rcpts=rcpts)
        assert [answer[i].verdict for i in range(1000)] == [OK, PERM] * 500
        assert len(sink.messages()[0].rcpts) == 500


FIVE = ["u%d@x.tappal" % i for i in range(5)]


@pytest.mark.parametrize("pipelining", [["PIPELINING"], []], ids=["pipelined", "plain"])
def test_no_more_recipients_than_the_server_takes(worker, pipelining):
    """RFC 9422. A server that is asked for more hangs up, and none of them would ever get through."""
    def strict(connection, line):
        return "421 4.5.3 too many" if len(connection.rcpts) == 2 else "550 5.1.1 no" if b"u3@" in line else None
    with Sink(rules={"RCPT": strict}, extensions=pipelining + ["LIMITS FUTURE=x rcptmax=2 MAILMAX=100"]) as sink:
        answer = worker.send(to(sink), rcpts=FIVE)
        assert [answer[i].verdict for i in range(5)] == [OK, OK, OK, PERM, OK]
        assert [(len(m.rcpts), m.data) for m in sink.messages()] == [(2, BODY), (1, BODY), (1, BODY)] and len(sink.connections) == 1
        assert worker.send(to(sink)).one.verdict == OK and len(sink.connections) == 1


def test_too_many_recipients_of_what_cannot_be_held(worker):
    with Sink(extensions=["LIMITS RCPTMAX=2"]) as sink:
        answer = worker.send(to(sink), rcpts=FIVE, body=b"Subject: x\r\n\r\n" + b"line\r\n" * 100000)
        assert [(answer[i].verdict, enhanced(answer[i])) for i in range(5)] == [(OK, "2.0.0")] * 2 + [(TEMP, "4.5.3")] * 3
        assert len(sink.messages()[0].data) == 600014 and len(sink.messages()) == 1
    with Sink(rules={".": Hangup("250 2.0.0 ok")}, extensions=["LIMITS RCPTMAX=2"]) as sink:
        answer = worker.send(to(sink), rcpts=FIVE)
        assert [answer[i].verdict for i in range(5)] == [OK] * 2 + [TEMP] * 3 and len(sink.connections) == 1


@pytest.mark.parametrize("rules,said,groups", [
    ({"MAIL": ["250 ok", "550 5.7.1 no"]}, [250, 250, 550, 550, 550], 2),
    ({"MAIL": ["250 ok", Hangup("421 4.7.0 enough")]}, [250, 250, 421, 421, 421], 2),
    ({"RCPT": ["250 ok", "250 ok", "250 ok", Hangup("421 4.7.0 enough")]}, [250, 250, 421, 421, 421], 2),
    ({"RCPT": ["250 ok", "550 5.1.1 no", "550 5.1.1 no", Hangup()]}, [250, 550, 550, 0, 0], 2),
    ({"DATA": [None, "451 4.3.0 later", None]}, [250, 250, 451, 451, 250], 3),
    ({"DATA": Hangup("421 4.3.2 going down")}, [421] * 5, 1),
    ({".": Hangup("421 4.3.2 going down")}, [421] * 5, 1),
    ({".": ["250 ok", Hangup()]}, [250, 250, 0, 0, 0], 2),
    ({"RCPT": "550 5.1.1 no", ".": Hangup()}, [550, 550, 0, 0, 0], 1),
])
def test_answer_for_more_than_its_group(worker, rules, said, groups):
    """What is about the message, or ends the connection, those of later groups get to hear, too; nothing is asked again for them."""
    with Sink(rules=rules, extensions=["PIPELINING", "LIMITS RCPTMAX=2"]) as sink:
        answer = worker.send(to(sink), rcpts=FIVE)
        assert [answer[i].code for i in range(5)] == said and all(b"LIMITS" not in r.text for r in answer.all)
        assert len(sink.connections) == 1 and sum(command.startswith(b"MAIL") for command in sink.commands()) == groups


@pytest.mark.parametrize("extension,refused", [("SMTPUTF8", "5.6.0"), ("SIZE 500000", "5.3.4")], ids=["in the middle", "by its size"])
def test_refusal_of_the_message_in_the_first_group(worker, extension, refused):
    with Sink(extensions=["LIMITS RCPTMAX=2", extension], during_data=(100000, Hangup("554 5.6.0 no"))) as sink:
        answer = worker.send(to(sink), rcpts=FIVE, body=b"x" * 76 + b"\r\n" * 3000000)
        assert [(r.verdict, enhanced(r)) for r in answer.all] == [(PERM, refused)] * 5


def test_no_more_messages_than_the_server_takes(worker):
    with Sink(extensions=["LIMITS MAILMAX=2 RCPTMAX=0"]) as sink:
        assert [worker.send(to(sink)).one.verdict for _ in range(3)] == [OK] * 3
        assert len(sink.connections) == 2 and sink.connections[0].commands[-1] == b"QUIT"


@pytest.mark.parametrize("limits", ["LIMITS", "LIMITS RCPTMAX", "LIMITS RCPTMAX= MAILMAX=x", "LIMITS RCPTMAX=1x  =1", "LIMITS RCPTMAX=99999999999999999999"])
def test_limits_that_make_no_sense(worker, limits):
    with Sink(extensions=[limits]) as sink:
        assert [r.verdict for r in worker.send(to(sink), rcpts=FIVE).all] == [OK] * 5
        assert len(sink.messages()) == 1


def test_server_that_reads_nothing_before_its_replies_are_read(worker):
    """Long replies to a long group: both ends would wait for the other if replies were not read while commands go out."""
    rcpts = ["u%d@x.tappal" % i for i in range(1000)]
    with Sink(rules={"RCPT": "550 5.1.1 " + "z" * 400}) as sink:
        answer = worker.send(to(sink), rcpts=[{"address": r} for r in rcpts])
        assert all(answer[i].verdict == PERM for i in range(1000))


def test_lost_in_the_middle_of_the_recipients(worker):
    with Sink(rules={"RCPT": ["250 ok", "550 5.1.1 no", Hangup()]}) as sink:
        answer = worker.send(to(sink), rcpts=["a@x.tappal", "b@x.tappal", "c@x.tappal", "d@x.tappal"])
        assert [answer[i].verdict for i in range(4)] == [TEMP, PERM, TEMP, TEMP]


# ---- extensions

def test_size_is_checked_here(worker):
    with Sink(extensions=["SIZE 10"]) as sink:
        r = worker.send(to(sink)).one
        assert (r.verdict, enhanced(r), r.code) == (PERM, "5.3.4", 0)
        assert worker.send(to(sink), body=b"x\r\n").one.verdict == OK
        assert [c[:4] for c in sink.commands()] == [b"EHLO", b"MAIL", b"RCPT", b"DATA"]


@pytest.mark.parametrize("word", ["SIZE", "SIZE 0", "SIZE x", "SIZE 99999999999999999999999"])
def test_size_without_a_limit(worker, word):
    with Sink(extensions=[word]) as sink:
        assert worker.send(to(sink)).one.verdict == OK
        assert b" SIZE=24" in sink.connections[0].commands[1]


def test_8bit(worker):
    with Sink(extensions=["8BITMIME"]) as sink:
        assert worker.send(to(sink), body="ä\r\n".encode(), body_type=1).one.verdict == OK
        assert b"BODY=8BITMIME" in sink.connections[0].commands[1]


def test_smtputf8(worker):
    with Sink(extensions=["SMTPUTF8", "8BITMIME"]) as sink:
        assert worker.send(to(sink), sender="jürgen@remote.tappal", rcpts=["δοκιμή@x.tappal"], smtputf8=1).one.verdict == OK
        assert sink.connections[0].commands[1] == "MAIL FROM:<jürgen@remote.tappal> SMTPUTF8".encode()
    with Sink() as sink:
        r = worker.send(to(sink), smtputf8=1, body="Subject: grün\r\n\r\n".encode()).one
        assert (r.verdict, enhanced(r)) == (PERM, "5.6.7")
        r = worker.send(to(sink), smtputf8=1, body=b"Subject: long\r\n\r\n" + b"x\r\n" * 100000 + "ü".encode() + b"x\r\n" * 200000).one
        assert (r.verdict, enhanced(r)) == (PERM, "5.6.7")


def test_smtputf8_asked_for_and_not_needed(worker):
    """RFC 6531: a message of which every octet is ASCII is one that any server takes, whatever its sender announced."""
    with Sink(extensions=["8BITMIME"]) as sink:
        assert worker.send(to(sink), smtputf8=1, body=b"Subject: plain\r\n\r\nplain\r\n").one.verdict == OK
        assert b"SMTPUTF8" not in sink.connections[0].received and sink.messages()[0].data == b"Subject: plain\r\n\r\nplain\r\n"
        assert worker.send(to(sink), smtputf8=1, body=b"Subject: long\r\n\r\n" + b"x\r\n" * 200000).one.verdict == OK


@pytest.mark.skipif(VARIANT == "asan", reason="sanitizers take address space as they need it")
def test_no_memory_is_no_fault_of_the_message(worker, rooms):
    """A worker that has no more address space than one that held only a short message."""
    with Sink(extensions=["SIZE"]) as sink:
        assert worker.send(to(sink)).one.verdict == OK
        with open("/proc/%d/status" % worker.process.pid, encoding="ascii") as f:
            enough = [int(line.split()[1]) for line in f if line.startswith("VmPeak:")][0] * 1024 + 65536
        with Worker(rooms.instance.libexec + "/remote", preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (enough, enough))) as small:
            assert small.send(to(sink)).one.verdict == OK
            r = small.send(to(sink), smtputf8=1, body=b"Subject: plain\r\n\r\n" + b"x\r\n" * 150000).one
            assert (r.verdict, enhanced(r), stage(r)) == (TEMP, "4.3.0", "mail") and b"memory" in r.text


def test_utf8_orcpt(worker):
    rcpts = [{"address": "jürgen@x.tappal", "orcpt": "utf-8;jürgen@x.tappal", "notify": "FAILURE"}]
    with Sink(extensions=["SMTPUTF8", "8BITMIME", "DSN"]) as sink:
        assert worker.send(to(sink), rcpts=rcpts, smtputf8=1).one.verdict == OK
        assert sink.connections[0].commands[2] == "RCPT TO:<jürgen@x.tappal> NOTIFY=FAILURE ORCPT=utf-8;jürgen@x.tappal".encode()
    with Sink(extensions=["8BITMIME", "DSN"]) as sink:
        worker.send(to(sink), rcpts=[{"address": "j@x.tappal", "orcpt": "utf-8;jürgen@x.tappal"}])
        assert sink.connections[0].commands[2] == b"RCPT TO:<j@x.tappal>"


def test_utf8_address_needs_smtputf8_even_unflagged(worker):
    with Sink() as sink:
        assert enhanced(worker.send(to(sink), rcpts=["jürgen@x.tappal"]).one) == "5.6.7"


def test_dsn_parameters(worker):
    rcpts = [{"address": "a@x.tappal", "notify": "SUCCESS,FAILURE", "orcpt": "rfc822;a+40x"}, {"address": "b@x.tappal", "notify": "NEVER\r\nRSET", "orcpt": "a b"}]
    with Sink(extensions=["DSN"]) as sink:
        worker.send(to(sink), rcpts=rcpts, envid="QQ+2B1", ret="HDRS")
        assert sink.connections[0].commands[1:4] == [
            b"MAIL FROM:<sender@remote.tappal> RET=HDRS ENVID=QQ+2B1", b"RCPT TO:<a@x.tappal> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+40x",
            b"RCPT TO:<b@x.tappal>"]
    with Sink(extensions=[]) as sink:
        worker.send(to(sink), rcpts=rcpts, envid="QQ+2B1", ret="HDRS")
        assert b"RET" not in sink.connections[0].received and b"NOTIFY" not in sink.connections[0].received


def test_the_stage_says_who_reports_success(worker):
    """queued reports a success itself, unless the server announced DSN and took the message; a refusal is its own all the same."""
    final, final_dsn = 10, 13
    with Sink(extensions=["DSN"], rules={".": ["250 ok", "554 5.6.0 no"]}) as sink:
        assert [worker.send(to(sink)).one.stage for _ in range(2)] == [final_dsn, final]
    with Sink(extensions=[]) as sink:
        assert worker.send(to(sink)).one.stage == final


# ---- the body, octet by octet

BODIES = {
    "empty": (b"", b".\r\n"),
    "dots": (b".\r\n..\r\n.x\r\nx.\r\n", b"..\r\n...\r\n..x\r\nx.\r\n.\r\n"),
    "no end": (b"a", b"a\r\n.\r\n"),
    "dot at the end": (b"a\r\n.", b"a\r\n..\r\n.\r\n"),
    "cr at the end": (b"a\r", b"a\r\n.\r\n"),
    "bare lf": (b"a\n.\nb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
    "bare cr": (b"a\r.\rb\r\n", b"a\r\n..\r\nb\r\n.\r\n"),
    "cr cr lf": (b"a\r\r\n.\r\n", b"a\r\n\r\n..\r\n.\r\n"),
    "lf dot crlf": (b"x\n.\r\nMAIL FROM:<evil@x.tappal>\r\n", b"x\r\n..\r\nMAIL FROM:<evil@x.tappal>\r\n.\r\n"),
    "nul and high": (b"\0\xff\x80\r\n", b"\0\xff\x80\r\n.\r\n"),
}


@pytest.mark.parametrize("name", list(BODIES))
def test_body(worker, name):
    body, wire = BODIES[name]
    with Sink() as sink:
        assert worker.send(to(sink), body=body).one.verdict == OK
        assert sink.messages()[0].wire == wire
        assert len(sink.messages()) == 1


def test_megabyte_line(worker):
    body = b"x" * 1000000 + b"\r\n." + b"." * 1000000 + b"\r\n"
    with Sink() as sink:
        assert worker.send(to(sink), body=body).one.verdict == OK
        assert sink.messages()[0].data == body


def test_large_body_of_short_lines(worker):
    body = b".\r\n" * 2000000
    with Sink() as sink:
        assert worker.send(to(sink), body=body, timeout=120).one.verdict == OK
        assert sink.messages()[0].wire == b"..\r\n" * 2000000 + b".\r\n"


def test_body_comes_slowly(rooms):
    """The wait for octets from our own side is no wait for the server."""
    with rooms.worker() as worker, Sink() as sink:
        worker.write(worker.head(to(sink), body_size=12))
        for _ in range(4):
            time.sleep(0.1)
            worker.write(b"a\r\n")
        assert worker.answer().one.verdict == OK
        assert sink.messages()[0].data == b"a\r\n" * 4


def test_body_ends_too_early(rooms):
    """The starter dies in the middle: the server must never see a final dot."""
    with rooms.worker() as worker, Sink() as sink:
        worker.write(worker.head(to(sink), body_size=100, body_type=1) + b"half\r\n")      # declared: it is not looked at before
        assert sink.wait_for(lambda s: s.connections and b"half" in s.connections[0].received or s.commands()[-1:] == [b"DATA"])
        assert worker.close() == 111
        sink.wait_closed()
        assert not sink.messages() and b"\r\n.\r\n" not in sink.connections[0].received


def test_refusal_in_the_middle_of_the_data(worker):
    """A server may have had enough (RFC 5321 has no word for it, servers do it): its 552 counts, and nobody waits for the rest."""
    with Sink(during_data=(100000, Hangup("552 5.3.4 too big"))) as sink:
        answer = worker.send(to(sink), body=b"x" * 76 + b"\r\n" * 3000000)
        r = answer.one
        assert (r.verdict, r.code, stage(r)) == (PERM, 552, "data")
        assert worker.send(to(sink)).one.verdict == OK


def test_server_that_stops_reading_the_data(rooms):
    rooms.set(timeoutremote="1")
    with rooms.worker() as worker, Sink(during_data=(1000, Delay(5, Hangup()))) as sink:
        r = worker.send(to(sink), body=b"x" * 9000000).one
        assert (r.verdict, enhanced(r), stage(r)) == (TEMP, "4.4.2", "data")


def test_an_early_250_is_not_taken_for_the_last(worker):
    """354 and 250 in one go, before a single octet of the message was sent."""
    with Sink(rules={"DATA": [Raw(b"354 go\r\n250 2.0.0 have it\r\n"), None]}) as sink:
        r = worker.send(to(sink)).one
        assert (r.verdict, enhanced(r)) == (TEMP, "4.5.0")
        assert not sink.messages()


def test_one_reply_too_many_before_mail(worker):
    with Sink(rules={"EHLO": [Raw(b"250 sink\r\n250 2.0.0 surplus\r\n"), None]}) as sink:
        assert worker.send(to(sink)).one.verdict == TEMP
        assert b"DATA" not in sink.commands()
        assert worker.send(to(sink)).one.verdict == OK


# ---- connections that are kept

def test_connection_is_kept(worker):
    with Sink() as sink:
        for _ in range(5):
            assert worker.send(to(sink)).one.verdict == OK
        assert worker.close() == 0
        sink.wait_closed()
        assert len(sink.connections) == 1 and b"RSET" not in sink.commands() and sink.commands()[-1] == b"QUIT"


def test_idle_connection_is_closed_with_quit(rooms):
    rooms.set(connectionidle="1")
    with rooms.worker() as worker, Sink() as sink:
        worker.send(to(sink))
        assert sink.wait_closed(4) and sink.commands()[-1] == b"QUIT"
        assert worker.send(to(sink)).one.verdict == OK and len(sink.connections) == 2


def test_server_that_closes_an_idle_connection(worker):
    with Sink(rules={".": ["250 ok", None]}) as sink:
        sink.rules["."] = [lambda c, l: Hangup("250 2.0.0 and goodbye"), None]
        assert worker.send(to(sink)).one.verdict == OK
        assert worker.send(to(sink)).one.verdict == OK
        assert len(sink.connections) == 2


@pytest.mark.parametrize("end", [Hangup(), Reset(), "421 4.4.2 idle too long"], ids=["close", "reset", "421"])
@pytest.mark.parametrize("pipelining", [True, False])
def test_kept_connection_that_died_is_opened_once_more(worker, end, pipelining):
    """At the MAIL of the second message. Not a mark against anybody, and the message is whole."""
    with Sink(rules={"MAIL": ["250 ok", end, "250 ok"]}, extensions=["PIPELINING"] if pipelining else []) as sink:
        assert worker.send(to(sink)).one.verdict == OK
        answer = worker.send(to(sink), body=b"second\r\n")
        assert answer.one.verdict == OK and answer.done.destination_failed == 0
        assert len(sink.connections) == 2 and sink.messages()[1].data == b"second\r\n"


def test_but_only_once(worker):
    with Sink(rules={"MAIL": ["250 ok", Hangup()]}) as sink:
        worker.send(to(sink))
        assert worker.send(to(sink)).one.verdict == TEMP
        assert len(sink.connections) == 2


def test_rset_that_fails_gives_a_new_connection(worker):
    with Sink(rules={"RCPT": ["550 5.1.1 no", None], "DATA": ["503 5.5.1 no", None], "RSET": "500 5.5.1 what"}) as sink:
        assert worker.send(to(sink)).one.verdict == PERM
        assert worker.send(to(sink)).one.verdict == OK and len(sink.connections) == 2


def test_other_destination_other_connection(worker):
    with Sink() as one, Sink() as two:
        assert worker.send(to(one)).one.verdict == OK
        assert worker.send(to(two)).one.verdict == OK
        assert one.commands()[-1] == b"QUIT" and len(two.messages()) == 1


def test_server_that_ignores_quit(worker):
    with Sink(rules={"QUIT": Stall()}) as sink:
        worker.send(to(sink))
        assert worker.close() == 0


# ---- no connection at all

def test_nobody_listens(worker):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    answer = worker.send("r:[127.0.0.1]:%d" % port)
    r = answer.one
    assert (r.verdict, stage(r), enhanced(r), r.error) == (TEMP, "connect", "4.4.1", 111) and b"refused" in r.text
    assert r.ip == b"127.0.0.1" and answer.done.destination_failed == 1


def test_connect_that_hangs(rooms):
    """A listener whose backlog is full does not answer."""
    rooms.set(timeoutconnect="1")
    with rooms.worker() as worker, socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen(0)
        fillers = []
        for _ in range(4):
            c = socket.socket()
            c.setblocking(False)
            c.connect_ex(s.getsockname())
            fillers.append(c)
        time.sleep(0.2)
        began = time.monotonic()
        r = worker.send("r:[127.0.0.1]:%d" % s.getsockname()[1]).one
        for c in fillers:
            c.close()
        assert (r.verdict, stage(r), enhanced(r), r.error) == (TEMP, "connect", "4.4.1", 110)
        assert time.monotonic() - began > 0.9


@pytest.mark.parametrize("destination", ["r:not a domain", "r:", "l:user", "r:[300.1.1.1]", "r:-x-.tappal", "r:[", "r:a..tappal"])
def test_destinations_that_make_no_sense(worker, destination):
    r = worker.send(destination).one
    assert (r.verdict, enhanced(r), stage(r)) == (PERM, "5.1.2", "dns")


def test_resolver_is_away(worker):
    answer = worker.send("r:example.tappal")
    assert (answer.one.verdict, enhanced(answer.one), stage(answer.one)) == (TEMP, "4.4.3", "dns")
    assert answer.done.destination_failed == 1


# ---- records that make no sense

@pytest.mark.parametrize("octets", [b"x" * 100, b"\xff" * 8, b"\x08\0\0\0\x14\0\x74\x70"], ids=["text", "ff", "short job"])
def test_broken_records_end_it(worker, octets):
    worker.write(octets)
    assert worker.process.wait(120) == 111


def test_too_many_recipients_end_it(worker):
    worker.write(records.encode("job", job=1, destination="r:x.tappal", rcpt_count=1001))
    assert worker.process.wait(120) == 111


def test_recipients_of_another_job_end_it(worker):
    worker.write(records.encode("job", job=1, destination="r:x.tappal", rcpt_count=1) + records.encode("job_rcpt", job=2, address="a@x.tappal"))
    assert worker.process.wait(120) == 111


@pytest.mark.parametrize("sender,rcpt", [("a@x.tappal>\r\nRSET", "b@x.tappal"), ("a@x.tappal", "b@x.tappal>\r\nRCPT TO:<c@x.tappal"), ("a@x.tappal", ""),
                                         ("a@x.tappal", "no domain")])
def test_addresses_that_would_end_a_command_end_it(worker, sender, rcpt):
    with Sink() as sink:
        worker.write(worker.head(to(sink), sender=sender, rcpts=[rcpt]) + BODY)
        assert worker.process.wait(120) == 111
        assert not sink.connections


def test_set_uid_from_spawns_account(rooms):
    """As it is installed: of tappal-remote, set-uid and set-gid, for members of its group: tappal-spawn alone."""
    path = rooms.instance.libexec + "/remote-setuid"
    shutil.copy(rooms.instance.libexec + "/remote", path)
    shutil.chown(path, "tappal-remote", "tappal-remote")
    os.chmod(path, 0o6750)
    with Worker(path, user="tappal-spawn", group="tappal-log", extra_groups=["tappal-remote"]) as worker, Sink() as sink:
        assert worker.send(to(sink)).one.verdict == OK
        uid = str(pwd.getpwnam("tappal-remote").pw_uid)
        with open("/proc/%d/status" % worker.process.pid, encoding="ascii") as f:
            assert [line.split()[1:] for line in f if line.startswith("Uid:")] == [[uid] * 4]
    with pytest.raises(PermissionError):
        Worker(path, user="tappal-smtpd", group="tappal-smtpd", extra_groups=[])


def test_it_becomes_its_account(worker):
    with open("/proc/%d/status" % worker.process.pid, encoding="ascii") as f:
        end = time.monotonic() + 120
        uid = pwd.getpwnam("tappal-remote").pw_uid
        while time.monotonic() < end:
            f.seek(0)
            ids = [line.split()[1:] for line in f if line.startswith("Uid:")][0]
            if ids == [str(uid)] * 4:
                return
            time.sleep(0.01)
    raise AssertionError(ids)


def test_memory_stays_bounded(worker):
    with Sink(rules={"RCPT": Flood(b"250-x\r\n", 3000000)}) as sink:
        worker.send(to(sink))
        with open("/proc/%d/statm" % worker.process.pid, encoding="ascii") as f:
            assert int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") < 16 << 20
