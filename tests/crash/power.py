"""power - the power goes: states that two disks may be left in, made from a record of everything that was written to them.

A disk keeps what was written before its last flush. Of what came after, it may keep any part, in any order, and of a write that was under way
any of its sectors. So a state is: a moment of the record, and which unflushed writes are there, whole or torn. Both disks lose power
at the same moment. The ledger at that moment is what the record's marks say; the host is started on the disks, drained and judged.
"""
import json
import os
import random
import struct
import subprocess
import threading
import time

from cell import Cell
from ledger import CHECK, Message, judge
from matrix import find_leaks
from scenario import ANN, BAD, FAR, JOE, LARGE, SAM, World, operate, waiting_messages

BLOCK, SECTOR = 4096, 512
SUPERBLOCK = (2, 3)         # its sectors
CLIENTS = 4
SIZES = (72, 24)            # megabytes of the spool's disk and the Maildirs'; for segments as they are sold
FULL_SIZES = (400, 24)
ZERO = bytes(BLOCK)


# ---- recording

def messages_of(seed, count):
    rng = random.Random(seed)
    out = []
    for n in range(count):
        rcpts = rng.choice([[JOE], [ANN], [FAR], [JOE, FAR], [JOE, ANN], [BAD], [BAD, ANN]])
        out.append(Message(f"k-{n}", SAM, rcpts, LARGE if n % 8 == 5 else rng.choice([600, 3000, 9000, 60000])))
    away = [Message("k-away-1", SAM, [JOE, FAR]), Message("k-away-2", SAM, [ANN], LARGE), Message("k-away-3", SAM, [BAD])]
    return out, away, waiting_messages()


def run_recording(spec):
    """Spool and Maildirs on recorded disks while mail goes through; queued starts anew once, and is away for a moment while mail comes."""
    images = [f"{spec['at']}/disk{i}" for i in range(2)]
    with Cell(spec["root"]) as cell:
        cell.fresh_logs()
        cell.make_images(images, spec["sizes"])
        for image in images:
            subprocess.run(["cp", "--sparse=always", image, f"{image}.base"], check=True)
        cell.record(images, f"{spec['at']}/events")
        messages = messages_of(spec["seed"], spec["count"])
        world = World(cell, sum(messages, []))
        cell.start()
        cell.wait_ready()
        send_all(world, *messages)
        stuck = world.drain()
        found = stuck + judge(world.ledger, world.arrivals()) + [("leak", text) for text in cell.stop()]
        world.stop()
        cell.end_record()
        return {"violations": found, "acknowledged": world.ledger.acknowledged(), "log": cell.log()[-20000:] if found else ""}


def send_all(world, messages, away, slow):
    parts = [messages[i::CLIENTS] for i in range(CLIENTS)]
    threads = [threading.Thread(target=send_part, args=(world, part, i)) for i, part in enumerate(parts)]
    threads.append(threading.Thread(target=send_and_operate, args=(world, slow)))
    for thread in threads:
        thread.start()
    time.sleep(0.4)
    world.cell.restart("queued")
    time.sleep(0.2)
    world.cell.without("queued", lambda: (world.smtp(away[:2]), world.one_shot(away[2])))
    for thread in threads:
        thread.join(120)


def send_and_operate(world, messages):
    world.smtp(messages)
    operate(world)


def send_part(world, messages, number):
    for i in range(0, len(messages), 3):
        if number == 0 and i == 3:
            for m in messages[i:i + 3]:
                world.one_shot(m)
        else:
            world.smtp(messages[i:i + 3])


# ---- the record

class Event:
    __slots__ = ("kind", "disk", "offset", "data", "length")

    def __init__(self, kind, disk, offset, length, data):
        self.kind, self.disk, self.offset, self.length, self.data = kind, disk, offset, length, data


def read_events(path):
    with open(path, "rb") as f:
        octets = f.read()
    out, at = [], 0
    while at < len(octets):
        kind, disk, length, offset = octets[at:at + 1].decode(), octets[at + 1], *struct.unpack_from("<IQ", octets, at + 4)
        at += 16
        size = length if kind in "WM" else 0
        out.append(Event(kind, disk, offset, length, octets[at:at + size]))
        at += size
    return out


class Disk:
    """A disk's octets as its blocks that are not zero."""

    def __init__(self, blocks=None):
        self.blocks = blocks if blocks is not None else {}

    @classmethod
    def load(cls, path):
        disk = cls()
        with open(path, "rb") as f:
            at = 0
            while True:
                try:
                    at = os.lseek(f.fileno(), at, os.SEEK_DATA)
                except OSError:
                    return disk
                at -= at % BLOCK
                end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
                for block in range(at // BLOCK, (end + BLOCK - 1) // BLOCK):
                    octets = os.pread(f.fileno(), BLOCK, block * BLOCK)
                    if octets != ZERO:
                        disk.blocks[block] = octets
                at = end

    def copy(self):
        return Disk(dict(self.blocks))

    def write(self, offset, data):
        while data:
            block, start = divmod(offset, BLOCK)
            part = data[:BLOCK - start]
            if len(part) < BLOCK:
                old = self.blocks.get(block, ZERO)
                part_block = old[:start] + part + old[start + len(part):]
            else:
                part_block = part
            if part_block == ZERO:
                self.blocks.pop(block, None)
            else:
                self.blocks[block] = part_block
            offset += len(part)
            data = data[len(part):]

    def zero(self, offset, length):
        first, last = -(-offset // BLOCK), (offset + length) // BLOCK
        if offset % BLOCK or (offset + length) % BLOCK:
            self.write(offset, bytes(min(length, first * BLOCK - offset)))
            if last >= first:
                self.write(last * BLOCK, bytes(offset + length - last * BLOCK))
        for block in [b for b in self.blocks if first <= b < last] if last - first > 1000 else range(first, last):
            self.blocks.pop(block, None)

    def apply(self, event, sectors=None):
        """A write or, of its sectors, those in the set."""
        if sectors is None:
            if event.kind == "Z":
                self.zero(event.offset, event.length)
            else:
                self.write(event.offset, event.data)
            return
        for s in sectors:
            part = bytes(min(SECTOR, event.length - s * SECTOR)) if event.kind == "Z" else event.data[s * SECTOR:(s + 1) * SECTOR]
            self.write(event.offset + s * SECTOR, part)

    def save(self, path, megabytes):
        with open(path, "wb") as f:
            f.truncate(megabytes << 20)
            for block, octets in self.blocks.items():
                os.pwrite(f.fileno(), octets, block * BLOCK)


# ---- states

KINDS = ("prefix", "flushed", "drop", "subset", "torn")


def plan_states(events, count, rng):
    """(moment, kind, seed): moments are the number of events that happened. Those right behind an acknowledgement come first: there a broken
    promise shows; then any others. A record with few events gives fewer states than asked for."""
    acks = [i + 1 for i, e in enumerate(events) if e.kind == "M" and e.data[:1] in b"A"]
    others = [i + 1 for i, e in enumerate(events) if e.kind in "WZF"]
    first = [(i, kind, rng.getrandbits(32)) for i in acks for kind in KINDS + ("subset", "torn")]
    rest = [(i, kind, rng.getrandbits(32)) for i in others for kind in KINDS]
    rng.shuffle(first)
    rng.shuffle(rest)
    half = min(len(first), count // 2)
    return sorted(first[:half] + rest[:count - half])


def choose(pending, kind, rng):
    """Of the unflushed writes, those that are there: (event, sectors or None for all)."""
    if kind == "flushed" or not pending:
        return []
    if kind == "prefix":
        return [(e, None) for e in pending]
    if kind == "drop":
        dropped = rng.randrange(len(pending))
        return [(e, None) for i, e in enumerate(pending) if i != dropped]
    share = rng.choice([0.2, 0.5, 0.8])
    kept = [(e, None) for e in pending if rng.random() < share]
    if kind == "torn":
        kept = [(e, None if rng.random() < 0.4 else tear(e, rng)) for e in [e for e in pending if rng.random() < 0.8]]
    return kept


def tear(event, rng):
    """Some sectors of a write. ext4 writes its superblock in place and does not mount with half of it, whoever uses it; so that stays whole."""
    sectors = range(-(-event.length // SECTOR))
    if rng.random() < 0.5:      # the first of them, as a disk writes a run of sectors
        kept = set(sectors[:rng.randrange(len(sectors))])
    else:
        kept = {s for s in sectors if rng.random() < 0.5}
    first, second = (at - event.offset // SECTOR for at in SUPERBLOCK)
    if second in sectors:
        kept = kept - {second} | ({second} if first in kept else set())
    return sorted(kept)


class Builder:
    """Walks through a record once and makes the states it is asked for, in the order of their moments. bases: the disks before the record;
    marks: what the world had been told then."""

    def __init__(self, bases, events, marks=()):
        self.disks = [Disk.load(base) for base in bases]
        self.events, self.moment, self.pending, self.marks = events, 0, [[], []], list(marks)

    def go_to(self, moment):
        for e in self.events[self.moment:moment]:
            if e.kind == "M":
                self.marks.append(e.data.decode())
            elif e.kind == "F":
                for w in self.pending[e.disk]:
                    self.disks[e.disk].apply(w)
                self.pending[e.disk] = []
            else:
                self.pending[e.disk].append(e)
        self.moment = moment

    def save(self, state, paths, sizes):
        moment, kind, seed = state
        self.go_to(moment)
        rng = random.Random(seed)
        for disk, pending, path, size in zip(self.disks, self.pending, paths, sizes):
            made = disk.copy()
            for event, sectors in choose(pending, kind, rng):
                made.apply(event, sectors)
            made.save(path, size)
        return list(self.marks)


class Recording:
    """A directory with two disks as they were (disk0.base, disk1.base), the record of what was written to them (events), and what the world
    knew before: `marks`, `crashes`. keep() puts it where a state of it can be tried again."""

    def __init__(self, at, root, seed, count, sizes, marks=(), crashes=1):
        self.at, self.root, self.seed, self.count, self.sizes, self.marks, self.crashes = at, root, seed, count, sizes, list(marks), crashes
        self.images, self.kept = [f"{at}/disk{i}" for i in range(2)], None

    def read(self):
        self.events = read_events(f"{self.at}/events")
        return self.events

    def builder(self):
        return Builder([f"{image}.base" for image in self.images], self.events, self.marks)

    def spec(self, builder, state, images):
        """Make a state, and the argument of run_state for it."""
        marks = builder.save(state, images, self.sizes)
        return {"root": self.root, "seed": self.seed, "count": self.count, "crashes": self.crashes, "images": images, "marks": marks, "state": state}

    def keep(self, below):
        if self.kept is None:
            numbers = [int(name) for name in os.listdir(below)] if os.path.isdir(below) else []
            self.kept = f"{below}/{max(numbers, default=0) + 1}"
            os.makedirs(self.kept)
            for name in ("disk0.base", "disk1.base", "events"):
                subprocess.run(["cp", "--sparse=always", f"{self.at}/{name}", self.kept], check=True)
            with open(f"{self.kept}/recording.json", "w") as f:
                json.dump({name: getattr(self, name) for name in ("seed", "count", "sizes", "marks", "crashes")}, f)
        return self.kept

    @classmethod
    def kept_at(cls, at, root):
        with open(f"{at}/recording.json") as f:
            return cls(at, root, **json.load(f))


# ---- a state

def run_state(spec):
    """Start on what is left, drain, judge. spec: root, images, marks, seed, count; crashes before this; record: write down what happens, too."""
    with Cell(spec["root"]) as cell:
        cell.fresh_logs()
        if spec.get("record"):
            cell.record(spec["images"], spec["record"])
        else:
            for image, place in zip(spec["images"], (cell.spool, cell.mail)):
                cell.mount_image(image, place)
        world = World(cell, sum(messages_of(spec["seed"], spec["count"]), []))
        for text in spec["marks"]:
            world.ledger.note(text)
        before = list(world.ledger.taken)
        # The unlink of a large body is not synced: the start does it again.
        found = [(CHECK, text) for text in cell.check("as the power left it", {"large-orphan"})]
        cell.start("queued", "spawn-local", "spawn-remote", "bounce")
        cell.wait_ready()
        stuck = world.drain()
        # Copies in tmp/ of those that were in flight stay, as after kill -9.
        tmp = len(cell.maildir_tmp())
        leaks = [v for v in find_leaks(cell, [], None) if "/tmp/" not in v[1]]
        if tmp > 3 * 3:
            leaks.append(("leak", f"{tmp} files in tmp/ of Maildirs"))
        arrivals = world.arrivals()
        for key, rcpt in before:
            arrivals.count[key, rcpt] += 1
        found += stuck + leaks + judge(world.ledger, arrivals, crashes=spec.get("crashes", 1), in_flight=3)
        world.stop()
        if cell.recorder:
            cell.end_record()
        return {"violations": found, "acknowledged": world.ledger.acknowledged(), "log": cell.log()[-20000:] if found or spec.get("show") else ""}
