"""The libraries, a module each, imported by the worker process of that library alone.

A module has

``library``
    what it imports, for the version;
``CALLS``
    for each kernel the ways to call it, ``{way: prepare}``: the fastest on a case stands for the
    library. ``prepare(*inputs)`` takes the NumPy inputs of a case and returns a call without
    arguments, which returns the results;
``to_numpy``
    turns a result into a NumPy array.

To add a library is to add a module, and its name to ``PEERS``.
"""

PEERS = ("numpy", "sklearn", "torch", "torch_compile", "jax")
