"""The stages of processing a capture, by name: entered and left around each, for who measures times."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

STAGES = (
    *("decode", "depth", "detect", "align", "place", "recognise"),
    *("quality", "tags", "cover", "front", "behind", "look", "check", "condition"),
)
#: Entered around each stage of the processing, with its name (`STAGES`).
#: With several heads or products at once it is entered from several threads at once.
Stage = Callable[[str], AbstractContextManager[object]]
