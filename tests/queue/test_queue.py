"""queued with its store, fed by real enqueue processes, with a spawn that only answers (lib/fakespawn.py): acknowledged means in the queue,
exactly once, whatever is killed."""
import collections
import contextlib
import fcntl
import os
import random
import re
import signal
import subprocess
import threading
import time

import pytest

import records
from fakespawn import FakeSpawn, msgid
from instance import Instance, envelope

OK, NO_SPACE, QUEUE = 0, 59, 66
PROGRAMS = ["queue/enqueue", "queue/queued"]


@pytest.fixture
def i():
    with Instance("queue", PROGRAMS) as instance:
        yield instance


def body_of(mark, size=300):
    return f"Received: by q id ............; now\r\nX-Mark: {mark}\r\n\r\n".encode() + b"x" * size + b"\r\n"


def ids_by_mark(deliveries):
    """{mark: the ids it was delivered under}. The same id twice is a delivery repeated after a crash, two ids are a message taken twice."""
    marks = collections.defaultdict(set)
    for d in deliveries:
        found = re.search(rb"X-Mark: (\S+)", d.body)
        marks[found.group(1).decode()].add(d.id)
        # In a large file the id is written after the sync: a queued that is killed just then leaves it out.
        assert f"id {msgid(d.id)};".encode() in d.body or len(d.body) > 131072
    return marks


def check_exactly_once(acknowledged, deliveries, sent):
    marks = ids_by_mark(deliveries)
    lost = [m for m in acknowledged if m not in marks]
    doubled = [m for m in marks if len(marks[m]) > 1]
    assert not lost and not doubled, f"lost {lost[:5]}, doubled {[(m, marks[m]) for m in doubled[:5]]}"
    assert set(marks) <= set(sent)


def wait_until(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.01)


# ---- the ordinary way

def test_in_and_out(i):
    queued = i.start_queued()
    assert i.enqueue(body_of("one"))[0] == OK
    s = i.session()
    assert s.send(body_of("two"), recipients=["a@x.example", "b@x.example", "c@y.example"], id_offset=18)[0] == OK
    result, number = s.send(body_of("large", 300000), id_offset=18)
    assert result == OK and os.listdir(f"{i.spool}/large") == [msgid(number)]
    assert s.close() == OK
    spawn = FakeSpawn(i, "remote")
    deliveries = spawn.wait_for(5)
    check_exactly_once({"one", "two", "large"}, deliveries, {"one", "two", "large"})
    assert sorted(d.address for d in deliveries) == ["a@x.example", "b@x.example", "c@y.example", "rcpt@example.net", "rcpt@example.net"]
    wait_until(lambda: os.listdir(f"{i.spool}/large") == [])
    spawn.stop()
    assert i.kill(queued, signal.SIGTERM) == 0
    assert i.intake_files() == []


class LastWord(FakeSpawn):
    """Tells what it has in hand when its jobs fifo has ended already: so late are results that are under way when queued stops."""

    def serve(self, jobs, report):
        super().serve(jobs, report)
        for job, rcpts in list(self.inflight.values()):
            self.finish(job, rcpts, ["ok"] * len(rcpts), b"", report)


def test_stop_takes_the_last_results(i):
    """TERM is no crash: no delivery is made twice because queued stopped in an orderly way."""
    queued = i.start_queued()
    spawn = LastWord(i, "remote", answer=lambda job, rcpt: "silence")
    assert i.enqueue(body_of("late"))[0] == OK
    wait_until(lambda: spawn.inflight)
    assert i.kill(queued, signal.SIGTERM) == 0
    assert "status=sent" in i.log()
    i.start_queued()
    wait_until(lambda: "spawn remote is ready" in i.log().rpartition("queue manager started")[2])
    time.sleep(0.5)
    spawn.stop()
    assert len(spawn.jobs) == 1


def test_stop_with_a_spawn_that_holds_on(i):
    queued = i.start_queued()
    report = os.open(i.fifo("report-remote"), os.O_WRONLY | os.O_NONBLOCK)
    try:
        assert i.kill(queued, signal.SIGTERM) == 0
    finally:
        os.close(report)


def test_local_and_remote(i):
    i.start_queued()
    local, remote = FakeSpawn(i, "local"), FakeSpawn(i, "remote")
    assert i.enqueue(body_of("both"), recipients=["joe@queue.tappal", "joe@elsewhere.example"])[0] == OK
    assert [d.address for d in local.wait_for(1)] == ["joe@queue.tappal"]
    assert [d.address for d in remote.wait_for(1)] == ["joe@elsewhere.example"]
    local.stop()
    remote.stop()


def test_log_lines(i):
    i.set("remoteport", "2525")
    i.start_queued()
    spawn = FakeSpawn(i, "remote", answer=lambda job, rcpt: {b"g": "ok", b"t": "temp", b"p": "perm"}[rcpt.address[:1]])
    s = i.session()
    result, number = s.send(body_of("m"), recipients=["good@x.example", "temp@x.example", "perm@x.example"],
                            attributes=["Cunknown[192.0.2.1]", "Hmx", "PESMTP", "M<mid@client>"])
    name = msgid(number)
    wait_until(lambda: "to=<perm@" in i.log())
    s.close()
    spawn.stop()
    log = i.log()
    for line in [f"tappal/smtpd[{{p}}]: {name}: client=unknown[192.0.2.1]", f"tappal/cleanup[{{p}}]: {name}: message-id=<mid@client>",
                 f"tappal/qmgr[{{p}}]: {name}: from=<sender@example.org>, size={len(body_of('m'))}, nrcpt=3 (queue active)"]:
        assert re.search(re.escape(line).replace(re.escape("{p}"), r"\d+"), log), line
    to = r"tappal/smtp\[\d+\]: " + name + r": to=<%s@x.example>, relay=mx.example\[192.0.2.25\]:2525, delay=[\d.]+, delays=[\d.]+/[\d.]+/[\d.]+/[\d.]+, dsn=%s, status=%s"
    for who, dsn, status in (("good", "2.0.0", r"sent \(250 ok\)"), ("temp", "4.0.0", r"deferred \(451 temp\)"), ("perm", "5.0.0", r"bounced \(550 perm\)")):
        assert re.search(to % (who, dsn, status), log), who
    run = subprocess.run(["pflogsumm", "--syslog-name=tappal", f"{i.root}/queued.log"], stdout=subprocess.PIPE, text=True)
    counts = dict(reversed(x.split()) for x in re.findall(r"^ +(\d+ +(?:received|delivered|deferred|bounced))", run.stdout, re.M))
    assert counts == {"received": "1", "delivered": "1", "deferred": "1", "bounced": "1"}


def test_fifty_sessions(i):
    i.start_queued()
    spawn = FakeSpawn(i, "remote", slots=50)
    acknowledged = send_from_many(i, sessions=50, each=40)
    assert len(acknowledged) == 50 * 40
    check_exactly_once(acknowledged, spawn.wait_for(2000), acknowledged)
    spawn.stop()
    assert i.intake_files() == []


def send_from_many(i, sessions, each, stop=None, sent=None):
    """Marks that were acknowledged. With `stop`, until it is set; a session that ends is begun anew. Every second session reads queued's answers."""
    acknowledged, lock = [], threading.Lock()

    def work(number):
        begin = i.lending_session if number % 2 else i.session
        session, count = begin(), 0
        while count < each and not (stop and stop.is_set()):
            mark = f"{number}.{count}"
            count += 1
            time.sleep(0.005 if stop else 0)
            if sent is not None:
                with lock:
                    sent.add(mark)
            size = 200000 if stop and count % 50 == 7 else random.choice([10, 1000, 5000, 70000])
            try:
                result, _ = session.carry(body_of(mark, size), id_offset=18)
            except BrokenPipeError:
                result = None
            if result == OK:
                with lock:
                    acknowledged.append(mark)
            elif result is None:
                session.process.wait()
                session = begin()
        session.close()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(sessions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    return acknowledged


# ---- killing

@pytest.mark.parametrize("seed", range(3))
def test_kill_queued_under_load(i, seed):
    """kill -9 at random moments, restarts, sessions and one-shots that go on: nothing acknowledged is lost, nothing is taken twice."""
    seed = int(os.environ.get("SEED", seed))
    print("SEED", seed)
    chance = random.Random(seed)
    stop, sent, one_shots = threading.Event(), set(), []
    queued = i.start_queued()
    spawn = FakeSpawn(i, "remote") if seed % 2 == 0 else None

    def shoot():
        while not stop.is_set():
            mark = f"shot.{len(sent)}.{len(one_shots)}"
            sent.add(mark)
            if i.enqueue(body_of(mark))[0] == OK:
                one_shots.append(mark)

    acknowledged = []
    workers = [threading.Thread(target=lambda: acknowledged.extend(send_from_many(i, 8, 10 ** 9, stop, sent))), threading.Thread(target=shoot)]
    for w in workers:
        w.start()
    try:
        for _ in range(12):
            time.sleep(chance.uniform(0.02, 0.4))
            i.kill(queued)
            if chance.random() < 0.5:
                time.sleep(chance.uniform(0, 0.2))
            queued = i.start_queued()
    finally:
        stop.set()
        for w in workers:
            w.join(240)
    acknowledged += one_shots
    spawn = spawn or FakeSpawn(i, "remote")
    wait_until(lambda: len(ids_by_mark(list(spawn.deliveries))) >= len(set(acknowledged)) or spawn.error)
    time.sleep(0.5)
    spawn.stop()
    assert acknowledged
    check_exactly_once(acknowledged, spawn.deliveries, sent)
    wait_until(lambda: i.intake_files() == [])
    assert i.kill(queued, signal.SIGTERM) == 0


@pytest.mark.parametrize("handed_back", [False, True], ids=["answered", "unanswered"])
def test_an_answer_outlives_queued(i, handed_back):
    """It was read, or not, by the one who waits, long before enqueue hears anything; the index has forgotten the token meanwhile."""
    queued = i.start_queued()
    s = i.lending_session()
    assert s.carry(body_of("one"), id_offset=18)[0] == OK
    assert s.carry(body_of("two"), patience=120, id_offset=18)[0] == OK
    time.sleep(1.5)
    assert i.kill(queued) == -signal.SIGKILL
    time.sleep(0.2)
    if handed_back:      # a liar, or one who lost what he read: his own message may come twice, nothing else may
        s.unanswered()
        assert s.result()[0] == OK
        s.owed = None
    i.start_queued()
    assert s.carry(body_of("three"), id_offset=18)[0] == OK
    assert s.close() == OK
    wait_until(lambda: i.intake_files() == [])
    spawn = FakeSpawn(i, "remote")
    spawn.wait_for(4 if handed_back else 3)
    time.sleep(0.3)
    spawn.stop()
    marks = ids_by_mark(spawn.deliveries)
    assert {mark: len(ids) for mark, ids in marks.items()} == {"one": 1, "two": 2 if handed_back else 1, "three": 1}


def test_a_queued_that_comes_back_answers_what_was_offered(i):
    """It died with the message in its log, or without, and the next one is there before anybody has noticed."""
    queued = i.start_queued()
    s = i.lending_session()
    assert s.carry(body_of("one"), id_offset=18)[0] == OK
    sent = ["one"]
    for n in range(5):
        os.kill(queued.pid, signal.SIGSTOP)
        sent.append(f"more{n}")
        s.offer(body_of(sent[-1]), id_offset=18)
        time.sleep(0.05)
        if n % 2:
            os.kill(queued.pid, signal.SIGCONT)
            time.sleep(0.002 * n)
        i.kill(queued)
        queued = i.start_queued()
        s.unanswered()
        assert s.result()[0] == OK
        if s.acks is None:
            sent.append(f"again{n}")
            assert s.carry(body_of(sent[-1]), id_offset=18)[0] == OK
    assert s.close() == OK
    wait_until(lambda: i.intake_files() == [])
    spawn = FakeSpawn(i, "remote")
    spawn.wait_for(len(sent))
    time.sleep(0.3)
    spawn.stop()
    check_exactly_once(sent, spawn.deliveries, sent)


def holds_an_intake_file(pid):
    found = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
    return any("/intake/" in path for path in found)


def test_kill_enqueue(i):
    """Files of dead senders are removed at the next start, and nothing they left is ever delivered."""
    i.start_queued()
    for n in range(20):
        process, w = i.enqueue_start()
        process.stdin.write(b"half a message")
        if n < 19:
            time.sleep(0.01)
        else:
            wait_until(lambda: holds_an_intake_file(process.pid))
        process.kill()
        process.wait()
        process.stdin.close()
        process.stderr.close()
        os.close(w)
    assert len(i.intake_files()) > 0
    living = i.session()
    living.message(body_of("living", 100000), commit=False)
    i.kill(i.started[0])
    i.start_queued()
    wait_until(lambda: len(i.intake_files()) == 2)     # the living one's file and fifo
    living.write(records.encode("mail_commit", body_size=len(body_of("living", 100000))))
    assert living.stream.next().result == OK
    living.close()
    assert i.intake_files() == []


def test_adopted_once(i):
    """Mail is taken while queued is away; and is delivered once, also when queued is killed during the adoption."""
    marks = [f"away{n}" for n in range(30)] + ["awaylarge"]
    for mark in marks:
        assert i.enqueue(body_of(mark, 300000 if mark == "awaylarge" else 100))[0] == OK
    assert len(i.intake_files()) == 31
    for delay in (0, 0.002, 0.005, 0.01, 0.02, 0.03):
        process = i.start("queued")
        time.sleep(delay)
        i.kill(process)
    i.start_queued()
    wait_until(lambda: i.intake_files() == [])
    spawn = FakeSpawn(i, "remote")
    spawn.wait_for(31)
    time.sleep(0.3)
    spawn.stop()
    check_exactly_once(marks, spawn.deliveries, marks)


def test_adopted_soon(i):
    """A file that is left while queued starts is not left for a minute."""
    assert i.enqueue(body_of("a"))[0] == OK
    fd = os.open(i.fifo("intake"), os.O_RDWR | os.O_NONBLOCK)     # somebody reads, so enqueue offers, and nobody answers
    process, w = i.enqueue_start()
    process.stdin.write(body_of("b"))
    process.stdin.close()
    os.write(w, envelope("a@b.org", ["c@d.org"]))
    os.close(w)
    time.sleep(0.1)
    i.start_queued()
    os.close(fd)
    assert process.wait(120) == OK        # the offer lay in the fifo
    process.stderr.close()
    wait_until(lambda: i.intake_files() == [])


def test_a_damaged_file_is_set_aside(i):
    assert i.enqueue(body_of("a"))[0] == OK
    assert i.enqueue(body_of("b"))[0] == OK
    name = i.intake_files()[0]
    with open(f"{i.spool}/intake/{name}", "r+b") as f:
        f.seek(100)
        f.write(b"?")
    queued = i.start_queued()
    wait_until(lambda: i.intake_files() == [name + ".bad"])
    wait_until(lambda: f"intake/{name} cannot be taken (its checksum is wrong)" in i.log())
    assert i.kill(queued, signal.SIGTERM) == 0
    i.start_queued()
    assert i.intake_files() == [name + ".bad"]


# ---- spawn comes and goes

def test_spawn_dies(i):
    i.start_queued()
    silent = FakeSpawn(i, "remote", answer=lambda job, rcpt: "silence", slots=5)
    for n in range(10):
        assert i.enqueue(body_of(str(n)), recipients=[f"r@d{n}.example"])[0] == OK
    wait_until(lambda: len(silent.inflight) == 5)
    time.sleep(0.2)
    assert silent.most == 5
    silent.die()
    wait_until(lambda: "5 jobs are due again" in i.log())
    spawn = FakeSpawn(i, "remote")
    deliveries = spawn.wait_for(10)
    spawn.stop()
    assert len(deliveries) == 10
    check_exactly_once([str(n) for n in range(10)], deliveries, [str(n) for n in range(10)])


def test_queued_dies_and_spawn_keeps_its_jobs(i):
    queued = i.start_queued()
    spawn = FakeSpawn(i, "remote", answer=lambda job, rcpt: "silence" if rcpt.address.startswith(b"slow") else "ok")
    for name in ("slow0", "slow1", "quick"):
        assert i.enqueue(body_of(name), recipients=[f"{name}@{name}.example"])[0] == OK
    wait_until(lambda: len(spawn.inflight) == 2 and i.log().count(": removed\n") == 1)
    i.kill(queued)
    i.start_queued()
    wait_until(lambda: spawn.hellos >= 2)
    assert i.enqueue(body_of("new"), recipients=["r@new.example"])[0] == OK
    spawn.wait_for(2)
    time.sleep(0.3)
    assert len(spawn.jobs) == 4                   # the slow ones were not handed out again
    spawn.release()
    wait_until(lambda: all(f"to=<slow{n}@" in i.log() for n in (0, 1)))
    spawn.stop()
    marks = ["slow0", "slow1", "quick", "new"]
    check_exactly_once(marks, spawn.deliveries, marks)


def test_slots(i):
    i.start_queued()
    spawn = FakeSpawn(i, "remote", answer=lambda job, rcpt: "silence", slots=0)
    for n in range(5):
        assert i.enqueue(body_of(str(n)), recipients=[f"r@d{n}.example"])[0] == OK
    time.sleep(0.3)
    assert spawn.jobs == []
    spawn.stop()


def test_bounces_go_out(i):
    queued = i.start_queued()
    spawn = FakeSpawn(i, "remote", answer=lambda job, rcpt: "perm")
    assert i.enqueue(body_of("a"))[0] == OK
    wait_until(lambda: "nobody reads fifo/bounce" in i.log())
    fifo = os.open(i.fifo("bounce"), os.O_RDONLY | os.O_NONBLOCK)
    stream = records.Stream(fifo)
    wait_until(lambda: select_readable(fifo))
    begin = stream.want("bounce_begin")
    rcpt = stream.want("bounce_rcpt")
    assert (begin.sender, begin.rcpt_count, rcpt.address) == (b"sender@example.org", 1, b"rcpt@example.net")
    os.close(fifo)                       # it dies with the work in hand: it is handed out again
    wait_until(lambda: "bounce has gone" in i.log())
    fifo = os.open(i.fifo("bounce"), os.O_RDONLY | os.O_NONBLOCK)
    wait_until(lambda: select_readable(fifo))
    again = records.Stream(fifo).want("bounce_begin")
    assert (again.id, again.batch) == (begin.id, begin.batch)
    report = envelope("", ["sender@example.org"], [f"X{msgid(begin.id)} {begin.batch}"])
    assert i.enqueue(b"Subject: bounce\n\nsorry\n", raw=report, user="nobody")[0] == OK
    time.sleep(0.1)
    assert f"{msgid(begin.id)}: removed" not in i.log()    # nobody may say that
    assert i.enqueue(b"Subject: bounce\n\nsorry\n", raw=report, user="tappal-bounce")[0] == OK
    wait_until(lambda: f"{msgid(begin.id)}: removed" in i.log())
    assert f"{msgid(begin.id)}: sender non-delivery notification: " in i.log()
    spawn.stop()
    os.close(fifo)
    assert i.kill(queued, signal.SIGTERM) == 0


def select_readable(fd):
    import select
    return select.select([fd], [], [], 0)[0]


# ---- operators

@contextlib.contextmanager
def reply_fifo(i, name="reply1", mode=0o622):
    path = f"{i.spool}/reply/{name}"
    os.mkfifo(path)
    os.chmod(path, mode)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    try:
        yield records.Stream(fd)
    finally:
        os.close(fd)
        os.unlink(path)


def operate(i, **fields):
    fd = os.open(i.fifo("control"), os.O_WRONLY | os.O_NONBLOCK)
    os.write(fd, records.encode("operate", **fields))
    os.close(fd)


def test_operators(i):
    i.start_queued()
    s = i.session()
    number = s.send(body_of("a"))[1]
    with reply_fifo(i) as reply:
        operate(i, token=7, reply="reply1", op=2, id=number, index=0xffffffff, who="op", reason="wait")
        answer = reply.want("operated")
        assert (answer.token, answer.done) == (7, 1)
        spawn = FakeSpawn(i, "remote")
        time.sleep(0.3)
        assert spawn.jobs == []
        operate(i, token=8, reply="reply1", op=3, id=number, index=0xffffffff, who="op")
        assert reply.want("operated").done == 1
        assert len(spawn.wait_for(1)) == 1
        operate(i, token=9, reply="reply1", op=4, id=1, index=0xffffffff, who="op")
        answer = reply.want("operated")
        assert (answer.token, answer.done) == (9, 0) and answer.text
        operate(i, token=10, reply="reply1", op=99, id=number, index=0, who="op")
        assert reply.want("operated").done == 0
        operate(i, token=11, reply="reply1", op=7, id=number, index=0, who="op")     # the queue's own
        assert reply.want("operated").done == 0
    spawn.stop()
    s.close()


def test_reply_names(i):
    """No path, no link, no file that is not a fifo is ever written to; and a reply that nobody reads stops nothing."""
    i.start_queued()
    target = f"{i.spool}/reply/file"
    open(target, "w").close()
    os.chmod(target, 0o666)
    os.symlink(i.fifo("control"), f"{i.spool}/reply/link")
    os.mkfifo(f"{i.spool}/reply/unread")
    os.chmod(f"{i.spool}/reply/unread", 0o666)
    for name in ("../fifo/control", "file", "link", "unread", "absent", "", "a/b", ".hidden", "x" * 64):
        operate(i, token=1, reply=name, op=4, id=1, index=0, who="op")
    with reply_fifo(i) as reply:
        operate(i, token=2, reply="reply1", op=4, id=1, index=0, who="op")
        assert reply.want("operated").token == 2
    assert os.stat(target).st_size == 0


# ---- who writes nonsense

def garbage(chance):
    kind = chance.randrange(5)
    if kind == 0:
        return chance.randbytes(chance.randrange(1, 4000))
    if kind == 1:
        return records.frame(chance.randrange(200), chance.randbytes(chance.randrange(300)))
    if kind == 2:
        return records.frame(1, b"", length=chance.choice([0, 1, 7, 9, 4000, 70000, 0xffffffff]))
    if kind == 3:
        whole = records.encode(chance.choice(["offer", "adopt", "operate", "hello", "inflight", "ready", "result", "job_done", "retry_domain"]))
        return whole[:chance.randrange(1, len(whole))]
    return records.encode("offer", token_a=1, name=chance.choice(["../../etc/passwd", "x" * 26, "0" * 26, ""]), file_size=chance.getrandbits(64))


def test_garbage_on_every_fifo(i):
    """Mail goes on while every fifo gets nonsense, and queued is the same process afterwards."""
    seed = int(os.environ.get("SEED", 1))
    print("SEED", seed)
    chance = random.Random(seed)
    queued = i.start_queued()
    spawn = FakeSpawn(i, "remote")
    names = ["intake", "control", "retry", "report-local", "report-remote"]
    stop = threading.Event()

    def spoil():
        while not stop.is_set():
            for name in names:
                try:
                    fd = os.open(i.fifo(name), os.O_WRONLY | os.O_NONBLOCK)
                except OSError:
                    continue
                try:
                    os.write(fd, garbage(chance))
                except OSError:
                    pass
                os.close(fd)
            time.sleep(0.002)

    spoiler = threading.Thread(target=spoil)
    spoiler.start()
    marks = [f"g{n}" for n in range(60)]
    s = i.session()
    for mark in marks:
        assert s.send(body_of(mark), id_offset=18)[0] == OK
    wait_until(lambda: "makes no sense" in i.log() and "garbage in fifo/intake" in i.log())
    stop.set()
    spoiler.join()
    wait_until(lambda: len(ids_by_mark(list(spawn.deliveries))) >= 60 or spawn.error)
    spawn.stop()
    s.close()
    check_exactly_once(marks, spawn.deliveries, marks)
    assert queued.poll() is None
    assert len(i.log()) < 3_000_000
    assert i.kill(queued, signal.SIGTERM) == 0


def test_a_lying_spawn(i):
    """Results for others' recipients, results out of range, sessions that are not: logged, not believed."""
    queued = i.start_queued()
    assert i.enqueue(body_of("a"))[0] == OK
    jobs = os.open(i.fifo("jobs-remote"), os.O_RDONLY | os.O_NONBLOCK)
    report = os.open(i.fifo("report-remote"), os.O_WRONLY)
    os.write(report, records.encode("hello", session=5, channel=1) + records.encode("ready", session=5, slots=0xffffffff))
    stream = records.Stream(jobs)
    job = stream.want("job")
    rcpt = stream.want("job_rcpt")
    os.write(report, records.encode("result", job=job.job, index=rcpt.index + 1, verdict=0))
    os.write(report, records.encode("result", job=job.job + 1, index=rcpt.index, verdict=0))
    os.write(report, records.encode("job_done", job=job.job + 1))
    wait_until(lambda: i.log().count("is ignored") == 3)
    os.write(report, records.encode("result", job=job.job, index=rcpt.index, verdict=3))
    assert stream.next() is None                      # that ended its session
    os.close(jobs)
    os.close(report)
    spawn = FakeSpawn(i, "remote")
    assert len(spawn.wait_for(1)) == 1
    spawn.stop()
    assert queued.poll() is None


def test_offers_that_lie(i):
    """A file of somebody else's, no file, a directory, a link, another size, another token: no answer or a refusal, never a message."""
    i.start_queued()
    names = {n: (n * 26)[:26] for n in "abcdef"}
    intake = f"{i.spool}/intake"
    open(f"{intake}/{names['a']}", "wb").write(b"x" * 100)                     # root's
    os.mkdir(f"{intake}/{names['b']}")
    os.symlink("/etc/passwd", f"{intake}/{names['c']}")
    locked = open(f"{intake}/{names['d']}", "wb")
    fcntl.flock(locked, fcntl.LOCK_EX)      # as a living sender has it: queued looks for files of dead ones when it starts
    locked.write(b"x" * 100)
    locked.flush()
    subprocess.run(["chown", "tappal-intake", f"{intake}/{names['d']}"], check=True)
    acks = {}
    for n in names:
        os.mkfifo(f"{intake}/{names[n]}.ack")
        os.chmod(f"{intake}/{names[n]}.ack", 0o622)
        acks[n] = os.open(f"{intake}/{names[n]}.ack", os.O_RDWR | os.O_NONBLOCK)
    fd = os.open(i.fifo("intake"), os.O_WRONLY | os.O_NONBLOCK)
    for n in names:
        for size in (0, 100, 1 << 63):
            os.write(fd, records.encode("offer", token_a=1, name=names[n], file_size=size))
    os.close(fd)
    answer = records.Stream(acks["d"]).want("ack")
    assert answer.result == 81
    for n in "abcef":
        with pytest.raises(BlockingIOError):
            os.read(acks[n], 100)
    assert i.enqueue(body_of("x"))[0] == OK
    for ack in acks.values():
        os.close(ack)
    locked.close()
    assert "queue active" in i.log() and i.log().count("queue active") == 1


def test_an_ack_that_nobody_reads(i):
    """A sender that does not read its answers does not stop the others'."""
    i.start_queued()
    s = i.session()
    assert s.send(body_of("a"))[0] == OK
    s.process.send_signal(signal.SIGSTOP)
    s.message(body_of("b"))
    for n in range(20):
        assert i.enqueue(body_of(str(n)), )[0] == OK
    s.process.send_signal(signal.SIGCONT)
    assert s.stream.next().result == OK
    s.close()


# ---- limits

def test_second_queued(i):
    first = i.start_queued()
    second = i.start("queued")
    assert second.wait(120) == 111
    assert f"belongs to another queued, pid {first.pid}" in i.log()
    assert i.enqueue(body_of("a"))[0] == OK


def test_below_freespace(i):
    i.set("freespace", "1000G")
    i.start_queued()
    s = i.session()
    assert s.send(body_of("a"))[0] == NO_SPACE
    assert s.send(body_of("a", 300000))[0] == NO_SPACE
    assert i.enqueue(body_of("b"))[0] == NO_SPACE
    i.set("freespace", "1M")
    os.kill(i.started[0].pid, signal.SIGHUP)
    wait_until(lambda: s.send(body_of("a"))[0] == OK)
    s.close()


def test_idle(i):
    """With nothing to do it does not wake up; with mail that cannot go anywhere, once a second at most."""
    queued = i.start_queued()

    def wakeups(seconds):
        read = lambda: int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", open(f"/proc/{queued.pid}/status").read(), re.M).group(1))
        before = read()
        time.sleep(seconds)
        return read() - before

    wait_until(lambda: wakeups(3) <= 1)
    assert i.enqueue(body_of("a"))[0] == OK
    wait_until(lambda: wakeups(3) <= 5)


def test_settings_are_checked(i):
    i.set("retryfirst", "soon")
    queued = i.start("queued")
    assert queued.wait(120) == 100
    assert "retryfirst" in i.log()


def test_wrong_account(i):
    run = subprocess.run([f"{i.libexec}/queued"], stderr=subprocess.PIPE, user="nobody", text=True)
    assert run.returncode == 100 and "tappal-queue" in run.stderr
