"""The one processing path: a capture of any source in, a `BayScan` out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from datetime import datetime, timezone

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import SensorError
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.detections import Candidate, DetectionClass, Detections
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.imaging import FrameBundle, HeadFrame, Rgb
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import Alignment, BayScan, BinCoverage, FrontGrid, Observation, PlaceCheck, TagReading, TopLook
from shelfscan.model.store import BinPlace, Store, on_shelves
from shelfscan.perception.align import align_along, align_plane, doubt
from shelfscan.perception.coverage import FrontSeen, fronts_seen, share, to_bits
from shelfscan.perception.damage import LEAST_COSINE, MOST_HIDDEN, SUSPECT, Reference, anomalies, reference_of
from shelfscan.perception.dates import ExpiryReading, days_until
from shelfscan.perception.fronts import front_grid
from shelfscan.perception.hidden import Hidden, cells_of, hidden_of
from shelfscan.perception.localise import FaceView, box_depth, view_of
from shelfscan.perception.looks import HIDDEN_SHARE, PlannedLook, planned_looks
from shelfscan.perception.orientation import Turn, in_doubt, turns
from shelfscan.perception.quality import measures
from shelfscan.perception.recognise import Recogniser
from shelfscan.perception.tops import top_looks
from shelfscan.perception.upright import upright_size
from shelfscan.ports import Detector, TagReader, TagText

#: Boxes this near to the picture's border are cut; another view has them whole.
CUT_PX = 4.0
#: Products stand at most so far before and behind the front plane.
FRONT_SLACK_M = 0.06
#: A tag is read by the capture that sees it near the middle, so that neighbouring captures don't read it again.
TAG_HALF_WIDTH_M = 0.31
TAG_HALF_HEIGHT_M = 0.48
MIN_VALID_DEPTH = 0.08
EVIDENCE_PX = 400
#: Only looks that show the planned SKU with this score are judged for damage.
SHOWN = 0.5
#: Dates take a second a crop: they are read where an item is seen straight on and large enough.
DATE_COSINE, DATE_LEAST_PX = 0.97, 80
#: SKUs whose reference pictures are kept ready for that.
REFERENCES_KEPT = 1000
#: A picture is evidence when it shows at least this share of a bin's front.
EVIDENCE_SHARE = 0.3


#: Reads the expiry date on an upright (h, w, 3) picture of a pack.
DateReader = Callable[[Rgb], ExpiryReading]
#: Entered around each stage of the processing, with its name (`STAGES`): what measures times, outside this module.
Stage = Callable[[str], AbstractContextManager[object]]
STAGES = (
    *("decode", "depth", "detect", "align", "place", "recognise"),
    *("quality", "tags", "cover", "front", "behind", "look", "check", "condition"),
)


@dataclass(frozen=True)
class _HeadLook:
    """What one head shows: its view of the face, upright picture and boxes."""

    view: FaceView
    picture: Rgb
    found: Detections


@dataclass(frozen=True)
class ScanResult:
    """A scan and its evidence pictures (JPEG bytes by name, as named in the scan)."""

    scan: BayScan
    evidence: Mapping[str, bytes]


class ScanPipeline:
    """Depth, detection, recognition, localisation of one capture. Stateless: the same bundle gives the same scan."""

    def __init__(
        self,
        store: Store,
        catalogue: Catalogue,
        planogram: Planogram,
        detector: Detector,
        recogniser: Recogniser,
        tag_reader: TagReader | None = None,
        *,
        damage: bool = True,
        dates: DateReader | None = None,
        near_expiry_days: int = 7,
    ) -> None:
        self._store, self._catalogue, self._planogram = store, catalogue, planogram
        self._detector, self._recogniser, self._tags = detector, recogniser, tag_reader
        self._damage, self._dates, self._near_days = damage, dates, near_expiry_days
        self._references: dict[str, list[Reference]] = {}
        self._places: dict[str, list[BinPlace]] = {}
        for place in store.places.values():
            self._places.setdefault(place.gondola_id, []).append(place)

    @property
    def detector(self) -> Detector:
        """What finds the boxes."""
        return self._detector

    def process(self, bundle: FrameBundle, stage: Stage = nullcontext) -> ScanResult:
        """Everything one capture tells. What cannot be used becomes a warning, never an exception or a silent zero."""
        observations: list[Observation] = []
        tags: list[TagReading] = []
        coverage: dict[str, BinCoverage] = {}
        fronts: list[FrontGrid] = []
        checks: list[PlaceCheck] = []
        alignments: list[Alignment] = []
        tops: list[TopLook] = []
        evidence: dict[str, bytes] = {}
        warnings: list[str] = []
        quality: dict[str, float] = {}
        if not np.isfinite(bundle.T_map_base).all():
            warnings.append("pose is not finite: nothing of this capture is used")
        else:
            of_face: dict[str, list[_HeadLook]] = {}
            for frame in bundle.frames:
                look = self._look(bundle, frame, quality, warnings, stage)
                if look is not None:
                    of_face.setdefault(look.view.gondola.gondola_id, []).append(look)
            for gondola_id, looks in of_face.items():
                alignment, seen, problem = self._aligned(bundle, gondola_id, looks, stage)
                if problem:
                    # Whatever it shows would be counted in the wrong place.
                    warnings.append(f"{gondola_id}: {problem}")
                    continue
                alignments.append(alignment)
                observations += seen
                places = on_shelves(self._places.get(gondola_id, []), dict(alignment.shelves))
                T_face_base = alignment.matrix() @ inverse(looks[0].view.T_map_face) @ bundle.T_map_base
                for look in (replace(x, view=x.view.moved(alignment.matrix())) for x in looks):
                    view, picture = look.view, look.picture
                    with stage("tags"):
                        tags += self._read_tags(view, picture, look.found)
                    with stage("cover"):
                        _cover(bundle.capture_id, view, picture, T_face_base, places, coverage, evidence)
                    with stage("front"):
                        grid = front_grid(view)
                    fronts.append(grid)
                    with stage("behind"):
                        tops += top_looks(view, picture, grid, places, self._planogram, self._catalogue)
                    checks += self._check_places(bundle, view, picture, grid, places, evidence, stage)
        bays = sorted({self._store.places[b].bay_id for b in coverage})
        scan = BayScan(
            bundle.mission_id,
            bundle.viewpoint_id,
            bundle.capture_id,
            bundle.stamp_ns,
            tuple(bays),
            tuple(observations),
            tuple(tags),
            tuple(coverage[b] for b in sorted(coverage)),
            tuple(fronts),
            tuple(checks),
            quality,
            tuple(warnings),
            tuple(alignments),
            tuple(tops),
        )
        return ScanResult(scan, evidence)

    def _look(
        self, bundle: FrameBundle, frame: HeadFrame, quality: dict[str, float], warnings: list[str], stage: Stage
    ) -> _HeadLook | None:
        """One head's picture, depth and boxes with the believed pose; None, and a warning, when they cannot be used."""
        name = frame.head.name
        hidden, problem = _hidden(frame)
        problem = problem or _unusable(frame)
        with stage("decode"):
            picture = None if problem else _decode(frame)
        if picture is None:
            warnings.append(f"{name}: {problem or 'the RGB picture cannot be decoded'}")
            return None
        with stage("depth"):
            view = view_of(bundle, frame, self._store, hidden)
        if view is None:
            warnings.append(f"{name}: looks at no gondola face")
            return None
        quality[f"{name}.depth_valid"] = round(view.valid_fraction, 4)
        if view.hidden.any():
            quality[f"{name}.hidden"] = round(float(view.hidden.mean()), 4)
        if view.valid_fraction < MIN_VALID_DEPTH:
            share = f"{view.valid_fraction:.0%}"
            warnings.append(f"{name}: hardly any depth ({share}); stereo pair swapped, covered or dark?")
            return None
        with stage("detect"):
            found = self._detector.detect(picture)
        quality[f"{name}.boxes"] = float(len(found))
        with stage("quality"):
            quality |= {f"{name}.{what}": value for what, value in measures(frame, picture, view.hidden).items()}
        return _HeadLook(view, picture, found)

    def _aligned(
        self, bundle: FrameBundle, gondola_id: str, looks: Sequence[_HeadLook], stage: Stage
    ) -> tuple[Alignment, list[Observation], str]:
        """How the pose is corrected for a face, the products all heads saw of it where they then stand, and why not."""
        places = self._places.get(gondola_id, [])
        about_x_m = round(float((inverse(looks[0].view.T_map_face) @ bundle.T_map_base)[0, 3]), 4)
        with stage("align"):
            points = np.concatenate([_tag_points(look) for look in looks])
            plane = align_plane(gondola_id, about_x_m, points, places)
            problem = doubt(plane, points, places)
        if problem:
            return plane, [], problem
        T = plane.matrix()
        seen: list[Observation] = []
        for look in looks:
            seen += self._products(bundle, look.view.moved(T), look.picture, look.found, stage)
        with stage("align"):
            alignment = align_along(plane, seen, places, self._planogram, self._catalogue)
        return alignment, [_shifted(o, alignment.dx_m, looks[0].view.T_map_face) for o in seen], ""

    def _products(
        self, bundle: FrameBundle, view: FaceView, picture: Rgb, found: Detections, stage: Stage
    ) -> list[Observation]:
        with stage("place"):
            placed = self._placed(bundle, view, picture, found)
        with stage("recognise"):
            named = self._recogniser.recognise([c for _, c, _ in placed], [near for _, _, near in placed])
        return [replace(o, candidates=candidates) for (o, _, _), candidates in zip(placed, named, strict=True)]

    def _placed(
        self, bundle: FrameBundle, view: FaceView, picture: Rgb, found: Detections
    ) -> list[tuple[Observation, Rgb, set[str]]]:
        """Products without names yet, each with its picture and the SKUs planned near it."""
        w, h = upright_size(view.head.rgb)
        products = found.of(DetectionClass.PRODUCT)
        placed: list[tuple[Observation, Rgb, set[str]]] = []
        focal = view.head.rgb.intrinsics.fx_px
        for n, (box, score) in enumerate(zip(products.boxes_px.tolist(), products.scores.tolist(), strict=True)):
            x0, y0, x1, y1 = (float(v) for v in box)
            if x0 < CUT_PX or y0 < CUT_PX or x1 > w - CUT_PX or y1 > h - CUT_PX:
                continue
            if view.hidden_share((x0, y0, x1, y1)) > HIDDEN_SHARE:
                continue
            depth, sure = box_depth(view.depth, (x0, y0, x1, y1))
            if not math.isfinite(depth):
                continue
            p = view.to_face(((x0 + x1) / 2, (y0 + y1) / 2), depth)
            if not -FRONT_SLACK_M <= p[1] <= view.gondola.depth_m or not -0.1 <= p[0] <= view.gondola.length_m + 0.1:
                continue
            on_map = apply(view.T_map_face, p)
            ray = p - view.eye_face_m
            angle = math.acos(float(np.clip(ray[1] / np.linalg.norm(ray), -1.0, 1.0)))
            observation = Observation(
                observation_id=f"{bundle.capture_id}/{view.head.name}/{n}",
                head=view.head.name,
                gondola_id=view.gondola.gondola_id,
                box_px=(round(x0, 1), round(y0, 1), round(x1, 1), round(y1, 1)),
                score=round(score, 4),
                position_map_m=_rounded(on_map),
                face_m=_rounded(p),
                size_m=(round((x1 - x0) * depth / focal, 4), round((y1 - y0) * depth / focal, 4)),
                depth_confidence=round(sure, 3),
                view_angle_rad=round(angle, 4),
            )
            crop = picture[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)]
            placed.append((observation, crop, self._planned_near(view.gondola.gondola_id, p)))
        return placed

    def _check_places(
        self,
        bundle: FrameBundle,
        view: FaceView,
        picture: Rgb,
        grid: FrontGrid,
        places: Sequence[BinPlace],
        evidence: dict[str, bytes],
        stage: Stage,
    ) -> list[PlaceCheck]:
        with stage("look"):
            looks = planned_looks(view, picture, grid, places, self._planogram, self._catalogue)
        planned = [self._planogram[look.bin_id].sku for look in looks]
        with stage("check"):
            named = self._recogniser.recognise([look.crop for look in looks], [{sku} for sku in planned])
        with stage("condition"):
            turned = self._turned([look.crop for look in looks], planned, named)
            damage = self._damaged(looks, planned, named) if self._damage else [0.0] * len(looks)
            near = self._near_expiry(bundle, looks, planned, named)
        pictures = [""] * len(looks)
        for n, look in enumerate(looks):
            if damage[n] >= SUSPECT:
                place = f"c{look.column}r{look.row}"
                pictures[n] = f"{look.bin_id}/{bundle.capture_id}-{view.head.name}-{place}.jpg"
                evidence[pictures[n]] = _jpeg(look.crop)
        return [
            PlaceCheck(
                bin_id=look.bin_id,
                column=look.column,
                row=look.row,
                head=view.head.name,
                depth_m=round(look.depth_m, 4),
                weight=round(look.cosine**4, 3),
                candidates=(candidates[0], *(c for c in candidates[1:] if c.sku == sku)),
                turn=turn,
                damage=differs,
                evidence=name,
                near_expiry=expires,
            )
            for look, sku, candidates, turn, differs, name, expires in zip(
                looks, planned, named, turned, damage, pictures, near, strict=True
            )
        ]

    def _near_expiry(
        self,
        bundle: FrameBundle,
        looks: Sequence[PlannedLook],
        planned: Sequence[str],
        named: Sequence[Sequence[Candidate]],
    ) -> list[str]:
        """The expiry date of each look that shows the planned SKU straight on, where it is near; else empty."""
        out = [""] * len(looks)
        if self._dates is None:
            return out
        today = datetime.fromtimestamp(bundle.stamp_ns / 1e9, timezone.utc).date()
        for n, (look, sku, candidates) in enumerate(zip(looks, planned, named, strict=True)):
            shown = any(c.sku == sku and c.score >= SHOWN for c in candidates)
            if shown and look.cosine >= DATE_COSINE and min(look.crop.shape[:2]) >= DATE_LEAST_PX:
                iso = self._dates(look.crop).iso
                days = days_until(iso, today)
                out[n] = iso if days is not None and days <= self._near_days else ""
        return out

    def _damaged(
        self, looks: Sequence[PlannedLook], planned: Sequence[str], named: Sequence[Sequence[Candidate]]
    ) -> list[float]:
        """How much each look differs from its kind, where it shows the planned SKU squarely; 0 elsewhere."""
        out = [0.0] * len(looks)
        of_sku: dict[str, list[int]] = {}
        for n, (look, sku, candidates) in enumerate(zip(looks, planned, named, strict=True)):
            shown = any(c.sku == sku and c.score >= SHOWN for c in candidates)
            if shown and look.cosine >= LEAST_COSINE and look.hidden <= MOST_HIDDEN:
                of_sku.setdefault(sku, []).append(n)
        for sku, members in of_sku.items():
            if sku not in self._references:
                if len(self._references) >= REFERENCES_KEPT:
                    self._references.clear()
                self._references[sku] = [reference_of(d) for d in self._recogniser.details(sku)]
            chosen = [looks[n] for n in members]
            found = anomalies([c.crop for c in chosen], [c.clear_px for c in chosen], self._references[sku])
            for n, differs in zip(members, found, strict=True):
                out[n] = differs
        return out

    def _turned(self, crops: Sequence[Rgb], planned: Sequence[str], named: Sequence[Sequence[Candidate]]) -> list[str]:
        """How each planned item is turned, as `PlaceCheck.turn` says it."""
        out = [""] * len(crops)
        known = self._recogniser.skus
        doubtful = [n for n, c in enumerate(named) if planned[n] in known and in_doubt(c)]
        found = turns(self._recogniser, [crops[n] for n in doubtful], [planned[n] for n in doubtful])
        for n, turn in zip(doubtful, found, strict=True):
            out[n] = {Turn.UPRIGHT: "", Turn.RIGHT: "lying", Turn.LEFT: "lying"}.get(turn, str(turn))
        return out

    def _planned_near(self, gondola_id: str, p: np.ndarray) -> set[str]:
        """SKUs planned within reach of a place: their similarity is wanted even when others look more alike."""
        return {
            self._planogram[b.bin_id].sku
            for b in self._places[gondola_id]
            if b.x0_m - 0.12 <= p[0] <= b.x1_m + 0.12 and b.z0_m - 0.08 <= p[2] <= b.z1_m + 0.08
        }

    def _read_tags(self, view: FaceView, picture: Rgb, found: Detections) -> list[TagReading]:
        out = []
        boxes = found.of(DetectionClass.PRICE_TAG)
        standoff = -float(view.eye_face_m[1])
        for box, score in zip(boxes.boxes_px.tolist(), boxes.scores.tolist(), strict=True):
            x0, y0, x1, y1 = (float(v) for v in box)
            if view.hidden_share((x0, y0, x1, y1)) > HIDDEN_SHARE:
                continue
            depth, _ = box_depth(view.depth, (x0, y0, x1, y1))
            # Tags hang on the shelf's edge: without depth the front plane is where they are.
            p = view.to_face(((x0 + x1) / 2, (y0 + y1) / 2), depth if math.isfinite(depth) else standoff)
            dx, dz = abs(p[0] - view.eye_face_m[0]), abs(p[2] - view.eye_face_m[2])
            if abs(p[1]) > 0.08 or dx > TAG_HALF_WIDTH_M or dz > TAG_HALF_HEIGHT_M:
                continue
            pad = 0.06 * (x1 - x0)
            crop = picture[max(0, int(y0 - pad)) : int(y1 + pad) + 1, max(0, int(x0 - pad)) : int(x1 + pad) + 1]
            text = self._tags.read(crop) if self._tags is not None else TagText()
            out.append(
                TagReading(
                    view.head.name,
                    view.gondola.gondola_id,
                    _rounded(p),
                    (round(x0, 1), round(y0, 1), round(x1, 1), round(y1, 1)),
                    round(score, 4),
                    text.price_text,
                    text.item_text,
                    text.ean_text,
                    round(text.confidence, 3),
                    text.currency,
                    text.unit_price_text,
                    text.unit_text,
                    text.name_text,
                    text.promotion,
                )
            )
        return out


def _tag_points(look: _HeadLook) -> NDArray[np.float64]:
    """(N, 4) where one head's price tags were measured, metres in the face frame, and their scores."""
    boxes = look.found.of(DetectionClass.PRICE_TAG)
    out = []
    for box, score in zip(boxes.boxes_px.tolist(), boxes.scores.tolist(), strict=True):
        x0, y0, x1, y1 = (float(v) for v in box)
        depth, _ = box_depth(look.view.depth, (x0, y0, x1, y1))
        if math.isfinite(depth) and look.view.hidden_share((x0, y0, x1, y1)) <= HIDDEN_SHARE:
            out.append((*look.view.to_face(((x0 + x1) / 2, (y0 + y1) / 2), depth), score))
    return np.array(out, np.float64).reshape(-1, 4)


def _shifted(o: Observation, dx_m: float, T_map_face: NDArray[np.float64]) -> Observation:
    """An observation moved along the face."""
    p = np.array([o.face_m[0] + dx_m, o.face_m[1], o.face_m[2]])
    return replace(o, face_m=_rounded(p), position_map_m=_rounded(apply(T_map_face, p)))


def _cover(
    capture_id: str,
    view: FaceView,
    picture: Rgb,
    T_face_base: NDArray[np.float64],
    places: Sequence[BinPlace],
    coverage: dict[str, BinCoverage],
    evidence: dict[str, bytes],
) -> None:
    """Take in which fronts a head saw, and its pictures of them."""
    for front in fronts_seen(view, T_face_base, places):
        bin_id = front.place.bin_id
        before = coverage.get(bin_id, BinCoverage(bin_id, 0, 0))
        seen = to_bits(front.seen)
        name = before.evidence
        if share(seen) > max(EVIDENCE_SHARE, share(before.seen)):
            # The picture of the head that shows most of the front; a wide bin's whole front is in none.
            evidence.pop(name, None)
            name = f"{bin_id}/{capture_id}-{view.head.name}.jpg"
            evidence[name] = _crop_front(view, front, picture)
        coverage[bin_id] = BinCoverage(
            bin_id, before.seen | seen, (before.blocked | to_bits(front.blocked)) & ~(before.seen | seen), name
        )


def _rounded(p: np.ndarray) -> tuple[float, float, float]:
    return (round(float(p[0]), 4), round(float(p[1]), 4), round(float(p[2]), 4))


def _hidden(frame: HeadFrame) -> tuple[Hidden | None, str]:
    """What was made unreadable of a frame, and why that cannot be told, or an empty text."""
    try:
        hidden = hidden_of(frame.rgb_jpeg)
    except SensorError as e:
        return None, str(e)
    left, rgb = (cells_of(i.height_px, i.width_px) for i in (frame.head.left.intrinsics, frame.head.rgb.intrinsics))
    if hidden is not None and (hidden.left.shape, hidden.right.shape, hidden.rgb.shape) != (left, left, rgb):
        return None, "what is hidden in the pictures is noted for other sizes"
    return hidden, ""


def _unusable(frame: HeadFrame) -> str:
    """Why a head's pictures cannot be used, or an empty text."""
    i = frame.head.left.intrinsics
    for side, picture in (("left", frame.left), ("right", frame.right)):
        if picture.shape != (i.height_px, i.width_px):
            return f"{side} picture is {picture.shape}, expected {(i.height_px, i.width_px)}"
        if int(picture.max(initial=0)) < 12:
            return f"{side} picture is black"
    return ""


def _decode(frame: HeadFrame) -> Rgb | None:
    """The upright RGB picture, or None when its bytes are no picture of the camera's size."""
    if not frame.rgb_jpeg:
        return None
    bgr = cv2.imdecode(np.frombuffer(frame.rgb_jpeg, np.uint8), cv2.IMREAD_COLOR)
    i = frame.head.rgb.intrinsics
    if bgr is None or bgr.shape[:2] != (i.height_px, i.width_px):
        return None
    return np.ascontiguousarray(np.rot90(bgr[..., ::-1], frame.head.rgb.upright_turns))


def _crop_front(view: FaceView, front: FrontSeen, picture: Rgb) -> bytes:
    """A picture of a bin's front with a little around it, at most `EVIDENCE_PX` long."""
    p = front.place
    corners = np.array([[x, 0.0, z] for x in (p.x0_m - 0.02, p.x1_m + 0.02) for z in (p.z0_m - 0.05, p.z1_m + 0.01)])
    px = view.to_pixels(corners)
    h, w = picture.shape[:2]
    x0, y0 = (int(max(0, v)) for v in px.min(axis=0))
    x1, y1 = int(min(w, px[:, 0].max())), int(min(h, px[:, 1].max()))
    crop = picture[y0:y1, x0:x1]
    return _jpeg(crop)


def _jpeg(crop: Rgb) -> bytes:
    """JPEG bytes of a picture, at most `EVIDENCE_PX` long."""
    scale = min(1.0, EVIDENCE_PX / max(crop.shape[:2]))
    small = cv2.resize(crop, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()
