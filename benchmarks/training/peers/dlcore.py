"""dlcore itself: a fit of one epoch, as a user would call it."""

from functools import partial
from itertools import pairwise

import numpy as np
from cases import BETAS, EPS, MOMENTUM, RATES

import dlcore as library


def network(case):
    layers = []
    for i, (fan_in, fan_out) in enumerate(pairwise(case.widths)):
        layers += [library.ReLU()] * (i > 0) + [library.Linear(fan_in, fan_out)]
    model = library.Sequential(*layers, dtype=case.dtype, seed=0)
    flat = [array for layer in case.parameters() for array in layer]
    model.load_state_dict(dict(zip(model.state_dict(), flat, strict=True)))
    return model


def train(case):
    x, y = case.data()
    model, rate = network(case), RATES[case.optimizer]
    if case.optimizer == "adam":
        optimizer = library.Adam(model.parameters(), rate, betas=BETAS, eps=EPS)
    else:
        optimizer = library.SGD(model.parameters(), rate, momentum=MOMENTUM)
    trainer = library.Trainer(model, loss=case.loss, optimizer=optimizer, seed=0)
    options = {"epochs": 1, "batch_size": case.batch, "verbose": 0}
    return lambda: trainer.fit(x, y, **options)["loss"][-1]


def infer(case, x):
    return partial(network(case), x)


def product(case, x, weight, dy):
    if case.form == "forward":
        return partial(library.linear, x, weight, out=np.empty_like(dy))
    return lambda: library.linear_backward(dy, x, weight)[:2]
