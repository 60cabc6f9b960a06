"""scikit-learn's estimators with dlcore's kernels: drop-in replacements, and more.

``from dlcore.sklearn import MLPClassifier, MLPRegressor, StandardScaler, MinMaxScaler`` is the only
line to change. Needs scikit-learn 1.6 or later, which only this module imports.
"""

from dlcore._native import threadpools
from dlcore.sklearn._versions import check_versions

check_versions()

from dlcore.sklearn._classifier import MLPClassifier
from dlcore.sklearn._regressor import MLPRegressor
from dlcore.sklearn._scalers import MinMaxScaler, StandardScaler
from dlcore.sklearn._table_encoder import TableEncoder
from dlcore.sklearn._tabular_classifier import TabularClassifier
from dlcore.sklearn._tabular_regressor import TabularRegressor

threadpools.register()  # scikit-learn has loaded threadpoolctl

__all__ = [
    "MLPClassifier",
    "MLPRegressor",
    "MinMaxScaler",
    "StandardScaler",
    "TableEncoder",
    "TabularClassifier",
    "TabularRegressor",
]
