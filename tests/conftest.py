"""What every test starts from: quiet libraries, and the repository's large data only where it lies beside the checkout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before any test module imports numpy, OpenCV or MuJoCo.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUJOCO_GL", "egl")
# What tests keep of their stores' galleries takes no place away from the user's. The folder has to be there: the software
# renderer keeps its shaders below it, and says so on standard error where it cannot.
_CACHE = ROOT / ".cache" / "tests"
_CACHE.mkdir(parents=True, exist_ok=True)
os.environ["XDG_CACHE_HOME"] = str(_CACHE)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the labelled photographs that are not part of the repository; the test is skipped where it is absent."""
    path = Path(os.environ.get("SHELFSCAN_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no data folder at {path} (SHELFSCAN_DATA names another)")
    return path
