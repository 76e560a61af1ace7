"""A tenant's policy, and what of it a job carries to its worker."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Fails = Literal["open", "closed"]


class TenantPolicy(BaseModel):
    """Switches of one tenant or plan. Closed: a misspelt switch is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    words: bool = True
    """Check prompts against the lists of sensitive words."""

    lists: tuple[str, ...] | None = None
    """The lists that count, by file name without its ending; all when not set."""

    caller_may_disable: bool = False
    """Heed `sensitive_word_check: {"status": "DISABLE"}` of a request."""

    moderation: bool = True
    """Ask the moderation service, where one is configured."""

    moderation_fails: Fails | None = None
    """What holds when the service does not answer; the deployment's setting when not set."""


class JobPolicy(BaseModel):
    """How a job is checked after it was accepted, and what the checks before said."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    words: bool = False
    lists: tuple[str, ...] | None = None
    moderation: bool = False
    checks: tuple[str, ...] = ()
    """What the service is to be asked about: a worker that knows no service must not pass it over."""

    fails: Fails = "closed"
    verdicts: dict[str, str] = Field(default_factory=dict)
