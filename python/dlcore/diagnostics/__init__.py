"""How a model learns: by the number of rows, by the learning rate."""

from dlcore.diagnostics import (
    _learning_curve,
    _lr_find,
)
from dlcore.diagnostics._learning_curve import *
from dlcore.diagnostics._lr_find import *

__all__: list[str] = []
__all__ += _learning_curve.__all__
__all__ += _lr_find.__all__
