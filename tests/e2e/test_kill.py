"""kill -9 of each daemon in turn under load: what was acknowledged arrives, once."""
import random
import time

import pytest

from books import Books
from host import Host, wait_until

DAEMONS = ["queued", "spawn-local", "spawn-remote", "bounce", "resolver", "smtpd"]
TO = "joe@kill.tappal"


@pytest.fixture(scope="module")
def host():
    with Host("kill", "127.0.0.31", settings={"locals": ["kill.tappal"], "retryfirst": "1", "retrymax": "2"}) as h:
        h.add_mailboxes([TO, *(f"{daemon}@kill.tappal" for daemon in DAEMONS)])
        h.start()
        yield h


@pytest.mark.parametrize("daemon", DAEMONS)
def test_kill(host, daemon):
    """A delivery in flight at the crash may be repeated; the Maildir name keeps it from being a second copy."""
    books = Books(host, f"{daemon}@kill.tappal")
    with books.load(4, sizes=(20, 600, 3000, 6000), pause=0.005):
        for _ in range(4):
            time.sleep(random.uniform(0.2, 0.8))
            host.restart(daemon)
        before = len(books.acked)
        assert wait_until(lambda: len(books.acked) > before + 10), host.log()[-3000:]
    books.settle(refused_may_come=True)
    assert host.wait_empty(), host.log()[-6000:]
    books.settle(refused_may_come=True)     # nothing came a second time


def test_mail_is_taken_while_queued_is_away(host):
    host.kill("queued")
    host.send("a@b.tappal", [TO], b"Subject: away\r\n\r\ntaken while away;\r\n")
    host.start("queued")
    wait_until(lambda: b"taken while away;" in b"".join(host.mail(TO)))
    assert host.wait_empty()
    assert b"".join(host.mail(TO)).count(b"taken while away;") == 1
