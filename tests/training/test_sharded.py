"""Ranks with rows of their own: each update is that of the rows of all of them."""

import copy

import numpy as np
import pytest

import dlcore as dl
from support.own_optimizers import OwnSGD
from support.ranks import on_ranks
from support.sharded_fits import (
    CLASSES,
    COUNTS,
    FEATURES,
    LABELS,
    VALUES,
    WEIGHT,
    X,
    batches_of_all,
    fits_on_ranks,
    network,
    returned,
    rows_of,
    trainer_of,
)


class LogCosh(dl.Loss):
    """A loss of one's own."""

    def value_and_grad(self, outputs, y, *, reduction="mean", out=None):  # noqa: ARG002
        error = outputs - y
        losses, grad = np.log(np.cosh(error)), np.tanh(error)
        if reduction == "none":
            return losses, grad
        return losses.mean(), grad / grad.size


MISSING = VALUES.copy()
MISSING[65:80, 0] = np.nan  # on one rank alone
MISSING[::7, 1:] = np.nan
IGNORED = np.where(np.arange(len(X)) % 4 == 1, -100, LABELS)


def own_sgd(params):
    return OwnSGD(params, lr=0.1)


def sgd(params):
    return dl.SGD(params, lr=0.2, momentum=0.9, weight_decay=0.01)


# Arrays of rows, options of the trainer.
CASES = {
    "labels": ((X, LABELS), {}),
    "weights": ((X, LABELS, WEIGHT), {"metrics": ["accuracy", "f1"]}),
    "weights of classes": (
        (X, IGNORED, WEIGHT),
        {"loss": dl.CrossEntropyLoss(weight=[1, 2, 3], label_smoothing=0.1)},
    ),
    "values": ((X, VALUES), {"loss": "mse", "metrics": ["r2"], "optimizer": sgd}),
    "missing targets": (
        (X, MISSING, WEIGHT),
        {"loss": dl.MultiTargetLoss({"a": "mse", "b": "huber"}, [1, 2], [1.0, 2.0])},
    ),
    "own loss": ((X, VALUES, WEIGHT), {"loss": LogCosh()}),
    "own optimizer": ((X, LABELS), {"optimizer": OwnSGD}),
    "clipped norm": ((X, LABELS), {"clip_grad_norm": 0.01, "optimizer": sgd}),
    "clipped values": ((X, LABELS), {"clip_grad_value": 0.002, "optimizer": sgd}),
    "accumulated": ((X, IGNORED, WEIGHT), {"accumulate": 5}),
    "accumulated missing": (
        (X, MISSING),
        {"loss": dl.MultiTargetLoss({"a": "mse", "b": "mse"}, [1, 2]), "accumulate": 2},
    ),
    "rates of iterations": (
        (X, LABELS),
        {"schedule": dl.CosineAnnealingLR(20, per="iteration"), "optimizer": sgd},
    ),
    "averaged weights": ((X, LABELS), {"callbacks": True}),
}


def with_average(options):
    """Make callbacks, of which each trainer needs its own."""
    if "callbacks" in options:
        return options | {"callbacks": [dl.ExponentialMovingAverage(0.9)]}
    return options


@pytest.mark.parametrize("kind", ["arrays", "streams"])
@pytest.mark.parametrize("name", CASES)
def test_ranks_learn_what_one_process_learns_of_all_their_rows(name, kind):
    arrays, options = CASES[name]
    expected = trainer_of(network(), **with_average(options))
    expected.fit(batches_of_all(arrays, 10), epochs=3, verbose=0)

    def fit(comm):
        trainer = trainer_of(network(), comm, sharded=True, **with_average(options))
        own = [array[rows_of(comm.rank)] for array in arrays]
        if kind == "arrays":
            weight = own[2] if len(own) > 2 else None
            trainer.fit(
                *own[:2], sample_weight=weight, epochs=3, batch_size=10, shuffle=False, verbose=0
            )
        else:
            share = 10 // 3 + (comm.rank < 10 % 3)
            batches = [tuple(a[i : i + share] for a in own) for i in range(0, len(own[0]), share)]
            trainer.fit(batches, epochs=3, verbose=0)
        return trainer

    trainer = fits_on_ranks(3, fit)[0]
    np.testing.assert_allclose(trainer.model.flat, expected.model.flat, rtol=1e-9, atol=1e-12)
    assert trainer.history.keys() == expected.history.keys()
    for log, values in expected.history.items():
        np.testing.assert_allclose(trainer.history[log], values, rtol=1e-9, err_msg=log)
    assert trainer.history.iteration == expected.history.iteration
    assert trainer.history.batches == expected.history.batches


def test_float32():
    expected = trainer_of(network(dtype=np.float32))
    x = X.astype(np.float32)
    expected.fit(batches_of_all((x, LABELS), 9), epochs=2, verbose=0)

    def fit(comm):
        trainer = trainer_of(network(dtype=np.float32), comm, sharded=True)
        own = rows_of(comm.rank)
        trainer.fit(x[own], LABELS[own], epochs=2, batch_size=9, shuffle=False, verbose=0)
        return trainer

    flat = fits_on_ranks(3, fit)[0].model.flat
    np.testing.assert_allclose(flat, expected.model.flat, rtol=1e-4, atol=1e-5)


def test_sparse_rows_and_mapped_ones(tmp_path):
    sparse = pytest.importorskip("scipy.sparse")
    x = np.where(np.abs(X) > 1, X, 0)
    expected = trainer_of(network())
    expected.fit(batches_of_all((x, LABELS), 6, COUNTS[:2]), epochs=2, verbose=0)

    def fit(comm):
        trainer, own = trainer_of(network(), comm, sharded=True), rows_of(comm.rank)
        if comm.rank:
            rows = sparse.csr_matrix(x[own])
        else:
            np.save(tmp_path / "x.npy", x[own])
            rows = np.load(tmp_path / "x.npy", mmap_mode="r")
        trainer.fit(rows, LABELS[own], epochs=2, batch_size=6, shuffle=False, verbose=0)
        return trainer

    flat = fits_on_ranks(2, fit)[0].model.flat
    np.testing.assert_allclose(flat, expected.model.flat, rtol=1e-9, atol=1e-12)


def shuffled(comm, **options):
    """Fit with all that is drawn, and validate."""
    model = network(dl.ReLU(), dl.BatchNorm1d(8), dl.Dropout(0.3))
    trainer = trainer_of(model, comm, sharded=True, metrics=["accuracy"], **options)
    own = rows_of(comm.rank)
    trainer.fit(X[own], LABELS[own], epochs=4, batch_size=20, validation_split=0.3, verbose=0)
    return trainer


def test_the_same_ranks_come_to_the_same_bits():
    first, second = fits_on_ranks(3, shuffled), fits_on_ranks(3, shuffled)
    np.testing.assert_array_equal(first[0].model.flat, second[0].model.flat)
    assert first[0].history == second[0].history
    assert first[0]._shuffle_rng.bit_generator.state == first[2]._shuffle_rng.bit_generator.state


def test_ranks_drop_out_and_shuffle_by_themselves():
    seen = {}

    class Watching(dl.Loss):
        def value_and_grad(self, outputs, y, *, reduction="mean", out=None):  # noqa: ARG002
            seen.setdefault(self.rank, []).append(outputs.copy())
            return np.zeros(outputs.shape), np.zeros_like(outputs)

        def check(self, y, name, width, dtype):  # noqa: ARG002
            return y

    def fit(comm):
        loss = Watching()
        loss.rank = comm.rank
        model = dl.Sequential(dl.Dropout(0.5), dl.Linear(FEATURES, 1), dtype=np.float64, seed=0)
        trainer = trainer_of(model, comm, loss=loss, sharded=True)
        x = np.repeat(np.arange(1.0, 41)[:, np.newaxis], FEATURES, axis=1)
        trainer.fit(x, np.zeros((40, 1)), epochs=1, batch_size=20, verbose=0)
        return trainer

    returned(on_ranks(2, fit))
    assert not np.allclose(np.vstack(seen[0]), np.vstack(seen[1]))


def test_running_statistics_are_the_mean_over_the_rows_of_each_rank():
    def fit(own, batch_size, comm=None, **options):
        model = network(dl.BatchNorm1d(8))
        trainer = trainer_of(model, comm, optimizer=lambda p: dl.SGD(p, lr=0.0), **options)
        trainer.fit(X[own], LABELS[own], epochs=1, batch_size=batch_size, shuffle=False, verbose=0)
        return trainer

    trainer = fits_on_ranks(3, lambda comm: fit(rows_of(comm.rank), 10, comm, sharded=True))[0]
    shares = {0: 4, 1: 3}
    expected, batches = 0, []
    for rank, share in shares.items():
        norm = fit(rows_of(rank), share).model.layers[1]
        expected = expected + COUNTS[rank] * np.array([norm.running_mean, norm.running_var])
        batches.append(int(norm.num_batches_tracked))
    norm = trainer.model.layers[1]
    mean = np.array([norm.running_mean, norm.running_var])
    np.testing.assert_allclose(mean, expected / sum(COUNTS), rtol=1e-12)
    assert norm.num_batches_tracked == max(batches)


def test_balanced_classes_are_counted_over_all_ranks():
    counts = np.bincount(LABELS)
    weights = {label: len(X) / (CLASSES * count) for label, count in enumerate(counts)}

    def fit(class_weight):
        def run(comm):
            own, trainer = rows_of(comm.rank), trainer_of(network(), comm, sharded=True)
            trainer.fit(
                X[own], LABELS[own], class_weight=class_weight, epochs=2, batch_size=10, verbose=0
            )
            return trainer

        return fits_on_ranks(3, run)[0]

    np.testing.assert_array_equal(fit("balanced").model.flat, fit(weights).model.flat)


@pytest.mark.parametrize("kind", ["arrays", "batches"])
def test_validation_and_evaluation_are_of_the_rows_of_all_ranks(kind):
    metrics = ["accuracy", "balanced_accuracy"]

    def run(comm):
        own, trainer = (
            rows_of(comm.rank),
            trainer_of(network(), comm, sharded=True, metrics=metrics),
        )
        rows = X[own], LABELS[own], WEIGHT[own]
        data = rows if kind == "arrays" else [rows] if comm.rank < 2 else []
        trainer.fit(X[own], LABELS[own], validation_data=data, epochs=2, batch_size=10, verbose=0)
        trainer.scores = trainer.evaluate(*(rows if kind == "arrays" else [data]))
        return trainer

    trainers = fits_on_ranks(3, run)
    one = trainer_of(copy.deepcopy(trainers[0].model), metrics=metrics)
    expected = one.evaluate(X, LABELS, WEIGHT)
    for trainer in trainers:
        assert trainer.scores == pytest.approx(expected, rel=1e-12)
        last = {name: trainer.history[f"val_{name}"][-1] for name in expected}
        assert last == trainer.scores


def test_early_stopping_and_best_weights_agree():
    def run(comm):
        stopping = dl.EarlyStopping(patience=1, restore_best=True)
        own = rows_of(comm.rank)
        trainer = trainer_of(network(), comm, optimizer=lambda p: dl.SGD(p, lr=5.0), sharded=True)
        trainer.fit(
            X[own],
            LABELS[own],
            validation_split=0.3,
            callbacks=[stopping],
            epochs=30,
            batch_size=10,
            verbose=0,
        )
        return trainer

    trainers = fits_on_ranks(3, run)
    assert 0 < trainers[0].history.stopped_epoch < 29
    assert len({trainer.history.stopped_epoch for trainer in trainers}) == 1


def test_transform_and_mix():
    def transform(x, rng):
        return x + rng.normal(size=x.shape)

    def run(comm):
        own, trainer = (
            rows_of(comm.rank),
            trainer_of(network(), comm, sharded=True, metrics=["accuracy"]),
        )
        trainer.fit(
            X[own],
            LABELS[own],
            transform=transform,
            mix=dl.mixup(0.3),
            epochs=2,
            batch_size=10,
            verbose=0,
        )
        return trainer

    assert fits_on_ranks(3, run)[0].history["loss"][-1] > 0

    # One that changes nothing gives what there is without it.
    def same(comm, **options):
        own, trainer = rows_of(comm.rank), trainer_of(network(), comm, sharded=True, accumulate=2)
        trainer.fit(X[own], LABELS[own], epochs=2, batch_size=10, verbose=0, **options)
        return trainer

    expected = fits_on_ranks(3, same)[0].model.flat
    given = fits_on_ranks(3, lambda comm: same(comm, transform=lambda x, _: x))[0].model.flat
    np.testing.assert_allclose(given, expected, rtol=1e-9, atol=1e-12)


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
