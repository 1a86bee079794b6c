"""selftest - the judge and the maker of disks, held against cases whose answer is known. run(tally) counts each case as a test."""
import random
from types import SimpleNamespace

from ledger import DUPLICATE, GHOST, LOST, Arrivals, Ledger, Message, is_whole, judge
from power import KINDS, SECTOR, Disk, Event, choose, plan_states, tear

HERE, FAR = "joe@crash.tappal", "any@far.example"
# What the client was told, the deliveries to both recipients, their bounces, and what the judge has to call it. One crash, one delivery in flight.
VERDICTS = [
    ("S k|A k", (1, 1), (0, 0), set()), ("S k|A k", (0, 1), (1, 0), set()), ("S k|A k", (1, 2), (0, 0), set()), ("S k", (0, 0), (0, 0), set()),
    ("S k|T k", (1, 1), (0, 0), set()), ("S k|A k|D k", (0, 0), (0, 0), set()), ("S k|A k|Y k", (0, 0), (1, 1), set()),
    ("S k|A k|N k joe@crash.tappal", (0, 1), (0, 0), set()), ("S k|A k|H k|E k|U k", (1, 1), (0, 0), set()),
    ("S k|A k", (0, 0), (0, 0), {LOST}), ("S k|A k", (1, 0), (0, 0), {LOST}), ("S k", (1, 0), (0, 0), {LOST}),
    ("", (1, 1), (0, 0), {GHOST}), ("S k|R k", (1, 1), (0, 0), {GHOST}), ("S k|A k|D k|X k", (1, 1), (0, 0), {GHOST}),
    ("S k|A k|Y k", (0, 1), (1, 0), {GHOST}), ("S k|A k|N k joe@crash.tappal", (0, 1), (1, 0), {GHOST}),
    ("S k|A k|H k|E k|E k", (1, 1), (0, 0), {GHOST}),
    ("S k|A k", (2, 1), (0, 0), {DUPLICATE}), ("S k|A k", (1, 3), (0, 0), {DUPLICATE}), ("S k|A k", (1, 1), (1, 0), {DUPLICATE}),
    ("S k|A k", (0, 1), (2, 0), {DUPLICATE}),
]


def judged(marks, delivered, bounced):
    ledger, arrivals = Ledger([Message("k", "sam@crash.tappal", [HERE, FAR])]), Arrivals()
    for mark in filter(None, marks.split("|")):
        ledger.note(mark)
    for rcpt, n, b in zip((HERE, FAR), delivered, bounced):
        arrivals.count["k", rcpt], arrivals.bounces["k", rcpt] = n, b
    return {kind for kind, _ in judge(ledger, arrivals, crashes=1, in_flight=1)}


def spoilt():
    """A body is whole behind header lines of the way, and not with an octet less, more or other."""
    body = Message("k", "", []).body
    front = b"Received: from x\r\n\tby y\r\n"
    wrong = [body[:-1], body + b"x", body.replace(b"crash", b"crush", 1), b"Subject: more\r\n" + body, front[:-2] + body, body + body]
    return is_whole(front + body, body) and not any(is_whole(octets, body) for octets in wrong)


def writes(count):
    return [Event("W", 0, n * 4096, 4096, bytes([n + 1]) * 4096) for n in range(count)]


def unflushed():
    """Each kind of state keeps what it is said to keep."""
    pending, rng = writes(8), random.Random(1)
    kept = {kind: [choose(pending, kind, rng) for _ in range(40)] for kind in KINDS}
    whole = lambda parts: all(sectors is None for _, sectors in parts)
    return (all(not parts for parts in kept["flushed"]) and all(len(parts) == 8 and whole(parts) for parts in kept["prefix"])
            and all(len(parts) == 7 and whole(parts) for parts in kept["drop"]) and len({len(parts) for parts in kept["subset"]}) > 2
            and any(not whole(parts) for parts in kept["torn"]))


def sectors():
    """A torn write changes its sectors and no others; zeros are zeros."""
    disk, event = Disk(), writes(1)[0]
    disk.write(0, b"o" * 8192)
    disk.apply(event, [1, 3])
    torn = b"".join((b"\1" if s in (1, 3) else b"o") * SECTOR for s in range(8))
    right = disk.blocks == {0: torn, 1: b"o" * 4096}
    disk.apply(Event("Z", 0, 1024, 8192 - 1024, b""))
    return right and disk.blocks == {0: torn[:1024] + bytes(3072)}


def superblock():
    """ext4's superblock is there whole or not at all, wherever in a write it is."""
    rng, parts = random.Random(1), []
    for offset, first in ((0, 2), (1024, 0)):
        parts += [(first in kept, first + 1 in kept) for kept in (tear(Event("W", 0, offset, 4096, b""), rng) for _ in range(60))]
    return {*parts} == {(True, True), (False, False)}


def moments():
    """States of every kind, behind acknowledgements and elsewhere."""
    events = writes(30)
    events[10:10] = [Event("F", 0, 0, 0, b""), Event("M", 0, 0, 3, b"A k")]
    states = plan_states(events, 60, random.Random(1))
    return {kind for _, kind, _ in states} == set(KINDS) and sum(moment == 12 for moment, _, _ in states) >= 5 and len({m for m, _, _ in states}) > 20


def run(tally):
    for marks, delivered, bounced, want in VERDICTS:
        text = f"the judge of [{marks}], delivered {delivered}, bounced {bounced}: {want or 'nothing'}"
        tally.test(judged(marks, delivered, bounced) == want, text, quiet=True)
    for case in (spoilt, unflushed, sectors, superblock, moments):
        tally.test(case(), f"{case.__name__}: {case.__doc__}", quiet=True)
    strange = SimpleNamespace(spoilt=[("k", FAR)], strange=[("joe", b"?")], count={}, bounces={})
    tally.test({kind for kind, _ in judge(Ledger([]), strange)} == {LOST, GHOST}, "a spoilt body is a loss, mail of nobody a ghost", quiet=True)
