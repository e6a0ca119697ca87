"""``shelfscan models list|rollback|verify``: which weights there are, which are used, and going back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shelfscan.cli._console import err, out, print_json
from shelfscan.errors import BadInput

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
        print_json([{"used": v.used, "shipped": v.shipped, "folder": str(v.folder), **v.entry} for v in found])
        return
    table = Table()
    for column in ("model", "version", "used", "from", "made", "measured"):
        table.add_column(column)
    for v in found:
        source = "shipped" if v.shipped else str(v.entry.get("data", ""))
        made = str(v.entry.get("made", ""))[:10]
        table.add_row(v.name, v.sha256[:SHORT], "yes" if v.used else "", source, made, _measured(v.entry))
    out.print(table)


def _measured(entry: dict[str, Any]) -> str:
    new = entry.get("metrics", {}).get("new", {}) if isinstance(entry.get("metrics"), dict) else {}
    if "ap" in new:
        return f"AP {new['ap']:.3f}, AP50 {new['ap50']:.3f} on {entry['metrics'].get('held_out_pictures')} held out"
    if "top1" in new:
        return f"top-1 {new['top1']:.3f} on {entry['metrics'].get('held_out_pictures')} held out"
    return ""


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
        print_json({"name": name, "sha256": now.sha256, "shipped": now.shipped, "file": str(now.folder / now.entry["file"])})
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
