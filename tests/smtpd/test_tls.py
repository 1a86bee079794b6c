"""TLS: STARTTLS and TLS from the start through tlsd, with clients that are real and clients that are not."""
import hashlib
import os
import re
import smtplib
import ssl
import subprocess
import time

import pytest

if os.getuid() != 0:
    pytest.skip("tlsd is started as root", allow_module_level=True)

from tlshost import Host, Secure, client_context, openssl  # noqa: E402

BODY = ("Subject: x", "", "hello")


@pytest.fixture(scope="module")
def host():
    with Host() as h:
        yield h


@pytest.fixture(autouse=True)
def nothing_is_left(host):
    yield
    host.stop()


def envelope(host):
    return [line[1:] for line in host.place.sink_lines() if line.startswith("E")]


# ---- the dialog

def test_starttls(host):
    host.start()
    with host.starttls(client_context(host.certificates), "mx.test") as c:
        assert c.socket.version() == "TLSv1.3"
        assert "STARTTLS" not in c.ask("EHLO x.test")
        assert c.mail(BODY) == "250 2.0.0 Ok: queued as 000000000001"
        assert c.ask("QUIT").startswith("221")
        assert c.file.read() == b""   # close_notify, not a cut
    host.wait_log("starttls=1 commands=7")
    log = host.log()
    assert re.search(r"tappal/smtpd\[\d+\]: Anonymous TLS connection established from unknown\[127.0.0.1\]: TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 "
                     r"\(256/256 bits\) key-exchange \w+ server-signature ECDSA \(prime256v1\) server-digest SHA256 to SNI mx.test", log)
    assert "PESMTPS" in envelope(host)
    text = "\n".join(host.place.sink_lines())
    assert re.search(r"\(using TLSv1.3 with cipher TLS_AES_256_GCM_SHA384 \(256/256 bits\)\\r\\n\n\|\\x09 key-exchange [^()]* \(prime256v1\) server-digest SHA256\)\\r", text)
    assert "with ESMTPS id" in text


def test_implicit(host):
    """465: TLS first, the greeting within it."""
    host.start()
    with host.secure() as c:
        assert c.hear().startswith("220 ")
        reply = c.ask("EHLO x.test")
        assert "STARTTLS" not in reply and "PIPELINING" in reply
        assert c.ask("STARTTLS") == "503 5.5.1 TLS is on already"
        assert c.ask("MAIL FROM:<a@b.test>") == "530 5.7.0 Authentication required"
        assert c.ask("QUIT").startswith("221")


def test_states(host):
    host.start()
    with host.plain() as c:
        assert c.hear().startswith("220 ")
        assert c.ask("STARTTLS") == "503 5.5.1 Say HELO or EHLO first"
        assert "250-STARTTLS" in c.ask("EHLO x.test")
        assert c.ask("STARTTLS now") == "501 5.5.4 STARTTLS takes no argument"
        assert c.ask("MAIL FROM:<a@b.test>").startswith("250")
        assert c.ask("STARTTLS") == "503 5.5.1 Not within a mail transaction"
        assert c.ask("RSET").startswith("250")
        assert c.ask("STARTTLS").startswith("220")
        with Secure(c, client_context()) as s:
            # The session starts anew: no HELO, no sender.
            assert s.ask("MAIL FROM:<a@b.test>") == "503 5.5.1 Say HELO or EHLO first"
            assert s.ask("HELO x.test").startswith("250 ")
            assert s.ask("RCPT TO:<joe@local.test>") == "503 5.5.1 MAIL comes first"
            assert s.ask("STARTTLS") == "503 5.5.1 TLS is on already"
            assert s.mail().startswith("250")
    assert "PSMTP" in envelope(host)


@pytest.mark.parametrize("settings", [{"starttls": "no"}, {"tlscertificates": None}])
def test_not_offered(host, settings):
    host.prepare(**settings)
    host.start_smtpd()
    with host.plain() as c:
        assert c.hear().startswith("220 ")
        assert "STARTTLS" not in c.ask("EHLO x.test")
        assert c.ask("STARTTLS") == "502 5.5.1 Command not implemented"
        assert c.mail().startswith("250")


@pytest.mark.parametrize("more", ["NOOP\r\n", "EHLO evil.test\r\nMAIL FROM:<evil@evil.test>\r\n", "\r\n", "x"])
def test_injection(host, more):
    """CVE-2011-0411: what stands behind STARTTLS in the plaintext is not carried out within TLS. The connection ends."""
    host.start()
    with host.plain() as c:
        c.greet()
        c.socket.sendall(b"STARTTLS\r\n" + more.encode())
        assert c.hear() == "554 5.5.0 Commands behind STARTTLS in the same breath"
        assert c.hear() is None
    host.wait_log("reject: STARTTLS from unknown[127.0.0.1]: 554 5.5.0")


def test_injection_late(host):
    """The same in a segment of its own: tlsd reads it as TLS, and it is none."""
    host.start()
    with host.plain() as c:
        c.greet()
        c.say("STARTTLS")
        c.socket.sendall(b"NOOP\r\nMAIL FROM:<evil@evil.test>\r\n")
        first = c.hear()
        assert first is not None and not first.startswith("250")
        assert c.file.read().find(b"250") < 0
    assert "mail=" not in host.log()


def test_submission(host):
    """587: STARTTLS first (RFC 3207 4), then AUTH; nothing goes without."""
    host.start(role="submission")
    with host.plain() as c:
        assert c.hear().startswith("220 ")
        for line in ("MAIL FROM:<a@b.test>", "VRFY joe", "DATA", "RCPT TO:<joe@local.test>"):
            assert c.ask(line)[:3] in ("503", "530")
        assert c.ask("EHLO x.test").startswith("250")
        assert c.ask("MAIL FROM:<a@b.test>") == "530 5.7.0 Must issue a STARTTLS command first"
        assert c.ask("NOOP").startswith("250")
        assert c.ask("STARTTLS").startswith("220")
        with Secure(c, client_context()) as s:
            assert s.ask("EHLO x.test").startswith("250")
            assert s.ask("MAIL FROM:<a@b.test>") == "530 5.7.0 Authentication required"
            assert s.ask("QUIT").startswith("221")


# ---- real clients

def test_smtplib(host):
    host.start()
    with smtplib.SMTP("127.0.0.1", host.port, local_hostname="lib.test") as s:
        s.starttls(context=client_context(host.certificates))
        s.sendmail("a@b.test", ["joe@local.test"], "Subject: x\r\n\r\n" + "line\r\n" * 100000)
    with smtplib.SMTP_SSL("127.0.0.1", host.port465, context=client_context(host.certificates)) as s:
        assert s.ehlo("x.test")[0] == 250
        assert s.mail("a@b.test")[0] == 530
    assert sum(line.startswith("|line") for line in host.place.sink_lines()) == 100000


def test_swaks(host):
    host.start()
    run = subprocess.run(["swaks", "--server", "127.0.0.1", "--port", str(host.port), "--tls", "--to", "joe@local.test", "--from", "a@b.test", "--helo", "s.test"],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert run.returncode == 0 and "~> ." in run.stdout and "250 2.0.0 Ok: queued" in run.stdout, run.stdout


@pytest.mark.parametrize("url, option, expected", [("smtp", ["--ssl-reqd"], 0), ("smtps", [], 55)])
def test_curl(host, tmp_path, url, option, expected):
    host.start()
    (tmp_path / "mail").write_bytes(b"Subject: x\r\n\r\nhello\r\n")
    port = host.port if url == "smtp" else host.port465
    run = subprocess.run(["curl", "-sS", "--cacert", host.certificates.path("ca.pem"), "--connect-to", f"mx.test:{port}:127.0.0.1:{port}", *option,
                          "--mail-from", "a@b.test", "--mail-rcpt", "joe@local.test", "-T", str(tmp_path / "mail"), f"{url}://mx.test:{port}/c.test"],
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    # submissions: curl comes as far as MAIL, which needs a login
    assert run.returncode == expected and (expected == 0 or "530" in run.stdout), run.stdout


def s_client(host, *arguments, say="QUIT\n", port=None, starttls=True):
    return subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{port or host.port}", *(["-starttls", "smtp"] if starttls else []), "-crlf", "-ign_eof", *arguments],
                          input=say, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120).stdout


def test_openssl(host):
    host.start()
    out = s_client(host, "-CAfile", host.certificates.path("ca.pem"), "-verify_return_error", "-servername", "mx.test")
    assert "Verify return code: 0 (ok)" in out and "221 2.0.0" in out
    assert "New Session Ticket" not in out and "No ALPN" in out
    out = s_client(host, "-tls1_2")
    assert "Extended master secret: yes" in out and "Secure Renegotiation IS supported" in out and "Compression: NONE" in out


# ---- versions, ciphers, certificates

@pytest.mark.parametrize("minimum, option, good", [("1.2", "-tls1_1", False), ("1.2", "-tls1_2", True), ("1.2", "-tls1_3", True), ("1.3", "-tls1_2", False), ("1.3", "-tls1_3", True)])
def test_versions(host, minimum, option, good):
    host.start(tlsminimum=minimum)
    out = s_client(host, option, "-cipher", "ALL:@SECLEVEL=0")
    assert ("Cipher is (NONE)" not in out) == good, out
    if not good:
        host.wait_log("SSL_accept error from unknown[127.0.0.1]: unsupported protocol")


@pytest.mark.parametrize("cipher, good", [("ECDHE-RSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-CHACHA20-POLY1305", True), ("ECDHE-RSA-AES256-SHA", True), ("AES128-GCM-SHA256", False),
                                          ("DHE-RSA-AES128-GCM-SHA256", False), ("AECDH-AES128-SHA", False), ("PSK", False)])
def test_ciphers(host, cipher, good):
    host.start()
    out = s_client(host, "-tls1_2", "-cipher", f"{cipher}:@SECLEVEL=0")
    assert ("Cipher is (NONE)" not in out and "Cipher    : 0000" not in out) == good, out


def test_cipher_settings(host):
    host.start(tlsciphers="ECDHE+CHACHA20:kRSA:aNULL", tlsciphersuites="TLS_CHACHA20_POLY1305_SHA256")
    assert "Cipher is TLS_CHACHA20_POLY1305_SHA256" in s_client(host, "-tls1_3")
    assert "CHACHA20-POLY1305" in s_client(host, "-tls1_2")
    for cipher in ("ECDHE+AESGCM", "kRSA", "aNULL:@SECLEVEL=0"):
        out = s_client(host, "-tls1_2", "-cipher", cipher)
        assert "Cipher is (NONE)" in out, out


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("name, algorithms, certificate", [
    ("mx.test", "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256", "ec"), ("mx.test", "RSA-PSS+SHA256:RSA+SHA256", "rsa"), ("other.test", "ECDSA+SHA256", "other"),
    ("OTHER.TEST", "ECDSA+SHA256", "other"), ("a.wild.test", "ECDSA+SHA256", "other"), ("a.b.wild.test", "ECDSA+SHA256", "ec"), ("wild.test", "ECDSA+SHA256", "ec"),
    ("nobody.test", "ECDSA+SHA256", "ec"), ("../../etc/passwd", "RSA-PSS+SHA256", "rsa"), ("a" * 250, "ECDSA+SHA256", "ec")])
def test_certificate_by_name(host, version, name, algorithms, certificate):
    host.start()
    out = s_client(host, version, "-servername", name, "-sigalgs", algorithms)
    match = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", out, re.S)
    assert match and ssl.PEM_cert_to_DER_cert(match.group()) == host.certificates.leaf(certificate), out


def test_pkcs1_and_p384(host):
    """RSA with PKCS #1 padding (TLS 1.2 alone), and a curve with a longer digest."""
    host.start(tlscertificates=f"{host.rsa}\n{host.certificates.make('p384', 'ec384', ['p384.test'])}")
    for digest in ("SHA256", "SHA384", "SHA512"):
        assert f"Peer signing digest: {digest}" in s_client(host, "-tls1_2", "-sigalgs", f"RSA+{digest}")
        assert f"Peer signing digest: {digest}" in s_client(host, "-tls1_3", "-sigalgs", f"RSA-PSS+{digest}")
    assert "Peer signing digest: SHA384" in s_client(host, "-tls1_3", "-servername", "p384.test", "-sigalgs", "ECDSA+SHA384")


@pytest.mark.parametrize("offer, good", [(["smtp"], True), (["http/1.1", "smtp"], True), (["http/1.1"], False), (["h2", "imap"], False)])
def test_alpn(host, offer, good):
    host.start()
    context = client_context()
    context.set_alpn_protocols(offer)
    if good:
        with host.starttls(context) as c:
            assert c.socket.selected_alpn_protocol() == "smtp"
        return
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        host.starttls(context)
    host.wait_log("SSL_accept error from unknown[127.0.0.1]: no application protocol")


@pytest.mark.parametrize("tickets", ["no", "yes"])
def test_tickets(host, tickets):
    host.start(tlstickets=tickets)
    for version, offer in ((ssl.TLSVersion.TLSv1_3, True), (ssl.TLSVersion.TLSv1_2, True)):
        context = client_context(minimum_version=version, maximum_version=version)
        with host.starttls(context) as c:
            c.ask("EHLO x.test")
            assert bool(c.socket.session and c.socket.session.has_ticket) == (tickets == "yes")
            session = c.socket.session
        if tickets == "yes":
            m = host.plain().greet()
            m.ask("STARTTLS")
            again = context.wrap_socket(m.socket, session=session)
            assert again.session_reused
            again.close()


def test_client_certificates(host):
    good, bad = host.certificates.make("client", "ec", [], client=True, subject='/CN=joe (x) "y"\\\\z/O=%s'), None
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=stranger", "-keyout", host.certificates.path("stranger.key"),
            "-out", host.certificates.path("stranger.pem"))
    bad = f"{host.certificates.path('stranger.pem')} {host.certificates.path('stranger.key')}"
    def attempt(pair):
        context = client_context()
        if pair:
            context.load_cert_chain(*pair.split())
        with host.starttls(context) as c:
            assert c.ask("EHLO x.test").startswith("250")
            c.mail(BODY)

    host.start(tlsclientcerts="ask", tlsclientca=host.certificates.path("ca.pem"))
    for pair, word in ((None, "Anonymous"), (bad, "Untrusted"), (good, "Trusted")):
        attempt(pair)
        host.wait_log(f"{word} TLS connection established")
    print_of = hashlib.sha256(host.certificates.leaf("client")).hexdigest()
    assert f"fingerprint={print_of}" in host.log()
    text = "\n".join(host.place.sink_lines())
    assert re.search(r"\(Client O=client,CN=joe \?x\?[^()]*, issuer CN=Test authority \(verified OK\)\)", text), text
    assert "(Client CN=stranger, issuer CN=stranger (not verified))" in text

    host.start(tlsclientcerts="require", tlsclientca=host.certificates.path("ca.pem"))
    attempt(good)
    for pair in (None, bad):
        with pytest.raises((ssl.SSLError, ConnectionError, AssertionError, AttributeError)):
            attempt(pair)
    assert host.log().count("TLS connection established") == 1
    host.wait_log("SSL_accept error")


def interactive(host, version, key):
    """s_client with a person at it: K asks for new keys, R for a new handshake. What it says, and what the server says to NOOP and QUIT behind that."""
    process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{host.port}", "-starttls", "smtp", "-crlf", version], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    host.wait_log("TLS connection established")
    for line in (b"ehlo x.test\n", key, b"noop\n", b"quit\n"):
        try:
            process.stdin.write(line)
            process.stdin.flush()
        except BrokenPipeError:
            break   # it gave up
        time.sleep(0.7)   # s_client looks at the first letter of each read
    out = process.stdout.read().decode()
    process.wait(120)
    return out


def test_renegotiation(host):
    """TLS 1.2: refused, and nothing of it reaches smtpd."""
    host.start()
    out = interactive(host, "-tls1_2", b"R\n")
    assert "RENEGOTIATING" in out and "no renegotiation" in out, out
    host.wait_log("disconnect from")


def test_key_update(host):
    host.start()
    out = interactive(host, "-tls1_3", b"K\n")
    assert "KEYUPDATE" in out and "250 2.0.0 Ok" in out and "221 2.0.0 Bye" in out, out
