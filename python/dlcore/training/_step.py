"""The training step of a feed-forward network, which runs in C++."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from dlcore._common.arrays import as_stored
from dlcore._native import dispatch
from dlcore._native.compressed_rows import CompressedRows
from dlcore._native.specs import EpochSpec, ParameterSpec, UpdateSpec
from dlcore.nn._chains import leaves_of, members_after, members_in_training, native_places
from dlcore.nn._inference import describe, reads_sparse
from dlcore.nn._layers import Dropout
from dlcore.nn._losses import CrossEntropyLoss, KernelLoss, native_loss
from dlcore.nn._members import check_means_end
from dlcore.nn._options import changes
from dlcore.optim._optimizer import NativeOptimizer, Optimizer
from dlcore.training._settings import has_settings, plain_settings, settings_of
from dlcore.training._step_python import FAULTS, Diverged, PythonStep, raise_bad_code

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dlcore._common import protocols
    from dlcore._common.protocols import Model
    from dlcore._common.typing import Array
    from dlcore._native import _core
    from dlcore._native.specs import CompressedRowsSpec
    from dlcore.nn._losses import Loss
    from dlcore.optim._groups import Cohort
    from dlcore.training._batches import BatchPlan
    from dlcore.training._dataset import Dataset
    from dlcore.training._ranks import SharedWork

__all__ = ["Diverged", "TrainingStep", "trained_names"]


def trained_names(model: Model, optimizer: protocols.Optimizer) -> list[str]:
    """Name the parameters that the optimizer holds, in its order.

    Raises ValueError if it holds an array that is no parameter of the model.
    """
    views = model._split(model.flat)
    own = {_place(array): name for name, array in views.items()}
    params = getattr(optimizer, "params", views.values())
    try:
        held = [_place(array) for array in params]
    except (TypeError, AttributeError):
        raise TypeError(
            f"optimizer.params must be arrays, those of model.parameters(), not {params!r:.60}"
        ) from None
    if not own.keys() >= set(held):
        raise ValueError(
            "the optimizer holds an array that is no parameter of this model; "
            "make it of model.parameters()"
        )
    return [own[place] for place in held]


class TrainingStep:
    """Mini-batch after mini-batch: forward, loss, backward, update, without returning to Python.

    A loss or an optimizer of the user's own is called between native passes forward and backward,
    and so is the sum of gradients over ranks with rows of their own.

    Parameters
    ----------
    model : Model
        Its parameters are updated in place, but for those that are frozen now.
    loss : Loss
        What to minimize.
    optimizer : Optimizer
        What updates the parameters.
    accumulate : bool
        Whether an update may take several batches.
    max_norm : float, optional
        Largest norm of the gradients of an update,
    clip_value : float, optional
        or largest absolute value of their elements.
    average : (ndarray, float), optional
        Where running averages of the parameters go, laid out as ``model.flat``, and their decay:
        after each update ``average = decay * average + (1 - decay) * parameters``.
    shared : SharedWork, optional
        How ranks that make the same runs share the work of each batch.
    """

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: protocols.Optimizer,
        *,
        accumulate: bool = False,
        max_norm: float | None = None,
        clip_value: float | None = None,
        average: tuple[Array, float] | None = None,
        shared: SharedWork | None = None,
    ) -> None:
        self._given: dict[str, Any] = {
            "optimizer": optimizer,
            "accumulate": accumulate,
            "max_norm": max_norm,
            "clip_value": clip_value,
            "average": average,
            "shared": shared,
        }
        self._model, self._loss = model, loss
        self._begin()

    def _begin(self) -> None:
        """Take the model, the loss, the optimizer and the options as they are now."""
        model, optimizer = self._model, self._given["optimizer"]
        names = trained_names(model, optimizer)
        # Whether its layers take a key of each epoch, and how many parameters each row meets.
        self._places = native_places(model.layers)
        self._members = members_in_training(model.layers)
        if members_after(model.layers) > 1:
            raise ValueError(
                "a model of several members needs an EnsembleMean at its end to be trained"
            )
        check_means_end(model.layers)
        self.draws = any(isinstance(n, Dropout) for n in leaves_of(model.layers).values())
        self.size = model.flat.size
        if model.frozen.issuperset(names):
            raise ValueError("there is nothing to train: all that the optimizer holds is frozen")
        self._settings = settings_of(model, self._loss, optimizer)
        self._seen = changes.count
        self._plain = plain_settings(self._loss)
        self._optimizer = optimizer
        self._max_norm, self._clip_value = self._given["max_norm"], self._given["clip_value"]
        self._average: Array | None = None
        self._decay = 0.0
        if self._given["average"] is not None:
            self._average, self._decay = self._given["average"]
        self._averages = {} if self._average is None else model._split(self._average)
        self._gradient = np.zeros_like(model.flat)
        grads = model._split(self._gradient)
        self._names = names
        # A frozen parameter has no gradient, so that its state waits, too.
        waits = model.frozen if isinstance(optimizer, Optimizer) else frozenset()
        self._grads = [None if name in waits else grads[name] for name in names]
        self._is_trained = [name not in model.frozen for name in names]
        # The parameters as native steps take them, and the parts of steps that they were described of.
        self._described: tuple[list[Any], tuple[ParameterSpec, ...]] | None = None
        self._update: UpdateSpec | None = None  # of the last run, and what it was described of
        self._updated: list[tuple[Any, ...]] = []
        self._trained = {name: grads[name] for name in names if name not in model.frozen}
        self._accumulate = self._given["accumulate"]
        self._compressed: tuple[Array, CompressedRowsSpec] | None = (
            None  # an array, and its elements
        )
        self._native: _core.TrainingStep | None = None
        self._python: PythonStep | None = None  # around the native one
        self._made_for: tuple[Any, ...] = ()
        self._capacity = 0  # most rows of a batch
        self._is_native = False

    def refresh(self, **options: Any) -> bool:
        """Begin anew, between two updates, if anything has been changed; tell whether it has.

        That may be the optimizer and the options of the constructor, given here, or how the model
        and the loss are: frozen parameters, options of layers and of the loss.
        """
        given = self._given | options if options else self._given
        if _are_equal(given, self._given) and self.is_as_it_was():
            return False
        settings = settings_of(self._model, self._loss, given["optimizer"])
        if settings == self._settings and _are_equal(given, self._given):
            self._seen, self._plain = changes.count, plain_settings(self._loss)
            return False
        self._given = given
        self._begin()
        return True

    def is_as_it_was(self) -> bool:
        """Whether nothing of it can have been changed, as far as a quick look tells."""
        optimizer = self._optimizer
        return (
            self._seen == changes.count
            and isinstance(optimizer, NativeOptimizer)
            and self._plain is not None
            and has_settings(self._loss, self._plain)
            and len(optimizer.params) == len(self._names)
        )

    def is_of(self, model: Model, loss: Loss) -> bool:
        """Whether it trains this model by this loss."""
        return self._model is model and self._loss is loss

    def forget(self) -> None:
        """Forget gradients that wait for an update."""
        if self._native is not None:
            self._native.forget()

    def width_of(self, rows: Dataset) -> int:
        """Return the number of features of the outputs."""
        return _last_width(self._model, rows.x.shape[1])

    @property
    def average(self) -> Array | None:
        """Where running averages of the parameters go."""
        return self._average

    @property
    def is_native(self) -> bool:
        """Whether runs are known to be native as a whole: false before the first."""
        return self._is_native

    @property
    def gradient(self) -> Array:
        """The gradient of the last `compute_gradient`, laid out as ``model.flat``."""
        return self._gradient

    @np.errstate(all="ignore")
    def compute_gradient(self, plan: BatchPlan) -> Array:
        """Compute the loss of each batch and the sum of their gradients, without an update.

        Needs ``accumulate``. Raises FloatingPointError for a loss that is not finite.
        """
        _, step = self._make_native(plan)
        x = self._native_rows(plan.rows.x)
        step.forget()
        try:
            return np.array([step.compute_gradient(plan, x, i)[0] for i in range(len(plan))])
        finally:
            step.forget()

    def _make_native(self, plan: BatchPlan) -> tuple[_core.TrainingStep, PythonStep]:
        """Make the native step, for batches such as these, unless it is there."""
        rows, model = plan.rows, self._model
        is_sparse = isinstance(rows.x, CompressedRows)
        made_for = (is_sparse, rows.x.shape[1], rows.y.ndim, rows.y.dtype.kind)
        batch_size = max(1, plan.batch_size)
        if (
            self._native is not None
            and self._python is not None
            and made_for == self._made_for
            and batch_size <= self._capacity
        ):
            return self._native, self._python
        self._update = None
        waiting = self._native  # a batch that is larger than those before may be amid an update
        width, parameters = self.width_of(rows), model._split(model.flat)
        loss = native_loss(self._loss, width, rows.y, model.flat.dtype)
        self._is_native = (
            loss is not None
            and isinstance(self._optimizer, NativeOptimizer)
            and type(self._optimizer).step is Optimizer.step  # one of the user's own may be another
        )
        self._native = dispatch.core.TrainingStep(
            model.flat.dtype == np.float64,
            describe(model.layers, rows.x.shape[1], model.frozen, self._trained, sparse=is_sparse),
            batch_size,
            loss,
            self._accumulate,
        )
        if self._given["shared"] is not None:
            self._given["shared"].attach(self._native)
        if waiting is not None and waiting.is_pending:
            self._native.resume()
        self._python = PythonStep(
            self._native,
            model.layers,
            flat=model.flat,
            frozen=[parameters[name] for name in model.frozen & parameters.keys()],
            gradient=self._gradient,
            loss=self._loss,
            optimizer=self._optimizer,
            grads=self._grads,
            width=width,
            members=self._members,
        )
        self._made_for, self._capacity = made_for, batch_size
        return self._native, self._python

    def _native_rows(self, x: Array | CompressedRows) -> Array | CompressedRowsSpec:
        """Return rows as native steps take them."""
        if isinstance(x, CompressedRows):
            return x.spec
        if not reads_sparse(self._model.layers):
            return x
        if self._compressed is None or self._compressed[0] is not x:
            self._compressed = x, CompressedRows.of(x).spec
        return self._compressed[1]

    def _describe_parameters(self, cohorts: Sequence[Cohort]) -> tuple[ParameterSpec, ...]:
        """Describe what is trained, with cohort and state of a native optimizer, unless that was done."""
        parts = [cohort.part for cohort in cohorts]
        if self._described is not None:
            before, parameters = self._described
            if len(parts) == len(before) and all(map(operator.is_, parts, before)):
                return parameters
        optimizer: Any = self._optimizer
        places = {
            i: (group, optimizer._state_spec(cohort, j))
            for group, cohort in enumerate(cohorts)
            for j, i in enumerate(cohort.members)
        }
        parameters = tuple(
            ParameterSpec(
                *self._places[name],
                *places.get(i, (0, None)),
                average=as_stored(self._averages[name]) if self._averages else None,
            )
            for i, name in enumerate(self._names)
            if name in self._trained
        )
        self._described = parts, parameters
        return parameters

    def _known_cohorts(self) -> list[Cohort] | None:
        """Return the cohorts of the last update if it is the next one, too; None without a closer look."""
        optimizer: Any = self._optimizer
        cohorts: list[Cohort] = optimizer._cohorts
        if self._update is None or len(self._updated) != 1 or len(cohorts) != 1:
            return None
        is_fresh = self._updated[0][3] or cohorts[0].fresh
        return (
            cohorts if not is_fresh and _goes_on(optimizer, cohorts[0], self._updated[0]) else None
        )

    def _describe_update(self, cohorts: Sequence[Cohort]) -> UpdateSpec:
        """Describe the update, unless the native step goes on from where it is."""
        optimizer: Any = self._optimizer
        updated = [
            (c, c.part, c.group.step_values, bool(c.fresh), optimizer._penalty(c.number))
            for c in cohorts
        ]
        if self._update is not None and _are_the_same(updated, self._updated):
            return self._update
        self._updated = updated
        self._update = UpdateSpec(
            optimizer=tuple(optimizer._spec(cohort) for cohort in cohorts),
            parameters=self._describe_parameters(cohorts),
            max_norm=self._max_norm or 0.0,
            clip_value=self._clip_value or 0.0,
            average_decay=self._decay,
        )
        return self._update

    def quick_step(self, scale: float = 1.0) -> QuickStep | None:
        """Return a way to go on from the last run, a batch at a time; None where there is none.

        Gradients are multiplied by ``scale``.
        """
        native, loss = self._native, self._loss
        is_usual = (
            native is not None
            and self._is_native
            and self._plain is not None
            and isinstance(loss, KernelLoss)
            # Rows that count differently have another denominator.
            and not (isinstance(loss, CrossEntropyLoss) and loss.ignore_index >= 0)
            and len({cohort.steps for cohort, *_ in self._updated}) == 1
            and not any(cohort.fresh for cohort, *_ in self._updated)
        )
        if native is None or not is_usual:
            return None
        return QuickStep(self._model, loss, self._optimizer, native, self._updated, scale)

    def run(
        self,
        plan: BatchPlan,
        *,
        losses: Array,
        squares: Array | None = None,
        lrs: Array | None = None,
        outputs: Array | None,
        seconds: float,
        between: Callable[[int], object],
    ) -> int:
        """Learn from the batches of an epoch; return how many updates were made.

        Parameters
        ----------
        plan : BatchPlan
            The batches.
        losses : ndarray of float64, shape (batches,)
            Where the loss of each batch goes.
        squares : ndarray of float64, shape (batches,), optional
            Where the squared norm of all parameters with a penalty goes, before each batch.
        lrs : ndarray of float64, shape (updates, groups), optional
            The learning rates of each update; by default those of the optimizer.
        outputs : ndarray of shape (rows, out_features), optional
            Where the outputs go that each batch had before its update.
        seconds : float
            How often to look at Python between two batches.
        between : callable
            Is called then with the number of batches that are done; the model must not be touched.
            What it raises ends the run after these batches, as Ctrl-C does.

        ``plan.done`` is then how many batches are done, however a native run ends.

        Raises
        ------
        FloatingPointError
            The loss, the gradient or the updated parameters are not finite. The parameters are
            those from before that step.
        IndexError
            A label is out of range, or a code of a category.
        """
        native, python = self._make_native(plan)
        x = self._native_rows(plan.rows.x)
        if not self._is_native or plan.ranks is not None:
            updates = python.run(
                plan,
                x,
                parameters=self._describe_parameters(()),
                max_norm=self._max_norm,
                clip_value=self._clip_value,
                average_decay=self._decay,
                losses=losses,
                squares=squares,
                lrs=lrs,
                outputs=outputs,
                between=between,
            )
            plan.done = len(plan)
            return updates
        optimizer: Any = self._optimizer
        cohorts = self._known_cohorts()
        if cohorts is None:
            cohorts = optimizer._begin(self._is_trained)
            update = self._describe_update(cohorts)
        else:
            assert self._update is not None
            update = self._update
        if lrs is not None:
            lrs = np.ascontiguousarray(lrs[:, [cohort.number for cohort in cohorts]])
        epoch = EpochSpec(
            x=x,
            y=plan.rows.y,
            weight=plan.rows.weight,
            order=plan.order,
            offsets=plan.offsets,
            normalizers=plan.normalizers,
            accumulation_weights=plan.accumulation_weights,
            loss_factors=plan.factors,
            accumulate=plan.accumulate,
            ends_update=plan.ends_update,
            gradient_scale=plan.gradient_scale,
            key=plan.key,
            update=update,
            steps=tuple(cohort.steps for cohort in cohorts),
            learning_rates=lrs,
            outputs=outputs,
            losses=losses,
            squared_norms=squares,
            seconds=seconds,
            between=between,
        )
        try:
            fault = native.run(epoch)
        finally:  # Ctrl-C comes up as soon as Python goes on
            updates, plan.done = native.updates, native.batches
            for cohort in cohorts:
                cohort.advance(updates)
        if fault == "label":
            raise IndexError(f"a label of step {native.batches + 1} is out of range")
        if fault == "code":
            raise_bad_code(self._model.layers, plan, native.batches)
        if fault:
            raise Diverged(native.batches, FAULTS[fault].format(losses[native.batches]))
        return native.updates


class QuickStep:
    """One batch after the other, as long as nothing has been changed between them.

    That takes 2 microseconds beside the native step, a tenth of what it takes to look at everything.

    Parameters
    ----------
    model, loss, optimizer
        What the step is of.
    native : _core.TrainingStep
        It has made a run.
    updated : list of tuple
        What its update was described of: each cohort, its part, its options, whether its state is
        fresh, its penalty.
    scale : float
        What multiplies the gradients.
    """

    __slots__ = (
        "_loss",
        "_model",
        "_native",
        "_optimizer",
        "_plain",
        "_scale",
        "_seen",
        "_updated",
    )

    def __init__(
        self,
        model: Model,
        loss: Loss,
        optimizer: Any,
        native: _core.TrainingStep,
        updated: list[tuple[Any, ...]],
        scale: float,
    ) -> None:
        self._seen = changes.count
        self._model, self._optimizer, self._native = model, optimizer, native
        self._loss, self._plain = loss, (*vars(loss).values(),)
        self._updated, self._scale = updated, scale

    def __call__(self, x: Any, y: Any, key: int, squares: Array | None = None) -> float | None:
        """Learn from one batch; return its loss, or None where there is more to look at.

        Then nothing is changed. ``squares`` is filled in as `TrainingStep.run` does.
        """
        with self._model._in_training():  # from here on no other thread makes a step
            cohorts, steps = self._optimizer._cohorts, self._updated[0][0].steps
            if (
                self._seen != changes.count
                or len(cohorts) != len(self._updated)
                or not has_settings(self._loss, self._plain)
            ):
                return None
            for cohort, updated in zip(cohorts, self._updated, strict=True):
                if cohort.steps != steps or not _goes_on(self._optimizer, cohort, updated):
                    return None
            loss = self._native.run_batch(x, y, key, steps, self._scale, squares)
            if loss is not None:
                for cohort in cohorts:
                    cohort.advance(1)
            return loss


def _goes_on(optimizer: Any, own: Cohort, updated: tuple[Any, ...]) -> bool:
    """Whether a cohort is as the last update was described of it."""
    cohort, part, values, _, penalty = updated
    return (
        own is cohort
        and own.part is part
        and own.part_for is values
        and own.group.step_values is values
        and bool(optimizer._penalty(own.number) == penalty)
    )


def _are_the_same(updated: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> bool:
    """Whether updates are of the same objects, with the same penalty."""
    return len(updated) == len(other) and all(
        own[3:] == before[3:] and all(map(operator.is_, own[:3], before[:3]))
        for own, before in zip(updated, other, strict=True)
    )


def _are_equal(given: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether options are the same, arrays among them by identity."""
    for name, value in given.items():
        own = other[name]
        if value is own:
            continue
        if isinstance(value, tuple) and isinstance(own, tuple):
            if value[0] is not own[0] or value[1] != own[1]:
                return False
        elif not (isinstance(value, int | float) and value == own):
            return False
    return True


def _last_width(model: Model, width: int) -> int:
    widths = (layer.out_features for layer in reversed(model.layers))
    return next((w for w in widths if w is not None), width)


def _place(array: Array) -> tuple[int, tuple[int, ...]]:
    # Not array.ctypes.data: in CPython 3.13 ctypes has a race where there is no GIL.
    return array.__array_interface__["data"][0], array.shape
