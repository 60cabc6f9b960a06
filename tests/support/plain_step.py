"""A fit in plain NumPy, batch by batch: the specification of the native training step."""

import numpy as np

import dlcore as dl
from dlcore import reference
from support.networks import F64, quiet_fit


class PlainNetwork:
    """The layers of a model with parameters of its own, at first copies of the model's."""

    def __init__(self, model, dtype=None):
        self.layers = list(model.layers)
        self.dtype = np.dtype(dtype or model.dtype)
        self.parameters = {n: v.astype(self.dtype) for n, v in model.state_dict().items()}

    def forward(self, x):
        """Return x and the outputs of each layer."""
        values = [x.astype(self.dtype)]
        for i, layer in enumerate(self.layers):
            if isinstance(layer, dl.Linear):
                y = values[-1] @ self.parameters[f"{i}.weight"].T
                values.append(y + self.parameters[f"{i}.bias"] if layer.has_bias else y)
            else:
                values.append(getattr(reference, layer.kernel)(values[-1], **layer.options))
        return values

    def backward(self, values, slope):
        """Return the gradient of each parameter by name."""
        grads = {}
        for i, layer in reversed(list(enumerate(self.layers))):
            x = values[i]
            if isinstance(layer, dl.Linear):
                grads[f"{i}.weight"] = slope.T @ x
                grads[f"{i}.bias"] = slope.sum(0)
                with np.errstate(divide="ignore"):  # some BLAS of AArch64 report one
                    slope = slope @ self.parameters[f"{i}.weight"]
            else:
                slope = getattr(reference, f"{layer.kernel}_backward")(slope, x, **layer.options)
        return {name: grads[name] for name in self.parameters}


def row_masses(loss, y):
    """What each row adds to the denominator of the mean."""
    if not isinstance(loss, dl.CrossEntropyLoss) or y.ndim > 1:
        return np.ones(len(y))
    counts = y != loss.ignore_index
    weight = np.ones(int(y.max()) + 1) if loss.weight is None else loss.weight.astype(np.float64)
    return np.where(counts, weight[np.where(counts, y, 0).astype(int)], 0.0)


def loss_and_slope(loss, outputs, y, weight):
    """Sum of the weighted losses of the rows over their masses, and its gradient."""
    if y.ndim == 1 and not isinstance(loss, dl.CrossEntropyLoss):
        y = y[:, np.newaxis]
    y = y.astype(outputs.dtype) if y.dtype.kind == "f" else y.astype(np.int64)
    kernel = getattr(reference, f"{loss.kernel}_and_grad")
    losses, slope = kernel(outputs, y, reduction="none", **loss.options(outputs.dtype))
    losses = losses.reshape(len(y), -1)
    mass = float((weight * row_masses(loss, y)).sum())
    if mass == 0:
        return 0.0, None, 0.0
    share = weight / mass / losses.shape[1]
    value = float(share @ losses.astype(np.float64).sum(1))
    return value, (slope * share[:, np.newaxis]).astype(outputs.dtype), mass


def plain_fit(
    net, loss, optimizer, x, y, *, epochs, batch_size, weight=None, names=None, max_norm=None
):
    """Train ``net`` on consecutive rows; return the loss of each epoch.

    ``optimizer(params)`` makes the optimizer of the parameters ``names``. ``batch_size`` is that of
    an update, so accumulated batches are one here.
    """
    weight = np.ones(len(x)) if weight is None else weight.astype(np.float64)
    names = list(net.parameters) if names is None else names
    stepper = optimizer([net.parameters[name] for name in names])
    history = []
    for _ in range(epochs):
        total = masses = 0.0
        for start in range(0, len(x), batch_size):
            rows = slice(start, start + batch_size)
            values = net.forward(x[rows])
            value, slope, mass = loss_and_slope(loss, values[-1], y[rows], weight[rows])
            if slope is None:
                continue
            all_grads = net.backward(values, slope)
            grads = [all_grads[name] for name in names]
            if max_norm is not None:
                reference.clip_grad_norm(grads, max_norm)
            stepper.step(grads)
            total, masses = total + value * mass, masses + mass
        history.append(total / masses)
    return history


def check_fit(
    model,
    loss,
    x,
    y,
    *,
    make=lambda library, params: library.SGD(params, lr=0.05, momentum=0.9),
    epochs=8,
    batch_size=16,
    accumulate=1,
    max_norm=None,
    names=None,
    weight=None,
    frozen=(),
    **options,
):
    """Fit the model natively and plainly; losses and parameters must agree."""
    net = PlainNetwork(model)
    for name in frozen:
        model.freeze(name)
    own = model.named_parameters()
    held = list(own) if names is None else names
    optimizer = make(dl, [own[name] for name in held])
    trainer = dl.Trainer(
        model, loss=loss, optimizer=optimizer, accumulate=accumulate, clip_grad_norm=max_norm
    )
    history = quiet_fit(
        trainer, x, y, epochs, batch_size=batch_size, **({"sample_weight": weight} | options)
    )
    weight = options.pop("plain_weight", weight)
    expected = plain_fit(
        net,
        trainer.loss,
        lambda params: make(reference, params),
        x,
        y,
        epochs=epochs,
        batch_size=batch_size * accumulate,
        weight=weight,
        names=[name for name in held if name not in model.frozen],
        max_norm=max_norm,
    )
    tight = model.dtype == F64
    np.testing.assert_allclose(history["loss"], expected, rtol=1e-10 if tight else 1e-4)
    for name, value in model.named_parameters().items():
        size = 1 + np.abs(net.parameters[name]).max()
        np.testing.assert_allclose(
            value, net.parameters[name], rtol=0, atol=size * (1e-9 if tight else 5e-4), err_msg=name
        )
