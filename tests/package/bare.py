"""An environment with the wheel and what it requires, and nothing else: linked from this one, so nothing is fetched."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "RANK", "WORLD_SIZE")


@dataclass(frozen=True)
class Bare:
    """A virtual environment that has the wheel.

    Attributes:
        folder: of the environment.
        work: an empty folder outside the repository, where commands run.
    """

    folder: Path
    work: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    @property
    def site(self) -> Path:
        """Its site-packages."""
        return next(self.folder.glob("lib/python*/site-packages"))

    def alignvec(
        self, *arguments: object, extras: Sequence[str] = (), at: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run the installed command, beside the packages of the core and of some extras."""
        return self.run(self.folder / "bin" / "alignvec", *arguments, extras=extras, at=at)

    def run(
        self, *command: object, extras: Sequence[str] = (), at: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command beside the packages of the core and of some extras."""
        env = {name: value for name, value in os.environ.items() if name not in LEFT_OUT}
        env["PYTHONPATH"] = str(self.beside(extras))
        return subprocess.run(
            list(map(str, command)), cwd=at or self.work, env=env, capture_output=True, text=True, check=False
        )

    def beside(self, extras: Sequence[str]) -> Path:
        """Folder with links to the packages that the wheel requires with some extras, and those that they require."""
        folder = self.folder.with_name("-".join(("beside", *extras)))
        if not folder.is_dir():
            folder.mkdir()
            for found in self.required(extras):
                link(found, folder)
        return folder

    def required(self, extras: Sequence[str] = ()) -> list[Distribution]:
        """Packages of this process's environment that the wheel requires, in all."""
        wheel = next(one for one in self.installed() if canonicalize_name(one.name) == "alignvec")
        todo: list[tuple[Distribution, tuple[str, ...]]] = [(wheel, tuple(extras))]
        seen: dict[tuple[str, tuple[str, ...]], Distribution] = {}
        while todo:
            one, wanted = todo.pop()
            key = (canonicalize_name(one.name), wanted)
            if key in seen:
                continue
            seen[key] = one
            for text in one.requires or ():
                need = Requirement(text)
                if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in wanted or ("",)):
                    todo.append((distribution(need.name), tuple(sorted(need.extras))))
        return [one for (name, _), one in seen.items() if name != "alignvec"]

    def installed(self) -> list[Distribution]:
        """What is installed in the environment itself."""
        return [Distribution.at(folder) for folder in self.site.glob("*.dist-info")]


def link(found: Distribution, folder: Path) -> None:
    """Put links to the modules and the metadata of a package into a folder."""
    for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        source, target = Path(str(found.locate_file(top))), folder / top
        if source.suffix != ".pth" and source.exists() and not target.exists():
            target.symlink_to(source)


def install(wheel: Path, folder: Path, work: Path) -> Bare:
    """A new environment with the wheel alone."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    bare = Bare(folder, work)
    pip = [sys.executable, "-m", "pip", "--python", str(bare.python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, str(wheel)], check=True)
    work.mkdir()
    return bare
