"""What all commands share: where output goes, and how errors end."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

#: Results go to stdout, everything else to stderr, so that ``--json`` output can be piped.
out = Console()
err = Console(stderr=True)
#: Width of tables that go into a file or pipe: as wide as reasons need.
PIPE_COLUMNS = 200
#: Seconds between two lines of progress that differ in numbers alone, where there is no terminal.
PLAIN_S = 10.0


def wide() -> Console:
    """Stdout for tables: as wide as the terminal; into a file or pipe `PIPE_COLUMNS`, unless COLUMNS says otherwise."""
    return out if out.is_terminal or "COLUMNS" in os.environ else Console(width=PIPE_COLUMNS)


def print_json(data: Any) -> None:
    """Exactly one JSON document on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def progress(title: str) -> Iterator[Callable[[str, float], None]]:
    """A progress line on stderr; call it with (what, done in 0..1).

    Without a terminal it prints a line for each new step: another text, numbers aside, or another tenth; and every `PLAIN_S`
    seconds while only numbers change, so that a log of a thousand pictures stays short.
    """
    if not err.is_terminal:
        said, printed_s = ("", -1), 0.0

        def plain(what: str, done: float) -> None:
            nonlocal said, printed_s
            step, now_s = (re.sub(r"\d+", "", what), int(done * 10)), time.monotonic()
            if step != said or now_s - printed_s >= PLAIN_S:
                said, printed_s = step, now_s
                err.print(f"{title}: {what} {step[1] * 10} %", highlight=False, markup=False)

        yield plain
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda what, done: bar.update(task, description=f"{title}: {what}", completed=done)
