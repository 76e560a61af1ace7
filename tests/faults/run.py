"""The storms with names: `run.py long --slices N` is N storms of 20 minutes, whose figures add up over many calls.

Every slice is kept as JSON; the table is always of all that are kept. `--write` puts it into docs/benchmarks/.
"""

import argparse
import functools
import os
import secrets
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.faults.figures import ROOT, Figures, table
from tests.faults.fleet import Shape
from tests.faults.storm import Plan, run

KEPT = ROOT / "build" / "faults-long"
SLICE_SECONDS = 1200.0
LONG = Shape(workers=5, lease_s=15.0)
HEAD = """# Faults, the long run

`make faults-long` on {day}, {cores} cores, Python {python}. {count} storm(s) of 20 minutes each, added up.
What a storm is and what is checked: [reliability.md](../reliability.md).

"""


def slice_of(seed: int, folder: Path | None = None) -> Figures:
    return run(LONG, Plan(seed, SLICE_SECONDS, every_s=1.0, crowd=96), folder)


def all_kept() -> Figures:
    kept = [Figures.load(path) for path in sorted(KEPT.glob("*.json"))]
    return functools.reduce(Figures.plus, kept)


def write(name: str, head: str, body: str, count: int = 1) -> None:
    python = ".".join(map(str, sys.version_info[:3]))
    filled = head.format(day=time.strftime("%Y-%m-%d"), cores=os.cpu_count(), python=python, count=count)
    (ROOT / "docs" / "benchmarks" / name).write_text(filled + body + "\n")


def long(slices: int, is_written: bool) -> int:
    KEPT.mkdir(parents=True, exist_ok=True)
    for _ in range(slices):
        seed = secrets.randbelow(10**6)
        print(f"slice with seed {seed}", flush=True)
        figures = slice_of(seed)
        figures.save(KEPT / f"{time.time():.0f}-{seed}.json")
        print("\n".join(figures.violations[:50]), flush=True)
    total = all_kept()
    shown = table(total, "all slices")
    print(shown)
    if is_written:
        write("faults-long.md", HEAD, shown, len(total.seeds))
    return 1 if total.violations else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("profile", choices=["long"])
    parser.add_argument("--slices", type=int, default=1, help="storms of 20 minutes to add; 0 shows what is kept")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks/")
    args = parser.parse_args()
    return long(args.slices, args.write)


if __name__ == "__main__":
    sys.exit(main())
