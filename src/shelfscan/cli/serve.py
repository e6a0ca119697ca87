"""``shelfscan serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shelfscan.cli._console import err
from shelfscan.runinfo import read_run_info


def serve(
    run: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="Run folder; the newest of --runs-dir when none is named.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: 8000 or the next free one.")] = 0,
    host: Annotated[str, typer.Option(help="Address to listen on; there is no password.")] = "127.0.0.1",
    runs_dir: Annotated[Path, typer.Option(help="Folder of run folders.")] = Path("runs"),
    store: Annotated[Path | None, typer.Option(help="Store bundle, when it is not where the run says.")] = None,
) -> None:
    """Show a run in the browser, live while it is going on, until Ctrl-C."""
    from shelfscan.errors import BadInput
    from shelfscan.web import server
    from shelfscan.web.runs import runs_of

    if run is not None:
        read_run_info(run)
    if store is not None and not (store / "store.yaml").is_file():
        raise BadInput(f"{store}: no such store bundle (no store.yaml)")
    if run is None and runs_dir.exists() and not runs_dir.is_dir():
        raise BadInput(f"{runs_dir}: a file; expected a folder of run folders")
    sock = server.listen(host, port)
    runs = runs_of(run, runs_dir, store)
    shown = runs.current() or f"no run in {runs_dir} yet; the first one will be shown"
    err.print(f"{server.url_of(sock)}  ({shown}; Ctrl-C ends)", highlight=False, markup=False, soft_wrap=True)
    server.serve(runs, sock, host)
