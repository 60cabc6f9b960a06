"""A step by hand: forward, backward, gradients, and one batch at a time."""

import copy
import pickle
import threading

import numpy as np
import pytest

import dlcore as dl

IN, HIDDEN, OUT = 5, 19, 3
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=["float32", "float64"])


def network(*extra, dtype=np.float64, seed=0):
    layers = (dl.Linear(IN, HIDDEN), *extra, dl.ReLU(), dl.Linear(HIDDEN, HIDDEN), dl.Tanh())
    return dl.Sequential(*layers, dl.Linear(HIDDEN, OUT), dtype=dtype, seed=seed)


def data(rows=13, dtype=np.float64):
    rng = np.random.default_rng(1)
    return rng.normal(size=(rows, IN)).astype(dtype), rng.integers(0, OUT, rows)


def slopes(loss, array, step=1e-6):
    """Central differences of a loss for each element of an array that it reads."""
    result = np.zeros_like(array)
    for at in np.ndindex(array.shape):
        before = array[at]
        values = []
        for shift in (step, -step):
            array[at] = before + shift
            values.append(loss())
        array[at] = before
        result[at] = (values[0] - values[1]) / (2 * step)
    return result


@pytest.mark.parametrize("rows", [1, 13, 70])
@pytest.mark.parametrize(
    "extra",
    [(), (dl.LayerNorm(HIDDEN),), (dl.RMSNorm(HIDDEN), dl.SiLU()), (dl.GELU(),)],
    ids=["plain", "layer norm", "rms norm", "gelu"],
)
def test_gradients_are_slopes(extra, rows):
    model = network(*copy.deepcopy(extra))
    x, _ = data(rows)
    dy = np.random.default_rng(2).normal(size=(rows, OUT))
    np.testing.assert_allclose(model.forward(x), model(x), rtol=1e-12)
    dx = model.backward(dy)
    grads = [grad.copy() for grad in model.grads()]

    def loss():
        return float((model(x) * dy).sum())

    np.testing.assert_allclose(dx, slopes(loss, x), atol=1e-6)
    for grad, parameter in zip(grads, model.parameters(), strict=True):
        np.testing.assert_allclose(grad, slopes(loss, parameter), atol=1e-6)


def test_batch_norm_is_that_of_the_batch():
    model = network(dl.BatchNorm1d(HIDDEN))
    other = copy.deepcopy(model)
    x, _ = data()
    dy = np.random.default_rng(2).normal(size=(len(x), OUT))
    y = model.forward(x)
    dx = model.backward(dy)
    grads = [grad.copy() for grad in model.grads()]
    assert model[1].num_batches_tracked == 1
    assert not np.array_equal(model[1].running_mean, np.zeros(HIDDEN))
    np.testing.assert_array_equal(other[1].running_mean, np.zeros(HIDDEN))

    def loss():
        return float((other.forward(x) * dy).sum())

    np.testing.assert_array_equal(other.forward(x), y)
    np.testing.assert_allclose(dx, slopes(loss, x), atol=1e-6)
    for grad, parameter in zip(grads, other.parameters(), strict=True):
        np.testing.assert_allclose(grad, slopes(loss, parameter), atol=1e-6)


def test_frozen_batch_norm_normalizes_by_its_running_statistics():
    model = network(dl.BatchNorm1d(HIDDEN))
    model[1].running_mean = np.linspace(-1, 1, HIDDEN)
    model.freeze("1")
    x, _ = data()
    np.testing.assert_allclose(model.forward(x), model(x), rtol=1e-12)
    assert model[1].num_batches_tracked == 0


def test_dropout_drops_anew_and_the_way_back_drops_the_same():
    model = dl.Sequential(dl.Dropout(0.5), dtype=np.float64, seed=3)
    x = np.ones((40, 7))
    first, second = model.forward(x), model.forward(x)
    assert set(np.unique(first)) == {0, 2}
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(model.backward(x), second)
    again = dl.Sequential(dl.Dropout(0.5), dtype=np.float64, seed=3)
    np.testing.assert_array_equal(again.forward(x), first)
    for duplicate in (copy.deepcopy(again), pickle.loads(pickle.dumps(again))):
        np.testing.assert_array_equal(duplicate.forward(x), second)
    again[0].p = 0.0
    np.testing.assert_array_equal(again.forward(x), x)


@DTYPES
def test_several_threads_give_the_same_bits(dtype):
    results = []
    for threads in (1, 2, 3, 8):
        with dl.num_threads(threads):
            model = dl.Sequential(
                dl.Linear(200, 300),
                dl.ReLU(),
                dl.BatchNorm1d(300),
                dl.Linear(300, 7),
                dtype=dtype,
                seed=0,
            )
            x = np.random.default_rng(0).normal(size=(333, 200)).astype(dtype)
            y = model.forward(x)
            results.append([y, model.backward(y), *(g.copy() for g in model.grads())])
    for other in results[1:]:
        for array, first in zip(other, results[0], strict=True):
            np.testing.assert_array_equal(array, first)


@DTYPES
@pytest.mark.parametrize("optimizer", [dl.Adam, dl.SGD])
def test_a_loop_by_hand_learns_like_a_fit(dtype, optimizer):
    x, y = data(dtype=dtype)
    by_hand, fitted = network(dtype=dtype), network(dtype=dtype)
    own = optimizer(by_hand.parameters(), 0.01)
    trainer = dl.Trainer(
        fitted, loss="cross_entropy", optimizer=optimizer(fitted.parameters(), 0.01)
    )
    history = trainer.fit(x, y, epochs=6, batch_size=len(x), shuffle=False, verbose=0)
    for expected in history["loss"]:
        loss, dy = dl.cross_entropy_and_grad(by_hand.forward(x), y)
        by_hand.backward(dy)
        own.step(by_hand.grads())
        assert float(loss) == pytest.approx(expected, rel=1e-6)
    np.testing.assert_allclose(by_hand.flat, fitted.flat, rtol=1e-4, atol=1e-6)


def test_gradients_are_views_that_the_next_pass_writes_or_adds_to():
    model = network()
    x, _ = data()
    y = model.forward(x)
    model.backward(y)
    grads = model.grads()
    once = [grad.copy() for grad in grads]
    model.backward(y)
    for grad, before in zip(grads, once, strict=True):
        np.testing.assert_array_equal(grad, before)
    model.backward(y, add=True)
    for grad, before in zip(grads, once, strict=True):
        np.testing.assert_allclose(grad, 2 * before, rtol=1e-12)
    model.forward(x[:1].repeat(200, 0))  # more rows than before
    assert all(map(np.shares_memory, grads, model.grads()))
    assert [g.shape for g in model.grads("0.weight", "2.bias")] == [(HIDDEN, IN), (HIDDEN,)]
    with pytest.raises(ValueError, match="no parameter '9'"):
        model.grads("9")


def test_a_frozen_parameter_has_no_gradient():
    model = network()
    model.freeze("0")
    x, _ = data()
    before = model[0].weight.copy()
    optimizer = dl.SGD(model.parameters(), 0.1)
    dx = model.backward(model.forward(x))
    assert model.grads()[:2] == [None, None]
    optimizer.step(model.grads())
    np.testing.assert_array_equal(model[0].weight, before)
    assert np.abs(dx).max() > 0
    for name in ("2", "4"):
        model.freeze(name)
    other = network()
    other.forward(x)
    model.load_state_dict(other.state_dict())
    np.testing.assert_array_equal(
        model.backward(model.forward(x)), other.backward(other.forward(x))
    )
    assert model.grads() == [None] * 6


def test_no_rows():
    model = network()
    assert model.forward(np.empty((0, IN))).shape == (0, OUT)
    assert model.backward(np.empty((0, OUT))).shape == (0, IN)
    assert all((grad == 0).all() for grad in model.grads())


def test_any_layout():
    model = network()
    x, _ = data(12)
    wide = np.full((24, 3 * IN), np.nan)
    wide[::2, ::3] = x
    y = model.forward(x)
    dx = model.backward(y)
    np.testing.assert_array_equal(model.forward(wide[::2, ::3]), y)
    np.testing.assert_array_equal(model.backward(np.asfortranarray(y)), dx)


def test_bad_input():
    model = network()
    x, _ = data()
    for call in (lambda: model.backward(np.zeros((13, OUT))), model.grads):
        with pytest.raises(RuntimeError, match=r"model\.forward"):
            call()
    with pytest.raises(TypeError, match="x is float32, the model float64"):
        model.forward(x.astype(np.float32))
    with pytest.raises(ValueError, match=r"x must have shape \(N, 5\)"):
        model.forward(x[:, :4])
    model.forward(x)
    with pytest.raises(TypeError, match="dy is float32, the model float64"):
        model.backward(np.zeros((13, OUT), np.float32))
    with pytest.raises(ValueError, match="dy must have the 13 rows"):
        model.backward(np.zeros((12, OUT)))
    with pytest.raises(ValueError, match=r"dy must have shape \(N, 3\)"):
        model.backward(np.zeros((13, OUT + 1)))
    model.unfreeze("0")
    with pytest.raises(RuntimeError, match=r"model\.forward"):
        model.backward(np.zeros((13, OUT)))


# ---- parts --------------------------------------------------------------------------------------


def test_a_part_shares_the_layers():
    model = network(dl.BatchNorm1d(HIDDEN))
    head = model[4:]
    assert isinstance(head, dl.Sequential)
    assert len(head) == 2
    assert head[1] is model[5]
    x, _ = data()
    np.testing.assert_array_equal(model[4:](model[:4](x)), model(x))
    assert np.shares_memory(head.flat, model.flat)
    assert head.state_dict().keys() == {"1.weight", "1.bias"}
    dl.SGD(head.parameters(), 0.1).step([np.ones_like(p) for p in head.parameters()])
    np.testing.assert_array_equal(model[4:](model[:4](x)), model(x))
    assert model[:4][1:3][0] is model[1]
    model[:2][1].eps = 1.0
    np.testing.assert_array_equal(model[4:](model[:4](x)), model(x))


def test_a_part_is_frozen_with_the_model():
    model = network()
    part = model[2:]
    part.freeze("0")
    assert model.frozen == {"2.weight", "2.bias"}
    model.freeze("4.bias")
    assert part.frozen == {"0.weight", "0.bias", "2.bias"}
    part.unfreeze("0.bias")
    assert model.frozen == {"2.weight", "4.bias"}


def test_passes_of_parts_make_those_of_the_whole():
    model = network()
    x, _ = data()
    y = model.forward(x)
    dx = model.backward(y)
    grads = [grad.copy() for grad in model.grads()]
    below, above = model[:2], model[2:]
    np.testing.assert_array_equal(above.forward(below.forward(x)), y)
    np.testing.assert_array_equal(below.backward(above.backward(y)), dx)
    for grad, expected in zip(below.grads() + above.grads(), grads, strict=True):
        np.testing.assert_array_equal(grad, expected)


def test_a_part_can_be_trained_and_copied():
    model = network()
    x, y = data()
    below = model[0].weight.copy()
    features = model[:2](x)
    head = model[2:]
    trainer = dl.Trainer(head, loss="cross_entropy", seed=0)
    trainer.fit(features, y, epochs=2, batch_size=4, verbose=0)
    np.testing.assert_array_equal(model[0].weight, below)
    np.testing.assert_array_equal(head(features), model(x))
    for duplicate in (copy.deepcopy(head), pickle.loads(pickle.dumps(head))):
        duplicate.flat[...] = 0
        assert np.abs(head.flat).max() > 0
        duplicate.freeze("0")
        assert not model.frozen


def test_a_part_needs_layers_in_a_row():
    model = network()
    for index in (slice(0, 4, 2), slice(2, 2), slice(None, None, -1)):
        with pytest.raises(ValueError, match="in a row"):
            model[index]


def test_models_nest():
    x, y = data()
    encoder = dl.Sequential(dl.Linear(IN, HIDDEN), dl.BatchNorm1d(HIDDEN), dtype=np.float64, seed=1)
    encoder.freeze("1.weight")
    inner = encoder[:1]
    head = dl.Sequential(dl.Linear(HIDDEN, OUT), dtype=np.float64, seed=2)
    before = encoder(x), head(encoder(x)), inner(x)
    model = dl.Sequential(dl.Dropout(0.1), encoder, dl.Softplus(), head, dtype=np.float64, seed=3)
    assert len(model) == 5
    assert model.frozen == {"2.weight"}
    np.testing.assert_array_equal(encoder(x), before[0])
    np.testing.assert_array_equal(inner(x), before[2])
    np.testing.assert_array_equal(head(dl.softplus(encoder(x))), model(x))
    dl.Trainer(model, loss="cross_entropy", seed=0).fit(x, y, epochs=1, batch_size=4, verbose=0)
    assert not np.array_equal(encoder(x), before[0])
    np.testing.assert_array_equal(head(dl.softplus(encoder(x))), model(x))
    with pytest.raises(ValueError, match="already part of a model"):
        dl.Sequential(encoder, dtype=np.float64)
    with pytest.raises(TypeError, match="float64, the model float32"):
        dl.Sequential(network())


# ---- one batch at a time ------------------------------------------------------------------------


@DTYPES
@pytest.mark.parametrize("optimizer", [dl.Adam, dl.AdamW, dl.SGD], ids=lambda o: o.__name__)
@pytest.mark.parametrize("options", [{}, {"clip_grad_norm": 0.1}, {"clip_grad_value": 0.01}])
def test_batches_learn_like_a_fit(dtype, optimizer, options):
    x, y = data(60, dtype)
    models = [network(dl.BatchNorm1d(HIDDEN), dtype=dtype) for _ in range(2)]
    extra = {"momentum": 0.9} if optimizer is dl.SGD else {}
    trainers = [
        dl.Trainer(
            m, loss="cross_entropy", optimizer=optimizer(m.parameters(), 0.01, **extra), **options
        )
        for m in models
    ]
    losses = [trainers[0].train_on_batch(x[i : i + 20], y[i : i + 20]) for i in (0, 20, 40) * 2]
    history = trainers[1].fit(x, y, epochs=2, batch_size=20, shuffle=False, verbose=0)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)
    np.testing.assert_array_equal(*(m[1].running_var for m in models))
    assert np.mean(losses[:3]) == pytest.approx(history["loss"][0])
    assert trainers[0].optimizer.steps == 6


def test_batches_of_values_and_weights_learn_like_a_fit():
    x, _ = data(20)
    y = np.random.default_rng(0).normal(size=(20, OUT))
    weight = np.arange(20) % 4
    models = [network() for _ in range(2)]
    trainers = [dl.Trainer(m, loss="huber", seed=0) for m in models]
    for _ in range(3):
        trainers[0].train_on_batch(x, y, weight)
        trainers[0].train_on_batch(x, y)
        trainers[1].fit(
            x, y, sample_weight=weight, epochs=1, batch_size=20, shuffle=False, verbose=0
        )
        trainers[1].fit(x, y, epochs=1, batch_size=20, shuffle=False, verbose=0)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


def test_changes_between_batches_act_on_the_next():
    x, y = data(20)
    models = [network(dl.Dropout(0.0)) for _ in range(2)]
    trainers = [dl.Trainer(m, loss=dl.CrossEntropyLoss(), seed=0) for m in models]

    def both():
        trainers[0].train_on_batch(x, y)
        trainers[1].fit(x, y, epochs=1, batch_size=20, shuffle=False, verbose=0)
        np.testing.assert_array_equal(models[0].flat, models[1].flat)
        return models[0].flat.copy()

    both(), both()
    for change in (
        lambda t: setattr(t.optimizer, "lr", 0.1),
        lambda t: t.optimizer.param_groups[0].update(weight_decay=0.1),
        lambda t: setattr(t.loss, "label_smoothing", 0.5),
        lambda t: t.model.freeze("0"),
        lambda t: t.model.unfreeze("0"),
        lambda t: setattr(t, "clip_grad_norm", 1e-3),
        lambda t: t.optimizer.load_state_dict(t.optimizer.state_dict()),
        lambda t: t.model.load_state_dict(network(dl.Dropout(0.0), seed=5).state_dict()),
        lambda t: t.optimizer.step([np.ones_like(p) for p in t.model.parameters()]),
        lambda t: setattr(t, "optimizer", dl.SGD(t.model.parameters(), 0.5, momentum=0.5)),
        lambda t: setattr(t, "loss", dl.CrossEntropyLoss()),
        lambda t: setattr(t.loss, "weight", np.arange(2.0, OUT + 2)),
        lambda t: setattr(t, "loss", dl.CrossEntropyLoss(np.arange(1.0, OUT + 1))),
        lambda t: t.loss.weight.__imul__(np.array([1.0, 5.0, 1.0])),
    ):
        for trainer in trainers:
            change(trainer)
        before = both()
        assert not np.array_equal(before, both())


def test_ignored_rows_and_new_batch_sizes():
    models = [network() for _ in range(2)]
    trainers = [dl.Trainer(m, loss="cross_entropy", seed=0) for m in models]
    for rows in (4, 30, 7):
        x, y = data(rows)
        y[0] = -100
        trainers[0].train_on_batch(x, y)
        trainers[1].fit(x, y, epochs=1, batch_size=rows, shuffle=False, verbose=0)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


def test_dropout_of_batches_is_drawn_by_the_seed():
    x, y = data()
    models = []
    for _ in range(2):
        models.append(network(dl.Dropout(0.5)))
        trainer = dl.Trainer(models[-1], loss="cross_entropy", seed=4)
        losses = [trainer.train_on_batch(x, y) for _ in range(4)]
        assert len(set(losses)) == 4
        trainer.train_on_batch(x, y)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


def test_a_schedule_of_iterations_is_followed():
    x, y = data(20)
    models = [network() for _ in range(2)]
    cosine = dl.CosineAnnealingLR(4, per="iteration")
    trainers = [dl.Trainer(m, loss="cross_entropy", schedule=cosine) for m in models]
    for _ in range(4):
        trainers[0].train_on_batch(x, y)
    trainers[1].fit(x, y, epochs=4, batch_size=20, shuffle=False, verbose=0)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


def test_what_a_batch_cannot_do_is_an_error():
    x, y = data()
    trainer = dl.Trainer(network(), loss="cross_entropy", seed=0)
    trainer.train_on_batch(x, y)
    before = trainer.model.flat.copy()
    y[3] = OUT
    with pytest.raises(IndexError, match=r"y\[3\] is 3"):
        trainer.train_on_batch(x, y)
    y[3] = 0
    with pytest.raises(ValueError, match="x has 13 rows, y 12"):
        trainer.train_on_batch(x, y[:12])
    with pytest.raises(TypeError, match="x is float32"):
        trainer.train_on_batch(x.astype(np.float32), y)
    x[2, 1] = np.nan
    with pytest.raises(FloatingPointError, match=r"x\[2, 1\] is nan"):
        trainer.train_on_batch(x, y)
    np.testing.assert_array_equal(trainer.model.flat, before)
    trainer.accumulate = 2
    with pytest.raises(ValueError, match="accumulate=2"):
        trainer.train_on_batch(x, y)
    trainer = dl.Trainer(network(), loss="cross_entropy", schedule=dl.StepLR(3))
    with pytest.raises(ValueError, match="schedule"):
        trainer.train_on_batch(x, y)


def test_a_loss_and_an_optimizer_of_ones_own():
    class Error(dl.Loss):
        def value_and_grad(self, outputs, y, *, reduction="mean", **_):
            error = outputs - y
            losses = error**2
            return (losses if reduction == "none" else losses.mean()), 2 * error / error.size

    x, _ = data()
    y = np.zeros((13, OUT))
    models = [network(), network()]
    trainers = [
        dl.Trainer(m, loss=loss, seed=0) for m, loss in zip(models, (Error(), "mse"), strict=True)
    ]
    for _ in range(3):
        np.testing.assert_allclose(*(t.train_on_batch(x, y) for t in trainers))
    np.testing.assert_allclose(models[0].flat, models[1].flat)


def test_no_two_threads_train_one_model():
    model = dl.Sequential(dl.Linear(300, 2000), dl.Linear(2000, 300), seed=0)
    trainer = dl.Trainer(model, loss="mse", optimizer="sgd", seed=0)
    x = np.ones((300, 300), np.float32)
    trainer.train_on_batch(x, x)
    other = dl.Trainer(model, loss="mse", optimizer="sgd")
    errors = []

    def run(own):
        for _ in range(20):
            try:
                own.train_on_batch(x, x)
            except RuntimeError as error:
                errors.append(str(error))

    threads = [threading.Thread(target=run, args=(own,)) for own in (trainer, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("is being trained" in error for error in errors)
    assert np.isfinite(model.flat).all()


@pytest.mark.parametrize("layer", [dl.Tanh(), dl.Dropout(0.3), dl.BatchNorm1d(HIDDEN)])
def test_forward_and_back_in_one_call(layer):
    """As for saliency, adversarial rows and the gradient of a critic (mlpack#2912)."""
    first, second = (network(copy.copy(layer)) for _ in range(2))
    x, _ = data()
    dy = np.random.default_rng(2).normal(size=(len(x), OUT))
    first.forward(x)
    assert np.array_equal(first.backward(dy), second.backward(x, dy))
    for a, b in zip(first.grads(), second.grads(), strict=True):
        assert np.array_equal(a, b)
    before = [g.copy() for g in second.grads()]
    second.backward(dy, add=True)
    for a, b in zip(before, second.grads(), strict=True):
        np.testing.assert_allclose(b, 2 * a)
    for arrays in ((), (x, dy, dy)):
        with pytest.raises(TypeError, match=f"takes dy, or x and dy, got {len(arrays)} arrays"):
            first.backward(*arrays)


@pytest.mark.parametrize("shape", [(5, 2), (4, 3), (5,)])
def test_a_wrong_gradient_beside_x_leaves_running_statistics_as_they_were(shape):
    model = dl.Sequential(dl.Linear(4, 3), dl.BatchNorm1d(3), dl.Dropout(0.5), seed=0)
    x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
    before = {name: value.copy() for name, value in model.state_dict().items()}
    with pytest.raises(ValueError, match="dy must"):
        model.backward(x, np.ones(shape, np.float32))
    with pytest.raises(TypeError, match="dy"):
        model.backward(x, np.ones((5, 3)))
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value, before[name])


def test_a_model_without_a_width_of_its_own_takes_gradients_as_wide_as_x():
    model = dl.Sequential(dl.ReLU())
    x = np.linspace(-1, 1, 20, dtype=np.float32).reshape(5, 4)
    np.testing.assert_array_equal(model.backward(x, np.ones_like(x)), (x > 0).astype(np.float32))
    with pytest.raises(ValueError, match=r"shape \(N, 4\)"):
        model.backward(x, np.ones((5, 3), np.float32))
    model.forward(x)
    with pytest.raises(ValueError, match=r"shape \(N, 4\)"):
        model.backward(np.ones((5, 3), np.float32))
