"""One process at a time writes to a warehouse system, and the lock leaves nothing behind."""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from pathlib import Path

import pytest

from shelfscan.adapters.wms_http import local_writer
from shelfscan.errors import WmsTransient

ROUNDS, PROCESSES = 40, 4


def count(system: str, counter: Path) -> None:
    """Add one, again and again, in a way that loses counts when two do it at once."""
    for _ in range(ROUNDS):
        with local_writer(system, busy_s=60.0):
            before = int(counter.read_text())
            time.sleep(0.0005)
            counter.write_text(str(before + 1))


@pytest.fixture
def locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the locks are, of these processes only."""
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_processes_write_one_after_the_other_and_leave_no_file(tmp_path: Path, locks: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    context = multiprocessing.get_context("spawn")
    jobs = [context.Process(target=count, args=(f"test {tmp_path}", counter)) for _ in range(PROCESSES)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(timeout=120)
    assert [job.exitcode for job in jobs] == [0] * PROCESSES
    assert int(counter.read_text()) == ROUNDS * PROCESSES
    assert list(locks.iterdir()) == []


def test_who_waits_too_long_is_told_and_the_holder_keeps_the_right(locks: Path) -> None:
    with local_writer("system"):
        for _ in range(2):
            with pytest.raises(WmsTransient, match="another process is posting counts"), local_writer("system", busy_s=0.2):
                pass
        assert len(list(locks.iterdir())) == 1
    with local_writer("system", busy_s=0.2):
        pass
    assert list(locks.iterdir()) == []
