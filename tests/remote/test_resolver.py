"""resolver, asked as remote asks it, in front of a real name server."""
import os
import pwd
import signal
import socket
import subprocess
import time

import pytest

import records
from dnszone import Zones
from faults import calm, few_files, highest_file
from host import wait_until

OK, NO_DOMAIN, NO_DATA, NULL_MX, TEMPORARY, BOGUS, MX_UNRESOLVED = range(7)
MAIL, ADDRESS, REVERSE, LIST = 1, 2, 3, 4

ZONES = {
    "plain.tappal": [
        "@ MX 20 b", "@ MX 10 a", "a A 127.0.0.2", "a AAAA 2001:db8::2", "b A 127.0.0.3",
        "null MX 0 .", "nullandmore MX 0 .", "nullandmore MX 10 a", "nomx A 127.0.0.4", "nothing TXT x",
        "cname CNAME @", "cnametoa CNAME nomx", "mxcname MX 10 viacname", "viacname CNAME a",
        "literal MX 10 127.0.0.9.", "literalandmore MX 10 127.0.0.9.", "literalandmore MX 20 a", "badname MX 10 a\\ b",
        "missing MX 10 gone", "half MX 10 gone", "half MX 20 a", "broken MX 10 x.elsewhere.tappal.", "brokenhalf MX 5 x.elsewhere.tappal.", "brokenhalf MX 20 a",
        "zero MX 10 z", "z A 0.0.0.0", "z A 224.0.0.1", "z AAAA ::", "z AAAA ff02::1", "z AAAA ::ffff:127.0.0.1",
        "twice MX 10 a", "twice MX 20 a", "xn--bcher-kva MX 10 a", "loop CNAME loop2", "loop2 CNAME loop",
    ] + ["big MX %d m%d" % (i, i) for i in range(60)] + ["m%d A 127.1.%d.1" % (i, i) for i in range(60)]
      + ["m%d A 127.1.%d.%d" % (0, 0, k) for k in range(2, 80)],
    "2.0.192.in-addr.arpa": [
        "1 PTR a.plain.tappal.", "2 PTR nothing.plain.tappal.", "3 PTR a\\ b.plain.tappal.", "4 PTR x.elsewhere.tappal.", "5 TXT x",
        "6 PTR nomx.plain.tappal.", "6 PTR gone.plain.tappal.", "7 PTR 192.0.2.7.",
    ],
    "list.tappal": ["1.2.0.192 A 127.0.0.2", "1.2.0.192 A 127.0.0.10", '1.2.0.192 TXT "listed, " "see there"', "2.2.0.192 A 192.0.2.1", "3.2.0.192 TXT x"],
    "signed.tappal": ["@ MX 10 mx", "mx A 127.0.0.5", "nomx A 127.0.0.6"],
}


class Asker:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(path)
        self.stream = records.Stream(self.socket.fileno())

    def send(self, kind, name, query=1):
        self.socket.sendall(records.encode("dns_ask", query=query, kind=kind, name=name))

    def answer(self, timeout=120):
        answer = self.stream.want("dns_answer", timeout)
        hosts = [self.stream.want("dns_host", timeout) for _ in range(answer.count)]
        assert all(h.query == answer.query for h in hosts)
        return answer, [(h.preference, h.file_name.decode(), text(h.address)) for h in hosts]

    def ask(self, kind, name, timeout=120):
        self.send(kind, name)
        answer, hosts = self.answer(timeout)
        return answer.status, hosts

    def ended(self, timeout=120):
        self.socket.settimeout(timeout)
        return self.socket.recv(1) == b""

    def close(self):
        self.socket.close()


def text(address):
    return socket.inet_ntop(socket.AF_INET if len(address) == 4 else socket.AF_INET6, address) if address else None


@pytest.fixture(scope="module")
def dns():
    with Zones(ZONES, signed=["signed.tappal"]) as zones:
        yield zones


@pytest.fixture
def path(built):
    return built.instance.root + "/run/tappal/resolver"


@pytest.fixture
def asker(rooms, dns, path):
    rooms.start_resolver(dnsforward=dns.server)
    a = Asker(path)
    yield a
    a.close()


def test_exchangers_in_order_with_all_addresses(asker):
    status, hosts = asker.ask(MAIL, "plain.tappal")
    assert status == OK
    assert hosts == [(10, "a.plain.tappal", "127.0.0.2"), (10, "a.plain.tappal", "2001:db8::2"), (20, "b.plain.tappal", "127.0.0.3")] or \
        hosts == [(10, "a.plain.tappal", "2001:db8::2"), (10, "a.plain.tappal", "127.0.0.2"), (20, "b.plain.tappal", "127.0.0.3")]


@pytest.mark.parametrize("name,status,hosts", [
    ("null.plain.tappal", NULL_MX, []),
    ("nullandmore.plain.tappal", OK, {(10, "a.plain.tappal", "127.0.0.2"), (10, "a.plain.tappal", "2001:db8::2")}),
    ("nomx.plain.tappal", OK, {(0, "nomx.plain.tappal", "127.0.0.4")}),
    ("NoMX.Plain.Tappal", OK, {(0, "nomx.plain.tappal", "127.0.0.4")}),
    ("nothing.plain.tappal", NO_DATA, []),
    ("absent.plain.tappal", NO_DOMAIN, []),
    ("cname.plain.tappal", OK, {(10, "a.plain.tappal", "127.0.0.2"), (10, "a.plain.tappal", "2001:db8::2"), (20, "b.plain.tappal", "127.0.0.3")}),
    ("cnametoa.plain.tappal", OK, {(0, "cnametoa.plain.tappal", "127.0.0.4")}),
    ("mxcname.plain.tappal", OK, {(10, "viacname.plain.tappal", "127.0.0.2"), (10, "viacname.plain.tappal", "2001:db8::2")}),
    ("literal.plain.tappal", MX_UNRESOLVED, []),
    ("literalandmore.plain.tappal", OK, {(20, "a.plain.tappal", "127.0.0.2"), (20, "a.plain.tappal", "2001:db8::2")}),
    ("badname.plain.tappal", MX_UNRESOLVED, []),
    ("missing.plain.tappal", MX_UNRESOLVED, []),
    ("half.plain.tappal", OK, {(20, "a.plain.tappal", "127.0.0.2"), (20, "a.plain.tappal", "2001:db8::2")}),
    ("broken.plain.tappal", TEMPORARY, []),
    ("brokenhalf.plain.tappal", OK, {(5, "x.elsewhere.tappal", None), (20, "a.plain.tappal", "127.0.0.2"), (20, "a.plain.tappal", "2001:db8::2")}),
    ("zero.plain.tappal", MX_UNRESOLVED, []),
    ("twice.plain.tappal", OK, {(10, "a.plain.tappal", "127.0.0.2"), (10, "a.plain.tappal", "2001:db8::2")}),
    ("bücher.plain.tappal", OK, {(10, "a.plain.tappal", "127.0.0.2"), (10, "a.plain.tappal", "2001:db8::2")}),
    ("loop.plain.tappal", TEMPORARY, []),
    ("elsewhere.tappal", TEMPORARY, []),
    ("a" * 64 + ".plain.tappal", NO_DOMAIN, []), ("bad name.tappal", NO_DOMAIN, []), ("", NO_DOMAIN, []), ("..", NO_DOMAIN, []), (b"\xff\xfe.tappal", NO_DOMAIN, []),
])
def test_mail(asker, name, status, hosts):
    got, found = asker.ask(MAIL, name)
    assert (got, set(found)) == (status, set(hosts))


@pytest.mark.parametrize("last,status,hosts", [
    (1, OK, {(0, "a.plain.tappal", "127.0.0.2"), (0, "a.plain.tappal", "2001:db8::2")}),
    (2, OK, {(0, "nothing.plain.tappal", None)}),
    (3, NO_DATA, set()),
    (4, OK, {(1, "x.elsewhere.tappal", None)}),
    (5, NO_DATA, set()),
    (6, OK, {(0, "nomx.plain.tappal", "127.0.0.4"), (0, "gone.plain.tappal", None)}),
    (7, NO_DATA, set()),
    (8, NO_DOMAIN, set()),
])
def test_reverse(asker, last, status, hosts):
    got, found = asker.ask(REVERSE, f"{last}.2.0.192.in-addr.arpa")
    assert (got, set(found)) == (status, hosts)


@pytest.mark.parametrize("name,status,hosts,reason", [
    ("1.2.0.192.list.tappal", OK, {"127.0.0.2", "127.0.0.10"}, b"listed, see there"),
    ("2.2.0.192.list.tappal", OK, {"192.0.2.1"}, b""),
    ("3.2.0.192.list.tappal", NO_DATA, set(), None),
    ("4.2.0.192.list.tappal", NO_DOMAIN, set(), None),
    ("4.2.0.192.list.elsewhere.tappal", TEMPORARY, set(), None),
])
def test_list(asker, name, status, hosts, reason):
    asker.send(LIST, name)
    answer, found = asker.answer()
    assert (answer.status, {address for _, _, address in found}) == (status, hosts)
    assert reason is None or answer.text == reason


def test_questions_of_two_kinds_at_once(asker):
    for number in range(60):
        asker.send(LIST if number % 2 else ADDRESS, "1.2.0.192.list.tappal" if number % 2 else f"m{number}.plain.tappal", query=number)
    assert {asker.answer()[0].query for _ in range(60)} == set(range(60))


def test_address(asker):
    assert asker.ask(ADDRESS, "nomx.plain.tappal") == (OK, [(0, "nomx.plain.tappal", "127.0.0.4")])
    assert asker.ask(ADDRESS, "plain.tappal") == (NO_DATA, [])
    assert asker.ask(ADDRESS, "absent.plain.tappal") == (NO_DOMAIN, [])


def test_answers_are_bounded_and_the_best_stay(asker):
    status, hosts = asker.ask(MAIL, "big.plain.tappal")
    assert status == OK and len(hosts) <= 64
    names = [name for _, name, _ in hosts]
    assert sorted(set(names), key=names.index) == ["m%d.plain.tappal" % i for i in range(20)]
    assert names.count("m0.plain.tappal") == 12


def test_many_questions_at_once(asker):
    """More than one client's share: the rest waits, none is lost."""
    for i in range(200):
        asker.send(MAIL, ["plain.tappal", "nomx.plain.tappal", "absent.plain.tappal", "null.plain.tappal"][i % 4], query=i)
    got = {}
    for _ in range(200):
        answer, _ = asker.answer()
        got[answer.query] = answer.status
    assert got == {i: [OK, OK, NO_DOMAIN, NULL_MX][i % 4] for i in range(200)}


def test_many_clients(asker, path):
    askers = [Asker(path) for _ in range(300)]
    for a in askers:
        a.send(MAIL, "plain.tappal")
    assert all(a.answer()[0].status == OK for a in askers)
    for a in askers:
        a.close()
    assert asker.ask(MAIL, "plain.tappal")[0] == OK


@pytest.mark.parametrize("octets", [b"x" * 64, records.encode("dns_ask", query=1, kind=9, name="plain.tappal"), records.encode("job_done", job=1),
                                    records.frame(60, records.encode("dns_ask", query=1, kind=1, name="plain.tappal")[8:] + b"x")], ids=["text", "kind", "other record", "length"])
def test_nonsense_ends_the_connection_and_no_other(asker, path, octets):
    liar = Asker(path)
    liar.socket.sendall(octets)
    assert liar.ended()
    liar.close()
    assert asker.ask(MAIL, "plain.tappal")[0] == OK


def test_client_that_leaves_before_its_answer(asker, path):
    for _ in range(20):
        a = Asker(path)
        a.send(MAIL, "big.plain.tappal")
        a.send(MAIL, "broken.plain.tappal", 2)
        a.close()
    assert asker.ask(MAIL, "plain.tappal")[0] == OK


def test_client_that_never_reads(asker, path):
    a = Asker(path)
    a.socket.setblocking(False)
    try:
        for i in range(20000):
            a.socket.send(records.encode("dns_ask", query=i, kind=MAIL, name="big.plain.tappal"))
    except BlockingIOError:
        pass
    assert asker.ask(MAIL, "plain.tappal")[0] == OK
    a.close()


CODE = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\ns.settimeout(60)\nsys.exit(7 if s.recv(1) == b'' else 0)"


@pytest.mark.parametrize("user,admitted", [("tappal-queue", False), ("nobody", False), ("tappal-dns", False), ("tappal-remote", True), ("tappal-smtpd", True)])
def test_who_may_ask(asker, path, user, admitted):
    code = CODE if not admitted else CODE.replace("s.settimeout(60)", "s.settimeout(0.3)")
    result = subprocess.run(["/usr/bin/python3", "-c", code, path], user=user, stderr=subprocess.DEVNULL, check=False)
    assert (result.returncode == 7) == (not admitted)


def test_few_descriptors(rooms, dns, path, asker):
    """More clients than it may have descriptors: those that are in are served, the others wait, and so does it."""
    assert asker.ask(ADDRESS, "a.plain.tappal")[0] == OK
    pid = rooms.resolver.pid
    others = []
    with few_files(pid, highest_file(pid) + 3):
        for n in range(6):
            others.append(Asker(path))
            others[-1].send(ADDRESS, f"x{n}.unheard.tappal")
        calm([pid])
    late = Asker(path)
    assert late.ask(ADDRESS, "a.plain.tappal")[0] == OK
    for other in others + [late]:
        other.close()


def test_a_server_that_never_answers(rooms, path):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        rooms.start_resolver(dnsforward="127.0.0.1@%d" % silent.getsockname()[1], dnstimeout="1")
        a = Asker(path)
        began = time.monotonic()
        status, _ = a.ask(MAIL, "plain.tappal")
        assert status == TEMPORARY and time.monotonic() - began > 0.9
        a.close()


def test_validated(rooms, dns, path):
    anchor = dns.anchors(rooms.instance.etc + "/../anchor")
    rooms.start_resolver(dnsforward=dns.server, dnstrustanchor=anchor)
    a = Asker(path)
    for name, secure in [("signed.tappal", 1), ("plain.tappal", 0), ("nomx.signed.tappal", 1), ("absent.signed.tappal", 1)]:
        a.send(MAIL, name)
        answer, _ = a.answer()
        assert (name, answer.secure) == (name, secure)
    a.close()


def test_bogus(rooms, dns, path):
    anchor = dns.anchors(rooms.instance.etc + "/../anchor", spoil=True)
    rooms.start_resolver(dnsforward=dns.server, dnstrustanchor=anchor)
    a = Asker(path)
    a.send(MAIL, "signed.tappal")
    answer, hosts = a.answer()
    assert (answer.status, answer.secure, hosts) == (BOGUS, 0, []) and b"DNSSEC" in answer.text
    assert a.ask(MAIL, "plain.tappal")[0] == OK
    a.close()


def hup(rooms, says):
    before = rooms.instance.log("resolver").count(says)
    rooms.resolver.send_signal(signal.SIGHUP)
    assert wait_until(lambda: rooms.instance.log("resolver").count(says) > before)


def test_hup_reads_the_settings_and_forgets_the_cache(rooms, dns, path, asker):
    assert asker.ask(MAIL, "plain.tappal")[0] == OK
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        rooms.set(dnsforward="127.0.0.1@%d" % silent.getsockname()[1])
        hup(rooms, "settings read again")
        asker.send(MAIL, "plain.tappal")           # asked in vain ...
        silent.settimeout(120)
        assert silent.recv(512)
        rooms.set(dnsforward=dns.server)
        rooms.resolver.send_signal(signal.SIGHUP)  # ... and asked again
        assert asker.answer()[0].status == OK


def test_hup_with_bad_settings_changes_nothing(rooms, asker):
    rooms.set(dnsforward="not an address")
    hup(rooms, "dnsforward")
    assert asker.ask(MAIL, "nomx.plain.tappal")[0] == OK


def test_missing_trust_anchor_is_said_at_start(rooms):
    rooms.set(dnstrustanchor="/nonexistent/key")
    process = rooms.instance.start("resolver")
    assert process.wait(120) == 100
    assert "/nonexistent/key" in rooms.instance.log("resolver")


def test_only_one(rooms, asker):
    process = rooms.instance.start("resolver")
    assert process.wait(120) == 100
    assert asker.ask(MAIL, "nomx.plain.tappal")[0] == OK


def test_takes_over_a_left_socket(rooms, dns, path):
    rooms.start_resolver(dnsforward=dns.server)
    rooms.resolver.kill()
    rooms.resolver.wait()
    rooms.resolver = None
    assert os.path.exists(path)
    second = rooms.instance.start("resolver")
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            a = Asker(path)
            break
        except OSError:
            time.sleep(0.02)
    assert a.ask(MAIL, "nomx.plain.tappal")[0] == OK
    a.close()
    second.send_signal(signal.SIGTERM)
    assert second.wait(120) == 0 and not os.path.exists(path)


def test_runs_as_its_account(rooms, asker):
    with open("/proc/%d/status" % rooms.resolver.pid, encoding="ascii") as f:
        ids = [line.split()[1:] for line in f if line.startswith("Uid:")][0]
    assert ids == [str(pwd.getpwnam("tappal-dns").pw_uid)] * 4
