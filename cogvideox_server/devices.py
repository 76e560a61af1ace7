"""Which GPUs each worker of this machine sees."""

import os
import subprocess


def per_job() -> int:
    return max(1, int(os.environ.get("COGVIDEOX_GPUS_PER_JOB", "1")))


def devices(worker: int, per_job: int, gpus: int) -> dict[str, str]:
    """Each worker sees its own GPUs only; what the operator set stands, and more workers than GPUs share them."""
    if gpus == 0 or "CUDA_VISIBLE_DEVICES" in os.environ:
        return {}
    own = (str((worker * per_job + offset) % gpus) for offset in range(min(per_job, gpus)))
    return {"CUDA_VISIBLE_DEVICES": ",".join(own)}


def gpus(device: str) -> int:
    """How many there are to render on."""
    if device == "cpu":
        return 0
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True)
        return len(listed.stdout.strip().splitlines())
    except (OSError, subprocess.SubprocessError):
        return 0
