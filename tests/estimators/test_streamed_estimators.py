"""Calls of `partial_fit` that bring rows alone go on with what the last one kept, to the same bits."""

import copy
import pickle
import warnings

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")

from sklearn.base import clone

from dlcore.sklearn import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = {
    "two classes": (MLPClassifier, np.array([0, 1])),
    "three classes": (MLPClassifier, np.array([1, 4, 7])),
    "names": (MLPClassifier, np.array(["a", "bb", "ccc"])),
    "numbers": (MLPRegressor, None),
}
SETTINGS = [
    {},
    {"alpha": 0.0},
    {"shuffle": False},
    {"random_state": None},
    {"random_state": np.random.RandomState(3)},
    {"dropout": 0.3},
    {"hidden_layer_sizes": [6, 5], "dropout": [0.3, 0.0]},
    {"batch_norm": True},
    {"layer_norm": True, "clip_grad_norm": 0.1},
    {"solver": "sgd", "learning_rate": "invscaling"},
    {"n_iter_no_change": 1, "solver": "sgd", "learning_rate": "adaptive", "tol": 1e3},
    {"solver": "adamw", "l1": 0.01},
    {"batch_size": 8},
]
LEARNED = ("loss_", "loss_curve_", "n_iter_", "t_", "best_loss_", "_no_improvement_count")


def rows(kind, n=8, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, 5)).astype(dtype)
    classes = KINDS[kind][1]
    return x, x @ np.arange(5.0) if classes is None else classes[rng.integers(0, len(classes), n)]


def made(kind, **params):
    """Return an estimator that has seen its first rows, all of whose classes it knows."""
    estimator, classes = KINDS[kind]
    own = {"hidden_layer_sizes": (6, 5), "random_state": 0, **copy.deepcopy(params)}
    named = {} if classes is None else {"classes": classes}
    return estimator(**own).partial_fit(*rows(kind), **named)


def checked(estimator, x, y):
    """Learn by the way that checks everything."""
    vars(estimator).pop("_stream", None)
    return estimator.partial_fit(x, y)


def streamed(estimator, x, y):
    """Learn by the way that goes on with what was kept."""
    stream = vars(estimator)["_stream"]
    assert stream.learn(estimator, x, y, None)
    return estimator


def assert_same(one, other):
    np.testing.assert_array_equal(one.model_.flat, other.model_.flat)
    assert one.model_.state_dict().keys() == other.model_.state_dict().keys()
    for name, value in one.model_.state_dict().items():
        np.testing.assert_array_equal(value, other.model_.state_dict()[name])
    for name in LEARNED:
        assert getattr(one, name) == getattr(other, name)
    assert one.history_ == other.history_
    assert vars(one.history_) == vars(other.history_)
    assert one._optimizer.learning_rate == other._optimizer.learning_rate


@pytest.mark.parametrize("params", SETTINGS, ids=[" ".join(p) for p in SETTINGS])
@pytest.mark.parametrize("kind", KINDS)
def test_same_bits(kind, params):
    np.random.seed(0)  # noqa: NPY002 - random_state=None takes these
    one = made(kind, **params)
    np.random.seed(0)  # noqa: NPY002 - random_state=None takes these
    other = made(kind, **params)
    for call in range(6):
        x, y = rows(kind, 8 if "batch_size" in params else (8, 8, 1, 3, 3, 8)[call], call)
        np.random.seed(call)  # noqa: NPY002 - random_state=None takes these
        streamed(one, x, y)
        np.random.seed(call)  # noqa: NPY002 - random_state=None takes these
        checked(other, x, y)
        assert_same(one, other)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kinds_of_labels(dtype):
    x, y = rows("three classes", dtype=dtype)
    base = MLPClassifier((4,), random_state=0).partial_fit(x, y, classes=[1, 4, 7])
    for labels in (y.tolist(), y.astype(np.int8), y.astype(np.uint8), y[::1]):
        one, other = copy.deepcopy(base).partial_fit(x, y), copy.deepcopy(base).partial_fit(x, y)
        assert_same(streamed(one, x, labels), checked(other, x, y))


def test_several_columns_of_numbers():
    x, y = rows("numbers")
    y = np.stack([y, -y], axis=1)
    one, other = (MLPRegressor(hidden_layer_sizes=(4,), random_state=0) for _ in range(2))
    one.partial_fit(x, y), other.partial_fit(x, y)
    assert_same(streamed(one, x, y), checked(other, x, y))


CHANGES = {
    "alpha": lambda est: est.set_params(alpha=0.5),
    "rate": lambda est: setattr(est, "learning_rate_init", 0.1),
    "optimizer's rate": lambda est: setattr(est._optimizer, "learning_rate", 0.1),
    "optimizer's betas": lambda est: setattr(est._optimizer, "betas", (0.5, 0.9)),
    "solver": lambda est: est.set_params(solver="sgd"),
    "activation": lambda est: est.set_params(activation="tanh"),
    "dropout": lambda est: est.set_params(dropout=0.5),
    "shuffle": lambda est: est.set_params(shuffle=False),
    "seed": lambda est: est.set_params(random_state=9),
    "schedule": lambda est: est.set_params(learning_rate=lambda epoch: 0.1 / (1 + epoch)),
    "coefs": lambda est: setattr(est, "coefs_", [2 * coef for coef in est.coefs_]),
    "a coef": lambda est: est.coefs_.__setitem__(0, 2 * est.coefs_[0]),
    "in a coef": lambda est: est.coefs_[0].__imul__(2),
    "an intercept": lambda est: est.intercepts_.__setitem__(0, est.intercepts_[0] + 1),
    "freezing": lambda est: est.model_.freeze("0"),
    "max_norm": lambda est: setattr(est.model_[0], "max_norm", 0.1),
    "network": lambda est: setattr(est, "model_", copy.deepcopy(est.model_)),
    "read-only": lambda est: setattr(est.model_.flat.flags, "writeable", False),
    "early stopping off": lambda est: est.set_params(early_stopping=False, tol=0.5),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", ["two classes", "numbers"])
def test_changes_act(kind, change):
    one, other = made(kind), made(kind)
    x, y = rows(kind, 4, 1)
    for est in (one, other):
        est.partial_fit(x, y)
        CHANGES[change](est)
    for _ in range(3):
        assert_same(one.partial_fit(x, y), checked(other, x, y))


def test_changes_within_a_list_act():
    x, y = rows("two classes")
    est = made("two classes", hidden_layer_sizes=[6, 5], dropout=[0.1, 0.1]).partial_fit(x, y)
    est.dropout[1] = 0.5
    est.partial_fit(x, y)
    assert est.model_[-2].p == 0.5
    est.hidden_layer_sizes.append(3)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        est.partial_fit(x, y)


def test_what_was_refused_before_is_refused():
    est = made("two classes")
    x, y = rows("two classes")
    for change, match in (
        ({"early_stopping": True}, "early_stopping"),
        ({"class_weight": "balanced"}, "balanced"),
        ({"hidden_layer_sizes": (3,)}, "hidden_layer_sizes"),
    ):
        before = est.get_params()
        est.set_params(**change)
        with pytest.raises(ValueError, match=match):
            est.partial_fit(x, y)
        est.set_params(**before)
        est.partial_fit(x, y)
    est.set_params(solver="lbfgs")
    with pytest.raises(AttributeError, match="partial_fit"):
        est.partial_fit(x, y)


def bad_calls():
    x, y = rows("two classes")
    nan = x.copy()
    nan[1, 2] = np.nan
    yield "NaN", nan, y, {}
    yield "inf", np.where(np.isnan(nan), np.inf, nan), y, {}
    yield "width", x[:, :4], y, {}
    yield "dimensions", x[0], y, {}
    yield "no rows", x[:0], y[:0], {}
    yield "lengths", x, y[:-1], {}
    yield "class", x, y + 1, {}
    yield "names", x, y.astype(str), {}
    yield "ragged", x, [[0], [0, 1]], {}
    yield "classes", x, y, {"classes": [0, 2]}
    yield "mask", np.ma.masked_array(x), y, {}


@pytest.mark.parametrize(
    ("x", "y", "options"), [c[1:] for c in bad_calls()], ids=[c[0] for c in bad_calls()]
)
def test_bad_calls_raise_alike_and_change_nothing(x, y, options):
    good = rows("two classes")
    est = made("two classes").partial_fit(*good)
    before = est.model_.flat.copy()
    other = copy.deepcopy(est)
    with pytest.raises((TypeError, ValueError)) as streaming:
        est.partial_fit(x, y, **options)
    with pytest.raises((TypeError, ValueError)) as checking:
        other.partial_fit(x, y, **options)
    assert str(streaming.value) == str(checking.value)
    np.testing.assert_array_equal(est.model_.flat, before)
    assert est.n_iter_ == 1
    assert_same(streamed(est, *good), checked(other, *good))


def test_values_whose_squares_overflow_are_finite():
    with np.errstate(all="raise"):
        one, other = made("two classes"), made("two classes")
        x, y = rows("two classes")
        x[0, 0] = 1e30
        assert_same(one.partial_fit(x, y), checked(other, x, y))


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, copy.copy, lambda e: pickle.loads(pickle.dumps(e))]
)
def test_copies_are_bound_to_their_own(copied):
    x, y = rows("two classes")
    est = made("two classes").partial_fit(x, y)
    other = copied(est)
    assert "_stream" in vars(est)
    assert "_stream" not in vars(other)
    if copied is not copy.copy:  # which shares the network
        before = est.model_.flat.copy()
        other.partial_fit(x, y).partial_fit(x, y)
        np.testing.assert_array_equal(est.model_.flat, before)
        assert_same(est.partial_fit(x, y).partial_fit(x, y), other)
    assert not hasattr(clone(est), "_stream")


def test_a_fit_begins_anew():
    x, y = rows("two classes", 40)
    est = made("two classes", max_iter=2).partial_fit(x, y)
    est.fit(x, y)
    assert "_stream" not in vars(est)
    other = clone(est).fit(x, y)
    np.testing.assert_array_equal(est.model_.flat, other.model_.flat)


def test_divergence():
    est = made("numbers").partial_fit(*rows("numbers"))
    est.coefs_[0][0, 0] = np.nan
    with pytest.raises(ValueError, match="non-finite parameter weights"):
        est.partial_fit(*rows("numbers"))


def test_batch_size_is_warned_of_in_each_call():
    x, y = rows("two classes")
    est = made("two classes", batch_size=8).partial_fit(x, y)
    for _ in range(2):
        with pytest.warns(UserWarning, match="clipped"):
            est.partial_fit(x[:3], y[:3])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        est.partial_fit(x, y)


def test_large_targets_are_warned_of_in_each_call():
    x, y = rows("numbers")
    est = MLPRegressor(hidden_layer_sizes=(4,), random_state=0).partial_fit(x, y)
    est.partial_fit(x, y)
    for _ in range(2):
        with pytest.warns(UserWarning, match="rounded to multiples"):
            est.partial_fit(x, y + 1e9)


def test_classes_may_be_given_each_time():
    x, y = rows("names")
    est = made("names").partial_fit(x, y)
    stream = est._stream
    for classes in (KINDS["names"][1], KINDS["names"][1].tolist()):
        est.partial_fit(x, y, classes=classes)
        assert stream._are_known(classes)
    assert est._stream is stream


def test_columns_with_names_are_checked():
    pandas = pytest.importorskip("pandas")
    x, y = rows("two classes")
    frame = pandas.DataFrame(x, columns=list("abcde"))
    est = MLPClassifier((4,), random_state=0).partial_fit(frame, y, classes=[0, 1])
    est.partial_fit(frame, y)
    with pytest.warns(UserWarning, match="feature names"):
        est.partial_fit(x, y)


def test_warnings_name_the_line_of_the_caller():
    x, y = rows("numbers")
    est = MLPRegressor(hidden_layer_sizes=(4,), random_state=0, batch_size=8).partial_fit(x, y)
    calls = [
        (lambda: est.partial_fit(x, y + 1e9), "rounded"),  # with what was kept
        (lambda: checked(est, x, y + 1e9), "rounded"),
        (lambda: est.partial_fit(x[:3], y[:3]), "clipped"),
        (lambda: clone(est).fit(x[:3], y[:3]), "clipped"),
    ]
    for call, match in calls:
        with pytest.warns(UserWarning, match=match) as caught:
            call()
        assert all(warning.filename == __file__ for warning in caught)


def test_another_thread_cannot_learn_meanwhile():
    x, y = rows("two classes")
    est = made("two classes").partial_fit(x, y)
    before = est.model_.flat.copy()
    with est._fitting(goes_on=True), pytest.raises(RuntimeError, match="is being fitted"):
        est.partial_fit(x, y)
    np.testing.assert_array_equal(est.model_.flat, before)
    est.partial_fit(x, y)
