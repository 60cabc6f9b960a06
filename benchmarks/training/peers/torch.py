"""PyTorch, eager: autograd and a fused optimizer, rows gathered by ``x[index]``."""

from itertools import pairwise

import torch
from cases import BETAS, EPS, MOMENTUM, RATES
from torch import nn
from torch.nn import functional as F

library = torch
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


@torch.inference_mode()
def outputs(model, x):
    return model(x)


def infer(case, x):
    model, x = network(case), torch.from_numpy(x)
    return lambda: outputs(model, x)
