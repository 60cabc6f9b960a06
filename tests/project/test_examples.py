"""The examples run, do what they promise, and agree with each other."""

import re
import runpy
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
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
        np.testing.assert_allclose(mine, by_hand, rtol=1e-3, atol=2e-4)


def test_the_digits_are_learned_as_well_as_by_scikit_learn(tmp_path, monkeypatch, capsys):
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


def test_augmentation_helps_where_there_are_few_images(monkeypatch, capsys):
    pytest.importorskip("cv2")
    import digits_augmented

    monkeypatch.setattr("sys.argv", ["digits_augmented.py", "--seeds", "2", "--epochs", "20"])
    digits_augmented.main()
    shown = capsys.readouterr().out
    rows = re.findall(r"^(\w.*?) +(\S+) ± \S+ %(?: +(\S+) ± \S+ points)?$", shown, re.MULTILINE)
    accuracies = {name: float(accuracy) for name, accuracy, _ in rows}
    gains = {name: float(gain) for name, _, gain in rows if gain}
    assert list(accuracies) == list(digits_augmented.WAYS)
    assert gains["transforms and mixup"] > 0
    for name, gain in gains.items():
        assert gain == pytest.approx(accuracies[name] - accuracies["no augmentation"], abs=0.11)


def test_a_search_prunes_the_trials_that_are_worse_than_the_median(monkeypatch, capsys):
    optuna = pytest.importorskip("optuna")
    import optuna_search

    before = optuna.logging.get_verbosity()
    monkeypatch.setattr("sys.argv", ["optuna_search.py", "--trials", "10", "--epochs", "8"])
    try:
        optuna_search.main()
    finally:
        optuna.logging.set_verbosity(before)
    shown = capsys.readouterr().out
    counts = r"^(\d+) of 10 trials were pruned, which saved (\d+) of 80 epochs$"
    pruned, saved = map(int, re.search(counts, shown, re.MULTILINE).groups())
    assert 0 < pruned <= saved <= 5 * pruned  # none before its third epoch
    parameters = dict(re.findall(r"^  (\w+): (\S+)$", shown, re.MULTILINE))
    assert list(parameters) == ["layers", "units", "dropout", "lr", "weight_decay"]
    # The first five trials are never pruned.
    plain = optuna_search.search(5, 8, pruner=optuna.pruners.NopPruner())
    assert all(len(trial.intermediate_values) == 8 for trial in plain.trials)
    best = float(re.search(r"best validation loss: (\S+),", shown).group(1))
    assert best <= plain.best_value + 1e-4
    assert float(re.search(r"test accuracy: (\S+) %", shown).group(1)) > 94


def run_notebook(name, *arguments, monkeypatch):
    """Run an example of cells, from the first to the last; return its variables."""
    pytest.importorskip("sklearn", minversion="1.6")
    monkeypatch.setattr("sys.argv", [name, *arguments])
    return runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")


def test_a_grid_search_finds_a_good_network(monkeypatch, capsys):
    search = run_notebook("sklearn_grid_search", monkeypatch=monkeypatch)["search"]
    shown = capsys.readouterr().out
    losses = re.findall(r"^(\d\.\d+) ± ", shown, re.MULTILINE)
    assert losses == sorted(losses)
    assert len(losses) == 12
    assert losses[0] == f"{-search.best_score_:.3f}"
    assert float(losses[0]) < 0.15
    assert float(re.search(r"test accuracy (\S+)", shown).group(1)) > 0.93


def test_rare_classes_are_found_at_a_price(monkeypatch, capsys):
    variables = run_notebook("sklearn_imbalance", monkeypatch=monkeypatch)
    table, stopped = variables["table"], variables["stopped"]
    for name in ("class_weight", "threshold 0.1", "threshold tuned"):
        assert table[name]["recall"] > table["plain"]["recall"]
        assert table[name]["precision"] < table["plain"]["precision"]
        assert table[name]["balanced_accuracy"] > table["plain"]["balanced_accuracy"]
    for name in ("threshold 0.1", "threshold tuned"):
        assert table[name]["average_precision"] == pytest.approx(
            table["plain"]["average_precision"]
        )
    assert table["plain"]["average_precision"] > 0.8
    assert min(stopped["average_precision"], stopped["loss"]) > 0.6
    assert max(stopped["accuracy"], stopped["balanced_accuracy"]) < 0.5
    shown = re.findall(r"^(.+?)  .*0\.\d+$", capsys.readouterr().out, re.MULTILINE)
    assert shown == [*table, *stopped]


def test_intervals_hold_the_share_that_they_promise(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    picture = tmp_path / "intervals.png"
    variables = run_notebook("sklearn_quantiles", str(picture), monkeypatch=monkeypatch)
    assert variables["shares"]["quantiles"] == pytest.approx([0.8, 0.8, 0.8], abs=0.08)
    assert variables["shares"]["one width"][1] > 0.95
    assert variables["shares"]["one width"][2] < 0.6
    shown = capsys.readouterr().out
    rows = re.findall(r"^ +(0\.[05]) +(\S+) +\d+$", shown, re.MULTILINE)
    inside = {float(dropout): float(share) for dropout, share in rows}
    assert inside[0.0] < inside[0.5] == pytest.approx(0.8, abs=0.05)
    assert picture.stat().st_size > 10_000


def test_a_stream_is_learned_and_learned_again_after_a_drift(monkeypatch, capsys):
    run_notebook("sklearn_streaming", monkeypatch=monkeypatch)
    shown = capsys.readouterr().out
    rows = re.findall(r"^(.+?)  +(0\.\d+) +(0\.\d+) +(0\.\d+)$", shown, re.MULTILINE)
    last = {name: float(accuracies[-1]) for name, *accuracies in rows}
    assert last["before the drift"] > 0.9
    assert last["after it, learning"] > 0.85
    assert last["after it, frozen"] < 0.3


def test_an_l1_penalty_leaves_few_measurements_and_the_accuracy(monkeypatch, capsys):
    import feature_selection

    monkeypatch.setattr("sys.argv", ["feature_selection.py", "--seeds", "3"])
    feature_selection.main()
    shown = capsys.readouterr().out
    rows = re.findall(r"^ +(\S+) +(\S+) +(\S+) ± \S+ % +(\S+)$", shown, re.MULTILINE)
    penalties, left, accuracies, losses = np.array(rows, float).T
    assert tuple(penalties) == feature_selection.PENALTIES
    assert left[0] == 30
    assert (np.diff(left) < 0).all()
    assert left[-1] < 12
    assert accuracies.min() > accuracies[0] - 1.5
    assert losses[1:].max() < losses[0]
    counts = re.findall(r"^ +(\d+)  \D+$", shown, re.MULTILINE)
    assert sum(map(int, counts)) == pytest.approx(3 * left[-1], abs=0.2)
    assert "   3  worst area\n" in shown


def test_an_actor_and_critic_learn_to_balance(monkeypatch, capsys):
    import actor_critic

    monkeypatch.setattr("sys.argv", ["actor_critic.py", "--seeds", "1", "--updates", "120"])
    actor_critic.main()
    (reached,) = re.findall(r"^seed 0: return (\S+) of 200$", capsys.readouterr().out, re.MULTILINE)
    assert float(reached) > 50  # 20 at random


def test_the_actor_and_critic_of_pytorch_make_the_same_updates():
    torch = pytest.importorskip("torch")
    import actor_critic
    import actor_critic_judge

    rng = np.random.default_rng(0)
    learners = [make(actor_critic.make_model(0)) for make in actor_critic_judge.LEARNERS.values()]
    poles = actor_critic.Poles(0)
    for _ in range(3):
        batch = actor_critic.collect(learners[0], poles, rng)
        for learner in learners:
            learner.update(*batch)
    mine, theirs = learners
    for name, tensor in theirs.model.state_dict().items():
        assert isinstance(tensor, torch.Tensor)
        np.testing.assert_allclose(mine.model.state_dict()[name], tensor, rtol=1e-3, atol=1e-4)
