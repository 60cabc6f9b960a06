"""The examples run, do what they promise, and agree with each other."""

import re
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
pytest.importorskip("sklearn")


@pytest.fixture(autouse=True)
def examples(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)


def test_by_hand_and_with_the_trainer_the_network_is_the_same(capsys):
    import digits
    import digits_by_hand

    train, validation, _ = digits.load_data()
    trainer = digits.make_trainer(seed=1)
    history = trainer.fit(
        *train, epochs=5, batch_size=digits.BATCH_SIZE, validation_data=validation, verbose=0
    )
    params = digits_by_hand.train_by_hand(*train, *validation, epochs=5, seed=1)
    shown = re.findall(r"val_loss (\S+)", capsys.readouterr().out)
    assert shown == [f"{loss:.4f}" for loss in history["val_loss"]]
    for mine, by_hand in zip(trainer.model.parameters(), params, strict=True):
        np.testing.assert_allclose(mine, by_hand, rtol=1e-3, atol=1e-6)


def test_the_digits_are_learnt_as_well_as_by_scikit_learn(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    import digits

    curves = tmp_path / "curves.png"
    monkeypatch.setattr("sys.argv", ["digits.py", "--curves", str(curves)])
    digits.main()
    shown = capsys.readouterr().out
    accuracy = dict(re.findall(r"^(\w+) +(\S+) %", shown, re.MULTILINE))
    assert float(accuracy["dlcore"]) >= float(accuracy["MLPClassifier"]) - 0.5
    assert re.search(r"^stopped after epoch \d+: val_loss has not improved", shown, re.MULTILINE)
    assert curves.stat().st_size > 10_000
