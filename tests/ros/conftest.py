"""What the tests of a session must not leave behind."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from shelfscan.shm import SHM, remove_orphans

_FILE = re.compile(r"^(?:sem\.)?(fastdds_(?:port)?[0-9a-f]+)(?:_(?:el|sl|mutex))?$")


def _names() -> set[str]:
    return {m.group(1) for m in map(_FILE.match, (p.name for p in SHM.iterdir())) if m}


@pytest.fixture(scope="session", autouse=True)
def shared_memory() -> Iterator[None]:
    """Take away what killed processes left, and fail when a segment of 32 MiB was not a killed one's that a test took away."""
    before = _names()
    yield
    left = remove_orphans(_names() - before)
    segments = [n for n in left if "_port" not in n]
    assert not segments, f"processes ended without their shared memory: {segments}"
