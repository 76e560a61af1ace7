"""No acknowledged job is ahead of the disk; shown by Redis's own system calls."""

from pathlib import Path

import pytest

from tests.faults.power import has_strace, power_cut, read_trace

needs_strace = pytest.mark.skipif(not has_strace(), reason="strace is not installed")


@needs_strace
def test_no_answer_overtakes_its_fsync_and_a_power_cut_loses_nothing(tmp_path: Path) -> None:
    cut = power_cut(tmp_path, "always", 1.0)

    assert cut.acknowledged > 20
    assert cut.trace.answers > 20
    assert (cut.lost, cut.trace.early_answers) == (0, 0)


@needs_strace
def test_the_same_power_cut_shows_what_everysec_loses(tmp_path: Path) -> None:
    cut = power_cut(tmp_path, "everysec", 0.9)

    assert cut.trace.early_answers > 0
    assert cut.lost > 0


def test_a_sync_covers_what_was_written_when_it_began() -> None:
    lines = [
        '7  write(9</x/appendonly.aof.1.incr.aof>, ""..., 100) = 100',
        "8  fdatasync(9</x/appendonly.aof.1.incr.aof> <unfinished ...>",
        '7  write(9</x/appendonly.aof.1.incr.aof>, ""..., 50) = 50',
        "8  <... fdatasync resumed>)            = 0",
        '7  write(10<UNIX-STREAM:[1->2, "/x/redis.sock"]>, ""..., 5) = 5',
    ]
    trace = read_trace(lines)

    assert (trace.written, trace.synced, trace.answers, trace.early_answers) == (150, 100, 1, 1)
