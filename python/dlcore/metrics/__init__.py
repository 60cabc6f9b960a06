"""Metrics by name, and scikit-learn's scorers: how good outputs are, beside the loss."""

from dlcore.metrics._named import metric_named

__all__ = ["metric_named"]
