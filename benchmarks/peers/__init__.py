"""The libraries, a module each, imported by the process of that library alone.

A module has ``library``, what it imports, for the version, and what it can do of:

``KERNELS``
    for each kernel the ways to call it, ``{way: prepare}``: the fastest on a case stands for the
    library. ``prepare(*inputs)`` takes the NumPy inputs of a case and returns a call without
    arguments, which returns the results;
``to_numpy``
    turns a result of a kernel into a NumPy array;
``functions``
    what has the kernels of dlcore by their names, for the registry of the tests;
``train(case)``
    returns a call without arguments that trains one epoch and returns its mean loss as a number,
    weighted by rows: the network begins with ``case.parameters()`` and goes on with each call;
``infer(case, x)``
    returns a call without arguments that returns the outputs for x;
``product(case, x, weight, dy)``
    returns a call without arguments that returns x @ weight.T, or backward dy @ weight and
    dy.T @ x;
``estimators()``
    returns what has the estimators by scikit-learn's names;
``tables(method, regression, seed, threads)``
    returns what learns tables, one of the library's methods that ``suites.tabular.methods`` names:
    ``fit(frame, y)`` takes a data frame with numbers and categories, and class codes or numbers,
    and ``predict_proba(frame)`` or ``predict(frame)`` follows. ``columns`` has what several do.

To add a library is to add a module, and its name to ``peers`` of the suites that it has a part in.
``peak`` and ``stream`` are no libraries, but the limits of the machine.
"""
