"""Layers and losses at their limits: options without a meaning, infinities, weights of 0."""

import numpy as np
import pytest

import dlcore as dl

nan, inf = np.nan, np.inf


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: dl.LeakyReLU(nan), "LeakyReLU: negative_slope"),
        (lambda: dl.LeakyReLU("0.1"), "LeakyReLU: negative_slope"),
        (lambda: dl.ELU(inf), "ELU: alpha"),
        (lambda: dl.Softplus(0.0), "Softplus: beta"),
        (lambda: dl.Softplus(-1), "Softplus: beta"),
        (lambda: dl.Softplus(1.0, nan), "Softplus: threshold"),
        (lambda: dl.HuberLoss(nan), "HuberLoss: delta"),
        (lambda: dl.HuberLoss("1"), "HuberLoss: delta"),
        (lambda: dl.SmoothL1Loss(inf), "SmoothL1Loss: beta"),
        (lambda: dl.QuantileLoss(nan), "QuantileLoss: quantile"),
        (lambda: dl.QuantileLoss("0.5"), "QuantileLoss: quantile"),
        (lambda: dl.CrossEntropyLoss(weight=[1, nan]), "CrossEntropyLoss: weight"),
        (lambda: dl.CrossEntropyLoss(weight="balanced"), "CrossEntropyLoss: weight"),
        (lambda: dl.CrossEntropyLoss(ignore_index=0.5), "CrossEntropyLoss: ignore_index"),
        (lambda: dl.BCEWithLogitsLoss(pos_weight=inf), "BCEWithLogitsLoss: pos_weight"),
        (lambda: dl.FocalLoss(nan), "FocalLoss: gamma"),
    ],
)
def test_an_option_without_a_meaning_is_named(make, name):
    with pytest.raises((ValueError, TypeError), match=name):
        make()


@pytest.mark.parametrize("layer", [dl.GELU(), dl.GELU("tanh"), dl.SiLU()], ids=repr)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_network_has_the_limits(layer, dtype):
    model = dl.Sequential(dl.Linear(1, 3, bias=False), layer, dtype=dtype, seed=0)
    model[0].weight[...] = [[1], [-1], [2]]
    with np.errstate(all="ignore"):
        assert model(np.array([[inf]], dtype)).tolist() == [[inf, 0, inf]]


def test_log_sigmoid_is_a_layer():
    x = np.linspace(-900, 900, 7)[:, None]
    model = dl.Sequential(dl.Linear(1, 1, bias=False), dl.LogSigmoid(), dtype=np.float64)
    model[0].weight[...] = 1
    assert np.array_equal(model(x), dl.log_sigmoid(x))


@pytest.mark.parametrize("loss", [dl.MSELoss(), dl.BCEWithLogitsLoss(), dl.PoissonNLLLoss()])
def test_the_value_passes_over_rows_of_weight_0(loss):
    outputs, y = np.array([[0.5], [nan], [inf], [0.25]]), np.array([[1.0], [0], [nan], [0]])
    weight = np.array([1.0, 0, 0, 3])
    kept = [0, 3]
    expected = loss.weighted_value(outputs[kept], y[kept], weight[kept], weight[kept])
    assert loss.weighted_value(outputs, y, weight, weight) == pytest.approx(expected)


def test_a_focal_loss_of_the_certainly_wrong():
    loss, grad = dl.FocalLoss(2.0, "bce_with_logits").value_and_grad(
        np.array([[-inf], [0.0]]), np.array([[1.0], [1.0]]), reduction="none"
    )
    assert loss[0] == inf
    assert grad[0] == -1
    assert np.isfinite(loss[1])


def test_a_target_that_weighs_nothing_adds_nothing():
    loss = dl.MultiTargetLoss({"a": "mse", "b": "mse"}, [1, 1], weights=[1.0, 0.0])
    outputs, y = np.array([[1.0, nan], [2.0, inf]]), np.array([[0.0, 1.0], [0.0, 2.0]])
    value, grad = loss.value_and_grad(outputs, y)
    assert value == 2.5
    assert grad.tolist() == [[1, 0], [2, 0]]
