"""mergekit's YAML read as a merge recipe: what maps exactly is mapped, the rest is a note or an error, never silent."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from alignvec.errors import ConfigError
from alignvec.merge.recipe import make_merge_recipe, read_mapping
from alignvec.models import DTYPES

T = TypeVar("T")


@dataclass(frozen=True)
class _Kind:
    """One of mergekit's methods: ours, and its defaults there."""

    method: str
    normalize: bool = False
    rescale: bool = False


_KINDS = {
    "task_arithmetic": _Kind("sum"),
    "ties": _Kind("ties", normalize=True),
    "dare_ties": _Kind("dare-ties", rescale=True),
    "dare_linear": _Kind("dare", rescale=True),
    "linear": _Kind("sum", normalize=True),
}
_TOP = {"merge_method", "base_model", "models", "parameters", "dtype", "out_dtype"}
_BASE_KEPT = "not mapped: the result has the base's"


def convert(path: Path) -> tuple[dict[str, Any], list[str]]:
    """A mergekit configuration as the values of a merge recipe, and notes on what is not the same there.

    Folders that exist from where you are become absolute paths, since a recipe's paths are relative to the recipe.

    Raises:
        ConfigError: if it is no mergekit configuration, or asks for what a merge recipe cannot say.
    """
    reader = _Reader(path, read_mapping(path))
    values = reader.recipe()
    make_merge_recipe(str(path), values)
    return values, reader.notes


@dataclass
class _Input:
    """A model with its weight (a list: by depth) and density."""

    name: str
    weight: float | list[float]
    density: float


@dataclass
class _Reader:
    path: Path
    config: dict[str, Any]
    notes: list[str] = field(default_factory=list)

    def recipe(self) -> dict[str, Any]:
        """The recipe's values."""
        name = self.config.get("merge_method")
        if not isinstance(name, str) or name not in _KINDS:
            self.fail("merge_method", f"{name!r} has no counterpart (supported: {', '.join(_KINDS)})")
        kind = _KINDS[name]
        self.top_level()
        linear = name == "linear"
        shared = self.parameters(self.config.get("parameters"), "parameters")
        base, inputs = self.models(shared, linear, sparse=kind.method != "sum")
        normalize = self.scalar(shared, "normalize", bool, kind.normalize)
        scale = 1.0 if linear else self.scalar(shared, "lambda", float, 1.0)
        rescale = self.scalar(shared, "rescale", bool, kind.rescale)
        self.unused(shared, "parameters", _used(kind, linear) | {"normalize"} | (set() if linear else {"lambda"}))
        if linear:
            inputs = self.relative(inputs, normalize)
            normalize = False
            base, inputs = inputs[0].name, inputs[1:]
        elif kind.method != "sum" and rescale != kind.rescale:
            self.other_rescale(inputs, rescale, normalize)
        if normalize:
            normalize, scale = self.normalized(kind, inputs, scale)
        if kind.rescale:
            self.notes.append(
                f"{name} draws at random: other values are dropped than in mergekit, and the rest is divided by the "
                "density, where mergekit keeps the sum of magnitudes as it was"
            )
        values = {
            "base": base,
            "method": kind.method,
            "normalize": normalize,
            "scale": scale,
            "dtype": self.dtype(),
            "knobs": self.knobs(inputs),
        }
        return {k: v for k, v in values.items() if (k, v) not in (("normalize", False), ("scale", 1.0), ("dtype", None))}

    def top_level(self) -> None:
        """Check the keys beside models and parameters."""
        for key in ("slices", "modules"):
            if self.config.get(key):
                self.fail(key, "a merge recipe merges whole models; give them under models")
        for key, value in self.config.items():
            if key in _TOP or value is None:
                continue
            if key in ("tokenizer", "tokenizer_source"):
                if value not in ("base", {"source": "base"}):
                    self.notes.append(f"{key}: {_BASE_KEPT} tokenizer, and no embedding row is moved or replaced")
            elif key == "chat_template":
                self.notes.append(f"{key}: {_BASE_KEPT} chat template")
            else:
                self.notes.append(f"{key}: not mapped (no key that mergekit reads)")

    def models(self, shared: Mapping[str, Any], linear: bool, *, sparse: bool) -> tuple[str, list[_Input]]:
        """The base, and what is merged into it; for `linear` the base comes first among them."""
        entries = self.config.get("models")
        if not isinstance(entries, list) or not entries or not all(isinstance(e, dict) for e in entries):
            self.fail("models", "must be a list of models")
        base = self.config.get("base_model")
        if base is None and not linear:
            self.fail("base_model", "is missing; the deltas are taken from it")
        found: dict[str, _Input] = {}
        own_base = self.reference(base, "base_model") if base is not None else None
        if linear and own_base and own_base not in [self.reference(e.get("model"), "models") for e in entries]:
            entries = [{"model": base}, *entries]
        for i, entry in enumerate(entries):
            where = f"models.{i}"
            model = self.reference(entry.get("model"), f"{where}.model")
            if model in found:
                self.fail(f"{where}.model", f"{model} comes twice; give it once")
            for key in entry.keys() - {"model", "parameters"}:
                self.notes.append(f"{where}.{key}: not mapped (no key that mergekit reads)")
            own = self.parameters(entry.get("parameters"), f"{where}.parameters")
            if model == own_base and not linear:
                self.unused(own, f"{where}.parameters", set(), why="it is the base")
                continue
            self.unused(own, f"{where}.parameters", {"weight", "density"} if sparse else {"weight"})
            settings = {**shared, **own}
            if "weight" not in settings:
                self.fail(f"{where}.parameters.weight", "is missing; mergekit wants one too")
            weight = self.weight(settings["weight"], f"{where}.parameters.weight")
            density = min(self.scalar(settings, "density", float, 1.0), 1.0) if sparse else 1.0
            found[model] = _Input(model, weight, density)
        if linear and own_base:
            found = {own_base: found[own_base], **found}
        return own_base or next(iter(found)), list(found.values())

    def relative(self, inputs: Sequence[_Input], normalize: bool) -> list[_Input]:
        """A weighted mean of models as base + Σ λ·Δ: λ is the model's share of the weights."""
        weights = [i.weight for i in inputs]
        constant = [w for w in weights if isinstance(w, float)]
        total = sum(constant)
        if len(constant) < len(weights):
            self.fail("models", "linear with weights by depth has no counterpart; use task_arithmetic")
        if total == 0 or (not normalize and abs(total - 1) > 1e-6):
            self.fail("models", f"linear scales the base too where the weights add up to {total:g}; make it 1")
        self.notes.append(
            f"linear: written as deltas to {inputs[0].name}; each coefficient is the model's share of the weights"
        )
        return [_Input(i.name, w / total, 1.0) for i, w in zip(inputs, constant, strict=True)]

    def other_rescale(self, inputs: Sequence[_Input], rescale: bool, normalize: bool) -> None:
        """Map a `rescale` that is not the method's default."""
        if all(i.density == 1 for i in inputs):
            return
        if rescale or normalize:
            self.fail("parameters.rescale", f"{rescale} has no counterpart for this method; leave it out")
        for entry in inputs:
            scaled = entry.weight if isinstance(entry.weight, list) else [entry.weight]
            scaled = [w * entry.density for w in scaled]
            entry.weight = scaled if isinstance(entry.weight, list) else scaled[0]
        self.notes.append("rescale: false is written as coefficients times density, which undoes the rescaling")

    def normalized(self, kind: _Kind, inputs: Sequence[_Input], scale: float) -> tuple[bool, float]:
        """`normalize` and `scale` of the recipe for a normalized merge."""
        flat = [w for i in inputs for w in (i.weight if isinstance(i.weight, list) else [i.weight])]
        if min(flat, default=0.0) >= 0:
            return True, scale
        if kind.method.endswith("ties"):
            self.notes.append(
                "normalize: divides by the sum of |coefficient| of what agrees; mergekit by the signed sum, which is "
                "another result where a negative weight agrees"
            )
            return True, scale
        total = sum(flat)
        if any(isinstance(i.weight, list) for i in inputs) or total > 0:
            return True, scale  # a sum that is not above 0 at some depth is refused by the merge
        self.notes.append(f"normalize: written into scale, since the weights add up to {total:g}")
        return False, scale / total if abs(total) >= 1e-8 else scale

    def knobs(self, inputs: Sequence[_Input]) -> dict[str, Any]:
        """The recipe's knobs, named after the models."""
        knobs: dict[str, Any] = {}
        for entry in inputs:
            stem = re.sub(r"[^A-Za-z0-9_.-]+", "-", Path(entry.name).name).lstrip("_.-") or "model"
            name, count = stem, 1
            while name in knobs:
                count += 1
                name = f"{stem}-{count}"
            term: dict[str, Any] = {"model": entry.name}
            if isinstance(entry.weight, list):
                term["layers"] = entry.weight
                if entry.weight[0] != entry.weight[-1]:
                    self.notes.append(
                        f"knob {name}: the final norm and an output head of its own take the schedule's last value, "
                        f"{entry.weight[-1]:g}; mergekit gives them the first, {entry.weight[0]:g}"
                    )
            else:
                term["coefficient"] = entry.weight
            knobs[name] = term if entry.density == 1 else {**term, "density": entry.density}
        return knobs

    def dtype(self) -> str | None:
        """dtype of the written weights."""
        given = {k: str(self.config[k]).removeprefix("torch.") for k in ("dtype", "out_dtype") if self.config.get(k)}
        written = given.get("out_dtype", given.get("dtype"))
        if written is not None and written not in DTYPES:
            self.fail("out_dtype" if "out_dtype" in given else "dtype", f"{written} is none of {', '.join(DTYPES)}")
        if written is None:
            self.notes.append("dtype: none given, so each tensor keeps the base's; mergekit takes one that fits all models")
        if given.get("dtype", "float32") != "float32":
            self.notes.append(
                f"dtype: sums are made in float32 and rounded once; mergekit makes them in {given['dtype']}, so the "
                "results differ by its rounding"
            )
        return written

    def reference(self, value: Any, where: str) -> str:
        """A model's folder or hub id."""
        if isinstance(value, dict) and value.keys() == {"model"}:
            value = value["model"]
        if isinstance(value, dict) and value.keys() == {"path"}:
            value = value["path"]
        if not isinstance(value, str) or not value:
            self.fail(where, f"cannot read {value!r}; give a folder or a hub id")
        if Path(value).expanduser().is_dir():
            return str(Path(value).expanduser().resolve())
        if "+" in value:
            self.fail(where, f"{value} is a model with an adapter; make a vector of it with alignvec extract")
        if "@" in value:
            self.fail(where, f"{value} names a revision; download it, and give its folder")
        return value

    def weight(self, value: Any, where: str) -> float | list[float]:
        value = self.unfiltered(value, where)
        if isinstance(value, list):
            numbers = [self.typed(v, float, where) for v in value]
            return numbers[0] if len(set(numbers)) == 1 else numbers
        return self.typed(value, float, where)

    def scalar(self, settings: Mapping[str, Any], key: str, kind: type[T], default: T) -> T:
        value = self.unfiltered(settings.get(key, default), key)
        if isinstance(value, list):
            if any(v != value[0] for v in value):
                self.fail(key, "changes with depth, which a merge recipe has for weights only")
            value = value[0]
        return self.typed(value, kind, key)

    def unfiltered(self, value: Any, where: str) -> Any:
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict):
            if first.get("filter") not in (None, "*") or "value" not in first:
                self.fail(where, "depends on the tensor's name (filter), which a merge recipe cannot say")
            return self.unfiltered(first["value"], where)
        if value is None or value == []:
            self.fail(where, "has no value")
        return value

    def typed(self, value: Any, kind: type[T], where: str) -> T:
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError:
            self.fail(where, f"{value!r} is no {kind.__name__}")

    def parameters(self, value: Any, where: str) -> dict[str, Any]:
        if value is not None and not isinstance(value, dict):
            self.fail(where, "must be a mapping")
        return dict(value or {})

    def unused(self, settings: Mapping[str, Any], where: str, used: set[str], why: str = "") -> None:
        for key in settings.keys() - used:
            reason = why or "mergekit does not use it here"
            self.notes.append(f"{where}.{key}: no effect on the result ({reason})")

    def fail(self, where: str, why: str) -> NoReturn:
        raise ConfigError(f"{self.path}: {where}: {why}")


def _used(kind: _Kind, linear: bool) -> set[str]:
    if kind.method == "sum":
        return {"weight"}
    return {"weight", "density", "rescale"}
