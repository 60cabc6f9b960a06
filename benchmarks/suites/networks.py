"""Networks, the data that they learn, and the products of their layers."""

import zlib
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

NOISE = 1.0  # of the targets: no network learns them all, so that no gradient dies away


@dataclass(frozen=True)
class Case:
    """A network, the data it learns, and how; ReLU between its layers."""

    widths: tuple[int, ...]
    batch: int
    rows: int
    must: float | None = None
    aim: float | None = None
    loss: str = "cross_entropy"
    optimizer: str = "adam"
    dtype: str = "float32"

    @cached_property
    def name(self) -> str:
        """The network, the batch, and what is not as usual."""
        usual = ("cross_entropy", "adam", "float32")
        unusual = [
            option
            for option, default in zip((self.loss, self.optimizer, self.dtype), usual, strict=True)
            if option != default
        ]
        return " ".join(["-".join(map(str, self.widths)), f"batch {self.batch}", *unusual])

    @property
    def steps(self) -> int:
        """Updates of an epoch; the last batch may be shorter."""
        return -(-self.rows // self.batch)

    @property
    def flops(self) -> int:
        """Floating-point operations of the matrix products of an epoch.

        Forward, and the gradients of the weights and of the inputs, but not those of the data.
        """
        products = [a * b for a, b in pairwise(self.widths)]
        return (6 * sum(products) - 2 * products[0]) * self.rows

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Draw x and y, the same ones in every process; y is (rows, out) for a regression."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        x = rng.standard_normal((self.rows, self.widths[0]), np.float32)
        teacher = rng.standard_normal((self.widths[0], self.widths[-1]), np.float32)
        y = np.tanh(x @ teacher) + NOISE * rng.standard_normal((self.rows, self.widths[-1]))
        x = x.astype(self.dtype)
        return x, y.argmax(1) if self.loss == "cross_entropy" else y.astype(self.dtype)

    def parameters(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Draw (weight, bias) of each layer, weight of shape (out, in), as PyTorch does."""
        rng = np.random.default_rng(0)
        return [
            tuple(
                rng.uniform(-(fan_in**-0.5), fan_in**-0.5, shape).astype(self.dtype)
                for shape in ((fan_out, fan_in), (fan_out,))
            )
            for fan_in, fan_out in pairwise(self.widths)
        ]


SMALL, MIDDLE, DIGITS = (20, 64, 64, 2), (54, 256, 256, 7), (784, 256, 128, 10)

TARGETS = [
    Case(SMALL, 32, 20_000, must=3.5, aim=3.8),
    Case(MIDDLE, 256, 50_000, must=2.1, aim=2.3),
    Case(DIGITS, 128, 30_000, must=1.6, aim=1.7),
    Case((784, 1024, 1024, 10), 512, 10_240, must=1.1, aim=1.3),
]
MORE = [
    Case((37, 91, 11), 32, 10_000),  # no width is a multiple of a register
    Case(SMALL, 1, 2_000),
    Case(MIDDLE, 7, 7_000),
    Case(MIDDLE, 4096, 40_960),
    Case((30, 128, 128, 1), 64, 20_000, loss="mse"),
    Case(MIDDLE, 256, 50_000, dtype="float64"),
    Case(SMALL, 32, 20_000, optimizer="sgd"),
]


@dataclass(frozen=True)
class Product:
    """The matrix products of a linear layer, without bias, in float32."""

    rows: int
    inputs: int
    outputs: int
    form: str  # "forward", or "backward": the gradients of the inputs and of the weights

    dtype = "float32"

    @property
    def name(self) -> str:
        """The layer, the rows, and the form."""
        return f"{self.inputs}-{self.outputs} rows {self.rows} {self.form}"

    @property
    def flops(self) -> int:
        """Floating-point operations."""
        return 2 * self.rows * self.inputs * self.outputs * (1 if self.form == "forward" else 2)

    def data(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw x, the weight of shape (outputs, inputs), and the gradient of the outputs."""
        rng = np.random.default_rng(0)
        shapes = (self.rows, self.inputs), (self.outputs, self.inputs), (self.rows, self.outputs)
        return tuple(rng.standard_normal(shape, np.float32) for shape in shapes)


PRODUCTS = {
    product.name: product
    for rows, inputs, outputs in (
        (32, 64, 64),
        (128, 128, 128),
        (256, 54, 256),
        (256, 256, 256),
        (128, 784, 256),
        (256, 512, 512),
        (512, 1024, 1024),
    )
    for form in ("forward", "backward")
    for product in [Product(rows, inputs, outputs, form)]
}

# Of inference: all rows at once.
INFERENCE = {
    f"{'-'.join(map(str, widths))} rows {rows}": Case(widths, rows, rows)
    for widths in (SMALL, DIGITS)
    for rows in (1, 1024)
}
