"""``shelfscan store blank|survey``: a store that has neither CAD nor planogram starts with a drive."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from shelfscan.cli._console import out, print_json
from shelfscan.errors import BadInput


def blank(
    layout: Annotated[
        Path, typer.Argument(metavar="LAYOUT", help="Bundle whose store.yaml has the faces; shelves are not needed.")
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the new bundle.")],
) -> None:
    """Make a bundle for a first drive: faces divided into fields, each to be seen in full, nothing believed of them."""
    from shelfscan.survey.files import write_blank

    fields = write_blank(layout, out_dir)
    out.print(f"{out_dir}: {fields} fields to be seen; drive with it, then `shelfscan store survey RUN`", highlight=False)


def survey(
    run_dir: Annotated[
        Path, typer.Argument(metavar="RUN", help="Folder of the first drive's run, live or replayed from a bag.")
    ],
    out_dir: Annotated[Path, typer.Option("--out", help="Folder of the proposed bundle.")],
    bay_width: Annotated[
        float | None, typer.Option("--bay-width", min=0.3, max=3.0, help="Width of the bays, metres; found out when not given.")
    ] = None,
    accept: Annotated[
        Path | None,
        typer.Option("--accept", metavar="REVIEW.csv", help="The review as staff corrected it: write the final files."),
    ] = None,
    store: Annotated[Path | None, typer.Option("--store", help="The bundle driven with, when it moved since the run.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")] = False,
) -> None:
    """Propose bays, shelf heights and what stands where from what a drive saw; no planogram is read.

    Writes a bundle and in it review.csv, with a confidence and an evidence picture a line. Staff correct that file and give it
    back with --accept.
    """
    from shelfscan.adapters.ledger_place import find_ledger, has_ledger
    from shelfscan.bundle import load_bundle
    from shelfscan.model.scan import BayScan
    from shelfscan.runinfo import read_run_info
    from shelfscan.survey.evidence import pictured
    from shelfscan.survey.files import REVIEW, write_proposal
    from shelfscan.survey.propose import faces_of, propose
    from shelfscan.survey.review import read_review

    info = read_run_info(run_dir)
    bundle = load_bundle(store or Path(info.store))
    if bundle.store.site != info.site:
        raise BadInput(f"{run_dir}: a run of store {info.site!r}; {bundle.root} is {bundle.store.site!r}")
    if accept is not None:
        lines = read_review(accept, bundle.catalogue)
    else:
        if not has_ledger(run_dir):
            raise BadInput(f"{run_dir}: no ledger.sqlite or ledger.json there; a run folder is expected")
        ledger = find_ledger(run_dir, site=info.site)
        try:
            stored = ledger.read(kinds=["bay_scan"])
        finally:
            ledger.close()
        scans = [BayScan.from_json(dict(s.event.payload)) for s in stored]
        scans = [s for s in scans if s.mission_id == info.mission_id]
        if not scans:
            raise BadInput(f"{run_dir}: no scan in its ledger; did the drive see anything?")
        proposed = propose(faces_of(bundle.store), bundle.catalogue, scans, bay_width_m=bay_width)
        lines = [replace(x, evidence=e) for x, e in zip(proposed, pictured(proposed, bundle.store, scans), strict=True)]
    done = write_proposal(bundle, out_dir, lines)
    doubtful = sum(x.confidence < 0.8 for x in lines)
    if as_json:
        print_json(
            {
                "out": str(out_dir),
                "review": str(out_dir / REVIEW),
                "bays": done.bays,
                "shelves": done.shelves,
                "bins": done.bins,
                "unnamed": done.unnamed,
                "doubtful": doubtful,
                "accepted": accept is not None,
            }
        )
        return
    what = "accepted" if accept is not None else f"proposed; {doubtful} lines to look at (confidence below 0.8)"
    left = f", {done.unnamed} left out for want of a name" if done.unnamed else ""
    out.print(f"{out_dir}: {done.bays} bays, {done.shelves} shelves, {done.bins} bins {what}{left}", highlight=False)
    if accept is None:
        out.print(
            f"correct {out_dir / REVIEW}, then: shelfscan store survey {run_dir} --out STORE --accept REVIEW.csv",
            highlight=False,
        )
