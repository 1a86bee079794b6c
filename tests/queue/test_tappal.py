"""tappal against a real queued with a spawn that answers as told: what is shown, what is steered, who may, and what stands there when queued does not."""
import json
import os
import re
import signal
import stat
import subprocess
import time

import pytest

from fakespawn import FakeSpawn
from faults import fifo_holds
from host import wait_until
from instance import Instance

def by_first_letter(job, rcpt):
    return "temp" if rcpt.address.startswith(b"t") else "ok"


class Queue:
    """An instance with helpers around its tappal."""

    def __init__(self, instance):
        self.i = instance

    def run(self, *arguments, **keys):
        keys.setdefault("env", {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"})
        return subprocess.run([f"{self.i.libexec}/tappal", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, **keys)

    def out(self, *arguments, code=0, **keys):
        r = self.run(*arguments, **keys)
        assert r.returncode == code, (arguments, r)
        return r.stdout

    def list(self, *arguments):
        r = self.run("queue", "list", "--json", *arguments)
        assert r.returncode in (0, 1), r
        return [json.loads(line) for line in r.stdout.splitlines()]

    def find(self, condition, *arguments, seconds=120):
        """The list, as soon as the condition holds for it (the index is up to a second behind)."""
        end = time.monotonic() + seconds
        while True:
            found = self.list(*arguments)
            if condition(found):
                return found
            assert time.monotonic() < end, found
            time.sleep(0.05)

    def put(self, sender, recipients, message=b"Subject: test\n\nhello\n"):
        before = {m["queue_id"] for m in self.list()}
        assert self.i.enqueue(message, sender, recipients)[0] == 0
        return next(m["queue_id"] for m in self.find(lambda found: {m["queue_id"] for m in found} - before) if m["queue_id"] not in before)

    def why(self, id):
        return json.loads(self.out("queue", "why", id, "--json"))


@pytest.fixture(scope="module")
def queue():
    with Instance("tappal", ["queue/enqueue", "queue/queued", "queue/bounce", "queue/tappal"]) as instance:
        q = Queue(instance)
        q.before = q.run("queue", "list")
        q.queued = instance.start_queued()
        q.spawn = FakeSpawn(instance, "remote", by_first_letter)
        instance.start("bounce")
        yield q
        q.spawn.stop()


@pytest.fixture
def four(queue):
    """Four messages that wait, and none else: their ids."""
    end = time.monotonic() + 120
    while queue.list() and time.monotonic() < end:
        queue.run("queue", "delete", "--all")      # what is in flight at that moment is left alone
        time.sleep(0.3)
    queue.find(lambda found: not found)
    for sender, recipients in (("ann@a.example", ["t1@b.example"]), ("ann@a.example", ["t2@c.example", "t3@c.example", "o3@c.example"]),
                               ("bob@a.example", ["t4@b.example"]), ("", ["t5@sub.b.example"])):
        assert queue.i.enqueue(b"Subject: test\n\nhello\n", sender, recipients)[0] == 0
    found = queue.find(lambda found: len(found) == 4 and all(r["attempts"] == 1 for m in found for r in m["recipients"]) and found[1]["delivered"] == 1)
    ids = [m["queue_id"] for m in found]
    return ids


# ---- looking

def test_before_the_first_start(queue):
    assert queue.before.returncode == 111 and "queued has never run" in queue.before.stderr


def test_empty(queue):
    queue.run("queue", "delete", "--all")
    queue.find(lambda found: not found)
    assert queue.out("queue", "list") == "The queue is empty.\n"
    assert queue.out("queue", "list", "--json") == ""
    r = queue.run("queue", "list", "--from", "x@y.example")
    assert (r.returncode, r.stdout) == (1, "") and "no message in the queue matches" in r.stderr


def test_json_has_the_names_of_postqueue(queue, four):
    m = queue.list(four[1])[0]
    assert (m["queue_name"], m["queue_id"], m["forced_expire"], m["sender"]) == ("deferred", four[1], False, "ann@a.example")
    assert abs(m["arrival_time"] - time.time()) < 600 and m["message_size"] == len(b"Subject: test\r\n\r\nhello\r\n")
    assert [(r["address"], r["delay_reason"]) for r in m["recipients"]] == [("t2@c.example", "451 temp"), ("t3@c.example", "451 temp")]
    assert queue.list(four[3])[0]["sender"] == "MAILER-DAEMON" and queue.list(four[3])[0]["reverse_path"] == ""
    assert m["expires"] == m["arrival_time"] + 7 * 86400 and m["delivered"] == 1 and m["recipient_count"] == 3


def test_table(queue, four):
    lines = queue.out("queue", "list").splitlines()
    assert re.fullmatch(r"ID +AGE +SIZE +STATE +FROM +TO +LAST REPLY", lines[0])
    assert [line.split()[0] for line in lines[1:5]] == four
    assert re.fullmatch(rf"{four[1]} +\d+s +24 +deferred +ann@a.example +t2@c.example \+1 +451 temp", lines[2])
    assert lines[4].split()[4] == "<>" and lines[5] == "-- 4 messages, 96 octets"


FILTERS = [
    (["--from", "ann@a.example"], [0, 1]), (["--from", "ANN@*"], [0, 1]), (["--from", "@a.example"], [0, 1, 2]), (["--from", "<>"], [3]), (["--to", "t4@b.example"], [2]),
    (["--to", "o3@c.example"], []), (["--domain", "b.example"], [0, 2]), (["--domain", ".b.example"], [3]), (["--older", "1h"], []), (["--newer", "1h"], [0, 1, 2, 3]),
    (["--state", "deferred"], [0, 1, 2, 3]), (["--state", "held"], []), (["--reason", "TEMP"], [0, 1, 2, 3]), (["--reason", "other"], []), (["--limit", "2"], [0, 1]),
    (["--from", "ann@a.example", "--to", "*c.example"], [1]), (["--all"], [0, 1, 2, 3]),
]


@pytest.mark.parametrize("options,expected", FILTERS, ids=[" ".join(o) for o, _ in FILTERS])
def test_filters(queue, four, options, expected):
    assert [m["queue_id"] for m in queue.list(*options)] == [four[i] for i in expected]


def test_prefixes(queue, four):
    assert [m["queue_id"] for m in queue.list(four[0][:3])] == four           # of a list: all that begin so
    assert [m["queue_id"] for m in queue.list(four[2].lower(), four[0])] == [four[2], four[0]]
    for n in range(3, 13):
        same = [id for id in four if id.startswith(four[1][:n])]
        r = queue.run("queue", "retry", "--dry-run", four[1][:n])
        if len(same) == 1:
            assert r.returncode == 0 and r.stdout.startswith(four[1])
        else:
            assert r.returncode == 100 and "more than one message" in r.stderr and "Nothing was done" in r.stderr
    assert queue.run("queue", "list", "no-id!").returncode == 100
    r = queue.run("queue", "delete", "0000000000")
    assert r.returncode == 1 and "no message in the queue" in r.stderr


def test_why_in_sentences(queue, four):
    text = queue.out("queue", "why", four[1])
    assert f"Message {four[1]} from <ann@a.example>, 24 octets, 3 recipients: 1 delivered, 2 waiting, 0 to be reported." in text
    assert "on this host, from user root (uid 0)" in text and "goes back to the sender" in text
    assert re.search(r"<t2@c\.example> is waiting\.\n  It goes by SMTP to c\.example\.\n  Tried 1 time, on .*; it came as far as: the server's answer to the whole "
                     r"message at mx\.example \[192\.0\.2\.25\]\.\n  The answer, word for word: 451 temp\n  Next try: .* \(in \w+\)\.", text)
    assert "<o3@c.example> is delivered." in text
    assert "is dropped, as its sender is empty" in queue.out("queue", "why", four[3])


def test_why_in_json(queue, four):
    w = queue.why(four[0])
    r = w["recipients"][0]
    assert (w["finished"], w["uid"], w["login"]) == (False, 0, "root")
    assert (r["address"], r["delay_reason"], r["state"], r["attempts"], r["stage"], r["code"], r["host"], r["ip"]) == \
        ("t1@b.example", "451 temp", "waiting", 1, "final", 451, "mx.example", "192.0.2.25")
    assert r["first_try"] == r["last_try"] and 350 < r["next_try"] - r["last_try"] < 450


def test_why_of_finished_and_unknown(queue):
    assert queue.i.enqueue(b"Subject: x\n\nhello\n", "fin@a.example", ["o1@b.example"])[0] == 0
    end = time.monotonic() + 120
    while not (ids := re.findall(r"(\w{12}): uid=0 from=<fin@a.example>", queue.i.log())) and time.monotonic() < end:
        time.sleep(0.05)
    w = queue.why(ids[0])          # a second young: tappal waits for the index
    while not w["finished"] and time.monotonic() < end:
        time.sleep(0.1)
        w = queue.why(ids[0])
    text = queue.out("queue", "why", ids[0])
    assert (w["how"], w["delivered"], w["first_recipient"], w["last_reply"]) == ("delivered", 1, "o1@b.example", "250 ok")
    assert "is finished: it was delivered." in text and "The last answer, word for word: 250 ok" in text
    r = queue.run("queue", "why", "000000000001")
    assert r.returncode == 1 and "neither in the queue nor among the finished ones" in r.stderr


def test_show(queue, four):
    text = queue.out("queue", "show", four[1])
    assert "From:         ann@a.example\n" in text and "To:           o3@c.example (delivered)\n" in text and text.endswith("\n\nSubject: test\n\nhello\n")
    assert queue.out("queue", "show", "--headers", four[1]).endswith("\n\nSubject: test\n")
    r = subprocess.run([f"{queue.i.libexec}/tappal", "queue", "show", "--raw", four[1]], stdout=subprocess.PIPE)
    assert r.stdout == b"Subject: test\r\n\r\nhello\r\n"
    large = queue.put("l@a.example", ["t9@b.example"], b"Subject: large\n\n" + b"0123456789abcde\n" * 20000)
    r = subprocess.run([f"{queue.i.libexec}/tappal", "queue", "show", "--raw", large], stdout=subprocess.PIPE)
    assert len(r.stdout) == len(b"Subject: large\r\n\r\n") + 17 * 20000
    # The end of a long header stands where what is read at once ends: the octets are those of lines all the same.
    header = b"Subject: long\n" + b"X-Line: 0123456789abcdefghijklmnopqrstuvwxyzabcdefghijklm\n" * ((65534 - 15) // 59)
    header += b"X-Last: " + b"u" * (65535 - len(header) - header.count(b"\n") - 8) + b"\n"
    assert len(header.replace(b"\n", b"\r\n")) == 65536 + 1
    id = queue.put("h@a.example", ["t9@b.example"], header + b"\nbody\n")
    assert queue.out("queue", "show", "--headers", id).endswith("\n\n" + header.decode())
    assert queue.out("queue", "show", id).endswith("\n\n" + header.decode() + "\nbody\n")


def test_nothing_of_a_peer_reaches_the_terminal(queue, four):
    id = queue.put("evil@a.example", ["t6@b.example"], b"Subject: \x1b]0;x\x07 \xc2\x9b31m \xe2\x80\xae\xff \x7f \r\n\nb\x1b[2Jody\x08\n")
    queue.out("queue", "hold", id, "--because", "red \x1b[31m \x9b and \u202e")
    queue.find(lambda found: any(m["queue_id"] == id and m["state"] == "held" for m in found))
    for command in (["list"], ["why", id], ["show", id], ["list", "--json"]):
        r = subprocess.run([f"{queue.i.libexec}/tappal", "queue", *command], stdout=subprocess.PIPE, env={"LC_ALL": "C.UTF-8"})
        assert r.returncode == 0
        text = r.stdout.decode("utf-8")
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)


def test_status(queue, four):
    s = json.loads(queue.out("status", "--json"))
    assert (s["queued"], s["pid"], s["messages"], s["recipients"], s["oldest"]) == ("running", queue.queued.pid, 4, 5, four[0])
    assert s["disk_free"] > 0 and s["accepted"] >= 4
    text = queue.out("status")
    assert f"running, pid {queue.queued.pid}" in text and f"oldest        {four[0]}" in text


# ---- steering

def test_hold_and_release(queue, four):
    out = queue.out("queue", "hold", "--from", "ann@a.example", "--because", "look first")
    assert [line.split(":")[0] for line in out.splitlines()] == four[:2]
    held = queue.find(lambda found: len(found) == 2, "--state", "held")
    assert [m["queue_name"] for m in held] == ["hold", "hold"] and held[0]["held_reason"] == "look first" and held[0]["held_by"] == "root"
    text = queue.out("queue", "why", four[0])
    assert re.search(r"It is held since .*, by root: look first\. It is not tried and does not expire until `tappal queue release " + four[0], text)
    assert [m["queue_id"] for m in queue.list("--reason", "LOOK")] == four[:2]
    queue.out("queue", "release", four[0][:11] if len({i[:11] for i in four}) == 4 else four[0])
    assert [m["queue_id"] for m in queue.find(lambda found: len(found) == 1, "--state", "held")] == [four[1]]
    r = queue.run("queue", "release", four[2])
    assert r.returncode == 1 and "not held" in r.stdout


def test_retry(queue, four):
    queue.out("queue", "retry", four[0])
    queue.find(lambda found: queue.why(four[0])["recipients"][0]["attempts"] == 2)
    assert queue.why(four[2])["recipients"][0]["attempts"] == 1


def test_delete_dry_run_and_delete(queue, four):
    out = queue.out("queue", "delete", "--domain", "b.example", "--dry-run")
    assert out.splitlines() == [f"{four[0]}: would delete: <ann@a.example> to <t1@b.example>", f"{four[2]}: would delete: <bob@a.example> to <t4@b.example>"]
    out = queue.out("queue", "delete", "--domain", "b.example", "--json")
    assert [(r["queue_id"], r["operation"], r["done"]) for r in map(json.loads, out.splitlines())] == [(four[0], "delete", True), (four[2], "delete", True)]
    assert [m["queue_id"] for m in queue.find(lambda found: len(found) == 2)] == [four[1], four[3]]
    r = queue.run("queue", "delete", four[0])
    assert r.returncode == 1 and "no such message" in r.stdout


def test_delete_of_single_recipients(queue, four):
    queue.out("queue", "delete", "--to", "t3@c.example", "--recipients-only")
    m = queue.find(lambda found: found and len(found[0]["recipients"]) == 1, four[1])[0]
    assert m["recipients"][0]["address"] == "t2@c.example"
    assert [r["state"] for r in queue.why(four[1])["recipients"]] == ["waiting", "deleted", "delivered"]


def test_bounce(queue, four):
    queue.out("queue", "bounce", four[2], "--because", "the domain is gone")
    queue.find(lambda found: queue.why(four[2])["finished"])
    assert queue.why(four[2])["how"] == "bounced"
    assert f"{four[2]}: sender non-delivery notification: " in queue.i.log()
    assert wait_until(lambda: any(d.address == "bob@a.example" and b"the domain is gone" in d.body for d in queue.spawn.deliveries))


def test_limit_and_ids_from_stdin(queue, four):
    out = queue.out("queue", "hold", "--all", "--limit", "3")
    assert len(out.splitlines()) == 3
    out = queue.out("queue", "release", "-", input=f"{four[0]}*  24 Sat\n\n\"{four[1]}\"\n")
    assert [line.split(":")[0] for line in out.splitlines()] == four[:2]


def test_flush(queue, four):
    assert queue.out("queue", "flush", "B.example").startswith("b.example: ")
    queue.find(lambda found: queue.why(four[0])["recipients"][0]["attempts"] == 2)
    assert queue.why(four[1])["recipients"][0]["attempts"] == 1
    queue.out("queue", "flush")
    queue.find(lambda found: queue.why(four[1])["recipients"][0]["attempts"] == 2)


def test_fifo_of_one_who_was_killed(queue, four):
    """Old and read by nobody: the next operator clears it away. A young one may be about to be opened; one that is read belongs to somebody."""
    reply = f"{queue.i.spool}/reply"
    for name, age in (("FORGOTTEN", 3600), ("YOUNG", 60), ("READ", 3600)):
        os.mkfifo(f"{reply}/{name}")
        os.utime(f"{reply}/{name}", (time.time() - age,) * 2)
    reader = os.open(f"{reply}/READ", os.O_RDONLY | os.O_NONBLOCK)
    try:
        queue.out("queue", "hold", four[0])
        assert sorted(os.listdir(reply)) == ["READ", "YOUNG"]
    finally:
        os.close(reader)
        for name in os.listdir(reply):
            os.unlink(f"{reply}/{name}")
    queue.out("queue", "release", four[0])


def test_hundreds_in_one_command(queue, four):
    session = queue.i.session()
    for n in range(600):
        session.message(b"Subject: x\r\n\r\nx\r\n", sender="bulk@a.example", recipients=["t@bulk.example"])
    for n in range(600):
        assert session.stream.next().result == 0
    session.close()
    queue.find(lambda found: len(found) == 600, "--from", "bulk@a.example")
    out = queue.out("queue", "delete", "--from", "bulk@a.example")
    assert len(out.splitlines()) == 600
    queue.find(lambda found: not found, "--from", "bulk@a.example")
    assert os.listdir(f"{queue.i.spool}/reply") == []


WRONG = [["queue", "delete"], ["queue", "delete", "--limit", "3"], ["queue", "hold", "--all", "--state", "odd"], ["queue", "list", "--older", "soon"], ["queue", "list", "--nonsense"],
         ["queue", "list", "--dry-run"], ["queue", "nonsense"], ["nonsense"], ["queue", "why"], ["queue"], [], ["queue", "delete", "--all", "--recipients-only"],
         ["queue", "hold", "--to", "x", "--recipients-only"], ["status", "x"], ["log"], ["config"], ["config", "set", "me"]]


@pytest.mark.parametrize("arguments", WRONG, ids=[" ".join(a) for a in WRONG])
def test_wrong_calls(queue, arguments):
    r = queue.run(*arguments)
    assert r.returncode == 100 and (r.stderr.startswith("tappal: ") or not arguments)


# ---- who may, and when queued is not there

def test_member_of_the_group(queue, four):
    r = queue.run("queue", "list", user="nobody", group="nogroup", extra_groups=["tappal"])
    assert r.returncode == 0 and four[0] in r.stdout
    assert queue.run("queue", "hold", four[0], user="nobody", group="nogroup", extra_groups=["tappal"]).returncode == 0
    queue.find(lambda found: found[0]["held_by"] == "nobody" if found else False, "--state", "held")
    r = queue.run("queue", "show", four[0], user="nobody", group="nogroup", extra_groups=["tappal"])
    assert r.returncode == 111 and "takes root" in r.stderr


def test_stranger(queue, four):
    for arguments in (["queue", "list"], ["queue", "delete", four[0]], ["status"]):
        r = queue.run(*arguments, user="nobody", group="nogroup", extra_groups=[])
        assert r.returncode == 111 and "adduser nobody tappal" in r.stderr


def test_claimed_sudo_user_is_noted_beside_root(queue, four):
    queue.out("queue", "hold", four[0], env={"SUDO_USER": "joe"})
    queue.find(lambda found: found and found[0]["held_by"] == "root (joe)", "--state", "held")


def test_a_killed_command_leaves_no_fifo(queue, four):
    queue.queued.send_signal(signal.SIGSTOP)
    try:
        process = subprocess.Popen([f"{queue.i.libexec}/tappal", "queue", "hold", four[0]])
        assert wait_until(lambda: os.listdir(f"{queue.i.spool}/reply"))
        (name,) = os.listdir(f"{queue.i.spool}/reply")
        assert wait_until(lambda: os.stat(f"{queue.i.spool}/reply/{name}").st_mode == stat.S_IFIFO | 0o620)
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 128 + signal.SIGTERM
        assert os.listdir(f"{queue.i.spool}/reply") == []
    finally:
        queue.queued.send_signal(signal.SIGCONT)


def tree(directory):
    return sorted((name, os.lstat(f"{directory}/{name}").st_uid, os.lstat(f"{directory}/{name}").st_gid, os.lstat(f"{directory}/{name}").st_mode) for name in os.listdir(directory))


def test_while_queued_starts(queue, four):
    """It holds its lock and replays: that is not "stopped", and what is listed is called what it is."""
    queue.i.kill(queue.queued, signal.SIGKILL)
    stopped = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:signal=SIGSTOP:when=1"]
    starting = subprocess.Popen([*stopped, f"{queue.i.libexec}/queued"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end = time.monotonic() + 120
        while not (status := json.loads(queue.out("status", "--json", code=111)))["queued"] == "starting" and time.monotonic() < end:
            time.sleep(0.1)
        assert status["queued"] == "starting" and status["pid"] in map(int, open(f"/proc/{starting.pid}/task/{starting.pid}/children").read().split())
        for keys in ({}, {"user": "nobody", "group": "nogroup", "extra_groups": ["tappal"]}):
            r = queue.run("status", **keys)
            assert r.returncode == 111 and f"starting, pid {status['pid']}" in r.stdout
            r = queue.run("queue", "list", **keys)
            assert "queued is starting" in r.stderr and four[0] in r.stdout
    finally:
        os.kill(status["pid"], signal.SIGKILL)
        starting.wait(120)
        queue.queued = queue.i.start_queued()


def test_without_queued(queue, four):
    queue.i.kill(queue.queued, signal.SIGKILL)
    try:
        assert "queued does not run: this is the queue as it stood at 2" in queue.run("queue", "list").stderr
        before = tree(f"{queue.i.spool}/index")
        for keys in ({}, {"user": "nobody", "group": "nogroup", "extra_groups": ["tappal"]}):
            assert [line.split()[0] for line in queue.out("queue", "list", **keys).splitlines()[1:5]] == four
            assert four[0] in queue.out("queue", "why", four[0], **keys)
            r = queue.run("queue", "delete", four[0], **keys)
            assert r.returncode == 111 and "not running, so nothing was done" in r.stderr
            r = queue.run("status", **keys)
            assert r.returncode == 111 and "NOT RUNNING" in r.stdout
        assert json.loads(queue.out("status", "--json", code=111))["queued"] == "stopped"
        assert tree(f"{queue.i.spool}/index") == before
        assert os.listdir(f"{queue.i.spool}/reply") == []
    finally:
        queue.queued = queue.i.start_queued()


def test_status_names_the_queued_that_runs(queue, four):
    """Also when nothing has come in since it started; what is counted goes on over the start, and nothing else is said."""
    accepted = json.loads(queue.out("status", "--json"))["accepted"]
    queue.i.kill(queue.queued, signal.SIGTERM)
    queue.queued = queue.i.start_queued()
    end = time.monotonic() + 120
    while (status := json.loads(queue.out("status", "--json")))["pid"] != queue.queued.pid and time.monotonic() < end:
        time.sleep(0.05)
    assert status["pid"] == queue.queued.pid and abs(status["started"] - time.time()) < 600
    assert status["accepted"] == accepted >= 4 and re.search(rf"^so far +{accepted} accepted", queue.out("status"), re.M)


def test_a_spool_gone_wrong_is_told_with_its_remedy(queue):
    queue.i.kill(queue.queued, signal.SIGTERM)
    log = f"{queue.i.spool}/log"
    os.chmod(log, 0)
    try:
        before = len(queue.i.log())
        assert queue.i.start("queued").wait(120) == 111
        said = queue.i.log()[before:]
        assert f"fatal: {log}: Permission denied" in said and "spool-tree" in said and "tappal/queued[" in said
    finally:
        os.chmod(log, 0o750)
        queue.queued = queue.i.start_queued()


def test_an_unknown_control_file_is_in_the_log(queue):
    queue.i.set("concurencyremote", "5")
    try:
        before = len(queue.i.log())
        queue.queued.send_signal(signal.SIGHUP)
        end = time.monotonic() + 120
        while "reloaded" not in queue.i.log()[before:] or "concurencyremote" not in queue.i.log()[before:]:
            assert time.monotonic() < end, queue.i.log()[before:]
            time.sleep(0.05)
        assert "warning: " in queue.i.log()[before:] and "did you mean concurrencyremote?" in queue.i.log()[before:]
    finally:
        os.unlink(f"{queue.i.etc}/concurencyremote")


def test_queued_dies_in_the_middle(queue, four):
    queue.queued.send_signal(signal.SIGSTOP)
    process = subprocess.Popen([f"{queue.i.libexec}/tappal", "queue", "hold", four[0]], stderr=subprocess.PIPE, text=True)
    assert wait_until(lambda: fifo_holds(queue.i.fifo("control")) > 0)
    queue.i.kill(queue.queued, signal.SIGKILL)
    try:
        assert process.wait(120) == 111
        assert "may have been carried out or not" in process.stderr.read()
        assert os.listdir(f"{queue.i.spool}/reply") == []
    finally:
        process.stderr.close()
        queue.queued = queue.i.start_queued()


def test_a_reader_that_stops_reading(queue, four):
    r = subprocess.run(f"{queue.i.libexec}/tappal queue list | head -n 1", shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert r.stdout.startswith("ID") and r.stderr == ""


# ---- settings and log

def test_config(queue):
    etc = queue.i.etc
    assert queue.out("config", "show", "me") == "queue.tappal\n"
    assert re.search(r"queuelifetime +7d", queue.out("config", "show"))
    assert "are good" in queue.out("config", "check")
    out = queue.out("config", "set", "locals", "a.example", "b.example")
    assert "tappal reload" in out and "queued" in out
    assert open(f"{etc}/locals").read() == "a.example\nb.example\n" and stat.S_IMODE(os.stat(f"{etc}/locals").st_mode) == 0o644
    for name, value in (("smtpdlisten", "127.0.0.1:2525"), ("indexsize", "1G"), ("guardrows", "2000"), ("calloutrows", "2000")):
        out = queue.out("config", "set", name, value)
        assert "restart it" in out and "reload" not in out
        queue.out("config", "unset", name)
    assert queue.out("config", "set", "convert8bit", "yes") == "remote: running ones use it after `tappal reload` (SIGHUP).\n"
    queue.out("config", "unset", "convert8bit")
    queue.i.set("rcpthosts", ["a.example", "far.example", ".near.example", "routed.example"])
    queue.i.set("smtproutes", "routed.example:mx.example")
    queue.i.set("users", "=x@a.example:nobody:1:1:/home/x:::")
    out = queue.out("config", "check")
    assert [line.split(":")[1:3] for line in out.splitlines() if line.startswith(f"Note: {etc}")] == [[f" {etc}/rcpthosts", "2"], [f" {etc}/users", "1"]], out
    assert "goes to the MX of queue.tappal" in out
    assert "at a time" not in out
    for name, value in (("smtpdsessions", "1101"), ("authrelay", "yes"), ("greylist", "log")):
        queue.i.set(name, value)
    assert "Note: smtpdsessions is 1101, and auth serves 1100 of them at a time.\n" in (out := queue.out("config", "check")) and out.count("at a time") == 1
    queue.i.set("smtpdsessions", "4097")
    assert "and guard serves 4096 of them" in (out := queue.out("config", "check")) and out.count("at a time") == 2
    for name in ("rcpthosts", "smtproutes", "users", "smtpdsessions", "authrelay", "greylist"):
        os.unlink(f"{etc}/{name}")
    r = queue.run("config", "set", "queuelifetime", "soon")
    assert r.returncode == 100 and "like 30m; queuelifetime is as it was" in r.stderr and not os.path.exists(f"{etc}/queuelifetime")
    r = queue.run("config", "set", "locls", "x")
    assert r.returncode == 100 and "did you mean locals" in r.stderr
    assert queue.run("config", "set", "me", "a.example", "b.example").returncode == 100
    assert [n for n in os.listdir(etc) if n.startswith(".")] == []
    queue.i.set("queuelifetim", "1d")
    r = queue.run("config", "check")
    assert r.returncode == 100 and "queuelifetim:1:" in r.stderr
    os.unlink(f"{etc}/queuelifetim")
    queue.out("config", "unset", "locals")
    assert not os.path.exists(f"{etc}/locals")
    assert queue.run("config", "unset", "locals").returncode == 1
    r = queue.run("config", "set", "me", "x.example", user="nobody", group="nogroup", extra_groups=["tappal"])
    assert r.returncode == 111 and "Settings are root's" in r.stderr and open(f"{etc}/me").read() == "queue.tappal\n"
    queue.i.set("locals", "queue.tappal")


def test_reload_tells_this_instance_alone(queue):
    out = queue.out("reload")
    told = re.findall(r"^(\w+) \(pid (\d+)\) was told to reload$", out, re.M)
    assert sorted(name for name, _ in told) == ["bounce", "queued"] and ("queued", str(queue.queued.pid)) in told
    assert queue.queued.poll() is None
    assert queue.run("reload", user="nobody", group="nogroup", extra_groups=[]).returncode == 111


def test_log(queue, four):
    logs = f"{queue.i.root}/logs"
    os.mkdir(logs)
    queue.i.set("logfiles", f"{logs}/current")
    try:
        lines = [line for line in queue.i.log().splitlines() if four[1] in line]
        assert len(lines) >= 5
        with open(f"{logs}/@4000000012345678.s", "w") as f:
            f.write("\n".join(lines[:2]) + "\n")
        os.utime(f"{logs}/@4000000012345678.s", (time.time() + 100, time.time() + 100))
        with open(f"{logs}/current", "w") as f:
            f.write(f"x{four[1]}: no\n" + "\n".join(lines[2:]) + f"\n{four[1]}x\nevil {four[1]} \x1b[31m")
        os.utime(f"{logs}/current", (time.time() + 200, time.time() + 200))
        with open(f"{logs}/@3000000012345678.s", "w") as f:
            f.write(lines[0] + "\n")
        os.utime(f"{logs}/@3000000012345678.s", (1000, 1000))        # ended before the message came
        with open(f"{logs}/other", "w") as f:
            f.write(lines[0] + "\n")
        assert queue.out("log", four[1]).splitlines() == [*lines, f"evil {four[1]} ?[31m"]
        r = queue.run("log", "000000000001")
        assert r.returncode == 1 and "says nothing" in r.stderr
    finally:
        os.unlink(f"{queue.i.etc}/logfiles")


def test_log_of_logrotate(queue, four):
    """As etc/logrotate makes them: current.2 is older than current.1, also when a backup has lost the times."""
    logs = f"{queue.i.root}/rotated"
    os.mkdir(logs)
    queue.i.set("logfiles", f"{logs}/current")
    try:
        for name in ("current", "current.1", "current.2", "current.10", "current.3.gz", "currently"):
            with open(f"{logs}/{name}", "w") as f:
                f.write(f"{four[1]}: {name}\n")
            os.utime(f"{logs}/{name}", (time.time() + 100, 4000000000))
        r = queue.run("log", four[1])
        assert r.stdout.splitlines() == [f"{four[1]}: {name}" for name in ("current.10", "current.2", "current.1", "current")]
        assert r.returncode == 0 and "1 compressed file beside" in r.stderr
    finally:
        os.unlink(f"{queue.i.etc}/logfiles")


def test_version_and_help(queue):
    assert re.fullmatch(r"tappal \d+\.\d+\n", queue.out("version"))
    assert "tappal queue why" in queue.out("help")
