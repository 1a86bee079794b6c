"""bounce with the real queued and enqueue: what a sender gets when a delivery failed, once."""
import email
import email.policy
import email.utils
import signal
import subprocess
import time

import pytest

import records
from fakespawn import FakeSpawn, msgid
from host import wait_until
from instance import Instance
from processes import tell

PROGRAMS = ["queue/queued", "queue/enqueue", "queue/bounce", "queue/tappal"]
MESSAGE = b"From: a@example.org\r\nSubject: to be returned\r\n\r\nline one\r\n"
FROM = "sender@example.org"


def answer(job, rcpt):
    """Recipients at bad.example fail for good, everybody else receives; the server of dsn.example knows DSN."""
    return {b"bad.example": "perm", b"dsn.example": "ok-dsn"}.get(rcpt.address.partition(b"@")[2], "ok")


class Mail:
    """An instance with queued and a fake spawn remote; bounce is the test's to start."""

    def __init__(self, name, settings=None):
        self.instance = Instance(name, PROGRAMS, settings)

    def __enter__(self):
        self.i = self.instance.__enter__()
        self.queued = self.i.start_queued()
        self.spawn = FakeSpawn(self.i, "remote", answer)
        self.seen = 0
        return self

    def __exit__(self, *error):
        self.spawn.stop()
        self.instance.__exit__(*error)

    def start_bounce(self):
        self.bounce = self.i.start("bounce")

    def send(self, recipients, message=MESSAGE, sender=FROM, **keys):
        code, text = self.i.enqueue(message, sender, recipients, **keys)
        assert code == 0, text

    def new(self, count=1, seconds=120):
        """The next deliveries, with their jobs."""
        all = self.spawn.wait_for(self.seen + count, seconds)
        found, self.seen = all[self.seen:], len(all)
        assert len(found) >= count, self.i.log("bounce") + self.i.log()[-3000:]
        jobs = {job.id: job for job in self.spawn.jobs}
        return [(d, jobs[d.id]) for d in found]

    def none(self):
        """Nothing else is on its way: failures are reported in their order, and the next report is that of this one."""
        self.send(["fence@bad.example"])
        [(delivery, _)] = self.new()
        assert b"fence@bad.example" in delivery.body

    def until(self, text):
        """queued's log has it."""
        deadline = time.monotonic() + 120
        while text not in self.i.log():
            assert time.monotonic() < deadline, self.i.log()[-3000:]
            time.sleep(0.01)


def parts(delivery):
    message = email.message_from_bytes(delivery.body, policy=email.policy.default)
    assert message.get_content_type() == "multipart/report" and message["Auto-Submitted"] == "auto-replied"
    assert message.get_param("report-type") == "delivery-status" and not message.defects
    return message, list(message.iter_parts())


@pytest.fixture(scope="module")
def mail():
    with Mail("bounce", {"bouncemaxbytes": "20000"}) as m:
        m.start_bounce()
        yield m
        assert m.bounce.poll() is None, m.i.log("bounce")


def test_the_sender_gets_a_report(mail):
    mail.send(["gone@bad.example"])
    [(delivery, job)] = mail.new()
    assert (delivery.address, job.sender, job.body_type) == (FROM, b"", 0)
    message, (text, status, original) = parts(delivery)
    assert message["To"] == FROM and "MAILER-DAEMON@queue.tappal" in message["From"]
    assert "gone@bad.example" in text.get_content() and "550 perm" in text.get_content()
    head, rcpt = status.get_payload()
    assert head["Reporting-MTA"] == "dns; queue.tappal" and msgid(mail.spawn.jobs[-2].id) == head["X-Tappal-Queue-Id"]
    assert (rcpt["Final-Recipient"], rcpt["Action"], rcpt["Status"][0]) == ("rfc822; gone@bad.example", "failed", "5")
    assert rcpt["Remote-MTA"] == "dns; mx.example" and rcpt["Diagnostic-Code"] == "smtp; 550 perm"
    assert original.get_content_type() == "message/rfc822" and delivery.body.count(MESSAGE) == 1
    mail.none()


def test_only_those_that_failed(mail):
    mail.send(["a@bad.example", "b@good.example", "c@bad.example"])
    found = {d.address: d for d, _ in mail.new(2)}
    assert set(found) == {FROM, "b@good.example"}
    _, (_, status, _) = parts(found[FROM])
    assert {r["Final-Recipient"] for r in status.get_payload()[1:]} == {"rfc822; a@bad.example", "rfc822; c@bad.example"}
    mail.none()


def test_large_messages_come_back_as_their_header(mail):
    mail.send(["a@bad.example"], message=b"Subject: large\r\nX: " + b"y" * 5000 + b"\r\n\r\n" + b"z" * 300000 + b"\r\n")
    [(delivery, _)] = mail.new()
    _, (_, _, original) = parts(delivery)
    assert original.get_content_type() == "text/rfc822-headers"
    assert b"Subject: large\r\nX: yyy" in delivery.body and b"zzz" not in delivery.body and len(delivery.body) < 10000


def test_ret_hdrs_envid_and_orcpt(mail):
    raw = b"F" + FROM.encode() + b"\0RHDRS\0EQQ+2B1\0Ta@bad.example\0Orfc822;Old+2Baddr@bad.example\0\0"
    code, text = mail.i.enqueue(MESSAGE, raw=raw)
    assert code == 0, text
    [(delivery, _)] = mail.new()
    _, (_, status, original) = parts(delivery)
    head, rcpt = status.get_payload()
    assert head["Original-Envelope-Id"] == "QQ+1" and rcpt["Original-Recipient"] == "rfc822; Old+addr@bad.example"
    assert original.get_content_type() == "text/rfc822-headers" and b"line one" not in delivery.body


def wish(*recipients, sender=FROM, head=b""):
    """An envelope of (address, NOTIFY, ORCPT)."""
    out = b"F" + sender.encode() + b"\0" + head
    for address, notify, orcpt in recipients:
        out += b"T" + address.encode() + b"\0" + (b"N" + notify + b"\0" if notify else b"") + (b"O" + orcpt + b"\0" if orcpt else b"")
    return out + b"\0"


def test_success_is_reported_where_it_is_asked_for(mail):
    """RFC 3461 5.2.2: relayed by a server without DSN: that is told; by one with it: nobody here tells."""
    code, text = mail.i.enqueue(MESSAGE, raw=wish(("a@good.example", b"SUCCESS,FAILURE", b"rfc822;Old@good.example"), ("b@dsn.example", b"SUCCESS", b""),
                                                  ("c@good.example", b"", b""), ("d@good.example", b"FAILURE,DELAY", b""), head=b"RFULL\0EQQ1\0"))
    assert code == 0, text
    found = {d.address: d for d, _ in mail.new(5)}
    assert set(found) == {FROM, "a@good.example", "b@dsn.example", "c@good.example", "d@good.example"}
    message, (text, status, original) = parts(found[FROM])
    head, *rcpts = status.get_payload()
    assert message["Subject"] == "Your mail was passed on" and head["Original-Envelope-Id"] == "QQ1"
    assert [(r["Original-Recipient"], r["Final-Recipient"], r["Action"], r["Status"]) for r in rcpts] == [
        ("rfc822; Old@good.example", "rfc822; a@good.example", "relayed", "2.0.0")]
    assert original.get_content_type() == "text/rfc822-headers" and b"line one" not in found[FROM].body   # RFC 3461 4.3: FULL is for failures
    log = mail.i.log()
    assert "sender delivery status notification: " in log[log.rindex("sender "):]
    mail.none()


def test_success_and_failure_in_one_report(mail):
    code, text = mail.i.enqueue(MESSAGE, raw=wish(("a@good.example", b"SUCCESS", b""), ("b@bad.example", b"", b""), ("c@bad.example", b"SUCCESS", b""),
                                                  ("d@bad.example", b"NEVER", b"")))
    assert code == 0, text
    found = {d.address: d for d, _ in mail.new(2)}
    message, (_, status, original) = parts(found[FROM])
    assert message["Subject"] == "Your mail was not delivered" and original.get_content_type() == "message/rfc822"
    assert {(r["Final-Recipient"], r["Action"]) for r in status.get_payload()[1:]} == {("rfc822; a@good.example", "relayed"), ("rfc822; b@bad.example", "failed")}
    mail.none()


def test_never_and_nobody_to_tell(mail):
    """NOTIFY=NEVER gives nothing; a message without a sender is no reason to write to anybody."""
    assert mail.i.enqueue(MESSAGE, raw=wish(("a@bad.example", b"NEVER", b""), ("b@good.example", b"NEVER", b"")))[0] == 0
    assert mail.i.enqueue(MESSAGE, raw=wish(("a@good.example", b"SUCCESS", b""), sender=""))[0] == 0
    assert [d.address for d, _ in mail.new(2)] == ["b@good.example", "a@good.example"]
    mail.none()


def test_eight_bit_messages_need_8bitmime(mail):
    mail.send(["a@bad.example"], message="Subject: gr\u00fc\u00df\r\n\r\n\u20ac\r\n".encode())
    [(delivery, job)] = mail.new()
    assert job.body_type == 1 and b"Content-Transfer-Encoding: 8bit" in delivery.body and "\u20ac".encode() in delivery.body


def test_mime_inside_does_not_break_out(mail):
    mail.send(["a@bad.example"], message=b"Content-Type: multipart/mixed; boundary=\"=_x\"\r\n\r\n--=_x\r\n\r\ny\r\n--=_x--\r\n--\r\n.\r\n" + b"--=_" * 100 + b"\r\n")
    [(delivery, _)] = mail.new()
    assert len(parts(delivery)[1]) == 3


def test_no_report_about_a_report(mail):
    mail.send(["a@bad.example"], sender="")
    mail.none()
    mail.send(["a@bad.example"], sender="sender@bad.example")   # its report fails, too
    mail.until("to=<sender@bad.example>")
    mail.none()


def test_reload(mail):
    mail.i.set("bouncefrom", "postie")
    tell(mail.bounce, signal.SIGHUP)
    mail.send(["a@bad.example"])
    [(delivery, _)] = mail.new()
    assert "postie@queue.tappal" in parts(delivery)[0]["From"]


@pytest.mark.parametrize("nonsense", [records.encode("ready", session=1, slots=1), records.frame(1, b"", length=60000)])
def test_nonsense_before_an_order(mail, nonsense):
    """Senseless, or half of something: the orders behind it are given again."""
    with open(f"{mail.i.spool}/fifo/bounce", "wb", buffering=0) as fifo:
        fifo.write(nonsense)
    mail.send(["x@bad.example"])
    (report, _), = mail.new()
    assert b"to be returned" in report.body
    mail.none()


def test_double_bounces():
    with Mail("bounce2", {"doublebounceto": "ops@good.example"}) as mail:
        mail.start_bounce()
        mail.send(["a@bad.example"], sender="sender@bad.example")
        [(delivery, job)] = mail.new()
        assert (delivery.address, job.sender) == ("ops@good.example", b"")
        message, (_, status, _) = parts(delivery)
        assert "rfc822; sender@bad.example" in {r["Final-Recipient"] for r in status.get_payload()[1:]}
        mail.none()


def test_once_whatever_dies():
    """bounce comes late, is killed while enqueue waits for queued, and comes again: one report."""
    with Mail("bounce3") as mail:
        mail.send(["a@bad.example"])
        mail.until("nobody reads fifo/bounce")
        mail.start_bounce()
        mail.new()
        mail.queued.send_signal(signal.SIGSTOP)
        time.sleep(0.1)
        mail.queued.send_signal(signal.SIGCONT)
        mail.send(["b@bad.example"])
        mail.i.kill(mail.bounce)
        mail.start_bounce()
        time.sleep(1)
        mail.i.kill(mail.queued, signal.SIGTERM)
        mail.queued = mail.i.start_queued()
        mail.new()
        mail.none()


def test_delay_is_reported_once():
    """queued dies when the report of the delay is due, and when it was sent; the attempts go on, and no second one comes."""
    with Mail("bounce4", {"delaywarn": "1", "retryfirst": "1", "retrymax": "1"}) as mail:
        mail.spawn.answer = lambda job, rcpt: "temp" if rcpt.address.startswith(b"late") else "ok"
        assert mail.i.enqueue(MESSAGE, raw=wish(("late@good.example", b"DELAY", b"rfc822;Old@good.example"), ("late2@good.example", b"", b""),
                                                ("late3@good.example", b"FAILURE", b""), head=b"RFULL\0EQQ1\0"))[0] == 0
        assert wait_until(lambda: mail.spawn.jobs, 120)
        number = mail.spawn.jobs[0].id
        shown = lambda: subprocess.run([f"{mail.i.libexec}/tappal", "queue", "show", msgid(number)], stdout=subprocess.PIPE, text=True).stdout
        assert wait_until(lambda: "late@good.example (waiting, report of the delay due)" in shown(), 120), shown()
        listed = subprocess.run([f"{mail.i.libexec}/tappal", "queue", "list", msgid(number)], stdout=subprocess.PIPE, text=True).stdout
        assert "late@good.example +2 " in listed      # three, though one of them is in two counts
        mail.i.kill(mail.queued)
        mail.start_bounce()
        mail.queued = mail.i.start_queued()
        [(delivery, _)] = mail.new()
        message, (text, status, original) = parts(delivery)
        head, *rcpts = status.get_payload()
        assert (delivery.address, message["Subject"], head["Original-Envelope-Id"]) == (FROM, "Your mail is delayed", "QQ1")
        assert [(r["Original-Recipient"], r["Final-Recipient"], r["Action"], r["Status"], r["Diagnostic-Code"]) for r in rcpts] == [
            ("rfc822; Old@good.example", "rfc822; late@good.example", "delayed", "4.0.0", "smtp; 451 temp")]
        until, came = (email.utils.parsedate_to_datetime(value) for value in (rcpts[0]["Will-Retry-Until"], head["Arrival-Date"]))
        assert (until - came).total_seconds() == 7 * 86400
        assert original.get_content_type() == "text/rfc822-headers" and b"line one" not in delivery.body
        assert wait_until(lambda: "late@good.example (waiting, report of the delay sent)" in shown(), 120), shown()
        assert shown().count("report of the delay") == 1 and f"{msgid(number)}: sender delay notification: " in mail.i.log()
        mail.i.kill(mail.queued)
        mail.queued = mail.i.start_queued()
        before = len(mail.spawn.jobs)
        assert wait_until(lambda: sum(job.id == number for job in mail.spawn.jobs[before:]) >= 2, 120)
        mail.spawn.answer = answer
        assert {d.address for d, _ in mail.new(3)} == {"late@good.example", "late2@good.example", "late3@good.example"}
        assert wait_until(lambda: f"{msgid(number)}: removed" in mail.i.log(), 120)
        assert sum(d.address == FROM for d in mail.spawn.deliveries) == 1
