"""The wheel, built from the tracked files through the sdist, and installed into an environment of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.package.bare import ROOT, Bare, install


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with sdist and wheel."""
    listed = subprocess.run(["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("needs a clone: the files that belong to the project are those that git tracks")
    folder = tmp_path_factory.mktemp("built")
    for name in filter(None, listed.stdout.split("\0")):
        target = folder / "tracked" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, target)
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder / "dist")]
    done = subprocess.run([*command, str(folder / "tracked")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist"


@pytest.fixture(scope="session")
def wheel(built: Path) -> Path:
    """The wheel."""
    (found,) = built.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Bare:
    """An environment with the wheel, beside which only the packages that it requires are found."""
    folder = tmp_path_factory.mktemp("bare")
    return install(wheel, folder / "venv", folder / "elsewhere")
