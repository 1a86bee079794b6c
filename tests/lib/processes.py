"""The end of programs that a test has started."""
import subprocess

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
