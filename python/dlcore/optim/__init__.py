"""Optimizers, and learning rates by step."""

from dlcore.optim import (
    _adam,
    _optimizer,
    _schedules,
    _sgd,
)
from dlcore.optim._adam import *
from dlcore.optim._optimizer import *
from dlcore.optim._schedules import *
from dlcore.optim._sgd import *

__all__: list[str] = []
__all__ += _adam.__all__
__all__ += _optimizer.__all__
__all__ += _schedules.__all__
__all__ += _sgd.__all__
