"""records - the channel codec of the python tests, made from common/records.def, so that tests and programs cannot disagree.

    data = encode("job_done", job=7)                    fields left out are 0 or empty; BYTES take bytes or str
    record, used = decode(data)                         (None, 0) while the record is not whole; BadRecord on a lost stream
    record.name, record.job, record.destination         numbers are int, BYTES are bytes
    stream = Stream(fd)                                  reads records of a descriptor, with a deadline
    stream.next(timeout=5)                               a record; None at the end of file; TimeoutError
    stream.want("job_done", timeout=5)                   the same, and AssertionError when it is another record

Run as a program it prints what it reads: `python3 tests/lib/records.py < file`.
"""

import os
import re
import select
import struct
import sys
import time

MAGIC = 0x7074
HEAD = 8
MAX = 70000

_SIZES = {"U8": "<B", "U16": "<H", "U32": "<I", "U64": "<Q"}
_DEF = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "common", "records.def")


class BadRecord(Exception):
    """The octets cannot be a record of records.def."""


class Kind:
    """One RECORD line: its number, its name, and its fields as (name, type, max)."""

    def __init__(self, number, name, fields):
        self.number, self.name, self.fields = number, name, fields
        self.field_names = {f[0] for f in fields}


class Record:
    """A decoded record: its fields are attributes."""

    def __init__(self, kind, values):
        self.name = kind.name
        self._values = values
        self.__dict__.update({k: v for k, v in values.items() if k != "name"})
        if "name" in values:          # records with a field `name` (offer, adopt, dns_ask) keep it as file_name
            self.file_name = values["name"]

    def fields(self):
        return dict(self._values)

    def __repr__(self):
        return "<%s %s>" % (self.name, " ".join("%s=%r" % item for item in self._values.items()))


def _parse(text):
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    kinds = []
    for number, name, body in re.findall(r"RECORD\(\s*(\d+)\s*,\s*(\w+)\s*,((?:[^()]|\([^()]*\))*)\)", text):
        fields = []
        for kind, args in re.findall(r"(U8|U16|U32|U64|BYTES)\(([^()]*)\)", body):
            parts = [p.strip() for p in args.split(",")]
            fields.append((parts[0], kind, int(parts[1]) if kind == "BYTES" else None))
        kinds.append(Kind(int(number), name, fields))
    return kinds


with open(_DEF, encoding="utf-8") as _file:
    KINDS = _parse(_file.read())
BY_NAME = {k.name: k for k in KINDS}
BY_NUMBER = {k.number: k for k in KINDS}
assert len(BY_NAME) == len(BY_NUMBER) == len(KINDS) > 30, "records.def was not understood"


def encode(record_name, check=True, **values):
    """One whole record. check=False lets a lying test exceed a BYTES field's max."""
    kind = BY_NAME[record_name]
    unknown = set(values) - kind.field_names
    if unknown:
        raise TypeError("%s has no field %s" % (record_name, ", ".join(sorted(unknown))))
    out = b""
    for field, form, limit in kind.fields:
        value = values.get(field, b"" if form == "BYTES" else 0)
        if form != "BYTES":
            out += struct.pack(_SIZES[form], value)
            continue
        if isinstance(value, str):
            value = value.encode()
        if check and len(value) > limit:
            raise ValueError("%s.%s is longer than %d" % (record_name, field, limit))
        out += struct.pack("<H", len(value)) + value
    return frame(kind.number, out)


def frame(number, payload, magic=MAGIC, length=None):
    """A framed payload; for lying tests every part of the frame can be chosen."""
    return struct.pack("<IHH", HEAD + len(payload) if length is None else length, number, magic) + payload


def decode_payload(number, payload):
    kind = BY_NUMBER.get(number)
    if kind is None:
        raise BadRecord("no record has number %d" % number)
    values, at = {}, 0
    for field, form, limit in kind.fields:
        size = 2 if form == "BYTES" else struct.calcsize(_SIZES[form])
        if at + size > len(payload):
            raise BadRecord("%s ends before %s" % (kind.name, field))
        value = struct.unpack_from("<H" if form == "BYTES" else _SIZES[form], payload, at)[0]
        at += size
        if form == "BYTES":
            if value > limit or at + value > len(payload):
                raise BadRecord("%s.%s is too long" % (kind.name, field))
            value, at = bytes(payload[at:at + value]), at + value
        values[field] = value
    if at != len(payload):
        raise BadRecord("%s has %d octets too many" % (kind.name, len(payload) - at))
    return Record(kind, values)


def decode(octets):
    """The first record of octets and how many it took; (None, 0) when it is not whole yet."""
    if len(octets) < HEAD:
        return None, 0
    length, number, magic = struct.unpack_from("<IHH", octets)
    if magic != MAGIC or not HEAD <= length <= MAX:
        raise BadRecord("bad frame: length %d, magic %#x" % (length, magic))
    if len(octets) < length:
        return None, 0
    return decode_payload(number, octets[HEAD:length]), length


def decode_all(octets):
    """Every record of octets, which must hold whole ones only."""
    out = []
    while octets:
        record, used = decode(octets)
        if record is None:
            raise BadRecord("%d octets left over" % len(octets))
        out.append(record)
        octets = octets[used:]
    return out


class Stream:
    """Records (and raw octets between them) out of a descriptor, blocking or not."""

    def __init__(self, fd):
        self.fd, self.buffer = fd, b""

    def _fill(self, deadline):
        """Read once: False at the end of file."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.fd], [], [], left)[0]:
                raise TimeoutError("nothing came; buffered: %r" % self.buffer[:80])
            try:
                data = os.read(self.fd, 65536)
            except BlockingIOError:
                continue
            self.buffer += data
            return bool(data)

    def next(self, timeout=120.0):
        deadline = time.monotonic() + timeout
        while True:
            record, used = decode(self.buffer)
            if record is not None:
                self.buffer = self.buffer[used:]
                return record
            if not self._fill(deadline):
                if self.buffer:
                    raise BadRecord("end of file within a record")
                return None

    def want(self, name, timeout=120.0):
        record = self.next(timeout)
        assert record is not None, "end of file instead of %s" % name
        assert record.name == name, "%r instead of %s" % (record, name)
        return record

    def raw(self, count, timeout=120.0):
        """Exactly count octets that are no records (a message body)."""
        deadline = time.monotonic() + timeout
        while len(self.buffer) < count:
            if not self._fill(deadline):
                raise BadRecord("end of file after %d of %d raw octets" % (len(self.buffer), count))
        out, self.buffer = self.buffer[:count], self.buffer[count:]
        return out


if __name__ == "__main__":
    for _record in decode_all(sys.stdin.buffer.read()):
        print(_record)
