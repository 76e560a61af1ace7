"""How settings are read: the environment, then secrets' files, then the operator's TOML file."""

import os
import sys
import tomllib
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

PREFIX = "COGVIDEOX_"
CONFIG = PREFIX + "CONFIG"


class Fragment(BaseSettings):
    """Read from `COGVIDEOX_…`, then from the TOML file it may name; frozen. Modules never read the environment."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        path = os.environ.get(CONFIG)
        files = (NamedToml(settings_cls, path),) if path else ()
        return (init_settings, env_settings, SecretFiles(settings_cls), *files)


Settings = TypeVar("Settings", bound=Fragment)


def read_settings(kind: type[Settings], **given: Any) -> Settings:
    """A process's settings, or one line for each that is wrong, and exit 2."""
    try:
        return kind(**given)
    except ValidationError as exc:
        problems = [
            (".".join(map(str, error["loc"])), error["msg"].removeprefix("Value error, ")) for error in exc.errors()
        ]
        lines = [f"{PREFIX}{name.upper().removeprefix(PREFIX)}: {why}" if name else why for name, why in problems]
    except BadSettingFile as exc:
        lines = [str(exc)]
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        lines = [f"{CONFIG}={os.environ.get(CONFIG)}: {exc}"]
    print("\n".join(lines), file=sys.stderr)
    sys.exit(2)


class BadSettingFile(Exception):
    """A file that a variable names cannot be read."""


class NamedToml(TomlConfigSettingsSource):
    """The operator's file: one flat table of settings, lower case, without the prefix."""

    def __init__(self, settings_cls: type[BaseSettings], path: str) -> None:
        if not Path(path).is_file():
            raise BadSettingFile(f"{CONFIG} names {path}, and there is no such file")
        super().__init__(settings_cls, Path(path))


class SecretFiles(PydanticBaseSettingsSource):
    """`COGVIDEOX_NAME_FILE` holds the path of a file with the secret, as orchestrators mount them."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        path = os.environ.get(f"{PREFIX}{field_name.upper()}_FILE")
        is_secret = "SecretStr" in str(field.annotation)
        if not is_secret or not path:
            return None, field_name, False
        try:
            return Path(path).read_text().strip(), field_name, False
        except (OSError, UnicodeDecodeError) as exc:
            raise BadSettingFile(f"{PREFIX}{field_name.upper()}_FILE={path}: {exc}") from exc

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in self.settings_cls.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}
