"""The networks, data and losses of tests of training."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import strategies as st

import dlcore as dl

F32, F64 = np.float32, np.float64
DTYPES = pytest.mark.parametrize("dtype", [F32, F64], ids=["float32", "float64"])

ACTIVATIONS = [
    dl.ReLU(),
    dl.LeakyReLU(0.1),
    dl.ELU(0.5),
    dl.GELU(),
    dl.GELU("tanh"),
    dl.SiLU(),
    dl.Sigmoid(),
    dl.Tanh(),
    dl.Softplus(2.0, 3.0),
]
CLASS_WEIGHT = [1.0, 2.0, 0.5]
# Name: the loss and the kind of its targets.
LOSSES = {
    "cross_entropy": (dl.CrossEntropyLoss(), "labels"),
    "ce_weight": (dl.CrossEntropyLoss(weight=CLASS_WEIGHT), "labels"),
    "ce_ignore": (dl.CrossEntropyLoss(ignore_index=1), "labels"),
    "ce_smoothing": (dl.CrossEntropyLoss(label_smoothing=0.1), "labels"),
    "ce_all": (dl.CrossEntropyLoss(CLASS_WEIGHT, 2, 0.2), "labels"),
    "ce_probabilities": (dl.CrossEntropyLoss(), "shares"),
    "ce_probabilities_all": (dl.CrossEntropyLoss(CLASS_WEIGHT, label_smoothing=0.1), "shares"),
    "bce": (dl.BCEWithLogitsLoss(), "shares"),
    "bce_pos_weight": (dl.BCEWithLogitsLoss([1.0, 3.0, 0.5]), "shares"),
    "mse": (dl.MSELoss(), "values"),
    "l1": (dl.L1Loss(), "values"),
    "huber": (dl.HuberLoss(0.4), "values"),
    "smooth_l1": (dl.SmoothL1Loss(0.3), "values"),
    "smooth_l1_sharp": (dl.SmoothL1Loss(0.0), "values"),
    "poisson": (dl.PoissonNLLLoss(), "shares"),
    "quantile": (dl.QuantileLoss(0.3), "values"),
    "quantiles": (dl.QuantileLoss([0.1, 0.5, 0.9]), "values"),
}


def rows_of(kind, n, dtype, inputs=4, outputs=3, seed=0):
    """Draw x and targets."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, inputs)).astype(dtype)
    if kind == "labels":
        return x, rng.integers(0, outputs, n)
    y = rng.random((n, outputs)) if kind == "shares" else rng.normal(size=(n, outputs))
    if kind == "shares":
        y /= y.sum(1, keepdims=True)
    return x, y.astype(dtype)


def network(*between, widths=(4, 9, 6, 3), dtype=F64, seed=0, bias=True):
    """Linear layers of these widths with activations between them."""
    layers = []
    for i in range(len(widths) - 1):
        layers.append(dl.Linear(widths[i], widths[i + 1], bias))
        if i + 2 < len(widths):
            layers.append((between or (dl.Tanh(),))[i % max(1, len(between))])
    return dl.Sequential(*layers, dtype=dtype, seed=seed)


def drawn_layers(draw, widths):
    """Draw linear layers of these widths, and up to two activations before each."""
    layers = []
    for a, b in pairwise(widths):
        layers += draw(st.lists(st.sampled_from(ACTIVATIONS), max_size=2))
        layers.append(dl.Linear(a, b, draw(st.booleans())))
    return layers


def quiet_fit(trainer, x, y, epochs=1, **options):
    return trainer.fit(x, y, epochs=epochs, **({"verbose": 0, "shuffle": False} | options))
