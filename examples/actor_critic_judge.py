"""The actor-critic of actor_critic.py beside the same in PyTorch: the time of an update, the returns.

Both begin with the same weights and draw the same numbers; the processes differ by rounding, and so
do, after a while, the actions.
"""

import argparse
from time import perf_counter

import numpy as np
import torch
from actor_critic import ACTIONS, ENTROPY, HIDDEN, LR, VALUE, Learner, Poles, collect, make_model
from actor_critic import train as train_learner
from torch import nn
from torch.nn import functional as F

import dlcore as dl


class TorchLearner:
    """The network and the optimizer of PyTorch, its fastest one."""

    def __init__(self, model):
        self.model = nn.Sequential(
            nn.Linear(4, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, HIDDEN),
            nn.Tanh(),
            nn.Linear(HIDDEN, ACTIONS + 1),
        )
        weights = {name: torch.from_numpy(array) for name, array in model.state_dict().items()}
        self.model.load_state_dict(weights)
        self.adam = torch.optim.Adam(self.model.parameters(), lr=LR, fused=True)

    @torch.inference_mode()
    def outputs(self, states):
        return self.model(torch.from_numpy(states)).numpy()

    def update(self, *batch):
        states, actions, advantages, targets = map(torch.from_numpy, batch)
        outputs = self.model(states)
        logs = F.log_softmax(outputs[:, :ACTIONS], dim=1)
        entropy = -(logs.exp() * logs).sum(1).mean()
        chosen = logs.gather(1, actions[:, None])[:, 0]
        error = F.mse_loss(outputs[:, ACTIONS], targets)
        loss = -(advantages * chosen).mean() - ENTROPY * entropy + VALUE * error
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()


LEARNERS = {"dlcore": Learner, "PyTorch": TorchLearner}


def microseconds(call, seconds=0.1):
    """Return the time of a call: that of the best of many, since others may use the machine."""
    best, end = np.inf, perf_counter() + seconds
    while (begin := perf_counter()) < end:
        call()
        best = min(best, perf_counter() - begin)
    return 1e6 * best


def times(rounds=10):
    """Return the medians of the microseconds of an update, and of the steps before it as well."""
    rng = np.random.default_rng(0)
    found = {name: [] for name in LEARNERS}
    learners = {name: (make(make_model(0)), Poles(0)) for name, make in LEARNERS.items()}
    batch = collect(*learners["dlcore"], rng)
    for _ in range(rounds):
        for name, (learner, poles) in learners.items():
            update = microseconds(lambda learner=learner: learner.update(*batch))
            steps = microseconds(lambda: collect(learner, poles, rng))  # noqa: B023
            found[name].append((update, steps + update))
    return {name: np.median(own, axis=0) for name, own in found.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="at least 2")
    parser.add_argument("--updates", type=int, default=200)
    options = parser.parse_args()
    torch.set_num_threads(dl.get_num_threads())

    timed = times()
    for i, what in enumerate(("an update", "with its steps")):
        ours, theirs = timed["dlcore"][i], timed["PyTorch"][i]
        print(
            f"{what:<15} dlcore {ours:6.0f} µs   PyTorch {theirs:6.0f} µs   "
            f"{theirs / ours:.1f} times as fast"
        )
    for name, make in LEARNERS.items():
        returns = [
            train_learner(make(make_model(seed)), seed, options.updates)
            for seed in range(options.seeds)
        ]
        error = np.std(returns, ddof=1) / np.sqrt(len(returns))
        print(f"{name:<8} return {np.mean(returns):5.1f} ± {error:.1f}")


if __name__ == "__main__":
    main()
