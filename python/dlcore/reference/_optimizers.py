"""Optimizers in plain NumPy: the updates of ``torch.optim``, formula by formula."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dlcore.reference._activations import Array

__all__ = ["SGD", "Adam", "AdamW"]


class SGD:
    """Stochastic gradient descent (``torch.optim.SGD``).

    ``g = grad + weight_decay p``; ``b = momentum b + (1 - dampening) g``, at the first step
    ``b = g``; the update is ``p -= lr b``, with Nesterov ``p -= lr (g + momentum b)``.
    """

    def __init__(
        self,
        params: Sequence[Array],
        lr: float = 1e-3,
        *,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        maximize: bool = False,
        l1: float = 0.0,
    ) -> None:
        self.params = params
        self.lr = lr
        self.momentum = momentum
        self.dampening = dampening
        self.weight_decay = weight_decay
        self.nesterov = nesterov
        self.maximize = maximize
        self.l1 = l1
        self._buffers: list[Array] | None = None

    def step(self, grads: Sequence[Array]) -> None:
        """Update the parameters in place."""
        directions = [
            (-g if self.maximize else g) + self.weight_decay * p
            for p, g in zip(self.params, grads, strict=True)
        ]
        if self.momentum:
            if self._buffers is None:
                self._buffers = [np.array(g) for g in directions]
            else:
                for b, g in zip(self._buffers, directions, strict=True):
                    b[...] = self.momentum * b + (1 - self.dampening) * g
            directions = [
                g + self.momentum * b if self.nesterov else b
                for b, g in zip(self._buffers, directions, strict=True)
            ]
        for p, d in zip(self.params, directions, strict=True):
            p -= self.lr * d
            _shrink(p, self.lr * self.l1)


class Adam:
    """Adam (Kingma & Ba, 2015; ``torch.optim.Adam``).

    ``m += (1 - beta1) (g - m)``; ``v = beta2 v + (1 - beta2) g^2``;
    ``p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)``. With ``amsgrad`` the
    largest ``v`` so far takes the place of ``v`` (Reddi et al., 2018). Weight decay is
    ``g += weight_decay p``, decoupled ``p *= 1 - lr weight_decay`` (Loshchilov & Hutter, 2019).
    """

    def __init__(
        self,
        params: Sequence[Array],
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        maximize: bool = False,
        decoupled_weight_decay: bool = False,
        l1: float = 0.0,
    ) -> None:
        self.params = params
        self.lr = lr
        self.betas = betas
        self.eps = eps
        self.weight_decay = weight_decay
        self.amsgrad = amsgrad
        self.maximize = maximize
        self.decoupled_weight_decay = decoupled_weight_decay
        self.l1 = l1
        self._steps = 0
        self._m = [np.zeros_like(p) for p in params]
        self._v = [np.zeros_like(p) for p in params]
        self._v_max = [np.zeros_like(p) for p in params]

    def step(self, grads: Sequence[Array]) -> None:
        """Update the parameters in place."""
        self._steps += 1
        beta1, beta2 = self.betas
        correction1 = 1 - beta1**self._steps
        correction2 = 1 - beta2**self._steps
        state = zip(self.params, grads, self._m, self._v, self._v_max, strict=True)
        for p, grad, m, v, v_max in state:
            g = -grad if self.maximize else grad
            if self.decoupled_weight_decay:
                p *= 1 - self.lr * self.weight_decay
            else:
                g = g + self.weight_decay * p
            m += (1 - beta1) * (g - m)
            v[...] = beta2 * v + (1 - beta2) * g * g
            np.maximum(v, v_max, out=v_max)
            largest = v_max if self.amsgrad else v
            denominator = np.sqrt(largest) / correction2**0.5 + self.eps
            p -= self.lr / correction1 * m / denominator
            _shrink(p, self.lr * self.l1)


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019; ``torch.optim.AdamW``)."""

    def __init__(
        self,
        params: Sequence[Array],
        lr: float = 1e-3,
        *,
        weight_decay: float = 1e-2,
        **options: Any,
    ) -> None:
        options["decoupled_weight_decay"] = True
        super().__init__(params, lr, weight_decay=weight_decay, **options)


def _shrink(p: Array, threshold: float) -> None:
    """Proximal step of an L1 penalty: ``sign(p) max(|p| - threshold, 0)``, in place."""
    if threshold:
        p[...] = np.sign(p) * np.maximum(np.abs(p) - threshold, 0)
