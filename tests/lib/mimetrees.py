"""Random MIME messages with 8-bit data in them, and what Python's email package reads out of one.

    message(random.Random(seed))     octets with CRLF: multiparts, messages in messages, preambles, labels that are right, wrong or missing
    leaves(octets)                   [(depth, type)] of what has parts, [(depth, type, octets decoded)] of leaves, in order
"""
import base64
import email
import quopri

PIECES = ["hello", "gr\u00fc\u00dfe", "From here", ".", "..", "--", "-- ", "=", "=C3", "a=b", "tab\tx",
          "trailing ", "trailing\t", "\u00fcn\u00efc\u00f6" * 8, "x" * 80,
          "\u20ac" * 40,
          "long " * 300, "\u00c4" * 700, "--b", "-", "F", "From", "From "]


def text(r):
    if r.random() < 0.2:
        return bytes(r.choice(b" \t.-=F\xe4\x00\x7f\x80ab") for _ in range(r.randrange(300)))
    lines = ["".join(r.choice(PIECES) + r.choice(["", " "]) for _ in range(r.randrange(5))) for _ in range(r.randrange(8))]
    return "\r\n".join(lines).encode(r.choice(["utf-8", "latin-1"]), "replace")


def leaf(r, typed):
    fields, body = [], text(r)
    if typed or r.random() < 0.8:
        fields.append(r.choice([b"Content-Type: text/plain; charset=utf-8", b"content-type:text/html;\r\n\tcharset=latin1",
                                b"Content-Type: application/octet-stream"]))
    label = r.choice(["8bit", "8BIT", "binary", "7bit", None, None, "base64", "quoted-printable"])
    if label == "base64":
        body = base64.encodebytes(body).replace(b"\n", b"\r\n")
    if label == "quoted-printable":
        body = quopri.encodestring(body.replace(b"\r\n", b"\n")).replace(b"\n", b"\r\n")
    if label:
        fields.append(b"Content-Transfer-Encoding: " + label.encode() + r.choice([b"", b" (comment)", b" "]))
    if r.random() < 0.3:
        fields.append(b"X-Other: 1\r\n folded")
    r.shuffle(fields)
    return fields, body


class Boundaries:
    """All different, many beginning alike."""
    def __init__(self):
        self.count = 0

    def next(self, r):
        self.count += 1
        return r.choice(["p" * self.count, "b" * r.randrange(1, 60) + "x%d" % self.count,
                         "=_outer%d" % self.count, "a b'()+_,-./:=?%d" % self.count]).encode()


def multipart(r, depth, boundaries):
    mark, digest = boundaries.next(r), r.random() < 0.2
    fields = [b'Content-Type: multipart/%s; boundary="%s"' % (b"digest" if digest else b"mixed", mark)]
    if r.random() < 0.4:
        fields.append(b"Content-Transfer-Encoding: 8bit")
    out = "preamble \u00e4 =\r\n".encode() if r.random() < 0.5 else b""
    for _ in range(r.randrange(1, 4)):
        part = render(*entity(r, depth - 1, boundaries, digest))
        out += b"--" + mark + r.choice([b"", b" ", b"\t "]) + b"\r\n" + part + b"\r\n"
    if r.random() < 0.8:
        out += b"--" + mark + b"--" + r.choice([b"", b"\r\n", "\r\nepilogue \u00f6\r\n".encode()])
    return fields, out


def nested(r, depth, boundaries, digest):
    fields = [] if digest and r.random() < 0.5 else [b"Content-Type: message/rfc822"]
    if r.random() < 0.4:
        fields.append(b"Content-Transfer-Encoding: 8bit")
    return fields, render(*whole(r, depth - 1, boundaries))


def entity(r, depth, boundaries, digest=False, inner=True):
    kind = r.random()
    if depth <= 0 or kind < 0.4:
        return leaf(r, digest)
    return nested(r, depth, boundaries, digest) if inner and kind < 0.55 else multipart(r, depth, boundaries)


def whole(r, depth, boundaries):
    fields, body = entity(r, depth, boundaries, inner=False)
    return [b"Subject: x", b"From: a@b"] + ([b"MIME-Version: 1.0"] if r.random() < 0.7 else []) + fields, body


def render(fields, body):
    return b"".join(field + b"\r\n" for field in fields) + b"\r\n" + body


def message(r):
    return render(*whole(r, r.randrange(5), Boundaries()))


def walk(part, depth):
    if not part.is_multipart():
        return [(depth, part.get_content_type(), part.get_payload(decode=True))]
    return sum((walk(p, depth + 1) for p in part.get_payload()), [(depth, part.get_content_type())])


def leaves(octets):
    return walk(email.message_from_bytes(octets), 0)
