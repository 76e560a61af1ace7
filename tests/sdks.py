"""The unmodified SDKs, each in a venv of its own: their requirements exclude each other."""

import subprocess
import venv
from pathlib import Path

from tests.homes import made_once

# All import sniffio, which their own requirements used to bring along and no longer do.
SDKS = {
    "zhipuai": ["zhipuai==2.1.5.20250825", "sniffio"],
    "zhipuai-old": ["zhipuai==2.0.1", "sniffio"],
    "zai": ["zai-sdk==0.2.3", "sniffio"],
}


def sdk_python(name: str) -> Path:
    """The interpreter of a venv that holds only this SDK; made once and kept."""

    def install(home: Path) -> None:
        venv.create(home, with_pip=True, clear=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, *SDKS[name]], check=True)

    return made_once(name, install) / "bin" / "python"
