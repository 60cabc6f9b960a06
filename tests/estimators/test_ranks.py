"""Perceptrons that several ranks fit together have the bits of one process."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.base import clone

import dlcore as dl
from dlcore._common.ranks import Alone
from dlcore.sklearn import MLPClassifier, MLPRegressor
from dlcore.training._ranks import SharedWork
from support.ranks import on_ranks


@pytest.fixture(autouse=True)
def free_messages(monkeypatch):
    """Share every batch, as if messages took no time."""
    monkeypatch.setattr(
        SharedWork, "measured", classmethod(lambda cls, ranks: cls(ranks, 0.0, 0.0))
    )


def data(n=260):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] > 0).astype(int), x[:, :2] * x[:, 2:3]


def fitted(kind, comm, **options):
    x, labels, values = data()
    options = {"max_iter": 4, "random_state": 0, "batch_size": 100} | options
    estimator = kind(hidden_layer_sizes=(40, 33), comm=comm, **options)
    estimator.fit(x, labels if kind is MLPClassifier else values)
    return estimator.model_.flat.tobytes(), estimator.loss_curve_, estimator.n_iter_


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "sgd", "learning_rate": "adaptive"},
        {"early_stopping": True, "n_iter_no_change": 1, "max_iter": 30},
        {"batch_norm": True, "dropout": 0.2, "clip_grad_norm": 0.1},
        {"alpha": 0.1, "l1": 0.01},
    ],
    ids=lambda given: "-".join(given),
)
@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_bits_of_one_process(kind, options):
    alone = fitted(kind, None, **options)
    for size in (2, 3):
        assert on_ranks(size, lambda comm: fitted(kind, comm, **options)) == [alone] * size


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_rank_0_draws_for_all_and_partial_fit_goes_on():
    x, labels, _ = data()

    def one(comm):
        estimator = MLPClassifier(max_iter=2, comm=comm, batch_size=64).fit(x, labels)
        for _ in range(3):
            estimator.partial_fit(x, labels)
        return estimator.model_.flat.tobytes()

    first, *others = on_ranks(3, one)
    assert others == [first] * 2


def test_other_rows_and_other_arguments_are_an_error_on_all():
    def one(comm):
        x, labels, _ = data()
        estimator = MLPClassifier(max_iter=1, comm=comm, random_state=0)
        with pytest.raises(ValueError, match="rank 1"):
            estimator.fit(x, labels[::-1] if comm.rank == 1 else labels)
        with pytest.raises(ValueError, match=r"rank 1 of 2: .*infinity"):
            estimator.fit(np.where(comm.rank == 1, np.inf, x), labels)

    assert on_ranks(2, one) == [None, None]


@pytest.mark.parametrize(
    ("options", "text"),
    [({"members": 2}, "comm shares the work of one"), ({"solver": "lbfgs"}, "comm needs a sto")],
)
def test_what_ranks_do_not_share(options, text):
    def one(comm):
        x, labels, _ = data()
        with pytest.raises(ValueError, match=text):
            MLPClassifier(comm=comm, **options).fit(x, labels)

    assert on_ranks(2, one) == [None, None]


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_copies_and_files(tmp_path):
    x, labels, _ = data()

    class OfThisProcess(Alone):
        def __reduce__(self):
            raise TypeError("a communicator is of this process")

        def __deepcopy__(self, memo):
            return self

    comm = OfThisProcess()
    estimator = MLPClassifier(max_iter=2, comm=comm, random_state=0).fit(x, labels)
    assert clone(estimator).comm is comm
    path = tmp_path / "estimator.safetensors"
    dl.save(estimator, path)
    for other in (pickle.loads(pickle.dumps(estimator)), dl.load(path), copy.copy(estimator)):
        np.testing.assert_array_equal(other.predict(x), estimator.predict(x))
    assert dl.load(path).comm is None


def test_what_is_no_communicator():
    x, labels, _ = data()
    with pytest.raises(ValueError, match="'comm' parameter"):
        MLPClassifier(comm=3).fit(x, labels)
