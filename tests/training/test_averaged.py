"""Ranks that learn apart, and take the mean of what they have learned after some updates."""

import itertools
import re

import numpy as np
import pytest

import dlcore as dl
from support.own_optimizers import OwnAdam
from support.ranks import on_ranks
from support.sharded_fits import (
    COUNTS,
    FEATURES,
    LABELS,
    WEIGHT,
    X,
    fits_on_ranks,
    network,
    returned,
    rows_of,
    trainer_of,
)

EVEN = slice(0, 96)  # whole batches of 12 rows, of which 3 ranks have 4 each


def sgd(params):
    return dl.SGD(params, lr=0.2, momentum=0.9, weight_decay=0.01)


@pytest.mark.parametrize("source", ["arrays", "stream", "transform"])
@pytest.mark.parametrize("accumulate", [1, 4])
def test_a_mean_after_each_update_by_sgd_is_one_process(accumulate, source):
    """The mean of steps along the gradients of equal shares is the step along that of all rows."""
    options = {"optimizer": sgd, "accumulate": accumulate, "metrics": ["accuracy"]}

    def fit(comm=None, average_every=None):
        trainer = trainer_of(network(), comm, average_every=average_every, **options)
        if source == "stream":
            batches = [(X[i : i + 12], LABELS[i : i + 12]) for i in range(0, 96, 12)]
            trainer.fit(batches, epochs=3, verbose=0)
        else:
            change = {"transform": lambda x, rng: x + rng.normal(size=x.shape)}
            changes = change if source == "transform" else {}
            trainer.fit(X[EVEN], LABELS[EVEN], epochs=3, batch_size=12, verbose=0, **changes)
        return trainer

    expected, trainer = fit(), fits_on_ranks(3, lambda comm: fit(comm, 1))[0]
    np.testing.assert_allclose(trainer.model.flat, expected.model.flat, rtol=1e-9, atol=1e-12)
    for own, other in zip(
        trainer.optimizer.state_arrays()["momentum_buffer"],
        expected.optimizer.state_arrays()["momentum_buffer"],
        strict=True,
    ):
        np.testing.assert_allclose(own, other, rtol=1e-9, atol=1e-12)
    if accumulate == 1:  # of which each loss is that of the same weights
        for log, values in expected.history.items():
            np.testing.assert_allclose(trainer.history[log], values, rtol=1e-9)


def means_by_hand(every, epochs, batches, optimizer, rows):
    """Return the weights of ranks that learn from batches of their own, by `train_on_batch`."""
    trainers = [trainer_of(network(), optimizer=optimizer) for _ in batches]
    made = 0

    def meet(weights):
        flats = [trainer.model.flat for trainer in trainers]
        states = [
            list(itertools.chain(*trainer.optimizer.state_arrays().values()))
            for trainer in trainers
        ]
        for own in zip(
            *([flat, *state] for flat, state in zip(flats, states, strict=True)), strict=True
        ):
            mean = sum(w * array for w, array in zip(weights, own, strict=True)) / sum(weights)
            for array in own:
                array[...] = mean

    for _ in range(epochs):
        since = [0] * len(trainers)
        for number in range(max(map(len, batches))):
            for rank, own in enumerate(batches):
                if number < len(own):
                    trainers[rank].train_on_batch(*(array[own[number]] for array in rows))
                    since[rank] += 1
            made += 1
            if made % every == 0:
                meet(since)
                since = [0] * len(trainers)
        if any(since):
            meet(since)
    return trainers[0].model.flat


@pytest.mark.parametrize("every", [1, 3, 7, 100])
@pytest.mark.parametrize("optimizer", [sgd, dl.Adam, dl.AdamW, OwnAdam], ids=lambda o: o.__name__)
def test_means_of_equal_shares(every, optimizer):
    batches = [np.arange(i, i + 12) for i in range(0, 96, 12)]
    shares = [[batch[4 * rank : 4 * rank + 4] for batch in batches] for rank in range(3)]
    expected = means_by_hand(every, 3, shares, optimizer, (X, LABELS))

    def fit(comm):
        trainer = trainer_of(network(), comm, optimizer=optimizer, average_every=every)
        trainer.fit(X[EVEN], LABELS[EVEN], epochs=3, batch_size=12, shuffle=False, verbose=0)
        return trainer

    trainers = fits_on_ranks(3, fit)
    np.testing.assert_allclose(trainers[0].model.flat, expected, rtol=1e-9, atol=1e-12)
    assert [trainer.optimizer.steps for trainer in trainers] == [24] * 3


@pytest.mark.parametrize("kind", ["arrays", "batches"])
@pytest.mark.parametrize("every", [1, 4])
def test_means_of_rows_of_each_rank(every, kind):
    """By the updates that each has made, where some have fewer batches or none."""
    shares = [4, 3, 3]
    batches = [
        [np.arange(len(X))[rows_of(rank)][i : i + share] for i in range(0, COUNTS[rank], share)]
        for rank, share in enumerate(shares)
    ]
    expected = means_by_hand(every, 2, batches, sgd, (X, LABELS))

    def fit(comm):
        trainer = trainer_of(
            network(), comm, optimizer=sgd, average_every=every, sharded=True, metrics=["accuracy"]
        )
        own = rows_of(comm.rank)
        if kind == "arrays":
            data = {"batch_size": 10, "shuffle": False}
            trainer.fit(X[own], LABELS[own], epochs=2, verbose=0, **data)
        else:
            trainer.fit([(X[i], LABELS[i]) for i in batches[comm.rank]], epochs=2, verbose=0)
        return trainer

    trainer = fits_on_ranks(3, fit)[0]
    np.testing.assert_allclose(trainer.model.flat, expected, rtol=1e-9, atol=1e-12)


def everything(comm, sharded, dtype):
    """Fit with what a fit may have."""
    model = network(dl.ReLU(), dl.BatchNorm1d(8), dl.Dropout(0.3), dtype=dtype)
    model.freeze("0.bias")
    trainer = trainer_of(
        model,
        comm,
        optimizer=lambda params: dl.Adam(params, amsgrad=True),
        schedule=dl.CosineAnnealingLR(30, per="iteration"),
        callbacks=[dl.ExponentialMovingAverage(0.9)],
        metrics=["accuracy"],
        clip_grad_norm=1.0,
        average_every=3,
        sharded=sharded,
    )
    own = rows_of(comm.rank) if sharded else slice(None)
    x = X.astype(dtype)
    data = {"sample_weight": WEIGHT[own], "class_weight": "balanced", "validation_split": 0.2}
    trainer.fit(x[own], LABELS[own], epochs=4, batch_size=12, verbose=0, **data)
    return trainer


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("sharded", [False, True], ids=["shares", "own rows"])
def test_all_that_is_learned_agrees_and_is_repeated(sharded, dtype):
    first, second = (
        fits_on_ranks(3, lambda comm: everything(comm, sharded, dtype)) for _ in range(2)
    )
    np.testing.assert_array_equal(first[0].model.flat, second[0].model.flat)
    assert first[0].history == second[0].history
    initial = network(dl.ReLU(), dl.BatchNorm1d(8), dl.Dropout(0.3), dtype=dtype)
    np.testing.assert_array_equal(
        first[0].model.named_parameters()["0.bias"], initial.named_parameters()["0.bias"]
    )
    states = [trainer.optimizer.state_arrays() for trainer in first]
    averages = [trainer.callbacks[0].state_dict()["other"] for trainer in first]
    assert {"exp_avg", "exp_avg_sq", "max_exp_avg_sq"} <= states[0].keys()
    for state, average in zip(states, averages, strict=True):
        np.testing.assert_array_equal(average, averages[0])
        for name, arrays in state.items():
            for own, other in zip(arrays, states[0][name], strict=True):
                np.testing.assert_array_equal(own, other, err_msg=name)


@pytest.mark.parametrize("sharded", [False, True], ids=["shares", "own rows"])
def test_post_local_averaging_begins_at_an_epoch(sharded):
    """All updates are common ones first, then those of each rank, and common ones again."""

    class Switch(dl.Callback):
        def __init__(self, after):
            self.after = after

        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            self.trainer.average_every = 5 if epoch == self.after else None

    def fit(comm, *each, callbacks=()):
        """Make fits of so many epochs, with these updates between means."""
        trainer = trainer_of(network(), comm, optimizer=sgd, sharded=sharded, callbacks=callbacks)
        own = rows_of(comm.rank) if sharded else slice(0, 96)
        for epochs, average_every in each:
            trainer.average_every = average_every
            trainer.fit(X[own], LABELS[own], epochs=epochs, batch_size=12, shuffle=False, verbose=0)
        return trainer.model.flat.copy()

    def flat(*each, callbacks=list):
        return returned(on_ranks(2, lambda comm: fit(comm, *each, callbacks=callbacks())))[0]

    # Whole runs of 5 updates before, so that a fit of its own takes the same means.
    before = 2 if sharded else 5
    switched = flat((before + 2, None), callbacks=lambda: [Switch(before - 1)])
    np.testing.assert_array_equal(switched, flat((before, None), (1, 5), (1, None)))
    assert not np.allclose(switched, flat((before + 2, None)))
    assert not np.allclose(switched, flat((before + 2, 5)))


def test_limits_end_all_ranks_alike():
    class Stop(dl.Callback):
        every_batches = 2

        def __init__(self, comm):
            self.comm = comm

        def on_batch_end(self, batch, logs):  # noqa: ARG002
            if self.comm.rank and batch == 3:
                self.trainer.stop("enough")

    def fit(comm, stopping=False, **limits):
        callbacks = [Stop(comm)] if stopping else []
        trainer = trainer_of(network(), comm, sharded=True, average_every=3, callbacks=callbacks)
        own = rows_of(comm.rank)
        trainer.fit(X[own], LABELS[own], epochs=9, batch_size=12, verbose=0, **limits)
        return trainer

    for options in {"max_iterations": 20}, {"max_time": 0.0}, {"stopping": True}:
        trainers = fits_on_ranks(3, lambda comm: fit(comm, **options))  # noqa: B023
        assert len({trainer.history.reason for trainer in trainers}) == 1
        assert trainers[0].history.stopped_epoch < 8, options


def test_a_rank_that_diverges_is_named_on_all():
    x = X.copy()
    x[47, 2] = np.inf

    def fit(comm):
        trainer = trainer_of(network(), comm, sharded=True, average_every=4)
        own = slice(0, 40) if comm.rank == 0 else slice(40, 80)
        trainer.fit(x[own], LABELS[own], epochs=2, batch_size=4, shuffle=False, verbose=0)

    text = "rank 1 of 2: x[7, 2] is inf in epoch 1, step 4"
    for outcome in on_ranks(2, fit):
        with pytest.raises(FloatingPointError, match=re.escape(text)):
            raise outcome


def test_what_changes_rows_may_fail_on_one_rank():
    def fit(comm):
        def transform(x, rng):
            if comm.rank:
                raise RuntimeError("no more memory")
            return x

        trainer = trainer_of(network(), comm, average_every=4)
        trainer.fit(X, LABELS, epochs=2, batch_size=20, transform=transform, verbose=0)

    for outcome in on_ranks(2, fit):
        with pytest.raises(RuntimeError, match="rank 1 of 2: no more memory"):
            raise outcome


def test_the_state_of_an_optimizer_must_be_known():
    class Plain:
        lr = 0.1

        def __init__(self, params):
            self.params = params

        def step(self, grads):
            pass

    def fit(comm):
        trainer_of(network(), comm, optimizer=Plain, average_every=4).fit(
            X, LABELS, epochs=1, verbose=0
        )

    for outcome in on_ranks(2, fit):
        with pytest.raises(TypeError, match=r"dlcore\.Optimizer, not Plain"):
            raise outcome


def test_small_batches_leave_some_ranks_without_rows():
    def fit(comm):
        trainer = trainer_of(network(), comm, average_every=1, optimizer=sgd)
        trainer.fit(X[:7], LABELS[:7], epochs=2, batch_size=2, shuffle=False, verbose=0)
        return trainer

    trainer = fits_on_ranks(3, fit)[0]
    assert trainer.history.batches == [4, 4]
    assert np.isfinite(trainer.model.flat).all()
    assert trainer.model.layers[0].in_features == FEATURES


def test_loops_of_ones_own_take_no_means():
    def run(comm):
        trainer_of(network(), comm, average_every=2).train_on_batch(X, LABELS)

    for outcome in on_ranks(2, run):
        with pytest.raises(ValueError, match="takes no means"):
            raise outcome


@pytest.mark.parametrize("options", [{"sharded": True}, {"average_every": 2}], ids=str)
def test_ranks_need_a_communicator(options):
    with pytest.raises(ValueError, match="need comm"):
        trainer_of(network(), **options).fit(X, LABELS, epochs=1, verbose=0)


@pytest.mark.parametrize("options", [{"sharded": True}, {"average_every": 2}], ids=str)
def test_one_rank_is_one_process(options):
    expected = trainer_of(network())
    expected.fit(X, LABELS, epochs=2, verbose=0)

    def run(comm):
        trainer = trainer_of(network(), comm, **options)
        trainer.fit(X, LABELS, epochs=2, verbose=0)
        return trainer

    np.testing.assert_array_equal(fits_on_ranks(1, run)[0].model.flat, expected.model.flat)
