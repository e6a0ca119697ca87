"""What all commands share: where output goes, and how errors end."""

from __future__ import annotations

import json
import os
import sys
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


def wide() -> Console:
    """Stdout for tables: as wide as the terminal; into a file or pipe `PIPE_COLUMNS`, unless COLUMNS says otherwise."""
    return out if out.is_terminal or "COLUMNS" in os.environ else Console(width=PIPE_COLUMNS)


def print_json(data: Any) -> None:
    """Exactly one JSON document on stdout."""
    sys.stdout.write(json.dumps(data, indent=2, default=str) + "\n")
    sys.stdout.flush()


@contextmanager
def progress(title: str) -> Iterator[Callable[[str, float], None]]:
    """A progress line on stderr; call it with (what, done in 0..1). Without a terminal it prints each new step once."""
    if not err.is_terminal:
        said = ""

        def plain(what: str, done: float) -> None:
            nonlocal said
            step = f"{what} {int(done * 10) * 10} %"
            if step != said:
                said = step
                err.print(f"{title}: {step}", highlight=False, markup=False)

        yield plain
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, transient=True) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda what, done: bar.update(task, description=f"{title}: {what}", completed=done)
