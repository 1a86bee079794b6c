"""matrix - something happens to one system call of one program: kill -9 before it, an error instead of it, half a write.

A clean run counts the calls of each program; then each (program, call, occurrence) gets a run of its own. What is found afterwards is judged
(ledger.py), and the host must be as clean as after the run in which nothing happened.
"""
import collections
import errno
import json
import os
import re
import time

from cell import DAEMONS, Cell, TOOLS
from ledger import CHECK, LEAK, LOST, judge
from scenario import COMMANDS, World, play_small, small_messages

# What is watched: the daemon (or command) that starts it, and the program's file.
TARGETS = {
    "queued": ("queued", "queued"), "enqueue": ("smtpd", "enqueue"), "smtpd": ("smtpd", "smtpd"), "spawn-local": ("spawn-local", "spawn"),
    "spawn-remote": ("spawn-remote", "spawn"), "local": ("spawn-local", "local"), "remote": ("spawn-remote", "remote"),
    "bounce": ("bounce", "bounce"),
    "bounce-enqueue": ("bounce", "enqueue"), "script": ("script", "enqueue"), "session": ("session", "smtpd"),
    **{f"tappal-{word}": (f"tappal-{word}", "tappal") for word in COMMANDS},
}
WRITE, OPEN, MAKE = ["EIO", "ENOSPC", "EINTR", "short"], ["EMFILE", "ENOMEM", "EIO", "ENOSPC", "EINTR"], ["EIO", "ENOSPC"]
# By system call and what it is done to (fault.c says what the words mean): what Linux can answer there. A pipe takes a record of at most PIPE_BUF
# whole or not at all, so its writes are not halved; a fifo that is not waited for is not interrupted.
ERRORS = {
    "write file": WRITE, "pwrite64 file": WRITE, "writev file": WRITE, "write pipe": ["EPIPE", "EINTR"], "writev pipe": ["EPIPE", "EINTR"],
    "write fifo": ["EPIPE"], "writev fifo": ["EPIPE"], "sendfile fifo": ["EIO"],
    "write socket": ["EINTR", "ECONNRESET", "short"], "writev socket": ["EINTR", "ECONNRESET", "short"], "sendfile pipe": ["EIO", "EINTR"],
    "splice file": ["EIO", "EINTR"], "read file": ["EIO", "EINTR", "short"], "pread64 file": ["EIO", "EINTR", "short"], "read pipe": ["EINTR"],
    "read socket": ["EINTR", "ECONNRESET"], "fsync file": ["EIO", "ENOSPC", "EINTR"], "fdatasync file": ["EIO", "ENOSPC", "EINTR"], "msync": ["EIO"],
    "fallocate": ["ENOSPC", "EIO"], "ftruncate": MAKE, "open": OPEN, "openat": OPEN, "rename": MAKE, "renameat": MAKE, "renameat2": MAKE,
    "link": MAKE, "linkat": MAKE, "unlink": ["EIO"], "unlinkat": ["EIO"], "mknod": MAKE, "mknodat": MAKE, "mkdir": MAKE, "mkdirat": MAKE,
    "mmap": ["ENOMEM"], "fork": ["EAGAIN", "ENOMEM"], "vfork": ["EAGAIN", "ENOMEM"], "clone": ["EAGAIN", "ENOMEM"],
    "clone3": ["EAGAIN", "ENOMEM"], "pipe2": ["EMFILE", "ENFILE"], "poll": ["EINTR", "ENOMEM"], "getdents64": ["EIO"], "flock": ["EINTR", "ENOLCK"],
    "statfs": ["EIO"], "fstatfs": ["EIO"], "newfstatat": ["EIO"], "fstat": ["EIO"], "fchmod": ["EIO"], "fchown": ["EIO"], "chmod": ["EIO"],
    "readlinkat": ["EIO"], "socket": ["EMFILE"], "connect": ["EINTR"], "accept4": ["EMFILE"], "bind": ["EADDRINUSE"], "listen": ["EADDRINUSE"],
    "epoll_create1": ["EMFILE"], "epoll_ctl": ["ENOMEM"], "epoll_pwait": ["EINTR"], "eventfd2": ["EMFILE"], "execve": ["ENOMEM", "EIO"],
    "wait4": ["EINTR"], "mremap": ["ENOMEM"], "mprotect": ["ENOMEM"],
    # A program that cannot become who it is to be must not go on.
    "setuid": ["EAGAIN"], "setresuid": ["EAGAIN"], "setresgid": ["EPERM"], "setgroups": ["ENOMEM"], "prctl": ["EPERM"], "chdir": ["EIO"],
    "getrandom": ["EINTR"], "sendto": ["EINTR", "ECONNRESET"], "recvfrom": ["EINTR", "ECONNRESET"],
}


def call_names():
    with open("/usr/include/x86_64-linux-gnu/asm/unistd_64.h") as f:
        return {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", f.read())}


CALLS = call_names()
NUMBERS = {name: number for number, name in CALLS.items()}


# ---- one run

def wrap(cell, target, trace, order=()):
    return [f"{TOOLS}/fault", "-x", f"{cell.bin if TARGETS[target][1] == 'tappal' else cell.libexec}/{TARGETS[target][1]}", "-o", trace, *order]


def act_of(word):
    return word if word in ("kill", "short") else str(getattr(errno, word))


def moments(traces):
    """When something was done, CLOCK_MONOTONIC as time.monotonic() counts it."""
    out = []
    for trace in traces:
        if os.path.exists(trace):
            out += [int(line.split()[1]) / 1000 for line in open(trace) if line.startswith("acted")]
    return out


def seen(trace):
    """How often the call was made, of one that was not made often enough; else None."""
    text = open(trace).read() if os.path.exists(trace) else ""
    return int(text.split()[1]) if text.startswith("seen") else None


def nearer(faults, seen, rng):
    """The same faults at occurrences that there are: a run is never quite like the one that was counted. None: that is no use."""
    if not any(seen):
        return None
    return [(target, name, rng.randint(1, n) if n else when, act) for (target, name, when, act), n in zip(faults, seen)]


def play(cell, world, wraps):
    """wraps: (daemon or command, what stands before it); a second one of the same daemon is for the start after its death."""
    cell.fresh_memory()
    for starter, words in wraps:
        cell.wrapped.setdefault(starter, []).append(words)
    cell.start()
    cell.wait_ready()
    commands = {starter for starter, _ in TARGETS.values()} - {*DAEMONS}
    play_small(world, {command: cell.wrapped.pop(command)[0] for command in commands if command in cell.wrapped})


def run_faults(spec):
    """spec: root, faults [(target, call, occurrence, act)], census (of a clean run), kill [(daemon, seconds)]."""
    with Cell(spec["root"]) as cell:
        world = World(cell, small_messages())
        traces, wraps = [], []
        for n, (target, name, when, act) in enumerate(spec["faults"]):
            traces.append(f"{cell.root}/log/trace{n}")
            call, kind = (name.split() + ["-"])[:2]
            order = ["-s", str(NUMBERS[call]), "-k", kind, "-n", str(when), "-a", act_of(act)]
            wraps.append((TARGETS[target][0], wrap(cell, target, traces[-1], order)))
        play(cell, world, wraps)
        stuck = world.drain()
        acted = moments(traces)
        leaks = find_leaks(cell, spec["faults"], spec.get("census"))
        world.forgive([(m - 0.1) for m in acted] + acted)
        found = stuck + leaks + judge(world.ledger, world.arrivals(), crashes=max(1, len(acted)), in_flight=3)
        world.stop()
        return {"violations": found, "acted": len(acted), "states": world.ledger.state, "acknowledged": world.ledger.acknowledged(),
                "seen": [seen(trace) for trace in traces],
                "log": cell.log()[-20000 if not spec.get("show") else 0:] if found or spec.get("show") else ""}


def run_clean(spec):
    """Count the calls of each target, and take the census of descriptors. {target: {call: count}}, census."""
    with Cell(spec["root"]) as cell:
        world = World(cell, small_messages())
        trace = f"{cell.root}/log/trace"
        target = spec["target"]
        play(cell, world, [(TARGETS[target][0], wrap(cell, target, trace))])
        found = world.drain()
        census = take_census(cell)
        found += find_leaks(cell, [], None) + judge(world.ledger, world.arrivals())
        world.stop()
        counts = {CALLS[int(nr)] + (f" {kind}" if kind != "-" else ""): int(count) for nr, kind, count in map(str.split, open(trace))}
        return {"violations": found, "counts": counts, "census": census, "acknowledged": world.ledger.acknowledged(),
                "log": cell.log()[-6000:] if found else ""}


# ---- leaks

def normal(target):
    target = re.sub(r"(pipe|socket):\[\d+\]", r"\1", target)
    target = re.sub(r"/intake/[^/]+$", "/intake/*", target)
    target = re.sub(r"/large/[^/]+$", "/large/*", target)
    return re.sub(r"[0-9a-f]{16}", "#", target)


def take_census(cell):
    """{daemon: {what a descriptor leads to: how often}} of the daemons themselves, not of sessions and workers."""
    out = {}
    for name, process in cell.running.items():
        seen = collections.Counter()
        at = f"/proc/{process.pid}/fd"
        if is_wrapper(cell, name):
            continue
        try:
            for fd in os.listdir(at):
                seen[normal(os.readlink(f"{at}/{fd}"))] += 1
        except OSError:
            continue
        out[name] = dict(seen)
    return out


def merge_census(a, b):
    return {name: {what: max(a.get(name, {}).get(what, 0), b.get(name, {}).get(what, 0)) for what in {*a.get(name, {}), *b.get(name, {})}}
            for name in {*a, *b}}


def compare_census(now, before):
    out = []
    for name, seen in now.items():
        usual = before.get(name, {})
        for what, count in seen.items():
            # Sessions of smtpd and workers come and go with a pair of pipes or an intake file each.
            spare = 6 if what in ("pipe", "socket") or "/intake/*" in what else 0
            if count > usual.get(what, 0) + spare:
                out.append((LEAK, f"{name} has {count} descriptors of {what}, usually {usual.get(what, 0)}"))
    return out


def zombies(cell, killed):
    """A session of smtpd that waits for its next message notices only then that its enqueue was killed."""
    spared = {"enqueue"} if "enqueue" in killed else set()
    return {pid for pid, (name, state) in cell.processes().items() if state == "Z" and parent(pid) != 1 and name not in spared}


def parent(pid):
    try:
        text = open(f"/proc/{pid}/stat").read()
        return int(text[text.rindex(")") + 2:].split()[1])
    except OSError:
        return 1


OURS = {"queued", "spawn", "bounce", "smtpd", "enqueue", "local", "remote", "tappal", "fault"}


def wait_none(look, seconds):
    end = time.monotonic() + seconds
    while found := look():
        if time.monotonic() > end:
            return found
        time.sleep(0.05)
    return found


def find_leaks(cell, faults, census):
    """Stops the host. Looks while it is idle, when it has stopped, and after one more start of queued, which sweeps."""
    out = wait_none(lambda: compare_census(take_census(cell), census), 2) if census else []
    dead = wait_none(lambda: zombies(cell, {fault[0] for fault in faults}), 2)
    out += [(LEAK, f"a zombie: {cell.processes().get(pid)}") for pid in dead]
    out += [(LEAK, text) for text in cell.stop()]
    alive = wait_none(lambda: {p: n for p, (n, s) in cell.processes().items() if n in OURS and s != "Z"}, 5)
    out += [(LEAK, f"{name} still runs") for name in alive.values()]
    return out + sweep(cell, faults)


def is_wrapper(cell, name):
    try:
        return os.readlink(f"/proc/{cell.running[name].pid}/exe") == f"{TOOLS}/fault"
    except OSError:
        return True


def sweep(cell, faults):
    """queued clears intake/ when it starts; tappal what tappals left that were killed, when it is old."""
    cell.going = False
    cell.start_one("queued")
    cell.wait_reader("intake", 20)
    cell.wait_reader("control", 20)
    for name in os.listdir(f"{cell.spool}/reply"):
        os.utime(f"{cell.spool}/reply/{name}", (1, 1))
    cell.tappal("queue", "flush")
    out = [(LEAK, text) for text in cell.stop("queued")]
    for place in ("intake", "large", "reply"):
        out += [(LEAK, f"{place}/{name} is left") for name in os.listdir(f"{cell.spool}/{place}")]
    out += [(LEAK, f"log/{name} is left") for name in os.listdir(f"{cell.spool}/log") if not re.fullmatch(r"(spare-)?[0-9a-f]{16}", name)]
    out += [(LEAK, f"index/{name} is left") for name in os.listdir(f"{cell.spool}/index") if name not in ("data.mdb", "lock.mdb")]
    out += [(CHECK, text) for text in cell.check("after the drain")]
    if cell.queue():
        out.append((LOST, f"a queue that was empty is not: {cell.queue()}"))
    status = json.loads(cell.tappal("status", "--json").stdout)
    out += [(LEAK, f"the index counts {status[what]} {what} in an empty queue") for what in ("messages", "recipients", "held") if status[what]]
    # A file in tmp/ of a Maildir is what a delivery leaves that was killed; readers remove it after 36 hours (maildir(5)).
    killed = sum(act in ("kill",) and target in ("local", "spawn-local", "queued") for target, _, _, act in faults)
    left = cell.maildir_tmp()
    if len(left) > killed:
        out += [(LEAK, f"{name} is left") for name in left]
    return out


# ---- plans

def plan_kills(counts):
    return [[(target, name, n, "kill")] for target, calls in counts.items() for name, count in calls.items() for n in range(1, count + 1)]


def plan_errors(counts):
    return [[(target, name, n, act)] for target, calls in counts.items() for name, count in calls.items() for act in ERRORS.get(name, ())
            for n in range(1, count + 1)]


def any_kill(counts, target, rng):
    name = rng.choice(list(counts[target]))
    return target, name, rng.randint(1, counts[target][name]), "kill"


def plan_again(counts, count, rng):
    """queued killed anywhere, and killed anywhere when it has started anew."""
    return [[any_kill(counts, "queued", rng), any_kill(counts, "queued", rng)] for _ in range(count)]


def plan_pairs(counts, count, rng):
    """Two programs killed in one run, anywhere."""
    out = []
    while len(out) < count:
        pair = rng.sample(list(counts), 2)
        if TARGETS[pair[0]][0] == TARGETS[pair[1]][0]:
            continue
        out.append([any_kill(counts, target, rng) for target in pair])
    return out
