"""`tappal queue check`: on a queue that works, on one that was stopped or killed, on one that is damaged; who may run it; --repair, and the start behind it."""
import json
import os
import pwd
import signal
import stat
import subprocess
import threading
import time

import pytest

from fakespawn import FakeSpawn
from instance import Instance

PROGRAMS = ["queue/enqueue", "queue/queued", "queue/bounce", "queue/tappal"]
MESSAGE = b"Subject: test\n\nhello\n"
LARGE = b"Subject: large\n\n" + b"0123456789abcdef" * 10000 + b"\n"


def tappal(i, *arguments, user=None, code=0):
    r = subprocess.run([f"{i.libexec}/tappal", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, user=user,
                       group=pwd.getpwnam(user).pw_gid if user else None, extra_groups=os.getgrouplist(user, pwd.getpwnam(user).pw_gid) if user else None,
                       env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
    assert code is None or r.returncode == code, (arguments, r)
    return r


def check(i, *arguments, code=0):
    """The findings, without notes, and the summary."""
    r = tappal(i, "queue", "check", "--json", *arguments, code=code)
    lines = [json.loads(line) for line in r.stdout.splitlines()]
    assert lines[-1]["kind"] == "summary", r
    return [f for f in lines[:-1] if f["kind"] != "note"], lines[-1]


def until(condition, what=None, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what and what()
        time.sleep(0.05)


def messages(i):
    """How many the queue has; -1 before the first commit of a new index."""
    return json.loads(tappal(i, "status", "--json", code=None).stdout or '{"messages": -1}')["messages"]


@pytest.fixture
def instance():
    with Instance("check", PROGRAMS) as i:
        yield i


@pytest.fixture
def stopped(instance):
    """Four messages that wait, one of them large; one that was delivered. queued has stopped."""
    i = instance
    queued = i.start_queued()
    spawn = FakeSpawn(i, "remote", lambda job, rcpt: "ok" if rcpt.address.startswith(b"ok") else "temp")
    for n in range(3):
        assert i.enqueue(MESSAGE, "a@a.example", [f"r{n}@d{n}.example"])[0] == 0
    assert i.enqueue(LARGE, "a@a.example", ["large@b.example"])[0] == 0
    assert i.enqueue(MESSAGE, "a@a.example", ["ok@c.example"])[0] == 0
    until(lambda: messages(i) == 4 and len(spawn.deliveries) == 1, lambda: (messages(i), spawn.deliveries, spawn.error, i.log()))
    assert i.kill(queued, signal.SIGTERM) == 0
    spawn.stop()
    return i


def segments(i):
    return sorted(n for n in os.listdir(f"{i.spool}/log") if len(n) == 16)


def find_in_log(i, octets):
    for name in segments(i):
        at = open(f"{i.spool}/log/{name}", "rb").read().find(octets)
        if at >= 0:
            return f"{i.spool}/log/{name}", at
    raise AssertionError("not in the log")


def overwrite(path, at, octets):
    with open(path, "r+b") as f:
        f.seek(at)
        f.write(octets)


# ---- sound queues

def test_before_the_first_start(instance):
    assert check(instance)[0] == []


def test_stopped(stopped):
    findings, summary = check(stopped)
    assert findings == [] and not summary["live"]
    assert (summary["messages"], summary["recipients"], summary["large"], summary["intake"]) == (4, 4, 1, 0)
    text = tappal(stopped, "queue", "check").stdout
    assert text.count("\n") == 1 and text.startswith("-- 4 messages, 4 recipients; ") and text.endswith(": clean\n")


def test_killed(instance):
    """What kill -9 leaves at any moment of work is no finding; nor is what enqueue leaves without queued."""
    for n in range(5):
        queued = instance.start_queued()
        spawn = FakeSpawn(instance, "remote", lambda job, rcpt: ("ok", "temp")[job.id % 2])
        for k in range(5 + 3 * n):
            assert instance.enqueue(LARGE if k % 4 == 0 else MESSAGE, "a@a.example", [f"r{k}@d{k % 3}.example"])[0] == 0
        instance.kill(queued)
        spawn.die()
        assert instance.enqueue(MESSAGE)[0] == 0
        findings, summary = check(instance)
        assert findings == [] and summary["intake"] == 1


def test_live_without_false_alarm(instance):
    """While mail of all sizes comes and goes as fast as it can."""
    instance.start_queued()
    spawn = FakeSpawn(instance, "remote", lambda job, rcpt: "temp" if job.id % 7 == 0 else "ok", bodies=False)
    going = True

    def send(n):
        session = instance.session()
        count = 0
        while going:
            assert session.send(LARGE if count % 9 == 0 else b"x" * (count % 5000), recipients=[f"r{count}@d{n}.example" for _ in range(1 + count % 3)])[0] == 0
            count += 1
        session.close()
    senders = [threading.Thread(target=send, args=(n,)) for n in range(3)]
    for thread in senders:
        thread.start()
    try:
        seen, end = 0, time.monotonic() + 6
        while time.monotonic() < end or (seen <= 10 and time.monotonic() < end + 120):
            findings, summary = check(instance)
            assert findings == [] and summary["live"]
            seen = max(seen, summary["records"])
        assert seen > 10
    finally:
        going = False
        for thread in senders:
            thread.join()
        spawn.stop()


# ---- who may

def test_who_may(stopped):
    r = tappal(stopped, "queue", "check", user="nobody", code=111)
    assert "takes root" in r.stderr
    assert tappal(stopped, "queue", "check", user="tappal-queue").stdout.endswith(": clean\n")


def test_wrong_calls(stopped):
    for arguments in (["--all"], ["x"], ["--spool"], ["--spool", "/tmp", "--repair"]):
        tappal(stopped, "queue", "check", *arguments, code=100)
    assert "No such file" in tappal(stopped, "queue", "check", "--spool", "/nonexistent", code=111).stderr


def test_nothing_is_read_as_root(stopped):
    """Every file of the spool is opened by tappal-queue."""
    trace = f"{stopped.root}/trace"
    subprocess.run(["strace", "-f", "-o", trace, "-e", "trace=openat,open,setresuid", f"{stopped.libexec}/tappal", "queue", "check"], check=True,
                   stdout=subprocess.DEVNULL)
    lines = open(trace).read().splitlines()
    become = next(n for n, line in enumerate(lines) if "setresuid" in line)
    opened = [line for line in lines[:become] if stopped.spool in line or '"log' in line or '"index' in line or '"large' in line or '"intake' in line]
    assert len(opened) == 1 and "O_DIRECTORY" in opened[0], opened


def test_closed_after_what(stopped):
    os.chmod(f"{stopped.spool}/log", 0o000)
    os.chown(f"{stopped.spool}/log", 0, 0)
    assert "could not be checked" in tappal(stopped, "queue", "check", code=111).stderr


# ---- damage

def test_owners_and_modes(stopped):
    os.chmod(f"{stopped.spool}/log", 0o777)
    os.chown(f"{stopped.spool}/fifo/bounce", 0, 0)
    os.unlink(f"{stopped.spool}/fifo/jobs-local")
    findings, _ = check(stopped, code=2)
    assert sorted((f["kind"], f["file"]) for f in findings) == [("owner", "fifo/bounce"), ("owner", "fifo/jobs-local"), ("owner", "log")]
    assert all("spool-tree" in f["next"] for f in findings)


def test_damage_is_named(stopped):
    path, at = find_in_log(stopped, b"r1@d1.example")
    overwrite(path, at, b"R1")
    findings, _ = check(stopped, code=2)
    assert [f["kind"] for f in findings] == ["log-damaged", "message-damaged"]
    listed = [json.loads(line) for line in tappal(stopped, "queue", "list", "--json").stdout.splitlines()]
    assert findings[1]["queue_id"] == next(m["queue_id"] for m in listed if m["recipients"][0]["address"] == "r1@d1.example")
    r = tappal(stopped, "queue", "check", code=2)
    assert r.stdout.splitlines()[-1].endswith(": 2 findings")
    # The damaged octets are kept; the log and the index stay.
    _, summary = check(stopped, "--repair", code=2)
    assert [f["kind"] for f in check(stopped, code=2)[0]] == ["log-damaged", "message-damaged"]
    kept = [n for n in os.listdir(f"{stopped.spool}/quarantine") if not n.endswith(".txt")]
    assert len(kept) == 1 and b"R1@d1.example" in open(f"{stopped.spool}/quarantine/{kept[0]}", "rb").read()


def test_hostile_names_stay_on_their_line(stopped):
    for name in ("large/\x1b[2Jx", "log/a\nlog-damaged log", "intake/" + "n" * 250):
        open(f"{stopped.spool}/{name}", "w").close()
        os.chown(f"{stopped.spool}/{name}", pwd.getpwnam("tappal-queue").pw_uid, -1)
    r = tappal(stopped, "queue", "check", code=2)
    assert "\x1b" not in r.stdout and r.stdout.count("\n") == 4
    r = tappal(stopped, "queue", "check", "--repair", code=2)
    assert check(stopped)[0] == [], r


# ---- repair

def test_repair_wants_a_stopped_queued(instance):
    queued = instance.start_queued()
    r = tappal(instance, "queue", "check", "--repair", code=111)
    assert f"pid {queued.pid}" in r.stderr and "Nothing was done" in r.stderr
    os.kill(queued.pid, signal.SIGSTOP)
    tappal(instance, "queue", "check", "--repair", code=111)


def test_no_queued_starts_while_it_repairs(stopped):
    import fcntl
    with open(f"{stopped.spool}/lock", "r+") as lock:        # as repair holds it
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert stopped.start("queued").wait(120) == 111


def test_orphans_are_set_aside(stopped):
    i = stopped
    open(f"{i.spool}/large/000000000001", "w").write("whose?")
    open(f"{i.spool}/log/core", "w").write("core")
    open(f"{i.spool}/log/quarantine-0000000000000001-00000040", "w").write("bad")
    findings, _ = check(i, "--repair", code=2)
    kinds = [f["kind"] for f in findings]
    assert kinds.count("set-aside-now") == 3 and {"large-orphan", "unknown-file", "set-aside"} < set(kinds)
    assert check(i)[0] == []
    spool = os.stat(f"{i.spool}/quarantine")
    assert stat.S_IMODE(spool.st_mode) == 0o700 and pwd.getpwuid(spool.st_uid).pw_name == "tappal-queue"
    names = sorted(os.listdir(f"{i.spool}/quarantine"))
    assert len(names) == 6 and [n for n in names if n.endswith(".txt")] == [n + ".txt" for n in names if not n.endswith(".txt")]
    orphan = next(n for n in names if n.endswith("large-000000000001"))
    assert open(f"{i.spool}/quarantine/{orphan}").read() == "whose?"
    report = open(f"{i.spool}/quarantine/{orphan}.txt").read()
    assert f"from {i.spool}/large/000000000001\n" in report and "large-orphan: " in report


def test_an_orphan_is_swept_at_the_start(stopped):
    """The unlink of a large body that a loss of power took back: the check says what ends it, and that does."""
    i = stopped
    with open(f"{i.spool}/large/000000000001", "w") as f:
        f.write("whose?")
    [finding] = check(i, code=2)[0]
    assert finding["kind"] == "large-orphan" and "the next start of queued removes it" in finding["next"]
    i.start_queued()
    assert not os.path.exists(f"{i.spool}/large/000000000001") and check(i)[0] == []


DAMAGED_INDEX = {
    "garbage": lambda i: open(f"{i.spool}/index/data.mdb", "r+b").write(b"\xff" * 65536),
    "cut": lambda i: os.truncate(f"{i.spool}/index/data.mdb", 8192),
    "cut in a page": lambda i: os.truncate(f"{i.spool}/index/data.mdb", 8192 + 100),
    "empty pages": lambda i: overwrite(f"{i.spool}/index/data.mdb", 8192, b"\0" * (os.stat(f"{i.spool}/index/data.mdb").st_size - 8192)),
}


@pytest.mark.parametrize("how", DAMAGED_INDEX)
def test_index_is_made_anew(stopped, how):
    """Set aside, replayed, clean; every message that waited is delivered, octet by octet."""
    i = stopped
    DAMAGED_INDEX[how](i)
    findings, _ = check(i, code=2)
    assert "index-damaged" in [f["kind"] for f in findings] and {f["kind"] for f in findings} <= {"index-damaged", "index-rows"}
    findings, _ = check(i, "--repair", code=2)
    assert [f["file"] for f in findings if f["kind"] == "set-aside-now"] == ["index/data.mdb"]
    report = [n for n in os.listdir(f"{i.spool}/quarantine") if n.endswith("index-data.mdb.txt")]
    assert len(report) == 1 and "index-damaged" in open(f"{i.spool}/quarantine/{report[0]}").read()
    assert check(i)[0] == []
    queued = i.start_queued()
    spawn = FakeSpawn(i, "remote")
    until(lambda: messages(i) >= 4)
    tappal(i, "queue", "flush")
    until(lambda: len({d.address for d in spawn.deliveries} - {"ok@c.example"}) == 4)
    bodies = {d.address: d.body for d in spawn.deliveries}
    assert bodies["large@b.example"].replace(b"\r\n", b"\n").endswith(LARGE) and b"hello" in bodies["r1@d1.example"]
    assert check(i)[0] == []
    assert i.kill(queued, signal.SIGTERM) == 0
    spawn.stop()
    assert check(i)[0] == []


def test_queued_names_the_command(stopped):
    DAMAGED_INDEX["garbage"](stopped)
    assert stopped.start("queued").wait(120) == 111
    assert "tappal queue check" in stopped.log() and "--repair" in stopped.log()


def test_an_old_index_is_behind_and_no_more(stopped):
    """An index of an hour ago, put back from some copy: the log tells the rest, so nothing is found."""
    i = stopped
    old = open(f"{i.spool}/index/data.mdb", "rb").read()
    queued = i.start_queued()
    assert i.enqueue(MESSAGE, "a@a.example", ["new@n.example"])[0] == 0
    until(lambda: messages(i) == 5)
    assert i.kill(queued, signal.SIGTERM) == 0
    open(f"{i.spool}/index/data.mdb", "wb").write(old)
    findings, summary = check(i)
    assert findings == [] and summary["behind"] >= 2 and summary["messages"] == 4
