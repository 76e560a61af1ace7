"""`make fuzz`: 50,000 generated requests against one gateway, from several processes. `--write` keeps the table."""

import multiprocessing
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from cogvideox_server.redis import redis_binary, redis_command, socket_path
from tests.fuzz.campaign import Campaign, Tally
from tests.gateway import Gateway
from tests.standins.ender import stand_in_worker

CASES, PROCESSES = 50_000, 10


def campaign(gateway: Gateway, number: int, cases: int, tallies: "multiprocessing.Queue[Tally]") -> None:
    tallies.put(Campaign(gateway, number).run(cases))


def together(gateway: Gateway, cases: int) -> Tally:
    """One campaign a process, each with seeds of its own; their tallies as one."""
    tallies: multiprocessing.Queue[Tally] = multiprocessing.Queue()
    share = -(-cases // PROCESSES)
    at_work = [
        multiprocessing.Process(target=campaign, args=(gateway, number, share, tallies))
        for number in range(1, PROCESSES + 1)
    ]
    for one in at_work:
        one.start()
    whole = Tally()
    for _ in at_work:
        whole.add(tallies.get())
    for one in at_work:
        one.join()
    return whole


def table(tally: Tally) -> str:
    operations: dict[str, Counter[int]] = {}
    for (name, status), count in tally.statuses.items():
        operations.setdefault(name, Counter())[status] += count
    rows = ["| operation | requests | accepted | answers |", "|---|---|---|---|"]
    for name, answers in sorted(operations.items()):
        accepted = sum(count for status, count in answers.items() if status < 300)
        told = ", ".join(f"{status}: {count:,}" for status, count in sorted(answers.items()))
        rows.append(f"| `{name}` | {answers.total():,} | {accepted:,} | {told} |")
    return "\n".join(rows)


def page(tally: Tally) -> str:
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(tally.modes.items()))
    forms = ", ".join(f"{count:,} {form}" for form, count in sorted(tally.forms.items()))
    findings = "\n".join(f"- {count} x {what}" for what, count in tally.failures.most_common()) or "- none"
    return f"""# Generated requests

`make fuzz ARGS=--write` on {datetime.now(UTC):%Y-%m-%d}: schemathesis {version("schemathesis")} on the served
`/openapi.json`, {os.cpu_count()} cores, Python {platform.python_version()}. Every answer is held against the document:
its status, its type, its headers, its JSON; and a request that breaks the schema must not succeed.

| | |
|---|---|
| requests | {tally.cases:,} in {tally.seconds:,.0f} s |
| accepted (2xx) | {tally.accepted:,}: {100 * tally.accepted / tally.cases:.0f} % |
| by kind | {kinds} |
| by credentials | {forms} |
| answers of 500 and more | {sum(n for (_, status), n in tally.statuses.items() if status >= 500):,} |
| findings | {tally.failures.total():,} |

{table(tally)}

Findings:

{findings}
"""


def main() -> None:
    cases = next((int(word) for word in sys.argv if word.isdigit()), CASES)
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder)
        path = socket_path(state)
        redis = subprocess.Popen(redis_command(redis_binary(), state, path), stdout=subprocess.DEVNULL)
        while not path.exists():
            time.sleep(0.02)
        try:
            with Gateway(f"unix://{path}", state) as gateway, stand_in_worker(gateway, render_s=0.3):
                tally = together(gateway, cases)
        finally:
            redis.terminate()
            redis.wait()
    print(page(tally))
    for what, how in tally.repeats.items():
        print(f"--- {what}\n{how}\n")
    if "--write" in sys.argv:
        (ROOT / "docs" / "benchmarks" / "fuzz.md").write_text(page(tally))
    sys.exit(1 if tally.failures or tally.accepted < 0.2 * tally.cases else 0)


if __name__ == "__main__":
    main()
