"""Optimizers of a user's own, which fits call between native passes."""

import dlcore as dl


class OwnSGD(dl.SGD):
    """A subclass with a step of its own."""

    def step(self, grads):
        """Update as `SGD` does."""
        super().step(grads)


class OwnAdam(dl.Adam):
    """Another one."""

    def step(self, grads):
        """Update as `Adam` does."""
        super().step(grads)
