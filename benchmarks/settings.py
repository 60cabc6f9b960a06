"""The optimizers' parameters, the same for all libraries."""

LR, BETAS, EPS, MOMENTUM = 1e-3, (0.9, 0.999), 1e-8, 0.9
RATES = {"adam": LR, "sgd": 1e-2}  # of training
