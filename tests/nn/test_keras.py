"""Weights of Keras, from files in its layouts."""

import builtins

import numpy as np
import pytest

import dlcore as dl

h5py = pytest.importorskip("h5py")


def model(dense=12):
    """Return a stack with more layers than one digit counts."""
    layers = [dl.BatchNorm1d(3, eps=1e-3), dl.Linear(3, 4), dl.ReLU(), dl.LayerNorm(4)]
    layers += [dl.Linear(4, 4) for _ in range(dense - 2)]
    return dl.Sequential(*layers, dl.Dropout(0.1), dl.Linear(4, 2, bias=False), seed=0)


def keras_of(state):
    """Return the weights as Keras names them: (kind, number, arrays) of each layer."""
    numbers, layers = {}, {}
    for name, value in state.items():
        layers.setdefault(name.partition(".")[0], {})[name.partition(".")[2]] = value
    for arrays in layers.values():
        kind = "dense" if arrays["weight"].ndim == 2 else "layer_normalization"
        kind = "batch_normalization" if "running_var" in arrays else kind
        number = numbers[kind] = numbers.get(kind, -1) + 1
        order = ("weight", "bias", "running_mean", "running_var")
        yield kind, number, [arrays[n].T for n in order if n in arrays]


def values(own):
    rng = np.random.default_rng(1)
    return {
        name: np.array(0)
        if value.dtype.kind == "i"
        else rng.uniform(1, 2, value.shape).astype("f4")
        for name, value in own.state_dict().items()
    }


def keras3(path, state, root="layers"):
    with h5py.File(path, "w") as file:
        for kind, number, arrays in keras_of(state):
            group = file.create_group(f"{root}/{kind}{f'_{number}' * bool(number)}/vars")
            for i, array in enumerate(arrays):
                group[str(i)] = array
        file.create_group(f"{root}/dropout/vars")
        file.create_group("optimizer/vars")["0"] = np.int64(3)
        file.create_group("vars")
    return path


def keras2(path, state):
    with h5py.File(path, "w") as file:
        names = []
        for i, (kind, _, arrays) in enumerate(keras_of(state)):
            name = f"my {kind} {99 - i}"
            weights = [f"{name}/w{j}:0" for j in range(len(arrays))]
            group = file.create_group(name)
            group.attrs["weight_names"] = [w.encode() for w in weights]
            for weight, array in zip(weights, arrays, strict=True):
                group[weight] = array
            names += [name.encode(), f"relu {i}".encode()]
            file.create_group(f"relu {i}").attrs["weight_names"] = np.zeros(0)
        file.attrs["layer_names"] = names
    return path


LAYOUTS = {
    "3": keras3,
    "3.0": lambda path, state: keras3(path, state, "_layer_checkpoint_dependencies"),
    "2": keras2,
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_are_those_of_the_file(tmp_path, layout):
    own = model()
    given = values(own)
    path = LAYOUTS[layout](tmp_path / "net.weights.h5", given)
    state = dl.load_keras_weights(path, own)
    assert set(state) == set(given)
    for name, value in given.items():
        np.testing.assert_array_equal(state[name], value)
    own.load_state_dict(state)
    own(np.zeros((2, 3), np.float32))


def test_outputs_worked_by_hand(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["layers/dense/vars/0"] = np.array([[1, 2], [3, 4], [5, 6]], np.float32)  # (in, out)
        file["layers/dense/vars/1"] = np.array([10, 20], np.float32)
    own = dl.Sequential(dl.Linear(3, 2))
    own.load_state_dict(dl.load_keras_weights(str(tmp_path / "a.h5"), own))
    assert own(np.array([[1, 10, 100]], np.float32)).tolist() == [[541, 662]]


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (
            [dl.Linear(3, 2), dl.Linear(2, 2)],
            r"has no dense for layer 1, Linear\(2, 2\); it has 1 dense",
        ),
        (
            [dl.Linear(3, 3)],
            r"0\.weight has shape \(3, 3\), that of the dense of the file is \(2, 3\)",
        ),
        (
            [dl.Linear(3, 2, bias=False)],
            r"has weight, but the dense of the file 2 arrays.*\(3, 2\), \(2,\)",
        ),
        ([dl.ReLU()], "more layers than the model: 1 dense"),
        (
            [dl.RMSNorm(3), dl.Linear(3, 2)],
            r"layer 0, RMSNorm\(3, eps=None\), is no layer of Keras",
        ),
        ([dl.BatchNorm1d(3)], "has no batch_normalization for layer 0"),
    ],
)
def test_other_models(tmp_path, layers, message):
    path = keras3(tmp_path / "a.h5", values(dl.Sequential(dl.Linear(3, 2))))
    with pytest.raises(ValueError, match=message):
        dl.load_keras_weights(path, dl.Sequential(*layers))


def test_other_files(tmp_path):
    own = model()
    (tmp_path / "text").write_text("this is no such file")
    with pytest.raises(ValueError, match="text is no HDF5 file"):
        dl.load_keras_weights(tmp_path / "text", own)
    with pytest.raises(FileNotFoundError):
        dl.load_keras_weights(tmp_path / "none", own)
    with h5py.File(tmp_path / "other", "w") as file:
        file["x"] = 3
    with pytest.raises(ValueError, match="other is no file of Keras' weights"):
        dl.load_keras_weights(tmp_path / "other", own)
    with pytest.raises(TypeError, match="model must be a Sequential, not list"):
        dl.load_keras_weights(tmp_path / "other", [])


def test_the_package_is_named_if_it_is_missing(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    message = r"load_keras_weights\(\) needs h5py: pip install 'dlcore-kernels\[keras\]'"
    with pytest.raises(ImportError, match=message):
        dl.load_keras_weights(tmp_path / "a", model())
