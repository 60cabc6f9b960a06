"""Rows of more elements than 32-bit integers count: they need 9 GB (pytest -m slow)."""

import os

import numpy as np
import pytest

import dlcore as dl

N = 2**31 + 16


@pytest.mark.slow
def test_softmax_of_more_equal_elements_than_an_int32_counts():
    """pytorch#191565, onnxruntime#32299: a count that wraps makes negative probabilities."""
    if os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") < 12e9:
        pytest.skip("not enough memory")
    x = np.zeros(N, np.float32)
    assert dl.logsumexp(x) == pytest.approx(np.log(N), rel=1e-6)
    dl.softmax(x, out=x)
    assert x[[0, -1]] == pytest.approx(1 / N, rel=1e-5)


def test_such_rows_along_another_axis_are_refused():
    x = np.broadcast_to(np.float32(0), (N, 2))
    with pytest.raises(ValueError, match=r"logsumexp: x has more than 2\^31 - 1 elements"):
        dl.logsumexp(x, axis=0)
