"""Residual and parallel layers: what they compute, their gradients, and that they train as a whole."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import dlcore as dl
from dlcore.layers import Layer
from support.models import copies_of, slope

RNG = np.random.default_rng(0)


def computed(layer, x, prefix, arrays):
    """Evaluate a layer of the kinds used here by its definition."""
    if isinstance(layer, dl.Linear):
        return x @ arrays[f"{prefix}.weight"].T + arrays[f"{prefix}.bias"]
    if isinstance(layer, dl.Residual):
        y = x
        for i, own in enumerate(layer._children.values()):
            y = computed(own, y, f"{prefix}.{i}", arrays)
        return x + y
    if isinstance(layer, dl.Parallel):
        columns = layer.columns or [slice(None)] * len(layer._given_branches)
        outputs = []
        for b, (branch, taken) in enumerate(zip(layer._given_branches, columns, strict=True)):
            y = x[:, taken]
            if isinstance(branch, Layer):
                y = computed(branch, y, f"{prefix}.{b}", arrays)
            else:
                for i, own in enumerate(branch):
                    y = computed(own, y, f"{prefix}.{b}.{i}", arrays)
            outputs.append(y)
        return np.hstack(outputs) if layer.join == "concat" else sum(outputs)
    if isinstance(layer, dl.LayerNorm):
        weight, bias = arrays[f"{prefix}.weight"], arrays[f"{prefix}.bias"]
        return dl.layer_norm(x, weight, bias)
    if isinstance(layer, dl.Dropout):
        return x
    return {dl.ReLU: dl.relu, dl.Tanh: dl.tanh, dl.SiLU: dl.silu}[type(layer)](x)


def evaluated(model, x):
    arrays = model.state_dict()
    for i, layer in enumerate(model.layers):
        x = computed(layer, x, str(i), arrays)
    return x


@st.composite
def rows(draw, width, depth):
    """Layers in a row from so many features, and the features that they give."""
    layers = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["linear", "relu", "tanh", "norm", "residual", "parallel"]))
        if kind in ("residual", "parallel") and depth == 0:
            kind = "linear"
        if kind == "linear":
            out = draw(st.integers(1, 20))
            layers.append(dl.Linear(width, out))
            width = out
        elif kind == "norm":
            layers.append(dl.LayerNorm(width))
        elif kind == "residual":
            own, out = draw(rows(width, depth - 1))
            layers.append(dl.Residual(*own, dl.Linear(out, width)))
        elif kind == "parallel":
            layer = draw(parallels(width, depth))
            layers.append(layer)
            width = layer.out_features
        else:
            layers.append({"relu": dl.ReLU, "tanh": dl.Tanh}[kind]())
    return layers, width


@st.composite
def parallels(draw, width, depth):
    count = draw(st.integers(1, 3))
    is_sum = draw(st.booleans())
    branches, columns = [], []
    out = draw(st.integers(1, 9))
    for _ in range(count):
        start = draw(st.integers(0, width - 1))
        stop = draw(st.integers(start + 1, width))
        own, gives = draw(rows(stop - start, depth - 1))
        if is_sum:
            own.append(dl.Linear(gives, out))
            if draw(st.booleans()):
                own.append(dl.ReLU())
        elif draw(st.booleans()):
            own = []
        branches.append(own[0] if len(own) == 1 and draw(st.booleans()) else own)
        columns.append(slice(start, stop))
    return dl.Parallel(
        *branches, columns=columns, join="sum" if is_sum else "concat", in_features=width
    )


@st.composite
def networks(draw):
    width = draw(st.integers(1, 12))
    before = [dl.Linear(width, width), dl.ReLU()] if draw(st.booleans()) else []
    layers = [*before, draw(parallels(width, 2))]
    if draw(st.booleans()):
        layers.append(dl.ReLU())
    if draw(st.booleans()):
        layers.append(dl.Linear(layers[-1].out_features or layers[-2].out_features, 3))
    model = dl.Sequential(*layers, dtype=np.float64, seed=draw(st.integers(0, 99)))
    # Of one feature a normalization gives its bias, which must not lie where ReLU has no slope.
    model.flat[...] += 0.3 * np.random.default_rng(0).normal(size=model.flat.shape)
    return model


@settings(max_examples=60, deadline=None)
@given(networks(), st.integers(0, 150), st.integers(0, 9))
def test_any_network_computes_its_definition(model, n, seed):
    x = np.random.default_rng(seed).normal(size=(n, model.in_features))
    expected = evaluated(model, x)
    np.testing.assert_allclose(model(x), expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(model.forward(x), expected, rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(model.snapshot()(x), model(x))


@settings(max_examples=40, deadline=None)
@given(networks(), st.integers(1, 70), st.integers(0, 9))
def test_any_network_goes_back_as_differences_say(model, n, seed):
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=(n, model.in_features)), rng.normal(size=(n, model.out_features))
    model.forward(x)
    dx = model.backward(dy)
    flat = np.concatenate([np.ravel(g) for g in model.grads()]) if model.grads() else np.zeros(0)
    value = lambda: float((evaluated(model, x) * dy).sum())
    scale = 1 + np.abs(dy).sum()
    for array, grad in ((x, dx), (model.flat, flat)):
        direction = rng.normal(size=array.shape)
        exact = (grad * direction).sum()
        assert slope(value, array, direction) == pytest.approx(exact, abs=2e-5 * scale)


def residual(dtype=np.float64, **options):
    block = dl.Residual(dl.LayerNorm(16), dl.Linear(16, 24), dl.ReLU(), dl.Linear(24, 16))
    wide = dl.Parallel(
        [dl.Linear(16, 8), dl.ReLU()],
        dl.Residual(dl.Linear(4, 4), dl.Tanh()),
        (),
        columns=[slice(0, 16), slice(3, 7), slice(5, 16)],
    )
    return dl.Sequential(
        dl.Linear(5, 16), dl.ReLU(), block, wide, dl.Linear(23, 3), dtype=dtype, seed=0, **options
    )


def data(n=200, dtype=np.float64):
    rng = np.random.default_rng(1)
    return rng.normal(size=(n, 5)).astype(dtype), rng.integers(0, 3, n)


@pytest.mark.parametrize("kind", [dl.SGD, dl.Adam])
@pytest.mark.parametrize("options", [{}, {"accumulate": 2}, {"clip_grad_norm": 0.5}])
def test_a_fit_is_what_steps_by_hand_are(kind, options):
    x, y = data()
    model, other = residual(), residual()
    fit = dl.Trainer(
        model, loss="cross_entropy", optimizer=kind(model.parameters(), lr=0.05), **options
    )
    fit.fit(x, y, epochs=2, batch_size=32, shuffle=False, verbose=0)
    optimizer, waiting, step = kind(other.parameters(), lr=0.05), None, 0
    every = options.get("accumulate", 1)
    for _ in range(2):
        starts = range(0, len(x), 32)
        for start in starts:
            rows, labels = x[start : start + 32], y[start : start + 32]
            _, grad = dl.cross_entropy_and_grad(other.forward(rows), labels)
            group = starts.index(start) // every
            members = [len(x[s : s + 32]) for s in starts if starts.index(s) // every == group]
            other.backward(grad * (len(rows) / sum(members)), add=waiting is not None)
            waiting = other.grads()
            step += 1
            if (starts.index(start) + 1) % every == 0 or start == starts[-1]:
                if "clip_grad_norm" in options:
                    dl.clip_grad_norm(waiting, options["clip_grad_norm"])
                optimizer.step(waiting)
                waiting = None
    np.testing.assert_allclose(model.flat, other.flat, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_threads_change_no_bit(dtype):
    x, y = data(3000, dtype)

    def trained(threads):
        model = dl.Sequential(
            dl.Linear(5, 128),
            dl.Residual(dl.BatchNorm1d(128), dl.ReLU(), dl.Dropout(0.2), dl.Linear(128, 128)),
            dl.Parallel([dl.Linear(128, 64), dl.SiLU()], dl.Linear(128, 64), join="sum"),
            dl.Linear(64, 3),
            dtype=dtype,
            seed=0,
        )
        with dl.num_threads(threads):
            dl.Trainer(model, loss="cross_entropy", seed=0).fit(
                x, y, epochs=2, batch_size=256, verbose=0
            )
            return np.concatenate([model.flat, model(x).ravel()])

    np.testing.assert_array_equal(trained(1), trained(4))


def test_a_batch_norm_in_a_branch_is_one_of_the_whole_batch():
    """The same layer, in a branch and not, gives the same statistics and gradients."""
    x, _ = data(300)
    plain = dl.Sequential(dl.Linear(5, 7), dl.BatchNorm1d(7), dtype=np.float64, seed=0)
    branch = dl.Sequential(
        dl.Parallel([dl.Linear(5, 7), dl.BatchNorm1d(7)], ()), dtype=np.float64, seed=0
    )
    dy = RNG.normal(size=(300, 7))
    y = plain.forward(x)
    other = branch.forward(x)
    np.testing.assert_array_equal(other, np.hstack([y, x]))
    plain.backward(dy)
    branch.backward(np.hstack([dy, np.zeros_like(x)]))
    for a, b in zip(plain.grads(), branch.grads(), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("running_mean", "running_var"):
        np.testing.assert_array_equal(
            plain.state_dict()[f"1.{name}"], branch.state_dict()[f"0.0.1.{name}"]
        )


def test_branches_side_by_side_are_one_linear_layer():
    x, y = data(100)
    stacked = dl.Sequential(dl.Linear(5, 6), dtype=np.float64, seed=0)
    branches = dl.Sequential(
        dl.Parallel(dl.Linear(5, 2), dl.Linear(5, 4)), dtype=np.float64, seed=0
    )
    weight, bias = stacked.parameters()
    branches.load_state_dict(
        {
            "0.0.weight": weight[:2],
            "0.0.bias": bias[:2],
            "0.1.weight": weight[2:],
            "0.1.bias": bias[2:],
        }
    )
    for model in (stacked, branches):
        optimizer = dl.SGD(model.parameters(), lr=0.1, momentum=0.9)
        trainer = dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0)
        trainer.fit(x, y, epochs=3, batch_size=16, verbose=0)
    np.testing.assert_allclose(
        np.vstack([branches.state_dict()["0.0.weight"], branches.state_dict()["0.1.weight"]]),
        stacked.state_dict()["0.weight"],
        rtol=1e-10,
    )


def test_what_is_frozen_stays_and_costs_no_way_back():
    x, y = data()
    model = residual()
    before = model.state_dict()
    model.freeze("0")
    model.freeze("2.0")
    model.freeze("3.0.0.bias")
    dl.Trainer(model, loss="cross_entropy").fit(x, y, epochs=2, verbose=0)
    for name, value in model.state_dict().items():
        is_frozen = name.startswith(("0.", "2.0.")) or name == "3.0.0.bias"
        assert np.array_equal(value, before[name]) == is_frozen, name


def test_copies_pickles_and_files_are_the_same_model(tmp_path):
    x, y = data()
    model = residual()
    dl.Trainer(model, loss="cross_entropy").fit(x, y, epochs=1, verbose=0)
    for other in copies_of(model, tmp_path):
        assert repr(other) == repr(model)
        np.testing.assert_array_equal(other(x), model(x))
        other.flat[...] = 0
        assert other(x).any() == False
        assert model(x).any()


def test_a_fit_that_was_resumed_ends_with_the_same_bits(tmp_path):
    x, y = data()

    def trainer():
        model = residual()
        return dl.Trainer(model, loss="cross_entropy", seed=0)

    whole = trainer()
    whole.fit(x, y, epochs=4, verbose=0)
    half = trainer()
    half.fit(x, y, epochs=2, verbose=0)
    half.save(tmp_path / "half")
    other = trainer()
    other.fit(x, y, epochs=4, resume=tmp_path / "half", verbose=0)
    np.testing.assert_array_equal(other.model.flat, whole.model.flat)


def test_networks_in_branches_bring_copies_with_their_weights():
    body = dl.Sequential(dl.Linear(4, 8), dl.BatchNorm1d(8), dl.ReLU(), dl.Linear(8, 4), seed=3)
    body.layers[1].running_mean = np.full(8, 0.5, np.float32)
    x = RNG.normal(size=(9, 4)).astype(np.float32)
    model = dl.Sequential(dl.Residual(body), dl.Linear(4, 2), seed=0)
    np.testing.assert_allclose(model[:1](x), x + body(x), rtol=1e-6)
    model.flat[...] = 0
    assert body(x).any()
    both = dl.Sequential(dl.Parallel(body, dl.Linear(4, 3)), seed=0)
    np.testing.assert_allclose(both(x)[:, :4], body(x), rtol=1e-6)


def test_running_statistics_of_branches_are_recomputed():
    x, _ = data(400)
    model = dl.Sequential(
        dl.Linear(5, 6),
        dl.Parallel(
            [dl.Linear(4, 3), dl.Residual(dl.BatchNorm1d(3), dl.Linear(3, 3))],
            dl.BatchNorm1d(6),
            columns=[slice(1, 5), slice(0, 6)],
        ),
        dtype=np.float64,
        seed=0,
    )
    dl.update_batch_norm(model, x)
    state = model.state_dict()
    hidden = x @ state["0.weight"].T + state["0.bias"]
    inner = hidden[:, 1:5] @ state["1.0.0.weight"].T + state["1.0.0.bias"]
    np.testing.assert_allclose(state["1.1.running_mean"], hidden.mean(0), atol=1e-12)
    np.testing.assert_allclose(state["1.0.1.0.running_mean"], inner.mean(0), atol=1e-12)


def test_initial_weights_are_drawn_for_branches():
    model = residual()
    dl.initialize(model, "kaiming_normal", gain=3.0, seed=0)
    assert model.state_dict()["3.0.0.weight"].std() == pytest.approx(3 / 4, rel=0.2)
    with pytest.raises(ValueError, match="'lsuv' goes through layers in a row"):
        dl.initialize(model, "lsuv", x=data()[0])


def test_names_widths_and_pictures():
    model = residual()
    assert model.in_features == 5
    assert [*model.named_parameters()][2:8] == [
        "2.0.weight",
        "2.0.bias",
        "2.1.weight",
        "2.1.bias",
        "2.3.weight",
        "2.3.bias",
    ]
    assert repr(model.layers[3]) == (
        "Parallel([Linear(16, 8), ReLU()], Residual(Linear(4, 4), Tanh()), [], "
        "columns=[slice(0, 16, None), slice(3, 7, None), slice(5, 16, None)])"
    )
    assert dl.Residual(dl.ReLU()).in_features is None
    assert set(model.sparsity(by_layer=True)) == {"0", "2.1", "2.3", "3.0.0", "3.1.0", "4"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: dl.Residual(), "Residual needs at least one layer"),
        (lambda: dl.Residual(dl.Linear(3, 4)), "but take 3 and give 4"),
        (lambda: dl.Residual(dl.Linear(3, 4), dl.Linear(5, 3)), "layer 1, .* takes 5 features"),
        (lambda: dl.Parallel(), "at least one branch"),
        (lambda: dl.Parallel(dl.ReLU(), dl.Tanh()), "needs in_features"),
        (
            lambda: dl.Parallel(dl.Linear(3, 1), dl.Linear(4, 1)),
            "branch 1 takes 4 features, but gets 3",
        ),
        (
            lambda: dl.Parallel(dl.Linear(3, 1), dl.Linear(3, 2), join="sum"),
            r"give \[1, 2\] features, which cannot be added",
        ),
        (lambda: dl.Parallel(dl.Linear(3, 1), join="mean"), "join must be"),
        (lambda: dl.Parallel(dl.ReLU(), columns=[slice(2, None)]), "needs in_features"),
        (lambda: dl.Parallel(dl.ReLU(), columns=[slice(0, 4, 2)]), "in a row"),
        (lambda: dl.Parallel(dl.ReLU(), columns=[slice(0, 9)], in_features=4), "of 4 in a row"),
        (lambda: dl.Parallel(dl.ReLU(), columns=[slice(0, 2)] * 2), "each of the 1 branches"),
    ],
)
def test_what_does_not_fit_is_told(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_layer_has_one_place():
    layer = dl.Linear(3, 3)
    with pytest.raises(ValueError, match="already part of a model"):
        dl.Sequential(dl.Residual(layer), layer)
    dl.Sequential(dl.Residual(layer))
    with pytest.raises(ValueError, match="already part of a model"):
        dl.Sequential(dl.Residual(layer))
    with pytest.raises(TypeError, match="takes layers such as"):
        dl.Residual(3)
    with pytest.raises(TypeError, match="a branch is a layer"):
        dl.Parallel("ab")
    with pytest.raises(TypeError, match="columns must be slices"):
        dl.Parallel(dl.ReLU(), columns=[3], in_features=2)
