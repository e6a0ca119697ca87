"""What each part of the counting is worth: the same nights mapped anew without it, from stored observations alone.

    python -m benchmarks.ablation --nights OUT --seeds 31 32 ... (as made by benchmarks.stores)

Nothing is rendered or detected again: a part is switched off in the projection of the ledger. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.stores import pick
from shelfscan.audit.stale import Verdict
from shelfscan.audit.units import ROUGH
from shelfscan.bundle import load_bundle
from shelfscan.cli.replay import replay_stored
from shelfscan.config import Config
from shelfscan.model.scan import UNKNOWN_MM, BayScan
from shelfscan.sim.score import score_run
from shelfscan.stock import project

MEASURES = (
    ("bins", "bin_assignment_accuracy"),
    ("facings", "facings_exact"),
    ("units ± 1", "units_within_1"),
    ("interval", "interval_coverage"),
    ("width", "interval_width"),
    ("OOS prec.", "status.OUT_OF_STOCK.precision"),
    ("OOS rec.", "status.OUT_OF_STOCK.recall"),
    ("misplaced F1", "misplaced.f1"),
    ("false alarms", "false_alarms_per_1000"),
    ("double", "duplicates"),
)


def unaligned(scan: BayScan) -> BayScan:
    """The scan as it would be with the believed pose: its own corrections taken back."""
    for a in scan.alignments:
        T = np.linalg.inv(a.matrix())

        def back(p: tuple[float, float, float], T: Any = T) -> tuple[float, float, float]:
            q = T[:3, :3] @ np.array(p) + T[:3, 3]
            return (float(q[0]), float(q[1]), float(q[2]))

        shift = round(float(-a.dx_m) * 100)
        fronts = []
        for f in scan.fronts:
            if f.gondola_id == a.gondola_id:
                x = (np.arange(f.depth_mm.shape[1]) + f.column + 0.5) * 0.01
                move = 1000 * (T[1, 3] + T[1, 0] * x)
                deep = np.where(f.depth_mm == UNKNOWN_MM, UNKNOWN_MM, f.depth_mm + move).astype(np.int16)
                f = replace(f, column=f.column + shift, depth_mm=deep)
            fronts.append(f)
        mine = a.gondola_id
        scan = replace(
            scan,
            observations=tuple(replace(o, face_m=back(o.face_m)) if o.gondola_id == mine else o for o in scan.observations),
            tags=tuple(replace(t, face_m=back(t.face_m)) if t.gondola_id == mine else t for t in scan.tags),
            fronts=tuple(fronts),
        )
    return replace(scan, alignments=())


def _same(scans: Sequence[BayScan], *_: Any) -> list[BayScan]:
    return list(scans)


def _believed(places: Sequence[Any], *_: Any) -> dict[str, Verdict]:
    return {p.bay_id: Verdict(p.bay_id, -9.0, 0, 0) for p in places}


def _scans(change: Callable[[BayScan], BayScan]) -> Any:
    original = BayScan.from_json
    return patch.object(project.BayScan, "from_json", staticmethod(lambda data: change(original(data))))


@contextmanager
def without(part: str) -> Iterator[None]:
    """The projection without one of its parts."""
    with ExitStack() as stack:
        if part == "pose correction and neighbours":
            stack.enter_context(_scans(unaligned))
            stack.enter_context(patch.object(project, "registered", _same))
            stack.enter_context(patch.object(project, "settled", _same))
        elif part == "registration on neighbours":
            stack.enter_context(patch.object(project, "registered", _same))
        elif part == "settling beside new bays":
            stack.enter_context(patch.object(project, "settled", _same))
        elif part == "both of these":
            stack.enter_context(patch.object(project, "registered", _same))
            stack.enter_context(patch.object(project, "settled", _same))
        elif part == "measured shelf heights":
            stack.enter_context(patch.object(project, "shelf_heights", lambda *_: {}))
        elif part == "size check":
            stack.enter_context(patch.object(project, "wrong_sizes", lambda *_: {}))
            stack.enter_context(patch.object(project, "planned_sizes", lambda *_: {}))
        elif part == "proportions of pictures":
            stack.enter_context(patch("shelfscan.adapters.pictures.gallery_shapes", lambda gallery: {}))
        elif part == "shelf-or-planogram verdict":
            stack.enter_context(patch.object(project, "verdicts", _believed))
        elif part == "looks at planned places":
            stack.enter_context(_scans(lambda s: replace(s, checks=())))
        elif part == "boxes":
            stack.enter_context(_scans(lambda s: replace(s, observations=())))
        elif part == "depth":
            stack.enter_context(_scans(lambda s: replace(s, fronts=())))
        elif part == "tops behind the front row":
            stack.enter_context(_scans(lambda s: replace(s, tops=())))
        elif part == "learned units":
            stack.enter_context(patch("shelfscan.adapters.units_file.load_units_model", lambda path: ROUGH))
        yield


PARTS = (
    "nothing left out",
    *("pose correction and neighbours", "registration on neighbours", "settling beside new bays", "both of these"),
    *("measured shelf heights", "size check", "proportions of pictures"),
    *("shelf-or-planogram verdict", "looks at planned places", "boxes", "depth", "tops behind the front row", "learned units"),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--nights", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", required=True)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="only these")
    args = parser.parse_args()
    print("| without | " + " | ".join(name for name, _ in MEASURES) + " |")
    print("|---" * (len(MEASURES) + 1) + "|")
    out: dict[str, Any] = {}
    for part in args.parts:
        scores = []
        for seed in args.seeds:
            store, run = args.nights / f"store-{seed}", args.nights / f"run-{seed}"
            folder = Path(tempfile.mkdtemp(prefix="ablation-"))
            try:
                with without(part):
                    replay_stored(load_bundle(store), Config(), run, folder / "run")
                scores.append(score_run(folder / "run", store / "truth"))
            finally:
                shutil.rmtree(folder, ignore_errors=True)
        out[part] = scores
        cells = []
        for _, key in MEASURES:
            known = [v for s in scores if (v := pick(s, key)) is not None]
            value = fmean(known) if known else None
            share = key not in ("interval_width", "false_alarms_per_1000", "duplicates")
            cells.append("–" if value is None else f"{value:.1%}" if share and "status" not in key else f"{value:.2f}")
        print(f"| {part} | " + " | ".join(cells) + " |", flush=True)
    (args.nights / "ablation.json").write_text(json.dumps(out, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
