"""Estimators of several members: networks that are fitted at once and predict by their mean."""

from __future__ import annotations

import warnings
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from dlcore.many._mean import mean_of
from dlcore.many._workers import run_jobs
from dlcore.sklearn._answers import without_fit
from dlcore.sklearn._conversion import NETWORK
from dlcore.sklearn._streaming import INTERRUPTED

if TYPE_CHECKING:
    from dlcore._common.typing import Array

OF_ACTIVATION = {"softmax": "softmax", "logistic": "sigmoid", "identity": "outputs", "exp": "exp"}


class MembersMixin:
    """Fits several estimators of one network each, and predicts by the mean of their outputs.

    All but what they predict is that of the first member: an estimator is that one, too.
    """

    @property
    def _has_members(self) -> bool:
        return "estimators_" in vars(self)

    def _check_members(self: Any, incremental: bool) -> None:
        """Make sure that a fit is to be of one network, which takes the place of several."""
        if self.members > 1:
            what = "partial_fit goes" if incremental else "warm_start=True would go"
            raise ValueError(f"{what} on with one network, not with members={self.members}")
        if self.bootstrap:
            raise ValueError("bootstrap=True is for several members, but members=1")
        vars(self).pop("estimators_", None)

    def _check_one_network(self: Any, method: str) -> None:
        if self._has_members:
            raise ValueError(
                f"{method} is of one network, not of {len(self.estimators_)} members: each of "
                f"estimators_ has it"
            )

    def _fit_members(
        self: Any, X: Any, y: Any, sample_weight: Any, validation: tuple[Any, Any, Any]
    ) -> None:
        """Fit all members at once."""
        if self.warm_start:
            self._check_members(False)
        names = {"X_val": validation[0], "y_val": validation[1], "sample_weight_val": validation[2]}
        if self.comm is not None:
            raise ValueError(f"comm shares the work of one network, not of members={self.members}")
        members = self._made_members()
        weights = [sample_weight] * len(members)
        if self.bootstrap:
            weights = _bootstrapped(members, X, sample_weight)

        def job(i: int) -> None:
            members[i].fit(X, y, weights[i], **names)

        try:
            errors = run_jobs([partial(job, i) for i in range(len(members))])
        except KeyboardInterrupt:
            if not members[0]._has_network():
                raise
            warnings.warn(INTERRUPTED, stacklevel=4)
            errors = {}
        if errors:
            ((i, error),) = errors.items()
            error.add_note(f"in member {i} of {len(members)}; the others were stopped")
            raise error
        self._become([member for member in members if member._has_network()])

    def _made_members(self: Any) -> list[Any]:
        """Return estimators of one network, whose random states are drawn by this one's."""
        rng = check_random_state(self.random_state)
        seeds: list[int] = rng.randint(2**31 - 1, size=self.members).tolist()
        if isinstance(self.random_state, int | np.integer):
            seeds[0] = int(self.random_state)
        own = {"members": 1, "bootstrap": False}
        return [clone(self).set_params(random_state=seed, **own) for seed in seeds]

    def _become(self: Any, members: list[Any]) -> None:
        """Take over what the first member has learned."""
        own, learned = vars(self), without_fit(vars(members[0]))
        for name in (*self._get_param_names(), "_fits_begun"):
            learned.pop(name, None)
        of_former = [name for name in own if name[-1] == "_" and name not in learned]
        for name in (*of_former, *NETWORK, "_stream"):
            own.pop(name, None)
        own.update(learned)
        self.estimators_ = members

    def _mean_of_members(self: Any, X: Any) -> Array:
        """Return the outputs that stand for the mean of the members' probabilities or values."""
        every = [member._run_network(X) for member in self.estimators_]
        of = OF_ACTIVATION[self.out_activation_]
        has_many = getattr(self, "_has_many_targets", False)
        return mean_of(every, of, self._widths() if has_many else None)


def _bootstrapped(members: list[Any], X: Any, sample_weight: Any) -> list[Any]:
    """Return for each member how often each row was drawn, times its weight."""
    n = X.shape[0] if hasattr(X, "shape") else len(X)
    weight: Any = None if sample_weight is None else np.asarray(sample_weight)
    if weight is not None and weight.shape != (n,):
        return [sample_weight] * len(members)  # which each of them refuses
    drawn = []
    for member in members:
        rng = np.random.default_rng(member.random_state)
        counts = np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float64)
        drawn.append(counts if weight is None else counts * weight)
    return drawn
