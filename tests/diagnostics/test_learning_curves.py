"""`learning_curve`: fits on nested parts of the rows, scored on the same others."""

import sys

import numpy as np
import pytest

import dlcore as dl
from dlcore.diagnostics._learning_curve import LearningCurve, learning_curve


class Spy(dl.Trainer):
    """Remembers the rows of each fit."""

    fits: list = []  # noqa: RUF012

    def fit(self, x, y, **options):
        self.fits.append((x[:, 0].astype(int), options))
        return super().fit(x, y, **options)


@pytest.fixture
def spy():
    Spy.fits.clear()
    return Spy


def data(n=100):
    x = np.random.default_rng(0).normal(size=(n, 3))
    x[:, 0] = np.arange(n)  # rows tell their numbers
    return x, (x[:, 1] > 0).astype(int)


def maker(kind=dl.Trainer, **options):
    def make():
        model = dl.Sequential(dl.Linear(3, 2), dtype=np.float64, seed=0)
        return kind(model, loss="cross_entropy", metrics=["accuracy"], seed=0, **options)

    return make


def test_sizes_are_shares_of_the_rows_to_train_on(spy):
    curve = learning_curve(maker(spy), *data(), epochs=1, sizes=(1.0, 0.1, 0.5), repeats=2)
    assert curve.sizes.tolist() == [8, 40, 80]
    assert curve.train.shape == curve.validation.shape == (3, 2)
    assert [len(rows) for rows, _ in spy.fits] == [8, 40, 80] * 2


def test_the_default_sizes():
    curve = learning_curve(maker(), *data(), epochs=1)
    assert curve.sizes.tolist() == [8, 26, 44, 62, 80]


def test_smaller_parts_are_in_larger_ones_and_no_row_is_scored_that_was_trained_on(spy):
    learning_curve(maker(spy), *data(), epochs=1, sizes=(10, 30, 80), repeats=2)
    rows = [set(rows.tolist()) for rows, _ in spy.fits]
    held = [set(options["validation_data"][0][:, 0].astype(int)) for _, options in spy.fits]
    assert rows[0] < rows[1] < rows[2]
    assert rows[3] < rows[4] < rows[5]
    assert rows[0] != rows[3]
    assert all(part == held[0] for part in held)
    assert len(held[0]) == 20
    assert not held[0] & (rows[2] | rows[5])


def test_the_scores_are_those_of_a_fit_by_hand():
    x, y = data()
    validation = x[70:], y[70:]
    curve = learning_curve(
        maker(), x[:70], y[:70], epochs=3, sizes=(70,), validation_data=validation, batch_size=70
    )
    trainer = maker()()
    trainer.fit(x[:70], y[:70], epochs=3, batch_size=70, verbose=0)
    assert curve.train[0, 0] == pytest.approx(trainer.evaluate(x[:70], y[:70])["loss"], rel=1e-9)
    assert curve.validation[0, 0] == pytest.approx(trainer.evaluate(*validation)["loss"], rel=1e-9)


def test_another_score():
    curve = learning_curve(maker(), *data(), epochs=1, sizes=(5, 80), monitor="accuracy")
    assert curve.monitor == "accuracy"
    hits = curve.train[:, 0] * curve.sizes
    np.testing.assert_allclose(hits, hits.round(), rtol=1e-12)  # shares of the rows
    assert (hits > 0).all()


def test_the_seed_draws_the_rows():
    a, b, c = (
        learning_curve(maker(), *data(), epochs=1, sizes=(0.2,), seed=seed) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(a.validation, b.validation)
    assert (a.validation != c.validation).all()


def test_more_rows_close_the_gap():
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1500, 10))
    y = x @ rng.normal(size=10) + rng.normal(size=1500)

    def make():
        model = dl.Sequential(dl.Linear(10, 1), dtype=np.float64, seed=0)
        return dl.Trainer(model, loss="mse", optimizer=dl.SGD(model.parameters(), lr=0.1))

    curve = learning_curve(make, x, y, epochs=200, batch_size=1500, sizes=(20, 100, 1200))
    # Least squares with p = 11 of n rows: the errors about 1 are 1 - p/n and 1 + p/n.
    gap = (curve.validation - curve.train)[:, 0]
    assert gap[0] > 3 * gap[1] > 3 * gap[2]
    assert curve.train[-1, 0] == pytest.approx(1, abs=0.1)
    assert curve.validation[-1, 0] == pytest.approx(1, abs=0.15)


# ---- the picture

CURVE = LearningCurve(np.array([10, 20]), np.array([[0.1, 0.3], [0.2, 0.2]]), np.ones((2, 2)))


def test_the_plot_has_means_and_bands(tmp_path):
    pytest.importorskip("matplotlib")
    path = tmp_path / "curve.png"
    (axes,) = CURVE.plot(path).axes
    training, validation = axes.get_lines()
    np.testing.assert_array_equal(training.get_xdata(), [10, 20])
    np.testing.assert_allclose(training.get_ydata(), [0.2, 0.2])
    np.testing.assert_allclose(validation.get_ydata(), [1, 1])
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    assert (band.min(), band.max()) == pytest.approx((0.1, 0.3))  # the deviation of 0.1 and 0.3
    assert (axes.get_xlabel(), axes.get_title()) == ("rows trained on", "loss")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_one_repeat_has_no_band():
    pytest.importorskip("matplotlib")
    curve = LearningCurve(np.array([10, 20]), np.ones((2, 1)), np.ones((2, 1)), "accuracy")
    (axes,) = curve.plot().axes
    assert not axes.collections
    assert axes.get_title() == "accuracy"


def test_without_matplotlib_the_error_tells_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"learning_curve.*pip install 'dlcore-kernels\[plot\]'"):
        CURVE.plot()


# ---- errors


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sizes": (0.0, 1.0)},
            r"sizes must be in \(0, 1\], or numbers of rows from 1 to 80",
        ),
        ({"sizes": (81,)}, "sizes must be .*, not 81"),
        ({"sizes": (1.5,)}, "sizes must be .*, not 1.5"),
        ({"sizes": ()}, "sizes must not be empty"),
        ({"repeats": 0}, "repeats must be an integer and at least 1, not 0"),
        ({"validation_split": 0.0}, r"validation_split must be in \(0, 1\), not 0.0"),
        ({"monitor": "f1"}, "monitor must be one of loss, accuracy, not 'f1'"),
        ({"y": np.zeros(3, int)}, "x has 100 rows, y 3"),
    ],
)
def test_wrong_arguments(spy, options, message):
    x, y = data()
    given = {"x": x, "y": y, "epochs": 1} | options
    with pytest.raises(ValueError, match=message):
        learning_curve(maker(spy), **given)
    assert not spy.fits
