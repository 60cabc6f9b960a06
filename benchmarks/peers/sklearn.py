"""scikit-learn: its scalers as kernels, and its networks, where ``partial_fit`` is an epoch.

Kernels and epochs go without its checks of values and parameters; its estimators, timed as such,
have them. Its networks draw their own initial weights, and of two classes they make one output.
"""

from functools import partial
from types import SimpleNamespace

import numpy as np
import sklearn as library
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from benchmarks.peers.columns import Known, Prepared, perceptron
from benchmarks.settings import BETAS, EPS, MOMENTUM, RATES

to_numpy = np.asarray


def without_checks():
    library.set_config(assume_finite=True, skip_parameter_validation=True)


def fit(scaler, results, x):
    without_checks()
    s = scaler()

    def run():
        s.fit(x)
        return [getattr(s, name) for name in results]

    return run


def transform(scaler, x, *_):
    without_checks()
    return partial(scaler().fit(x).transform, x)


KERNELS = {
    "z_score_fit": {"StandardScaler": partial(fit, StandardScaler, ("mean_", "var_"))},
    "min_max_fit": {"MinMaxScaler": partial(fit, MinMaxScaler, ("data_min_", "data_max_"))},
    "z_score_transform": {"StandardScaler": partial(transform, StandardScaler)},
    "min_max_transform": {"MinMaxScaler": partial(transform, MinMaxScaler)},
}


def train(case):
    without_checks()
    x, y = case.data()
    regression = case.loss == "mse"
    model = (MLPRegressor if regression else MLPClassifier)(
        hidden_layer_sizes=case.widths[1:-1],
        solver=case.optimizer,
        alpha=0,
        batch_size=case.batch,
        learning_rate_init=RATES[case.optimizer],
        momentum=MOMENTUM,
        nesterovs_momentum=False,
        beta_1=BETAS[0],
        beta_2=BETAS[1],
        epsilon=EPS,
        random_state=0,
    )
    if regression:
        y = y.squeeze()  # one column is a vector there
        return lambda: 2 * model.partial_fit(x, y).loss_  # its loss is half the mean square
    classes = np.arange(case.widths[-1])
    return lambda: model.partial_fit(x, y, classes=classes).loss_


def estimators():
    return SimpleNamespace(
        MinMaxScaler=MinMaxScaler,
        MLPClassifier=MLPClassifier,
        MLPRegressor=MLPRegressor,
        StandardScaler=StandardScaler,
    )


def tables(method, regression, seed, threads):
    if method == "mlp":
        return perceptron(estimators(), regression, seed, np.float64)
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    trees = HistGradientBoostingRegressor if regression else HistGradientBoostingClassifier
    # 255 is the most that its bins take, of which one is for the missing ones.
    columns = Known(most=254)
    return Prepared(columns, trees(categorical_features="from_dtype", random_state=seed))
