"""``shelfscan export epcis``: a run's counts to who takes note of them."""

from __future__ import annotations

import getpass
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from shelfscan.cli._console import print_json
from shelfscan.cli.wms import AsJson, ConfigFile, RunDir, StoreDir, open_run, show
from shelfscan.errors import BadInput
from shelfscan.wms.observe import ZERO
from shelfscan.wms.rules import Decision
from shelfscan.wms.sync import decide

app = typer.Typer(help="A run's counts for other systems.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keeps ``epcis`` a word of its own while it is the only one."""


@app.command("epcis")
def epcis(
    run_dir: RunDir,
    folder: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="One JSON file a document.")] = None,
    http: Annotated[str | None, typer.Option("--http", metavar="URL", help="An EPCIS 2.0 repository.")] = None,
    mqtt: Annotated[str | None, typer.Option("--mqtt", metavar="HOST[:PORT]/TOPIC", help="A broker's topic.")] = None,
    zeros: Annotated[bool, typer.Option("--zeros", help="You confirm that what was seen empty is empty.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="Show every line.")] = False,
    store: StoreDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Send every count that is sure enough as EPCIS 2.0; again is safe. Without a destination: the configuration's."""
    run = open_run(run_dir, "epcis", store, config, auto_post=True, overrides=_destination(folder, http, mqtt))
    try:
        report = run.sync(dry_run=dry_run or zeros)
        if zeros and not dry_run:
            who = getpass.getuser()
            for line in report.lines:
                if line.outcome == "held" and line.reason == ZERO:  # other doubts are for a look at each
                    decision = Decision(line.line_id, True, who, "export --zeros", time.time_ns(), 0, 0.0)
                    decide(run.ledger, run.stock_map.mission_id, run.wms, decision)
            report = run.sync()
    finally:
        run.ledger.close()
    if as_json:
        print_json(report.to_json())
        if not report.ok:
            typer.echo(f"shelfscan: {report.text}", err=True)
    else:
        # Decisions belong to a destination, and a review knows the configuration's only.
        show(
            run_dir,
            report,
            everything,
            "--zeros, or with the destination in a configuration: shelfscan review list --wms epcis",
        )
    if not report.ok:
        raise typer.Exit(1)


def _destination(folder: Path | None, http: str | None, mqtt: str | None) -> dict[str, Any]:
    if sum(x is not None for x in (folder, http, mqtt)) > 1:
        raise BadInput("--out, --http, --mqtt: name one destination")
    if folder is not None:
        return {"wms.epcis.to": "folder", "wms.epcis.folder": str(folder)}
    if http is not None:
        if not http.startswith(("http://", "https://")):
            raise BadInput(f"--http: {http!r}: expected an address that begins with https:// or http://")
        return {"wms.epcis.to": "http", "wms.epcis.url": http}
    if mqtt is not None:
        where, _, topic = mqtt.partition("/")
        host, _, port = where.partition(":")
        if not host or not topic or not (port or "1").isdigit():
            raise BadInput(f"--mqtt: {mqtt!r}: expected HOST/TOPIC or HOST:PORT/TOPIC")
        return {"wms.epcis.to": "mqtt", "wms.epcis.broker": host, "wms.epcis.topic": topic} | (
            {"wms.epcis.port": int(port)} if port else {}
        )
    return {}
