"""Where a result comes from: command, versions, machine and commit, stored in every result file."""

import os
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from alignvec.shipped import INSTALLED

PACKAGES = (
    "alignvec",
    "torch",
    "transformers",
    "trl",
    "peft",
    "accelerate",
    "datasets",
    "safetensors",
    "scikit-learn",
    "scipy",
    "optuna",
    "numpy",
)


class Provenance(BaseModel):
    """What has to be known to get a result again.

    Attributes:
        command: that made it.
        versions: of the packages that results depend on.
        machine: in words.
        commit: of the source; null outside a repository.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    versions: dict[str, str]
    machine: str
    commit: str | None


def provenance() -> Provenance:
    """Provenance of a result made by this process, now."""
    name = Path(sys.argv[0]).name
    return Provenance(
        command=" ".join([name, *sys.argv[1:]]),
        versions=versions(),
        machine=machine(),
        commit=_commit(),
    )


def machine() -> str:
    """This machine and Python, in words."""
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def versions() -> dict[str, str]:
    """Installed versions of the packages that results depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit() -> str | None:
    if INSTALLED:  # the repository around it, if there is one, is a stranger's
        return None
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
