"""Signals to programs that a test has started, and their end."""
import subprocess
import time

PATIENCE = 120   # seconds until one counts as deaf: smtpd alone may take half a minute for the messages it has in hand


def wait_or_kill(process, seconds=PATIENCE):
    """Until it has ended; kill -9 after `seconds`. Did it end by itself?"""
    try:
        process.wait(seconds)
        return True
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False


def end(process, seconds=PATIENCE):
    """TERM, and the same. One that has ended already is only waited for."""
    process.terminate()
    return wait_or_kill(process, seconds)


def tell(process, number):
    """Send it a signal, and wait until its handler has run: what comes to the program from now on finds it told."""
    process.send_signal(number)
    deadline = time.monotonic() + PATIENCE
    while pends(process.pid):
        assert time.monotonic() < deadline, f"signal {number} is not taken"
        time.sleep(0.01)


def pends(pid):
    with open(f"/proc/{pid}/status") as f:
        return any(int(line.split()[1], 16) for line in f if line.startswith(("SigPnd:", "ShdPnd:")))
