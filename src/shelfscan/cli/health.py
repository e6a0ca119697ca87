"""``shelfscan health``: is the robot sick, and what to do about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from shelfscan.adapters.health_file import save_baseline
from shelfscan.adapters.ledger_place import find_ledger, has_ledger
from shelfscan.audit.health import learned
from shelfscan.bootstrap import check_health
from shelfscan.bundle import load_bundle
from shelfscan.cli._console import err, out, print_json
from shelfscan.errors import BadInput
from shelfscan.inputs import expect_writable
from shelfscan.runinfo import read_run_info
from shelfscan.runs import runs_in

app = typer.Typer(help="Is the robot sick? Lenses, camera poses, stereo, light, recognition.", no_args_is_help=True)

#: What to do, step by step; docs/operations.md says the same with pictures.
STEPS = {
    "lens_smear": (
        "switch the robot to maintenance",
        "wipe the lens with a dry microfibre cloth, from the middle outwards",
        "scan one aisle (shelfscan run --aisle A01) and look again: shelfscan health show RUN",
    ),
    "defocus": (
        "clean the lens first: grease looks like a bad focus",
        "check that the lens ring is locked, and set the focus on a board at the standoff",
        "calibrate: shelfscan calibrate intrinsics, then stereo",
    ),
    "camera_turned": (
        "look whether a bracket is loose or something hit the mast; tighten it",
        "check against the board: shelfscan calibrate check robot.yaml PICTURES",
        "if it does not hold: shelfscan calibrate extrinsics",
    ),
    "calibration_drift": (
        "check against the board: shelfscan calibrate check robot.yaml PICTURES",
        "if it does not hold: shelfscan calibrate stereo, then extrinsics",
    ),
    "lamp_out": (
        "go to the place named and look up",
        "have the lamp replaced; scan the aisle again: shelfscan run --aisle AISLE",
    ),
    "new_packaging": (
        "look at the low-confidence products of that aisle in the dashboard",
        "photograph the new packs and enrol them: shelfscan enrol SKU PICTURES --gallery STORE/gallery",
    ),
    "detector_weak": (
        "which weights were used? shelfscan models list; shelfscan doctor",
        "go back to the ones before: shelfscan models rollback detector",
    ),
}


@app.command("show")
def show(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")],
    store: Annotated[
        Path | None, typer.Option("--store", help="Store bundle, when it is no longer where the run had it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """What a run's own numbers say of the robot, and what to do."""
    info = read_run_info(run_dir)
    bundle = load_bundle(store or Path(info.store))
    if not has_ledger(run_dir):
        raise BadInput(f"{run_dir}: no ledger.sqlite or ledger.json there; there is nothing to judge")
    ledger = find_ledger(run_dir)
    try:
        measures, sick = check_health(bundle, ledger, info.mission_id)
    finally:
        ledger.close()
    if as_json:
        found = [{"kind": s.kind, "where": s.where, "text": s.text, "size": round(s.size, 2)} for s in sick]
        print_json({"run": str(run_dir), "sick": found, "measures": measures, "steps": {s.kind: STEPS[s.kind] for s in sick}})
        return
    if not measures:
        raise BadInput(f"{run_dir}: too few captures to judge")
    if not sick:
        out.print(f"{run_dir}: nothing is wrong ({len(measures)} measures)", highlight=False, soft_wrap=True)
        return
    for s in sick:
        out.print(f"{s.kind} ({s.where}): {s.text}", highlight=False, markup=False, soft_wrap=True)
        for n, step in enumerate(STEPS[s.kind], start=1):
            out.print(f"  {n}. {step}", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1)


@app.command("learn")
def learn(
    folder: Annotated[Path, typer.Argument(metavar="RUNS", help="Folder that holds run folders of nights when all was well.")],
    store: Annotated[Path, typer.Option("--store", help="Store bundle; the baseline goes to its health.json.")],
    out_file: Annotated[Path | None, typer.Option("--out", help="Another file for the baseline.")] = None,
    runs: Annotated[list[str] | None, typer.Option("--run", help="Only this run; may be given more than once.")] = None,
) -> None:
    """Learn from healthy nights (three at least) what this robot measures in this store."""
    bundle = load_bundle(store)
    target = out_file or store / "health.json"
    expect_writable(target)
    found = runs_in(folder, bundle.store.site)
    unknown = sorted(set(runs or ()) - {r.path.name for r in found})
    if unknown:
        raise BadInput([f"--run: {folder} has no run {name!r} of store {bundle.store.site!r}" for name in unknown])
    nights = []
    for run in (r for r in found if not runs or r.path.name in runs):
        try:
            nights.append(json.loads((run.path / "health.json").read_text(encoding="utf-8"))["measures"])
        except (OSError, ValueError, KeyError, TypeError):
            err.print(f"shelfscan: {run.path}: has no health.json; left out", highlight=False, markup=False, soft_wrap=True)
    if len(nights) < 3:
        raise BadInput(f"{folder}: {len(nights)} nights of store {bundle.store.site!r}; expected three at least")
    baseline = learned(nights)
    save_baseline(target, baseline, {"runs": [r.path.name for r in found], "site": bundle.store.site})
    table = Table("measure", "usual", "deviation")
    for name, (mean, deviation) in baseline.usual.items():
        if ".cell_" not in name:
            table.add_row(name, f"{mean:.4f}", f"{deviation:.4f}")
    out.print(table)
    out.print(f"{target}: learned from {len(nights)} nights", highlight=False, soft_wrap=True)
