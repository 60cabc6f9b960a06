"""Statistics and normalizers of rows that are those of several ranks: what all rows at once give."""

import re

import numpy as np
import pytest

import dlcore as dl
from support.ranks import on_ranks

RNG = np.random.default_rng(0)
X = np.exp(RNG.normal(size=(500, 4))) * [1, 1e-3, 1e8, 1] + [0, 0, 1e12, 0]
X[RNG.random(X.shape) < 0.05] = np.nan
X[:, 3] = 7  # constant
Y = np.nan_to_num(X[:, 0]) + RNG.normal(size=500)
# Uneven, and one rank of four without rows.
CUTS = {1: [0, 500], 2: [0, 180, 500], 3: [0, 1, 77, 500], 4: [0, 100, 100, 420, 500]}


def own(rows, comm):
    """Return the rows of a rank."""
    cuts = CUTS[comm.size]
    return rows[cuts[comm.rank] : cuts[comm.rank + 1]]


def values(stats):
    """Return all that is known of columns, as bytes."""
    names = getattr(type(stats), "_fields", ("count", "mean", "var", "min", "max", "std"))
    return b"".join(np.asarray(getattr(stats, name)).tobytes() for name in names)


@pytest.mark.parametrize("size", CUTS)
def test_column_stats(size):
    merged = on_ranks(size, lambda comm: dl.column_stats(own(X, comm), comm=comm))
    assert len({values(stats) for stats in merged}) == 1
    whole = dl.column_stats(X)
    for name in ("count", "min", "max"):
        np.testing.assert_array_equal(getattr(merged[0], name), getattr(whole, name))
    np.testing.assert_allclose(merged[0].mean, whole.mean, rtol=1e-15)
    np.testing.assert_allclose(merged[0].var, whole.var, rtol=1e-12)
    again = on_ranks(size, lambda comm: dl.column_stats(own(X, comm), comm=comm))
    assert values(again[0]) == values(merged[0])


def test_column_stats_without_a_row():
    stats = on_ranks(2, lambda comm: dl.column_stats(np.empty((0, 3)), comm=comm))
    assert [one.count.tolist() for one in stats] == [[0, 0, 0]] * 2


def test_other_columns_are_an_error_on_all_ranks():
    errors = on_ranks(3, lambda comm: dl.column_stats(X[:, : 4 - comm.rank // 2], comm=comm))
    said = (
        "column_stats: the number of columns of x must be the same on all ranks: "
        "4 on rank 0, 3 on rank 2"
    )
    assert [str(error) for error in errors] == [said] * 3
    assert all(isinstance(error, ValueError) for error in errors)


def test_an_error_of_one_rank_is_one_of_all():
    first, second = on_ranks(
        2,
        lambda comm: dl.column_stats(
            np.nan_to_num(X).astype("i8" if comm.rank else "f8"), comm=comm
        ),
    )
    assert isinstance(first, TypeError)
    assert isinstance(second, TypeError)
    assert str(first) == str(second)
    assert str(first).startswith("rank 1 of 2: column_stats: ")


COLUMNWISE = {
    "robust": dl.RobustNormalizer,
    "quantile": dl.QuantileNormalizer,
    "quantile without noise": lambda: dl.QuantileNormalizer(77, noise=0),
    "bins": dl.PiecewiseLinearEncoding,
}
MERGED = {"minmax": dl.MinMaxNormalizer, "zscore": dl.ZScoreNormalizer}
ALL = COLUMNWISE | MERGED


@pytest.mark.parametrize("size", CUTS)
@pytest.mark.parametrize("kind", ALL)
def test_normalizers(kind, size):
    fitted = on_ranks(size, lambda comm: ALL[kind]().fit(own(X, comm), comm=comm))
    whole = ALL[kind]().fit(X)
    assert [normalizer.n_samples_seen_ for normalizer in fitted] == [500] * size
    assert len({values(normalizer.stats_) for normalizer in fitted}) == 1
    if kind == "zscore":
        np.testing.assert_allclose(fitted[0].transform(X), whole.transform(X), rtol=1e-9)
    else:
        assert values(fitted[0].stats_) == values(whole.stats_)
        np.testing.assert_array_equal(fitted[0].transform(X), whole.transform(X))


@pytest.mark.parametrize("size", CUTS)
def test_bins_by_trees(size):
    pytest.importorskip("sklearn")

    def encoding():
        return dl.PiecewiseLinearEncoding(8, tree_kwargs={"min_samples_leaf": 9}, regression=True)

    fitted = on_ranks(size, lambda comm: encoding().fit(own(X, comm), own(Y, comm), comm=comm))
    whole = encoding().fit(X, Y)
    assert {values(one.stats_) for one in fitted} == {values(whole.stats_)}
    assert whole.n_features_out_ > 8


def test_bins_by_trees_need_the_target_of_each_rank():
    encoding = dl.PiecewiseLinearEncoding(8, tree_kwargs={}, regression=True)
    first, second = on_ranks(
        2, lambda comm: encoding.fit(own(X, comm), Y[:3] if comm.rank else own(Y, comm), comm=comm)
    )
    said = "rank 1 of 2: PiecewiseLinearEncoding.fit: y must have shape (320,), got (3,)"
    assert [str(first), str(second)] == [said] * 2


@pytest.mark.parametrize("kind", MERGED)
def test_streams_of_several_ranks(kind):
    def fitted(comm):
        normalizer = MERGED[kind]()
        rows = own(X, comm)  # none of rank 1
        for start in range(0, len(rows), 30 + comm.rank):
            normalizer.partial_fit(rows[start : start + 30 + comm.rank])
        assert (normalizer.merge(comm)) is normalizer
        return normalizer

    each = on_ranks(4, fitted)
    assert [normalizer.n_samples_seen_ for normalizer in each] == [500] * 4
    assert len({values(normalizer.stats_) for normalizer in each}) == 1
    whole = MERGED[kind]().fit(X)
    np.testing.assert_allclose(each[1].transform(X), whole.transform(X), rtol=1e-9)


@pytest.mark.parametrize("kind", ALL)
def test_rows_that_do_not_fit_are_an_error_on_all_ranks(kind):
    infinite = np.where(np.arange(4) == 2, np.inf, np.ones((5, 4)))
    cases = {
        "has other columns": [X, X[:, :3]],
        "is infinite": [X, infinite],
        "is no array": [X, [[1.0]]],
        "has no row anywhere": [X[:0], X[:0]],
    }

    def refit(rows):
        def on_rank(comm):
            normalizer = ALL[kind]().fit(X)
            before = values(normalizer.stats_)
            try:
                normalizer.fit(rows[comm.rank], comm=comm)
            except (TypeError, ValueError) as error:
                return str(error), values(normalizer.stats_) == before
            return None

        return on_ranks(2, on_rank)

    for name, rows in cases.items():
        for error, is_as_before in refit(rows):
            assert is_as_before, name
            assert re.match(rf"(rank 1 of 2: )?{type(ALL[kind]()).__name__}\.fit", error), name


@pytest.mark.parametrize("kind", MERGED)
def test_streams_that_do_not_fit(kind):
    def nothing(comm):
        MERGED[kind]().merge(comm)

    def other_columns(comm):
        MERGED[kind]().partial_fit(X[:, : 4 - comm.rank]).merge(comm)

    name = MERGED[kind].__name__
    assert [str(error) for error in on_ranks(2, nothing)] == [
        f"{name}.merge: no rank has fitted anything yet; call partial_fit first"
    ] * 2
    said = (
        f"{name}.merge: the number of columns must be the same on all ranks: "
        "4 on rank 0, 3 on rank 1"
    )
    assert [str(error) for error in on_ranks(2, other_columns)] == [said] * 2


def test_comm_is_a_communicator():
    with pytest.raises(TypeError, match="comm must be a communicator"):
        dl.ZScoreNormalizer().fit(X, comm=4)
