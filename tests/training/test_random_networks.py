"""Fits of random networks with random options are the plain ones in float64.

The ordinary run draws a handful; ``pytest -m nightly`` draws thousands.
"""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import dlcore as dl
from support.networks import F64, LOSSES, drawn_layers, rows_of
from support.plain_step import check_fit

# Optimizers divide rounding errors by epsilon; of 1e-8 they would be as large as the tolerance.
EPSILONS = st.sampled_from([1e-6, 1e-3])


@st.composite
def networks(draw):
    """Draw a model of one to four linear layers, as many outputs as all losses take at the end."""
    widths = [*draw(st.lists(st.integers(1, 70), min_size=1, max_size=4)), 3]
    return dl.Sequential(*drawn_layers(draw, widths), dtype=F64, seed=draw(st.integers(0, 99)))


@st.composite
def sgd(draw):
    options = {"momentum": draw(st.sampled_from([0.0, 0.5, 0.9]))}
    if options["momentum"] and draw(st.booleans()):
        options["nesterov"] = True
    elif options["momentum"]:
        options["dampening"] = draw(st.sampled_from([0.0, 0.3]))
    return "SGD", options


@st.composite
def adam(draw):
    options = {
        "betas": (draw(st.sampled_from([0.0, 0.7, 0.9])), draw(st.sampled_from([0.5, 0.9, 0.999]))),
        "eps": draw(EPSILONS),
        "amsgrad": draw(st.booleans()),
    }
    kind = draw(st.sampled_from(["Adam", "AdamW"]))
    if kind == "Adam":
        options["decoupled_weight_decay"] = draw(st.booleans())
    return kind, options


@st.composite
def optimizers(draw):
    """Draw the function that makes an optimizer, of either library."""
    kind, options = draw(st.one_of(sgd(), adam()))
    options |= {
        "lr": draw(st.sampled_from([1e-4, 1e-3, 1e-2])),
        "weight_decay": draw(st.sampled_from([0.0, 0.01, 0.3])),
        "l1": draw(st.sampled_from([0.0, 0.01])),
        "maximize": draw(st.booleans()),
    }
    return lambda library, params: getattr(library, kind)(params, **options)


@st.composite
def fits(draw):
    """Draw what `check_fit` takes."""
    model = draw(networks())
    loss, kind = LOSSES[draw(st.sampled_from(sorted(LOSSES)))]
    rows = draw(st.integers(1, 90))
    inputs = next(layer.in_features for layer in model if isinstance(layer, dl.Linear))
    names = list(model.named_parameters())
    x, y = rows_of(kind, rows, F64, inputs=inputs, seed=draw(st.integers(0, 99)))
    assume(kind != "labels" or (y != loss.ignore_index).any())  # some row must count
    return (model, loss, x, y), {
        "make": draw(optimizers()),
        "epochs": draw(st.integers(1, 3)),
        "batch_size": draw(st.integers(1, 90)),
        "accumulate": draw(st.integers(1, 4)),
        "max_norm": draw(st.sampled_from([None, 0.05, 1.0])),
        "weight": draw(st.sampled_from([None, np.linspace(0.1, 2, rows)])),
        "frozen": draw(st.sampled_from([(), names[:-1][:1]])),
    }


def check(fit):
    arguments, options = fit
    check_fit(*arguments, **options)


@settings(max_examples=12)
@given(fits())
def test_a_fit_is_the_plain_one(fit):
    check(fit)


@pytest.mark.nightly
@settings(max_examples=5000, derandomize=False, print_blob=True)
@given(fits())
def test_any_fit_is_the_plain_one(fit):
    check(fit)
