"""NumPy, in place wherever it can be; of networks the gradients by hand."""

from functools import partial

import numpy as np

from benchmarks.settings import BETAS, EPS, LR, MOMENTUM, RATES

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


def copied(optimizer):
    """Prepare an optimizer on arrays of its own."""
    return lambda params, grads: optimizer([p.copy() for p in params], [g.copy() for g in grads])


def adam(params, grads):
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


def sgd_momentum(params, grads, rate=LR):
    velocities = [np.zeros_like(p) for p in params]
    work = np.empty_like(params[0])

    def run():
        for p, g, velocity in zip(params, grads, velocities, strict=True):
            np.multiply(velocity, MOMENTUM, out=velocity)
            np.add(velocity, g, out=velocity)
            np.multiply(velocity, rate, out=work)
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


KERNELS = {
    "cross_entropy_and_grad": {"in place": cross_entropy_and_grad},
    "bce_with_logits_and_grad": {"in place": bce_with_logits_and_grad},
    "relu": {"maximum": relu},
    "relu_backward": {"multiply by mask": relu_backward},
    "adam_step": {"in place": copied(adam)},
    "sgd_momentum_step": {"in place": copied(sgd_momentum)},
    "z_score_fit": {"mean and var": z_score_fit},
    "min_max_fit": {"min and max": min_max_fit},
    "z_score_transform": {"in place": transform},
    "min_max_transform": {"in place": transform},
}


def forward(layers, x):
    """Return the input of each layer, and the outputs."""
    activations = [x]
    for i, (weight, bias) in enumerate(layers):
        x = activations[-1] @ weight.T
        x += bias
        activations.append(np.maximum(x, 0, out=x) if i + 1 < len(layers) else x)
    return activations


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


def backward(layers, activations, grad, grads):
    for i in reversed(range(len(layers))):
        np.matmul(grad.T, activations[i], out=grads[i][0])
        np.sum(grad, axis=0, out=grads[i][1])
        if i:
            grad = grad @ layers[i][0]
            grad *= activations[i] > 0


OPTIMIZERS = {"adam": adam, "sgd": partial(sgd_momentum, rate=RATES["sgd"])}


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
    step = OPTIMIZERS[case.optimizer]([flat], [flat_grad])
    loss_and_grad = {"cross_entropy": cross_entropy, "mse": mse}[case.loss]
    rng = np.random.default_rng(0)

    def epoch():
        order, total = rng.permutation(case.rows), 0.0
        for start in range(0, case.rows, case.batch):
            indices = order[start : start + case.batch]
            *activations, outputs = forward(layers, x[indices])
            loss, grad = loss_and_grad(outputs, y[indices])
            backward(layers, activations, grad, grads)
            step()
            total += float(loss) * len(indices)
        return total / case.rows

    return epoch


def infer(case, x):
    layers = case.parameters()
    return lambda: forward(layers, x)[-1]
