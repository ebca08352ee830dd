"""How much of everything a reproduction measures: one YAML file a scale, from seconds on random weights to GPUs."""

from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from alignvec.errors import ConfigError
from alignvec.shipped import ROOT
from alignvec.steer.sampling import Sampling
from alignvec.vectors.strict import Strict

SCALES = ROOT / "recipes" / "reproduce"
"""Folder of the scales that come with the project."""
RECIPES = SCALES.parent
PLACES = {"vectors", "router", "goals", "solved", "recipes"}
"""Keys whose values differ from machine to machine."""
RANDOM = "random"
"""Name of the base that is a small model with random weights: every stage runs, nothing means anything."""


class Scale(Strict):
    """What a reproduction works on, and how much of it.

    Attributes:
        base: `demo`, `random`, a folder or a hub id.
        dtype: of the weights when measuring.
        vectors: folder of ready hinged vectors, one a domain, under the domains' names; None trains them.
        recipes: folder of the training recipes.
        training: values that replace those of every training recipe.
        domains: in the order of tables.
        moved: domain whose vector is moved between fine-tuning stages.
        coefficients: λ of the curves; 0 and ±1 are among them.
        validation: validation queries a domain; None is all.
        test: test queries a domain; None is all.
        spoken: of these, the first that replies are generated for; None is all.
        compared: queries a domain, the first ones, on which methods choose their strengths and are compared.
        max_new_tokens: longest reply, in tokens.
        batch_size: replies generated at once.
        router: folder of a router; None trains one on the base.
        goals: file of solved settings for every goal; None solves them.
        solved: journal of the solver that the settings in `goals` come from.
        capability: questions and instructions of each kind; None is all.
        strengths: λ, mixing weights or multiples of a control vector that methods choose from on validation.
        cost: system prompts' lengths in tokens at which inference is timed.
        batches: requests at once at which anything is timed.
        rounds: repetitions of every timing.
        seed: of training and sampling.
    """

    base: str = "demo"
    dtype: str = "float32"
    vectors: Path | None = None
    recipes: Path = RECIPES
    training: dict[str, Any] = Field(default_factory=dict)
    domains: tuple[str, ...] = Field(default=("financial", "legal", "medical"), min_length=1)
    moved: str = "medical"
    coefficients: tuple[float, ...] = (-1.5, -1.0, -0.5, 0.0, 0.5, 1.0, 1.5)
    validation: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    spoken: int | None = Field(default=None, ge=1)
    compared: int = Field(default=10, ge=1)
    max_new_tokens: int = Field(default=160, ge=1)
    batch_size: int = Field(default=16, ge=1)
    router: Path | None = None
    goals: Path | None = None
    solved: Path | None = None
    capability: int | None = Field(default=None, ge=1)
    strengths: tuple[float, ...] = Field(default=(0.5, 1.0, 1.5), min_length=1)
    cost: tuple[int, ...] = Field(default=(0, 256, 1024), min_length=1)
    batches: tuple[int, ...] = Field(default=(1, 8), min_length=1)
    rounds: int = Field(default=3, ge=1)
    seed: int = 0

    def limited(self, limit: int | None) -> "Scale":
        """The same scale with at most so many queries a domain, and capability items, where it has more."""
        if limit is None:
            return self
        bound = ("validation", "test", "spoken", "compared", "capability")
        return self.model_copy(update={key: min(limit, getattr(self, key) or limit) for key in bound})

    def told(self) -> str:
        """The scale as JSON without places of files: what its results are known by."""
        return self.model_dump_json(indent=1, exclude=PLACES) + "\n"

    def sampling(self) -> Sampling:
        """How replies are decoded throughout."""
        return Sampling(max_new_tokens=self.max_new_tokens, seed=self.seed)


def load_scale(name: str) -> Scale:
    """The scale of that name in `recipes/reproduce`, or that a YAML file describes.

    Relative paths (`vectors`, `router`, `goals`, `solved`) are taken from the file's folder.

    Raises:
        ConfigError: if there is no such scale, or a value in it cannot be used.
    """
    import yaml

    from alignvec.data.yaml_keys import load_yaml

    own = name.endswith((".yaml", ".yml"))
    path = Path(name) if own else SCALES / f"{name}.yaml"
    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if own:
            raise ConfigError(f"no scale file at {path}; check --scale") from None
        have = ", ".join(sorted(found.stem for found in SCALES.glob("*.yaml")))
        raise ConfigError(f"no scale {name!r} (have: {have}); name one of them, or a YAML file") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read scale {path}: {' '.join(str(error).split())}; it must be YAML") from None
    if not isinstance(content, dict):
        raise ConfigError(f"scale {path} is no YAML mapping; see recipes/reproduce for examples")
    for key in sorted(PLACES):
        if content.get(key):
            content[key] = path.parent / str(content[key])
    try:
        scale = Scale.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        known = f" (keys: {', '.join(Scale.model_fields)})" if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"scale {path}: {where}: {first['msg']}{known}; see recipes/reproduce for examples") from None
    if len(set(scale.domains)) != 3:
        raise ConfigError(
            f"scale {path}: domains are {', '.join(scale.domains)}; three are needed for the Latin square"
        )
    if scale.moved not in scale.domains:
        raise ConfigError(f"scale {path}: moved {scale.moved!r} is none of the domains {', '.join(scale.domains)}")
    if missing := {-1.0, 0.0, 1.0} - set(scale.coefficients):
        raise ConfigError(f"scale {path}: coefficients lack {min(missing):g}; -1, 0 and 1 must be among them")
    return scale
