"""Ended and started again on the same state: keys, jobs, results and links are still there, and no process is left."""

import os
import signal
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.e2e.conftest import Service
from tests.e2e.test_up import all_pids, call, ended, gone, submit

pytestmark = [pytest.mark.e2e, pytest.mark.worker, pytest.mark.timeout(300)]


def test_state_survives_and_no_orphan_does(tmp_path: Path) -> None:
    foreign = tmp_path / "server"
    foreign.mkdir()
    (foreign / "__init__.py").write_text("raise SystemExit('a foreign folder named server was imported')")
    first = Service(tmp_path / "state", cwd=tmp_path)
    task = submit(first.ready)
    done = ended(first.ready, task)
    waiting = [submit(first.ready) for _ in range(2)]
    pids = all_pids(first.ready)
    first.kill()
    assert gone(pids, 10)

    second = Service(tmp_path / "state", cwd=tmp_path)
    assert second.ready["api_key"] == first.ready["api_key"]
    assert ended(second.ready, task)["task_status"] == done["task_status"] == "SUCCESS"
    old_link = urlsplit(done["video_result"][0]["url"])
    link = urlsplit(second.ready["base_url"])._replace(path=old_link.path, query=old_link.query).geturl()
    with urllib.request.urlopen(link) as reply:
        assert reply.read(8)[4:] == b"ftyp", "a link from before the restart still opens"
    assert {ended(second.ready, each)["task_status"] for each in waiting} == {"SUCCESS"}
    pids = all_pids(second.ready)
    running = submit(second.ready)
    os.kill(second.ready["pids"]["gateway"], signal.SIGKILL)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            call(second.ready, f"async-result/{task}")
            break
        except OSError:
            time.sleep(0.2)
    assert ended(second.ready, running)["task_status"] == "SUCCESS"
    assert second.stop() == 0
    assert gone(pids, 30)
