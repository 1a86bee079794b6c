"""The head of an intake file, and of a file in large/ (queue/intakefile.h), as far as tests make one by hand."""
import struct


def crc32c(octets, crc=0):
    """CRC-32C, an octet at a time."""
    crc = ~crc & 0xffffffff
    for octet in octets:
        crc ^= octet
        for _ in range(8):
            crc = crc >> 1 ^ 0x82f63b78 & -(crc & 1)
    return ~crc & 0xffffffff


def head(body_size, envelope_size=0, state=1):
    """Without a checksum of what follows, as older versions wrote it."""
    octets = struct.pack("<4sIIIQQQII12x", b"tapi", 1, state, 0, 0, 0, body_size, envelope_size, 0)
    return octets + struct.pack("<I", crc32c(octets))
