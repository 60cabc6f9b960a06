"""PyTorch, eager: autograd and torch.optim, or the operators they call with ``out=``."""

from functools import partial
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.settings import BETAS, EPS, LR, MOMENTUM, RATES

library = torch


def to_numpy(tensor):
    return tensor.detach().numpy()


def loss_and_grad(loss, x, target):
    x, target = torch.from_numpy(x).requires_grad_(), torch.from_numpy(target)

    def run():
        value = loss(x, target)
        return value, *torch.autograd.grad(value, x)

    return run


def cross_entropy_and_grad(x, target):
    x, target = torch.from_numpy(x), torch.from_numpy(target)
    rows, grad = torch.arange(len(x)), torch.empty_like(x)

    def run():
        torch.log_softmax(x, 1, out=grad)
        loss = F.nll_loss(grad, target)
        grad.exp_()
        grad[rows, target] -= 1
        return loss, grad.div_(len(x))

    return run


def bce_with_logits_and_grad(x, target):
    x, target = torch.from_numpy(x), torch.from_numpy(target)
    grad = torch.empty_like(x)

    def run():
        loss = F.binary_cross_entropy_with_logits(x, target)
        torch.sigmoid(x, out=grad)
        return loss, grad.sub_(target).div_(len(x))

    return run


def relu(x):
    return partial(torch.relu, torch.from_numpy(x))


def relu_out(x):
    x = torch.from_numpy(x)
    return partial(torch.clamp_min, x, 0, out=torch.empty_like(x))


def relu_backward(dy, x):
    dy, x = torch.from_numpy(dy), torch.from_numpy(x)
    backward = torch.ops.aten.threshold_backward.grad_input
    return partial(backward, dy, x, 0, grad_input=torch.empty_like(x))


def step(optimizer, params, grads):
    params = [torch.from_numpy(p.copy()).requires_grad_() for p in params]
    for p, g in zip(params, grads, strict=True):
        p.grad = torch.from_numpy(g.copy())
    update = optimizer(params, lr=LR).step

    def run():
        update()
        return params

    return run


def steps(optimizer):
    """Return the ways in which torch.optim goes over arrays."""
    ways = {"fused": {"fused": True}, "foreach": {"foreach": True}, "loop": {"foreach": False}}
    return {way: partial(step, partial(optimizer, **option)) for way, option in ways.items()}


def z_score_fit(x):
    x = torch.from_numpy(x)

    def run():
        var, mean = torch.var_mean(x, 0, correction=0)
        return mean, var

    return run


def z_score_fit_twice(x):
    x = torch.from_numpy(x)
    work = torch.empty_like(x)

    def run():
        mean = x.mean(0)
        torch.sub(x, mean, out=work)
        return mean, work.square_().mean(0)

    return run


def min_max_fit(x):
    return partial(torch.aminmax, torch.from_numpy(x), dim=0)


def min_max_fit_twice(x):
    x = torch.from_numpy(x)
    return lambda: (x.amin(0), x.amax(0))


def transform(x, shift, scale):
    x, shift, factor = torch.from_numpy(x), torch.from_numpy(shift), torch.from_numpy(1 / scale)
    out = torch.empty_like(x)
    return lambda: torch.sub(x, shift, out=out).mul_(factor)


def transform_fused(x, shift, scale):
    x, bias, factor = (torch.from_numpy(a) for a in (x, -shift / scale, 1 / scale))
    return partial(torch.addcmul, bias, x, factor, out=torch.empty_like(x))


transforms = {"sub, mul": transform, "addcmul": transform_fused}
KERNELS = {
    "cross_entropy_and_grad": {
        "autograd": partial(loss_and_grad, F.cross_entropy),
        "by hand": cross_entropy_and_grad,
    },
    "bce_with_logits_and_grad": {
        "autograd": partial(loss_and_grad, F.binary_cross_entropy_with_logits),
        "by hand": bce_with_logits_and_grad,
    },
    "relu": {"relu": relu, "clamp_min out": relu_out},
    "relu_backward": {"threshold_backward": relu_backward},
    "adam_step": steps(partial(torch.optim.Adam, betas=BETAS, eps=EPS)),
    "sgd_momentum_step": steps(partial(torch.optim.SGD, momentum=MOMENTUM)),
    "z_score_fit": {"var_mean": z_score_fit, "mean, square": z_score_fit_twice},
    "min_max_fit": {"aminmax": min_max_fit, "amin, amax": min_max_fit_twice},
    "z_score_transform": transforms,
    "min_max_transform": transforms,
}

LOSSES = {"cross_entropy": F.cross_entropy, "mse": F.mse_loss}


def network(case):
    layers = []
    for i, (fan_in, fan_out) in enumerate(pairwise(case.widths)):
        layers += [nn.ReLU()] * (i > 0) + [nn.Linear(fan_in, fan_out)]
    model = nn.Sequential(*layers).to(getattr(torch, case.dtype))
    flat = [torch.from_numpy(array) for layer in case.parameters() for array in layer]
    model.load_state_dict(dict(zip(model.state_dict(), flat, strict=True)))
    return model


def epochs(case, wrap):
    """Return the call that trains an epoch; `wrap` what computes the loss of a batch."""
    x, y = map(torch.from_numpy, case.data())
    model, loss, rate = network(case), LOSSES[case.loss], RATES[case.optimizer]
    if case.optimizer == "adam":
        optimizer = torch.optim.Adam(model.parameters(), rate, BETAS, EPS, fused=True)
    else:
        optimizer = torch.optim.SGD(model.parameters(), rate, MOMENTUM, fused=True)
    loss_of = wrap(lambda x, y: loss(model(x), y))

    def epoch():
        losses, batches = [], torch.randperm(case.rows).split(case.batch)
        for index in batches:
            optimizer.zero_grad()
            value = loss_of(x[index], y[index])
            value.backward()
            optimizer.step()
            losses.append(value.detach())
        sizes = torch.tensor([len(index) for index in batches])
        return (torch.stack(losses) * sizes).sum().item() / case.rows

    return epoch


def train(case):
    return epochs(case, lambda function: function)


def many(case, members, epochs):
    """Return calls that train one of the networks, and all of them by ``torch.func.vmap``."""
    one = train(case)
    x, y = map(torch.from_numpy, case.data())
    models = [network(case) for _ in range(members)]
    parameters, _ = torch.func.stack_module_state(models)
    optimizer = torch.optim.Adam(parameters.values(), RATES["adam"], BETAS, EPS, fused=True)

    def loss_of(own, x, y):
        return F.cross_entropy(torch.func.functional_call(models[0], own, (x,)), y)

    losses = torch.func.vmap(loss_of)

    def all_of_them():
        for _ in range(epochs):
            orders = torch.stack([torch.randperm(case.rows) for _ in range(members)])
            for index in orders.split(case.batch, dim=1):
                optimizer.zero_grad()
                losses(parameters, x[index], y[index]).sum().backward()
                optimizer.step()

    def one_of_them():
        for _ in range(epochs):
            one()

    return {"beside one": one_of_them, "beside vmap": all_of_them}


@torch.inference_mode()
def outputs(model, x):
    return model(x)


def infer(case, x):
    model, x = network(case), torch.from_numpy(x)
    return lambda: outputs(model, x)
