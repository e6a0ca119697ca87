"""``shelfscan bench``: how fast this machine turns captures into stock."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shelfscan.cli._console import out, print_json, progress
from shelfscan.errors import BadInput

if TYPE_CHECKING:
    from shelfscan.config import Config


def bench(
    repeats: Annotated[int, typer.Option("--repeats", min=1, max=1000, help="How often each capture is processed.")] = 3,
    store: Annotated[Path | None, typer.Option("--store", help="Simulated store; the demo store by default.")] = None,
    config: Annotated[Path | None, typer.Option("--config", help="YAML configuration.")] = None,
    backends: Annotated[bool, typer.Option("--backends", help="Compare the inference backends instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Times of the processing by stage, on rendered captures; the simulator's own time is not in them.

    With --backends: whether every backend that can be used here finds what ONNX Runtime finds in fp32, on the golden pictures
    beside the models, and how long it takes; exit 1 when one is outside the tolerance.
    """
    from shelfscan.config import load_config
    from shelfscan.evaluation.speed import measure_speed
    from shelfscan.paths import shared_file

    settings = load_config(config)
    if backends:
        if store is not None:
            raise BadInput("bench: --store is not for --backends, which looks at the golden pictures beside the models")
        _backends(settings, repeats, as_json)
        return
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


def _backends(settings: Config, repeats: int, as_json: bool) -> None:
    from shelfscan.evaluation.backends import compare_backends

    with progress("comparing") as report:
        result = compare_backends(settings, repeats, report)
    if as_json:
        print_json(result)
    else:
        t = result["tolerance"]
        table = Table(title=f"{result['machine']}; {result['pictures']} pictures against {result['reference'][0]}")
        for column in ("model", "backend", "precision", f"matched (IoU {t['iou']:g})", "worst score", "ms", "", ""):
            table.add_column(column, justify="right" if column in ("ms", "worst score") else "left")
        for r in result["rows"]:
            matched = f"{r['matched']:.2%} of {r['compared']}"
            verdict = "within" if r["within"] else "OUTSIDE"
            numbers = (matched, f"{r['score_worst']:.4f}", f"{r['ms']:g}", verdict)
            table.add_row(r["model"], r["backend"], r["precision"], *numbers, r["note"])
        out.print(table)
        for n in result["not_run"]:
            line = f"not run: {n['model']}, {n['backend']} {n['precision']}: {n['why']}"
            out.print(line, highlight=False, markup=False, soft_wrap=True)
        out.print(f"tolerance: {t['matched']:.0%} matched, scores within {t['score']:g}", highlight=False, markup=False)
    if not result["ok"]:
        raise typer.Exit(1)
