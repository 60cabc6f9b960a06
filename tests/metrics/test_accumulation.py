"""Metrics of rows that come some at a time: what all rows at once give, in the memory of some."""

import functools
import tracemalloc

import numpy as np
import pytest

import dlcore as dl
from dlcore._common.ranks import Ranks
from dlcore.metrics._accumulation import Measurement, of_loss
from dlcore.metrics._named import as_metrics, metric_named
from support.ranks import on_ranks

RNG = np.random.default_rng(0)
N = 1000
WEIGHT = RNG.uniform(0.1, 3, N)
LABELS = RNG.integers(0, 4, N)
LABELS[:300] = 1  # whole blocks of one class
VALUES = RNG.normal([0, 5, 1e3, -1], size=(N, 4))
OUTPUTS = RNG.normal(size=(N, 4))
IGNORED = np.where(np.arange(N) % 7 == 0, -100, LABELS)
IGNORED[100:200] = -100


def own(y_true, outputs):
    return float(np.median(outputs) + len(y_true))


CLASSES = ["accuracy", "balanced_accuracy", "precision", "recall", "f1", "top_2_accuracy", own]
CASES = {
    "classes": (dl.CrossEntropyLoss(), LABELS, OUTPUTS, CLASSES),
    "ignored": (dl.CrossEntropyLoss(weight=[1, 2, 3, 4]), IGNORED, OUTPUTS, CLASSES),
    "two classes": (dl.CrossEntropyLoss(), LABELS % 2, OUTPUTS[:, :2], CLASSES),
    "probabilities": (dl.CrossEntropyLoss(), np.eye(4)[LABELS], OUTPUTS, CLASSES),
    "labels": (dl.BCEWithLogitsLoss(), (VALUES > 0) * 1.0, OUTPUTS, [*CLASSES[:5], own]),
    "values": (dl.MSELoss(), VALUES, VALUES + OUTPUTS, ["mae", "mse", "rmse", "r2", own]),
    "rates": (dl.PoissonNLLLoss(), np.abs(VALUES), OUTPUTS / 9, ["mae", "mse", "rmse", "r2"]),
    "focal": (dl.FocalLoss(), LABELS, OUTPUTS, CLASSES),
}


def by_blocks(metrics, y, outputs, weight, size):
    measured = Measurement(metrics)
    for i in range(0, len(y), size):
        some = slice(i, i + size)
        measured.add(y[some], outputs[some], None if weight is None else weight[some])
    return measured.values()


@pytest.mark.parametrize("size", [1, 7, 100, N])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("name", CASES)
def test_blocks_give_what_all_rows_give(name, weight, size):
    loss, y, outputs, names = CASES[name]
    metrics = {"loss": of_loss(loss)} | as_metrics(names, loss)
    expected = {own_name: metric(y, outputs, weight) for own_name, metric in metrics.items()}
    assert by_blocks(metrics, y, outputs, weight, size) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("ends", [(600,), (0, 1), (N,)], ids=["two", "first empty", "last empty"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("name", CASES)
def test_blocks_of_ranks_give_what_all_rows_give(name, weight, ends):
    loss, y, outputs, names = CASES[name]
    metrics = {"loss": of_loss(loss)} | as_metrics(names, loss)
    expected = {own_name: metric(y, outputs, weight) for own_name, metric in metrics.items()}

    def measure(comm):
        measured, (start, stop) = Measurement(metrics), [*(0, *ends, N)[comm.rank :]][:2]
        for i in range(start, stop, 100):
            own = slice(i, min(i + 100, stop))
            measured.add(y[own], outputs[own], None if weight is None else weight[own])
        measured.merge(Ranks(comm))
        return measured.values()

    of_ranks = on_ranks(len(ends) + 1, measure)
    assert of_ranks[0] == pytest.approx(expected, rel=1e-12)
    assert all(values == of_ranks[0] for values in of_ranks)


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
def test_scorers_of_scikit_learn(weight):
    sklearn = pytest.importorskip("sklearn.metrics")
    loss = dl.CrossEntropyLoss()
    f_beta = sklearn.make_scorer(functools.partial(sklearn.fbeta_score, beta=2, average="macro"))
    metrics = as_metrics(["roc_auc_ovr", "neg_log_loss", "f1_macro", f_beta], loss)
    assert list(metrics) == ["roc_auc_ovr", "neg_log_loss", "f1_macro", "fbeta_score"]
    expected = {name: metric(LABELS, OUTPUTS, weight) for name, metric in metrics.items()}
    predicted = OUTPUTS.argmax(1)
    f_macro = sklearn.f1_score(LABELS, predicted, average="macro", sample_weight=weight)
    assert expected["f1_macro"] == pytest.approx(f_macro)
    assert by_blocks(metrics, LABELS, OUTPUTS, weight, 30) == pytest.approx(expected)


def test_equal_targets_in_several_blocks_have_no_variance():
    metrics = as_metrics(["r2"], dl.MSELoss())
    y = np.full((100, 1), 0.1)
    assert by_blocks(metrics, y, y, None, 7)["r2"] == 1
    assert by_blocks(metrics, y, y + 1, WEIGHT[:100], 7)["r2"] == 0


def test_an_infinite_loss_of_one_block_is_the_loss():
    y, outputs = np.zeros((100, 1)), np.zeros((100, 1))
    outputs[50] = 1e200
    with np.errstate(over="ignore"):
        assert by_blocks({"loss": of_loss(dl.MSELoss())}, y, outputs, None, 10)["loss"] == np.inf


def test_several_targets_of_which_some_are_missing():
    loss = dl.MultiTargetLoss(
        {"kind": "cross_entropy", "size": "mse"},
        [4, 1],
        [2.0, 0.5],
        metrics={"kind": ["accuracy"], "size": ["r2", own]},
    )
    outputs = RNG.normal(size=(N, 5))
    y = np.stack([LABELS.astype(float), VALUES[:, 0]], axis=1)
    y[100:200, 0] = y[::3, 1] = np.nan
    y = loss.check(y, "y", 5, np.dtype(np.float64))
    metrics = {"loss": of_loss(loss)} | loss.target_metrics()
    for weight in (None, WEIGHT):
        expected = {name: metric(y, outputs, weight) for name, metric in metrics.items()}
        counts = loss.normalizers(y, weight)
        whole = loss.weighted_value(outputs, y, weight, counts)
        assert expected["loss"] == pytest.approx(whole, rel=1e-12)
        assert by_blocks(metrics, y, outputs, weight, 30) == pytest.approx(expected, rel=1e-12)


# ---- names


class Callable:
    def __call__(self, y_true, outputs):  # noqa: ARG002
        return np.float32(len(y_true))


def test_names_of_partials_and_objects():
    loss = dl.MSELoss()
    twice = functools.partial(functools.partial(own))
    metrics = as_metrics([twice, Callable(), "mae"], loss)
    assert list(metrics) == ["own", "Callable", "mae"]
    assert metrics["Callable"](VALUES, OUTPUTS, None) == N
    named = as_metrics({"a": twice, "b": own, "error": "mae"}, loss)
    assert list(named) == ["a", "b", "error"]
    with pytest.raises(ValueError, match=r"'own' is taken; a dict such as \{'my_name': metric\}"):
        as_metrics([twice, own], loss)
    for bad in ([Callable], {"a": 3}, {3: own}):
        with pytest.raises(TypeError, match="metric"):
            as_metrics(bad, loss)


# ---- memory


def peak_of(call):
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("weighted", [False, True])
def test_no_more_than_a_block_of_outputs_is_kept(weighted):
    rows, classes = 20_000, 1000  # 80 MB of outputs
    x = RNG.normal(size=(rows, 4)).astype(np.float32)
    y = RNG.integers(0, classes, rows)
    model = dl.Sequential(dl.Linear(4, classes), seed=0)
    metrics = ["accuracy", "f1", "top_5_accuracy"]
    t = dl.Trainer(model, loss="cross_entropy", metrics=metrics)
    given = (x, y, np.linspace(0.1, 1, rows)) if weighted else (x, y)
    t.evaluate(x[:10], y[:10])
    assert peak_of(lambda: t.evaluate(*given)) < 45e6
    fit = {"epochs": 1, "batch_size": 500, "verbose": 0, "validation_data": given}
    assert peak_of(lambda: t.fit(x, y, **fit)) < 75e6


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["equal", "weighted"])
@pytest.mark.parametrize("name", CASES)
def test_rows_of_several_ranks(name, weight):
    loss, y, outputs, names = CASES[name]
    cuts = [0, 300, 300, 301, N]  # one rank has no row

    def on_rank(comm, metric):
        some = slice(cuts[comm.rank], cuts[comm.rank + 1])
        own = None if weight is None else weight[some]
        return metric(y[some], outputs[some], own, comm=comm)

    for metric in as_metrics(names, loss).values():
        values = on_ranks(4, lambda comm, metric=metric: on_rank(comm, metric))
        assert len(set(values)) == 1
        assert values[0] == pytest.approx(metric(y, outputs, weight), rel=1e-12)


def test_no_row_of_any_rank():
    metric = metric_named("f1", dl.CrossEntropyLoss())
    values = on_ranks(2, lambda comm: metric(LABELS[:0], OUTPUTS[:0], comm=comm))
    assert np.isnan(values).all()


def test_a_metric_that_fails_on_one_rank_fails_on_all():
    metric = metric_named("r2", dl.MSELoss())
    first, second = on_ranks(2, lambda comm: metric(VALUES[:, : 4 - comm.rank], OUTPUTS, comm=comm))
    assert isinstance(second, ValueError)
    assert "rank 1 of 2" in str(first)
    assert str(second) in str(first)
