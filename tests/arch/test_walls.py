"""Each room imported in a clean process holds only what it may."""

import subprocess
import sys
from pathlib import Path

import pytest

TORCH = {"torch", "diffusers", "transformers", "accelerate", "safetensors", "av", "cv2"}
HTTP = {"fastapi", "starlette", "uvicorn"}

FORBIDDEN = {
    "video_jobs.store": TORCH | HTTP | {"server", "gpu_worker", "cogvideox_server"},
    "video_jobs.results": TORCH | HTTP | {"server", "gpu_worker", "cogvideox_server", "arq"},
    "server.app": TORCH | {"gpu_worker", "cogvideox_server"},
    "gpu_worker.worker": TORCH | HTTP | {"server", "cogvideox_server"},
    "gpu_worker.engine.process": TORCH | HTTP | {"server", "cogvideox_server", "arq"},
    "cogvideox_server.__main__": TORCH | HTTP | {"server", "gpu_worker", "arq"},
}

LIST_MODULES = "import sys, importlib; importlib.import_module(sys.argv[1]); print(*sorted(sys.modules))"


@pytest.mark.parametrize("module", FORBIDDEN)
def test_module_loads_nothing_forbidden(module: str) -> None:
    result = subprocess.run(
        [sys.executable, "-P", "-c", LIST_MODULES, module], capture_output=True, text=True, check=True
    )
    loaded = {name.partition(".")[0] for name in result.stdout.split()}

    assert not loaded & FORBIDDEN[module]


def test_children_ignore_a_foreign_folder_named_server(tmp_path: Path) -> None:
    foreign = tmp_path / "server"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('the foreign folder was imported')")

    where = "import server; print(server.__file__)"
    safe = subprocess.run([sys.executable, "-P", "-c", where], cwd=tmp_path, capture_output=True, text=True)
    unsafe = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, capture_output=True, text=True)

    assert safe.returncode == 0
    assert not safe.stdout.startswith(str(tmp_path))
    assert unsafe.returncode != 0, "without -P the foreign folder wins: the test would prove nothing"
