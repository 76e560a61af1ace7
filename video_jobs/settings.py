"""Settings that several processes share. Each process composes its own and reads the environment once."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, field_validator, model_validator
from pydantic_settings import (
    NoDecode,
)

from video_jobs.fragment import Fragment

REDIS_SCHEMES = ("redis", "rediss", "unix", "sentinel")


class QueueSettings(Fragment):
    redis_url: Annotated[
        SecretStr, Field(validation_alias=AliasChoices("COGVIDEOX_REDIS_URL", "REDIS_URL", "redis_url"))
    ] = SecretStr("redis://127.0.0.1:6379/0")
    """Where the jobs live: `redis://`, `rediss://`, `unix://PATH` or `sentinel://HOST:PORT,HOST:PORT/SERVICE`."""

    lease_seconds: float = Field(default=15, gt=0)
    """How long a silent worker keeps its jobs; beaten three times as often. The same for gateways and workers. Below
    8 s a Redis that is away for a moment is taken for the death of every worker."""

    @field_validator("redis_url")
    @classmethod
    def know_the_scheme(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and value.get_secret_value().partition("://")[0] not in REDIS_SCHEMES:
            raise ValueError("a Redis URL is redis://, rediss://, unix:// or sentinel://")
        return value


class StoreSettings(Fragment):
    state: Path = Path("state")
    """The folder of the embedded parts: results, link-signing key, master key, model cache."""

    public_url: str = "http://127.0.0.1:8000"
    """What clients reach the gateway by; result links start with it."""

    link_hours: float = Field(default=24, gt=0, le=168)
    """How long a result link works."""

    link_key_file: Path | None = None
    """The key that signs result links; `link.key` in the state folder when not set."""

    store: Literal["folder", "s3"] = "folder"
    """Where results lie: `results` in the state folder, or an S3 bucket."""

    links: Literal["auto", "presigned", "gateway", "public"] = "auto"
    """Who answers result links: the bucket itself (`presigned`), the gateway, or `link_base`. `auto` takes
    `presigned` for S3 with lasting credentials, else `gateway`."""

    link_delivery: Literal["stream", "redirect"] = "stream"
    """For `gateway` links into S3: pass the bytes on, or redirect to a presigned link of five minutes."""

    link_base: str = ""
    """For `public` links: the base URL (a CDN, say) under which the bucket's keys can be read by anyone."""

    s3_bucket: str = ""
    """The bucket of images, videos and covers."""

    s3_prefix: str = ""
    """Put before every object's key."""

    s3_region: str = "us-east-1"
    """The bucket's region."""

    s3_endpoint: str | None = None
    """Where this process reaches S3; AWS when not set."""

    s3_public_endpoint: str | None = None
    """Where clients reach S3: presigned links are made for it. `s3_endpoint` when not set."""

    s3_path_style: bool = False
    """Name the bucket in the path instead of the host name."""

    s3_ca_bundle: Path | None = None
    """Certificates to trust at the S3 endpoint."""

    s3_sse: Literal["", "AES256", "aws:kms"] = ""
    """Server-side encryption of new objects."""

    s3_sse_key_id: str = ""
    """The KMS key for `aws:kms`."""

    s3_storage_class: str = ""
    """Storage class of videos and covers; the bucket's own when empty."""

    @model_validator(mode="after")
    def name_the_store(self) -> Self:
        if self.store == "s3" and not self.s3_bucket:
            raise ValueError("COGVIDEOX_STORE=s3 needs COGVIDEOX_S3_BUCKET")
        if self.links == "public" and not self.link_base:
            raise ValueError("COGVIDEOX_LINKS=public needs COGVIDEOX_LINK_BASE")
        if self.links in ("presigned", "public") and self.store == "folder":
            raise ValueError(f"COGVIDEOX_LINKS={self.links} needs COGVIDEOX_STORE=s3")
        return self

    @property
    def link_key(self) -> Path:
        return self.link_key_file or self.state / "link.key"


class AuditSettings(StoreSettings):
    master_key_file: Path | None = None
    """The key that seals API-key secrets; `master.key` in the state folder when not set."""

    audit_key_file: Path | None = None
    """The key that signs the audit's checkpoints; derived from the master key when not set."""

    old_key_files: Annotated[tuple[Path, ...], NoDecode] = ()
    """Master and audit keys used before, separated by commas: what they sealed is opened, what they signed believed."""

    audit_prompts: Literal["kept", "hashed", "redacted"] = "kept"
    """What the audit keeps of prompts: the text, a keyed hash of it, or its length alone."""

    audit_checkpoint_seconds: float = Field(default=30, gt=0, le=60)
    """How often a checkpoint of the audit is signed."""

    audit_backlog: int = Field(default=200_000, ge=1000)
    """With more audit records than this not yet exported to the store, no job is accepted."""

    audit_s3_bucket: str = ""
    """A bucket for the audit alone; the results' bucket when empty."""

    @field_validator("old_key_files", mode="before")
    @classmethod
    def split_by_commas(cls, value: object) -> object:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @field_validator("old_key_files")
    @classmethod
    def find_the_keys(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in value:
            if not path.is_file():
                raise ValueError(f"there is no {path}")
        return value

    @model_validator(mode="after")
    def keep_the_audit_private(self) -> Self:
        if self.links == "public" and not self.audit_s3_bucket:
            raise ValueError(
                "COGVIDEOX_LINKS=public needs COGVIDEOX_AUDIT_S3_BUCKET: anyone may read the results' bucket"
            )
        return self

    @property
    def master_key(self) -> Path:
        return self.master_key_file or self.state / "master.key"


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


class PolicySettings(Fragment):
    policy_words: Annotated[tuple[Path, ...], NoDecode] = ()
    """Files of sensitive words, or folders of such `.txt` files; separated by commas. Read anew when they change."""

    moderation_url: str | None = None
    """The moderation service that is asked about prompts, images and frames."""

    moderation_key: SecretStr | None = None
    """Sent to the moderation service as a bearer token."""

    moderation_timeout_s: float = Field(default=5, gt=0, le=60)
    """How long the moderation service may take."""

    moderation_fails: Literal["open", "closed"] = "closed"
    """Without a verdict: let everything pass, or nothing."""

    moderation_checks: Annotated[tuple[str, ...], NoDecode] = ("prompt", "rewritten_prompt", "image", "video")
    """What the moderation service is asked about; separated by commas."""

    moderation_frames: int = Field(default=4, ge=1, le=16)
    """How many frames of a finished video the moderation service is shown."""

    @field_validator("policy_words", "moderation_checks", mode="before")
    @classmethod
    def split_by_commas_in_order(cls, value: object) -> object:
        return tuple(filter(None, value.split(","))) if isinstance(value, str) else value

    @field_validator("policy_words")
    @classmethod
    def find_the_lists(cls, value: tuple[Path, ...]) -> tuple[Path, ...]:
        for path in value:
            if not path.exists():
                raise ValueError(f"there is no {path}")
        return value

    @field_validator("moderation_checks")
    @classmethod
    def name_known_checks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := set(value) - {"prompt", "rewritten_prompt", "image", "video"}:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        return value


class LogSettings(Fragment):
    log_level: str = "INFO"
    """Level of the JSON log lines on stderr."""

    tracing: bool = False
    """Send OpenTelemetry traces to where `OTEL_EXPORTER_OTLP_ENDPOINT` says; needs the extra `tracing`."""
