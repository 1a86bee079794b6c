"""tappal beside Debian's Postfix in one run on one disk, both fully durable: `make bench`, `make bench QUICK=1`.

Every run has a newly made journaled ext4 of its own (tests/bench/freshfs). Servers take turns within every repeat, so that a slow spell of
the machine hits both; compare ratios, not figures. Writes build/bench.json: rows of workload, sessions, server, metric, value, unit,
ratio_to_postfix.

  accept     messages that got 250 for their final dot, per second; nothing is delivered
  relay      through the server to a sink that counts: from the first connect to the last delivery
  local      to the Maildirs of 20 virtual users
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STATE = os.environ.get("BENCH_DIR", "/var/tmp/tappal-bench")
os.environ["TAPPAL_TEST_ROOTS"] = f"{STATE}/hosts"
sys.path.insert(0, f"{TOP}/tests/lib")
from host import Host, wait_until  # noqa: E402
from peers import Postfix  # noqa: E402

BIN = f"{TOP}/build/bench"
SINK = ("127.0.0.61", 2600)
USERS = 20


def files_in_maildirs(base):
    n = 0
    for user in range(1, USERS + 1):
        try:
            n += len(os.listdir(f"{base}/user{user}@local.tappal/Maildir/new"))
        except OSError:
            pass
    return n


class Tappal:
    name = "tappal"

    def start(self, mode):
        settings = {"me": "bench.tappal", "clients": ["127.0.0.0/8"], "locals": ["local.tappal"], "smtpdsessions": "250", "concurrencyremote": "50",
                    "concurrencylocal": "20", "destinationstart": "20", "destinationwindow": "50", "maxcommands": "1000000"}
        if mode != "local":
            settings["smtproutes"] = [f":{SINK[0]}:{SINK[1]}"]
        self.host = Host("bench", "127.0.0.62", settings=settings).__enter__()
        for user in range(1, USERS + 1):
            self.host.add_mailbox(f"user{user}@local.tappal")
        self.address = f"{self.host.address}:{self.host.port}"
        self.host.start(*(["queued", "smtpd"] if mode == "accept" else []))
        self.maildirs = f"{self.host.root}/mail"

    def stop(self):
        self.host.__exit__()


class PostfixServer:
    name = "postfix"

    def start(self, mode):
        relay = "" if mode == "local" else f"relayhost = [{SINK[0]}]:{SINK[1]}\n"
        hold = "smtpd_recipient_restrictions = check_recipient_access static:HOLD\n" if mode == "accept" else ""
        tuning = """default_process_limit = 250
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
in_flow_delay = 0
default_destination_concurrency_limit = 50
initial_destination_concurrency = 50
virtual_destination_concurrency_limit = 20
qmgr_message_active_limit = 20000
qmgr_message_recipient_limit = 20000
smtp_connection_cache_on_demand = yes
message_size_limit = 0
virtual_mailbox_limit = 0
smtp_bind_address =
"""
        os.makedirs(f"{STATE}/postfix", exist_ok=True)
        self.server = Postfix(f"{STATE}/postfix", "127.0.0.63", 2525, "bench.tappal", domains=["local.tappal"],
                              users=[f"user{n}@local.tappal" for n in range(1, USERS + 1)], extra=relay + hold + tuning)
        self.server.start()
        self.address = "127.0.0.63:2525"
        self.maildirs = self.server.maildirs

    def stop(self):
        self.server.stop()


def load(server, *arguments):
    argv = [f"{BIN}/load", server.address, *map(str, arguments), "-T", "300"]
    return json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)


def syncs():
    """Flushes of the loop device under STATE, from /proc/diskstats."""
    device = os.path.basename(subprocess.run(["findmnt", "-no", "SOURCE", STATE], stdout=subprocess.PIPE, text=True).stdout.strip())
    for line in open("/proc/diskstats"):
        field = line.split()
        if field[2] == device and len(field) > 18:
            return int(field[18])
    return 0


def accept(server, sessions, per_connection, count):
    server.start("accept")
    load(server, "-s", sessions, "-m", sessions * 2)
    before = syncs()
    r = load(server, "-s", sessions, "-m", count, "-d", per_connection)
    return {"per_s": r["per_s"], "p99_ms": r["p99_ms"], "flushes_per_message": round((syncs() - before) / max(1, r["accepted"]), 3)}


def relay(server, sessions, per_connection, count):
    server.start("relay")
    sink = subprocess.Popen([f"{BIN}/sink", "%s:%d" % SINK, str(count), "300"], stdout=subprocess.PIPE, text=True)
    time.sleep(0.3)
    r = load(server, "-s", sessions, "-m", count, "-d", per_connection)
    out = json.loads(sink.communicate()[0])
    assert out["distinct"] == count, (server.name, out)
    return {"per_s": round(count / (out["last"] - r["first"]), 1), "repeats": out["repeats"]}


def local(server, sessions, per_connection, count):
    server.start("local")
    r = load(server, "-s", sessions, "-m", count, "-d", per_connection, "-t", "user%lu@local.tappal", "-k", USERS)
    wait_until(lambda: files_in_maildirs(server.maildirs) >= count, 300, 0.02)
    wall = time.clock_gettime(time.CLOCK_MONOTONIC) - r["first"]
    return {"per_s": round(files_in_maildirs(server.maildirs) / wall, 1)}


UNITS = {"per_s": "1/s", "p99_ms": "ms", "flushes_per_message": "1", "repeats": "1"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--only", help="tappal or postfix")
    a = parser.parse_args()
    count, reps = (1500, 1) if a.quick else (5000, a.reps)
    plan = [("accept", accept, s, d) for s in ((1, 20) if a.quick else (1, 10, 50, 200)) for d in (0, 1)]
    plan += [("relay", relay, 20, 0), ("local", local, 20, 0)]
    servers = [s for s in (Tappal(), PostfixServer()) if a.only in (None, s.name)]
    rows = []
    for workload, run, sessions, per_connection in plan:
        got = {s.name: [] for s in servers}
        for _ in range(reps):
            for server in servers:
                subprocess.run([f"{TOP}/tests/bench/freshfs", "up", STATE], check=True)
                try:
                    got[server.name].append(run(server, sessions, per_connection, count if sessions > 1 else count // 2))
                finally:
                    server.stop()
        label = f"{workload}{'' if per_connection == 0 else ', one message per connection'}"
        for server in servers:
            for metric in got[server.name][0]:
                value = statistics.median(r[metric] for r in got[server.name])
                peer = statistics.median(r[metric] for r in got["postfix"]) if got.get("postfix") and metric in got["postfix"][0] else None
                ratio = round(value / peer, 2) if peer else None
                rows.append(dict(workload=label, sessions=sessions, server=server.name, metric=metric, value=value, unit=UNITS[metric], ratio_to_postfix=ratio))
                print(f"{label:40} {sessions:4} {server.name:8} {metric:20} {value:10} {'' if ratio is None else f'{ratio}x'}", flush=True)
    subprocess.run([f"{TOP}/tests/bench/freshfs", "down", STATE], check=True)
    with open(f"{TOP}/build/bench.json", "w") as f:
        json.dump(rows, f, indent=1)


main()
