"""Kernels called on arrays: each function checks its arguments, allocates and calls.

One basename is the map: what a module here computes is specified by the module of that name in
`dlcore.reference`.
"""

from dlcore.functional import (
    _activations,
    _clipping,
    _column_stats,
    _linear,
    _losses,
    _normalization,
    _one_hot,
)
from dlcore.functional._activations import *
from dlcore.functional._clipping import *
from dlcore.functional._column_stats import *
from dlcore.functional._information import (
    categorical_cross_entropy,
    categorical_cross_entropy_and_grad,
    entropy,
    label_entropy,
    relative_entropy,
)
from dlcore.functional._linear import *
from dlcore.functional._losses import *
from dlcore.functional._normalization import *
from dlcore.functional._one_hot import *

__all__: list[str] = []
__all__ += _activations.__all__
__all__ += _clipping.__all__
__all__ += _column_stats.__all__
__all__ += _linear.__all__
__all__ += _losses.__all__
__all__ += _normalization.__all__
__all__ += _one_hot.__all__
# Its cross_entropy, of distributions, is `dlcore.information.cross_entropy`.
__all__ += [
    "categorical_cross_entropy",
    "categorical_cross_entropy_and_grad",
    "entropy",
    "label_entropy",
    "relative_entropy",
]
