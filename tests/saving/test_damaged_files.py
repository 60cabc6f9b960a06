"""Thousands of files that were damaged: an error that names the file, little memory, nothing else."""

import tracemalloc

import numpy as np
import pytest

import dlcore as dl
from dlcore.sklearn import MLPClassifier
from support.mutations import SLACK, mutated, peak_of

pytestmark = pytest.mark.filterwarnings("ignore")


def seeds(folder):
    """Write the files that are damaged: of each kind of object one."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(30, 3))
    model = dl.Sequential(
        dl.Linear(3, 2), dl.BatchNorm1d(2), dl.LeakyReLU(0.2), dl.Linear(2, 2), seed=0
    )
    model.freeze("0")
    metadata = {"names": ("a", "b"), "x": dl.ZScoreNormalizer().fit(x), 3: float("nan")}
    estimator = MLPClassifier((3,), max_iter=2, random_state=0).fit(
        x, np.array(["a", "b", "c"] * 10)
    )
    objects = {"model": model, "normalizer": dl.MinMaxNormalizer().fit(x), "estimator": estimator}
    for name, obj in objects.items():
        dl.save(obj, folder / name, metadata=metadata)
    return {name: (folder / name).read_bytes() for name in objects}


def attempt(path):
    """Load a file; return what was wrong."""
    try:
        dl.load(path)
        dl.load_metadata(path)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", ["model", "normalizer", "estimator"])
def test_files_that_were_damaged(tmp_path, name):
    data, rng = seeds(tmp_path)[name], np.random.default_rng(1)
    path = tmp_path / "damaged"
    attempt(tmp_path / name)  # what is made once
    refused = 0
    tracemalloc.start()
    try:
        for _ in range(700):
            changed = mutated(data, rng)
            path.write_bytes(changed)
            message, peak = peak_of(attempt, path)
            assert not message or message.startswith(str(path))
            assert peak < 4 * len(changed) + SLACK, (peak, len(changed))
            refused += bool(message)
    finally:
        tracemalloc.stop()
    assert refused > 500


def test_every_cut_is_noticed(tmp_path):
    for name, data in seeds(tmp_path).items():
        for end in range(0, len(data), 29):
            (tmp_path / "cut").write_bytes(data[:end])
            assert "cut is no safetensors file" in attempt(tmp_path / "cut"), (name, end)
