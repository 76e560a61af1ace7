"""docs/metrics.md tells every metric as the processes have it. `make docs` writes the tables anew."""

import os
import re
from pathlib import Path
from types import SimpleNamespace

from prometheus_client import CollectorRegistry

from gpu_worker.health import WorkerHealth
from gpu_worker.metrics import WorkerMetrics
from server.metrics import GatewayMetrics

PAGE = Path(__file__).parents[3] / "docs" / "metrics.md"
HEAD = r"\| metric \| kind \| labels \| what \|\n\|[-|]+\n"


def rows(registry: CollectorRegistry) -> str:
    found = []
    for collector in registry._collector_to_names:
        (family,) = collector.describe()
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = ", ".join(f"`{label}`" for label in collector._labelnames)  # type: ignore[attr-defined]
        found.append(f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n")
    return "".join(sorted(found))


def worker_registry() -> CollectorRegistry:
    metrics = WorkerMetrics()
    WorkerHealth(SimpleNamespace(metrics=metrics, engine_start_s=0.0, scratch_free=lambda: 0.0))  # type: ignore[arg-type]
    return metrics.registry


def test_every_metric_stands_on_its_page() -> None:
    text = PAGE.read_text()
    tables = iter([rows(GatewayMetrics().registry), rows(worker_registry())])
    rewritten = re.sub(rf"({HEAD})(\|.*\n)*", lambda found: found[1] + next(tables), text)
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(rewritten)

    assert text == rewritten
    assert next(tables, None) is None
