"""Fitted perceptrons of scikit-learn taken over, and given back."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from sklearn import neural_network as base
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted

from dlcore.callbacks._history import History
from dlcore.sklearn._optimizers import MomentumSGD
from dlcore.sklearn._state import revive_optimizer
from dlcore.sklearn._versions import losses_of

if TYPE_CHECKING:
    from dlcore._common.typing import Array

# The networks of scikit-learn.
_ACTIVATIONS = ("identity", "logistic", "tanh", "relu")
NETWORK = ("coefs_", "intercepts_", "_optimizer", "model_", "_coefs", "_intercepts", "_shown")


class ConversionMixin:
    """Becomes, and is made of, the estimator of scikit-learn of the same name."""

    @classmethod
    def from_sklearn(cls, estimator: Any) -> Self:
        """Make an estimator of a fitted one of scikit-learn.

        Parameters
        ----------
        estimator : sklearn.neural_network.MLPClassifier or MLPRegressor
            The one of this name; it stays as it is.

        Returns
        -------
        MLPClassifier or MLPRegressor
            With its parameters, weights and attributes, and the state of its optimizer, so that
            ``partial_fit`` and ``warm_start`` go on from there.

        Raises
        ------
        TypeError
            It is another estimator.
        sklearn.exceptions.NotFittedError
            It was not fitted.

        Examples
        --------
        >>> import numpy as np
        >>> from sklearn import neural_network
        >>> from dlcore.sklearn import MLPClassifier
        >>> X = np.random.default_rng(0).normal(size=(200, 4))
        >>> theirs = neural_network.MLPClassifier(tol=1, random_state=0).fit(X, X[:, 0] > 0)
        >>> ours = MLPClassifier.from_sklearn(theirs)
        >>> bool(np.allclose(ours.predict_proba(X), theirs.predict_proba(X), rtol=1e-12))
        True
        """
        kind = _class_of_sklearn(cls)
        if not isinstance(estimator, kind) or isinstance(estimator, ConversionMixin):
            raise TypeError(
                f"{cls.__name__}.from_sklearn takes a fitted {kind.__name__} of scikit-learn, "
                f"not {type(estimator).__module__}.{type(estimator).__name__}"
            )
        check_is_fitted(estimator)
        made: Any = cls(**estimator.get_params(deep=False))
        given = vars(estimator)
        vars(made).update({name: value for name, value in given.items() if name not in NETWORK})
        coefs, intercepts = estimator.coefs_, estimator.intercepts_
        made._make_network([len(coefs[0]), *(c.shape[1] for c in coefs)], np.result_type(*coefs))
        made._take_coefs(coefs, intercepts)
        best = getattr(estimator, "best_loss_", None)
        made._least_loss = math.inf if best is None else best
        made.validation_loss_curve_ = None
        made.history_ = _history_of(estimator)
        if "_optimizer" in given:
            made._optimizer = made._make_optimizer(False)
            _take_optimizer(made._optimizer, estimator._optimizer)
        return made

    def to_sklearn(self: Any) -> Any:
        """Make the estimator of scikit-learn that predicts as this one.

        Returns
        -------
        sklearn.neural_network.MLPClassifier or MLPRegressor
            With the parameters that scikit-learn has, the weights, and the state of the optimizer.
            Of what acts in fits alone, such as ``dropout`` or ``solver="adamw"``, it has nothing;
            batch normalization is part of its weights.

        Raises
        ------
        ValueError
            scikit-learn has no such network or loss; the message says what there is none of.
        sklearn.exceptions.NotFittedError
            This one was not fitted.
        """
        check_is_fitted(self)
        kind = _class_of_sklearn(type(self))
        wrong = _what_sklearn_lacks(self)
        if wrong:
            raise ValueError(f"{type(self).__name__}.to_sklearn: scikit-learn has no {wrong}")
        parameters = self.get_params(deep=False)
        made = kind(**{name: parameters[name] for name in kind().get_params(deep=False)})
        if callable(made.learning_rate):
            made.learning_rate = "constant"
        hidden = self.activation
        if not isinstance(hidden, str):
            made.activation = hidden[0] if len(hidden) else "relu"
        if self.solver == "adamw":
            made.solver = "adam"
        own = {n: v for n, v in vars(self).items() if n not in NETWORK and n not in parameters}
        known = {"_label_binarizer", "_random_state", "_no_improvement_count"}
        vars(made).update({n: v for n, v in own.items() if n[0] != "_" or n in known})
        for name in ("history_", "validation_loss_curve_"):
            vars(made).pop(name, None)
        made.coefs_ = [np.array(coef, order="C") for coef in self.coefs_]
        made.intercepts_ = [np.array(intercept) for intercept in self.intercepts_]
        if "_optimizer" in vars(self) and not self.batch_norm:
            revive_optimizer(self)
            made._optimizer = _optimizer_of(self._optimizer, made)
        return made


def _class_of_sklearn(kind: type) -> Any:
    return next(own for own in kind.__mro__ if own in (base.MLPClassifier, base.MLPRegressor))


def _what_sklearn_lacks(estimator: Any) -> str:
    """Say which part of an estimator's network scikit-learn has not."""
    if estimator._has_members:
        return "perceptron of several members; each of estimators_ has to_sklearn"
    activations = np.unique(np.ravel(estimator.activation)).tolist()
    other = [name for name in activations if name not in _ACTIVATIONS]
    if other:
        return f"activation {other[0]!r}"
    if len(activations) > 1:
        return "activation for each layer"
    if estimator.layer_norm:
        return "layer normalization"
    if estimator.loss not in losses_of(_class_of_sklearn(type(estimator))):
        return f"loss {estimator.loss!r}"
    if getattr(estimator, "_clips", False):
        return "clipping of outputs"
    if isinstance(getattr(estimator, "classes_", None), list):
        return "classifier of several columns of classes"
    return ""


def _history_of(estimator: Any) -> History:
    history = History()
    scores = getattr(estimator, "validation_scores_", None) or []
    for epoch, loss in enumerate(getattr(estimator, "loss_curve_", [])):
        logs = {"loss": float(loss)}
        if epoch < len(scores):
            logs["val_score"] = float(scores[epoch])
        history.record(epoch, logs)
    return history


def _turned(arrays: list[Array]) -> list[Array]:
    """Return weights (in, out) as (out, in), or back, and biases as they are."""
    return [array.T if array.ndim == 2 else array for array in arrays]


def _take_optimizer(own: Any, other: Any) -> None:
    """Give an optimizer the state of one of scikit-learn, whose parameters are in the same order."""
    if isinstance(own, MomentumSGD):
        own.learning_rate = other.learning_rate
        # Theirs are steps, ours gradients: the step is the rate times their sum.
        names = {"momentum_buffer": [-v / other.learning_rate for v in other.velocities]}
        step = {}
    else:
        names, step = {"exp_avg": other.ms, "exp_avg_sq": other.vs}, {"step": other.t}
    state = own.state_dict()
    turned = {name: _turned(arrays) for name, arrays in names.items()}
    if own.state_arrays().keys() == names.keys() and (step.get("step", 1) > 0):
        count = len(next(iter(turned.values())))
        state["state"] = {i: step | {n: turned[n][i] for n in turned} for i in range(count)}
        own.load_state_dict(state)


def _optimizer_of(own: Any, made: Any) -> Any:
    """Return an optimizer of scikit-learn with the state of one of ours."""
    parameters = made.coefs_ + made.intercepts_
    state = {name: _turned(arrays) for name, arrays in own.state_arrays().items()}
    if isinstance(own, MomentumSGD):
        options = (made.learning_rate, made.momentum, made.nesterovs_momentum, made.power_t)
        optimizer = SGDOptimizer(parameters, made.learning_rate_init, *options)
        optimizer.learning_rate = own.learning_rate
        if "momentum_buffer" in state:
            optimizer.velocities = [-own.learning_rate * b for b in state["momentum_buffer"]]
        return optimizer
    rates = (made.learning_rate_init, made.beta_1, made.beta_2, made.epsilon)
    optimizer = AdamOptimizer(parameters, *rates)
    optimizer.t = own.steps
    optimizer.ms = [np.array(m, order="C") for m in state["exp_avg"]]
    optimizer.vs = [np.array(v, order="C") for v in state["exp_avg_sq"]]
    return optimizer
