"""dlcore itself, with outputs given by ``out=``, and fits as a user would call them."""

from functools import partial
from itertools import pairwise
from types import SimpleNamespace

import numpy as np

import dlcore as library
from benchmarks.peers.columns import perceptron
from benchmarks.settings import BETAS, EPS, LR, MOMENTUM, RATES

functions = library  # of the registry of kernels
to_numpy = np.asarray


def into(function):
    """Prepare a kernel that writes into an array shaped like its first argument."""
    return lambda *inputs: partial(function, *inputs, out=np.empty_like(inputs[0]))


def step(optimizer, params, grads):
    params, grads = [p.copy() for p in params], [g.copy() for g in grads]
    update = optimizer(params, LR).step

    def run():
        update(grads)
        return params

    return run


def fit(normalizer, results, x):
    n = normalizer()

    def run():
        n.fit(x)
        return [getattr(n, name) for name in results]

    return run


def transform(normalizer, x, *_):
    return partial(normalizer().fit(x).transform, x, out=np.empty_like(x))


adam = partial(library.Adam, betas=BETAS, eps=EPS)
sgd = partial(library.SGD, momentum=MOMENTUM)
z_score, min_max = library.ZScoreNormalizer, library.MinMaxNormalizer
KERNELS = {
    "cross_entropy_and_grad": {"out": into(library.cross_entropy_and_grad)},
    "bce_with_logits_and_grad": {"out": into(library.binary_cross_entropy_with_logits_and_grad)},
    "relu": {"out": into(library.relu)},
    "relu_backward": {"out": into(library.relu_backward)},
    "adam_step": {"Adam": partial(step, adam)},
    "sgd_momentum_step": {"SGD": partial(step, sgd)},
    "z_score_fit": {"fit": partial(fit, z_score, ("mean_", "var_"))},
    "min_max_fit": {"fit": partial(fit, min_max, ("data_min_", "data_max_"))},
    "z_score_transform": {"out": partial(transform, z_score)},
    "min_max_transform": {"out": partial(transform, min_max)},
}


def network(case):
    layers = []
    for i, (fan_in, fan_out) in enumerate(pairwise(case.widths)):
        layers += [library.ReLU()] * (i > 0) + [library.Linear(fan_in, fan_out)]
    model = library.Sequential(*layers, dtype=case.dtype, seed=0)
    flat = [array for layer in case.parameters() for array in layer]
    model.load_state_dict(dict(zip(model.state_dict(), flat, strict=True)))
    return model


def train(case, epochs=1, **ranks):
    x, y = case.data()
    model, rate = network(case), RATES[case.optimizer]
    if case.optimizer == "adam":
        optimizer = library.Adam(model.parameters(), rate, betas=BETAS, eps=EPS)
    else:
        optimizer = library.SGD(model.parameters(), rate, momentum=MOMENTUM)
    trainer = library.Trainer(model, loss=case.loss, optimizer=optimizer, seed=0, **ranks)
    options = {"epochs": epochs, "batch_size": case.batch, "verbose": 0}
    return lambda: trainer.fit(x, y, **options)["loss"][-1]


def many(case, members, epochs):
    """Return calls that train so many networks, each by a rate and a seed of its own."""
    x, y = case.data()
    trainers = [_member(case, i) for i in range(members)]
    options = {"epochs": epochs, "batch_size": case.batch, "verbose": 0}

    def all_of_them():
        library.fit_many(trainers, x, y, **options)

    return {"beside one": all_of_them, "beside vmap": all_of_them}


def _member(case, i):
    model = network(case)
    optimizer = library.Adam(
        model.parameters(), RATES["adam"] * (1 + i / 100), betas=BETAS, eps=EPS
    )
    return library.Trainer(model, loss=case.loss, optimizer=optimizer, seed=i)


def folds(case, count):
    """Return calls that validate on each fold: all folds at once, and one after the other."""
    x, y = case.data()
    stopping = {"callbacks": [library.EarlyStopping(patience=3)], "verbose": 0}
    options = {"epochs": 30, "batch_size": case.batch, **stopping}

    def at_once():
        return library.cross_validate(lambda i: _member(case, i), x, y, folds=count, **options)

    pairs = at_once().folds

    def one_by_one():
        for i, (train, test) in enumerate(pairs):
            held = x[test], y[test]
            _member(case, i).fit(x[train], y[train], validation_data=held, **options)

    return {"at once": at_once, "one by one": one_by_one}


def members(case):
    """Return a function that makes the steps of a turn, by AdamW, and returns their mean loss."""
    x, y = case.data()
    layers, width = [], case.in_features
    for block in case.blocks:
        init = "ones" if layers else "random-signs"
        own = library.LinearBatchEnsemble(width, block, case.k, scaling_init=init)
        layers, width = [*layers, own, library.ReLU(), library.Dropout(0.1)], block
    head = library.LinearEnsemble(width, case.out_features, case.k)
    model = library.Sequential(*layers, head, library.EnsembleMean("softmax"), seed=0)
    optimizer = library.AdamW(model.parameters(), lr=2e-3, weight_decay=3e-4)
    trainer = library.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
    options = {"epochs": 1, "batch_size": case.batch, "verbose": 0}
    return lambda: trainer.fit(x, y, **options)["loss"][-1]


def infer(case, x):
    return partial(network(case), x)


def infer_snapshot(case, x):
    return partial(network(case).snapshot(), x)


def product(case, x, weight, dy):
    if case.form == "forward":
        return partial(library.linear, x, weight, out=np.empty_like(dy))
    return lambda: library.linear_backward(dy, x, weight)[:2]


def estimators():
    from dlcore.sklearn import MinMaxScaler, MLPClassifier, MLPRegressor, StandardScaler

    return SimpleNamespace(
        MinMaxScaler=MinMaxScaler,
        MLPClassifier=MLPClassifier,
        MLPRegressor=MLPRegressor,
        StandardScaler=StandardScaler,
    )


def tables(method, regression, seed, threads):
    if method == "mlp":
        return perceptron(estimators(), regression, seed, np.float32)
    import dlcore.sklearn as own

    if not hasattr(own, "TabularClassifier"):
        raise ImportError("this dlcore has no TabularClassifier")
    estimator = own.TabularRegressor if regression else own.TabularClassifier
    return estimator(recipe=method, random_state=seed)
