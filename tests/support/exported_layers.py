"""Networks of the layers of tables, for the tests of exports: embeddings, branches, members."""

import numpy as np

import dlcore as dl

WIDTHS = (1, 3, 17)


def bins_of(features):
    """Return edges of columns, of other numbers of bins each: one of a single edge among them."""
    rng = np.random.default_rng(features)
    counts = [2, 1, *rng.integers(2, 20, features)][:features]
    return [np.sort(rng.normal(size=count)) for count in counts]


def _members(*layers, of="outputs"):
    return [*layers, dl.EnsembleMean(of)]


def _batch_ensemble(n, k, of):
    return _members(
        dl.LinearBatchEnsemble(n, 9, k, scaling_init="random-signs"),
        dl.ReLU(),
        dl.Dropout(0.2),
        dl.LinearBatchEnsemble(9, 5, k, bias=False),
        dl.LayerNorm(5),
        dl.Linear(5, 6),
        dl.PReLU(6),
        dl.LinearEnsemble(6, 3, k),
        of=of,
    )


# By name: the layers for rows of n features.
LAYERS = {
    "scale": lambda n: [dl.Scale(n), dl.Linear(n, 3)],
    "prelu": lambda n: [dl.PReLU(), dl.Linear(n, 5), dl.PReLU(5)],
    "parametric": lambda n: [
        dl.ParametricActivation(n, "mish"),
        dl.Linear(n, 4),
        dl.ParametricActivation(4, "selu"),
        dl.ParametricActivation(4, "relu"),
    ],
    "linear embeddings": lambda n: [dl.LinearEmbeddings(n, 5), dl.ReLU()],
    "of each feature": lambda n: [dl.NLinear(n, 1, 4), dl.NLinear(n, 4, 3, bias=False)],
    "of all features": lambda n: [dl.NLinear(n, 1, 4, shared=True), dl.NLinear(n, 4, 3)],
    "waves": lambda n: [dl.Periodic(n, 3, 1.0)],
    "cosines": lambda n: [dl.Periodic(n, 3, 1.0, bias=True)],
    "periodic": lambda n: [dl.PeriodicEmbeddings(n, 4, n_frequencies=5, lite=False)],
    "periodic, lite": lambda n: [
        dl.PeriodicEmbeddings(n, 4, n_frequencies=5, lite=True, missing=True)
    ],
    "pbld": lambda n: [dl.PBLDEmbeddings(n, 4, missing=True), dl.Linear(4 * n, 2)],
    "bins, A": lambda n: [
        dl.PiecewiseLinearEmbeddings(bins_of(n), 3, activation=True, version="A")
    ],
    "bins, B": lambda n: [
        dl.PiecewiseLinearEmbeddings(bins_of(n), 3, activation=False, version="B", missing=True)
    ],
    "residual": lambda n: [
        dl.Linear(n, 6),
        dl.Residual(dl.LayerNorm(6), dl.Linear(6, 9), dl.ReLU(), dl.Linear(9, 6)),
        dl.ReLU(),
        dl.Residual(dl.Residual(dl.Linear(6, 6)), dl.Tanh()),
    ],
    "wide and deep": lambda n: [
        dl.Parallel(
            (),
            [dl.Linear(n, 8), dl.ReLU(), dl.Parallel(dl.Linear(8, 2), dl.BatchNorm1d(8))],
            columns=[slice(n // 2, n), slice(0, n)],
        ),
        dl.Linear(n - n // 2 + 10, 3),
    ],
    "sum": lambda n: [dl.Parallel(dl.Sigmoid(), [dl.Residual(dl.Linear(n, n))], (), join="sum")],
    "members": lambda n: _batch_ensemble(n, 4, "outputs"),
    "members of classes": lambda n: _batch_ensemble(n, 4, "softmax"),
    "members of labels": lambda n: _batch_ensemble(n, 4, "sigmoid"),
    "one member": lambda n: [dl.LinearBatchEnsemble(n, 4, 1), dl.LinearEnsemble(4, 3, 1)],
    "mini": lambda n: [
        dl.LinearEmbeddings(n, 2),
        *_members(
            dl.ScaleEnsemble(3, 2 * n),
            dl.Residual(dl.NLinear(n, 2, 2), dl.Parallel((), dl.Tanh(), join="sum")),
            dl.PiecewiseLinearEmbeddings(bins_of(2 * n), 2, activation=False),
            dl.Tanh(),
            dl.Periodic(4 * n, 1, 0.1),
            dl.LinearEnsemble(8 * n, 2, 3, bias=False),
        ),
        dl.Tanh(),
    ],
    "branches of members": lambda n: [
        dl.Parallel(
            [dl.Linear(n, 4), dl.LinearEnsemble(4, 3, 5)],
            [dl.ScaleEnsemble(5, n)],
            [dl.LinearEnsemble(n, 2, 3), dl.EnsembleMean(), dl.LinearEnsemble(2, 1, 5)],
        ),
        dl.LinearEnsemble(n + 4, 2, 5),
        dl.EnsembleMean("softmax"),
        dl.Parallel([dl.LinearEnsemble(2, 2, 2), dl.EnsembleMean()], ()),
    ],
}

# What is for inference alone.
MEANS_INSIDE = ("mini", "branches of members")
# What takes NaN for a value.
TAKES_MISSING = ("periodic, lite", "pbld", "bins, B")


def model_of(name, features, dtype):
    """Make such a network, with random parameters and statistics."""
    model = dl.Sequential(*LAYERS[name](features), dtype=dtype, seed=1)
    rng = np.random.default_rng(features)
    model.flat[...] += (0.3 * rng.normal(size=model.flat.shape)).astype(dtype)
    return model


def rows_of(name, features, dtype, n=13):
    """Return rows for it, with NaN where that is a value."""
    x = 1.5 * np.random.default_rng(n).normal(size=(n, features))
    x[-1] *= 40
    if name in TAKES_MISSING:
        x[::3] = np.where(np.random.default_rng(2).random(x[::3].shape) < 0.5, np.nan, x[::3])
    return x.astype(dtype)
