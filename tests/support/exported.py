"""Networks of random layers, for the tests of exports."""

from itertools import pairwise

import numpy as np

import dlcore as dl
from dlcore.nn._layers import ACTIVATIONS


def error(y, expected):
    """Return the largest error, relative to the largest of the outputs."""
    return float(np.abs(y - expected).max() / np.abs(expected).max())


def random_activation(rng):
    kind = rng.choice(list(ACTIVATIONS.values()))
    options = {
        dl.LeakyReLU: {"negative_slope": rng.uniform(0, 0.5)},
        dl.ELU: {"alpha": rng.uniform(0.5, 2)},
        dl.GELU: {"approximate": str(rng.choice(["none", "tanh"]))},
        dl.Softplus: {"beta": rng.uniform(0.5, 3), "threshold": rng.uniform(2, 30)},
    }
    return kind(**options.get(kind, {}))


def random_network(seed, dtype=np.float32):
    """Make a network of random layers, with random parameters and statistics."""
    rng = np.random.default_rng(seed)
    widths = rng.integers(1, 65, rng.integers(2, 5))
    layers = []
    for i, (width, following) in enumerate(pairwise(widths)):
        hidden = [dl.Linear(width, following, bias=bool(rng.integers(2)))]
        place = int(rng.integers(2))
        own = int((width, following)[place])
        # A normalization multiplies the errors of a row whose features happen to be near each other,
        # which is likely where they are few.
        if own >= 8 and rng.random() < 0.4:
            norm = (dl.BatchNorm1d, dl.LayerNorm, dl.RMSNorm)[rng.integers(3)]
            hidden.insert(place, norm(own))
        if i < len(widths) - 2:
            hidden += [random_activation(rng), *([dl.Dropout(0.3)] if rng.integers(2) else [])]
        layers += (
            [dl.Sequential(*hidden, dtype=dtype, seed=seed + i)] if rng.random() < 0.3 else hidden
        )
    model = dl.Sequential(*layers, dtype=dtype, seed=seed)
    for layer in model.layers:
        if isinstance(layer, dl.BatchNorm1d):
            layer.running_mean[...] = rng.normal(size=layer.in_features)
            layer.running_var[...] = rng.uniform(0.3, 2, layer.in_features)
        if isinstance(layer, dl.BatchNorm1d | dl.LayerNorm | dl.RMSNorm):
            layer.weight[...] = rng.uniform(0.5, 1.5, layer.in_features)
    return model, rng.normal(size=(64, widths[0])).astype(dtype)


def make_rows(n=120, features=6, dtype=np.float32, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, features)) * np.logspace(-2, 3, features) + 10
    return x.astype(dtype), rng


def session(proto):
    """Load a checked model into ONNX Runtime."""
    import onnx
    import onnxruntime as runtime

    onnx.checker.check_model(proto, full_check=True)
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    return runtime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def outputs_of(proto, x):
    """Run a model; return its outputs by name."""
    made = session(proto)
    names = [value.name for value in made.get_outputs()]
    return dict(zip(names, made.run(None, {"X": x}), strict=True))
