"""The registry of kernels: one entry gives parity, layout, gradient and edge tests and benchmarks.

An entry says how to draw the arguments and how far the result may be from the truth, in units in
the last place for (float32, float64). To add a kernel, add its entry to ``CASES`` at the end.
"""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import numpy as np

import dlcore
from dlcore import reference
from support.drawing import (
    draw_binary,
    draw_classes,
    draw_divergence,
    draw_dy_x,
    draw_dy_y,
    draw_linear,
    draw_linear_backward,
    draw_norm,
    draw_pair,
    draw_row,
    draw_table,
    draw_update,
    draw_x,
    normal,
)
from support.ulp import ulp_distance

DTYPES = (np.float32, np.float64)
WIDER = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}

# Empty, 0-d, around the widths of the registers, prime, and large enough for several threads.
ELEMENTS = [(n,) for n in (0, 1, 2, 3, 7, 8, 15, 16, 17, 31, 32, 33, 97, 1009, 70_001)]
ELEMENTS += [(), (0, 5), (3, 1), (13, 17), (2, 3, 5), (61, 1201)]
ROWS = [(n, c) for n in (1, 2, 17) for c in (1, 2, 3, 7, 8, 10, 15, 16, 17, 31, 32, 33, 97)]
ROWS += [(0, 4), (1009, 10), (7001, 10), (127, 1000), (2, 50_000)]
COLUMNS = [(n, c) for n in (1, 2, 7, 33, 1009) for c in (1, 2, 8, 15, 16, 17, 33)]
COLUMNS += [(70_001, 1), (7001, 10), (300, 1000)]

# Rows, features and outputs: around the tiles and their blocks.
PRODUCTS = [(n, k, m) for n in (1, 2, 15, 29) for k in (1, 17, 64) for m in (1, 2, 10, 16, 33)]
PRODUCTS += [(0, 3, 4), (3, 0, 4), (3, 4, 0), (7, 1024, 70), (300, 257, 65), (113, 300, 300)]

Inputs = dict[str, np.ndarray]


@dataclass(frozen=True, eq=False, repr=False)
class Case:
    """A kernel with options, the inputs it is tested on and the error it may have."""

    kind: str  # "activation", "softmax", "loss", "class loss", "optimizer" or "columns"
    name: str
    draw: Callable[..., Inputs]
    ulp: tuple[float, float]
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    shapes: Iterable[tuple[int, ...]] = tuple(ELEMENTS)
    benchmarks: Iterable[tuple[int, ...]] = ()
    # Makes a call without arguments out of the kernel (of dlcore or dlcore.reference), its inputs
    # and its options.
    bind: Callable[..., Callable[[], Any]] = partial
    # Where a result may be further off: sizes for its ULP (see ulp_distance), from the true results,
    # inputs and options.
    magnitude: Callable[..., tuple[Any, ...]] | None = None
    # A scalar function of x and of the other arguments whose gradient at x the last result is;
    # x is the argument `wrt`, or what `undo` makes of it.
    potential: Callable[..., Any] | None = None
    wrt: str = ""
    undo: Callable[..., Any] = np.asarray

    def __repr__(self) -> str:
        return f"{self.name}-{self.label}" if self.label else self.name

    def inputs(self, shape, dtype, seed=0) -> Inputs:
        """Draw arguments, the same ones each time."""
        drawn = self.draw(np.random.default_rng(seed), shape, np.dtype(dtype))
        return {name: np.asarray(x) for name, x in drawn.items()}

    def bound(self, inputs: Inputs, library=dlcore) -> Callable[[], Any]:
        """Return the call of the kernel on these inputs."""
        return self.bind(getattr(library, self.name), **inputs, **self.options)

    @property
    def takes_out(self) -> bool:
        """Whether the kernel has an argument `out`."""
        function = getattr(dlcore, self.name)
        return inspect.isfunction(function) and "out" in inspect.signature(function).parameters

    def run(self, inputs: Inputs, library=dlcore) -> tuple[np.ndarray, ...]:
        """Call the kernel; a tuple of arrays."""
        return results(self.bound(inputs, library)())

    def truth(self, inputs: Inputs) -> tuple[np.ndarray, ...]:
        """Evaluate the reference in the next wider dtype."""
        return self.run(widen(inputs), reference)

    def error(self, actual: tuple[np.ndarray, ...], inputs: Inputs, truth=None) -> float:
        """Largest error of all results in ULP."""
        truth = self.truth(inputs) if truth is None else truth
        sizes = (0.0,) * len(truth)
        if self.magnitude is not None:
            with np.errstate(all="ignore"):
                sizes = self.magnitude(*truth, **inputs, **self.options)
        return max(
            float(np.max(ulp_distance(a, t, size), initial=0))
            for a, t, size in zip(actual, truth, sizes, strict=True)
        )

    def max_ulp(self, dtype) -> float:
        """Return the stated largest error."""
        return self.ulp[DTYPES.index(np.dtype(dtype).type)]


def results(returned: Any) -> tuple[np.ndarray, ...]:
    """What a kernel returned, as a tuple of arrays."""
    return tuple(map(np.asarray, returned if isinstance(returned, tuple) else (returned,)))


def widen(inputs: Inputs) -> Inputs:
    """Copy the floating arguments to the next wider dtype."""
    return {name: x.astype(WIDER.get(x.dtype, x.dtype)) for name, x in inputs.items()}


@lru_cache(maxsize=100)
def sample(case: Case, shape, dtype) -> tuple[Inputs, tuple[np.ndarray, ...]]:
    """Inputs of a case and the truth, computed once for all instruction sets."""
    inputs = case.inputs(shape, dtype)
    return inputs, case.truth(inputs)


def activation(
    name, ulp, *, backward_ulp, label="", size=None, cancels=False, **options
) -> list[Case]:
    """Return an elementwise activation and its backward.

    ``size(y, x)``: where the ULP is taken, if not at the result. ``cancels``: the derivative is a
    difference of terms of size 1, and crosses 0. A subnormal derivative has the digits that it has,
    whatever it is multiplied by.
    """
    forward = getattr(reference, name)
    shapes = () if label else ((1000,), (1_000_000,))
    forward_size = None if size is None else lambda y, x, **_: (size(y, x),)

    def backward_size(dx, dy, x, **_):
        least = np.abs(dy).astype(dx.dtype) * (1 if cancels else np.finfo(dy.dtype).smallest_normal)
        return (least if size is None or cancels else np.fmax(least, size(dx, x)),)

    return [
        Case(
            "activation",
            name,
            draw_x,
            ulp,
            options,
            label,
            benchmarks=shapes,
            magnitude=forward_size,
        ),
        Case(
            "activation",
            f"{name}_backward",
            draw_dy_x,
            backward_ulp,
            options,
            label,
            benchmarks=shapes,
            magnitude=backward_size,
            potential=lambda x, dy, **options: np.sum(dy * forward(x, **options)),
            wrt="x",
        ),
    ]


def rounded(argument):
    """Return the size of an exponential tail whose argument is rounded before exp is taken of it."""
    return lambda y, x: np.abs(y) * (1 + np.abs(argument(x)))


def softmaxes(name, ulp, *, backward_ulp, undo, size=None) -> list[Case]:
    """Return a function of rows and its backward; ``undo`` is the function's inverse."""
    forward = getattr(reference, name)
    common = {"shapes": ROWS, "benchmarks": ((1000, 10), (100_000, 10), (1000, 1000))}
    return [
        Case("softmax", name, draw_row, ulp, **common, magnitude=size),
        Case("softmax", name, draw_row, ulp, {"axis": 0}, "axis0", shapes=ROWS, magnitude=size),
        Case(
            "softmax",
            f"{name}_backward",
            partial(draw_dy_y, forward=forward),
            backward_ulp,
            **common,
            magnitude=lambda _, dy, **__: (np.sum(np.abs(dy), -1, keepdims=True),),
            potential=lambda x, dy: np.sum(dy * forward(x)),
            wrt="y",
            undo=undo,
        ),
    ]


def softmax_size(p, x, axis=-1):
    """Return the size of exp(x - max), whose argument is rounded."""
    return (p * (1 + np.max(x, axis, keepdims=True, initial=-np.inf) - x),)


def loss(
    name,
    draw,
    ulp,
    *,
    kind="loss",
    label="",
    wrt="input",
    reductions=("mean", "sum", "none"),
    shapes=ELEMENTS,
    benchmarks=((1000,), (1_000_000,)),
    magnitude=None,
    **options,
) -> list[Case]:
    """Return a loss and its twin with the gradient, for each reduction."""
    forward = getattr(reference, name)
    cases = []
    for reduction in reductions:
        common = {
            "kind": kind,
            "draw": draw,
            "ulp": ulp,
            "options": options | {"reduction": reduction},
            "label": f"{label}-{reduction}".lstrip("-"),
            "shapes": shapes,
            "benchmarks": benchmarks if reduction == "mean" and not label else (),
        }
        cases += [
            Case(name=name, **common, magnitude=magnitude and loss_only(magnitude)),
            Case(
                name=f"{name}_and_grad",
                **common,
                magnitude=magnitude,
                potential=lambda x, **rest: np.sum(forward(x, **rest)),
                wrt=wrt,
            ),
        ]
    return cases


def loss_only(magnitude):
    """Return the magnitude for the loss without its gradient."""
    return lambda loss, **inputs: magnitude(loss, None, **inputs)[:1]


def class_loss(name, first, ulp, *, label="", shapes=ROWS, options=None, **draw) -> list[Case]:
    """Return a loss of rows of classes."""
    return loss(
        name,
        partial(draw_classes, first=first, **draw),
        ulp,
        kind="class loss",
        label=label,
        wrt=first,
        shapes=shapes,
        benchmarks=((1000, 10), (100_000, 10), (1000, 1000)),
        magnitude=class_terms,
        **(options or {}),
    )


def class_terms(loss, grad, *, target, reduction, weight=1.0, logits=None, **_):
    """Sizes of the loss, whose exponentials have rounded arguments, and of softmax minus target."""
    is_index = target.dtype.kind == "i"
    rows = target.size if is_index else target.sum()
    slope = 1 / max(rows, 1) if reduction == "mean" else 1.0
    if logits is None or not logits.size:
        return 0.0, slope
    axis = min(1, logits.ndim - 1)
    of_rows = np.squeeze(rounded_arguments(logits, axis), axis)
    if is_index and np.ndim(weight):
        of_rows = of_rows * np.where(target < 0, 0, weight[np.maximum(target, 0)])
        weights = np.sum(np.where(target < 0, 0, weight[np.maximum(target, 0)]))
    else:
        weights = rows
        of_rows = of_rows * np.max(weight)
    whole = of_rows.sum() / (weights if reduction == "mean" else 1)
    return np.abs(loss) + (of_rows if reduction == "none" else whole), slope


def rounded_arguments(x, axis):
    """Return what the arguments of exp(x - max) weigh in the logarithm of the sum of exponentials."""
    below = np.max(x, axis, keepdims=True) - x
    e = np.exp(-below)
    return np.sum(e * below, axis, keepdims=True) / np.sum(e, axis, keepdims=True)


def log_softmax_size(y, x, axis=-1):
    """Return the size of a row's terms: x - max, and the logarithm of a sum of exponentials."""
    return (np.abs(y) + (rounded_arguments(x, axis) if x.size else 0),)


def reduced(terms, reduction, weight=1.0):
    """Reduce the sizes of terms, times their weights, as their losses are reduced."""
    terms = terms * weight
    total = np.sum(np.broadcast_to(weight, terms.shape)) or 1
    return {"none": terms, "sum": terms.sum()}.get(reduction, terms.sum() / total)


def binary_terms(loss, grad, *, target, reduction, weight=1.0, pos_weight=1.0, **_):
    """The gradient ``(1 - t) p - pos_weight t (1 - p)`` cancels."""
    terms = weight * (1 - target + pos_weight * target)
    return 0.0, terms / max(target.size, 1) if reduction == "mean" else terms


def poisson_terms(loss, grad, *, input, target, reduction, weight=1.0):
    """``exp(x) - t x`` and ``exp(x) - t`` cancel."""
    rate = np.exp(input)
    slope = weight * (rate + np.abs(target))
    total = np.sum(np.broadcast_to(weight, slope.shape)) or 1
    slope = slope / total if reduction == "mean" else slope
    return reduced(rate + np.abs(target * input), reduction, weight), slope


def divergence_terms(loss, grad, *, target, log_target, reduction, **inputs):
    """``t (log(t) - input)`` cancels."""
    t, log_t = (np.exp(target), target) if log_target else (target, np.log(target))
    terms = np.where(t == 0, 0, t * (np.abs(log_t) + np.abs(inputs["input"])))
    weight = inputs.get("weight", 1.0)
    if reduction == "batchmean":
        return (weight * terms).sum() / max(len(terms), 1), 0.0
    return reduced(terms, reduction, weight), 0.0


def optimizer(name, ulp, label="", **options) -> Case:
    """Return one step of an optimizer; the parameter cancels with its update."""
    return Case(
        "optimizer",
        name,
        draw_update,
        ulp,
        options | {"lr": 0.1},
        label,
        bind=bind_step,
        benchmarks=() if label else ((1000,), (1_000_000,)),
        magnitude=update_terms if name.startswith("Adam") else sum_of_terms,
    )


def sum_of_terms(_, param, grad, lr, **__):
    """Return the sizes of the parameter and of its update."""
    return (np.abs(param) + lr * (1 + np.abs(grad)),)


def update_terms(_, param, grad, lr, weight_decay=0.0, maximize=False, **options):
    """The first update divides the gradient by its size, to which decay adds and may cancel it."""
    (size,) = sum_of_terms(_, param, grad, lr)
    if weight_decay:
        decay = weight_decay * param
        gradient, eps = decay - grad if maximize else decay + grad, 1e-8
        size = size + lr * eps * (np.abs(grad) + np.abs(decay)) / (np.abs(gradient) + eps) ** 2
    return (size,)


def bind_step(optimizer, param, grad, **options):
    """Bind one step on a copy of the parameter."""
    param = np.array(param)
    stepper = optimizer([param], **options)

    def step():
        stepper.step([grad])
        return param

    return step


def bind_clip(clip_grad_norm, a, b, max_norm):
    """Bind the clipping of copies of two gradients."""
    grads = [np.array(a), np.array(b)]
    return lambda: (a.dtype.type(clip_grad_norm(grads, max_norm)), *grads)


def bind_stats(column_stats, x):
    """Bind the statistics as a tuple."""
    return lambda: statistics(column_stats(x))


def statistics(stats):
    """Return all fields of column statistics."""
    return stats.count, stats.mean, stats.var, stats.min, stats.max, stats.std


def bind_normalizer(normalizer, x, **options):
    """Bind a normalizer's way there and back."""

    def there_and_back():
        n = normalizer(**options).fit(x)
        y = n.transform(x)
        return y, n.inverse_transform(y)

    return there_and_back


def normalizer_terms(*_, x, **__):
    """``(x - mean) / scale`` cancels where the columns vary less than they measure."""
    size = np.nanmax(np.abs(x), 0, initial=0)
    spread = np.nanmax(x, 0, initial=-np.inf) - np.nanmin(x, 0, initial=np.inf)
    return 1 + size + 8 * size / np.where(spread > 0, spread, 1), 2 * size


def normalizer(name, ulp, label="", **options) -> Case:
    """Return a normalizer."""
    return Case(
        "columns",
        name,
        draw_table,
        ulp,
        options,
        label,
        shapes=COLUMNS,
        benchmarks=() if label else ((1000, 30), (100_000, 30)),
        bind=bind_normalizer,
        magnitude=normalizer_terms,
    )


def linear(label="", activation=None, bias=True) -> list[Case]:
    """Return the linear layer and its gradients."""
    common = {
        "kind": "linear",
        "ulp": (6, 6),
        "options": {} if activation is None else {"activation": activation},
        "label": label,
        "shapes": PRODUCTS,
        "benchmarks": () if label else ((32, 64, 64), (256, 256, 256)),
    }
    cases = [
        Case(
            name="linear",
            draw=partial(draw_linear, bias=bias),
            magnitude=lambda _, **inputs: (linear_terms(**inputs),),
            **common,
        )
    ]
    if activation is None:
        cases.append(
            Case(
                name="linear_backward",
                draw=draw_linear_backward,
                magnitude=lambda *_, **inputs: gradient_terms(**inputs),
                **common,
            )
        )
    return cases


def linear_terms(x, weight, bias=0.0, activation=None):
    """Each result is a sum of products that cancel."""
    return np.abs(x) @ np.abs(weight).T + np.abs(bias)


def gradient_terms(dy, x, weight, bias):
    """Each gradient is, too."""
    dy = np.abs(dy)
    return dy @ np.abs(weight), dy.T @ np.abs(x), dy.sum(0)


def deviation(x, axis):
    """Return the standard deviation along an axis, which may be empty."""
    n = max(1, x.shape[axis])
    mean = x.sum(axis, keepdims=True) / n
    return np.sqrt(np.square(x - mean).sum(axis, keepdims=True) / n)


NORMS = [(n, c) for n in (2, 3, 17, 64) for c in (1, 2, 7, 16, 33)]
NORMS += [(0, 4), (1, 5), (1009, 10), (7001, 33), (127, 1000)]


def norm(name, axis, label="", *, running=False, **options) -> list[Case]:
    """Return a normalization of matrices, mean and variance along an axis, and its gradients."""
    forward = getattr(reference, name)
    common = {
        "kind": "norm",
        "options": options,
        "label": label,
        "shapes": NORMS,
        "benchmarks": () if label else ((1000, 32), (10_000, 256)),
    }

    def gradient_size(dx, dweight, dbias, *, dy, x, weight, **rest):
        # Each result is a sum along an axis that cancels, and so is what is taken from dy.
        spread = np.sqrt(rest["running_var"]) if running else deviation(x, axis)
        normal = 1 + np.abs(forward(x, **rest))
        if running:  # x - mean cancels
            normal = normal + (np.abs(x) + np.abs(rest["running_mean"])) / spread
        slope = np.abs(dy * weight)
        mean = 0 if running else slope.max(axis, keepdims=True, initial=0) * normal
        rows = np.abs(dy) * normal
        return (slope + mean) * normal / np.maximum(spread, 3e-3), rows.sum(0), np.abs(dy).sum(0)

    def size(y, *, x, weight, bias, **rest):
        # x - mean cancels where a feature is far from 0.
        center = np.abs(x).max(axis, keepdims=True, initial=0)
        center = center + np.abs(rest["running_mean"]) if running else center
        spread = np.sqrt(rest["running_var"]) if running else deviation(x, axis)
        spread = np.maximum(spread, 3e-3)
        return (np.abs(weight) * (np.abs(y) + center / spread) + np.abs(bias),)

    return [
        Case(
            name=name,
            draw=partial(draw_norm, running=running),
            ulp=(6, 6),
            magnitude=size,
            **common,
        ),
        Case(
            name=f"{name}_backward",
            draw=partial(draw_norm, running=running, backward=True),
            ulp=(12, 12),
            magnitude=gradient_size,
            **common,
        ),
    ]


def rms_norm() -> list[Case]:
    """Return the normalization of rows by their mean square, and its gradients."""
    # By default eps is that of the dtype, which the truth is not of.
    common = {
        "options": {"eps": 1e-5},
        "shapes": NORMS,
        "benchmarks": ((1000, 32), (10_000, 256)),
    }

    def draw(rng, shape, dtype):
        drawn = draw_norm(rng, shape, dtype)
        return {"x": drawn["x"], "weight": drawn["weight"]}

    def gradient_size(*_, dy, x, weight, eps):
        # Each result is a sum along an axis that cancels, and so is what is taken from dy.
        normal = 1 + np.abs(reference.rms_norm(x, eps=eps))
        root = np.sqrt(np.square(x).sum(1, keepdims=True) / max(1, x.shape[1]))
        slope = np.abs(dy * weight)
        mean = slope.max(1, keepdims=True, initial=0) * normal
        return (slope + mean) * normal / np.maximum(root, 3e-3), (np.abs(dy) * normal).sum(0)

    return [
        Case("norm", "rms_norm", draw, (6, 6), **common),
        Case(
            "norm",
            "rms_norm_backward",
            partial(draw_norm, backward=True),
            (12, 12),
            magnitude=gradient_size,
            **common,
        ),
    ]


def bind_clip_value(clip_grad_value, a, clip_value):
    """Bind the clipping of a copy of a gradient."""

    def clip():
        grad = np.array(a)
        clip_grad_value([grad], clip_value)
        return grad

    return clip


CASES: list[Case] = [
    *norm("layer_norm", 1),
    *rms_norm(),
    *norm("batch_norm", 0, "training", training=True),
    *norm("batch_norm", 0, running=True),
    *linear(),
    *linear("no-bias", bias=False),
    *linear("relu", "relu"),
    *linear("tanh", "tanh"),
    *activation("relu", (0, 0), backward_ulp=(0, 0)),
    *activation("leaky_relu", (1, 1), backward_ulp=(1, 1)),
    *activation("leaky_relu", (1, 1), backward_ulp=(1, 1), label="steep", negative_slope=0.3),
    *activation("elu", (2, 2), backward_ulp=(3, 3)),
    *activation("elu", (3, 3), backward_ulp=(3, 3), label="alpha", alpha=0.7),
    *activation("gelu", (8, 12), backward_ulp=(4, 4), cancels=True),
    *activation(
        "gelu",
        (8, 12),
        backward_ulp=(4, 4),
        size=rounded(lambda x: 1.6 * x + 0.072 * x**3),
        cancels=True,
        label="tanh",
        approximate="tanh",
    ),
    *activation("silu", (4, 4), backward_ulp=(4, 4), cancels=True),
    *activation("mish", (4, 4), backward_ulp=(5, 5), cancels=True),
    *activation("selu", (3, 3), backward_ulp=(3, 3)),
    *activation("sigmoid", (4, 4), backward_ulp=(5, 5)),
    *activation("tanh", (4, 4), backward_ulp=(6, 6)),
    *activation("softplus", (2, 2), backward_ulp=(4, 4)),
    *activation(
        "softplus",
        (4, 4),
        backward_ulp=(4, 4),
        label="beta",
        beta=2.3,
        threshold=5.0,
    ),
    *activation("log_sigmoid", (2, 2), backward_ulp=(4, 4)),
    *softmaxes("softmax", (4, 12), backward_ulp=(4, 4), undo=np.log, size=softmax_size),
    *softmaxes("log_softmax", (5, 5), backward_ulp=(4, 4), undo=np.asarray, size=log_softmax_size),
    *(
        Case(
            "softmax",
            "logsumexp",
            draw_row,
            (3, 3),
            options,
            label,
            shapes=ROWS,
            benchmarks=() if label else ((1000, 10), (100_000, 10), (1000, 1000)),
            magnitude=lambda _, x, axis=-1, keepdims=False: (
                np.abs(x).max(axis, keepdims=keepdims, initial=0),
            ),
        )
        for label, options in (("", {}), ("axis0", {"axis": 0}), ("kept", {"keepdims": True}))
    ),
    *class_loss("cross_entropy", "logits", (6, 16)),
    *class_loss("cross_entropy", "logits", (6, 16), label="weight", weighted=True, ignored=True),
    *class_loss(
        "cross_entropy", "logits", (6, 16), label="smooth", options={"label_smoothing": 0.1}
    ),
    *class_loss(
        "cross_entropy",
        "logits",
        (6, 16),
        label="weight-smooth",
        weighted=True,
        ignored=True,
        options={"label_smoothing": 0.1},
    ),
    *class_loss("cross_entropy", "logits", (6, 16), label="probabilities", probabilities=True),
    *class_loss(
        "cross_entropy",
        "logits",
        (6, 16),
        label="probabilities-smooth",
        probabilities=True,
        weighted=True,
        options={"label_smoothing": 0.1},
    ),
    *class_loss(
        "cross_entropy", "logits", (6, 16), label="one-row", shapes=[(1,), (10,), (97,), (50_000,)]
    ),
    *class_loss(
        "cross_entropy",
        "logits",
        (6, 16),
        label="images",
        shapes=[(2, 3, 5), (3, 4, 5, 7), (2, 3, 0), (3, 97, 5), (5, 10, 33, 33)],
        weighted=True,
    ),
    *class_loss("nll_loss", "input", (2, 16)),
    *class_loss("nll_loss", "input", (2, 16), label="weight", weighted=True, ignored=True),
    *loss("binary_cross_entropy", partial(draw_binary, first="input"), (5, 5), wrt="input"),
    *loss(
        "binary_cross_entropy",
        partial(draw_binary, first="input", weighted=True),
        (6, 6),
        label="weight",
        wrt="input",
    ),
    *loss(
        "binary_cross_entropy_with_logits",
        draw_binary,
        (5, 5),
        wrt="logits",
        magnitude=binary_terms,
    ),
    *loss(
        "binary_cross_entropy_with_logits",
        partial(draw_binary, weighted=True),
        (5, 5),
        label="weight",
        wrt="logits",
        magnitude=binary_terms,
    ),
    *loss("mse_loss", draw_pair, (4, 4)),
    *loss("mse_loss", partial(draw_pair, weighted=True), (4, 6), label="weight"),
    *loss("l1_loss", draw_pair, (2, 6)),
    *loss("l1_loss", partial(draw_pair, weighted=True), (4, 6), label="weight"),
    *loss("smooth_l1_loss", draw_pair, (5, 5)),
    *loss("smooth_l1_loss", draw_pair, (5, 5), label="beta", beta=0.3),
    *loss("smooth_l1_loss", partial(draw_pair, weighted=True), (5, 6), label="weight", beta=0.3),
    *loss("huber_loss", draw_pair, (5, 5)),
    *loss("huber_loss", draw_pair, (5, 6), label="delta", delta=0.3),
    *loss("huber_loss", partial(draw_pair, weighted=True), (5, 6), label="weight", delta=0.3),
    *loss("poisson_nll_loss", draw_pair, (4, 4), magnitude=poisson_terms),
    *loss(
        "poisson_nll_loss",
        partial(draw_pair, weighted=True),
        (4, 6),
        label="weight",
        magnitude=poisson_terms,
    ),
    *loss("quantile_loss", draw_pair, (4, 4)),
    *loss("quantile_loss", draw_pair, (4, 4), label="high", quantile=0.875),
    *loss(
        "quantile_loss", partial(draw_pair, weighted=True), (4, 6), label="weight", quantile=0.875
    ),
    *loss(
        "kl_div",
        partial(draw_divergence, log_target=False),
        (4, 4),
        wrt="input",
        reductions=("mean", "sum", "none", "batchmean"),
        shapes=[shape for shape in ELEMENTS if shape],
        magnitude=divergence_terms,
        log_target=False,
    ),
    *loss(
        "kl_div",
        partial(draw_divergence, log_target=False, weighted=True),
        (4, 6),
        label="weight",
        wrt="input",
        magnitude=divergence_terms,
        log_target=False,
    ),
    *loss(
        "kl_div",
        partial(draw_divergence, log_target=True),
        (4, 4),
        label="log_target",
        wrt="input",
        magnitude=divergence_terms,
        log_target=True,
    ),
    optimizer("SGD", (2, 2)),
    optimizer("SGD", (2, 2), "momentum", momentum=0.9, dampening=0.1, weight_decay=0.01),
    optimizer("SGD", (4, 4), "nesterov", momentum=0.9, nesterov=True, maximize=True, l1=0.05),
    optimizer("Adam", (5, 5)),
    optimizer("Adam", (5, 5), "amsgrad", amsgrad=True, weight_decay=0.01, maximize=True),
    optimizer("AdamW", (5, 5)),
    optimizer("AdamW", (5, 5), "l1", l1=0.05),
    Case(
        "optimizer",
        "clip_grad_norm",
        lambda rng, shape, dtype: {"a": normal(rng, shape, dtype), "b": normal(rng, 7, dtype)},
        (4, 6),
        {"max_norm": 1.0},
        bind=bind_clip,
        benchmarks=((1000,), (1_000_000,)),
    ),
    Case(
        "gradient",  # NumPy's own clip
        "clip_grad_value",
        lambda rng, shape, dtype: {"a": normal(rng, shape, dtype)},
        (0, 0),
        {"clip_value": 0.5},
        bind=bind_clip_value,
    ),
    Case(
        "columns",
        "column_stats",
        draw_table,
        (8, 8),
        shapes=COLUMNS,
        bind=bind_stats,
        benchmarks=((1000, 30), (100_000, 30)),
        magnitude=lambda _, __, var, ___, ____, std, x: (
            0,
            np.nanmax(np.abs(x), 0, initial=0),
            64 * var,
            0,
            0,
            32 * std,
        ),
    ),
    normalizer("MinMaxNormalizer", (1, 4)),
    normalizer("MinMaxNormalizer", (1, 4), "range", feature_range=(-1, 3), clip=True),
    normalizer("ZScoreNormalizer", (1, 64)),
    normalizer("ZScoreNormalizer", (1, 64), "mean", with_std=False),
]
