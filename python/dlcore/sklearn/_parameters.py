"""The parameters that both perceptrons have beside scikit-learn's: their checks and their pages."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

from sklearn.utils._param_validation import HasMethods, Interval, StrOptions

from dlcore._common.checks import check_positive_int
from dlcore.sklearn._mlp import ACTIVATIONS

ADDED_CONSTRAINTS: dict[str, Any] = {
    "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
    "solver": [StrOptions({"lbfgs", "sgd", "adam", "adamw"})],
    "learning_rate": [StrOptions({"constant", "invscaling", "adaptive"}), callable],
    "dropout": [Interval(Real, 0, 1, closed="left"), "array-like"],
    "batch_norm": ["boolean"],
    "layer_norm": ["boolean"],
    "l1": [Interval(Real, 0, None, closed="left")],
    "weight_decay": [Interval(Real, 0, None, closed="left")],
    "clip_grad_norm": [Interval(Real, 0, None, closed="neither"), None],
    "early_stopping_metric": [str, callable, None],
    "callbacks": ["array-like", None],
    "members": [Interval(Integral, 1, None, closed="left")],
    "bootstrap": ["boolean"],
    "comm": [HasMethods(["Allreduce", "Bcast", "Allgather"]), None],
    "sharded": ["boolean"],
    "average_every": [Interval(Integral, 1, None, closed="left"), None],
}

ADDED_PARAMETERS = """
    dropout : float or array-like of float, default=0.0
        Share of a hidden layer's values that each step sets to 0, one for all layers or one each.
    batch_norm, layer_norm : bool, default=False
        Normalize each hidden layer, before its activation, over the batch or over its units.
    l1 : float, default=0.0
        L1 penalty on the weights, by a proximal step that makes them exactly 0.
    weight_decay : float, default=0.01
        Decoupled decay of the weights, of ``solver="adamw"`` alone.
    clip_grad_norm : float, default=None
        Largest norm of a step's gradient, without that of the L2 penalty.
    early_stopping_metric : str or callable, default=None
        What early stopping looks at: "loss" for the validation loss, the name of a scorer or a
        scorer, which gets the ``sample_weight`` of the rows if it takes one; None for ``score``, or
        for the loss where R² has nothing to say, since all targets are the same.
    callbacks : list of dlcore.Callback, default=None
        Called in each fit; they log "loss" and, with rows to validate on, "val_loss" and, with
        early stopping, "val_score".
    members : int, default=1
        Networks that are fitted at once, each on one thread, and predict by the mean of their
        probabilities or values. Each draws its own parameters, batches and rows to hold out, the
        first one as a single network with this ``random_state`` does, and stops early by itself.
        With more than one there is no ``partial_fit`` and no ``warm_start``.
    bootstrap : bool, default=False
        Whether each of the members learns from as many rows as there are, drawn with replacement: a
        row that is drawn twice has twice its ``sample_weight``.
    comm : communicator, default=None
        Ranks that fit together, such as ``mpi4py.MPI.COMM_WORLD``: processes that make the same calls
        with the same rows. Each computes its share of every batch, and all end with the bits of one
        process that has the ``random_state`` of rank 0. Of one network alone, and not of
        ``solver="lbfgs"``. Files and pickles do not have it.
    sharded : bool, default=False
        Whether each rank is given rows of its own instead, at least one, and ``X_val`` of its own.
        Each update is that of the rows of all ranks: ``batch_size`` is of all of them together,
        classes, "balanced" weights and the range of ``clip_outputs`` are those of all. Each rank
        holds out a share of its rows; the rows to validate on of all ranks are gathered on each.
    average_every : int, default=None
        Let each rank learn by itself from its share of the batches, and take the mean of the
        weights and of the optimizer's state after every so many updates and at the end of each
        epoch: fewer messages, for networks whose step is shorter than one. ``alpha`` counts in a
        share as it does in the whole batch."""

COMMON = """
    scikit-learn's estimator of this name: its parameters, attributes, methods, warnings and results,
    with the native training step. From the same ``random_state`` it draws the same parameters,
    splits and batches, so that a fit follows scikit-learn's to rounding. What follows is more.

    Parameters
    ----------
    activation : str or list of str, default="relu"
        "identity", "logistic", "tanh", "relu" or another of dlcore's elementwise activations by the
        name of its function, one for all hidden layers or one each.
    solver : {"lbfgs", "sgd", "adam", "adamw"}, default="adam"
        "adamw" is Adam with ``weight_decay``, beside ``alpha``, which is part of the loss.
    learning_rate : {"constant", "invscaling", "adaptive"} or callable, default="constant"
        A callable gives the learning rate of each epoch, counted from 0, or is a schedule of dlcore
        such as ``CosineAnnealingLR(200)``, which begins with ``learning_rate_init``; with any solver
        but lbfgs.
    warm_start : bool, default=False
        Goes on from the last solution, and with the optimizer's running means. A fit ends by what it
        sees itself. Here and in ``partial_fit`` the parameters that are set now act, but for
        those of another network (``hidden_layer_sizes``, ``batch_norm``, ``layer_norm``), which are
        an error.
    early_stopping : bool, default=False
        Each class, also of several, gives its share to the rows that are held out. Rows of weight 0
        are not held out."""

COMMON_ATTRIBUTES = """

    Attributes
    ----------
    model_ : dlcore.Sequential
        The network.
    coefs_, intercepts_ : list of ndarray
        Weights (in, out) and biases of the layers, by which alone a network predicts as this one:
        views of its parameters; with ``batch_norm=True`` read-only copies that include it. With
        ``layer_norm=True`` there are none.
    validation_loss_curve_ : list of float or None
        Loss on the rows to validate on, epoch by epoch.
    history_ : dlcore.History
        What the last fit logged: ``history_.plot()`` draws it.
    estimators_ : list of estimators
        With ``members`` > 1 the members, each an estimator of one network, by which
        ``predict``, ``predict_proba``, ``decision_function`` and ``score`` go. All other
        attributes, such as ``model_``, ``coefs_``, ``n_iter_`` and ``history_``, are those of
        the first one.

    Notes
    -----
    float32 input is computed in float32, from the first layer to the last; targets too large for
    that are warned of. Sparse rows never become dense: the first layer
    reads the elements that are there, and a fit on such rows has the bits of one on dense ones but for
    ``solver="lbfgs"``, whose sums have another order. It is the first fit that decides how the weights
    lie in memory: a network that first learned from sparse rows takes dense ones as sparse.

    While one thread fits, others predict by the network as it was before, or, in its first fit, as it
    was after the last epoch."""


def set_parameters(estimator: Any, parameters: dict[str, Any]) -> None:
    """Set the parameters of a constructor as they were given."""
    for name, value in parameters.items():
        if name not in ("self", "__class__"):
            setattr(estimator, name, value)


def checked_epochs(epochs: Any) -> int:
    check_positive_int("epochs", epochs)
    return int(epochs)
