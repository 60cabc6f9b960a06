"""Scaling, splitting and augmentation of data."""
