"""The short profile of the storms: the whole house as processes, about a minute. The long ones are `make faults`."""

import asyncio
from pathlib import Path

import pytest

from tests.faults.figures import Figures
from tests.faults.fleet import Shape
from tests.faults.nemesis import Sandman
from tests.faults.poison import poison
from tests.faults.storm import Plan, storm

pytestmark = pytest.mark.timeout(600)


def test_nothing_is_lost_or_doubled_in_a_storm_of_faults(tmp_path: Path) -> None:
    figures = asyncio.run(storm(tmp_path, Shape(workers=3, lease_s=2.0), Plan(11, 18, every_s=0.6, crowd=24)))

    assert figures.violations == []
    assert figures.all_kills > 0
    assert figures.jobs > 20
    figures.save(tmp_path / "figures.json")
    assert Figures.load(tmp_path / "figures.json").plus(figures).jobs == 2 * figures.jobs


def test_workers_that_oversleep_their_lease_publish_nothing(tmp_path: Path) -> None:
    plan = Plan(12, 8, nemesis=Sandman, crowd=8, is_plain=True)
    figures = asyncio.run(storm(tmp_path, Shape(gateways=1, workers=4, lease_s=1.0), plan))

    assert figures.violations == []
    assert figures.zombies_refused > 0
    assert figures.doubled == 0


def test_poison_is_told_and_no_neighbour_pays(tmp_path: Path) -> None:
    shape = Shape(gateways=1, workers=2, lease_s=1.0)
    poisoned = asyncio.run(poison(tmp_path, shape, ["die", "orphan"], innocents=10))

    assert poisoned.violations == []
    assert poisoned.innocents_failed == 0
    assert len(poisoned.verdicts_s) == 2
