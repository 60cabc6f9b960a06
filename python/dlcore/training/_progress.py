"""What a fit shows while it runs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dlcore._common.optional import find

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from dlcore._common.typing import Array
    from dlcore.callbacks._history import History
    from dlcore.training._batches import BatchPlan


class Progress:
    """One line an epoch and, on a terminal, a bar below them while the fit runs.

    Parameters
    ----------
    verbose : {"auto", 0, 1, 2}
        0 shows nothing, 1 lines and the bar, 2 lines alone; "auto" is 1 on a terminal, else 2.
        The bar needs tqdm; without it there are the lines.
    epochs, steps : int
        Number of epochs, and of steps in an epoch, None if that is not known.
    name : str
        What stands before a bar of epochs, by default that of one, before a bar of its steps.
    """

    def __init__(
        self, verbose: int | str, *, epochs: int, steps: int | None, name: str = ""
    ) -> None:
        is_one = isinstance(verbose, str | int | np.integer)
        if not is_one or verbose not in ("auto", 0, 1, 2):
            raise ValueError(f"verbose must be 'auto', 0, 1 or 2, not {verbose!r}")
        if verbose == "auto":
            verbose = 1 if _is_terminal(sys.stdout) else 2
        if sys.stdout is None:  # as in programs without a console
            verbose = 0
        self._shows = verbose != 0
        self._epochs = epochs
        self._bar = None
        if verbose == 1:
            total = None if steps is None else epochs * steps
            self._bar = _bar(total, name or f"epoch 1/{epochs}", "epochs" if name else "steps")

    @property
    def shows(self) -> bool:
        """Whether there are lines to show."""
        return self._shows

    @property
    def has_no_bar(self) -> bool:
        """Whether there is no bar to move."""
        return self._bar is None

    def begin_epoch(self, epoch: int) -> None:
        """Name the epoch in the bar."""
        if self._bar is not None:
            self._bar.set_description_str(f"epoch {epoch + 1}/{self._epochs}", refresh=False)

    def step(self, steps: int) -> None:
        """Move the bar."""
        if self._bar is not None:
            self._bar.update(steps)

    def end_epoch(self, epoch: int, logs: dict[str, float], seconds: float) -> None:
        """Show the line of an epoch."""
        if not self._shows:
            return
        number = f"{epoch + 1:>{len(str(self._epochs))}}/{self._epochs}"
        values = "".join(f"  {name} {_number(value)}" for name, value in logs.items())
        self.say(f"epoch {number}{values}  {seconds:.2f} s")

    def say(self, line: str) -> None:
        """Show a line, above the bar if there is one."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stdout)
        elif self._shows:
            print(line, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.close()


class IterationLog:
    """Counts the iterations (updates) of a fit, and logs the loss of every so many of them.

    Parameters
    ----------
    history : History
        Where they go.
    progress : Progress
        What shows them.
    every : int or None
        How many iterations share a line; None for none.
    """

    def __init__(self, history: History, progress: Progress, every: int | None) -> None:
        self.iteration = 0
        self._history, self._progress, self._every = history, progress, every
        self._losses: list[float] = []  # of the updates since the last line
        # The loss of an update so far, which goes on with other batches, and whether one counts.
        self._begun = 0.0
        self._counts = False

    @property
    def only_counts(self) -> bool:
        """Whether there is nothing to log or to show, but the number of iterations."""
        return self._every is None and self._progress.has_no_bar

    def state_dict(self) -> dict[str, Any]:
        """Return what is counted, between two updates."""
        return {"iteration": self.iteration, "losses": list(self._losses)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from there."""
        self.iteration, self._losses = state["iteration"], list(state["losses"])

    def pass_over(self, batches: int) -> None:
        """Show that batches were learned from elsewhere."""
        self._progress.step(batches)

    def begin(self, plan: BatchPlan, losses: Array, lrs: Array | Callable[[], float]) -> None:
        """Begin with other batches, whose losses are filled in.

        ``lrs`` are the rates of their updates, or what tells the one of all.
        """
        self._plan, self._batch_losses = plan, losses
        self._lrs = lrs if self._every is None or not callable(lrs) else lrs()
        self._updates = self._batches = 0  # of the plan, that are logged
        self._made = 0  # of these updates; one whose batches all weigh nothing is none

    def up_to(self, done: int) -> None:
        """Log what has come up to this batch."""
        plan, weights = self._plan, self._plan.accumulation_weights
        if self._every is None and plan.accumulate == 1 and plan.all_count:
            self.iteration += done - self._batches
            self._updates = done
            self._progress.step(done - self._batches)
            self._batches = done
            return
        ready = plan.updates(done)
        # Asking a number takes less than an array: streams log batch by batch.
        all_count = weights[0] if len(weights) == 1 else weights[self._batches : done].all()
        if self._every is None and all_count:
            self.iteration += ready - self._updates
            self._counts = self._counts and ready == self._updates
            self._updates = ready
        for update in range(self._updates, ready):
            batches = slice(update * plan.accumulate, (update + 1) * plan.accumulate)
            loss, self._begun = (self._begun + self._weighed(batches)) * plan.gradient_scale, 0.0
            counts, self._counts = self._counts or weights[batches].any(), False
            if counts:
                self._log_update(loss)
        self._updates = ready
        if done == len(plan) != self._batches and not plan.ends_update:
            rest = slice(ready * plan.accumulate, None)
            self._begun += self._weighed(rest)
            self._counts = self._counts or bool(weights[rest].any())
        self._progress.step(done - self._batches)
        self._batches = done

    def _log_update(self, loss: float) -> None:
        self.iteration += 1
        self._made += 1
        if self._every is None:
            return
        self._losses.append(loss)
        if self.iteration % self._every == 0:
            lrs: Any = self._lrs
            lr = lrs if isinstance(lrs, float) else float(lrs[self._made - 1])
            loss = float(np.mean(self._losses))
            self._history.record_iterations([self.iteration], [loss], [lr])
            self._progress.say(f"iteration {self.iteration}  loss {_number(loss)}")
            self._losses.clear()

    def _weighed(self, batches: slice) -> float:
        """Return the sum of the losses of batches as they are weighed in their update."""
        return float(self._batch_losses[batches] @ self._plan.accumulation_weights[batches])


def _is_terminal(stream: Any) -> bool:
    """Tell whether text is written to a terminal; what stands in for a stream may not know."""
    return bool(getattr(stream, "isatty", bool)())


def _bar(total: int | None, name: str, unit: str) -> Any:
    tqdm = find("tqdm")
    if tqdm is None:
        return None
    return tqdm.tqdm(
        total=total, desc=name, file=sys.stdout, leave=False, unit=f" {unit}", dynamic_ncols=True
    )


def _number(value: float) -> str:
    return f"{value:.4f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else f"{value:.3e}"
