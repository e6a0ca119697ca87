"""Does a run notice that the robot is sick? Simulated nights made sick, and healthy ones.

    python -m benchmarks.sickness --nights DIR --learn 100001 100002 ... --seeds 31 32 ... [--every 2] [--jobs 2]
    python -m benchmarks.sickness --nights DIR --baseline models/health.json --seeds 51 52 ... [--draws 4] [--healthy RUN...]
    python -m benchmarks.sickness --learn-runs RUN... --also RUN... --write models/health.json

``DIR`` holds ``store-SEED`` folders (disorder level 1). Each store is driven once; its captures are then made sick in seven
ways, one at a time and as badly as chance says (``--draws`` times each), looked at for people and processed like any others.
What healthy runs measure is learned from the ``--learn`` seeds, or from whole nights (``--learn-runs``), or is a file's.
Measures are kept in ``DIR/health``, so judging anew takes seconds; ``--write`` keeps the baseline. ``--healthy``: run folders
of whole nights (beside their ``store-SEED``) that nothing was wrong with. *Found* means that the sickness is named, and where.
"""

from __future__ import annotations

import argparse
import json
import os
import random
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from scipy.stats import binomtest

from shelfscan.adapters.health_file import load_baseline, save_baseline
from shelfscan.adapters.ledger_sqlite import SqliteLedger
from shelfscan.audit.health import Baseline, Sickness, diagnose, learned, measured, side_by_side
from shelfscan.bootstrap import load_references, make_detector, make_embedder, make_privacy, make_recogniser, make_tag_reader
from shelfscan.bundle import load_bundle
from shelfscan.config import Config, load_config
from shelfscan.evaluation.speed import render_captures
from shelfscan.mission.plan import plan_mission
from shelfscan.model.detections import Detections
from shelfscan.model.imaging import FrameBundle, HeadFrame
from shelfscan.model.scan import BayScan
from shelfscan.pipeline import ScanPipeline
from shelfscan.sim.labels import training_bundle

SICK = ("lens_smear", "defocus", "camera_turned", "calibration_drift", "lamp_out", "new_packaging", "detector_weak")
#: A picture of which more was hidden is not used to learn what is usual.
MUCH_HIDDEN = 0.02
#: Lamps hang so far apart; one lights half of that to either side.
LAMP_M = 1.2


def config() -> Config:
    """As a run has it, without what tells nothing here and costs time."""
    return load_config(None, {"condition.damage": False})


def rgb(frame: HeadFrame, change: Callable[[np.ndarray], np.ndarray]) -> HeadFrame:
    """The head's colour picture changed."""
    picture = cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_COLOR)
    ok, data = cv2.imencode(".jpg", change(picture), [cv2.IMWRITE_JPEG_QUALITY, 90])
    assert ok
    return replace(frame, rgb_jpeg=data.tobytes())


def all_three(frame: HeadFrame, change: Callable[[np.ndarray, Any], np.ndarray]) -> HeadFrame:
    """All pictures of a head changed; ``change`` is told whose."""
    head = frame.head
    done = rgb(frame, lambda p: change(p, head.rgb))
    return replace(done, left=change(frame.left, head.left), right=change(frame.right, head.right))


def turned(picture: np.ndarray, camera: Any, axis: int, angle: float) -> np.ndarray:
    """What the camera sees once it is turned about one of its own axes."""
    i = camera.intrinsics
    K = np.array([[i.fx_px, 0, i.cx_px], [0, i.fy_px, i.cy_px], [0, 0, 1]])
    vector = np.zeros(3)
    vector[axis] = angle
    H = K @ cv2.Rodrigues(vector)[0] @ np.linalg.inv(K)
    return cv2.warpPerspective(picture, H, (picture.shape[1], picture.shape[0]), borderMode=cv2.BORDER_REPLICATE)


def smeared(picture: np.ndarray, x: float, y: float, radius: float, sigma: float) -> np.ndarray:
    """A greasy finger on the lens: soft and hazy around a place."""
    height, width = picture.shape[:2]
    soft = cv2.GaussianBlur(picture, (0, 0), sigma)
    soft = (0.85 * soft + 0.15 * float(picture.mean())).astype(np.uint8)
    gx, gy = np.meshgrid(np.arange(width) / width - x, np.arange(height) / height - y)
    weight = np.clip(2 - 2 * np.sqrt(gx**2 + gy**2) / radius, 0, 1)[..., None]
    return (picture * (1 - weight) + soft * weight).astype(np.uint8)


def make_sick(kind: str, captures: list[FrameBundle], rng: random.Random) -> tuple[list[FrameBundle], str]:
    """Captures of a sick robot, and where it is sick."""
    heads = [f.head.name for f in captures[0].frames]
    head = rng.choice(heads)

    def of_head(change: Callable[[HeadFrame], HeadFrame]) -> list[FrameBundle]:
        return [replace(c, frames=tuple(change(f) if f.head.name == head else f for f in c.frames)) for c in captures]

    if kind == "lens_smear":
        x, y, radius, sigma = rng.uniform(0.25, 0.75), rng.uniform(0.25, 0.75), rng.uniform(0.22, 0.4), rng.uniform(7, 12)
        return of_head(lambda f: rgb(f, lambda p: smeared(p, x, y, radius, sigma))), head
    if kind == "defocus":
        sigma = rng.uniform(2.5, 5.0)
        return of_head(lambda f: rgb(f, lambda p: cv2.GaussianBlur(p, (0, 0), sigma))), head
    if kind == "camera_turned":
        axis, angle = rng.randrange(3), rng.choice((-1, 1)) * np.deg2rad(1.0)

        def turn(f: HeadFrame) -> HeadFrame:
            done = all_three(f, lambda p, c: turned(p, c, axis, angle))
            if axis != 2:
                return done
            # The head turns as a whole: its right camera goes round the left one, and the rows stay together (at the standoff).
            baseline = abs(float(np.linalg.norm(f.head.right.T_base_optical[:3, 3] - f.head.left.T_base_optical[:3, 3])))
            down = f.head.right.intrinsics.fy_px * baseline * np.sin(angle) / 0.9
            h, w = f.right.shape
            return replace(done, right=cv2.warpAffine(done.right, np.array([[1, 0, 0], [0, 1, down]]), (w, h)))

        return of_head(turn), head
    if kind == "calibration_drift":
        down, roll = rng.choice((-1, 1)) * rng.uniform(0.9, 2.0), rng.uniform(-0.1, 0.1)

        def drift(f: HeadFrame) -> HeadFrame:
            h, w = f.right.shape
            M = cv2.getRotationMatrix2D((w / 2, h / 2), roll, 1.0)
            M[1, 2] += down
            return replace(f, right=cv2.warpAffine(f.right, M, (w, h), borderMode=cv2.BORDER_REPLICATE))

        return of_head(drift), head
    if kind == "lamp_out":
        share, lamp = rng.uniform(0.2, 0.45), rng.choice(captures).T_map_base[:2, 3]

        def dim(p: np.ndarray, camera: Any) -> np.ndarray:
            return (p * share).astype(np.uint8)

        return [
            # A lamp lights both sides of its aisle, as far as to the next one.
            replace(c, frames=tuple(all_three(f, dim) for f in c.frames))
            if np.linalg.norm(c.T_map_base[:2, 3] - lamp) < LAMP_M
            else c
            for c in captures
        ], "aisle"
    return captures, ""


class Weak:
    """A detector that misses a third."""

    def __init__(self, detector: Any, seed: int) -> None:
        self._detector, self._rng = detector, np.random.default_rng(seed)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._detector, name)

    def detect(self, picture: np.ndarray) -> Detections:
        """See `Detector.detect`."""
        found = self._detector.detect(picture)
        keep = self._rng.random(len(found)) > 1 / 3
        return found.where(keep)


def scans_of(pipeline: ScanPipeline, captures: list[FrameBundle]) -> list[BayScan]:
    return [pipeline.process(c).scan for c in captures]


def kind_of(name: str) -> str:
    """A night's sickness: the first draw is called like it, others like ``defocus#1``."""
    return name.partition("#")[0]


def one(nights: Path, seed: int, every: int, draws: int, other: Path) -> None:
    """Measure a store healthy and in every sickness ``draws`` times; what is there already stays. ``other``: a store of other
    packs."""
    out = nights / "health" / f"{seed}.json"
    done: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {}
    wanted = ["healthy", *(f"{kind}#{n}" if n else kind for n in range(draws) for kind in SICK)]
    if all(k in done for k in wanted):
        return
    cv2.setNumThreads(1)
    store = nights / f"store-{seed}"
    bundle, settings = load_bundle(store), config()
    captures = render_captures(store, settings)[::every]
    privacy = make_privacy(bundle.store, settings)
    assert privacy is not None
    detector = make_detector(settings)
    recogniser = recogniser_of(bundle, settings)
    tags = make_tag_reader(settings, bundle.catalogue)

    def pipeline(detector: Any, recogniser: Any) -> ScanPipeline:
        return ScanPipeline(bundle.store, bundle.catalogue, bundle.planogram, detector, recogniser, tags, damage=False)

    plan = plan_mission(bundle.store, bundle.robot, bundle.grid, mission_id="m")
    aisle_of, order = {v.viewpoint_id: v.aisle_id for v in plan.viewpoints}, side_by_side(plan.viewpoints)
    for name in wanted:
        if name in done:
            continue
        kind, rng = kind_of(name), random.Random(f"{seed}/{name}")
        used, where = make_sick(kind, captures, rng)
        eyes = Weak(detector, seed + 1000 * len(done)) if kind == "detector_weak" else detector
        memory = other_packs(bundle, settings, rng, load_bundle(other)) if kind == "new_packaging" else recogniser
        scans = scans_of(pipeline(eyes, memory), [privacy.apply(c) for c in used])
        light = [replace(s, observations=(), tags=(), coverage=(), fronts=(), checks=(), tops=()).to_json() for s in scans]
        done[name] = {
            "measures": measured(scans, bundle.planogram),
            "light": light,
            "aisle_of": aisle_of,
            "order": order,
            "where": where,
        }
        out.parent.mkdir(exist_ok=True)
        out.write_text(json.dumps(done))
        print(seed, name, flush=True)


def other_packs(bundle: Any, settings: Config, rng: random.Random, strangers: Any) -> Any:
    """A recogniser that knows a third of the products by packs that stand in no shelf here: theirs were changed."""
    changed = rng.sample(sorted(bundle.gallery), len(bundle.gallery) // 3)
    others = rng.sample(sorted(strangers.gallery), len(changed))
    gallery = {**bundle.gallery, **{a: strangers.gallery[b] for a, b in zip(changed, others, strict=True)}}
    return recogniser_of(replace(bundle, gallery=gallery), settings)


def recogniser_of(bundle: Any, settings: Config) -> Any:
    """A recogniser that knows a bundle's gallery."""
    return make_recogniser(settings, make_embedder(settings), load_references(bundle), hurried=True)


@dataclass(frozen=True)
class Night:
    """One night: where it was sick (a head, "aisle", or nowhere in particular), and what was told."""

    name: str
    where: str
    told: tuple[Sickness, ...]

    def right(self, kind: str) -> bool:
        """Whether the sickness was named where it is."""
        anywhere = self.where in ("", "aisle")
        return any(t.kind == kind and (anywhere or self.where in t.where) for t in self.told)


def judge(
    nights: Path | None, learn: list[int], seeds: list[int], also: list[dict[str, float]], known: Path | None
) -> tuple[Baseline, dict[str, list[Night]]]:
    """The baseline, and per kind of night what was found in each."""
    read = {s: json.loads((nights / "health" / f"{s}.json").read_text()) for s in [*learn, *seeds]} if nights else {}
    for nights_of in read.values():
        for night in nights_of.values():
            scans = [BayScan.from_json(x) for x in night["light"]]
            # What the pictures themselves measure is worked out anew: rules change, pictures do not.
            night["measures"] |= measured(scans, {})
    usual = [*(read[s]["healthy"]["measures"] for s in learn), *also]
    baseline = load_baseline(known) if known is not None else learned(usual)
    found: dict[str, list[Night]] = {}
    for s in seeds:
        for name, night in read[s].items():
            scans = [BayScan.from_json(x) for x in night["light"]]
            told = diagnose(night["measures"], baseline, scans, night["aisle_of"], night["order"])
            found.setdefault(kind_of(name), []).append(Night(str(s), night["where"], tuple(told)))
    return baseline, found


def scans_of_run(run: Path) -> tuple[Any, list[BayScan]]:
    """A whole night's store (``store-SEED`` beside ``run-SEED``) and its scans."""
    store = run.with_name(run.name.replace("run-", "store-"))
    # Seeds from 100000 on are those of training.
    bundle = (training_bundle if int(store.name.removeprefix("store-")) >= 100_000 else load_bundle)(store)
    ledger = SqliteLedger(run / "ledger.sqlite", site=bundle.store.site)
    scans = [BayScan.from_json(dict(s.event.payload)) for s in ledger.read(kinds=("bay_scan",))]
    ledger.close()
    return bundle, scans


def healthy_measures(run: Path) -> dict[str, float]:
    """What a whole healthy night measured; pictures of which some was hidden for people say nothing of lenses."""
    bundle, scans = scans_of_run(run)
    clear = []
    for scan in scans:
        hidden = {k.partition(".")[0] for k, v in scan.quality.items() if k.endswith(".hidden") and v > MUCH_HIDDEN}
        kept = {k: v for k, v in scan.quality.items() if k.partition(".")[0] not in hidden or k.endswith(".rows_px")}
        clear.append(replace(scan, quality=kept))
    return measured(clear, bundle.planogram)


def judge_run(run: Path, baseline: Baseline) -> Night:
    """What is told of a whole night, from its stored scans."""
    bundle, scans = scans_of_run(run)
    plan = plan_mission(bundle.store, bundle.robot, bundle.grid, mission_id="m")
    aisle_of, order = {v.viewpoint_id: v.aisle_id for v in plan.viewpoints}, side_by_side(plan.viewpoints)
    return Night(str(run), "", tuple(diagnose(measured(scans, bundle.planogram), baseline, scans, aisle_of, order)))


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nights", type=Path)
    parser.add_argument("--learn-runs", type=Path, nargs="*", default=[], help="whole nights to learn what is usual from")
    parser.add_argument("--learn", type=int, nargs="*", default=[])
    parser.add_argument("--baseline", type=Path, help="what is usual, from a file instead")
    parser.add_argument("--draws", type=int, default=1, help="nights of each sickness a store")
    parser.add_argument("--healthy", type=Path, nargs="*", default=[], help="run folders to judge beside them")
    parser.add_argument("--seeds", type=int, nargs="*", default=[])
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="whole nights of tidy stores, for pictures alone")
    parser.add_argument("--every", type=int, default=2)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--write", type=Path)
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if not (args.learn or args.learn_runs) and args.baseline is None:
        parser.error("what is usual? --learn SEEDS, --learn-runs RUNS or --baseline FILE")
    if (args.learn or args.seeds) and args.nights is None:
        parser.error("--nights: where are the stores of the seeds?")
    with ProcessPoolExecutor(args.jobs) as pool:
        seeds = [*args.learn, *args.seeds]
        # Each store's new packs are another one's.
        others = {s: args.nights / f"store-{seeds[n - 1]}" for n, s in enumerate(seeds)}
        jobs = [pool.submit(one, args.nights, s, args.every, args.draws if s in args.seeds else 0, others[s]) for s in seeds]
        for job in jobs:
            job.result()
    # How alike goods look, and how many are found, is another matter where nothing is in disorder.
    tidy = [{k: v for k, v in healthy_measures(r).items() if not k.startswith("all.")} for r in args.also]
    runs = [healthy_measures(r) for r in args.learn_runs]
    baseline, found = judge(args.nights, args.learn, args.seeds, [*runs, *tidy], args.baseline)
    for run in args.healthy:
        found.setdefault("healthy", []).append(judge_run(run, baseline))
    print("| night | found | as the first | other things told | cases |\n|---|---|---|---|---|")
    for kind in ("healthy", *SICK):
        nights = found.get(kind, [])
        right = sum(night.right(kind) for night in nights)
        first = sum(bool(night.told) and night.told[0].kind == kind for night in nights)
        other = sum(any(t.kind != kind for t in night.told) for night in nights)
        if not nights:
            continue
        ci = binomtest(other if kind == "healthy" else right, len(nights)).proportion_ci(0.95, method="wilson")
        print(f"| {kind} | {right} | {first} | {other} | {len(nights)} (95 %: {ci.low:.3f} to {ci.high:.3f}) |")
        for night in nights:
            if (kind == "healthy" and night.told) or (kind != "healthy" and not night.right(kind)):
                print(f"   {night.name} ({night.where}):", [f"{t.kind} ({t.where}) {t.size:.2f}" for t in night.told])
    if args.write:
        save_baseline(
            args.write,
            baseline,
            {"seeds": args.learn, "runs": [r.name for r in args.learn_runs], "note": "simulated nights, config/robot.yaml"},
        )


if __name__ == "__main__":
    main()
