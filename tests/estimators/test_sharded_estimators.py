"""Perceptrons of ranks that have rows of their own, or learn apart."""

import numpy as np
import pytest
import scipy.sparse

import dlcore as dl
from dlcore.sklearn import MLPClassifier, MLPRegressor
from support.ranks import on_ranks
from support.sharded_fits import returned

RNG = np.random.default_rng(3)
RANKS, ROWS, BATCH = 3, 60, 30  # of each rank; of all ranks
X = RNG.normal(size=(RANKS * ROWS, 6))
SCORES = X[:, :3] + 0.3 * RNG.normal(size=(len(X), 3))
LABELS = np.array(["a", "b", "c"])[SCORES.argmax(1)]
VALUES = SCORES[:, :2]
WEIGHT = RNG.uniform(0.5, 2, len(X))
TARGETS = {
    "three": LABELS,
    "two": (SCORES[:, 0] > 0).astype(int),
    "indicators": (SCORES > 0).astype(int),
    "columns": np.stack([SCORES.argmax(1), SCORES.argmin(1)], axis=1),
    "values": VALUES,
    "counts": np.abs(SCORES[:, 0]).round(),
}

pytestmark = pytest.mark.filterwarnings("ignore:Stochastic Optimizer")


def rows_of(rank):
    return slice(rank * ROWS, (rank + 1) * ROWS)


# The rows of all ranks in the order in which their batches have them.
ORDER = np.arange(len(X)).reshape(RANKS, -1, BATCH // RANKS).swapaxes(0, 1).ravel()


def estimator(targets, comm=None, **options):
    kind = MLPRegressor if targets in ("values", "counts") else MLPClassifier
    options = {
        "hidden_layer_sizes": (8,),
        "activation": "tanh",
        "max_iter": 3,
        "batch_size": BATCH,
        "shuffle": False,
        "random_state": 0,
    } | options
    return kind(comm=comm, **options)


def sharded(targets, *, own=rows_of, x=X, weight=None, **options):
    """Return the estimators of all ranks, each fitted on rows of its own."""

    def fit(comm):
        rows = own(comm.rank)
        return estimator(targets, comm, sharded=True, **options).fit(
            x[rows], TARGETS[targets][rows], None if weight is None else weight[rows]
        )

    first, *others = returned(on_ranks(RANKS, fit))
    for other in others:
        assert other.model_.flat.tobytes() == first.model_.flat.tobytes()
        assert other.loss_curve_ == first.loss_curve_
        assert other.validation_scores_ == first.validation_scores_
        assert other.validation_loss_curve_ == first.validation_loss_curve_
        assert other.t_ == first.t_
    return [first, *others]


def assert_same_fit(own, alone, tolerance=1e-9):
    np.testing.assert_allclose(own.model_.flat, alone.model_.flat, rtol=tolerance, atol=1e-10)
    np.testing.assert_allclose(own.loss_curve_, alone.loss_curve_, rtol=tolerance)
    assert own.t_ == alone.t_


@pytest.mark.parametrize(
    ("targets", "options"),
    [
        ("three", {}),
        ("three", {"class_weight": "balanced"}),
        ("three", {"class_weight": {"a": 2.0, "b": 1.0, "c": 0.5}, "label_smoothing": 0.1}),
        ("two", {"alpha": 3.0, "solver": "sgd"}),
        ("two", {"alpha": 3.0, "solver": "adamw", "clip_grad_norm": 0.05}),
        ("indicators", {"class_weight": "balanced"}),
        ("columns", {"class_weight": "balanced", "alpha": 1.0}),
        ("values", {"alpha": 1.0, "l1": 0.01}),
        ("counts", {"loss": "poisson"}),
        ("counts", {"loss": "quantile", "quantile": [0.1, 0.9]}),
    ],
)
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["", "weighted"])
def test_each_update_is_that_of_the_rows_of_all_ranks(targets, options, weight):
    own = sharded(targets, weight=weight, **options)
    alone = estimator(targets, **options).fit(
        X[ORDER], TARGETS[targets][ORDER], None if weight is None else weight[ORDER]
    )
    assert_same_fit(own[0], alone)
    if hasattr(alone, "classes_"):
        np.testing.assert_equal(own[2].classes_, alone.classes_)
        np.testing.assert_array_equal(own[1].predict(X), alone.predict(X))
    else:
        np.testing.assert_allclose(own[1].predict(X), alone.predict(X), rtol=1e-8)


def test_sparse_rows():
    x = scipy.sparse.csr_matrix(np.where(np.abs(X) > 1, X, 0))
    own = sharded("three", x=x)
    assert_same_fit(own[0], estimator("three").fit(x[ORDER], LABELS[ORDER]))


def test_a_rank_may_lack_classes_and_have_fewer_rows():
    parts = [np.flatnonzero(LABELS == "a")[:7], np.flatnonzero(LABELS != "a"), np.arange(1)]
    options = {"own": lambda rank: parts[rank], "max_iter": 40, "learning_rate_init": 0.02}
    own = sharded("three", class_weight="balanced", **options)
    assert own[0].classes_.tolist() == ["a", "b", "c"]
    assert own[0].score(X, LABELS) > 0.8
    weights = dict(zip(own[0].classes_, [1.0] * 3, strict=True))
    other = sharded("three", class_weight=weights, **options)
    assert not np.array_equal(other[0].model_.flat, own[0].model_.flat)


def test_partial_fit_goes_on_batch_by_batch():
    parts = [slice(0, 50), slice(50, 53), slice(53, 180)]
    steps = [slice(0, 3), slice(1, 2), slice(0, 1)]

    def fit(comm):
        own = estimator("three", comm, sharded=True, batch_size="auto", alpha=1.0)
        x, y = X[parts[comm.rank]], LABELS[parts[comm.rank]]
        for rows in steps:
            own.partial_fit(x[rows], y[rows], classes=["a", "b", "c"])
        return own

    alone = estimator("three", batch_size="auto", alpha=1.0)
    for rows in steps:
        x, y = (np.concatenate([array[part][rows] for part in parts]) for array in (X, LABELS))
        alone.partial_fit(x, y, classes=["a", "b", "c"])
    own = returned(on_ranks(RANKS, fit))
    assert_same_fit(own[1], alone)


@pytest.mark.parametrize("metric", [None, "loss", "roc_auc_ovr"])
def test_rows_to_validate_on_are_those_of_all_ranks(metric):
    x, y = X[:90], LABELS[:90]
    counts = [0, 20, 21, 90]
    options = {"early_stopping": True, "early_stopping_metric": metric, "max_iter": 6}

    def fit(comm):
        held = slice(counts[comm.rank], counts[comm.rank + 1])
        own = estimator("three", comm, sharded=True, **options)
        rows = rows_of(comm.rank)
        return own.fit(X[rows], LABELS[rows], X_val=x[held], y_val=y[held])

    own = returned(on_ranks(RANKS, fit))
    alone = estimator("three", **options).fit(X[ORDER], LABELS[ORDER], X_val=x, y_val=y)
    for each in own:
        np.testing.assert_allclose(each.validation_scores_, alone.validation_scores_, rtol=1e-9)
        np.testing.assert_allclose(
            each.validation_loss_curve_, alone.validation_loss_curve_, rtol=1e-9
        )
    assert_same_fit(own[0], alone)


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": True, "max_iter": 30, "n_iter_no_change": 2},
        {"batch_norm": True, "dropout": 0.2, "clip_grad_norm": 0.1},
        {"average_every": 2, "batch_norm": True, "dropout": 0.2},
        {"average_every": 2, "early_stopping": True, "alpha": 0.1},
    ],
    ids=lambda given: "-".join(given),
)
@pytest.mark.parametrize("targets", ["three", "two", "values"])
def test_all_ranks_end_alike_whatever_they_draw(targets, options):
    counts = [0, 80, 95, 180]
    own = sharded(
        targets,
        own=lambda rank: slice(counts[rank], counts[rank + 1]),
        shuffle=True,
        **options,
    )
    again = sharded(
        targets,
        own=lambda rank: slice(counts[rank], counts[rank + 1]),
        shuffle=True,
        **options,
    )
    assert own[0].model_.flat.tobytes() == again[0].model_.flat.tobytes()
    assert own[0].model_.state_dict().keys() == own[1].model_.state_dict().keys()
    for name, array in own[0].model_.state_dict().items():
        np.testing.assert_array_equal(array, own[2].model_.state_dict()[name], err_msg=name)
    assert own[0].loss_curve_[-1] < own[0].loss_curve_[0]


@pytest.mark.parametrize("is_sharded", [False, True])
@pytest.mark.parametrize("targets", ["three", "values"])
def test_means_of_single_updates_are_updates_of_the_whole_batch(targets, is_sharded):
    """Of SGD without momentum; the L2 penalty is no heavier in a share of a batch."""
    options = {"solver": "sgd", "momentum": 0.0, "alpha": 5.0, "learning_rate_init": 0.05}
    options |= {"max_iter": 4, "n_iter_no_change": 99}

    def fit(comm):
        rows = rows_of(comm.rank) if is_sharded else ORDER
        own = estimator(targets, comm, sharded=is_sharded, average_every=1, **options)
        return own.fit(X[rows], TARGETS[targets][rows])

    own = returned(on_ranks(RANKS, fit))
    alone = estimator(targets, **options).fit(X[ORDER], TARGETS[targets][ORDER])
    np.testing.assert_allclose(own[0].model_.flat, alone.model_.flat, rtol=1e-9)
    np.testing.assert_allclose(own[0].loss_curve_, alone.loss_curve_, rtol=1e-9)
    assert [each.model_.flat.tobytes() for each in own[1:]] == [own[0].model_.flat.tobytes()] * 2


def test_means_now_and_then_learn_as_well():
    def fit(comm):
        own = estimator("three", comm, average_every=4, max_iter=40, learning_rate_init=0.02)
        return own.fit(X, LABELS)

    own = returned(on_ranks(RANKS, fit))
    assert own[0].score(X, LABELS) > 0.85
    assert len({each.model_.flat.tobytes() for each in own}) == 1


def test_predictions_are_kept_in_the_range_of_all_ranks():
    own = sharded("values", clip_outputs=True)
    for each in own:
        np.testing.assert_array_equal(each._bounds(), (VALUES.min(0), VALUES.max(0)))


def test_the_mean_of_weights_has_running_statistics_of_all_rows():
    def fit(comm):
        own = estimator("three", comm, sharded=True, batch_norm=True)
        own.callbacks = [dl.StochasticWeightAveraging(start=1)]
        return own.fit(X[rows_of(comm.rank)], LABELS[rows_of(comm.rank)])

    own = returned(on_ranks(RANKS, fit))
    norm = own[0].model_[1]
    inputs = X @ own[0].model_[0].weight.T + own[0].model_[0].bias
    np.testing.assert_allclose(norm.running_mean, inputs.mean(0), rtol=1e-9)
    np.testing.assert_array_equal(norm.running_mean, own[2].model_[1].running_mean)


@pytest.mark.parametrize(
    ("change", "options", "text"),
    [
        (lambda x, y: (x.astype(np.float32), y), {}, "dtype of X must be the same on all ranks"),
        (lambda x, y: (x[:, :5], y), {}, "sizes of the layers must be the same on all ranks"),
        (lambda x, y: (scipy.sparse.csr_matrix(x), y), {}, "whether X is sparse must be the same"),
        (lambda x, y: (x, np.arange(len(y)) % 3), {}, "the kind of y must be the same on all"),
        (lambda x, y: (x, np.stack([y, y], 1)), {}, "the columns of y must be the same on all"),
        (lambda x, y: (np.where(x > 0, np.nan, x), y), {}, "rank 1 of 2: .*contains NaN"),
        (lambda x, y: (x[:1], y[:1]), {"early_stopping": True}, "rank 1 of 2: "),
        (lambda x, y: (x, y), {"batch_size": 1}, "leaves some of 2 ranks without a row"),
        (lambda x, y: (x, y), {"average_every": 0}, "'average_every' parameter"),
    ],
)
def test_errors_are_those_of_all_ranks_and_change_nothing(change, options, text):
    def fit(comm):
        x, y = X[rows_of(comm.rank)], LABELS[rows_of(comm.rank)]
        if comm.rank == 1:
            x, y = change(x, y)
        own = estimator("three", comm, **{"sharded": True, "max_iter": 1} | options)
        with pytest.raises(ValueError, match=text):
            own.fit(x, y)
        return "n_features_in_" in vars(own) and options.get("early_stopping") is None

    assert returned(on_ranks(2, fit))[0] in (False, options == {"batch_size": 1})


@pytest.mark.parametrize("options", [{"sharded": True}, {"average_every": 3}])
def test_both_need_a_communicator(options):
    with pytest.raises(ValueError, match="sharded and average_every need comm"):
        estimator("three", **options).fit(X, LABELS)


@pytest.mark.parametrize("options", [{}, {"average_every": 2}])
def test_a_rank_that_diverges_ends_the_fit_on_all(options):
    def fit(comm):
        x = X[rows_of(comm.rank)] * (1e200 if comm.rank == 1 else 1)
        own = estimator("values", comm, sharded=True, activation="relu", **options)
        with pytest.raises(ValueError, match="non-finite parameter weights"):
            own.fit(x, VALUES[rows_of(comm.rank)])
        return True

    assert returned(on_ranks(2, fit)) == [True, True]


def test_only_rank_0_says_how_the_fit_goes(capsys):
    sharded("three", verbose=True, max_iter=2)
    assert capsys.readouterr().out.count("Iteration 1,") == 1
