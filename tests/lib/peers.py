"""Other people's mail servers for the end-to-end tests, on loopback, from Debian's packages: Postfix (unpacked in build/peers, or the
installed one, with a configuration and queue of its own) and Dovecot as IMAP reader of a Maildir."""
import os
import pwd
import shutil
import signal
import socket
import subprocess
import time

from processes import end

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def wait_for_port(address, port, seconds=120, banner=None):
    """True when something listens there (and begins with `banner`)."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            with socket.create_connection((address, port), 10) as s:
                if banner is None or s.recv(len(banner)) == banner:
                    return True
        except OSError:
            pass
        time.sleep(0.05)
    return False


def ensure_account(name, group=None):
    """A system account for a peer's daemons, if there is none."""
    group = group or name
    for g in (group,):
        if subprocess.run(["getent", "group", g], stdout=subprocess.DEVNULL).returncode:
            subprocess.run(["groupadd", "-r", g], check=True)
    try:
        pwd.getpwnam(name)
    except KeyError:
        subprocess.run(["useradd", "-r", "-M", "-d", "/nonexistent", "-g", group, "-s", "/usr/sbin/nologin", name], check=True)


class Postfix:
    """Debian's Postfix with its own configuration directory, queue and port. `routes`: {domain: "[ip]:port"}; mail for `domains`
    goes to Maildirs under self.maildirs."""

    def __init__(self, base, address, port, hostname, domains=(), users=(), routes=None, extra=""):
        self.base, self.address, self.port, self.hostname = base, address, port, hostname
        self.domains, self.users, self.routes, self.extra = domains, users, routes or {}, extra
        self.etc, self.maildirs = f"{base}/etc", f"{base}/mail"
        self.link = None
        unpacked = f"{TOP}/build/peers/postfix"
        root = unpacked if os.path.isdir(f"{unpacked}/usr/sbin") else ""
        self.sbin, self.libexec, self.meta = f"{root}/usr/sbin", f"{root}/usr/lib/postfix/sbin", f"{root}/etc/postfix"
        self.root = root

    def available(self):
        return os.path.exists(f"{self.sbin}/postfix")

    def start(self):
        ensure_account("postfix")
        if subprocess.run(["getent", "group", "postdrop"], stdout=subprocess.DEVNULL).returncode:
            subprocess.run(["groupadd", "-r", "postdrop"], check=True)
        if self.root and not os.path.lexists("/usr/lib/postfix"):
            os.symlink(f"{self.root}/usr/lib/postfix", "/usr/lib/postfix")  # Debian's binaries have this path compiled in
            self.link = "/usr/lib/postfix"
        for d in (self.base, self.etc, f"{self.base}/spool", f"{self.base}/data", self.maildirs):
            os.makedirs(d, exist_ok=True)
            os.chmod(d, 0o755)
        shutil.chown(f"{self.base}/data", "postfix", "postfix")
        ensure_account("tappal-peer")
        me = pwd.getpwnam("tappal-peer")
        os.chown(self.maildirs, me.pw_uid, me.pw_gid)
        with open(f"{self.etc}/vmbox", "w") as f:
            f.writelines(f"{u} {u}/Maildir/\n" for u in self.users)
        with open(f"{self.etc}/transport", "w") as f:
            f.writelines(f"{d} smtp:{hop}\n" for d, hop in self.routes.items())
        with open(f"{self.etc}/main.cf", "w") as f:
            f.write(f"""compatibility_level = 3.6
command_directory = {self.sbin}
daemon_directory = {self.libexec}
meta_directory = {self.meta}
queue_directory = {self.base}/spool
data_directory = {self.base}/data
mail_owner = postfix
setgid_group = postdrop
sendmail_path = {self.sbin}/sendmail
mailq_path = {self.sbin}/mailq
newaliases_path = {self.sbin}/newaliases
myhostname = {self.hostname}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
maillog_file = {self.base}/log
maillog_file_prefixes = {self.base}
alias_maps =
alias_database =
local_recipient_maps =
biff = no
smtpd_peername_lookup = no
smtp_dns_support_level = disabled
smtp_host_lookup = native
smtp_bind_address = {self.address}
transport_maps = texthash:{self.etc}/transport
virtual_mailbox_domains = {" ".join(self.domains)}
virtual_mailbox_base = {self.maildirs}
virtual_mailbox_maps = texthash:{self.etc}/vmbox
virtual_uid_maps = static:{me.pw_uid}
virtual_gid_maps = static:{me.pw_gid}
virtual_minimum_uid = 1
smtpd_relay_restrictions = permit_mynetworks, reject
{self.extra}
""")
        with open(f"{self.etc}/master.cf", "w") as f:
            f.write(f"{self.address}:{self.port} inet n - n - - smtpd\n" + "".join(f"{line}\n" for line in (
                "pickup unix n - n 60 1 pickup", "cleanup unix n - n - 0 cleanup", "qmgr unix n - n 300 1 qmgr",
                "rewrite unix - - n - - trivial-rewrite", "bounce unix - - n - 0 bounce", "defer unix - - n - 0 bounce",
                "trace unix - - n - 0 bounce", "proxymap unix - - n - - proxymap", "smtp unix - - n - - smtp", "relay unix - - n - - smtp",
                "showq unix n - n - - showq", "error unix - - n - - error", "retry unix - - n - - error", "virtual unix - n n - - virtual",
                "anvil unix - - n - 1 anvil", "scache unix - - n - 1 scache", "tlsmgr unix - - n 1000? 1 tlsmgr",
                "postlog unix-dgram n - n - 1 postlogd")))
        r = subprocess.run([f"{self.sbin}/postfix", "-c", self.etc, "start"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if r.returncode or not wait_for_port(self.address, self.port, banner=b"220"):
            raise RuntimeError(f"postfix did not start: {r.stdout} {self.log()}")

    def log(self):
        try:
            return open(f"{self.base}/log", errors="replace").read()
        except OSError:
            return ""

    def mail(self, user):
        """The messages in the user's new/, as octets."""
        new = f"{self.maildirs}/{user}/Maildir/new"
        try:
            return [open(f"{new}/{n}", "rb").read() for n in sorted(os.listdir(new))]
        except OSError:
            return []

    def stop(self):
        try:
            pid = int(open(f"{self.base}/spool/pid/master.pid").read())
            os.kill(pid, signal.SIGTERM)
            for _ in range(1000):
                os.kill(pid, 0)
                time.sleep(0.05)
        except (OSError, ValueError):
            pass
        if self.link:
            os.unlink(self.link)


# ---- servers with paths compiled in, in a mount namespace of their own (tests/lib/room)

def peer_folder(name):
    return f"{TOP}/build/peers/{name}"


def in_room(name, base, *argv):
    return [f"{TOP}/tests/lib/room", peer_folder(name), base, *argv]


def make_room(base, accounts, mailname):
    """What lies over this host's /etc, /var and /run; `accounts`: {name: (number, home)} that are in there only."""
    shutil.rmtree(base, ignore_errors=True)
    for folder in ("etc", "var", "run", "mail", "var/log", "var/lib", "var/spool", "var/tmp", "var/mail"):
        os.makedirs(f"{base}/{folder}", mode=0o755)
    os.symlink("/run", f"{base}/var/run")
    passwd = "".join(f"{name}:x:{number}:{number}::{home}:/usr/sbin/nologin\n" for name, (number, home) in accounts.items())
    group = "".join(f"{name}:x:{number}:\n" for name, (number, _) in accounts.items())
    for path, text in (("passwd", open("/etc/passwd").read() + passwd), ("group", open("/etc/group").read() + group), ("resolv.conf", "lookup file\n"),
                       ("mailname", mailname + "\n")):
        with open(f"{base}/etc/{path}", "w") as f:
            f.write(text)


OPENSMTPD_ACCOUNTS = {"opensmtpd": (64901, "/var/lib/opensmtpd/empty"), "opensmtpq": (64902, "/var/lib/opensmtpd/empty")}


# It waits seconds between connections to one host otherwise.
OPENSMTPD_AT_ONCE = [f"mta limit conn-delay-{what} 0" for what in ("route", "relay", "host", "source", "domain", "connector")]


def make_opensmtpd_room(base):
    os.makedirs(f"{base}/var/lib/opensmtpd/empty")
    os.makedirs(f"{base}/var/spool/smtpd", mode=0o711)


class OpenSMTPD:
    """Debian's OpenSMTPD, unpacked in build/peers, that takes mail from anybody. `routes`: {sender's domain: what stands behind "action relay host"};
    `secrets`: {label: "login:password"}."""

    def __init__(self, base, address, port, hostname, routes, secrets):
        self.base, self.address, self.port, self.hostname, self.routes, self.secrets = base, address, port, hostname, routes, secrets

    def available(self):
        """It was unpacked, and this host lets it have its room."""
        make_room(self.base, OPENSMTPD_ACCOUNTS, self.hostname)
        make_opensmtpd_room(self.base)
        return os.path.exists(f"{peer_folder('opensmtpd')}/usr/sbin/smtpd") and b"OpenSMTPD" in subprocess.run(
            in_room("opensmtpd", self.base, "/usr/sbin/smtpd", "-h"), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT).stdout

    def start(self):
        """After available()."""
        with open(f"{self.base}/etc/smtpd.conf", "w") as f:
            f.writelines(f"{line}\n" for line in OPENSMTPD_AT_ONCE)
            f.write("table secrets file:/mnt/secrets\n" + f"listen on {self.address} port {self.port} hostname {self.hostname}\n")
            f.write("".join(f'action way{n} relay {way}\nmatch from any mail-from "@{domain}" for any action way{n}\n' for n, (domain, way) in enumerate(self.routes.items())))
        with open(f"{self.base}/secrets", "w") as f:
            f.writelines(f"{label} {secret}\n" for label, secret in self.secrets.items())
        with open(f"{self.base}/log", "ab") as log:
            self.process = subprocess.Popen(in_room("opensmtpd", self.base, "/usr/sbin/smtpd", "-d"), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        if not wait_for_port(self.address, self.port, banner=b"220"):
            self.stop()
            raise RuntimeError(f"OpenSMTPD does not answer: {self.log()[-2000:]}")

    def log(self):
        return open(f"{self.base}/log", errors="replace").read()

    def stop(self):
        """Its processes are one group; they end with their parent."""
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class DovecotAuth:
    """Dovecot's auth for other servers: `users` with passwords, asked at self.socket."""

    def __init__(self, base, users):
        self.base, self.users, self.socket = base, users, f"{base}/run/ask"

    def start(self):
        os.makedirs(self.base)
        os.chmod(self.base, 0o755)
        with open(f"{self.base}/users", "w") as f:
            f.writelines(f"{login}:{{PLAIN}}{password}\n" for login, password in self.users.items())
        with open(f"{self.base}/dovecot.conf", "w") as f:
            f.write(f"""protocols =
base_dir = {self.base}/run
state_dir = {self.base}/state
log_path = {self.base}/log
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_username_chars =
auth_failure_delay = 0
default_internal_user = dovecot
default_login_user = dovenull
passdb {{
  driver = passwd-file
  args = {self.base}/users
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home=/nonexistent
}}
service auth {{
  unix_listener {self.socket} {{
    mode = 0666
  }}
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
""")
        self.process = subprocess.Popen(["dovecot", "-F", "-c", f"{self.base}/dovecot.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("dovecot did not start: " + (open(f"{self.base}/log").read() if os.path.exists(f"{self.base}/log") else ""))
            time.sleep(0.05)

    def stop(self):
        end(self.process)


class Dovecot:
    """Dovecot's IMAP over a Maildir, for one user with a static password."""

    def __init__(self, base, address, port, user, maildir):
        self.base, self.address, self.port, self.user, self.maildir = base, address, port, user, maildir
        self.process = None

    def start(self):
        os.makedirs(self.base, exist_ok=True)
        account = pwd.getpwnam(self.user)
        with open(f"{self.base}/dovecot.conf", "w") as f:
            f.write(f"""protocols = imap
listen = {self.address}
base_dir = {self.base}/run
state_dir = {self.base}/state
log_path = {self.base}/log
ssl = no
disable_plaintext_auth = no
default_internal_user = dovecot
default_login_user = dovenull
mail_location = maildir:{self.maildir}
first_valid_uid = 1
passdb {{
  driver = static
  args = password=secret nopassword=y
}}
userdb {{
  driver = static
  args = uid={account.pw_uid} gid={account.pw_gid} home={account.pw_dir}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
""")
        self.process = subprocess.Popen(["dovecot", "-F", "-c", f"{self.base}/dovecot.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if not wait_for_port(self.address, self.port, banner=b"* OK"):
            raise RuntimeError("dovecot did not start: " + (open(f"{self.base}/log").read() if os.path.exists(f"{self.base}/log") else ""))

    def stop(self):
        if self.process:
            end(self.process)
