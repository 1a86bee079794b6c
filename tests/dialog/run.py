"""Every dialog of tests/dialog/*.smtp against the real smtpd, with echo_enqueue in the place of libexec/enqueue.

    run.py [-v] [NAME ...]

A dialog is read top to bottom:
    # text             a comment: the reason of the dialog
    @set NAME VALUE    a control file of this dialog (\\n separates lines); @set NAME alone writes an empty one, @unset NAME removes one
    @env NAME=VALUE    environment of smtpd
    @sink ORDER        an order to echo_enqueue
    @exit N            smtpd's exit code (0)
    @pipe              smtpd's descriptors are pipes and no socket
    @role NAME         what its listener would be for (smtpd -r)
    C: text            the client sends this line with CRLF; C*N: N times. Everything up to the next S line is one write
    ! text             the client sends these octets; Python escapes
    close              the client closes its sending side
    S: text            the next line from the server begins with text; S*N: N such lines; S~ regex: the whole line matches
    R: 250             a whole reply with this code, however many lines it has; R: 250 TEXT: one of them is TEXT
    EOF                the server closes the connection
    E: text            a line of echo_enqueue's output begins with text (in order); E~ regex; E- text: no line begins with it
    L: text            smtpd's log holds text; L~ regex; L- text: it does not
In C and ! lines {x*N} stands for N times x. Lines of echo_enqueue: start, begin, E and a field of the envelope, | and a line of the body, commit, abort, end.
"""
import glob
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, f"{HERE}/../lib")
from building import ROOTS, TOP, VARIANT, put_programs  # noqa: E402

TIMEOUT = 120
SETTINGS = {
    "me": "mx.test",
    "locals": "mx.test\nlocal.test",
    "rcpthosts": "local.test\nrelayed.test\n.sub.test",
    "virtualdomains": "virtual.test:joe",
    "users": "=joe:joe:4711:4711:/nonexistent/joe:::\n+joe-:joe:4711:4711:/nonexistent/joe:-::\n=postmaster:joe:4711:4711:/nonexistent/joe:::\n.",
    "timeoutsmtpd": "300",
}


class Failure(Exception):
    pass


class Place:
    """A root with smtpd and the echo sink."""

    def __init__(self, name="dialog"):
        self.root = f"{ROOTS}/{name}-{os.getuid()}"
        self.etc, self.libexec, self.sink = f"{self.root}/etc/tappal", f"{self.root}/usr/libexec/tappal", f"{self.root}/sink"
        self.user = "nobody" if os.getuid() == 0 else None

    def __enter__(self):
        shutil.rmtree(self.root, ignore_errors=True)
        for d in (ROOTS, self.root, self.etc, self.libexec, self.sink, f"{self.root}/run"):
            os.makedirs(d, exist_ok=True)
        put_programs(self.root, ["smtpd/smtpd", "smtpd/smtpd-start"], self.libexec)
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", f"-I{TOP}", "-O1", "-Wall", "-Wextra", f'-DSINK_DIR="{self.sink}"', f"{HERE}/echo_enqueue.c",
                        *(["-fsanitize=address,undefined"] if VARIANT == "asan" else []), f"{TOP}/build/{VARIANT}/libcommon.a", "-o", f"{self.libexec}/enqueue"], check=True)
        for path, directories, files in os.walk(self.root):
            for name in directories + files:
                os.chmod(f"{path}/{name}", 0o755)
        os.chmod(self.sink, 0o777)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root, ignore_errors=True)

    def prepare(self, settings, orders=()):
        for directory in (self.etc, self.sink):
            for name in os.listdir(directory):
                os.unlink(f"{directory}/{name}")
        for name, value in settings.items():
            with open(f"{self.etc}/{name}", "w") as f:
                f.write(value + "\n")
        with open(f"{self.sink}/orders", "w") as f:
            f.write("".join(f"{order}\n" for order in orders))

    def sink_lines(self):
        try:
            with open(f"{self.sink}/out") as f:
                return f.read().split("\n")
        except FileNotFoundError:
            return []

    def start(self, stdin, stdout, environment, log, arguments=(), **keys):
        """An smtpd of this root; stderr goes to the file `log`."""
        with open(log, "ab") as f:
            return subprocess.Popen([f"{self.libexec}/smtpd", *arguments], stdin=stdin, stdout=stdout, stderr=f, env=environment, user=self.user, **keys)


def connected_pair():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
    return client, server


class Client:
    """The other end of a session: a socket, or two pipes."""

    def __init__(self, place, log, environment, pipes, arguments):
        self.buffer = b""
        if pipes:
            in_read, self.write_fd = os.pipe()
            self.read_fd, out_write = os.pipe()
            self.process = place.start(in_read, out_write, environment, log, arguments)
            os.close(in_read)
            os.close(out_write)
            self.socket = None
        else:
            self.socket, server = connected_pair()
            self.process = place.start(server, server, environment, log, arguments)
            server.close()
            self.read_fd = self.write_fd = self.socket.fileno()

    def send(self, octets):
        view = memoryview(octets)
        while view:
            # The server's replies are read while it is slow to read: neither waits for the other.
            readable, writable, _ = select.select([self.read_fd], [self.write_fd], [], TIMEOUT)
            if not readable and not writable:
                raise Failure("the server takes nothing")
            if readable:
                more = self.read_some()
                if not more:
                    return
                self.buffer += more
            if writable:
                try:
                    view = view[os.write(self.write_fd, view[:65536 if self.socket else 512]):]
                except (BrokenPipeError, ConnectionResetError):
                    return

    def read_some(self):
        try:
            return os.read(self.read_fd, 65536)
        except ConnectionResetError:
            return b""

    def line(self):
        end = time.monotonic() + TIMEOUT
        while b"\r\n" not in self.buffer:
            if not select.select([self.read_fd], [], [], max(0, end - time.monotonic()))[0]:
                raise Failure(f"no reply in {TIMEOUT} s; so far {self.buffer!r}")
            more = self.read_some()
            if not more:
                if self.buffer:
                    raise Failure(f"closed within a line: {self.buffer!r}")
                return None
            self.buffer += more
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line.decode("latin-1")

    def close_sending(self):
        if self.socket:
            self.socket.shutdown(socket.SHUT_WR)
        else:
            os.close(self.write_fd)
            self.write_fd = -1

    def finish(self):
        if self.socket:
            self.socket.close()
        else:
            for fd in (self.read_fd, self.write_fd):
                if fd >= 0:
                    os.close(fd)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise Failure("smtpd did not end after its client")


def octets(text, raw):
    text = re.sub(r"\{([^*{}]+)\*(\d+)\}", lambda m: m.group(1) * int(m.group(2)), text)
    return text.encode("latin-1").decode("unicode_escape").encode("latin-1") if raw else text.encode("utf-8") + b"\r\n"


class Dialog:
    def __init__(self, path):
        self.name = os.path.basename(path)[:-len(".smtp")]
        self.settings, self.environment, self.orders, self.pipes, self.arguments, self.steps, self.exit = dict(SETTINGS), {}, [], False, [], [], 0
        with open(path, encoding="utf-8") as f:
            for number, line in enumerate(f, 1):
                self.read_line(number, line.rstrip("\n"))
        if not any(kind == "#" for kind, *_ in self.steps):
            raise Failure(f"{path}: has no comment that gives its reason")

    def read_line(self, number, line):
        if not line.strip():
            return
        m = re.match(r"(#|!|@set|@unset|@env|@sink|@exit|@pipe|@role|close|EOF|[CS](?:\*\d+)?:|R:|S~|E:|E~|E-|L:|L~|L-)(?: (.*))?$", line)
        if not m:
            raise Failure(f"{self.name}.smtp:{number}: not understood: {line}")
        kind, text = m.group(1), m.group(2) or ""
        if kind == "@set":
            name, _, value = text.partition(" ")
            self.settings[name] = value.replace("\\n", "\n")
        elif kind == "@unset":
            self.settings.pop(text, None)
        elif kind == "@env":
            name, _, value = text.partition("=")
            self.environment[name] = value
        elif kind == "@sink":
            self.orders.append(text)
        elif kind == "@exit":
            self.exit = int(text)
        elif kind == "@pipe":
            self.pipes = True
        elif kind == "@role":
            self.arguments = ["-r", text]
        else:
            count = re.match(r"[CS]\*(\d+):", kind)
            self.steps.append((re.sub(r"\*\d+", "", kind), text, int(count.group(1)) if count else 1, number))

    def run(self, place):
        log = f"{place.root}/log"
        open(log, "w").close()
        place.prepare(self.settings, self.orders)
        client = Client(place, log, self.environment, self.pipes, self.arguments)
        try:
            self.play(client)
        finally:
            code = client.finish()
        if code != self.exit:
            raise Failure(f"smtpd ended with {code}")
        self.check_sink(place)
        with open(log, errors="replace") as f:
            self.check_log(f.read())

    def play(self, client):
        waiting = b""
        for kind, text, count, number in self.steps:
            if kind in ("C:", "!"):
                waiting += octets(text, kind == "!") * count
                continue
            if kind in ("S:", "R:", "S~", "EOF", "close") and waiting:
                client.send(waiting)
                waiting = b""
            if kind == "close":
                client.close_sending()
            elif kind in ("S:", "S~"):
                self.expect(client, kind, text, count, number)
            elif kind == "R:":
                self.expect_reply(client, text, number)
            elif kind == "EOF" and (line := client.line()) is not None:
                raise Failure(f"line {number}: expected the end of the connection, got: {line}")
        if waiting:
            client.send(waiting)

    def expect(self, client, kind, text, count, number):
        for _ in range(count):
            line = client.line()
            if line is None:
                raise Failure(f"line {number}: expected {text!r}, got the end of the connection")
            if not (line.startswith(text) if kind == "S:" else re.fullmatch(text, line)):
                raise Failure(f"line {number}: expected {text!r}, got: {line}")

    def expect_reply(self, client, text, number):
        code, _, wanted = text.partition(" ")
        lines = [""]
        while not lines[-1].startswith(code + " "):
            line = client.line()
            if line is None or line[:3] != code or line[3:4] not in (" ", "-"):
                raise Failure(f"line {number}: expected a reply {code}, got: {line}")
            lines.append(line)
        if wanted and wanted not in [line[4:] for line in lines]:
            raise Failure(f"line {number}: expected a reply with the line {wanted!r}, got: {lines[1:]}")

    def check_sink(self, place):
        wanted = [s for s in self.steps if s[0][0] == "E" and s[0] != "EOF"]
        if not wanted:
            return
        end = time.monotonic() + TIMEOUT
        lines = place.sink_lines()
        while "start" in lines and not lines[-2:-1] == ["end"] and time.monotonic() < end and not self.orders:
            time.sleep(0.005)   # it writes "end" when smtpd has gone
            lines = place.sink_lines()
        at = 0
        for kind, text, _, number in wanted:
            if kind == "E-":
                if any(line.startswith(text) for line in lines):
                    raise Failure(f"line {number}: enqueue got {text!r}")
                continue
            while at < len(lines) and not (lines[at].startswith(text) if kind == "E:" else re.fullmatch(text, lines[at])):
                at += 1
            if at == len(lines):
                raise Failure(f"line {number}: enqueue did not get {text!r}, but:\n" + "\n".join(lines)[:3000])
            at += 1

    def check_log(self, log):
        for kind, text, _, number in self.steps:
            if (kind == "L:" and text not in log) or (kind == "L~" and not re.search(text, log)):
                raise Failure(f"line {number}: the log does not hold {text!r}, but:\n{log[:3000]}")
            if kind == "L-" and text in log:
                raise Failure(f"line {number}: the log holds {text!r}:\n{log[:3000]}")


def main():
    arguments = [a for a in sys.argv[1:] if a != "-v"]
    verbose = len(arguments) < len(sys.argv) - 1
    passed = failed = 0
    paths = sorted(glob.glob(f"{HERE}/*.smtp"))
    with Place() as place:
        for path in paths:
            name = os.path.basename(path)[:-len(".smtp")]
            if arguments and name not in arguments:
                continue
            try:
                Dialog(path).run(place)
                passed += 1
                if verbose:
                    print(f"{name}: ok")
            except Failure as failure:
                failed += 1
                print(f"{name}: FAILED: {failure}")
    print(f"dialog: {passed} passed, {failed} failed")
    sys.exit(0 if failed == 0 and passed > 0 else 1)


if __name__ == "__main__":
    main()
