"""Clients of a host that keep books: what was acknowledged must arrive, once; what was refused is known, too.

    books = Books(host, "joe@a.tappal")
    books.send()                      one message; (code, text) as the client saw it
    with books.load(4): ...           clients that send until the end of the block
    books.settle()                    waits until all has come, and checks it
"""
import collections
import contextlib
import itertools
import re
import smtplib
import threading
import time

from host import PATIENCE, wait_until

MARK = re.compile(rb"^X-Mark: (\S+)\r?$", re.M)


class Books:
    def __init__(self, host, to):
        self.host, self.to = host, to
        self.count = itertools.count(1)
        self.acked, self.refused, self.codes = set(), set(), collections.Counter()
        self.lock = threading.Lock()

    # ---- sending
    def attempt(self, session, mark, size):
        try:
            session.sendmail("a@b.tappal", [self.to], f"X-Mark: {mark}\r\n\r\n".encode() + b"y" * size + b"\r\n")
            return 250, b""
        except smtplib.SMTPRecipientsRefused as e:
            return list(e.recipients.values())[0]
        except smtplib.SMTPResponseException as e:
            return e.smtp_code, e.smtp_error

    def send(self, size=500, session=None):
        """(0, why): the connection was lost, and nobody knows."""
        mark = f"{self.to}-{next(self.count)}"
        try:
            with contextlib.ExitStack() as stack:
                session = session or stack.enter_context(self.host.smtp())
                code, text = self.attempt(session, mark, size)
        except (OSError, smtplib.SMTPException) as e:
            code, text = 0, repr(e).encode()
        with self.lock:
            self.codes[code] += 1
            if code == 250:
                self.acked.add(mark)
            elif code:
                self.refused.add(mark)
        return code, text

    @contextlib.contextmanager
    def load(self, clients, sizes=(500,), pause=0.002):
        """Each client keeps its session while it can."""
        stop = threading.Event()

        def client(size):
            session = None
            while not stop.is_set():
                with contextlib.suppress(OSError, smtplib.SMTPException):
                    session = session or self.host.smtp()
                if self.send(size, session)[0] != 250:
                    session = None
                    time.sleep(0.02)
                time.sleep(pause)

        threads = [threading.Thread(target=client, args=(size,), daemon=True) for size, _ in zip(itertools.cycle(sizes), range(clients))]
        for t in threads:
            t.start()
        try:
            yield
        finally:
            stop.set()
            for t in threads:
                t.join(2 * PATIENCE)

    def burst(self, count, clients=8, size=500):
        """So many messages, over a few sessions."""
        def client(share):
            with self.host.smtp() as session:
                for _ in range(share):
                    if self.send(size, session)[0] != 250:
                        return
        threads = [threading.Thread(target=client, args=(count // clients,), daemon=True) for _ in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join(2 * PATIENCE)

    # ---- looking
    def arrived(self):
        """Counter of the marks in the mailbox."""
        found = collections.Counter()
        for name in self.host.mail_names(self.to):
            with open(name, "rb") as f:
                found[MARK.search(f.read(3000)).group(1).decode()] += 1
        return found

    def settle(self, seconds=PATIENCE, refused_may_come=False):
        """All that was acknowledged is there, nothing twice; what was refused is not, unless it may."""
        wait_until(lambda: self.acked <= set(self.arrived()), seconds, 0.1)
        found = self.arrived()
        missing, twice = self.acked - set(found), [m for m, n in found.items() if n > 1]
        assert not missing, (len(missing), sorted(missing)[:5], self.host.queue()[:3])
        assert not twice, twice[:5]
        if not refused_may_come:
            assert not self.refused & set(found), sorted(self.refused & set(found))[:5]
        return found
