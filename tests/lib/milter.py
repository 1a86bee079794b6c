"""A milter that does what a test tells it: it answers each command from a script, and remembers what it was told.

    Milter({"RCPT": [REJECT]})           answers every RCPT with that, all else with CONTINUE
    Milter({"END": [add(b"X", b"y"), CONTINUE]})
Answers are octets of whole packets (or of anything), or CLOSE, or SILENT; a callable is asked each time with the command's data.
"""
import os
import socket
import struct
import threading

KINDS = {b"A": "ABORT", b"B": "BODY", b"C": "CONNECT", b"D": "MACRO", b"E": "END", b"H": "HELO", b"K": "QUIT_NEW", b"L": "HEADER", b"M": "MAIL", b"N": "EOH",
         b"O": "OPTIONS", b"Q": "QUIT", b"R": "RCPT", b"T": "DATA", b"U": "UNKNOWN"}
UNANSWERED = {"ABORT", "MACRO", "QUIT", "QUIT_NEW"}
MUTE = {"HEADER": 0x80, "CONNECT": 0x1000, "HELO": 0x2000, "MAIL": 0x4000, "RCPT": 0x8000, "DATA": 0x10000, "UNKNOWN": 0x20000, "EOH": 0x40000, "BODY": 0x80000}


def packet(kind, data=b""):
    return struct.pack(">I", len(data) + 1) + kind + data


CONTINUE, ACCEPT, REJECT, TEMPFAIL, DISCARD, SKIP, PROGRESS, SHUTDOWN, FAIL = (packet(k) for k in (b"c", b"a", b"r", b"t", b"d", b"s", b"p", b"4", b"f"))
CLOSE, SILENT = "close", "silent"


def reply(text):
    return packet(b"y", text + b"\0")


def options(actions=0x1ff, steps=0, version=6, macros=()):
    lists = b"".join(struct.pack(">I", stage) + names + b"\0" for stage, names in macros)
    return packet(b"O", struct.pack(">III", version, actions, steps) + lists)


def add(name, value):
    return packet(b"h", name + b"\0" + value + b"\0")


def insert(index, name, value):
    return packet(b"i", struct.pack(">I", index) + name + b"\0" + value + b"\0")


def change(index, name, value):
    return packet(b"m", struct.pack(">I", index) + name + b"\0" + value + b"\0")


def texts(kind, *words):
    return packet(kind, b"".join(w + b"\0" for w in words))


class Milter:
    def __init__(self, script=None, path=None, steps=0, **agreed):
        self.script, self.steps, self.options = dict(script or {}), steps, options(steps=steps, **agreed)
        self.heard, self.macros, self.connections, self.lock = [], [], 0, threading.Lock()
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        if path and os.path.exists(path):
            os.unlink(path)
        self.listener.bind(path or ("127.0.0.1", 0))
        if path:
            os.chmod(path, 0o777)
        self.line = f"unix:{path}" if path else "inet:127.0.0.1:%d" % self.listener.getsockname()[1]
        self.listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def names(self):
        """Names of the commands so far, macros left out."""
        with self.lock:
            return [name for name, _ in self.heard]

    def told(self, name):
        """Data of each command of that name."""
        with self.lock:
            return [data for n, data in self.heard if n == name]

    def macro(self, kind, name):
        """Its value as it was told last before commands of this kind."""
        with self.lock:
            for data in reversed(self.macros):
                words = data[1:].split(b"\0")
                if KINDS[data[:1]] == kind and name in words[::2]:
                    return words[words.index(name) + 1]
        return None

    def _accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with connection, connection.makefile("rb") as stream:
            try:
                while self._one(connection, stream):
                    pass
            except OSError:
                pass

    def _one(self, connection, stream):
        head = stream.read(5)
        if len(head) < 5 or struct.unpack(">I", head[:4])[0] - 1 > 65535:   # libmilter hangs up at longer ones
            return False
        data, name = stream.read(struct.unpack(">I", head[:4])[0] - 1), KINDS[head[4:]]
        with self.lock:
            (self.macros if name == "MACRO" else self.heard).append(data if name == "MACRO" else (name, data))
        if name == "QUIT":
            return False
        if name in UNANSWERED or self.steps & MUTE.get(name, 0):
            return True
        answers = self.script.get(name, [self.options] if name == "OPTIONS" else [CONTINUE])
        for answer in answers(data) if callable(answers) else answers:
            if answer == CLOSE:
                return False
            if answer == SILENT:
                stream.read()
                return False
            connection.sendall(answer)
        return True
