"""Measures the engine on an architecture of any size, with random weights: speed does not depend on them."""
