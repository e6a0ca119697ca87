"""The one processing path: a capture of any source in, a `BayScan` out."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import SensorError
from shelfscan.model.catalogue import Catalogue
from shelfscan.model.detections import DetectionClass, Detections
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.imaging import FrameBundle, HeadFrame, Rgb
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import Alignment, BayScan, BinCoverage, FrontGrid, Observation, PlaceCheck, TagReading, TopLook
from shelfscan.model.store import BinPlace, Store, on_shelves
from shelfscan.perception.align import align_along, align_plane, doubt
from shelfscan.perception.coverage import fronts_seen, share, to_bits
from shelfscan.perception.evidence import front_picture
from shelfscan.perception.fronts import front_grid
from shelfscan.perception.hidden import Hidden, cells_of, hidden_of
from shelfscan.perception.localise import FaceView, box_depth, rounded, view_of
from shelfscan.perception.looks import HIDDEN_SHARE
from shelfscan.perception.place_checks import DateReader, PlaceChecker
from shelfscan.perception.quality import measures
from shelfscan.perception.recognise import Recogniser
from shelfscan.perception.stage import Stage
from shelfscan.perception.tag_looks import read_tags, tag_points
from shelfscan.perception.tops import top_looks
from shelfscan.perception.upright import upright_size
from shelfscan.ports import Detector, TagReader, TagText

#: Boxes this near to the picture's border are cut; another view has them whole.
CUT_PX = 4.0
#: Products stand at most so far before and behind the front plane.
FRONT_SLACK_M = 0.06
MIN_VALID_DEPTH = 0.08
#: A picture is evidence when it shows at least this share of a bin's front.
EVIDENCE_SHARE = 0.3
#: A picture of nothing, to begin with.
BLANK_PX = (1296, 972)

A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class _HeadLook:
    """What one head shows: its view of the face, upright picture and boxes."""

    view: FaceView
    picture: Rgb
    found: Detections


@dataclass(frozen=True)
class _Front:
    """What one head shows of a face whose place is known."""

    tags: list[TagReading]
    grid: FrontGrid
    tops: list[TopLook]
    checks: list[PlaceCheck]
    evidence: dict[str, bytes]


@dataclass(frozen=True)
class ScanResult:
    """A scan and its evidence pictures (JPEG bytes by name, as named in the scan)."""

    scan: BayScan
    evidence: Mapping[str, bytes]


class ScanPipeline:
    """Depth, detection, recognition, localisation of one capture. Stateless: the same bundle gives the same scan.

    ``at_once``: so many heads of a capture are looked at at the same time, a core for each; the scan is the same. What is
    asked here (detector, tag reader, dates) is asked by one of them at a time.
    """

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
        at_once: int = 1,
    ) -> None:
        self._store, self._catalogue, self._planogram = store, catalogue, planogram
        self._detector, self._recogniser, self._tags = detector, recogniser, tag_reader
        self._checker = PlaceChecker(planogram, catalogue, recogniser, damage=damage, dates=dates, near_days=near_expiry_days)
        self._detecting, self._reading = threading.Lock(), threading.Lock()
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="heads") if at_once > 1 else None
        self._places: dict[str, list[BinPlace]] = {}
        for place in store.places.values():
            self._places.setdefault(place.gondola_id, []).append(place)

    @property
    def detector(self) -> Detector:
        """What finds the boxes."""
        return self._detector

    def close(self) -> None:
        """End what works on heads; nothing is processed any more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def prepare(self) -> Iterator[None]:
        """What the first captures would have to wait for, step by step: whoever has nothing else to do takes one more.

        A network's first answer is slow, and a gallery's pictures are worked out when they are first held against a crop.
        """
        with self._detecting:
            self._detector.detect(np.zeros((*BLANK_PX, 3), np.uint8))
        yield
        self._recogniser.recognise([np.zeros((64, 64, 3), np.uint8)])
        yield
        yield from self._recogniser.prepare()

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
            for look, measured, problem in self._each(partial(self._look, bundle, stage), bundle.frames):
                quality |= measured
                if look is None:
                    warnings.append(problem)
                else:
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
                moved = [replace(x, view=x.view.moved(alignment.matrix())) for x in looks]
                found = self._each(partial(self._front, bundle, places, stage), moved)
                for look, front in zip(moved, found, strict=True):
                    tags += front.tags
                    fronts.append(front.grid)
                    tops += front.tops
                    checks += front.checks
                    evidence |= front.evidence
                    with stage("cover"):
                        _cover(bundle.capture_id, look.view, look.picture, T_face_base, places, coverage, evidence)
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

    def _each(self, work: Callable[[A], B], things: Iterable[A]) -> list[B]:
        """Work on each thing, several at once where that is wanted, and what came out in the things' order."""
        if self._pool is None:
            return [work(thing) for thing in things]
        return list(self._pool.map(work, things))

    def _look(self, bundle: FrameBundle, stage: Stage, frame: HeadFrame) -> tuple[_HeadLook | None, dict[str, float], str]:
        """One head's picture, depth and boxes with the believed pose, or none; its quality; why it cannot be used."""
        name = frame.head.name
        quality: dict[str, float] = {}
        hidden, problem = _hidden(frame)
        problem = problem or _unusable(frame)
        with stage("decode"):
            picture = None if problem else _decode(frame)
        if picture is None:
            return None, quality, f"{name}: {problem or 'the RGB picture cannot be decoded'}"
        with stage("depth"):
            view = view_of(bundle, frame, self._store, hidden)
        if view is None:
            return None, quality, f"{name}: looks at no gondola face"
        quality[f"{name}.depth_valid"] = round(view.valid_fraction, 4)
        if view.hidden.any():
            quality[f"{name}.hidden"] = round(float(view.hidden.mean()), 4)
        if view.valid_fraction < MIN_VALID_DEPTH:
            few = f"{view.valid_fraction:.0%}"
            return None, quality, f"{name}: hardly any depth ({few}); stereo pair swapped, covered or dark?"
        with stage("detect"), self._detecting:
            found = self._detector.detect(picture)
        quality[f"{name}.boxes"] = float(len(found))
        with stage("quality"):
            quality |= {f"{name}.{what}": value for what, value in measures(frame, picture, view.hidden).items()}
        return _HeadLook(view, picture, found), quality, ""

    def _front(self, bundle: FrameBundle, places: Sequence[BinPlace], stage: Stage, look: _HeadLook) -> _Front:
        """Tags, depth of the front, what is behind it and what stands at planned places, as one head shows them."""
        view, picture = look.view, look.picture
        with stage("tags"):
            tags = read_tags(view, picture, look.found, self._tag_text)
        with stage("front"):
            grid = front_grid(view)
        with stage("behind"):
            tops = top_looks(view, picture, grid, places, self._planogram, self._catalogue)
        return _Front(tags, grid, list(tops), *self._checker.check(bundle, view, picture, grid, places, stage))

    def _tag_text(self, crop: Rgb) -> TagText:
        if self._tags is None:
            return TagText()
        with self._reading:
            return self._tags.read(crop)

    def _aligned(
        self, bundle: FrameBundle, gondola_id: str, looks: Sequence[_HeadLook], stage: Stage
    ) -> tuple[Alignment, list[Observation], str]:
        """How the pose is corrected for a face, the products all heads saw of it where they then stand, and why not."""
        places = self._places.get(gondola_id, [])
        about_x_m = round(float((inverse(looks[0].view.T_map_face) @ bundle.T_map_base)[0, 3]), 4)
        with stage("align"):
            points = np.concatenate([tag_points(look.view, look.found) for look in looks])
            plane = align_plane(gondola_id, about_x_m, points, places)
            problem = doubt(plane, points, places)
        if problem:
            return plane, [], problem
        T = plane.matrix()
        of_head = self._each(lambda x: self._products(bundle, x.view.moved(T), x.picture, x.found, stage), looks)
        seen = [o for products in of_head for o in products]
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
                position_map_m=rounded(on_map),
                face_m=rounded(p),
                size_m=(round((x1 - x0) * depth / focal, 4), round((y1 - y0) * depth / focal, 4)),
                depth_confidence=round(sure, 3),
                view_angle_rad=round(angle, 4),
            )
            crop = picture[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)]
            placed.append((observation, crop, self._planned_near(view.gondola.gondola_id, p)))
        return placed

    def _planned_near(self, gondola_id: str, p: np.ndarray) -> set[str]:
        """SKUs planned within reach of a place: their similarity is wanted even when others look more alike."""
        return {
            self._planogram[b.bin_id].sku
            for b in self._places[gondola_id]
            if b.x0_m - 0.12 <= p[0] <= b.x1_m + 0.12 and b.z0_m - 0.08 <= p[2] <= b.z1_m + 0.08
        }


def _shifted(o: Observation, dx_m: float, T_map_face: NDArray[np.float64]) -> Observation:
    """An observation moved along the face."""
    p = np.array([o.face_m[0] + dx_m, o.face_m[1], o.face_m[2]])
    return replace(o, face_m=rounded(p), position_map_m=rounded(apply(T_map_face, p)))


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
            evidence[name] = front_picture(view, front, picture)
        coverage[bin_id] = BinCoverage(
            bin_id, before.seen | seen, (before.blocked | to_bits(front.blocked)) & ~(before.seen | seen), name
        )


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
