"""``shelfscan ledger``: where a run's events are, and taking them to a server or back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shelfscan.adapters.ledger_copy import contents, to_file, to_server
from shelfscan.adapters.ledger_place import LedgerPlace, ledger_file
from shelfscan.cli._console import out, print_json
from shelfscan.config import load_config

app = typer.Typer(help="The ledger of a run: where it is, and moving it to a server or back.", no_args_is_help=True)
RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.command("show")
def show(run_dir: RunDir, as_json: AsJson = False) -> None:
    """Where a run's ledger is, how many events it has, and their digest, which is the same on a server and in a file."""
    found = contents(run_dir)
    _say(run_dir, found.events, found.digest, as_json, "is used")


@app.command("copy")
def copy(
    run_dir: RunDir,
    to: Annotated[str, typer.Option("--to", help="postgresql://user@host:port/database, or the word file.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML configuration: ledger.password, tls, ca, wait_s of the server.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Copy a run's ledger to a server, or back into its file, check it, and use the copy from then on.

    What is copied stays where it is, and is not used any more. Do it when nothing else works with the run.
    """
    if to == "file":
        done = to_file(run_dir)
    else:
        p = load_config(config, {"ledger.url": to}).ledger
        done = to_server(run_dir, LedgerPlace.new(p.url, p.password, p.tls, p.ca, p.wait_s))
    _say(run_dir, done.events, done.digest, as_json, "is used from now on")


def _say(run_dir: Path, events: int, digest: str, as_json: bool, what: str) -> None:
    file = ledger_file(run_dir)
    if as_json:
        print_json({"run": str(run_dir), "ledger": str(file), "events": events, "digest": digest})
        return
    out.print(f"{file} {what}: {events} events, digest {digest}", highlight=False, markup=False, soft_wrap=True)
