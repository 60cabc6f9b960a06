"""Layers of the user's own: computed in the same fit, or refused, never skipped."""

import importlib
import threading

import numpy as np
import pytest

import dlcore as dl
from support.models import copies_of, slope


class Softsign(dl.Layer):
    """x / (1 + |x|), without parameters."""

    def forward(self, x):
        return x / (1 + np.abs(x))

    def backward(self, dy, x):
        return dy / (1 + np.abs(x)) ** 2


class OwnLeakyReLU(dl.Layer):
    """What the package computes as well."""

    def forward(self, x):
        return np.where(x > 0, x, np.array(0.25, x.dtype) * x)

    def backward(self, dy, x):
        return np.where(x > 0, dy, np.array(0.25, x.dtype) * dy)


class OwnLinear(dl.Layer):
    """A linear layer, whose parameters have other names than weight and bias."""

    def __init__(self, in_features, out_features):
        self.in_features, self.out_features = in_features, out_features

    def initial_parameters(self, rng):
        bound = 1 / np.sqrt(self.in_features)
        shape = (self.out_features, self.in_features)
        return {"w": rng.uniform(-bound, bound, shape), "b": rng.uniform(-bound, bound, shape[:1])}

    def forward(self, x):
        return x @ self.parameters["w"].T + self.parameters["b"]

    def backward(self, dy, x):
        return dy @ self.parameters["w"], {"w": dy.T @ x, "b": dy.sum(0)}


class Cubic(dl.Layer):
    """a + b x + c x^2 + d x^3 + e |x|, with five parameters, each of a shape of its own."""

    def __init__(self, features):
        self.in_features = self.out_features = features

    def initial_parameters(self, rng):
        n = self.in_features
        return {
            "a": rng.normal(size=n),
            "b": rng.normal(size=(1, n)),
            "c": rng.normal(size=()),
            "d": rng.normal(size=(n, 1)),
            "e": rng.normal(size=(1, 1)),
        }

    def forward(self, x):
        a, b, c, d, e = self.parameters.values()
        return a + b * x + c * x**2 + d[:, 0] * x**3 + e * np.abs(x)

    def backward(self, dy, x):
        _, b, c, d, e = self.parameters.values()
        grads = {
            "a": dy.sum(0),
            "b": (dy * x).sum(0, keepdims=True),
            "c": (dy * x**2).sum(),
            "d": (dy * x**3).sum(0)[:, np.newaxis],
            "e": (dy * np.abs(x)).sum(keepdims=True),
        }
        return dy * (b + 2 * c * x + 3 * d[:, 0] * x**2 + e * np.sign(x)), grads


def _rows(n=100, features=5, classes=3, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)).astype(dtype)
    return x, rng.integers(0, classes, n)


def _fit(model, x, y, **options):
    optimizer = dl.Adam(model.parameters(), lr=0.01)
    trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0, **options)
    history = trainer.fit(x, y, epochs=3, batch_size=32, verbose=0)
    return history["loss"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"clip_grad_norm": 0.1}])
def test_a_fit_has_the_bits_of_the_layer_of_the_package(dtype, options):
    x, y = _rows(dtype=dtype)

    def fit(layer):
        layers = (dl.Linear(5, 16), layer, dl.Dropout(0.2), dl.Linear(16, 3))
        model = dl.Sequential(*layers, dtype=dtype, seed=0)
        return model, _fit(model, x, y, **options)

    (own, losses), (other, expected) = fit(OwnLeakyReLU()), fit(dl.LeakyReLU(0.25))
    assert losses == expected
    assert np.array_equal(own.flat, other.flat)
    assert np.array_equal(own(x), other(x))
    assert np.array_equal(own.snapshot()(x[:7]), other(x[:7]))


def test_parameters_are_trained_as_those_of_the_package():
    x, y = _rows(dtype=np.float64)
    own = dl.Sequential(OwnLinear(5, 8), dl.Tanh(), OwnLinear(8, 3), dtype=np.float64, seed=0)
    other = dl.Sequential(dl.Linear(5, 8), dl.Tanh(), dl.Linear(8, 3), dtype=np.float64, seed=0)
    assert list(own.state_dict()) == ["0.w", "0.b", "2.w", "2.b"]
    assert np.array_equal(own.flat, other.flat)
    np.testing.assert_allclose(_fit(own, x, y), _fit(other, x, y), rtol=1e-12)
    np.testing.assert_allclose(own.flat, other.flat, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("place", ["first", "middle", "last", "branch", "residual"])
def test_gradients_equal_differences(place):
    layers = {
        "first": (Cubic(3), dl.Linear(3, 2)),
        "middle": (dl.Linear(3, 4), Cubic(4), dl.Linear(4, 2)),
        "last": (dl.Linear(3, 4), dl.Tanh(), Cubic(4)),
        "branch": (
            dl.Parallel(
                Cubic(2), [dl.Linear(2, 3), Softsign()], columns=[slice(0, 2), slice(1, 3)]
            ),
            dl.Linear(5, 2),
        ),
        "residual": (dl.Residual(dl.Linear(3, 3), Cubic(3)), Softsign()),
    }[place]
    model = dl.Sequential(*layers, dtype=np.float64, seed=3)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(37, 3))
    dy = rng.normal(size=model.forward(x).shape)
    dx = model.backward(dy)
    grads = np.concatenate([g.ravel() for g in model.grads()])

    def value():
        return float((model(x) * dy).sum())

    for array, gradient in ((x, dx), (model.flat, grads)):
        flat, exact = array.reshape(-1), gradient.reshape(-1)
        for i in rng.permutation(flat.size)[:12]:
            axis = np.arange(flat.size) == i
            assert slope(value, flat, axis) == pytest.approx(exact[i], rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("rows", [1, 63, 64, 65, 1000])
def test_the_same_bits_for_any_threads(rows):
    x, y = _rows(rows)
    results = []
    for threads in (1, 2):
        with dl.num_threads(threads):
            model = dl.Sequential(dl.Linear(5, 64), Softsign(), dl.Linear(64, 3), seed=0)
            _fit(model, x, y)
            results.append((model.flat.copy(), model(x)))
    for one, two in zip(*results, strict=True):
        assert np.array_equal(one, two)


def test_a_step_by_hand_and_frozen_parameters():
    x, y = _rows()
    model = dl.Sequential(dl.Linear(5, 4), Cubic(4), dl.Linear(4, 3), seed=0)
    model.freeze("1.c")
    before = {name: value.copy() for name, value in model.state_dict().items()}
    _fit(model, x, y)
    changed = {n for n, value in model.state_dict().items() if not np.array_equal(value, before[n])}
    assert changed == before.keys() - {"1.c"}
    model.forward(x)
    model.backward(np.ones((100, 3), np.float32))
    names = list(model.named_parameters())
    assert [n for n, g in zip(names, model.grads(), strict=True) if g is None] == ["1.c"]


def test_copies_and_files_train_on(tmp_path):
    x, y = _rows()
    model = dl.Sequential(dl.Linear(5, 4), Cubic(4), dl.Linear(4, 3), seed=0)
    _fit(model, x, y)
    dl.save(model, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="hand the class over"):
        dl.load(tmp_path / "model.safetensors")
    others = copies_of(model, tmp_path, classes=[Cubic])
    expected = model(x)
    losses = _fit(model, x, y)
    for other in others:
        assert np.array_equal(other(x), expected)
        assert _fit(other, x, y) == losses
        assert np.array_equal(other.flat, model.flat)


def test_what_a_method_raises_ends_the_fit_and_leaves_the_weights():
    class Fails(Softsign):
        calls = 0

        def backward(self, dy, x):
            self.calls += 1
            if self.calls == 3:
                raise ZeroDivisionError("in the third batch")
            return super().backward(dy, x)

    x, y = _rows()
    model = dl.Sequential(dl.Linear(5, 4), Fails(), dl.Linear(4, 3), seed=0)
    with pytest.raises(ZeroDivisionError, match="in the third batch"):
        _fit(model, x, y)
    assert model.layers[1].calls == 3
    # The two batches before are learned from, as in a fit that ends there.
    other = dl.Sequential(dl.Linear(5, 4), Softsign(), dl.Linear(4, 3), seed=0)
    optimizer = dl.Adam(other.parameters(), lr=0.01)
    trainer = dl.Trainer(other, loss="cross_entropy", optimizer=optimizer, seed=0)

    class Stop(dl.Callback):
        every_batches = 2

        def on_batch_end(self, _batch, _logs):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trainer.fit(x, y, epochs=1, batch_size=32, verbose=0, callbacks=[Stop()])
    assert np.array_equal(model.flat, other.flat)


def test_what_a_method_raises_in_inference_comes_out():
    class Fails(Softsign):
        def forward(self, _x):
            raise ZeroDivisionError("on some thread")

    model = dl.Sequential(dl.Linear(5, 400), Fails(), dl.Linear(400, 3), seed=0)
    for rows in (1, 10_000):
        with pytest.raises(ZeroDivisionError, match="on some thread"):
            model(_rows(rows)[0])


def test_inference_from_several_threads():
    model = dl.Sequential(dl.Linear(5, 200), Softsign(), dl.Linear(200, 3), seed=0)
    x = _rows(5000)[0]
    expected, results = model(x), {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: model(x)})) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(results[i], expected) for i in range(4))


@pytest.mark.parametrize(
    ("method", "returned", "message"),
    [
        ("forward", lambda x: x[:, :1], r"forward must return real numbers of shape \(32, 4\)"),
        ("forward", lambda _: None, "forward must return real numbers"),
        ("forward", lambda x: x + 1j, "got complex64"),
        ("backward", lambda dy, _: dy[:1], r"backward must return real numbers of shape"),
    ],
)
def test_wrong_shapes_are_named(method, returned, message):
    layer = Softsign()
    setattr(layer, method, returned)
    model = dl.Sequential(dl.Linear(5, 4), layer, dl.Linear(4, 3), seed=0)
    before = model.flat.copy()
    with pytest.raises(ValueError, match=message):
        _fit(model, *_rows())
    assert np.array_equal(model.flat, before)


def test_gradients_of_all_parameters_are_asked_for():
    class Forgets(OwnLinear):
        def backward(self, dy, x):
            return super().backward(dy, x)[0]

    with pytest.raises(TypeError, match="a dict of those of its parameters, w, b"):
        _fit(dl.Sequential(Forgets(5, 3), seed=0), *_rows())


@pytest.mark.parametrize("module", ["dlcore", "dlcore.layers", "dlcore.nn"])
def test_a_layer_without_a_way_back_is_refused(module):
    """tensorflow#29492."""
    base = importlib.import_module(module).Layer
    assert base is dl.Layer

    class Double(base):
        def __call__(self, x):
            return 2 * x

    with pytest.raises(TypeError, match="Double is no layer that it can compute"):
        dl.Sequential(dl.Linear(3, 2), Double())


@pytest.mark.parametrize("method", ["forward", "backward", "__call__", "initial_parameters"])
def test_a_built_in_layer_that_computes_something_else(method):
    kind = type("Double", (dl.ReLU,), {method: lambda *x: x})
    with pytest.raises(TypeError, match=rf"Double\.{method} would never be called"):
        dl.Sequential(dl.Linear(3, 2), kind())


@pytest.mark.parametrize("widths", [(3, None), (None, 3), (0, 3), (3, 2.5)])
def test_widths_are_checked(widths):
    layer = Softsign()
    layer.in_features, layer.out_features = widths
    with pytest.raises((TypeError, ValueError), match="Softsign"):
        dl.Sequential(layer)


def test_exports_name_the_layer():
    model = dl.Sequential(dl.Linear(5, 4), Softsign(), seed=0)
    with pytest.raises(TypeError, match="Softsign"):
        dl.to_c(model, "net")
    pytest.importorskip("onnx")
    with pytest.raises(TypeError, match="Softsign"):
        dl.to_onnx(model)
