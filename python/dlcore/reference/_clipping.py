"""Clipping of gradients in plain NumPy."""

from collections.abc import Sequence

import numpy as np

from dlcore.reference._activations import Array

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(grads: Sequence[Array], max_norm: float) -> float:
    """Scale the gradients in place by ``min(1, max_norm / (norm + 1e-6))`` and return ``norm``.

    ``norm`` is the Euclidean norm of all gradients together
    (``torch.nn.utils.clip_grad_norm_``; Pascanu et al., 2013).
    """
    norm = float(np.sqrt(sum(np.sum(np.square(g, dtype=np.longdouble)) for g in grads)))
    for g in grads:
        g *= min(1.0, max_norm / (norm + 1e-6))
    return norm


def clip_grad_value(grads: Sequence[Array], clip_value: float) -> None:
    """Limit each element of the gradients to ±clip_value in place."""
    for g in grads:
        g[...] = np.where(g > clip_value, clip_value, np.where(g < -clip_value, -clip_value, g))
