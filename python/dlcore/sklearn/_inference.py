"""What an estimator computes for rows: outputs, decisions and hidden values."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from sklearn.utils.validation import check_is_fitted

from dlcore._common.checks import check_choice
from dlcore.nn._inference import Inference
from dlcore.nn._layers import Linear
from dlcore.sklearn._answers import AnsweringMixin, without_fit
from dlcore.sklearn._batches import compressed, is_plain_csr
from dlcore.sklearn._checks import check_data
from dlcore.sklearn._early_stopping import joined

if TYPE_CHECKING:
    from dlcore._common.typing import Array
    from dlcore.nn._sequential import Sequential

# What a snapshot answers, by the method that computes it of the outputs.
_OF_OUTPUTS = {
    "predict": "_decide",
    "predict_proba": "_probabilities",
    "predict_log_proba": "_log_probabilities",
    "decision_function": "_logits",
}

# Outputs of rows that are decided at once.
_OUTPUTS_AT_ONCE = 2**20


class InferenceMixin(AnsweringMixin):
    """Runs the network over rows, dense or sparse."""

    def hidden_values(self: Any, X: Any) -> list[Array]:
        """Compute what each hidden layer gives the next one: after its activation.

        Parameters
        ----------
        X : {array-like, sparse matrix} of shape (n_samples, n_features)

        Returns
        -------
        list of ndarray of shape (n_samples, n_units)
            One for each of ``hidden_layer_sizes``, in the network's dtype.
        """
        self._check_one_network("hidden_values")
        values: list[Array] = self._answer(lambda est: est._hidden_values(X))
        return values

    def snapshot(self: Any, method: str = "predict") -> Snapshot:
        """Return a function that gives what a method gives now, without scikit-learn's checks.

        For serving: of a single row these take longer than all that there is to compute. A snapshot
        has a copy of the network, so that threads may call it while the estimator learns; what is
        learned later needs another one.

        Parameters
        ----------
        method : {"predict", "predict_proba", "predict_log_proba", "decision_function"}

        Returns
        -------
        Snapshot
            ``snapshot(X)`` for an array of shape (n_samples, n_features) and the dtype of X in `fit`,
            float32 or float64, which is taken to be finite, as with
            ``sklearn.config_context(assume_finite=True)``. Another dtype is a TypeError, another
            shape a ValueError; names of features are not looked at. It can be pickled.

        Examples
        --------
        >>> import numpy as np
        >>> from dlcore.sklearn import MLPClassifier
        >>> X = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
        >>> clf = MLPClassifier(tol=1, random_state=0).fit(X, X[:, 0] > 0)
        >>> serve = clf.snapshot("predict_proba")
        >>> bool((serve(X[:1]) == clf.predict_proba(X[:1])).all())
        True
        """
        check_choice("method", method, tuple(_OF_OUTPUTS))
        if not hasattr(type(self), method):
            raise AttributeError(f"{type(self).__name__} has no {method}")
        self._check_one_network("snapshot")
        made: Snapshot = self._answer(lambda est: Snapshot.of(est, method))
        return made

    def _hidden_values(self: Any, X: Any) -> list[Array]:
        X = self._checked(X)
        model: Sequential = self.model_
        starts = [i for i, layer in enumerate(model.layers) if isinstance(layer, Linear)]
        blocks = [
            Inference(model.layers[start:end], model.dtype, model.layers[start].in_features)  # type: ignore[arg-type]
            for start, end in pairwise(starts)
        ]
        values: list[Array] = []
        x = self._native_rows(X)
        for block in blocks:
            x = block(x)
            values.append(x)
        return values

    def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> Array:
        """Compute what scikit-learn calls the last layer's activation."""
        outputs: Array = self._activate(self._outputs(X, check_input))
        return outputs

    def _predict(self: Any, X: Any, check_input: bool = True) -> Any:
        """Decide; some rows at a time where the outputs take much more memory than what is decided."""
        if getattr(self, "n_outputs_", 0) * _count_rows(X) <= _OUTPUTS_AT_ONCE:
            return self._decide(self._outputs(X, check_input))
        X = self._checked(X) if check_input else X
        parts = self._parts(X.shape[0])
        return joined([self._decide(self._run_network(X[part])) for part in parts])

    def _parts(self: Any, rows: int) -> list[slice]:
        step = max(64, _OUTPUTS_AT_ONCE // self.n_outputs_ // 64 * 64)
        return [slice(start, start + step) for start in range(0, rows, step)]

    def _checked(self: Any, X: Any) -> Any:
        """Return X as the network takes it, sparse rows as CSR."""
        if not self._has_network():
            check_is_fitted(self, "model_")
        X = check_data(self, X, dtype=self._network().dtype, reset=False)
        return X.tocsr() if scipy.sparse.issparse(X) else X

    def _outputs(self: Any, X: Any, check_input: bool = True) -> Array:
        """Compute the outputs of the network for X, checked."""
        if not self._has_network():
            check_is_fitted(self, "model_")
        model = self._network()
        if self._has_members:
            return self._run_network(self._checked(X) if check_input else X)
        if "feature_names_in_" not in self.__dict__ and type(X) is np.ndarray and len(X):
            outputs = model._try_finite(X)  # where scikit-learn's checks have nothing to say
            if outputs is not None:
                return outputs
        if is_plain_csr(X, model) and "feature_names_in_" not in self.__dict__:
            return self._run_network(X)  # nor here
        return self._run_network(self._checked(X) if check_input else X)

    def _run_network(self: Any, X: Any) -> Array:
        if self._has_members:
            mean: Array = self._mean_of_members(X)
            return mean
        model: Sequential = self.model_
        return model(self._native_rows(X))

    def _native_rows(self: Any, X: Any) -> Any:
        """Return rows as the network reads them."""
        dtype = self.model_.dtype
        return compressed(X, dtype) if scipy.sparse.issparse(X) else np.asarray(X, dtype)


class Snapshot:
    """What a method of an estimator gave when this was made: `MLPClassifier.snapshot` makes one.

    Parameters
    ----------
    outputs : dlcore.nn._inference.Snapshot
        The network.
    estimator : MLPClassifier or MLPRegressor
        What it was then, without its network.
    method : str
    """

    def __init__(self, outputs: Any, estimator: Any, method: str) -> None:
        self._outputs, self._estimator, self._method = outputs, estimator, method
        self._try_outputs = outputs._inference.try_call
        self._of_outputs = getattr(estimator, _OF_OUTPUTS[method])

    @classmethod
    def of(cls, estimator: Any, method: str) -> Snapshot:
        """Make one of an estimator as it is now."""
        if not estimator._has_network():
            check_is_fitted(estimator, "model_")
        network = estimator._network().snapshot()
        # A fit replaces scikit-learn's attributes, and changes none.
        kept = object.__new__(type(estimator))
        networks = ("model_", "_coefs", "_intercepts", "_shown", "_optimizer", "_learning_rates")
        own = without_fit(vars(estimator))
        vars(kept).update({name: own[name] for name in own.keys() - {*networks}})
        return cls(network, kept, method)

    def __call__(self, X: Any) -> Any:
        """Compute what the method gives, for X of shape (n_samples, n_features)."""
        outputs = self._try_outputs(X)
        if outputs is None:  # another layout, or an error
            outputs = self._outputs(X)
        return self._of_outputs(outputs)

    def __reduce__(self) -> tuple[Any, ...]:
        return Snapshot, (self._outputs, self._estimator, self._method)

    def __repr__(self) -> str:
        return f"Snapshot({self._method} of {self._estimator!r})"


def _count_rows(X: Any) -> int:
    shape = getattr(X, "shape", None)
    if shape is not None:
        return int(shape[0]) if shape else 0
    return len(X) if hasattr(X, "__len__") else 0
