"""The servers that are compared, each with its queue on the file system under STATE, started inside a cgroup of its own."""
import os
import subprocess

from host import Host
from measure import Group
from peers import Postfix, wait_for_port

STATE = os.environ.get("BENCH_DIR", "/var/tmp/tappal-bench")
SINK, SINK_PORT = "127.0.0.61", 2600
SPREAD = 50          # destinations, each an address of its own from SPREAD_BASE on
SPREAD_BASE = "127.0.2.1"
USERS = 100


def spread_hosts():
    first = int(SPREAD_BASE.rsplit(".", 1)[1])
    return {f"d{n}.tappal": f"{SPREAD_BASE.rsplit('.', 1)[0]}.{first + n}" for n in range(SPREAD)}


class Server:
    """`mode`: accept (nothing is delivered), relay (all to the sink), spread (to SPREAD sinks), local."""

    def start(self, mode):
        self.group = Group(f"tappal-bench-{self.name}")
        with self.group:
            self.begin(mode)

    def stop(self):
        self.end()
        self.group.remove()


class Tappal(Server):
    name = "tappal"
    tcpserver = False

    def begin(self, mode):
        settings = {"me": "bench.tappal", "clients": ["127.0.0.0/8"], "locals": ["local.tappal"], "smtpdsessions": "600", "concurrencyremote": "50",
                    "concurrencylocal": "20", "destinationstart": "20", "destinationwindow": "50", "maxcommands": "1000000"}
        if mode == "spread":
            settings["smtproutes"] = [f"{domain}:{ip}:{SINK_PORT}" for domain, ip in spread_hosts().items()]
        elif mode != "local":
            settings["smtproutes"] = [f":{SINK}:{SINK_PORT}"]
        self.host = Host("bench", "127.0.0.62", settings=settings).__enter__()
        self.host.add_mailboxes([f"user{n}@local.tappal" for n in range(1, USERS + 1)])
        self.address, self.maildirs = f"{self.host.address}:{self.host.port}", f"{self.host.root}/mail"
        daemons = {"accept": ["queued"], "local": ["queued", "spawn-local"]}.get(mode, ["queued", "resolver", "spawn-remote"])
        self.host.start(*daemons, *([] if self.tcpserver else ["smtpd"]))
        if self.tcpserver:
            self.serve_by_tcpserver()

    def serve_by_tcpserver(self):
        log = open(f"{self.host.root}/log/smtpd", "ab")
        self.host.running["tcpserver"] = subprocess.Popen(
            ["tcpserver", "-H", "-R", "-l0", "-c", "600", "-b", "600", self.host.address, str(self.host.port), f"{self.host.libexec}/smtpd"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        if not wait_for_port(self.host.address, self.host.port, banner=b"220"):
            raise RuntimeError("smtpd under tcpserver does not answer")

    def end(self):
        self.host.__exit__()


class TappalTcpserver(Tappal):
    name = "tappal-tcpserver"
    tcpserver = True


class PostfixServer(Server):
    """Tuned as a relay (Postfix's TUNING_README, CONNECTION_CACHE_README)."""
    name = "postfix"
    tuning = """default_process_limit = 600
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
in_flow_delay = 0
default_destination_concurrency_limit = 50
initial_destination_concurrency = 50
virtual_destination_concurrency_limit = 20
qmgr_message_active_limit = 20000
qmgr_message_recipient_limit = 20000
default_destination_recipient_limit = 100
smtp_connection_cache_on_demand = yes
message_size_limit = 0
virtual_mailbox_limit = 0
smtp_bind_address =
"""

    def begin(self, mode):
        extra = self.tuning
        if mode in ("accept", "relay"):
            extra += f"relayhost = [{SINK}]:{SINK_PORT}\n"
        if mode == "accept":
            extra += "smtpd_recipient_restrictions = check_recipient_access static:HOLD\n"
        routes = {domain: f"[{ip}]:{SINK_PORT}" for domain, ip in spread_hosts().items()} if mode == "spread" else {}
        os.makedirs(f"{STATE}/postfix", exist_ok=True)
        self.server = Postfix(f"{STATE}/postfix", "127.0.0.63", 2525, "bench.tappal", domains=["local.tappal"], routes=routes,
                              users=[f"user{n}@local.tappal" for n in range(1, USERS + 1)], extra=extra)
        self.server.start()
        self.address, self.maildirs = "127.0.0.63:2525", self.server.maildirs

    def end(self):
        self.server.stop()
