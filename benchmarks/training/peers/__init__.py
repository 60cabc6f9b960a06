"""The libraries, a module each, imported by the worker process of that library alone.

A module has

``library``
    what it imports, for the version;
``train(case)``
    returns a call without arguments that trains one epoch and returns its mean loss as a number,
    weighed by rows: the network begins with ``case.parameters()`` and goes on with each call;
``infer(case, x)``
    returns a call without arguments that returns the outputs for x;
``product(case, x, weight, dy)``
    returns a call without arguments that returns x @ weight.T, or backward dy @ weight and
    dy.T @ x.

Any may be missing. To add a library is to add a module, and its name below.
"""

TRAINING = ("jax", "torch", "torch_compile", "sklearn", "numpy")
INFERENCE = ("onnxruntime", "torch", "numpy")
PRODUCTS = ("openblas",)
