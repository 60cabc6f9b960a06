"""Embeddings of numbers: what they compute, their gradients, and networks that learn with them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from support.models import copies_of, slope

DTYPES = [np.float32, np.float64]


def bins_of(features, seed=0):
    """Edges of columns, of other numbers of bins each: a single one and none among them."""
    rng = np.random.default_rng(seed)
    counts = [2, 1, *rng.integers(2, 20, features)][:features]
    return [np.sort(rng.normal(size=count)) for count in counts]


def wide_encoding(x, bins):
    """Each feature in as many columns: the last bin in the last one, zeros before it."""
    width = max(1, *(len(own) - 1 for own in bins))
    encoded = np.zeros((*x.shape, width))
    for f, edges in enumerate(bins):
        count = len(edges) - 1
        for i in range(count):
            share = (x[:, f] - edges[i]) / (edges[i + 1] - edges[i])
            share = np.maximum(share, 0) if i > 0 else share
            share = np.minimum(share, 1) if i < count - 1 else share
            encoded[:, f, i if i < count - 1 else -1] = share
    return encoded


def embedded(layer, x, arrays):
    """The definition of each layer, of an array of shape (rows, features, columns of each)."""
    n = layer.n_features
    if isinstance(layer, dl.NLinear):
        x = x.reshape(len(x), n, layer.d_in)
        y = np.einsum("nfi,oi->nfo" if layer.is_shared else "nfi,fio->nfo", x, arrays["weight"])
        return y + arrays.get("bias", 0)
    if isinstance(layer, dl.LinearEmbeddings):
        return x[..., None] * arrays["weight"] + arrays["bias"]
    if isinstance(layer, dl.Periodic):
        angle = 2 * np.pi * arrays["weight"] * x[..., None]
        if layer.has_bias:
            return np.cos(angle + arrays["bias"])
        return np.concatenate([np.cos(angle), np.sin(angle)], axis=-1)
    inside = {name.removeprefix("embedding."): own for name, own in arrays.items()}
    missing = np.isnan(x)
    if layer.missing:
        x = np.where(missing, 0, x)
    if isinstance(layer, dl.PiecewiseLinearEmbeddings):
        y = wide_encoding(x, layer.bins)
    else:
        angle = 2 * np.pi * inside["periodic.weight"] * x[..., None]
        waves = [np.cos(angle + inside.get("periodic.bias", 0))]
        waves += [] if "periodic.bias" in inside else [np.sin(angle)]
        y = np.concatenate(waves, axis=-1)
    shared = inside["linear.weight"].ndim == 2
    y = np.einsum("nfi,oi->nfo" if shared else "nfi,fio->nfo", y, inside["linear.weight"])
    y = y + inside.get("linear.bias", 0)
    y = np.maximum(y, 0) if layer.activation else y
    if "linear0.weight" in inside:
        y = y + x[..., None] * inside["linear0.weight"] + inside["linear0.bias"]
    if layer.missing:
        y = y + missing[..., None] * inside["missing.weight"]
    if isinstance(layer, dl.PBLDEmbeddings):
        return np.concatenate([y.reshape(len(x), n * y.shape[2]), x], axis=1)
    return y


def expected(model, x):
    arrays = {name.partition(".")[2]: own for name, own in model.state_dict().items()}
    return embedded(model.layers[0], x, arrays).reshape(len(x), model.out_features)


MAKE = {
    "linear": lambda n, d: dl.LinearEmbeddings(n, d),
    "each": lambda n, d: dl.NLinear(n, 1 + d % 5, d),
    "each, no bias": lambda n, d: dl.NLinear(n, d, 3, bias=False),
    "shared": lambda n, d: dl.NLinear(n, 3, d, shared=True),
    "periodic": lambda n, d: dl.Periodic(n, d, 0.7),
    "phases": lambda n, d: dl.Periodic(n, d, 0.7, bias=True),
    "PL": lambda n, d: dl.PeriodicEmbeddings(n, d, n_frequencies=5, activation=False, lite=False),
    "PLR": lambda n, d: dl.PeriodicEmbeddings(
        n, d, n_frequencies=9, frequency_init_scale=1, lite=False, missing=True
    ),
    "PLR lite": lambda n, d: dl.PeriodicEmbeddings(
        n, d, n_frequencies=16, lite=True, frequency_init_scale=0.5
    ),
    "PBLD": lambda n, d: dl.PBLDEmbeddings(n, d + 1),
    "PBLRD": lambda n, d: dl.PBLDEmbeddings(
        n, d + 1, n_frequencies=3, activation=True, missing=True
    ),
    "bins A": lambda n, d: dl.PiecewiseLinearEmbeddings(
        bins_of(n), d, activation=True, version="A"
    ),
    "bins B": lambda n, d: dl.PiecewiseLinearEmbeddings(
        bins_of(n), d, activation=False, missing=True
    ),
}


def model_of(name, features, d, dtype=np.float64, seed=0):
    model = dl.Sequential(MAKE[name](features, d), dtype=dtype, seed=seed)
    model.flat[...] += 0.3 * np.random.default_rng(seed).normal(size=model.flat.shape)
    return model


def rows(model, n, seed=1, missing=None):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, model.in_features))
    takes = getattr(model.layers[0], "missing", False)
    if takes if missing is None else missing:
        x[rng.random(x.shape) < 0.3] = np.nan
    return x.astype(model.dtype)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(MAKE)),
    st.integers(1, 7),
    st.integers(1, 40),
    st.sampled_from([0, 1, 2, 9, 70]),
)
def test_any_computes_its_definition(name, features, d, n):
    model = model_of(name, features, d)
    x = rows(model, n)
    want = expected(model, x)
    close = {"rtol": 1e-10, "atol": 1e-11}
    np.testing.assert_allclose(model(x), want, **close)
    np.testing.assert_allclose(model.forward(x), want, **close)
    np.testing.assert_array_equal(model.snapshot()(x), model(x))
    assert model.out_features == want.shape[1]
    if n > 1:
        np.testing.assert_array_equal(model(x[:1]), model(x)[:1])


@pytest.mark.parametrize("name", MAKE)
def test_float32_is_near(name):
    model = model_of(name, 5, 24, np.float32)
    x = rows(model, 100)
    wide = model_of(name, 5, 24)
    wide.load_state_dict({n: a.astype(np.float64) for n, a in model.state_dict().items()})
    np.testing.assert_allclose(model(x), wide(x.astype(np.float64)), rtol=2e-5, atol=2e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(sorted(MAKE)),
    st.integers(1, 5),
    st.integers(1, 20),
    st.sampled_from([1, 3, 50]),
)
def test_any_goes_back_as_differences_say(name, features, d, n):
    model = model_of(name, features, d)
    rng = np.random.default_rng(2)
    x = rows(model, n)
    dy = rng.normal(size=(n, model.out_features))
    model.forward(x)
    dx = model.backward(dy)
    grads = [g.copy() for g in model.grads()]
    value = lambda: float((expected(model, x) * dy).sum())
    for array, grad in zip([*model.parameters(), x], [*grads, dx], strict=True):
        direction = np.where(np.isnan(array), 0, rng.normal(size=array.shape))
        exact = float((grad * direction).sum())
        assert slope(value, array, direction) == pytest.approx(exact, rel=2e-4, abs=2e-3)
    assert (dx[np.isnan(x)] == 0).all()


def test_an_edge_goes_back_to_the_bin_above_it():
    layer = dl.PiecewiseLinearEmbeddings([[0, 1, 3]], 2, activation=False, version="A")
    model = dl.Sequential(layer, dtype=np.float64, seed=0)
    model.load_state_dict({"0.linear.weight": np.eye(2)[None], "0.linear.bias": np.zeros((1, 2))})
    model.forward(np.array([[-1.0], [0], [1], [3], [5]]))
    dx = model.backward(np.tile([10.0, 1.0], (5, 1)))
    assert dx.ravel().tolist() == [10, 10, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["PLR lite", "PBLD", "bins B", "PLR"])
def test_threads_change_no_bit(name, dtype):
    def trained(threads):
        layer = MAKE[name](5, 6)
        model = dl.Sequential(layer, dl.Linear(layer.out_features, 3), dtype=dtype, seed=0)
        x = rows(model, 700)
        y = np.random.default_rng(0).integers(0, 3, 700)
        with dl.num_threads(threads):
            dl.Trainer(model, loss="cross_entropy", seed=0).fit(
                x, y, epochs=2, batch_size=100, verbose=0
            )
            return np.concatenate([model.flat, model(x).ravel()])

    np.testing.assert_array_equal(trained(1), trained(3))


@pytest.mark.parametrize("name", MAKE)
def test_a_step_of_training_is_one_by_hand(name):
    def network():
        layer = MAKE[name](4, 6)
        return dl.Sequential(layer, dl.Linear(layer.out_features, 2), dtype=np.float64, seed=3)

    one, other = network(), network()
    x = rows(one, 60)
    y = np.random.default_rng(4).normal(size=(60, 2))
    trainer = dl.Trainer(one, loss="mse", optimizer=dl.SGD(one.parameters(), lr=0.1))
    trainer.fit(x, y, epochs=1, batch_size=60, shuffle=False, verbose=0)
    _, grad = dl.mse_loss_and_grad(other.forward(x), y)
    other.backward(grad)
    dl.SGD(other.parameters(), lr=0.1).step(other.grads())
    np.testing.assert_allclose(one.flat, other.flat, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", MAKE)
def test_copies_pickles_and_files(tmp_path, name):
    model = model_of(name, 3, 5)
    x = rows(model, 9)
    for other in copies_of(model, tmp_path):
        assert repr(other) == repr(model)
        np.testing.assert_array_equal(other(x), model(x))
        assert other.state_dict().keys() == model.state_dict().keys()


# The sine and the cosine of turns.


def exact_waves(x, w):
    """Cosine and sine of 2 pi w x in the widest type, of floats, whose products are exact there."""
    turns = x.astype(np.longdouble) * w.astype(np.longdouble)
    part = turns - np.rint(turns)
    angle = part * (2 * np.longdouble("3.14159265358979323846264338327950288"))
    # Near multiples of a quarter turn from there, where the rounded pi would be seen.
    quarters = np.rint(4 * part)
    rest = (part - quarters / 4) * (2 * np.longdouble("3.14159265358979323846264338327950288"))
    s, c = np.sin(rest), np.cos(rest)
    k = quarters.astype(int) % 4
    cosine, sine = np.choose(k, [c, -s, -c, s]), np.choose(k, [s, c, -s, -c])
    assert np.abs(np.cos(angle) - cosine).max(initial=0) < 1e-15
    return np.concatenate([cosine, sine], axis=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [1e-30, 1e-3, 1, 100, 1e6, 1e15])
def test_waves_within_2_ulp(dtype, size):
    rng = np.random.default_rng(0)
    x = (rng.uniform(-size, size, (20_000, 1))).astype(dtype)
    x[:8, 0] = np.array([0, 0.25, 0.5, 0.75, 1, -0.25, -1, 0.125]) * 2.0 ** np.floor(np.log2(size))
    # Products of doubles are exact in 64 bits of the widest type if weights have few of them.
    w = np.float32(rng.normal()) if dtype == np.float32 else np.float64(0.625)
    model = dl.Sequential(dl.Periodic(1, 1), dtype=dtype, seed=0)
    model[0].weight = np.full((1, 1), w, dtype)
    got, want = model(x), exact_waves(x, model[0].weight)
    ulp = np.spacing(np.maximum(np.abs(want), np.finfo(dtype).tiny).astype(dtype))
    assert (np.abs(got - want) <= 2 * ulp).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_phases_within_an_ulp_of_one(dtype):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1e6, 1e6, (5000, 1)).astype(dtype)
    model = dl.Sequential(dl.Periodic(1, 1, bias=True), dtype=dtype, seed=0)
    model[0].weight = np.full((1, 1), 0.375, dtype)
    model[0].bias = np.full((1, 1), 2.5, dtype)
    both = exact_waves(x, model[0].weight)
    shift = np.longdouble(2.5)
    want = both[:, :1] * np.cos(shift) - both[:, 1:] * np.sin(shift)
    assert np.abs(model(x) - want).max() <= np.finfo(dtype).eps


@pytest.mark.parametrize("dtype", DTYPES)
def test_infinities_and_nan(dtype):
    inf, nan = np.inf, np.nan
    x = np.array([[inf], [-inf], [nan], [np.finfo(dtype).max], [0], [-0.0]], dtype)
    model = dl.Sequential(dl.Periodic(1, 3), dtype=dtype, seed=0)
    model[0].weight = np.array([[1, 0, 2]], dtype)
    got = model(x)
    assert np.isnan(got[:3]).all()
    # The largest number of turns is a whole one, twice it is none at all.
    np.testing.assert_array_equal(got[3], [1, 1, nan, 0, 0, nan])
    np.testing.assert_array_equal(got[4], [1, 1, 1, 0, 0, 0])
    plain = dl.Sequential(dl.PBLDEmbeddings(2), dtype=dtype, seed=0)
    y = plain(np.array([[nan, 1]], dtype))
    np.testing.assert_array_equal(np.isnan(y[0]), [*[True] * 3, *[False] * 3, True, False])


def test_missing_numbers_are_a_value_of_their_own():
    """The target depends on whether a number is missing: a network learns it, and stays finite."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1000, 3)).astype(np.float32)
    x[rng.random(x.shape) < 0.3] = np.nan
    y = np.isnan(x[:, 0]).astype(int)
    for name in ("PLR", "PBLRD", "bins B"):
        layer = MAKE[name](3, 8)
        model = dl.Sequential(layer, dl.Linear(layer.out_features, 2), seed=0)
        trainer = dl.Trainer(
            model, loss="cross_entropy", optimizer=dl.Adam(model.parameters(), lr=0.02), seed=0
        )
        trainer.fit(x, y, epochs=15, verbose=0)
        assert (model(x).argmax(axis=1) == y).mean() > 0.99
        assert np.isfinite(model.flat).all()


def test_initial_values():
    model = dl.Sequential(dl.Periodic(50, 40, 0.1), seed=1)
    weight = model[0].weight
    assert np.abs(weight).max() <= 0.3
    assert weight.std() == pytest.approx(0.1, rel=0.1)
    phases = dl.Sequential(dl.PBLDEmbeddings(50), seed=1).state_dict()
    assert np.abs(phases["0.embedding.periodic.bias"]).max() == pytest.approx(np.pi, rel=0.02)
    assert phases["0.embedding.linear.weight"].shape == (50, 16, 3)
    assert np.abs(phases["0.embedding.linear.weight"]).max() <= 0.25
    linear = dl.Sequential(
        dl.PiecewiseLinearEmbeddings(bins_of(4), 8, activation=False, missing=True), seed=0
    )
    state = linear.state_dict()
    assert not state["0.linear.weight"].any()
    assert not state["0.missing.weight"].any()
    assert state["0.linear0.weight"].any()


def test_names_are_those_of_rtdl_num_embeddings():
    names = lambda layer: [*dl.Sequential(layer, seed=0).state_dict()]
    full = ["0.periodic.weight", "0.linear.weight", "0.linear.bias"]
    assert names(dl.PeriodicEmbeddings(3, 8, lite=False)) == full
    assert names(dl.LinearEmbeddings(3, 8)) == ["0.weight", "0.bias"]
    bins = bins_of(3)
    a = dl.PiecewiseLinearEmbeddings(bins, 8, activation=True, version="A")
    assert names(a) == ["0.linear.weight", "0.linear.bias"]
    b = dl.PiecewiseLinearEmbeddings(bins, 8, activation=False, version="B")
    assert names(b) == ["0.linear0.weight", "0.linear0.bias", "0.linear.weight"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dl.PeriodicEmbeddings(3, lite=True, activation=False), "for activation=True"),
        (lambda: dl.PeriodicEmbeddings(0, lite=True), "n_features must be a positive integer"),
        (lambda: dl.PeriodicEmbeddings(3, 0, lite=True), "d_embedding must be a positive integer"),
        (lambda: dl.Periodic(3, 4, 0), "frequency_init_scale must be positive"),
        (lambda: dl.PBLDEmbeddings(3, 1), "d_embedding must be at least 2"),
        (lambda: dl.PiecewiseLinearEmbeddings([], 3, activation=True), "bins must be the edges"),
        (lambda: dl.PiecewiseLinearEmbeddings([[0, 0]], 3, activation=True), "must increase"),
        (lambda: dl.PiecewiseLinearEmbeddings([[np.nan]], 3, activation=True), "finite numbers"),
        (
            lambda: dl.PiecewiseLinearEmbeddings([[0, 1]], 3, activation=True, version="C"),
            "version must be",
        ),
        (lambda: dl.Sequential(dl.NLinear(2, 3, 4), dl.Linear(4, 1)), "takes 4 features"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()
