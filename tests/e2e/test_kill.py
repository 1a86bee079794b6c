"""kill -9 of each daemon in turn under load: what was acknowledged arrives, exactly the octets that were sent."""
import random
import smtplib
import threading
import time

import pytest

from host import Host, wait_until

TO = "joe@kill.tappal"


@pytest.fixture(scope="module")
def host():
    with Host("kill", "127.0.0.31", settings={"locals": ["kill.tappal"], "retryfirst": "1", "retrymax": "2"}) as h:
        h.add_mailbox(TO)
        h.delivered = 0
        h.start()
        yield h


class Load(threading.Thread):
    """Sends numbered messages until told to stop; `acked` holds those that got their 250."""

    def __init__(self, host, prefix):
        super().__init__(daemon=True)
        self.host, self.prefix, self.acked, self.stopping = host, prefix, [], False

    def run(self):
        n = 0
        session = None
        while not self.stopping:
            n += 1
            marker = f"{self.prefix}-{n};"
            try:
                session = session or self.host.smtp()
                session.sendmail("a@b.tappal", [TO], f"Subject: load\r\n\r\n{marker}\r\n".encode() + b"y" * random.randrange(6000) + b"\r\n")
                self.acked.append(marker)
                time.sleep(0.005)
            except (OSError, smtplib.SMTPException):
                session = None
                time.sleep(0.05)


@pytest.mark.parametrize("daemon", ["queued", "spawn-local", "spawn-remote", "bounce", "resolver", "smtpd"])
def test_kill(host, daemon):
    loads = [Load(host, f"{daemon}-{i}") for i in range(4)]
    for load in loads:
        load.start()
    for _ in range(4):
        time.sleep(random.uniform(0.2, 0.8))
        host.restart(daemon)
    time.sleep(0.5)
    for load in loads:
        load.stopping = True
    for load in loads:
        load.join(70)
    acked = [m for load in loads for m in load.acked]
    assert len(acked) > 10
    before = host.delivered
    wait_until(lambda: len(host.mail_names(TO)) - before >= len(acked), 60, 0.5)
    assert host.wait_empty(60), host.log()[-6000:]
    host.delivered = len(host.mail_names(TO))
    text = b"".join(host.mail(TO))
    missing = [m for m in acked if m.encode() not in text]
    assert not missing, (len(missing), missing[:5], host.log()[-3000:])
    # a delivery in flight at the crash may be repeated; the Maildir name keeps it from being a second copy
    twice = [m for m in acked if text.count(m.encode()) > 1]
    assert not twice, twice[:5]


def test_mail_is_taken_while_queued_is_away(host):
    host.kill("queued")
    host.send("a@b.tappal", [TO], b"Subject: away\r\n\r\ntaken while away;\r\n")
    host.start("queued")
    wait_until(lambda: b"taken while away;" in b"".join(host.mail(TO)))
    assert host.wait_empty(60)
    assert b"".join(host.mail(TO)).count(b"taken while away;") == 1
