"""Optimizers beyond their updates (which test_parity and test_edges compare): state, options, errors."""

import numpy as np
import pytest

import dlcore as dl

RNG = np.random.default_rng(0)
MAKERS = {
    "SGD": lambda p: dl.SGD(p, lr=0.1),
    "SGD-momentum": lambda p: dl.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "Adam": lambda p: dl.Adam(p, lr=0.1, weight_decay=0.01),
    "Adam-amsgrad": lambda p: dl.Adam(p, lr=0.1, amsgrad=True),
    "AdamW": lambda p: dl.AdamW(p, lr=0.1, l1=1e-3),
}
each_maker = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS.keys())


def parameters():
    return [np.ones((3, 4)), np.ones(5, np.float32), np.ones((2, 6))[:, ::2]]


def gradients(params):
    return [RNG.standard_normal(p.shape).astype(p.dtype) for p in params]


def assert_equal_lists(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@each_maker
def test_a_restored_state_goes_on_with_the_same_bits(make):
    params = parameters()
    optimizer = make(params)
    for _ in range(3):
        optimizer.step(gradients(params))
    state, copies = optimizer.state_dict(), [p.copy() for p in params]
    restored = make(copies)
    restored.lr = 77.0
    restored.load_state_dict(state)
    assert restored.lr == optimizer.lr
    for _ in range(3):
        grads = gradients(params)
        optimizer.step(grads)
        restored.step(grads)
    assert_equal_lists(params, copies)


class Tensor:
    """What NumPy reads without a copy."""

    def __init__(self, array):
        self.array = np.asarray(array)

    def __array__(self, dtype=None, copy=None):
        return self.array

    def __float__(self):
        return float(self.array)


def torch_groups(count, **options):
    """Return the groups of a state dict as a later PyTorch writes them."""
    more = {"foreach": None, "capturable": False, "differentiable": False, "fused": True}
    return [{**options, **more, "new_and_off": None, "params": list(range(count))}]


@pytest.mark.parametrize("wrap", [np.asarray, Tensor])
def test_a_state_of_pytorch_goes_on(wrap):
    """Its steps are tensors of floats, and it knows nothing of l1."""
    params, copies = parameters(), parameters()
    adam, other = dl.Adam(params, lr=0.1), dl.Adam(copies, lr=7.0, l1=0.0)
    for _ in range(3):
        adam.step(gradients(params))
    state = {
        i: {name: wrap(np.float32(v) if name == "step" else v) for name, v in s.items()}
        for i, s in adam.state_dict()["state"].items()
    }
    groups = torch_groups(
        3, lr=0.1, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, maximize=False
    )
    other.load_state_dict({"state": state, "param_groups": groups})
    for p, q in zip(params, copies, strict=True):
        q[...] = p
    grads = gradients(params)
    adam.step(grads)
    other.step(grads)
    assert_equal_lists(params, copies)
    assert repr(other.state_dict()) == repr(adam.state_dict())


def test_parameters_without_state_begin_anew_and_counts_are_their_own():
    params = [np.zeros(2) for _ in range(4)]
    alone = [np.zeros(2) for _ in range(4)]
    adam = dl.Adam(params, lr=0.1, betas=(0.5, 0.5))
    moments = {"exp_avg": np.full(2, 0.5), "exp_avg_sq": np.full(2, 2.0)}
    saved = adam.state_dict() | {
        "state": {0: {"step": 3, **moments}, 2: {"step": 9.0, **moments}, 3: {}}
    }
    adam.load_state_dict(saved)
    adam.step([np.ones(2)] * 4)
    for i, p in enumerate(alone):
        one = dl.Adam([p], lr=0.1, betas=(0.5, 0.5))
        own = saved["state"].get(i, {})
        one.load_state_dict(one.state_dict() | {"state": {0: own} if own else {}})
        one.step([np.ones(2)])
    assert_equal_lists(params, alone)
    assert [s["step"] for s in adam.state_dict()["state"].values()] == [4, 1, 10, 1]


def test_a_momentum_buffer_that_is_none_begins_anew():
    p, q = np.zeros(2), np.zeros(2)
    sgd, fresh = (dl.SGD([a], lr=1.0, momentum=0.5, dampening=0.5) for a in (p, q))
    sgd.load_state_dict(sgd.state_dict() | {"state": {0: {"momentum_buffer": None}}})
    for one in (sgd, fresh):
        one.step([np.ones(2)])
    assert_equal_lists([p], [q])


def test_a_checkpoint_from_before_an_option_takes_its_default():
    adam = dl.Adam([np.ones(2)], lr=0.5, l1=0.25)
    saved = adam.state_dict()
    for name in ("l1", "decoupled_weight_decay", "maximize", "amsgrad"):
        del saved["param_groups"][0][name]
    other = dl.Adam([np.ones(2)], l1=0.125)
    other.l1 = 1.0
    other.load_state_dict(saved)
    assert (other.lr, other.l1, other.amsgrad) == (0.5, 0.125, False)


def test_numbers_of_parameters_are_names_alone():
    """As in PyTorch: they tell the state of the parameters apart, by their order."""
    a, b = np.ones(2), np.ones(3)
    adam = dl.Adam([a, b])
    adam.step([np.ones(2), np.ones(3)])
    saved = adam.state_dict()
    renamed = {
        "state": {10: saved["state"][0], 7: saved["state"][1]},
        "param_groups": [saved["param_groups"][0] | {"params": [10, 7]}],
    }
    other = dl.Adam([np.ones(2), np.ones(3)])
    other.load_state_dict(renamed)
    assert repr(other.state_dict()) == repr(saved)


@each_maker
def test_the_state_is_a_copy(make):
    params = parameters()
    optimizer = make(params)
    optimizer.step(gradients(params))
    before = optimizer.state_dict()
    kept = {i: {k: np.copy(v) for k, v in s.items()} for i, s in before["state"].items()}
    optimizer.step(gradients(params))
    for i, s in before["state"].items():
        for name, value in s.items():
            np.testing.assert_array_equal(value, kept[i][name])


def test_state_has_pytorch_names():
    params = parameters()
    for make, names in (
        (MAKERS["SGD-momentum"], {"momentum_buffer"}),
        (MAKERS["Adam"], {"step", "exp_avg", "exp_avg_sq"}),
        (MAKERS["Adam-amsgrad"], {"step", "exp_avg", "exp_avg_sq", "max_exp_avg_sq"}),
    ):
        optimizer = make(params)
        optimizer.step(gradients(params))
        state = optimizer.state_dict()
        assert set(state["state"]) == {0, 1, 2}
        assert all(set(s) == names for s in state["state"].values())
        assert state["param_groups"][0]["params"] == [0, 1, 2]
        assert state["param_groups"][0]["lr"] == 0.1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda s: s["param_groups"][0].update(params=[0]), ValueError, r"groups of \[3\]"),
        (lambda s: s["param_groups"][0].update(lr=-1.0), ValueError, "lr must be at least 0"),
        (lambda s: s["state"].update({3: s["state"][1]}), ValueError, r"param_groups, \[0, 1, 2\]"),
        (lambda s: s["state"].update({1: [1]}), TypeError, r"state\[1\] must be a dict"),
        (lambda s: s.pop("state"), ValueError, "must hold 'state' and 'param_groups', got"),
        (lambda s: s["state"][0].update(step=-1), ValueError, r"\['step'\] must be a whole number"),
        (
            lambda s: s["state"][0].update(step=1.5),
            ValueError,
            r"must be a whole number .* got 1.5",
        ),
        (lambda s: s["state"][0].update(step=np.nan), ValueError, "must be a whole number"),
        (lambda s: s["state"][0].update(step="3"), TypeError, r"\['step'\] must be a number"),
        (
            lambda s: s["state"][0].update(step=np.ones(2)),
            TypeError,
            r"\['step'\] must be a number",
        ),
        (lambda s: s["state"][0]["exp_avg"].fill(np.nan), ValueError, "must not hold NaN"),
        (
            lambda s: s["state"][2]["exp_avg_sq"].fill(-1e-9),
            ValueError,
            "squares, which are not neg",
        ),
        (lambda s: s["state"][2].update(square_avg=1), ValueError, r"state\[2\] must hold"),
        (lambda s: s["state"][2].update(exp_avg=[1.0]), TypeError, "must be an array of float64"),
        (lambda s: s["param_groups"][0].update(alpha=0.99), ValueError, "none of, 'alpha'; there"),
        (lambda s: s["param_groups"][0].update(betas=(0.9, np.nan)), ValueError, "betas must be"),
        (lambda s: s["param_groups"][0].update(amsgrad="no"), TypeError, "amsgrad must be True"),
        (lambda s: s["state"][2].pop("exp_avg"), ValueError, r"state\[2\] must hold"),
        (
            lambda s: s["state"][0].update(exp_avg=np.ones(3)),
            ValueError,
            r"state\[0\]\['exp_avg'\] must have the shape \(3, 4\), got \(3,\)",
        ),
        (
            lambda s: s["state"][1].update(exp_avg=np.ones(5)),
            TypeError,
            r"state\[1\]\['exp_avg'\] must be an array of float32, got float64",
        ),
    ],
)
def test_a_state_that_does_not_fit_changes_nothing(change, error, message):
    params = parameters()
    optimizer = dl.Adam(params, lr=0.1)
    optimizer.step(gradients(params))
    wrong = optimizer.state_dict()
    wrong["param_groups"][0]["lr"] = 0.7
    change(wrong)
    before = repr(optimizer.state_dict())
    with pytest.raises(error, match=message):
        optimizer.load_state_dict(wrong)
    assert repr(optimizer.state_dict()) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: dl.SGD(p, lr=-1), "SGD: lr must be at least 0, got -1"),
        (lambda p: dl.SGD(p, lr=np.nan), "SGD: lr must be at least 0, got nan"),
        (lambda p: dl.SGD(p, momentum=-0.1), "SGD: momentum must be at least 0"),
        (lambda p: dl.SGD(p, nesterov=True), "SGD: nesterov needs a momentum"),
        (lambda p: dl.SGD(p, momentum=0.9, dampening=0.1, nesterov=True), "no dampening"),
        (lambda p: dl.SGD(p, weight_decay=-1), "SGD: weight_decay must be at least 0"),
        (lambda p: dl.Adam(p, betas=(0.9, 1.0)), "Adam: betas must be at least 0 and less than 1"),
        (lambda p: dl.Adam(p, betas=(0.9,)), "Adam: betas must be two numbers"),
        (lambda p: dl.Adam(p, eps=-1), "Adam: eps must be at least 0"),
        (lambda p: dl.AdamW(p, l1=-1), "AdamW: l1 must be at least 0"),
        (lambda _: dl.AdamW([]), "AdamW: params is empty"),
        (lambda p: dl.SGD(p, lr=np.inf), "SGD: lr must be a finite number, got inf"),
        (lambda p: dl.SGD(p, momentum=0.9, dampening=np.nan), "dampening must be a finite number"),
        (lambda p: dl.Adam(p, betas=0.9), "Adam: betas must be two numbers, got 0.9"),
        (lambda p: dl.Adam(p, betas="ab"), "Adam: betas must be two numbers, got 'ab'"),
        (lambda p: dl.Adam(p, betas=(np.nan, 0.9)), r"Adam: betas must be at least 0 .* got \(nan"),
        (lambda p: dl.Adam(p, eps=np.nan), "Adam: eps must be at least 0, got nan"),
        (lambda p: dl.AdamW([{"params": p, "decoupled_weight_decay": False}]), "must be True"),
    ],
)
def test_options_out_of_range(make, message):
    with pytest.raises(ValueError, match=message):
        make(parameters())


@pytest.mark.parametrize("value", ["0.1", None, [0.1], np.ones(1), 1j])
@pytest.mark.parametrize("name", ["lr", "momentum", "dampening", "weight_decay", "l1"])
def test_options_that_are_no_numbers(name, value):
    with pytest.raises(TypeError, match=f"SGD: {name} must be a number, got"):
        dl.SGD(parameters(), **{name: value})


@pytest.mark.parametrize("value", ["False", None, 2, 0.0])
@pytest.mark.parametrize("name", ["amsgrad", "maximize", "decoupled_weight_decay"])
def test_options_that_are_not_on_or_off(name, value):
    with pytest.raises(TypeError, match=f"Adam: {name} must be True or False, got"):
        dl.Adam(parameters(), **{name: value})


def test_parameters_that_do_not_fit():
    block = np.zeros(10)
    read_only = np.zeros(3)
    read_only.flags.writeable = False
    for params, error, message in (
        ([np.zeros(3, int)], TypeError, r"params\[0\] must be a float32 or float64 array, got int"),
        (
            [np.zeros(3, ">f8")],
            TypeError,
            r"params\[0\] must be a float32 or float64 array, got >f8",
        ),
        ([[1.0, 2.0]], TypeError, r"params\[0\] must be an array, got list"),
        ([np.zeros(2), read_only], ValueError, r"params\[1\] is read-only"),
        ([block[:5], block[4:]], ValueError, r"params\[0\] and params\[1\] share memory"),
        ([block[2:4], block, np.zeros(3)], ValueError, r"params\[1\] and params\[0\] share memory"),
        ([block[:9], block[:1], block[7:]], ValueError, "share memory"),
    ):
        with pytest.raises(error, match=message):
            dl.SGD(params)
    dl.SGD([block[::2], block[1::2]])  # side by side, not over each other


@each_maker
@pytest.mark.parametrize(
    ("spoil", "error", "message"),
    [
        (lambda g: g[:2], ValueError, "grads must hold one array for each parameter, 3, got 2"),
        (
            lambda g: [*g[:2], g[2][:1]],
            ValueError,
            r"grads\[2\] must have the shape of its parameter",
        ),
        (lambda g: [*g[:2], g[2].astype("f")], TypeError, r"grads\[2\] must have the dtype of"),
        (lambda g: [*g[:2], g[2].tolist()], TypeError, r"grads\[2\] must be an array"),
    ],
)
def test_a_step_with_wrong_gradients_changes_nothing(make, spoil, error, message):
    params, twins = parameters(), parameters()
    optimizer, twin = make(params), make(twins)
    grads = gradients(params)
    with pytest.raises(error, match=message):
        optimizer.step(spoil(grads))
    assert_equal_lists(params, twins)
    # Nor did it count as a step.
    optimizer.step(grads)
    twin.step(grads)
    assert_equal_lists(params, twins)


@each_maker
def test_gradients_must_not_be_the_parameters(make):
    params = parameters()
    with pytest.raises(ValueError, match=r"grads\[0\] shares memory with its parameter"):
        make(params).step(params)


def test_l1_makes_parameters_exactly_zero():
    p = np.array([0.5, -0.5, 0.01, -0.01, 0.0, np.nan])
    dl.SGD([p], lr=0.1, l1=0.2).step([np.zeros(6)])
    np.testing.assert_allclose(p, [0.48, -0.48, 0, 0, 0, np.nan], rtol=1e-15)
    assert np.count_nonzero(p[2:5]) == 0


def test_lr_is_settable_and_checked():
    p = np.ones(2)
    optimizer = dl.SGD([p], lr=0.5)
    optimizer.lr = 0.25
    optimizer.step([np.ones(2)])
    assert p.tolist() == [0.75, 0.75]
    with pytest.raises(ValueError, match="SGD: lr must be at least 0, got -1"):
        optimizer.lr = -1
    assert optimizer.lr == 0.25
    assert "SGD(1 arrays, lr=0.25, momentum=0.0" in repr(optimizer)


def test_momentum_and_adam_leave_a_saddle_sooner_than_gradient_descent():
    """The surface x^2 - y^2 / 2 + y^4 / 4, from beside its saddle at 0 to a minimum at y = +-1."""

    def steps_to_leave(make):
        p = np.array([1.0, 1e-4])
        optimizer = make(p)
        for step in range(500):
            x, y = p
            if x**2 - y**2 / 2 + y**4 / 4 < -0.2:
                return step
            optimizer.step([np.array([2 * x, y**3 - y])])
        return None

    plain = steps_to_leave(lambda p: dl.SGD([p], 0.1))
    momentum = steps_to_leave(lambda p: dl.SGD([p], 0.1, momentum=0.9))
    nesterov = steps_to_leave(lambda p: dl.SGD([p], 0.1, momentum=0.9, nesterov=True))
    adam = steps_to_leave(lambda p: dl.Adam([p], 0.1))
    # Along y the gradient grows by a factor of 1.1 a step: log(0.66 / 1e-4) / log(1.1) = 92.
    assert 85 < plain < 100
    assert max(momentum, nesterov, adam) < plain / 2
