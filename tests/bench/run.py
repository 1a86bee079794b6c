"""tappal beside Debian's Postfix in one run on one disk, both fully durable: `make bench`, `make bench QUICK=1`.

Every run has a newly made journaled ext4 of its own (tests/bench/freshfs). Servers take turns within every repeat, so that a slow spell of
the machine hits both; compare ratios, not figures, and take ratios from one run only. Writes build/bench.json, rows of workload, sessions,
server, metric, value, unit, ratio_to_postfix, and build/bench.md, the table of docs/PERFORMANCE.md.

  accept     messages that got 250 for their final dot, per second; nothing is delivered (`-tcpserver`: a process per connection)
  recipients recipients taken per second, 1,000 a message
  relay      through the server to a sink that counts: from the first connect to the last delivery; `spread`: to 50 destinations
  local      to the Maildirs of 20 or 100 virtual users, until all files are in new/
  idle       memory (PSS) of all processes for each of 500 open connections that said EHLO
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STATE = os.environ.setdefault("BENCH_DIR", "/var/tmp/tappal-bench")
os.environ["TAPPAL_TEST_ROOTS"] = f"{STATE}/hosts"
sys.path[:0] = [f"{TOP}/tests/lib", f"{TOP}/tests/bench"]
from host import wait_until  # noqa: E402
from measure import flushes, machine, sync_us  # noqa: E402
from servers import SINK, SINK_PORT, SPREAD, SPREAD_BASE, PostfixServer, Tappal, TappalTcpserver  # noqa: E402

BIN = f"{TOP}/build/bench"
SECONDS = "240"      # no load goes on longer


def load(server, *arguments):
    argv = [f"{BIN}/load", server.address, *map(str, arguments), "-T", SECONDS]
    return json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)


class Cost:
    """What the server used since then."""

    def __init__(self, server):
        self.server, self.cpu, self.flushes = server, server.group.cpu_seconds(), flushes(STATE)

    def per_message(self, count):
        return {"cpu_ms_per_message": round((self.server.group.cpu_seconds() - self.cpu) * 1e3 / count, 3),
                "syncs_per_message": round((flushes(STATE) - self.flushes) / count, 3)}


def checked(result, count):
    assert result["accepted"] == count, result
    return result


def accept(server, run):
    server.start("accept")
    load(server, "-s", run.sessions, "-m", run.sessions * 2)     # processes for that many sessions are there
    cost = Cost(server)
    r = checked(load(server, "-s", run.sessions, "-m", run.count, "-d", run.per_connection), run.count)
    return {"per_s": r["per_s"], "p50_ms": r["p50_ms"], "p99_ms": r["p99_ms"], **cost.per_message(run.count)}


def recipients(server, run):
    server.start("accept")
    cost = Cost(server)
    r = checked(load(server, "-s", run.sessions, "-m", run.count, "-d", 0, "-r", 1000, "-P"), run.count)
    return {"per_s": round(r["per_s"] * 1000, 1), "cpu_ms_per_message": cost.per_message(run.count)["cpu_ms_per_message"]}


def relay_to(server, run, mode, sink_at, addresses, rcpt):
    server.start(mode)
    sink = subprocess.Popen([f"{BIN}/sink", f"{sink_at}:{SINK_PORT}", str(run.count), SECONDS, str(addresses)], stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    cost = Cost(server)
    r = checked(load(server, "-s", run.sessions, "-m", run.count, "-d", run.per_connection, *rcpt), run.count)
    out = json.loads(sink.communicate()[0])
    assert out["distinct"] == run.count and out["repeats"] == 0, (server.name, out)
    return {"per_s": round(run.count / (out["last"] - r["first"]), 1), "connections": out["connections"],
            **cost.per_message(run.count)}


def relay(server, run):
    return relay_to(server, run, "relay", SINK, 1, [])


def spread(server, run):
    return relay_to(server, run, "spread", SPREAD_BASE, SPREAD, ["-t", "rcpt%lu@d%lu.tappal", "-D", SPREAD])


def files_in_maildirs(base, users):
    n = 0
    for user in range(1, users + 1):
        try:
            n += len(os.listdir(f"{base}/user{user}@local.tappal/Maildir/new"))
        except OSError:
            pass
    return n


def local(server, run):
    server.start("local")
    cost = Cost(server)
    r = checked(load(server, "-s", run.sessions, "-m", run.count, "-d", run.per_connection, "-t", "user%lu@local.tappal", "-k", run.users), run.count)
    wait_until(lambda: files_in_maildirs(server.maildirs, run.users) >= run.count, int(SECONDS), 0.05)
    wall = time.clock_gettime(time.CLOCK_MONOTONIC) - r["first"]
    assert files_in_maildirs(server.maildirs, run.users) == run.count
    return {"per_s": round(run.count / wall, 1), **cost.per_message(run.count)}


def idle(server, run):
    server.start("accept")
    before = server.group.pss_kib()
    argv = [f"{BIN}/load", server.address, "-s", str(run.sessions), "-i", "-T", "60"]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
        opened = json.loads(p.stdout.readline())["idle"]
        assert opened == run.sessions, opened
        time.sleep(1)
        return {"pss_kib_per_connection": round((server.group.pss_kib() - before) / opened, 1)}


class Run:
    def __init__(self, label, workload, sessions, count, per_connection=0, users=0, servers=("tappal", "postfix")):
        self.label, self.workload, self.sessions, self.count = label, workload, sessions, count
        self.per_connection, self.users, self.servers = per_connection, users, servers


def plan(quick):
    n = 2000 if quick else 5000
    runs = [Run("accept", accept, s, n if s > 1 else n // 2) for s in ((1, 50) if quick else (1, 10, 50, 200))]
    runs += [Run("accept, a connection each", accept, s, n if s > 1 else n // 2, 1, servers=("tappal", "tappal-tcpserver", "postfix"))
             for s in ((20,) if quick else (1, 10, 50, 200))]
    runs += [Run("recipients, 1,000 a message", recipients, 10, 20 if quick else 50), Run("relay to one destination", relay, 20, n),
             Run(f"relay to {SPREAD} destinations", spread, 20, n)]
    runs += [Run(f"local to {users} users", local, 20, n, users=users) for users in ((20,) if quick else (20, 100))]
    return runs + [Run("idle", idle, 500, 500)]


UNITS = {"per_s": "1/s", "p50_ms": "ms", "p99_ms": "ms", "cpu_ms_per_message": "ms", "syncs_per_message": "1", "connections": "1",
         "pss_kib_per_connection": "KiB"}


def measure(run, servers, reps):
    got = {s.name: [] for s in servers if s.name in run.servers}
    for _ in range(reps):
        for server in servers:
            if server.name not in got:
                continue
            subprocess.run([f"{TOP}/tests/bench/freshfs", "up", STATE], check=True)
            try:
                got[server.name].append(run.workload(server, run))
            finally:
                server.stop()
    return {name: {metric: statistics.median(r[metric] for r in results) for metric in results[0]} for name, results in got.items()}


def rows_of(run, medians):
    rows = []
    for name, metrics in medians.items():
        for metric, value in metrics.items():
            peer = medians.get("postfix", {}).get(metric)
            ratio = float(f"{value / peer:.3g}") if peer else None
            rows.append(dict(workload=run.label, sessions=run.sessions, server=name, metric=metric, value=value, unit=UNITS[metric], ratio_to_postfix=ratio))
            print(f"{run.label:30} {run.sessions:4} {name:16} {metric:22} {value:10} {'' if ratio is None else f'{ratio}x'}", flush=True)
    return rows


def short(value):
    return "" if value is None else f"{float(f'{value:.4g}'):g}"


def table(rows, about):
    text = f"{about}\n\n| workload | sessions | metric | tappal | Postfix | ratio |\n|---|---|---|---|---|---|\n"
    peers = {(r["workload"], r["sessions"], r["metric"]): r["value"] for r in rows if r["server"] == "postfix"}
    for r in rows:
        if r["server"] == "postfix":
            continue
        name = r["workload"] + (" (tcpserver)" if r["server"].endswith("tcpserver") else "")
        peer = peers.get((r["workload"], r["sessions"], r["metric"]))
        text += f"| {name} | {r['sessions']} | {r['metric']} | {short(r['value'])} | {short(peer)} | {short(r['ratio_to_postfix'])} |\n"
    return text


def measure_disk():
    subprocess.run([f"{TOP}/tests/bench/freshfs", "up", STATE], check=True)
    return (f"{machine()}; the disk: {sync_us(STATE, False)} us for an fdatasync of 4 KiB in place, {sync_us(STATE, True)} us for a new file of "
            "4 KiB with its fsync")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--reps", type=int)
    parser.add_argument("--servers", default="tappal,tappal-tcpserver,postfix", help="a comma list")
    parser.add_argument("--only", default="", help="workloads whose label begins so")
    parser.add_argument("--sessions", type=int, help="only runs with so many")
    parser.add_argument("--count", type=int, help="messages, instead of the plan's number")
    a = parser.parse_args()
    servers = [s for s in (Tappal(), TappalTcpserver(), PostfixServer()) if s.name in a.servers.split(",")]
    rows, about = [], measure_disk()
    print(about, flush=True)
    for run in plan(a.quick):
        if run.label.startswith(a.only) and a.sessions in (None, run.sessions):
            run.count = a.count or run.count
            rows += rows_of(run, measure(run, servers, a.reps or (1 if a.quick else 3)))
    subprocess.run([f"{TOP}/tests/bench/freshfs", "down", STATE], check=True)
    with open(f"{TOP}/build/bench.json", "w") as f:
        json.dump(rows, f, indent=1)
    with open(f"{TOP}/build/bench.md", "w") as f:
        f.write(table(rows, about))


main()
