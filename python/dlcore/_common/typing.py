"""Types of the annotations."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

# An array whose dtype and shape the kernels check when they run.
Array: TypeAlias = NDArray[Any]
# A NumPy scalar, or an array of losses with reduction="none".
Loss: TypeAlias = np.floating[Any] | Array
LossAndGrad: TypeAlias = tuple[Loss, Array]
# How the losses of elements or rows become one, so that type checkers find a word that is none.
Reduction: TypeAlias = Literal["none", "mean", "sum"]
BatchReduction: TypeAlias = Literal["none", "mean", "sum", "batchmean"]
# Of the normal distribution in gelu.
Approximation: TypeAlias = Literal["none", "tanh"]
