"""Steps of TabM: k members that share weights, trained at once."""

import zlib
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.training import peak_cells, peak_fields

WARM = 2  # steps before the first one that is timed
STEPS = 4  # in each turn


@dataclass(frozen=True)
class Case:
    """Blocks of a batch ensemble, and an output of each member."""

    k: int
    blocks: tuple[int, ...]
    in_features: int
    must: float | None
    batch: int = 256
    out_features: int = 10

    @property
    def name(self):
        blocks = "x".join(map(str, self.blocks))
        return f"k {self.k}, {self.in_features}-{blocks}-{self.out_features} batch {self.batch}"

    @property
    def flops(self):
        """Floating-point operations of the matrix products of a step."""
        products = [a * b for a, b in pairwise((self.in_features, *self.blocks, self.out_features))]
        return (6 * sum(products) - 2 * products[0]) * self.batch * self.k

    def data(self):
        """Draw x and labels of the rows of a turn, the same ones in every process."""
        rng = np.random.default_rng(zlib.crc32(self.name.encode()))
        rows = STEPS * self.batch
        x = rng.standard_normal((rows, self.in_features), np.float32)
        return x, rng.integers(0, self.out_features, rows)


CASES = {
    case.name: case
    for case in (
        Case(32, (512, 512, 512), 107, 3.0),
        Case(32, (256, 256, 256), 107, 3.5),
        Case(16, (128, 128), 20, 6.0),
    )
}


class Members(Suite):
    title = "Time steps of TabM beside the package tabm in PyTorch, in microseconds a step."
    peers = ("tabm",)
    limits = ("peak",)
    has_targets = True
    rounds = 7

    def cases(self, options):
        return list(CASES)

    def targets(self, case, options):
        return CASES[case].must, CASES[case].must

    def prepare(self, peer, case, options):
        if not hasattr(peer, "members"):
            return None
        steps = peer.members(CASES[case])
        for _ in range(WARM):
            steps()
        return Prepared({"": steps}, batch_seconds=0, is_number=True)

    def values(self, case, times):
        return [seconds / STEPS for seconds in times.seconds]

    def fields(self, case, variant, times, library):
        fields = super().fields(case, variant, times, library)
        fields |= peak_fields(STEPS * CASES[case].flops, times, library)
        return fields | {"loss": times[library].results[-1]}

    def cells(self, rows):
        return peak_cells(rows["dlcore"])


SUITE = Members()
