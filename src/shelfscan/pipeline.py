"""The one processing path: a capture of any source in, a `BayScan` out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from shelfscan.model.catalogue import Catalogue
from shelfscan.model.detections import Candidate, Detections
from shelfscan.model.geometry import apply, inverse
from shelfscan.model.imaging import FrameBundle, HeadFrame, Rgb
from shelfscan.model.planogram import Planogram
from shelfscan.model.scan import Alignment, BayScan, BinCoverage, FrontGrid, Observation, PlaceCheck, TagReading, TopLook
from shelfscan.model.store import BinPlace, Store, on_shelves
from shelfscan.perception.align import align_along, align_plane, doubt
from shelfscan.perception.coverage import FrontSeen, fronts_seen, share, to_bits
from shelfscan.perception.evidence import front_picture
from shelfscan.perception.fronts import front_grid
from shelfscan.perception.head_frames import hidden_in, picture_of, unusable
from shelfscan.perception.localise import FaceView, rounded, view_of
from shelfscan.perception.place_checks import DateReader, PlaceChecker, Planned
from shelfscan.perception.products import UnnamedProduct, placed_products
from shelfscan.perception.quality import measures
from shelfscan.perception.recognise import Look, Recogniser
from shelfscan.perception.stage import Stage
from shelfscan.perception.tag_looks import read_tags, tag_points
from shelfscan.perception.tops import top_looks
from shelfscan.ports import Detector, TagReader, TagText

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
    """What one head shows of a face whose place is known; what stands at planned places is held against the gallery."""

    grid: FrontGrid
    tops: list[TopLook]
    planned: list[Planned]
    seen: list[FrontSeen]


@dataclass(frozen=True)
class ScanResult:
    """A scan and its evidence pictures (JPEG bytes by name, as named in the scan)."""

    scan: BayScan
    evidence: Mapping[str, bytes]


class ScanPipeline:
    """Depth, detection, recognition, localisation of one capture. Stateless: the same bundle gives the same scan.

    ``at_once``: so many heads of a capture, or products that they show, are looked at at the same time, a core for each; the
    scan is the same. What is asked here (detector, tag reader, dates) is asked by one of them at a time.
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
                alignment, products, problem = self._aligned(bundle, gondola_id, looks, stage)
                if problem:
                    # Whatever it shows would be counted in the wrong place.
                    warnings.append(f"{gondola_id}: {problem}")
                    continue
                alignments.append(alignment)
                observations += products
                places = on_shelves(self._places.get(gondola_id, []), dict(alignment.shelves))
                T_face_base = alignment.matrix() @ inverse(looks[0].view.T_map_face) @ bundle.T_map_base
                moved = [replace(x, view=x.view.moved(alignment.matrix())) for x in looks]
                # One task for all tags: they wait for the same reader.
                read, (found, judged) = self._beside(
                    partial(self._read, moved, stage), partial(self._fronts, bundle, T_face_base, places, moved, stage)
                )
                tags += read
                for front, (of_places, differing) in zip(found, judged, strict=True):
                    fronts.append(front.grid)
                    tops += front.tops
                    checks += of_places
                    evidence |= differing
                with stage("cover"):
                    shown = [(look, seen) for look, front in zip(moved, found, strict=True) for seen in front.seen]
                    pictures = _cover(bundle.capture_id, shown, coverage)
                evidence |= zip(pictures, self._each(partial(_front_picture, stage), pictures.values()), strict=True)
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

    def _beside(self, work: Callable[[], A], rest: Callable[[], B]) -> tuple[A, B]:
        """Some work, and the rest, which hands out work of its own: side by side where that is wanted."""
        if self._pool is None:
            return work(), rest()
        begun = self._pool.submit(work)
        try:
            done = rest()
        finally:
            # Whatever went wrong, nothing of a capture goes on once it is over.
            wait([begun])
        return begun.result(), done

    def _named(
        self, held: Sequence[Sequence[tuple[Look, Collection[str]]]], name: str, stage: Stage
    ) -> list[list[tuple[Candidate, ...]]]:
        """The names of what each head shows. By crop, not by head: the last one working would work alone."""

        def candidates(crop: tuple[Look, Collection[str]]) -> tuple[Candidate, ...]:
            look, also = crop
            with stage(name):
                return look.candidates(also)

        found = iter(self._each(candidates, chain.from_iterable(held)))
        return [list(islice(found, len(of_head))) for of_head in held]

    def _look(self, bundle: FrameBundle, stage: Stage, frame: HeadFrame) -> tuple[_HeadLook | None, dict[str, float], str]:
        """One head's picture, depth and boxes with the believed pose, or none; its quality; why it cannot be used."""
        name = frame.head.name
        quality: dict[str, float] = {}
        hidden, problem = hidden_in(frame)
        problem = problem or unusable(frame)
        with stage("decode"):
            picture = None if problem else picture_of(frame)
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

    def _fronts(
        self,
        bundle: FrameBundle,
        T_face_base: NDArray[np.float64],
        places: Sequence[BinPlace],
        looks: Sequence[_HeadLook],
        stage: Stage,
    ) -> tuple[list[_Front], list[tuple[list[PlaceCheck], dict[str, bytes]]]]:
        """What the heads show of a face whose place is known; what stands at its planned places, with pictures."""
        found = self._each(partial(self._front, T_face_base, places, stage), looks)
        named = self._named([[(p.held, {p.sku}) for p in front.planned] for front in found], "check", stage)

        def judged(n: int) -> tuple[list[PlaceCheck], dict[str, bytes]]:
            return self._checker.judge(bundle, looks[n].view.head.name, found[n].planned, named[n], stage)

        return found, self._each(judged, range(len(looks)))

    def _front(self, T_face_base: NDArray[np.float64], places: Sequence[BinPlace], stage: Stage, look: _HeadLook) -> _Front:
        """Depth of the front, what is behind it and what stands at planned places, as one head shows them."""
        view, picture = look.view, look.picture
        with stage("front"):
            grid = front_grid(view)
        with stage("behind"):
            tops = top_looks(view, picture, grid, places, self._planogram, self._catalogue)
        planned = self._checker.planned(view, picture, grid, places, stage)
        with stage("cover"):
            seen = fronts_seen(view, T_face_base, places)
        return _Front(grid, list(tops), planned, seen)

    def _read(self, looks: Sequence[_HeadLook], stage: Stage) -> list[TagReading]:
        with stage("tags"):
            return [tag for x in looks for tag in read_tags(x.view, x.picture, x.found, self._tag_text)]

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
        of_head = self._each(partial(self._products, bundle, stage, T), looks)
        named = self._named([[(p.held, p.near) for p in products] for products in of_head], "recognise", stage)
        seen = [
            replace(p.observation, candidates=candidates)
            for p, candidates in zip(chain.from_iterable(of_head), chain.from_iterable(named), strict=True)
        ]
        with stage("align"):
            alignment = align_along(plane, seen, places, self._planogram, self._catalogue)
        return alignment, [_shifted(o, alignment.dx_m, looks[0].view.T_map_face) for o in seen], ""

    def _products(self, bundle: FrameBundle, stage: Stage, T: NDArray[np.float64], look: _HeadLook) -> list[UnnamedProduct]:
        """The products of one head, held against the gallery; ``T`` corrects its view."""
        view = look.view.moved(T)
        with stage("place"):
            near = partial(self._planned_near, view.gondola.gondola_id)
            found = placed_products(bundle.capture_id, view, look.picture, look.found, near)
        with stage("recognise"):
            held = list(self._recogniser.looks([crop for _, crop, _ in found]))
        return [UnnamedProduct(o, of_crop, skus) for (o, _, skus), of_crop in zip(found, held, strict=True)]

    def _planned_near(self, gondola_id: str, p: NDArray[np.float64]) -> set[str]:
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
    capture_id: str, shown: Iterable[tuple[_HeadLook, FrontSeen]], coverage: dict[str, BinCoverage]
) -> dict[str, tuple[_HeadLook, FrontSeen]]:
    """Take in which fronts the heads saw; what is to be pictured as evidence, by name."""
    pictures: dict[str, tuple[_HeadLook, FrontSeen]] = {}
    for look, front in shown:
        bin_id = front.place.bin_id
        before = coverage.get(bin_id, BinCoverage(bin_id, 0, 0))
        seen = to_bits(front.seen)
        name = before.evidence
        if share(seen) > max(EVIDENCE_SHARE, share(before.seen)):
            # The picture of the head that shows most of the front; a wide bin's whole front is in none.
            pictures.pop(name, None)
            name = f"{bin_id}/{capture_id}-{look.view.head.name}.jpg"
            pictures[name] = (look, front)
        coverage[bin_id] = BinCoverage(
            bin_id, before.seen | seen, (before.blocked | to_bits(front.blocked)) & ~(before.seen | seen), name
        )
    return pictures


def _front_picture(stage: Stage, shown: tuple[_HeadLook, FrontSeen]) -> bytes:
    look, front = shown
    with stage("cover"):
        return front_picture(look.view, front, look.picture)
