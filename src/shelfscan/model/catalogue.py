"""Products a store sells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Product:
    """One SKU. Dimensions in metres as the catalogue believes them; price as printed text's value."""

    sku: str
    gtin: str
    name: str
    brand: str
    category: str
    width_m: float
    depth_m: float
    height_m: float
    price: float


Catalogue = Mapping[str, Product]
