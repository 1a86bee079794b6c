"""`tappal queue backup`: a second host starts from the copy of a queue that works, that has stopped, that was killed; every message that was accepted
before the backup began is delivered there, whole. What is not a whole backup is known as such."""
import grp
import json
import os
import pwd
import shutil
import signal
import subprocess
import threading
import time

import pytest

from fakespawn import FakeSpawn
from instance import Instance

PROGRAMS = ["queue/enqueue", "queue/queued", "queue/bounce", "queue/tappal"]
LARGE = b"Subject: large\n\n" + b"0123456789abcdef" * 10000 + b"\n"


def tappal(i, *arguments, code=0, **keys):
    r = subprocess.run([f"{i.libexec}/tappal", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120,
                       env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}, **keys)
    assert code is None or r.returncode == code, (arguments, r)
    return r


def check(i, directory, code=0):
    lines = [json.loads(line) for line in tappal(i, "queue", "check", "--spool", directory, "--json", code=code).stdout.splitlines()]
    return [f for f in lines[:-1] if f["kind"] != "note"], lines[-1]


def until(condition, what=lambda: None, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


@pytest.fixture
def hosts():
    with Instance("backup", PROGRAMS) as one, Instance("restored", PROGRAMS) as other:
        one.copy = f"{one.root}/copy"
        yield one, other


def look_as_operator(i):
    nobody = pwd.getpwnam("nobody")
    return tappal(i, "queue", "list", user=nobody.pw_uid, group=grp.getgrnam("tappal").gr_gid, extra_groups=[])


def restore(directory, other):
    """As INSTALL says."""
    subprocess.run(["cp", "-R", *(f"{directory}/{d}" for d in ("index", "log", "large", "intake")), other.spool], check=True)
    for d, owner in (("index", "tappal-queue:tappal"), ("log", "tappal-queue:tappal-queue"), ("large", "tappal-queue:tappal-queue"), ("intake", "tappal-intake:tappal-queue")):
        subprocess.run(["chown", "-R", owner, f"{other.spool}/{d}"], check=True)
    subprocess.run(["sh", "etc/spool-tree", other.root], check=True, cwd=os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


def drain(other, wanted):
    """Addresses and bodies that the second host delivers; `wanted` must be among them. Members of the group may look at its queue."""
    queued = other.start_queued()
    look_as_operator(other)
    spawn = FakeSpawn(other, "remote")
    end = time.monotonic() + 120
    while not wanted <= {d.address for d in spawn.deliveries}:
        assert time.monotonic() < end, sorted(wanted - {d.address for d in spawn.deliveries})[:20]
        tappal(other, "queue", "flush", code=None)
        time.sleep(0.3)
    assert other.kill(queued, signal.SIGTERM) == 0
    return spawn.deliveries


def sender(i, n, going, accepted):
    session = i.session()
    count = 0
    while going.is_set():
        address = f"s{n}c{count}@d{count % 5}.example"
        body = LARGE if count % 11 == 0 else b"x" * (count % 3000) + b"\r\n"
        assert session.send(body, recipients=[address])[0] == 0
        accepted.append(address)
        count += 1
    session.close()


def test_of_a_queue_that_works(hosts):
    """Mail comes and goes while the copy is made; a part of it waits."""
    one, other = hosts
    one.start_queued()
    spawn = FakeSpawn(one, "remote", lambda job, rcpt: "temp" if job.id % 3 == 0 else "ok")
    going, accepted = threading.Event(), []
    going.set()
    threads = [threading.Thread(target=sender, args=(one, n, going, accepted)) for n in range(3)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: len(accepted) > 150 and json.loads(tappal(one, "status", "--json", code=None).stdout or '{"messages": 0}')["messages"] > 20)
        before = set(accepted)
        delivered = {d.address for d in spawn.deliveries}
        r = tappal(one, "queue", "backup", one.copy)
        assert "verifies it" in r.stdout
    finally:
        going.clear()
        for thread in threads:
            thread.join()
    assert len(accepted) > len(before)
    assert pwd.getpwuid(os.stat(one.copy).st_uid).pw_name == "tappal-queue" and os.stat(one.copy).st_mode & 0o777 == 0o700
    findings, summary = check(one, one.copy)
    assert findings == [] and summary["messages"] > 0
    restore(one.copy, other)
    deliveries = drain(other, before - {d.address for d in spawn.deliveries} - delivered)
    # What the first host had delivered already may be in the copy or not; what waited is in it, once, and whole.
    addresses = [d.address for d in deliveries]
    assert len(addresses) == len(set(addresses)), "twice"
    for d in deliveries:
        if int(d.address[3:d.address.index("@")].split("c")[-1] or 0) % 11 == 0 and len(d.body) > 100000:
            assert d.body.replace(b"\r\n", b"\n").endswith(LARGE[17:])


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_of_a_queue_without_queued(hosts, how):
    """Stopped or killed, with mail that enqueue took alone, large and small."""
    one, other = hosts
    queued = one.start_queued()
    FakeSpawn(one, "remote", lambda job, rcpt: "temp")
    for n in range(10):
        assert one.enqueue(LARGE if n == 3 else b"Subject: x\n\nhello\n", "a@a.example", [f"r{n}@b.example"])[0] == 0
    one.kill(queued, how)
    for n in range(10, 14):
        assert one.enqueue(LARGE if n == 12 else b"Subject: x\n\nhello\n", "a@a.example", [f"r{n}@b.example"])[0] == 0
    tappal(one, "queue", "backup", one.copy)
    findings, summary = check(one, one.copy)
    assert findings == [] and summary["intake"] == 4
    restore(one.copy, other)
    deliveries = drain(other, {f"r{n}@b.example" for n in range(14)})
    assert sorted(d.address for d in deliveries) == sorted(f"r{n}@b.example" for n in range(14))
    assert all(d.body.replace(b"\r\n", b"\n").endswith(LARGE if d.address[:-10] in ("r3", "r12") else b"\n\nhello\n") for d in deliveries)
    assert other.intake_files() == []


def test_of_nothing(hosts):
    one, other = hosts
    tappal(one, "queue", "backup", one.copy)
    assert check(one, one.copy)[0] == []
    one.start_queued()
    until(lambda: tappal(one, "status", "--json", code=None).stdout)      # its first commit is there
    tappal(one, "queue", "backup", f"{one.copy}2")
    assert check(one, f"{one.copy}2")[0] == []
    restore(f"{one.copy}2", other)
    drain(other, set())


def test_wrong_calls(hosts):
    one, _ = hosts
    tappal(one, "queue", "backup", code=100)
    tappal(one, "queue", "backup", "a", "b", code=100)
    os.mkdir(one.copy)
    open(f"{one.copy}/mine", "w").close()
    assert "not empty" in tappal(one, "queue", "backup", one.copy, code=100).stderr
    assert os.listdir(one.copy) == ["mine"] and os.stat(one.copy).st_uid == 0
    os.symlink("/tmp", f"{one.root}/link")
    tappal(one, "queue", "backup", f"{one.root}/link", code=111)
    nobody = pwd.getpwnam("nobody")
    r = tappal(one, "queue", "backup", "/tmp/not-made", code=111, user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
    assert "takes root" in r.stderr and not os.path.exists("/tmp/not-made")


def make_copy(one):
    one.start_queued()
    for n in range(5):
        assert one.enqueue(LARGE if n == 3 else b"Subject: x\n\nhello\n", "a@a.example", [f"r{n}@b.example"])[0] == 0
    tappal(one, "queue", "backup", one.copy)


def test_partial_copies_are_known(hosts):
    """Killed at many moments: either there is no backup, or it says that it is incomplete, or it is whole."""
    one, _ = hosts
    make_copy(one)
    shutil.rmtree(one.copy)
    whole = 0
    for n in range(40):
        process = subprocess.Popen([f"{one.libexec}/tappal", "queue", "backup", one.copy], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(0.002 * n)
        process.kill()
        process.wait()
        names = os.listdir(one.copy) if os.path.exists(one.copy) else []
        if "MANIFEST" in names and "INCOMPLETE" not in names:
            assert check(one, one.copy)[0] == []
            whole += 1
        elif "INCOMPLETE" in names and {"index", "log", "large", "intake"} <= set(names):
            findings, _ = check(one, one.copy, code=2)
            assert ("manifest", "INCOMPLETE") in [(f["kind"], f.get("file")) for f in findings]
        elif names:
            assert "INCOMPLETE" in names and tappal(one, "queue", "check", "--spool", one.copy, code=None).returncode != 0
        shutil.rmtree(one.copy, ignore_errors=True)
    assert whole < 40


def test_copies_that_were_changed(hosts):
    one, _ = hosts
    make_copy(one)
    large = next(n for n in os.listdir(f"{one.copy}/large"))

    def changed(change):
        copy = f"{one.root}/changed"
        shutil.rmtree(copy, ignore_errors=True)
        subprocess.run(["cp", "-a", one.copy, copy], check=True)
        change(copy)
        findings, _ = check(one, copy, code=2)
        return [f["file"] for f in findings if f["kind"] == "manifest"]

    def flip(path, at):
        with open(path, "r+b") as f:
            f.seek(at)
            octet = f.read(1)
            f.seek(at)
            f.write(bytes([octet[0] ^ 1]))
    assert changed(lambda c: flip(f"{c}/large/{large}", 5000)) == [f"large/{large}"]
    assert changed(lambda c: os.truncate(f"{c}/large/{large}", 5000)) == [f"large/{large}"]
    assert changed(lambda c: os.unlink(f"{c}/large/{large}")) == [f"large/{large}", "MANIFEST"]
    assert changed(lambda c: flip(f"{c}/index/data.mdb", 100)) == ["index/data.mdb"]
    assert changed(lambda c: flip(f"{c}/MANIFEST", 60)) == ["MANIFEST"]
    assert changed(lambda c: os.truncate(f"{c}/MANIFEST", os.stat(f"{c}/MANIFEST").st_size - 1)) == ["MANIFEST"]
    assert changed(lambda c: open(f"{c}/log/0000000000000099", "w").close()) == ["MANIFEST"]


def test_no_room(hosts):
    """A disk that fills up: said so, and what is there is known to be incomplete."""
    one, _ = hosts
    make_copy(one)
    small = f"{one.root}/small"
    os.mkdir(small)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", small], check=True)
    try:
        r = tappal(one, "queue", "backup", f"{small}/copy", code=111)
        assert "No space left" in r.stderr and "INCOMPLETE" in os.listdir(f"{small}/copy")
    finally:
        subprocess.run(["umount", small], check=True)


def test_damaged_index_is_not_copied(hosts):
    one, _ = hosts
    queued = one.start_queued()
    assert one.enqueue(b"Subject: x\n\nhello\n")[0] == 0
    assert one.kill(queued, signal.SIGTERM) == 0
    size = os.stat(f"{one.spool}/index/data.mdb").st_size
    with open(f"{one.spool}/index/data.mdb", "r+b") as f:
        f.seek(8192)
        f.write(b"\xff" * (size - 8192))
    assert "queue check" in tappal(one, "queue", "backup", one.copy, code=111).stderr
