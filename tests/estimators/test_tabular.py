"""`TabularClassifier` and `TabularRegressor`: scikit-learn's tests, tables, targets, files."""

import copy
import pickle
import time

import numpy as np
import pytest

pytest.importorskip("sklearn", "1.6")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.metrics import log_loss, r2_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

import dlcore as dl
from dlcore.sklearn import TableEncoder, TabularClassifier, TabularRegressor, _recipes, _tabular
from dlcore.sklearn._calibration import temperature
from dlcore.sklearn._preparation import Preparation
from support.sklearn_suite import lenient, parametrize_with_checks

RNG = np.random.default_rng(0)
ROWS = 400
COLUMNS = {
    "size": RNG.normal(size=ROWS).tolist(),
    "kind": RNG.choice(["a", "b", "c", "d"], ROWS).tolist(),
    "flag": RNG.choice([True, False], ROWS).tolist(),
    "count": [None if i % 7 == 0 else i % 5 for i in range(ROWS)],
    "gaps": [None if i % 3 == 0 else ["x", "y"][i % 2] for i in range(ROWS)],
    "nothing": [None] * ROWS,
}
FRAME = pd.DataFrame(COLUMNS)
SIGNAL = (
    FRAME["size"] + (FRAME["kind"] == "a") + 0.3 * FRAME["count"].fillna(4) + 0.5 * FRAME["flag"]
).to_numpy(float)
LABELS = np.where(SIGNAL > np.median(SIGNAL), "yes", "no")  # noqa: SIM300
TARGETS = {
    "two": LABELS,
    "three": np.digitize(SIGNAL, np.quantile(SIGNAL, [0.3, 0.7])),
    "multilabel": np.stack([SIGNAL > 1, FRAME["flag"]], axis=1).astype(int),
    "questions": np.stack([np.digitize(SIGNAL, [0.5, 1.5]), np.arange(ROWS) % 4], axis=1),
    "number": SIGNAL,
    "numbers": np.stack([SIGNAL, 1e6 - 1e5 * SIGNAL], axis=1),
}
CLASSIFICATION = ["two", "three", "multilabel", "questions"]


def made(target, **options):
    kind = TabularClassifier if target in CLASSIFICATION else TabularRegressor
    return kind(**{"max_epochs": 8, "random_state": 0} | options)


def answers(estimator, X):
    """Return the bytes of all that an estimator predicts."""
    methods = ("predict", "predict_proba", "predict_log_proba", "predict_quantiles")
    results = [getattr(estimator, name)(X) for name in methods if hasattr(estimator, name)]
    return [
        np.asarray(part).tobytes()
        for result in results
        for part in (result if isinstance(result, list) else [result])
    ]


@pytest.fixture(autouse=True)
def small_networks(monkeypatch):
    """TabM with 4 members of 16 units: 32 of 512 take seconds."""
    monkeypatch.setattr(_recipes.TabM, "k", 4)
    monkeypatch.setattr(_recipes.TabM, "width", 16)


EXPECTED = {
    "check_sample_weight_equivalence_on_dense_data": "rows that are held out and batches are drawn "
    "of rows, as in bootstraps",
}
OF_CLASSES = {"check_class_weight_classifiers": "nothing is learnt where rows weigh 1e-7"}


@parametrize_with_checks(
    [TabularClassifier(max_epochs=25), TabularRegressor(max_epochs=25)],
    expected_failed_checks=lambda est: (
        EXPECTED | OF_CLASSES if isinstance(est, TabularClassifier) else EXPECTED
    ),
)
@lenient
def test_estimator_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)


# ---- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["two", "numbers"])
@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
def test_a_table_has_the_same_bits_in_every_library(target, recipe):
    y = TARGETS[target]
    tables = {
        "pandas": FRAME,
        "polars": pl.DataFrame(COLUMNS),
        "arrow": pa.table(COLUMNS),
        "objects": np.array([list(row) for row in zip(*COLUMNS.values(), strict=True)], object),
    }
    fitted = {
        name: made(target, recipe=recipe, max_epochs=2).fit(X, y) for name, X in tables.items()
    }
    expected = answers(fitted["pandas"], FRAME)
    for name, X in tables.items():
        assert answers(fitted[name], X) == expected, name
    one = y.ndim == 1
    for own in (pl.Series(y) if one else pl.DataFrame(y), pd.Series(y) if one else pd.DataFrame(y)):
        assert answers(made(target, recipe=recipe, max_epochs=2).fit(FRAME, own), FRAME) == expected


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
def test_targets(target, recipe):
    y = TARGETS[target]
    estimator = made(target, recipe=recipe, max_epochs=40).fit(FRAME, y)
    predicted = estimator.predict(FRAME)
    assert predicted.shape == y.shape
    if target in ("two", "three", "number", "numbers"):
        assert estimator.score(FRAME, y) > 0.8
    if target == "multilabel":
        p = estimator.predict_proba(FRAME)
        assert p.shape == y.shape
        np.testing.assert_array_equal(predicted, p > 0.5)
        assert estimator.score(FRAME, y) > 0.7
    elif target == "questions":
        for i, p in enumerate(estimator.predict_proba(FRAME)):
            np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
            np.testing.assert_array_equal(estimator.classes_[i][p.argmax(1)], predicted[:, i])
        assert len(estimator.temperatures_) == 2
    elif target in CLASSIFICATION:
        p = estimator.predict_proba(FRAME)
        np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
        np.testing.assert_allclose(np.log(p), estimator.predict_log_proba(FRAME), atol=1e-4)
        assert (estimator.classes_[p.argmax(1)] == predicted).all()


def test_rows_with_gaps_and_what_is_unknown():
    estimator = made("two").fit(FRAME, LABELS)
    odd = FRAME[:4].assign(
        size=[None, 1e300, -1e300, 0.0],
        kind=["never seen", None, "a", "b"],
        count=[None] * 4,
        nothing=["something", 3, None, 1.5],
    )
    assert np.isfinite(estimator.predict_proba(odd)).all()
    with pytest.raises(ValueError, match=r"infinity.*'size'"):
        estimator.predict(odd.assign(size=np.inf))
    with pytest.raises(ValueError, match="feature names"):
        estimator.predict(FRAME[list(FRAME)[::-1]])


@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
def test_few_rows_and_one_class(recipe):
    options = {"recipe": recipe, "max_epochs": 3, "random_state": 0}
    one = TabularRegressor(**options).fit([[1.0, 2.0]], [5.0])
    assert one.predict([[1.0, 2.0], [9.0, np.nan]]).shape == (2,)
    if recipe == "realmlp":
        assert one.predict([[9.0, np.nan]]).tolist() == [5.0]  # the only target that was seen
    same = TabularClassifier(**options).fit(FRAME[:30], ["only"] * 30)
    assert set(same.predict(FRAME)) == {"only"}
    assert (same.predict_proba(FRAME) == 1).all()
    rare = TabularClassifier(**options).fit(FRAME[:31], ["a"] * 15 + ["b"] * 15 + ["c"])
    assert rare.predict_proba(FRAME).shape == (ROWS, 3)
    with pytest.raises(ValueError, match="no column with a value"):
        TabularClassifier(**options).fit(FRAME[["nothing"]], LABELS)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
def test_it_beats_the_plain_perceptron():
    rng = np.random.default_rng(1)
    n = 1000
    frame = pd.DataFrame({
        "a": rng.standard_cauchy(n), "b": np.exp(2 * rng.normal(size=n)), "c": rng.normal(size=n),
        "k": rng.choice(list("uvwxyz"), n),
    })  # fmt: skip
    effect = frame["k"].map(dict(zip("uvwxyz", [3, -2, 1, 0, -1, 2], strict=True)))
    y = np.arctan(frame["a"]) + np.log(frame["b"]) + effect * (frame["c"] > 0)
    plain = make_column_transformer((OneHotEncoder(), ["k"]), remainder=StandardScaler())
    learn, test = frame[:700], frame[700:]
    theirs = make_pipeline(plain, MLPRegressor(random_state=0, max_iter=100)).fit(learn, y[:700])
    ours = TabularRegressor(random_state=0, max_epochs=50).fit(learn, y[:700])
    assert 1 - ours.score(test, y[700:]) < 0.5 * (1 - theirs.score(test, y[700:]))
    labels = y > 0
    theirs = make_pipeline(plain, MLPClassifier(random_state=0, max_iter=100))
    theirs.fit(learn, labels[:700])
    ours = TabularClassifier(random_state=0, max_epochs=50).fit(learn, labels[:700])
    assert 1 - ours.score(test, labels[700:]) < 1 - theirs.score(test, labels[700:])


@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
@pytest.mark.parametrize("kind", ["pbld", "pwl", None])
def test_embeddings_of_numbers(tmp_path, recipe, kind):
    options = {"recipe": recipe, "num_embeddings": kind, "max_epochs": 3}
    estimator = made("two", **options).fit(FRAME.assign(same=1.0), LABELS)
    names = list(estimator.models_[0].named_parameters())
    kinds = {
        type(layer).__name__ for layer in dl.nn._chains.leaves_of(estimator.models_[0]).values()
    }
    assert ("PiecewiseLinear" in kinds) == (kind == "pwl")
    assert ("Periodic" in kinds) == (kind == "pbld")
    assert any(name.startswith("0.0.") for name in names) == (kind is not None)
    if recipe == "tabm":
        layers = [layer for layer in estimator.models_[0] if type(layer) is dl.LinearBatchEnsemble]
        assert len(layers) == (3 if kind is None else 2)
        assert layers[0].scaling_init == ("random-signs" if kind is None else "normal")
        width = {"pbld": 4, "pwl": 16, None: 1}[kind]
        assert layers[0].chunks == [width] * 3 + [1, 4, 1, 3]
    frame = FRAME.assign(same=2.0)
    assert answers(dl_load(tmp_path, estimator), frame) == answers(estimator, frame)
    default = "pbld" if recipe == "realmlp" else None
    auto = made("two", recipe=recipe, max_epochs=3).fit(FRAME.assign(same=1.0), LABELS)
    assert (answers(auto, frame) == answers(estimator, frame)) == (kind == default)
    for own in (
        FRAME[["kind", "gaps"]],
        pd.DataFrame({"n": [1.0]}),
        pd.DataFrame({"n": [1.0, 2, 2]}),
    ):
        few = made("number", **options).fit(own, SIGNAL[: len(own)])
        assert np.isfinite(few.predict(own)).all()


def test_bins_of_numbers_are_those_of_the_rows_to_train_on():
    x = RNG.normal(size=(300, 2))
    held = (RNG.normal(size=(50, 2)) * 9, RNG.normal(size=50))
    options = {"recipe": "tabm", "num_embeddings": "pwl", "max_epochs": 2}
    estimator = made("number", **options).fit(x, x[:, 0], validation_data=held)
    embeddings = estimator.models_[0][0]._given_branches[0]
    expected = dl.compute_bins(estimator.prepare(x), 48)
    for own, bins in zip(embeddings.bins, expected, strict=True):
        np.testing.assert_array_equal(own, bins)
    steps = np.sin(40 * np.arange(300) / 300)  # 6 waves: bins follow them
    frame = pd.DataFrame({"t": np.arange(300)})
    scores = [
        made("number", recipe="tabm", num_embeddings=kind, max_epochs=40)
        .fit(frame, steps)
        .score(frame, steps)
        for kind in ("pwl", None)
    ]
    assert scores[0] > scores[1] + 0.2


# ---- how they are fitted -------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["three", "number"])
def test_best_epoch_of_own_rows(target):
    y = TARGETS[target]
    estimator = made(target, max_epochs=30)
    estimator.fit(FRAME[:300], y[:300], validation_data=(FRAME[300:], y[300:]))
    logs = estimator.history_[0]
    if target == "three":
        values = logs["val_accuracy"]
        last = len(values) - 1 - int(np.argmax(values[::-1]))
        assert estimator.best_epochs_ == [last + 1]
        assert estimator.score(FRAME[300:], y[300:]) == pytest.approx(max(values))
    else:
        assert estimator.best_epochs_ == [int(np.argmin(logs["val_loss"])) + 1]
        assert len(estimator.residuals_) == 100
    weights = np.ones(100)
    same = made(target, max_epochs=30)
    same.fit(FRAME[:300], y[:300], validation_data=(FRAME[300:], y[300:], weights))
    assert answers(same, FRAME) == answers(estimator, FRAME)
    for wrong, words in (
        (FRAME, "must be .X, y."),
        ((FRAME[["size"]], y), "validation_data.*feature names"),
        ((FRAME[:3], y), "validation_data.*inconsistent"),
    ):
        with pytest.raises(ValueError, match=words):
            made(target).fit(FRAME, y, validation_data=wrong)


def test_rows_of_weight_0_are_not_there():
    weights = (np.arange(ROWS) % 2).astype(float)
    odd = weights > 0
    for target in ("two", "number"):
        changed = TARGETS[target].copy()
        changed[~odd] = changed[0]
        frame = FRAME.copy()
        frame.loc[~odd, "size"] = 1e9
        a = made(target, max_epochs=2).fit(FRAME, TARGETS[target], weights)
        b = made(target, max_epochs=2).fit(frame, changed, weights)
        assert answers(a, FRAME[odd]) == answers(b, FRAME[odd])


def test_weights_of_classes():
    y = np.arange(ROWS) % 10 == 0
    plain = made("two", max_epochs=20).fit(FRAME, y)
    balanced = made("two", max_epochs=20, class_weight="balanced").fit(FRAME, y)
    assert (
        balanced.predict_proba(FRAME)[:, 1].mean() > 1.2 * plain.predict_proba(FRAME)[:, 1].mean()
    )
    rows = made("two", max_epochs=20, class_weight={False: 1.0, True: 4.0}).fit(FRAME, y)
    weighed = made("two", max_epochs=20).fit(FRAME, y, np.where(y, 4.0, 1.0))
    assert answers(rows, FRAME) == answers(weighed, FRAME)


@pytest.mark.parametrize("target", ["two", "questions", "multilabel", "number"])
def test_members_predict_by_their_mean(target):
    three = made(target, members=3, max_epochs=3).fit(FRAME, TARGETS[target])
    assert len(three.models_) == len(three.history_) == len(three.best_epochs_) == 3
    outputs = [model(three.prepare(FRAME)) for model in three.models_]
    assert not np.array_equal(outputs[0], outputs[1])
    mean = three._outputs(FRAME)
    if target == "number":
        np.testing.assert_allclose(mean, np.mean(outputs, axis=0), atol=1e-6)
    elif target == "two":
        p = np.mean([dl.softmax(own) for own in outputs], axis=0)
        np.testing.assert_allclose(dl.softmax(mean), p, atol=1e-6)
    elif target == "multilabel":
        p = np.mean([dl.sigmoid(own) for own in outputs], axis=0)
        np.testing.assert_allclose(dl.sigmoid(mean), p, atol=1e-6)


@pytest.mark.parametrize("target", ["two", "number"])
@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
def test_members_have_the_bits_that_each_has_alone(monkeypatch, target, recipe):
    weight = RNG.uniform(0.5, 2, ROWS)
    options = {"recipe": recipe, "max_epochs": 12}
    together = made(target, members=3, **options).fit(FRAME, TARGETS[target], weight)
    first = made(target, **options).fit(FRAME, TARGETS[target], weight)
    np.testing.assert_array_equal(first.models_[0].flat, together.models_[0].flat)
    with dl.num_threads(1):
        in_turn = made(target, members=3, **options).fit(FRAME, TARGETS[target], weight)

    def alone(trainers, x, y, **given):
        for trainer in trainers:
            trainer.fit(x, y, **given)

    monkeypatch.setattr(_tabular, "fit_many", alone)
    singles = made(target, members=3, **options).fit(FRAME, TARGETS[target], weight)
    for other in (in_turn, singles):
        assert other.best_epochs_ == together.best_epochs_
        assert other.history_ == together.history_
        assert answers(other, FRAME) == answers(together, FRAME)
        for one, two in zip(other.models_, together.models_, strict=True):
            np.testing.assert_array_equal(one.flat, two.flat)


def test_members_stop_each_at_its_own_epoch():
    y = SIGNAL + RNG.normal(size=ROWS)
    fitted = made("number", recipe="tabm", members=4, max_epochs=200).fit(FRAME, y)
    lengths = [len(logs["loss"]) for logs in fitted.history_]
    for length, best, logs in zip(lengths, fitted.best_epochs_, fitted.history_, strict=True):
        assert length == best + 16 or length == 200
        assert logs["val_loss"][best - 1] == min(logs["val_loss"])
    assert len(set(lengths)) > 1


def greedily(losses_of, count, keep):
    """Return the members that are chosen one after the other, in ascending order."""
    chosen = []
    while len(chosen) < keep:
        left = [i for i in range(count) if i not in chosen]
        chosen.append(min(left, key=lambda i: losses_of([*chosen, i])))
    return sorted(chosen)


@pytest.mark.parametrize("target", TARGETS)
def test_members_are_pruned_to_the_best_together(target):
    y = TARGETS[target]
    rows = {"validation_data": (FRAME[250:], y[250:])}
    whole = made(target, members=5, max_epochs=3).fit(FRAME[:250], y[:250], **rows)
    pruned = made(target, members=5, prune_to=2, max_epochs=3).fit(FRAME[:250], y[:250], **rows)
    x = whole.prepare(FRAME[250:])
    outputs = [model(x).astype(np.float64) for model in whole.models_]
    wanted = whole._network_targets(whole._encode_targets(whole._checked_y(y[250:])))
    loss = dl.Trainer(whole.models_[0], loss=whole._loss()).loss

    def loss_of(members):
        mean = whole._mean_of_members(outputs[i] for i in members)
        return float(loss.means(mean.astype(np.float32), wanted, None)[0].sum())

    kept = greedily(loss_of, 5, 2)
    assert len(pruned.models_) == 2
    for i, model in zip(kept, pruned.models_, strict=True):
        np.testing.assert_array_equal(model.flat, whole.models_[i].flat)
    assert pruned.history_ == [whole.history_[i] for i in kept]
    assert pruned.best_epochs_ == [whole.best_epochs_[i] for i in kept]
    if target == "number":
        assert len(pruned.residuals_) == 150
        errors = np.sort(y[250:] - pruned.predict(FRAME[250:]))
        np.testing.assert_allclose(pruned.residuals_[:, 0], errors, atol=1e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_members_that_share_weights_are_pruned(tmp_path, target):
    y = TARGETS[target]
    options = {"recipe": "tabm", "max_epochs": 3, "members": 2}
    rows = {"validation_data": (FRAME[250:], y[250:])}
    whole = made(target, **options).fit(FRAME[:250], y[:250], **rows)
    pruned = made(target, prune_to=2, **options).fit(FRAME[:250], y[:250], **rows)
    x = whole.prepare(FRAME[250:])
    wanted = whole._network_targets(whole._encode_targets(whole._checked_y(y[250:])))
    loss = dl.Trainer(whole.models_[0], loss=whole._loss()).loss
    mean = {"two": "softmax", "three": "softmax", "multilabel": "sigmoid"}.get(target, "outputs")
    for before, after in zip(whole.models_, pruned.models_, strict=True):
        assert [layer.k for layer in after if hasattr(layer, "k")] == [2] * 4
        each = np.split(before[:-1](x).astype(np.float64), 4, axis=1)

        def outputs_of(members, each=each):
            own = np.array([each[i] for i in members])
            if mean == "outputs":
                return own.mean(axis=0)
            p = dl.softmax(own, axis=-1) if mean == "softmax" else dl.sigmoid(own)
            p = p.mean(axis=0)
            return np.log(p) if mean == "softmax" else np.log(p / (1 - p))

        def loss_of(members, outputs_of=outputs_of):
            outputs = outputs_of(members).astype(np.float32)
            return float(loss.means(outputs, wanted, None)[0].sum())

        kept = greedily(loss_of, 4, 2)
        np.testing.assert_allclose(after(x), outputs_of(kept), atol=1e-5)
    assert answers(dl_load(tmp_path, pruned), FRAME) == answers(pruned, FRAME)


def test_pruning_needs_members_and_rows():
    for options, words in (
        ({"prune_to": 2}, "prune_to=2 must be at most 1.*members=1"),
        ({"recipe": "tabm", "prune_to": 5}, "prune_to=5 must be at most 4.*recipe='tabm'"),
        ({"members": 2, "prune_to": 1, "validation_fraction": 0.0}, "prune_to=1 needs rows"),
        ({"prune_to": 0}, "prune_to"),
    ):
        with pytest.raises(ValueError, match=words):
            made("two", **options).fit(FRAME, LABELS)
    same = made("number", members=2, prune_to=2, max_epochs=2).fit(FRAME, SIGNAL)
    every = made("number", members=2, max_epochs=2).fit(FRAME, SIGNAL)
    assert answers(same, FRAME) == answers(every, FRAME)


@pytest.mark.parametrize("members", [1, 3])
def test_a_fit_that_is_interrupted_has_its_best_epochs(monkeypatch, members):
    kept = made("number", members=members, max_epochs=4).fit(FRAME, SIGNAL)
    see = _tabular.BestEpoch.on_epoch_begin

    def interrupt(self, epoch):
        if epoch == stops_at:
            raise KeyboardInterrupt
        see(self, epoch)

    monkeypatch.setattr(_tabular.BestEpoch, "on_epoch_begin", interrupt)
    stops_at = 0
    with pytest.raises(KeyboardInterrupt):
        made("number", members=members).fit(FRAME, SIGNAL)
    stops_at = 4
    with pytest.warns(UserWarning, match="interrupted"):
        fitted = made("number", members=members, max_epochs=4 + 1).fit(FRAME, SIGNAL)
    assert 1 <= len(fitted.models_) == len(fitted.history_) == len(fitted.best_epochs_) <= members
    for best, logs in zip(fitted.best_epochs_, fitted.history_, strict=True):
        assert 1 <= len(logs["loss"]) <= 4
        assert logs["val_loss"][best - 1] == min(logs["val_loss"])
    assert np.isfinite(fitted.predict(FRAME)).all()
    assert np.isfinite(fitted.predict_quantiles(FRAME)).all()
    assert kept.predict(FRAME).shape == fitted.predict(FRAME).shape


def test_a_member_that_diverges_is_named(monkeypatch):
    def too_fast(_, model, __):
        return dl.SGD(model.parameters(), lr=1e30)

    monkeypatch.setattr(_recipes.RealMLP, "_optimizer", too_fast)
    with pytest.raises(FloatingPointError, match="diverged") as failed:
        made("number", members=2, validation_fraction=0.0).fit(FRAME, SIGNAL)
    assert any("of 2" in note for note in failed.value.__notes__)


def test_a_seed_decides():
    a, b = (made("two", max_epochs=2).fit(FRAME, LABELS) for _ in range(2))
    with dl.num_threads(1):
        c = made("two", max_epochs=2).fit(FRAME, LABELS)
    assert answers(a, FRAME) == answers(b, FRAME) == answers(c, FRAME)
    assert answers(a, FRAME) != answers(made("two", random_state=1).fit(FRAME, LABELS), FRAME)


def test_time_limit():
    begun = time.monotonic()
    fitted = made("two", max_epochs=10**6, time_limit=0.5, members=3).fit(FRAME, LABELS)
    assert time.monotonic() - begun < 60  # and not the hours of so many epochs
    assert 1 <= len(fitted.models_) <= 3
    assert all(len(logs["loss"]) >= 1 for logs in fitted.history_)
    # Nothing changes where the limit is far away.
    without = answers(made("two", max_epochs=2, members=3).fit(FRAME, LABELS), FRAME)
    for limit in (1000, 1e308):
        fitted = made("two", max_epochs=2, time_limit=limit, members=3).fit(FRAME, LABELS)
        assert answers(fitted, FRAME) == without
    # However short the time: a member has learned something.
    fitted = made("number", time_limit=1e-9, members=3).fit(FRAME, SIGNAL)
    assert [len(logs["loss"]) for logs in fitted.history_] == [1]
    assert np.isfinite(fitted.predict(FRAME)).all()


def test_progress(capsys):
    made("two", max_epochs=2, verbose=2).fit(FRAME, LABELS)
    assert "val_accuracy" in capsys.readouterr().out
    made("two", max_epochs=2, verbose=2, members=2).fit(FRAME, LABELS)
    assert "member 2/2  epochs 2" in capsys.readouterr().out
    made("two", max_epochs=2, members=2).fit(FRAME, LABELS)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"recipe": "forest"}, "recipe"),
        ({"members": 0}, "members"),
        ({"time_limit": 0}, "time_limit"),
        ({"validation_fraction": 1.0}, "validation_fraction"),
        ({"max_epochs": 2.5}, "max_epochs"),
        ({"num_embeddings": "plr"}, "num_embeddings"),
        ({"categorical_features": [99]}, "categorical_features"),
    ],
)
def test_wrong_options(options, error):
    with pytest.raises(ValueError, match=error):
        made("two", **options).fit(FRAME, LABELS)


def test_targets_of_regression_are_scaled_and_not_exceeded():
    for factor in (1e-200, 1.0, 1e200):
        y = SIGNAL * factor
        estimator = made("number", max_epochs=20).fit(FRAME, y)
        assert r2_score(SIGNAL, estimator.predict(FRAME) / factor) > 0.5
        predicted = estimator.predict(FRAME.assign(size=1e9))
        assert y.min() <= predicted.min() <= predicted.max() <= y.max()
        # Parameters are of the next fit.
        estimator.set_params(recipe="tabm", members=4, num_embeddings=None)
        np.testing.assert_array_equal(estimator.predict(FRAME.assign(size=1e9)), predicted)


# ---- what they tell ------------------------------------------------------------------------------


def test_temperature_is_the_best_one():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(4000, 3))
    p = dl.softmax(logits)
    classes = (p.cumsum(axis=1) < rng.random((4000, 1))).sum(axis=1)
    for true in (0.2, 1.0, 5.0):
        assert temperature(logits * true, classes) == pytest.approx(true, rel=0.1)
    weight = np.repeat([1.0, 0.0], 2000)
    assert temperature(logits, classes, weight) == pytest.approx(
        temperature(logits[:2000], classes[:2000]), rel=1e-2
    )
    assert temperature(np.zeros((3, 2)), np.zeros(3, int)) == 1
    assert temperature(np.zeros((0, 2)), np.zeros(0, int)) == 1
    sure = np.repeat(np.eye(3), 100, axis=0)
    assert 0.05 < temperature(sure, np.arange(300) // 100) < 0.5  # all are right


def test_probabilities_are_calibrated():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(1200, 4))
    y = (x[:, 0] + rng.normal(size=1200) > 0).astype(int)
    estimator = TabularClassifier(max_epochs=30, random_state=0).fit(x[:700], y[:700])
    p = estimator.predict_proba(x[700:])
    raw = dl.softmax(estimator._outputs(x[700:]))
    assert estimator.temperatures_ != [1.0]
    assert log_loss(y[700:], p) < log_loss(y[700:], raw) + 0.01
    assert log_loss(y[700:], p) < 0.62


def test_quantiles():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(3000, 2))
    y = x[:, 0] + 0.5 * rng.normal(size=3000)
    estimator = TabularRegressor(max_epochs=6, random_state=0).fit(x[:2000], y[:2000])
    orders = (0.1, 0.5, 0.9)
    found = estimator.predict_quantiles(x[2000:], orders)
    assert found.shape == (1000, 3)
    below = (y[2000:, np.newaxis] < found).mean(axis=0)
    np.testing.assert_allclose(below, orders, atol=0.05)
    several = made("numbers").fit(FRAME, TARGETS["numbers"])
    assert several.predict_quantiles(FRAME, [0.5]).shape == (ROWS, 2, 1)
    with pytest.raises(ValueError, match="quantiles must be"):
        estimator.predict_quantiles(x, [1.5])
    with pytest.raises(ValueError, match="rows to validate on"):
        made("number", validation_fraction=0.0).fit(FRAME, SIGNAL).predict_quantiles(FRAME)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_permutation_importance(library):
    frame = FRAME if library == "pandas" else pl.DataFrame(COLUMNS)
    estimator = made("number", max_epochs=20).fit(frame, SIGNAL)
    result = estimator.permutation_importance(frame, SIGNAL, n_repeats=3, random_state=0)
    assert result.importances.shape == (6, 3)
    of = dict(zip(COLUMNS, result.importances_mean, strict=True))
    assert of["size"] > 10 * abs(of["gaps"])
    assert of["nothing"] == 0
    again = estimator.permutation_importance(frame, SIGNAL, n_repeats=3, random_state=0)
    np.testing.assert_array_equal(result.importances, again.importances)


# ---- files and exports ---------------------------------------------------------------------------


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("recipe", ["realmlp", "tabm"])
def test_files_and_copies_predict_the_same_bits(tmp_path, target, recipe):
    estimator = made(target, recipe=recipe, max_epochs=2, members=2)
    assert dl_load(tmp_path, clone(estimator)).get_params() == estimator.get_params()
    estimator.fit(pl.DataFrame(COLUMNS), TARGETS[target])
    expected = answers(estimator, FRAME)
    for same in (
        dl_load(tmp_path, estimator),
        pickle.loads(pickle.dumps(estimator)),
        copy.deepcopy(estimator),
    ):
        assert answers(same, FRAME) == expected
        assert same.history_ == estimator.history_
        assert same.get_params() == estimator.get_params()


def dl_load(tmp_path, estimator):
    dl.save(estimator, tmp_path / "estimator.safetensors")
    return dl.load(tmp_path / "estimator.safetensors")


def test_a_file_of_other_networks_is_refused(tmp_path):
    estimator = made("two", max_epochs=1).fit(FRAME, LABELS)
    estimator.models_ = [dl.Sequential(dl.Linear(3, 2))]
    with pytest.raises(ValueError, match="3 inputs and 2 outputs"):
        dl_load(tmp_path, estimator)


# ---- the columns of the network ------------------------------------------------------------------


def test_columns_of_the_network():
    frame = pd.DataFrame({
        "n": [0.0, 1, 2, 3, 4, np.nan], "two": ["p", "q", "q", "p", "q", "q"],
        "three": ["u", "v", "w", None, "u", "u"], "same": [7.0] * 6, "one": ["z"] * 6,
    })  # fmt: skip
    encoder = TableEncoder(dtype="float64")
    encoded = encoder.fit_transform(frame)
    sizes = (encoder.n_numbers_, encoder.cardinalities_)
    prepare = Preparation.of(encoded, *sizes, most_one_hot=8)
    x = prepare(encoded)
    assert x.dtype == np.float32
    assert prepare.width == x.shape[1] == 2 + 1 + 1 + 4 + 1
    z = np.array([-1, -0.5, 0, 0.5, 1, 0])
    np.testing.assert_allclose(x[:, 0], z / np.sqrt(1 + (z / 3) ** 2), rtol=1e-6)
    assert (x[:, 1] == 0).all()  # the same for all rows
    assert (x[:, 2] != 0).tolist() == [False] * 5 + [True]  # the gap
    assert (x[:, -1] == 0).all()
    unknown = prepare(encoder.transform(frame.assign(three="new")))
    np.testing.assert_array_equal(unknown[:, 4:8], np.tile(x[:, 4:8].min(axis=0), (6, 1)))
    assert prepare.blocks == [1, 1, 1, 1, 4, 1]
    assert prepare.cardinalities == []
    few = Preparation.of(encoded, *sizes, most_one_hot=3, by_ranks=True)
    assert few.blocks == [1, 1, 1, 1, 1]
    assert few.cardinalities == [5]
    assert few(encoded)[:, -1].tolist() == [1, 2, 3, 4, 1, 1]
    assert few(encoder.transform(frame.assign(three="new")))[:, -1].tolist() == [0] * 6
    assert few(encoded)[:, 2].tolist() == [0, 0, 0, 0, 0, 1]  # a gap stays 0 or 1


def test_many_categories_are_embedded():
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 40, 600)
    effect = rng.normal(size=40)
    frame = pd.DataFrame({"shop": [f"shop {code}" for code in codes]})
    estimator = TabularRegressor(max_epochs=40, random_state=0).fit(frame, effect[codes])
    assert estimator.score(frame, effect[codes]) > 0.8
    tables = [own for own in estimator.models_[0].named_parameters().values() if own.ndim == 2]
    assert tables[0].shape == (41, 8)
    counts = np.bincount(estimator.prepare(frame)[:, 0].astype(int), minlength=41)
    assert counts[0] == 0  # of unknown shops, whose embedding is a mean of all
    low, high = tables[0][1:].min(axis=0), tables[0][1:].max(axis=0)
    assert ((low < tables[0][0]) & (tables[0][0] < high)).all()
    assert np.isfinite(estimator.predict(pd.DataFrame({"shop": ["a new shop"]}))).all()
