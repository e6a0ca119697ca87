"""Procedural packaging: which products there are, and what each looks like, drawn from numbers alone.

A *family* shares brand, layout and palette; its *variants* differ in flavour (accent colours, picture, text) or in
size (same art, other dimensions and size text). Those are the look-alikes that stores are full of.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

_SYLLABLES = (
    "al bri co da el fo gra hi jo ka lu mo na or pe quo ri sa to ul vi wo xe ya zu ben cas del fin mar nor sol tis ver".split()
)
_FLAVOURS = (
    "Original Classic Lemon Cherry Vanilla Cocoa Honey Mint Apple Berry Orange Peach Ginger Salted Smoked Chili "
    "Garlic Herb Tomato Mild Strong Light Zero Bio Coconut Mango Caramel Hazelnut Almond Rose"
).split()


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


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of product: ranges of width, height, depth in metres, and what its sizes are called."""

    category: str
    products: tuple[str, ...]
    shape: str
    width_m: tuple[float, float]
    height_m: tuple[float, float]
    depth_m: tuple[float, float]
    unit: str
    amounts: tuple[int, ...]
    glossy: bool = False


_KINDS = (
    _Kind("cereal", ("Muesli", "Flakes", "Crunch"), "box", (0.13, 0.2), (0.22, 0.3), (0.05, 0.08), "g", (375, 500, 750)),
    _Kind("tea", ("Tea", "Infusion"), "box", (0.07, 0.14), (0.07, 0.1), (0.06, 0.08), "bags", (20, 25, 50)),
    _Kind(
        "biscuits", ("Biscuits", "Wafers", "Crackers"), "box", (0.06, 0.16), (0.06, 0.14), (0.05, 0.07), "g", (125, 200, 300)
    ),
    _Kind("rice", ("Rice", "Couscous", "Lentils"), "box", (0.08, 0.12), (0.14, 0.2), (0.04, 0.06), "g", (500, 750)),
    _Kind("pasta", ("Penne", "Fusilli", "Spaghetti"), "bag", (0.09, 0.14), (0.18, 0.26), (0.05, 0.08), "g", (500, 1000)),
    _Kind("coffee", ("Coffee", "Espresso"), "bag", (0.08, 0.11), (0.15, 0.24), (0.06, 0.08), "g", (250, 500), True),
    _Kind("chips", ("Chips", "Popcorn", "Nachos"), "bag", (0.14, 0.19), (0.2, 0.29), (0.06, 0.09), "g", (150, 200), True),
    _Kind("candy", ("Gums", "Drops", "Toffees"), "bag", (0.09, 0.13), (0.12, 0.19), (0.03, 0.05), "g", (100, 200, 300), True),
    _Kind("soup", ("Soup", "Beans", "Peas", "Corn"), "can", (0.066, 0.1), (0.1, 0.13), (0, 0), "g", (400, 800), True),
    _Kind("soda", ("Soda", "Cola", "Tonic"), "can", (0.058, 0.068), (0.115, 0.17), (0, 0), "ml", (250, 330, 500), True),
    _Kind("juice", ("Juice", "Water", "Lemonade"), "bottle", (0.065, 0.09), (0.2, 0.31), (0, 0), "ml", (500, 750, 1000), True),
    _Kind("sauce", ("Ketchup", "Pesto", "Dressing"), "bottle", (0.055, 0.075), (0.14, 0.21), (0, 0), "ml", (250, 450), True),
    _Kind("care", ("Shampoo", "Lotion", "Soap"), "bottle", (0.06, 0.085), (0.17, 0.23), (0, 0), "ml", (250, 400)),
    _Kind("beer", ("Lager", "Ale"), "multipack", (0.19, 0.27), (0.12, 0.17), (0.12, 0.2), "x 330 ml", (4, 6, 8), True),
    _Kind("paper", ("Tissues", "Napkins"), "multipack", (0.12, 0.22), (0.1, 0.2), (0.08, 0.14), "pcs", (6, 8, 10)),
)
#: Multipacks are wide: they are rarer, so that the mean facing stays near 8.5 cm.
_WEIGHTS = np.array([0.6, 1.1, 1.2, 1.1, 0.9, 1.1, 0.6, 1.1, 1.4, 1.5, 1.4, 1.4, 1.3, 0.25, 0.3])


def make_packs(seed: int, count: int, namespace: str) -> list[PackSpec]:
    """``count`` distinct packagings with SKU ids from 1. Other namespaces give other families, never the same ones."""
    rng = np.random.default_rng([seed, zlib.crc32(namespace.encode())])
    packs: list[PackSpec] = []
    while len(packs) < count:
        kind = _KINDS[int(rng.choice(len(_KINDS), p=_WEIGHTS / _WEIGHTS.sum()))]
        family = int(rng.integers(1, 2**31)) * 2 + (namespace == "train")
        packs += _family(kind, family, rng, len(packs) + 1)
    return packs[:count]


def _family(kind: _Kind, family: int, rng: np.random.Generator, first: int) -> list[PackSpec]:
    """One to four look-alikes: other flavours, and for some of them another size."""
    width = float(rng.uniform(*kind.width_m))
    height = float(rng.uniform(*kind.height_m))
    depth = width if kind.depth_m == (0, 0) else float(rng.uniform(*kind.depth_m))
    brand = "".join(rng.choice(_SYLLABLES, int(rng.integers(2, 4)))).capitalize()
    product = str(rng.choice(kind.products))
    amount = int(rng.integers(len(kind.amounts)))
    flavours = [str(f) for f in rng.choice(_FLAVOURS, int(rng.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.1])), replace=False)]
    packs: list[PackSpec] = []
    for variant, flavour in enumerate(flavours):
        base = PackSpec(
            sku=f"SKU-{first + len(packs):06d}",
            shape=kind.shape,
            family=family,
            variant=variant,
            brand=brand,
            product=product,
            flavour=flavour,
            size_text=f"{kind.amounts[amount]} {kind.unit}",
            category=kind.category,
            width_m=round(width, 4),
            depth_m=round(depth, 4),
            height_m=round(height, 4),
            glossy=kind.glossy,
        )
        packs.append(base)
        if rng.random() < 0.12 and amount + 1 < len(kind.amounts):
            # The larger size: same art, every side longer by the cube root of the amount.
            grow = (kind.amounts[amount + 1] / kind.amounts[amount]) ** (1 / 3)
            grow = min(grow, 0.3 / base.height_m, 0.28 / base.width_m)
            packs.append(
                replace(
                    base,
                    sku=f"SKU-{first + len(packs):06d}",
                    size_text=f"{kind.amounts[amount + 1]} {kind.unit}",
                    width_m=round(base.width_m * grow, 4),
                    depth_m=round(base.depth_m * grow, 4),
                    height_m=round(base.height_m * grow, 4),
                )
            )
    return packs
