"""Options of groups in fits: what is set between epochs, what differs, native and in Python alike."""

import numpy as np
import pytest

import dlcore as dl
from support.own_optimizers import OwnAdam, OwnSGD

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 4))
Y = X[:, :1] - X[:, 1:2]


class At(dl.Callback):
    """Changes the optimizer after some epochs."""

    def __init__(self, **changes):
        self.changes = {int(name[1:]): change for name, change in changes.items()}

    def on_epoch_end(self, epoch, _):
        if epoch in self.changes:
            self.changes[epoch](self.trainer.optimizer)


def model():
    layers = dl.Linear(4, 24), dl.Tanh(), dl.Linear(24, 1)
    return dl.Sequential(*layers, dtype=np.float64, seed=0)


def fit(make, *, epochs=6, callbacks=(), freeze=(), **options):
    net = model()
    optimizer = make(net)
    trainer = dl.Trainer(net, loss="mse", optimizer=optimizer, seed=0, **options)
    for name in freeze:
        net.freeze(name)
    trainer.fit(X, Y, epochs=epochs, batch_size=10, callbacks=list(callbacks), verbose=0)
    return net, optimizer


def assert_alike(native, own, make, **options):
    nets = []
    for kind in (native, own):
        net, optimizer = fit(lambda net, kind=kind: make(kind, net), **options)
        nets.append((net.flat, optimizer.state_dict()))
    np.testing.assert_allclose(nets[0][0], nets[1][0], rtol=1e-9, atol=1e-12)
    assert nets[0][1]["param_groups"] == nets[1][1]["param_groups"]
    assert nets[0][1]["state"].keys() == nets[1][1]["state"].keys()
    for i, state in nets[0][1]["state"].items():
        assert state.keys() == nets[1][1]["state"][i].keys()
        for name, value in state.items():
            np.testing.assert_allclose(value, nets[1][1]["state"][i][name], rtol=1e-7, atol=1e-12)


def of_layers(first, last):
    return lambda kind, net: kind(
        [{"params": net.parameters("0"), **first}, {"params": net.parameters("2"), **last}], lr=0.01
    )


@pytest.mark.parametrize("clip", [{}, {"clip_grad_norm": 0.5}])
@pytest.mark.parametrize(
    ("first", "last"),
    [
        ({"momentum": 0.9}, {}),
        ({}, {"momentum": 0.9, "nesterov": True}),
        ({"momentum": 0.9, "dampening": 0.5}, {"momentum": 0.2, "maximize": True}),
    ],
)
def test_momentum_of_some_groups(first, last, clip):
    assert_alike(dl.SGD, OwnSGD, of_layers(first, last), **clip)


@pytest.mark.parametrize("clip", [{}, {"clip_grad_norm": 0.5}])
@pytest.mark.parametrize(
    ("first", "last"),
    [
        ({"amsgrad": True}, {}),
        ({"betas": (0.5, 0.9)}, {"amsgrad": True, "betas": (0.9, 0.99), "weight_decay": 0.1}),
        ({"decoupled_weight_decay": True, "weight_decay": 0.1}, {"eps": 0.1}),
    ],
)
def test_options_of_adam_that_differ(first, last, clip):
    assert_alike(dl.Adam, OwnAdam, of_layers(first, last), **clip)


@pytest.mark.parametrize(
    "change",
    [
        lambda o: o.param_groups[1].update(lr=0.001),
        lambda o: setattr(o, "momentum", 0.9),
        lambda o: o.param_groups[0].update(momentum=0.9, nesterov=True),
        lambda o: setattr(o, "weight_decay", 0.3),
        lambda o: setattr(o, "l1", 0.01),
        lambda o: setattr(o, "maximize", True),
    ],
)
def test_what_is_set_between_epochs_acts_on_the_next_one(change):
    make = of_layers({}, {})
    options = {"callbacks": [At(_2=change)]}
    assert_alike(dl.SGD, OwnSGD, make, **options)
    changed, plain = (fit(lambda net: make(dl.SGD, net), **o)[0].flat for o in (options, {}))
    assert not np.array_equal(changed, plain)


@pytest.mark.parametrize(
    "change",
    [
        lambda o: setattr(o, "amsgrad", True),
        lambda o: setattr(o, "betas", (0.5, 0.5)),
        lambda o: o.param_groups[0].update(eps=1.0),
    ],
)
def test_what_is_set_of_adam_between_epochs_acts_on_the_next_one(change):
    back = At(_1=change, _3=lambda o: setattr(o, "amsgrad", False))
    assert_alike(dl.Adam, OwnAdam, of_layers({}, {}), callbacks=[back])


@pytest.mark.parametrize("schedule", [None, dl.StepLR(3, per="iteration"), dl.StepLR(2)])
@pytest.mark.parametrize(("kind", "own"), [(dl.SGD, OwnSGD), (dl.Adam, OwnAdam)])
def test_counts_that_differ_within_a_group(kind, own, schedule):
    def make(kind, net):
        more = {"momentum": 0.9, "dampening": 0.5} if issubclass(kind, dl.SGD) else {}
        params = net.parameters()
        optimizer = kind(
            [{"params": params[:3]}, {"params": params[3:], "lr": 0.02}], lr=0.01, **more
        )
        for step in range(4):
            optimizer.step(
                [np.ones_like(p) * 0.1 if step > i else None for i, p in enumerate(params)]
            )
        return optimizer

    assert_alike(kind, own, make, schedule=schedule)


@pytest.mark.parametrize(("kind", "own"), [(dl.SGD, OwnSGD), (dl.Adam, OwnAdam)])
def test_layers_that_are_thawed_begin_their_own_count(kind, own):
    def make(kind, net):
        more = {"momentum": 0.9, "dampening": 0.5} if issubclass(kind, dl.SGD) else {}
        return kind(net.parameters(), lr=0.01, **more)

    states = []
    for one in (kind, own):
        net = model()
        optimizer = make(one, net)
        trainer = dl.Trainer(net, loss="mse", optimizer=optimizer, seed=0)
        net.freeze("0")
        trainer.fit(X, Y, epochs=2, batch_size=10, verbose=0)
        net.unfreeze("0")
        trainer.fit(X, Y, epochs=2, batch_size=10, verbose=0)
        states.append((net.flat.copy(), optimizer.state_dict()["state"]))
    np.testing.assert_allclose(states[0][0], states[1][0], rtol=1e-9, atol=1e-12)
    if kind is dl.Adam:
        for _, state in states:
            assert [s["step"] for s in state.values()] == [12, 12, 24, 24]


def test_a_fit_without_an_update_leaves_no_state():
    net = model()
    adam = dl.Adam(net.parameters())
    trainer = dl.Trainer(net, loss="mse", optimizer=adam, seed=0)
    with pytest.raises(FloatingPointError):
        trainer.fit(X, np.full_like(Y, 1e300), epochs=1, batch_size=60, verbose=0)
    assert adam.state_dict()["state"] == {}
    assert adam.steps == 0
