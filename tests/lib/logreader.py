"""The system's log reader, for programs that put_programs (building.py) has built for a root: it listens at ROOT/dev/log."""
import os
import socket


class LogReader:
    def __init__(self, root):
        self.path = f"{root}/dev/log"
        os.makedirs(f"{root}/dev", exist_ok=True)
        os.chmod(f"{root}/dev", 0o755)
        self.bind()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def bind(self):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(120)
        self.socket.bind(self.path)
        os.chmod(self.path, 0o666)

    def close(self):
        self.socket.close()
        os.unlink(self.path)

    def hear(self, text):
        """(lines before it, the next line that holds TEXT)."""
        before = ""
        while text not in (line := self.socket.recv(4096).decode()):
            before += f"{line}\n"
        return before, line
