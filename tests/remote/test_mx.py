"""remote and resolver together: which hosts are tried for a domain, in which order, and what is said when there is none."""
import socket

import pytest

from dnszone import Zones
from sink import Hangup, Sink
from worker import OK, PERM, TEMP, enhanced, stage

ZONE = {
    "example.tappal": [
        "@ MX 10 mx1", "@ MX 20 mx2", "@ MX 30 mx3", "mx1 A 127.0.0.2", "mx2 A 127.0.0.3", "mx3 A 127.0.0.4",
        "null MX 0 .", "nomx A 127.0.0.2", "nothing TXT x", "alias CNAME nomx", "dangling CNAME nowhere",
        "equal MX 10 mx1", "equal MX 10 mx2", "equal MX 10 mx3",
        "six MX 10 mx6", "mx6 AAAA ::1",
        "selfbest MX 10 me", "selfbest MX 20 mx1", "selfmiddle MX 10 mx1", "selfmiddle MX 20 me", "selfmiddle MX 20 mx2", "selfmiddle MX 30 mx3",
        "me A 127.0.0.77", "relay MX 10 mx3", "relay A 127.0.0.2",
        "brokenfirst MX 5 x.nobody.tappal.", "brokenfirst MX 10 me",
        "unresolved MX 10 none1", "unresolved MX 20 none2",
        "xn--jrgen-kva MX 10 mx1",
    ] + ["many MX 10 h%d" % i for i in range(30)] + ["h%d A 127.0.1.%d" % (i, i + 1) for i in range(30)],
}


@pytest.fixture(scope="module")
def dns():
    with Zones(ZONE) as zones:
        yield zones


@pytest.fixture
def hosts(rooms, dns):
    """Three servers on one port at 127.0.0.2 to .4, and a resolver."""
    with Sink("127.0.0.2") as one:
        with Sink("127.0.0.3", one.port) as two, Sink("127.0.0.4", one.port) as three:
            rooms.start_resolver(dnsforward=dns.server, ownaddresses="127.0.0.77", remoteport=str(one.port))
            yield [one, two, three]


@pytest.fixture
def mail(rooms, hosts):
    with rooms.worker() as worker:
        def send(domain, **fields):
            return worker.send("r:" + domain, **fields)
        yield send


def counts(hosts):
    return [len(s.messages()) for s in hosts]


def test_best_exchanger(mail, hosts):
    r = mail("example.tappal").one
    assert (r.verdict, r.host, r.ip) == (OK, b"mx1.example.tappal", b"127.0.0.2")
    assert counts(hosts) == [1, 0, 0]


FAILURES = {
    "greeting 4xx": {"CONNECT": "421 4.3.2 busy"}, "greeting 5xx": {"CONNECT": "554 5.3.2 go away"}, "greeting close": {"CONNECT": Hangup()},
    "ehlo 4xx": {"EHLO": "450 4.3.2 later"}, "helo 4xx": {"EHLO": "502 what", "HELO": "450 later"}, "helo 5xx": {"EHLO": "502 what", "HELO": "550 no"},
    "ehlo close": {"EHLO": Hangup()},
}


@pytest.mark.parametrize("how", list(FAILURES))
def test_next_exchanger(mail, hosts, how):
    hosts[0].rules.update(FAILURES[how])
    answer = mail("example.tappal")
    assert (answer.one.verdict, answer.one.host) == (OK, b"mx2.example.tappal")
    assert answer.done.destination_failed == 0
    assert counts(hosts) == [0, 1, 0]


def test_next_exchanger_when_nobody_listens(rooms, dns):
    with Sink("127.0.0.4") as sink:
        rooms.start_resolver(dnsforward=dns.server, remoteport=str(sink.port))
        with rooms.worker() as worker:
            r = worker.send("r:example.tappal").one
            assert (r.verdict, r.host) == (OK, b"mx3.example.tappal")


def test_all_exchangers_fail(mail, hosts):
    for sink in hosts:
        sink.rules["CONNECT"] = "554 5.7.1 not you"
    hosts[1].rules["CONNECT"] = "421 4.7.1 later"
    answer = mail("example.tappal")
    assert (answer.one.verdict, answer.one.code, answer.one.host) == (TEMP, 421, b"mx2.example.tappal"), "what may pass counts more"
    assert answer.done.destination_failed == 1
    hosts[1].rules["CONNECT"] = "554 5.7.1 not you"
    answer = mail("example.tappal")
    assert (answer.one.verdict, enhanced(answer.one), stage(answer.one)) == (PERM, "5.7.1", "greeting")


@pytest.mark.parametrize("verb", ["MAIL", "RCPT", "DATA", "."])
def test_a_refusal_of_the_message_is_no_reason_for_the_next_host(mail, hosts, verb):
    hosts[0].rules[verb] = "450 4.2.0 later"
    answer = mail("example.tappal")
    assert (answer.one.verdict, answer.done.destination_failed) == (TEMP, 0)
    assert [len(s.connections) for s in hosts] == [1, 0, 0]


def test_equal_exchangers_share(rooms, hosts):
    sent = 0
    while min(counts(hosts)) < 2:
        with rooms.worker() as worker:
            assert worker.send("r:equal.example.tappal").one.verdict == OK
            worker.close()
        sent += 1
        assert sent < 300 and sum(counts(hosts)) == sent


def test_no_exchanger_means_the_domain_itself(mail, hosts):
    r = mail("nomx.example.tappal").one
    assert (r.verdict, r.host, r.ip) == (OK, b"nomx.example.tappal", b"127.0.0.2")


def test_alias(mail, hosts):
    assert mail("alias.example.tappal").one.ip == b"127.0.0.2"


@pytest.mark.parametrize("domain,code,words", [
    ("null.example.tappal", "5.1.10", b"null MX"), ("nothing.example.tappal", "5.1.2", b"neither"), ("absent.example.tappal", "5.1.2", b"does not exist"),
    ("dangling.example.tappal", "5.1.2", b"does not exist"), ("unresolved.example.tappal", "5.4.4", b"none of the mail exchangers"),
    ("selfbest.example.tappal", "5.4.6", b"this host")])
def test_no_host_for_good(mail, domain, code, words):
    answer = mail(domain)
    r = answer.one
    assert (r.verdict, enhanced(r), stage(r), r.code) == (PERM, code, "dns", 0) and words in r.text
    assert answer.done.destination_failed == 0


def test_no_host_for_now(mail):
    answer = mail("anything.nobody.tappal")
    assert (answer.one.verdict, enhanced(answer.one)) == (TEMP, "4.4.3") and answer.done.destination_failed == 1


def test_this_host_and_all_that_is_not_better_is_left_out(mail, hosts):
    hosts[0].rules["CONNECT"] = "421 4.3.2 busy"
    assert mail("selfmiddle.example.tappal").one.code == 421
    assert [len(s.connections) for s in hosts] == [1, 0, 0]


NAMES = ["EHLO " + name for name in ("remote.tappal", "REMOTE.Tappal at your service")] + ["HELO remote.tappal"]


@pytest.mark.parametrize("name", NAMES)
def test_a_server_with_the_name_of_this_host(rooms, hosts, name):
    """An exchanger at a loopback address, which may be our own port: all of a worse preference is left out, too."""
    verb, text = name.split(" ", 1)
    hosts[1].rules.update({"EHLO": "502 no", verb: "250-%s\n250 DSN" % text})
    with rooms.worker() as worker:
        hosts[0].rules["CONNECT"] = "421 4.3.2 busy"
        assert worker.send("r:example.tappal").one.code == 421
        hosts[0].rules["CONNECT"] = "554 5.3.2 never"
        for destination in ("example.tappal", "[127.0.0.3]"):
            r = worker.send("r:" + destination).one
            assert (r.verdict, r.code, enhanced(r), stage(r)) == (PERM, 0, "5.4.6", "helo") and b"this host" in r.text
        assert hosts[1].connections[-1].commands[-1] == b"QUIT" and not hosts[2].connections
        assert worker.send("r:[127.0.0.3]:%d" % hosts[1].port).one.verdict == OK, "an smtproute may lead to it"


def test_a_server_with_the_name_we_say(rooms, hosts):
    """helohost is the name in the DNS of an address that other hosts may share; our own server does not answer with it."""
    rooms.set(helohost="out.tappal")
    hosts[0].rules["EHLO"] = "250 out.tappal"
    with rooms.worker() as worker:
        assert worker.send("r:example.tappal").one.verdict == OK


def test_a_better_exchanger_that_cannot_be_looked_up_now_is_no_reason_to_give_up(mail):
    r = mail("brokenfirst.example.tappal").one
    assert (r.verdict, enhanced(r)) == (TEMP, "4.4.3")


def test_relay_has_no_exchangers(mail, hosts):
    """An smtproute names the host itself."""
    assert mail("relay.example.tappal:%d" % hosts[0].port).one.ip == b"127.0.0.2"
    assert counts(hosts) == [1, 0, 0]


def test_relay_may_be_this_host(mail, hosts):
    assert stage(mail("me.example.tappal:1").one) == "connect"


def test_ipv6_exchanger(rooms, dns):
    with Sink("::1") as sink:
        rooms.start_resolver(dnsforward=dns.server, remoteport=str(sink.port))
        with rooms.worker() as worker:
            assert worker.send("r:six.example.tappal").one.ip == b"::1"


def test_unicode_domain(mail, hosts):
    assert mail("jürgen.example.tappal").one.host == b"mx1.example.tappal"


def test_no_more_than_twenty_hosts(rooms, dns):
    """Thirty exchangers of which nobody listens: bounded, and quick."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        rooms.start_resolver(dnsforward=dns.server, remoteport=str(s.getsockname()[1]))
        with rooms.worker() as worker:
            answer = worker.send("r:many.example.tappal")
            assert (answer.one.verdict, stage(answer.one), answer.done.destination_failed) == (TEMP, "connect", 1)


def test_connection_is_kept_by_destination(mail, hosts):
    for _ in range(3):
        assert mail("example.tappal").one.verdict == OK
    assert len(hosts[0].connections) == 1
