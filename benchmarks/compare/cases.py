"""The registry: what is compared, on which inputs, and how much faster dlcore has to be.

An entry of ``KERNELS`` says how inputs are drawn, what the true result is, how much memory moves,
and gives for each shape the ratios "must" and "aim" of the best peer's time to dlcore's. Every peer
files its calls under the kernel's name.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

DTYPES = ("float32", "float64")
WIDER = {np.dtype(np.float32): np.float64, np.dtype(np.float64): np.longdouble}
LARGE = 10**7  # elements, from which on the speed is set beside that of plain memory streams
STEPS = 3  # calls before a result is looked at: optimizers shall have a history by then
LR, BETAS, EPS, MOMENTUM = 1e-3, (0.9, 0.999), 1e-8, 0.9

Results = list[tuple[np.ndarray, np.ndarray | float]]


@dataclass(frozen=True)
class Kernel:
    """What is computed."""

    name: str
    draw: Callable[..., tuple[np.ndarray, ...]]
    # Results in the dtype of the inputs. Where one is a difference, the size of its terms stands
    # beside it: its ULP is taken there.
    truth: Callable[..., Results]
    moved: int  # reads and writes of memory for each element
    stream: str  # the plain stream that moves memory in the same way
    targets: dict[tuple[int, ...], tuple[float, float]]  # (must, aim) for each shape


@dataclass(frozen=True)
class Case:
    """A kernel on one shape."""

    kernel: Kernel
    shape: tuple[int, ...]
    must: float
    aim: float

    @property
    def name(self) -> str:
        """Kernel and shape, such as ``relu 1000``."""
        return f"{self.kernel.name} {'x'.join(map(str, self.shape))}"

    @property
    def large(self) -> bool:
        """Whether memory decides."""
        return math.prod(self.shape) >= LARGE

    def inputs(self, dtype) -> tuple[np.ndarray, ...]:
        """Draw the inputs, the same ones in every process."""
        return self.kernel.draw(np.random.default_rng(0), self.shape, np.dtype(dtype))

    def truth(self, inputs) -> Results:
        """Compute the results in the next wider dtype."""
        return self.kernel.truth(*(x.astype(WIDER.get(x.dtype, x.dtype)) for x in inputs))

    def bytes(self, dtype) -> int:
        """Return the bytes that a call reads and writes at the least."""
        return self.kernel.moved * math.prod(self.shape) * np.dtype(dtype).itemsize


def draw_normal(rng, shape, dtype):
    return (rng.standard_normal(shape, dtype),)


def draw_pair(rng, shape, dtype):
    return rng.standard_normal(shape, dtype), rng.standard_normal(shape, dtype)


def draw_classes(rng, shape, dtype):
    return 3 * rng.standard_normal(shape, dtype), rng.integers(shape[1], size=shape[0])


def draw_binary(rng, shape, dtype):
    return 3 * rng.standard_normal(shape, dtype), rng.integers(2, size=shape).astype(dtype)


def draw_table(rng, shape, dtype):
    return (2 * rng.standard_normal(shape, dtype) + 5,)


def draw_z_score(rng, shape, dtype):
    """Return a table with the mean and the deviation of its columns."""
    (x,) = draw_table(rng, shape, dtype)
    return x, x.mean(0, np.float64).astype(dtype), x.std(0, np.float64).astype(dtype)


def draw_min_max(rng, shape, dtype):
    """Return a table with the minimum and the range of its columns."""
    (x,) = draw_table(rng, shape, dtype)
    return x, x.min(0), np.ptp(x, 0)


def cross_entropy_and_grad(logits, target):
    rows = np.arange(len(logits))
    largest = logits.max(1, keepdims=True)
    grad = np.exp(logits - largest)
    total = grad.sum(1, keepdims=True)
    loss = np.mean(np.log(total) + largest - logits[rows, target, None])
    grad /= total * len(logits)
    hot = np.zeros_like(grad)
    hot[rows, target] = 1 / len(logits)
    grad -= hot
    return [(loss, 0.0), (grad, hot)]


def bce_with_logits_and_grad(logits, target):
    small = np.exp(-np.abs(logits))
    loss = np.mean(np.maximum(logits, 0) - logits * target + np.log1p(small))
    sigmoid = np.where(logits >= 0, 1, small) / (1 + small)
    return [(loss, 0.0), ((sigmoid - target) / target.size, target / target.size)]


def relu(x):
    return [(np.maximum(x, 0), 0.0)]


def relu_backward(dy, x):
    return [(np.where(x > 0, dy, 0), 0.0)]


def optimized(update, params, grads):
    """Return each parameter after its updates; it cancels with them."""
    after = params.copy()
    update(after, grads)
    return list(zip(after, np.abs(params) + np.abs(after - params), strict=True))


def adam(p, g):
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t in range(1, STEPS + 1):
        m = BETAS[0] * m + (1 - BETAS[0]) * g
        v = BETAS[1] * v + (1 - BETAS[1]) * g * g
        root = np.sqrt(v / (1 - BETAS[1] ** t)) + EPS
        p -= LR / (1 - BETAS[0] ** t) * m / root


def sgd_momentum(p, g):
    velocity = np.zeros_like(p)
    for _ in range(STEPS):
        velocity = MOMENTUM * velocity + g
        p -= LR * velocity


def z_score_fit(x):
    return [(x.mean(0), 0.0), (x.var(0), 0.0)]


def min_max_fit(x):
    return [(x.min(0), 0.0), (x.max(0), 0.0)]


def z_score_transform(x, *_):
    scale = x.std(0)
    return [((x - x.mean(0)) / scale, np.abs(x) / scale)]


def min_max_transform(x, *_):
    scale = np.ptp(x, 0)
    return [((x - x.min(0)) / scale, np.abs(x) / scale)]


SMALL, MIDDLE, GREAT = (10**3,), (10**5,), (10**7,)
ONE_SMALL, ONE_MIDDLE, ONE_GREAT, MANY = (1, 10**3), (1, 10**5), (1, 10**7), (100, 10**3)
TABLES = (100, 10), (10_000, 32), (1_000_000, 32)


def tables(*targets):
    return dict(zip(TABLES, targets, strict=True))


KERNELS = [
    Kernel(
        "cross_entropy_and_grad",
        draw_classes,
        cross_entropy_and_grad,
        moved=2,
        stream="copy",
        targets={
            (32, 10): (8, 15),
            (8192, 10): (4, 8),
            (65536, 10): (4, 8),
            (4096, 1000): (2, 3),
            (1024, 50257): (4, 6),
        },
    ),
    Kernel(
        "bce_with_logits_and_grad",
        draw_binary,
        bce_with_logits_and_grad,
        moved=3,
        stream="copy",
        targets={SMALL: (10, 15), MIDDLE: (6, 10), GREAT: (6, 9)},
    ),
    Kernel(
        "relu",
        draw_normal,
        relu,
        moved=2,
        stream="copy",
        targets={SMALL: (1.2, 2), MIDDLE: (1, 1.2), GREAT: (1, 1.1)},
    ),
    Kernel(
        "relu_backward",
        draw_pair,
        relu_backward,
        moved=3,
        stream="copy",
        targets={SMALL: (1.5, 3), MIDDLE: (1.3, 2), GREAT: (1, 1.1)},
    ),
    Kernel(  # of optimizers the shape is (arrays, elements of each)
        "adam_step",
        draw_pair,
        lambda p, g: optimized(adam, p, g),
        moved=7,
        stream="scale",
        targets={ONE_SMALL: (6, 10), ONE_MIDDLE: (2, 3), ONE_GREAT: (1, 1.1), MANY: (10, 20)},
    ),
    Kernel(
        "sgd_momentum_step",
        draw_pair,
        lambda p, g: optimized(sgd_momentum, p, g),
        moved=5,
        stream="scale",
        targets={ONE_SMALL: (2, 4), ONE_MIDDLE: (2, 3), ONE_GREAT: (1, 1.1), MANY: (10, 20)},
    ),
    Kernel(
        "z_score_fit",
        draw_table,
        z_score_fit,
        moved=1,
        stream="read",
        targets=tables((3, 6), (3, 5), (1.8, 2.8)),
    ),
    Kernel(
        "min_max_fit",
        draw_table,
        min_max_fit,
        moved=1,
        stream="read",
        targets=tables((2, 4), (2, 3), (1.5, 2.2)),
    ),
    Kernel(
        "z_score_transform",
        draw_z_score,
        z_score_transform,
        moved=2,
        stream="copy",
        targets=tables((1.5, 3), (2, 4), (1.4, 1.8)),
    ),
    Kernel(
        "min_max_transform",
        draw_min_max,
        min_max_transform,
        moved=2,
        stream="copy",
        targets=tables((1.5, 3), (2, 4), (1.4, 1.8)),
    ),
]

CASES = {
    case.name: case
    for kernel in KERNELS
    for shape, (must, aim) in kernel.targets.items()
    for case in [Case(kernel, shape, must, aim)]
}
