"""Metrics by name, and scikit-learn's scorers."""
