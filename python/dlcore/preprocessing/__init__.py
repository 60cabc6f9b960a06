"""Scaling, encoding, splitting and augmentation of data."""

from dlcore.preprocessing import (
    _images,
    _mixing,
    _piecewise,
    _quantile,
    _robust,
    _scaling,
    _splitting,
)
from dlcore.preprocessing._images import *
from dlcore.preprocessing._mixing import *
from dlcore.preprocessing._piecewise import *
from dlcore.preprocessing._quantile import *
from dlcore.preprocessing._robust import *
from dlcore.preprocessing._scaling import *
from dlcore.preprocessing._splitting import *

__all__: list[str] = []
__all__ += _images.__all__
__all__ += _mixing.__all__
__all__ += _piecewise.__all__
__all__ += _quantile.__all__
__all__ += _robust.__all__
__all__ += _scaling.__all__
__all__ += _splitting.__all__
