"""Functions of each element in ONNX."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore.reference._activations import SELU_ALPHA, SELU_SCALE

if TYPE_CHECKING:
    from dlcore.export._onnx_nodes import Nodes
    from dlcore.export._steps import Activation


class Activations:
    """Writes functions of each element.

    Parameters
    ----------
    nodes : Nodes
    dtype : dtype
        Of what is computed.
    """

    def __init__(self, nodes: Nodes, dtype: np.dtype[Any]) -> None:
        self.nodes, self.dtype = nodes, dtype
        self.add = nodes.add
        self._is_double = dtype == np.float64

    def number(self, value: Any) -> str:
        """Add a number or an array of the dtype."""
        return self.nodes.constant(np.asarray(value, self.dtype))

    def activation(self, x: str, step: Activation) -> str:
        """Write the function of each element."""
        write = getattr(self, f"_{step.kernel}", None)
        if write is None:
            raise TypeError(f"to_onnx: the activation {step.kernel} has no export")
        written: str = write(x, **step.options)
        return written

    def _where_positive(self, x: str, positive: str, otherwise: str) -> str:
        return self.add("Where", self.add("Greater", x, self.number(0)), positive, otherwise)

    def _relu(self, x: str) -> str:
        return self.add("Relu", x)

    def _leaky_relu(self, x: str, negative_slope: float) -> str:
        if not self._is_double:
            return self.add("LeakyRelu", x, alpha=float(negative_slope))
        return self._where_positive(x, x, self.add("Mul", x, self.number(negative_slope)))

    def _elu(self, x: str, alpha: float) -> str:
        if not self._is_double:
            return self.add("Elu", x, alpha=float(alpha))
        e = self.add("Exp", self.add("Min", x, self.number(0)))
        below = self.add("Mul", self.add("Sub", e, self.number(1)), self.number(alpha))
        return self._where_positive(x, x, below)

    def _gelu(self, x: str, approximate: str) -> str:
        if approximate == "tanh":
            cube = self.add("Mul", self.add("Mul", x, x), x)
            inner = self.add("Add", x, self.add("Mul", cube, self.number(0.044715)))
            inner = self.add("Mul", inner, self.number(math.sqrt(2 / math.pi)))
            bend = self.add("Tanh", inner)
        elif self._is_double:
            raise TypeError(
                "to_onnx: GELU of float64 has no export, since ONNX Runtime has no error function of "
                'float64; pass dtype="float32", or train with GELU("tanh")'
            )
        else:
            bend = self.add("Erf", self.add("Mul", x, self.number(math.sqrt(0.5))))
        half = self.add("Mul", x, self.number(0.5))
        return self.add("Mul", half, self.add("Add", bend, self.number(1)))

    def _silu(self, x: str) -> str:
        return self.add("Mul", x, self.add("Sigmoid", x))

    def _mish(self, x: str) -> str:
        e, is_positive = self._exp_negative(x)
        two = self.number(2)
        right = self.add("Add", self.add("Mul", e, two), self.number(1))
        of_tanh = self.add("Where", is_positive, right, self.add("Mul", e, self.add("Add", e, two)))
        square = self.add("Mul", self.add("Mul", e, e), two)
        rest = self.add("Where", is_positive, square, two)
        return self.add("Mul", x, self.add("Div", of_tanh, self.add("Add", of_tanh, rest)))

    def _selu(self, x: str) -> str:
        if not self._is_double:
            return self.add("Selu", x)
        e = self.add("Exp", self.add("Min", x, self.number(0)))
        below = self.add("Sub", e, self.number(1))
        below = self.add("Mul", below, self.number(SELU_SCALE * SELU_ALPHA))
        return self._where_positive(x, self.add("Mul", x, self.number(SELU_SCALE)), below)

    def _sigmoid(self, x: str) -> str:
        return self.add("Sigmoid", x)

    def _tanh(self, x: str) -> str:
        return self.add("Tanh", x)

    def _softplus(self, x: str, beta: float, threshold: float) -> str:
        z = x if beta == 1 else self.add("Mul", x, self.number(beta))
        smooth = self._smooth(z)
        if beta != 1:
            smooth = self.add("Div", smooth, self.number(beta))
        if not self._is_double and threshold >= 20:  # from there on they are equal
            return smooth
        return self.add("Where", self.add("Greater", z, self.number(threshold)), x, smooth)

    def _log_sigmoid(self, x: str) -> str:
        return self.add("Neg", self._smooth(self.add("Neg", x)))

    def _smooth(self, x: str) -> str:
        """Write ``log(1 + exp(x))``."""
        if not self._is_double:
            return self.add("Softplus", x)
        e, _ = self._exp_negative(x)
        log = self.add("Log", self.add("Add", e, self.number(1)))
        return self.add("Add", self.add("Max", x, self.number(0)), log)

    def _exp_negative(self, x: str) -> tuple[str, str]:
        """Write ``e ** -abs(x)`` and whether x is positive."""
        e = self.add("Exp", self.add("Neg", self.add("Abs", x)))
        return e, self.add("Greater", x, self.number(0))
