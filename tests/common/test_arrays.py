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


# ---- what NumPy would read otherwise than it is


class Copies:
    """Its __array__ makes a copy whatever it is asked for: what is written there is lost."""

    def __init__(self, values):
        self.values = values

    def __array__(self, dtype=None, copy=None):
        return self.values.copy()


class Interface(Copies):
    """Likewise, by the older protocol."""

    __array__ = None

    @property
    def __array_interface__(self):
        self.kept = self.values.copy()
        return self.kept.__array_interface__


class Lazy:
    """A tensor that is still to be negated, or conjugated: DLPack gives it as it lies in memory."""

    def __init__(self, values, *, is_neg=False, is_conj=False):
        self.values, self.bits = values, (is_neg, is_conj)

    def is_neg(self):
        return self.bits[0]

    def is_conj(self):
        return self.bits[1]

    def resolve_neg(self):
        return Lazy(-self.values if self.bits[0] else self.values, is_conj=self.bits[1])

    def resolve_conj(self):
        values = self.values.conj() if self.bits[1] else self.values
        return Lazy(values, is_neg=self.bits[0])

    def __array__(self, dtype=None, copy=None):
        if any(self.bits):
            raise RuntimeError("call resolve_neg()")
        return self.values

    def __dlpack__(self, **kwargs):
        return self.values.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.values.__dlpack_device__()


class Declares(WithArray):
    """Says that it has another dtype than NumPy reads."""

    dtype = np.dtype(np.int8)


@pytest.mark.parametrize("kind", [Copies, Interface])
def test_out_that_is_a_copy_is_refused(kind):
    out = kind(np.full(3, 7.0))
    np.testing.assert_array_equal(dl.relu(kind(np.array(VALUES))), RELU)
    with pytest.raises((TypeError, ValueError), match="relu: out"):
        dl.relu(np.array(VALUES), out=out)
    for function in (dl.mse_loss_and_grad, dl.l1_loss_and_grad):
        with pytest.raises((TypeError, ValueError), match="out"):
            function(np.array(VALUES), np.zeros(3), out=out)
    assert (out.values == 7).all()


def test_a_lazily_negated_tensor_has_its_own_sign():
    x = np.array(VALUES)
    assert dl.relu(Lazy(-x, is_neg=True)).tolist() == RELU
    assert dl.mse_loss(Lazy(-x, is_neg=True), x) == 0
    assert dl.relu(Lazy(x)).tolist() == RELU
    with pytest.raises(ValueError, match="relu: out is read-only"):
        dl.relu(x, out=Lazy(np.ones(3), is_neg=True))
    assert dl.relu(x, out=Lazy(np.ones(3))).values.tolist() == RELU
    with pytest.raises(TypeError, match="float32 or float64"):
        dl.relu(Lazy(x + 1j, is_conj=True))
    model = dl.Sequential(dl.Linear(3, 1), dtype=np.float64, seed=0)
    np.testing.assert_array_equal(model(Lazy(-x[None], is_neg=True)), model(x[None]))


def test_the_mask_of_what_an_object_gives_is_seen():
    masked = WithArray(np.ma.masked_less(np.array(VALUES), 0))
    with pytest.raises(TypeError, match="x must not be a masked array"):
        dl.relu(masked)


def test_another_dtype_than_the_object_says():
    with pytest.raises(TypeError, match="x is a Declares of int8, but NumPy reads it as float64"):
        dl.relu(Declares(np.array(VALUES)))


def frames():
    """A frame by each library that is there, of a function of columns."""
    for name, make in (("pandas", "DataFrame"), ("polars", "DataFrame"), ("pyarrow", "table")):
        try:
            yield getattr(__import__(name), make)
        except ImportError:
            continue


def test_frames_of_one_dtype_are_read_and_of_several_refused():
    a, b = np.array(VALUES), np.array([1.0, -1.0, 0.0])
    for frame in frames():
        np.testing.assert_array_equal(
            dl.relu(frame({"a": a, "b": b})), np.maximum(np.stack([a, b], axis=1), 0)
        )
        for other in (b.astype(np.float32), np.arange(3), np.array(["u", "v", "w"])):
            with pytest.raises(TypeError, match="columns of several dtypes"):
                dl.relu(frame({"a": a, "b": other}))
        with pytest.raises(TypeError, match="must be an array of numbers"):
            dl.relu(frame({"a": np.array(["u", "v", "w"])}))


def test_missing_integers_are_no_floats():
    pandas = pytest.importorskip("pandas")
    with pytest.raises(TypeError, match="missing values"):
        dl.relu(pandas.Series([1, None, 3], dtype="Int64"))
    column = pandas.Series(VALUES, dtype="Float64")
    assert dl.relu(column).tolist() == RELU
    column[1] = None
    assert np.isnan(dl.relu(column)[1])


@pytest.mark.parametrize("name", ["weight", "pos_weight"])
def test_weights_are_whatever_counts_as_an_array(name):
    x, t = np.array([[0.5, -1.0, 2.0], [0.0, 1.0, -2.0]]), np.array([[1.0, 0, 1], [0, 1, 0]])
    row = np.array([1.0, 2.0, 3.0])
    for function in (
        dl.binary_cross_entropy_with_logits,
        dl.binary_cross_entropy_with_logits_and_grad,
    ):
        first = lambda *args, f=function, **options: np.ravel(f(*args, **options))[:1]
        if function is dl.binary_cross_entropy_with_logits_and_grad:
            first = lambda *args, f=function, **options: f(*args, **options)[1]
        expected = [first(x, t, **{name: w}) for w in (row, np.array(2.0))]
        kinds = [WithArray, WithOldArray, WithDlpack, memoryview, lambda w: Lazy(-w, is_neg=True)]
        for kind in kinds:
            np.testing.assert_array_equal(first(x, t, **{name: kind(row)}), expected[0])
        np.testing.assert_array_equal(first(x, t, **{name: np.float64(2)}), expected[1])
        for bad in ([1.0, 2.0, 3.0], np.ma.masked_equal(row, 2)):
            with pytest.raises(TypeError, match=f"{name} must"):
                function(x, t, **{name: bad})


def test_masks_and_signs_are_seen_where_lists_are_taken_as_well():
    masked = np.ma.masked_equal([1.0, 2.0, 3.0], 2)
    for function in (dl.CrossEntropyLoss, dl.BCEWithLogitsLoss, dl.QuantileLoss):
        with pytest.raises(TypeError, match="must not be a masked array"):
            function(masked)
        with pytest.raises(TypeError, match="must hold numbers, not <U1"):
            function(["a", "b"])
    weight = np.array([0.5, 1.0, 2.0])
    lazy = dl.CrossEntropyLoss(Lazy(-weight, is_neg=True)).weight
    np.testing.assert_array_equal(lazy, weight)
    model = dl.Sequential(dl.Linear(3, 1, bias=False), dtype=np.float64, seed=0)
    before = model.state_dict()
    with pytest.raises(TypeError, match=r"load_state_dict: 0\.weight must not be a masked array"):
        model.load_state_dict({"0.weight": masked[None]})
    np.testing.assert_array_equal(model.state_dict()["0.weight"], before["0.weight"])
    model.load_state_dict({"0.weight": Lazy(-weight[None], is_neg=True)})
    np.testing.assert_array_equal(model[0].weight[0], weight)
    with pytest.raises(TypeError, match="quantile_loss: quantile must not be a masked array"):
        dl.quantile_loss(np.ones(3), np.ones(3), quantile=masked / 4)


def test_masks_are_seen_by_scalers_and_label_entropy():
    pytest.importorskip("sklearn")
    from dlcore.sklearn import MinMaxScaler, StandardScaler

    x, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 2
    masked = np.ma.masked_less(x, 3)
    for scaler in (StandardScaler, MinMaxScaler):
        for call in (scaler().fit, scaler().partial_fit, scaler().fit(x).transform):
            with pytest.raises(TypeError, match="X must not be a masked array"):
                call(masked)
    with pytest.raises(TypeError, match="label_entropy: labels must not be a masked array"):
        dl.label_entropy(np.ma.masked_equal(y, 1))
    with pytest.raises(TypeError, match="label_entropy: weight must not be a masked array"):
        dl.label_entropy(y, weight=np.ma.masked_equal(y, 1))
