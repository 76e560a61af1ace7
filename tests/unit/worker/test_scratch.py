"""The scratch disk of several workers on one machine."""

import threading
from pathlib import Path

from gpu_worker import scratch as scratches
from gpu_worker.scratch import Scratch


def test_worker_that_starts_beside_another_does_not_sweep_its_new_folder(tmp_path: Path, monkeypatch) -> None:
    lock, second = scratches._lock, []
    starting = threading.Thread(target=lambda: second.append(Scratch(tmp_path, 0)))

    def late(folder: Path) -> int:
        # The folder is there, and not yet known to be in use.
        if folder != tmp_path and threading.current_thread() is not starting:
            starting.start()
            starting.join(0.5)
        return lock(folder)

    monkeypatch.setattr(scratches, "_lock", late)
    first = Scratch(tmp_path, 0)
    starting.join()

    assert first.free_bytes()
    assert second[0].free_bytes()
    assert len(list(tmp_path.iterdir())) == 2
    for scratch in (first, second[0]):
        scratch.close()
