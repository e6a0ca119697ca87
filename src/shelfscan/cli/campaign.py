"""``shelfscan campaign``: seeded nights of faults, and what went wrong in them."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer
from rich.table import Table

from shelfscan.cli._console import out, print_json, progress


def campaign(
    kind: Annotated[Literal["nights", "sync"], typer.Option("--kind", help="Missions in the dark, or counts to a WMS.")],
    runs: Annotated[int, typer.Option("--runs", min=1, help="How many nights.")] = 100,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the first night; the others follow.")] = 1,
    wms: Annotated[
        str,
        typer.Option(
            "--wms",
            help="sync: builtin; epcis, epcis-folder, epcis-mqtt, folder, inventree, odoo, sap, webhook (stand-ins); memory; "
            "tryton with --address.",
        ),
    ] = "builtin",
    address: Annotated[
        str, typer.Option("--address", help="sync with tryton: http://user:password@host:port/database of a TEST server.")
    ] = "",
    ledger: Annotated[
        str, typer.Option("--ledger", help="Ledgers in a TEST database, postgresql://user@host:port/database, not in files.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Run seeded nights of random faults and check that nothing is lost, doubled or left without a reason."""
    if kind == "nights":
        from shelfscan.evaluation import nights_campaign
        from shelfscan.evaluation.sync_campaign import ledgers_on

        with progress(f"{runs} nights") as report:
            result = nights_campaign.campaign(runs, seed, report, ledgers_on(ledger, "night") if ledger else None)
        _show(result, as_json)
        if any(result[k] for k in nights_campaign.WRONG):
            raise typer.Exit(1)
        return
    from shelfscan.evaluation.sync_campaign import WRONG, ledgers_on
    from shelfscan.evaluation.sync_campaign import campaign as sync_campaign

    with progress(f"{runs} nights against {wms}") as report:
        result = sync_campaign(wms, runs, seed, report, address, ledgers_on(ledger) if ledger else None)
    _show(result, as_json)
    if any(result[k] for k in WRONG):
        raise typer.Exit(1)


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(result)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("what", "count"):
        table.add_column(title)
    for name, value in result.items():
        table.add_row(name, str(value))
    out.print(table)
