"""A user's data is never touched: what a fit gives back of a map is in the file."""

import mmap

import numpy as np
import pytest

import dlcore as dl
from dlcore.training import _dataset

ROWS, FEATURES = 4096, 16
ROW = np.linspace(-1, 1, FEATURES, dtype=np.float32)


def anonymous(_):
    return mmap.mmap(-1, ROWS * FEATURES * 4, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def anonymous_shared(_):
    return mmap.mmap(-1, ROWS * FEATURES * 4)


def copy_on_write(path):
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), ROWS * FEATURES * 4, access=mmap.ACCESS_COPY)


def bare(path):
    with path.open("r+b") as file:
        return mmap.mmap(file.fileno(), ROWS * FEATURES * 4)


def mapped(mode):
    return lambda path: np.memmap(path, np.float32, mode, shape=(ROWS, FEATURES))


MAPS = {
    "anonymous": anonymous,
    "anonymous shared": anonymous_shared,
    "copy on write": copy_on_write,
    "bare": bare,
    "memmap c": mapped("c"),
    "memmap r+": mapped("r+"),
    "memmap w+": mapped("w+"),
}
USES = {
    "predict": lambda trainer, x, _: trainer.predict(x, batch_size=1000),
    "evaluate": lambda trainer, x, y: trainer.evaluate(x, y),
    "fit": lambda trainer, x, y: trainer.fit(x, y, epochs=2, batch_size=512, verbose=0),
    "changed": lambda trainer, x, y: trainer.fit(
        x, y, epochs=1, batch_size=512, verbose=0, transform=lambda some, _: some + 0
    ),
    "validation": lambda trainer, x, y: trainer.fit(
        x, y, epochs=1, batch_size=512, verbose=0, validation_split=0.5
    ),
    "stream": lambda trainer, x, y: trainer.fit(
        [(x[i : i + 512], y[i : i + 512]) for i in range(0, ROWS, 512)], epochs=1, verbose=0
    ),
    "column_stats": lambda _trainer, x, _y: dl.column_stats(x),
}


@pytest.fixture
def trainer(monkeypatch):
    monkeypatch.setattr(_dataset.MappedFile, "least", 1)  # small maps, too
    model = dl.Sequential(dl.Linear(FEATURES, 3), seed=0)
    return dl.Trainer(model, loss="cross_entropy", optimizer=dl.SGD(model.parameters()), seed=0)


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", MAPS)
def test_the_data_stays(kind, use, trainer, tmp_path):
    path = tmp_path / "data"
    path.write_bytes(bytes(ROWS * FEATURES * 4))
    given = MAPS[kind](path)
    x = np.ndarray((ROWS, FEATURES), np.float32, buffer=given)
    x[:] = ROW
    USES[use](trainer, x, np.zeros(ROWS, np.int64))
    np.testing.assert_array_equal(x, np.broadcast_to(ROW, x.shape))


@pytest.mark.parametrize(("mode", "given_back"), [("r", True), ("r+", True), ("c", False)])
def test_only_what_the_file_holds_is_given_back(mode, given_back, tmp_path, monkeypatch):
    monkeypatch.setattr(_dataset.MappedFile, "least", 1)
    np.ones((ROWS, FEATURES), np.float32).tofile(tmp_path / "data")
    x = np.memmap(tmp_path / "data", np.float32, mode, shape=(ROWS, FEATURES))
    for array in (x, x[10:], np.asarray(x), np.asarray(x)[::2]):
        assert bool(_dataset.MappedFile(array)) is given_back
