"""Actor-critic: balance a pole, one network for the actions and their value, trained by hand.

An advantage actor-critic (Mnih et al., 2016) of 16 poles side by side: 16 steps of each are a batch
of 256, of which one update is made. `model.forward` keeps what the way back needs, the gradient of
the loss at the outputs is a few lines of NumPy, and `model.backward` and `adam.step` do the rest.
actor_critic_judge.py has the same in PyTorch and compares the two.
"""

import argparse

import numpy as np

import dlcore as dl

POLES, STEPS = 16, 16
HIDDEN, ACTIONS = 256, 2
DISCOUNT, TRACE = 0.98, 0.95
LR, VALUE, ENTROPY = 3e-3, 0.5, 0.01
LONGEST = 200  # steps of an episode, and so the largest return


class Poles:
    """Poles that stand on carts, to be kept upright by pushes to the left or to the right."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.state = np.zeros((POLES, 4), np.float32)  # place, angle, and how fast each changes
        self.age = np.zeros(POLES, int)
        self.returns = []  # of the episodes that have ended
        self._begin(np.ones(POLES, bool))

    def _begin(self, new):
        self.state[new] = self.rng.uniform(-0.05, 0.05, (new.sum(), 4))
        self.age[new] = 0

    def step(self, action):
        """Push; return the reward of each pole and whether its episode has ended."""
        _place, angle, speed, turn = self.state.T
        push = np.where(action == 1, 10.0, -10.0)
        sin, cos = np.sin(angle), np.cos(angle)
        force = (push + 0.05 * turn**2 * sin) / 1.1
        bend = (9.8 * sin - cos * force) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        pull = force - 0.05 * bend * cos / 1.1
        self.state += 0.02 * np.stack((speed, turn, pull, bend), axis=1)
        self.age += 1
        ended = (np.abs(self.state[:, :2]) > (2.4, 0.21)).any(1) | (self.age == LONGEST)
        self.returns += self.age[ended].tolist()
        self._begin(ended)
        return np.ones(POLES, np.float32), ended


def make_model(seed):
    """Return the network: the logits of the actions, then the value of the state."""
    return dl.Sequential(
        dl.Linear(4, HIDDEN),
        dl.Tanh(),
        dl.Linear(HIDDEN, HIDDEN),
        dl.Tanh(),
        dl.Linear(HIDDEN, ACTIONS + 1),
        seed=seed,
    )


def advantages_of(rewards, ended, values, last):
    """Return by how much actions were better than expected (Schulman et al., 2016)."""
    advantages, ahead = np.empty_like(rewards), np.zeros_like(last)
    for t in reversed(range(len(rewards))):
        goes_on = DISCOUNT * ~ended[t]
        ahead = rewards[t] + goes_on * (last + TRACE * ahead) - values[t]
        advantages[t], last = ahead, values[t]
    return advantages


def gradient(outputs, actions, advantages, targets):
    """Return the gradient at the outputs: policy gradient, entropy and squared error of the value."""
    logits, rows = outputs[:, :ACTIONS], np.arange(len(actions))
    chances, logs = dl.softmax(logits), dl.log_softmax(logits)
    entropy = -(chances * logs).sum(1, keepdims=True)
    grad = np.empty_like(outputs)
    grad[:, :ACTIONS] = advantages[:, None] * chances + ENTROPY * chances * (logs + entropy)
    grad[rows, actions] -= advantages
    grad[:, ACTIONS] = 2 * VALUE * (outputs[:, ACTIONS] - targets)
    return grad / np.float32(len(actions))


class Learner:
    """The network and its optimizer; actor_critic_judge.py has the same of PyTorch."""

    def __init__(self, model):
        self.model = model
        self.adam = dl.Adam(model.parameters(), lr=LR)

    def outputs(self, states):
        """Return logits and value of each state."""
        return self.model(states)

    def update(self, states, actions, advantages, targets):
        """Make one step of the optimizer."""
        outputs = self.model.forward(states)
        self.model.backward(gradient(outputs, actions, advantages, targets))
        self.adam.step(self.model.grads())


def collect(learner, poles, rng):
    """Take some steps; return the batch of states, actions, advantages and values to be reached."""
    states = np.empty((STEPS, POLES, 4), np.float32)
    actions = np.empty((STEPS, POLES), np.int64)
    rewards, values = np.empty((2, STEPS, POLES), np.float32)
    ended = np.empty((STEPS, POLES), bool)
    for t in range(STEPS):
        states[t] = poles.state
        outputs = learner.outputs(states[t])
        # Of two actions the second has the chance of the sigmoid of the difference.
        chance = 1 / (1 + np.exp(outputs[:, 0] - outputs[:, 1]))
        actions[t] = rng.random(POLES) < chance
        values[t] = outputs[:, ACTIONS]
        rewards[t], ended[t] = poles.step(actions[t])
    last = learner.outputs(poles.state)[:, ACTIONS]
    advantages = advantages_of(rewards, ended, values, last)
    batch = states, actions, advantages, advantages + values
    return [part.reshape(STEPS * POLES, *part.shape[2:]) for part in batch]


def train(learner, seed, updates):
    """Train; return the mean return of the episodes of the last tenth of the updates."""
    poles, rng = Poles(seed), np.random.default_rng(seed)
    for update in range(updates):
        if update == updates - updates // 10:
            poles.returns.clear()
        learner.update(*collect(learner, poles, rng))
    return float(np.mean(poles.returns or poles.age))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--updates", type=int, default=200)
    options = parser.parse_args()
    for seed in range(options.seeds):
        reached = train(Learner(make_model(seed)), seed, options.updates)
        print(f"seed {seed}: return {reached:.1f} of {LONGEST}")


if __name__ == "__main__":
    main()
