"""dlcore's estimators of tables as AutoGluon knows models, so that TabArena can judge them.

    predictor = TabularPredictor(label="class").fit(train, hyperparameters={DlcoreModel: {}})

The hyperparameters are the parameters of `dlcore.sklearn.TabularClassifier` and `TabularRegressor`:
``{DlcoreModel: {"recipe": "tabm", "members": 2}}``.
"""

import time

from autogluon.core.models import AbstractModel

import dlcore as dl

# Metrics of AutoGluon that are of decisions; all others are of probabilities.
OF_DECISIONS = ("accuracy", "balanced_accuracy", "f1", "f1_macro", "f1_micro", "mcc")
SHARE = 0.9  # of the time that is left, for the networks; the rest is for the columns


class DlcoreModel(AbstractModel):
    """A network for tables, fitted as RealMLP or TabM.

    Categories, texts, and missing values go to the estimator as they are; the rows that AutoGluon
    holds out find the best epoch and the temperature. Without such rows, as where it fits all rows
    anew, the networks are trained to the end of the schedule.
    """

    ag_key = "DLCORE"
    ag_name = "dlcore"
    seed_name = "random_state"
    _supported_problem_types = ("binary", "multiclass", "regression")
    default_resources_physical_cores_only = True

    @classmethod
    def supported_problem_types(cls):
        return list(cls._supported_problem_types)

    def _set_default_params(self):
        for name, value in {"recipe": "realmlp", "members": 1}.items():
            self._set_default_param_value(name, value)

    def _fit(
        self,
        X,
        y,
        X_val=None,
        y_val=None,
        time_limit=None,
        sample_weight=None,
        num_cpus=1,
        **kwargs,  # noqa: ARG002 - what else AutoGluon gives
    ):
        start = time.monotonic()
        from dlcore.sklearn import TabularClassifier, TabularRegressor

        parameters = self._get_model_params()
        if self.problem_type == "regression":
            estimator = TabularRegressor
        else:
            estimator = TabularClassifier
            decides = self.stopping_metric.name in OF_DECISIONS
            parameters.setdefault("validation_metric", "accuracy" if decides else "log_loss")
        x = self.preprocess(X, y=y)
        validation = None if X_val is None else (self.preprocess(X_val), y_val.to_numpy())
        if validation is None:
            parameters["validation_fraction"] = 0.0
        if time_limit is not None:
            left = time_limit - (time.monotonic() - start)
            parameters["time_limit"] = max(0.001, SHARE * left)
        self._threads = self._known_threads(num_cpus)
        with dl.num_threads(self._threads):
            self.model = estimator(**parameters).fit(
                x,
                y.to_numpy(),
                sample_weight=sample_weight,
                validation_data=validation,
            )

    @staticmethod
    def _known_threads(num_cpus):
        """Return the threads to compute with: no more than this process may have."""
        most = dl.get_num_threads()
        return min(num_cpus, most) if isinstance(num_cpus, int) and num_cpus >= 1 else most

    def _predict_proba(self, X, **kwargs):
        with dl.num_threads(self._threads):
            return super()._predict_proba(X, **kwargs)
