"""Values that options are given by mistake, and where options are."""

import inspect
from decimal import Decimal
from fractions import Fraction

import numpy as np

import dlcore as dl
from dlcore import sklearn

# Sizes are small, or such that there is no memory for them anywhere.
VALUES = (
    *(None, True, False, 0, 1, -1, 2, 3, 2**63, 2**64 - 1, 2**70, -(2**70), 10**400),
    *(0.5, -0.5, 0.0, -0.0, 1.0, 1.5, 1e-320, 1e308, np.nan, np.inf, -np.inf, 1j),
    *(
        np.float32(0.5),
        np.float64(2),
        np.int8(3),
        np.uint64(2**63),
        np.bool_(True),
        np.float16(0.1),
    ),
    *(Fraction(1, 2), Decimal("0.5"), Decimal("NaN"), object(), int, repr),
    *("", "mean", "relu", "a\0b", "\ud800", "x" * 1000, b"mean", bytearray(b"x")),
    *([], [1], [0.5, 0.5], (1, 2), (0,), (-1, 1), (np.nan, 1), [[1, 2], [3]], ["a"], {}, {"a": 1}),
    *({0: 1.0}, {1}, frozenset(), range(3), slice(None), Ellipsis, NotImplemented, lambda *_: None),
    *(np.array(2), np.array(0.5), np.array([]), np.array([1, 2]), np.array(["a"]), np.ones((2, 2))),
    *(np.array([np.nan, 1.0]), np.array([None, 1]), np.datetime64("NaT", "s"), np.dtype("f4")),
)

# How often something is done: large numbers are right, and take for ever.
LASTING = (
    *("epochs", "max_iter", "max_fun", "n_iter_no_change", "max_epochs", "min_epochs"),
    *("num_threads", "workers", "candidates", "iterations", "repeats"),
)
# What writes to files or to x, talks to other processes, or calls what is given.
LEFT_OUT = (
    "comm",
    "callbacks",
    "copy",
    "path",
    "resume",
    "verbose",
    "log_every",
    "transform",
    "mix",
)

LAYERS = {
    dl.CategoricalEmbeddings: {"cardinalities": (3, 2)},
    dl.Embedding: {"num_embeddings": 3, "embedding_dim": 2},
    dl.OneHotLinear: {"cardinalities": (3, 2), "out_features": 2},
    dl.PReLU: {},
    dl.ParametricActivation: {"num_features": 3},
    dl.Scale: {"num_features": 3},
    dl.ELU: {},
    dl.GELU: {},
    dl.BatchNorm1d: {"num_features": 3},
    dl.Dropout: {},
    dl.LayerNorm: {"normalized_shape": 3},
    dl.RMSNorm: {"normalized_shape": 3},
    dl.LeakyReLU: {},
    dl.Linear: {"in_features": 3, "out_features": 2},
    dl.Softplus: {},
    dl.EnsembleMean: {},
    dl.LinearBatchEnsemble: {"in_features": 3, "out_features": 2, "k": 2},
    dl.LinearEnsemble: {"in_features": 3, "out_features": 2, "k": 2},
    dl.ScaleEnsemble: {"k": 2, "num_features": 3},
    dl.PBLDEmbeddings: {"n_features": 3},
    dl.PeriodicEmbeddings: {"n_features": 3, "lite": False},
    dl.LinearEmbeddings: {"n_features": 3, "d_embedding": 2},
    dl.NLinear: {"n_features": 3, "d_in": 2, "d_out": 2},
    dl.Periodic: {"n_features": 3},
}
LOSSES = (
    *(dl.BCEWithLogitsLoss, dl.CrossEntropyLoss, dl.FocalLoss, dl.HuberLoss),
    *(dl.QuantileLoss, dl.SmoothL1Loss),
)
OPTIMIZERS = dl.SGD, dl.Adam, dl.AdamW
SCHEDULES = {
    dl.ConstantLR: {},
    dl.CosLogLR: {"total_iters": 3},
    dl.CosineAnnealingLR: {"T_max": 3},
    dl.CosineAnnealingWarmRestarts: {"T_0": 3},
    dl.ExponentialLR: {"gamma": 0.5},
    dl.FlatCosineLR: {"total_iters": 3},
    dl.LinearLR: {},
    dl.MultiStepLR: {"milestones": (1, 2)},
    dl.OneCycleLR: {"total_steps": 3},
    dl.PolynomialLR: {},
    dl.StepLR: {"step_size": 1},
    dl.Warmup: {"steps": 2},
}
CALLBACKS = {
    dl.EarlyStopping: {"monitor": "loss"},
    dl.ReduceLROnPlateau: {"monitor": "loss"},
    dl.ExponentialMovingAverage: {},
    dl.StochasticWeightAveraging: {"start": 0},
}
_PERCEPTRON = {"hidden_layer_sizes": (3,), "max_iter": 2, "random_state": 0}
ESTIMATORS = {
    sklearn.MLPClassifier: _PERCEPTRON,
    sklearn.MLPRegressor: _PERCEPTRON,
    sklearn.MinMaxScaler: {},
    sklearn.StandardScaler: {},
    sklearn.TableEncoder: {},
    sklearn.TabularClassifier: {"max_epochs": 2, "random_state": 0},
    sklearn.TabularRegressor: {"max_epochs": 2, "random_state": 0},
}
INITIALIZERS = (
    *(dl.init.kaiming_normal, dl.init.kaiming_uniform, dl.init.lecun_normal),
    *(dl.init.orthogonal, dl.init.xavier_normal, dl.init.xavier_uniform),
)
NORMALIZERS = dl.MinMaxNormalizer, dl.ZScoreNormalizer, dl.QuantileNormalizer, dl.RobustNormalizer


def options_of(function, *left_out):
    """List the names of the options of a function."""
    parameters = inspect.signature(function).parameters.values()
    kinds = inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD
    return [
        p.name for p in parameters if p.kind not in kinds and p.name not in (*LEFT_OUT, *left_out)
    ]


def changed(choices, names, options):
    """Return options of which one, or seldom two, are strange, and the names of these."""
    chosen = {choices.pick(names) for _ in range(1 + choices.seldom())}
    new = dict(options)
    for name in sorted(chosen):
        value = choices.pick(VALUES)
        lasts = isinstance(value, int | float | np.number) and value > 3
        if not (name in LASTING and lasts):
            new[name] = value
    return new, sorted(chosen)
