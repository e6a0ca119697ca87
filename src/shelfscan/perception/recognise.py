"""Names for product crops: similarity to reference photographs, with *unknown* as a possible answer.

What the planogram expects is no business of the recogniser; matching weighs that.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shelfscan.errors import BadInput
from shelfscan.model.detections import Candidate
from shelfscan.model.imaging import Rgb
from shelfscan.ports import Embedder

TOP = 5


@dataclass(frozen=True)
class Gallery:
    """Reference embeddings: ``vectors`` (N, D) float32 unit rows, row i shows ``skus[owner[i]]``."""

    skus: tuple[str, ...]
    owner: NDArray[np.int64]
    vectors: NDArray[np.float32]

    @staticmethod
    def build(embedder: Embedder, references: Mapping[str, Sequence[Rgb]]) -> Gallery:
        """Embed reference pictures by SKU. Raises `BadInput` when there is none."""
        skus = tuple(sorted(s for s, pictures in references.items() if len(pictures)))
        if not skus:
            raise BadInput("the gallery holds no reference picture")
        crops = [p for s in skus for p in references[s]]
        owner = np.repeat(np.arange(len(skus)), [len(references[s]) for s in skus])
        return Gallery(skus, owner.astype(np.int64), embedder.embed(crops))


class Recogniser:
    """Nearest reference pictures by cosine similarity."""

    def __init__(self, embedder: Embedder, gallery: Gallery, unknown_below: float = 0.45) -> None:
        self._embedder = embedder
        self._gallery = gallery
        self._index = {s: i for i, s in enumerate(gallery.skus)}
        #: A best score below this is "none of the gallery's".
        self.unknown_below = unknown_below

    def recognise(
        self, crops: Sequence[Rgb], also: Sequence[Collection[str]] | None = None
    ) -> list[tuple[Candidate, ...]]:
        """The best `TOP` names of each crop, best first; scores are cosines clipped to 0..1.

        ``also``: SKUs whose score is wanted for a crop even when they are not among the best.
        """
        if len(crops) == 0:
            return []
        similarity = self._embedder.embed(crops) @ self._gallery.vectors.T
        per_sku = np.full((len(crops), len(self._gallery.skus)), -1.0, np.float32)
        np.maximum.at(per_sku, (slice(None), self._gallery.owner), similarity)  # type: ignore[arg-type] # numpy's stubs know no slices here
        out = []
        for n, row in enumerate(per_sku.clip(0.0, 1.0)):
            best = np.argsort(-row, kind="stable")[:TOP].tolist()
            wanted = {self._index[s] for s in (also[n] if also else ()) if s in self._index}
            chosen = best + sorted(wanted - set(best), key=row.__getitem__, reverse=True)
            out.append(tuple(Candidate(self._gallery.skus[i], round(float(row[i]), 4)) for i in chosen))
        return out
