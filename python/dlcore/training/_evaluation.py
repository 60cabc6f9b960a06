"""Outputs, loss and metrics of rows, some rows at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.agreement import raised_on_all
from dlcore._common.ranks import on_all
from dlcore.metrics._accumulation import Measurement, of_loss
from dlcore.training._dataset import Dataset, Subset
from dlcore.training._interruption import look_up
from dlcore.training._rows import as_rows
from dlcore.training._stream import is_batches

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from dlcore._common.protocols import Metric
    from dlcore._common.ranks import Ranks
    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss
    from dlcore.nn._sequential import Sequential

# Rows that are scored at once, and outputs: 8 MiB of float32.
_ROWS, _FEWEST_ROWS, _OUTPUTS = 4096, 128, 2**21


def score(
    model: Sequential,
    loss: Loss,
    metrics: dict[str, Metric],
    data: Iterable[Subset],
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """Compute the loss and the metrics of the model as it is now.

    No more is kept of a block of rows than what the metrics need. With ranks, each has rows of its
    own, and what is computed is that of all of them.

    Raises
    ------
    ValueError
        No row counts.
    """
    measured = Measurement({"loss": of_loss(loss)} | metrics)
    with raised_on_all(ranks):
        for rows in data:
            width = model.out_features or rows.rows.x.shape[1]
            at_once = min(_ROWS, max(_FEWEST_ROWS, _OUTPUTS // width))
            for part in rows.parts(at_once):
                look_up()
                measured.add(part.y, model(part.x), part.weight)
    if ranks is not None:
        measured.merge(ranks)
    if not measured.has_rows:
        raise on_all(ValueError("no row of the data to score counts: their weights are all 0"))
    return measured.values()


def outputs_of(model: Sequential, x: Any, batch_size: int) -> Array:
    """Compute the outputs for rows, or for batches of them one after the other."""
    if is_batches(x):
        outputs = list(outputs_of_batches(model, x, "x", batch_size))
        return outputs[0] if len(outputs) == 1 else np.concatenate(outputs)
    return _outputs_of_rows(model, as_rows(x, "x", model.dtype, model.in_features), batch_size)


def outputs_of_batches(
    model: Sequential, batches: Any, name: str, batch_size: int
) -> Iterator[Array]:
    """Compute the outputs of each batch, which is x alone, (x, y) or (x, y, sample_weight)."""
    number = 0
    items = (
        batches if hasattr(batches, "__iter__") else map(batches.__getitem__, range(len(batches)))
    )
    for number, batch in enumerate(items, 1):
        x = batch[0] if isinstance(batch, tuple | list) and batch else batch
        rows = as_rows(x, f"batch {number}: {name}", model.dtype, model.in_features)
        yield _outputs_of_rows(model, rows, batch_size)
    if not number:
        raise ValueError(f"{name} has no batches")


def outputs_of_parts(model: Sequential, rows: Any, batch_size: int) -> Iterator[Array]:
    """Compute the outputs for checked rows, so many at a time."""
    for part in Subset(Dataset(rows, np.empty((rows.shape[0], 0)))).parts(batch_size):
        yield model(part.x)


def _outputs_of_rows(model: Sequential, rows: Any, batch_size: int) -> Array:
    if rows.shape[0] <= batch_size:
        return model(rows)
    outputs: Array | None = None
    start = 0
    for some in outputs_of_parts(model, rows, batch_size):
        if outputs is None:
            outputs = np.empty((rows.shape[0], some.shape[1]), some.dtype)
        outputs[start : start + len(some)] = some
        start += len(some)
    assert outputs is not None
    return outputs
