"""sendmail with the real enqueue, queued and smtpd: as any user, where set-uid has no effect, and speaking SMTP on its descriptors."""
import json
import socket
import subprocess
import time

import pytest

from instance import Instance


@pytest.fixture(scope="module")
def host():
    with socket.create_server(("127.0.0.9", 0)) as free:
        port = free.getsockname()[1]
    settings = {"smtpdlisten": f"127.0.0.9:{port}", "clients": "127.0.0.0/8", "me": "here.example"}
    with Instance("submission-real", ["queue/enqueue", "queue/queued", "queue/tappal", "smtpd/smtpd", "local/sendmail"], settings) as i:
        i.start_queued()
        i.start("smtpd", "--pool")
        end = time.monotonic() + 120
        while time.monotonic() < end:
            try:
                socket.create_connection(("127.0.0.9", port)).close()
                break
            except OSError:
                time.sleep(0.02)
        yield i


def queue(host, sender):
    """The message of that sender, as soon as the index has it."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        out = subprocess.run([f"{host.libexec}/tappal", "queue", "list", "--json", "--from", sender], stdout=subprocess.PIPE, text=True).stdout
        if out:
            (m,) = map(json.loads, out.splitlines())
            raw = subprocess.run([f"{host.libexec}/tappal", "queue", "show", "--raw", m["queue_id"]], stdout=subprocess.PIPE).stdout
            return m, raw
        time.sleep(0.05)
    raise AssertionError(f"no message from {sender}")


def sendmail(host, *options, message=b"Subject: x\n\n.one\n", before=(), user="nobody"):
    return subprocess.run([*before, f"{host.libexec}/sendmail", *options], input=message, stdout=subprocess.PIPE, stderr=subprocess.PIPE, user=user, timeout=120)


def test_any_user(host):
    r = sendmail(host, "-f", "one@a.example", "joe@b.example", "sue@c.example")
    assert (r.returncode, r.stderr) == (0, b"")
    m, raw = queue(host, "one@a.example")
    assert [x["address"] for x in m["recipients"]] == ["joe@b.example", "sue@c.example"]
    assert raw.endswith(b"\r\n\r\n.one\r\n") and b"\n" not in raw.replace(b"\r\n", b"")
    assert raw.startswith(b"Received: (tappal ") and b"invoked by uid 65534); " in raw


def test_where_set_uid_has_no_effect(host):
    r = sendmail(host, "-f", "two@a.example", "joe@b.example", before=["setpriv", "--no-new-privs"])
    assert (r.returncode, r.stderr) == (0, b"")
    m, raw = queue(host, "two@a.example")
    assert m["client"].endswith("[127.0.0.1]") and raw.endswith(b"\r\n\r\n.one\r\n")


def test_large_message_where_set_uid_has_no_effect(host):
    body = b"".join(b".line %d\n" % n for n in range(30000))
    r = sendmail(host, "-i", "-f", "three@a.example", "joe@b.example", message=b"Subject: x\n\n" + body, before=["setpriv", "--no-new-privs"])
    assert (r.returncode, r.stderr) == (0, b"")
    assert queue(host, "three@a.example")[1].endswith(b"\r\n\r\n" + body.replace(b"\n", b"\r\n"))


def test_smtp_on_standard_input(host):
    dialog = b"EHLO x\r\nMAIL FROM:<four@a.example>\r\nRCPT TO:<joe@here.example>\r\nRCPT TO:<joe@b.example>\r\nQUIT\r\n"
    r = sendmail(host, "-bs", message=dialog)
    assert r.stdout.startswith(b"220 ") and b"\r\n221 " in r.stdout


def test_queued_is_away(host):
    host.kill(host.started[0])
    try:
        assert sendmail(host, "-f", "five@a.example", "joe@b.example").returncode == 0
    finally:
        host.started[0] = host.start_queued()
    assert queue(host, "five@a.example")[1].endswith(b".one\r\n")
