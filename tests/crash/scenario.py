"""scenario - the mail that is sent while things break, and the world around: clients that know exactly how far they came, a sink that journals.

Addresses: joe, ann, sam are Maildirs here; sam sends. At far.example the sink takes anybody's mail but `bad` (550) and, while its gate is shut,
`slow` (451).
"""
import os
import re
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from cell import ACCOUNT, ADDRESS, DOMAIN, MAILBOXES, PORT, SINK_PORT
from instance import envelope
from ledger import Arrivals, Ledger, Message
from sink import Sink

SAM, JOE, ANN = (f"{box}@{DOMAIN}" for box in ("sam", "joe", "ann"))
FAR, BAD, SLOW = "any@far.example", "bad@far.example", "slow@far.example"
LARGE = 140000


class World:
    """The sink, the ledger, and the clock of one run."""

    def __init__(self, cell, messages):
        self.cell, self.ledger, self.lock = cell, Ledger(messages), threading.Lock()
        self.gate_open = False
        self.arrived = []              # octets the sink took: (rcpt, octets)
        self.windows = {}              # key: (begin, end) of its sending, CLOCK_MONOTONIC
        rules = {"RCPT": {BAD: "550 5.1.1 no such user", SLOW: self.slow}}
        self.sink = Sink(ADDRESS, SINK_PORT, rules)
        self.sink.take = self.take

    def slow(self, connection, line):
        return None if self.gate_open else "451 4.3.0 later"

    def take(self, message):
        for line in message.rcpts if message.reply.startswith(b"2") else ():
            rcpt = re.search(rb"<(.*?)>", line)[1].decode()
            self.arrived.append((rcpt, message.data))
            key = re.search(rb"X-Key: (k[0-9a-z-]+);", message.data)
            self.note(f"G {key[1].decode() if key else '?'} {rcpt}")

    def note(self, text):
        with self.lock:
            self.cell.mark(text)
            self.ledger.note(text)

    def stop(self):
        self.sink.stop()

    # ---- clients
    def smtp(self, messages):
        """One connection for some messages; a message whose connection was lost is not sent again."""
        client = None
        for m in messages:
            begin = time.monotonic()
            try:
                client = client or Client()
                client.send(self, m)
            except (OSError, Lost):
                client = client and client.close()
            self.windows[m.key] = (begin, time.monotonic())
        if client:
            client.close()

    def one_shot(self, message, wrap=()):
        """enqueue as a script of a user runs it. Its message has LF line ends."""
        begin = time.monotonic()
        r, w = os.pipe()
        process = subprocess.Popen([*wrap, f"{self.cell.libexec}/enqueue"], stdin=subprocess.PIPE, stdout=r, stderr=subprocess.DEVNULL,
                                   user=None if wrap else ACCOUNT)
        os.close(r)
        try:
            process.stdin.write(message.body.replace(b"\r\n", b"\n"))
            process.stdin.close()
            self.note(f"S {message.key}")
            os.write(w, envelope(message.sender, message.recipients))
        except BrokenPipeError:
            pass
        os.close(w)
        code = process.wait(60)
        self.windows[message.key] = (begin, time.monotonic())
        if code == 0:
            self.note(f"A {message.key}")
        elif 0 < code < 100:     # killed is neither
            self.note(f"{'R' if 11 <= code <= 40 else 'T'} {message.key}")

    # ---- the end
    def wait_for(self, condition, seconds):
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def drain(self):
        """Until nothing is in the queue: violations when that takes too long. A report that was lost between queued and bounce is made
        anew after minutes, or when queued starts anew; so that is done once, and only then is a message stuck."""
        self.gate_open = True
        for tries in range(2):
            if tries > 0:
                self.cell.restart("queued")
            self.cell.wait_ready()
            for command in (("release", "--all"), ("flush",)):
                self.wait_for(lambda: self.cell.tappal("queue", *command).returncode in (0, 1), 12)
            if self.wait_for(self.settled, 12):
                return []
        return [("lost", f"the queue does not drain: {self.cell.queue()}")]

    def settled(self):
        """The tools see what was committed: queued commits when it has been idle for a moment, and when it ends."""
        if self.cell.queue() or os.listdir(f"{self.cell.spool}/large"):
            return False
        self.cell.restart("queued")
        self.cell.wait_ready()
        return not self.cell.queue()

    def arrivals(self):
        out = Arrivals()
        for box in MAILBOXES:
            out.mailbox(box, self.cell.maildir(box), self.ledger)
        for rcpt, octets in self.arrived:
            out.message(rcpt, octets, self.ledger)
        return out

    def forgive(self, moments):
        """A temporary refusal whose sending met a fault says nothing about the log."""
        for key, state in self.ledger.state.items():
            begin, end = self.windows.get(key, (0, 0))
            if state == "T" and not any(begin <= moment <= end for moment in moments):
                self.ledger.state[key] = "R"


class Lost(Exception):
    """The connection is gone, or the server refused where it should not."""


class Client:
    """SMTP, spoken so that it is known what was told when."""

    def __init__(self):
        self.sock = socket.create_connection((ADDRESS, PORT), 5)
        self.sock.settimeout(30)
        self.buffer = b""
        self.expect(self.reply(), b"220")
        self.command(b"EHLO client.tappal")

    def close(self):
        try:
            self.sock.sendall(b"QUIT\r\n")
        except OSError:
            pass
        self.sock.close()

    def reply(self):
        while True:
            lines = self.buffer.split(b"\r\n")
            for i, line in enumerate(lines[:-1]):
                if line[3:4] != b"-":
                    self.buffer = b"\r\n".join(lines[i + 1:])
                    return line
            got = self.sock.recv(4096)
            if not got:
                raise Lost("closed")
            self.buffer += got

    @staticmethod
    def expect(reply, want):
        if not reply.startswith(want):
            raise Lost(reply.decode(errors="replace"))

    def command(self, line, want=b"2"):
        self.sock.sendall(line + b"\r\n")
        self.expect(self.reply(), want)

    def send(self, world, message):
        self.command(b"MAIL FROM:<%s>" % message.sender.encode())
        for rcpt in message.recipients:
            self.command(b"RCPT TO:<%s>" % rcpt.encode())
        self.command(b"DATA", b"354")
        data = message.body.replace(b"\r\n.", b"\r\n..")
        if message.broken:
            data = data.replace(b"\r\n\r\n", b"\r\n\r\nbare\nline\r\n", 1)
        self.sock.sendall(data)
        world.note(f"S {message.key}")
        self.sock.sendall(b".\r\n")
        reply = self.reply()
        world.note(f"{'A' if reply[:1] == b'2' else 'R' if reply[:1] == b'5' else 'T'} {message.key}")
        if found := re.search(rb"queued as (\S+)", reply):
            world.note(f"I {message.key} {found[1].decode()}")


# ---- the scenarios

def small_messages():
    return [
        Message("k-two", SAM, [JOE, FAR]),
        Message("k-bad", SAM, [BAD, ANN], 5000),
        Message("k-broken", SAM, [JOE], broken=True),
        Message("k-large", SAM, [ANN, FAR], LARGE),
        Message("k-script", SAM, [JOE]),
        Message("k-slow", f"other@{DOMAIN}", [SLOW]),
        Message("k-gone", f"another@{DOMAIN}", [SLOW]),
    ]


def play_small(world, wrap_script=(), wrap_tappal=()):
    """Every way in, every way out, and an operator, in two seconds."""
    m = world.ledger.messages
    world.smtp([m["k-slow"], m["k-gone"]])
    clients = [threading.Thread(target=world.smtp, args=(part,)) for part in ([m["k-two"], m["k-bad"], m["k-broken"]], [m["k-large"]])]
    for client in clients:
        client.start()
    world.one_shot(m["k-script"], wrap_script)
    operate(world, wrap_tappal)
    for client in clients:
        client.join(90)


def operate(world, wrap=()):
    """Hold one waiting message and delete another; what was answered must hold."""
    slow, gone = world.ledger.ids.get("k-slow"), world.ledger.ids.get("k-gone")
    if slow:
        world.cell.tappal("queue", "hold", slow)
    if gone and world.wait_for(lambda: any(row["queue_id"] == gone for row in world.cell.queue()), 3):
        world.note("D k-gone")
        r = world.cell.tappal("queue", "delete", "--json", gone, wrap=wrap)
        if r.returncode == 0 and '"done": true' in r.stdout:
            world.note("X k-gone")
    if slow:
        world.cell.tappal("queue", "release", slow)
