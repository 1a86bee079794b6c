"""Workloads with a long queue. Mail for hosts that refuse connections fills it. The other servers get what they accept in `fill_seconds`, and
the rows say how many that was.

  scale      accept rate with the queue full against the same queue nearly empty, first page of the list, octets on disk, memory of the queue's
             manager, restart of the server to the first delivery of a message that is sent then
  dead       one destination that refuses connections has all that mail: what becomes of the latency of other mail, which is sent at a steady rate,
             with the scatter: p99 of each of LATENCY_WINDOWS windows of tappal's before and after (the others have one: theirs is in seconds)
"""
import statistics
import time

from measure import resident_mib
from servers import SINK, SPREAD
from workloads import Cost, Sink, all_queued, load

TO_DEAD = ["-t", "rcpt%lu@d%lu.tappal", "-D"]
WINDOWS = 5          # rates are medians of so many
LATENCY_WINDOWS = 5


def rate(server, run, to):
    """Median accept rate of WINDOWS short loads, and how many messages that were."""
    options = ["-s", run.sessions[0], "-m", run.window_count, "-w", run.window, "-d", 0, "-P", "-l", run.size, *to]
    results = [load(server, *options) for _ in range(WINDOWS)]
    return statistics.median(r["per_s"] for r in results), sum(r["accepted"] for r in results)


def fill(server, run, count, to):
    """`count` messages, or as many as fit in the time that other servers than tappal have."""
    seconds = 900 if server.is_tappal else run.fill_seconds
    return load(server, "-s", run.sessions[0], "-m", count, "-w", seconds, "-d", 0, "-P", "-l", run.size, *to, seconds=seconds + 120)["accepted"]


def first_delivery_s(server):
    """From the start of the server, which was ended before, to a delivery of mail that is sent as soon as it answers."""
    server.end_now()
    with Sink(SINK) as sink:
        began = time.monotonic()
        with server.group:
            server.begin_again()
        load(server, "-s", 1, "-m", 1, "-t", "first%lu@live.tappal")
        return sink.result(server, 1)["last"] - began


def page_s(server):
    first = server.first_page_s()
    return {"list_first_page_cold_s": round(first, 4), "list_first_page_s": round(statistics.median(server.first_page_s() for _ in range(5)), 4)}


def scale(server, run):
    server.start("dead")
    to = [*TO_DEAD, SPREAD]
    empty, count = rate(server, run, to)
    cost = Cost(server)
    filled = fill(server, run, max(run.count - count, 1), to)
    used = cost.per_message(filled)
    count += filled
    full, more = rate(server, run, to)
    queued = count + more
    all_queued(server, queued, 60)
    anonymous, resident = resident_mib(server.manager_pids())
    memory = {"manager_anonymous_mib": anonymous, "manager_resident_mib": resident} if server.manager_pids() else {}
    yield run.sessions[0], {
        "messages_queued": queued, "per_s_empty": empty, "per_s_full": full, "full_to_empty": round(full / empty, 3), **used,
        **page_s(server), **memory,
        "octets_on_disk_per_message": round(server.queue_octets() / queued), "restart_to_first_delivery_s": round(first_delivery_s(server), 3)}


def other_mail(server, run, sink, first):
    """End-to-end latency of mail to a living host, at a steady rate; windows are numbered from `first`."""
    count = max(int(run.rate * run.seconds), 1)
    load(server, "-s", 10, "-b", first * count, "-m", count, "-R", run.rate, "-d", 0, "-S", "-t", "live%lu@live.tappal")
    return sink.result(server, (first + 1) * count)


def latency(server, run, sink, first, windows, queue):
    """Medians of so many windows, the least and the most p99 of one, and flushes of the disk, which depend less on the machine's other work."""
    cost = Cost(server)
    results = [other_mail(server, run, sink, first + n) for n in range(windows)]
    p99 = [r["p99_ms"] for r in results]
    used = cost.per_message(windows * max(int(run.rate * run.seconds), 1))
    return {f"p50_ms_{queue}": statistics.median(r["p50_ms"] for r in results), f"p99_ms_{queue}": statistics.median(p99),
            f"least_p99_ms_{queue}": min(p99), f"most_p99_ms_{queue}": max(p99), f"syncs_per_message_{queue}": used["syncs_per_message"]}


def dead(server, run):
    """One sink for all windows: a server that met a closed one would wait for minutes. The first window starts processes."""
    windows = LATENCY_WINDOWS if server.is_tappal else 1
    server.start("dead")
    with Sink(SINK, seconds=1500) as sink:
        other_mail(server, run, sink, 0)
        empty = latency(server, run, sink, 1, windows, "empty")
        queued = fill(server, run, run.count, [*TO_DEAD, 1])
        time.sleep(2)        # what was accepted last has been tried
        full = latency(server, run, sink, 1 + windows, windows, "full")
    all_queued(server, queued, 60)
    yield run.sessions[0], {"messages_queued": queued, **empty, **full,
                            "p99_full_to_empty": round(full["p99_ms_full"] / empty["p99_ms_empty"], 3)}
