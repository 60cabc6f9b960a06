"""Initial values of weights, for arrays; `dlcore.initialize` is for models."""

from dlcore.nn._initialization import *
