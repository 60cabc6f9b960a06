"""What an estimator answers while a thread fits it."""

from __future__ import annotations

import copy
import threading
from typing import TYPE_CHECKING, Any

from sklearn.utils.validation import check_is_fitted

from dlcore.training._ranks import end_unless_on_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from dlcore._common.typing import Array
    from dlcore.nn._sequential import Sequential

_IN_USE = "the estimator is being fitted: it cannot be fitted again until that ends"

_lock = threading.Lock()


class Standby:
    """An estimator as it was before the fit that is under way: what other threads ask.

    In its first fit, before which there was nothing to ask, it is that of the last epoch.
    """

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._state: dict[str, Any] | None = None
        self._arrays: list[Array] = []
        self._made: Any = None
        self._of_this_fit = False
        self._was_asked = False

    @property
    def is_own(self) -> bool:
        """Whether this is the thread that fits."""
        return self._thread == threading.get_ident()

    def take(self, estimator: Any, *, copies: bool = True) -> None:
        """Take the estimator as it is now; ``copies`` if its network goes on learning."""
        state = without_fit(vars(estimator))
        learning = _arrays(state["model_"]) if copies else ()
        arrays = [array.copy() for array in learning]
        with self._lock:
            self._state, self._made, self._was_asked = state, None, False
            self._arrays = arrays

    def begin(self, estimator: Any) -> None:
        """Take a network that has nothing learned yet."""
        if self._state is None:
            self._of_this_fit = True
            self.take(estimator)

    def end_epoch(self, estimator: Any) -> None:
        """Take the network of the first fit, if another thread asked for it before."""
        if self._of_this_fit and self._was_asked:
            self.take(estimator)

    def estimator(self, of: Any) -> Any:
        """Return what was taken, an estimator of its own."""
        with self._lock:
            self._was_asked = True
            if self._made is None:
                if self._state is None:  # the first fit is about to draw its parameters
                    check_is_fitted(of, "model_")
                    return of
                made = object.__new__(type(of))
                made.__dict__.update(self._state)
                if self._arrays:
                    # The copy is made while the network learns; its values are set afterwards.
                    made.model_ = copy.deepcopy(self._state["model_"])
                    for array, values in zip(_arrays(made.model_), self._arrays, strict=True):
                        array[...] = values
                    made._show_coefs()
                self._made = made
            return self._made


def without_fit(state: dict[str, Any]) -> dict[str, Any]:
    """Copy the attributes of an estimator, without those that fits use among themselves."""
    state = state.copy()
    for name in ("_standby", "_stream"):
        state.pop(name, None)
    return state


def _arrays(model: Sequential) -> tuple[Array, ...]:
    """Return all that training changes."""
    return (model.flat, *model._buffers.values())


class _Fitting:
    """What `AnsweringMixin._fitting` gives; not made by a generator, which takes twice as long."""

    __slots__ = ("_estimator", "_goes_on")

    def __init__(self, estimator: Any, goes_on: bool) -> None:
        self._estimator, self._goes_on = estimator, goes_on

    def __enter__(self) -> None:
        estimator, standby = self._estimator, Standby()
        with _lock:
            if estimator._standby is not None:
                raise RuntimeError(_IN_USE)
            estimator._standby = standby
        try:
            if estimator._has_network():
                estimator._network()
                standby.take(estimator, copies=self._goes_on)
            estimator._fits_begun += 1
        except BaseException:
            del estimator._standby
            raise

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        end_unless_on_all(getattr(self._estimator, "comm", None), error)
        del self._estimator._standby


class AnsweringMixin:
    """Answers while another thread fits: by the network as it was before."""

    _standby: Standby | None = None
    _fits_begun = 0

    def _fitting(self: Any, goes_on: bool) -> _Fitting:
        """Keep others from fitting, and from seeing what is in the making, meanwhile.

        ``goes_on`` tells whether the network that there is learns on.
        """
        return _Fitting(self, goes_on)

    def _answer(self: Any, compute: Callable[[Any], Any]) -> Any:
        """Return ``compute(estimator)``, of this one or of what it was before another thread's fit."""
        while True:
            begun, standby = self._fits_begun, self._standby
            if standby is not None and not standby.is_own:
                return compute(standby.estimator(self))
            try:
                answer = compute(self)
            except Exception:
                if self._fits_begun == begun:
                    raise
            else:
                if self._fits_begun == begun:
                    return answer

    def __getstate__(self: Any) -> dict[str, Any]:
        standby = self._standby
        if standby is not None and not standby.is_own:
            state: dict[str, Any] = standby.estimator(self).__getstate__()
            return state
        own: Any = super().__getstate__()
        written: dict[str, Any] = self._written(without_fit(own))
        return written
