"""`make rolling` in short: both releases side by side, nothing failed, nothing lost."""

from pathlib import Path

from tests.faults.rolling import roll


async def test_rolling_upgrade_fails_no_request_and_loses_no_job(tmp_path: Path) -> None:
    load = await roll(tmp_path, restarts=2, callers=6)

    assert (load.counts["failed"], load.counts["lost"], load.counts["FAIL"]) == (0, 0, 0)
    assert load.counts["SUCCESS"] == load.counts["jobs"] > 0
