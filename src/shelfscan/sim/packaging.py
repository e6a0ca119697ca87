"""Procedural packaging: what a product looks like, drawn from numbers alone (to be filled: see PackSpec)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PackSpec:
    """Everything that fixes a product's look and size. Dimensions are the true ones, metres.

    ``shape``: box, can, bottle, bag or multipack. ``family`` seeds brand and layout (look-alikes share it);
    ``variant`` seeds flavour colours and texts. Depth is along the shelf's depth when faced up.
    """

    sku: str
    shape: str
    family: int
    variant: int
    brand: str
    product: str
    flavour: str
    size_text: str
    category: str
    width_m: float
    depth_m: float
    height_m: float
    glossy: bool = False
