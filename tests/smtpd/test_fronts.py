"""Hosts in front of smtpd that say who their client is: HAProxy by the PROXY protocol (setting proxyfrom), swaks by XCLIENT (xclientfrom). The
clients are 127.0.0.5, the host in front is 127.0.0.1."""
import os
import shutil
import ssl
import subprocess

import pytest
from conftest import Mouth, eventually, free_port
from processes import end
from tlshost import Host, Secure, client_context

CLIENT, FRONT = "127.0.0.5", "127.0.0.1"
HAPROXY = shutil.which("haproxy") or ("/usr/sbin/haproxy" if os.path.exists("/usr/sbin/haproxy") else None)
needs_haproxy = pytest.mark.skipif(HAPROXY is None, reason="haproxy is not installed")


class Front:
    """HAProxy on a port for each of (option of the server line, port behind it)."""

    def __init__(self, folder, *servers):
        self.ports = [free_port() for _ in servers]
        text = "global\n log stderr format raw local0 err\ndefaults\n mode tcp\n timeout connect 60s\n timeout client 60s\n timeout server 60s\n"
        for i, (options, port) in enumerate(servers):
            text += f"listen smtp{i}\n bind 127.0.0.1:{self.ports[i]}\n server mx 127.0.0.1:{port} {options}\n"
        path = f"{folder}/haproxy.cfg"
        with open(path, "w") as f:
            f.write(text)
        self.process = subprocess.Popen([HAPROXY, "-db", "-f", path], stdin=subprocess.DEVNULL)

    def connect(self, i=0):
        def attempt():
            try:
                return Mouth(self.ports[i], source=CLIENT)
            except ConnectionRefusedError:
                return None
        mouth = eventually(attempt)
        assert mouth, "haproxy does not listen"
        return mouth

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)


def deliver(mouth):
    assert mouth.mail(rcpt="bob@elsewhere.test").startswith("250 2.0.0 Ok: queued as")   # the client may relay, the front may not
    assert mouth.ask("QUIT").startswith("221 ")
    mouth.close()


def check_one(text, sink):
    """One message, and all of it is the client's."""
    assert f"connect from unknown[{CLIENT}]" in text and f"[{FRONT}]" not in text, text
    assert f"ECunknown[{CLIENT}]" in sink
    assert any(line.startswith("|Received: from client.test (unknown [127.0.0.5])") for line in sink), sink


@needs_haproxy
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_pool(server, tmp_path, option):
    server.pool(proxyfrom=FRONT, clients=CLIENT)
    server.connect().close()
    assert eventually(lambda: "no PROXY header from unknown[127.0.0.1]" in server.log())   # a connection of ours is no front's
    open(server.log_path, "w").close()
    with Front(tmp_path, (option, server.port)) as front:
        deliver(front.connect().greet())
        assert eventually(lambda: "disconnect from" in server.log())
        check_one(server.log(), server.place.sink_lines())


@needs_haproxy
@pytest.mark.skipif(shutil.which("tcpserver") is None, reason="tcpserver is not installed")
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_tcpserver(server, tmp_path, option):
    """What tcpserver says of the front, in the environment, is not said of its client."""
    server.prepare(proxyfrom=FRONT, clients=CLIENT)
    server.port = free_port()
    server.run(["env", "RELAYCLIENT=@front.test", "tcpserver", "-H", "-R", "-l", "0", "127.0.0.1", str(server.port), f"{server.place.libexec}/smtpd"])
    server.connect().close()
    assert eventually(lambda: "no PROXY header from unknown[127.0.0.1]" in server.log())
    open(server.log_path, "w").close()
    with Front(tmp_path, (option, server.port)) as front:
        deliver(front.connect().greet())
        assert eventually(lambda: "disconnect from" in server.log())
        check_one(server.log(), server.place.sink_lines())
        assert not any("front.test" in line for line in server.place.sink_lines())


@needs_haproxy
@pytest.mark.parametrize("option", ["", "-v2"])
def test_health_check(server, tmp_path, option):
    """HAProxy asks whether its server lives: version 2 says LOCAL, version 1 announces the front's own address. It is the front in either."""
    server.pool(proxyfrom=FRONT)
    with Front(tmp_path, (f"send-proxy{option} check inter 500ms", server.port)):
        assert eventually(lambda: "connect from unknown[127.0.0.1]" in server.log()), server.log()
    assert "no PROXY header" not in server.log()


@pytest.fixture
def tls():
    with Host() as host:
        yield host


@needs_haproxy
@pytest.mark.skipif(os.getuid() != 0, reason="needs root: tlsd's accounts")
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_before_tls(tls, tmp_path, option):
    """The header goes before a TLS handshake on 465, and before STARTTLS on 25: TLS begins behind it, with no octet lost."""
    tls.start(proxyfrom=FRONT, clients=CLIENT)
    with Front(tmp_path, (option, tls.port), (option, tls.port465)) as front:
        mouth = front.connect().greet()
        assert mouth.ask("STARTTLS") == "220 2.0.0 Ready to start TLS"
        secure = Secure(mouth, client_context())
        assert secure.ask("EHLO client.test").startswith("250-")
        deliver(secure)
        assert Secure(front.connect(1), client_context()).greet().ask("MAIL FROM:<a@b.test>").startswith("530 5.7.0 Authentication")
        assert eventually(lambda: tls.log().count("disconnect from unknown[127.0.0.5]") == 2), tls.log()
        assert tls.log().count("TLS connection established from unknown[127.0.0.5]") == 2, tls.log()
        # Without a header the handshake is not begun.
        with pytest.raises((ssl.SSLError, ConnectionError)):
            Secure(Mouth(tls.port465), client_context())
        tls.wait_log("no PROXY header from unknown[127.0.0.1]: what came is none")


@pytest.mark.skipif(shutil.which("swaks") is None, reason="swaks is not installed")
def test_swaks_xclient(server):
    """swaks reads what is announced, sends XCLIENT twice, and delivers as the client it named."""
    server.pool(xclientfrom=FRONT, clients=CLIENT)
    server.connect().close()
    done = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(server.port), "--helo", "client.test", "--from", "joe@local.test", "--to", "bob@elsewhere.test",
                           "--xclient-addr", CLIENT, "--xclient-name", "client.example.org", "--xclient-port", "4711", "--xclient-delim", "--xclient-login", "joe"],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0 and "250 2.0.0 Ok: queued as" in done.stdout, done.stdout
    sink = server.place.sink_lines()
    assert "ECclient.example.org[127.0.0.5]" in sink and "EAjoe" in sink, sink
    refused = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(server.port), "--quit-after", "XCLIENT", "--xclient", "ADDR=x"], stdout=subprocess.PIPE, text=True, timeout=120)
    assert "501 5.5.4 ADDR is an IPv4 address" in refused.stdout, refused.stdout
