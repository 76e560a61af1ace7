from pathlib import Path

import pytest

pytest.importorskip("torch")

from gpu_worker.engine.load import load_model, pick_device
from gpu_worker.engine.model import Model
from gpu_worker.engine.tiny import tiny_model_folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of built-in models, made once for the whole run."""
    folder = tmp_path_factory.mktemp("models")
    tiny_model_folder(folder)
    return folder


@pytest.fixture
def model(models: Path) -> Model:
    return load_model("tiny-random", models, pick_device("cpu"))
