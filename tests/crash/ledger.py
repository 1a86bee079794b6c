"""ledger - what the world was told about each message, and the judge who holds it against what arrived.

A message and each of its recipients is at any moment
    (nothing)  the client did not finish sending it         it must not arrive
    SENT       its last octet went out, no answer yet       it may arrive or not: UNKNOWN
    ACKED      250                                          it must arrive or come back
    REFUSED    4xx, 5xx, or an exit code of enqueue         it must not arrive
A temporary refusal that came while something was made to fail is UNKNOWN as well: the message may have reached the log before the failure
(docs/QUEUE.md, Q1), and the client will send it again.

Marks, one a line, are the ledger's form in a record of a disk: "S key", "A key", "R key", "T key", "G key rcpt" (a sink took it), "I key id" (its queue id), "D key"
(an operator asked for its deletion), "X key" (and was told that it is done).
"""
import collections
import random
import re

LOST, GHOST, DUPLICATE, LEAK = "lost", "ghost", "duplicate", "leak"
DOMAIN = "crash.tappal"
KEY = re.compile(rb"X-Key: (k[0-9a-z-]+);")


class Message:
    def __init__(self, key, sender, recipients, size=2000, broken=False):
        self.key, self.sender, self.recipients, self.broken = key, sender, recipients, broken
        self.body = make_body(key, size)


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
        self.asked, self.deleted, self.taken = set(), set(), []   # taken: (key, rcpt) in the order in which the sink took them

    def note(self, text):
        kind, key, *rest = text.split()
        if kind == "G":
            self.taken.append((key, rest[0]))
        elif kind == "I":
            self.ids[key] = rest[0]
        elif kind == "D":
            self.asked.add(key)
        elif kind == "X":
            self.deleted.add(key)
        else:
            self.state[key] = kind


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
    twice = 0
    for message in ledger.messages.values():
        twice += judge_message(message, ledger, arrivals, out)
    if twice > crashes * in_flight:
        out.append((DUPLICATE, f"{twice} deliveries were repeated, at most {crashes * in_flight} were in flight"))
    return out


def judge_message(message, ledger, arrivals, out):
    """How many deliveries were repeated (the bound is on all messages together)."""
    key, state = message.key, ledger.state.get(message.key)
    ends = {rcpt: (arrivals.count[key, rcpt], arrivals.bounces[key, rcpt]) for rcpt in message.recipients}
    arrived = any(n + b for n, b in ends.values())
    if arrived and state not in ("A", "S", "T"):
        out.append((GHOST, f"{key} arrived, although it was {'refused' if state else 'never sent whole'}: {ends}"))
    if arrived and key in ledger.deleted:
        out.append((GHOST, f"{key} arrived, although it was deleted: {ends}"))
    if key in ledger.asked and not arrived:
        return 0
    # What reached anybody was taken as a whole.
    if state == "A" or (arrived and state in ("S", "T")):
        for rcpt, (n, b) in ends.items():
            if n + b == 0:
                out.append((LOST, f"{key} to {rcpt}: neither delivered nor bounced ({state}: {ends})"))
    for rcpt, (n, b) in ends.items():
        if b > 1 or (n and b):
            out.append((DUPLICATE, f"{key} to {rcpt}: {n} deliveries, {b} bounces"))
        if n > 1 and rcpt.endswith("@" + DOMAIN):
            out.append((DUPLICATE, f"{key} to {rcpt}: {n} copies in the Maildir"))
    return sum(max(0, n - 1) for rcpt, (n, b) in ends.items() if not rcpt.endswith("@" + DOMAIN))
