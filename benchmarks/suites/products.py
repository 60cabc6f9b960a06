"""The matrix products of linear layers."""

import numpy as np

from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.networks import PRODUCTS
from benchmarks.suites.training import peak_cells, peak_fields


class Products(Suite):
    title = "Time the matrix products of linear layers beside OpenBLAS, in microseconds a call."
    peers = ("openblas",)
    limits = ("peak",)

    def cases(self, options):
        return list(PRODUCTS)

    def prepare(self, peer, case, options):
        if not hasattr(peer, "product"):
            return None
        case = PRODUCTS[case]
        data = case.data()
        call = peer.product(case, *data)
        result = call()
        if isinstance(result, float):  # operations a second: not a product
            return Prepared({"": call}, batch_seconds=0, is_number=True)
        wide = [array.astype(np.float64) for array in data]
        if case.form == "forward":
            pairs = [(result, wide[0] @ wide[1].T)]
        else:
            pairs = zip(result, (wide[2] @ wide[1], wide[2].T @ wide[0]), strict=True)
        error = max(np.abs(own - exact).max() / np.abs(exact).max() for own, exact in pairs)
        return Prepared({"": call}, info={"error": float(error)})

    def fields(self, case, variant, times, library):
        fields = super().fields(case, variant, times, library)
        return fields | peak_fields(PRODUCTS[case].flops, times, library)

    def cells(self, rows):
        return peak_cells(rows["dlcore"])


SUITE = Products()
