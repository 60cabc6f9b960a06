"""What holds for any input, tried on inputs that hypothesis looks for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays, basic_indices

import dlcore as dl
from support.cases import CASES, DTYPES

dtypes = st.sampled_from(DTYPES)
ELEMENTWISE = [case for case in CASES if case.kind == "activation" and not case.label]


def logits(dtype, shape, bound=50.0):
    width = np.dtype(dtype).itemsize * 8
    return arrays(dtype, shape, elements=st.floats(-bound, bound, width=width))


@st.composite
def tables(draw):
    """Draw a 2-D array of logits."""
    shape = draw(st.integers(1, 40)), draw(st.integers(1, 70))
    return draw(logits(draw(dtypes), shape))


@st.composite
def views(draw):
    """Draw a view with any strides into an array."""
    shape = draw(st.tuples(*[st.integers(1, 9)] * draw(st.integers(1, 4))))
    x = draw(logits(draw(dtypes), shape))
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    return x[draw(basic_indices(x.shape, allow_ellipsis=True))]


@pytest.mark.parametrize("case", ELEMENTWISE, ids=str)
@given(view=views())
def test_a_view_gives_the_bits_of_its_copy(case, view):
    view = np.asarray(view)
    copy = np.array(view, order="C")
    names = case.inputs((1,), np.float32)
    (a,), (b,) = case.run(dict.fromkeys(names, view)), case.run(dict.fromkeys(names, copy))
    assert a.shape == view.shape
    assert a.tobytes() == b.tobytes()


@given(view=views(), axis=st.integers(-4, 3))
def test_softmax_of_a_view(view, axis):
    view = np.asarray(view)
    if not -view.ndim <= axis < view.ndim:
        return
    for f in (dl.softmax, dl.log_softmax):
        assert f(view, axis).tobytes() == f(np.array(view, order="C"), axis).tobytes()


@given(x=tables())
def test_softmax_is_a_distribution(x):
    p = dl.softmax(x)
    eps = np.finfo(x.dtype).eps
    assert (p >= 0).all()
    assert (p <= 1).all()
    np.testing.assert_allclose(p.sum(1, dtype=np.float64), 1, rtol=8 * eps)
    np.testing.assert_allclose(np.exp(dl.log_softmax(x)), p, rtol=200 * eps)


@given(x=tables(), data=st.data())
def test_an_index_is_a_one_hot_probability(x, data):
    n, classes = x.shape
    target = data.draw(arrays(np.int64, n, elements=st.integers(0, classes - 1)))
    one_hot = (target[:, None] == np.arange(classes)).astype(x.dtype)
    smoothing = data.draw(st.sampled_from([0.0, 0.1, 1.0]))
    a = dl.cross_entropy_and_grad(x, target, label_smoothing=smoothing)
    b = dl.cross_entropy_and_grad(x, one_hot, label_smoothing=smoothing)
    eps = np.finfo(x.dtype).eps
    np.testing.assert_allclose(a[0], b[0], rtol=20 * eps)
    np.testing.assert_allclose(a[1], b[1], rtol=20 * eps, atol=8 * eps / n)


@given(x=tables(), data=st.data())
def test_cross_entropy_is_nll_of_log_softmax(x, data):
    target = data.draw(arrays(np.int32, len(x), elements=st.integers(0, x.shape[1] - 1)))
    loss = dl.nll_loss(dl.log_softmax(x), target)
    np.testing.assert_allclose(dl.cross_entropy(x, target), loss, rtol=20 * np.finfo(x.dtype).eps)


@given(x=tables(), data=st.data())
def test_merging_does_not_depend_on_the_split(x, data):
    split = data.draw(st.integers(0, len(x)))
    whole = dl.column_stats(x)
    merged = dl.column_stats(x[:split]).merge(dl.column_stats(x[split:]))
    assert np.array_equal(whole.count, merged.count)
    size = 1 + np.abs(x).max()
    np.testing.assert_allclose(merged.mean, whole.mean, atol=1e-14 * size)
    np.testing.assert_allclose(merged.var, whole.var, rtol=1e-12, atol=1e-14 * size**2)


@pytest.mark.parametrize("name", ["MinMaxNormalizer", "ZScoreNormalizer"])
@given(x=tables())
def test_normalizers_go_there_and_back(name, x):
    normalizer = getattr(dl, name)().fit(x)
    back = normalizer.inverse_transform(normalizer.transform(x))
    size = 1 + np.abs(x).max()
    np.testing.assert_allclose(back, x, atol=16 * np.finfo(x.dtype).eps * size)
