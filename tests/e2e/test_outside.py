"""The same service on a Redis of its own and an S3 server, as past one machine."""

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_sdks import assert_served, requests
from tests.sdks import sdk_python

pytestmark = [pytest.mark.e2e, pytest.mark.worker, pytest.mark.timeout(400)]


def test_the_same_on_a_real_redis_and_s3(outer_service: Any, image_url: str) -> None:
    # What sizes do is the same anywhere; here it is about where images come from and clips go to.
    asked = {task: requests(image_url)[task] | {"size": "720x480", "quality": "speed"} for task in ("image", "base64")}

    assert_served(("zhipuai", sdk_python("zhipuai")), outer_service, asked)

    assert outer_service.ready["pids"]["redis"] is None
    assert not list(Path(outer_service.ready["state"]).glob("results/**/*.mp4"))
