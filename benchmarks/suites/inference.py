"""Inference: the outputs of a network for all rows at once."""

import numpy as np

from benchmarks.harness.suite import Prepared, Suite
from benchmarks.suites.networks import INFERENCE


class Inference(Suite):
    title = "Time the outputs of networks beside other libraries, in microseconds a call."
    peers = ("onnxruntime", "torch", "numpy")

    def cases(self, options):
        return list(INFERENCE)

    def prepare(self, peer, case, options):
        if not hasattr(peer, "infer"):
            return None
        case = INFERENCE[case]
        x, _ = case.data()
        call = peer.infer(case, x)
        calls = {"": call}
        if hasattr(peer, "infer_snapshot") and hasattr(peer.network(case), "snapshot"):
            calls["snapshot"] = peer.infer_snapshot(case, x)
        outputs = np.asarray(call())
        *hidden, (weight, bias) = case.parameters()
        for w, b in hidden:
            x = np.maximum(x.astype(np.float64) @ w.T + b, 0)
        error = np.abs(outputs - (x @ weight.T + bias)).max()
        return Prepared(calls, info={"error": float(error)})

    def shared(self, measured):
        """Return the peers' times beside those of a snapshot, too: theirs are of one kind."""
        if "snapshot" in measured:
            measured["snapshot"] = measured[""] | measured["snapshot"]
        return measured


SUITE = Inference()
