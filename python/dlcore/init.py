"""Initial values of weights, for arrays; `dlcore.initialize` is for models."""

from dlcore.nn import _initialization
from dlcore.nn._initialization import *

__all__: list[str] = []
__all__ += _initialization.__all__
