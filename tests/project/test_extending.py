"""What users may add, a loss, an optimizer, and what is refused instead of being passed over."""

import copy

import numpy as np
import pytest

import dlcore as dl

X = np.random.default_rng(0).normal(size=(30, 3)).astype(np.float32)
Y = (X @ np.array([[1.0], [-2.0], [0.5]], np.float32)).astype(np.float32)


def line():
    return dl.Sequential(dl.Linear(3, 1), seed=0)


class Squares(dl.Loss):
    """The squared error, written by hand."""

    def value_and_grad(self, outputs, y, *, reduction="mean", out=None):  # noqa: ARG002
        losses, grad = (outputs - y) ** 2, 2 * (outputs - y)
        if reduction == "none":
            return losses, grad
        return losses.mean(), grad / grad.size


class Plain(dl.Optimizer):
    """SGD with momentum, written by hand."""

    state_names = ("momentum_buffer",)

    def __init__(self, params, lr=1e-3, *, momentum=0.9):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    def update(self, params, grads, state, options):
        for p, g, buffer in zip(params, grads, state["momentum_buffer"], strict=True):
            buffer *= options["momentum"]
            buffer += g
            p -= options["lr"] * buffer


def fit(loss="mse", optimizer=None, **options):
    model = line()
    make = optimizer or (lambda p: dl.SGD(p, lr=0.01, momentum=0.9))
    trainer = dl.Trainer(model, loss=loss, optimizer=make(model.parameters()), seed=0, **options)
    history = trainer.fit(X, Y, epochs=5, batch_size=10, verbose=0)
    return model, history, trainer


# ---- a loss


@pytest.mark.parametrize("weights", [None, np.arange(30.0)])
def test_a_loss_of_ones_own_trains_as_the_native_one(weights):
    models = []
    for loss in ("mse", Squares()):
        model = line()
        trainer = dl.Trainer(model, loss=loss, optimizer=dl.SGD(model.parameters(), 0.01), seed=0)
        trainer.fit(X, Y, epochs=5, batch_size=10, sample_weight=weights, verbose=0)
        models.append(model)
        assert trainer.evaluate(X, Y)["loss"] == pytest.approx(((model(X) - Y) ** 2).mean())
    np.testing.assert_allclose(models[0].flat, models[1].flat, rtol=1e-5)


def test_a_loss_says_which_method_it_lacks():
    class Empty(dl.Loss):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define value_and_grad"):
        Empty().value(X, X)


@pytest.mark.parametrize("loss", [dl.MSELoss(), dl.mse_loss, "mse", "mse_loss"])
def test_a_loss_by_object_function_or_name(loss):
    expected = fit()[0].flat
    np.testing.assert_array_equal(fit(loss)[0].flat, expected)


@pytest.mark.parametrize("loss", [abs, dl.relu, dl.kl_div, 3, None, "hinge"])
def test_what_is_no_loss_is_refused(loss):
    with pytest.raises(ValueError, match=r"loss must be one of cross_entropy, .* or a loss object"):
        dl.Trainer(line(), loss=loss)


# ---- an optimizer


def test_an_optimizer_of_ones_own_trains_as_the_native_one():
    native, own = fit(), fit(optimizer=lambda p: Plain(p, 0.01))
    np.testing.assert_allclose(native[0].flat, own[0].flat, rtol=1e-5)
    assert own[2].optimizer.steps == 15


def test_its_groups_and_schedules_are_those_of_all():
    def make(p):
        return Plain([{"params": p[0], "lr": 0.02}, {"params": p[1], "momentum": 0.5}], 0.01)

    _, history, trainer = fit(optimizer=make, schedule=dl.StepLR(2, gamma=0.5))
    assert history["lr"] == pytest.approx([0.02, 0.02, 0.01, 0.01, 0.005])
    assert history["lr_1"] == pytest.approx([0.01, 0.01, 0.005, 0.005, 0.0025])
    assert [group["momentum"] for group in trainer.optimizer.param_groups] == [0.9, 0.5]


def test_its_state_travels():
    params = [np.ones((2, 3)), np.ones(2)]
    grads = [np.full((2, 3), 0.5), np.full(2, 0.25)]
    optimizer = Plain(params, 0.1)
    optimizer.step(grads)
    twins = copy.deepcopy(params)
    again = Plain(twins, 0.2)
    again.load_state_dict(optimizer.state_dict())
    assert (again.steps, again.lr) == (1, 0.1)
    for one in (optimizer, again):
        one.step(grads)
    np.testing.assert_array_equal(params[0], twins[0])
    np.testing.assert_array_equal(params[1], twins[1])


def test_its_gradients_are_checked_before_it_sees_them():
    optimizer = Plain([np.ones(3)])
    with pytest.raises(
        ValueError, match=r"Plain.step: grads\[0\] must have the shape of its parameter, \(3,\)"
    ):
        optimizer.step([np.ones(2)])
    assert optimizer.steps == 0


def test_an_optimizer_says_what_it_lacks():
    class Empty(dl.Optimizer):
        pass

    with pytest.raises(NotImplementedError, match="Empty does not define update"):
        Empty([np.ones(3)], {"lr": 0.1}).step([np.ones(3)])
    with pytest.raises(ValueError, match="Empty: options must have 'lr'"):
        Empty([np.ones(3)], {})
    with pytest.raises(ValueError, match="Empty: lr must be at least 0"):
        Empty([np.ones(3)], {"lr": -1.0})


# ---- layers


class OwnLayer(dl.Layer):
    pass


class OwnActivation(dl.ReLU):
    kernel = "cube"


class Forward(dl.Linear):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (dl.Layer(), "Layer is no layer that it can compute; it takes Linear, .*, subclasses"),
        (OwnLayer(), "OwnLayer is no layer that it can compute"),
        (OwnActivation(), "OwnActivation is no layer that it can compute"),
        (Forward(3, 3), r"Forward\.forward would never be called"),
    ],
)
def test_a_layer_that_the_network_does_not_know_is_refused(layer, message):
    with pytest.raises(TypeError, match=message):
        dl.Sequential(dl.Linear(3, 3), layer)


def test_a_subclass_of_a_layer_is_that_layer():
    class Head(dl.Linear):
        def __init__(self, classes=2):
            super().__init__(3, classes)

    model = dl.Sequential(Head(), seed=0)
    np.testing.assert_array_equal(model(X), dl.Sequential(dl.Linear(3, 2), seed=0)(X))


# ---- the parameters of a model in one array


def test_the_parameters_cannot_be_assigned_apart():
    model = line()
    flat, before = model.flat, model.flat.copy()
    with pytest.raises(AttributeError, match=r"model\.flat\[\.\.\.\] = values changes"):
        model.flat = np.zeros_like(flat)
    assert model.flat is flat
    np.testing.assert_array_equal(flat, before)
    model.flat *= 2
    assert model.flat is flat
    np.testing.assert_array_equal(model.layers[0].weight.ravel(), 2 * before[:3])
