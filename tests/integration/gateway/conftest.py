from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway import Gateway


@pytest.fixture(scope="module")
def gateway(redis_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with Gateway(f"unix://{redis_socket}", tmp_path_factory.mktemp("gateway")) as running:
        yield running
