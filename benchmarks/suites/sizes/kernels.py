"""What is swept: kernels, how their inputs are drawn, and the ways to call them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

import dlcore

Call = Callable[[], object]


@dataclass(frozen=True)
class Kernel:
    """A kernel on arrays of one shape, any number of rows of so many columns."""

    name: str
    draw: Callable[..., tuple[np.ndarray, ...]]
    # Makes the function that is called, and its arguments, out of what was drawn.
    make: Callable[..., tuple[Callable[..., object], tuple[np.ndarray, ...]]]
    moved: int  # reads and writes of memory for each element
    columns: int = 0  # 0: one dimension
    takes_out: bool = True

    def shape(self, n: int) -> tuple[int, ...]:
        """Return a shape of about n elements."""
        return (max(1, round(n / self.columns)), self.columns) if self.columns else (n,)

    def size(self, n: int) -> int:
        """Return the elements of that shape."""
        return math.prod(self.shape(n))

    def calls(self, n: int, dtype) -> dict[str, Call]:
        """Return the ways to call the kernel on about n elements.

        "out" has all that it needs, "new" makes its output. "strided" reads every second element;
        "copied" is what it competes with: a contiguous copy first.
        """
        rng = np.random.default_rng(0)
        function, inputs = self.make(*self.draw(rng, self.shape(n), np.dtype(dtype)))
        out = {"out": np.empty_like(inputs[0])} if self.takes_out else {}
        apart = tuple(map(strided, inputs))
        copies = tuple(map(np.copy, inputs))

        def copied():
            for to, of in zip(copies, apart, strict=True):
                if of.dtype.kind == "f":
                    np.copyto(to, of)
            function(*copies, **out)

        calls = {"out": partial(function, *inputs, **out)}
        if self.takes_out:
            calls["new"] = partial(function, *inputs)
        return calls | {"strided": partial(function, *apart, **out), "copied": copied}


def strided(x):
    """Return every second element of a larger array; labels stay."""
    if x.dtype.kind != "f":
        return x
    larger = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), x.dtype)
    larger[..., ::2] = x
    return larger[..., ::2]


def normal(rng, shape, dtype):
    """Draw normal numbers."""
    return (rng.standard_normal(shape, dtype),)


def pair(rng, shape, dtype):
    """Draw normal numbers twice."""
    return rng.standard_normal(shape, dtype), rng.standard_normal(shape, dtype)


def binary(rng, shape, dtype):
    """Draw logits and whether."""
    return 3 * rng.standard_normal(shape, dtype), rng.integers(2, size=shape).astype(dtype)


def classes(rng, shape, dtype):
    """Draw logits and labels."""
    return 3 * rng.standard_normal(shape, dtype), rng.integers(shape[1], size=shape[0])


def plain(function):
    """Make a call of a function of what was drawn."""
    return lambda *inputs: (function, inputs)


def step(optimizer):
    """Make a step of an optimizer, a function of the gradient."""

    def make(param, grad):
        stepper = optimizer([param])
        return (lambda g: stepper.step([g])), (grad,)

    return make


def elementwise(name, draw, moved, function=None):
    """Return a kernel on one dimension."""
    return Kernel(name, draw, plain(function or getattr(dlcore, name)), moved)


def by_row(name, draw, moved, function, columns):
    """Return a kernel on rows, for each number of columns."""
    return [
        Kernel(f"{name} x{c}", draw, plain(getattr(dlcore, function)), moved, c) for c in columns
    ]


def normalizers(columns):
    """Return fit and transform."""
    return [
        kernel
        for label, normalizer in (
            ("z-score", dlcore.ZScoreNormalizer),
            ("min-max", dlcore.MinMaxNormalizer),
        )
        for c in columns
        for kernel in (
            Kernel(
                f"{label} fit x{c}",
                normal,
                lambda x, n=normalizer: (n().fit, (x,)),
                1,
                c,
                takes_out=False,
            ),
            Kernel(
                f"{label} transform x{c}",
                normal,
                lambda x, n=normalizer: (n().fit(x).transform, (x,)),
                2,
                c,
            ),
        )
    ]


KERNELS = {
    kernel.name: kernel
    for kernel in (
        elementwise("relu", normal, 2),
        elementwise("relu_backward", pair, 3),
        elementwise("gelu", normal, 2),
        elementwise("sigmoid", normal, 2),
        *by_row("softmax", normal, 2, "softmax", (10, 1001)),
        *by_row("cross_entropy", classes, 2, "cross_entropy_and_grad", (3, 10, 17, 37, 1001)),
        elementwise("bce_with_logits", binary, 3, dlcore.binary_cross_entropy_with_logits_and_grad),
        elementwise("mse_loss", pair, 3, dlcore.mse_loss_and_grad),
        Kernel("Adam", pair, step(dlcore.Adam), 7, takes_out=False),
        Kernel("SGD", pair, step(partial(dlcore.SGD, momentum=0.9)), 5, takes_out=False),
        *normalizers((10, 32)),
    )
}

# Numbers of classes around the widths of registers and the largest short row.
EDGES = (2, 3, 7, 8, 9, 10, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 66, 80, 96, 127, 128, 129, 257)
BY_CLASSES = {
    kernel.name: kernel
    for kernel in (
        *by_row("softmax", normal, 2, "softmax", EDGES),
        *by_row("cross_entropy", classes, 2, "cross_entropy_and_grad", EDGES),
        *(k for k in normalizers(EDGES) if k.name.startswith("z-score")),
    )
}
