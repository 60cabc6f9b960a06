"""What a call costs beside the native steps in it: small batches, one at a time."""

import numpy as np

import dlcore as dl
from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.networks import SMALL, Case

BATCH, STEPS, ROWS = 32, 100, 4_000
ROW = (20, 32, 2)


def trained(case):
    """Return the data of a case, and a trainer with a model of it."""
    from benchmarks.peers.dlcore import network

    model = network(case)
    optimizer = dl.Adam(model.parameters())
    return (*case.data(), dl.Trainer(model, loss="cross_entropy", optimizer=optimizer, seed=0))


def steps():
    """Return the calls of a loop by hand and of small fits, and how many steps each makes."""
    x, y, trainer = trained(Case(SMALL, BATCH, BATCH))
    many_x, many_y, of_many = trained(Case(SMALL, BATCH, BATCH * STEPS))
    model = trainer.model
    once = {"epochs": 1, "batch_size": BATCH, "verbose": 0}
    calls = {
        "step of a fit": (lambda: of_many.fit(many_x, many_y, **once), STEPS),
        "fit of one batch": (lambda: trainer.fit(x, y, **once), 1),
        "epoch of one step": (lambda: trainer.fit(x, y, **once | {"epochs": STEPS}), STEPS),
        "inference": (lambda: model(x), 1),
    }
    if hasattr(model, "forward"):  # older ones have no steps by hand
        dy = np.ones_like(model.forward(x))
        calls["forward"] = (lambda: model.forward(x), 1)
        calls["backward"] = (lambda: model.backward(dy), 1)
        calls["train_on_batch"] = (lambda: trainer.train_on_batch(x, y), 1)
    return calls


def rows():
    """Return the call that learns from single rows."""
    x, y, trainer = trained(Case(ROW, 1, ROWS))
    return {"step of a row": (lambda: trainer.fit(x, y, epochs=1, batch_size=1, verbose=0), ROWS)}


CASES = {"20-64-64-2 batch 32": steps, "20-32-2 batch 1": rows}


class Calls(Suite):
    title = "Time calls with little in them, in microseconds a step."

    def cases(self, options):
        return list(CASES)

    def prepare(self, peer, case, options):
        made = CASES[case]()
        calls = {name: call for name, (call, _) in made.items()}
        return Prepared(calls, info={"steps": {name: count for name, (_, count) in made.items()}})

    def values(self, case, times):
        steps = times.info["steps"][times.variant]
        return [seconds / steps for seconds in times.seconds]

    def fields(self, case, variant, times, library):
        return {"steps": times[library].info["steps"][variant]}


SUITE = Calls()
