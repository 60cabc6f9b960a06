"""What counts as an array: anything that NumPy reads without a copy."""

import array
import ctypes

import numpy as np
import pytest

import dlcore as dl

VALUES = [-1.5, 0.0, 2.5]
RELU = [0.0, 0.0, 2.5]


class WithArray:
    """An object of another library: NumPy sees its memory through __array__."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values


class WithOldArray(WithArray):
    """Likewise, from before NumPy 2: __array__ knows no `copy`."""

    def __array__(self, dtype=None):
        return self.values


class WithDlpack:
    """An object that only speaks DLPack."""

    def __init__(self, values):
        self.values = values

    def __dlpack__(self, **kwargs):
        return self.values.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


def as_memmap(values, tmp_path):
    mapped = np.memmap(tmp_path / "values", dtype=values.dtype, mode="w+", shape=values.shape)
    mapped[:] = values
    return mapped


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("wrap", [WithArray, WithOldArray, WithDlpack, memoryview])
def test_foreign_arrays_are_read(wrap, dtype):
    result = dl.relu(wrap(np.array(VALUES, dtype)))
    assert type(result) is np.ndarray
    assert result.dtype == dtype
    assert result.tolist() == RELU


def test_buffers_and_memory_maps_are_read_and_written(tmp_path):
    for values in (
        array.array("d", VALUES),
        (ctypes.c_double * 3)(*VALUES),
        as_memmap(np.array(VALUES), tmp_path),
    ):
        assert dl.relu(values).tolist() == RELU
        assert dl.relu(values, out=values) is values
        assert list(values) == RELU


def test_out_is_returned_as_it_was_given():
    out = WithArray(np.empty(3))
    assert dl.relu(np.array(VALUES), out=out) is out
    assert out.values.tolist() == RELU


def test_numpy_scalars_are_read_but_not_written():
    x = np.array(VALUES)
    assert dl.relu(x[0]) == 0.0
    assert dl.mse_loss(x[0], x[2]) == 16.0
    with pytest.raises(ValueError, match="relu: out is read-only"):
        dl.relu(x[0], out=x[2])


@pytest.mark.parametrize("bad", [[1.0], (1.0,), 1.0, None, "text", b"bytes", {1.0}, object()])
def test_what_needs_a_copy_is_a_type_error(bad):
    message = f"relu: x must be an array that NumPy reads without a copy, got {type(bad).__name__}"
    with pytest.raises(TypeError, match=message):
        dl.relu(bad)
    with pytest.raises(TypeError, match="mse_loss: target must be an array"):
        dl.mse_loss(np.ones(1), bad)


def test_a_masked_array_is_a_type_error():
    with pytest.raises(TypeError, match="x must not be a masked array"):
        dl.relu(np.ma.masked_less(np.array(VALUES), 0))


def test_results_are_plain_arrays_whatever_the_subclass():
    matrix = np.array([VALUES]).view(np.matrix)
    assert type(dl.relu(matrix)) is np.ndarray
