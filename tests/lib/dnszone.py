"""A real name server (knotd) for given zones, on a free loopback port.

    with Zones({"example.tappal": ["@ MX 10 mx1", "mx1 A 127.0.0.2"]}) as dns:
        ... control file dnsforward: dns.server (127.0.0.1@PORT), dnstrustanchor: empty, or dns.anchors(path) when signed=[names]

SOA and NS are added to each zone. Names may be relative or absolute. No zone may be under .test or another name that resolvers answer
themselves. dns.log() tells what knotd said.
"""
import os
import shutil
import socket
import subprocess
import tempfile
import time

from processes import end

RESERVED = ("test", "localhost", "invalid", "onion", "local")


def free_port(address):
    """A port that is free for UDP and TCP."""
    for _ in range(100):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp, socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tcp:
            udp.bind((address, 0))
            port = udp.getsockname()[1]
            try:
                tcp.bind((address, port))
            except OSError:
                continue
            return port
    raise RuntimeError("no port is free")


class Zones:
    def __init__(self, zones, address="127.0.0.1", port=None, signed=()):
        self.zones = {name.rstrip(".") or ".": list(lines) for name, lines in zones.items()}
        for name in self.zones:
            if name.split(".")[-1] in RESERVED:
                raise ValueError("resolvers answer for %s themselves; choose another name" % name)
        self.address, self.port, self.signed = address, port, {s.rstrip(".") for s in signed}
        self.directory, self.process = None, None

    @property
    def server(self):
        """As dnsforward wants it."""
        return "%s@%d" % (self.address, self.port)

    # ---- files
    def zone_text(self, name):
        origin = "." if name == "." else name + "."
        lines = ["$ORIGIN %s" % origin, "$TTL 60", "@ SOA ns.%s hostmaster.%s 1 3600 600 86400 60" % (origin.lstrip("."), origin.lstrip(".")),
                 "@ NS ns.%s" % origin.lstrip("."), "ns A %s" % self.address]
        return "\n".join(lines + self.zones[name]) + "\n"

    def write(self):
        d = self.directory
        conf = ["server:", "  rundir: %s" % d, "  listen: %s@%d" % (self.address, self.port), "  udp-workers: 1", "  tcp-workers: 1", "  background-workers: 1",
                "database:", "  storage: %s/db" % d, "  journal-db-max-size: 16M", "  kasp-db-max-size: 16M", "  timer-db-max-size: 1M",
                "log:", "  - target: %s/log" % d, "    any: info",
                "policy:", "  - id: plain", "    single-type-signing: on", "    nsec3: off",
                "template:", "  - id: default", "    storage: %s" % d, "    zonefile-sync: -1", "    journal-content: none", "zone:"]
        for name in self.zones:
            conf += ["  - domain: %s" % name, "    file: %s/%s.zone" % (d, "root" if name == "." else name)]
            if name in self.signed:
                conf += ["    dnssec-signing: on", "    dnssec-policy: plain", "    journal-content: all"]
            with open("%s/%s.zone" % (d, "root" if name == "." else name), "w", encoding="utf-8") as f:
                f.write(self.zone_text(name))
        with open(d + "/knot.conf", "w", encoding="utf-8") as f:
            f.write("\n".join(conf) + "\n")

    # ---- running
    def start(self):
        self.directory = tempfile.mkdtemp(prefix="tappal-dns-", dir="/var/tmp")
        os.mkdir(self.directory + "/db")
        if self.port is None:
            self.port = free_port(self.address)
        self.write()
        with open(self.directory + "/stderr", "wb") as out:
            self.process = subprocess.Popen(["/usr/sbin/knotd", "-c", self.directory + "/knot.conf"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        if not self.wait():
            text = self.log()
            self.stop()
            raise RuntimeError("knotd does not answer: " + text)
        return self

    def ready(self, name):
        """Does the zone's SOA come, with an RRSIG if it is signed?"""
        labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label) + b"\0"
        query = b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x01" + labels + b"\x00\x06\x00\x01" + b"\x00\x00\x29\x10\x00\x00\x00\x80\x00\x00\x00"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
            s.settimeout(1)
            try:
                s.connect((self.address, self.port))
                s.send(query)
                got = s.recv(4096)
            except OSError:
                return False
        answers = got[6] << 8 | got[7]
        return got[3] & 15 == 0 and answers >= (2 if name in self.signed else 1)

    def wait(self, seconds=120):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if all(self.ready(name) for name in self.zones):
                return True
            if self.process.poll() is not None:
                return False
            time.sleep(0.05)
        return False

    def stop(self):
        if self.process is not None:
            end(self.process)
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def log(self):
        text = ""
        for name in ("log", "stderr"):
            try:
                with open("%s/%s" % (self.directory, name), encoding="utf-8", errors="replace") as f:
                    text += f.read()
            except OSError:
                pass
        return text

    # ---- DNSSEC
    def ds(self, name):
        """DS records of a signed zone, as text."""
        out = subprocess.run(["/usr/sbin/keymgr", "-c", self.directory + "/knot.conf", name, "ds"], check=True, stdout=subprocess.PIPE, text=True).stdout
        return [line for line in out.splitlines() if " DS " in line]

    def anchors(self, path, spoil=False):
        """Write a trust anchor file for all signed zones. spoil: with wrong digests, so that nothing can be validated."""
        with open(path, "w", encoding="utf-8") as f:
            for name in sorted(self.signed):
                for line in self.ds(name):
                    head, digest = line.rsplit(" ", 1)
                    if spoil:
                        digest = digest[::-1]
                    f.write("%s %s\n" % (head.replace(" DS ", " IN DS "), digest))
        os.chmod(path, 0o644)
        return path
