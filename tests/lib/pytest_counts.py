"""Runs Debian's pytest on the given folders and closes with 'N passed, N failed[, N skipped]', errors counted as failures."""
import sys

import pytest


class Counts:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failed += 1
        elif report.skipped:
            self.skipped += 1
            print(f"\nSKIP {report.nodeid}: {report.longrepr[-1] if isinstance(report.longrepr, tuple) else report.longrepr}")
        elif report.when == "call":
            self.passed += 1

    def pytest_collectreport(self, report):
        if report.failed:
            self.failed += 1


counts = Counts()
status = pytest.main(["-q", "--tb=short", "--no-header", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[counts])
if status not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
    counts.failed = max(counts.failed, 1)
print(f"{counts.passed} passed, {counts.failed} failed" + (f", {counts.skipped} skipped" if counts.skipped else ""))
sys.exit(1 if counts.failed else 0)
