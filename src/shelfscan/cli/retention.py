"""``shelfscan retention apply``: deletes the pictures of old runs."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated

import typer

from shelfscan.cli._console import out, print_json
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput
from shelfscan.retention import RetentionReport, apply_retention, run_folders
from shelfscan.runinfo import read_run_info

app = typer.Typer(help="Pictures of old runs: recordings and evidence; counts stay.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``apply`` a command of its own."""


@app.command("apply")
def apply(
    runs: Annotated[Path, typer.Option("--runs", help="Folder of run folders, or one run folder.")] = Path("runs"),
    days: Annotated[
        float | None, typer.Option("--days", min=0, help="Instead of privacy.retention_days; counted from the run's start.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML configuration; by default each run's own says how long.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; delete nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Delete recordings and evidence of runs that began longer ago than the setting; map, report and ledger stay."""
    if config is not None and days is None:
        days = load_config(config).privacy.retention_days
        if days is None:
            raise BadInput(f"{config}: privacy.retention_days: not set; give it a number of days, or use --days")
    folders = [(folder, days if days is not None else _own_days(folder)) for folder in run_folders(runs)]
    if folders and all(d is None for _, d in folders):
        raise BadInput(f"{runs}: privacy.retention_days is set in no run's config.yaml; use --days or --config")
    result = apply_retention([(f, d) for f, d in folders if d is not None], datetime.now(timezone.utc), dry_run=dry_run)
    if as_json:
        print_json({"dry_run": dry_run, **result.to_json()})
    else:
        _tell(runs, result, "would be deleted" if dry_run else "deleted")
    if result.problems:
        raise typer.Exit(1)


def _tell(runs: Path, result: RetentionReport, verb: str) -> None:
    lines = [
        f"{r.run_dir}: {r.problem or r.reason or f'{r.files} files, {r.size_bytes / 1e6:.1f} MB {verb}'}" for r in result.runs
    ]
    lines.append(f"{runs}: pictures of {len(result.deleted)} runs {verb}")
    for line in lines:
        out.print(line, highlight=False, markup=False, soft_wrap=True)


def _own_days(run_dir: Path) -> float | None:
    kept = run_dir / "config.yaml"
    return load_config(kept).privacy.retention_days if kept.is_file() else None


def apply_beside(run_dir: Path, config: Config, site: str) -> RetentionReport:
    """Before a new run: the setting, where there is one, is applied to the same store's runs beside it.

    Folders whose ``run.json`` cannot be read are left to ``retention apply``, which says so.
    """
    days = config.privacy.retention_days
    if days is None or not run_dir.parent.is_dir():
        return RetentionReport()
    others = []
    for folder in run_folders(run_dir.parent):
        try:
            read_run_info(folder)
        except BadInput:
            continue
        if folder.resolve() != run_dir.resolve():
            others.append((folder, days))
    return apply_retention(others, datetime.now(timezone.utc), site=site)
