"""The child process that owns the GPU. `protocol` and `process` are torch-free; the rest runs only in the child."""
