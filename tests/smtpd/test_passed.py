"""smtpd-start: connections of tcpserver and inetd that the pool serves; and what happens when it does not."""
import array
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys

import pytest
from conftest import TOP, Mouth, children, eventually, free_port, sessions, smtpd_processes

pytestmark = [pytest.mark.skipif(os.getuid() != 0, reason="needs root: the pool gives its socket to an account"),
              pytest.mark.skipif(shutil.which("tcpserver") is None, reason="tcpserver is not installed")]


@pytest.fixture(scope="module", autouse=True)
def accounts():
    subprocess.run(["sh", f"{TOP}/etc/accounts"], check=True, stdout=subprocess.DEVNULL)


def named(pid, name):
    try:
        with open(f"/proc/{pid}/comm") as f:
            return f.read() == f"{name}\n"
    except (FileNotFoundError, ProcessLookupError):
        return False


def starters(tcpserver):
    """smtpd-start is at most fifteen octets long, so comm has all of it."""
    return [c for c in children(tcpserver.pid) if named(c, "smtpd-start")]


class Passing:
    """A pool without an address, and tcpserver before it."""

    def __init__(self, server):
        self.server, self.door = server, f"{server.place.root}/run/tappal/smtpd"
        self.pool = self.tcpserver = None

    def start_pool(self, **settings):
        self.server.prepare(smtpdlisten="", **settings)
        if os.path.exists(self.door):
            os.unlink(self.door)
        self.pool = self.server.run([f"{self.server.place.libexec}/smtpd", "--pool"])
        assert eventually(self.pool_listens), self.server.log()
        return self

    def pool_listens(self):
        return "ready: " in self.server.log() and len(sessions(self.pool.pid)) > 0

    def start_tcpserver(self, *options, program="smtpd-start", arguments=(), account="tappal-smtpd"):
        user = pwd.getpwnam(account)
        self.server.port = free_port()
        self.tcpserver = self.server.run(["tcpserver", "-H", "-R", "-l", "0", "-u", str(user.pw_uid), "-g", str(user.pw_gid), *options, "127.0.0.1",
                                          str(self.server.port), f"{self.server.place.libexec}/{program}", *arguments])
        return self

    def rules(self, text):
        path = f"{self.server.place.root}/rules"
        subprocess.run(["tcprules", f"{path}.cdb", f"{path}.tmp"], input=text.encode(), check=True)
        return "-x", f"{path}.cdb"

    def served_by_pool(self):
        """Nobody below tcpserver is smtpd itself."""
        return not smtpd_processes(self.tcpserver.pid) and len(starters(self.tcpserver)) > 0

    def served_alone(self):
        return len(smtpd_processes(self.tcpserver.pid)) > 0

    def stop_all(self, number):
        for pid in [self.pool.pid, *sessions(self.pool.pid)]:
            os.kill(pid, number)


@pytest.fixture
def passing(server):
    return Passing(server)


def test_the_pool_serves(passing, server):
    passing.start_pool().start_tcpserver()
    held = [server.connect().greet() for _ in range(3)]
    assert passing.served_by_pool() and len(starters(passing.tcpserver)) == 3
    for c in held:
        assert c.mail().startswith("250 2.0.0 Ok: queued as"), server.log()
        assert c.ask("QUIT").startswith("221 ")
        assert c.hear() is None
        c.close()
    assert server.queued() == 3 and "ECunknown[127.0.0.1]" in server.place.sink_lines()
    assert eventually(lambda: not starters(passing.tcpserver))
    assert eventually(lambda: server.log().count("disconnect from unknown[127.0.0.1] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5") == 3)


def test_no_address_of_its_own(passing, server):
    """An empty smtpdlisten: the pool has the one socket."""
    passing.start_pool()
    assert "sessions at most on 0 sockets, and for smtpd-start\n" in server.log()


def test_processes_serve_again_and_keep_nothing(passing, server):
    """What was said of one connection is not true of the next in the same process."""
    passing.start_pool(smtpdsessions=1)
    passing.start_tcpserver(*passing.rules('127.0.0.1:allow,RELAYCLIENT="",DATABYTES="7777",TCPREMOTEHOST="known.example"\n'))
    with server.connect() as c:
        assert "SIZE 7777" in c.greet().ask("EHLO again.test")
        assert c.mail(rcpt="far@away.test").startswith("250 ")
        assert passing.served_by_pool()
    passing.start_tcpserver()
    assert eventually(lambda: "disconnect from known.example" in server.log())
    with server.connect() as c:
        assert "SIZE 7777" not in c.greet().ask("EHLO again.test")
        assert c.ask("MAIL FROM:<a@b.test>").startswith("250")
        assert c.ask("RCPT TO:<far@away.test>").startswith("554 5.7.1")
        assert passing.served_by_pool()
    assert "connect from unknown[127.0.0.1]" in server.log()


def test_what_the_environment_says(passing, server):
    passing.start_pool()
    passing.start_tcpserver(*passing.rules('127.0.0.1:allow,RELAYCLIENT=".gate.test",DATABYTES="1000",TCPREMOTEHOST="client.example",TCPREMOTEINFO="ann"\n'))
    with server.connect() as c:
        assert "SIZE 1000" in c.greet().ask("EHLO again.test")
        assert c.mail(rcpt="far@away.test").startswith("250 ")
        assert c.mail(body=["y" * 900, "y" * 900]).startswith("552 5.3.4")
        assert passing.served_by_pool()
    lines = server.place.sink_lines()
    assert "ECclient.example[127.0.0.1]" in lines and "ETfar@away.test.gate.test" in lines
    assert "connect from client.example[127.0.0.1]" in server.log()


def test_what_is_said_of_a_front_is_not_said_of_its_client(passing, server):
    passing.start_pool(proxyfrom="127.0.0.1")
    passing.start_tcpserver(*passing.rules('127.0.0.1:allow,RELAYCLIENT=".gate.test",TCPREMOTEHOST="front.example",TCPREMOTEINFO="ann"\n'))
    with server.connect() as c:
        c.say("PROXY TCP4 192.0.2.7 192.0.2.25 4711 25")
        assert c.greet().ask("MAIL FROM:<a@b.test>").startswith("250")
        assert c.ask("RCPT TO:<far@away.test>").startswith("554 5.7.1")
        assert c.ask("RSET").startswith("250") and c.mail().startswith("250 ")
        assert passing.served_by_pool()
    assert "ECunknown[192.0.2.7]" in server.place.sink_lines() and "front.example" not in server.log()


def test_environment_too_long_to_pass(passing, server):
    """smtpd itself knows what to do with it."""
    passing.start_pool()
    passing.start_tcpserver(*passing.rules(f'127.0.0.1:allow,RELAYCLIENT="{"x" * 300}"\n'))
    with server.connect() as c:
        c.greet()
        assert passing.served_alone()


def test_role(passing, server):
    passing.start_pool().start_tcpserver(arguments=("-r", "submission"))
    with server.connect() as c:
        assert c.greet().ask("MAIL FROM:<a@b.test>").startswith("530 5.7.0")
        assert passing.served_by_pool()


@pytest.mark.parametrize("arguments", [("-r", "chef"), ("--frob",)])
def test_arguments_are_smtpds(passing, server, arguments):
    passing.start_pool().start_tcpserver(arguments=arguments)
    with server.connect() as c:
        assert c.hear() is None
    assert "fatal: usage" in server.log()


# ---- without the pool

def test_no_pool(passing, server):
    server.prepare()
    passing.start_tcpserver()
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
        assert passing.served_alone()


def test_pool_has_ended(passing, server):
    passing.start_pool().start_tcpserver()
    passing.pool.terminate()
    assert passing.pool.wait(120) == 0
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
        assert passing.served_alone()


def test_pool_that_stops(passing, server):
    """Its last session goes on for a while; nobody else waits for that."""
    passing.start_pool().start_tcpserver()
    first = server.connect().greet()
    assert first.ask("MAIL FROM:<a@b.test>").startswith("250")
    assert first.ask("RCPT TO:<joe@local.test>").startswith("250")
    assert first.ask("DATA").startswith("354")
    first.say("it goes on")
    passing.pool.terminate()
    assert eventually(lambda: ": stopping" in server.log())
    assert eventually(lambda: len(sessions(passing.pool.pid)) == 1)     # till then the others may take a client, and tell him 421
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
        assert passing.served_alone() and passing.pool.poll() is None
    assert first.ask(".").startswith("250 ")
    first.close()


def test_full_pool(passing, server):
    """What it cannot take is served all the same."""
    passing.start_pool(smtpdsessions=1).start_tcpserver()
    first = server.connect().greet()
    assert passing.served_by_pool()
    second = server.connect().greet()
    assert passing.served_alone()
    assert second.mail().startswith("250 ") and first.mail().startswith("250 ")
    first.close()
    second.close()
    assert "all 1 sessions are busy" not in server.log()


def test_session_is_killed(passing, server):
    """The client loses his connection, smtpd-start its reason to live, and the next client is served."""
    passing.start_pool().start_tcpserver()
    c = server.connect().greet()
    busy = [pid for pid in sessions(passing.pool.pid) if f"[{pid}]: connect from" in server.log()]
    assert len(busy) == 1
    os.kill(busy[0], signal.SIGKILL)
    assert c.hear() is None
    c.close()
    assert eventually(lambda: not starters(passing.tcpserver))
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")


def test_parent_is_killed(passing, server):
    passing.start_pool().start_tcpserver()
    processes = sessions(passing.pool.pid)
    passing.pool.kill()
    passing.pool.wait()
    assert eventually(lambda: not any(os.path.exists(f"/proc/{p}") for p in processes))     # till then they may take a client, and tell him 421
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")


def test_pool_that_does_not_answer(passing, server):
    """It hangs, is given up, and finds the connection when it wakes up: the client must hear one server only."""
    passing.start_pool().start_tcpserver()
    passing.stop_all(signal.SIGSTOP)
    with server.connect(timeout=120) as c:
        c.greet()
        assert passing.served_alone()
        passing.stop_all(signal.SIGCONT)
        assert c.mail().startswith("250 ")
        with server.connect() as other:     # the pool works again, so it has come to what waited before this one
            assert other.greet().mail().startswith("250 ")
            assert len(starters(passing.tcpserver)) == 1
        assert c.ask("NOOP").startswith("250 ")
        assert c.ask("QUIT").startswith("221 ")
        assert c.hear() is None
    assert server.log().count(": connect from unknown") == 2


# ---- limits and other starters

def test_tcpservers_limit_holds(passing, server):
    passing.start_pool().start_tcpserver("-c", "2")
    first, second = server.connect().greet(), server.connect().greet()
    third = server.connect()
    assert len(starters(passing.tcpserver)) == 2 and passing.served_by_pool()
    assert first.ask("QUIT").startswith("221 ")
    third.greet()
    assert len(starters(passing.tcpserver)) == 2 and passing.served_by_pool()
    for c in (first, second, third):
        c.close()


@pytest.mark.skipif(shutil.which("xinetd") is None, reason="xinetd is not installed")
def test_inetd(passing, server):
    """Descriptor 2 is the client's, too; he must see the end of his connection."""
    passing.start_pool()
    server.port = free_port()
    conf = f"{server.place.root}/xinetd.conf"
    with open(conf, "w") as f:
        f.write(f"""service tappal-smtp
{{
    type = UNLISTED
    socket_type = stream
    protocol = tcp
    port = {server.port}
    bind = 127.0.0.1
    user = tappal-smtpd
    group = tappal-smtpd
    wait = no
    server = {server.place.libexec}/smtpd-start
    instances = 50
    per_source = 50
    cps = 100 1
}}
""")
    passing.tcpserver = server.run(["xinetd", "-dontfork", "-f", conf, "-pidfile", f"{server.place.root}/xinetd.pid"])
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
        assert passing.served_by_pool()
        assert c.ask("QUIT").startswith("221 ")
        assert c.hear() is None


@pytest.mark.skipif(shutil.which("systemd-socket-activate") is None, reason="systemd-socket-activate is not installed")
@pytest.mark.parametrize("options, by_pool", [(("-a", "--inetd"), True), (("-a",), False)])
def test_systemd(passing, server, options, by_pool):
    """Accept=yes with StandardInput=socket; a socket as descriptor 3 is smtpd's business."""
    passing.start_pool()
    server.port = free_port()
    passing.tcpserver = server.run(["systemd-socket-activate", "-l", f"127.0.0.1:{server.port}", *options, f"{server.place.libexec}/smtpd-start"])
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
        assert passing.served_by_pool() == by_pool


def test_a_pipe_is_smtpds(passing, server):
    passing.start_pool()
    p = subprocess.run([f"{server.place.libexec}/smtpd-start"], input=b"QUIT\r\n", stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={}, timeout=120)
    assert p.returncode == 0 and p.stdout.startswith(b"220 ") and b"221 " in p.stdout


def test_two_descriptors_are_smtpds(passing, server):
    """One socket to read from, another to write to."""
    passing.start_pool()
    (ours_in, theirs_in), (ours_out, theirs_out) = socket.socketpair(), socket.socketpair()
    p = server.run([f"{server.place.libexec}/smtpd-start"], stdin=theirs_in, stdout=theirs_out)
    theirs_in.close()
    theirs_out.close()
    assert ours_out.recv(100).startswith(b"220 ")
    assert named(p.pid, "smtpd")
    ours_in.close()
    ours_out.close()
    assert p.wait(120) == 0


# ---- who may pass, and what

def passed(*descriptors, record=None):
    """The octets of client_passed, by hand."""
    fields = record if record is not None else b"\5\0relay" + b"\0" + b"\0\0" * 5
    return (len(fields) + 8).to_bytes(4, "little") + (90).to_bytes(2, "little") + b"\x74\x70" + fields, descriptors


def speak(door, octets, descriptors):
    """What the pool answers: b"t", or nothing."""
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(120)
        s.connect(door)
        s.sendmsg([octets], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))] if descriptors else [])
        try:
            return s.recv(10)
        except ConnectionResetError:
            return b""


def test_a_record_by_hand_is_taken(passing, server):
    """So that those that are not taken below are refused for what is wrong with them."""
    passing.start_pool()
    a, b = socket.socketpair()
    assert speak(passing.door, *passed(b.fileno())) == b"t"
    b.close()
    assert a.recv(100).startswith(b"220 ")
    a.close()


def hostile():
    pair = socket.socketpair()
    pipe = os.pipe()
    listening = socket.create_server(("127.0.0.1", 0))
    udp = socket.socket(type=socket.SOCK_DGRAM)
    fd = pair[0].fileno()
    yield pair, pipe, listening, udp
    yield "no descriptor", passed()
    yield "a pipe", passed(pipe[0])
    yield "a listening socket", passed(listening.fileno())
    yield "datagrams", passed(udp.fileno())
    yield "two descriptors", passed(fd, pair[1].fileno())
    yield "twenty descriptors", passed(*[fd] * 20)
    yield "no such role", passed(fd, record=b"\4\0chef" + b"\0" + b"\0\0" * 5)
    yield "one octet more", passed(fd, record=b"\5\0relay" + b"\0" + b"\0\0" * 5 + b"x")
    yield "cut off", (passed(fd)[0][:-1], (fd,))
    yield "a length beyond its end", passed(fd, record=b"\5\0relay" + b"\0" + b"\xff\xff" + b"\0\0" * 4)
    yield "a suffix with NUL", passed(fd, record=b"\5\0relay" + b"\1" + b"\3\0a\0b" + b"\0\0" * 4)
    yield "no record", (b"QUIT\r\n", (fd,))
    yield "very long", (b"x" * 100000, (fd,))


def test_what_is_no_connection_is_refused(passing, server):
    passing.start_pool().start_tcpserver()
    cases = hostile()
    kept = next(cases)
    for what, (octets, descriptors) in cases:
        assert speak(passing.door, octets, descriptors) == b"", what
        assert "passed what is no connection" in server.log(), what
    kept[0][0].setblocking(False)
    with pytest.raises(BlockingIOError):
        kept[0][0].recv(1)
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
        assert passing.served_by_pool()
    descriptors = [len(os.listdir(f"/proc/{pid}/fd")) for pid in sessions(passing.pool.pid)]
    assert max(descriptors) <= 16, descriptors


def test_descriptors_do_not_stay(passing, server):
    """One process, many connections and many refusals: it ends with the descriptors it began with."""
    passing.start_pool(smtpdsessions=1).start_tcpserver()
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
    (pid,) = sessions(passing.pool.pid)

    def count():
        return len(os.listdir(f"/proc/{pid}/fd"))
    assert eventually(lambda: not starters(passing.tcpserver))
    before = count()
    cases = hostile()
    kept = next(cases)
    for _, (octets, descriptors) in cases:
        speak(passing.door, octets, descriptors)
    for _ in range(5):
        with server.connect() as c:
            assert c.greet().mail().startswith("250 ")
            assert passing.served_by_pool()
        assert eventually(lambda: not starters(passing.tcpserver))
    assert eventually(lambda: count() == before), (before, os.listdir(f"/proc/{pid}/fd"))
    assert kept is not None and sessions(passing.pool.pid) == [pid]


PASS_AS_NOBODY = """
import array, socket, sys
a, b = socket.socketpair()
s = socket.socket(socket.AF_UNIX)
s.settimeout(120)
s.connect(sys.argv[1])
try:
    s.sendmsg([bytes.fromhex(sys.argv[2])], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [b.fileno()]))])
    answer = s.recv(10)
except (BrokenPipeError, ConnectionResetError):
    answer = b""
b.close()
print(answer, a.recv(100))
"""


def as_nobody(door):
    octets, _ = passed(record=b"\5\0relay" + b"\1" + b"\0\0" * 5)
    return subprocess.run([sys.executable, "-c", PASS_AS_NOBODY, door, octets.hex()], user="nobody", group="nogroup", extra_groups=[],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)


def test_strangers_may_not_pass(passing, server):
    """Neither by the file's mode nor, where somebody has changed that, by what the kernel says of them."""
    passing.start_pool()
    assert "PermissionError" in as_nobody(passing.door).stderr
    os.chmod(passing.door, 0o666)
    assert as_nobody(passing.door).stdout == "b'' b''\n"
    uid = pwd.getpwnam("nobody").pw_uid
    assert f"uid {uid} would pass a connection, who may not" in server.log()


def test_tcpserver_of_another_account(passing, server):
    """It may not pass; smtpd stays who it is."""
    passing.start_pool().start_tcpserver(account="nobody")
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
        assert passing.served_alone()


IMPOSTOR = """
import os, socket, sys
s = socket.socket(socket.AF_UNIX)
s.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o666)
s.listen()
print("ready", flush=True)
c, _ = s.accept()
print(len(c.recv(1000)), flush=True)
"""


def test_connections_go_to_the_pool_only(passing, server):
    """The directory is the resolver's: what listens there without being root or ourselves gets nothing."""
    server.prepare()
    directory = os.path.dirname(passing.door)
    os.makedirs(directory, exist_ok=True)
    if os.path.exists(passing.door):
        os.unlink(passing.door)
    os.chown(directory, pwd.getpwnam("nobody").pw_uid, -1)
    impostor = subprocess.Popen([sys.executable, "-c", IMPOSTOR, passing.door], user="nobody", stdout=subprocess.PIPE, text=True)
    try:
        assert impostor.stdout.readline() == "ready\n"
        passing.start_tcpserver()
        with server.connect() as c:
            assert c.greet().mail().startswith("250 ")
            assert passing.served_alone()
        assert impostor.stdout.readline() == "0\n"
    finally:
        impostor.kill()
        impostor.wait()
        shutil.rmtree(directory)


def test_many_at_once(passing, server):
    """More than there are processes, again and again."""
    passing.start_pool(smtpdsessions=50).start_tcpserver("-c", "100")
    for _ in range(3):
        held = [Mouth(server.port, timeout=120) if i else server.connect(timeout=60) for i in range(30)]
        for c in held:
            c.greet()
        for c in held:
            assert c.mail().startswith("250 ")
        for c in held:
            assert c.ask("QUIT").startswith("221 ")
            assert c.hear() is None
            c.close()
    assert server.queued() == 90
    assert eventually(lambda: not starters(passing.tcpserver))


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
