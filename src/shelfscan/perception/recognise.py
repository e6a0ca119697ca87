"""Names for product crops: likeness to reference photographs, with *unknown* and *tie* as possible answers.

The embedding and the layout of colours find the SKUs that may be meant; where these leave doubt, local features and what
lies where the reference is laid on the crop decide between them. What the planogram expects is no business of the
recogniser; matching weighs that.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput
from shelfscan.model.detections import Candidate
from shelfscan.model.imaging import Rgb
from shelfscan.perception.appearance import colour_layout, laid_copy, laid_on
from shelfscan.perception.local_features import NOTHING, SIDE_PX, LocalFeatures, Shared, local_features, shared
from shelfscan.ports import Embedder

TOP = 5
#: A box of a photograph may be wide of its product; the mean embedding of crops this much narrower on all sides (shares of
#: its sides) is right more often than one. Who is in a hurry takes the box alone: a robot's boxes are tight.
INSETS, AS_IS = (0.0, 0.06, 0.1), (0.0,)
#: So many SKUs are looked at closely.
SHORTLIST = 40
#: ... in a hurry only such whose likeness and colour are within this of the best's, but so many at least: what others show
#: too names nothing, and that takes others.
NEAR_BEST, FEWEST = 0.6, 10
#: An embedding this near, and nearer than the next SKU's by so much, leaves no doubt.
SURE, SURE_MARGIN = 0.85, 0.2
#: ... in a hurry already from here on: of simulated shelf crops a sixth is below, and with them nearly all that is named wrong.
SURE_HURRIED, SURE_MARGIN_HURRIED = 0.6, 0.1
#: Fewer places than these agree by chance.
CHANCE_PLACES = 3
#: What each piece of evidence counts. Chosen on `packshots`, with `racks` in sight; round, and flat around here.
LIKENESS, COLOUR, PLACES, OWN_PLACES, LAID_LIGHT, LAID_COLOUR, SHAPE = 3.0, 1.0, 0.3, 0.3, 0.25, 1.2, 0.5
#: Evidence as a score: the middle between products that are in the gallery and products that are not, and the slope there.
MIDDLE, SLOPE = 3.5, 1.3
#: Two SKUs this near in score are not told apart.
TIE_WITHIN = 0.05


class Verify(str, Enum):
    """When local features are asked."""

    NEVER = "never"
    DOUBT = "doubt"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a product is: ``sku``, empty for none of the gallery's; ``tied_with`` is the SKU it may be as well, mostly empty."""

    sku: str
    tied_with: str = ""


def verdict(candidates: Sequence[Candidate], unknown_below: float, tie_within: float = TIE_WITHIN) -> Verdict:
    """One SKU, two that are not told apart, or none. ``candidates``: best first, as `Recogniser.recognise` gives them."""
    if not candidates or candidates[0].score < unknown_below:
        return Verdict("")
    first = candidates[0]
    if len(candidates) > 1 and round(first.score - candidates[1].score, 6) < tie_within:
        return Verdict(first.sku, candidates[1].sku)
    return Verdict(first.sku)


#: Width and height of the copies that are held against one another for damage.
SMALL_PX = (48, 72)


class Detail:
    """What the close look needs of a picture; worked out once, when it is first wanted, and the picture is let go."""

    def __init__(self, picture: Rgb) -> None:
        self._picture: Rgb | None = picture
        self._seen: tuple[LocalFeatures, NDArray[np.uint8]] | None = None
        #: Logarithm of width over height.
        self.shape = math.log(picture.shape[1] / picture.shape[0])
        #: A copy of `SMALL_PX`, whatever the picture's proportions.
        self.small: Rgb = np.asarray(cv2.resize(picture, SMALL_PX, interpolation=cv2.INTER_AREA), np.uint8)

    def of(self) -> tuple[LocalFeatures, NDArray[np.uint8]]:
        picture, seen = self._picture, self._seen
        if seen is None:
            # Another thread may just have done it; its result is there before the picture goes.
            seen = (local_features(picture), laid_copy(picture)) if picture is not None else self._seen
            assert seen is not None
            self.know(*seen)
        return seen

    def know(self, features: LocalFeatures, copy: NDArray[np.uint8]) -> None:
        """Take what `of` would work out from who kept it."""
        self._seen = (features, copy)
        self._picture = None

    @property
    def known(self) -> bool:
        """Whether there is nothing left to work out."""
        return self._seen is not None


@dataclass(frozen=True)
class Gallery:
    """Reference pictures: row i of ``vectors`` (N, D) and ``colours`` (N, LAYOUT_DIM), unit rows, shows ``skus[owner[i]]``."""

    skus: tuple[str, ...]
    owner: NDArray[np.int64]
    vectors: NDArray[np.float32]
    colours: NDArray[np.float32]
    details: tuple[Detail, ...] = field(repr=False)
    insets: tuple[float, ...] = INSETS

    @cached_property
    def index(self) -> Mapping[str, int]:
        """The place of each SKU in ``skus``."""
        return {s: i for i, s in enumerate(self.skus)}

    @staticmethod
    def build(embedder: Embedder, references: Mapping[str, Sequence[Rgb]], insets: tuple[float, ...] = INSETS) -> Gallery:
        """Embed reference pictures by SKU. Raises `BadInput` when there is none."""
        skus = tuple(sorted(s for s, pictures in references.items() if len(pictures)))
        if not skus:
            raise BadInput("the gallery holds no reference picture")
        crops = [p for s in skus for p in references[s]]
        owner = np.repeat(np.arange(len(skus)), [len(references[s]) for s in skus])
        colours = np.stack([colour_layout(c) for c in crops])
        details = tuple(details_of(crops))
        return Gallery(skus, owner.astype(np.int64), _embedded(embedder, crops, insets), colours, details, insets)


def _embedded(embedder: Embedder, crops: Sequence[Rgb], insets: Sequence[float]) -> NDArray[np.float32]:
    """Mean embeddings of crops made narrower by shares of their sides, unit rows (N, D)."""
    if tuple(insets) == AS_IS:
        return embedder.embed(crops)
    total = np.sum([embedder.embed([_narrower(c, i) for c in crops]) for i in insets], axis=0)
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-6), np.float32)


def _narrower(crop: Rgb, share: float) -> Rgb:
    h, w = crop.shape[:2]
    y, x = int(share * h), int(share * w)
    return np.ascontiguousarray(crop[y : h - y, x : w - x])


def details_of(pictures: Iterable[Rgb]) -> Iterator[Detail]:
    """What is kept of reference pictures for close looks."""
    return (Detail(_reduced(p)) for p in pictures)


def _reduced(picture: Rgb) -> Rgb:
    """A picture no larger than the close look uses, so that a gallery of phone photographs fits into memory."""
    scale = SIDE_PX / max(picture.shape[:2])
    if scale >= 1:
        # A copy, so that the photograph it may be a part of can go.
        return picture.copy()
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


class Recogniser:
    """Nearest reference pictures, looked at closely where asked for. Scores lie in 0..1 and mean much the same either way.

    ``hurried``: a close look takes only the references that are near the best one's likeness; a robot has hundreds of crops
    a viewpoint, and its embedding knows the gallery's kind of picture better than a stranger's photograph. Safe to ask from
    several threads at once; the embedder is asked by one of them at a time.
    """

    def __init__(
        self,
        embedder: Embedder,
        gallery: Gallery,
        unknown_below: float = 0.45,
        verify: Verify = Verify.NEVER,
        hurried: bool = False,
        prepared: Callable[[], None] = lambda: None,
    ) -> None:
        """``prepared`` is called when `prepare` has worked out all that was not known before."""
        self._embedder = embedder
        self._gallery = gallery
        self._verify = verify
        self._hurried = hurried
        self._embedding, self._prepared = threading.Lock(), prepared
        #: A best score below this is "none of the gallery's".
        self.unknown_below = unknown_below

    @property
    def skus(self) -> tuple[str, ...]:
        """The names it knows."""
        return self._gallery.skus

    def recognise(self, crops: Sequence[Rgb], also: Sequence[Collection[str]] | None = None) -> list[tuple[Candidate, ...]]:
        """The best `TOP` names of each crop, best first.

        ``also``: SKUs whose score is wanted for a crop even when they are not among the best; they change no other's. A
        score is the cosine of the embeddings, clipped to 0..1, or after a close look that look's.
        """
        return [look.candidates(also[n] if also else ()) for n, look in enumerate(self.looks(crops))]

    def prepare(self) -> Iterator[None]:
        """Work out what close looks need of the gallery, a picture a step; the rest is done when it is wanted."""
        unknown = [d for d in self._gallery.details if not d.known] if self._verify is not Verify.NEVER else []
        for detail in unknown:
            detail.of()
            yield
        if unknown:
            self._prepared()

    def details(self, sku: str) -> tuple[Detail, ...]:
        """The SKU's reference pictures, as far as they are kept; none for one that is not in the gallery."""
        g = self._gallery
        if sku not in g.skus:
            return ()
        return tuple(g.details[n] for n in np.flatnonzero(g.owner == g.skus.index(sku)))

    def likeness(self, crops: Sequence[Rgb], skus: Sequence[str]) -> list[float]:
        """Cosine of each crop to the nearest reference of the SKU named for it; -1 where the gallery lacks that."""
        if not len(crops):
            return []
        g = self._gallery
        with self._embedding:
            cosines = _embedded(self._embedder, crops, g.insets) @ g.vectors.T
        rows = {s: np.flatnonzero(g.owner == i) for i, s in enumerate(g.skus) if s in set(skus)}
        return [float(row[rows[s]].max()) if s in rows else -1.0 for row, s in zip(cosines, skus, strict=True)]

    def looks(self, crops: Sequence[Rgb]) -> Iterator[Look]:
        """Each crop held against the gallery, for who asks more than once."""
        if len(crops):
            with self._embedding:
                likeness = _embedded(self._embedder, crops, self._gallery.insets) @ self._gallery.vectors.T
            for crop, row in zip(crops, likeness, strict=True):
                yield Look(self._gallery, self._verify, self._hurried, crop, row)


class Look:
    """A crop held against a gallery. Asked again, it repeats no work.

    ``likeness``: cosines to the references, (N,).
    """

    def __init__(self, gallery: Gallery, verify: Verify, hurried: bool, crop: Rgb, likeness: NDArray[np.float32]) -> None:
        self._gallery, self._verify, self._hurried, self._crop, self._likeness = gallery, verify, hurried, crop, likeness
        self._mine: Detail | None = None
        self._cheap: NDArray[np.float32] | None = None
        self._found: dict[int, Shared] = {}

    def candidates(self, also: Collection[str] = (), without: Collection[str] = ()) -> tuple[Candidate, ...]:
        """The best `TOP` names and those of ``also``, best first, as though ``without`` were not in the gallery."""
        index = self._gallery.index
        out = np.zeros(len(index), bool)
        out[[index[s] for s in without if s in index]] = True
        if out.all():
            return ()
        wanted = {index[s] for s in also if s in index and s not in without}
        scores = self._per_sku(self._likeness).clip(0.0, 1.0)
        there = scores[~out]
        if self._verify is Verify.ALWAYS or (self._verify is Verify.DOUBT and _doubtful(there, self._hurried)):
            scored = self._closely(wanted, out)
            order = sorted(scored, key=lambda i: (-scored[i], i))
        else:
            order = [i for i in np.argsort(-scores, kind="stable").tolist() if not out[i]]
            scored = {i: float(scores[i]) for i in {*order[:TOP], *wanted}}
        chosen = order[:TOP] + [i for i in order[TOP:] if i in wanted]
        return tuple(Candidate(self._gallery.skus[i], round(scored[i], 4)) for i in chosen)

    def _per_sku(self, per_reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """The best of each SKU's references."""
        best = np.full(len(self._gallery.skus), -np.inf, np.float32)
        np.maximum.at(best, self._gallery.owner, per_reference)
        return best

    def _closely(self, wanted: set[int], out: NDArray[np.bool_]) -> dict[int, float]:
        """Scores of the SKUs that may be meant, and of the wanted ones, by a close look."""
        g = self._gallery
        if self._mine is None or self._cheap is None:
            self._mine = Detail(self._crop)
            self._cheap = LIKENESS * self._likeness + COLOUR * (g.colours @ colour_layout(self._crop))
        features, copy = self._mine.of()
        cheap = np.where(out, -np.inf, self._per_sku(self._cheap))
        order = np.argsort(-cheap, kind="stable")[: min(SHORTLIST, int((~out).sum()))]
        if self._hurried:
            near = int((cheap[order] >= cheap.max(initial=-np.inf) - NEAR_BEST).sum())
            order = order[: max(near, FEWEST)]
        short = set(order.tolist())
        rows = np.flatnonzero(np.isin(g.owner, [*short, *wanted])).tolist()
        fresh = [n for n in rows if n not in self._found]
        self._found.update(zip(fresh, shared(features, [g.details[n].of()[0] for n in fresh]), strict=True))
        # A place that several SKUs share is a brand's, a shape's or a shelf's; one that only a SKU has names it.
        claimed: dict[int, set[int]] = {}
        for n in rows:
            if self._found[n].places > CHANCE_PLACES:
                claimed.setdefault(int(g.owner[n]), set()).update(self._found[n].features.tolist())
        claims = np.zeros(len(features), np.int64)
        for sku in short & claimed.keys():
            claims[list(claimed[sku])] += 1
        evidence: dict[int, float] = {}
        for n in rows:
            sku, detail = int(g.owner[n]), g.details[n]
            theirs = claims
            if sku not in short and sku in claimed:
                theirs = claims.copy()
                theirs[list(claimed[sku])] += 1
            says = float(self._cheap[n]) - SHAPE * abs(self._mine.shape - detail.shape)
            says += _close(self._found[n], len(features), theirs, copy, detail)
            evidence[sku] = max(evidence.get(sku, -math.inf), says)
        return {i: 1 / (1 + math.exp(SLOPE * (MIDDLE - e))) for i, e in evidence.items()}


def _doubtful(scores: NDArray[np.float32], hurried: bool) -> bool:
    sure, margin = (SURE_HURRIED, SURE_MARGIN_HURRIED) if hurried else (SURE, SURE_MARGIN)
    if len(scores) == 1:
        return bool(scores[0] < sure)
    second, first = np.partition(scores, -2)[-2:]
    return bool(first < sure or first - second < margin)


def _close(seen: Shared, features: int, claims: NDArray[np.int64], copy: NDArray[np.uint8], reference: Detail) -> float:
    """What local features say for one reference."""
    if seen is NOTHING:
        return 0.0
    beyond = max(0, seen.places - CHANCE_PLACES)
    out = PLACES * math.log1p(100 * beyond / max(30, features))
    if beyond:
        own = float((1 / claims[seen.features]).sum()) * seen.places / len(seen.features)
        out += OWN_PLACES * math.log1p(own)
    if seen.affine is not None:
        light, a, b = laid_on(copy, reference.of()[1], seen.affine)
        out += LAID_LIGHT * light + LAID_COLOUR * (a + b)
    return out
