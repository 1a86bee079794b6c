"""tappal beside Debian's Postfix, OpenSMTPD and Exim in one run on the same kind of disk, all durable: `make bench`, `make bench QUICK=1`,
`make bench ONLY=accept,local`.

Every start of a server has a newly made journaled ext4 of its own (tests/bench/freshfs). Servers take turns within every repeat, so that a slow
spell of the machine hits all; compare ratios, not figures, and take ratios from one run only. Writes build/bench.json, rows of workload,
sessions, server, metric, value, unit, ratio_to_postfix, and build/bench.md, the tables of docs/PERFORMANCE.md. What the workloads do is told
in workloads.py and long_queue.py.
"""
import argparse
import os
import signal
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ.setdefault("BENCH_DIR", "/var/tmp/tappal-bench")
os.environ["TAPPAL_TEST_ROOTS"] = f"{os.environ['BENCH_DIR']}/hosts"
sys.path[:0] = [f"{TOP}/tests/lib", f"{TOP}/tests/bench"]
from long_queue import dead, scale  # noqa: E402
from measure import machine, sync_us  # noqa: E402
from others import Exim, OpenSMTPD, PostfixServer  # noqa: E402
from report import rows_of, write  # noqa: E402
from servers import SPREAD, STATE, Tappal, TappalTcpserver, TappalTcpserverAlone, Unavailable  # noqa: E402
from workloads import accept, handshakes, idle, idle_tls, local, recipients, relay, spread  # noqa: E402

POOLS = ("tappal", "postfix", "opensmtpd", "exim")
ALL = ("tappal", "tappal-tcpserver", "tappal-tcpserver-alone", "postfix", "opensmtpd", "exim")
KIB = 1024
FAILURES = (AssertionError, RuntimeError, OSError, subprocess.SubprocessError, ValueError)


class Run:
    """One start of each server in each repeat. `seconds`: of each step; `count`: of messages, None: as many as fit; `servers`: in turn."""
    size, per_connection, pipelining, users, count, seconds, servers, reps = 4 * KIB, 0, False, 0, None, 1.5, POOLS, None
    window, window_count, fill_seconds, rate = 1.0, 100000, 40, 100

    def __init__(self, group, label, workload, sessions, **other):
        self.group, self.label, self.workload, self.sessions = group, label, workload, sessions
        for key, value in other.items():
            assert hasattr(Run, key), key
            setattr(self, key, value)


def accept_label(size, per_connection, pipelining):
    many = "many in a connection" if per_connection == 0 else "a connection each"
    return f"accept {size // KIB} KiB, {many}{', pipelining' if pipelining else ''}"


def accepts(sessions, cells, **other):
    """OpenSMTPD does not offer PIPELINING."""
    return [Run("accept", accept_label(*cell), accept, sessions, size=cell[0], per_connection=cell[1], pipelining=cell[2],
                servers=tuple(name for name in (POOLS if cell[1] == 0 else ALL) if not (cell[2] and name == "opensmtpd")), **other) for cell in cells]


def tls(seconds):
    """The label is the server's mode. OpenSMTPD and Exim are not told of certificates here."""
    both = ("tappal", "postfix")
    return [*[Run("tls", f"tls {kind}", handshakes, (20,), seconds=seconds, servers=both) for kind in ("ECDSA P-256", "RSA 2048")],
            Run("tls", "idle TLS", idle_tls, (100,), servers=both, reps=1)]


def plan():
    sessions = (1, 10, 50, 200)
    return [
        *accepts(sessions, [(4 * KIB, d, p) for d in (0, 1) for p in (False, True)]),
        *accepts(sessions, [(64 * KIB, d, False) for d in (0, 1)], reps=2),
        Run("recipients", "recipients, 1,000 a message", recipients, (10,), count=100, seconds=4),
        Run("relay", "relay to one destination", relay, (20,), seconds=4),
        Run("relay", f"relay to {SPREAD} destinations", spread, (20,), seconds=4),
        *[Run("local", f"local to {users} user{'s' * (users > 1)}", local, (20,), users=users, seconds=3) for users in (1, 20, 100)],
        Run("idle", "idle", idle, (500,), servers=ALL, reps=1),
        *tls(seconds=4),
        Run("queue", "100,000 deferred", scale, (20,), count=100000, size=KIB, reps=1),
        Run("queue", "1,000,000 deferred", scale, (20,), count=1000000, size=KIB, servers=("tappal",), reps=1),
        Run("dead", "a dead destination with 100,000", dead, (20,), count=100000, size=KIB, seconds=10, reps=1),
    ]


def quick_plan():
    both = ("tappal", "postfix")
    return [
        *accepts((1, 10, 50), [(4 * KIB, 0, False)], seconds=1),
        *accepts((50,), [(4 * KIB, 0, True)], seconds=1),
        *accepts((20,), [(4 * KIB, 1, False)], seconds=1),
        Run("recipients", "recipients, 1,000 a message", recipients, (10,), count=20, seconds=2, servers=both),
        Run("relay", "relay to one destination", relay, (20,), seconds=2),
        Run("relay", f"relay to {SPREAD} destinations", spread, (20,), seconds=2, servers=both),
        Run("local", "local to 20 users", local, (20,), users=20, seconds=1.5),
        Run("idle", "idle", idle, (500,)),
        *tls(seconds=1.5),
        Run("queue", "20,000 deferred", scale, (20,), count=20000, size=KIB, window=0.5, servers=("tappal",)),
        Run("dead", "a dead destination with 10,000", dead, (20,), count=10000, size=KIB, seconds=5, servers=("tappal",)),
    ]


def once(run, server):
    """[(sessions, metrics), ...] of one start."""
    subprocess.run([f"{TOP}/tests/bench/freshfs", "up", STATE], check=True)
    try:
        return list(run.workload(server, run))
    except FAILURES:
        if server.group:
            print(f"the end of {server.name}'s log:\n{server.log()[-2000:]}")
        raise
    finally:
        server.stop()


def measure(run, servers, reps, reasons):
    """{(server, sessions): metrics}, medians of the repeats. A server that loses mail, or fails, is not measured any more in this workload;
    the others are, and the reason is in `reasons`."""
    got = {}
    for server in [s for _ in range(reps) for s in servers if s.name in run.servers]:
        if server.name in reasons:
            continue
        try:
            for sessions, metrics in once(run, server):
                got.setdefault((server.name, sessions), []).append(metrics)
        except FAILURES as failure:
            reasons[server.name] = f"FAILED: {failure}"
            print(f"{run.label}: {server.name} FAILED", failure, sep="\n", flush=True)
    return {key: {metric: statistics.median(r[metric] for r in results) for metric in results[0]} for key, results in got.items()
            if key[0] not in reasons}


def measure_disk():
    return (f"{machine()}; the disk: {sync_us(STATE, False)} us for an fdatasync of 4 KiB in place, {sync_us(STATE, True)} us for a new file of "
            "4 KiB with its fsync")


def those_that_run(servers):
    """(servers that can, {name: why not})."""
    can, reasons = [], {}
    for server in servers:
        try:
            server.prepare()
            can.append(server)
        except Unavailable as why:
            reasons[server.name] = str(why)
    return can, reasons


def chosen(runs, a):
    """The plan as the command line has it."""
    for run in runs:
        run.sessions = tuple(s for s in run.sessions if a.sessions in (None, s))
        for key in ("count", "seconds", "fill_seconds"):
            setattr(run, key, getattr(a, key) or getattr(run, key))
        run.window = min(run.window, run.seconds)
    wanted = [word for word in a.only.split(",") if word]
    return [run for run in runs if run.sessions and (not wanted or any(run.group == word or run.label.startswith(word) for word in wanted))]


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", default="", help="groups (accept,recipients,relay,local,idle,tls,queue,dead) or beginnings of labels")
    parser.add_argument("--servers", default=",".join(ALL), help="a comma list")
    parser.add_argument("--reps", type=int, help="repeats (3; 1 with --quick, and of what fills a queue)")
    parser.add_argument("--sessions", type=int, help="only steps with so many")
    parser.add_argument("--count", type=int, help="at most so many messages a step, instead of the plan's number")
    parser.add_argument("--seconds", type=float, help="of a step, instead of the plan's")
    parser.add_argument("--fill-seconds", type=float, help="in which servers other than tappal fill their queues")
    return parser.parse_args()


def main():
    a, rows, began = arguments(), [], time.monotonic()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))      # what was started is ended
    subprocess.run([f"{TOP}/tests/bench/freshfs", "up", STATE], check=True)
    about = measure_disk()
    every = (Tappal(), TappalTcpserver(), TappalTcpserverAlone(), PostfixServer(), OpenSMTPD(), Exim())
    servers, reasons = those_that_run([s for s in every if s.name in a.servers.split(",")])
    print(about, *(f"{name}: {why}" for name, why in reasons.items()), sep="\n", flush=True)
    for run in chosen(quick_plan() if a.quick else plan(), a):
        reps = a.reps or run.reps or (1 if a.quick else 3)
        here = {name: why for name, why in reasons.items() if name in run.servers}
        medians = measure(run, servers, reps, here)
        rows += rows_of(run, medians, here)
    subprocess.run([f"{TOP}/tests/bench/freshfs", "down", STATE], check=True)
    print(write(f"{TOP}/build", rows, about, servers, time.monotonic() - began))
    return 1 if any(r["metric"] == "not run" and r["unit"].startswith("FAILED") for r in rows) else 0


sys.exit(main())
