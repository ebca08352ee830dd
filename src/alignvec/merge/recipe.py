"""What a merge is: a base, knobs with coefficients or schedules over the layers, a method, and how to round."""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from alignvec.errors import ConfigError
from alignvec.merge.methods import METHODS
from alignvec.models import DEMO
from alignvec.vectors.card import NAME
from alignvec.vectors.mismatch import Mismatch


class KnobTerm(BaseModel):
    """One delta of a merge. In YAML a bare number or level stands for its coefficient: `medical: 0.5`.

    With neither `vector` nor `model`, the knob's name is looked up among the vectors at hand.

    Attributes:
        vector: a vector folder, relative to the recipe's folder.
        model: a fine-tuned model of the same architecture, whose difference to the base is the delta: a hub id, or a
            folder, relative to the recipe's folder or to where you are.
        coefficient: λ, or one of the vector's levels.
        layers: values at equal distances over the depth, linear in between; λ is multiplied by them.
        density: share of each tensor's values that the method keeps.
        allow: of a model, what to do about tensors that do not match the base's; see `alignvec extract --allow`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    vector: Path | None = None
    model: str | None = None
    coefficient: float | str = 1.0
    layers: list[float] | None = Field(default=None, min_length=1)
    density: float = Field(default=1.0, gt=0, le=1)
    allow: list[Mismatch] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _from_scalar(cls, value: Any) -> Any:
        return {"coefficient": value} if isinstance(value, int | float | str) else value

    @field_validator("coefficient", mode="before")
    @classmethod
    def _number_or_level(cls, value: Any) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError("must be a number such as 0.5, or a level such as expert")
        try:
            number = float(value)  # YAML reads 1e-3 as a text
        except ValueError:
            return value
        if not math.isfinite(number):
            raise ValueError("must be a finite number")
        return number

    @field_validator("vector", "model")
    @classmethod
    def _from_recipe_folder(cls, value: Path | str | None, info: ValidationInfo) -> Path | str | None:
        folder = (info.context or {}).get("folder")
        if folder is None or value is None:
            return value
        return folder / value if isinstance(value, Path) else _model_place(value, folder)

    @model_validator(mode="after")
    def _one_source(self) -> "KnobTerm":
        if self.vector is not None and self.model is not None:
            raise ValueError("give vector or model, not both")
        if self.model is not None and isinstance(self.coefficient, str):
            raise ValueError(f"a model has no level {self.coefficient!r}; give coefficient as a number")
        return self


class MergeRecipe(BaseModel):
    """A merge: θ = θ_base + scale · method(Δ₁, …), each tensor rounded once.

    Attributes:
        base: base model: `demo`, a hub id, or a folder, relative to the recipe's folder or to where you are.
        knobs: the deltas by name.
        method: how the deltas become one: see `alignvec.merge.methods`.
        normalize: divide by the coefficients; what that means is the method's.
        scale: multiplies the merged delta (λ of the TIES paper).
        dtype: of the written weights; none: each tensor keeps the base's.
        rounding: to the nearest value of the dtype, or stochastic, which keeps small deltas in the mean.
        seed: of dropping (DARE) and stochastic rounding.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    base: str = DEMO
    knobs: dict[Annotated[str, Field(pattern=NAME)], KnobTerm]
    method: str = "sum"
    normalize: bool = False
    scale: float = 1.0
    dtype: Literal["float32", "bfloat16", "float16"] | None = None
    rounding: Literal["nearest", "stochastic"] = "nearest"
    seed: int = Field(default=0, ge=0)

    @field_validator("base")
    @classmethod
    def _from_recipe_folder(cls, value: str, info: ValidationInfo) -> str:
        folder = (info.context or {}).get("folder")
        return value if folder is None or value == DEMO else _model_place(value, folder)

    @field_validator("method")
    @classmethod
    def _registered(cls, value: str) -> str:
        if value not in METHODS:
            raise ValueError(f"unknown method {value!r} (have: {', '.join(METHODS)})")
        return value

    @model_validator(mode="after")
    def _density_is_used(self) -> "MergeRecipe":
        sparse = [name for name, term in self.knobs.items() if term.density < 1]
        if self.method == "sum" and sparse:
            raise ValueError(f"knob {sparse[0]!r} has a density, but method sum keeps every value; use ties or dare")
        return self


def load_merge_recipe(path: Path) -> MergeRecipe:
    """Read a merge recipe (YAML).

    Raises:
        ConfigError: if the file is missing, no YAML mapping, or has an unknown key or a bad value.
    """
    return make_merge_recipe(str(path), read_mapping(path), folder=path.parent)


def make_merge_recipe(source: str, values: dict[str, Any], *, folder: Path | None = None) -> MergeRecipe:
    """Validate the values of a merge recipe.

    Args:
        source: what to call it in an error.
        values: keys and values as in YAML.
        folder: what relative paths are taken from; none: they stay as they are.

    Raises:
        ConfigError: naming `source`, the key and what is wrong with it.
    """
    try:
        return MergeRecipe.model_validate(values, context={"folder": folder})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        model = KnobTerm if len(first["loc"]) > 1 else MergeRecipe
        known = f" (keys: {', '.join(model.model_fields)})" if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{source}: {where}: {first['msg']}{known}; see docs/vectors.md") from None


def read_mapping(path: Path) -> dict[str, Any]:
    """Content of a YAML file that holds a mapping.

    Raises:
        ConfigError: if the file is missing, cannot be read, or holds no mapping.
    """
    import yaml

    from alignvec.data.yaml_keys import load_yaml

    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}; check the path") from None
    except (OSError, ValueError, yaml.YAMLError) as error:  # ValueError: no UTF-8, or a date that is none
        cause = str(error).replace("\n", " ")
        raise ConfigError(f"cannot read {path}: {cause}; it must be a YAML mapping") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{path} is no YAML mapping; an example is recipes/merge/example.yaml")
    return content


def layer_coefficient(term_coefficient: float, layers: Sequence[float] | None, tensor_name: str, depth: int) -> float:
    """Coefficient λ of a term at one tensor.

    Args:
        term_coefficient: the term's λ.
        layers: its schedule: values at equal distances from the first layer to the last, linear in between.
        tensor_name: has the layer's number in it (`.layers.3.`, `.h.3.`); an input embedding takes the first value of
            the schedule, everything else without a number (final norm, output head) the last.
        depth: number of layers; a single one takes the last value.
    """
    if not layers:
        return term_coefficient
    found = _LAYER.search(tensor_name)
    if not found:
        return term_coefficient * (layers[0] if _INPUT_EMBEDDING.search(tensor_name) else layers[-1])
    place = int(found[1]) / (depth - 1) if depth > 1 else 1.0
    return term_coefficient * float(np.interp(place, np.linspace(0, 1, len(layers)), layers))


def depth_of(tensors: Iterable[str]) -> int:
    """Number of layers of a model, from its tensors' names; 0 if none has a layer's number in it."""
    return max((int(found[1]) + 1 for name in tensors if (found := _LAYER.search(name))), default=0)


_LAYER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")
_INPUT_EMBEDDING = re.compile(r"embed(?!_out)|(?:^|\.)w[tp]e\.")


def _model_place(value: str, folder: Path) -> str:
    place = folder / Path(value).expanduser()
    return str(place) if place.is_dir() else value
