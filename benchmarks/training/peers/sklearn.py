"""scikit-learn's networks: ``partial_fit`` is an epoch, shuffled, in mini-batches.

They draw their own initial weights, and of two classes they make one output.
"""

import numpy as np
import sklearn as library
from cases import BETAS, EPS, MOMENTUM, RATES
from sklearn.neural_network import MLPClassifier, MLPRegressor

library.set_config(assume_finite=True, skip_parameter_validation=True)


def train(case):
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
