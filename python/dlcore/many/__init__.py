"""Many networks at once: independent fits, ensembles of them, folds, sweeps."""

from dlcore.many import _cross_validation, _ensemble, _fit_many, _space, _sweep
from dlcore.many._cross_validation import *
from dlcore.many._ensemble import *
from dlcore.many._fit_many import *
from dlcore.many._space import *
from dlcore.many._sweep import *

__all__: list[str] = []
__all__ += _cross_validation.__all__
__all__ += _ensemble.__all__
__all__ += _fit_many.__all__
__all__ += _space.__all__
__all__ += _sweep.__all__
