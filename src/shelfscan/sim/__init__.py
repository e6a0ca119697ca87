"""The simulator: stores, rendering, robot and truth. Only this package and ``score`` may read ``truth/``."""

import os

# MuJoCo chooses its rendering back end when it is imported: off-screen, so that no display is needed.
os.environ.setdefault("MUJOCO_GL", "egl")
