"""What goes wrong on one rank of several with rows of their own is raised on all of them."""

import numpy as np
import pytest

import dlcore as dl
from support.ranks import on_ranks
from support.sharded_fits import CLASSES, LABELS, X, network, trainer_of


def outcomes_of_fits(x, y=None, size=2, **options):
    """Return what fits on ranks raise, of ``x(rank)`` and ``y(rank)``."""
    trainer_options = {k: options.pop(k) for k in ("loss", "callbacks") if k in options}
    model = options.pop("model", network)

    def run(comm):
        trainer = trainer_of(model(), comm, sharded=True, **trainer_options)
        trainer.fit(
            x(comm.rank),
            None if y is None else y(comm.rank),
            **{"epochs": 1, "verbose": 0, **options},
        )

    return on_ranks(size, run)


def bad_batches(rank, last):
    good = (X[:4], LABELS[:4])
    return [good, good, last] if rank == 1 else [good] * 3


def raising():
    yield X[:4], LABELS[:4]
    raise OSError("the disk is gone")


class Once:
    def __init__(self, make):
        self._make = make

    def __iter__(self):
        return self._make()


NAN = X[:4].copy()
NAN[2, 3] = np.nan
FAULTS = {
    "loss": (
        (NAN, LABELS[:4]),
        FloatingPointError,
        r"x\[2, 3\] is nan on rank 1 of 2 in epoch 1, step 3",
    ),
    "label": ((X[:4], np.array([0, 1, 7, 0])), IndexError, "rank 1 of 2: batch 3: y"),
    "shape": ((X[:4, :2], LABELS[:4]), ValueError, "rank 1 of 2: batch 3: x"),
    "kind": ("batch", TypeError, "rank 1 of 2: batch 3 of x"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_one_rank_is_raised_on_all(name):
    last, kind, text = FAULTS[name]
    for outcome in outcomes_of_fits(lambda rank: bad_batches(rank, last)):
        with pytest.raises(kind, match=text):
            raise outcome


def test_an_error_of_a_stream_is_raised_on_all():
    good = [(X[:4], LABELS[:4])] * 3
    outcomes = outcomes_of_fits(lambda rank: Once(raising) if rank else good)
    assert isinstance(outcomes[1], OSError)
    assert "rank 1 of 2 failed: OSError: the disk is gone" in str(outcomes[0])


def test_a_code_that_is_no_category_is_raised_on_all(tmp_path):
    def model():
        layers = dl.CategoricalEmbeddings([3, 4], [2, 2]), dl.Linear(4, CLASSES)
        return dl.Sequential(*layers, dtype=np.float64, seed=0)

    def rows(rank):
        codes = np.zeros((400000, 2))
        codes[7, 1] = 5.0 * rank
        path = tmp_path / f"{rank}.npy"
        np.save(path, codes)
        return np.load(path, mmap_mode="r")

    labels = np.zeros(400000, np.int64)
    for outcome in outcomes_of_fits(rows, lambda _: labels, model=model, batch_size=400000):
        with pytest.raises(IndexError, match=r"rank 1 of 2: x\[7, 1\]"):
            raise outcome


ARGUMENTS = {
    "a bad label": ({"y": lambda rank: LABELS[:20] + 5 * rank}, IndexError, "rank 1 of 2: y"),
    "batches of too few rows": ({"batch_size": 1}, ValueError, "batch_size=1 .* 2 ranks"),
    "no rows": ({"x": lambda _: X[:0], "y": lambda _: LABELS[:0]}, ValueError, "any rank"),
    "nothing held out": ({"validation_split": 0.001}, ValueError, "validation_split"),
    "y of one": (
        {"y": lambda rank: None if rank else LABELS[:20]},
        ValueError,
        "whether y is given must be the same",
    ),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_arguments_are_refused_on_all(name):
    changed, kind, text = ARGUMENTS[name]
    given = {"x": lambda _: X[:20], "y": lambda _: LABELS[:20], "batch_size": 4} | changed
    for outcome in outcomes_of_fits(**given):
        with pytest.raises(kind, match=text):
            raise outcome


def test_states_within_an_epoch_are_refused(tmp_path):
    def callbacks():
        return [dl.ModelCheckpoint(tmp_path / "state", unit="batches", every=2)]

    outcomes = outcomes_of_fits(
        lambda _: X[:20], lambda _: LABELS[:20], batch_size=4, callbacks=callbacks()
    )
    for outcome in outcomes:
        with pytest.raises(ValueError, match="unit='epochs'"):
            raise outcome
