"""Bodies that rot on the disk between acceptance and delivery: none of them goes out, each is held and told of, and those beside them arrive."""
import glob
import json
import os
import signal
import subprocess

import pytest

from fakespawn import msgid
from host import wait_until
from instance import Instance
from sink import Sink

ME = "damage.tappal"
UID = 61003
SENDER = f"v-sender@{ME}"
PROGRAMS = ["queue/enqueue", "queue/queued", "queue/spawn", "queue/bounce", "queue/tappal", "remote/remote", "local/local"]
SMALL, LARGE = 3000, 400000
ID_OFFSET = 20


def body_of(name, size):
    """Received: at the beginning, with dots for the id, as smtpd writes it."""
    start = b"Received: by x with i............ ; now\r\nSubject: " + name.encode() + b"\r\n\r\n"
    assert start[ID_OFFSET:].startswith(b"i............")
    return start + (name.encode() + b"0123456789\r\n") * (size // (len(name) + 12))


class Rotten:
    """Each of four messages twice: the name says its channel, its size, and whether an octet of it is flipped while it waits."""

    def __init__(self, i, sink):
        self.i, self.sink, self.ids = i, sink, {}
        session = i.session()
        for channel in ("local", "remote"):
            for kind, size in (("small", SMALL), ("large", LARGE)):
                for state in ("good", "bad"):
                    name = f"{channel}-{kind}-{state}"
                    to = f"v-{name}@{ME}" if channel == "local" else f"{name}@far.tappal"
                    code, id = session.send(body_of(name, size), sender=SENDER, recipients=[to], id_offset=ID_OFFSET + 1)
                    assert code == 0
                    self.ids[name] = msgid(id)
        assert session.close() == 0
        for name in self.bad():
            self.flip(name)

    def bad(self):
        return [name for name in self.ids if name.endswith("bad")]

    def flip(self, name):
        """One bit in the middle of the body; the second time it heals."""
        size = len(body_of(name, LARGE if "large" in name else SMALL))
        if "large" in name:
            path, start = f"{self.i.spool}/large/{self.ids[name]}", 64
        else:
            path, start = find(self.i, f"Subject: {name}\r\n".encode())
        with open(path, "r+b") as f:
            f.seek(start + size // 2)
            octet = f.read(1)[0]
            f.seek(start + size // 2)
            f.write(bytes([octet ^ 1]))

    def tappal(self, *arguments, code=0):
        r = subprocess.run([f"{self.i.libexec}/tappal", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
        assert code is None or r.returncode == code, (arguments, r)
        return r.stdout

    def check(self, *arguments, code):
        return [json.loads(line) for line in self.tappal("queue", "check", "--json", *arguments, code=code).splitlines()]

    def hurt(self):
        """The ids that the check names, by the kind of its finding."""
        kinds = {"message-damaged": "small", "large-damaged": "large"}
        return sorted((kinds[f["kind"]], f["queue_id"]) for f in self.check(code=2) if f["kind"] in kinds)

    def delivered(self, name):
        """The octets that arrived, without what local puts before them."""
        if name.startswith("remote"):
            return [m.data for m in self.sink.messages() if f"Subject: {name}\r\n".encode() in m.data]
        texts = [open(path, "rb").read() for path in glob.glob(f"{self.i.root}/vmail/{name}/Maildir/new/*")]
        return [text.partition(b"Received:")[1] + text.partition(b"Received:")[2] for text in texts]

    def expected(self, name):
        body = body_of(name, LARGE if "large" in name else SMALL).replace(b"i............", b"i" + self.ids[name].encode())
        return body if name.startswith("remote") else body.replace(b"\r\n", b"\n")

    def held(self):
        return json.loads(self.tappal("status", "--json", code=None) or '{"held": -1}')["held"]


def find(i, octets):
    """Where the body that has this line begins in the log."""
    for path in glob.glob(f"{i.spool}/log/{'[0-9a-f]' * 16}"):
        at = open(path, "rb").read().find(octets)
        if at >= 0:
            return path, at - len(b"Received: by x with i............ ; now\r\n")
    raise AssertionError("not in the log")


@pytest.fixture(scope="module")
def rotten():
    with Sink() as sink, Instance("damage", PROGRAMS, {"me": ME, "locals": ME, "smtproutes": [f"far.tappal:[127.0.0.1]:{sink.port}"]}) as i:
        os.mkdir(f"{i.root}/vmail")
        os.chown(f"{i.root}/vmail", UID, UID)
        i.set("users", [f"=v-local-{kind}-{state}@{ME}:v:{UID}:{UID}:{i.root}/vmail/local-{kind}-{state}:::" for kind in ("small", "large")
                        for state in ("good", "bad")] + [f"={SENDER}:v:{UID}:{UID}:{i.root}/vmail/sender:::", "."])
        i.queued = i.start_queued()
        rotten = Rotten(i, sink)
        wait_until(lambda: rotten.tappal("queue", "list", code=None).count("\n") >= 8)
        rotten.named = rotten.hurt()
        i.others = [i.start("spawn", "local"), i.start("spawn", "remote"), i.start("bounce")]
        yield rotten
        for process in i.others:
            i.kill(process, signal.SIGTERM)


def test_the_check_names_them(rotten):
    assert rotten.named == sorted((name.split("-")[1], rotten.ids[name]) for name in rotten.bad())


def test_the_others_arrive(rotten):
    for name in set(rotten.ids) - set(rotten.bad()):
        assert wait_until(lambda: rotten.delivered(name)), (name, rotten.i.log(), rotten.i.log("spawn"))
        assert rotten.delivered(name) == [rotten.expected(name)]


def test_none_is_delivered_and_each_is_held(rotten):
    assert wait_until(lambda: rotten.held() == 4), (rotten.held(), rotten.i.log(), rotten.i.log("spawn"))
    for name in rotten.bad():
        id = rotten.ids[name]
        place = f"large/{id}" if "large" in name else "log/0"
        assert rotten.delivered(name) == []
        assert f"{id}: not delivered, and to be held: it is damaged in {place}" in rotten.i.log("spawn")
        assert f"{id}: operator: hold by spawn: it is damaged in {place}" in rotten.i.log()
        assert "damaged in " + place in rotten.tappal("queue", "show", id, code=2)
    assert glob.glob(f"{rotten.i.root}/vmail/*/Maildir/tmp/*") == []


def test_a_backup_is_made_and_names_them(rotten):
    copy = f"{rotten.i.root}/copy"
    r = subprocess.run([f"{rotten.i.libexec}/tappal", "queue", "backup", copy], capture_output=True, text=True, timeout=120)
    assert r.returncode == 2 and os.path.exists(f"{copy}/MANIFEST"), r
    assert sorted(line.split()[4] for line in r.stderr.splitlines() if "is damaged" in line) == sorted(rotten.ids[name] for name in rotten.bad()), r.stderr


def test_one_that_is_healed_goes_when_it_is_released(rotten):
    """And one that is not, is held again."""
    for name in ("local-large-bad", "remote-small-bad"):
        rotten.flip(name)
        rotten.tappal("queue", "release", rotten.ids[name])
        assert wait_until(lambda: rotten.delivered(name)), (name, rotten.i.log(), rotten.i.log("spawn"))
        assert rotten.delivered(name) == [rotten.expected(name)]
    name = "remote-large-bad"
    line = f"{rotten.ids[name]}: operator: hold by spawn"
    path = f"{rotten.i.spool}/large/{rotten.ids[name]}"
    whole = open(path, "rb").read()
    for size in (len(whole), LARGE // 2):      # as it was; cut short
        os.truncate(path, size)
        before = rotten.i.log().count(line)
        rotten.tappal("queue", "release", rotten.ids[name])
        assert wait_until(lambda: rotten.i.log().count(line) == before + 1) and rotten.delivered(name) == []
    with open(path, "r+b") as f:
        f.write(whole)


def test_repair_puts_a_copy_aside(rotten):
    i = rotten.i
    assert i.kill(i.queued, signal.SIGTERM) == 0
    large = rotten.ids["remote-large-bad"]
    octets = open(f"{i.spool}/large/{large}", "rb").read()
    rotten.check("--repair", code=2)
    [copy] = glob.glob(f"{i.spool}/quarantine/*large-{large}")
    assert open(copy, "rb").read() == octets == open(f"{i.spool}/large/{large}", "rb").read()
    assert "large-damaged" in open(f"{copy}.txt").read()
    assert len(glob.glob(f"{i.spool}/quarantine/*log-{'[0-9a-f]' * 16}")) == 1
    i.queued = i.start_queued()
    assert wait_until(lambda: rotten.held() == 2)


def test_a_report_quotes_nothing_of_it(rotten):
    for name in ("local-small-bad", "remote-large-bad"):
        rotten.tappal("queue", "bounce", rotten.ids[name], "--because", f"damaged: {name}")
    reports = f"{rotten.i.root}/vmail/sender/Maildir/new/*"
    assert wait_until(lambda: len(glob.glob(reports)) == 2), (rotten.i.log(), rotten.i.log("bounce"), rotten.i.log("spawn"))
    texts = [open(path).read() for path in glob.glob(reports)]
    assert sorted(("damaged: local-small-bad" in text, "damaged: remote-large-bad" in text) for text in texts) == [(False, True), (True, False)]
    assert not any("Subject: local" in text or "Subject: remote" in text or "bad0123456789" in text for text in texts)
    for name in ("local-small-bad", "remote-large-bad"):
        assert f"{rotten.ids[name]}: its body cannot be read for the bounce" in rotten.i.log("bounce")
