"""smtpd with auth and a queue behind it, with tlsd too, and SCRAM from a client's side."""
import base64
import hashlib
import hmac
import subprocess

from conftest import Mouth, eventually, free_port
from instance import Instance

PROGRAMS = ["smtpd/smtpd", "smtpd/auth", "queue/enqueue", "queue/queued", "queue/tappal"]
SETTINGS = {"me": "mx.test", "locals": "local.test", "users": "=joe@local.test:joe:4711:4711:/nonexistent/joe:::", "authrelay": "yes", "authplaintext": "127.0.0.0/8",
            "authdelay": "0", "maxerrors": "1000", "authfailures": "0", "authloginfailures": "0", "smtpdsessions": "60",
            "senderlogins": "alice@example.org:joe ann@local.test"}


class House(Instance):
    """An instance whose smtpd is a pool on a free port."""

    def tappal(self, *arguments, stdin=None):
        return subprocess.run([f"{self.libexec}/tappal", *arguments], input=stdin, capture_output=True, text=True, timeout=120)

    def passwd(self, login, password, *options):
        r = self.tappal("passwd", login, *options, stdin=password + "\n")
        assert r.returncode == 0, r.stderr
        return r.stdout

    def up(self, **settings):
        """Start auth and smtpd with these settings over SETTINGS."""
        for key, value in {**SETTINGS, **settings}.items():
            self.set(key, value)
        for name in ("smtpd", "auth"):
            open(f"{self.root}/{name}.log", "w").close()
        self.port = free_port()
        self.auth = self.start("auth")
        assert eventually(lambda: "ready" in self.log("auth") or self.auth.poll() is not None) and self.auth.poll() is None, self.log("auth")
        self.smtpd = self.start("smtpd", "-l", f"127.0.0.1:{self.port}")
        assert eventually(lambda: "ready" in self.log("smtpd")), self.log("smtpd")
        return self

    def down(self):
        for process in (self.smtpd, self.auth):
            if process.poll() is None:
                process.terminate()
                process.wait(120)

    def client(self):
        return Mouth(self.port).greet()

    def plain(self, login, password, client=None):
        c = client or self.client()
        try:
            return c.ask("AUTH PLAIN " + b64(f"\0{login}\0{password}"))
        finally:
            if client is None:
                c.close()


def b64(text):
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


class Station(House):
    """smtpd on three ports: relay, submission, submissions."""

    def up(self, **settings):
        for key, value in {**SETTINGS, "authrelay": "no", "authplaintext": "", **settings}.items():
            self.set(key, value)
        self.ports = {role: free_port() for role in ("relay", "submission", "submissions")}
        self.set("smtpdlisten", [f"127.0.0.1:{port} {role}" for role, port in self.ports.items()])
        self.port = self.ports["submission"]
        for name, ready in (("tlsd", "ready"), ("auth", "ready"), ("smtpd", "sessions at most")):
            self.start(name, *(["--pool"] if name == "smtpd" else []))
            assert eventually(lambda: ready in self.log(name)), self.log(name)
        return self


class Scram:
    """A client of SCRAM-SHA-256 by RFC 5802, written from the RFC; -PLUS with what RFC 9266 exports as `binding`."""

    def __init__(self, login, password, nonce="fyko+d2lbbFgONRv9qkxdawL", header="n,,", binding=b""):
        self.header, self.binding = header, binding
        self.password, self.bare = password, f"n={login.replace('=', '=3D').replace(',', '=2C')},r={nonce}"

    def first(self):
        return self.header + self.bare

    def final(self, server_first):
        fields = dict(f.split("=", 1) for f in server_first.split(","))
        salted = hashlib.pbkdf2_hmac("sha256", self.password.encode(), base64.b64decode(fields["s"]), int(fields["i"]))
        key = hmac.digest(salted, b"Client Key", "sha256")
        without = f"c={b64(self.header.encode() + self.binding)},r={fields['r']}"
        message = f"{self.bare},{server_first},{without}".encode()
        signature = hmac.digest(hashlib.sha256(key).digest(), message, "sha256")
        self.signature = b64(hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), message, "sha256"))
        return f"{without},p={b64(bytes(a ^ b for a, b in zip(key, signature)))}"
