"""``shelfscan store build|check``."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from shelfscan.cli._console import out, print_json, progress
from shelfscan.errors import BadInput

app = typer.Typer(help="Store bundles: layout, planogram, catalogue, gallery, map.", no_args_is_help=True)


class Size(str, Enum):
    """Sizes of simulated stores; tiny is for trying things out."""

    TINY = "tiny"
    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


@app.command("build")
def build(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
    seed: Annotated[int, typer.Option(min=0, help="Which store: what is sold, where it stands, and how much of it.")] = 1,
    size: Annotated[
        Size, typer.Option(case_sensitive=False, help="About 600, 5,000 or 40,000 facings; tiny for trying things out.")
    ] = Size.SMALL,
    messy: Annotated[
        int, typer.Option(min=0, max=2, help="Disorder and sensing faults: 0 none, 1 a normal night, 2 a bad one.")
    ] = 0,
    people: Annotated[
        int, typer.Option(min=0, max=500, help="People before the shelves; their faces and bodies must be blurred in capture.")
    ] = 0,
    damaged: Annotated[float, typer.Option(min=0, max=1, help="Share of the front row that is dented, torn or leaking.")] = 0.0,
    fallen: Annotated[float, typer.Option(min=0, max=1, help="Share that lies, of those with room to fall.")] = 0.0,
    messy_file: Annotated[
        Path | None,
        typer.Option("--messy-file", help="YAML with single knobs of disorder, over the level's; see docs/nodes/sim.md."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One knob of disorder, such as stale_bays=0.1."),
    ] = None,
    turned: Annotated[float, typer.Option(min=0, max=1, help="Share that shows its back or stands on its head.")] = 0.0,
) -> None:
    """Build a simulated store bundle; the same seed and options give the same bytes."""
    from shelfscan.sim.build import build_store
    from shelfscan.sim.condition import Condition
    from shelfscan.sim.disorder import load_messiness

    condition = Condition(damaged, fallen, turned)
    disorder = load_messiness(messy, messy_file, settings or ())
    with progress("building the store") as report:
        build_store(
            out_dir,
            seed=seed,
            size=size.value,
            messy=messy,
            people=people,
            progress=report,
            condition=condition,
            disorder=disorder,
        )
    out.print(f"{out_dir}: {size.value} store, seed {seed}, messy {messy}", highlight=False)


@app.command("check")
def check(
    bundle: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of the store bundle.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Validate a store bundle and say every problem at once."""
    from shelfscan.bundle import check_bundle

    problems = check_bundle(bundle)
    if as_json:
        print_json({"bundle": str(bundle), "ok": not problems, "problems": problems})
        if problems:
            raise typer.Exit(2)
        return
    if problems:
        raise BadInput(problems)
    out.print(f"{bundle}: fine")
