"""What is known of an epoch that may be cut off in its middle and gone on with elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dlcore._common.typing import Array
    from dlcore.training._batches import BatchPlan


class EpochRecord:
    """The losses and outputs of the batches of an epoch so far, and what drew these batches.

    An epoch that goes on in another process is drawn again. Its first batches are not learned from
    again: what they gave is read from the record, so that all sums are made of the same numbers in
    the same order.

    Parameters
    ----------
    order : mapping or None
        The state of the generator that draws the order of the rows, from before the epoch.
    key : int
        Draws what layers draw.
    losses : ndarray of float64, optional
        The loss of each batch that was learned from elsewhere,
    outputs : ndarray, optional
        and the outputs of their rows, where there are metrics.
    """

    def __init__(
        self,
        order: Mapping[str, Any] | None,
        key: int,
        losses: Array | None = None,
        outputs: Array | None = None,
    ) -> None:
        self.order, self.key = order, key
        self._losses = [] if losses is None else [losses]
        self._outputs = [] if outputs is None else [outputs]
        # Batches that were learned from elsewhere.
        self.known = 0 if losses is None else len(losses)
        self._batches = self._rows = 0  # of these, that were read again

    def add(self, losses: Array, outputs: Array | None) -> None:
        """Take batches that were learned from."""
        self._losses.append(losses)
        if outputs is not None:
            self._outputs.append(outputs)

    def read(self, plan: BatchPlan, outputs: Array | None) -> Array:
        """Return the losses of the first batches of a plan that are known; fill in their outputs."""
        done = min(len(plan), self.known - self._batches)
        if not done:
            return np.empty(0)
        losses: Array = self._losses[0][self._batches : self._batches + done]
        rows = int(plan.offsets[done])
        if outputs is not None:
            outputs[:rows] = self._outputs[0][self._rows : self._rows + rows]
        self._batches, self._rows = self._batches + done, self._rows + rows
        return losses

    def state_dict(self) -> dict[str, Any]:
        """Return the arguments of one like it, of all batches so far."""
        outputs = np.concatenate(self._outputs) if self._outputs else None
        losses = np.concatenate([np.empty(0), *self._losses])
        return {"order": self.order, "key": self.key, "losses": losses, "outputs": outputs}
