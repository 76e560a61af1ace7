"""How the built-in model is made: its world, its words, its training and its examination.

It trains from nothing on a CPU and needs no data: clips and captions are drawn from a seed.
Nothing that serves imports it.
"""
