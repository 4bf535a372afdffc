"""Measurements on a real NVIDIA board: what its sensor is like, and whether the meter's books follow it."""
