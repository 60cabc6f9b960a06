"""The layers of a network, and `Layer`, their base class."""

from dlcore.nn import _layers
from dlcore.nn._layers import *

__all__: list[str] = []
__all__ += _layers.__all__
