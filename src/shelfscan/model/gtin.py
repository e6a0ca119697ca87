"""Global Trade Item Numbers: one product, one spelling."""

from __future__ import annotations


def valid_gtin(text: str) -> bool:
    """Whether a text is a GTIN-8, 12, 13 or 14 with the right check digit (GS1 General Specifications 7.9)."""
    if len(text) not in (8, 12, 13, 14) or not text.isascii() or not text.isdigit():
        return False
    digits = [int(c) for c in reversed(text)]
    return sum(d * (3 if i % 2 else 1) for i, d in enumerate(digits)) % 10 == 0


def gtin14(text: str) -> str:
    """The 14-digit spelling of a GTIN-8, 12, 13 or 14; empty when the text is none.

    Warehouse systems match barcodes as exact texts, so the same product must always be written the same way.
    """
    bare = text.strip()
    return bare.zfill(14) if valid_gtin(bare) else ""
