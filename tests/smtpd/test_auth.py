"""AUTH with the real smtpd, auth and tappal: each mechanism with real clients, every reply, floods, deaths, liars, and hostile tables."""
import base64
import os
import shutil
import smtplib
import socket
import subprocess
import threading
import time

import pytest
from conftest import children, eventually
from house import PROGRAMS, House, Scram, b64

import records
from logreader import LogReader
from peers import DovecotAuth

@pytest.fixture(scope="module")
def house():
    with House("auth", PROGRAMS) as house:
        house.passwd("joe", "pencil")
        house.passwd("ann@local.test", "p\u00e4ss word")
        house.passwd("sam", "only scram", "--scram-only")
        house.start_queued()
        yield house


def scram(c, login, password):
    """The reply at the end; the server's signature is checked on the way."""
    client = Scram(login, password)
    reply = c.ask("AUTH SCRAM-SHA-256 " + b64(client.first()))
    if not reply.startswith("334 "):
        return reply
    reply = c.ask(b64(client.final(base64.b64decode(reply[4:]).decode())))
    if not reply.startswith("334 "):
        return reply
    assert base64.b64decode(reply[4:]).decode() == "v=" + client.signature
    return c.ask("")


# ---- clients

def test_each_mechanism_by_hand(served):
    assert served.plain("joe", "pencil").startswith("235 2.7.0")
    assert served.plain("ann@local.test", "p\u00e4ss word").startswith("235 ")
    assert served.plain("sam", "only scram").startswith("235 ")
    with served.client() as c:
        assert c.ask("AUTH LOGIN") == "334 VXNlcm5hbWU6"
        assert c.ask(b64("joe")) == "334 UGFzc3dvcmQ6"
        assert c.ask(b64("pencil")).startswith("235 ")
    for login, password in (("joe", "pencil"), ("sam", "only scram"), ("ann@local.test", "p\u00e4ss word")):
        with served.client() as c:
            assert scram(c, login, password).startswith("235 2.7.0"), login


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN"])
def test_swaks(served, mechanism):
    for password, code in (("pencil", 0), ("pencils", 28)):
        r = subprocess.run(["swaks", "--server", f"127.0.0.1:{served.port}", "--auth", mechanism, "--auth-user", "joe", "--auth-password", password, "--from", "joe@local.test",
                            "--to", "bob@elsewhere.test"], capture_output=True, text=True, timeout=120)
        assert r.returncode == code, r.stdout
    assert f"unknown[127.0.0.1]: SASL {mechanism} authentication failed: authentication failure, sasl_username=joe" in served.log("smtpd")


def test_smtplib(served):
    with smtplib.SMTP("127.0.0.1", served.port, local_hostname="client.test") as s:
        assert s.login("joe", "pencil")[0] == 235
        s.sendmail("joe@local.test", ["bob@elsewhere.test"], "Subject: x\r\n\r\nx\r\n")
    with smtplib.SMTP("127.0.0.1", served.port) as s, pytest.raises(smtplib.SMTPAuthenticationError):
        s.login("joe", "wrong")


def test_curl(served):
    message = f"{served.root}/message"
    with open(message, "w", newline="") as f:
        f.write("Subject: x\r\n\r\nx\r\n")
    for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):
        r = subprocess.run(["curl", "-sS", f"smtp://127.0.0.1:{served.port}/client.test", "--user", "joe:pencil", "--login-options", f"AUTH={mechanism}", "--mail-from", "joe@local.test",
                            "--mail-rcpt", "bob@elsewhere.test", "-T", message], capture_output=True, text=True, timeout=120)
        if mechanism == "SCRAM-SHA-256" and "SCRAM" not in served.log("smtpd") and r.returncode == 67:
            continue   # a curl without gsasl
        assert r.returncode == 0, (mechanism, r.stderr)


def test_msmtp(served):
    for method in ("plain", "login", "scram-sha-256"):
        r = subprocess.run(["msmtp", "--host=127.0.0.1", f"--port={served.port}", f"--auth={method}", "--user=joe", "--passwordeval=echo pencil", "--tls=off", "--from=joe@local.test",
                            "bob@elsewhere.test"], input="Subject: x\n\nx\n", capture_output=True, text=True, timeout=120)
        if "not supported" in r.stderr or "unknown" in r.stderr:   # an msmtp without gsasl
            assert method == "scram-sha-256"
            continue
        assert r.returncode == 0, (method, r.stderr)


# ---- what a login is good for

def test_relays_and_is_kept_with_the_message(served):
    with served.client() as c:
        assert c.ask("MAIL FROM:<joe@local.test>").startswith("250")
        assert c.ask("RCPT TO:<bob@elsewhere.test>").startswith("554 5.7.1")
        c.ask("RSET")
        assert served.plain("joe", "pencil", c).startswith("235")
        assert c.ask("AUTH PLAIN").startswith("503 5.5.1")
        reply = c.mail(("Subject: x", "", "x"), rcpt="bob@elsewhere.test")
        assert reply.startswith("250 2.0.0 Ok: queued as ")
    name = reply.split()[-1]
    why = eventually(lambda: served.tappal("queue", "why", name).stdout)
    assert "joe" in why.replace("joe@local.test", ""), why
    shown = served.tappal("queue", "show", name, "--headers").stdout
    assert "with ESMTPA id" in shown and "127.0.0.1" in shown, shown


@pytest.mark.parametrize("served", [{"authhideclient": "yes"}], indirect=True)
def test_client_hidden(served):
    with served.client() as c:
        served.plain("joe", "pencil", c)
        name = c.mail(("Subject: x", "", "x")).split()[-1]
    shown = eventually(lambda: served.tappal("queue", "show", name, "--headers").stdout)
    header = shown.split("\n\n", 1)[1]
    assert "Received: by mx.test with ESMTPA id" in header and "127.0.0.1" not in header and "client.test" not in header, shown


def test_sender_must_be_his(served):
    with served.client() as c:
        served.plain("sam", "only scram", c)
        assert c.ask("MAIL FROM:<alice@example.org>").startswith("553 5.7.1 <alice@example.org>: Sender address rejected: not owned by user")
        assert c.ask("MAIL FROM:<joe@local.test>").startswith("553 5.7.1")
        assert c.ask("MAIL FROM:<sam@elsewhere.test>").startswith("553 5.7.1")
        for own in ("sam@local.test", "sam-list@local.test", ""):
            assert c.ask(f"MAIL FROM:<{own}>").startswith("250"), own
            c.ask("RSET")
    assert "reject: MAIL from unknown[127.0.0.1]: 553 5.7.1 <joe@local.test>: Sender address rejected" in served.log("smtpd")


def test_missing_headers_are_added(served):
    def header(body, login=True):
        with served.client() as c:
            if login:
                served.plain("joe", "pencil", c)
            name = c.mail(body).split()[-1]
        shown = eventually(lambda: served.tappal("queue", "show", name, "--headers").stdout)
        return [line.split(":")[0].lower() for line in shown.split("\n\n", 1)[1].split("\n") if line[:1] not in ("", "\t", " ")]
    assert header(("Subject: x", "", "Date: x")) == ["received", "date", "message-id", "subject"]
    assert header(("Date: x", "Message-ID: <a@b>", "", "x")) == ["received", "date", "message-id"]
    assert header(("Message-ID:", " <a@b>", "", "x")) == ["received", "date", "message-id"]
    assert header(("Subject: x", "", "x"), login=False) == ["received", "subject"]


# ---- refusals

def test_failures_all_look_the_same(served):
    replies = {served.plain(*pair) for pair in (("joe", "wrong"), ("nobody", "wrong"), ("nobody", "pencil"), ("sam", "pencil"))}
    for pair in (("joe", "wrong"), ("nobody", "pencil")):
        with served.client() as c:
            replies.add(scram(c, *pair))
    assert replies == {"535 5.7.8 Authentication credentials invalid"}


def test_made_up_salt_is_stable_and_looks_like_any(served):
    salts = {}
    for login in ("nobody", "nobody", "nobodz", "joe", "joe"):
        with served.client() as c:
            challenge = base64.b64decode(c.ask("AUTH SCRAM-SHA-256 " + b64(Scram(login, "").first()))[4:]).decode()
            fields = dict(f.split("=", 1) for f in challenge.split(","))
            assert fields["i"] == "15000" and len(base64.b64decode(fields["s"])) == 16
            assert salts.setdefault(login, fields["s"]) == fields["s"]
            assert c.ask("*").startswith("501 5.7.0")
    assert len(set(salts.values())) == 3
    served.auth.terminate()
    served.auth.wait(120)
    served.auth = served.start("auth")
    assert eventually(lambda: served.log("auth").count("ready") == 2)
    with served.client() as c:
        challenge = base64.b64decode(c.ask("AUTH SCRAM-SHA-256 " + b64(Scram("nobody", "").first()))[4:]).decode()
    assert dict(f.split("=", 1) for f in challenge.split(","))["s"] == salts["nobody"]


def test_lines_of_every_kind(served):
    with served.client() as c:
        assert c.ask("AUTH LOGIN").startswith("334")
        assert c.ask("*").startswith("501 5.7.0")
        for n in range(1, 20):
            assert c.ask("AUTH PLAIN " + "A" * n).startswith("501 5.5.2" if n % 4 else "535 5.7.8"), n
        assert c.ask("AUTH PLAIN =").startswith("535")
        for mechanism in ("PLAIN", "LOGIN", "SCRAM-SHA-256"):                    # behind the name, on a line of its own, and as a second one
            for n in (*range(1, 20), 12283):
                said = "A" * n
                assert c.ask(f"AUTH {mechanism}").startswith("334")
                reply = c.ask(said)
                assert reply.startswith("501 5.5.2") if n % 4 else reply[:3] in ("334", "535"), (mechanism, n, reply)
                if mechanism == "LOGIN" and n % 4 == 0:
                    assert c.ask("A" * (n + 1)).startswith("501 5.5.2")
                elif mechanism != "PLAIN" and n % 4 and n < 20:
                    assert c.ask(f"AUTH {mechanism} {said}").startswith("501 5.5.2"), (mechanism, n)
            for bad in ("AAA", "A===", "AA=A", "AAA=A", "=AAA", "AA==AAAA", "A AA", "AAA-", "AAA_", "\u00e4AA"):
                assert c.ask(f"AUTH {mechanism}").startswith("334")
                assert c.ask(bad).startswith(("501 5.5.2", "500 5.5.6")), (mechanism, bad)
        assert c.ask("AUTH LOGIN").startswith("334")
        assert c.ask("A" * 12284).startswith("334")     # it is base64 of no login, and no longer than may be
        assert c.ask("NOOP x").startswith("501 5.5.2")    # and a command is a line of the exchange
        assert c.ask("NOOP").startswith("250")
        assert c.ask("AUTH LOGIN").startswith("334")
        assert c.ask("A" * 12287).startswith("500 5.5.6")
        assert c.ask("NOOP").startswith("250")
        assert c.ask("AUTH LOGIN").startswith("334")
        c.socket.sendall(b"am9l\nAAAA\r\n")
        assert c.hear().startswith("500 5.5.6")
        assert c.ask("NOOP").startswith("250")
        # Another mechanism after a failure, octet by octet.
        for octet in b"AUTH PLAIN " + b64("\0joe\0pencil").encode() + b"\r\n":
            c.socket.sendall(bytes([octet]))
        assert c.hear().startswith("235")
        assert c.ask("AUTH LOGIN").startswith("503")
    assert eventually(lambda: "auth=1/" in served.log("smtpd"))


def test_no_secret_in_any_log(served):
    for password in ("hush-hush-1", "hush-hush-2"):
        served.plain("joe", password)
        with served.client() as c:
            c.ask("AUTH LOGIN")
            c.ask(b64("joe"))
            c.ask(b64(password))
    logs = served.log("smtpd") + served.log("auth")
    assert "sasl_username=joe" in logs
    for secret in ("hush", b64("hush-hush-1"), b64("hush-hush-2"), b64("\0joe\0hush-hush-1"), "argon2id$"):
        assert secret not in logs


def test_forged_login_stays_one_line(served):
    assert served.plain("x\n2026 mx postfix/smtpd[1]: warning: unknown[192.0.2.1]: SASL LOGIN authentication failed: ", "y").startswith("535")
    assert served.plain("x[192.0.2.9]:", "y").startswith("535")
    assert all("192.0.2.1" not in line for line in served.log("smtpd").split("\n"))


# ---- limits

@pytest.mark.parametrize("served", [{"authfailures": "3", "authdelay": "0"}], indirect=True)
def test_limit_of_an_address(served):
    for _ in range(3):
        assert served.plain("joe", "wrong").startswith("535")
    for reply in (served.plain("joe", "pencil"), scram(served.client(), "joe", "pencil"), served.plain("nobody", "x")):
        assert reply.startswith("454 4.7.0 Too many failed"), reply


@pytest.mark.parametrize("served", [{"authfailures": "3", "authworkers": "1"}], indirect=True)
def test_limit_of_an_address_at_once(served):
    """Guesses that come together are no more than guesses one after the other."""
    clients = [served.client() for _ in range(8)]
    for c in clients:
        c.say("AUTH PLAIN " + b64("\0joe\0wrong"))
    replies = [c.hear()[:9] for c in clients]
    for c in clients:
        c.close()
    assert sorted(replies) == ["454 4.7.0"] * 5 + ["535 5.7.8"] * 3


@pytest.mark.parametrize("served", [{"authfailures": "3"}], indirect=True)
def test_limit_of_an_address_at_once_scram(served):
    """The same for proofs of which each has its challenge already."""
    clients, finals, replies = [served.client() for _ in range(8)], [], []
    for c in clients:
        client = Scram("joe", "wrong")
        reply = c.ask("AUTH SCRAM-SHA-256 " + b64(client.first()))
        assert reply.startswith("334 ")
        finals.append(b64(client.final(base64.b64decode(reply[4:]).decode())))
    assert clients[0].ask("*").startswith("501 5.7.0")
    for c, final in zip(clients[1:], finals[1:]):
        replies.append(c.ask(final)[:9])
    assert replies == ["535 5.7.8"] * 3 + ["454 4.7.0"] * 4
    for c in clients:
        c.close()


@pytest.mark.parametrize("served", [{"authloginfailures": "3"}], indirect=True)
def test_limit_of_a_login(served):
    for login in ("nobody", "sam"):
        for _ in range(3):
            assert served.plain(login, "wrong").startswith("535")
        assert served.plain(login, "only scram").startswith("454 4.7.0")
    assert served.plain("joe", "pencil").startswith("235")
    for _ in range(4):
        served.plain("joe", "wrong")
    assert served.plain("joe", "pencil").startswith("235")   # from where he has been before


@pytest.mark.parametrize("served", [{"authdelay": "1"}], indirect=True)
def test_failures_are_slowed(served):
    times = []
    for _ in range(3):
        start = time.monotonic()
        assert served.plain("joe", "wrong").startswith("535")
        times.append(time.monotonic() - start)
    assert times[0] >= 0.99 and times[1] >= 1.99 and times[2] >= 2.99, times

    def soon():
        start = time.monotonic()
        assert served.plain("joe", "pencil").startswith("235")
        return time.monotonic() - start < 1
    assert eventually(soon)     # what is right waits for nothing


def test_known_and_unknown_take_the_same_time(served):
    """At their quickest, when nothing else was in the way."""
    times = {"joe": [], "nobody": [], "sam": []}

    def alike():
        with served.client() as c:
            for login in list(times) * 6:
                start = time.monotonic()
                assert served.plain(login, "wrong", c).startswith("535")
                times[login].append(time.monotonic() - start)
        known, unknown, scram_only = (min(times[n]) for n in ("joe", "nobody", "sam"))
        return abs(known - unknown) < 0.35 * max(known, unknown) and scram_only >= 0.65 * known
    assert eventually(alike), times


@pytest.mark.parametrize("served", [{"authworkers": "2", "authqueue": "5"}], indirect=True)
def test_a_flood_is_bounded(served):
    """More guesses at a time than fit: two workers, the rest waits or is turned away; who comes later gets in."""
    def flood():
        replies, workers = [], 0
        clients = [served.client() for _ in range(40)]
        threads = [threading.Thread(target=lambda c=c: replies.append(served.plain("joe", "wrong", c))) for c in clients]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            workers = max(workers, len(children(served.auth.pid)))
            time.sleep(0.005)
        for c in clients:
            c.close()
        assert workers <= 2 and len(replies) == 40
        assert {r[:9] for r in replies} <= {"535 5.7.8", "454 4.7.0"}
        return any(r.startswith("454") for r in replies)
    assert eventually(flood)
    assert served.plain("joe", "pencil").startswith("235")


# ---- deaths and liars

def test_auth_killed_within_an_exchange(served):
    with served.client() as c:
        assert c.ask("AUTH LOGIN").startswith("334")
        served.kill(served.auth)
        assert c.ask(b64("joe")).startswith("454 4.7.0")
        assert c.ask("AUTH LOGIN").startswith("454 4.7.0")
        assert c.mail().startswith("250 ")
        served.auth = served.start("auth")
        assert eventually(lambda: served.log("auth").count("ready") == 2)
        assert served.plain("joe", "pencil", c).startswith("235")


def test_worker_killed(served):
    assert served.plain("joe", "pencil").startswith("235")
    workers = children(served.auth.pid)
    for worker in workers:
        os.kill(worker, 9)
    assert workers and eventually(lambda: served.plain("joe", "pencil").startswith("235"))


def test_client_leaves_within_an_exchange(served):
    for _ in range(30):
        c = served.client()
        c.say("AUTH LOGIN")
        c.hear()
        c.close(reset=True)
        c = served.client()
        c.say("AUTH PLAIN " + b64("\0joe\0wrong"))
        c.close(reset=True)
    assert eventually(lambda: served.plain("joe", "pencil").startswith("235"))


class Liar:
    """Stands for auth on its socket, as root (which smtpd admits), and answers with given octets."""

    def __init__(self, house, answer):
        self.path, self.answer = f"{house.root}/run/tappal/auth", answer
        if os.path.exists(self.path):
            os.unlink(self.path)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o777)
        self.listener.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            with c:
                c.recv(65536)
                try:
                    c.sendall(self.answer)
                except OSError:
                    pass   # smtpd has heard enough

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)   # a thread waits in accept: close alone would leave the socket there
        self.listener.close()


def test_smtpd_believes_no_nonsense(served):
    line, done = records.encode("auth_line", text=b"x"), records.encode
    for answer in (b"", b"x" * 100, records.encode("auth_line", text=b"AAAA\r\n250 2.0.0 Ok"), records.encode("auth_line", text=b"A A"), line[:-1],
                   done("auth_done", result=0, login=b""), done("auth_done", result=0, login=b"a b"), done("auth_done", result=0, login=b"a\nb"),
                   done("auth_done", result=0, login=b"a" * 300), done("auth_done", result=99, login=b"joe"), records.encode("auth_checked", result=0)):
        liar = Liar(served, answer)
        with served.client() as c:
            assert c.ask("AUTH PLAIN AAAA") == "454 4.7.0 Temporary authentication failure", answer
            assert c.ask("MAIL FROM:<a@b.test>").startswith("250")
            assert c.ask("RCPT TO:<bob@elsewhere.test>").startswith("554")
        liar.stop()


def test_auth_believes_no_nonsense(served):
    path = f"{served.root}/run/tappal/auth"
    begin = records.encode("auth_begin", has_initial=0, plus=0, client=b"192.0.2.1", mechanism=b"LOGIN", binding=b"", initial=b"")
    for octets in (b"x" * 100, records.encode("auth_line", text=b"AAAA"), begin + begin, records.encode("auth_checked", result=0), begin[:-3] + b"\xff\xff\xff", b"\0" * 4096):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(120)
            s.connect(path)
            s.sendall(octets)
            while s.recv(65536):
                pass
    for client in (b"", b"not an address", b"\xff" * 45):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(120)
            s.connect(path)
            s.sendall(records.encode("auth_begin", has_initial=1, plus=1, client=client, mechanism=b"SCRAM-SHA-256-PLUS", binding=b"", initial=b64("p=tls-exporter,,n=joe,r=x").encode()))
            assert records.decode(s.recv(65536))[0].result == 1
    assert served.plain("joe", "pencil").startswith("235")


def test_auth_answers_nobody_else(served):
    code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({served.root + '/run/tappal/auth'!r}); print(s.recv(1))"
    r = subprocess.run(["/usr/bin/python3", "-c", code], capture_output=True, text=True, user="nobody", timeout=120)
    assert r.stdout.strip() == "b''" or "Reset" in r.stderr, r.stdout + r.stderr
    assert eventually(lambda: "who is not admitted" in served.log("auth"))


# ---- the table

def table(house):
    return f"{house.etc}/auth/passwords"


def test_table_is_seen_when_it_changes(served):
    assert served.plain("new", "secret").startswith("535")
    served.passwd("new", "secret")
    assert served.plain("new", "secret").startswith("235")
    served.passwd("new", "other")
    assert served.plain("new", "secret").startswith("535")
    assert served.tappal("passwd", "--delete", "new").returncode == 0
    assert served.plain("new", "other").startswith("535")
    assert served.tappal("passwd", "--delete", "new").returncode == 1


def test_table_as_tappal_leaves_it(house):
    st = os.stat(table(house))
    assert st.st_uid == 0 and st.st_mode & 0o7777 == 0o640 and st.st_gid == os.stat(f"{house.etc}/auth").st_gid != 0
    assert os.stat(f"{house.etc}/auth").st_mode & 0o7777 == 0o750
    assert sorted(os.listdir(f"{house.etc}/auth")) == ["passwords", "saltkey"]
    listed = house.tappal("passwd", "--list").stdout
    assert "joe\tArgon2id, SCRAM" in listed and "sam\tSCRAM keys only" in listed and "$" not in listed
    for arguments in (["passwd"], ["passwd", "a:b"], ["passwd", "a b"], ["passwd", "#a"], ["passwd", ""], ["passwd", "--list", "joe"], ["passwd", "a", "b"]):
        assert house.tappal(*arguments, stdin="x\n").returncode == 100, arguments
    for password in ("", "x" * 1025):
        assert house.tappal("passwd", "joe", stdin=password + "\n").returncode == 100
    assert house.tappal("config", "check").returncode == 0
    os.chmod(table(house), 0o644)
    r = house.tappal("config", "check")
    os.chmod(table(house), 0o640)
    assert r.returncode == 100 and "others may use it" in r.stderr


def test_the_key_is_there_before_the_first_password(house):
    """For a table that comes from another server."""
    os.rename(f"{house.etc}/auth", f"{house.etc}/.auth")
    try:
        assert house.tappal("passwd", "--list").returncode == 1
        assert os.listdir(f"{house.etc}/auth") == ["saltkey"] and os.stat(f"{house.etc}/auth/saltkey").st_size == 32
    finally:
        shutil.rmtree(f"{house.etc}/auth")
        os.rename(f"{house.etc}/.auth", f"{house.etc}/auth")


def with_table(house, text, mode=0o640):
    with open(table(house) + ".new", "wb") as f:
        f.write(text)
    shutil.chown(table(house) + ".new", "root", "tappal-key")
    os.chmod(table(house) + ".new", mode)
    os.rename(table(house) + ".new", table(house))


def test_table_torn_hostile_unreadable(served):
    good = open(table(served), "rb").read()
    try:
        with_table(served, good[:-10])                     # cut off: the old one stays in force
        assert served.plain("joe", "pencil").startswith("235")
        assert "cut off" in served.log("auth")
        with_table(served, good, 0o666)
        assert served.plain("joe", "pencil").startswith("235")
        os.unlink(table(served))
        os.mkfifo(table(served))
        assert served.plain("joe", "pencil").startswith("235")
        os.unlink(table(served))
        with_table(served, b"\xff\0\n" + b"x" * 100000 + b"\njoe:{ARGON2ID}$argon2id$v=19$m=4294967295,t=4294967295,p=1$AAAA$AAAA\n" + b"sam:{CRYPT}$6$rounds=999999999$\xff\n" + good)
        assert served.plain("joe", "pencil").startswith("235")   # such lines are passed over
        assert "not used" in served.log("auth")
        os.unlink(table(served))
        assert served.plain("joe", "pencil").startswith("535")   # no table, no logins
    finally:
        if os.path.exists(table(served)):
            os.unlink(table(served))
        with_table(served, good)
    assert served.plain("joe", "pencil").startswith("235")


def test_no_usable_table_at_the_start(house):
    good = open(table(house), "rb").read()
    with_table(house, good, 0o644)
    try:
        house.up()
        assert house.plain("joe", "pencil").startswith("454 4.7.0")
        house.down()
    finally:
        with_table(house, good)


def test_crypt_of_other_servers(served):
    good = open(table(served), "rb").read()
    lines = b"".join(f"u{i}:{{{scheme}}}{subprocess.run(['perl', '-e', 'print crypt($ARGV[0], $ARGV[1])', 'pencil', salt], capture_output=True, text=True).stdout}\n".encode()
                     for i, (scheme, salt) in enumerate((("CRYPT", "$6$saltsalt$"), ("SHA256-CRYPT", "$5$saltsalt$"), ("BLF-CRYPT", "$2b$05$abcdefghijklmnopqrstuu"), ("CRYPT", "$y$j75$saltsalt$"))))
    with_table(served, lines + good)
    try:
        for i in range(4):
            assert served.plain(f"u{i}", "pencil").startswith("235"), (i, lines)
            assert served.plain(f"u{i}", "pencils").startswith("535")
            with served.client() as c:
                assert scram(c, f"u{i}", "pencil").startswith("535")   # there are no keys
    finally:
        with_table(served, good)


# ---- other back-ends

CHECK = """#!/usr/bin/python3
import os, sys, time
login, password, rest = os.read(3, 512).split(b"\\0", 2)
assert len(os.listdir("/proc/self/fd")) <= 6, os.listdir("/proc/self/fd")
assert os.environ["TCPREMOTEIP"] == "127.0.0.1" and sorted(os.environ) == ["PATH", "PROTO", "TCPREMOTEIP"] or "LC_CTYPE" in os.environ
if login == b"slow": time.sleep(600)
if login == b"die": os.kill(os.getpid(), 9)
if login == b"later": sys.exit(111)
if login == b"misused": sys.exit(2)
if (login.lower(), password) == (b"joe", b"pa:ss wo'rd"): os.execv(sys.argv[1], sys.argv[1:])
sys.exit(1)
"""


def checkpassword(house):
    program = f"{house.root}/checkpassword"
    with open(program, "w") as f:
        f.write(CHECK)
    os.chmod(program, 0o755)
    return program


def test_checkpassword(house):
    program = checkpassword(house)
    house.up(authbackend=f"checkpassword {program}")
    try:
        with house.client() as c:
            assert "AUTH PLAIN LOGIN" in c.ask("EHLO client.test")
        assert house.plain("joe", "pa:ss wo'rd").startswith("235")
        assert house.plain("jOe", "pa:ss wo'rd").startswith("235")
        assert house.log("smtpd").count("succeeded, sasl_username=joe\n") == 2
        assert house.plain("joe", "wrong").startswith("535")
        assert house.plain("x" * 255, "y" * 300).startswith("535")
        for login in ("later", "misused", "die"):
            assert house.plain(login, "x").startswith("454 4.7.0"), login
        assert "pa:ss" not in house.log("auth")
        house.down()
        house.up(authbackend=f"checkpassword {program}", authtimeout="2")
        assert house.plain("slow", "x").startswith("454 4.7.0")
        assert eventually(lambda: "took too long" in house.log("auth"))
        assert eventually(lambda: house.plain("joe", "pa:ss wo'rd").startswith("235"))
    finally:
        house.down()
        house.set("authbackend", "own")
        os.unlink(f"{house.etc}/authtimeout")


def test_checkpassword_with_syslog(house):
    """A worker's warning goes to the log reader, and not down its channel to auth."""
    question = records.encode("auth_begin", has_initial=1, plus=0, client=b"192.0.2.1", mechanism=b"PLAIN", binding=b"", initial=b64("\0misused\0x").encode())
    with LogReader(house.root) as reader:
        house.set("logto", "syslog")
        house.set("authbackend", f"checkpassword {checkpassword(house)}")
        auth = house.start("auth")
        reader.hear("ready: ")
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as s:
                s.settimeout(120)
                s.connect(f"{house.root}/run/tappal/auth")
                s.sendall(question)
                assert records.decode(s.recv(65536))[0].result == 2
            before, line = reader.hear(" ended with 2")
            assert line.startswith("<20>") and "a worker" not in before
        auth.terminate()
        assert auth.wait(120) == 0
    house.set("logto", "stderr")
    house.set("authbackend", "own")


class Dovecot:
    """Dovecot's auth, as far as a client of protocol 1.1 sees it."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        os.chmod(path, 0o777)
        self.listener.listen(8)
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            with c, c.makefile("rw") as f:
                f.write("VERSION\t1\t2\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\tx\nDONE\n")
                f.flush()
                for line in f:
                    words = line.rstrip("\n").split("\t")
                    if words[0] != "AUTH":
                        continue
                    _, login, password = base64.b64decode(words[-1][5:]).decode().split("\0")
                    f.write({"joe pencil": "OK\t1\tuser=joe\n", "JOE pencil": "OK\t1\tx\tuser=joe\n", "Joe nameless": "OK\t1\n", "joe odd": "OK\t1\tuser=j oe\n", "joe later": "FAIL\t1\tuser=joe\ttemp\n"}.get(f"{login} {password}", f"FAIL\t1\tuser={login}\n"))
                    f.flush()
                    break


def test_dovecot_protocol(house):
    path = f"{house.root}/dovecot"
    dovecot = Dovecot(path)
    house.up(authbackend=f"dovecot {path}")
    try:
        assert house.plain("joe", "pencil").startswith("235")
        assert house.plain("joe", "wrong").startswith("535")
        assert house.plain("joe", "later").startswith("454 4.7.0")
        assert house.plain("joe", "odd").startswith("454 4.7.0")
        for login, password in (("JOE", "pencil"), ("Joe", "nameless")):
            with house.client() as c:
                assert house.plain(login, password, c).startswith("235")
                assert c.ask("MAIL FROM:<alice@example.org>").startswith("250")   # senderlogins: joe
                assert c.ask("RCPT TO:<bob@elsewhere.test>").startswith("250")
        assert house.log("smtpd").count("sasl_username=joe") >= 2 and "succeeded, sasl_username=J" not in house.log("smtpd")
        dovecot.listener.close()
        os.unlink(path)
        assert house.plain("joe", "pencil").startswith("454 4.7.0")
    finally:
        house.down()
        house.set("authbackend", "own")


@pytest.mark.skipif(shutil.which("dovecot") is None, reason="dovecot is not installed")
def test_real_dovecot(house):
    """Its users are ours, and when it is away nobody is refused for good."""
    dovecot = DovecotAuth(f"{house.root}/real-dovecot", {"dora": "fish & chips", "d\u00f6ra": "gr\u00fc\u00df"})
    dovecot.start()
    house.up(authbackend=f"dovecot {dovecot.socket}")
    try:
        with house.client() as c:
            assert "AUTH PLAIN LOGIN" in c.ask("EHLO client.test")
            assert c.ask("AUTH LOGIN").startswith("334")
            assert c.ask(b64("dora")).startswith("334")
            assert c.ask(b64("fish & chips")).startswith("235"), house.log("auth")
        assert house.plain("d\u00f6ra", "gr\u00fc\u00df").startswith("235")
        for login, password in (("dora", "fish"), ("nobody", "fish & chips"), ("dora", "x" * 300), ("x" * 255, "y"), ("joe", "pencil")):
            assert house.plain(login, password).startswith("535 5.7.8"), (login, house.log("auth"))
        dovecot.stop()
        assert eventually(lambda: house.plain("dora", "fish & chips").startswith("454 4.7.0"))
        dovecot.process = subprocess.Popen(["dovecot", "-F", "-c", f"{dovecot.base}/dovecot.conf"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        assert eventually(lambda: house.plain("dora", "fish & chips").startswith("235")), house.log("auth")
    finally:
        house.down()
        house.set("authbackend", "own")
        dovecot.stop()
