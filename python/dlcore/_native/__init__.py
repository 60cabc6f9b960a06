"""The compiled modules: which one is in use, its threads, and what crosses to it."""
