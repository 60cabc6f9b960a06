"""Mixtures of pairs of rows and of their targets."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dlcore._common.arrays import as_array
from dlcore._common.checks import check_finite, check_rng
from dlcore.preprocessing._images import as_floats, as_images, check_image_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common.typing import Array

    Mix: TypeAlias = Callable[[Array, Array, np.random.Generator], tuple[Array, Array]]

__all__ = ["cutmix", "mixup"]


def mixup(alpha: float = 0.2) -> Mix:
    """Mixtures of pairs of rows and of their targets: ``trainer.fit(x, y, mix=mixup())``.

    Parameters
    ----------
    alpha : float
        Parameter of the Beta distribution of the share: near 0 most batches hardly change, at 1
        all shares are equally likely.

    Returns
    -------
    callable
        ``(x, y, rng) -> (x, y)``, new arrays of the same shapes and dtypes. ``y`` has a row of
        class probabilities (see `one_hot`) or values of a regression for each row of ``x``.

    Raises
    ------
    TypeError, ValueError
        ``alpha`` is not positive; later, ``x`` or ``y`` is not as described.

    Notes
    -----
    ``x = s x + (1 - s) x[partner]`` and the same for y, with the share s drawn from
    Beta(alpha, alpha), one for the batch, and the partners a random permutation of the rows, as in
    the paper's program.

    References
    ----------
    Zhang, Cisse, Dauphin and Lopez-Paz: mixup: Beyond empirical risk minimization, ICLR 2018.
    """
    alpha = check_finite("alpha", alpha, positive=True)

    def mix(x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        x, y = _check_pair("mixup", x, y, rng)
        share = rng.beta(alpha, alpha)
        partner = rng.permutation(len(x))
        return _blend(x, x[partner], share), _blend(y, y[partner], share)

    return mix


def cutmix(shape: Sequence[int], alpha: float = 1.0) -> Mix:
    """Images with a rectangle of another one, targets by area: ``fit(..., mix=cutmix(shape))``.

    Parameters
    ----------
    shape : (height, width) or (height, width, channels)
        Of an image, of which a row of ``x`` has the values in this order.
    alpha : float
        Parameter of the Beta distribution of the share of the area that an image keeps; at 1 all
        shares are equally likely.

    Returns
    -------
    callable
        ``(x, y, rng) -> (x, y)``, new arrays of the same shapes and dtypes. ``y`` has a row of
        class probabilities (see `one_hot`) or values of a regression for each row of ``x``.

    Raises
    ------
    TypeError, ValueError
        ``shape`` or ``alpha`` is not as described; later, ``x`` or ``y``.

    Notes
    -----
    A share s is drawn from Beta(alpha, alpha), one for the batch, and a rectangle of the sides
    ``sqrt(1 - s)`` of the image's around a pixel that is drawn uniformly; what lies outside of the
    image is cut off. Its pixels come from the partner, by a random permutation of the rows, and
    ``y = s y + (1 - s) y[partner]`` with the share that the image really kept.

    References
    ----------
    Yun et al.: CutMix: Regularization strategy to train strong classifiers with localizable
    features, ICCV 2019.
    """
    shape = check_image_shape("cutmix", shape)
    alpha = check_finite("alpha", alpha, positive=True)
    height, width = shape[:2]

    def mix(x: Array, y: Array, rng: np.random.Generator) -> tuple[Array, Array]:
        x, y = _check_pair("cutmix", x, y, rng)
        images = as_images("x", x, shape)
        side = math.sqrt(1 - rng.beta(alpha, alpha))
        partner = rng.permutation(len(x))
        rows, columns = _window(side, height, rng), _window(side, width, rng)
        mixed = images.copy()
        mixed[:, rows, columns] = images[partner, rows, columns]
        pasted = (rows.stop - rows.start) * (columns.stop - columns.start)
        share = 1 - pasted / (height * width)
        return mixed.reshape(x.shape), _blend(y, y[partner], share)

    return mix


def _window(side: float, size: int, rng: np.random.Generator) -> slice:
    """Draw where the rectangle of this share of an axis lies, less what is outside."""
    half = int(side * size) // 2
    center = int(rng.integers(size))
    return slice(max(center - half, 0), min(center + half, size))


def _blend(a: Array, b: Array, share: float) -> Array:
    """Return ``share a + (1 - share) b``: exactly a where they are equal."""
    blended: Array = b + share * (a - b)
    return blended


def _check_pair(function: str, x: Any, y: Any, rng: Any) -> tuple[Array, Array]:
    x, y = as_floats(f"{function}: x", x), as_array(y, f"{function}: y")
    if y.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"{function}: y must be class probabilities or values, float32 or float64, not "
            f"{y.dtype}; dlcore.one_hot(labels, classes) makes probabilities of class indices"
        )
    if x.ndim == 0 or y.ndim == 0 or len(x) != len(y):
        raise ValueError(
            f"{function}: x and y must have equally many rows, not shapes {x.shape} and {y.shape}"
        )
    check_rng("rng", rng)
    return x, y
