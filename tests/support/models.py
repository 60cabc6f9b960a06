"""What tests of layers do with models: slopes along directions, and the ways in which models travel."""

import copy
import pickle

import dlcore as dl


def slope(value, array, direction, h=1e-6):
    """Return the central difference of value() where an array that it reads goes in a direction."""
    array += h * direction
    above = value()
    array -= 2 * h * direction
    below = value()
    array += h * direction
    return (above - below) / (2 * h)


def copies_of(model, folder, **options):
    """Return a deep copy, an unpickled one and one that a file was loaded into."""
    dl.save(model, folder / "model")
    loaded = dl.load(folder / "model", **options)
    return copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded
