"""How many threads numpy's products of matrices take: one, unless the user's environment says how many.

To be imported before numpy is. Perception multiplies many small matrices; a second thread for each makes a capture slower and
spins away a core that another node wants.
"""

from __future__ import annotations

import os

if "OMP_NUM_THREADS" not in os.environ:
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
