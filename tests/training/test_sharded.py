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
    "limited weights": ((X, LABELS), {"hidden": lambda: (dl.Linear(8, 8, max_norm=0.3),)}),
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
    hidden, options = options.get("hidden", tuple), options.copy()
    options.pop("hidden", None)
    expected = trainer_of(network(*hidden()), **with_average(options))
    expected.fit(batches_of_all(arrays, 10), epochs=3, verbose=0)

    def fit(comm):
        trainer = trainer_of(network(*hidden()), comm, sharded=True, **with_average(options))
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


def test_epochs_of_so_many_batches_go_on_with_those_that_follow():
    counts = 48, 52  # 12 and 13 batches, of which each epoch takes 5
    expected = trainer_of(network())
    batches = batches_of_all((X, LABELS), 8, counts)
    expected.fit(iter(batches[:10]), epochs=2, steps_per_epoch=5, verbose=0)

    def fit(comm):
        trainer, own = trainer_of(network(), comm, sharded=True), rows_of(comm.rank, counts)
        starts = range(own.start, own.stop, 4)
        given = ((X[i : i + 4], LABELS[i : i + 4]) for i in starts)
        trainer.fit(given, epochs=2, steps_per_epoch=5, verbose=0)
        return trainer

    flat = fits_on_ranks(2, fit)[0].model.flat
    np.testing.assert_allclose(flat, expected.model.flat, rtol=1e-9, atol=1e-12)


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


class Watching(dl.Loss):
    """Keeps what it is given, and wants nothing changed."""

    def __init__(self):
        self.seen = []

    def value_and_grad(self, outputs, y, *, reduction="mean", out=None):  # noqa: ARG002
        self.seen.append(np.hstack([outputs, y]))
        return np.zeros(outputs.shape), np.zeros_like(outputs)


def test_ranks_drop_out_and_shuffle_by_themselves():
    def fit(comm):
        loss = Watching()
        model = dl.Sequential(dl.Dropout(0.5), dl.Linear(40, 1), dtype=np.float64, seed=0)
        trainer = trainer_of(model, comm, loss=loss, sharded=True)
        y = np.arange(20.0)[:, np.newaxis]
        for shuffle in False, True:
            trainer.fit(np.ones((20, 40)), y, epochs=1, batch_size=40, shuffle=shuffle, verbose=0)
        return loss.seen

    of_ranks = returned(on_ranks(2, fit))
    masked = [np.vstack(seen[:1])[:, 0] for seen in of_ranks]
    assert not np.isclose(masked[0], masked[1]).any()
    orders = [np.vstack(seen[1:])[:, 1] for seen in of_ranks]
    assert (np.sort(orders[0]) == np.arange(20)).all()
    assert (orders[0] != orders[1]).any()


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


def test_a_mean_of_epochs_has_the_statistics_of_all_rows():
    def fit(comm=None, rank=None):
        callbacks = [dl.StochasticWeightAveraging(start=0)]
        own = slice(None) if rank is None else rows_of(rank)
        trainer = trainer_of(
            network(dl.BatchNorm1d(8)),
            comm,
            optimizer=lambda params: dl.SGD(params, lr=0.0),
            sharded=comm is not None,
            callbacks=callbacks,
        )
        trainer.fit(X[own], LABELS[own], epochs=2, batch_size=30, verbose=0)
        return trainer

    norm = fits_on_ranks(3, lambda comm: fit(comm, comm.rank))[0].model.layers[1]
    expected = fit().model.layers[1]
    np.testing.assert_allclose(norm.running_mean, expected.running_mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(norm.running_var, expected.running_var, rtol=1e-9)


def test_batches_of_a_loop_of_ones_own():
    expected = trainer_of(network())

    def run(comm):
        trainer = trainer_of(network(), comm, sharded=True)
        own = rows_of(comm.rank)
        return trainer, [trainer.train_on_batch(X[own], LABELS[own]) for _ in range(3)]

    outcomes = returned(on_ranks(3, run))
    losses = [expected.train_on_batch(X, LABELS) for _ in range(3)]
    for trainer, own in outcomes:
        np.testing.assert_allclose(own, losses, rtol=1e-12)
        np.testing.assert_array_equal(trainer.model.flat, outcomes[0][0].model.flat)
    np.testing.assert_allclose(
        outcomes[0][0].model.flat, expected.model.flat, rtol=1e-9, atol=1e-12
    )


def test_fits_at_once_are_those_of_one_process():
    def run(comm):
        dl.fit_many([trainer_of(network(), comm)], X, LABELS, epochs=1)

    for outcome in on_ranks(2, run):
        with pytest.raises(ValueError, match=r"trainers\[0\] has comm="):
            raise outcome


def test_members_of_a_network():
    """Each has a loss of its own, and metrics are those of their mean."""

    def fit(data, comm=None, optimizer=dl.SGD, **options):
        layers = dl.Linear(FEATURES, 8), dl.Tanh(), dl.LinearEnsemble(8, CLASSES, 4)
        model = dl.Sequential(*layers, dl.EnsembleMean(), dtype=np.float64, seed=0)
        metrics = {"total": lambda y, outputs: np.tanh(outputs).sum() + y.sum()}
        trainer = trainer_of(model, comm, optimizer=optimizer, metrics=metrics, **options)
        trainer.fit(data, epochs=2, verbose=0)
        return trainer

    arrays = X, LABELS, WEIGHT
    whole = batches_of_all(arrays, 10)
    shares = [
        [tuple(a[own][i : i + n] for a in arrays) for i in range(0, own.stop - own.start, n)]
        for own, n in zip(map(rows_of, range(3)), (4, 3, 3), strict=True)
    ]
    expected = fit(whole)
    of_ranks = fits_on_ranks(3, lambda comm: fit(shares[comm.rank], comm, sharded=True))[0]
    for trainer in of_ranks, fit(whole, optimizer=OwnSGD):
        np.testing.assert_allclose(trainer.model.flat, expected.model.flat, rtol=1e-9, atol=1e-12)
        for log, values in expected.history.items():
            np.testing.assert_allclose(trainer.history[log], values, rtol=1e-9, err_msg=log)
