"""`TabularClassifier`: classes of the rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import StrOptions
from sklearn.utils.multiclass import check_classification_targets, type_of_target

from dlcore.functional._activations import sigmoid
from dlcore.many._mean import parts_of
from dlcore.nn._losses import BCEWithLogitsLoss, CrossEntropyLoss
from dlcore.nn._multi_target import MultiTargetLoss
from dlcore.sklearn import _probabilities
from dlcore.sklearn._calibration import temperature
from dlcore.sklearn._labels import LabelsMixin
from dlcore.sklearn._parameters import set_parameters
from dlcore.sklearn._recipes import RECIPES, Task
from dlcore.sklearn._tabular import ATTRIBUTES, CONSTRAINTS, PARAMETERS, TabularMixin

if TYPE_CHECKING:
    from dlcore._common.typing import Array
    from dlcore.nn._losses import Loss


class TabularClassifier(TabularMixin, LabelsMixin, ClassifierMixin, BaseEstimator):
    __doc__ = f"""A network that predicts classes from tables, good without tuning.

    X is a frame of pandas, polars or Arrow, or an array, with numbers, texts, categories, booleans,
    dates and missing values. Preprocessing, the network, its training and the choice of the best
    epoch on rows that are held out are those of a recipe; probabilities are calibrated on these rows.
{PARAMETERS}
    class_weight : dict, list of dict or "balanced", default=None
        Weights of the classes, which multiply those of the rows.
    validation_metric : {{"accuracy", "log_loss"}}, default="accuracy"
        What makes an epoch the best. With "log_loss" labels are not smoothed. Several targets go by
        the loss.

    Attributes
    ----------
    classes_ : ndarray or list of ndarray
        Those of y; of each column where y has several.
    temperatures_ : list of float
        By which the logits of each target are divided (Guo et al., 2017), so that the rows to validate on
        are most probable; 1 without such rows.{ATTRIBUTES}

    References
    ----------
    Holzmüller, Grinsztajn, Steinwart: Better by default: strong pre-tuned MLPs and boosted trees on
    tabular data, NeurIPS 2024. Gorishniy, Kotelnikov, Babenko: TabM: advancing tabular deep learning
    with parameter-efficient ensembling, ICLR 2025.

    Examples
    --------
    >>> import pandas as pd
    >>> from dlcore.sklearn import TabularClassifier
    >>> frame = pd.DataFrame({{"color": ["red", "blue", None, "red"] * 10, "size": range(40)}})
    >>> classifier = TabularClassifier(max_epochs=20, random_state=0)
    >>> classifier.fit(frame, ["yes", "no", "no", "yes"] * 10).predict(frame[:2]).tolist()
    ['yes', 'no']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **CONSTRAINTS,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "validation_metric": [StrOptions({"accuracy", "log_loss"})],
    }
    _mean_dtype = np.dtype(np.float32)
    warm_start = False

    def __init__(
        self,
        recipe: str = "realmlp",
        *,
        members: int = 1,
        prune_to: int | None = None,
        num_embeddings: str | None = "auto",
        max_epochs: int | None = None,
        time_limit: float | None = None,
        validation_fraction: float = 0.2,
        validation_metric: str = "accuracy",
        categorical_features: Any = None,
        class_weight: Any = None,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        set_parameters(self, locals())

    # ---- targets ----

    def _take_targets(self, y: Array) -> None:
        if y.dtype.kind == "O" and y.size and not isinstance(y.flat[0], str):
            raise TypeError(
                f"y must hold numbers, booleans or texts, not {type(y.flat[0]).__name__} objects: "
                f"convert it, such as by y.astype(str)"
            )
        check_classification_targets(y)
        if y.ndim == 2 and type_of_target(y) == "multiclass-multioutput":
            self.classes_ = [np.unique(column) for column in y.T]
            self.__dict__.pop("_label_binarizer", None)
        else:
            self._label_binarizer = LabelBinarizer().fit(y)
            self.classes_ = self._label_binarizer.classes_

    def _encode_targets(self, y: Array) -> Array:
        if self._is_multilabel and y.shape[1:] != (len(self.classes_),):
            raise ValueError(
                f"y must have {len(self.classes_)} columns of 0 and 1, got the shape {y.shape}"
            )
        return self._encode(y)

    def _weigh(self, weight: Array | None, targets: Array) -> Array | None:
        tables = self._class_tables(targets, (targets, None), False)
        return self._weigh_classes(weight, targets, tables)

    def _begin_fit(self, targets: Array, weight: Array | None) -> None:
        pass

    def _network_targets(self, targets: Array) -> Array:
        if self._has_many_targets:
            return targets.astype(np.float32)
        if self._is_multilabel:
            smoothing = np.float32(self._smoothing)
            return targets.astype(np.float32) * (1 - smoothing) + smoothing / 2
        return targets

    @property
    def _smoothing(self) -> float:
        by_loss = self.validation_metric == "log_loss"
        return 0.0 if by_loss else RECIPES[self.recipe].label_smoothing

    def _task(self) -> Task:
        kind = "labels" if self._is_multilabel else "classes"
        return Task(sum(self._widths()), kind, len(self._widths()))

    def _loss(self) -> Loss:
        of_classes = CrossEntropyLoss(label_smoothing=self._smoothing)
        if self._has_many_targets:
            widths = self._widths()
            return MultiTargetLoss([of_classes] * len(widths), widths)
        return BCEWithLogitsLoss() if self._is_multilabel else of_classes

    def _by_accuracy(self) -> bool:
        is_plain = not self._has_many_targets and not self._is_multilabel
        return is_plain and self.validation_metric == "accuracy"

    def _metrics(self) -> list[str]:
        return ["accuracy"] if self._by_accuracy() else []

    def _monitor(self) -> str:
        return "val_accuracy" if self._by_accuracy() else "val_loss"

    def _end_fit(self, logits: Array | None, validation: Any) -> None:
        """Find the temperatures."""
        self.temperatures_ = [1.0] * len(self._widths())
        if logits is None:
            return
        _, targets, weight = validation
        if self._is_multilabel:
            both = np.stack([np.zeros(logits.size), logits.ravel()], axis=1)
            own = None if weight is None else np.repeat(weight, logits.shape[1])
            self.temperatures_ = [temperature(both, targets.ravel().astype(np.intp), own)]
        else:
            columns = targets.reshape(len(targets), -1).T
            parts = parts_of(logits, self._widths())
            pairs = zip(parts, columns, strict=True)
            self.temperatures_ = [temperature(part, own, weight) for part, own in pairs]

    # ---- predictions ----

    def _averaged(self) -> tuple[str, list[int] | None]:
        """Return what is averaged over members, and of how many outputs a target has."""
        return ("sigmoid", None) if self._is_multilabel else ("softmax", self._widths())

    def _decide(self, logits: Array) -> Array:
        if self._is_multilabel:
            return (logits > 0).astype(np.int64)
        return self._most_probable(logits)

    def predict(self, X: Any) -> Array:
        """Predict classes: of shape (n_samples,) or, for several targets, (n_samples, n_outputs)."""
        return self._decide(self._outputs(X))

    def predict_proba(self, X: Any) -> Any:
        """Estimate probabilities, of shape (n_samples, n_classes), calibrated by the temperature.

        A list of them for several columns of classes; for several labels the probability of each.
        """
        return self._by_target(X, _probabilities.class_probabilities, sigmoid)

    def predict_log_proba(self, X: Any) -> Any:
        """Estimate the logarithms of probabilities, finite where a probability rounds to 0."""
        of_labels = _probabilities.log_independent_probabilities
        return self._by_target(X, _probabilities.log_class_probabilities, of_labels)

    def _by_target(self, X: Any, of_classes: Any, of_labels: Any) -> Any:
        parts = parts_of(self._outputs(X), self._widths())
        pairs = zip(parts, self.temperatures_, strict=True)
        scaled = [np.ascontiguousarray(part / np.float32(t)) for part, t in pairs]
        if self._has_many_targets:
            return [of_classes(own) for own in scaled]
        return of_labels(scaled[0]) if self._is_multilabel else of_classes(scaled[0])

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean accuracy; with several targets the share of rows right in all of them."""
        return self._score(X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
