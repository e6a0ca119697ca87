"""The simulator: stores, rendering, robot and truth. Only this package and ``score`` may read ``truth/``."""
