"""The programs of the tree, built for a root that is compiled into them.

VARIANT=asan in the environment builds them with both sanitizers: `make sanitized` runs the suites so.
"""
import atexit
import collections
import os
import shutil
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
ROOTS = os.environ.get("TAPPAL_TEST_ROOTS", "/var/tmp/tappal-tests")
VARIANT = os.environ.get("VARIANT", "plain")
# Programs that clear their environment have them, too. Nobody may look into an undumpable process for leaks; a damaged LMDB file is a SIGBUS that
# guard tries out in a child.
SANITIZERS_TOLD = 'const char *__asan_default_options(void);\nconst char *__asan_default_options(void) { return "detect_leaks=0:handle_sigbus=0"; }\n'


def make(*arguments):
    """make with our variant; its output is in the exception when it fails."""
    r = subprocess.run(["make", "-s", "-C", TOP, f"VARIANT={VARIANT}", *arguments, *linked()], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if r.returncode:
        raise RuntimeError(f"make {' '.join(arguments)}: {r.stdout[-4000:]}")


def linked():
    if VARIANT != "asan":
        return []
    path = f"{TOP}/build/asan/sanitizers_told"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if not os.path.exists(f"{path}.o"):
        subprocess.run(["cc", "-x", "c", "-c", "-", "-o", f"{path}.{os.getpid()}"], input=SANITIZERS_TOLD, text=True, check=True)
        os.rename(f"{path}.{os.getpid()}", f"{path}.o")
    return [f"LDFLAGS={path}.o"]


BUILT = collections.defaultdict(set)   # by folder: what this process has built there for a root, which comes again with each test of a file


@atexit.register
def forget_programs():
    for build in BUILT:
        shutil.rmtree(f"{TOP}/{build}", ignore_errors=True)


def put_programs(root, programs, into):
    """Builds PROGRAMS ("queue/queued") for ROOT, once, and copies them into a folder, where anybody may run them. Their log reader is at ROOT/dev/log."""
    build = f"build/{VARIANT}/bin" + root.replace("/", "-")
    missing = [program for program in programs if program not in BUILT[build]]
    if missing:
        make(f"ROOT={root}", f"SYSLOG={root}/dev/log", *[f"{build}/{program}" for program in missing])
        BUILT[build].update(missing)
    for program in programs:
        target = shutil.copy(f"{TOP}/{build}/{program}", into)
        os.chmod(target, 0o755)
