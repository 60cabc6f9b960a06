"""PyTorch, compiled: one graph that writes into memory given to it."""

import logging
from functools import partial

import torch
from torch.nn import functional as F

from benchmarks.peers.torch import epochs, library, to_numpy
from benchmarks.settings import BETAS, EPS, LR, MOMENTUM

__all__ = ["KERNELS", "library", "to_numpy", "train"]

torch._logging.set_logs(dynamo=logging.ERROR)  # that profiling is left out is no news


def compiled(function):
    """Compile for the shapes of one case; recompiling the same code too often would give up."""
    torch.compiler.reset()
    return torch.compile(function, dynamic=False)


def into(function, *inputs):
    """Compile a function with its result written into an array shaped like the first argument."""
    inputs = [torch.from_numpy(x) for x in inputs]
    out = torch.empty_like(inputs[0])
    return partial(compiled(lambda out, *inputs: out.copy_(function(*inputs))), out, *inputs)


def loss_and_grad(loss, x, target):
    x, target = torch.from_numpy(x), torch.from_numpy(target)
    grad_and_value = torch.func.grad_and_value(loss)

    def function(out, x, target):
        grad, value = grad_and_value(x, target)
        return value, out.copy_(grad)

    return partial(compiled(function), torch.empty_like(x), x, target)


def relu_backward(dy, x):
    return torch.where(x > 0, dy, 0)


def transform(x, shift, scale):
    return into(lambda x, shift, factor: (x - shift) * factor, x, shift, 1 / scale)


def step(optimizer, params, grads):
    params = [torch.from_numpy(p.copy()).requires_grad_() for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.from_numpy(g.copy())
    stepper = optimizer(params, lr=torch.tensor(LR))  # a number would be compiled in

    @compiled
    def update():
        stepper.step()

    def run():
        update()
        return params

    return run


def fit(function, x):
    return partial(compiled(function), torch.from_numpy(x))


def mean_var(x):
    var, mean = torch.var_mean(x, 0, correction=0)
    return mean, var


KERNELS = {
    "cross_entropy_and_grad": {"grad_and_value": partial(loss_and_grad, F.cross_entropy)},
    "bce_with_logits_and_grad": {
        "grad_and_value": partial(loss_and_grad, F.binary_cross_entropy_with_logits)
    },
    "relu": {"out": partial(into, torch.relu)},
    "relu_backward": {"out": partial(into, relu_backward)},
    "adam_step": {"torch.optim": partial(step, partial(torch.optim.Adam, betas=BETAS, eps=EPS))},
    "sgd_momentum_step": {
        "torch.optim": partial(step, partial(torch.optim.SGD, momentum=MOMENTUM))
    },
    "z_score_fit": {"var_mean": partial(fit, mean_var)},
    "min_max_fit": {"aminmax": partial(fit, partial(torch.aminmax, dim=0))},
    "z_score_transform": {"out": transform},
    "min_max_transform": {"out": transform},
}


def train(case):
    """Compile the model and the loss; rows are gathered and weights updated as by eager PyTorch."""
    return epochs(case, compiled)
