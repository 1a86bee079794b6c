"""enqueue alone: what it leaves in intake/, what it answers, what it never leaves behind. The other end of its fifos is in this file."""
import contextlib
import os
import select
import subprocess
import threading
import time

import pytest

import records
from instance import Instance, envelope

OK, BAD_ADDRESS, REFUSED, TIMEOUT, WRITE, READ, NO_SPACE, NO_SPOOL, QUEUE, BAD_ENVELOPE = 0, 11, 31, 52, 53, 54, 59, 61, 66, 91
HEAD = 64


@pytest.fixture(scope="module")
def i():
    with Instance("enqueue", ["queue/enqueue"]) as instance:
        yield instance


@pytest.fixture(autouse=True)
def clean(i):
    yield
    left = i.intake_files()
    for name in left:
        os.unlink(f"{i.spool}/intake/{name}")


class Peer:
    """Stands for queued: reads offers and answers them. answer(offer, file's octets) gives (result, id), or None for silence. `again`: offers made
    again, as they are when this thread was not heard for five seconds."""

    def __init__(self, instance, answer=lambda offer, octets: (OK, 4711)):
        self.i, self.answer, self.offers, self.files, self.again, self.going = instance, answer, [], [], [], True
        self.fifo = os.open(instance.fifo("intake"), os.O_RDWR | os.O_NONBLOCK)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        stream = records.Stream(self.fifo)
        while self.going:
            try:
                offer = stream.next(0.05)
            except TimeoutError:
                continue
            if offer.name == "adopt":
                continue
            with open(f"{self.i.spool}/intake/{offer.file_name.decode()}", "rb") as f:
                octets = f.read()
            if offer.flags & 2:
                self.again.append(offer)
            else:
                self.files.append(octets)
                self.offers.append(offer)
            answer = self.answer(offer, octets)
            if answer is not None:
                self.say(offer, *answer)

    def say(self, offer, result, number):
        fd = os.open(f"{self.i.spool}/intake/{offer.file_name.decode()}.ack", os.O_WRONLY | os.O_NONBLOCK)
        os.write(fd, records.encode("ack", token_a=offer.token_a, token_b=offer.token_b, result=result, id=number))
        os.close(fd)

    def close(self):
        self.going = False
        self.thread.join()
        if self.fifo >= 0:
            os.close(self.fifo)
            self.fifo = -1


@contextlib.contextmanager
def peer(i, *arguments):
    p = Peer(i, *arguments)
    try:
        yield p
    finally:
        p.close()


def parts(octets):
    """state, body and envelope of an intake file."""
    state = int.from_bytes(octets[8:12], "little")
    body = int.from_bytes(octets[32:40], "little")
    env = int.from_bytes(octets[40:44], "little")
    return state, octets[HEAD:HEAD + body], octets[HEAD + body:HEAD + body + env]


def test_one_shot(i):
    with peer(i) as p:
        assert i.enqueue(b"Subject: x\n\nline\nlast") == (OK, "")
    assert len(p.offers) == 1 and p.offers[0].flags == 1
    state, body, env = parts(p.files[0])
    assert (state, body) == (1, b"Subject: x\r\n\r\nline\r\nlast\r\n")
    assert env == b"Fsender@example.org\0Trcpt@example.net\0Plocal\0Aroot\0\0"
    assert i.intake_files() == []


@pytest.mark.parametrize("given,stored", [
    (b"", b""), (b"\n", b"\r\n"), (b"\r\n", b"\r\n"), (b"a", b"a\r\n"), (b"a\r", b"a\r\n"), (b"a\rb\n", b"a\rb\r\n"), (b"\n\n", b"\r\n\r\n"),
    (b"a\r\nb\n\r\n", b"a\r\nb\r\n\r\n"), (b"\r\r\n", b"\r\r\n"), (b"x" * 65535 + b"\n" + b"y\n", b"x" * 65535 + b"\r\ny\r\n"),
    (b"\n" * 100000, b"\r\n" * 100000), (b"ab\r\n" * 50000, b"ab\r\n" * 50000),
], ids=range(12))
def test_line_ends(i, given, stored):
    with peer(i) as p:
        assert i.enqueue(given)[0] == OK
    assert parts(p.files[0])[1] == stored


def test_line_ends_are_the_same_however_they_come(i):
    """Split at every offset, so that CR and LF come in two reads."""
    text = b"a\r\nb\n\rc\r\r\nd"
    with peer(i) as p:
        for cut in range(1, len(text)):
            process, w = i.enqueue_start()
            process.stdin.write(text[:cut])
            time.sleep(0.02)
            process.stdin.write(text[cut:])
            process.stdin.close()
            os.write(w, envelope("a@b.org", ["c@d.org"]))
            os.close(w)
            assert process.wait(120) == OK
            process.stderr.close()
    assert {parts(f)[1] for f in p.files} == {b"a\r\nb\r\n\rc\r\r\nd\r\n"}


def test_the_place_of_the_id(i):
    trace = b"Received: by h (tappal)\n\tid ............; now\nSubject: x\n\n"
    with peer(i) as p:
        assert i.enqueue(trace)[0] == OK
        assert i.enqueue(b"Subject: id ............\n" + trace)[0] == OK
    offsets = [int.from_bytes(f[44:48], "little") for f in p.files]
    assert p.files[0][HEAD + offsets[0]:][:12] == b"............" and offsets[1] == 0


def test_answers_go_through(i):
    for code in (OK, REFUSED, NO_SPACE, QUEUE):
        with peer(i, lambda offer, octets: (code, 5 if code == OK else 0)):
            assert i.enqueue(b"x\n")[0] == code
        assert i.intake_files() == []


def test_bad_envelopes(i):
    good = envelope("a@b.org", ["c@d.org"])
    bad = [b"", b"\0", good[:-1], good + b"x", b"Tc@d.org\0Fa@b.org\0\0", b"Fa@b.org\0\0", b"Fa@b.org\0Zx\0Tc@d.org\0\0", os.urandom(100)]
    with peer(i) as p:
        for octets in bad:
            assert i.enqueue(b"x\n", raw=octets)[0] == BAD_ENVELOPE
        assert i.enqueue(b"x\n", recipients=["nobody"])[0] == BAD_ADDRESS
        assert i.enqueue(b"x\n", sender="a b c@")[0] == BAD_ADDRESS
        assert i.enqueue(b"x\n", raw=b"Fa@b.org\0" + b"Tc@d.org\0" * 20001 + b"\0")[0] == REFUSED
        assert i.enqueue(b"x\n", raw=b"Fa@b.org\0" + b"Tc@d.org\0" * (1 << 20) + b"\0")[0] == REFUSED
    assert p.offers == [] and i.intake_files() == []


def test_what_a_user_may_claim(i):
    lies = ["Clocalhost[127.0.0.1]", "Hmx", "PESMTPA", "Aboss", "X0000000000AB 1", "M<own@id>", "B", "U"]
    with peer(i) as p:
        assert i.enqueue(b"x\n", raw=envelope("a@b.org", ["c@d.org"], lies), user="nobody")[0] == OK
        assert i.enqueue(b"x\n", raw=envelope("a@b.org", ["c@d.org"], lies), user="tappal-bounce")[0] == OK
        assert i.enqueue(b"x\n", raw=envelope("a@b.org", ["c@d.org"], lies))[0] == OK
    assert parts(p.files[0])[2] == b"Fa@b.org\0M<own@id>\0B\0U\0Tc@d.org\0Plocal\0Anobody\0\0"
    assert parts(p.files[1])[2] == b"Fa@b.org\0X0000000000AB 1\0M<own@id>\0B\0U\0Tc@d.org\0Plocal\0Atappal-bounce\0\0"
    assert parts(p.files[2])[2] == envelope("a@b.org", ["c@d.org"], lies)


def test_queued_away(i):
    """Exit 0, one file, synced, marked ADOPT with a right checksum, not locked by anybody; and no ack fifo."""
    assert i.enqueue(b"x\ny\n")[0] == OK
    names = i.intake_files()
    assert len(names) == 1
    octets = open(f"{i.spool}/intake/{names[0]}", "rb").read()
    state, body, env = parts(octets)
    assert (state, body, env[-1:]) == (2, b"x\r\ny\r\n", b"\0")
    import fcntl
    with open(f"{i.spool}/intake/{names[0]}", "rb") as f:
        fcntl.flock(f, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert os.stat(f"{i.spool}/intake/{names[0]}").st_mode & 0o7777 == 0o664


def test_queued_dies_before_its_answer(i):
    with peer(i, lambda offer, octets: None) as p:
        process, w = i.enqueue_start()
        process.stdin.write(b"x\n")
        process.stdin.close()
        os.write(w, envelope("a@b.org", ["c@d.org"]))
        os.close(w)
        while not p.offers:
            time.sleep(0.01)
        p.close()
        assert process.wait(120) == OK
        process.stderr.close()
    names = i.intake_files()
    assert len(names) == 1
    octets = open(f"{i.spool}/intake/{names[0]}", "rb").read()
    assert parts(octets)[0] == 2
    assert int.from_bytes(octets[16:24], "little") == p.offers[0].token_a      # the same token: it may be in the log


def test_queued_answers_and_dies(i):
    """An answer that is in the fifo counts, whatever became of its writer."""
    box = {}

    def last_words(offer, octets):
        box["p"].say(offer, NO_SPACE, 0)
        os.close(box["p"].fifo)
        box["p"].fifo = -1
        box["p"].going = False

    box["p"] = Peer(i, last_words)
    assert i.enqueue(b"x\n")[0] == NO_SPACE
    box["p"].close()
    assert i.intake_files() == []


def test_a_lost_offer_is_made_again(i):
    seen = []

    def deaf_once(offer, octets):
        seen.append(offer)
        return (OK, 9) if len(seen) > 1 else None

    with peer(i, deaf_once):
        start = time.monotonic()
        assert i.enqueue(b"x\n")[0] == OK
    assert time.monotonic() - start > 4
    assert seen[0].token_a == seen[1].token_a and seen[1].flags & 2 and not seen[0].flags & 2


def test_answers_about_others_are_passed_over(i):
    def confuse(offer, octets):
        offer_fd = os.open(f"{i.spool}/intake/{offer.file_name.decode()}.ack", os.O_WRONLY | os.O_NONBLOCK)
        os.write(offer_fd, records.encode("ack", token_a=1, token_b=2, result=QUEUE))
        os.write(offer_fd, b"garbage that is no record")
        os.close(offer_fd)
        time.sleep(0.1)
        return OK, 1

    with peer(i, confuse):
        assert i.enqueue(b"x\n")[0] == OK


def test_session_reuses_its_file(i):
    with peer(i) as p:
        s = i.session()
        for n in (10, 100000, 5, 0, 70000, 1):
            assert s.send(b"b" * n, id_offset=3) == (OK, 4711)
            assert len(i.intake_files()) == 2
        assert s.close() == OK
    assert len({o.file_name for o in p.offers}) == 1 and len({o.token_a for o in p.offers}) == 6
    assert [len(parts(f)[1]) for f in p.files] == [10, 100000, 5, 0, 70000, 1]
    assert parts(p.files[0])[2] == b"Fsender@example.org\0PESMTP\0Trcpt@example.net\0\0"
    assert i.intake_files() == []


def test_session_after_a_large_message(i):
    def take(offer, octets):
        if offer.file_size > 200000:
            os.rename(f"{i.spool}/intake/{offer.file_name.decode()}", f"{i.root}/large")
        return OK, 3

    with peer(i, take) as p:
        s = i.session()
        for n in (200000, 10, 131072, 131071):
            assert s.send(b"b" * n) == (OK, 3)
        assert s.close() == OK
    names = [o.file_name for o in p.offers]
    assert names[0] != names[1] == names[2] != names[3]
    assert i.intake_files() == []


def test_session_of_a_user(i):
    """smtpd under sendmail -bs: taken, and believed no more than any user."""
    with peer(i) as p:
        s = i.session("nobody")
        assert s.send(b"hello\r\n", attributes=("Cforged[192.0.2.1]", "PESMTP", "B"))[0] == OK
        assert s.close() == OK
    assert parts(p.files[0])[2] == b"Fsender@example.org\0B\0Trcpt@example.net\0Plocal\0Anobody\0\0"
    assert i.intake_files() == []


def test_session_faults_stay_with_their_message(i):
    with peer(i):
        s = i.session()
        assert s.send(b"abc", claim=4)[0] == READ
        assert s.send(b"abc", raw=b"nonsense")[0] == BAD_ENVELOPE
        assert s.send(b"abc", recipients=["x"])[0] == BAD_ADDRESS
        assert s.send(b"abc", raw=b"Fa@b.org\0" + b"Tc@d.org\0" * (1 << 20) + b"\0")[0] == REFUSED
        s.message(b"abc" * 50000, commit=False)
        s.write(records.encode("mail_abort"))
        assert s.send(b"abc") == (OK, 4711)
        assert s.close() == OK
    assert i.intake_files() == []


@pytest.mark.parametrize("octets", [
    b"garbage" * 100, records.encode("mail_commit"), records.encode("body_part", octets=b"x"), records.encode("mail_begin") * 2,
    records.encode("mail_result"), records.encode("mail_begin") + records.frame(12, b"\xff\xff"), b"\0" * 100000,
], ids=range(7))
def test_session_nonsense(i, octets):
    with peer(i) as p:
        s = i.session()
        try:
            s.write(octets)
        except BrokenPipeError:
            pass
        assert s.process.wait(120) == BAD_ENVELOPE
        assert p.offers == []
    assert i.intake_files() == []


def test_session_end_of_file_anywhere(i):
    """smtpd vanishes after every octet of a message: nothing is left, nothing is offered before the commit is whole."""
    encode = records.encode
    octets = encode("mail_begin") + encode("envelope_part", octets=envelope("a@b.org", ["c@d.org"])) + encode("body_part", octets=b"hello\r\n")
    octets += encode("mail_commit", body_size=7)
    with peer(i) as p:
        for end in list(range(0, len(octets), 9)) + [len(octets) - 1]:
            s = i.session()
            s.write(octets[:end])
            assert s.close() == (OK if end < len(encode("mail_begin")) else READ)
            assert i.intake_files() == []
        assert p.offers == []


def test_smtpd_does_not_read_the_answer(i):
    with peer(i) as p:
        s = i.session()
        s.process.stdout.close()
        s.message(b"x")
        assert s.process.wait(120) != 0
    assert len(p.offers) == 1 and i.intake_files() == []


# ---- the caller reads queued's answer

def test_offers_are_answered_by_queued_itself(i):
    with peer(i) as p:
        s = i.lending_session()
        assert s.send(b"first\r\n") == (OK, 4711)
        for n in range(3):
            s.offer(b"b" * n)
            ack = s.ack()
            assert (ack.result, ack.id, ack.token_a) == (OK, 4711, p.offers[-1].token_a)
            s.answered(ack)
        assert s.send(b"plain again") == (OK, 4711)
        assert len(i.intake_files()) == 2
        assert s.close() == OK
    assert len({o.file_name for o in p.offers}) == 1 and len({o.token_a for o in p.offers}) == 5
    assert [parts(f)[1] for f in p.files] == [b"first\r\n", b"", b"b", b"bb", b"plain again"]
    assert i.intake_files() == []


def test_without_a_socket_nothing_is_lent_and_offers_are_taken(i):
    with peer(i):
        s = i.session()
        s.message(b"x", commit=False)
        s.write(records.encode("mail_offer", body_size=1, token_b=5) + records.encode("mail_unanswered"))
        assert s.stream.want("mail_result").result == OK
        assert s.close() == OK
    assert i.intake_files() == []


@pytest.mark.parametrize("lie", ["nothing", "guess", "twice", "abort"])
def test_who_says_he_was_answered_must_prove_it(i, lie):
    """A file that queued may be reading is not written to: what comes next could be an envelope that nobody judged."""
    with peer(i, lambda offer, octets: (OK, 5) if b"first" in octets else None) as p:
        s = i.lending_session("nobody")
        assert s.send(b"first") == (OK, 5)
        s.offer(b"second")
        while len(p.offers) < 2:
            time.sleep(0.01)
        path = f"{i.spool}/intake/{p.offers[1].file_name.decode()}"
        with open(path, "rb") as f:
            s.write({"nothing": b"", "abort": records.encode("mail_abort"), "guess": records.encode("mail_answered", token_a=p.offers[0].token_a),
                     "twice": records.encode("mail_offer", body_size=6, token_b=9)}[lie])
            with contextlib.suppress(BrokenPipeError):
                s.message(b"third")
            assert s.process.wait(120) == BAD_ENVELOPE
            assert parts(f.read())[1] == b"second"
        s.close()
    assert len(p.offers) == 2 and i.intake_files() == []


def test_the_wait_is_handed_back(i):
    """Nobody has answered yet; then the answer comes, and enqueue tells it. Its fifo is lent anew."""
    box = {}
    with peer(i, lambda offer, octets: (OK, 5) if b"first" in octets else None) as p:
        s = i.lending_session()
        assert s.send(b"first") == (OK, 5)
        for _ in range(2):
            s.offer(b"second")
            s.unanswered()
            while len(p.offers) < 2 + box.get("done", 0):
                time.sleep(0.01)
            p.say(p.offers[-1], NO_SPACE if box else OK, 0 if box else 6)
            assert s.result() == ((NO_SPACE, 0) if box else (OK, 6))
            box["done"] = 1
        assert s.acks is None              # it has given up the file after the fault, and makes another
        assert s.send(b"first") == (OK, 5) and s.acks
        assert len({o.file_name for o in p.offers}) == 2
        assert s.close() == OK
    assert i.intake_files() == []


def test_an_answer_on_the_way_is_not_lost(i):
    """It stands in the fifo while the wait is handed back."""
    with peer(i):
        s = i.lending_session()
        assert s.send(b"first") == (OK, 4711)
        s.offer(b"second")
        assert select.select([s.acks.fd], [], [], 120)[0]
        s.unanswered()
        assert s.result() == (OK, 4711)
        assert s.close() == OK


def test_a_lost_offer_is_made_again_when_it_was_handed_back(i):
    def deaf_once(offer, octets):
        return (OK, 9) if offer.flags & 2 or b"first" in octets else None

    with peer(i, deaf_once) as p:
        s = i.lending_session()
        assert s.send(b"first") == (OK, 9)
        s.offer(b"second")
        while len(p.offers) < 2:
            time.sleep(0.01)
        s.unanswered()
        assert s.result() == (OK, 9)
        assert p.offers[1].token_a in {o.token_a for o in p.again}
        assert s.close() == OK


def test_queued_dies_with_an_offer(i):
    """Left for adoption when it is handed back, and not before: the caller may have been answered."""
    with peer(i, lambda offer, octets: (OK, 5) if b"first" in octets else None) as p:
        s = i.lending_session()
        assert s.send(b"first") == (OK, 5)
        s.offer(b"second")
        while len(p.offers) < 2:
            time.sleep(0.01)
    name = p.offers[1].file_name.decode()
    time.sleep(0.5)
    assert parts(open(f"{i.spool}/intake/{name}", "rb").read())[0] == 1
    s.unanswered()
    assert s.result() == (OK, 0) and s.acks is None
    octets = open(f"{i.spool}/intake/{name}", "rb").read()
    assert parts(octets)[:2] == (2, b"second")
    assert int.from_bytes(octets[16:24], "little") == p.offers[1].token_a
    assert i.intake_files() == [name]
    assert s.close() == OK


def test_queued_dies_after_its_answer(i):
    """Long after: the caller has it, and the message is not left for adoption, whenever enqueue hears of it."""
    with peer(i) as p:
        s = i.lending_session()
        assert s.send(b"first") == (OK, 4711)
        s.offer(b"second")
        ack = s.ack()
    time.sleep(0.5)
    assert parts(open(f"{i.spool}/intake/{p.offers[1].file_name.decode()}", "rb").read())[0] == 1
    s.answered(ack)
    s.offer(b"third")                      # nobody is there to offer it to: enqueue answers, and our question has crossed it
    s.unanswered()
    assert s.result() == (OK, 0)
    assert [parts(open(f"{i.spool}/intake/{name}", "rb").read())[:2] for name in i.intake_files()] == [(2, b"third")]
    s.unanswered()
    assert s.send(b"fourth") == (OK, 0)
    assert s.close() == OK
    assert len(i.intake_files()) == 2


def test_long_offers_are_answered_here(i):
    def take(offer, octets):
        if offer.file_size > 131072:
            os.rename(f"{i.spool}/intake/{offer.file_name.decode()}", f"{i.root}/large")
        return OK, 3

    with peer(i, take):
        s = i.lending_session()
        assert s.send(b"first") == (OK, 3)
        s.offer(b"b" * 131072)
        assert s.result() == (OK, 3) and s.acks is None
        assert s.send(b"next") == (OK, 3) and s.acks
        assert s.close() == OK
    assert i.intake_files() == []


def test_the_caller_vanishes_with_an_offer(i):
    """Before and after its answer: enqueue ends, its file goes, nothing is left for adoption."""
    for box in ([], [1]):
        with peer(i, lambda offer, octets: (OK, 5) if b"first" in octets or box else None) as p:
            s = i.lending_session()
            assert s.send(b"first") == (OK, 5)
            s.offer(b"second")
            while len(p.offers) < 2:
                time.sleep(0.01)
            assert s.close() == OK
        assert i.intake_files() == []


def test_faults_of_offers(i):
    with peer(i) as p:
        s = i.lending_session()
        assert s.send(b"first") == (OK, 4711)
        for keys, code in (({"recipients": ["x"]}, BAD_ADDRESS), ({"raw": b"nonsense"}, BAD_ENVELOPE)):
            s.offer(b"second", **keys)
            assert s.result() == (code, 0)
        s.message(b"third", commit=False)
        s.write(records.encode("mail_offer", body_size=4))
        assert s.result() == (READ, 0)
        s.offer(b"fourth")
        assert s.ack().id == 4711
        assert s.close() == OK
    assert len(p.offers) == 2 and i.intake_files() == []


def test_memory_does_not_grow_with_the_message(i):
    with peer(i, lambda offer, octets: (QUEUE, 0)):
        s = i.session()
        s.write(records.encode("mail_begin"))
        for _ in range(1000):
            s.write(records.encode("body_part", octets=b"x" * 65000))
        status = open(f"/proc/{s.process.pid}/status").read()
        s.process.stdin.close()
        s.process.wait(120)
    assert int(status.split("VmHWM:")[1].split()[0]) < 20000
    assert i.intake_files() == []


@contextlib.contextmanager
def small_disk(i, size):
    mode, owner = os.stat(f"{i.spool}/intake").st_mode & 0o7777, os.stat(f"{i.spool}/intake")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode={mode:o},uid={owner.st_uid},gid={owner.st_gid}", "tmpfs", f"{i.spool}/intake"], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", f"{i.spool}/intake"], check=True)


def test_no_space(i):
    with small_disk(i, "256k"), peer(i):
        assert i.enqueue(b"x" * 400000)[0] == NO_SPACE
        assert i.intake_files() == []
        s = i.session()
        assert s.send(b"x" * 400000)[0] == NO_SPACE
        assert s.send(b"x" * 1000)[0] == OK
        assert s.send(b"y" * 90000 + b"x" * 400000)[0] == NO_SPACE
        assert s.close() == OK
        assert i.intake_files() == []


def test_a_limit_of_the_caller(i):
    """RLIMIT_FSIZE: an error, no signal, no trace."""
    r, w = os.pipe()
    os.write(w, envelope("a@b.org", ["c@d.org"]))
    os.close(w)
    with peer(i) as p:
        run = subprocess.run(["sh", "-c", f"ulimit -f 16; exec {i.libexec}/enqueue"], input=b"x" * 100000, stdout=r, stderr=subprocess.PIPE, user="nobody")
    os.close(r)
    assert run.returncode == WRITE and p.offers == [] and i.intake_files() == []


def test_without_set_uid(i):
    copy = f"{i.libexec}/plain-enqueue"
    subprocess.run(["cp", f"{i.libexec}/enqueue", copy], check=True)
    os.chmod(copy, 0o755)
    r, w = os.pipe()
    os.close(w)
    run = subprocess.run([copy], input=b"x", stdout=r, stderr=subprocess.PIPE, user="nobody")
    os.close(r)
    os.unlink(copy)
    assert run.returncode == NO_SPOOL and b"set-uid" in run.stderr


def test_closed_descriptors(i):
    for redirect in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        run = subprocess.run(["sh", "-c", f"{i.libexec}/enqueue {redirect}"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert run.returncode in (READ, BAD_ENVELOPE)
    assert i.intake_files() == []
