"""spawn against a queued made of python: real deliveries to real users, workers that lie and die, queued that goes and comes back."""
import contextlib
import glob
import os
import pwd
import shutil
import signal
import stat
import subprocess
import time

import pytest

import intakefile
import records
from fakespawn import msgid
from faults import asleep, children, fifo_holds
from host import wait_until
from instance import Instance, TOP
from processes import tell

ME = "spawn.tappal"
VIRTUAL_UID = 61001
USERS = ("tappal-t1", "tappal-t2")


def now_id(counter=[0]):
    counter[0] += 1
    return (int(time.time() * 1000) << 16) + counter[0]


class FakeQueued:
    """The other end of spawn's two fifos. jobs are numbered from `first_job`."""

    def __init__(self, instance, channel, first_job=1):
        self.instance, self.channel, self.job_number = instance, channel, first_job
        self.inflight, self.early, self.results, self.ended = [], [], {}, {}
        self.segment, self.size = first_job, 0

    def connect(self, timeout=120):
        self.report = os.open(self.instance.fifo("report-" + self.channel), os.O_RDONLY | os.O_NONBLOCK)
        self.stream = records.Stream(self.report)
        end = time.monotonic() + timeout
        while True:
            try:
                hello = self.stream.want("hello", timeout)
                break
            except AssertionError:      # end of file of an earlier spawn
                assert time.monotonic() < end
        self.session = hello.session
        self.jobs = os.open(self.instance.fifo("jobs-" + self.channel), os.O_RDWR)      # to write: it does not wait for one that has told all and gone
        while True:
            record = self.stream.next(timeout)
            if record.name == "ready":
                self.slots = record.slots
                return self
            (self.inflight if record.name == "inflight" else self.early).append(record)
            self.note(record)

    def close(self):
        os.close(self.jobs)
        os.close(self.report)

    def store(self, body, large_id=None):
        """Body on disk: where it is."""
        if large_id is not None:
            path = f"{self.instance.spool}/large/{msgid(large_id)}"
            data, offset = intakefile.head(body_size=len(body)) + body, 64
        else:
            path = f"{self.instance.spool}/log/{self.segment:016x}"
            data, offset = b"\0" * 13 + body + b"after", self.size + 13
            self.size += len(data)
        with open(path, "ab") as f:
            f.write(data)
        account = pwd.getpwnam("tappal-queue")
        os.chown(path, account.pw_uid, account.pw_gid)
        os.chmod(path, 0o644)
        return offset

    def send(self, destination, recipients, body=b"Subject: x\r\n\r\nhello\r\n", sender="a@example.org", id=None, large=False, session=None, **more):
        self.job_number += 1
        id = id or now_id()
        offset = self.store(body, id if large else None)
        out = records.encode("job", session=self.session if session is None else session, job=self.job_number, id=id, arrival_ms=id >> 16,
                             segment=self.segment, body_offset=offset, body_size=len(body), large=large, rcpt_count=len(recipients),
                             destination=destination, sender=sender, **more)
        for index, address in enumerate(recipients):
            out += records.encode("job_rcpt", job=self.job_number, index=index, address=address)
        os.write(self.jobs, out)
        return self.job_number, id

    def note(self, record):
        if record.name == "result":
            self.results.setdefault(record.job, {})[record.index] = record
        elif record.name == "job_done":
            self.ended[record.job] = record

    def wait(self, job, timeout=120):
        """The results of a job, by index."""
        end = time.monotonic() + timeout
        while job not in self.ended:
            record = self.stream.next(end - time.monotonic())
            assert record is not None, "spawn is gone"
            self.note(record)
        return self.results.get(job, {})

    def deliver(self, *arguments, **keys):
        job, _ = self.send(*arguments, **keys)
        return self.wait(job)

    def says(self, *arguments, **keys):
        """verdict, enhanced code and text of the one recipient."""
        r = self.deliver(*arguments, **keys)[0]
        return r.verdict, f"{r.e_class}.{r.e_subject}.{r.e_detail}", r.text.decode()


# ---- users

def user_home(root, user):
    return f"{root}/home/{user}"


@pytest.fixture(scope="module")
def local():
    with Instance("spawn-local", ["queue/spawn", "local/local"], {"me": ME, "locals": ME, "concurrencylocal": "4", "connectionidle": "300"}) as instance:
        os.makedirs(f"{instance.root}/home", exist_ok=True)
        for user in USERS:
            subprocess.run(["userdel", user], stderr=subprocess.DEVNULL)
            subprocess.run(["useradd", "-M", "-d", user_home(instance.root, user), "-U", user], check=True)
            make_home(user_home(instance.root, user), user)
        instance.set("users", [f"=v1@{ME}:v1:{VIRTUAL_UID}:{VIRTUAL_UID}:{instance.root}/home/v1:::",
                               f"=v2@{ME}:v2:{VIRTUAL_UID}:{VIRTUAL_UID}:{instance.root}/vmail/v2:::",
                               f"=v3@{ME}:v3:{VIRTUAL_UID}:{VIRTUAL_UID}:{instance.root}/open/v3:::",
                               f"=v4@{ME}:v4:{VIRTUAL_UID}:{VIRTUAL_UID}:{instance.root}/link/v4:::",
                               f"=v5@{ME}:v5:{VIRTUAL_UID}:{VIRTUAL_UID}:{instance.root}/home/none/v5:::",
                               *(f"=w{n}@{ME}:w{n}:{VIRTUAL_UID + n % 2}:{VIRTUAL_UID + n % 2}:{instance.root}/vmail/w{n}:::" for n in range(4)), "."])
        os.mkdir(f"{instance.root}/vmail", 0o755)
        os.chown(f"{instance.root}/vmail", VIRTUAL_UID, VIRTUAL_UID)
        os.mkdir(f"{instance.root}/open")
        os.chmod(f"{instance.root}/open", 0o1777)
        os.symlink(f"{instance.root}/home", f"{instance.root}/link")
        instance.spawn = instance.start("spawn", "local")
        yield instance
        assert instance.spawn.poll() is None, instance.log("spawn")
        instance.spawn.terminate()
        assert instance.spawn.wait(120) == 0
        for user in USERS:
            subprocess.run(["userdel", user], stderr=subprocess.DEVNULL)


def make_home(home, user):
    account = pwd.getpwnam(user)
    os.makedirs(home, exist_ok=True)
    os.chown(home, account.pw_uid, account.pw_gid)
    os.chmod(home, 0o755)


@pytest.fixture
def queued(local):
    for user in USERS:
        subprocess.run(["rm", "-rf", user_home(local.root, user)], check=True)
        make_home(user_home(local.root, user), user)
    fake = FakeQueued(local, "local", first_job=int(time.time() * 1000)).connect()
    yield fake
    fake.close()


def box(instance, user, folder="new"):
    return sorted(glob.glob(f"{user_home(instance.root, user)}/Maildir/{folder}/*"))


def to(user):
    return f"l:{user}@{ME}", [f"{user}@{ME}"]


# ---- delivery

def test_delivers_as_the_user(local, queued):
    assert queued.slots == 4
    assert queued.says(*to("tappal-t1")) == (0, "2.0.0", "delivered to Maildir")
    [path] = box(local, "tappal-t1")
    info = os.stat(path)
    assert stat.S_IMODE(info.st_mode) == 0o600
    assert info.st_uid == pwd.getpwnam("tappal-t1").pw_uid
    assert open(path, "rb").read() == b"Return-Path: <a@example.org>\nDelivered-To: tappal-t1@" + ME.encode() + b"\nSubject: x\n\nhello\n"
    maildir = f"{user_home(local.root, 'tappal-t1')}/Maildir"
    assert all(stat.S_IMODE(os.stat(f"{maildir}/{d}").st_mode) == 0o700 for d in ("", "tmp", "new", "cur"))
    assert box(local, "tappal-t1", "tmp") == []


def test_line_ends_and_large_bodies(local, queued):
    body = b"Subject: y\r\n\r\n" + b"a\rb\nc\r\r\nd\r\n" + b"0123456789abcdef\r\n" * 60000 + b"\r"
    assert queued.says(*to("tappal-t1"), body=body, large=True, sender="")[0] == 0
    [path] = box(local, "tappal-t1")
    expected = b"Return-Path: <>\nDelivered-To: tappal-t1@" + ME.encode() + b"\n" + body.replace(b"\r\n", b"\n")
    assert open(path, "rb").read() == expected


def test_one_worker_serves_the_next_job(local, queued):
    jobs = [queued.send(*to("tappal-t1"))[0] for _ in range(20)]
    assert all(queued.wait(job)[0].verdict == 0 for job in jobs)
    assert len(box(local, "tappal-t1")) == 20
    assert "broke" not in local.log("spawn")


def test_each_recipient_has_a_copy(local, queued):
    job, _ = queued.send(f"l:tappal-t1@{ME}", [f"tappal-t1@{ME}", f"TAPPAL-T1@{ME}", f"tappal-t1@{ME}"])
    assert [r.verdict for _, r in sorted(queued.wait(job).items())] == [0, 0, 0]
    assert len(box(local, "tappal-t1")) == 3


def test_more_destinations_than_slots(local, queued):
    jobs = [queued.send(f"l:tappal-t1-{n}@{ME}", [f"tappal-t1-{n}@{ME}"])[0] for n in range(4)]
    for n in range(4, 16):
        queued.wait(jobs[n - 4])
        jobs.append(queued.send(f"l:tappal-t1-{n}@{ME}", [f"tappal-t1-{n}@{ME}"])[0])
    assert all(queued.wait(job)[0].verdict == 0 for job in jobs)
    assert len(box(local, "tappal-t1")) == 16


def test_repeated_delivery_is_found(local, queued):
    id = now_id()
    assert queued.says(*to("tappal-t1"), id=id)[0] == 0
    assert queued.says(*to("tappal-t1"), id=id) == (0, "2.0.0", "delivered to Maildir by an earlier attempt")
    [path] = box(local, "tappal-t1")
    seen = path.replace("/new/", "/cur/") + ":2,RS"
    os.rename(path, seen)
    assert queued.says(*to("tappal-t1"), id=id)[2] == "delivered to Maildir by an earlier attempt"
    assert box(local, "tappal-t1") == [] and box(local, "tappal-t1", "cur") == [seen]
    # one of two recipients has its copy already
    job, _ = queued.send(f"l:tappal-t1@{ME}", [f"tappal-t1@{ME}", f"Tappal-t1@{ME}"], id=id)
    assert [r.verdict for r in queued.wait(job).values()] == [0, 0]
    assert len(box(local, "tappal-t1")) == 1


def test_loop_is_found(local, queued):
    body = f"Delivered-To: Tappal-T1@{ME}\r\nSubject: x\r\n\r\nx\r\n".encode()
    assert queued.says(*to("tappal-t1"), body=body)[:2] == (2, "5.4.6")
    assert box(local, "tappal-t1") == [] and box(local, "tappal-t1", "tmp") == []
    # in the body, or for somebody else, it is no loop
    assert queued.says(*to("tappal-t1"), body=b"Subject: x\r\n\r\n" + body)[0] == 0
    assert queued.says(*to("tappal-t2"), body=body)[0] == 0


def test_who_receives_no_mail(local, queued):
    assert queued.says(*to("nosuchuser"))[:2] == (2, "5.1.1")
    assert queued.says(*to("daemon"))[:2] == (2, "5.1.1")
    verdict, code, _ = queued.says(*to("root"))
    assert verdict != 0 or "alias" in pwd.getpwnam("tappal-alias").pw_dir
    assert not os.path.exists("/root/Maildir")


def test_a_mailbox_added_since_the_start_is_found(local, queued):
    """Without a SIGHUP: an smtpd under tcpserver knows it at once, and what it takes must not come back as a bounce."""
    with open(f"{local.etc}/users") as f:
        before = f.read()
    late = f"=late@{ME}:late:{VIRTUAL_UID}:{VIRTUAL_UID}:{local.root}/home/late:::\n"
    try:
        with open(f"{local.etc}/users", "w") as f:
            f.write(late)
        assert queued.says(*to("late"))[0] == 0
        with open(f"{local.etc}/users", "w") as f:
            f.write(late + "later\n")
        assert queued.says(*to("later"))[:2] == (1, "4.3.0")     # nobody knows what is meant
    finally:
        with open(f"{local.etc}/users", "w") as f:
            f.write(before)
    assert queued.says(*to("later"))[:2] == (2, "5.1.1")


def test_uid_0_is_refused(local):
    for uid, gid in ((0, 0), (0, 1), (1, 0)):
        r = subprocess.run([f"{local.libexec}/local", "/root"], user=uid, group=gid, extra_groups=[], stdin=subprocess.DEVNULL, capture_output=True)
        assert r.returncode == 100 and b"never" in r.stderr


def test_homes_that_are_not_fit(local, queued):
    home = user_home(local.root, "tappal-t1")
    os.chmod(home, 0o777)
    assert queued.says(*to("tappal-t1"))[:2] == (1, "4.7.0")
    os.chmod(home, 0o1755)
    assert queued.says(*to("tappal-t1"))[:2] == (1, "4.2.1")
    os.chmod(home, 0o755)
    assert queued.says(*to("tappal-t1"))[0] == 0
    os.rename(home, home + ".away")
    assert queued.says(*to("tappal-t1")) == (1, "4.3.5", "cannot enter the home directory: No such file or directory")
    assert queued.says(*to("tappal-t1")) == (1, "4.3.0", "the user's home directory is missing")
    os.rename(home + ".away", home)
    assert queued.says(*to("tappal-t1"))[0] == 0


def test_maildir_that_is_a_file(local, queued):
    with open(f"{user_home(local.root, 'tappal-t1')}/Maildir", "w"):
        pass
    verdict, code, text = queued.says(*to("tappal-t1"))
    assert verdict == 1 and "Maildir" in text


def test_virtual_homes(local, queued):
    v1 = f"{local.root}/home/v1"
    assert queued.says(*to("v1"))[0] == 0           # the parent is root's: root made it
    info = os.stat(v1)
    assert (info.st_uid, info.st_gid, stat.S_IMODE(info.st_mode)) == (VIRTUAL_UID, VIRTUAL_UID, 0o700)
    assert len(os.listdir(f"{v1}/Maildir/new")) == 1
    v2 = f"{local.root}/vmail/v2"
    assert queued.says(*to("v2"))[0] == 0           # the parent is the user's: he made it himself
    assert (os.stat(v2).st_uid, stat.S_IMODE(os.stat(v2).st_mode)) == (VIRTUAL_UID, 0o700)
    assert queued.says(*to("v4"))[0] == 1           # by a symbolic link: root does not follow
    assert not os.path.exists(f"{local.root}/home/v4")
    assert queued.says(*to("v5"))[0] == 1           # two levels are missing
    assert not os.path.exists(f"{local.root}/home/none")
    assert glob.glob(f"{local.root}/home/.tappal*") == []


def test_one_worker_serves_the_mailboxes_of_an_account(local, queued):
    """A mailbox whose home is there costs no process when its account has a worker that is idle; the worker of another account is not asked."""
    seen = {}
    for n in range(4):
        home = f"{local.root}/vmail/w{n}"
        os.mkdir(home, 0o700)
        os.chown(home, VIRTUAL_UID + n % 2, VIRTUAL_UID + n % 2)
        before = set(workers(local))
        assert queued.says(*to(f"w{n}"))[0] == 0
        [name] = glob.glob(f"{home}/Maildir/new/*")
        assert os.stat(name).st_uid == VIRTUAL_UID + n % 2
        seen[n] = set(workers(local)) - before
    assert seen[1] and not seen[2] and not seen[3], seen


def test_root_makes_nothing_where_others_write(local, queued):
    queued.says(*to("v3"))                          # sticky and open to all: the user may make it there, root does not
    v3 = f"{local.root}/open/v3"
    assert not os.path.exists(v3) or os.stat(v3).st_uid == VIRTUAL_UID


def test_full_disk(local, queued):
    home = user_home(local.root, "tappal-t2")
    account = pwd.getpwnam("tappal-t2")
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=256k,mode=755,uid={account.pw_uid},gid={account.pw_gid}", "tappal-test", home], check=True)
    try:
        assert queued.says(*to("tappal-t2"))[0] == 0
        verdict, code, text = queued.says(*to("tappal-t2"), body=b"Subject: x\r\n\r\n" + b"y" * 70 * 10000)
        assert (verdict, code) == (1, "4.3.1")
        assert len(box(local, "tappal-t2")) == 1 and box(local, "tappal-t2", "tmp") == []
        assert queued.says(*to("tappal-t2"))[0] == 0
    finally:
        for worker in workers(local):       # they would go on in the directory that nobody sees any more
            os.kill(worker, signal.SIGKILL)
        subprocess.run(["umount", "-l", home], check=True)


def test_body_that_is_not_there(local, queued):
    queued.segment += 1
    job, _ = queued.send(*to("tappal-t1"))
    queued.wait(job)
    os.unlink(f"{local.spool}/log/{queued.segment:016x}")
    out = records.encode("job", session=queued.session, job=job + 1, id=now_id(), segment=queued.segment, body_offset=13, body_size=5, rcpt_count=1,
                         destination=f"l:tappal-t1@{ME}", sender="")
    os.write(queued.jobs, out + records.encode("job_rcpt", job=job + 1, index=0, address=f"tappal-t1@{ME}"))
    queued.job_number += 1
    r = queued.wait(job + 1)[0]
    assert r.verdict == 1 and b"could not be read" in r.text


def test_hostile_addresses_do_not_enter_the_header(local, queued):
    job, _ = queued.send(f"l:tappal-t1@{ME}", [f"tappal-t1@{ME}"], sender="a@b.example>\nX-Evil: 1")
    assert queued.wait(job)[0].verdict == 1
    assert box(local, "tappal-t1") == []
    assert queued.says(*to("tappal-t1"))[0] == 0


# ---- queued goes and comes back

def test_other_session_is_ignored(local, queued):
    job, _ = queued.send(*to("tappal-t1"), session=queued.session ^ 1)
    after, _ = queued.send(*to("tappal-t1"))
    assert queued.wait(after)[0].verdict == 0
    assert job not in queued.ended and len(box(local, "tappal-t1")) == 1


def spawn_begins_anew(local, queued):
    while (record := queued.stream.next(120)) is not None and record.name != "hello":
        pass
    queued.close()
    again = FakeQueued(local, "local").connect()
    assert again.session != queued.session
    again.close()
    queued.connect()
    assert queued.says(*to("tappal-t1"))[0] == 0


def test_senseless_record_begins_anew(local, queued):
    os.write(queued.jobs, records.encode("ready", session=1, slots=1))
    spawn_begins_anew(local, queued)


@pytest.mark.parametrize("half", [records.frame(1, b"", length=60000), records.encode("job_rcpt", job=1, index=0, address=b"x")[:9]])
def test_half_a_record_is_not_waited_for(local, queued, half):
    """A false length swallows the jobs behind it, but not for good."""
    os.write(queued.jobs, half)
    queued.send(*to("tappal-t1"))
    spawn_begins_anew(local, queued)


def workers(instance):
    found = []
    for pid in children(instance.spawn.pid):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{pid}/exe").endswith("/libexec/tappal/local"):
                found.append(pid)
    return found


def send_to_stopped(instance, queued, *arguments, **keys):
    """A job for a worker that waits, who is stopped before it comes: the process number of him who was handed it, the job and its id."""
    waiting = workers(instance)
    for worker in waiting:
        os.kill(worker, signal.SIGSTOP)
    job, id = queued.send(*arguments, **keys)
    mine = wait_until(lambda: [worker for worker in waiting if fifo_holds(f"/proc/{worker}/fd/0") > 0])
    for worker in waiting:
        if worker not in mine:
            os.kill(worker, signal.SIGCONT)
    assert len(mine) == 1, (mine, waiting)
    return mine[0], job, id


def test_queued_dies_during_a_delivery(local):
    """The job goes on; the next queued hears of it, then gets its results."""
    first = FakeQueued(local, "local", first_job=1000).connect()
    first.deliver(*to("tappal-t1"))
    worker, job, id = send_to_stopped(local, first, *to("tappal-t1"))
    first.close()
    second = FakeQueued(local, "local", first_job=2000).connect()
    [flight] = second.inflight
    assert (flight.job, flight.id, flight.rcpt_count, flight.first_index, flight.indexes) == (job, id, 1, 0, b"\1")
    os.kill(worker, signal.SIGCONT)
    assert second.wait(job)[0].verdict == 0
    second.close()


def test_job_ends_while_no_queued_is_there(local):
    first = FakeQueued(local, "local", first_job=3000).connect()
    first.deliver(*to("tappal-t1"))
    worker, job, _ = send_to_stopped(local, first, f"l:tappal-t1@{ME}", [f"tappal-t1@{ME}", f"Tappal-t1@{ME}"])
    first.close()
    os.kill(worker, signal.SIGCONT)
    assert wait_until(lambda: len(box(local, "tappal-t1")) >= 2)
    # it has told its results, then spawn has read them
    assert wait_until(lambda: asleep(worker) and fifo_holds(f"/proc/{worker}/fd/1") == 0 and asleep(local.spawn.pid))
    second = FakeQueued(local, "local", first_job=4000).connect()
    assert [f.job for f in second.inflight] == [job]
    assert [r.name for r in second.early] == ["result", "result", "job_done"]
    assert [r.verdict for r in second.wait(job).values()] == [0, 0]
    second.close()
    assert wait_until(lambda: told_next(local) == [])


def told_next(local):
    """What one more queued, which lives for a moment, is told of: spawn lets go of results when it has seen that they were read, and by one that lives."""
    fake = FakeQueued(local, "local", first_job=5000).connect()
    time.sleep(0.3)
    fake.close()
    return [record.name for record in fake.inflight + fake.early]


def test_results_that_a_queued_left_in_the_fifo(local):
    """They were written, and nobody read them: the next queued is told, and the delivery is not made again."""
    first = FakeQueued(local, "local", first_job=6000).connect()
    job, _ = first.send(*to("tappal-t1"))
    assert wait_until(lambda: fifo_holds(local.fifo("report-local")) > 0)
    gone = local.log("spawn").count("queued is gone")
    os.close(first.report)
    os.close(first.jobs)
    assert wait_until(lambda: local.log("spawn").count("queued is gone") > gone)
    second = FakeQueued(local, "local", first_job=7000).connect()
    assert [f.job for f in second.inflight] == [job]
    assert second.wait(job)[0].verdict == 0
    second.close()


def test_stop_without_a_queued(local):
    """All parts are stopped, queued is the first to go: the delivery in hand ends, and its result is kept for a queued that comes back."""
    first = FakeQueued(local, "local", first_job=8000).connect()
    first.deliver(*to("tappal-t1"))
    worker, job, _ = send_to_stopped(local, first, *to("tappal-t1"))
    first.close()
    local.spawn.terminate()
    os.kill(worker, signal.SIGCONT)
    assert wait_until(lambda: len(workers(local)) == 0 or (asleep(worker) and asleep(local.spawn.pid)))
    second = FakeQueued(local, "local", first_job=9000).connect()
    assert second.wait(job)[0].verdict == 0
    assert local.spawn.wait(120) == 0
    second.close()
    local.spawn = local.start("spawn", "local")


def test_worker_killed(local, queued):
    queued.deliver(*to("tappal-t1"))
    worker, job, _ = send_to_stopped(local, queued, *to("tappal-t1"))
    os.kill(worker, signal.SIGKILL)
    r = queued.wait(job)[0]
    assert r.verdict == 1 and r.text == b"the delivery process was killed by signal 9"
    assert queued.says(*to("tappal-t1"))[0] == 0


def test_stopped_worker_does_not_delay_others(local, queued):
    """Its pipe is full and it reads nothing: spawn serves everybody else, and the job ends when it goes on."""
    queued.deliver(*to("tappal-t1"))
    worker, slow, _ = send_to_stopped(local, queued, *to("tappal-t1"), body=b"Subject: x\r\n\r\n" + b"z" * 3000000)
    for _ in range(10):
        assert queued.says(*to("tappal-t2"))[0] == 0
    assert slow not in queued.ended
    os.kill(worker, signal.SIGCONT)
    assert queued.wait(slow)[0].verdict == 0


def test_spawn_killed_and_started_again(local, queued):
    """kill -9 of spawn while a worker writes: queued gives the job again, and there is one copy."""
    queued.deliver(*to("tappal-t1"))
    worker, _, id = send_to_stopped(local, queued, *to("tappal-t1"), body=b"Subject: twice?\r\n\r\nx\r\n")
    local.spawn.kill()
    local.spawn.wait()
    os.kill(worker, signal.SIGCONT)
    queued.close()
    local.spawn = local.start("spawn", "local")
    queued.connect()
    assert queued.says(*to("tappal-t1"), id=id, body=b"Subject: twice?\r\n\r\nx\r\n")[0] == 0
    time.sleep(0.5)
    copies = [p for p in box(local, "tappal-t1") if msgid(id) in p]
    assert len(copies) == 1


def test_second_spawn_ends(local, queued):
    second = subprocess.run([f"{local.libexec}/spawn", "local"], capture_output=True, timeout=120)
    assert second.returncode == 111 and b"another spawn" in second.stderr
    assert queued.says(*to("tappal-t1"))[0] == 0


def test_reload_tells_new_slots(local, queued):
    local.set("concurrencylocal", "7")
    local.spawn.send_signal(signal.SIGHUP)
    assert queued.stream.want("ready").slots == 7
    local.set("concurrencylocal", "4")
    local.spawn.send_signal(signal.SIGHUP)
    assert queued.stream.want("ready").slots == 4


def test_usage_and_account(local):
    spawn = f"{local.libexec}/spawn"
    assert subprocess.run([spawn], capture_output=True).returncode == 100
    assert subprocess.run([spawn, "both"], capture_output=True).returncode == 100
    assert subprocess.run([spawn, "local"], capture_output=True, user="nobody").returncode == 100
    assert subprocess.run([spawn, "remote"], capture_output=True, user="nobody").returncode == 100


# ---- spawn remote, with a worker that does what the destination says

WORKER = """#!/usr/bin/python3
import os, sys, time
sys.path.insert(0, %r)
sys.dont_write_bytecode = True
import records
stream, carried = records.Stream(0), 0
while True:
    job = stream.next(3600)
    if job is None:
        sys.exit(0)
    rcpts = [stream.want("job_rcpt", 60) for _ in range(job.rcpt_count)]
    what = job.destination.decode()[2:]
    if what == "unread":
        os.write(1, b"".join(records.encode("result", job=job.job, index=r.index, verdict=1, text="early") for r in rcpts)
                 + records.encode("job_done", job=job.job, destination_failed=1))
        sys.exit(0)
    if what == "leaves" and carried:
        sys.exit(0)
    body = stream.raw(job.body_size, 60)
    text = "%%d %%d" %% (os.getpid(), len(body))
    results = b"".join(records.encode("result", job=job.job, index=r.index, verdict=0, stage=10, code=250, text=text) for r in rcpts)
    done = records.encode("job_done", job=job.job, reusable=1)
    if what == "lies":
        results = records.encode("result", job=job.job + 1, index=0, verdict=0)
    elif what == "half":
        results, done = results[:len(results) // job.rcpt_count], b""
    elif what == "noise":
        results = b"\\xff" * 100
    elif what == "dies":
        os.kill(os.getpid(), 9)
    elif what == "flood":
        results = results * 100000
    elif what == "torn":
        results, done = results[:20], b""
    os.write(1, results + done)
    if not done:
        sys.exit(3)
    carried += 1
"""


@pytest.fixture(scope="module")
def remote():
    with Instance("spawn-remote", ["queue/spawn"], {"me": ME, "locals": ME, "concurrencyremote": "10", "connectionidle": "300"}) as instance:
        # its account need not be able to enter the tree
        codec = f"{instance.root}/tests/lib"
        for source in ("tests/lib/records.py", "common/records.def"):
            os.makedirs(os.path.dirname(f"{instance.root}/{source}"), mode=0o755, exist_ok=True)
            shutil.copy(f"{TOP}/{source}", f"{instance.root}/{source}")
        worker = f"{instance.libexec}/remote"
        with open(worker, "w") as f:
            f.write(WORKER % codec)
        os.chmod(worker, 0o755)
        instance.spawn = instance.start("spawn", "remote")
        yield instance
        assert instance.spawn.poll() is None, instance.log("spawn")


@pytest.fixture
def manager(remote):
    fake = FakeQueued(remote, "remote", first_job=int(time.time() * 1000)).connect()
    yield fake
    fake.close()


def test_remote_runs_as_tappal_spawn(remote, manager):
    status = open(f"/proc/{remote.spawn.pid}/status").read()
    account = pwd.getpwnam("tappal-spawn")
    assert f"Uid:\t{account.pw_uid}\t{account.pw_uid}\t{account.pw_uid}" in status


def test_connection_is_kept(remote, manager):
    pids = set()
    for _ in range(3):
        pid, size = manager.deliver("r:good", ["x@good.example"])[0].text.split()
        pids.add(pid)
        assert size == b"21"
    assert len(pids) == 1
    remote.set("connectionidle", "1")
    tell(remote.spawn, signal.SIGHUP)
    assert wait_until(lambda: not any(os.path.exists(f"/proc/{pid.decode()}") for pid in pids))
    assert manager.deliver("r:good", ["x@good.example"])[0].text.split()[0] not in pids
    remote.set("connectionidle", "300")
    tell(remote.spawn, signal.SIGHUP)


def test_busy_worker_ends_after_a_reload(remote, manager):
    """It read its settings when it started: while there is always a next job for it, the old ones would count for ever."""
    old = manager.deliver("r:good", ["x@good.example"])[0].text.split()[0]
    os.kill(int(old), signal.SIGSTOP)
    job, _ = manager.send("r:good", ["x@good.example"])
    wait_until(lambda: fifo_holds(f"/proc/{int(old)}/fd/0") > 0)
    tell(remote.spawn, signal.SIGHUP)
    os.kill(int(old), signal.SIGCONT)
    assert manager.wait(job)[0].text.split()[0] == old
    new = manager.deliver("r:good", ["x@good.example"])[0].text.split()[0]
    assert new != old
    assert manager.deliver("r:good", ["x@good.example"])[0].text.split()[0] == new


def test_workers_stay_when_a_reload_fails(remote, manager):
    """The old settings stay in force, so do those who began with them: a new worker would not start."""
    old = manager.deliver("r:good", ["x@good.example"])[0].text.split()[0]
    said = remote.log("spawn").count("were not reloaded")
    for name in ("concurrencyremote", "timeoutconnect"):      # the second is read by the workers alone
        remote.set(name, "many")
        tell(remote.spawn, signal.SIGHUP)
        try:
            assert wait_until(lambda: remote.log("spawn").count("were not reloaded") > said)
        finally:
            os.unlink(f"{remote.etc}/{name}")
        said = remote.log("spawn").count("were not reloaded")
        assert manager.deliver("r:good", ["x@good.example"])[0].text.split()[0] == old
    remote.set("concurrencyremote", "10")
    tell(remote.spawn, signal.SIGHUP)


def test_full_slots_evict_the_longest_idle(remote, manager):
    pids = {}
    for n in range(10):
        pids[n] = manager.deliver(f"r:d{n}", ["x@d.example"])[0].text.split()[0]
    manager.deliver("r:d0", ["x@d.example"])        # d1 is now the longest idle
    manager.deliver("r:new", ["x@new.example"])
    assert manager.deliver("r:d0", ["x@d.example"])[0].text.split()[0] == pids[0]
    assert manager.deliver("r:d1", ["x@d.example"])[0].text.split()[0] != pids[1]


def test_full_slots_leave_the_connections_of_others_alone(remote, manager):
    """While a destination's own worker is busy, its next job waits for it."""
    pids = {n: manager.deliver(f"r:e{n}", ["x@e.example"])[0].text.split()[0] for n in range(10)}
    jobs = [manager.send("r:e0", ["x@e.example"])[0] for _ in range(5)]
    assert {manager.wait(job)[0].text.split()[0] for job in jobs} == {pids[0]}
    assert all(manager.deliver(f"r:e{n}", ["x@e.example"])[0].text.split()[0] == pids[n] for n in range(1, 10))


@pytest.mark.parametrize("what", ["lies", "noise", "dies", "torn", "flood"])
def test_bad_worker_is_a_temporary_failure(remote, manager, what):
    results = manager.deliver("r:" + what, ["x@bad.example", "y@bad.example"])
    if what == "flood":         # the first ones were in order; the rest is what stopped it
        assert sorted(results) == [0, 1]
    else:
        assert [results[i].verdict for i in (0, 1)] == [1, 1]
    assert manager.deliver("r:good", ["x@good.example"])[0].verdict == 0


def test_half_of_the_results(remote, manager):
    results = manager.deliver("r:half", ["x@half.example", "y@half.example"])
    assert [results[i].verdict for i in (0, 1)] == [0, 1]
    assert b"code 3" in results[1].text


def test_answer_before_the_body_was_read(remote, manager):
    job, _ = manager.send("r:unread", ["x@unread.example"], body=b"Subject: x\r\n\r\n" + b"z" * 5000000)
    r = manager.wait(job)[0]
    assert (r.verdict, r.text) == (1, b"early")
    assert manager.ended[job].destination_failed == 1 and manager.ended[job].reusable == 0


def test_idle_worker_that_left_is_replaced_at_once(remote, manager):
    assert manager.deliver("r:leaves", ["x@leaves.example"])[0].verdict == 0
    assert manager.deliver("r:leaves", ["x@leaves.example"])[0].verdict == 0


def test_many_jobs_at_once(remote, manager):
    jobs = [manager.send(f"r:many{n % 7}", ["x@many.example"], body=b"x" * (n * 3001))[0] for n in range(10)]
    for n in range(10, 200):
        manager.wait(jobs[n - 10])
        jobs.append(manager.send(f"r:many{n % 7}", ["x@many.example"], body=b"x" * (n * 301))[0])
    for n, job in enumerate(jobs):
        assert manager.wait(job)[0].text.split()[1] == str(n * (3001 if n < 10 else 301)).encode()


def test_queued_that_reads_nothing(remote, manager):
    """Results wait in spawn; nothing is lost when it reads again."""
    jobs = []
    for round in range(30):
        jobs += [manager.send("r:slow", [f"x{n}@slow.example" for n in range(100)])[0] for _ in range(10)]
        time.sleep(0.05)
        for job in jobs[-10:-5]:
            manager.wait(job)
        for job in jobs[-5:]:
            manager.wait(job)
    assert all(len(manager.results[job]) == 100 for job in jobs)


def test_term_waits_for_what_is_in_hand(remote):
    fake = FakeQueued(remote, "remote", first_job=int(time.time() * 1000)).connect()
    before = set(children(remote.spawn.pid))
    job, _ = fake.send("r:last", ["x@good.example"], body=b"y" * 2000000)
    assert wait_until(lambda: set(children(remote.spawn.pid)) - before)
    remote.spawn.terminate()
    assert fake.wait(job)[0].verdict == 0
    assert remote.spawn.wait(120) == 0
    fake.close()
    remote.spawn = remote.start("spawn", "remote")
