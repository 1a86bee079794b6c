"""Stands for `spawn local` or `spawn remote`: takes jobs from queued and answers as it is told, without delivering anything.

    spawn = FakeSpawn(instance, "remote", answer=lambda job, rcpt: "ok")     or "ok-dsn" (the server announced DSN), "temp", "perm", "silence" (the job stays in hand)
    spawn.deliveries       a list of Delivery (id, index, address, body), one for every answer "ok"
    spawn.die()            gone at once, as by kill -9;   spawn.stop()   the same, at the end of a test; the instance's end stops it in any case
"""
import collections
import os
import random
import select
import threading
import time
import traceback

import records

Delivery = collections.namedtuple("Delivery", "id index address body")
CHANNELS = {"local": 0, "remote": 1}
VERDICTS = {"ok": (0, 250, 2), "ok-dsn": (0, 250, 2), "temp": (1, 451, 4), "perm": (2, 550, 5)}


def read_body(spool, job):
    """The octets that a job names, as spawn would splice them."""
    if job.large:
        return read_range(f"{spool}/large/{msgid(job.id)}", job)
    return read_range(f"{spool}/log/{job.segment:016x}", job)


def read_range(path, job):
    with open(path, "rb") as f:
        f.seek(job.body_offset)
        body = f.read(job.body_size)
    assert len(body) == job.body_size, f"{path} ends within the body"
    return body


def msgid(number):
    digits = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
    return "".join(digits[number >> 5 * i & 31] for i in range(11, -1, -1))


class FakeSpawn(threading.Thread):
    def __init__(self, instance, channel, answer=lambda job, rcpt: "ok", slots=20, bodies=True):
        super().__init__(daemon=True)
        self.instance, self.channel, self.answer, self.slots, self.bodies = instance, channel, answer, slots, bodies
        self.deliveries, self.jobs, self.hellos, self.most = [], [], 0, 0
        self.inflight = {}           # job number: (job, its recipients)
        self.error = None
        self.going = True
        self.done = threading.Event()
        instance.helpers.append(self)
        self.start()

    # ---- control
    def die(self):
        self.going = False
        self.join(120)
        if self.error:
            raise self.error

    stop = die

    def wait_for(self, count, seconds=120):
        """Until so many deliveries came; the list."""
        end = time.monotonic() + seconds
        while len(self.deliveries) < count and time.monotonic() < end and not self.error:
            time.sleep(0.01)
        if self.error:
            raise self.error
        return list(self.deliveries)

    # ---- the fifos
    def run(self):
        try:
            while self.going:
                self.connection()
        except Exception as error:      # told to the test by die and wait_for
            self.error = error
            traceback.print_exc()
        self.done.set()

    def connection(self):
        jobs = os.open(self.instance.fifo("jobs-" + self.channel), os.O_RDONLY | os.O_NONBLOCK)
        report = self.open_report()
        try:
            if report is not None:
                self.greet(report)
                self.serve(jobs, report)
        except BrokenPipeError:
            pass
        finally:
            os.close(jobs)
            if report is not None:
                os.close(report)

    def open_report(self):
        while self.going:
            try:
                fd = os.open(self.instance.fifo("report-" + self.channel), os.O_WRONLY | os.O_NONBLOCK)
                os.set_blocking(fd, True)
                return fd
            except OSError:
                time.sleep(0.01)
        return None

    def greet(self, report):
        self.session = random.getrandbits(64) | 1
        self.hellos += 1
        out = records.encode("hello", session=self.session, channel=CHANNELS[self.channel])
        for job, rcpts in self.inflight.values():
            bits = 0
            first = min(r.index for r in rcpts)
            for r in rcpts:
                bits |= 1 << (r.index - first)
            out += records.encode("inflight", job=job.job, id=job.id, segment=job.segment, first_index=first, rcpt_count=len(rcpts),
                                  destination=job.destination, indexes=bits.to_bytes(bits.bit_length() // 8 + 1, "little"))
        self.write(report, out + records.encode("ready", session=self.session, slots=self.slots))

    def write(self, report, octets):
        os.write(report, octets)

    def serve(self, jobs, report):
        stream, job, rcpts = records.Stream(jobs), None, []
        while self.going:
            try:
                record = stream.next(0.05)
            except TimeoutError:
                if self.hung_up(jobs):
                    return
                continue
            if record is None:
                return
            if record.name == "job":
                assert record.session == self.session, "a job of another session"
                job, rcpts = record, []
            else:
                assert record.name == "job_rcpt" and record.job == job.job
                rcpts.append(record)
            if len(rcpts) == job.rcpt_count:
                self.take(job, rcpts, report)

    @staticmethod
    def hung_up(jobs):
        poll = select.poll()
        poll.register(jobs, 0)
        return any(events & select.POLLHUP for _, events in poll.poll(0))

    # ---- jobs
    def take(self, job, rcpts, report):
        self.jobs.append(job)
        self.inflight[job.job] = (job, rcpts)
        self.most = max(self.most, len(self.inflight))
        assert len(self.inflight) <= self.slots, "more jobs than slots"
        body = read_body(self.instance.spool, job) if self.bodies else b""
        words = [self.answer(job, r) for r in rcpts]
        if "silence" not in words:
            self.finish(job, rcpts, words, body, report)

    def finish(self, job, rcpts, words, body, report):
        out = b""
        for word, r in zip(words, rcpts):
            verdict, code, e_class = VERDICTS[word]
            out += records.encode("result", job=job.job, index=r.index, verdict=verdict, stage=13 if word == "ok-dsn" else 10, code=code, e_class=e_class, host="mx.example",
                                  ip="192.0.2.25", text=f"{code} {word}")
        del self.inflight[job.job]
        for word, r in zip(words, rcpts):
            if word.startswith("ok"):
                self.deliveries.append(Delivery(job.id, r.index, r.address.decode(), body))
        self.write(report, out + records.encode("job_done", job=job.job, reusable=1))

    def release(self, report_of=None):
        """Finish what was kept in silence, with "ok"; by a descriptor of its own, so only while no other result is written."""
        fd = self.open_report()
        for job, rcpts in list(self.inflight.values()):
            self.finish(job, rcpts, ["ok"] * len(rcpts), read_body(self.instance.spool, job), fd)
        os.close(fd)
