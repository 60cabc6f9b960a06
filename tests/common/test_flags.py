"""Options that are on or off take nothing else: "no" is not on."""

import inspect

import numpy as np
import pytest

import dlcore as dl

X, Y = np.ones((4, 3), np.float32), np.array([0, 1, 0, 1])
PARAMS = [np.ones(3, np.float32)]


def model():
    return dl.Sequential(dl.Linear(3, 2), seed=0)


def trainer(**options):
    return dl.Trainer(model(), loss="cross_entropy", **options)


# By what has the flags: what calls it with one.
CALLS = {
    "Adam": lambda **flag: dl.Adam(PARAMS, **flag),
    "AdamW": lambda **flag: dl.AdamW(PARAMS, **flag),
    "BatchNorm1d": lambda **flag: dl.BatchNorm1d(3, **flag),
    "CSVLogger": lambda **flag: dl.CSVLogger("log.csv", **flag),
    "EarlyStopping": lambda **flag: dl.EarlyStopping(**flag),
    "JSONLogger": lambda **flag: dl.JSONLogger("log.jsonl", **flag),
    "LayerNorm": lambda **flag: dl.LayerNorm(3, **flag),
    "Linear": lambda **flag: dl.Linear(3, 2, **flag),
    "LinearBatchEnsemble": lambda **flag: dl.LinearBatchEnsemble(3, 2, 2, **flag),
    "LinearEnsemble": lambda **flag: dl.LinearEnsemble(3, 2, 2, **flag),
    "MinMaxNormalizer": lambda **flag: dl.MinMaxNormalizer(**flag),
    "ModelCheckpoint": lambda **flag: dl.ModelCheckpoint("best.npz", monitor="val_loss", **flag),
    "NLinear": lambda **flag: dl.NLinear(3, 1, 2, **flag),
    "OneCycleLR": lambda **flag: dl.OneCycleLR(0.1, total_steps=9, **flag),
    "OneHotLinear": lambda **flag: dl.OneHotLinear([2, 2], 3, **flag),
    "PBLDEmbeddings": lambda **flag: dl.PBLDEmbeddings(3, **flag),
    "Periodic": lambda **flag: dl.Periodic(3, 4, **flag),
    "PeriodicEmbeddings": lambda **flag: dl.PeriodicEmbeddings(3, lite=True, **flag),
    "PiecewiseLinearEmbeddings": lambda **flag: dl.PiecewiseLinearEmbeddings(
        [np.array([0.0, 1.0])], 2, activation=True, **flag
    ),
    "RMSNorm": lambda **flag: dl.RMSNorm(3, **flag),
    "Range": lambda **flag: dl.Range(1, 2, **flag),
    "SGD": lambda **flag: dl.SGD(PARAMS, lr=0.1, momentum=0.9, **flag),
    "Sequential.backward": lambda **flag: model().backward(X[:, :2], **flag),
    "Sequential.load_state_dict": lambda **flag: model().load_state_dict(
        model().state_dict(), **flag
    ),
    "Sequential.sparsity": lambda **flag: model().sparsity(**flag),
    "Trainer": lambda **flag: trainer(**flag),
    "Trainer.fit": lambda **flag: trainer().fit(X, Y, epochs=1, **flag),
    "ZScoreNormalizer": lambda **flag: dl.ZScoreNormalizer(**flag),
    "batch_norm": lambda **flag: dl.batch_norm(X, PARAMS[0].copy(), PARAMS[0].copy(), **flag),
    "batch_norm_backward": lambda **flag: dl.batch_norm_backward(
        X, X, PARAMS[0], PARAMS[0], **flag
    ),
    "clip_grad_norm": lambda **flag: dl.clip_grad_norm([X.copy()], 1.0, **flag),
    "cross_validate": lambda **flag: dl.cross_validate(trainer(), X, Y, folds=2, epochs=1, **flag),
    "kl_div": lambda **flag: dl.kl_div(X, X, **flag),
    "kl_div_and_grad": lambda **flag: dl.kl_div_and_grad(X, X, **flag),
    "logsumexp": lambda **flag: dl.logsumexp(X, **flag),
    "to_onnx": lambda **flag: dl.to_onnx(model(), "model.onnx", **flag),
}


def flags():
    """Yield the name of what has a flag, and the flag."""
    for name, value in vars(dl).items():
        if name.startswith("_") or not callable(value):
            continue
        found = {name: value}
        if inspect.isclass(value):
            methods = inspect.getmembers(value, inspect.isfunction)
            found |= {f"{name}.{m}": f for m, f in methods if not m.startswith("_")}
        for owner, function in found.items():
            for parameter in inspect.signature(function).parameters.values():
                if parameter.annotation == "bool" and isinstance(parameter.default, bool):
                    yield owner, parameter.name


@pytest.mark.parametrize(("owner", "flag"), sorted(set(flags())))
def test_a_word_is_not_on(owner, flag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TypeError, match=f"{flag} must be True or False, got 'no'"):
        CALLS[owner](**{flag: "no"})
    assert not list(tmp_path.iterdir())
