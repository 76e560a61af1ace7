"""The unmodified SDKs, each in a venv of its own: their requirements exclude each other."""

import subprocess
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
# All import sniffio, which their own requirements used to bring along and no longer do.
SDKS = {
    "zhipuai": ["zhipuai==2.1.5.20250825", "sniffio"],
    "zhipuai-old": ["zhipuai==2.0.1", "sniffio"],
    "zai": ["zai-sdk==0.2.3", "sniffio"],
}


def sdk_python(name: str) -> Path:
    """The interpreter of a venv that holds only this SDK; made once and kept."""
    home = ROOT / ".venvs" / name
    python = home / "bin" / "python"
    if not (home / ".installed").exists():
        venv.create(home, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *SDKS[name]]
        subprocess.run(install, check=True)
        (home / ".installed").touch()
    return python
