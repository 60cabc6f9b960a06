"""Python threads that share kernels, a model or the settings; ThreadSanitizer runs these tests too."""

import math
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest

import dlcore as dl
from dlcore.nn._options import changes
from support.cases import CASES
from support.processes import run_python

THREADS = 8
ROUNDS = 8


def together(*functions):
    """Run functions at once, each in a thread of its own; raise what they raise."""
    barrier = threading.Barrier(len(functions))

    def start(function):
        barrier.wait()
        return function()

    with ThreadPoolExecutor(len(functions)) as pool:
        for future in [pool.submit(start, function) for function in functions]:
            future.result()


def network(seed=0, dtype=np.float32):
    layers = dl.Linear(12, 40), dl.ReLU(), dl.BatchNorm1d(40), dl.Linear(40, 3)
    return dl.Sequential(*layers, dtype=dtype, seed=seed)


# What a fit may have of its own: layers of a whole batch, draws, tables, branches.
NETWORKS = [
    lambda: network(),
    lambda: dl.Sequential(
        dl.Linear(12, 200), dl.GELU(), dl.Dropout(0.3), dl.Linear(200, 3), seed=1
    ),
    lambda: dl.Sequential(
        dl.Linear(12, 64),
        dl.LayerNorm(64),
        dl.Residual(dl.Linear(64, 64)),
        dl.Linear(64, 3),
        seed=2,
    ),
    lambda: dl.Sequential(dl.Linear(12, 300), dl.PReLU(), dl.Linear(300, 3), dtype="f8", seed=3),
]


def trainer_of(model):
    optimizer = dl.Adam(model.parameters(), lr=0.01)
    return dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)


def data(rows=96, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 12)).astype(np.float32), rng.integers(0, 3, rows)


def bits(arrays):
    return [array.tobytes() for array in arrays]


class Square(dl.Layer):
    """A layer of the user's own, which the threads of a network call."""

    def forward(self, x):
        return x * x

    def backward(self, dy, x):
        return 2 * x * dy


def own_network():
    return dl.Sequential(dl.Linear(12, 40), Square(), dl.Linear(40, 3), seed=0)


@pytest.mark.parametrize("snapshot", [False, True])
@pytest.mark.parametrize("make", [network, own_network])
def test_threads_predict_with_one_model(make, snapshot):
    batches = [data(rows)[0] for rows in (1, 7, 96, 700)]
    model, alone = make(), make()
    expected = bits(alone(x) for x in batches)
    predict = model.snapshot() if snapshot else model

    def call(first):
        for i in range(first, first + ROUNDS):
            i %= len(batches)
            assert predict(batches[i]).tobytes() == expected[i]

    # The first calls pack the weights, all at the same time.
    together(*(partial(call, i) for i in range(THREADS)))


def test_threads_predict_after_the_weights_have_changed():
    x, _ = data()
    model, other = network(), network(seed=1)
    expected = other(x)
    for _ in range(ROUNDS):
        model.load_state_dict(network().state_dict())
        model(x)
        model.load_state_dict(other.state_dict())
        outputs = [None] * THREADS

        def predict(i, outputs=outputs):
            outputs[i] = model(x)

        together(*(lambda i=i: predict(i) for i in range(THREADS)))
        for y in outputs:
            assert y.tobytes() == expected.tobytes()


def test_kernels_in_many_threads_give_the_bits_of_one():
    calls = []
    for case in {case.name: case for case in CASES}.values():
        largest = max(case.shapes, key=math.prod)
        inputs = case.inputs(largest, np.float32)
        calls.append((case, inputs, bits(case.run(inputs))))

    def call(first):
        for case, inputs, expected in calls[first:] + calls[:first]:
            assert bits(case.run(inputs)) == expected, case

    together(*(partial(call, i * len(calls) // THREADS) for i in range(THREADS)))


def test_kernels_fits_and_predictions_side_by_side_give_the_bits_of_one_thread():
    x, y = data(512)
    other = network(seed=2)
    expected = dl.softmax(x), dl.relu(x), other(x)

    def fit(make):
        model = make()
        trainer = trainer_of(model)
        own = x.astype(model.dtype)
        losses = trainer.fit(own, y, epochs=3, batch_size=128, verbose=0)["loss"]
        return [model.flat.tobytes(), trainer.predict(own).tobytes(), *losses]

    def kernels():
        for _ in range(5 * ROUNDS):
            assert dl.softmax(x).tobytes() == expected[0].tobytes()
            assert dl.relu(x).tobytes() == expected[1].tobytes()
            dl.column_stats(x)

    def predict():
        for _ in range(5 * ROUNDS):
            assert other(x).tobytes() == expected[2].tobytes()

    alone = [fit(make) for make in NETWORKS]
    beside = [None] * len(NETWORKS)

    def fit_beside(i):
        beside[i] = fit(NETWORKS[i])

    fits = [partial(fit_beside, i) for i in range(len(NETWORKS))]
    together(*fits, kernels, kernels, predict, predict)
    assert beside == alone


def test_threads_that_train_one_model_make_one_step_after_the_other():
    x, y = data()
    model = network()
    trainer = trainer_of(model)
    trainer.train_on_batch(x, y)
    made, errors = [], []

    def train():
        for _ in range(5 * ROUNDS):
            try:
                trainer.train_on_batch(x, y)
            except RuntimeError as error:
                errors.append(str(error))
            else:
                made.append(None)

    together(*[train] * THREADS)
    assert made
    assert all("is being trained" in error for error in errors)
    assert trainer.optimizer.steps == 1 + len(made)
    alone = trainer_of(network())
    for _ in range(trainer.optimizer.steps):
        alone.train_on_batch(x, y)
    assert model.flat.tobytes() == alone.model.flat.tobytes()


def test_passes_of_one_model_come_one_after_the_other():
    x, _ = data()
    model = dl.Sequential(dl.Linear(12, 40), dl.ReLU(), dl.Linear(40, 3), seed=0)
    y = model.forward(x)
    dx = model.backward(np.ones_like(y))
    passed, errors = [], []

    def pass_through():
        for _ in range(5 * ROUNDS):
            try:
                assert model.forward(x).tobytes() == y.tobytes()
                assert model.backward(np.ones_like(y)).tobytes() == dx.tobytes()
            except RuntimeError as error:
                errors.append(str(error))
            else:
                passed.append(None)

    together(*[pass_through] * THREADS)
    assert passed
    assert all("one at a time" in error for error in errors)


def test_a_list_of_gradients_that_another_thread_changes():
    params = [np.ones(40, np.float32) for _ in range(8)]
    optimizer = dl.Adam(params, 1e-3)
    grads = [np.ones(40, np.float32) for _ in params]
    ended = threading.Event()

    def replace():
        while not ended.is_set():
            for i in range(len(grads)):
                grads[i] = np.ones(40, np.float32)

    def step():
        for _ in range(50 * ROUNDS):
            optimizer.step(grads)
        ended.set()

    together(replace, step)
    assert optimizer.steps == 50 * ROUNDS
    assert all((p == params[0][0]).all() for p in params)


def test_changes_of_options_are_all_counted():
    layers = [dl.Dropout(0.1) for _ in range(THREADS)]
    before = changes.count

    def change(layer):
        for i in range(1, 50 * ROUNDS + 1):
            layer.p = 0.5 / i

    together(*(partial(change, layer) for layer in layers))
    assert changes.count == before + THREADS * 50 * ROUNDS


def test_descriptions_that_threads_read_for_the_first_time():
    code = """
import threading
import numpy as np
import dlcore as dl

x = np.ones((4, 3), np.float32)
models = [dl.Sequential(dl.Linear(3, 5), dl.LayerNorm(5), dl.Linear(5, 2), seed=0) for _ in range(8)]
barrier, outputs = threading.Barrier(8), []

def predict(model):
    barrier.wait()
    outputs.append(model(x).tobytes())

threads = [threading.Thread(target=predict, args=(model,)) for model in models]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(outputs), len(set(outputs)))
"""
    assert run_python(code) == "8 1"


def test_importing_does_not_bring_the_gil_back():
    code = """
import sys
import numpy
has_gil = getattr(sys, "_is_gil_enabled", lambda: True)
before = has_gil()
import dlcore
from dlcore._native import dispatch
for isa in dlcore.available_isas():
    dispatch.load(isa)
print(before, has_gil())
"""
    before, after = run_python(code).split()
    assert before == after


def test_fits_of_several_models_at_once():
    x, y = data()
    fit = lambda model: trainer_of(model).fit(x, y, epochs=2, batch_size=16, verbose=0)
    expected = network()
    fit(expected)
    models = [network() for _ in range(THREADS)]
    together(*(lambda model=model: fit(model) for model in models))
    for model in models:
        assert model.flat.tobytes() == expected.flat.tobytes()


def test_the_number_of_threads_changes_while_kernels_run():
    x = np.linspace(-3, 3, 300_000, dtype=np.float32)
    expected = dl.gelu(x)
    before = dl.get_num_threads()

    def change():
        for i in range(ROUNDS):
            dl.set_num_threads(1 + i % 2)

    def call():
        for _ in range(ROUNDS):
            assert dl.gelu(x).tobytes() == expected.tobytes()

    try:
        together(change, call, call)
    finally:
        dl.set_num_threads(before)
