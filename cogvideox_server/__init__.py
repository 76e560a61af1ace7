"""The command `cogvideox-server`. It starts the other packages as processes; nobody imports it."""
