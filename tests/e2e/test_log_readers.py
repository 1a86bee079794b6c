"""The log as the programs read it that people run over Postfix's: Debian's pflogsumm and fail2ban (only unpacked, in build/peers)."""
import os
import re
import smtplib
import subprocess

import pytest

from host import TOP, Host, wait_until
from sink import Sink

ADDRESS = "127.0.0.71"
TO = "joe@logs.tappal"
FAIL2BAN = f"{TOP}/build/peers/fail2ban"
# The filters of the jails in the manual page, and that of INSTALL.
PAGE = open(f"{TOP}/man/tappal-log.5").read().replace("\\e", "\\")
REFUSED, GUESSED = re.findall(r"^filter *= (postfix\[.*\])$", PAGE, re.M)
PASSWORDS, = re.findall(r"postfix\[\S+\]", open(f"{TOP}/INSTALL").read())
AGGRESSIVE = REFUSED.replace("]", ",mode=aggressive]")
GUEST, GUESSER, HASTY, FORGER = "127.0.0.72", "127.0.0.73", "127.0.0.74", "127.0.0.75"   # clients
NAMED = "192.0.2.66"                                                                   # who never came


@pytest.fixture(scope="module")
def sink():
    with Sink(rules={"RCPT": {"no@far.tappal": "550 5.1.1 no such user", "later@far.tappal": "450 4.2.0 later"}}) as server:
        yield server


@pytest.fixture(scope="module")
def host(sink):
    settings = {"locals": ["logs.tappal"], "clients": [f"{ADDRESS}/32"], "smtproutes": [f"far.tappal:127.0.0.1:{sink.port}"], "maxerrors": "5"}
    with Host("logs", ADDRESS, settings=settings) as host:
        host.add_mailbox(TO)
        host.add_mailbox("ann@logs.tappal")
        host.start()
        yield host


def session(host, source):
    return smtplib.SMTP(host.address, host.port, local_hostname="client.tappal", timeout=120, source_address=(source, 0))


def log_file(host, path):
    lines = [line for line in host.log().splitlines() if re.search(r" tappal/[a-z-]+\[\d+\]: ", line)]
    path.write_text("".join(f"{line}\n" for line in sorted(lines)))
    return str(path)


def totals(path):
    out = subprocess.run(["pflogsumm", "--syslog-name=tappal", path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert out.returncode == 0 and out.stderr == "", out.stderr
    grand = out.stdout.split("Per-Hour")[0]
    return {name: int(n) for n, name in re.findall(r"^ *(\d+) +(received|delivered|deferred|bounced|rejected|senders|recipients)\b", grand, re.M)}, out.stdout


def test_pflogsumm_counts_every_message_and_recipient(host, tmp_path):
    with session(host, ADDRESS) as s:
        s.sendmail("ann@logs.tappal", [TO, "ann@logs.tappal"], b"Subject: two\r\n\r\nhere\r\n")
        s.sendmail("ann@logs.tappal", ["yes@far.tappal"], b"Subject: far\r\n\r\nthere\r\n")
        s.sendmail("ann@logs.tappal", ["no@far.tappal"], b"Subject: no\r\n\r\nand back\r\n")
        s.sendmail("ann@logs.tappal", ["later@far.tappal"], b"Subject: later\r\n\r\nwaits\r\n")
    with session(host, GUEST) as s:
        s.ehlo()
        s.mail("guest@far.tappal")
        assert s.rcpt("nobody@logs.tappal")[0] == 550
        assert s.rcpt("stranger@else.tappal")[0] == 554
    assert subprocess.run([f"{host.libexec}/sendmail", "-f", "ann@logs.tappal", TO], input=b"Subject: here\n\nby command\n").returncode == 0
    # ann gets her copy and the bounce
    assert wait_until(lambda: len(host.mail("ann@logs.tappal")) == 2 and len(host.mail(TO)) == 2 and host.log().count("status=deferred") == 1)
    assert wait_until(lambda: host.log().count(": removed\n") == 5)
    counted, report = totals(log_file(host, tmp_path / "log"))
    # received: four by SMTP, one by sendmail, one bounce; delivered: each recipient; senders: ann, and nobody for the bounce
    assert counted == {"received": 6, "delivered": 5, "deferred": 1, "bounced": 1, "rejected": 2, "senders": 2, "recipients": 3}, report
    assert "User unknown" in report and "Relay access denied" in report and "4.2.0 later" in report, report


def fail2ban(path, jail=REFUSED):
    """The addresses that Debian's filter for Postfix finds, a match each."""
    if not os.path.isdir(FAIL2BAN):
        pytest.skip("fail2ban is not in build/peers: apt-get could not download it")
    program = f"{FAIL2BAN}/usr/bin/fail2ban-regex"
    run = subprocess.run(["/usr/bin/python3", program, "-c", f"{FAIL2BAN}/etc/fail2ban", "--usedns", "no", "--out", "ip", path, jail],
                         stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": f"{FAIL2BAN}/usr/lib/python3/dist-packages"})
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout.split()


def test_fail2ban_finds_who_is_refused_and_nobody_else(host, tmp_path):
    before = fail2ban(log_file(host, tmp_path / "before"))
    with session(host, GUESSER) as s:
        s.ehlo()
        s.mail("x@else.tappal")
        for name in ("admin", "test", "sales"):
            assert s.rcpt(f"{name}@logs.tappal")[0] == 550
    with session(host, HASTY) as s:
        s.ehlo()
        for _ in range(5):
            code = s.docmd("NONSENSE")[0]
        assert code == 500 and s.getreply()[0] == 421
        s.close()
    assert wait_until(lambda: len(fail2ban(log_file(host, tmp_path / "after"))) >= len(before) + 4)
    after = fail2ban(log_file(host, tmp_path / "after"))
    assert sorted(after[len(before):]) == [GUESSER] * 3 + [HASTY], after
    assert GUESSER in fail2ban(str(tmp_path / "after"), AGGRESSIVE)


def test_fail2ban_finds_who_guesses_passwords(host, tmp_path):
    """The words of a failed AUTH are Postfix's; that a client tried AUTH where auth is away is nobody's fault."""
    lines = [f"2026-11-22T00:00:0{n}.000000+00:00 mx tappal/smtpd[1]: {text}\n" for n, text in enumerate((
        f"warning: unknown[{GUESSER}]: SASL PLAIN authentication failed: authentication failure, sasl_username=joe",
        f"warning: unknown[{GUESSER}]: SASL LOGIN authentication failed: too many failures, sasl_username=[{NAMED}]: SASL LOGIN authentication failed: ",
        f"warning: unknown[{GUESSER}]: SASL SCRAM-SHA-256-PLUS authentication failed: authentication failure, sasl_username=joe",
        f"warning: unknown[{HASTY}]: SASL LOGIN authentication could not be decided",
        f"unknown[{HASTY}]: SASL PLAIN authentication succeeded, sasl_username=joe"))]
    (tmp_path / "log").write_text("".join(lines))
    assert fail2ban(str(tmp_path / "log"), GUESSED) == [GUESSER] * 3
    assert fail2ban(str(tmp_path / "log"), PASSWORDS) == [GUESSER] * 2


def test_nobody_can_have_another_banned(host, tmp_path):
    """Whatever a client says of itself and of others, the address that is found is its own."""
    forged = f"RCPT from x[{NAMED}]: 554 5.7.1 Relay access denied"
    with session(host, FORGER) as s:
        s.docmd("EHLO", f"x[{NAMED}]")
        assert s.docmd(f'MAIL FROM:<"{forged}"@else.tappal>')[0] == 250
        assert s.docmd(f'RCPT TO:<"{forged}"@else.tappal>')[0] == 554
        s.docmd(f"too many errors after DATA from unknown[{NAMED}]")
        s.sock.sendall(f"NOOP \n2026-01-01T00:00:00+00:00 mx tappal/smtpd[1]: NOQUEUE: reject: {forged}; from=<>\r\n".encode())
        assert s.getreply()[0] == 500
    path = log_file(host, tmp_path / "log")
    assert NAMED in open(path).read()
    for jail in (REFUSED, AGGRESSIVE):
        found = fail2ban(path, jail)
        assert FORGER in found and NAMED not in found, found
