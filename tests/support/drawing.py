"""Random arguments for kernels: dicts of arrays by the names of the arguments."""

import numpy as np

from dlcore import reference


def normal(rng, shape, dtype, scale=1.0):
    """Normal numbers."""
    return np.asarray(scale * rng.standard_normal(shape), dtype)


def spread(rng, shape, dtype):
    """Normal numbers over five decades, up to about 100, so that the tails are reached."""
    return normal(rng, shape, dtype, 10.0 ** rng.uniform(-3, 1.5, shape))


def uniform(rng, shape, dtype, low=0.0, high=1.0):
    """Uniform numbers."""
    return np.asarray(rng.uniform(low, high, shape), dtype)


def draw_x(rng, shape, dtype):
    """Draw the input of an activation."""
    return {"x": spread(rng, shape, dtype)}


def draw_dy_x(rng, shape, dtype):
    """Draw the inputs of an activation's backward."""
    return {"dy": normal(rng, shape, dtype), "x": spread(rng, shape, dtype)}


def draw_row(rng, shape, dtype):
    """Draw logits."""
    return {"x": normal(rng, shape, dtype, 3)}


def draw_dy_y(rng, shape, dtype, *, forward):
    """Draw the inputs of a softmax's backward."""
    y = forward(normal(rng, shape, dtype, 3))
    return {"dy": normal(rng, shape, dtype), "y": y}


def draw_pair(rng, shape, dtype, *, weighted=False):
    """Draw predictions and targets, and weights, a few of them 0."""
    inputs = {"input": normal(rng, shape, dtype, 2), "target": normal(rng, shape, dtype)}
    return inputs | ({"weight": some_weights(rng, shape, dtype)} if weighted else {})


def some_weights(rng, shape, dtype):
    """Draw weights, some of them 0."""
    weight = rng.uniform(0.5, 2, shape)
    return np.asarray(np.where(rng.random(shape) < 0.2, 0, weight), dtype)


def draw_classes(
    rng, shape, dtype, *, first="logits", probabilities=False, weighted=False, ignored=False
):
    """Draw logits (log-probabilities) and classes, as indices or probabilities."""
    axis = min(1, len(shape) - 1)
    x = normal(rng, shape, dtype, 3)
    rows = shape[:axis] + shape[axis + 1 :]
    inputs = {first: x if first == "logits" else reference.log_softmax(x, axis)}
    if probabilities:
        inputs["target"] = reference.softmax(normal(rng, shape, dtype), axis)
    else:
        target = np.asarray(rng.integers(0, shape[axis], rows))
        if ignored:
            target[rng.random(rows) < 0.3] = -100
        inputs["target"] = target
    if weighted:
        inputs["weight"] = uniform(rng, shape[axis], dtype, 0.5, 2)
    return inputs


def draw_binary(rng, shape, dtype, *, first="logits", weighted=False):
    """Draw probabilities or logits, targets in [0, 1], and weights."""
    x = uniform(rng, shape, dtype, 0.001, 0.999) if first == "input" else spread(rng, shape, dtype)
    inputs = {first: x, "target": uniform(rng, shape, dtype)}
    if weighted:
        inputs["weight"] = uniform(rng, shape, dtype, 0.5, 2)
        if first == "logits":
            inputs["pos_weight"] = uniform(rng, shape, dtype, 0.5, 2)
    return inputs


def draw_divergence(rng, shape, dtype, *, log_target, weighted=False):
    """Draw log-probabilities and probabilities, a few of them 0."""
    log_p = -np.abs(spread(rng, shape, dtype))
    t = uniform(rng, shape, dtype)
    target = np.asarray(np.log1p(-t) if log_target else np.where(t < 0.1, 0, t), dtype)
    inputs = {"input": log_p, "target": target}
    return inputs | ({"weight": some_weights(rng, shape, dtype)} if weighted else {})


def draw_table(rng, shape, dtype):
    """Draw columns of different sizes and offsets with numbers missing."""
    x = normal(rng, shape, dtype) * 10.0 ** rng.uniform(-2, 2, shape[1]) + rng.normal(size=shape[1])
    return {"x": np.asarray(np.where(rng.random(shape) < 0.05, np.nan, x), dtype)}


def draw_update(rng, shape, dtype):
    """Draw parameters and their gradients."""
    return {"param": normal(rng, shape, dtype), "grad": normal(rng, shape, dtype)}


def draw_linear(rng, shape, dtype, *, bias=True):
    """Draw the arguments of a linear layer of the shape (rows, in, out)."""
    rows, features, outputs = shape
    inputs = {
        "x": normal(rng, (rows, features), dtype),
        "weight": normal(rng, (outputs, features), dtype, 0.5),
    }
    return inputs | ({"bias": normal(rng, (outputs,), dtype)} if bias else {})


def draw_linear_backward(rng, shape, dtype):
    """Draw the arguments of its gradients."""
    dy = normal(rng, (shape[0], shape[2]), dtype)
    return {"dy": dy} | draw_linear(rng, shape, dtype)


def draw_norm(rng, shape, dtype, *, running=False, backward=False):
    """Draw the arguments of a normalization, features of different sizes and offsets."""
    features = shape[1]
    x = normal(rng, shape, dtype) * uniform(rng, features, dtype, 0.5, 2) + normal(
        rng, features, dtype
    )
    inputs = {"x": x, "weight": normal(rng, features, dtype)}
    if running:
        inputs["running_mean"] = normal(rng, features, dtype)
        inputs["running_var"] = uniform(rng, features, dtype, 0.5, 2)
    if backward:
        return {"dy": normal(rng, shape, dtype)} | inputs
    return inputs | {"bias": normal(rng, features, dtype)}
