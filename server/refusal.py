"""A request that is refused: which business error, of which field, and why. Each dialect words it its own way."""

from collections.abc import Mapping
from typing import Any, Self


class Refusal(Exception):
    """Answered with a business error. `detail` is a known reason, or the allowed values as they are.

    `wait_s` is when the same request may pass, where somebody knows. `beside` stands in the answer next to the error,
    `told` in the audit alone.
    """

    def __init__(
        self,
        code: str,
        field: str = "",
        detail: str = "",
        status: int = 0,
        wait_s: float | None = None,
        headers: Mapping[str, str] | None = None,
        beside: Mapping[str, Any] | None = None,
        told: Mapping[str, str] | None = None,
        **values: str,
    ) -> None:
        super().__init__(code, field, detail)
        self.code, self.field, self.detail, self.status, self.values = code, field, detail, status, values
        self.wait_s, self.headers = wait_s, dict(headers or {})
        self.beside, self.told = dict(beside or {}), dict(told or {})

    @classmethod
    def unavailable(cls) -> Self:
        """Something that the gateway needs is away, and will be back."""
        return cls("1234", detail="away", status=503)
