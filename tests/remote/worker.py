"""One `remote` as spawn starts it: jobs in, results out; and an instance of the suite with the programs of remote/ in it."""
import os
import shutil
import socket
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, TOP + "/tests/lib")

import instance  # noqa: E402
import records   # noqa: E402

OK, TEMP, PERM = 0, 1, 2
STAGES = ["none", "dns", "connect", "greeting", "tls", "helo", "auth", "mail", "rcpt", "data", "final"]
BODY = b"Subject: test\r\n\r\nhello\r\n"


class Rooms:
    """The instance, with settings back at their defaults for each test."""
    DEFAULTS = {"me": "remote.tappal", "timeoutconnect": "30", "timeoutremote": "30", "connectionidle": "30", "dnstrustanchor": "", "dnstimeout": "30"}

    def __init__(self, name):
        self.instance = instance.Instance(name, ["remote/remote", "remote/resolver"])
        self.resolver = None

    def __enter__(self):
        self.instance.__enter__()
        shutil.rmtree(self.instance.root + "/run/tappal")
        self.reset()
        return self

    def __exit__(self, *_):
        self.stop_resolver()
        self.instance.__exit__()

    def reset(self, **settings):
        for name in os.listdir(self.instance.etc):
            os.unlink(self.instance.etc + "/" + name)
        self.set(**dict(self.DEFAULTS, **settings))

    def set(self, **settings):
        for name, value in settings.items():
            self.instance.set(name, value)

    def start_resolver(self, **settings):
        self.stop_resolver()
        self.set(**settings)
        path = self.instance.root + "/run/tappal/resolver"
        self.resolver = self.instance.start("resolver")
        end = time.monotonic() + 120
        while time.monotonic() < end and self.resolver.poll() is None:
            with socket.socket(socket.AF_UNIX) as s:
                if s.connect_ex(path) == 0:
                    return
            time.sleep(0.01)
        raise RuntimeError("resolver: " + self.instance.log("resolver"))

    def stop_resolver(self):
        if self.resolver is not None and self.resolver.poll() is None:
            self.resolver.terminate()
            self.resolver.wait(120)
        self.resolver = None

    def worker(self):
        return Worker(self.instance.libexec + "/remote")


class Answer:
    """What came back for one job."""
    def __init__(self, results, done):
        self.results, self.done = {r.index: r for r in results}, done
        self.all = results

    def __getitem__(self, index):
        return self.results[index]

    @property
    def one(self):
        assert len(self.all) == 1, self.all
        return self.all[0]


class Worker:
    def __init__(self, program, **account):
        self.process = subprocess.Popen([program], **account, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0)
        self.stream = records.Stream(self.process.stdout.fileno())
        self.number = 0

    def write(self, octets):
        self.process.stdin.write(octets)

    def head(self, to, rcpts=("rcpt@example.tappal",), sender="sender@remote.tappal", body_size=len(BODY), **fields):
        """The records of a job. A recipient is an address or a dict of the fields of job_rcpt."""
        self.number += 1
        octets = records.encode("job", session=1, job=self.number, id=77, destination=to, sender=sender, rcpt_count=len(rcpts), body_size=body_size, **fields)
        for index, rcpt in enumerate(rcpts):
            rcpt = {"address": rcpt} if isinstance(rcpt, (str, bytes)) else rcpt
            octets += records.encode("job_rcpt", job=self.number, index=index, **rcpt)
        return octets

    def answer(self, timeout=120):
        results = []
        while True:
            record = self.stream.next(timeout)
            assert record is not None, "remote ended: %r" % self.process.stderr.read()
            assert record.job == self.number
            if record.name == "job_done":
                return Answer(results, record)
            assert record.name == "result"
            results.append(record)

    def send(self, to, body=BODY, timeout=120, **fields):
        octets = self.head(to, body_size=len(body), **fields) + body
        view = memoryview(octets)
        while view:
            view = view[self.process.stdin.write(view[:65536]):]
        answer = self.answer(timeout)
        wanted = len(fields.get("rcpts", ("one",)))
        assert sorted(answer.results) == list(range(wanted)) and len(answer.all) == wanted, "one result for each recipient"
        return answer

    def close(self, timeout=120):
        """End of file on its stdin: its exit code."""
        if self.process.stdin and not self.process.stdin.closed:
            self.process.stdin.close()
        try:
            return self.process.wait(timeout)
        finally:
            self.process.stdout.close()
            self.process.stderr.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            if stream and not stream.closed:
                try:
                    stream.close()
                except OSError:
                    pass


def enhanced(result):
    return "%d.%d.%d" % (result.e_class, result.e_subject, result.e_detail)


def stage(result):
    return STAGES[result.stage]
