"""The suites: the cases, and what of them is timed."""

NAMES = (
    "kernels",
    "sizes",
    "training",
    "ranks",
    "members",
    "inference",
    "products",
    "estimators",
    "quality",
    "tabular",
    "options",
    "calls",
    "many",
)
