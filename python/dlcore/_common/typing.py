"""Types of the annotations."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

# An array whose dtype and shape the kernels check when they run.
Array: TypeAlias = NDArray[Any]
# A NumPy scalar, or an array of losses with reduction="none".
Loss: TypeAlias = np.floating[Any] | Array
LossAndGrad: TypeAlias = tuple[Loss, Array]
