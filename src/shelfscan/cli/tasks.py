"""``shelfscan tasks list|add``: counts that the warehouse system asks for, and where a run looks for them."""

from __future__ import annotations

from datetime import datetime, timezone
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from shelfscan.bootstrap import make_wms
from shelfscan.bundle import load_bundle
from shelfscan.cli._console import err, out, print_json, wide
from shelfscan.config import Config, load_config
from shelfscan.errors import BadInput, WmsError
from shelfscan.model.bundle import Bundle
from shelfscan.model.times import from_iso, ns_of
from shelfscan.wms.port import WmsClient
from shelfscan.wms.tasks import CountTask, TaskSource, bins_of, problem_of

app = typer.Typer(help="Counts that the warehouse system asks for.", no_args_is_help=True)
StoreDir = Annotated[Path, typer.Option("--store", help="Store bundle.")]
WmsName = Annotated[str | None, typer.Option("--wms", help="Warehouse system; default: the configuration's.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML configuration.")]


@app.command("list")
def list_(
    store: StoreDir,
    wms: WmsName = None,
    config: ConfigFile = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Open tasks, the most urgent first, with the shelf places they mean."""
    bundle, client = _opened(store, wms, config)
    tasks = _source(client).pull_tasks()
    places = bins_of(tasks, bundle.wms)
    rows: list[dict[str, Any]] = [
        {
            "ref": t.ref,
            "location_code": t.location_code,
            "sku": ", ".join(t.products),
            "due": _iso(t.due_ns),
            "note": t.note,
            "bins": list(places[t.ref]),
            "problem": problem_of(t, bundle.wms),
        }
        for t in tasks
    ]
    if as_json:
        print_json({"wms": client.capabilities().name, "tasks": rows})
        return
    if not rows:
        out.print("the warehouse system asks for no counts")
        return
    table = Table("task", "location", "product", "due", "shelf places", "note", box=None, pad_edge=False, header_style="bold")
    for r in rows:
        said = "; ".join(x for x in (r["note"], r["problem"]) if x)
        bins = " ".join(r["bins"]) or "none"
        table.add_row(r["ref"], r["location_code"], r["sku"] or "all", r["due"] or "any time", bins, said)
    wide().print(table)


@app.command("add")
def add(
    location: Annotated[str, typer.Argument(help="Location of the built-in warehouse system.")],
    store: StoreDir,
    sku: Annotated[str, typer.Option("--sku", help="Only this product; default: all that is kept there.")] = "",
    due: Annotated[str | None, typer.Option("--due", help="When it is needed, such as 2027-01-31T06:00:00+01:00.")] = None,
    note: Annotated[str, typer.Option("--note", help="Why, for who counts.")] = "",
    config: ConfigFile = None,
) -> None:
    """Ask the built-in warehouse system for a count; other systems have screens of their own for it."""
    from shelfscan.adapters.wms_builtin import BuiltinWms

    due_ns = 0
    if due is not None:
        try:
            due_ns = ns_of(from_iso(due))
        except ValueError:
            raise BadInput(f"--due {due!r}: expected an ISO-8601 time with its zone") from None
    _, client = _opened(store, "builtin", config)
    assert isinstance(client, BuiltinWms)
    ref = client.post_task(location, sku, due_ns=due_ns, note=note)
    out.print(f"task {ref}: {location}", highlight=False, soft_wrap=True)


class Tasks(str, Enum):
    """What a run does about counts that the warehouse system asks for."""

    FIRST = "first"
    ONLY = "only"


def asked_for(how: Tasks, bundle: Bundle, config: Config) -> tuple[Config, list[str]]:
    """The configuration with the tasks' aisles first, and the bins to which they limit the run, if any.

    A system that cannot be asked delays no night: only a run for nothing but tasks ends with its error.
    """
    try:
        tasks, bins = asked(bundle, config)
    except WmsError as e:
        if how is Tasks.ONLY:
            raise
        err.print(f"shelfscan: --tasks: not known, so nothing comes first: {e}", highlight=False, markup=False, soft_wrap=True)
        return config, []
    if how is Tasks.ONLY:
        if not bins:
            raise BadInput(f"--tasks only: {len(tasks)} tasks are open, and none means a place of this store")
        return config, bins
    aisles = list(dict.fromkeys(bundle.store.places[b].aisle_id for b in bins))
    first = [*aisles, *(a for a in config.mission.first_aisles if a not in aisles)]
    return config.model_copy(update={"mission": config.mission.model_copy(update={"first_aisles": first})}), []


def asked(bundle: Bundle, config: Config) -> tuple[list[CountTask], list[str]]:
    """Open tasks of the configured system, and the shelf places they mean, the most urgent first.

    Raises `BadInput` when that system asks for no counts, `WmsError` when it cannot be asked now.
    """
    client = _client(bundle, config)
    tasks = list(_source(client).pull_tasks())
    places = bins_of(tasks, bundle.wms)
    return tasks, list(dict.fromkeys(b for t in tasks for b in places[t.ref] if b in bundle.store.places))


def _opened(store: Path, wms: str | None, config_file: Path | None) -> tuple[Bundle, WmsClient]:
    over: dict[str, Any] = {} if wms is None else {"wms.name": wms}
    bundle = load_bundle(store)
    return bundle, _client(bundle, load_config(config_file, over))


def _client(bundle: Bundle, config: Config) -> WmsClient:
    if config.wms.name == "builtin" and config.wms.path is None:
        raise BadInput("wms.path: is not set, and the built-in warehouse system then starts anew with each run; name a file")
    client = make_wms(bundle, Path(), config)
    if client is None:
        raise BadInput("wms.name: is none; name a warehouse system")
    return client


def _source(client: WmsClient) -> TaskSource:
    if not isinstance(client, TaskSource):
        raise BadInput(f"{client.capabilities().name}: this warehouse system's adapter knows no count tasks")
    return client


def _iso(stamp_ns: int) -> str:
    return datetime.fromtimestamp(stamp_ns / 1e9, timezone.utc).isoformat(timespec="minutes") if stamp_ns else ""
