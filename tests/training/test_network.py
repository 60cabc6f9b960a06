"""The native network and training step: numbers, bits, shapes, layouts, threads, signals."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dlcore as dl
from dlcore import reference
from dlcore.nn import _losses as objectives
from dlcore.training import _loop as training
from support.layouts import LAYOUTS, broadcast
from support.networks import (
    ACTIVATIONS,
    DTYPES,
    F32,
    F64,
    LOSSES,
    drawn_layers,
    network,
    quiet_fit,
    rows_of,
)
from support.plain_step import PlainNetwork, check_fit, loss_and_slope, plain_fit


def sgd_trainer(model, loss="cross_entropy", lr=0.05, **options):
    optimizer = dl.SGD(model.parameters(), lr=lr, **options.pop("sgd", {}))
    return dl.Trainer(model, loss=loss, optimizer=optimizer, seed=0, **options)


# ---- a fit is the plain one


@DTYPES
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_fit_with_each_activation(activation, dtype, isa):
    model = network(activation, dtype=dtype)
    check_fit(model, dl.CrossEntropyLoss(), *rows_of("labels", 50, dtype))


@DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", LOSSES)
def test_fit_with_each_loss(name, weighted, dtype):
    loss, kind = LOSSES[name]
    weight = np.random.default_rng(3).random(50) if weighted else None
    if weighted:
        weight[::7] = 0
    check_fit(network(dtype=dtype), loss, *rows_of(kind, 50, dtype), weight=weight)


OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.1}),
    "momentum": ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.01}),
    "nesterov": ("SGD", {"lr": 0.05, "momentum": 0.8, "nesterov": True, "l1": 0.01}),
    "sgd_maximize": ("SGD", {"lr": 1e-3, "momentum": 0.5, "maximize": True, "weight_decay": 0.1}),
    "adam": ("Adam", {"lr": 0.01}),
    "adam_decay": ("Adam", {"lr": 0.01, "weight_decay": 0.1, "eps": 1e-4, "betas": (0.7, 0.9)}),
    "adam_decoupled": ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    "adam_no_means": ("Adam", {"lr": 0.01, "betas": (0.0, 0.5), "eps": 1e-3}),
    "amsgrad": ("Adam", {"lr": 0.01, "amsgrad": True, "l1": 0.05}),
    "amsgrad_maximize": ("Adam", {"lr": 1e-3, "amsgrad": True, "maximize": True}),
    "adamw": ("AdamW", {"lr": 0.01}),
    "adamw_all": ("AdamW", {"lr": 0.01, "weight_decay": 0.2, "amsgrad": True, "l1": 0.01}),
}


@DTYPES
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fit_with_each_optimizer(name, dtype):
    kind, options = OPTIMIZERS[name]
    check_fit(
        network(dtype=dtype),
        dl.CrossEntropyLoss(),
        *rows_of("labels", 50, dtype),
        make=lambda library, params: getattr(library, kind)(params, **options),
        epochs=12,
    )


@DTYPES
@pytest.mark.parametrize(
    "options",
    [
        {"accumulate": 3, "batch_size": 5},
        {"accumulate": 2, "batch_size": 7, "weight": np.linspace(0, 2, 50)},
        {"accumulate": 100, "batch_size": 7},
        {"max_norm": 0.05},
        {"max_norm": 1e6},
        {"max_norm": 0.1, "accumulate": 3, "batch_size": 7},
        {"frozen": ["0"]},
        {"frozen": ["2.weight", "4.bias"], "max_norm": 0.1},
        {"frozen": ["4"]},
        {"frozen": ["0", "2"], "accumulate": 2},
        {"names": ["2.bias", "4.weight"]},
        {"names": ["4.weight", "0.weight", "0.bias"], "frozen": ["0.bias"], "max_norm": 0.1},
        {"weight": np.repeat([1.0, 0.0, 2.0, 0.0], [10, 16, 14, 10])},
        {"weight": np.repeat([0.0, 1.0], [32, 18]), "accumulate": 2},
        {"batch_size": 1, "epochs": 2},
        {"batch_size": 1000},
    ],
    ids=str,
)
def test_fit_with_options_of_the_trainer(options, dtype):
    check_fit(network(dtype=dtype), dl.CrossEntropyLoss(), *rows_of("labels", 50, dtype), **options)


@pytest.mark.parametrize("loss", ["cross_entropy", "ce_all"])
def test_fit_with_class_weights(loss):
    x, y = rows_of("labels", 50, F64)
    weight = np.random.default_rng(0).random(50)
    trainer = sgd_trainer(network(), LOSSES[loss][0])
    net = PlainNetwork(trainer.model)
    history = quiet_fit(
        trainer, x, y, 10, batch_size=16, sample_weight=weight, class_weight={0: 3.0, 1: 0.2}
    )
    weight *= np.array([3.0, 0.2, 1.0])[y]
    expected = plain_fit(
        net,
        trainer.loss,
        lambda params: reference.SGD(params, lr=0.05),
        x,
        y,
        epochs=10,
        batch_size=16,
        weight=weight,
    )
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-10)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", "bhilqBHILQ")
def test_labels_of_any_integer_dtype(kind, weighted):
    x, y = rows_of("labels", 50, F32)
    weight = np.linspace(0, 1, 50) if weighted else None
    fits = []
    for labels in (
        y,
        y.astype(kind),
        np.repeat(y.astype(kind), 3)[::3],
        y.astype(kind)[::-1][::-1],
    ):
        trainer = sgd_trainer(network(dtype=F32), "cross_entropy")
        losses = quiet_fit(trainer, x, labels, 3, batch_size=16, sample_weight=weight)["loss"]
        fits.append((losses, trainer.model.flat.tobytes()))
    assert all(fit == fits[0] for fit in fits)


@pytest.mark.parametrize(("ignore", "kind"), [(-100, "h"), (255, "B"), (-1, "b"), (2, "Q")])
def test_ignored_labels_of_small_dtypes(ignore, kind):
    x, y = rows_of("labels", 40, F64)
    y = np.where(np.arange(40) % 3 == 0, ignore, y).astype(kind)
    check_fit(network(), dl.CrossEntropyLoss(ignore_index=ignore), x, y)


def test_an_ignored_class_of_probabilities_is_an_error_of_fit_as_of_evaluate():
    trainer = sgd_trainer(network(), dl.CrossEntropyLoss(ignore_index=0))
    for run in (trainer.evaluate, lambda x, y: quiet_fit(trainer, x, y)):
        with pytest.raises(ValueError, match="ignore_index is for class indices"):
            run(*rows_of("shares", 50, F64))


@DTYPES
@pytest.mark.parametrize("weight_dtype", [F64, F32, np.float16, np.longdouble, np.int32])
def test_class_weights_of_a_loss_may_have_any_dtype(weight_dtype, dtype):
    loss = dl.CrossEntropyLoss(weight=np.array([1, 2, 0.5]).astype(weight_dtype))
    check_fit(network(dtype=dtype), loss, *rows_of("labels", 50, dtype))


@pytest.mark.parametrize(
    "weight",
    [
        np.linspace(1, 2, 50, dtype=F32),
        np.arange(50, dtype=np.int8),
        np.linspace(1, 2, 100)[::2],
        np.linspace(1, 2, 50)[::-1],
        np.broadcast_to(2.0, 50),
        np.linspace(1, 2, 50) * 1e-300,
        np.linspace(1, 2, 50) * 1e200,
    ],
    ids=["float32", "int8", "strided", "reversed", "broadcast", "tiny", "huge"],
)
def test_sample_weights_of_any_dtype_layout_and_size(weight):
    check_fit(network(), dl.MSELoss(), *rows_of("values", 50, F64), weight=weight)


def test_tiny_sample_weights():
    check_fit(network(), dl.MSELoss(), *rows_of("values", 50, F64), weight=np.full(50, 1e-300))


def test_subnormal_sample_weights_count_as_none():
    x, y = rows_of("values", 50, F64)
    trainer = dl.Trainer(network(), loss="mse", seed=0)
    with pytest.raises(ValueError, match="no row that counts"):
        trainer.fit(x, y, epochs=1, sample_weight=np.full(50, 1e-310), verbose=0)


@pytest.mark.parametrize("bias", [False, True])
def test_layers_below_the_first_and_above_the_last_linear(bias):
    layers = [dl.Tanh(), dl.Sigmoid(), dl.Linear(4, 5, bias), dl.GELU(), dl.SiLU()]
    layers += [dl.Linear(5, 6), dl.Linear(6, 3, bias), dl.Softplus(), dl.ELU()]
    model = dl.Sequential(*layers, dtype=F64, seed=0)
    check_fit(model, dl.MSELoss(), *rows_of("values", 50, F64))


def test_the_same_activation_object_may_be_used_twice():
    act = dl.GELU()
    model = dl.Sequential(dl.Linear(4, 5), act, act, dl.Linear(5, 3), act, dtype=F64, seed=0)
    check_fit(model, dl.HuberLoss(), *rows_of("values", 50, F64))


def test_one_column_of_targets_as_a_vector():
    x, y = rows_of("values", 50, F64, outputs=1)
    check_fit(network(widths=(4, 7, 1)), dl.MSELoss(), x, y[:, 0], weight=np.linspace(0, 1, 50))


# ---- gradients


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_gradients_are_central_differences(activation, name):
    loss, kind = LOSSES[name]
    x, y = rows_of(kind, 9, F64)
    weight = np.linspace(0.1, 1, 9)
    model = network(activation, widths=(4, 3, 3))
    net = PlainNetwork(model)
    start = model.flat.copy()
    quiet_fit(sgd_trainer(model, loss, lr=1.0), x, y, batch_size=9, sample_weight=weight)
    gradient = start - model.flat
    numeric = []
    for parameter in net.parameters.values():
        for i in range(parameter.size):
            kept, values = parameter.flat[i], []
            for step in (1e-6, -1e-6):
                parameter.flat[i] = kept + step
                values.append(loss_and_slope(loss, net.forward(x)[-1], y, weight)[0])
            parameter.flat[i] = kept
            numeric.append((values[0] - values[1]) / 2e-6)
    np.testing.assert_allclose(gradient, numeric, atol=1e-8)
    assert np.abs(gradient).max() > 1e-4


# ---- bits


def bits(threads, dtype, kind="labels", verbose=0, accumulate=1, **options):
    """The bits of a fit of several steps, large enough for several threads."""
    with dl.num_threads(threads):
        model = network(dl.GELU(), widths=(54, 256, 256, 7), dtype=dtype)
        trainer = dl.Trainer(
            model,
            loss="cross_entropy" if kind == "labels" else "mse",
            optimizer=dl.Adam(model.parameters()),
            seed=0,
            accumulate=accumulate,
            **options,
        )
        x, y = rows_of(kind, 700, dtype, inputs=54, outputs=7)
        history = quiet_fit(trainer, x, y, batch_size=256, shuffle=True, verbose=verbose)
        return history["loss"], model.flat.tobytes(), trainer.predict(x).tobytes()


@DTYPES
def test_the_same_bits_with_any_number_of_threads(dtype, isa):
    expected = bits(1, dtype)
    for threads in (1, 2, 3, 4, 8, 2):
        assert bits(threads, dtype) == expected


@pytest.mark.parametrize("options", [{"accumulate": 2}, {"clip_grad_norm": 0.01}], ids=str)
def test_the_same_bits_with_options(options):
    expected = bits(1, F32, "values", **options)
    for threads in (2, 3, 8):
        assert bits(threads, F32, "values", **options) == expected


def test_the_same_bits_with_any_verbosity(capsys):
    expected = bits(2, F32)
    for verbose in (0, 1, 2):
        assert bits(2, F32, verbose=verbose) == expected


def test_the_same_loss_wherever_an_epoch_is_cut_into_slices(monkeypatch):
    """An epoch that takes longer than a slice must not have losses that depend on the clock."""
    x, y = rows_of("labels", 3000, F64)
    losses = []
    for seconds in (100.0, 0.0, 1e-4, 3e-4, 1e-3, 2e-3):
        monkeypatch.setattr(training, "_SLICE", seconds)
        losses.append(quiet_fit(sgd_trainer(network()), x, y, 3, batch_size=2)["loss"])
    assert all(loss == losses[0] for loss in losses)


# ---- shapes and layouts

WIDTHS = (1, 2, 3, 15, 16, 17, 31, 32, 33, 37, 91, 512, 1024)
BATCHES = (1, 2, 7, 13, 14, 15, 31, 113)


@DTYPES
@pytest.mark.parametrize("width", WIDTHS)
def test_fit_of_odd_shapes(width, dtype, isa):
    for batch in BATCHES:
        layers = [dl.Linear(width, 5), dl.Tanh(), dl.Linear(5, width), dl.GELU()]
        model = dl.Sequential(*layers, dl.Linear(width, 3), dtype=dtype, seed=0)
        x, y = rows_of("labels", 2 * batch + batch // 2, dtype, inputs=width)
        check_fit(model, dl.CrossEntropyLoss(), x, y, epochs=1, batch_size=batch)


@DTYPES
@pytest.mark.parametrize(("a", "b"), [(1024, 1024), (1024, 33), (33, 1024), (513, 300), (17, 700)])
def test_fit_of_wide_layers(a, b, dtype):
    model = network(dl.ReLU(), widths=(a, b, 5), dtype=dtype)
    x, y = rows_of("values", 40, dtype, inputs=a, outputs=5)
    check_fit(model, dl.MSELoss(), x, y, epochs=1, batch_size=15)


@pytest.mark.parametrize("batch", [256, 300, 900, 1000])
def test_fit_of_large_batches(batch):
    """More rows than terms of a block of the product, with a short last batch."""
    x, y = rows_of("values", 1000, F64, inputs=20)
    model = network(widths=(20, 40, 3))
    check_fit(model, dl.MSELoss(), x, y, epochs=2, batch_size=batch, weight=np.linspace(0, 1, 1000))


@DTYPES
def test_fit_of_one_row_and_of_one_class(dtype):
    x, y = rows_of("labels", 1, dtype)
    check_fit(network(dtype=dtype), dl.CrossEntropyLoss(), x, y)
    x, y = rows_of("labels", 20, dtype, outputs=1)
    check_fit(network(widths=(4, 5, 1), dtype=dtype), dl.CrossEntropyLoss(), x, y)
    x, y = rows_of("values", 1, dtype, inputs=1, outputs=1)
    check_fit(network(widths=(1, 1), dtype=dtype), dl.MSELoss(), x, y)


@DTYPES
@pytest.mark.parametrize("rows", [1, 30])
@pytest.mark.parametrize("name", [*LAYOUTS, "broadcast"])
@pytest.mark.parametrize("kind", ["labels", "values"])
def test_the_layout_does_not_change_the_bits(kind, name, rows, dtype):
    layout = {**LAYOUTS, "broadcast": broadcast}[name]
    x, y = (layout(a) for a in rows_of(kind, rows, dtype, inputs=21))
    fits = []
    for inputs, targets in ((x, y), (x.copy(order="C"), y.copy(order="C"))):
        model = network(widths=(21, 33, 3), dtype=dtype)
        trainer = sgd_trainer(model, "cross_entropy" if kind == "labels" else "mse")
        history = quiet_fit(trainer, inputs, targets, 2, batch_size=8, shuffle=True)
        fits.append((history["loss"], model.flat.tobytes(), model(inputs).tobytes()))
    assert fits[0] == fits[1]


@pytest.mark.parametrize("columns", [1, 2, 21])
def test_inference_of_views(columns):
    model = network(widths=(columns, 33, 3), dtype=F32)
    x = np.random.default_rng(0).normal(size=(40, 2 * columns + 3)).astype(F32)
    views = [x[::3, 1 : columns + 1], x[::-1, ::2][:, :columns], x.T[:columns].T, x[5:6, :columns]]
    views += [np.broadcast_to(x[:1, :columns], (9, columns)), x[:, columns:0:-1]]
    for view in views:
        assert model(view).tobytes() == model(view.copy(order="C")).tobytes()


@DTYPES
def test_inference_of_no_rows_and_of_no_features(dtype):
    model = network(dtype=dtype)
    assert model(np.zeros((0, 4), dtype)).shape == (0, 3)
    assert model(np.zeros((9, 4), dtype)[:0]).shape == (0, 3)
    assert dl.Sequential(dl.ReLU(), dtype=dtype)(np.zeros((5, 0), dtype)).shape == (5, 0)


def test_a_model_without_linear_layers_takes_any_width():
    model = dl.Sequential(dl.Tanh(), dl.ReLU(), dtype=F64)
    for shape in ((3, 5), (7, 1), (3, 5), (200, 33)):
        x = np.random.default_rng(0).normal(size=shape)
        np.testing.assert_allclose(model(x), np.maximum(np.tanh(x), 0), rtol=1e-15)


def test_inference_writes_nothing_to_x():
    x = np.random.default_rng(0).normal(size=(50, 4))
    before = x.copy()
    dl.Sequential(dl.ReLU(), dl.Linear(4, 3), dtype=F64)(x)
    np.testing.assert_array_equal(x, before)


# ---- inference


@DTYPES
@pytest.mark.parametrize("terms", [1, 2, 17, 255, 256, 257, 1024, 3000])
def test_the_error_of_a_linear_layer(terms, dtype, isa):
    rng = np.random.default_rng(terms)
    model = network(widths=(terms, 37), dtype=dtype)
    x = rng.normal(size=(29, terms)).astype(dtype)
    wide = np.longdouble if dtype == F64 else F64
    w, b = (p.astype(wide) for p in model.parameters())
    exact = x.astype(wide) @ w.T + b
    size = np.abs(x.astype(wide)) @ np.abs(w.T) + np.abs(b)
    # Without multiply-add each term is rounded twice.
    bound = 2 * (min(terms, 256) + terms / 256 + 2) * np.finfo(dtype).eps / 2
    assert (np.abs(model(x) - exact) <= bound * size).all()


@DTYPES
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_a_row_has_the_bits_that_it_has_alone(activation, dtype, isa):
    model = network(activation, widths=(21, 37, 300, 5), dtype=dtype)
    x = np.random.default_rng(0).normal(size=(241, 21)).astype(dtype)
    y = model(x)
    for i in (0, 1, 13, 14, 15, 100, 239, 240):
        assert model(x[i : i + 1]).tobytes() == y[i].tobytes()
    for n in (2, 3, 7, 14, 15, 113, 240):
        assert model(x[:n]).tobytes() == y[:n].tobytes()


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_inference_is_the_plain_one(activation):
    x = np.random.default_rng(0).normal(size=(33, 21))
    model = network(activation, widths=(21, 33, 17, 5))
    np.testing.assert_allclose(model(x), PlainNetwork(model).forward(x)[-1], rtol=1e-12, atol=1e-13)


def test_inference_sees_parameters_that_change():
    model, x = network(), np.ones((3, 4))
    model(x)
    model.flat *= 0.5
    np.testing.assert_allclose(model(x), PlainNetwork(model).forward(x)[-1], rtol=1e-13)


def test_threads_may_share_a_model():
    model = network(dl.SiLU(), widths=(54, 256, 256, 7), dtype=F32)
    x = np.random.default_rng(0).normal(size=(500, 54)).astype(F32)
    expected, seen = model(x).tobytes(), []
    work = lambda: seen.extend(model(x).tobytes() == expected for _ in range(30))
    run_threads([work] * 3)
    assert seen == [True] * 90


# ---- processes and threads


def run_threads(works):
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_two_models_trained_at_the_same_time():
    found = {}
    for dtype in (F32, F64):
        found[dtype] = bits(2, dtype)

    def train(dtype, seen):
        def work():
            for _ in range(3):
                model = network(dl.GELU(), widths=(54, 256, 256, 7), dtype=dtype)
                trainer = dl.Trainer(model, loss="cross_entropy", seed=0)
                x, y = rows_of("labels", 700, dtype, inputs=54, outputs=7)
                losses = quiet_fit(trainer, x, y, batch_size=256, shuffle=True)["loss"]
                seen.append((losses, model.flat.tobytes(), trainer.predict(x).tobytes()))

        return work

    seen = {dtype: [] for dtype in found}
    with dl.num_threads(2):
        run_threads([train(dtype, seen[dtype]) for dtype in found for _ in range(2)])
    for dtype, fits in seen.items():
        assert len(fits) == 6
        assert all(fit == found[dtype] for fit in fits)


SCRIPT = """
import multiprocessing, os, sys
import numpy as np, dlcore as dl

def flat(_=0):
    dl.set_num_threads(2)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(700, 54)).astype(np.float32), rng.integers(0, 7, 700)
    layers = dl.Linear(54, 256), dl.ReLU(), dl.Linear(256, 256), dl.ReLU(), dl.Linear(256, 7)
    model = dl.Sequential(*layers, seed=0)
    trainer = dl.Trainer(model, loss="cross_entropy", seed=0)
    trainer.fit(x, y, epochs=3, batch_size=256, verbose=0)
    return model.flat.tobytes() + trainer.predict(x).tobytes()

if __name__ == "__main__":
    expected = flat()
    if sys.argv[1] == "os.fork":
        child = os.fork()
        if child == 0:
            os._exit(0 if flat() == expected else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert flat() == expected
    else:
        with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
            for result in pool.map(flat, range(4)):
                assert result == expected
"""


# Not all that there are: joblib adds its own to them.
METHODS = [
    method
    for method in ("fork", "forkserver", "spawn")
    if method in multiprocessing.get_all_start_methods()
]


@pytest.mark.parametrize("method", ["os.fork", *METHODS])
def test_fits_in_other_processes(method, tmp_path):
    if method == "os.fork" and not hasattr(os, "fork"):
        pytest.skip("the platform has no fork")
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    result = subprocess.run(
        [sys.executable, str(script), method],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr


# ---- Ctrl-C

needs_signals = pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="needs pthread_kill")


def interrupted_after(seconds, fit):
    """Press Ctrl-C after this time; return how long the fit took to end."""
    pressed = []

    def press():
        pressed.append(time.perf_counter())
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    timer = threading.Timer(seconds, press)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            fit()
        return time.perf_counter() - pressed[0]
    finally:  # a fit that fails must not leave it to the next test
        timer.cancel()
        timer.join()


@needs_signals
@pytest.mark.parametrize("metrics", [None, ["accuracy"]])
def test_ctrl_c_at_random_moments(metrics):
    model = network(dl.ReLU(), widths=(54, 256, 256, 7), dtype=F32)
    trainer = dl.Trainer(model, loss="cross_entropy", metrics=metrics, seed=0)
    x, y = rows_of("labels", 5000, F32, inputs=54, outputs=7)
    rng = random.Random(0)
    for _ in range(6):
        fit = lambda: quiet_fit(trainer, x, y, 100_000, batch_size=64)
        assert interrupted_after(rng.uniform(0.01, 0.3), fit) < 0.5
        assert np.isfinite(model.flat).all()
        assert len(trainer.history.get("loss", [])) == len(trainer.history.epoch)
    assert np.isfinite(quiet_fit(trainer, x, y)["loss"]).all()


@needs_signals
def test_ctrl_c_leaves_the_optimizer_at_the_updates_that_were_made():
    """The slope is constant, so that each update of Adam moves the parameter by lr."""
    rng = random.Random(1)
    model = network(widths=(1, 1), bias=False)
    model.flat[:] = 0
    trainer = dl.Trainer(model, loss="l1", optimizer=dl.Adam(model.parameters(), lr=1e-6))
    x, y = np.ones((20_000, 1)), np.full(20_000, 1e6)
    for _ in range(4):
        fit = lambda: quiet_fit(trainer, x, y, 1_000_000, batch_size=1)
        interrupted_after(rng.uniform(0.01, 0.2), fit)
        state = trainer.optimizer.state_dict()["state"]
        assert round(model.flat[0] / 1e-6) == (state[0]["step"] if state else 0)


# ---- divergence


@DTYPES
@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("lr", [1e3, 1e30])
@pytest.mark.parametrize("make", [dl.SGD, dl.Adam])
def test_divergence(make, lr, accumulate, dtype):
    lr = lr if make is dl.SGD else lr * (float(np.finfo(dtype).max) / 1e30)
    model = network(dl.ReLU(), dtype=dtype)
    optimizer = make(model.parameters(), lr=lr)
    trainer = dl.Trainer(model, loss="mse", optimizer=optimizer, accumulate=accumulate)
    x, y = rows_of("values", 50, dtype)
    with pytest.raises(FloatingPointError, match=r"epoch \d+, step \d+: .*(not finite|loss is)"):
        quiet_fit(trainer, x, y, 200, batch_size=8)
    assert np.isfinite(model.flat).all()


@DTYPES
@pytest.mark.parametrize("accumulate", [1, 2])
def test_divergence_in_spite_of_clipping(accumulate, dtype):
    model = network(dl.ReLU(), dtype=dtype)
    lr = float(np.finfo(dtype).max)
    trainer = sgd_trainer(model, "mse", lr=lr, clip_grad_norm=1.0, accumulate=accumulate)
    with pytest.raises(FloatingPointError, match=r"epoch \d+, step \d+"):
        quiet_fit(trainer, *rows_of("values", 50, dtype), 200, batch_size=8)
    assert np.isfinite(model.flat).all()


@DTYPES
@pytest.mark.parametrize("make", [dl.SGD, dl.Adam])
@pytest.mark.parametrize("width", [1, 8, 13])
def test_an_update_that_overflows_is_taken_back(width, make, dtype):
    layers = dl.Linear(3, width), dl.ReLU(), dl.Linear(width, 3)
    model = dl.Sequential(*layers, dtype=dtype, seed=0)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=make(model.parameters()))
    x, y = np.eye(3, dtype=dtype), np.array([0, 1, 1])
    trainer.train_on_batch(x, y)
    before = model.flat.copy()
    trainer.optimizer.lr = 1e308 if make is dl.SGD else 1.7e308
    with pytest.raises(FloatingPointError, match="the updated parameters are not finite"):
        trainer.train_on_batch(1e3 * x, y)
    np.testing.assert_array_equal(model.flat, before)


@pytest.mark.parametrize("accumulate", [1, 2, 3])
@pytest.mark.parametrize("max_norm", [None, 1.0])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_values_of_x_that_are_not_finite(value, max_norm, accumulate):
    x, y = rows_of("labels", 60, F32)
    bad = x.copy()
    bad[27, 1] = value  # in the third batch of ten
    models = [network(dtype=F32) for _ in range(2)]
    options = {"accumulate": accumulate, "clip_grad_norm": max_norm}
    with pytest.raises(FloatingPointError, match=r"epoch 1, step [34]"):
        quiet_fit(sgd_trainer(models[0], **options), bad, y, batch_size=10)
    done = 20 // (10 * accumulate) * 10 * accumulate
    if done:
        quiet_fit(sgd_trainer(models[1], **options), x[:done], y[:done], batch_size=10)
    np.testing.assert_array_equal(models[0].flat, models[1].flat)


class OwnAdam(dl.Adam):
    """No optimizer of the native step."""


@pytest.mark.parametrize("make", [dl.Adam, OwnAdam])
def test_a_gradient_that_overflows_leaves_the_optimizer_as_it_was(make):
    layers = dl.Linear(1, 1, bias=False), dl.Linear(1, 1, bias=False)
    model = dl.Sequential(*layers, seed=0)
    trainer = dl.Trainer(model, loss="mse", optimizer=make(model.parameters()))
    one = np.ones((4, 1), F32)
    quiet_fit(trainer, one, one, 3)
    before = trainer.optimizer.state_dict()["state"]
    # The slopes of the second layer are finite, that of the first is 2e42.
    model.load_state_dict({"0.weight": np.full((1, 1), 1e-30, F32), "1.weight": one[:1] * F32(1e9)})
    with pytest.raises(FloatingPointError, match="the gradient is not finite"):
        quiet_fit(trainer, one * F32(1e30), one * F32(1e9 - 1e3))
    after = trainer.optimizer.state_dict()["state"]
    for i, state in before.items():
        assert all(np.array_equal(value, after[i][name]) for name, value in state.items())


# ---- any architecture


@given(data=st.data())
def test_any_architecture_is_the_plain_one(data):
    draw = data.draw
    widths = draw(st.lists(st.integers(1, 40), min_size=2, max_size=5))
    layers = drawn_layers(draw, widths)
    layers += draw(st.lists(st.sampled_from([dl.Tanh(), dl.SiLU()]), max_size=1))
    model = dl.Sequential(*layers, dtype=draw(st.sampled_from([F32, F64])), seed=0)
    name = draw(st.sampled_from(["cross_entropy", "ce_smoothing", "mse", "huber", "bce"]))
    loss, kind = LOSSES[name]
    rows = draw(st.integers(1, 150))
    x, y = rows_of(kind, rows, model.dtype, inputs=widths[0], outputs=widths[-1])
    check_fit(
        model,
        loss,
        x,
        y,
        make=lambda library, params: library.SGD(params, lr=0.01),
        epochs=2,
        batch_size=draw(st.integers(1, 150)),
        accumulate=draw(st.integers(1, 3)),
        max_norm=draw(st.sampled_from([None, 0.1])),
        weight=draw(st.sampled_from([None, np.linspace(0.1, 1, rows)])),
    )


# ---- losses and optimizers of the user's own


def own(name):
    """Return an instance of a subclass of the loss, which takes the way through Python."""
    loss = LOSSES[name][0]
    made = object.__new__(type("Own", (type(loss),), {}))
    made.__dict__.update(loss.__dict__)
    return made


class PlainSGD:
    """The least that an optimizer is."""

    def __init__(self, params, lr):
        self.params, self.lr = params, lr

    def step(self, grads):
        for p, g in zip(self.params, grads, strict=True):
            p -= p.dtype.type(self.lr) * g


def fit_of(loss, optimizer, dtype, kind, **options):
    model = network(dtype=dtype)
    fit_options = {n: options.pop(n) for n in ("sample_weight",) if n in options}
    freeze = options.pop("freeze", None)
    if freeze:
        model.freeze(freeze)
    trainer = dl.Trainer(model, loss=loss, optimizer=optimizer(model), **options)
    x, y = rows_of(kind, 50, dtype)
    return quiet_fit(trainer, x, y, 5, batch_size=8, **fit_options), model.flat


def sum_of_outputs(targets, outputs):
    return float(outputs.sum())


OPTIONS = [
    {},
    {"accumulate": 3},
    {"clip_grad_norm": 0.05},
    {"sample_weight": np.linspace(0, 1, 50)},
    {"freeze": "2.weight"},
    {"accumulate": 2, "clip_grad_norm": 0.05, "freeze": "0"},
    {"metrics": [sum_of_outputs]},
]
each_option = pytest.mark.parametrize(
    "options", OPTIONS, ids=["none", *("-".join(options) for options in OPTIONS[1:])]
)


def assert_same_fit(a, b, dtype):
    tolerance = 1e-11 if dtype == F64 else 1e-4
    for name in a[0]:
        np.testing.assert_allclose(a[0][name], b[0][name], rtol=tolerance)
    np.testing.assert_allclose(a[1], b[1], atol=tolerance)


@DTYPES
@each_option
@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_ones_own(name, options, dtype):
    loss, kind = LOSSES[name]
    sgd = lambda model: dl.SGD(model.parameters(), lr=0.05)
    a = fit_of(own(name), sgd, dtype, kind, **options)
    b = fit_of(loss, sgd, dtype, kind, **options)
    assert_same_fit(a, b, dtype)


@DTYPES
@each_option
def test_optimizers_of_ones_own(options, dtype):
    a = fit_of("mse", lambda m: PlainSGD(m.parameters(), 0.05), dtype, "values", **options)
    b = fit_of("mse", lambda m: dl.SGD(m.parameters(), lr=0.05), dtype, "values", **options)
    assert_same_fit(a, b, dtype)


class SquaredError(objectives.Loss):
    """Written by hand; its gradient may have another dtype or layout than the outputs."""

    def __init__(self, change=np.asarray):
        self.change = change

    def value(self, outputs, y, *, reduction="mean"):
        losses = np.square(outputs - y)
        return losses.mean() if reduction == "mean" else losses

    def value_and_grad(self, outputs, y, *, reduction="mean", **_):
        grad = 2 * (outputs - y) / (y.size if reduction == "mean" else 1)
        return self.value(outputs, y, reduction=reduction), self.change(grad)


@pytest.mark.parametrize("weight", [None, np.linspace(0, 1, 50)], ids=["mean", "weighted"])
@pytest.mark.parametrize("dtype", [F32, F64])
@pytest.mark.parametrize(
    "change",
    [np.asarray, F32, F64, np.longdouble, np.asfortranarray, LAYOUTS["reversed"]],
    ids=["same", "float32", "float64", "longdouble", "fortran", "reversed"],
)
def test_a_gradient_of_another_dtype_or_layout(change, dtype, weight):
    sgd = lambda model: dl.SGD(model.parameters(), lr=0.05)
    a = fit_of(SquaredError(change), sgd, dtype, "values", sample_weight=weight)
    b = fit_of("mse", sgd, dtype, "values", sample_weight=weight)
    assert_same_fit(a, b, F32)


WRONG_SHAPE = """
import numpy as np, dlcore as dl
from dlcore.nn import Loss

class Wrong(Loss):
    def value_and_grad(self, outputs, y, *, reduction="mean", out=None):
        grad = 2 * (outputs - y) / y.size
        return np.square(outputs - y).mean(), {change}

model = dl.Sequential(dl.Linear(4, 3), dtype=np.float64, seed=0)
try:
    dl.Trainer(model, loss=Wrong()).fit(np.ones((50, 4)), np.ones((50, 3)), epochs=5, verbose=0)
except ValueError:
    print("ValueError")
"""


@pytest.mark.parametrize("change", ["grad[:-1]", "grad[:, :1]", "grad.ravel()", "grad.T"])
def test_a_gradient_of_another_shape_is_an_error(change):
    # In a process of its own, whose memory may suffer.
    code = WRONG_SHAPE.replace("{change}", change)
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stdout.strip() == "ValueError", (result.returncode, result.stderr)


def test_an_infinite_input_behind_slopes_of_zero_is_found():
    """0 times infinity: the loss and every slope are finite, the gradient of the weights is not."""
    model = dl.Sequential(dl.Linear(1, 1, bias=False), dl.ReLU(), seed=0)
    model.flat[:] = -1
    x, y = np.full((4, 1), np.inf, np.float32), np.zeros((4, 1), np.float32)
    with pytest.raises(FloatingPointError, match="the gradient is not finite"):
        dl.Trainer(model, loss="mse", seed=0).fit(x, y, epochs=1, verbose=0)
    np.testing.assert_array_equal(model.flat, [-1])


# ---- losses made of others ----------------------------------------------------------------------


class _InPython:
    """Makes a loss one of the user's own, whose value and gradient are computed in Python."""


def in_python(loss):
    own = type(f"My{type(loss).__name__}", (_InPython, type(loss)), {})
    mine = own.__new__(own)
    mine.__dict__.update(loss.__dict__)
    return mine


COMPOSED = {
    "focal": (dl.FocalLoss(2.0), "labels"),
    "focal_half": (dl.FocalLoss(0.5), "labels"),
    "focal_binary": (dl.FocalLoss(1.5, "bce_with_logits"), "binary"),
    "joint": (
        dl.MultiTargetLoss(["cross_entropy", "mse", dl.QuantileLoss(0.2)], [3, 2, 1], [1, 0.5, 2]),
        "joint",
    ),
    "joint_focal": (dl.MultiTargetLoss([dl.FocalLoss(), "bce_with_logits"], [4, 2]), "joint2"),
}


def composed_targets(kind, n, dtype):
    rng = np.random.default_rng(1)
    if kind == "labels":
        return rng.integers(0, 6, n)
    if kind == "binary":
        return rng.integers(0, 2, (n, 6)).astype(dtype)
    if kind == "joint":
        return np.c_[rng.integers(0, 3, n), rng.normal(size=(n, 3))].astype(dtype)
    return np.c_[rng.integers(0, 4, n), rng.integers(0, 2, (n, 2))].astype(dtype)


@DTYPES
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", COMPOSED)
def test_composed_losses_natively_and_in_python(name, weighted, dtype):
    loss, kind = COMPOSED[name]
    x = np.random.default_rng(0).normal(size=(50, 4)).astype(dtype)
    y = composed_targets(kind, 50, dtype)
    weight = np.random.default_rng(3).random(50) if weighted else None
    fits = []
    for own in (loss, in_python(loss)):
        model = network(widths=(4, 9, 6), dtype=dtype)
        trainer = dl.Trainer(model, loss=own, optimizer=dl.SGD(model.parameters(), 0.1), seed=0)
        history = trainer.fit(x, y, epochs=4, batch_size=16, sample_weight=weight, verbose=0)
        fits.append((history["loss"], model.flat))
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(fits[0][0], fits[1][0], rtol=tolerance)
    np.testing.assert_allclose(fits[0][1], fits[1][1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", COMPOSED)
def test_gradients_of_composed_losses(name):
    loss, kind = COMPOSED[name]
    outputs = np.random.default_rng(0).normal(size=(5, 6))
    y = composed_targets(kind, 5, F64)
    grad = loss.value_and_grad(outputs, y)[1]
    numeric = np.empty_like(outputs)
    for place in np.ndindex(outputs.shape):
        step = np.zeros_like(outputs)
        step[place] = 1e-6
        numeric[place] = (loss.value(outputs + step, y) - loss.value(outputs - step, y)) / 2e-6
    np.testing.assert_allclose(grad, numeric, rtol=1e-6, atol=1e-8)


def test_focal_loss_of_certainty_is_nothing_and_of_gamma_0_is_cross_entropy():
    outputs, y = np.array([[800.0, 0.0, -800.0]]), np.array([0])
    loss, grad = dl.FocalLoss(0.5).value_and_grad(outputs, y)
    assert loss == 0
    assert not grad.any()
    outputs = np.array([[1.0, 0.5, -0.2]])
    plain, focal = dl.CrossEntropyLoss(), dl.FocalLoss(0.0)
    assert focal.value(outputs, y) == plain.value(outputs, y)
    np.testing.assert_array_equal(
        focal.value_and_grad(outputs, y)[1], plain.value_and_grad(outputs, y)[1]
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dl.FocalLoss(-1.0), "gamma must be finite and at least 0"),
        (lambda: dl.FocalLoss(1.0, "mse"), "loss must be 'cross_entropy' or 'bce_with_logits'"),
        (lambda: dl.QuantileLoss(1.5), "quantile must be in"),
        (lambda: dl.MultiTargetLoss(["mse"], [1, 2]), "must be equally many"),
        (lambda: dl.MultiTargetLoss(["mse"], [1], [-1.0]), "weights must be finite"),
        (lambda: dl.quantile_loss(np.zeros(2), np.zeros(2), quantile=2.0), "between 0 and 1"),
    ],
)
def test_options_of_losses_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("loss", "y", "message"),
    [
        (dl.FocalLoss(1.0, "bce_with_logits"), np.full((8, 6), 0.5), "0 and 1 alone"),
        (dl.QuantileLoss([0.1, 0.9]), np.zeros((8, 6)), "quantile has shape"),
        (dl.MultiTargetLoss(["mse"], [5]), np.zeros((8, 6)), "widths add up to 5"),
        (dl.MultiTargetLoss(["cross_entropy"], [6]), np.full((8, 1), 0.5), "class indices"),
        (dl.MultiTargetLoss(["cross_entropy", "mse"], [5, 1]), np.zeros((8, 6)), "shape"),
    ],
)
def test_targets_that_do_not_fit_a_loss(loss, y, message):
    model = network(widths=(4, 6))
    trainer = dl.Trainer(model, loss=loss)
    with pytest.raises(ValueError, match=message):
        trainer.fit(np.zeros((8, 4)), y, epochs=1, verbose=0)


def test_a_class_out_of_range_of_one_of_several_targets():
    trainer = dl.Trainer(network(widths=(4, 6)), loss=dl.MultiTargetLoss(["cross_entropy"], [6]))
    with pytest.raises(IndexError, match="classes 0 to 5"):
        trainer.fit(np.zeros((8, 4)), np.full((8, 1), 6.0), epochs=1, verbose=0)
