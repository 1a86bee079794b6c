"""A whole tappal host on a loopback address: installed under a root of its own, with every daemon running, for end-to-end tests.

    with Host("a", "127.0.0.11", settings={"rcpthosts": ["a.tappal"]}) as host:
        host.add_mailbox("joe@a.tappal")
        host.start()
        ...
        host.mail("joe@a.tappal")     the delivered messages, as octets
"""
import json
import os
import pwd
import shutil
import signal
import smtplib
import subprocess
import time

from building import ROOTS, TOP, make
from peers import ensure_account, wait_for_port
from processes import end

PORT = 2525   # every host has its own address
PATIENCE = 120   # seconds until something counts as never: no test is about how fast this machine is

DAEMONS = {
    "queued": ["queued"],
    "spawn-local": ["spawn", "local"],
    "spawn-remote": ["spawn", "remote"],
    "resolver": ["resolver"],
    "bounce": ["bounce"],
    "tlsd": ["tlsd"],
    "smtpd": ["smtpd", "--pool"],
}


def wait_until(condition, seconds=PATIENCE, step=0.05):
    """The condition's first true value, or its last one after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value or time.monotonic() > end:
            return value
        time.sleep(step)


class Host:
    def __init__(self, name, address, port=PORT, settings=None):
        self.name, self.address, self.port = name, address, port
        self.root = f"{ROOTS}/{name}"
        self.etc, self.spool = f"{self.root}/etc/tappal", f"{self.root}/var/spool/tappal"
        self.libexec, self.bin = f"{self.root}/usr/libexec/tappal", f"{self.root}/usr/bin"
        self.settings = {"me": f"{name}.tappal", "smtpdlisten": f"{address}:{port}", "outgoingip": address, "ownaddresses": address,
                         "smtpdsessions": "50"}
        self.settings.update(settings or {})
        self.mailboxes = {}
        self.running = {}

    def __enter__(self):
        shutil.rmtree(self.root, ignore_errors=True)
        os.makedirs(self.root)
        os.chmod(ROOTS, 0o755)
        os.chmod(self.root, 0o755)
        make("install", f"ROOT={self.root}")
        for key, value in self.settings.items():
            self.set(key, value)
        return self

    def __exit__(self, *_):
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    # ---- settings and mailboxes
    def set(self, key, value):
        with open(f"{self.etc}/{key}", "w") as f:
            f.write("".join(f"{line}\n" for line in ([value] if isinstance(value, str) else value)))

    def add_mailbox(self, address, account="tappal-peer"):
        self.add_mailboxes([address], account)

    def add_mailboxes(self, addresses, account="tappal-peer"):
        """Virtual mailboxes of an ordinary account; their homes are made by tappal at the first delivery."""
        ensure_account(account)
        me = pwd.getpwnam(account)
        homes = f"{self.root}/mail"
        os.makedirs(homes, exist_ok=True)
        os.chmod(homes, 0o755)
        self.mailboxes.update((address, f"{homes}/{address}") for address in addresses)
        self.set("users", [f"={a}:{account}:{me.pw_uid}:{me.pw_gid}:{home}:::" for a, home in self.mailboxes.items()])

    def mail_names(self, address):
        folders = [f"{self.mailboxes[address]}/Maildir/{folder}" for folder in ("new", "cur")]
        return [f"{d}/{name}" for d in folders if os.path.isdir(d) for name in sorted(os.listdir(d))]

    def mail(self, address):
        found = []
        for name in self.mail_names(address):
            with open(name, "rb") as f:
                found.append(f.read())
        return found

    def wait_mail(self, address, count=1, seconds=PATIENCE):
        wait_until(lambda: len(self.mail(address)) >= count, seconds)
        return self.mail(address)

    # ---- daemons
    def start(self, *names):
        os.makedirs(f"{self.root}/log", exist_ok=True)
        for name in names or DAEMONS:
            argv = DAEMONS[name]
            with open(f"{self.root}/log/{name}", "ab") as log:
                self.running[name] = subprocess.Popen([f"{self.libexec}/{argv[0]}", *argv[1:]], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                      start_new_session=True)
        if not names or "smtpd" in names:
            if not wait_for_port(self.address, self.port, banner=b"220"):
                raise RuntimeError(f"smtpd of {self.name} does not answer: {self.log()[-4000:]}")

    def kill(self, name, sig=signal.SIGKILL):
        process = self.running.pop(name)
        process.send_signal(sig)
        process.wait(PATIENCE)

    def restart(self, name, sig=signal.SIGKILL):
        self.kill(name, sig)
        self.start(name)

    def pid(self, name):
        return self.running[name].pid

    def revive(self):
        """What a supervisor does."""
        for name in DAEMONS:
            if name not in self.running or self.running[name].poll() is not None:
                self.running.pop(name, None)
                self.start(name)

    def stop(self):
        for name in list(self.running):
            end(self.running.pop(name))

    def log(self):
        text = ""
        for name in DAEMONS:
            try:
                text += open(f"{self.root}/log/{name}", errors="replace").read()
            except OSError:
                pass
        return text

    # ---- sending and looking
    def smtp(self):
        return smtplib.SMTP(self.address, self.port, local_hostname="client.tappal", timeout=PATIENCE)

    def send(self, sender, recipients, body=b"Subject: test\r\n\r\nhello\r\n"):
        """By real SMTP; returns refused recipients as smtplib does."""
        with self.smtp() as s:
            return s.sendmail(sender, recipients, body)

    def tappal(self, *arguments, check=True):
        r = subprocess.run([f"{self.bin}/tappal", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE)
        if check and r.returncode not in (0, 1):
            raise RuntimeError(f"tappal {arguments}: {r.returncode} {r.stderr}")
        return r.stdout

    def queue(self):
        """The queue as `tappal queue list --json` gives it."""
        return [json.loads(line) for line in self.tappal("queue", "list", "--json").splitlines()]

    def wait_empty(self, seconds=PATIENCE):
        """The tools see what was committed, up to a second ago: empty means empty in two looks further apart than that."""
        def empty_for_good():
            if self.queue():
                return False
            time.sleep(1.2)
            return not self.queue()
        return wait_until(empty_for_good, seconds, 0.2)
