"""Settings that several processes share. Each process composes its own and reads the environment once."""

from pathlib import Path
from typing import Annotated

from pydantic import AliasChoices, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Fragment(BaseSettings):
    """Read from `COGVIDEOX_…` and frozen; modules never read the environment themselves."""

    model_config = SettingsConfigDict(
        env_prefix="COGVIDEOX_", frozen=True, extra="ignore", populate_by_name=True, hide_input_in_errors=True
    )


class QueueSettings(Fragment):
    redis_url: Annotated[
        SecretStr, Field(validation_alias=AliasChoices("COGVIDEOX_REDIS_URL", "REDIS_URL", "redis_url"))
    ] = SecretStr("redis://127.0.0.1:6379/0")
    """Where the jobs live. `unix://PATH` and `rediss://` work too."""


class StoreSettings(Fragment):
    state: Path = Path("state")
    """The folder of the embedded parts: results, link-signing key, master key, model cache."""

    public_url: str = "http://127.0.0.1:8000"
    """What clients reach the gateway by; result links start with it."""

    link_hours: float = Field(default=24, gt=0, le=168)
    """How long a result link works."""


class ModelSettings(Fragment):
    checkpoint: str = "tiny"
    """The catalogue's checkpoint that renders the videos: the route of new jobs, and of this worker."""

    catalogue: Path | None = None
    """An operator's catalogue file, laid over the built-in one."""


class PromptSettings(Fragment):
    rewriter_url: str | None = None
    """Base URL of an OpenAI-compatible chat endpoint that turns prompts into rich English ones."""

    rewriter_model: str = ""
    """The model that the rewriter's endpoint is asked for."""

    rewriter_key: SecretStr | None = None
    """The rewriter's API key."""

    rewriter_timeout_s: float = Field(default=30, gt=0)
    """How long one call of the rewriter may take."""

    rewriter_retries: int = Field(default=3, ge=0)
    """How often a failed call of the rewriter is tried again."""

    rewriter_local_model: Path | None = None
    """The folder of a local instruct model that rewrites prompts in the engine, instead of an endpoint."""

    accept_unknown_prompts: bool = False
    """Render prompts though most of their letters are unknown to the model's tokenizer."""

    @property
    def has_rewriter(self) -> bool:
        return self.rewriter_url is not None or self.rewriter_local_model is not None


class LogSettings(Fragment):
    log_level: str = "INFO"
    """Level of the JSON log lines on stderr."""
