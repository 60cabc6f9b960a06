"""Fits of ranks with rows of their own, or that take means, go on from a file to the same bits."""

import numpy as np
import pytest

import dlcore as dl
from support.sharded_fits import MODES, fit_of, fits_on_ranks, numbers_of


@pytest.mark.parametrize("mode", MODES)
def test_a_fit_that_was_cut_off_goes_on(mode, tmp_path):
    def fit(name, epochs):
        path = tmp_path / name

        def run(comm):
            saving = dl.ModelCheckpoint(path)
            return fit_of(mode, comm, epochs, callbacks=[saving], resume=path)

        return numbers_of(fits_on_ranks(3, run)[0])

    expected = fit("whole", 5)
    fit("cut", 2)
    np.testing.assert_array_equal(fit("cut", 5), expected)
