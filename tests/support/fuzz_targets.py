"""The fuzz targets: arrays, options, streams and files (see fuzzing.py for what a fault is)."""

import tempfile
import warnings
from contextlib import suppress
from copy import deepcopy
from functools import cache
from pathlib import Path

import numpy as np

import dlcore as dl
from saving.test_damaged_files import attempt, seeds
from support.cases import CASES, DTYPES
from support.fuzzing import Fault, contents, judge
from support.mutations import mutated
from support.strange_arrays import arrays_of, strange
from support.strange_values import (
    CALLBACKS,
    ESTIMATORS,
    INITIALIZERS,
    LAYERS,
    LOSSES,
    NORMALIZERS,
    OPTIMIZERS,
    SCHEDULES,
    VALUES,
    changed,
    options_of,
)

warnings.simplefilter("ignore")

_KERNELS = [c for c in CASES if c.kind in ("activation", "softmax", "loss", "class loss")]
_SHAPES = (6, 4), (3, 5), (1, 1), (40, 7), (17, 33)


def _is_apart(a, b):
    return a is not b and not np.may_share_memory(a, b)


# ---- arrays --------------------------------------------------------------------------------------


def _kernel(choices):
    case = choices.pick(_KERNELS)
    inputs = case.inputs(choices.pick(_SHAPES), choices.pick(DTYPES), choices.below(5))
    given = dict(inputs)
    for name in inputs:
        if choices.below(2):
            given[name] = strange(choices, inputs[name])
    options, results = dict(case.options), []
    if case.takes_out and choices.seldom():
        like = choices.pick(list(given.values()))
        out = strange(choices, like) if choices.below(2) else like
        options["out"] = out
        results = arrays_of(out)
    arrays = [a for a in arrays_of(*given.values()) if all(_is_apart(a, r) for r in results)]
    names = [*inputs, *options, "axis"]
    judge(lambda: getattr(dl, case.name)(**given, **options), names, arrays, results)


def _step(choices):
    dtype = choices.pick(DTYPES)
    params = [choices.rng().normal(size=shape).astype(dtype) for shape in ((3, 4), (7,), ())]
    grads = [0.1 * p for p in params]
    for some in (params, grads):
        for i in range(3):
            if choices.seldom():
                some[i] = strange(choices, np.asarray(some[i]))
    make = choices.pick(OPTIMIZERS)
    given = arrays_of(*params)
    apart = [g for g in arrays_of(*grads) if all(_is_apart(g, p) for p in given)]
    optimizer = judge(lambda: make(params), ["params"], given + apart)
    if optimizer is not None:
        judge(lambda: optimizer.step(grads), ["grads", "params"], apart, given)
    else:
        clip = choices.pick((dl.clip_grad_norm, dl.clip_grad_value))
        judge(lambda: clip(grads, 1.0), ["grads", "clip_grad"], (), apart)


def _columns(choices):
    x = choices.rng().normal(size=(9, 4)).astype(choices.pick(DTYPES))
    normalizer = choices.pick(NORMALIZERS)()
    call = choices.pick(("fit", "transform", "inverse_transform", "partial_fit", "stats"))
    given = strange(choices, x)
    watched = arrays_of(given)
    if call == "stats":
        judge(lambda: dl.column_stats(given), ["x", "column"], watched)
        return
    if "transform" in call:
        normalizer.fit(x)
    function = getattr(normalizer, call, None)
    if function is not None:
        judge(lambda: function(given), ["x", "y", "column"], watched)


@cache
def _model(dtype):
    layers = dl.Linear(4, 5), dl.BatchNorm1d(5), dl.ReLU(), dl.Linear(5, 3)
    return dl.Sequential(*layers, dtype=dtype, seed=0)


def _network(choices):
    dtype = choices.pick(DTYPES)
    model, rng = deepcopy(_model(dtype)), choices.rng()
    x, y = rng.normal(size=(12, 4)).astype(dtype), rng.integers(0, 3, 12)
    weight = rng.uniform(0.5, 2, 12) if choices.seldom() else None
    x = strange(choices, x) if choices.below(2) else x
    call = choices.pick(("model", "predict", "evaluate", "fit", "train_on_batch"))
    if call in ("model", "predict"):
        own = dl.Trainer(model, loss="cross_entropy")
        function = model if call == "model" else own.predict
        judge(lambda: function(x), ["x"], [*arrays_of(x), model.flat])
        return
    y = strange(choices, y) if choices.below(2) else y
    weight = strange(choices, weight) if weight is not None else None
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer="sgd", seed=0)
    options = {"sample_weight": weight} | (
        {"epochs": 1, "batch_size": 5, "verbose": 0} if call == "fit" else {}
    )
    names = ["x", "y", "sample_weight", "target", "label"]
    watched = arrays_of(x, y, weight)
    if call != "fit":
        judge(lambda: getattr(trainer, call)(x, y, **options), names, watched, [model.flat])
        return

    def fit():
        with suppress(FloatingPointError):  # of a step, before which others were made
            trainer.fit(x, y, **options)

    judge(fit, names, watched, [model.flat])


def arrays(choices):
    """Call kernels, optimizers, normalizers and networks on strange arrays."""
    choices.pick((_kernel, _kernel, _kernel, _step, _columns, _network))(choices)


# ---- options -------------------------------------------------------------------------------------

_X = np.random.default_rng(0).normal(size=(12, 3))
_Y = np.arange(12) % 2


def _layer(choices):
    make = choices.pick(list(LAYERS))
    options, names = changed(choices, options_of(make), LAYERS[make])
    layer = judge(lambda: make(**options), [*names, "features"])
    if layer is None:
        return
    model = judge(lambda: dl.Sequential(layer, dtype=np.float64, seed=0), [*names, make.__name__])
    if model is not None:
        judge(lambda: model(np.abs(_X).round() % 2), ["x"])


def _kernel_options(choices):
    case = choices.pick(_KERNELS)
    inputs = case.inputs((6, 4), np.float32)
    names = options_of(getattr(dl, case.name), *inputs, "out")
    if not names:
        return
    options, changes = changed(choices, names, case.options)
    names = [*changes, *options, "target"]
    call = lambda: getattr(dl, case.name)(**inputs, **options)
    judge(call, names, inputs.values())


def _optimizer(choices):
    make = choices.pick(OPTIMIZERS)
    options, names = changed(choices, options_of(make, "params"), {})
    params = [np.ones(5), np.ones((2, 3), np.float32)]
    optimizer = judge(lambda: make(params, **options), names, params)
    if optimizer is not None:
        judge(lambda: optimizer.step([p * 0.1 for p in params]), names, (), params)


def _loss(choices):
    make = choices.pick(LOSSES)
    options, names = changed(choices, options_of(make), {})
    loss = judge(lambda: make(**options), names)
    if loss is None:
        return
    model = deepcopy(_model(np.float64))
    trainer = judge(lambda: dl.Trainer(model, loss=loss, optimizer="sgd", seed=0), names)
    if trainer is not None:
        x = np.ones((4, 4))
        y = np.ones((4, 3)) if choices.below(2) else np.arange(4) % 3
        judge(lambda: trainer.train_on_batch(x, y), [*names, "y"], [x, y])


def _schedule(choices):
    make = choices.pick(list(SCHEDULES))
    options, names = changed(choices, options_of(make), SCHEDULES[make])
    schedule = judge(lambda: make(**options), names)
    if schedule is not None:
        _fit(names, schedule=schedule)


def _callback(choices):
    make = choices.pick(list(CALLBACKS))
    options, names = changed(choices, options_of(make), CALLBACKS[make])
    callback = judge(lambda: make(**options), [*names, "mode"])
    if callback is not None:
        _fit(names, callbacks=[callback])


def _fit(names, fit_options=None, **options):
    model = dl.Sequential(dl.Linear(3, 2), dtype=np.float64, seed=0)
    named = {"loss": "cross_entropy", "optimizer": "sgd", "seed": 0} | options
    trainer = judge(lambda: dl.Trainer(model, **named), [*names, *options])
    if trainer is not None:
        own = {"epochs": 2, "batch_size": 5, "verbose": 0} | (fit_options or {})
        judge(lambda: trainer.fit(_X, _Y, **own), [*names, *options], [_X, _Y])


def _trainer(choices):
    options, names = changed(choices, options_of(dl.Trainer, "model"), {})
    _fit(names, **options)


def _fit_options(choices):
    options, names = changed(choices, options_of(dl.Trainer.fit, "self", "x", "y"), {})
    _fit(names, options)


def _normalizer(choices):
    make = choices.pick(NORMALIZERS)
    options, names = changed(choices, options_of(make), {})
    normalizer = judge(lambda: make(**options), names)
    if normalizer is not None:
        judge(lambda: normalizer.fit(_X).transform(_X), names, [_X])


def _split(choices):
    options, names = changed(choices, options_of(dl.train_val_test_split, "x", "y"), {})
    judge(lambda: dl.train_val_test_split(_X, _Y, **options), names, [_X, _Y])


def _estimator(choices):
    make = choices.pick(list(ESTIMATORS))
    options, names = changed(choices, options_of(make), ESTIMATORS[make])
    estimator = make(**options)
    fitted = judge(lambda: estimator.fit(_X, _Y), [*names, *options, "penalty"], [_X, _Y])
    if fitted is not None:
        use = fitted.predict if hasattr(fitted, "predict") else fitted.transform
        judge(lambda: use(_X), ["X"], [_X])


def _new_trainer(lr=0.1):
    model = dl.Sequential(dl.Linear(3, 2), dtype=np.float64, seed=0)
    return dl.Trainer(model, loss="cross_entropy", optimizer=dl.SGD(model.parameters(), lr), seed=0)


def _function(choices):
    """Call one that takes models or trainers, or makes an array."""
    own, rows = _new_trainer(), {"x": _X, "y": _Y}
    model = own.model
    calls = {
        dl.compute_bins: {"x": _X},
        dl.cross_validate: {"trainer": own, "folds": 2, "epochs": 2, **rows},
        dl.Ensemble: {"models": [model, _new_trainer().model], "of": "outputs"},
        dl.fit_many: {"trainers": [own, _new_trainer()], "epochs": 2, **rows},
        dl.initialize: {"model": model, "method": "xavier_uniform"},
        dl.learning_curve: {"make_trainer": _new_trainer, "epochs": 2, **rows},
        dl.lr_find: {"model": model, "loss": "cross_entropy", "iterations": 10, **rows},
        dl.MultiTargetLoss: {"losses": {"a": "mse", "b": "cross_entropy"}, "widths": (1, 2)},
        dl.one_hot: {"labels": _Y, "classes": 2},
        dl.parameter_groups: {"model": model, "lr": 0.1},
        dl.sweep: {"make": _new_trainer, "space": {"lr": [0.1, 0.2]}, "candidates": 2, **rows}
        | {"min_epochs": 1, "max_epochs": 2, "monitor": "loss"},
        dl.update_batch_norm: {
            "model": deepcopy(_model(np.float64)),
            "inputs": _X.repeat(2, 1)[:, :4],
        },
    }
    calls |= {make: {"shape": (3, 2)} for make in INITIALIZERS}
    function = choices.pick(list(calls))
    options, names = changed(choices, options_of(function, "x", "y"), calls[function])
    judge(lambda: function(**options), [*names, *options], [_X, _Y])


def options(choices):
    """Give options strange values, and use what is made of those that are taken."""
    kinds = (_layer, _kernel_options, _optimizer, _loss, _schedule, _callback, _trainer)
    kinds += _fit_options, _normalizer, _split, _estimator, _estimator, _function, _function
    choices.pick(kinds)(choices)


# ---- streams -------------------------------------------------------------------------------------


class Ended(Exception):
    """What a stream raises by itself; it comes out as it is."""


def _batches(choices, rng, watched):
    """Give batches of which some are strange."""
    for _ in range(choices.below(5)):
        x, y = rng.normal(size=(8, 4)), rng.integers(0, 3, 8)
        weight = rng.uniform(0, 1, 8)
        kind = choices.below(12)
        if kind == 0:
            x = strange(choices, x)
        elif kind == 1:
            y = strange(choices, y)
        elif kind == 2:
            weight = strange(choices, weight)
        elif kind == 3:
            raise Ended
        batch = (x, y, weight) if choices.below(2) else (x, y)
        if kind == 4:
            batch = choices.pick(((x,), (x, y, weight, x), [x, y], x, None, "xy", (), VALUES))
        elif kind == 5:
            batch = (x[:0], y[:0])
        watched += [(a, contents(a)) for a in arrays_of(x, y, weight)]
        yield batch


class Source:
    """A stream of each kind that there is."""

    def __init__(self, choices, rng, watched):
        self._arguments = choices, rng, watched

    def __iter__(self):
        return _batches(*self._arguments)


def streams(choices):
    """Fit and evaluate what iterables give, some of it strange."""
    rng, watched = choices.rng(), []
    model = deepcopy(_model(np.float64))
    accumulate = 1 + choices.below(3)
    trainer = dl.Trainer(
        model, loss="cross_entropy", optimizer="sgd", seed=0, accumulate=accumulate
    )
    make = choices.pick((Source, _batches, lambda *given: list(_batches(*given))))
    try:
        source = make(choices, rng, watched)
        options = {"epochs": 1 + choices.below(2), "verbose": 0}
        if choices.seldom():
            options["steps_per_epoch"] = choices.pick((1, 2, 5))
        if choices.seldom():
            options["validation_data"] = make(choices, rng, watched)
        names = ["batch", "x", "validation", "epoch", "steps", "row"]
        fit = choices.below(4) < 3
        call = (lambda: trainer.fit(source, **options)) if fit else lambda: trainer.evaluate(source)
        judge(call, names)
    except Ended:
        pass
    except Fault as fault:
        if not isinstance(fault.__cause__, Ended):
            raise
    if any(contents(a) != before for a, before in watched):
        raise Fault("an array of a batch has changed")
    if not np.isfinite(model.flat).all():
        raise Fault("parameters that are not finite")
    x, y = rng.normal(size=(8, 4)), rng.integers(0, 3, 8)
    trainer.fit([(x, y)], epochs=1, verbose=0)  # goes on


# ---- files ---------------------------------------------------------------------------------------


@cache
def _files():
    folder = tempfile.TemporaryDirectory()
    return folder, list(seeds(Path(folder.name)).values())


def files(choices):
    """Load files that were damaged."""
    folder, own = _files()
    path = Path(folder.name) / "damaged"
    path.write_bytes(mutated(choices.pick(own), choices.rng()))
    try:
        message = attempt(path)
    except Exception as error:
        raise Fault(f"{type(error).__name__}: {error}") from error
    if message and not message.startswith(str(path)):
        raise Fault(f"no file is named: {message}")


TARGETS = {target.__name__: target for target in (arrays, options, streams, files)}
