"""What an API key may do: its scopes, until when, with which models and from which networks."""

import ipaddress
import time
from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field, field_validator

from video_jobs.job import Frozen


class Scope(StrEnum):
    GENERATE = "generate"
    READ = "read"
    ADMIN = "admin"


class KeyTerms(BaseModel):
    """Closed, so that a misspelt restriction is an error. No model named is every model; so with networks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    scopes: frozenset[Scope] = Field(default=frozenset({Scope.GENERATE, Scope.READ}), min_length=1)
    expires: int | None = Field(default=None, gt=0)
    models: frozenset[str] = frozenset()
    networks: tuple[str, ...] = ()

    @field_validator("networks")
    @classmethod
    def spell_networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(network.strip(), strict=False)) for network in value)

    def allow(self, address: str) -> bool:
        """Whether the key may be used from here; from nowhere in particular only if it names no network."""
        if not self.networks:
            return True
        try:
            found = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(found in ipaddress.ip_network(network) for network in self.networks)


class ApiKey(Frozen):
    """A key without its secret, unless the ring opened it for a caller."""

    id: str
    tenant: str
    name: str
    terms: KeyTerms = KeyTerms()
    created: int = 0
    revoked: int | None = None
    rolled_to: str | None = None
    is_tenant_open: bool = True
    secret: bytes = b""

    @property
    def is_expired(self) -> bool:
        return self.terms.expires is not None and time.time() >= self.terms.expires

    @property
    def state(self) -> str:
        return "revoked" if self.revoked else "expired" if self.is_expired else "active"
