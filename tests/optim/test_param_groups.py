"""Groups that are set, that grow and that differ, and gradients that are None."""

import copy
import pickle
import time

import numpy as np
import pytest

import dlcore as dl
from dlcore import reference

RNG = np.random.default_rng(0)
KINDS = {
    "SGD": (dl.SGD, {"lr": 0.1}),
    "momentum": (dl.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    "Adam": (dl.Adam, {"lr": 0.1}),
    "amsgrad": (dl.Adam, {"lr": 0.1, "amsgrad": True}),
    "AdamW": (dl.AdamW, {"lr": 0.1}),
}
each_kind = pytest.mark.parametrize(("kind", "options"), KINDS.values(), ids=KINDS.keys())


class Slow(dl.Optimizer):
    """Gradient descent with a mean of the gradients, in Python."""

    state_names = ("mean",)

    def __init__(self, params, lr=0.1, *, keep=0.5):
        super().__init__(params, {"lr": lr, "keep": keep})

    def update(self, params, grads, state, options):
        for p, g, mean in zip(params, grads, state["mean"], strict=True):
            mean *= options["keep"]
            mean += g
            p -= options["lr"] * mean


class Tensor:
    """What NumPy reads without a copy, as a tensor of another library is."""

    def __init__(self, array):
        self.array = array

    def __array__(self, dtype=None, copy=None):
        return self.array


def draw(*shapes, dtype=np.float64):
    return [RNG.standard_normal(shape).astype(dtype) for shape in shapes]


# ---- what is set acts


@pytest.mark.parametrize(
    ("name", "value", "moved"),
    [
        ("lr", 0.25, 0.5),
        ("momentum", 0.5, 1.25),
        ("weight_decay", 1.0, 0.5 * (2 + 1.5) - 0.5),
        ("maximize", True, -1.0),
        ("l1", 0.5, 1.5),
    ],
)
@pytest.mark.parametrize("by", ["group", "attribute", "update", "ior"])
def test_an_option_that_is_set_acts_on_the_next_step(name, value, moved, by):
    w = np.full(1, 1.0 if name != "l1" else 10.0)
    first = w[0]
    sgd = dl.SGD([w], lr=0.5)
    group = sgd.param_groups[0]
    if by == "group":
        group[name] = value
    elif by == "attribute":
        setattr(sgd, name, value)
    elif by == "update":
        group.update({name: value})
    else:
        group |= {name: value}
    assert getattr(sgd, name) == group[name] == value
    sgd.step([np.ones(1)])
    sgd.step([np.ones(1)])
    if name == "weight_decay":  # 1 - 0.5 (1 + 1) = 0, then 0 - 0.5 (1 + 0)
        moved = 1.5
    np.testing.assert_allclose(first - w[0], moved)


def test_betas_and_eps_act_and_are_numbers():
    p, twin = np.ones(3), np.ones(3)
    adam, other = dl.Adam([p], lr=0.1), dl.Adam([twin], lr=0.1, betas=(0.5, 0.9), eps=0.1)
    adam.betas, adam.eps = [0.5, 0.9], np.float32(0.1)
    assert adam.param_groups[0]["betas"] == (0.5, 0.9)
    assert type(adam.eps) is float
    g = draw(3)
    adam.step(g)
    other.step(g)
    np.testing.assert_allclose(p, twin, rtol=1e-7)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda o: o.param_groups[0].update(lr=-1), ValueError, "SGD: lr must be at least 0"),
        (lambda o: o.param_groups[0].__setitem__("lr", "fast"), TypeError, "lr must be a number"),
        (lambda o: o.param_groups[0].__setitem__("lr", np.ones(2)), TypeError, "must be a number"),
        (lambda o: setattr(o, "momentum", np.nan), ValueError, "SGD: momentum must be at least 0"),
        (lambda o: setattr(o, "momentum", np.inf), ValueError, "SGD: momentum must be a finite"),
        (lambda o: setattr(o, "dampening", np.nan), ValueError, "SGD: dampening must be a finite"),
        (lambda o: setattr(o, "dampening", "0.5"), TypeError, "SGD: dampening must be a number"),
        (lambda o: setattr(o, "nesterov", "no"), TypeError, "nesterov must be True or False"),
        (lambda o: setattr(o, "nesterov", True), ValueError, "nesterov needs a momentum"),
        (lambda o: setattr(o, "learning_rate", 1), AttributeError, "did you mean 'lr'"),
        (lambda o: setattr(o, "momentun", 1), AttributeError, "did you mean 'momentum'"),
        (lambda o: setattr(o, "steps", 3), AttributeError, "steps"),
        (lambda o: setattr(o, "params", []), AttributeError, "params"),
        (lambda o: setattr(o, "param_groups", []), AttributeError, "param_groups"),
        (lambda o: o.param_groups[0].update(beta=1), ValueError, "SGD has no option 'beta'"),
        (lambda o: o.param_groups[0].pop("lr"), TypeError, "cannot be removed"),
        (lambda o: o.param_groups[0].clear(), TypeError, "cannot be removed"),
        (lambda o: o.param_groups[0].update(params=[]), TypeError, "add_param_group"),
        (lambda o: o.param_groups[0].update(lr=7, momentum=-1), ValueError, "momentum"),
        (lambda o: o.add_param_group({"params": o.params}), ValueError, "share memory"),
        (lambda o: o.add_param_group({"params": [np.ones(2)], "lr": -1}), ValueError, "lr must"),
        (lambda o: o.add_param_group({"params": [np.ones(2)], "beta": 1}), ValueError, "must hold"),
        (lambda o: o.add_param_group([np.ones(2)]), TypeError, "param_group must be a dict"),
    ],
)
def test_what_cannot_act_is_refused_and_changes_nothing(change, error, message):
    sgd = dl.SGD([np.ones(2)], lr=0.5)
    before = repr(sgd)
    with pytest.raises(error, match=message):
        change(sgd)
    assert repr(sgd) == before


def test_options_of_groups_that_differ_are_set_by_group():
    sgd = dl.SGD([{"params": np.ones(2), "momentum": 0.9}, {"params": np.ones(2)}])
    with pytest.raises(ValueError, match=r"have a momentum of their own, \[0.9, 0.0\]"):
        sgd.momentum = 0.5
    assert [g["momentum"] for g in sgd.param_groups] == [0.9, 0.0]
    sgd.weight_decay = 0.1
    assert [g["weight_decay"] for g in sgd.param_groups] == [0.1, 0.1]


def test_a_group_has_notes_of_the_user():
    sgd = dl.SGD([{"params": np.ones(2), "name": "head"}], lr=0.5)
    (group,) = sgd.param_groups
    assert group.setdefault("initial_lr", group["lr"]) == 0.5
    assert group["name"] == "head"
    other = dl.SGD([np.ones(2)])
    other.load_state_dict(sgd.state_dict())
    assert other.param_groups[0]["initial_lr"] == 0.5
    sgd.step([np.ones(2)])


def test_options_of_an_optimizer_of_ones_own_are_set_as_well():
    p = np.ones(1)
    slow = Slow([p], keep=0.0)
    slow.keep = 1.0
    slow.param_groups[0]["lr"] = 1.0
    slow.step([np.ones(1)])
    slow.step([np.ones(1)])
    assert p[0] == 1 - 1 - 2
    slow.note = "of the user"  # any other attribute is the user's business
    assert slow.note == "of the user"


def test_a_group_is_live_after_a_state_was_loaded():
    p = np.ones(1)
    sgd = dl.SGD([p], lr=0.5)
    (group,) = sgd.param_groups
    sgd.load_state_dict(dl.SGD([np.ones(1)], lr=0.125).state_dict())
    assert group["lr"] == 0.125
    group["lr"] = 0.25
    sgd.step([np.ones(1)])
    assert p[0] == 0.75


def test_momentum_that_comes_and_goes():
    """As in PyTorch: the buffer begins with the first gradient, and waits while there is none."""
    p = np.zeros(1)
    sgd = dl.SGD([p], lr=1.0, dampening=0.5)
    sgd.step([np.ones(1)])
    sgd.momentum = 0.5
    sgd.step([np.ones(1)])  # the buffer is the gradient, without dampening
    assert p[0] == -2
    sgd.momentum = 0.0
    sgd.step([np.ones(1)])
    assert p[0] == -3
    sgd.momentum = 0.5
    sgd.step([np.ones(1)])  # 0.5 * 1 + 0.5 * 1
    assert p[0] == -4


def test_amsgrad_from_the_middle_on():
    p = np.zeros(2)
    adam = dl.Adam([p], lr=0.1)
    adam.step([np.ones(2)])
    adam.amsgrad = True
    adam.step([np.ones(2)])
    assert "max_exp_avg_sq" in adam.state_dict()["state"][0]
    np.testing.assert_allclose(p, -0.2, rtol=1e-6)


@each_kind
def test_copies_and_pickles_keep_options_and_state(kind, options):
    p = draw((3,))
    optimizer = kind(p, **options)
    optimizer.step(draw((3,)))
    optimizer.param_groups[0]["lr"] = 0.01
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert repr(other) == repr(optimizer)
        other.param_groups[0]["lr"] = 0.02
        assert optimizer.lr == 0.01
        other.lr = 0.01
        g = draw((3,))
        twin = copy.deepcopy(optimizer)
        other.step(g)
        twin.step(g)
        np.testing.assert_array_equal(other.params[0], twin.params[0])


# ---- groups that differ, and that grow


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_groups_of_different_state_are_each_as_alone(dtype):
    cases = [
        (dl.SGD, {"momentum": 0.9}, {}, {"momentum": 0.5, "nesterov": True}),
        (dl.Adam, {"amsgrad": True}, {"betas": (0.5, 0.7)}, {"weight_decay": 0.1}),
    ]
    for kind, *groups in cases:
        params = draw((3,), (2, 2), (5,), dtype=dtype)
        alone = [p.copy() for p in params]
        optimizer = kind(
            [{"params": p, **own} for p, own in zip(params, groups, strict=True)], lr=0.1
        )
        single = [kind([p], lr=0.1, **own) for p, own in zip(alone, groups, strict=True)]
        for _ in range(4):
            grads = draw((3,), (2, 2), (5,), dtype=dtype)
            optimizer.step(grads)
            for one, g in zip(single, grads, strict=True):
                one.step([g])
        for p, q in zip(params, alone, strict=True):
            np.testing.assert_array_equal(p, q)
        again = kind([{"params": p} for p in params])
        again.load_state_dict(optimizer.state_dict())
        assert repr(again.state_dict()) == repr(optimizer.state_dict())


@each_kind
def test_a_group_that_is_added_begins_its_own_count(kind, options):
    first, late, twin = np.ones(2), np.ones(3), np.ones(3)
    optimizer = kind([first], **options)
    for _ in range(3):
        optimizer.step([np.ones(2)])
    optimizer.add_param_group({"params": late, "lr": 0.5})
    single = kind([twin], **options | {"lr": 0.5})
    for _ in range(2):
        g = draw((3,))
        optimizer.step([np.ones(2), *g])
        single.step(g)
    np.testing.assert_array_equal(late, twin)
    assert optimizer.lrs == [0.1, 0.5]
    assert len(optimizer.params) == 2
    assert optimizer.steps == (0 if kind is None else 5)
    state = optimizer.state_dict()["state"]
    if kind is not dl.SGD:
        assert (state[0]["step"], state[1]["step"]) == (5, 2)


def test_an_added_group_trains_in_a_fit():
    x = RNG.normal(size=(64, 3))
    y = x @ np.ones((3, 1))
    model = dl.Sequential(dl.Linear(3, 8), dl.Tanh(), dl.Linear(8, 1), dtype=np.float64, seed=0)
    optimizer = dl.Adam(model.parameters("2"), lr=0.01)
    trainer = dl.Trainer(model, loss="mse", optimizer=optimizer, seed=0)
    before = model.state_dict()
    trainer.fit(x, y, epochs=2, verbose=0)
    assert np.array_equal(before["0.weight"], model.state_dict()["0.weight"])
    optimizer.add_param_group({"params": model.parameters("0"), "lr": 0.001})
    trainer.fit(x, y, epochs=1, verbose=0)
    assert not np.array_equal(before["0.weight"], model.state_dict()["0.weight"])
    steps = {i: s["step"] for i, s in optimizer.state_dict()["state"].items()}
    assert steps == {0: 6, 1: 6, 2: 2, 3: 2}


def test_an_added_group_has_its_own_rate_under_a_schedule():
    x = RNG.normal(size=(64, 3))
    model = dl.Sequential(dl.Linear(3, 8), dl.Tanh(), dl.Linear(8, 1), dtype=np.float64, seed=0)
    optimizer = dl.Adam(model.parameters("2"), lr=0.01)
    schedule = dl.ExponentialLR(0.5)
    trainer = dl.Trainer(model, loss="mse", optimizer=optimizer, schedule=schedule, seed=0)
    trainer.fit(x, x[:, :1], epochs=2, verbose=0)
    optimizer.add_param_group({"params": model.parameters("0"), "lr": 0.001})
    history = trainer.fit(x, x[:, :1], epochs=2, verbose=0)
    assert history["lr"] == [0.0025, 0.00125]
    assert history["lr_1"] == [0.00025, 0.000125]


# ---- gradients that are None


@pytest.mark.parametrize("grouped", [False, True])
@each_kind
def test_a_parameter_without_a_gradient_waits(kind, options, grouped):
    shapes = (2,), (2, 3), (4,)
    params, alone = draw(*shapes), []
    alone = [p.copy() for p in params]
    given = [{"params": params[:1]}, {"params": params[1:]}] if grouped else params
    optimizer = kind(given, **options)
    single = [kind([p], **options) for p in alone]
    for step in range(7):
        grads = draw(*shapes)
        grads = [None if (step * (i + 2)) % 3 == 1 else g for i, g in enumerate(grads)]
        optimizer.step(grads)
        for one, g in zip(single, grads, strict=True):
            if g is not None:
                one.step([g])
    for p, q in zip(params, alone, strict=True):
        np.testing.assert_array_equal(p, q)
    again = kind(given, **options)
    again.load_state_dict(optimizer.state_dict())
    assert repr(again.state_dict()) == repr(optimizer.state_dict())


def test_without_any_gradient_nothing_happens():
    p = np.ones(2)
    adam = dl.Adam([p])
    adam.step([None])
    assert adam.steps == 0
    assert adam.state_dict()["state"] == {}
    assert p.tolist() == [1, 1]


def test_an_optimizer_of_ones_own_sees_no_none():
    a, b = np.ones(1), np.ones(1)
    slow = Slow([a, b], lr=1.0, keep=1.0)
    slow.step([np.ones(1), None])
    slow.step([np.ones(1), np.ones(1)])
    assert (a[0], b[0]) == (1 - 1 - 2, 0)
    assert {i: s["step"] for i, s in slow.state_dict()["state"].items()} == {0: 2, 1: 1}


@pytest.mark.parametrize("loss", ["mse", dl.HuberLoss()])
@pytest.mark.parametrize("kind", [dl.Adam, Slow])
def test_a_frozen_layer_keeps_its_state_and_its_count(kind, loss):
    x = RNG.normal(size=(40, 3))
    y = x[:, :1]
    model = dl.Sequential(dl.Linear(3, 4), dl.Tanh(), dl.Linear(4, 1), dtype=np.float64, seed=0)
    optimizer = kind(model.parameters(), lr=0.01)
    trainer = dl.Trainer(model, loss=loss, optimizer=optimizer, seed=0)
    trainer.fit(x, y, epochs=1, batch_size=10, verbose=0)
    before = optimizer.state_dict()["state"]
    model.freeze("0")
    trainer.fit(x, y, epochs=2, batch_size=10, verbose=0)
    after = optimizer.state_dict()["state"]
    assert [s["step"] for s in after.values()] == [4, 4, 12, 12]
    for i in (0, 1):
        assert repr(after[i]) == repr(before[i])


def test_a_fit_goes_on_from_counts_that_differ():
    """Of each parameter as from its own optimizer."""
    x = RNG.normal(size=(32, 3))
    y = x[:, :1]
    nets = []
    for together in (True, False):
        model = dl.Sequential(dl.Linear(3, 1), dtype=np.float64, seed=0)
        weight, bias = model.parameters()
        if together:
            adam = dl.Adam([weight, bias], lr=0.01)
            for _ in range(5):
                adam.step([np.ones((1, 3)), None])
        else:
            adam = dl.Adam([{"params": weight}, {"params": bias}], lr=0.01)
            alone = dl.Adam([weight], lr=0.01)
            for _ in range(5):
                alone.step([np.ones((1, 3))])
            state = alone.state_dict()["state"]
            adam.load_state_dict(adam.state_dict() | {"state": state})
        dl.Trainer(model, loss="mse", optimizer=adam, seed=0).fit(
            x, y, epochs=2, batch_size=8, verbose=0
        )
        nets.append(model.flat.copy())
        assert [s["step"] for s in adam.state_dict()["state"].values()] == [13, 8]
    np.testing.assert_array_equal(*nets)


# ---- many arrays, memory that is shared


def test_two_groups_of_many_arrays_cost_what_one_does():
    def best(count, groups):
        params = [np.ones(10, np.float32) for _ in range(count)]
        grads = [np.ones(10, np.float32) for _ in range(count)]
        optimizer = dl.SGD([{"params": params[i::groups]} for i in range(groups)], momentum=0.9)
        times = []
        for _ in range(20):
            start = time.perf_counter()
            optimizer.step(grads)
            times.append(time.perf_counter() - start)
        return min(times)

    assert best(1000, 2) < 4 * best(1000, 1)
    assert best(4000, 2) < 12 * best(1000, 2)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", [dl.SGD, dl.Adam, Slow])
def test_a_gradient_that_is_another_parameter_is_refused(kind, grouped):
    block = np.ones(8)
    a, b, c = np.ones(4), np.ones(4), block[:4]
    params = [{"params": a}, {"params": [b, c]}] if grouped else [a, b, c]
    for grads, message in (
        ([b, np.ones(4), np.ones(4)], r"grads\[0\] shares memory with params\[1\]"),
        ([np.ones(4), np.ones(4), a], r"grads\[2\] shares memory with params\[0\]"),
        ([np.ones(4), block[2:6], np.ones(4)], r"grads\[1\] shares memory with params\[2\]"),
        ([a, np.ones(4), np.ones(4)], r"grads\[0\] shares memory with its parameter"),
    ):
        with pytest.raises(ValueError, match=message):
            kind(params).step(grads)
        assert np.all(a == 1)
        assert np.all(b == 1)
        assert np.all(block == 1)
    # That of a parameter which waits is a gradient as any other.
    kind(params).step([b, None, np.ones(4)])
    assert np.all(b == 1)
    assert not np.any(a == 1)


@pytest.mark.parametrize("grouped", [False, True])
@each_kind
def test_gradients_between_the_parameters_in_memory(kind, options, grouped):
    block = RNG.standard_normal((20, 6))
    plain = block.copy()
    columns = [block[:, i] for i in range(3)]
    grads = [block[:, i] for i in range(3, 6)]
    twins = [plain[:, i].copy() for i in range(3)]
    optimizer = kind([{"params": c} for c in columns] if grouped else columns, **options)
    twin = kind(twins, **options)
    for _ in range(3):
        optimizer.step(grads)
        twin.step([plain[:, i].copy() for i in range(3, 6)])
    np.testing.assert_array_equal(block[:, :3], np.stack(twins, 1))
    np.testing.assert_array_equal(block[:, 3:], plain[:, 3:])


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("kind", [dl.SGD, dl.Adam, Slow])
def test_gradients_of_other_libraries(kind, grouped):
    shapes = (3,), (2, 2)
    params, twins, grads = draw(*shapes), [], draw(*shapes)
    twins = [p.copy() for p in params]
    make = (lambda ps: [{"params": p} for p in ps]) if grouped else list
    kind(make(params)).step([Tensor(g) for g in grads])
    kind(make(twins)).step(tuple(grads))
    for p, q in zip(params, twins, strict=True):
        np.testing.assert_array_equal(p, q)


# ---- state that decays


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@each_kind
def test_means_that_decay_end_at_zero(kind, options, dtype):
    tiny = np.finfo(dtype).tiny
    p = np.ones(5, dtype)
    optimizer = kind([p], **options)
    optimizer.step([np.full(5, 1e3 * tiny**0.5, dtype)])
    for _ in range(8000 if dtype == np.float64 else 1200):
        optimizer.step([np.zeros(5, dtype)])
    for name, array in optimizer.state_dict()["state"].get(0, {}).items():
        assert name == "step" or np.all((array == 0) | (np.abs(array) >= tiny))


def test_a_step_leaves_the_processors_mode_as_it_was():
    smallest = np.float32(1e-45)
    dl.SGD([np.ones(100_000, np.float32)], momentum=0.9).step([np.ones(100_000, np.float32)])
    assert smallest * np.float32(1) > 0


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW"])
def test_the_reference_takes_the_same_steps(name):
    params = draw((4,), (2, 3))
    twins = [p.copy() for p in params]
    ours, plain = getattr(dl, name)(params, 0.1), getattr(reference, name)(twins, 0.1)
    for _ in range(5):
        grads = draw((4,), (2, 3))
        ours.step(grads)
        plain.step(grads)
    for p, q in zip(params, twins, strict=True):
        np.testing.assert_allclose(p, q, rtol=1e-12)
