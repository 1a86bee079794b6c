"""tappal as it is measured, and what every server here can: start in a cgroup of its own with its queue on the file system under STATE, stop,
start again, tell how many messages it holds and what they take on disk. The others are in others.py."""
import json
import os
import pwd
import signal
import subprocess
import time

from host import Host, wait_until
from measure import Group
from peers import wait_for_port

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STATE = os.environ.get("BENCH_DIR", "/var/tmp/tappal-bench")
SINK, SINK_PORT = "127.0.0.61", 2600
SPREAD = 50                    # destinations, each an address of its own from SPREAD_BASE on; as many dead ones from DEAD_BASE on
SPREAD_BASE, DEAD_BASE = "127.0.2.1", "127.0.3.1"
USERS = 100


class Unavailable(Exception):
    """The server cannot run here; str() says why."""


def hosts_from(base):
    network, first = base.rsplit(".", 1)
    return {f"d{n}.tappal": f"{network}.{int(first) + n}" for n in range(SPREAD)}


def routes(mode):
    """Where mail for which domain goes; "" is all others."""
    if mode == "spread":
        return hosts_from(SPREAD_BASE)
    if mode == "dead":
        return {**hosts_from(DEAD_BASE), "live.tappal": SINK}
    return {"": SINK}


def users():
    return [f"user{n}" for n in range(1, USERS + 1)]


def first_lines(argv, lines, **options):
    """Seconds until a command has said so many lines, or all it has to say."""
    began = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, **options) as p:
        for _ in range(lines):
            if not p.stdout.readline():
                break
        took = time.monotonic() - began
        p.kill()
    return took


def disk_octets(*directories):
    """What the files there occupy."""
    total = 0
    for directory in directories:
        for base, folders, files in os.walk(directory):
            total += sum(os.lstat(f"{base}/{name}").st_blocks * 512 for name in folders + files)
    return total


def certificate(mode):
    """A self-signed certificate with its key, in one file below STATE, of the kind that a tls mode names; None in the other modes."""
    kinds = {"tls ECDSA P-256": ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"], "tls RSA 2048": ["rsa:2048"]}
    if mode not in kinds:
        return None
    path = f"{STATE}/certificate.pem"
    subprocess.run(["openssl", "req", "-x509", "-nodes", "-days", "30", "-subj", "/CN=bench.tappal", "-newkey", *kinds[mode], "-keyout", f"{path}.key",
                    "-out", f"{path}.chain"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with open(path, "w", opener=lambda name, flags: os.open(name, flags, 0o600)) as f:
        f.write(open(f"{path}.key").read() + open(f"{path}.chain").read())
    return path


class Server:
    """`mode`: accept (nothing is delivered), tls ... (the same, with a certificate of that kind), relay (all to the sink), spread (to SPREAD sinks), local (to Maildirs), dead (to SPREAD hosts that
    refuse connections; live.tappal to the sink)."""
    is_tappal = False
    group = None         # while it runs
    warm_relay = True    # relaying is measured after some mail has gone that way

    def prepare(self):
        """Raises Unavailable."""

    def version(self):
        said = subprocess.run(["git", "-C", TOP, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return said.stdout.strip()

    def start(self, mode):
        self.group = Group(f"tappal-bench-{self.name}")
        with self.group:
            self.begin(mode)

    def stop(self):
        """Also after a start that came to nothing."""
        if self.group:
            self.end()
            self.group.remove()
            self.group = None

    def begin_again(self):
        """After end_now(), with the same queue."""
        raise NotImplementedError

    def wait_queued(self, count, seconds=30):
        wait_until(lambda: self.queued() == count, seconds, 0.25)
        return self.queued()


class Tappal(Server):
    name = "tappal"
    is_tappal = True
    tcpserver = None     # the program that tcpserver starts for each connection
    durability = ("before 250: fdatasync of the log, shared by all who wait (bodies from 128 KiB on: fsync of a file of their own, and of its "
                  "directory)")
    delivery = "Maildir: fsync of the file, then of the directory"

    def begin(self, mode):
        settings = {"me": "bench.tappal", "clients": ["127.0.0.0/8"], "locals": ["local.tappal"], "smtpdsessions": "600", "concurrencyremote": "50",
                    "concurrencylocal": "100", "destinationstart": "20", "destinationwindow": "50", "maxcommands": "1000000"}
        if self.tcpserver:
            settings["smtpdlisten"] = []
        pem = certificate(mode)
        if pem:
            settings["tlscertificates"] = pem
        if mode != "local":
            settings["smtproutes"] = [f"{domain}:{ip}:{SINK_PORT}" for domain, ip in routes(mode).items()]
        self.host = Host("bench", "127.0.0.62", settings=settings).__enter__()
        self.host.add_mailboxes([f"{user}@local.tappal" for user in users()])
        self.address, self.maildirs = f"{self.host.address}:{self.host.port}", f"{self.host.root}/mail"
        daemons = ["queued", "tlsd"] if pem else {"accept": ["queued"], "local": ["queued", "spawn-local"]}.get(mode, ["queued", "resolver", "spawn-remote"])
        self.daemons = daemons + ([] if self.tcpserver == "smtpd" else ["smtpd"])
        self.begin_again()
        if not wait_until(self.queued_is_up, 60):      # mail would be taken before, too, the slow way
            raise RuntimeError(f"queued does not start: {self.log()[-2000:]}")

    def queued_is_up(self):
        return subprocess.run([f"{self.host.bin}/tappal", "status"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

    def begin_again(self):
        self.host.start(*(d for d in self.daemons if d != "smtpd"))
        if self.tcpserver:
            self.serve_by_tcpserver()
        if "smtpd" in self.daemons:
            self.host.start("smtpd")

    def serve_by_tcpserver(self):
        user = pwd.getpwnam("tappal-smtpd")
        log = open(f"{self.host.root}/log/tcpserver", "ab")
        self.host.running["tcpserver"] = subprocess.Popen(
            ["tcpserver", "-H", "-R", "-l0", "-c", "600", "-b", "600", "-u", str(user.pw_uid), "-g", str(user.pw_gid),
             self.host.address, str(self.host.port), f"{self.host.libexec}/{self.tcpserver}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if not wait_for_port(self.host.address, self.host.port, banner=b"220"):
            raise RuntimeError("smtpd under tcpserver does not answer")

    def end(self):
        self.host.__exit__()

    def end_now(self):
        """As a crash would; only the pool is asked, so that its children go with it."""
        for name in list(self.host.running):
            self.host.kill(name, signal.SIGTERM if name in ("smtpd", "spawn-remote", "spawn-local") else signal.SIGKILL)

    def log(self):
        return self.host.log()

    def queued(self):
        return json.loads(self.host.tappal("status", "--json"))["messages"]

    def first_page_s(self):
        began = time.monotonic()
        subprocess.run([f"{self.host.bin}/tappal", "queue", "list", "--limit", "50"], stdout=subprocess.DEVNULL, check=True)
        return time.monotonic() - began

    def manager_pids(self):
        return [self.host.running["queued"].pid]

    def queue_octets(self):
        return disk_octets(*(f"{self.host.spool}/{part}" for part in ("log", "index", "large", "intake")))


class TappalTcpserver(Tappal):
    """The pool has no address: tcpserver's connections are passed to it."""
    name = "tappal-tcpserver"
    tcpserver = "smtpd-start"


class TappalTcpserverAlone(Tappal):
    """Each connection starts smtpd and its enqueue."""
    name = "tappal-tcpserver-alone"
    tcpserver = "smtpd"
