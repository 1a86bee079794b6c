"""Submission (RFC 6409, 8314) with smtpd, tlsd and auth: TLS before AUTH, AUTH before mail, SCRAM bound to its channel (RFC 9266)."""
import base64
import re
import smtplib
import ssl
import subprocess

import pytest
from conftest import Mouth, eventually, free_port
from house import PROGRAMS, Scram, Station, b64
from peers import OpenSMTPD, Postfix
from tlshost import Certificates, Secure, client_context


@pytest.fixture(scope="module")
def station():
    with Station("submission", PROGRAMS + ["smtpd/tlsd"]) as station:
        station.passwd("joe", "pencil")
        station.start_queued()
        station.pki = Certificates(f"{station.root}/pki")
        station.up(tlscertificates=station.pki.make("ec", "ec", ["mx.test", "localhost"]))
        yield station


def secured(station):
    m = station.client()
    assert m.ask("STARTTLS").startswith("220")
    return Secure(m, client_context())


def test_tls_before_auth_before_mail(station):
    with station.client() as c:
        assert "AUTH" not in c.ask("EHLO client.test")
        for line in ("AUTH PLAIN " + b64("\0joe\0pencil"), "AUTH LOGIN", "MAIL FROM:<joe@local.test>", "VRFY joe"):
            assert c.ask(line).startswith("530 5.7.0 Must issue a STARTTLS"), line
    with secured(station) as c:
        assert "AUTH SCRAM-SHA-256-PLUS SCRAM-SHA-256 PLAIN LOGIN" in c.ask("EHLO client.test")
        assert c.ask("MAIL FROM:<joe@local.test>").startswith("530 5.7.0 Authentication required")
        assert station.plain("joe", "wrong", c).startswith("535 5.7.8")
        assert station.plain("joe", "pencil", c).startswith("235 2.7.0")
        assert c.ask("MAIL FROM:<ann@local.test>").startswith("553 5.7.1")
        assert c.ask("MAIL FROM:<joe@local.test>").startswith("250")
        assert c.ask("RCPT TO:<bob@elsewhere.test>").startswith("250")
        assert c.ask("DATA").startswith("354")
        name = c.ask("Subject: x", "", "x", ".").split()[-1]
    shown = eventually(lambda: station.tappal("queue", "show", name, "--headers").stdout)
    assert "with ESMTPSA id" in shown and "\nDate: " in shown and "\nMessage-ID: <" in shown, shown


def test_relay_port_has_no_auth(station):
    with Mouth(station.ports["relay"]).greet() as c:
        assert "AUTH" not in c.ask("EHLO client.test")
        assert c.ask("AUTH PLAIN").startswith("502")


def test_submissions_with_smtplib(station):
    with smtplib.SMTP_SSL("127.0.0.1", station.ports["submissions"], context=client_context(), local_hostname="client.test") as s:
        assert s.login("joe", "pencil")[0] == 235
        s.sendmail("joe@local.test", ["bob@elsewhere.test"], "Subject: x\r\n\r\nx\r\n")


# ---- real clients, each with what it can: they know our authority, and believe nothing else

def swaks(port, tls, mechanism, ca):
    return ["swaks", "--server", f"localhost:{port}", "--tls-on-connect" if tls == "submissions" else "--tls", "--tls-verify", "--tls-ca-path", ca, "--auth", mechanism,
            "--auth-user", "joe", "--auth-password", "pencil", "--from", "joe@local.test", "--to", "bob@elsewhere.test"]


def msmtp(port, tls, mechanism, ca):
    return ["msmtp", "--host=localhost", f"--port={port}", "--tls=on", f"--tls-starttls={'off' if tls == 'submissions' else 'on'}", f"--tls-trust-file={ca}",
            f"--auth={mechanism.lower()}", "--user=joe", "--passwordeval=echo pencil", "--from=joe@local.test", "bob@elsewhere.test"]


def curl(port, tls, mechanism, ca):
    scheme = "smtps" if tls == "submissions" else "smtp"
    return ["curl", "-sS", f"{scheme}://localhost:{port}/client.test", "--ssl-reqd", "--cacert", ca, "--user", "joe:pencil", "--login-options", f"AUTH={mechanism}",
            "--mail-from", "joe@local.test", "--mail-rcpt", "bob@elsewhere.test", "-T", "-", "--crlf"]


def mutt(port, tls, mechanism, ca):
    wanted = {"smtp_url": f"{'smtps' if tls == 'submissions' else 'smtp'}://joe@localhost:{port}", "smtp_pass": "pencil", "smtp_authenticators": mechanism.lower(),
              "ssl_force_tls": "yes", "ssl_ca_certificates_file": ca, "use_envelope_from": "yes", "certificate_file": "", "from": "joe@local.test", "copy": "no"}
    return ["mutt", "-n", "-F", "/dev/null", *(word for name, value in wanted.items() for word in ("-e", f'set {name}="{value}"')), "-s", "x", "bob@elsewhere.test"]


CLIENTS = [(client, mechanism) for client, mechanisms in ((swaks, "PLAIN LOGIN"), (msmtp, "PLAIN LOGIN SCRAM-SHA-256"), (curl, "PLAIN LOGIN"), (mutt, "PLAIN LOGIN SCRAM-SHA-256"))
           for mechanism in mechanisms.split()]


@pytest.mark.parametrize("tls", ["submission", "submissions"])
@pytest.mark.parametrize("client,mechanism", CLIENTS, ids=[f"{client.__name__}-{mechanism}" for client, mechanism in CLIENTS])
def test_clients(station, client, mechanism, tls):
    before = station.log("smtpd").count(f"SASL {mechanism} authentication succeeded, sasl_username=joe")
    sent = station.log().count("from=<joe@local.test>")
    r = subprocess.run(client(station.ports[tls], tls, mechanism, station.pki.path("ca.pem")), input="Subject: x\n\nx\n", capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stdout + r.stderr
    assert eventually(lambda: station.log("smtpd").count(f"SASL {mechanism} authentication succeeded, sasl_username=joe") == before + 1)
    assert eventually(lambda: station.log().count("from=<joe@local.test>") == sent + 1), station.log("smtpd")


def test_postfix_relays_through_us(station):
    """As its users have it: relayhost, a password map, and a certificate that must be the name's."""
    port = free_port()
    relay = f"[127.0.0.1]:{station.ports['submission']}"
    extra = f"""relayhost = {relay}
smtp_tls_security_level = secure
smtp_tls_loglevel = 1
smtp_tls_secure_cert_match = mx.test
smtp_tls_CAfile = {station.pki.path("ca.pem")}
smtp_sasl_auth_enable = yes
smtp_sasl_security_options = noanonymous
smtp_sasl_mechanism_filter = plain, login, scram-sha-256
smtp_sasl_password_maps = inline:{{ {{ {relay} = joe:pencil }} }}
"""
    postfix = Postfix(f"{station.root}/postfix", "127.0.0.1", port, "pf.test", extra=extra)
    if not postfix.available():
        pytest.skip("Debian's Postfix could not be unpacked")
    postfix.start()
    try:
        before = len(re.findall(r"SASL [A-Z0-9-]+ authentication succeeded, sasl_username=joe", station.log("smtpd")))
        with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test") as s:
            s.sendmail("joe@local.test", ["bob@elsewhere.test"], "Subject: x\r\n\r\nby way of Postfix\r\n")
        assert eventually(lambda: "status=" in postfix.log())
        assert "status=sent (250 2.0.0 Ok: queued as" in postfix.log() and "Verified TLS connection established to 127.0.0.1" in postfix.log(), postfix.log()
        assert len(re.findall(r"SASL [A-Z0-9-]+ authentication succeeded, sasl_username=joe", station.log("smtpd"))) == before + 1
    finally:
        postfix.stop()


def test_opensmtpd_relays_through_us(station):
    """Port 25 without TLS and with it, submission and submissions with AUTH."""
    port, at = free_port(), station.ports
    opensmtpd = OpenSMTPD(f"{station.root}/opensmtpd", "127.0.0.1", port, "os.test", secrets={"here": "joe:pencil"}, routes={
        "plain.test": f"host smtp+notls://127.0.0.1:{at['relay']}", "tls.test": f"host smtp+tls://127.0.0.1:{at['relay']} tls no-verify",
        "local.test": f"host smtp+tls://here@127.0.0.1:{at['submission']} auth <secrets> tls no-verify",
        "example.org": f"host smtps://here@127.0.0.1:{at['submissions']} auth <secrets> tls no-verify"})
    if not opensmtpd.available():
        pytest.skip("Debian's OpenSMTPD could not be unpacked, or gets no mount namespace here")
    before = len(station.log("smtpd")), len(station.log())
    opensmtpd.start()
    try:
        for sender, rcpt in (("x@plain.test", "joe@local.test"), ("x@tls.test", "joe@local.test"), ("joe@local.test", "bob@elsewhere.test"),
                             ("alice@example.org", "bob@elsewhere.test")):
            with smtplib.SMTP("127.0.0.1", port, local_hostname="client.test") as s:
                s.sendmail(sender, [rcpt], "Subject: x\r\n\r\nby way of OpenSMTPD\r\n")
        assert eventually(lambda: opensmtpd.log().count('result="Ok" stat="250 2.0.0 Ok: queued as') == 4), opensmtpd.log()
    finally:
        opensmtpd.stop()

    def told():
        return station.log("smtpd")[before[0]:].count("TLS connection established from"), station.log()[before[1]:].count(", sasl_username=joe")

    assert eventually(lambda: told()[0] >= 3 and told()[1] == 2), told()


class SClient:
    """openssl s_client, which tells what the channel exports; Python's ssl does not."""

    def __init__(self, port, version):
        self.process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-crlf", "-keymatexport", "EXPORTER-Channel-Binding", "-keymatexportlen", "32", version],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1)
        self.binding = None
        while not (line := self.process.stdout.readline()).startswith("220 "):
            if m := re.search(r"Keying material: ([0-9A-F]+)", line):
                self.binding = bytes.fromhex(m.group(1))
            assert line, "no greeting"

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        while True:
            reply = self.process.stdout.readline().rstrip("\n\r")
            assert reply, "the connection has ended"
            if re.match(r"\d{3}( |$)", reply):
                return reply

    def close(self):
        self.process.kill()
        self.process.wait()


def test_scram_is_bound_to_its_channel(station):
    """TLS 1.3: with 1.2 an exporter without a context, which s_client has, is another one than RFC 9266's with an empty one."""
    for spoil, header, mechanism, want in ((False, "p=tls-exporter,,", "SCRAM-SHA-256-PLUS", "235"), (True, "p=tls-exporter,,", "SCRAM-SHA-256-PLUS", "535"),
                                           (False, "p=tls-unique,,", "SCRAM-SHA-256-PLUS", "535"), (False, "n,,", "SCRAM-SHA-256-PLUS", "535"),
                                           (False, "y,,", "SCRAM-SHA-256", "535"), (False, "p=tls-exporter,,", "SCRAM-SHA-256", "535")):
        c = SClient(station.ports["submissions"], "-tls1_3")
        try:
            c.ask("EHLO client.test")
            assert c.binding and len(c.binding) == 32
            client = Scram("joe", "pencil", header=header, binding=bytes(32) if spoil else c.binding)
            reply = c.ask(f"AUTH {mechanism} " + b64(client.first()))
            if reply.startswith("334 "):
                reply = c.ask(b64(client.final(base64.b64decode(reply[4:]).decode())))
            if reply.startswith("334 "):
                reply = c.ask("")
            assert reply.startswith(want), (spoil, header, mechanism, reply)
        finally:
            c.close()


def test_no_binding_for_another_channel(station):
    """Who sits between relays the exchange over a channel of his own: what is bound to the client's does not fit."""
    c = SClient(station.ports["submissions"], "-tls1_3")
    other = SClient(station.ports["submissions"], "-tls1_3")
    try:
        assert c.binding != other.binding
        c.ask("EHLO client.test")
        client = Scram("joe", "pencil", header="p=tls-exporter,,", binding=other.binding)
        reply = c.ask("AUTH SCRAM-SHA-256-PLUS " + b64(client.first()))
        assert c.ask(b64(client.final(base64.b64decode(reply[4:]).decode()))).startswith("535 5.7.8")
    finally:
        c.close()
        other.close()




# OpenSSL's SSL_OP_NO_EXTENDED_MASTER_SECRET, for which Python has no name.
NO_EXTENDED_MASTER = 1


@pytest.mark.parametrize("options, plus", [({"minimum_version": ssl.TLSVersion.TLSv1_3}, True), ({"maximum_version": ssl.TLSVersion.TLSv1_2}, True),
                                           ({"maximum_version": ssl.TLSVersion.TLSv1_2, "options": ssl.OP_NO_COMPRESSION | NO_EXTENDED_MASTER}, False)],
                         ids=["1.3", "1.2", "1.2 without extended master secret"])
def test_no_binding_that_is_not_safe(station, options, plus):
    """RFC 9266 4.2: without the extended master secret (RFC 7627) two channels can have one binding, so there is none; tls-unique (RFC 5929) never is."""
    context = client_context(**options)

    def scram(mechanism, header, binding=b""):
        with Secure(Mouth(station.ports["submissions"]), context) as c:
            assert c.hear().startswith("220 ")
            offers = re.search(r"250[- ]AUTH ([A-Z0-9 -]+?) 250", c.ask("EHLO client.test") + " 250").group(1).split()
            assert ("SCRAM-SHA-256-PLUS" in offers) == plus and "SCRAM-SHA-256" in offers
            unique = c.socket.get_channel_binding("tls-unique") or bytes(12)
            client = Scram("joe", "pencil", header=header, binding=unique if header.startswith("p=tls-unique") else binding)
            reply = c.ask(f"AUTH {mechanism} " + b64(client.first()))
            if reply.startswith("334 "):
                reply = c.ask(b64(client.final(base64.b64decode(reply[4:]).decode())))
            return c.ask("") if reply.startswith("334 ") else reply

    refused = "535 5.7.8" if plus else "504 5.5.4"
    for header in ("p=tls-unique,,", "p=tls-server-end-point,,", "p=tls-exporter,,", "y,,", "n,,"):
        assert scram("SCRAM-SHA-256-PLUS", header, bytes(32)).startswith(refused), header
        assert header[0] != "p" or scram("SCRAM-SHA-256", header, bytes(32)).startswith("535 5.7.8"), header
    assert scram("SCRAM-SHA-256", "n,,").startswith("235")
    assert scram("SCRAM-SHA-256", "y,,").startswith("535 5.7.8" if plus else "235")    # "y": nothing was offered; a lie when it was (RFC 5802 6)
