"""How the fields in Redis become a `JobRecord`."""

import json
from collections.abc import Mapping, Sequence

from video_jobs.job import Attempt, Job, JobRecord, Outcome, Rendered

_TIMES = ("accepted_ms", "started_ms", "finished_ms", "deleted_ms")
_NUMBERS = (*_TIMES, "engine_deaths", "lost_leases", "progress", "checkpoint_step")
_TEXTS = ("state", "token", "stage", "checkpoint", "error_code", "error_message")


def read_record(fields: Mapping[bytes, bytes], attempts: Sequence[bytes]) -> JobRecord:
    known = {name.decode(): value.decode() for name, value in fields.items()}
    outcome = Outcome.model_validate_json(known["outcome"]) if "outcome" in known else None
    written = Rendered(prompt=known.get("prompt", ""), prompt_by=known.get("prompt_by", "caller"))
    return JobRecord.model_validate(
        {name: known[name] for name in (*_NUMBERS, *_TEXTS) if name in known}
        | {
            "job": Job.model_validate_json(known["job"]),
            "cancel_asked": "cancel" in known,
            "rendered": outcome.rendered if outcome else written,
            "video": outcome.video if outcome else None,
            "issued_to": frozenset(name.removeprefix("issued:") for name in known if name.startswith("issued:")),
            "attempts": tuple(Attempt.model_validate(json.loads(line)) for line in attempts),
        }
    )
