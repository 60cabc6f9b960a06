"""NumPy, in place wherever it can be."""

from functools import partial

import numpy as np
from cases import BETAS, EPS, LR, MOMENTUM

library = np
to_numpy = np.asarray


def cross_entropy_and_grad(logits, target):
    grad = np.empty_like(logits)
    rows = np.arange(len(logits))

    def run():
        np.subtract(logits, logits.max(axis=1, keepdims=True), out=grad)
        picked = grad[rows, target]
        np.exp(grad, out=grad)
        total = grad.sum(axis=1, keepdims=True)
        loss = np.mean(np.log(total[:, 0]) - picked)
        np.multiply(grad, 1 / (total * len(logits)), out=grad)
        grad[rows, target] -= 1 / len(logits)
        return loss, grad

    return run


def bce_with_logits_and_grad(logits, target):
    small, work, grad = (np.empty_like(logits) for _ in range(3))

    def run():
        np.abs(logits, out=small)
        np.negative(small, out=small)
        np.exp(small, out=small)
        np.log1p(small, out=work)
        loss = work.mean()
        np.maximum(logits, 0, out=work)
        loss += (work.sum() - np.dot(logits, target)) / logits.size
        # sigmoid is 1 or the small exponential, over their sum
        np.copyto(grad, small)
        np.copyto(grad, 1, where=logits >= 0)
        np.add(small, 1, out=small)
        np.divide(grad, small, out=grad)
        np.subtract(grad, target, out=grad)
        np.multiply(grad, 1 / logits.size, out=grad)
        return loss, grad

    return run


def relu(x):
    return partial(np.maximum, x, x.dtype.type(0), out=np.empty_like(x))


def relu_backward(dy, x):
    out, positive, zero = np.empty_like(x), np.empty(x.shape, bool), x.dtype.type(0)

    def run():
        return np.multiply(dy, np.greater(x, zero, out=positive), out=out)

    return run


def adam_step(params, grads):
    params, grads = [p.copy() for p in params], [g.copy() for g in grads]
    means, squares = ([np.zeros_like(p) for p in params] for _ in range(2))
    work = np.empty_like(params[0])
    b1, b2 = BETAS
    steps = 0

    def run():
        nonlocal steps
        steps += 1
        rate, root = LR / (1 - b1**steps), (1 - b2**steps) ** -0.5
        for p, g, m, v in zip(params, grads, means, squares, strict=True):
            np.multiply(m, b1, out=m)
            np.multiply(g, 1 - b1, out=work)
            np.add(m, work, out=m)
            np.multiply(v, b2, out=v)
            np.multiply(g, g, out=work)
            np.multiply(work, 1 - b2, out=work)
            np.add(v, work, out=v)
            np.sqrt(v, out=work)
            np.multiply(work, root, out=work)
            np.add(work, EPS, out=work)
            np.divide(m, work, out=work)
            np.multiply(work, rate, out=work)
            np.subtract(p, work, out=p)
        return params

    return run


def sgd_momentum_step(params, grads):
    params, grads = [p.copy() for p in params], [g.copy() for g in grads]
    velocities = [np.zeros_like(p) for p in params]
    work = np.empty_like(params[0])

    def run():
        for p, g, velocity in zip(params, grads, velocities, strict=True):
            np.multiply(velocity, MOMENTUM, out=velocity)
            np.add(velocity, g, out=velocity)
            np.multiply(velocity, LR, out=work)
            np.subtract(p, work, out=p)
        return params

    return run


def z_score_fit(x):
    def run():
        mean = x.mean(axis=0)
        return mean, x.var(axis=0, mean=mean[None])

    return run


def min_max_fit(x):
    return lambda: (x.min(axis=0), x.max(axis=0))


def transform(x, shift, scale):
    out, factor = np.empty_like(x), 1 / scale

    def run():
        np.subtract(x, shift, out=out)
        return np.multiply(out, factor, out=out)

    return run


CALLS = {
    "cross_entropy_and_grad": {"in place": cross_entropy_and_grad},
    "bce_with_logits_and_grad": {"in place": bce_with_logits_and_grad},
    "relu": {"maximum": relu},
    "relu_backward": {"multiply by mask": relu_backward},
    "adam_step": {"in place": adam_step},
    "sgd_momentum_step": {"in place": sgd_momentum_step},
    "z_score_fit": {"mean and var": z_score_fit},
    "min_max_fit": {"min and max": min_max_fit},
    "z_score_transform": {"in place": transform},
    "min_max_transform": {"in place": transform},
}
