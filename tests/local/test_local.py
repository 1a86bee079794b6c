"""local alone, without spawn: killed at every system call, its order of syncs, and callers that stop or babble."""
import os
import re
import shutil
import subprocess
import tempfile
import time

import pytest

import records
from building import ROOTS, put_programs

UID = 61002
ID = (1763758134123 << 16) + 7
BODY = b"Subject: x\r\n\r\n" + b"line\r\n" * 20
AS_USER = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]


@pytest.fixture(scope="module")
def program():
    """The tree may lie where the user cannot reach it."""
    place = tempfile.mkdtemp(dir="/var/tmp")
    os.chmod(place, 0o755)
    put_programs(f"{ROOTS}/local-alone", ["local/local"], place)
    yield f"{place}/local"
    shutil.rmtree(place)


@pytest.fixture
def home():
    place = tempfile.mkdtemp(dir="/var/tmp")
    os.chown(place, UID, UID)
    yield place
    shutil.rmtree(place)


def job(number=1, id=ID, recipients=("bob@x.example",), body=BODY, sender="a@b.example", home=None):
    out = records.encode("job", job=number, id=id, arrival_ms=id >> 16, rcpt_count=len(recipients), body_size=len(body), destination="l:bob@x.example",
                         sender=sender)
    for index, address in enumerate(recipients):
        out += records.encode("job_rcpt", job=number, index=index, address=address)
    out += records.encode("job_mailbox", job=number, user="bob")
    return out + (records.encode("job_home", job=number, home=home) if home else b"") + body


def run(program, home, octets, before=(), flags=()):
    r = subprocess.run([*before, *AS_USER, program, *(flags or [home])], input=octets, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)
    whole = []
    rest = r.stdout
    while rest:
        record, used = records.decode(rest)
        if record is None:
            break
        whole.append(record)
        rest = rest[used:]
    return r.returncode, whole


def files(home, folder):
    try:
        return sorted(os.listdir(f"{home}/Maildir/{folder}"))
    except FileNotFoundError:
        return []


@pytest.mark.parametrize("recipients", [("bob@x.example",), ("bob@x.example", "BOB@x.example")])
def test_killed_at_every_system_call(program, home, recipients):
    """Whatever it did before, a second delivery leaves one whole copy for each recipient; and what it reported is there."""
    octets = job(recipients=recipients)
    for n in range(1, 1000):
        shutil.rmtree(f"{home}/Maildir", ignore_errors=True)
        code, said = run(program, home, octets, ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject=all:signal=KILL:when={n}"])
        reported = [r.index for r in said if r.name == "result" and r.verdict == 0]
        assert all(any(f"_{index}." in name for name in files(home, "new")) for index in reported), n
        again, results = run(program, home, octets)
        assert again == 0 and [r.verdict for r in results if r.name == "result"] == [0] * len(recipients), n
        assert len(files(home, "new")) == len(recipients), n
        sizes = {os.stat(f"{home}/Maildir/new/{name}").st_size for name in files(home, "new")}
        assert len(sizes) == 1, n
        if code == 0:
            break
    assert 40 < n < 999


def test_home_that_another_delivery_makes_meanwhile(program, home):
    """It is there when it is to be made: so for the second of two deliveries that begin at once."""
    code, said = run(program, home, job(home=home), ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "inject=chdir:error=ENOENT:when=1"], ["-c"])
    assert code == 0 and [r.verdict for r in said if r.name == "result"] == [0]
    assert len(files(home, "new")) == 1


def test_order_of_syncs(program, home):
    """The file before its name, the name before the answer; a new Maildir's own name, too."""
    trace = f"{home}/trace"
    code, _ = run(program, home, job(), ["strace", "-f", "-qq", "-y", "-o", trace, "-e", "trace=fsync,renameat,renameat2,rename,write,mkdirat"])
    assert code == 0
    steps = []
    for line in open(trace):
        if m := re.search(r"fsync\(\d+<([^>]*)>", line):
            steps.append("sync " + re.sub(r".*/Maildir/tmp/[^/]+$", "FILE", m[1]).replace(home, "~"))
        elif "rename" in line:
            steps.append("rename")
        elif m := re.search(r"write\(1<", line):
            steps.append("answer")
    at = steps.index
    assert at("sync FILE") < at("rename") < at("sync ~/Maildir/new") < at("answer")
    assert at("sync ~/Maildir") < at("answer") and at("sync ~") < at("answer")


def test_directories_above_are_synced_until_they_are_settled(program, home):
    """Of a young Maildir by each process: until its last change is a second ago with each message, then once."""
    trace = f"{home}/trace"
    watch = ["strace", "-f", "-qq", "-y", "-o", trace, "-e", "trace=fsync"]
    syncs, took = [], []
    for first in (1, 4):
        if first > 1:
            time.sleep(1.2)
        octets = b"".join(job(number=n, id=ID + n) for n in range(first, first + 3))
        began = time.monotonic()
        assert run(program, home, octets, watch)[0] == 0
        took.append(time.monotonic() - began)
        syncs.append(sum(f"<{home}/Maildir>" in line for line in open(trace)))
    assert syncs[1] == 1 and (syncs[0] == 3 or took[0] > 1)


@pytest.mark.parametrize("cut", [1, 7, 8, 40, -1, -len(BODY), -len(BODY) - 3])
def test_caller_that_stops(program, home, cut):
    code, said = run(program, home, job()[:cut])
    assert code == 111 and said == [] and files(home, "new") == [] and files(home, "tmp") == []


def test_caller_that_babbles(program, home):
    good = job()
    cases = [b"\0" * 100, records.encode("ready", session=1, slots=1), records.encode("job_rcpt", job=1, address="bob@x.example"),
             records.encode("job", job=1, id=ID, rcpt_count=0), records.encode("job", job=1, id=ID, rcpt_count=1001), records.encode("job", job=1, rcpt_count=1),
             job(recipients=("bob@x.example\nX-Evil: 1",)), job(recipients=("",)), job(sender="a@b.example\r\nX: y")]
    for octets in cases:
        code, said = run(program, home, octets + good)
        assert code == 111 and said == [] and files(home, "new") == []


def test_several_jobs_and_an_end(program, home):
    octets = b"".join(job(number=n, id=ID + n) for n in range(1, 30))
    code, said = run(program, home, octets)
    assert code == 0 and [r.job for r in said if r.name == "job_done"] == list(range(1, 30)) and len(files(home, "new")) == 29


def test_dribbled(program, home):
    process = subprocess.Popen([*AS_USER, program, home], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    for octet in job(body=b"a\r\r\n\r\n"):
        process.stdin.write(bytes([octet]))
    process.stdin.close()
    said = records.decode_all(process.stdout.read())
    assert process.wait(120) == 0 and [r.name for r in said] == ["result", "job_done"]
    [name] = files(home, "new")
    assert open(f"{home}/Maildir/new/{name}", "rb").read().endswith(b"\na\r\n\n")


def test_usage(program, home):
    for arguments in ([], ["relative"], ["-x"], ["-c", home], [home, home], ["/" + "x" * 600]):
        assert subprocess.run([*AS_USER, program, *arguments], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 100
    assert subprocess.run([program, home], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 100


def test_missing_home_is_made_when_asked(program, home):
    code, said = run(program, f"{home}/new", job())
    assert code == 0 and said[0].verdict == 1 and not os.path.exists(f"{home}/new")
    code, said = run(program, home, job(home=f"{home}/new"), flags=["-c"])
    assert code == 0 and said[0].verdict == 0 and os.stat(f"{home}/new").st_mode & 0o7777 == 0o700


def test_virtual_mailboxes_in_turn(program, home):
    """Each message is in the home that its job names, and nothing but a path from the root is one."""
    homes = [f"{home}/{name}" for name in ("ann", "bob", "ann", "cid", "bob")]
    octets = b"".join(job(number=n, id=ID + n, home=place) for n, place in enumerate(homes, 1))
    code, said = run(program, home, octets, flags=["-c"])
    assert code == 0 and [r.verdict for r in said if r.name == "result"] == [0] * 5
    assert {name: len(files(f"{home}/{name}", "new")) for name in ("ann", "bob", "cid")} == {"ann": 2, "bob": 2, "cid": 1}
    for wrong in ("relative", f"{home}/a\0b", "", None):
        octets = job(home=wrong) if wrong != "" else job(body=records.encode("job_home", job=1) + BODY)
        assert run(program, home, octets, flags=["-c"]) == (111, []), wrong


def test_its_user_cannot_attach(program, home):
    r, w = os.pipe()
    process = subprocess.Popen([*AS_USER, program, home], stdin=r, stdout=subprocess.DEVNULL)
    os.close(r)
    for _ in range(12000):
        if "local" in os.readlink(f"/proc/{process.pid}/exe") and os.stat(f"/proc/{process.pid}/environ").st_uid == 0:
            break
        time.sleep(0.01)
    assert subprocess.run([*AS_USER, "cat", f"/proc/{process.pid}/environ"], capture_output=True).returncode != 0
    os.close(w)
    assert process.wait(120) == 0
