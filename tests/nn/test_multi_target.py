"""`MultiTargetLoss`: every loss against plain NumPy, natively and in Python; targets that miss."""

import numpy as np
import pytest

import dlcore as dl
from dlcore.nn import Loss
from support.plain_step import PlainNetwork

F32, F64 = np.float32, np.float64
DTYPES = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])
NAN = np.nan


# ---- the specification: of each loss the values of rows, their gradients, and what they count ----


def log_softmax(z):
    z = z - z.max(1, keepdims=True)
    return z - np.log(np.exp(z).sum(1, keepdims=True))


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def squared(z, y):
    return (z - y) ** 2, 2 * (z - y)


def absolute(z, y):
    return np.abs(z - y), np.sign(z - y)


def huber(delta, z, y):
    d = z - y
    small = np.abs(d) <= delta
    loss = np.where(small, d**2 / 2, delta * (np.abs(d) - delta / 2))
    return loss, np.where(small, d, delta * np.sign(d))


def poisson(z, y):
    return np.exp(z) - y * z, np.exp(z) - y


def quantile(order, z, y):
    d = y - z
    return np.maximum(order * d, (order - 1) * d), np.where(d > 0, -np.asarray(order), 1.0 - order)


def binary(pos_weight, z, y):
    p = sigmoid(z)
    loss = -pos_weight * y * np.log(p) - (1 - y) * np.log(1 - p)
    return loss, -pos_weight * y * (1 - p) + (1 - y) * p


def focal(gamma, loss, grad):
    """Multiply by (1 - exp(-loss)) ** gamma; ``grad`` of the loss."""
    wrong = 1 - np.exp(-loss)
    slope = wrong**gamma + gamma * wrong ** (gamma - 1) * np.exp(-loss) * loss
    return wrong**gamma * loss, slope * grad


def entropy(weight, smoothing, z, y):
    classes = z.shape[1]
    target = np.eye(classes)[y[:, 0].astype(int)] * (1 - smoothing) + smoothing / classes
    target = target * np.asarray(weight)
    log_p = log_softmax(z)
    loss = -(target * log_p).sum(1, keepdims=True)
    return loss, np.exp(log_p) * target.sum(1, keepdims=True) - target


CLASS_WEIGHT = [0.5, 4.0, 1.5]
ORDERS = np.array([0.1, 0.5, 0.9])

# Name: the loss, its outputs, the kind of its targets, and the specification.
LOSSES = {
    "mse": (dl.MSELoss(), 2, "values", squared),
    "l1": (dl.L1Loss(), 1, "values", absolute),
    "huber": (dl.HuberLoss(0.4), 2, "values", lambda z, y: huber(0.4, z, y)),
    "smooth_l1": (
        dl.SmoothL1Loss(0.3),
        1,
        "values",
        lambda z, y: [part / 0.3 for part in huber(0.3, z, y)],
    ),
    "poisson": (dl.PoissonNLLLoss(), 1, "counts", poisson),
    "quantile": (dl.QuantileLoss(0.2), 2, "values", lambda z, y: quantile(0.2, z, y)),
    "quantiles": (dl.QuantileLoss(ORDERS), 3, "values", lambda z, y: quantile(ORDERS, z, y)),
    "entropy": (dl.CrossEntropyLoss(), 4, "labels", lambda z, y: entropy([1] * 4, 0.0, z, y)),
    "smoothed": (
        dl.CrossEntropyLoss(label_smoothing=0.2, ignore_index=255),
        3,
        "labels",
        lambda z, y: entropy([1] * 3, 0.2, z, y),
    ),
    "weighted": (
        dl.CrossEntropyLoss(CLASS_WEIGHT, label_smoothing=0.1, ignore_index=-1),
        3,
        "labels",
        lambda z, y: entropy(CLASS_WEIGHT, 0.1, z, y),
    ),
    "focal": (
        dl.FocalLoss(1.5),
        3,
        "labels",
        lambda z, y: focal(1.5, *entropy([1] * 3, 0.0, z, y)),
    ),
    "binary": (dl.BCEWithLogitsLoss(), 2, "shares", lambda z, y: binary(1.0, z, y)),
    "positive": (
        dl.BCEWithLogitsLoss([3.0, 0.5]),
        2,
        "shares",
        lambda z, y: binary(np.array([3.0, 0.5]), z, y),
    ),
    "focal_binary": (
        dl.FocalLoss(2.0, "bce_with_logits"),
        2,
        "flags",
        lambda z, y: focal(2.0, *binary(1.0, z, y)),
    ),
}


def counts(name, y):
    """What rows that have a target add to the denominator of its mean."""
    return np.array(CLASS_WEIGHT)[y[:, 0].astype(int)] if name == "weighted" else np.ones(len(y))


def joined_loss(names=tuple(LOSSES), **options):
    """Join losses, with weights 0.5, 1, 1.5 and so on."""
    own = {name: LOSSES[name][0] for name in names}
    widths = [LOSSES[name][1] for name in names]
    return dl.MultiTargetLoss(own, widths, 0.5 * np.arange(1, len(names) + 1), **options)


def draw(n, names=tuple(LOSSES), *, dtype=F64, seed=0, missing=()):
    """Draw x and the targets by name; of those in ``missing`` a third of the rows has none."""
    rng = np.random.default_rng(seed)
    x, targets = rng.normal(size=(n, 4)).astype(dtype), {}
    for name in names:
        loss, width, kind, _ = LOSSES[name]
        absent = rng.random(n) < (1 / 3 if name in missing else 0)
        if kind == "labels":
            y = rng.integers(0, width, n)
            y[absent] = getattr(loss, "ignore_index", -100)
        else:
            y = {
                "values": lambda w: rng.normal(size=(n, w)),
                "counts": lambda w: rng.integers(0, 4, (n, w)),
                "shares": lambda w: rng.random((n, w)),
                "flags": lambda w: rng.integers(0, 2, (n, w)),
            }[kind](width).astype(dtype)
            # One missing column is enough.
            y[absent, rng.integers(0, width, absent.sum())] = np.nan
        targets[name] = y
    return x, targets


def side_by_side(targets, dtype=F64):
    return np.concatenate([y.reshape(len(y), -1).astype(dtype) for y in targets.values()], axis=1)


def some(targets, rows):
    return {name: y[rows] for name, y in targets.items()}


def has_target(name, y):
    y = y.reshape(len(y), -1).astype(F64)
    return ~np.isnan(y).any(1) & (y[:, 0] != getattr(LOSSES[name][0], "ignore_index", -100))


def plain_losses(outputs, targets, weight=None):
    """Of each target the mean loss and its gradient; None if no row has it."""
    weight = np.ones(len(outputs)) if weight is None else weight
    results, column = {}, 0
    for name, y in targets.items():
        _, width, _, spec = LOSSES[name]
        columns = slice(column, column + width)
        column += width
        there = np.flatnonzero(has_target(name, y))
        y = y.reshape(len(y), -1).astype(F64)[there]
        mass = weight[there] @ counts(name, y)
        if not mass > 0:
            results[name] = None
            continue
        losses, slopes = spec(outputs[there, columns], y)
        share = weight[there] / mass / losses.shape[1]
        grad = np.zeros(outputs.shape)
        grad[there, columns] = slopes * share[:, np.newaxis]
        results[name] = share @ losses.sum(1), grad
    return results


def plain_total(outputs, targets, weights, weight=None):
    """The weighted sum of the mean losses of the targets, and its gradient."""
    loss, grad = 0.0, np.zeros(outputs.shape)
    parts = plain_losses(outputs, targets, weight).values()
    for factor, part in zip(weights, parts, strict=True):
        if part is not None:
            loss, grad = loss + factor * part[0], grad + factor * part[1]
    return loss, grad


def plain_fit(model, targets, weights, x, *, rows, epochs, weight=None, lr=0.05):
    """SGD on ``rows`` an update, in order, in float64; the losses of epochs and the parameters."""
    net = PlainNetwork(model, F64)
    weight = np.ones(len(x)) if weight is None else weight
    history = []
    for _ in range(epochs):
        total = 0.0
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            values = net.forward(x[part])
            loss, slope = plain_total(values[-1], some(targets, part), weights, weight[part])
            for name, grad in net.backward(values, slope).items():
                net.parameters[name] = net.parameters[name] - lr * grad
            total += loss * weight[part].sum()
        history.append(total / weight.sum())
    return history, np.concatenate([p.ravel() for p in net.parameters.values()])


class Own(dl.SGD):
    """A step of the user's own, which is called from Python."""

    def step(self, grads):
        super().step(grads)


def network(outputs, *between, dtype=F64, seed=0):
    layers = dl.Linear(4, 7), *(between or (dl.Tanh(),)), dl.Linear(7, outputs)
    return dl.Sequential(*layers, dtype=dtype, seed=seed)


def sgd_trainer(loss, model=None, *, lr=0.05, optimizer=dl.SGD, dtype=F64, **options):
    model = model or network(sum(loss.widths), dtype=dtype)
    return dl.Trainer(model, loss=loss, optimizer=optimizer(model.parameters(), lr=lr), **options)


def fit(trainer, x, y=None, epochs=1, **options):
    return trainer.fit(x, y, epochs=epochs, **({"verbose": 0, "shuffle": False} | options))


def check_fit(names, *, dtype=F64, missing=(), rows=16, n=50, weight=None, stream=False, **options):
    """Fit natively, in Python and plainly: losses and parameters must agree."""
    x, y = draw(n, names, dtype=dtype, missing=missing)
    loss = joined_loss(names)
    accumulate = options.get("accumulate", 1)
    losses, parameters = plain_fit(
        network(sum(loss.widths), dtype=dtype),
        y,
        loss.weights,
        x,
        rows=rows * accumulate,
        epochs=3,
        weight=weight,
    )
    tolerance = 1e-10 if dtype == F64 else 2e-4
    for optimizer in (dl.SGD, Own):
        trainer = sgd_trainer(loss, dtype=dtype, optimizer=optimizer, **options)
        if stream:
            parts = [slice(start, start + rows) for start in range(0, n, rows)]
            batches = [(x[p], some(y, p), *(() if weight is None else (weight[p],))) for p in parts]
            history = fit(trainer, batches, epochs=3)
        else:
            history = fit(trainer, x, y, epochs=3, batch_size=rows, sample_weight=weight)
        np.testing.assert_allclose(history["loss"], losses, rtol=tolerance)
        np.testing.assert_allclose(trainer.model.flat, parameters, atol=tolerance, rtol=tolerance)


WEIGHT = np.where(np.arange(50) % 7 == 0, 0.0, np.linspace(0.1, 3, 50))

# ---- a fit is the plain one ----------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("missing", [(), tuple(LOSSES)], ids=["complete", "missing"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_fit_with_all_losses_is_the_plain_one(weighted, missing, dtype, isa):
    check_fit(tuple(LOSSES), dtype=dtype, missing=missing, weight=WEIGHT if weighted else None)


@DTYPES
@pytest.mark.parametrize("name", LOSSES)
def test_a_fit_with_each_loss_beside_another_is_the_plain_one(name, dtype):
    check_fit((name, "mse" if name != "mse" else "l1"), dtype=dtype, missing=(name,))
    check_fit(("entropy" if name != "entropy" else "focal", name), dtype=dtype, weight=WEIGHT)


@DTYPES
@pytest.mark.parametrize("missing", [(), ("l1", "weighted", "smoothed")], ids=["all", "missing"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_accumulated_batches_are_the_plain_ones(stream, weighted, missing, dtype):
    names = "l1", "weighted", "binary", "smoothed"
    for rows, accumulate in ((7, 3), (16, 2), (5, 100), (50, 4), (1, 13)):
        check_fit(
            names,
            dtype=dtype,
            missing=missing,
            rows=rows,
            # An iterable of batches takes none that weighs nothing.
            weight=np.maximum(WEIGHT, 0.01 * stream) if weighted else None,
            stream=stream,
            accumulate=accumulate,
        )


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("missing", [(), ("mse", "entropy")], ids=["complete", "missing"])
def test_k_batches_of_n_rows_are_one_of_k_times_n(missing, weighted):
    x, y = draw(50, ("mse", "entropy", "l1"), missing=missing)
    weight = WEIGHT if weighted else None
    fits = []
    for rows, accumulate in ((24, 1), (12, 2), (8, 3), (3, 8)):  # the last update is short
        trainer = sgd_trainer(joined_loss(tuple(y)), accumulate=accumulate)
        history = fit(trainer, x, y, epochs=4, batch_size=rows, sample_weight=weight)
        fits.append((history, trainer.model.flat))
    for history, flat in fits[1:]:
        np.testing.assert_allclose(flat, fits[0][1], rtol=1e-12, atol=1e-13)
        for name, values in history.items():
            np.testing.assert_allclose(values, fits[0][0][name], rtol=1e-12, err_msg=name)


@DTYPES
@pytest.mark.parametrize(
    "options",
    [{}, {"clip_grad_norm": 0.01}, {"clip_grad_value": 1e-3, "accumulate": 2}, {"accumulate": 3}],
    ids=str,
)
@pytest.mark.parametrize("weighted", [False, True])
def test_native_and_python_steps_agree_through_batch_norm(weighted, options, dtype, isa):
    x, y = draw(50, dtype=dtype, missing=("mse", "weighted", "focal_binary"))
    fits = []
    for optimizer in (dl.SGD, Own):
        loss = joined_loss()
        model = network(sum(loss.widths), dl.BatchNorm1d(7), dl.GELU(), dtype=dtype)
        trainer = sgd_trainer(loss, model, optimizer=optimizer, lr=0.02, seed=0, **options)
        weight = WEIGHT if weighted else None
        history = fit(
            trainer,
            x,
            y,
            3,
            batch_size=16,
            shuffle=True,
            sample_weight=weight,
            validation_split=0.2,
        )
        fits.append((history, model.flat))
    tolerance = 1e-9 if dtype == F64 else 2e-4
    assert fits[0][0].keys() == fits[1][0].keys()
    for name, values in fits[0][0].items():
        np.testing.assert_allclose(values, fits[1][0][name], rtol=tolerance, err_msg=name)
    np.testing.assert_allclose(fits[0][1], fits[1][1], atol=tolerance)


def test_the_same_bits_with_any_number_of_threads():
    x, y = draw(700, missing=("mse", "entropy"))
    results = []
    for threads in (1, 2, 3, 4):
        with dl.num_threads(threads):
            trainer = sgd_trainer(joined_loss(), seed=0)
            history = fit(trainer, x, y, 2, batch_size=256, shuffle=True)
            results.append((dict(history), trainer.model.flat.tobytes()))
    assert all(result == results[0] for result in results)


def test_unchanged_rows_in_a_transform_are_the_rows():
    x, y = draw(50, ("mse", "weighted"), missing=("mse", "weighted"))

    def unchanged(x, rng):
        return x

    flats = []
    for transform in (None, unchanged):
        trainer = sgd_trainer(joined_loss(tuple(y)), accumulate=3)
        fit(trainer, x, y, 2, batch_size=1, transform=transform)
        flats.append(trainer.model.flat)
    np.testing.assert_array_equal(*flats)
    with pytest.raises(ValueError, match="those of MultiTargetLoss cannot"):
        fit(trainer, x, y, mix=dl.mixup())


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_one_target_is_the_loss_alone(name, weighted):
    x, y = draw(50, (name,))
    weight = WEIGHT if weighted else None
    fits = []
    for loss, target in ((LOSSES[name][0], y[name]), (dl.MultiTargetLoss(*one(name)), y)):
        trainer = sgd_trainer(loss, network(LOSSES[name][1]))
        fit(trainer, x, target, 4, batch_size=16, sample_weight=weight)
        evaluated = trainer.evaluate(x, target, weight)["loss"]
        fits.append((evaluated, *trainer.model.flat))
    np.testing.assert_allclose(*fits, rtol=1e-12, atol=1e-14)


def one(name):
    loss, width, *_ = LOSSES[name]
    return {name: loss}, [width]


# ---- gradients -----------------------------------------------------------------------------------


def central_differences(function, at):
    numeric = np.empty(at.shape)
    for place in np.ndindex(at.shape):
        step = np.zeros(at.shape)
        step[place] = 1e-6
        numeric[place] = (function(at + step) - function(at - step)) / 2e-6
    return numeric


@pytest.mark.parametrize("missing", [(), tuple(LOSSES)], ids=["complete", "missing"])
def test_the_value_and_its_gradient_are_those_of_the_specification(missing):
    loss = joined_loss()
    y = draw(12, missing=missing)[1]
    outputs = np.random.default_rng(1).normal(size=(12, sum(loss.widths)))
    value, grad = loss.value_and_grad(outputs, loss.check(y, "y", outputs.shape[1], outputs.dtype))
    expected, slope = plain_total(outputs, y, loss.weights)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(grad, slope, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_central_differences(name, reduction):
    names = (name, "huber" if name != "huber" else "poisson")
    loss = joined_loss(names)
    y = draw(6, names, missing=(name,), seed=5)[1]
    outputs = np.random.default_rng(1).normal(size=(6, sum(loss.widths)))
    y = loss.check(y, "y", outputs.shape[1], outputs.dtype)
    assert np.isnan(y).any()
    value, grad = loss.value_and_grad(outputs, y, reduction=reduction)
    assert np.shape(value) == ((6,) if reduction == "none" else ())
    numeric = central_differences(lambda at: loss.value(at, y, reduction=reduction).sum(), outputs)
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_gradient_of_a_fit_is_that_of_evaluate(weighted):
    x, y = draw(9, missing=("mse", "weighted", "entropy", "positive"))
    weight = WEIGHT[1:10] if weighted else None
    loss = joined_loss()
    model = dl.Sequential(dl.Linear(4, 1), dl.Linear(1, sum(loss.widths)), dtype=F64, seed=0)
    start = model.flat.copy()
    trainer = sgd_trainer(loss, model, lr=1.0)
    fit(trainer, x, y, batch_size=9, sample_weight=weight)
    gradient = start - model.flat

    def at(flat):
        model.flat[:] = flat
        return trainer.evaluate(x, y, weight)["loss"]

    np.testing.assert_allclose(gradient, central_differences(at, start), rtol=1e-6, atol=1e-8)


def test_the_gradient_goes_into_out_which_may_be_the_outputs():
    loss = joined_loss()
    outputs = np.random.default_rng(1).normal(size=(5, sum(loss.widths)))
    y = draw(5, missing=tuple(LOSSES))[1]
    y = loss.check(y, "y", outputs.shape[1], outputs.dtype)
    value, grad = loss.value_and_grad(outputs, y)
    kept, out = outputs.copy(), np.full(outputs.shape, 7.0)
    into = loss.value_and_grad(outputs, y, out=out)
    in_place = loss.value_and_grad(kept, y, out=kept)
    assert into[1] is out
    assert in_place[1] is kept
    for other in (into, in_place):
        assert other[0] == value
        np.testing.assert_array_equal(other[1], grad)


# ---- missing targets -----------------------------------------------------------------------------


def test_missing_targets_by_hand():
    loss = dl.MultiTargetLoss({"a": "mse", "b": "cross_entropy"}, [1, 2], [1.0, 10.0])
    outputs = np.array([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [3.0, 0.0, 0.0], [4.0, 0.0, 0.0]])
    y = {"a": np.array([0.0, NAN, 0.0, NAN]), "b": np.array([0, 0, -100, 1])}
    y = loss.check(y, "y", 3, np.dtype(F64))
    value, grad = loss.value_and_grad(outputs, y)
    assert value == pytest.approx((1 + 9) / 2 + 10 * np.log(2), rel=1e-15)
    third = 10 / 6
    np.testing.assert_allclose(
        grad, [[1, -third, third], [0, -third, third], [3, 0, 0], [0, third, -third]], rtol=1e-15
    )


@pytest.mark.parametrize("factor", [1e-300, 1e-3, 1e200])
def test_weights_of_rows_count_by_their_ratios(factor):
    x, y = draw(50, ("mse", "weighted"), missing=("mse", "weighted"))
    fits = []
    for weight in (WEIGHT, WEIGHT * factor):
        trainer = sgd_trainer(joined_loss(tuple(y)))
        losses = fit(trainer, x, y, 2, batch_size=16, sample_weight=weight)["loss"]
        fits.append([*losses, trainer.evaluate(x, y, weight)["loss"], *trainer.model.flat])
    np.testing.assert_allclose(*fits, rtol=1e-12)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("stream", [False, True])
def test_a_target_that_no_row_of_a_batch_has(stream, accumulate, isa):
    names = "mse", "weighted", "entropy"
    x, y = draw(48, names, missing=names)
    y["mse"][16:32] = NAN  # the second batch, of three
    y["weighted"][:16] = -1
    y["entropy"][:] = -100  # no row at all
    loss = joined_loss(names)
    for optimizer in (dl.SGD, Own):
        trainer = sgd_trainer(loss, optimizer=optimizer, accumulate=accumulate)
        start = trainer.model.state_dict()
        losses, parameters = plain_fit(
            trainer.model, y, loss.weights, x, rows=16 * accumulate, epochs=3
        )
        if stream:
            parts = [slice(i, i + 16) for i in range(0, 48, 16)]
            history = fit(trainer, [(x[p], some(y, p)) for p in parts], epochs=3)
        else:
            history = fit(trainer, x, y, 3, batch_size=16)
        np.testing.assert_allclose(history["loss"], losses, rtol=1e-12)
        np.testing.assert_allclose(trainer.model.flat, parameters, rtol=1e-10, atol=1e-12)
        assert np.isnan(history["entropy_loss"]).all()
        assert np.isfinite([history["mse_loss"], history["weighted_loss"]]).all()
        # Nothing teaches the outputs of a target that no row has.
        np.testing.assert_array_equal(trainer.model.layers[2].weight[5:], start["2.weight"][5:])
        assert not np.array_equal(trainer.model.layers[2].weight[:5], start["2.weight"][:5])


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_rows_without_the_only_target_could_as_well_not_be_there(name, weighted):
    x, y = draw(40, (name,), missing=(name,))
    there = has_target(name, y[name])
    weight = WEIGHT[:40] if weighted else None
    fits = []
    for rows in (slice(None), there):
        trainer = sgd_trainer(dl.MultiTargetLoss(*one(name)))
        own = None if weight is None else weight[rows]
        history = fit(trainer, x[rows], some(y, rows), 5, batch_size=40, sample_weight=own)
        evaluated = trainer.evaluate(x[rows], some(y, rows), own)["loss"]
        fits.append([*history["loss"], *history[f"{name}_loss"], evaluated, *trainer.model.flat])
    assert 5 < there.sum() < 35
    np.testing.assert_allclose(*fits, rtol=1e-11, atol=1e-13)


def test_rows_that_miss_a_target_teach_the_other_as_without_it():
    """The outputs of both are of one layer, so that they learn on their own."""
    x, y = draw(40, ("mse", "entropy"), missing=("entropy",))
    joined = sgd_trainer(joined_loss(tuple(y)), dl.Sequential(dl.Linear(4, 6), dtype=F64, seed=0))
    alone = sgd_trainer("mse", dl.Sequential(dl.Linear(4, 2), dtype=F64, seed=0), lr=0.05 * 0.5)
    first = joined.model.layers[0]
    alone.model.layers[0].weight[:], alone.model.layers[0].bias[:] = (
        first.weight[:2],
        first.bias[:2],
    )
    history = fit(joined, x, y, 6, batch_size=7)
    expected = fit(alone, x, y["mse"], 6, batch_size=7)
    np.testing.assert_allclose(history["mse_loss"], expected["loss"], rtol=1e-12)
    np.testing.assert_allclose(first.weight[:2], alone.model.layers[0].weight, rtol=1e-12)


def test_an_infinite_loss_of_a_missing_target_counts_nothing():
    """exp of the output is infinite, but there is nothing to compare it with."""
    loss = dl.MultiTargetLoss({"counts": "poisson_nll", "value": "mse"}, [1, 1])
    x, y = np.array([[1e4], [1e-4]]), {"counts": np.array([NAN, 1]), "value": np.array([NAN, 1])}
    for optimizer in (dl.SGD, Own):
        model = dl.Sequential(dl.Linear(1, 2, bias=False), dtype=F64, seed=0)
        model.flat[:] = [1.0, 1.0]
        history = fit(sgd_trainer(loss, model, optimizer=optimizer), x, y)
        assert history["counts_loss"] == pytest.approx([np.exp(1e-4) - 1e-4])
        assert history["value_loss"] == pytest.approx([(1 - 1e-4) ** 2])
        assert np.isfinite(model.flat).all()


def test_weights_of_rows_that_are_all_0_are_none():
    loss = dl.MultiTargetLoss({"a": "mse", "b": "mse"}, [1, 1], metrics={"b": ["mae", "r2"]})
    x, y = np.ones((4, 4)), {"a": np.zeros(4), "b": np.array([1.0, 1.0, NAN, NAN])}
    weight = np.array([0.0, 0.0, 1.0, 2.0])
    trainer = sgd_trainer(loss)
    scores = trainer.evaluate(x, y, weight)
    assert scores["loss"] == pytest.approx(scores["a_loss"], rel=1e-15)
    assert np.isnan([scores["b_loss"], scores["b_mae"], scores["b_r2"]]).all()
    history = fit(trainer, x, y, 2, sample_weight=weight)
    assert history["loss"] == pytest.approx(history["a_loss"], rel=1e-15)


def test_classes_of_weight_0_alone_have_no_mean():
    loss = dl.MultiTargetLoss({"a": "mse", "b": dl.CrossEntropyLoss([0.0, 1.0])}, [1, 2])
    x, y = np.ones((4, 4)), {"a": np.zeros(4), "b": np.zeros(4, int)}
    for weight in (None, np.ones(4)):
        trainer = sgd_trainer(loss)
        scores = trainer.evaluate(x, y, weight)
        history = fit(trainer, x, y, sample_weight=weight)
        assert scores["loss"] == scores["a_loss"] == history["loss"][0] == history["a_loss"][0]
        assert np.isnan([scores["b_loss"], *history["b_loss"]]).all()


def test_the_arrays_of_the_user_stay_as_they_are():
    x, y = draw(20, ("weighted", "mse"), missing=("weighted", "mse"))
    array = side_by_side(y)
    kept, kept_array = {name: v.copy() for name, v in y.items()}, array.copy()
    fit(sgd_trainer(joined_loss(tuple(y))), x, y)
    fit(sgd_trainer(joined_loss(tuple(y))), x, array)
    np.testing.assert_array_equal(array, kept_array)
    for name in y:
        np.testing.assert_array_equal(y[name], kept[name])


# ---- what targets may be -------------------------------------------------------------------------


@DTYPES
def test_a_mapping_and_one_array_are_the_same(dtype):
    names = "l1", "weighted", "mse", "smoothed"
    x, y = draw(50, names, dtype=dtype, missing=names)
    array = side_by_side(y, dtype)
    nans = array.copy()
    for column, ignored in ((1, -1), (4, 255)):
        nans[nans[:, column] == ignored, column] = NAN
    backwards = {name: y[name] for name in reversed(names)}
    columns = {name: v.reshape(50, -1) for name, v in y.items()}
    wide = np.asfortranarray(np.repeat(array, 2, axis=0))[::2]
    fits = []
    for targets in (y, backwards, columns, array, nans, wide):
        trainer = sgd_trainer(joined_loss(names), dtype=dtype, seed=0)
        history = fit(trainer, x, targets, 2, validation_split=0.2, shuffle=True)
        fits.append((dict(history), trainer.model.flat.tobytes(), trainer.evaluate(x, targets)))
    assert all(other == fits[0] for other in fits[1:])


@pytest.mark.parametrize("kind", [*"bhilqBHILQ", "f8"])
def test_labels_of_any_dtype(kind):
    loss = dl.MultiTargetLoss({"a": dl.CrossEntropyLoss(ignore_index=2)}, [5])
    labels = np.array([0, 4, 2, 1, 3]).astype(kind)
    checked = loss.check({"a": np.repeat(labels, 2)[::2]}, "y", 5, np.dtype(F64))
    np.testing.assert_array_equal(checked, [[0], [4], [NAN], [1], [3]])


def test_many_classes_are_exact_in_float32():
    loss = dl.MultiTargetLoss(["cross_entropy"], [2**24])
    labels = np.array([2**24 - 1, 2**24 - 2, 0])
    checked = loss.check(labels.astype(F32), "y", 2**24, np.dtype(F32))
    np.testing.assert_array_equal(checked[:, 0].astype(np.int64), labels)


def test_a_sequence_has_names_by_number():
    loss = dl.MultiTargetLoss(["mse", dl.L1Loss()], [1, 2], metrics={"target_1": ["mae"]})
    assert loss.names == ["target_0", "target_1"]
    x, y = np.ones((4, 4)), {"target_1": np.zeros((4, 2)), "target_0": np.ones(4)}
    history = fit(sgd_trainer(loss), x, y)
    assert list(history) == ["loss", "target_0_loss", "target_1_loss", "target_1_mae"]


# ---- what is logged ------------------------------------------------------------------------------


def house_loss(**options):
    return dl.MultiTargetLoss(
        {"price": dl.HuberLoss(0.5), "rooms": dl.CrossEntropyLoss(CLASS_WEIGHT)},
        [2, 3],
        [2.0, 0.5],
        **({"metrics": {"rooms": ["accuracy", "f1"], "price": ["mae", "r2"]}} | options),
    )


def houses(n=60, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 4))
    price = x[:, :2] + 0.1 * rng.normal(size=(n, 2))
    rooms = x[:, 1:].argmax(1)
    price[rng.random(n) < 0.3, 1] = NAN
    rooms[rng.random(n) < 0.4] = -100
    return x, {"price": price, "rooms": rooms}


def expected_logs(outputs, y, weight=None):
    """Compute the logs of `house_loss` from its definition."""
    weight = np.ones(len(outputs)) if weight is None else weight
    has_price, has_rooms = ~np.isnan(y["price"]).any(1), y["rooms"] >= 0
    z, price, w = outputs[has_price, :2], y["price"][has_price], weight[has_price]
    losses, errors = huber(0.5, z, price)[0], z - price
    spread = w @ (price - w @ price / w.sum()) ** 2
    logs = {
        "price_loss": w @ losses.mean(1) / w.sum(),
        "price_mae": w @ np.abs(errors).mean(1) / w.sum(),
        "price_r2": (1 - w @ errors**2 / spread).mean(),
    }
    z, rooms, w = outputs[has_rooms, 2:], y["rooms"][has_rooms], weight[has_rooms]
    losses, mass = (
        entropy(CLASS_WEIGHT, 0, z, rooms[:, np.newaxis])[0],
        np.array(CLASS_WEIGHT)[rooms],
    )
    said = z.argmax(1)
    f1 = [
        2 * w @ ((said == k) & (rooms == k)) / (w @ (said == k) + w @ (rooms == k))
        for k in range(3)
    ]
    logs |= {
        "rooms_loss": w @ losses[:, 0] / (w @ mass),
        "rooms_accuracy": w @ (said == rooms) / w.sum(),
        "rooms_f1": np.mean(f1),
    }
    return {"loss": 2 * logs["price_loss"] + 0.5 * logs["rooms_loss"]} | logs


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_history_has_the_losses_and_metrics_of_each_target(accumulate, weighted):
    (x, y), (x_val, y_val) = houses(), houses(30, seed=1)
    weight = np.linspace(0.2, 2, 60) if weighted else None
    weight_val = np.linspace(0, 2, 30) if weighted else None
    # Nothing changes, so that all outputs of an epoch are known.
    trainer = sgd_trainer(house_loss(), lr=0.0, accumulate=accumulate)
    validation = (x_val, y_val, *(() if weight_val is None else (weight_val,)))
    history = fit(trainer, x, y, 2, batch_size=60, sample_weight=weight, validation_data=validation)
    expected = expected_logs(trainer.predict(x), y, weight)
    expected_val = expected_logs(trainer.predict(x_val), y_val, weight_val)
    assert list(history) == [*expected, *(f"val_{name}" for name in expected)]
    for name in expected:
        assert history[name] == pytest.approx([expected[name]] * 2, rel=1e-12), name
        assert history[f"val_{name}"] == pytest.approx([expected_val[name]] * 2, rel=1e-12), name
    assert trainer.evaluate(x_val, y_val, weight_val) == pytest.approx(expected_val, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_of_mini_batches_are_over_all_rows_and_the_loss_over_updates(weighted):
    x, y = houses()
    weight = np.linspace(0.2, 2, 60) if weighted else None
    trainer = sgd_trainer(house_loss(), lr=0.0, seed=0)
    history = fit(trainer, x, y, 2, batch_size=13, sample_weight=weight)
    expected = expected_logs(trainer.predict(x), y, weight)
    for name, value in expected.items():
        if name != "loss":
            assert history[name] == pytest.approx([value] * 2, rel=1e-12), name
    w = np.ones(60) if weight is None else weight
    parts = [slice(i, i + 13) for i in range(0, 60, 13)]
    losses = [expected_loss(trainer, x[p], some(y, p), w[p]) for p in parts]
    mean = np.average(losses, weights=[w[p].sum() for p in parts])
    assert history["loss"] == pytest.approx([mean] * 2, rel=1e-12)


def expected_loss(trainer, x, y, weight):
    with np.errstate(all="ignore"):  # scores of few rows may have none
        return expected_logs(trainer.predict(x), y, weight)["loss"]


def test_the_last_validation_is_that_of_the_model():
    (x, y), (x_val, y_val) = houses(), houses(30, seed=1)
    trainer = sgd_trainer(house_loss(), lr=0.1, seed=0)
    history = fit(trainer, x, y, 5, batch_size=8, validation_data=(x_val, y_val))
    for name, value in expected_logs(trainer.predict(x_val), y_val).items():
        assert history[f"val_{name}"][-1] == pytest.approx(value, rel=1e-12)
        assert history[f"val_{name}"][0] != history[f"val_{name}"][-1]


def test_own_metrics_get_the_rows_and_columns_of_their_target():
    seen = {}

    def widest(y_true, outputs):
        seen[y_true.dtype.kind] = y_true, outputs
        return len(y_true)

    x, y = houses()
    loss = house_loss(metrics={"price": [widest], "rooms": [widest]})
    trainer = sgd_trainer(loss)
    scores = trainer.evaluate(x, y)
    outputs = trainer.predict(x)
    has_price, has_rooms = ~np.isnan(y["price"]).any(1), y["rooms"] >= 0
    assert scores["price_widest"] == has_price.sum()
    assert scores["rooms_widest"] == has_rooms.sum()
    np.testing.assert_array_equal(seen["f"][0], y["price"][has_price])
    np.testing.assert_array_equal(seen["f"][1], outputs[has_price, :2])
    np.testing.assert_array_equal(seen["i"][0], y["rooms"][has_rooms])
    np.testing.assert_array_equal(seen["i"][1], outputs[has_rooms, 2:])


def test_a_validation_split_holds_the_same_rows_of_all_targets_out():
    seen = []

    def note(y_true, outputs):
        seen.append(y_true.reshape(-1).astype(int).tolist())
        return 0.0

    loss = dl.MultiTargetLoss(
        {"number": "mse", "parity": "cross_entropy"},
        [1, 2],
        metrics={"number": [note], "parity": [note]},
    )
    number = np.arange(40.0)
    y = {"number": number, "parity": np.arange(40) % 2}
    history = fit(
        sgd_trainer(loss, lr=1e-4, seed=3), number[:, None] * np.ones(4), y, validation_split=0.25
    )
    train, train_parity, held, held_parity = seen
    assert sorted(train + held) == list(range(40))
    assert len(held) == 10
    assert (train_parity, held_parity) == ([i % 2 for i in train], [i % 2 for i in held])
    assert history["val_number_note"] == [0.0]


def test_early_stopping_watches_one_target():
    x, y = houses(60)
    x_val, y_val = houses(60, seed=1)
    stopping = dl.EarlyStopping("val_price_loss", patience=3)
    trainer = sgd_trainer(house_loss(), lr=0.9, callbacks=[stopping], seed=0)
    history = fit(trainer, x, y, 500, batch_size=10, validation_data=(x_val, y_val))
    values = history["val_price_loss"]
    assert stopping.mode == "min"
    assert len(values) == stopping.best_epoch + 4 < 500
    assert stopping.best_epoch == np.argmin(values)
    assert trainer.evaluate(x_val, y_val)["price_loss"] == min(values)


def test_early_stopping_on_a_target_that_the_validation_misses():
    (x, y), (x_val, y_val) = houses(), houses(30, seed=1)
    y_val["rooms"][:] = -100
    trainer = sgd_trainer(house_loss(), callbacks=[dl.EarlyStopping("val_rooms_loss")])
    history = fit(trainer, x, y, 9, validation_data=(x_val, y_val))
    assert np.isnan(history["val_rooms_loss"]).all()
    assert np.isnan(history["val_rooms_f1"]).all()
    assert history.reason == "val_rooms_loss was nan"


def test_a_step_is_the_weighted_sum_of_those_of_the_targets():
    x, y = houses()
    steps = []
    for weights in ((1.0, 0.0), (0.0, 1.0), (0.3, 20.0)):
        losses = {"price": "mse", "rooms": "cross_entropy"}
        trainer = sgd_trainer(dl.MultiTargetLoss(losses, [2, 3], weights), lr=1.0)
        before = trainer.model.flat.copy()
        fit(trainer, x, y, batch_size=60)
        steps.append(trainer.model.flat - before)
    np.testing.assert_allclose(steps[2], 0.3 * steps[0] + 20 * steps[1], rtol=1e-11, atol=1e-13)


def test_a_learning_rate_is_found_for_several_targets():
    x, y = houses(100)
    found = dl.lr_find(network(5), x, y, loss=house_loss(), optimizer="adam", batch_size=10)
    assert found.lr[0] < found.suggestion < found.lr[-1]


# ---- errors --------------------------------------------------------------------------------------


class OwnLoss(Loss):
    def value_and_grad(self, outputs, y, *, reduction="mean", out=None):
        raise NotImplementedError


class OwnJoined(dl.MultiTargetLoss):
    pass


NESTED = dl.MultiTargetLoss(["mse"], [1])


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        (([], []), {}, ValueError, "losses, widths and weights must be equally many"),
        ((["mse"], [1, 2]), {}, ValueError, "must be equally many"),
        ((["mse", "l1"], [1, 2], [1.0]), {}, ValueError, "must be equally many"),
        ((["mse"], [0]), {}, ValueError, "each of widths must be a positive integer, not 0"),
        ((["mse"], [1.5]), {}, ValueError, "each of widths must be a positive integer, not 1.5"),
        ((["mse"], [True]), {}, ValueError, "each of widths must be a positive integer, not True"),
        (
            (["mse"], [1], [-1.0]),
            {},
            ValueError,
            r"each of weights must be finite and at least 0, not -1.0",
        ),
        ((["mse"], [1], [NAN]), {}, ValueError, "weights must be finite"),
        ((["mse"], [1], [np.inf]), {}, ValueError, "weights must be finite"),
        (("mse", [1]), {}, TypeError, "losses must be several, not 'mse'"),
        ((dl.MSELoss(), [1]), {}, TypeError, r"losses must be several, not MSELoss\(\)"),
        (
            (["no"], [1]),
            {},
            ValueError,
            r"losses\['target_0'\] must be one of cross_entropy, .* not 'no'",
        ),
        (([NESTED], [1]), {}, TypeError, "losses must be those of dlcore, of one target each"),
        (([OwnJoined(["mse"], [1])], [1]), {}, TypeError, "of one target each"),
        (([OwnLoss()], [1]), {}, TypeError, "losses must be those of dlcore"),
        (({"val": "mse"}, [1]), {}, ValueError, "names 'val', but a name must be a string and not"),
        (({"val_price": "mse"}, [1]), {}, ValueError, "names 'val_price', but"),
        (({3: "mse"}, [1]), {}, ValueError, "names 3, but a name must be a string"),
        (
            ({"a": "mse", "b": "l1"}, [1, 1]),
            {"metrics": {"c": ["mae"]}},
            ValueError,
            r"metrics names \['c'\], the targets are a, b",
        ),
        (({"a": "mse"}, [1]), {"metrics": {"a": "mae"}}, TypeError, "must be a list such as"),
        (({"a": "mse"}, [1]), {"metrics": {"a": ["accuracy"]}}, ValueError, "for classes"),
    ],
)
def test_what_a_loss_of_several_cannot_be_made_of(arguments, options, error, message):
    with pytest.raises(error, match=message):
        dl.MultiTargetLoss(*arguments, **options)


def test_a_subclass_cannot_hold_the_loss_itself():
    with pytest.raises(TypeError, match="of one target each"):
        OwnJoined([NESTED], [1])


GOOD = {"price": np.zeros((8, 2)), "rooms": np.zeros(8, int)}
ROOMS = np.array([0, -100, 1, 2, 0, 0, 0, 0])


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        ({"price": GOOD["price"]}, ValueError, "y must have the targets price, rooms, not price$"),
        (
            GOOD | {"age": np.zeros(8)},
            ValueError,
            "must have the targets price, rooms, not price, ",
        ),
        (GOOD | {"price": np.zeros((8, 3))}, ValueError, r"y\['price'\] must have shape \(N, 2\)"),
        (GOOD | {"price": np.zeros(8)}, ValueError, r"y\['price'\] must have shape \(N, 2\)"),
        (GOOD | {"price": np.zeros((8, 2), F32)}, TypeError, r"y\['price'\] is float32, the model"),
        (GOOD | {"price": np.zeros((8, 2), int)}, TypeError, r"y\['price'\] is int64, the model"),
        (GOOD | {"price": np.zeros((7, 2))}, ValueError, r"equally many rows, not \[7, 8\]"),
        (GOOD | {"rooms": [0] * 8}, TypeError, r"y\['rooms'\] must be an array"),
        (
            GOOD | {"rooms": np.zeros((8, 3))},
            ValueError,
            r"rooms'\] must hold class .* not \(8, 3\)",
        ),
        (GOOD | {"rooms": np.zeros((8, 3), int)}, ValueError, r"class indices of shape \(N,\)"),
        (GOOD | {"rooms": np.int64(3)}, ValueError, r"class indices of shape \(N,\), not \(\)"),
        (GOOD | {"rooms": np.zeros(8, bool)}, TypeError, r"y\['rooms'\] is bool"),
        (GOOD | {"rooms": np.zeros(8, F32)}, TypeError, r"y\['rooms'\] is float32"),
        (GOOD | {"rooms": ROOMS + 1}, IndexError, r"y\['rooms'\]\[1\] is -99, .* classes 0 to 2"),
        (
            GOOD | {"rooms": np.where(ROOMS == 2, 3, ROOMS)},  # the row counts those that miss
            IndexError,
            r"y\['rooms'\]\[3\] is 3, but the model has classes 0 to 2",
        ),
        (GOOD | {"rooms": ROOMS + 0.5}, ValueError, r"\[0\] is 0.5; it must hold class indices"),
        (GOOD | {"rooms": np.where(ROOMS == 2, np.inf, 0)}, ValueError, r"rooms'\]\[3\] is inf"),
        (GOOD | {"rooms": np.full(8, 2**63, np.uint64)}, ValueError, "must hold class indices"),
        (
            {"price": np.full((8, 2), NAN), "rooms": np.full(8, -100)},
            ValueError,
            "y has no target that counts, in any row",
        ),
        (np.zeros((8, 5)), ValueError, r"mapping of names to targets or have shape \(N, 3\), not"),
        (np.zeros(8), ValueError, r"have shape \(N, 3\), not \(8,\)"),
        (np.zeros((8, 3), F32), TypeError, "y is float32, the model float64"),
        (np.full((8, 3), 9.0), IndexError, r"y\['rooms'\]\[0\] is 9"),
        (np.zeros((7, 3)), ValueError, "x has 8 rows, y 7"),
    ],
)
def test_targets_that_do_not_fit(y, error, message):
    loss = dl.MultiTargetLoss({"price": "mse", "rooms": "cross_entropy"}, [2, 3])
    trainer = sgd_trainer(loss)
    before = trainer.model.flat.copy()
    for run in (lambda x, y: fit(trainer, x, y), trainer.evaluate):
        with pytest.raises(error, match=message):
            run(np.zeros((8, 4)), y)
    if len(y) == 8 or isinstance(y, dict):
        with pytest.raises(error, match=f"batch 1: .*{message}" if "^" not in message else message):
            fit(trainer, [(np.zeros((8, 4)), y)])
    np.testing.assert_array_equal(trainer.model.flat, before)


def test_what_a_loss_of_a_target_does_not_take():
    loss = dl.MultiTargetLoss({"a": "mse", "b": dl.FocalLoss(1.0, "bce_with_logits")}, [1, 2])
    y = {"a": np.zeros(8), "b": np.full((8, 2), NAN)}
    y["b"][2:] = 0.0
    y["b"][3] = 0.5
    with pytest.raises(ValueError, match=r"y\['b'\] must hold class indices, or 0 and 1 alone"):
        fit(sgd_trainer(loss), np.zeros((8, 4)), y)
    loss = dl.MultiTargetLoss({"a": dl.CrossEntropyLoss([1.0, 2.0])}, [3])
    with pytest.raises(ValueError, match=r"weight has shape \(2,\), but the model has 3 outputs"):
        fit(sgd_trainer(loss), np.zeros((8, 4)), {"a": np.zeros(8, int)})


def test_a_model_of_another_width():
    trainer = dl.Trainer(network(4), loss=house_loss())
    with pytest.raises(ValueError, match="widths add up to 5, but the model has 4 outputs"):
        fit(trainer, *houses())


def test_metrics_and_class_weights_of_the_trainer_are_for_one_target():
    with pytest.raises(ValueError, match=r"pass metrics=\{target: \['accuracy'\]\}"):
        dl.Trainer(network(5), loss=house_loss(), metrics=["accuracy"])
    with pytest.raises(ValueError, match="class_weight needs a loss for classes"):
        fit(sgd_trainer(house_loss()), *houses(), class_weight="balanced")


def test_validation_that_does_not_fit_is_named():
    x, y = houses()
    bad = y | {"rooms": np.full(60, 3)}
    with pytest.raises(IndexError, match=r"validation y\['rooms'\]\[0\] is 3"):
        fit(sgd_trainer(house_loss()), x, y, validation_data=(x, bad))
    with pytest.raises(ValueError, match="EarlyStopping monitors 'val_rent_loss', but this fit"):
        fit(
            sgd_trainer(house_loss(), callbacks=[dl.EarlyStopping("val_rent_loss")]),
            x,
            y,
            validation_data=(x, y),
        )
