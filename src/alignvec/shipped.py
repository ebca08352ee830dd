"""What comes with the project: vectors, data, recipes, a router, results. Where it lies, and copies to work in.

A checkout has it in the repository's own folders, a wheel inside the package (`pyproject.toml` puts it there), in both
laid out alike. Nothing but this file asks which of the two it is.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from alignvec.errors import DataError

_PACKAGED = Path(__file__).resolve().parent / "_shipped"
INSTALLED = _PACKAGED.is_dir()
"""Whether this is an installed wheel; else it is a checkout."""
ROOT = _PACKAGED if INSTALLED else Path(__file__).resolve().parents[2]
"""Folder that everything shipped is in, under its name in the repository, such as `vectors/medical`."""

CONTENTS = {
    "vectors": "alignment vectors of the demo model",
    "routers": "which domains a prompt belongs to",
    "data": "preference rows, prompts for routers, capability items, safety rows",
    "recipes": "how vectors were made, goals, domain files, prompts, policies, scales",
    "configs": "several processes, for accelerate launch",
    "docs/results/data": "what alignvec reproduce begins with",
    "docs/results/solving/measured.jsonl": "settings that the shipped goals were solved from",
    "docs/results/blind_labels.jsonl": "replies labelled by reading",
}
"""What is shipped, a file or a folder, and what it is."""


@dataclass(frozen=True)
class Part:
    """Something that is shipped.

    Attributes:
        name: a file or folder below the root.
        about: what it is, in a few words.
        files: number of files; 0 if it is missing.
        bytes: their size.
    """

    name: str
    about: str
    files: int
    bytes: int


def shipped_parts(root: Path = ROOT) -> list[Part]:
    """Everything that is shipped, as it is found below a folder: here, or a copy."""
    found = []
    for name, about in CONTENTS.items():
        files = _files(root / name)
        found.append(Part(name, about, len(files), sum(file.stat().st_size for file in files)))
    return found


def copy_shipped(folder: Path) -> None:
    """Write everything that is shipped into a folder, where commands find `vectors/medical` as in the repository.

    Each top folder appears whole or not at all.

    Args:
        folder: made if there is none; what else is in it stays as it is.

    Raises:
        DataError: if one of the top folders is there already, or nothing is shipped with this installation.
        StorageError: if the place cannot be written.
    """
    import shutil
    import tempfile

    from alignvec.files import storage_errors

    tops = list(dict.fromkeys(Path(name).parts[0] for name in CONTENTS))
    for top in tops:
        if (folder / top).exists():
            raise DataError(f"{folder / top} is there already; choose another folder, or move it away")
    if missing := [name for name in CONTENTS if not _files(ROOT / name)]:
        raise DataError(f"{ROOT / missing[0]} is missing here; install alignvec again")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".alignvec.", dir=folder) as staging:
            for file in (file for name in CONTENTS for file in _files(ROOT / name)):
                target = Path(staging) / file.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
            placed: list[str] = []
            try:
                for top in tops:
                    (Path(staging) / top).rename(folder / top)
                    placed.append(top)
            except BaseException:  # stopped between two: all or nothing, so that the same command can be given again
                for top in placed:
                    (folder / top).rename(Path(staging) / top)
                raise


def hint(message: str, arguments: Sequence[str]) -> str:
    """What to add to an error about an argument that names nothing here, but something that is shipped; else nothing.

    Args:
        message: the error's.
        arguments: of the command line; `@FILE#GOAL` and `--option=VALUE` are understood.
    """
    for argument in arguments:
        for name in argument.replace("@", "=").replace("#", "=").split("="):
            shipped = Path(name).parts[:1] and any(Path(name).is_relative_to(part) for part in CONTENTS)
            if shipped and _names(message, str(Path(name))) and not Path(name).exists() and (ROOT / name).exists():
                return f" ({name} comes with alignvec: alignvec shipped --copy DIR, then this command in DIR)"
    return ""


def _names(message: str, path: str) -> bool:
    """Whether an error is about a path, not about a word that happens to be spelt alike."""
    before = "" if "/" in path else r"\b(?:at|in) "
    return re.search(rf"{before}(?<![\w/.-]){re.escape(path)}(?![\w/-])", message) is not None


def _files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
