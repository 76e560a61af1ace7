"""The contract: what a video job is, how it moves and where its video lands.

It knows Redis and a store. It refuses HTTP frameworks and torch, so that gateway and worker can share it.
"""
