"""Entropies and cross-entropies of distributions and of labels."""

from dlcore.functional._information import *
