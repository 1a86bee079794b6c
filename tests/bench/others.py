"""The servers tappal is compared with, from Debian's packages: Postfix, OpenSMTPD and Exim, each tuned as a relay. OpenSMTPD and Exim have
paths compiled in, so they live in a mount namespace of their own (tests/lib/room)."""
import contextlib
import os
import pwd
import re
import shutil
import signal
import subprocess

from host import wait_until
from peers import OPENSMTPD_ACCOUNTS, OPENSMTPD_AT_ONCE, Postfix, ensure_account, in_room, make_opensmtpd_room, make_room, peer_folder, wait_for_port
from servers import SINK, SINK_PORT, STATE, TOP, Server, Unavailable, certificate, disk_octets, first_lines, routes, users


def count_files(base, belongs):
    """Files (and folders) below `base` whose name belongs(); a queue that is at work loses some meanwhile."""
    return sum(sum(1 for name in folders + files if belongs(name)) for _, folders, files in os.walk(base))


class PostfixServer(Server):
    """Tuned as a relay (Postfix's TUNING_README, CONNECTION_CACHE_README)."""
    name = "postfix"
    durability = "before 250: fsync of the message's queue file (its directory entry goes with it in ext4's journal)"
    delivery = "Maildir (virtual): fsync of the file, none of the directory"
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
"""

    def make(self, mode):
        extra = self.tuning
        pem = certificate(mode)
        if pem:
            extra += f"smtpd_tls_security_level = may\nsmtpd_tls_cert_file = {pem}\nsmtpd_tls_key_file = {pem}\n"
        if mode in ("accept", "relay"):
            extra += f"relayhost = [{SINK}]:{SINK_PORT}\n"
        if mode == "accept":
            extra += "smtpd_recipient_restrictions = check_recipient_access static:HOLD\n"
        hops = {domain: f"[{ip}]:{SINK_PORT}" for domain, ip in routes(mode).items() if domain}
        return Postfix(f"{STATE}/postfix", "127.0.0.63", 2525, "bench.tappal", domains=["local.tappal"], routes=hops,
                       users=[f"{user}@local.tappal" for user in users()], extra=extra)

    def prepare(self):
        if not self.make("accept").available():
            raise Unavailable("Postfix is neither in build/peers nor installed")

    def version(self):
        server = self.make("accept")
        said = subprocess.run([f"{server.sbin}/postconf", "-d", "-h", "mail_version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        return said.stdout.strip()

    def begin(self, mode):
        os.makedirs(f"{STATE}/postfix", exist_ok=True)
        self.server = self.make(mode)
        self.begin_again()
        self.address, self.maildirs = "127.0.0.63:2525", self.server.maildirs

    def begin_again(self):
        self.server.start()

    def end(self):
        self.server.stop()

    end_now = end

    def log(self):
        return self.server.log()

    def queued(self):
        folders = ("incoming", "active", "deferred", "hold", "maildrop")
        return sum(sum(len(files) for _, _, files in os.walk(f"{self.server.base}/spool/{folder}")) for folder in folders)

    def first_page_s(self):
        return first_lines([f"{self.server.sbin}/postqueue", "-c", self.server.etc, "-p"], 50)

    def manager_pids(self):
        return self.group.pids_of("qmgr")

    def queue_octets(self):
        return disk_octets(*(f"{self.server.base}/spool/{folder}" for folder in ("incoming", "active", "deferred", "defer", "hold")))


class InRoom(Server):
    """A server in a room: `account`s are in its own /etc/passwd only. A subclass has its program, address, settings and command."""
    accounts = {}
    port = 2525

    def peer(self):
        return peer_folder(self.name)

    def prepare(self):
        if not os.path.exists(self.peer() + self.program):
            raise Unavailable(f"{self.name} could not be unpacked into build/peers (build/peers/{self.name}.log)")
        self.make_room()
        self.configure("accept")
        tried = subprocess.run(self.inside(*self.tell_version), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True)
        found = re.search(r"version:? (?:OpenSMTPD )?([\w.]+)", tried.stdout)
        if not found:
            raise Unavailable(f"{self.name} does not start here: {tried.stdout.strip()[-200:]}")
        self.known_version = found.group(1)

    def version(self):
        return self.known_version

    def inside(self, *argv):
        return in_room(self.name, self.dir, *argv)

    def make_room(self):
        self.dir = f"{STATE}/{self.name}"
        make_room(self.dir, self.accounts, "bench.tappal")
        ensure_account("tappal-peer")
        self.me = pwd.getpwnam("tappal-peer")
        os.chown(f"{self.dir}/mail", self.me.pw_uid, self.me.pw_gid)
        self.maildirs = f"{self.dir}/mail"

    def write(self, path, text):
        os.makedirs(os.path.dirname(f"{self.dir}/{path}"), exist_ok=True)
        with open(f"{self.dir}/{path}", "w") as f:
            f.write(text)

    def begin(self, mode):
        self.make_room()
        self.configure(mode)
        self.address = f"{self.ip}:{self.port}"
        self.mode = mode
        self.begin_again()

    def begin_again(self):
        with open(f"{self.dir}/said", "ab") as said:
            argv = self.inside(*self.command(self.mode))
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)
        if not wait_for_port(self.ip, self.port, banner=b"220"):
            raise RuntimeError(f"{self.name} does not answer: {self.log()[-2000:]}")

    def end(self):
        """Its main process first, then what is left in the cgroup, which holds nothing but what was started here."""
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        for number in (signal.SIGTERM, signal.SIGKILL):
            self.group.signal(number)
            if wait_until(lambda: not self.group.pids(), 5):
                break
        self.process.wait(10)

    end_now = end

    def log(self):
        return open(f"{self.dir}/said", errors="replace").read()


class OpenSMTPD(InRoom):
    name = "opensmtpd"
    warm_relay = False   # after a moment without mail it waits nine seconds before it connects again, and that would be all one sees
    ip = "127.0.0.64"
    program, tell_version = "/usr/sbin/smtpd", ("/usr/sbin/smtpd", "-h")
    accounts = OPENSMTPD_ACCOUNTS
    durability = "before 250: nothing. Its files are written and renamed, not synced: a loss of power takes what was acknowledged in the last seconds"
    delivery = "Maildir (mail.maildir): fsync of the file, none of the directory"

    def make_room(self):
        super().make_room()
        make_opensmtpd_room(self.dir)

    def relays(self, mode):
        for n, (domain, ip) in enumerate(routes(mode).items()):
            yield f"action hop{n} relay host smtp://{ip}:{SINK_PORT} helo bench.tappal"
            yield f"match from any for domain \"{domain}\" action hop{n}" if domain else f"match from any for any action hop{n}"

    def local(self):
        self.write("owners", "".join(f"{user} {self.me.pw_uid}:{self.me.pw_gid}:/mnt/mail\n" for user in users()))
        self.write("mailboxes", "".join(f"{user}@local.tappal {user}\n" for user in users()))
        yield "table owners file:/mnt/owners"
        yield "table mailboxes file:/mnt/mailboxes"
        yield 'action maildirs maildir "/mnt/mail/%{user.username}@local.tappal/Maildir" userbase <owners> virtual <mailboxes>'
        yield 'match from any for domain "local.tappal" action maildirs'

    def configure(self, mode):
        limits = [f"mta limit max-conn-per-{what} 50" for what in ("host", "route", "source", "connector", "relay", "domain")]
        limits += OPENSMTPD_AT_ONCE
        limits += ["mta limit session-mail-max 100000", "mta limit task-hiwat 2000", "mta limit task-lowat 1000", "mta limit task-release 100",
                   "smtp limit max-mails 1000000", "smtp limit max-rcpt 2000", "smtp max-message-size 100M"]
        ways = self.local() if mode == "local" else self.relays(mode)
        self.write("etc/smtpd.conf", "".join(f"{line}\n" for line in (f"listen on {self.ip} port {self.port} hostname bench.tappal", *limits, *ways)))

    def command(self, mode):
        return ["sh", "-c", 'ulimit -n 16384; exec "$@"', "sh", self.program, "-d", *(["-P", "mta"] if mode == "accept" else [])]

    def queued(self):
        """A message is a folder named by its id, eight hexadecimal digits."""
        return count_files(f"{self.dir}/var/spool/smtpd/queue", lambda name: len(name) == 8)

    def first_page_s(self):
        return first_lines(self.inside("/usr/sbin/smtpctl", "show", "queue"), 50)

    def manager_pids(self):
        return self.group.pids_of("smtpd", ("scheduler", "queue"))

    def queue_octets(self):
        return disk_octets(f"{self.dir}/var/spool/smtpd")


class Exim(InRoom):
    name = "exim"
    ip = "127.0.0.65"
    program, tell_version = "/usr/sbin/exim4", ("/usr/sbin/exim4", "-bV")
    accounts = {"Debian-exim": (64903, "/var/spool/exim4")}
    durability = "before 250: fsync of the message's data file, of its header file, and of their directory"
    delivery = "A file of its own for each delivery that is under way, synced; Maildir (appendfile): fsync of the file, none of the directory"
    main = """primary_hostname = bench.tappal
local_interfaces = {ip}
daemon_smtp_ports = {port}
disable_ipv6
keep_environment =
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
never_users =
split_spool_directory
smtp_accept_max = 0
smtp_accept_max_per_connection = 0
smtp_accept_queue = 0
smtp_accept_queue_per_connection = 0
smtp_connect_backlog = 1024
message_size_limit = 0
queue_run_max = 50
remote_max_parallel = 50
queue_only = {queue_only}
acl_smtp_rcpt = take
begin acl
take:
  accept
begin routers
{routers}begin transports
hop:
  driver = smtp
  port = {sink_port}
  hosts_avoid_tls = *
  allow_localhost
  connection_max_messages = 0
  max_rcpt = 100
maildirs:
  driver = appendfile
  maildir_format
  directory = /mnt/mail/${{local_part_data}}@local.tappal/Maildir
  user = {user}
  group = {user}
begin retry
* * F,2h,15m; G,16h,1h,1.5; F,4d,6h
"""

    def make_room(self):
        super().make_room()
        for folder in ("var/spool/exim4", "var/log/exim4", "run/exim4"):
            os.makedirs(f"{self.dir}/{folder}", exist_ok=True)
            os.chown(f"{self.dir}/{folder}", 64903, 64903)

    def routers(self, mode):
        if mode == "local":
            self.write("users", "".join(f"{user}: {user}\n" for user in users()))
            return "mailbox:\n  driver = accept\n  domains = local.tappal\n  local_parts = lsearch;/mnt/users\n  transport = maildirs\n"
        ways = " ; ".join(f"{domain or '*'} {ip}" for domain, ip in routes(mode).items())
        return f"hop:\n  driver = manualroute\n  route_list = {ways}\n  self = send\n  transport = hop\n"

    def configure(self, mode):
        self.write("etc/exim4/exim4.conf", self.main.format(ip=self.ip, port=self.port, sink_port=SINK_PORT, user="tappal-peer",
                                                            queue_only="true" if mode == "accept" else "false", routers=self.routers(mode)))

    def command(self, mode):
        return [self.program, "-bdf", *([] if mode == "accept" else ["-q30m"])]

    def queued(self):
        return count_files(f"{self.dir}/var/spool/exim4/input", lambda name: name.endswith("-H"))

    def first_page_s(self):
        return first_lines(self.inside(self.program, "-bp"), 50)

    def manager_pids(self):
        """There is none."""
        return []

    def queue_octets(self):
        return disk_octets(f"{self.dir}/var/spool/exim4")

    def log(self):
        text = super().log()
        for name in ("mainlog", "paniclog"):
            with contextlib.suppress(OSError):
                text += open(f"{self.dir}/var/log/exim4/{name}", errors="replace").read()
        return text
