"""Progress where there is no terminal: a log says where it is, and stays short."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from shelfscan.cli import _console


def test_a_log_has_a_line_a_step_and_not_one_a_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    log, now_s = io.StringIO(), [0.0]
    monkeypatch.setattr(_console, "err", Console(file=log))
    monkeypatch.setattr(_console.time, "monotonic", lambda: now_s[0])
    with _console.progress("run") as report:
        for n in range(4000):
            now_s[0] = n / 100
            report(f"looking at {n} of 4000 pictures", 0.0)
        report("driving", 0.0)
        report("driving", 0.09)
        report("driving", 0.1)
    lines = log.getvalue().splitlines()
    assert lines == [
        "run: looking at 0 of 4000 pictures 0 %",
        "run: looking at 1000 of 4000 pictures 0 %",
        "run: looking at 2000 of 4000 pictures 0 %",
        "run: looking at 3000 of 4000 pictures 0 %",
        "run: driving 0 %",
        "run: driving 10 %",
    ]
