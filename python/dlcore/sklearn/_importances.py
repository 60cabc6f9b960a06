"""How much the score of an estimator of tables owes to each column."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import Bunch, check_random_state

from dlcore._common.checks import check_positive_int


class ImportancesMixin:
    """Shuffles the columns of a table, which is encoded once."""

    def permutation_importance(
        self: Any,
        X: Any,
        y: Any,
        *,
        sample_weight: Any = None,
        n_repeats: int = 5,
        random_state: Any = None,
    ) -> Bunch:
        """Measure by how much the score falls where a column is shuffled (Breiman, 2001).

        As scikit-learn's function of this name, for any kind of table, which is encoded once.

        Parameters
        ----------
        X, y : rows that were not learned from
        sample_weight : array-like of shape (n_samples,), default=None
        n_repeats : int, default=5
            Times that each column is shuffled.
        random_state : int, RandomState instance or None, default=None

        Returns
        -------
        Bunch
            ``importances`` of shape (n_features, n_repeats), ``importances_mean`` and
            ``importances_std``.
        """
        prepare, encoded = self._prepare(X)
        n_repeats = check_positive_int("n_repeats", n_repeats)
        y, weight = self._checked_to_score(encoded, y, sample_weight)
        rng = check_random_state(random_state)

        def score() -> float:
            decided = self._decide(self._outputs_of(prepare, encoded))
            value: float = self._score_function(y, decided, weight)
            return value

        whole = score()
        importances = np.zeros((self.n_features_in_, n_repeats))
        for i, places in enumerate(self.encoder_.output_places()):
            kept = encoded[:, places].copy()
            for repeat in range(n_repeats if places else 0):
                encoded[:, places] = kept[rng.permutation(len(kept))]
                importances[i, repeat] = whole - score()
            encoded[:, places] = kept
        return Bunch(
            importances=importances,
            importances_mean=importances.mean(axis=1),
            importances_std=importances.std(axis=1),
        )
