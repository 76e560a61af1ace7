"""Weights on disk: found, pulled from a hub, and verified. It loads nothing and knows no torch."""
