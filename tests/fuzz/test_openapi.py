"""`/openapi.json` is true to what is served: 1,000 generated requests find nothing that it does not tell."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.fuzz.campaign import Campaign
from tests.gateway import Gateway
from tests.standins.ender import stand_in_worker

CASES = 1000


@pytest.fixture(scope="module")
def gateway(redis_socket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with redis.Redis(unix_socket_path=str(redis_socket)) as client:
        client.flushall()
    address = f"unix://{redis_socket}"
    with Gateway(address, tmp_path_factory.mktemp("gateway")) as running, stand_in_worker(running, render_s=0.3):
        yield running


@pytest.mark.timeout(600)
def test_no_request_is_answered_in_a_way_that_is_not_described(gateway: Gateway) -> None:
    campaign = Campaign(gateway, number=1)
    tally = campaign.run(CASES)

    assert tally.failures == {}, json.dumps(tally.repeats, indent=1, ensure_ascii=False)
    assert tally.cases >= CASES
    assert tally.accepted >= 0.2 * tally.cases, tally.statuses
    assert {name for name, status in tally.statuses if status < 300} == set(campaign.operations), sorted(
        tally.statuses.items()
    )
    assert {"positive", "negative"} == set(tally.modes)
    assert min(tally.forms.values()) > 0.05 * tally.cases
