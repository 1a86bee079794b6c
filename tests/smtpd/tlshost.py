"""smtpd and tlsd on a root of their own, with the echo sink behind them; certificates are made when the tests begin."""
import os
import shutil
import signal
import ssl
import subprocess
import time

from building import TOP, put_programs
from conftest import Mouth, children, eventually, free_port
from processes import end
from run import SETTINGS, Place

ACCOUNTS = ("tappal-smtpd", "tappal-key", "tappal-tls")


def ensure_accounts():
    subprocess.run(["sh", f"{TOP}/etc/accounts"], check=True, stdout=subprocess.DEVNULL)


def openssl(*arguments, **keys):
    return subprocess.run(["openssl", *arguments], check=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **keys)


KINDS = {"rsa": ["-newkey", "rsa:2048"], "rsa1024": ["-newkey", "rsa:1024"], "ec": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
         "ec384": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"], "ed25519": ["-newkey", "ed25519"]}


class Certificates:
    """An authority and what it signs: NAME.pem (chain) and NAME.key."""

    def __init__(self, folder):
        self.folder = folder
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        openssl("req", "-x509", *KINDS["ec"], "-nodes", "-days", "30", "-subj", "/CN=Test authority", "-keyout", self.path("ca.key"), "-out", self.path("ca.pem"),
                "-addext", "basicConstraints=critical,CA:TRUE")
        os.chmod(self.path("ca.pem"), 0o644)

    def path(self, name):
        return f"{self.folder}/{name}"

    def leaf(self, name):
        """The certificate alone, as a client gets it."""
        with open(self.path(f"{name}.leaf")) as f:
            return ssl.PEM_cert_to_DER_cert(f.read())

    def make(self, name, kind, hosts, days="20", client=False, subject="/CN=%s"):
        request = self.path(f"{name}.csr")
        openssl("req", *KINDS[kind], "-nodes", "-subj", subject % (hosts[0] if hosts else name), "-keyout", self.path(f"{name}.key"), "-out", request)
        with open(self.path("ext"), "w") as f:
            f.write("subjectAltName=" + ",".join(f"DNS:{h}" for h in hosts) + "\n" if hosts else "")
            f.write("extendedKeyUsage=clientAuth\n" if client else "")
        openssl("x509", "-req", "-in", request, "-CA", self.path("ca.pem"), "-CAkey", self.path("ca.key"), "-CAcreateserial", "-days", days,
                "-extfile", self.path("ext"), "-out", self.path(f"{name}.leaf"))
        with open(self.path(f"{name}.pem"), "w") as out:
            for part in (f"{name}.leaf", "ca.pem"):
                with open(self.path(part)) as f:
                    out.write(f.read())
        os.chmod(self.path(f"{name}.key"), 0o600)
        return f"{self.path(name + '.pem')} {self.path(name + '.key')}"


def client_context(certificates=None, **keys):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname = False
    c.verify_mode = ssl.CERT_NONE
    if certificates:
        c.load_verify_locations(certificates.path("ca.pem"))
        c.verify_mode = ssl.CERT_REQUIRED
    for key, value in keys.items():
        setattr(c, key, value)
    return c


class Secure(Mouth):
    """A Mouth within TLS, and how it came to be there."""

    def __init__(self, mouth, context, name=None):
        self.socket = context.wrap_socket(mouth.socket, server_hostname=name, suppress_ragged_eofs=False)
        self.file = self.socket.makefile("rb")


class Host:
    """One root; start and stop its two programs as often as needed."""

    def __init__(self):
        self.place = Place("tls")
        self.running = {}

    def __enter__(self):
        ensure_accounts()
        p = self.place.__enter__()
        put_programs(p.root, ["smtpd/tlsd"], p.libexec)
        os.makedirs(f"{p.root}/run", 0o755, exist_ok=True)
        self.log_path = f"{p.root}/log"
        self.certificates = Certificates(f"{p.root}/pki")
        self.rsa = self.certificates.make("rsa", "rsa", ["mx.test"])
        self.ec = self.certificates.make("ec", "ec", ["mx.test"])
        self.other = self.certificates.make("other", "ec", ["other.test", "*.wild.test"])
        return self

    def __exit__(self, *_):
        self.stop()
        self.place.__exit__()

    # ---- settings and programs
    def prepare(self, orders=(), **settings):
        self.stop()
        settings = {**SETTINGS, "tlscertificates": f"{self.rsa}\n{self.ec}\n{self.other}", **settings}
        self.place.prepare({k: str(v) for k, v in settings.items() if v is not None}, orders)
        open(self.log_path, "w").close()
        os.chmod(self.log_path, 0o666)

    def set(self, name, value):
        with open(f"{self.place.etc}/{name}", "w") as f:
            f.write(f"{value}\n")

    def spawn(self, program, *arguments, **keys):
        environment = {"PATH": os.environ["PATH"]}
        with open(self.log_path, "ab") as log:
            process = subprocess.Popen([f"{self.place.libexec}/{program}", *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, **keys)
        self.running[program] = process
        return process

    def start_tlsd(self, line="ready:", **keys):
        seen = self.log().count(line)
        process = self.spawn("tlsd", **keys)
        assert eventually(lambda: self.log().count(line) > seen or process.poll() is not None) and process.poll() is None, self.log()
        return process

    def start_smtpd(self, role="relay"):
        self.port, self.port465 = free_port(), free_port()
        self.set("smtpdlisten", f"127.0.0.1:{self.port} {role}\n127.0.0.1:{self.port465} submissions")
        process = self.spawn("smtpd", "--pool")
        assert eventually(lambda: "sessions at most on 2 sockets" in self.log()), self.log()
        return process

    def start(self, **settings):
        role = settings.pop("role", "relay")
        self.prepare(**settings)
        self.start_tlsd()
        self.start_smtpd(role)
        return self

    def stop(self, *names):
        for name in names or list(self.running):
            end(self.running.pop(name))

    def hup(self, line):
        seen = self.log().count(line)
        self.running["tlsd"].send_signal(signal.SIGHUP)
        assert eventually(lambda: self.log().count(line) > seen), self.log()

    # ---- looking
    def log(self):
        with open(self.log_path, errors="replace") as f:
            return f.read()

    def wait_log(self, text, count=1):
        assert eventually(lambda: self.log().count(text) >= count), (text, self.log())

    def processes(self):
        """(signer, door, [sessions]) of tlsd."""
        parent = self.running["tlsd"].pid
        assert eventually(lambda: sorted(bool(children(p)) for p in children(parent)) == [False, True]), children(parent)
        signer, door = sorted(children(parent), key=lambda p: bool(children(p)))
        return signer, door, children(door)

    def busy(self):
        """Sessions that have a client."""
        return [p for p in self.processes()[2] if in_session(p)]

    def at_rest(self, clients=0):
        """So many clients are left, and the door, asked last, has heard of those that went."""
        _, door, waiting = self.processes()
        return sum(in_session(p) for p in waiting) == clients and all(sleeps(p) for p in [*waiting, door])

    # ---- clients
    def plain(self, **keys):
        return Mouth(self.port, **keys)

    def starttls(self, context=None, name=None, **keys):
        """Behind STARTTLS and its handshake, before EHLO."""
        m = self.plain(**keys).greet()
        assert m.ask("STARTTLS") == "220 2.0.0 Ready to start TLS"
        return Secure(m, context or client_context(), name)

    def secure(self, context=None, name=None):
        return Secure(Mouth(self.port465), context or client_context(), name)


CLIENT = 7   # the number of a client's socket in a session: 3 and 4 are its channels, 5 its epoll, 6 smtpd's connection


def in_session(pid):
    try:
        with open(f"/proc/{pid}/limits") as f:
            if not any(line.startswith("Max open files") and int(line.split()[3]) < 10 for line in f):
                return False   # just forked: it has the door's descriptors still
        return os.path.exists(f"/proc/{pid}/fd/{CLIENT}")
    except (FileNotFoundError, ProcessLookupError):
        return False


def sleeps(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()[0] == "S"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_gone(pids, seconds=120):
    end = time.monotonic() + seconds
    while any(os.path.exists(f"/proc/{p}") for p in pids) and time.monotonic() < end:
        time.sleep(0.02)
    return [p for p in pids if os.path.exists(f"/proc/{p}")]
