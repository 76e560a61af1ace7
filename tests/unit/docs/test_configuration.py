"""A setting without a line in the documentation fails the build."""

from pathlib import Path

import pytest

from gpu_worker.settings import WorkerSettings
from server.settings import GatewaySettings

PAGE = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()


@pytest.mark.parametrize("settings", [GatewaySettings, WorkerSettings], ids=["gateway", "worker"])
def test_every_setting_has_its_line(settings: type[GatewaySettings] | type[WorkerSettings]) -> None:
    missing = [name for name in settings.model_fields if f"`COGVIDEOX_{name.upper()}`" not in PAGE]

    assert missing == []


def test_no_line_tells_of_a_setting_that_is_gone() -> None:
    known = {f"COGVIDEOX_{name.upper()}" for kind in (GatewaySettings, WorkerSettings) for name in kind.model_fields}
    told = {word for line in PAGE.splitlines() for word in line.split("`") if word.startswith("COGVIDEOX_")}

    assert told - known == {"COGVIDEOX_…"}
