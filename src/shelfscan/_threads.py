"""How many threads numpy's products of matrices take: one, unless the user's environment says otherwise.

To be imported before numpy is. Perception multiplies many small matrices; a second thread for each makes a capture slower and
spins away a core that another node wants.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
