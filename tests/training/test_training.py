"""`Trainer`: the numbers of a fit against plain NumPy, its options, its errors, its ends."""

import signal
import threading
import time

import numpy as np
import pytest

import dlcore as dl
from support.networks import ACTIVATIONS

F64 = np.float64


def blobs(n=60, features=4, classes=3, seed=0, dtype=F64):
    """Rows around a center for each class."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, classes, n)
    return (rng.normal(size=(n, features)) + 2 * rng.normal(size=(classes, features))[y]).astype(
        dtype
    ), y


def network(*, inputs=4, outputs=3, hidden=5, dtype=F64, seed=0):
    layers = dl.Linear(inputs, hidden), dl.Tanh(), dl.Linear(hidden, outputs)
    return dl.Sequential(*layers, dtype=dtype, seed=seed)


def sgd_trainer(model=None, loss="cross_entropy", lr=0.1, **options):
    """SGD shows the gradients in its steps."""
    model = model or network()
    return dl.Trainer(
        model, loss=loss, optimizer=dl.SGD(model.parameters(), lr=lr), seed=0, **options
    )


def fit(trainer, x, y, epochs=1, **options):
    return trainer.fit(x, y, epochs=epochs, verbose=0, **options)


def hand_step(state, x, y, weight=None, lr=0.1):
    """One step of `sgd_trainer` in plain NumPy; returns the loss before it."""
    weight = np.ones(len(x)) if weight is None else weight
    w1, b1, w2, b2 = state
    hidden = np.tanh(x @ w1.T + b1)
    logits = hidden @ w2.T + b2
    p = np.exp(logits - logits.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    loss = -np.sum(weight * np.log(p[np.arange(len(x)), y])) / weight.sum()
    d = (p - np.eye(3)[y]) * weight[:, None] / weight.sum()
    dz = (d @ w2) * (1 - hidden**2)
    for parameter, grad in zip(state, (dz.T @ x, dz.sum(0), d.T @ hidden, d.sum(0)), strict=True):
        parameter -= lr * grad
    return loss


def assert_close(model, other, rtol=1e-12):
    state = other.state_dict() if isinstance(other, dl.Sequential) else other
    values = state.values() if isinstance(state, dict) else state
    for mine, theirs in zip(model.parameters(), values, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=rtol, atol=rtol)


# ---- the step


def test_a_fit_equals_a_hand_written_one():
    x, y = blobs(50)
    trainer = sgd_trainer()
    state = list(trainer.model.state_dict().values())
    history = fit(trainer, x, y, epochs=3, batch_size=16, shuffle=False)
    for epoch in range(3):
        losses = [hand_step(state, x[i : i + 16], y[i : i + 16]) for i in range(0, 50, 16)]
        expected = np.average(losses, weights=[16, 16, 16, 2])  # the last batch is short
        assert history["loss"][epoch] == pytest.approx(expected, rel=1e-12)
    assert_close(trainer.model, state)


def test_a_float32_fit_stays_near_the_float64_one():
    x, y = blobs(50)
    narrow, wide = sgd_trainer(network(dtype=np.float32)), sgd_trainer()
    narrow.model.load_state_dict(
        {n: v.astype(np.float32) for n, v in wide.model.state_dict().items()}
    )
    fit(narrow, x.astype(np.float32), y, epochs=5)
    fit(wide, x, y, epochs=5)
    np.testing.assert_allclose(narrow.model.flat, wide.model.flat, atol=1e-5)
    assert narrow.predict(x.astype(np.float32)).dtype == np.float32


LOSSES = {
    "cross_entropy": "cross_entropy",
    "smoothed": dl.CrossEntropyLoss(label_smoothing=0.1, weight=[1.0, 2.0, 0.5]),
    "bce_with_logits": dl.BCEWithLogitsLoss(pos_weight=[1.0, 2.0, 3.0]),
    "mse": "mse",
    "l1": "l1",
    "huber": dl.HuberLoss(delta=0.3),
    "smooth_l1": dl.SmoothL1Loss(beta=0.4),
}


def targets(loss, n, rng):
    if loss in ("cross_entropy", "smoothed"):
        return rng.integers(0, 3, n)
    return rng.random((n, 3))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES)
def test_gradients_of_each_loss(loss, weighted):
    check_gradients(dl.Tanh(), loss, weighted)


@pytest.mark.parametrize("activation", [*ACTIVATIONS, dl.Softplus(2.0)], ids=repr)
def test_gradients_through_each_activation(activation):
    check_gradients(activation, "mse", weighted=False)


def check_gradients(activation, loss, weighted):
    """A step of SGD with lr 1 is minus the gradient; compare with central differences."""
    rng = np.random.default_rng(2)
    model = dl.Sequential(
        dl.Linear(4, 6),
        activation,
        dl.Linear(6, 5, bias=False),
        activation,
        dl.Linear(5, 3),
        dtype=F64,
        seed=0,
    )
    x, y = rng.normal(size=(9, 4)), targets(loss, 9, rng)
    weight = rng.random(9) if weighted else None
    trainer = sgd_trainer(model, LOSSES[loss], lr=1.0)
    start = model.flat.copy()
    fit(trainer, x, y, batch_size=9, sample_weight=weight)
    gradient = start - model.flat
    numeric = np.empty_like(start)
    for i in range(len(start)):
        values = []
        for step in (1e-6, -1e-6):
            model.flat[:] = start
            model.flat[i] += step
            values.append(trainer.evaluate(x, y, weight)["loss"])
        numeric[i] = (values[0] - values[1]) / 2e-6
    np.testing.assert_allclose(gradient, numeric, atol=2e-8)
    assert np.abs(gradient).max() > 1e-3


def test_layers_above_the_last_linear_and_below_the_first():
    model = dl.Sequential(dl.Tanh(), dl.Linear(4, 3), dl.Sigmoid(), dtype=F64, seed=0)
    x, y = np.random.default_rng(0).normal(size=(8, 4)), np.full((8, 3), 0.9)
    before = x.copy()
    losses = fit(sgd_trainer(model, "mse", lr=1.0), x, y, epochs=50)["loss"]
    assert losses[-1] < 0.5 * losses[0]
    np.testing.assert_array_equal(x, before)


# ---- reproducibility


def outcome(seed, epochs=(3,), **options):
    x, y = blobs(dtype=np.float32)
    trainer = dl.Trainer(network(dtype=np.float32), loss="cross_entropy", seed=seed)
    losses = [
        loss
        for n in epochs
        for loss in fit(trainer, x, y, n, batch_size=7, validation_split=0.2, **options)["val_loss"]
    ]
    return trainer.model.flat, losses


def test_the_seed_gives_the_same_bits():
    (flat, losses), (again, losses_again) = outcome(3), outcome(3)
    np.testing.assert_array_equal(flat, again)
    assert losses == losses_again


def test_other_seeds_give_other_fits():
    assert not np.array_equal(outcome(3)[0], outcome(4)[0])
    assert not np.array_equal(outcome(None)[0], outcome(None)[0])


def test_two_fits_are_one_longer_fit():
    np.testing.assert_array_equal(outcome(3, (2, 3))[0], outcome(3, (5,))[0])


def test_threads_do_not_change_the_bits():
    with dl.num_threads(1):
        one = outcome(3)[0]
    with dl.num_threads(2):
        np.testing.assert_array_equal(outcome(3)[0], one)


# ---- weights


def test_a_weight_of_two_is_a_row_twice():
    x, y = blobs(20)
    weight = np.where(np.arange(20) % 3 == 0, 2.0, 1.0)
    twice = np.repeat(np.arange(20), weight.astype(int))
    weighted, repeated = sgd_trainer(metrics=["accuracy"]), sgd_trainer(metrics=["accuracy"])
    a = fit(weighted, x, y, 5, batch_size=50, sample_weight=weight, shuffle=False)
    b = fit(repeated, x[twice], y[twice], 5, batch_size=50, shuffle=False)
    assert_close(weighted.model, repeated.model)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-12)
    np.testing.assert_allclose(a["accuracy"], b["accuracy"], rtol=1e-12)
    expected = repeated.evaluate(x[twice], y[twice])
    assert weighted.evaluate(x, y, weight) == pytest.approx(expected, rel=1e-10)


def test_weighted_batches_and_epochs_are_weighted_means():
    x, y = blobs(23)
    weight = np.random.default_rng(0).integers(0, 4, 23)  # zeros among them, and an integer dtype
    weight[5:10] = 0  # a whole batch
    trainer = sgd_trainer()
    state = list(trainer.model.state_dict().values())
    history = fit(trainer, x, y, batch_size=5, sample_weight=weight, shuffle=False)
    batches = [slice(i, i + 5) for i in range(0, 23, 5) if i != 5]
    losses = [hand_step(state, x[b], y[b], weight[b].astype(float)) for b in batches]
    assert_close(trainer.model, state)
    expected = np.average(losses, weights=[weight[b].sum() for b in batches])
    assert history["loss"] == [pytest.approx(expected, rel=1e-12)]


def test_class_weights_multiply_sample_weights():
    x, y = blobs(30)
    weight = np.random.default_rng(0).random(30)
    by_class, by_row = sgd_trainer(), sgd_trainer()
    fit(by_class, x, y, sample_weight=weight, class_weight={0: 3.0, 2: 0.5})
    fit(by_row, x, y, sample_weight=weight * np.array([3.0, 1.0, 0.5])[y])
    np.testing.assert_array_equal(by_class.model.flat, by_row.model.flat)


def test_balanced_classes_have_the_same_total_weight():
    x, _ = blobs(30)
    y = np.repeat([0, 2], [24, 6])  # no row of class 1
    balanced, by_row = sgd_trainer(), sgd_trainer()
    fit(balanced, x, y, class_weight="balanced")
    fit(by_row, x, y, sample_weight=np.where(y == 0, 30 / 2 / 24, 30 / 2 / 6))
    assert_close(balanced.model, by_row.model)


def test_balanced_classes_are_counted_among_the_rows_to_train_on():
    x, y = blobs(40)
    seen = []

    def keep(y_true, outputs):
        seen.append(y_true)
        return 0.0

    balanced, by_row = sgd_trainer(metrics=[keep]), sgd_trainer()
    fit(balanced, x, y, class_weight="balanced", validation_split=0.4)
    trained = np.bincount(seen[0])
    assert trained.sum() == 24
    fit(by_row, x, y, sample_weight=1 / trained[y], validation_split=0.4)
    assert_close(balanced.model, by_row.model)


def test_class_weights_of_a_binary_loss():
    x, y = blobs(30, classes=2)
    trainers = [sgd_trainer(network(outputs=1), "bce_with_logits") for _ in range(2)]
    fit(trainers[0], x, y.astype(F64), class_weight={1: 3.0})
    fit(trainers[1], x, y.astype(F64), sample_weight=1 + 2 * y)
    np.testing.assert_array_equal(trainers[0].model.flat, trainers[1].model.flat)


@pytest.mark.parametrize("sample_weight", [None, np.linspace(0.5, 1.5, 30)])
def test_weights_and_ignored_rows_of_the_loss_meet_those_of_the_rows(sample_weight):
    """sum(s w l) / sum(s w): what PyTorch's weighted mean becomes with weights of the rows."""
    x, y = blobs(30)
    ignored = y.copy()
    ignored[::4] = -100
    class_weight = np.array([1.0, 2.0, 0.5])
    trainer = sgd_trainer(loss=dl.CrossEntropyLoss(weight=class_weight))
    state = list(trainer.model.state_dict().values())
    history = fit(trainer, x, ignored, sample_weight=sample_weight, batch_size=30, shuffle=False)
    weight = np.where(ignored >= 0, class_weight[y], 0)
    weight = weight if sample_weight is None else weight * sample_weight
    assert history["loss"] == [pytest.approx(hand_step(state, x, y, weight), rel=1e-12)]
    assert_close(trainer.model, state)


# ---- accumulate, clip_grad_norm, schedule, freeze


@pytest.mark.parametrize("weighted", [False, True])
def test_accumulated_batches_are_one_large_batch(weighted):
    x, y = blobs(50)
    weight = np.random.default_rng(1).random(50) if weighted else None
    large, small = sgd_trainer(), sgd_trainer(accumulate=4)
    a = fit(large, x, y, 3, batch_size=20, sample_weight=weight)  # 20 + 20 + 10
    b = fit(small, x, y, 3, batch_size=5, sample_weight=weight)
    assert_close(small.model, large.model)
    np.testing.assert_allclose(a["loss"], b["loss"], rtol=1e-12)


def test_accumulated_short_last_batch():
    x, y = blobs(23)
    large, small = sgd_trainer(), sgd_trainer(accumulate=3)
    fit(large, x, y, 2, batch_size=9)  # 9 + 9 + 5
    fit(small, x, y, 2, batch_size=3)  # 3 x 3, 3 x 3, 3 + 2
    assert_close(small.model, large.model)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_norm_beyond_all_gradients_changes_no_bit(accumulate):
    x, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3
    flats = []
    for limit in (None, 1e6):
        model = dl.Sequential(dl.Linear(5, 4), dl.ReLU(), dl.Linear(4, 3), dtype="f8", seed=0)
        trainer = dl.Trainer(
            model,
            loss="cross_entropy",
            optimizer=dl.SGD(model.parameters(), lr=0.1),
            clip_grad_norm=limit,
            accumulate=accumulate,
            seed=0,
        )
        trainer.fit(x, y, epochs=2, batch_size=8, verbose=0)
        flats.append(model.flat.copy())
    np.testing.assert_array_equal(*flats)


def test_gradients_are_clipped_together():
    x, y = blobs(20)
    free, clipped = sgd_trainer(lr=1.0), sgd_trainer(lr=1.0, clip_grad_norm=1e-2)
    start = free.model.flat.copy()
    fit(free, x, y)
    fit(clipped, x, y)
    step, clipped_step = free.model.flat - start, clipped.model.flat - start
    norm = np.linalg.norm(step)
    assert norm > 0.1
    np.testing.assert_allclose(clipped_step, step * 1e-2 / (norm + 1e-6), rtol=1e-6)


def test_the_schedule_sets_the_learning_rate_of_each_epoch():
    x, y = blobs(20)
    trainer = sgd_trainer(schedule=lambda epoch: 0.1 / (1 + epoch))
    assert fit(trainer, x, y, 2)["lr"] == [0.1, 0.05]
    assert fit(trainer, x, y, 1)["lr"] == [pytest.approx(0.1 / 3)]
    assert trainer.optimizer.lr == pytest.approx(0.1 / 3)
    with pytest.raises(ValueError, match="not a learning rate"):
        fit(sgd_trainer(schedule=lambda _: float("nan")), x, y)


@pytest.mark.parametrize("name", ["0", "2", "0.bias", "2.weight"])
def test_frozen_parameters_keep_their_bits(name):
    x, y = blobs(dtype=np.float32)
    model = network(dtype=np.float32)
    model.flat[0] = -0.0
    optimizer = dl.AdamW(model.parameters(), weight_decay=0.1, l1=1e-3)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, clip_grad_norm=1.0)
    model.freeze(name)
    before = model.state_dict()
    fit(trainer, x, y, 3)
    for parameter, value in model.state_dict().items():
        assert (value.tobytes() == before[parameter].tobytes()) == parameter.startswith(name)
    model.unfreeze(name)
    fit(trainer, x, y, 3)
    assert not any(np.array_equal(v, before[n]) for n, v in model.state_dict().items())


def test_freezing_leaves_the_other_gradients_as_they_are():
    x, y = blobs(20)
    frozen, free = sgd_trainer(), sgd_trainer()
    frozen.model.freeze("2.weight")
    fit(frozen, x, y, batch_size=20)
    fit(free, x, y, batch_size=20)
    for name in ("0.weight", "0.bias", "2.bias"):
        np.testing.assert_array_equal(
            frozen.model.state_dict()[name], free.model.state_dict()[name]
        )


def test_an_optimizer_of_some_parameters_trains_those():
    x, y = blobs(20)
    model = network()
    before = model.state_dict()
    last = [model[2].bias, model[2].weight]  # in an order of its own
    fit(dl.Trainer(model, loss="cross_entropy", optimizer=dl.SGD(last, lr=0.1)), x, y)
    changed = {n for n, v in model.state_dict().items() if not np.array_equal(v, before[n])}
    assert changed == {"2.weight", "2.bias"}


def test_optimizers_by_name():
    for name, kind in (("sgd", dl.SGD), ("adam", dl.Adam), ("adamw", dl.AdamW), (None, dl.Adam)):
        trainer = dl.Trainer(network(), loss="mse", optimizer=name)
        assert type(trainer.optimizer) is kind


# ---- data


@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_is_seen_once_an_epoch(shuffle):
    seen = []

    def keep(y_true, outputs):
        seen.append(y_true[:, 0])
        return 0.0

    x, y = np.zeros((23, 4)), np.arange(23.0)
    trainer = sgd_trainer(network(outputs=1), "mse", metrics=[keep])
    fit(trainer, x, y, 3, batch_size=5, shuffle=shuffle)
    assert [sorted(order) for order in seen] == [list(range(23))] * 3
    in_order = [order.tolist() == list(range(23)) for order in seen]
    assert in_order == [not shuffle] * 3
    assert (seen[0].tolist() == seen[1].tolist()) is (not shuffle)


def test_the_validation_split_is_random_seeded_and_kept():
    kept = []

    def keep(y_true, outputs):
        kept.append(sorted(y_true[:, 0]))
        return 0.0

    def held_out(seed, fits=1):
        kept.clear()
        trainer = dl.Trainer(network(outputs=1), loss="mse", metrics=[keep], seed=seed)
        for _ in range(fits):
            fit(trainer, np.zeros((50, 4)), np.arange(50.0), validation_split=0.1)
        assert all(
            sorted(a + b) == list(range(50)) for a, b in zip(kept[::2], kept[1::2], strict=True)
        )
        return kept[1::2]

    (first,) = held_out(0)
    assert len(first) == 5
    assert first != list(range(45, 50))
    assert held_out(0, fits=3) == [first] * 3  # no row that was trained on is validated on
    assert held_out(1) != [first]


def test_validation_is_weighted_and_at_the_end_of_the_epoch():
    x, y = blobs(30)
    weight = np.random.default_rng(0).random(10)
    validation = x[20:], y[20:], weight
    trainer = sgd_trainer(metrics=["accuracy"])
    history = fit(trainer, x[:20], y[:20], 2, validation_data=validation)
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    logits = trainer.predict(x[20:])
    losses = dl.cross_entropy(logits, y[20:], reduction="none")
    assert history["val_loss"][-1] == pytest.approx(np.average(losses, weights=weight))
    hits = logits.argmax(1) == y[20:]
    assert history["val_accuracy"][-1] == pytest.approx(np.average(hits, weights=weight))


@pytest.mark.parametrize("make", [np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2]])
def test_the_layout_of_the_data_does_not_change_the_bits(make):
    x, y = blobs(40)
    x, y = np.ascontiguousarray(x), y.astype(np.uint8)
    a, b = sgd_trainer(), sgd_trainer()
    strided = make(x)
    strided.flags.writeable = False
    fit(a, x, y, 2, batch_size=9)
    fit(b, strided, make(y), 2, batch_size=9)
    np.testing.assert_array_equal(a.model.flat, b.model.flat)


def test_one_column_of_targets_may_be_a_vector():
    x, y = blobs(30, classes=2)
    vector, column = [
        dl.Trainer(network(outputs=1), loss="mse", metrics=["mae"], seed=0) for _ in range(2)
    ]
    a = fit(vector, x, y.astype(F64), 2)
    b = fit(column, x, y.astype(F64)[:, None], 2)
    assert a == b
    assert vector.predict(x).shape == (30, 1)


def test_class_probabilities_as_targets():
    x, y = blobs(30)
    indices, probabilities = sgd_trainer(metrics=["accuracy"]), sgd_trainer(metrics=["accuracy"])
    a, b = fit(indices, x, y, 3), fit(probabilities, x, np.eye(3)[y], 3)
    assert_close(indices.model, probabilities.model)
    assert a["accuracy"] == b["accuracy"]


# ---- predict, evaluate, metrics


def test_predict_is_the_model_in_pieces():
    x, _ = blobs(50)
    trainer = sgd_trainer()
    np.testing.assert_array_equal(trainer.predict(x), trainer.model(x))
    np.testing.assert_allclose(trainer.predict(x, batch_size=7), trainer.model(x), rtol=1e-12)
    assert trainer.predict(x[:0]).shape == (0, 3)


def test_evaluate_gives_loss_and_metrics():
    x, y = blobs(50)

    def worst(y_true, outputs):
        return np.abs(outputs).max()

    trainer = sgd_trainer(metrics=["accuracy", worst])
    before, scores = trainer.model.flat.copy(), trainer.evaluate(x, y)
    logits = trainer.model(x)
    assert scores == {
        "loss": pytest.approx(float(dl.cross_entropy(logits, y))),
        "accuracy": pytest.approx(np.mean(logits.argmax(1) == y)),
        "worst": pytest.approx(np.abs(logits).max()),
    }
    assert all(type(value) is float for value in scores.values())
    np.testing.assert_array_equal(trainer.model.flat, before)


def test_accuracy_of_logits_that_mean_yes_or_no():
    model = dl.Sequential(dl.Linear(2, 2), dtype=F64)
    model.load_state_dict({"0.weight": np.eye(2), "0.bias": np.zeros(2)})
    trainer = dl.Trainer(model, loss="bce_with_logits", metrics=["accuracy"])
    logits = np.array([[1.0, -1.0], [1.0, 1.0], [-1.0, -1.0], [0.0, 2.0]])
    y = np.array([[1.0, 0.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    assert trainer.evaluate(logits, y)["accuracy"] == (1 + 0 + 0.5 + 1) / 4


def test_ignored_rows_do_not_count_in_the_accuracy():
    x, y = blobs(30)
    trainer = sgd_trainer(metrics=["accuracy"])
    ignored = np.where(np.arange(30) < 10, -100, y)
    expected = trainer.evaluate(x[10:], y[10:])
    assert trainer.evaluate(x, ignored) == pytest.approx(expected)
    weight = np.linspace(0.1, 1, 30)
    expected = trainer.evaluate(x[10:], y[10:], weight[10:])
    assert trainer.evaluate(x, ignored, weight) == pytest.approx(expected)


def test_errors_as_metrics():
    x, y = blobs(30)
    trainer = sgd_trainer(loss="huber", metrics=["mae", "mse"])
    target = np.eye(3)[y]
    difference = trainer.model(x) - target
    scores = trainer.evaluate(x, target)
    assert scores["mae"] == pytest.approx(np.abs(difference).mean())
    assert scores["mse"] == pytest.approx(np.square(difference).mean())


def test_the_training_learns():
    x, y = blobs(300, dtype=np.float32)
    model = dl.Sequential(dl.Linear(4, 16), dl.ReLU(), dl.Linear(16, 3), seed=0)
    trainer = dl.Trainer(model, loss="cross_entropy", metrics=["accuracy"], seed=0)
    history = fit(trainer, x, y, 60)
    assert trainer.evaluate(x, y)["accuracy"] > 0.95
    assert history["loss"][-1] < 0.3 * history["loss"][0]


# ---- divergence and Ctrl-C


def diverging(lr, loss="mse", **options):
    x, _ = blobs(64)
    model = dl.Sequential(dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 3), seed=0)
    trainer = sgd_trainer(model, loss, lr=lr, **options)
    return trainer, x.astype(np.float32), np.ones((64, 3), np.float32)


@pytest.mark.parametrize("lr", [1e3, 1e20, 3e38])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_divergence_leaves_the_last_finite_weights(lr, accumulate):
    trainer, x, y = diverging(lr, accumulate=accumulate)
    with pytest.raises(FloatingPointError, match=r"epoch \d+, step \d+.*not finite|loss is"):
        fit(trainer, x, y, 50, batch_size=16)
    assert np.isfinite(trainer.model.flat).all()


def test_divergence_names_the_step_and_undoes_nothing_else():
    """The weights are those after the last good step, not those of the last epoch."""
    x, y = blobs(40)
    bad = x.copy()
    bad[25] = np.nan  # in the third batch of ten
    trainer, other = sgd_trainer(), sgd_trainer()
    with pytest.raises(FloatingPointError, match="epoch 1, step 3: the loss is nan"):
        fit(trainer, bad, y, batch_size=10, shuffle=False)
    fit(other, x[:20], y[:20], batch_size=10, shuffle=False)
    np.testing.assert_array_equal(trainer.model.flat, other.model.flat)
    assert trainer.history.epoch == []
    fit(trainer, x, y)  # goes on from there
    assert np.isfinite(trainer.model.flat).all()


def test_a_gradient_that_overflows_reaches_neither_weights_nor_optimizer():
    model = dl.Sequential(dl.Linear(1, 1, bias=False), seed=0)
    trainer = dl.Trainer(model, loss="mse", seed=0)
    model.flat[:] = 2e-38
    before = model.flat.copy()
    x, y = np.full((4, 1), 3e38, np.float32), np.zeros(4, np.float32)  # loss 36, gradient 3.6e39
    with pytest.raises(FloatingPointError, match="the gradient is not finite"):
        fit(trainer, x, y)
    np.testing.assert_array_equal(model.flat, before)
    assert np.isfinite(fit(trainer, np.ones_like(x), y, 5)["loss"]).all()


def test_divergence_restores_the_best_weights_of_early_stopping():
    stopping = dl.EarlyStopping("loss")
    seen = []

    class Weights(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            seen.append(self.trainer.model.flat.copy())

    trainer, x, y = diverging(
        0.1, callbacks=[stopping, Weights()], schedule=lambda epoch: 0.01 if epoch < 3 else 1e30
    )
    with pytest.raises(FloatingPointError, match=r"epoch 4, step 2.*step was undone") as raised:
        fit(trainer, x, y, 100)
    assert raised.value.__notes__ == ["the parameters are those of epoch 3"]
    assert stopping.best_epoch == trainer.history.best_epoch == 2
    np.testing.assert_array_equal(trainer.model.flat, seen[2])
    assert trainer.history.epoch == [0, 1, 2]


def test_divergence_without_restoring_leaves_the_weights_of_the_last_step():
    stopping = dl.EarlyStopping("loss", restore_best=False)
    trainer, x, y = diverging(
        0.1, callbacks=[stopping], schedule=lambda epoch: 0.01 if epoch < 3 else 1e30
    )
    with pytest.raises(FloatingPointError, match="epoch 4, step 2"):
        fit(trainer, x, y, 100)
    assert np.abs(trainer.model.flat).max() > 1e20  # of the one step that epoch 4 made


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill")
def test_ctrl_c_ends_a_fit_at_once():
    x, y = blobs(20000, dtype=np.float32)
    trainer = dl.Trainer(
        dl.Sequential(dl.Linear(4, 256), dl.ReLU(), dl.Linear(256, 3), seed=0),
        loss="cross_entropy",
        metrics=["accuracy"],
        seed=0,
    )
    fit(trainer, x, y)
    pressed = []

    def press():
        pressed.append(time.perf_counter())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    timer = threading.Timer(0.6, press)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, x, y, 100000, batch_size=64, validation_split=0.1)
    assert time.perf_counter() - pressed[0] < 0.5
    assert len(trainer.history.get("loss", [])) == len(trainer.history.epoch)
    assert np.isfinite(trainer.model.flat).all()
    assert trainer.evaluate(x, y)["accuracy"] > 0.5
    fit(trainer, x, y)


def test_an_update_that_is_interrupted_is_undone():
    class Interrupted(dl.SGD):
        def step(self, grads):
            super().step(grads)
            raise KeyboardInterrupt

    x, y = blobs(20)
    model = network()
    before = model.flat.copy()
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=Interrupted(model.parameters()))
    with pytest.raises(KeyboardInterrupt):
        fit(trainer, x, y)
    np.testing.assert_array_equal(model.flat, before)


# ---- errors

X, Y = np.zeros((10, 4)), np.zeros(10, np.int64)
# Only the first row counts, and it is not the one that the seed holds out.
FIRST = np.where(np.arange(10) == 0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("x", "y", "options", "error", "message"),
    [
        (X.tolist(), Y, {}, TypeError, "x must be an array"),
        (X.astype(np.float32), Y, {}, TypeError, "x is float32, the model float64"),
        (X[:, :3], Y, {}, ValueError, r"x must have shape \(N, 4\), not \(10, 3\)"),
        (X[:9], Y, {}, ValueError, "x has 9 rows, y 10"),
        (X[:0], Y[:0], {}, ValueError, "x has no row that counts, of 0"),
        (X, Y.astype(bool), {}, TypeError, "y is bool"),
        (X, Y.astype(F64), {}, ValueError, r"y must have shape \(N, 3\)"),
        (X, np.zeros((10, 3), np.float32), {}, TypeError, "y is float32"),
        (X, Y[:, None], {}, ValueError, r"class indices of shape \(N,\)"),
        (X, Y + np.arange(10) // 7 * 3, {}, IndexError, r"y\[7\] is 3, .* classes 0 to 2"),
        (X, Y - np.arange(10) // 9, {}, IndexError, r"y\[9\] is -1"),
        (X, np.full(10, 2**64 - 100, np.uint64), {}, IndexError, r"y\[0\] is 18446744073709551516"),
        (X, Y - 100, {}, ValueError, "no row that counts"),
        (X, Y, {"epochs": -1}, ValueError, "epochs must be an integer and at least 0, not -1"),
        (X, Y, {"batch_size": 0}, ValueError, "batch_size must be a positive integer"),
        (X, Y, {"batch_size": True}, ValueError, "batch_size must be a positive integer"),
        (X, Y, {"verbose": 3}, ValueError, "verbose must be"),
        (X, Y, {"callbacks": [dl.EarlyStopping]}, TypeError, "instance of Callback"),
        (X, Y, {"sample_weight": np.ones(9)}, ValueError, r"sample_weight must have shape \(10,\)"),
        (X, Y, {"sample_weight": -np.ones(10)}, ValueError, r"sample_weight\[0\] is -1"),
        (X, Y, {"sample_weight": np.full(10, np.nan)}, ValueError, r"sample_weight\[0\] is nan"),
        (X, Y, {"sample_weight": np.zeros(10)}, ValueError, "no row that counts"),
        (X, Y, {"sample_weight": np.full(10, "a")}, TypeError, "sample_weight must hold numbers"),
        (X, Y, {"class_weight": {5: 1.0}}, ValueError, r"class_weight names \[5\]"),
        (X, Y, {"class_weight": {0: 0.0}}, ValueError, "weights are all 0"),
        (X, Y, {"class_weight": {0: -1.0}}, ValueError, r"class_weight\[0\] is -1"),
        (X, Y, {"class_weight": "even"}, ValueError, "'balanced', not 'even'"),
        (X, Y, {"validation_split": 1.0}, ValueError, r"in \[0, 1\), not 1.0"),
        (X[:1], Y[:1], {"validation_split": 0.5}, ValueError, "leaves none of 1 rows"),
        (
            X,
            Y,
            {"validation_split": 0.1, "sample_weight": FIRST},
            ValueError,
            "validation x has no row that counts, of 1",
        ),
        (X, Y, {"validation_data": X}, ValueError, "validation_data must be"),
        (X, Y, {"validation_data": (X, Y), "validation_split": 0.5}, ValueError, "not both"),
        (X, Y, {"validation_data": (X[:5], Y)}, ValueError, "validation x has 5 rows"),
        (X, Y, {"validation_data": (X, Y + 3)}, IndexError, r"validation y\[0\] is 3"),
    ],
)
def test_wrong_data(x, y, options, error, message):
    trainer = sgd_trainer()
    before = trainer.model.flat.copy()
    with pytest.raises(error, match=message):
        trainer.fit(x, y, **({"epochs": 1, "verbose": 0} | options))
    np.testing.assert_array_equal(trainer.model.flat, before)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"model": "mlp"}, TypeError, "model must be a Sequential"),
        ({"loss": "hinge"}, ValueError, "loss must be one of cross_entropy, .* not 'hinge'"),
        ({"loss": dl.MSELoss}, ValueError, "or a loss object"),
        ({"optimizer": "lion"}, ValueError, "optimizer must be one of sgd, adam, adamw"),
        ({"optimizer": 1e-3}, TypeError, "optimizer must be a name or an optimizer"),
        ({"optimizer": dl.SGD([np.zeros(3)])}, ValueError, "no parameter of this model"),
        ({"metrics": "accuracy"}, TypeError, r"a list such as \['accuracy'\]"),
        ({"metrics": ["auc"]}, ValueError, "'auc' is not one of"),
        ({"metrics": [3]}, TypeError, "a metric is a name or a function"),
        ({"metrics": ["mae"]}, ValueError, "'mae' needs a loss for values"),
        ({"metrics": ["accuracy"], "loss": "mse"}, ValueError, "'accuracy' needs a loss for class"),
        ({"metrics": ["accuracy", "accuracy"]}, ValueError, "'accuracy' is taken"),
        ({"accumulate": 0}, ValueError, "accumulate must be a positive integer"),
        ({"clip_grad_norm": 0.0}, ValueError, "clip_grad_norm must be positive"),
        ({"schedule": 0.1}, TypeError, "schedule must be a Schedule"),
    ],
)
def test_wrong_trainers(options, error, message):
    with pytest.raises(error, match=message):
        dl.Trainer(**({"model": network(), "loss": "cross_entropy"} | options))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dl.CrossEntropyLoss(label_smoothing=1.5), "label_smoothing"),
        (lambda: dl.HuberLoss(delta=0.0), "delta must be a number in .0, inf"),
        (lambda: dl.SmoothL1Loss(beta=-1.0), "beta must be finite and at least 0"),
    ],
)
def test_wrong_losses(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_weights_of_a_loss_must_fit_the_outputs():
    with pytest.raises(ValueError, match=r"weight has shape \(2,\), but the model has 3"):
        fit(sgd_trainer(loss=dl.CrossEntropyLoss(weight=[1.0, 2.0])), X, Y)
    with pytest.raises(ValueError, match=r"pos_weight has shape \(2,\), but the model has 3"):
        fit(sgd_trainer(loss=dl.BCEWithLogitsLoss([1.0, 2.0])), X, np.zeros((10, 3)))


def test_a_model_that_is_frozen_whole_cannot_be_trained():
    trainer = sgd_trainer()
    trainer.model.freeze("0")
    trainer.model.freeze("2")
    with pytest.raises(ValueError, match="nothing to train"):
        fit(trainer, X, Y)
