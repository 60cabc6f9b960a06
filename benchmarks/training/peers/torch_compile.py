"""PyTorch with the model and the loss compiled; rows are gathered and weights updated as before."""

import logging

import torch

from .torch import epochs, library

__all__ = ["library", "train"]

torch._logging.set_logs(dynamo=logging.ERROR)  # that profiling is left out is no news


def train(case):
    torch.compiler.reset()  # recompiling the same code too often would give up
    return epochs(case, lambda function: torch.compile(function, dynamic=False))
