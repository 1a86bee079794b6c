"""ledger - what the world was told about each message, and the judge who holds it against what arrived.

A message and each of its recipients is at any moment
    (nothing)  the client did not finish sending it         it must not arrive
    SENT       its last octet went out, no answer yet       it may arrive or not: UNKNOWN
    ACKED      250                                          it must arrive or come back
    REFUSED    4xx, 5xx, or an exit code of enqueue         it must not arrive; nor at a recipient who was refused alone
A temporary refusal that came while something was made to fail is UNKNOWN as well: the message may have reached the log before the failure
(docs/QUEUE.md, Q1), and the client will send it again.

Operators are told things, too: what was deleted is gone, what was returned comes back and goes nowhere, what is held stays.

Marks, one a line, are the ledger's form in a record of a disk:
    S A R T key      sent; acknowledged, refused for good, refused for now       N key rcpt   a recipient was refused
    G key rcpt       a sink took it                                              I key id     its queue id
    D X key          its deletion was asked for; was answered                    Y key        its return to its sender was answered
    H U key          it is held: answered; its release is asked for              E key        it was tried although it was held
"""
import collections
import functools
import random
import re

LOST, GHOST, DUPLICATE, LEAK, CHECK = "lost", "ghost", "duplicate", "leak", "check"
DOMAIN = "crash.tappal"
KEY = re.compile(rb"X-Key: (k[0-9a-z-]+);")


class Message:
    def __init__(self, key, sender, recipients, size=2000, broken=False):
        self.key, self.sender, self.recipients, self.broken = key, sender, recipients, broken
        self.body = make_body(key, size)


@functools.cache
def make_body(key, size):
    """Reproducible octets with what is easily spoilt: lines of dots, 8-bit octets, white space at ends, empty lines."""
    rng = random.Random(key)
    lines = [b"Subject: crash test", b"X-Key: %s;" % key.encode(), b""]
    length = sum(len(line) + 2 for line in lines)
    while length < size:
        line = rng.choice([b".", b"..", b"", b".x", b"From nobody", b" \t ", "grüße".encode()]) + b"%x" % rng.getrandbits(rng.randrange(4, 240))
        line = rng.choice([line, line, line[:1]])
        lines.append(line)
        length += len(line) + 2
    return b"\r\n".join(lines) + b"\r\n"


class Ledger:
    def __init__(self, messages):
        self.messages = {m.key: m for m in messages}
        self.state = {}                     # key: one of S A R T
        self.ids = {}                       # key: queue id
        self.asked, self.deleted, self.returned, self.held = set(), set(), set(), set()
        self.refused = set()                # (key, rcpt)
        self.taken = []                     # (key, rcpt) in the order in which the sink took them
        self.tried = collections.Counter()  # while held

    def note(self, text):
        kind, key, *rest = text.split()
        if kind == "G":
            self.taken.append((key, rest[0]))
        elif kind == "N":
            self.refused.add((key, rest[0]))
        elif kind == "I":
            self.ids[key] = rest[0]
        elif kind == "D":
            self.asked.add(key)
        elif kind in "XYH":
            {"X": self.deleted, "Y": self.returned, "H": self.held}[kind].add(key)
        elif kind == "U":
            self.held.discard(key)
        elif kind == "E":
            self.tried[key] += 1
        elif kind in "SART":
            self.state[key] = kind

    def acknowledged(self):
        return list(self.state.values()).count("A")


def is_whole(octets, body):
    """Header lines of the way in front, then exactly what was sent."""
    if not octets.endswith(body):
        return False
    front = octets[:len(octets) - len(body)].replace(b"\r\n", b"\n")
    lines = front.split(b"\n")
    return lines[-1] == b"" and all(re.match(rb"(Return-Path|Delivered-To|Received|Date|Message-ID):|[ \t]", line, re.I) for line in lines[:-1])


class Arrivals:
    """What is found in the Maildirs and in the sink's journal."""

    def __init__(self):
        self.count, self.bounces, self.spoilt, self.strange = collections.Counter(), collections.Counter(), [], []

    def mailbox(self, box, found, ledger):
        rcpt = f"{box}@{DOMAIN}"
        for name, octets in found:
            if re.match(rb"Return-Path: <>\n", octets):
                self.bounce(octets, ledger)
            else:
                self.message(rcpt, octets, ledger, lf=True)

    def message(self, rcpt, octets, ledger, lf=False):
        key = KEY.search(octets)
        message = ledger.messages.get(key[1].decode()) if key else None
        if message is None or rcpt not in message.recipients:
            self.strange.append((rcpt, octets[:300]))
            return
        if not is_whole(octets, message.body.replace(b"\r\n", b"\n") if lf else message.body):
            self.spoilt.append((message.key, rcpt))
        self.count[message.key, rcpt] += 1

    def bounce(self, octets, ledger):
        failed = re.findall(rb"^Final-Recipient: *rfc822; *(\S+)", octets, re.M | re.I)
        key = self.bounced_key(octets, ledger)
        if key not in ledger.messages or not failed:
            self.strange.append(("a bounce", octets[:300]))
            return
        for rcpt in failed:
            self.bounces[key, rcpt.decode()] += 1

    @staticmethod
    def bounced_key(octets, ledger):
        """By the original; a report whose original could not be read has only the queue id."""
        if key := KEY.search(octets):
            return key[1].decode()
        found = re.search(rb"^Message-ID: <(\w+)\.\d+\.bounce@", octets, re.M)
        return next((key for key, id in ledger.ids.items() if found and id == found[1].decode()), None)


def judge(ledger, arrivals, crashes=0, in_flight=0):
    """Violations as (kind, text). A recipient may have got a message twice when the sink took it among the last `in_flight` before a crash."""
    out = [(LOST, f"{key} to {rcpt} is not what was sent") for key, rcpt in arrivals.spoilt]
    out += [(GHOST, f"{where} got what nobody sent: {octets!r}") for where, octets in arrivals.strange]
    # One try was perhaps under way when the hold came.
    out += [(GHOST, f"{key} was tried {n} times while it was held") for key, n in ledger.tried.items() if n > 1]
    twice = 0
    for message in ledger.messages.values():
        ends = {rcpt: (arrivals.count[message.key, rcpt], arrivals.bounces[message.key, rcpt]) for rcpt in message.recipients}
        arrived = any(n + b for n, b in ends.values())
        judge_presence(message.key, ledger, ends, arrived, out)
        judge_ends(message.key, ledger, ends, arrived, out)
        twice += sum(max(0, n - 1) for rcpt, (n, b) in ends.items() if not rcpt.endswith("@" + DOMAIN))
    if twice > crashes * in_flight:
        out.append((DUPLICATE, f"{twice} deliveries were repeated, at most {crashes * in_flight} were in flight"))
    return out


def judge_presence(key, ledger, ends, arrived, out):
    """What must not be anywhere."""
    state = ledger.state.get(key)
    if arrived and state not in ("A", "S", "T"):
        out.append((GHOST, f"{key} arrived, although it was {'refused' if state else 'never sent whole'}: {ends}"))
    if arrived and key in ledger.deleted:
        out.append((GHOST, f"{key} arrived, although it was deleted: {ends}"))
    if key in ledger.returned and any(n for n, _ in ends.values()):
        out.append((GHOST, f"{key} was delivered, although it was returned: {ends}"))
    for rcpt, (n, b) in ends.items():
        if n + b and (key, rcpt) in ledger.refused:
            out.append((GHOST, f"{key} to {rcpt}: a recipient who was refused: {ends}"))


def judge_ends(key, ledger, ends, arrived, out):
    """What must be somewhere, and how often. What reached anybody was taken as a whole."""
    state, gone = ledger.state.get(key), key in ledger.asked and not arrived
    promised = not gone and (state == "A" or (arrived and state in ("S", "T")))
    for rcpt, (n, b) in ends.items():
        if promised and n + b == 0 and (key, rcpt) not in ledger.refused:
            out.append((LOST, f"{key} to {rcpt}: neither delivered nor bounced ({state}: {ends})"))
        if b > 1 or (n and b):
            out.append((DUPLICATE, f"{key} to {rcpt}: {n} deliveries, {b} bounces"))
        if n > 1 and rcpt.endswith("@" + DOMAIN):
            out.append((DUPLICATE, f"{key} to {rcpt}: {n} copies in the Maildir"))
