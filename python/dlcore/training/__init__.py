"""Mini-batch training: data, batches, the step, the loop, `Trainer`; `predict`."""

from dlcore.training._predict import predict
from dlcore.training._trainer import Trainer

__all__ = ["Trainer", "predict"]
