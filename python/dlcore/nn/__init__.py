"""Layers, losses and networks; initial weights, transfer, files of weights."""

from dlcore.nn import (
    _embeddings,
    _featurewise,
    _keras,
    _layers,
    _losses,
    _members,
    _multi_target,
    _number_embeddings,
    _numbers,
    _parallel,
    _parameter_groups,
    _sequential,
    _serialization,
    _transfer,
)
from dlcore.nn._embeddings import *
from dlcore.nn._featurewise import *
from dlcore.nn._initialization import initialize
from dlcore.nn._keras import *
from dlcore.nn._layers import *
from dlcore.nn._losses import *
from dlcore.nn._members import *
from dlcore.nn._multi_target import *
from dlcore.nn._number_embeddings import *
from dlcore.nn._numbers import *
from dlcore.nn._parallel import *
from dlcore.nn._parameter_groups import *
from dlcore.nn._sequential import *
from dlcore.nn._serialization import *
from dlcore.nn._transfer import *

__all__: list[str] = []
__all__ += _embeddings.__all__
__all__ += _featurewise.__all__
__all__ += _keras.__all__
__all__ += _layers.__all__
__all__ += _losses.__all__
__all__ += _members.__all__
__all__ += _multi_target.__all__
__all__ += _number_embeddings.__all__
__all__ += _numbers.__all__
__all__ += _parallel.__all__
__all__ += _parameter_groups.__all__
__all__ += _sequential.__all__
__all__ += _serialization.__all__
__all__ += _transfer.__all__
# The functions for arrays are those of `dlcore.init`.
__all__ += ["initialize"]
