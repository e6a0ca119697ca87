"""Names for product crops: likeness to reference photographs, with *unknown* and *tie* as possible answers.

The embedding and the layout of colours find the SKUs that may be meant; where these leave doubt, local features and what
lies where the reference is laid on the crop decide between them. What the planogram expects is no business of the
recogniser; matching weighs that.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

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
#: So many SKUs are looked at closely.
SHORTLIST = 30
#: An embedding this near, and nearer than the next SKU's by so much, leaves no doubt.
SURE, SURE_MARGIN = 0.75, 0.15
#: Fewer places than these agree by chance.
CHANCE_PLACES = 3
#: What each piece of evidence counts; the likeness of embeddings counts 1. Chosen on `packshots`, round, and flat around here.
COLOUR, PLACES, OWN_PLACES, LAID_LIGHT, LAID_COLOUR, SHAPE = 1.0, 0.2, 0.4, 0.25, 0.8, 0.2
#: Evidence as a score: the middle between products that are in the gallery and products that are not, and the slope there.
MIDDLE, SLOPE = 2.7, 1.5
#: Two SKUs this near in score are not told apart.
TIE_WITHIN = 0.05


class Verify(str, Enum):
    """When local features are asked."""

    NEVER = "never"
    DOUBT = "doubt"
    ALWAYS = "always"


@dataclass
class _Detail:
    """What the close look needs of a picture; worked out once, when it is first wanted."""

    picture: Rgb
    features: LocalFeatures | None = None
    copy: NDArray[np.float32] | None = None

    def of(self) -> tuple[LocalFeatures, NDArray[np.float32]]:
        if self.features is None or self.copy is None:
            self.features, self.copy = local_features(self.picture), laid_copy(self.picture)
        return self.features, self.copy

    @property
    def shape(self) -> float:
        """Logarithm of width over height."""
        return math.log(self.picture.shape[1] / self.picture.shape[0])


@dataclass(frozen=True)
class Gallery:
    """Reference pictures: row i of ``vectors`` (N, D) and ``colours`` (N, LAYOUT_DIM), unit rows, shows ``skus[owner[i]]``."""

    skus: tuple[str, ...]
    owner: NDArray[np.int64]
    vectors: NDArray[np.float32]
    colours: NDArray[np.float32]
    details: tuple[_Detail, ...] = field(repr=False)

    @staticmethod
    def build(embedder: Embedder, references: Mapping[str, Sequence[Rgb]]) -> Gallery:
        """Embed reference pictures by SKU. Raises `BadInput` when there is none."""
        skus = tuple(sorted(s for s, pictures in references.items() if len(pictures)))
        if not skus:
            raise BadInput("the gallery holds no reference picture")
        crops = [p for s in skus for p in references[s]]
        owner = np.repeat(np.arange(len(skus)), [len(references[s]) for s in skus])
        colours = np.stack([colour_layout(c) for c in crops])
        details = tuple(_Detail(_reduced(c)) for c in crops)
        return Gallery(skus, owner.astype(np.int64), embedder.embed(crops), colours, details)


def _reduced(picture: Rgb) -> Rgb:
    """A picture no larger than the close look uses, so that a gallery of phone photographs fits into memory."""
    scale = SIDE_PX / max(picture.shape[:2])
    if scale >= 1:
        return picture
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


class Recogniser:
    """Nearest reference pictures, looked at closely where asked for. Scores lie in 0..1 and mean much the same either way."""

    def __init__(
        self, embedder: Embedder, gallery: Gallery, unknown_below: float = 0.45, verify: Verify = Verify.NEVER
    ) -> None:
        self._embedder = embedder
        self._gallery = gallery
        self._verify = verify
        self._index = {s: i for i, s in enumerate(gallery.skus)}
        #: A best score below this is "none of the gallery's".
        self.unknown_below = unknown_below

    def recognise(
        self, crops: Sequence[Rgb], also: Sequence[Collection[str]] | None = None
    ) -> list[tuple[Candidate, ...]]:
        """The best `TOP` names of each crop, best first.

        ``also``: SKUs whose score is wanted for a crop even when they are not among the best. A score is the cosine of the
        embeddings, clipped to 0..1, or after a close look that look's.
        """
        if len(crops) == 0:
            return []
        likeness = self._embedder.embed(crops) @ self._gallery.vectors.T
        out = []
        for n, crop in enumerate(crops):
            wanted = {self._index[s] for s in (also[n] if also else ()) if s in self._index}
            scores = self._per_sku(likeness[n]).clip(0.0, 1.0)
            if self._verify is Verify.ALWAYS or (self._verify is Verify.DOUBT and _doubtful(scores)):
                out.append(self._close_look(crop, likeness[n], wanted))
            else:
                best = np.argsort(-scores, kind="stable")[:TOP].tolist()
                chosen = best + sorted(wanted - set(best), key=scores.__getitem__, reverse=True)
                out.append(tuple(Candidate(self._gallery.skus[i], round(float(scores[i]), 4)) for i in chosen))
        return out

    def _per_sku(self, per_reference: NDArray[np.float32]) -> NDArray[np.float32]:
        """The best of each SKU's references."""
        best = np.full(len(self._gallery.skus), -np.inf, np.float32)
        np.maximum.at(best, self._gallery.owner, per_reference)
        return best

    def _close_look(self, crop: Rgb, likeness: NDArray[np.float32], wanted: set[int]) -> tuple[Candidate, ...]:
        g = self._gallery
        cheap = likeness + COLOUR * (g.colours @ colour_layout(crop))
        short = np.argsort(-self._per_sku(cheap), kind="stable")[:SHORTLIST].tolist()
        looked_at = {*short, *wanted}
        mine = _Detail(crop)
        features, copy = mine.of()
        rows = [n for n in range(len(g.owner)) if g.owner[n] in looked_at]
        found = {n: shared(features, g.details[n].of()[0]) for n in rows}
        # A place that several SKUs share is a brand's, a shape's or a shelf's; one that only a SKU has names it.
        claims = np.zeros(len(features) + 1, np.int64)
        for sku in looked_at:
            claimed = [found[n].features for n in rows if g.owner[n] == sku and found[n].places > CHANCE_PLACES]
            if claimed:
                claims[np.unique(np.concatenate(claimed))] += 1
        score: dict[int, float] = {}
        for n in rows:
            detail = g.details[n]
            evidence = float(cheap[n]) - SHAPE * abs(mine.shape - detail.shape)
            evidence += _close(found[n], len(features), claims, copy, detail)
            sku = int(g.owner[n])
            score[sku] = max(score.get(sku, -math.inf), evidence)
        order = sorted(score, key=lambda i: (-score[i], i))
        chosen = order[:TOP] + [i for i in order[TOP:] if i in wanted]
        return tuple(Candidate(g.skus[i], round(1 / (1 + math.exp(SLOPE * (MIDDLE - score[i]))), 4)) for i in chosen)


def _doubtful(scores: NDArray[np.float32]) -> bool:
    if len(scores) == 1:
        return bool(scores[0] < SURE)
    second, first = np.partition(scores, -2)[-2:]
    return bool(first < SURE or first - second < SURE_MARGIN)


def _close(
    seen: Shared, features: int, claims: NDArray[np.int64], copy: NDArray[np.float32], reference: _Detail
) -> float:
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
