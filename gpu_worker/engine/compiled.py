"""The repeated block, compiled once for all shapes; what was compiled outlives a restart."""

import os
from pathlib import Path
from typing import Any


def use_cache_folder(folder: Path) -> None:
    """Where compiled code is kept. To be said before anything is compiled."""
    folder.mkdir(parents=True, exist_ok=True)
    # The compiler knows no other way to be told.
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def compile_blocks(transformer: Any, backend: str = "inductor") -> None:
    """diffusers' own switch refuses this model. All blocks share one code, made for any count of tokens."""
    for block in transformer.transformer_blocks:
        if block._compiled_call_impl is None:
            block.compile(backend=backend, dynamic=True)


def uncompile_blocks(transformer: Any) -> None:
    for block in transformer.transformer_blocks:
        block._compiled_call_impl = None
