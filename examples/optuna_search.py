"""Search with Optuna for a network that reads digits, and prune the hopeless trials.

Each trial draws hyperparameters and trains a network with them; after each epoch it reports its loss
on the rows to validate on, and ends there if that is worse than the median of the earlier trials.
The best network is trained once more, and tested on rows that no trial has seen.
"""

import argparse

import numpy as np
import optuna
from digits import load_data

import dlcore as dl

BATCH_SIZE = 32


def make_trainer(parameters, seed=0):
    """A network of one to three hidden layers and how to train it."""
    layers, inputs = [], 64
    for _ in range(parameters["layers"]):
        layers += [dl.Linear(inputs, parameters["units"]), dl.ReLU()]
        if parameters["dropout"]:
            layers.append(dl.Dropout(parameters["dropout"]))
        inputs = parameters["units"]
    model = dl.Sequential(*layers, dl.Linear(inputs, 10), seed=seed)
    optimizer = dl.AdamW(
        model.parameters(), lr=parameters["lr"], weight_decay=parameters["weight_decay"]
    )
    return dl.Trainer(
        model, loss="cross_entropy", optimizer=optimizer, metrics=["accuracy"], seed=seed
    )


def suggest(trial):
    """What is searched, and where."""
    return {
        "layers": trial.suggest_int("layers", 1, 3),
        "units": trial.suggest_int("units", 8, 256, log=True),
        "dropout": trial.suggest_float("dropout", 0.0, 0.6, step=0.1),
        "lr": trial.suggest_float("lr", 1e-5, 1e-1, log=True),
        "weight_decay": trial.suggest_float("weight_decay", 1e-5, 1.0, log=True),
    }


def search(trials, epochs, *, pruner, seed=0):
    """Run a study; the value of a trial is its least loss on the rows to validate on."""
    train, validation, _ = load_data()

    def objective(trial):
        history = make_trainer(suggest(trial)).fit(
            *train,
            epochs=epochs,
            batch_size=BATCH_SIZE,
            validation_data=validation,
            callbacks=[dl.OptunaPruning(trial, "val_loss")],
            verbose=0,
        )
        return min(history["val_loss"])

    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed), pruner=pruner)
    study.optimize(objective, n_trials=trials, catch=FloatingPointError)
    return study


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--epochs", type=int, default=30, help="most epochs of a trial")
    arguments = parser.parse_args()

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=2)
    study = search(arguments.trials, arguments.epochs, pruner=pruner)

    pruned = [t for t in study.trials if t.state == optuna.trial.TrialState.PRUNED]
    saved = sum(arguments.epochs - len(trial.intermediate_values) for trial in pruned)
    print(f"{len(pruned)} of {len(study.trials)} trials were pruned, which saved ", end="")
    print(f"{saved} of {arguments.epochs * len(study.trials)} epochs")
    print(f"best validation loss: {study.best_value:.4f}, in trial {study.best_trial.number}")
    for name, value in study.best_params.items():
        print(f"  {name}: {value:.4g}")

    train, validation, test = load_data()
    rows = [np.concatenate(both) for both in zip(train, validation, strict=True)]
    best = study.best_trial.intermediate_values
    trainer = make_trainer(study.best_params)
    trainer.fit(*rows, epochs=min(best, key=best.get) + 1, batch_size=BATCH_SIZE, verbose=0)
    print(f"test accuracy: {100 * trainer.evaluate(*test)['accuracy']:.2f} %")


if __name__ == "__main__":
    main()
