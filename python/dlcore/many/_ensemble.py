"""`Ensemble`: models whose predictions are averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from dlcore._common.checks import check_choice, check_instance, check_positive_int, check_several
from dlcore.functional._activations import sigmoid, softmax
from dlcore.many._mean import Mean, mean_of
from dlcore.many._selection import selected
from dlcore.metrics._accumulation import of_loss
from dlcore.metrics._named import as_metrics, kind_of
from dlcore.nn._losses import Loss, as_loss
from dlcore.nn._sequential import Sequential
from dlcore.training._dataset import check_rows
from dlcore.training._evaluation import outputs_of, score
from dlcore.training._made_of import described, made
from dlcore.training._trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from dlcore._common.typing import Array

__all__ = ["Ensemble"]

_OF_KIND = {"classes": "softmax", "labels": "sigmoid", "values": "outputs"}
_LOSS_OF = {"softmax": "cross_entropy", "sigmoid": "bce_with_logits", "outputs": "mse"}


class Ensemble:
    """Models that predict together: the mean of their probabilities, or of their outputs.

    It has what inference needs of a model: ``ensemble(x)``, `predict`, `predict_proba`, `evaluate`.
    Its members are trained by `fit_many`, for instance.

    Parameters
    ----------
    models : sequence of Sequential or Trainer
        They are not copied. All have the same dtype and the same numbers of inputs and outputs.
    of : {"outputs", "softmax", "sigmoid"}, optional
        What is averaged, as in `EnsembleMean`: the outputs, for regression; or the probabilities of
        classes, or of each output by itself, whose logits the outputs are. By default what belongs to
        the loss.
    loss : str or Loss, optional
        What `evaluate` and `prune` measure by. By default that of the trainers, or of ``of``: the
        cross-entropy, that of logits of yes or no, or the mean squared error.

    Attributes
    ----------
    models : list of Sequential
    indices : list of int
        The places of these models in the ensemble that `prune` took them from; else 0, 1, 2, ...

    Raises
    ------
    TypeError, ValueError
        There is no model, they do not fit each other, or nothing tells what their outputs are.

    Notes
    -----
    Where probabilities are averaged, the outputs are the logarithms of their means, or their logits,

    ``log(mean_m softmax(z_m))``  or  ``log(mean_m sigmoid(z_m)) - log(mean_m sigmoid(-z_m))``,

    computed from the logarithms of probabilities, so that small ones keep their digits:
    ``softmax(ensemble(x))`` is the mean of the members' softmax, and every loss and metric of logits
    takes them. NaN of one member is NaN of all. The members are taken in their order, so the bits
    are the same in any number of threads.

    References
    ----------
    Lakshminarayanan, Pritzel, Blundell: Simple and scalable predictive uncertainty estimation using
    deep ensembles, NIPS 2017.

    Examples
    --------
    >>> import numpy as np, dlcore as dl
    >>> models = [dl.Sequential(dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 3), seed=i) for i in range(5)]
    >>> ensemble = dl.Ensemble(models, of="softmax")
    >>> x = np.ones((2, 4), np.float32)
    >>> mean = np.mean([dl.softmax(model(x)) for model in models], axis=0)
    >>> bool(np.allclose(ensemble.predict_proba(x), mean))
    True
    """

    def __init__(
        self,
        models: Sequence[Sequential | Trainer],
        *,
        of: Literal["outputs", "softmax", "sigmoid"] | None = None,
        loss: str | Loss | None = None,
    ) -> None:
        given = [models]
        if not isinstance(models, Sequential | Trainer):
            given = check_several("Ensemble: models", models, "several models or trainers")
        if not given:
            raise ValueError("Ensemble: there is no model")
        self.models = _checked_models(given)
        trainers = [model for model in given if isinstance(model, Trainer)]
        if loss is None and trainers:
            loss = trainers[0].loss
        if of is None:
            if loss is None:
                raise ValueError(
                    "Ensemble needs of='softmax', 'sigmoid' or 'outputs', or the loss: nothing "
                    "tells what the outputs of these models are"
                )
            of = _OF_KIND[kind_of(as_loss(loss))]  # type: ignore[assignment]
        self.of = check_choice("Ensemble: of", of, tuple(_LOSS_OF))
        self.loss = as_loss(_LOSS_OF[self.of] if loss is None else loss)
        if self.loss.target_metrics():
            raise ValueError(f"Ensemble averages one target, not those of {self.loss!r}")
        self.indices = list(range(len(self.models)))

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the models."""
        return self.models[0].dtype

    @property
    def in_features(self) -> int | None:
        """Columns of x, None for any number."""
        return self.models[0].in_features

    @property
    def out_features(self) -> int | None:
        """Columns of the outputs, None for as many as x has."""
        return self.models[0].out_features

    def __len__(self) -> int:
        return len(self.models)

    def __iter__(self) -> Iterator[Sequential]:
        return iter(self.models)

    @overload
    def __getitem__(self, index: int) -> Sequential: ...
    @overload
    def __getitem__(self, index: slice) -> Ensemble: ...
    def __getitem__(self, index: int | slice) -> Sequential | Ensemble:
        if isinstance(index, slice):
            return self._some(range(len(self))[index])
        return self.models[index]

    def __repr__(self) -> str:
        return f"Ensemble of {len(self)} models, of={self.of!r}, each\n{self.models[0]!r}"

    def __call__(self, x: Any) -> Array:
        """Compute the outputs, of shape (N, out_features), as one model would: in inference."""
        return mean_of((model(x) for model in self.models), self.of)

    def predict(self, x: Any, *, batch_size: int = 4096) -> Array:
        """Compute the outputs, such as logits, ``batch_size`` rows at a time.

        x is what `Trainer.predict` takes.
        """
        check_positive_int("batch_size", batch_size)
        return outputs_of(self, x, batch_size)  # type: ignore[arg-type]

    def predict_proba(self, x: Any, *, batch_size: int = 4096) -> Array:
        """Compute the mean of the members' probabilities, of the shape of the outputs.

        Raises
        ------
        ValueError
            The outputs are averaged, which are values and no logits.
        """
        if self.of == "outputs":
            raise ValueError("predict_proba needs logits, but of='outputs' are values")
        outputs = self.predict(x, batch_size=batch_size)
        function = softmax if self.of == "softmax" else sigmoid
        return function(outputs, out=outputs)

    def evaluate(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        metrics: Sequence[str | Callable[[Array, Array], float]]
        | Mapping[str, str | Callable[[Array, Array], float]] = (),
    ) -> dict[str, float]:
        """Compute the loss and metrics of what the members predict together, by name.

        Parameters
        ----------
        x, y, sample_weight
            As in `Trainer.evaluate`.
        metrics
            As `Trainer` takes them.
        """
        measured = as_metrics(metrics, self.loss)
        rows = check_rows(self.models[0], self.loss, x, y, sample_weight)
        return score(self, self.loss, measured, [rows.counted()])  # type: ignore[arg-type]

    def prune(
        self,
        x: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        keep: int | None = 8,
        method: Literal["greedy", "best"] = "greedy",
    ) -> Ensemble:
        """Choose the members that are best on rows to validate on.

        Parameters
        ----------
        x, y, sample_weight
            Rows that no member was trained on, as in `Trainer.evaluate`.
        keep : int or None
            How many to keep, all if there are fewer; None for "greedy" stops where no further member
            makes it better.
        method : {"greedy", "best"}
            "greedy" begins with the best member and adds, one at a time, the member with which the
            loss of all together is least, each once. "best" takes those whose own losses are least.

        Returns
        -------
        Ensemble
            Of the same models, in the order in which they were chosen; its ``indices`` tell which.

        Notes
        -----
        Of equal ones the first is taken, and a loss that is NaN is the worst. k members need k
        predictions of the rows and, to keep m of them greedily, about k m losses of all rows.

        References
        ----------
        Caruana et al.: Ensemble selection from libraries of models, ICML 2004. Gorishniy, Kotelnikov,
        Babenko: TabM, ICLR 2025, section 5.
        """
        check_choice("prune: method", method, ("greedy", "best"))
        if keep is not None:
            check_positive_int("prune: keep", keep)
        elif method == "best":
            raise ValueError(
                "prune: keep=None is for method='greedy', which can tell where to stop"
            )
        rows = check_rows(self.models[0], self.loss, x, y, sample_weight).counted()
        part = rows.part(0, len(rows))
        outputs = [outputs_of(model, part.x, 4096) for model in self.models]
        metric = of_loss(self.loss)

        def loss_of(some: Array) -> float:
            return metric(part.y, some, part.weight)

        if method == "best":
            losses = [loss_of(own) for own in outputs]  # of which NaN is sorted last
            return self._some(np.argsort(losses, kind="stable")[:keep].tolist())
        return self._some(selected(outputs, loss_of, Mean(self.of), keep))

    def _some(self, indices: Sequence[int]) -> Ensemble:
        some = Ensemble([self.models[i] for i in indices], of=self.of, loss=self.loss)  # type: ignore[arg-type]
        some.indices = list(indices)
        return some


def describe_ensemble(ensemble: Ensemble) -> dict[str, Any]:
    """Return an ensemble as plain data and models.

    Raises
    ------
    TypeError
        Its loss is of a class of one's own.
    """
    loss = described(ensemble.loss)
    if loss is None:
        raise TypeError(
            f"an Ensemble with {ensemble.loss!r}, of a class of your own, has no form in a file; "
            f"Ensemble(ensemble.models, of={ensemble.of!r}) has one"
        )
    return {
        "models": ensemble.models,
        "of": ensemble.of,
        "loss": loss,
        "indices": ensemble.indices,
    }


def ensemble_of(state: Any) -> Ensemble:
    """Make an ensemble of what `describe_ensemble` returned, which is checked."""
    if not isinstance(state, dict) or state.keys() != {"models", "of", "loss", "indices"}:
        raise TypeError("the state of an Ensemble is none")
    models, indices = state["models"], state["indices"]
    if not isinstance(models, list) or not isinstance(indices, list):
        raise TypeError("an Ensemble has no list of models")
    if len(indices) != len(models) or not all(type(i) is int and i >= 0 for i in indices):
        raise ValueError(f"an Ensemble of {len(models)} models has the indices {indices!r:.50}")
    if not isinstance(state["of"], str):
        raise TypeError(f"an Ensemble of {state['of']!r:.50}")
    loss = made(state["loss"], "it")
    if not isinstance(loss, Loss):
        raise TypeError(f"an Ensemble has the loss {loss!r:.50}")
    ensemble = Ensemble(models, of=state["of"], loss=loss)  # type: ignore[arg-type]
    ensemble.indices = indices
    return ensemble


def _checked_models(given: Sequence[Any]) -> list[Sequential]:
    """Return models that take and give the same."""
    models = []
    for i, model in enumerate(given):
        own = model.model if isinstance(model, Trainer) else model
        check_instance(f"Ensemble: models[{i}]", own, Sequential)
        models.append(own)
    first = models[0]
    for i, model in enumerate(models):
        for name in ("dtype", "in_features", "out_features"):
            if getattr(model, name) != getattr(first, name):
                raise ValueError(
                    f"Ensemble: models[{i}] has {name} {getattr(model, name)}, models[0] has "
                    f"{getattr(first, name)}"
                )
    return models
