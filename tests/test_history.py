"""`History`: a dict of lists that draws its curves."""

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest

import dlcore as dl


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
