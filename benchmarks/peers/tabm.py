"""The tabm package, trained as its example does, and with PyTorch on the CPU.

``tabm`` has no embeddings of numbers, ``tabm_ple`` piecewise-linear ones of 16 numbers.
Quantiles to a normal distribution, AdamW at 0.002 with a decay of 0.0003, batches of 256, the
gradient's norm clipped at 1, and the best epoch by a fifth of the rows, until 16 epochs are no
better.
"""

import copy

import numpy as np
import rtdl_num_embeddings
import tabm as library
import torch
from sklearn.preprocessing import OrdinalEncoder, QuantileTransformer

from benchmarks.peers.columns import Filled, names

BATCH, PATIENCE, RATE, DECAY, CLIP = 256, 16, 2e-3, 3e-4, 1.0
VALIDATION = 0.2
ROWS = 8192  # of a prediction's batch
NOISE = 1e-5  # beside which equal numbers have quantiles of their own
BINS, WIDTH = 48, 16


def tables(method, regression, seed, threads):
    torch.set_num_threads(threads)
    return Network(method, regression, seed)


def members(case):
    """Return a function that makes the steps of a turn and returns their mean loss."""
    x, y = map(torch.from_numpy, case.data())
    model = library.TabM.make(
        n_num_features=case.in_features,
        d_out=case.out_features,
        k=case.k,
        n_blocks=len(case.blocks),
        d_block=case.blocks[0],
        dropout=0.1,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)

    def steps():
        losses = []
        for rows in torch.randperm(len(x)).split(case.batch):
            optimizer.zero_grad()
            outputs = model(x[rows])
            targets = y[rows].repeat_interleave(case.k)
            loss = torch.nn.functional.cross_entropy(outputs.flatten(0, 1), targets)
            loss.backward()
            optimizer.step()
            losses.append(float(loss.detach()))
        return sum(losses) / len(losses)

    return steps


class Columns:
    """Numbers by their quantiles, and codes of categories, one of which is for unknown ones."""

    def fit(self, frame, rng):
        self.filled_ = Filled().fit(frame)
        full = self.filled_.transform(frame)
        self.numbers_, self.categories_ = names(full)
        x = full[self.numbers_].to_numpy(np.float32)
        if self.numbers_:
            few = max(min(len(x) // 30, 1000), 10)
            self.quantiles_ = QuantileTransformer(
                n_quantiles=min(few, len(x)), output_distribution="normal", subsample=10**9
            ).fit(x + rng.normal(0, NOISE, x.shape).astype(np.float32))
        if self.categories_:
            self.codes_ = OrdinalEncoder(
                handle_unknown="use_encoded_value", unknown_value=-1, dtype=np.int64
            ).fit(full[self.categories_])
        self.cardinalities_ = [
            len(own) + 1 for own in (self.codes_.categories_ if self.categories_ else [])
        ]
        return self

    def transform(self, frame):
        full = self.filled_.transform(frame)
        x = codes = None
        if self.numbers_:
            x = self.quantiles_.transform(full[self.numbers_].to_numpy(np.float32))
            x = torch.from_numpy(x.astype(np.float32))
        if self.categories_:
            codes = self.codes_.transform(full[self.categories_])
            last = np.array(self.cardinalities_) - 1
            codes = torch.from_numpy(np.where(codes < 0, last, codes))
        return x, codes


class Network:
    """A TabM with scikit-learn's methods."""

    def __init__(self, method, regression, seed):
        self.method, self.regression, self.seed = method, regression, seed

    def fit(self, frame, y):
        rng = np.random.default_rng(self.seed)
        torch.manual_seed(self.seed)
        order = rng.permutation(len(y))
        validation, train = np.split(order, [round(VALIDATION * len(y))])
        self.columns_ = Columns().fit(frame.iloc[train], rng)
        inputs = self.columns_.transform(frame)
        if self.regression:
            self.mean_, self.scale_ = y[train].mean(), y[train].std() or 1.0
            targets = torch.from_numpy(((y - self.mean_) / self.scale_).astype(np.float32))
        else:
            targets = torch.from_numpy(y)
        self.model_ = self.network(take(inputs, train)[0], y)
        optimizer = torch.optim.AdamW(self.model_.parameters(), lr=RATE, weight_decay=DECAY)
        best, since = (np.inf, None), 0
        while since < PATIENCE:
            self.model_.train()
            shuffled = rng.permutation(train)
            for start in range(0, len(train), BATCH):
                rows = shuffled[start : start + BATCH]
                optimizer.zero_grad()
                self.loss(self.model_(*take(inputs, rows)), targets[rows]).backward()
                torch.nn.utils.clip_grad_norm_(self.model_.parameters(), CLIP)
                optimizer.step()
            since += 1
            error = self.error(self.outputs(take(inputs, validation)), targets[validation])
            if error < best[0]:
                best, since = (error, copy.deepcopy(self.model_.state_dict())), 0
        if best[1] is not None:
            self.model_.load_state_dict(best[1])
        return self

    def network(self, numbers, y):
        embeddings = None
        if self.method == "tabm_ple" and numbers is not None:
            embeddings = rtdl_num_embeddings.PiecewiseLinearEmbeddings(
                rtdl_num_embeddings.compute_bins(numbers, n_bins=min(BINS, len(numbers) - 1)),
                WIDTH,
                activation=False,
                version="B",
            )
        return library.TabM.make(
            n_num_features=0 if numbers is None else numbers.shape[1],
            cat_cardinalities=self.columns_.cardinalities_ or None,
            d_out=1 if self.regression else int(y.max()) + 1,
            num_embeddings=embeddings,
        )

    def loss(self, outputs, targets):
        """Return the mean of the losses of the members; outputs are (rows, members, outputs)."""
        targets = targets.repeat_interleave(outputs.shape[1])
        if self.regression:
            return torch.nn.functional.mse_loss(outputs.flatten(), targets)
        return torch.nn.functional.cross_entropy(outputs.flatten(0, 1), targets)

    def outputs(self, inputs):
        """Return the mean prediction or the mean probabilities of the members."""
        self.model_.eval()
        rows = len(next(own for own in inputs if own is not None))
        parts = []
        with torch.inference_mode():
            for start in range(0, rows, ROWS):
                out = self.model_(*take(inputs, slice(start, start + ROWS)))
                parts.append((out if self.regression else out.softmax(-1)).mean(1))
        return torch.cat(parts)

    def error(self, outputs, targets):
        if self.regression:
            return float((outputs[:, 0] - targets).square().mean())
        return float((outputs.argmax(1) != targets).float().mean())

    def predict(self, frame):
        return self.outputs(self.columns_.transform(frame))[:, 0].numpy() * self.scale_ + self.mean_

    def predict_proba(self, frame):
        return self.outputs(self.columns_.transform(frame)).numpy()


def take(inputs, rows):
    """Return rows of numbers and of codes, of which one may not be there."""
    return [own if own is None else own[rows] for own in inputs]
