"""What the system does to programs, on order: a small disk under a host's spool, system calls that fail, few descriptors; and what the
programs of a host cost meanwhile.

    with Disk(host, megabytes=300) as disk: disk.fill(leave=0) ... disk.empty()
    with inject(pid, "fdatasync:error=EIO:when=1"): ...
    with few_files(pid): ...
    cpu_ms(pid), files(pid), programs(host), zombies(host), calm(pids), fifo_holds(path), asleep(pid)
"""
import contextlib
import errno
import fcntl
import os
import subprocess
import termios
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


class Disk:
    """An ext4 of its own for a host's spool. Enter it before the host starts."""

    def __init__(self, host, megabytes=300, inodes=400):
        self.host, self.megabytes, self.inodes = host, megabytes, inodes
        self.image, self.at = f"{host.root}.img", host.spool

    def __enter__(self):
        with open(self.image, "wb") as f:
            f.truncate(self.megabytes << 20)
        run("mkfs.ext4", "-q", "-F", "-m", "0", "-N", str(self.inodes), self.image)
        run("mount", "-o", "loop", self.image, self.at)
        os.rmdir(f"{self.at}/lost+found")
        run("sh", f"{TOP}/etc/spool-tree", self.host.root)
        return self

    def __exit__(self, *_):
        self.host.stop()
        run("umount", "-l", self.at)
        os.unlink(self.image)

    def free(self):
        fs = os.statvfs(self.at)
        return fs.f_bavail * fs.f_frsize

    def fill(self, leave=0):
        """Take all space but `leave` octets; 0: not a block is left."""
        with open(f"{self.at}/ballast", "ab") as f:
            with contextlib.suppress(OSError):
                os.posix_fallocate(f.fileno(), 0, max(self.free() - leave, 1))
            for size in (1 << 20, 1 << 16, 4096) if leave == 0 else ():
                with contextlib.suppress(OSError):
                    while True:
                        os.posix_fallocate(f.fileno(), f.seek(0, 2), size)
        return self.free()

    def fill_inodes(self):
        os.makedirs(f"{self.at}/files", exist_ok=True)
        try:
            for n in range(1 << 20):
                os.close(os.open(f"{self.at}/files/{n}", os.O_CREAT | os.O_WRONLY))
        except OSError as error:
            assert error.errno == errno.ENOSPC

    def empty(self):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.at}/ballast")
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(f"{self.at}/files"):
                os.unlink(f"{self.at}/files/{name}")


@contextlib.contextmanager
def inject(pid, *orders, log="/dev/null"):
    """System calls of a running process, its threads and its children fail as strace's inject= says."""
    calls = ",".join(o.split(":")[0] for o in orders)
    strace = subprocess.Popen(["strace", "-qq", "-f", "-o", log, "-p", str(pid), "-e", f"trace={calls}", *(f"-einject={o}" for o in orders)],
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    end = time.monotonic() + 120
    while tracer(pid) != strace.pid and strace.poll() is None:
        assert time.monotonic() < end
        time.sleep(0.005)
    # It has ended without a word when the process did so at its first fault, before this looked.
    if strace.poll() is not None:
        error = strace.stderr.read()
        assert error == b"", error
    try:
        yield strace
    finally:
        strace.terminate()
        strace.wait(120)
        strace.stderr.close()


def status(pid, field):
    try:
        with open(f"/proc/{pid}/status") as f:
            return next((line.split(None, 1)[1].strip() for line in f if line.startswith(field + ":")), "")
    except OSError:
        return ""


def tracer(pid):
    return int(status(pid, "TracerPid") or 0)


def file_limit(pid, soft=None):
    """The soft limit of open files as it was. As the process's own account: that needs no privilege over others."""
    uid, gid = (int(status(pid, field).split()[0]) for field in ("Uid", "Gid"))
    change = [f"--nofile={soft}:"] if soft is not None else []
    before = subprocess.run(["prlimit", "--pid", str(pid), "--nofile", "--noheadings", "--raw", "-o", "SOFT"], check=True, stdout=subprocess.PIPE,
                            text=True, user=uid, group=gid, extra_groups=[]).stdout
    if change:
        subprocess.run(["prlimit", "--pid", str(pid), *change], check=True, user=uid, group=gid, extra_groups=[])
    return int(before)


@contextlib.contextmanager
def few_files(pid, limit=None):
    """The process may open no more descriptors than it has, or than `limit`."""
    before = file_limit(pid, highest_file(pid) + 1 if limit is None else limit)
    try:
        yield
    finally:
        if os.path.exists(f"/proc/{pid}"):
            file_limit(pid, before)


def highest_file(pid):
    return max(int(n) for n in os.listdir(f"/proc/{pid}/fd"))


def files(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def cpu_ms(pid):
    """Processor time of all threads, from the scheduler: exact. 0 of one that has ended."""
    total = 0
    with contextlib.suppress(OSError):      # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/schedstat") as f:
                total += int(f.read().split()[0])
    return total / 1e6


def calm(pids, window=1.0, share=0.05, patience=120):
    """Before long there is a while in which none of these processes takes more than that share of a processor: one that spins never has it.
    What they still have to do, and how slow the machine is, does not matter. `pids`: a list, or what gives one."""
    end = time.monotonic() + patience
    while True:
        before = {p: cpu_ms(p) for p in (pids() if callable(pids) else pids)}
        time.sleep(window)
        used = {p: cpu_ms(p) - ms for p, ms in before.items()}
        if max(used.values(), default=0) <= window * 1000 * share:
            return
        assert time.monotonic() < end, used


def fifo_holds(path):
    """Octets that were written to a fifo or pipe and not read yet."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), "little")
    finally:
        os.close(fd)


def asleep(pid):
    """It waits for something: it has done what it had to do."""
    return status(pid, "State").startswith("S")


def programs(host):
    """{pid: name} of all processes of a host."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            exe = os.readlink(f"/proc/{pid}/exe")
            if exe.startswith(host.root + "/"):
                found[int(pid)] = os.path.basename(exe)
    return found


def children(pid):
    found = []
    with contextlib.suppress(OSError):      # it has ended
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children") as f:
                found += map(int, f.read().split())
    return found


def zombies(host):
    """Children of the host's processes that ended and were not waited for."""
    return [child for pid in programs(host) for child in children(pid) if status(child, "State").startswith("Z")]
