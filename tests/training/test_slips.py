"""What is written wrong on everybody's first day: an error before the training that tells what to write."""

import numpy as np
import pytest

import dlcore as dl

X, Y = np.ones((8, 2), np.float32), np.arange(8) % 2


def model():
    return dl.Sequential(dl.Linear(2, 2), seed=0)


def fit(**options):
    in_fit = {
        name: options.pop(name) for name in ("class_weight", "fit_callbacks") if name in options
    }
    if "fit_callbacks" in in_fit:
        in_fit["callbacks"] = in_fit.pop("fit_callbacks")
    trainer = dl.Trainer(model(), **({"loss": "cross_entropy"} | options))
    return trainer.fit(X, Y, epochs=2, verbose=0, **in_fit)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": dl.Adam}, r"optimizer is the class Adam: write optimizer=Adam\(model"),
        ({"loss": dl.CrossEntropyLoss}, r"or a loss object: write CrossEntropyLoss\(\), not Cr"),
        (
            {"callbacks": dl.EarlyStopping("loss")},
            r"callbacks must be a list, .* callbacks=\[EarlyStopping",
        ),
        ({"fit_callbacks": dl.EarlyStopping("loss")}, r"callbacks must be a list"),
        ({"callbacks": [dl.EarlyStopping]}, r"instance of Callback: write EarlyStopping\("),
        ({"fit_callbacks": [dl.EarlyStopping]}, r"instance of Callback: write EarlyStopping\("),
        ({"callbacks": [print]}, "a callback must be an instance of Callback"),
        ({"schedule": dl.StepLR}, "schedule is the class StepLR: write an object of it"),
    ],
)
def test_an_error_tells_what_to_write(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        fit(**options)


def test_a_method_instead_of_its_result():
    with pytest.raises(
        TypeError, match=r"Adam: params must be .* method; write model\.parameters\(\)"
    ):
        dl.Adam(model().parameters)
    with pytest.raises(TypeError, match=r"SGD: params must be arrays or groups of them, got int"):
        dl.SGD(3)


def test_the_function_of_a_loss_is_its_name():
    assert fit(loss=dl.cross_entropy)["loss"] == fit(loss="cross_entropy")["loss"]


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_class_weights_as_an_array(kind):
    by_name = fit(class_weight={0: 1.0, 1: 3.0})["loss"]
    assert fit(class_weight=kind([1.0, 3.0]))["loss"] == by_name
    with pytest.raises(ValueError, match="a weight for each of 2 classes, got 3"):
        fit(class_weight=kind([1.0, 2.0, 3.0]))
