"""What a run cost: CPU and memory of all that a server started (a cgroup of its own, v1 or v2), flushes of the disk, the disk's own speed."""
import contextlib
import os
import re
import statistics
import subprocess
import time

CGROUPS = "/sys/fs/cgroup"


class Group:
    """Processes that are started inside of it, and all they start. `with group: ...` starts inside."""

    def __init__(self, name):
        v1 = os.path.exists(f"{CGROUPS}/cpuacct/cgroup.procs")
        self.base = f"{CGROUPS}/cpuacct" if v1 else CGROUPS
        if not os.path.exists(f"{self.base}/cgroup.procs"):
            raise RuntimeError(f"no cgroups in {CGROUPS}: CPU cannot be measured")
        self.dir, self.v1 = f"{self.base}/{name}", v1
        self.home = self.dir_of_this_process()
        os.makedirs(self.dir, exist_ok=True)

    def dir_of_this_process(self):
        with open("/proc/self/cgroup") as f:
            for line in f:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                if ("cpuacct" in controllers.split(",")) if self.v1 else controllers == "":
                    return self.base + path.rstrip("/")
        return self.base

    @staticmethod
    def enter(directory):
        with open(f"{directory}/cgroup.procs", "w") as f:
            f.write(str(os.getpid()))

    def __enter__(self):
        self.enter(self.dir)

    def __exit__(self, *_):
        self.enter(self.home)

    def cpu_seconds(self):
        if self.v1:
            return int(open(f"{self.dir}/cpuacct.usage").read()) / 1e9
        return int(re.search(r"usage_usec (\d+)", open(f"{self.dir}/cpu.stat").read()).group(1)) / 1e6

    def pids(self):
        return [int(pid) for pid in open(f"{self.dir}/cgroup.procs").read().split()]

    def pids_of(self, program, titles=("",)):
        """Those whose program has this name, and whose command line holds one of `titles`."""
        found = []
        for pid in self.pids():
            with contextlib.suppress(OSError):
                line = open(f"/proc/{pid}/cmdline").read()
                if open(f"/proc/{pid}/comm").read().strip() == program and any(title in line for title in titles):
                    found.append(pid)
        return found

    def signal(self, number):
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def pss_kib(self):
        return sum(memory_kib(pid)["Pss"] for pid in self.pids())

    def private_kib(self):
        """What no other process has a share in."""
        return sum(memory_kib(pid)["Private_Clean"] + memory_kib(pid)["Private_Dirty"] for pid in self.pids())

    def remove(self):
        """When the last process has gone, for a while."""
        for _ in range(100):
            with contextlib.suppress(OSError):
                os.rmdir(self.dir)
                return
            time.sleep(0.05)


def memory_kib(pid):
    """The sums that the kernel makes of a process's mappings; zeros when it has ended."""
    sums = dict.fromkeys(("Pss", "Private_Clean", "Private_Dirty"), 0)
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup") as f:
        sums.update((key, int(kib)) for key, kib in re.findall(r"^(\w+):\s+(\d+) kB", f.read(), re.M))
    return sums


def resident_mib(pids):
    """(anonymous, all) resident memory of these processes."""
    sums = {"RssAnon": 0, "VmRSS": 0}
    for pid in pids:
        with contextlib.suppress(OSError):
            for key, kib in re.findall(r"^(RssAnon|VmRSS):\s+(\d+)", open(f"/proc/{pid}/status").read(), re.M):
                sums[key] += int(kib)
    return round(sums["RssAnon"] / 1024, 2), round(sums["VmRSS"] / 1024, 2)


def flushes(directory):
    """Cache flushes of the device that `directory` is on, from /proc/diskstats: one for every sync that reached the disk."""
    number = os.stat(directory).st_dev
    for line in open("/proc/diskstats"):
        field = line.split()
        if (int(field[0]), int(field[1])) == (os.major(number), os.minor(number)) and len(field) > 18:
            return int(field[18])
    raise RuntimeError(f"the device of {directory} is not in /proc/diskstats")


def sync_us(directory, file_too, rounds=200):
    """Median of one fdatasync of 4 KiB, written over in place, or (file_too) of a new file of 4 KiB with its fsync."""
    path, times = f"{directory}/sync-test", []
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    os.pwrite(fd, bytes(1 << 20), 0)
    os.fsync(fd)
    for i in range(rounds):
        if file_too:
            os.close(fd)
            fd = os.open(f"{path}-{i}", os.O_RDWR | os.O_CREAT)
        os.pwrite(fd, os.urandom(4096), 0 if file_too else i % 256 * 4096)
        began = time.monotonic()
        (os.fsync if file_too else os.fdatasync)(fd)
        times.append(time.monotonic() - began)
    os.close(fd)
    return round(statistics.median(times) * 1e6)


def machine():
    """One line: processors, memory, kernel (its first two numbers: the rest names a build), commit."""
    with open("/proc/cpuinfo") as f:
        model = re.search(r"^model name\s*:\s*(.*)", f.read(), re.M)
    release = ".".join(os.uname().release.split(".")[:2])
    gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    top = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    commit = subprocess.run(["git", "-C", top, "rev-parse", "--short", "HEAD"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return (f"{os.cpu_count()} x {model.group(1) if model else os.uname().machine}, {gib:.0f} GiB, Linux {release}, "
            f"commit {commit.stdout.strip() or 'unknown'}")
