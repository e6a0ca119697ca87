"""Many looks, one belief per place: overlapping views and heads never count a product twice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

from shelfscan.model.detections import Candidate
from shelfscan.model.scan import BayScan, Observation

#: Two looks are of one product when their centres differ by less than this share of the smaller one's size ...
SAME_PLACE = 0.45
#: ... and their depth by less than this.
SAME_DEPTH_M = 0.06


@dataclass
class Cluster:
    """One product in the front row, from all its looks.

    ``face_m``: centre of its front face in the face frame; ``size_m``: (width, height). ``top``: how much it looked like
    anything in its best single look. ``sums``: by SKU weight times score, and weight, of the looks that
    list it; ``floor``: what the last look says of others; ``scores``: what comes of both, once all looks are in.
    """

    gondola_id: str
    face_m: tuple[float, float, float]
    size_m: tuple[float, float]
    weight: float
    score: float
    scores: dict[str, float] = field(default_factory=dict)
    looks: set[tuple[str, str]] = field(default_factory=set)
    first_id: str = ""
    top: float = 0.0
    sums: dict[str, tuple[float, float]] = field(default_factory=dict)
    floor: float = 0.0

    def candidates(self) -> tuple[Candidate, ...]:
        """Names, best first."""
        return tuple(Candidate(s, v) for s, v in sorted(self.scores.items(), key=lambda c: (-c[1], c[0])))

    def similarity(self, sku: str) -> float:
        """Fused similarity to a SKU; 0 when no look listed it."""
        return self.scores.get(sku, 0.0)


def latest_per_viewpoint(scans: Iterable[BayScan]) -> list[BayScan]:
    """One scan a viewpoint, the newest capture; in order of viewpoint, whatever order they came in."""
    chosen: dict[str, BayScan] = {}
    for scan in scans:
        known = chosen.get(scan.viewpoint_id)
        if known is None or (scan.stamp_ns, scan.capture_id) > (known.stamp_ns, known.capture_id):
            chosen[scan.viewpoint_id] = scan
    return [chosen[v] for v in sorted(chosen)]


def look_weight(o: Observation) -> float:
    """How much one look counts: surely detected, well measured, seen straight on."""
    return max(1e-3, o.score * (0.2 + o.depth_confidence) * math.cos(o.view_angle_rad) ** 4)


def fuse(scans: Iterable[BayScan]) -> list[Cluster]:
    """Distinct products over all scans (one scan a viewpoint), each in one cluster; independent of order.

    Looks are taken best first; a look joins the nearest cluster of its face that is the same place and has no look of
    the same picture yet (one picture shows one product once).
    """
    looks = sorted(
        ((scan.viewpoint_id, o) for scan in latest_per_viewpoint(scans) for o in scan.observations),
        key=lambda v: (-look_weight(v[1]), v[1].observation_id),
    )
    cells: dict[tuple[str, int, int], list[Cluster]] = {}
    out: list[Cluster] = []
    for viewpoint_id, o in looks:
        picture = (viewpoint_id, o.head)
        i, k = math.floor(o.face_m[0] / 0.3), math.floor(o.face_m[2] / 0.3)
        near = [c for di in (-1, 0, 1) for dk in (-1, 0, 1) for c in cells.get((o.gondola_id, i + di, k + dk), ())]
        same = [(_distance(c, o), n, c) for n, c in enumerate(near) if picture not in c.looks and _same(c, o)]
        if same:
            _join(min(same)[2], o, picture)
            continue
        cluster = Cluster(o.gondola_id, o.face_m, o.size_m, 0.0, o.score, first_id=o.observation_id)
        _join(cluster, o, picture)
        cells.setdefault((o.gondola_id, i, k), []).append(cluster)
        out.append(cluster)
    for c in out:
        c.scores = {s: (a + max(0.0, c.weight - b) * c.floor) / c.weight for s, (a, b) in c.sums.items()}
    return sorted(out, key=lambda c: (c.gondola_id, c.face_m[2], c.face_m[0], c.first_id))


def _distance(c: Cluster, o: Observation) -> float:
    return math.dist(c.face_m, o.face_m)


def _same(c: Cluster, o: Observation) -> bool:
    return (
        abs(c.face_m[0] - o.face_m[0]) < SAME_PLACE * min(c.size_m[0], o.size_m[0])
        and abs(c.face_m[2] - o.face_m[2]) < SAME_PLACE * min(c.size_m[1], o.size_m[1])
        and abs(c.face_m[1] - o.face_m[1]) < SAME_DEPTH_M
    )


def _join(c: Cluster, o: Observation, picture: tuple[str, str]) -> None:
    w = look_weight(o)
    total = c.weight + w
    f, s = c.face_m, c.size_m
    c.face_m = (
        (f[0] * c.weight + o.face_m[0] * w) / total,
        (f[1] * c.weight + o.face_m[1] * w) / total,
        (f[2] * c.weight + o.face_m[2] * w) / total,
    )
    c.size_m = ((s[0] * c.weight + o.size_m[0] * w) / total, (s[1] * c.weight + o.size_m[1] * w) / total)
    c.weight = total
    c.score = max(c.score, o.score)
    c.looks.add(picture)
    c.top = max(c.top, max((x.score for x in o.candidates), default=0.0))
    for candidate in o.candidates:
        a, b = c.sums.get(candidate.sku, (0.0, 0.0))
        c.sums[candidate.sku] = (a + w * candidate.score, b + w)
    # A look that does not list a SKU says it is no better than its own worst listed one.
    c.floor = min((x.score for x in o.candidates), default=0.0)
