"""Clipping of gradients in plain NumPy."""

from collections.abc import Sequence

import numpy as np

from dlcore.reference._activations import Array

__all__ = ["clip_grad_norm", "clip_grad_value"]


def clip_grad_norm(
    grads: Sequence[Array],
    max_norm: float,
    norm_type: float = 2.0,
    error_if_nonfinite: bool = False,
) -> float:
    """Scale the gradients in place by ``min(1, max_norm / (norm + 1e-6))`` and return ``norm``.

    ``norm`` is the ``norm_type``-norm of all gradients together, taken of elements that the largest
    one has divided (``torch.nn.utils.clip_grad_norm_``; Pascanu et al., 2013).
    """
    absolute = [np.abs(g, dtype=np.longdouble).ravel() for g in grads]
    largest = np.max([a.max(initial=0) for a in absolute], initial=0)
    norm = float(largest)
    if 0 < norm < np.inf and norm_type < np.inf:
        powers = sum(np.sum((a / largest) ** norm_type) for a in absolute)
        norm = float(largest * powers ** (np.longdouble(1) / norm_type))
    if error_if_nonfinite and not np.isfinite(norm):
        raise RuntimeError(f"the norm is {norm}")
    if max_norm < np.inf:
        for g in grads:
            g *= min(1.0, max_norm / (norm + 1e-6))
    return norm


def clip_grad_value(grads: Sequence[Array], clip_value: float) -> None:
    """Limit each element of the gradients to ±clip_value in place."""
    for g in grads:
        g[...] = np.where(g > clip_value, clip_value, np.where(g < -clip_value, -clip_value, g))
