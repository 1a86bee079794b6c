"""cell - a tappal host that can be thrown away: its own mounts, network and process numbers, so that several run side by side under one
compiled-in root, nothing of one is left when its first process ends, and what is left before that is a leak.

    host = build("crash")                      install below ROOTS/crash, once
    result = isolated(function, argument)      a Run: runs function(argument) in a cell of its own, in a child
    in it:  with Cell(host) as cell: cell.fresh_disks() ... cell.start() ... cell.stop()
"""
import ctypes
import fcntl
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import traceback

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
from peers import ensure_account, wait_for_port
from processes import end

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
TOOLS = f"{TOP}/build/crash"
ROOTS = os.environ.get("TAPPAL_TEST_ROOTS", "/var/tmp/tappal-tests")
ADDRESS, PORT, SINK_PORT = "127.0.0.1", 2525, 2526
DOMAIN = "crash.tappal"
MAILBOXES = ["joe", "ann", "sam"]
ACCOUNT = "tappal-peer"
SEGMENT = 256 << 10
DAEMONS = {"queued": ["queued"], "spawn-local": ["spawn", "local"], "spawn-remote": ["spawn", "remote"], "bounce": ["bounce"],
           "smtpd": ["smtpd", "--pool"]}
# Each way to build a tappal that is wrong (mutant.c): the function that is replaced, and what it does wrong.
MUTANTS = {"early": ("fdatasync", "answers before the log is synced"), "dirs": ("fsync", "syncs no directory")}
SETTINGS = {
    "me": f"mx.{DOMAIN}", "locals": DOMAIN, "clients": "127.0.0.0/8", "smtpdlisten": f"{ADDRESS}:{PORT}", "smtproutes": f":{ADDRESS}:{SINK_PORT}",
    "smtpdsessions": "8", "retryfirst": "1", "retrymax": "1", "freespace": "1M", "connectionidle": "1", "timeoutconnect": "3", "timeoutremote": "5",
    "concurrencyremote": "3", "concurrencylocal": "3", "databytes": "1M",
}


def place_of_images():
    """In memory, where there is enough."""
    at = os.environ.get("TAPPAL_TEST_SHM", "/dev/shm")
    if os.path.isdir(at):
        st = os.statvfs(at)
        if st.f_bavail * st.f_frsize > 1 << 30:
            return at
    return ROOTS


libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWPID, CLONE_NEWNET, CLONE_NEWIPC = 0x20000, 0x20000000, 0x40000000, 0x08000000
MS_BIND, MS_REC, MS_PRIVATE, PR_SET_PDEATHSIG = 0x1000, 0x4000, 0x40000, 1


def call(what, result):
    if result != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{what}: {os.strerror(error)}")


def mount(source, target, kind, flags=0, data=""):
    call(f"mount {target}", libc.mount(source.encode(), target.encode(), kind.encode() if kind else None, flags, data.encode() if data else None))


def unmount(target, flags=0):
    call(f"umount {target}", libc.umount2(target.encode(), flags))


# ---- building

def make(*arguments):
    r = subprocess.run(["make", "-s", f"-j{os.cpu_count() or 2}", "-C", TOP, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode:
        raise RuntimeError(f"make {' '.join(arguments)}: {r.stdout[-4000:]}")


def build_tools():
    os.makedirs(TOOLS, exist_ok=True)
    for name, flags in (("record", []), ("fault", []), ("mutant_early.o", ["-c", "-DEARLY"]), ("mutant_dirs.o", ["-c", "-DDIRS"])):
        source = f"{HERE}/{name.split('_')[0].split('.')[0]}.c"
        subprocess.run(["cc", "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", *flags, "-o", f"{TOOLS}/{name}", source], check=True)


def build(name, mutant=None, segment=SEGMENT):
    """Install below ROOTS/name and leave a spool and settings as a cell wants them; returns the root."""
    root = f"{ROOTS}/{name}"
    shutil.rmtree(root, ignore_errors=True)
    for path in (ROOTS, root, f"{root}/mail", f"{root}/log", f"{root}/fuse"):
        os.makedirs(path, exist_ok=True)
        os.chmod(path, 0o755)
    options = [f"ROOT={root}", f"VARIANT=crash{segment >> 10}", f"CFLAGS=-DMSGLOG_SEGMENT_SIZE={segment}u"]
    if mutant:
        options.append(f"LDFLAGS=-Wl,--wrap={MUTANTS[mutant][0]} {TOOLS}/mutant_{mutant}.o")
    make("install", *options)
    ensure_account(ACCOUNT)
    me = pwd.getpwnam(ACCOUNT)
    users = [f"={box}@{DOMAIN}:{ACCOUNT}:{me.pw_uid}:{me.pw_gid}:{root}/mail/{box}:::" for box in MAILBOXES]
    for key, value in {**SETTINGS, "users": "\n".join(users)}.items():
        with open(f"{root}/etc/tappal/{key}", "w") as f:
            f.write(value + "\n")
    copy_tree(f"{root}/var/spool/tappal", f"{root}/spool")
    return root


def copy_tree(source, target):
    """Directories, fifos and the lock file, with owners and modes; no mail."""
    for at, directories, files in os.walk(source):
        for path in [at] + [f"{at}/{name}" for name in files]:
            st, to = os.lstat(path), target + path[len(source):]
            if stat.S_ISDIR(st.st_mode):
                os.makedirs(to, exist_ok=True)
            elif stat.S_ISFIFO(st.st_mode):
                os.mkfifo(to)
            else:
                os.close(os.open(to, os.O_CREAT | os.O_WRONLY, 0o600))
            os.chown(to, st.st_uid, st.st_gid)
            os.chmod(to, stat.S_IMODE(st.st_mode))


def lock():
    """One crash test at a time on a machine; the descriptor holds it."""
    os.makedirs(ROOTS, exist_ok=True)
    fd = os.open(f"{ROOTS}/crash.lock", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        sys.exit("another crash test runs on this machine")
    return fd


# ---- a function in a cell

class Run:
    """A child that runs function(argument) with everything its own. poll() until it has ended; then `result`, or `error`."""

    def __init__(self, function, argument, seconds):
        self.argument, self.result, self.error, self.octets = argument, None, None, b""
        self.deadline = time.monotonic() + seconds
        r, w = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(r)
            enter(function, argument, w)
        os.close(w)
        os.set_blocking(r, False)
        self.fd = r

    def poll(self):
        """True when it has ended."""
        try:
            while got := os.read(self.fd, 65536):
                self.octets += got
        except BlockingIOError:
            if time.monotonic() < self.deadline:
                return False
            os.kill(self.pid, signal.SIGKILL)
            self.error = "took too long"
        os.close(self.fd)
        os.waitpid(self.pid, 0)
        if self.error is None:
            answer = json.loads(self.octets or '{"error": "died"}')
            self.result, self.error = answer.get("result"), answer.get("error")
        return True


def enter(function, argument, w):
    """The middle process: makes the namespaces, and its one child is their first process."""
    try:
        os.setsid()
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        call("unshare", libc.unshare(CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC))
        pid = os.fork()
        if pid == 0:
            libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            first_process(function, argument, w)
        os.close(w)
        os.waitpid(pid, 0)
    finally:
        os._exit(0)


def make_private():
    """Our mounts are seen by nobody else. In a chroot "/" is no mount, whose kind could be changed; so it becomes one, on a place that is."""
    try:
        mount("none", "/", None, MS_REC | MS_PRIVATE)
    except OSError:
        mount("none", "/proc", None, MS_REC | MS_PRIVATE)
        mount("tmpfs", "/proc", "tmpfs")
        os.mkdir("/proc/root")
        mount("/", "/proc/root", None, MS_BIND | MS_REC)
        mount("none", "/proc/root", None, MS_REC | MS_PRIVATE)
        os.chroot("/proc/root")
        os.chdir("/")


def first_process(function, argument, w):
    try:
        make_private()
        mount("proc", "/proc", "proc")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        answer = {"result": function(argument)}
    except BaseException:
        answer = {"error": traceback.format_exc()}
    data = json.dumps(answer).encode()
    while data:
        data = data[os.write(w, data):]
    os._exit(0)


def obstacle(function, argument, seconds=60):
    """None, or why function(argument) does not work in a cell here."""
    run = Run(function, argument, seconds)
    while not run.poll():
        time.sleep(0.02)
    return run.error.strip().splitlines()[-1] if run.error else None


def try_tracing(_):
    mount("tmpfs", f"{ROOTS}", "tmpfs", 0, "size=1M")
    program = os.path.realpath("/bin/true")
    subprocess.run([f"{TOOLS}/fault", "-x", program, "-o", f"{ROOTS}/trace", program], check=True, stderr=subprocess.DEVNULL)
    if os.path.getsize(f"{ROOTS}/trace") == 0:
        raise RuntimeError("ptrace shows no system calls")


def try_recording(spec):
    """Two disks, mounted, written to, and let go."""
    images = [f"{spec['at']}/try{i}" for i in range(2)]
    with Cell(spec["root"]) as cell:
        try:
            cell.make_images(images, (24, 24))
            cell.record(images, f"{spec['at']}/try")
            cell.mark("A try")
            cell.end_record()
        finally:
            for path in (*images, f"{spec['at']}/try"):
                if os.path.exists(path):
                    os.unlink(path)


def run_all(function, arguments, jobs, seconds, done):
    """Each argument in a cell of its own, `jobs` at a time; done(run) as they end, which may return one more argument."""
    waiting, running = list(arguments), []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Run(function, waiting.pop(0), seconds))
        time.sleep(0.01)
        for run in [r for r in running if r.poll()]:
            running.remove(run)
            more = done(run)
            if more is not None:
                waiting.append(more)


# ---- disks

def make_image(path, megabytes):
    with open(path, "wb") as f:
        f.truncate(megabytes << 20)
    now = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"
    subprocess.run(["mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0", "-N", "2000", "-J", "size=4", "-E", now, path], check=True)


class Cell:
    def __init__(self, root):
        self.root = root
        self.spool, self.mail, self.libexec, self.bin = f"{root}/var/spool/tappal", f"{root}/mail", f"{root}/usr/libexec/tappal", f"{root}/usr/bin"
        self.running, self.deaths, self.going = {}, [], False
        self.wrapped = {}    # daemon or command: what stands before it at its first start, its second, ...
        self.lock = threading.RLock()
        self.recorder = None

    # ---- disks
    def fresh_memory(self):
        """Spool and Maildirs in memory: for programs that are killed while the machine lives on."""
        for place in (self.spool, self.mail, f"{self.root}/log"):
            mount("tmpfs", place, "tmpfs", 0, "size=64M,mode=755")
        copy_tree(f"{self.root}/spool", self.spool)

    def fresh_logs(self):
        mount("tmpfs", f"{self.root}/log", "tmpfs", 0, "size=64M,mode=755")

    def make_images(self, images, megabytes):
        """An ext4 for the spool and one for the Maildirs, with the empty spool in the first."""
        for path, size, place in zip(images, megabytes, (self.spool, self.mail)):
            make_image(path, size)
            self.mount_image(path, place)
            if place == self.spool:
                copy_tree(f"{self.root}/spool", place)
            os.chmod(place, 0o755)
            unmount(place)

    def mount_image(self, path, place):
        for tries in range(50):   # another cell may take the same loop device first
            r = subprocess.run(["mount", "-t", "ext4", "-o", "loop", path, place], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            if r.returncode == 0:
                return
            time.sleep(0.02)
        raise RuntimeError(f"cannot mount {path}: {r.stderr}")

    def record(self, images, log):
        """Mount spool and Maildirs on images whose every write goes into `log`."""
        at = f"{self.root}/fuse"
        self.recorder = subprocess.Popen([f"{TOOLS}/record", log, at, *images])
        end = time.monotonic() + 10
        while not os.path.exists(f"{at}/mark"):
            if time.monotonic() > end:
                raise RuntimeError("record does not start")
            time.sleep(0.01)
        for i, place in enumerate((self.spool, self.mail)):
            self.mount_image(f"{at}/disk{i}", place)
        self.mark_fd = os.open(f"{at}/mark", os.O_WRONLY)

    def mark(self, text):
        """What the world was told, in the order of the disks' writes."""
        if self.recorder:
            os.write(self.mark_fd, text.encode())

    def end_record(self):
        os.close(self.mark_fd)
        for place in (self.spool, self.mail):
            unmount(place)
        for tries in range(100):   # the loop devices let go of their files a moment later
            try:
                unmount(f"{self.root}/fuse")
                break
            except OSError:
                time.sleep(0.05)
        self.recorder.wait(20)
        self.recorder = None

    # ---- daemons
    def argv(self, name):
        return [f"{self.libexec}/{DAEMONS[name][0]}", *DAEMONS[name][1:]]

    def start_one(self, name):
        with open(f"{self.root}/log/{name}", "ab") as log:
            wrap = self.wrapped[name].pop(0) if self.wrapped.get(name) else []
            self.running[name] = subprocess.Popen([*wrap, *self.argv(name)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

    def start(self, *names):
        """The daemons, each started anew whenever it ends."""
        for name in names or DAEMONS:
            self.start_one(name)
        if not self.going:
            self.going = True
            self.supervisor = threading.Thread(target=self.supervise, daemon=True)
            self.supervisor.start()

    def wait_ready(self, seconds=20):
        if "queued" in self.running:
            self.wait_reader("intake", seconds)
        self.wait_sessions(seconds)
        if "smtpd" in self.running and not wait_for_port(ADDRESS, PORT, seconds, b"220"):
            raise RuntimeError("smtpd does not answer: " + self.log()[-3000:])

    def wait_sessions(self, seconds):
        """Until the queued of now has heard from both spawns; asking their fifos would disturb them."""
        end = time.monotonic() + seconds
        for channel in ("local", "remote"):
            while f"spawn-{channel}" in self.running and time.monotonic() < end:
                if f"spawn {channel} is ready" in self.log().rpartition("queue manager started")[2]:
                    break
                time.sleep(0.02)

    def wait_reader(self, fifo, seconds):
        end = time.monotonic() + seconds
        while True:
            try:
                os.close(os.open(f"{self.spool}/fifo/{fifo}", os.O_WRONLY | os.O_NONBLOCK))
                return
            except OSError:
                if time.monotonic() > end:
                    raise RuntimeError(f"nobody reads fifo/{fifo}: " + self.log()[-3000:])
                time.sleep(0.005)

    def supervise(self):
        while self.going:
            time.sleep(0.02)
            with self.lock:
                if not self.going:
                    return
                for name, process in list(self.running.items()):
                    if process.poll() is not None:
                        self.deaths.append((name, process.returncode))
                        time.sleep(0.03)
                        self.start_one(name)

    def kill(self, name, number=signal.SIGKILL):
        with self.lock:
            self.running[name].send_signal(number)

    def restart(self, name):
        """In order, as an operator does. True: it ended well."""
        with self.lock:
            process = self.running[name]
            end(process)
            self.start_one(name)
            return process.returncode == 0

    def without(self, name, act):
        """Stop a daemon in order, act() while it is away, start it."""
        with self.lock:
            end(self.running[name])
            act()
            self.start_one(name)

    def stop(self, *names):
        """TERM in the order in which mail flows; returns what did not end by itself with 0, as leaks of their kind."""
        bad = []
        with self.lock:
            if not names:
                self.going = False
            for name in names or ("smtpd", "bounce", "spawn-local", "spawn-remote", "queued"):
                process = self.running.pop(name, None)
                if process is not None and not end(process):
                    bad.append(f"{name} does not end on TERM")
        return bad

    # ---- looking
    def log(self):
        """queued's comes last."""
        text = ""
        for name in reversed(DAEMONS):
            try:
                text += open(f"{self.root}/log/{name}", errors="replace").read()
            except OSError:
                pass
        return text

    def tappal(self, *arguments, wrap=()):
        """Ended, as by a person, when it has waited for an answer for too long."""
        process = subprocess.Popen([*wrap, f"{self.bin}/tappal", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True)
        try:
            out, error = process.communicate(timeout=10)
        except subprocess.TimeoutExpired:
            process.terminate()
            out, error = process.communicate(timeout=10)
        return subprocess.CompletedProcess(process.args, process.returncode, out, error)

    def queue(self):
        r = self.tappal("queue", "list", "--json")
        if r.returncode not in (0, 1):
            raise RuntimeError(f"tappal queue list: {r.returncode} {r.stderr}")
        return [json.loads(line) for line in r.stdout.splitlines()]

    def check(self, when, spared=()):
        """What `tappal queue check` finds but for the spared kinds, as sentences; it may not be at a loss, either."""
        r = self.tappal("queue", "check", "--json")
        if r.returncode not in (0, 2) or '"summary"' not in r.stdout:
            return [f"{when}: queue check ends with {r.returncode}: {r.stderr[-300:]}"]
        findings = [json.loads(line) for line in r.stdout.splitlines()]
        return [f"{when}: {f['kind']} {f.get('file', '')}: {f['text']}" for f in findings if f["kind"] not in ("note", "summary", *spared)]

    def maildir(self, box):
        """(name, octets) of all messages of a mailbox."""
        out = []
        for folder in ("new", "cur"):
            at = f"{self.mail}/{box}/Maildir/{folder}"
            for name in sorted(os.listdir(at)) if os.path.isdir(at) else []:
                with open(f"{at}/{name}", "rb") as f:
                    out.append((name, f.read()))
        return out

    def maildir_tmp(self):
        out = []
        for box in MAILBOXES:
            at = f"{self.mail}/{box}/Maildir/tmp"
            out += [f"{box}/tmp/{name}" for name in os.listdir(at)] if os.path.isdir(at) else []
        return out

    def processes(self):
        """{pid: (name, state)} of everything in the cell but ourselves and kernel threads."""
        out = {}
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                text = open(f"/proc/{pid}/stat").read()
            except OSError:
                continue
            name, rest = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
            if int(pid) != 1:
                out[int(pid)] = (name, rest[0])
        return out

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.going = False
