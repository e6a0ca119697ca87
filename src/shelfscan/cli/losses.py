"""``shelfscan losses``: where units go that the books know nothing of, over the nights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shelfscan.adapters.ledger_place import find_ledger, has_ledger
from shelfscan.cli._console import out, print_json, progress, wide
from shelfscan.errors import BadInput
from shelfscan.model.times import from_iso
from shelfscan.runs import Run, read_map, runs_in
from shelfscan.wms import outbox
from shelfscan.wms.losses import Night
from shelfscan.wms.losses import losses as losses_of


def losses(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder that holds the nights' run folders.")],
    wms: Annotated[str, typer.Option("--wms", help="Warehouse system whose syncs count.")] = "builtin",
    site: Annotated[str, typer.Option("--site", help="Only runs of this store.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Shrinkage over nights: what disappears from which place, the most valuable first."""
    runs = [r for r in runs_in(folder, site) if r.ended and has_ledger(r.path)]
    sites = sorted({r.info.site for r in runs})
    if len(sites) > 1:
        raise BadInput(f"{folder}: holds runs of {', '.join(sites)}; name one with --site")
    nights = []
    with progress("reading nights") as report:
        for n, run in enumerate(runs):
            report(run.path.name, n / len(runs))
            night = _night(run, wms)
            nights += [night] if night else []
    if not nights:
        raise BadInput(f"{folder}: no run was synced with {wms} to the end")
    found = losses_of(nights)
    if as_json:
        print_json({"wms": wms, "nights": len(nights), "losses": [asdict(x) for x in found]})
        return
    table = Table(
        "location", "product", "units gone", "worth", "on", "a week", "last", box=None, pad_edge=False, header_style="bold"
    )
    for x in found[:40]:
        often = f"{x.times} of {x.nights} nights"
        week = "" if x.per_week is None else f"{x.per_week:g}"
        table.add_row(x.location_code, f"{x.name} ({x.sku})", f"{x.units:g}", f"{x.value:.2f}", often, week, x.last_at[:16])
    wide().print(table)
    text = f"{len(nights)} nights: {len(found)} places lost {sum(x.units for x in found):g} units"
    text += f", worth {sum(x.value for x in found):.2f}, that the books know nothing of"
    out.print(text + ("; the first 40 are shown" if len(found) > 40 else ""), highlight=False, soft_wrap=True)


def _night(run: Run, wms: str) -> Night | None:
    """The newest complete sync of a run."""
    ledger = find_ledger(run.path)
    try:
        told = outbox.reports(ledger.read(kinds=(outbox.REPORT,)), run.info.mission_id, wms)
    finally:
        ledger.close()
    done = [r for r in told if r["state"] == "done"]
    return Night(from_iso(read_map(run.path).created_at), done[-1]["lines"]) if done else None
