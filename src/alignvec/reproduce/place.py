"""Where a reproduction works, and on what."""

import hashlib
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel as Record

from alignvec.progress import Advance
from alignvec.reproduce.scale import RANDOM, Scale

if TYPE_CHECKING:
    from alignvec.models import BaseModel

CONTEXT = 16384
"""Longest sequence of the random base, in bytes: three-shot prompts for three domains fit."""
READ = ("*.safetensors", "*.yaml", "*.jsonl", "router.json", "card.json")
"""Files of a folder that a result depends on."""
CARDS = {"router.json": ("base", "domains", "layers", "ramp"), "card.json": ("form", "settings")}
"""What of a card a result is known by; calibration and usable range, which are measured later, are not among it."""


@dataclass(frozen=True)
class Place:
    """Where a reproduction works, and on what.

    Attributes:
        scale: what it works on.
        out: folder of the report; `data` in it holds results and journals, `work` models and vectors.
        advance: called with a task's name, what was done and the total.
    """

    scale: Scale
    out: Path
    advance: Advance
    _found: dict[str, Record] = field(default_factory=dict)

    @cached_property
    def base_folder(self) -> str:
        """What `models.load` takes for the base; a random one is written first."""
        if self.scale.base != RANDOM:
            return self.scale.base
        from alignvec.files import atomic_folder
        from alignvec.tiny_model import write_tiny_model

        folder = self.work(f"base-{self.scale.seed}")
        if not folder.is_dir():
            with atomic_folder(folder) as staging:
                write_tiny_model(staging, seed=self.scale.seed, context=CONTEXT)
        return str(folder)

    @cached_property
    def base(self) -> "BaseModel":
        """The base model, loaded."""
        from alignvec import models

        return models.load(self.base_folder, dtype=self.scale.dtype)

    def data(self, name: str) -> Path:
        """A small file, or a folder of such, kept with the report."""
        return self.out / "data" / name

    def work(self, name: str) -> Path:
        """A folder of models or vectors, which can be made again."""
        return self.out / "work" / name

    def found(self, stage: str) -> Any:
        """What a stage that this one needs has found."""
        return self._found[stage]

    def keep(self, stage: str, found: Record) -> None:
        """Let the following stages read what one has found."""
        self._found[stage] = found


def contents(paths: Iterable[Path]) -> str:
    """Digest of files, and of the tensors, recipes, rows and cards in folders; a missing one counts as such.

    Names count, places do not.
    """
    found = hashlib.sha256()
    for path in paths:
        inside = sorted(file for pattern in READ for file in path.rglob(pattern)) if path.is_dir() else [path]
        for file in inside:
            content = hashlib.sha256(_content(file)).hexdigest() if file.is_file() else "missing"
            found.update(f"{file.name} {content}\n".encode())
    return found.hexdigest()[:16]


def _content(file: Path) -> bytes:
    """A file's bytes; of a card what a result depends on, if it can be read."""
    whole = file.read_bytes()
    if file.name not in CARDS:
        return whole
    with suppress(ValueError, AttributeError):  # whoever reads the card tells what is wrong with it
        card = json.loads(whole)
        return json.dumps([card.get(key) for key in CARDS[file.name]]).encode()
    return whole
