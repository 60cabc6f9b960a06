"""What watches a fit, what it logged, and what that shows."""

from dlcore.callbacks import (
    _averaging,
    _callback,
    _checkpoint,
    _diagnosis,
    _early_stopping,
    _history,
    _loggers,
    _optuna,
    _reduce_lr,
    _scheduled,
)
from dlcore.callbacks._averaging import *
from dlcore.callbacks._callback import *
from dlcore.callbacks._checkpoint import *
from dlcore.callbacks._diagnosis import *
from dlcore.callbacks._early_stopping import *
from dlcore.callbacks._history import *
from dlcore.callbacks._loggers import *
from dlcore.callbacks._optuna import *
from dlcore.callbacks._reduce_lr import *
from dlcore.callbacks._scheduled import *

__all__: list[str] = []
__all__ += _averaging.__all__
__all__ += _callback.__all__
__all__ += _checkpoint.__all__
__all__ += _diagnosis.__all__
__all__ += _early_stopping.__all__
__all__ += _history.__all__
__all__ += _loggers.__all__
__all__ += _optuna.__all__
__all__ += _reduce_lr.__all__
__all__ += _scheduled.__all__
