"""`train_val_test_split` of rows that are those of several ranks: each has its rows of one split."""

import numpy as np
import pytest

import dlcore as dl
from support.ranks import on_ranks

pytest.importorskip("sklearn")

N = 240
X = np.arange(2.0 * N).reshape(N, 2)
CLASSES = np.array(["a", "longer", "c"])[np.random.default_rng(0).choice(3, N, p=[0.7, 0.2, 0.1])]
GROUPS = np.arange(N) // 3
# Uneven, and one rank of four without rows.
CUTS = {1: [0, N], 2: [0, 31, N], 4: [0, 100, 100, 103, N]}
OPTIONS = {
    "rows": {},
    "counts": {"sizes": (200, 30, 10)},
    "all to train on": {"sizes": (1.0, 0, 0)},
    "classes": {"stratify": CLASSES},
    "y": {"stratify": True},
    "groups": {"groups": GROUPS},
    "both": {"stratify": CLASSES, "groups": GROUPS, "sizes": (0.5, 0.25, 0.25)},
}


def of_rank(comm, options, **others):
    """Split the rows of a rank."""
    cuts = CUTS[comm.size]
    some = slice(cuts[comm.rank], cuts[comm.rank + 1])
    own = {
        name: value[some] if isinstance(value, np.ndarray) else value
        for name, value in options.items()
    }
    return dl.train_val_test_split(X[some], CLASSES[some], **own | others, comm=comm)


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("name", OPTIONS)
def test_together_the_parts_are_those_of_all_rows(name, size):
    whole = dl.train_val_test_split(X, CLASSES, **OPTIONS[name], seed=5)
    each = on_ranks(size, lambda comm: of_rank(comm, OPTIONS[name], seed=5))
    for rank, split in enumerate(each):
        low, high = (2 * cut for cut in CUTS[size][rank : rank + 2])
        for part, all_rows, y, all_y in zip(
            split[:3], whole[:3], split[3:], whole[3:], strict=True
        ):
            is_own = (all_rows[:, 0] >= low) & (all_rows[:, 0] < high)
            np.testing.assert_array_equal(part, all_rows[is_own])
            np.testing.assert_array_equal(y, all_y[is_own])
    assert sum(len(part) for split in each for part in split[:3]) == N


def test_other_settings_are_an_error_on_all_ranks():
    for options in ({"seed": [0, 1]}, {"sizes": [(0.5, 0.25, 0.25), (0.6, 0.2, 0.2)]}):
        errors = on_ranks(
            2, lambda comm, o=options: of_rank(comm, {}, **{k: v[comm.rank] for k, v in o.items()})
        )
        assert all(isinstance(error, ValueError) for error in errors)
        assert str(errors[0]) == str(errors[1])
        assert "must be the same on all ranks" in str(errors[0])


def test_stratify_of_some_ranks_is_an_error_on_all():
    errors = on_ranks(2, lambda comm: of_rank(comm, {}, stratify=True if comm.rank else None))
    assert all("whether there is stratify" in str(error) for error in errors)


def test_an_error_of_one_rank_is_one_of_all():
    first, second = on_ranks(
        2, lambda comm: dl.train_val_test_split(X, CLASSES[: N - comm.rank], comm=comm)
    )
    assert isinstance(first, ValueError)
    assert isinstance(second, ValueError)
    said = "rank 1 of 2: train_val_test_split: x has 240 rows, y 239"
    assert [str(first), str(second)] == [said] * 2


def test_too_few_rows_are_those_of_all_ranks():
    """One row a rank can be stratified if there are enough ranks."""
    y = np.array([0, 0, 0, 1, 1, 1])
    each = on_ranks(
        6,
        lambda comm: dl.train_val_test_split(
            X[comm.rank : comm.rank + 1],
            y[comm.rank : comm.rank + 1],
            (2, 2, 2),
            stratify=True,
            comm=comm,
        ),
    )
    for part in range(3, 6):
        assert sorted(np.concatenate([split[part] for split in each])) == [0, 1]
