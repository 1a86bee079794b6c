"""inject and sendmail: what they hand to enqueue for each option, with a fake enqueue in a root of their own that records it."""
import os
import re
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from building import ROOTS, put_programs

ROOT = f"{ROOTS}/submission"
LIBEXEC, BIN, ETC = f"{ROOT}/usr/libexec/tappal", f"{ROOT}/usr/bin", f"{ROOT}/etc/tappal"
MESSAGE = b"From: ann@a.example\nTo: joe@b.example\nSubject: x\n\nbody\n"


@pytest.fixture(scope="module", autouse=True)
def root():
    shutil.rmtree(ROOT, ignore_errors=True)
    for directory in (LIBEXEC, BIN, ETC):
        os.makedirs(directory)
    put_programs(ROOT, ["local/sendmail"], LIBEXEC)
    put_programs(ROOT, ["local/inject"], BIN)
    for name in ("mailq", "newaliases"):
        os.symlink("sendmail", f"{LIBEXEC}/{name}")
    shutil.copy(os.path.join(os.path.dirname(__file__), "fake_enqueue.py"), f"{LIBEXEC}/enqueue")
    for name, directory in (("tappal", BIN), ("smtpd", LIBEXEC)):
        with open(f"{directory}/{name}", "w") as f:
            f.write('#!/bin/sh\necho "$0" "$@"\n')
        os.chmod(f"{directory}/{name}", 0o755)
    os.chmod(f"{LIBEXEC}/enqueue", 0o755)
    setting("me", "here.example")
    yield
    shutil.rmtree(ROOT, ignore_errors=True)


@pytest.fixture(autouse=True)
def clean():
    for name in ("message", "envelope", "exit"):
        if os.path.exists(f"{LIBEXEC}/{name}"):
            os.unlink(f"{LIBEXEC}/{name}")


def setting(name, value):
    with open(f"{ETC}/{name}", "w") as f:
        f.write(value + "\n")


def run(argv, message=MESSAGE, env=None, **keys):
    return subprocess.run(argv, input=message, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120,
                          env={"PATH": "/usr/bin:/bin", **(env or {})}, **keys)


def sendmail(*options, message=MESSAGE, name="sendmail", **keys):
    return run([f"{LIBEXEC}/{name}", *options], message, **keys)


def inject(*options, message=MESSAGE, **keys):
    return run([f"{BIN}/inject", *options], message, **keys)


def envelope():
    """Fields of the envelope that enqueue got, or None when it got none. The Message-ID in it is the header's, or there is none."""
    try:
        data = open(f"{LIBEXEC}/envelope", "rb").read()
    except OSError:
        return None
    assert data.endswith(b"\0\0")
    found = data[:-2].decode().split("\0")
    ids = [f[1:] for f in found if f[0] == "M"]
    assert ids == ["".join(c for c in value if "!" <= c <= "~") for value in fields("Message-ID")[:1] if 0 < len(value) <= 250]
    return [f for f in found if f[0] != "M"]


def message():
    return open(f"{LIBEXEC}/message", "rb").read()


def fields(name):
    """All values of a header field of the message that enqueue got."""
    head = re.split(rb"\r?\n\r?\n", message(), maxsplit=1)[0].decode("latin-1")
    return [m.group(1).strip() for m in re.finditer(rf"^{name}:(.*(?:\n[ \t].*)*)", head, re.M | re.I)]


# ---- the options matrix: arguments, message -> envelope

HEADER = b"To: t1@b.example, t2@b.example\nCc: c@b.example\nBcc: b@b.example\nSubject: x\n\nbody\n"

MATRIX = [
    (["joe@b.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example"]),
    (["-i", "joe@b.example", "sue@c.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example", "Tsue@c.example"]),
    (["joe@b.example,sue@c.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example", "Tsue@c.example"]),
    (["joe@b.example", "joe@b.example", "JOE@B.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example", "TJOE@b.example"]),
    (["Joe Example <joe@b.example>"], MESSAGE, ["Froot@here.example", "Tjoe@b.example"]),
    (["joe"], MESSAGE, ["Froot@here.example", "Tjoe@here.example"]),
    (["-f", "s@a.example", "joe@b.example"], MESSAGE, ["Fs@a.example", "Tjoe@b.example"]),
    (["-fs@a.example", "joe@b.example"], MESSAGE, ["Fs@a.example", "Tjoe@b.example"]),
    (["-r", "s", "joe@b.example"], MESSAGE, ["Fs@here.example", "Tjoe@b.example"]),
    (["-f", "", "joe@b.example"], MESSAGE, ["F", "Tjoe@b.example"]),
    (["-f", "<>", "joe@b.example"], MESSAGE, ["F", "Tjoe@b.example"]),
    (["-f", "Sue <s@a.example>", "joe@b.example"], MESSAGE, ["Fs@a.example", "Tjoe@b.example"]),
    (["-t"], HEADER, ["Froot@here.example", "Tt1@b.example", "Tt2@b.example", "Tc@b.example", "Tb@b.example"]),
    (["-ti"], HEADER, ["Froot@here.example", "Tt1@b.example", "Tt2@b.example", "Tc@b.example", "Tb@b.example"]),
    (["-t", "extra@b.example"], HEADER, ["Froot@here.example", "Textra@b.example", "Tt1@b.example", "Tt2@b.example", "Tc@b.example", "Tb@b.example"]),
    (["-t"], b"Resent-To: r@b.example\n" + HEADER, ["Froot@here.example", "Tr@b.example"]),
    (["-oi", "-oem", "-odb", "-om", "-o7", "joe@b.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example"]),
    (["-oA", "/etc/aliases", "joe@b.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example"]),
    (["-O", "SuperSafe=yes", "-ODeliveryMode=b", "joe@b.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example"]),
    (["-Am", "-Ac", "-C/etc/x.cf", "-G", "-h3", "-L", "tag", "-n", "-m", "-U", "-v", "-x", "-X", "/dev/null", "-em", "-d0.1", "-D", "x", "-p", "esmtp", "-bm",
      "joe@b.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example"]),
    (["-B8BITMIME", "joe@b.example"], MESSAGE, ["Froot@here.example", "B", "Tjoe@b.example"]),
    (["-B", "7bit", "joe@b.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example"]),
    (["-N", "success, failure", "joe@b.example", "sue@c.example"], MESSAGE,
     ["Froot@here.example", "Tjoe@b.example", "NSUCCESS,FAILURE", "Tsue@c.example", "NSUCCESS,FAILURE"]),
    (["-N", "never", "joe@b.example"], MESSAGE, ["Froot@here.example", "Tjoe@b.example", "NNEVER"]),
    (["-R", "hdrs", "-V", "a b+c=d", "joe@b.example"], MESSAGE, ["Froot@here.example", "Ea+20b+2Bc+3Dd", "RHDRS", "Tjoe@b.example"]),
    (["-R", "full", "joe@b.example"], MESSAGE, ["Froot@here.example", "RFULL", "Tjoe@b.example"]),
    (["m\u00fcller@b.example"], MESSAGE, ["Froot@here.example", "U", "Tm\u00fcller@b.example"]),
    (["--", "-joe@b.example"], MESSAGE, ["Froot@here.example", "T-joe@b.example"]),
    (["joe@b.example", "-f"], MESSAGE, ["Froot@here.example", "Tjoe@b.example", "T-f@here.example"]),
]


@pytest.mark.parametrize("options,text,expected", MATRIX, ids=[" ".join(o) for o, _, _ in MATRIX])
def test_envelope(options, text, expected):
    r = sendmail(*options, message=text)
    assert (r.returncode, r.stderr) == (0, b"")
    assert envelope() == expected


REFUSED = [
    ([], MESSAGE, 64), (["-t"], b"Subject: nobody\n\nx\n", 64), (["-Z"], MESSAGE, 64), (["-f"], MESSAGE, 64), (["-bx", "a@b.example"], MESSAGE, 64), (["-bd"], MESSAGE, 64),
    (["-bt"], MESSAGE, 64), (["-N", "sometimes", "a@b.example"], MESSAGE, 64), (["-N", "never,delay", "a@b.example"], MESSAGE, 64), (["-R", "some", "a@b.example"], MESSAGE, 64),
    (["-V", "x" * 101, "a@b.example"], MESSAGE, 64), (["-B", "6BIT", "a@b.example"], MESSAGE, 64), (["-qX"], MESSAGE, 64), (["a@b@c"], MESSAGE, 65), (["Ann Example"], MESSAGE, 65),
    (["-f", "a b", "a@b.example"], MESSAGE, 65), (["-t"], b"To: fine@b.example\nCc: not fine\n\nx\n", 65), (["x" * 251 + "@b.example"], MESSAGE, 65),
    (["joe@b.example"], b"X: " + b"y" * (2 << 20) + b"\n\nx\n", 65),
]


@pytest.mark.parametrize("options,text,code", REFUSED, ids=[" ".join(o)[:40] + f" {len(t)}" for o, t, _ in REFUSED])
def test_refused_and_nothing_sent(options, text, code):
    r = sendmail(*options, message=text)
    assert r.returncode == code
    assert r.stderr.startswith(b"sendmail: ") and r.stderr.count(b"\n") == 1
    assert envelope() is None


@pytest.mark.parametrize("said,code", [(0, 0), (11, 65), (31, 69), (51, 75), (52, 75), (53, 75), (59, 75), (62, 75), (66, 75), (81, 75), (91, 75), (99, 75), (13, 69)])
def test_exit_codes_of_enqueue(said, code):
    with open(f"{LIBEXEC}/exit", "w") as f:
        f.write(str(said))
    expected = {0: 0, 65: 100, 69: 100, 75: 111}[code]
    assert sendmail("joe@b.example").returncode == code
    assert inject("joe@b.example").returncode == expected


# ---- the message

def test_header_is_completed():
    sendmail("joe@b.example", message=b"Subject: x\n\nbody\n")
    assert re.fullmatch(r"root \S.*|\"root\" <root@here.example>|.*<root@here.example>", fields("From")[0])
    assert re.fullmatch(r"[A-Z][a-z]{2}, \d{1,2} [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}", fields("Date")[0])
    assert re.fullmatch(r"<[0-9A-Z.]+@here\.example>", fields("Message-ID")[0])
    assert re.fullmatch(r"\(tappal \d+ invoked by uid 0\); .*", fields("Received")[0])
    assert message().endswith(b"\n\nbody\n")


def test_header_that_is_whole_stays():
    text = b"From: ann@a.example\nDate: Sat, 21 Nov 2026 20:28:54 +0000\nMessage-ID: <x@y>\nX-Long: 1\n 2\n\t3\n\nbody\n"
    sendmail("joe@b.example", message=text)
    assert message().split(b"\n", 1)[1] == text


def test_message_ids_differ():
    seen = set()
    for _ in range(20):
        sendmail("joe@b.example", message=b"\nbody\n")
        seen.add(fields("Message-ID")[0])
    assert len(seen) == 20


def test_bcc_return_path_and_mbox_line_are_removed():
    sendmail("-t", message=b"From ann Sat Nov 21\nReturn-Path: <x@y.example>\nTo: joe@b.example\nBcc: a@b.example,\n\tc@d.example\nResent-Bcc: x\nContent-Length: 5\nSubject: x\n\nBcc: stays\n")
    # a Resent-Bcc makes it a resent message: only its block counts
    assert envelope()[1:] == ["Tx@here.example"]
    head, body = message().split(b"\n\n", 1)
    assert not re.search(rb"^(bcc|resent-bcc|return-path|content-length|from ann)", head, re.I | re.M)
    assert body == b"Bcc: stays\n"


def test_resent_message_gets_its_own_fields():
    sendmail("-t", message=b"Received: x\nResent-To: joe@b.example\nFrom: a@b.example\nDate: Sat, 21 Nov 2026 20:28:54 +0000\nMessage-ID: <x@y>\n\nbody\n")
    for name in ("From", "Date", "Message-ID"):
        assert len(fields(name)) == 1
        assert len(fields(f"Resent-{name}")) == 1
    lines = message().decode().split("\n")
    names = [line.split(":")[0] for line in lines[:9]]
    assert names == ["Received", "Received", "Resent-Date", "Resent-From", "Resent-Message-ID", "Resent-To", "From", "Date", "Message-ID"]


@pytest.mark.parametrize("name,expected", [("Ann Example", '"Ann Example" <s@a.example>'), ('A "B" \\C', '"A \\"B\\" \\\\C" <s@a.example>'),
                                           ("M\u00fcller", "=?utf-8?B?TcO8bGxlcg==?= <s@a.example>"), ("x\ny", '"x y" <s@a.example>')])
def test_full_name(name, expected):
    sendmail("-F", name, "-f", "s@a.example", "joe@b.example", message=b"\nbody\n")
    assert fields("From") == [expected]


@pytest.mark.parametrize("text,body", [
    (b"hello\n", b"hello\n"), (b"hello", b"hello"), (b"", b""), (b"\n", b""), (b" indented\n", b" indented\n"), (b"http://x.example/\n", None), (b"no field\nTo: x\n", b"no field\nTo: x\n"),
    (b"A: b\nno field\n", b"no field\n"), (b"A: b\r\n\r\nbody\r\n", b"body\r\n"), (b"A: b", b""), (b"\n" + bytes(range(256)), bytes(range(256))),
])
def test_bodies(text, body):
    assert sendmail("-i", "joe@b.example", message=text).returncode == 0
    got = message().split(b"\n\n", 1)[1]
    assert got == (body if body is not None else b"")


@pytest.mark.parametrize("text,kept,all_of_it", [
    (b"\na\n.\nb\n", b"a\n", b"a\n.\nb\n"), (b"\na\n.\r\nb\n", b"a\n", b"a\n.\r\nb\n"), (b"\n.a\n..\n. \nb", b".a\n..\n. \nb", None), (b"\n.", b"", b"."), (b"\na\n.\rb\n", b"a\n.\rb\n", None),
    (b"\na\n.", b"a\n", b"a\n."),
])
def test_dots(text, kept, all_of_it):
    sendmail("joe@b.example", message=text)
    assert message().split(b"\n\n", 1)[1] == kept
    for option in ("-i", "-oi", "-OIgnoreDots"):
        sendmail(option, "joe@b.example", message=text)
        assert message().split(b"\n\n", 1)[1] == (all_of_it if all_of_it is not None else kept)


def test_dot_in_header_ends_it():
    sendmail("joe@b.example", message=b"Subject: x\n.\nTo: y\n\nbody\n")
    assert fields("Subject") == ["x"] and b"body" not in message()


def test_large_message_through_slow_pieces():
    text = b"Subject: x\n\n" + b"0123456789abcde\n" * 65536
    process = subprocess.Popen([f"{LIBEXEC}/sendmail", "joe@b.example"], stdin=subprocess.PIPE)
    for at in range(0, len(text), 99991):
        process.stdin.write(text[at:at + 99991])
        process.stdin.flush()
    process.stdin.close()
    assert process.wait(120) == 0
    assert message().endswith(text[12:])


def test_input_that_cannot_be_read_sends_nothing():
    directory = os.open(ETC, os.O_RDONLY)
    r = subprocess.run([f"{LIBEXEC}/sendmail", "joe@b.example"], stdin=directory, stderr=subprocess.PIPE)
    os.close(directory)
    assert r.returncode == 74 and envelope() is None


def test_killed_before_the_end_sends_nothing():
    process = subprocess.Popen([f"{LIBEXEC}/sendmail", "joe@b.example"], stdin=subprocess.PIPE)
    process.stdin.write(MESSAGE)
    process.stdin.flush()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    assert envelope() is None


def test_closed_descriptors():
    r = subprocess.run(["/bin/sh", "-c", f"exec {LIBEXEC}/sendmail joe@b.example <&- >&- 2>&-"])
    assert r.returncode == 0
    assert envelope() == ["Froot@here.example", "Tjoe@b.example"]


def test_ordinary_user():
    with open(f"{LIBEXEC}/message", "w"), open(f"{LIBEXEC}/envelope", "w"):
        pass
    for name in ("message", "envelope"):
        os.chmod(f"{LIBEXEC}/{name}", 0o666)
    assert sendmail("joe@b.example", message=b"\nx\n", user="nobody").returncode == 0
    assert envelope()[0] == "Fnobody@here.example"
    assert re.match(r"\(tappal \d+ invoked by uid 65534\)", fields("Received")[0])


# ---- other modes

@pytest.mark.parametrize("name,options,expected", [
    ("mailq", [], "tappal queue list"), ("sendmail", ["-bp"], "tappal queue list"), ("sendmail", ["-bs"], "smtpd"), ("sendmail", ["-q"], "tappal queue flush"),
    ("sendmail", ["-qRb.example"], "tappal queue flush b.example"), ("sendmail", ["-qI0ABC"], "tappal queue retry 0ABC"),
])
def test_other_programs(name, options, expected):
    r = sendmail(*options, name=name)
    assert r.returncode == 0
    assert r.stdout.decode().strip().endswith("/" + expected)


@pytest.mark.parametrize("name,options", [("newaliases", []), ("sendmail", ["-bi"]), ("sendmail", ["-I"])])
def test_newaliases_says_that_there_are_none(name, options):
    r = sendmail(*options, name=name)
    assert r.returncode == 0 and b"alias table" in r.stderr


@pytest.mark.parametrize("options", [["-q30m"], ["-bh"], ["-bH"]])
def test_nothing_to_do(options):
    r = sendmail(*options)
    assert (r.returncode, r.stdout, r.stderr) == (0, b"", b"") and envelope() is None


def test_verify():
    setting("locals", "here.example")
    setting("users", "=joe@here.example:nobody:65534:65534:/srv/joe:::")
    setting("smtproutes", "relayed.example:relay.example:2525")
    try:
        r = sendmail("-bv", "joe@here.example", "x@b.example", "y@relayed.example", "z@[192.0.2.1]")
        assert r.stdout.decode().splitlines() == [
            "joe@here.example: local, mailbox of nobody (uid 65534) in /srv/joe",
            "x@b.example: by SMTP to the mail exchangers of b.example",
            "y@relayed.example: by SMTP to relay.example port 2525 (smtproutes)",
            "z@[192.0.2.1]: by SMTP to the address [192.0.2.1]"]
        assert r.returncode == 0
        assert sendmail("-bv", "no-such-user@here.example").returncode == 67
        assert sendmail("-bv", "not an address").returncode == 65
        assert sendmail("-bv").returncode == 64
    finally:
        os.unlink(f"{ETC}/locals")
        os.unlink(f"{ETC}/users")
        os.unlink(f"{ETC}/smtproutes")


def test_bad_settings():
    setting("me", "not a name")
    try:
        assert sendmail("joe@b.example").returncode == 78
        assert inject("joe@b.example").returncode == 100
        assert envelope() is None
    finally:
        setting("me", "here.example")


# ---- inject

INJECT = [
    ([], HEADER, {}, ["Froot@here.example", "Tt1@b.example", "Tt2@b.example", "Tc@b.example", "Tb@b.example"]),
    (["x@b.example"], HEADER, {}, ["Froot@here.example", "Tx@b.example"]),
    (["-A", "x@b.example"], HEADER, {}, ["Froot@here.example", "Tx@b.example"]),
    (["-a", "x@b.example"], HEADER, {}, ["Froot@here.example", "Tx@b.example"]),
    (["-h", "x@b.example"], HEADER, {}, ["Froot@here.example", "Tt1@b.example", "Tt2@b.example", "Tc@b.example", "Tb@b.example"]),
    (["-H", "x@b.example"], HEADER, {}, ["Froot@here.example", "Tx@b.example", "Tt1@b.example", "Tt2@b.example", "Tc@b.example", "Tb@b.example"]),
    (["-f", "s@a.example", "x@b.example"], HEADER, {}, ["Fs@a.example", "Tx@b.example"]),
    (["-f", "", "x@b.example"], HEADER, {}, ["F", "Tx@b.example"]),
    (["x@b.example"], HEADER, {"USER": "ann"}, ["Fann@here.example", "Tx@b.example"]),
    (["x@b.example"], HEADER, {"MAILUSER": "bob", "USER": "ann", "MAILHOST": "h.example"}, ["Fbob@h.example", "Tx@b.example"]),
    (["x@b.example"], HEADER, {"QMAILUSER": "q", "MAILUSER": "bob", "QMAILSUSER": "list-owner", "QMAILSHOST": "l.example"}, ["Flist-owner@l.example", "Tx@b.example"]),
    (["x@b.example"], b"Return-Path: <r@p.example>\n" + HEADER, {}, ["Fr@p.example", "Tx@b.example"]),
    (["x@b.example"], b"Return-Path: <>\n" + HEADER, {}, ["F", "Tx@b.example"]),
    (["-fs@a.example", "x@b.example"], b"Return-Path: <r@p.example>\n" + HEADER, {}, ["Fs@a.example", "Tx@b.example"]),
    (["x@b.example"], b"Return-Path: <r@p.example>\n" + HEADER, {"QMAILINJECT": "s"}, ["Froot@here.example", "Tx@b.example"]),
]


@pytest.mark.parametrize("options,text,env,expected", INJECT, ids=[" ".join(o) + " " + " ".join(e) + f" {len(t)}" for o, t, e, _ in INJECT])
def test_inject_envelope(options, text, env, expected):
    r = inject(*options, message=text, env=env)
    assert (r.returncode, r.stderr) == (0, b"")
    assert envelope() == expected


def test_inject_refuses():
    for options, text in (([], b"Subject: nobody\n\nx\n"), (["-a"], HEADER), (["-z"], HEADER), (["not an address"], HEADER), (["-h"], b"To: not an address\n\n")):
        r = inject(*options, message=text)
        assert r.returncode == 100 and r.stderr.startswith(b"inject: ")
    assert envelope() is None


def test_inject_dot_is_text_and_n_prints():
    inject("x@b.example", message=b"\na\n.\nb\n")
    assert message().endswith(b"\n\na\n.\nb\n")
    os.unlink(f"{LIBEXEC}/envelope")
    r = inject("-n", "x@b.example", message=b"Subject: p\n\na\n")
    assert b"Subject: p\n" in r.stdout and r.stdout.endswith(b"\n\na\n") and envelope() is None


def test_inject_replaces_on_demand():
    inject("x@b.example", message=b"From: old@x.example\nMessage-ID: <old@x>\n\nx\n", env={"QMAILINJECT": "fi", "QMAILNAME": "New", "QMAILUSER": "new"})
    assert fields("From") == ['"New" <new@here.example>'] and fields("Message-ID") != ["<old@x>"] and len(fields("Message-ID")) == 1


# ---- the second way: SMTP to this host

class Server(threading.Thread):
    """One SMTP session on loopback: answers by the script, keeps the commands and the message."""

    def __init__(self, answers=None):
        super().__init__(daemon=True)
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.answers = answers or {}
        self.said, self.data = [], b""

    def run(self):
        connection, _ = self.socket.accept()
        stream = connection.makefile("rwb")

        def answer(verb, usual):
            stream.write(self.answers.get(verb, usual) + b"\r\n")
            stream.flush()

        answer("greeting", b"220 here")
        for line in stream:
            self.said.append(line.decode().rstrip("\r\n"))
            verb = line.split()[0].upper().decode()
            if verb == "DATA" and "DATA" not in self.answers:
                answer("DATA", b"354 go on")
                while (piece := stream.readline()) not in (b".\r\n", b""):
                    self.data += piece[1:] if piece.startswith(b".") else piece
                answer("final", b"250 2.0.0 queued")
            else:
                answer(verb, b"250-here\r\n250-DSN\r\n250-SMTPUTF8\r\n250 8BITMIME" if verb == "EHLO" else b"250 ok")
        connection.close()


def by_smtp(answers, *options, message=MESSAGE):
    server = Server(answers)
    server.start()
    setting("smtpdlisten", f"127.0.0.1:{server.port}")
    with open(f"{LIBEXEC}/exit", "w") as f:
        f.write("61")
    try:
        return server, sendmail(*options, message=message)
    finally:
        os.unlink(f"{ETC}/smtpdlisten")
        server.socket.close()


def test_where_set_uid_has_no_effect():
    server, r = by_smtp({}, "-i", "-f", "s@a.example", "-N", "never", "-V", "id1", "-R", "hdrs", "-B8BITMIME", "joe@b.example", "sue@c.example",
                        message=b"Subject: x\n\n.dot\n..two\nno end")
    assert (r.returncode, r.stderr) == (0, b"")
    server.join(5)
    assert server.said == ["EHLO here.example", "MAIL FROM:<s@a.example> BODY=8BITMIME RET=HDRS ENVID=id1", "RCPT TO:<joe@b.example> NOTIFY=NEVER",
                           "RCPT TO:<sue@c.example> NOTIFY=NEVER", "DATA", "QUIT"]
    assert server.data.endswith(b"\r\n\r\n.dot\r\n..two\r\nno end\r\n")
    assert b"\n" not in server.data.replace(b"\r\n", b"")


@pytest.mark.parametrize("answers,code", [
    ({"RCPT": b"550 5.1.1 no such"}, 65), ({"RCPT": b"450 later"}, 75), ({"MAIL": b"530 no"}, 69), ({"MAIL": b"452 full"}, 75), ({"greeting": b"554 go away"}, 69),
    ({"EHLO": b"502 what"}, 69), ({"DATA": b"451 not now"}, 75), ({"final": b"554 5.7.1 spam"}, 69), ({"final": b"451 disk"}, 75), ({"greeting": b"hello?"}, 75),
])
def test_refusals_by_smtp(answers, code):
    server, r = by_smtp(answers, "joe@b.example")
    assert r.returncode == code and r.stderr.startswith(b"sendmail: smtpd on port")


def test_no_way_at_all():
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    setting("smtpdlisten", f"127.0.0.1:{port}")
    with open(f"{LIBEXEC}/exit", "w") as f:
        f.write("61")
    try:
        r = sendmail("joe@b.example")
        assert r.returncode == 75 and b"no smtpd answers" in r.stderr
    finally:
        os.unlink(f"{ETC}/smtpdlisten")
