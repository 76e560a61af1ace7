"""The noise schedule, as CogVideoX has it; the signal is weakened a little less than in a large picture."""

from gpu_worker.engine.tiny import SCHEDULER as FULL_SIZE

SCHEDULER = FULL_SIZE | {"snr_shift_scale": 4.0}
