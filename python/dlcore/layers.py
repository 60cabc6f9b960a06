"""The layers of a network, and `Layer`, their base class."""

from dlcore.nn import _embeddings, _layers, _members, _number_embeddings, _numbers, _parallel
from dlcore.nn._embeddings import *
from dlcore.nn._layers import *
from dlcore.nn._members import *
from dlcore.nn._number_embeddings import *
from dlcore.nn._numbers import *
from dlcore.nn._parallel import *

__all__: list[str] = []
__all__ += _embeddings.__all__
__all__ += _layers.__all__
__all__ += _members.__all__
__all__ += _number_embeddings.__all__
__all__ += _numbers.__all__
__all__ += _parallel.__all__
