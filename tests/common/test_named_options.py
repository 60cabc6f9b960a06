"""Errors that named no argument before fuzzing found them (tests/fuzz.py)."""

from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest

import dlcore as dl
from dlcore.sklearn import MinMaxScaler, MLPClassifier, TableEncoder, TabularRegressor

X, Y = np.ones((4, 3)), np.array([0, 1, 0, 1])
HUGE = 2**70
SEVERAL = np.array([1, 2])


def trainer(**options):
    return dl.Trainer(dl.Sequential(dl.Linear(3, 2), seed=0), loss="cross_entropy", **options)


@pytest.mark.parametrize("function", [dl.softmax, dl.log_softmax])
def test_axis_of_softmax(function):
    with pytest.raises(TypeError, match="softmax: axis must be an integer of 64 bits, got str"):
        function(X, axis="rows")
    with pytest.raises(ValueError, match="softmax: axis must be an integer of 64 bits"):
        function(X, axis=HUGE)
    with pytest.raises(TypeError, match="_backward: axis must be an integer of 64 bits, got float"):
        getattr(dl, f"{function.__name__}_backward")(X, X, axis=0.5)


def test_axis_of_logsumexp():
    with pytest.raises(ValueError, match="logsumexp: axis must be an integer of 64 bits"):
        dl.logsumexp(X, axis=HUGE)


@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
@pytest.mark.parametrize("twin", ["", "_and_grad"])
def test_ignore_index(name, twin):
    function = getattr(dl, name + twin)
    with pytest.raises(
        TypeError, match=f"{name}: ignore_index must be an integer of 64 bits, got float"
    ):
        function(X, Y, ignore_index=0.5)
    with pytest.raises(ValueError, match=f"{name}: ignore_index must be an integer of 64 bits"):
        function(X, Y, ignore_index=HUGE)


def test_inputs_of_losses_with_weights():
    ragged = [[1.0], [1.0, 2.0]]
    with pytest.raises(TypeError, match="mse_loss: input must be an array"):
        dl.mse_loss(ragged, X, weight=X)
    with pytest.raises(TypeError, match="logits: logits must be an array"):
        dl.binary_cross_entropy_with_logits(ragged, X, pos_weight=X[0])
    with pytest.raises(TypeError, match="kl_div: log_target must be True or False"):
        dl.kl_div(X, X, log_target=SEVERAL)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: dl.EarlyStopping(3), "monitor must be a str"),
        (lambda: dl.ReduceLROnPlateau(None), "monitor must be a str"),
        (lambda: dl.EarlyStopping("loss", mode=None), "EarlyStopping: mode must be"),
        (lambda: dl.ReduceLROnPlateau("loss", mode=None), "ReduceLROnPlateau: mode must be"),
        (lambda: dl.ModelCheckpoint("m", monitor="loss", mode=None), "Checkpoint: mode must be"),
        (
            lambda: dl.sweep(trainer, {"lr": [1]}, X, Y, epochs=1, monitor=3),
            "monitor must be a str",
        ),
        (lambda: dl.EarlyStopping(patience="1"), "patience must be an integer"),
        (lambda: dl.EarlyStopping(min_delta={}), "min_delta must be a number"),
        (lambda: dl.EarlyStopping(baseline="0.5"), "baseline must be a number"),
        (lambda: dl.EarlyStopping(start_from_epoch=None), "start_from_epoch must be an int"),
        (lambda: dl.EarlyStopping(stopping_threshold=[]), "stopping_threshold must be a number"),
        (lambda: dl.EarlyStopping(restore_best=SEVERAL), "restore_best must be True or False"),
        (lambda: dl.MinMaxNormalizer(feature_range=5), "feature_range must be"),
        (lambda: dl.MinMaxNormalizer(feature_range=("0", "1")), "feature_range must be"),
        (lambda: dl.MinMaxNormalizer(clip=SEVERAL), "clip must be True or False"),
        (lambda: dl.ZScoreNormalizer(with_std=SEVERAL), "with_std must be True or False"),
        (lambda: MinMaxScaler((1,)).fit(X), "feature_range must be"),
        (lambda: MinMaxScaler(("0", 1)).fit(X), "feature_range must be"),
        (lambda: dl.one_hot(Y, 2, dtype="f4,,"), "dtype must be float32 or float64"),
        (lambda: dl.init.xavier_uniform((3, 2), gain="1"), "gain must be a number"),
        (lambda: dl.init.kaiming_normal((3, 2), gain=1e308), "gain must be a number"),
        (lambda: dl.init.kaiming_uniform(3), "shape must be two positive integers"),
        (lambda: dl.init.lecun_normal((3.0, 2)), "shape must be two positive integers"),
        (lambda: dl.init.orthogonal((3, 2), -0.5), "rng must be an integer of at least 0"),
        (lambda: dl.MultiTargetLoss(3, [1]), "losses must be several"),
        (lambda: dl.MultiTargetLoss(["mse"], 1), "widths must be a number of columns for each"),
        (lambda: dl.MultiTargetLoss(["mse"], [1], 0.5), "weights must be a number for each loss"),
        (lambda: dl.MultiTargetLoss(["mse"], [1], ["a"]), "each of weights must be"),
        (lambda: dl.MultiTargetLoss(["mse"], [1], metrics=["mae"]), "metrics must be a Mapping"),
        (lambda: dl.Ensemble(1j), "models must be several models"),
        (lambda: dl.fit_many(0.5, X, Y, epochs=1), "trainers must be a list"),
        (lambda: dl.fit_many([trainer()], X, Y, epochs=1, rows=np.array(1)), "rows must be the in"),
        (lambda: dl.cross_validate(trainer(), X, Y, epochs=1, folds="a"), "folds must be a num"),
        (lambda: dl.cross_validate(trainer(), X, Y, epochs=1, folds=[1]), r"folds\[0\] must be"),
        (lambda: dl.learning_curve(3, X, Y, epochs=1), "make_trainer must be a function"),
        (lambda: dl.learning_curve(int, X, Y, epochs=1), "make_trainer must be a function"),
        (lambda: dl.learning_curve(lambda: 3, X, Y, epochs=1), "make_trainer makes must be a Tra"),
        (lambda: dl.learning_curve(trainer, X, Y, epochs=1, sizes=len), "sizes must be several"),
        (lambda: dl.learning_curve(trainer, X, Y, epochs=1, sizes="a"), "sizes must be several"),
        (lambda: dl.learning_curve(trainer, X, Y, epochs=1, repeats="1"), "repeats must be an int"),
        (lambda: dl.lr_find(trainer().model, X, Y, start=slice(3)), "start must be a number"),
        (
            lambda: dl.lr_find(trainer().model, X, Y, trainer=X),
            "trainer must be a Trainer, not nda",
        ),
        (lambda: dl.update_batch_norm(3, X), "model must be a Sequential"),
        (lambda: dl.update_batch_norm(trainer().model, 3), "inputs must be rows in arrays"),
        (lambda: dl.parameter_groups(trainer().model, lr=1, lr_factors=2), "lr_factors must be a"),
        (lambda: TableEncoder(categorical_features=np.array(1)).fit(X), "categorical_features"),
        (lambda: TableEncoder(categorical_features=[[1], [1, 2]]).fit(X), "categorical_features"),
        (lambda: dl.LayerNorm(3, eps="1"), "eps must be a number"),
        (lambda: dl.Linear(3, 2, bias=SEVERAL), ": bias must be True or False"),
        (lambda: dl.Linear(3, HUGE), "out_features must be a positive integer"),
        (lambda: dl.CategoricalEmbeddings(np.array(3)), "cardinalities must be a number of"),
        (lambda: dl.CategoricalEmbeddings([3], np.array(2)), "embedding_dims must be a positive"),
        (lambda: dl.ScaleEnsemble(2, 3, chunks=5), "chunks must be several integers"),
        (lambda: dl.BCEWithLogitsLoss([[1], [1, 2]]), "pos_weight"),
        (lambda: dl.ExponentialMovingAverage(10**400), "decay must be"),
        (lambda: dl.SGD([np.ones(2)], lr=10**400), "lr must be"),
        (lambda: dl.SGD([np.ones(2)], lr=int), "lr must be a number, got type"),
        (lambda: dl.Adam([np.ones(2)], betas=[[1, 2], [3]]), "betas must be two numbers"),
        (lambda: trainer(clip_grad_norm="1"), "clip_grad_norm must be a number"),
        (lambda: trainer(seed="one"), "seed must be an integer"),
        (lambda: dl.Sequential(dl.Linear(3, 2), seed="one"), "Sequential: seed must be an integer"),
        (
            lambda: dl.initialize(trainer().model, "zeros", seed=-1),
            "initialize: seed must be an integer",
        ),
        (
            lambda: dl.sweep(trainer, {"lr": [1]}, X, Y, epochs=1, monitor="loss", seed=0.5),
            "sweep: seed must be an",
        ),
        (
            lambda: dl.cross_validate(trainer(), X.astype("f4"), Y, folds=2, epochs=1, seed="one"),
            "cross_validate: seed must be an integer",
        ),
        (
            lambda: dl.learning_curve(trainer, X, Y, epochs=1, seed="one"),
            "learning_curve: seed must be",
        ),
        (lambda: dl.lr_find(trainer(), X, Y), "model must be a Sequential, not Trainer"),
        (lambda: trainer().fit([(X, Y)], epochs=1, batch_size=2), "batch_size is for x and y as"),
        (lambda: trainer(metrics=1), "metrics must be a list"),
        (lambda: trainer(optimizer=SEVERAL), "optimizer"),
        (lambda: trainer().fit(X.astype("f4"), Y, epochs=1, batch_size=HUGE), "batch_size must"),
        (
            lambda: trainer().fit(X, Y, epochs=1, validation_split=SEVERAL, validation_data=(X, Y)),
            "validation_split must be",
        ),
        (
            lambda: dl.sweep(trainer, {"lr": [1]}, X, Y, validation_split=SEVERAL),
            "validation_split must be",
        ),
        (lambda: trainer().fit(X.astype("f4"), Y, epochs=1, shuffle=SEVERAL), "shuffle must"),
        (lambda: dl.train_val_test_split(X, Y, 3), "sizes must be three numbers"),
        (lambda: dl.train_val_test_split(X, Y, ("a", 1, 1)), "sizes must be three numbers"),
        (lambda: dl.train_val_test_split(X, Y, (np.nan, 0.1, 0.1)), "sizes must be three"),
        (lambda: dl.train_val_test_split(X, Y, seed=None), "seed must be an integer"),
        (lambda: MLPClassifier(dropout=frozenset(), max_iter=1).fit(X, Y), "dropout must be"),
        (lambda: MLPClassifier(("a",), max_iter=1).fit(X, Y), "hidden_layer_sizes must be"),
        (lambda: MLPClassifier((True,), max_iter=1).fit(X, Y), "hidden_layer_sizes must be"),
        (lambda: MLPClassifier(np.array(3), max_iter=1).fit(X, Y), "hidden_layer_sizes must be"),
        (lambda: MLPClassifier(tol=10**400, max_iter=1).fit(X, Y), "'tol' parameter of MLPCl"),
        (lambda: MLPClassifier(alpha=Fraction(1, 2)).fit(X, Y), "'alpha' parameter of MLPCl"),
        (lambda: TabularRegressor(time_limit=10**400).fit(X, Y), "'time_limit' parameter of Tab"),
        (lambda: TableEncoder(max_categories=10**400).fit(X), "'max_categories' parameter of"),
        (lambda: MLPClassifier(learning_rate=int).fit(X, Y), "learning_rate is the class int"),
        (
            lambda: MLPClassifier(learning_rate=lambda _: None, solver="sgd").fit(X, Y),
            r"learning_rate\(0\) must be a number, got NoneType",
        ),
        (
            lambda: dl.cross_entropy(X, Y, label_smoothing=Decimal("sNaN")),
            "label_smoothing must be between 0 and 1",
        ),
    ],
)
def test_an_option_is_named(make, match):
    with pytest.raises((TypeError, ValueError), match=match):
        make()


def test_what_has_a_value_is_still_taken():
    assert dl.ReduceLROnPlateau("loss", patience=np.int64(3)).patience == 3
    assert dl.EarlyStopping(patience=float("inf")).patience == float("inf")
    assert dl.Linear(np.int32(3), 2, bias=1).has_bias is True
    assert dl.MinMaxNormalizer((np.float32(-1), 1)).feature_range == (-1.0, 1.0)
    assert dl.softmax(X, axis=np.int8(0)).shape == X.shape
