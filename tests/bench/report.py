"""From measured values to rows, the tables of docs/PERFORMANCE.md, and the targets: what of it is met."""
import json

UNITS = {"s": "s", "ms": "ms", "mib": "MiB"}
OF_METRIC = {"per_s": "1/s", "recipients_per_s": "1/s", "cpu_ms_per_message": "ms", "load_cpu_ms_per_message": "ms",
             "pss_kib_per_connection": "KiB", "private_kib_per_connection": "KiB", "handshakes_per_s": "1/s",
             "cpu_ms_per_handshake": "ms", "load_cpu_ms_per_handshake": "ms", "octets_on_disk_per_message": "octets"}
RATIOS = ("full_to_empty", "p99_full_to_empty", "syncs_per_message", "messages_per_connection", "messages_queued")


def unit(metric):
    """Of one with a queue's state at its end ("p99_ms_full") that of the rest."""
    if metric in RATIOS:
        return "1"
    rest, _, state = metric.rpartition("_")
    if state in ("empty", "full"):
        return unit(rest)
    return OF_METRIC.get(metric) or UNITS[metric.rsplit("_", 1)[1]]


def rows_of(run, medians, reasons):
    """Rows of the JSON file, printed as they come; a server that cannot run has one that says why."""
    rows = []
    for (server, sessions), metrics in medians.items():
        for metric, value in metrics.items():
            peer = medians.get(("postfix", sessions), {}).get(metric)
            rows.append(dict(workload=run.label, sessions=sessions, server=server, metric=metric, value=value, unit=unit(metric),
                             ratio_to_postfix=float(f"{value / peer:.3g}") if peer else None))
    rows += [dict(workload=run.label, sessions=s, server=server, metric="not run", value=None, unit=why[:300], ratio_to_postfix=None)
             for server, why in reasons.items() for s in run.sessions]
    for r in rows:
        ratio = "" if r["ratio_to_postfix"] is None else f"{r['ratio_to_postfix']:g}x"
        print(f"{r['workload']:44} {r['sessions']:4} {r['server']:22} {r['metric']:28} {short(r['value']):>9} {r['unit']:7} {ratio}", flush=True)
    return rows


def short(value):
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{float(f'{value:.4g}'):g}"


def table(rows, servers):
    names = [s.name for s in servers]
    compared = [name for name in names if name != "postfix"] if "postfix" in names else []
    lines = [["workload", "sessions", "metric", *names, *(f"{name} : postfix" for name in compared if name.startswith("tappal"))]]
    cells = {(r["workload"], r["sessions"], r["metric"], r["server"]): r for r in rows}
    seen = set()
    for r in rows:
        key = (r["workload"], r["sessions"], r["metric"])
        if key in seen or r["metric"] == "not run":
            continue
        seen.add(key)
        of = [cells.get((*key, name), {}) for name in names]
        ratios = [cells.get((*key, name), {}).get("ratio_to_postfix") for name in compared if name.startswith("tappal")]
        lines.append([key[0], str(key[1]), f"{key[2]}, {r['unit']}", *(short(c.get("value")) for c in of), *(short(ratio) for ratio in ratios)])
    return markdown(lines)


def markdown(lines):
    return "".join(f"| {' | '.join(line)} |\n" for line in [lines[0], ["---"] * len(lines[0]), *lines[1:]])


def durability(rows, servers):
    """What each syncs, and what was measured: flushes of its disk for a message from one session, and from 50, many in
    a connection (tcpserver: one)."""
    lines = [["server", "version", "syncs", "measured a message, 1 session", "50 sessions"]]
    for s in servers:
        load = "accept 4 KiB, a connection each" if s.name.startswith("tappal-tcpserver") else "accept 4 KiB, many in a connection"
        got = {r["sessions"]: r["value"] for r in rows if (r["workload"], r["server"], r["metric"]) == (load, s.name, "syncs_per_message")}
        lines.append([s.name, s.version(), f"{s.durability}. {s.delivery}", short(got.get(1)), short(got.get(50))])
    return markdown(lines)


class Found:
    """Values by (workload's beginning, server, metric)."""

    def __init__(self, rows):
        self.rows = [r for r in rows if r["value"] is not None]

    def all(self, begins, metric, key="value", server="tappal", sessions=None, ends=""):
        return [r[key] for r in self.rows if r["workload"].startswith(begins) and r["workload"].endswith(ends) and r["server"] == server
                and r["metric"] == metric and r[key] is not None and (sessions is None or r["sessions"] in sessions)]

    def ratios(self, begins, metric="per_s", **other):
        return self.all(begins, metric, "ratio_to_postfix", **other)


def targets(rows):
    """[[what, target, worst measured, met or missed]]. A queue shorter than 1,000,000 stands in for it, where a fixed size does not decide."""
    f = Found(rows)
    accept, each, long = "accept 4 KiB, many in a connection", "accept 4 KiB, a connection each", "1,000,000 deferred"
    if not f.all(long, "per_s_full"):
        long = next((r["workload"] for r in rows if r["workload"].endswith(" deferred")), long)
    busy = (10, 20, 50, 200)
    size = 1024
    wanted = [
        ("accept, many in a connection", "ratio", f.ratios(accept, sessions=busy, ends="connection"), 8, True),
        ("the same, pipelining", "ratio", f.ratios(accept, sessions=busy, ends="pipelining"), 8, True),
        ("accept, a connection each, pool", "ratio", f.ratios(each, sessions=busy, ends="each"), 5, True),
        ("accept, a connection each, tcpserver", "ratio", f.ratios(each, sessions=busy, server="tappal-tcpserver", ends="each"), 1.5, True),
        ("relay, one destination and 50", "ratio", f.ratios("relay"), 5, True),
        ("local, 20 and 100 users", "ratio", f.ratios("local to 20 ") + f.ratios("local to 100"), 3, True),
        ("CPU, message accepted and relayed", "ratio", f.ratios("relay", "cpu_ms_per_message"), 0.25, False),
        ("syncs, message accepted, 50 sessions", "each", f.all(accept, "syncs_per_message", sessions=(50,)), 0.1, False),
        ("idle connection, 500 open", "KiB of PSS", f.all("idle", "pss_kib_per_connection", sessions=(500,)), 100, False),
        ("TLS handshakes, ECDSA and RSA", "ratio", f.ratios("tls ", "handshakes_per_s"), 1, True),
        ("idle TLS session, 100 open", "KiB, private", f.all("idle TLS", "private_kib_per_connection"), 600, False),
        (f"{long}: accept rate to empty queue's", "ratio", f.all(long, "full_to_empty"), 0.9, True),
        (f"{long}: first page of the list", "s", f.all(long, "list_first_page_s"), 0.1, False),
        (f"{long}: restart to first delivery", "s", f.all(long, "restart_to_first_delivery_s"), 2, False),
        (f"{long}: queued, resident", "MiB", f.all(long, "manager_resident_mib"), 128, False),
        (f"{long}: queued, anonymous part", "MiB", f.all(long, "manager_anonymous_mib"), 128, False),
        (f"1,000,000 deferred: on disk each, {size} octets sent", "octets", f.all("1,000,000 deferred", "octets_on_disk_per_message"),
         1.3 * size + 1024, False),
        ("a dead destination: other mail's p99 to empty queue's", "ratio", f.all("a dead destination", "p99_full_to_empty"), 1.2, False),
    ]
    lines = [["target", "", "at least / at most", "worst measured", ""]]
    for what, of, values, bound, least in wanted:
        worst = (min if least else max)(values) if values else None
        verdict = "not measured" if worst is None else "met" if (worst >= bound if least else worst <= bound) else "missed"
        lines.append([what, of, f"{'>=' if least else '<='} {short(bound)}", short(worst), verdict])
    return lines


def write(build, rows, about, servers, took):
    """build/bench.json and build/bench.md; returns what is printed at the end."""
    with open(f"{build}/bench.json", "w") as f:
        json.dump(rows, f, indent=1)
    reasons = sorted({f"{r['server']} did not run ({r['workload']}): {r['unit'].splitlines()[0][:300]}" for r in rows if r["metric"] == "not run"})
    end = "\n".join(["## Targets", "", markdown(targets(rows)), "## Durability", "", durability(rows, servers)])
    text = "\n".join([f"{about}; {took / 60:.0f} minutes", *reasons, "", end, "## Measured", "", table(rows, servers)])
    with open(f"{build}/bench.md", "w") as f:
        f.write(text)
    return "\n".join(["", *reasons, end]) + f"\n{took:.0f} s; build/bench.json, build/bench.md"
