"""``shelfscan bench``: how fast this machine turns captures into stock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shelfscan.cli._console import out, print_json, progress


def bench(
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000, help="How often each capture is processed.")] = 3,
    store: Annotated[Path | None, typer.Option("--store", help="Simulated store; the demo store by default.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML configuration.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Times of the processing by stage, on rendered captures; the simulator's own time is not in them."""
    from shelfscan.config import load_config
    from shelfscan.evaluation.speed import measure_speed
    from shelfscan.paths import shared_file

    settings = load_config(config)
    where = store or shared_file("maps", "demo")
    with progress("measuring") as report:
        result = measure_speed(where, settings, repeats, report)
    if as_json:
        print_json(result)
        return
    table = Table(title=f"{result['machine']}; {result['viewpoints']} viewpoints, medians of {repeats} repeats")
    table.add_column("measure")
    table.add_column("value", justify="right")
    for name, value in result.items():
        if name == "stages":
            for stage, ms in value.items():
                table.add_row(f"stage {stage}, ms a viewpoint", f"{ms:g}")
        elif name != "machine":
            table.add_row(name, "-" if value is None else f"{value:,}" if isinstance(value, int) else str(value))
    out.print(table)
