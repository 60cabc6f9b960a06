"""dlcore itself, with outputs given by ``out=``."""

from functools import partial

import numpy as np
from cases import BETAS, EPS, LR, MOMENTUM

import dlcore as library

to_numpy = np.asarray


def into(function):
    """Prepare a kernel that writes into an array shaped like its first argument."""
    return lambda *inputs: partial(function, *inputs, out=np.empty_like(inputs[0]))


def step(optimizer, params, grads):
    params, grads = [p.copy() for p in params], [g.copy() for g in grads]
    update = optimizer(params, LR).step

    def run():
        update(grads)
        return params

    return run


def fit(normalizer, results, x):
    n = normalizer()

    def run():
        n.fit(x)
        return [getattr(n, name) for name in results]

    return run


def transform(normalizer, x, *_):
    return partial(normalizer().fit(x).transform, x, out=np.empty_like(x))


adam = partial(library.Adam, betas=BETAS, eps=EPS)
sgd = partial(library.SGD, momentum=MOMENTUM)
z_score, min_max = library.ZScoreNormalizer, library.MinMaxNormalizer
CALLS = {
    "cross_entropy_and_grad": {"out": into(library.cross_entropy_and_grad)},
    "bce_with_logits_and_grad": {"out": into(library.binary_cross_entropy_with_logits_and_grad)},
    "relu": {"out": into(library.relu)},
    "relu_backward": {"out": into(library.relu_backward)},
    "adam_step": {"Adam": partial(step, adam)},
    "sgd_momentum_step": {"SGD": partial(step, sgd)},
    "z_score_fit": {"fit": partial(fit, z_score, ("mean_", "var_"))},
    "min_max_fit": {"fit": partial(fit, min_max, ("data_min_", "data_max_"))},
    "z_score_transform": {"out": partial(transform, z_score)},
    "min_max_transform": {"out": partial(transform, min_max)},
}
