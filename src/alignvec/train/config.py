"""What a training run is: one recipe gives the runs of both sides of a vector."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from alignvec.data.pairs import parse_order
from alignvec.errors import AlignvecError, ConfigError
from alignvec.vectors.card import NAME

Form = Literal["hinged", "two-sided", "one-sided"]
Loss = Literal["sigmoid", "ipo", "sft"]
ORDER = "expert>generic>avoidance"


class TrainConfig(BaseModel):
    """A recipe: data, preference order, loss and optimiser settings.

    Attributes:
        name: the vector's name, and the knob's.
        base: base model: `demo`, a folder or a hub id.
        domain: domain of the data; default: `name`.
        data: JSON-lines file, or several; default: the shipped data of the domain, or of the domains of `goal`.
        split: split to train on.
        limit: take the first rows of each file only.
        keep: file of `alignvec keep`: on its queries the base's own reply is preferred to the knob's; all rows are used
            in every pass, beside the data.
        start: vector to go on from, side by side, instead of from zero; its ranks may be at most `rank`.
        goal: domain to the level wanted there, for one run over the rows of all these domains: in each, that level is
            preferred to the others, which are tied (the paper's retraining baseline). Takes the place of `domain` and
            both orders; its form is `one-sided`.
        order: preference order of the positive side; the negative side is trained on `negative_order`.
        negative_order: default: `order` turned round.
        form: how the two runs become a vector; `one-sided` trains the positive side only.
        loss: `sigmoid` (DPO), `ipo` (the paper's), or `sft`: no preference, only the negative log-likelihood per token
            of the replies at the top of the order (supervised fine-tuning).
        beta: DPO's β, or IPO's τ (a margin of 1/(2τ) nats per token is aimed at).
        sft_weight: weight of the negative log-likelihood per token of the chosen replies; 0 for preference loss alone.
        full: train all weights instead of low-rank factors.
        rank: rank of the factors (their scale is 1: alpha equals rank).
        learning_rate: highest learning rate; it falls with a cosine after the warm-up.
        warmup_share: share of the optimiser steps in which it rises.
        epochs: passes over the rows.
        batch_size: queries a micro-batch; each brings its reply at every level.
        accumulate: micro-batches an optimiser step.
        dtype: of the base weights while training; factors are float32 always.
        max_length: most tokens a query with one reply may have.
        checkpoint_steps: optimiser steps between checkpoints.
        seed: of the order of rows and the first values of the factors.
        licence: of the vector.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str = Field(pattern=NAME)
    base: str = "demo"
    domain: str | None = Field(default=None, pattern=NAME)
    data: Path | Annotated[tuple[Path, ...], Field(min_length=1)] | None = None
    keep: Path | None = None
    start: Path | None = None
    split: Literal["train", "validation", "test"] = "train"
    limit: int | None = Field(default=None, ge=1)
    goal: dict[Annotated[str, Field(pattern=NAME)], str] | None = Field(default=None, min_length=1)
    order: str = ORDER
    negative_order: str | None = None
    form: Form = "hinged"
    loss: Loss = "sigmoid"
    beta: float = Field(default=0.1, gt=0)
    sft_weight: float = Field(default=1.0, ge=0)
    full: bool = False
    rank: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=5e-4, gt=0)
    warmup_share: float = Field(default=0.1, ge=0, lt=1)
    epochs: float = Field(default=3.0, gt=0)
    batch_size: int = Field(default=1, ge=1)
    accumulate: int = Field(default=4, ge=1)
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    max_length: int = Field(default=1024, ge=8)
    checkpoint_steps: int = Field(default=25, ge=1)
    seed: int = 0
    licence: str = "unknown"

    @field_validator("order", "negative_order")
    @classmethod
    def _parses(cls, value: str | None) -> str | None:
        try:
            return value if value is None else str(parse_order(value))
        except AlignvecError as error:
            raise ValueError(str(error)) from None

    @model_validator(mode="before")
    @classmethod
    def _goal_is_one_sided(cls, values: Any) -> Any:
        return {"form": "one-sided", **values} if isinstance(values, dict) and values.get("goal") else values

    @model_validator(mode="after")
    def _goal_stands_alone(self) -> "TrainConfig":
        if self.goal:
            given = {"domain": self.domain, "keep": self.keep, "negative_order": self.negative_order}
            taken = [key for key, value in given.items() if value] + (["order"] if self.order != ORDER else [])
            if taken:
                raise ValueError(f"a goal says what is wanted in each domain, so {taken[0]} must be left out")
            if self.form != "one-sided":
                raise ValueError("a goal has no other side; leave form out, or set it to one-sided")
        return self

    @model_validator(mode="after")
    def _full_needs_float32(self) -> "TrainConfig":
        if self.full and self.dtype != "float32":
            raise ValueError("training all weights needs dtype float32: smaller ones round the updates away")
        return self

    @model_validator(mode="after")
    def _start_is_low_rank(self) -> "TrainConfig":
        if self.full and self.start:
            raise ValueError("start goes on from low-rank factors, so it cannot be had with full; leave one out")
        return self

    def orders(self) -> dict[str, str]:
        """Preference order of each side to train: `positive`, and `negative` unless one-sided; of a goal its text."""
        if self.goal:
            return {"positive": ",".join(f"{domain}={level}" for domain, level in self.goal.items())}
        sides = {"positive": self.order}
        if self.form != "one-sided":
            sides["negative"] = self.negative_order or str(parse_order(self.order).reversed())
        return sides

    def source_hashes(self) -> dict[str, Any]:
        """What the files at `keep` and `start` hold, as hashes; empty without them.

        Raises:
            VectorError: if there is no vector at `start`.
        """
        from alignvec.vectors.store import load_card, sha256

        keep = {"keep_sha256": sha256(self.keep)} if self.keep else {}
        return keep | ({"start_files": load_card(self.start).files} if self.start else {})


def load_recipe(path: Path, **overrides: Any) -> TrainConfig:
    """Read a YAML recipe; overrides that are not None replace its values.

    Relative paths (`data`, `keep`, `start`) are taken from the recipe's folder.

    Raises:
        ConfigError: if the file is missing, no YAML mapping, or has an unknown key or a bad value.
    """
    import yaml

    from alignvec.data.yaml_keys import load_yaml

    try:
        content = load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"no recipe at {path}; the shipped ones are in recipes/") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        cause = str(error).replace("\n", " ")
        raise ConfigError(f"cannot read recipe {path}: {cause}; it must be a YAML mapping") from None
    if not isinstance(content, dict):
        raise ConfigError(f"recipe {path} is no YAML mapping; see recipes/ for examples")
    for key in ("data", "keep", "start"):
        if isinstance(content.get(key), list):
            content[key] = [path.parent / str(one) for one in content[key]]
        elif content.get(key):
            content[key] = path.parent / str(content[key])
    return make_config(str(path), {**content, **{k: v for k, v in overrides.items() if v is not None}})


def make_config(source: str, values: dict[str, Any]) -> TrainConfig:
    """Validate the values of a recipe.

    Raises:
        ConfigError: naming `source`, the key and what is wrong with it.
    """
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "recipe"
        known = f" (keys: {', '.join(TrainConfig.model_fields)})" if first["type"] == "extra_forbidden" else ""
        raise ConfigError(f"{source}: {where}: {first['msg']}{known}; see docs/recipes.md") from None
