"""ETRN (RFC 1985) from end to end: a client whose host was down asks for the mail that waits for it."""
import smtplib

import pytest

from dnszone import Zones
from host import Host, wait_until
from sink import Sink

RECORDS = ["far MX 10 mx.far", "mx.far A 127.0.0.24", "net MX 10 mx.far", "x.net MX 10 mx.far", "deep.y.net MX 10 mx.far", "subnet MX 10 mx.far"]
SENDER = "ann@a.example.tappal"
ALLOWED, OTHER = "127.0.0.31", "127.0.0.32"


@pytest.fixture(scope="module")
def a():
    with Zones({"example.tappal": RECORDS}) as dns:
        settings = {"me": "mx.a.example.tappal", "locals": ["a.example.tappal"], "clients": ["127.0.0.1"], "etrnfrom": ["127.0.0.30/31"], "remoteport": "2525",
                    "dnsforward": dns.server, "dnstrustanchor": "", "retryfirst": "1d", "timeoutconnect": "5"}
        with Host("etrn", "127.0.0.21", settings=settings) as host:
            host.add_mailbox(SENDER)
            host.start()
            yield host


def ask(host, line, source=ALLOWED):
    with smtplib.SMTP(host.address, host.port, source_address=(source, 0)) as s:
        s.ehlo("far.example.tappal")
        announced = s.has_extn("etrn")
        code, text = s.docmd(line)
    return announced, code, text.decode()


def defer(host, addresses):
    """A message for each, and it waits for a day."""
    before = host.log().count("status=deferred")
    for address in addresses:
        host.send(SENDER, [address])
    assert wait_until(lambda: host.log().count("status=deferred") >= before + len(addresses), 60), host.log()[-4000:]


def test_a_deferred_message_goes_out(a):
    defer(a, ["joe@far.example.tappal"])
    with Sink("127.0.0.24", 2525) as sink:
        assert ask(a, "ETRN far.example.tappal", OTHER) == (False, 502, "5.5.1 Command not implemented")
        assert ask(a, "ETRN elsewhere.example.tappal")[1] == 250
        assert wait_until(lambda: "ETRN elsewhere.example.tappal from unknown[127.0.0.31]" in a.log())
        assert sink.messages() == []
        assert ask(a, "ETRN far.example.tappal") == (True, 250, "2.0.0 Queuing for node far.example.tappal started")
        assert wait_until(lambda: len(sink.messages()) == 1), a.log()[-4000:]
        assert a.wait_empty()
        # Again, at once: the order is taken, and let go.
        assert ask(a, "ETRN FAR.example.tappal")[1] == 250
        assert wait_until(lambda: "ETRN FAR.example.tappal from unknown[127.0.0.31]: let go" in a.log()), a.log()[-4000:]


def test_a_domain_with_all_below_it(a):
    defer(a, ["joe@net.example.tappal", "joe@x.net.example.tappal", "joe@deep.y.net.example.tappal", "joe@subnet.example.tappal"])
    with Sink("127.0.0.24", 2525) as sink:
        assert ask(a, "ETRN @net.example.tappal", "127.0.0.1")[1] == 250   # who may relay may, too
        assert wait_until(lambda: len(sink.messages()) == 3), a.log()[-4000:]
        # what only ends in the same letters still waits
        assert wait_until(lambda: [m["recipients"][0]["address"] for m in a.queue()] == ["joe@subnet.example.tappal"]), a.queue()
        assert len(sink.messages()) == 3
        assert ask(a, "ETRN subnet.example.tappal")[1] == 250
        assert wait_until(lambda: len(sink.messages()) == 4), a.log()[-4000:]
    assert a.wait_empty()


def test_what_cannot_be(a):
    assert ask(a, "ETRN a.example.tappal")[1] == 459
    assert ask(a, "ETRN #far")[1] == 458
    assert ask(a, "ETRN far..tappal")[1] == 501
    a.kill("queued")
    assert ask(a, "ETRN down.example.tappal")[1:] == (458, "4.3.0 Unable to queue messages for node down.example.tappal")
    a.start("queued")
    assert wait_until(lambda: ask(a, "ETRN down.example.tappal")[1] == 250)
