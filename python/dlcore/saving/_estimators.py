"""Estimators of `dlcore.sklearn`, and what of scikit-learn belongs to them, as plain data."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn import base, pipeline, preprocessing

from dlcore import sklearn as own
from dlcore.nn._sequential import Sequential
from dlcore.sklearn._mlp import PerceptronMixin
from dlcore.sklearn._preparation import Preparation
from dlcore.sklearn._state import revive_optimizer
from dlcore.sklearn._tabular import TabularMixin

if TYPE_CHECKING:
    from collections.abc import Mapping

ESTIMATORS: dict[str, type] = {
    "MLPClassifier": own.MLPClassifier,
    "MLPRegressor": own.MLPRegressor,
    "StandardScaler": own.StandardScaler,
    "MinMaxScaler": own.MinMaxScaler,
    "TableEncoder": own.TableEncoder,
    "TabularClassifier": own.TabularClassifier,
    "TabularRegressor": own.TabularRegressor,
    "Pipeline": pipeline.Pipeline,
    "sklearn.StandardScaler": preprocessing.StandardScaler,
    "sklearn.MinMaxScaler": preprocessing.MinMaxScaler,
    "sklearn.LabelBinarizer": preprocessing.LabelBinarizer,
}
_NAMES = {kind: name for name, kind in ESTIMATORS.items()}


def describe(value: Any) -> tuple[str, Any] | None:
    """Return the name of an object's class and its state as plain data; None for other objects."""
    kind = type(value)
    if kind is np.random.RandomState:
        return kind.__name__, value.get_state(legacy=False)
    known = next((known for known in kind.__mro__ if known in _NAMES), None)
    if known is None:
        return None
    if isinstance(value, PerceptronMixin):
        value = value._answer(lambda estimator: estimator)  # as it was before a fit under way
    state = value.__getstate__() if isinstance(value, base.BaseEstimator) else vars(value)
    attributes = {name: own for name, own in state.items() if name != "_sklearn_version"}
    if "model_" in attributes:
        attributes["model_"] = value.model_  # with an array for each parameter
    if kind is known:
        return _NAMES[known], {"attributes": attributes}
    return kind.__name__, {"attributes": attributes, "base": _NAMES[known]}


def make(name: str, state: Any, classes: Mapping[str, type]) -> Any:
    """Make an object of the name of its class and its state, which is checked."""
    if not isinstance(state, dict):
        raise TypeError(f"the state of a {name:.50} is a {type(state).__name__}")
    if name == "RandomState":
        return _random_state(state)
    if not {"attributes"} <= state.keys() <= {"attributes", "base"}:
        raise TypeError(f"a {name:.50} has no attributes, but {', '.join(map(str, state)):.50}")
    kind = _class_of(name, state.get("base"), classes)
    attributes = dict(state["attributes"]) if isinstance(state["attributes"], dict) else None
    if attributes is None:
        raise TypeError(
            f"the attributes of a {name:.50} are a {type(state['attributes']).__name__}"
        )
    for attribute in attributes:
        _check_attribute(kind, attribute)
    if not isinstance(model := attributes.get("model_"), Sequential | None):
        raise TypeError(f"model_ is a {type(model).__name__}")
    defaults = kind().get_params(deep=False) if kind is not pipeline.Pipeline else {}
    made = kind.__new__(kind)
    if kind.__module__.startswith("sklearn."):  # whose method warns of files of another version
        vars(made).update(defaults | attributes)
    else:
        made.__setstate__(defaults | attributes)
    made._validate_params()
    if isinstance(made, PerceptronMixin) and "model_" in attributes:
        _check_perceptron(made)
    if isinstance(made, TabularMixin) and "models_" in attributes:
        _check_tabular(made)
    return made


def _class_of(name: str, of: Any, classes: Mapping[str, type]) -> Any:
    if of is None and name in ESTIMATORS:
        return ESTIMATORS[name]
    if not isinstance(of, str) or of not in ESTIMATORS:
        raise ValueError(f"it holds a {name:.50}, of which this version has no form")
    if name not in classes:
        raise ValueError(
            f"it holds a {name:.50}, a {of} of your own class: hand the class over, with "
            f"classes=[{name:.50}]"
        )
    if not issubclass(classes[name], ESTIMATORS[of]):
        raise TypeError(f"it holds a {of}, but {name:.50} is no subclass of it")
    return classes[name]


def _check_attribute(kind: type, name: Any) -> None:
    """Make sure that an attribute hides no method."""
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("__"):
        raise ValueError(f"a {kind.__name__} has no attribute {name!r:.50}")
    there = getattr(kind, name, None)
    if callable(there) or isinstance(there, property):
        raise TypeError(f"a {kind.__name__} has a {name:.50} that cannot be set")


def _check_perceptron(made: Any) -> None:
    """Make sure that the network is that of the estimator."""
    model = made.model_
    for name, value, width in (
        ("n_features_in_", made.n_features_in_, model.in_features),
        ("n_outputs_", made.n_outputs_, model.out_features),
    ):
        if value != width:
            raise ValueError(f"{name} is {value!r:.50}, that of model_ {width}")
    if isinstance(made, own.MLPClassifier):
        classes = made.classes_ if isinstance(made.classes_, list) else [made.classes_]
        count = sum(len(own) if isinstance(own, np.ndarray) else 0 for own in classes)
        if not (count == width or (width == 1 and count in (1, 2))):
            raise ValueError(f"classes_ are {count}, the outputs of model_ {width}")
    revive_optimizer(made)


def _check_tabular(made: Any) -> None:
    """Make sure that the networks take what the columns are made to."""
    encoder, models = made.encoder_, made.models_
    if not isinstance(encoder, own.TableEncoder):
        raise TypeError(f"encoder_ is a {type(encoder).__name__:.50}")
    if not models or not all(isinstance(model, Sequential) for model in models):
        raise TypeError(f"models_ are no networks, but {models!r:.50}")
    if made.n_features_in_ != encoder.n_features_in_ or len(encoder.kinds_) != made.n_features_in_:
        raise ValueError(f"n_features_in_ is {made.n_features_in_!r:.50}, not that of encoder_")
    width, outputs = Preparation(**made._prepared).width, made._task().outputs
    for model in models:
        if (model.in_features, model.out_features) != (width, outputs):
            raise ValueError(
                f"a network of {model.in_features} inputs and {model.out_features} outputs is not "
                f"of the {width} and {outputs} that the columns and targets are"
            )


def _random_state(state: dict[str, Any]) -> np.random.RandomState:
    """Make a generator; NumPy itself takes any position in its 624 numbers for one of them."""
    inner = state.get("state")
    key = inner.get("key") if isinstance(inner, dict) else None
    position = inner.get("pos") if isinstance(inner, dict) else None
    if (
        state.keys() != {"bit_generator", "state", "has_gauss", "gauss"}
        or state["bit_generator"] != "MT19937"
        or not isinstance(key, np.ndarray)
        or key.shape != (624,)
        or key.dtype != np.uint32
        or type(position) is not int
        or not 0 <= position <= 624
        or state["has_gauss"] not in (0, 1)
        or type(state["gauss"]) is not float
        or not math.isfinite(state["gauss"])
    ):
        raise ValueError("the state of a RandomState is not that of MT19937")
    made = np.random.RandomState(np.random.MT19937())
    made.set_state(state)
    return made
