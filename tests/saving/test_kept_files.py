"""Files of each format that there was: this version reads them, whatever has become of the classes.

``python tests/saving/test_kept_files.py FOLDER`` writes those of this version, to a folder of their
own under ``tests/data`` when the format changes. What is there is never written anew.
"""

import sys
from pathlib import Path

import numpy as np
import pytest

import dlcore as dl

DATA = Path(__file__).parents[1] / "data"
FILES = sorted(DATA.glob("format-*/*.safetensors"))
RNG = np.random.default_rng(0)


def objects(x, y):
    """Make one of each kind, with the method that answers."""
    from sklearn.pipeline import make_pipeline

    from dlcore.sklearn import MLPClassifier, StandardScaler

    layers = [
        *(dl.Linear(3, 4, max_norm=2.0), dl.BatchNorm1d(4, momentum=None), dl.LeakyReLU(0.2)),
        *(dl.Linear(4, 4, bias=False), dl.LayerNorm(4), dl.GELU("tanh"), dl.Dropout(0.25)),
        *(dl.RMSNorm(4), dl.ELU(1.5), dl.Softplus(2.0), dl.SiLU(), dl.Sigmoid(), dl.Tanh()),
        *(dl.LogSigmoid(), dl.ReLU(), dl.Linear(4, 2)),
    ]
    model = dl.Sequential(*layers, dtype=np.float64, seed=0)
    dl.Trainer(model, loss="cross_entropy", seed=0).fit(x, y, epochs=2, verbose=0)
    model.freeze("0")
    classifier = MLPClassifier((4,), max_iter=2, random_state=0, batch_norm=True)
    pipeline = make_pipeline(StandardScaler(), classifier).fit(x, np.array(["no", "yes"])[y])
    return {
        "model": (model, "__call__"),
        "minmax": (dl.MinMaxNormalizer((-1, 1), clip=True).fit(x), "transform"),
        "zscore": (dl.ZScoreNormalizer().fit(x * 1e-200), "transform"),
        "pipeline": (pipeline, "predict_proba"),
    }


def write(folder):
    folder.mkdir(parents=True)
    x, y = RNG.normal(size=(20, 3)), RNG.integers(0, 2, 20)
    for name, (obj, method) in objects(x, y).items():
        given = x * 1e-200 if name == "zscore" else x
        about = {"x": given, "y": getattr(obj, method)(given), "method": method}
        about |= {
            "texts": np.array(["a", "ä"]),
            "tuple": (1, None, float("nan")),
            "big": 2**100,
            3: [0.5],
        }
        dl.save(obj, folder / f"{name}.safetensors", metadata=about)


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_files_that_were_written_before(path):
    obj, about = dl.load(path), dl.load_metadata(path)
    got = getattr(obj, about["method"])(about["x"])
    np.testing.assert_allclose(got, about["y"], rtol=1e-10, atol=1e-12)
    assert about["texts"].tolist() == ["a", "ä"]
    assert about["tuple"][:2] == (1, None)
    assert about["big"] == 2**100
    assert about[3] == [0.5]


def test_there_are_files_of_each_format():
    from dlcore._common import tree

    formats = {path.parent.name for path in FILES}
    assert formats == {f"format-{number}" for number in range(1, tree.FORMAT + 1)}


def test_what_was_saved_goes_on():
    model = dl.load(DATA / "format-1" / "model.safetensors")
    assert model.frozen == {"0.weight", "0.bias"}
    dl.Trainer(model, loss="cross_entropy", seed=0).fit(
        RNG.normal(size=(20, 3)), RNG.integers(0, 2, 20), epochs=1, verbose=0
    )
    pipeline = dl.load(DATA / "format-1" / "pipeline.safetensors")
    pipeline[-1].partial_fit(RNG.normal(size=(4, 3)), ["no", "yes", "no", "yes"])


if __name__ == "__main__":
    write(Path(sys.argv[1]))
