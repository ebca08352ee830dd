"""mergekit's YAML, read with its own rules: which setting wins, what is the default, what has no effect."""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from pydantic import TypeAdapter, ValidationError

from alignvec.errors import ConfigError
from alignvec.merge.recipe import read_mapping
from alignvec.models import DTYPES

T = TypeVar("T")

DEFAULTS: Final = {
    "task_arithmetic": {"normalize": False, "rescale": False},
    "ties": {"normalize": True, "rescale": False},
    "dare_ties": {"normalize": False, "rescale": True},
    "dare_linear": {"normalize": False, "rescale": True},
    "linear": {"normalize": True, "rescale": False},
}
"""The methods that can be read, with mergekit's defaults (0.1.5)."""

_SPARSE = ("ties", "dare_ties", "dare_linear")
_TOP = ("merge_method", "base_model", "models", "parameters", "dtype", "out_dtype")


@dataclass(frozen=True)
class Input:
    """A model to merge.

    Attributes:
        model: folder or hub id.
        weight: its coefficient; a list: values at equal distances over the depth.
        density: share of values kept.
    """

    model: str
    weight: float | list[float]
    density: float


@dataclass(frozen=True)
class MergekitFile:
    """A mergekit configuration of one of the methods in `DEFAULTS`.

    Attributes:
        path: the file.
        method: mergekit's name of it.
        base: the base model; None only for `linear`.
        inputs: the other models; for `linear` the base too, if it is one.
        normalize: as in mergekit.
        rescale: as in mergekit.
        scale: mergekit's lambda.
        dtype: of the written weights; None if the file has none.
        computed: dtype that mergekit casts its inputs to; None if the file has none.
    """

    path: Path
    method: str
    base: str | None
    inputs: list[Input]
    normalize: bool
    rescale: bool
    scale: float
    dtype: str | None
    computed: str | None

    def fail(self, where: str, why: str) -> NoReturn:
        """Refuse the file for the sake of one key.

        Raises:
            ConfigError: always.
        """
        raise ConfigError(f"{self.path}: {where}: {why}")


def read_mergekit(path: Path) -> tuple[MergekitFile, list[str]]:
    """Read a mergekit configuration, with notes on the keys that are left out.

    Raises:
        ConfigError: if it is none, or has something that a merge recipe cannot say.
    """
    reader = _Reader(path, read_mapping(path))
    return reader.read(), reader.notes


class _Reader:
    def __init__(self, path: Path, config: dict[str, Any]) -> None:
        self.path, self.config = path, config
        self.notes: list[str] = []

    def read(self) -> MergekitFile:
        method = self.config.get("merge_method")
        if not isinstance(method, str) or method not in DEFAULTS:
            self.fail("merge_method", f"{method!r} has no counterpart (supported: {', '.join(DEFAULTS)})")
        self.top_level()
        shared = self.mapping(self.config.get("parameters"), "parameters")
        own = {"weight", "density"} if method in _SPARSE else {"weight"}
        used = own | {"normalize"} | ({"lambda"} if method != "linear" else set())
        self.note_unused(shared, "parameters", used | ({"rescale"} if method in _SPARSE else set()))
        base = None if self.config.get("base_model") is None else self.model(self.config["base_model"], "base_model")
        if base is None and method != "linear":
            self.fail("base_model", "is missing; the deltas are taken from it")
        return MergekitFile(
            path=self.path,
            method=method,
            base=base,
            inputs=self.inputs(shared, None if method == "linear" else base, own),
            normalize=self.constant(shared, "normalize", bool, DEFAULTS[method]["normalize"]),
            rescale=self.constant(shared, "rescale", bool, DEFAULTS[method]["rescale"]),
            scale=self.constant(shared, "lambda", float, 1.0) if "lambda" in used else 1.0,
            dtype=self.dtype("out_dtype") or self.dtype("dtype"),
            computed=self.dtype("dtype"),
        )

    def top_level(self) -> None:
        for key in ("slices", "modules"):
            if self.config.get(key):
                self.fail(key, "a merge recipe merges whole models; give them under models")
        for key, value in self.config.items():
            if key in _TOP or value in (None, "base", {"source": "base"}):
                continue
            if key in ("tokenizer", "tokenizer_source"):
                self.notes.append(f"{key}: not mapped; the base's tokenizer is kept, and no embedding row is moved")
            elif key == "chat_template":
                self.notes.append("chat_template: not mapped; the base's is kept")
            else:
                self.notes.append(f"{key}: not mapped; mergekit has no such key")

    def inputs(self, shared: Mapping[str, Any], base: str | None, used: Set[str]) -> list[Input]:
        entries = self.config.get("models")
        if not isinstance(entries, list) or not entries:
            self.fail("models", "must be a list of models")
        found: dict[str, Input] = {}
        for i, entry in enumerate(entries):
            where = f"models.{i}"
            entry = self.mapping(entry, where)
            model = self.model(entry.get("model"), f"{where}.model")
            own = self.mapping(entry.get("parameters"), f"{where}.parameters")
            self.note_unused(entry, where, {"model", "parameters"})
            self.note_unused(own, f"{where}.parameters", set() if model == base else used)
            if model == base:
                continue
            if model in found:
                self.fail(f"{where}.model", f"{model} comes twice; give it once")
            settings = {**shared, **own}
            density = self.constant(settings, "density", float, 1.0, where) if "density" in used else 1.0
            found[model] = Input(model, self.weight(settings.get("weight"), f"{where}.parameters.weight"), density)
        return list(found.values())

    def weight(self, value: Any, where: str) -> float | list[float]:
        value = self.unfiltered(value, where)
        if not isinstance(value, list):
            return self.typed(value, float, where)
        numbers = [self.typed(v, float, where) for v in value]
        return numbers[0] if len(set(numbers)) == 1 else numbers

    def constant(self, settings: Mapping[str, Any], key: str, kind: type[T], default: T, owner: str = "") -> T:
        where = f"{owner}.parameters.{key}".lstrip(".")
        value = self.unfiltered(settings.get(key, default), where)
        if isinstance(value, list) and any(v != value[0] for v in value):
            self.fail(where, "changes with depth, which a merge recipe has for weights only")
        return self.typed(value[0] if isinstance(value, list) else value, kind, where)

    def unfiltered(self, value: Any, where: str) -> Any:
        first = value[0] if isinstance(value, list) and value else value
        if isinstance(first, dict):
            if first.get("filter") not in (None, "*"):
                self.fail(where, f"a merge recipe has no filter by tensor name ({first['filter']!r})")
            return self.unfiltered(first.get("value"), where)
        if value is None or value == []:
            self.fail(where, "is missing")
        return value

    def typed(self, value: Any, kind: type[T], where: str) -> T:
        try:
            return TypeAdapter(kind).validate_python(value)
        except ValidationError:
            self.fail(where, f"{value!r} is no {kind.__name__}")

    def dtype(self, key: str) -> str | None:
        if self.config.get(key) is None:
            return None
        name = str(self.config[key]).removeprefix("torch.")
        if name not in DTYPES:
            self.fail(key, f"{name} is none of {', '.join(DTYPES)}")
        return name

    def model(self, value: Any, where: str) -> str:
        if not isinstance(value, str) or not value:
            self.fail(where, f"cannot read {value!r}; give a folder or a hub id")
        if Path(value).expanduser().is_dir():
            return str(Path(value).expanduser().resolve())
        if "+" in value:
            self.fail(where, f"{value} is a model with an adapter; make a vector of it with alignvec extract")
        if "@" in value:
            self.fail(where, f"{value} names a revision; download it and give its folder")
        return value

    def mapping(self, value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict | None):
            self.fail(where, "must be a mapping")
        return value or {}

    def note_unused(self, settings: Mapping[str, Any], where: str, used: Set[str]) -> None:
        self.notes += [
            f"{where}.{key}: left out; it has no effect on the result" for key in settings if key not in used
        ]

    def fail(self, where: str, why: str) -> NoReturn:
        raise ConfigError(f"{self.path}: {where}: {why}")
