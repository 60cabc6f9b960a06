"""The network of digits.py without `Sequential` and `Trainer`: the kernels called by hand."""

import numpy as np
from digits import BATCH_SIZE, MIN_DELTA, PATIENCE, SMOOTHING, load_data

import dlcore as dl


def forward(x, params):
    w1, b1, w2, b2, w3, b3 = params
    z1 = x @ w1.T + b1
    h1 = dl.relu(z1)
    z2 = h1 @ w2.T + b2
    h2 = dl.relu(z2)
    return z1, h1, z2, h2, h2 @ w3.T + b3


def train_by_hand(x, y, x_val, y_val, epochs, seed=0):
    rng, params = np.random.default_rng(seed), []
    for fan_in, fan_out in ((64, 128), (128, 64), (64, 10)):
        for shape in ((fan_out, fan_in), (fan_out,)):
            uniform = rng.uniform(-1 / np.sqrt(fan_in), 1 / np.sqrt(fan_in), shape)
            params.append(uniform.astype(np.float32))
    _, _, w2, _, w3, _ = params
    adam, rng, best, waited = dl.Adam(params, lr=1e-3), np.random.default_rng(seed), np.inf, 0
    for epoch in range(epochs):
        order = rng.permutation(len(x))
        for start in range(0, len(x), BATCH_SIZE):
            rows = order[start : start + BATCH_SIZE]
            z1, h1, z2, h2, logits = forward(x[rows], params)
            _, d3 = dl.cross_entropy_and_grad(logits, y[rows], label_smoothing=SMOOTHING)
            d2 = dl.relu_backward(d3 @ w3, z2)
            d1 = dl.relu_backward(d2 @ w2, z1)
            adam.step([d1.T @ x[rows], d1.sum(0), d2.T @ h1, d2.sum(0), d3.T @ h2, d3.sum(0)])
        logits = forward(x_val, params)[-1]
        loss = float(dl.cross_entropy(logits, y_val, label_smoothing=SMOOTHING))
        print(f"epoch {epoch + 1}  val_loss {loss:.4f}")
        waited += 1
        if loss + MIN_DELTA < best:
            best, best_params, waited = loss, [p.copy() for p in params], 0
        if waited == PATIENCE:
            break
    return best_params


def main():
    train, validation, (x_test, y_test) = load_data()
    params = train_by_hand(*train, *validation, epochs=200)
    accuracy = np.mean(forward(x_test, params)[-1].argmax(1) == y_test)
    print(f"test accuracy {100 * accuracy:.2f} %")


if __name__ == "__main__":
    main()
