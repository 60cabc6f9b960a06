"""What some tests need of the build."""

import pytest

from dlcore._native import dispatch

with_openmp = pytest.mark.skipif(
    not dispatch.core.openmp, reason="without OpenMP there is one thread"
)
