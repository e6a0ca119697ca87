"""``shelfscan models list|rollback|verify``: which weights there are, which are used, and going back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from shelfscan.cli._console import err, out, print_json
from shelfscan.errors import BadInput

if TYPE_CHECKING:
    from shelfscan.adapters.models import ModelEntry

app = typer.Typer(help="Weights: what is there, what is used, and going back.", no_args_is_help=True)

Models = Annotated[
    Path | None, typer.Option("--models", help="Folder of your own models; by default models.folder of the configuration.")
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def _site(models: Path | None, config: Path | None) -> Path | None:
    from shelfscan.config import load_config

    site = models or load_config(config).models.folder
    if site is not None and not (site / "manifest.json").is_file():
        raise BadInput(f"{site}: no folder of models: no manifest.json there")
    return site


@app.command("list")
def list_models(models: Models = None, config: ConfigFile = None, as_json: Json = False) -> None:
    """Every version, the shipped ones first."""
    from shelfscan.adapters.model_store import SHORT, versions

    found = versions(_site(models, config))
    if as_json:
        print_json([{"used": v.used, "shipped": v.shipped, "folder": str(v.folder), **v.entry.to_json()} for v in found])
        return
    table = Table()
    for column in ("model", "version", "used", "from", "made", "measured"):
        table.add_column(column)
    for v in found:
        source = "shipped" if v.shipped else v.entry.data
        table.add_row(v.name, v.sha256[:SHORT], "yes" if v.used else "", source, v.entry.made[:10], _measured(v.entry))
    out.print(table)


def _measured(entry: ModelEntry) -> str:
    """What a training measured of a version on its held-out pictures; empty for shipped ones, whose cards say more."""
    from shelfscan.adapters.model_store import HELD_OUT

    metric = entry.metrics.get(HELD_OUT)
    new = metric.values.get("new") if metric is not None else None
    if metric is None or not isinstance(new, dict):
        return ""
    words = {"ap": "AP", "ap50": "AP50", "top1": "top-1"}
    return f"{', '.join(f'{words[k]} {new[k]:.3f}' for k in words if k in new)} on {metric.data}"


@app.command()
def rollback(
    name: Annotated[str, typer.Argument(help="Which model, such as detector.")],
    to: Annotated[str | None, typer.Option("--to", help="First letters of a version, or 'shipped'.")] = None,
    models: Models = None,
    config: ConfigFile = None,
    as_json: Json = False,
) -> None:
    """Use the version before the one in use (or any other); no version is deleted."""
    from shelfscan.adapters.model_store import SHORT, roll_back

    site = _site(models, config)
    if site is None:
        raise BadInput("models rollback: no folder of your own models; give --models or set models.folder in the configuration")
    now = roll_back(site, name, to)
    if as_json:
        print_json({"name": name, "sha256": now.sha256, "shipped": now.shipped, "file": str(now.folder / now.entry.file)})
        return
    out.print(f"{name}: in use is {'the shipped ' if now.shipped else ''}{now.sha256[:SHORT]}", highlight=False, markup=False)


@app.command()
def verify(models: Models = None, config: ConfigFile = None, as_json: Json = False) -> None:
    """Check every version's file, checksum, card and shapes; exit 1 when one is not what its manifest says."""
    from shelfscan.adapters.model_store import faults, versions

    found = versions(_site(models, config))
    wrong = {f"{v.name} {v.sha256}": faults(v) for v in found}
    problems = [p for lines in wrong.values() for p in lines]
    if as_json:
        print_json({"versions": len(found), "problems": problems})
    else:
        for problem in problems:
            err.print(f"shelfscan: {problem}", highlight=False, markup=False, soft_wrap=True)
        good = sum(not lines for lines in wrong.values())
        out.print(f"{good} of {len(found)} versions are what their manifest says", highlight=False, markup=False)
    if problems:
        raise typer.Exit(1)
