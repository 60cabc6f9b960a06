"""Many networks at once: a step of all of them, and folds with early stopping."""

from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.networks import SMALL, Case

MEMBERS = 64
NETWORK = Case(SMALL, 32, 2048)
EPOCHS = 2  # of each turn

FOLDS = 10
TABLE = Case(SMALL, 32, 4000)

STEP = f"{MEMBERS} of {NETWORK.name}, a step of all"
VALIDATED = f"{FOLDS} folds of {TABLE.name}, with early stopping"


class Many(Suite):
    """In the first case the times of other libraries are of a step of one network, or of all by vmap.

    Ours is of all of them. In the second, the one that is compared is dlcore, one fit after the other.
    """

    title = (
        "Time many networks at once, in microseconds a step of all, or milliseconds for all folds."
    )
    peers = ("torch",)
    rounds = 5

    def cases(self, options):
        return [STEP, VALIDATED]

    def prepare(self, peer, case, options):
        if case == VALIDATED:
            return (
                Prepared(peer.folds(TABLE, FOLDS), batch_seconds=0)
                if hasattr(peer, "folds")
                else None
            )
        if not hasattr(peer, "many"):
            return None
        return Prepared(peer.many(NETWORK, MEMBERS, EPOCHS), batch_seconds=0)

    def values(self, case, times):
        parts = EPOCHS * NETWORK.steps if case == STEP else 1
        return [seconds / parts for seconds in times.seconds]


SUITE = Many()
