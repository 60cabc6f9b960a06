"""`History`: a dict of lists that draws its curves."""

import copy
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest

import dlcore as dl
from dlcore.callbacks._history import smoothed


@pytest.fixture
def history():
    """Of a fit that was stopped after epoch 5, its best being epoch 3."""
    result = dl.History()
    losses = [0.9, 0.6, 0.5, 0.55, 0.6]
    for epoch, loss in enumerate(losses):
        logs = {"loss": 1 / (epoch + 1), "accuracy": 0.1 * epoch, "val_loss": loss}
        result.record(epoch, logs | {"val_accuracy": 0.1})
    result.best_epoch, result.monitor = 2, "val_loss"
    result.stopped_epoch, result.reason = 4, "enough"
    return result


def lines(axes):
    return {line.get_label(): line for line in axes.get_lines()}


def test_a_history_is_a_dict_of_lists(history):
    assert list(history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert history["val_loss"] == [0.9, 0.6, 0.5, 0.55, 0.6]
    assert history.epoch == [0, 1, 2, 3, 4]
    assert isinstance(history, dict)
    with pytest.raises(KeyError):
        history["val_mae"]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda h: pickle.loads(pickle.dumps(h))])
def test_copies_keep_everything(history, duplicate):
    other = duplicate(history)
    assert other == history
    assert vars(other) == vars(history)


def test_the_plot_has_a_panel_for_each_metric(history):
    pytest.importorskip("matplotlib")
    loss, accuracy = history.plot().axes
    assert (loss.get_title(), accuracy.get_title()) == ("loss", "accuracy")
    training, validation = lines(loss)["training"], lines(loss)["validation"]
    np.testing.assert_array_equal(training.get_xdata(), [1, 2, 3, 4, 5])
    np.testing.assert_array_equal(training.get_ydata(), history["loss"])
    np.testing.assert_array_equal(validation.get_ydata(), history["val_loss"])


def test_the_plot_marks_the_best_and_the_last_epoch(history):
    pytest.importorskip("matplotlib")
    loss, accuracy = history.plot().axes
    best = lines(loss)["best: 0.5 in epoch 3"]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (3, 0.5)
    for axes in (loss, accuracy):
        assert lines(axes)["stopped after epoch 5"].get_xdata()[0] == 5
    assert len(lines(accuracy)) == 3  # the best epoch is that of the loss
    legend = [text.get_text() for text in loss.get_legend().get_texts()]
    assert legend == list(lines(loss))


@pytest.mark.parametrize(("suffix", "magic"), [("png", b"\x89PNG"), ("svg", b"<?xml")])
def test_the_plot_is_saved(history, tmp_path, suffix, magic):
    pytest.importorskip("matplotlib")
    path = tmp_path / f"curves.{suffix}"
    history.plot(path)
    assert path.read_bytes().startswith(magic)
    assert path.stat().st_size > 5000
    history.plot(str(path))


def test_a_fit_without_validation_is_plotted(tmp_path):
    pytest.importorskip("matplotlib")
    trainer = dl.Trainer(dl.Sequential(dl.Linear(2, 1)), loss="mse")
    history = trainer.fit(np.ones((4, 2), np.float32), np.ones(4, np.float32), epochs=1, verbose=0)
    (axes,) = history.plot(tmp_path / "curves.png").axes
    assert list(lines(axes)) == ["training"]
    assert lines(axes)["training"].get_marker() == "o"  # one point makes no line


def test_nothing_to_plot():
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match="no epoch"):
        dl.History().plot()


def test_the_plot_needs_neither_display_nor_pyplot():
    pytest.importorskip("matplotlib")
    code = (
        "import sys, dlcore as dl; assert 'matplotlib' not in sys.modules; h = dl.History(); "
        "h.record(0, {'loss': 1.0}); h.plot(); assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": ""})


def test_without_matplotlib_the_error_tells_what_to_install(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(
        ImportError, match=r"needs matplotlib: pip install 'dlcore-kernels\[plot\]'"
    ):
        history.plot()


# ---- epochs, batches and iterations


def test_epochs_have_their_batches_and_iterations():
    history = dl.History()
    history.record(0, {"loss": 1.0}, batches=7, iteration=4)
    history.record(1, {"loss": 0.5}, batches=7, iteration=8)
    history.record(2, {"loss": 0.4})
    assert (history.epoch, history.batches) == ([0, 1, 2], [7, 7, 0])
    assert history.iteration == [4, 8, 0]
    assert history == {"loss": [1.0, 0.5, 0.4]}
    assert history.iterations == {}


def test_iterations_are_added_to_those_before():
    history = dl.History()
    history.record_iterations([10, 20], [0.9, 0.8], [0.1, 0.1])
    history.record_iterations([30], [0.7], [0.05])
    expected = {"iteration": [10, 20, 30], "loss": [0.9, 0.8, 0.7], "lr": [0.1, 0.1, 0.05]}
    assert history.iterations == expected
    assert history == {}


def by_iteration(lrs):
    history = dl.History()
    history.record(0, {"loss": 0.75}, batches=20, iteration=20)
    history.record(1, {"loss": 0.25}, batches=20, iteration=40)
    history.record_iterations([10, 20, 30, 40], [1.0, 0.5, 0.5, 0.0], lrs)
    return history


def test_the_plot_by_iteration():
    pytest.importorskip("matplotlib")
    (axes,) = by_iteration([0.1] * 4).plot(by="iteration", smoothing=0.5).axes
    raw, smooth = lines(axes)["training"], lines(axes)["training, smoothed"]
    np.testing.assert_array_equal(raw.get_xdata(), [10, 20, 30, 40])
    np.testing.assert_array_equal(raw.get_ydata(), [1.0, 0.5, 0.5, 0.0])
    # Averages 1/2, 1/2, 1/2 and 1/4, over 1/2, 3/4, 7/8 and 15/16.
    np.testing.assert_allclose(smooth.get_ydata(), [1, 2 / 3, 4 / 7, 4 / 15], rtol=1e-14)
    assert axes.get_xlabel() == "iteration"
    ends = [line.get_xdata()[0] for line in axes.get_lines() if line.get_label()[0] == "_"]
    assert ends == [20, 40]


def test_without_smoothing_the_smoothed_curve_is_the_loss():
    np.testing.assert_array_equal(smoothed([3.0, 1.0, 2.0], 0.0), [3, 1, 2])
    np.testing.assert_allclose(smoothed([2.0] * 5, 0.9), 2.0)


def test_a_learning_rate_that_changed_has_a_panel():
    pytest.importorskip("matplotlib")
    _, axes = by_iteration([0.1, 0.1, 0.05, 0.05]).plot(by="iteration").axes
    assert axes.get_title() == "lr"
    np.testing.assert_array_equal(lines(axes)["lr"].get_ydata(), [0.1, 0.1, 0.05, 0.05])


def test_a_fit_that_logs_iterations():
    pytest.importorskip("matplotlib")
    trainer = dl.Trainer(dl.Sequential(dl.Linear(2, 1), seed=0), loss="mse", seed=0)
    x, y = np.ones((25, 2), np.float32), np.ones(25, np.float32)
    history = trainer.fit(x, y, epochs=3, batch_size=5, log_every=3, verbose=0)
    assert history.batches == [5, 5, 5]
    assert history.iteration == [5, 10, 15]
    assert history.iterations["iteration"] == [3, 6, 9, 12, 15]
    (axes,) = history.plot(by="iteration").axes
    np.testing.assert_array_equal(lines(axes)["training"].get_ydata(), history.iterations["loss"])


@pytest.mark.parametrize(("metrics", "shape"), [(1, (1, 1)), (3, (1, 3)), (4, (2, 3)), (7, (3, 3))])
def test_panels_wrap_into_rows_of_three(metrics, shape):
    pytest.importorskip("matplotlib")
    history = dl.History()
    names = [f"metric {i}" for i in range(metrics)]
    for epoch in range(3):
        history.record(epoch, dict.fromkeys(names, 0.5) | {f"val_{n}": 0.4 for n in names})
    figure = history.plot()
    assert [axes.get_title() for axes in figure.axes] == names
    spec = figure.axes[-1].get_subplotspec()
    assert (spec.get_gridspec().nrows, spec.get_gridspec().ncols) == shape
    assert (spec.rowspan.start, spec.colspan.start) == divmod(metrics - 1, 3)
    width, height = figure.get_size_inches()
    assert (width / shape[1], height / shape[0]) == pytest.approx((5.2, 3.8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"by": "batch"}, "by must be 'epoch' or 'iteration', not 'batch'"),
        ({"by": "iteration"}, "no iteration was logged; fit with log_every=10"),
        ({"smoothing": 1.0}, r"smoothing must be in \[0, 1\), not 1.0"),
    ],
)
def test_wrong_options_of_the_plot(history, options, message):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=message):
        history.plot(**options)


def test_the_diagnosis_takes_its_thresholds(history):
    assert history.diagnose().verdict == "overfitting"
    assert history.diagnose(rise=0.5, gap=0.9, noise=0.9).verdict != "overfitting"


def is_interrupted(call, at):
    """Whether a function of the package has another line for Ctrl-C to come before."""
    lines = itertools.count()

    def trace(frame, event, _):
        if event == "line" and "dlcore" in frame.f_code.co_filename and next(lines) == at:
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
    return False


@pytest.mark.parametrize(
    "record",
    [
        lambda history: history.record(1, {"loss": 0.5, "lr": 0.1}, batches=2, iteration=4),
        lambda history: history.record_losses(1, [0.5, 0.25], batches=2, iteration=2),
    ],
    ids=["an epoch", "losses"],
)
def test_an_interrupt_leaves_lists_of_one_length(record):
    for line in itertools.count():
        history = dl.History()
        history.record(0, {"loss": 1.0}, batches=2, iteration=2)
        if not is_interrupted(lambda history=history: record(history), line):
            break
        lists = history.epoch, history.batches, history.iteration, history["loss"]
        assert {len(own) for own in lists} in ({1}, {2}, {3}), line
        assert history.epochs_of("loss") == history.epoch
    assert line > 4
