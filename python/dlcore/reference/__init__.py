"""Every kernel of dlcore in plain NumPy: the specification that the C++ kernels are tested against.

The functions have the names and the options of the public ones, less ``out``. They compute in the
dtype of their input, ``numpy.longdouble`` included, so a wider input gives a wider truth.
They are written to be read, not to be fast.
"""

from dlcore.reference import (
    _activations,
    _clipping,
    _column_stats,
    _linear,
    _losses,
    _normalization,
    _optimizers,
    _scaling,
)
from dlcore.reference._activations import *
from dlcore.reference._clipping import *
from dlcore.reference._column_stats import *
from dlcore.reference._linear import *
from dlcore.reference._losses import *
from dlcore.reference._normalization import *
from dlcore.reference._optimizers import *
from dlcore.reference._scaling import *

__all__: list[str] = []
__all__ += _activations.__all__
__all__ += _clipping.__all__
__all__ += _column_stats.__all__
__all__ += _linear.__all__
__all__ += _losses.__all__
__all__ += _normalization.__all__
__all__ += _optimizers.__all__
__all__ += _scaling.__all__
