"""tlsd itself: who holds what, who may ask, what hostile clients and lying siblings cost, reload, crashes."""
import array
import contextlib
import os
import pwd
import random
import re
import signal
import socket
import ssl
import struct
import subprocess

import pytest

if os.getuid() != 0:
    pytest.skip("tlsd is started as root", allow_module_level=True)

from conftest import Mouth, eventually, free_port, private_kib, sessions  # noqa: E402
from faults import calm  # noqa: E402
from logreader import LogReader  # noqa: E402
from tlshost import Host, Secure, client_context, openssl, wait_gone  # noqa: E402


@pytest.fixture(scope="module")
def host():
    with Host() as h:
        yield h


@pytest.fixture(autouse=True)
def nothing_is_left(host):
    yield
    host.stop()


def status(pid, name):
    with open(f"/proc/{pid}/status") as f:
        return next(line.split(":", 1)[1].split() for line in f if line.startswith(name + ":"))


def descriptors(pid):
    """0 of a process that has ended meanwhile."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except FileNotFoundError:
        return 0


def uid(account):
    return str(pwd.getpwnam(account).pw_uid)


def served(host):
    """A session from the greeting to QUIT: everything works."""
    with host.starttls() as c:
        assert c.ask("EHLO x.test").startswith("250")
        assert c.mail().startswith("250")
        assert c.ask("QUIT").startswith("221")


# ---- rooms

@pytest.mark.parametrize("clients", [1, 100])
def test_accounts_and_limits(host, clients):
    """Beside the client, the plaintext, its epoll and what it was born with (0, 1, 2) a session has the door and the signer; one that serves one client only has not."""
    host.start(tlsreuse=clients)
    signer, door, _ = host.processes()
    with host.starttls() as c:
        c.ask("EHLO x.test")
        session, = host.busy()
        assert status(signer, "Uid") == [uid("tappal-key")] * 4 and status(signer, "Groups") == []
        for p in (door, session):
            assert status(p, "Uid") == [uid("tappal-tls")] * 4 and status(p, "Groups") == []
        assert status(session, "NoNewPrivs") == ["1"] and set(status(session, "CapEff")) == {"0" * 16}
        assert status(session, "Seccomp") == ["2"]
        with open(f"/proc/{session}/limits") as f:
            limits = f.read()
        for name, most in (("open files", 0 if clients == 1 else 9), ("processes", 0), ("core file size", 0)):
            assert re.search(rf"Max {name} +{most} +{most} ", limits), limits
        for p in (signer, door, session):
            assert os.stat(f"/proc/{p}/mem").st_uid == 0   # undumpable
        assert descriptors(session) == (6 if clients == 1 else 8), [os.readlink(f"/proc/{session}/fd/{n}") for n in os.listdir(f"/proc/{session}/fd")]


def test_smtpd_has_no_tls(host):
    host.start()
    with host.starttls() as c:
        c.ask("EHLO x.test")
        for p in sessions(host.running["smtpd"].pid):
            with open(f"/proc/{p}/maps") as f:
                assert "libssl" not in f.read()


def primes(host):
    """The RSA key's primes as they lie in memory: OpenSSL's words are little endian."""
    text = openssl("pkey", "-in", host.certificates.path("rsa.key"), "-noout", "-text").stdout.decode()
    return [bytes.fromhex(re.sub(r"[:\s]", "", re.search(name + r":\n((?: +.*\n)+)", text).group(1)))[-128:][::-1] for name in ("prime1", "prime2")]


def has_in_memory(pid, wanted):
    with open(f"/proc/{pid}/maps") as f, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in f:
            low, high = (int(x, 16) for x in line.split()[0].split("-"))
            if line.split()[1][0] != "r" or "[v" in line or high - low > 1 << 30:   # the sanitizers' own
                continue
            try:
                memory.seek(low)
                octets = memory.read(high - low)
            except OSError:
                continue
            if any(w[:64] in octets for w in wanted):
                return True
    return False


def test_no_key_but_in_the_signer(host):
    host.start(tlscertificates=host.rsa)
    key = primes(host)
    with host.starttls() as c:
        c.ask("EHLO x.test")
        signer, door, all_sessions = host.processes()
        assert has_in_memory(signer, key)   # else this test could not fail
        for p in [host.running["tlsd"].pid, door, *all_sessions, *sessions(host.running["smtpd"].pid)]:
            assert not has_in_memory(p, key)


def test_descriptors_do_not_leak(host):
    host.start(smtpdsessions=10)
    served(host)
    parts = [host.running["tlsd"].pid, *host.processes()[:2]]
    before = {p: descriptors(p) for p in parts}
    for i in range(60):
        if i % 3 == 0:
            served(host)
        elif i % 3 == 1:
            host.starttls().close(reset=True)
        else:
            c = host.plain().greet()
            c.ask("STARTTLS")
            c.say("garbage")
            c.close()
    assert eventually(lambda: not host.busy())
    assert eventually(lambda: all(descriptors(p) <= before[p] + 1 for p in parts)), [(p, before[p], descriptors(p)) for p in parts]
    assert all(descriptors(p) <= 12 for p in sessions(host.running["smtpd"].pid))


def wakings(pid):
    """0 of a process that has ended meanwhile."""
    try:
        return int(status(pid, "voluntary_ctxt_switches")[0])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def test_a_client_wakes_one(host):
    """Not all who wait: the one that was busy last. The others have slept all the time."""
    host.start()
    served(host)
    assert eventually(host.at_rest)
    waiting = host.processes()[2]
    before = {p: wakings(p) for p in waiting}
    for _ in range(3):
        served(host)
        assert eventually(host.at_rest)
    assert sum(wakings(p) > before[p] for p in waiting) == 1, (before, {p: wakings(p) for p in waiting})


@pytest.mark.skipif(os.environ.get("VARIANT") == "asan", reason="the sanitizers' memory")
def test_memory_of_idle_sessions(host):
    """Both processes of an idle TLS session together: promised are 600 KiB."""
    host.start(smtpdsessions=120)
    held = []
    for _ in range(100):
        c = host.starttls()
        c.ask("EHLO x.test")
        held.append(c)
    tls, smtp = [private_kib(p) for p in host.busy()], [private_kib(p) for p in sessions(host.running["smtpd"].pid)]
    print("tlsd", min(tls), max(tls), "smtpd", min(smtp), max(smtp))
    assert len(tls) == 100 and max(tls) + max(smtp) < 600
    for c in held:
        c.close()


# ---- one client after the other

SECRETS = [b"EHLO whispered-first.test", b"MAIL FROM:<whispered-then@b.test>"]


def busy_one(host):
    session, = host.busy()
    return session


def one_client(host):
    """A client from STARTTLS to QUIT; the process that served him, when it waits for the next."""
    with host.starttls() as c:
        assert c.ask("EHLO x.test").startswith("250")
        session = busy_one(host)
        assert c.ask("QUIT").startswith("221")
    assert eventually(host.at_rest)
    return session


def test_one_after_the_other(host):
    """The second client comes to the process of the first, and finds nothing of him there: no certificate, no name, no octet."""
    host.start(tlsclientcerts="ask", tlsclientca=host.certificates.path("ca.pem"))
    host.certificates.make("robert", "ec", ["robert.test"], client=True)
    known = client_context()
    known.load_cert_chain(host.certificates.path("robert.pem"), host.certificates.path("robert.key"))
    with host.starttls(known, "other.test") as c:
        assert c.socket.getpeercert(True) == host.certificates.leaf("other")
        assert all(c.ask(line.decode()).startswith("250") for line in SECRETS)
        first = busy_one(host)
        assert has_in_memory(first, SECRETS[1:])    # else this test could not fail
        assert c.ask("QUIT").startswith("221")
    assert eventually(host.at_rest)
    assert not has_in_memory(first, SECRETS)
    with host.starttls() as c:
        assert c.socket.getpeercert(True) == host.certificates.leaf("ec")
        assert c.ask("EHLO x.test").startswith("250")
        assert busy_one(host) == first
        assert c.mail().startswith("250")
    lines = re.findall(r"(\w+) TLS connection established ([^\n]*)", host.log())
    assert [line[0] for line in lines] == ["Trusted", "Anonymous"]
    assert [[word in line[1] for word in ("SNI other.test", "fingerprint=")] for line in lines] == [[True, True], [False, False]]
    assert "robert" not in "\n".join(host.place.sink_lines())


@pytest.mark.parametrize("clients", [1, 3])
def test_so_many_clients(host, clients):
    """tlsreuse: then the process ends, and another one has taken its place."""
    host.start(tlsreuse=clients)
    processes = [one_client(host) for _ in range(2 * clients)]
    assert [len(set(processes[:clients])), len(set(processes[clients:])), len(set(processes))] == [1, 1, 2]
    assert wait_gone(set(processes)) == []
    assert "before its time" not in host.log() and "was killed" not in host.log()


def test_with_syslog(host):
    """A session's lines go to the log reader, also to one that was started again meanwhile, and none of them to the door."""
    with LogReader(host.place.root) as reader:
        host.prepare(logto="syslog")
        host.spawn("tlsd")
        reader.hear("ready: 3 certificates")
        host.port, host.port465 = free_port(), free_port()
        host.set("smtpdlisten", f"127.0.0.1:{host.port} relay\n127.0.0.1:{host.port465} submissions")
        host.spawn("smtpd", "--pool")
        reader.hear("sessions at most")
        served_by = []
        for n in range(3):
            c = host.starttls()
            assert c.ask("EHLO x.test").startswith("250")
            served_by.append(busy_one(host))
            c.close()
            assert f"[{served_by[-1]}]: TLS connection with" in reader.hear("cut off without close_notify")[1]
            assert eventually(host.at_rest)
            if n == 1:
                reader.close()
                reader.bind()
        assert len(set(served_by)) == 1


def test_failed(host):
    """Who met a client that does not speak TLS, or no more, serves no other."""
    host.start()
    with host.starttls() as c:
        c.ask("EHLO x.test")
        first = busy_one(host)
        os.write(c.socket.fileno(), b"EHLO in the clear")
        assert wait_gone([first]) == []
    with host.plain() as c:
        c.greet()
        assert c.ask("STARTTLS").startswith("220")
        second = busy_one(host)
        c.say("EHLO within what should be TLS")
        assert wait_gone([second]) == []
    assert second != first and one_client(host) not in (first, second)


def test_old_processes_go(host):
    """After SIGHUP: who waits at once, who has a client with him; nobody who knows the old certificates meets a new client."""
    host.start(tlscertificates=host.ec)
    c = host.starttls()
    c.ask("EHLO x.test")
    session, waiting = busy_one(host), host.processes()[2]
    host.set("tlscertificates", host.other)
    host.hup("certificates read again: 1")
    assert wait_gone([p for p in waiting if p != session]) == []
    assert certificate(host) == host.certificates.leaf("other")
    assert c.mail().startswith("250") and c.ask("QUIT").startswith("221")
    c.close()
    assert wait_gone([session]) == []


def test_waiting_process_killed(host):
    """The door hears of it, and the next client gets another one."""
    host.start()
    first = one_client(host)
    os.kill(first, signal.SIGKILL)
    host.wait_log(f"session process {first} was killed by signal 9")
    assert one_client(host) != first
    assert "before its time" not in host.log()


def test_surplus(host):
    """Processes that many clients at once have made go again when there are none."""
    host.start(smtpdsessions=60)
    held = [host.starttls() for _ in range(8)]
    assert len(host.busy()) == 8 and eventually(lambda: len(host.processes()[2]) > 12)
    for c in held:
        assert c.ask("QUIT").startswith("221")
        c.close()
    assert eventually(lambda: len(host.processes()[2]) <= 12)
    served(host)


# ---- clients that mean harm

@pytest.mark.parametrize("octets", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\x80\x2e\x01\x00\x02", b"\0" * 5000, b"EHLO x\r\n" * 3000,
                                    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00", random.Random(1).randbytes(20000)], ids=range(7))
def test_garbage(host, octets):
    host.start(tlstimeout=5)
    late = host.plain().greet()
    assert late.ask("STARTTLS").startswith("220")
    both = [late, Mouth(host.port465)]
    for c in both:
        with contextlib.suppress(ConnectionError):
            c.socket.sendall(octets)
    for c in both:
        with contextlib.suppress(ConnectionError):
            while c.socket.recv(4096):
                pass
        c.close()
    host.wait_log("SSL_accept error from unknown[127.0.0.1]", 2)
    served(host)
    assert "was killed" not in host.log()


def client_hello(host, name=None):
    """A good ClientHello's octets."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


@pytest.mark.parametrize("octets", [b"\0", b"/", b"\n", b"\xff", b" "])
def test_names_of_no_host(host, octets):
    """SNI that no library would send: no path, no line of the log, no certificate comes of it, and the next client is served."""
    host.start()
    hello = client_hello(host, "xx-mark-xx.test").replace(b"-mark-", octets * 6)
    c = Mouth(host.port465)
    c.socket.sendall(hello)
    c.socket.shutdown(socket.SHUT_WR)
    answer = c.socket.recv(4096)
    assert answer[:1] in (b"\x15", b"\x16")     # an alert, or a certificate for whom it may concern
    c.close()
    served(host)
    assert "was killed" not in host.log() and not re.search("xx[^?]{6}xx", host.log())
    odd = [line for line in host.log().splitlines() if not re.match(r"\d{4}-|  ", line)]
    assert odd == [], host.log()


def test_mutated_hello(host):
    host.start(tlstimeout=30)
    hello, dice = client_hello(host), random.Random(7)
    for _ in range(60):
        octets = bytearray(hello)
        for _ in range(dice.randint(1, 4)):
            octets[dice.randrange(5, len(octets))] = dice.randrange(256)
        c = Mouth(host.port465)
        c.socket.sendall(octets)
        c.socket.shutdown(socket.SHUT_WR)
        try:
            while c.socket.recv(4096):
                pass
        except ConnectionResetError:
            pass
        c.close()
    served(host)
    assert "was killed" not in host.log()


def test_slow_handshakes(host):
    """An octet now and then does not buy more than tlstimeout; others are served meanwhile."""
    host.start(tlstimeout=5, smtpdsessions=60)
    hello, slow = client_hello(host), []
    for i in range(30):
        c = Mouth(host.port465)
        c.socket.sendall(hello[:i * 8])
        slow.append(c)
    served(host)
    for i, c in enumerate(slow):
        try:
            c.socket.sendall(hello[i * 8:i * 8 + 1])
            while c.socket.recv(4096):
                pass
        except OSError:
            pass
        c.close()
    host.wait_log("SSL_accept error from unknown[127.0.0.1]: timeout", 30)


def test_stalled_reader(host):
    """Replies that nobody reads wait in bounded buffers, and all come in the end."""
    host.start(maxcommands=100000, maxerrors=100000)
    with host.starttls(receive_buffer=4096) as c:
        c.ask("EHLO x.test")
        c.socket.settimeout(2)
        sent = 0
        try:
            while sent < 40000:
                sent += c.socket.send(b"NOOP\r\n" * 1000) // 6
        except (TimeoutError, ssl.SSLWantWriteError):
            pass
        assert sent >= 1000
        session, = host.busy()
        assert private_kib(session) < 600 or os.environ.get("VARIANT") == "asan"
        calm([session])
        c.socket.settimeout(120)
        for _ in range(1000):
            assert c.hear() == "250 2.0.0 Ok"
    assert eventually(lambda: not host.busy())


def test_stalled_reader_without_smtpd(host):
    """A client that reads nothing does not keep its session when smtpd has given it up."""
    host.start(maxcommands=100000000)
    with host.starttls(receive_buffer=4096) as c:
        c.ask("EHLO x.test")
        c.socket.settimeout(5)
        try:
            while True:
                c.socket.send(b"NOOP\r\n" * 1000)
        except (TimeoutError, ssl.SSLWantWriteError):
            pass
        session, = host.busy()
        for p in sessions(host.running["smtpd"].pid):
            os.kill(p, signal.SIGKILL)
        assert eventually(lambda: session not in host.busy(), 300)


def test_stall_in_the_middle(host):
    host.start(timeoutsmtpd=4)
    with host.starttls() as c:
        reply = c.ask("EHLO x.test")
        assert (c.hear() if reply.startswith("250-") else reply).startswith("421 4.4.2")   # we may have been slow ourselves
        assert c.hear() is None
    assert eventually(lambda: not host.busy())


def test_cut_off(host):
    """TCP's end without close_notify: nothing that came in counts as whole."""
    host.start()
    c = host.starttls()
    c.ask("EHLO x.test", )
    c.ask("MAIL FROM:<a@b.test>")
    c.ask("RCPT TO:<joe@local.test>")
    c.ask("DATA")
    c.say("half a message")
    os.close(c.socket.detach())
    host.wait_log("lost connection after DATA")
    host.wait_log("TLS connection with unknown[127.0.0.1] was cut off without close_notify")
    assert not any(line.startswith("commit") for line in host.place.sink_lines())


def is_greeted(host):
    """Not with 421: smtpd's pool has taken all who came before."""
    with host.plain() as c:
        return c.hear().startswith("220 ")


def test_flood(host):
    """Many at once, most of them gone at once."""
    host.start(smtpdsessions=80, tlssessions=40)
    for _ in range(5):
        many = [Mouth(host.port465) for _ in range(60)]
        for i, c in enumerate(many):
            if i % 2:
                c.socket.sendall(b"\x16\x03\x01")
            c.close(reset=i % 3 == 0)
    assert eventually(lambda: is_greeted(host) and host.at_rest())
    served(host)
    assert "was killed" not in host.log()


def test_bound(host):
    """tlssessions: further clients hear 454 and may go on without."""
    host.start(tlssessions=3, smtpdsessions=20)
    held = [host.starttls() for _ in range(3)]
    with host.plain() as c:
        c.greet()
        assert c.ask("STARTTLS") == "454 4.7.0 TLS is not available now"
        assert c.mail().startswith("250")
    host.wait_log("all 3 TLS sessions are busy (tlssessions)")
    held.pop().close()
    assert eventually(lambda: host.at_rest(2))
    served(host)
    for c in held:
        c.close()


# ---- siblings that lie

def ask(path, octets, fds=(), wait=True):
    """What a client of tlsd's socket gets for this; None: the end."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(60)
        s.connect(path)
        try:
            s.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else [])
            if not wait:
                return None
            return s.recv(4096) or None
        except (BrokenPipeError, ConnectionResetError):
            return None


def record(number, payload):
    return struct.pack("<IHH", 8 + len(payload), number, 0x7074) + payload


ASK = record(80, b"\0" + struct.pack("<H", 4) + b"test")


def test_lies(host):
    host.start()
    path = f"{host.place.root}/run/tappal/tlsd"
    a, b = socket.socketpair()
    c, d = socket.socketpair()
    pipe = os.pipe()
    one, two, three = [a.fileno()], [a.fileno(), c.fileno()], [a.fileno(), c.fileno(), b.fileno()]
    for octets, fds in ((b"garbage", ()), (b"\xff" * 900, two), (ASK, ()), (ASK, one), (ASK, three), (ASK, pipe), (ASK + b"x", two), (ASK[:-1], two), (record(81, b"\0" * 4), two),
                        (record(80, b"\7" + struct.pack("<H", 4) + b"test"), two), (record(80, b"\0" + struct.pack("<H", 401) + b"t" * 401), two), (ASK * 2, two)):
        assert ask(path, octets, fds) is None, (octets, fds)
    assert ask(path, ASK, two)[4:6] == b"\x51\0"   # 81 tls_ready: the same, told right
    for s in (a, b, c, d):
        s.close()
    for fd in pipe:
        os.close(fd)
    for _ in range(20):
        ask(path, b"", wait=False)
    served(host)
    assert "was killed" not in host.log()


@pytest.mark.parametrize("account, admitted", [("tappal-smtpd", True), ("tappal-tls", False), ("tappal-key", False), ("tappal-remote", False), ("nobody", False)])
def test_who_may_ask(host, account, admitted):
    host.start()
    program = ("import socket,sys,array\na,b=socket.socketpair();c,d=socket.socketpair()\ns=socket.socket(socket.AF_UNIX);s.connect(sys.argv[1])\n"
               "try:\n s.sendmsg([bytes.fromhex(sys.argv[2])],[(socket.SOL_SOCKET,socket.SCM_RIGHTS,array.array('i',[a.fileno(),c.fileno()]))])\n"
               " print(s.recv(100).hex())\nexcept OSError: print('')\n")
    run = subprocess.run(["/usr/bin/python3", "-c", program, f"{host.place.root}/run/tappal/tlsd", ASK.hex()], user=account, group=account if account != "nobody" else "nogroup",
                         extra_groups=[], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/")
    assert (run.stdout.strip() != "") == admitted, run.stdout
    assert eventually(lambda: ("who is not admitted" in host.log()) != admitted)


def test_impostor(host):
    """Whoever owns the directory can put a socket there; smtpd sees that it is not root's, and tells it nothing."""
    host.prepare()
    host.start_smtpd()
    os.makedirs(f"{host.place.root}/run/tappal", exist_ok=True)
    path = f"{host.place.root}/run/tappal/tlsd"
    fake = subprocess.Popen(["/usr/bin/python3", "-c", "import socket,sys\ns=socket.socket(socket.AF_UNIX);s.bind(sys.argv[1]);s.listen();print('ok',flush=True)\n"
                             "c,_=s.accept();print(c.recv(100))", path], user="tappal-dns", group="tappal-dns", extra_groups=[], stdout=subprocess.PIPE, cwd="/") \
        if os.chown(os.path.dirname(path), pwd.getpwnam("tappal-dns").pw_uid, -1) is None else None
    assert fake.stdout.readline() == b"ok\n"
    os.chmod(path, 0o777)
    with host.plain() as c:
        c.greet()
        assert c.ask("STARTTLS") == "454 4.7.0 TLS is not available now"
    assert fake.stdout.read() == b"b''\n"
    fake.wait(120)
    os.unlink(path)


# ---- reload, crash, restart

def certificate(host):
    with host.starttls() as c:
        return c.socket.getpeercert(True)


def test_reload(host):
    host.start(tlscertificates=host.ec)
    c = host.starttls()
    assert c.ask("EHLO x.test").startswith("250")
    old = c.socket.getpeercert(True)
    signer, door, _ = host.processes()
    host.set("tlscertificates", host.other)
    host.hup("certificates read again: 1")
    # a process that waited before may take one more client before it sees that its door is shut
    assert eventually(lambda: certificate(host) != old)
    assert c.mail().startswith("250")   # the session from before goes on
    c.close()
    assert wait_gone([signer, door]) == []


def test_bad_reload(host):
    """The old certificates stay in use, and the log says file and why."""
    host.start()
    old = certificate(host)
    processes = host.processes()[:2]
    path = host.certificates.path
    with open(path("garbage"), "w") as f:
        f.write("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    os.chmod(path("garbage"), 0o600)
    openssl("pkey", "-in", path("ec.key"), "-aes128", "-passout", "pass:x", "-out", path("locked"))
    openssl("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=x", "-keyout", path("short.key"), "-out", path("short.pem"))
    openssl("req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=x", "-keyout", path("ed.key"), "-out", path("ed.pem"))
    for name in ("locked", "short.key", "ed.key"):
        os.chmod(path(name), 0o600)
    for value, fault in ((f"{path('ec.pem')} {path('rsa.key')}", f"{path('rsa.key')}: this is not the key of the first certificate in {path('ec.pem')}"),
                         (f"{path('ec.pem')} {path('nothing')}", f"{path('nothing')}: No such file or directory"),
                         (f"{path('ec.pem')} {path('garbage')}", f"{path('garbage')}: there is no good private key in it"),
                         (f"{path('ec.pem')} {path('locked')}", f"{path('locked')}: the key has a passphrase"),
                         (f"{path('garbage')} {path('ec.key')}", f"{path('garbage')}: there is no certificate in it"),
                         (f"{path('ec.pem')} {host.place.etc}", f"{host.place.etc}: this is no file"),
                         (f"{path('short.pem')} {path('short.key')}", f"{path('short.key')}: an RSA key of less than 2048 bits"),
                         (f"{path('ed.pem')} {path('ed.key')}", f"{path('ed.key')}: the key is neither RSA nor ECDSA")):
        host.set("tlscertificates", value)
        host.hup("the new certificates are not used; those from before stay in use")
        assert f"error: {fault}" in host.log(), host.log()
        assert certificate(host) == old and host.processes()[:2] == processes
    host.set("tlscertificates", f"{host.rsa}\n{host.ec}")
    for name, value, fault in (("tlsciphers", "NONSENSE", 'tlsciphers: "NONSENSE" names no cipher'), ("tlsciphersuites", "x", "tlsciphersuites:"),
                               ("tlsclientcerts", "require", "tlsclientca: it is not set")):
        host.set(name, value)
        host.hup("the new certificates are not used; those from before stay in use")
        assert fault in host.log() and certificate(host) == old
        os.unlink(f"{host.place.etc}/{name}")
    host.set("tlsminimum", "1.1")
    host.hup("the settings were not reloaded")
    assert certificate(host) == old


@pytest.mark.parametrize("mode, owner, fault", [(0o644, "root", "anybody may read or write the key's file (mode 0644)"), (0o602, "root", "anybody may read"),
                                                (0o600, "nobody", "the key's file belongs to uid"), (0o640, "root", None), (0o600, "tappal-key", None)])
def test_key_file(host, mode, owner, fault):
    host.prepare(tlscertificates=host.certificates.make("mode", "ec", ["mode.test"]))
    path = host.certificates.path("mode.key")
    os.chmod(path, mode)
    os.chown(path, pwd.getpwnam(owner).pw_uid, pwd.getpwnam("tappal-smtpd").pw_gid if mode == 0o640 else 0)
    check = subprocess.run([f"{host.place.libexec}/tlsd", "--check"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert check.returncode == (100 if fault else 0)
    if fault:
        assert f"{path}: {fault}" in check.stdout
        process = host.spawn("tlsd")
        assert process.wait(120) == 100 and fault in host.log()
    else:
        assert "ECDSA 256 bits, mode.test, until 20" in check.stdout
        host.start_tlsd()
        assert ("may read the key; chmod 0600" in host.log()) == (mode == 0o640)


def test_key_in_the_chain_file(host):
    path = host.certificates.path("both.pem")
    with open(path, "w") as out:
        for name in ("ec.pem", "ec.key"):
            with open(host.certificates.path(name)) as f:
                out.write(f.read())
    os.chmod(path, 0o644)
    host.prepare(tlscertificates=path)
    assert host.spawn("tlsd").wait(120) == 100 and "anybody may read" in host.log()
    os.chmod(path, 0o600)
    host.start(tlscertificates=path)
    served(host)


def test_without_certificates(host):
    """tlsd waits for one; smtpd that believes there is one hears at once that there is none."""
    host.prepare(tlscertificates=None)
    process = host.start_tlsd("there is no certificate")
    host.set("tlscertificates", host.ec)
    host.start_smtpd()
    with host.plain() as c:
        c.greet()
        assert c.ask("STARTTLS") == "454 4.7.0 TLS is not available now"
    host.hup("certificates read again: 1")
    served(host)
    os.unlink(f"{host.place.etc}/tlscertificates")
    host.hup("there is no certificate")
    with host.plain() as c:
        c.greet()
        assert c.ask("STARTTLS") == "454 4.7.0 TLS is not available now"
    assert process.poll() is None


@pytest.mark.parametrize("victim", ["parent", "signer", "door"])
def test_killed(host, victim):
    """Sessions that have a client go on; STARTTLS gets 454 until it is back."""
    host.start()
    c = host.starttls()
    assert c.ask("EHLO x.test").startswith("250")
    signer, door, waiting = host.processes()
    session, = host.busy()
    os.kill({"parent": host.running["tlsd"].pid, "signer": signer, "door": door}[victim], signal.SIGKILL)
    host.running["tlsd"].wait(120)
    assert wait_gone([signer, door, *[p for p in waiting if p != session]]) == []
    with host.plain() as p:
        p.greet()
        assert p.ask("STARTTLS") == "454 4.7.0 TLS is not available now"
        assert p.mail().startswith("250")
    assert c.mail().startswith("250")
    host.start_tlsd()
    served(host)
    assert c.ask("QUIT").startswith("221")
    c.close()
    assert wait_gone([session]) == []


def test_session_killed(host):
    host.start()
    c = host.starttls()
    c.ask("EHLO x.test")
    os.kill(host.busy()[0], signal.SIGKILL)
    host.wait_log("lost connection after EHLO")
    host.wait_log("was killed by signal 9")
    c.close()
    served(host)


def test_smtpd_killed(host):
    """The client hears close_notify; nothing of its session stays."""
    host.start()
    c = host.starttls()
    c.ask("EHLO x.test")
    session, = host.busy()
    for p in sessions(host.running["smtpd"].pid):
        os.kill(p, signal.SIGKILL)
    assert c.file.read() == b""
    c.close()
    assert eventually(lambda: session not in host.busy())


def test_only_one(host):
    host.start()
    second = subprocess.run([f"{host.place.libexec}/tlsd"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert second.returncode == 100 and "another tlsd serves" in second.stdout
    served(host)


def test_needs_root(host):
    host.prepare()
    run = subprocess.run([f"{host.place.libexec}/tlsd"], user="tappal-key", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 100 and "must be started as root" in run.stdout


# ---- one process for a connection

@pytest.mark.parametrize("program", ["smtpd", "smtpd-start"])
@pytest.mark.parametrize("role", ["relay", "submissions"])
def test_as_from_tcpserver(host, role, program):
    """smtpd itself, and the pool to which the connection was passed."""
    host.prepare()
    host.start_tlsd()
    if program == "smtpd-start":
        host.start_smtpd()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    with open(host.log_path, "ab") as log:
        process = subprocess.Popen([f"{host.place.libexec}/{program}", "-r", role], stdin=server, stdout=server, stderr=log, user="tappal-smtpd", group="tappal-smtpd", extra_groups=[],
                                   env={"TCPREMOTEHOST": "c.test"})
    server.close()
    if role == "relay":
        m = Mouth.__new__(Mouth)
        m.socket, m.file = client, client.makefile("rb")
        m.greet()
        assert m.ask("STARTTLS").startswith("220")
    c = Secure.__new__(Secure)
    c.socket = client_context().wrap_socket(client)
    c.file = c.socket.makefile("rb")
    if role == "submissions":
        assert c.hear().startswith("220")
    assert c.ask("EHLO x.test").startswith("250")
    if role == "relay":
        assert c.mail().startswith("250")
        assert "EPESMTPS" in host.place.sink_lines()
    assert c.ask("QUIT").startswith("221")
    c.close()
    assert process.wait(120) == 0
    assert "TLS connection established from c.test[127.0.0.1]" in host.log()
    assert (f"smtpd[{process.pid}]" in host.log()) == (program == "smtpd")


def test_bad_role(host):
    run = subprocess.run([f"{host.place.libexec}/smtpd", "-r", "chef"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 100 and "usage" in run.stdout
