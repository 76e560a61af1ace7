"""After the frames: interpolation, scaling, encoding, cover. Stages take and give iterators of frames."""
