"""Frozen layers: not a bit changes, and nothing is computed for them that is not needed."""

import numpy as np
import pytest

import dlcore as dl


class Own(dl.Adam):
    """An optimizer of the user's own, which is called between native passes."""

    def step(self, grads):
        super().step(grads)


def data(n=120, dtype=np.float32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 8)).astype(dtype)
    return x, (x[:, 0] > 0).astype(np.int64)


def model(width=48, dtype=np.float32):
    return dl.Sequential(
        dl.Linear(8, width, max_norm=0.1),
        dl.BatchNorm1d(width),
        dl.ReLU(),
        dl.Linear(width, width),
        dl.LayerNorm(width),
        dl.GELU(),
        dl.Linear(width, 2),
        seed=0,
        dtype=dtype,
    )


@pytest.mark.parametrize("kind", [dl.Adam, Own])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("frozen", [["0"], ["1"], ["0", "1"], ["3"], ["4", "1"], ["6"], ["0", "3"]])
def test_frozen_layers_keep_every_bit(frozen, dtype, kind):
    x, y = data(dtype=dtype)
    net = model(dtype=dtype)
    for name in frozen:
        net.freeze(name)
    for name in frozen:
        net.named_parameters()[f"{name}.weight"].flat[:2] = -0.0
    before = net.state_dict()
    trainer = dl.Trainer(
        net,
        loss="cross_entropy",
        optimizer=kind(net.parameters(), 0.01, weight_decay=0.1, l1=0.01),
        callbacks=[dl.ExponentialMovingAverage(0.9)],
        seed=0,
    )
    trainer.fit(x, y, epochs=2, batch_size=12, verbose=0)
    after = net.state_dict()
    for name, value in before.items():
        same = value.tobytes() == after[name].tobytes()
        assert same == (name.split(".")[0] in frozen), name


@pytest.mark.parametrize("kind", [dl.Adam, Own])
def test_a_frozen_batch_norm_is_the_affine_map_of_its_running_statistics(kind):
    """The others learn as beside a fixed scale and shift, which a linear layer can stand for."""
    rng = np.random.default_rng(1)
    x, y = data()
    mean, var = rng.normal(size=16), rng.uniform(0.5, 2, 16)
    weight, bias = rng.normal(size=16), rng.normal(size=16)
    with_norm = dl.Sequential(dl.Linear(8, 16), dl.BatchNorm1d(16), dl.Linear(16, 2), seed=0)
    norm = with_norm[1]
    norm.running_mean[...], norm.running_var[...] = mean, var
    norm.weight[...], norm.bias[...] = weight, bias
    with_norm.freeze("1")
    plain = dl.Sequential(dl.Linear(8, 16), dl.Linear(16, 16), dl.Linear(16, 2), seed=0)
    scale = weight / np.sqrt(var + norm.eps)
    state = with_norm.state_dict()
    plain.load_state_dict(
        {
            "0.weight": state["0.weight"],
            "0.bias": state["0.bias"],
            "1.weight": np.diag(scale).astype(np.float32),
            "1.bias": (bias - mean * scale).astype(np.float32),
            "2.weight": state["2.weight"],
            "2.bias": state["2.bias"],
        }
    )
    plain.freeze("1")
    losses = []
    for net in (with_norm, plain):
        trainer = dl.Trainer(net, loss="cross_entropy", optimizer=kind(net.parameters(), 0.01))
        history = trainer.fit(x, y, epochs=3, batch_size=20, shuffle=False, verbose=0)
        losses.append(history["loss"])
    np.testing.assert_allclose(*losses, rtol=1e-4)
    np.testing.assert_allclose(with_norm[0].weight, plain[0].weight, rtol=1e-3, atol=1e-4)


def test_a_frozen_layer_can_be_trained_again():
    x, y = data()
    net = model()
    net.freeze("0")
    net.freeze("1")
    assert net.frozen >= {"0.weight", "0.bias", "1.running_mean", "1.num_batches_tracked"}
    net.unfreeze("1")
    net.unfreeze("0")
    assert net.frozen == frozenset()
    before = net.state_dict()
    dl.Trainer(net, loss="cross_entropy").fit(x, y, epochs=1, verbose=0)
    assert all(not np.array_equal(before[n], v) for n, v in net.state_dict().items())


def test_a_batch_norm_without_parameters_can_be_frozen():
    x, y = data()
    net = dl.Sequential(dl.BatchNorm1d(8, affine=False), dl.Linear(8, 2), seed=0)
    net.freeze("0")
    dl.Trainer(net, loss="cross_entropy").fit(x, y, epochs=1, verbose=0)
    assert net[0].num_batches_tracked == 0
    assert np.array_equal(net[0].running_mean, np.zeros(8))


def test_what_does_not_learn_has_no_way_back():
    """NaN in what the way back of a frozen layer would read does no harm."""
    x, y = data()
    net = dl.Sequential(dl.Linear(8, 4), dl.ReLU(), dl.Linear(4, 2), seed=0)
    net[0].weight[0] = -1e30  # a unit that no row switches on, with a weight that overflows
    net[0].bias[0] = -np.inf
    net.freeze("0")
    dl.Trainer(net, loss="cross_entropy").fit(x, y, epochs=1, verbose=0)
    assert np.isfinite(net[2].weight).all()


def test_nothing_to_train():
    x, y = data()
    net = dl.Sequential(dl.Linear(8, 2), seed=0)
    net.freeze("0")
    with pytest.raises(ValueError, match="there is nothing to train"):
        dl.Trainer(net, loss="cross_entropy").fit(x, y, epochs=1, verbose=0)
    with pytest.raises(
        ValueError, match=r"the model has no parameter .7., only 0\.weight, 0\.bias"
    ):
        net.freeze("7")
