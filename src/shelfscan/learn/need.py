"""One clear error where the packages of training are absent."""

from __future__ import annotations

import importlib

from shelfscan.errors import BadInput

#: Import names; all of them come with the extra.
PACKAGES = ("torch", "onnx", "pycocotools")


def need_torch() -> None:
    """Raise `BadInput` that says what to install unless everything that training needs can be imported."""
    missing = []
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError as e:
            missing.append(f"{name} ({e})")
    if missing:
        raise BadInput(f"training needs packages that are not installed: {', '.join(missing)}; pip install 'shelfscan[train]'")
