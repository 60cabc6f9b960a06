"""NumPy: the gradients by hand, and updates in place of all parameters at once."""

import numpy as np
from cases import BETAS, EPS, MOMENTUM, RATES

library = np


def forward(layers, x):
    """Return the input of each layer, and the outputs."""
    values = [x]
    for i, (weight, bias) in enumerate(layers):
        x = values[-1] @ weight.T
        x += bias
        values.append(np.maximum(x, 0, out=x) if i + 1 < len(layers) else x)
    return values


def cross_entropy(logits, y):
    """Return the mean loss, and its gradient in the place of the logits."""
    rows = np.arange(len(y))
    logits -= logits.max(axis=1, keepdims=True)
    picked = logits[rows, y]
    np.exp(logits, out=logits)
    total = logits.sum(axis=1, keepdims=True)
    loss = np.mean(np.log(total[:, 0]) - picked)
    logits /= total * len(y)
    logits[rows, y] -= 1 / len(y)
    return loss, logits


def mse(outputs, y):
    outputs -= y
    loss = np.mean(outputs * outputs)
    outputs *= 2 / outputs.size
    return loss, outputs


def backward(layers, values, grad, grads):
    for i in reversed(range(len(layers))):
        np.matmul(grad.T, values[i], out=grads[i][0])
        np.sum(grad, axis=0, out=grads[i][1])
        if i:
            grad = grad @ layers[i][0]
            grad *= values[i] > 0


def adam(p, g):
    m, v, work = (np.zeros_like(p) for _ in range(3))
    b1, b2 = BETAS
    steps = 0

    def step():
        nonlocal steps
        steps += 1
        for mean, beta in ((m, b1), (v, b2)):
            mean *= beta
            np.multiply(g, 1 - beta, out=work)
            if mean is v:
                np.multiply(work, g, out=work)
            mean += work
        np.sqrt(v, out=work)
        np.multiply(work, (1 - b2**steps) ** -0.5, out=work)
        np.add(work, EPS, out=work)
        np.divide(m, work, out=work)
        np.multiply(work, RATES["adam"] / (1 - b1**steps), out=work)
        np.subtract(p, work, out=p)

    return step


def sgd(p, g):
    velocity = np.zeros_like(p)

    def step():
        np.multiply(velocity, MOMENTUM, out=velocity)
        np.add(velocity, g, out=velocity)
        np.subtract(p, RATES["sgd"] * velocity, out=p)

    return step


def views(flat, layers):
    """Split one array into the layers' shapes."""
    split, start = [], 0
    for layer in layers:
        split.append([])
        for array in layer:
            split[-1].append(flat[start : start + array.size].reshape(array.shape))
            start += array.size
    return split


def train(case):
    x, y = case.data()
    drawn = case.parameters()
    flat = np.concatenate([array.ravel() for layer in drawn for array in layer])
    flat_grad = np.empty_like(flat)
    layers, grads = views(flat, drawn), views(flat_grad, drawn)
    step = {"adam": adam, "sgd": sgd}[case.optimizer](flat, flat_grad)
    loss_and_grad = {"cross_entropy": cross_entropy, "mse": mse}[case.loss]
    rng = np.random.default_rng(0)

    def epoch():
        order, total = rng.permutation(case.rows), 0.0
        for start in range(0, case.rows, case.batch):
            numbers = order[start : start + case.batch]
            *values, outputs = forward(layers, x[numbers])
            loss, grad = loss_and_grad(outputs, y[numbers])
            backward(layers, values, grad, grads)
            step()
            total += float(loss) * len(numbers)
        return total / case.rows

    return epoch


def infer(case, x):
    layers = case.parameters()
    return lambda: forward(layers, x)[-1]
