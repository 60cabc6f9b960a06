"""Many networks at once: independent fits, and ensembles of them."""

from dlcore.many import _ensemble, _fit_many
from dlcore.many._ensemble import *
from dlcore.many._fit_many import *

__all__: list[str] = []
__all__ += _ensemble.__all__
__all__ += _fit_many.__all__
