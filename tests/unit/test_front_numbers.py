"""The short cuts for the few depths of a place give what numpy gives."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shelfscan.model.front import median, quantile

depths = st.lists(st.integers(0, 32_000), min_size=1, max_size=90).map(lambda mm: np.array(mm, np.float32) / np.float32(1000))


@given(depths, st.sampled_from([0.0, 0.125, 0.25, 0.5, 0.75, 1.0]))
def test_a_quantile_is_numpys(values: np.ndarray, share: float) -> None:
    before = values.copy()
    assert quantile(values, share) == float(np.quantile(values, share))
    assert (values == before).all(), "what is asked of stays as it is"


@given(depths)
def test_a_median_is_numpys(values: np.ndarray) -> None:
    assert median(values) == float(np.median(values))
