"""A hostile SMTP sink: answers every verb as it is told to, and journals what it got octet by octet.

    with Sink(rules={"RCPT": {"bad@example.tappal": "550 5.1.1 no such user"}, ".": [Stall(), "250 ok"]}) as sink:
        ... deliver to 127.0.0.1 port sink.port ...
        assert sink.messages()[0].data == b"..."

Rules are keyed by verb: CONNECT (the greeting), EHLO, HELO, MAIL, RCPT, DATA, BDAT (but the last), "." (the end of the data), RSET, NOOP, QUIT, STARTTLS,
or any other word; "*" is for verbs without a rule of their own. A rule is
    a str or bytes      a whole reply; CRLF is added; "\\n" in it separates the lines of a multi-line reply and is sent as CRLF
    an action           Raw, Delay, Hangup, Reset, Stall, Flood, Dribble: see each class
    a list              one rule for each use of the verb in this sink's life (all connections together), the last one stays
    a dict              by the address between < and > of MAIL or RCPT; key None: all others
    a callable          rule(connection, line) -> any of the above, or None for the standard reply
Without a rule the sink is an honest server. It listens on loopback addresses only. Bounded: each connection is a thread, ended by stop().
"""
import argparse
import select
import socket
import struct
import threading
import time


class Raw:
    """Exactly these octets, no CRLF added."""
    def __init__(self, octets):
        self.octets = octets


class Delay:
    """Wait, then do what `then` says (None: the standard reply)."""
    def __init__(self, seconds, then=None):
        self.seconds, self.then = seconds, then


class Hangup:
    """Send `say` (a rule, or None for nothing), then close the connection in order."""
    def __init__(self, say=None):
        self.say = say


class Reset:
    """Close the connection with a TCP reset."""


class Stall:
    """Send `say` if given, then nothing ever again; the connection stays open until the peer or stop() ends it."""
    def __init__(self, say=None):
        self.say = say


class Flood:
    """Send `octets` over and over, `times` times at most or until the peer goes away, then `then`."""
    def __init__(self, octets, times=1000000, then=None):
        self.octets, self.times, self.then = octets, times, then


class Dribble:
    """Send octets one by one with `pause` seconds after each. CRLF is not added."""
    def __init__(self, octets, pause=0.01):
        self.octets, self.pause = octets, pause


class Gone(Exception):
    """The connection is over."""


class Message:
    """One transaction that reached the final dot."""
    def __init__(self, mail, rcpts):
        self.mail = mail          # the MAIL line as it came, without CRLF
        self.rcpts = rcpts        # the RCPT lines that got a 2xx
        self.wire = b""           # octets after DATA's CRLF up to and with CRLF.CRLF, dots still stuffed
        self.chunks = None        # or those of BDAT, one for each
        self.reply = b""          # what was answered to the final dot

    @property
    def data(self):
        """The body: dots unstuffed, without the terminating dot line; or what came in chunks."""
        if self.chunks is not None:
            return b"".join(self.chunks)
        body = self.wire[:-3]
        out = [line[1:] if line.startswith(b".") else line for line in body.split(b"\r\n")]
        return b"\r\n".join(out)


STANDARD = {
    "CONNECT": "220 sink.invalid ESMTP", "HELO": "250 sink.invalid", "MAIL": "250 2.1.0 sender ok", "RCPT": "250 2.1.5 recipient ok",
    "DATA": "354 go on", "BDAT": "250 2.0.0 go on", ".": "250 2.0.0 taken", "RSET": "250 2.0.0 reset", "NOOP": "250 2.0.0 ok", "QUIT": "221 2.0.0 bye",
}


class Connection:
    def __init__(self, sink, sock, peer, number):
        self.sink, self.sock, self.peer, self.number = sink, sock, peer, number
        self.received = b""       # every octet the peer sent
        self.reads = []           # (seconds since the connection began, octets) for each read: shows what came in one write
        self.commands = []        # command lines without CRLF, in order
        self.sent = b""
        self.began = time.monotonic()
        self.ended = None         # "peer" closed, "we" closed, "stopped", or the error's text
        self.buffer = b""
        self.mail, self.rcpts, self.chunked = None, [], None

    # ---- octets
    def fill(self):
        while True:
            if self.sink.stopping:
                raise Gone("stopped")
            if select.select([self.sock], [], [], 0.05)[0]:
                break
        got = self.sock.recv(65536)
        if not got:
            raise Gone("peer")
        self.received += got
        self.buffer += got
        self.reads.append((time.monotonic() - self.began, got))

    def send(self, octets):
        view = memoryview(octets)
        while view:
            if self.sink.stopping:
                raise Gone("stopped")
            if not select.select([], [self.sock], [], 0.05)[1]:
                continue
            n = self.sock.send(view)
            if len(self.sent) < 1000000:
                self.sent += bytes(view[:n])
            view = view[n:]

    def until(self, mark):
        """Octets up to and with `mark`, taken from the stream."""
        start = 0
        while True:
            at = self.buffer.find(mark, start)
            if at >= 0:
                taken, self.buffer = self.buffer[:at + len(mark)], self.buffer[at + len(mark):]
                return taken
            start = max(0, len(self.buffer) - len(mark) + 1)
            self.fill()

    def exactly(self, n):
        while len(self.buffer) < n:
            self.fill()
        taken, self.buffer = self.buffer[:n], self.buffer[n:]
        return taken

    # ---- rules
    def standard(self, verb):
        if verb == "EHLO":
            lines = ["sink.invalid"] + list(self.sink.extensions)
            return "\n".join("250%s%s" % ("-" if i + 1 < len(lines) else " ", text) for i, text in enumerate(lines))
        return STANDARD.get(verb, "502 5.5.1 unknown command")

    def rule(self, verb, line):
        return self.resolve(self.sink.rule_of(verb), verb, line)

    def resolve(self, rule, verb, line):
        if callable(rule):
            rule = rule(self, line)
        if isinstance(rule, dict):
            text = line.decode("utf-8", "surrogateescape")
            address = text[text.find("<") + 1:text.rfind(">")]
            return self.resolve(rule.get(address, rule.get(None)), verb, line)
        if isinstance(rule, list):
            return self.resolve(self.sink.next_of(verb, rule), verb, line)
        return self.standard(verb) if rule is None else rule

    @staticmethod
    def reply_octets(rule):
        octets = rule.encode("utf-8", "surrogateescape") if isinstance(rule, str) else rule
        return octets.replace(b"\n", b"\r\n") + b"\r\n"

    def act(self, rule, verb):
        """Carry out a rule; returns the reply's octets, as far as there was one."""
        if isinstance(rule, (str, bytes)):
            octets = self.reply_octets(rule)
            self.send(octets)
            return octets
        if isinstance(rule, Raw):
            self.send(rule.octets)
            return rule.octets
        if isinstance(rule, Dribble):
            for i in range(len(rule.octets)):
                self.send(rule.octets[i:i + 1])
                time.sleep(rule.pause)
            return rule.octets
        if isinstance(rule, Delay):
            self.pause(rule.seconds)
            return self.act(self.standard(verb) if rule.then is None else rule.then, verb)
        if isinstance(rule, Flood):
            block = rule.octets * max(1, 65536 // len(rule.octets))
            count = max(1, 65536 // len(rule.octets))
            left = rule.times
            while left > 0:
                n = min(left, count)
                self.send(block[:n * len(rule.octets)])
                left -= n
            return self.act(rule.then, verb) if rule.then is not None else b""
        self.end(rule, verb)

    def end(self, rule, verb):
        if isinstance(rule, (Hangup, Stall)) and rule.say is not None:
            self.act(rule.say, verb)
        if isinstance(rule, Stall):
            while True:
                self.fill()
        if isinstance(rule, Reset):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif not isinstance(rule, Hangup):
            raise TypeError("no rule: %r" % (rule,))
        raise Gone("we")

    def pause(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.sink.stopping:
            time.sleep(min(0.02, seconds))

    # ---- the dialogue
    def serve(self):
        self.act(self.rule("CONNECT", b""), "CONNECT")
        while True:
            line = self.until(b"\r\n")[:-2]
            self.commands.append(line)
            verb = line.split(b" ")[0].split(b":")[0].decode("latin-1").upper()
            if verb == "BDAT":
                self.chunk(line)
                continue
            reply = self.act(self.rule(verb, line), verb) or b""
            self.follow(verb, line, reply)
            if verb == "QUIT":
                raise Gone("we")

    def follow(self, verb, line, reply):
        good = reply[:1] == b"2"
        if verb in ("EHLO", "HELO", "RSET") and good:
            self.mail, self.rcpts, self.chunked = None, [], None
        elif verb == "MAIL" and good:
            self.mail, self.rcpts, self.chunked = line, [], None
        elif verb == "RCPT" and good:
            self.rcpts.append(line)
        elif verb == "DATA" and reply[:3] == b"354":
            self.data()

    def data(self):
        message = Message(self.mail, self.rcpts)
        self.buffer = b"\r\n" + self.buffer
        rule = self.sink.during_data
        while rule is not None and b"\r\n.\r\n" not in self.buffer:
            if len(self.buffer) - 2 >= rule[0]:
                self.act(rule[1], "DATA")
                rule = None
            else:
                self.fill()
        message.wire = self.until(b"\r\n.\r\n")[2:]
        self.whole(message)

    def chunk(self, line):
        """RFC 3030: the octets, then a reply; the last chunk's is that of the rule "."."""
        words = line.split(b" ")
        octets = self.exactly(int(words[1]))
        if self.chunked is None:
            self.chunked = Message(self.mail, self.rcpts)
            self.chunked.chunks = []
        self.chunked.chunks.append(octets)
        if words[2:] == [b"LAST"]:
            self.whole(self.chunked)
        else:
            self.act(self.rule("BDAT", line), "BDAT")

    def whole(self, message):
        rule = self.rule(".", b"")
        if isinstance(rule, (str, bytes)):     # in the journal before the peer can know: a test may look at once
            message.reply = self.reply_octets(rule)
            self.sink.take(message)
            self.act(rule, ".")
        else:
            message.reply = self.act(rule, ".") or b""
            self.sink.take(message)
        self.mail, self.rcpts, self.chunked = None, [], None

    def run(self):
        try:
            self.serve()
        except Gone as gone:
            self.ended = str(gone)
        except OSError as error:
            self.ended = str(error)
        finally:
            try:
                self.sock.close()
            except OSError:
                pass
            with self.sink.lock:
                self.sink.open_now -= 1
                self.sink.changed.notify_all()


class Sink:
    """port 0: any free one. during_data: (octets, rule): carried out when that many octets of a message came."""
    def __init__(self, host="127.0.0.1", port=0, rules=None, extensions=("PIPELINING", "SIZE 10000000", "8BITMIME"), during_data=None):
        if not (host.startswith("127.") or host == "::1"):
            raise ValueError("the sink listens on loopback addresses only")
        self.host, self.rules, self.extensions, self.during_data = host, dict(rules or {}), extensions, during_data
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.connections, self.taken, self.uses = [], [], {}
        self.open_now, self.open_most = 0, 0
        self.stopping = False
        self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((host, port))
        self.listener.listen(128)
        self.port = self.listener.getsockname()[1]
        self.threads = []
        self.acceptor = threading.Thread(target=self.accept, daemon=True)
        self.acceptor.start()

    def accept(self):
        while not self.stopping:
            if not select.select([self.listener], [], [], 0.05)[0]:
                continue
            try:
                sock, peer = self.listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                connection = Connection(self, sock, peer, len(self.connections))
                self.connections.append(connection)
                self.open_now += 1
                self.open_most = max(self.open_most, self.open_now)
                self.changed.notify_all()
            thread = threading.Thread(target=connection.run, daemon=True)
            self.threads.append(thread)
            thread.start()

    def rule_of(self, verb):
        return self.rules[verb] if verb in self.rules else self.rules.get("*")

    def next_of(self, verb, rules):
        with self.lock:
            use = self.uses.get((verb, id(rules)), 0)
            self.uses[(verb, id(rules))] = use + 1
        return rules[min(use, len(rules) - 1)]

    def take(self, message):
        with self.lock:
            self.taken.append(message)
            self.changed.notify_all()

    def messages(self):
        """Messages that got a reply to their final dot, whatever it was (message.reply), in order."""
        with self.lock:
            return list(self.taken)

    def commands(self):
        """All command lines of all connections, in the order of the connections."""
        with self.lock:
            return [line for c in self.connections for line in c.commands]

    def wait_for(self, claim, seconds=120):
        """Wait until claim(self) holds; returns whether it does."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if claim(self):
                return True
            time.sleep(0.01)
        return bool(claim(self))

    def wait_closed(self, seconds=120):
        return self.wait_for(lambda sink: sink.open_now == 0, seconds)

    def stop(self):
        self.stopping = True
        self.acceptor.join(2)
        self.listener.close()
        for thread in self.threads:
            thread.join(2)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def main():
    """For a person: a sink on a port that prints what it gets. --rule VERB=REPLY; REPLY may be STALL, HANGUP or RESET."""
    words = {"STALL": Stall(), "HANGUP": Hangup(), "RESET": Reset()}
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2525)
    parser.add_argument("--rule", action="append", default=[])
    args = parser.parse_args()
    rules = {verb: words.get(reply, reply) for verb, reply in (rule.split("=", 1) for rule in args.rule)}
    with Sink(args.host, args.port, rules) as sink:
        seen = 0
        try:
            while True:
                time.sleep(0.1)
                for message in sink.messages()[seen:]:
                    print(message.mail, message.rcpts, len(message.wire), flush=True)
                    seen += 1
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
