"""Mini-batch training: data, batches, the step, the loop, `Trainer`."""

from dlcore.training._trainer import Trainer

__all__ = ["Trainer"]
