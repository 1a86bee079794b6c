"""Mail from the clients people use arrives in a Maildir that other people's readers read."""
import imaplib
import os
import pwd
import shutil
import smtplib
import subprocess

import pytest

from host import Host, wait_until
from peers import Dovecot, ensure_account

TO = "joe@alpha.tappal"


@pytest.fixture(scope="module")
def alpha():
    with Host("alpha", "127.0.0.11", settings={"locals": ["alpha.tappal"], "clients": ["127.0.0.0/8"]}) as host:
        host.add_mailbox(TO)
        host.start()
        yield host


def run(argv, **more):
    r = subprocess.run(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, **more)
    assert r.returncode == 0, r.stdout.decode(errors="replace")


def arrived(host, marker, count):
    mail = host.wait_mail(TO, count)
    assert any(marker in m for m in mail), host.log()[-4000:]


def test_swaks(alpha):
    before = len(alpha.mail(TO))
    run(["swaks", "--server", alpha.address, "--port", str(alpha.port), "--from", "a@b.tappal", "--to", TO, "--body", "by swaks"], stdin=subprocess.DEVNULL)
    arrived(alpha, b"by swaks", before + 1)


def test_swaks_pipelined(alpha):
    before = len(alpha.mail(TO))
    run(["swaks", "--pipeline", "--server", alpha.address, "--port", str(alpha.port), "--from", "a@b.tappal", "--to", TO, "--body", "in one go"], stdin=subprocess.DEVNULL)
    arrived(alpha, b"in one go", before + 1)


def test_msmtp(alpha):
    before = len(alpha.mail(TO))
    run(["msmtp", "-C", "/dev/null", f"--host={alpha.address}", f"--port={alpha.port}", "--from=a@b.tappal", TO], input=b"Subject: m\n\nby msmtp\n.\n..dots\n")
    arrived(alpha, b"by msmtp\n.\n..dots\n", before + 1)


def test_curl(alpha, tmp_path):
    before = len(alpha.mail(TO))
    (tmp_path / "m").write_bytes(b"Subject: c\r\n\r\nby curl\r\n")
    run(["curl", "-sS", f"smtp://{alpha.address}:{alpha.port}/client.tappal", "--mail-from", "a@b.tappal", "--mail-rcpt", TO, "-T", str(tmp_path / "m")])
    arrived(alpha, b"by curl", before + 1)


def test_smtplib_with_every_octet_of_8bit_text(alpha):
    before = len(alpha.mail(TO))
    body = b"Subject: p\r\n\r\n" + bytes(c for c in range(1, 256) if c not in (10, 13)) + b"\r\n"
    with alpha.smtp() as s:
        s.sendmail("a@b.tappal", [TO], body, mail_options=["BODY=8BITMIME"])
    mail = alpha.wait_mail(TO, before + 1)
    assert any(m.endswith(body.split(b"\r\n\r\n")[1].replace(b"\r\n", b"\n")) for m in mail)


def test_sendmail_command(alpha):
    before = len(alpha.mail(TO))
    run([f"{alpha.libexec}/sendmail", "-t", "-i"], input=f"To: {TO}\nSubject: s\n\nby sendmail\n".encode())
    arrived(alpha, b"by sendmail", before + 1)


def test_large_message_goes_through_a_file_of_its_own(alpha):
    before = len(alpha.mail(TO))
    line = b"x" * 70 + b"\r\n"
    alpha.send("a@b.tappal", [TO], b"Subject: large\r\n\r\n" + line * 30000)
    mail = alpha.wait_mail(TO, before + 1)
    assert any(m.count(b"x" * 70 + b"\n") == 30000 for m in mail)
    assert alpha.wait_empty()
    assert wait_until(lambda: os.listdir(f"{alpha.spool}/large") == [])


def test_headers_of_delivery(alpha):
    before = len(alpha.mail(TO))
    alpha.send("Sender+x@b.tappal", [TO], b"Subject: trace\r\n\r\ntrace me\r\n")
    mail = [m for m in alpha.wait_mail(TO, before + 1) if b"trace me" in m][0]
    head = mail.split(b"\n\n")[0]
    assert head.startswith(b"Return-Path: <Sender+x@b.tappal>\nDelivered-To: joe@alpha.tappal\n")
    assert b"Received: from client.tappal" in head and b"............" not in head
    line = [x for x in alpha.log().splitlines() if "Sender+x@b.tappal" in x and "from=<" in x][0]
    queue_id = line.split("]: ")[1].split(":")[0]
    assert queue_id.encode() in head


def test_dovecot_and_mblaze_read_it(alpha, tmp_path):
    before = len(alpha.mail(TO))
    alpha.send("a@b.tappal", [TO], b"Subject: for the readers\r\n\r\nread me\r\n")
    assert any(b"read me" in m for m in alpha.wait_mail(TO, before + 1))
    listed = subprocess.run(["mlist", f"{alpha.mailboxes[TO]}/Maildir"], stdout=subprocess.PIPE, text=True, check=True).stdout
    scanned = subprocess.run(["mscan", "-f", "%s"], input=listed, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert "for the readers" in scanned
    # Dovecot gets a copy: its index files are not ours to clean up, and it wants the directory writable for its user
    copy = tmp_path / "Maildir"
    shutil.copytree(f"{alpha.mailboxes[TO]}/Maildir", copy)
    ensure_account("tappal-peer")
    me = pwd.getpwnam("tappal-peer")
    for folder, _, files in os.walk(tmp_path):
        for name in [folder] + [os.path.join(folder, f) for f in files]:
            os.chown(name, me.pw_uid, me.pw_gid)
    for parent in list(tmp_path.parents)[:3]:
        os.chmod(parent, os.stat(parent).st_mode | 0o055)
    dovecot = Dovecot(str(tmp_path / "dovecot"), "127.0.0.11", 2143, "tappal-peer", str(copy))
    dovecot.start()
    try:
        with imaplib.IMAP4("127.0.0.11", 2143) as imap:
            imap.login("tappal-peer", "secret")
            imap.select("INBOX")
            found = imap.search(None, "SUBJECT", '"for the readers"')[1][0].split()
            assert found
            assert b"read me" in imap.fetch(found[-1], "(RFC822)")[1][0][1]
    finally:
        dovecot.stop()


def test_unknown_recipient_is_refused_in_the_session(alpha):
    with alpha.smtp() as s:
        s.ehlo()
        s.mail("a@b.tappal")
        code, text = s.rcpt("nobody-here@alpha.tappal")
    assert code == 550 and text.startswith(b"5.1.1")


def test_pflogsumm_counts_us(alpha):
    alpha.send("a@b.tappal", [TO])
    assert alpha.wait_empty()
    log = "\n".join(line for line in alpha.log().splitlines() if "tappal/" in line)
    out = subprocess.run(["pflogsumm", "--syslog-name=tappal"], input=log, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True).stdout
    delivered = int([x for x in out.splitlines() if x.strip().endswith("delivered")][0].split()[0])
    received = int([x for x in out.splitlines() if x.strip().endswith("received")][0].split()[0])
    assert delivered >= 1 and received >= 1, out[:1500]


def test_daemons_take_no_arguments(alpha):
    """Who tries --help, or --check as with tlsd, does not want a daemon to start."""
    for name in ("auth", "bounce", "callout", "filterd", "guard", "queued", "resolver"):
        r = subprocess.run([f"{alpha.libexec}/{name}", "--help"], capture_output=True, text=True, timeout=120)
        assert r.returncode == 100 and f"usage: {name} (no arguments" in r.stderr, (name, r)


def test_a_hundred_messages_at_once(alpha):
    before = len(alpha.mail(TO))
    sessions = [smtplib.SMTP(alpha.address, alpha.port, timeout=120) for _ in range(20)]
    for n in range(100):
        sessions[n % 20].sendmail("a@b.tappal", [TO], f"Subject: n\r\n\r\nnumber {n}.\r\n".encode())
    for s in sessions:
        s.quit()
    mail = alpha.wait_mail(TO, before + 100)
    for n in range(100):
        assert sum(f"number {n}.".encode() in m for m in mail) == 1, n
