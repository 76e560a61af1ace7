import sys

import pytest

from cogvideox_server.__main__ import main
from cogvideox_server.devices import devices


@pytest.mark.parametrize(
    ("what", "module"), [("engine", "gpu_worker.engine.bench"), ("start", "gpu_worker.engine.bench.start")]
)
def test_bench_passes_its_options_on(what: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[list[str]] = []

    def run(_path: str, argv: list[str]) -> None:
        ran.append(argv)
        raise SystemExit(0)

    monkeypatch.setattr("os.execv", run)
    monkeypatch.setattr(sys, "argv", ["cogvideox-server", "bench", what, "--device", "cpu", "--help"])

    with pytest.raises(SystemExit):
        main()

    assert ran == [[sys.executable, "-P", "-m", module, "--device", "cpu", "--help"]]


@pytest.mark.parametrize(
    ("workers", "per_job", "gpus", "seen"),
    [(4, 1, 4, ["0", "1", "2", "3"]), (2, 2, 4, ["0,1", "2,3"]), (2, 1, 1, ["0", "0"]), (1, 4, 2, ["0,1"])],
)
def test_each_worker_sees_gpus_of_its_own(
    workers: int, per_job: int, gpus: int, seen: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    assert [devices(worker, per_job, gpus)["CUDA_VISIBLE_DEVICES"] for worker in range(workers)] == seen


def test_what_the_operator_set_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    assert devices(0, 1, 4) == {}

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert devices(0, 1, 0) == {}
