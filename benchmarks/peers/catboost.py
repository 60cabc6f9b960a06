"""CatBoost with its defaults: 1000 trees, no early stopping."""

import catboost as library

from benchmarks.peers.columns import names


def tables(method, regression, seed, threads):
    estimator = library.CatBoostRegressor if regression else library.CatBoostClassifier
    options = {"random_seed": seed, "thread_count": threads}
    return Texts(estimator(verbose=0, allow_writing_files=False, **options))


class Texts:
    """Categories as texts, also the missing ones, and named in the fit."""

    def __init__(self, estimator):
        self.estimator = estimator

    def fit(self, frame, y):
        self.estimator.fit(self.texts(frame), y, cat_features=names(frame)[1])
        return self

    def predict(self, frame):
        return self.estimator.predict(self.texts(frame))

    def predict_proba(self, frame):
        return self.estimator.predict_proba(self.texts(frame))

    def texts(self, frame):
        categories = names(frame)[1]
        return frame.assign(
            **{
                name: frame[name].astype(object).where(frame[name].notna(), "missing")
                for name in categories
            }
        )
