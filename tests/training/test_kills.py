"""Fits that are killed: a few of the many of `tests/kill_and_resume.py`."""

import pytest

from support.kills import Campaign


@pytest.mark.parametrize(
    ("name", "unit"), [("moving_average", "batches"), ("early_stopping", "epochs")]
)
def test_a_killed_fit_goes_on_to_the_same_bits(name, unit, tmp_path):
    campaign = Campaign(seed=1)
    campaign.run(name, unit, tmp_path, most=3)
