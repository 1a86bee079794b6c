"""A spool and the programs of the queue under a root of their own, without starting anything: for tests that put one program under load
and stand for its neighbours themselves.

    with Instance("q1", ["queue/enqueue", "queue/queued"]) as i:
        queued = i.start("queued")
        code, text = i.enqueue(b"Subject: x\\n\\nhello\\n", "a@example.org", ["b@example.net"])
        i.fifo("report-remote")      path of fifo/report-remote
"""
import os
import select
import shutil
import signal
import socket
import subprocess
import time

from building import ROOTS, TOP, put_programs


def envelope(sender, recipients, attributes=()):
    """The octets of common/envelope.h."""
    fields = [b"F" + sender.encode()] + [a.encode() for a in attributes] + [b"T" + r.encode() for r in recipients]
    return b"".join(f + b"\0" for f in fields) + b"\0"


class Instance:
    def __init__(self, name, programs, settings=None):
        self.root = f"{ROOTS}/{name}"
        self.etc, self.spool, self.libexec = f"{self.root}/etc/tappal", f"{self.root}/var/spool/tappal", f"{self.root}/usr/libexec/tappal"
        self.programs = programs
        self.settings = {"me": "queue.tappal", "locals": "queue.tappal", "freespace": "1M"}
        self.settings.update(settings or {})
        self.started, self.helpers = [], []   # processes; threads that go on as long as they are `going`

    # ---- the tree
    def __enter__(self):
        self.remove()
        for directory in (ROOTS, self.root, self.etc, self.spool, self.libexec, f"{self.root}/run/tappal"):
            os.makedirs(directory, exist_ok=True)
            os.chmod(directory, 0o755)
        subprocess.run(["sh", f"{TOP}/etc/accounts"], check=True, stdout=subprocess.DEVNULL)
        put_programs(self.root, self.programs, self.libexec)
        subprocess.run(["sh", f"{TOP}/etc/spool-tree", self.root], check=True)
        for key, value in self.settings.items():
            self.set(key, value)
        return self

    def __exit__(self, *_):
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.wait()
        for helper in self.helpers:
            helper.going = False
        for helper in self.helpers:
            helper.join(120)
        for name in self.programs:      # shown by pytest with a failure
            print(self.log(os.path.basename(name)), end="")
        self.remove()

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)

    def fifo(self, name):
        return f"{self.spool}/fifo/{name}"

    def set(self, key, value):
        with open(f"{self.etc}/{key}", "w") as f:
            f.write("".join(f"{line}\n" for line in ([value] if isinstance(value, str) else value)))

    def forget_warnings(self):
        """What smtpd's sessions say once a minute together may be said again."""
        if os.path.exists(f"{self.spool}/draft/said"):
            os.unlink(f"{self.spool}/draft/said")

    def intake_files(self):
        return sorted(os.listdir(f"{self.spool}/intake"))

    # ---- programs
    def start(self, name, *arguments, stderr=None):
        """Start a program; its stderr goes to ROOT/NAME.log."""
        with open(f"{self.root}/{name}.log", "ab") as log:
            process = subprocess.Popen([f"{self.libexec}/{name}", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=stderr or log)
        self.started.append(process)
        return process

    def log(self, name="queued"):
        try:
            return open(f"{self.root}/{name}.log", errors="replace").read()
        except OSError:
            return ""

    def start_queued(self, seconds=120):
        """Start queued and wait until it reads its fifo."""
        process = self.start("queued")
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                os.close(os.open(self.fifo("intake"), os.O_WRONLY | os.O_NONBLOCK))
                return process
            except OSError:
                if process.poll() is not None:
                    raise RuntimeError(f"queued ended with {process.returncode}: {self.log()[-2000:]}")
                time.sleep(0.01)
        raise RuntimeError("queued does not read fifo/intake: " + self.log()[-2000:])

    def kill(self, process, sig=signal.SIGKILL):
        process.send_signal(sig)
        return process.wait(120)

    def enqueue(self, message, sender="sender@example.org", recipients=("rcpt@example.net",), raw=None, user=None, timeout=120):
        """One shot: exit code and what it said. `raw`: the envelope's octets instead of sender and recipients. `user`: who calls."""
        process, envelope_end = self.enqueue_start(user)
        octets = raw if raw is not None else envelope(sender, recipients)
        try:
            process.stdin.write(message)
            process.stdin.close()
        except BrokenPipeError:
            pass
        try:
            os.write(envelope_end, octets)
        except BrokenPipeError:
            pass
        os.close(envelope_end)
        process.wait(timeout)
        text = process.stderr.read().decode(errors="replace")
        process.stderr.close()
        return process.returncode, text

    def enqueue_start(self, user=None):
        """The running process and the descriptor of its envelope, nothing written yet."""
        r, w = os.pipe()
        process = subprocess.Popen([f"{self.libexec}/enqueue"], stdin=subprocess.PIPE, stdout=r, stderr=subprocess.PIPE, user=user, bufsize=0)
        os.close(r)
        return process, w

    def session(self, user="tappal-smtpd"):
        return Session(self, user)

    def lending_session(self, user="tappal-smtpd"):
        return LendingSession(self, user)


class Session:
    """`enqueue -s`, spoken to in records."""

    def __init__(self, instance, user):
        import records
        self.records = records
        self.process = subprocess.Popen([f"{instance.libexec}/enqueue", "-s"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, user=user, bufsize=0)
        self.stream = records.Stream(self.process.stdout.fileno())

    def write(self, octets):
        self.process.stdin.write(octets)

    def message(self, body, sender="sender@example.org", recipients=("rcpt@example.net",), attributes=("PESMTP",), id_offset=0, commit=True, claim=None,
                raw=None):
        encode = self.records.encode
        octets = raw if raw is not None else envelope(sender, recipients, attributes)
        out = bytearray(encode("mail_begin", id_offset=id_offset))
        for at in range(0, len(octets), 32768):
            out += encode("envelope_part", octets=octets[at:at + 32768])
        for at in range(0, len(body), 65000):
            out += encode("body_part", octets=body[at:at + 65000])
        if commit:
            out += encode("mail_commit", body_size=len(body) if claim is None else claim)
        self.write(out)

    def send(self, body, timeout=120, **keys):
        """A whole message: exit code and id."""
        self.message(body, **keys)
        answer = self.stream.next(timeout)
        if answer is None:
            return None, 0
        return answer.result, answer.id

    def carry(self, body, **keys):
        return self.send(body, **keys)

    def close(self, timeout=120):
        self.process.stdin.close()
        self.process.stdout.close()
        return self.process.wait(timeout)


class LendingSession(Session):
    """The same over a socket, by which `enqueue -s` lends its ack fifo, as smtpd has it."""

    def __init__(self, instance, user):
        import records
        self.records = records
        self.socket, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with end:
            self.process = subprocess.Popen([f"{instance.libexec}/enqueue", "-s"], stdin=subprocess.PIPE, stdout=end, stderr=subprocess.DEVNULL,
                                            user=user, bufsize=0)
        self.acks, self.number, self.fds, self.owed = None, 0, [], None

    def lent(self, fds):
        """The fifo that is lent from now on."""
        self.fds += fds
        self.acks = self.records.Stream(fds[0]) if fds else None

    def send(self, body, timeout=120, **keys):
        self.message(body, **keys)
        return self.result(timeout)

    def result(self, timeout=120):
        """enqueue's own answer."""
        self.socket.settimeout(timeout)
        octets, fds, _, _ = socket.recv_fds(self.socket, 1000, 4)
        self.lent(fds)
        answer, _ = self.records.decode(octets)
        return (answer.result, answer.id) if answer else (None, 0)

    def offer(self, body, **keys):
        self.number += 1
        self.message(body, commit=False, **keys)
        self.write(self.records.encode("mail_offer", body_size=len(body), token_b=self.number))

    def ack(self, timeout=120):
        """queued's answer to what was offered last. What was offered again may have been answered twice."""
        while True:
            ack = self.acks.want("ack", timeout)
            if ack.token_b == self.number:
                return ack

    def answered(self, ack):
        self.write(self.records.encode("mail_answered", token_a=ack.token_a))

    def carry(self, body, patience=1, **keys):
        """As smtpd does it (smtpd/ask/enqueuer.h): whoever tells the answer. Exit code and id."""
        if self.owed:
            self.answered(self.owed)
        self.owed = None
        if self.acks is None or len(body) > 65536:
            return self.send(body, **keys)
        self.offer(body, **keys)
        end = time.monotonic() + patience
        while (left := end - time.monotonic()) > 0:
            ready = select.select([self.acks.fd, self.socket], [], [], left)[0]
            ack = self.acks.next(1) if self.acks.fd in ready else None
            if ack and ack.token_b == self.number:
                self.owed = ack
                return ack.result, ack.id
            if self.socket in ready:
                return self.result()
        self.unanswered()
        return self.result()

    def unanswered(self):
        self.write(self.records.encode("mail_unanswered"))

    def close(self, timeout=120):
        self.process.stdin.close()
        self.socket.close()
        for fd in self.fds:
            os.close(fd)
        return self.process.wait(timeout)
