"""Python threads that share kernels, a model or the settings; ThreadSanitizer runs these tests too."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import dlcore as dl

THREADS = 4
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


def trainer_of(model):
    optimizer = dl.Adam(model.parameters(), lr=0.01)
    return dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)


def data(rows=96, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(rows, 12)).astype(np.float32), rng.integers(0, 3, rows)


@pytest.mark.parametrize("rows", [1, 7, 96])
def test_threads_predict_with_one_model(rows):
    x, _ = data(rows)
    model = network()
    expected = network()(x)
    outputs = [[] for _ in range(THREADS)]

    def predict(kept):
        for _ in range(ROUNDS):
            kept.append(model(x))

    # The first calls pack the weights, all at the same time.
    together(*(lambda kept=kept: predict(kept) for kept in outputs))
    for kept in outputs:
        for y in kept:
            assert y.tobytes() == expected.tobytes()


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


def test_a_fit_beside_threads_that_call_kernels():
    x, y = data()
    alone = trainer_of(network()).fit(x, y, epochs=3, batch_size=16, verbose=0)
    other = network(seed=2)
    expected = dl.softmax(x), other(x)
    losses = {}

    def fit():
        losses.update(trainer_of(network()).fit(x, y, epochs=3, batch_size=16, verbose=0))

    def kernels():
        for _ in range(5 * ROUNDS):
            assert dl.softmax(x).tobytes() == expected[0].tobytes()
            dl.column_stats(x)

    def predict():
        for _ in range(5 * ROUNDS):
            assert other(x).tobytes() == expected[1].tobytes()

    together(fit, kernels, kernels, predict)
    assert losses["loss"] == alone["loss"]


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
