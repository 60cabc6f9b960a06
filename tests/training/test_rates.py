"""Learning rates in a fit: schedules of epochs and of iterations, groups, the log."""

import numpy as np
import pytest

import dlcore as dl


class Own(dl.SGD):
    """An optimizer of the user's own, which is called between native passes."""

    def step(self, grads):
        super().step(grads)


def data(n=100):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 5)).astype(np.float32)
    return x, x[:, :1] - x[:, 1:2]


def model(seed=0):
    return dl.Sequential(dl.Linear(5, 40), dl.Tanh(), dl.Linear(40, 1), seed=seed)


def replay(net, schedule, groups, epochs, batch_size, per):
    """Fit batch by batch on consecutive rows, setting the rates by hand."""
    x, y = data()
    optimizer = dl.SGD(groups(net))
    initial = optimizer.lrs
    trainer = dl.Trainer(net, loss="mse", optimizer=optimizer)
    step = 0
    for epoch in range(epochs):
        for start in range(0, len(x), batch_size):
            optimizer.set_lrs([schedule(epoch if per == "epoch" else step, lr) for lr in initial])
            rows = slice(start, start + batch_size)
            trainer.fit(x[rows], y[rows], epochs=1, batch_size=batch_size, shuffle=False, verbose=0)
            step += 1
    return net.flat


def one_group(net):
    return [{"params": net.parameters(), "lr": 0.05}]


def two_groups(net):
    return [
        {"params": net.parameters("0"), "lr": 0.05},
        {"params": net.parameters("2"), "lr": 0.01},
    ]


@pytest.mark.parametrize("kind", [dl.SGD, Own])
@pytest.mark.parametrize("groups", [one_group, two_groups])
@pytest.mark.parametrize("per", ["epoch", "iteration"])
def test_a_schedule_is_the_same_as_setting_each_rate(per, groups, kind):
    schedule = dl.CosineAnnealingLR(7, eta_min=1e-3, per=per)
    x, y = data()
    net = model()
    optimizer = kind(groups(net))
    trainer = dl.Trainer(net, loss="mse", optimizer=optimizer, schedule=schedule)
    history = trainer.fit(x, y, epochs=3, batch_size=10, shuffle=False, verbose=0)
    expected = replay(model(), schedule, groups, 3, 10, per)
    tolerance = 0 if kind is dl.SGD else 1e-6
    np.testing.assert_allclose(net.flat, expected, rtol=tolerance, atol=tolerance)
    last = 2 if per == "epoch" else 29
    assert history["lr"][-1] == schedule(last, 0.05)
    if groups is two_groups:
        assert history["lr_1"][-1] == schedule(last, 0.01)
        assert optimizer.lrs == [schedule(last, 0.05), schedule(last, 0.01)]


def test_iterations_are_updates_where_batches_are_accumulated():
    schedule = dl.StepLR(2, 0.5, per="iteration")
    x, y = data()
    nets = []
    for batch_size, accumulate in ((10, 2), (20, 1)):
        net = model()
        trainer = dl.Trainer(
            net,
            loss="mse",
            optimizer=dl.SGD(net.parameters(), 0.1),
            schedule=schedule,
            accumulate=accumulate,
        )
        history = trainer.fit(x, y, epochs=2, batch_size=batch_size, shuffle=False, verbose=0)
        assert history["lr"] == [0.1 * 0.5**2, 0.1 * 0.5**4]
        assert history.iteration == [5, 10]
        nets.append(net.flat)
    np.testing.assert_allclose(*nets, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("per", ["epoch", "iteration"])
def test_a_second_fit_goes_on_where_the_first_ended(per):
    x, y = data()
    flats = []
    for parts in ([4], [1, 3]):
        net = model()
        trainer = dl.Trainer(
            net,
            loss="mse",
            optimizer=dl.Adam(net.parameters(), 0.01),
            schedule=dl.ExponentialLR(0.9, per=per),
        )
        for epochs in parts:
            trainer.fit(x, y, epochs=epochs, batch_size=10, shuffle=False, verbose=0)
        flats.append(net.flat)
    assert np.array_equal(*flats)


def test_a_schedule_of_iterations_for_an_iterable_of_batches():
    x, y = data()
    batches = [(x[i : i + 10], y[i : i + 10]) for i in range(0, 100, 10)]
    flats = []
    for given, options in (((batches,), {}), ((x, y), {"batch_size": 10})):
        net = model()
        trainer = dl.Trainer(
            net,
            loss="mse",
            optimizer=dl.SGD(net.parameters(), 0.1),
            schedule=dl.Warmup(
                dl.LinearLR(total_iters=9, per="iteration"), steps=5, per="iteration"
            ),
        )
        trainer.fit(*given, epochs=2, **options, shuffle=False, verbose=0)
        flats.append(net.flat)
    np.testing.assert_allclose(*flats, rtol=1e-6, atol=1e-7)


def test_a_function_of_the_epoch():
    x, y = data()
    net = model()
    trainer = dl.Trainer(net, loss="mse", optimizer="sgd", schedule=lambda epoch: 0.1 / (1 + epoch))
    assert trainer.fit(x, y, epochs=3, verbose=0)["lr"] == [0.1, 0.05, 0.1 / 3]


def test_a_function_cannot_set_groups_of_different_rates():
    x, y = data()
    net = model()
    trainer = dl.Trainer(net, loss="mse", optimizer=dl.SGD(two_groups(net)), schedule=lambda _: 0.1)
    with pytest.raises(ValueError, match="groups have learning rates of their own"):
        trainer.fit(x, y, epochs=1, verbose=0)


def test_a_rate_that_is_none():
    x, y = data()
    trainer = dl.Trainer(model(), loss="mse", schedule=lambda _: -1.0)
    before = trainer.model.flat.copy()
    with pytest.raises(ValueError, match=r"schedule\(0\) is -1.0, not a learning rate"):
        trainer.fit(x, y, epochs=1, verbose=0)
    assert np.array_equal(trainer.model.flat, before)


@pytest.mark.parametrize("as_schedule", [True, False])
def test_reduce_on_plateau(as_schedule):
    x, y = data()
    net = model()
    reducer = dl.ReduceLROnPlateau(
        "loss", patience=1, factor=0.5, threshold=10, threshold_mode="abs"
    )
    given = {"schedule": reducer} if as_schedule else {"callbacks": [reducer]}
    trainer = dl.Trainer(net, loss="mse", optimizer=dl.SGD(two_groups(net)), **given)
    history = trainer.fit(x, y, epochs=6, verbose=0)
    # The first epoch is the best; each second one after it reduces.
    assert history["lr"] == [0.05, 0.05, 0.05, 0.025, 0.025, 0.0125]
    assert history["lr_1"] == [0.01, 0.01, 0.01, 0.005, 0.005, 0.0025]


def test_a_schedule_and_a_plateau_exclude_each_other():
    x, y = data()
    trainer = dl.Trainer(
        model(), loss="mse", schedule=dl.StepLR(3), callbacks=[dl.ReduceLROnPlateau("loss")]
    )
    with pytest.raises(ValueError, match="ReduceLROnPlateau cannot reduce it"):
        trainer.fit(x, y, epochs=1, verbose=0)


# ---- the log of iterations ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", [dl.SGD, Own])
@pytest.mark.parametrize("accumulate", [1, 3])
def test_losses_of_iterations(kind, accumulate, capsys):
    x, y = data()
    net = model()
    trainer = dl.Trainer(
        net, loss="mse", optimizer=kind(net.parameters(), 0.0), accumulate=accumulate
    )
    history = trainer.fit(x, y, epochs=2, batch_size=10, shuffle=False, log_every=2, verbose=2)
    size = 10 * accumulate
    updates = [
        trainer.evaluate(x[i : i + size], y[i : i + size])["loss"] for i in range(0, 100, size)
    ] * 2
    pairs = np.array(updates).reshape(-1, 2).mean(1)
    assert history.batches == [10, 10]
    assert history.iteration == [len(updates) // 2, len(updates)]
    assert history.iterations["iteration"] == list(range(2, len(updates) + 1, 2))
    np.testing.assert_allclose(history.iterations["loss"], pairs, rtol=1e-6)
    assert history.iterations["lr"] == [0.0] * len(pairs)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("iteration")]
    assert len(lines) == len(pairs)
    assert lines[0] == f"iteration 2  loss {pairs[0]:.4f}"


def test_no_log_without_being_asked():
    x, y = data()
    history = dl.Trainer(model(), loss="mse").fit(x, y, epochs=1, batch_size=10, verbose=0)
    assert history.iterations == {}
    assert history.iteration == [10]
    with pytest.raises(ValueError, match="log_every must be a positive integer"):
        dl.Trainer(model(), loss="mse").fit(x, y, epochs=1, log_every=0, verbose=0)
