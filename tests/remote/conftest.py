import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from worker import Rooms  # noqa: E402


@pytest.fixture(scope="session")
def built():
    with Rooms("rooms-remote") as rooms:
        yield rooms


@pytest.fixture
def rooms(built):
    """The instance with fresh settings; nothing runs in it."""
    built.reset()
    yield built
    built.stop_resolver()


@pytest.fixture
def worker(rooms):
    with rooms.worker() as w:
        yield w
