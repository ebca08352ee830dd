"""`knobs.json`: which adapter of an exported folder is which side of which knob."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from alignvec.errors import VectorError
from alignvec.provenance import Provenance
from alignvec.steer.scale import Scale

MANIFEST = "knobs.json"
"""Name of the file in the folder of the adapters."""


class Adapter(BaseModel):
    """One GGUF file; llama-server numbers adapters by their order on its command line, which is that of the manifest.

    Attributes:
        file: name in the folder.
        knob: name of the vector.
        sign: 0 if the adapter's scale is λ itself, +1 if it is max(λ, 0), -1 if it is max(-λ, 0).
        ranks: rank to the number of tensors that have it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: str
    knob: str
    sign: Literal[-1, 0, 1]
    ranks: dict[int, int]

    def scale(self, coefficient: float) -> float:
        """Scale of the adapter at coefficient λ: the gate of its part (`Part.gate`, whose module needs torch)."""
        return coefficient if self.sign == 0 else max(self.sign * coefficient, 0.0) + 0.0  # −0 becomes 0


class Positions(BaseModel):
    """What a knob's positions mean, see `Scale`.

    Attributes:
        levels: level to its recommended λ.
        usable: lowest and highest λ that are known to work; None if nothing was measured.
        curve: (λ, share of the way to the highest level's behaviour), for percentages.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    levels: dict[str, float]
    usable: tuple[float, float] | None
    curve: tuple[tuple[float, float], ...]


class Manifest(BaseModel):
    """What an exported folder holds.

    Attributes:
        format_version: of this file; a reader that does not know it refuses the folder.
        base: name of the base model.
        base_fingerprint: its fingerprint.
        adapters: in the order of their ids.
        knobs: by vector name.
        dtype: of the stored factors.
        relative_error: largest ‖stored − Δ‖ / ‖Δ‖ of an adapter.
        provenance: how the folder was made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format_version: Literal[1] = 1
    base: str
    base_fingerprint: str
    adapters: tuple[Adapter, ...] = Field(min_length=1)
    knobs: dict[str, Positions]
    dtype: str
    relative_error: float
    provenance: Provenance

    @property
    def scales(self) -> Mapping[str, Scale]:
        """Positions of every knob."""
        return {name: Scale(name, p.levels, p.usable, p.curve) for name, p in self.knobs.items()}


def load_manifest(folder: Path) -> Manifest:
    """Read the manifest of an exported folder.

    Raises:
        VectorError: if there is none, or it cannot be read.
    """
    try:
        return Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except OSError as error:
        raise VectorError(
            f"cannot read {folder / MANIFEST} ({error.strerror}); make the folder with "
            "alignvec export --format gguf --knobs --out FOLDER"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise VectorError(f"{folder / MANIFEST}: {place}: {first['msg']}; export the folder again") from error
