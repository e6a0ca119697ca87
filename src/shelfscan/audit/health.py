"""Is the robot sick? A run's own numbers against those of healthy runs: lenses, camera poses, stereo, light, recognition.

Every measure is a median over a whole run, so one strange picture says nothing, and a lens that is a little smeared from the
first shelf to the last does. What a measure is when all is well is learned from healthy runs (`Baseline`): the robot's own
first nights, or, until there are some, simulated ones.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.mission import Viewpoint
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import COVERAGE_COLUMNS, COVERAGE_ROWS, BayScan
from shelfscan.stock.fuse import latest_per_viewpoint

#: A product seen by two heads at once is the same one within this, metres.
SAME_M = (0.04, 0.06, 0.06)
#: Fewer captures, or pairs of looks, say nothing.
LEAST_CAPTURES, LEAST_PAIRS = 4, 12
#: A measure is out when it is so many deviations of healthy runs away, and by more than its floor at least.
DEVIATIONS = 5.0
FLOORS: Mapping[str, float] = {
    "sharpness": 0.35,  # logarithm: 30 % less
    "detail": 0.3,  # logarithm, of the best quarter of the picture
    "cell": 0.45,  # logarithm, of one part of the picture against the others
    "rows_px": 0.5,
    "offset_x_m": 0.006,
    "offset_y_m": 0.006,
    "offset_z_m": 0.006,
    "tilt": 0.012,  # metres along the shelf a metre of height
    "boxes": 0.2,  # logarithm
    "likeness": 0.03,
    "unlike": 0.1,  # share of products
}
#: A product that looks less like its reference pictures than this, where it is planned, is somebody else or has a new pack.
UNLIKE = 0.6
#: Beside a depth that is out, so much of a limit in another direction says that the camera was turned.
ASIDE = 0.6
#: A picture is a dark one below this share of the run's usual light.
DARK = 0.6
#: A lamp is out where so many pictures in a row have so much less light than all others (logarithm to base 2) on average, and
#: chance makes such a row with this probability a run.
DARK_IN_A_ROW, MOST_IN_A_ROW, DARK_LEVEL, CHANCE, SHUFFLES = 3, 24, -0.95, 0.01, 400


@dataclass(frozen=True, slots=True)
class Sickness:
    """What is wrong, where (a camera head, two of them, or an aisle), and what to do; ``size``: how far out, 1 at the limit."""

    kind: str
    where: str
    text: str
    size: float


@dataclass(frozen=True)
class Baseline:
    """``usual``: (mean, deviation) of each measure over healthy runs; ``runs``: how many there were."""

    usual: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    runs: int = 0


def measured(scans: Iterable[BayScan], planogram: Planogram) -> dict[str, float]:
    """Measures of a run by name, such as ``low.sharpness`` or ``low-high.offset_x_m``; those that cannot be told are absent."""
    scans = [s for s in latest_per_viewpoint(scans) if s.quality]
    if len(scans) < LEAST_CAPTURES:
        return {}
    heads = sorted({k.partition(".")[0] for s in scans for k in s.quality})
    out: dict[str, float] = {}
    for head in heads:
        out |= _pictures(head, scans)
    for a in heads:
        for b in heads:
            if a < b:
                out |= _between(a, b, scans)
    out |= _recognition(scans, planogram)
    return out


def _pictures(head: str, scans: Sequence[BayScan]) -> dict[str, float]:
    # In the dark nothing is sharp; that is told of the lamp.
    dark = _darker(scans)
    here = [s.quality for s in scans if f"{head}.sharpness" in s.quality and s.viewpoint_id not in dark]
    if len(here) < LEAST_CAPTURES:
        return {}
    out = {f"{head}.sharpness": math.log(1.0 + statistics.median(q[f"{head}.sharpness"] for q in here))}
    # A part that was hidden for people is absent from a capture.
    known = [k for q in here for k in q if k.startswith(f"{head}.cell_")]
    cells = sorted(k for k, n in Counter(known).items() if n >= LEAST_CAPTURES)
    detail = np.array([[q.get(k, np.nan) for k in cells] for q in here])
    detail = detail[np.isfinite(detail).any(axis=1)] if cells else detail
    if detail.size:
        share = np.log(np.maximum(detail, 1e-3)) - np.log(np.maximum(np.nanmean(detail, axis=1, keepdims=True), 1e-3))
        out[f"{head}.detail"] = float(np.log(np.quantile(np.nanmedian(detail, axis=0), 0.75)))
        out |= dict(zip(cells, np.nanmedian(share, axis=0).tolist(), strict=True))
    rows = [q[f"{head}.rows_px"] for q in here if f"{head}.rows_px" in q]
    if len(rows) >= LEAST_CAPTURES:
        out[f"{head}.rows_px"] = statistics.median(rows)
    return out


def _between(a: str, b: str, scans: Sequence[BayScan]) -> dict[str, float]:
    """Where head ``b`` has what ``a`` sees as well: a pose that is a little wrong is wrong for both."""
    pairs: list[tuple[float, float, float, float]] = []
    for scan in scans:
        of_b = [o for o in scan.observations if o.head == b and o.candidates]
        for o in (o for o in scan.observations if o.head == a and o.candidates):
            for p in of_b:
                d = [p.face_m[k] - o.face_m[k] for k in range(3)]
                if p.candidates[0].sku == o.candidates[0].sku and all(abs(v) < m for v, m in zip(d, SAME_M, strict=True)):
                    pairs.append((d[0], d[1], d[2], o.face_m[2]))
    if len(pairs) < LEAST_PAIRS:
        return {}
    x, y, z, height = np.array(pairs).T
    out = {f"{a}-{b}.offset_{n}_m": float(np.median(v)) for n, v in (("x", x), ("y", y), ("z", z))}
    if np.ptp(height) > 0.3:
        # Theil and Sen: a few wrong pairs do not tilt it.
        i, j = np.triu_indices(len(height), 1)
        far = np.abs(height[i] - height[j]) > 0.1
        out[f"{a}-{b}.tilt"] = float(np.median((x[i] - x[j])[far] / (height[i] - height[j])[far]))
    return out


def _recognition(scans: Sequence[BayScan], planogram: Planogram) -> dict[str, float]:
    seen = sum(len(s.observations) for s in scans)
    planned = sum(
        planogram[c.bin_id].facings_wide * planogram[c.bin_id].facings_high * c.seen.bit_count()
        for s in scans
        for c in s.coverage
        if c.bin_id in planogram
    ) / (COVERAGE_COLUMNS * COVERAGE_ROWS)
    if len(scans) < LEAST_CAPTURES or planned < 50:
        return {}
    scores = [o.candidates[0].score for s in scans for o in s.observations if o.candidates]
    out = {"all.boxes": math.log(max(seen, 1) / planned)}
    alike: dict[str, list[float]] = {}
    for check in (c for s in scans for c in s.checks if c.bin_id in planogram):
        sku = planogram[check.bin_id].sku
        alike.setdefault(sku, []).extend(k.score for k in check.candidates if k.sku == sku)
    judged = [statistics.median(v) for v in alike.values() if len(v) >= 2]
    if len(judged) >= 20:
        out["all.unlike"] = sum(v < UNLIKE for v in judged) / len(judged)
    if scores:
        out["all.likeness"] = statistics.fmean(scores)
    return out


def learned(runs: Sequence[Mapping[str, float]]) -> Baseline:
    """What healthy runs have in common."""
    usual: dict[str, tuple[float, float]] = {}
    for name in sorted({k for r in runs for k in r}):
        values = [r[name] for r in runs if name in r]
        if len(values) >= 3:
            usual[name] = (statistics.fmean(values), statistics.stdev(values))
    return Baseline(usual, len(runs))


def diagnose(
    measures: Mapping[str, float],
    baseline: Baseline,
    scans: Iterable[BayScan],
    aisle_of: Mapping[str, str],
    order: Sequence[str] = (),
) -> list[Sickness]:
    """What is wrong, the worst first.

    ``aisle_of``: the aisle of each viewpoint. ``order``: viewpoints as they lie beside one another (`side_by_side`), for a lamp
    lights both sides of its aisle; as they were driven where it is empty.
    """
    scans = latest_per_viewpoint(scans)
    dark = _dark(scans, aisle_of, order)
    out = list(dark)
    far = {name: _far(name, value, baseline) for name, value in measures.items()}
    for head in sorted({k.partition(".")[0] for k in far if k.endswith(".sharpness")}):
        out += _lens(head, measures, baseline, far)
        out += _stereo(head, measures, baseline, far)
    for pair in sorted({k.partition(".")[0] for k in far if ".offset_" in k}):
        out += _moved(pair, measures, baseline, far)
    blind = {s.kind for s in out} & {"defocus", "lens_smear", "lamp_out"}
    if far.get("all.boxes", 0) < -1 and not blind:
        less = 1 - math.exp(measures["all.boxes"] - baseline.usual["all.boxes"][0])
        text = f"{less:.0%} fewer products are found than usual: check the detector's model and the pictures"
        out.append(Sickness("detector_weak", "all cameras", text, -far["all.boxes"]))
    if (far.get("all.likeness", 0) < -1 or far.get("all.unlike", 0) > 1) and not blind:
        text = "products look less like their reference pictures than usual: new packaging? enrol it (shelfscan enrol)"
        out.append(
            Sickness(
                "new_packaging",
                _where_unlike(scans, aisle_of),
                text,
                max(-far.get("all.likeness", 0.0), far.get("all.unlike", 0.0)),
            )
        )
    return sorted(out, key=lambda s: -s.size)


def _far(name: str, value: float, baseline: Baseline) -> float:
    """How far out, in limits, with its sign; 0 without a baseline."""
    if name not in baseline.usual:
        return 0.0
    mean, deviation = baseline.usual[name]
    what = name.partition(".")[2]
    floor = FLOORS["cell" if what.startswith("cell_") else what]
    return (value - mean) / max(DEVIATIONS * deviation, floor)


def _lens(head: str, measures: Mapping[str, float], baseline: Baseline, far: Mapping[str, float]) -> list[Sickness]:
    cells = {k: v for k, v in far.items() if k.startswith(f"{head}.cell_")}
    name = f"{head}.sharpness"
    bad = sorted(k for k, v in cells.items() if v < -1)
    # Out of focus the whole picture is soft, its best part most of all; under a smear the rest is nearly as sharp as ever.
    best = far.get(f"{head}.detail", 0.0)
    soft = best < -1 and best < min(cells.values(), default=0.0)
    if bad and not soft:
        where = ", ".join(sorted({_part(k) for k in bad}))
        text = f"the {where} of camera {head}'s pictures has lost its detail: clean the lens"
        return [Sickness("lens_smear", head, text, -min(cells.values()))]
    if far[name] < -1 or soft:
        left = math.exp(measures[name] - baseline.usual[name][0])
        text = f"camera {head} is {1 - left:.0%} less sharp than usual: clean the lens, check its focus"
        return [Sickness("defocus", head, text, max(-far[name], -far.get(f"{head}.detail", 0.0)))]
    return []


def _part(cell: str) -> str:
    r, c = (int(v) for v in cell.rpartition("cell_")[2].split("_"))
    return f"{('upper', 'upper', 'middle', 'middle', 'lower', 'lower')[r]} {('left', 'left', 'right', 'right')[c]}"


def _stereo(head: str, measures: Mapping[str, float], baseline: Baseline, far: Mapping[str, float]) -> list[Sickness]:
    name = f"{head}.rows_px"
    if abs(far.get(name, 0.0)) <= 1:
        return []
    off = measures[name] - baseline.usual[name][0]
    text = f"the rows of camera {head}'s stereo pair are {abs(off):.1f} px apart: calibrate (shelfscan calibrate stereo)"
    return [Sickness("calibration_drift", head, text, abs(far[name]))]


def _moved(pair: str, measures: Mapping[str, float], baseline: Baseline, far: Mapping[str, float]) -> list[Sickness]:
    mine = {k.partition(".")[2]: v for k, v in far.items() if k.startswith(f"{pair}.")}
    if max(abs(v) for v in mine.values()) <= 1:
        return []
    # A camera that was turned has its goods elsewhere in depth as well; stereo that drifted has them there alone.
    aside = {k for k, v in mine.items() if k != "offset_y_m" and abs(v) > ASIDE}
    worst = max(aside or {"offset_y_m"}, key=lambda k: abs(mine[k]))
    heads = pair.replace("-", " and ")
    off = measures[f"{pair}.{worst}"] - baseline.usual[f"{pair}.{worst}"][0]
    if worst == "offset_y_m":
        text = f"cameras {heads} differ by {abs(off) * 1000:.0f} mm in depth: calibrate (shelfscan calibrate stereo)"
        return [Sickness("calibration_drift", heads, text, abs(mine[worst]))]
    how = f"{math.degrees(math.atan(abs(off))):.1f}°" if worst == "tilt" else f"{abs(off) * 1000:.0f} mm"
    text = f"cameras {heads} have the same goods {how} apart: one was turned; shelfscan calibrate extrinsics"
    return [Sickness("camera_turned", heads, text, abs(mine[worst]))]


def _light(scans: Sequence[BayScan]) -> tuple[list[tuple[str, float]], float]:
    """(viewpoint, light) in the order of the night, of the head that has most of it, and the run's usual light."""
    light: list[tuple[str, float]] = []
    for scan in sorted(scans, key=lambda s: s.stamp_ns):
        values = [v for k, v in scan.quality.items() if k.endswith(".brightness")]
        if values:
            light.append((scan.viewpoint_id, max(values)))
    # Half of a store may be dark and the rest shows it: the brighter half is the usual one.
    usual = statistics.median(sorted(v for _, v in light)[len(light) // 2 :]) if len(light) >= LEAST_CAPTURES else 0.0
    return light, usual


def _darker(scans: Sequence[BayScan]) -> set[str]:
    """Viewpoints where all heads have dark pictures."""
    light, usual = _light(scans)
    return {v for v, value in light if value < DARK * usual}


def side_by_side(viewpoints: Iterable[Viewpoint]) -> list[str]:
    """Viewpoints aisle by aisle, along it, both sides together."""

    def along(v: Viewpoint) -> float:
        cos, sin = math.cos(v.pose.yaw_rad), math.sin(v.pose.yaw_rad)
        # The two sides of an aisle are driven in opposite directions.
        way = 1.0 if (cos > 0 if abs(cos) > abs(sin) else sin > 0) else -1.0
        return way * (v.pose.x_m * cos + v.pose.y_m * sin)

    return [v.viewpoint_id for v in sorted(viewpoints, key=lambda v: (v.aisle_id, along(v)))]


def _dark(scans: Sequence[BayScan], aisle_of: Mapping[str, str], order: Sequence[str]) -> list[Sickness]:
    """Stretches where all heads have dark pictures, more so than the run's own exposures explain.

    Exposures wander from picture to picture, and in a long night some dark ones follow one another by chance. So a stretch has
    to be dark against the noise of neighbouring pictures (normal, for all stretches tried), or such as shuffled pictures hardly
    ever give; and always less than half as light as usual on average.
    """
    light, _ = _light(scans)
    if len(light) < LEAST_CAPTURES:
        return []
    if order:
        rank = {v: n for n, v in enumerate(order)}
        light.sort(key=lambda seen: rank.get(seen[0], len(rank)))
    levels = np.log2(np.maximum([v for _, v in light], 1e-3))
    noise = max(0.05, 1.4826 * float(np.median(np.abs(np.diff(levels)))) / math.sqrt(2))
    chance = np.random.default_rng(0)
    shuffled = np.stack([chance.permutation(levels) for _ in range(SHUFFLES)])
    in_stretch = np.zeros(len(levels), bool)
    lengths = [k for k in range(DARK_IN_A_ROW, MOST_IN_A_ROW + 1) if k <= len(levels) // 2]
    tried = sum(len(levels) - k + 1 for k in lengths)
    for k in lengths:
        less = _less(levels, k)
        rare = np.quantile(_less(shuffled, k).min(axis=1), CHANCE / math.sqrt(len(lengths)))
        far = noise * math.sqrt(1 / k + 1 / (len(levels) - k)) * statistics.NormalDist().inv_cdf(CHANCE / tried)
        for n in np.flatnonzero((less <= DARK_LEVEL) & (less < max(rare, far))):
            in_stretch[n : n + k] = True
    out: list[Sickness] = []
    for row in np.split(np.arange(len(levels)), np.flatnonzero(np.diff(in_stretch.astype(int))) + 1):
        if in_stretch[row[0]]:
            share = float(2.0 ** (levels[row].mean() - levels[~in_stretch].mean())) if not in_stretch.all() else 0.0
            first, last = light[row[0]][0], light[row[-1]][0]
            aisle = statistics.mode(aisle_of.get(light[n][0], "") for n in row)
            text = f"aisle {aisle}, {first} to {last}: {share:.0%} of the usual light: a lamp is out?"
            out.append(Sickness("lamp_out", aisle, text, 2.0**DARK_LEVEL / max(share, 0.01)))
    return out


def _less(levels: NDArray[np.float64], k: int) -> NDArray[np.float64]:
    """Means of all ``k`` neighbours along the last axis, less that of all others."""
    total = np.cumsum(np.concatenate([np.zeros((*levels.shape[:-1], 1)), levels], axis=-1), axis=-1)
    inside, count = total[..., k:] - total[..., :-k], levels.shape[-1]
    return np.asarray(inside / k - (total[..., -1:] - inside) / (count - k))


def _where_unlike(scans: Sequence[BayScan], aisle_of: Mapping[str, str]) -> str:
    of_aisle: dict[str, list[float]] = {}
    for s in scans:
        of_aisle.setdefault(aisle_of.get(s.viewpoint_id, ""), []).extend(
            o.candidates[0].score for o in s.observations if o.candidates
        )
    means = {a: statistics.fmean(v) for a, v in of_aisle.items() if v}
    return f"aisle {min(means, key=lambda a: means[a])}" if means else "all cameras"
