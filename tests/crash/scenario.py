"""scenario - the mail that is sent while things break, and the world around: clients that know exactly how far they came, a sink that journals.

Addresses: joe, ann, sam are Maildirs here; sam sends; smtpd knows no `nobody`. At far.example the sink takes anybody's mail but `bad` (550) and,
while its gate is shut, `slow` and `later` (451).
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
from ledger import CHECK, Arrivals, Ledger, Message
from sink import Sink

SAM, JOE, ANN, NOBODY = (f"{box}@{DOMAIN}" for box in ("sam", "joe", "ann", "nobody"))
FAR, BAD, SLOW, LATER = (f"{box}@far.example" for box in ("any", "bad", "slow", "later"))
LARGE = 140000


class World:
    """The sink, the ledger, and the clock of one run."""

    def __init__(self, cell, messages):
        self.cell, self.ledger, self.lock = cell, Ledger(messages), threading.Lock()
        self.gate_open = False
        self.arrived = []              # octets the sink took: (rcpt, octets)
        self.windows = {}              # key: (begin, end) of its sending, CLOCK_MONOTONIC
        rules = {"RCPT": {BAD: "550 5.1.1 no such user", SLOW: self.slow, LATER: self.later}}
        self.sink = Sink(ADDRESS, SINK_PORT, rules)
        self.sink.take = self.take

    def slow(self, connection, line):
        return None if self.gate_open else "451 4.3.0 later"

    def later(self, connection, line):
        if "k-held" in self.ledger.held:
            self.note("E k-held")
        return self.slow(connection, line)

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

    def own_server(self, message, wrap=()):
        """A session as tcpserver starts it."""
        begin = time.monotonic()
        ours, theirs = socket.socketpair()
        with open(f"{self.cell.root}/log/session", "ab") as log:
            process = subprocess.Popen([*wrap, f"{self.cell.libexec}/smtpd"], stdin=theirs, stdout=theirs, stderr=log, env={"TCPREMOTEIP": ADDRESS})
        theirs.close()
        try:
            client = Client(ours)
            client.send(self, message)
            client.close()
        except (OSError, Lost):
            ours.close()
        process.wait(60)
        self.windows[message.key] = (begin, time.monotonic())

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
        """Asks more and more seldom: most conditions start a program to look."""
        end, pause = time.monotonic() + seconds, 0.04
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(pause)
            pause = min(2 * pause, 0.3)
        return True

    def held_still(self):
        """What was held and not released is held after whatever happened."""
        rows = lambda: {row["queue_id"]: row["state"] for row in self.cell.queue()}
        ids = {key: self.ledger.ids[key] for key in self.ledger.held}
        self.wait_for(lambda: all(rows().get(id) == "held" for id in ids.values()), 3)
        return [("lost", f"the hold of {key}: it is {rows().get(id, 'gone')}") for key, id in ids.items() if rows().get(id) != "held"]

    def drain(self):
        """Until nothing is in the queue: violations when that takes too long, or when things are not right before. A report that was lost between
        queued and bounce is made anew after minutes, or when queued starts anew; so that is done once, and only then is a message stuck."""
        self.cell.wait_ready()
        found = self.held_still() + [(CHECK, text) for text in self.cell.check("before the drain")]
        for key in list(self.ledger.held):
            self.note(f"U {key}")
        self.gate_open = True
        for tries in range(2):
            if tries > 0:
                self.cell.restart("queued")
            self.cell.wait_ready()
            for command in (("release", "--all"), ("flush",)):
                self.wait_for(lambda: self.cell.tappal("queue", *command).returncode in (0, 1), 12)
            if self.wait_for(self.settled, 12):
                return found
        return found + [("lost", f"the queue does not drain: {self.cell.queue()}")]

    def settled(self):
        """The tools see what was committed: queued commits when it has been idle for a moment, and when it ends; not if a fault that comes late
        kills it then."""
        if self.cell.queue() or os.listdir(f"{self.cell.spool}/large"):
            return False
        ended_well = self.cell.restart("queued")
        self.cell.wait_ready()
        return ended_well and not self.cell.queue()

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

    def __init__(self, sock=None):
        self.sock = sock or socket.create_connection((ADDRESS, PORT), 5)
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
            self.sock.sendall(b"RCPT TO:<%s>\r\n" % rcpt.encode())
            reply = self.reply()
            if rcpt == NOBODY and reply[:1] == b"5":
                world.note(f"N {message.key} {rcpt}")
            else:
                self.expect(reply, b"2")
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

COMMANDS = ("hold", "delete", "bounce", "retry", "release")


def waiting_messages():
    """Those that an operator finds waiting."""
    return [Message("k-slow", f"other@{DOMAIN}", [SLOW]), Message("k-gone", f"another@{DOMAIN}", [SLOW]),
            Message("k-held", f"other@{DOMAIN}", [LATER]), Message("k-back", SAM, [SLOW])]


def small_messages():
    return waiting_messages() + [
        Message("k-two", SAM, [JOE, FAR]),
        Message("k-bad", SAM, [BAD, NOBODY, ANN], 5000),
        Message("k-broken", SAM, [JOE], broken=True),
        Message("k-large", SAM, [ANN, FAR], LARGE),
        Message("k-script", SAM, [JOE]),
        Message("k-session", SAM, [JOE]),
    ]


def play_small(world, wraps):
    """Every way in, every way out, and an operator, in two seconds. wraps: what stands before a command, by its name."""
    m = world.ledger.messages
    world.smtp([m["k-slow"], m["k-gone"], m["k-held"], m["k-back"]])
    parts = [[m["k-two"], m["k-bad"], m["k-broken"]], [m["k-large"]]]
    clients = [threading.Thread(target=world.smtp, args=(part,)) for part in parts]
    clients.append(threading.Thread(target=world.own_server, args=(m["k-session"], wraps.get("session", ()))))
    for client in clients:
        client.start()
    world.one_shot(m["k-script"], wraps.get("script", ()))
    operate(world, wraps)
    for client in clients:
        client.join(90)


def operate(world, wraps=None):
    """Each command once, of messages that wait; what was answered must hold. One of them stays held."""
    ids, tell = world.ledger.ids, lambda *words: command(world, wraps or {}, *words)
    if tell("hold", "k-held"):
        world.note("H k-held")
    if "k-gone" in ids and world.wait_for(lambda: any(row["queue_id"] == ids["k-gone"] for row in world.cell.queue()), 3):
        world.note("D k-gone")
    if "k-gone" in world.ledger.asked and tell("delete", "k-gone"):
        world.note("X k-gone")
    if tell("bounce", "k-back"):
        world.note("Y k-back")
    tell("retry", "k-slow")
    tell("hold", "k-slow")
    tell("release", "k-slow")


def command(world, wraps, word, key):
    """True: it was done, queued says. What stands before a command does so once."""
    if key not in world.ledger.ids:
        return False
    r = world.cell.tappal("queue", word, "--json", world.ledger.ids[key], wrap=wraps.pop(f"tappal-{word}", ()))
    return r.returncode == 0 and '"done": true' in r.stdout
