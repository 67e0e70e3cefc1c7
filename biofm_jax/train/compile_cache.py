"""The persistent compile cache, so that a second start of a program does not compile again."""

import os
from pathlib import Path

import jax


def cache_folder() -> Path:
    """The folder of what can be made again: `BIOFM_CACHE`, by default ~/.cache/biofm_jax."""
    return Path(os.environ.get("BIOFM_CACHE") or Path.home() / ".cache" / "biofm_jax")


def enable_compile_cache() -> None:
    """Keep compiled programs under `cache_folder()`; a folder set by the user is left alone."""
    if jax.config.jax_compilation_cache_dir:
        return
    folder = cache_folder() / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
