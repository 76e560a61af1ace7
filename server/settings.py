"""Everything a gateway may be told."""

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import NoDecode

from server.addresses import Allowed
from video_jobs.settings import AuditSettings, LogSettings, ModelSettings, PolicySettings, PromptSettings, QueueSettings

ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")
MEBIBYTE = 1024 * 1024


class GatewaySettings(QueueSettings, AuditSettings, ModelSettings, PromptSettings, PolicySettings, LogSettings):
    host: str = "127.0.0.1"
    """The address that the gateway listens on."""

    port: int = Field(default=8000, ge=0, le=65535)
    """The port that the gateway listens on."""

    metrics_port: int = Field(default=0, ge=0, le=65535)
    """Port of the gateway's /metrics; 0 turns it off."""

    prefix: str = Field(default="/api/paas/v4", pattern=r"^(/[\w.-]+)*$")
    """The path before `/videos/generations`; a slash at its end is not needed."""

    cors_origins: Annotated[frozenset[str], NoDecode] = frozenset()
    """Origins whose pages may call from a browser, such as `https://studio.example`, or `*`; separated by commas."""

    admin_port: int = Field(default=0, ge=0, le=65535)
    """A port of its own for the operators' API, which the tenants' port then does not answer; 0 serves both on one."""

    trusted_proxies: Annotated[tuple[str, ...], NoDecode] = ()
    """Networks of the proxies whose `X-Forwarded-For` names the caller's address; separated by commas."""

    tenants_file: Path | None = None
    """A YAML file of tenants, plans, limits and policies; applied at the start and whenever it changes."""

    strict: bool = False
    """Only what the hosted API has: no progress in results, no listing, cancelling or model list."""

    allow_unsafe_redis: bool = False
    """Serve although Redis may evict or lose jobs, or hides its configuration."""

    start_within_s: float = Field(default=24 * 3600, ge=0)
    """A job that no worker has started by then fails; 0 lets it wait for ever."""

    run_limit_s: float = Field(default=6 * 3600, ge=0)
    """A job that is not done so long after its first start fails; 0 lets it run for ever."""

    retention_days: float = Field(default=30, gt=0)
    """How long after its end a job's record, video and cover are kept. The audit is kept longer."""

    max_prompt_characters: int = Field(default=512, gt=0)
    """The longest prompt, in Unicode code points."""

    max_size: str = Field(default="3840x2160", pattern=r"^[1-9]\d{1,4}x[1-9]\d{1,4}$")
    """The largest frame offered, by its number of pixels whatever its shape; defaults shrink to it."""

    max_duration: int = Field(default=10, gt=0)
    """The longest clip offered, in seconds."""

    offer_audio: bool = True
    """Take `with_audio`; off, it is refused."""

    refuse_unavailable: bool = False
    """Refuse `with_audio` and `watermark_enabled` while no such stage exists, instead of delivering without."""

    max_wait_seconds: float = Field(default=86_400, gt=0)
    """New jobs are refused with 1305 when the pool would not come to them within this, as predicted."""

    max_body_bytes: int = Field(default=7 * MEBIBYTE, gt=0)
    """The largest request body: an image of 5 MiB as base64 fits."""

    body_seconds: float = Field(default=60, gt=0)
    """How long a request body may take to arrive."""

    max_image_bytes: int = Field(default=5 * MEBIBYTE, gt=0)
    """The largest image, as fetched or decoded from base64."""

    image_fetch_seconds: float = Field(default=10, gt=0)
    """How long fetching an image may take, redirects and all."""

    image_allow: Annotated[frozenset[str], NoDecode] = frozenset()
    """Inner places images may be fetched from all the same: `HOST:PORT`, or a network such as `10.1.0.0/16` (ports 80
    and 443) or `10.1.0.0/16:9000`, separated by commas."""

    max_tenant_images: int = Field(default=2, gt=0)
    """How many images of one tenant may be fetched and decoded at once; more of them wait their turn."""

    image_webp: bool = False
    """Take webp images too, besides png and jpeg."""

    @field_validator("prefix", mode="before")
    @classmethod
    def drop_last_slash(cls, value: object) -> object:
        return value.rstrip("/") if isinstance(value, str) else value

    @field_validator("cors_origins")
    @classmethod
    def check_origins(cls, value: frozenset[str]) -> frozenset[str]:
        for origin in value - {"*"}:
            if not ORIGIN.fullmatch(origin):
                raise ValueError(f"{origin}: not an origin such as https://studio.example")
        return value

    @field_validator("image_allow", "cors_origins", mode="before")
    @classmethod
    def split_by_commas(cls, value: object) -> object:
        return frozenset(filter(None, value.split(","))) if isinstance(value, str) else value

    @field_validator("image_allow")
    @classmethod
    def check_places(cls, value: frozenset[str]) -> frozenset[str]:
        Allowed(value)
        return value

    @field_validator("trusted_proxies", mode="before")
    @classmethod
    def split_networks(cls, value: object) -> object:
        return tuple(filter(None, value.replace(" ", "").split(","))) if isinstance(value, str) else value

    @field_validator("trusted_proxies")
    @classmethod
    def check_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ip_network(network, strict=False)) for network in value)
