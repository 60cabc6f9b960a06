"""From one model to the next: a new head, batch normalization folded."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dlcore._common.checks import check_instance
from dlcore.nn._layers import BatchNorm1d, Dropout, Linear
from dlcore.nn._sequential import Sequential

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dlcore._common.typing import Array
    from dlcore.nn._layers import Layer

__all__ = ["fold_batch_norm", "replace_head"]


def replace_head(model: Sequential, *layers: Layer, seed: int | None = None) -> Sequential:
    """Make a new model with other layers from the last `Linear` layer on.

    Parameters
    ----------
    model : Sequential
        The model to start from; it stays as it is.
    *layers : Layer
        The new head; none for the outputs of the layers that are kept.
    seed : int, optional
        Draws the initial weights of the new layers.

    Returns
    -------
    Sequential
        The layers before, with copies of their parameters and running statistics and as frozen as
        they were, then the new ones; of the model's dtype.

    Raises
    ------
    ValueError
        The model has no `Linear` layer, or the new layers do not fit the width of what is kept.

    Examples
    --------
    >>> import dlcore as dl
    >>> trained = dl.Sequential(dl.Linear(64, 32), dl.ReLU(), dl.Linear(32, 10), seed=0)
    >>> model = dl.replace_head(trained, dl.Linear(32, 5), seed=0)
    >>> model.freeze("0")
    >>> model.out_features
    5
    """
    check_instance("replace_head: model", model, Sequential)
    places = [i for i, layer in enumerate(model.layers) if isinstance(layer, Linear)]
    if not places:
        raise ValueError("replace_head: the model has no Linear layer to replace")
    kept = model.layers[: places[-1]]
    new = Sequential(*map(copy.deepcopy, kept), *layers, dtype=model.dtype, seed=seed)
    if new.in_features != model.in_features:
        raise ValueError(
            f"replace_head: the new model takes {new.in_features} features, "
            f"the given one {model.in_features}"
        )
    names = {str(i) for i in range(len(kept))}
    state = model.state_dict().items()
    new.load_state_dict({n: value for n, value in state if _layer(n) in names}, strict=False)
    for name in model.frozen:
        if _layer(name) in names:
            new.freeze(name)
    return new


def fold_batch_norm(model: Sequential) -> Sequential:
    """Make a model for inference, with `BatchNorm1d` folded into `Linear` layers and no `Dropout`.

    A `BatchNorm1d` that directly follows a `Linear` layer becomes part of it, and so does one
    directly before a `Linear` layer that follows none; others stay. `Dropout` layers, which do
    nothing in inference, are left out and count as absent.

    Parameters
    ----------
    model : Sequential
        A trained model; it stays as it is.

    Returns
    -------
    Sequential
        A model of the same dtype with the same outputs up to rounding, nothing of it frozen.
        It is not meant to be trained on: its normalization no longer follows the batches.

    Raises
    ------
    ValueError
        The model has no layers but `Dropout`.

    Notes
    -----
    With the scale ``s = gamma / sqrt(running_var + eps)`` and the shift
    ``t = beta - running_mean * s`` of the normalization, ``y = s * x + t``:

    - after a `Linear` layer: ``weight' = s[:, None] * weight``, ``bias' = s * bias + t``;
    - before it: ``weight' = weight * s``, ``bias' = bias + weight @ t``.

    Both are computed in float64 and rounded once to the model's dtype. Outputs of size 1 differ by
    about 1e-6 in float32 and 1e-15 in float64; by more where running_mean is large compared with
    the running standard deviation, and the rounding of the terms that cancel with it.

    References
    ----------
    Jacob et al.: Quantization and training of neural networks for efficient
    integer-arithmetic-only inference, CVPR 2018 (section 3.2, batch normalization folding).
    """
    check_instance("fold_batch_norm: model", model, Sequential)
    parts: list[_Part] = []
    for part in _parts(model):
        before = parts[-1] if parts else None
        if isinstance(part.layer, BatchNorm1d) and before and isinstance(before.layer, Linear):
            parts[-1] = _fold_after(before, part)
        elif not isinstance(part.layer, Dropout):
            parts.append(part)
    folded: list[_Part] = []
    for part in reversed(parts):  # from the last, as several may precede one Linear
        if isinstance(part.layer, BatchNorm1d) and folded and isinstance(folded[-1].layer, Linear):
            folded[-1] = _fold_before(part, folded[-1])
        else:
            folded.append(part)
    if not folded:
        raise ValueError("fold_batch_norm: the model has no layers but Dropout")
    folded.reverse()
    new = Sequential(*(part.layer for part in folded), dtype=model.dtype, seed=0)
    own = new.state_dict()
    new.load_state_dict(
        {
            f"{i}.{name}": value.astype(own[f"{i}.{name}"].dtype)
            for i, part in enumerate(folded)
            for name, value in part.arrays.items()
        }
    )
    return new


def _layer(name: str) -> str:
    """Return the layer's name in that of a parameter: "0" in "0.weight"."""
    return name.partition(".")[0]


@dataclass(frozen=True)
class _Part:
    """A layer that is not part of a model, and its arrays, those of floats in float64."""

    layer: Layer
    arrays: dict[str, Array]


def _parts(model: Sequential) -> Iterator[_Part]:
    """Give the layers of a model, with copies of their arrays."""
    state = model.state_dict()
    for i, layer in enumerate(model.layers):
        arrays = {}
        for name in (*layer._parameter_shapes, *layer._buffer_shapes):
            value = state[f"{i}.{name}"]
            arrays[name] = value.astype(np.float64) if value.dtype.kind == "f" else value
        yield _Part(copy.deepcopy(layer), arrays)


def _scale_and_shift(part: _Part) -> tuple[Array, Array]:
    """Return s and t of what the normalization computes outside of training, ``s * x + t``."""
    layer, arrays = part.layer, part.arrays
    assert isinstance(layer, BatchNorm1d)
    scale = arrays.get("weight", 1.0) / np.sqrt(arrays["running_var"] + layer.eps)
    return scale, arrays.get("bias", 0.0) - arrays["running_mean"] * scale


def _linear(weight: Array, bias: Array) -> _Part:
    return _Part(Linear(weight.shape[1], weight.shape[0]), {"weight": weight, "bias": bias})


def _product_of(linear: _Part) -> tuple[Array, Array | float]:
    """Return W and b of what the layer computes, ``x @ W.T + b``."""
    layer, arrays = linear.layer, linear.arrays
    assert isinstance(layer, Linear)
    return arrays["weight"] * layer._factor, arrays.get("bias", 0.0)


def _fold_after(linear: _Part, norm: _Part) -> _Part:
    scale, shift = _scale_and_shift(norm)
    weight, bias = _product_of(linear)
    return _linear(scale[:, np.newaxis] * weight, scale * bias + shift)


def _fold_before(norm: _Part, linear: _Part) -> _Part:
    scale, shift = _scale_and_shift(norm)
    weight, bias = _product_of(linear)
    return _linear(weight * scale, weight @ shift + bias)
