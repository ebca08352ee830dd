"""The folder of what was fetched or converted once."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """Where fetched and converted files are kept: `$ALIGNVEC_CACHE`, else `alignvec` in the user's cache folder."""
    if chosen := os.environ.get("ALIGNVEC_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "alignvec"
