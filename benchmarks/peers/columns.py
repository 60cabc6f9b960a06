"""What libraries want done to the columns of a data frame first; no library, as ``settings``.

Frames have numbers, NaN where one is missing, and categories that are texts.
"""

import numpy as np


def names(frame):
    """Return the names of the columns of numbers and of those of categories."""
    categories = list(frame.columns[[dtype == "category" for dtype in frame.dtypes]])
    return [name for name in frame if name not in set(categories)], categories


class Known:
    """Categories as they were in the rows of a fit; others are missing, and so are rare ones.

    At most `most` of a column are known, the frequent ones. Columns are called c0, c1, ...: some
    libraries read more into a name.
    """

    def __init__(self, most=None):
        self.most = most

    def fit(self, frame):
        _, categories = names(frame)
        self.levels_ = {
            name: list(frame[name].value_counts()[lambda counts: counts > 0].index[: self.most])
            for name in categories
        }
        return self

    def transform(self, frame):
        import pandas as pd

        columns = {
            name: frame[name].cat.set_categories(self.levels_[name])
            if name in self.levels_
            else frame[name]
            for name in frame
        }
        return pd.DataFrame(columns, index=frame.index).set_axis(
            [f"c{i}" for i in range(len(columns))], axis=1
        )


class Filled:
    """Medians in the place of missing numbers, with a column that says so, and categories as texts.

    For libraries whose networks take no missing numbers.
    """

    def fit(self, frame):
        self.numbers_, self.categories_ = names(frame)
        self.medians_ = frame[self.numbers_].median().fillna(0)
        self.missing_ = [name for name in self.numbers_ if frame[name].isna().any()]
        return self

    def transform(self, frame):
        import pandas as pd

        numbers = frame[self.numbers_].fillna(self.medians_)
        marks = frame[self.missing_].isna().astype(np.float64).add_suffix(" is missing")
        texts = frame[self.categories_].astype(object)
        texts = texts.where(texts.notna(), "missing").astype(str).astype("category")
        return pd.concat([numbers, marks, texts], axis=1)


class Prepared:
    """An estimator that is given the columns as it wants them, with scikit-learn's methods."""

    def __init__(self, columns, estimator, **fit):
        self.columns, self.estimator, self.options = columns, estimator, fit

    def fit(self, frame, y):
        self.estimator.fit(self.columns.fit(frame).transform(frame), y, **self.options)
        return self

    def predict(self, frame):
        return self.estimator.predict(self.columns.transform(frame))

    def predict_proba(self, frame):
        return self.estimator.predict_proba(self.columns.transform(frame))


def one_hot(frame):
    """Return scikit-learn's transformer of a frame to standardized numbers and one-hot columns."""
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    numbers, categories = names(frame)
    return make_column_transformer(
        (
            make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()),
            numbers,
        ),
        (
            OneHotEncoder(
                handle_unknown="infrequent_if_exist", max_categories=255, sparse_output=False
            ),
            categories,
        ),
    )


class OneHot:
    """Standardized numbers and one-hot columns, for plain networks."""

    def __init__(self, dtype):
        self.dtype = dtype

    def fit(self, frame):
        self.transformer_ = one_hot(frame).fit(frame)
        return self

    def transform(self, frame):
        return np.ascontiguousarray(self.transformer_.transform(frame), self.dtype)


def perceptron(library, regression, seed, dtype):
    """Return a library's MLPClassifier or MLPRegressor with its defaults, targets standardized."""
    if not regression:
        return Prepared(OneHot(dtype), library.MLPClassifier(random_state=seed))
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.preprocessing import StandardScaler

    network = library.MLPRegressor(random_state=seed)
    return Prepared(
        OneHot(dtype),
        TransformedTargetRegressor(network, transformer=StandardScaler(), check_inverse=False),
    )
