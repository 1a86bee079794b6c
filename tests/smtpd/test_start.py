"""The ways in which smtpd is started, with the real starters."""
import getpass
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from conftest import TOP, Mouth, eventually, free_port, sessions, smtpd_processes

from logreader import LogReader

root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs root: the drop of privilege is tested")


def needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"{program} is not installed")


@pytest.fixture(scope="module", autouse=True)
def accounts():
    if os.getuid() == 0:
        subprocess.run(["sh", f"{TOP}/etc/accounts"], check=True, stdout=subprocess.DEVNULL)


def account(pid):
    """None: the process has ended meanwhile."""
    try:
        with open(f"/proc/{pid}/status") as f:
            ids = next(line for line in f if line.startswith("Uid:")).split()[1:]
    except (FileNotFoundError, ProcessLookupError):
        return None
    assert len(set(ids)) == 1, ids
    return pwd.getpwuid(int(ids[0])).pw_name


def run_as(starter, wanted):
    """Those that serve are of this account, and there is one; processes of earlier connections may be ending."""
    return eventually(lambda: [account(p) for p in smtpd_processes(starter.pid)] == [wanted])


def expected_account():
    return "tappal-smtpd" if os.getuid() == 0 else getpass.getuser()


def work(server, starter, client="unknown", connections=3, processes=1):
    """Messages in several connections at the same time, and who served them: that many processes at least."""
    held = [server.connect().greet() for _ in range(connections)]
    for c in held:
        assert c.mail().startswith("250 2.0.0 Ok: queued as"), server.log()
    assert eventually(lambda: len(smtpd_processes(starter.pid)) >= processes)
    found = smtpd_processes(starter.pid)
    for c in held:
        assert c.ask("QUIT").startswith("221 ")
        c.close()
    assert server.queued() == connections
    assert f"EC{client}[127.0.0.1]" in server.place.sink_lines()
    return found


@needs("tcpserver")
def test_tcpserver(server):
    server.prepare()
    server.port = free_port()
    starter = server.run(["tcpserver", "-H", "-R", "-l", "0", "127.0.0.1", str(server.port), f"{server.place.libexec}/smtpd"])
    work(server, starter)
    with server.connect() as c:
        c.greet()
        assert run_as(starter, expected_account())
    assert eventually(lambda: "disconnect from unknown[127.0.0.1] ehlo=1 mail=1 rcpt=1 data=1 quit=1 commands=5" in server.log())


@needs("tcpserver")
@root_only
def test_tcpserver_with_account(server):
    server.prepare()
    server.port = free_port()
    user = pwd.getpwnam("tappal-smtpd")
    starter = server.run(["tcpserver", "-H", "-R", "-l", "0", "-u", str(user.pw_uid), "-g", str(user.pw_gid), "127.0.0.1", str(server.port),
                          f"{server.place.libexec}/smtpd"])
    with server.connect() as c:
        assert c.greet().mail().startswith("250 ")
        assert run_as(starter, "tappal-smtpd")


@needs("tcpserver")
def test_tcprules(server):
    """RELAYCLIENT by client address, the way qmail's users know."""
    server.prepare()
    server.port = free_port()
    rules = f"{server.place.root}/rules"
    subprocess.run(["tcprules", f"{rules}.cdb", f"{rules}.tmp"], input=b'127.0.0.1:allow,RELAYCLIENT=""\n:deny\n', check=True)
    starter = server.run(["tcpserver", "-H", "-R", "-l", "0", "-x", f"{rules}.cdb", "127.0.0.1", str(server.port), f"{server.place.libexec}/smtpd"])
    assert starter.poll() is None
    with server.connect() as c:
        assert c.greet().mail(rcpt="far@away.test").startswith("250 ")


@needs("tcpserver")
def test_edited_settings_count_at_the_next_connection(server):
    """However they were edited: in place with length and time as they were, renamed over, removed, made."""
    server.prepare(smtpgreeting="one.test")
    server.port = free_port()
    server.run(["tcpserver", "-H", "-R", "-l", "0", "127.0.0.1", str(server.port), f"{server.place.libexec}/smtpd"])
    path = f"{server.place.etc}/smtpgreeting"

    def greeting():
        with server.connect() as c:
            return c.hear()

    assert greeting() == "220 one.test"
    times = os.stat(path)
    with open(path, "r+") as f:
        f.write("two.test")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert greeting() == "220 two.test"
    with open(f"{path}.new", "w") as f:
        f.write("three.test\n")
    os.rename(f"{path}.new", path)
    assert greeting() == "220 three.test"
    os.unlink(path)
    default = greeting()
    assert default.startswith("220 ") and default.endswith(" ESMTP")
    with open(path, "w") as f:
        f.write("four.test\n")
    assert greeting() == "220 four.test"
    os.truncate(path, 0)
    assert greeting() == default
    with open(path, "w") as f:
        f.write("bad\x01greeting\n")
    assert greeting().startswith("421 4.3.5 ")


def xinetd(server, wait):
    server.prepare(logto="syslog")
    server.port = free_port()
    conf = f"{server.place.root}/xinetd.conf"
    user = "root" if os.getuid() == 0 else getpass.getuser()
    with open(conf, "w") as f:
        f.write(f"""defaults
{{
}}
service tappal-smtp
{{
    type = UNLISTED
    socket_type = stream
    protocol = tcp
    port = {server.port}
    bind = 127.0.0.1
    user = {user}
    wait = {"yes" if wait else "no"}
    server = {server.place.libexec}/smtpd
    instances = 50
    per_source = 50
    cps = 100 1
}}
""")
    return server.run(["xinetd", "-dontfork", "-f", conf, "-pidfile", f"{server.place.root}/xinetd.pid"])


def test_more_sessions_than_auth_serves(server):
    server.pool(smtpdsessions=1101, authrelay="yes")
    with server.connect() as c:
        c.greet()
    assert "warning: smtpdsessions is 1101, and auth serves 1100 of them at a time\n" in server.log() and "guard" not in server.log()


def test_pool_with_syslog(server):
    """One process serves client after client, and its lines arrive."""
    with LogReader(server.place.root) as reader:
        pool = server.pool(logto="syslog", smtpdsessions=1)
        first = None
        for n in range(3):
            with server.connect() as c:
                c.greet()
                serving, = sessions(pool.pid)
                assert c.ask(f"MAIL FROM:<sender-{n}@b.test>").startswith("250")
                assert c.ask("RCPT TO:<stranger@elsewhere.test>").startswith("554 5.7.1")
                _, line = reader.hear(f"sender-{n}@")
                assert line.startswith("<22>") and f" tappal/smtpd[{serving}]: NOQUEUE: reject: " in line, line
                assert c.ask("QUIT").startswith("221") and c.hear() is None
            assert serving == (first := first or serving)


@needs("xinetd")
@root_only
def test_xinetd(server):
    """nowait: a process a connection. Descriptor 2 is the client's socket there, and no log line may go down it."""
    starter = xinetd(server, wait=False)
    work(server, starter)
    with server.connect() as c:
        c.greet()
        assert c.ask("MAIL FROM:<a@b.test>").startswith("250")
        assert c.ask("RCPT TO:<stranger@elsewhere.test>").startswith("554 5.7.1")   # logged
        assert c.ask("NOOP") == "250 2.0.0 Ok"
        assert run_as(starter, "tappal-smtpd")
        assert c.ask("QUIT") == "221 2.0.0 Bye"
        assert c.hear() is None


@needs("xinetd")
@root_only
def test_xinetd_wait(server):
    """wait: the listening socket is descriptor 0, and smtpd is a pool on it."""
    starter = xinetd(server, wait=True)
    processes = work(server, starter, processes=4)
    assert {account(p) for p in processes} == {"tappal-smtpd"}


def activate(server, *options):
    server.prepare()
    server.port = free_port()
    return server.run(["systemd-socket-activate", "-l", f"127.0.0.1:{server.port}", *options, f"{server.place.libexec}/smtpd"])


@needs("systemd-socket-activate")
def test_systemd_pool(server):
    """Accept=no: LISTEN_FDS. systemd-socket-activate becomes smtpd."""
    starter = activate(server)
    processes = work(server, starter)
    assert open(f"/proc/{starter.pid}/comm").read() == "smtpd\n"
    assert {account(p) for p in [starter.pid, *processes]} == {expected_account()}


@needs("systemd-socket-activate")
def test_systemd_pool_inetd(server):
    """The listening socket as descriptor 0."""
    starter = activate(server, "--inetd")
    processes = work(server, starter)
    assert {account(p) for p in [starter.pid, *processes]} == {expected_account()}


@needs("systemd-socket-activate")
@pytest.mark.parametrize("options", [("-a",), ("-a", "--inetd")])
def test_systemd_accept(server, options):
    """Accept=yes: a connected socket, as descriptor 3 or 0."""
    starter = activate(server, *options)
    work(server, starter)
    with server.connect() as c:
        c.greet()
        assert run_as(starter, expected_account())


def test_pool_of_option(server):
    server.prepare()
    server.port = free_port()
    other = free_port()
    starter = server.run([f"{server.place.libexec}/smtpd", "-l", f"127.0.0.1:{server.port}", "-l", f"127.0.0.1:{other}"])
    processes = work(server, starter)
    assert {account(p) for p in [starter.pid, *processes]} == {expected_account()}
    with Mouth(other) as c:
        assert c.greet().mail().startswith("250 ")


def test_pool_of_setting(server):
    port = free_port()
    server.prepare(smtpdlisten=f"127.0.0.1:{port}\n[::1]:{port}" if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6") else f"127.0.0.1:{port}")
    server.port = port
    starter = server.run([f"{server.place.libexec}/smtpd", "--pool"])
    work(server, starter, processes=4)


@root_only
def test_pool_on_a_low_port(server):
    """Bound as root, served as tappal-smtpd."""
    server.prepare()
    server.port = next(p for p in range(700, 800) if not listens(p))
    starter = server.run([f"{server.place.libexec}/smtpd", "-l", f"127.0.0.1:{server.port}"])
    assert {account(p) for p in work(server, starter)} == {"tappal-smtpd"}


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_connection_a_process(server):
    """smtpdreuse 1: a process serves one connection."""
    server.prepare(smtpdreuse=1)
    server.port = free_port()
    starter = server.run([f"{server.place.libexec}/smtpd", "-l", f"127.0.0.1:{server.port}"])
    pids = set()
    for _ in range(20):
        with server.connect() as c:
            assert c.greet().mail().startswith("250 ")
            assert c.ask("QUIT").startswith("221")
    for line in server.log().split("\n"):
        if ": connect from" in line:
            pids.add(line.split("[", 1)[1].split("]")[0])
    assert len(pids) == 20
    assert eventually(lambda: len(sessions(starter.pid)) >= 4)


@root_only
def test_as_a_user(server):
    """sendmail -bs: whoever called is who it runs as."""
    server.prepare()
    p = subprocess.Popen([f"{server.place.libexec}/smtpd"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, user="nobody", env={})
    assert p.stdout.readline().startswith(b"220 ")
    assert account(p.pid) == "nobody"
    p.stdin.write(b"HELO me\r\nMAIL FROM:<nobody@mx.test>\r\nRCPT TO:<joe@local.test>\r\nDATA\r\n")
    p.stdin.flush()
    assert [p.stdout.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
    out, _ = p.communicate(b"x\r\n.\r\nQUIT\r\n", timeout=120)
    assert out.startswith(b"250 2.0.0") and p.returncode == 0
    assert "ECunknown[local]" in server.place.sink_lines()


def test_terminated_session(server):
    """One session, told to go: 421, exit 0."""
    server.prepare()
    a, b = socket.socketpair()
    p = server.run([f"{server.place.libexec}/smtpd"], stdin=b, stdout=b)
    b.close()
    assert a.recv(1000).startswith(b"220")
    time.sleep(0.1)
    p.send_signal(signal.SIGTERM)
    assert a.recv(1000).startswith(b"421 4.3.2")
    a.close()
    assert p.wait(120) == 0


@pytest.mark.parametrize("arguments", [["--frob"], ["-l"], ["x"], ["--pool", "-l", "25"], ["-l", "no-such-host:x"]])
def test_usage(server, arguments):
    server.prepare()
    p = server.run([f"{server.place.libexec}/smtpd", *arguments])
    assert p.wait(120) == 100
    assert "fatal" in server.log()


def test_address_in_use(server):
    server.prepare()
    with socket.create_server(("127.0.0.1", 0)) as s:
        p = server.run([f"{server.place.libexec}/smtpd", "-l", f"127.0.0.1:{s.getsockname()[1]}"])
        assert p.wait(120) in (100, 111)
    assert "cannot listen on" in server.log() and "in use; `ss -ltnp`" in server.log()   # the C library's words before that


def test_bad_settings(server):
    server.prepare(maxrcpt="many")
    p = server.run([f"{server.place.libexec}/smtpd", "-l", "127.0.0.1:1"])
    assert p.wait(120) == 100
    assert "maxrcpt:1" in server.log()


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
