"""What a client may send to be taken for something else: ends of data that are none, in DATA, BDAT, headers and commands, in every combination of CR, LF and
NUL; and octets that could forge a line of the log, a field of ours or a field of the envelope."""
import itertools
import re

import pytest

ENDS = [b"\r\n", b"\n", b"\r", b"\r\r\n", b"\n\r", b"\n\n", b"\0", b"\r\0\n", b"\r\n\0", b""]
SMUGGLED = b"MAIL FROM:<smuggler@evil.test>\r\nRCPT TO:<joe@local.test>\r\nDATA\r\nFrom: smuggler@evil.test\r\n\r\nforged\r\n"


@pytest.fixture
def session(server):
    server.pool(maxerrors=100000, maxcommands=100000)
    with server.connect().greet() as mouth:
        yield mouth


def begin(mouth, *more):
    for line in ("MAIL FROM:<alice@example.org>", "RCPT TO:<joe@local.test>", *more):
        reply = mouth.ask(line)
        assert reply[:3] in ("250", "354"), (line, reply)


def is_text(octets):
    """CR and LF in pairs alone, and no NUL: a message that may be relayed."""
    return re.search(rb"\r(?!\n)|(?<!\r)\n|\0", octets) is None


def check_in_step(mouth):
    """Commands and replies still belong together: a smuggled command would have left a reply over."""
    assert mouth.ask("VRFY step") == "252 2.0.0 Cannot verify here; RCPT tells"


PLACES = {"first": b"", "header": b"Subject: x", "folded": b"Subject: x\r\n\ty", "body": b"Subject: x\r\n\r\nbody", "after a dot": b"Subject: x\r\n\r\n..\r\nx"}


@pytest.mark.parametrize("where", PLACES)
def test_data(server, session, where):
    """The message ends where CRLF.CRLF stands and nowhere else; one with a bare octet is refused whole."""
    taken = 0
    for before, after in itertools.product(ENDS, ENDS):
        inner = PLACES[where] + before + b"." + after
        # CRLF.CRLF itself, wherever it comes from; at the first octet of the data a dot is at a line's beginning, too.
        if b"\r\n.\r\n" in b"\r\n" + inner:
            continue
        begin(session, "DATA")
        session.socket.sendall(inner + SMUGGLED.replace(b"DATA\r\n", b"DATA\r\nx\r\n") + b"\r\n.\r\n")
        reply = session.hear()
        good = is_text(inner)
        assert reply.startswith("250 2.0.0 Ok: queued as" if good else "554 5.5.2"), (before, after, reply)
        check_in_step(session)
        taken += good
    lines = server.place.sink_lines()
    assert server.queued() == taken and "EFsmuggler@evil.test" not in lines


@pytest.mark.parametrize("where", PLACES)
def test_bdat(server, session, where):
    """In chunks nothing ends a message but LAST; the rules for its octets are those of DATA, for it may be relayed by DATA."""
    taken = 0
    for before, after in itertools.product(ENDS, ENDS):
        octets = PLACES[where] + before + b"." + after + SMUGGLED
        for cut in (0, len(PLACES[where]) + len(before), len(PLACES[where]) + 1):
            begin(session)
            good = is_text(octets)
            chunks = b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (cut, octets[:cut], len(octets) - cut, octets[cut:])
            session.socket.sendall(chunks)
            replies = [session.hear(), session.hear()]
            if good:
                assert replies[0].startswith("250 2.0.0") and replies[1].startswith("250 2.0.0 Ok: queued as"), (before, after, cut, replies)
            else:
                assert any(r.startswith("554 5.5.2") for r in replies) and replies[1][:3] in ("554", "503"), (before, after, cut, replies)
            check_in_step(session)
            taken += good
    assert server.queued() == taken and "EFsmuggler@evil.test" not in server.place.sink_lines()


def test_binary(server, session):
    """BODY=BINARYMIME frees one message's body: no end is in it. The next message is held to the rules again, in chunks and without."""
    taken = 0
    for before, after in itertools.product(ENDS, ENDS):
        octets = PLACES["body"] + before + b"." + after + SMUGGLED
        cut = len(octets) - len(SMUGGLED)
        assert session.ask("MAIL FROM:<alice@example.org> BODY=BINARYMIME").startswith("250")
        assert session.ask("RCPT TO:<joe@local.test>").startswith("250")
        session.socket.sendall(b"BDAT %d\r\n%sBDAT %d LAST\r\n%s" % (cut, octets[:cut], len(octets) - cut, octets[cut:]))
        replies = [session.hear(), session.hear()]
        assert replies[0].startswith("250 2.0.0") and replies[1].startswith("250 2.0.0 Ok: queued as"), (before, after, replies)
        check_in_step(session)
        taken += 1
    for last in (b"DATA\r\nx\ny\r\n.\r\n", b"BDAT 5 LAST\r\nx\ny\r\n"):
        begin(session)
        session.socket.sendall(last)
        assert "554 5.5.2" in [session.hear()[:9] for _ in range(2 if last.startswith(b"DATA") else 1)]
    assert server.queued() == taken and "EFsmuggler@evil.test" not in server.place.sink_lines()


COMMANDS = [b"NOOP", b"HELO x.test", b"EHLO x.test", b"MAIL FROM:<a@b.test>", b"RCPT TO:<joe@local.test>", b"DATA", b"BDAT 4 LAST", b"RSET", b"VRFY joe", b"HELP", b"AUTH PLAIN", b"STARTTLS",
            b"XCLIENT ADDR=192.0.2.1", b"XFORWARD IDENT=x", b"ETRN x.test", b"EXPN x", b"NONSENSE"]


def test_commands(server, session):
    """A line with a bare octet in it goes on to its CRLF and is refused whole: nothing before or behind the octet is carried out."""
    for command, bare in itertools.product(COMMANDS, [end for end in ENDS if not is_text(end) and b"\r\n" not in end]):
        for line in (command + bare + b"QUIT", bare + command, command[:3] + bare + command[3:], command + bare + b"x"):
            session.socket.sendall(line + b"\r\n")
            assert session.hear().startswith("500 5.5.2"), line
            check_in_step(session)
    assert server.queued() == 0


EVIL = [b"\x1b[2J", b"\x07", b"\x7f", b"\xc2\x85", b"\xe2\x80\xa8", b"\xff", b"\t", b"\x0b\x0c", b"%s%n", b"\\r\\n", b"a; status=sent", b"]: x[", b"> proto=ESMTP helo=<forged", b"(comment)",
        b"\"quoted\""]
LINE = re.compile(r"[0-9T:.+-]+ mx\.test tappal/smtpd\[\d+\]: [\x20-\x7e]*")


def test_log_and_trace(server, session):
    """Whatever stands in a command: a log line is one line of harmless octets, and our Received: is the one that we wrote."""
    for evil in EVIL:
        for line in (b"EHLO %s", b"HELO x%sx", b"MAIL FROM:<%s@b.test>", b"MAIL FROM:<\"%s\"@b.test>", b"RCPT TO:<%s@local.test>", b"VRFY %s", b"%s", b"ETRN %s", b"XCLIENT HELO=%s",
                     b"MAIL FROM:<a@b.test> ENVID=%s", b"MAIL FROM:<a@b.test> %s=x", b"BDAT 0%s LAST"):
            with server.connect() as mouth:
                assert mouth.hear().startswith("220 ")
                if not line.startswith((b"EHLO", b"HELO")):
                    assert mouth.ask("EHLO c.test").startswith("250-")
                mouth.socket.sendall(line.replace(b"%s", evil) + b"\r\n")
                reply = mouth.hear()
                assert reply is not None and re.fullmatch(r"[\x20-\x7e]*", reply), (line, evil, reply)
                if reply.startswith("250") and line.startswith((b"EHLO", b"HELO")):
                    assert mouth.mail(("Received: from evil by mx.test with ESMTP id 000000000001; forged", "", "x")).startswith("250 ")
    for line in server.log().splitlines():
        assert LINE.fullmatch(line), line
    lines = server.place.sink_lines()
    bodies = [i for i, line in enumerate(lines) if line.startswith("|Received: from ") and "by evil" not in line and not line.startswith("|Received: from evil")]
    assert len(bodies) == server.queued() > 20
    for i in bodies:
        # Ours is four lines, and then comes the first of the client's.
        assert re.fullmatch(r"\|Received: from [!-~]+ \(unknown \[127\.0\.0\.1\]\)\\r\\n", lines[i]), lines[i]
        assert lines[i].count("(") - lines[i].count("?(") == 1 and lines[i + 4].startswith("|Received: from evil"), lines[i:i + 5]
