"""What is done to a server, and what is measured meanwhile. Each workload starts the server, yields (sessions, {metric: value}) for each of its
steps, and fails when a message is lost or comes twice. How long a step lasts is bounded in time (load -w) and in messages.

  accept     messages that got 250 for their final dot, per second; nothing is delivered
  recipients recipients taken per second, 1,000 a message
  relay      through the server to a sink that counts: from the first connect to the last delivery; also to SPREAD destinations
  local      to the Maildirs of so many virtual users, until all files are in new/
  idle       memory (PSS) of all processes for each open connection that said EHLO
  handshakes full TLS handshakes after STARTTLS, a connection each, per second, with a certificate of one kind
  idle_tls   memory of all processes for each open connection that said EHLO within TLS: PSS, and what is private
"""
import json
import os
import re
import subprocess
import time

from host import wait_until
from measure import flushes
from servers import SINK, SINK_PORT, SPREAD, SPREAD_BASE, STATE, TOP

BIN = f"{TOP}/build/bench"
SECONDS = 240        # no load and no sink goes on longer, unless told
MOST = 300000        # messages of a step


def load(server, *arguments, seconds=SECONDS):
    argv = [f"{BIN}/load", server.address, *map(str, arguments), "-T", str(seconds)]
    result = json.loads(subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True).stdout)
    assert result["accepted"] == result["begun"] > 0 and result["cut"] == 0, (server.name, arguments, result)
    return result


class Cost:
    """What the server used since then."""

    def __init__(self, server):
        self.server, self.cpu, self.flushes = server, server.group.cpu_seconds(), flushes(STATE)

    def per_message(self, count):
        return {"cpu_ms_per_message": round((self.server.group.cpu_seconds() - self.cpu) * 1e3 / count, 4),
                "syncs_per_message": round((flushes(STATE) - self.flushes) / count, 4)}


def of_load(result, sink=None):
    """The load generator's own CPU, the sink's with it: beside `cpu_ms_per_message` it tells whether they were the bottleneck."""
    return {"load_cpu_ms_per_message": round((result["cpu_s"] + (sink or {"cpu_s": 0})["cpu_s"]) * 1e3 / result["accepted"], 4)}


class Sink:
    def __init__(self, address, addresses=1, seconds=SECONDS):
        argv = [f"{BIN}/sink", f"{address}:{SINK_PORT}", str(seconds), str(addresses)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline() == "ready\n"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def result(self, server, count):
        """When `count` recipients have their mail; each once."""
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        out = json.loads(self.process.stdout.readline())
        assert out["distinct"] == count and out["repeats"] == 0, (server.name, count, out)
        return out


def client(run):
    return ["-l", run.size, "-d", run.per_connection, *(["-P"] if run.pipelining else [])]


def all_queued(server, accepted, seconds=30):
    queued = server.wait_queued(accepted, seconds)
    assert queued == accepted, (server.name, f"{accepted} accepted, {queued} in the queue")


def warm_up(server, run, count, rcpt=()):
    """Processes, connections and folders that any later message finds are there; these messages have the numbers before those of the step."""
    load(server, "-s", min(run.sessions[0], count), "-m", count, *client(run), *rcpt)
    return count


def accept(server, run):
    server.start("accept")
    total = 0
    for sessions in run.sessions:
        total += load(server, "-s", sessions, "-m", sessions * 2, *client(run))["accepted"]     # processes for that many sessions are there
        cost = Cost(server)
        r = load(server, "-s", sessions, "-m", run.count or MOST, "-w", run.seconds, *client(run))
        used = cost.per_message(r["accepted"])
        total += r["accepted"]
        yield sessions, {"per_s": r["per_s"], "p50_ms": r["p50_ms"], "p99_ms": r["p99_ms"], **used, **of_load(r)}
    all_queued(server, total)


def recipients(server, run):
    server.start("accept")
    total = 0
    for sessions in run.sessions:
        cost = Cost(server)
        r = load(server, "-s", sessions, "-m", run.count or 200, "-w", run.seconds, "-d", 0, "-r", 1000, "-P")
        total += r["accepted"]
        yield sessions, {"recipients_per_s": round(r["per_s"] * 1000, 1), **cost.per_message(r["accepted"]), **of_load(r)}
    all_queued(server, total)


def relay_to(server, run, mode, sink_at, addresses, rcpt):
    server.start(mode)
    for sessions in run.sessions:
        with Sink(sink_at, addresses) as sink:
            before = warm_up(server, run, sessions * 5, rcpt) if server.warm_relay else 0
            warm = sink.result(server, before)
            cost = Cost(server)
            r = load(server, "-s", sessions, "-b", before, "-m", run.count or MOST, "-w", run.seconds, "-S", *client(run), *rcpt)
            out = sink.result(server, before + r["accepted"])
            used = cost.per_message(r["accepted"])
            out["cpu_s"] -= warm["cpu_s"]
            yield sessions, {"per_s": round(r["accepted"] / (out["last"] - r["first"]), 1), "p50_ms": out["p50_ms"], "p99_ms": out["p99_ms"],
                             "messages_per_connection": round(out["messages"] / out["connections"], 1), **used, **of_load(r, out)}


def relay(server, run):
    return relay_to(server, run, "relay", SINK, 1, [])


def spread(server, run):
    return relay_to(server, run, "spread", SPREAD_BASE, SPREAD, ["-t", "rcpt%lu@d%lu.tappal", "-D", SPREAD])


def folders_new(server, run):
    return [f"{server.maildirs}/user{user}@local.tappal/Maildir/new" for user in range(1, run.users + 1)]


def count_in(folders):
    return sum(len(os.listdir(folder)) for folder in folders if os.path.isdir(folder))


def look_at_mail(server, run, count):
    """All `count` numbers once, each in its user's Maildir; the time (monotonic) at which the last of them got its name."""
    seen, last = set(), 0
    for user, folder in enumerate(folders_new(server, run)):
        for entry in os.scandir(folder):
            number = int(re.search(rb"^Message-I[dD]: <bench-(\d+)@", open(entry.path, "rb").read(4096), re.M).group(1))
            assert number % run.users == user and number not in seen, (server.name, entry.path, "is not where it should be, or came twice")
            seen.add(number)
            last = max(last, entry.stat().st_ctime)
    assert seen == set(range(count)), (server.name, f"{count} accepted, {len(seen)} found")
    return last - time.time() + time.monotonic()


def local(server, run):
    server.start("local")
    sessions, rcpt = run.sessions[0], ["-t", "user%lu@local.tappal", "-k", run.users]
    before = warm_up(server, run, max(run.users, sessions), rcpt)
    wait_until(lambda: count_in(folders_new(server, run)) >= before, 60, 0.1)
    cost = Cost(server)
    r = load(server, "-s", sessions, "-b", before, "-m", run.count or MOST, "-w", run.seconds, *client(run), *rcpt)
    wait_until(lambda: count_in(folders_new(server, run)) >= before + r["accepted"], SECONDS, 0.2)
    time.sleep(0.5)      # for what comes twice
    used = cost.per_message(r["accepted"])
    last = look_at_mail(server, run, before + r["accepted"])
    yield sessions, {"per_s": round(r["accepted"] / (last - r["first"]), 1), **used, **of_load(r)}


def idle(server, run):
    server.start("accept")
    load(server, "-s", 1, "-m", 1)     # all that starts with the first connection is there
    for sessions in run.sessions:
        before = server.group.pss_kib()
        argv = [f"{BIN}/load", server.address, "-s", str(sessions), "-i", "-T", "60"]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
            opened = json.loads(p.stdout.readline())["idle"]
            assert opened == sessions, (server.name, opened, server.log()[-2000:])
            time.sleep(1)
            yield sessions, {"pss_kib_per_connection": round((server.group.pss_kib() - before) / opened, 1)}


def handshakes(server, run):
    server.start(run.label)
    argv = [f"{BIN}/handshakes", server.address]
    subprocess.run([*argv, "-s", "4", "-w", "0.2"], stdout=subprocess.DEVNULL, check=True)     # all that starts with the first one is there
    for sessions in run.sessions:
        began = server.group.cpu_seconds()
        out = json.loads(subprocess.run([*argv, "-s", str(sessions), "-w", str(run.seconds)], stdout=subprocess.PIPE, text=True, check=True).stdout)
        assert out["handshakes"] > 0 and out["failures"] == 0, (server.name, out, server.log()[-2000:])
        yield sessions, {"handshakes_per_s": out["per_s"], "cpu_ms_per_handshake": round((server.group.cpu_seconds() - began) * 1e3 / out["handshakes"], 4),
                         "load_cpu_ms_per_handshake": round(out["cpu_s"] * 1e3 / out["handshakes"], 4)}


def idle_tls(server, run):
    server.start("tls ECDSA P-256")
    argv = [f"{BIN}/handshakes", server.address]
    subprocess.run([*argv, "-s", "1", "-w", "0.2"], stdout=subprocess.DEVNULL, check=True)
    for sessions in run.sessions:
        before = server.group.pss_kib(), server.group.private_kib()
        with subprocess.Popen([*argv, "-s", str(sessions), "-i"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
            opened = json.loads(p.stdout.readline())["idle"]
            assert opened == sessions, (server.name, opened, server.log()[-2000:])
            time.sleep(1)
            yield sessions, {"pss_kib_per_connection": round((server.group.pss_kib() - before[0]) / opened, 1),
                             "private_kib_per_connection": round((server.group.private_kib() - before[1]) / opened, 1)}
