"""``shelfscan score``: a run compared with the simulator's truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shelfscan.cli._console import out, print_json


def score_run(run_dir: Path, truth_dir: Path) -> dict[str, Any]:
    """See `shelfscan.sim.score.score_run`."""
    from shelfscan.sim.score import score_run as compare

    return compare(run_dir, truth_dir)


def score(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    truth: Annotated[Path, typer.Option("--truth", help="STORE/truth of the simulated store.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare a run with the truth of a simulated store."""
    result = score_run(run_dir, truth)
    if as_json:
        print_json(result)
        return
    table = Table(title=f"{run_dir} against {truth}")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        if isinstance(value, dict):
            for key, inner in value.items():
                table.add_row(f"{name}.{key}", _show(inner))
        else:
            table.add_row(name, _show(value))
    out.print(table)


def _show(value: Any) -> str:
    if isinstance(value, dict):
        return "  ".join(f"{k} {_show(v)}" for k, v in value.items())
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
