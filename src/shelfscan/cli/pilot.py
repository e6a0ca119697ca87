"""``shelfscan pilot plan|score``: a blind recount in the store, and what it says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from shelfscan.adapters.confidence_file import load_confidence, save_confidence
from shelfscan.audit.confidence import shifted, status_key
from shelfscan.bundle import load_bundle
from shelfscan.cli._console import err, out, print_json
from shelfscan.errors import BadInput
from shelfscan.evaluation.pilot import Figures, draw, read_counts, report, write_plan
from shelfscan.inputs import expect_writable, field_problems, read_yaml
from shelfscan.model.bundle import Bundle
from shelfscan.paths import shared_file
from shelfscan.runinfo import read_run_info
from shelfscan.runs import read_map

app = typer.Typer(help="Is it good enough here? A blind recount, and what it says of the whole store.", no_args_is_help=True)

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder.")]
StoreDir = Annotated[Path | None, typer.Option("--store", help="Store bundle, when it is no longer where the run had it.")]


@app.command("plan")
def plan(
    run_dir: RunDir,
    out_file: Annotated[Path, typer.Option("--out", help="List for staff (CSV), without the robot's counts.")],
    count: Annotated[int, typer.Option("--count", min=1, help="How many bins.")] = 300,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another seed draws other bins.")] = 1,
    store: StoreDir = None,
) -> None:
    """Draw bins to recount: by status, confidence and price, so that the rare kinds are there."""
    bundle, stock_map = _open(run_dir, store)
    expect_writable(out_file)
    chosen = draw(stock_map, bundle, count, seed)
    if not chosen:
        raise BadInput(f"{run_dir}: no bin was counted; there is nothing to recount")
    write_plan(out_file, chosen, bundle)
    out.print(f"{out_file}: {len(chosen)} bins to count, in walking order", highlight=False)


@app.command("score")
def score(
    run_dir: RunDir,
    counts_file: Annotated[Path, typer.Argument(metavar="COUNTS", help="The list, with the column 'counted' filled in.")],
    figures_file: Annotated[
        Path | None, typer.Option("--figures", help="YAML: seconds_a_bin, bins_a_night, the store's own.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration", help="Write the confidences as corrected by this recount; STORE/confidence.json is used."
        ),
    ] = None,
    store: StoreDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Compare a recount with a run: accuracy with intervals, calibration, hours saved, and from when posting is safe."""
    bundle, stock_map = _open(run_dir, store)
    if not counts_file.is_file():
        raise BadInput(f"{counts_file}: no such file")
    counts, problems = read_counts(counts_file, stock_map, bundle)
    for problem in problems:
        err.print(f"shelfscan: {problem}", highlight=False, markup=False, soft_wrap=True)
    if not counts:
        raise BadInput(f"{counts_file}: no count that can be used")
    if calibration is not None:
        expect_writable(calibration)
        base = load_confidence(shared_file("models", "confidence.json"))
        stale = {f.bin_id for f in stock_map.findings if f.type == "stale_planogram"}
        told = [(status_key(c.state, c.state.bin_id in stale), c.state.confidence, c.state.status is c.status) for c in counts]
        save_confidence(calibration, shifted(base, told), {"site": stock_map.site, "counts": len(counts), "run": str(run_dir)})
    result = {**report(stock_map, bundle, counts, _figures(figures_file)), "problems": problems}
    if as_json:
        print_json(result)
        return
    _show(result)


def _open(run_dir: Path, store: Path | None) -> tuple[Bundle, Any]:
    stock_map = read_map(run_dir)
    bundle = load_bundle(store or Path(read_run_info(run_dir).store))
    if bundle.store.site != stock_map.site:
        raise BadInput(f"{bundle.root}: is store {bundle.store.site!r}; the run is of {stock_map.site!r}")
    return bundle, stock_map


def _figures(path: Path | None) -> Figures:
    if path is None:
        return Figures()
    try:
        return Figures.model_validate(read_yaml(path, "file of figures") or {})
    except ValidationError as e:
        raise BadInput(field_problems(str(path), e, Figures)) from e


def _show(result: dict[str, Any]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("what", "share", "95 %", "counts"):
        table.add_column(title)
    rows = [("status right", result["status_right"]), ("units within 1", result["units_within_1"])]
    rows += [("inside the stated 95 % interval", result["inside_95_interval"])]
    rows += [(f"status right where {k} was said", v) for k, v in result["by_status"].items()]
    rows += [(f"status right in aisle {k}", v) for k, v in result["by_aisle"].items()]
    rows += [(f"status right, confidence {v['said']:.2f}", v) for v in result["calibration"]]
    for name, v in rows:
        if v["n"]:
            table.add_row(name, f"{v['share']:.1%}", f"{v['low']:.1%} to {v['high']:.1%}", str(v["n"]))
    out.print(table)
    whole = result["status_right_in_the_store"]
    if whole["share"] is not None:
        blank = whole["bins_of_strata_without_counts"]
        left = f"; of {blank} bins of other kinds nothing was counted" if blank else ""
        out.print(f"status right in the whole store: {whole['share']:.1%} of {whole['bins']} bins{left}", highlight=False)
    post = result["auto_post"]
    if post["enough"]:
        text = f"posting is safe from confidence {post['confidence']:.3f} on: {post['wrong']} of {post['counts']} wrong"
        out.print(f"{text}, at most {post['upper_bound']:.2%} for 95 % sure", highlight=False)
    else:
        out.print(post["text"], highlight=False)
    out.print(f"hours saved a night: {result['hours']['saved_a_night']}", highlight=False)
