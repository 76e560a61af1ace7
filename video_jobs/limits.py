"""What a tenant may have: plans, tenants and their limits, and how the scripts that hold them are asked and answer."""

from enum import IntEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from video_jobs.job import Frozen
from video_jobs.policy.terms import TenantPolicy

FOREVER_SECONDS = 100 * 365 * 24 * 3600.0
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


def _number(value: Any) -> Any:
    """`queued: yes` is no number, though Python takes it for one."""
    if isinstance(value, bool):
        raise ValueError("should be a number")
    return value


Count = Annotated[int, BeforeValidator(_number), Field(gt=0)]
Seconds = Annotated[float, BeforeValidator(_number), Field(gt=0, allow_inf_nan=False)]
Budget = Annotated[float, BeforeValidator(_number), Field(ge=0, allow_inf_nan=False)]


class ServiceClass(IntEnum):
    """Who goes first: set by the plan, lowered by a request."""

    INTERACTIVE = 0
    STANDARD = 1
    BATCH = 2


class Closed(BaseModel):
    """Closed, so that a misspelt limit is an error, not a silent lack of one."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Limits(Closed):
    """None given is none set: a tenant then has its plan's, and a plan no limit. `user_…` holds for each end user."""

    requests_per_minute: Count | None = None
    in_flight: Count | None = None
    queued: Count | None = None
    running: Count | None = None
    image_intakes: Count | None = None
    gpu_seconds_per_day: Seconds | None = None
    gpu_seconds_per_month: Seconds | None = None
    prepaid_gpu_seconds: Budget | None = None
    reads_per_minute: Count | None = None
    user_requests_per_minute: Count | None = None
    user_in_flight: Count | None = None
    user_queued: Count | None = None
    user_gpu_seconds_per_day: Seconds | None = None
    user_gpu_seconds_per_month: Seconds | None = None


class Terms(Closed):
    """A plan's terms, or a tenant's own ones that go before its plan's."""

    weight: Annotated[float, BeforeValidator(_number), Field(gt=0, le=1000)] | None = None
    service_class: str | None = Field(default=None, pattern="^(interactive|standard|batch)$")
    limits: Limits = Limits()
    policy: TenantPolicy | None = None


class Tenant(Terms):
    plan: str = Field(default="default", pattern=NAME)
    title: str = Field(default="", max_length=200)
    enabled: bool = True


DEFAULT_PLAN = Terms(
    weight=1,
    service_class="standard",
    limits=Limits(requests_per_minute=6000, queued=10_000, image_intakes=8, reads_per_minute=60_000),
)


class Ask(Frozen):
    """What limits judge a request by. The cost is a prediction, in device seconds."""

    user_id: str | None = None
    cost_s: float = 0.0
    kind: str = ""
    route: str = ""
    has_image: bool = False
    workers: int = 1
    max_wait_s: float = FOREVER_SECONDS


class LimitHit(Frozen):
    """Which limit stands against a request, whose it is, and when it may pass; None when nobody can know."""

    name: str
    whose: str
    number: float
    wait_s: float | None


class Rate(Frozen):
    """The tightest rate that a request passed: its calls a minute, what is left of them, when all are back."""

    number: float
    left: int
    full_s: float


class Place(Frozen):
    """Where a waiting job stands, when it will start and how long it will take, as the fair order has it."""

    position: int
    start_s: float
    cost_s: float

    @property
    def eta_s(self) -> float:
        return self.start_s + self.cost_s
