"""Where the rows of a fit come from: batches of an iterable, files larger than memory."""

import subprocess
import sys
import threading
from itertools import pairwise

import numpy as np
import pytest

import dlcore as dl
from dlcore.training._dataset import MappedFile


def rows(n=100, features=4, classes=3):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, features), dtype=np.float32), rng.integers(0, classes, n)


def trainer(**options):
    model = dl.Sequential(dl.Linear(4, 8), dl.ReLU(), dl.Linear(8, 3), seed=0)
    return dl.Trainer(model, loss="cross_entropy", seed=0, **options)


def cut(x, y, size, *more):
    return [tuple(a[i : i + size] for a in (x, y, *more)) for i in range(0, len(x), size)]


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_an_iterable_of_batches_trains_like_arrays(accumulate, weighted):
    x, y = rows()
    weight = np.linspace(0.5, 2, len(x)) if weighted else None
    arrays, stream = (trainer(metrics=["accuracy"], accumulate=accumulate) for _ in range(2))
    expected = arrays.fit(
        x, y, epochs=3, batch_size=32, sample_weight=weight, shuffle=False, verbose=0
    )
    batches = cut(x, y, 32, *([] if weight is None else [weight]))
    actual = stream.fit(batches, epochs=3, validation_data=(x, y), verbose=0)
    np.testing.assert_allclose(actual["loss"], expected["loss"], rtol=1e-5)
    assert actual["accuracy"] == pytest.approx(expected["accuracy"])
    np.testing.assert_allclose(stream.model.flat, arrays.model.flat, rtol=1e-3, atol=1e-6)
    assert len(actual["val_loss"]) == 3


def test_batches_of_many_sizes():
    x, y = rows()
    t = trainer()
    sizes = [1, 50, 3, 46]
    starts = np.cumsum([0, *sizes])
    batches = [(x[a:b], y[a:b]) for a, b in pairwise(starts)]
    assert np.isfinite(t.fit(batches, epochs=2, verbose=0)["loss"]).all()
    assert t.optimizer.state_dict()["state"][0]["step"] == 8


def test_an_iterator_serves_one_epoch():
    x, y = rows()
    t = trainer()
    before = t.model.flat.copy()
    with pytest.raises(ValueError, match="x is a list_iterator, which gives its batches only once"):
        t.fit(iter(cut(x, y, 32)), epochs=2, verbose=0)
    np.testing.assert_array_equal(t.model.flat, before)
    expected = trainer().fit(cut(x, y, 32), epochs=1, verbose=0)
    assert t.fit(iter(cut(x, y, 32)), epochs=1, verbose=0)["loss"] == expected["loss"]


@pytest.mark.parametrize(
    ("batches", "options", "error", "message"),
    [
        (rows()[0], {}, TypeError, "iterable of batches"),
        (3, {}, TypeError, "iterable of batches"),
        ([rows()[0]], {}, TypeError, "batch 1 of x must be"),
        ([(*rows(), None, None)], {}, TypeError, "batch 1 of x must be"),
        ([rows(), rows(features=5)], {}, ValueError, "batch 2: x must have shape"),
        ([rows(classes=9)], {}, IndexError, r"batch 1: y\["),
        ([rows()], {"validation_split": 0.1}, ValueError, "validation_split needs x and y"),
        ([rows()], {"sample_weight": np.ones(100)}, ValueError, "sample_weight needs x and y"),
        ([rows()], {"class_weight": "balanced"}, ValueError, "must be a dict"),
        ([], {}, ValueError, "no batches"),
    ],
)
def test_errors_of_batches(batches, options, error, message):
    with pytest.raises(error, match=message):
        trainer().fit(batches, epochs=1, verbose=0, **options)


def test_class_weights_of_batches():
    x, y = rows()
    weight = {0: 2.0, 2: 0.5}
    losses = [
        trainer().fit(**data, epochs=2, shuffle=False, class_weight=weight, verbose=0)["loss"]
        for data in ({"x": x, "y": y, "batch_size": 50}, {"x": cut(x, y, 50)})
    ]
    np.testing.assert_allclose(*losses, rtol=1e-6)


def test_a_mapped_file_gives_what_the_array_gives(tmp_path):
    x, y = rows(3000)
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    maps = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy"]
    fits = [
        t.fit(*data, epochs=2, validation_split=0.2, verbose=0)
        for t, data in ((trainer(), (x, y)), (trainer(), maps))
    ]
    assert fits[0] == fits[1]


def test_a_file_is_given_back_and_private_changes_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(MappedFile, "least", 1)
    x, y = rows(3000)
    np.save(tmp_path / "x.npy", x)
    for mode in ("r", "r+", "c"):
        mapped = np.load(tmp_path / "x.npy", mmap_mode=mode)
        if mode == "c":
            mapped[0] = 7
        assert bool(MappedFile(mapped[::2])) == (mode != "c")
        trainer().fit(mapped, y, epochs=1, verbose=0)
        np.testing.assert_array_equal(mapped[1:], x[1:])
        assert mode != "c" or (mapped[0] == 7).all()


GROWTH = """
import sys, resource
import numpy as np
import dlcore as dl
n = int(sys.argv[2])
x = np.memmap(sys.argv[1], np.float32, "r", shape=(n, 250))
y = np.zeros(n, np.int64)
model = dl.Sequential(dl.Linear(250, 2), seed=0)
trainer = dl.Trainer(model, loss="cross_entropy", seed=0)
trainer.fit(x[:1000], y[:1000], epochs=1, batch_size=100, verbose=0)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
trainer.fit(x, y, epochs=1, batch_size=100, verbose=0)
trainer.predict(x)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux alone")
def test_memory_does_not_grow_with_the_file(tmp_path):
    """1 GB that is read twice: a sparse file."""
    n = 1_000_000
    path = tmp_path / "x.bin"
    with path.open("wb") as file:
        file.truncate(n * 1000)
    grown = subprocess.run(
        [sys.executable, "-c", GROWTH, str(path), str(n)],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    # Row numbers, labels, weights and outputs take 60 MB of it.
    assert float(grown) < 400


def test_a_model_in_training_cannot_be_used_elsewhere():
    x, y = rows()
    caught = []

    class Intruder(dl.Callback):
        def on_epoch_end(self, epoch, logs):  # noqa: ARG002
            model = self.trainer.model
            model(x)  # in the same thread

            def use(action):
                with pytest.raises(RuntimeError, match="is being trained") as error:
                    action()
                caught.append(error)

            other = dl.Trainer(model, loss="cross_entropy")
            for action in (lambda: model(x), lambda: other.fit(x, y, epochs=1, verbose=0)):
                thread = threading.Thread(target=use, args=(action,))
                thread.start()
                thread.join()
            use(lambda: other.fit(x, y, epochs=1, verbose=0))

    t = trainer(callbacks=[Intruder()])
    t.fit(x, y, epochs=2, verbose=0)
    assert len(caught) == 6
    t.model(x)
