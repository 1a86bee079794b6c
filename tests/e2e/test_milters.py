"""Milters that people run: opendkim signs, clamav-milter finds a signature of our own, SpamAssassin and rspamd judge the message of GTUBE."""
import os
import shutil
import socket
import subprocess
import time

import pytest

from host import Host, wait_until
from processes import end
from milter import CONTINUE, Milter, texts

TO = "joe@mx.tappal"
GTUBE = "XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
START = 120          # seconds until somebody listens; on a busy machine SpamAssassin compiles its rules for long
EVIL = b"this octet string is our virus"


class Daemon:
    """A program in the foreground with a directory of its own, ended with the test."""

    def __init__(self, path):
        self.path, self.processes = str(path), []
        os.chmod(self.path, 0o777)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            end(process, 20)

    def write(self, name, text, mode=0o644):
        path = f"{self.path}/{name}"
        with open(path, "wb" if isinstance(text, bytes) else "w") as f:
            f.write(text)
        os.chmod(path, mode)
        return path

    def run(self, argv, **more):
        with open(f"{self.path}/log", "ab") as log:
            self.processes.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.path, **more))

    def log(self):
        with open(f"{self.path}/log", errors="replace") as f:
            return f.read()[-4000:]

    def listens(self, place):
        """Wait until somebody accepts at a port of loopback, or at a socket's path."""
        end = time.monotonic() + START
        while True:
            try:
                with socket.socket(socket.AF_UNIX if isinstance(place, str) else socket.AF_INET) as s:
                    s.connect(place if isinstance(place, str) else ("127.0.0.1", place))
                return
            except OSError:
                assert time.monotonic() < end and self.processes[-1].poll() is None, self.log()
                time.sleep(0.1)


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as s:
        return s.getsockname()[1]


@pytest.fixture
def daemon(tmp_path):
    tmp_path.parent.chmod(0o755)
    tmp_path.parent.parent.chmod(0o755)
    with Daemon(tmp_path) as d:
        yield d


def needs(program):
    if shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin") is None:
        pytest.skip(f"{program} is not installed")


def receiver(line):
    return Host("mx", "127.0.0.12", settings={"locals": ["mx.tappal"], "clients": ["127.0.0.0/8"], "milters": [line]})


def send(host, body, sender="ann@example.net"):
    """A message by swaks; its transcript."""
    text = f"From: {sender}\nTo: {TO}\nSubject: a test\nDate: Sun, 22 Nov 2026 12:00:00 +0000\nMessage-ID: <1@example.net>\n\n{body}\n"
    return subprocess.run(["swaks", "--server", host.address, "--port", str(host.port), "--from", sender, "--to", TO, "--helo", "client.example.net", "--data", "-"],
                          input=text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600).stdout


def deliver(host, body):
    """The message as it arrived."""
    before = len(host.mail(TO))
    transcript = send(host, body)
    assert "250 2.0.0 Ok: queued" in transcript, transcript + host.log()[-3000:]
    mail = host.wait_mail(TO, before + 1)
    return next(m for m in mail if body.encode() in m)


def test_quarantine_is_held_until_its_release():
    """Held from its arrival on, with the reason; through a crash of queued; then delivered as if nothing had been."""
    with Milter({"END": [texts(b"q", b"looks odd"), CONTINUE]}) as milter, receiver(f"{milter.line} name=own") as host:
        host.add_mailbox(TO)
        host.start()
        assert "250 2.0.0 Ok: queued" in send(host, "a strange one")
        held = wait_until(lambda: host.queue())
        assert [(m["state"], m["held_by"], m["held_reason"]) for m in held] == [("held", "milters/own", "looks odd")]
        host.restart("queued")
        assert "by milters/own: looks odd. It is not tried" in host.tappal("queue", "why", held[0]["queue_id"])
        assert wait_until(lambda: "1 recipient released" in host.tappal("queue", "release", held[0]["queue_id"], check=False))
        assert b"a strange one" in host.wait_mail(TO)[0]
        assert len(host.mail(TO)) == 1


def test_opendkim_signs(daemon):
    needs("opendkim")
    port = free_port()
    subprocess.run(["opendkim-genkey", "-b", "2048", "-s", "sel", "-d", "example.net", "-D", daemon.path], check=True)
    daemon.write("hosts", "127.0.0.0/8\n")
    conf = daemon.write("conf", f"Socket inet:{port}@127.0.0.1\nDomain example.net\nSelector sel\nKeyFile {daemon.path}/sel.private\nMode s\n"
                        f"InternalHosts {daemon.path}/hosts\nOversignHeaders From\nSyslog no\nRequireSafeKeys no\n")
    daemon.run(["/usr/sbin/opendkim", "-f", "-x", conf])
    daemon.listens(port)
    with receiver(f"inet:127.0.0.1:{port} name=dkim") as host:
        host.add_mailbox(TO)
        host.start()
        message = deliver(host, "a text to sign")
        assert message.index(b"DKIM-Signature: ") < message.index(b"From: ")
        assert b"d=example.net; s=sel" in message.replace(b"\n\t", b" ")
        if shutil.which("opendkim-testmsg"):
            record = open(f"{daemon.path}/sel.txt").read()
            key = "".join(part for part in record.split('"')[1::2])
            keys = daemon.write("keys", f"sel._domainkey.example.net {key}\n")
            verify = daemon.write("verify", f"TestPublicKeys {keys}\nMode v\n")
            signed = message[message.index(b"DKIM-Signature: "):].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            r = subprocess.run(["/usr/sbin/opendkim", "-x", verify, "-t", daemon.write("signed", signed)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            assert "succeeded" in r.stdout, r.stdout


def test_clamav_finds_a_signature(daemon):
    needs("clamav-milter")
    os.mkdir(f"{daemon.path}/db")
    daemon.write("db/own.ndb", f"Tappal.Test:0:*:{EVIL.hex()}\n")
    os.chmod(f"{daemon.path}/db", 0o755)
    clamd, milter = f"{daemon.path}/clamd.sock", f"{daemon.path}/milter.sock"
    conf = daemon.write("clamd.conf", f"Foreground yes\nLocalSocket {clamd}\nLocalSocketMode 666\nDatabaseDirectory {daemon.path}/db\nLogFile {daemon.path}/clamd.log\n"
                        f"TemporaryDirectory {daemon.path}\nUser root\n")
    daemon.run(["/usr/sbin/clamd", "-c", conf])
    daemon.listens(clamd)
    conf = daemon.write("milter.conf", f"Foreground yes\nMilterSocket {milter}\nMilterSocketMode 666\nClamdSocket unix:{clamd}\nOnInfected Reject\nAddHeader Replace\n"
                        f"RejectMsg Found %v here\nLogFile {daemon.path}/milter.log\nTemporaryDirectory {daemon.path}\nUser root\n")
    daemon.run(["/usr/sbin/clamav-milter", "-c", conf])
    daemon.listens(milter)
    with receiver(f"unix:{milter} name=clamav") as host:
        host.add_mailbox(TO)
        host.start()
        clean = deliver(host, "nothing bad")
        assert b"X-Virus-Status: Clean" in clean
        transcript = send(host, f"well, {EVIL.decode()}.")
        assert "550 5.7.1 Found Tappal.Test" in transcript, transcript + daemon.log()
        assert len(host.mail(TO)) == 1


def test_spamassassin_rejects_gtube(daemon):
    needs("spamass-milter")
    needs("spamd")
    port, milter = free_port(), f"{daemon.path}/spamass.sock"
    os.mkdir(f"{daemon.path}/site")
    os.mkdir(f"{daemon.path}/rules")
    daemon.write("site/own.pre", "loadplugin Mail::SpamAssassin::Plugin::Check\n")
    daemon.write("rules/own.cf", f"body GTUBE /{GTUBE.replace('*', '[*]').replace('.', '[.]')}/\nscore GTUBE 1000\ndescribe GTUBE Generic test\n"
                 "add_header all Status _YESNO_, score=_SCORE_ required=_REQD_\nadd_header spam Flag _YESNOCAPS_\n")
    daemon.run(["/usr/sbin/spamd", "-L", "-x", "-i", "127.0.0.1", "-p", str(port), "-m", "1", "--min-children=1", "-s", "stderr", "-C", f"{daemon.path}/rules",
                "--siteconfigpath", f"{daemon.path}/site", "-u", "nobody"], env={"PATH": os.environ["PATH"] + ":/usr/sbin", "HOME": daemon.path})
    daemon.listens(port)
    daemon.run(["/usr/sbin/spamass-milter", "-p", milter, "-r", "15", "-u", "nobody", "--", "-p", str(port), "-d", "127.0.0.1"])
    daemon.listens(milter)
    os.chmod(milter, 0o777)
    with receiver(f"unix:{milter} name=spamass") as host:
        host.add_mailbox(TO)
        host.start()
        assert b"X-Spam-Checker-Version: SpamAssassin" in deliver(host, "good news")
        transcript = send(host, GTUBE)
        assert "550 5.7.1 Blocked by SpamAssassin" in transcript, transcript + daemon.log() + host.log()[-2000:]


def test_rspamd_rejects_gtube(daemon):
    needs("rspamd")
    port = free_port()
    daemon.write("tld", "net\ntappal\n")   # the whole list takes minutes to compile
    conf = daemon.write("rspamd.conf", f"""
options {{ pidfile = "{daemon.path}/pid"; filters = ""; dns {{ nameserver = ["127.0.0.1:9"]; }} tempdir = "{daemon.path}"; hs_cache_dir = "{daemon.path}"; enable_test_patterns = true; url_tld = "{daemon.path}/tld"; }}
logging {{ type = "console"; level = "error"; }}
worker "rspamd_proxy" {{ bind_socket = "127.0.0.1:{port}"; milter = yes; timeout = 60s; count = 1; upstream "local" {{ default = yes; self_scan = yes; }} }}
actions {{ reject = 15; add_header = 6; greylist = null; }}
metric {{ name = "default"; }}
""")
    daemon.run(["/usr/bin/rspamd", "-f", "-i", "-c", conf])
    daemon.listens(port)
    with receiver(f"inet:127.0.0.1:{port} name=rspamd") as host:
        host.add_mailbox(TO)
        host.start()
        deliver(host, "good news")
        transcript = send(host, GTUBE)
        assert "Gtube pattern" in transcript and "554 5.7.1" in transcript, transcript + daemon.log()
        assert len(host.mail(TO)) == 1
